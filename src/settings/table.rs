//! The one list of settings: what `apiq --help` prints and what `.env.example` must name.

use std::fmt::Write;

/// One setting, for people.
pub struct Setting {
    /// Environment variable.
    pub name: &'static str,
    /// What applies when it is not set.
    pub default: &'static str,
    /// What it does, its unit, and when it is required.
    pub help: &'static str,
}

/// Every setting the binary reads.
pub const SETTINGS: &[Setting] = &[
    Setting {
        name: "APIQ_HOST",
        default: "127.0.0.1",
        help: "IP address to listen on. 0.0.0.0 listens on every IPv4 address, :: on every address.",
    },
    Setting {
        name: "APIQ_PORT",
        default: "8080; `apiq dev` takes the first free port from 8080 on",
        help: "TCP port of the HTTP API. A given port is used as it is or the start fails; 0 takes any free one.",
    },
    Setting {
        name: "APIQ_DATA_DIR",
        default: ".apiq",
        help: "Folder of `apiq dev`: private Postgres and NATS, generated master key, logs. One process at a time. \
               A relative path is relative to the working directory. `apiq serve` keeps nothing there.",
    },
    Setting {
        name: "APIQ_DATABASE_URL",
        default: "none; `apiq dev` starts a private Postgres",
        help: "PostgreSQL 13 or newer, postgres://user:password@host:5432/database. Required by `apiq serve` and, where \
               there is no data folder, by `migrate`, `replay` and `admin`. Its user owns the schema when migrating.",
    },
    Setting {
        name: "APIQ_NATS_URL",
        default: "none; `apiq dev` starts a private nats-server",
        help: "nats-server with JetStream, nats://user:password@host:4222 or nats://token@host:4222. Required by \
               `apiq serve`. It only wakes and fans out: the log in Postgres is the truth.",
    },
    Setting {
        name: "APIQ_MASTER_KEY",
        default: "none; `apiq dev` makes one and keeps it in the data folder, mode 0600",
        help: "base64 of the 32 bytes that wrap every workspace's key (`openssl rand -base64 32` makes them), or the \
               address of a key service's key: aws-kms:<ARN or alias> (builds with the feature kms-aws), or \
               vault-transit:https://host:8200/v1/transit/keys/<name> (feature kms-vault). `apiq serve` requires it, and \
               there is no default. Losing it loses every stored secret: keep it apart from the database's backups.",
    },
    Setting {
        name: "APIQ_MASTER_KEY_FILE",
        default: "none",
        help: "File that holds what APIQ_MASTER_KEY would; give one of the two.",
    },
    Setting {
        name: "APIQ_MASTER_KEY_PREVIOUS",
        default: "none",
        help: "Another master key, which unwraps and wraps nothing: the old one until `apiq admin rotate-master` is \
               through, or the coming one while nodes are restarted. The same forms.",
    },
    Setting {
        name: "APIQ_MASTER_KEY_PREVIOUS_FILE",
        default: "none",
        help: "File that holds what APIQ_MASTER_KEY_PREVIOUS would; give one of the two.",
    },
    Setting {
        name: "APIQ_KMS_TOKEN",
        default: "none",
        help: "Token for a vault-transit key. AWS credentials come from where its tools look for them.",
    },
    Setting {
        name: "APIQ_SECRET_RETENTION_DAYS",
        default: "7",
        help: "Days for which a deleted secret can be restored before its value is destroyed; 0 destroys it at once.",
    },
    Setting {
        name: "OPENAI_API_KEY",
        default: "none: the offline planner speaks",
        help: "Key of an OpenAI-compatible endpoint for the planner. Secrets of connections are never sent there.",
    },
    Setting {
        name: "OPENAI_BASE_URL",
        default: "https://api.openai.com/v1, once OPENAI_API_KEY is set",
        help: "Base URL of that endpoint. Setting it alone is enough for an endpoint that asks for no key.",
    },
    Setting { name: "OPENAI_MODEL", default: "gpt-4o-mini", help: "Model name as that endpoint knows it." },
    Setting {
        name: "APIQ_EGRESS_ALLOW",
        default: "none; `apiq dev` allows loopback",
        help: "Private address ranges that outgoing requests (specs, steps, webhooks) may reach: comma-separated CIDR \
               ranges, `loopback`, or `none`. Everything private is refused otherwise.",
    },
    Setting {
        name: "APIQ_EGRESS_PER_HOST",
        default: "100",
        help: "Outgoing requests that may be under way to one host at once, from each node. Others wait their turn; \
               workspaces take turns.",
    },
    Setting {
        name: "APIQ_EGRESS_WAIT_SECONDS",
        default: "10",
        help: "Seconds that an outgoing request waits for its turn at a busy host, within its own time limit. Then it \
               fails as HOST_BUSY, and a step's retry policy tries it again.",
    },
    Setting {
        name: "APIQ_EGRESS_BREAKER_FAILURES",
        default: "20",
        help: "Failures within 30 seconds (no connection, no answer, 5xx; half of the calls at least) after which a \
               workspace's calls of a host are held back, 15 seconds at first. 0 switches that off.",
    },
    Setting {
        name: "APIQ_PUBLIC_URL",
        default: "none; `apiq dev` takes the address it listens on",
        help: "Where browsers find this service, such as https://apiq.example.com: OAuth providers send people back there. \
               Without it `apiq serve` authorizes no connections.",
    },
    Setting {
        name: "APIQ_OAUTH_PROVIDERS_FILE",
        default: "none: connections bring clients of their own",
        help: "JSON file of this installation's clients at OAuth providers: {\"providers\": [{\"name\", \"clientId\", \
               \"clientSecret\" (or \"clientSecretFile\"), \"scopes\"}]}, and \"issuer\", or \"authorizationUrl\", \
               \"tokenUrl\" and \"revocationUrl\", for other names than github, google and slack.",
    },
    Setting {
        name: "APIQ_MAIL_ATTACHMENTS_MAX_BYTES",
        default: "10485760 (10 MiB)",
        help: "Bytes that the attachments of one mail of the SMTP connector may have together, decoded.",
    },
    Setting {
        name: "APIQ_LOG",
        default: "info,sqlx=warn,async_nats=warn,poem=warn",
        help: "Log filter: a level (error, warn, info, debug, trace), or module=level pairs, comma-separated.",
    },
    Setting { name: "APIQ_LOG_FORMAT", default: "text", help: "`text` for people, `json` for one JSON object a line." },
    Setting {
        name: "APIQ_METRICS_LISTEN",
        default: "none: no metrics are served",
        help: "IP address and port of `GET /metrics` for Prometheus, e.g. 127.0.0.1:9464. It asks for no login: let only \
               your monitoring reach it. A taken port fails the start; 0 takes any free one and logs it.",
    },
    Setting {
        name: "APIQ_SPEC_MAX_BYTES",
        default: "33554432 (32 MiB)",
        help: "Largest API document accepted, in bytes, uploaded or fetched; a larger one is refused with 413.",
    },
    Setting {
        name: "APIQ_SPEC_TIMEOUT_SECONDS",
        default: "30",
        help: "Longest time to fetch an API document, to its last byte. A slower server is cut off.",
    },
    Setting {
        name: "APIQ_SPEC_CACHE_TTL_HOURS",
        default: "24",
        help: "Hours in which a fetched API document serves further connections without asking its server. A refresh \
               always asks. 0 asks every time.",
    },
    Setting {
        name: "APIQ_SPEC_CACHE_MAX_BYTES",
        default: "268435456 (256 MiB)",
        help: "Compressed bytes that the document cache keeps, of all workspaces. Workspaces take turns when it is full.",
    },
    Setting {
        name: "APIQ_SPEC_CACHE_MAX_COUNT",
        default: "1000",
        help: "Documents that the cache keeps, of all workspaces. 0 keeps none.",
    },
    Setting {
        name: "APIQ_SPEC_MAX_DEPTH",
        default: "120",
        help: "Levels of nesting in an API document; for JSON at most 127 take effect. What is over this or one of the \
               following caps ends its ingestion as FAILED, with the reason.",
    },
    Setting {
        name: "APIQ_SPEC_MAX_NODES",
        default: "4000000",
        help: "Keys and values of an API document with all its files; each takes 12 bytes while it is read.",
    },
    Setting {
        name: "APIQ_SPEC_MAX_REFS",
        default: "500000",
        help: "References (`$ref`) of an API document with all its files.",
    },
    Setting {
        name: "APIQ_SPEC_MAX_EXPANSION",
        default: "100663296 (96 MiB)",
        help: "Bytes that the references and YAML aliases of an API document may unfold to.",
    },
    Setting {
        name: "APIQ_SPEC_MAX_FILES",
        default: "5000",
        help: "Entries of an uploaded or fetched archive (zip, tar.gz).",
    },
    Setting {
        name: "APIQ_SPEC_MAX_FETCHES",
        default: "200",
        help: "Other documents that are fetched because a reference leads to their URL; 0 refuses documents that need any.",
    },
    Setting {
        name: "APIQ_SPEC_MAX_SECONDS",
        default: "10",
        help: "Seconds of work on one API document; waiting for what is fetched does not count.",
    },
    Setting {
        name: "APIQ_ROLES",
        default: "all",
        help: "What this node does, comma-separated: api, projector, relay, executor, dispatcher. Every role must run \
               on at least one node.",
    },
];

/// Width of the help text in characters.
const WIDTH: usize = 100;
const INDENT: &str = "      ";

/// All settings as text for the terminal.
pub fn help() -> String {
    let mut text = String::from("Settings (environment variables; an empty one counts as not set):\n");
    for setting in SETTINGS {
        // Writing to a String cannot fail.
        let _ = write!(text, "\n  {}\n", setting.name);
        for line in wrap(setting.help).into_iter().chain(wrap(&format!("Default: {}", setting.default))) {
            let _ = writeln!(text, "{INDENT}{line}");
        }
    }
    text.push_str(
        "\nThe Makefile's targets also read a file `.env` (NAME=value lines, see .env.example); \
         the\nenvironment wins over it, and a flag wins over the environment.",
    );
    text
}

/// Break at spaces so that no line passes [`WIDTH`].
fn wrap(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if INDENT.len() + line.len() + 1 + word.len() <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
