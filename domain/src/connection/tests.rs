//! Given, when, then for connections.

use cqrs_es::test::TestFramework;

use super::*;
use crate::operation::ParameterLocation;

type Connections = TestFramework<Connection>;

fn create(source: SpecSource, base_url: Option<&str>, auth: AuthScheme) -> ConnectionCommand {
    ConnectionCommand::Create {
        name: "CRM".into(),
        description: None,
        source,
        base_url: base_url.map(Into::into),
        auth,
        credential: None,
        gate: Gate::default(),
    }
}

fn created(source: SpecSource) -> ConnectionEvent {
    ConnectionEvent::Created {
        name: "CRM".into(),
        description: None,
        source,
        base_url: None,
        auth: AuthScheme::Bearer,
        credential_id: None,
        risks: vec![],
    }
}

#[test]
fn creation_names_every_wrong_field() {
    let error = Connections::with(())
        .given_no_previous_events()
        .when(ConnectionCommand::Create {
            name: "".into(),
            description: None,
            source: SpecSource::Url { url: "file:///etc/passwd".into() },
            base_url: Some("https://user:pw@example.test".into()),
            auth: AuthScheme::ApiKey { location: ParameterLocation::Path, name: "a b".into() },
            credential: None,
            gate: Gate::default(),
        })
        .inspect_result()
        .unwrap_err();
    let fields: Vec<_> = error.details.iter().map(|d| d.field.as_str()).collect();
    assert_eq!(fields, ["name", "baseUrl", "specUrl", "authConfig.name", "authConfig.in"]);
}

#[test]
fn notes_the_risks_of_a_host() {
    let events = Connections::with(())
        .given_no_previous_events()
        .when(create(SpecSource::None, Some("http://api.example.test"), AuthScheme::None))
        .inspect_result()
        .unwrap();
    assert!(matches!(&events[0], ConnectionEvent::Created { risks, .. } if risks.len() == 2));
}

#[test]
fn a_finished_ingestion_ignores_a_late_worker() {
    let source = SpecSource::Url { url: "https://api.example.test/openapi.json".into() };
    let failed = ConnectionEvent::IngestionFailed { errors: vec![], unreachable: false };
    Connections::with(())
        .given(vec![created(source), started("a", 1), failed])
        .when(ConnectionCommand::FailIngestion { number: 1, errors: vec![], unreachable: false })
        .then_expect_events(vec![]);
}

fn started(executor: &str, number: u32) -> ConnectionEvent {
    ConnectionEvent::IngestionStarted { executor: executor.into(), number }
}

#[test]
fn an_outcome_is_its_own_ingestions_and_no_later_ones() {
    let source = || SpecSource::Url { url: "https://api.example.test/openapi.json".into() };
    let other = SpecSource::Url { url: "https://api.example.test/v2.json".into() };
    let fail = |number| ConnectionCommand::FailIngestion { number, errors: vec![], unreachable: false };
    let failed = || ConnectionEvent::IngestionFailed { errors: vec![], unreachable: false };
    // Taken over by another executor: the first one comes too late, the second one counts.
    let taken_over = || vec![created(source()), started("a", 1), started("b", 2)];
    Connections::with(()).given(taken_over()).when(fail(1)).then_expect_events(vec![]);
    Connections::with(()).given(taken_over()).when(fail(2)).then_expect_events(vec![failed()]);
    // A new document was given while the old one was read.
    let refreshed = ConnectionEvent::RefreshRequested { source: other, scheduled: false };
    let replaced = || vec![created(source()), started("a", 1), refreshed.clone(), started("a", 2)];
    let late = ConnectionCommand::RecordSpec {
        number: 1,
        facts: facts("/"),
        changes: SpecChanges::default(),
        via: DocumentVia::Fetched,
        gate: Gate::default(),
    };
    Connections::with(()).given(replaced()).when(late).then_expect_events(vec![]);
    Connections::with(()).given(replaced()).when(fail(2)).then_expect_events(vec![failed()]);
    // Events from before the numbers count by themselves.
    let old = || vec![created(source()), started("a", 0), started("b", 0)];
    Connections::with(()).given(old()).when(fail(1)).then_expect_events(vec![]);
    Connections::with(()).given(old()).when(fail(2)).then_expect_events(vec![failed()]);
    let next = ConnectionCommand::StartIngestion { executor: "c".into(), after: 2 };
    Connections::with(()).given(old()).when(next).then_expect_events(vec![started("c", 3)]);
    // Who looked before another one began does not begin too.
    let second = ConnectionCommand::StartIngestion { executor: "c".into(), after: 1 };
    Connections::with(()).given(old()).when(second).then_expect_events(vec![]);
}

fn facts(server: &str) -> SpecFacts {
    secured(server, SpecSecurity::default())
}

pub(super) fn secured(server: &str, security: SpecSecurity) -> SpecFacts {
    SpecFacts {
        spec_hash: String::new(),
        // Another content is another hash.
        operations_hash: format!("{server} {security:?}"),
        spec_version: "3.1.0".into(),
        title: String::new(),
        api_version: String::new(),
        format: "json".into(),
        size: 0,
        files: 1,
        endpoint_count: 0,
        webhook_count: 0,
        servers: vec![server.into()],
        warnings: vec![],
        warning_count: 0,
        security,
    }
}

#[test]
fn a_deleted_connection_is_gone() {
    Connections::with(())
        .given(vec![created(SpecSource::None), ConnectionEvent::Deleted {}])
        .when(ConnectionCommand::Delete)
        .then_expect_error_message("There is no connection with this id in the workspace.");
}

