//! Ingestion: fetches a connection's document, normalises it, stores both as blobs, records what it found.

use std::time::Duration;

use chrono::TimeDelta;
use commands::{
    App, Context, Failure,
    connection::{self, Begun},
};
use domain::{
    connection::{Connection, DocumentVia, IngestionStatus, SpecFacts, SpecSecurity, SpecSource},
    ids::{ConnectionId, WorkspaceId},
    operation::SpecProblem,
};
use integrations::openapi::{Format, Limits, Origin};
use projections::{DueIngestion, SystemReads};
use tokio_util::sync::CancellationToken;

use crate::{
    Liveness,
    documents::{Asking, Documents, Freshness},
    drift::{self, Compared, count},
    gather::{PATIENCE, Read, gather},
    nats::NatsError,
    supervise::supervise,
    wake::{Work, consume},
};

const AT_ONCE: usize = 2;
const SWEEP: Duration = Duration::from_secs(2);
/// What parsing and storing may take beside fetching.
const READING: Duration = Duration::from_secs(60);
/// One that began this long ago is looked at: its executor may be dead.
const QUIET: TimeDelta = TimeDelta::seconds(2);
const SWEPT: i64 = 20;
/// Events keep this many warnings and sentences; the blob has them all.
const SHOWN: usize = 50;

#[derive(Clone)]
pub struct Ingester {
    app: App,
    documents: Documents,
    liveness: Liveness,
    reads: SystemReads,
    limits: Limits,
    /// An ingestion that began this long ago and did not end is begun again, whoever has it.
    stuck_after: TimeDelta,
}

/// Why there are no operations.
struct Refused {
    problems: Vec<SpecProblem>,
    /// There was no document to read.
    unreachable: bool,
}

impl Refused {
    fn of(message: impl Into<String>) -> Self {
        let problems = vec![SpecProblem { pointer: String::new(), message: message.into() }];
        Self { problems, unreachable: false }
    }
}

impl Ingester {
    pub fn new(app: App, documents: Documents, liveness: Liveness, reads: SystemReads, limits: Limits) -> Self {
        let longest = documents.longest() + PATIENCE + READING;
        let stuck_after = TimeDelta::from_std(longest).unwrap_or(TimeDelta::MAX);
        Self { app, documents, liveness, reads, limits, stuck_after }
    }

    pub async fn run(self, client: async_nats::Client, shutdown: CancellationToken) {
        let woken = supervise("ingester", shutdown.clone(), || self.consume(&client));
        let swept = supervise("ingestion sweep", shutdown.clone(), || self.sweep());
        tokio::join!(woken, swept);
    }

    async fn consume(&self, client: &async_nats::Client) -> Result<(), NatsError> {
        let work = Work {
            client,
            name: "ingestion",
            filter: "apiq.events.*.connection.*",
            at_once: AT_ONCE,
            ack_wait: Duration::from_secs(30),
        };
        consume(work, |wake| {
            let ingester = self.clone();
            async move {
                if matches!(wake.event_type.as_str(), "connection.created" | "connection.refresh_requested") {
                    ingester.work_on(WorkspaceId(wake.workspaceid), ConnectionId(wake.aggregateid), false).await;
                }
            }
        })
        .await
    }

    /// Connections whose wake-up was lost, or whose ingester died.
    async fn sweep(&self) -> Result<(), NatsError> {
        loop {
            tokio::time::sleep(SWEEP).await;
            let now = self.app.now();
            let open = self.reads.connections_to_ingest(now - QUIET, now - self.stuck_after, SWEPT).await;
            for DueIngestion { workspace, id, stuck } in open.map_err(NatsError::of)? {
                self.work_on(workspace, id, stuck).await;
            }
        }
    }

    /// `stuck`: whoever began it had time enough.
    async fn work_on(&self, workspace: WorkspaceId, id: ConnectionId, stuck: bool) {
        if let Err(error) = self.ingest(workspace, id, stuck).await {
            tracing::warn!(connection = %id, %error, "an ingestion could not be recorded");
        }
    }

