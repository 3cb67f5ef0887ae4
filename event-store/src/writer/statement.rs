//! Inserting by statement: one command alone, or a small batch whose commands stand or fall each by itself.

use domain::event::LogPosition;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::Outcome;
use crate::{Append, AppendError, Appended};

const BATCH: &str = include_str!("batch.sql");
/// What an idle queue costs: one event, one row. The predecessor is looked up in the same statement, unless it is known.
const ALONE: &str = "insert into log.events (generation, workspace_id, aggregate_type, aggregate_id, sequence, \
       event_type, event_version, payload, metadata, event_id) \
     values ($1, $2, $3, $4, $5, $6, $7, $8::json, $9::json, $10) \
     returning transaction_id::text as xid, position";
const ALONE_CHECKED: &str = "insert into log.events (generation, workspace_id, aggregate_type, aggregate_id, sequence, \
       event_type, event_version, payload, metadata, event_id) \
     select $1, $2, $3, $4, $5, $6, $7, $8::json, $9::json, $10 \
      where exists (select from log.events where aggregate_type = $3 and aggregate_id = $4 and sequence = $5 - 1 \
                       and ($11::uuid is null or event_id = $11)) \
     returning transaction_id::text as xid, position";

/// Several commands whose predecessors are known: one conflict fails them all, and `batch` sorts them out.
const TOGETHER: &str = "insert into log.events (generation, workspace_id, aggregate_type, aggregate_id, sequence, \
       event_type, event_version, payload, metadata, event_id) \
     select $1, w, t, i, s, e, v, p::json, m::json, d \
       from unnest($2::uuid[], $3::text[], $4::uuid[], $5::int8[], $6::text[], $7::text[], $8::text[], $9::text[], \
                   $10::uuid[]) as r (w, t, i, s, e, v, p, m, d) \
     returning transaction_id::text as xid, position, event_id";

/// A command of one event and no claim. `known`: its predecessor is committed, or it has none.
pub(super) async fn alone(
    db: &mut PgConnection,
    generation: i32,
    append: &Append,
    known: bool,
) -> Result<Option<Outcome>, sqlx::Error> {
    let ([stream], None) = (append.streams.as_slice(), &append.claim) else { return Ok(None) };
    let [event] = stream.events.as_slice() else { return Ok(None) };
    let query = sqlx::query(if known { ALONE } else { ALONE_CHECKED })
        .bind(generation)
        .bind(append.workspace_id)
        .bind(stream.aggregate_type)
        .bind(stream.aggregate_id)
        .bind(stream.expected + 1)
        .bind(&event.event_type)
        .bind(&event.event_version)
        .bind(&event.payload)
        .bind(&append.metadata)
        .bind(event.event_id);
    let query = if known { query } else { query.bind(stream.predecessor) };
    let row = query.fetch_optional(db).await?;
    let Some(row) = row else { return Ok(Some(Err(AppendError::Conflict))) };
    let at = place(generation, row.try_get("xid")?, row.try_get("position")?)?;
    Ok(Some(Ok(Appended { at })))
}

/// Small commands without claims, every predecessor known to be committed.
pub(super) async fn together(
    db: &mut PgConnection,
    generation: i32,
    appends: &[&Append],
) -> Result<Vec<Outcome>, sqlx::Error> {
    let mut rows = Rows::default();
    // Sorted by stream: two nodes that write the same streams must not wait for each other in a circle.
    let mut order: Vec<usize> = (0..appends.len()).collect();
    order.sort_unstable_by_key(|i| appends[*i].streams.first().map(|s| s.key()));
    for index in order {
        rows.add(index, appends[index]);
    }
    let answered = sqlx::query(TOGETHER)
        .bind(generation)
        .bind(&rows.workspace)
        .bind(&rows.aggregate_type)
        .bind(&rows.aggregate_id)
        .bind(&rows.sequence)
        .bind(&rows.event_type)
        .bind(&rows.event_version)
        .bind(&rows.payload)
        .bind(&rows.metadata)
        .bind(&rows.event_id)
        .fetch_all(db)
        .await?;
    let mut outcomes: Vec<Outcome> = appends.iter().map(|_| Err(AppendError::Conflict)).collect();
    for (row, (command, id)) in answered.iter().zip(rows.command.iter().zip(&rows.event_id)) {
        if row.try_get::<Uuid, _>("event_id")? != *id {
            return Err(sqlx::Error::Protocol("the inserted rows came back in another order".into()));
        }
        // Of a command's events the last has the highest position.
        outcomes[*command as usize] =
            Ok(Appended { at: place(generation, row.try_get("xid")?, row.try_get("position")?)? });
    }
    Ok(outcomes)
}

