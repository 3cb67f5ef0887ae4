//! Renewal over nodes, providers that misbehave, nodes that die, and what is to be found afterwards by whoever searches.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::audit::{dump, forms, search};
use crate::startup::second_node;
use crate::support::fake_provider::{CODE, Fake, SECRET, Way, access, refresh};
use crate::support::{Account, Client, Reply, Server, until};

const SOON: Duration = Duration::from_secs(30);

async fn connected(server: &Server, maria: &Account, fake: &Fake) -> String {
    let connection = fake.connection(&maria.client, fake.by_endpoints()).await;
    Way::begin(&maria.client, &connection).await.back(server, "").await.data(200);
    connection
}

async fn shown(client: &Client, connection: &str) -> Value {
    client.get(&format!("/connections/{connection}")).await.data(200)
}

async fn calling(client: &Client, connection: &str) -> String {
    let step =
        json!({ "id": "me", "type": "api_call", "connectionId": connection, "method": "GET", "endpoint": "/api/me" });
    client.workflow(json!({ "name": "call", "steps": [step] })).await
}

async fn events(server: &Server, event_type: &str) -> i64 {
    let count = "select count(*) from log.events where event_type = $1";
    sqlx::query_scalar(count).bind(event_type).fetch_one(&mut server.database().await).await.unwrap()
}

