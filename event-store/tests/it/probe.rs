//! A test's own aggregate: an event that has changed its shape, and two states folded from it.

use cqrs_es::{Aggregate, DomainEvent, event_sink::EventSink};
use domain::{aggregate::Decider, error::Rejection, event::EventSet, upcast::Step};
use serde::{Deserialize, Serialize};
use serde_json::json;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
pub enum ProbeEvent {
    /// Version 1 called it `note`.
    #[serde(rename = "probe.noted")]
    Noted { text: String },
}

impl DomainEvent for ProbeEvent {
    fn event_type(&self) -> String {
        "probe.noted".into()
    }

    fn event_version(&self) -> String {
        "2".into()
    }
}

impl EventSet for ProbeEvent {
    const NAMES: &'static [(&'static str, &'static str)] = &[("probe.noted", "2")];
    const UPCASTERS: &'static [Step] = &[Step {
        event_type: "probe.noted",
        from: "1",
        to: "2",
        change: |old| json!({ "text": format!("{} (version 1)", old["note"].as_str().unwrap_or_default()) }),
    }];
}

/// Keeps what was noted.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    pub texts: Vec<String>,
}

/// The same stream in another shape.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
pub struct Counted {
    pub count: usize,
}

macro_rules! folds {
    ($state:ty, $evolve:expr) => {
        impl Aggregate for $state {
            const TYPE: &'static str = "probe";
            type Command = String;
            type Event = ProbeEvent;
            type Error = Rejection;
            type Services = ();

            async fn handle(&mut self, text: String, _: &(), sink: &EventSink<Self>) -> Result<(), Rejection> {
                for event in self.decide(text)? {
                    sink.write(event, self).await;
                }
                Ok(())
            }

            fn apply(&mut self, ProbeEvent::Noted { text }: ProbeEvent) {
                let evolve: fn(&mut Self, String) = $evolve;
                evolve(self, text);
            }
        }

        impl Decider for $state {
            fn decide(&self, text: String) -> Result<Vec<ProbeEvent>, Rejection> {
                Ok(vec![ProbeEvent::Noted { text }])
            }
        }
    };
}

folds!(Probe, |state, text| state.texts.push(text));
folds!(Counted, |state, _| state.count += 1);
