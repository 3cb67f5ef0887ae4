//! What the document decides, and what of a credential goes on which call.

use cqrs_es::Aggregate;
use serde_json::{Value, json};

use super::*;
use crate::{
    aggregate::Decider,
    operation::{Operation, ParameterLocation, SpecSummary},
};

/// A document with these schemes, the document's own security, and operations with theirs.
fn spec(security: Value, operations: Value) -> SpecSummary {
    let scheme = |name: &str, kind: &str| json!({ "name": name, "type": kind });
    let mut schemes = vec![scheme("oauth", "oauth2"), scheme("cert", "mutualTLS"), scheme("odd", "http")];
    schemes.push(json!({ "name": "key", "type": "apiKey", "in": "header", "parameterName": "X-Key" }));
    schemes.push(json!({ "name": "app", "type": "apiKey", "in": "query", "parameterName": "app_id" }));
    schemes.push(json!({ "name": "login", "type": "http", "scheme": "basic" }));
    let operations: Vec<Value> = operations
        .as_array()
        .unwrap()
        .iter()
        .map(|security| json!({ "method": "GET", "path": "/a", "security": security }))
        .collect();
    let whole = json!({ "specVersion": "3.1.0", "title": "t", "version": "1", "securitySchemes": schemes,
        "security": security, "operations": operations });
    serde_json::from_value(whole).unwrap()
}

fn way(name: &str) -> Value {
    json!({ "scheme": name })
}

fn both(one: &str, other: &str) -> Value {
    json!({ "scheme": one, "with": [{ "scheme": other }] })
}

/// What is sent to an operation with this security.
fn sent(auth: &AuthScheme, security: Value) -> Sending {
    let spec = spec(json!([]), json!([security]));
    auth.sending(security::needs(&spec, &spec.operations[0]).as_ref(), false)
}

fn key(location: ParameterLocation, name: &str) -> AuthScheme {
    AuthScheme::ApiKey { location, name: name.into() }
}

fn x_key() -> AuthScheme {
    key(ParameterLocation::Header, "x-key")
}

fn parts(sending: Sending) -> Vec<Part> {
    let Sending::Parts(parts) = sending else { panic!("{sending:?}") };
    parts
}

#[test]
fn an_operation_takes_the_first_alternative_there_is_a_value_for() {
    let whole = |auth: AuthScheme| vec![Part { slot: None, auth }];
    assert_eq!(parts(sent(&x_key(), json!([way("login"), way("key")]))), whole(x_key()));
    assert_eq!(parts(sent(&AuthScheme::Bearer, json!([way("oauth")]))), whole(AuthScheme::Bearer));
    assert_eq!(parts(sent(&AuthScheme::Basic, json!([way("key"), way("login")]))), whole(AuthScheme::Basic));
    assert_eq!(parts(sent(&AuthScheme::Mtls, json!([way("cert")]))), whole(AuthScheme::Mtls));
    // Nothing said: everything is sent.
    let silent = spec(json!([]), json!([null]));
    assert_eq!(security::needs(&silent, &silent.operations[0]), None);
    assert_eq!(parts(x_key().sending(None, false)), whole(x_key()));
}

#[test]
fn a_public_operation_gets_no_credential() {
    for auth in [x_key(), AuthScheme::Bearer, AuthScheme::Custom { headers: vec![] }] {
        assert_eq!(sent(&auth, json!([])), Sending::Nothing);
    }
    // May go without: with what there is, when it fits.
    assert_eq!(sent(&AuthScheme::Basic, json!([way(""), way("key")])), Sending::Nothing);
    assert_eq!(parts(sent(&x_key(), json!([way(""), way("key")]))).len(), 1);
}

#[test]
fn what_is_needed_together_must_be_there_together() {
    let lacking = sent(&x_key(), json!([both("key", "app"), way("oauth")]));
    let words = "key (header X-Key) and app (query app_id), or oauth (bearer token)";
    assert_eq!(lacking, Sending::Lacking(words.into()));
    let keys = vec![
        KeyPlace { location: ParameterLocation::Query, name: "app_id".into() },
        KeyPlace { location: ParameterLocation::Header, name: "X-KEY".into() },
        KeyPlace { location: ParameterLocation::Cookie, name: "sid".into() },
    ];
    let sent = parts(sent(&AuthScheme::ApiKeys { keys }, json!([both("key", "app")])));
    let slots: Vec<_> = sent.iter().map(|part| part.slot.as_deref().unwrap()).collect();
    assert_eq!(slots, ["header x-key", "query app_id"], "the third key is not asked for");
}

