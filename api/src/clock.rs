//! The time that answers carry. Nothing is decided by it; use cases have their own clock.

use chrono::{DateTime, SecondsFormat, Utc};

#[expect(clippy::disallowed_methods, reason = "the time at which an answer is given; nothing is decided by it")]
pub fn now() -> DateTime<Utc> {
    Utc::now()
}

/// RFC 3339, UTC, milliseconds: `2026-01-31T12:00:00.000Z`.
pub fn text(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}
