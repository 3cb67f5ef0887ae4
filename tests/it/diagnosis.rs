//! `POST connections/{id}/test` says in words what is wrong, with the real thing wrong each time.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::certificates::{self, Authority};
use crate::support::client::id;
use crate::support::keeper::free_port;
use crate::support::{Client, Reply, Server, Stub, ledger};

/// What a test of a connection says.
struct Said {
    test: Value,
    connection: Value,
}

async fn test(client: &Client, body: Value) -> Said {
    let connection = client.connect(body).await;
    let path = format!("/connections/{}", id(&connection));
    let test = client.post(&format!("{path}/test"), json!({})).await.data(200);
    Said { test, connection: client.get(&path).await.data(200) }
}

impl Said {
    /// The status, the word for programs, parts of the sentence, and the connection's health afterwards.
    fn is(&self, status: &str, problem: &str, parts: &[&str], health: &str) {
        let message = self.test["message"].as_str().unwrap();
        assert_eq!((&self.test["status"], &self.test["problem"]), (&json!(status), &json!(problem)), "{}", self.test);
        assert!(parts.iter().all(|part| message.contains(part)), "{parts:?} in {message:?}");
        assert_eq!(self.connection["health"], health, "{message}");
        assert_eq!(self.connection["lastTest"]["message"], message, "{}", self.connection);
    }
}

fn plain(url: &str) -> Value {
    json!({ "name": url, "baseUrl": url })
}