/// Two nodes with the same settings, as behind a load balancer.
async fn two_nodes(server: &Server) -> (crate::support::keeper::Keeper, Client) {
    let settings =
        [("APIQ_EGRESS_ALLOW", "loopback"), ("APIQ_ROLES", "api,executor"), ("APIQ_PUBLIC_URL", server.url())];
    second_node(server, &settings).await
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_uses_on_two_nodes_are_one_renewal() {
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let fake = Fake::start(false).await;
    let (_keeper, second) = two_nodes(&server).await;
    let nodes = [maria.client.clone(), second.bearer(&maria.access)];

    // It ends just now, and everybody needs it.
    {
        let mut book = fake.book();
        (book.expires_in, book.pace) = (Some(3), Duration::from_secs(1));
    }
    let connection = connected(&server, &maria, &fake).await;
    fake.book().expires_in = Some(3600);
    let path = format!("/oauth/token?connectionId={connection}");
    let ends = shown(&nodes[0], &connection).await["oauth"]["expiresAt"].as_str().unwrap().to_owned();
    until("it has ended, or somebody is at it", SOON, async || {
        let now: String =
            sqlx::query_scalar("select to_char(now() at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')")
                .fetch_one(&mut server.database().await)
                .await
                .unwrap();
        (now >= ends || fake.refreshes() > 0).then_some(())
    })
    .await;
    let asked = (0..50).map(|n| nodes[n % 2].get(&path));
    for answer in futures::future::join_all(asked).await {
        assert_eq!(answer.data(200)["accessToken"], json!(access(2)), "{}", answer.text);
    }
    assert_eq!(fake.refreshes(), 1);

    // It is refused by the API: fifty executions, one renewal, each call once more.
    fake.book().refused = 2;
    let workflow = calling(&nodes[0], &connection).await;
    let runs = (0..50).map(|n| {
        let client = &nodes[n % 2];
        let workflow = workflow.clone();
        async move { client.execute(&workflow, json!({})).await }
    });
    for execution in futures::future::join_all(runs).await {
        assert_eq!(execution["status"], "completed", "{execution}");
    }
    assert_eq!(fake.refreshes(), 2);

    // Fifty people ask.
    let body = json!({ "connectionId": connection });
    let asked = (0..50).map(|n| nodes[n % 2].post("/oauth/refresh", body.clone()));
    for answer in futures::future::join_all(asked).await {
        answer.data(200);
    }
    assert!((2..=3).contains(&fake.refreshes()), "{}", fake.refreshes());
    let before = fake.refreshes();
    until("it is renewed once more", SOON, async || {
        nodes[0].post("/oauth/refresh", body.clone()).await.data(200);
        (fake.refreshes() == before + 1).then_some(())
    })
    .await;
    assert_eq!(events(&server, "connection.oauth_refreshed").await, fake.refreshes() as i64);

    // The provider takes it back: fifty uses, one event.
    fake.book().issued += 1;
    let asked = (0..50).map(|n| nodes[n % 2].execute(&workflow, json!({})));
    for execution in futures::future::join_all(asked).await {
        assert_eq!(execution["status"], "failed", "{execution}");
    }
    until("somebody has noticed", SOON, async || {
        (shown(&nodes[0], &connection).await["oauth"]["status"] == "lost").then_some(())
    })
    .await;
    assert_eq!(events(&server, "connection.oauth_grant_expired").await, 1);
    assert_eq!(shown(&nodes[0], &connection).await["health"], "credential_expired");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn providers_that_misbehave_are_named() {
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let client = &maria.client;
    let fake = Fake::start(false).await;
    let html = || Reply::of(200, "text/html", "<html>log in first</html>");
    let not_ok = || Reply::json(200, &json!({ "ok": false, "error": "invalid_client_id" }));
    let error =
        || Reply::json(200, &json!({ "error": "bad_verification_code", "error_description": format!("no {CODE}") }));
    let bad = || {
        [
            (html(), "a web page"),
            (Reply::of(200, "application/json", ""), "with nothing"),
            (not_ok(), "invalid_client_id"),
            (error(), "bad_verification_code"),
            (Reply::json(200, &json!({ "token_type": "Bearer" })), "without an access token"),
            (Reply::of(500, "text/plain", "oops"), "500"),
            (Reply::of(302, "text/plain", "").with("location", "/elsewhere"), "redirect"),
            (Reply::Close, "cannot be asked"),
            (Reply::Cut, "cannot be asked"),
        ]
    };
    let connection = fake.connection(client, fake.by_endpoints()).await;
    for (reply, words) in bad() {
        let way = Way::begin(client, &connection).await;
        fake.stub.script("POST /token", [reply]);
        let answer = way.back(&server, "").await;
        assert_eq!(answer.status, 400, "{words}: {}", answer.text);
        assert!(answer.text.contains(words) && !answer.text.contains("canary"), "{words}: {}", answer.text);
    }
    let way = Way::begin(client, &connection).await;
    let guest = server.anonymous().header("cookie", &way.cookie);
    let declined = guest.get(&format!("{}?state={}&error=access_denied", way.path, way.state)).await;
    assert!(declined.refused(400, "OAUTH2_ERROR")["error"].as_str().unwrap().contains("declined"), "{}", declined.text);
    assert_eq!(shown(client, &connection).await["oauth"]["status"], "not_connected");

    // A token without an end is used until it is refused; what is wrong with a renewal is said, and the grant stays.
    let body = json!({ "connectionId": connection });
    Way::begin(client, &connection).await.back(&server, "").await.data(200);
    assert!(shown(client, &connection).await["oauth"].get("expiresAt").is_none());
    for (reply, words) in bad() {
        fake.stub.script("POST /token", [reply]);
        let answer = client.post("/oauth/refresh", body.clone()).await;
        assert!([400, 502].contains(&answer.status), "{}", answer.text);
        assert!(answer.text.contains(words) && !answer.text.contains("canary"), "{words}: {}", answer.text);
        assert_eq!(shown(client, &connection).await["oauth"]["status"], "connected", "{words}");
    }
    client.post("/oauth/refresh", body.clone()).await.data(200);
    let workflow = calling(client, &connection).await;
    assert_eq!(client.execute(&workflow, json!({})).await["status"], "completed");

    // A revocation that the provider does not hear changes nothing, unless a person wants it.
    fake.stub.script("POST /revoke", [Reply::of(503, "text/plain", "later"), Reply::Close]);
    client.post("/oauth/revoke", body.clone()).await.refused(502, "INTEGRATION_ERROR");
    assert_eq!(shown(client, &connection).await["oauth"]["status"], "connected");
    let forced = client.post("/oauth/revoke", json!({ "connectionId": connection, "force": true })).await.data(200);
    assert_eq!((&forced["revokedAtProvider"], forced["note"].is_string()), (&json!(false), true), "{forced}");
    assert_eq!(shown(client, &connection).await["oauth"]["status"], "not_connected");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_dies_before_it_stores_leaves_a_clear_state() {
    let mut server = Server::start().await;
    let maria = server.account("maria").await;
    let client = maria.client.clone();
    let fake = Fake::start(false).await;
    let connection = connected(&server, &maria, &fake).await;
    // The provider rotates the refresh token, and its answer is under way when the node dies.
    fake.book().pace = Duration::from_secs(8);
    let (asking, body) = (client.clone(), json!({ "connectionId": connection }));
    let asked = tokio::spawn(async move { asking.try_post("/oauth/refresh", body).await });
    until("the provider was asked", SOON, async || (fake.refreshes() == 1).then_some(())).await;
    server.kill().await;
    drop(asked.await);
    server.launch().await;
    let client = server.anonymous().bearer(&maria.access);
    assert_eq!(events(&server, "connection.oauth_refresh_started").await, 1);
    assert_eq!(events(&server, "connection.oauth_refreshed").await, 0);
    fake.book().pace = Duration::ZERO;
    // When the lease is over the next one tries, is told that the refresh token is used up, and says why.
    let body = json!({ "connectionId": connection });
    let answer = client.post("/oauth/refresh", body).await;
    let sentence = answer.refused(400, "OAUTH2_ERROR")["error"].as_str().unwrap().to_owned();
    assert!(sentence.contains("interrupted") && sentence.contains("connect it again"), "{sentence}");
    assert_eq!(shown(&client, &connection).await["oauth"]["status"], "lost");
    assert_eq!(events(&server, "connection.oauth_grant_expired").await, 1);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_token_is_found_by_whoever_searches() {
    let server = Server::start_with(&[("APIQ_LOG", "debug")]).await;
    let maria = server.account("maria").await;
    let client = &maria.client;
    let fake = Fake::start(false).await;
    let connection = connected(&server, &maria, &fake).await;
    let workflow = calling(client, &connection).await;
    client.execute(&workflow, json!({})).await;
    fake.book().refused = 1;
    assert_eq!(client.execute(&workflow, json!({})).await["status"], "completed");
    let body = json!({ "connectionId": connection });
    client.post(&format!("/connections/{connection}/test"), json!({})).await;
    client.post("/oauth/refresh", body.clone()).await;
    let echo = json!({ "error": "invalid_request", "error_description": format!("{} {SECRET} {CODE}", refresh(2)) });
    let way = Way::begin(client, &connection).await;
    let mut told = Vec::new();
    fake.stub.script("POST /token", [Reply::json(400, &echo)]);
    told.push(way.back(&server, "").await.text);
    for path in ["/connections", "/credentials", "/secrets", "/executions", "/logs?limit=100", "/oauth/providers"] {
        told.push(client.get(path).await.text);
    }
    let opened = client.post("/oauth/authorize", body.clone()).await;
    let link = opened.data(200)["connectUrl"].as_str().unwrap().split("link=").nth(1).unwrap().to_owned();
    let verifier = fake.book().verifier.clone();
    client.post("/oauth/revoke", body).await.data(200);
    server.assert_settled().await;

    let secrets = [SECRET, CODE, &access(1), &access(2), &refresh(1), &refresh(2), &way.state, &link];
    let mut patterns: Vec<Vec<u8>> = secrets.iter().flat_map(|secret| forms(secret)).collect();
    if !verifier.is_empty() {
        patterns.extend(forms(&verifier));
    }
    let cookie = way.cookie.split('=').nth(1).unwrap();
    patterns.extend(forms(cookie));
    sqlx::raw_sql("checkpoint").execute(&mut server.database().await).await.unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let found_in = scratch.path().join("stored");
    std::fs::create_dir_all(&found_in).unwrap();
    std::fs::write(found_in.join("dump"), dump(&mut server.database().await).await).unwrap();
    std::fs::write(found_in.join("output"), server.output()).unwrap();
    std::fs::write(found_in.join("told"), told.join("\n")).unwrap();
    let (data, postgres) = (server.data(), server.postgres_home());
    let places: [&Path; 3] = [&data, &postgres, &found_in];
    assert!(!search(&places, &[b"connection.oauth_granted".to_vec()], scratch.path()).is_empty(), "the search works");
    let found = search(&places, &patterns, scratch.path());
    assert!(found.is_empty(), "{} finds:\n{}", found.len(), found.join("\n"));
    server.finish().await;
}
