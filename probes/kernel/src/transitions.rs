//! Every state change of a TCP socket, counted by destination and direction; life-times of connections to and from
//! watched places. TIME_WAIT never shows here: a socket in it is another object, see `sockets`.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::{bpf_ktime_get_ns, generated::bpf_probe_read_kernel};
use aya_ebpf::macros::{map, tracepoint};
use aya_ebpf::maps::{LruHashMap, PerCpuArray};
use aya_ebpf::programs::TracePointContext;
use weir_probes_abi::Endpoint;
use weir_probes_abi::fold::{self, INCOMING, OUTGOING};
use weir_probes_abi::lost as counters;
use weir_probes_abi::settings::{RECORD, StateFields};
use weir_probes_abi::transitions::{
    self as abi, CLOSE, ESTABLISHED, LISTEN, Row, STATES, SYN_RECV, SYN_SENT, bucket, step,
};

use crate::{lost, places};

/// Counts by destination and direction.
#[map]
static ROWS: PerCpuArray<Row> = PerCpuArray::with_max_entries(fold::ROWS, 0);

/// When a connection was begun, in nanoseconds of the monotonic clock, by its socket's address in the kernel.
#[map]
static LIVES: LruHashMap<u64, u64> = LruHashMap::with_max_entries(abi::LIVES, 0);

/// Patched by the loader.
#[unsafe(no_mangle)]
static STATE_FIELDS: StateFields = StateFields {
    skaddr: 0,
    oldstate: 0,
    newstate: 0,
    sport: 0,
    dport: 0,
    protocol: 0,
    saddr_v6: 0,
    daddr_v6: 0,
};

/// IPPROTO_TCP; the tracepoint also tells of MPTCP and others.
const TCP: u16 = 6;

/// The tracepoint's record, copied once.
#[repr(C, align(8))]
struct Record([u8; RECORD]);

/// One state change.
pub struct Change {
    /// Its address in the kernel.
    pub socket: u64,
    pub from: u32,
    pub to: u32,
    pub local: Endpoint,
    pub remote: Endpoint,
}

#[tracepoint(category = "sock", name = "inet_sock_set_state")]
pub fn transitions(ctx: TracePointContext) -> u32 {
    if let Some(change) = read(&ctx) {
        count(&change);
    }
    0
}

/// The change, when it is one of TCP.
#[inline(always)]
pub fn read(ctx: &TracePointContext) -> Option<Change> {
    let mut record = Record([0; RECORD]);
    // SAFETY: the destination is as long as said; the source is checked by the helper, which copies what lies behind a
    // record that is shorter (it is in the kernel's own buffer) without looking at it.
    let read = unsafe { bpf_probe_read_kernel((&raw mut record).cast(), RECORD as u32, ctx.as_ptr()) };
    if read != 0 {
        lost::count(counters::UNREADABLE_TRANSITIONS);
        return None;
    }
    // SAFETY: a static of this object. Volatile, because the loader writes it after the compiler has seen zeros.
    let fields = unsafe { core::ptr::read_volatile(&raw const STATE_FIELDS) };
    if record.u16(fields.protocol) != TCP {
        return None;
    }
    let (from, to) = (record.u32(fields.oldstate), record.u32(fields.newstate));
    if from >= STATES as u32 || to >= STATES as u32 {
        lost::count(counters::UNREADABLE_TRANSITIONS);
        return None;
    }
    Some(Change {
        socket: record.u64(fields.skaddr),
        from,
        to,
        local: Endpoint::v6(record.address(fields.saddr_v6), record.u16(fields.sport)),
        remote: Endpoint::v6(record.address(fields.daddr_v6), record.u16(fields.dport)),
    })
}

#[inline(always)]
fn count(change: &Change) {
    let Change { socket, from, to, .. } = *change;
    let (slot, direction) = place(change);
    let Some(row) = ROWS.get_ptr_mut(fold::row(slot, direction)) else { return };
    // SAFETY: a pointer that the map gave, to this CPU's value; both states were compared with the bound.
    unsafe { *(&raw mut (*row).steps).cast::<u64>().add(step(from, to) as usize) += 1 };
    if slot == fold::OTHER {
        return;
    }
    let begun = (from == CLOSE && to == SYN_SENT) || (from == SYN_RECV && to == ESTABLISHED);
    // The begin of an outgoing connection is the connect, of an incoming one the moment it could be accepted.
    if begun {
        // SAFETY: no argument.
        let now = unsafe { bpf_ktime_get_ns() };
        if LIVES.insert(socket, now, 0).is_err() {
            lost::count(counters::LIVES);
        }
    } else if to == CLOSE && from != LISTEN {
        close(socket, from, row);
    }
}

/// The end of a connection: its life-time, when it was established at all and its begin is known.
#[inline(always)]
fn close(socket: u64, from: u32, row: *mut Row) {
    // SAFETY: copied at once. The socket of this address is closing, so nobody else writes or removes the entry.
    let begun = unsafe { LIVES.get(socket) }.copied();
    if begun.is_some() {
        let _ = LIVES.remove(socket);
    }
    if from == SYN_SENT || from == SYN_RECV {
        return;
    }
    // SAFETY: see `count`; the bucket is below the bound by how it is made.
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
fn place(change: &Change) -> (u32, u32) {
    let slot = places::destination(&change.remote);
    if slot != fold::OTHER {
        return (slot, OUTGOING);
    }
    let slot = places::destination(&change.local);
    if slot != fold::OTHER {
        return (slot, INCOMING);
    }
    (fold::OTHER, direction_of_other(change))
}

#[inline(always)]
fn direction_of_other(change: &Change) -> u32 {
    let Change { from, to, ref local, .. } = *change;
    if from == SYN_SENT || to == SYN_SENT {
        return OUTGOING;
    }
    if from == LISTEN || to == LISTEN || from == SYN_RECV || to == SYN_RECV {
        return INCOMING;
    }
    match places::settings() {
        Some(range) if local.port < range.first_ephemeral || local.port > range.last_ephemeral => INCOMING,
        _ => OUTGOING,
    }
}

impl Record {
    /// A field; zeros where the loader named a place outside of the record, which it never does.
    #[inline(always)]
    fn field<const N: usize>(&self, offset: u16) -> [u8; N] {
        if offset as usize > RECORD - N {
            return [0; N];
        }
        // SAFETY: inside of the record, as was just compared; bytes have no alignment.
        unsafe { self.0.as_ptr().add(offset as usize).cast::<[u8; N]>().read() }
    }

    #[inline(always)]
    fn u16(&self, offset: u16) -> u16 {
        u16::from_ne_bytes(self.field(offset))
    }

    #[inline(always)]
    fn u32(&self, offset: u16) -> u32 {
        u32::from_ne_bytes(self.field(offset))
    }

    #[inline(always)]
    fn u64(&self, offset: u16) -> u64 {
        u64::from_ne_bytes(self.field(offset))
    }

    #[inline(always)]
    fn address(&self, offset: u16) -> [u8; 16] {
        self.field(offset)
    }
}
