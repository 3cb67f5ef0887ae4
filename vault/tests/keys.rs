//! The hierarchy of keys against a real Postgres: rotation, its crash, destruction, another master key, the old form.

#[path = "../../tests/support/postgres.rs"]
mod postgres;

use domain::{
    event::LogPosition,
    ids::{CredentialId, WorkspaceId},
    sealed::Sealed,
};
use postgres::Database;
use secrecy::{ExposeSecret, SecretString};
use sqlx::Executor;
use uuid::Uuid;
use vault::{MasterKey, MasterKeys, ReadReceipt, Vault, VaultError};

const HERE: WorkspaceId = WorkspaceId(Uuid::from_u128(1));

fn key(text: &SecretString) -> MasterKey {
    MasterKey::from_base64(text).unwrap()
}

async fn open(database: &Database, masters: impl Into<MasterKeys>) -> Result<Vault, VaultError> {
    Vault::open(database.pool("apiq_writer").await, masters).await
}

fn credential(n: u128) -> CredentialId {
    CredentialId(Uuid::from_u128(n))
}

async fn store(vault: &Vault, n: u128, value: &str) -> i32 {
    vault.store_credential(HERE, credential(n), 0, &value.to_owned().into()).await.unwrap().version
}

async fn reveal(vault: &Vault, n: u128, version: i32) -> Result<String, VaultError> {
    let committed_at = LogPosition { generation: 1, transaction_id: 1, position: 1 };
    let receipt = ReadReceipt { committed_at, credential: credential(n), version };
    vault.reveal(HERE, &receipt).await.map(|secret| secret.expose_secret().to_owned())
}

async fn sealed(vault: &Vault, subject: &str) -> Sealed<String> {
    vault.seal_for(HERE, subject, "user.email", "a@b.test").await.unwrap()
}

async fn rewrap(vault: &Vault) -> u64 {
    let mut moved = 0;
    loop {
        match vault.rewrap_some(HERE, 3).await.unwrap() {
            0 => return moved,
            some => moved += some,
        }
    }
}

/// `active 2, destroyed 1`
async fn versions(vault: &Vault) -> Vec<(i32, String, i64)> {
    let rows = vault.workspace_keys(HERE).await.unwrap();
    rows.into_iter().map(|row| (row.version, row.status, row.wraps)).collect()
}

#[tokio::test]
async fn a_rotation_moves_everything_while_reads_go_on_and_its_spent_key_is_destroyed() {
    let database = Database::fresh().await;
    let master = MasterKey::generate();
    let vault = open(&database, key(&master)).await.unwrap();
    for n in 0..10 {
        store(&vault, n, &format!("canary-{n}")).await;
    }
    let email = sealed(&vault, "user:1").await;
    let hash = vault.keyed_hash(HERE.0, "email", b"a@b.test").await.unwrap();
    let first = vault.workspace_keys(HERE).await.unwrap().remove(0);
    // Ten credentials, a person, and the keys of two hashes.
    assert_eq!((first.status.as_str(), first.wraps, first.uses), ("active", 13, 13));

    let prepared = vault.prepare_key(HERE).await.unwrap();
    assert_eq!(vault.prepare_key(HERE).await.unwrap(), prepared, "the same until it is active");
    vault.activate_key(HERE, 2, &[]).await.unwrap();
    assert_eq!(versions(&vault).await, [(1, "retired".into(), 13), (2, "active".into(), 0)]);
    vault.destroy_spent_keys(HERE).await.unwrap();
    assert_eq!(versions(&vault).await[0].1, "retired", "it is needed");
    // Another node, which does not know of it yet, stores by the new version.
    let other = open(&database, key(&master)).await.unwrap();
    store(&other, 77, "from elsewhere").await;

    // Half of it is moved when the process dies; another goes on, and reads see nothing of it.
    vault.rewrap_some(HERE, 3).await.unwrap();
    drop(vault);
    let progress = other.rotation_progress(HERE).await.unwrap();
    assert_eq!((progress.done, progress.total), (4, 14));
    for n in 0..10 {
        assert_eq!(reveal(&other, n, 1).await.unwrap(), format!("canary-{n}"));
    }
    let (moved_here, moved_there) = tokio::join!(rewrap(&other), async {
        let third = open(&database, key(&master)).await.unwrap();
        rewrap(&third).await
    });
    assert!(moved_here + moved_there >= 10);
    let progress = other.rotation_progress(HERE).await.unwrap();
    assert_eq!((progress.done, progress.total, progress.secrets), (14, 14, 11));
    other.destroy_spent_keys(HERE).await.unwrap();
    assert_eq!(versions(&other).await, [(1, "destroyed".into(), 0), (2, "active".into(), 14)]);
    let spent = other.workspace_keys(HERE).await.unwrap().remove(0);
    assert_eq!((spent.key_id, spent.uses, spent.erased), (first.key_id, 13, 0));
    for n in 0..10 {
        assert_eq!(reveal(&other, n, 1).await.unwrap(), format!("canary-{n}"));
    }
    assert_eq!(other.open_sealed(HERE, "user.email", &email).await.unwrap(), "a@b.test");
    assert_eq!(other.keyed_hash(HERE.0, "email", b"a@b.test").await.unwrap(), hash, "hashes outlive rotations");
    let left: i64 =
        sqlx::query_scalar("select count(*) from vault.workspace_keys where status = 'destroyed' and wrapped <> ''")
            .fetch_one(&mut database.connect().await)
            .await
            .unwrap();
    assert_eq!(left, 0, "a destroyed key is not there any more");
}

