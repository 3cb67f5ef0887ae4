//! Keeps the vault's promises: warns before secrets expire, destroys deleted ones in time, ends what a crash has left of
//! a key's rotation, tells the log of what was not told, and destroys stored values that no event names.
//!
//! What is to be done is derived from the vault's rows and the read models at every round, so nothing is forgotten while
//! no keeper runs. Each change is fenced by its stream: with many keepers it happens once.

use std::time::{Duration, Instant};

use commands::{App, Context, Failure, secret, sweep, workspace_key};
use domain::ids::WorkspaceId;
use projections::SystemReads;
use tokio_util::sync::CancellationToken;

use crate::{Liveness, supervise::supervise};

const ROUND: Duration = Duration::from_secs(2);
/// What one workspace's rotation may take of a round; the others are waiting.
const TURN: Duration = Duration::from_secs(5);
/// Minutes after which no append can be under way for a stored value.
const ORPHANED: i32 = 10;
/// Workspaces, and credentials, looked at in one round.
const MOST: i64 = 64;

pub(crate) struct Keeper {
    pub app: App,
    pub liveness: Liveness,
    pub reads: SystemReads,
}

impl Keeper {
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        supervise("vault keeper", shutdown, || self.rounds()).await;
    }

    async fn rounds(&self) -> Result<(), Failure> {
        loop {
            self.keys().await?;
            self.secrets().await?;
            self.untold().await?;
            self.orphans().await?;
            tokio::time::sleep(ROUND).await;
        }
    }

    /// One workspace's trouble does not keep the others waiting.
    async fn keys(&self) -> Result<(), Failure> {
        for workspace in self.app.vault().unsettled_keys(MOST).await? {
            let context = self.context(workspace);
            if let Err(error) = workspace_key::carry_on(&self.app, &context, workspace, Instant::now() + TURN).await {
                tracing::warn!(%workspace, %error, "a workspace's key cannot be tended");
            }
        }
        Ok(())
    }

    /// What the read models say is due; the stream says whether it still is.
    async fn secrets(&self) -> Result<(), Failure> {
        let due = self.reads.credentials_due(self.app.now(), MOST).await;
        for due in due.map_err(|error| Failure::Unavailable(error.to_string()))? {
            if let Err(error) = secret::tend(&self.app, &self.context(due.workspace), due.id).await {
                tracing::warn!(credential = %due.id, %error, "a credential cannot be tended");
            }
        }
        Ok(())
    }

    /// Destroyed values of which a process that died could not tell.
    async fn untold(&self) -> Result<(), Failure> {
        for (workspace, id, versions) in self.app.vault().untold_destructions(MOST).await? {
            let told = secret::tell_destroyed(&self.app, &self.context(workspace), id, &versions).await;
            if let Err(error) = told {
                tracing::warn!(credential = %id, %error, "a destruction cannot be told");
            }
        }
        Ok(())
    }

    /// Stored values of which nobody has said that the log names them.
    async fn orphans(&self) -> Result<(), Failure> {
        for unnamed in self.app.vault().unnamed_values(ORPHANED, MOST).await? {
            if let Err(error) = sweep(&self.app, &unnamed).await {
                tracing::warn!(credential = %unnamed.credential, %error, "a stored value cannot be looked up in the log");
            }
        }
        Ok(())
    }

    fn context(&self, workspace: WorkspaceId) -> Context {
        Context::system(self.liveness.name(), workspace, self.app.new_id())
    }
}
