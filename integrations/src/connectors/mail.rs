//! The conversation with an SMTP server, over a stream to an address that the egress guard has checked.
//!
//! What was handed over and what was not is kept apart: before the message's last line nothing can have been sent, and
//! after it, without an answer, nobody knows.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use domain::call::CallFacts;
use lettre::{
    address::Envelope,
    transport::smtp::{
        self,
        authentication::{Credentials, Mechanism},
        client::{AsyncSmtpConnection, AsyncTokioStream},
        commands::{Auth, Data, Mail as MailFrom, Rcpt},
        extension::{ClientId, Extension, MailBodyParameter, MailParameter},
        response::Response,
    },
};
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, json};
use tokio::{net::TcpStream, time::timeout_at};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::outcome::{Answer, Failed, Ran, Refusal, Refused};
use super::wire::{Bounded, Line, ask_for_tls};
use crate::egress::{Egress, EgressError, Scope, TlsFault};

/// Our name at the server.
const HELLO: &str = "apiq.invalid";
/// How long a goodbye may take. Nobody waits for it.
const GOODBYE: Duration = Duration::from_secs(1);
/// Questions of a server at a login.
const CHALLENGES: usize = 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encryption {
    None,
    Starttls,
    Implicit,
}

/// A message and the server that takes it. Without an envelope there is only the login: a test.
pub struct Mail {
    pub host: String,
    pub port: u16,
    pub encryption: Encryption,
    pub login: Option<(String, SecretString)>,
    pub envelope: Option<Envelope>,
    pub bytes: Vec<u8>,
    pub message_id: String,
}

/// Where a conversation ended.
pub(super) enum Broken {
    Tls(String),
    Smtp(smtp::Error),
    /// The server's no, by its code.
    Refused(u16),
    /// It ended in the middle.
    Off,
    /// Not what we want to talk to.
    Unfit(&'static str),
}

impl From<smtp::Error> for Broken {
    fn from(error: smtp::Error) -> Self {
        Broken::Smtp(error)
    }
}

impl Mail {
    /// `origins`: the only ones that may be called. A mail server has none of its own: its host must be among theirs.
    pub(super) async fn send(
        self,
        egress: &Egress,
        scope: Scope,
        timeout: Duration,
        origins: Option<&[String]>,
    ) -> Ran {
        let began = Instant::now();
        if origins.is_some_and(|origins| !self.is_approved(egress, origins)) {
            let error = EgressError::NotApproved { host: self.host.clone() };
            return Ran { result: Err(Failed::Egress(error)), call: Some(self.facts(None, began, 0)) };
        }
        let deadline = tokio::time::Instant::now() + timeout;
        let dialled = match egress.dial(&self.host, self.port, scope, timeout).await {
            Ok(dialled) => dialled,
            Err(error) => {
                let call = self.facts(None, began, u32::from(error.was_tried()));
                return Ran { result: Err(Failed::Egress(error)), call: Some(call) };
            }
        };
        let (mut server, mut handed_over) = (None, false);
        let talk = self.talk(dialled.stream, &mut server, &mut handed_over);
        let talked = timeout_at(deadline, talk).await;
        let result = match talked {
            Err(_) => {
                let sent = handed_over;
                Err(Failed::Egress(EgressError::Timeout { host: self.host.clone(), after: timeout, sent }))
            }
            Ok(Err(broken)) => Err(self.failed(broken, handed_over)),
            Ok(Ok(response)) => Ok(self.answer(&response)),
        };
        dialled.hold.ended(match &result {
            Err(Failed::Egress(error)) => Some(error),
            _ => None,
        });
        let status = match &result {
            Ok(answer) => answer.status,
            Err(Failed::Refused(refused)) => refused.answer.status,
            Err(_) => None,
        };
        let call = Some(self.facts(status, began, 1));
        // The verdict is known: how the goodbye goes is nobody's matter. Who broke off gets none.
        if let (Some(mut server), Ok(_) | Err(Failed::Refused(_))) = (server, &result) {
            tokio::spawn(async move { tokio::time::timeout(GOODBYE, server.quit()).await });
        }
        Ran { call, result }
    }

