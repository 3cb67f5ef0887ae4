//! Credentials as the vault's ledger shows them: what there is, and who used it when.

use domain::{error::Code, ids::CredentialId};
use poem_openapi::{Object, OpenApi, param::Path};
use projections::{CredentialReadView, CredentialView, resource_id};

use super::Tag;
use crate::{
    answer::Answer,
    auth::{Permit, grant::CredentialRead},
    pagination::{Pagination, listing},
    problem::Problem,
    query::Asked,
    types::{Id, Time},
};

pub struct CredentialsApi;

listing! {
    /// What a list of credentials may be asked.
    pub struct CredentialList sorted by "createdAt,updatedAt,name" {
        "type" = "some:api_key,api_keys,bearer,basic,mtls,custom,document,oauth2,secret", "Kind.";
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
    /// `api_key`, `api_keys` (several), `bearer`, `basic`, `mtls`, `custom`, `document`, `oauth2` or `secret`.
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
