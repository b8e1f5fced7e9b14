//! What processes ask of watched destinations themselves, estimated from the first bytes of what they send.
//!
//! The hook is where the kernel has handed a socket's bytes to TCP and is still in the system call of the process that sent
//! them: the socket names the destination, the registers that the thread entered the kernel with name the bytes. So it does
//! not matter how the process came by the socket (connected before the probe was there, inherited over fork, duplicated,
//! passed on, its number used before), and a call on any other file costs nothing.

use aya_ebpf::helpers::bpf_get_current_comm;
use aya_ebpf::helpers::generated::{
    bpf_get_current_task_btf, bpf_get_current_uid_gid, bpf_ktime_get_boot_ns, bpf_ktime_get_ns,
    bpf_probe_read_kernel, bpf_probe_read_user, bpf_task_pt_regs,
};
use aya_ebpf::macros::{btf_tracepoint, map};
use aya_ebpf::maps::{PerCpuArray, PerCpuHashMap};
use aya_ebpf::programs::BtfTracePointContext;
use weir_probes_abi::requests::bucket;
use weir_probes_abi::scan::{
    self, CHUNK, CHUNKS, ENVELOPE, ENVELOPES, SCANNED, Sample, Seen, Unit, WORDS, before_envelope, command,
    eight, envelope,
};
use weir_probes_abi::work::{self as abi, HALF_MINUTE, SendFields, Work, WorkKey};
use weir_probes_abi::{fold, lost as counters};

use crate::sockets::Socket;
use crate::{lost, pardoned, places};

/// By process and destination. Entries are made when they are needed: on a machine with many CPUs they are large.
#[map]
static WORK: PerCpuHashMap<WorkKey, Work> = PerCpuHashMap::with_max_entries(abi::WORK, BPF_F_NO_PREALLOC);

/// The bytes that are looked at, on each CPU, and never longer than one call of the program.
#[map]
static BYTES: PerCpuArray<[u64; WORDS]> = PerCpuArray::with_max_entries(1, 0);

/// Patched by the loader.
#[unsafe(no_mangle)]
static SEND_FIELDS: SendFields =
    SendFields { call: 0, second: 0, third: 0, write: 0, writev: 0, sendto: 0, sendmsg: 0, zero: 0 };

const BPF_F_NO_PREALLOC: u32 = 1;

/// Bytes in the memory of the process that sent them.
#[derive(Clone, Copy)]
struct Sent {
    at: *const u8,
    /// As many as the call offered, which may be more than it sent: the rest follows in another call.
    length: u64,
}

#[btf_tracepoint(function = "sock_send_length")]
pub fn work(ctx: BtfTracePointContext) -> i32 {
    let sent: i32 = ctx.arg(1);
    if sent > 0 {
        look(Socket(ctx.arg(0)), sent as u64);
    }
    0
}

#[inline(always)]
fn look(socket: Socket, sent: u64) {
    // Unix sockets send too, and have something else in the place of a port.
    if !socket.is_inet() {
        return;
    }
    let port = socket.remote_port();
    if !places::is_watched(port) {
        return;
    }
    let Some(process) = pardoned::accused() else { return };
    let slot = places::slot(port, || socket.remote(port));
    if slot >= fold::OTHER {
        return;
    }
    let key = WorkKey { process, slot };
    if WORK.get_ptr(key).is_none() {
        // SAFETY: neither has an argument.
        let (uid, seen) = unsafe { (bpf_get_current_uid_gid() as u32, bpf_ktime_get_boot_ns()) };
        let first = Work { uid, seen, comm: bpf_get_current_comm().unwrap_or([0; 16]), ..Work::ZERO };
        let _ = WORK.insert(key, first, 0);
    }
    let Some(work) = WORK.get_ptr_mut(key) else {
        lost::count(counters::WORK);
        return;
    };
    // SAFETY: a pointer that the map gave, to this CPU's value; a tracing program is not interrupted by itself on the
    // same CPU, and the reader takes an entry out when its process is gone.
    let work = unsafe { &mut *work };
    work.writes += 1;
    work.bytes += sent;
    match bytes().map(operations) {
        None => work.unseen += 1,
        Some(0) => {}
        Some(operations) => {
            work.requests += 1;
            work.operations += operations;
            let sizes = (&raw mut work.sizes).cast::<u64>();
            // SAFETY: the bucket is below the bound by how it is made.
            unsafe { *sizes.add(bucket(operations) as usize) += 1 };
            // SAFETY: no argument.
            work.note_largest(operations, unsafe { bpf_ktime_get_ns() } / HALF_MINUTE);
        }
    }
}

/// A value of the kernel's, so many bytes behind an address of its.
#[inline(always)]
pub fn kernel<T: Copy>(at: *const u8, offset: u16) -> Option<T> {
    let mut value = core::mem::MaybeUninit::<T>::uninit();
    // SAFETY: the destination is as long as said, the helper checks the source; all types asked for take any bytes.
    unsafe {
        let from = at.add(offset as usize).cast();
        let read = bpf_probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, from);
        (read == 0).then(|| value.assume_init())
    }
}

