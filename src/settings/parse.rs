//! Turning text into checked values, collecting a sentence for each that is wrong.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use secrecy::SecretString;

use super::spec_limits::{self, SpecLimits};
use super::{EgressRule, LogFormat, OpenAi, Problem, Profile, Role, Settings, master, nats, oauth};

const DEFAULT_DATA_DIR: &str = ".apiq";
const DEFAULT_LOG: &str = "info,sqlx=warn,async_nats=warn,poem=warn";
const DEFAULT_BASE_URL: &str = "https://api.openai.com/v1";
const DEFAULT_MODEL: &str = "gpt-4o-mini";
const DEFAULT_SPEC_MAX_BYTES: u64 = 32 * 1024 * 1024;
const DEFAULT_RETENTION_DAYS: u32 = 7;
/// Beyond this a document does not fit into the memory that ingestion may take.
const LARGEST_SPEC_MAX_BYTES: u64 = 1024 * 1024 * 1024;

/// Reads settings one by one and remembers what was wrong.
pub(super) struct Reader<L> {
    lookup: L,
    pub(super) problems: Vec<Problem>,
}

impl<L: Fn(&str) -> Option<String>> Reader<L> {
    pub(super) fn new(lookup: L) -> Self {
        Reader { lookup, problems: Vec::new() }
    }

    /// Everything; a wrong value is replaced by its default and noted in `problems`.
    pub(super) fn settings(&mut self, profile: Profile) -> Settings {
        Settings {
            profile,
            host: self.read("APIQ_HOST", host).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            port: self.read("APIQ_PORT", port),
            data_dir: self.text("APIQ_DATA_DIR").unwrap_or_else(|| DEFAULT_DATA_DIR.into()).into(),
            database_url: self.read("APIQ_DATABASE_URL", database_url),
            nats_url: self.read("APIQ_NATS_URL", |text| nats::check(text).map(|()| SecretString::from(text))),
            master_key: self.master_key("APIQ_MASTER_KEY", "APIQ_MASTER_KEY_FILE"),
            master_key_previous: self.master_key("APIQ_MASTER_KEY_PREVIOUS", "APIQ_MASTER_KEY_PREVIOUS_FILE"),
            kms_token: self.text("APIQ_KMS_TOKEN").map(SecretString::from),
            secret_retention_days: self
                .read("APIQ_SECRET_RETENTION_DAYS", retention_days)
                .unwrap_or(DEFAULT_RETENTION_DAYS),
            openai: self.openai(),
            egress_allow: self.read("APIQ_EGRESS_ALLOW", egress).unwrap_or_else(|| default_egress(profile)),
            egress_per_host: self.read("APIQ_EGRESS_PER_HOST", |t| within(t, 1, 10_000)).unwrap_or(100) as usize,
            egress_wait_seconds: self.read("APIQ_EGRESS_WAIT_SECONDS", |t| within(t, 1, 300)).unwrap_or(10),
            egress_breaker_failures: self.read("APIQ_EGRESS_BREAKER_FAILURES", |t| within(t, 0, 100_000)).unwrap_or(20)
                as usize,
            public_url: self.read("APIQ_PUBLIC_URL", oauth::public_url),
            oauth_providers: self.read("APIQ_OAUTH_PROVIDERS_FILE", oauth::providers).unwrap_or_default(),
            mail_attachments_max_bytes: self
                .read("APIQ_MAIL_ATTACHMENTS_MAX_BYTES", |t| within(t, 0, 1024 * 1024 * 1024))
                .unwrap_or(10 * 1024 * 1024) as usize,
            log: self.read("APIQ_LOG", log_filter).unwrap_or_else(|| DEFAULT_LOG.into()),
            log_format: self.read("APIQ_LOG_FORMAT", log_format).unwrap_or(LogFormat::Text),
            metrics_listen: self.read("APIQ_METRICS_LISTEN", metrics_listen),
            spec_max_bytes: self.read("APIQ_SPEC_MAX_BYTES", spec_max_bytes).unwrap_or(DEFAULT_SPEC_MAX_BYTES),
            spec: self.spec(),
            spec_limits: self.spec_limits(),
            roles: self.read("APIQ_ROLES", roles).unwrap_or_else(|| Role::ALL.to_vec()),
        }
    }

    /// A key or an endpoint switches the model on; an endpoint of one's own may need no key.
    fn openai(&mut self) -> Option<OpenAi> {
        let api_key = self.text("OPENAI_API_KEY").map(SecretString::from);
        let given = self.text("OPENAI_BASE_URL");
        let base_url = self.read("OPENAI_BASE_URL", base_url);
        let model = self.text("OPENAI_MODEL").unwrap_or_else(|| DEFAULT_MODEL.into());
        (api_key.is_some() || given.is_some()).then(|| OpenAi {
            api_key,
            base_url: base_url.unwrap_or_else(|| DEFAULT_BASE_URL.into()),
            model,
        })
    }

