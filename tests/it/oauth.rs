//! OAuth 2.0 for connections, with a real authorization server: through it and back, calls, renewal, revocation.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::client::{http, id};
use crate::support::oidc::Oidc;
use crate::support::person::Person;
use crate::support::{Account, Client, Server, until};

/// A server, a provider that knows it, and a connection that is to be authorized there.
struct Scene {
    server: Server,
    maria: Account,
    oidc: Oidc,
    connection: String,
}

async fn scene(ttl: u64) -> Option<Scene> {
    let server = Server::start().await;
    let port = Oidc::port();
    let redirect = format!("{}/api/v1/oauth/callback/at-127.0.0.1-{port}", server.url());
    let common = format!("{}/api/v1/oauth/callback", server.url());
    let Some(oidc) = Oidc::start(port, &[redirect, common], ttl).await else {
        server.finish().await;
        return None;
    };
    let maria = server.account("maria").await;
    let connection = maria.client.post("/connections", connection(&oidc)).await;
    assert!(!connection.text.contains("canary"), "{}", connection.text);
    let connection = id(&connection.data(201)).to_owned();
    Some(Scene { server, maria, oidc, connection })
}

fn connection(oidc: &Oidc) -> Value {
    json!({
        "name": "Accounts <b>", "baseUrl": oidc.url, "authType": "oauth2",
        "authConfig": {
            "issuer": oidc.url, "clientId": "apiq", "clientSecret": "canary-client-secret-1",
            "scopes": ["openid", "offline_access", "read"],
        },
    })
}

impl Scene {
    fn client(&self) -> &Client {
        &self.maria.client
    }

    async fn begin(&self) -> Value {
        self.client().post("/oauth/authorize", json!({ "connectionId": self.connection })).await.data(200)
    }

    fn callback(&self) -> String {
        format!("{}/api/v1/oauth/callback", self.server.url())
    }

    /// Through the provider by the one link, and back.
    async fn connect(&self, person: &mut Person) {
        let begun = self.begin().await;
        let back = person.agree(begun["connectUrl"].as_str().unwrap(), &self.callback()).await;
        let page = person.get(&back).await;
        assert_eq!(page.status, 200, "{}", page.text);
    }

    async fn shown(&self) -> Value {
        self.client().get(&format!("/connections/{}", self.connection)).await.data(200)
    }

    async fn workflow(&self) -> String {
        let step = json!({
            "id": "me", "type": "api_call", "connectionId": self.connection, "method": "GET", "endpoint": "/api/me",
        });
        self.client().workflow(json!({ "name": "who am I", "steps": [step] })).await
    }

