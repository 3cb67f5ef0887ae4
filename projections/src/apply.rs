//! Applying a batch: compute first, then one statement that is one short transaction; when what it writes is refused,
//! one event at a time, to find out whose fault it is.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use domain::event::LogPosition;
use sqlx::{Connection, PgConnection};

use crate::{
    fault::Fault,
    fold::{Faults, Fold},
    quarantine::Quarantined,
    statement::Place,
    view::Item,
};

/// Rows of each table in a statement of `Target::Unread`: what is sent at once stays of a bearable size.
const ROWS: usize = 1_000;

/// Where a batch's results go.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    /// Rows, quarantine and checkpoint (its name and its place now) in one transaction.
    Checkpoint(&'static str, Place),
    /// Rows only, in one transaction: nobody reads them yet, and an interrupted fold begins again.
    Unread,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplyError {
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// Somebody else advanced the checkpoint, or swapped the tables: read it again.
    #[error("the checkpoint was moved by somebody else")]
    Moved,
}

/// What came of a batch.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    pub quarantined: Vec<Quarantined>,
    /// The longest time that one of its transactions took.
    pub longest: Duration,
}

/// Applies events in their order. What cannot be applied is set aside, with its reason, view by view. After an error the
/// fold has forgotten everything and can be used again.
pub(crate) async fn apply(
    db: &mut PgConnection,
    fold: &mut Fold,
    mut target: Target,
    items: &[Item],
) -> Result<Applied, ApplyError> {
    let mut done = Applied::default();
    match together(db, fold, target, items, &BTreeMap::new(), &mut done).await {
        Ok(()) => return Ok(done),
        Err(Fault::Event(reason)) => tracing::warn!(reason, "a batch is applied one event at a time"),
        Err(fault) => return Err(refused(fold, fault)),
    }
    fold.clear();
    for item in items {
        let item = std::slice::from_ref(item);
        let faults = match probe(db, fold, item).await {
            Ok(faults) => faults,
            Err(fault) => return Err(refused(fold, fault)),
        };
        if let Err(fault) = together(db, fold, target, item, &faults, &mut done).await {
            return Err(refused(fold, fault));
        }
        if let Target::Checkpoint(_, place) = &mut target {
            place.at = item[0].recorded.at;
        }
    }
    Ok(done)
}

fn refused(fold: &mut Fold, fault: Fault) -> ApplyError {
    fold.clear();
    match fault {
        Fault::Moved => ApplyError::Moved,
        Fault::Database(error) => error.into(),
        // Each event was tried alone, view by view: what is left is no event's fault.
        Fault::Event(reason) => sqlx::Error::Protocol(reason).into(),
    }
}

async fn together(
    db: &mut PgConnection,
    fold: &mut Fold,
    target: Target,
    items: &[Item],
    known: &BTreeMap<&'static str, Faults>,
    done: &mut Applied,
) -> Result<(), Fault> {
    let Some(last) = items.last() else { return Ok(()) };
    let aside = fold.compute(db, items, known).await?;
    let longest = match target {
        Target::Checkpoint(name, place) => checkpointed(db, fold, name, place, last.recorded.at, &aside).await?,
        Target::Unread => unread(db, fold).await?,
    };
    fold.written(items, &aside);
    for fault in &aside {
        let (view, event_id, reason) = (fault.view, fault.event_id, &fault.reason);
        tracing::error!(%event_id, view, reason, "an event is set aside in quarantine");
    }
    done.quarantined.extend(aside);
    done.longest = done.longest.max(longest);
    Ok(())
}

async fn checkpointed(
    db: &mut PgConnection,
    fold: &mut Fold,
    name: &str,
    place: Place,
    to: LogPosition,
    aside: &[Quarantined],
) -> Result<Duration, Fault> {
    let mut longest = Duration::ZERO;
    while let Some(statement) = fold.store_ahead()? {
        let begun = Instant::now();
        statement.write(db, Some((name, place, place.at))).await?;
        longest = longest.max(begun.elapsed());
    }
    let mut statement = fold.store(usize::MAX)?.unwrap_or_else(|| fold.statement());
    statement.record(aside)?;
    let begun = Instant::now();
    statement.write(db, Some((name, place, to))).await?;
    Ok(longest.max(begun.elapsed()))
}

/// All of a batch or nothing: no checkpoint says which rows are there, and a batch that is refused is folded once more, on
/// top of whatever it left. Within a transaction this is a savepoint, so that a refusal does not end the other.
async fn unread(db: &mut PgConnection, fold: &mut Fold) -> Result<Duration, Fault> {
    let begun = Instant::now();
    let mut tx = db.begin().await.map_err(Fault::from)?;
    while let Some(statement) = fold.store(ROWS)? {
        statement.write(&mut tx, None).await?;
    }
    tx.commit().await.map_err(Fault::from)?;
    Ok(begun.elapsed())
}

/// Which views cannot take a single event: each is tried alone, in a transaction that is rolled back.
async fn probe(db: &mut PgConnection, fold: &mut Fold, item: &[Item]) -> Result<BTreeMap<&'static str, Faults>, Fault> {
    let mut faults: BTreeMap<&'static str, Faults> = BTreeMap::new();
    for view in fold.view_names() {
        let mut tx = db.begin().await.map_err(Fault::from)?;
        let tried = fold.attempt(&mut tx, view, item).await;
        tx.rollback().await.map_err(Fault::from)?;
        fold.clear();
        match tried {
            Ok(()) => {}
            Err(Fault::Event(reason)) => drop(faults.insert(view, Faults::from([(0, reason)]))),
            Err(fault) => return Err(fault),
        }
    }
    Ok(faults)
}
