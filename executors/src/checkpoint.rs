//! The checkpoint of a role that must be one: kept on the connection that holds the role's lock, written now and then.
//!
//! The lock and the checkpoint live on one connection: who has lost the lock cannot move the checkpoint. It is written
//! with `synchronous_commit = off`, because a lost one only repeats work that is harmless to repeat.

use std::time::{Duration, Instant};

use domain::event::LogPosition;
use event_store::DatabaseError;
use sqlx::Executor;

use crate::lock::Singleton;

#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckpointError {
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error("somebody else has moved the checkpoint {0}")]
    Overtaken(&'static str),
}

/// How far a role has come. `at` is in memory; the table follows, at most every `pace`.
pub(crate) struct Checkpoint {
    role: Singleton,
    name: &'static str,
    saved: LogPosition,
    at: LogPosition,
    written: Instant,
    pace: Duration,
}

impl Checkpoint {
    /// Stands by until the role is free, then reads how far its last holder came.
    pub(crate) async fn acquire(
        database_url: &str,
        role: &str,
        name: &'static str,
        pace: Duration,
    ) -> Result<Self, DatabaseError> {
        let mut role = Singleton::acquire(database_url, role).await?;
        role.connection().execute("set role apiq_writer; set synchronous_commit = off").await?;
        let saved = event_store::checkpoint(role.connection(), name).await?;
        Ok(Self { role, name, saved, at: saved, written: Instant::now(), pace })
    }

    pub(crate) fn at(&self) -> LogPosition {
        self.at
    }

    /// Everything up to `at` is done. Never goes back.
    pub(crate) fn reach(&mut self, at: LogPosition) {
        self.at = self.at.max(at);
    }

    /// Writes it when it moved and the last write is long enough ago. Fails when the role is another's by now.
    pub(crate) async fn save_now_and_then(&mut self) -> Result<(), CheckpointError> {
        if self.written.elapsed() < self.pace { Ok(()) } else { self.save().await }
    }

    pub(crate) async fn save(&mut self) -> Result<(), CheckpointError> {
        if self.at > self.saved {
            if !event_store::advance(self.role.connection(), self.name, self.saved, self.at).await? {
                return Err(CheckpointError::Overtaken(self.name));
            }
            self.saved = self.at;
        }
        self.written = Instant::now();
        Ok(())
    }

    /// Fails when the lock may be lost.
    pub(crate) async fn check(&mut self) -> Result<(), DatabaseError> {
        self.role.check().await
    }
}
