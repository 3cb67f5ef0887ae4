//! The permission matrix: the one place that says which role may do what.

use crate::actor::Role;

/// What a route needs. A route names exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Permission {
    /// Own profile and session.
    SelfRead,
    ApiKeyRead,
    ApiKeyWrite,
    ConnectionRead,
    ConnectionWrite,
    /// Makes a call with the real credential.
    ConnectionTest,
    /// Of hosts that wait for it.
    ConnectionApprove,
    ConnectorRead,
    ConnectorWrite,
    /// Makes a call with the real credential.
    ConnectorTest,
    OrganizationRead,
    OrganizationWrite,
    CredentialRead,
    CredentialWrite,
    /// Gives the value itself out.
    CredentialReveal,
    WorkflowRead,
    WorkflowWrite,
    WorkflowExecute,
    ExecutionRead,
    ExecutionControl,
    PlanWrite,
    LogRead,
    WebhookRead,
    WebhookWrite,
    StatsRead,
    ProjectionRead,
    /// What is kept of fetched documents: to see and to purge.
    CacheManage,
    /// The workspace's keys: versions and progress, never the keys.
    KeyRead,
    /// Rotate and destroy them.
    KeyWrite,
}

impl Permission {
    pub const ALL: [Permission; 29] = [
        Permission::SelfRead,
        Permission::ApiKeyRead,
        Permission::ApiKeyWrite,
        Permission::ConnectionRead,
        Permission::ConnectionWrite,
        Permission::ConnectionTest,
        Permission::ConnectionApprove,
        Permission::ConnectorRead,
        Permission::ConnectorWrite,
        Permission::ConnectorTest,
        Permission::OrganizationRead,
        Permission::OrganizationWrite,
        Permission::CredentialRead,
        Permission::CredentialWrite,
        Permission::CredentialReveal,
        Permission::WorkflowRead,
        Permission::WorkflowWrite,
        Permission::WorkflowExecute,
        Permission::ExecutionRead,
        Permission::ExecutionControl,
        Permission::PlanWrite,
        Permission::LogRead,
        Permission::WebhookRead,
        Permission::WebhookWrite,
        Permission::StatsRead,
        Permission::ProjectionRead,
        Permission::CacheManage,
        Permission::KeyRead,
        Permission::KeyWrite,
    ];

    /// `resource:action`, as shown to people.
    pub fn as_str(self) -> &'static str {
        match self {
            Permission::SelfRead => "self:read",
            Permission::ApiKeyRead => "api-key:read",
            Permission::ApiKeyWrite => "api-key:write",
            Permission::ConnectionRead => "connection:read",
            Permission::ConnectionWrite => "connection:write",
            Permission::ConnectionTest => "connection:test",
            Permission::ConnectionApprove => "connection:approve",
            Permission::ConnectorRead => "connector:read",
            Permission::ConnectorWrite => "connector:write",
            Permission::ConnectorTest => "connector:test",
            Permission::OrganizationRead => "organization:read",
            Permission::OrganizationWrite => "organization:write",
            Permission::CredentialRead => "credential:read",
            Permission::CredentialWrite => "credential:write",
            Permission::CredentialReveal => "credential:reveal",
            Permission::WorkflowRead => "workflow:read",
            Permission::WorkflowWrite => "workflow:write",
            Permission::WorkflowExecute => "workflow:execute",
            Permission::ExecutionRead => "execution:read",
            Permission::ExecutionControl => "execution:control",
            Permission::PlanWrite => "plan:write",
            Permission::LogRead => "log:read",
            Permission::WebhookRead => "webhook:read",
            Permission::WebhookWrite => "webhook:write",
            Permission::StatsRead => "stats:read",
            Permission::ProjectionRead => "projection:read",
            Permission::CacheManage => "cache:manage",
            Permission::KeyRead => "key:read",
            Permission::KeyWrite => "key:write",
        }
    }
}

/// May this role do it? An auditor reads everything, the log included, and changes nothing.
pub fn allows(role: Role, permission: Permission) -> bool {
    use Permission::*;
    use Role::*;
    match permission {
        SelfRead => true,
        ConnectionRead | WorkflowRead | ExecutionRead | OrganizationRead => true,
        CredentialRead | WebhookRead | ConnectorRead => true,
        ConnectorWrite | ConnectorTest => matches!(role, Owner | Admin | Manager | Member),
        ConnectionWrite | ConnectionTest | WorkflowWrite => matches!(role, Owner | Admin | Manager | Member),
        WorkflowExecute | ExecutionControl | PlanWrite => matches!(role, Owner | Admin | Manager | Member),
        CredentialWrite | WebhookWrite => matches!(role, Owner | Admin | Manager),
        ApiKeyRead => matches!(role, Owner | Admin | Auditor),
        ApiKeyWrite | KeyWrite | ConnectionApprove | OrganizationWrite | CacheManage => matches!(role, Owner | Admin),
        CredentialReveal => matches!(role, Owner | Admin),
        LogRead | StatsRead | ProjectionRead | KeyRead => matches!(role, Owner | Admin | Auditor),
    }
}

/// What a role must be allowed to read that lets events of this subscription (`*`, `workflow.*`, `api_key.created`) be
/// sent somewhere: a webhook tells no more than its maker may see. What has no read permission of its own is the log's.
pub fn read_of(subscription: &str) -> Permission {
    match subscription.split_once('.').map(|(noun, _)| noun) {
        Some("workflow") => Permission::WorkflowRead,
        Some("execution") => Permission::ExecutionRead,
        Some("connection") => Permission::ConnectionRead,
        Some("connector") => Permission::ConnectorRead,
        Some("webhook") => Permission::WebhookRead,
        Some("api_key") => Permission::ApiKeyRead,
        _ => Permission::LogRead,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auditor_changes_nothing_and_reads_everything() {
        for permission in Permission::ALL {
            let reads = permission.as_str().ends_with(":read");
            assert_eq!(allows(Role::Auditor, permission), reads, "{permission:?}");
        }
    }

    #[test]
    fn a_subscription_needs_the_permission_to_read_what_it_sends() {
        let may = |role, subscription| allows(role, read_of(subscription));
        for open in ["workflow.completed", "execution.*", "connection.created", "webhook.*"] {
            assert!(may(Role::Manager, open), "{open}");
        }
        for closed in ["*", "api_key.created", "api_key.*", "user.*", "credential.read", "organization.created"] {
            assert!(!may(Role::Manager, closed), "{closed}");
            assert!(may(Role::Admin, closed) && may(Role::Owner, closed), "{closed}");
        }
    }

    #[test]
    fn owner_may_everything() {
        assert!(Permission::ALL.into_iter().all(|p| allows(Role::Owner, p)));
    }
}
