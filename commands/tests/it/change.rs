//! `unit::change` on a cached state that is behind: nobody is answered from it, and nothing is decided by it.

use std::sync::Arc;

use commands::{
    App, Claim, Context, Failure, Outcome,
    unit::{Unit, change, fresh},
};
use domain::{
    aggregate::Decider,
    connection::{AuthScheme, Connection, ConnectionCommand, ConnectionEvent, SpecSource},
    error::Code,
    execution::{Execution, ExecutionCommand, ExecutionEvent, StepRef},
    ids::{WorkflowId, WorkspaceId},
    operation::SpecProblem,
    sealed::{Sealed, Stored},
    workflow::{Status, Workflow, WorkflowCommand, WorkflowPatch},
};
use uuid::Uuid;

use crate::{
    node::{context, node},
    postgres::Database,
};

/// A new stream by one command, and this node's cache holds it.
async fn made<A: Decider>(app: &App, command: A::Command) -> Uuid {
    let id = app.new_id();
    let mut unit = Unit::new(app, &context()).await.unwrap();
    unit.stage(&mut fresh::<A>(id), command).unwrap();
    unit.commit(()).await.unwrap();
    app.store().load::<A>(id).await.unwrap();
    id
}

async fn changed<A: Decider>(app: &App, id: Uuid, command: impl Fn() -> A::Command) -> Outcome<Vec<A::Event>> {
    change::<A>(app, &context(), (id, Code::ResourceNotFound, "thing"), None, |_| Ok(command())).await
}

/// What this node would decide on: its sequence and whether it is from the cache.
async fn recalled<A: Decider>(app: &App, id: Uuid) -> (i64, bool) {
    let loaded = app.store().recall::<A>(id).await.unwrap();
    (loaded.sequence, loaded.recalled)
}

fn workflow() -> WorkflowCommand {
    WorkflowCommand::Create { name: "flow".into(), description: None, definition_hash: "one".into(), step_count: 1 }
}

fn renamed(name: &str) -> WorkflowCommand {
    WorkflowCommand::Update(WorkflowPatch { name: Some(name.into()), ..WorkflowPatch::default() })
}

