//! Who acts, with which role, and what every event remembers of it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{ids::*, sealed::Sealed};

/// What a person or a key may do; `policy` holds the matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Owner,
    Admin,
    Manager,
    Member,
    Viewer,
    Auditor,
}

impl Role {
    pub const ALL: [Role; 6] = [Role::Owner, Role::Admin, Role::Manager, Role::Member, Role::Viewer, Role::Auditor];

    pub fn as_str(self) -> &'static str {
        match self {
            Role::Owner => "owner",
            Role::Admin => "admin",
            Role::Manager => "manager",
            Role::Member => "member",
            Role::Viewer => "viewer",
            Role::Auditor => "auditor",
        }
    }

    pub fn parse(text: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|r| r.as_str() == text)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActorKind {
    User,
    ApiKey,
    /// An executor, the relay, a schedule: the service itself.
    System,
    Anonymous,
}

impl ActorKind {
    pub fn as_str(self) -> &'static str {
        match self {
            ActorKind::User => "user",
            ActorKind::ApiKey => "api_key",
            ActorKind::System => "system",
            ActorKind::Anonymous => "anonymous",
        }
    }
}

/// An authenticated caller. The tenant comes from here, never from a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    pub kind: ActorKind,
    /// TypeID text of the user or key; the executor's name for the system.
    pub id: String,
    pub role: Role,
    pub workspace: WorkspaceId,
    pub organization: OrganizationId,
    pub session: Option<SessionId>,
}

impl Actor {
    /// The service acting in a workspace. Not subject to the matrix: it carries out what was already allowed.
    pub fn system(name: &str, workspace: WorkspaceId) -> Self {
        Self {
            kind: ActorKind::System,
            id: name.to_owned(),
            role: Role::Owner,
            workspace,
            organization: OrganizationId::default(),
            session: None,
        }
    }
}

/// Stored beside every event, never changed. Absent fields are left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    pub actor_kind: ActorKind,
    pub actor_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_behalf_of: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<RequestId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<SessionId>,
    /// One for everything that follows from one request or execution.
    pub correlation_id: Uuid,
    /// The event that caused this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub causation_id: Option<EventId>,
    /// W3C trace context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<Sealed<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<Sealed<String>>,
    /// The command's clock; `recorded_at` of the row is the database's.
    pub occurred_at: DateTime<Utc>,
}
