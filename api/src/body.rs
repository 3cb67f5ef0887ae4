//! The request body: read up to its limit, checked against its schema as a whole, then decoded.

use std::{
    any::TypeId,
    collections::HashMap,
    sync::{Arc, LazyLock, PoisonError, RwLock},
};

use bytes::Bytes;
use domain::error::Code;
use poem::{
    Request, RequestBody,
    error::ReadBodyError,
    http::{Method, header},
};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    payload::{Json, Payload},
    registry::{MetaMediaType, MetaRequest, MetaSchemaRef, Registry},
    types::{ParseFromJSON, Type},
};
use serde_json::Value;

use crate::{problem::Problem, request::Arrival, schema, state::ApiState};

/// serde_json reads this many levels, and Postgres' `json` operators no more than we allow.
const MOST_LEVELS: usize = 127;

/// A JSON body of type `T`. All faults are reported at once; unknown fields are faults.
pub struct Body<T>(pub T);

type Known = Arc<(Registry, MetaSchemaRef)>;

static SCHEMAS: LazyLock<RwLock<HashMap<TypeId, Known>>> = LazyLock::new(Default::default);

fn schema_of<T: Type + 'static>() -> Known {
    let key = TypeId::of::<T>();
    if let Some(known) = SCHEMAS.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
        return known.clone();
    }
    let mut registry = Registry::new();
    T::register(&mut registry);
    let known = Arc::new((registry, T::schema_ref()));
    SCHEMAS.write().unwrap_or_else(PoisonError::into_inner).insert(key, known.clone());
    known
}

/// Bytes a body of this route may have: specs travel to connections only.
pub fn limit_of(state: &ApiState, method: &Method, path: &str) -> usize {
    let limits = &state.config().body;
    let takes_spec = *method == Method::POST
        && (path.ends_with("/connections") || (path.contains("/connections/") && path.ends_with("/refresh")));
    if takes_spec { limits.spec } else { limits.other }
}

/// Reads the whole body; stops at the limit.
pub async fn read(state: &ApiState, request: &Request, body: poem::Body) -> Result<Bytes, Problem> {
    let limit = limit_of(state, request.method(), &Arrival::of(request)?.path);
    let too_large =
        || Problem::new(Code::PayloadTooLarge, format!("The body is too big: this route takes {limit} bytes."));
    let announced = request.header(header::CONTENT_LENGTH).and_then(|text| text.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(too_large());
    }
    body.into_bytes_limit(limit).await.map_err(|error| match error {
        ReadBodyError::PayloadTooLarge => too_large(),
        _ => Problem::new(Code::MalformedJson, "The body ended before its announced length."),
    })
}

fn check_type(request: &Request) -> Result<(), Problem> {
    let unsupported = |message: &str| Err(Problem::new(Code::UnsupportedMediaType, message));
    if request.header(header::CONTENT_ENCODING).is_some_and(|encoding| !encoding.eq_ignore_ascii_case("identity")) {
        return unsupported("Send the body without Content-Encoding.");
    }
    match request.content_type() {
        Some(kind) if Json::<Value>::check_content_type(kind) => Ok(()),
        _ => unsupported("Send the body as JSON, with Content-Type: application/json."),
    }
}

/// Bytes to JSON. What is no JSON is 400 with its place; what is nested too deep is 422.
pub fn parse(bytes: &[u8]) -> Result<Value, Problem> {
    serde_json::from_slice(bytes).map_err(|error| {
        if levels(bytes) > MOST_LEVELS {
            return Problem::field("body", format!("is nested deeper than {MOST_LEVELS} levels"));
        }
        let reason = error.to_string();
        // serde_json ends its sentence with the place, which is told in our own words.
        let reason = reason.split(" at line ").next().unwrap_or_default();
        let (line, column) = (error.line(), error.column());
        Problem::new(Code::MalformedJson, format!("The body is no JSON: {reason}, line {line}, column {column}."))
    })
}

/// How deep brackets nest, outside of texts.
fn levels(bytes: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_text, mut escaped) = (0usize, 0, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Checks and decodes. An empty body counts as `{}`.
pub fn decode<T: ParseFromJSON + 'static>(bytes: &[u8]) -> Result<T, Problem> {
    let value = if bytes.is_empty() { Value::Object(Default::default()) } else { parse(bytes)? };
    let known = schema_of::<T>();
    let faults = schema::faults(&known.0, &known.1, &value);
    if !faults.is_empty() {
        return Err(Problem::invalid(faults));
    }
    T::parse_from_json(Some(value)).map_err(|_| Problem::field("body", "has not the form that this route wants"))
}

impl<'a, T: ParseFromJSON + Send + 'static> ApiExtractor<'a> for Body<T> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        let known = schema_of::<T>();
        let schema = match &known.1 {
            MetaSchemaRef::Inline(schema) => Some(schema.as_ref()),
            MetaSchemaRef::Reference(name) => known.0.schemas.get(name),
        };
        Some(MetaRequest {
            description: None,
            content: vec![MetaMediaType { content_type: "application/json", schema: T::schema_ref() }],
            required: schema.is_none_or(|schema| !schema.required.is_empty()),
        })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let state = ApiState::of(request)?;
        let bytes = read(&state, request, body.take()?).await?;
        if !bytes.is_empty() {
            check_type(request)?;
        }
        Ok(Self(decode(&bytes)?))
    }
}

