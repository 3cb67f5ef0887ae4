//! A new connection, with its credential and document when they came along.

use domain::{
    connection::{AuthScheme, Connection, ConnectionCommand, SpecSource},
    credential::{Credential, CredentialCommand, name},
    error::{Code, Faults},
    ids::{ConnectionId, CredentialId},
};
use secrecy::SecretString;

use super::{approval::gate, check_address};
use crate::{
    App, Context, Failure, Outcome, credential_value, stored_credential,
    unit::{Unit, fresh},
};

#[derive(Debug, Default)]
pub struct CreateConnection {
    pub name: String,
    pub description: Option<String>,
    pub spec_url: Option<String>,
    pub spec: Option<Upload>,
    pub base_url: Option<String>,
    pub auth: AuthScheme,
    /// The credential's value, in the form that `auth` wants (see `AuthScheme`).
    pub secret: Option<SecretString>,
}

/// A document that came with the request.
#[derive(Debug)]
pub struct Upload {
    /// JSON or YAML, or an archive (zip, tar.gz) of several files.
    pub bytes: Vec<u8>,
    /// Which file of the archive is the document, where the client says so.
    pub root: Option<String>,
}

pub async fn create(app: &App, context: &Context, input: CreateConnection) -> Outcome<ConnectionId> {
    check(&input)?;
    check_address(app, "specUrl", input.spec_url.as_deref())?;
    check_address(app, "baseUrl", input.base_url.as_deref())?;
    if let AuthScheme::Oauth2 { client } = &input.auth {
        crate::oauth::check_client(app, client)?;
    }
    let mut expires_at = None;
    if let Some(secret) = &input.secret {
        let kind = input.auth.credential_kind();
        expires_at = credential_value::check(app, Some(&input.auth), kind, secret, "authConfig.")?;
    }
    let id: ConnectionId = app.new_id();
    let workspace = context.actor.workspace;
    let gate = gate(app, workspace, &[input.spec_url.as_deref(), input.base_url.as_deref()]).await?;
    let source = match (input.spec_url, input.spec) {
        (Some(url), _) => SpecSource::Url { url },
        (None, Some(upload)) => store(app, context, upload).await?,
        (None, None) => SpecSource::None,
    };
    let credential_id: Option<CredentialId> = input.secret.is_some().then(|| app.new_id());
    let mut unit = Unit::new(app, context).await?;
    let kind = input.auth.credential_kind();
    unit.stage(
        &mut fresh::<Connection>(id.0),
        ConnectionCommand::Create {
            name: input.name.clone(),
            description: input.description,
            source,
            base_url: input.base_url,
            auth: input.auth.clone(),
            credential: credential_id,
            gate,
        },
    )?;
    let (Some(credential), Some(secret)) = (credential_id, &input.secret) else { return unit.commit(id).await };
    let value = stored_credential::store(app, workspace, credential, 0, secret).await?;
    let version = value.version;
    let outcome = async {
        let name = name::derived(&input.name, "credential");
        let command = CredentialCommand::Create { name, kind: kind.into(), connection: Some(id), value };
        let mut stored = fresh::<Credential>(credential.0);
        unit.stage(&mut stored, command)?;
        if expires_at.is_some() {
            unit.stage(&mut stored, CredentialCommand::SetExpiry { expires_at, now: app.now() })?;
        }
        unit.commit(id).await
    };
    stored_credential::settle(app, workspace, credential, version, outcome.await).await
}

/// Stores an uploaded document; too big is said at once.
pub(super) async fn store(app: &App, context: &Context, upload: Upload) -> Result<SpecSource, Failure> {
    let Upload { bytes, root } = upload;
    let limit = app.settings().spec_max_bytes;
    if bytes.len() > limit {
        let message = format!("The document has {} bytes; at most {limit} are taken.", bytes.len());
        return Err(Failure::rejected(Code::PayloadTooLarge, message));
    }
    Ok(SpecSource::Upload { blob: app.store().put_blob(context.actor.workspace.0, &bytes).await?, root })
}

fn check(input: &CreateConnection) -> Result<(), Failure> {
    let mut faults = Faults::default();
    if input.spec_url.is_some() && input.spec.is_some() {
        faults.add("spec", "give specUrl or an uploaded document, not both");
    }
    if input.spec.as_ref().is_some_and(|s| s.bytes.trim_ascii().is_empty()) {
        faults.add("spec", "is empty");
    }
    if input.auth == AuthScheme::None && input.secret.is_some() {
        faults.add("authConfig", "authType is none: there is nothing to authenticate with");
    }
    Ok(faults.into_result()?)
}