    async fn ingest(&self, workspace: WorkspaceId, id: ConnectionId, stuck: bool) -> Result<(), Failure> {
        let context = Context::system(self.liveness.name(), workspace, id.0);
        let connection = match connection::load(&self.app, workspace, id).await {
            Ok(loaded) => loaded.state,
            // Deleted meanwhile.
            Err(Failure::Rejected(_)) => return Ok(()),
            Err(other) => return Err(other),
        };
        if connection.ingestion == IngestionStatus::Running && !stuck {
            let gone = match &connection.ingester {
                Some(name) => self.liveness.is_gone(name).await,
                None => true,
            };
            if !gone {
                return Ok(());
            }
        }
        if connection.source == SpecSource::None {
            return Ok(());
        }
        let begun = connection::start_ingestion(&self.app, &context, id, connection.ingestions).await?;
        let Some(begun) = begun else { return Ok(()) };
        let number = begun.number;
        // As it is now that this ingestion has begun: another document may have been given since it was looked at. If one is
        // given from here on, the outcome of this ingestion comes too late.
        let connection = connection::load(&self.app, workspace, id).await?.state;
        if !connection.ingests(number) {
            return Ok(());
        }
        // Who asks for a refresh wants to know what the server has now.
        let freshness = if connection.refreshes == 0 { Freshness::Cached } else { Freshness::Revalidated };
        let gate = connection::gate(&self.app, workspace, &[]).await?;
        let asking = Asking::new(workspace, freshness, connection.origins(&gate));
        let read = self.read(&asking, &connection).await;
        connection::record_fetches(&self.app, &context, id, asking.calls()).await?;
        match read {
            Ok((read, via)) => match self.record(&context, id, begun, &connection, read, via).await {
                Err(Failure::Internal(reason)) => {
                    tracing::error!(connection = %id, %reason, "a document could not be recorded");
                    let refused = Refused::of("The document could be read but not stored.");
                    connection::record_failure(&self.app, &context, id, number, refused.problems, false).await
                }
                other => other,
            },
            Err(Refused { problems, unreachable }) => {
                let reason = problems.first().map_or("", |p| p.message.as_str());
                tracing::warn!(connection = %id, reason, problems = problems.len(), "a document could not be taken");
                connection::record_failure(&self.app, &context, id, number, problems, unreachable).await
            }
        }
    }

    async fn read(&self, asking: &Asking, connection: &Connection) -> Result<(Read, DocumentVia), Refused> {
        let blocked = |url: &str| connection.closed(asking.origins.as_deref(), url);
        let (bytes, origin, stored, via) = match &connection.source {
            SpecSource::Url { url } => {
                if let Some(why) = blocked(url) {
                    return Err(Refused::of(format!("The document is not fetched: {why}.")));
                }
                let fetched = self.documents.fetch(asking, url).await;
                let document = fetched.map_err(|e| Refused { unreachable: true, ..Refused::of(e.to_string()) })?;
                (document.bytes, Origin { url: Some(document.url), root: None }, None, document.via)
            }
            SpecSource::Upload { blob, root } => {
                let bytes = self.app.store().blob(blob).await;
                let bytes = bytes.map_err(|e| Refused::of(format!("The stored document cannot be read: {e}")))?;
                (bytes, Origin { url: None, root: root.clone() }, Some(blob.clone()), DocumentVia::Upload)
            }
            SpecSource::None => return Err(Refused::of("The connection has no document.")),
        };
        let blocked = &blocked;
        let part = |url: String, most: usize| async move {
            if let Some(why) = blocked(&url) {
                return Err(format!("it is not fetched: {why}"));
            }
            let fetched = self.documents.fetch_part(asking, &url, most as u64).await;
            fetched.map_err(|unreachable| unreachable.0)
        };
        let read = gather(bytes, origin, stored.is_none(), self.limits.clone(), part).await;
        let read = read.map_err(|problems| Refused { problems, unreachable: false })?;
        Ok((Read { stored, ..read }, via))
    }

    async fn record(
        &self,
        context: &Context,
        id: ConnectionId,
        begun: Begun,
        before: &Connection,
        read: Read,
        via: DocumentVia,
    ) -> Result<(), Failure> {
        let (app, reads) = (&self.app, &self.reads);
        let workspace = context.actor.workspace;
        let Read { ingested, stored, bytes, size } = read;
        let summary = ingested.summary;
        // One after the other, each dropped when it is stored: a large document is large three times otherwise.
        let spec_hash = match stored {
            Some(blob) => blob,
            None => app.store().put_blob(workspace.0, &bytes).await?,
        };
        drop(bytes);
        let operations = serde_json::to_vec(&summary).map_err(|e| Failure::Internal(e.to_string()))?;
        let operations_hash = app.store().put_blob(workspace.0, &operations).await?;
        drop(operations);
        let (changes, summary) = match &before.facts {
            Some(old) => {
                let compared = Compared { app, reads, workspace, connection: id, since: begun.at };
                compared.changes(&old.operations_hash, summary).await?
            }
            None => (drift::first(&summary), summary),
        };
        let facts = SpecFacts {
            security: SpecSecurity::of(&summary),
            spec_hash,
            operations_hash,
            spec_version: summary.spec_version,
            title: summary.title,
            api_version: summary.version,
            format: match ingested.format {
                Format::Json => "json".into(),
                Format::Yaml => "yaml".into(),
            },
            size,
            files: count(ingested.files),
            endpoint_count: count(summary.operations.len()),
            webhook_count: count(summary.webhook_count),
            servers: summary.servers.into_iter().take(10).collect(),
            warning_count: count(summary.warnings.len()),
            warnings: summary.warnings.into_iter().take(SHOWN).collect(),
        };
        connection::record_spec(app, context, id, begun.number, facts, changes, via).await
    }
}

pub(crate) fn problem(message: String) -> Vec<SpecProblem> {
    vec![SpecProblem { pointer: String::new(), message }]
}
