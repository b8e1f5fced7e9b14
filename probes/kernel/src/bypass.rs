//! Who connects to watched destinations without weir. A connect goes to SYN_SENT in the process that asked for it, so the
//! state change names it, whatever call it was made with.

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::helpers::bpf_get_current_comm;
use aya_ebpf::helpers::generated::{
    bpf_get_current_cgroup_id, bpf_get_current_uid_gid, bpf_ktime_get_boot_ns,
};
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap};
use weir_probes_abi::bypass::{self as abi, Caller, CallerKey};
use weir_probes_abi::lost as counters;

use crate::{atomic, lost, pardoned};

/// Connections by process.
#[map]
static CALLERS: HashMap<CallerKey, Caller> = HashMap::with_max_entries(abi::CALLERS, 0);

/// Connections of those that found no room there.
#[map]
static NAMELESS: Array<u64> = Array::with_max_entries(abi::NAMELESS, 0);

/// A connection to the watched destination of this slot is begun.
#[inline(always)]
pub fn begun(slot: u32) {
    if let Some(process) = pardoned::accused() {
        count(process, slot);
    }
}

#[inline(always)]
fn count(process: u32, slot: u32) {
    // SAFETY: neither has an argument.
    let (cgroup, uid) = unsafe { (bpf_get_current_cgroup_id(), bpf_get_current_uid_gid() as u32) };
    let key = CallerKey { cgroup, process, uid, slot, zero: 0 };
    if add(&key) {
        return;
    }
    // SAFETY: no argument.
    let seen = unsafe { bpf_ktime_get_boot_ns() };
    let first = Caller { connections: 1, seen, comm: bpf_get_current_comm().unwrap_or([0; 16]) };
    if CALLERS.insert(&key, &first, u64::from(BPF_NOEXIST)).is_ok() || add(&key) {
        return; // or another CPU was first
    }
    lost::count(counters::FOLDED_CALLERS);
    if let Some(nameless) = NAMELESS.get_ptr_mut(slot) {
        // SAFETY: a pointer that the map gave, aligned as its type.
        unsafe { atomic::add(nameless, 1) };
    }
}

#[inline(always)]
fn add(key: &CallerKey) -> bool {
    let Some(caller) = CALLERS.get_ptr_mut(key) else { return false };
    // SAFETY: a pointer that the map gave, aligned as its type. The reader takes an entry out when its process is gone,
    // and then nobody counts in it.
    unsafe { atomic::add(&raw mut (*caller).connections, 1) };
    true
}
