//! What can go wrong with an outgoing request, in terms a caller can act on.
//!
//! No text here carries a query string, a header value, credentials or an address that a name resolved to: errors
//! travel into events, logs and answers.

use std::error::Error as StdError;
use std::time::Duration;

/// What is wrong with a TLS connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsFault {
    Expired,
    NotYetValid,
    /// The certificate is another name's.
    WrongHost,
    /// Nobody whom this machine trusts has signed it.
    UnknownIssuer,
    Revoked,
    /// The server speaks something else on this port.
    NotTls,
    /// The server does not accept our certificate, or demands one.
    ClientCertificate,
    /// The server does not agree to a version or cipher.
    Handshake,
    Other,
}

/// Why an outgoing request gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EgressError {
    /// The URL (of the request, or in a redirect's `Location`) cannot be called at all.
    #[error("the URL is not valid: {reason}")]
    InvalidUrl { reason: String },
    /// A header or the method cannot be sent. Names every wrong one.
    #[error("the request is not valid: {reason}")]
    InvalidRequest { reason: String },
    #[error("only http and https URLs may be called, not `{scheme}`")]
    BlockedScheme { scheme: String },
    /// The host is, or resolves to, an address that the policy closes. `host` is as it was written in the URL.
    #[error("`{host}` may not be called: its address is closed to outgoing requests")]
    BlockedAddress { host: String },
    /// The host and port are one of the operator's own listeners.
    #[error("`{host}` may not be called on port {port}: it is closed to outgoing requests")]
    BlockedPort { host: String, port: u16 },
    /// The server answered with a redirect that would weaken the request or hand its credentials on.
    #[error("the redirect to `{host}` was not followed: {reason}")]
    RedirectRefused { host: String, reason: &'static str },
    /// The caller has said which hosts may be called, and this one is not among them.
    #[error("`{host}` is not called: nobody has approved it")]
    NotApproved { host: String },
    #[error("the name `{host}` could not be resolved")]
    Dns { host: String },
    #[error("no connection to `{host}`: {reason}")]
    Connect { host: String, reason: String },
    #[error("no secure connection to `{host}`: {reason}")]
    Tls { host: String, reason: String, fault: TlsFault },
    /// `sent` is false only when it is certain that no byte of the request had left.
    #[error("no answer from `{host}` within {} ms", after.as_millis())]
    Timeout { host: String, after: Duration, sent: bool },
    /// The connection broke after the request had begun to leave.
    #[error("the connection to `{host}` broke before the answer was complete: {reason}")]
    Interrupted { host: String, reason: String },
    #[error("more than {limit} redirects")]
    TooManyRedirects { limit: usize },
    /// `limit` in bytes, counted after decompression.
    #[error("the answer is larger than {limit} bytes")]
    ResponseTooLarge { limit: u64 },
    /// The server answered with something that is not HTTP, or with a body it encoded wrongly.
    #[error("the answer of `{host}` is not valid HTTP: {reason}")]
    Protocol { host: String, reason: String },
    /// Too many requests of this node are under way to the host, and this one's turn did not come.
    #[error("`{host}` is busy with other requests: no turn within {} ms", waited.as_millis())]
    Busy { host: String, waited: Duration },
    /// The host failed too often lately: it is left alone for a while.
    #[error("`{host}` failed too often: it is not called for another {} s", retry_in.as_secs() + 1)]
    BreakerOpen { host: String, retry_in: Duration },
    /// The API said that nothing is left of its limit, for longer than this request can wait.
    #[error("nothing is left of the limit that `{host}` sets: it is not called for another {} s", retry_in.as_secs() + 1)]
    HeldBack { host: String, retry_in: Duration },
    /// The client itself could not be built (no root certificates, for example). Only from `Egress::new`.
    #[error("the HTTP client could not be started: {reason}")]
    Client { reason: String },
}

impl EgressError {
    /// True when the request may have reached a server whose answer is not known in full, so that repeating a call
    /// that is not idempotent could apply it twice.
    ///
    /// False for what is refused before the first byte leaves, and for a redirect that was not followed: there the
    /// server's answer is known (it was the redirect), and trying again would give the same refusal.
    pub fn is_outcome_unknown(&self) -> bool {
        match self {
            Self::Timeout { sent, .. } => *sent,
            Self::Interrupted { .. } | Self::Protocol { .. } => true,
            Self::TooManyRedirects { .. } | Self::ResponseTooLarge { .. } => true,
            Self::InvalidUrl { .. } | Self::InvalidRequest { .. } | Self::BlockedScheme { .. } => false,
            Self::BlockedAddress { .. } | Self::BlockedPort { .. } | Self::RedirectRefused { .. } => false,
            Self::NotApproved { .. } => false,
            Self::Dns { .. } | Self::Connect { .. } | Self::Tls { .. } | Self::Client { .. } => false,
            Self::Busy { .. } | Self::BreakerOpen { .. } | Self::HeldBack { .. } => false,
        }
    }

