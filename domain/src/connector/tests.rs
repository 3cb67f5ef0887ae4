//! Given, when, then.

use cqrs_es::test::TestFramework;
use serde_json::json;

use super::*;

type Connectors = TestFramework<Connector>;

fn created() -> Vec<ConnectorEvent> {
    vec![ConnectorEvent::Created {
        connector_type: "slack".into(),
        name: "Team chat".into(),
        credential_id: None,
        config: json!({}),
    }]
}

fn and(event: ConnectorEvent) -> Vec<ConnectorEvent> {
    created().into_iter().chain([event]).collect()
}

fn update(patch: ConnectorPatch) -> ConnectorCommand {
    ConnectorCommand::Update(patch)
}

#[test]
fn it_is_switched_off_and_on_once() {
    let switch = |enabled| update(ConnectorPatch { enabled: Some(enabled), ..ConnectorPatch::default() });
    Connectors::with(()).given(created()).when(switch(true)).then_expect_events(vec![]);
    Connectors::with(()).given(created()).when(switch(false)).then_expect_events(vec![ConnectorEvent::Disabled {}]);
    let off = and(ConnectorEvent::Disabled {});
    Connectors::with(()).given(off).when(switch(true)).then_expect_events(vec![ConnectorEvent::Enabled {}]);
}

#[test]
fn only_what_differs_is_told() {
    let credential = CredentialId(uuid::Uuid::from_u128(7));
    let patch = ConnectorPatch {
        name: Some("Team chat".into()),
        credential: Some(credential),
        config: Some(json!({})),
        enabled: None,
    };
    let updated = ConnectorEvent::Updated { name: None, credential_id: Some(credential), config: None };
    Connectors::with(()).given(created()).when(update(patch)).then_expect_events(vec![updated]);
}

#[test]
fn a_bad_name_and_a_bad_config_are_told_together() {
    let create = ConnectorCommand::Create {
        connector_type: "slack".into(),
        name: "a\nb".into(),
        credential: None,
        config: json!([]),
    };
    Connectors::with(())
        .given_no_previous_events()
        .when(create)
        .then_expect_error_message("2 fields are wrong; details names each.");
}

#[test]
fn what_is_deleted_is_not_there() {
    let gone = and(ConnectorEvent::Deleted {});
    let message = "There is no connector with this id in the workspace.";
    Connectors::with(()).given(gone.clone()).when(ConnectorCommand::Delete).then_expect_error_message(message);
    Connectors::with(()).given(gone).when(update(ConnectorPatch::default())).then_expect_error_message(message);
    Connectors::with(())
        .given(created())
        .when(ConnectorCommand::Delete)
        .then_expect_events(vec![ConnectorEvent::Deleted {}]);
}

#[test]
fn names_of_types_are_plain_words() {
    for good in ["slack", "http", "s3_files"] {
        assert!(kind::is_type_name(good), "{good}");
    }
    for bad in ["", "Slack", "1a", "a b", "a-b", &"x".repeat(41)] {
        assert!(!kind::is_type_name(bad), "{bad}");
    }
}
