//! Connections that weir itself established to watched destinations, for the loader to compare with what weir says. Who
//! dialled is known when the connection is begun; when it stands, whatever interrupt brought the answer runs in anybody's
//! name, so that the socket is remembered in between.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LruHashMap};
use weir_probes_abi::transitions::{CLOSE, ESTABLISHED, SYN_SENT};
use weir_probes_abi::{fold, lost as counters, witness as abi};

use crate::states::Change;
use crate::{atomic, lost};

/// weir's own processes. The loader writes it.
#[map]
static OWN: HashMap<u32, u32> = HashMap::with_max_entries(abi::OWN, 0);

/// The slot of the destination of each connection that is being made, by socket.
#[map]
static DIALLED: LruHashMap<u64, u32> = LruHashMap::with_max_entries(abi::DIALLED, 0);

/// Connections that were established, by slot.
#[map]
static OPENED: Array<u64> = Array::with_max_entries(abi::OPENED, 0);

/// `slot`: of the other end.
#[inline(always)]
pub fn changed(change: &impl Change, slot: u32) {
    match (change.from(), change.to()) {
        (CLOSE, SYN_SENT) => begun(change.number(), slot),
        (SYN_SENT, to) => decided(change.number(), to == ESTABLISHED),
        _ => {}
    }
}

#[inline(always)]
fn begun(socket: u64, slot: u32) {
    let process = (bpf_get_current_pid_tgid() >> 32) as u32;
    if OWN.get_ptr(process).is_none() {
        return;
    }
    if slot < fold::OTHER && DIALLED.insert(socket, slot, 0).is_err() {
        lost::count(counters::DIALLED);
    }
}

#[inline(always)]
fn decided(socket: u64, stands: bool) {
    // SAFETY: copied at once; a socket changes its state under its own lock, so nobody else writes the entry.
    let Some(slot) = unsafe { DIALLED.get(socket) }.copied() else { return };
    let _ = DIALLED.remove(socket);
    if stands && let Some(opened) = OPENED.get_ptr_mut(slot) {
        // SAFETY: a pointer that the map gave, aligned as its type; only used atomically.
        unsafe { atomic::add(opened, 1) };
    }
}
