//! What is wrong with a provider's answer, in words that anybody may read: no token, no code, no secret.

/// What follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// `invalid_grant`: what was presented is worth nothing (any more).
    GrantGone,
    /// The provider does not want to: the client, the scopes, the request.
    Refused,
    /// Nobody answered, or said that it cannot just now.
    Unreachable,
    /// It answered something that is no answer.
    Unreadable,
    /// Nothing was sent: the settings cannot be right.
    Settings,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{words}")]
pub struct Fault {
    pub kind: FaultKind,
    /// A sentence without its full stop, about the provider: `answers 500 with nothing`.
    pub words: String,
}

impl Fault {
    pub fn new(kind: FaultKind, words: impl Into<String>) -> Self {
        Self { kind, words: words.into() }
    }
}
