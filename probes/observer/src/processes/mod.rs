//! From a pid to the process: name, user, program file, unit; what is known of one that has exited is kept for a while.
//!
//! **A number is not a process.** Pids are used again, so everything is kept under pid *and* start time, each look-up reads
//! the start again, and whoever asks about an event says when it was: the process that had the pid then is meant
//! ([`Processes::at`]), not the one that has it now. What stands for a process is read anew when its short name has changed
//! (exec) and after [`DETAILS_KEPT`] (a user or a cgroup may change).
//!
//! What cannot be read stays `None`. Program file and network namespace of other users' processes need CAP_SYS_PTRACE.
//!
//! - [`cgroup`]: unit, container, pod from the cgroup path
//! - [`holders`]: which process holds a socket
//! - [`label`]: a process as a label value, bounded
//! - [`names`]: names for the numbers that the programs in the kernel tell
//! - [`read`]: one process's directory in `/proc`

pub mod cgroup;
pub mod holders;
pub mod label;
pub mod names;
pub mod read;

use crate::picture::Process;
use read::{Details, Directory, Stat};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Processes known at once. Beyond, those that exited first go first, then those not asked for for longest.
pub const KNOWN_MAX: usize = 4_096;
/// How long what was known of a process is kept after its exit: counters of the kernel's side still carry its pid.
pub const EXITED_KEPT: Duration = Duration::from_secs(600);
/// How long user, program file and unit of a running process are believed.
pub const DETAILS_KEPT: Duration = Duration::from_secs(5);

/// A process for good: no other one ever has the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcessId {
    /// The number it has, or had.
    pub pid: u32,
    /// When it started, in ticks of the clock since boot.
    pub start: u64,
}

/// A moment as the kernel's side tells it: CLOCK_BOOTTIME, in nanoseconds (`bpf_ktime_get_boot_ns`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SinceBoot(pub u64);

impl SinceBoot {
    /// Now.
    #[must_use]
    pub fn now() -> SinceBoot {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let (seconds, nanos) = (u64::try_from(now.tv_sec), u64::try_from(now.tv_nsec));
        SinceBoot(seconds.unwrap_or(0) * 1_000_000_000 + nanos.unwrap_or(0))
    }

    /// In ticks, rounded down as the kernel rounds starts.
    fn ticks(self) -> u64 {
        self.0 / (1_000_000_000 / procfs::ticks_per_second().max(1))
    }
}

/// What the kernel's side told of the process at an event. It stands in where the process was gone before anybody could
/// look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The name of the thread that caused the event: of a process with several threads perhaps not the process's.
    pub comm: String,
    /// Its user.
    pub uid: Option<u32>,
}

/// A process, and what is not shown of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Which one.
    pub id: ProcessId,
    /// What is shown.
    pub process: Arc<Process>,
    /// The inode of its network namespace.
    pub network: Option<u64>,
}

/// What happened in the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Processes read from `/proc`, those read again included.
    pub read: u64,
    /// Processes of which nothing could be read: they had exited, and only the kernel's word stands for them.
    pub told: u64,
    /// Processes forgotten for want of room although [`EXITED_KEPT`] was not over.
    pub evicted: u64,
}

/// The cache.
#[derive(Debug)]
pub struct Processes {
    root: PathBuf,
    entries: BTreeMap<ProcessId, Entry>,
    most: usize,
    counts: Counts,
}

#[derive(Debug)]
struct Entry {
    process: Arc<Process>,
    network: Option<u64>,
    read_at: Instant,
    used_at: Instant,
    gone_at: Option<Instant>,
}

impl Processes {
    /// Of this system.
    #[must_use]
    pub fn of_this_system() -> Processes {
        Processes::under(Path::new("/proc"), KNOWN_MAX)
    }

    /// Of the proc file system that is mounted at `root`; at most `most` are kept.
    #[must_use]
    pub fn under(root: &Path, most: usize) -> Processes {
        Processes {
            root: root.to_path_buf(),
            entries: BTreeMap::new(),
            most: most.max(1),
            counts: Counts::default(),
        }
    }

    /// The process that has the pid, or else the one that had it last. `None`: nothing is known.
    pub fn latest(&mut self, pid: u32, now: Instant) -> Option<Known> {
        self.look(pid, now);
        self.pick(ProcessId { pid, start: u64::MAX }, now)
    }

