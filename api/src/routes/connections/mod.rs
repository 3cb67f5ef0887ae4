//! Connections: authenticated instances of APIs, with or without an OpenAPI document.

mod auth;
#[cfg(test)]
mod auth_tests;
mod client;
mod credentials;
mod input;
mod spec;
mod spec_view;
mod upload;
mod view;

pub use auth::joined;
pub use client::ClientParts;
use commands::connection as use_cases;
pub use credentials::ConnectionCredentialsApi;
use domain::{error::Code, event::LogPosition, ids::ConnectionId, policy::Permission};
use input::{ApproveConnectionBody, CreateConnectionBody, PatchConnectionBody, RejectConnectionBody};
use poem_openapi::{OpenApi, param::Path};
use projections::ConnectionView;
pub use spec::ConnectionSpecApi;
use view::{ConnectionJson, ConnectionsJson, TestJson};

use super::{Deleted, Tag};
use crate::{
    answer::{Answer, Written},
    auth::{
        Permit,
        grant::{ConnectionApprove, ConnectionRead, ConnectionTest, ConnectionWrite},
    },
    body::Body,
    pagination::{Pagination, listing},
    problem::Problem,
    query::Asked,
    types::Id,
};

pub struct ConnectionsApi;

listing! {
    /// What a list of connections may be asked.
    pub struct ConnectionList sorted by "createdAt,updatedAt,name,endpointCount" {
        "status" = "some:ACTIVE,INACTIVE", "State.";
        "ingestionStatus" = "some:PENDING,RUNNING,SUCCEEDED,FAILED", "How far its document is.";
        "health" = "some:healthy,degraded,credential_expired,unreachable", "How its calls went lately.";
        "search" = "string", "Part of the name or description.";
    }
}

/// The connection, or 404.
pub(super) async fn find<P>(permit: &Permit<P>, id: ConnectionId) -> Result<ConnectionView, Problem> {
    let found = permit.reads().connection(permit.workspace(), id).await?;
    found.ok_or_else(|| Problem::not_found(Code::ConnectionNotFound, "connection"))
}

/// What a write at `at` made of the connection.
async fn stored<P, const STATUS: u16>(
    permit: &Permit<P>,
    id: ConnectionId,
    at: LogPosition,
    message: &str,
) -> Result<Written<ConnectionJson, STATUS>, Problem> {
    if permit.shows(at).await
        && let Some(view) = permit.reads().connection(permit.workspace(), id).await?
    {
        let version = view.version;
        return Ok(Written::Usual(Answer::new(view.into()).message(message).version(version).at(at)));
    }
    Ok(permit.lagging(id, at))
}

#[OpenApi(tag = "Tag::Connections")]
impl ConnectionsApi {
    /// List connections
    ///
    /// Newest first. `endpointCount` and `ingestionStatus` are always there.
    #[oai(path = "/connections", method = "get", operation_id = "listConnections")]
    async fn list(
        &self,
        permit: Permit<ConnectionRead>,
        asked: Asked<ConnectionList>,
    ) -> Result<Answer<ConnectionsJson>, Problem> {
        let ConnectionList { filter, page } = asked.0;
        let listed = permit.reads().connections(permit.workspace(), &filter, &page).await?;
        let pagination = Pagination::of(&listed);
        Ok(Answer::new(ConnectionsJson { connections: listed.items.into_iter().map(Into::into).collect(), pagination }))
    }

    /// Connect an API
    ///
    /// From the URL of its OpenAPI document (`specUrl`), from the document itself (`spec`, JSON or YAML; Swagger 2.0,
    /// OpenAPI 3.0, 3.1 and 3.2), from an archive of several files (`specArchive`), or with none of them and a `baseUrl`
    /// (plain HTTP). The document is read in the background:
    /// `ingestionStatus` goes from `PENDING` to `SUCCEEDED` or `FAILED`. The credential in `authConfig` goes to the
    /// vault and is never returned.
    #[oai(path = "/connections", method = "post", operation_id = "createConnection")]
    async fn create(
        &self,
        permit: Permit<ConnectionWrite>,
        body: Body<CreateConnectionBody>,
    ) -> Result<Written<ConnectionJson, 201>, Problem> {
        let done = use_cases::create(permit.app(), permit.context(), body.0.into_command()?).await?;
        stored(&permit, done.value, done.at, "API connection created.").await
    }

    /// Get a connection
    #[oai(path = "/connections/:id", method = "get", operation_id = "getConnection")]
    async fn get(
        &self,
        permit: Permit<ConnectionRead>,
        id: Path<Id<ConnectionId>>,
    ) -> Result<Answer<ConnectionJson>, Problem> {
        let view = find(&permit, id.typed("id")?).await?;
        let version = view.version;
        Ok(Answer::new(view.into()).version(version))
    }

