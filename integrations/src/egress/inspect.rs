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
use x509_cert::{Certificate, der::Decode};

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
        onlooker.seen.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Are issuer and subject of a certificate the same name?
fn is_self_issued(der: &[u8]) -> Option<bool> {
    let certificate = Certificate::from_der(der).ok()?;
    let certificate = certificate.tbs_certificate();
    Some(certificate.issuer() == certificate.subject())
}
