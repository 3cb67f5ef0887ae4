//! What reacts to events and acts outside: relay, workflow executor, ingester, webhook dispatcher; and the ports.
//!
//! Each part may crash anywhere and be started again: the log says what is to be done, NATS only wakes.

pub mod addresses;
mod authorise;
pub mod certificates;
mod checkpoint;
pub mod connectors;
pub mod dispatcher;
pub mod documents;
mod drift;
mod gather;
mod health;
pub mod ingester;
mod keeper;
mod lock;
pub mod nats;
pub mod node;
pub mod oauth;
pub mod planner;
mod recorded;
mod refresher;
pub mod relay;
mod supervise;
pub mod tester;
mod wake;
pub mod workflow;

pub use lock::Liveness;
pub use node::{Node, Roles, start};
pub use relay::RelayStats;
