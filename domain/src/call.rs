//! What is remembered of a call to the outside: enough to see what happened, and nothing that can hold a secret. Query
//! values, headers and bodies are never in it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::ids::ConnectionId;

/// One call, redirects and repetitions by the client included.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallFacts {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_id: Option<ConnectionId>,
    pub method: String,
    /// With the port, where it is not the scheme's own.
    pub host: String,
    /// As it was sent, without the query. What looks like the credential's value is struck out.
    pub path: String,
    /// Absent: there was no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    pub duration_ms: u64,
    /// Of the body.
    pub request_bytes: u64,
    /// Of the body, decompressed.
    pub response_bytes: u64,
    /// Times that the client itself sent it; 0 when it was held back.
    pub attempts: u32,
    pub redirects: u32,
    /// What the answer said of the API's own limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
}

/// How much an API still lets its caller do, as it said itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RateLimit {
    /// Calls in a window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// Calls that are left in it.
    pub remaining: u64,
    /// When there are `limit` again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset_at: Option<DateTime<Utc>>,
}

/// What a path shows in place of a secret.
const STRUCK: &str = "[redacted]";

/// Strikes `secret` out of a path, as it is and percent-encoded. Short values would strike out half of the words there
/// are, and are no secrets.
pub fn without_secret(path: &str, secret: &str) -> String {
    if secret.len() < 4 {
        return path.to_owned();
    }
    let percent = |keep: &[u8]| -> String {
        let encode = |byte: u8| match byte.is_ascii_alphanumeric() || keep.contains(&byte) {
            true => (byte as char).to_string(),
            false => format!("%{byte:02X}"),
        };
        secret.bytes().map(encode).collect()
    };
    let mut shown = path.to_owned();
    for form in [secret.to_owned(), percent(b"-._~"), percent(b"-._~!$&'()*+,;=:@")] {
        shown = shown.replace(&form, STRUCK).replace(&form.to_lowercase(), STRUCK);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_in_a_path_is_struck_out_in_every_form() {
        assert_eq!(without_secret("/bot12:AbC/send", "12:AbC"), "/bot[redacted]/send");
        assert_eq!(without_secret("/bot12%3AAbC/send", "12:AbC"), "/bot[redacted]/send");
        assert_eq!(without_secret("/x/s%20%26t/y", "s &t"), "/x/[redacted]/y");
        assert_eq!(without_secret("/x/s%20&t/y", "s &t"), "/x/[redacted]/y");
        assert_eq!(without_secret("/v1/items", "v1"), "/v1/items", "too short to be a secret");
    }
}
