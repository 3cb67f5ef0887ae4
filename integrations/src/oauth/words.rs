//! Words about a provider's answers that anybody may read: what a provider writes is never trusted to hold no secret.

use domain::oauth::{Fault, FaultKind};

use crate::egress::EgressError;

/// Of a provider's sentence so much is told.
const MOST: usize = 200;
/// Shorter values are in every sentence.
const LEAST_SECRET: usize = 6;
/// A word of this length with a digit in it is no word.
const LEAST_TOKEN: usize = 16;

/// No answer came.
pub fn unreachable(error: &EgressError) -> Fault {
    let kind = match error {
        EgressError::InvalidUrl { .. }
        | EgressError::InvalidRequest { .. }
        | EgressError::BlockedScheme { .. }
        | EgressError::BlockedAddress { .. }
        | EgressError::BlockedPort { .. } => FaultKind::Settings,
        EgressError::ResponseTooLarge { .. } | EgressError::Protocol { .. } => FaultKind::Unreadable,
        _ => FaultKind::Unreachable,
    };
    Fault::new(kind, format!("cannot be asked: {error}"))
}

/// An error's name as the standard writes them; of others nothing is told.
pub fn error_code(code: &str) -> &str {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
    if (1..=60).contains(&code.len()) && code.bytes().all(fits) { code } else { "an error without a name" }
}

/// A provider's sentence without line breaks, without what we sent, and not too long.
pub fn sentence(text: &str, secrets: &[&str]) -> String {
    let mut clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    for secret in secrets.iter().filter(|secret| secret.len() >= LEAST_SECRET) {
        let encoded: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        clean = clean.replace(secret, "[redacted]").replace(&encoded, "[redacted]");
        // A piece of it would do as well.
        let piece: String = secret.chars().take(12).collect();
        if piece.len() >= LEAST_SECRET && clean.contains(&piece) {
            return "[redacted]".into();
        }
    }
    // What looks like a token may be one that we did not send just now.
    let words = clean.split(' ').map(|word| if is_token_like(word) { "[redacted]" } else { word });
    words.collect::<Vec<_>>().join(" ").trim().chars().take(MOST).collect()
}

/// Long, and of letters and digits together.
fn is_token_like(word: &str) -> bool {
    word.len() >= LEAST_TOKEN && word.bytes().any(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_does_not_come_back() {
        let secret = "s3cret+code/with=signs";
        for said in [
            format!("the code {secret} is wrong"),
            format!("code%3D{}", url::form_urlencoded::byte_serialize(secret.as_bytes()).collect::<String>()),
            "the code s3cret+code/w… is wrong".to_owned(),
        ] {
            let shown = sentence(&said, &[secret]);
            assert!(!shown.contains("s3cret") && shown.contains("[redacted]"), "{shown}");
        }
        assert_eq!(sentence("a\r\nb", &["x"]), "a  b");
        assert_eq!(sentence("the token gho_16C7e42F292c6912E7 of before", &[]), "the token [redacted] of before");
        assert_eq!(sentence(&"x".repeat(500), &[]).len(), 200);
        assert_eq!(error_code("invalid_grant"), "invalid_grant");
        assert_eq!(error_code("<b>no</b>"), "an error without a name");
    }
}
