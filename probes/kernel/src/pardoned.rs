//! Processes whose dealings with storage are their own affair: weir, and who is on the allow-list.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::macros::map;
use aya_ebpf::maps::HashMap;
use weir_probes_abi::bypass::PARDONED as BOUND;

/// By process. The loader writes it.
#[map]
static PARDONED: HashMap<u32, u32> = HashMap::with_max_entries(BOUND, 0);

/// The process that runs, unless it is pardoned.
#[inline(always)]
pub fn accused() -> Option<u32> {
    let process = (bpf_get_current_pid_tgid() >> 32) as u32;
    // the idle thread and interrupts in it are nobody's
    (process != 0 && PARDONED.get_ptr(process).is_none()).then_some(process)
}
