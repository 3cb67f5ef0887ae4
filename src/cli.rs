//! The command line: `apiq <command>`. Settings come from the environment; the harmless ones have flags too (secrets
//! have none, because a process's arguments are visible to every user of a machine).

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::settings::{self, Needs, Profile, Settings, SettingsError};

/// Plain English in, durable and provable API workflows out.
#[derive(Debug, Parser)]
#[command(name = "apiq", version, about, after_help = "`apiq --help` explains every setting.")]
#[command(after_long_help = settings::help())]
pub struct Cli {
    /// Flags that overrule the environment.
    #[command(flatten)]
    pub flags: Flags,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags that stand for a setting of the environment and overrule it.
#[derive(Debug, Default, Args)]
pub struct Flags {
    /// IP address to listen on [APIQ_HOST]
    #[arg(long, global = true, value_name = "IP")]
    pub host: Option<String>,
    /// Port of the HTTP API [APIQ_PORT]
    #[arg(long, global = true, value_name = "PORT")]
    pub port: Option<String>,
    /// Folder of private engines, keys and logs [APIQ_DATA_DIR]
    #[arg(long, global = true, value_name = "FOLDER")]
    pub data_dir: Option<PathBuf>,
    /// What this node does, comma-separated [APIQ_ROLES]
    #[arg(long, global = true, value_name = "ROLES")]
    pub roles: Option<String>,
    /// Log filter [APIQ_LOG]
    #[arg(long, global = true, value_name = "FILTER")]
    pub log: Option<String>,
    /// Print JSON instead of tables
    #[arg(long, global = true)]
    pub json: bool,
}

impl Flags {
    /// The given flags under the names of the settings they overrule.
    pub fn as_settings(&self) -> Vec<(&'static str, String)> {
        let data_dir = self.data_dir.as_ref().map(|path| path.to_string_lossy().into_owned());
        [
            ("APIQ_HOST", self.host.clone()),
            ("APIQ_PORT", self.port.clone()),
            ("APIQ_DATA_DIR", data_dir),
            ("APIQ_ROLES", self.roles.clone()),
            ("APIQ_LOG", self.log.clone()),
        ]
        .into_iter()
        .filter_map(|(name, value)| value.map(|value| (name, value)))
        .collect()
    }
}

/// The commands.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Serve with given engines
    ///
    /// Needs APIQ_DATABASE_URL, APIQ_NATS_URL and APIQ_MASTER_KEY; the schema must be up to date (`apiq migrate`).
    Serve,
    /// Serve with a private Postgres and a private NATS, which stop with it
    ///
    /// Keeps everything under the data folder, makes what is missing, migrates, and prints the URL, a demo login and
    /// an API key. Only one process may use a data folder at a time.
    Dev,
    /// Bring the database's schema up to date
    Migrate {
        /// Accept that the log was restored into another database cluster: starts a new generation of its order
        #[arg(long)]
        adopt: bool,
    },
    /// Tell the whole story on two sandbox APIs; exit code 1 when anything is not as expected
    ///
    /// Works against the server that runs on the data folder, or starts one.
    Demo,
    /// Read the log again; changes nothing that is live
    #[command(subcommand)]
    Replay(Replay),
    /// Change what is derived from the log; the log itself is never touched
    #[command(subcommand)]
    Admin(Admin),
    /// Ask the server at host and port whether it is ready; exit code 1 when not
    Health,
}

/// Tools over derived state.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Admin {
    /// Rebuild the read models from the log while servers go on, and swap them in
    ///
    /// Logs in as `apiq migrate` does (the owner of the schema). Interrupted at any point, nothing live has changed;
    /// start it again. With --json, one line of JSON a second and one at the end.
    Rebuild {
        /// Events folded together: more write fewer rows and need more memory
        #[arg(long, value_name = "EVENTS", default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        batch: u32,
    },
    /// List events that read models could not take, with the reasons; exit code 1 when there are some
    ///
    /// A rebuild by a build that can take them is the way out: `apiq admin rebuild`.
    Quarantine,
    /// Wrap every workspace's key with the present master key while servers go on
    ///
    /// Needs APIQ_MASTER_KEY (the new key) and APIQ_MASTER_KEY_PREVIOUS (the old one), which every server must know by
    /// then. Interrupted at any point, nothing is lost: start it again. With --json, one line of JSON a second and one at
    /// the end.
    RotateMaster,
}

