//! Memory goes back when nobody uses it: documents and indexes that were needed once are read again when they are needed
//! again.

use std::{sync::Arc, time::Duration};

use commands::App;
use executors::planner::WorkspacePlanner;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

const LOOKED_AT: Duration = Duration::from_secs(30);
/// A person who thinks about a plan comes back within this time.
const UNUSED: Duration = Duration::from_secs(300);

pub struct Housekeeper {
    pub app: App,
    pub planner: Arc<WorkspacePlanner>,
}

impl Housekeeper {
    /// Runs until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut ticks = tokio::time::interval(LOOKED_AT);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = ticks.tick() => {}
            }
            self.app.let_go_of_specs(UNUSED);
            self.planner.let_go(UNUSED);
        }
    }
}
