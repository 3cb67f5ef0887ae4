//! A private Postgres: made once, started on loopback with a random password, adopted or stopped when a killed run
//! left it behind.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context;
use secrecy::SecretString;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection};

use super::find::{self, PostgresBin};
use super::process::{self, Engine, Signal};
use super::state::{State, free_port};
use super::user::RunAs;
use super::{Progress, files};

/// Owner of the database, and its name.
const NAME: &str = "apiq";
/// A crash of a busy server is replayed from its write-ahead log first.
const START_PATIENCE: Duration = Duration::from_secs(120);
/// One attempt to connect while it starts.
const CONNECT_PATIENCE: Duration = Duration::from_secs(3);
/// Another program may take a port between our looking and Postgres' listening.
const PORT_ATTEMPTS: u32 = 3;
/// Fast shutdown (open transactions are rolled back), then immediate (recovers at the next start), then force.
const STOP: [(Signal, Duration); 3] = [
    (Signal::Int, Duration::from_secs(30)),
    (Signal::Quit, Duration::from_secs(10)),
    (Signal::Kill, Duration::from_secs(5)),
];

/// Settings that differ from initdb's. `postgresql.conf` includes this file.
fn config(port: u16) -> String {
    format!(
        "# Written by apiq at every start; changes are lost.\n\
         listen_addresses = '127.0.0.1'\n\
         port = {port}\n\
         unix_socket_directories = ''\n\
         max_connections = 100\n\
         shared_buffers = 128MB\n\
         fsync = on\n\
         synchronous_commit = on\n\
         full_page_writes = on\n\
         max_wal_size = 1GB\n\
         jit = off\n\
         timezone = 'UTC'\n\
         log_timezone = 'UTC'\n\
         log_line_prefix = '%m [%p] '\n\
         log_min_duration_statement = 1s\n"
    )
}

/// A running private Postgres; stopped when dropped.
pub struct Postgres {
    engine: Engine,
    port: u16,
    password: String,
}

/// Where everything of one private Postgres is, and who runs it.
struct Place {
    /// Folder around the data, owned by the user that runs Postgres.
    home: PathBuf,
    user: RunAs,
}

impl Place {
    fn data(&self) -> PathBuf {
        self.home.join("data")
    }

    fn config_file(&self) -> PathBuf {
        self.data().join("apiq.conf")
    }
}