#[tokio::test]
async fn an_erased_key_takes_everything_with_it_and_the_workspace_goes_on() {
    let database = Database::fresh().await;
    let master = MasterKey::generate();
    let vault = open(&database, key(&master)).await.unwrap();
    let other = open(&database, key(&master)).await.unwrap();
    store(&vault, 1, "canary").await;
    let email = sealed(&vault, "user:1").await;
    let input = vault.seal(HERE, "execution.input", "canary").await.unwrap();
    // The other node has them open.
    assert_eq!(reveal(&other, 1, 1).await.unwrap(), "canary");
    assert_eq!(other.open_sealed(HERE, "execution.input", &input).await.unwrap(), "canary");

    vault.prepare_key(HERE).await.unwrap();
    vault.activate_key(HERE, 2, &[1]).await.unwrap();
    assert_eq!(rewrap(&vault).await, 0, "nothing is saved from a doomed key");
    vault.erase_key(HERE, 1).await.unwrap();
    let erased = vault.workspace_keys(HERE).await.unwrap().remove(0);
    // A credential, a person, the workspace, the key of the credentials' hashes.
    assert_eq!((erased.status.as_str(), erased.uses, erased.erased), ("destroyed", 4, 4));
    for node in [&vault, &open(&database, key(&master)).await.unwrap()] {
        assert!(matches!(reveal(node, 1, 1).await, Err(VaultError::Erased)));
        assert!(matches!(node.open_sealed(HERE, "user.email", &email).await, Err(VaultError::Erased)));
        assert!(matches!(node.open_sealed(HERE, "execution.input", &input).await, Err(VaultError::Erased)));
        assert!(
            matches!(node.seal_for(HERE, "user:1", "f", "x").await, Err(VaultError::Erased)),
            "a person stays gone"
        );
    }
    // The node that had them open forgets within a second.
    let begun = std::time::Instant::now();
    while other.open_sealed(HERE, "execution.input", &input).await.is_ok() {
        assert!(begun.elapsed() < std::time::Duration::from_secs(10), "it still opens what was erased");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let again = vault.seal(HERE, "execution.input", "new").await.unwrap();
    assert_eq!(again.key_version, 2);
    assert_eq!(other.open_sealed(HERE, "execution.input", &again).await.unwrap(), "new");
    assert_eq!(store(&vault, 1, "another").await, 2, "a number is never used twice");
    assert_eq!(reveal(&vault, 1, 2).await.unwrap(), "another");
}

#[tokio::test]
async fn a_new_master_key_takes_over_step_by_step() {
    let database = Database::fresh().await;
    let (old, new) = (MasterKey::generate(), MasterKey::generate());
    let before = open(&database, key(&old)).await.unwrap();
    store(&before, 1, "canary").await;
    let hash = before.keyed_hash(Uuid::nil(), "email", b"a@b.test").await.unwrap();
    for n in 2..6 {
        before.seal(WorkspaceId(Uuid::from_u128(n)), "f", "x").await.unwrap();
    }
    assert!(matches!(open(&database, key(&new)).await, Err(VaultError::MasterKeyWrong)));
    // First every node learns the coming key, and wraps with the old one still.
    open(&database, MasterKeys::from(key(&old)).and(key(&new))).await.unwrap();
    let vault = open(&database, MasterKeys::from(key(&new)).and(key(&old))).await.unwrap();
    assert_eq!(reveal(&vault, 1, 1).await.unwrap(), "canary");

    // Six workspaces (one of them nobody's) and the key that signs tokens.
    let progress = vault.master_progress(None).await.unwrap();
    assert_eq!((progress.done, progress.total, progress.under_way), (0, 7, false));
    assert_eq!(progress.key_id, key(&new).id());
    let mut rotation = vault.begin_master_rotation(&database.url).await.unwrap().unwrap();
    assert!(vault.begin_master_rotation(&database.url).await.unwrap().is_none(), "of two, one is told of the other");
    assert!(vault.master_progress(None).await.unwrap().under_way);
    rotation.step().await.unwrap().unwrap();
    rotation.step().await.unwrap().unwrap();
    // It dies; another one goes on where it was.
    drop(rotation);
    assert_eq!(vault.master_progress(None).await.unwrap().done, 2);
    let mut rotation = loop {
        match vault.begin_master_rotation(&database.url).await.unwrap() {
            Some(rotation) => break rotation,
            None => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
        }
    };
    let mut steps = 0;
    while rotation.step().await.unwrap().is_some() {
        steps += 1;
    }
    assert_eq!(steps, 4);
    let progress = vault.master_progress(None).await.unwrap();
    assert_eq!((progress.done, progress.total), (7, 7));
    let alone = open(&database, key(&new)).await.unwrap();
    assert_eq!(reveal(&alone, 1, 1).await.unwrap(), "canary");
    assert_eq!(alone.keyed_hash(Uuid::nil(), "email", b"a@b.test").await.unwrap(), hash);
    assert!(matches!(open(&database, key(&old)).await, Err(VaultError::MasterKeyWrong)));
}

/// What a build before workspaces' keys has written.
struct Old {
    vault: Vault,
    sealed: Sealed<String>,
}

/// Rows as they were: data keys under the master key, a credential under the workspace's data key. Made by opening
/// today's rows with the master key's bytes, which only a test knows.
async fn old_database(database: &Database, master: &SecretString) -> Old {
    use aes_gcm::{
        Aes256Gcm, KeyInit, Nonce,
        aead::{Aead, Payload},
    };
    use base64::{Engine, engine::general_purpose::STANDARD};
    let bytes = STANDARD.decode(master.expose_secret()).unwrap();
    let wrap = |key: &[u8], aad: &str, plain: &[u8]| {
        let cipher = Aes256Gcm::new_from_slice(key).unwrap();
        let nonce = [9u8; 12];
        (nonce, cipher.encrypt(&Nonce::from(nonce), Payload { msg: plain, aad: aad.as_bytes() }).unwrap())
    };
    let mut owner = database.connect().await;
    let subject = format!("workspace:{}", HERE.0);
    for (subject, data) in [(subject.as_str(), [1u8; 32]), ("hash:credential", [2u8; 32])] {
        let aad = format!("apiq data key|{}|{subject}|1", HERE.0);
        let (nonce, text) = wrap(&bytes, &aad, &data);
        sqlx::query("insert into vault.data_keys (workspace_id, subject, version, master_key_id, wrapped) values ($1, $2, 1, $3, $4)")
            .bind(HERE.0)
            .bind(subject)
            .bind(key(master).id())
            .bind([nonce.as_slice(), &text].concat())
            .execute(&mut owner)
            .await
            .unwrap();
    }
    let (nonce, text) = wrap(&[1; 32], &format!("apiq credential|{}|{}|1", HERE.0, credential(1).0), b"old canary");
    sqlx::query("insert into vault.credential_values (credential_id, version, workspace_id, key_version, nonce, ciphertext) values ($1, 1, $2, 1, $3, $4)")
        .bind(credential(1).0)
        .bind(HERE.0)
        .bind(&nonce[..])
        .bind(text)
        .execute(&mut owner)
        .await
        .unwrap();
    let (nonce, text) = wrap(&[1; 32], &format!("apiq sealed|{}|{subject}|f", HERE.0), b"\"old text\"");
    let sealed = Sealed::from_parts(subject, 1, STANDARD.encode(nonce), STANDARD.encode(text));
    Old { vault: open(database, key(master)).await.unwrap(), sealed }
}

#[tokio::test]
async fn an_old_database_opens_as_it_is_and_rotations_give_it_the_new_form() {
    let database = Database::fresh().await;
    let (first, second) = (MasterKey::generate(), MasterKey::generate());
    let Old { vault, sealed } = old_database(&database, &first).await;
    assert!(matches!(open(&database, key(&second)).await, Err(VaultError::MasterKeyWrong)));
    assert_eq!(reveal(&vault, 1, 1).await.unwrap(), "old canary");
    assert_eq!(vault.open_sealed(HERE, "f", &sealed).await.unwrap(), "old text");
    let hash = vault.keyed_hash(HERE.0, "credential", b"x").await.unwrap();
    assert_eq!(store(&vault, 1, "newer").await, 2);

    // The master key's rotation brings data keys under the workspace's key.
    let vault = open(&database, MasterKeys::from(key(&second)).and(key(&first))).await.unwrap();
    let mut rotation = vault.begin_master_rotation(&database.url).await.unwrap().unwrap();
    while rotation.step().await.unwrap().is_some() {}
    let progress = vault.master_progress(None).await.unwrap();
    assert_eq!(progress.done, progress.total);
    let vault = open(&database, key(&second)).await.unwrap();
    assert_eq!(reveal(&vault, 1, 1).await.unwrap(), "old canary");

    // The workspace's rotation gives the credential's version a data key of its own.
    vault.prepare_key(HERE).await.unwrap();
    vault.activate_key(HERE, 2, &[]).await.unwrap();
    rewrap(&vault).await;
    vault.destroy_spent_keys(HERE).await.unwrap();
    assert_eq!(versions(&vault).await, [(1, "destroyed".into(), 0), (2, "active".into(), 4)]);
    let fresh = open(&database, key(&second)).await.unwrap();
    assert_eq!(reveal(&fresh, 1, 1).await.unwrap(), "old canary");
    assert_eq!(reveal(&fresh, 1, 2).await.unwrap(), "newer");
    assert_eq!(fresh.open_sealed(HERE, "f", &sealed).await.unwrap(), "old text");
    assert_eq!(fresh.keyed_hash(HERE.0, "credential", b"x").await.unwrap(), hash);
    let mut owner = database.connect().await;
    owner.execute("update vault.data_keys set wrapped = '' where subject like 'workspace:%'").await.unwrap();
    let fresh = open(&database, key(&second)).await.unwrap();
    assert_eq!(reveal(&fresh, 1, 1).await.unwrap(), "old canary", "it needs the workspace's data key no more");
}

#[tokio::test]
async fn a_new_master_key_saves_nothing_that_is_to_be_erased() {
    let database = Database::fresh().await;
    let (first, second) = (MasterKey::generate(), MasterKey::generate());
    let Old { vault, sealed } = old_database(&database, &first).await;
    assert_eq!(store(&vault, 2, "canary").await, 1);
    // The log has decided that version 1 goes with what it wraps, and the process has died before it did so.
    vault.prepare_key(HERE).await.unwrap();
    vault.activate_key(HERE, 2, &[1]).await.unwrap();
    let vault = open(&database, MasterKeys::from(key(&second)).and(key(&first))).await.unwrap();
    let mut rotation = vault.begin_master_rotation(&database.url).await.unwrap().unwrap();
    while rotation.step().await.unwrap().is_some() {}
    let progress = vault.master_progress(None).await.unwrap();
    assert_eq!(progress.done, progress.total);
    assert_eq!(versions(&vault).await, [(1, "destroyed".into(), 0), (2, "active".into(), 0)]);
    for n in [1, 2] {
        assert!(matches!(reveal(&vault, n, 1).await, Err(VaultError::Erased)), "{n}");
    }
    assert!(matches!(vault.open_sealed(HERE, "f", &sealed).await, Err(VaultError::Erased)));
}

#[tokio::test]
async fn a_version_that_was_retired_before_is_doomed_as_well() {
    let database = Database::fresh().await;
    let vault = open(&database, key(&MasterKey::generate())).await.unwrap();
    store(&vault, 1, "canary").await;
    vault.prepare_key(HERE).await.unwrap();
    vault.activate_key(HERE, 2, &[]).await.unwrap();
    vault.activate_key(HERE, 2, &[1]).await.unwrap();
    assert_eq!(rewrap(&vault).await, 0, "nothing is saved from it");
}

#[tokio::test]
async fn a_key_opens_in_its_own_place_only() {
    let database = Database::fresh().await;
    let master = MasterKey::generate();
    let vault = open(&database, key(&master)).await.unwrap();
    store(&vault, 1, "one").await;
    store(&vault, 2, "two").await;
    let there = WorkspaceId(Uuid::from_u128(2));
    vault.seal(there, "f", "x").await.unwrap();
    let mut owner = database.connect().await;
    owner
        .execute(
            "update vault.credential_values a set wrapped_key = b.wrapped_key
               from vault.credential_values b where a.credential_id <> b.credential_id",
        )
        .await
        .unwrap();
    for n in [1, 2] {
        assert!(matches!(reveal(&vault, n, 1).await, Err(VaultError::Tampered)), "a data key of another credential");
    }
    owner
        .execute(
            "update vault.workspace_keys a set wrapped = b.wrapped
               from vault.workspace_keys b where a.workspace_id <> b.workspace_id",
        )
        .await
        .unwrap();
    let fresh = open(&database, key(&master)).await.unwrap();
    assert!(matches!(fresh.seal(there, "f", "x").await, Err(VaultError::MasterKeyWrong)), "another workspace's key");
}
