//! Who waits on this node for an execution's end, or for a document to be read.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::Notify;
use uuid::Uuid;

/// A hint, not the truth: waiters look at the log when they wake, and every now and then anyway.
#[derive(Default)]
pub struct Waiters(Mutex<HashMap<Uuid, (Arc<Notify>, usize)>>);

impl Waiters {
    /// An execution has ended or stands still; a connection's document is read.
    pub fn ended(&self, id: Uuid) {
        let map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((notify, _)) = map.get(&id) {
            notify.notify_waiters();
        }
    }

    pub(crate) fn register(&self, id: Uuid) -> Arc<Notify> {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = map.entry(id).or_default();
        entry.1 += 1;
        entry.0.clone()
    }

    pub(crate) fn leave(&self, id: Uuid) {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = map.get_mut(&id) {
            entry.1 -= 1;
            if entry.1 == 0 {
                map.remove(&id);
            }
        }
    }
}
