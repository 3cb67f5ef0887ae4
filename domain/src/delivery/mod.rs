//! One event on its way to one webhook: its attempts and its end.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    aggregate::aggregate,
    error::Rejection,
    event::events,
    ids::{EventId, WebhookId},
    sealed::Sealed,
};

events! {
    pub enum DeliveryEvent {
        "delivery.scheduled" v "1" = Scheduled {
            webhook_id: WebhookId,
            source_event_id: EventId,
            /// The public name.
            event_type: String,
            /// The JSON text that is signed and sent.
            body: Sealed<String>,
        },
        "delivery.attempt_started" v "1" = AttemptStarted { attempt: u32, executor: String, lease_until: DateTime<Utc> },
        "delivery.attempt_failed" v "1" = AttemptFailed {
            attempt: u32,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            status: Option<u16>,
            error: String,
            elapsed_ms: u64,
            /// Absent: no attempt is left.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            retry_at: Option<DateTime<Utc>>,
        },
        "delivery.succeeded" v "1" = Succeeded { attempt: u32, status: u16, elapsed_ms: u64 },
        "delivery.exhausted" v "1" = Exhausted { reason: String },
        /// By hand: a new round of attempts begins.
        "delivery.resent" v "1" = Resent { resent_at: DateTime<Utc> },
    }
}

/// Waits before a round's attempts 2, 3, …: seconds. The sum is about three and a half days.
pub const SCHEDULE: [i64; 9] = [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400];

