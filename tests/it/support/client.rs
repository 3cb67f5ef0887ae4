//! A client that holds every answer to the contract's one shape.

use std::collections::BTreeSet;
use std::sync::OnceLock;
use std::time::Duration;

use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::Value;

/// Ingesting the largest document on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    headers: Vec<(String, String)>,
}

#[derive(Debug)]
pub struct Answer {
    /// What was asked, for messages.
    pub asked: String,
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Value,
    pub text: String,
}

/// No proxies, no redirects: what is tested is what was asked.
#[expect(clippy::disallowed_methods, reason = "a test's client is outside of the service and of its egress guard")]
pub fn http() -> reqwest::Client {
    static CLIENT: OnceLock<()> = OnceLock::new();
    CLIENT.get_or_init(|| {
        // Another test of this process may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    let builder = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
    builder.timeout(PATIENCE).build().unwrap()
}

impl Client {
    pub fn new(url: &str) -> Client {
        Client { http: http(), base: url.to_owned(), headers: Vec::new() }
    }

    /// The same with `Authorization: Bearer`.
    pub fn bearer(&self, token: &str) -> Client {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// The same with a header; one of this name is replaced.
    pub fn header(&self, name: &str, value: &str) -> Client {
        let mut other = self.clone();
        other.headers.retain(|(known, _)| known != name);
        other.headers.push((name.to_owned(), value.to_owned()));
        other
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, None).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(Method::POST, path, Some(body)).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        self.send(Method::PATCH, path, Some(body)).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.send(Method::PUT, path, Some(body)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, None).await
    }

    /// `path` is below `/api/v1`.
    pub async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let body = body.map(|body| ("application/json".to_owned(), body.to_string().into_bytes()));
        self.send_raw(method, &format!("/api/v1{path}"), body).await
    }

    /// A body that may be no JSON, under any path. Content type and bytes.
    pub async fn send_raw(&self, method: Method, path: &str, body: Option<(String, Vec<u8>)>) -> Answer {
        let asked = format!("{method} {path}");
        let sent = self.request(method, path, body).send().await;
        let response = sent.unwrap_or_else(|error| panic!("{asked}: {error:?}"));
        let answer = Answer::read(asked, response).await.unwrap();
        answer.assert_shape();
        answer
    }

    /// `None` when the server does not answer.
    pub async fn try_get(&self, path: &str) -> Option<Answer> {
        let path = format!("/api/v1{path}");
        let response = self.request(Method::GET, &path, None).send().await.ok()?;
        Answer::read(format!("GET {path}"), response).await.ok()
    }

    /// `None` when the server does not answer, because it dies meanwhile.
    pub async fn try_post(&self, path: &str, body: Value) -> Option<Answer> {
        let path = format!("/api/v1{path}");
        let body = Some(("application/json".to_owned(), body.to_string().into_bytes()));
        let response = self.request(Method::POST, &path, body).send().await.ok()?;
        Answer::read(format!("POST {path}"), response).await.ok()
    }

    fn request(&self, method: Method, path: &str, body: Option<(String, Vec<u8>)>) -> reqwest::RequestBuilder {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        match body {
            Some((kind, bytes)) => request.header("content-type", kind).body(bytes),
            None => request,
        }
    }

    /// Wait for the end of an ingestion, whatever it is.
    pub async fn ingested(&self, connection: &str) -> Value {
        let path = format!("/connections/{connection}");
        super::until("the document is ingested", PATIENCE, async || {
            let data = self.get(&path).await.data(200);
            let status = data["ingestionStatus"].as_str().unwrap().to_owned();
            assert!(["PENDING", "RUNNING", "SUCCEEDED", "FAILED"].contains(&status.as_str()), "{status}");
            ["SUCCEEDED", "FAILED"].contains(&status.as_str()).then_some(data)
        })
        .await
    }

    /// Create a connection and wait for its document.
    pub async fn connect(&self, connection: Value) -> Value {
        let created = self.post("/connections", connection).await.data(201);
        let data = self.ingested(created["id"].as_str().unwrap()).await;
        assert_eq!(data["ingestionStatus"], "SUCCEEDED", "{data}");
        data
    }

    /// Create a workflow and give its id.
    pub async fn workflow(&self, workflow: Value) -> String {
        let created = self.post("/workflows", workflow).await.data(201);
        created["id"].as_str().unwrap().to_owned()
    }

    /// Execute and wait for the end, or for a person to be asked.
    pub async fn execute(&self, workflow: &str, input: Value) -> Value {
        let path = format!("/workflows/{workflow}/execute?wait=60s");
        self.post(&path, serde_json::json!({ "input": input })).await.data(200)
    }

    /// Wait until an execution has ended, or a person is asked.
    pub async fn ended(&self, execution: &str, limit: Duration) -> Value {
        let path = format!("/executions/{execution}");
        super::until("the execution ends", limit, async || {
            let data = self.get(&path).await.data(200);
            let open = ["pending", "running"].contains(&data["status"].as_str().unwrap());
            (!open).then_some(data)
        })
        .await
    }
}

impl Answer {
    async fn read(asked: String, response: reqwest::Response) -> Result<Answer, reqwest::Error> {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await?;
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Ok(Answer { asked, status, headers, body, text })
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The envelope of the contract, for every answer that has a body.
    fn assert_shape(&self) {
        let is_api = self.asked.contains(" /api") && !self.asked.ends_with("/openapi");
        if !is_api || self.text.is_empty() {
            return;
        }
        let (body, asked) = (&self.body, &self.asked);
        let fields: BTreeSet<&str> =
            body.as_object().unwrap_or_else(|| panic!("{asked}: {}", self.text)).keys().map(String::as_str).collect();
        let time = body["timestamp"].as_str().unwrap_or_default();
        assert!(time.len() == 24 && time.ends_with('Z'), "{asked}: {body}");
        assert!(self.header("x-request-id").is_some(), "{asked}: no X-Request-Id");
        let known: &[&str] = match self.status < 400 {
            true => &["success", "data", "message", "timestamp"],
            false => &["success", "error", "code", "details", "requestId", "timestamp", "data", "retryAfter"],
        };
        assert!(fields.iter().all(|field| known.contains(field)), "{asked}: {body}");
        assert_eq!(body["success"], self.status < 400, "{asked}: {} {body}", self.status);
        if self.status >= 400 {
            assert!(body["error"].as_str().is_some_and(|text| !text.is_empty()), "{asked}: {body}");
            assert!(body["code"].is_string() && body["details"].is_array(), "{asked}: {body}");
            assert_eq!(body["requestId"].as_str(), self.header("x-request-id"), "{asked}");
        }
    }

    /// The data of an answer with this status.
    pub fn data(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}: {}", self.asked, self.text);
        self.body["data"].clone()
    }

    /// A refusal with this status and code.
    pub fn refused(&self, status: u16, code: &str) -> &Value {
        let got = (self.status, self.body["code"].as_str().unwrap_or_default());
        assert_eq!(got, (status, code), "{}: {}", self.asked, self.text);
        &self.body
    }

    /// The fields that `details` names.
    pub fn fields(&self) -> BTreeSet<&str> {
        self.body["details"].as_array().into_iter().flatten().filter_map(|fault| fault["field"].as_str()).collect()
    }

    /// 422 that names exactly these fields.
    pub fn names(&self, fields: &[&str]) {
        self.refused(422, "VALIDATION_ERROR");
        assert_eq!(self.fields(), fields.iter().copied().collect(), "{}: {}", self.asked, self.text);
    }
}

/// The id of something.
pub fn id(value: &Value) -> &str {
    value["id"].as_str().unwrap_or_else(|| panic!("no id: {value}"))
}
