//! Drives one execution: outcomes, decisions and next attempts in one append; calls only after it.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use commands::{Context, Failure, store_value, unit::Unit};
use domain::{
    event::LogPosition,
    execution::{Effect, Execution, ExecutionCommand, Rendered, StepError, StepRef, StepStatus},
    ids::ExecutionId,
    trace::traceparent,
};
use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use serde_json::Value;
use uuid::Uuid;

use super::{
    Executor,
    action::{self, ActionAttempt},
    call::{self, Attempt, Outcome},
    run::Memory,
};

/// A lease outlives its call's timeout by this much.
const LEASE_MARGIN: TimeDelta = TimeDelta::seconds(15);
/// A wait longer than this is left to the sweep.
const WAIT_HERE: TimeDelta = TimeDelta::seconds(30);
/// Lost races in a row before the sweep gets it.
const RACES: usize = 10;

/// How often, and how long apart, an unreachable log is tried before the sweep gets the execution.
const PATIENCE: usize = 60;
const PAUSE: std::time::Duration = std::time::Duration::from_millis(500);

/// What a round of decisions leads to.
#[derive(Default)]
struct Round {
    attempts: Vec<Begun>,
    wake: Option<DateTime<Utc>>,
}

/// An attempt that is in the log and has not happened yet.
enum Begun {
    Call(Box<Attempt>),
    Action(Box<ActionAttempt>),
}

impl Begun {
    fn key(&self) -> &str {
        match self {
            Begun::Call(attempt) => &attempt.step.key,
            Begun::Action(attempt) => &attempt.step.key,
        }
    }

    fn committed(&mut self, at: LogPosition) {
        match self {
            Begun::Call(attempt) => attempt.committed_at = at,
            Begun::Action(attempt) => attempt.committed_at = at,
        }
    }

    async fn perform(self, executor: &Executor, context: Context) -> Outcome {
        match self {
            Begun::Call(attempt) => call::perform(executor, context, *attempt).await,
            Begun::Action(attempt) => action::perform(executor, context, *attempt).await,
        }
    }
}

/// Gives the time before which there is nothing to do, when it is known.
pub(super) async fn drive(executor: &Executor, id: ExecutionId) -> Result<Option<DateTime<Utc>>, Failure> {
    let Some(mut memory) = Memory::load(&executor.app, id).await? else { return Ok(None) };
    let mut under_way: FuturesUnordered<BoxFuture<'_, Outcome>> = FuturesUnordered::new();
    let mut ours: BTreeSet<String> = BTreeSet::new();
    let mut outcomes: Vec<Outcome> = Vec::new();
    let (mut races, mut outages) = (0, 0);
    loop {
        let ended = memory.loaded.state.status.is_terminal() || executor.is_stopping();
        if ended && under_way.is_empty() && outcomes.is_empty() {
            return Ok(None);
        }
        let mut next = memory.clone();
        match round(executor, &mut next, &outcomes, &ours).await {
            Ok(round) => {
                (races, outages) = (0, 0);
                memory = next;
                outcomes.clear();
                let waits = round.attempts.is_empty() && under_way.is_empty();
                for attempt in round.attempts {
                    ours.insert(attempt.key().to_owned());
                    under_way.push(Box::pin(attempt.perform(executor, memory.context(&executor.liveness))));
                }
                if waits && (ended || !wait(executor, &mut memory, round.wake).await?) {
                    return Ok(round.wake);
                }
            }
            // Somebody else was faster: look again and decide again; our outcomes are kept.
            Err(failure) if is_race(&failure) && races < RACES => {
                races += 1;
                match Memory::load(&executor.app, id).await? {
                    Some(fresh) => memory = fresh,
                    None => return Ok(None),
                }
                continue;
            }
            // What calls came to is kept in memory while the database is away.
            Err(Failure::Unavailable(reason)) if outages < PATIENCE => {
                outages += 1;
                tracing::warn!(execution = %id, %reason, "the log cannot be reached; trying again");
                tokio::time::sleep(PAUSE).await;
                if let Ok(Some(fresh)) = Memory::load(&executor.app, id).await {
                    memory = fresh;
                }
                continue;
            }
            Err(failure) => return Err(failure),
        }
        if let Some(outcome) = under_way.next().await {
            ours.remove(&outcome.step.key);
            outcomes.push(outcome);
        }
    }
}

/// Ends an execution that nothing can be done with: its definition or values cannot be read.
pub(super) async fn give_up(executor: &Executor, id: ExecutionId) -> Result<(), Failure> {
    let app = &executor.app;
    let mut loaded = app.store().load::<Execution>(id.0).await?;
    let Some(workspace) = loaded.workspace else { return Ok(()) };
    if loaded.state.status.is_terminal() {
        return Ok(());
    }
    let context = Context::system(executor.liveness.name(), workspace.into(), loaded.state.correlation_id);
    let mut unit = Unit::new(app, &context).await?;
    let message = "The execution cannot be carried on: what it needs cannot be read.".to_owned();
    let error = StepError { code: "INTERNAL".into(), message };
    unit.stage(&mut loaded, ExecutionCommand::Fail { key: None, error, now: app.now() })?;
    unit.commit(()).await.map(|_| ())
}

