//! How far something reaches: what an execution, a credential or a key has touched.

use domain::{
    error::Code,
    ids::{CredentialId, ExecutionId, SecretId},
};
use poem_openapi::{Object, OpenApi};
use projections::{BlastRadius, Reached, Source, Touch, resource_id};

use super::Tag;
use crate::{
    answer::Answer,
    auth::{Permit, grant::LogRead},
    problem::Problem,
    query::{Asked, Params, QuerySet},
    types::Time,
};

pub struct AuditApi;

/// What the question is about: exactly one thing.
pub struct BlastQuery {
    execution: Option<ExecutionId>,
    credential: Option<CredentialId>,
    version: Option<i32>,
    key_version: Option<i32>,
}

impl QuerySet for BlastQuery {
    const NOTES: &'static [&'static str] = &[
        "query|executionId|string|Everything this execution has read: `exec_…`.",
        "query|credentialId|string|Everything that has read this credential: `cred_…` or `secret_…`.",
        "query|version|integer:1:2147483647:1|Of the credential's value; every version without it.",
        "query|keyVersion|integer:1:2147483647:1|Everything that this version of the workspace's key has protected.",
    ];

    fn read(params: &mut Params) -> Self {
        let execution = params.text("executionId").map(|text| text.parse::<ExecutionId>());
        if matches!(execution, Some(Err(_))) {
            params.faults.add("executionId", "must be an execution's id, exec_ and 26 characters");
        }
        let credential = params.text("credentialId").map(|text| {
            let secret = text.parse::<SecretId>().map(|id| CredentialId(id.0));
            text.parse::<CredentialId>().or(secret)
        });
        if matches!(credential, Some(Err(_))) {
            params.faults.add("credentialId", "must be a credential's or a secret's id");
        }
        let mut number = |name| params.number(name, 1, i32::MAX as u32).and_then(|n| i32::try_from(n).ok());
        let (version, key_version) = (number("version"), number("keyVersion"));
        let given = [execution.is_some(), credential.is_some(), key_version.is_some()];
        if given.into_iter().filter(|is| *is).count() != 1 && params.faults.0.is_empty() {
            params.faults.add("executionId", "give one of executionId, credentialId and keyVersion");
        }
        if version.is_some() && credential.is_none() {
            params.faults.add("version", "goes with credentialId");
        }
        Self {
            execution: execution.and_then(Result::ok),
            credential: credential.and_then(Result::ok),
            version,
            key_version,
        }
    }
}

/// A version of a credential that is reached.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
struct ReachedJson {
    credential_id: String,
    secret_id: String,
    name: String,
    version: i32,
    /// Version of the workspace's key when it was stored.
    key_version: i32,
    created_at: Time,
    destroyed_at: Option<Time>,
    reads: i64,
    first_read_at: Option<Time>,
    last_read_at: Option<Time>,
    /// Where it was sent.
    hosts: Vec<String>,
}

impl From<Reached> for ReachedJson {
    fn from(row: Reached) -> Self {
        Self {
            credential_id: CredentialId(row.credential_id).to_string(),
            secret_id: SecretId(row.credential_id).to_string(),
            name: row.name,
            version: row.version,
            key_version: row.key_version,
            created_at: row.created_at.into(),
            destroyed_at: row.destroyed_at.map(Time),
            reads: row.reads,
            first_read_at: row.first_at.map(Time),
            last_read_at: row.last_at.map(Time),
            hosts: row.hosts,
        }
    }
}

/// What a reader did with one version of a credential.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct TouchJson {
    credential_id: String,
    version: i32,
    steps: Vec<String>,
    hosts: Vec<String>,
    connections: Vec<String>,
    purposes: Vec<String>,
    /// Who: executors act for executions, people test connections.
    actors: Vec<String>,
    reads: i64,
    first_read_at: Time,
    last_read_at: Time,
}

impl From<&Touch> for TouchJson {
    fn from(touch: &Touch) -> Self {
        let connections = touch.connections.iter().map(|id| resource_id("connection", *id));
        Self {
            credential_id: CredentialId(touch.credential_id).to_string(),
            version: touch.credential_version,
            steps: touch.steps.clone(),
            hosts: touch.hosts.clone(),
            connections: connections.collect(),
            purposes: touch.purposes.clone(),
            actors: touch.actors.clone(),
            reads: touch.reads,
            first_read_at: touch.first_at.into(),
            last_read_at: touch.last_at.into(),
        }
    }
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
struct ReaderJson {
    /// `execution`, or `connection` for its tests.
    #[oai(rename = "type")]
    kind: String,
    id: String,
    workflow_id: Option<String>,
    /// Of the execution.
    status: Option<String>,
    uses: Vec<TouchJson>,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct BlastRadiusJson {
    /// Newest first, at most 2,000.
    credentials: Vec<ReachedJson>,
    /// Executions and connection tests, those that read last first.
    readers: Vec<ReaderJson>,
    /// There is more than is shown.
    truncated: bool,
}

impl From<BlastRadius> for BlastRadiusJson {
    fn from(radius: BlastRadius) -> Self {
        let reader = |(kind, id, touches): (String, uuid::Uuid, Vec<&Touch>)| ReaderJson {
            id: resource_id(&kind, id),
            kind,
            workflow_id: touches.first().and_then(|t| t.workflow_id).map(|id| resource_id("workflow", id)),
            status: touches.first().and_then(|t| t.status.clone()),
            uses: touches.into_iter().map(Into::into).collect(),
        };
        let readers = radius.by_reader().into_iter().map(reader).collect();
        let truncated = radius.truncated;
        Self { credentials: radius.credentials.into_iter().map(Into::into).collect(), readers, truncated }
    }
}

async fn source(permit: &Permit<LogRead>, asked: BlastQuery) -> Result<Source, Problem> {
    let workspace = permit.workspace();
    if let Some(id) = asked.execution {
        let found = permit.reads().execution(workspace, id).await?;
        found.ok_or_else(|| Problem::not_found(Code::ExecutionNotFound, "execution"))?;
        return Ok(Source::Execution(id));
    }
    if let Some(id) = asked.credential {
        let found = permit.reads().any_credential(workspace, id).await?;
        found.ok_or_else(|| Problem::not_found(Code::CredentialNotFound, "credential"))?;
        return Ok(Source::Credential(id, asked.version));
    }
    let keys = commands::workspace_key::overview(permit.app(), workspace).await?.keys;
    let key = keys.into_iter().find(|key| Some(key.version) == asked.key_version);
    let key = key.ok_or_else(|| Problem::not_found(Code::ResourceNotFound, "key version"))?;
    Ok(Source::Key { version: key.version, made_at: key.created_at, destroyed_at: key.destroyed_at })
}

#[OpenApi(tag = "Tag::Logs")]
impl AuditApi {
    /// How far a leak reaches
    ///
    /// Of an execution: every version of a credential that it read, with hosts and steps. Of a credential (or one of its
    /// versions): every execution and test that read it. Of a version of the workspace's key: every version of a
    /// credential that it has protected, and everything that read those while it did.
    #[oai(path = "/audit/blast-radius", method = "get", operation_id = "getBlastRadius")]
    async fn blast_radius(
        &self,
        permit: Permit<LogRead>,
        asked: Asked<BlastQuery>,
    ) -> Result<Answer<BlastRadiusJson>, Problem> {
        let source = source(&permit, asked.0).await?;
        let radius = permit.reads().blast_radius(permit.workspace(), source).await?;
        Ok(Answer::new(radius.into()))
    }
}
