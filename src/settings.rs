//! Configuration: read once at start from the environment (and a few flags), checked as a whole.
//!
//! [`Settings::load`] never stops at the first fault: it returns every wrong setting with one sentence each, so that
//! a person mends the configuration in one go. What each setting means is in [`table::SETTINGS`], which also feeds
//! `apiq --help`; a test keeps `.env.example` equal to it. `.env` files are loaded by the Makefile, never by the
//! binary.

mod egress;
pub mod master;
pub mod nats;
pub mod oauth;
mod parse;
mod spec;
mod spec_limits;
mod table;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use secrecy::SecretString;

pub use egress::EgressRule;
pub use spec::SpecSettings;
pub use spec_limits::SpecLimits;
#[cfg(test)]
pub use table::SETTINGS;
pub use table::help;

/// The port that is used when `APIQ_PORT` is not set.
pub const DEFAULT_PORT: u16 = 8080;
/// How many ports from [`DEFAULT_PORT`] on the dev profile tries.
const PORTS_TRIED: u16 = 100;

/// Where the process runs: on a developer's machine with private engines, or as a server with given ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Private Postgres and NATS, generated master key, loopback egress allowed.
    Dev,
    /// Everything is given; nothing secret has a default.
    Server,
}

/// What a command cannot do without in the server profile. The dev profile needs none: it makes what is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Needs {
    /// `APIQ_DATABASE_URL`
    pub database: bool,
    /// `APIQ_NATS_URL`
    pub nats: bool,
    /// `APIQ_MASTER_KEY`
    pub master_key: bool,
}

/// The parts of the system that a node may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// The HTTP API.
    Api,
    /// Keeps the read models up to date.
    Projector,
    /// Publishes committed events to NATS.
    Relay,
    /// Runs workflows and ingests specs.
    Executor,
    /// Delivers outgoing webhooks.
    Dispatcher,
}

impl Role {
    /// Every role, in the order of the documentation.
    pub const ALL: [Role; 5] = [Role::Api, Role::Projector, Role::Relay, Role::Executor, Role::Dispatcher];

    /// The name used in `APIQ_ROLES`.
    pub fn name(self) -> &'static str {
        match self {
            Role::Api => "api",
            Role::Projector => "projector",
            Role::Relay => "relay",
            Role::Executor => "executor",
            Role::Dispatcher => "dispatcher",
        }
    }
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// An OpenAI-compatible endpoint for the planner. Absent: the offline planner speaks.
#[derive(Debug, Clone)]
pub struct OpenAi {
    /// Absent for local endpoints that ask for none.
    pub api_key: Option<SecretString>,
    /// Without a trailing slash, e.g. `https://host/v1`.
    pub base_url: String,
    /// Model name as the endpoint knows it.
    pub model: String,
}

/// The checked configuration of one process.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Decides the defaults below.
    pub profile: Profile,
    /// Address to listen on.
    pub host: IpAddr,
    /// Port as given; `None` when the default applies. 0 lets the system choose.
    pub port: Option<u16>,
    /// Folder of the private engines, the generated keys and logs.
    pub data_dir: PathBuf,
    /// `postgres://…`; always present in the server profile where the command needs it.
    pub database_url: Option<SecretString>,
    /// `nats://…`; connect with [`nats::connect`], which takes user and password out of it.
    pub nats_url: Option<SecretString>,
    /// base64 of 32 bytes or the address of a key service's key, already checked; from the environment or a file.
    pub master_key: Option<SecretString>,
    /// Another master key that may still be asked to unwrap.
    pub master_key_previous: Option<SecretString>,
    /// The token of a key service that asks for one.
    #[cfg_attr(not(feature = "kms-vault"), expect(dead_code, reason = "only a Transit service asks for it"))]
    pub kms_token: Option<SecretString>,
    /// Days for which a deleted secret can be restored.
    pub secret_retention_days: u32,
    /// The planner's model, when one is configured.
    pub openai: Option<OpenAi>,
    /// Private address ranges that outgoing requests may reach.
    pub egress_allow: Vec<EgressRule>,
    /// Outgoing requests under way to one host at once.
    pub egress_per_host: usize,
    /// How long an outgoing request waits for its turn, seconds.
    pub egress_wait_seconds: u64,
    /// Failures within half a minute that open a circuit breaker; 0: none ever opens.
    pub egress_breaker_failures: usize,
    /// Bytes that the attachments of one mail may have together, decoded.
    pub mail_attachments_max_bytes: usize,
    /// Filter in the syntax of `tracing-subscriber`, already checked.
    pub log: String,
    /// Text or JSON lines.
    pub log_format: LogFormat,
    /// Where browsers find this service, without a slash at the end.
    pub public_url: Option<String>,
    /// Clients at OAuth providers.
    pub oauth_providers: Vec<oauth::OauthSettings>,
    /// Where `GET /metrics` is served; `None`: nowhere. Port 0 lets the system choose.
    pub metrics_listen: Option<SocketAddr>,
    /// Largest accepted API document, bytes.
    pub spec_max_bytes: u64,
    /// How documents are fetched and kept.
    pub spec: SpecSettings,
    /// Its other caps.
    pub spec_limits: SpecLimits,
    /// Roles of this node, sorted, without duplicates, never empty.
    pub roles: Vec<Role>,
}

