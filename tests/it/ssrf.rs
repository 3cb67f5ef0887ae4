//! The whole table of attack URLs on every surface that takes a URL: none may reach a listener on this machine.

use std::sync::Mutex;

use serde_json::{Value, json};

use crate::support::client::id;
use crate::support::{Client, Reply, Server, Stub, ledger};

/// URLs that must be refused, with the port of the listener that must see nothing.
fn attacks(port: &str) -> Vec<String> {
    let names = [("{cr}", "\r"), ("{lf}", "\n"), ("{tab}", "\t"), ("{nul}", "\0"), ("{del}", "\u{7f}"), ("{sp}", " ")];
    let more = [("{nbsp}", "\u{a0}"), ("{shy}", "\u{ad}"), ("{port}", port)];
    include_str!("../../integrations/src/egress/attacks.txt")
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with("# "))
        .map(|line| names.iter().chain(&more).fold(line.to_owned(), |line, (name, text)| line.replace(name, text)))
        .collect()
}

/// What was let through, by surface.
struct Tally {
    of: usize,
    through: Vec<String>,
}

impl Tally {
    /// `refused`: the server's answer says that this URL is not taken.
    fn note(&mut self, surface: &str, url: &str, refused: bool, shown: &str) {
        self.of += 1;
        if !refused {
            self.through.push(format!("{surface} {url:?}: {shown}"));
        }
    }
}

/// Runs one step for each path; gives for each its error's code, or its status.
async fn outcomes(client: &Client, connection: &Value, count: usize, step: impl Fn(usize) -> Value) -> Vec<String> {
    let steps: Vec<Value> = (0..count)
        .map(|n| {
            let mut made = step(n);
            made["id"] = json!(format!("s{n}"));
            made["type"] = json!("api_call");
            made["connectionId"] = json!(id(connection));
            made["onError"] = json!("continue");
            made["retry"] = json!({ "maxAttempts": 1 });
            made
        })
        .collect();
    let workflow = client.workflow(json!({ "name": "attacks", "steps": steps })).await;
    let execution = client.execute(&workflow, json!({})).await;
    let of = |n| {
        let name = format!("s{n}");
        let step = execution["steps"].as_array().unwrap().iter().find(|step| step["id"] == name);
        let step = step.unwrap_or_else(|| panic!("{name} did not run: {execution}"));
        let code = step["error"]["code"].as_str().map(str::to_owned);
        code.unwrap_or_else(|| step["status"].to_string())
    };
    (0..count).map(of).collect()
}

// Only Linux routes all of 127.0.0.0/8 to the loopback without further ado.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn no_attack_gets_through_on_any_surface() {
    let server = Server::start_with(&[("APIQ_EGRESS_ALLOW", "127.0.0.2/32")]).await;
    let maria = server.account("maria").await;
    let client = &maria.client;
    let internal = Stub::start(|_| Reply::json(200, &json!({ "secret": true }))).await;
    let port = internal.url().rsplit(':').next().unwrap().to_owned();
    let attacks = attacks(&port);
    assert!(attacks.len() > 170, "{}", attacks.len());
    let mut tally = Tally { of: 0, through: Vec::new() };

    // Where a person types a URL.
    for url in &attacks {
        for (surface, path, body) in [
            ("spec URL", "/connections", json!({ "name": "x", "specUrl": url })),
            ("base URL", "/connections", json!({ "name": "x", "baseUrl": url })),
            ("webhook URL", "/webhooks", json!({ "name": "x", "url": url, "events": ["*"] })),
            (
                "a connector's base URL",
                "/credentials",
                json!({ "name": "x", "type": "slack", "data": { "token": "x", "baseUrl": url } }),
            ),
        ] {
            let answer = client.post(path, body).await;
            tally.note(surface, url, [400, 422].contains(&answer.status), &answer.text);
        }
    }

    // A document's own servers: one operation for each. (A NUL makes the reader refuse the document.)
    let readable: Vec<String> = attacks.iter().filter(|url| !url.contains('\0')).cloned().collect();
    let paths: serde_json::Map<String, Value> = readable
        .iter()
        .enumerate()
        .map(|(n, url)| {
            let get = json!({ "operationId": format!("op{n}"), "servers": [{ "url": url }], "responses": {} });
            (format!("/p{n}"), json!({ "get": get }))
        })
        .collect();
    let info = json!({ "title": "Attacks", "version": "1" });
    let spec = json!({ "openapi": "3.1.0", "info": info, "servers": [{ "url": "http://10.0.0.1" }], "paths": paths });
    let connection = client.connect(json!({ "name": "servers", "spec": spec })).await;
    let ended = outcomes(client, &connection, readable.len(), |n| json!({ "operationId": format!("op{n}") })).await;
    for (url, code) in readable.iter().zip(ended) {
        let refused = ["EGRESS_BLOCKED", "BAD_URL", "NO_BASE_URL"].contains(&code.as_str());
        tally.note("servers", url, refused, &code);
    }

    // `$ref`s of a document.
    let refs: serde_json::Map<String, Value> =
        readable.iter().enumerate().map(|(n, url)| (format!("S{n}"), json!({ "$ref": url }))).collect();
    let mut spec = ledger::document("http://127.0.0.2:1");
    spec["components"] = json!({ "schemas": refs });
    spec["paths"]["/evil"] = json!({ "$ref": format!("{}/evil.json", internal.url()) });
    let made = client.post("/connections", json!({ "name": "refs", "spec": spec })).await.data(201);
    client.ingested(id(&made)).await;
    readable.iter().for_each(|url| tally.note("$ref", url, internal.seen().is_empty(), "fetched"));

    // A server that may be called redirects to each.
    let targets = Mutex::new(attacks.clone());
    let outside = Stub::start_on("127.0.0.2:0", move |seen| {
        let n: Option<usize> = seen.path.strip_prefix("/r").and_then(|n| n.parse().ok());
        let target = n.and_then(|n| targets.lock().unwrap().get(n).cloned());
        match target {
            Some(target) => {
                Reply::of([301, 302, 303, 307, 308][n.unwrap_or(0) % 5], "text/plain", "").with("location", &target)
            }
            // What is relative leads back here.
            None => Reply::json(404, &json!({ "outside": true })),
        }
    })
    .await;
    let connection = client.connect(json!({ "name": "redirects", "baseUrl": outside.url() })).await;
    let hop = |n: usize| json!({ "method": "GET", "endpoint": format!("/r{n}") });
    let ended = outcomes(client, &connection, attacks.len(), hop).await;
    for (url, code) in attacks.iter().zip(ended) {
        let refused = code != "\"completed\"" || relative(url);
        tally.note("redirect", url, refused, &code);
    }

    // A step's own path cannot make another host of the base URL.
    let connection = client.connect(json!({ "name": "steps", "baseUrl": "http://127.0.0.2" })).await;
    for url in &attacks {
        let call = json!({ "id": "s", "type": "api_call", "connectionId": id(&connection), "method": "GET",
            "endpoint": url, "retry": { "maxAttempts": 1 }, "timeout": "2s" });
        let saved = client.post("/workflows", json!({ "name": "step", "steps": [call] })).await;
        if saved.status != 201 {
            tally.note("step URL", url, [400, 422].contains(&saved.status), &saved.text);
            continue;
        }
        let execution = client.execute(id(&saved.data(201)), json!({})).await;
        tally.note("step URL", url, execution["status"] == "failed", &execution.to_string());
    }

    connectors(client, &attacks, &mut tally).await;

    let Tally { of, through } = tally;
    println!("{} of {of} refused, {} hits on the internal listener", of - through.len(), internal.seen().len());
    assert!(through.is_empty(), "{} of {of} got through:\n{}", through.len(), through.join("\n"));
    assert_eq!(internal.seen().len(), 0, "an inner listener was reached: {:?}", internal.seen());

    // The control: what is allowed is called.
    let control = client.workflow(json!({ "name": "control", "steps": [
        { "id": "s", "type": "api_call", "connectionId": id(&connection_to(client, &outside).await), "method": "GET", "endpoint": "/x" }
    ] }));
    let execution = client.execute(&control.await, json!({})).await;
    assert_eq!(execution["steps"][0]["error"]["code"], "HTTP_404", "{execution}");
    server.finish().await;
}

