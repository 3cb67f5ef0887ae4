//! Normalised documents in memory: opened once, shared, bounded.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use domain::{connection::Connection, operation::SpecSummary};

use crate::{App, Failure};

/// Bytes of the kept documents' blobs together; in memory they take about three times as much. The oldest use goes first,
/// and the newest document stays, however large.
const KEPT: usize = 12 << 20;

#[derive(Default)]
pub(crate) struct Specs(Mutex<Shelf>);

#[derive(Default)]
struct Shelf {
    /// Counts uses: the time by which the least used is found.
    clock: u64,
    kept: HashMap<String, Kept>,
    bytes: usize,
}

struct Kept {
    used: u64,
    /// When that was.
    at: Instant,
    bytes: usize,
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
        self.specs().put(operations_hash, spec.clone(), bytes.len());
        Ok(spec)
    }

    /// Gives back the memory of documents that nobody has used for so long.
    pub fn let_go_of_specs(&self, unused_for: Duration) {
        self.specs().let_go(unused_for, Instant::now());
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
        kept.at = Instant::now();
        Some(kept.spec.clone())
    }

    fn let_go(&self, unused_for: Duration, now: Instant) {
        let mut shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        shelf.kept.retain(|_, kept| now.saturating_duration_since(kept.at) < unused_for);
        shelf.bytes = shelf.kept.values().map(|kept| kept.bytes).sum();
        shelf.kept.shrink_to_fit();
    }

    fn put(&self, hash: &str, spec: Arc<SpecSummary>, bytes: usize) {
        let mut shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        shelf.clock += 1;
        let used = shelf.clock;
        if let Some(before) = shelf.kept.insert(hash.to_owned(), Kept { used, at: Instant::now(), bytes, spec }) {
            shelf.bytes -= before.bytes;
        }
        shelf.bytes += bytes;
        while shelf.bytes > KEPT && shelf.kept.len() > 1 {
            let oldest = shelf.kept.iter().min_by_key(|(_, kept)| kept.used).map(|(hash, _)| hash.clone());
            let Some(gone) = oldest.and_then(|hash| shelf.kept.remove(&hash)) else { return };
            shelf.bytes -= gone.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_bounded_in_bytes() {
        let specs = Specs::default();
        let put = |hash: &str, bytes| specs.put(hash, Arc::default(), bytes);
        let kept = |hash: &str| specs.get(hash).is_some();
        put("a", KEPT / 2);
        put("b", KEPT / 4);
        put("a", KEPT / 2);
        assert!(kept("a") && kept("b"), "the same twice counts once");
        assert!(kept("a"), "used after b");
        put("c", KEPT / 3);
        assert_eq!((kept("a"), kept("b"), kept("c")), (true, false, true));
        put("large", KEPT * 2);
        assert_eq!((kept("a"), kept("c"), kept("large")), (false, false, true), "the newest stays");
        put("d", 1);
        assert_eq!((kept("large"), kept("d")), (false, true));
        assert_eq!(specs.0.lock().unwrap().bytes, 1);
    }
}
