//! Who waits for an execution's end on this node.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use domain::ids::ExecutionId;
use tokio::sync::Notify;

/// A hint, not the truth: waiters look at the log when they wake, and every now and then anyway.
#[derive(Default)]
pub struct Waiters(Mutex<HashMap<ExecutionId, (Arc<Notify>, usize)>>);

impl Waiters {
    /// An execution has ended or stands still.
    pub fn ended(&self, id: ExecutionId) {
        let map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((notify, _)) = map.get(&id) {
            notify.notify_waiters();
        }
    }

    pub(crate) fn register(&self, id: ExecutionId) -> Arc<Notify> {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = map.entry(id).or_default();
        entry.1 += 1;
        entry.0.clone()
    }

    pub(crate) fn leave(&self, id: ExecutionId) {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = map.get_mut(&id) {
            entry.1 -= 1;
            if entry.1 == 0 {
                map.remove(&id);
            }
        }
    }
}