/// Read-only tools over the log.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Replay {
    /// Fold the log anew and compare every read model with the live one by checksum; exit code 1 on a difference
    Verify,
    /// Fold the log into a scratch schema and print what it holds
    Rebuild,
    /// Print an aggregate's history as a table
    Timeline {
        /// Id of the aggregate, e.g. wf_01h455vb4pex5vsknk084sn02q
        id: String,
    },
}

impl Command {
    /// Private engines or given ones. Tools follow what is configured: a database URL means a server's.
    fn profile(&self, has_database_url: bool) -> Profile {
        match self {
            Command::Serve => Profile::Server,
            Command::Dev | Command::Demo => Profile::Dev,
            _ if has_database_url => Profile::Server,
            _ => Profile::Dev,
        }
    }

    /// What the command cannot do without. Replay tools never see the master key.
    fn needs(&self) -> Needs {
        match self {
            Command::Serve => Needs { database: true, nats: true, master_key: true },
            Command::Admin(Admin::RotateMaster) => Needs { database: true, master_key: true, ..Needs::default() },
            Command::Migrate { .. } | Command::Replay(_) | Command::Admin(_) => {
                Needs { database: true, ..Needs::default() }
            }
            Command::Dev | Command::Demo | Command::Health => Needs::default(),
        }
    }
}

impl Cli {
    /// The settings this command runs with.
    ///
    /// # Errors
    /// Every wrong or missing setting at once.
    pub fn settings(&self) -> Result<Settings, SettingsError> {
        let has_database_url = std::env::var_os("APIQ_DATABASE_URL").is_some_and(|url| !url.is_empty());
        let profile = self.command.profile(has_database_url);
        Settings::from_env(profile, self.command.needs(), &self.flags.as_settings())
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_explains_every_setting_and_offers_no_secret_as_a_flag() {
        let help = Cli::command().render_long_help().to_string();
        for setting in settings::SETTINGS {
            assert!(help.contains(setting.name), "{} is missing", setting.name);
        }
        assert!(!help.contains("--master-key") && !help.contains("--database-url"));
    }

    #[test]
    fn flags_overrule_under_the_name_of_their_setting() {
        let cli = Cli::try_parse_from(["apiq", "dev", "--port", "9", "--data-dir", "x"]).unwrap();
        assert_eq!(cli.flags.as_settings(), [("APIQ_PORT", "9".to_owned()), ("APIQ_DATA_DIR", "x".to_owned())]);
        assert_eq!(cli.command, Command::Dev);
    }

    #[test]
    fn commands_parse() {
        let command = |words: &[&str]| Cli::try_parse_from(words).map(|cli| cli.command);
        let timeline = Command::Replay(Replay::Timeline { id: "wf_1".into() });
        assert_eq!(command(&["apiq", "replay", "timeline", "wf_1"]).unwrap(), timeline);
        assert_eq!(command(&["apiq", "migrate", "--adopt"]).unwrap(), Command::Migrate { adopt: true });
        let rebuild = |batch| Command::Admin(Admin::Rebuild { batch });
        assert_eq!(command(&["apiq", "admin", "rebuild"]).unwrap(), rebuild(5_000));
        assert_eq!(command(&["apiq", "admin", "rebuild", "--batch", "7"]).unwrap(), rebuild(7));
        assert!(command(&["apiq", "admin", "rebuild", "--batch", "0"]).is_err());
        assert_eq!(command(&["apiq", "admin", "rotate-master"]).unwrap(), Command::Admin(Admin::RotateMaster));
        assert!(Command::Admin(Admin::RotateMaster).needs().master_key);
        assert!(command(&["apiq", "replay", "timeline"]).is_err());
        assert!(command(&["apiq"]).is_err());
    }

    #[test]
    fn tools_follow_the_database_url() {
        assert_eq!(Command::Replay(Replay::Verify).profile(true), Profile::Server);
        assert_eq!(Command::Replay(Replay::Verify).profile(false), Profile::Dev);
        assert_eq!(Command::Dev.profile(true), Profile::Dev);
        assert!(!Command::Replay(Replay::Verify).needs().master_key);
    }
}
