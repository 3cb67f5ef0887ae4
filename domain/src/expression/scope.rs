//! What an expression can see: `input`, `steps`, `execution` and a loop's names.

use std::collections::{BTreeMap, HashMap};

use minijinja::Value;

/// Opened values of one execution, by step key (`fetch`, `each[3].send`). Lives in memory only.
#[derive(Debug, Clone, Default)]
pub struct Values {
    pub(crate) input: Value,
    pub(crate) steps: HashMap<String, Value>,
}

impl Values {
    pub fn new(input: &serde_json::Value) -> Self {
        Self { input: engine_value(input), steps: HashMap::new() }
    }

    /// `value` is what expressions see of the step: `{output, status, headers}`.
    pub fn set(&mut self, key: &str, value: &serde_json::Value) {
        self.steps.insert(key.to_owned(), engine_value(value));
    }

    pub fn get(&self, key: &str) -> Option<&Value> {
        self.steps.get(key)
    }
}

/// A ready evaluation context.
#[derive(Debug, Clone)]
pub struct Scope {
    root: Value,
}

impl Scope {
    /// `steps` by id as seen from one place of the workflow; `locals` are loop names.
    pub(crate) fn new(
        input: Value,
        steps: BTreeMap<String, Value>,
        execution: Value,
        locals: impl IntoIterator<Item = (String, Value)>,
    ) -> Self {
        let mut root: BTreeMap<String, Value> = locals.into_iter().collect();
        root.insert("input".into(), input);
        root.insert("steps".into(), Value::from(steps));
        root.insert("execution".into(), execution);
        Self { root: Value::from(root) }
    }

    pub(crate) fn root(&self) -> &Value {
        &self.root
    }

    #[cfg(test)]
    pub(crate) fn for_tests(values: &Values, ids: &[&str]) -> Self {
        let steps = ids.iter().map(|id| ((*id).to_owned(), values.steps[*id].clone())).collect();
        Self::new(values.input.clone(), steps, Value::from(()), [])
    }
}

/// JSON as the engine's value.
pub fn engine_value(value: &serde_json::Value) -> Value {
    Value::from(minijinja::value::Serde(value))
}
