//! Grants, from being given to being lost: renewed by one at a time, told once.

use chrono::{DateTime, TimeDelta, Utc};
use cqrs_es::Aggregate;

use super::*;
use crate::{
    aggregate::Decider,
    oauth::{Because, Dialect, OauthClient},
    operation::SecurityScheme,
};

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::seconds(1_800_000_000 + seconds)
}

fn credential() -> CredentialId {
    CredentialId(uuid::Uuid::from_u128(7))
}

fn client(id: &str) -> AuthScheme {
    let client = OauthClient { provider: Some("github".into()), client_id: Some(id.into()), ..OauthClient::default() };
    AuthScheme::Oauth2 { client }
}

fn granted(version: i32, life: Option<i64>) -> Granted {
    let expires_at = life.map(at);
    Granted { credential: credential(), version, scopes: vec!["a".into()], expires_at, refreshable: true }
}

fn run(state: &mut Connection, command: OauthCommand) -> Vec<ConnectionEvent> {
    let events = state.decide(ConnectionCommand::Oauth(command)).unwrap();
    events.iter().for_each(|event| state.apply(event.clone()));
    events
}

fn connected() -> Connection {
    let mut state = Connection::default();
    let create = ConnectionCommand::Create {
        name: "A".into(),
        description: None,
        source: SpecSource::None,
        base_url: Some("https://api.test".into()),
        auth: client("id"),
        credential: None,
        gate: Gate::default(),
    };
    let attach = ConnectionCommand::AttachCredential { credential: credential() };
    for command in [create, attach] {
        state.decide(command).unwrap().into_iter().for_each(|event| state.apply(event));
    }
    let (provider, dialect) = ("GitHub".to_owned(), Dialect::Github);
    run(&mut state, OauthCommand::Grant { provider, dialect, granted: granted(1, Some(3_600)), now: at(0) });
    state
}

fn begin(because: Because, seen: Option<i32>, now: i64) -> OauthCommand {
    OauthCommand::BeginRefresh {
        because,
        seen,
        executor: "e".into(),
        lease_until: at(now + 30),
        host: Some("github.com".into()),
        now: at(now),
    }
}

fn refreshed(number: u32, version: i32, now: i64) -> OauthCommand {
    let granted = granted(version, Some(now + 3_600));
    OauthCommand::RecordRefresh { number, from: version - 1, granted, rotated: true, now: at(now) }
}

fn lose(number: Option<u32>, now: i64) -> OauthCommand {
    OauthCommand::Lose { number, reason: "revoked".into(), now: at(now) }
}

#[test]
fn one_renews_and_the_others_find_it_done() {
    let mut state = connected();
    assert!(run(&mut state, begin(Because::Use, None, 10)).is_empty(), "it is good for long");
    let events = run(&mut state, begin(Because::Use, None, 3_590));
    assert!(matches!(events[0], ConnectionEvent::OauthRefreshStarted { number: 1, .. }));
    assert!(
        matches!(&events[1], ConnectionEvent::CredentialRead { version: 1, purpose, .. } if purpose == "oauth_refresh")
    );
    assert!(run(&mut state, begin(Because::Use, None, 3_591)).is_empty(), "somebody is at it");
    assert_eq!(run(&mut state, refreshed(1, 2, 3_592)).len(), 1);
    assert!(run(&mut state, begin(Because::Use, None, 3_593)).is_empty());
    assert!(run(&mut state, begin(Because::Refused, Some(1), 3_593)).is_empty(), "the refused one is the old one");
    assert_eq!(state.grant.as_ref().unwrap().version, 2);
}

#[test]
fn a_refused_token_is_renewed_once_and_others_wait_for_it() {
    let mut state = connected();
    assert_eq!(run(&mut state, begin(Because::Refused, Some(1), 5)).len(), 2);
    // Whoever else was refused must wait, and not take the refused one for cured.
    let grant = state.grant.as_ref().unwrap();
    assert!(grant.is_due(Because::Refused, Some(1), at(6)) && grant.is_under_way(at(6)));
    run(&mut state, refreshed(1, 2, 7));
    let grant = state.grant.as_ref().unwrap();
    assert!(!grant.is_due(Because::Refused, Some(2), at(8)), "a third one would not help");
}

