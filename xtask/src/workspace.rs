//! Where things are: the root of the tree, cargo's target folder, and programs on the search path. Nothing here is an
//! absolute path of one machine; everything is found at run time.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The source tree that the command works on.
#[derive(Clone, Debug)]
pub struct Workspace {
    root: PathBuf,
    target: PathBuf,
}

/// Which of cargo's profiles a binary was built with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Profile {
    /// `target/debug`: tests.
    Dev,
    /// `target/release`: demo and benchmarks.
    Release,
}

impl Workspace {
    /// Finds the tree: cargo says where this crate lies; without cargo, the nearest folder upwards that holds a
    /// workspace manifest.
    pub fn find() -> Result<Self> {
        let start = match std::env::var_os("CARGO_MANIFEST_DIR") {
            Some(dir) => PathBuf::from(dir),
            None => std::env::current_dir().context("the current folder cannot be read")?,
        };
        let root = start
            .ancestors()
            .find(|dir| {
                std::fs::read_to_string(dir.join("Cargo.toml")).is_ok_and(|text| text.contains("[workspace]"))
            })
            .with_context(|| format!("no workspace manifest at or above {}", start.display()))?
            .to_path_buf();
        let target = match std::env::var_os("CARGO_TARGET_DIR") {
            Some(dir) => root.join(dir),
            None => root.join("target"),
        };
        Ok(Self { root, target })
    }

    /// The root of the tree.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Cargo's target folder; everything that this tool writes and nobody commits goes below it.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// A folder of this tool's own below the target folder; made when it is not there.
    pub fn scratch(&self, name: &str) -> Result<PathBuf> {
        let dir = self.target.join("xtask").join(name);
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(dir)
    }

    /// The user's cache folder for what is had from elsewhere and takes long: it outlives `cargo clean` and is shared by
    /// all trees.
    pub fn cache(&self) -> PathBuf {
        let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let cache = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")));
        cache.unwrap_or_else(|| self.target.join("xtask")).join("weir")
    }

    /// A cargo command that runs at the root.
    pub fn cargo(&self) -> Command {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(&self.root).env("CARGO_TARGET_DIR", &self.target);
        // What cargo told *this* program about its own package must not reach the packages it builds.
        for (key, _) in std::env::vars_os() {
            let name = key.to_string_lossy().into_owned();
            if name.starts_with("CARGO_PKG_")
                || name.starts_with("CARGO_MANIFEST")
                || name == "CARGO_BIN_NAME"
            {
                command.env_remove(key);
            }
        }
        command
    }

    /// A binary of this workspace that was built before.
    pub fn binary(&self, profile: Profile, name: &str) -> Result<PathBuf> {
        let path = self.binaries(profile).join(name);
        if !path.is_file() {
            bail!("{name} is not built: {} does not exist", path.display());
        }
        Ok(path)
    }

    /// The folder that holds the binaries of a profile.
    pub fn binaries(&self, profile: Profile) -> PathBuf {
        self.target.join(match profile {
            Profile::Dev => "debug",
            Profile::Release => "release",
        })
    }

    /// A path as the tree's readers know it: relative to the root.
    pub fn relative<'a>(&self, path: &'a Path) -> &'a Path {
        path.strip_prefix(&self.root).unwrap_or(path)
    }
}

/// The first program of that name on the search path, with the folders of system daemons added: an ordinary user's
/// path often leaves them out.
pub fn which(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(system).map(|dir| dir.join(name)).find(|path| path.is_file())
}

/// Whether this process may change the system (install packages, make network namespaces).
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_found_and_holds_this_crate() {
        let workspace = Workspace::find().unwrap();
        assert!(workspace.root().join("xtask/Cargo.toml").is_file());
        assert_eq!(workspace.relative(&workspace.root().join("xtask/src")), Path::new("xtask/src"));
    }

    #[test]
    fn programs_are_looked_up_on_the_search_path() {
        assert!(which("sh").is_some());
        assert!(which("no-such-program-of-weir").is_none());
    }
}
