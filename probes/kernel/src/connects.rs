//! Connections to ports that somebody asks about, told one by one with the process that made each.
//!
//! A connect goes to SYN_SENT in the process that asked for it, before its port is chosen; it is established with both ends
//! known, but in whatever context the answer arrived. So the process is noted at the one and told at the other.

use aya_ebpf::helpers::generated::{bpf_get_current_uid_gid, bpf_ktime_get_boot_ns, bpf_probe_read_kernel};
use aya_ebpf::helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid};
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, LruHashMap, RingBuf};
use weir_probes_abi::connects::{self as abi, Begun, Connected, NetworkFields};
use weir_probes_abi::lost as counters;
use weir_probes_abi::settings::PORT_WORDS;
use weir_probes_abi::transitions::{CLOSE, ESTABLISHED, SYN_SENT};

use crate::states::Change;
use crate::{atomic, lost};

/// A bit for each port that somebody asks about. The reader writes it.
#[map]
static ASKED: Array<u64> = Array::with_max_entries(PORT_WORDS, 0);

/// Connects under way, by the socket's address in the kernel.
#[map]
static BEGUN: LruHashMap<u64, Begun> = LruHashMap::with_max_entries(abi::BEGUN, 0);

/// Connections that were made.
#[map]
static CONNECTED: RingBuf = RingBuf::with_byte_size(abi::RING, 0);

/// Connections that were made and could not be told of: the reader looks for them otherwise.
#[map]
static UNTOLD: Array<u64> = Array::with_max_entries(1, 0);

/// Patched by the loader.
#[unsafe(no_mangle)]
static NETWORK_FIELDS: NetworkFields = NetworkFields { namespace: 0, inode: 0 };

/// The reader comes by itself: nobody is woken for each connection.
const BPF_RB_NO_WAKEUP: u64 = 1;

#[inline(always)]
pub fn changed(change: &impl Change) {
    if !is_asked(change.remote_port()) {
        return;
    }
    match (change.from(), change.to()) {
        (CLOSE, SYN_SENT) => begun(change),
        (SYN_SENT, ESTABLISHED) => made(change),
        (SYN_SENT, _) => {
            let _ = BEGUN.remove(change.number());
        }
        _ => {}
    }
}

#[inline(always)]
fn is_asked(port: u16) -> bool {
    ASKED.get(u32::from(port) / 64).is_some_and(|word| word & (1 << (port % 64)) != 0)
}

#[inline(always)]
fn begun(change: &impl Change) {
    // SAFETY: neither has an argument.
    let (uid, when) = unsafe { (bpf_get_current_uid_gid() as u32, bpf_ktime_get_boot_ns()) };
    let begun = Begun {
        when,
        process: (bpf_get_current_pid_tgid() >> 32) as u32,
        uid,
        network: network(change.address()),
        zero: 0,
        comm: bpf_get_current_comm().unwrap_or([0; 16]),
    };
    // what finds no room is missed when it is made
    let _ = BEGUN.insert(change.number(), begun, 0);
}

/// The inode of the socket's namespace; 0 where it cannot be read.
#[inline(always)]
fn network(socket: *const u8) -> u32 {
    let (mut namespace, mut inode) = (0_u64, 0_u32);
    // SAFETY: a static of this object, volatile because the loader writes it; the helpers check every address, and the
    // destinations are as long as said.
    unsafe {
        let fields = core::ptr::read_volatile(&raw const NETWORK_FIELDS);
        let at = socket.wrapping_add(fields.namespace as usize);
        if bpf_probe_read_kernel((&raw mut namespace).cast(), 8, at.cast()) != 0 {
            return 0;
        }
        let at = (namespace as *const u8).wrapping_add(fields.inode as usize);
        if bpf_probe_read_kernel((&raw mut inode).cast(), 4, at.cast()) != 0 {
            return 0;
        }
    }
    inode
}

#[inline(always)]
fn made(change: &impl Change) {
    // SAFETY: copied at once; the socket of this address is being established, so nobody else writes the entry.
    let Some(begun) = (unsafe { BEGUN.get(change.number()) }).copied() else {
        // begun before anybody asked, or forgotten for newer ones
        return untold();
    };
    let _ = BEGUN.remove(change.number());
    let connected = Connected { begun, client: change.local(), server: change.remote() };
    if CONNECTED.output::<Connected>(connected, BPF_RB_NO_WAKEUP).is_err() {
        lost::count(counters::CONNECTS);
        untold();
    }
}

#[inline(always)]
fn untold() {
    if let Some(untold) = UNTOLD.get_ptr_mut(0) {
        // SAFETY: a pointer that the map gave, aligned as its type; the reader only reads it.
        unsafe { atomic::add(untold, 1) };
    }
}
