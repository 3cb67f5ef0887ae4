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
        let mut new = Vec::with_capacity(events.len());
        for event in &events {
            new.push(NewEvent::of(self.app.new_id::<Uuid>(), event)?);
            loaded.state.apply(event.clone());
        }
        let index = self.streams.iter().position(|s| s.aggregate_type == A::TYPE && s.aggregate_id == loaded.id);
        match index {
            Some(index) => self.streams[index].events.extend(new),
            None if new.is_empty() => {}
            None => self.streams.push(StreamAppend {
                aggregate_type: A::TYPE,
                aggregate_id: loaded.id,
                expected: loaded.sequence,
                events: new,
            }),
        }
        loaded.sequence += events.len() as i64;
        loaded.workspace = Some(self.workspace.0);
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
}

/// A new, empty stream.
pub fn fresh<A: Decider>(id: Uuid) -> Loaded<A> {
    Loaded { id, state: A::default(), sequence: 0, workspace: None }
}

/// Loads a stream of the actor's workspace; another tenant's is not found.
pub async fn owned<A: Decider>(
    app: &App,
    workspace: WorkspaceId,
    id: Uuid,
    code: Code,
    noun: &str,
) -> Result<Loaded<A>, Failure> {
    let loaded = app.store().load::<A>(id).await?;
    if loaded.workspace == Some(workspace.0) { Ok(loaded) } else { Err(Rejection::not_found(code, noun).into()) }
}

/// Changes one stream; a lost race is loaded and decided again, unless the caller named the version it saw.
pub async fn change<A: Decider>(
    app: &App,
    context: &Context,
    target: (Uuid, Code, &str),
    expected_version: Option<i64>,
    command: impl Fn(&A) -> Result<A::Command, Failure>,
) -> Outcome<Vec<A::Event>> {
    let (id, code, noun) = target;
    let mut attempt = 0;
    loop {
        attempt += 1;
        let mut loaded = owned::<A>(app, context.actor.workspace, id, code, noun).await?;
        check_version(loaded.sequence, expected_version)?;
        let command = command(&loaded.state)?;
        let mut unit = Unit::new(app, context).await?;
        let events = unit.stage(&mut loaded, command)?;
        match unit.commit(events).await {
            Err(failure) if failure.is_conflict() && attempt < ATTEMPTS => continue,
            other => return other,
        }
    }
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
