//! An answer whose head is here and whose body arrives: read piece by piece within the request's caps.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use domain::call::RateLimit;
use domain::ids::WorkspaceId;
use http::header::CONTENT_ENCODING;
use http::{HeaderMap, Method, StatusCode};
use tokio::time::{Instant, timeout_at};

use super::breaker::Pass;
use super::error::EgressError;
use super::gate::Place;
use super::policy::host_of;
use super::redirect::Hop;
use super::request::OutboundResponse;
use super::{Budget, Inner};

/// An answer that is still being read. Its place at the host is free again when it is dropped.
pub struct OutboundStream {
    pub status: u16,
    /// Lower-case names; a value that is not UTF-8 has its bad bytes replaced.
    pub headers: Vec<(String, String)>,
    /// Where the answer came from, after redirects. Holds the query string: not for logs.
    pub final_url: String,
    pub redirects: u32,
    pub retry_after: Option<Duration>,
    pub rate_limit: Option<RateLimit>,
    host: String,
    answer: reqwest::Response,
    has_body: bool,
    read: u64,
    budget: Budget,
    admission: Option<Admission>,
    _place: Place,
}

/// A call that the circuit breaker let through: what comes of it is reported when this is dropped.
pub(super) struct Admission {
    pub inner: Arc<Inner>,
    pub workspace: WorkspaceId,
    pub host: String,
    pub pass: Pass,
    /// `None`: nothing was sent.
    pub failed: Option<bool>,
}

impl Drop for Admission {
    fn drop(&mut self) {
        let breakers = &self.inner.breakers;
        match self.failed {
            Some(failed) => breakers.report(self.workspace, &self.host, self.pass, failed, Instant::now()),
            None if self.pass == Pass::Probe => breakers.give_back(self.workspace, &self.host),
            None => {}
        }
    }
}

impl OutboundStream {
    pub(super) fn new(
        hop: &Hop,
        (answer, place): (reqwest::Response, Place),
        (retry_after, rate_limit): (Option<Duration>, Option<RateLimit>),
        redirects: u32,
        budget: Budget,
        admission: Option<Admission>,
    ) -> Result<Self, EgressError> {
        let (host, status) = (host_of(&hop.url), answer.status());
        let silent = hop.method == Method::HEAD || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if !silent {
            check_encoding(&host, answer.headers())?;
        }
        let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        Ok(Self {
            status: status.as_u16(),
            headers: answer.headers().iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect(),
            final_url: hop.url.to_string(),
            redirects,
            retry_after,
            rate_limit,
            host,
            answer,
            has_body: !silent,
            read: 0,
            budget,
            admission,
            _place: place,
        })
    }

    /// The first header of this name, in whatever case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The next piece of the body, decompressed; `None` at its end. No more than allowed: counted while it arrives, so
    /// that a small compressed answer cannot grow in memory.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, EgressError> {
        if !self.has_body {
            return Ok(None);
        }
        let piece = match timeout_at(self.budget.deadline, self.answer.chunk()).await {
            Err(_) => Err(self.budget.timed_out(&self.host, true)),
            Ok(piece) => piece.map_err(|error| EgressError::from_client(&error, &self.host, self.budget.timeout)),
        };
        if let Err(error) = &piece
            && let Some(admission) = &mut self.admission
        {
            admission.failed = Some(error.is_hosts_fault());
        }
        let piece = piece?;
        self.read += piece.as_ref().map_or(0, |piece| piece.len() as u64);
        if self.read > self.budget.max_bytes {
            return Err(EgressError::ResponseTooLarge { limit: self.budget.max_bytes });
        }
        Ok(piece)
    }

    /// The whole answer.
    pub(super) async fn whole(mut self) -> Result<OutboundResponse, EgressError> {
        let declared = if self.has_body { self.answer.content_length() } else { None };
        if declared.is_some_and(|length| length > self.budget.max_bytes) {
            return Err(EgressError::ResponseTooLarge { limit: self.budget.max_bytes });
        }
        let mut body = BytesMut::new();
        while let Some(piece) = self.chunk().await? {
            body.extend_from_slice(&piece);
        }
        Ok(self.with(body.freeze()))
    }

    /// The answer with no more than the first bytes of its body: who wants to see what it is need not read all of it.
    pub async fn first(mut self, bytes: usize) -> Result<OutboundResponse, EgressError> {
        let mut body = BytesMut::new();
        while body.len() < bytes
            && let Some(piece) = self.chunk().await?
        {
            body.extend_from_slice(&piece);
        }
        body.truncate(bytes);
        Ok(self.with(body.freeze()))
    }

    fn with(mut self, body: Bytes) -> OutboundResponse {
        OutboundResponse {
            status: self.status,
            headers: std::mem::take(&mut self.headers),
            body,
            final_url: std::mem::take(&mut self.final_url),
            elapsed: self.budget.started.elapsed(),
            redirects: self.redirects,
            attempts: 1,
            retry_after: self.retry_after,
            rate_limit: self.rate_limit.take(),
        }
    }
}

/// gzip is what is offered and decompressed (its header is gone by now). A body in another encoding, or in several, is of
/// no use to anybody here, and saying so is better than passing it on as text.
fn check_encoding(host: &str, headers: &HeaderMap) -> Result<(), EgressError> {
    let encoded = headers.get_all(CONTENT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let known = ["gzip", "x-gzip", "deflate", "br", "zstd", "compress", "x-compress"];
    let mut names = encoded.flat_map(|text| text.split(',')).map(|name| name.trim().to_ascii_lowercase());
    match names.find(|name| known.contains(&name.as_str())) {
        Some(name) => Err(EgressError::Protocol {
            host: host.to_owned(),
            reason: format!("its body is compressed in a way that was not asked for ({name})"),
        }),
        None => Ok(()),
    }
}
