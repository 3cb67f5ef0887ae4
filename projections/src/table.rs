//! The part of a table that a batch of events touches: loaded by key, folded in memory, stored in one statement.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    fault::Fault,
    row::{Key, Row},
    view::Schema,
};

struct Slot<R> {
    row: Option<R>,
    /// Is it in the database?
    stored: bool,
    changed: bool,
}

pub(crate) struct Table<R: Row> {
    wanted: BTreeSet<Key>,
    /// Sorted, so that rows are always written in the same order.
    slots: BTreeMap<Key, Slot<R>>,
}

impl<R: Row> Default for Table<R> {
    fn default() -> Self {
        Self { wanted: BTreeSet::new(), slots: BTreeMap::new() }
    }
}

impl<R: Row> Table<R> {
    /// Notes a row for the next `load`.
    pub fn want(&mut self, key: Key) {
        self.wanted.insert(key);
    }

    /// Fetches what is wanted and not here yet: one statement, none when nothing is.
    pub async fn load(&mut self, db: &mut PgConnection, schema: Schema) -> Result<(), Fault> {
        let wanted = std::mem::take(&mut self.wanted);
        let keys: Vec<Key> = wanted.into_iter().filter(|k| !self.slots.contains_key(k)).collect();
        if keys.is_empty() {
            return Ok(());
        }
        let ids: Vec<Uuid> = keys.iter().map(|k| k.0).collect();
        let table = R::TABLE;
        let texts: Vec<String> = match R::KEY {
            [id, name] => {
                let names: Vec<&str> = keys.iter().map(|k| k.1.as_str()).collect();
                let sql = format!(
                    "select row_to_json(t)::text from {schema}.{table} t
                       join unnest($1::uuid[], $2::text[]) as k(a, b) on t.{id} = k.a and t.{name} = k.b"
                );
                sqlx::query_scalar(&sql).bind(&ids).bind(&names).fetch_all(db).await?
            }
            key => {
                let sql =
                    format!("select row_to_json(t)::text from {schema}.{table} t where t.{} = any($1)", key.join(""));
                sqlx::query_scalar(&sql).bind(&ids).fetch_all(db).await?
            }
        };
        for text in texts {
            let row: R = serde_json::from_str(&text)
                .map_err(|e| Fault::Event(format!("a row of {table} cannot be read: {e}")))?;
            self.slots.insert(row.key(), Slot { row: Some(row), stored: true, changed: false });
        }
        Ok(())
    }

    pub fn get(&self, key: &Key) -> Option<&R> {
        self.slots.get(key)?.row.as_ref()
    }

    pub fn rows(&self) -> impl Iterator<Item = &R> {
        self.slots.values().filter_map(|s| s.row.as_ref())
    }

    /// A row to be changed; `None` when there is none (it was removed, or its first event is quarantined).
    pub fn change(&mut self, key: &Key) -> Option<&mut R> {
        let slot = self.slots.get_mut(key)?;
        slot.changed |= slot.row.is_some();
        slot.row.as_mut()
    }

    pub fn put(&mut self, row: R) {
        let key = row.key();
        let stored = self.slots.get(&key).is_some_and(|s| s.stored);
        self.slots.insert(key, Slot { row: Some(row), stored, changed: true });
    }

    pub fn remove(&mut self, key: &Key) {
        if let Some(slot) = self.slots.get_mut(key) {
            slot.row = None;
            slot.changed = true;
        }
    }

    /// Writes what changed: one upsert, one delete.
    pub async fn store(&mut self, db: &mut PgConnection, schema: Schema) -> Result<(), Fault> {
        let changed = || self.slots.iter().filter(|(_, s)| s.changed);
        let rows: Vec<&R> = changed().filter_map(|(_, s)| s.row.as_ref()).collect();
        // Only tables with a single key column lose rows.
        let gone: Vec<Uuid> = changed().filter(|(_, s)| s.row.is_none() && s.stored).map(|(k, _)| k.0).collect();
        if !rows.is_empty() {
            upsert(db, schema, &rows).await?;
        }
        if !gone.is_empty() {
            let sql = format!("delete from {schema}.{} where {} = any($1)", R::TABLE, R::KEY.join(""));
            sqlx::query(&sql).bind(&gone).execute(db).await?;
        }
        Ok(())
    }
}

pub(crate) async fn upsert<R: Row>(db: &mut PgConnection, schema: Schema, rows: &[&R]) -> Result<(), Fault> {
    let json = serde_json::to_string(rows).map_err(|e| Fault::Event(e.to_string()))?;
    let (table, columns, key) = (R::TABLE, R::COLUMNS.join(", "), R::KEY.join(", "));
    let excluded: Vec<String> = R::COLUMNS.iter().map(|c| format!("excluded.{c}")).collect();
    let sql = format!(
        "insert into {schema}.{table} ({columns})
         select {columns} from json_populate_recordset(null::{schema}.{table}, $1::json)
         on conflict ({key}) do update set ({columns}) = row({})",
        excluded.join(", ")
    );
    sqlx::query(&sql).bind(json).execute(db).await?;
    Ok(())
}
