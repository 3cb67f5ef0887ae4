//! The vault against a real Postgres: sealing, erasure, credentials, tokens and what attackers make of them.

#[path = "../../tests/support/postgres.rs"]
mod postgres;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    actor::Role,
    event::LogPosition,
    ids::{CredentialId, OrganizationId, SessionId, UserId, WorkspaceId},
    sealed::Sealed,
};
use ed25519_dalek::{Signer, SigningKey};
use hmac::{Hmac, KeyInit, Mac};
use postgres::Database;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use sqlx::Executor;
use uuid::Uuid;
use vault::{AccessClaims, MasterKey, ReadReceipt, TokenError, Vault, VaultError};

async fn open(database: &Database, master: &SecretString) -> Result<Vault, VaultError> {
    Vault::open(database.pool("apiq_writer").await, MasterKey::from_base64(master).unwrap()).await
}

fn workspace(n: u128) -> WorkspaceId {
    WorkspaceId(Uuid::from_u128(n))
}

#[tokio::test]
async fn sealed_values_open_for_their_own_workspace_and_field_only() {
    let database = Database::fresh().await;
    let vault = open(&database, &MasterKey::generate()).await.unwrap();
    let (here, there) = (workspace(1), workspace(2));
    let sealed = vault.seal(here, "execution.input", &json!({"a": "secret-canary"})).await.unwrap();
    let text = serde_json::to_string(&sealed).unwrap();
    assert!(!text.contains("canary"));
    let back: Sealed<Value> = serde_json::from_str(&text).unwrap();
    assert_eq!(vault.open_sealed(here, "execution.input", &back).await.unwrap(), json!({"a": "secret-canary"}));
    assert!(vault.open_sealed(here, "execution.output", &back).await.is_err());
    vault.seal(there, "execution.input", "x").await.unwrap();
    assert!(vault.open_sealed(there, "execution.input", &back).await.is_err());
    let again = vault.seal(here, "execution.input", &json!({"a": "secret-canary"})).await.unwrap();
    assert_ne!(again.ciphertext, sealed.ciphertext, "equal values must not look equal");
}

#[tokio::test]
async fn destroying_a_subjects_key_erases_its_values() {
    let database = Database::fresh().await;
    let master = MasterKey::generate();
    let vault = open(&database, &master).await.unwrap();
    let sealed = vault.seal_for(workspace(1), "user:1", "user.email", "a@b.test").await.unwrap();
    let mut owner = database.connect().await;
    owner
        .execute("update vault.data_keys set destroyed_at = now(), wrapped = '' where subject = 'user:1'")
        .await
        .unwrap();
    // Another node, which has not opened it before.
    let other = open(&database, &master).await.unwrap();
    let error = other.open_sealed(workspace(1), "user.email", &sealed).await.unwrap_err();
    assert!(matches!(error, VaultError::Erased), "{error}");
    assert!(matches!(other.seal_for(workspace(1), "user:1", "user.email", "x").await, Err(VaultError::Erased)));
}

#[tokio::test]
async fn another_master_key_is_refused_at_the_start() {
    let database = Database::fresh().await;
    let vault = open(&database, &MasterKey::generate()).await.unwrap();
    vault.seal(workspace(1), "f", "x").await.unwrap();
    let error = open(&database, &MasterKey::generate()).await.unwrap_err();
    assert!(matches!(error, VaultError::MasterKeyWrong), "{error}");
    for bad in ["", "short", "AAAA", &"A".repeat(43)] {
        assert!(MasterKey::from_base64(&bad.to_owned().into()).is_err(), "{bad:?}");
    }
}

#[tokio::test]
async fn credentials_are_bound_to_workspace_and_version_and_can_be_destroyed() {
    let database = Database::fresh().await;
    let vault = open(&database, &MasterKey::generate()).await.unwrap();
    let id = CredentialId(Uuid::from_u128(5));
    let value: SecretString = "key-canary".to_owned().into();
    let one = vault.store_credential(workspace(1), id, 0, &value).await.unwrap();
    let two = vault.store_credential(workspace(1), id, 0, &value).await.unwrap();
    assert_eq!((one.version, two.version), (1, 2), "a stored version is never written over");
    assert_eq!(one.value_hash, two.value_hash, "equal values show");
    let at = LogPosition { generation: 1, transaction_id: 1, position: 1 };
    let receipt = |version| ReadReceipt { committed_at: at, credential: id, version };
    let unrecorded = ReadReceipt { committed_at: LogPosition::START, credential: id, version: 1 };
    assert!(matches!(vault.reveal(workspace(1), &unrecorded).await, Err(VaultError::Unrecorded)));
    assert_eq!(vault.reveal(workspace(1), &receipt(2)).await.unwrap().expose_secret(), "key-canary");
    assert!(matches!(vault.reveal(workspace(2), &receipt(1)).await, Err(VaultError::CredentialMissing)));
    assert!(matches!(vault.reveal(workspace(1), &receipt(3)).await, Err(VaultError::CredentialMissing)));
    let mut owner = database.connect().await;
    // A row moved to another version does not open: the version is bound in.
    owner.execute("delete from vault.credential_values where version = 1").await.unwrap();
    owner.execute("update vault.credential_values set version = 1").await.unwrap();
    assert!(matches!(vault.reveal(workspace(1), &receipt(1)).await, Err(VaultError::Tampered)));
    vault.destroy_credential(workspace(1), id).await.unwrap();
    assert!(matches!(vault.reveal(workspace(1), &receipt(1)).await, Err(VaultError::Erased)));
}