/// One wrong setting: its name and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Name of the environment variable.
    pub setting: &'static str,
    /// One sentence; never holds a secret's value.
    pub sentence: String,
}

/// Every wrong setting of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsError(pub Vec<Problem>);

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.0.len() == 1 { "setting is" } else { "settings are" };
        write!(f, "{} {plural} wrong:", self.0.len())?;
        self.0.iter().try_for_each(|problem| write!(f, "\n  {}: {}", problem.setting, problem.sentence))
    }
}

impl std::error::Error for SettingsError {}

impl Settings {
    /// Read and check everything. `lookup` answers a setting's name with its value (flags first, then environment);
    /// an empty value counts as absent.
    ///
    /// # Errors
    /// Every wrong or missing setting at once.
    pub fn load(
        profile: Profile,
        needs: Needs,
        lookup: impl Fn(&str) -> Option<String>,
    ) -> Result<Settings, SettingsError> {
        let mut reader = parse::Reader::new(lookup);
        let settings = reader.settings(profile);
        let mut problems = reader.problems;
        if profile == Profile::Server {
            problems.extend(settings.missing(needs, &problems));
        }
        if problems.is_empty() { Ok(settings) } else { Err(SettingsError(problems)) }
    }

    /// Like [`Settings::load`], from this process's environment, with `flags` (name, value) taking precedence.
    ///
    /// # Errors
    /// Every wrong or missing setting at once.
    pub fn from_env(
        profile: Profile,
        needs: Needs,
        flags: &[(&'static str, String)],
    ) -> Result<Settings, SettingsError> {
        Settings::load(profile, needs, |name| {
            let flag = flags.iter().find(|(flag, _)| *flag == name).map(|(_, value)| value.clone());
            flag.or_else(|| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()))
        })
    }

    /// What is needed and neither given nor already complained about.
    fn missing(&self, needs: Needs, known: &[Problem]) -> Vec<Problem> {
        let wanted = [
            (needs.database, self.database_url.is_none(), "APIQ_DATABASE_URL", "give the URL of a PostgreSQL database"),
            (needs.nats, self.nats_url.is_none(), "APIQ_NATS_URL", "give the URL of a nats-server with JetStream"),
            (
                needs.master_key,
                self.master_key.is_none(),
                "APIQ_MASTER_KEY",
                "give base64 of 32 random bytes, e.g. from `openssl rand -base64 32`; there is no default key",
            ),
        ];
        wanted
            .into_iter()
            .filter(|(needed, absent, name, _)| *needed && *absent && !known.iter().any(|known| known.setting == *name))
            .map(|(_, _, setting, advice)| Problem {
                setting,
                sentence: format!("required here and not set; {advice}"),
            })
            .collect()
    }

    /// Ports to try in order: the given one only; without one the default, and in the dev profile those after it.
    pub fn port_candidates(&self) -> Vec<u16> {
        match (self.port, self.profile) {
            (Some(port), _) => vec![port],
            (None, Profile::Server) => vec![DEFAULT_PORT],
            (None, Profile::Dev) => (DEFAULT_PORT..DEFAULT_PORT + PORTS_TRIED).collect(),
        }
    }

    /// Listen on the first candidate that is free.
    ///
    /// # Errors
    /// None was free, or the address is not one of this machine's; says which and how to choose another.
    pub async fn bind(&self) -> anyhow::Result<tokio::net::TcpListener> {
        let ports = self.port_candidates();
        let mut last = None;
        for port in &ports {
            match tokio::net::TcpListener::bind(SocketAddr::new(self.host, *port)).await {
                Ok(listener) => return Ok(listener),
                Err(error) => last = Some(error),
            }
        }
        let reason = last.map(|error| error.to_string()).unwrap_or_default();
        let place = match ports.as_slice() {
            [port] => format!("{}:{port}", self.host),
            _ => format!("{} on any port from {DEFAULT_PORT} to {}", self.host, DEFAULT_PORT + PORTS_TRIED - 1),
        };
        anyhow::bail!("cannot listen on {place} ({reason}); set APIQ_PORT (or APIQ_HOST) to a free one")
    }
}
