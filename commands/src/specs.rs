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
pub(crate) struct Specs(Mutex<(u64, HashMap<String, (u64, Arc<SpecSummary>)>)>);

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
        let mut guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (clock, map) = &mut *guard;
        *clock += 1;
        let (used, spec) = map.get_mut(hash)?;
        *used = *clock;
        Some(spec.clone())
    }

    fn put(&self, hash: &str, spec: Arc<SpecSummary>) {
        let mut guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (clock, map) = &mut *guard;
        *clock += 1;
        if map.len() >= KEPT
            && let Some(oldest) = map.iter().min_by_key(|(_, (used, _))| *used).map(|(hash, _)| hash.clone())
        {
            map.remove(&oldest);
        }
        map.insert(hash.to_owned(), (*clock, spec));
    }
}
