//! A crowd of writers for tests of the order: transactions of many sizes, rolled back, held open, and the store's own.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};
use std::time::Duration;

use event_store::EventStore;
use sqlx::{Connection, PgConnection};
use tokio::task::JoinSet;

use crate::{append, id, stream};

/// Events in the name of the log's current generation.
const INSERT: &str =
    "insert into log.events (generation, workspace_id, aggregate_type, aggregate_id, sequence, event_type,
        event_version, payload, metadata, event_id)
    select (select generation from log.cluster), gen_random_uuid(), 'organization', gen_random_uuid(), 1,
           'organization.created', '1', '{\"name\":\"n\"}', '{}', gen_random_uuid()
      from generate_series(1, $1)";

pub async fn insert(connection: &mut PgConnection, events: i32) {
    sqlx::query(INSERT).bind(events).execute(connection).await.unwrap();
}

/// Writers at work.
pub struct Crowd {
    writers: JoinSet<u64>,
    others: JoinSet<()>,
}

/// Repeatable chance.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// How much a crowd writes: about `events`, `batch` in a transaction at most.
#[derive(Clone, Copy)]
pub struct Size {
    pub writers: u64,
    pub events: u64,
    pub batch: u64,
}

/// How far the writers are, and the reader they keep company: order is in danger only where both meet.
#[derive(Clone)]
struct Company {
    left: Arc<AtomicU64>,
    written: Arc<AtomicUsize>,
    read: Arc<AtomicUsize>,
    distance: usize,
}

impl Company {
    /// Lets the reader come near, for a while: one that misses events never does.
    async fn wait(&self) {
        for _ in 0..200 {
            if self.written.load(Ordering::Relaxed) < self.read.load(Ordering::Relaxed) + self.distance {
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

impl Crowd {
    /// `size.writers` connections; one transaction in ten rolls back, one in twenty is held open. Four more append by the
    /// store, and one holds transactions in another database of the server (`elsewhere`) all the time. They stay near a
    /// reader who counts in `read`.
    pub async fn start(url: &str, elsewhere: &str, store: &EventStore, read: &Arc<AtomicUsize>, size: Size) -> Crowd {
        let company = Company {
            left: Arc::new(AtomicU64::new(size.events)),
            written: Arc::default(),
            read: read.clone(),
            distance: size.batch as usize * 20,
        };
        let mut crowd = Crowd { writers: JoinSet::new(), others: JoinSet::new() };
        for seed in 0..size.writers {
            let connection = PgConnection::connect(url).await.unwrap();
            crowd.writers.spawn(write(connection, Dice(seed), company.clone(), size.batch));
        }
        for _ in 0..4 {
            let (store, company) = (store.clone(), company.clone());
            crowd.writers.spawn(async move {
                let mut written = 0;
                while company.left.load(Ordering::Relaxed) > 0 {
                    company.wait().await;
                    company.written.fetch_add(3, Ordering::Relaxed);
                    store.append(append(vec![stream(id(), 0, &["a", "b"]), stream(id(), 0, &["c"])])).await.unwrap();
                    written += 3;
                }
                written
            });
        }
        let mut holder = PgConnection::connect(elsewhere).await.unwrap();
        crowd.others.spawn(async move {
            loop {
                let mut transaction = holder.begin().await.unwrap();
                let hold = "select pg_current_xact_id(), pg_sleep(0.15)";
                sqlx::query(hold).execute(&mut *transaction).await.unwrap();
                transaction.commit().await.unwrap();
            }
        });
        crowd
    }

    /// Waits for the writers; how many events they have committed.
    pub async fn finish(mut self) -> u64 {
        let mut written = 0;
        while let Some(done) = self.writers.join_next().await {
            written += done.unwrap();
        }
        self.others.shutdown().await;
        written
    }
}

async fn write(mut connection: PgConnection, mut dice: Dice, company: Company, batch: u64) -> u64 {
    let mut written = 0;
    loop {
        let events = 1 + dice.roll(batch);
        company.wait().await;
        let before =
            company.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| Some(n.saturating_sub(events)));
        if before.unwrap() == 0 {
            return written;
        }
        let mut transaction = connection.begin().await.unwrap();
        insert(&mut transaction, events as i32).await;
        match dice.roll(40) {
            // Time for others to commit in between, or behind.
            0 => drop(sqlx::query("select pg_sleep(0.1)").execute(&mut *transaction).await.unwrap()),
            1 => {
                sqlx::query("select pg_sleep(0.02)").execute(&mut *transaction).await.unwrap();
                insert(&mut transaction, 1).await;
                written += 1;
            }
            2..6 => {
                transaction.rollback().await.unwrap();
                // What did not happen is to be written by somebody.
                company.left.fetch_add(events, Ordering::Relaxed);
                continue;
            }
            _ => {}
        }
        transaction.commit().await.unwrap();
        written += events;
        company.written.fetch_add(events as usize, Ordering::Relaxed);
    }
}
