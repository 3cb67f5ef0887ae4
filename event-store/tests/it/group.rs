//! Groups: partitions are shared, taken over, handled in order and never skipped.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use domain::event::{LogPosition, RecordedEvent};
use event_store::{EventStore, GroupError, GroupOptions, checkpoint, partition_of};
use sqlx::Executor;
use tokio::{sync::Notify, task::JoinHandle};
use uuid::Uuid;

use crate::{append, id, open, postgres::Database, stream};

const PATIENCE: Duration = Duration::from_secs(90);

fn quick() -> GroupOptions {
    GroupOptions {
        balance_every: Duration::from_millis(100),
        checkpoint_every: Duration::from_millis(50),
        ..GroupOptions::default()
    }
}

/// A partition that a member is at work on, until it is done or killed in the middle.
struct Busy(Arc<AtomicBool>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

/// What all members of a group have handled.
#[derive(Default)]
struct Book {
    /// Sequences of each aggregate, as they came.
    seen: Mutex<HashMap<Uuid, Vec<i64>>>,
    /// By partition: who handled it last.
    by: Mutex<BTreeMap<u32, usize>>,
    busy: Mutex<HashMap<u32, Arc<AtomicBool>>>,
    handled: AtomicUsize,
    overlaps: AtomicUsize,
}

impl Book {
    async fn note(&self, member: usize, partition: u32, events: &[Arc<RecordedEvent>]) {
        let busy = Busy(self.busy.lock().unwrap().entry(partition).or_default().clone());
        if busy.0.swap(true, Ordering::SeqCst) {
            self.overlaps.fetch_add(1, Ordering::SeqCst);
        }
        tokio::task::yield_now().await;
        for event in events {
            self.seen.lock().unwrap().entry(event.aggregate_id).or_default().push(event.sequence);
        }
        self.by.lock().unwrap().insert(partition, member);
        self.handled.fetch_add(events.len(), Ordering::SeqCst);
    }

    fn members(&self) -> BTreeMap<usize, usize> {
        let mut counts = BTreeMap::new();
        self.by.lock().unwrap().values().for_each(|member| *counts.entry(*member).or_default() += 1);
        counts
    }

    /// Every aggregate's events are there, in order; a crash may repeat some, from an earlier one on.
    fn check(&self, aggregates: &[Uuid], last: i64) {
        let seen = self.seen.lock().unwrap();
        for aggregate in aggregates {
            let sequences = &seen[aggregate];
            let mut next = 1;
            for sequence in sequences {
                assert!(*sequence <= next, "{aggregate}: {sequences:?}");
                next = sequence + 1;
            }
            assert_eq!(sequences.iter().max(), Some(&last));
            let unique: std::collections::BTreeSet<_> = sequences.iter().collect();
            assert_eq!(unique.len() as i64, last, "none missing");
        }
        assert_eq!(self.overlaps.load(Ordering::SeqCst), 0, "one member at a time");
    }
}

async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !done().await {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn start(store: &EventStore, partitions: u32, book: &Arc<Book>, number: usize) -> (JoinHandle<()>, Arc<Notify>) {
    let member = store.join_group("work", partitions, quick()).await.unwrap();
    let (book, stop) = (book.clone(), Arc::new(Notify::new()));
    let stopped = stop.clone();
    let handler = move |partition, events: Vec<Arc<RecordedEvent>>| {
        let book = book.clone();
        async move {
            book.note(number, partition, &events).await;
            Ok::<_, String>(())
        }
    };
    (tokio::spawn(async move { member.run(handler, stopped.notified()).await }), stop)
}

async fn add(store: &EventStore, aggregates: &[Uuid], sequence: i64) {
    for aggregate in aggregates {
        store.append(append(vec![stream(*aggregate, sequence - 1, &["e"])])).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_share_partitions_and_take_over_those_of_the_dead() {
    let database = Database::fresh().await;
    // A node each.
    let stores = [open(&database).await, open(&database).await, open(&database).await];
    let aggregates: Vec<Uuid> = (0..60).map(|_| id()).collect();
    let book = Arc::new(Book::default());
    let writer = &stores[0];
    let (first, _first_stop) = start(&stores[0], 6, &book, 0).await;
    add(writer, &aggregates, 1).await;
    let mut last = 1;
    // Whoever handles the newest events holds the partition.
    let balanced = async |want: &[(usize, usize)], last: &mut i64| {
        let want: BTreeMap<_, _> = want.iter().copied().collect();
        until(&format!("{want:?}, not {:?}", book.members()), async || {
            *last += 1;
            add(writer, &aggregates, *last).await;
            book.members() == want
        })
        .await;
    };
    balanced(&[(0, 6)], &mut last).await;
    let (second, second_stop) = start(&stores[1], 6, &book, 1).await;
    balanced(&[(0, 3), (1, 3)], &mut last).await;
    let (third, _third_stop) = start(&stores[2], 6, &book, 2).await;
    balanced(&[(0, 2), (1, 2), (2, 2)], &mut last).await;
    // One is killed: its session ends with it.
    third.abort();
    balanced(&[(0, 3), (1, 3)], &mut last).await;
    // One leaves in order.
    second_stop.notify_one();
    second.await.unwrap();
    balanced(&[(0, 6)], &mut last).await;
    until("the rest is handled", async || {
        let seen = book.seen.lock().unwrap();
        aggregates.iter().all(|a| seen.get(a).and_then(|s| s.last()) == Some(&last))
    })
    .await;
    book.check(&aggregates, last);
    first.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_partition_has_one_active_member_and_an_orderly_stop_repeats_nothing() {
    let database = Database::fresh().await;
    let (one, two) = (open(&database).await, open(&database).await);
    let aggregates = [id(), id()];
    let book = Arc::new(Book::default());
    let (first, stop) = start(&one, 1, &book, 0).await;
    add(&one, &aggregates, 1).await;
    until("the first works", async || book.handled.load(Ordering::SeqCst) == 2).await;
    let (second, stop_second) = start(&two, 1, &book, 1).await;
    add(&one, &aggregates, 2).await;
    until("the first goes on", async || book.handled.load(Ordering::SeqCst) == 4).await;
    assert_eq!(book.members(), BTreeMap::from([(0, 1)]), "the second stands by");
    stop.notify_one();
    first.await.unwrap();
    add(&one, &aggregates, 3).await;
    until("the second takes over", async || book.handled.load(Ordering::SeqCst) == 6).await;
    assert_eq!(book.members(), BTreeMap::from([(1, 1)]));
    stop_second.notify_one();
    second.await.unwrap();
    let at = checkpoint(one.pool(), "work/0").await.unwrap();
    assert_eq!(at, one.health().await.unwrap().end, "an orderly stop writes its checkpoint");
    book.check(&aggregates, 3);
    assert_eq!(book.handled.load(Ordering::SeqCst), 6, "nothing came twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_join_at_once_handle_everything_once() {
    let database = Database::fresh().await;
    let stores = [open(&database).await, open(&database).await, open(&database).await];
    let aggregates: Vec<Uuid> = (0..40).map(|_| id()).collect();
    let book = Arc::new(Book::default());
    add(&stores[0], &aggregates, 1).await;
    // Each begins to take partitions before it has seen all others.
    let members: Vec<_> = (0..6).map(|number| start(&stores[number % 3], 8, &book, number)).collect();
    let members = futures::future::join_all(members).await;
    for sequence in 2..=10 {
        add(&stores[0], &aggregates, sequence).await;
    }
    until("all is handled", async || book.handled.load(Ordering::SeqCst) >= 400).await;
    for (task, stop) in members {
        stop.notify_one();
        task.await.unwrap();
    }
    book.check(&aggregates, 10);
    // Nobody crashed, so partitions were handed over behind their checkpoints.
    assert_eq!(book.handled.load(Ordering::SeqCst), 400, "nothing came twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_or_panicking_handler_gets_the_same_events_again() {
    let database = Database::fresh().await;
    let store = open(&database).await;
    let aggregates: Vec<Uuid> = (0..20).map(|_| id()).collect();
    let bad = partition_of(aggregates[0], 4);
    let (book, fails) = (Arc::new(Book::default()), Arc::new(AtomicUsize::new(0)));
    let member = store.join_group("work", 4, quick()).await.unwrap();
    let (noted, counted) = (book.clone(), fails.clone());
    let handler = move |partition, events: Vec<Arc<RecordedEvent>>| {
        let (book, fails) = (noted.clone(), counted.clone());
        async move {
            if partition == bad {
                match fails.fetch_add(1, Ordering::SeqCst) {
                    0 | 2 => return Err("not now"),
                    1 => panic!("on purpose"),
                    _ => {}
                }
            }
            book.note(0, partition, &events).await;
            Ok(())
        }
    };
    let working = tokio::spawn(member.run(handler, std::future::pending()));
    add(&store, &aggregates, 1).await;
    let end = store.health().await.unwrap().end;
    until("all is handled", async || book.handled.load(Ordering::SeqCst) == 20).await;
    assert!(fails.load(Ordering::SeqCst) >= 4, "three times in vain");
    book.check(&aggregates, 1);
    for partition in 0..4 {
        let name = format!("work/{partition}");
        until("checkpoints follow", async || checkpoint(store.pool(), &name).await.unwrap() == end).await;
    }
    working.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_session_and_a_checkpoint_set_by_hand_are_survived() {
    let database = Database::fresh().await;
    let store = open(&database).await;
    let aggregates: Vec<Uuid> = (0..10).map(|_| id()).collect();
    let book = Arc::new(Book::default());
    let (working, _stop) = start(&store, 3, &book, 0).await;
    add(&store, &aggregates, 1).await;
    until("it works", async || book.handled.load(Ordering::SeqCst) >= 10).await;
    let mut owner = database.connect().await;
    let kill = "select pg_terminate_backend(l.pid) from pg_locks l join pg_database d on d.oid = l.database
                 where l.locktype = 'advisory' and l.mode = 'ShareLock' and d.datname = current_database()";
    assert_eq!(owner.execute(kill).await.unwrap().rows_affected(), 1);
    add(&store, &aggregates, 2).await;
    until("it works again", async || {
        let seen = book.seen.lock().unwrap();
        aggregates.iter().all(|a| seen[a].last() == Some(&2))
    })
    .await;
    // Whose session the server has ended works on until it notices: that its checkpoint does not count is what is sure.
    book.overlaps.store(0, Ordering::SeqCst);
    book.check(&aggregates, 2);
    // A checkpoint that was never written could not be set back.
    let end = store.health().await.unwrap().end;
    for partition in 0..3 {
        let name = format!("work/{partition}");
        until("checkpoints follow", async || checkpoint(store.pool(), &name).await.unwrap() == end).await;
    }
    // Set back by hand: the member notices when it writes, and begins again from there.
    let before = book.handled.load(Ordering::SeqCst);
    owner.execute("update log.checkpoints set transaction_id = '0', position = 0, generation = 0").await.unwrap();
    add(&store, &aggregates, 3).await;
    until("all comes again", async || book.handled.load(Ordering::SeqCst) >= before + 30).await;
    book.overlaps.store(0, Ordering::SeqCst);
    book.check(&aggregates, 3);
    working.abort();
}

#[tokio::test]
async fn the_number_of_partitions_is_fixed_and_the_start_is_chosen_once() {
    let database = Database::fresh().await;
    let store = open(&database).await;
    add(&store, &[id(), id()], 1).await;
    let end = store.health().await.unwrap().end;
    let from_the_end = GroupOptions { from: end, ..quick() };
    store.join_group("new", 4, from_the_end).await.unwrap();
    store.join_group("new", 4, GroupOptions { from: LogPosition::START, ..quick() }).await.unwrap();
    assert_eq!(checkpoint(store.pool(), "new/3").await.unwrap(), end);
    let refused = store.join_group("new", 5, from_the_end).await.err().expect("refused");
    assert!(matches!(refused, GroupError::Partitions { there: 4, asked: 5, .. }), "{refused}");
    assert!(matches!(store.join_group("new", 0, quick()).await, Err(GroupError::Empty)));
    // Another group whose name begins alike.
    store.join_group("new/er", 2, quick()).await.unwrap();
    store.join_group("new", 4, quick()).await.unwrap();
}