    /// `talking` is the server, once it is one; `handed_over` turns true just before the message's last line leaves.
    async fn talk(
        &self,
        stream: TcpStream,
        talking: &mut Option<AsyncSmtpConnection>,
        handed_over: &mut bool,
    ) -> Result<Option<Response>, Broken> {
        let server = talking.insert(self.connect(stream).await?);
        if let Some((user, password)) = &self.login {
            log_in(server, Credentials::new(user.clone(), password.expose_secret().to_owned())).await?;
        }
        let Some(envelope) = &self.envelope else { return Ok(None) };
        let offers = |extension| server.server_info().supports_feature(extension);
        let mut options = Vec::new();
        let mut addresses = envelope.from().into_iter().chain(envelope.to());
        if addresses.any(|address| !AsRef::<str>::as_ref(address).is_ascii()) {
            if !offers(Extension::SmtpUtfEight) {
                return Err(Broken::Unfit("the server takes ASCII addresses only"));
            }
            options.push(MailParameter::SmtpUtfEight);
        }
        if !self.bytes.is_ascii() {
            if !offers(Extension::EightBitMime) {
                return Err(Broken::Unfit("the server takes ASCII messages only"));
            }
            options.push(MailParameter::Body(MailBodyParameter::EightBitMime));
        }
        server.command(MailFrom::new(envelope.from().cloned(), options)).await?;
        for recipient in envelope.to() {
            server.command(Rcpt::new(recipient.clone(), vec![])).await?;
        }
        server.command(Data).await?;
        *handed_over = true;
        Ok(Some(server.message(&self.bytes).await?))
    }

    /// Up to the answer to EHLO, encrypted where it should be.
    async fn connect(&self, stream: TcpStream) -> Result<AsyncSmtpConnection, Broken> {
        let connected = Arc::<AtomicBool>::default();
        let stream = Bounded::new(stream);
        let peer = stream.peer().map_err(|_| Broken::Off)?;
        let line: Box<dyn AsyncTokioStream> = match self.encryption {
            Encryption::None => Box::new(Line::new(stream, peer, false, connected.clone())),
            Encryption::Implicit => Box::new(Line::new(self.handshake(stream).await?, peer, false, connected.clone())),
            // Not by lettre: it keeps what was read too early, and takes it for an answer over TLS.
            Encryption::Starttls => {
                let stream = ask_for_tls(stream, HELLO).await?;
                Box::new(Line::new(self.handshake(stream).await?, peer, true, connected.clone()))
            }
        };
        let hello = ClientId::Domain(HELLO.to_owned());
        let server = AsyncSmtpConnection::connect_with_transport(line, &hello).await?;
        connected.store(true, Ordering::Relaxed);
        Ok(server)
    }

    async fn handshake(&self, stream: Bounded) -> Result<TlsStream<Bounded>, Broken> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.map_err(|error| Broken::Tls(error.to_string()))?;
        let config = config.with_root_certificates(roots).with_no_client_auth();
        let name = ServerName::try_from(self.bare_host().to_owned()).map_err(|error| Broken::Tls(error.to_string()))?;
        let secured = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        secured.map_err(|error| Broken::Tls(error.to_string()))
    }

    /// Hosts are compared as the parser reads them that decides where to connect.
    fn is_approved(&self, egress: &Egress, origins: &[String]) -> bool {
        let Ok(own) = egress.check_host(&self.host, self.port) else { return false };
        let same = |origin: &String| url::Url::parse(origin).is_ok_and(|origin| origin.host() == own.host());
        origins.iter().any(same)
    }

