//! The workflow executor: folds an execution's stream, does what the interpreter says, appends what came of it.

mod action;
mod again;
mod call;
mod drive;
mod run;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};
use commands::{App, Failure};
use domain::ids::ExecutionId;
use integrations::{connectors::Runner, egress::Egress};
use projections::SystemReads;
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Liveness,
    health::HealthWatch,
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

/// A waiting execution is looked at this often at least.
const LONGEST_REST: Duration = Duration::from_secs(20);
/// Past this many, those whose rest is over are forgotten.
const RESTING: usize = 10_000;
/// Tries of an execution that cannot be driven on, before it fails.
const TRIES: u32 = 6;

/// Executes workflows on this node. Cheap to clone.
#[derive(Clone)]
pub struct Executor {
    app: App,
    egress: Egress,
    connectors: Runner,
    liveness: Liveness,
    health: HealthWatch,
    places: Arc<Semaphore>,
    active: Arc<Mutex<HashSet<ExecutionId>>>,
    /// Executions that could not be driven on: how often in a row, and when the next try is allowed.
    troubled: Arc<Mutex<HashMap<ExecutionId, (u32, Instant)>>>,
    under_way: TaskTracker,
    shutdown: CancellationToken,
}

impl Executor {
    pub fn new(
        app: App,
        (egress, connectors): (Egress, Runner),
        liveness: Liveness,
        shutdown: CancellationToken,
    ) -> Self {
        let under_way = TaskTracker::new();
        Self {
            health: HealthWatch::new(app.clone(), under_way.clone()),
            app,
            egress,
            connectors,
            liveness,
            places: Arc::new(Semaphore::new(AT_ONCE)),
            active: Arc::default(),
            troubled: Arc::default(),
            under_way,
            shutdown,
        }
    }

    /// Woken by NATS; swept from the log where a wake-up was lost. At shutdown no attempt begins any more, and those
    /// under way are awaited and recorded.
    pub async fn run(self, client: async_nats::Client, reads: SystemReads) {
        let woken = supervise("workflow executor", self.shutdown.clone(), || self.consume(&client));
        let swept = supervise("execution sweep", self.shutdown.clone(), || self.sweep(&reads));
        tokio::join!(woken, swept);
        self.under_way.close();
        self.under_way.wait().await;
    }

    /// Is the node asked to stop? Then nothing new begins.
    fn is_stopping(&self) -> bool {
        self.shutdown.is_cancelled()
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
            // Tracked, because a shutdown waits for calls under way and not for consumers.
            self.under_way.track_future(async move { executor.work_on(ExecutionId(wake.aggregateid)).await })
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
                self.under_way.spawn(async move { executor.work_on(due.id).await });
            }
            tokio::time::sleep(SWEEP).await;
        }
        Ok(())
    }

    /// Drives one execution as far as it goes. Does nothing when this node does so already.
    pub async fn work_on(&self, id: ExecutionId) {
        if self.is_stopping() || self.rests(id) {
            return;
        }
        let Some(_mine) = self.claim(id) else { return };
        let Ok(_place) = self.places.acquire().await else { return };
        match drive::drive(self, id).await {
            Ok(None) => self.forget_trouble(id),
            Ok(Some(at)) => self.rest_until(id, at),
            // The sweep finds it again.
            Err(Failure::Unavailable(reason)) => tracing::warn!(execution = %id, %reason, "an execution has to wait"),
            Err(error) => self.trouble(id, &error).await,
        }
        self.app.waiters().ended(id.0);
    }

    fn rests(&self, id: ExecutionId) -> bool {
        let troubled = self.troubled.lock().unwrap_or_else(PoisonError::into_inner);
        troubled.get(&id).is_some_and(|(_, until)| *until > Instant::now())
    }

    /// Nothing is to be done before `at`: sweeps leave it alone, but not for long, because others may change it.
    fn rest_until(&self, id: ExecutionId, at: DateTime<Utc>) {
        let left = (at - self.app.now()).to_std().unwrap_or_default().min(LONGEST_REST);
        let mut troubled = self.troubled.lock().unwrap_or_else(PoisonError::into_inner);
        if troubled.len() > RESTING {
            troubled.retain(|_, (_, until)| *until > Instant::now());
        }
        troubled.insert(id, (0, Instant::now() + left));
    }

    fn forget_trouble(&self, id: ExecutionId) {
        self.troubled.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    /// What cannot be driven on is tried ever more seldom, and in the end fails rather than standing in others' way.
    async fn trouble(&self, id: ExecutionId, error: &Failure) {
        tracing::error!(execution = %id, %error, "an execution cannot be driven on");
        let tries = {
            let mut troubled = self.troubled.lock().unwrap_or_else(PoisonError::into_inner);
            let entry = troubled.entry(id).or_insert((0, Instant::now()));
            entry.0 += 1;
            entry.1 = Instant::now() + Duration::from_secs(1 << entry.0.min(10));
            entry.0
        };
        if tries >= TRIES {
            match drive::give_up(self, id).await {
                Ok(()) => self.forget_trouble(id),
                Err(error) => tracing::error!(execution = %id, %error, "its failure cannot be recorded either"),
            }
        }
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
