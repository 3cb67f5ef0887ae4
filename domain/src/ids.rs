//! TypeIDs: a typed prefix and a UUIDv7 in Crockford base32 (`conn_01h…`).
//!
//! Ids are made outside the domain (commands receive them), parsed here, and printed the same way in
//! events, in HTTP and in logs. Shape: `<prefix>_<26 characters>`; a wrong prefix or length is an error.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const SUFFIX_LEN: usize = 26;

/// Why a text is no id of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    #[error("an id of this kind starts with \"{0}_\"")]
    Prefix(&'static str),
    #[error("an id ends in 26 characters of 0-9a-z without i, l, o, u")]
    Suffix,
}

/// 26 characters of Crockford base32 for 128 bits, most significant first.
fn encode(uuid: Uuid) -> [u8; SUFFIX_LEN] {
    let mut rest = uuid.as_u128();
    let mut out = [b'0'; SUFFIX_LEN];
    for slot in out.iter_mut().rev() {
        *slot = ALPHABET[(rest & 31) as usize];
        rest >>= 5;
    }
    out
}

fn decode(text: &str) -> Result<Uuid, IdError> {
    let bytes = text.as_bytes();
    // The first character carries three bits only: more would overflow 128 bits.
    if bytes.len() != SUFFIX_LEN || !(b'0'..=b'7').contains(&bytes[0]) {
        return Err(IdError::Suffix);
    }
    let mut value: u128 = 0;
    for byte in bytes {
        let digit = ALPHABET.iter().position(|a| a == byte).ok_or(IdError::Suffix)?;
        value = (value << 5) | digit as u128;
    }
    Ok(Uuid::from_u128(value))
}

/// An id with a prefix known at compile time.
pub trait TypedId: Copy + fmt::Display + FromStr<Err = IdError> + From<Uuid> + Into<Uuid> {
    const PREFIX: &'static str;
}

macro_rules! typed_ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub Uuid);

        impl TypedId for $name { const PREFIX: &'static str = $prefix; }

        impl From<Uuid> for $name { fn from(uuid: Uuid) -> Self { Self(uuid) } }
        impl From<$name> for Uuid { fn from(id: $name) -> Self { id.0 } }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let suffix = encode(self.0);
                f.write_str(concat!($prefix, "_"))?;
                f.write_str(std::str::from_utf8(&suffix).map_err(|_| fmt::Error)?)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { fmt::Display::fmt(self, f) }
        }
        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                let suffix = text.strip_prefix(concat!($prefix, "_")).ok_or(IdError::Prefix($prefix))?;
                decode(suffix).map(Self)
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> { s.collect_str(self) }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
                text.parse().map_err(de::Error::custom)
            }
        }
    )*};
}

typed_ids! {
    /// A person with a login.
    UserId = "user";
    /// A company: owns workspaces.
    OrganizationId = "org";
    /// The tenant: owns everything else.
    WorkspaceId = "ws";
    /// A login of a user: one family of refresh tokens.
    SessionId = "sess";
    ApiKeyId = "key";
    ConnectionId = "conn";
    /// A connector instance.
    ConnectorId = "connector";
    /// An operation of a connection's spec; the same for the same connection, method and path.
    EndpointId = "ep";
    CredentialId = "cred";
    /// The secrets view's name of a credential: the same UUID under another prefix.
    SecretId = "secret";
    WorkflowId = "wf";
    ExecutionId = "exec";
    StepId = "step";
    PlanId = "plan";
    WebhookId = "hook";
    DeliveryId = "dlv";
    EventId = "evt";
    /// A person's way through an OAuth provider.
    OauthFlowId = "oauth";
    RequestId = "req";
}

/// The TypeID text of an aggregate of this type; the plain UUID where the type has no public id.
pub fn typed(aggregate_type: &str, id: Uuid) -> String {
    match aggregate_type {
        "user" => UserId(id).to_string(),
        "organization" => OrganizationId(id).to_string(),
        "workspace" => WorkspaceId(id).to_string(),
        "session" => SessionId(id).to_string(),
        "api_key" => ApiKeyId(id).to_string(),
        "connection" => ConnectionId(id).to_string(),
        "connector" => ConnectorId(id).to_string(),
        "credential" => CredentialId(id).to_string(),
        "workflow" => WorkflowId(id).to_string(),
        "execution" => ExecutionId(id).to_string(),
        "plan" => PlanId(id).to_string(),
        "webhook" => WebhookId(id).to_string(),
        "delivery" => DeliveryId(id).to_string(),
        "oauth" => OauthFlowId(id).to_string(),
        _ => id.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_and_refuses() {
        let uuid = Uuid::from_u128(0x0190_f5fe_1234_7abc_8def_0123_4567_89ab);
        let id = ConnectionId(uuid);
        let text = id.to_string();
        assert_eq!(text.len(), "conn_".len() + 26);
        assert_eq!(text.parse::<ConnectionId>(), Ok(id));
        assert_eq!(text.parse::<WorkflowId>(), Err(IdError::Prefix("wf")));
        assert_eq!("conn_8zzzzzzzzzzzzzzzzzzzzzzzzz".parse::<ConnectionId>(), Err(IdError::Suffix));
        assert_eq!("conn_".parse::<ConnectionId>(), Err(IdError::Suffix));
        assert_eq!(ConnectionId(Uuid::max()).to_string(), "conn_7zzzzzzzzzzzzzzzzzzzzzzzzz");
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(serde_json::from_str::<ConnectionId>(&json).unwrap(), id);
    }
}
