//! Inserting a batch by COPY: the least work for Postgres, for each event.
//!
//! COPY tells no positions and fails as a whole on one duplicate. So positions are drawn before, predecessors are looked
//! up before, and whatever fails is done again by statement. A connection whose COPY did not end well is closed, never
//! used again: what it still has to say would be taken for the answer to something else.

use std::collections::HashSet;

use bytes::{BufMut, BytesMut};
use sqlx::{Connection, PgConnection, Row};
use uuid::Uuid;

use super::{Outcome, statement::place};
use crate::{Append, AppendError, Appended, append::StreamKey};

const COPY: &str = "copy log.events (generation, position, workspace_id, aggregate_type, aggregate_id, sequence, \
     event_type, event_version, payload, metadata, event_id) from stdin (format binary)";
const COLUMNS: i16 = 11;
/// Draws positions, and tells which of the looked-up predecessors are not there.
const PREPARE: &str = "select \
     (select array_agg(nextval('log.event_position')) from generate_series(1, $1)) as positions, \
     (select array_agg(k.n) from unnest($2::text[], $3::uuid[], $4::int8[], $5::uuid[]) with ordinality \
                                   as k (t, i, s, p, n) \
       where 0 = (select count(*) from log.events e \
                   where e.aggregate_type = k.t and e.aggregate_id = k.i and e.sequence = k.s \
                     and (k.p is null or e.event_id = k.p))) as missing";
/// Tells the transaction of an event that was just committed, and draws positions for the next batch.
const CONFIRM: &str = "select transaction_id::text as xid, \
     (select array_agg(nextval('log.event_position')) from generate_series(1, $4)) as positions \
     from log.events where aggregate_type = $1 and aggregate_id = $2 and sequence = $3";

/// Positions drawn and not used yet. A crash loses them: positions may have holes, they never come twice.
#[derive(Default)]
pub(super) struct Positions(Vec<i64>);

impl Positions {
    fn add(&mut self, drawn: Option<Vec<i64>>) {
        self.0.extend(drawn.unwrap_or_default());
        // Taken from the end, ascending.
        self.0.sort_unstable_by(|a, b| b.cmp(a));
    }
}

/// One batch on its way in. `unknown` holds the streams whose predecessors must be looked up.
///
/// The predecessors are seen committed before the COPY's transaction takes its id, which keeps every stream in the order
/// of the log. An error of the database's leaves nothing written; after any other one that is unknown.
pub(super) async fn copy(
    db: &mut PgConnection,
    generation: i32,
    appends: &[&Append],
    unknown: &HashSet<StreamKey>,
    positions: &mut Positions,
) -> Result<Vec<Outcome>, sqlx::Error> {
    let refused = prepare(db, appends, unknown, positions).await?;
    let mut outcomes: Vec<Option<Outcome>> = appends.iter().map(|_| None).collect();
    for index in refused {
        outcomes[index] = Some(Err(AppendError::Conflict));
    }
    let claims = appends.iter().zip(&outcomes).any(|(a, o)| o.is_none() && a.claim.is_some());
    if claims {
        let mut tx = db.begin().await?;
        for index in claim(&mut tx, appends, &outcomes).await? {
            outcomes[index] = Some(Err(AppendError::KeyTaken));
        }
        insert(&mut tx, generation, appends, &mut outcomes, positions).await?;
        tx.commit().await?;
    } else {
        insert(db, generation, appends, &mut outcomes, positions).await?;
    }
    confirm(db, appends, &mut outcomes, positions).await.map_err(after_commit)?;
    Ok(outcomes.into_iter().map(|o| o.unwrap_or(Err(AppendError::Conflict))).collect())
}

/// The batch is written by now, so nothing that goes wrong is a refusal of it.
fn after_commit(error: sqlx::Error) -> sqlx::Error {
    sqlx::Error::Protocol(format!("the batch is committed, its transaction could not be asked for: {error}"))
}

/// Gives the commands of which a predecessor is missing.
async fn prepare(
    db: &mut PgConnection,
    appends: &[&Append],
    unknown: &HashSet<StreamKey>,
    positions: &mut Positions,
) -> Result<HashSet<usize>, sqlx::Error> {
    let needed = appends.iter().map(|a| a.events()).sum::<usize>().saturating_sub(positions.0.len());
    let mut commands = Vec::new();
    let (mut types, mut ids, mut sequences) = (Vec::<&str>::new(), Vec::<Uuid>::new(), Vec::<i64>::new());
    let mut events = Vec::<Option<Uuid>>::new();
    for (index, append) in appends.iter().enumerate() {
        for stream in append.streams.iter().filter(|s| s.expected > 0 && unknown.contains(&s.key())) {
            commands.push(index);
            types.push(stream.aggregate_type);
            ids.push(stream.aggregate_id);
            sequences.push(stream.expected);
            events.push(stream.predecessor);
        }
    }
    if needed == 0 && commands.is_empty() {
        return Ok(HashSet::new());
    }
    let query = sqlx::query(PREPARE).bind(needed as i64).bind(types).bind(ids).bind(sequences).bind(events);
    let row = query.fetch_one(db).await?;
    positions.add(row.try_get("positions")?);
    let missing: Option<Vec<i64>> = row.try_get("missing")?;
    // `with ordinality` counts from 1.
    let command = |n: &i64| usize::try_from(*n - 1).ok().and_then(|n| commands.get(n)).copied();
    Ok(missing.unwrap_or_default().iter().filter_map(command).collect())
}

