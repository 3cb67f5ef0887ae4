//! The problem table: every code has one status, and every error one shape.

use commands::Failure;
use domain::error::{Code, FieldError, Rejection};
use poem::{
    IntoResponse, Response,
    error::{MethodNotAllowedError, NotFoundError},
    http::{HeaderValue, StatusCode, header},
};
use poem_openapi::{
    ApiResponse,
    error::{ContentTypeError, ParseParamError, ParsePathError},
    registry::{MetaResponses, Registry},
};
use serde_json::{Value, json};

use crate::clock;

/// The one place that turns codes into HTTP.
pub fn status_of(code: Code) -> StatusCode {
    match code {
        Code::MalformedJson | Code::Oauth2Error => StatusCode::BAD_REQUEST,
        Code::Unauthorized | Code::InvalidCredentials | Code::InvalidToken | Code::TokenExpired => {
            StatusCode::UNAUTHORIZED
        }
        Code::Forbidden => StatusCode::FORBIDDEN,
        Code::ResourceNotFound
        | Code::ConnectionNotFound
        | Code::CredentialNotFound
        | Code::WorkflowNotFound
        | Code::ExecutionNotFound
        | Code::PlanNotFound
        | Code::WebhookNotFound
        | Code::ApiKeyNotFound => StatusCode::NOT_FOUND,
        Code::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        Code::Conflict
        | Code::EmailExists
        | Code::IdempotencyConflict
        | Code::ExecutionAlreadyCompleted
        | Code::ConfirmationRequired => StatusCode::CONFLICT,
        Code::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Code::ValidationError => StatusCode::UNPROCESSABLE_ENTITY,
        Code::RateLimitExceeded => StatusCode::TOO_MANY_REQUESTS,
        Code::ApiConnectionFailed | Code::IntegrationError | Code::AiServiceError => StatusCode::BAD_GATEWAY,
        Code::ServiceUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::InternalError => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// An error on its way to the client. `source` goes to the service's log only.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct Problem {
    pub code: Code,
    pub message: String,
    pub details: Vec<FieldError>,
    /// What the client needs to go on, beside the error.
    pub data: Option<Box<Value>>,
    /// Seconds until a repetition makes sense.
    pub retry_after: Option<u64>,
    /// A status other than the table's: an idempotency key used for another request is 422.
    status: Option<StatusCode>,
    cause: Option<String>,
}

impl Problem {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Rejection::new(code, message).into()
    }

    /// 422 with every wrong field.
    pub fn invalid(details: Vec<FieldError>) -> Self {
        Rejection::invalid(details).into()
    }

    pub fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        Rejection::field(field, message).into()
    }

    pub fn not_found(code: Code, what: &str) -> Self {
        Rejection::not_found(code, what).into()
    }

    pub fn unavailable(cause: impl ToString) -> Self {
        let mut problem =
            Self::new(Code::ServiceUnavailable, "The service cannot answer this at the moment; try again in a second.");
        problem.retry_after = Some(1);
        problem.cause = Some(cause.to_string());
        problem
    }

    pub fn internal(cause: impl ToString) -> Self {
        let mut problem =
            Self::new(Code::InternalError, "Something went wrong on our side; the request id names it in our log.");
        problem.cause = Some(cause.to_string());
        problem
    }

    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = Some(status);
        self
    }

    pub fn with_retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    pub fn status(&self) -> StatusCode {
        self.status.unwrap_or_else(|| status_of(self.code))
    }

    /// The error envelope. What must not be told is logged here, under the request's id.
    pub fn respond(self, request_id: &str) -> Response {
        let status = self.status();
        if let Some(cause) = &self.cause {
            tracing::error!(request_id, code = self.code.as_str(), cause, "request failed");
        }
        let mut body = json!({
            "success": false,
            "error": self.message,
            "code": self.code.as_str(),
            "details": self.details,
            "requestId": request_id,
            "timestamp": clock::text(clock::now()),
        });
        if let Some(data) = self.data {
            body["data"] = *data;
        }
        if self.code == Code::RateLimitExceeded {
            body["retryAfter"] = json!(self.retry_after.unwrap_or(1));
        }
        let mut response =
            Response::builder().status(status).content_type("application/json; charset=utf-8").body(body.to_string());
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, challenge(self.code));
        }
        response.set_data(self.code);
        response
    }
}

/// RFC 6750: an unusable token is named, missing credentials are not.
fn challenge(code: Code) -> HeaderValue {
    HeaderValue::from_static(match code {
        Code::InvalidToken => "Bearer realm=\"apiq\", error=\"invalid_token\"",
        Code::TokenExpired => {
            "Bearer realm=\"apiq\", error=\"invalid_token\", error_description=\"the token has expired\""
        }
        _ => "Bearer realm=\"apiq\"",
    })
}

