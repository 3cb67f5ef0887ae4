//! Ids as people write them: any TypeID names an aggregate.

use domain::ids::*;
use uuid::Uuid;

macro_rules! resources {
    ($( $aggregate:literal = $id:ident ),* $(,)?) => {
        /// The aggregate that a TypeID names: its type and UUID.
        pub fn resource_of(text: &str) -> Option<(&'static str, Uuid)> {
            $( if let Ok(id) = text.parse::<$id>() { return Some(($aggregate, id.0)); } )*
            // The secrets view's name of a credential.
            text.parse::<SecretId>().ok().map(|id| ("credential", id.0))
        }

        /// The TypeID of an aggregate; its bare UUID where the type has no prefix (reservations, denials).
        pub fn resource_id(aggregate_type: &str, id: Uuid) -> String {
            match aggregate_type {
                $( $aggregate => $id(id).to_string(), )*
                _ => id.to_string(),
            }
        }

        #[cfg(test)]
        const PREFIXES: &[(&str, &str)] = &[ $( ($aggregate, $id::PREFIX) ),* ];
    };
}

resources! {
    "organization" = OrganizationId,
    "workspace" = WorkspaceId,
    "user" = UserId,
    "session" = SessionId,
    "api_key" = ApiKeyId,
    "connection" = ConnectionId,
    "connector" = ConnectorId,
    "credential" = CredentialId,
    "workflow" = WorkflowId,
    "execution" = ExecutionId,
    "plan" = PlanId,
    "webhook" = WebhookId,
    "delivery" = DeliveryId,
}

/// The UUID of a TypeID with this prefix, or of a UUID's own text.
pub(crate) fn uuid_of(prefix: &str, text: &str) -> Option<Uuid> {
    let named = text.split_once('_').filter(|(found, _)| *found == prefix);
    named.and_then(|_| resource_of(text)).map(|(_, id)| id).or_else(|| text.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_name_their_aggregate() {
        let uuid = Uuid::from_u128(9);
        for (aggregate, _) in PREFIXES {
            assert_eq!(resource_of(&resource_id(aggregate, uuid)), Some((*aggregate, uuid)));
        }
        assert_eq!(uuid_of("conn", &ConnectionId(uuid).to_string()), Some(uuid));
        assert_eq!(uuid_of("conn", &WorkflowId(uuid).to_string()), None);
        assert_eq!(uuid_of("conn", &uuid.to_string()), Some(uuid));
    }
}