fn is_race(failure: &Failure) -> bool {
    matches!(failure, Failure::Rejected(_))
}

/// Until `wake`, if that is soon: `true` to go on. Without one, nothing is left to do here.
async fn wait(executor: &Executor, memory: &mut Memory, wake: Option<DateTime<Utc>>) -> Result<bool, Failure> {
    let Some(at) = wake else { return Ok(false) };
    let left = at - executor.app.now();
    if left > WAIT_HERE {
        return Ok(false);
    }
    tokio::select! {
        () = tokio::time::sleep(left.to_std().unwrap_or_default()) => {}
        () = executor.shutdown.cancelled() => return Ok(false),
    }
    match Memory::load(&executor.app, memory.id).await? {
        Some(fresh) => {
            *memory = fresh;
            Ok(true)
        }
        None => Ok(false),
    }
}

/// Records outcomes, decides as far as it goes without calls, records the calls' attempts: one append.
async fn round(
    executor: &Executor,
    memory: &mut Memory,
    outcomes: &[Outcome],
    ours: &BTreeSet<String>,
) -> Result<Round, Failure> {
    let app = &executor.app;
    let context = memory.context(&executor.liveness);
    let mut unit = Unit::new(app, &context).await?;
    for outcome in outcomes {
        record(executor, memory, &mut unit, outcome).await?;
    }
    let mut round = Round::default();
    let mut starting = ours.clone();
    loop {
        let abandoned = memory.abandoned(app, &executor.liveness, &starting).await;
        let mut again = false;
        for effect in memory.effects(app, &abandoned) {
            match effect {
                // Another node, or this one after its restart, begins it.
                Effect::Call { .. } if executor.is_stopping() => {}
                Effect::Call { .. } => {
                    if let Some(refused) = misfit(executor, &effect) {
                        again = true;
                        apply(executor, memory, &mut unit, refused).await?;
                        continue;
                    }
                    let attempt = begin(executor, memory, &mut unit, effect).await?;
                    starting.insert(attempt.key().to_owned());
                    round.attempts.push(attempt);
                }
                Effect::WakeAt(at) => round.wake = Some(at),
                record => {
                    again = true;
                    apply(executor, memory, &mut unit, record).await?;
                }
            }
        }
        if !again || memory.loaded.state.status.is_terminal() {
            break;
        }
    }
    let at = unit.commit(()).await?.at;
    for attempt in &mut round.attempts {
        attempt.committed(at);
    }
    Ok(round)
}

/// An effect that is a record.
async fn apply(executor: &Executor, memory: &mut Memory, unit: &mut Unit<'_>, effect: Effect) -> Result<(), Failure> {
    let app = &executor.app;
    let now = app.now();
    let command = match effect {
        Effect::Complete { step, output } => complete(executor, memory, step, &output, None).await?,
        Effect::Fail { step, error } => ExecutionCommand::FailStep {
            step,
            error,
            output: None,
            http_status: None,
            duration_ms: 0,
            call: None,
            retry_at: None,
            now,
        },
        Effect::MarkUnknown { step, reason } => {
            ExecutionCommand::MarkUnknown { step, reason: reason.to_owned(), call: None }
        }
        Effect::Skip { step } => ExecutionCommand::SkipStep { step },
        Effect::Enter { step, branch, count } => ExecutionCommand::EnterStep { step, branch, count, now },
        Effect::Finish { output } => {
            let output = store_value(app, memory.workspace, "execution.output", &output).await?;
            ExecutionCommand::Complete { output, now }
        }
        Effect::FailExecution { key, error } => ExecutionCommand::Fail { key, error, now },
        Effect::Call { .. } | Effect::WakeAt(_) => return Ok(()),
    };
    unit.stage(&mut memory.loaded, command)?;
    Ok(())
}

/// The end of a step whose input its connector does not take. It is asked before anything is stored: what is too large to
/// be sent is too large to be kept.
fn misfit(executor: &Executor, effect: &Effect) -> Option<Effect> {
    let Effect::Call { step, call: Rendered::Action(action), .. } = effect else { return None };
    let wrong = executor.connectors.misfit(&action.connector_type, &action.action, &action.input)?;
    Some(Effect::Fail { step: step.clone(), error: call::error(wrong.code, wrong.message) })
}

