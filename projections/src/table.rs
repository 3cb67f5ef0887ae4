//! The part of a table that events touch: loaded by key, folded in memory, written column by column, and kept for the
//! next batch within bounds.
//!
//! Keeping rows is safe because nobody else writes them: one projector holds the lock, and a statement whose checkpoint
//! has been moved by somebody else fails. Whatever fails, the whole working set is thrown away.

use std::collections::{BTreeSet, HashMap, HashSet};

use domain::event::RecordedEvent;
use uuid::Uuid;

use crate::{
    cells::Columns,
    fault::Fault,
    row::{Key, Row},
    statement::Statement,
};

/// What a row costs beside its text, roughly.
const OVERHEAD: usize = 400;

/// How a working set moves between memory and the database.
pub(crate) trait Rows: Send {
    /// Adds the query of what is wanted and not here yet, and expects its rows.
    fn load(&mut self, statement: &mut Statement) -> Result<(), Fault>;

    /// Takes a row that the query gave, if it is of this table.
    fn take(&mut self, table: &str, row: &str) -> Result<(), Fault>;

    /// Adds what has changed, `most` rows of it; gives how many.
    fn store(&mut self, statement: &mut Statement, most: usize) -> Result<usize, Fault>;

    /// Rows that need not wait for the others: they may be written before them, in transactions of their own.
    fn store_ahead(&mut self, _: &mut Statement) -> Result<usize, Fault> {
        Ok(0)
    }

    /// All is written: forgets what exceeds `bytes`.
    fn keep(&mut self, bytes: usize);

    /// Forgets everything, written or not.
    fn clear(&mut self);
}

struct Slot<R> {
    row: Option<R>,
    /// Is it in the database?
    stored: bool,
    changed: bool,
    /// The batch that used it last.
    used: u64,
    size: usize,
}

pub(crate) struct Table<R: Row> {
    wanted: BTreeSet<Key>,
    slots: HashMap<Key, Slot<R>>,
    /// Sorted, so that rows are always written in the same order.
    changed: BTreeSet<Key>,
    /// Ids of which every row is here: what is not here does not exist.
    whole: HashSet<Uuid>,
    batch: u64,
    size: usize,
}

impl<R: Row> Default for Table<R> {
    fn default() -> Self {
        Self {
            wanted: BTreeSet::new(),
            slots: HashMap::new(),
            changed: BTreeSet::new(),
            whole: HashSet::new(),
            batch: 0,
            size: 0,
        }
    }
}

impl<R: Row> Table<R> {
    /// Notes a row for the next `load`.
    pub fn want(&mut self, key: Key) {
        match self.slots.get_mut(&key) {
            Some(slot) => slot.used = self.batch,
            None if self.whole.contains(&key.0) => {}
            None => drop(self.wanted.insert(key)),
        }
    }

    /// Notes the row of the event's own aggregate; there is none before its first event.
    pub fn want_own(&mut self, event: &RecordedEvent) {
        match event.sequence {
            1 => self.born(event.aggregate_id),
            _ => self.want(Key::of(event.aggregate_id)),
        }
    }

    /// An aggregate's first event: none of its rows can be in the database.
    pub fn born(&mut self, id: Uuid) {
        self.whole.insert(id);
    }

    pub fn get(&self, key: &Key) -> Option<&R> {
        self.slots.get(key)?.row.as_ref()
    }

    /// A row to be changed; `None` when there is none (it was removed, or its first event is quarantined).
    pub fn change(&mut self, key: &Key) -> Option<&mut R> {
        let slot = self.slots.get_mut(key)?;
        if slot.row.is_some() && !slot.changed {
            slot.changed = true;
            self.changed.insert(key.clone());
        }
        slot.row.as_mut()
    }

    pub fn put(&mut self, row: R) {
        let key = row.key();
        let before = self.slots.get(&key);
        let (stored, size) = before.map_or((false, 0), |s| (s.stored, s.size));
        self.changed.insert(key.clone());
        self.slots.insert(key, Slot { row: Some(row), stored, changed: true, used: self.batch, size });
    }

    pub fn remove(&mut self, key: &Key) {
        if let Some(slot) = self.slots.get_mut(key) {
            slot.row = None;
            slot.changed = true;
            self.changed.insert(key.clone());
        }
    }

    fn forget(&mut self, key: &Key) {
        if let Some(slot) = self.slots.remove(key) {
            self.size -= slot.size.min(self.size);
            // Something of it is not here any more.
            self.whole.remove(&key.0);
        }
    }
}