#[test]
fn servers_are_made_absolute_by_the_documents_url() {
    let url = SpecSource::Url { url: "https://h.test:8443/docs/openapi.json?x=1".into() };
    assert_eq!(absolute("/v1/", &url).unwrap(), "https://h.test:8443/v1");
    assert_eq!(absolute("/", &url).unwrap(), "https://h.test:8443");
    assert_eq!(absolute("//other.test/x", &url).unwrap(), "https://other.test/x");
    assert_eq!(absolute("http://a.test/b/", &SpecSource::None).unwrap(), "http://a.test/b");
    assert_eq!(absolute("/v1", &SpecSource::None), None);
}

#[test]
fn a_credential_stays_with_the_host_it_was_stored_for() {
    use cqrs_es::Aggregate;

    let mut state = Connection::default();
    let credential = CredentialId::default();
    let refreshed = |server: &str| ConnectionEvent::SpecRefreshed {
        facts: facts(server),
        changes: SpecChanges::default(),
        via: None,
    };
    let ConnectionEvent::Created { name, description, source, base_url, auth, risks, .. } =
        created(SpecSource::Url { url: "https://docs.test/openapi.json".into() })
    else {
        panic!("created")
    };
    let credential_id = Some(credential);
    state.apply(ConnectionEvent::Created { name, description, source, base_url, auth, credential_id, risks });
    assert_eq!(state.credential_base, None, "the document has not named the host yet");
    state.apply(refreshed("https://api.test/v1/"));
    assert_eq!(state.credential_base.as_deref(), Some("https://api.test/v1"));
    state.apply(refreshed("https://evil.test"));
    assert_eq!(state.effective_base_url().unwrap(), "https://evil.test");
    assert_eq!(state.credential_base.as_deref(), Some("https://api.test/v1"));
    state.apply(ConnectionEvent::CredentialAttached { credential_id: credential });
    assert_eq!(state.credential_base.as_deref(), Some("https://evil.test"), "stored again for this host");
}

#[test]
fn a_due_refresh_is_asked_for_once() {
    let url = || SpecSource::Url { url: "https://api.example.test/openapi.json".into() };
    let refreshed = || ConnectionEvent::SpecRefreshed { facts: facts("/"), changes: SpecChanges::default(), via: None };
    let every = |hours| ConnectionEvent::Updated {
        name: None,
        description: None,
        base_url: None,
        auth: None,
        active: None,
        refresh_interval: Some(hours),
    };
    let asked = || ConnectionEvent::RefreshRequested { source: url(), scheduled: true };
    let read = || vec![created(url()), started("a", 1), refreshed(), every(24)];
    let due = |after| ConnectionCommand::RefreshDue { after };
    Connections::with(()).given(read()).when(due(0)).then_expect_events(vec![asked()]);
    // Another node was first, or a person: what was due is done.
    let again = [read(), vec![asked(), started("b", 2), refreshed()]].concat();
    Connections::with(()).given(again.clone()).when(due(0)).then_expect_events(vec![]);
    Connections::with(()).given(again).when(due(1)).then_expect_events(vec![asked()]);
    // While it is being read, and without a schedule, nothing is due.
    Connections::with(()).given([read(), vec![asked()]].concat()).when(due(1)).then_expect_events(vec![]);
    Connections::with(()).given([read(), vec![every(0)]].concat()).when(due(0)).then_expect_events(vec![]);
    let wrong = ConnectionPatch { refresh_interval: Some(LONGEST_INTERVAL + 1), ..ConnectionPatch::default() };
    Connections::with(()).given(read()).when(ConnectionCommand::Update(wrong)).then_expect_error_message(
        &crate::error::Rejection::field("refreshInterval", "must be 1 to 8760 hours, or 0").to_string(),
    );
}

#[test]
fn the_same_document_is_no_new_version() {
    let url = SpecSource::Url { url: "https://api.example.test/openapi.json".into() };
    let refreshed = ConnectionEvent::SpecRefreshed { facts: facts("/"), changes: SpecChanges::default(), via: None };
    let record = |facts| ConnectionCommand::RecordSpec {
        number: 2,
        facts,
        changes: SpecChanges::default(),
        via: DocumentVia::NotModified,
        gate: Gate::default(),
    };
    let given = || vec![created(url.clone()), started("a", 1), refreshed.clone(), started("a", 2)];
    let unchanged = ConnectionEvent::SpecUnchanged { spec_hash: String::new(), via: DocumentVia::NotModified };
    Connections::with(()).given(given()).when(record(facts("/"))).then_expect_events(vec![unchanged]);
    // The same bytes read to other operations (a file it refers to has changed, or the reader) are another version.
    let other = SpecFacts { operations_hash: "other".into(), ..facts("/") };
    let events = Connections::with(()).given(given()).when(record(other)).inspect_result().unwrap();
    assert!(matches!(&events[0], ConnectionEvent::SpecRefreshed { .. }));
}

#[test]
fn a_server_that_parsers_disagree_about_is_none() {
    let source = SpecSource::Url { url: "https://docs.test/openapi.json".into() };
    for bad in ["https:///evil.test", "http://", "///evil.test", "https://?x"] {
        assert_eq!(absolute(bad, &source), None, "{bad}");
    }
    assert_eq!(absolute("//api.test/v1/", &source).as_deref(), Some("https://api.test/v1"));
    assert_eq!(absolute("https://api.test/v1/", &source).as_deref(), Some("https://api.test/v1"));
}
