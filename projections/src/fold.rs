//! The fold of a batch: every view's working set, loaded in one round trip, changed in memory, written by one statement.
//!
//! A fault or a panic costs its own view only: that view's working set is thrown away, and its part of the batch is folded
//! again without the event and what follows in the same stream.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use async_trait::async_trait;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    cells::Types,
    fault::Fault,
    quarantine::{Blocked, EVERY_VIEW, Quarantined},
    statement::Statement,
    table::Rows,
    view::{self, Item, Schema, View, panicked},
};

/// Where rows and blobs are read from, when something must be.
#[async_trait]
pub(crate) trait Reader: Send {
    /// A connection that sees all that was written so far.
    async fn connection(&mut self) -> Result<&mut PgConnection, Fault>;
}

#[async_trait]
impl Reader for PgConnection {
    async fn connection(&mut self) -> Result<&mut PgConnection, Fault> {
        Ok(self)
    }
}

/// Working sets of all views, and the streams that they must not go on with.
pub(crate) struct Fold {
    schema: Schema,
    types: Arc<Types>,
    views: Vec<Box<dyn View>>,
    blocked: Blocked,
    /// Bytes of rows that each table keeps between batches.
    keep: usize,
}

/// What a view is known not to take of a batch: item by item, the reason.
pub(crate) type Faults = BTreeMap<usize, String>;

/// One view's part of a batch.
struct Part {
    own: Vec<usize>,
    aside: Vec<Quarantined>,
}

impl Fold {
    /// Nothing in memory; `blocked` as the target's quarantine has it. Each table keeps up to `keep` bytes of rows.
    pub async fn new(
        db: &mut PgConnection,
        schema: Schema,
        blocked: Blocked,
        keep: usize,
    ) -> Result<Self, sqlx::Error> {
        Ok(Self { schema, types: Arc::new(Types::read(db).await?), views: view::all(), blocked, keep })
    }

    /// Forgets all rows: for whenever the database may say something else than memory.
    pub fn clear(&mut self) {
        self.tables().for_each(|table| table.clear());
    }

    /// Folds a batch in memory. What cannot be taken is told, in the log's order; `known` names faults found earlier,
    /// view by view. The faults of `Fault::Event` that come out of here belong to no event that could be told.
    pub async fn compute(
        &mut self,
        db: &mut dyn Reader,
        items: &[Item],
        known: &BTreeMap<&'static str, Faults>,
    ) -> Result<Vec<Quarantined>, Fault> {
        let (common, mut aside) = self.unreadable(items);
        let mut parts: Vec<Part> = Vec::new();
        for view in &mut self.views {
            let faults = known.get(view.name()).cloned().unwrap_or_default();
            parts.push(plan(view.as_ref(), items, &common, &self.blocked, &faults));
        }
        for (view, part) in self.views.iter_mut().zip(&parts) {
            want(view.as_mut(), items, &part.own);
        }
        let mut views: Vec<&mut dyn View> = self.views.iter_mut().map(|v| v.as_mut() as &mut dyn View).collect();
        load(&mut views, db, self.schema, &self.types).await?;
        for (view, mut part) in self.views.iter_mut().zip(parts) {
            let mut faults = known.get(view.name()).cloned().unwrap_or_default();
            while let Err((at, reason)) = fold(view.as_mut(), items, &part.own) {
                faults.insert(at, reason);
                // What the fold left half done is forgotten, with all rows it may have touched.
                view.tables().into_iter().for_each(Rows::clear);
                part = plan(view.as_ref(), items, &common, &self.blocked, &faults);
                want(view.as_mut(), items, &part.own);
                load(&mut [view.as_mut()], db, self.schema, &self.types).await?;
            }
            aside.extend(part.aside);
        }
        aside.sort_by(|a, b| (a.at, a.view).cmp(&(b.at, b.view)));
        Ok(aside)
    }

    /// After the batch's rows and its quarantine are written.
    pub fn written(&mut self, items: &[Item], aside: &[Quarantined]) {
        let keep = self.keep;
        self.tables().for_each(|table| table.keep(keep));
        if !aside.is_empty() {
            let events: HashMap<Uuid, &Item> = items.iter().map(|i| (i.recorded.event_id, i)).collect();
            for quarantined in aside {
                if let Some(item) = events.get(&quarantined.event_id) {
                    self.blocked.block(quarantined.view, &item.recorded);
                }
            }
        }
    }

    /// Changed rows as a statement, `most` of each table; `None`: there are none (any more).
    pub fn store(&mut self, most: usize) -> Result<Option<Statement>, Fault> {
        self.store_of(most, |_| true)
    }

    /// The same of some views, by name.
    pub fn store_of(&mut self, most: usize, of: impl Fn(&str) -> bool) -> Result<Option<Statement>, Fault> {
        let mut statement = Statement::new(self.schema, &self.types);
        let mut count = 0;
        for table in self.views.iter_mut().filter(|view| of(view.name())).flat_map(|view| view.tables()) {
            count += table.store(&mut statement, most)?;
        }
        Ok((count > 0).then_some(statement))
    }

    pub fn statement(&self) -> Statement {
        Statement::new(self.schema, &self.types)
    }