/// Records an attempt before its effect, with the credential read it will make.
async fn begin(
    executor: &Executor,
    memory: &mut Memory,
    unit: &mut Unit<'_>,
    effect: Effect,
) -> Result<Begun, Failure> {
    let Effect::Call { step, attempt, call, idempotency_key, repeatable, timeout_ms } = effect else {
        return Err(Failure::Internal("only a call begins an attempt".into()));
    };
    let app = &executor.app;
    let input = serde_json::to_value(&call).map_err(|e| Failure::Internal(e.to_string()))?;
    let input = store_value(app, memory.workspace, "step.input", &input).await?;
    let retry = call::retry_of(&memory.pinned.definition, &step.step_id);
    let state = &memory.loaded.state;
    let traceparent = traceparent(state.traceparent.as_deref(), state.correlation_id, rand::random());
    let committed_at = LogPosition::START;
    let (begun, credential) = match call {
        Rendered::Call(call) => {
            let binding = memory.pinned.bindings.get(&step.step_id);
            let needs = binding.and_then(|binding| binding.security.as_ref());
            let target = call::target(app, &memory.context(&executor.liveness), &call, needs).await?;
            let credential = target.as_ref().ok().and_then(|target| target.reads(&call));
            let name = binding.and_then(|b| b.idempotency_header.clone()).unwrap_or_else(|| "Idempotency-Key".into());
            let idempotency = idempotency_key.clone().map(|key| (name, key));
            let step = step.clone();
            let attempt = Attempt {
                execution: memory.id,
                step,
                attempt,
                call,
                target,
                idempotency,
                repeatable,
                timeout_ms,
                retry,
                traceparent,
                committed_at,
            };
            (Begun::Call(Box::new(attempt)), credential)
        }
        Rendered::Action(action) => {
            let target = action::target(app, memory.workspace, &action).await?;
            let credential = target.as_ref().ok().and_then(|target| target.reads(&action));
            let (step, key) = (step.clone(), idempotency_key.clone());
            let reference = Uuid::new_v5(&memory.id.0, format!("{}/{attempt}", step.key).as_bytes()).to_string();
            let attempt = ActionAttempt {
                step,
                attempt,
                action,
                target,
                key,
                reference,
                repeatable,
                timeout_ms,
                retry,
                traceparent,
                committed_at,
            };
            (Begun::Action(Box::new(attempt)), credential)
        }
    };
    let now = app.now();
    let command = ExecutionCommand::StartStep {
        step,
        attempt,
        input,
        idempotency_key,
        repeatable,
        executor: executor.liveness.name().to_owned(),
        lease_until: now + TimeDelta::milliseconds(timeout_ms as i64) + LEASE_MARGIN,
        credential,
        now,
    };
    unit.stage(&mut memory.loaded, command)?;
    Ok(begun)
}

/// What came of a call; dropped when the attempt is no longer ours.
async fn record(
    executor: &Executor,
    memory: &mut Memory,
    unit: &mut Unit<'_>,
    outcome: &Outcome,
) -> Result<(), Failure> {
    let fenced = memory.loaded.state.steps.get(&outcome.step.key).is_none_or(|s| {
        s.status != StepStatus::Running || s.attempt != outcome.attempt || s.executor != executor.liveness.name()
    });
    if fenced {
        tracing::info!(execution = %memory.id, step = outcome.step.key, "a late outcome is dropped: another executor took over");
        return Ok(());
    }
    let app = &executor.app;
    let now = app.now();
    let step = outcome.step.clone();
    let command = match &outcome.result {
        call::Result::Completed { value, .. } => complete(executor, memory, step, value, Some(outcome)).await?,
        call::Result::Failed { error, value, status, retry_at } => {
            let mut output = None;
            if let Some(value) = value {
                output = Some(store_value(app, memory.workspace, "step.output", value).await?);
            }
            ExecutionCommand::FailStep {
                step,
                error: error.clone(),
                output,
                http_status: *status,
                duration_ms: outcome.duration_ms,
                call: outcome.call.clone(),
                retry_at: *retry_at,
                now,
            }
        }
        call::Result::Unknown { reason } => {
            ExecutionCommand::MarkUnknown { step, reason: reason.clone(), call: outcome.call.clone() }
        }
    };
    unit.stage(&mut memory.loaded, command)?;
    Ok(())
}

async fn complete(
    executor: &Executor,
    memory: &mut Memory,
    step: StepRef,
    value: &Value,
    outcome: Option<&Outcome>,
) -> Result<ExecutionCommand, Failure> {
    let app = &executor.app;
    let output = store_value(app, memory.workspace, "step.output", value).await?;
    memory.values.set(&step.key, value);
    let duration_ms = outcome.map_or(0, |o| o.duration_ms);
    let (http_status, call) = (outcome.and_then(Outcome::status), outcome.and_then(|o| o.call.clone()));
    Ok(ExecutionCommand::CompleteStep { step, output, http_status, duration_ms, call, now: app.now() })
}
