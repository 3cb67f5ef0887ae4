//! Gives an access token out, to whoever may have it; the read is in the log before.

use chrono::{DateTime, Utc};
use domain::{
    error::{Code, Rejection},
    ids::ConnectionId,
    oauth::Because,
};
use secrecy::SecretString;

use super::{authorize::client_of, fresh::fresh, tokens};
use crate::{App, Context, Failure, connection};

pub struct Token {
    pub access: SecretString,
    pub scopes: Vec<String>,
    pub expires_at: Option<DateTime<Utc>>,
    /// Of the credential.
    pub version: i32,
}

pub async fn token(app: &App, context: &Context, id: ConnectionId) -> Result<Token, Failure> {
    client_of(&connection::load(app, context.actor.workspace, id).await?.state)?;
    let standing = fresh(app, context, id, Because::Use, None).await?;
    if let Some((_, words)) = standing.fault() {
        return Err(Rejection::new(Code::Oauth2Error, words).into());
    }
    let (values, version) = tokens::read(app, context, id, "oauth_token_revealed", "").await?;
    let grant = connection::load(app, context.actor.workspace, id).await?.state.grant;
    let gone = || Rejection::new(Code::Oauth2Error, "The grant has just been given back.");
    let (access, grant) = values.access.zip(grant).ok_or_else(gone)?;
    Ok(Token { access, scopes: grant.scopes, expires_at: grant.expires_at, version })
}
