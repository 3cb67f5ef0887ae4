//! Who runs Postgres: ourselves, or a service user when we are root (Postgres refuses root).

use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context;

/// Tried in this order when we are root.
const SERVICE_USERS: [&str; 2] = ["postgres", "nobody"];

/// The user that Postgres' processes and files belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunAs {
    /// The user of this process.
    Myself,
    /// Another one, because we are root.
    Service {
        /// Login name, for messages.
        name: String,
        /// User id.
        uid: u32,
        /// Primary group id.
        gid: u32,
    },
}

impl RunAs {
    /// Find out.
    ///
    /// # Errors
    /// We are root and there is no service user.
    pub fn detect() -> anyhow::Result<RunAs> {
        if id(&["-u"]).context("`id -u` does not work")? != 0 {
            return Ok(RunAs::Myself);
        }
        let service = SERVICE_USERS.into_iter().find_map(|name| {
            let (uid, gid) = (id(&["-u", name])?, id(&["-g", name])?);
            (uid != 0).then(|| RunAs::Service { name: name.into(), uid, gid })
        });
        service.context("Postgres refuses to run as root and there is no user `postgres` or `nobody` to run it as")
    }

    /// The user that existing data belongs to; data made as one user is never opened as another.
    ///
    /// # Errors
    /// It belongs to someone we cannot act for.
    pub fn owner_of(path: &Path) -> anyhow::Result<RunAs> {
        let meta = std::fs::metadata(path).with_context(|| format!("cannot look at {}", path.display()))?;
        let (me, owner) = (id(&["-u"]).context("`id -u` does not work")?, meta.uid());
        match (me, owner) {
            (0, 0) => {
                anyhow::bail!("{} belongs to root, but Postgres refuses to run as root; chown it", path.display())
            }
            (0, uid) => Ok(RunAs::Service { name: format!("with id {uid}"), uid, gid: meta.gid() }),
            _ if me == owner => Ok(RunAs::Myself),
            _ => anyhow::bail!(
                "{} belongs to another user (id {owner}); run as that user, or set APIQ_DATA_DIR to another folder",
                path.display()
            ),
        }
    }

    /// A command that will run as this user, in `folder`, and sees none of our environment (no PG… variable may
    /// change what it does, no secret may reach it).
    pub fn command(&self, program: &Path, folder: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("LC_ALL", "C").env("TZ", "UTC").current_dir(folder);
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        if let RunAs::Service { uid, gid, .. } = self {
            command.uid(*uid).gid(*gid);
        }
        command
    }

    /// Hand a file or folder over to this user.
    pub fn own(&self, path: &Path) -> anyhow::Result<()> {
        match self {
            RunAs::Myself => Ok(()),
            RunAs::Service { name, uid, gid } => chown(path, Some(*uid), Some(*gid))
                .with_context(|| format!("cannot give {} to the user {name}", path.display())),
        }
    }

    /// Whether this user can get into a folder and write there. Asked of the system by trying, because modes, groups
    /// and access lists of every folder above count.
    pub fn can_use(&self, folder: &Path) -> bool {
        self.command(Path::new("/bin/sh"), Path::new("/"))
            .args(["-c", "cd \"$1\" && test -w .", "sh"])
            .arg(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    }
}

/// The number that `id` prints, `None` when it knows no such user.
fn id(arguments: &[&str]) -> Option<u32> {
    let output = Command::new("id").args(arguments).output().ok()?;
    String::from_utf8_lossy(&output.stdout).trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn root_does_not_run_postgres_itself() {
        let is_root = id(&["-u"]) == Some(0);
        assert_eq!(RunAs::detect().unwrap() != RunAs::Myself, is_root);
        assert_eq!(id(&["-u", "no-such-user-here"]), None);
    }

    #[test]
    fn a_closed_folder_above_is_noticed() {
        let RunAs::Service { .. } = RunAs::detect().unwrap() else { return };
        let user = RunAs::detect().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("a/b");
        std::fs::create_dir_all(&inner).unwrap();
        user.own(&inner).unwrap();
        let mode = |mode| std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(mode)).unwrap();
        mode(0o700);
        assert!(!user.can_use(&inner));
        mode(0o711);
        assert!(user.can_use(&inner));
        assert!(!user.can_use(folder.path()), "it may pass but not write");
    }

    #[test]
    fn our_environment_stays_with_us() {
        let shown = RunAs::Myself.command(Path::new("env"), Path::new("/")).output().unwrap();
        let text = String::from_utf8_lossy(&shown.stdout).into_owned();
        let mut names: Vec<_> = text.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
        names.retain(|name| !matches!(*name, "PWD" | "SHLVL" | "_" | "__CF_USER_TEXT_ENCODING"));
        names.sort_unstable();
        assert_eq!(names, ["LC_ALL", "PATH", "TZ"]);
    }
}
