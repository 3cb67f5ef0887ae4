//! Secrets' values and the events that name them: lost races, crashes, a destruction at the same time.

use commands::{
    App, Failure, credential,
    credential::CreateCredential,
    secret::{self, Update},
    sweep,
};
use domain::{error::Code, event::LogPosition, ids::CredentialId};
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;
use vault::{ReadReceipt, VaultError};

use crate::{
    node::{WORKSPACE, context, node},
    postgres::Database,
};

fn value(text: &str) -> SecretString {
    text.to_owned().into()
}

async fn created(app: &App) -> CredentialId {
    let input =
        CreateCredential { name: "key".into(), kind: "secret".into(), connection: None, value: value("canary 1") };
    credential::create(app, &context(), input).await.unwrap().value
}

/// Versions whose ciphertext is still there.
async fn kept(database: &Database) -> Vec<i32> {
    sqlx::query_scalar("select version from vault.credential_values where ciphertext <> '' order by version")
        .fetch_all(&mut database.connect().await)
        .await
        .unwrap()
}

async fn reveal(app: &App, credential: CredentialId, version: i32) -> Result<String, VaultError> {
    let committed_at = LogPosition { generation: 1, transaction_id: 1, position: 1 };
    let receipt = ReadReceipt { committed_at, credential, version };
    app.vault().reveal(WORKSPACE, &receipt).await.map(|secret| secret.expose_secret().to_owned())
}

fn code(failure: &Failure) -> Code {
    match failure {
        Failure::Rejected(rejection) => rejection.code,
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destroyed_secret_leaves_no_ciphertext_however_many_store_at_the_same_time() {
    let database = Database::fresh().await;
    let (here, elsewhere) = (node(&database).await, node(&database).await);
    for _ in 0..5 {
        let id = created(&here).await;
        let storing: Vec<_> = (0..8)
            .map(|n| {
                let app = if n % 2 == 0 { here.clone() } else { elsewhere.clone() };
                tokio::spawn(async move { credential::rotate(&app, &context(), id, value(&format!("late {n}"))).await })
            })
            .collect();
        secret::delete(&elsewhere, &context(), id, true).await.unwrap();
        for task in storing {
            // Stored before it was deleted, or told that it is not there any more.
            if let Err(failure) = task.await.unwrap() {
                assert!(matches!(code(&failure), Code::CredentialNotFound | Code::Conflict), "{failure}");
            }
        }
        assert_eq!(kept(&database).await, [0; 0]);
    }
}

#[tokio::test]
async fn what_a_dead_process_has_stored_is_destroyed_unless_the_log_names_it() {
    let database = Database::fresh().await;
    let app = node(&database).await;
    let id = created(&app).await;
    assert_eq!(app.vault().unnamed_values(0, 64).await.unwrap(), [], "whoever stores tells so");
    // Stored, and dead before the append; one of them for a secret that never came to be.
    let late = app.vault().store_credential(WORKSPACE, id, 1, &value("late")).await.unwrap();
    let nobody = CredentialId(Uuid::from_u128(99));
    app.vault().store_credential(WORKSPACE, nobody, 0, &value("nobody's")).await.unwrap();
    // Dead right after the append.
    let mut owner = database.connect().await;
    sqlx::query("update vault.credential_values set named = false").execute(&mut owner).await.unwrap();
    assert_eq!(app.vault().unnamed_values(10, 64).await.unwrap(), [], "an append may be under way for them");
    let unnamed = app.vault().unnamed_values(0, 64).await.unwrap();
    assert_eq!(unnamed.iter().map(|of| of.versions.len()).sum::<usize>(), 3);
    for of in unnamed {
        sweep(&app, &of).await.unwrap();
    }
    assert_eq!(app.vault().unnamed_values(0, 64).await.unwrap(), []);
    assert_eq!(reveal(&app, id, 1).await.unwrap(), "canary 1");
    assert!(matches!(reveal(&app, id, late.version).await, Err(VaultError::Erased)));
    assert!(matches!(reveal(&app, nobody, 1).await, Err(VaultError::Erased)));
    assert_eq!(app.vault().untold_of(WORKSPACE, 64).await.unwrap(), [], "there is nothing to tell of them");
    assert_eq!(credential::rotate(&app, &context(), id, value("next")).await.unwrap().value, 3);
}

#[tokio::test]
async fn what_was_not_appended_is_not_kept() {
    let database = Database::fresh().await;
    let app = node(&database).await;
    let id = created(&app).await;
    let mut claimed = context();
    claimed.request.idempotency = Some(commands::Claim { key: "once".into(), request_hash: "hash".into() });
    credential::rotate(&app, &claimed, id, value("first")).await.unwrap();
    let again = credential::rotate(&app, &claimed, id, value("again")).await.unwrap_err();
    assert_eq!(code(&again), Code::IdempotencyConflict);
    assert_eq!(kept(&database).await, [1, 2]);
}

#[tokio::test]
async fn if_match_is_compared_with_the_stream_by_the_command_itself() {
    let database = Database::fresh().await;
    let (here, elsewhere) = (node(&database).await, node(&database).await);
    let id = created(&here).await;
    credential::rotate(&elsewhere, &context(), id, value("theirs")).await.unwrap();
    let update = |value: Option<&str>| Update {
        value: value.map(|text| text.to_owned().into()),
        expires_at: value.is_none().then_some(None),
    };
    for given in [Some("ours"), None] {
        let stale = secret::update(&here, &context(), id, Some(1), update(given)).await.unwrap_err();
        assert!(code(&stale) == Code::Conflict && stale.to_string().contains("version 2 by now"), "{stale}");
    }
    assert_eq!(kept(&database).await, [1, 2], "nothing was stored for the one that came late");
    secret::update(&here, &context(), id, Some(2), update(Some("ours"))).await.unwrap();
    assert_eq!(reveal(&here, id, 3).await.unwrap(), "ours");

    // Of many that saw the same version, one wins.
    let context = context();
    let mine = || secret::update(&here, &context, id, Some(3), update(Some("mine")));
    let all = tokio::join!(mine(), mine(), mine(), mine());
    let won = [all.0, all.1, all.2, all.3].into_iter().filter(Result::is_ok).count();
    assert_eq!(won, 1);
}
