//! Outgoing webhooks: each event to each subscription once by id, signed, retried, recorded.
//!
//! One scheduler of an installation follows the log and schedules (`scheduler`). Every dispatcher makes attempts: at once,
//! for what its own scheduler began; woken by NATS, competing with the others; and swept from the read models, for
//! retries and for what nobody else took. With NATS wiped, everything is still delivered.

mod attempt;
mod body;
mod places;
mod scheduler;
mod subscriptions;

use std::{collections::HashMap, time::Duration};

use chrono::TimeDelta;
use commands::{App, Context};
use domain::{
    delivery::Delivery,
    ids::{DeliveryId, WebhookId, WorkspaceId},
};
use integrations::egress::Egress;
use projections::{DueDelivery, SystemReads};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::places::{AT_ONCE, Job, LINE, Place, Places};
use crate::{
    Liveness,
    nats::{self, NatsError},
    supervise::supervise,
    wake::{Wake, Work, consume},
};

/// An attempt that has not ended by then is another's to make.
const LEASE: TimeDelta = TimeDelta::seconds(30);
const TIMEOUT: Duration = Duration::from_secs(20);
const SWEEP: Duration = Duration::from_secs(1);
/// Between two sweeps while there is more due than was taken.
const BUSY_SWEEP: Duration = Duration::from_millis(50);
/// Due deliveries looked at in one go, of one webhook and of all.
const LOOK_AT_EACH: i64 = LINE as i64;
const LOOK_AT: i64 = 1_024;
/// Until 0.1 there was a consumer of all events.
const FORMER_CONSUMER: &str = "webhooks";

#[derive(Clone)]
pub struct Dispatcher {
    app: App,
    egress: Egress,
    liveness: Liveness,
    reads: SystemReads,
    database_url: String,
    places: Places,
    under_way: TaskTracker,
    shutdown: CancellationToken,
}

impl Dispatcher {
    /// `database_url`: for the lock of the one scheduler.
    pub fn new(
        app: App,
        egress: Egress,
        liveness: Liveness,
        reads: SystemReads,
        database_url: String,
        shutdown: CancellationToken,
    ) -> Self {
        let (places, under_way) = (Places::default(), TaskTracker::new());
        Self { app, egress, liveness, reads, database_url, places, under_way, shutdown }
    }

    /// Until shutdown; then no attempt begins any more, and those under way are awaited and recorded.
    pub async fn run(self, client: async_nats::Client) {
        let scheduled = supervise("webhook scheduler", self.shutdown.clone(), || self.schedule());
        let woken = supervise("webhook dispatcher", self.shutdown.clone(), || self.consume(&client));
        let swept = supervise("webhook sweep", self.shutdown.clone(), || self.sweep());
        tokio::join!(scheduled, woken, swept);
        self.under_way.close();
        self.under_way.wait().await;
    }

    fn is_stopping(&self) -> bool {
        self.shutdown.is_cancelled()
    }

    async fn consume(&self, client: &async_nats::Client) -> Result<(), NatsError> {
        let stream = nats::ensure_stream(client).await?;
        // It is not there, as a rule.
        let _ = stream.delete_consumer(FORMER_CONSUMER).await;
        let work = Work {
            client,
            name: "deliveries",
            filter: "apiq.events.*.delivery.scheduled",
            at_once: AT_ONCE,
            ack_wait: Duration::from_secs(30),
        };
        consume(work, |wake| {
            self.woken(&wake);
            std::future::ready(())
        })
        .await
    }

    fn woken(&self, wake: &Wake) {
        // One that does not tell its webhook is found by the sweep.
        let Some(webhook) = wake.webhook() else { return };
        let (workspace, id) = (WorkspaceId(wake.workspaceid), DeliveryId(wake.aggregateid));
        self.offer(Job { workspace, webhook, id });
    }

    /// Retries that are due, what found no place, and attempts whose dispatcher died. At shutdown it stops between two.
    async fn sweep(&self) -> Result<(), NatsError> {
        loop {
            let due = self.reads.deliveries_due(self.app.now(), LOOK_AT_EACH, LOOK_AT).await.map_err(NatsError::of)?;
            let more = is_there_more(&due);
            for DueDelivery { workspace, webhook, id } in due {
                self.offer(Job { workspace, webhook, id });
            }
            // Whose task broke leaves its line standing.
            while let Some(place) = self.places.next() {
                self.spawn(place);
            }
            tokio::select! {
                () = tokio::time::sleep(SWEEP) => {}
                () = self.places.drained(), if more => tokio::time::sleep(BUSY_SWEEP).await,
            }
        }
    }

    /// An attempt at once, or soon, or left to a later sweep.
    fn offer(&self, job: Job) {
        if self.is_stopping() {
            return;
        }
        if let Some(place) = self.places.offer(job) {
            self.spawn(place);
        }
    }

    fn spawn(&self, place: Place) {
        let dispatcher = self.clone();
        self.under_way.spawn(async move { dispatcher.work(place, None).await });
    }

    /// Makes the attempt; then, on the same place, those that waited for it.
    async fn work(&self, place: Place, begun: Option<Delivery>) {
        let job = place.job();
        if let Err(error) = self.attempt(job, begun).await {
            tracing::warn!(delivery = %job.id, %error, "a delivery's attempt could not be made or recorded");
        }
        self.pass_on(place).await;
    }

    async fn pass_on(&self, mut place: Place) {
        while let Some(next) = place.next() {
            if self.is_stopping() {
                return;
            }
            let job = next.job();
            if let Err(error) = self.attempt(job, None).await {
                tracing::warn!(delivery = %job.id, %error, "a delivery's attempt could not be made or recorded");
            }
            place = next;
        }
    }

    fn context(&self, job: Job) -> Context {
        Context::system(self.liveness.name(), job.workspace, job.id.0)
    }
}

/// Did the look find as many as it looks at, of some webhook or of all?
fn is_there_more(due: &[DueDelivery]) -> bool {
    let mut each: HashMap<WebhookId, i64> = HashMap::new();
    for delivery in due {
        *each.entry(delivery.webhook).or_default() += 1;
    }
    due.len() as i64 >= LOOK_AT || each.values().any(|found| *found >= LOOK_AT_EACH)
}
