//! The workspace's cached documents: to see and to purge. Both leave an event.

use commands::document_cache as use_cases;
use domain::error::Code;
use poem_openapi::{Object, OpenApi};
use projections::{CachedDocumentView, Page};

use super::Tag;
use crate::{
    answer::Answer,
    auth::{Permit, grant::CacheManage},
    pagination::Pagination,
    problem::Problem,
    query::{Asked, Params, QuerySet},
    types::Time,
};

pub struct OpenapiCacheApi;

const URL_NOTE: &str = "query|url|string|Only this document.";

struct CacheList {
    url: Option<String>,
    page: Page,
}

impl QuerySet for CacheList {
    const NOTES: &'static [&'static str] = &[
        URL_NOTE,
        "query|page|integer:1:1000000:1|The page, from 1.",
        "query|limit|integer:1:100:20|Items on a page.",
    ];

    fn read(params: &mut Params) -> Self {
        let page = Page {
            page: params.number("page", 1, 1_000_000).unwrap_or(1),
            limit: params.number("limit", 1, 100).unwrap_or(20),
            ..Page::default()
        };
        Self { url: params.text("url"), page }
    }
}

struct CachePurge(Option<String>);

impl QuerySet for CachePurge {
    const NOTES: &'static [&'static str] = &[URL_NOTE];

    fn read(params: &mut Params) -> Self {
        Self(params.text("url"))
    }
}

/// A document that was fetched and is kept.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
struct CachedDocumentJson {
    url: String,
    /// SHA-256, hex.
    hash: String,
    /// What its server sent with it.
    etag: Option<String>,
    last_modified: Option<String>,
    content_type: Option<String>,
    /// Bytes.
    size: i64,
    /// Bytes that it takes here.
    stored_size: i64,
    fetched_at: Time,
    /// When its server last confirmed it.
    validated_at: Time,
    last_used_at: Time,
    uses: i64,
}

impl From<CachedDocumentView> for CachedDocumentJson {
    fn from(view: CachedDocumentView) -> Self {
        Self {
            url: view.url,
            hash: view.hash,
            etag: view.etag,
            last_modified: view.last_modified,
            content_type: view.content_type,
            size: view.size,
            stored_size: view.stored_size,
            fetched_at: view.fetched_at.into(),
            validated_at: view.validated_at.into(),
            last_used_at: view.used_at.into(),
            uses: view.uses,
        }
    }
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct CachedDocumentsJson {
    documents: Vec<CachedDocumentJson>,
    /// Bytes that all of them take here.
    stored_bytes: i64,
    pagination: Pagination,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct PurgedJson {
    purged: i64,
    /// Bytes that are free again.
    freed_bytes: i64,
}

#[OpenApi(tag = "Tag::Admin")]
impl OpenapiCacheApi {
    /// List cached documents
    ///
    /// The workspace's own, the last used first. That somebody looked is in the log.
    #[oai(path = "/admin/openapi-cache", method = "get", operation_id = "listOpenapiCache")]
    async fn list(
        &self,
        permit: Permit<CacheManage>,
        asked: Asked<CacheList>,
    ) -> Result<Answer<CachedDocumentsJson>, Problem> {
        let CacheList { url, page } = asked.0;
        let done = use_cases::list(permit.app(), permit.context(), url.as_deref()).await?;
        permit.wrote(done.at);
        let listed = permit.reads().cached_documents(permit.workspace(), url.as_deref(), &page).await?;
        let pagination = Pagination::of(&listed);
        let documents = listed.items.into_iter().map(Into::into).collect();
        Ok(Answer::new(CachedDocumentsJson { documents, stored_bytes: done.value.bytes, pagination }).at(done.at))
    }

    /// Purge cached documents
    ///
    /// All of the workspace, or that of one URL: they are fetched anew when they are wanted. Connections keep their
    /// operations.
    #[oai(path = "/admin/openapi-cache", method = "delete", operation_id = "purgeOpenapiCache")]
    async fn purge(
        &self,
        permit: Permit<CacheManage>,
        asked: Asked<CachePurge>,
    ) -> Result<Answer<PurgedJson>, Problem> {
        let CachePurge(url) = asked.0;
        let done = use_cases::purge(permit.app(), permit.context(), url.as_deref()).await?;
        permit.wrote(done.at);
        if url.is_some() && done.value.entries == 0 {
            return Err(Problem::new(
                Code::ResourceNotFound,
                "There is no cached document of this URL in the workspace.",
            ));
        }
        let purged = PurgedJson { purged: done.value.entries, freed_bytes: done.value.bytes };
        Ok(Answer::new(purged).message("Cached documents purged.").at(done.at))
    }
}
