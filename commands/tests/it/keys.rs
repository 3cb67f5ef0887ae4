//! The workspace's key: a rotation that another one began, a crash's rest, and what is sealed while a key is erased.

use std::time::{Duration, Instant};

use commands::{App, Failure, credential, credential::CreateCredential, store_value, unit::Unit, workspace_key};
use domain::{
    credential::Credential,
    error::Code,
    sealed::Stored,
    workspace_key::{NewKey, WorkspaceKey, WorkspaceKeyCommand, stream_of},
};
use serde_json::json;
use uuid::Uuid;
use vault::VaultError;

use crate::{
    node::{WORKSPACE, context, node},
    postgres::Database,
};

fn far() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

async fn created(app: &App) -> Uuid {
    let input = CreateCredential {
        name: "key".into(),
        kind: "secret".into(),
        connection: None,
        value: "canary".to_owned().into(),
    };
    credential::create(app, &context(), input).await.unwrap().value.0
}

/// What a node leaves that dies right after the log has decided on a rotation.
async fn begun(app: &App) {
    workspace_key::carry_on(app, &context(), WORKSPACE, far()).await.unwrap();
    let mut loaded = app.store().load::<WorkspaceKey>(stream_of(WORKSPACE)).await.unwrap();
    let row = app.vault().prepare_key(WORKSPACE).await.unwrap();
    let new = NewKey { version: row.version, key_id: row.key_id, master_key_id: row.master_key_id };
    let mut unit = Unit::new(app, &context()).await.unwrap();
    unit.stage(&mut loaded, WorkspaceKeyCommand::Rotate(new)).unwrap();
    unit.commit(()).await.unwrap();
}

async fn done(app: &App) -> i64 {
    app.vault().rotation_progress(WORKSPACE).await.unwrap().done
}

#[tokio::test]
async fn a_rotation_under_way_is_told_of_and_not_joined() {
    let database = Database::fresh().await;
    let app = node(&database).await;
    for _ in 0..150 {
        created(&app).await;
    }
    begun(&app).await;
    let before = app.vault().workspace_keys(WORKSPACE).await.unwrap();
    let Err(Failure::Rejected(refused)) = workspace_key::rotate(&app, &context(), far()).await else {
        panic!("a second rotation at the same time");
    };
    assert_eq!(refused.code, Code::Conflict);
    assert!(refused.message.contains("key version 2 is under way"), "{}", refused.message);
    let data = refused.data.unwrap();
    assert_eq!((&data["keyVersion"], data["total"].as_i64().unwrap() >= 150), (&json!(2), true), "{data}");
    assert_eq!(app.vault().workspace_keys(WORKSPACE).await.unwrap(), before, "it did nothing of the first one's");

    // The rest is carried on in turns, each of which ends.
    let carried = workspace_key::carry_on(&app, &context(), WORKSPACE, Instant::now()).await.unwrap();
    assert!(!carried.value, "there is more than one step");
    let moved = done(&app).await;
    assert!((1..150).contains(&moved), "{moved} in a turn that was over at once");
    assert!(app.vault().unsettled_keys(64).await.unwrap().contains(&WORKSPACE), "the keeper comes back to it");
    assert!(workspace_key::carry_on(&app, &context(), WORKSPACE, far()).await.unwrap().value);
    assert!(done(&app).await >= 150);
    let next = workspace_key::rotate(&app, &context(), far()).await.unwrap().value;
    assert_eq!((next.version, next.finished), (3, true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_rotations_at_once_one_works_and_the_other_is_told() {
    let database = Database::fresh().await;
    let (here, elsewhere) = (node(&database).await, node(&database).await);
    created(&here).await;
    workspace_key::carry_on(&here, &context(), WORKSPACE, far()).await.unwrap();
    let (one, two) = (context(), context());
    let both = tokio::join!(workspace_key::rotate(&here, &one, far()), workspace_key::rotate(&elsewhere, &two, far()));
    let mut versions = Vec::new();
    for outcome in [both.0, both.1] {
        match outcome {
            Ok(done) => versions.push(done.value.version),
            Err(Failure::Rejected(refused)) => assert_eq!(refused.code, Code::Conflict),
            Err(other) => panic!("{other}"),
        }
    }
    // One after the other is no conflict.
    assert!(versions.contains(&2), "{versions:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sealed_while_a_key_is_erased_outlives_it() {
    let database = Database::fresh().await;
    let (here, elsewhere) = (node(&database).await, node(&database).await);
    let sealed = async || match store_value(&here, WORKSPACE, "execution.input", &json!("canary")).await.unwrap() {
        Stored::Inline(sealed) => sealed,
        Stored::Blob { .. } => panic!("a short value"),
    };
    let credential = created(&here).await;
    let before = sealed().await;
    // Another node erases the key, which this one has open.
    let key = elsewhere.vault().workspace_keys(WORKSPACE).await.unwrap().remove(0);
    let erasing = tokio::spawn({
        let (elsewhere, key) = (elsewhere.clone(), key.key_id.clone());
        async move { workspace_key::erase(&elsewhere, &context(), &key).await }
    });
    let mut last = sealed().await;
    while !erasing.is_finished() {
        last = sealed().await;
        tokio::task::yield_now().await;
    }
    erasing.await.unwrap().unwrap();
    let open = async |sealed| here.vault().open_sealed(WORKSPACE, "execution.input", sealed).await;
    let begun = Instant::now();
    while !matches!(open(&before).await, Err(VaultError::Erased)) {
        assert!(begun.elapsed() < Duration::from_secs(60), "this node has never heard of the erasure");
        tokio::task::yield_now().await;
    }
    assert!(open(&last).await.is_ok(), "sealed right before the erasure, by a node that had the old key open");

    // The secret's stream says that its value is gone, and takes a new one.
    let erased = async || here.store().load::<Credential>(credential).await.unwrap().state.is_erased();
    assert!(erased().await);
    credential::rotate(&here, &context(), credential.into(), "new".to_owned().into()).await.unwrap();
    assert!(!erased().await);
}