#[tokio::test]
async fn passwords_are_verified_without_telling_who_exists() {
    let database = Database::fresh().await;
    let vault = open(&database, &MasterKey::generate()).await.unwrap();
    let password: SecretString = "correct horse battery".to_owned().into();
    let stored = vault.hash_password(&password).await.unwrap();
    assert!(stored.starts_with("argon2id") && !stored.contains("horse"));
    assert!(vault.verify_password(&password, Some(&stored)).await.unwrap());
    assert!(!vault.verify_password(&"wrong".to_owned().into(), Some(&stored)).await.unwrap());
    assert!(!vault.verify_password(&password, None).await.unwrap());
    assert!(!vault.verify_password(&password, Some("damaged")).await.unwrap());
}

fn claims() -> AccessClaims {
    AccessClaims {
        user: UserId(Uuid::from_u128(1)),
        session: SessionId(Uuid::from_u128(2)),
        workspace: workspace(3),
        organization: OrganizationId(Uuid::from_u128(4)),
        role: Role::Member,
    }
}

fn segment(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

fn parts(token: &str) -> (Value, Value, Vec<u8>) {
    let mut parts = token.split('.').map(|p| URL_SAFE_NO_PAD.decode(p).unwrap());
    let json = |bytes: Option<Vec<u8>>| serde_json::from_slice(&bytes.unwrap()).unwrap();
    (json(parts.next()), json(parts.next()), parts.next().unwrap())
}

/// The tokens of RFC 8725's chapter of attacks, and others; none is good.
#[tokio::test]
async fn forged_tokens_are_refused() {
    let database = Database::fresh().await;
    let vault = open(&database, &MasterKey::generate()).await.unwrap();
    let now = DateTime::from_timestamp(1_900_000_000, 0).unwrap();
    let good = vault.issue_access_token(&claims(), now, TimeDelta::minutes(15)).unwrap();
    assert_eq!(vault.verify_access_token(&good, now), Ok(claims()));
    let (header, body, signature) = parts(&good);
    let signed = |header: &Value, body: &Value| {
        format!("{}.{}.{}", segment(header), segment(body), URL_SAFE_NO_PAD.encode(&signature))
    };
    let with = |value: &Value, key: &str, to: Value| {
        let mut changed = value.clone();
        changed[key] = to;
        changed
    };
    let mut forged: Vec<(String, String)> = Vec::new();
    for alg in ["none", "nOnE", "NONE", "HS256", "RS256", "ES256", "PS256", ""] {
        let header = with(&header, "alg", json!(alg));
        forged.push((format!("alg {alg:?} unsigned"), format!("{}.{}.", segment(&header), segment(&body))));
        forged.push((format!("alg {alg:?}"), signed(&header, &body)));
    }
    // HMAC keyed with what is public: the key id and the signature itself.
    for key in [header["kid"].as_str().unwrap().as_bytes(), &signature] {
        let header = with(&header, "alg", json!("HS256"));
        let text = format!("{}.{}", segment(&header), segment(&body));
        let mut mac = <Hmac<sha2::Sha256> as KeyInit>::new_from_slice(key).unwrap();
        mac.update(text.as_bytes());
        forged.push(("hmac".into(), format!("{text}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))));
    }
    // A key of the attacker's own, named in every way a header can.
    let own = SigningKey::from_bytes(&[7; 32]);
    let x = URL_SAFE_NO_PAD.encode(own.verifying_key().as_bytes());
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": x});
    for (name, value) in [
        ("jwk", jwk),
        ("jku", json!("https://evil.test/keys")),
        ("x5u", json!("https://evil.test/cert")),
        ("kid", json!("../../dev/null")),
        ("kid", json!("' or 1=1 --")),
        ("kid", json!(null)),
        ("crit", json!(["exp"])),
        ("typ", json!("JWT")),
        ("typ", json!(null)),
        ("typ", json!("rt+jwt")),
    ] {
        let header = with(&header, name, value.clone());
        let text = format!("{}.{}", segment(&header), segment(&body));
        let by_own = URL_SAFE_NO_PAD.encode(own.sign(text.as_bytes()).to_bytes());
        forged.push((format!("{name} {value}"), format!("{text}.{by_own}")));
        forged.push((format!("{name} {value}, old signature"), signed(&header, &body)));
    }
    for (name, value) in [("role", json!("owner")), ("ws", json!(workspace(9))), ("exp", json!(9_999_999_999_i64))] {
        forged.push((format!("changed {name}"), signed(&header, &with(&body, name, value))));
    }
    for text in ["", ".", "..", "a.b.c", "eyJ9", &good[..good.len() - 2], &format!("{good}x"), &format!("{good}.x")] {
        forged.push((format!("{text:?}"), text.to_owned()));
    }
    assert!(forged.len() >= 25);
    for (what, token) in forged {
        assert_eq!(vault.verify_access_token(&token, now), Err(TokenError::Invalid), "{what}");
    }
    let later: DateTime<Utc> = now + TimeDelta::minutes(16);
    assert_eq!(vault.verify_access_token(&good, later), Err(TokenError::Expired));
    assert_eq!(vault.verify_access_token(&good, now - TimeDelta::minutes(5)), Err(TokenError::Invalid));
}
