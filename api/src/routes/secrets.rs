//! Secrets: the vault as its users know it. Values go in and are never returned.

use commands::{
    credential::{self as use_cases, CreateCredential},
    secret,
};
use domain::{
    error::Faults,
    event::LogPosition,
    ids::{ConnectionId, CredentialId, SecretId},
};
use poem_openapi::{Enum, Object, OpenApi, param::Path};
use projections::CredentialView;
use secrecy::SecretString;

use super::{
    Deleted, Tag,
    connections::joined,
    credentials::{CredentialList, find},
};
use crate::{
    answer::{Answer, Written},
    auth::{
        Permit,
        grant::{CredentialRead, CredentialWrite},
    },
    body::Body,
    clock,
    pagination::Pagination,
    problem::Problem,
    query::{Asked, Params, QuerySet},
    types::{Id, Secret, Time},
};

pub struct SecretsApi;

#[derive(Debug, Clone, Copy, Enum)]
#[oai(rename_all = "snake_case")]
enum SecretType {
    ApiKey,
    Bearer,
    Basic,
    Secret,
}

impl SecretType {
    fn as_str(self) -> &'static str {
        match self {
            SecretType::ApiKey => "api_key",
            SecretType::Bearer => "bearer",
            SecretType::Basic => "basic",
            SecretType::Secret => "secret",
        }
    }
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", deny_unknown_fields)]
struct CreateSecretBody {
    #[oai(validator(min_length = 1, max_length = 200))]
    name: String,
    /// `secret` when absent.
    #[oai(rename = "type")]
    kind: Option<SecretType>,
    /// Up to 16 KiB. For `basic`, `user:password`, or `username` and `password` instead.
    value: Option<Secret>,
    username: Option<String>,
    password: Option<Secret>,
    /// Becomes the credential of this connection, whose `authType` must be the same as `type`.
    connection_id: Option<Id<ConnectionId>>,
    /// From then on it is handed out to nobody. Events warn 7 days and 1 day before.
    expires_at: Option<Time>,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", deny_unknown_fields)]
struct UpdateSecretBody {
    value: Option<Secret>,
    username: Option<String>,
    password: Option<Secret>,
    /// Absent: stays as it is; one that is over is lifted by a new value.
    expires_at: Option<Time>,
    /// `true`: it does not expire any more.
    never_expires: Option<bool>,
}

/// A secret without its value.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
pub(super) struct SecretJson {
    id: String,
    name: String,
    #[oai(rename = "type")]
    kind: String,
    is_active: bool,
    /// `active`, `expired`, `deleted` (until `destroyAt` it can be restored) or `destroyed`: by a deletion, or with its key,
    /// after which a new value can be stored.
    status: String,
    expires_at: Option<Time>,
    destroy_at: Option<Time>,
    /// Of the value, from 1.
    version: i32,
    connection_id: Option<String>,
    /// The same thing in `credentials`.
    credential_id: String,
    created_at: Time,
    updated_at: Time,
    last_read_at: Option<Time>,
}

impl From<CredentialView> for SecretJson {
    fn from(view: CredentialView) -> Self {
        let expired = view.status == "active" && view.expires_at.is_some_and(|at| at <= clock::now());
        let status = match view.status.as_str() {
            _ if expired => "expired".to_owned(),
            "erased" => "destroyed".to_owned(),
            _ => view.status,
        };
        Self {
            is_active: status == "active",
            status,
            expires_at: view.expires_at.map(Time),
            destroy_at: view.destroy_at.map(Time),
            id: SecretId(view.id.0).to_string(),
            name: view.name,
            kind: view.kind,
            version: view.current_version,
            connection_id: view.connection_id.map(|id| id.to_string()),
            credential_id: view.id.to_string(),
            created_at: view.created_at.into(),
            updated_at: view.updated_at.into(),
            last_read_at: view.last_read_at.map(Time),
        }
    }
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct SecretsJson {
    secrets: Vec<SecretJson>,
    total_count: i64,
    pagination: Pagination,
}

/// Either `value`, or user name and password.
fn value_of(
    value: Option<Secret>,
    username: Option<String>,
    password: Option<Secret>,
    faults: &mut Faults,
) -> Option<SecretString> {
    let pair = joined(username.as_deref(), password.as_ref(), "", faults);
    match (value, pair) {
        (Some(_), Some(_)) => {
            faults.add("value", "give value, or username and password, not both");
            None
        }
        (None, None) => {
            if faults.0.is_empty() {
                faults.add("value", "is required");
            }
            None
        }
        (value, pair) => value.map(|secret| secret.0).or(pair),
    }
}

pub(super) fn credential_id(id: &Id<SecretId>) -> Result<CredentialId, Problem> {
    Ok(CredentialId(id.typed("id")?.0))
}

/// `DELETE` for good?
struct DestroyQuery(bool);

impl QuerySet for DestroyQuery {
    const NOTES: &'static [&'static str] =
        &["query|destroy|one:true,false|`true`: the value is destroyed at once, and cannot be restored."];

