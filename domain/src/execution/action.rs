//! Renders a `connector` step into what its connector is asked to do. No request yet: that is the connector's matter.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    connector::kind::Repeat,
    expression::{self, Budget, ExpressionError, Scope},
    ids::{ConnectorId, CredentialId},
    operation::is_safe_method,
    workflow::action::{ActionBinding, ConnectorCall},
};

/// An action with its input, without credentials: what the log keeps as a step's input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RenderedAction {
    pub connector_type: String,
    pub action: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential_id: Option<CredentialId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connector_id: Option<ConnectorId>,
    pub input: Map<String, Value>,
}

impl RenderedAction {
    pub(super) fn render(
        call: &ConnectorCall,
        binding: &ActionBinding,
        scope: &Scope,
    ) -> Result<RenderedAction, ExpressionError> {
        let mut input = expression::render_map(&call.input, scope, &Budget::default())?;
        // So that an expression can leave a field empty: what is null counts as not given.
        input.retain(|_, value| !value.is_null());
        Ok(RenderedAction {
            connector_type: binding.connector_type.clone(),
            action: binding.action.clone(),
            credential_id: call.credential_id,
            connector_id: call.connector_id,
            input,
        })
    }

    /// How this very call may be repeated: what depends on the method is decided by it.
    pub(super) fn repeat(&self, declared: Repeat) -> Repeat {
        let method = self.input.get("method").and_then(Value::as_str).unwrap_or("GET").to_ascii_uppercase();
        match declared {
            Repeat::ByMethod if is_safe_method(&method) => Repeat::Safe,
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta, Utc};
    use serde_json::json;

    use super::*;
    use crate::{
        execution::{Effect, Execution, ExecutionEvent, ExecutionStatus, Rendered, Run, StepError, next_effects},
        expression::Values,
        ids::ExecutionId,
        sealed::{Sealed, Stored},
        workflow::{Definition, action::Actions, check},
    };

    /// What is asked of the outside: the input, whether it may be repeated, and whether a key goes along.
    fn asked(repeat: Repeat, idempotency: &str, method: &str) -> (Map<String, Value>, bool, bool) {
        let config =
            json!({ "method": method, "n": "{{ input.n + 1 }}", "gone": "{{ input.nothing }}", "list": [null] });
        let input = json!({ "n": 1, "nothing": null });
        let state = Execution { status: ExecutionStatus::Running, started_at: Some(at(0)), ..Execution::default() };
        match next(repeat, idempotency, config, &input, &state, false, at(0)) {
            Effect::Call { call: Rendered::Action(action), idempotency_key, repeatable, .. } => {
                (action.input, repeatable, idempotency_key.is_some())
            }
            other => panic!("{other:?}"),
        }
    }

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap() + TimeDelta::seconds(seconds)
    }

    /// What follows for the one step `a`.
    fn next(
        repeat: Repeat,
        idempotency: &str,
        mut config: Value,
        input: &Value,
        state: &Execution,
        abandoned: bool,
        now: DateTime<Utc>,
    ) -> Effect {
        config["connectorType"] = json!("some");
        config["action"] = json!("act");
        let step = json!({ "id": "a", "type": "connector", "idempotency": idempotency, "config": config });
        let definition = Definition::parse(&json!({ "steps": [step] })).unwrap();
        let binding = ActionBinding { connector_type: "some".into(), action: "act".into(), repeat };
        let actions = Actions::from([("a".to_owned(), binding)]);
        let bindings = check::check(&definition, &Default::default(), &actions).unwrap();
        let (values, abandoned) = (Values::new(input), abandoned.then(|| "a".to_owned()).into_iter().collect());
        let run = Run {
            id: ExecutionId::default(),
            definition: &definition,
            bindings: &bindings,
            state,
            values: &values,
            abandoned: &abandoned,
            now,
        };
        next_effects(&run).remove(0)
    }

