//! The order's promise: what is delivered is the table, in its order, nothing twice and nothing missing, whatever
//! writers do. A million events with `APIQ_SOAK=1`.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use domain::event::LogPosition;
use event_store::{EventStore, Follower};
use sqlx::Connection;
use tokio::sync::watch;

use crate::{
    open,
    postgres::Database,
    writers::{Crowd, insert},
};

/// Enough for a busy machine; without it a lost event would hang the test.
const PATIENCE: Duration = Duration::from_secs(300);

/// The table's positions in the log's order.
pub async fn table(store: &EventStore) -> Vec<i64> {
    let sql =
        "select coalesce(array_agg(position order by generation, transaction_id, position), '{}') from log.events";
    sqlx::query_scalar(sql).fetch_one(store.pool()).await.unwrap()
}

/// Follows until `total` is known and reached; the positions as they came.
pub async fn collect(
    mut follower: Follower,
    max: usize,
    mut total: watch::Receiver<Option<usize>>,
) -> Vec<LogPosition> {
    let mut seen: Vec<LogPosition> = Vec::new();
    loop {
        if total.borrow().is_some_and(|total| seen.len() >= total) {
            return seen;
        }
        tokio::select! {
            batch = follower.next(max) => seen.extend(batch.unwrap().iter().map(|e| e.at)),
            changed = total.changed() => changed.unwrap(),
        }
    }
}

/// Strictly rising, and the same as the table.
pub fn check(name: &str, seen: &[LogPosition], table: &[i64]) {
    assert!(seen.windows(2).all(|w| w[0] < w[1]), "{name}: the order must be strict");
    let positions: Vec<i64> = seen.iter().map(|at| at.position).collect();
    assert_eq!(positions.len(), table.len(), "{name}: as many as there are");
    assert!(positions == table, "{name}: delivered is not the table");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delivered_is_the_table_with_32_writers() {
    let soak = std::env::var("APIQ_SOAK").is_ok();
    let (events, batch) = if soak { (1_000_000, 400) } else { (200_000, 200) };
    let database = Database::fresh().await;
    let store = open(&database).await;
    let begun = Instant::now();
    let (total, known) = watch::channel(None);
    let progress = std::sync::Arc::new(AtomicUsize::new(0));
    let crowd = Crowd::start(&database.url, &database.elsewhere(), &store, 28, events, batch).await;

    // From the first moment on.
    let live = {
        let (mut follower, mut total, progress) = (store.follow(LogPosition::START), known.clone(), progress.clone());
        tokio::spawn(async move {
            let mut seen: Vec<LogPosition> = Vec::new();
            while !total.borrow().is_some_and(|total| seen.len() >= total) {
                tokio::select! {
                    batch = follower.next(1_000) => seen.extend(batch.unwrap().iter().map(|e| e.at)),
                    changed = total.changed() => changed.unwrap(),
                }
                progress.store(seen.len(), Ordering::Relaxed);
            }
            (seen, begun.elapsed())
        })
    };
    // It joins in the middle, and catches up while others write.
    let late = {
        let (store, known, progress) = (store.clone(), known.clone(), progress.clone());
        tokio::spawn(async move {
            reach(&progress, events as usize / 2).await;
            collect(store.follow(LogPosition::START), 500, known).await
        })
    };
    // It takes a little and rests until the ring has left it behind, three times.
    let slow = {
        let (mut follower, known, progress) = (store.follow(LogPosition::START), known.clone(), progress.clone());
        tokio::spawn(async move {
            let mut seen: Vec<LogPosition> = Vec::new();
            for part in 1..=3 {
                seen.extend(follower.next(100).await.unwrap().iter().map(|e| e.at));
                reach(&progress, events as usize * part / 4).await;
            }
            seen.extend(collect(follower, 700, minus(known, seen.len())).await);
            seen
        })
    };
    let written = tokio::time::timeout(PATIENCE, crowd.finish()).await.expect("writers end") as usize;
    let wrote_for = begun.elapsed();
    let table = table(&store).await;
    assert_eq!(table.len(), written, "what was committed is there");
    total.send_replace(Some(written));
    let (seen, live_for) = tokio::time::timeout(PATIENCE, live).await.expect("the live follower gets all").unwrap();
    check("live", &seen, &table);
    check("late", &tokio::time::timeout(PATIENCE, late).await.expect("the late follower gets all").unwrap(), &table);
    check("slow", &tokio::time::timeout(PATIENCE, slow).await.expect("the slow follower gets all").unwrap(), &table);
    println!(
        "{written} events: written in {wrote_for:.1?}, followed live in {live_for:.1?}, all followers in {:.1?}",
        begun.elapsed()
    );
}

async fn reach(progress: &AtomicUsize, events: usize) {
    while progress.load(Ordering::Relaxed) < events {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The total for one who has some already.
fn minus(mut total: watch::Receiver<Option<usize>>, seen: usize) -> watch::Receiver<Option<usize>> {
    let (rest, known) = watch::channel(None);
    tokio::spawn(async move {
        if let Ok(total) = total.wait_for(Option::is_some).await {
            rest.send_replace(total.map(|total| total - seen));
        }
        rest.closed().await;
    });
    known
}

/// The same crowd, read by position alone: what this store's order is for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_by_position_alone_misses_events() {
    let database = Database::fresh().await;
    let store = open(&database).await;
    let mut owner = database.connect().await;
    sqlx::query("create unique index on log.events (position)").execute(&mut owner).await.unwrap();
    // One that is certain to be overtaken: it has its positions, and commits behind others.
    let mut held = owner.begin().await.unwrap();
    insert(&mut held, 10).await;
    let crowd = Crowd::start(&database.url, &database.elsewhere(), &store, 28, 20_000, 50).await;
    let (total, known) = watch::channel(None);
    let follower = tokio::spawn(collect(store.follow(LogPosition::START), 1_000, known.clone()));
    let naive = {
        let pool = store.pool().clone();
        tokio::spawn(async move {
            let (mut last, mut seen, mut done) = (0, 0, false);
            loop {
                let sql = "select position from log.events where position > $1 order by position limit 1000";
                let batch: Vec<i64> = sqlx::query_scalar(sql).bind(last).fetch_all(&pool).await.unwrap();
                last = batch.last().copied().unwrap_or(last);
                seen += batch.len();
                if batch.is_empty() && done {
                    return seen;
                }
                done = known.borrow().is_some();
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
    };
    let written = crowd.finish().await as usize + 10;
    held.commit().await.unwrap();
    total.send_replace(Some(written));
    let missed = written - naive.await.unwrap();
    println!("by position alone {missed} of {written} events are missed");
    assert!(missed >= 10, "{missed}");
    let seen = tokio::time::timeout(PATIENCE, follower).await.expect("the follower gets all").unwrap();
    check("follower", &seen, &table(&store).await);
}
