//! Access tokens: EdDSA JWTs, fixed algorithm, every claim checked.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    actor::Role,
    ids::{OrganizationId, SessionId, UserId, WorkspaceId},
};
use ed25519_dalek::{Signature, Signer as _, SigningKey, Verifier as _, VerifyingKey};
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header, Validation,
    crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils},
    errors::{Error, ErrorKind},
    signature,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sqlx::{PgPool, Row};

use crate::{Vault, VaultError, cipher, master::MasterKeys};

const ISSUER: &str = "apiq";
const AUDIENCE: &str = "apiq-api";
const TYPE: &str = "at+jwt";
/// Clocks of nodes may differ by this much, seconds.
const LEEWAY: u64 = 30;

/// Who an access token speaks for.
#[derive(Debug, Clone, PartialEq)]
pub struct AccessClaims {
    pub user: UserId,
    pub session: SessionId,
    pub workspace: WorkspaceId,
    pub organization: OrganizationId,
    pub role: Role,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("the access token has expired; refresh it")]
    Expired,
    #[error("the access token is not valid")]
    Invalid,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    iss: String,
    aud: String,
    sub: UserId,
    sid: SessionId,
    ws: WorkspaceId,
    org: OrganizationId,
    role: Role,
    iat: i64,
    exp: i64,
}

pub(crate) struct Signer {
    kid: String,
    encoding: EncodingKey,
    decoding: DecodingKey,
}

impl Signer {
    /// The stored signing key, or a new one.
    pub(crate) async fn load(pool: &PgPool, masters: &MasterKeys) -> Result<Self, VaultError> {
        // The second installation in a process (tests) finds the first.
        let _ = PROVIDER.install_default();
        let find = "select kid, master_key_id, wrapped from vault.signing_keys order by created_at limit 1";
        if sqlx::query(find).fetch_optional(pool).await?.is_none() {
            let seed = cipher::random_key();
            let kid = kid_of(&SigningKey::from_bytes(&seed));
            let master = masters.current();
            sqlx::query(
                "insert into vault.signing_keys (kid, master_key_id, wrapped) select $1, $2, $3
                  where not exists (select from vault.signing_keys)",
            )
            .bind(&kid)
            .bind(master.id())
            .bind(master.wrap(&aad(&kid), &seed[..]).await?)
            .execute(pool)
            .await?;
        }
        let row = sqlx::query(find).fetch_one(pool).await?;
        let kid: String = row.try_get("kid")?;
        let (master, wrapped): (String, Vec<u8>) = (row.try_get("master_key_id")?, row.try_get("wrapped")?);
        let seed = masters.unwrap(&master, &aad(&kid), &wrapped).await?;
        let public = SigningKey::from_bytes(&seed).verifying_key();
        let decoding = DecodingKey::from_ed_der(public.as_bytes());
        Ok(Self { kid, encoding: EncodingKey::from_ed_der(&seed[..]), decoding })
    }
}

/// The header that `issue_access_token` writes: a token with any other field (`crit`, `jwk`, `jku` …) is not ours.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireHeader {
    typ: String,
    alg: String,
    kid: String,
}

impl Signer {
    fn made_header(&self, token: &str) -> bool {
        let part = token.split('.').next().unwrap_or_default();
        let header =
            URL_SAFE_NO_PAD.decode(part).ok().and_then(|bytes| serde_json::from_slice::<WireHeader>(&bytes).ok());
        header.is_some_and(|h| h.typ == TYPE && h.alg == "EdDSA" && h.kid == self.kid)
    }
}

impl Vault {
    /// A token that is good from `now` for `life`.
    pub fn issue_access_token(
        &self,
        claims: &AccessClaims,
        now: DateTime<Utc>,
        life: TimeDelta,
    ) -> Result<String, VaultError> {
        let header =
            Header { typ: Some(TYPE.into()), kid: Some(self.signer.kid.clone()), ..Header::new(Algorithm::EdDSA) };
        let wire = Wire {
            iss: ISSUER.into(),
            aud: AUDIENCE.into(),
            sub: claims.user,
            sid: claims.session,
            ws: claims.workspace,
            org: claims.organization,
            role: claims.role,
            iat: now.timestamp(),
            exp: (now + life).timestamp(),
        };
        jsonwebtoken::encode(&header, &wire, &self.signer.encoding).map_err(|e| VaultError::Encoding(e.to_string()))
    }

    pub fn verify_access_token(&self, token: &str, now: DateTime<Utc>) -> Result<AccessClaims, TokenError> {
        if !self.signer.made_header(token) {
            return Err(TokenError::Invalid);
        }
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["iss", "aud", "sub", "exp"]);
        // Time is compared below with the caller's clock.
        validation.validate_exp = false;
        let wire = jsonwebtoken::decode::<Wire>(token, &self.signer.decoding, &validation)
            .map_err(|_| TokenError::Invalid)?
            .claims;
        let leeway = LEEWAY as i64;
        if wire.iat > now.timestamp() + leeway {
            return Err(TokenError::Invalid);
        }
        if wire.exp <= now.timestamp() {
            return Err(TokenError::Expired);
        }
        Ok(AccessClaims {
            user: wire.sub,
            session: wire.sid,
            workspace: wire.ws,
            organization: wire.org,
            role: wire.role,
        })
    }
}

fn kid_of(key: &SigningKey) -> String {
    hex::encode(&Sha256::digest(key.verifying_key().as_bytes())[..8])
}

pub(crate) fn aad(kid: &str) -> String {
    format!("apiq signing key|{kid}")
}

/// EdDSA on ed25519-dalek and nothing else: no other algorithm can be chosen by a token.
static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |algorithm, key| {
        only_eddsa(algorithm)?;
        let seed = key.as_bytes().try_into().map_err(|_| Error::from(ErrorKind::InvalidEddsaKey))?;
        Ok(Box::new(EdSigner(SigningKey::from_bytes(seed))))
    },
    verifier_factory: |algorithm, key| {
        only_eddsa(algorithm)?;
        let bytes = key.try_get_as_bytes()?.try_into().map_err(|_| Error::from(ErrorKind::InvalidEddsaKey))?;
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| Error::from(ErrorKind::InvalidEddsaKey))?;
        Ok(Box::new(EdVerifier(key)))
    },
    key_utils: KeyUtils::new_unimplemented(),
};

fn only_eddsa(algorithm: &Algorithm) -> Result<(), Error> {
    if *algorithm == Algorithm::EdDSA { Ok(()) } else { Err(ErrorKind::InvalidAlgorithm.into()) }
}

struct EdSigner(SigningKey);

impl signature::Signer<Vec<u8>> for EdSigner {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, signature::Error> {
        Ok(self.0.sign(message).to_bytes().to_vec())
    }
}

impl JwtSigner for EdSigner {
    fn algorithm(&self) -> Algorithm {
        Algorithm::EdDSA
    }
}

struct EdVerifier(VerifyingKey);

impl signature::Verifier<Vec<u8>> for EdVerifier {
    fn verify(&self, message: &[u8], given: &Vec<u8>) -> Result<(), signature::Error> {
        let given = Signature::from_slice(given).map_err(|_| signature::Error::new())?;
        self.0.verify(message, &given).map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for EdVerifier {
    fn algorithm(&self) -> Algorithm {
        Algorithm::EdDSA
    }
}
