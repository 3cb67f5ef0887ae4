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