    fn read(params: &mut Params) -> Self {
        let text = params.text("destroy");
        if text.as_deref().is_some_and(|text| !["true", "false"].contains(&text)) {
            params.faults.add("destroy", "must be true or false");
        }
        Self(text.as_deref() == Some("true"))
    }
}

pub(super) async fn stored<const STATUS: u16>(
    permit: &Permit<CredentialWrite>,
    id: CredentialId,
    at: LogPosition,
    message: &str,
) -> Result<Written<SecretJson, STATUS>, Problem> {
    if permit.shows(at).await
        && let Some(view) = permit.reads().credential(permit.workspace(), id).await?
    {
        let version = view.version;
        return Ok(Written::Usual(Answer::new(view.into()).message(message).version(version).at(at)));
    }
    Ok(permit.lagging(SecretId(id.0), at))
}

#[OpenApi(tag = "Tag::Secrets")]
impl SecretsApi {
    /// List secrets
    ///
    /// Names and versions, never values.
    #[oai(path = "/secrets", method = "get", operation_id = "listSecrets")]
    async fn list(
        &self,
        permit: Permit<CredentialRead>,
        asked: Asked<CredentialList>,
    ) -> Result<Answer<SecretsJson>, Problem> {
        let CredentialList { filter, page } = asked.0;
        let listed = permit.reads().credentials(permit.workspace(), &filter, &page).await?;
        let (pagination, total_count) = (Pagination::of(&listed), listed.total);
        let secrets = listed.items.into_iter().map(Into::into).collect();
        Ok(Answer::new(SecretsJson { secrets, total_count, pagination }))
    }

    /// Store a secret
    ///
    /// Sealed with AES-256-GCM under the workspace's own key. No route returns the value; each use leaves
    /// `credential.read` in the log.
    #[oai(path = "/secrets", method = "post", operation_id = "createSecret")]
    async fn create(
        &self,
        permit: Permit<CredentialWrite>,
        body: Body<CreateSecretBody>,
    ) -> Result<Written<SecretJson, 201>, Problem> {
        let CreateSecretBody { name, kind, value, username, password, connection_id, expires_at } = body.0;
        let mut faults = Faults::default();
        let value = value_of(value, username, password, &mut faults);
        faults.into_result()?;
        let value = value.ok_or_else(|| Problem::field("value", "is required"))?;
        let connection = connection_id.map(|id| id.typed("connectionId")).transpose()?;
        let kind = kind.unwrap_or(SecretType::Secret).as_str().to_owned();
        let input = CreateCredential { name, kind, connection, value };
        let expires_at = expires_at.map(|time| time.0);
        let done = use_cases::create_expiring(permit.app(), permit.context(), input, expires_at).await?;
        stored(&permit, done.value, done.at, "Secret stored.").await
    }

    /// Get a secret
    ///
    /// Its metadata; never the value.
    #[oai(path = "/secrets/:id", method = "get", operation_id = "getSecret")]
    async fn get(&self, permit: Permit<CredentialRead>, id: Path<Id<SecretId>>) -> Result<Answer<SecretJson>, Problem> {
        let view = find(&permit, credential_id(&id)?).await?;
        let version = view.version;
        Ok(Answer::new(view.into()).version(version))
    }

    /// Give a secret a new value
    ///
    /// The value becomes the next version; who uses it reads the new one from now on. Or only another `expiresAt`.
    #[oai(path = "/secrets/:id", method = "put", operation_id = "updateSecret")]
    async fn update(
        &self,
        permit: Permit<CredentialWrite>,
        id: Path<Id<SecretId>>,
        body: Body<UpdateSecretBody>,
    ) -> Result<Written<SecretJson>, Problem> {
        let id = credential_id(&id)?;
        let expected = permit.expected_version()?;
        let UpdateSecretBody { value, username, password, expires_at, never_expires } = body.0;
        let mut faults = Faults::default();
        let never = never_expires == Some(true);
        if never && expires_at.is_some() {
            faults.add("neverExpires", "goes against expiresAt; give one of them");
        }
        let expires_at = if never { Some(None) } else { expires_at.map(|time| Some(time.0)) };
        let with_value = value.is_some() || username.is_some() || password.is_some() || expires_at.is_none();
        let value = if with_value { value_of(value, username, password, &mut faults) } else { None };
        faults.into_result()?;
        let update = secret::Update { value, expires_at };
        let done = secret::update(permit.app(), permit.context(), id, expected, update).await?;
        stored(&permit, id, done.at, "Secret updated.").await
    }

    /// Delete a secret
    ///
    /// It can be restored until `destroyAt` (`APIQ_SECRET_RETENTION_DAYS`); then, or with `destroy=true` at once, its
    /// value is destroyed. That it was there stays in the log.
    #[oai(path = "/secrets/:id", method = "delete", operation_id = "deleteSecret")]
    async fn delete(
        &self,
        permit: Permit<CredentialWrite>,
        id: Path<Id<SecretId>>,
        asked: Asked<DestroyQuery>,
    ) -> Result<Answer<Deleted>, Problem> {
        let credential = credential_id(&id)?;
        let at_once = asked.0.0;
        let done = secret::delete(permit.app(), permit.context(), credential, at_once).await?;
        permit.wrote(done.at);
        let message = if at_once { "Secret destroyed." } else { "Secret deleted." };
        Ok(Answer::new(Deleted::of(SecretId(credential.0))).message(message).at(done.at))
    }
}