/// The URL of a step that has no credential, and the host of a mail server.
async fn connectors(client: &Client, attacks: &[String], tally: &mut Tally) {
    let step = |n: usize| {
        json!({ "id": format!("s{n}"), "type": "connector", "onError": "continue", "retry": { "maxAttempts": 1 }, "timeout": "2s",
                "config": { "connectorType": "http", "action": "request", "url": format!("{{{{ input.urls[{n}] }}}}") } })
    };
    let steps: Vec<Value> = (0..attacks.len()).map(step).collect();
    let workflow = client.workflow(json!({ "name": "connector attacks", "steps": steps })).await;
    // A NUL is refused with the input.
    let urls: Vec<String> = attacks.iter().map(|url| url.replace('\0', "\u{1}")).collect();
    let execution = client.execute(&workflow, json!({ "urls": urls })).await;
    for (n, url) in attacks.iter().enumerate() {
        let name = format!("s{n}");
        let step = execution["steps"].as_array().unwrap().iter().find(|step| step["id"] == name).unwrap();
        tally.note("a connector's URL", url, step["status"] == "failed", &step.to_string());
    }
    let parsed = |url: &String| reqwest::Url::parse(url).ok().filter(|url| url.has_host());
    for url in attacks.iter().filter_map(parsed) {
        let (host, port) = (url.host_str().unwrap(), url.port_or_known_default().unwrap_or(25));
        let data = json!({ "host": host, "port": port, "tls": "none", "from": "a@example.com" });
        let answer = client.post("/credentials", json!({ "name": "x", "type": "smtp", "data": data })).await;
        if answer.status != 201 {
            tally.note("a mail server", url.as_str(), answer.status == 422, &answer.text);
            continue;
        }
        let body = json!({ "connectorType": "smtp", "name": "x", "credentialId": id(&answer.data(201)) });
        let connector = client.post("/connectors", body).await.data(201);
        let tested = client.post(&format!("/connectors/{}/test", id(&connector)), json!({})).await.data(200);
        tally.note("a mail server", url.as_str(), tested["status"] == "failed", &tested.to_string());
    }
}

async fn connection_to(client: &Client, stub: &Stub) -> Value {
    client.connect(json!({ "name": "control", "baseUrl": stub.url() })).await
}

/// As a `Location`, this stays with the host that says it.
fn relative(url: &str) -> bool {
    let base = reqwest::Url::parse("http://127.0.0.2:9/r1").unwrap();
    base.join(url).is_ok_and(|joined| joined.host_str() == Some("127.0.0.2"))
}