fn refused<T: std::fmt::Debug>(outcome: Outcome<T>) -> (Code, String) {
    match outcome {
        Err(Failure::Rejected(rejection)) => (rejection.code, rejection.message),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_next_change_decides_on_what_the_last_one_left() {
    let database = Database::fresh().await;
    let app = node(&database).await;
    let id = made::<Workflow>(&app, workflow()).await;
    for n in 2..5 {
        let before = app.store().cache_stats();
        changed::<Workflow>(&app, id, || renamed(&format!("name {n}"))).await.unwrap();
        assert_eq!(recalled::<Workflow>(&app, id).await, (n, true));
        let after = app.store().cache_stats();
        assert_eq!((after.hits - before.hits, after.misses), (2, before.misses), "the change's and the test's");
    }
    let loaded = app.store().load::<Workflow>(id).await.unwrap();
    assert_eq!((loaded.sequence, loaded.folded, loaded.state.name.as_str()), (4, 0, "name 4"));
}

#[tokio::test]
async fn what_the_cached_state_would_refuse_is_decided_on_the_present_one() {
    let database = Database::fresh().await;
    let (here, elsewhere) = (node(&database).await, node(&database).await);
    let stored = || Stored::Inline(Sealed::from_parts("workspace:x".into(), 1, "bg==".into(), "Yw==".into()));
    let start = ExecutionCommand::Start {
        workflow: WorkflowId::default(),
        workflow_version: 1,
        definition_hash: "one".into(),
        input: stored(),
        trigger: "manual".into(),
        correlation_id: Uuid::from_u128(1),
        traceparent: None,
        now: here.now(),
    };
    let id = made::<Execution>(&here, start).await;
    let step = StepRef { key: "pay".into(), step_id: "pay".into() };
    let unknown =
        || ExecutionCommand::MarkUnknown { step: step.clone(), reason: "the executor stopped".into(), call: None };
    changed::<Execution>(&elsewhere, id, unknown).await.unwrap();
    assert_eq!(recalled::<Execution>(&here, id).await, (1, true), "the cache is behind");

    // "The outcome of step pay is not unknown", says the cached state.
    let resolve = || ExecutionCommand::ResolveStep { key: "pay".into(), output: Some(stored()), now: here.now() };
    let events = changed::<Execution>(&here, id, resolve).await.unwrap().value;
    assert!(matches!(events.as_slice(), [ExecutionEvent::StepCompleted { .. }]), "{events:?}");
    assert_eq!(recalled::<Execution>(&here, id).await, (3, true));
}

#[tokio::test]
async fn what_the_cached_state_would_leave_as_it_is_is_decided_on_the_present_one() {
    let database = Database::fresh().await;
    let (here, elsewhere) = (node(&database).await, node(&database).await);
    let create = ConnectionCommand::Create {
        name: "crm".into(),
        description: None,
        source: SpecSource::Url { url: "https://crm.example.com/openapi.json".into() },
        base_url: None,
        auth: AuthScheme::None,
        credential: None,
        gate: Default::default(),
    };
    let id = made::<Connection>(&here, create).await;
    let begin = || ConnectionCommand::StartIngestion { executor: "elsewhere".into(), after: 0 };
    changed::<Connection>(&elsewhere, id, begin).await.unwrap();
    // Nothing is ingested, says the cached state.
    let fail = || ConnectionCommand::FailIngestion { number: 1, errors: Vec::<SpecProblem>::new(), unreachable: false };
    let events = changed::<Connection>(&here, id, fail).await.unwrap().value;
    assert!(matches!(events.as_slice(), [ConnectionEvent::IngestionFailed { .. }]), "{events:?}");

    // Now really nothing; asked of the log, and nothing is written.
    let events = changed::<Connection>(&here, id, fail).await.unwrap().value;
    assert_eq!((events.len(), recalled::<Connection>(&here, id).await), (0, (3, true)));
}

#[tokio::test]
async fn what_the_cached_state_would_allow_is_refused_by_the_present_one() {
    let database = Database::fresh().await;
    let (here, elsewhere) = (node(&database).await, node(&database).await);
    let id = made::<Workflow>(&here, workflow()).await;
    changed::<Workflow>(&elsewhere, id, || WorkflowCommand::Delete).await.unwrap();
    assert_eq!(recalled::<Workflow>(&here, id).await, (1, true), "the cache is behind");
    let (code, message) = refused(changed::<Workflow>(&here, id, || renamed("late")).await);
    assert_eq!(code, Code::WorkflowNotFound, "{message}");
    let loaded = elsewhere.store().load::<Workflow>(id).await.unwrap();
    assert_eq!((loaded.sequence, loaded.state.name.as_str()), (2, "flow"), "nothing was written");
}

#[tokio::test]
async fn a_lost_race_is_decided_again() {
    let database = Database::fresh().await;
    let (here, elsewhere) = (node(&database).await, node(&database).await);
    let id = made::<Workflow>(&here, workflow()).await;
    changed::<Workflow>(&elsewhere, id, || renamed("theirs")).await.unwrap();
    let pause = || WorkflowCommand::Update(WorkflowPatch { status: Some(Status::Paused), ..WorkflowPatch::default() });
    changed::<Workflow>(&here, id, pause).await.unwrap();
    let state = here.store().recall::<Workflow>(id).await.unwrap();
    assert_eq!((state.sequence, state.state.name.as_str(), state.state.status), (3, "theirs", Status::Paused));
}

#[tokio::test]
async fn if_match_is_compared_with_the_present_version() {
    let database = Database::fresh().await;
    let (here, elsewhere) = (node(&database).await, node(&database).await);
    let id = made::<Workflow>(&here, workflow()).await;
    changed::<Workflow>(&elsewhere, id, || renamed("theirs")).await.unwrap();
    let target = (id, Code::WorkflowNotFound, "workflow");
    let context = context();
    let if_match = |version| change::<Workflow>(&here, &context, target, version, |_| Ok(renamed("ours")));
    let (code, message) = refused(if_match(Some(1)).await);
    assert!(code == Code::Conflict && message.contains("this is version 2 by now"), "{message}");
    // Behind again: the refusal has loaded it.
    changed::<Workflow>(&elsewhere, id, || renamed("theirs again")).await.unwrap();
    if_match(Some(3)).await.unwrap();
    assert_eq!(recalled::<Workflow>(&here, id).await, (4, true));
}

#[tokio::test]
async fn another_workspace_finds_nothing_in_the_cache() {
    let database = Database::fresh().await;
    let app = node(&database).await;
    let id = made::<Workflow>(&app, workflow()).await;
    let stranger = Context::system("test", WorkspaceId(Uuid::from_u128(8)), Uuid::from_u128(1));
    let target = (id, Code::WorkflowNotFound, "workflow");
    let outcome = change::<Workflow>(&app, &stranger, target, None, |_| Ok(renamed("taken"))).await;
    assert_eq!(refused(outcome).0, Code::WorkflowNotFound);
    assert_eq!(recalled::<Workflow>(&app, id).await, (1, true));
}

#[tokio::test]
async fn a_state_whose_append_failed_is_not_kept() {
    let database = Database::fresh().await;
    let app = node(&database).await;
    let id = made::<Workflow>(&app, workflow()).await;
    let mut claimed = context();
    claimed.request.idempotency = Some(Claim { key: "once".into(), request_hash: "hash".into() });
    let target = (id, Code::WorkflowNotFound, "workflow");
    let rename = |name: &'static str| change::<Workflow>(&app, &claimed, target, None, move |_| Ok(renamed(name)));
    rename("first").await.unwrap();
    assert_eq!(refused(rename("second").await).0, Code::IdempotencyConflict);
    let kept = app.store().recall::<Workflow>(id).await.unwrap();
    assert_eq!((kept.recalled, kept.sequence, kept.state.name.as_str()), (true, 2, "first"));
}

/// Each decides on what the one before it left. Without turns most of them lose their races eight times and get a 409.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_changes_of_one_stream_on_one_node_all_succeed_and_none_races_another() {
    const CHANGES: i64 = 300;
    let database = Database::fresh().await;
    let app = Arc::new(node(&database).await);
    let id = made::<Workflow>(&app, workflow()).await;
    let changes: Vec<_> = (0..CHANGES)
        .map(|n| {
            let app = app.clone();
            tokio::spawn(
                async move { changed::<Workflow>(&app, id, || renamed(&format!("name {n}"))).await.map(|_| ()) },
            )
        })
        .collect();
    for change in changes {
        change.await.unwrap().unwrap();
    }
    assert_eq!(app.store().load::<Workflow>(id).await.unwrap().sequence, 1 + CHANGES);
    // Where the machine stood still for long, some went without a turn, and raced; the others did not.
    let conflicts = app.store().append_stats().conflicts;
    assert!(conflicts < CHANGES as u64 / 4, "{conflicts} races of {CHANGES} changes");
}