/// Takes the idempotency keys; gives the commands whose key was taken before.
async fn claim(
    db: &mut PgConnection,
    appends: &[&Append],
    outcomes: &[Option<Outcome>],
) -> Result<Vec<usize>, sqlx::Error> {
    let mut wanted: Vec<(Uuid, &str, &str, usize)> = Vec::new();
    for (index, append) in appends.iter().enumerate() {
        if let (Some(claim), None) = (&append.claim, &outcomes[index]) {
            wanted.push((append.workspace_id, &claim.key, &claim.request_hash, index));
        }
    }
    // Sorted, so that two nodes never wait for each other.
    wanted.sort_unstable();
    let taken: Vec<(Uuid, String)> = sqlx::query_as(
        "insert into log.idempotency_keys (workspace_id, key, request_hash)
         select * from unnest($1::uuid[], $2::text[], $3::text[])
         on conflict (workspace_id, key) do nothing returning workspace_id, key",
    )
    .bind(wanted.iter().map(|w| w.0).collect::<Vec<_>>())
    .bind(wanted.iter().map(|w| w.1).collect::<Vec<_>>())
    .bind(wanted.iter().map(|w| w.2).collect::<Vec<_>>())
    .fetch_all(db)
    .await?;
    let mut taken: HashSet<(Uuid, &str)> = taken.iter().map(|(w, k)| (*w, k.as_str())).collect();
    // Two commands of one batch with the same key: the first has it.
    Ok(wanted.iter().filter(|w| !taken.remove(&(w.0, w.1))).map(|w| w.3).collect())
}

/// Writes what has no outcome yet, and notes each command's position.
async fn insert(
    db: &mut PgConnection,
    generation: i32,
    appends: &[&Append],
    outcomes: &mut [Option<Outcome>],
    positions: &mut Positions,
) -> Result<(), sqlx::Error> {
    let mut body = Body::new();
    // Sorted by stream: two nodes that write the same streams must not wait for each other in a circle.
    let mut streams: Vec<(usize, usize)> = Vec::new();
    for (index, append) in appends.iter().enumerate().filter(|(i, _)| outcomes[*i].is_none()) {
        streams.extend((0..append.streams.len()).map(|s| (index, s)));
    }
    streams.sort_unstable_by_key(|(a, s)| appends[*a].streams[*s].key());
    let mut placed: Vec<(usize, i64)> = Vec::with_capacity(appends.len());
    for (index, stream) in streams {
        let append = appends[index];
        let stream = &append.streams[stream];
        for (offset, event) in (1i64..).zip(&stream.events) {
            let position = positions.0.pop().ok_or_else(|| sqlx::Error::Protocol("no position was drawn".into()))?;
            body.row(generation, position, append, stream.key(), stream.expected + offset, event);
            placed.push((index, position));
        }
    }
    if placed.is_empty() {
        return Ok(());
    }
    let mut copy = db.copy_in_raw(COPY).await?;
    copy.send(body.finish()).await?;
    copy.finish().await?;
    for (index, position) in placed {
        let at = place(generation, "0", position)?;
        match &mut outcomes[index] {
            Some(Ok(appended)) => appended.at = appended.at.max(at),
            empty => *empty = Some(Ok(Appended { at })),
        }
    }
    Ok(())
}

/// All of the batch is one transaction: asked for one event, known for all.
async fn confirm(
    db: &mut PgConnection,
    appends: &[&Append],
    outcomes: &mut [Option<Outcome>],
    positions: &mut Positions,
) -> Result<(), sqlx::Error> {
    let Some(first) = outcomes.iter().position(|o| matches!(o, Some(Ok(_)))) else { return Ok(()) };
    let stream = &appends[first].streams[0];
    let likely: usize = appends.iter().map(|a| a.events()).sum();
    let row = sqlx::query(CONFIRM)
        .bind(stream.aggregate_type)
        .bind(stream.aggregate_id)
        .bind(stream.expected + 1)
        .bind(likely.saturating_sub(positions.0.len()) as i64)
        .fetch_one(db)
        .await?;
    let xid: u64 = row.try_get::<&str, _>("xid")?.parse().map_err(|e| sqlx::Error::Decode(Box::new(e)))?;
    positions.add(row.try_get("positions")?);
    for appended in outcomes.iter_mut().flatten().flatten() {
        appended.at.transaction_id = xid;
    }
    Ok(())
}

/// The binary form of COPY: a header, rows of length-prefixed fields, a trailer.
struct Body(BytesMut);

impl Body {
    fn new() -> Self {
        let mut bytes = BytesMut::with_capacity(64 * 1024);
        bytes.put_slice(b"PGCOPY\n\xff\r\n\0");
        // No flags, no header extension.
        bytes.put_u64(0);
        Self(bytes)
    }

    fn row(
        &mut self,
        generation: i32,
        position: i64,
        append: &Append,
        (aggregate_type, aggregate_id): StreamKey,
        sequence: i64,
        event: &crate::NewEvent,
    ) {
        self.0.put_i16(COLUMNS);
        self.field(&generation.to_be_bytes());
        self.field(&position.to_be_bytes());
        self.field(append.workspace_id.as_bytes());
        self.field(aggregate_type.as_bytes());
        self.field(aggregate_id.as_bytes());
        self.field(&sequence.to_be_bytes());
        self.field(event.event_type.as_bytes());
        self.field(event.event_version.as_bytes());
        self.field(event.payload.as_bytes());
        self.field(append.metadata.as_bytes());
        self.field(event.event_id.as_bytes());
    }

    fn field(&mut self, bytes: &[u8]) {
        // Far below 2 GiB: a payload has a cap.
        self.0.put_i32(bytes.len() as i32);
        self.0.put_slice(bytes);
    }

    fn finish(mut self) -> BytesMut {
        self.0.put_i16(-1);
        self.0
    }
}
