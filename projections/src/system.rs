//! What the service itself asks, over all tenants: what is due, how far the projector lags. Never for a route's answer
//! to a tenant.

use chrono::{DateTime, Utc};
use domain::{
    event::LogPosition,
    ids::{ConnectionId, CredentialId, DeliveryId, ExecutionId, OrganizationId, WebhookId, WorkspaceId},
};
use sqlx::{PgPool, Row as _};
use uuid::Uuid;

use crate::{
    projector::CHECKPOINT,
    workflow_operations::{self, Callers},
};

/// Something of a workspace that waits for an executor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due<Id> {
    pub workspace: WorkspaceId,
    pub id: Id,
}

/// A delivery that waits for an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DueDelivery {
    pub workspace: WorkspaceId,
    pub webhook: WebhookId,
    pub id: DeliveryId,
}

/// A connection whose document is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DueIngestion {
    pub workspace: WorkspaceId,
    pub id: ConnectionId,
    /// Somebody began long ago. Not so for what waits: an ingestion that begins this very moment is nobody else's.
    pub stuck: bool,
}

/// A connection whose document the schedule wants to be read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DueRefresh {
    pub workspace: WorkspaceId,
    pub id: ConnectionId,
    /// How many refreshes had been asked for.
    pub refreshes: u32,
}

/// How far the read models are behind the log.
#[derive(Debug, Clone, PartialEq)]
pub struct Lag {
    pub checkpoint: LogPosition,
    /// Events not shown yet, counted up to 10,000.
    pub events: i64,
    /// Age of the oldest of them, milliseconds; 0 when there is none.
    pub age_ms: i64,
}

/// A rebuild that is running.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub struct RebuildStatus {
    /// `fold`, `index`, `catch_up`, `swap` or `clean_up`.
    pub phase: String,
    /// Events folded so far.
    pub events: i64,
    /// Events in the log when it began.
    pub total: i64,
    pub started_at: DateTime<Utc>,
    /// When it told of its progress last.
    pub updated_at: DateTime<Utc>,
}

impl RebuildStatus {
    /// Events a second, as far as it has come.
    pub fn rate(&self) -> f64 {
        let elapsed = (self.updated_at - self.started_at).num_milliseconds().max(1);
        self.events as f64 * 1_000.0 / elapsed as f64
    }

    /// Seconds left at this rate; `None` before the first progress.
    pub fn eta_seconds(&self) -> Option<i64> {
        let rate = self.rate();
        (rate > 0.0).then(|| ((self.total - self.events).max(0) as f64 / rate).ceil() as i64)
    }
}

/// Cheap to clone.
#[derive(Clone)]
pub struct SystemReads {
    pool: PgPool,
}

impl SystemReads {
    /// `pool` logs in as `apiq_projector`.
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// The workspaces of an organization.
    pub async fn workspaces(&self, organization: OrganizationId) -> Result<Vec<WorkspaceId>, sqlx::Error> {
        let of = "select id from read_models.workspaces where organization_id = $1 order by created_at, id";
        let ids: Vec<Uuid> = sqlx::query_scalar(of).bind(organization.0).fetch_all(&self.pool).await?;
        Ok(ids.into_iter().map(WorkspaceId).collect())
    }

    /// Connections whose document waits, and those whose ingestion began before `quiet` and did not end; those that began
    /// before `stuck` are marked.
    pub async fn connections_to_ingest(
        &self,
        quiet: DateTime<Utc>,
        stuck: DateTime<Utc>,
        limit: i64,
    ) -> Result<Vec<DueIngestion>, sqlx::Error> {
        let rows: Vec<(Uuid, Uuid, bool)> = sqlx::query_as(
            "select workspace_id, id, ingestion_status = 'RUNNING' and updated_at < $2 from read_models.connections
              where ingestion_status = 'PENDING' or (ingestion_status = 'RUNNING' and updated_at < $1)
              order by updated_at limit $3",
        )
        .bind(quiet)
        .bind(stuck)
        .bind(limit)
        .fetch_all(&self.pool)
        .await?;
        let due =
            |(workspace, id, stuck)| DueIngestion { workspace: WorkspaceId(workspace), id: ConnectionId(id), stuck };
        Ok(rows.into_iter().map(due).collect())
    }

