//! Read models on a real Postgres: folds, queries, isolation, rebuild, quarantine, takeover.

mod history;
mod isolation;
mod lists;
mod log;
#[path = "../../../tests/support/postgres.rs"]
mod postgres;
mod projector;
mod quarantine;
mod rebuild;
mod system;
mod views;
