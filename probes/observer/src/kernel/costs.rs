//! What the programs cost, by the kernel's own count. It counts only while `kernel.bpf_stats_enabled` is 1, because
//! counting costs as well; whoever wants to know turns it on for a while.

use super::lost::field;
use crate::picture::ProgramCost;
use aya::Ebpf;
use std::time::Duration;

const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// Whether the kernel counts now.
#[must_use]
pub fn are_counted() -> bool {
    std::fs::read_to_string(SWITCH).is_ok_and(|text| text.trim() == "1")
}

/// Runs and time of every program that is loaded, since the kernel began to count; `None` where it does not say.
#[must_use]
pub fn read(ebpf: &Ebpf) -> Option<Vec<ProgramCost>> {
    // What is not loaded has no descriptor.
    let loaded = ebpf.programs().filter(|(_, program)| program.fd().is_ok());
    let mut costs: Vec<ProgramCost> = loaded
        .map(|(name, _)| {
            Some(ProgramCost {
                program: name.to_owned(),
                runs: field(ebpf, name, "run_cnt")?,
                time: Duration::from_nanos(field(ebpf, name, "run_time_ns")?),
            })
        })
        .collect::<Option<_>>()?;
    costs.sort_by(|one, two| one.program.cmp(&two.program));
    Some(costs)
}
