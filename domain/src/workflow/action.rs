//! The `connector` step: read from `config{connectorType, action, credentialId, connectorId, …action input}`, written back,
//! and bound to its action when the workflow is saved.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::definition::{Idempotency, Step, StepKind};
use crate::{
    connector::kind::Repeat,
    error::{Faults, FieldError},
    ids::{ConnectorId, CredentialId},
};

/// Fields of `config` that are the step's own; everything else is the action's input.
const OWN: [&str; 4] = ["connectorType", "action", "credentialId", "connectorId"];

#[derive(Debug, Clone, PartialEq)]
pub struct ConnectorCall {
    /// Absent: the instance says it.
    pub connector_type: Option<String>,
    pub action: String,
    /// Goes before the instance's.
    pub credential_id: Option<CredentialId>,
    pub connector_id: Option<ConnectorId>,
    /// What the action gets, expressions unevaluated.
    pub input: Map<String, Value>,
}

/// What a `connector` step was bound to when the workflow was saved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ActionBinding {
    pub connector_type: String,
    pub action: String,
    pub repeat: Repeat,
}

/// By step id.
pub type Actions = BTreeMap<String, ActionBinding>;

impl ConnectorCall {
    /// `path` is the one of `config`.
    pub(super) fn parse(config: Option<&Value>, path: &str, faults: &mut Faults) -> Option<Self> {
        let Some(config) = config else {
            faults.add(path, "is required");
            return None;
        };
        let Some(map) = config.as_object() else {
            faults.add(path, "must be an object");
            return None;
        };
        let mut text = |name: &str| {
            let value = map.get(name).filter(|value| !value.is_null())?;
            let text = value.as_str().filter(|text| !text.trim().is_empty());
            if text.is_none() {
                faults.add(format!("{path}.{name}"), "must be a text that is not empty");
            }
            text
        };
        let (connector_type, action) = (text("connectorType"), text("action"));
        let (credential, connector) = (text("credentialId"), text("connectorId"));
        let given = |name: &str| map.get(name).is_some_and(|value| !value.is_null());
        if !given("connectorType") && !given("connectorId") {
            faults.add(format!("{path}.connectorType"), "is required (or connectorId)");
        }
        if !given("action") {
            faults.add(format!("{path}.action"), "is required");
        }
        // No expressions here: which credential a step uses is decided when it is saved.
        let credential_id = id(credential, &format!("{path}.credentialId"), faults);
        let connector_id = id(connector, &format!("{path}.connectorId"), faults);
        let input = map.iter().filter(|(name, _)| !OWN.contains(&name.as_str()));
        Some(Self {
            connector_type: connector_type.map(str::to_owned),
            action: action?.to_owned(),
            credential_id,
            connector_id,
            input: input.map(|(name, value)| (name.clone(), value.clone())).collect(),
        })
    }

    pub(super) fn to_json(&self) -> Value {
        let mut map = Map::new();
        for (name, value) in [
            ("connectorType", self.connector_type.as_ref().map(|name| json!(name))),
            ("action", Some(json!(self.action))),
            ("credentialId", self.credential_id.map(|id| json!(id))),
            ("connectorId", self.connector_id.map(|id| json!(id))),
        ] {
            if let Some(value) = value {
                map.insert(name.to_owned(), value);
            }
        }
        map.extend(self.input.clone());
        Value::Object(map)
    }
}

fn id<T: std::str::FromStr<Err: std::fmt::Display>>(text: Option<&str>, field: &str, faults: &mut Faults) -> Option<T> {
    match text?.parse() {
        Ok(id) => Some(id),
        Err(error) => {
            faults.add(field, error.to_string());
            None
        }
    }
}

/// The user's word about keys must be one that the action can keep.
pub(super) fn check_key(step: &Step, binding: &ActionBinding, path: &str) -> Option<FieldError> {
    let impossible = step.idempotency == Idempotency::Key && !binding.repeat.takes_key();
    let message = || format!("{} {} sends no idempotency key", binding.connector_type, binding.action);
    impossible.then(|| FieldError::new(format!("{path}.idempotency"), message()))
}

impl super::Definition {
    /// Every connector step with its JSON path (`steps[0].then[1]`), in order.
    pub fn actions(&self) -> Vec<(String, &Step, &ConnectorCall)> {
        self.steps_in_order()
            .into_iter()
            .filter_map(|(path, step)| match &step.kind {
                StepKind::Connector(call) => Some((path, step, call)),
                _ => None,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workflow::Definition;

    fn fields(config: Value) -> Vec<String> {
        let definition = json!({ "steps": [{ "id": "say", "type": "connector", "config": config }] });
        let mut fields: Vec<_> = match Definition::parse(&definition) {
            Ok(_) => vec![],
            Err(faults) => faults.into_iter().map(|fault| fault.field).collect(),
        };
        fields.sort();
        fields
    }

    #[test]
    fn what_is_wrong_with_a_config_is_named_at_once() {
        assert_eq!(fields(json!(null)), ["steps[0].config"]);
        assert_eq!(fields(json!([])), ["steps[0].config"]);
        assert_eq!(fields(json!({})), ["steps[0].config.action", "steps[0].config.connectorType"]);
        let wrong =
            json!({ "connectorType": 1, "action": "", "credentialId": "{{ input.c }}", "connectorId": "conn_1" });
        let places = ["action", "connectorId", "connectorType", "credentialId"];
        assert_eq!(fields(wrong), places.map(|place| format!("steps[0].config.{place}")));
        assert_eq!(
            fields(json!({ "connectorType": "slack", "action": "send_message", "text": "{{ input.t }}" })),
            [""; 0]
        );
    }

    #[test]
    fn it_is_written_as_it_was_read() {
        let definition = json!({ "steps": [{
            "id": "say", "name": "say", "type": "connector",
            "config": { "connectorType": "slack", "action": "send_message", "channel": "C1", "text": "{{ input.t }}" },
        }] });
        assert_eq!(Definition::parse(&definition).unwrap().to_json(), definition);
    }
}
