//! The order's promise: what is delivered is the table, in its order, nothing twice and nothing missing, whatever
//! writers do. A million events with `APIQ_SOAK=1`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use domain::event::LogPosition;
use event_store::{EventStore, Follower};
use sqlx::Connection;
use tokio::sync::watch;

use crate::{
    append, id, open,
    postgres::Database,
    stream,
    writers::{Crowd, Size, insert},
};

/// Enough for a busy machine; without it a lost event would hang the test.
const PATIENCE: Duration = Duration::from_secs(300);

/// The table's positions in the log's order.
pub async fn table(store: &EventStore) -> Vec<i64> {
    let sql =
        "select coalesce(array_agg(position order by generation, transaction_id, position), '{}') from log.events";
    sqlx::query_scalar(sql).fetch_one(store.pool()).await.unwrap()
}

/// Follows up to `end`, once that is known; the places as they came, their number told in `progress`.
pub async fn collect(
    mut follower: Follower,
    max: usize,
    mut end: watch::Receiver<Option<LogPosition>>,
    progress: Arc<AtomicUsize>,
) -> Vec<LogPosition> {
    let mut seen: Vec<LogPosition> = Vec::new();
    while end.borrow().is_none_or(|end| follower.at() < end) {
        tokio::select! {
            batch = follower.next(max) => seen.extend(batch.unwrap().iter().map(|e| e.at)),
            changed = end.changed() => changed.unwrap(),
        }
        progress.store(seen.len(), Ordering::Relaxed);
    }
    seen
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
    let (end, known) = watch::channel(None);
    let progress = Arc::new(AtomicUsize::new(0));
    let crowd =
        Crowd::start(&database.url, &database.elsewhere(), &store, &progress, Size { writers: 28, events, batch })
            .await;

    // From the first moment on; the writers see to it that it stays near the end, where the order is in danger.
    let live = tokio::spawn(collect(store.follow(LogPosition::START), 1_000, known.clone(), progress.clone()));
    // It joins in the middle, and catches up while others write.
    let late = {
        let (store, known, progress) = (store.clone(), known.clone(), progress.clone());
        tokio::spawn(async move {
            reach(&progress, events as usize / 2).await;
            collect(store.follow(LogPosition::START), 500, known, Arc::default()).await
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
            seen.extend(collect(follower, 700, known, Arc::default()).await);
            seen
        })
    };
    let written = tokio::time::timeout(PATIENCE, crowd.finish()).await.expect("writers end") as usize;
    let wrote_for = begun.elapsed();
    end.send_replace(Some(last_word(&store).await));
    let table = table(&store).await;
    assert_eq!(table.len(), written + 1, "what was committed is there");
    for (name, task) in [("live", live), ("late", late), ("slow", slow)] {
        check(name, &tokio::time::timeout(PATIENCE, task).await.expect("it comes to the end").unwrap(), &table);
    }
    println!("{written} events, written in {wrote_for:.1?}, with three followers in {:.1?}", begun.elapsed());
}

/// An event behind all others.
pub async fn last_word(store: &EventStore) -> LogPosition {
    store.append(append(vec![stream(id(), 0, &["last"])])).await.unwrap().at
}

async fn reach(progress: &AtomicUsize, events: usize) {
    while progress.load(Ordering::Relaxed) < events {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
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
    let progress = Arc::new(AtomicUsize::new(0));
    let size = Size { writers: 28, events: 20_000, batch: 50 };
    let (end, known) = watch::channel(None);
    let naive = {
        let (pool, progress) = (store.pool().clone(), progress.clone());
        tokio::spawn(async move {
            let (mut last, mut seen, mut done) = (0, 0, false);
            loop {
                let sql = "select position from log.events where position > $1 order by position limit 1000";
                let batch: Vec<i64> = sqlx::query_scalar(sql).bind(last).fetch_all(&pool).await.unwrap();
                last = batch.last().copied().unwrap_or(last);
                seen += batch.len();
                progress.store(seen, Ordering::Relaxed);
                if batch.is_empty() && done {
                    return seen;
                }
                done = known.borrow().is_some();
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
    };
    let crowd = Crowd::start(&database.url, &database.elsewhere(), &store, &progress, size).await;
    let written = crowd.finish().await as usize + 11;
    held.commit().await.unwrap();
    end.send_replace(Some(last_word(&store).await));
    let missed = written - naive.await.unwrap();
    println!("by position alone {missed} of {written} events are missed");
    assert!(missed >= 10, "{missed}");
}
