//! A small client of our own HTTP API: envelope in, data out, every refusal as one sentence.

use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use reqwest::Method;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

/// Calls one server as one caller. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    http: reqwest::Client,
    /// Without a trailing slash.
    base: String,
    key: SecretString,
}

/// Any answer, success or not.
pub struct Answer {
    pub status: u16,
    pub body: Value,
}

impl Answer {
    /// The error's code; empty for a success.
    pub fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }
}

impl Api {
    pub fn new(http: reqwest::Client, base_url: &str, key: SecretString) -> Self {
        Self { http, base: base_url.trim_end_matches('/').to_owned(), key }
    }

    /// The same server as somebody else.
    pub fn with_key(&self, key: SecretString) -> Self {
        Self { key, ..self.clone() }
    }

    /// `data` of a success.
    ///
    /// # Errors
    /// No answer, or a refusal: code, sentence and every wrong field.
    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.data(Method::GET, path, None).await
    }

    /// As [`Api::get`].
    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.data(Method::POST, path, Some(body)).await
    }

    /// As [`Api::get`]; something that is gone already is no error.
    pub async fn delete(&self, path: &str) -> anyhow::Result<()> {
        let answer = self.ask(Method::DELETE, path, None).await?;
        ensure!(answer.status < 300 || answer.status == 404, refusal("DELETE", path, &answer));
        Ok(())
    }

    async fn data(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let mut answer = self.ask(method.clone(), path, body).await?;
        if answer.status >= 300 || answer.body["success"] != true {
            bail!(refusal(method.as_str(), path, &answer));
        }
        Ok(answer.body["data"].take())
    }

    /// Any answer that is JSON.
    ///
    /// # Errors
    /// The server cannot be reached, or answers something else than JSON.
    pub async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Answer> {
        let url = format!("{}/api/v1/{path}", self.base);
        let mut request = self.http.request(method.clone(), &url).bearer_auth(self.key.expose_secret());
        if let Some(body) = body {
            request = request.json(body);
        }
        send(request, method.as_str(), path).await
    }
}

/// A client of servers on this machine: no proxy, no redirects; a request may take `timeout`.
pub fn http_client(timeout: Duration) -> anyhow::Result<reqwest::Client> {
    // An error means that the process has a provider already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    #[expect(clippy::disallowed_methods, reason = "a client of our own server, not the server's way out")]
    let builder = reqwest::Client::builder();
    let client = builder.timeout(timeout).no_proxy().redirect(reqwest::redirect::Policy::none()).build();
    client.context("no HTTP client can be made")
}

/// Sends a request and reads JSON; no body counts as null.
pub async fn send(request: reqwest::RequestBuilder, method: &str, path: &str) -> anyhow::Result<Answer> {
    let response = request.send().await.map_err(|error| {
        let why = if error.is_timeout() { "gave no answer in time" } else { "cannot be reached" };
        anyhow!("{method} {path}: the server {why}")
    })?;
    let status = response.status().as_u16();
    let text = response.text().await.with_context(|| format!("{method} {path}: the answer broke off"))?;
    if text.trim().is_empty() {
        return Ok(Answer { status, body: Value::Null });
    }
    let body = serde_json::from_str(&text);
    let body = body.with_context(|| format!("{method} {path} answered {status} with something that is not JSON"))?;
    Ok(Answer { status, body })
}

fn refusal(method: &str, path: &str, answer: &Answer) -> String {
    let sentence = answer.body["error"].as_str().unwrap_or("no reason was given");
    let mut text = format!("{method} {path} answered {} {}: {sentence}", answer.status, answer.code());
    for detail in answer.body["details"].as_array().into_iter().flatten() {
        let part = |name: &str| detail[name].as_str().unwrap_or_default().to_owned();
        text.push_str(&format!("\n    {}: {}", part("field"), part("message")));
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_refusal_names_every_field() {
        let body = json!({"success": false, "error": "2 fields are wrong", "code": "VALIDATION_ERROR",
            "details": [{"field": "name", "message": "is required"}, {"field": "url", "message": "is no URL"}]});
        let text = refusal("POST", "webhooks", &Answer { status: 422, body });
        for part in ["POST webhooks answered 422 VALIDATION_ERROR", "name: is required", "url: is no URL"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
