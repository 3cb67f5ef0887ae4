//! Given, when, then.

use chrono::TimeDelta;
use cqrs_es::test::TestFramework;

use super::*;

type Credentials = TestFramework<Credential>;

fn at(days: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::days(20_000 + days)
}

fn value(version: i32) -> NewVersion {
    NewVersion { version, key_version: 1, value_hash: "ab".into() }
}

fn created() -> Vec<CredentialEvent> {
    vec![CredentialEvent::Created {
        name: "CRM key".into(),
        kind: "secret".into(),
        connection_id: None,
        version: 1,
        key_version: 1,
        value_hash: "ab".into(),
    }]
}

fn and(event: CredentialEvent) -> Vec<CredentialEvent> {
    let mut events = created();
    events.push(event);
    events
}

fn create(name: &str) -> CredentialCommand {
    CredentialCommand::Create { name: name.into(), kind: "secret".into(), connection: None, value: value(1) }
}

#[test]
fn names_with_control_characters_are_refused() {
    Credentials::with(())
        .given_no_previous_events()
        .when(create("CRM\u{7}key"))
        .then_expect_error_message("name: must not hold line breaks or other control characters");
    Credentials::with(()).given_no_previous_events().when(create("CRM key")).then_expect_events(created());
}

#[test]
fn an_expiry_is_warned_of_once_each_and_begins_anew_when_it_changes() {
    let tend = |day| CredentialCommand::Tend { now: at(day) };
    let expires_at = at(100);
    let set = and(CredentialEvent::ExpiryChanged { expires_at: Some(expires_at) });
    let warned = |days_left| CredentialEvent::ExpiryWarned { expires_at, days_left };
    Credentials::with(()).given(set.clone()).when(tend(92)).then_expect_events(vec![]);
    Credentials::with(()).given(set.clone()).when(tend(94)).then_expect_events(vec![warned(7)]);
    let mut after = set.clone();
    after.push(warned(7));
    Credentials::with(()).given(after.clone()).when(tend(94)).then_expect_events(vec![]);
    Credentials::with(()).given(after.clone()).when(tend(99)).then_expect_events(vec![warned(1)]);
    Credentials::with(())
        .given(after.clone())
        .when(tend(100))
        .then_expect_events(vec![CredentialEvent::Expired { expires_at }]);
    let later = at(200);
    after.push(CredentialEvent::ExpiryChanged { expires_at: Some(later) });
    let again = CredentialEvent::ExpiryWarned { expires_at: later, days_left: 7 };
    Credentials::with(()).given(after).when(tend(194)).then_expect_events(vec![again]);
    let past = CredentialCommand::SetExpiry { expires_at: Some(at(1)), now: at(2) };
    Credentials::with(()).given(created()).when(past).then_expect_error_message("expiresAt: must be in the future");
}

#[test]
fn a_deleted_one_can_be_restored_until_its_time_is_over() {
    let restore = |day| CredentialCommand::Restore { now: at(day) };
    let deleted = and(CredentialEvent::Deleted { destroy_at: Some(at(7)), bound_to: None });
    let missing = "There is no credential with this id in the workspace.";
    Credentials::with(())
        .given(deleted.clone())
        .when(restore(6))
        .then_expect_events(vec![CredentialEvent::Restored {}]);
    Credentials::with(()).given(deleted.clone()).when(restore(7)).then_expect_error_message(missing);
    Credentials::with(())
        .given(deleted.clone())
        .when(CredentialCommand::Rotate { value: value(2) })
        .then_expect_error_message(missing);
    Credentials::with(())
        .given(deleted.clone())
        .when(CredentialCommand::Delete { destroy_at: None, bound_to: None })
        .then_expect_events(vec![CredentialEvent::Deleted { destroy_at: None, bound_to: None }]);
    Credentials::with(())
        .given(and(CredentialEvent::Deleted { destroy_at: None, bound_to: None }))
        .when(restore(0))
        .then_expect_error_message(missing);
    let record = || CredentialCommand::RecordDestruction { versions: 2 };
    let destroyed = CredentialEvent::Destroyed { versions: 2 };
    Credentials::with(()).given(deleted.clone()).when(record()).then_expect_events(vec![destroyed.clone()]);
    let mut gone = deleted;
    gone.push(destroyed);
    Credentials::with(()).given(gone.clone()).when(record()).then_expect_events(vec![]);
    Credentials::with(()).given(gone).when(restore(1)).then_expect_error_message(missing);
    Credentials::with(()).given(created()).when(record()).then_expect_events(vec![]);
}

#[test]
fn old_versions_can_be_destroyed_and_the_present_one_cannot() {
    let rotated = and(CredentialEvent::Rotated { version: 2, key_version: 1, value_hash: "cd".into() });
    let destroy = |version| CredentialCommand::DestroyVersion { version };
    let event = CredentialEvent::VersionDestroyed { version: 1 };
    Credentials::with(()).given(rotated.clone()).when(destroy(1)).then_expect_events(vec![event.clone()]);
    Credentials::with(())
        .given(rotated.clone())
        .when(destroy(2))
        .then_expect_error_message("This is the present version: store a new value first, or delete the secret.");
    for missing in [0, 3] {
        Credentials::with(())
            .given(rotated.clone())
            .when(destroy(missing))
            .then_expect_error_message("There is no version of this secret with this id in the workspace.");
    }
    let mut twice = rotated;
    twice.push(event);
    Credentials::with(()).given(twice).when(destroy(1)).then_expect_events(vec![]);
}

#[test]
fn what_went_with_its_key_is_told_once_the_present_version_too() {
    let rotated = and(CredentialEvent::Rotated { version: 3, key_version: 1, value_hash: "cd".into() });
    let record = |versions: &[i32]| CredentialCommand::RecordErasure { versions: versions.to_vec() };
    let gone = |version| CredentialEvent::VersionDestroyed { version };
    Credentials::with(())
        .given(rotated.clone())
        .when(record(&[3, 1, 1, 4, 0]))
        .then_expect_events(vec![gone(1), gone(3)]);
    let mut told = rotated.clone();
    told.push(gone(3));
    Credentials::with(()).given(told.clone()).when(record(&[3])).then_expect_events(vec![]);
    let mut deleted = rotated;
    deleted.push(CredentialEvent::Deleted { destroy_at: Some(at(7)), bound_to: None });
    Credentials::with(()).given(deleted.clone()).when(record(&[3])).then_expect_events(vec![gone(3)]);
    deleted.push(CredentialEvent::Destroyed { versions: 2 });
    Credentials::with(()).given(deleted).when(record(&[3])).then_expect_events(vec![]);
    // A new value takes its place.
    let value = value(4);
    let stored = CredentialEvent::Rotated { version: 4, key_version: 1, value_hash: "ab".into() };
    Credentials::with(()).given(told).when(CredentialCommand::Rotate { value }).then_expect_events(vec![stored]);
}
