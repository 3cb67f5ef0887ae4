//! Credentials as the vault's ledger shows them: what there is, and who used it when; and those of connectors, which are
//! stored here as typed data.

use commands::{
    credential::{self as use_cases, CreateCredential},
    secret,
};
use domain::{
    credential::KINDS,
    error::{Code, Faults},
    event::LogPosition,
    ids::CredentialId,
};
use poem_openapi::{Object, OpenApi, param::Path};
use projections::{CredentialReadView, CredentialView, resource_id};

use super::{Deleted, Tag};
use crate::{
    answer::{Answer, Written},
    auth::{
        Permit,
        grant::{CredentialRead, CredentialWrite},
    },
    body::Body,
    pagination::{Pagination, listing},
    problem::Problem,
    query::Asked,
    types::{Id, Time},
};
use secrecy::SecretString;
use serde_json::Value;

pub struct CredentialsApi;

listing! {
    /// What a list of credentials may be asked.
    pub struct CredentialList sorted by "createdAt,updatedAt,name" {
        "type" = "string", "Kinds by comma: api_key, api_keys, bearer, basic, mtls, custom, document, oauth2, secret, or a type of connector.";
        "connectionId" = "id:conn", "Of this connection.";
        "status" = "some:active,deleted,destroyed", "Those that were not deleted without it.";
        "search" = "string", "Part of the name.";
    }
}

/// A credential without its value.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
pub(super) struct CredentialJson {
    id: String,
    name: String,
    /// `api_key`, `api_keys` (several), `bearer`, `basic`, `mtls`, `custom`, `document`, `oauth2`, `secret`, or a type of connector
    /// (`slack`).
    #[oai(rename = "type")]
    kind: String,
    connection_id: Option<String>,
    is_active: bool,
    /// Version of the value, from 1.
    current_version: i32,
    created_at: Time,
    updated_at: Time,
    last_read_at: Option<Time>,
    read_count: i64,
    version: i64,
}

