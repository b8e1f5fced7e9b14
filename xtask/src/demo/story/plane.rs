//! The data plane as it runs in an act: its log is counted and kept nowhere, its memory is watched, and when it has ended it is
//! started again, as a supervisor does.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::proc;
use crate::process::{Running, Stream};

/// Resident memory, KiB, above which the data plane is ended, as the kernel ended it in April: far above what it needs, and far
/// below what hurts the machine.
pub const MEMORY_MAX: u64 = 512 * 1024;
/// How long the first start may take.
const START: Duration = Duration::from_secs(60);
/// The pause before it is started again.
const AGAIN: Duration = Duration::from_secs(1);

/// What its log said.
#[derive(Debug, Default)]
struct Log {
    lines: AtomicU64,
    binds: AtomicU64,
    connects: AtomicU64,
}

impl Log {
    fn read(&self, line: &str) {
        self.lines.fetch_add(1, Ordering::Relaxed);
        if line.contains(": bind: ") {
            self.binds.fetch_add(1, Ordering::Relaxed);
        } else if line.contains(": connect: ") {
            self.connects.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What happened to it so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lived {
    /// Lines of its log.
    pub lines: u64,
    /// Connections to memcached that could not be made.
    pub failed_dials: u64,
    /// Times it was ended for its memory, or ended by itself after it had served.
    pub ended: u64,
    /// Starts that failed.
    pub failed_starts: u64,
    /// Resident memory, KiB: now, and the most so far of all its lives.
    pub memory: u64,
    /// See `memory`.
    pub memory_most: u64,
}

/// The data plane.
pub struct Plane {
    program: PathBuf,
    words: Vec<String>,
    running: Running,
    log: Arc<Log>,
    up: bool,
    /// When it is started again.
    again: Option<Instant>,
    lived: Lived,
}

impl Plane {
    /// Starts `weir-dataplane serve` with these options and waits until it serves.
    pub fn start(program: PathBuf, words: Vec<String>) -> Result<Self> {
        let log = Arc::new(Log::default());
        let mut running = spawn(&program, &words, &log)?;
        running.wait_for_line(START, is_ready).context("the data plane")?;
        Ok(Self { program, words, running, log, up: true, again: None, lived: Lived::default() })
    }

    /// Its process id, while it lives.
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// What happened to it so far.
    pub fn lived(&self) -> Lived {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let failed_dials = of(&self.log.binds) + of(&self.log.connects);
        Lived { lines: of(&self.log.lines), failed_dials, ..self.lived }
    }

    /// Looks after it; several times a second.
    pub fn look(&mut self) -> Result<()> {
        if let Some(at) = self.again {
            if Instant::now() < at {
                return Ok(());
            }
            self.again = None;
            self.running = spawn(&self.program, &self.words, &self.log)?;
        }
        while let Some((stream, line)) = self.running.line(Duration::ZERO) {
            self.up |= stream == Stream::Out && is_ready(&line);
        }
        if let Some(status) = self.running.poll()? {
            let counter = if self.up { &mut self.lived.ended } else { &mut self.lived.failed_starts };
            *counter += 1;
            if *counter == 1 {
                let what =
                    if self.up { "the data plane ended" } else { "the data plane does not start again" };
                println!("  {what} ({status})");
            }
            self.down();
            return Ok(());
        }
        let Ok(memory) = proc::memory(self.running.pid()) else { return Ok(()) };
        self.lived.memory = memory.resident;
        self.lived.memory_most = self.lived.memory_most.max(memory.peak);
        if memory.resident > MEMORY_MAX {
            println!("  the data plane has more than {} MiB: killed, as in April", MEMORY_MAX / 1024);
            self.running.kill()?;
            self.lived.ended += 1;
            self.down();
        }
        Ok(())
    }

    fn down(&mut self) {
        self.up = false;
        self.lived.memory = 0;
        self.again = Some(Instant::now() + AGAIN);
    }

    /// An error where it does not serve now.
    pub fn must_serve(&self) -> Result<()> {
        if !self.up {
            bail!("the data plane does not serve");
        }
        Ok(())
    }
}

fn spawn(program: &Path, words: &[String], log: &Arc<Log>) -> Result<Running> {
    let log = log.clone();
    let mut command = Command::new(program);
    Running::spawn_watched("weir-dataplane", command.arg("serve").args(words), move |line| log.read(line))
}

fn is_ready(line: &str) -> bool {
    line.trim_end().ends_with("ready")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_dials_are_told_from_other_lines() {
        let log = Log::default();
        for line in [
            "weir-dataplane: at://a/b/c: dial tcp 127.0.0.1:0->127.0.0.1:11211: bind: Address already in use (os error 98)",
            "weir-dataplane: at://a/b/c: dial tcp 127.0.0.1:0->127.0.0.1:11211: connect: Cannot assign requested address",
            "weir-dataplane: at://a/b/c: not in the cache",
        ] {
            log.read(line);
        }
        let counts = [&log.lines, &log.binds, &log.connects].map(|counter| counter.load(Ordering::Relaxed));
        assert_eq!(counts, [3, 1, 1]);
    }
}
