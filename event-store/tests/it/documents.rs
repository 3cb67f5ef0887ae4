//! The cache of documents: what is confirmed is what the server was asked about.

use std::time::Duration;

use event_store::{CacheBounds, FetchedDocument};
use sqlx::Executor;
use uuid::Uuid;

use crate::{open, postgres::Database};

const URL: &str = "https://api.test/openapi.json";

#[tokio::test]
async fn a_confirmation_is_of_one_content_and_no_other() {
    let database = Database::fresh().await;
    let cache = open(&database).await.documents();
    let here = Uuid::from_u128(7);
    let keep = async |bytes: &[u8], etag: &str| {
        let document =
            FetchedDocument { final_url: URL, etag: Some(etag), last_modified: None, content_type: None, bytes };
        cache.keep(here, URL, document, CacheBounds { entries: 10, bytes: 10_000 }).await.unwrap();
    };
    let find = async || cache.find(here, URL, Duration::from_secs(60)).await.unwrap().unwrap();
    let age = async || {
        let older = "update cache.documents set validated_at = validated_at - interval '1 hour'";
        database.connect().await.execute(older).await.unwrap();
    };
    keep(b"one", "\"1\"").await;
    let asked_about = find().await;
    // While the server is asked about it, somebody else fetches another one.
    keep(b"two", "\"2\"").await;
    age().await;
    cache.confirm(here, URL, &asked_about.hash, Some("\"1\""), None).await.unwrap();
    let present = find().await;
    assert_eq!((present.is_fresh, present.etag.as_deref()), (false, Some("\"2\"")));
    cache.confirm(here, URL, &present.hash, None, None).await.unwrap();
    let confirmed = find().await;
    assert_eq!((confirmed.is_fresh, confirmed.etag.as_deref()), (true, Some("\"2\"")));
}
