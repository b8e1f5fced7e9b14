//! What threads of chosen services spend on requests: on a processor, and off it. See `weir_probes_abi::services` for what
//! a request is and when it maps to a thread.
//!
//! Three hooks: bytes received and sent, where processes that were not chosen are told so by one look-up; and every switch
//! between threads of the machine, where only threads that ever received a request of a chosen service are in the table.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use aya_ebpf::macros::{btf_tracepoint, map};
use aya_ebpf::maps::{HashMap, LruHashMap, PerCpuArray};
use aya_ebpf::programs::BtfTracePointContext;
use weir_probes_abi::lost as counters;
use weir_probes_abi::services::{
    self as abi, Connection, SEVERAL, Service, ServiceFields, ServicePort, TANGLED, Thread, bucket,
};

use crate::lost;
use crate::work::kernel;

/// Counts, by slot.
#[map]
static SERVICES: PerCpuArray<Service> = PerCpuArray::with_max_entries(abi::SERVICES, 0);

/// The slot of each process of a chosen service. The loader writes it.
#[map]
static SERVICE_PROCESSES: HashMap<u32, u32> = HashMap::with_max_entries(abi::PROCESSES, 0);

/// The ports that they listen on. The loader writes it.
#[map]
static SERVICE_PORTS: HashMap<ServicePort, u32> = HashMap::with_max_entries(abi::PORTS, 0);

/// What each thread works on. An entry is its thread's own: that changes it in its calls, and the switch does on the
/// processor that the thread leaves or comes to.
#[map]
static SERVICE_THREADS: LruHashMap<u32, Thread> = LruHashMap::with_max_entries(abi::THREADS, 0);

/// Which connections wait for an answer, by socket.
#[map]
static SERVICE_CONNECTIONS: LruHashMap<u64, Connection> = LruHashMap::with_max_entries(abi::CONNECTIONS, 0);

/// Patched by the loader.
#[unsafe(no_mangle)]
static SERVICE_FIELDS: ServiceFields = ServiceFields { ports: 0, family: 0, protocol: 0, pid: 0 };

const MSG_PEEK: i32 = 2;
const ECONNRESET: i32 = 104;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const TCP: u16 = 6;

/// One end of a connection to a port that a service listens on, and the thread that deals with it now.
struct Served {
    slot: u32,
    thread: u32,
    socket: u64,
    ports: u32,
}

#[btf_tracepoint(function = "sock_recv_length")]
pub fn services_received(ctx: BtfTracePointContext) -> i32 {
    let (bytes, flags): (i32, i32) = (ctx.arg(1), ctx.arg(2));
    // what is only looked at comes again
    if flags & MSG_PEEK != 0 {
        return 0;
    }
    if bytes == 0 || bytes == -ECONNRESET {
        ended(ctx.arg(0));
    } else if bytes > 0
        && let Some(served) = served(ctx.arg(0))
    {
        asked(&served);
    }
    0
}

#[btf_tracepoint(function = "sock_send_length")]
pub fn services_sent(ctx: BtfTracePointContext) -> i32 {
    let bytes: i32 = ctx.arg(1);
    if bytes > 0
        && let Some(served) = served(ctx.arg(0))
    {
        answered(&served);
    }
    0
}

#[btf_tracepoint(function = "sched_switch")]
pub fn services_switched(ctx: BtfTracePointContext) -> i32 {
    // the thread that leaves is still the one that runs
    leaves(bpf_get_current_pid_tgid() as u32);
    if let Some(thread) = kernel::<u32>(ctx.arg(2), fields().pid) {
        comes(thread);
    }
    0
}

#[inline(always)]
fn fields() -> ServiceFields {
    // SAFETY: a static of this object. Volatile, because the loader writes it after the compiler has seen zeros.
    unsafe { core::ptr::read_volatile(&raw const SERVICE_FIELDS) }
}

#[inline(always)]
fn now() -> u64 {
    // SAFETY: no argument.
    unsafe { bpf_ktime_get_ns() }
}

/// `None` for processes that were not chosen, and for sockets that are no connection to a port they listen on.
#[inline(always)]
fn served(socket: *const u8) -> Option<Served> {
    let current = bpf_get_current_pid_tgid();
    let (process, thread) = ((current >> 32) as u32, current as u32);
    // SAFETY: copied at once; the loader writes it.
    let slot = unsafe { SERVICE_PROCESSES.get(process) }.copied()?;
    let fields = fields();
    let ports: [u16; 2] = kernel(socket, fields.ports)?;
    let [_, local] = ports;
    SERVICE_PORTS.get_ptr(ServicePort { process, port: local, zero: 0 })?;
    if !matches!(kernel::<u16>(socket, fields.family)?, AF_INET | AF_INET6)
        || kernel::<u16>(socket, fields.protocol)? != TCP
    {
        return None;
    }
    // one word of both, only ever compared
    let ports = u32::from(ports[0]) << 16 | u32::from(local);
    Some(Served { slot, thread, socket: socket as u64, ports })
}

