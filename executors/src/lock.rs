//! Advisory locks: which executors live, and which node has a role that must be one.
//!
//! They live on dedicated connections: the lock is gone the moment its process is.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};
use sqlx::{ConnectOptions, Connection, Executor, PgConnection, PgPool, postgres::PgConnectOptions};

/// How often a held lock's connection is tried.
const PING: Duration = Duration::from_secs(1);
/// A lock must be seen free for this long before its holder counts as gone: a connection that was cut comes back sooner.
const GRACE: Duration = Duration::from_secs(4);

fn key(name: &str) -> i64 {
    let digest = Sha256::digest(name.as_bytes());
    let mut bytes = [0u8; 8];
    bytes.copy_from_slice(&digest[..8]);
    i64::from_be_bytes(bytes)
}

async fn connect(url: &str) -> Result<PgConnection, sqlx::Error> {
    let mut connection = url.parse::<PgConnectOptions>()?.application_name("apiq-lock").connect().await?;
    connection.execute(event_store::VANISHED).await?;
    Ok(connection)
}

/// Names remembered at most; forgetting one only makes it wait again.
const REMEMBERED: usize = 1_000;

/// This process's sign of life, under its executor name.
#[derive(Clone)]
pub struct Liveness {
    name: String,
    pool: PgPool,
    /// Since when the lock of a name was seen free, at every look.
    free_since: Arc<Mutex<HashMap<String, Instant>>>,
}

impl Liveness {
    /// Holds the lock until the process ends, through reconnects: what is under way at shutdown is still its own.
    pub async fn start(url: &str, name: String, pool: PgPool) -> Result<Self, sqlx::Error> {
        let mut connection = hold(url, &name).await?;
        let (url, held) = (url.to_owned(), name.clone());
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(PING).await;
                if connection.ping().await.is_err() {
                    // Others may take over meanwhile; their appends fence ours.
                    match hold(&url, &held).await {
                        Ok(again) => connection = again,
                        Err(error) => tracing::warn!(%error, "this executor's sign of life is lost"),
                    }
                }
            }
        });
        Ok(Self { name, pool, free_since: Arc::default() })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Has nobody had the lock of this name for a while? `false` when it cannot be told. Ask again and again.
    pub async fn is_gone(&self, name: &str) -> bool {
        if name == self.name {
            return false;
        }
        let free = sqlx::query_scalar::<_, bool>(
            "select case when pg_try_advisory_lock($1) then pg_advisory_unlock($1) else false end",
        );
        let free = free.bind(key(name)).fetch_one(&self.pool).await.unwrap_or(false);
        let mut seen = self.free_since.lock().unwrap_or_else(PoisonError::into_inner);
        if !free {
            seen.remove(name);
            return false;
        }
        if seen.len() > REMEMBERED {
            seen.clear();
        }
        let since = *seen.entry(name.to_owned()).or_insert_with(Instant::now);
        since.elapsed() >= GRACE
    }
}

async fn hold(url: &str, name: &str) -> Result<PgConnection, sqlx::Error> {
    let mut connection = connect(url).await?;
    sqlx::query("select pg_advisory_lock($1)").bind(key(name)).execute(&mut connection).await?;
    Ok(connection)
}

/// The right to be the one active instance of a role; lost with its connection.
pub(crate) struct Singleton {
    connection: PgConnection,
}

impl Singleton {
    /// Stands by until the role is free.
    pub(crate) async fn acquire(url: &str, role: &str) -> Result<Self, sqlx::Error> {
        let mut connection = connect(url).await?;
        loop {
            let taken: bool = sqlx::query_scalar("select pg_try_advisory_lock($1)")
                .bind(key(&format!("role:{role}")))
                .fetch_one(&mut connection)
                .await?;
            if taken {
                return Ok(Self { connection });
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// The connection that holds the lock: what is written on it is written by the role's holder.
    pub(crate) fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    /// Fails when the lock may be lost.
    pub(crate) async fn check(&mut self) -> Result<(), sqlx::Error> {
        self.connection.ping().await
    }
}
