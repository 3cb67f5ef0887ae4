//! Given, when, then.

use cqrs_es::test::TestFramework;

use super::*;

type Keys = TestFramework<WorkspaceKey>;

fn new(version: i32) -> NewKey {
    NewKey { version, key_id: format!("key{version}"), master_key_id: "m1".into() }
}

fn fact(version: i32, master: &str, destroyed: bool) -> KeyFact {
    let key_id = format!("key{version}");
    KeyFact { version, key_id, master_key_id: master.into(), destroyed, wrapped: 7, erased: 2 }
}

fn settle(facts: Vec<KeyFact>, moved: Option<i64>) -> WorkspaceKeyCommand {
    WorkspaceKeyCommand::Settle { facts, moved }
}

fn made() -> WorkspaceKeyEvent {
    WorkspaceKeyEvent::Made { version: 1, key_id: "key1".into(), master_key_id: "m1".into() }
}

fn rotated() -> Vec<WorkspaceKeyEvent> {
    vec![
        WorkspaceKeyEvent::Rotated {
            version: 2,
            key_id: "key2".into(),
            master_key_id: "m1".into(),
            previous_version: 1,
        },
        WorkspaceKeyEvent::Retired { version: 1, key_id: "key1".into() },
    ]
}

fn given(events: impl IntoIterator<Item = Vec<WorkspaceKeyEvent>>) -> Vec<WorkspaceKeyEvent> {
    std::iter::once(made()).chain(events.into_iter().flatten()).collect()
}

#[test]
fn of_two_rotations_one_is_told_of_the_other() {
    Keys::with(()).given(given([])).when(WorkspaceKeyCommand::Rotate(new(2))).then_expect_events(rotated());
    Keys::with(())
        .given(given([rotated()]))
        .when(WorkspaceKeyCommand::Rotate(new(3)))
        .then_expect_error_message("A rotation to version 2 is under way; it has to end before another begins.");
}

#[test]
fn what_the_vault_did_is_told_once() {
    Keys::with(())
        .given_no_previous_events()
        .when(settle(vec![fact(1, "m1", false)], Some(3)))
        .then_expect_events(vec![made()]);
    Keys::with(()).given(given([])).when(settle(vec![fact(1, "m1", false)], None)).then_expect_events(vec![]);
    let changed = WorkspaceKeyEvent::MasterChanged {
        version: 1,
        key_id: "key1".into(),
        master_key_id: "m2".into(),
        previous_master_key_id: "m1".into(),
    };
    Keys::with(()).given(given([])).when(settle(vec![fact(1, "m2", false)], None)).then_expect_events(vec![changed]);
}

#[test]
fn a_rotation_ends_and_the_spent_version_is_destroyed() {
    let destroyed = WorkspaceKeyEvent::Destroyed { version: 1, key_id: "key1".into(), wrapped: 7, erased: 2 };
    let rewrapped = WorkspaceKeyEvent::Rewrapped { version: 2, key_id: "key2".into(), data_keys: 7 };
    let facts = vec![fact(1, "m1", true), fact(2, "m1", false)];
    Keys::with(())
        .given(given([rotated()]))
        .when(settle(facts.clone(), Some(7)))
        .then_expect_events(vec![destroyed.clone(), rewrapped.clone()]);
    Keys::with(())
        .given(given([rotated(), vec![destroyed, rewrapped]]))
        .when(settle(facts, Some(7)))
        .then_expect_events(vec![]);
}

#[test]
fn an_erasure_replaces_the_active_version() {
    let erase = |instead| WorkspaceKeyCommand::Erase { version: 1, instead };
    Keys::with(())
        .given(given([]))
        .when(erase(None))
        .then_expect_error_message("This version wraps what is new by now; try again.");
    let requested = WorkspaceKeyEvent::ErasureRequested { version: 1, key_id: "key1".into() };
    let mut events = rotated();
    events.push(requested);
    Keys::with(()).given(given([])).when(erase(Some(new(2)))).then_expect_events(events);
    // A retired one needs no other in its place; a destroyed one cannot be destroyed again.
    let requested = WorkspaceKeyEvent::ErasureRequested { version: 1, key_id: "key1".into() };
    let destroyed = WorkspaceKeyEvent::Destroyed { version: 1, key_id: "key1".into(), wrapped: 7, erased: 7 };
    Keys::with(()).given(given([rotated()])).when(erase(None)).then_expect_events(vec![requested]);
    Keys::with(())
        .given(given([rotated(), vec![destroyed]]))
        .when(erase(None))
        .then_expect_error_message("This version is destroyed already.");
}
