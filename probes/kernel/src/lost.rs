//! Counters of what could not be kept. The loader reads them; see `weir_probes_abi::lost` for what each one means.

use aya_ebpf::macros::map;
use aya_ebpf::maps::PerCpuArray;
use weir_probes_abi::lost::COUNTERS;

#[map]
static LOST: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTERS, 0);

/// Counts one.
#[inline(always)]
pub fn count(counter: u32) {
    if let Some(value) = LOST.get_ptr_mut(counter) {
        // SAFETY: a pointer that the map gave, to this CPU's value; a tracing program is not interrupted by another one
        // on the same CPU.
        unsafe { *value += 1 };
    }
}
