//! Reads a document with all that it refers to: parsing on a blocking thread, fetching between two rounds of it.

use std::time::{Duration, Instant};

use domain::operation::SpecProblem;
use futures::future;
use integrations::openapi::{IngestError, Ingested, Limits, Origin, Part, Reader};

use crate::{documents::Document, ingester::problem};

/// Documents fetched at the same time.
const AT_ONCE: usize = 4;
/// When this has passed, what is not fetched yet stays unread: the ingestion must end before another node repeats it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Problems of a refused document that are kept.
const SHOWN: usize = 50;

/// A document that was taken.
pub(crate) struct Read {
    pub ingested: Ingested,
    /// The blob that holds the document already.
    pub stored: Option<String>,
    /// The document as it came, where it is not stored yet.
    pub bytes: Vec<u8>,
    pub size: u64,
}

impl From<Document> for Part {
    fn from(document: Document) -> Self {
        Part { bytes: document.bytes, url: Some(document.url) }
    }
}

/// `keep`: the bytes are wanted back. `fetch` gets a URL and how many bytes may come.
pub(crate) async fn gather<F, A, P>(
    bytes: Vec<u8>,
    origin: Origin,
    keep: bool,
    limits: Limits,
    fetch: F,
) -> Result<Read, Vec<SpecProblem>>
where
    F: Fn(String, usize) -> A,
    A: Future<Output = Result<P, String>>,
    P: Into<Part>,
{
    let size = bytes.len() as u64;
    // An archive's bytes are gone once it is unpacked; a single document's text comes back from the reader.
    let packed = (keep && is_packed(&bytes)).then(|| bytes.clone());
    let began = Instant::now();
    let mut reader = apart(move || Reader::new(bytes, &origin, &limits)).await?;
    loop {
        let wanted = reader.wanted();
        if wanted.is_empty() {
            break;
        }
        // A few at a time, and what came is taken before the next ones are asked for: what is held at once stays within
        // the room that is left.
        for some in wanted.chunks(AT_ONCE) {
            let room = reader.room() / some.len();
            let parts = some.iter().map(|url| {
                let part = fetch(url.clone(), room);
                let left = PATIENCE.saturating_sub(began.elapsed());
                async move {
                    let late = || Err("fetching all of its documents takes too long".to_owned());
                    (url.clone(), tokio::time::timeout(left, part).await.unwrap_or_else(|_| late()).map(Into::into))
                }
            });
            let parts = future::join_all(parts).await;
            reader = apart(move || {
                for (url, part) in parts {
                    reader.give(&url, part)?;
                }
                Ok(reader)
            })
            .await?;
        }
    }
    let (ingested, text) = apart(move || reader.finish()).await?;
    let bytes = match (packed, text) {
        (Some(bytes), _) => bytes,
        (None, Some(text)) if keep => text.into_bytes(),
        _ => Vec::new(),
    };
    Ok(Read { ingested, stored: None, bytes, size })
}

/// Not UTF-8 as it stands: an archive, or UTF-16.
fn is_packed(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK")
        || bytes.starts_with(b"\x1f\x8b")
        || matches!(bytes.get(..2), Some([0xff, 0xfe] | [0xfe, 0xff]))
}

/// Runs a piece of reading on a thread of its own.
async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, IngestError> + Send + 'static,
) -> Result<T, Vec<SpecProblem>> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(error.problems.into_iter().take(SHOWN).collect()),
        Err(panic) => {
            tracing::error!(%panic, "the ingester broke on a document");
            Err(problem("The document could not be read: an internal error.".into()))
        }
    }
}
