//! The connection to the model: async-openai over an HTTP client of our own, answers as plain JSON values because
//! providers leave fields out.

use async_openai::{Client, config::Config, error::OpenAIError};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::ModelConfig;
use crate::planner::types::PlanError;

/// Settings without the environment: the crate's own read `OPENAI_*` variables behind the operator's back and panic
/// on a key that is no header value.
#[derive(Debug, Clone)]
struct Endpoint {
    base: String,
    key: SecretString,
    headers: HeaderMap,
}

impl Config for Endpoint {
    fn headers(&self) -> HeaderMap {
        self.headers.clone()
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    fn query(&self) -> Vec<(&str, &str)> {
        Vec::new()
    }

    fn api_base(&self) -> &str {
        &self.base
    }

    fn api_key(&self) -> &SecretString {
        &self.key
    }
}

pub struct ModelClient<'a> {
    client: Client<Endpoint>,
    model: &'a str,
}

impl<'a> ModelClient<'a> {
    /// # Errors
    /// `Unavailable` when the key can't be sent or no HTTP client can be made.
    pub fn new(config: &'a ModelConfig) -> Result<Self, PlanError> {
        let unavailable = |reason: &str| PlanError::Unavailable { reason: reason.to_owned() };
        // Another part of the process may have installed it already: that is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut headers = HeaderMap::new();
        let key = config.api_key.expose_secret().trim();
        if !key.is_empty() {
            let mut value = HeaderValue::from_str(&format!("Bearer {key}"))
                .map_err(|_| unavailable("its API key holds characters that can't be sent"))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let http = http_client(config).map_err(|_| unavailable("no HTTP client could be made"))?;
        let base = config.base_url.trim_end_matches('/').to_owned();
        let endpoint = Endpoint { base, key: config.api_key.clone(), headers };
        Ok(Self { client: Client::build(http, endpoint), model: &config.model })
    }

    /// One round: the whole answer as JSON.
    pub async fn complete(&self, messages: &[Value], tools: &[Value]) -> Result<Value, PlanError> {
        let request = json!({
            "model": self.model,
            "messages": messages,
            "tools": tools,
            "tool_choice": "auto",
            "stream": false,
        });
        self.client.chat().create_byot(request).await.map_err(public)
    }
}

#[expect(clippy::disallowed_methods, reason = "the model's endpoint is the operator's own setting, not a user's")]
fn http_client(config: &ModelConfig) -> reqwest::Result<reqwest::Client> {
    let builder = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
    builder.timeout(config.timeout).build()
}

/// The reason without the provider's words, which may repeat the prompt or a part of the key.
fn public(error: OpenAIError) -> PlanError {
    let reason = match &error {
        OpenAIError::Reqwest(e) if e.is_timeout() => "it did not answer in time".to_owned(),
        OpenAIError::Reqwest(e) if e.is_connect() => "its endpoint can't be reached".to_owned(),
        OpenAIError::Reqwest(_) => "the connection to it broke".to_owned(),
        OpenAIError::ApiError(e) => match e.status_code.as_u16() {
            401 | 403 => format!("it refused the API key (status {})", e.status_code.as_u16()),
            404 => "there is no such model or endpoint (status 404)".to_owned(),
            429 => "its rate limit or quota is used up (status 429)".to_owned(),
            status => format!("it answered with status {status}"),
        },
        OpenAIError::JSONDeserialize(..) => {
            return PlanError::BadAnswer { reason: "the endpoint answered something that is no JSON".to_owned() };
        }
        _ => "the request to it could not be made".to_owned(),
    };
    PlanError::Unavailable { reason }
}
