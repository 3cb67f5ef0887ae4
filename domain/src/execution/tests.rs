//! A small executor drives the interpreter over whole histories.

use std::collections::BTreeSet;

use cqrs_es::Aggregate;
use serde_json::{Value, json};

use super::*;
use crate::{
    aggregate::Decider,
    expression::Values,
    ids::{ConnectionId, ExecutionId},
    sealed::Sealed,
    workflow::{Bindings, Definition, check},
};

fn stored() -> Stored {
    Stored::Inline(Sealed::from_parts("t".into(), 1, "n".into(), "c".into()))
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

/// Drives an execution; `answer` plays the outside and may say `Err` for a failed call.
struct Driver {
    definition: Definition,
    bindings: Bindings,
    state: Execution,
    values: Values,
    calls: Vec<(String, RenderedCall)>,
    result: Option<Value>,
}

impl Driver {
    fn new(mut definition: Value, input: Value) -> Self {
        let connection = ConnectionId::default();
        fill_connections(&mut definition, &json!(connection));
        let definition = Definition::parse(&definition).unwrap();
        let bindings =
            check::check(&definition, &check::Connections::from([(connection, None)]), &Default::default()).unwrap();
        let mut driver = Self {
            definition,
            bindings,
            state: Execution::default(),
            values: Values::new(&input),
            calls: vec![],
            result: None,
        };
        driver.apply(ExecutionCommand::Start {
            workflow: WorkflowId::default(),
            workflow_version: 1,
            definition_hash: String::new(),
            input: stored(),
            trigger: "manual".into(),
            correlation_id: uuid::Uuid::nil(),
            traceparent: None,
            now: now(),
        });
        driver
    }

    fn apply(&mut self, command: ExecutionCommand) {
        for event in self.state.decide(command).unwrap() {
            self.state.apply(event);
        }
    }

    fn effects(&self, abandoned: &BTreeSet<String>) -> Vec<Effect> {
        next_effects(&Run {
            id: ExecutionId::default(),
            definition: &self.definition,
            bindings: &self.bindings,
            state: &self.state,
            values: &self.values,
            abandoned,
            now: now(),
        })
    }

    fn start(&mut self, step: &StepRef, attempt: u32, repeatable: bool) {
        self.apply(ExecutionCommand::StartStep {
            step: step.clone(),
            attempt,
            input: stored(),
            idempotency_key: None,
            repeatable,
            executor: "e".into(),
            lease_until: now(),
            credential: None,
            now: now(),
        });
    }

    fn run(&mut self, answer: impl Fn(&RenderedCall) -> Result<Value, StepError>) {
        for _ in 0..1000 {
            let effects = self.effects(&BTreeSet::new());
            if effects.is_empty() {
                return;
            }
            for effect in effects {
                self.act(effect, &answer);
            }
        }
        panic!("the execution does not end");
    }

    fn act(&mut self, effect: Effect, answer: &impl Fn(&RenderedCall) -> Result<Value, StepError>) {
        let now = now();
        match effect {
            Effect::Call { step, attempt, call, repeatable, .. } => {
                self.start(&step, attempt, repeatable);
                let Rendered::Call(call) = call else { panic!("no step of these calls a connector") };
                self.calls.push((step.key.clone(), call.clone()));
                match answer(&call) {
                    Ok(body) => self.complete(step, json!({"output": body, "status": 200})),
                    Err(error) => self.apply(ExecutionCommand::FailStep {
                        step,
                        error,
                        output: None,
                        http_status: None,
                        duration_ms: 0,
                        call: None,
                        retry_at: None,
                        now,
                    }),
                }
            }
            Effect::Complete { step, output } => self.complete(step, output),
            Effect::Fail { step, error } => self.apply(ExecutionCommand::FailStep {
                step,
                error,
                output: None,
                http_status: None,
                duration_ms: 0,
                call: None,
                retry_at: None,
                now,
            }),
            Effect::Skip { step } => self.apply(ExecutionCommand::SkipStep { step }),
            Effect::Enter { step, branch, count } => {
                self.apply(ExecutionCommand::EnterStep { step, branch, count, now })
            }
            Effect::MarkUnknown { step, .. } => {
                self.apply(ExecutionCommand::MarkUnknown { step, reason: "gone".into(), call: None })
            }
            Effect::Finish { output } => {
                self.result = Some(output);
                self.apply(ExecutionCommand::Complete { output: stored(), now });
            }
            Effect::FailExecution { key, error } => self.apply(ExecutionCommand::Fail { key, error, now }),
            Effect::WakeAt(at) => panic!("unexpected wait until {at}"),
        }
    }

    fn complete(&mut self, step: StepRef, value: Value) {
        self.values.set(&step.key, &value);
        self.apply(ExecutionCommand::CompleteStep {
            step,
            output: stored(),
            http_status: None,
            duration_ms: 0,
            call: None,
            now: now(),
        });
    }
}

fn fill_connections(value: &mut Value, connection: &Value) {
    match value {
        Value::Object(map) => {
            if map.get("type") == Some(&json!("api_call")) {
                map.insert("connectionId".into(), connection.clone());
            }
            map.values_mut().for_each(|v| fill_connections(v, connection));
        }
        Value::Array(items) => items.iter_mut().for_each(|v| fill_connections(v, connection)),
        _ => {}
    }
}

fn api(id: &str, method: &str, endpoint: &str, parameters: Value) -> Value {
    json!({"id": id, "type": "api_call", "method": method, "endpoint": endpoint, "parameters": parameters})
}

#[test]
fn data_flows_through_calls_conditions_loops_and_transforms() {
    let mut driver = Driver::new(
        json!({"steps": [
            api("list", "GET", "/customers", json!({"limit": 2})),
            {"id": "each", "type": "loop", "items": "{{ steps.list.output }}", "as": "customer", "maxConcurrency": 2, "steps": [
                {"id": "big", "type": "condition", "expression": "customer.total > 100", "then": [
                    api("gift", "POST", "/gifts", json!({"to": "{{ customer.email }}", "n": "{{ index }}"}))]},
                {"id": "line", "type": "transform", "output": "{{ customer.email }}: {{ steps.big.output.result }}"}]},
            {"id": "sum", "type": "transform", "output": {"lines": "{{ steps.line | map(attribute='output') | list }}",
                "gifts": "{{ steps.gift | length }}"}}],
            "output": "{{ steps.sum.output }}"}),
        json!({}),
    );
    driver.run(|call| {
        Ok(if call.path == "/customers" {
            json!([{"email": "a@x", "total": 50}, {"email": "b@x", "total": 500}, {"email": "c@x", "total": 101}])
        } else {
            json!({"ok": true})
        })
    });
    assert_eq!(driver.state.status, ExecutionStatus::Completed);
    assert_eq!(driver.result, Some(json!({"lines": ["a@x: false", "b@x: true", "c@x: true"], "gifts": 3})));
    let gifts: Vec<_> = driver.calls.iter().filter(|(k, _)| k.ends_with("gift")).collect();
    assert_eq!(gifts.len(), 2);
    assert_eq!(gifts[0].0, "each[1].gift");
    assert_eq!(gifts[0].1.body, Some(json!({"to": "b@x", "n": 1})));
}

#[test]
fn parameters_travel_where_they_belong() {
    let mut driver = Driver::new(
        json!({"steps": [
            {"id": "a", "type": "api_call", "method": "PUT", "endpoint": "/a/{id}", "path": {"id": "x/../y"},
             "query": {"tag": ["p", "q"]}, "headers": {"X-A": "{{ input.n }}"}, "body": {"n": "{{ input.n }}"}},
            {"id": "b", "if": "input.n > 5", "type": "transform", "output": 1}]}),
        json!({"n": 4}),
    );
    driver.run(|_| Ok(json!({})));
    let call = &driver.calls[0].1;
    assert_eq!(call.path, "/a/x%2F..%2Fy");
    assert_eq!(call.query, [("tag".to_owned(), "p".to_owned()), ("tag".into(), "q".into())]);
    assert_eq!(call.headers, [("X-A".to_owned(), "4".to_owned())]);
    assert_eq!(call.body, Some(json!({"n": 4})));
    assert_eq!(driver.state.steps["b"].status, StepStatus::Skipped);
}

#[test]
fn failures_end_the_execution_or_are_passed_over() {
    let failure = |_: &RenderedCall| Err(StepError { code: "HTTP_500".into(), message: "no".into() });
    let mut driver =
        Driver::new(json!({"steps": [api("a", "GET", "/a", json!({})), api("b", "GET", "/b", json!({}))]}), json!({}));
    driver.run(failure);
    assert_eq!((driver.state.status, driver.calls.len()), (ExecutionStatus::Failed, 1));
    assert_eq!(driver.state.error.as_ref().unwrap().code, "HTTP_500");

    let mut tolerant = api("a", "GET", "/a", json!({}));
    tolerant["onError"] = json!("continue");
    let mut driver = Driver::new(
        json!({"steps": [tolerant, {"id": "t", "type": "transform", "output": "{{ steps.a.output is none }}"}],
               "output": "{{ steps.t.output }}"}),
        json!({}),
    );
    driver.run(failure);
    assert_eq!(driver.result, Some(json!(true)));
}

#[test]
fn a_loop_begins_nothing_after_a_failure() {
    let mut driver = Driver::new(
        json!({"steps": [{"id": "each", "type": "loop", "items": [0, 1, 2, 3], "as": "n", "steps": [
            api("a", "POST", "/a", json!({"n": "{{ n }}"}))]}]}),
        json!({}),
    );
    driver.run(|_| Err(StepError { code: "HTTP_400".into(), message: "no".into() }));
    assert_eq!((driver.state.status, driver.calls.len()), (ExecutionStatus::Failed, 1));
}

#[test]
fn what_runs_while_an_execution_is_cancelled_is_still_recorded() {
    let mut driver = Driver::new(json!({"steps": [api("a", "POST", "/a", json!({}))]}), json!({}));
    let step = StepRef { key: "a".into(), step_id: "a".into() };
    driver.start(&step, 1, false);
    driver.apply(ExecutionCommand::Cancel { now: now() });
    driver.complete(step, json!({"output": 1}));
    assert_eq!(driver.state.steps["a"].status, StepStatus::Completed);
    assert_eq!(driver.state.status, ExecutionStatus::Cancelled);
    assert_eq!(driver.effects(&BTreeSet::new()), []);
}

#[test]
fn an_undefined_value_fails_the_step_and_names_the_expression() {
    let mut driver = Driver::new(
        json!({"steps": [{"id": "t", "type": "transform", "output": "{{ input.missing.deep }}"}]}),
        json!({}),
    );
    driver.run(|_| Ok(json!({})));
    let error = driver.state.error.unwrap();
    assert_eq!(error.code, "EXPRESSION");
    assert!(error.message.contains("input.missing.deep"));
}

#[test]
fn an_abandoned_attempt_is_repeated_only_where_that_is_safe() {
    for (method, repeatable) in [("GET", true), ("POST", false)] {
        let mut driver = Driver::new(json!({"steps": [api("a", method, "/a", json!({}))]}), json!({}));
        let Effect::Call { step, attempt, repeatable: said, idempotency_key, .. } =
            driver.effects(&BTreeSet::new()).remove(0)
        else {
            panic!("a call is wanted")
        };
        assert_eq!((said, idempotency_key.is_some()), (repeatable, method == "POST"));
        driver.start(&step, attempt, said);
        assert_eq!(driver.effects(&BTreeSet::new()), []);
        let after = driver.effects(&BTreeSet::from(["a".to_owned()]));
        match &after[..] {
            [Effect::Call { attempt: 2, .. }] => assert!(repeatable),
            [Effect::MarkUnknown { .. }] => assert!(!repeatable),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_person_resolves_an_unknown_outcome() {
    let mut driver = Driver::new(json!({"steps": [api("a", "POST", "/a", json!({}))]}), json!({}));
    let step = StepRef { key: "a".into(), step_id: "a".into() };
    driver.start(&step, 1, false);
    driver.apply(ExecutionCommand::MarkUnknown { step, reason: "gone".into(), call: None });
    assert_eq!(driver.state.status, ExecutionStatus::OutcomeUnknown);
    driver.values.set("a", &json!({"output": 7}));
    driver.apply(ExecutionCommand::ResolveStep { key: "a".into(), output: Some(stored()), now: now() });
    driver.run(|_| Ok(json!({})));
    assert_eq!(driver.result, Some(json!({"a": 7})));
    assert_eq!(driver.calls.len(), 0);
}