impl<R: Row> Rows for Table<R> {
    fn load(&mut self, statement: &mut Statement) -> Result<(), Fault> {
        // A batch notes its wants one by one; what was put meanwhile needs no loading.
        let keys = std::mem::take(&mut self.wanted);
        if keys.is_empty() {
            return Ok(());
        }
        let (schema, table) = (statement.schema, R::TABLE);
        let ids = statement.bind(keys.iter().map(|k| k.0).collect::<Vec<_>>())?;
        let select = format!("select '{table}'::text, row_to_json(t)::text from {schema}.{table} t");
        let sql = match R::KEY {
            [id, name] => {
                let names = statement.bind(keys.iter().map(|k| k.1.clone()).collect::<Vec<_>>())?;
                // The key's own type, or its index would not be found: `integer = text` is no condition at all.
                let ty = statement.types.sql_of(R::TABLE, name);
                format!(
                    "{select} join unnest({ids}::uuid[], {names}::text[]::{ty}[]) as k(a, b) \
                     on t.{id} = k.a and t.{name} = k.b"
                )
            }
            key => format!("{select} where t.{} = any({ids})", key.join("")),
        };
        statement.part(sql);
        Ok(())
    }

    fn take(&mut self, table: &str, text: &str) -> Result<(), Fault> {
        if table != R::TABLE {
            return Ok(());
        }
        // No event's fault: set aside would be every event that touches such a row, for ever.
        let row: R = serde_json::from_str(text).map_err(|e| {
            let what = format!("this build cannot read a row of {table} (`apiq admin rebuild` makes new ones): {e}");
            Fault::Database(sqlx::Error::Decode(what.into()))
        })?;
        let size = OVERHEAD + text.len();
        self.size += size;
        self.slots.insert(row.key(), Slot { row: Some(row), stored: true, changed: false, used: self.batch, size });
        Ok(())
    }

    fn store(&mut self, statement: &mut Statement, most: usize) -> Result<usize, Fault> {
        let mut columns = Columns::new(&statement.types, R::TABLE, R::COLUMNS);
        let (mut rows, mut gone) = (0, vec![]);
        while rows + gone.len() < most {
            let Some(key) = self.changed.pop_first() else { break };
            let Some(slot) = self.slots.get_mut(&key) else { continue };
            slot.changed = false;
            slot.used = self.batch;
            match &slot.row {
                Some(row) => {
                    let size = OVERHEAD + columns.push(row).map_err(|e| Fault::Event(e.to_string()))?;
                    self.size = self.size - slot.size.min(self.size) + size;
                    (slot.size, slot.stored) = (size, true);
                    rows += 1;
                }
                // Only tables with a single key column lose rows.
                None if slot.stored => {
                    gone.push(key.0);
                    slot.stored = false;
                }
                None => {}
            }
        }
        if rows > 0 {
            statement.insert(R::TABLE, R::KEY, &columns, !R::INSERT_ONLY)?;
        }
        let count = rows + gone.len();
        if !gone.is_empty() {
            let ids = statement.bind(gone)?;
            let schema = statement.schema;
            statement.part(format!("delete from {schema}.{} where {} = any({ids})", R::TABLE, R::KEY.join("")));
        }
        Ok(count)
    }

    fn keep(&mut self, bytes: usize) {
        self.batch += 1;
        if R::INSERT_ONLY {
            return self.clear();
        }
        if self.size + self.whole.len() * size_of::<Uuid>() <= bytes {
            return;
        }
        // The half that was used longest ago goes: seldom, so that sorting costs nothing.
        let mut by_use: Vec<(u64, Key)> = self.slots.iter().map(|(k, s)| (s.used, k.clone())).collect();
        by_use.sort_unstable_by_key(|(used, _)| *used);
        for (_, key) in by_use {
            if self.size <= bytes / 2 {
                break;
            }
            self.forget(&key);
        }
        // Ids without a row here are forgotten too; their rows, if they come, are asked for.
        let here: HashSet<Uuid> = self.slots.keys().map(|k| k.0).collect();
        self.whole.retain(|id| here.contains(id));
    }

    fn clear(&mut self) {
        *self = Self { batch: self.batch, ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plans::PlanView;

    #[test]
    fn a_row_that_cannot_be_read_is_no_events_fault() {
        let taken = Table::<PlanView>::default().take(PlanView::TABLE, r#"{"id":"what a newer build wrote"}"#);
        assert!(matches!(&taken, Err(Fault::Database(e)) if e.to_string().contains("a row of plans")), "{taken:?}");
    }
}
