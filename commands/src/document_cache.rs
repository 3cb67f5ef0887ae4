//! A workspace's cached documents: who looked at them and who purged them is in the log first.

use domain::document_cache::{DocumentCacheCommand, DocumentCacheLog};
use event_store::CacheSize;
use uuid::Uuid;

use crate::{
    App, Context, Failure, Outcome,
    unit::{Unit, fresh},
};

/// Records that the entries (or the one of `url`) are shown; gives how many there are.
pub async fn list(app: &App, context: &Context, url: Option<&str>) -> Outcome<CacheSize> {
    let size = size(app, context, url).await?;
    let command = DocumentCacheCommand::List { url: url.map(str::to_owned), entries: size.entries.unsigned_abs() };
    record(app, context, command, size).await
}

/// Forgets the entry of `url`, or all of the workspace. What was there is counted before the event that says so; the
/// entries go after it.
pub async fn purge(app: &App, context: &Context, url: Option<&str>) -> Outcome<CacheSize> {
    let size = size(app, context, url).await?;
    let command = DocumentCacheCommand::Purge {
        url: url.map(str::to_owned),
        entries: size.entries.unsigned_abs(),
        bytes: size.bytes.unsigned_abs(),
    };
    let done = record(app, context, command, size).await?;
    app.store().documents().purge(context.actor.workspace.0, url).await?;
    Ok(done)
}

async fn size(app: &App, context: &Context, url: Option<&str>) -> Result<CacheSize, Failure> {
    Ok(app.store().documents().size(context.actor.workspace.0, url).await?)
}

async fn record(app: &App, context: &Context, command: DocumentCacheCommand, size: CacheSize) -> Outcome<CacheSize> {
    let mut unit = Unit::new(app, context).await?;
    unit.stage(&mut fresh::<DocumentCacheLog>(app.new_id::<Uuid>()), command)?;
    unit.commit(size).await
}
