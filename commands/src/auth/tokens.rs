//! A pair of tokens for a session.

use chrono::{DateTime, Utc};
use domain::ids::SessionId;
use secrecy::SecretString;
use vault::{AccessClaims, OpaqueKind, OpaqueToken};

use super::Profile;
use crate::{App, Failure};

#[derive(Debug)]
pub struct Tokens {
    pub access_token: String,
    pub refresh_token: SecretString,
    /// Seconds until the access token ends.
    pub expires_in: i64,
    pub user: Profile,
}

/// A refresh token that is not yet known to the session, with its hash.
pub(super) fn new_refresh_token(session: SessionId) -> (SecretString, String) {
    let (token, parsed, _) = OpaqueToken::generate(OpaqueKind::Refresh, session.0);
    (token, parsed.hash)
}

pub(super) fn issue(
    app: &App,
    session: SessionId,
    user: Profile,
    refresh_token: SecretString,
    now: DateTime<Utc>,
) -> Result<Tokens, Failure> {
    let life = app.settings().access_token_life;
    let claims = AccessClaims {
        user: user.user_id.unwrap_or_default(),
        session,
        workspace: user.workspace_id,
        organization: user.organization_id,
        role: user.role,
    };
    let access_token = app.vault().issue_access_token(&claims, now, life)?;
    Ok(Tokens { access_token, refresh_token, expires_in: life.num_seconds(), user })
}