#[test]
fn who_died_in_between_is_noticed_and_its_late_failure_says_nothing() {
    let mut state = connected();
    run(&mut state, begin(Because::Use, None, 3_590));
    run(&mut state, begin(Because::Use, None, 3_621));
    assert!(state.grant.as_ref().unwrap().interrupted, "the refresh token may be used up");
    assert!(run(&mut state, OauthCommand::FailRefresh { number: 1, reason: "x".into(), now: at(3_622) }).is_empty());
    assert!(run(&mut state, lose(Some(1), 3_622)).is_empty());
    run(&mut state, lose(Some(2), 3_623));
    assert_eq!(state.standing.health, Health::CredentialExpired);
    // The first wakes, and holds the tokens that the provider gave it.
    assert_eq!(run(&mut state, refreshed(1, 2, 3_624)).len(), 2, "and the health is told");
    let grant = state.grant.as_ref().unwrap();
    assert_eq!((grant.lost.is_none(), grant.interrupted, state.standing.health), (true, false, Health::Healthy));
}

#[test]
fn late_tokens_are_taken_while_nobody_else_has_renewed() {
    let mut state = connected();
    run(&mut state, begin(Because::Use, None, 3_590));
    run(&mut state, begin(Because::Use, None, 3_621));
    assert_eq!(
        run(&mut state, refreshed(1, 2, 3_622)).len(),
        1,
        "the second is at it, with a refresh token that is used up"
    );
    // What comes of the second is moot.
    assert!(run(&mut state, lose(Some(2), 3_623)).is_empty());
    assert!(run(&mut state, OauthCommand::FailRefresh { number: 2, reason: "x".into(), now: at(3_623) }).is_empty());
    let stale = |number, version| OauthCommand::RecordRefresh {
        number,
        from: 1,
        granted: granted(version, None),
        rotated: true,
        now: at(3_624),
    };
    assert!(run(&mut state, stale(2, 3)).is_empty());
    assert_eq!(state.grant.as_ref().unwrap().version, 2);

    // A person has connected it again: nothing of the grant before is taken for the new one's.
    run(&mut state, begin(Because::Refused, Some(2), 3_630));
    let (provider, dialect) = ("GitHub".to_owned(), Dialect::Github);
    run(&mut state, OauthCommand::Grant { provider, dialect, granted: granted(3, Some(9_000)), now: at(3_640) });
    run(&mut state, lose(None, 3_641));
    assert!(run(&mut state, refreshed(3, 3, 3_642)).is_empty());
    assert!(state.grant.as_ref().unwrap().lost.is_some());
}

#[test]
fn the_host_that_gets_the_tokens_is_the_one_that_a_person_agreed_to() {
    let mut state = connected();
    let run_all = |state: &mut Connection, command| {
        state.decide(command).unwrap().into_iter().for_each(|event| state.apply(event));
    };
    let base_url = Some("https://evil.test".to_owned());
    run_all(&mut state, ConnectionCommand::Update(ConnectionPatch { base_url, ..ConnectionPatch::default() }));
    // A new client's secret says nothing of the tokens.
    run_all(&mut state, ConnectionCommand::BindCredential { credential: credential() });
    assert_eq!(state.credential_base.as_deref(), Some("https://api.test"));
    let (provider, dialect) = ("GitHub".to_owned(), Dialect::Github);
    run(&mut state, OauthCommand::Grant { provider, dialect, granted: granted(2, None), now: at(20) });
    assert_eq!(state.credential_base.as_deref(), Some("https://evil.test"), "agreed to anew");
}

