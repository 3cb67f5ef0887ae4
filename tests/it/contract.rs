//! What holds for every route: bad requests, ids, pages, headers, idempotency, freshness, documents without internet.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::client::id;
use crate::support::{Client, Server};

const JSON: &str = "application/json";

async fn raw(client: &Client, path: &str, kind: &str, body: impl Into<Vec<u8>>) -> crate::support::Answer {
    client.send_raw(Method::POST, &format!("/api/v1{path}"), Some((kind.to_owned(), body.into()))).await
}

fn plain(name: &str) -> Value {
    json!({ "name": name, "steps": [{ "id": "one", "type": "transform", "output": { "a": 1 } }] })
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_get_the_one_shape() {
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let client = &maria.client;

    // A body that is no JSON, with the place; other encodings of nonsense.
    let broken = raw(client, "/workflows", JSON, "{\"name\": \"x\",\n  nonsense}").await;
    let sentence = broken.refused(400, "MALFORMED_JSON")["error"].as_str().unwrap().to_owned();
    assert!(sentence.contains("line 2"), "{sentence}");
    for bad in [&b"\xff\xfe\x00"[..], b"{\"name\":", b"null null", b"{\"name\":\"\xc3\x28\"}"] {
        raw(client, "/workflows", JSON, bad).await.refused(400, "MALFORMED_JSON");
    }
    raw(client, "/workflows", JSON, "[1]").await.refused(422, "VALIDATION_ERROR");
    raw(client, "/workflows", "text/plain", "{}").await.refused(415, "UNSUPPORTED_MEDIA_TYPE");
    raw(client, "/workflows", "application/xml", "<a/>").await.refused(415, "UNSUPPORTED_MEDIA_TYPE");
    let deep = format!("{{\"name\":\"x\",\"steps\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    raw(client, "/workflows", JSON, deep).await.refused(422, "VALIDATION_ERROR");
    let large = format!("{{\"name\":\"{}\"}}", "x".repeat(3 << 20));
    raw(client, "/workflows", JSON, large).await.refused(413, "PAYLOAD_TOO_LARGE");
    let huge = format!("{{\"name\":\"x\",\"spec\":\"{}\"}}", "x".repeat(60 << 20));
    raw(client, "/connections", JSON, huge).await.refused(413, "PAYLOAD_TOO_LARGE");

    // Unknown fields, all of them; older spellings are unknown too.
    let wrong = json!({ "name": 5, "colour": "red", "workspaceId": maria.workspace(), "steps": {}, "created_at": "x" });
    let answer = client.post("/workflows", wrong).await;
    answer.refused(422, "VALIDATION_ERROR");
    let fields = answer.fields();
    let expected = ["name", "colour", "workspaceId", "steps", "created_at"];
    assert!(expected.iter().all(|field| fields.contains(field)), "{fields:?}");

    // Ids: of the wrong kind and malformed are 422, unknown ones 404.
    for bad in ["wf_01h455vb4pex5vsknk084sn02q", "conn_short", "conn_81h455vb4pex5vsknk084sn02q", "1", "conn_%00"] {
        client.get(&format!("/connections/{bad}")).await.names(&["id"]);
    }
    client.get("/connections/conn_01h455vb4pex5vsknk084sn02q").await.refused(404, "CONNECTION_NOT_FOUND");
    client.get("/workflows/wf_01h455vb4pex5vsknk084sn02q").await.refused(404, "WORKFLOW_NOT_FOUND");
    client.get("/executions/exec_01h455vb4pex5vsknk084sn02q").await.refused(404, "EXECUTION_NOT_FOUND");
    client.get("/webhooks/hook_01h455vb4pex5vsknk084sn02q").await.refused(404, "WEBHOOK_NOT_FOUND");
    client.get("/executions?workflowId=conn_01h455vb4pex5vsknk084sn02q").await.names(&["workflowId"]);

    // Routes and methods.
    client.get("/nothing").await.refused(404, "RESOURCE_NOT_FOUND");
    server.anonymous().get("/nothing/at/all").await.refused(404, "RESOURCE_NOT_FOUND");
    client.put("/auth/me", json!({})).await.refused(405, "METHOD_NOT_ALLOWED");
    client.send(Method::DELETE, "/workflows", None).await.refused(405, "METHOD_NOT_ALLOWED");

    // Queries.
    let wrong = "/workflows?page=0&limit=101&sort=colour&colour=red&createdAfter=soon&status=asleep";
    client.get(wrong).await.names(&["page", "limit", "sort", "colour", "createdAfter", "status"]);
    client.get("/workflows?cursor=nonsense").await.names(&["cursor"]);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_have_pages_and_cursors() {
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let client = &maria.client;
    for n in 1..=7 {
        client.workflow(plain(&format!("flow {n}"))).await;
    }
    let first = client.get("/workflows?limit=3").await.data(200);
    let names = |page: &Value| -> Vec<String> {
        let list = page["workflows"].as_array().unwrap();
        list.iter().map(|flow| flow["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&first), ["flow 7", "flow 6", "flow 5"], "newest first");
    let pagination = &first["pagination"];
    assert_eq!((&pagination["total"], &pagination["totalPages"]), (&json!(7), &json!(3)));
    assert_eq!((&pagination["hasNext"], &pagination["hasPrev"]), (&json!(true), &json!(false)));
    let by_page = client.get("/workflows?limit=3&page=2").await.data(200);
    let cursor = pagination["nextCursor"].as_str().unwrap();
    let by_cursor = client.get(&format!("/workflows?limit=3&cursor={cursor}")).await.data(200);
    assert_eq!(names(&by_page), ["flow 4", "flow 3", "flow 2"]);
    assert_eq!(names(&by_cursor), names(&by_page));
    let back = by_cursor["pagination"]["prevCursor"].as_str().unwrap();
    assert_eq!(names(&client.get(&format!("/workflows?limit=3&cursor={back}")).await.data(200)), names(&first));
    let last = client.get("/workflows?limit=3&page=3").await.data(200);
    assert_eq!((names(&last), &last["pagination"]["hasNext"]), (vec!["flow 1".to_owned()], &json!(false)));
    let sorted = client.get("/workflows?sort=name&limit=2").await.data(200);
    assert_eq!(names(&sorted), ["flow 1", "flow 2"]);
    let found = client.get("/workflows?search=flow+4").await.data(200);
    assert_eq!(names(&found), ["flow 4"]);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_write_is_answered_again_and_done_once() {
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let keyed = maria.client.header("idempotency-key", "first");

    let made = keyed.post("/workflows", plain("once")).await;
    let again = keyed.post("/workflows", plain("once")).await;
    assert_eq!((made.status, &made.body), (201, &again.body));
    assert_eq!((again.status, again.header("idempotency-replayed")), (201, Some("true")));
    assert_eq!(made.header("idempotency-replayed"), None);
    let quoted = maria.client.header("idempotency-key", "\"first\"");
    assert_eq!(quoted.post("/workflows", plain("once")).await.body, made.body, "quoted is the same key");
    keyed.post("/workflows", plain("twice")).await.refused(422, "IDEMPOTENCY_CONFLICT");
    assert_eq!(maria.client.get("/workflows").await.data(200)["pagination"]["total"], 1);

    // An error is the first answer as well, and another workspace's key is another key.
    let bad = maria.client.header("idempotency-key", "bad");
    let refused = bad.post("/workflows", json!({ "name": "x", "steps": [] })).await;
    let again = bad.post("/workflows", json!({ "name": "x", "steps": [] })).await;
    assert_eq!((refused.status, again.status, again.header("idempotency-replayed")), (422, 422, Some("true")));
    let jonas = server.account("jonas").await;
    let other = jonas.client.header("idempotency-key", "first").post("/workflows", plain("twice")).await;
    assert_eq!((other.status, other.header("idempotency-replayed")), (201, None));

    // A key that is shown once is not shown twice.
    let body = json!({ "name": "ci", "role": "viewer" });
    let keys = maria.client.header("idempotency-key", "a key");
    let shown = keys.post("/api-keys", body.clone()).await.data(201);
    let hidden = keys.post("/api-keys", body).await.data(201);
    assert!(shown["key"].is_string() && hidden.get("key").is_none(), "{hidden}");
    assert_eq!(shown["id"], hidden["id"]);

    // Many at once: one is done.
    let racing = maria.client.header("idempotency-key", "race");
    let answers = futures::future::join_all((0..10).map(|_| racing.post("/workflows", plain("race")))).await;
    for answer in &answers {
        assert!([201, 409].contains(&answer.status), "{}: {}", answer.asked, answer.text);
    }
    let done = maria.client.get("/workflows?search=race").await.data(200);
    assert_eq!(done["pagination"]["total"], 1, "{done}");

    maria
        .client
        .header("idempotency-key", &"x".repeat(256))
        .post("/workflows", plain("long"))
        .await
        .names(&["Idempotency-Key"]);

    // An execution started twice with one key is one execution.
    let workflow = id(&made.data(201)).to_owned();
    let start = maria.client.header("idempotency-key", "run");
    let path = format!("/workflows/{workflow}/execute");
    let first = start.post(&path, json!({ "input": {} })).await.data(202);
    let second = start.post(&path, json!({ "input": {} })).await.data(202);
    assert_eq!(first["executionId"], second["executionId"]);
    maria.client.ended(first["executionId"].as_str().unwrap(), std::time::Duration::from_secs(30)).await;
    let listed = maria.client.get(&format!("/executions?workflowId={workflow}")).await.data(200);
    assert_eq!(listed["pagination"]["total"], 1);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kept_answers_are_sealed_and_sessions_keep_none() {
    const KEPT: &str = "select response from log.idempotency_keys where key = $1";
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let mut database = server.database().await;

    let keyed = maria.client.header("idempotency-key", "sealed");
    let made = keyed.post("/workflows", plain("canary-of-the-answer")).await;
    made.data(201);
    assert!(made.text.contains("canary-of-the-answer"));
    let kept: String = sqlx::query_scalar(KEPT).bind("sealed").fetch_one(&mut database).await.unwrap();
    for part in ["canary-of-the-answer", "success", "wf_"] {
        assert!(!kept.contains(part), "{part} can be read: {kept}");
    }
    let again = keyed.post("/workflows", plain("canary-of-the-answer")).await;
    assert_eq!((again.status, &again.body, again.header("idempotency-replayed")), (201, &made.body, Some("true")));

    // An answer that cannot be opened any more is refused, and the write is not done again.
    for damaged in [made.text.clone(), kept.replacen("\"c\":\"", "\"c\":\"AAAA", 1)] {
        assert_ne!(damaged, kept);
        let change = "update log.idempotency_keys set response = $1 where key = 'sealed'";
        assert_eq!(sqlx::query(change).bind(&damaged).execute(&mut database).await.unwrap().rows_affected(), 1);
        let lost = keyed.post("/workflows", plain("canary-of-the-answer")).await;
        lost.refused(409, "IDEMPOTENCY_CONFLICT");
        assert_eq!(lost.header("retry-after"), None, "asking again does not help");
    }
    assert_eq!(maria.client.get("/workflows").await.data(200)["pagination"]["total"], 1);

    // Tokens are never kept, whoever asks with which credentials.
    let session = maria.client.header("idempotency-key", "session");
    let refreshed = session.post("/auth/refresh", json!({ "refreshToken": maria.refresh })).await;
    assert!(refreshed.data(200)["refreshToken"].is_string());
    let login = json!({ "email": maria.email, "password": maria.password });
    let first = session.post("/auth/login", login.clone()).await;
    let second = session.post("/auth/login", login).await;
    assert_ne!(first.data(200)["refreshToken"], second.data(200)["refreshToken"]);
    let other = json!({ "email": "third@example.com", "password": "correct horse battery", "name": "third" });
    session.post("/auth/register", other).await.data(201);
    let rows: i64 = sqlx::query_scalar("select count(*) from log.idempotency_keys where key = 'session'")
        .fetch_one(&mut database)
        .await
        .unwrap();
    assert_eq!(rows, 0);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_a_connection_with_a_credential_needs_more() {
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let member = maria.with_role("member").await;
    let bare = json!({ "name": "bare", "baseUrl": "http://127.0.0.1:9" });
    let auth = json!({ "token": "canary-token" });
    let with_credential =
        json!({ "name": "secret", "baseUrl": "http://127.0.0.1:9", "authType": "bearer", "authConfig": auth });

    let bare = maria.client.post("/connections", bare).await.data(201);
    assert_eq!(member.delete(&format!("/connections/{}", id(&bare))).await.status, 200);
    let path = format!("/connections/{}", id(&maria.client.post("/connections", with_credential).await.data(201)));
    member.delete(&path).await.refused(403, "FORBIDDEN");
    member.get(&path).await.data(200);
    assert_eq!(maria.client.delete(&path).await.status, 200);
    member.delete(&path).await.refused(404, "CONNECTION_NOT_FOUND");
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_can_be_read() {
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let auditor = maria.with_role("auditor").await;

    // By the writer at once; by anybody who sends the position back.
    for n in 0..20 {
        let written = maria.client.post("/workflows", plain(&format!("flow {n}"))).await;
        let position = written.header("x-event-position").expect("a write tells its position").to_owned();
        let made = written.data(201);
        maria.client.get(&format!("/workflows/{}", id(&made))).await.data(200);
        let seen = auditor.header("x-event-position", &position).get(&format!("/workflows/{}", id(&made))).await;
        assert_eq!(seen.data(200)["name"], made["name"]);
    }
    auditor.header("x-event-position", "soon").get("/workflows").await.names(&["X-Event-Position"]);
    // A position that the log will not reach soon: rather no answer than a stale one.
    let far = auditor.header("x-event-position", "1-99999999-99999999").get("/workflows").await;
    far.refused(503, "SERVICE_UNAVAILABLE");
    assert!(far.header("retry-after").is_some());

    // Versions: an old one is refused, and nothing is changed.
    let made = maria.client.post("/workflows", plain("versioned")).await;
    let path = format!("/workflows/{}", id(&made.data(201)));
    let tag = maria.client.get(&path).await.header("etag").unwrap().to_owned();
    let fresh = maria.client.header("if-match", &tag);
    let changed = fresh.patch(&path, json!({ "name": "second name" })).await;
    assert_eq!(changed.data(200)["name"], "second name");
    fresh.patch(&path, json!({ "name": "third name" })).await.refused(409, "CONFLICT");
    assert_eq!(maria.client.get(&path).await.data(200)["name"], "second name");
    maria.client.header("if-match", "nonsense").patch(&path, json!({ "name": "x" })).await.names(&["If-Match"]);
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_and_documents() {
    let server = Server::start().await;
    let maria = server.account("maria").await;

    let answer = maria.client.header("x-request-id", "my-own-id").get("/connections").await;
    assert_eq!(answer.header("x-request-id"), Some("my-own-id"));
    for name in ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset", "x-ratelimit-window"] {
        assert!(answer.header(name).is_some_and(|text| text.parse::<u64>().is_ok()), "{name}");
    }
    for (name, value) in
        [("x-content-type-options", "nosniff"), ("x-frame-options", "DENY"), ("cache-control", "no-store")]
    {
        assert_eq!(answer.header(name), Some(value));
    }
    let injected = maria.client.header("x-request-id", "two words").get("/connections").await;
    assert!(injected.header("x-request-id").unwrap().starts_with("req_"));
    let foreign = maria.client.header("origin", "https://evil.example").get("/connections").await;
    assert_eq!(foreign.header("access-control-allow-origin"), None);

    // The document and the page that shows it, without internet.
    let guest = server.anonymous();
    let document = guest.get("/openapi").await;
    assert_eq!(document.status, 200);
    let openapi = &document.body["openapi"];
    assert!(openapi.as_str().is_some_and(|version| version.starts_with("3.")), "{openapi}");
    assert_eq!(guest.send_raw(Method::GET, "/openapi.json", None).await.body, document.body);
    let page = guest.send_raw(Method::GET, "/docs", None).await;
    let page = match page.status {
        301..=308 => guest.send_raw(Method::GET, page.header("location").unwrap(), None).await,
        _ => page,
    };
    assert!(page.status == 200 && page.text.contains("swagger") && page.text.contains("createConnection"));
    let from_elsewhere = ["src=\"http", "href=\"http", "src=\"//", "@import"].map(|part| page.text.contains(part));
    assert_eq!(from_elsewhere, [false; 4], "the page loads something from elsewhere");
    for (path, item) in document.body["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let shown = format!("{method} {path}");
            assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()), "{shown}: no summary");
            assert!(operation["operationId"].is_string() && operation["security"].is_array(), "{shown}");
            let responses = operation["responses"].as_object().unwrap();
            assert!(responses.keys().any(|status| status.starts_with(['2', '3'])), "{shown}: no success");
            assert!(responses.contains_key("500"), "{shown}: no error");
            if operation["security"] != json!([]) {
                assert!(responses.contains_key("401") && responses.contains_key("403"), "{shown}: its refusals");
            }
        }
    }
    // We can connect our own document.
    let own = json!({ "name": "ourselves", "spec": document.body, "baseUrl": "http://127.0.0.1:9" });
    let own = maria.client.connect(own).await;
    assert!(own["endpointCount"].as_u64().unwrap() > 40 && own["warningCount"] == json!(0), "{own}");
    server.finish().await;
}