/// Bytes came: a request, or more of one.
#[inline(always)]
fn asked(served: &Served) {
    let known = SERVICE_CONNECTIONS.get_ptr_mut(served.socket);
    if let Some(connection) = known {
        // SAFETY: a pointer that the map gave. Two threads that read one connection at once would garble a request of
        // their own, which maps to neither.
        let connection = unsafe { &mut *connection };
        if connection.ports == served.ports && connection.asked != 0 {
            if connection.asked != served.thread {
                connection.asked = SEVERAL;
            }
            return;
        }
        *connection = Connection { ports: served.ports, asked: served.thread };
    } else {
        let connection = Connection { ports: served.ports, asked: served.thread };
        if SERVICE_CONNECTIONS.insert(served.socket, connection, 0).is_err() {
            lost::count(counters::SERVICES);
        }
    }
    if let Some(service) = SERVICES.get_ptr_mut(served.slot) {
        // SAFETY: a pointer that the map gave, to this CPU's value; a tracing program is not interrupted by itself on the
        // same CPU, and the other one that counts here runs in a process as this one does.
        unsafe { (*service).requests += 1 };
    }
    begins(served);
}

/// The thread works on this request from now on.
#[inline(always)]
fn begins(served: &Served) {
    let now = now();
    let Some(thread) = SERVICE_THREADS.get_ptr_mut(served.thread) else {
        let thread = Thread { socket: served.socket, began: now, since: now, left: now, ..Thread::default() };
        if SERVICE_THREADS.insert(served.thread, thread, 0).is_err() {
            lost::count(counters::SERVICES);
        }
        return;
    };
    // SAFETY: a pointer that the map gave; see the map for who changes an entry.
    let thread = unsafe { &mut *thread };
    if thread.socket != 0 && thread.socket != served.socket && thread.ended == 0 {
        thread.tangled = now;
    }
    thread.socket = served.socket;
    thread.began = now;
    thread.since = now;
    thread.left = now;
    thread.on_cpu = 0;
    thread.off_cpu = 0;
    thread.ended = 0;
}

/// Bytes were sent: an answer, or the rest of one.
#[inline(always)]
fn answered(served: &Served) {
    let Some(connection) = SERVICE_CONNECTIONS.get_ptr_mut(served.socket) else { return };
    // SAFETY: as in `asked`.
    let connection = unsafe { &mut *connection };
    if connection.ports != served.ports || connection.asked == 0 {
        return;
    }
    let asked = connection.asked;
    connection.asked = 0;
    let Some(thread) = SERVICE_THREADS.get_ptr_mut(served.thread) else { return };
    // SAFETY: as in `begins`.
    let thread = unsafe { &mut *thread };
    if thread.socket != served.socket || asked != served.thread {
        // another request's answer, while this thread has one of its own, or of a thread that gave it away
        thread.tangled = now();
        return;
    }
    thread.socket = 0;
    if thread.tangled != 0 && thread.tangled + TANGLED > thread.began {
        return;
    }
    let on_cpu = thread.on_cpu + now().saturating_sub(thread.since);
    let off_cpu = thread.off_cpu;
    let Some(service) = SERVICES.get_ptr_mut(served.slot) else { return };
    // SAFETY: as in `asked`; the buckets are below the bound by how they are made.
    unsafe {
        (*service).on_cpu += on_cpu;
        (*service).off_cpu += off_cpu;
        *(&raw mut (*service).by_on_cpu).cast::<u64>().add(bucket(on_cpu) as usize) += 1;
        *(&raw mut (*service).by_off_cpu).cast::<u64>().add(bucket(off_cpu) as usize) += 1;
    }
}

/// The other end will ask no more. What it asked may still be answered, or never. A socket that was reset has no local port
/// any more: it is known by its address alone.
#[inline(always)]
fn ended(socket: *const u8) {
    let current = bpf_get_current_pid_tgid();
    if SERVICE_PROCESSES.get_ptr((current >> 32) as u32).is_none() {
        return;
    }
    if let Some(thread) = SERVICE_THREADS.get_ptr_mut(current as u32) {
        // SAFETY: as in `begins`.
        let thread = unsafe { &mut *thread };
        if thread.socket == socket as u64 {
            thread.ended = 1;
        }
    }
}

#[inline(always)]
fn leaves(thread: u32) {
    if let Some(thread) = busy(thread) {
        thread.left = now();
        thread.on_cpu += thread.left.saturating_sub(thread.since);
    }
}

#[inline(always)]
fn comes(thread: u32) {
    if let Some(thread) = busy(thread) {
        thread.since = now();
        thread.off_cpu += thread.since.saturating_sub(thread.left);
    }
}

/// The thread, while it works on a request.
#[inline(always)]
fn busy<'entry>(thread: u32) -> Option<&'entry mut Thread> {
    if thread == 0 {
        return None; // the idle thread of each processor
    }
    let thread = SERVICE_THREADS.get_ptr_mut(thread)?;
    // SAFETY: a pointer that the map gave; see the map for who changes an entry.
    let thread = unsafe { &mut *thread };
    (thread.socket != 0).then_some(thread)
}
