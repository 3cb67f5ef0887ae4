//! Use cases against a real Postgres.

#[path = "../../../tests/support/postgres.rs"]
mod postgres;

mod change;
mod keys;
mod node;
mod renewal;
mod secrets;