    /// True when the same request may succeed later without anybody changing anything. Says nothing about whether it
    /// is safe to repeat: see [`Self::is_outcome_unknown`].
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Dns { .. }
                | Self::Connect { .. }
                | Self::Tls { .. }
                | Self::Timeout { .. }
                | Self::Interrupted { .. }
                | Self::Protocol { .. }
                | Self::Busy { .. }
                | Self::BreakerOpen { .. }
                | Self::HeldBack { .. }
        )
    }

    /// When it may be tried again, where that is known.
    pub fn retry_in(&self) -> Option<Duration> {
        match self {
            Self::BreakerOpen { retry_in, .. } | Self::HeldBack { retry_in, .. } => Some(*retry_in),
            _ => None,
        }
    }

    /// False for what was refused or held back here, before anybody else had to do with it.
    pub fn was_tried(&self) -> bool {
        !matches!(
            self,
            Self::InvalidUrl { .. }
                | Self::InvalidRequest { .. }
                | Self::BlockedScheme { .. }
                | Self::BlockedAddress { .. }
                | Self::BlockedPort { .. }
                | Self::NotApproved { .. }
                | Self::Busy { .. }
                | Self::BreakerOpen { .. }
                | Self::HeldBack { .. }
                | Self::Client { .. }
        )
    }

    /// True when the host showed itself unwell: what a circuit breaker counts.
    pub(super) fn is_hosts_fault(&self) -> bool {
        self.is_transient() && self.was_tried()
    }

    /// The same failure on a redirect's target: the first server has had the request already, so what would be a
    /// clean "nothing was sent" becomes an interrupted exchange.
    pub(super) fn after_redirect(self) -> Self {
        match self {
            Self::Dns { host } => Self::Interrupted { host, reason: "the redirect's name did not resolve".into() },
            Self::Connect { host, reason } | Self::Tls { host, reason, .. } => Self::Interrupted { host, reason },
            Self::Timeout { host, after, .. } => Self::Timeout { host, after, sent: true },
            other => other,
        }
    }

    /// Sorts a failure of the HTTP client. `host` as written in the URL, `after` the request's whole time limit.
    pub(super) fn from_client(error: &reqwest::Error, host: &str, after: Duration) -> Self {
        let host = host.to_owned();
        if let Some(reason) = refused_certificate(error) {
            return Self::Tls { host, reason, fault: TlsFault::ClientCertificate };
        }
        if error.is_connect() {
            // The connector failed: TCP, TLS and the client's connect timeout all end here, before any byte of HTTP.
            if error.is_timeout() {
                return Self::Timeout { host, after, sent: false };
            }
            if let Some(tls) = find::<rustls::Error>(error) {
                return Self::Tls { host, reason: tls.to_string(), fault: TlsFault::of(tls) };
            }
            return Self::Connect { host, reason: connect_reason(error).to_owned() };
        }
        if error.is_timeout() {
            return Self::Timeout { host, after, sent: true };
        }
        if error.is_builder() {
            return Self::InvalidRequest { reason: "it cannot be expressed in HTTP".into() };
        }
        // The transport first: a body that was cut short is reported as one that could not be decoded, too.
        match find::<hyper::Error>(error) {
            Some(hyper) if hyper.is_parse() => Self::Protocol { host, reason: hyper.to_string() },
            Some(hyper) => Self::Interrupted { host, reason: hyper.to_string() },
            None if error.is_decode() => {
                Self::Protocol { host, reason: "its body is not in the encoding it names".into() }
            }
            None => Self::Interrupted { host, reason: "the exchange was cut short".into() },
        }
    }
}

impl TlsFault {
    fn of(error: &rustls::Error) -> Self {
        use rustls::CertificateError::*;
        match error {
            rustls::Error::InvalidCertificate(certificate) => match certificate {
                Expired | ExpiredContext { .. } => Self::Expired,
                NotValidYet | NotValidYetContext { .. } => Self::NotYetValid,
                NotValidForName | NotValidForNameContext { .. } => Self::WrongHost,
                Revoked => Self::Revoked,
                UnknownIssuer => Self::UnknownIssuer,
                // A certificate that signed itself as an authority is one that nobody else has signed.
                Other(other) if other.to_string().contains("CaUsedAsEndEntity") => Self::UnknownIssuer,
                _ => Self::Other,
            },
            rustls::Error::InvalidMessage(_) => Self::NotTls,
            rustls::Error::AlertReceived(_) | rustls::Error::PeerIncompatible(_) => Self::Handshake,
            _ => Self::Other,
        }
    }
}

/// The server does not take the client's certificate, or demands one. In TLS 1.3 that comes after the handshake, when
/// the request is on its way: such a server has read nothing of it.
fn refused_certificate(error: &reqwest::Error) -> Option<String> {
    use rustls::AlertDescription as Alert;
    let rustls::Error::AlertReceived(alert) = find::<rustls::Error>(error)? else { return None };
    let words = match alert {
        Alert::CertificateRequired | Alert::NoCertificate => "the server demands a client certificate",
        Alert::CertificateExpired => "the server says that the client certificate has expired",
        Alert::CertificateRevoked => "the server says that the client certificate is revoked",
        Alert::UnknownCA => "the server does not know the issuer of the client certificate",
        // The last one: its signature is not of the issuer it names.
        Alert::BadCertificate
        | Alert::UnsupportedCertificate
        | Alert::CertificateUnknown
        | Alert::AccessDenied
        | Alert::DecryptError => "the server does not accept the client certificate",
        _ => return None,
    };
    Some(words.to_owned())
}

/// A word for why TCP did not connect; the system's own text would name the address.
fn connect_reason(error: &reqwest::Error) -> &'static str {
    use std::io::ErrorKind;
    match find::<std::io::Error>(error).map(std::io::Error::kind) {
        Some(ErrorKind::ConnectionRefused) => "connection refused",
        Some(ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable) => "unreachable",
        Some(ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::UnexpectedEof) => {
            "connection closed by the server"
        }
        _ => "connection failed",
    }
}

/// The first error of type `T` in the chain. `io::Error` hides what it wraps from `source()`, so it is opened.
fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut current = Some(error);
    while let Some(error) = current {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        current = match wrapped {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}