    /// Change a connection
    ///
    /// Fields that are absent stay. A new key, token or password becomes the credential's next version, which needs
    /// the permission `credential:write` besides.
    #[oai(path = "/connections/:id", method = "patch", operation_id = "updateConnection")]
    async fn update(
        &self,
        permit: Permit<ConnectionWrite>,
        id: Path<Id<ConnectionId>>,
        body: Body<PatchConnectionBody>,
    ) -> Result<Written<ConnectionJson>, Problem> {
        let id = id.typed("id")?;
        let expected = permit.expected_version()?;
        let mut present = use_cases::load(permit.app(), permit.workspace(), id).await?.state;
        let (patch, secret) = body.0.into_patch(&present.auth)?;
        if secret.is_some() {
            permit.require(Permission::CredentialWrite).await?;
        }
        let kind = patch.auth.as_ref().unwrap_or(&present.auth).credential_kind();
        let done = use_cases::update(permit.app(), permit.context(), id, expected, patch).await?;
        let at = match secret {
            Some(secret) => {
                // What was stored may have been for another client.
                present.credential = use_cases::load(permit.app(), permit.workspace(), id).await?.state.credential;
                credentials::replace(&permit, id, &present, kind, secret).await?.max(done.at)
            }
            None => done.at,
        };
        stored(&permit, id, at, "API connection updated.").await
    }

    /// Delete a connection
    ///
    /// Its credential's value is destroyed, for good: a connection that has one needs the permission
    /// `credential:write` besides. What happened with it stays in the log.
    #[oai(path = "/connections/:id", method = "delete", operation_id = "deleteConnection")]
    async fn delete(
        &self,
        permit: Permit<ConnectionWrite>,
        id: Path<Id<ConnectionId>>,
    ) -> Result<Answer<Deleted>, Problem> {
        let id = id.typed("id")?;
        if use_cases::load(permit.app(), permit.workspace(), id).await?.state.credential.is_some() {
            permit.require(Permission::CredentialWrite).await?;
        }
        let done = use_cases::delete(permit.app(), permit.context(), id).await?;
        permit.wrote(done.at);
        Ok(Answer::new(Deleted::of(id)).message("API connection deleted.").at(done.at))
    }

    /// Test a connection
    ///
    /// One harmless call with the real credential. The use of the credential is in the log before it happens.
    #[oai(path = "/connections/:id/test", method = "post", operation_id = "testConnection")]
    async fn test(
        &self,
        permit: Permit<ConnectionTest>,
        id: Path<Id<ConnectionId>>,
    ) -> Result<Answer<TestJson>, Problem> {
        let id = id.typed("id")?;
        // Two appends: the read of the credential, and the outcome.
        let done = use_cases::test(permit.app(), &permit.context_without_claim(), id).await?;
        permit.wrote(done.at);
        let report = done.value;
        let test = TestJson {
            status: if report.ok { "success" } else { "failed" }.to_owned(),
            message: report.message,
            http_status: report.status,
            problem: report.problem,
            response_time: report.elapsed_ms,
            tested_at: None,
        };
        Ok(Answer::new(test).at(done.at))
    }

    /// Approve a connection's hosts
    ///
    /// The hosts that the body names, each of which waits or was rejected; 409 when one does not. Without names the
    /// request needs `If-Match`, and every host that waits in that version is approved. Other connections of the
    /// workspace may call them from now on, too. A document that could not be fetched is asked for again.
    #[oai(path = "/connections/:id/approve", method = "post", operation_id = "approveConnection")]
    async fn approve(
        &self,
        permit: Permit<ConnectionApprove>,
        id: Path<Id<ConnectionId>>,
        body: Body<ApproveConnectionBody>,
    ) -> Result<Written<ConnectionJson>, Problem> {
        let id = id.typed("id")?;
        let expected = permit.expected_version()?;
        let done = use_cases::approve(permit.app(), permit.context(), id, expected, body.0.hosts).await?;
        stored(&permit, id, done.at, "The hosts are approved.").await
    }

    /// Reject a connection's hosts
    ///
    /// Every host that waits; those approved before, when none does. Nothing is called there from now on.
    #[oai(path = "/connections/:id/reject", method = "post", operation_id = "rejectConnection")]
    async fn reject(
        &self,
        permit: Permit<ConnectionApprove>,
        id: Path<Id<ConnectionId>>,
        body: Body<RejectConnectionBody>,
    ) -> Result<Written<ConnectionJson>, Problem> {
        let id = id.typed("id")?;
        let done = use_cases::reject(permit.app(), permit.context(), id, body.0.reason).await?;
        stored(&permit, id, done.at, "The hosts are rejected.").await
    }
}
