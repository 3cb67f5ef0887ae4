//! Renewals of this node: at most one for a connection at a time, each in a task of its own. Whoever needs it waits for
//! its end and can go away meanwhile; the task goes on, for a refresh token that the provider has rotated and that nobody
//! stores is lost for good. A node that stops waits for them.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use domain::ids::ConnectionId;
use tokio::{
    sync::watch,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::task::TaskTracker;

use super::Fresh;
use crate::{App, Failure};

/// How a turn ended.
#[derive(Debug, Clone)]
pub(super) enum Turn {
    /// A renewal that this turn began: for everybody who waited.
    Renewed(Fresh),
    /// Nothing was to be done, for the reason of whoever began the turn.
    Found(Fresh),
    /// The grant is over, or another one.
    Gone,
}

type Told = watch::Receiver<Option<Result<Turn, Failure>>>;

/// Connections that are being renewed on this node.
#[derive(Default)]
pub struct Renewals {
    running: Mutex<HashMap<ConnectionId, Told>>,
    tasks: TaskTracker,
}

impl Renewals {
    fn running(&self) -> MutexGuard<'_, HashMap<ConnectionId, Told>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The turn that runs, else a new one, of which `true` tells.
    pub(super) fn join<W>(&self, app: &App, id: ConnectionId, begin: impl FnOnce() -> W) -> (bool, Told)
    where
        W: Future<Output = Result<Turn, Failure>> + Send + 'static,
    {
        let mut running = self.running();
        if let Some(told) = running.get(&id) {
            return (false, told.clone());
        }
        let (tell, told) = watch::channel(None);
        running.insert(id, told.clone());
        let (work, entry) = (begin(), Entry { app: app.clone(), id });
        self.tasks.spawn(async move {
            let ended = work.await;
            drop(entry);
            tell.send_replace(Some(ended));
        });
        (true, told)
    }

    /// No turn that has not asked its provider yet does so any more.
    pub(super) fn is_closed(&self) -> bool {
        self.tasks.is_closed()
    }
}

/// Taken out also when the task breaks off.
struct Entry {
    app: App,
    id: ConnectionId,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.app.renewals().running().remove(&self.id);
    }
}

/// `None`: it takes longer.
pub(super) async fn outcome(mut told: Told, deadline: Instant) -> Result<Option<Turn>, Failure> {
    let ended = match timeout_at(deadline, told.wait_for(Option::is_some)).await {
        Ok(Ok(ended)) => ended.clone(),
        Ok(Err(_)) => return Err(Failure::Internal("a renewal broke off".into())),
        Err(_) => return Ok(None),
    };
    ended.transpose()
}

/// When a node stops: waits for the renewals that have begun. `false`: some are left to their leases.
pub async fn settle(app: &App, patience: Duration) -> bool {
    let tasks = &app.renewals().tasks;
    tasks.close();
    timeout(patience, tasks.wait()).await.is_ok()
}
