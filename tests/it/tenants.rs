//! Two tenants × every route × the other's ids, in path, query, body and header; and the database's own policies.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::authorization::{filled, operations};
use crate::support::client::id;
use crate::support::{Account, Ledger, Reply, Server, Stub, until};

/// In everything that belongs to Maria; must never be read by Jonas.
const MARK: &str = "marias-own-thing";

/// One of everything, by the prefix of its id.
async fn furnish(maria: &Account, ledger: &Ledger, receiver: &Stub) -> BTreeMap<&'static str, String> {
    let client = &maria.client;
    let mut connection = ledger.connection(MARK);
    connection["authType"] = json!("bearer");
    connection["authConfig"] = json!({ "token": format!("{MARK}-token") });
    let connection = client.connect(connection).await;
    let hook = json!({ "name": MARK, "url": receiver.url(), "events": ["workflow.completed"] });
    let hook = client.post("/webhooks", hook).await.data(201);
    let secret = json!({ "name": MARK, "value": format!("{MARK}-secret") });
    let secret = client.post("/secrets", secret).await.data(201);
    let step =
        json!({ "id": "fetch", "type": "api_call", "connectionId": id(&connection), "operationId": "listItems" });
    let workflow = client.workflow(json!({ "name": MARK, "steps": [step] })).await;
    let execution = client.execute(&workflow, json!({})).await;
    assert_eq!(execution["status"], "completed", "{execution}");
    let plan = client.post("/chat", json!({ "message": "List the items" })).await.data(200);
    let key = client.post("/api-keys", json!({ "name": MARK, "role": "viewer" })).await.data(201);
    let endpoints = client.get(&format!("/connections/{}/endpoints", id(&connection))).await.data(200);
    let deliveries = format!("/webhooks/{}/deliveries", id(&hook));
    let delivery = until("a delivery", Duration::from_secs(20), async || {
        let listed = client.get(&deliveries).await.data(200);
        listed["deliveries"][0]["id"].as_str().map(str::to_owned)
    })
    .await;
    let bot = json!({ "name": MARK, "type": "slack", "data": { "token": format!("{MARK}-bot") } });
    let bot = client.post("/credentials", bot).await.data(201);
    let connector = json!({ "connectorType": "slack", "name": MARK, "credentialId": id(&bot) });
    let connector = client.post("/connectors", connector).await.data(201);
    let entry = client.get("/logs?limit=1").await.data(200);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    BTreeMap::from([
        ("conn", id(&connection).to_owned()),
        ("connector", id(&connector).to_owned()),
        ("ep", text(&endpoints["endpoints"][0]["id"])),
        ("cred", text(&connection["credentialId"])),
        ("secret", id(&secret).to_owned()),
        ("wf", workflow),
        ("exec", id(&execution).to_owned()),
        ("plan", text(&plan["planId"])),
        ("key", id(&key).to_owned()),
        ("hook", id(&hook).to_owned()),
        ("dlv", delivery),
        ("evt", text(&entry["logs"][0]["id"])),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn another_tenants_things_do_not_exist() {
    let server = Server::start().await;
    let (ledger, receiver) = (Ledger::start(Duration::ZERO).await, Stub::start(|_| Reply::json(200, &json!({}))).await);
    let (maria, jonas) = (server.account("maria").await, server.account("jonas").await);
    let things = furnish(&maria, &ledger, &receiver).await;
    let document = server.anonymous().get("/openapi").await.body;

    let mut wrong = Vec::new();
    let mut tried = 0;
    for operation in operations(&document) {
        let (method, path) = operation.split_once(' ').unwrap();
        let method: Method = method.parse().unwrap();
        let described = &document["paths"][path][method.as_str().to_lowercase()];
        if described["x-permission"] == "public" || path.starts_with("/auth/") {
            continue;
        }
        let foreign = |prefix: &str| things.get(prefix).unwrap_or_else(|| panic!("{path}: no {prefix}")).clone();
        let url = filled(&document, &method, path, foreign);
        let body = described["requestBody"].is_object().then(|| sample(path, &things));
        let answer = jonas.client.send(method.clone(), &url, body).await;
        tried += 1;
        let hidden = !path.contains('{') || answer.status == 404;
        let silent = !answer.text.contains(MARK) && !things.values().any(|thing| answer.text.contains(thing));
        if !hidden || !silent {
            wrong.push(format!("{operation}: {} {}", answer.status, answer.text));
        }
    }
    assert!(wrong.is_empty(), "{} of {tried} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(tried > 40, "{tried}");

    // In bodies, queries and headers.
    let call = json!({ "id": "a", "type": "api_call", "connectionId": things["conn"], "operationId": "listItems" });
    let stolen = jonas.client.post("/workflows", json!({ "name": "x", "steps": [call] })).await;
    stolen.names(&["steps[0].connectionId"]);
    let say = |field: &str, thing: &str| {
        json!({ "id": "a", "type": "connector", "config": {
            "connectorType": "slack", "action": "send_message", "channel": "C", "text": "t", field: things[thing] } })
    };
    let stolen =
        jonas.client.post("/workflows", json!({ "name": "x", "steps": [say("connectorId", "connector")] })).await;
    stolen.names(&["steps[0].config.connectorId"]);
    let stolen = jonas.client.post("/workflows", json!({ "name": "x", "steps": [say("credentialId", "cred")] })).await;
    stolen.names(&["steps[0].config.credentialId"]);
    let stolen = json!({ "connectorType": "slack", "name": "x", "credentialId": things["cred"] });
    jonas.client.post("/connectors", stolen).await.names(&["credentialId"]);
    let plan = json!({ "planId": things["plan"], "planHash": "0".repeat(64), "input": {} });
    jonas.client.post("/chat/execute", plan).await.refused(404, "PLAN_NOT_FOUND");
    for query in [format!("workflowId={}", things["wf"]), format!("search={MARK}")] {
        let listed = jonas.client.get(&format!("/executions?{query}")).await;
        assert!(listed.status == 422 || listed.data(200)["executions"] == json!([]), "{}", listed.text);
    }
    let searched = jonas.client.get(&format!("/operations?search=list+items&connectionId={}", things["conn"])).await;
    assert!(searched.status == 404 || searched.data(200)["operations"] == json!([]), "{}", searched.text);
    let elsewhere = jonas.client.header("x-workspace-id", maria.workspace());
    elsewhere.get("/connections").await.refused(404, "RESOURCE_NOT_FOUND");
    elsewhere.header("x-workspace-id", "ws_1").get("/connections").await.names(&["X-Workspace-Id"]);
    jonas.client.header("x-workspace-id", jonas.workspace()).get("/connections").await.data(200);

    // And nothing of it was changed.
    let name = async |path: String| maria.client.get(&path).await.data(200)["name"].clone();
    for (kind, noun) in [
        ("conn", "connections"),
        ("connector", "connectors"),
        ("wf", "workflows"),
        ("hook", "webhooks"),
        ("key", "api-keys"),
    ] {
        assert_eq!(name(format!("/{noun}/{}", things[kind])).await, MARK, "{noun}");
    }
    assert!(!server.output().contains(MARK), "names are no business of the service's log");
    server.finish().await;
}

/// A body that would be good, so that only the id is in the way.
fn sample(path: &str, things: &BTreeMap<&'static str, String>) -> Value {
    let noun = path.rsplit('/').find(|part| !part.contains('{')).unwrap_or_default();
    match (path, noun) {
        ("/connections", _) => json!({ "name": "x", "baseUrl": "http://127.0.0.1:9" }),
        ("/workflows" | "/workflows/{id}" | "/workflows/validate", _) => {
            json!({ "name": "x", "steps": [{ "type": "transform", "output": { "a": 1 } }] })
        }
        ("/api-keys", _) => json!({ "name": "x", "role": "viewer" }),
        ("/webhooks" | "/webhooks/{id}", _) => json!({ "name": "x", "url": "http://127.0.0.1:9", "events": ["*"] }),
        ("/chat", _) => json!({ "message": "list the items" }),
        ("/chat/execute", _) => json!({ "planId": things["plan"], "planHash": "x", "input": {} }),
        (_, "execute") => json!({ "input": {} }),
        (_, "resolve") => json!({ "outcome": "failed" }),
        (_, "approve") => json!({ "hosts": ["http://127.0.0.1:9"] }),
        (_, "test" | "refresh" | "reject" | "current" | "cancel" | "resend" | "pause" | "resume" | "retry") => {
            json!({})
        }
        ("/credentials", _) => json!({ "name": "x", "type": "slack", "data": { "token": "y" } }),
        ("/credentials/{id}", _) => json!({ "data": { "token": "y" } }),
        ("/connectors", _) => json!({ "connectorType": "http", "name": "x" }),
        (_, "credentials") => json!({ "credentials": { "value": "x" } }),
        ("/secrets", _) => json!({ "name": "x", "value": "y" }),
        (_, "secrets") => json!({ "value": "y" }),
        _ => json!({ "name": "x" }),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_itself_shows_a_tenant_its_own_rows_only() {
    let server = Server::start().await;
    let (ledger, receiver) = (Ledger::start(Duration::ZERO).await, Stub::start(|_| Reply::json(200, &json!({}))).await);
    let (maria, jonas) = (server.account("maria").await, server.account("jonas").await);
    furnish(&maria, &ledger, &receiver).await;
    server.assert_settled().await;

    let mut database = server.database().await;
    let tables: Vec<String> =
        sqlx::query_scalar("select tablename::text from pg_tables where schemaname = 'read_models' order by 1")
            .fetch_all(&mut database)
            .await
            .unwrap();
    assert!(tables.len() >= 15, "{tables:?}");
    let uuid_of = |text: &str| text.parse::<domain::ids::WorkspaceId>().unwrap().0;
    let (hers, his) = (uuid_of(maria.workspace()), uuid_of(jonas.workspace()));
    let relations: Vec<String> =
        tables.iter().map(|table| format!("read_models.{table}")).chain(["log.tenant_events".into()]).collect();
    let mut filled = 0;
    sqlx::query("set role apiq_api").execute(&mut database).await.unwrap();
    for relation in &relations {
        let count = format!("select count(*), count(*) filter (where workspace_id <> $1) from {relation}");
        for (workspace, sees) in [(None, false), (Some(his), false), (Some(hers), true)] {
            let setting = workspace.map(|id| id.to_string()).unwrap_or_default();
            sqlx::query("select set_config('apiq.workspace_id', $1, false)")
                .bind(setting)
                .execute(&mut database)
                .await
                .unwrap();
            let owner = workspace.unwrap_or(hers);
            let (all, foreign): (i64, i64) = sqlx::query_as(&count).bind(owner).fetch_one(&mut database).await.unwrap();
            assert_eq!(foreign, 0, "{relation}");
            assert!(workspace.is_some() || all == 0, "{relation}: {all} rows without a tenant");
            filled += usize::from(sees && all > 0);
        }
    }
    assert!(filled >= 14, "only {filled} of {} relations had rows to protect", relations.len());
    for forbidden in ["log.events", "vault.data_keys", "vault.credential_values", "log.blobs"] {
        let refused = sqlx::query(&format!("select 1 from {forbidden}")).fetch_optional(&mut database).await;
        assert!(refused.is_err(), "the API's role reads {forbidden}");
    }
    server.finish().await;
}