    fn bare_host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    fn failed(&self, broken: Broken, handed_over: bool) -> Failed {
        let host = self.host.clone();
        let error = match broken {
            Broken::Tls(reason) => EgressError::Tls { host, reason, fault: TlsFault::Other },
            Broken::Unfit(why) => return unfit(format!("{host}: {why}.")),
            Broken::Refused(code) => return refused(code),
            Broken::Off => EgressError::Connect { host, reason: BROKE_OFF.into() },
            Broken::Smtp(error) => match error.status() {
                Some(code) => return refused(u16::from(code)),
                None if handed_over => {
                    let reason = "the mail server took the message and did not say what became of it".to_owned();
                    EgressError::Interrupted { host, reason }
                }
                None if is_tls(&error) => EgressError::Tls { host, reason: source(&error), fault: TlsFault::Other },
                None if error.is_client() => return unfit(format!("{host}: {UNKNOWN_LOGIN}.")),
                None => EgressError::Connect { host, reason: BROKE_OFF.into() },
            },
        };
        Failed::Egress(error)
    }

    fn answer(&self, response: &Option<Response>) -> Answer {
        let status = response.as_ref().map_or(250, |response| u16::from(response.code()));
        let accepted: Vec<String> =
            self.envelope.iter().flat_map(|envelope| envelope.to()).map(ToString::to_string).collect();
        let words = response.as_ref().and_then(|response| response.first_line().map(str::to_owned)).unwrap_or_default();
        let output = json!({ "messageId": self.message_id, "response": words, "accepted": accepted });
        Answer { output, status: Some(status), headers: Map::new() }
    }

    fn facts(&self, status: Option<u16>, began: Instant, attempts: u32) -> CallFacts {
        CallFacts {
            connection_id: None,
            method: "SMTP".to_owned(),
            host: format!("{}:{}", self.host, self.port),
            path: String::new(),
            status,
            duration_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            request_bytes: self.bytes.len() as u64,
            response_bytes: 0,
            attempts,
            redirects: 0,
            rate_limit: None,
        }
    }
}

const BROKE_OFF: &str = "the conversation broke before the message was sent";
const UNKNOWN_LOGIN: &str = "the server offers no way to log in that is known here (PLAIN, LOGIN)";

/// Not by lettre's own `auth`: after a refusal that says goodbye, and waits for the answer.
async fn log_in(server: &mut AsyncSmtpConnection, credentials: Credentials) -> Result<(), Broken> {
    let known = server.server_info().get_auth_mechanism(&[Mechanism::Plain, Mechanism::Login]);
    let mechanism = known.ok_or(Broken::Unfit(UNKNOWN_LOGIN))?;
    let mut response = server.command(Auth::new(mechanism, credentials.clone(), None)?).await?;
    for _ in 0..CHALLENGES {
        if !response.has_code(334) {
            return Ok(());
        }
        response = server.command(Auth::new_from_response(mechanism, credentials.clone(), &response)?).await?;
    }
    Err(Broken::Unfit("the server asks for the login without end"))
}

fn unfit(message: String) -> Failed {
    no(Refusal::new("SMTP_UNFIT", message, 400), None)
}

fn refused(code: u16) -> Failed {
    // Later, says a 4xx, and nothing was done; never, says a 5xx.
    let like = if code < 500 { 503 } else { 400 };
    let hint = match code {
        535 | 534 | 530 => ": the login is not accepted. Store the right user name and password",
        421 | 450..=452 => ": not now",
        550 | 551 | 553 => ": a sender or recipient is not accepted",
        552 => ": the message is too large",
        _ => "",
    };
    no(Refusal::new(format!("SMTP_{code}"), format!("The mail server answered {code}{hint}."), like), Some(code))
}

fn no(refusal: Refusal, status: Option<u16>) -> Failed {
    let answer = Answer { output: serde_json::Value::Null, status, headers: Map::new() };
    Failed::Refused(Refused { refusal, answer, retry_after: None })
}

/// An alert of the server comes as a fault of the connection.
fn is_tls(error: &smtp::Error) -> bool {
    let mut current: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(error);
    let mut found = error.is_tls();
    while let Some(inner) = current {
        let wrapped = inner.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        found |= inner.is::<rustls::Error>() || wrapped.is_some_and(|inner| inner.is::<rustls::Error>());
        current = inner.source();
    }
    found
}

fn source(error: &smtp::Error) -> String {
    std::error::Error::source(error).map_or_else(|| "the handshake failed".to_owned(), ToString::to_string)
}
