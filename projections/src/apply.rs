//! Applying a batch: compute first, then one short transaction; when an event is to blame, one event at a time.

use domain::event::{LogPosition, RecordedEvent};
use sqlx::{Connection, PgConnection};

use crate::{
    fault::Fault,
    view::{self, Item, Schema, View},
};

/// Where a batch's results go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    pub schema: Schema,
    /// The projection checkpoint to advance, and its place now; a rebuild has none.
    pub checkpoint: Option<(&'static str, LogPosition)>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplyError {
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// Somebody else advanced the checkpoint: read it again.
    #[error("another projector has moved the checkpoint")]
    Moved,
}

/// An event that a view could not take.
#[derive(Debug, Clone)]
pub(crate) struct Quarantined {
    /// The view's name; `read_models` when no view could read the event.
    pub view: &'static str,
    pub reason: String,
}

/// Applies events in their order. What cannot be applied is set aside, with its reason, view by view.
pub(crate) async fn apply(
    db: &mut PgConnection,
    mut target: Target,
    events: &[RecordedEvent],
) -> Result<Vec<Quarantined>, ApplyError> {
    let items: Vec<Item> = events.iter().map(Item::of).collect();
    match together(db, target, &items).await {
        Ok(()) => return Ok(vec![]),
        Err(Failure::Apply(error)) => return Err(error),
        Err(Failure::Event(reason)) => tracing::warn!(reason, "a batch is applied one event at a time"),
    }
    let mut all = Vec::new();
    for item in &items {
        all.extend(alone(db, target, item).await?);
        if let Some((_, at)) = &mut target.checkpoint {
            *at = item.recorded.at;
        }
    }
    Ok(all)
}

enum Failure {
    Apply(ApplyError),
    Event(String),
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Database(error) => Failure::Apply(error.into()),
            Fault::Event(reason) => Failure::Event(reason),
        }
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Fault::from(error).into()
    }
}

async fn together(db: &mut PgConnection, target: Target, items: &[Item<'_>]) -> Result<(), Failure> {
    let Some(last) = items.last() else { return Ok(()) };
    let mut views = view::all();
    for view in &mut views {
        compute(view.as_mut(), db, target.schema, items).await?;
    }
    let mut tx = db.begin().await?;
    for view in &mut views {
        view.store(&mut tx, target.schema).await?;
    }
    advance(&mut tx, target, last.recorded.at).await.map_err(Failure::Apply)?;
    tx.commit().await?;
    Ok(())
}

async fn compute(
    view: &mut (dyn View + '_),
    db: &mut PgConnection,
    schema: Schema,
    items: &[Item<'_>],
) -> Result<(), Fault> {
    let own: Vec<&Item> = items.iter().filter(|i| view.handles(&i.recorded.event_type)).collect();
    if own.is_empty() {
        return Ok(());
    }
    for item in &own {
        view.want(item)?;
    }
    view.load(db, schema).await?;
    own.iter().try_for_each(|item| view.fold(item))
}

/// One event in its own transaction, each view behind a savepoint: a fault costs its own view only.
async fn alone(db: &mut PgConnection, target: Target, item: &Item<'_>) -> Result<Vec<Quarantined>, ApplyError> {
    let mut quarantined = Vec::new();
    let mut tx = db.begin().await?;
    let unreadable = item.fact().err();
    if let Some(fault) = &unreadable {
        quarantined.push(Quarantined { view: "read_models", reason: fault.to_string() });
    }
    for mut view in view::all() {
        if unreadable.is_some() && !view.events().is_empty() {
            continue;
        }
        let mut savepoint = tx.begin().await?;
        let done = match compute(view.as_mut(), &mut savepoint, target.schema, std::slice::from_ref(item)).await {
            Ok(()) => view.store(&mut savepoint, target.schema).await,
            Err(fault) => Err(fault),
        };
        match done {
            Ok(()) => savepoint.commit().await?,
            Err(Fault::Database(error)) => return Err(error.into()),
            Err(Fault::Event(reason)) => {
                savepoint.rollback().await?;
                quarantined.push(Quarantined { view: view.name(), reason });
            }
        }
    }
    if target.schema == Schema::Live {
        for fault in &quarantined {
            record(&mut tx, item.recorded, fault).await?;
        }
    }
    advance(&mut tx, target, item.recorded.at).await?;
    tx.commit().await?;
    Ok(quarantined)
}

async fn record(db: &mut PgConnection, event: &RecordedEvent, fault: &Quarantined) -> Result<(), sqlx::Error> {
    let (event_type, view, reason) = (&event.event_type, fault.view, &fault.reason);
    tracing::error!(event_id = %event.event_id, event_type, view, reason, "an event is set aside in quarantine");
    sqlx::query(
        "insert into log.quarantine (projection, event_id, generation, transaction_id, position, reason)
         values ($1, $2, $3, $4::text::xid8, $5, $6) on conflict (projection, event_id) do nothing",
    )
    .bind(view)
    .bind(event.event_id)
    .bind(event.at.generation)
    .bind(event.at.transaction_id.to_string())
    .bind(event.at.position)
    .bind(reason.replace('\0', ""))
    .execute(db)
    .await?;
    Ok(())
}

async fn advance(db: &mut PgConnection, target: Target, to: LogPosition) -> Result<(), ApplyError> {
    let Some((name, from)) = target.checkpoint else { return Ok(()) };
    match event_store::advance(db, name, from, to).await? {
        true => Ok(()),
        false => Err(ApplyError::Moved),
    }
}
