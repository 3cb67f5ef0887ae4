//! A look at the certificate that a server presents, when it is not trusted: is it signed by itself, or by somebody else?
//!
//! The client's own error does not tell. The handshake here always fails, so that nothing is ever sent over it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use url::Url;

use super::Egress;

const PATIENCE: Duration = Duration::from_secs(5);

/// Keeps what it is shown, and trusts nobody.
#[derive(Debug)]
struct Onlooker {
    seen: Mutex<Option<CertificateDer<'static>>>,
    schemes: Vec<SignatureScheme>,
}

impl ServerCertVerifier for Onlooker {
    fn verify_server_cert(
        &self,
        presented: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(presented.clone().into_owned());
        Err(Error::General("only looked at".into()))
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("only looked at".into()))
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("only looked at".into()))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}

impl Egress {
    /// Has the server's certificate signed itself? The address is checked like that of any request. `None`: it could not
    /// be looked at.
    pub async fn is_self_signed(&self, url: &str) -> Option<bool> {
        let url = self.policy().check_url(url).ok()?;
        let certificate = timeout(PATIENCE, self.presented(&url)).await.ok()??;
        is_self_issued(&certificate)
    }

    async fn presented(&self, url: &Url) -> Option<CertificateDer<'static>> {
        let pin = self.inner.lookup.pin(&self.inner.policy, url).await.ok()?;
        let name = ServerName::try_from(url.host_str()?.trim_matches(['[', ']']).to_owned()).ok()?;
        let provider = rustls::crypto::ring::default_provider();
        let schemes = provider.signature_verification_algorithms.supported_schemes();
        let onlooker = Arc::new(Onlooker { seen: Mutex::default(), schemes });
        let config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .ok()?
            .dangerous()
            .with_custom_certificate_verifier(onlooker.clone())
            .with_no_client_auth();
        let stream = TcpStream::connect(pin.addresses()).await.ok()?;
        let failed = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        debug_assert!(failed.is_err(), "the onlooker trusts nobody");
        let seen = onlooker.seen.lock().unwrap_or_else(PoisonError::into_inner).take();
        seen
    }
}

/// Are issuer and subject of a certificate the same name?
///
/// `Certificate ::= SEQUENCE { SEQUENCE { [0] version?, serial, algorithm, issuer, validity, subject, … } … }`
fn is_self_issued(der: &[u8]) -> Option<bool> {
    let (_, certificate, _) = element(der)?;
    let (_, mut rest, _) = element(certificate)?;
    if rest.first() == Some(&0xa0) {
        rest = element(rest)?.2;
    }
    let mut parts = Vec::new();
    for _ in 0..5 {
        let (_, content, after) = element(rest)?;
        parts.push(content);
        rest = after;
    }
    Some(parts[2] == parts[4])
}

/// The first DER element: tag, content, and what follows.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0usize, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, after) = rest.split_at_checked(length)?;
    Some((tag, content, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_is_nothing() {
        for bytes in [&b""[..], b"\x30", b"\x30\x05\x30", b"\x30\x84\xff\xff\xff\xff", b"\x30\x02\x30\x00", &[0x30; 64]]
        {
            assert_eq!(is_self_issued(bytes), None, "{bytes:?}");
        }
    }
}
