//! The sandbox APIs: what a caller sees, and that each document describes exactly the routes there are.

use poem::http::{Method, Uri};
use poem::{Body, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

const BASE: &str = "http://127.0.0.1:4010";

/// One call with a good credential for either API.
async fn call(app: &impl Endpoint<Output = Response>, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
    call_with(app, method, path, body, &[("x-crm-key", "crm_test"), ("authorization", "Bearer mail_test")]).await
}

async fn call_with(
    app: &impl Endpoint<Output = Response>,
    method: &str,
    path: &str,
    body: Option<Value>,
    headers: &[(&str, &str)],
) -> (u16, Value) {
    let mut request = Request::builder()
        .method(Method::from_bytes(method.as_bytes()).unwrap())
        .uri(path.parse::<Uri>().unwrap())
        .content_type("application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = body.map_or_else(Body::empty, |body| Body::from(body.as_str().map_or(body.to_string(), str::to_owned)));
    let response = app.get_response(request.body(body)).await;
    assert!(
        response.header("content-type").is_some_and(|kind| kind.starts_with("application/json")),
        "{method} {path}"
    );
    let status = response.status().as_u16();
    (status, response.into_body().into_json().await.unwrap())
}

fn wrong_fields(body: &Value) -> Vec<&str> {
    body["error"]["fields"].as_array().unwrap().iter().map(|fault| fault["field"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn customers_are_listed_filtered_and_found() {
    let app = app(BASE).unwrap();
    let (status, all) = call(&app, "GET", "/crm/customers", None).await;
    assert_eq!((status, all["total"].as_u64(), all["customers"].as_array().unwrap().len()), (200, Some(5), 5));
    let (_, page) = call(&app, "GET", "/crm/customers?limit=2", None).await;
    assert_eq!((page["total"].as_u64(), page["customers"].as_array().unwrap().len()), (Some(5), 2));
    let (_, one) = call(&app, "GET", "/crm/customers?email=MARIA.oliveira%40example.com", None).await;
    assert_eq!((one["total"].as_u64(), &one["customers"][0]["name"]), (Some(1), &json!("Maria Oliveira")));
    let (_, found) = call(&app, "GET", "/crm/customers?search=solar", None).await;
    assert_eq!(found["customers"][0]["id"], "cus_1004");
    let (status, customer) = call(&app, "GET", "/crm/customers/cus_1004", None).await;
    assert_eq!((status, &customer), (200, &found["customers"][0]));
    let (_, orders) = call(&app, "GET", "/crm/customers/cus_1004/orders", None).await;
    assert_eq!((orders["total"].as_u64(), &orders["orders"][0]["amount"]), (Some(2), &json!(49.0)));
    for missing in ["/crm/customers/nobody", "/crm/customers/nobody/orders"] {
        let (status, error) = call(&app, "GET", missing, None).await;
        assert_eq!((status, &error["error"]["code"]), (404, &json!("not_found")));
    }
}

#[tokio::test]
async fn customers_are_created_once_per_address() {
    let app = app(BASE).unwrap();
    let new = json!({"name": "Lena Fischer", "email": "lena@example.com", "company": null});
    let (status, created) = call(&app, "POST", "/crm/customers", Some(new.clone())).await;
    assert_eq!((status, &created["plan"], &created["company"]), (201, &json!("free"), &Value::Null));
    let path = format!("/crm/customers/{}", created["id"].as_str().unwrap());
    assert_eq!(call(&app, "GET", &path, None).await, (200, created));
    let (status, error) = call(&app, "POST", "/crm/customers", Some(new)).await;
    assert_eq!((status, &error["error"]["code"]), (409, &json!("email_exists")));
}

#[tokio::test]
async fn every_wrong_field_is_named() {
    let app = app(BASE).unwrap();
    let bad = json!({"email": "no address", "plan": "gold", "company": 7, "admin": true});
    let (status, error) = call(&app, "POST", "/crm/customers", Some(bad)).await;
    assert_eq!((status, wrong_fields(&error)), (422, vec!["name", "email", "company", "plan", "admin"]));
    let (status, error) = call(&app, "GET", "/crm/customers?limit=0&color=red&search=", None).await;
    assert_eq!((status, wrong_fields(&error)), (422, vec!["search", "limit", "color"]));
    let bad = json!({"to": "a@b", "template": "order_shipped", "text": "both", "variables": {"name": []}, "cc": "x"});
    let (status, error) = call(&app, "POST", "/mailer/messages", Some(bad)).await;
    assert_eq!(
        (status, wrong_fields(&error)),
        (422, vec!["to", "variables.name", "template", "variables.orderId", "cc"])
    );
    for (body, status, code) in [
        (json!("{"), 400, "invalid_json"),
        (json!([1]), 400, "invalid_json"),
        (json!("x".repeat(70_000)), 413, "payload_too_large"),
    ] {
        let (got, error) = call(&app, "POST", "/mailer/messages/welcome", Some(body)).await;
        assert_eq!((got, &error["error"]["code"]), (status, &json!(code)));
    }
}

#[tokio::test]
async fn a_welcome_email_is_sent_and_kept() {
    let app = app(BASE).unwrap();
    let body = json!({"to": "maria@example.com", "name": "Maria {{name}}"});
    let (status, message) = call(&app, "POST", "/mailer/messages/welcome", Some(body)).await;
    assert_eq!((status, &message["template"], &message["status"]), (201, &json!("welcome"), &json!("sent")));
    assert_eq!(message["subject"], "Welcome, Maria {{name}}!");
    let path = format!("/mailer/messages/{}", message["id"].as_str().unwrap());
    assert_eq!(call(&app, "GET", &path, None).await, (200, message.clone()));
    let own = json!({"to": "jonas@example.com", "subject": "Hi", "text": "Hello"});
    assert_eq!(call(&app, "POST", "/mailer/messages", Some(own)).await.0, 201);
    let (_, listed) = call(&app, "GET", "/mailer/messages?to=maria%40example.com", None).await;
    assert_eq!(listed, json!({"messages": [message], "total": 1}));
    let (_, all) = call(&app, "GET", "/mailer/messages", None).await;
    assert_eq!(all["messages"][0]["to"], "jonas@example.com", "newest first");
    let (_, templates) = call(&app, "GET", "/mailer/templates", None).await;
    assert_eq!(templates["templates"][0]["id"], "welcome");
}

#[tokio::test]
async fn one_idempotency_key_sends_one_email() {
    let app = app(BASE).unwrap();
    let send = async |key: &str, name: &str| {
        let body = json!({"to": "maria@example.com", "name": name});
        let headers = [("authorization", "Bearer mail_test"), ("idempotency-key", key)];
        call_with(&app, "POST", "/mailer/messages/welcome", Some(body), &headers).await
    };
    let first = send("k-1", "Maria").await;
    assert_eq!(first.0, 201);
    assert_eq!(send("\"k-1\"", "Maria").await, first, "quoted and bare are one key");
    let (status, error) = send("k-1", "Somebody Else").await;
    assert_eq!((status, &error["error"]["code"]), (422, &json!("idempotency_key_reused")));
    assert_ne!(send("k-2", "Maria").await.1["id"], first.1["id"]);
    assert_eq!(wrong_fields(&send("", "Maria").await.1), vec!["Idempotency-Key"]);
    let (_, listed) = call(&app, "GET", "/mailer/messages", None).await;
    assert_eq!(listed["total"], 2);
}

#[tokio::test]
async fn what_is_kept_is_bounded() {
    let app = app(BASE).unwrap();
    for n in 0..1_003 {
        let body = json!({"to": format!("u{n}@example.com"), "name": "U", });
        assert_eq!(call(&app, "POST", "/mailer/messages/welcome", Some(body)).await.0, 201);
        let body = json!({"email": format!("u{n}@example.com"), "name": "U", });
        assert_eq!(call(&app, "POST", "/crm/customers", Some(body)).await.0, 201);
    }
    assert_eq!(call(&app, "GET", "/mailer/messages", None).await.1["total"], 1_000);
    assert_eq!(call(&app, "GET", "/mailer/messages/msg_000003", None).await.0, 404);
    assert_eq!(call(&app, "GET", "/mailer/messages/msg_000004", None).await.0, 200);
    assert_eq!(call(&app, "GET", "/crm/customers", None).await.1["total"], 1_005);
    assert_eq!(call(&app, "GET", "/crm/customers/cus_1001", None).await.0, 200, "the first ones stay");
}

#[tokio::test]
async fn credentials_are_asked_for() {
    let app = app(BASE).unwrap();
    for (path, header, values) in [
        ("/crm/customers", "x-crm-key", ["", "crm_", "key", "mail_test"]),
        ("/mailer/messages", "authorization", ["", "Bearer x", "mail_test", "Basic mail_test"]),
    ] {
        for value in values {
            let (status, error) = call_with(&app, "GET", path, None, &[(header, value)]).await;
            assert_eq!((status, &error["error"]["code"]), (401, &json!("unauthorized")), "{path} {value:?}");
        }
        assert_eq!(call_with(&app, "GET", path, None, &[]).await.0, 401);
    }
}

#[tokio::test]
async fn unknown_paths_and_methods_answer_in_json() {
    let app = app(BASE).unwrap();
    for (method, path, expected) in [
        ("GET", "/", 404),
        ("GET", "/crm", 404),
        ("GET", "/crm/nothing", 404),
        ("GET", "/mailer/nothing", 404),
        ("DELETE", "/crm/customers", 405),
        ("PUT", "/mailer/messages/welcome", 405),
    ] {
        let (status, error) = call(&app, method, path, None).await;
        assert_eq!(status, expected, "{method} {path}: {error}");
        assert!(error["error"]["code"].is_string(), "{method} {path}");
    }
}

/// Each documented operation answers something else than "no such route", and each `$ref` leads somewhere.
#[tokio::test]
async fn the_documents_describe_the_routes() {
    let app = app(BASE).unwrap();
    let mut operations = 0;
    for api in ["crm", "mailer"] {
        let (status, document) = call_with(&app, "GET", &format!("/{api}/openapi.json"), None, &[]).await;
        assert_eq!(
            (status, &document["openapi"], &document["servers"][0]["url"]),
            (200, &json!("3.1.0"), &json!(BASE))
        );
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let path = path.replace("{customerId}", "cus_1001").replace("{messageId}", "msg_000001");
                let (status, body) = call(&app, &method.to_uppercase(), &path, Some(json!({}))).await;
                let known = status != 405 && (status != 404 || body["error"]["message"] == "there is no such message");
                assert!(known, "{method} {path} {status}");
                assert!(
                    operation["responses"].get(status.to_string()).is_some(),
                    "{method} {path}: {status} undeclared"
                );
                assert!(operation["operationId"].is_string() && operation["summary"].is_string());
                operations += 1;
            }
        }
        check_refs(&document, &document);
    }
    assert_eq!(operations, 9);
}

fn check_refs(document: &Value, part: &Value) {
    match part {
        Value::Object(map) => {
            if let Some(target) = map.get("$ref").and_then(Value::as_str) {
                assert!(document.pointer(&target[1..]).is_some(), "{target}");
            }
            map.values().for_each(|value| check_refs(document, value));
        }
        Value::Array(items) => items.iter().for_each(|item| check_refs(document, item)),
        _ => {}
    }
}

#[tokio::test]
async fn it_serves_on_its_listener_until_told_to_stop() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let server = tokio::spawn(serve(listener, shutdown.clone()));
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /crm/openapi.json HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(&format!("http://{address}")), "{answer}");
    shutdown.cancel();
    server.await.unwrap().unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[test]
fn an_unspecified_listener_is_called_on_the_loopback() {
    assert_eq!(base_url("0.0.0.0:81".parse().unwrap()), "http://127.0.0.1:81");
    assert_eq!(base_url("[::1]:81".parse().unwrap()), "http://[::1]:81");
}
