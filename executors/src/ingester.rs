//! Ingestion: fetches a connection's document, normalises it, stores both as blobs, records what it found.

use std::time::Duration;

use chrono::TimeDelta;
use commands::{App, Context, Failure, connection};
use domain::{
    connection::{Connection, IngestionStatus, SpecChanges, SpecFacts, SpecSource},
    ids::{ConnectionId, WorkspaceId},
    operation::{SpecProblem, SpecSummary},
};
use integrations::{
    egress::{Egress, EgressError, OutboundRequest},
    openapi::{self, Format, Limits, Origin},
};
use projections::{Due, SystemReads};
use tokio_util::sync::CancellationToken;

use crate::{
    Liveness,
    gather::{Read, gather},
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
    egress: Egress,
    liveness: Liveness,
    limits: Limits,
}

impl Ingester {
    pub fn new(app: App, egress: Egress, liveness: Liveness, limits: Limits) -> Self {
        Self { app, egress, liveness, limits }
    }

    pub async fn run(self, client: async_nats::Client, reads: SystemReads, shutdown: CancellationToken) {
        let woken = supervise("ingester", shutdown.clone(), || self.consume(&client));
        let swept = supervise("ingestion sweep", shutdown.clone(), || self.sweep(&reads));
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
    async fn sweep(&self, reads: &SystemReads) -> Result<(), NatsError> {
        loop {
            tokio::time::sleep(SWEEP).await;
            let now = self.app.now();
            let stuck = reads.connections_to_ingest(now - STUCK, SWEPT).await.map_err(NatsError::of)?;
            let open = reads.connections_to_ingest(now - QUIET, SWEPT).await.map_err(NatsError::of)?;
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
        let Some(number) = connection::start_ingestion(&self.app, &context, id).await? else { return Ok(()) };
        match self.read(&connection).await {
            Ok(read) => match self.record(&context, id, number, &connection, read).await {
                Err(Failure::Internal(reason)) => {
                    tracing::error!(connection = %id, %reason, "a document could not be recorded");
                    let sentence = "The document could be read but not stored.".to_owned();
                    connection::record_failure(&self.app, &context, id, number, problem(sentence)).await
                }
                other => other,
            },
            Err(problems) => {
                tracing::info!(connection = %id, ?problems, "a document could not be taken");
                connection::record_failure(&self.app, &context, id, number, problems).await
            }
        }
    }

    async fn read(&self, connection: &Connection) -> Result<Read, Vec<SpecProblem>> {
        let (bytes, origin, stored) = match &connection.source {
            SpecSource::Url { url } => {
                let bytes = self.fetch(url, self.limits.max_bytes).await.map_err(problem)?;
                (bytes, Origin { url: Some(url.clone()), root: None }, None)
            }
            SpecSource::Upload { blob, root } => {
                let bytes = self.app.store().blob(blob).await;
                let bytes = bytes.map_err(|e| problem(format!("The stored document cannot be read: {e}")))?;
                (bytes, Origin { url: None, root: root.clone() }, Some(blob.clone()))
            }
            SpecSource::None => return Err(problem("The connection has no document.".into())),
        };
        let fetched = |url: String, most| async move { self.fetch(&url, most).await };
        let read = gather(bytes, origin, stored.is_none(), self.limits.clone(), fetched).await?;
        Ok(Read { stored, ..read })
    }

    /// The one place that gets a document from its URL: connections' own, and what they refer to.
    async fn fetch(&self, url: &str, max_bytes: usize) -> Result<Vec<u8>, String> {
        let request = OutboundRequest::get(url)
            .header("Accept", "application/json, application/yaml, text/yaml, */*;q=0.5")
            .timeout(Duration::from_secs(30))
            .max_response_bytes(max_bytes as u64);
        match self.egress.send(request).await {
            Ok(answer) if answer.status == 200 => Ok(Vec::from(answer.body)),
            Ok(answer) => Err(format!("The document's server answered {} instead of 200.", answer.status)),
            Err(EgressError::ResponseTooLarge { limit }) => Err(format!("The document has more than {limit} bytes.")),
            Err(error) => Err(format!("The document cannot be fetched: {error}")),
        }
    }

    async fn record(
        &self,
        context: &Context,
        id: ConnectionId,
        number: u32,
        before: &Connection,
        read: Read,
    ) -> Result<(), Failure> {
        let app = &self.app;
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
        let changes = match &before.facts {
            Some(old) => changes(&*app.spec(&old.operations_hash).await?, &summary),
            None => SpecChanges { added: count(summary.operations.len()), ..SpecChanges::default() },
        };
        let facts = SpecFacts {
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
        connection::record_spec(app, context, id, number, facts, changes).await
    }
}

fn changes(old: &SpecSummary, new: &SpecSummary) -> SpecChanges {
    let diff = openapi::operations_diff(old, new);
    SpecChanges {
        added: count(diff.added.len()),
        removed: count(diff.removed.len()),
        changed: count(diff.changed.len()),
        breaking: diff.breaking.into_iter().take(SHOWN).collect(),
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

pub(crate) fn problem(message: String) -> Vec<SpecProblem> {
    vec![SpecProblem { pointer: String::new(), message }]
}
