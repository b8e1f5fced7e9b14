//! Every state change of a TCP socket, counted by destination and direction; life-times of connections to and from
//! watched places. TIME_WAIT never shows here: a socket in it is another object, see `sockets` of the observer.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::macros::map;
use aya_ebpf::maps::PerCpuArray;
use weir_probes_abi::fold::{self, INCOMING, OUTGOING};
use weir_probes_abi::lost as counters;
use weir_probes_abi::transitions::{CLOSE, ESTABLISHED, LISTEN, Row, SYN_RECV, SYN_SENT, bucket, step};

use crate::states::Change;
use crate::{lives, lost, places};

/// Counts by destination and direction.
#[map]
static ROWS: PerCpuArray<Row> = PerCpuArray::with_max_entries(fold::ROWS, 0);

/// Counts a change; both its states were compared with the bound. `remote` is the slot of the other end.
#[inline(always)]
pub fn changed(change: &impl Change, remote: u32) {
    let (from, to) = (change.from(), change.to());
    let (slot, direction) = place(change, remote);
    let Some(row) = ROWS.get_ptr_mut(fold::row(slot, direction)) else { return };
    // SAFETY: a pointer that the map gave, to this CPU's value; both states were compared with the bound. The kernel does
    // not call a program for what happens on a CPU while it runs there.
    unsafe { *(&raw mut (*row).steps).cast::<u64>().add(step(from, to) as usize) += 1 };
    if slot == fold::OTHER {
        return;
    }
    let begun = (from == CLOSE && to == SYN_SENT) || (from == SYN_RECV && to == ESTABLISHED);
    // The begin of an outgoing connection is the connect, of an incoming one the moment it could be accepted.
    if begun {
        // SAFETY: no argument.
        if !lives::begin(change.number(), unsafe { bpf_ktime_get_ns() }) {
            lost::count(counters::LIVES);
        }
    } else if to == CLOSE && from != LISTEN {
        close(change.number(), from, row);
    }
}

/// The end of a connection: its life-time, when it was established at all and its begin is known.
#[inline(always)]
fn close(socket: u64, from: u32, row: *mut Row) {
    let begun = lives::end(socket);
    if from == SYN_SENT || from == SYN_RECV {
        return;
    }
    // SAFETY: see `changed`; the bucket is below the bound by how it is made.
    unsafe {
        let Some(begun) = begun else {
            (*row).unknown_lives += 1;
            return;
        };
        let microseconds = bpf_ktime_get_ns().saturating_sub(begun) / 1000;
        (*row).lived_microseconds += microseconds;
        *(&raw mut (*row).lives).cast::<u64>().add(bucket(microseconds) as usize) += 1;
    }
}

/// The slot and who began. A watched remote end is where a process here connected to; a watched local end is where one
/// here listens. Where neither is watched the state tells, or the local port.
#[inline(always)]
fn place(change: &impl Change, remote: u32) -> (u32, u32) {
    if remote != fold::OTHER {
        return (remote, OUTGOING);
    }
    let port = change.local_port();
    let slot = places::slot(port, || change.local());
    if slot != fold::OTHER {
        return (slot, INCOMING);
    }
    (fold::OTHER, direction_of_other(change.from(), change.to(), port))
}

#[inline(always)]
fn direction_of_other(from: u32, to: u32, local_port: u16) -> u32 {
    if from == SYN_SENT || to == SYN_SENT {
        return OUTGOING;
    }
    if from == LISTEN || to == LISTEN || from == SYN_RECV || to == SYN_RECV {
        return INCOMING;
    }
    match places::settings() {
        Some(range) if local_port < range.first_ephemeral || local_port > range.last_ephemeral => INCOMING,
        _ => OUTGOING,
    }
}
