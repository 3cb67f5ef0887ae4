//! Reading the log ahead of whoever works on it: while a page is worked on, the next one is read, and decoded beside.
//!
//! For readers with a backlog: a replay, a rebuild, a projector that catches up. At the log's end it reads just what is
//! asked for, when it is asked for.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use domain::event::{LogPosition, RecordedEvent};
use sqlx::PgPool;
use tokio::{sync::mpsc, task::JoinHandle};

use crate::read_after;

/// A page that was read and is being decoded: how many events were asked for, where it ends, its items.
struct Page<T> {
    asked: usize,
    end: LogPosition,
    items: JoinHandle<Vec<T>>,
}

type Pages<T> = mpsc::Receiver<Result<Page<T>, sqlx::Error>>;

/// One reader of the log, at a place of its own. `T` is what `decode` makes of an event.
pub struct ReadAhead<T> {
    pool: PgPool,
    generation: i32,
    at: LogPosition,
    decode: fn(RecordedEvent) -> T,
    /// Events a page: what the consumer asked for last.
    limit: Arc<AtomicUsize>,
    /// There while there is a backlog.
    pages: Option<Pages<T>>,
}

impl<T: Send + 'static> ReadAhead<T> {
    /// `pool`'s role may read the log; two of its connections are used at the most. `generation` as in `read_after`.
    pub fn new(pool: PgPool, generation: i32, from: LogPosition, decode: fn(RecordedEvent) -> T) -> Self {
        Self { pool, generation, at: from, decode, limit: Arc::default(), pages: None }
    }

    /// What comes next, about `limit` events, none at the log's end; and whether there are probably more.
    ///
    /// After an error it goes on at the same place.
    pub async fn next(&mut self, limit: usize) -> Result<(Vec<T>, bool), sqlx::Error> {
        let limit = limit.max(1);
        self.limit.store(limit, Relaxed);
        // Taken out meanwhile: whatever ends this call early, the next one reads on from `at`.
        if let Some(mut pages) = self.pages.take() {
            match pages.recv().await {
                Some(Ok(page)) => {
                    let items = page.items.await.map_err(|e| sqlx::Error::Protocol(e.to_string()))?;
                    self.at = page.end;
                    self.pages = Some(pages);
                    return Ok(full_or_not(items, page.asked));
                }
                Some(Err(error)) => return Err(error),
                // The reader has ended behind a page that was not full.
                None => {}
            }
        }
        let events = read(&self.pool, self.generation, self.at, limit).await?;
        let Some(last) = events.last() else { return Ok((Vec::new(), false)) };
        self.at = last.at;
        if events.len() >= limit {
            self.pages = Some(self.start());
        }
        Ok(full_or_not(events.into_iter().map(self.decode).collect(), limit))
    }

    /// The task ends with the backlog, or when nobody takes its pages any more.
    fn start(&self) -> Pages<T> {
        let (pages, taken) = mpsc::channel(1);
        let (pool, generation, decode, limit) = (self.pool.clone(), self.generation, self.decode, self.limit.clone());
        let mut at = self.at;
        tokio::spawn(async move {
            // A place first, then a page: one is read while one is worked on, and no more.
            while let Ok(place) = pages.reserve().await {
                let asked = limit.load(Relaxed);
                let events = match read(&pool, generation, at, asked).await {
                    Ok(events) => events,
                    Err(error) => return place.send(Err(error)),
                };
                let Some(last) = events.last() else { return };
                at = last.at;
                let full = events.len() >= asked;
                let items = tokio::spawn(async move { events.into_iter().map(decode).collect() });
                place.send(Ok(Page { asked, end: at, items }));
                if !full {
                    return;
                }
            }
        });
        taken
    }
}

fn full_or_not<T>(items: Vec<T>, asked: usize) -> (Vec<T>, bool) {
    let full = items.len() >= asked;
    (items, full)
}

async fn read(
    pool: &PgPool,
    generation: i32,
    after: LogPosition,
    limit: usize,
) -> Result<Vec<RecordedEvent>, sqlx::Error> {
    read_after(pool, generation, after, i64::try_from(limit).unwrap_or(i64::MAX)).await
}