    /// The process that had the pid at that moment. `None`: it exited before anybody looked.
    pub fn at(&mut self, pid: u32, when: SinceBoot, now: Instant) -> Option<Known> {
        self.look(pid, now);
        self.pick(ProcessId { pid, start: when.ticks() }, now)
    }

    /// The same, and where nothing is known what the kernel told stands for it, from now on.
    pub fn at_or_told(&mut self, pid: u32, when: SinceBoot, told: &Told, now: Instant) -> Known {
        if let Some(known) = self.at(pid, when, now) {
            return known;
        }
        self.counts.told += 1;
        // Its start is not known, only that it was before: later events of the same process find it there.
        let id = ProcessId { pid, start: when.ticks() };
        let process = Process {
            pid,
            comm: told.comm.clone(),
            uid: told.uid,
            executable: None,
            unit: None,
            ended: false,
        };
        let process = Arc::new(process);
        let entry =
            Entry { process: process.clone(), network: None, read_at: now, used_at: now, gone_at: Some(now) };
        self.insert(id, entry, now);
        Known { id, process, network: None }
    }

    /// How many are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What happened so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Brings the entries of a pid up to date.
    fn look(&mut self, pid: u32, now: Instant) {
        let found = Directory::open(&self.root, pid)
            .and_then(|directory| directory.stat().map(|stat| (directory, stat)));
        let id = found.as_ref().map(|(_, stat)| ProcessId { pid, start: stat.start });
        for (_, entry) in self.entries.range_mut(of_pid(pid)).filter(|(other, _)| Some(**other) != id) {
            entry.gone_at.get_or_insert(now);
        }
        if let Some((directory, stat)) = found {
            self.refresh(ProcessId { pid, start: stat.start }, &directory, stat, now);
        }
    }

    fn refresh(&mut self, id: ProcessId, directory: &Directory, stat: Stat, now: Instant) {
        let old = self.entries.get(&id);
        if let Some(old) = old {
            let is_fresh = now.saturating_duration_since(old.read_at) < DETAILS_KEPT;
            // Of one that is about to go less can be read than is known.
            if old.process.comm == stat.comm && (is_fresh || stat.is_zombie) {
                return;
            }
        }
        self.counts.read += 1;
        let Details { uid, executable, unit, network } = directory.details();
        let process = Arc::new(Process { pid: id.pid, comm: stat.comm, uid, executable, unit, ended: false });
        let entry = Entry { process, network, read_at: now, used_at: now, gone_at: None };
        self.insert(id, entry, now);
    }

    /// The last process of this pid that started at or before that.
    fn pick(&mut self, latest: ProcessId, now: Instant) -> Option<Known> {
        let from = ProcessId { pid: latest.pid, start: 0 };
        let (id, entry) = self.entries.range_mut(from..=latest).next_back()?;
        if is_over(entry, now) {
            let id = *id;
            self.entries.remove(&id);
            return None;
        }
        entry.used_at = now;
        Some(Known { id: *id, process: entry.process.clone(), network: entry.network })
    }

    fn insert(&mut self, id: ProcessId, entry: Entry, now: Instant) {
        if self.entries.len() >= self.most && !self.entries.contains_key(&id) {
            self.entries.retain(|_, entry| !is_over(entry, now));
            if self.entries.len() >= self.most {
                self.evict();
            }
        }
        self.entries.insert(id, entry);
    }

    /// An eighth at a time, so that a crowd of short-lived processes does not sort the whole for each of them.
    fn evict(&mut self) {
        let mut order: Vec<_> = self
            .entries
            .iter()
            .map(|(id, entry)| ((entry.gone_at.is_none(), entry.gone_at.unwrap_or(entry.used_at)), *id))
            .collect();
        order.sort_unstable();
        let go = (self.most / 8).max(1);
        for (_, id) in order.into_iter().take(go) {
            self.entries.remove(&id);
            self.counts.evicted += 1;
        }
    }
}

fn of_pid(pid: u32) -> std::ops::RangeInclusive<ProcessId> {
    ProcessId { pid, start: 0 }..=ProcessId { pid, start: u64::MAX }
}

fn is_over(entry: &Entry, now: Instant) -> bool {
    entry.gone_at.is_some_and(|gone| now.saturating_duration_since(gone) >= EXITED_KEPT)
}

#[cfg(test)]
mod tests;
