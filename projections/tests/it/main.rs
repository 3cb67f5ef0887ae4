//! Read models on a real Postgres: folds, queries, isolation, rebuild, quarantine, takeover.

mod generate;
mod history;
mod isolation;
mod lists;
mod log;
mod oauth_history;
mod online;
#[path = "../../../tests/support/postgres.rs"]
mod postgres;
mod projector;
mod quarantine;
mod rebuild;
mod system;
mod vault_history;
mod views;
