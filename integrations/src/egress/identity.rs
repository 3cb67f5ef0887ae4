//! Client certificates (mTLS): looked at when they are stored, and shown only to the host they were given for.

use std::{fmt, time::Duration};

use chrono::{DateTime, Utc};
use moka::sync::Cache;
use rustls::{
    InconsistentKeys,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use secrecy::{ExposeSecret, SecretString};
use x509_cert::{Certificate, der::Decode, time::Time};

use super::error::EgressError;

/// Clients that are kept, one for each identity: those unused longest go first.
const KEPT: u64 = 64;
const IDLE: Duration = Duration::from_secs(600);

/// Certificate chain and key with which a request authenticates itself in the TLS handshake.
#[derive(Clone)]
pub struct ClientIdentity {
    /// Names these very texts (credential and version): connections are shared under it.
    pub key: String,
    /// PEM: the client's certificate first.
    pub certificate: String,
    /// PEM.
    pub private_key: SecretString,
}

impl fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientIdentity").field("key", &self.key).finish_non_exhaustive()
    }
}

/// What a certificate says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityFacts {
    pub subject: String,
    pub not_before: DateTime<Utc>,
    /// The earliest end in the chain: from then on servers refuse it.
    pub not_after: DateTime<Utc>,
}

/// A fault of a pair of PEM texts; never holds a part of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdentityFault {
    #[error("holds no certificate; PEM begins with -----BEGIN CERTIFICATE-----")]
    NoCertificate,
    #[error("cannot be read as certificates in PEM form")]
    BadCertificate,
    #[error("is encrypted; give the key without a passphrase")]
    EncryptedKey,
    #[error("holds no private key in PEM form (PKCS#8, PKCS#1 or SEC1)")]
    BadKey,
    #[error("is of a kind that TLS cannot use here")]
    UnusableKey,
    #[error("is not the key of the certificate")]
    OtherKey,
}

impl IdentityFault {
    pub fn is_of_key(self) -> bool {
        !matches!(self, Self::NoCertificate | Self::BadCertificate)
    }
}

/// Whether the texts are a certificate chain and its key; every fault at once.
pub fn inspect(certificate: &str, private_key: &SecretString) -> Result<IdentityFacts, Vec<IdentityFault>> {
    let (chain, key) = (chain(certificate), key(private_key));
    let faults: Vec<_> = chain.as_ref().err().into_iter().chain(key.as_ref().err()).copied().collect();
    let (Ok(chain), Ok(key)) = (chain, key) else { return Err(faults) };
    let facts = facts(&chain).map_err(|fault| vec![fault])?;
    match CertifiedKey::from_der(chain, key, &rustls::crypto::ring::default_provider()) {
        Ok(_) => Ok(facts),
        Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => Err(vec![IdentityFault::OtherKey]),
        Err(_) => Err(vec![IdentityFault::UnusableKey]),
    }
}

fn chain(pem: &str) -> Result<Vec<CertificateDer<'static>>, IdentityFault> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match chain {
        Ok(chain) if chain.is_empty() => Err(IdentityFault::NoCertificate),
        Ok(chain) => Ok(chain),
        Err(_) => Err(IdentityFault::BadCertificate),
    }
}

fn key(pem: &SecretString) -> Result<PrivateKeyDer<'static>, IdentityFault> {
    let pem = pem.expose_secret();
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| {
        let encrypted = pem.contains("ENCRYPTED PRIVATE KEY") || pem.contains("Proc-Type: 4,ENCRYPTED");
        if encrypted { IdentityFault::EncryptedKey } else { IdentityFault::BadKey }
    })
}

fn facts(chain: &[CertificateDer<'_>]) -> Result<IdentityFacts, IdentityFault> {
    let parsed: Result<Vec<_>, _> = chain.iter().map(|der| Certificate::from_der(der)).collect();
    let parsed = parsed.map_err(|_| IdentityFault::BadCertificate)?;
    let first = parsed.first().ok_or(IdentityFault::NoCertificate)?.tbs_certificate();
    let ends = parsed.iter().filter_map(|certificate| instant(&certificate.tbs_certificate().validity().not_after));
    Ok(IdentityFacts {
        subject: first.subject().to_string(),
        not_before: instant(&first.validity().not_before).ok_or(IdentityFault::BadCertificate)?,
        not_after: ends.min().ok_or(IdentityFault::BadCertificate)?,
    })
}

fn instant(time: &Time) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(i64::try_from(time.to_unix_duration().as_secs()).ok()?, 0)
}

/// One HTTP client for each identity: a connection that was opened with one is never used for another.
pub(super) struct Clients(Cache<String, reqwest::Client>);

impl Clients {
    pub(super) fn new() -> Self {
        Self(Cache::builder().max_capacity(KEPT).time_to_idle(IDLE).build())
    }

    /// The identity's client, made by `build` the first time.
    pub(super) fn of(
        &self,
        identity: &ClientIdentity,
        build: impl FnOnce(reqwest::Identity) -> Result<reqwest::Client, EgressError>,
    ) -> Result<reqwest::Client, EgressError> {
        let made = self.0.try_get_with_by_ref(&identity.key, || build(identity.for_client()?));
        made.map_err(|error: std::sync::Arc<EgressError>| (*error).clone())
    }
}

impl ClientIdentity {
    fn for_client(&self) -> Result<reqwest::Identity, EgressError> {
        let both = SecretString::from(format!("{}\n{}", self.private_key.expose_secret(), self.certificate));
        let identity = reqwest::Identity::from_pem(both.expose_secret().as_bytes());
        identity.map_err(|_| EgressError::InvalidRequest { reason: "its client certificate cannot be used".into() })
    }
}