#[derive(Debug, Clone)]
pub enum DeliveryCommand {
    Schedule {
        webhook: WebhookId,
        source: EventId,
        event_type: String,
        body: Sealed<String>,
    },
    StartAttempt {
        executor: String,
        lease_until: DateTime<Utc>,
        now: DateTime<Utc>,
    },
    /// Counts only for the present attempt: that of one that lost its lease is ignored.
    RecordFailure {
        attempt: u32,
        executor: String,
        status: Option<u16>,
        error: String,
        elapsed_ms: u64,
        now: DateTime<Utc>,
        /// The receiver's wish (`Retry-After`), seconds; the later of both counts.
        retry_after: Option<i64>,
        /// 410, or the webhook is gone: no further attempt.
        last: bool,
    },
    /// Of any attempt of this round: the receiver has the event.
    RecordSuccess {
        attempt: u32,
        executor: String,
        status: u16,
        elapsed_ms: u64,
    },
    /// By hand: starts a new round of attempts.
    Resend {
        now: DateTime<Utc>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryStatus {
    #[default]
    Absent,
    Pending,
    Delivering,
    Succeeded,
    Failed,
}

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Delivery {
    pub status: DeliveryStatus,
    pub webhook: WebhookId,
    pub source: EventId,
    pub event_type: String,
    pub body: Option<Sealed<String>>,
    /// The newest attempt, from 1; numbers go on through all rounds.
    pub attempt: u32,
    /// How many attempts were made before the present round.
    pub round_start: u32,
    pub lease_until: Option<DateTime<Utc>>,
    pub retry_at: Option<DateTime<Utc>>,
    pub executor: String,
}

impl Delivery {
    fn evolve(&mut self, event: DeliveryEvent) {
        match event {
            DeliveryEvent::Scheduled { webhook_id, source_event_id, event_type, body } => {
                self.status = DeliveryStatus::Pending;
                self.webhook = webhook_id;
                self.source = source_event_id;
                self.event_type = event_type;
                self.body = Some(body);
            }
            DeliveryEvent::AttemptStarted { attempt, executor, lease_until } => {
                self.status = DeliveryStatus::Delivering;
                self.attempt = attempt;
                self.executor = executor;
                self.lease_until = Some(lease_until);
                self.retry_at = None;
            }
            DeliveryEvent::AttemptFailed { retry_at, .. } => {
                self.status = DeliveryStatus::Pending;
                self.retry_at = retry_at;
                self.lease_until = None;
            }
            DeliveryEvent::Succeeded { .. } => self.status = DeliveryStatus::Succeeded,
            DeliveryEvent::Exhausted { .. } => self.status = DeliveryStatus::Failed,
            // An attempt under way is the new round's first.
            DeliveryEvent::Resent { .. } if self.status == DeliveryStatus::Delivering => {
                self.round_start = self.attempt.saturating_sub(1);
            }
            DeliveryEvent::Resent { resent_at } => {
                self.status = DeliveryStatus::Pending;
                self.round_start = self.attempt;
                self.retry_at = Some(resent_at);
                self.lease_until = None;
            }
        }
    }

    /// The wait after the present attempt's failure, seconds; `None` after the round's last.
    fn wait(&self) -> Option<i64> {
        let made = self.attempt.saturating_sub(self.round_start);
        SCHEDULE.get(made.saturating_sub(1) as usize).copied()
    }

    fn is_present(&self, attempt: u32, executor: &str) -> bool {
        attempt == self.attempt && executor == self.executor
    }

    /// An attempt of the present round that was really begun.
    fn is_of_round(&self, attempt: u32, executor: &str) -> bool {
        let earlier = attempt > self.round_start && attempt < self.attempt;
        earlier || (attempt > self.round_start && self.is_present(attempt, executor))
    }
}

fn decide(state: &Delivery, command: DeliveryCommand) -> Result<Vec<DeliveryEvent>, Rejection> {
    use DeliveryStatus::*;
    Ok(match (command, state.status) {
        (DeliveryCommand::Schedule { webhook, source, event_type, body }, Absent) => {
            vec![DeliveryEvent::Scheduled { webhook_id: webhook, source_event_id: source, event_type, body }]
        }
        // The same event for the same webhook: scheduled already.
        (DeliveryCommand::Schedule { .. }, _) => vec![],
        (DeliveryCommand::StartAttempt { executor, lease_until, now }, Pending | Delivering) => {
            let waiting = state.retry_at.is_some_and(|at| at > now);
            // Whoever asks: two tasks of one node are as much a danger as two nodes.
            let leased = state.status == Delivering && state.lease_until.is_some_and(|at| at > now);
            if waiting || leased {
                vec![]
            } else {
                vec![DeliveryEvent::AttemptStarted { attempt: state.attempt + 1, executor, lease_until }]
            }
        }
        (DeliveryCommand::RecordSuccess { attempt, executor, status, elapsed_ms }, Pending | Delivering | Failed)
            if state.is_of_round(attempt, &executor) =>
        {
            vec![DeliveryEvent::Succeeded { attempt, status, elapsed_ms }]
        }
        (
            DeliveryCommand::RecordFailure { attempt, executor, status, error, elapsed_ms, now, retry_after, last },
            Delivering,
        ) if state.is_present(attempt, &executor) => {
            let wait = state.wait().filter(|_| !last);
            let retry_at = wait.map(|w| now + TimeDelta::seconds(w.max(retry_after.unwrap_or(0).min(86_400))));
            let failed = DeliveryEvent::AttemptFailed { attempt, status, error, elapsed_ms, retry_at };
            match retry_at {
                Some(_) => vec![failed],
                None => vec![failed, DeliveryEvent::Exhausted { reason: "no attempt is left".into() }],
            }
        }
        (DeliveryCommand::Resend { now }, Pending | Delivering | Succeeded | Failed) => {
            vec![DeliveryEvent::Resent { resent_at: now }]
        }
        _ => vec![],
    })
}

aggregate!(Delivery, "delivery", DeliveryCommand, DeliveryEvent, decide);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
    }

    fn scheduled() -> Delivery {
        Delivery { status: DeliveryStatus::Pending, ..Delivery::default() }
    }

    /// Decides and applies; how many events that made.
    fn told(state: &mut Delivery, command: DeliveryCommand) -> usize {
        let events = decide(state, command).unwrap();
        let count = events.len();
        events.into_iter().for_each(|event| state.evolve(event));
        count
    }

    fn start(executor: &str, now: DateTime<Utc>) -> DeliveryCommand {
        DeliveryCommand::StartAttempt { executor: executor.into(), lease_until: now + TimeDelta::seconds(30), now }
    }

    fn failure(attempt: u32, executor: &str, now: DateTime<Utc>) -> DeliveryCommand {
        DeliveryCommand::RecordFailure {
            attempt,
            executor: executor.into(),
            status: Some(500),
            error: "500".into(),
            elapsed_ms: 1,
            now,
            retry_after: None,
            last: false,
        }
    }

