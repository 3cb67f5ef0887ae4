//! Reading a request's fields, from a JSON body or a query string, so that every fault is found at once.

use poem::http::StatusCode;
use poem::{Body, Error, Request};
use serde_json::{Map, Value};

use super::problem;

/// Largest body that is read, in bytes.
const MAX_BODY: usize = 64 * 1024;
/// Longest text in a field, in bytes.
const MAX_TEXT: usize = 10_000;

/// What is wrong with one field.
pub(super) struct Fault {
    pub field: String,
    pub message: String,
}

/// The fields that were sent, each taken out as it is read; what is left at the end is unknown.
pub(super) struct Fields {
    sent: Map<String, Value>,
    faults: Vec<Fault>,
}

impl Fields {
    pub(super) async fn from_body(body: Body) -> Result<Self, Error> {
        let refuse = |status, code, message| Error::from_response(problem(status, code, message, &[]));
        let bytes = body.into_bytes_limit(MAX_BODY).await.map_err(|_| {
            refuse(
                StatusCode::PAYLOAD_TOO_LARGE,
                "payload_too_large",
                "the body is larger than 64 KiB, or was cut short",
            )
        })?;
        match serde_json::from_slice(&bytes) {
            Ok(Value::Object(sent)) => Ok(Self { sent, faults: Vec::new() }),
            Ok(_) => Err(refuse(StatusCode::BAD_REQUEST, "invalid_json", "the body must be a JSON object")),
            Err(_) => Err(refuse(StatusCode::BAD_REQUEST, "invalid_json", "the body is not JSON")),
        }
    }

    /// A parameter that is sent twice is a fault.
    pub(super) fn from_query(request: &Request) -> Result<Self, Error> {
        let mut fields = Self { sent: Map::new(), faults: Vec::new() };
        for (name, value) in request.params::<Vec<(String, String)>>()? {
            if fields.sent.insert(name.clone(), Value::String(value)).is_some() {
                fields.fault(&name, "is given twice");
            }
        }
        Ok(fields)
    }

    pub(super) fn fault(&mut self, field: &str, message: impl Into<String>) {
        self.faults.push(Fault { field: field.to_owned(), message: message.into() });
    }

    /// A text that may be left out; null counts as left out, and an empty text is a fault.
    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        match self.sent.remove(name) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) if text.trim().is_empty() => {
                self.fault(name, "must not be empty");
                None
            }
            Some(Value::String(text)) if text.len() > MAX_TEXT => {
                self.fault(name, format!("must not be longer than {MAX_TEXT} bytes"));
                None
            }
            Some(Value::String(text)) => Some(text),
            Some(_) => {
                self.fault(name, "must be a string");
                None
            }
        }
    }

    /// A text that must be there. What comes back after a fault is never used: [`Self::finish`] refuses the request.
    pub(super) fn required_text(&mut self, name: &str) -> String {
        let known = self.faults.len();
        let text = self.text(name);
        if text.is_none() && self.faults.len() == known {
            self.fault(name, "is required");
        }
        text.unwrap_or_default()
    }

    pub(super) fn required_email(&mut self, name: &str) -> String {
        let known = self.faults.len();
        let text = self.required_text(name);
        if self.faults.len() == known && !is_email(&text) {
            self.fault(name, "must be an e-mail address");
        }
        text
    }

    pub(super) fn choice(&mut self, name: &str, choices: &[&str]) -> Option<String> {
        let text = self.text(name)?;
        if !choices.contains(&text.as_str()) {
            self.fault(name, format!("must be one of {}", choices.join(", ")));
        }
        Some(text)
    }

    /// An object of texts, numbers and booleans, as variables of a template; empty if left out.
    pub(super) fn variables(&mut self, name: &str) -> Map<String, Value> {
        let variables = match self.sent.remove(name) {
            None | Some(Value::Null) => return Map::new(),
            Some(Value::Object(variables)) => variables,
            Some(_) => {
                self.fault(name, "must be an object");
                return Map::new();
            }
        };
        for (key, value) in &variables {
            if value.is_object() || value.is_array() || value.is_null() {
                self.fault(&format!("{name}.{key}"), "must be a string, a number or a boolean");
            }
        }
        variables
    }

    /// The `limit` of a list: 1 to 100, 20 if left out.
    pub(super) fn limit(&mut self) -> usize {
        let Some(text) = self.text("limit") else { return 20 };
        match text.parse() {
            Ok(limit @ 1..=100) => limit,
            _ => {
                self.fault("limit", "must be a whole number from 1 to 100");
                20
            }
        }
    }

    /// Refuses the request if anything was wrong or unknown.
    pub(super) fn finish(mut self) -> Result<(), Error> {
        let unknown: Vec<String> = self.sent.keys().cloned().collect();
        unknown.iter().for_each(|name| self.fault(name, "is not known here"));
        if self.faults.is_empty() {
            return Ok(());
        }
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        Err(Error::from_response(problem(status, "invalid_request", "some fields are wrong", &self.faults)))
    }
}

/// Enough of an e-mail address for a sandbox: one `@`, something before it, a dotted domain after it, no blanks.
fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else { return false };
    let labels_are_fine = domain.split('.').all(|label| !label.is_empty());
    let plain = !text.contains(|c: char| c.is_whitespace() || c.is_control() || "<>,;\"".contains(c));
    !local.is_empty() && text.len() <= 254 && plain && domain.contains('.') && labels_are_fine && !domain.contains('@')
}
