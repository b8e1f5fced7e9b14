//! Processes on cores of their own: the database is another machine's in life, and here must not take the cores of those
//! who are measured. Nor do those who are measured wait for a core that memcached or a caller has: these, too, have machines of
//! their own in life, and are run as soon as they have work.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::process;

/// Half of the cores.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Half {
    /// Those who are measured, memcached included.
    Measured,
    /// The database, and who calls for the batches.
    Rest,
}

/// Processes that were given a half of the cores; dropping it gives them all cores back.
#[derive(Default)]
pub struct Apart {
    moved: Vec<(u32, CpuSet)>,
    hurried: Vec<u32>,
}

impl Apart {
    /// Gives this process, all threads that it has, one half of the cores that this program may use.
    pub fn put(&mut self, pid: u32, half: Half) -> Result<()> {
        let all = sched_getaffinity(None).context("which cores there are")?;
        let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|core| all.is_set(*core)).collect();
        let mut set = CpuSet::new();
        halves(&cores, half).iter().for_each(|core| set.set(*core));
        self.moved.push((pid, all));
        give(pid, &set).with_context(|| format!("moving process {pid}"))
    }

    /// Has the kernel run this process before all others as soon as it has work (`SCHED_RR`), as if its core were its own.
    pub fn at_once(&mut self, pid: u32) -> Result<()> {
        self.hurried.push(pid);
        schedule(pid, "--rr", 1)
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        for (pid, all) in &self.moved {
            // One that has ended needs no cores.
            let _ = give(*pid, all);
        }
        for pid in &self.hurried {
            let _ = schedule(*pid, "--other", 0);
        }
    }
}

/// One core cannot be halved: then both have it.
fn halves(cores: &[usize], half: Half) -> &[usize] {
    let (first, second) = cores.split_at(cores.len() / 2);
    match half {
        Half::Measured if !first.is_empty() => first,
        Half::Measured | Half::Rest => second,
    }
}

fn give(pid: u32, set: &CpuSet) -> Result<()> {
    // A thread that is made meanwhile has the cores of the one that makes it: the second pass finds the last of them.
    for _ in 0..2 {
        for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
            let id = thread?.file_name().to_string_lossy().parse().ok().and_then(Pid::from_raw);
            // A thread may have ended since.
            let _ = sched_setaffinity(Some(id.context("a thread's number")?), set);
        }
    }
    Ok(())
}

/// By util-linux' chrt: for all threads that it has.
fn schedule(pid: u32, policy: &str, priority: u32) -> Result<()> {
    let mut chrt = Command::new("chrt");
    chrt.args(["--all-tasks", policy, "--pid", &priority.to_string(), &pid.to_string()]);
    let done = process::run("chrt", &mut chrt, Duration::from_secs(10))?;
    ensure!(done.status.success(), "chrt {policy} (it takes root, or CAP_SYS_NICE): {}", done.stderr.trim());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_halved() {
        assert_eq!((halves(&[0, 1], Half::Measured), halves(&[0, 1], Half::Rest)), (&[0][..], &[1][..]));
        assert_eq!(halves(&[2, 3, 5], Half::Rest), [3, 5]);
        assert_eq!((halves(&[7], Half::Measured), halves(&[7], Half::Rest)), (&[7][..], &[7][..]));
    }

    #[test]
    fn a_process_is_moved_and_given_back_what_it_had() {
        let mut child = std::process::Command::new("sleep").arg("20").spawn().unwrap();
        let cores = |pid: u32| -> Vec<bool> {
            let set = sched_getaffinity(Pid::from_raw(pid as i32)).unwrap();
            (0..CpuSet::MAX_CPU).map(|core| set.is_set(core)).collect()
        };
        let before = cores(child.id());
        let mut apart = Apart::default();
        apart.put(child.id(), Half::Rest).unwrap();
        let count = before.iter().filter(|is| **is).count();
        assert_eq!(cores(child.id()).iter().filter(|is| **is).count(), count - count / 2);
        drop(apart);
        assert_eq!(cores(child.id()), before);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
