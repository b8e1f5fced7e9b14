//! What a run costs: CPU time of the tool itself and of processes it is told to watch, their memory, and the limit
//! on open files.
//!
//! CPU times come in nanoseconds (the process clock, and `schedstat` of every thread for others), since the ticks
//! of `/proc/PID/stat` are 10 ms each. Ticks serve for the split of the tool's own time into user and system, and
//! where threads of a watched process ended (`schedstat` forgets those).

use anyhow::{Context, Result, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::str::FromStr;

/// A process to watch, `NAME=PID` on the command line.
#[derive(Clone, Debug)]
pub struct Watched {
    name: String,
    pid: u32,
}

impl FromStr for Watched {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, pid) = text.split_once('=').ok_or("expected NAME=PID")?;
        let pid = pid.parse().map_err(|_| "expected NAME=PID with a number as PID")?;
        Ok(Self { name: name.to_owned(), pid })
    }
}

/// CPU time spent in a window, by this tool or a watched process.
#[derive(Clone, Debug, Serialize)]
pub struct CpuUse {
    /// CPU seconds in the window.
    pub cpu_seconds: f64,
    /// Per finished operation in the window; 0 without any.
    pub us_per_operation: f64,
    /// Per key in the window; 0 without any.
    pub us_per_key: f64,
}

/// The tool's own CPU time in a window.
#[derive(Clone, Debug, Serialize)]
pub struct OwnCpu {
    /// Total.
    #[serde(flatten)]
    pub total: CpuUse,
    /// User part per operation, from ticks (10 ms).
    pub user_us_per_operation: f64,
    /// System part per operation, from ticks (10 ms).
    pub system_us_per_operation: f64,
}

/// A watched process over a window.
#[derive(Clone, Debug, Serialize)]
pub struct WatchedUse {
    /// Its CPU time.
    #[serde(flatten)]
    pub cpu: CpuUse,
    /// Resident memory when the window opened, KiB.
    pub rss_start_kib: u64,
    /// Resident memory when the window closed, KiB.
    pub rss_end_kib: u64,
    /// Most resident memory in the process's life, KiB.
    pub rss_peak_kib: u64,
    /// Open file descriptors when the window closed; absent when they may not be counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_files: Option<u64>,
}

/// Readings at one moment.
pub struct Reading {
    own: f64,
    user_ticks: u64,
    system_ticks: u64,
    others: Vec<Other>,
}

/// A watched process at one moment.
#[derive(Default)]
struct Other {
    threads_seconds: f64,
    ticks: u64,
    rss_kib: u64,
}

impl Other {
    fn take(pid: u32) -> Self {
        let ticks = ticks(&pid.to_string()).map_or(0, |(user, system)| user + system);
        Self { threads_seconds: process_cpu(pid).unwrap_or(0.0), ticks, rss_kib: memory(pid, "VmRSS:") }
    }

    fn seconds_until(&self, end: &Self) -> f64 {
        // Two numbers of ticks may each be cut by almost one at either end.
        let by_ticks = end.ticks.saturating_sub(self.ticks).saturating_sub(2) as f64 / 100.0;
        (end.threads_seconds - self.threads_seconds).max(by_ticks).max(0.0)
    }
}

impl Reading {
    /// Reads now. A watched process that is gone reads as 0.
    pub fn take(watched: &[Watched]) -> Self {
        let (user_ticks, system_ticks) = ticks("self").unwrap_or_default();
        let others = watched.iter().map(|process| Other::take(process.pid)).collect();
        Self { own: own_cpu(), user_ticks, system_ticks, others }
    }

    /// The tool's CPU time from this reading to `end`.
    pub fn own_until(&self, end: &Self, operations: u64, keys: u64) -> OwnCpu {
        let total = share(end.own - self.own, operations, keys);
        let (user, system) = (end.user_ticks - self.user_ticks, end.system_ticks - self.system_ticks);
        let user_share = if user + system == 0 { 0.0 } else { user as f64 / (user + system) as f64 };
        OwnCpu {
            user_us_per_operation: round(total.us_per_operation * user_share),
            system_us_per_operation: round(total.us_per_operation * (1.0 - user_share)),
            total,
        }
    }

