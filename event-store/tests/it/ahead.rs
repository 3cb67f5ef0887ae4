//! Reading ahead gives what reading does.

use std::collections::HashSet;

use domain::event::{LogPosition, RecordedEvent};
use event_store::{ReadAhead, read_after};

use crate::{all, append, id, open, postgres::Database, stream};

const EVENTS: usize = 500;

fn place(event: RecordedEvent) -> LogPosition {
    event.at
}

#[tokio::test]
async fn read_ahead_gives_every_event_once_in_order_whatever_is_asked_for() {
    let database = Database::fresh().await;
    let store = open(&database).await;
    for _ in 0..EVENTS / 2 {
        store.append(append(vec![stream(id(), 0, &["a", "b"])])).await.unwrap();
    }
    let mut log = ReadAhead::new(store.pool().clone(), store.generation(), LogPosition::START, place);
    let mut seen = Vec::new();
    let mut said_to_be_more = HashSet::new();
    for limit in (1..).map(|n| 1 + n * 7 % 50) {
        let (places, more) = log.next(limit).await.unwrap();
        // A page that was read ahead has the size that was asked for the time before.
        assert!(places.len() <= 50);
        said_to_be_more.insert(more);
        if places.is_empty() {
            break;
        }
        seen.extend(places);
    }
    let table = || async { all(&store).await.into_iter().map(place).collect::<Vec<_>>() };
    assert_eq!(seen, table().await);
    assert_eq!(said_to_be_more.len(), 2, "more until the end, then no more");

    // It goes on where it was, when there is something again.
    store.append(append(vec![stream(id(), 0, &["late"])])).await.unwrap();
    let (places, more) = log.next(100).await.unwrap();
    seen.extend(places);
    assert_eq!((seen.clone(), more), (table().await, false));
}

#[tokio::test]
async fn after_an_error_read_ahead_goes_on_at_the_same_place() {
    let database = Database::fresh().await;
    let store = open(&database).await;
    for _ in 0..20 {
        store.append(append(vec![stream(id(), 0, &["a", "b", "c"])])).await.unwrap();
    }
    // Only this reader uses it.
    let pool = database.pool("apiq_auditor").await;
    let mut log = ReadAhead::new(pool.clone(), store.generation(), LogPosition::START, place);
    let (mut seen, more) = log.next(5).await.unwrap();
    assert!(more);
    pool.close().await;
    // What was read before the pool was closed is still given; then it says so, and never skips.
    let error = loop {
        match log.next(5).await {
            Ok((places, _)) => seen.extend(places),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, sqlx::Error::PoolClosed), "{error}");
    let whole = read_after(store.pool(), store.generation(), LogPosition::START, 1_000).await.unwrap();
    let first: Vec<_> = whole.into_iter().map(place).take(seen.len()).collect();
    assert_eq!(seen, first);
    assert!(seen.len() < 60);
}
