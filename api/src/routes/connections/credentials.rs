//! The credential of a connection: metadata only, never the value.

use std::collections::BTreeMap;

use commands::credential::{self as use_cases, CreateCredential};
use domain::{
    connection::{AuthScheme, Connection},
    credential::name,
    error::{Code, Faults},
    event::LogPosition,
    ids::{ConnectionId, CredentialId},
};
use poem_openapi::{Object, OpenApi, param::Path};
use secrecy::SecretString;

use super::auth::{KeyBody, SchemeValueBody, Values};
use crate::{
    answer::{Answer, Written},
    auth::{
        Permit,
        grant::{CredentialRead, CredentialWrite},
    },
    body::Body,
    problem::Problem,
    routes::{Deleted, Tag, credentials::CredentialJson},
    types::{Id, Secret},
};

pub struct ConnectionCredentialsApi;

/// The value, as the connection's `authType` wants it.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", deny_unknown_fields)]
struct CredentialValueBody {
    /// `api_key` or `bearer`. `apiKey` and `token` are the same.
    value: Option<Secret>,
    api_key: Option<Secret>,
    token: Option<Secret>,
    /// `api_key` with several keys: every one with its value.
    keys: Option<Vec<KeyBody>>,
    /// `basic`.
    username: Option<String>,
    /// `basic`.
    password: Option<Secret>,
    /// `mtls`: PEM, the client's certificate first.
    certificate: Option<Secret>,
    /// `mtls`: PEM, not encrypted.
    private_key: Option<Secret>,
    /// `custom`: the values that the header templates name.
    secrets: Option<BTreeMap<String, Secret>>,
    /// `document`: a value for each of the connection's schemes.
    schemes: Option<BTreeMap<String, SchemeValueBody>>,
    /// `oauth2`: of the connection's own client.
    client_secret: Option<Secret>,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", deny_unknown_fields)]
struct StoreCredentialBody {
    #[oai(validator(min_length = 1, max_length = 200))]
    name: Option<String>,
    credentials: CredentialValueBody,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct ConnectionCredentialsJson {
    credentials: CredentialJson,
}

impl CredentialValueBody {
    fn into_secret(self, auth: &AuthScheme) -> Result<SecretString, Problem> {
        let values = Values {
            value: self.value,
            api_key: self.api_key,
            keys: self.keys,
            token: self.token,
            username: self.username,
            password: self.password,
            certificate: self.certificate,
            private_key: self.private_key,
            secrets: self.secrets,
            schemes: self.schemes,
            client_secret: self.client_secret,
        };
        let mut faults = Faults::default();
        if *auth == AuthScheme::None {
            return Err(Problem::field("credentials", "this connection's authType is none; change it first"));
        }
        let secret = values.into_secret(auth, "credentials.", &mut faults);
        faults.into_result()?;
        secret.ok_or_else(|| Problem::field(format!("credentials.{}", wanted(auth)), "is required"))
    }
}

/// The first field that the scheme wants.
fn wanted(auth: &AuthScheme) -> &'static str {
    match auth {
        AuthScheme::ApiKeys { .. } => "keys",
        AuthScheme::Basic => "username",
        AuthScheme::Mtls => "certificate",
        AuthScheme::Custom { .. } => "secrets",
        AuthScheme::Document { .. } => "schemes",
        AuthScheme::Oauth2 { .. } => "clientSecret",
        _ => "value",
    }
}

/// A new value for the connection's credential, which is made when there is none of this kind.
pub(super) async fn replace<P>(
    permit: &Permit<P>,
    id: ConnectionId,
    present: &Connection,
    kind: &str,
    value: SecretString,
) -> Result<LogPosition, Problem> {
    let context = permit.context_without_claim();
    if let Some(credential) = present.credential.filter(|_| present.auth.credential_kind() == kind) {
        return Ok(use_cases::rotate(permit.app(), &context, credential, value).await?.at);
    }
    let input = CreateCredential {
        name: name::derived(&present.name, "credential"),
        kind: kind.to_owned(),
        connection: Some(id),
        value,
    };
    Ok(use_cases::create(permit.app(), &context, input).await?.at)
}

/// The connection as it is in the log, not as the read model shows it: what follows is a write.
async fn load<P>(permit: &Permit<P>, id: &Id<ConnectionId>) -> Result<(ConnectionId, Connection), Problem> {
    let id = id.typed("id")?;
    Ok((id, commands::connection::load(permit.app(), permit.workspace(), id).await?.state))
}

fn attached(connection: &Connection) -> Result<CredentialId, Problem> {
    connection.credential.ok_or_else(|| Problem::new(Code::CredentialNotFound, "This connection has no credential."))
}

async fn stored<P, const STATUS: u16>(
    permit: &Permit<P>,
    id: CredentialId,
    at: LogPosition,
    message: &str,
) -> Result<Written<ConnectionCredentialsJson, STATUS>, Problem> {
    if permit.shows(at).await
        && let Some(view) = permit.reads().credential(permit.workspace(), id).await?
    {
        let answer = Answer::new(ConnectionCredentialsJson { credentials: view.into() });
        return Ok(Written::Usual(answer.message(message).at(at)));
    }
    Ok(permit.lagging(id, at))
}

#[OpenApi(tag = "Tag::Connections")]
impl ConnectionCredentialsApi {
    /// Get a connection's credential
    ///
    /// Its metadata: versions and uses, never the value.
    #[oai(path = "/connections/:id/credentials", method = "get", operation_id = "getConnectionCredential")]
    async fn get(
        &self,
        permit: Permit<CredentialRead>,
        id: Path<Id<ConnectionId>>,
    ) -> Result<Answer<ConnectionCredentialsJson>, Problem> {
        let connection = super::find(&permit, id.typed("id")?).await?;
        let none = || Problem::new(Code::CredentialNotFound, "This connection has no credential.");
        let credential = connection.credential_id.ok_or_else(none)?;
        let view = permit.reads().credential(permit.workspace(), credential).await?.ok_or_else(none)?;
        Ok(Answer::new(ConnectionCredentialsJson { credentials: view.into() }))
    }

