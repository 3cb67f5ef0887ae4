//! A key of a workspace: acts with its own role, is stored as a hash, is shown once.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    actor::Role,
    aggregate::aggregate,
    error::{Code, Faults, Rejection},
    event::events,
    ids::{OrganizationId, WorkspaceId},
};

events! {
    pub enum ApiKeyEvent {
        "api_key.created" v "1" = Created {
            workspace_id: WorkspaceId,
            organization_id: OrganizationId,
            name: String,
            role: Role,
            /// SHA-256 of the key's random part, hex.
            hash: String,
            /// The first characters, to tell keys apart.
            prefix: String,
            #[serde(default, skip_serializing_if = "Option::is_none")]
            expires_at: Option<DateTime<Utc>>,
        },
        "api_key.revoked" v "1" = Revoked {},
    }
}

#[derive(Debug)]
pub enum ApiKeyCommand {
    Create {
        workspace: WorkspaceId,
        organization: OrganizationId,
        name: String,
        role: Role,
        /// A key cannot grant more than its maker has.
        maker: Role,
        hash: String,
        prefix: String,
        expires_at: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    },
    Revoke,
}

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct ApiKey {
    pub workspace: Option<WorkspaceId>,
    pub organization: OrganizationId,
    pub name: String,
    pub role: Option<Role>,
    pub hash: String,
    pub expires_at: Option<DateTime<Utc>>,
    pub revoked: bool,
}

impl ApiKey {
    /// May it be used at `now`?
    pub fn is_active(&self, now: DateTime<Utc>) -> bool {
        self.workspace.is_some() && !self.revoked && self.expires_at.is_none_or(|at| at > now)
    }

    fn evolve(&mut self, event: ApiKeyEvent) {
        match event {
            ApiKeyEvent::Created { workspace_id, organization_id, name, role, hash, expires_at, .. } => {
                self.workspace = Some(workspace_id);
                self.organization = organization_id;
                self.name = name;
                self.role = Some(role);
                self.hash = hash;
                self.expires_at = expires_at;
            }
            ApiKeyEvent::Revoked {} => self.revoked = true,
        }
    }
}

fn decide(state: &ApiKey, command: ApiKeyCommand) -> Result<Vec<ApiKeyEvent>, Rejection> {
    match command {
        ApiKeyCommand::Create { .. } if state.workspace.is_some() => {
            Err(Rejection::new(Code::Conflict, "This API key exists already."))
        }
        ApiKeyCommand::Create { workspace, organization, name, role, maker, hash, prefix, expires_at, now } => {
            let mut faults = Faults::default();
            faults.length("name", &name, 1, 100);
            if role < maker {
                faults.add("role", format!("cannot be higher than your own role, {}", maker.as_str()));
            }
            if expires_at.is_some_and(|at| at <= now) {
                faults.add("expiresAt", "must lie in the future");
            }
            faults.into_result()?;
            Ok(vec![ApiKeyEvent::Created {
                workspace_id: workspace,
                organization_id: organization,
                name,
                role,
                hash,
                prefix,
                expires_at,
            }])
        }
        ApiKeyCommand::Revoke if state.workspace.is_none() || state.revoked => {
            Err(Rejection::not_found(Code::ApiKeyNotFound, "API key"))
        }
        ApiKeyCommand::Revoke => Ok(vec![ApiKeyEvent::Revoked {}]),
    }
}

aggregate!(ApiKey, "api_key", ApiKeyCommand, ApiKeyEvent, decide);

#[cfg(test)]
mod tests {
    use cqrs_es::test::TestFramework;

    use super::*;

    #[test]
    fn a_key_cannot_outrank_its_maker_and_every_fault_is_named() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let error = TestFramework::<ApiKey>::with(())
            .given_no_previous_events()
            .when(ApiKeyCommand::Create {
                workspace: WorkspaceId::default(),
                organization: OrganizationId::default(),
                name: " ".into(),
                role: Role::Owner,
                maker: Role::Admin,
                hash: String::new(),
                prefix: String::new(),
                expires_at: Some(now),
                now,
            })
            .inspect_result()
            .unwrap_err();
        let fields: Vec<_> = error.details.iter().map(|d| d.field.as_str()).collect();
        assert_eq!(fields, ["name", "role", "expiresAt"]);
    }
}
