//! The benchmark's own hand in the database, as its owner: rows made by SQL, counts, checkpoints, databases.

use std::time::{Duration, Instant};

use sqlx::{Connection, Executor, PgConnection};
use uuid::Uuid;

use super::{fault, store};

/// Rows that one statement makes.
const CHUNK: i64 = 100_000;
/// Events of a stream that SQL makes.
pub const STREAM: i64 = 20;
/// No consumer makes no progress for this long.
const PATIENCE: Duration = Duration::from_secs(60);

pub async fn connect(url: &str) -> Result<PgConnection, String> {
    PgConnection::connect(url).await.map_err(fault)
}

pub async fn run(url: &str, sql: &str) -> Result<(), String> {
    let mut db = connect(url).await?;
    db.execute(sql).await.map_err(fault)?;
    db.close().await.map_err(fault)
}

/// Another database on the same server, migrated and empty; its URL.
pub async fn another(url: &str, name: &str) -> Result<String, String> {
    run(url, &format!("create database {name}")).await?;
    let (server, _) = url.rsplit_once('/').ok_or("the database's URL has no path")?;
    let url = format!("{server}/{name}");
    event_store::migrate(&url, false).await.map_err(fault)?;
    Ok(url)
}

/// A place in the log's order: everything appended from now on is not before it.
pub async fn mark(db: &mut PgConnection) -> Result<String, String> {
    sqlx::query_scalar("select pg_snapshot_xmax(pg_current_snapshot())::text").fetch_one(db).await.map_err(fault)
}

/// Workflow events appended since a mark.
pub async fn stored_since(db: &mut PgConnection, mark: &str) -> Result<i64, String> {
    let sql = "select count(*) from log.events where transaction_id >= $1::text::xid8 and aggregate_type = 'workflow'
                  and generation = (select generation from log.cluster)";
    sqlx::query_scalar(sql).bind(mark).fetch_one(db).await.map_err(fault)
}

/// Nobody pays for the pages that another one made dirty.
pub async fn checkpoint(db: &mut PgConnection) -> Result<(), String> {
    db.execute("checkpoint").await.map_err(fault).map(|_| ())
}

/// Waits until projector and relay have taken everything; gives how long that took. The dispatcher's sweep is behind
/// by design.
pub async fn drain(db: &mut PgConnection) -> Result<Duration, String> {
    let began = Instant::now();
    let (mut last, mut moved) = (String::new(), Instant::now());
    loop {
        let behind: Vec<(String, String)> = sqlx::query_as(
            "select c.name, c.position::text from log.checkpoints c,
                    (select generation, transaction_id, position from log.events
                      order by generation desc, transaction_id desc, position desc limit 1) as e
              where (c.generation, c.transaction_id, c.position) < (e.generation, e.transaction_id, e.position)
                and c.name not like 'dispatcher%' order by 1",
        )
        .fetch_all(&mut *db)
        .await
        .map_err(fault)?;
        if behind.is_empty() {
            break;
        }
        let state = format!("{behind:?}");
        if state != last {
            (last, moved) = (state, Instant::now());
        }
        if moved.elapsed() > PATIENCE {
            return Err(format!("the lag does not go: {last}"));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let aside: i64 = sqlx::query_scalar("select count(*) from log.quarantine").fetch_one(db).await.map_err(fault)?;
    if aside == 0 { Ok(began.elapsed()) } else { Err(format!("{aside} events were set aside")) }
}

/// Streams of `STREAM` events each, made by SQL; their ids.
pub async fn streams(db: &mut PgConnection, count: usize) -> Result<Vec<Uuid>, String> {
    let ids: Vec<Uuid> = (0..count).map(|_| store::new_id()).collect();
    let (created, updated) = store::payloads()?;
    sqlx::query(
        "insert into log.events (generation, workspace_id, aggregate_type, aggregate_id, sequence, event_type,
                                 event_version, payload, metadata, event_id)
         select (select generation from log.cluster), '00000000-0000-0000-0000-000000000001', 'workflow', s.id, n,
                case when n = 1 then 'workflow.created' else 'workflow.updated' end, '1',
                case when n = 1 then $2 else $3 end::json, $4::json, gen_random_uuid()
           from unnest($1::uuid[]) as s (id), generate_series(1, $5) n order by s.id, n",
    )
    .bind(&ids)
    .bind(created)
    .bind(updated)
    .bind(store::metadata())
    .bind(STREAM)
    .execute(&mut *db)
    .await
    .map_err(fault)?;
    Ok(ids)
}

/// A log as years leave it: `rows` events in streams of `STREAM`, ids in the order of time, ending now.
pub async fn history(db: &mut PgConnection, rows: i64, say: bool) -> Result<(), String> {
    let (created, updated) = store::payloads()?;
    let began = Instant::now();
    let mut done = 0;
    while done < rows {
        let chunk = CHUNK.min(rows - done);
        // A millisecond a stream, counted back from now, so that what comes later is later.
        sqlx::query(
            "insert into log.events (generation, workspace_id, aggregate_type, aggregate_id, sequence, event_type,
                                     event_version, payload, metadata, event_id)
             select (select generation from log.cluster), '00000000-0000-0000-0000-000000000001', 'workflow', s.id, n,
                    case when n = 1 then 'workflow.created' else 'workflow.updated' end, '1',
                    case when n = 1 then $3 else $4 end::json, $5::json, gen_random_uuid()
               from generate_series(1, $6) n,
                    (select (lpad(to_hex((extract(epoch from now()) * 1000)::bigint - ($2 - $1) / $6 + i), 12, '0')
                             || '7' || substr(h, 1, 3) || '8' || substr(h, 4, 15))::uuid as id
                       from (select i, md5(i::text || 'x' || $1::text) as h
                               from generate_series(1, $7 / $6) i offset 0) as numbered offset 0) as s
              order by n, s.id",
        )
        .bind(done)
        .bind(rows)
        .bind(&created)
        .bind(&updated)
        .bind(store::metadata())
        .bind(STREAM)
        .bind(chunk)
        .execute(&mut *db)
        .await
        .map_err(fault)?;
        done += chunk;
        if say && done % (5 * CHUNK) == 0 {
            eprintln!("    {done} of {rows} rows made, {} s", began.elapsed().as_secs());
        }
    }
    db.execute("vacuum analyze log.events").await.map_err(fault)?;
    checkpoint(db).await
}
