//! One statement over many tables: a round trip for all loads of a batch, and one transaction for all that it writes.

use std::sync::Arc;

use domain::event::LogPosition;
use sqlx::{Arguments, Encode, PgConnection, Postgres, Type, postgres::PgArguments};

use crate::{
    cells::{Columns, Types},
    fault::Fault,
    quarantine::Quarantined,
    view::Schema,
};

/// Where a projection has come to: its checkpoint, and how often its tables were swapped for rebuilt ones. Who knows an
/// older number of swaps has seen the old tables, and must not write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub at: LogPosition,
    pub swaps: i64,
}

/// SQL parts with their arguments.
pub(crate) struct Statement {
    pub schema: Schema,
    pub types: Arc<Types>,
    parts: Vec<String>,
    arguments: PgArguments,
    count: usize,
}

impl Statement {
    pub fn new(schema: Schema, types: &Arc<Types>) -> Self {
        Self { schema, types: types.clone(), parts: vec![], arguments: PgArguments::default(), count: 0 }
    }

    /// Adds an argument; gives its place, `$3`.
    pub fn bind<'q, T: Encode<'q, Postgres> + Type<Postgres> + 'q>(&mut self, value: T) -> Result<String, Fault> {
        self.arguments.add(value).map_err(|e| Fault::Event(format!("a value cannot be sent: {e}")))?;
        self.count += 1;
        Ok(format!("${}", self.count))
    }

    pub fn part(&mut self, sql: String) {
        self.parts.push(sql);
    }

    /// Rows of a table; with `replace` they take the place of those with the same key, otherwise there must be none.
    pub fn insert(&mut self, table: &str, key: &[&str], columns: &Columns, replace: bool) -> Result<(), Fault> {
        let (mut binds, mut names, mut casts) = (vec![], vec![], vec![]);
        for (n, column) in columns.all.iter().enumerate() {
            binds.push(self.bind(column)?);
            names.push(column.name);
            casts.push(format!("c{n}::{}", column.sql_type()));
        }
        let (schema, names_list) = (self.schema, names.join(", "));
        let aliases: Vec<String> = (0..names.len()).map(|n| format!("c{n}")).collect();
        let conflict = match replace {
            true => {
                let others: Vec<&str> = names.iter().copied().filter(|n| !key.contains(n)).collect();
                let excluded: Vec<String> = others.iter().map(|c| format!("excluded.{c}")).collect();
                let (key, set, to) = (key.join(", "), others.join(", "), excluded.join(", "));
                format!("on conflict ({key}) do update set ({set}) = row({to})")
            }
            // Faster by a third; a row that is there already is a fault that must show.
            false => String::new(),
        };
        self.part(format!(
            "insert into {schema}.{table} ({names_list}) select {} from unnest({}) as u({}) {conflict}",
            casts.join(", "),
            binds.join(", "),
            aliases.join(", "),
        ));
        Ok(())
    }

    pub fn record(&mut self, quarantined: &[Quarantined]) -> Result<(), Fault> {
        if quarantined.is_empty() {
            return Ok(());
        }
        let reasons: Vec<String> = quarantined.iter().map(|q| q.reason.replace('\0', "")).collect();
        let binds = [
            self.bind(quarantined.iter().map(|q| q.view).collect::<Vec<_>>())?,
            self.bind(quarantined.iter().map(|q| q.event_id).collect::<Vec<_>>())?,
            self.bind(quarantined.iter().map(|q| q.at.generation).collect::<Vec<_>>())?,
            self.bind(quarantined.iter().map(|q| q.at.transaction_id.to_string()).collect::<Vec<_>>())?,
            self.bind(quarantined.iter().map(|q| q.at.position).collect::<Vec<_>>())?,
            self.bind(reasons)?,
        ];
        let [view, event, generation, transaction, position, reason] = binds;
        self.part(format!(
            "insert into log.quarantine (projection, event_id, generation, transaction_id, position, reason)
             select a, b, c, d::xid8, e, f from unnest({view}::text[], {event}::uuid[], {generation}::int[],
               {transaction}::text[], {position}::bigint[], {reason}::text[]) as u(a, b, c, d, e, f)
             on conflict (projection, event_id) do nothing"
        ));
        Ok(())
    }

    /// Moves the checkpoint from one place to another (which may be the same). When somebody else has moved it, the
    /// division fails the statement, and nothing of it stays.
    fn guard(&mut self, name: &str, from: Place, to: LogPosition) -> Result<String, Fault> {
        let name = self.bind(name)?;
        let (g, t, p) = (
            self.bind(from.at.generation)?,
            self.bind(from.at.transaction_id.to_string())?,
            self.bind(from.at.position)?,
        );
        let (ng, nt, np) =
            (self.bind(to.generation)?, self.bind(to.transaction_id.to_string())?, self.bind(to.position)?);
        let swaps = self.bind(from.swaps)?;
        self.part(format!(
            "update log.checkpoints set generation = {ng}, transaction_id = {nt}::text::xid8, position = {np},
                    updated_at = now()
              where name = {name} and (generation, transaction_id, position) = ({g}, {t}::text::xid8, {p})
                and swaps = {swaps} returning 1"
        ));
        Ok(format!("select 1 / count(*) from w{}", self.parts.len() - 1))
    }

    /// All parts as one statement, which is one transaction: rows, quarantine and checkpoint stand or fall together.
    pub async fn write(
        mut self,
        db: &mut PgConnection,
        moving: Option<(&str, Place, LogPosition)>,
    ) -> Result<(), Fault> {
        let end = match moving {
            Some((name, from, to)) => self.guard(name, from, to)?,
            None if self.parts.is_empty() => return Ok(()),
            None => "select 1".to_owned(),
        };
        let with: Vec<String> = self.parts.iter().enumerate().map(|(n, part)| format!("w{n} as ({part})")).collect();
        let sql = format!("with {} {end}", with.join(", "));
        sqlx::query_with(&sql, self.arguments).execute(db).await?;
        Ok(())
    }

    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// All parts as one query of `(table, row)`.
    pub async fn load(self, db: &mut PgConnection) -> Result<Vec<(String, String)>, Fault> {
        Ok(sqlx::query_as_with(&self.parts.join(" union all "), self.arguments).fetch_all(db).await?)
    }
}