impl From<CredentialView> for CredentialJson {
    fn from(view: CredentialView) -> Self {
        Self {
            id: view.id.to_string(),
            name: view.name,
            kind: view.kind,
            connection_id: view.connection_id.map(|id| id.to_string()),
            is_active: view.status == "active",
            current_version: view.current_version,
            created_at: view.created_at.into(),
            updated_at: view.updated_at.into(),
            last_read_at: view.last_read_at.map(Time),
            read_count: view.read_count,
            version: view.version,
        }
    }
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct CredentialsJson {
    credentials: Vec<CredentialJson>,
    pagination: Pagination,
}

/// One use: it was in the log before the value was opened.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
pub(super) struct CredentialReadJson {
    /// The event in the log.
    id: String,
    /// Which version of the value.
    credential_version: i32,
    purpose: String,
    /// Where it went.
    host: Option<String>,
    connection_id: Option<String>,
    /// The execution or connection that needed it.
    reader_type: String,
    reader_id: String,
    step_id: Option<String>,
    attempt: Option<u32>,
    actor_type: String,
    actor_id: String,
    read_at: Time,
}

impl From<CredentialReadView> for CredentialReadJson {
    fn from(view: CredentialReadView) -> Self {
        Self {
            id: view.event_id.to_string(),
            credential_version: view.credential_version,
            purpose: view.purpose,
            host: view.host,
            connection_id: view.connection_id.map(|id| id.to_string()),
            reader_id: resource_id(&view.reader_type, view.reader_id),
            reader_type: view.reader_type,
            step_id: view.step_key,
            attempt: view.attempt,
            actor_type: view.actor_kind.as_str().to_owned(),
            actor_id: view.actor_id,
            read_at: view.read_at.into(),
        }
    }
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct CredentialReadsJson {
    /// The newest 1,000, newest first.
    reads: Vec<CredentialReadJson>,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", deny_unknown_fields)]
struct CreateCredentialBody {
    #[oai(validator(min_length = 1, max_length = 200))]
    name: String,
    /// A type of connector: `GET connectors?available=true` lists them, with what `data` holds for each.
    #[oai(rename = "type")]
    kind: String,
    /// Sealed as a whole; never returned.
    #[oai(write_only)]
    data: Value,
    /// From then on it is handed out to nobody.
    expires_at: Option<Time>,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", deny_unknown_fields)]
struct PatchCredentialBody {
    /// Takes the place of the whole data, as the next version.
    #[oai(write_only)]
    data: Option<Value>,
    /// Absent: stays as it is; one that is over is lifted by new data.
    expires_at: Option<Time>,
    /// `true`: it does not expire any more.
    never_expires: Option<bool>,
}

fn sealed(data: &Value) -> SecretString {
    SecretString::from(data.to_string())
}

async fn stored<const STATUS: u16>(
    permit: &Permit<CredentialWrite>,
    id: CredentialId,
    at: LogPosition,
    message: &str,
) -> Result<Written<CredentialJson, STATUS>, Problem> {
    if permit.shows(at).await
        && let Some(view) = permit.reads().credential(permit.workspace(), id).await?
    {
        let version = view.version;
        return Ok(Written::Usual(Answer::new(view.into()).message(message).version(version).at(at)));
    }
    Ok(permit.lagging(id, at))
}

/// The credential, or 404.
pub(super) async fn find<P>(permit: &Permit<P>, id: CredentialId) -> Result<CredentialView, Problem> {
    let found = permit.reads().credential(permit.workspace(), id).await?;
    found.ok_or_else(|| Problem::not_found(Code::CredentialNotFound, "credential"))
}

#[OpenApi(tag = "Tag::Secrets")]
impl CredentialsApi {
    /// List credentials
    ///
    /// What the vault holds for this workspace; never the values. Secrets are the same things under `secret_` ids.
    #[oai(path = "/credentials", method = "get", operation_id = "listCredentials")]
    async fn list(
        &self,
        permit: Permit<CredentialRead>,
        asked: Asked<CredentialList>,
    ) -> Result<Answer<CredentialsJson>, Problem> {
        let CredentialList { filter, page } = asked.0;
        let listed = permit.reads().credentials(permit.workspace(), &filter, &page).await?;
        let pagination = Pagination::of(&listed);
        Ok(Answer::new(CredentialsJson { credentials: listed.items.into_iter().map(Into::into).collect(), pagination }))
    }

    /// Store a connector's credential
    ///
    /// Typed data, checked against the type's schema: what is wrong is named by field, never by value. Values of
    /// connections are stored with their connection, free texts as secrets.
    #[oai(path = "/credentials", method = "post", operation_id = "createCredential")]
    async fn create(
        &self,
        permit: Permit<CredentialWrite>,
        body: Body<CreateCredentialBody>,
    ) -> Result<Written<CredentialJson, 201>, Problem> {
        let CreateCredentialBody { name, kind, data, expires_at } = body.0;
        if KINDS.contains(&kind.as_str()) {
            let message = "is no type of connector; store it by POST secrets, or with its connection";
            return Err(Problem::field("type", message));
        }
        let input = CreateCredential { name, kind, connection: None, value: sealed(&data) };
        let expires_at = expires_at.map(|time| time.0);
        let done = use_cases::create_expiring(permit.app(), permit.context(), input, expires_at).await?;
        stored(&permit, done.value, done.at, "Credential stored.").await
    }

    /// Change a connector's credential
    ///
    /// New data becomes the next version; who uses it reads the new one from now on. Or only another `expiresAt`.
    #[oai(path = "/credentials/:id", method = "patch", operation_id = "updateCredential")]
    async fn update(
        &self,
        permit: Permit<CredentialWrite>,
        id: Path<Id<CredentialId>>,
        body: Body<PatchCredentialBody>,
    ) -> Result<Written<CredentialJson>, Problem> {
        let id = id.typed("id")?;
        let expected = permit.expected_version()?;
        let present = find(&permit, id).await?;
        let PatchCredentialBody { data, expires_at, never_expires } = body.0;
        let mut faults = Faults::default();
        if data.is_some() && KINDS.contains(&present.kind.as_str()) {
            faults.add(
                "data",
                format!("this credential is of type {}; PUT secrets/{{id}} changes its value", present.kind),
            );
        }
        let never = never_expires == Some(true);
        if never && expires_at.is_some() {
            faults.add("neverExpires", "goes against expiresAt; give one of them");
        }
        if data.is_none() && expires_at.is_none() && !never {
            faults.add("data", "give new data, expiresAt or neverExpires");
        }
        faults.into_result()?;
        let expires_at = if never { Some(None) } else { expires_at.map(|time| Some(time.0)) };
        let update = secret::Update { value: data.as_ref().map(sealed), expires_at };
        let done = secret::update(permit.app(), permit.context(), id, expected, update).await?;
        stored(&permit, id, done.at, "Credential updated.").await
    }

    /// Delete a credential
    ///
    /// It can be restored for a while as the secret of the same id. Steps and connectors that use it fail from now on.
    #[oai(path = "/credentials/:id", method = "delete", operation_id = "deleteCredential")]
    async fn delete(
        &self,
        permit: Permit<CredentialWrite>,
        id: Path<Id<CredentialId>>,
    ) -> Result<Answer<Deleted>, Problem> {
        let id = id.typed("id")?;
        let done = secret::delete(permit.app(), permit.context(), id, false).await?;
        permit.wrote(done.at);
        Ok(Answer::new(Deleted::of(id)).message("Credential deleted.").at(done.at))
    }

    /// Get a credential
    #[oai(path = "/credentials/:id", method = "get", operation_id = "getCredential")]
    async fn get(
        &self,
        permit: Permit<CredentialRead>,
        id: Path<Id<CredentialId>>,
    ) -> Result<Answer<CredentialJson>, Problem> {
        let view = find(&permit, id.typed("id")?).await?;
        let version = view.version;
        Ok(Answer::new(view.into()).version(version))
    }

    /// List a credential's uses
    ///
    /// Who used it, when, for which step and attempt. Every use is in the log before the value is opened.
    #[oai(path = "/credentials/:id/reads", method = "get", operation_id = "listCredentialReads")]
    async fn reads(
        &self,
        permit: Permit<CredentialRead>,
        id: Path<Id<CredentialId>>,
    ) -> Result<Answer<CredentialReadsJson>, Problem> {
        let credential = find(&permit, id.typed("id")?).await?;
        let reads = permit.reads().credential_reads(permit.workspace(), credential.id).await?;
        Ok(Answer::new(CredentialReadsJson { reads: reads.into_iter().map(Into::into).collect() }))
    }
}