    #[test]
    fn only_what_may_be_repeated_is_repeated() {
        for (repeat, idempotency, method, repeatable, keyed) in [
            (Repeat::Safe, "auto", "POST", true, false),
            (Repeat::Keyed, "auto", "POST", true, true),
            (Repeat::Keyed, "none", "POST", false, false),
            (Repeat::KeyedFor(120), "auto", "POST", true, true),
            (Repeat::Natural, "auto", "POST", true, false),
            (Repeat::Natural, "none", "POST", false, false),
            (Repeat::Never, "auto", "GET", false, false),
            (Repeat::ByMethod, "auto", "get", true, false),
            (Repeat::ByMethod, "auto", "POST", false, true),
            (Repeat::ByMethod, "key", "POST", true, true),
            (Repeat::ByMethod, "none", "POST", false, false),
        ] {
            let (input, may, key) = asked(repeat, idempotency, method);
            assert_eq!((may, key), (repeatable, keyed), "{repeat:?} {idempotency} {method}");
            assert_eq!(input["n"], 2, "expressions are evaluated, and keep their type");
            assert_eq!((input.get("gone"), &input["list"]), (None, &json!([null])), "null leaves a field empty");
        }
    }

    #[test]
    fn an_input_has_a_limit_as_a_whole() {
        let input = json!({ "five": "x".repeat(5 << 20) });
        let config = json!({ "a": "{{ input.five }}", "b": ["{{ input.five }}"], "c": "{{ input.five }}", "d": "{{ input.five }}" });
        let state = Execution { status: ExecutionStatus::Running, started_at: Some(at(0)), ..Execution::default() };
        match next(Repeat::Never, "auto", config, &input, &state, false, at(0)) {
            Effect::Fail { error, .. } => assert_eq!(error.code, "EXPRESSION"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_key_is_used_again_only_while_the_service_remembers_it() {
        let started = |attempt: u32, seconds: i64| ExecutionEvent::StepStarted {
            key: "a".into(),
            step_id: "a".into(),
            attempt,
            input: Stored::Inline(Sealed::from_parts("t".into(), 1, "n".into(), "c".into())),
            idempotency_key: Some("k".into()),
            repeatable: true,
            executor: "e".into(),
            lease_until: at(seconds),
            started_at: at(seconds),
        };
        let failed = |attempt: u32, code: &str, http_status: Option<u16>, seconds: i64| ExecutionEvent::StepFailed {
            key: "a".into(),
            step_id: "a".into(),
            attempt,
            error: StepError { code: code.into(), message: String::new() },
            output: None,
            http_status,
            duration_ms: 0,
            call: None,
            retry_at: Some(at(seconds)),
            failed_at: at(seconds),
        };
        let may = |repeat: Repeat, events: Vec<ExecutionEvent>, abandoned: bool, now: i64| {
            let mut state =
                Execution { status: ExecutionStatus::Running, started_at: Some(at(0)), ..Execution::default() };
            events.into_iter().for_each(|event| state.evolve(event));
            match next(repeat, "auto", json!({}), &json!({}), &state, abandoned, at(now)) {
                Effect::Call { .. } => true,
                Effect::MarkUnknown { .. } => false,
                other => panic!("{other:?}"),
            }
        };
        let discord = Repeat::KeyedFor(120);
        // Its executor ended, and another one comes soon or late.
        assert!(may(discord, vec![started(1, 0)], true, 119));
        assert!(!may(discord, vec![started(1, 0)], true, 120));
        assert!(may(Repeat::Keyed, vec![started(1, 0)], true, 1_000_000));
        assert!(!may(discord, vec![started(1, 0), started(2, 100)], true, 130), "it is the first one that counts");
        // It may have acted, and was to be tried again at a time when the key is forgotten.
        assert!(may(discord, vec![started(1, 0), failed(1, "TIMEOUT", None, 60)], false, 60));
        assert!(
            !may(discord, vec![started(1, 0), failed(1, "TIMEOUT", None, 200)], false, 60),
            "there is no use in waiting"
        );
        let later = vec![
            started(1, 0),
            failed(1, "HTTP_502", Some(502), 30),
            started(2, 30),
            failed(2, "HTTP_429", Some(429), 150),
        ];
        assert!(!may(discord, later, false, 150), "a later answer says nothing of the first");
        // It has not acted.
        assert!(may(discord, vec![started(1, 0), failed(1, "HTTP_429", Some(429), 200)], false, 200));
        assert!(may(discord, vec![started(1, 0), failed(1, "HTTP_503", Some(503), 200)], false, 200));
    }
}
