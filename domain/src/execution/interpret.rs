//! The interpreter: same history, same decisions. It reads the pinned definition, the folded state and the opened
//! values, and says what to do next; it does nothing itself.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Execution, Rendered, RenderedAction, StepError, StepRef, StepRun, StepStatus, request};
use crate::{
    connector::kind::Repeat,
    expression::{self, ExpressionError, Scope, Values},
    ids::ExecutionId,
    operation::is_safe_method,
    workflow::{
        Bindings,
        definition::{Definition, Idempotency, OnError, Step, StepKind},
    },
};

/// Why nobody knows what came of a step.
const ENDED: &str = "its executor ended before the answer came";
const FORGOTTEN: &str = "an attempt may have taken effect, and the service no longer remembers its idempotency key";

/// Everything a decision depends on.
pub struct Run<'a> {
    pub id: ExecutionId,
    pub definition: &'a Definition,
    pub bindings: &'a Bindings,
    pub state: &'a Execution,
    /// Opened outputs by step key; every completed step's must be there.
    pub values: &'a Values,
    /// Keys of running attempts whose executor is gone.
    pub abandoned: &'a BTreeSet<String>,
    pub now: DateTime<Utc>,
}

/// What to do next. `Call` acts outside; all others are records to append.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    Call {
        step: StepRef,
        attempt: u32,
        call: Rendered,
        idempotency_key: Option<String>,
        repeatable: bool,
        timeout_ms: u64,
    },
    Complete {
        step: StepRef,
        output: Value,
    },
    Fail {
        step: StepRef,
        error: StepError,
    },
    MarkUnknown {
        step: StepRef,
        reason: &'static str,
    },
    Skip {
        step: StepRef,
    },
    Enter {
        step: StepRef,
        branch: Option<bool>,
        count: Option<u64>,
    },
    /// Nothing to do before that time.
    WakeAt(DateTime<Utc>),
    Finish {
        output: Value,
    },
    FailExecution {
        key: Option<String>,
        error: StepError,
    },
}

/// What follows from the history. Empty: wait for the attempts that run (or for a person).
pub fn next_effects(run: &Run<'_>) -> Vec<Effect> {
    if run.state.status.is_terminal() || run.state.started_at.is_none() {
        return vec![];
    }
    let mut walk = Walk { run, effects: Vec::new(), wake: None };
    let place = Place { prefix: String::new(), steps: BTreeMap::new(), locals: Vec::new() };
    match walk.block(&run.definition.steps, &mut place.clone()) {
        Progress::Done => {
            let effect = match walk.output(place) {
                Ok(output) => Effect::Finish { output },
                Err(error) => Effect::FailExecution { key: None, error: expression_error(&error) },
            };
            walk.effects.push(effect);
        }
        Progress::Failed(key) => {
            let error = run.state.steps.get(&key).and_then(|s| s.error.clone());
            let error =
                error.unwrap_or_else(|| StepError { code: "STEP_FAILED".into(), message: "A step failed.".into() });
            walk.effects.push(Effect::FailExecution { key: Some(key), error });
        }
        Progress::Blocked => {}
    }
    if walk.effects.is_empty()
        && let Some(at) = walk.wake
    {
        walk.effects.push(Effect::WakeAt(at));
    }
    walk.effects
}

enum Progress {
    Done,
    /// Effects were found, or something runs.
    Blocked,
    /// The key of the step that failed.
    Failed(String),
}

/// Where the walk stands: the key prefix (`each[3].`), the steps and loop names in sight.
#[derive(Clone)]
struct Place {
    prefix: String,
    steps: BTreeMap<String, minijinja::Value>,
    locals: Vec<(String, minijinja::Value)>,
}

struct Walk<'a> {
    run: &'a Run<'a>,
    effects: Vec<Effect>,
    wake: Option<DateTime<Utc>>,
}

