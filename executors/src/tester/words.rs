//! What a test saw, in words a person can act on; with one word for programs, and what it says of the connection's health.

use chrono::{DateTime, TimeDelta, Utc};
use commands::ports::TestTarget;
use domain::connection::health::{Change, Health};
use integrations::egress::{EgressError, OutboundResponse, TlsFault};
use url::Url;

/// Clocks may differ by this much.
const CLOCKS: TimeDelta = TimeDelta::seconds(60);

pub(super) struct Verdict {
    pub ok: bool,
    pub words: String,
    pub problem: Option<&'static str>,
    pub health: Option<Change>,
}

impl Verdict {
    fn good(words: impl Into<String>) -> Self {
        let health = Some(Change { to: Health::Healthy, reason: "a test went well".into() });
        Self { ok: true, words: words.into(), problem: None, health }
    }

    fn bad(problem: &'static str, words: impl Into<String>) -> Self {
        Self { ok: false, words: words.into(), problem: Some(problem), health: None }
    }

    /// A good one all the same, with something to know.
    fn but(mut self, problem: &'static str) -> Self {
        self.problem = Some(problem);
        self
    }

    fn makes(mut self, to: Health, reason: impl Into<String>) -> Self {
        self.health = Some(Change { to, reason: format!("a test: {}", reason.into()) });
        self
    }
}

/// `missing`: so many operations answered 404, this one included.
pub(super) fn of_answer(
    target: &TestTarget,
    with_credential: bool,
    base: &str,
    missing: usize,
    answer: &OutboundResponse,
) -> Verdict {
    if let Some(login) = login(base, answer) {
        let words = format!(
            "it leads to a login page at {login}: the credential was not looked at, or the base URL is that of the website and not of the API."
        );
        return Verdict::bad("login", words);
    }
    match answer.status {
        200..=399 if is_html(answer) && target.spec.is_some() => Verdict::bad(
            "html",
            "a web page instead of data: is the base URL that of the API, and not of its website or documentation?",
        ),
        200..=399 if is_html(answer) => {
            Verdict::good("the server works. It is a web page, not data: give steps the path of an endpoint.")
                .but("html")
        }
        200..=399 => Verdict::good("the API works."),
        400 if speaks_tls(base, answer) => Verdict::bad("tls_wanted", tls_wanted(base)),
        401 if with_credential => Verdict::bad("unauthorised", "the credential is not accepted; store a new one.")
            .makes(Health::CredentialExpired, "the API answers 401; store a new credential"),
        401 => Verdict::bad("unauthorised", "the API wants a credential; store one with the connection."),
        403 if with_credential => Verdict::bad("forbidden", "the credential is known but not allowed to do this."),
        403 => Verdict::bad("forbidden", "the API lets nobody in without a credential; store one with the connection."),
        404 => Verdict::bad("base_url", not_found(target, base, missing)),
        429 => {
            let after = answer.retry_after.map(|time| format!(", for another {} s", time.as_secs().max(1)));
            Verdict::good(format!(
                "the API is reachable but limits its callers right now{}.",
                after.unwrap_or_default()
            ))
            .but("rate_limited")
            .makes(Health::Degraded, "the API answers 429")
        }
        400..=499 => {
            let mut verdict = Verdict::good("the API is reachable; it did not like this harmless request.");
            verdict.health = None;
            verdict
        }
        status => Verdict::bad("server_error", "the API is reachable but has a fault of its own; try again later.")
            .makes(Health::Degraded, format!("the API answers {status}")),
    }
}

fn not_found(target: &TestTarget, base: &str, missing: usize) -> String {
    let servers = target.spec.as_deref().map(|spec| spec.servers.as_slice()).unwrap_or_default();
    if target.spec.is_none() {
        return "nothing is there; that may be so, or the base URL is wrong.".to_owned();
    }
    let tried = match missing {
        0 | 1 => "nothing is there".to_owned(),
        2 => "so did another operation".to_owned(),
        more => format!("so did {} other operations", more - 1),
    };
    let named = match servers {
        [] => "the document names no server".to_owned(),
        some => format!("the document names {}", some.iter().take(5).cloned().collect::<Vec<_>>().join(", ")),
    };
    format!("{tried}: the base URL {base} is probably wrong; {named}.")
}

/// A failure of the call itself. `self_signed` is about a certificate that is not trusted.
pub(super) fn of_failure(base: &str, error: &EgressError, self_signed: bool) -> Verdict {
    let unreachable = |problem, words: String| {
        let reason = words.split([':', ';']).next().unwrap_or_default().trim_end_matches('.').to_owned();
        Verdict::bad(problem, words).makes(Health::Unreachable, reason)
    };
    match error {
        EgressError::Dns { host } => {
            unreachable("dns", format!("the name {host} is not known: look for a slip of the pen in the base URL."))
        }
        EgressError::Connect { host, reason } if reason == "connection refused" => unreachable(
            "refused",
            format!("{host} refuses connections on port {}: is the service up, and the port right?", port(base)),
        ),
        EgressError::Connect { host, reason } => unreachable("connect", format!("no connection to {host}: {reason}.")),
        EgressError::Tls { reason, fault: TlsFault::ClientCertificate, .. } => {
            Verdict::bad("client_certificate", format!("{reason}.")).makes(Health::CredentialExpired, reason)
        }
        EgressError::Tls { host, reason, fault } => {
            let (problem, words) = tls(base, host, reason, *fault, self_signed);
            unreachable(problem, words)
        }
        EgressError::Timeout { host, sent: false, .. } => {
            unreachable("timeout", format!("{host} takes no connection in time: a firewall, or a wrong address?"))
        }
        EgressError::Timeout { host, after, .. } => {
            let words = format!("{host} took the request and did not answer within {} s.", after.as_secs());
            Verdict::bad("timeout", words).makes(Health::Degraded, "no answer in time")
        }
        EgressError::Protocol { .. } if base.starts_with("http://") => Verdict::bad("tls_wanted", tls_wanted(base)),
        EgressError::Protocol { host, reason } => {
            Verdict::bad("protocol", format!("{host} does not speak HTTP well: {reason}."))
        }
        EgressError::Interrupted { host, .. } => {
            let words = format!("{host} broke the connection off before its answer was complete.");
            Verdict::bad("interrupted", words).makes(Health::Degraded, "the connection broke off")
        }
        EgressError::BlockedAddress { .. } | EgressError::BlockedPort { .. } | EgressError::BlockedScheme { .. } => {
            Verdict::bad("blocked", format!("{error}; the operator can open private networks with APIQ_EGRESS_ALLOW."))
        }
        other => Verdict::bad("failed", format!("{other}.")),
    }
}