#[test]
fn values_by_scheme_are_chosen_by_each_operation() {
    let named = |name: &str, auth: AuthScheme| NamedScheme { name: name.into(), auth };
    let auth = AuthScheme::Document { schemes: vec![named("key", x_key()), named("oauth", AuthScheme::Bearer)] };
    let slots = |security: Value| -> Vec<String> {
        parts(sent(&auth, security)).into_iter().filter_map(|part| part.slot).collect()
    };
    assert_eq!(slots(json!([way("oauth")])), ["oauth"]);
    assert_eq!(slots(json!([both("oauth", "key")])), ["oauth", "key"]);
    assert!(matches!(sent(&auth, json!([way("login")])), Sending::Lacking(_)));
}

#[test]
fn what_nobody_understands_is_not_judged_and_templates_are_the_users_word() {
    assert_eq!(parts(sent(&x_key(), json!([way("odd")]))).len(), 1);
    assert_eq!(parts(sent(&x_key(), json!([way("nowhere")]))).len(), 1);
    let headers = vec![HeaderTemplate { name: "X".into(), template: "{{ secret.A }}".into() }];
    assert_eq!(parts(sent(&AuthScheme::Custom { headers }, json!([way("login")]))).len(), 1);
    assert_eq!(sent(&AuthScheme::None, json!([way("login")])), Sending::Nothing, "the API says no by itself");
}

#[test]
fn a_key_whose_place_is_the_documents_moves_with_it() {
    let spec = spec(json!([way("key")]), json!([[way("app")]]));
    let needs = security::needs(&spec, &spec.operations[0]);
    let moved = parts(x_key().sending(needs.as_ref(), true));
    assert_eq!(moved, [Part { slot: None, auth: key(ParameterLocation::Query, "app_id") }]);
    assert!(matches!(x_key().sending(needs.as_ref(), false), Sending::Lacking(_)), "the user named the place");
}

fn resolved(wanted: Wanted, security: Value, operations: Value) -> Result<AuthScheme, String> {
    wanted.resolve(Some(&SpecSecurity::of(&spec(security, operations))))
}

#[test]
fn defaults_come_from_the_document_then_from_its_operations() {
    let none = json!([null]);
    let api_key = |location| Wanted::ApiKey { location };
    let query = || key(ParameterLocation::Query, "app_id");
    assert_eq!(resolved(Wanted::Value, json!([way("app"), way("key")]), none.clone()).unwrap(), query());
    assert_eq!(resolved(Wanted::Value, json!([way("oauth")]), none.clone()).unwrap(), AuthScheme::Bearer);
    assert_eq!(resolved(Wanted::Value, json!([both("key", "app")]), json!([[way("app")]])).unwrap(), query());
    assert_eq!(resolved(Wanted::Token, json!([way("key")]), none.clone()).unwrap(), AuthScheme::Bearer);
    let header = Some(ParameterLocation::Header);
    let declared = key(ParameterLocation::Header, "X-Key");
    assert_eq!(resolved(api_key(header), json!([way("app")]), none.clone()).unwrap(), declared);
    let cookie = Some(ParameterLocation::Cookie);
    let usual = key(ParameterLocation::Cookie, "X-API-Key");
    assert_eq!(resolved(api_key(cookie), json!([way("app")]), none).unwrap(), usual);
    let empty = SpecSecurity::default();
    assert_eq!(Wanted::Token.resolve(Some(&empty)).unwrap(), AuthScheme::Bearer);
    assert!(Wanted::Value.resolve(Some(&empty)).unwrap_err().contains("Set authType"));
}

#[test]
fn every_scheme_that_does_not_fit_is_named() {
    let value = |name: &str, shape| NamedValue { name: name.into(), shape };
    let values = vec![value("key", Shape::Text), value("login", Shape::Pair), value("cert", Shape::Certificate)];
    let AuthScheme::Document { schemes } = resolved(Wanted::Schemes { values }, json!([]), json!([])).unwrap() else {
        panic!("not by scheme")
    };
    assert_eq!(schemes[1].auth, AuthScheme::Basic);
    let values = vec![value("nowhere", Shape::Text), value("login", Shape::Text), value("key", Shape::Text)];
    let error = resolved(Wanted::Schemes { values }, json!([]), json!([])).unwrap_err();
    assert!(error.contains("nowhere") && error.contains("login") && !error.contains("key;"), "{error}");
}

