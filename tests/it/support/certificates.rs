//! Third parties that speak TLS, with certificates made for the test, good and bad.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// An authority of our own.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// What a server presents.
pub struct Identity {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

fn params(name: &str, hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut params = CertificateParams::new(hosts).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

impl Authority {
    pub fn new(name: &str) -> Authority {
        let mut params = params(name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// For a file of trusted authorities.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    pub fn signs(&self, hosts: &[&str]) -> Identity {
        self.signs_until(hosts, 2100)
    }

    /// A certificate that ends with the beginning of that year.
    pub fn signs_until(&self, hosts: &[&str], year: i32) -> Identity {
        let (mut params, key) = (params("a server", hosts), KeyPair::generate().unwrap());
        (params.not_before, params.not_after) = (date_time_ymd(2001, 1, 1), date_time_ymd(year, 1, 1));
        Identity { certificate: params.signed_by(&key, &self.0).unwrap(), key }
    }
}

/// A certificate that nobody else has signed.
pub fn self_signed(hosts: &[&str]) -> Identity {
    let (params, key) = (params("a server of its own", hosts), KeyPair::generate().unwrap());
    Identity { certificate: params.self_signed(&key).unwrap(), key }
}

/// Answers every request with `{}`; gives the port.
pub async fn serve(identity: Identity) -> u16 {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::try_from(identity.key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![identity.certificate.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // Who does not like the certificate goes away: that is what is tested.
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut heard = [0; 4096];
                let answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
                if stream.read(&mut heard).await.is_ok_and(|bytes| bytes > 0) && stream.write_all(answer).await.is_ok()
                {
                    drop(stream.shutdown().await);
                }
            });
        }
    });
    port
}
