//! Loading an aggregate: its stream, folded, from the nearest state that is known of it.

use std::sync::Arc;

use domain::{
    aggregate::Decider,
    event::{DecodeError, EventSet},
};
use sqlx::{Row, postgres::PgRow};
use uuid::Uuid;

use crate::{
    EventStore, NewEvent,
    cache::Size,
    snapshot::{Opened, Snapshot},
};

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("the log cannot be read: {0}")]
    Database(#[from] Arc<sqlx::Error>),
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error("the stream {aggregate_type} {aggregate_id} has a gap before {sequence}")]
    Gap { aggregate_type: &'static str, aggregate_id: Uuid, sequence: i64 },
}

impl From<sqlx::Error> for LoadError {
    fn from(error: sqlx::Error) -> Self {
        Arc::new(error).into()
    }
}

/// A folded stream. `sequence` 0 and no workspace: it does not exist.
#[derive(Debug, Clone)]
pub struct Loaded<A> {
    pub id: Uuid,
    pub state: A,
    pub sequence: i64,
    pub workspace: Option<Uuid>,
    /// Events that this load read and folded: the others were in the cache or in a snapshot.
    pub folded: u32,
    /// Given by `recall` without a look at the log: it may be behind.
    pub recalled: bool,
    pub(crate) last_event: Option<Uuid>,
    /// The cache's epoch when the load began; none for what was never loaded.
    pub(crate) epoch: Option<u64>,
    pub(crate) size: Size,
}

impl<A: Decider> Loaded<A> {
    /// A new, empty stream.
    pub fn fresh(id: Uuid) -> Self {
        Self {
            id,
            state: A::default(),
            sequence: 0,
            workspace: None,
            folded: 0,
            recalled: false,
            last_event: None,
            epoch: None,
            size: Size::default(),
        }
    }

    /// The id of the stream's last event, as it was loaded.
    pub fn last_event(&self) -> Option<Uuid> {
        self.last_event
    }

    /// Moves on by an event that is about to be appended as `stored`.
    pub fn advance(&mut self, event: A::Event, stored: &NewEvent, workspace: Uuid) {
        self.push(event, self.sequence + 1, stored.event_id, workspace, stored.payload.len());
    }

    fn push(&mut self, event: A::Event, sequence: i64, event_id: Uuid, workspace: Uuid, bytes: usize) {
        self.state.apply(event);
        self.sequence = sequence;
        self.last_event = Some(event_id);
        self.workspace = Some(workspace);
        self.size.grow(bytes);
    }

    /// Folds what was read after the last event. `false`: that event is not in the log, so this state is none of it.
    fn fold(&mut self, rows: &[PgRow]) -> Result<bool, LoadError> {
        let mut rows = rows.iter();
        if self.sequence > 0 {
            let Some(last) = rows.next() else { return Ok(false) };
            let at: Option<i64> = last.try_get("sequence")?;
            if at != Some(self.sequence) || last.try_get::<Option<Uuid>, _>("event_id")? != self.last_event {
                return Ok(false);
            }
        }
        for row in rows {
            let Some(sequence) = row.try_get::<Option<i64>, _>("sequence")? else { continue };
            if sequence != self.sequence + 1 {
                return Err(LoadError::Gap { aggregate_type: A::TYPE, aggregate_id: self.id, sequence });
            }
            let payload: &str = row.try_get("payload")?;
            let event = A::Event::decode(row.try_get("event_type")?, row.try_get("event_version")?, payload)?;
            self.push(event, sequence, row.try_get("event_id")?, row.try_get("workspace_id")?, payload.len());
            self.folded += 1;
        }
        Ok(true)
    }
}

impl EventStore {
    /// The stream's present state, folded from the cached one, else from the newest snapshot, else from its first event.
    /// The log is always asked.
    pub async fn load<A: Decider>(&self, id: Uuid) -> Result<Loaded<A>, LoadError> {
        match self.inner.cache.get::<A>(id) {
            Some(cached) => self.load_after(cached).await,
            None => self.load_cold(id).await,
        }
    }

    /// The cached state without asking the log (`recalled`: it may be behind), else the present one.
    ///
    /// Only for commands that append to this very stream, at this `sequence`: the append sees whether it was the last.
    pub async fn recall<A: Decider>(&self, id: Uuid) -> Result<Loaded<A>, LoadError> {
        match self.inner.cache.get::<A>(id) {
            Some(cached) => Ok(Loaded { folded: 0, recalled: true, ..cached }),
            None => self.load_cold(id).await,
        }
    }

    async fn load_after<A: Decider>(&self, cached: Loaded<A>) -> Result<Loaded<A>, LoadError> {
        let (id, known) = (cached.id, cached.sequence);
        let mut loaded = Loaded { folded: 0, recalled: false, ..cached };
        let rows = self.inner.gather.stream((A::TYPE, id), Some(known)).await?;
        if !loaded.fold(&rows)? {
            tracing::warn!(aggregate = A::TYPE, %id, sequence = known, "a cached state is not of this log");
            self.inner.cache.remove::<A>(id);
            return self.load_cold(id).await;
        }
        if loaded.sequence > known {
            self.settle(&loaded);
        }
        Ok(loaded)
    }

    async fn load_cold<A: Decider>(&self, id: Uuid) -> Result<Loaded<A>, LoadError> {
        let epoch = Some(self.inner.cache.epoch());
        let rows = self.inner.gather.stream((A::TYPE, id), None).await?;
        let snapshot = match rows.first() {
            Some(row) => Snapshot::read::<A>(id, row)?,
            None => None,
        };
        let mut loaded = match snapshot {
            None => {
                let mut loaded = Loaded::fresh(id);
                loaded.fold(&rows)?;
                loaded
            }
            Some((sequence, opened)) => match fold_opened(opened, &rows)? {
                Ok(loaded) => loaded,
                Err(why) => {
                    self.inner.snapshots.discard::<A>(id, sequence, &why);
                    let mut loaded = Loaded::fresh(id);
                    loaded.fold(&self.inner.gather.stream((A::TYPE, id), Some(0)).await?)?;
                    loaded
                }
            },
        };
        loaded.epoch = epoch;
        self.settle(&loaded);
        Ok(loaded)
    }

    /// What a load leaves for later ones.
    fn settle<A: Decider>(&self, loaded: &Loaded<A>) {
        self.inner.snapshots.offer(loaded);
        self.inner.cache.put(loaded.clone());
    }
}

fn fold_opened<A: Decider>(opened: Opened<A>, rows: &[PgRow]) -> Result<Opened<A>, LoadError> {
    let Ok(mut loaded) = opened else { return Ok(opened) };
    let known = loaded.fold(rows)?;
    Ok(if known { Ok(loaded) } else { Err("its last event is not in the log".into()) })
}
