//! API documents from URLs: the one way by which a document is fetched, through the egress guard and behind a cache.
//!
//! Plain conditional requests, not the whole of HTTP's caching rules: how long a document counts as fresh is the
//! operator's to say, not the server's. Of the server's wishes only `no-store` is heard. A stale document is never taken
//! for a fresh one: a server that does not answer is an error, whatever is in the cache.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use domain::{
    call::CallFacts,
    connection::{DocumentVia, is_among},
    ids::WorkspaceId,
};
use event_store::{CacheBounds, CachedDocument, DocumentCache, FetchedDocument};
use integrations::egress::{Egress, EgressError, OutboundRequest, OutboundResponse};

const ACCEPT: &str = "application/json, application/yaml, text/yaml, */*;q=0.5";
/// Longer validators are not sent back.
const LONGEST_VALIDATOR: usize = 500;

#[derive(Debug, Clone)]
pub struct DocumentOptions {
    /// Largest document, after decompression.
    pub max_bytes: u64,
    /// For everything: name, connections, redirects, the last byte.
    pub timeout: Duration,
    /// How long a document is taken from the cache without asking the server.
    pub time_to_live: Duration,
    pub bounds: CacheBounds,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// What is here and within its time to live is taken without a request.
    Cached,
    /// The server is asked; what it has not changed costs no body.
    Revalidated,
}

/// On whose behalf documents are fetched, from where they may come, and what was asked of whom.
pub struct Asking {
    pub workspace: WorkspaceId,
    pub freshness: Freshness,
    /// The only ones, where an organization approves them.
    pub origins: Option<Vec<String>>,
    calls: Mutex<Vec<CallFacts>>,
}

impl Asking {
    pub fn new(workspace: WorkspaceId, freshness: Freshness, origins: Option<Vec<String>>) -> Self {
        Self { workspace, freshness, origins, calls: Mutex::default() }
    }

    /// Every request so far, in the order of the answers.
    pub fn calls(self) -> Vec<CallFacts> {
        self.calls.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, call: CallFacts) {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).push(call);
    }
}

/// A document as its server has it.
#[derive(Debug)]
pub struct Document {
    pub bytes: Vec<u8>,
    /// Where it came from in the end: relative references start there.
    pub url: String,
    pub via: DocumentVia,
}

/// Why there is no document, in words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Spec unreachable, see logs: {0}")]
pub struct Unreachable(pub String);

/// Cheap to clone.
#[derive(Clone)]
pub struct Documents {
    egress: Egress,
    cache: DocumentCache,
    options: DocumentOptions,
}

impl Documents {
    pub fn new(egress: Egress, cache: DocumentCache, options: DocumentOptions) -> Self {
        Self { egress, cache, options }
    }

    /// How long one of them may take.
    pub fn longest(&self) -> Duration {
        self.options.timeout
    }

    /// The document at a URL. No credentials are sent.
    pub async fn fetch(&self, asking: &Asking, url: &str) -> Result<Document, Unreachable> {
        self.fetch_part(asking, url, self.options.max_bytes).await
    }

    /// The same, of `most` bytes at the most.
    pub async fn fetch_part(&self, asking: &Asking, url: &str, most: u64) -> Result<Document, Unreachable> {
        let most = most.min(self.options.max_bytes);
        let document = self.document(asking, url, most).await?;
        // What the cache holds may have come by a redirect that was allowed then.
        if let Some(origins) = &asking.origins
            && !is_among(origins, &document.url)
        {
            return Err(Unreachable("the document comes from a host that no admin has approved".into()));
        }
        // What the cache holds may be larger than there is room for now.
        if document.bytes.len() as u64 > most {
            return Err(Unreachable(format!("the document has more than {most} bytes")));
        }
        Ok(document)
    }

    async fn document(&self, asking: &Asking, url: &str, most: u64) -> Result<Document, Unreachable> {
        let workspace = asking.workspace;
        // What may not be called is not answered from the cache either.
        self.egress.policy().check_url(url).map_err(|e| unfetched(&e))?;
        let entry = self.find(workspace, url).await;
        if asking.freshness == Freshness::Cached
            && let Some(entry) = entry.as_ref().filter(|e| e.is_fresh)
            && let Some(bytes) = self.open(workspace, url, entry).await
        {
            return Ok(Document { bytes, url: entry.final_url.clone(), via: DocumentVia::Cache });
        }
        let known = entry.filter(|e| e.etag.is_some() || e.last_modified.is_some());
        let mut answer = self.ask(asking, url, known.as_ref(), most).await?;
        if answer.status == 304
            && let Some(entry) = known
        {
            if let Some(bytes) = self.open(workspace, url, &entry).await {
                self.confirm(workspace, url, &entry.hash, &answer).await;
                return Ok(Document { bytes, url: entry.final_url, via: DocumentVia::NotModified });
            }
            // It went out of the cache meanwhile.
            answer = self.ask(asking, url, None, most).await?;
        }
        self.take(workspace, url, answer).await
    }

