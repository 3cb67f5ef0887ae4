//! API keys: create (shown once) and revoke.

use chrono::{DateTime, Utc};
use domain::{
    actor::Role,
    api_key::{ApiKey, ApiKeyCommand},
    error::Code,
    ids::ApiKeyId,
};
use secrecy::SecretString;
use vault::{OpaqueKind, OpaqueToken};

use crate::{
    App, Context, Outcome,
    unit::{Unit, change, fresh},
};

#[derive(Debug)]
pub struct CreateApiKey {
    pub name: String,
    pub role: Role,
    pub expires_at: Option<DateTime<Utc>>,
}

#[derive(Debug)]
pub struct CreatedApiKey {
    pub id: ApiKeyId,
    pub key: SecretString,
    pub prefix: String,
}

pub async fn create(app: &App, context: &Context, input: CreateApiKey) -> Outcome<CreatedApiKey> {
    let id: ApiKeyId = app.new_id();
    let (key, token, prefix) = OpaqueToken::generate(OpaqueKind::ApiKey, id.0);
    let mut unit = Unit::new(app, context).await?;
    unit.stage(
        &mut fresh::<ApiKey>(id.0),
        ApiKeyCommand::Create {
            workspace: context.actor.workspace,
            organization: context.actor.organization,
            name: input.name,
            role: input.role,
            maker: context.actor.role,
            hash: token.hash,
            prefix: prefix.clone(),
            expires_at: input.expires_at,
            now: app.now(),
        },
    )?;
    unit.commit(CreatedApiKey { id, key, prefix }).await
}

pub async fn revoke(app: &App, context: &Context, id: ApiKeyId) -> Outcome<()> {
    let target = (id.0, Code::ApiKeyNotFound, "API key");
    let done = change::<ApiKey>(app, context, target, None, |_| Ok(ApiKeyCommand::Revoke)).await?;
    Ok(done.map(|_| ()))
}
