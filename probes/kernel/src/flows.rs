//! What connections to watched destinations moved: bytes, round trip time and segments sent again, read as each of them
//! closes. Open ones are not in the counts yet.
//!
//! Where the kernel tells its types the hook of state changes does it ([`closed`]); elsewhere a program of its own, which the
//! kernel calls a dozen times for every connection of the machine ([`flows`]).

use aya_ebpf::bindings::{
    BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB, BPF_SOCK_OPS_STATE_CB, BPF_SOCK_OPS_STATE_CB_FLAG, bpf_sock_ops,
};
use aya_ebpf::macros::{map, sock_ops};
use aya_ebpf::maps::Array;
use aya_ebpf::programs::SockOpsContext;
use weir_probes_abi::flows::{self as abi, Flow, FlowFields, bucket};
use weir_probes_abi::transitions::{CLOSE, SYN_RECV, SYN_SENT};
use weir_probes_abi::{Endpoint, fold};

use crate::sockets::{Socket, load};
use crate::{atomic, places};

/// Connections that closed, by slot.
#[map]
static FLOWS: Array<Flow> = Array::with_max_entries(abi::FLOWS, 0);

/// Patched by the loader.
#[unsafe(no_mangle)]
static FLOW_FIELDS: FlowFields = FlowFields { acked: 0, received: 0, retransmits: 0, round_trip: 0 };

const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;

const FIN_WAIT2: u32 = 5;
const CLOSE_WAIT: u32 = 8;
const LAST_ACK: u32 = 9;
const CLOSING: u32 = 11;

#[sock_ops]
pub fn flows(ctx: SockOpsContext) -> u32 {
    match ctx.op() {
        BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB => follow(&ctx),
        // the second argument is the new state
        BPF_SOCK_OPS_STATE_CB if ctx.arg(1) == CLOSE => told(&ctx),
        _ => {}
    }
    1
}

/// Asks to hear of the connection's end. What others asked to hear of it stays.
#[inline(always)]
fn follow(ctx: &SockOpsContext) {
    if slot(ctx).is_some() {
        let _ = ctx.set_cb_flags((ctx.cb_flags() | BPF_SOCK_OPS_STATE_CB_FLAG) as i32);
    }
}

#[inline(always)]
fn told(ctx: &SockOpsContext) {
    let Some(slot) = slot(ctx) else { return };
    let ops: *const bpf_sock_ops = ctx.ops;
    // SAFETY: fields of the context, read in their own size as the kernel wants them.
    let moved = unsafe {
        Moved {
            acked: (&raw const (*ops).bytes_acked).read_volatile(),
            received: (&raw const (*ops).bytes_received).read_volatile(),
            retransmits: (&raw const (*ops).total_retrans).read_volatile(),
            round_trip: (&raw const (*ops).srtt_us).read_volatile(),
        }
    };
    count(slot, ctx.arg(0), &moved);
}

/// A connection to the watched destination of this slot closes, out of this state.
#[inline(always)]
pub fn closed(socket: Socket, slot: u32, from: u32) {
    if from == SYN_SENT || from == SYN_RECV {
        return; // there was no connection
    }
    let Some(tcp) = socket.tcp() else { return };
    // SAFETY: a static of this object. Each is read by itself and volatile: the loader writes it after the compiler has
    // seen zeros.
    let (acked, received, retransmits, round_trip) = unsafe {
        (
            core::ptr::read_volatile(&raw const FLOW_FIELDS.acked),
            core::ptr::read_volatile(&raw const FLOW_FIELDS.received),
            core::ptr::read_volatile(&raw const FLOW_FIELDS.retransmits),
            core::ptr::read_volatile(&raw const FLOW_FIELDS.round_trip),
        )
    };
    let moved = Moved {
        acked: load(tcp, acked),
        received: load(tcp, received),
        retransmits: load(tcp, retransmits),
        round_trip: load(tcp, round_trip),
    };
    count(slot, from, &moved);
}

/// What the kernel says of a connection.
struct Moved {
    acked: u64,
    received: u64,
    retransmits: u32,
    /// Microseconds, eight times the average.
    round_trip: u32,
}

#[inline(always)]
fn count(slot: u32, from: u32, moved: &Moved) {
    let Some(flow) = FLOWS.get_ptr_mut(slot) else { return };
    let (sent, received) = payload(from, moved.acked, moved.received);
    let (retransmits, rtt) = (moved.retransmits, moved.round_trip >> 3);
    // SAFETY: a pointer that the map gave, aligned as its type; only used atomically, as one CPU may be at this place
    // twice (in a process, and in the interrupt that stopped it).
    unsafe {
        atomic::add(&raw mut (*flow).connections, 1);
        atomic::add(&raw mut (*flow).sent, sent);
        atomic::add(&raw mut (*flow).received, received);
        atomic::add(&raw mut (*flow).retransmits, u64::from(retransmits));
        if rtt > 0 {
            atomic::add((&raw mut (*flow).rtt).cast::<u64>().add(bucket(rtt) as usize), 1);
            atomic::add(&raw mut (*flow).rtt_microseconds, u64::from(rtt));
        }
    }
}

/// TCP counts the begin and the end of a stream as a byte each. Our begin was acknowledged, or there were no connection; the
/// ends are known by the state that the connection comes from. In one of them (ours acknowledged, FIN_WAIT2) the other
/// side's end may have come or not: there the bytes received may be one too many.
#[inline(always)]
fn payload(from: u32, sent: u64, received: u64) -> (u64, u64) {
    let ours = 1 + u64::from(matches!(from, FIN_WAIT2 | LAST_ACK));
    let theirs = u64::from(matches!(from, CLOSE_WAIT | LAST_ACK | CLOSING));
    (sent.saturating_sub(ours), received.saturating_sub(theirs))
}

/// The slot of the other end, when it has one.
#[inline(always)]
fn slot(ctx: &SockOpsContext) -> Option<u32> {
    // network order, in the half of the word that this byte order puts it in
    let port = u32::from_be(ctx.remote_port()) as u16;
    if !places::is_watched(port) {
        return None;
    }
    let ops: *const bpf_sock_ops = ctx.ops;
    let remote = match ctx.family() {
        AF_INET => Endpoint::v4(ctx.remote_ip4().to_ne_bytes(), port),
        AF_INET6 => {
            let mut address = [0; 16];
            let mut i = 0;
            while i < 4 {
                // SAFETY: a field of the context, read in its own size as the kernel wants it.
                let word = unsafe { (&raw const (*ops).remote_ip6).cast::<u32>().add(i).read_volatile() };
                let [a, b, c, d] = word.to_ne_bytes();
                address[4 * i] = a;
                address[4 * i + 1] = b;
                address[4 * i + 2] = c;
                address[4 * i + 3] = d;
                i += 1;
            }
            Endpoint::v6(address, port)
        }
        _ => return None,
    };
    let slot = places::destination(&remote);
    (slot < fold::OTHER).then_some(slot)
}