    /// Connections whose document the schedule wants to be read again by `now`, the longest due first.
    pub async fn connections_to_refresh(&self, now: DateTime<Utc>, limit: i64) -> Result<Vec<DueRefresh>, sqlx::Error> {
        let rows: Vec<(Uuid, Uuid, i32)> = sqlx::query_as(
            "select workspace_id, id, refreshes from read_models.connections
              where next_refresh_at <= $1 and status = 'ACTIVE' and ingestion_status in ('SUCCEEDED', 'FAILED')
              order by next_refresh_at limit $2",
        )
        .bind(now)
        .bind(limit)
        .fetch_all(&self.pool)
        .await?;
        let due = |(workspace, id, refreshes)| DueRefresh {
            workspace: WorkspaceId(workspace),
            id: ConnectionId(id),
            refreshes: u32::try_from(refreshes).unwrap_or(0),
        };
        Ok(rows.into_iter().map(due).collect())
    }

    /// Connections whose access token is to be renewed by `now`, the longest due first.
    pub async fn grants_due(&self, now: DateTime<Utc>, limit: i64) -> Result<Vec<Due<ConnectionId>>, sqlx::Error> {
        self.due(
            "select workspace_id, id from read_models.connections
              where oauth_due_at <= $1 and status = 'ACTIVE' order by oauth_due_at limit $2",
            now,
            limit,
        )
        .await
    }

    /// Who calls any of these operations (`METHOD /path`) of a connection; at most `most` of each kind are named.
    pub async fn callers(
        &self,
        workspace: WorkspaceId,
        connection: ConnectionId,
        operations: &[String],
        most: i64,
    ) -> Result<Callers, sqlx::Error> {
        workflow_operations::callers(&self.pool, workspace, connection, operations, most).await
    }

    /// Have the read models come to `at`?
    pub async fn shows(&self, at: LogPosition) -> Result<bool, sqlx::Error> {
        Ok(event_store::checkpoint(&self.pool, CHECKPOINT).await? >= at)
    }

    /// Executions that should have moved by `now`.
    pub async fn executions_due(&self, now: DateTime<Utc>, limit: i64) -> Result<Vec<Due<ExecutionId>>, sqlx::Error> {
        self.due(
            "select workspace_id, id from read_models.executions
              where status in ('pending', 'running') and wake_at <= $1 order by wake_at limit $2",
            now,
            limit,
        )
        .await
    }

    /// Credentials with a warning, an expiry or a destruction that should have been by `now`.
    pub async fn credentials_due(&self, now: DateTime<Utc>, limit: i64) -> Result<Vec<Due<CredentialId>>, sqlx::Error> {
        self.due(
            "select workspace_id, id from read_models.credentials
              where due_at is not null and due_at <= $1 order by due_at limit $2",
            now,
            limit,
        )
        .await
    }

