//! Keeps the vault's promises: ends what a crash has left of a key's rotation, and tells the log of what was not told.
//!
//! What is to be done is derived from the vault's rows and the read models at every round, so nothing is forgotten while
//! no keeper runs. Each change is fenced by its stream: with many keepers it happens once.

use std::time::Duration;

use commands::{App, Context, Failure, workspace_key};
use tokio_util::sync::CancellationToken;

use crate::{Liveness, supervise::supervise};

const ROUND: Duration = Duration::from_secs(2);
/// Workspaces looked at in one round.
const MOST: i64 = 64;

pub(crate) struct Keeper {
    pub app: App,
    pub liveness: Liveness,
}

impl Keeper {
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        supervise("vault keeper", shutdown, || self.rounds()).await;
    }

    async fn rounds(&self) -> Result<(), Failure> {
        loop {
            self.keys().await?;
            tokio::time::sleep(ROUND).await;
        }
    }

    /// One workspace's trouble does not keep the others waiting.
    async fn keys(&self) -> Result<(), Failure> {
        for workspace in self.app.vault().unsettled_keys(MOST).await? {
            let context = Context::system(self.liveness.name(), workspace, self.app.new_id());
            if let Err(error) = workspace_key::carry_on(&self.app, &context, workspace, None).await {
                tracing::warn!(%workspace, %error, "a workspace's key cannot be tended");
            }
        }
        Ok(())
    }
}
