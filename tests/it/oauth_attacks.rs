//! SECURITY's table for OAuth: replays, other browsers, redirect variants, PKCE, two providers that are mixed up. None is
//! accepted, and no code reaches a provider that it is not for.

use reqwest::Method;
use serde_json::json;

use crate::support::fake_provider::{CODE, Fake, SECRET, Way, belongs};
use crate::support::person::Person;
use crate::support::{Answer, Client, Server};

fn refused(answer: &Answer) {
    assert_eq!(answer.status, 400, "{}: {}", answer.asked, answer.text);
    assert_eq!(answer.body["code"], "OAUTH2_ERROR", "{}", answer.text);
    assert!(!answer.text.contains("canary"), "{}", answer.text);
}

async fn call(client: &Client, path: &str) -> Answer {
    client.send(Method::GET, path, None).await
}

#[tokio::test(flavor = "multi_thread")]
async fn states_codes_and_browsers_that_are_not_the_ones() {
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let fake = Fake::start(false).await;
    let connection = fake.connection(&maria.client, fake.by_endpoints()).await;
    let (one, other) = (Way::begin(&maria.client, &connection).await, Way::begin(&maria.client, &connection).await);
    let guest = server.anonymous();
    let with = |way: &Way| guest.header("cookie", &way.cookie);

    // States: none, garbage, one character changed, twice, another authorization's browser, none.
    let mut changed = one.state.clone();
    let last = changed.pop().unwrap();
    changed.push(if last == '0' { '1' } else { '0' });
    let mut inner = one.state.clone();
    inner.replace_range(40..41, if &one.state[40..41] == "0" { "1" } else { "0" });
    for state in ["", "x", &changed, &inner, &format!("{}&state={}", one.state, one.state), &one.state[..60], "st_"] {
        refused(&call(&with(&one), &format!("{}?state={state}&code={CODE}", one.path)).await);
    }
    refused(&call(&with(&one), &format!("{}?code={CODE}", one.path)).await);
    refused(&call(&guest, &format!("{}?state={}&code={CODE}", one.path, one.state)).await);
    let swapped = other.cookie.replace(other.cookie.split('=').next().unwrap(), one.cookie.split('=').next().unwrap());
    refused(&call(&guest.header("cookie", &swapped), &format!("{}?state={}&code={CODE}", one.path, one.state)).await);
    refused(&call(&with(&other), &format!("{}?state={}&code={CODE}", one.path, one.state)).await);

    // Other addresses than the one that was asked for.
    for path in ["/oauth/callback", "/oauth/callback/github", &format!("{}x", one.path), &format!("{}%2f", one.path)] {
        let answer = call(&with(&one), &format!("{path}?state={}&code={CODE}", one.state)).await;
        refused(&answer);
    }
    let alias = format!("/api{}?state={}&code={CODE}", one.path, one.state);
    refused(&with(&one).send_raw(Method::GET, &alias, None).await);
    assert_eq!(fake.stub.seen_at("POST /token").len(), 0, "no code has left");

    // The right one, once. PKCE's verifier is the challenge's, and S256.
    assert_eq!(one.authorization["code_challenge_method"], "S256");
    one.back(&server, "").await.data(200);
    assert!(belongs(&fake.book().verifier, &one.challenge));
    refused(&one.back(&server, "").await);
    // The same code with another state is the provider's to refuse; the state that was used is not good for another code.
    refused(&call(&with(&one), &format!("{}?state={}&code=another", one.path, one.state)).await);
    assert_eq!(fake.stub.seen_at("POST /token").len(), 1);

    // Many at once with one state: one code is exchanged.
    let answers = futures::future::join_all((0..20).map(|_| other.back(&server, ""))).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1);
    assert_eq!(fake.stub.seen_at("POST /token").len(), 2);

    // An ID token of another authorization.
    let oidc = json!({ "connectionId": connection, "scopes": ["openid", "read"] });
    let way = Way::of(&maria.client.post("/oauth/authorize", oidc).await);
    assert!(way.authorization["nonce"].len() >= 32);
    let claims = "eyJub25jZSI6Im9mIGFub3RoZXIgb25lIiwiYXVkIjoiYXBpcSJ9";
    let reply = json!({ "access_token": "canary-of-a-replay", "id_token": format!("e30.{claims}.x") });
    fake.stub.script("POST /token", [crate::support::Reply::json(200, &reply)]);
    let answer = way.back(&server, "").await;
    refused(&answer);
    assert!(answer.text.contains("nonce"), "{}", answer.text);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_links_and_secrets_in_urls() {
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let client = &maria.client;
    let fake = Fake::start(false).await;
    let connection = fake.connection(client, fake.by_endpoints()).await;
    let own = format!("{}/api/v1/oauth/callback/{}", server.url(), fake.key());
    let common = format!("{}/api/v1/oauth/callback", server.url());
    let good = json!({ "connectionId": connection, "redirectUri": own });
    client.post("/oauth/authorize", good).await.data(200);
    for variant in [
        common.clone(),
        format!("{own}/"),
        format!("{own}?x=1"),
        format!("{own}#x"),
        format!("{own}/../github"),
        own.replace("http://", "https://"),
        own.replace("127.0.0.1", "127.0.0.1.evil.test"),
        own.replace("127.0.0.1", "localhost"),
        own.replace("http://", "http://evil.test@"),
        own.to_uppercase(),
        format!("{common}/github"),
        "https://evil.test/callback".into(),
        "javascript:alert(1)".into(),
    ] {
        let body = json!({ "connectionId": connection, "redirectUri": variant });
        client.post("/oauth/authorize", body).await.names(&["redirectUri"]);
    }

    // A secret in a URL is refused and not repeated; the stored client is redirected.
    let query = format!("/oauth/authorize?connectionId={connection}&clientSecret={SECRET}");
    let answer = call(client, &query).await;
    answer.names(&["clientSecret"]);
    assert!(!answer.text.contains("canary"), "{}", answer.text);
    let answer = call(client, &format!("/oauth/authorize?connectionId={connection}&scopes=read")).await;
    assert_eq!(answer.status, 302, "{}", answer.text);
    let to = answer.header("location").unwrap();
    assert!(to.starts_with(&format!("{}/authorize?", fake.url())) && to.contains("code_challenge="), "{to}");
    assert!(!to.contains("canary"), "{to}");

    // A link binds the browser that opens it first, and no other one; what was given before is void.
    let begun = client.post("/oauth/authorize", json!({ "connectionId": connection })).await;
    let before = Way::of(&begun);
    let link = begun.data(200)["connectUrl"].as_str().unwrap().to_owned();
    let path = link.split("/api/v1").nth(1).unwrap().to_owned();
    let guest = server.anonymous();
    // Looking at it changes nothing: whoever opens it is told whose it is first.
    let mut person = Person::default();
    for _ in 0..2 {
        let page = person.get(&link).await;
        assert_eq!(page.status, 200, "{}", page.text);
        let policy = page.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.contains("default-src 'none'") && policy.contains("form-action 'self'"), "{policy}");
        let host = fake.url().trim_start_matches("http://");
        for told in ["fake", host, "read", "maria", "Workspace"] {
            assert!(page.text.contains(told), "{told}: {}", page.text);
        }
        let set = page.headers["set-cookie"].to_str().unwrap();
        assert!(set.contains("HttpOnly") && set.contains("SameSite=Strict"), "{set}");
    }
    // A form of another site: without the page's cookie, with another's token, as browsers mark it.
    let page = person.get(&link).await;
    let url = link.split('?').next().unwrap().to_owned();
    let secret = link.split("link=").nth(1).unwrap();
    let mut stranger = Person::default();
    for form in [format!("link={secret}"), format!("link={secret}&token="), format!("link={secret}&token=00")] {
        for browser in [&mut stranger, &mut person] {
            let answer = browser.ask(Method::POST, &url, Some(&form)).await;
            assert_eq!((answer.status, answer.next()), (400, None), "{}", answer.text);
        }
    }
    assert_eq!(stranger.go_on(&page).await.status, 400, "another browser's page");
    let opened = person.go_on(&page).await;
    let next = opened.next().unwrap();
    assert!(next.starts_with(&format!("{}/authorize?", fake.url())), "{next}");
    assert_eq!(person.go_on(&page).await.status, 400, "it is good once");
    refused(&call(&guest, &path).await);
    refused(&before.back(&server, "").await);
    refused(&call(&guest, &format!("{}0", &path[..path.len() - 1])).await);

    // Provider URLs that lead inside, or nowhere.
    let mut config = fake.by_endpoints();
    for bad in ["http://169.254.169.254/token", "http://[fd00:ec2::254]/t", "file:///etc/passwd", "http://u:p@x.test/"]
    {
        config["tokenUrl"] = json!(bad);
        let body = json!({ "name": "bad", "baseUrl": fake.url(), "authType": "oauth2", "authConfig": config });
        client.post("/connections", body).await.names(&["authConfig.tokenUrl"]);
    }
    config["tokenUrl"] = json!("http://example.com/token");
    let plain = fake.connection(client, config).await;
    let answer = client.post("/oauth/authorize", json!({ "connectionId": plain })).await;
    refused(&answer);
    assert!(answer.text.contains("https"), "{}", answer.text);
    assert_eq!(fake.stub.seen_at("POST /token").len(), 0);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_providers_are_not_mixed_up() {
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let client = &maria.client;
    // `evil` sends the person on to `honest`, and wants to be shown the code of it.
    let (evil, honest, silent) = (Fake::start(false).await, Fake::start(true).await, Fake::start(false).await);
    let at_evil = evil.connection(client, evil.by_endpoints()).await;
    let at_honest = honest.connection(client, honest.by_issuer()).await;
    let at_silent = silent.connection(client, silent.by_endpoints()).await;

    // The honest one says who it is.
    let way = Way::begin(client, &at_evil).await;
    refused(&way.back(&server, &format!("&iss={}", honest.url())).await);
    // A silent one sends people to its own address.
    let (way, own) = (Way::begin(client, &at_evil).await, Way::begin(client, &at_silent).await);
    let mixed = format!("{}?state={}&code={CODE}", own.path, way.state);
    refused(&call(&server.anonymous().header("cookie", &way.cookie), &mixed).await);
    // Who promised to say who it is, must; and must be it.
    for said in ["", "&iss=", &format!("&iss={}", evil.url()), &format!("&iss={}/", honest.url())] {
        let way = Way::begin(client, &at_honest).await;
        refused(&way.back(&server, said).await);
    }
    for fake in [&evil, &honest, &silent] {
        assert_eq!(fake.stub.seen_at("POST /token").len(), 0, "no code has left");
    }
    let way = Way::begin(client, &at_honest).await;
    way.back(&server, &format!("&iss={}", honest.url())).await.data(200);
    // The common address serves those who say who they are.
    let common = format!("{}/api/v1/oauth/callback", server.url());
    let body = json!({ "connectionId": at_honest, "redirectUri": common });
    let way = Way::of(&client.post("/oauth/authorize", body).await);
    way.back(&server, &format!("&iss={}", honest.url())).await.data(200);

    // A provider that knows `plain` only is not used.
    let metadata = json!({
        "issuer": silent.url(), "authorization_endpoint": format!("{}/a", silent.url()),
        "token_endpoint": format!("{}/token", silent.url()), "code_challenge_methods_supported": ["plain"],
    });
    silent.stub.script("GET /.well-known/openid-configuration", [crate::support::Reply::json(200, &metadata)]);
    let weak = silent.connection(client, silent.by_issuer()).await;
    let answer = client.post("/oauth/authorize", json!({ "connectionId": weak })).await;
    assert!([400, 502].contains(&answer.status), "{}", answer.text);
    server.finish().await;
}