#[inline(always)]
fn user<T: Copy>(at: *const u8) -> Option<T> {
    let mut value = core::mem::MaybeUninit::<T>::uninit();
    // SAFETY: as in `kernel`.
    unsafe {
        let read = bpf_probe_read_user(value.as_mut_ptr().cast(), size_of::<T>() as u32, at.cast());
        (read == 0).then(|| value.assume_init())
    }
}

/// What the system call that is under way was asked to send; of several pieces the first.
#[inline(always)]
fn bytes() -> Option<Sent> {
    // SAFETY: a static of this object. Volatile, because the loader writes it after the compiler has seen zeros.
    let fields = unsafe { core::ptr::read_volatile(&raw const SEND_FIELDS) };
    // SAFETY: neither follows a pointer of ours.
    let registers = unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) } as *const u8;
    let call = kernel::<u32>(registers, fields.call)?;
    let second: u64 = kernel(registers, fields.second)?;
    if call == u32::from(fields.write) || call == u32::from(fields.sendto) {
        return Some(Sent { at: second as *const u8, length: kernel(registers, fields.third)? });
    }
    let pieces = if call == u32::from(fields.writev) {
        second
    } else if call == u32::from(fields.sendmsg) {
        user(second.wrapping_add(16) as *const u8)? // `msg_iov` of struct msghdr, the same on every 64 bit machine
    } else {
        return None;
    };
    let [at, length]: [u64; 2] = user(pieces as *const u8)?;
    Some(Sent { at: at as *const u8, length })
}

/// The operations it asks for; 0 when it does not begin with a request.
#[inline(always)]
fn operations(sent: Sent) -> u64 {
    let Some(bytes) = BYTES.get_ptr_mut(0) else { return 0 };
    let words = bytes.cast::<u64>();
    let scanned = if sent.length < SCANNED as u64 { sent.length } else { SCANNED as u64 };
    if !copy(words, sent.at, scanned as u32) {
        return 0;
    }
    // SAFETY: the first word of several.
    match command(unsafe { *words }) {
        Some(Unit::One) => 1,
        Some(unit) => keys(unit, sent, words, scanned),
        None => envelopes(words.cast(), sent.length, scanned),
    }
}

/// Copies so many bytes, at most [`SCANNED`], and what is missing in the last word as zeros.
#[inline(always)]
fn copy(to: *mut u64, from: *const u8, bytes: u32) -> bool {
    // The bound stands where the verifier looks for it: right before the use, on the same register.
    let bytes = bytes & (2 * SCANNED as u32 - 1);
    if bytes > SCANNED as u32 {
        return false;
    }
    // SAFETY: there is one word more than SCANNED bytes fill.
    unsafe {
        to.add((bytes / 8) as usize).write_volatile(0);
        bpf_probe_read_user(to.cast(), bytes, from.cast()) == 0
    }
}

#[inline(always)]
fn keys(unit: Unit, sent: Sent, words: *mut u64, scanned: u64) -> u64 {
    let separator = eight(if matches!(unit, Unit::Lines) { b'\n' } else { b' ' });
    if sent.length <= SCANNED as u64 {
        return scan::whole(unit, seen(words, scanned.div_ceil(8), separator).count);
    }
    let mut sample = Sample::default();
    let mut index = 0;
    while index < CHUNKS as u64 {
        let from = sent.at.wrapping_add(Sample::place(index, sent.length) as usize);
        if copy(words, from, CHUNK as u32) {
            let seen = seen(words, CHUNK as u64 / 8, separator);
            let (first, last) = (word(words, seen.first), word(words, seen.last));
            sample.take(&seen, first, last, separator);
        }
        index += 1;
    }
    scan::sampled(unit, sent.length, &sample)
}

#[inline(always)]
fn seen(words: *const u64, filled: u64, separator: u64) -> Seen {
    let mut seen = Seen::default();
    let mut index = 0;
    while index < (SCANNED / 8) as u64 && index < filled {
        seen.look(index, word(words, index), separator);
        index += 1;
    }
    seen
}

#[inline(always)]
fn word(words: *const u64, index: u64) -> u64 {
    if index >= WORDS as u64 {
        return 0;
    }
    // SAFETY: inside, as was just compared.
    unsafe { words.add(index as usize).read_volatile() }
}

/// CQL: one envelope after the other, as far as they were copied; what follows is assumed to be alike.
#[inline(always)]
fn envelopes(bytes: *const u8, length: u64, scanned: u64) -> u64 {
    if scanned < 9 {
        return 0;
    }
    let Some(mut place) = before_envelope(&head(bytes, 0)) else { return 0 };
    let mut operations = 0;
    let mut index = 0;
    while index < ENVELOPES {
        if place + 9 > scanned {
            break;
        }
        let Some(found) = envelope(&head::<ENVELOPE>(bytes, place)) else { break };
        operations += found.operations;
        place += found.bytes;
        index += 1;
    }
    if place < length && place > 0 && index > 0 { operations * length / place } else { operations }
}

/// A few bytes; behind what was copied there are zeros, or what an earlier request left.
#[inline(always)]
fn head<const N: usize>(bytes: *const u8, place: u64) -> [u8; N] {
    if place > (WORDS * 8 - N) as u64 {
        return [0; N];
    }
    // SAFETY: inside, as was just compared; bytes have no alignment.
    unsafe { bytes.add(place as usize).cast::<[u8; N]>().read_volatile() }
}
