//! The workspace's key: its versions, their rotation, their end; and how far the master key has come.

use std::time::{Duration, Instant};

use commands::workspace_key::{self as use_cases, KeyRow, MasterProgress, Progress};
use domain::ids::SecretId;
use poem_openapi::{Object, OpenApi, param::Path};

use super::{Tag, credentials::find, secrets::credential_id};
use crate::{
    answer::{Answer, Either},
    auth::{
        Permit,
        grant::{KeyRead, KeyWrite},
    },
    body::Body,
    problem::Problem,
    types::{Id, Time},
};

pub struct KeysApi;

/// How long a request waits for a rotation's end; executors carry on what takes longer.
const WAIT: Duration = Duration::from_secs(10);

/// A version of the workspace's key; never the key itself.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
struct KeyJson {
    version: i32,
    /// The first 16 bytes of its SHA-256, hex.
    key_id: String,
    /// `active`, `retired` (it opens, and wraps nothing new), `destroyed`, or `pending`.
    status: String,
    /// The master key that wraps it.
    master_key_id: String,
    /// Data keys under it now.
    wraps: i64,
    /// Data keys that it has wrapped in its life.
    wrapped: i64,
    /// Of those, what was erased with it.
    erased: i64,
    created_at: Time,
    retired_at: Option<Time>,
    destroyed_at: Option<Time>,
}

impl From<KeyRow> for KeyJson {
    fn from(row: KeyRow) -> Self {
        Self {
            version: row.version,
            key_id: row.key_id,
            status: row.status,
            master_key_id: row.master_key_id,
            wraps: row.wraps,
            wrapped: row.uses,
            erased: row.erased,
            created_at: row.created_at.into(),
            retired_at: row.retired_at.map(Time),
            destroyed_at: row.destroyed_at.map(Time),
        }
    }
}

/// How far a rotation has come.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct KeyProgressJson {
    /// Data keys under the present key.
    done: i64,
    total: i64,
}

impl From<Progress> for KeyProgressJson {
    fn from(progress: Progress) -> Self {
        Self { done: progress.done, total: progress.total }
    }
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
struct KeysJson {
    /// Oldest first.
    keys: Vec<KeyJson>,
    /// The rotation under way.
    rotation: Option<KeyProgressJson>,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct RotationJson {
    /// Secrets and credentials whose data keys the new version wraps.
    rotated_secrets: i64,
    new_key_id: String,
    key_version: i32,
    /// `completed`, or `running`: executors carry on.
    status: String,
    progress: KeyProgressJson,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", deny_unknown_fields)]
struct DestroyKeyBody {
    /// Of the version, as `GET /keys` shows it.
    #[oai(validator(min_length = 1, max_length = 64))]
    key_id: String,
    /// `true`: everything that it still wraps is to be gone for good.
    erase: bool,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct MasterKeyJson {
    key_id: String,
    /// `local`, `aws-kms` or `vault-transit`.
    provider: String,
    /// Keys of the organization's workspaces that the present master key wraps.
    done: i64,
    total: i64,
    /// Is a rotation running at this moment?
    under_way: bool,
}

impl From<MasterProgress> for MasterKeyJson {
    fn from(progress: MasterProgress) -> Self {
        let MasterProgress { key_id, provider, done, total, under_way } = progress;
        Self { key_id, provider: provider.to_owned(), done, total, under_way }
    }
}

async fn keys<P>(permit: &Permit<P>) -> Result<KeysJson, Problem> {
    let overview = use_cases::overview(permit.app(), permit.workspace()).await?;
    let keys = overview.keys.into_iter().map(Into::into).collect();
    Ok(KeysJson { keys, rotation: overview.rotation.map(Into::into) })
}

#[OpenApi(tag = "Tag::Secrets")]
impl KeysApi {
    /// List the workspace's keys
    ///
    /// Every version of the key that wraps the data keys of secrets and sealed values, and the rotation under way.
    #[oai(path = "/keys", method = "get", operation_id = "listKeys")]
    async fn list(&self, permit: Permit<KeyRead>) -> Result<Answer<KeysJson>, Problem> {
        Ok(Answer::new(keys(&permit).await?))
    }

    /// Destroy a key version
    ///
    /// With everything that it still wraps: secrets, inputs, outputs, addresses. They cannot be opened by anybody any
    /// more, in no copy. The event `workspace_key.destroyed` names the key and how much went with it.
    #[oai(path = "/keys/destroy", method = "post", operation_id = "destroyKey")]
    async fn destroy(&self, permit: Permit<KeyWrite>, body: Body<DestroyKeyBody>) -> Result<Answer<KeysJson>, Problem> {
        if !body.0.erase {
            return Err(Problem::field("erase", "must be true: what the key wraps is lost for good"));
        }
        let done = use_cases::erase(permit.app(), permit.context(), &body.0.key_id).await?;
        permit.wrote(done.at);
        Ok(Answer::new(keys(&permit).await?).message("Key destroyed.").at(done.at))
    }

    /// Rotate the key of all secrets
    ///
    /// Makes a new version of the workspace's key and moves every secret under it; reads go on meanwhile. 202 when it
    /// takes longer than ten seconds: `GET /keys` shows the progress. A second rotation at the same time gets 409 with
    /// the first one's.
    #[oai(path = "/secrets/:id/rotate", method = "post", operation_id = "rotateSecretKey")]
    async fn rotate(
        &self,
        permit: Permit<KeyWrite>,
        id: Path<Id<SecretId>>,
    ) -> Result<Either<Answer<RotationJson>, Answer<RotationJson, 202>>, Problem> {
        find(&permit, credential_id(&id)?).await?;
        let done = use_cases::rotate(permit.app(), permit.context(), Instant::now() + WAIT).await?;
        permit.wrote(done.at);
        let rotation = done.value;
        let json = RotationJson {
            rotated_secrets: rotation.progress.secrets,
            new_key_id: rotation.key_id,
            key_version: rotation.version,
            status: if rotation.finished { "completed" } else { "running" }.to_owned(),
            progress: rotation.progress.into(),
        };
        Ok(match rotation.finished {
            true => Either::Usual(Answer::new(json).message("Key rotated.").at(done.at)),
            false => Either::Else(Answer::new(json).message("The rotation goes on.").at(done.at)),
        })
    }

    /// How far the master key has come
    ///
    /// A new master key is given by the operator (`APIQ_MASTER_KEY`, with the old one as `APIQ_MASTER_KEY_PREVIOUS`);
    /// `apiq admin rotate-master` moves every workspace's key under it, and tells of all of them; this tells of the
    /// organization's.
    #[oai(path = "/admin/master-key", method = "get", operation_id = "getMasterKey")]
    async fn master(&self, permit: Permit<KeyRead>) -> Result<Answer<MasterKeyJson>, Problem> {
        let organization = permit.context().actor.organization;
        let mut workspaces = permit.system().workspaces(organization).await.map_err(Problem::unavailable)?;
        // A new one may not be in the read models yet.
        if !workspaces.contains(&permit.workspace()) {
            workspaces.push(permit.workspace());
        }
        Ok(Answer::new(use_cases::master(permit.app(), Some(&workspaces)).await?.into()))
    }
}
