//! A plan: what was asked, what was proposed, who confirmed it, what came of it.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    aggregate::aggregate,
    error::{Code, Rejection},
    event::events,
    ids::{ExecutionId, WorkflowId},
    sealed::Sealed,
};

events! {
    pub enum PlanEvent {
        "plan.drafted" v "1" = Drafted {
            /// What the person said.
            message: Sealed<String>,
            /// `llm` or `offline`.
            planner: String,
            /// The proposed workflow: name, steps, inputSchema. Literal values of the request stand in it, so it is sealed.
            workflow: Sealed<serde_json::Value>,
            /// SHA-256 of the workflow's canonical JSON, hex: what a confirmation is bound to.
            plan_hash: String,
            confidence: f32,
            writes: bool,
            candidates: Vec<String>,
        },
        "plan.executed" v "1" = Executed { plan_hash: String, workflow_id: WorkflowId, execution_id: ExecutionId },
    }
}

#[derive(Debug)]
pub enum PlanCommand {
    Draft {
        message: Sealed<String>,
        planner: String,
        workflow: Sealed<serde_json::Value>,
        plan_hash: String,
        confidence: f32,
        writes: bool,
        candidates: Vec<String>,
    },
    /// `plan_hash` is what the person saw.
    Execute { plan_hash: String, workflow: WorkflowId, execution: ExecutionId },
}

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Plan {
    pub drafted: bool,
    pub workflow: Option<Sealed<serde_json::Value>>,
    pub plan_hash: String,
    pub writes: bool,
    pub planner: String,
}

impl Plan {
    fn evolve(&mut self, event: PlanEvent) {
        if let PlanEvent::Drafted { workflow, plan_hash, writes, planner, .. } = event {
            *self = Plan { drafted: true, workflow: Some(workflow), plan_hash, writes, planner };
        }
    }
}

/// The hash a confirmation is bound to. Object keys are sorted, so equal plans hash alike.
pub fn hash(workflow: &serde_json::Value) -> String {
    let mut text = String::new();
    canonical(workflow, &mut text);
    hex::encode(Sha256::digest(text.as_bytes()))
}

fn canonical(value: &serde_json::Value, out: &mut String) {
    match value {
        serde_json::Value::Object(map) => {
            let mut keys: Vec<_> = map.keys().collect();
            keys.sort_unstable();
            out.push('{');
            for (i, key) in keys.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                out.push_str(&serde_json::Value::from(key.as_str()).to_string());
                out.push(':');
                canonical(&map[key], out);
            }
            out.push('}');
        }
        serde_json::Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                canonical(item, out);
            }
            out.push(']');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

fn decide(state: &Plan, command: PlanCommand) -> Result<Vec<PlanEvent>, Rejection> {
    match command {
        PlanCommand::Draft { .. } if state.drafted => Err(Rejection::new(Code::Conflict, "This plan exists already.")),
        PlanCommand::Draft { message, planner, workflow, plan_hash, confidence, writes, candidates } => {
            Ok(vec![PlanEvent::Drafted { message, planner, workflow, plan_hash, confidence, writes, candidates }])
        }
        PlanCommand::Execute { .. } if !state.drafted => Err(Rejection::not_found(Code::PlanNotFound, "plan")),
        PlanCommand::Execute { plan_hash, .. } if plan_hash != state.plan_hash => Err(Rejection::new(
            Code::Conflict,
            "planHash is not the hash of this plan: look at the plan again and confirm what it says now.",
        )),
        PlanCommand::Execute { plan_hash, workflow, execution } => {
            Ok(vec![PlanEvent::Executed { plan_hash, workflow_id: workflow, execution_id: execution }])
        }
    }
}

aggregate!(Plan, "plan", PlanCommand, PlanEvent, decide);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn equal_plans_hash_alike_and_others_differ() {
        assert_eq!(
            hash(&json!({"a": [1, {"x": "é", "b": null}], "c": 2})),
            hash(&json!({"c": 2, "a": [1, {"b": null, "x": "é"}]}))
        );
        assert_ne!(hash(&json!({"a": 1})), hash(&json!({"a": "1"})));
    }
}
