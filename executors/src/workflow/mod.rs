//! The workflow executor: folds an execution's stream, does what the interpreter says, appends what came of it.

mod call;
mod drive;
mod run;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::TimeDelta;
use commands::App;
use domain::ids::ExecutionId;
use integrations::egress::Egress;
use projections::SystemReads;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{
    Liveness,
    nats::NatsError,
    supervise::supervise,
    wake::{Work, consume},
};

/// Executions one node works on at once; each has at most its loops' concurrency of calls under way.
const AT_ONCE: usize = 128;
/// How often the log is swept for executions that nobody works on.
const SWEEP: Duration = Duration::from_secs(1);
/// Executions looked at in one sweep.
const SWEPT: i64 = 256;
/// Every so many sweeps, leases that have not ended are looked at too…
const DEEP: u64 = 5;
/// …as far ahead as this.
const LEASED: TimeDelta = TimeDelta::minutes(10);

/// Executes workflows on this node. Cheap to clone.
#[derive(Clone)]
pub struct Executor {
    app: App,
    egress: Egress,
    liveness: Liveness,
    places: Arc<Semaphore>,
    active: Arc<Mutex<HashSet<ExecutionId>>>,
}

impl Executor {
    pub fn new(app: App, egress: Egress, liveness: Liveness) -> Self {
        Self { app, egress, liveness, places: Arc::new(Semaphore::new(AT_ONCE)), active: Arc::default() }
    }

    /// Woken by NATS; swept from the log where a wake-up was lost.
    pub async fn run(self, client: async_nats::Client, reads: SystemReads, shutdown: CancellationToken) {
        let woken = supervise("workflow executor", shutdown.clone(), || self.consume(&client));
        let swept = supervise("execution sweep", shutdown.clone(), || self.sweep(&reads));
        tokio::join!(woken, swept);
    }

    async fn consume(&self, client: &async_nats::Client) -> Result<(), NatsError> {
        let work = Work {
            client,
            name: "executions",
            filter: "apiq.events.*.execution.started",
            at_once: AT_ONCE,
            ack_wait: Duration::from_secs(30),
        };
        consume(work, |wake| {
            let executor = self.clone();
            async move { executor.work_on(ExecutionId(wake.aggregateid)).await }
        })
        .await
    }

    /// What is due; and at the start and now and then also what somebody holds a lease of, should its holder be dead.
    async fn sweep(&self, reads: &SystemReads) -> Result<(), NatsError> {
        for round in 0u64.. {
            let now = self.app.now();
            let edge = if round.is_multiple_of(DEEP) { now + LEASED } else { now };
            for due in reads.executions_due(edge, SWEPT).await.map_err(NatsError::of)? {
                let executor = self.clone();
                tokio::spawn(async move { executor.work_on(due.id).await });
            }
            tokio::time::sleep(SWEEP).await;
        }
        Ok(())
    }

    /// Drives one execution as far as it goes. Does nothing when this node does so already.
    pub async fn work_on(&self, id: ExecutionId) {
        let Some(_mine) = self.claim(id) else { return };
        let Ok(_place) = self.places.acquire().await else { return };
        if let Err(error) = drive::drive(self, id).await {
            // The sweep finds it again.
            tracing::warn!(execution = %id, %error, "an execution could not be driven on");
        }
        self.app.waiters().ended(id);
    }

    fn claim(&self, id: ExecutionId) -> Option<Claimed> {
        let mut active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        active.insert(id).then(|| Claimed { active: self.active.clone(), id })
    }
}

struct Claimed {
    active: Arc<Mutex<HashSet<ExecutionId>>>,
    id: ExecutionId,
}

impl Drop for Claimed {
    fn drop(&mut self) {
        self.active.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}
