//! The hook of state changes of TCP sockets. It is called about ten times for a connection on loopback, so there is one
//! program, which does what every probe at this hook needs ([`transitions`], [`bypass`], [`flows`], [`witness`],
//! [`connects`]); the loader says which of them there are, and the kernel leaves the rest out when it loads the program.
//!
//! It is there twice. Where the kernel tells its types the socket itself is read ([`states()`]); elsewhere the record that
//! the kernel makes for tracers ([`states_by_format`]), which costs several times as much.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use aya_ebpf::macros::{btf_tracepoint, tracepoint};
use aya_ebpf::programs::{BtfTracePointContext, TracePointContext};
use weir_probes_abi::lost as counters;
use weir_probes_abi::settings::{RECORD, StateFields};
use weir_probes_abi::states as abi;
use weir_probes_abi::transitions::{CLOSE, STATES, SYN_SENT};
use weir_probes_abi::{Endpoint, fold};

use crate::sockets::{Socket, TCP};
use crate::{bypass, connects, flows, lost, places, transitions, witness};

/// What there is to do, patched by the loader.
#[unsafe(no_mangle)]
static STATE_PROBES: u32 = 0;

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

/// One change of state. Its ends are read when they are asked for.
pub trait Change {
    /// A number that no other socket has at the same time.
    fn number(&self) -> u64;
    /// The socket's address in the kernel.
    fn address(&self) -> *const u8;
    fn from(&self) -> u32;
    fn to(&self) -> u32;
    fn remote_port(&self) -> u16;
    fn remote(&self) -> Endpoint;
    fn local_port(&self) -> u16;
    fn local(&self) -> Endpoint;
}

#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn states(ctx: BtfTracePointContext) -> i32 {
    let socket = Socket(ctx.arg(0));
    if socket.is_tcp() {
        let (from, to): (i32, i32) = (ctx.arg(1), ctx.arg(2));
        let slot = changed(&Handed { socket, from: from as u32, to: to as u32 });
        if to as u32 == CLOSE && slot < fold::OTHER && is_wanted(abi::FLOWS) {
            flows::closed(socket, slot, from as u32);
        }
    }
    0
}

#[tracepoint(category = "sock", name = "inet_sock_set_state")]
pub fn states_by_format(ctx: TracePointContext) -> u32 {
    if let Some(record) = Record::read(&ctx) {
        let fields = fields();
        let (from, to) = (record.u32(fields.oldstate), record.u32(fields.newstate));
        changed(&Recorded { record: &record, from, to });
    }
    0
}

/// Constant to the kernel when it loads the program.
#[inline(always)]
fn is_wanted(probe: u32) -> bool {
    // SAFETY: a static of this object. Volatile, because the loader writes it after the compiler has seen a zero.
    unsafe { core::ptr::read_volatile(&raw const STATE_PROBES) & probe != 0 }
}

/// The slot of the other end, where it was asked for.
#[inline(always)]
fn changed(change: &impl Change) -> u32 {
    if change.from() >= STATES as u32 || change.to() >= STATES as u32 {
        lost::count(counters::UNREADABLE_TRANSITIONS);
        return fold::OTHER;
    }
    let begins = change.from() == CLOSE && change.to() == SYN_SENT;
    if is_wanted(abi::CONNECTS) {
        connects::changed(change);
    }
    let slot = if begins || is_wanted(abi::TRANSITIONS) || change.to() == CLOSE {
        places::slot(change.remote_port(), || change.remote())
    } else {
        fold::OTHER
    };
    if is_wanted(abi::TRANSITIONS) {
        transitions::changed(change, slot);
    }
    if is_wanted(abi::BYPASS) && begins && slot < fold::OTHER {
        bypass::begun(slot);
    }
    if is_wanted(abi::WITNESS) {
        witness::changed(change, slot);
    }
    slot
}

/// A change of which the socket itself is handed over.
struct Handed {
    socket: Socket,
    from: u32,
    to: u32,
}

impl Change for Handed {
    #[inline(always)]
    fn number(&self) -> u64 {
        self.socket.number()
    }

    #[inline(always)]
    fn address(&self) -> *const u8 {
        self.socket.0
    }

    #[inline(always)]
    fn from(&self) -> u32 {
        self.from
    }

    #[inline(always)]
    fn to(&self) -> u32 {
        self.to
    }

    #[inline(always)]
    fn remote_port(&self) -> u16 {
        self.socket.remote_port()
    }

    #[inline(always)]
    fn remote(&self) -> Endpoint {
        self.socket.remote(self.remote_port())
    }

    #[inline(always)]
    fn local_port(&self) -> u16 {
        self.socket.local_port()
    }

    #[inline(always)]
    fn local(&self) -> Endpoint {
        self.socket.local(self.local_port())
    }
}

/// A change of which the kernel made a record.
struct Recorded<'a> {
    // behind a reference, so that the rest is kept in registers, of which the kernel knows what was compared with a bound
    record: &'a Record,
    from: u32,
    to: u32,
}

/// Copied once.
#[repr(C, align(8))]
struct Record([u8; RECORD]);

impl Record {
    /// `None` for what is not TCP.
    #[inline(always)]
    fn read(ctx: &TracePointContext) -> Option<Record> {
        let mut record = Record([0; RECORD]);
        // SAFETY: the destination is as long as said; the source is checked by the helper, which copies what lies behind a
        // record that is shorter (it is in the kernel's own buffer) without looking at it.
        let read = unsafe { bpf_probe_read_kernel((&raw mut record).cast(), RECORD as u32, ctx.as_ptr()) };
        if read != 0 {
            lost::count(counters::UNREADABLE_TRANSITIONS);
            return None;
        }
        (record.u16(fields().protocol) == TCP).then_some(record)
    }

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
}

impl Change for Recorded<'_> {
    #[inline(always)]
    fn number(&self) -> u64 {
        u64::from_ne_bytes(self.record.field(fields().skaddr))
    }

    #[inline(always)]
    fn address(&self) -> *const u8 {
        self.number() as *const u8
    }

    #[inline(always)]
    fn from(&self) -> u32 {
        self.from
    }

    #[inline(always)]
    fn to(&self) -> u32 {
        self.to
    }

    #[inline(always)]
    fn remote_port(&self) -> u16 {
        self.record.u16(fields().dport)
    }

    #[inline(always)]
    fn remote(&self) -> Endpoint {
        Endpoint::v6(self.record.field(fields().daddr_v6), self.remote_port())
    }

    #[inline(always)]
    fn local_port(&self) -> u16 {
        self.record.u16(fields().sport)
    }

    #[inline(always)]
    fn local(&self) -> Endpoint {
        Endpoint::v6(self.record.field(fields().saddr_v6), self.local_port())
    }
}

#[inline(always)]
fn fields() -> StateFields {
    // SAFETY: a static of this object. Volatile, because the loader writes it after the compiler has seen zeros.
    unsafe { core::ptr::read_volatile(&raw const STATE_FIELDS) }
}
