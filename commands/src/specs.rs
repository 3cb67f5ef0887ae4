//! Normalised documents in memory: opened once, shared, bounded.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use domain::{connection::Connection, operation::SpecSummary};

use crate::{App, Failure};

/// How many documents are kept; the oldest use goes first.
const KEPT: usize = 16;

#[derive(Default)]
pub(crate) struct Specs(Mutex<Shelf>);

#[derive(Default)]
struct Shelf {
    /// Counts uses: the time by which the least used is found.
    clock: u64,
    kept: HashMap<String, Kept>,
}

struct Kept {
    used: u64,
    spec: Arc<SpecSummary>,
}

impl App {
    /// The operations of a document by its operations blob's hash.
    pub async fn spec(&self, operations_hash: &str) -> Result<Arc<SpecSummary>, Failure> {
        if let Some(spec) = self.specs().get(operations_hash) {
            return Ok(spec);
        }
        let bytes = self.store().blob(operations_hash).await?;
        let spec: SpecSummary = serde_json::from_slice(&bytes).map_err(|e| Failure::Internal(e.to_string()))?;
        let spec = Arc::new(spec);
        self.specs().put(operations_hash, spec.clone());
        Ok(spec)
    }

    /// The connection's operations, when it has a document.
    pub(crate) async fn spec_of(&self, connection: &Connection) -> Result<Option<Arc<SpecSummary>>, Failure> {
        match &connection.facts {
            Some(facts) => self.spec(&facts.operations_hash).await.map(Some),
            None => Ok(None),
        }
    }
}

impl Specs {
    fn get(&self, hash: &str) -> Option<Arc<SpecSummary>> {
        let mut shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        shelf.clock += 1;
        let now = shelf.clock;
        let kept = shelf.kept.get_mut(hash)?;
        kept.used = now;
        Some(kept.spec.clone())
    }

    fn put(&self, hash: &str, spec: Arc<SpecSummary>) {
        let mut shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        shelf.clock += 1;
        if shelf.kept.len() >= KEPT
            && let Some(oldest) = shelf.kept.iter().min_by_key(|(_, kept)| kept.used).map(|(hash, _)| hash.clone())
        {
            shelf.kept.remove(&oldest);
        }
        let used = shelf.clock;
        shelf.kept.insert(hash.to_owned(), Kept { used, spec });
    }
}
