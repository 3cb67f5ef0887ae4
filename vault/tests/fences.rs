//! What must not happen at the same time: storing and destroying, sealing and erasing; and whose turn it is.

#[path = "../../tests/support/postgres.rs"]
mod postgres;

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use domain::{
    event::LogPosition,
    ids::{CredentialId, WorkspaceId},
};
use postgres::Database;
use sqlx::Executor;
use tokio::sync::Semaphore;
use uuid::Uuid;
use vault::{MasterKey, MasterKeyBackend, MasterKeyError, ReadReceipt, Vault, VaultError};
use zeroize::Zeroizing;

const HERE: WorkspaceId = WorkspaceId(Uuid::from_u128(1));
const ID: CredentialId = CredentialId(Uuid::from_u128(5));

async fn open(database: &Database, master: MasterKey) -> Vault {
    Vault::open(database.pool("apiq_writer").await, master).await.unwrap()
}

/// 32 zero bytes, the same for each node.
fn master() -> MasterKey {
    MasterKey::from_base64(&format!("{}=", "A".repeat(43)).into()).unwrap()
}

async fn store(vault: &Vault) -> Result<i32, VaultError> {
    vault.store_credential(HERE, ID, 0, &"canary".to_owned().into()).await.map(|new| new.version)
}

async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let begun = std::time::Instant::now();
    while !condition().await {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Does a session wait for a lock of this kind?
async fn waits(database: &Database, kind: &str) {
    until(&format!("somebody waits for a lock on {kind}"), async || {
        sqlx::query_scalar("select exists (select from pg_locks where not granted and locktype = $1)")
            .bind(kind)
            .fetch_one(&mut database.connect().await)
            .await
            .unwrap()
    })
    .await;
}

async fn kept(database: &Database) -> i64 {
    sqlx::query_scalar("select count(*) from vault.credential_values where ciphertext <> ''")
        .fetch_one(&mut database.connect().await)
        .await
        .unwrap()
}

#[tokio::test]
async fn who_stores_while_a_destruction_is_under_way_waits_and_stores_nothing() {
    let database = Database::fresh().await;
    let vault = open(&database, master()).await;
    store(&vault).await.unwrap();
    // A destruction that has begun and not ended.
    let mut destroying = database.connect().await;
    destroying.execute("begin; update vault.credentials set destroyed_at = now()").await.unwrap();
    let storing = tokio::spawn({
        let vault = vault.clone();
        async move { store(&vault).await }
    });
    waits(&database, "transactionid").await;
    destroying
        .execute("update vault.credential_values set ciphertext = '', destroyed_at = now(); commit")
        .await
        .unwrap();
    assert!(matches!(storing.await.unwrap(), Err(VaultError::CredentialDestroyed)));
    assert_eq!(kept(&database).await, 0);
}

#[tokio::test]
async fn a_destruction_waits_for_who_is_storing_and_destroys_that_too() {
    let database = Database::fresh().await;
    let vault = open(&database, master()).await;
    store(&vault).await.unwrap();
    // As the storing statement does, and not ended.
    let mut storing = database.connect().await;
    storing
        .execute(
            "begin; update vault.credentials set workspace_id = workspace_id;
             insert into vault.credential_values (credential_id, version, workspace_id, key_version, nonce, ciphertext)
             select credential_id, 2, workspace_id, key_version, nonce, ciphertext from vault.credential_values",
        )
        .await
        .unwrap();
    let destroying = tokio::spawn({
        let vault = vault.clone();
        async move { vault.destroy_credential(HERE, ID).await }
    });
    waits(&database, "transactionid").await;
    storing.execute("commit").await.unwrap();
    assert_eq!(destroying.await.unwrap().unwrap(), 2);
    assert_eq!(kept(&database).await, 0);
    assert!(matches!(store(&vault).await, Err(VaultError::CredentialDestroyed)));
    assert_eq!(kept(&database).await, 0);
}

/// A master key that answers when it is let to.
struct Slow {
    slow: Arc<AtomicBool>,
    asked: Arc<Semaphore>,
    answers: Arc<Semaphore>,
}

#[async_trait::async_trait]
impl MasterKeyBackend for Slow {
    fn id(&self) -> &str {
        "slow"
    }

    fn provider(&self) -> &'static str {
        "test"
    }

    async fn wrap(&self, _: &str, key: &[u8]) -> Result<Vec<u8>, MasterKeyError> {
        Ok(key.to_vec())
    }

    async fn unwrap(&self, _: &str, wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>, MasterKeyError> {
        if self.slow.load(Ordering::SeqCst) {
            self.asked.add_permits(1);
            self.answers.acquire().await.unwrap().forget();
        }
        Ok(Zeroizing::new(wrapped.to_vec()))
    }
}

#[tokio::test]
async fn an_erased_key_that_was_being_read_does_not_come_back() {
    let database = Database::fresh().await;
    let (slow, asked, answers) = (Arc::default(), Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let backend = || Slow { slow: Arc::clone(&slow), asked: Arc::clone(&asked), answers: Arc::clone(&answers) };
    let writer = open(&database, MasterKey::new(backend())).await;
    let sealed = writer.seal(HERE, "f", "canary").await.unwrap();
    let vault = open(&database, MasterKey::new(backend())).await;

    slow.store(true, Ordering::SeqCst);
    let reading = tokio::spawn({
        let (vault, sealed) = (vault.clone(), sealed.clone());
        async move { vault.open_sealed(HERE, "f", &sealed).await }
    });
    asked.acquire().await.unwrap().forget();
    slow.store(false, Ordering::SeqCst);
    // The key is on its way to this node when it is erased, and the node is told so.
    writer.prepare_key(HERE).await.unwrap();
    writer.activate_key(HERE, 2, &[1]).await.unwrap();
    writer.erase_key(HERE, 1).await.unwrap();
    until("the node has forgotten the erased key", async || {
        vault.seal(HERE, "f", "canary").await.unwrap().key_version == 2
    })
    .await;
    answers.add_permits(1);
    reading.await.unwrap().unwrap();
    for _ in 0..3 {
        assert!(matches!(vault.open_sealed(HERE, "f", &sealed).await, Err(VaultError::Erased)));
    }
}

#[tokio::test]
async fn everybody_gets_a_turn_at_the_keeper() {
    let database = Database::fresh().await;
    let vault = open(&database, master()).await;
    let workspaces: Vec<_> = (1..=5).map(|n| WorkspaceId(Uuid::from_u128(n))).collect();
    for (workspace, n) in workspaces.iter().zip(1..) {
        vault.store_credential(*workspace, CredentialId(Uuid::from_u128(n)), 0, &"x".to_owned().into()).await.unwrap();
        vault.prepare_key(*workspace).await.unwrap();
    }
    let mut owner = database.connect().await;
    // Prepared by a process that died: they stay as they are, whoever looks.
    owner.execute("update vault.workspace_keys set created_at = now() - interval '1 hour'").await.unwrap();
    owner
        .execute("update vault.credential_values set destroyed_at = now() - interval '1 hour', ciphertext = ''")
        .await
        .unwrap();
    let (mut keys, mut untold) = (BTreeSet::new(), BTreeSet::new());
    for _ in 0..3 {
        let two = vault.unsettled_keys(2).await.unwrap();
        assert_eq!(two.len(), 2);
        keys.extend(two.iter().map(|workspace| workspace.0));
        untold.extend(vault.untold_destructions(2).await.unwrap().iter().map(|(_, id, _)| id.0));
    }
    assert_eq!((keys.len(), untold.len()), (5, 5), "three rounds of two");

    // Values of which nobody knows whether the log names them, too.
    owner.execute("update vault.credential_values set destroyed_at = null, looked_at = null").await.unwrap();
    let mut unnamed = BTreeSet::new();
    for _ in 0..3 {
        unnamed.extend(vault.unnamed_values(0, 2).await.unwrap().iter().map(|of| of.credential.0));
    }
    assert_eq!(unnamed.len(), 5);
}

#[tokio::test]
async fn a_named_value_is_not_discarded() {
    let database = Database::fresh().await;
    let vault = open(&database, master()).await;
    let version = store(&vault).await.unwrap();
    assert!(vault.value_named(HERE, ID, version).await.unwrap());
    vault.discard_value(HERE, ID, version).await.unwrap();
    let committed_at = LogPosition { generation: 1, transaction_id: 1, position: 1 };
    let receipt = ReadReceipt { committed_at, credential: ID, version };
    vault.reveal(HERE, &receipt).await.unwrap();
    let next = store(&vault).await.unwrap();
    vault.discard_value(HERE, ID, next).await.unwrap();
    assert!(!vault.value_named(HERE, ID, next).await.unwrap(), "it came too late");
    assert_eq!(kept(&database).await, 1);
}