    fn success(attempt: u32, executor: &str) -> DeliveryCommand {
        DeliveryCommand::RecordSuccess { attempt, executor: executor.into(), status: 204, elapsed_ms: 1 }
    }

    /// Fails attempts until none is left; how many were made.
    fn fail_a_round(state: &mut Delivery) -> usize {
        let mut attempts = 0;
        while state.status == DeliveryStatus::Pending {
            let now = state.retry_at.unwrap_or(at(0));
            assert_eq!(told(state, start("a", now)), 1);
            assert!(told(state, failure(state.attempt, "a", now)) > 0);
            attempts += 1;
        }
        attempts
    }

    #[test]
    fn attempts_end_after_the_schedule() {
        let mut state = scheduled();
        assert_eq!(fail_a_round(&mut state), SCHEDULE.len() + 1);
        assert_eq!(state.status, DeliveryStatus::Failed);
    }

    #[test]
    fn no_attempt_begins_while_a_lease_runs_whoever_asks() {
        let mut state = scheduled();
        assert_eq!(told(&mut state, start("a", at(0))), 1);
        assert_eq!(told(&mut state, start("a", at(29))), 0, "its own executor, too");
        assert_eq!(told(&mut state, start("b", at(29))), 0);
        assert_eq!(told(&mut state, start("b", at(30))), 1, "the lease has ended");
        assert_eq!((state.attempt, state.executor.as_str()), (2, "b"));
    }

    #[test]
    fn a_stale_failure_is_ignored_and_a_stale_success_wins() {
        let mut state = scheduled();
        told(&mut state, start("a", at(0)));
        told(&mut state, start("b", at(30)));
        assert_eq!(told(&mut state, failure(1, "a", at(31))), 0, "an attempt that lost its lease");
        assert_eq!(told(&mut state, failure(2, "a", at(31))), 0, "another's attempt");
        assert_eq!(told(&mut state, success(2, "a")), 0, "another's attempt");
        assert_eq!(told(&mut state, success(3, "b")), 0, "an attempt nobody made");
        assert_eq!(state.status, DeliveryStatus::Delivering);
        let mut later = state.clone();

        assert_eq!(told(&mut state, success(1, "a")), 1);
        assert_eq!(state.status, DeliveryStatus::Succeeded);
        assert_eq!(told(&mut state, failure(2, "b", at(32))), 0);
        assert_eq!(told(&mut state, success(2, "b")), 0, "once is enough");

        assert_eq!(told(&mut later, failure(2, "b", at(32))), 1);
        assert_eq!(told(&mut later, success(1, "a")), 1, "while the next attempt is waited for");
        assert_eq!(later.status, DeliveryStatus::Succeeded);
    }

    #[test]
    fn sent_again_is_a_whole_new_round() {
        let mut state = scheduled();
        fail_a_round(&mut state);
        let before = state.attempt;
        assert_eq!(told(&mut state, DeliveryCommand::Resend { now: at(900_000) }), 1);
        assert_eq!((state.status, state.attempt), (DeliveryStatus::Pending, before));
        assert_eq!(told(&mut state, success(before, "a")), 0, "the round before has ended");
        assert_eq!(told(&mut state, start("a", at(899_999))), 0);
        assert_eq!(fail_a_round(&mut state), SCHEDULE.len() + 1);
        assert_eq!(state.attempt, 2 * before, "numbers go on");
        assert_eq!(state.status, DeliveryStatus::Failed);
        assert_eq!(told(&mut Delivery::default(), DeliveryCommand::Resend { now: at(0) }), 0, "of nothing");
    }

    #[test]
    fn sent_again_during_an_attempt_makes_no_second_one() {
        let mut state = scheduled();
        told(&mut state, start("a", at(0)));
        told(&mut state, failure(1, "a", at(1)));
        told(&mut state, start("a", at(6)));
        assert_eq!(told(&mut state, DeliveryCommand::Resend { now: at(7) }), 1);
        assert_eq!(told(&mut state, start("b", at(8))), 0, "its lease runs");
        assert_eq!(told(&mut state, failure(2, "a", at(9))), 1);
        assert_eq!(state.retry_at, Some(at(9 + SCHEDULE[0])), "it was the new round's first");
    }
}
