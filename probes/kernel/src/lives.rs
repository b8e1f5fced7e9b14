//! When connections began, by socket. A table of sets: the kernel's own table of the least recently used takes a lock and
//! keeps lists, which is more than half of what a state change costs.

use aya_ebpf::macros::map;
use aya_ebpf::maps::Array;
use weir_probes_abi::transitions::{Lives, SETS, WAYS, set};

use crate::atomic;

/// By [`set`].
#[map]
static LIVES: Array<Lives> = Array::with_max_entries(SETS, 0);

/// Notes a begin. `false`: other CPUs took every place of the set at this moment.
#[inline(always)]
pub fn begin(socket: u64, now: u64) -> bool {
    let Some((sockets, begun)) = places(socket) else { return false };
    let mut first = u64::MAX;
    let mut oldest = 0;
    let mut way = 0;
    while way < WAYS {
        // SAFETY: places of a value that the map gave; the first is only changed atomically, and a begin is of use to
        // nobody but whoever holds its place.
        unsafe {
            let known = sockets.add(way).read_volatile();
            // one that is known already is an earlier one of the same address, whose end was missed
            if known == socket || known == 0 && atomic::replace(sockets.add(way), 0, socket) {
                begun.add(way).write_volatile(now);
                return true;
            }
            let since = begun.add(way).read_volatile();
            if since < first {
                first = since;
                oldest = way;
            }
        }
        way += 1;
    }
    let oldest = oldest & (WAYS - 1);
    // SAFETY: as above.
    unsafe {
        let known = sockets.add(oldest).read_volatile();
        let is_ours = atomic::replace(sockets.add(oldest), known, socket);
        if is_ours {
            begun.add(oldest).write_volatile(now);
        }
        is_ours
    }
}

/// When it began; from now on there is room for another one.
#[inline(always)]
pub fn end(socket: u64) -> Option<u64> {
    let (sockets, begun) = places(socket)?;
    let mut way = 0;
    while way < WAYS {
        // SAFETY: as in `begin`. A socket ends once, so that nobody else makes room of its place, unless for a newer one.
        unsafe {
            if sockets.add(way).read_volatile() == socket {
                let since = begun.add(way).read_volatile();
                return atomic::replace(sockets.add(way), socket, 0).then_some(since);
            }
        }
        way += 1;
    }
    None
}

#[inline(always)]
fn places(socket: u64) -> Option<(*mut u64, *mut u64)> {
    let lives = LIVES.get_ptr_mut(set(socket))?;
    // SAFETY: a pointer that the map gave.
    unsafe { Some(((&raw mut (*lives).sockets).cast(), (&raw mut (*lives).begun).cast())) }
}
