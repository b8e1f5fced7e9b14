//! bind(2) and connect(2) that failed, by process, errno and place. Only the exits are watched: a call that succeeds, or
//! fails with an errno that nobody asked for, costs one comparison; of the others the arguments are still in the
//! registers that the thread entered the kernel with.

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::helpers::generated::{
    bpf_get_current_task_btf, bpf_get_current_uid_gid, bpf_probe_read_user, bpf_task_pt_regs,
};
use aya_ebpf::helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid};
use aya_ebpf::macros::{map, tracepoint};
use aya_ebpf::maps::HashMap;
use aya_ebpf::programs::TracePointContext;
use weir_probes_abi::Endpoint;
use weir_probes_abi::errors::{self as abi, FailureKey, Failures};
use weir_probes_abi::fold;
use weir_probes_abi::lost as counters;
use weir_probes_abi::settings::{BIND, CONNECT, CallFields, ERRNOS};

use crate::{atomic, lost, places};

/// Failed calls. The loader makes an entry without process and place for every errno that is counted.
#[map]
static ERRORS: HashMap<FailureKey, Failures> = HashMap::with_max_entries(abi::ERRORS, 0);

/// Patched by the loader.
#[unsafe(no_mangle)]
static CALL_FIELDS: CallFields = CallFields { ret: 0, second_argument: 0 };

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

#[tracepoint(category = "syscalls", name = "sys_exit_bind")]
pub fn bind_failed(ctx: TracePointContext) -> u32 {
    failed(&ctx, BIND);
    0
}

#[tracepoint(category = "syscalls", name = "sys_exit_connect")]
pub fn connect_failed(ctx: TracePointContext) -> u32 {
    failed(&ctx, CONNECT);
    0
}

#[inline(always)]
fn failed(ctx: &TracePointContext, call: u32) {
    // SAFETY: a static of this object. Volatile, because the loader writes it after the compiler has seen zeros.
    let fields = unsafe { core::ptr::read_volatile(&raw const CALL_FIELDS) };
    // SAFETY: the helper behind it checks the address.
    let Ok(returned) = (unsafe { ctx.read_at::<i64>(fields.ret as usize) }) else { return };
    if returned >= 0 {
        return;
    }
    let errno = returned.unsigned_abs();
    if errno >= u64::from(ERRNOS) || !is_counted(call, errno as u32) {
        return;
    }
    let Some(asked) = address(fields.second_argument) else {
        lost::count(counters::UNREADABLE_CALLS);
        return keep(call, errno as u16, Endpoint::NOWHERE);
    };
    // Unix sockets and others: an address family that is no business of these probes.
    let Some(asked) = asked.endpoint() else { return };
    let place = if call == BIND { local(asked) } else { remote(asked) };
    keep(call, errno as u16, place);
}

#[inline(always)]
fn is_counted(call: u32, errno: u32) -> bool {
    let Some(settings) = places::settings() else { return false };
    let [of_bind, of_connect] = &settings.errnos;
    let [low, middle, high] = if call == BIND { of_bind } else { of_connect };
    let word = match errno / 64 {
        0 => *low,
        1 => *middle,
        _ => *high,
    };
    word & (1 << (errno % 64)) != 0
}

#[inline(always)]
fn remote(asked: Endpoint) -> Endpoint {
    if places::destination(&asked) == fold::OTHER { Endpoint::NOWHERE } else { asked }
}

#[inline(always)]
fn local(mut asked: Endpoint) -> Endpoint {
    if asked.port != 0 && !places::is_watched(asked.port) {
        return Endpoint::NOWHERE;
    }
    match places::source(&asked.address) {
        fold::LOOPBACK => asked.address = Endpoint::v4([127, 0, 0, 0], 0).address,
        fold::OTHER_SOURCE => return Endpoint::NOWHERE,
        _ => {}
    }
    asked
}

/// The start of a `sockaddr_in` or `sockaddr_in6`, as user space wrote it.
#[repr(C)]
struct Asked {
    family: u16,
    port: [u8; 2],
    /// IPv4: the address. IPv6: the flow label.
    v4: [u8; 4],
    v6: [u8; 16],
}

impl Asked {
    #[inline(always)]
    fn endpoint(&self) -> Option<Endpoint> {
        let port = u16::from_be_bytes(self.port);
        match self.family {
            AF_INET => Some(Endpoint::v4(self.v4, port)),
            AF_INET6 => Some(Endpoint::v6(self.v6, port)),
            _ => None,
        }
    }
}

/// The address that the failed call was given; `None` where the kernel would not read it again.
#[inline(always)]
fn address(second_argument: u16) -> Option<Asked> {
    let mut asked = Asked { family: 0, port: [0; 2], v4: [0; 4], v6: [0; 16] };
    // SAFETY: the helpers give the current thread and its registers, whose places never move while it runs; user memory
    // is read by a helper that checks it, into room as long as said. IPv4 addresses are shorter: what lies behind them
    // may not be there.
    unsafe {
        let registers = bpf_task_pt_regs(bpf_get_current_task_btf()) as *const u8;
        let from = registers.add(second_argument as usize).cast::<u64>().read_volatile() as *const u8;
        if bpf_probe_read_user((&raw mut asked).cast(), 8, from.cast()) != 0 {
            return None;
        }
        if asked.family == AF_INET6
            && bpf_probe_read_user((&raw mut asked.v6).cast(), 16, from.add(8).cast()) != 0
        {
            return None;
        }
    }
    Some(asked)
}

#[inline(always)]
fn keep(call: u32, errno: u16, place: Endpoint) {
    let process = (bpf_get_current_pid_tgid() >> 32) as u32;
    let key = FailureKey { process, errno, call: call as u16, place };
    if add(&key) {
        return;
    }
    let first = Failures {
        count: 1,
        // SAFETY: no argument.
        uid: unsafe { bpf_get_current_uid_gid() } as u32,
        zero: 0,
        comm: bpf_get_current_comm().unwrap_or([0; 16]),
    };
    if ERRORS.insert(&key, &first, u64::from(BPF_NOEXIST)).is_ok() {
        return;
    }
    // Another CPU was first, or the map is full.
    if add(&key) {
        return;
    }
    lost::count(counters::FOLDED_ERRORS);
    if !add(&FailureKey { process: 0, errno, call: call as u16, place: Endpoint::NOWHERE }) {
        lost::count(counters::ERRORS);
    }
}

#[inline(always)]
fn add(key: &FailureKey) -> bool {
    let Some(failures) = ERRORS.get_ptr_mut(key) else { return false };
    // SAFETY: a pointer that the map gave, aligned as its type; entries are never removed while the probe runs.
    unsafe { atomic::add(&raw mut (*failures).count, 1) };
    true
}
