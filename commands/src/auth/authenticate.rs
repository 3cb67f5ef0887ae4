//! From a token to an actor, and from an actor to a yes or no.

use domain::{
    access::{Access, AccessCommand},
    actor::{Actor, ActorKind},
    api_key::ApiKey,
    error::{Code, Rejection},
    ids::ApiKeyId,
    policy::{self, Permission},
};
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;
use vault::{OpaqueKind, OpaqueToken, TokenError};

use crate::{
    App, Context, Failure,
    unit::{Unit, fresh},
};

/// `Authorization: Bearer …`: an access token or an API key.
pub async fn authenticate_bearer(app: &App, token: &SecretString) -> Result<Actor, Failure> {
    if token.expose_secret().starts_with(OpaqueKind::ApiKey.prefix()) {
        return authenticate_api_key(app, token).await;
    }
    let claims = app.vault().verify_access_token(token.expose_secret(), app.now()).map_err(|error| match error {
        TokenError::Expired => Rejection::new(Code::TokenExpired, "The access token has expired; refresh it."),
        TokenError::Invalid => Rejection::new(Code::InvalidToken, "The access token is not valid; log in again."),
    })?;
    Ok(Actor {
        kind: ActorKind::User,
        id: claims.user.to_string(),
        role: claims.role,
        workspace: claims.workspace,
        organization: claims.organization,
        session: Some(claims.session),
    })
}

pub async fn authenticate_api_key(app: &App, key: &SecretString) -> Result<Actor, Failure> {
    let invalid = || Rejection::new(Code::InvalidToken, "The API key is not valid, has expired or was revoked.");
    // A key that was never made by us costs no query.
    let presented = OpaqueToken::parse(OpaqueKind::ApiKey, key).ok_or_else(invalid)?;
    let stored = app.store().load::<ApiKey>(presented.id).await?.state;
    if !presented.matches(&stored.hash) || !stored.is_active(app.now()) {
        return Err(invalid().into());
    }
    let (Some(workspace), Some(role)) = (stored.workspace, stored.role) else { return Err(invalid().into()) };
    Ok(Actor {
        kind: ActorKind::ApiKey,
        id: ApiKeyId(presented.id).to_string(),
        role,
        workspace,
        organization: stored.organization,
        session: None,
    })
}

/// The gate: a refusal of a known actor leaves an event.
pub async fn authorize(
    app: &App,
    context: &Context,
    permission: Permission,
    method: &str,
    path: &str,
) -> Result<(), Failure> {
    let role = context.actor.role;
    if policy::allows(role, permission) {
        return Ok(());
    }
    let deny = AccessCommand::Deny {
        permission: permission.as_str().to_owned(),
        role: role.as_str().to_owned(),
        method: method.to_owned(),
        path: path.chars().take(500).collect(),
    };
    let mut context = context.clone();
    // The key belongs to the request that was meant, not to its refusal.
    context.request.idempotency = None;
    let mut unit = Unit::new(app, &context).await?;
    unit.stage(&mut fresh::<Access>(app.new_id::<Uuid>()), deny)?;
    unit.commit(()).await?;
    let message = format!("Your role, {}, does not include {}.", role.as_str(), permission.as_str());
    Err(Failure::rejected(Code::Forbidden, message))
}
