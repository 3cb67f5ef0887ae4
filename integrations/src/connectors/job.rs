//! What a connector is given to make a request of.

use domain::expression;
use serde_json::{Map, Value};
use url::Url;

/// Limits that the operator sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// Of all attachments of one mail together, decoded.
    pub attachment_bytes: usize,
}

impl Default for Caps {
    fn default() -> Self {
        Self { attachment_bytes: 10 * 1024 * 1024 }
    }
}

/// One action to be done. It holds an opened credential, and so it cannot be printed.
pub struct Job<'a> {
    pub action: &'a str,
    pub input: &'a Map<String, Value>,
    /// Of the instance; empty without one.
    pub config: &'a Map<String, Value>,
    /// The credential's data; empty without one.
    pub credential: &'a Map<String, Value>,
    /// Equal for all attempts of a step. Absent: none is wanted.
    pub key: Option<&'a str>,
    /// Another one for each attempt.
    pub reference: &'a str,
}

/// Why there is nothing to send. Public: no values, no secrets.
#[derive(Debug, Clone, PartialEq)]
pub struct Wrong {
    pub code: &'static str,
    pub message: String,
}

impl Wrong {
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// The credential does not hold what this action needs.
    pub fn lacking(what: &str) -> Self {
        Self::new("CREDENTIAL_LACKING", format!("The credential has no {what}, which this action needs."))
    }
}

impl<'a> Job<'a> {
    /// A text of the input; empty when it is not there.
    pub fn text(&self, name: &str) -> &'a str {
        self.input.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// A text of the credential that is not empty.
    pub fn secret(&self, name: &str) -> Option<&'a str> {
        self.credential.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    /// Where the service is: `usual`, unless the credential or the instance names another place. A credential goes to the
    /// origin it was stored for, whatever an instance says.
    pub fn base(&self, usual: &str) -> Result<String, Wrong> {
        let stored_for = self.secret("baseUrl").unwrap_or(usual);
        let wanted = self.config.get("baseUrl").and_then(Value::as_str).unwrap_or(stored_for);
        if !self.credential.is_empty() && !same_origin(stored_for, wanted) {
            return Err(bound());
        }
        Ok(wanted.trim_end_matches('/').to_owned())
    }
}

pub(super) fn bound() -> Wrong {
    let message = "The credential was stored for another host and goes nowhere else: if this host is right, store the \
                   credential with it.";
    Wrong::new("CREDENTIAL_BOUND", message)
}

/// Scheme, host and port.
pub(super) fn same_origin(a: &str, b: &str) -> bool {
    match (Url::parse(a), Url::parse(b)) {
        (Ok(a), Ok(b)) => a.origin() == b.origin(),
        _ => false,
    }
}

/// An action's input while it is looked at: at saving, texts may still be expressions, and count as unknown.
pub struct Input<'a> {
    map: &'a Map<String, Value>,
    unevaluated: bool,
}

impl<'a> Input<'a> {
    /// As a definition has it, expressions and all.
    pub fn unevaluated(map: &'a Map<String, Value>) -> Self {
        Self { map, unevaluated: true }
    }

    /// As it will be sent: whatever looks like an expression is a text.
    pub fn rendered(map: &'a Map<String, Value>) -> Self {
        Self { map, unevaluated: false }
    }

    pub fn map(&self) -> &'a Map<String, Value> {
        self.map
    }

    pub fn has(&self, name: &str) -> bool {
        self.map.get(name).is_some_and(|value| !value.is_null())
    }

    /// Will it be something else when it is evaluated?
    pub fn is_open(&self, value: &Value) -> bool {
        self.unevaluated && value.as_str().is_some_and(expression::is_template)
    }

    /// A text that is known by now.
    pub fn text(&self, name: &str) -> Option<&'a str> {
        self.map.get(name).filter(|value| !self.is_open(value))?.as_str()
    }

    /// A value that is known by now: one text or several, each with its place behind `name`.
    pub fn texts(&self, name: &str) -> Vec<(String, &'a str)> {
        let known = |value: &'a Value| value.as_str().filter(|_| !self.is_open(value));
        match self.map.get(name) {
            Some(Value::Array(items)) => {
                let all = items.iter().enumerate();
                all.filter_map(|(i, item)| Some((format!("{name}[{i}]"), known(item)?))).collect()
            }
            Some(one) => known(one).map(|text| (name.to_owned(), text)).into_iter().collect(),
            None => Vec::new(),
        }
    }
}