    /// The watched processes from this reading to `end`.
    pub fn watched_until(
        &self,
        end: &Self,
        watched: &[Watched],
        operations: u64,
        keys: u64,
    ) -> BTreeMap<String, WatchedUse> {
        let pairs = watched.iter().zip(self.others.iter().zip(&end.others));
        pairs
            .map(|(process, (from, to))| {
                let open_files =
                    fs::read_dir(format!("/proc/{}/fd", process.pid)).ok().map(|all| all.count() as u64);
                let used = WatchedUse {
                    cpu: share(from.seconds_until(to), operations, keys),
                    rss_start_kib: from.rss_kib,
                    rss_end_kib: to.rss_kib,
                    rss_peak_kib: memory(process.pid, "VmHWM:"),
                    open_files,
                };
                (process.name.clone(), used)
            })
            .collect()
    }
}

fn share(seconds: f64, operations: u64, keys: u64) -> CpuUse {
    let per = |count: u64| if count == 0 { 0.0 } else { round(seconds * 1e6 / count as f64) };
    CpuUse { cpu_seconds: round(seconds), us_per_operation: per(operations), us_per_key: per(keys) }
}

/// Three digits after the point.
pub fn round(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

fn own_cpu() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// User and system time of a process in ticks of 10 ms.
fn ticks(pid: &str) -> Option<(u64, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in brackets may hold spaces; user and system time are the 12th and 13th words after it.
    let mut words = stat[stat.rfind(')')? + 1..].split_ascii_whitespace().skip(11);
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

/// CPU seconds of all threads that are alive.
fn process_cpu(pid: u32) -> Option<f64> {
    let mut nanoseconds = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        let Ok(text) = fs::read_to_string(task.path().join("schedstat")) else { continue };
        nanoseconds += text.split(' ').next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
    }
    Some(nanoseconds as f64 / 1e9)
}

fn memory(pid: u32, field: &str) -> u64 {
    let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { return 0 };
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

/// Descriptors the tool needs besides its connections.
const RESERVE: u64 = 32;

/// Makes room for `connections` open files: raises the soft limit to the hard one, and the hard one where that is
/// allowed. Returns how many connections fit.
pub fn raise_open_files(connections: u64) -> u64 {
    let want = connections.saturating_add(RESERVE);
    let limit = getrlimit(Resource::Nofile);
    let (soft, hard) = (limit.current.unwrap_or(u64::MAX), limit.maximum.unwrap_or(u64::MAX));
    if soft < want {
        let beyond = Rlimit { current: Some(want.max(hard)), maximum: Some(want.max(hard)) };
        if hard >= want || setrlimit(Resource::Nofile, beyond).is_err() {
            // Raising the soft limit to the hard one is always allowed.
            let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(hard), maximum: Some(hard) });
        }
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX).saturating_sub(RESERVE)
}

/// Like [`raise_open_files`], for scenarios that are pointless with fewer connections.
pub fn require_open_files(connections: u64) -> Result<()> {
    let fit = raise_open_files(connections);
    if fit < connections {
        bail!(
            "{connections} connections need more open files than the limit allows ({fit} fit): raise `ulimit -n`"
        );
    }
    Ok(())
}

/// Names this process (main thread), as seen in /proc/self/comm: at most 15 bytes are kept by the kernel.
pub fn set_process_name(name: &str) -> Result<()> {
    let name = std::ffi::CString::new(name).context("a process name holds no NUL")?;
    rustix::thread::set_name(&name).context("prctl(PR_SET_NAME)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_works_uses_cpu_and_has_memory() {
        let me = Watched { name: "me".into(), pid: std::process::id() };
        let start = Reading::take(std::slice::from_ref(&me));
        let began = own_cpu();
        while own_cpu() - began < 0.1 {}
        let end = Reading::take(std::slice::from_ref(&me));
        let own = start.own_until(&end, 10, 100);
        assert!(own.total.cpu_seconds >= 0.1, "{own:?}");
        let watched = start.watched_until(&end, &[me], 10, 100);
        assert!(watched["me"].cpu.cpu_seconds > 0.01 && watched["me"].rss_end_kib > 100, "{watched:?}");
    }
}