/// Every command by itself: who conflicts is left out, the others are inserted whole.
pub(super) async fn batch(
    db: &mut PgConnection,
    generation: i32,
    appends: &[&Append],
) -> Result<Vec<Outcome>, sqlx::Error> {
    let mut rows = Rows::default();
    for (index, append) in appends.iter().enumerate() {
        rows.add(index, append);
    }
    let answered = rows.query(generation).fetch_all(db).await?;
    let mut outcomes: Vec<Outcome> = appends.iter().map(|_| Err(AppendError::Conflict)).collect();
    for row in answered {
        let command: i32 = row.try_get("command")?;
        let slot = &mut outcomes[command as usize];
        // A conflicting command claims nothing, so it is asked for first.
        if row.try_get("conflict")? {
            *slot = Err(AppendError::Conflict);
        } else if row.try_get("key_taken")? {
            *slot = Err(AppendError::KeyTaken);
        } else if let (Some(xid), Some(position)) =
            (row.try_get::<Option<&str>, _>("xid")?, row.try_get::<Option<i64>, _>("position")?)
        {
            *slot = Ok(Appended { at: place(generation, xid, position)? });
        }
    }
    Ok(outcomes)
}

pub(super) fn place(generation: i32, xid: &str, position: i64) -> Result<LogPosition, sqlx::Error> {
    let transaction_id = xid.parse().map_err(|e| sqlx::Error::Decode(Box::new(e)))?;
    Ok(LogPosition { generation, transaction_id, position })
}

/// The batch as columns.
#[derive(Default)]
struct Rows<'a> {
    command: Vec<i32>,
    aggregate_type: Vec<&'a str>,
    aggregate_id: Vec<Uuid>,
    sequence: Vec<i64>,
    event_type: Vec<&'a str>,
    event_version: Vec<&'a str>,
    payload: Vec<&'a str>,
    metadata: Vec<&'a str>,
    event_id: Vec<Uuid>,
    workspace: Vec<Uuid>,
    head_command: Vec<i32>,
    head_type: Vec<&'a str>,
    head_id: Vec<Uuid>,
    head_first: Vec<i64>,
    head_predecessor: Vec<Option<Uuid>>,
    claim_command: Vec<i32>,
    claim_workspace: Vec<Uuid>,
    claim_key: Vec<&'a str>,
    claim_hash: Vec<&'a str>,
}

impl<'a> Rows<'a> {
    fn add(&mut self, index: usize, append: &'a Append) {
        let command = index as i32;
        for stream in append.streams.iter().filter(|s| !s.events.is_empty()) {
            self.head_command.push(command);
            self.head_type.push(stream.aggregate_type);
            self.head_id.push(stream.aggregate_id);
            self.head_first.push(stream.expected + 1);
            self.head_predecessor.push(stream.predecessor);
            for (offset, event) in (1i64..).zip(&stream.events) {
                self.command.push(command);
                self.aggregate_type.push(stream.aggregate_type);
                self.aggregate_id.push(stream.aggregate_id);
                self.sequence.push(stream.expected + offset);
                self.event_type.push(&event.event_type);
                self.event_version.push(&event.event_version);
                self.payload.push(&event.payload);
                self.metadata.push(&append.metadata);
                self.event_id.push(event.event_id);
                self.workspace.push(append.workspace_id);
            }
        }
        if let Some(claim) = &append.claim {
            self.claim_command.push(command);
            self.claim_workspace.push(append.workspace_id);
            self.claim_key.push(&claim.key);
            self.claim_hash.push(&claim.request_hash);
        }
    }

    fn query(&self, generation: i32) -> sqlx::query::Query<'_, sqlx::Postgres, sqlx::postgres::PgArguments> {
        sqlx::query(BATCH)
            .bind(&self.command)
            .bind(&self.aggregate_type)
            .bind(&self.aggregate_id)
            .bind(&self.sequence)
            .bind(&self.event_type)
            .bind(&self.event_version)
            .bind(&self.payload)
            .bind(&self.metadata)
            .bind(&self.event_id)
            .bind(&self.workspace)
            .bind(generation)
            .bind(&self.claim_command)
            .bind(&self.claim_workspace)
            .bind(&self.claim_key)
            .bind(&self.claim_hash)
            .bind(&self.head_command)
            .bind(&self.head_type)
            .bind(&self.head_id)
            .bind(&self.head_first)
            .bind(&self.head_predecessor)
    }
}
