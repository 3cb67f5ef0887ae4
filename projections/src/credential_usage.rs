//! Who used which version of a credential, where and for what: how far a leak reaches.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use domain::ids::{CredentialId, ExecutionId, WorkspaceId};
use sqlx::{FromRow, Postgres, QueryBuilder};
use uuid::Uuid;

use crate::read::{QueryError, ReadModels};

/// Groups that one question is answered with; more are cut off, and the answer says so.
pub const MOST_TOUCHED: usize = 2_000;

/// What is asked: everything that was touched by this.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Source {
    Execution(ExecutionId),
    /// All versions without one.
    Credential(CredentialId, Option<i32>),
    /// A version of the workspace's key, in the time in which it existed.
    Key {
        version: i32,
        made_at: DateTime<Utc>,
        destroyed_at: Option<DateTime<Utc>>,
    },
}

/// All uses of one version of a credential by one reader.
#[derive(Debug, Clone, PartialEq, FromRow)]
pub struct Touch {
    pub credential_id: Uuid,
    pub credential_version: i32,
    /// `execution` or `connection` (a test).
    pub reader_type: String,
    pub reader_id: Uuid,
    pub workflow_id: Option<Uuid>,
    /// Of the execution.
    pub status: Option<String>,
    pub steps: Vec<String>,
    pub hosts: Vec<String>,
    pub connections: Vec<Uuid>,
    pub purposes: Vec<String>,
    pub actors: Vec<String>,
    pub reads: i64,
    pub first_at: DateTime<Utc>,
    pub last_at: DateTime<Utc>,
}

/// One version of a credential that the source reaches.
#[derive(Debug, Clone, PartialEq, FromRow)]
pub struct Reached {
    pub credential_id: Uuid,
    pub name: String,
    pub version: i32,
    /// Of the workspace's key, when it was stored.
    pub key_version: i32,
    pub created_at: DateTime<Utc>,
    /// When it, or its credential, was destroyed.
    pub destroyed_at: Option<DateTime<Utc>>,
    pub reads: i64,
    pub first_at: Option<DateTime<Utc>>,
    pub last_at: Option<DateTime<Utc>>,
    pub hosts: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct BlastRadius {
    pub credentials: Vec<Reached>,
    pub touches: Vec<Touch>,
    /// There is more of either.
    pub truncated: bool,
}

impl BlastRadius {
    /// Touches by reader, in their order.
    pub fn by_reader(&self) -> Vec<(String, Uuid, Vec<&Touch>)> {
        let mut places = BTreeMap::new();
        let mut readers: Vec<(String, Uuid, Vec<&Touch>)> = Vec::new();
        for touch in &self.touches {
            let place = *places.entry(touch.reader_id).or_insert_with(|| {
                readers.push((touch.reader_type.clone(), touch.reader_id, Vec::new()));
                readers.len() - 1
            });
            readers[place].2.push(touch);
        }
        readers
    }
}

const TOUCHES: &str = "
    select r.credential_id, r.credential_version, r.reader_type, r.reader_id, e.workflow_id, e.status,
           coalesce(array_agg(distinct r.step_key) filter (where r.step_key is not null), '{}') as steps,
           coalesce(array_agg(distinct r.host) filter (where r.host is not null), '{}') as hosts,
           coalesce(array_agg(distinct r.connection_id) filter (where r.connection_id is not null), '{}') as connections,
           array_agg(distinct r.purpose) as purposes, array_agg(distinct r.actor_id) as actors,
           count(*) as reads, min(r.read_at) as first_at, max(r.read_at) as last_at
      from read_models.credential_reads r
      left join read_models.credential_versions v
        on v.credential_id = r.credential_id and v.version = r.credential_version
      left join read_models.executions e on r.reader_type = 'execution' and e.id = r.reader_id";

const REACHED: &str = "
    select v.credential_id, c.name, v.version, v.key_version, v.created_at,
           coalesce(v.destroyed_at, case when c.status = 'destroyed' then c.destroy_at end) as destroyed_at,
           count(r.event_id) as reads, min(r.read_at) as first_at, max(r.read_at) as last_at,
           coalesce(array_agg(distinct r.host) filter (where r.host is not null), '{}') as hosts
      from read_models.credential_versions v
      join read_models.credentials c on c.id = v.credential_id
      left join read_models.credential_reads r
        on r.credential_id = v.credential_id and r.credential_version = v.version";

impl ReadModels {
    /// What a source has touched: the credentials' versions, and who used them when, where and for what.
    pub async fn blast_radius(&self, workspace: WorkspaceId, source: Source) -> Result<BlastRadius, QueryError> {
        let most = i64::try_from(MOST_TOUCHED).unwrap_or(i64::MAX) + 1;
        let mut tx = self.of(workspace).await?;
        let mut query = QueryBuilder::new(TOUCHES);
        query.push(" where r.workspace_id = ").push_bind(workspace.0);
        touched(&mut query, source);
        query.push(" group by 1, 2, 3, 4, 5, 6 order by last_at desc, 1, 2, 4 limit ").push_bind(most);
        let mut touches: Vec<Touch> = query.build_query_as().fetch_all(&mut *tx).await?;
        let mut query = QueryBuilder::new(REACHED);
        query.push(" where v.workspace_id = ").push_bind(workspace.0);
        reached(&mut query, source);
        query.push(" group by v.credential_id, v.version, c.id order by v.created_at desc, 1, 3 limit ");
        query.push_bind(most);
        let mut credentials: Vec<Reached> = query.build_query_as().fetch_all(&mut *tx).await?;
        tx.commit().await?;
        let truncated = touches.len() > MOST_TOUCHED || credentials.len() > MOST_TOUCHED;
        touches.truncate(MOST_TOUCHED);
        credentials.truncate(MOST_TOUCHED);
        Ok(BlastRadius { credentials, touches, truncated })
    }
}

fn touched(query: &mut QueryBuilder<'_, Postgres>, source: Source) {
    match source {
        Source::Execution(id) => {
            query.push(" and r.reader_type = 'execution' and r.reader_id = ").push_bind(id.0);
        }
        Source::Credential(id, version) => {
            query.push(" and r.credential_id = ").push_bind(id.0);
            if let Some(version) = version {
                query.push(" and r.credential_version = ").push_bind(version);
            }
        }
        // What was read while this version opened it.
        Source::Key { version, made_at, destroyed_at } => {
            query.push(" and v.key_version <= ").push_bind(version);
            query.push(" and r.read_at >= ").push_bind(made_at);
            if let Some(at) = destroyed_at {
                query.push(" and r.read_at <= ").push_bind(at);
            }
        }
    }
}

fn reached(query: &mut QueryBuilder<'_, Postgres>, source: Source) {
    match source {
        Source::Execution(id) => {
            query.push(
                " and exists (select from read_models.credential_reads x where x.credential_id = v.credential_id
                               and x.credential_version = v.version and x.reader_type = 'execution' and x.reader_id = ",
            );
            query.push_bind(id.0).push(")");
        }
        Source::Credential(id, version) => {
            query.push(" and v.credential_id = ").push_bind(id.0);
            if let Some(version) = version {
                query.push(" and v.version = ").push_bind(version);
            }
        }
        // Stored under it, or moved under it by its rotation because it was still there.
        Source::Key { version, made_at, .. } => {
            query.push(" and (v.key_version = ").push_bind(version);
            query.push(" or (v.key_version < ").push_bind(version);
            query.push(
                " and coalesce(v.destroyed_at, case when c.status = 'destroyed' then c.destroy_at end, 'infinity') > ",
            );
            query.push_bind(made_at).push("))");
        }
    }
}
