//! Executors against a real Postgres and a real nats-server.

mod house;
#[path = "../../../tests/support/nats.rs"]
mod nats;
#[path = "../../../tests/support/postgres.rs"]
mod postgres;
mod relay;
mod relay_faults;