    /// Deliveries whose next attempt is due, or whose present one's lease has ended: the oldest of each webhook, at most
    /// `each` of one and `limit` of all. Webhooks take turns, so that one with many hides no other.
    pub async fn deliveries_due(
        &self,
        now: DateTime<Utc>,
        each: i64,
        limit: i64,
    ) -> Result<Vec<DueDelivery>, sqlx::Error> {
        // From webhook to webhook by the index: a long line of one costs no more than `each`.
        let rows: Vec<(Uuid, Uuid, Uuid)> = sqlx::query_as(
            "with recursive hooks as (
               (select webhook_id from read_models.webhook_deliveries
                 where status in ('pending', 'delivering') order by webhook_id limit 1)
               union all
               select (select d.webhook_id from read_models.webhook_deliveries d
                        where d.status in ('pending', 'delivering') and d.webhook_id > h.webhook_id
                        order by d.webhook_id limit 1)
                 from hooks h where h.webhook_id is not null
             )
             select d.workspace_id, d.webhook_id, d.id
               from hooks h cross join lateral (
                 select w.workspace_id, w.webhook_id, w.id, w.next_attempt_at,
                        row_number() over (order by w.next_attempt_at) as turn
                   from read_models.webhook_deliveries w
                  where w.webhook_id = h.webhook_id and w.status in ('pending', 'delivering')
                    and w.next_attempt_at <= $1
                  order by w.next_attempt_at limit $2) d
              order by d.turn, d.next_attempt_at limit $3",
        )
        .bind(now)
        .bind(each)
        .bind(limit)
        .fetch_all(&self.pool)
        .await?;
        let due = |(workspace, webhook, id)| DueDelivery {
            workspace: WorkspaceId(workspace),
            webhook: WebhookId(webhook),
            id: DeliveryId(id),
        };
        Ok(rows.into_iter().map(due).collect())
    }

    /// Active connections whose operations are known: id, name, hash of the operations' blob.
    pub async fn connected_operations(
        &self,
        workspace: WorkspaceId,
    ) -> Result<Vec<(ConnectionId, String, String)>, sqlx::Error> {
        let rows: Vec<(Uuid, String, String)> = sqlx::query_as(
            "select id, name, facts->>'operationsHash' from read_models.connections
              where workspace_id = $1 and status = 'ACTIVE' and facts is not null order by created_at, id",
        )
        .bind(workspace.0)
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().map(|(id, name, hash)| (ConnectionId(id), name, hash)).collect())
    }

    pub async fn lag(&self) -> Result<Lag, sqlx::Error> {
        let checkpoint = event_store::checkpoint(&self.pool, CHECKPOINT).await?;
        let row = sqlx::query(
            "select count(*) as events,
                    coalesce((extract(epoch from clock_timestamp() - min(recorded_at)) * 1000)::bigint, 0) as age
               from (select e.recorded_at from log.events e
                      where (e.generation, e.transaction_id, e.position) > ($1, $2::text::xid8, $3)
                      order by e.generation, e.transaction_id, e.position limit 10000) as waiting",
        )
        .bind(checkpoint.generation)
        .bind(checkpoint.transaction_id.to_string())
        .bind(checkpoint.position)
        .fetch_one(&self.pool)
        .await?;
        Ok(Lag { checkpoint, events: row.try_get("events")?, age_ms: row.try_get::<i64, _>("age")?.max(0) })
    }

    /// Events set aside because a view could not take them: 0 in a healthy system.
    pub async fn quarantined(&self) -> Result<i64, sqlx::Error> {
        sqlx::query_scalar("select count(*) from log.quarantine").fetch_one(&self.pool).await
    }

    /// The rebuild under way, if there is one: its row says so, and somebody holds its lock.
    pub async fn rebuild(&self) -> Result<Option<RebuildStatus>, sqlx::Error> {
        sqlx::query_as(
            "select phase, events, total, started_at, updated_at from log.rebuilds
              where status = 'running'
                and exists (select from pg_locks where locktype = 'advisory' and granted
                               and database = (select oid from pg_database where datname = current_database())
                               and classid::bigint = $1 >> 32 and objid::bigint = $1 & 4294967295 and objsubid = 1)
              order by id desc limit 1",
        )
        .bind(crate::online::LOCK)
        .fetch_optional(&self.pool)
        .await
    }

    async fn due<Id: From<Uuid>>(
        &self,
        sql: &'static str,
        at: DateTime<Utc>,
        limit: i64,
    ) -> Result<Vec<Due<Id>>, sqlx::Error> {
        let rows: Vec<(Uuid, Uuid)> = sqlx::query_as(sql).bind(at).bind(limit).fetch_all(&self.pool).await?;
        Ok(rows.into_iter().map(|(workspace, id)| Due { workspace: WorkspaceId(workspace), id: id.into() }).collect())
    }
}
