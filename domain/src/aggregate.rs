//! Aggregates in the cqrs-es vocabulary: a pure `decide`, a total `evolve`, and a two-line adapter.

use cqrs_es::Aggregate;

use crate::{error::Rejection, event::EventSet};

/// What every aggregate here is: its events are an `EventSet`, its refusals a `Rejection`.
pub trait Decider: Aggregate<Event: EventSet, Error = Rejection, Services = ()> + Clone + 'static {
    /// Pure: time, ids and sealed values come in with the command.
    fn decide(&self, command: Self::Command) -> Result<Vec<Self::Event>, Rejection>;
}

/// Binds a state to its commands and events: `aggregate!(State, "name", Command, Event)`.
///
/// The state has an inherent `fn evolve(&mut self, event)`; its `decide` is the module's `command::decide`.
macro_rules! aggregate {
    ($state:ty, $name:literal, $command:ty, $event:ty, $decide:path) => {
        impl cqrs_es::Aggregate for $state {
            const TYPE: &'static str = $name;
            type Command = $command;
            type Event = $event;
            type Error = $crate::error::Rejection;
            type Services = ();

            async fn handle(
                &mut self,
                command: $command,
                _services: &(),
                sink: &cqrs_es::event_sink::EventSink<Self>,
            ) -> Result<(), $crate::error::Rejection> {
                for event in $decide(self, command)? {
                    sink.write(event, self).await;
                }
                Ok(())
            }

            fn apply(&mut self, event: $event) {
                self.evolve(event);
            }
        }

        impl $crate::aggregate::Decider for $state {
            fn decide(&self, command: $command) -> Result<Vec<$event>, $crate::error::Rejection> {
                $decide(self, command)
            }
        }
    };
}
pub(crate) use aggregate;
