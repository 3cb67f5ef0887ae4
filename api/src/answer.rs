//! The success envelope, with what travels in headers: version, position in the log, place.

use domain::event::LogPosition;
use poem::{
    IntoResponse, Response,
    http::{HeaderName, HeaderValue, StatusCode, header},
};
use poem_openapi::{
    ApiResponse, Object,
    registry::{MetaMediaType, MetaResponse, MetaResponses, MetaSchema, MetaSchemaRef, Registry},
    types::{ToJSON, Type},
};
use serde_json::{Map, Value};

use crate::{clock, freshness, types::Time};

const JSON: &str = "application/json; charset=utf-8";

/// `{"success":true,"data":…,"message":…,"timestamp":…}` with status `STATUS`.
#[derive(Debug)]
pub struct Answer<T, const STATUS: u16 = 200> {
    data: T,
    message: Option<String>,
    at: Option<LogPosition>,
    version: Option<i64>,
    once: Option<&'static str>,
}

/// Names a field of `data` that is shown once: a repeated request gets the answer without it.
#[derive(Debug, Clone, Copy)]
pub struct ShownOnce(pub &'static str);

impl<T, const STATUS: u16> Answer<T, STATUS> {
    pub fn new(data: T) -> Self {
        Self { data, message: None, at: None, version: None, once: None }
    }

    pub fn data(&self) -> &T {
        &self.data
    }

    pub fn message(mut self, message: impl Into<String>) -> Self {
        self.message = Some(message.into());
        self
    }

    /// The write's place in the log.
    pub fn at(mut self, at: LogPosition) -> Self {
        self.at = (at != LogPosition::START).then_some(at);
        self
    }

    /// The resource's version: `ETag`, for `If-Match`.
    pub fn version(mut self, version: i64) -> Self {
        self.version = Some(version);
        self
    }

    pub fn shown_once(mut self, field: &'static str) -> Self {
        self.once = Some(field);
        self
    }
}

fn respond(status: u16, data: Option<Value>, message: Option<String>) -> Response {
    let mut body = Map::new();
    body.insert("success".into(), Value::Bool(true));
    if let Some(data) = data {
        body.insert("data".into(), data);
    }
    if let Some(message) = message {
        body.insert("message".into(), Value::String(message));
    }
    body.insert("timestamp".into(), Value::String(clock::text(clock::now())));
    Response::builder()
        .status(StatusCode::from_u16(status).unwrap_or(StatusCode::OK))
        .content_type(JSON)
        .body(Value::Object(body).to_string())
}

impl<T: ToJSON + Send, const STATUS: u16> IntoResponse for Answer<T, STATUS> {
    fn into_response(self) -> Response {
        let mut response = respond(STATUS, self.data.to_json(), self.message);
        let headers = response.headers_mut();
        if let Some(at) = self.at
            && let Ok(value) = HeaderValue::from_str(&at.to_string())
            && let Ok(name) = HeaderName::from_bytes(freshness::HEADER.as_bytes())
        {
            headers.insert(name, value);
        }
        if let Some(version) = self.version
            && let Ok(value) = HeaderValue::from_str(&format!("\"{version}\""))
        {
            headers.insert(header::ETAG, value);
        }
        if let Some(field) = self.once {
            response.set_data(ShownOnce(field));
        }
        response
    }
}

fn envelope(data: MetaSchemaRef) -> MetaSchemaRef {
    let success = MetaSchema { enum_items: vec![Value::Bool(true)], ..MetaSchema::new("boolean") };
    MetaSchemaRef::Inline(Box::new(MetaSchema {
        required: vec!["success", "data", "timestamp"],
        properties: vec![
            ("success", MetaSchemaRef::Inline(Box::new(success))),
            ("data", data),
            ("message", String::schema_ref()),
            ("timestamp", Time::schema_ref()),
        ],
        ..MetaSchema::new("object")
    }))
}

fn meta_of<T: Type>(status: u16) -> MetaResponse {
    let description = match status {
        201 => "Created.",
        202 => "Accepted; the work goes on.",
        _ => "Done.",
    };
    MetaResponse {
        description,
        status: Some(status),
        status_range: None,
        content: vec![MetaMediaType { content_type: "application/json", schema: envelope(T::schema_ref()) }],
        headers: vec![],
    }
}

impl<T: ToJSON, const STATUS: u16> ApiResponse for Answer<T, STATUS> {
    fn meta() -> MetaResponses {
        MetaResponses { responses: vec![meta_of::<T>(STATUS)] }
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

/// A write that took place, but that the read models do not show yet: read it with this `X-Event-Position`.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
pub struct Stored {
    pub id: String,
}

/// The usual answer with its own status; else, as 202, another one.
#[derive(Debug)]
pub enum Either<A, B> {
    Usual(A),
    Else(B),
}

/// What a write answers: the resource as stored, or only its id when the read models need longer than allowed.
pub type Written<T, const STATUS: u16 = 200> = Either<Answer<T, STATUS>, Answer<Stored, 202>>;

impl<A: IntoResponse, B: IntoResponse> IntoResponse for Either<A, B> {
    fn into_response(self) -> Response {
        match self {
            Either::Usual(answer) => answer.into_response(),
            Either::Else(answer) => answer.into_response(),
        }
    }
}

impl<A: ApiResponse, B: ApiResponse> ApiResponse for Either<A, B> {
    fn meta() -> MetaResponses {
        let mut meta = A::meta();
        meta.responses.extend(B::meta().responses);
        meta
    }

    fn register(registry: &mut Registry) {
        A::register(registry);
        B::register(registry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_success_envelope() {
        let at = LogPosition { generation: 1, transaction_id: 20, position: 300 };
        let answer = Answer::<_, 201>::new(Stored { id: "conn_x".into() }).message("Created.").at(at).version(3);
        let response = answer.into_response();
        assert_eq!(response.status(), StatusCode::CREATED);
        assert_eq!(response.headers()[header::ETAG], "\"3\"");
        assert_eq!(response.headers()[freshness::HEADER], "1-20-300");
        let body: Value = serde_json::from_str(&response.into_body().into_string().await.unwrap()).unwrap();
        assert_eq!(body["success"], true);
        assert_eq!(body["data"]["id"], "conn_x");
        assert_eq!(body["message"], "Created.");
        let timestamp = body["timestamp"].as_str().unwrap();
        assert!(timestamp.len() == "2026-01-31T12:00:00.000Z".len() && timestamp.ends_with('Z'), "{timestamp}");
    }

    #[test]
    fn nothing_written_has_no_position() {
        let response = Answer::<_, 200>::new(Stored { id: "x".into() }).at(LogPosition::START).into_response();
        assert!(!response.headers().contains_key(freshness::HEADER));
    }
}