    async fn events(&self, event_type: &str) -> i64 {
        let mut database = self.server.database().await;
        let count = "select count(*) from log.events where event_type = $1";
        sqlx::query_scalar(count).bind(event_type).fetch_one(&mut database).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_link_leads_through_a_real_provider_and_calls_use_its_token() {
    let Some(scene) = scene(3600).await else { return };
    let client = scene.client();
    assert_eq!(scene.shown().await["oauth"]["status"], "not_connected");
    let workflow = scene.workflow().await;
    let early = client.execute(&workflow, json!({})).await;
    assert_eq!(early["steps"][0]["error"]["code"], "OAUTH_NOT_CONNECTED", "{early}");

    let begun = scene.begin().await;
    assert_eq!(
        begun["redirectUri"].as_str().unwrap().split("/callback/").nth(1).unwrap().split('-').next(),
        Some("at")
    );
    let mut person = Person::default();
    let back = person.agree(begun["connectUrl"].as_str().unwrap(), &scene.callback()).await;
    assert!(back.contains("iss=") && back.contains("code="), "{back}");
    let page = person.get(&back).await;
    assert_eq!(page.status, 200, "{}", page.text);
    assert!(page.text.contains("Accounts &lt;b&gt;") && page.text.contains("offline_access"), "{}", page.text);
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("form-action 'none'"), "{policy}");

    // It is good once, also in the same browser.
    let again = person.get(&back).await;
    assert_eq!(again.status, 400, "{}", again.text);
    let shown = scene.shown().await;
    assert_eq!((&shown["oauth"]["status"], &shown["oauth"]["refreshable"]), (&json!("connected"), &json!(true)));

    let execution = client.execute(&workflow, json!({})).await;
    assert_eq!(execution["status"], "completed", "{execution}");
    assert_eq!(execution["steps"][0]["output"]["sub"], "maria", "{execution}");
    let test = client.post(&format!("/connections/{}/test", scene.connection), json!({})).await.data(200);
    assert_eq!(test["httpStatus"].as_u64().map(|status| status < 500), Some(true), "{test}");

    // The token itself: for owners and admins, and each time in the log.
    let path = format!("/oauth/token?connectionId={}", scene.connection);
    let reads = scene.events("credential.read").await;
    let token = client.get(&path).await.data(200)["accessToken"].as_str().unwrap().to_owned();
    assert_eq!(scene.events("credential.read").await, reads + 1);
    let answer = http().get(format!("{}/api/me", scene.oidc.url)).bearer_auth(&token).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    scene.maria.with_role("manager").await.get(&path).await.refused(403, "FORBIDDEN");

    // Renewed when asked, and the old token's version is not used any more.
    let body = json!({ "connectionId": scene.connection });
    let renewed = client.post("/oauth/refresh", body.clone()).await.data(200);
    assert_eq!(renewed["renewed"], true, "{renewed}");
    assert_ne!(client.get(&path).await.data(200)["accessToken"], json!(token));

    // Given back: the provider knows, and nothing is left here.
    let revoked = client.post("/oauth/revoke", body.clone()).await.data(200);
    assert_eq!(revoked["revokedAtProvider"], true, "{revoked}");
    let answer = http().get(format!("{}/api/me", scene.oidc.url)).bearer_auth(&token).send().await.unwrap();
    assert_eq!(answer.status(), 401);
    client.post("/oauth/revoke", body).await.refused(409, "CONFLICT");
    let late = client.execute(&workflow, json!({})).await;
    assert_eq!(late["steps"][0]["error"]["code"], "OAUTH_NOT_CONNECTED", "{late}");
    let mut database = scene.server.database().await;
    let left: i64 = sqlx::query_scalar("select count(*) from vault.credential_values where destroyed_at is null")
        .fetch_one(&mut database)
        .await
        .unwrap();
    assert_eq!(left, 1, "the client's secret alone");
    scene.server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_renewed_before_they_end_and_when_they_are_refused() {
    let Some(scene) = scene(6).await else { return };
    let mut person = Person::default();
    scene.connect(&mut person).await;
    let workflow = scene.workflow().await;
    // The keeper: nobody asks.
    until("the keeper renews it twice", Duration::from_secs(40), async || {
        (scene.oidc.stats().await["refreshes"].as_u64().unwrap() >= 2).then_some(())
    })
    .await;
    let execution = scene.client().execute(&workflow, json!({})).await;
    assert_eq!(execution["status"], "completed", "{execution}");

    // The grant is taken back at the provider: one event, a next step, and no further try.
    scene.oidc.end_grants().await;
    until("the connection is lost", Duration::from_secs(30), async || {
        (scene.shown().await["oauth"]["status"] == "lost").then_some(())
    })
    .await;
    let shown = scene.shown().await;
    assert_eq!(shown["health"], "credential_expired", "{shown}");
    assert!(shown["oauth"]["reason"].as_str().unwrap().contains("POST /api/v1/oauth/authorize"), "{shown}");
    for _ in 0..3 {
        let execution = scene.client().execute(&workflow, json!({})).await;
        assert_eq!(execution["steps"][0]["error"]["code"], "OAUTH_GRANT_LOST", "{execution}");
    }
    assert_eq!(scene.events("connection.oauth_grant_expired").await, 1);

    // Connected again, it is well again.
    scene.connect(&mut person).await;
    let shown = scene.shown().await;
    assert_eq!((&shown["oauth"]["status"], &shown["health"]), (&json!("connected"), &json!("healthy")), "{shown}");
    assert_eq!(scene.client().execute(&workflow, json!({})).await["status"], "completed");
    scene.server.finish().await;
}
