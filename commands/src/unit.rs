//! A unit of work: decisions over one or several streams, appended together.

use domain::{
    aggregate::Decider,
    error::{Code, Rejection},
    event::LogPosition,
    ids::WorkspaceId,
};
use event_store::{Append, Claim, Loaded, NewEvent, StreamAppend};
use uuid::Uuid;

use crate::{App, Context, Done, Failure, Outcome};

/// How often a lost race is run again.
const ATTEMPTS: usize = 8;

pub struct Unit<'a> {
    app: &'a App,
    workspace: WorkspaceId,
    metadata: String,
    streams: Vec<StreamAppend>,
    claim: Option<Claim>,
}

impl<'a> Unit<'a> {
    pub async fn new(app: &'a App, context: &Context) -> Result<Self, Failure> {
        Ok(Self {
            app,
            workspace: context.actor.workspace,
            metadata: context.metadata(app).await?,
            streams: Vec::new(),
            claim: context.request.idempotency.clone(),
        })
    }

    /// Decides and remembers the events; `loaded` moves on. Gives the events.
    pub fn stage<A: Decider>(&mut self, loaded: &mut Loaded<A>, command: A::Command) -> Result<Vec<A::Event>, Failure> {
        let events = loaded.state.decide(command)?;
        let (expected, predecessor) = (loaded.sequence, loaded.last_event());
        let new: Result<Vec<_>, _> =
            events.iter().map(|event| NewEvent::of(self.app.new_id::<Uuid>(), event)).collect();
        let new = new?;
        for (event, stored) in events.iter().zip(&new) {
            loaded.advance(event.clone(), stored, self.workspace.0);
        }
        let index = self.streams.iter().position(|s| s.aggregate_type == A::TYPE && s.aggregate_id == loaded.id);
        match index {
            Some(index) => self.streams[index].events.extend(new),
            None if new.is_empty() => {}
            None => self.streams.push(StreamAppend {
                aggregate_type: A::TYPE,
                aggregate_id: loaded.id,
                expected,
                predecessor,
                events: new,
            }),
        }
        Ok(events)
    }

    /// Appends everything staged. Nothing staged: nothing is written.
    pub async fn commit<T>(self, value: T) -> Outcome<T> {
        if self.streams.is_empty() {
            return Ok(Done { value, at: LogPosition::START });
        }
        let append = Append {
            workspace_id: self.workspace.0,
            streams: self.streams,
            metadata: self.metadata,
            claim: self.claim,
        };
        let appended = self.app.store().append(append).await?;
        Ok(Done { value, at: appended.at })
    }

    /// The same, and the store keeps the state of one of the streams, which is the committed one by then.
    pub async fn commit_keeping<A: Decider, T>(self, value: T, loaded: Loaded<A>) -> Outcome<T> {
        let app = self.app;
        let done = self.commit(value).await?;
        app.store().keep(loaded);
        Ok(done)
    }
}

/// A new, empty stream.
pub fn fresh<A: Decider>(id: Uuid) -> Loaded<A> {
    Loaded::fresh(id)
}

/// Loads a stream of the actor's workspace; another tenant's is not found.
pub async fn owned<A: Decider>(
    app: &App,
    workspace: WorkspaceId,
    id: Uuid,
    code: Code,
    noun: &str,
) -> Result<Loaded<A>, Failure> {
    of_workspace(app.store().load::<A>(id).await?, workspace, code, noun)
}

fn of_workspace<A>(loaded: Loaded<A>, workspace: WorkspaceId, code: Code, noun: &str) -> Result<Loaded<A>, Failure> {
    if loaded.workspace == Some(workspace.0) { Ok(loaded) } else { Err(Rejection::not_found(code, noun).into()) }
}

/// Changes one stream; a lost race is loaded and decided again, unless the caller named the version it saw.
///
/// It decides on the cached state first, without asking the log: the append sees whether that was the present one. What
/// is not appended (a refusal, nothing to do) is said of a state that the log was asked for.
pub async fn change<A: Decider>(
    app: &App,
    context: &Context,
    target: (Uuid, Code, &str),
    expected_version: Option<i64>,
    command: impl Fn(&A) -> Result<A::Command, Failure>,
) -> Outcome<Vec<A::Event>> {
    // Others on this node that change it go first, in the order they came: what they leave is in the cache then.
    let _turn = app.store().turn::<A>(target.0).await;
    let mut attempt = 0;
    // A recalled state must be newer than the one that failed; the first may be any.
    let mut beyond = Some(-1);
    loop {
        attempt += 1;
        let recalled = match beyond.take() {
            Some(sequence) => Some(app.store().recall(target.0).await?).filter(|l| l.sequence > sequence),
            None => None,
        };
        let loaded = match recalled {
            Some(recalled) => recalled,
            None => app.store().load(target.0).await?,
        };
        let may_be_behind = loaded.recalled;
        let sequence = loaded.sequence;
        let staged = stage_change(app, context, loaded, target, expected_version, &command).await;
        let (unit, loaded, events) = match staged {
            Ok((_, _, events)) if may_be_behind && events.is_empty() => continue,
            Err(_) if may_be_behind => continue,
            other => other?,
        };
        match unit.commit_keeping(events, loaded).await {
            // Who was first on this node has left its state in the cache by now.
            Err(failure) if failure.is_conflict() && attempt < ATTEMPTS => beyond = Some(sequence),
            other => return other,
        }
    }
}

/// Everything of a change but its append.
async fn stage_change<'a, A: Decider>(
    app: &'a App,
    context: &Context,
    loaded: Loaded<A>,
    (_, code, noun): (Uuid, Code, &str),
    expected_version: Option<i64>,
    command: &impl Fn(&A) -> Result<A::Command, Failure>,
) -> Result<(Unit<'a>, Loaded<A>, Vec<A::Event>), Failure> {
    let mut loaded = of_workspace(loaded, context.actor.workspace, code, noun)?;
    check_version(loaded.sequence, expected_version)?;
    let command = command(&loaded.state)?;
    let mut unit = Unit::new(app, context).await?;
    let events = unit.stage(&mut loaded, command)?;
    Ok((unit, loaded, events))
}

pub fn check_version(sequence: i64, expected: Option<i64>) -> Result<(), Failure> {
    match expected {
        Some(expected) if expected != sequence => Err(Failure::rejected(
            Code::Conflict,
            format!("If-Match names version {expected}, but this is version {sequence} by now; read it again."),
        )),
        _ => Ok(()),
    }
}