#[test]
fn a_grant_is_lost_once_and_given_anew() {
    let mut state = connected();
    assert_eq!(run(&mut state, lose(None, 10)).len(), 1);
    assert!(run(&mut state, lose(None, 11)).is_empty());
    assert!(run(&mut state, begin(Because::Asked, None, 12)).is_empty(), "there is nothing to renew it with");
    let (provider, dialect) = ("GitHub".to_owned(), Dialect::Github);
    let events = run(&mut state, OauthCommand::Grant { provider, dialect, granted: granted(2, None), now: at(20) });
    assert!(matches!(events[1], ConnectionEvent::HealthChanged { to: Health::Healthy, .. }));
}

#[test]
fn failures_wait_and_revocation_ends_it() {
    let mut state = connected();
    run(&mut state, begin(Because::Schedule, None, 3_500));
    run(&mut state, OauthCommand::FailRefresh { number: 1, reason: "500".into(), now: at(3_501) });
    assert!(run(&mut state, begin(Because::Schedule, None, 3_510)).is_empty());
    assert_eq!(run(&mut state, begin(Because::Schedule, None, 3_516)).len(), 2);
    assert_eq!(run(&mut state, OauthCommand::Revoke { note: None, now: at(3_520) }).len(), 1);
    assert!(state.grant.is_none());
    assert!(run(&mut state, refreshed(2, 3, 3_521)).is_empty(), "it was given back meanwhile");
    let again = state.decide(ConnectionCommand::Oauth(OauthCommand::Revoke { note: None, now: at(3_522) }));
    assert_eq!(again.unwrap_err().code, crate::error::Code::Conflict);
}

#[test]
fn another_client_was_granted_nothing() {
    let mut state = connected();
    let patch = |auth| ConnectionCommand::Update(ConnectionPatch { auth: Some(auth), ..ConnectionPatch::default() });
    let AuthScheme::Oauth2 { client: mut wider } = client("id") else { unreachable!() };
    wider.scopes = vec!["more".into()];
    for (auth, kept) in [(AuthScheme::Oauth2 { client: wider }, true), (client("other"), false)] {
        state.decide(patch(auth)).unwrap().into_iter().for_each(|event| state.apply(event));
        assert_eq!(state.grant.is_some(), kept);
    }
}

#[test]
fn a_secret_goes_to_no_other_client_or_endpoint() {
    let own = |client_id: &str, token: &str| {
        let (client_id, token_url) = (Some(client_id.to_owned()), Some(token.to_owned()));
        let authorization_url = Some("https://id.test/authorize".into());
        AuthScheme::Oauth2 { client: OauthClient { client_id, token_url, authorization_url, ..OauthClient::default() } }
    };
    let patch = |auth| ConnectionCommand::Update(ConnectionPatch { auth: Some(auth), ..ConnectionPatch::default() });
    for (auth, kept) in [
        (own("a", "https://id.test/other-path"), true),
        (own("b", "https://id.test/token"), false),
        (own("a", "https://evil.test/token"), false),
        (client("a"), false),
        (AuthScheme::Bearer, false),
    ] {
        let mut state = connected();
        for command in [
            patch(own("a", "https://id.test/token")),
            ConnectionCommand::AttachCredential { credential: credential() },
            patch(auth.clone()),
        ] {
            state.decide(command).unwrap().into_iter().for_each(|event| state.apply(event));
        }
        assert_eq!(state.credential.is_some(), kept, "{auth:?}");
    }
}

#[test]
fn scopes_that_a_call_lacks_are_named() {
    let state = connected();
    let need = |scopes: &[&str]| SecurityScheme {
        name: "login".into(),
        kind: "oauth2".into(),
        scheme: None,
        location: None,
        parameter_name: None,
        scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
    };
    assert_eq!(state.lacking_scopes(Some(&vec![vec![need(&["a", "b"])]])), ["b"]);
    assert!(state.lacking_scopes(Some(&vec![vec![need(&["b"])], vec![need(&["a"])]])).is_empty(), "another way does");
    assert!(state.lacking_scopes(None).is_empty() && Connection::default().lacking_scopes(None).is_empty());
}