    async fn ask(
        &self,
        asking: &Asking,
        url: &str,
        known: Option<&CachedDocument>,
        most: u64,
    ) -> Result<OutboundResponse, Unreachable> {
        let mut request = OutboundRequest::get(url)
            .header("Accept", ACCEPT)
            .timeout(self.options.timeout)
            .retries(2)
            .origins(asking.origins.clone())
            .max_response_bytes(most);
        if let Some(etag) = known.and_then(|k| k.etag.as_ref()) {
            request = request.header("If-None-Match", etag);
        }
        if let Some(time) = known.and_then(|k| k.last_modified.as_ref()) {
            request = request.header("If-Modified-Since", time);
        }
        let (facts, began) = (request.facts(), Instant::now());
        let answer = self.egress.send(request).await;
        asking.note(match &answer {
            Ok(answer) => answer.complete(facts),
            Err(error) => error.complete(facts, began.elapsed()),
        });
        answer.map_err(|e| unfetched(&e))
    }

    async fn take(&self, workspace: WorkspaceId, url: &str, answer: OutboundResponse) -> Result<Document, Unreachable> {
        match answer.status {
            200 => {}
            304 => {
                let why =
                    "the document's server answered 304 (not modified) though it was asked for the whole document";
                return Err(Unreachable(why.into()));
            }
            status => return Err(Unreachable(format!("the document's server answered {status} instead of 200"))),
        }
        if let Some(kind) = answer.header("content-type").filter(|kind| is_no_text(kind)) {
            let kind: String = kind.chars().filter(|c| !c.is_control()).take(100).collect();
            return Err(Unreachable(format!("the document's server sent {kind}, which is no JSON and no YAML")));
        }
        self.keep(workspace, url, &answer).await;
        Ok(Document { bytes: answer.body.to_vec(), url: answer.final_url, via: DocumentVia::Fetched })
    }

    // The cache saves work only: where it fails, the work is done.

    async fn find(&self, workspace: WorkspaceId, url: &str) -> Option<CachedDocument> {
        let found = self.cache.find(workspace.0, url, self.options.time_to_live).await;
        found.unwrap_or_else(|error| {
            tracing::warn!(%error, "the document cache cannot be read");
            None
        })
    }

    async fn open(&self, workspace: WorkspaceId, url: &str, entry: &CachedDocument) -> Option<Vec<u8>> {
        let opened = self.cache.open(workspace.0, url, &entry.hash).await;
        opened.unwrap_or_else(|error| {
            tracing::warn!(%error, "a document in the cache cannot be read");
            None
        })
    }

    async fn confirm(&self, workspace: WorkspaceId, url: &str, hash: &str, answer: &OutboundResponse) {
        let (etag, time) = (validator(answer, "etag"), validator(answer, "last-modified"));
        if let Err(error) = self.cache.confirm(workspace.0, url, hash, etag, time).await {
            tracing::warn!(%error, hash, "a document in the cache cannot be confirmed");
        }
    }

    async fn keep(&self, workspace: WorkspaceId, url: &str, answer: &OutboundResponse) {
        let control = answer.header("cache-control").unwrap_or_default();
        let kept = match control.split(',').any(|word| word.trim().eq_ignore_ascii_case("no-store")) {
            true => self.cache.remove(workspace.0, url).await,
            false => {
                let document = FetchedDocument {
                    final_url: &answer.final_url,
                    etag: validator(answer, "etag"),
                    last_modified: validator(answer, "last-modified"),
                    content_type: answer.header("content-type").filter(|kind| is_plain(kind)),
                    bytes: &answer.body,
                };
                self.cache.keep(workspace.0, url, document, self.options.bounds).await
            }
        };
        if let Err(error) = kept {
            tracing::warn!(%error, "the document cache cannot be written");
        }
    }
}

fn unfetched(error: &EgressError) -> Unreachable {
    match error {
        EgressError::ResponseTooLarge { limit } => Unreachable(format!("the document has more than {limit} bytes")),
        other => Unreachable(format!("the document cannot be fetched: {other}")),
    }
}

/// A header that can be stored and sent back as it is.
fn validator<'a>(answer: &'a OutboundResponse, name: &str) -> Option<&'a str> {
    answer.header(name).filter(|value| is_plain(value))
}

fn is_plain(value: &str) -> bool {
    !value.is_empty() && value.len() <= LONGEST_VALIDATOR && value.bytes().all(|b| (b' '..=b'~').contains(&b))
}

/// Types that can hold no document. Others are looked into: documents come as `text/plain`, `text/html` and worse.
fn is_no_text(kind: &str) -> bool {
    let kind = kind.trim_start().to_ascii_lowercase();
    ["image/", "audio/", "video/", "font/", "application/pdf"].iter().any(|start| kind.starts_with(start))
}
