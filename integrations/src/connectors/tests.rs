//! What holds for every connector; and how the connectors' own tests make jobs and answers.

use std::collections::BTreeSet;

use domain::{connector::kind::is_type_name, credential::KINDS};
use serde_json::{Map, Value, json};

use super::*;

pub(super) fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => panic!("no object: {other}"),
    }
}

static NOTHING: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);

pub(super) fn job<'a>(
    action: &'a str,
    input: &'a Map<String, Value>,
    credential: &'a Map<String, Value>,
    key: Option<&'a str>,
) -> Job<'a> {
    Job { action, input, config: &NOTHING, credential, key, reference: "ref-1" }
}

/// What is sent for an input that fits.
pub(super) fn outgoing(connector: &dyn Connector, job: &Job<'_>) -> Result<Outgoing, Wrong> {
    let kind = connector.kind();
    let action = kind.action(job.action).unwrap();
    assert_eq!(schema::faults(&action.input, &Value::Object(job.input.clone()), "", false), []);
    assert_eq!(schema::faults(&kind.credential, &Value::Object(job.credential.clone()), "", false), []);
    connector.request(job)
}

pub(super) fn http(
    connector: &dyn Connector,
    action: &str,
    input: Value,
    credential: Value,
    key: Option<&str>,
) -> OutboundRequest {
    let (input, credential) = (object(input), object(credential));
    match outgoing(connector, &job(action, &input, &credential, key)) {
        Ok(Outgoing::Http(request)) => request,
        Ok(Outgoing::Mail(_)) => panic!("a mail"),
        Err(wrong) => panic!("{wrong:?}"),
    }
}

pub(super) fn wrong(connector: &dyn Connector, action: &str, input: Value, credential: Value) -> Wrong {
    let (input, credential) = (object(input), object(credential));
    outgoing(connector, &job(action, &input, &credential, None)).err().unwrap()
}

pub(super) fn answered(status: u16, body: Value) -> OutboundResponse {
    OutboundResponse {
        status,
        headers: vec![("content-type".into(), "application/json".into())],
        body: body.to_string().into(),
        final_url: String::new(),
        elapsed: std::time::Duration::ZERO,
        redirects: 0,
        attempts: 1,
        retry_after: None,
        rate_limit: None,
    }
}

#[test]
fn every_description_is_whole() {
    let mut names = BTreeSet::new();
    for connector in all() {
        let kind = connector.kind();
        assert!(is_type_name(kind.name) && names.insert(kind.name), "{}", kind.name);
        assert!(!KINDS.contains(&kind.name), "{} is a kind of credential", kind.name);
        assert!(!kind.title.is_empty() && !kind.description.is_empty() && !kind.actions.is_empty());
        assert!(kind.credential["properties"].to_string().contains("\"writeOnly\":true"), "{}: no secret", kind.name);
        for schema in [&kind.credential, &kind.config] {
            jsonschema::validator_for(schema).unwrap_or_else(|error| panic!("{}: {error}", kind.name));
            assert_eq!(schema["additionalProperties"], json!(false), "{}", kind.name);
        }
        let mut actions = BTreeSet::new();
        for action in &kind.actions {
            let at = format!("{} {}", kind.name, action.name);
            assert!(is_type_name(action.name) && actions.insert(action.name), "{at}");
            assert!(!action.title.is_empty() && !action.description.is_empty(), "{at}");
            for schema in [&action.input, &action.output] {
                jsonschema::validator_for(schema).unwrap_or_else(|error| panic!("{at}: {error}"));
            }
            assert_eq!(action.input["additionalProperties"], json!(false), "{at}");
            for field in action.input["properties"].as_object().unwrap().keys() {
                let own = ["connectorType", "action", "credentialId", "connectorId"].contains(&field.as_str());
                assert!(!own && !field.contains('_'), "{at}: {field}");
            }
        }
    }
    assert_eq!(names.into_iter().collect::<Vec<_>>(), ["discord", "http", "slack", "smtp", "stripe"]);
}

#[test]
fn only_2xx_is_done() {
    for connector in all() {
        let kind = connector.kind();
        let actions = kind.actions.iter().map(|action| action.name);
        for action in actions.chain([""]).filter(|_| kind.name != "smtp") {
            for status in [300, 302, 304, 308] {
                let refusal = connector.read(action, &answered(status, json!({ "ok": true }))).unwrap_err();
                assert_eq!((refusal.code, refusal.like), (format!("HTTP_{status}"), status), "{}", kind.name);
                assert!(refusal.message.contains("baseUrl"), "{}", refusal.message);
            }
            for status in [200, 201, 204] {
                assert!(connector.read(action, &answered(status, json!({ "ok": true }))).is_ok(), "{}", kind.name);
            }
        }
    }
}

#[test]
fn a_secret_is_not_stored_for_a_place_in_the_open() {
    let egress = crate::egress::Egress::new(crate::egress::EgressPolicy::default()).unwrap();
    let runner = Runner::new(egress, Caps::default());
    let fields = |kind: &str, data: Value| {
        let faults = runner.check_credential(kind, &data, "data");
        faults.into_iter().map(|fault| (fault.field, fault.message)).collect::<Vec<_>>()
    };
    let hook = "http://chat.test/webhooks/12/t0kenvalue";
    for (kind, data, field) in [
        ("slack", json!({ "token": "t", "baseUrl": "http://chat.test" }), "data.baseUrl"),
        ("stripe", json!({ "apiKey": "t", "baseUrl": "HTTP://pay.test" }), "data.baseUrl"),
        ("discord", json!({ "webhookUrl": hook }), "data.webhookUrl"),
        ("discord", json!({ "botToken": "t", "baseUrl": "https://chat.test", "webhookUrl": hook }), "data.webhookUrl"),
        ("http", json!({ "auth": "bearer", "token": "t", "baseUrl": "http://api.test" }), "data.baseUrl"),
    ] {
        let found = fields(kind, data);
        assert_eq!((found.len(), found[0].0.as_str()), (1, field), "{kind}: {found:?}");
        assert!(found[0].1.contains("must be https"), "{found:?}");
    }
    assert_eq!(fields("slack", json!({ "token": "t", "baseUrl": "https://chat.test" })), []);
}

#[test]
fn an_instance_takes_no_credential_elsewhere() {
    let config = object(json!({ "baseUrl": "https://evil.test/api" }));
    let (input, credential) = (object(json!({ "channel": "C", "text": "t" })), object(json!({ "token": "x" })));
    let job = Job { config: &config, ..job("send_message", &input, &credential, None) };
    assert_eq!(slack::Slack.request(&job).err().unwrap().code, "CREDENTIAL_BOUND");
}
