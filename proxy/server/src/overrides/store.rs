//! Overrides in force, and the file that keeps them over a restart.
//!
//! The file is `overrides.json` in `state_dir`, mode 0600, replaced whole and atomically (written beside, synced,
//! renamed). A change is in force only after it is kept: what an operator was told holds after a crash. At most
//! [`ENTRIES_MAX`] entries. A file that cannot be read is put aside and said so; it never stops weir from serving.

use super::entry::{Override, Target, UnixTime};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use weir_engine::settings::Settings;

/// Overrides at once.
pub const ENTRIES_MAX: usize = 1_000;
/// Bytes of the file: 1,000 entries with the longest names and reasons are below 2 MiB.
const FILE_MAX: u64 = 8 << 20;
const FILE_NAME: &str = "overrides.json";
const FILE_VERSION: u32 = 1;

/// Overrides in force.
#[derive(Debug, Default)]
pub struct Store {
    entries: Vec<Override>,
    file: Option<PathBuf>,
}

/// Why an override was not kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The bound is reached.
    #[error(
        "there are {ENTRIES_MAX} overrides already; end some with weir limits clear or weir switch ... on"
    )]
    Full,
    /// The file cannot be written.
    #[error("the override cannot be kept in {}: {error}", .path.display())]
    Keep {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

#[derive(Serialize)]
struct KeptRef<'e> {
    version: u32,
    overrides: &'e [Override],
}

#[derive(Deserialize)]
struct Kept {
    version: u32,
    overrides: Vec<Override>,
}

impl Store {
    /// A store that forgets at exit.
    #[must_use]
    pub fn in_memory() -> Store {
        Store::default()
    }

    /// The store of a state directory, which is made (0700) when it is missing; without one, a store that forgets at
    /// exit. The second value says what is wrong, when something is: weir serves all the same.
    #[must_use]
    pub fn open(state_dir: Option<&Path>, now: UnixTime) -> (Store, Option<String>) {
        let Some(directory) = state_dir else { return (Store::in_memory(), None) };
        let path = directory.join(FILE_NAME);
        if let Err(error) = make_directory(directory) {
            let warning = format!("overrides are not kept: {} cannot be made: {error}", directory.display());
            return (Store::in_memory(), Some(warning));
        }
        let mut store = Store { entries: Vec::new(), file: Some(path.clone()) };
        let warning = match read(&path) {
            Ok(entries) => {
                store.entries = entries;
                store.expire(now);
                store.entries.truncate(ENTRIES_MAX);
                None
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                let aside = path.with_extension("json.unreadable");
                let moved = std::fs::rename(&path, &aside);
                let what = match moved {
                    Ok(()) => format!("put aside as {}", aside.display()),
                    Err(error) => format!("and cannot be put aside: {error}"),
                };
                Some(format!("{} cannot be read ({error}), {what}: no override is in force", path.display()))
            }
        };
        (store, warning)
    }

    /// The file overrides are kept in.
    #[must_use]
    pub fn kept_in(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Overrides in force, oldest first.
    pub fn active(&self, now: UnixTime) -> impl Iterator<Item = &Override> {
        self.entries.iter().filter(move |entry| entry.expires_at_unix > now)
    }

    /// When the next override ends; nothing when none is in force.
    #[must_use]
    pub fn next_expiry(&self) -> Option<UnixTime> {
        self.entries.iter().map(|entry| entry.expires_at_unix).min()
    }

    /// Keeps an override and puts it into force, in the place of one of the same target.
    ///
    /// # Errors
    /// The store is full, or the file cannot be written; then nothing changed.
    pub fn put(&mut self, entry: Override, now: UnixTime) -> Result<(), StoreError> {
        let mut entries: Vec<Override> =
            self.active(now).filter(|other| !other.target.same_place(&entry.target)).cloned().collect();
        if entries.len() >= ENTRIES_MAX {
            return Err(StoreError::Full);
        }
        entries.push(entry);
        self.replace(entries)
    }

    /// Ends the override of this target. The answer is the one that ended.
    ///
    /// # Errors
    /// The file cannot be written; then nothing changed.
    pub fn remove(&mut self, target: &Target, now: UnixTime) -> Result<Option<Override>, StoreError> {
        let (gone, kept): (Vec<_>, Vec<_>) =
            self.active(now).cloned().partition(|entry| entry.target.same_place(target));
        let Some(ended) = gone.into_iter().next() else { return Ok(None) };
        self.replace(kept)?;
        Ok(Some(ended))
    }

    /// Takes out what has ended by itself. The file keeps it until the next change: an entry carries its own end.
    pub fn expire(&mut self, now: UnixTime) -> Vec<Override> {
        self.entries.extract_if(.., |entry| entry.expires_at_unix <= now).collect()
    }

    /// The settings with the overrides in force on top.
    #[must_use]
    pub fn effective(&self, base: &Settings, now: UnixTime) -> Settings {
        let mut settings = base.clone();
        for entry in self.active(now) {
            match &entry.target {
                Target::Limits { caller, limits } => {
                    let name: Arc<str> = caller.as_str().into();
                    let own = base.callers.get(&name).unwrap_or(&base.undeclared);
                    settings.callers.insert(name.clone(), limits.on(own));
                    settings.operator_callers.insert(name);
                }
                Target::SwitchOff { listener, feature } => {
                    let named = settings.listeners.iter_mut().filter(|other| *other.name == **listener);
                    named.for_each(|listener| feature.set(&mut listener.switches, false));
                }
                // no setting of the engines: the board has the list
                Target::Deny { .. } => {}
            }
        }
        settings
    }

    fn replace(&mut self, entries: Vec<Override>) -> Result<(), StoreError> {
        if let Some(path) = &self.file {
            write(path, &entries).map_err(|error| StoreError::Keep { path: path.clone(), error })?;
        }
        self.entries = entries;
        Ok(())
    }
}

fn make_directory(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

fn read(path: &Path) -> io::Result<Vec<Override>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(io::Error::other("it is too large"));
    }
    let kept: Kept = serde_json::from_slice(&bytes)?;
    if kept.version != FILE_VERSION {
        return Err(io::Error::other(format!("its version {} is not {FILE_VERSION}", kept.version)));
    }
    Ok(kept.overrides)
}

fn write(path: &Path, entries: &[Override]) -> io::Result<()> {
    let beside = path.with_extension("json.new");
    // Another user's file or link of this name is not written through: it is removed, and made anew.
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    serde_json::to_writer_pretty(&mut file, &KeptRef { version: FILE_VERSION, overrides: entries })?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}
