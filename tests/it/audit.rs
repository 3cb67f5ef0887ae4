//! The log tells everything and gives nothing away: each action leaves its event, a credential's use is recorded before
//! it happens, and no secret is found anywhere by whoever searches.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use sqlx::PgConnection;

use crate::support::client::id;
use crate::support::{Client, Ledger, Reply, Server, Stub, until};

const SOON: Duration = Duration::from_secs(20);

/// All entries of the log, the oldest first.
async fn whole_log(client: &Client) -> Vec<Value> {
    let mut entries = Vec::new();
    let mut path = "/logs?limit=100".to_owned();
    loop {
        let page = client.get(&path).await.data(200);
        entries.extend(page["logs"].as_array().unwrap().iter().cloned());
        match page["pagination"]["nextCursor"].as_str() {
            Some(cursor) if page["pagination"]["hasNext"] == true => path = format!("/logs?limit=100&cursor={cursor}"),
            _ => break,
        }
    }
    entries.reverse();
    entries
}

fn fetch(connection: &Value, operation: &str) -> Value {
    let step = json!({ "id": "fetch", "type": "api_call", "connectionId": id(connection), "operationId": operation });
    json!({ "name": "fetch", "steps": [step] })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_action_leaves_its_event() {
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let client = maria.client.header("x-request-id", "a-request-of-mine").header("user-agent", "test/7");
    let ledger = Ledger::start(Duration::ZERO).await;
    let stub = Stub::start(|_| Reply::json(200, &json!({}))).await;
    let guest = server.anonymous();

    // Do everything there is to do.
    guest
        .post("/auth/login", json!({ "email": maria.email, "password": "wrong password" }))
        .await
        .refused(401, "INVALID_CREDENTIALS");
    let login = guest.post("/auth/login", json!({ "email": maria.email, "password": maria.password })).await.data(200);
    guest.post("/auth/refresh", json!({ "refreshToken": login["refreshToken"] })).await.data(200);
    guest.bearer(login["accessToken"].as_str().unwrap()).post("/auth/logout", json!({})).await.data(200);
    let hook = json!({ "name": "hook", "url": stub.url(), "events": ["workflow.completed"] });
    let hook = client.post("/webhooks", hook).await.data(201);
    client.patch(&format!("/webhooks/{}", id(&hook)), json!({ "name": "renamed" })).await.data(200);
    let mut body = ledger.connection("ledger");
    body["authType"] = json!("bearer");
    body["authConfig"] = json!({ "token": "token" });
    let connection = client.connect(body).await;
    let path = format!("/connections/{}", id(&connection));
    client.patch(&path, json!({ "description": "changed" })).await.data(200);
    client.post(&format!("{path}/test"), json!({})).await.data(200);
    client.put(&format!("{path}/credentials"), json!({ "credentials": { "token": "token two" } })).await.data(200);
    let workflow = client.workflow(fetch(&connection, "listItems")).await;
    client.patch(&format!("/workflows/{workflow}"), json!({ "name": "renamed" })).await.data(200);
    let execution = client.execute(&workflow, json!({})).await;
    assert_eq!(execution["status"], "completed", "{execution}");
    let plan = client.post("/chat", json!({ "message": "List the items" })).await.data(200);
    let confirm = json!({ "planId": plan["planId"], "planHash": plan["planHash"], "input": {} });
    let run = client.post("/chat/execute", confirm).await.data(202);
    client.ended(run["executionId"].as_str().unwrap(), SOON).await;
    let secret = client.post("/secrets", json!({ "name": "s", "value": "value" })).await.data(201);
    client.delete(&format!("/secrets/{}", id(&secret))).await.data(200);
    let key = client.post("/api-keys", json!({ "name": "viewer", "role": "viewer" })).await.data(201);
    guest.bearer(key["key"].as_str().unwrap()).post("/workflows", json!({})).await.refused(403, "FORBIDDEN");
    client.delete(&format!("/api-keys/{}", id(&key))).await.data(200);
    let deliveries = format!("/webhooks/{}/deliveries", id(&hook));
    until("the deliveries are made", SOON, async || {
        let listed = client.get(&deliveries).await.data(200);
        let all = listed["deliveries"].as_array().unwrap().clone();
        (all.len() == 2 && all.iter().all(|delivery| delivery["status"] == "succeeded")).then_some(())
    })
    .await;
    client.delete(&format!("/webhooks/{}", id(&hook))).await.data(200);
    client.delete(&format!("/workflows/{workflow}")).await.data(200);
    client.delete(&path).await.data(200);

    // The auditor reads it all; a member nothing of it.
    let auditor = maria.with_role("auditor").await;
    maria.with_role("member").await.get("/logs").await.refused(403, "FORBIDDEN");
    server.assert_settled().await;
    let log = whole_log(&auditor).await;
    let actions: BTreeSet<&str> = log.iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    for action in [
        "organization.created",
        "workspace.created",
        "user.registered",
        "user.login_failed",
        "user.logged_in",
        "session.started",
        "session.refreshed",
        "session.revoked",
        "api_key.created",
        "api_key.revoked",
        "access.denied",
        "webhook.created",
        "webhook.updated",
        "webhook.deleted",
        "connection.created",
        "connection.updated",
        "connection.tested",
        "connection.ingestion_started",
        "connection.spec_refreshed",
        "connection.deleted",
        "credential.created",
        "credential.rotated",
        "credential.read",
        "credential.deleted",
        "workflow.created",
        "workflow.updated",
        "workflow.deleted",
        "execution.started",
        "execution.step_started",
        "execution.step_completed",
        "execution.completed",
        "plan.drafted",
        "plan.executed",
        "delivery.scheduled",
        "delivery.attempt_started",
        "delivery.succeeded",
    ] {
        assert!(actions.contains(action), "{action} is not in {actions:?}");
    }
    let known: BTreeSet<&str> = domain::catalogue::all().into_iter().map(|(_, name, _)| name).collect();
    assert!(actions.is_subset(&known), "{actions:?}");

    // One order, no holes in any history, and who did it.
    let mut last: std::collections::BTreeMap<String, i64> = Default::default();
    for entry in &log {
        let resource = entry["resource"].to_string();
        let sequence = entry["sequence"].as_i64().unwrap();
        let before = last.insert(resource.clone(), sequence).unwrap_or(0);
        assert_eq!(sequence, before + 1, "{resource}");
        assert!(!entry["actor"]["id"].as_str().unwrap().is_empty(), "{entry}");
        assert_eq!(entry["workspaceId"].as_str(), Some(maria.workspace()));
    }
    let of = |action: &str| log.iter().find(|entry| entry["action"] == action).unwrap();
    let created = of("connection.created");
    assert_eq!(created["actor"], json!({ "type": "user", "id": maria.user["id"] }));
    assert_eq!((&created["ipAddress"], &created["userAgent"]), (&json!("127.0.0.1"), &json!("test/7")), "{created}");
    assert_eq!(of("execution.step_started")["actor"]["type"], "system");
    assert_eq!(of("access.denied")["actor"]["id"], key["id"], "{}", of("access.denied"));

    // Filters.
    let count = async |query: &str| {
        auditor.get(&format!("/logs?{query}")).await.data(200)["pagination"]["total"].as_u64().unwrap()
    };
    let all = log.len() as u64;
    assert!(count("").await >= all);
    assert_eq!(count("action=connection.created").await, 1);
    assert!(count("action=connection.*").await >= 6 && count("action=connection.*").await < all);
    assert_eq!(count(&format!("resource=execution:{}&action=execution.completed", id(&execution))).await, 1);
    assert!(count("startDate=2000-01-01").await >= all && count("endDate=2000-01-01").await == 0);
    let by_hand = log.iter().filter(|entry| entry["userId"] == maria.user["id"]).count() as u64;
    assert_eq!(count(&format!("userId={}", maria.user["id"].as_str().unwrap())).await, by_hand);
    assert!(count("correlationId=a-request-of-mine").await > 0);
    let completed = of("execution.completed");
    let together = count(&format!("correlationId={}", completed["correlationId"].as_str().unwrap())).await;
    assert!(together >= 4, "what one execution did: {together}");
    auditor.get("/logs?action=nonsense&resource=x:y&colour=red&startDate=soon").await.refused(422, "VALIDATION_ERROR");
    let one = auditor.get(&format!("/logs/{}", id(created))).await.data(200);
    assert_eq!(one["action"], "connection.created");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_is_recorded_before_it_is_used() {
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let client = &maria.client;
    let ledger = Ledger::start(Duration::ZERO).await;
    let mut body = ledger.connection("ledger");
    body["authType"] = json!("bearer");
    body["authConfig"] = json!({ "token": "token" });
    let connection = client.connect(body).await;
    let workflow = client.workflow(fetch(&connection, "listItems")).await;

    // While the call is under way, its record is there and its outcome is not.
    ledger.stub.script(
        "GET /items",
        [Reply::Late(Duration::from_secs(2), Box::new(Reply::json(200, &json!({ "items": [] }))))],
    );
    let started = client.post(&format!("/workflows/{workflow}/execute"), json!({})).await.data(202);
    until("the call arrives", SOON, async || (!ledger.stub.seen().is_empty()).then_some(())).await;
    let mut database = server.database().await;
    let recorded = "select event_type::text from log.events where aggregate_type = 'execution' order by sequence";
    let events: Vec<String> = sqlx::query_scalar(recorded).fetch_all(&mut database).await.unwrap();
    assert_eq!(events, ["execution.started", "execution.step_started", "credential.read"]);
    let execution = client.ended(started["executionId"].as_str().unwrap(), SOON).await;
    assert_eq!(execution["status"], "completed", "{execution}");

    // Each attempt is a use of its own; a test of the connection as well.
    let error = || Reply::json(503, &json!({}));
    ledger.stub.script("GET /items", [error(), error()]);
    client.execute(&workflow, json!({})).await;
    client.post(&format!("/connections/{}/test", id(&connection)), json!({})).await.data(200);
    let credential = connection["credentialId"].as_str().unwrap();
    let reads = client.get(&format!("/credentials/{credential}/reads")).await.data(200);
    let reads = reads["reads"].as_array().unwrap();
    assert_eq!((reads.len(), ledger.stub.seen_at("GET /items").len()), (5, 5), "as many records as calls: {reads:?}");
    let attempts: Vec<_> = reads.iter().rev().map(|read| read["attempt"].as_u64()).collect();
    assert_eq!(attempts, [Some(1), Some(1), Some(2), Some(3), None]);
    assert_eq!(reads[4]["readerId"], execution["id"], "{reads:?}");
    let shown = client.get(&format!("/credentials/{credential}")).await.data(200);
    assert_eq!((&shown["readCount"], &shown["currentVersion"]), (&json!(5), &json!(1)), "{shown}");
    server.finish().await;
}

/// A secret in every form in which it might lie around.
pub(crate) fn forms(secret: &str) -> Vec<Vec<u8>> {
    let encoded: String = secret.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let form: String = url_form(secret);
    let mut forms =
        vec![secret.as_bytes().to_vec(), hex::encode(secret).into_bytes(), encoded.into_bytes(), form.into_bytes()];
    // base64 of a text inside of another depends on where it begins: the middle of each of the three ways.
    for shift in 0..3 {
        let padded = [&b"aaa"[..shift], secret.as_bytes()].concat();
        for text in [STANDARD.encode(&padded), URL_SAFE_NO_PAD.encode(&padded)] {
            let text = text.trim_end_matches('=');
            forms.push(text.as_bytes()[4..text.len() - 4].to_vec());
        }
    }
    forms
}

fn url_form(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// Every row of every table as text; bytes as hex and as they are.
pub(crate) async fn dump(database: &mut PgConnection) -> Vec<u8> {
    let tables: Vec<(String, String)> = sqlx::query_as(
        "select schemaname::text, tablename::text from pg_tables where schemaname not in ('pg_catalog', 'information_schema')",
    )
    .fetch_all(&mut *database)
    .await
    .unwrap();
    assert!(tables.len() > 20, "{tables:?}");
    let mut text = String::new();
    for (schema, table) in tables {
        let rows: Vec<String> = sqlx::query_scalar(&format!("select t::text from \"{schema}\".\"{table}\" t"))
            .fetch_all(&mut *database)
            .await
            .unwrap();
        text += &rows.join("\n");
    }
    let blobs: Vec<Vec<u8>> =
        sqlx::query_scalar("select content from log.blobs").fetch_all(&mut *database).await.unwrap();
    let mut bytes = text.into_bytes();
    bytes.extend(blobs.into_iter().flatten());
    bytes
}

/// What the dev profile keeps for its owner's eyes.
const OWNERS: [&str; 5] = ["master.key", "engines.json", "demo-account.json", "run.json", "server.conf"];

/// `file: what was found` for every pattern in every file below the folders. A program made for it: the database, its
/// journal and the queue's store are many megabytes.
pub(crate) fn search(folders: &[&Path], patterns: &[Vec<u8>], scratch: &Path) -> Vec<String> {
    let file = scratch.join("patterns");
    std::fs::write(&file, patterns.join(&b"\n"[..])).unwrap();
    let mut grep = std::process::Command::new("grep");
    grep.env("LC_ALL", "C").args(["-r", "-a", "-o", "-F", "-f"]).arg(&file);
    grep.args(OWNERS.map(|name| format!("--exclude={name}"))).args(folders);
    let output = grep.output().expect("grep is there");
    assert!(output.status.code().is_some_and(|code| code < 2), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut found: Vec<String> = text.lines().map(str::to_owned).collect();
    found.sort();
    found.dedup();
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_found_by_whoever_searches() {
    let model = Stub::start(|_| Reply::json(500, &json!({}))).await;
    let base = format!("{}/v1", model.url());
    let key = "sk-model-canary-90fe21dc";
    let settings = [("APIQ_LOG", "debug"), ("OPENAI_BASE_URL", base.as_str()), ("OPENAI_API_KEY", key)];
    let server = Server::start_with(&settings).await;
    let guest = server.anonymous();
    let register = json!({ "email": "canary@example.com", "password": "Canary/Password+1 ünter" });
    let tokens = guest.post("/auth/register", register).await.data(201);
    let client = guest.bearer(tokens["accessToken"].as_str().unwrap());
    let ledger = Ledger::start(Duration::ZERO).await;
    let hooked = Stub::start(|_| Reply::json(200, &json!({}))).await;
    let mut canaries = vec![
        ("password", "Canary/Password+1 ünter".to_owned()),
        ("access token", tokens["accessToken"].as_str().unwrap().to_owned()),
        ("refresh token", tokens["refreshToken"].as_str().unwrap().to_owned()),
    ];
    let mut answers: Vec<(String, String)> = Vec::new();
    let webhook_secret = "Y2FuYXJ5LXdlYmhvb2stc2VjcmV0LTAxMjM0NTY3ODk";
    let hook =
        json!({ "name": "hook", "url": hooked.url(), "events": ["*"], "secret": format!("whsec_{webhook_secret}=") });
    client.post("/webhooks", hook).await.data(201);
    canaries.push(("webhook", webhook_secret.into()));

    // One credential of each kind, in use; calls that work, fail and never reach anybody.
    for (kind, config, canary) in [
        (
            "api_key",
            json!({ "in": "query", "name": "key", "value": "canary-query-5f1d0c9be7" }),
            "canary-query-5f1d0c9be7",
        ),
        (
            "api_key",
            json!({ "in": "header", "name": "X-Key", "value": "canary-header-81b2a6d4" }),
            "canary-header-81b2a6d4",
        ),
        ("bearer", json!({ "token": "canary-bearer-3c7e9f2a10" }), "canary-bearer-3c7e9f2a10"),
        ("basic", json!({ "username": "canary", "password": "canary-basic-b6d8e0f412" }), "canary-basic-b6d8e0f412"),
    ] {
        let mut body = ledger.connection(kind);
        body["authType"] = json!(kind);
        body["authConfig"] = config;
        let connection = client.connect(body).await;
        canaries.push((kind, canary.to_owned()));
        let workflow = client.workflow(fetch(&connection, "listItems")).await;
        for reply in [None, Some(Reply::json(500, &json!({}))), Some(Reply::Close), Some(Reply::json(401, &json!({})))]
        {
            ledger.stub.script("GET /items", reply);
            let execution = client.execute(&workflow, json!({})).await;
            answers.push(("an execution".into(), execution.to_string()));
        }
        let path = format!("/connections/{}", id(&connection));
        answers.push(("a test".into(), client.post(&format!("{path}/test"), json!({})).await.text));
        // The host goes away: the error tells the address, but not the key in it.
        client.patch(&path, json!({ "baseUrl": "http://127.0.0.1:9" })).await.data(200);
        answers.push(("no host".into(), client.execute(&workflow, json!({})).await.to_string()));
        answers.push(("a test of no host".into(), client.post(&format!("{path}/test"), json!({})).await.text));
    }
    let secret = client.post("/secrets", json!({ "name": "s", "value": "canary-secret-77aa55cc33ee" })).await.data(201);
    canaries.push(("secret", "canary-secret-77aa55cc33ee".into()));
    let rotated = json!({ "value": "canary-rotated-1122334455" });
    client.put(&format!("/secrets/{}", id(&secret)), rotated).await.data(200);
    canaries.push(("rotated secret", "canary-rotated-1122334455".into()));
    let short = json!({ "name": "t", "value": "canary-deleted-5e6f7a8b" });
    let deleted = client.post("/secrets", short).await.data(201);
    canaries.push(("deleted secret", "canary-deleted-5e6f7a8b".into()));
    client.post(&format!("/secrets/{}/rotate", id(&secret)), json!({})).await.data(200);
    client.delete(&format!("/secrets/{}", id(&deleted))).await.data(200);
    client.post(&format!("/secrets/{}/restore", id(&deleted)), json!({})).await.data(200);
    client.post("/chat", json!({ "message": "List the items" })).await;
    canaries.push(("model key", key.into()));
    let key = client.post("/api-keys", json!({ "name": "k", "role": "owner" })).await.data(201);
    canaries.push(("API key", key["key"].as_str().unwrap().to_owned()));
    let by_key = guest.bearer(key["key"].as_str().unwrap());
    // Wrong requests with secrets in them, in the wrong places too.
    for (path, body) in [
        ("/auth/login", json!({ "email": "canary@example.com", "password": "canary-wrong-password-99" })),
        (
            "/auth/register",
            json!({ "email": "bad", "password": "canary-wrong-password-99", "x": "canary-wrong-password-99" }),
        ),
        ("/secrets", json!({ "name": "", "value": "canary-wrong-password-99", "valeu": "canary-wrong-password-99" })),
        ("/connections", json!({ "name": "x", "specUrl": "http://u:canary-wrong-password-99@127.0.0.1/" })),
        ("/api-keys", json!({ "name": "x", "role": "canary-wrong-password-99" })),
    ] {
        answers.push((path.into(), by_key.post(path, body).await.text));
    }
    canaries.push(("wrong password", "canary-wrong-password-99".into()));
    // Inputs and outputs are confidential, though whoever may see the execution reads them.
    let plain = client
        .workflow(json!({ "name": "x", "steps": [{ "id": "x", "type": "transform", "output": "{{ input.who }}" }] }))
        .await;
    client.execute(&plain, json!({ "who": "canary-input-0246813579" })).await;
    let stored_only = [("input", "canary-input-0246813579".to_owned()), ("e-mail", "canary@example.com".to_owned())];
    server.assert_settled().await;

    for path in [
        "/auth/me",
        "/api-keys",
        "/connections",
        "/secrets",
        "/credentials",
        "/executions",
        "/webhooks",
        "/workflows",
        "/logs?limit=100",
        "/health",
        "/stats",
        "/operations?search=items",
        "/keys",
        "/admin/master-key",
        "/audit/blast-radius?keyVersion=1",
    ] {
        answers.push((path.into(), client.get(path).await.text));
    }
    for part in ["", "/usage", "/versions"] {
        let path = format!("/secrets/{}{part}", id(&secret));
        answers.push((path.clone(), client.get(&path).await.text));
    }
    assert!(!model.seen().is_empty(), "the model was asked");
    until("events are delivered", SOON, async || (hooked.seen().len() > 20).then_some(())).await;
    sqlx::raw_sql("checkpoint").execute(&mut server.database().await).await.unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let (told, stored) = (scratch.path().join("told"), scratch.path().join("stored"));
    std::fs::create_dir_all(&told).unwrap();
    std::fs::create_dir_all(&stored).unwrap();
    for (number, (place, text)) in answers.iter().enumerate() {
        let name = place.replace(|letter: char| !letter.is_alphanumeric(), "_");
        std::fs::write(told.join(format!("{number}_{name}")), text).unwrap();
    }
    std::fs::write(stored.join("dump"), dump(&mut server.database().await).await).unwrap();
    std::fs::write(stored.join("output"), server.output()).unwrap();
    for (number, seen) in hooked.seen().iter().enumerate() {
        std::fs::write(stored.join(format!("webhook_{number}")), &seen.body).unwrap();
    }

    for (number, seen) in model.seen().iter().enumerate() {
        std::fs::write(stored.join(format!("prompt_{number}")), &seen.body).unwrap();
    }
    let of = |list: &[(&str, String)]| -> Vec<Vec<u8>> { list.iter().flat_map(|(_, secret)| forms(secret)).collect() };
    let (data, postgres) = (server.data(), server.postgres_home());
    let at_rest: [&Path; 3] = [&data, &postgres, &stored];
    // The search itself works: what is public is found where it lies.
    assert!(!search(&at_rest, &[b"placeOrder".to_vec()], scratch.path()).is_empty());
    assert!(!search(&[&told], &[b"canary@example.com".to_vec()], scratch.path()).is_empty());
    let mut found = search(&at_rest, &[of(&canaries), of(&stored_only)].concat(), scratch.path());
    found.extend(search(&[&told], &of(&canaries), scratch.path()));
    assert!(found.is_empty(), "{} finds:\n{}", found.len(), found.join("\n"));
    assert!(answers.len() > 30, "{}", answers.len());
    server.finish().await;
}
