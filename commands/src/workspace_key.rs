//! The workspace's key: rotate it, destroy a version, and carry on what a crash has interrupted.
//!
//! The log decides first (so of two rotations at once one wins), then the vault does it in short steps, then the log is
//! told what became of it. `carry_on` may be called at any time, by anybody, as often as one likes.

use std::time::{Duration, Instant};

use domain::{
    error::{Code, Rejection},
    event::LogPosition,
    ids::WorkspaceId,
    workspace_key::{KeyFact, NewKey, WorkspaceKey, WorkspaceKeyCommand, stream_of},
};
use event_store::Loaded;
use serde_json::json;
pub use vault::{KeyRow, MasterProgress, Progress};

use crate::{App, Context, Done, Failure, Outcome, secret, unit::Unit};

/// Data keys moved in one transaction.
const STEP: i64 = 100;
/// Untold erasures told in one go; the keeper tells the rest.
const TOLD: i64 = 500;
/// What an erasure may wait for a rotation under way.
const PATIENCE: Duration = Duration::from_secs(10);
/// Lost races before somebody else is trusted to do it.
const RACES: usize = 8;

/// A rotation, as far as it has come.
#[derive(Debug, Clone, PartialEq)]
pub struct Rotation {
    /// The version that wraps now, and its id.
    pub version: i32,
    pub key_id: String,
    pub progress: Progress,
    pub finished: bool,
}

/// Every version of the key, and the rotation under way.
#[derive(Debug, Clone)]
pub struct Overview {
    pub keys: Vec<KeyRow>,
    pub rotation: Option<Progress>,
}

pub async fn overview(app: &App, workspace: WorkspaceId) -> Result<Overview, Failure> {
    let keys = app.vault().workspace_keys(workspace).await?;
    let state = load(app, workspace).await?.state;
    let rotation = match state.rotating_to {
        Some(_) => Some(app.vault().rotation_progress(workspace).await?),
        None => None,
    };
    Ok(Overview { keys, rotation })
}

/// Makes a new version and moves everything under it. Works until `deadline`; what is left is carried on by executors. One
/// that is under way, whoever began it, is a conflict: it is told of, not joined.
pub async fn rotate(app: &App, context: &Context, deadline: Instant) -> Outcome<Rotation> {
    let workspace = context.actor.workspace;
    let inner = context.without_claim();
    let mut loaded = load(app, workspace).await?;
    if loaded.state.rotating_to.is_none() {
        // The log may not have been told of the key yet.
        carry_on(app, &inner, workspace, deadline).await?;
        loaded = load(app, workspace).await?;
    }
    if loaded.state.rotating_to.is_some() {
        return Err(under_way(app, workspace).await?);
    }
    let new = prepared(app, workspace).await?;
    let (version, key_id) = (new.version, new.key_id.clone());
    let mut unit = Unit::new(app, context).await?;
    unit.stage(&mut loaded, WorkspaceKeyCommand::Rotate(new))?;
    let begun = match unit.commit(()).await {
        Err(failure) if failure.is_conflict() => return Err(under_way(app, workspace).await?),
        other => other?,
    };
    let carried = carry_on(app, &inner, workspace, deadline).await?;
    let progress = app.vault().rotation_progress(workspace).await?;
    let at = begun.at.max(carried.at);
    Ok(Done { value: Rotation { version, key_id, progress, finished: carried.value }, at })
}

/// Destroys the version of this id with everything that it still wraps.
pub async fn erase(app: &App, context: &Context, key_id: &str) -> Outcome<()> {
    let workspace = context.actor.workspace;
    let inner = context.without_claim();
    let deadline = Instant::now() + PATIENCE;
    carry_on(app, &inner, workspace, deadline).await?;
    let mut loaded = load(app, workspace).await?;
    let known = loaded.state.versions.iter().find(|(_, known)| known.key_id == key_id);
    let version = known.map(|(version, _)| *version);
    let version = version.ok_or_else(|| Rejection::field("keyId", "names no version of the workspace's key"))?;
    let instead = match loaded.state.active() {
        Some(active) if active == version => Some(prepared(app, workspace).await?),
        _ => None,
    };
    let mut unit = Unit::new(app, context).await?;
    unit.stage(&mut loaded, WorkspaceKeyCommand::Erase { version, instead })?;
    let asked = unit.commit(()).await?;
    let carried = carry_on(app, &inner, workspace, deadline).await?;
    Ok(Done { value: (), at: asked.at.max(carried.at) })
}