/// A connection that left it to the document.
fn undecided() -> Connection {
    let mut state = Connection::default();
    let source = SpecSource::Url { url: "https://a.test/openapi.json".into() };
    state.apply(ConnectionEvent::Created {
        name: "A".into(),
        description: None,
        source,
        base_url: None,
        auth: AuthScheme::FromDocument { wanted: Wanted::Value },
        credential_id: Some(CredentialId::default()),
        risks: vec![],
    });
    state
}

fn read(state: &mut Connection, security: Value) -> Vec<ConnectionEvent> {
    state.apply(ConnectionEvent::RefreshRequested { source: state.source.clone(), scheduled: false });
    state.apply(ConnectionEvent::IngestionStarted { executor: "e".into(), number: state.ingestions + 1 });
    let facts = super::tests::secured("/", SpecSecurity::of(&spec(security, json!([]))));
    let command = ConnectionCommand::RecordSpec {
        number: state.ingestions,
        facts,
        changes: SpecChanges::default(),
        via: DocumentVia::Fetched,
        gate: Gate::default(),
    };
    let events = state.decide(command).unwrap();
    events.iter().for_each(|event| state.apply(event.clone()));
    events
}

#[test]
fn the_document_decides_when_it_is_read_and_again_when_it_changed() {
    let mut state = undecided();
    assert!(state.sending(None).unwrap_err().contains("not been read yet"));
    let events = read(&mut state, json!([way("app")]));
    assert_eq!(events[1], ConnectionEvent::AuthResolved { auth: key(ParameterLocation::Query, "app_id") });
    assert_eq!(read(&mut state, json!([way("app")])).len(), 1, "the same again is no news");
    read(&mut state, json!([way("key")]));
    assert_eq!(state.auth, key(ParameterLocation::Header, "X-Key"));
    // The user's own word ends it.
    let patch = ConnectionPatch { auth: Some(AuthScheme::Bearer), ..ConnectionPatch::default() };
    let events = state.decide(ConnectionCommand::Update(patch)).unwrap();
    events.into_iter().for_each(|event| state.apply(event));
    assert_eq!((read(&mut state, json!([way("app")])).len(), &state.auth), (1, &AuthScheme::Bearer));
}

#[test]
fn a_document_that_is_there_decides_a_change_at_once() {
    let mut state = undecided();
    read(&mut state, json!([way("app")]));
    let auth = |wanted| Some(AuthScheme::FromDocument { wanted });
    let patch = ConnectionPatch { auth: auth(Wanted::Token), ..ConnectionPatch::default() };
    let events = state.decide(ConnectionCommand::Update(patch)).unwrap();
    assert_eq!(events[1], ConnectionEvent::AuthResolved { auth: AuthScheme::Bearer });
    let same = ConnectionPatch { auth: auth(Wanted::Value), ..ConnectionPatch::default() };
    assert!(state.decide(ConnectionCommand::Update(same)).unwrap().is_empty(), "asked for before");
}

#[test]
fn without_a_document_nothing_is_left_open() {
    let create = |wanted| {
        let command = ConnectionCommand::Create {
            name: "A".into(),
            description: None,
            source: SpecSource::None,
            base_url: Some("https://a.test".into()),
            auth: AuthScheme::FromDocument { wanted },
            credential: None,
            gate: Gate::default(),
        };
        Connection::default().decide(command)
    };
    assert_eq!(create(Wanted::Value).unwrap_err().details[0].field, "authType");
    let events = create(Wanted::Token).unwrap();
    assert!(matches!(&events[0], ConnectionEvent::Created { auth: AuthScheme::Bearer, .. }));
}

#[test]
fn operations_without_security_follow_the_document() {
    let spec = spec(json!([way("key")]), json!([null, []]));
    let of = |operation: &Operation| security::needs(&spec, operation).unwrap();
    assert_eq!((of(&spec.operations[0]).len(), of(&spec.operations[1]).len()), (1, 0));
}
