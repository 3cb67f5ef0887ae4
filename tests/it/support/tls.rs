//! A party over TLS that lets nobody in without a certificate of its own authority.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use rustls::{RootCertStore, ServerConfig, pki_types::PrivatePkcs8KeyDer, server::WebPkiClientVerifier};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// Issues certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
}

/// PEM texts.
pub struct Pair {
    pub certificate: String,
    pub private_key: String,
}

impl Pair {
    /// As `authConfig` or `credentials`.
    pub fn json(&self) -> Value {
        json!({ "certificate": self.certificate, "privateKey": self.private_key })
    }
}

impl Authority {
    pub fn new() -> Authority {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Authority { issuer: Issuer::new(params, key), certificate }
    }

    /// For `SSL_CERT_FILE`.
    pub fn pem(&self) -> String {
        self.certificate.pem()
    }

    pub fn client(&self, name: &str, until: (i32, u8, u8)) -> Pair {
        let (certificate, key) = self.issue(name, ExtendedKeyUsagePurpose::ClientAuth, until);
        Pair { certificate: certificate.pem(), private_key: key.serialize_pem() }
    }

    /// Of a server at 127.0.0.1.
    pub fn server(&self) -> Pair {
        let (certificate, key) = self.issue("server", ExtendedKeyUsagePurpose::ServerAuth, (2100, 1, 1));
        Pair { certificate: certificate.pem(), private_key: key.serialize_pem() }
    }

    fn issue(
        &self,
        name: &str,
        usage: ExtendedKeyUsagePurpose,
        (year, month, day): (i32, u8, u8),
    ) -> (rcgen::Certificate, KeyPair) {
        let mut params = CertificateParams::new(vec!["127.0.0.1".into()]).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![usage];
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(year, month, day);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }
}

/// Answers every request with `{"items": []}` and remembers whose certificate was shown.
pub struct TlsStub {
    address: SocketAddr,
    shown: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl TlsStub {
    pub async fn start(authority: &Authority) -> TlsStub {
        let acceptor = acceptor(authority);
        let listener = TcpListener::bind((IpAddr::from([127, 0, 0, 1]), 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shown = Arc::<Mutex<Vec<Vec<u8>>>>::default();
        let book = shown.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, book) = (acceptor.clone(), book.clone());
                tokio::spawn(async move {
                    let mut stream = match acceptor.accept(stream).into_fallible().await {
                        Ok(stream) => stream,
                        Err((_, refused)) => return linger(refused).await,
                    };
                    let certificate = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
                    let body = r#"{"items":[]}"#;
                    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length";
                    let reply = format!("{head}: {}\r\n\r\n{body}", body.len());
                    let mut buffer = [0; 8192];
                    while stream.read(&mut buffer).await.is_ok_and(|n| n > 0) {
                        book.lock().unwrap().push(certificate.clone());
                        if stream.write_all(reply.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        TlsStub { address, shown }
    }

    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// The client's certificate of each request, DER.
    pub fn shown(&self) -> Vec<Vec<u8>> {
        self.shown.lock().unwrap().clone()
    }
}

/// Closes after the client has read why: what it sent is taken, so that no reset overtakes the alert.
async fn linger(mut stream: TcpStream) {
    let _ = stream.shutdown().await;
    let mut buffer = [0; 4096];
    while stream.read(&mut buffer).await.is_ok_and(|n| n > 0) {}
}

fn acceptor(authority: &Authority) -> TlsAcceptor {
    let (certificate, key) = authority.issue("server", ExtendedKeyUsagePurpose::ServerAuth, (2100, 1, 1));
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate.der().clone()], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}