#[cfg(test)]
mod tests {
    use poem_openapi::{Enum, Object};

    use super::*;
    use crate::types::{Id, Time};

    #[derive(Debug, Enum)]
    #[oai(rename_all = "snake_case")]
    enum Colour {
        Red,
        DarkBlue,
    }

    #[derive(Debug, Object)]
    #[oai(rename_all = "camelCase", deny_unknown_fields)]
    struct Part {
        end_point: String,
    }

    #[derive(Debug, Object)]
    #[oai(rename_all = "camelCase", deny_unknown_fields)]
    struct Sample {
        #[oai(validator(max_length = 5, min_length = 1))]
        name: String,
        colour: Colour,
        count: Option<i32>,
        parts: Option<Vec<Part>>,
        owner: Option<Id<domain::ids::UserId>>,
        ends_at: Option<Time>,
        free: Option<Value>,
    }

    fn fields(text: &str) -> Vec<(String, String)> {
        let problem = decode::<Sample>(text.as_bytes()).unwrap_err();
        assert_eq!(problem.code, Code::ValidationError, "{problem:?}");
        problem.details.into_iter().map(|d| (d.field, d.message)).collect()
    }

    #[test]
    fn a_good_body_is_decoded() {
        let owner = domain::ids::UserId(uuid::Uuid::from_u128(7));
        let text = format!(
            r#"{{"name":"a","colour":"dark_blue","count":3,"parts":[{{"endPoint":"/x"}}],"owner":"{owner}",
                "endsAt":"2026-01-31T12:00:00+02:00","free":{{"any":[1,null]}}}}"#
        );
        let sample: Sample = decode(text.as_bytes()).unwrap();
        assert_eq!(sample.name, "a");
        assert!(matches!(sample.colour, Colour::DarkBlue));
        assert_eq!(sample.owner.unwrap().typed("owner").unwrap(), owner);
        assert_eq!(sample.parts.unwrap()[0].end_point, "/x");
    }

    #[test]
    fn all_faults_are_named_at_once() {
        let found = fields(
            r#"{"name":"toolong","color":"red","count":1.5,"parts":[{"endPoint":"/x"},{"endpoint":1},7],
                "owner":"conn_01h","endsAt":"tomorrow","free":{"a":["\u0000"]}}"#,
        );
        let mut names: Vec<&str> = found.iter().map(|(field, _)| field.as_str()).collect();
        names.sort_unstable();
        let expected = [
            "color",
            "colour",
            "count",
            "endsAt",
            "free.a[0]",
            "name",
            "owner",
            "parts[1].endPoint",
            "parts[1].endpoint",
            "parts[2]",
        ];
        assert_eq!(names, expected, "{found:?}");
    }

    #[test]
    fn nulls_enums_and_ranges() {
        assert_eq!(fields(r#"{"name":"","colour":"red"}"#)[0].1, "must have 1 to 5 characters");
        assert_eq!(fields(r#"{"name":"a","colour":"green"}"#)[0].1, "must be one of red, dark_blue");
        assert!(fields(r#"{"name":"a","colour":"red","count":null}"#)[0].1.contains("null"));
        assert!(fields(r#"{"name":"a","colour":"red","count":3000000000}"#)[0].1.contains("at most"));
        assert_eq!(fields("[]")[0], ("body".to_owned(), "must be an object, not a list".to_owned()));
        assert_eq!(fields("").len(), 2, "an empty body lacks what is required");
    }

    #[test]
    fn what_is_no_json_is_400_with_its_place() {
        let problem = decode::<Sample>(b"{\"name\": \n  oops}").unwrap_err();
        assert_eq!(problem.code, Code::MalformedJson);
        assert!(problem.message.contains("line 2, column 3"), "{}", problem.message);
        assert_eq!(decode::<Sample>(b"\"\xff\"").unwrap_err().code, Code::MalformedJson);
        assert_eq!(decode::<Sample>(b"\"\\ud800\"").unwrap_err().code, Code::MalformedJson);
        assert_eq!(parse(br#"{"a":1,"a":2}"#).unwrap()["a"], 2, "of two equal names the last counts");
    }

    #[test]
    fn depth_is_bounded() {
        let deep = |n: usize| "[".repeat(n) + &"]".repeat(n);
        assert!(parse(deep(MOST_LEVELS).as_bytes()).is_ok());
        assert_eq!(parse(deep(MOST_LEVELS + 1).as_bytes()).unwrap_err().code, Code::ValidationError);
        assert_eq!(parse(deep(100_000).as_bytes()).unwrap_err().code, Code::ValidationError);
        assert_eq!(
            parse(format!("{{\"a\": \"{}\" x}}", "[".repeat(500)).as_bytes()).unwrap_err().code,
            Code::MalformedJson
        );
    }
}
