//! Which event goes to which webhook: one scheduler of an installation follows the log and appends `delivery.scheduled`.
//!
//! A delivery's id is made of webhook and event, so that scheduling again is harmless. The checkpoint moves behind
//! everything that is scheduled. Events that nobody wants cost no query.

use std::{sync::Arc, time::Duration};

use commands::{Failure, webhook::schedule_delivery};
use domain::{
    delivery::{Delivery, DeliveryCommand},
    event::RecordedEvent,
    ids::{DeliveryId, EventId, WebhookId, WorkspaceId},
    webhook::public_name,
};
use event_store::{DatabaseError, FollowError};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::{Dispatcher, LEASE, body, places::Job, subscriptions::Subscriptions};
use crate::checkpoint::{Checkpoint, CheckpointError};

/// Events read at once.
const BATCH: usize = 512;
/// Between two reads under load.
const PACE: Duration = Duration::from_millis(2);
/// Events whose deliveries are appended at the same time: company makes a batch of the log.
const AT_ONCE: usize = 64;
/// Of one event; all together stay well below what may wait for the log.
const OF_AN_EVENT: usize = 8;
const SAVE: Duration = Duration::from_secs(1);
const ROLE: &str = "webhook-scheduler";
const CHECKPOINT: &str = "dispatcher";

#[derive(Debug, thiserror::Error)]
pub(super) enum ScheduleError {
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error(transparent)]
    Follow(#[from] FollowError),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Append(#[from] Failure),
}

/// An event and the webhooks that want it.
struct Wanted<'a> {
    event: &'a RecordedEvent,
    name: &'a str,
    by: Vec<WebhookId>,
}

impl Dispatcher {
    /// Schedules until something is wrong.
    pub(super) async fn schedule(&self) -> Result<(), ScheduleError> {
        let store = self.app.store();
        let mut checkpoint = Checkpoint::acquire(&self.database_url, ROLE, CHECKPOINT, SAVE).await?;
        let mut subscriptions = Subscriptions::as_of(store, checkpoint.at()).await?;
        let mut follower = store.follow(checkpoint.at()).at_most_every(PACE);
        let mut tick = tokio::time::interval(SAVE);
        loop {
            tokio::select! {
                batch = follower.next(BATCH) => {
                    let batch = batch?;
                    let wanted = wanted(&mut subscriptions, &batch);
                    if let Err(error) = self.schedule_all(wanted).await {
                        // What came before need not be done again.
                        checkpoint.save().await?;
                        return Err(error.into());
                    }
                    if let Some(last) = batch.last() {
                        checkpoint.reach(last.at);
                    }
                    checkpoint.save_now_and_then().await?;
                }
                _ = tick.tick() => {
                    checkpoint.save_now_and_then().await?;
                    checkpoint.check().await?;
                }
            }
        }
    }

    async fn schedule_all(&self, wanted: Vec<Wanted<'_>>) -> Result<(), Failure> {
        stream::iter(wanted).map(Ok).try_for_each_concurrent(AT_ONCE, |wanted| self.schedule_event(wanted)).await
    }

    /// All deliveries of one event. A webhook that cannot be served stops no other; a database that is away stops all.
    async fn schedule_event(&self, wanted: Wanted<'_>) -> Result<(), Failure> {
        let Wanted { event, name, by } = wanted;
        let workspace = WorkspaceId(event.workspace_id);
        let body = body::of(event, name);
        let sealed = match self.app.vault().seal(workspace, "delivery.body", &body).await.map_err(Failure::from) {
            Ok(sealed) => sealed,
            Err(Failure::Unavailable(reason)) => return Err(Failure::Unavailable(reason)),
            Err(error) => {
                tracing::error!(event = %event.event_id, %error, "an event's deliveries cannot be sealed: passed over");
                return Ok(());
            }
        };
        let all = stream::iter(by).map(|webhook| {
            let id = DeliveryId(Uuid::new_v5(&webhook.0, event.event_id.as_bytes()));
            let schedule = DeliveryCommand::Schedule {
                webhook,
                source: EventId(event.event_id),
                event_type: name.to_owned(),
                body: sealed.clone(),
            };
            self.schedule_one(Job { workspace, webhook, id }, schedule)
        });
        let mut results = all.buffer_unordered(OF_AN_EVENT);
        while let Some(result) = results.next().await {
            match result {
                Ok(()) => {}
                Err(Failure::Unavailable(reason)) => return Err(Failure::Unavailable(reason)),
                Err(error) => {
                    tracing::error!(event = %event.event_id, %error, "a delivery cannot be scheduled: passed over");
                }
            }
        }
        Ok(())
    }

    /// Returns once it is in the log. When this node has a place for it, its first attempt begins in the same append;
    /// otherwise NATS wakes a node that has.
    async fn schedule_one(&self, job: Job, schedule: DeliveryCommand) -> Result<(), Failure> {
        let (told, result) = oneshot::channel();
        let place = if self.is_stopping() { None } else { self.places.take(job) };
        let dispatcher = self.clone();
        // A task of its own, because a begun attempt is made, whatever becomes of the scheduler meanwhile.
        self.under_way.spawn(async move {
            let (result, begun) = match dispatcher.append_schedule(job, schedule, place.is_some()).await {
                Ok(delivery) => (Ok(()), delivery),
                Err(error) => (Err(error), None),
            };
            let _ = told.send(result);
            match (place, begun) {
                (Some(place), Some(delivery)) => dispatcher.work(place, Some(delivery)).await,
                (Some(place), None) => dispatcher.pass_on(place).await,
                (None, _) => {}
            }
        });
        result.await.unwrap_or_else(|_| Err(Failure::Unavailable("a delivery's task broke".into())))
    }

    /// Gives the state when an attempt began with it.
    async fn append_schedule(
        &self,
        job: Job,
        schedule: DeliveryCommand,
        begin: bool,
    ) -> Result<Option<Delivery>, Failure> {
        let now = self.app.now();
        let start = begin.then(|| DeliveryCommand::StartAttempt {
            executor: self.liveness.name().to_owned(),
            lease_until: now + LEASE,
            now,
        });
        let scheduled = schedule_delivery(&self.app, &self.context(job), job.id, schedule, start).await?;
        Ok(scheduled.filter(|_| begin))
    }
}

/// Folds the batch's changes of webhooks, and gives what somebody wants, as of each event's place.
fn wanted<'a>(subscriptions: &mut Subscriptions, batch: &'a [Arc<RecordedEvent>]) -> Vec<Wanted<'a>> {
    let mut all = Vec::new();
    for event in batch {
        subscriptions.apply(event);
        let Some(name) = public_name(&event.event_type) else { continue };
        let by: Vec<_> = subscriptions.of(WorkspaceId(event.workspace_id), name).collect();
        if !by.is_empty() {
            all.push(Wanted { event, name, by });
        }
    }
    all
}