impl Walk<'_> {
    fn block(&mut self, steps: &[Step], place: &mut Place) -> Progress {
        for step in steps {
            match self.step(step, place) {
                Progress::Done => self.see(step, place),
                other => return other,
            }
        }
        Progress::Done
    }

    fn step(&mut self, step: &Step, place: &mut Place) -> Progress {
        let at = StepRef { key: format!("{}{}", place.prefix, step.id), step_id: step.id.clone() };
        let Some(run) = self.run.state.steps.get(&at.key) else {
            let effect = self.begin(step, &at, place).unwrap_or_else(|error| fail(&at, &error));
            self.effects.push(effect);
            return Progress::Blocked;
        };
        match run.status {
            StepStatus::Completed | StepStatus::Skipped => Progress::Done,
            StepStatus::Failed if step.on_error == OnError::Continue => Progress::Done,
            StepStatus::Failed => Progress::Failed(at.key),
            StepStatus::OutcomeUnknown => Progress::Blocked,
            StepStatus::Entered => self.inside(step, run, at, place),
            StepStatus::Retrying => {
                let due = run.retry_at.unwrap_or(self.run.now).max(self.run.now);
                if self.is_forgotten(step, run.unsettled_since, due) {
                    self.effects.push(Effect::MarkUnknown { step: at, reason: FORGOTTEN });
                } else if due == self.run.now {
                    self.call_again(step, run, &at, place);
                } else {
                    self.wake = Some(self.wake.map_or(due, |w| w.min(due)));
                }
                Progress::Blocked
            }
            StepStatus::Running => {
                if self.run.abandoned.contains(&at.key) {
                    let since = run.unsettled_since.or(run.started_at);
                    if !run.repeatable {
                        self.effects.push(Effect::MarkUnknown { step: at, reason: ENDED });
                    } else if self.is_forgotten(step, since, self.run.now) {
                        self.effects.push(Effect::MarkUnknown { step: at, reason: FORGOTTEN });
                    } else {
                        self.call_again(step, run, &at, place);
                    }
                }
                Progress::Blocked
            }
        }
    }

    /// Has the service forgotten the key of an attempt that may have acted by then? Sent again it would act again.
    fn is_forgotten(&self, step: &Step, since: Option<DateTime<Utc>>, then: DateTime<Utc>) -> bool {
        let action = self.run.bindings.get(&step.id).and_then(|binding| binding.action.as_ref());
        match (action.map(|action| action.repeat), since) {
            (Some(Repeat::KeyedFor(seconds)), Some(since)) => then - since >= TimeDelta::seconds(seconds.into()),
            _ => false,
        }
    }

    /// First sight of a step.
    fn begin(&self, step: &Step, at: &StepRef, place: &Place) -> Result<Effect, ExpressionError> {
        let scope = self.scope(place);
        if let Some(condition) = &step.condition
            && !expression::truth(&expression::evaluate(condition, &scope)?)
        {
            return Ok(Effect::Skip { step: at.clone() });
        }
        match &step.kind {
            StepKind::ApiCall(_) | StepKind::Connector(_) => self.call(step, at, 1, &scope),
            StepKind::Transform { output } => {
                let output = expression::render(output, &scope)?;
                Ok(Effect::Complete { step: at.clone(), output: json!({ "output": output }) })
            }
            StepKind::Condition { expression, .. } => {
                let branch = expression::truth(&expression::evaluate(expression, &scope)?);
                Ok(Effect::Enter { step: at.clone(), branch: Some(branch), count: None })
            }
            StepKind::Loop { max_iterations, .. } => {
                let count = self.items(step, &scope)?.len();
                if count > *max_iterations {
                    let message = format!("the list has {count} items, more than maxIterations ({max_iterations})");
                    return Err(ExpressionError { expression: "items".into(), message });
                }
                Ok(Effect::Enter { step: at.clone(), branch: None, count: Some(count as u64) })
            }
        }
    }

    fn items(&self, step: &Step, scope: &Scope) -> Result<Vec<Value>, ExpressionError> {
        let StepKind::Loop { items, .. } = &step.kind else { return Ok(vec![]) };
        let value = match items {
            Value::String(text) => expression::evaluate(text, scope)?,
            other => expression::render(other, scope)?,
        };
        match value {
            Value::Array(items) => Ok(items),
            _ => Err(ExpressionError { expression: "items".into(), message: "the value is no list".into() }),
        }
    }

    fn call(&self, step: &Step, at: &StepRef, attempt: u32, scope: &Scope) -> Result<Effect, ExpressionError> {
        let unbound = || {
            let message = "the step is bound to no operation".to_owned();
            ExpressionError { expression: step.id.clone(), message }
        };
        let binding = self.run.bindings.get(&step.id).ok_or_else(unbound)?;
        let (rendered, repeat) = match (&step.kind, &binding.action) {
            (StepKind::ApiCall(call), _) => {
                let call = request::render(call, binding, scope)?;
                let declared = if binding.idempotency_header.is_some() { Repeat::Keyed } else { Repeat::ByMethod };
                let repeat = if is_safe_method(&call.method) { Repeat::Safe } else { declared };
                (Rendered::Call(call), repeat)
            }
            (StepKind::Connector(call), Some(action)) => {
                let rendered = RenderedAction::render(call, action, scope)?;
                let repeat = rendered.repeat(action.repeat);
                (Rendered::Action(rendered), repeat)
            }
            _ => return Err(unbound()),
        };
        let keyed = repeat.takes_key() && step.idempotency != Idempotency::None;
        // Stable over retries and takeovers: made of the execution and the step's key.
        let idempotency_key = keyed.then(|| Uuid::new_v5(&self.run.id.0, at.key.as_bytes()).to_string());
        let repeatable = match repeat {
            Repeat::Safe => true,
            Repeat::Natural => step.idempotency != Idempotency::None,
            Repeat::Keyed | Repeat::KeyedFor(_) => keyed,
            Repeat::ByMethod => step.idempotency == Idempotency::Key,
            Repeat::Never => false,
        };
        let timeout_ms = step.timeout_ms;
        Ok(Effect::Call { step: at.clone(), attempt, call: rendered, idempotency_key, repeatable, timeout_ms })
    }

    fn call_again(&mut self, step: &Step, run: &StepRun, at: &StepRef, place: &Place) {
        let scope = self.scope(place);
        let effect = self.call(step, at, run.attempt + 1, &scope).unwrap_or_else(|error| fail(at, &error));
        self.effects.push(effect);
    }

    /// The children of an entered container.
    fn inside(&mut self, step: &Step, run: &StepRun, at: StepRef, place: &mut Place) -> Progress {
        let progress = match &step.kind {
            StepKind::Condition { then, otherwise, .. } => {
                let branch = if run.branch == Some(true) { then } else { otherwise };
                self.block(branch, &mut place.clone())
            }
            StepKind::Loop { .. } => self.iterations(step, run, &at, place),
            StepKind::ApiCall(_) | StepKind::Connector(_) | StepKind::Transform { .. } => Progress::Done,
        };
        match progress {
            Progress::Done => {
                let output = match run.count {
                    Some(count) => json!({ "output": { "count": count } }),
                    None => json!({ "output": { "result": run.branch } }),
                };
                self.effects.push(Effect::Complete { step: at, output });
                Progress::Blocked
            }
            Progress::Failed(_) if step.on_error == OnError::Continue => {
                let error = StepError { code: "STEP_FAILED".into(), message: "A step inside it failed.".into() };
                self.effects.push(Effect::Fail { step: at, error });
                Progress::Blocked
            }
            other => other,
        }
    }

    fn iterations(&mut self, step: &Step, run: &StepRun, at: &StepRef, place: &Place) -> Progress {
        let StepKind::Loop { name, steps, max_concurrency, .. } = &step.kind else { return Progress::Done };
        let items = match self.items(step, &self.scope(place)) {
            Ok(items) => items,
            Err(error) => {
                self.effects.push(fail(at, &error));
                return Progress::Blocked;
            }
        };
        let mut open = 0;
        let mut failed = None;
        for index in 0..run.count.unwrap_or(0) as usize {
            if open >= *max_concurrency {
                break;
            }
            let mut inner = place.clone();
            inner.prefix = format!("{}[{index}].", at.key);
            // After a failure what runs is awaited, and nothing new begins.
            if failed.is_some() && !self.has_begun(&inner.prefix) {
                continue;
            }
            let item = items.get(index).cloned().unwrap_or(Value::Null);
            inner.locals.push((name.clone(), expression::engine_value(&item)));
            inner.locals.push(("index".into(), minijinja::Value::from(index)));
            match self.block(steps, &mut inner) {
                Progress::Done => {}
                Progress::Blocked => open += 1,
                Progress::Failed(key) => failed = failed.or(Some(key)),
            }
        }
        match (open, failed) {
            (0, Some(key)) => Progress::Failed(key),
            (0, None) => Progress::Done,
            _ => Progress::Blocked,
        }
    }

    /// Does any step of this iteration have a history?
    fn has_begun(&self, prefix: &str) -> bool {
        self.run.state.steps.range(prefix.to_owned()..).next().is_some_and(|(key, _)| key.starts_with(prefix))
    }

    /// Makes a finished step visible to those after it; a loop's children become lists.
    fn see(&self, step: &Step, place: &mut Place) {
        let key = format!("{}{}", place.prefix, step.id);
        let value = self.run.values.get(&key).cloned();
        let nothing = || expression::engine_value(&json!({ "output": null }));
        place.steps.insert(step.id.clone(), value.unwrap_or_else(nothing));
        match &step.kind {
            StepKind::Condition { then, otherwise, .. } => {
                for child in then.iter().chain(otherwise) {
                    self.see(child, place);
                }
            }
            StepKind::Loop { steps, .. } => {
                let count = self.run.state.steps.get(&key).and_then(|s| s.count).unwrap_or(0);
                let mut lists: BTreeMap<String, Vec<minijinja::Value>> = BTreeMap::new();
                for index in 0..count {
                    let prefix = format!("{key}[{index}].");
                    let mut inner = Place { prefix, steps: BTreeMap::new(), locals: Vec::new() };
                    steps.iter().for_each(|child| self.see(child, &mut inner));
                    for (id, value) in inner.steps {
                        lists.entry(id).or_default().push(value);
                    }
                }
                for child in steps {
                    lists.entry(child.id.clone()).or_default();
                }
                place.steps.extend(lists.into_iter().map(|(id, list)| (id, minijinja::Value::from(list))));
            }
            StepKind::ApiCall(_) | StepKind::Connector(_) | StepKind::Transform { .. } => {}
        }
    }

    fn scope(&self, place: &Place) -> Scope {
        let state = self.run.state;
        let execution = expression::engine_value(&json!({
            "id": self.run.id,
            "workflowId": state.workflow,
            "startedAt": state.started_at.map(|t| t.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)),
        }));
        Scope::new(self.run.values.input.clone(), place.steps.clone(), execution, place.locals.iter().cloned())
    }

    /// The workflow's own mapping, else every top-level step's output by id.
    fn output(&self, mut place: Place) -> Result<Value, ExpressionError> {
        self.run.definition.steps.iter().for_each(|step| self.see(step, &mut place));
        if let Some(mapping) = &self.run.definition.output {
            return expression::render(mapping, &self.scope(&place));
        }
        let mut outputs = serde_json::Map::new();
        for step in &self.run.definition.steps {
            let value = self.run.values.get(&step.id).and_then(|v| v.get_attr("output").ok());
            let json = value.and_then(|v| serde_json::to_value(v).ok()).unwrap_or(Value::Null);
            outputs.insert(step.id.clone(), json);
        }
        Ok(Value::Object(outputs))
    }
}

fn expression_error(error: &ExpressionError) -> StepError {
    StepError { code: "EXPRESSION".into(), message: error.to_string() }
}

fn fail(at: &StepRef, error: &ExpressionError) -> Effect {
    Effect::Fail { step: at.clone(), error: expression_error(error) }
}
