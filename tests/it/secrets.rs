//! Secrets' lives from outside: names, versions, expiry, deletion and what can be taken back, who used what where.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::support::client::id;
use crate::support::{Account, Client, Ledger, Server, until};

const SOON: Duration = Duration::from_secs(30);

/// A connection with a bearer token, a workflow that calls it, and the token's secret.
struct Calling {
    ledger: Ledger,
    connection: String,
    workflow: String,
    /// `/secrets/{id}`
    secret: String,
}

async fn calling(maria: &Account, token: &str) -> Calling {
    let ledger = Ledger::start(Duration::ZERO).await;
    let mut body = ledger.connection("ledger");
    body["authType"] = json!("bearer");
    body["authConfig"] = json!({ "token": token });
    let connection = maria.client.connect(body).await;
    let step =
        json!({ "id": "fetch", "type": "api_call", "connectionId": id(&connection), "operationId": "listItems" });
    let workflow = maria.client.workflow(json!({ "name": "fetch", "steps": [step] })).await;
    let secret = connection["credentialId"].as_str().unwrap().replacen("cred_", "/secrets/secret_", 1);
    Calling { ledger, connection: id(&connection).to_owned(), workflow, secret }
}

impl Calling {
    fn tokens(&self) -> Vec<String> {
        let seen = self.ledger.stub.seen_at("GET /items");
        seen.iter().map(|seen| seen.header("authorization").unwrap_or_default().replace("Bearer ", "")).collect()
    }
}

async fn error_of(client: &Client, workflow: &str) -> Value {
    client.execute(workflow, json!({})).await["steps"][0]["error"]["code"].clone()
}

#[expect(clippy::disallowed_methods, reason = "a test tells the service a time of its own")]
fn within(delta: TimeDelta) -> String {
    (Utc::now() + delta).to_rfc3339()
}