impl From<Rejection> for Problem {
    fn from(rejection: Rejection) -> Self {
        let Rejection { code, message, details, data } = rejection;
        Self { code, message, details, data, retry_after: None, status: None, cause: None }
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Rejected(rejection) => rejection.into(),
            Failure::Unavailable(cause) => Problem::unavailable(cause),
            Failure::Internal(cause) => Problem::internal(cause),
        }
    }
}

/// Carried whole, so that the outermost layer can give it the request's id.
impl From<Problem> for poem::Error {
    fn from(problem: Problem) -> Self {
        let status = problem.status();
        poem::Error::new(problem, status)
    }
}

/// What poem and poem-openapi say by themselves.
impl From<poem::Error> for Problem {
    fn from(error: poem::Error) -> Self {
        let error = match error.downcast::<Problem>() {
            Ok(problem) => return problem,
            Err(error) => error,
        };
        if error.is::<NotFoundError>() {
            return Problem::new(Code::ResourceNotFound, "There is no such route; /docs lists them all.");
        }
        if error.is::<MethodNotAllowedError>() {
            return Problem::new(Code::MethodNotAllowed, "This route does not know this method; /docs lists them all.");
        }
        if let Some(ParseParamError { name, .. }) = error.downcast_ref() {
            return Problem::field(*name, "has not the form that this parameter wants");
        }
        if let Some(ParsePathError { .. }) = error.downcast_ref() {
            return Problem::field("path", "a part of the path has not the form that this route wants");
        }
        if error.is::<ContentTypeError>() {
            return Problem::new(Code::UnsupportedMediaType, "Send the body as application/json.");
        }
        let cause = error.to_string();
        match error.status() {
            StatusCode::NOT_FOUND => Problem::new(Code::ResourceNotFound, "There is no such route or file."),
            StatusCode::METHOD_NOT_ALLOWED => Problem::new(Code::MethodNotAllowed, "This method is not known here."),
            StatusCode::PAYLOAD_TOO_LARGE => Problem::new(Code::PayloadTooLarge, "The body is too big."),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => {
                Problem::new(Code::UnsupportedMediaType, "Send the body as application/json.")
            }
            status if status.is_client_error() => {
                Problem::new(Code::ValidationError, "The request cannot be understood.")
            }
            _ => Problem::internal(cause),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        self.respond("")
    }
}

/// Errors are declared by `document`, for each operation those it can give.
impl ApiResponse for Problem {
    fn meta() -> MetaResponses {
        MetaResponses { responses: Vec::new() }
    }

    fn register(_registry: &mut Registry) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn body(response: Response) -> Value {
        serde_json::from_str(&response.into_body().into_string().await.unwrap()).unwrap()
    }

    #[tokio::test]
    async fn every_code_has_an_error_status_and_the_one_shape() {
        for code in Code::ALL {
            let response = Problem::new(code, "A sentence.").respond("req_x");
            assert!(response.status().as_u16() >= 400, "{code:?}");
            assert_eq!(
                response.headers().contains_key(header::WWW_AUTHENTICATE),
                response.status() == StatusCode::UNAUTHORIZED
            );
            let body = body(response).await;
            assert_eq!(body["success"], false);
            assert_eq!(body["error"], "A sentence.");
            assert_eq!(body["code"], code.as_str());
            assert_eq!(body["details"], json!([]));
            assert_eq!(body["requestId"], "req_x");
            assert!(body["timestamp"].as_str().unwrap().ends_with('Z'));
        }
    }

    #[tokio::test]
    async fn the_inside_is_not_told() {
        let problem: Problem = Failure::Internal("connection to 10.0.0.1 refused, password hunter2".into()).into();
        let error: poem::Error = problem.into();
        let response = Problem::from(error).respond("req_x");
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let text = body(response).await.to_string();
        assert!(!text.contains("hunter2") && !text.contains("10.0.0.1"), "{text}");
        let plain = poem::Error::from_string("hunter2", StatusCode::INTERNAL_SERVER_ERROR);
        let text = body(Problem::from(plain).respond("req_x")).await.to_string();
        assert!(!text.contains("hunter2"), "{text}");
    }

    #[tokio::test]
    async fn a_limit_says_when_to_come_back() {
        let response = Problem::new(Code::RateLimitExceeded, "Slow down.").with_retry_after(7).respond("req_x");
        assert_eq!(response.headers()[header::RETRY_AFTER], "7");
        assert_eq!(body(response).await["retryAfter"], 7);
    }
}
