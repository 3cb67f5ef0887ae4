//! Renders a `connector` step into what its connector is asked to do. No request yet: that is the connector's matter.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    connector::kind::Repeat,
    expression::{self, ExpressionError, Scope},
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
        let input = call.input.iter().map(|(name, value)| Ok((name.clone(), expression::render(value, scope)?)));
        Ok(RenderedAction {
            connector_type: binding.connector_type.clone(),
            action: binding.action.clone(),
            credential_id: call.credential_id,
            connector_id: call.connector_id,
            input: input.collect::<Result<_, ExpressionError>>()?,
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
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;
    use crate::{
        execution::{Effect, Execution, ExecutionStatus, Rendered, Run, next_effects},
        expression::Values,
        ids::ExecutionId,
        workflow::{Definition, action::Actions, check},
    };

    /// What is asked of the outside: the input, whether it may be repeated, and whether a key goes along.
    fn asked(repeat: Repeat, idempotency: &str, method: &str) -> (Map<String, Value>, bool, bool) {
        let config = json!({ "connectorType": "some", "action": "act", "method": method, "n": "{{ input.n + 1 }}" });
        let step = json!({ "id": "a", "type": "connector", "idempotency": idempotency, "config": config });
        let definition = Definition::parse(&json!({ "steps": [step] })).unwrap();
        let binding = ActionBinding { connector_type: "some".into(), action: "act".into(), repeat };
        let actions = Actions::from([("a".to_owned(), binding)]);
        let bindings = check::check(&definition, &Default::default(), &actions).unwrap();
        let now = chrono::DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let state = Execution { status: ExecutionStatus::Running, started_at: Some(now), ..Execution::default() };
        let (values, abandoned) = (Values::new(&json!({ "n": 1 })), BTreeSet::new());
        let run = Run {
            id: ExecutionId::default(),
            definition: &definition,
            bindings: &bindings,
            state: &state,
            values: &values,
            abandoned: &abandoned,
            now,
        };
        match next_effects(&run).remove(0) {
            Effect::Call { call: Rendered::Action(action), idempotency_key, repeatable, .. } => {
                (action.input, repeatable, idempotency_key.is_some())
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_what_may_be_repeated_is_repeated() {
        for (repeat, idempotency, method, repeatable, keyed) in [
            (Repeat::Safe, "auto", "POST", true, false),
            (Repeat::Keyed, "auto", "POST", true, true),
            (Repeat::Keyed, "none", "POST", false, false),
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
        }
    }
}
