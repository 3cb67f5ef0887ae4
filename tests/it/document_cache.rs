//! Fetched documents: asked for once, revalidated, bounded, each workspace's own; and servers that misbehave.

use std::collections::HashMap;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::PgConnection;

use crate::support::client::id;
use crate::support::{Account, Reply, Seen, Server, Stub, ledger};

/// A page with validators, as careful servers have it.
struct Page {
    stub: Stub,
    /// ETag and document.
    now: Arc<Mutex<(String, Value)>>,
}

impl Page {
    async fn start() -> Page {
        let now = Arc::new(Mutex::new(("\"one\"".to_owned(), ledger::document("/"))));
        let shared = now.clone();
        let stub = Stub::start(move |seen: &Seen| {
            let (etag, document) = shared.lock().unwrap().clone();
            if seen.header("if-none-match") == Some(etag.as_str()) {
                return Reply::of(304, "text/plain", "").with("etag", &etag);
            }
            Reply::json(200, &document).with("etag", &etag).with("last-modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        })
        .await;
        Page { stub, now }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.stub.url())
    }

    fn set(&self, etag: &str, document: Option<Value>) {
        let mut now = self.now.lock().unwrap();
        now.0 = etag.to_owned();
        now.1 = document.unwrap_or_else(|| now.1.clone());
    }

    /// For each request so far: was it a conditional one?
    fn asked(&self) -> Vec<bool> {
        self.stub.seen().iter().map(|seen| seen.header("if-none-match").is_some()).collect()
    }
}

async fn connect(account: &Account, name: &str, url: &str) -> Value {
    account.client.connect(json!({ "name": name, "specUrl": url })).await
}

async fn via(account: &Account, connection: &Value) -> Vec<String> {
    let history = account.client.get(&format!("/connections/{}/history", id(connection))).await.data(200);
    history["history"].as_array().unwrap().iter().map(|v| v["via"].as_str().unwrap().to_owned()).collect()
}

async fn events(database: &mut PgConnection, event_type: &str) -> Vec<Value> {
    let payloads: Vec<String> =
        sqlx::query_scalar("select payload::text from log.events where event_type = $1 order by position")
            .bind(event_type)
            .fetch_all(database)
            .await
            .unwrap();
    payloads.iter().map(|text| serde_json::from_str(text).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_is_fetched_once_and_revalidated() {
    let server = Server::start().await;
    let (maria, jonas) = (server.account("maria").await, server.account("jonas").await);
    let mut database = server.database().await;
    let page = Page::start().await;
    let url = page.url("/openapi.json");

    // Within its time to live one request is enough, for one workspace.
    let first = connect(&maria, "first", &url).await;
    let second = connect(&maria, "second", &url).await;
    assert_eq!(page.asked(), [false]);
    assert_eq!((via(&maria, &first).await, via(&maria, &second).await), (vec!["fetched".into()], vec!["cache".into()]));
    connect(&jonas, "his", &url).await;
    assert_eq!(page.asked(), [false, false], "what another workspace has fetched is not told");

    // A refresh always asks; what has not changed is no new version, whatever its ETag.
    let refresh = format!("/connections/{}/refresh", id(&first));
    let same = maria.client.post(&refresh, json!({})).await.data(200);
    assert_eq!((&same["specChanged"], &same["documentVersion"]), (&json!(false), &json!(1)), "{same}");
    page.set("\"two\"", None);
    let same = maria.client.post(&refresh, json!({})).await.data(200);
    assert_eq!((&same["specChanged"], &same["endpointsUpdated"]), (&json!(false), &json!(0)), "{same}");
    assert_eq!(page.asked(), [false, false, true, true]);
    let mut smaller = ledger::document("/");
    smaller["paths"].as_object_mut().unwrap().remove("/letters");
    page.set("\"three\"", Some(smaller));
    let other = maria.client.post(&refresh, json!({})).await.data(200);
    assert_eq!((&other["specChanged"], &other["removedEndpoints"]), (&json!(true), &json!(1)), "{other}");
    let unchanged = events(&mut database, "connection.spec_unchanged").await;
    let vias: Vec<_> = unchanged.iter().map(|e| e["via"].as_str().unwrap()).collect();
    assert_eq!(vias, ["not_modified", "fetched"]);

    // Past its time to live the server is asked, and says that nothing has changed.
    let age = "update cache.documents set validated_at = now() - interval '25 hours'";
    sqlx::query(age).execute(&mut database).await.unwrap();
    let third = connect(&maria, "third", &url).await;
    assert_eq!(via(&maria, &third).await, ["not_modified"]);
    connect(&maria, "fourth", &url).await;
    assert_eq!(page.asked().len(), 6, "it is fresh again");
    // Every request is in the log, and nothing else.
    let fetches = events(&mut database, "connection.documents_fetched").await;
    let calls: Vec<&Value> = fetches.iter().flat_map(|e| e["calls"].as_array().unwrap()).collect();
    assert_eq!(calls.iter().map(|c| c["attempts"].as_u64().unwrap()).sum::<u64>(), 6, "{calls:?}");
    let statuses: Vec<_> = calls.iter().map(|c| c["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [200, 200, 304, 200, 200, 304]);
    assert!(calls.iter().all(|c| c["path"] == "/openapi.json" && c["method"] == "GET" && c.get("headers").is_none()));
    // A stale document is not taken for a fresh one.
    sqlx::query(age).execute(&mut database).await.unwrap();
    page.stub.script("GET /openapi.json", [Reply::Close, Reply::Close, Reply::Close, Reply::Close]);
    let down = maria.client.post("/connections", json!({ "name": "down", "specUrl": url })).await.data(201);
    let down = maria.client.ingested(id(&down)).await;
    let message = down["ingestionErrors"][0]["message"].as_str().unwrap();
    assert!(message.starts_with("Spec unreachable, see logs"), "{down}");

    // A server that wants nothing to be stored is heard.
    let secret = Reply::json(200, &ledger::document("/")).with("cache-control", "private, No-Store");
    page.stub.script("GET /secret.json", [secret.clone(), secret]);
    for name in ["a", "b"] {
        connect(&maria, name, &page.url("/secret.json")).await;
    }
    assert_eq!(page.stub.seen_at("GET /secret.json").len(), 2);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_sees_and_purges_its_own_entries() {
    let server = Server::start().await;
    let (maria, jonas) = (server.account("maria").await, server.account("jonas").await);
    let mut database = server.database().await;
    let page = Page::start().await;
    for path in ["/a.json", "/b.json", "/c.json"] {
        connect(&maria, path, &page.url(path)).await;
    }
    connect(&jonas, "his", &page.url("/a.json")).await;

    const CACHE: &str = "/admin/openapi-cache";
    let listed = maria.client.get(CACHE).await.data(200);
    let urls: Vec<_> = listed["documents"].as_array().unwrap().iter().map(|d| d["url"].clone()).collect();
    assert_eq!(urls, ["/c.json", "/b.json", "/a.json"].map(|path| json!(page.url(path))), "the last used first");
    let entry = &listed["documents"][0];
    assert_eq!((&entry["etag"], &entry["uses"]), (&json!("\"one\""), &json!(1)), "{entry}");
    assert!(entry["storedSize"].as_i64().unwrap() < entry["size"].as_i64().unwrap(), "compressed: {entry}");
    assert_eq!(listed["pagination"]["total"], 3);
    assert_eq!(
        maria.client.get(&format!("{CACHE}?limit=2&page=2")).await.data(200)["documents"],
        json!([listed["documents"][2]])
    );
    assert_eq!(jonas.client.get("/admin/spec-cache").await.data(200)["pagination"]["total"], 1);
    maria.client.get(&format!("{CACHE}?page=0&colour=red")).await.names(&["page", "colour"]);
    for role in ["manager", "member", "viewer", "auditor"] {
        let client = maria.with_role(role).await;
        client.get(CACHE).await.refused(403, "FORBIDDEN");
        client.delete(CACHE).await.refused(403, "FORBIDDEN");
    }

    // One URL, then all; the other workspace keeps its own.
    let one = format!("{CACHE}?url={}", page.url("/a.json"));
    assert_eq!(maria.client.delete(&one).await.data(200)["purged"], 1);
    maria.client.delete(&one).await.refused(404, "RESOURCE_NOT_FOUND");
    maria.client.get(CACHE).await.data(200);
    assert_eq!(maria.client.delete(CACHE).await.data(200)["purged"], 2);
    assert_eq!(maria.client.delete(CACHE).await.data(200)["purged"], 0);
    assert_eq!(jonas.client.get(CACHE).await.data(200)["pagination"]["total"], 1);
    let before = page.asked().len();
    connect(&maria, "again", &page.url("/b.json")).await;
    assert_eq!(page.asked().len(), before + 1);

    // Each look and each purge is in the log, with who did it.
    let purged = events(&mut database, "document_cache.purged").await;
    let counts: Vec<_> = purged.iter().map(|e| e["entries"].as_u64().unwrap()).collect();
    assert_eq!((counts, &purged[0]["url"]), (vec![1, 0, 2, 0], &json!(page.url("/a.json"))));
    assert_eq!(events(&mut database, "document_cache.listed").await.len(), 5);
    let logs = maria.client.get("/logs?action=document_cache.purged").await.data(200);
    assert_eq!(logs["logs"].as_array().unwrap().len(), 4, "{logs}");

    // What the database itself shows.
    sqlx::query("set role apiq_api").execute(&mut database).await.unwrap();
    let all: i64 = sqlx::query_scalar("select count(*) from cache.documents").fetch_one(&mut database).await.unwrap();
    assert_eq!(all, 0, "rows without a tenant");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_cache_lets_workspaces_take_turns() {
    let server = Server::start_with(&[("APIQ_SPEC_CACHE_MAX_COUNT", "3")]).await;
    let (maria, jonas) = (server.account("maria").await, server.account("jonas").await);
    let page = Page::start().await;
    connect(&jonas, "his", &page.url("/his.json")).await;
    for n in 1..=5 {
        connect(&maria, "hers", &page.url(&format!("/{n}.json"))).await;
    }
    let total = async |account: &Account| {
        account.client.get("/admin/openapi-cache").await.data(200)["pagination"]["total"].clone()
    };
    assert_eq!((total(&maria).await, total(&jonas).await), (json!(2), json!(1)), "who has many pushes out its own");
    let left = maria.client.get("/admin/openapi-cache").await.data(200);
    assert_eq!(left["documents"][1]["url"], page.url("/4.json"), "{left}");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_misbehave_are_cut_off_and_the_log_says_why() {
    let settings = [("APIQ_SPEC_TIMEOUT_SECONDS", "2"), ("APIQ_SPEC_MAX_BYTES", "500000")];
    let server = Server::start_with(&settings).await;
    let maria = server.account("maria").await;
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    bomb.write_all(&vec![b' '; 64 << 20]).unwrap();
    let bomb = bomb.finish().unwrap();
    assert!(bomb.len() < 100_000, "{}", bomb.len());
    let pages = HashMap::from([
        ("/slow", Reply::Trickle(Duration::from_secs(1))),
        ("/silent", Reply::Hang),
        ("/endless", Reply::Endless),
        ("/bomb", Reply::of(200, "application/json", bomb).with("content-encoding", "gzip")),
        ("/picture", Reply::of(200, "image/png", "\u{89}PNG")),
        ("/unasked", Reply::of(304, "application/json", "")),
        ("/busy", Reply::json(503, &json!({}))),
        ("/inside", Reply::of(302, "text/plain", "").with("location", "http://169.254.169.254/latest/meta-data")),
        ("/good", Reply::json(200, &ledger::document("/")).with("etag", "\"good\"")),
    ]);
    let web = Stub::start(move |seen| pages[seen.path.as_str()].clone()).await;
    for (path, why) in [
        ("/slow", "within 2000 ms"),
        ("/silent", "within 2000 ms"),
        ("/endless", "more than 500000 bytes"),
        ("/bomb", "more than 500000 bytes"),
        ("/picture", "image/png"),
        ("/unasked", "304"),
        ("/busy", "503"),
        ("/inside", "169.254.169.254"),
    ] {
        let began = Instant::now();
        let body = json!({ "name": path, "specUrl": format!("{}{path}", web.url()) });
        let created = maria.client.post("/connections", body).await.data(201);
        let failed = maria.client.ingested(id(&created)).await;
        let message = failed["ingestionErrors"][0]["message"].as_str().unwrap_or_default();
        assert!(message.starts_with("Spec unreachable, see logs: ") && message.contains(why), "{path}: {failed}");
        assert!(began.elapsed() < Duration::from_secs(20), "{path}: {:?}", began.elapsed());
        let logs = maria.client.get(&format!("/logs?resource={}", id(&created))).await.data(200);
        assert!(logs.to_string().contains(why), "{path}: {logs}");
        assert!(server.output().contains(why), "{path}: the service's own log does not say why");
    }

    // A refresh that fails says so, and keeps what was there.
    let good = connect(&maria, "good", &format!("{}/good", web.url())).await;
    let refresh = format!("/connections/{}/refresh", id(&good));
    web.script("GET /good", [Reply::Trickle(Duration::from_secs(1))]);
    let failed = maria.client.post(&refresh, json!({})).await;
    let refused = failed.refused(502, "API_CONNECTION_FAILED");
    assert_eq!(refused["error"], "Spec unreachable, see logs");
    assert!(refused["details"][0]["message"].as_str().unwrap().contains("within 2000 ms"), "{refused}");
    let kept = maria.client.get(&format!("/connections/{}", id(&good))).await.data(200);
    assert_eq!((&kept["endpointCount"], &kept["documentVersion"]), (&json!(4), &json!(1)), "{kept}");
    assert_eq!((&kept["ingestionStatus"], &kept["refreshFailures"]), (&json!("FAILED"), &json!(1)), "{kept}");
    web.script("GET /good", [Reply::of(200, "text/html", "<html>")]);
    maria.client.post(&refresh, json!({})).await.refused(502, "INTEGRATION_ERROR");
    maria.client.post(&refresh, json!({ "spec": "<html>" })).await.names(&["spec"]);
    server.finish().await;
}
