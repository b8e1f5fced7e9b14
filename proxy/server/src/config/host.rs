//! Facts of this machine that a configuration is compared with. Passed in, so that a file gives the same answer in a
//! test as on a server.

use super::checked::Group;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Facts of a machine. What is `None` is not known, and not checked.
#[derive(Clone, Debug, Default)]
pub struct Host {
    /// `net.core.somaxconn`: the kernel cuts a longer backlog to it.
    pub somaxconn: Option<u32>,
    /// Hard limit of open files of this process.
    pub nofile_hard: Option<u64>,
    /// Processors this process may use.
    pub cores: Option<usize>,
    /// `/etc/group`, or one like it.
    pub groups: Option<Arc<str>>,
    /// Whether paths of the file are looked at.
    pub files: bool,
    /// Where the control socket is when nobody chose.
    pub default_admin: Option<PathBuf>,
    /// `$STATE_DIRECTORY`, as the service manager set it.
    pub default_state_dir: Option<PathBuf>,
}

impl Host {
    /// Reads the facts of the machine this process runs on.
    #[must_use]
    pub fn read() -> Host {
        Host {
            somaxconn: std::fs::read_to_string("/proc/sys/net/core/somaxconn")
                .ok()
                .and_then(|text| text.trim().parse().ok()),
            nofile_hard: rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum,
            cores: std::thread::available_parallelism().ok().map(usize::from),
            groups: std::fs::read_to_string("/etc/group").ok().map(Arc::from),
            files: true,
            default_admin: Some(default_admin_path()),
            default_state_dir: std::env::var_os("STATE_DIRECTORY")
                .map(PathBuf::from)
                .filter(|path| path.is_absolute()),
        }
    }

    /// Data-path threads when nobody chose: one, and two from four cores on.
    #[must_use]
    pub fn default_workers(&self) -> u32 {
        if self.cores.unwrap_or(1) >= 4 { 2 } else { 1 }
    }

    /// The group of this name or number. `Err` when the machine's groups are known and it is not among them.
    pub(crate) fn group(&self, name: &str) -> Result<Group, ()> {
        let group = |gid| Group { name: name.into(), gid };
        if let Ok(gid) = name.parse() {
            return Ok(group(Some(gid)));
        }
        let Some(groups) = &self.groups else { return Ok(group(None)) };
        let found = groups.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next() == Some(name)).then(|| fields.nth(1).and_then(|gid| gid.parse().ok())).flatten()
        });
        found.map(|gid| group(Some(gid))).ok_or(())
    }

    /// Whether files of the configuration are looked at.
    pub(crate) fn reads_files(&self) -> bool {
        self.files
    }

    /// Whether `path` is missing, where files are looked at.
    pub(crate) fn is_missing(&self, path: &Path) -> bool {
        self.files && !path.exists()
    }
}

/// Where the control socket is when nobody chose: `$XDG_RUNTIME_DIR/weir/admin.sock`, or under `/run`.
#[must_use]
pub fn default_admin_path() -> PathBuf {
    std::env::var_os("XDG_RUNTIME_DIR")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .unwrap_or_else(|| PathBuf::from("/run"))
        .join("weir/admin.sock")
}
