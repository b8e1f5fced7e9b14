//! What each probe could not keep.

use super::probe::{Probe, is_loaded};
use aya::Ebpf;
use aya::maps::MapError;
use std::os::fd::{AsFd as _, AsRawFd as _};

/// Events that a probe could not keep: its counters of `weir_probes_abi::lost`, and the times that the kernel did not
/// call its programs because another one was running on that CPU. `None` where that cannot be read.
#[must_use]
pub fn of(ebpf: &Ebpf, probe: &Probe) -> Option<u64> {
    let counted: u64 = probe.lost.iter().map(|counter| count(ebpf, *counter).ok()).sum::<Option<u64>>()?;
    let loaded = probe.programs.iter().chain(probe.shared).filter(|program| is_loaded(ebpf, program));
    let missed: u64 = loaded.map(|program| field(ebpf, program, "recursion_misses")).sum::<Option<u64>>()?;
    Some(counted.saturating_add(missed))
}

/// One counter, over all CPUs.
///
/// # Errors
///
/// When the map cannot be read.
pub fn count(ebpf: &Ebpf, counter: u32) -> Result<u64, MapError> {
    let map = ebpf.map("LOST").ok_or_else(|| MapError::InvalidName { name: "LOST".to_owned() })?;
    let map = aya::maps::PerCpuArray::<_, u64>::try_from(map)?;
    Ok(map.get(&counter, 0)?.iter().sum())
}

/// A number that the kernel shows of a loaded program (proc(5), `fdinfo`).
#[must_use]
pub fn field(ebpf: &Ebpf, program: &str, name: &str) -> Option<u64> {
    let descriptor = ebpf.program(program)?.fd().ok()?.as_fd().as_raw_fd();
    number(&std::fs::read_to_string(format!("/proc/self/fdinfo/{descriptor}")).ok()?, name)
}

fn number(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_fdinfo_is_found_by_its_whole_name() {
        let text = "pos:\t0\nprog_type:\t5\nrun_time_ns:\t1200\nrun_cnt:\t3\nrecursion_misses:\t2\n";
        assert_eq!(number(text, "recursion_misses"), Some(2));
        assert_eq!(number(text, "run_cnt"), Some(3));
        assert_eq!(number(text, "run"), None);
    }
}
