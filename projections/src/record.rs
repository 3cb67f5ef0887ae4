//! What a rebuild says of itself in `log.rebuilds`, for those who ask from elsewhere.

use std::time::{Duration, Instant};

use sqlx::PgConnection;

use crate::online::RebuildProgress;

/// How often a running rebuild writes its progress.
const EVERY: Duration = Duration::from_millis(500);

pub(crate) struct Record {
    id: i64,
    pub total: u64,
    written: Option<(crate::online::RebuildPhase, Instant)>,
}

impl Record {
    /// The caller holds the lock: what says it is running was interrupted.
    pub async fn begin(db: &mut PgConnection) -> Result<Self, sqlx::Error> {
        sqlx::query("update log.rebuilds set status = 'interrupted', ended_at = now() where status = 'running'")
            .execute(&mut *db)
            .await?;
        let (id, total): (i64, i64) = sqlx::query_as(
            "insert into log.rebuilds (status, phase, total) select 'running', 'fold', count(*) from log.events
             returning id, total",
        )
        .fetch_one(&mut *db)
        .await?;
        Ok(Self { id, total: total.unsigned_abs(), written: None })
    }

    /// Writes the progress when the phase is a new one, and now and then.
    pub async fn tell(&mut self, db: &mut PgConnection, progress: RebuildProgress) -> Result<(), sqlx::Error> {
        if self.written.is_some_and(|(phase, at)| phase == progress.phase && at.elapsed() < EVERY) {
            return Ok(());
        }
        self.written = Some((progress.phase, Instant::now()));
        sqlx::query("update log.rebuilds set phase = $2, events = $3, updated_at = now() where id = $1")
            .bind(self.id)
            .bind(progress.phase.as_str())
            .bind(i64::try_from(progress.events).unwrap_or(i64::MAX))
            .execute(db)
            .await?;
        Ok(())
    }

    pub async fn done(&self, db: &mut PgConnection, events: u64, quarantined: usize) -> Result<(), sqlx::Error> {
        sqlx::query(
            "update log.rebuilds set status = 'done', events = $2, quarantined = $3, updated_at = now(), ended_at = now()
              where id = $1",
        )
        .bind(self.id)
        .bind(i64::try_from(events).unwrap_or(i64::MAX))
        .bind(i64::try_from(quarantined).unwrap_or(i64::MAX))
        .execute(db)
        .await?;
        Ok(())
    }

    pub async fn failed(&self, db: &mut PgConnection, error: &str) -> Result<(), sqlx::Error> {
        sqlx::query(
            "update log.rebuilds set status = 'failed', error = $2, updated_at = now(), ended_at = now() where id = $1",
        )
        .bind(self.id)
        .bind(error.replace('\0', ""))
        .execute(db)
        .await?;
        Ok(())
    }
}