impl Postgres {
    /// Find or make the data, then adopt a running server of it or start one, and wait until it answers.
    pub async fn start(data_dir: &Path, state: &mut State, progress: Progress<'_>) -> anyhow::Result<Postgres> {
        let (place, bin) = match existing(data_dir, state)? {
            Some(place) => {
                let bin = find::postgres(Some(version_of(&place.data())?))?;
                (place, bin)
            }
            None => {
                let bin = find::postgres(None)?;
                progress(&format!("making a private Postgres {}", bin.major));
                (make(data_dir, state, &bin).await?, bin)
            }
        };
        if let Some(adopted) = adopt_or_clear(&place, state, progress).await? {
            return Ok(adopted);
        }
        let mut attempt = 1;
        loop {
            match launch(data_dir, &place, &bin, state).await {
                Ok(postgres) => {
                    progress(&format!("Postgres {} answers on port {}", bin.major, postgres.port));
                    return Ok(postgres);
                }
                Err(error) if attempt < PORT_ATTEMPTS && error.to_string().contains("Address already in use") => {
                    state.postgres_port = None;
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// URL of the database, as its owner.
    pub fn url(&self) -> SecretString {
        SecretString::from(format!("postgres://{NAME}:{}@127.0.0.1:{}/{NAME}", self.password, self.port))
    }

    /// Its process, for tests.
    #[cfg(test)]
    pub fn pid(&self) -> u32 {
        self.engine.pid()
    }

    /// Fast shutdown, by force only when that does not work.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.engine.stop(&STOP).await.context("Postgres could not be stopped")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.engine.stop_blocking(&STOP);
    }
}

/// The data an earlier start made, if any.
fn existing(data_dir: &Path, state: &State) -> anyhow::Result<Option<Place>> {
    let home = state.postgres_home.clone().unwrap_or_else(|| data_dir.join("postgres"));
    // Data that we may not look at is not data that is missing.
    let there = home.join("data/PG_VERSION").try_exists();
    if there.with_context(|| format!("cannot look into {}; run as the user that owns it", home.display()))? {
        let user = RunAs::owner_of(&home.join("data"))?;
        anyhow::ensure!(user.can_use(&home), "the user that owns {} can no longer get there", home.display());
        return Ok(Some(Place { home, user }));
    }
    // Making an empty database in its stead would hide a loss.
    anyhow::ensure!(
        state.postgres_home.is_none(),
        "Postgres' data was in {} and is gone; restore it, or remove the data folder {} to start anew",
        home.display(),
        data_dir.display()
    );
    Ok(None)
}

/// Make a database cluster. It gets its name only when it is whole, so a crash in between leaves nothing that counts.
async fn make(data_dir: &Path, state: &mut State, bin: &PostgresBin) -> anyhow::Result<Place> {
    let user = RunAs::detect()?;
    let (home, recorded) = new_home(data_dir, &user)?;
    let place = Place { home, user };
    let draft = fresh_draft(&place.home)?;
    let password_file = place.home.join("password");
    files::write_private(&password_file, &state.postgres_password)?;
    place.user.own(&password_file)?;
    let made = init(&place, bin, &draft, &password_file).await;
    std::fs::remove_file(&password_file).with_context(|| format!("cannot remove {}", password_file.display()))?;
    made?;
    include_config(&draft)?;
    std::fs::rename(&draft, place.data()).context("cannot name the new database cluster")?;
    state.postgres_home = recorded;
    state.save(data_dir)?;
    Ok(place)
}

/// Remove what killed runs left half-made. Each draft has its own name, because the `initdb` of a killed run may still
/// be at work in the old one (it fails when its files go).
fn fresh_draft(home: &Path) -> anyhow::Result<PathBuf> {
    const PREFIX: &str = "draft-";
    let remove = || -> std::io::Result<()> {
        for entry in std::fs::read_dir(home)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(PREFIX) {
                std::fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    };
    remove().with_context(|| format!("cannot tidy up {}", home.display()))?;
    Ok(home.join(format!("{PREFIX}{}", hex::encode(rand::random::<[u8; 4]>()))))
}

/// Bytewise order (the same on every machine), UTF-8 letters where the system knows them.
async fn init(place: &Place, bin: &PostgresBin, draft: &Path, password_file: &Path) -> anyhow::Result<()> {
    let mut outcome = Ok(());
    for letters in ["C.UTF-8", "C"] {
        let mut command = place.user.command(&bin.folder.join("initdb"), &place.home);
        command.arg("-D").arg(draft).arg("--pwfile").arg(password_file);
        command.args(["--username", NAME, "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"]);
        command.arg(format!("--lc-ctype={letters}"));
        outcome = process::run(command, "initdb").await.map(|_| ());
        match &outcome {
            Err(error) if error.to_string().contains("locale") => {}
            _ => break,
        }
    }
    outcome
}

fn include_config(data: &Path) -> anyhow::Result<()> {
    use std::io::Write;
    let append = || -> std::io::Result<()> {
        let mut file = std::fs::OpenOptions::new().append(true).open(data.join("postgresql.conf"))?;
        file.write_all(b"\ninclude_if_exists = 'apiq.conf'\n")
    };
    append().context("cannot write postgresql.conf")
}

/// A folder that `user` can use: in the data folder, or (the second result) where a service user can get to.
fn new_home(data_dir: &Path, user: &RunAs) -> anyhow::Result<(PathBuf, Option<PathBuf>)> {
    let inside = data_dir.join("postgres");
    if usable(&inside, user)? {
        return Ok((inside, None));
    }
    anyhow::ensure!(*user != RunAs::Myself, "cannot write to {}", inside.display());
    let _ = std::fs::remove_dir(&inside);
    let name = format!("apiq-{}", hex::encode(rand::random::<[u8; 8]>()));
    for parent in ["/var/lib", "/var/tmp", "/tmp"] {
        let home = Path::new(parent).join(&name);
        if usable(&home, user).unwrap_or(false) {
            return Ok((home.clone(), Some(home)));
        }
    }
    anyhow::bail!("found no place for Postgres' data that its user can reach; set APIQ_DATA_DIR to one")
}

fn usable(home: &Path, user: &RunAs) -> anyhow::Result<bool> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(home);
    made.with_context(|| format!("cannot make {}", home.display()))?;
    user.own(home)?;
    Ok(user.can_use(home))
}

fn version_of(data: &Path) -> anyhow::Result<u32> {
    let path = data.join("PG_VERSION");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    text.trim().parse().with_context(|| format!("{} names no version", path.display()))
}

/// Deal with what a killed run left: use its server when that is healthy and configured as we would do it; else stop
/// it and clear the way.
async fn adopt_or_clear(place: &Place, state: &State, progress: Progress<'_>) -> anyhow::Result<Option<Postgres>> {
    let pid_file = place.data().join("postmaster.pid");
    let Some(pid) = process::recorded_pid(&pid_file) else { return Ok(None) };
    if process::is_alive(pid) && process::is_ours(pid, "postgres", &place.data()) {
        let mut left = Engine::Adopted(pid);
        if let Some(port) = state.postgres_port.filter(|port| is_configured(place, *port)) {
            let password = state.postgres_password.clone();
            if wait_until_ready(&mut left, port, &password).await.is_ok() {
                progress(&format!("took over the Postgres of a killed run, on port {port}"));
                return Ok(Some(Postgres { engine: left, port, password }));
            }
        }
        progress("stopping the Postgres of a killed run");
        left.stop(&STOP).await.context("the Postgres of a killed run could not be stopped")?;
    }
    if pid_file.exists() && process::is_taken(pid) {
        clear_stale_pid_file(&place.data(), &pid_file).await?;
    }
    Ok(None)
}

fn is_configured(place: &Place, port: u16) -> bool {
    std::fs::read_to_string(place.config_file()).is_ok_and(|text| text == config(port))
}

/// The recorded id now belongs to some other program, or to the old server's unburied body, and Postgres would refuse
/// to start because of that. Removing the file is safe only when no process of the old server is left: two servers on
/// the same data would destroy it.
async fn clear_stale_pid_file(data: &Path, pid_file: &Path) -> anyhow::Result<()> {
    for pid in process::working_in(data) {
        let stopped = Engine::Adopted(pid).stop(&STOP[1..]).await;
        stopped.context("a process of an earlier Postgres could not be stopped")?;
    }
    std::fs::remove_file(pid_file).with_context(|| format!("cannot remove {}", pid_file.display()))
}

/// Start a server and wait until it answers; its database exists then.
async fn launch(data_dir: &Path, place: &Place, bin: &PostgresBin, state: &mut State) -> anyhow::Result<Postgres> {
    let port = free_port(state.postgres_port)?;
    if state.postgres_port != Some(port) {
        state.postgres_port = Some(port);
        state.save(data_dir)?;
    }
    files::write_private(&place.config_file(), &config(port))?;
    place.user.own(&place.config_file())?;
    let (log_path, log) = files::open_log(data_dir, "postgres")?;
    let log_start = log.metadata().map(|meta| meta.len()).unwrap_or(0);
    let mut command = place.user.command(&bin.folder.join("postgres"), &place.home);
    command.arg("-D").arg(place.data()).process_group(0);
    command.stdin(Stdio::null()).stdout(log.try_clone().context("cannot share the log")?).stderr(log);
    let engine = Engine::Child(command.spawn().context("cannot start postgres")?);
    let mut postgres = Postgres { engine, port, password: state.postgres_password.clone() };
    wait_until_ready(&mut postgres.engine, port, &postgres.password).await.with_context(|| {
        format!("Postgres does not start; the end of {}:\n  {}", log_path.display(), files::tail(&log_path, log_start))
    })?;
    Ok(postgres)
}

/// Connect until it works, and see that the database is there.
async fn wait_until_ready(engine: &mut Engine, port: u16, password: &str) -> anyhow::Result<()> {
    let options = PgConnectOptions::new().host("127.0.0.1").port(port).username(NAME).password(password);
    let options = options.database("postgres").disable_statement_logging();
    let began = Instant::now();
    loop {
        let attempt = tokio::time::timeout(CONNECT_PATIENCE, PgConnection::connect_with(&options)).await;
        let error = match attempt {
            Ok(Ok(connection)) => return make_database(connection).await.context("cannot make the database"),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer".into(),
        };
        anyhow::ensure!(!engine.has_ended(), "it ended");
        // A wrong password does not get right by waiting: this server is not the one we think it is.
        let refused = error.contains("password authentication failed");
        anyhow::ensure!(!refused && began.elapsed() < START_PATIENCE, "it does not let us in: {error}");
        tokio::time::sleep(process::POLL).await;
    }
}

async fn make_database(mut connection: PgConnection) -> Result<(), sqlx::Error> {
    let there: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = 'apiq')")
        .fetch_one(&mut connection)
        .await?;
    if !there {
        sqlx::query("CREATE DATABASE apiq").execute(&mut connection).await?;
    }
    connection.close().await
}