    /// Adds rows that may be written before the others; `None`: there are none.
    pub fn store_ahead(&mut self) -> Result<Option<Statement>, Fault> {
        let mut statement = Statement::new(self.schema, &self.types);
        for table in self.views.iter_mut().flat_map(|view| view.tables()) {
            if table.store_ahead(&mut statement)? > 0 {
                return Ok(Some(statement));
            }
        }
        Ok(None)
    }

    /// One view alone: folds and writes, to see whether it can.
    pub async fn attempt(&mut self, db: &mut PgConnection, name: &str, items: &[Item]) -> Result<(), Fault> {
        let Some(view) = self.views.iter_mut().find(|view| view.name() == name) else { return Ok(()) };
        let own: Vec<usize> = (0..items.len()).filter(|n| view.handles(&items[*n].recorded.event_type)).collect();
        if own.is_empty() {
            return Ok(());
        }
        want(view.as_mut(), items, &own);
        load(&mut [view.as_mut()], db, self.schema, &self.types).await?;
        if fold(view.as_mut(), items, &own).is_err() {
            // The fold itself fails: `compute` finds that out.
            return Ok(());
        }
        let mut statement = Statement::new(self.schema, &self.types);
        for table in view.tables() {
            table.store(&mut statement, usize::MAX)?;
        }
        statement.write(db, None).await
    }

    pub fn view_names(&self) -> Vec<&'static str> {
        self.views.iter().map(|view| view.name()).collect()
    }

    fn tables(&mut self) -> impl Iterator<Item = &mut dyn Rows> {
        self.views.iter_mut().flat_map(|view| view.tables())
    }

    /// Events that no view can take (only the audit log can): unreadable ones, and what follows them.
    fn unreadable(&self, items: &[Item]) -> (BTreeSet<usize>, Vec<Quarantined>) {
        let (mut common, mut aside, mut here) = (BTreeSet::new(), vec![], HashMap::new());
        for (n, item) in items.iter().enumerate() {
            let event = &item.recorded;
            let stream = (event.aggregate_id, event.aggregate_type.as_str());
            if let Err(fault) = item.fact() {
                here.entry(stream).or_insert(event.event_id);
                aside.push(Quarantined::new(EVERY_VIEW, event, fault.to_string()));
                common.insert(n);
                continue;
            }
            let first = self.blocked.first(EVERY_VIEW, event).or_else(|| here.get(&stream).copied());
            if let Some(first) = first {
                common.insert(n);
                if self.views.iter().any(|view| view.in_order() && view.handles(&event.event_type)) {
                    aside.push(Quarantined::follows(EVERY_VIEW, event, first));
                }
            }
        }
        (common, aside)
    }
}

/// What a view folds of a batch, and what it sets aside.
fn plan(view: &dyn View, items: &[Item], common: &BTreeSet<usize>, blocked: &Blocked, faults: &Faults) -> Part {
    let mut part = Part { own: vec![], aside: vec![] };
    let mut here: HashMap<(Uuid, &str), Uuid> = HashMap::new();
    for (n, item) in items.iter().enumerate().filter(|(_, item)| view.handles(&item.recorded.event_type)) {
        let event = &item.recorded;
        let stream = (event.aggregate_id, event.aggregate_type.as_str());
        if view.in_order() {
            if common.contains(&n) {
                continue;
            }
            if let Some(first) = blocked.first(view.name(), event).or_else(|| here.get(&stream).copied()) {
                part.aside.push(Quarantined::follows(view.name(), event, first));
                continue;
            }
        }
        match faults.get(&n) {
            Some(reason) => {
                here.insert(stream, event.event_id);
                part.aside.push(Quarantined::new(view.name(), event, reason.clone()));
            }
            None => part.own.push(n),
        }
    }
    part
}

/// Only reads the events: what is wrong with one shows again, and better, when it is folded.
fn want(view: &mut dyn View, items: &[Item], own: &[usize]) {
    for n in own {
        let _ = catch_unwind(AssertUnwindSafe(|| view.want(&items[*n])));
    }
}

/// One round trip for the rows of all views, a second one for what these lead to.
async fn load(
    views: &mut [&mut dyn View],
    db: &mut dyn Reader,
    schema: Schema,
    types: &Arc<Types>,
) -> Result<(), Fault> {
    for _ in 0..2 {
        let mut statement = Statement::new(schema, types);
        for table in views.iter_mut().flat_map(|view| view.tables()) {
            table.load(&mut statement)?;
        }
        let rows = match statement.is_empty() {
            true => vec![],
            false => statement.load(db.connection().await?).await?,
        };
        for (table, row) in rows {
            for rows in views.iter_mut().flat_map(|view| view.tables()) {
                rows.take(&table, &row)?;
            }
        }
        views.iter_mut().for_each(|view| view.want_more());
    }
    for view in views {
        view.read(db).await?;
    }
    Ok(())
}

/// Folds a view's part; the error is the event at which it failed, and why.
fn fold(view: &mut dyn View, items: &[Item], own: &[usize]) -> Result<(), (usize, String)> {
    for n in own {
        let item = &items[*n];
        let done = catch_unwind(AssertUnwindSafe(|| {
            let done = view.fold(item);
            #[cfg(test)]
            crate::panics::maybe(view.name(), item);
            done
        }));
        match done {
            Ok(Ok(())) => {}
            Ok(Err(fault)) => return Err((*n, fault.to_string())),
            Err(panic) => return Err((*n, panicked(&*panic))),
        }
    }
    Ok(())
}
