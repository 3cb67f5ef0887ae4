//! How the domain says no: one code, one sentence a person can act on, and every field that is wrong.

use serde::{Deserialize, Serialize};

/// Every error code of the HTTP contract. `api` maps each to a status in one exhaustive match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Code {
    Unauthorized,
    InvalidCredentials,
    InvalidToken,
    TokenExpired,
    Forbidden,
    ResourceNotFound,
    ConnectionNotFound,
    CredentialNotFound,
    WorkflowNotFound,
    ExecutionNotFound,
    PlanNotFound,
    WebhookNotFound,
    ApiKeyNotFound,
    MethodNotAllowed,
    Conflict,
    EmailExists,
    IdempotencyConflict,
    ExecutionAlreadyCompleted,
    ConfirmationRequired,
    Oauth2Error,
    MalformedJson,
    UnsupportedMediaType,
    ValidationError,
    PayloadTooLarge,
    RateLimitExceeded,
    ApiConnectionFailed,
    IntegrationError,
    AiServiceError,
    ServiceUnavailable,
    InternalError,
}

impl Code {
    /// Every code, for the error pages and the OpenAPI document.
    pub const ALL: [Code; 30] = [
        Code::Unauthorized,
        Code::InvalidCredentials,
        Code::InvalidToken,
        Code::TokenExpired,
        Code::Forbidden,
        Code::ResourceNotFound,
        Code::ConnectionNotFound,
        Code::CredentialNotFound,
        Code::WorkflowNotFound,
        Code::ExecutionNotFound,
        Code::PlanNotFound,
        Code::WebhookNotFound,
        Code::ApiKeyNotFound,
        Code::MethodNotAllowed,
        Code::Conflict,
        Code::EmailExists,
        Code::IdempotencyConflict,
        Code::ExecutionAlreadyCompleted,
        Code::ConfirmationRequired,
        Code::Oauth2Error,
        Code::MalformedJson,
        Code::UnsupportedMediaType,
        Code::ValidationError,
        Code::PayloadTooLarge,
        Code::RateLimitExceeded,
        Code::ApiConnectionFailed,
        Code::IntegrationError,
        Code::AiServiceError,
        Code::ServiceUnavailable,
        Code::InternalError,
    ];

    /// `UPPER_SNAKE`, as it stands in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Code::Unauthorized => "UNAUTHORIZED",
            Code::InvalidCredentials => "INVALID_CREDENTIALS",
            Code::InvalidToken => "INVALID_TOKEN",
            Code::TokenExpired => "TOKEN_EXPIRED",
            Code::Forbidden => "FORBIDDEN",
            Code::ResourceNotFound => "RESOURCE_NOT_FOUND",
            Code::ConnectionNotFound => "CONNECTION_NOT_FOUND",
            Code::CredentialNotFound => "CREDENTIAL_NOT_FOUND",
            Code::WorkflowNotFound => "WORKFLOW_NOT_FOUND",
            Code::ExecutionNotFound => "EXECUTION_NOT_FOUND",
            Code::PlanNotFound => "PLAN_NOT_FOUND",
            Code::WebhookNotFound => "WEBHOOK_NOT_FOUND",
            Code::ApiKeyNotFound => "API_KEY_NOT_FOUND",
            Code::MethodNotAllowed => "METHOD_NOT_ALLOWED",
            Code::Conflict => "CONFLICT",
            Code::EmailExists => "EMAIL_EXISTS",
            Code::IdempotencyConflict => "IDEMPOTENCY_CONFLICT",
            Code::ExecutionAlreadyCompleted => "EXECUTION_ALREADY_COMPLETED",
            Code::ConfirmationRequired => "CONFIRMATION_REQUIRED",
            Code::Oauth2Error => "OAUTH2_ERROR",
            Code::MalformedJson => "MALFORMED_JSON",
            Code::UnsupportedMediaType => "UNSUPPORTED_MEDIA_TYPE",
            Code::ValidationError => "VALIDATION_ERROR",
            Code::PayloadTooLarge => "PAYLOAD_TOO_LARGE",
            Code::RateLimitExceeded => "RATE_LIMIT_EXCEEDED",
            Code::ApiConnectionFailed => "API_CONNECTION_FAILED",
            Code::IntegrationError => "INTEGRATION_ERROR",
            Code::AiServiceError => "AI_SERVICE_ERROR",
            Code::ServiceUnavailable => "SERVICE_UNAVAILABLE",
            Code::InternalError => "INTERNAL_ERROR",
        }
    }
}

/// One wrong field: `field` is a path into the body (`steps[1].endpoint`), `message` says what is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldError {
    pub field: String,
    pub message: String,
}

impl FieldError {
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

/// A refused command. `message` is public: it never holds a secret or another tenant's data.
#[derive(Debug, Clone, PartialEq, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct Rejection {
    pub code: Code,
    pub message: String,
    pub details: Vec<FieldError>,
    /// What the client needs to go on (the plan to confirm); shown as `data` beside the error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Box<serde_json::Value>>,
}

impl Rejection {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: Vec::new(), data: None }
    }

    /// 422 with every wrong field; the sentence counts them.
    pub fn invalid(details: Vec<FieldError>) -> Self {
        let message = match details.as_slice() {
            [one] => format!("{}: {}", one.field, one.message),
            many => format!("{} fields are wrong; details names each.", many.len()),
        };
        Self { code: Code::ValidationError, message, details, data: None }
    }

    pub fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::invalid(vec![FieldError::new(field, message)])
    }

    pub fn not_found(code: Code, what: &str) -> Self {
        Self::new(code, format!("There is no {what} with this id in the workspace."))
    }
}

/// Gathers wrong fields, so that an answer names them all.
#[derive(Debug, Default)]
pub struct Faults(pub Vec<FieldError>);

impl Faults {
    pub fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.0.push(FieldError::new(field, message));
    }

    /// A text's length in characters.
    pub fn length(&mut self, field: &str, text: &str, min: usize, max: usize) {
        let count = text.trim().chars().count();
        if count < min || text.chars().count() > max {
            self.add(field, format!("must have {min} to {max} characters"));
        }
    }

    pub fn into_result(self) -> Result<(), Rejection> {
        if self.0.is_empty() { Ok(()) } else { Err(Rejection::invalid(self.0)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_agree_with_serde_and_are_complete() {
        for code in Code::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
        }
        let mut names: Vec<_> = Code::ALL.iter().map(|c| c.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Code::ALL.len());
    }
}
