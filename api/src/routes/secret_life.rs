//! A secret's versions and uses, its restoration, and the end of its versions.

use commands::secret as use_cases;
use domain::{
    error::Code,
    ids::{CredentialId, SecretId},
};
use poem_openapi::{Object, OpenApi, param::Path};
use projections::{CredentialVersionView, CredentialView, Reached, Source};

use super::{
    Tag,
    credentials::CredentialReadJson,
    secrets::{SecretJson, credential_id, stored},
};
use crate::{
    answer::{Answer, Written},
    auth::{
        Permit,
        grant::{CredentialRead, CredentialWrite},
    },
    problem::Problem,
    types::{Id, Ordinal, Time},
};

pub struct SecretLifeApi;

/// One version of the value; never the value itself.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
struct SecretVersionJson {
    version: i32,
    /// `current`, `superseded` (kept for attempts that began with it) or `destroyed`.
    status: String,
    /// Version of the workspace's key when it was stored.
    key_version: i32,
    created_by: String,
    created_at: Time,
    destroyed_at: Option<Time>,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct SecretVersionsJson {
    /// Newest first.
    versions: Vec<SecretVersionJson>,
}

fn version_of(view: &CredentialView, row: CredentialVersionView) -> SecretVersionJson {
    let gone = view.status == "destroyed";
    let destroyed_at = row.destroyed_at.or(if gone { view.destroy_at } else { None });
    let status = match destroyed_at {
        Some(_) => "destroyed",
        None if row.version == view.current_version => "current",
        None => "superseded",
    };
    SecretVersionJson {
        version: row.version,
        status: status.to_owned(),
        key_version: row.key_version,
        created_by: row.created_by,
        created_at: row.created_at.into(),
        destroyed_at: destroyed_at.map(Time),
    }
}

/// How one version was used.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
struct VersionUsageJson {
    version: i32,
    reads: i64,
    first_read_at: Option<Time>,
    last_read_at: Option<Time>,
    /// Where it was sent.
    hosts: Vec<String>,
}

impl From<Reached> for VersionUsageJson {
    fn from(row: Reached) -> Self {
        Self {
            version: row.version,
            reads: row.reads,
            first_read_at: row.first_at.map(Time),
            last_read_at: row.last_at.map(Time),
            hosts: row.hosts,
        }
    }
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct SecretUsageJson {
    /// Newest first.
    versions: Vec<VersionUsageJson>,
    /// Who, when, for what: the newest 1,000, newest first.
    uses: Vec<CredentialReadJson>,
}

/// The secret, deleted or not.
async fn any<P>(permit: &Permit<P>, id: CredentialId) -> Result<CredentialView, Problem> {
    let found = permit.reads().any_credential(permit.workspace(), id).await?;
    found.ok_or_else(|| Problem::not_found(Code::CredentialNotFound, "credential"))
}

async fn versions<P>(permit: &Permit<P>, id: CredentialId) -> Result<SecretVersionsJson, Problem> {
    let view = any(permit, id).await?;
    let rows = permit.reads().credential_versions(permit.workspace(), id).await?;
    Ok(SecretVersionsJson { versions: rows.into_iter().map(|row| version_of(&view, row)).collect() })
}

#[OpenApi(tag = "Tag::Secrets")]
impl SecretLifeApi {
    /// List a secret's versions
    ///
    /// Of deleted secrets too.
    #[oai(path = "/secrets/:id/versions", method = "get", operation_id = "listSecretVersions")]
    async fn versions(
        &self,
        permit: Permit<CredentialRead>,
        id: Path<Id<SecretId>>,
    ) -> Result<Answer<SecretVersionsJson>, Problem> {
        Ok(Answer::new(versions(&permit, credential_id(&id)?).await?))
    }

    /// Destroy an old version
    ///
    /// Its ciphertext is removed; that it was there stays in the log. The present version cannot be destroyed alone.
    #[oai(path = "/secrets/:id/versions/:n", method = "delete", operation_id = "destroySecretVersion")]
    async fn destroy_version(
        &self,
        permit: Permit<CredentialWrite>,
        id: Path<Id<SecretId>>,
        n: Path<Ordinal>,
    ) -> Result<Answer<SecretVersionsJson>, Problem> {
        let (id, version) = (credential_id(&id)?, n.number("n")?);
        let done = use_cases::destroy_version(permit.app(), permit.context(), id, version).await?;
        permit.shows(done.at).await;
        Ok(Answer::new(versions(&permit, id).await?).message("Version destroyed.").at(done.at))
    }

    /// Restore a deleted secret
    ///
    /// Until its `destroyAt`. Its connection gets it again when that is still there, has no other credential, and leads
    /// to the host that the secret was stored for.
    #[oai(path = "/secrets/:id/restore", method = "post", operation_id = "restoreSecret")]
    async fn restore(
        &self,
        permit: Permit<CredentialWrite>,
        id: Path<Id<SecretId>>,
    ) -> Result<Written<SecretJson>, Problem> {
        let id = credential_id(&id)?;
        let done = use_cases::restore(permit.app(), permit.context(), id).await?;
        let message = match done.value {
            true => "Secret restored, and its connection uses it again.",
            false => "Secret restored.",
        };
        stored(&permit, id, done.at, message).await
    }

    /// Who used a secret
    ///
    /// Who, when, for what and where, by version. Every use is in the log before the value is opened.
    #[oai(path = "/secrets/:id/usage", method = "get", operation_id = "getSecretUsage")]
    async fn usage(
        &self,
        permit: Permit<CredentialRead>,
        id: Path<Id<SecretId>>,
    ) -> Result<Answer<SecretUsageJson>, Problem> {
        let id = credential_id(&id)?;
        any(&permit, id).await?;
        let radius = permit.reads().blast_radius(permit.workspace(), Source::Credential(id, None)).await?;
        let uses = permit.reads().credential_reads(permit.workspace(), id).await?;
        Ok(Answer::new(SecretUsageJson {
            versions: radius.credentials.into_iter().map(Into::into).collect(),
            uses: uses.into_iter().map(Into::into).collect(),
        }))
    }
}