/// Does what the log says and the vault has not done yet, and tells the log what the vault has done. `true`: nothing is
/// left to do; `false`: `deadline` came first.
pub async fn carry_on(app: &App, context: &Context, workspace: WorkspaceId, deadline: Instant) -> Outcome<bool> {
    let vault = app.vault();
    let mut at = LogPosition::START;
    for _ in 0..RACES {
        let mut loaded = load(app, workspace).await?;
        let doomed = loaded.state.doomed();
        if let Some(active) = loaded.state.active() {
            vault.activate_key(workspace, active, &doomed).await?;
        }
        let erasing = !doomed.is_empty();
        for version in doomed {
            vault.erase_key(workspace, version).await?;
        }
        if erasing {
            at = at.max(tell_erased(app, context, workspace).await?);
        }
        let rotating = loaded.state.rotating_to.is_some();
        let mut late = false;
        while rotating && !late && vault.rewrap_some(workspace, STEP).await? > 0 {
            late = Instant::now() >= deadline;
        }
        if rotating && !late {
            vault.destroy_spent_keys(workspace).await?;
        }
        let rows = vault.workspace_keys(workspace).await?;
        let mut moved = None;
        if rotating {
            let Progress { done, total, .. } = vault.rotation_progress(workspace).await?;
            moved = (done == total).then_some(total);
        }
        let facts = facts(&rows);
        let mut unit = Unit::new(app, context).await?;
        unit.stage(&mut loaded, WorkspaceKeyCommand::Settle { facts, moved })?;
        match unit.commit(()).await {
            Ok(done) => {
                at = at.max(done.at);
                vault.settled_keys(workspace, &rows).await?;
            }
            Err(failure) if failure.is_conflict() => continue,
            Err(failure) => return Err(failure),
        }
        if late {
            break;
        }
        if loaded.state.rotating_to.is_none() && loaded.state.doomed().is_empty() {
            return Ok(Done { value: true, at });
        }
    }
    Ok(Done { value: false, at })
}

/// Tells the streams of secrets that their values are gone. One's trouble does not keep the others waiting: the keeper
/// tells what is left.
async fn tell_erased(app: &App, context: &Context, workspace: WorkspaceId) -> Result<LogPosition, Failure> {
    let mut at = LogPosition::START;
    for (id, versions) in app.vault().untold_of(workspace, TOLD).await? {
        match secret::tell_destroyed(app, context, id, &versions).await {
            Ok(told) => at = at.max(told.at),
            Err(error) => tracing::warn!(credential = %id, %error, "an erasure cannot be told yet"),
        }
    }
    Ok(at)
}

/// Tells a new workspace's first key in the same append as the workspace itself; see `settled`.
pub(crate) async fn stage_made(app: &App, unit: &mut Unit<'_>, workspace: WorkspaceId) -> Result<Vec<KeyRow>, Failure> {
    let rows = app.vault().workspace_keys(workspace).await?;
    let mut fresh = crate::unit::fresh::<WorkspaceKey>(stream_of(workspace));
    unit.stage(&mut fresh, WorkspaceKeyCommand::Settle { facts: facts(&rows), moved: None })?;
    Ok(rows)
}

/// How far keys are under the present master key: the installation's, or those of some workspaces alone.
pub async fn master(app: &App, of: Option<&[WorkspaceId]>) -> Result<MasterProgress, Failure> {
    Ok(app.vault().master_progress(of).await?)
}

async fn load(app: &App, workspace: WorkspaceId) -> Result<Loaded<WorkspaceKey>, Failure> {
    Ok(app.store().load::<WorkspaceKey>(stream_of(workspace)).await?)
}

async fn prepared(app: &App, workspace: WorkspaceId) -> Result<NewKey, Failure> {
    let KeyRow { version, key_id, master_key_id, .. } = app.vault().prepare_key(workspace).await?;
    Ok(NewKey { version, key_id, master_key_id })
}

fn facts(rows: &[KeyRow]) -> Vec<KeyFact> {
    let known = rows.iter().filter(|row| row.status != "pending");
    known
        .map(|row| KeyFact {
            version: row.version,
            key_id: row.key_id.clone(),
            master_key_id: row.master_key_id.clone(),
            destroyed: row.status == "destroyed",
            wrapped: row.uses,
            erased: row.erased,
        })
        .collect()
}

/// The second of two rotations at once is told of the first.
async fn under_way(app: &App, workspace: WorkspaceId) -> Result<Failure, Failure> {
    let state = load(app, workspace).await?.state;
    let Some(version) = state.rotating_to.or(state.active()) else {
        return Ok(Failure::rejected(Code::Conflict, "The workspace's key is being made; try again in a moment."));
    };
    let Progress { done, total, .. } = app.vault().rotation_progress(workspace).await?;
    let key_id = state.versions.get(&version).map(|known| known.key_id.clone());
    let message = match state.rotating_to {
        Some(_) => format!("A rotation to key version {version} is under way: {done} of {total} data keys are moved."),
        None => format!("Somebody else has just rotated to key version {version}."),
    };
    let mut rejection = Rejection::new(Code::Conflict, message);
    rejection.data = Some(Box::new(json!({ "keyVersion": version, "keyId": key_id, "done": done, "total": total })));
    Ok(rejection.into())
}