/// The actions of a kind in the log, first to last, with their data.
async fn told(client: &Client, action: &str) -> Vec<(String, Value)> {
    let logs = client.get(&format!("/logs?action={action}&limit=100")).await.data(200);
    let of = |entry: &Value| (entry["action"].as_str().unwrap().to_owned(), entry["data"].clone());
    logs["logs"].as_array().unwrap().iter().rev().map(of).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn names_values_and_expiries_are_checked_at_once() {
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let secrets = async |body: Value| maria.client.post("/secrets", body).await;
    let past = within(TimeDelta::days(-1));
    for name in ["a\u{1}b", "a\nb", "a\u{7f}", "\u{202e}evil", "a\u{200b}b", " a", "  "] {
        secrets(json!({ "name": name, "value": "x" })).await.names(&["name"]);
    }
    let all = json!({ "name": "a\tb", "value": "no\nheader", "type": "bearer", "expiresAt": past });
    secrets(all).await.names(&["name", "value", "expiresAt"]);
    secrets(json!({ "name": "x", "value": "y", "expiresAt": "soon" })).await.names(&["expiresAt"]);
    let made =
        secrets(json!({ "name": "Schlüssel – 1", "value": "x", "expiresAt": within(TimeDelta::days(30)) })).await;
    let made = made.data(201);
    assert_eq!((&made["status"], &made["isActive"]), (&json!("active"), &json!(true)), "{made}");
    let path = format!("/secrets/{}", id(&made));
    maria.client.put(&path, json!({})).await.names(&["value"]);
    maria.client.put(&path, json!({ "expiresAt": past })).await.names(&["expiresAt"]);
    let both = json!({ "expiresAt": within(TimeDelta::days(3)), "neverExpires": true });
    maria.client.put(&path, both).await.names(&["neverExpires"]);
    let never = maria.client.put(&path, json!({ "neverExpires": true })).await.data(200);
    assert!(never.get("expiresAt").is_none() && never["version"] == 1, "{never}");
    // A connection's name may be anything; its credential's is made sound.
    let odd = json!({ "name": format!("{}\u{202e}", "n".repeat(195)), "baseUrl": "http://127.0.0.1:9",
        "authType": "bearer", "authConfig": { "token": "x" } });
    maria.client.post("/connections", odd).await.data(201);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_are_listed_and_old_ones_destroyed() {
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let client = &maria.client;
    let calling = calling(&maria, "first-canary").await;
    client.execute(&calling.workflow, json!({})).await;
    let put = client.put(&calling.secret, json!({ "value": "second-canary" })).await.data(200);
    assert_eq!(put["version"], 2);
    client.execute(&calling.workflow, json!({})).await;
    assert_eq!(calling.tokens(), ["first-canary", "second-canary"], "a new attempt takes the present version");

    let versions = client.get(&format!("{}/versions", calling.secret)).await.data(200)["versions"].clone();
    let of = |n: usize| (versions[n]["version"].clone(), versions[n]["status"].clone());
    assert_eq!(of(0), (json!(2), json!("current")), "{versions}");
    assert_eq!(of(1), (json!(1), json!("superseded")), "{versions}");
    assert_eq!(versions[0]["createdBy"], maria.user["id"]);

    let version = |n: u32| format!("{}/versions/{n}", calling.secret);
    client.delete(&version(2)).await.refused(409, "CONFLICT");
    client.delete(&version(3)).await.refused(404, "RESOURCE_NOT_FOUND");
    client.delete(&version(0)).await.names(&["n"]);
    let left = client.delete(&version(1)).await.data(200);
    assert_eq!(left["versions"][1]["status"], "destroyed", "{left}");
    client.delete(&version(1)).await.data(200);
    let destroyed = told(client, "credential.version_destroyed").await;
    assert_eq!(destroyed, [("credential.version_destroyed".to_owned(), json!({ "version": 1 }))]);
    let kept: Vec<(i32, bool)> =
        sqlx::query_as("select version, length(ciphertext) > 0 from vault.credential_values order by version")
            .fetch_all(&mut server.database().await)
            .await
            .unwrap();
    assert_eq!(kept, [(1, false), (2, true)]);
    assert_eq!(client.execute(&calling.workflow, json!({})).await["status"], "completed");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_secret_is_handed_out_to_nobody() {
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let client = &maria.client;
    let calling = calling(&maria, "expiring-canary").await;

    // Warned of at once, because it is less than seven days; and once only.
    let expires = within(TimeDelta::hours(30));
    client.put(&calling.secret, json!({ "expiresAt": expires })).await.data(200);
    let warned = until("a warning", SOON, async || {
        told(client, "credential.expiry_warned").await.first().map(|(_, data)| data.clone())
    })
    .await;
    assert_eq!(warned["daysLeft"], 7, "{warned}");
    // Closer to the end, the next one; then the end itself.
    client.put(&calling.secret, json!({ "expiresAt": within(TimeDelta::seconds(10)) })).await.data(200);
    until("it expires", SOON, async || {
        let all = told(client, "credential.*").await;
        all.iter().any(|(action, _)| action == "credential.expired").then_some(())
    })
    .await;
    let days: Vec<Value> =
        told(client, "credential.expiry_warned").await.iter().map(|(_, data)| data["daysLeft"].clone()).collect();
    assert_eq!(days, [json!(7), json!(1)]);
    let shown = client.get(&calling.secret).await.data(200);
    assert_eq!((&shown["status"], &shown["isActive"]), (&json!("expired"), &json!(false)), "{shown}");

    assert_eq!(error_of(client, &calling.workflow).await, "CREDENTIAL_EXPIRED");
    let test = client.post(&format!("/connections/{}/test", calling.connection), json!({})).await;
    assert!(test.text.contains("expired"), "{}", test.text);
    assert_eq!(calling.tokens(), [""; 0], "nobody was called");
    let reads = client.get(&format!("{}/usage", calling.secret)).await.data(200);
    assert_eq!(reads["uses"], json!([]), "and nothing was read");

    // A new value lifts an expiry that is over.
    let renewed = client.put(&calling.secret, json!({ "value": "fresh-canary" })).await.data(200);
    assert!(renewed["status"] == "active" && renewed.get("expiresAt").is_none(), "{renewed}");
    assert_eq!(client.execute(&calling.workflow, json!({})).await["status"], "completed");
    assert_eq!(calling.tokens(), ["fresh-canary"]);
    assert_eq!(told(client, "credential.expired").await.len(), 1);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_secret_can_be_restored_until_it_is_destroyed() {
    let mut server = Server::start().await;
    let maria = server.account("maria").await;
    let client = &maria.client;
    let calling = calling(&maria, "deleted-canary").await;
    assert_eq!(client.delete(&calling.secret).await.status, 200);
    client.get(&calling.secret).await.refused(404, "CREDENTIAL_NOT_FOUND");
    client.put(&calling.secret, json!({ "value": "x" })).await.refused(404, "CREDENTIAL_NOT_FOUND");
    client.delete(&calling.secret).await.refused(404, "CREDENTIAL_NOT_FOUND");
    assert_eq!(error_of(client, &calling.workflow).await, "CREDENTIAL_MISSING");
    assert_eq!(client.get("/secrets").await.data(200)["totalCount"], 0);
    let deleted = client.get("/secrets?status=deleted").await.data(200)["secrets"][0].clone();
    let until_when: DateTime<Utc> = deleted["destroyAt"].as_str().unwrap().parse().unwrap();
    let week: DateTime<Utc> = within(TimeDelta::days(7)).parse().unwrap();
    assert!((week - until_when).num_seconds().abs() < 60, "{deleted}");

    let restore = format!("{}/restore", calling.secret);
    maria.with_role("viewer").await.post(&restore, json!({})).await.refused(403, "FORBIDDEN");
    let restored = client.post(&restore, json!({})).await;
    assert_eq!(restored.data(200)["status"], "active");
    assert_eq!(client.execute(&calling.workflow, json!({})).await["status"], "completed");
    assert_eq!(calling.tokens(), ["deleted-canary"], "its connection has it again");
    client.post(&restore, json!({})).await.refused(409, "CONFLICT");

    // A host that has changed meanwhile does not get it.
    client.delete(&calling.secret).await.data(200);
    let connection = format!("/connections/{}", calling.connection);
    client.patch(&connection, json!({ "baseUrl": "http://localhost:9" })).await.data(200);
    client.post(&restore, json!({})).await.data(200);
    assert_eq!(error_of(client, &calling.workflow).await, "CREDENTIAL_MISSING");

    // At once and for good.
    let one = client.post("/secrets", json!({ "name": "one", "value": "gone-canary" })).await.data(201);
    let path = format!("/secrets/{}", id(&one));
    client.delete(&format!("{path}?destroy=maybe")).await.names(&["destroy"]);
    client.delete(&format!("{path}?destroy=true")).await.data(200);
    client.post(&format!("{path}/restore"), json!({})).await.refused(404, "CREDENTIAL_NOT_FOUND");
    let gone = told(client, "credential.destroyed").await;
    assert_eq!(gone, [("credential.destroyed".to_owned(), json!({ "versions": 1 }))]);
    let versions = client.get(&format!("{path}/versions")).await.data(200);
    assert_eq!(versions["versions"][0]["status"], "destroyed", "{versions}");

    // When its time is over, nobody has to ask: as after a week, with everything else as it is.
    client.delete(&calling.secret).await.data(200);
    server.assert_settled().await;
    let mut database = server.database().await;
    server.kill().await;
    let secret = calling.secret.replace("/secrets/", "").parse::<domain::ids::SecretId>().unwrap();
    for statement in [
        "update log.events set payload = json_build_object('destroyAt', '2020-01-01T00:00:00Z')
          where aggregate_id = $1 and event_type = 'credential.deleted'",
        "update read_models.credentials set destroy_at = '2020-01-01T00:00:00Z', due_at = '2020-01-01T00:00:00Z'
          where id = $1",
    ] {
        sqlx::query(statement).bind(secret.0).execute(&mut database).await.unwrap();
    }
    server.launch().await;
    let client = server.anonymous().bearer(&maria.access);
    until("it is destroyed", SOON, async || (told(&client, "credential.destroyed").await.len() == 2).then_some(()))
        .await;
    let left: i64 = sqlx::query_scalar("select count(*) from vault.credential_values where length(ciphertext) > 0")
        .fetch_one(&mut server.database().await)
        .await
        .unwrap();
    assert_eq!(left, 0);
    client.post(&restore, json!({})).await.refused(404, "CREDENTIAL_NOT_FOUND");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destruction_that_a_crash_kept_from_being_told_is_told_later() {
    let mut server = Server::start_with(&[("APIQ_SECRET_RETENTION_DAYS", "0")]).await;
    let maria = server.account("maria").await;
    let calling = calling(&maria, "told-canary").await;
    maria.client.put(&calling.secret, json!({ "value": "second" })).await.data(200);
    let one = maria.client.post("/secrets", json!({ "name": "one", "value": "x" })).await.data(201);
    // Without retention, deleting is destroying.
    maria.client.delete(&format!("/secrets/{}", id(&one))).await.data(200);
    assert_eq!(told(&maria.client, "credential.destroyed").await.len(), 1);
    server.kill().await;
    sqlx::query(
        "update vault.credential_values set ciphertext = '', destroyed_at = now() - interval '1 hour', recorded = false
          where version = 1 and destroyed_at is null",
    )
    .execute(&mut server.database().await)
    .await
    .unwrap();
    server.launch().await;
    let client = server.anonymous().bearer(&maria.access);
    until("it is told", SOON, async || (told(&client, "credential.version_destroyed").await.len() == 1).then_some(()))
        .await;
    let versions = client.get(&format!("{}/versions", calling.secret)).await.data(200);
    assert_eq!(versions["versions"][1]["status"], "destroyed", "{versions}");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_used_what_where_and_how_far_a_leak_reaches() {
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let client = &maria.client;
    let calling = calling(&maria, "used-canary").await;
    let host = calling.ledger.url().replace("http://", "");
    let first = client.execute(&calling.workflow, json!({})).await;
    client.put(&calling.secret, json!({ "value": "second-canary" })).await.data(200);
    let second = client.execute(&calling.workflow, json!({})).await;
    client.post(&format!("/connections/{}/test", calling.connection), json!({})).await.data(200);
    let idle = client.post("/secrets", json!({ "name": "idle", "value": "x" })).await.data(201);

    let usage = client.get(&format!("{}/usage", calling.secret)).await.data(200);
    let uses = usage["uses"].as_array().unwrap();
    assert_eq!(uses.len(), 3, "{usage}");
    assert_eq!((&uses[0]["purpose"], &uses[0]["actorId"]), (&json!("connection_test"), &maria.user["id"]), "{usage}");
    assert_eq!(
        (&uses[1]["readerId"], &uses[1]["stepId"], &uses[1]["host"]),
        (&second["id"], &json!("fetch"), &json!(host))
    );
    assert_eq!((&uses[2]["readerId"], &uses[2]["credentialVersion"]), (&first["id"], &json!(1)));
    let by_version: Vec<_> =
        usage["versions"].as_array().unwrap().iter().map(|v| (v["version"].clone(), v["reads"].clone())).collect();
    assert_eq!(by_version, [(json!(2), json!(2)), (json!(1), json!(1))]);

    let auditor = maria.with_role("auditor").await;
    let radius = async |query: String| auditor.get(&format!("/audit/blast-radius?{query}")).await.data(200);
    let readers = |found: &Value| -> Vec<String> {
        found["readers"].as_array().unwrap().iter().map(|reader| reader["id"].as_str().unwrap().to_owned()).collect()
    };
    // An execution: what it has read, and where that went.
    let found = radius(format!("executionId={}", id(&first))).await;
    assert_eq!(readers(&found), [id(&first)]);
    let read = &found["readers"][0]["uses"][0];
    assert_eq!((&read["version"], &read["steps"], &read["hosts"]), (&json!(1), &json!(["fetch"]), &json!([host])));
    assert_eq!(found["credentials"][0]["name"], "ledger credential", "{found}");
    // A credential and one of its versions.
    let credential = calling.secret.replace("/secrets/", "");
    let found = radius(format!("credentialId={credential}")).await;
    assert_eq!(readers(&found), [calling.connection.as_str(), id(&second), id(&first)], "{found}");
    let found = radius(format!("credentialId={}&version=1", credential.replace("secret_", "cred_"))).await;
    assert_eq!(readers(&found), [id(&first)]);
    // A key: everything under it; what was read after its rotation is the next one's.
    client.post(&format!("{}/rotate", calling.secret), json!({})).await.data(200);
    let third = client.execute(&calling.workflow, json!({})).await;
    let names = |found: &Value| -> Vec<(String, Value)> {
        let all = found["credentials"].as_array().unwrap().iter();
        all.map(|c| (c["name"].as_str().unwrap().to_owned(), c["version"].clone())).collect()
    };
    let all = [
        ("idle".to_owned(), json!(1)),
        ("ledger credential".to_owned(), json!(2)),
        ("ledger credential".to_owned(), json!(1)),
    ];
    let found = radius("keyVersion=1".into()).await;
    assert_eq!(names(&found), all, "{found}");
    assert_eq!(readers(&found), [calling.connection.as_str(), id(&second), id(&first)], "{found}");
    let found = radius("keyVersion=2".into()).await;
    assert_eq!(names(&found), all, "{found}");
    assert_eq!(readers(&found), [id(&third)], "{found}");

    // One question at a time, by who may ask, of one's own.
    for (query, field) in [
        ("", "executionId"),
        ("keyVersion=1&credentialId=cred_01h455vb4pex5vsknk084sn02q", "executionId"),
        ("executionId=wf_1", "executionId"),
        ("keyVersion=0", "keyVersion"),
        ("keyVersion=1&version=1", "version"),
    ] {
        auditor.get(&format!("/audit/blast-radius?{query}")).await.names(&[field]);
    }
    auditor.get("/audit/blast-radius?keyVersion=9").await.refused(404, "RESOURCE_NOT_FOUND");
    let jonas = server.account("jonas").await;
    for query in [format!("executionId={}", id(&first)), format!("credentialId={credential}")] {
        assert_eq!(jonas.client.get(&format!("/audit/blast-radius?{query}")).await.status, 404);
    }
    assert_eq!(jonas.client.get("/audit/blast-radius?keyVersion=1").await.data(200)["readers"], json!([]));
    maria.with_role("manager").await.get("/audit/blast-radius?keyVersion=1").await.refused(403, "FORBIDDEN");
    jonas.client.get(&format!("{}/usage", calling.secret)).await.refused(404, "CREDENTIAL_NOT_FOUND");
    assert!(id(&idle).starts_with("secret_"));
    server.finish().await;
}
