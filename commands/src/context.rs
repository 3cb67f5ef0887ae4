//! Who asks, from where, and what every event of the command remembers of it.

use domain::{
    actor::{Actor, Metadata},
    ids::RequestId,
};
use event_store::Claim;
use uuid::Uuid;

use crate::{App, Failure};

/// Where a request comes from.
#[derive(Debug, Clone, Default)]
pub struct RequestInfo {
    pub request_id: RequestId,
    /// Sealed before it reaches the log.
    pub ip: Option<String>,
    /// Sealed before it reaches the log.
    pub user_agent: Option<String>,
    pub traceparent: Option<String>,
    pub idempotency: Option<Claim>,
}

#[derive(Debug, Clone)]
pub struct Context {
    pub actor: Actor,
    pub request: RequestInfo,
    /// Set by executors: what the work belongs to. Requests are their own correlation.
    pub correlation: Option<Uuid>,
    /// Set by executors: the event that woke them.
    pub causation: Option<Uuid>,
}

impl Context {
    pub fn new(actor: Actor, request: RequestInfo) -> Self {
        Self { actor, request, correlation: None, causation: None }
    }

    /// The service itself, working on `correlation`.
    pub fn system(name: &str, workspace: domain::ids::WorkspaceId, correlation: Uuid) -> Self {
        let actor = Actor::system(name, workspace);
        Self { actor, request: RequestInfo::default(), correlation: Some(correlation), causation: None }
    }

    /// For a second append of the same request: an idempotency key can be claimed by one only.
    pub fn without_claim(&self) -> Self {
        let mut context = self.clone();
        context.request.idempotency = None;
        context
    }

    /// One for everything that follows from this request or execution.
    pub fn correlation_id(&self) -> Uuid {
        self.correlation.unwrap_or(self.request.request_id.0)
    }

    /// The events' metadata as JSON text.
    pub(crate) async fn metadata(&self, app: &App) -> Result<String, Failure> {
        let request = &self.request;
        let workspace = self.actor.workspace;
        let mut ip = None;
        if let Some(text) = &request.ip {
            ip = Some(app.vault().seal(workspace, "metadata.ip", text.as_str()).await?);
        }
        let mut user_agent = None;
        if let Some(text) = &request.user_agent {
            let short: String = text.chars().take(500).collect();
            user_agent = Some(app.vault().seal(workspace, "metadata.userAgent", &short).await?);
        }
        let from_request = self.correlation.is_none();
        let metadata = Metadata {
            actor_kind: self.actor.kind,
            actor_id: self.actor.id.clone(),
            on_behalf_of: None,
            request_id: from_request.then_some(request.request_id),
            session_id: self.actor.session,
            correlation_id: self.correlation_id(),
            causation_id: self.causation.map(Into::into),
            traceparent: request.traceparent.clone(),
            idempotency_key: request.idempotency.as_ref().map(|c| c.key.clone()),
            ip,
            user_agent,
            occurred_at: app.now(),
        };
        serde_json::to_string(&metadata).map_err(|e| Failure::Internal(e.to_string()))
    }
}
