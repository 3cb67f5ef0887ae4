//! One login: a family of refresh tokens of which only the newest is good.
//!
//! Using an older one means that somebody else holds a copy: the whole family ends.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    aggregate::aggregate,
    error::{Code, Rejection},
    event::events,
    ids::{UserId, WorkspaceId},
};

events! {
    pub enum SessionEvent {
        "session.started" v "1" = Started {
            user_id: UserId,
            workspace_id: WorkspaceId,
            /// SHA-256 of the refresh token, hex.
            token_hash: String,
            expires_at: DateTime<Utc>,
        },
        "session.refreshed" v "1" = Refreshed { token_hash: String, expires_at: DateTime<Utc> },
        "session.revoked" v "1" = Revoked { reason: String },
    }
}

#[derive(Debug)]
pub enum SessionCommand {
    Start { user: UserId, workspace: WorkspaceId, token_hash: String, expires_at: DateTime<Utc> },
    Refresh { presented_hash: String, token_hash: String, expires_at: DateTime<Utc>, now: DateTime<Utc> },
    Revoke { reason: String },
}

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Session {
    pub user: Option<UserId>,
    pub workspace: Option<WorkspaceId>,
    pub token_hash: String,
    pub expires_at: Option<DateTime<Utc>>,
    pub revoked: bool,
}

impl Session {
    fn evolve(&mut self, event: SessionEvent) {
        match event {
            SessionEvent::Started { user_id, workspace_id, token_hash, expires_at } => {
                self.user = Some(user_id);
                self.workspace = Some(workspace_id);
                self.token_hash = token_hash;
                self.expires_at = Some(expires_at);
            }
            SessionEvent::Refreshed { token_hash, expires_at } => {
                self.token_hash = token_hash;
                self.expires_at = Some(expires_at);
            }
            SessionEvent::Revoked { .. } => self.revoked = true,
        }
    }
}

/// A reused token is no refusal here but a revocation: the caller sees the event and answers 401.
fn decide(state: &Session, command: SessionCommand) -> Result<Vec<SessionEvent>, Rejection> {
    let invalid = || Rejection::new(Code::InvalidToken, "This refresh token is not valid; log in again.");
    match command {
        SessionCommand::Start { user, workspace, token_hash, expires_at } if state.user.is_none() => {
            Ok(vec![SessionEvent::Started { user_id: user, workspace_id: workspace, token_hash, expires_at }])
        }
        SessionCommand::Start { .. } => Err(Rejection::new(Code::Conflict, "This session exists already.")),
        SessionCommand::Revoke { reason } if state.user.is_some() && !state.revoked => {
            Ok(vec![SessionEvent::Revoked { reason }])
        }
        SessionCommand::Revoke { .. } => Ok(vec![]),
        SessionCommand::Refresh { presented_hash, token_hash, expires_at, now } => {
            let expired = state.expires_at.is_none_or(|at| at <= now);
            if state.user.is_none() || state.revoked || expired {
                return Err(invalid());
            }
            if presented_hash != state.token_hash {
                return Ok(vec![SessionEvent::Revoked { reason: "a used refresh token was presented again".into() }]);
            }
            Ok(vec![SessionEvent::Refreshed { token_hash, expires_at }])
        }
    }
}

aggregate!(Session, "session", SessionCommand, SessionEvent, decide);

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use cqrs_es::test::TestFramework;

    use super::*;

    fn started(now: DateTime<Utc>) -> SessionEvent {
        SessionEvent::Started {
            user_id: UserId::default(),
            workspace_id: WorkspaceId::default(),
            token_hash: "one".into(),
            expires_at: now + TimeDelta::days(30),
        }
    }

    fn refresh(presented: &str, now: DateTime<Utc>) -> SessionCommand {
        SessionCommand::Refresh {
            presented_hash: presented.into(),
            token_hash: "two".into(),
            expires_at: now + TimeDelta::days(30),
            now,
        }
    }

    #[test]
    fn rotates_and_ends_the_family_on_reuse() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let refreshed = SessionEvent::Refreshed { token_hash: "two".into(), expires_at: now + TimeDelta::days(30) };
        TestFramework::<Session>::with(())
            .given(vec![started(now)])
            .when(refresh("one", now))
            .then_expect_events(vec![refreshed.clone()]);
        TestFramework::<Session>::with(())
            .given(vec![started(now), refreshed])
            .when(refresh("one", now))
            .then_expect_events(vec![SessionEvent::Revoked {
                reason: "a used refresh token was presented again".into(),
            }]);
    }

    #[test]
    fn refuses_after_expiry_and_revocation() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        TestFramework::<Session>::with(())
            .given(vec![started(now)])
            .when(refresh("one", now + TimeDelta::days(31)))
            .then_expect_error_message("This refresh token is not valid; log in again.");
        TestFramework::<Session>::with(())
            .given(vec![started(now), SessionEvent::Revoked { reason: "logout".into() }])
            .when(refresh("one", now))
            .then_expect_error_message("This refresh token is not valid; log in again.");
    }
}
