//! Refreshes by schedule: asks for the documents that are due. Every node does; the append decides who is first.

use std::time::Duration;

use commands::{App, Context, Failure, connection};
use projections::{DueRefresh, SystemReads};
use tokio_util::sync::CancellationToken;

use crate::{Liveness, nats::NatsError, supervise::supervise};

const SWEEP: Duration = Duration::from_secs(5);
/// A round asks for this many; ingesters take them one after the other.
const AT_ONCE: i64 = 50;

pub(crate) struct Refresher {
    pub app: App,
    pub liveness: Liveness,
    pub reads: SystemReads,
}

impl Refresher {
    pub async fn run(self, shutdown: CancellationToken) {
        supervise("refresh schedule", shutdown, || self.sweep()).await;
    }

    async fn sweep(&self) -> Result<(), NatsError> {
        loop {
            tokio::time::sleep(SWEEP).await;
            let due = self.reads.connections_to_refresh(self.app.now(), AT_ONCE).await.map_err(NatsError::of)?;
            for connection in due {
                self.ask(connection).await;
            }
        }
    }

    async fn ask(&self, due: DueRefresh) {
        let context = Context::system(self.liveness.name(), due.workspace, due.id.0);
        match connection::refresh_due(&self.app, &context, due.id, due.refreshes).await {
            Ok(asked) => tracing::debug!(connection = %due.id, asked, "a refresh was due"),
            // Deleted meanwhile.
            Err(Failure::Rejected(_)) => {}
            Err(error) => tracing::warn!(connection = %due.id, %error, "a due refresh could not be asked for"),
        }
    }
}
