//! One event on its way to one webhook: its attempts and its end.

use chrono::{DateTime, Utc};
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
    }
}

/// Waits before attempts 2, 3, …: seconds. The sum is about three and a half days.
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
    RecordFailure {
        status: Option<u16>,
        error: String,
        elapsed_ms: u64,
        now: DateTime<Utc>,
        /// The receiver's wish (`Retry-After`), seconds; the later of both counts.
        retry_after: Option<i64>,
        /// 410, or the webhook is gone: no further attempt.
        last: bool,
    },
    RecordSuccess {
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
    pub attempt: u32,
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
        }
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
            let leased = state.status == Delivering && state.lease_until.is_some_and(|at| at > now);
            if waiting || (leased && executor != state.executor) {
                vec![]
            } else {
                vec![DeliveryEvent::AttemptStarted { attempt: state.attempt + 1, executor, lease_until }]
            }
        }
        (DeliveryCommand::RecordSuccess { status, elapsed_ms }, Delivering) => {
            vec![DeliveryEvent::Succeeded { attempt: state.attempt, status, elapsed_ms }]
        }
        (DeliveryCommand::RecordFailure { status, error, elapsed_ms, now, retry_after, last }, Delivering) => {
            let wait = SCHEDULE.get(state.attempt.saturating_sub(1) as usize).copied().filter(|_| !last);
            let retry_at = wait.map(|w| now + chrono::TimeDelta::seconds(w.max(retry_after.unwrap_or(0).min(86_400))));
            let failed = DeliveryEvent::AttemptFailed { attempt: state.attempt, status, error, elapsed_ms, retry_at };
            match retry_at {
                Some(_) => vec![failed],
                None => vec![failed, DeliveryEvent::Exhausted { reason: "no attempt is left".into() }],
            }
        }
        (DeliveryCommand::Resend { .. }, Absent) => vec![],
        (DeliveryCommand::Resend { now }, _) => vec![DeliveryEvent::AttemptFailed {
            attempt: state.attempt,
            status: None,
            error: "sent again by hand".into(),
            elapsed_ms: 0,
            retry_at: Some(now),
        }],
        _ => vec![],
    })
}

aggregate!(Delivery, "delivery", DeliveryCommand, DeliveryEvent, decide);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_end_after_the_schedule() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let mut state = Delivery { status: DeliveryStatus::Pending, ..Delivery::default() };
        let mut attempts = 0;
        while state.status == DeliveryStatus::Pending {
            let at = state.retry_at.unwrap_or(now);
            for event in decide(
                &state,
                DeliveryCommand::StartAttempt {
                    executor: "a".into(),
                    lease_until: at + chrono::TimeDelta::seconds(30),
                    now: at,
                },
            )
            .unwrap()
            {
                state.evolve(event);
            }
            attempts += 1;
            let failure = DeliveryCommand::RecordFailure {
                status: Some(500),
                error: "500".into(),
                elapsed_ms: 1,
                now: at,
                retry_after: None,
                last: false,
            };
            for event in decide(&state, failure).unwrap() {
                state.evolve(event);
            }
        }
        assert_eq!(attempts, SCHEDULE.len() + 1);
        assert_eq!(state.status, DeliveryStatus::Failed);
    }
}
