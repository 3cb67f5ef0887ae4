//! A network that swallows everything: no answer, no reset. Who waits on it is told, and the log goes on.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use event_store::{AppendError, DatabaseRole, EventStore, Options, connect_pool};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    sync::watch,
};

use crate::{all, append, id, open, postgres::Database, stream};

/// Name of the socket, as Postgres calls it.
const SOCKET: &str = ".s.PGSQL.5432";

/// Stands between a store and its Postgres. Connections that were made before `swallow` carry nothing any more.
struct Network {
    folder: tempfile::TempDir,
    swallowed: watch::Sender<u32>,
}

impl Network {
    fn before(server: PathBuf) -> Network {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join(SOCKET)).unwrap();
        let swallowed = watch::Sender::new(0);
        let signal = swallowed.clone();
        tokio::spawn(async move {
            loop {
                let (near, _) = listener.accept().await.unwrap();
                let far = UnixStream::connect(server.join(SOCKET)).await.unwrap();
                let (near_read, near_write) = near.into_split();
                let (far_read, far_write) = far.into_split();
                tokio::spawn(carry(near_read, far_write, signal.subscribe()));
                tokio::spawn(carry(far_read, near_write, signal.subscribe()));
            }
        });
        Network { folder, swallowed }
    }

    fn swallow(&self) {
        self.swallowed.send_modify(|n| *n += 1);
    }
}

async fn carry(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut swallowed: watch::Receiver<u32>,
) {
    let mut bytes = [0; 16 * 1024];
    loop {
        tokio::select! {
            // What comes after `swallow` is never carried, whichever is noticed first.
            biased;
            // Neither end is closed: nobody hears anything.
            _ = swallowed.changed() => std::future::pending::<()>().await,
            read = from.read(&mut bytes) => match read {
                Ok(0) | Err(_) => return,
                Ok(n) => if to.write_all(&bytes[..n]).await.is_err() { return },
            },
        }
    }
}

/// The folder of a database's socket, and the same database by another folder.
fn sockets(url: &str, other: &Path) -> (PathBuf, String) {
    let (_, host) = url.split_once("host=").unwrap();
    let host = host.split('&').next().unwrap();
    (PathBuf::from(host.replace("%2F", "/")), url.replace(host, &other.display().to_string()))
}

#[tokio::test]
async fn a_network_that_swallows_everything_holds_no_caller_for_long() {
    let database = Database::fresh().await;
    if !database.url.contains("host=") {
        eprintln!("skipped: this server is not reached by a socket");
        return;
    }
    let network = Network::before(sockets(&database.url, Path::new("")).0);
    let (_, url) = sockets(&database.url, network.folder.path());
    let pool = connect_pool(&url, DatabaseRole::Writer, 10).await.unwrap();
    // One lane: a second one would make its first connection when the first is silent, and that one carries.
    let store = EventStore::open(pool, Options { writers: 1, ..Options::default() }).await.unwrap();
    let known = id();
    store.append(append(vec![stream(known, 0, &["before"])])).await.unwrap();

    network.swallow();
    let begun = Instant::now();
    let told = store.append(append(vec![stream(id(), 0, &["swallowed"])])).await;
    assert!(matches!(told, Err(AppendError::Unavailable(_))), "{told:?}");
    // TCP would have waited for a quarter of an hour.
    assert!(begun.elapsed() < Duration::from_secs(40), "{:?}", begun.elapsed());

    // New connections carry: the lanes make some, and what was known before is checked anew.
    let after = loop {
        match store.append(append(vec![stream(known, 1, &["after"])])).await {
            Err(AppendError::Unavailable(_)) if begun.elapsed() < Duration::from_secs(90) => {}
            other => break other,
        }
    };
    after.unwrap();
    let direct = open(&database).await;
    let events = all(&direct).await;
    let of_known: Vec<i64> = events.iter().filter(|e| e.aggregate_id == known).map(|e| e.sequence).collect();
    assert_eq!(of_known, [1, 2]);
    assert_eq!(events.len(), 2, "what was told as unavailable never reached the server");
}