    /// Store a connection's credential
    ///
    /// For a connection that has none; `PUT` replaces one.
    #[oai(path = "/connections/:id/credentials", method = "post", operation_id = "storeConnectionCredential")]
    async fn create(
        &self,
        permit: Permit<CredentialWrite>,
        id: Path<Id<ConnectionId>>,
        body: Body<StoreCredentialBody>,
    ) -> Result<Written<ConnectionCredentialsJson, 201>, Problem> {
        let (id, connection) = load(&permit, &id).await?;
        if connection.credential.is_some() {
            return Err(Problem::new(Code::Conflict, "This connection has a credential; replace it with PUT."));
        }
        let value = body.0.credentials.into_secret(&connection.auth)?;
        let name = body.0.name.unwrap_or_else(|| name::derived(&connection.name, "credential"));
        let kind = connection.auth.credential_kind().to_owned();
        let input = CreateCredential { name, kind, connection: Some(id), value };
        let done = use_cases::create(permit.app(), permit.context(), input).await?;
        stored(&permit, done.value, done.at, "Credentials stored.").await
    }

    /// Replace a connection's credential
    ///
    /// The value becomes the next version; executions use it from their next attempt on.
    #[oai(path = "/connections/:id/credentials", method = "put", operation_id = "replaceConnectionCredential")]
    async fn replace(
        &self,
        permit: Permit<CredentialWrite>,
        id: Path<Id<ConnectionId>>,
        body: Body<StoreCredentialBody>,
    ) -> Result<Written<ConnectionCredentialsJson>, Problem> {
        let (_, connection) = load(&permit, &id).await?;
        let credential = attached(&connection)?;
        let value = body.0.credentials.into_secret(&connection.auth)?;
        let done = use_cases::rotate(permit.app(), permit.context(), credential, value).await?;
        stored(&permit, credential, done.at, "Credentials updated.").await
    }

    /// Delete a connection's credential
    ///
    /// Calls that need it fail from now on. Its secret can be restored for a while.
    #[oai(path = "/connections/:id/credentials", method = "delete", operation_id = "deleteConnectionCredential")]
    async fn delete(
        &self,
        permit: Permit<CredentialWrite>,
        id: Path<Id<ConnectionId>>,
    ) -> Result<Answer<Deleted>, Problem> {
        let (_, connection) = load(&permit, &id).await?;
        let credential = attached(&connection)?;
        let done = commands::secret::delete(permit.app(), permit.context(), credential, false).await?;
        permit.wrote(done.at);
        Ok(Answer::new(Deleted::of(credential)).message("Credentials deleted.").at(done.at))
    }
}
