//! API keys and refresh tokens: `sk_<id><random><checksum>`.
//!
//! The id names the stream, so that a look-up needs no index; the checksum spares a query for garbage; only the
//! SHA-256 of the whole is stored.

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use uuid::Uuid;

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// 160 random bits.
const RANDOM_LEN: usize = 32;
const ID_LEN: usize = 32;
const CHECK_LEN: usize = 6;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpaqueKind {
    ApiKey,
    Refresh,
    /// What travels through an OAuth provider and back.
    OauthState,
    /// What begins an authorization in a browser.
    OauthLink,
    /// What that browser keeps meanwhile.
    OauthBrowser,
}

impl OpaqueKind {
    pub fn prefix(self) -> &'static str {
        match self {
            OpaqueKind::ApiKey => "sk_",
            OpaqueKind::Refresh => "rt_",
            OpaqueKind::OauthState => "st_",
            OpaqueKind::OauthLink => "ln_",
            OpaqueKind::OauthBrowser => "br_",
        }
    }
}

/// A well-formed token: its owner's id and the hash to compare. Says nothing about validity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpaqueToken {
    pub id: Uuid,
    /// SHA-256 of the whole token, hex.
    pub hash: String,
}

impl OpaqueToken {
    /// A new token for `id`, with its hash and the start that may be shown.
    pub fn generate(kind: OpaqueKind, id: Uuid) -> (SecretString, OpaqueToken, String) {
        let mut random = [0u8; RANDOM_LEN];
        rand::fill(&mut random[..]);
        let random: String = random.iter().map(|b| ALPHABET[usize::from(b & 31)] as char).collect();
        let body = format!("{}{}{random}", kind.prefix(), id.simple());
        let token = format!("{body}{}", checksum(&body));
        // The id part begins with the time: the last characters of it tell keys apart.
        let shown = format!("{}…{}", kind.prefix(), &id.simple().to_string()[26..]);
        let parsed = OpaqueToken { id, hash: hash(&token) };
        (token.into(), parsed, shown)
    }

    /// `None` for anything that was never a token of this kind: costs no query.
    pub fn parse(kind: OpaqueKind, token: &SecretString) -> Option<OpaqueToken> {
        let text = token.expose_secret();
        let rest = text.strip_prefix(kind.prefix())?;
        if !text.is_ascii() || rest.len() != ID_LEN + RANDOM_LEN + CHECK_LEN {
            return None;
        }
        let (body, check) = text.split_at(text.len() - CHECK_LEN);
        if checksum(body) != check {
            return None;
        }
        let id = Uuid::try_parse(&rest[..ID_LEN]).ok()?;
        Some(OpaqueToken { id, hash: hash(text) })
    }

    pub fn matches(&self, stored_hash: &str) -> bool {
        self.hash.as_bytes().ct_eq(stored_hash.as_bytes()).into()
    }
}

fn hash(text: &str) -> String {
    hex::encode(Sha256::digest(text.as_bytes()))
}

fn checksum(body: &str) -> String {
    Sha256::digest(body.as_bytes())[..CHECK_LEN].iter().map(|b| ALPHABET[usize::from(b & 31)] as char).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_and_refuses_garbage() {
        let id = Uuid::from_u128(77);
        let (token, made, shown) = OpaqueToken::generate(OpaqueKind::ApiKey, id);
        assert_eq!(OpaqueToken::parse(OpaqueKind::ApiKey, &token), Some(made.clone()));
        assert!(made.matches(&made.hash) && !made.matches("00"));
        assert!(!token.expose_secret().contains(&shown));
        assert_eq!(OpaqueToken::parse(OpaqueKind::Refresh, &token), None);
        let mut wrong = token.expose_secret().to_owned();
        let last = wrong.pop().unwrap();
        wrong.push(if last == '0' { '1' } else { '0' });
        assert_eq!(OpaqueToken::parse(OpaqueKind::ApiKey, &wrong.into()), None);
        for garbage in ["", "sk_", "sk_é", "sk_0000"] {
            assert_eq!(OpaqueToken::parse(OpaqueKind::ApiKey, &garbage.to_owned().into()), None);
        }
    }
}
