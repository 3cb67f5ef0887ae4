//! Uniqueness: a stream per reserved value, claimed in the same append as what needs it.
//!
//! The stream's id is an HMAC of the value (personal values never stand in the log in plain).

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    aggregate::aggregate,
    error::{Code, Rejection},
    event::events,
};

events! {
    pub enum ReservationEvent {
        "reservation.claimed" v "1" = Claimed { kind: String, owner: Uuid },
        "reservation.released" v "1" = Released { owner: Uuid },
    }
}

#[derive(Debug)]
pub enum ReservationCommand {
    /// `kind` is what is unique: `email`.
    Claim {
        kind: String,
        owner: Uuid,
    },
    Release {
        owner: Uuid,
    },
}

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Reservation {
    pub kind: String,
    /// Whose the value is now.
    pub owner: Option<Uuid>,
}

impl Reservation {
    fn evolve(&mut self, event: ReservationEvent) {
        match event {
            ReservationEvent::Claimed { kind, owner } => {
                self.kind = kind;
                self.owner = Some(owner);
            }
            ReservationEvent::Released { .. } => self.owner = None,
        }
    }
}

fn decide(state: &Reservation, command: ReservationCommand) -> Result<Vec<ReservationEvent>, Rejection> {
    match (command, state.owner) {
        (ReservationCommand::Claim { owner, .. }, Some(held)) if held == owner => Ok(vec![]),
        (ReservationCommand::Claim { kind, .. }, Some(_)) if kind == "email" => Err(Rejection::new(
            Code::EmailExists,
            "An account with this e-mail address exists already; log in instead.",
        )),
        (ReservationCommand::Claim { kind, .. }, Some(_)) => {
            Err(Rejection::new(Code::Conflict, format!("This {kind} is taken already.")))
        }
        (ReservationCommand::Claim { kind, owner }, None) => Ok(vec![ReservationEvent::Claimed { kind, owner }]),
        (ReservationCommand::Release { owner }, Some(held)) if held == owner => {
            Ok(vec![ReservationEvent::Released { owner }])
        }
        (ReservationCommand::Release { .. }, _) => Ok(vec![]),
    }
}

aggregate!(Reservation, "reservation", ReservationCommand, ReservationEvent, decide);

#[cfg(test)]
mod tests {
    use cqrs_es::test::TestFramework;

    use super::*;

    type Reservations = TestFramework<Reservation>;

    #[test]
    fn a_value_has_one_owner() {
        let owner = Uuid::from_u128(1);
        let claimed = ReservationEvent::Claimed { kind: "email".into(), owner };
        Reservations::with(())
            .given_no_previous_events()
            .when(ReservationCommand::Claim { kind: "email".into(), owner })
            .then_expect_events(vec![claimed.clone()]);
        Reservations::with(())
            .given(vec![claimed.clone()])
            .when(ReservationCommand::Claim { kind: "email".into(), owner: Uuid::from_u128(2) })
            .then_expect_error_message("An account with this e-mail address exists already; log in instead.");
        Reservations::with(())
            .given(vec![claimed, ReservationEvent::Released { owner }])
            .when(ReservationCommand::Claim { kind: "email".into(), owner: Uuid::from_u128(2) })
            .then_expect_events(vec![ReservationEvent::Claimed { kind: "email".into(), owner: Uuid::from_u128(2) }]);
    }
}