    fn spec_limits(&mut self) -> SpecLimits {
        SpecLimits {
            depth: self.read("APIQ_SPEC_MAX_DEPTH", spec_limits::within(10, 1_000)),
            nodes: self.read("APIQ_SPEC_MAX_NODES", spec_limits::within(1_000, 100_000_000)),
            refs: self.read("APIQ_SPEC_MAX_REFS", spec_limits::within(0, 10_000_000)),
            // A blob opens to at most 256 MiB.
            expansion: self.read("APIQ_SPEC_MAX_EXPANSION", spec_limits::within(1 << 20, 256 << 20)),
            files: self.read("APIQ_SPEC_MAX_FILES", spec_limits::within(1, 60_000)),
            fetches: self.read("APIQ_SPEC_MAX_FETCHES", spec_limits::within(0, 10_000)),
            seconds: self.read("APIQ_SPEC_MAX_SECONDS", spec_limits::within(1, 60)),
        }
    }

    /// A master key in its setting or in the file that another setting names.
    fn master_key(&mut self, name: &'static str, file: &'static str) -> Option<SecretString> {
        let given = self.read(name, master::check);
        let from_file = self.read(file, |path| master::check(&master::read(path)?));
        if self.text(name).is_some() && self.text(file).is_some() {
            let sentence = format!("give the key itself ({name}) or its file, not both");
            self.problems.push(Problem { setting: file, sentence });
        }
        given.or(from_file)
    }

    fn text(&self, name: &'static str) -> Option<String> {
        (self.lookup)(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    pub(super) fn read<T>(&mut self, name: &'static str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let text = self.text(name)?;
        match parse(&text) {
            Ok(value) => Some(value),
            Err(sentence) => {
                self.problems.push(Problem { setting: name, sentence });
                None
            }
        }
    }
}

fn host(text: &str) -> Result<IpAddr, String> {
    match text {
        "localhost" => Ok(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        _ => text.parse().map_err(|_| format!("\"{text}\" is no IP address; 0.0.0.0 listens on all of them")),
    }
}

fn port(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| format!("\"{text}\" is no port; give a number from 0 (any free one) to 65535"))
}

/// The value may hold a password, so the sentence never repeats it.
fn database_url(text: &str) -> Result<SecretString, String> {
    if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
        return Err("it must start with postgres:// or postgresql://".into());
    }
    match sqlx::postgres::PgConnectOptions::from_str(text) {
        Ok(options) if options.get_host().is_empty() && options.get_socket().is_none() => {
            Err("it names no host".into())
        }
        Ok(_) => Ok(SecretString::from(text)),
        Err(_) => Err("it is no URL such as postgres://user:password@host:5432/database".into()),
    }
}

fn retention_days(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(days @ 0..=3650) => Ok(days),
        _ => Err(format!("\"{text}\" is no number of days from 0 to 3650")),
    }
}

fn base_url(text: &str) -> Result<String, String> {
    let refuse = || "it is no URL such as http://127.0.0.1:11434/v1".to_owned();
    let uri: poem::http::Uri = text.parse().map_err(|_| refuse())?;
    let known_scheme = matches!(uri.scheme_str(), Some("http" | "https"));
    if !known_scheme || uri.host().is_none_or(str::is_empty) || uri.query().is_some() {
        return Err(refuse());
    }
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err("put the key into OPENAI_API_KEY, not into the URL".into());
    }
    Ok(text.trim_end_matches('/').to_owned())
}

fn egress(text: &str) -> Result<Vec<EgressRule>, String> {
    if text == "none" {
        return Ok(Vec::new());
    }
    collect(text, EgressRule::from_str)
}

fn default_egress(profile: Profile) -> Vec<EgressRule> {
    match profile {
        Profile::Dev => vec![EgressRule::Loopback],
        Profile::Server => Vec::new(),
    }
}

fn log_filter(text: &str) -> Result<String, String> {
    match tracing_subscriber::EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!("\"{text}\" is no log filter such as info,sqlx=warn ({error})")),
    }
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(format!("\"{text}\" is neither text nor json")),
    }
}

fn metrics_listen(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("\"{text}\" is no address and port such as 127.0.0.1:9464"))
}

fn spec_max_bytes(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(bytes @ 1..=LARGEST_SPEC_MAX_BYTES) => Ok(bytes),
        _ => Err(format!("\"{text}\" is no number of bytes from 1 to {LARGEST_SPEC_MAX_BYTES}")),
    }
}

fn within(text: &str, least: u64, most: u64) -> Result<u64, String> {
    match text.parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(format!("\"{text}\" is no number from {least} to {most}")),
    }
}

fn roles(text: &str) -> Result<Vec<Role>, String> {
    let mut roles = collect(text, |name| {
        let known = Role::ALL.into_iter().find(|role| role.name() == name);
        known.ok_or_else(|| format!("\"{name}\" is no role; known are {}", Role::ALL.map(Role::name).join(", ")))
    })?;
    roles.sort();
    roles.dedup();
    Ok(roles)
}

/// Parse a comma-separated list; every wrong item is in the sentence.
fn collect<T>(text: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    let (good, bad): (Vec<_>, Vec<_>) = items.map(parse).partition(Result::is_ok);
    let bad: Vec<String> = bad.into_iter().filter_map(Result::err).collect();
    let good: Vec<T> = good.into_iter().filter_map(Result::ok).collect();
    match (bad.is_empty(), good.is_empty()) {
        (true, false) => Ok(good),
        (true, true) => Err("it lists nothing".into()),
        (false, _) => Err(bad.join("; ")),
    }
}