fn with_token(mut body: Value) -> Value {
    body["authType"] = json!("bearer");
    body["authConfig"] = json!({ "token": "canary-token" });
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_connection_is_said_in_words() {
    let server = Server::start().await;
    let maria = server.account("maria").await;
    let client = &maria.client;
    let says = async |reply: Reply| {
        let stub = Stub::start(move |_| reply.clone()).await;
        let body = json!({ "name": "stub", "spec": ledger::document(stub.url()) });
        (stub, body)
    };
    let json = |status| Reply::json(status, &json!({ "a": 1 }));

    let unknown = test(client, plain("http://api.nowhere.invalid")).await;
    unknown.is("failed", "dns", &["api.nowhere.invalid", "not known", "slip of the pen"], "unreachable");
    let port = free_port();
    let refused = test(client, plain(&format!("http://127.0.0.1:{port}"))).await;
    refused.is("failed", "refused", &["refuses connections", &port.to_string()], "unreachable");
    assert!(refused.connection["healthReason"].as_str().unwrap().starts_with("a test: "), "{}", refused.connection);

    for (status, credential, result, problem, parts, health) in [
        (401, true, "failed", "unauthorised", "not accepted; store a new one", "credential_expired"),
        (401, false, "failed", "unauthorised", "wants a credential", "healthy"),
        (403, true, "failed", "forbidden", "not allowed", "healthy"),
        (500, false, "failed", "server_error", "fault of its own", "degraded"),
        (429, false, "success", "rate_limited", "limits its callers", "degraded"),
    ] {
        let (_stub, body) = says(json(status)).await;
        let said = test(client, if credential { with_token(body) } else { body }).await;
        said.is(result, problem, &[parts, &status.to_string()], health);
    }
    let (_stub, body) = says(json(429).with("retry-after", "30")).await;
    test(client, body).await.is("success", "rate_limited", &["another 30 s"], "degraded");
    let (_stub, body) = says(json(422)).await;
    let said = test(client, body).await;
    assert_eq!((&said.test["status"], &said.test["problem"]), (&json!("success"), &Value::Null), "{}", said.test);

    // 404 on everything is a wrong base URL; one thing that is missing is not.
    let missing = Stub::start(|_| Reply::json(404, &json!({}))).await;
    let mut spec = ledger::document("https://right.example/v2");
    spec["paths"]["/other"] = json!({ "get": { "responses": {} } });
    let said = test(client, json!({ "name": "404", "spec": spec, "baseUrl": missing.url() })).await;
    said.is("failed", "base_url", &["https://right.example/v2", missing.url(), "probably wrong"], "healthy");
    assert_eq!(missing.seen().len(), 2, "both operations were tried");
    let partly = Stub::start(|seen| Reply::json(if seen.path == "/items" { 404 } else { 200 }, &json!({}))).await;
    let mut spec = ledger::document(partly.url());
    spec["paths"]["/other/place"] = json!({ "get": { "responses": {} } });
    let said = test(client, json!({ "name": "partly", "spec": spec })).await;
    assert_eq!((&said.test["status"], partly.seen().len()), (&json!("success"), 2), "{}", said.test);

    // A website in place of an API.
    let page = Reply::of(200, "text/html; charset=utf-8", "<!DOCTYPE html><html><body>Welcome</body></html>");
    let (_stub, body) = says(page.clone()).await;
    test(client, body).await.is("failed", "html", &["web page instead of data"], "healthy");
    let untyped = Reply::of(200, "application/octet-stream", "\u{feff}  <html>");
    let (_stub, body) = says(untyped).await;
    test(client, body).await.is("failed", "html", &["web page instead of data"], "healthy");
    let site = page.clone();
    let login = Stub::start(move |seen| match seen.path.as_str() {
        "/login" => site.clone(),
        _ => Reply::of(302, "text/plain", "").with("location", "/login?next=%2Fitems&token=canary"),
    })
    .await;
    let said = test(client, with_token(json!({ "name": "login", "spec": ledger::document(login.url()) }))).await;
    said.is("failed", "login", &["login page", "127.0.0.1/login"], "healthy");
    assert!(!said.test.to_string().contains("canary"), "{}", said.test);

    // Nobody answers; half of an answer; a large one is not read to its end.
    let (_stub, body) = says(Reply::Close).await;
    test(client, body).await.is("failed", "interrupted", &["broke the connection off"], "degraded");
    let (_stub, body) = says(Reply::of(200, "application/json", vec![b' '; 40 << 20])).await;
    assert_eq!(test(client, body).await.test["status"], "success");

    // Clocks.
    let ahead = chrono::DateTime::<chrono::Utc>::from(std::time::SystemTime::now()) + chrono::TimeDelta::minutes(10);
    let date = ahead.format("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let (_stub, body) = says(json(200).with("date", &date)).await;
    test(client, body).await.is("success", "clock", &["the API works", "clock is", "ahead of ours"], "healthy");
    let (_stub, body) = says(json(401).with("date", "Fri, 02 Jan 2015 00:00:00 GMT")).await;
    let said = test(client, with_token(body)).await;
    said.is("failed", "unauthorised", &["not accepted", "hours behind ours"], "credential_expired");

    // Nothing of a credential anywhere, and every test is in the log with what was called.
    let mut database = server.database().await;
    let tested = "select payload::text from log.events where event_type = 'connection.tested'";
    let tested: Vec<String> = sqlx::query_scalar(tested).fetch_all(&mut database).await.unwrap();
    assert!(tested.len() >= 16 && tested.iter().all(|event| event.contains("\"call\":{")), "{tested:#?}");
    assert!(!tested.iter().any(|event| event.contains("canary")), "{tested:#?}");
    server.finish().await;
}

/// A plain HTTP server that answers whatever it is told; gives its port.
async fn blunt() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut heard = [0; 1024];
            if stream.read(&mut heard).await.is_ok() {
                drop(stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await);
            }
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_secure_connection_is_said_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let (trusted, stranger) = (Authority::new("a trusted authority"), Authority::new("a stranger"));
    let roots = folder.path().join("roots.pem");
    std::fs::write(&roots, trusted.pem()).unwrap();
    let server = Server::start_with(&[("SSL_CERT_FILE", roots.to_str().unwrap())]).await;
    let maria = server.account("maria").await;
    let client = &maria.client;
    let own = ["127.0.0.1"];
    let url = |port: u16| format!("https://127.0.0.1:{port}");

    let good = certificates::serve(trusted.signs(&own)).await;
    let said = test(client, plain(&url(good))).await;
    assert_eq!((&said.test["status"], &said.test["httpStatus"]), (&json!("success"), &json!(200)), "{}", said.test);
    for (identity, problem, parts) in [
        (trusted.signs_until(&own, 2020), "tls_expired", &["has expired", "clock"][..]),
        (trusted.signs(&["api.example"]), "tls_wrong_host", &["not for 127.0.0.1"]),
        (stranger.signs(&own), "tls_unknown_issuer", &["authority that this machine does not trust"]),
        (certificates::self_signed(&own), "tls_self_signed", &["self-signed"]),
    ] {
        let port = certificates::serve(identity).await;
        test(client, plain(&url(port))).await.is("failed", problem, parts, "unreachable");
    }
    // Each spoken to in the other's language.
    let spoken = test(client, plain(&format!("http://127.0.0.1:{good}"))).await;
    spoken.is("failed", "tls_wanted", &["speaks TLS", "https://"], "healthy");
    let said = test(client, plain(&url(blunt().await))).await;
    said.is("failed", "tls_not_spoken", &["does not speak TLS", "http://"], "unreachable");
    // As nginx answers who forgets the `s`.
    let nginx =
        Stub::start(|_| Reply::of(400, "text/html", "<center>The plain HTTP request was sent to HTTPS port</center>"))
            .await;
    test(client, plain(nginx.url())).await.is("failed", "tls_wanted", &["https://"], "healthy");
    server.finish().await;
}