fn tls(base: &str, host: &str, reason: &str, fault: TlsFault, self_signed: bool) -> (&'static str, String) {
    match fault {
        TlsFault::Expired => (
            "tls_expired",
            format!(
                "the certificate of {host} has expired: its owner must renew it, or the clock of this server is ahead."
            ),
        ),
        TlsFault::NotYetValid => (
            "tls_not_yet_valid",
            format!("the certificate of {host} is not valid yet: the clock of this server is probably behind."),
        ),
        TlsFault::WrongHost => {
            ("tls_wrong_host", format!("the certificate is not for {host}: is the base URL right? ({reason})"))
        }
        TlsFault::UnknownIssuer if self_signed => (
            "tls_self_signed",
            format!(
                "the certificate of {host} is self-signed: nobody vouches for it. Give the server one of an authority that this machine trusts."
            ),
        ),
        TlsFault::UnknownIssuer => (
            "tls_unknown_issuer",
            format!(
                "the certificate of {host} is signed by an authority that this machine does not trust, or the server leaves out a certificate in between."
            ),
        ),
        TlsFault::Revoked => ("tls_revoked", format!("the certificate of {host} has been revoked.")),
        TlsFault::NotTls => (
            "tls_not_spoken",
            format!("{host} does not speak TLS on port {}: does the base URL begin with http://?", port(base)),
        ),
        TlsFault::Handshake => (
            "tls_handshake",
            format!("{host} does not agree to a secure connection: its version or ciphers are not ours. ({reason})"),
        ),
        TlsFault::Other | TlsFault::ClientCertificate => {
            ("tls", format!("no trusted TLS connection to {host}: {reason}."))
        }
    }
}

fn tls_wanted(base: &str) -> String {
    format!("port {} speaks TLS and not plain HTTP: begin the base URL with https://.", port(base))
}

/// What some servers say in plain words when they are addressed without TLS.
fn speaks_tls(base: &str, answer: &OutboundResponse) -> bool {
    let text = String::from_utf8_lossy(&answer.body).to_lowercase();
    base.starts_with("http://") && text.contains("http") && text.contains("https") && text.contains("sent to")
        || base.starts_with("http://") && text.contains("client sent an http request to an https server")
}

fn port(base: &str) -> u16 {
    Url::parse(base).ok().and_then(|url| url.port_or_known_default()).unwrap_or_default()
}

fn is_html(answer: &OutboundResponse) -> bool {
    let said = answer.header("content-type").is_some_and(|kind| kind.to_ascii_lowercase().contains("html"));
    let start = &answer.body[..answer.body.len().min(256)];
    let start = String::from_utf8_lossy(start).trim_start_matches('\u{feff}').trim_start().to_ascii_lowercase();
    said || start.starts_with("<!doctype html") || start.starts_with("<html")
}

/// Where a redirect ended, when that looks like a login: host and path, without what may be secret.
fn login(base: &str, answer: &OutboundResponse) -> Option<String> {
    if answer.redirects == 0 {
        return None;
    }
    let end = Url::parse(&answer.final_url).ok()?;
    let path = end.path().to_ascii_lowercase();
    let words = ["login", "log-in", "signin", "sign-in", "sign_in", "/sso", "/auth", "/oauth", "/saml"];
    let named = words.iter().any(|word| path.contains(word));
    let elsewhere = Url::parse(base).is_ok_and(|base| base.host_str() != end.host_str());
    let page = is_html(answer);
    (page && (named || elsewhere)).then(|| format!("{}{}", end.host_str().unwrap_or_default(), end.path()))
}

/// What to say of the server's clock, if it is far from ours.
pub(super) fn clock(answer: &OutboundResponse, now: DateTime<Utc>) -> Option<String> {
    let theirs = DateTime::parse_from_rfc2822(answer.header("date")?).ok()?.to_utc();
    let difference = theirs - now;
    if difference.abs() <= CLOCKS {
        return None;
    }
    let (seconds, which) =
        (difference.abs().num_seconds(), if difference > TimeDelta::zero() { "ahead of" } else { "behind" });
    let amount = match seconds {
        0..=119 => format!("{seconds} seconds"),
        120..=7_199 => format!("{} minutes", seconds / 60),
        _ => format!("{} hours", seconds / 3_600),
    };
    Some(format!("Its clock is {amount} {which} ours: tokens and signatures may be refused for that."))
}
