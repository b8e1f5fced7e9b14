//! The end of a run by Ctrl-C, SIGTERM or SIGHUP: every process group that was started and still lives is ended, and what
//! was promised to be removed is removed. Besides counters, this register is the one thing the program shares between its
//! threads.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process_group};

/// How long what was started may take to end itself after SIGTERM before it is killed.
pub const GRACE: Duration = Duration::from_secs(5);

/// How long what was killed may take to be gone.
const KILLED: Duration = Duration::from_secs(2);

/// Set for a part of this program that was started by this program.
pub const INSIDE: &str = "WEIR_XTASK_INSIDE";

/// What an interrupt has to end and to remove.
struct Live {
    groups: Vec<Pid>,
    files: Vec<PathBuf>,
}

static LIVE: Mutex<Live> = Mutex::new(Live { groups: Vec::new(), files: Vec::new() });
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

fn live() -> MutexGuard<'static, Live> {
    LIVE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Starts something in a process group of its own and notes the group. The register is held meanwhile: an interrupt
/// either sees the new group or comes before it exists.
pub fn start<T>(spawn: impl FnOnce() -> Result<(T, Pid)>) -> Result<T> {
    hold_if_interrupted();
    let mut live = live();
    let (started, group) = spawn()?;
    live.groups.push(group);
    Ok(started)
}

/// A group that has ended and need not be ended again.
pub fn ended(group: Pid) {
    live().groups.retain(|other| *other != group);
}

/// Starts the thread that waits for an interrupt.
pub fn watch() -> Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let mut signals =
        signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot watch for Ctrl-C")?;
    thread::Builder::new().name("interrupt".into()).spawn(move || {
        if let Some(signal) = signals.forever().next() {
            INTERRUPTED.store(true, Ordering::SeqCst);
            if std::env::var_os(INSIDE).is_none() {
                eprintln!("\ninterrupted: ending what was started");
            }
            end_everything();
            std::process::exit(128 + signal);
        }
    })?;
    Ok(())
}

fn end_everything() {
    let groups = live().groups.clone();
    for group in &groups {
        signal_group(*group, Signal::TERM);
    }
    // A part of this program inside a namespace ends its own children first; this one waits for it longer.
    let patience = if std::env::var_os(INSIDE).is_some() { GRACE } else { GRACE * 2 };
    let deadline = Instant::now() + patience;
    while groups.iter().any(|group| group_lives(*group)) && Instant::now() < deadline {
        reap(&groups);
        thread::sleep(Duration::from_millis(20));
    }
    for group in &groups {
        signal_group(*group, Signal::KILL);
    }
    // What is killed may still write for a moment, and a folder that is written to cannot be removed.
    let deadline = Instant::now() + KILLED;
    while groups.iter().any(|group| group_lives(*group)) && Instant::now() < deadline {
        reap(&groups);
        thread::sleep(Duration::from_millis(5));
    }
    for path in std::mem::take(&mut live().files) {
        remove(&path);
    }
}

/// A child that ended but was not waited for still counts as alive.
fn reap(groups: &[Pid]) {
    for group in groups {
        let _none_left = rustix::process::waitpgid(*group, rustix::process::WaitOptions::NOHANG);
    }
}

/// A group that is gone already answers with an error, which is what was wanted.
pub fn signal_group(group: Pid, signal: Signal) {
    let _gone_already = kill_process_group(group, signal);
}

/// Whether a process of the group is left, ended but not waited for included.
pub fn group_lives(group: Pid) -> bool {
    rustix::process::test_kill_process_group(group).is_ok()
}

/// When an interrupt is being handled nothing new is started: the caller sleeps until the process ends.
pub fn hold_if_interrupted() {
    while INTERRUPTED.load(Ordering::SeqCst) {
        thread::sleep(Duration::from_millis(50));
    }
}

/// A file or folder that is removed when this is dropped, and on an interrupt too.
pub struct Temporary(PathBuf);

impl Temporary {
    /// Promises to remove `path`; it need not exist yet.
    pub fn promise(path: &Path) -> Self {
        live().files.push(path.to_path_buf());
        Self(path.to_path_buf())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        live().files.retain(|path| path != &self.0);
        remove(&self.0);
    }
}

fn remove(path: &Path) {
    let _gone_already =
        if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promised_file_is_removed() {
        let path = std::env::temp_dir().join(format!("weir-xtask-{}", std::process::id()));
        let promise = Temporary::promise(&path);
        std::fs::write(&path, "x").unwrap();
        drop(promise);
        assert!(!path.exists());
    }
}
