//! Refreshes by hand and by schedule: what changed, what breaks, whom it concerns; and every version that was.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::client::id;
use crate::support::{Client, Ledger, Reply, Server, ledger, until};

const PATIENCE: Duration = Duration::from_secs(60);

/// The ledger's document with another `GET /items/{itemId}`: a parameter is required, a field is gone.
fn changed() -> Value {
    let mut document = ledger::document("/");
    let item = &mut document["paths"]["/items/{itemId}"]["get"];
    item["parameters"][1]["required"] = json!(true);
    let schema = &mut item["responses"]["200"]["content"]["application/json"]["schema"];
    schema["properties"].as_object_mut().unwrap().remove("label");
    document["paths"]["/parcels"] = json!({ "get": { "operationId": "listParcels", "responses": {} } });
    document
}

async fn calling(client: &Client, connection: &Value, operation: &str, path: Value) -> String {
    let step = json!({ "id": "call", "type": "api_call", "connectionId": id(connection), "operationId": operation,
        "path": path, "timeout": "60s" });
    client.workflow(json!({ "name": operation, "steps": [step] })).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_tells_what_breaks_and_whom_it_concerns() {
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let client = &maria.client;
    let ledger = Ledger::start(Duration::ZERO).await;
    let spec_url = format!("{}/openapi.json", ledger.url());
    let connection = client.connect(json!({ "name": "ledger", "specUrl": spec_url })).await;
    let path = format!("/connections/{}", id(&connection));

    // Two call what will change: one by its present version, one by an earlier one that still runs.
    let affected = calling(client, &connection, "getItem", json!({ "itemId": "1" })).await;
    let moved_on = calling(client, &connection, "getItem", json!({ "itemId": "2" })).await;
    let other = calling(client, &connection, "listItems", json!({})).await;
    ledger.stub.script("GET /items/2", [Reply::Hang]);
    let started = client.post(&format!("/workflows/{moved_on}/execute"), json!({ "input": {} })).await.data(202);
    let running = started["executionId"].as_str().unwrap().to_owned();
    let plain = json!({ "steps": [{ "id": "one", "type": "transform", "output": { "a": 1 } }] });
    client.patch(&format!("/workflows/{moved_on}"), plain).await.data(200);
    assert_eq!(client.execute(&affected, json!({})).await["status"], "completed", "one that has ended");

    ledger.stub.script("GET /openapi.json", [Reply::json(200, &changed())]);
    let told = client.post(&format!("{path}/refresh"), json!({})).await.data(200);
    assert_eq!((&told["specChanged"], &told["documentVersion"]), (&json!(true), &json!(2)), "{told}");
    assert_eq!((&told["newEndpoints"], &told["endpointsUpdated"]), (&json!(1), &json!(1)), "{told}");
    assert_eq!((&told["removedEndpoints"], &told["breakingCount"]), (&json!(0), &json!(2)), "{told}");
    let breaking = json!([
        "GET /items/{itemId}: query parameter `colour` is now required (breaking)",
        "GET /items/{itemId}: response 200, property `label` is gone (breaking)",
    ]);
    assert_eq!(told["breakingChanges"], breaking);
    let workflow = json!([{ "id": affected, "name": "getItem", "version": 1, "operations": ["GET /items/{itemId}"] }]);
    assert_eq!(told["affectedWorkflows"], workflow, "neither {moved_on} nor {other}");
    assert_eq!(told["runningExecutions"], json!([running]));
    assert!(told["responseTime"].is_u64());

    // The event says the same, and so does the connection.
    let logs =
        client.get(&format!("/logs?resource={}&action=connection.spec_refreshed", id(&connection))).await.data(200);
    let event = logs["logs"][0].to_string();
    assert!(event.contains(&affected) && event.contains(&running) && event.contains("property `label`"), "{event}");
    let shown = client.get(&path).await.data(200);
    assert_eq!(shown["changes"]["affectedWorkflows"], workflow);

    // Only texts: nobody is affected. And whoever does not wait is told later.
    let mut texts = changed();
    texts["paths"]["/items/{itemId}"]["get"]["summary"] = json!("Read an item");
    ledger.stub.script("GET /openapi.json", [Reply::json(200, &texts)]);
    let told = client.post(&format!("{path}/refresh?wait=30s"), json!({})).await.data(200);
    assert_eq!((&told["endpointsUpdated"], &told["affectedWorkflows"]), (&json!(1), &json!([])), "{told}");
    assert!(told["changes"][0]["breaking"] == json!(false), "{told}");
    ledger.stub.script("GET /openapi.json", [Reply::Late(Duration::from_secs(1), Box::new(Reply::json(200, &texts)))]);
    let under_way = client.post(&format!("{path}/refresh?wait=0s"), json!({})).await.data(202);
    assert!(["PENDING", "RUNNING"].contains(&under_way["ingestionStatus"].as_str().unwrap()), "{under_way}");
    client.ingested(id(&connection)).await;
    client.post(&format!("{path}/refresh?wait=soon&colour=red"), json!({})).await.names(&["wait", "colour"]);
    client.post(&format!("/executions/{running}/cancel"), json!({})).await.data(200);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_version_can_be_read_and_compared() {
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let client = &maria.client;
    let first = format!("# to the byte\n{}\n", ledger::document("/"));
    let connection = client.connect(json!({ "name": "ledger", "spec": first })).await;
    let path = format!("/connections/{}", id(&connection));
    let member = maria.with_role("member").await;
    let second = changed().to_string();
    member.post(&format!("{path}/refresh"), json!({ "spec": second })).await.data(200);
    client.post(&format!("{path}/refresh"), json!({ "spec": first })).await.data(200);

    let history = client.get(&format!("{path}/history")).await.data(200);
    let versions = history["history"].as_array().unwrap();
    let numbers: Vec<_> = versions.iter().map(|v| v["version"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [3, 2, 1], "newest first; the first document again is a version too");
    assert_eq!(versions[0]["hash"], versions[2]["hash"]);
    assert_eq!((&versions[1]["endpointCount"], &versions[1]["breaking"]), (&json!(5), &json!(2)), "{history}");
    let asked = |n: usize| versions[n]["askedBy"]["kind"].as_str().unwrap().to_owned();
    assert_eq!((asked(2), asked(1)), ("user".to_owned(), "api_key".to_owned()), "{history}");
    assert_eq!(versions[1]["askedBy"]["scheduled"], false);

    // The documents themselves.
    let text = async |query: &str| client.get(&format!("{path}/spec{query}")).await.data(200)["document"].clone();
    assert_eq!((text("").await, text("?version=2").await), (json!(first), json!(second)));
    client.get(&format!("{path}/spec?version=4")).await.refused(404, "RESOURCE_NOT_FOUND");
    client.get(&format!("{path}/spec?version=0")).await.names(&["version"]);

    // Any two, in either direction; the last two when nothing is said.
    let diff = async |query: &str| client.get(&format!("{path}/history/diff{query}")).await.data(200);
    let there = diff("?from=1&to=2").await;
    assert_eq!((&there["added"], &there["breakingCount"]), (&json!(["GET /parcels"]), &json!(2)), "{there}");
    assert_eq!(there["changed"], json!(["GET /items/{itemId}"]));
    let back = diff("?from=2&to=1").await;
    assert_eq!((&back["removed"], &back["breakingCount"]), (&json!(["GET /parcels"]), &json!(1)), "{back}");
    let last = diff("").await;
    assert_eq!((&last["from"], &last["to"], &last["changes"]), (&json!(2), &json!(3), &back["changes"]));
    assert_eq!(diff("?from=1&to=3").await["changes"], json!([]));
    client.get(&format!("{path}/history/diff?from=1&to=9")).await.refused(404, "RESOURCE_NOT_FOUND");
    client.get(&format!("{path}/history/diff?from=x&to=0")).await.names(&["from", "to"]);
    let plain = client.connect(json!({ "name": "plain", "baseUrl": "http://127.0.0.1:9" })).await;
    for part in ["spec", "history/diff"] {
        client.get(&format!("/connections/{}/{part}", id(&plain))).await.refused(404, "RESOURCE_NOT_FOUND");
    }
    let none = client.get(&format!("/connections/{}/history", id(&plain))).await.data(200);
    assert_eq!(none["history"], json!([]));
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schedule_asks_and_backs_off() {
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let client = &maria.client;
    let mut database = server.database().await;
    let ledger = Ledger::start(Duration::ZERO).await;
    let spec_url = format!("{}/openapi.json", ledger.url());
    let connection = client.connect(json!({ "name": "ledger", "specUrl": spec_url })).await;
    let path = format!("/connections/{}", id(&connection));
    assert_eq!((&connection["refreshInterval"], connection.get("nextRefreshAt")), (&json!(0), None), "off by default");

    // Set, and refused where it makes no sense.
    let hours_until = |shown: &Value| {
        let next = shown["nextRefreshAt"].as_str().unwrap_or_else(|| panic!("{shown}"));
        let since = shown["updatedAt"].as_str().unwrap();
        let at = |text: &str| chrono::DateTime::parse_from_rfc3339(text).unwrap();
        (at(next) - at(since)).num_minutes() as f64 / 60.0
    };
    let set = client.patch(&path, json!({ "refreshInterval": 24 })).await.data(200);
    assert!((21.5..=26.5).contains(&hours_until(&set)), "a day, a tenth more or less: {set}");
    client.patch(&path, json!({ "refreshInterval": 8761 })).await.names(&["refreshInterval"]);
    client.patch(&path, json!({ "refreshInterval": -1 })).await.names(&["refreshInterval"]);
    let upload = client.connect(ledger.connection("uploaded")).await;
    let upload = format!("/connections/{}", id(&upload));
    client.patch(&upload, json!({ "refreshInterval": 24 })).await.names(&["refreshInterval"]);
    client.patch(&upload, json!({ "refreshInterval": 0 })).await.data(200);

    // Due: it is asked for once, by the service itself.
    let mut due = async || {
        let sql = "update read_models.connections set next_refresh_at = now() where refresh_interval > 0";
        assert_eq!(sqlx::query(sql).execute(&mut database).await.unwrap().rows_affected(), 1);
    };
    ledger.stub.script("GET /openapi.json", [Reply::json(200, &changed())]);
    due().await;
    until("the schedule asks", PATIENCE, async || {
        let shown = client.get(&path).await.data(200);
        (shown["documentVersion"] == json!(2)).then_some(())
    })
    .await;
    let history = client.get(&format!("{path}/history")).await.data(200);
    let asked = &history["history"][0]["askedBy"];
    assert_eq!((&asked["kind"], &asked["scheduled"]), (&json!("system"), &json!(true)), "{history}");

    // A server that is down: what was there stays, the event says why, and it is tried again soon.
    // It is asked three times in one refresh, some tenths of a second apart.
    ledger.stub.script("GET /openapi.json", [(); 3].map(|()| Reply::json(503, &json!({}))));
    due().await;
    let failed = until("the failure is shown", PATIENCE, async || {
        let shown = client.get(&path).await.data(200);
        (shown["refreshFailures"] == json!(1)).then_some(shown)
    })
    .await;
    assert_eq!((&failed["endpointCount"], &failed["documentVersion"]), (&json!(5), &json!(2)), "{failed}");
    assert!((0.2..=0.3).contains(&hours_until(&failed)), "a quarter of an hour: {failed}");
    let logs = client.get(&format!("/logs?resource={}&action=connection.ingestion_failed", id(&connection))).await;
    assert!(logs.text.contains("503"), "{}", logs.text);
    let requested =
        client.get(&format!("/logs?resource={}&action=connection.refresh_requested", id(&connection))).await;
    assert_eq!(requested.data(200)["logs"].as_array().unwrap().len(), 2, "each was asked for once");
    let off = client.patch(&path, json!({ "refreshInterval": 0 })).await.data(200);
    assert_eq!(off.get("nextRefreshAt"), None, "{off}");
    server.finish().await;
}
