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
    operation::{SpecProblem, SpecSummary},
};
use integrations::openapi::{self, Format, Ingested, Limits};
use projections::{Due, SystemReads};
use tokio_util::sync::CancellationToken;

use crate::{
    Liveness,
    documents::{Document, Documents, Freshness},
    drift::{self, Compared, count},
    nats::NatsError,
    supervise::supervise,
    wake::{Work, consume},
};

const AT_ONCE: usize = 2;
const SWEEP: Duration = Duration::from_secs(2);
/// An ingestion that began this long ago and did not end is begun again, whoever has it.
const STUCK: TimeDelta = TimeDelta::seconds(120);
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
        Self { app, documents, liveness, reads, limits }
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
            let stuck = self.reads.connections_to_ingest(now - STUCK, SWEPT).await.map_err(NatsError::of)?;
            let open = self.reads.connections_to_ingest(now - QUIET, SWEPT).await.map_err(NatsError::of)?;
            for Due { workspace, id } in open {
                self.work_on(workspace, id, stuck.iter().any(|s| s.id == id)).await;
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
        match self.read(workspace, &connection).await {
            Ok((document, ingested)) => match self.record(&context, id, begun, &connection, document, ingested).await {
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

    async fn read(&self, workspace: WorkspaceId, connection: &Connection) -> Result<(Document, Ingested), Refused> {
        let document = self.document(workspace, connection).await?;
        let limits = self.limits.clone();
        let parsed = tokio::task::spawn_blocking(move || {
            let ingested = openapi::ingest(&document.bytes, &limits);
            (document, ingested)
        })
        .await;
        match parsed {
            Ok((_, Ok(ingested))) if holds_nul(&ingested.summary) => {
                Err(Refused::of("The document holds a NUL character (\\u0000), which no text can hold."))
            }
            Ok((document, Ok(ingested))) => Ok((document, ingested)),
            Ok((_, Err(error))) => {
                Err(Refused { problems: error.problems.into_iter().take(SHOWN).collect(), unreachable: false })
            }
            Err(panic) => {
                tracing::error!(%panic, "the ingester broke on a document");
                Err(Refused::of("The document could not be read: an internal error."))
            }
        }
    }

    async fn document(&self, workspace: WorkspaceId, connection: &Connection) -> Result<Document, Refused> {
        match &connection.source {
            SpecSource::Url { url } => {
                if let Some(why) = connection.approvals.blocks(url) {
                    return Err(Refused::of(format!("The document is not fetched: {why}.")));
                }
                // Who asks for a refresh wants to know what the server has now.
                let freshness = if connection.refreshes == 0 { Freshness::Cached } else { Freshness::Revalidated };
                let fetched = self.documents.fetch(workspace, url, freshness).await;
                fetched.map_err(|error| Refused { unreachable: true, ..Refused::of(error.to_string()) })
            }
            SpecSource::Upload { blob, .. } => {
                let bytes = self.app.store().blob(blob).await;
                let bytes = bytes.map_err(|e| Refused::of(format!("The stored document cannot be read: {e}")))?;
                Ok(Document { bytes, url: String::new(), via: DocumentVia::Upload })
            }
            SpecSource::None => Err(Refused::of("The connection has no document.")),
        }
    }

    async fn record(
        &self,
        context: &Context,
        id: ConnectionId,
        begun: Begun,
        before: &Connection,
        document: Document,
        ingested: Ingested,
    ) -> Result<(), Failure> {
        let (app, reads) = (&self.app, &self.reads);
        let workspace = context.actor.workspace;
        let summary = ingested.summary;
        let Document { bytes, via, .. } = document;
        let operations = serde_json::to_vec(&summary).map_err(|e| Failure::Internal(e.to_string()))?;
        let spec_hash = app.store().put_blob(workspace.0, &bytes).await?;
        let operations_hash = app.store().put_blob(workspace.0, &operations).await?;
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
            size: bytes.len() as u64,
            files: 1,
            endpoint_count: count(summary.operations.len()),
            webhook_count: count(summary.webhook_count),
            servers: summary.servers.into_iter().take(10).collect(),
            warning_count: count(summary.warnings.len()),
            warnings: summary.warnings.into_iter().take(SHOWN).collect(),
        };
        connection::record_spec(app, context, id, begun.number, facts, changes, via).await
    }
}

/// Postgres takes no NUL in a text, and no name, summary or description needs one.
fn holds_nul(summary: &SpecSummary) -> bool {
    let bad = |text: &Option<String>| text.as_ref().is_some_and(|t| t.contains('\0'));
    summary.title.contains('\0')
        || summary.version.contains('\0')
        || summary.servers.iter().any(|s| s.contains('\0'))
        || summary.operations.iter().any(|o| {
            o.path.contains('\0')
                || [&o.operation_id, &o.summary, &o.description].into_iter().any(bad)
                || o.tags.iter().any(|t| t.contains('\0'))
                || serde_json::to_string(o).is_ok_and(|text| text.contains("\\u0000"))
        })
}
