//! Client certificates against a real TLS server that demands them.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::{RootCertStore, ServerConfig, server::WebPkiClientVerifier};
use secrecy::SecretString;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::*;

/// Issues certificates for servers and clients alike.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
}

struct Issued {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    fn issue(&self, name: &str, usage: ExtendedKeyUsagePurpose, until: i32) -> Issued {
        let mut params = CertificateParams::new(vec!["127.0.0.1".into()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![usage];
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().unwrap();
        Issued { certificate: params.signed_by(&key, &self.issuer).unwrap(), key }
    }

    fn client(&self, name: &str) -> ClientIdentity {
        self.issue(name, ExtendedKeyUsagePurpose::ClientAuth, 2100).identity(name)
    }

    /// Trusts this authority besides the system's.
    fn egress(&self) -> Egress {
        let policy = EgressPolicy { allow_loopback: true, ..EgressPolicy::default() };
        let root = reqwest::Certificate::from_der(self.certificate.der()).unwrap();
        Egress::with_lookup(policy, Lookup::System, vec![root]).unwrap()
    }
}

impl Issued {
    fn identity(&self, key: &str) -> ClientIdentity {
        let private_key = SecretString::from(self.key.serialize_pem());
        ClientIdentity { key: key.to_owned(), certificate: self.certificate.pem(), private_key }
    }
}

/// Answers with the number of certificates that the client showed, or with a redirect.
struct TlsServer {
    port: u16,
    handshakes: Arc<AtomicUsize>,
}

impl TlsServer {
    async fn start(authority: &Authority, demands: bool, location: Option<String>) -> Self {
        let server = authority.issue("server", ExtendedKeyUsagePurpose::ServerAuth, 2100);
        let mut roots = RootCertStore::empty();
        roots.add(authority.certificate.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let verifier = if demands { verifier } else { verifier.allow_unauthenticated() }.build().unwrap();
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(server.key.serialize_der());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![server.certificate.der().clone()], key.into())
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind((IpAddr::from([127, 0, 0, 1]), 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let handshakes = Arc::new(AtomicUsize::new(0));
        let counter = handshakes.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, counter, location) = (acceptor.clone(), counter.clone(), location.clone());
                tokio::spawn(async move {
                    let mut stream = match acceptor.accept(stream).into_fallible().await {
                        Ok(stream) => stream,
                        Err((_, refused)) => return linger(refused).await,
                    };
                    counter.fetch_add(1, Ordering::SeqCst);
                    let shown = stream.get_ref().1.peer_certificates().map_or(0, <[_]>::len);
                    let head = match &location {
                        Some(location) => format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\n"),
                        None => "HTTP/1.1 200 OK\r\n".to_owned(),
                    };
                    let reply = format!("{head}Content-Length: 1\r\n\r\n{shown}");
                    let mut buffer = [0; 4096];
                    while stream.read(&mut buffer).await.is_ok_and(|n| n > 0) {
                        if stream.write_all(reply.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { port, handshakes }
    }

    fn url(&self) -> String {
        format!("https://127.0.0.1:{}/", self.port)
    }
}

/// Closes after the client has read why: what it sent is taken, so that no reset overtakes the alert.
async fn linger(mut stream: TcpStream) {
    let _ = stream.shutdown().await;
    let mut buffer = [0; 4096];
    while stream.read(&mut buffer).await.is_ok_and(|n| n > 0) {}
}

#[tokio::test]
async fn a_certificate_opens_a_door_that_is_shut_without() {
    let (authority, stranger) = (Authority::new("ours"), Authority::new("another"));
    let server = TlsServer::start(&authority, true, None).await;
    let egress = authority.egress();
    let known = egress.send(OutboundRequest::get(server.url()).identity(authority.client("one"))).await.unwrap();
    assert_eq!((known.status, &known.body[..]), (200, &b"1"[..]));
    for request in [
        OutboundRequest::get(server.url()),
        OutboundRequest::get(server.url()).identity(stranger.client("two")),
        OutboundRequest::get(server.url())
            .identity(authority.issue("old", ExtendedKeyUsagePurpose::ClientAuth, 2021).identity("old")),
    ] {
        let error = egress.send(request).await.unwrap_err();
        let EgressError::Tls { reason, .. } = &error else { panic!("{error:?}") };
        assert!(reason.to_lowercase().contains("certificate") || reason.contains("CA"), "{reason}");
    }
}

#[tokio::test]
async fn identities_share_no_connection_and_one_identity_does() {
    let authority = Authority::new("ours");
    let server = TlsServer::start(&authority, false, None).await;
    let egress = authority.egress();
    let (one, two) = (authority.client("one"), authority.client("two"));
    for (identity, shown, handshakes) in
        [(None, "0", 1), (Some(&one), "1", 2), (Some(&two), "1", 3), (None, "0", 3), (Some(&one), "1", 3)]
    {
        let mut request = OutboundRequest::get(server.url());
        request.identity = identity.cloned();
        let answer = egress.send(request).await.unwrap();
        assert_eq!(&answer.body[..], shown.as_bytes());
        assert_eq!(server.handshakes.load(Ordering::SeqCst), handshakes, "after {identity:?}");
    }
}

#[tokio::test]
async fn a_redirect_does_not_take_the_certificate_to_another_host() {
    let authority = Authority::new("ours");
    let elsewhere = TlsServer::start(&authority, false, None).await;
    let first = TlsServer::start(&authority, true, Some(elsewhere.url())).await;
    let request = OutboundRequest::get(first.url()).header("X-Plain", "1").identity(authority.client("one"));
    let answer = authority.egress().send(request).await.unwrap();
    assert_eq!(&answer.body[..], b"0", "the other host saw the certificate");
    let body = OutboundRequest::new(Method::PUT, first.url()).body("x").identity(authority.client("one"));
    let plain = TlsServer::start(&authority, true, Some("http://127.0.0.1/".into())).await;
    let down = OutboundRequest { url: plain.url(), ..body };
    assert!(matches!(authority.egress().send(down).await, Err(EgressError::RedirectRefused { .. })));
    let http = OutboundRequest::get("http://127.0.0.1:9/").identity(authority.client("one"));
    assert!(matches!(authority.egress().send(http).await, Err(EgressError::InvalidRequest { .. })));
}

#[test]
fn a_pair_is_looked_at_before_it_is_stored() {
    let authority = Authority::new("ours");
    let (one, other) = (authority.client("one"), authority.client("two"));
    let chain = format!("{}{}", one.certificate, authority.certificate.pem());
    let facts = inspect(&chain, &one.private_key).unwrap();
    assert_eq!(facts.subject, "CN=one");
    assert_eq!(facts.not_before.to_rfc3339(), "2020-01-01T00:00:00+00:00");
    assert_eq!(facts.not_after.to_rfc3339(), "2100-01-01T00:00:00+00:00");

    let nothing = SecretString::from("");
    assert_eq!(inspect("", &nothing).unwrap_err(), [IdentityFault::NoCertificate, IdentityFault::BadKey]);
    let torn = chain.replacen("MII", "!!!", 1);
    assert_eq!(inspect(&torn, &one.private_key).unwrap_err(), [IdentityFault::BadCertificate]);
    let empty = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert_eq!(inspect(empty, &one.private_key).unwrap_err(), [IdentityFault::BadCertificate]);
    assert_eq!(inspect(&one.certificate, &other.private_key).unwrap_err(), [IdentityFault::OtherKey]);
    let locked = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    assert_eq!(inspect(&one.certificate, &locked.to_owned().into()).unwrap_err(), [IdentityFault::EncryptedKey]);
    assert!(!format!("{one:?}").contains("BEGIN"), "neither certificate nor key is printed");
}
