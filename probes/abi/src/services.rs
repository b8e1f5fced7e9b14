//! What threads of chosen services spend on requests.
//!
//! A request begins when bytes arrive on a connection to a port that the service listens on, and ends when the first bytes
//! of the answer are sent there. It maps to a thread when the thread that received it sends the answer, and deals with no
//! other connection to those ports meanwhile.

/// Services that are told apart: the entries of the map `SERVICES`, by slot.
pub const SERVICES: u32 = 16;

/// Entries of the map `SERVICE_PROCESSES`: processes (by the kernel's `tgid`) of chosen services, and their slots. What
/// other processes do ends at this map.
pub const PROCESSES: u32 = 1_024;

/// Entries of the map `SERVICE_PORTS`: ports that such a process listens on, over all processes.
pub const PORTS: u32 = 4_096;

/// Entries of the map `SERVICE_THREADS`, by thread. The one that was not used for the longest time goes first.
pub const THREADS: u32 = 16_384;

/// Entries of the map `SERVICE_CONNECTIONS`, by the socket's address in the kernel. Likewise.
pub const CONNECTIONS: u32 = 65_536;

/// Times are counted in powers of two of microseconds: bucket `n` holds those below 2^(n+1) and not in a lower one. The last
/// one begins at 8.4 seconds.
pub const BUCKETS: usize = 24;

/// A thread that was seen with two requests at once is taken for one that mixes them until it began another one this long
/// afterwards, nanoseconds.
pub const TANGLED: u64 = 1_000_000_000;

/// The thread of a connection whose request several threads received.
pub const SEVERAL: u32 = u32::MAX;

/// The key of the map `SERVICE_PORTS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServicePort {
    /// The process (the kernel's `tgid`, in its first pid namespace).
    pub process: u32,
    /// In host order.
    pub port: u16,
    /// Always 0.
    pub zero: u16,
}

crate::record!(ServicePort, 8, align 4);

/// The value of the map `SERVICE_CONNECTIONS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connection {
    /// Both ports, as the kernel keeps them side by side: where they differ the socket is another one at the same address.
    pub ports: u32,
    /// The thread that received a request which is not answered yet, or [`SEVERAL`]; 0 when all are answered.
    pub asked: u32,
}

crate::record!(Connection, 8, align 4);

/// The value of the map `SERVICE_THREADS`: the request that a thread works on. Times are nanoseconds of the monotonic clock.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Thread {
    /// Address of the socket that it came from; 0 when there is none.
    pub socket: u64,
    /// When it began.
    pub began: u64,
    /// Since when the thread is on a processor, for the last time.
    pub since: u64,
    /// When it left one, for the last time.
    pub left: u64,
    /// Nanoseconds on a processor until `since`.
    pub on_cpu: u64,
    /// Nanoseconds off it.
    pub off_cpu: u64,
    /// When the thread was last seen with two requests at once; 0 never.
    pub tangled: u64,
    /// 1 when the other end has said that it will ask no more: the thread may turn to others without an answer.
    pub ended: u64,
}

crate::record!(Thread, 64, align 8);

/// The value of the map `SERVICES`, on each CPU. Only ever added to.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// Requests that were received, whether they map to a thread or not.
    pub requests: u64,
    /// Nanoseconds on a processor of those that do.
    pub on_cpu: u64,
    /// Nanoseconds off it.
    pub off_cpu: u64,
    /// Requests that map to a thread, by time on a processor, see [`bucket`].
    pub by_on_cpu: [u64; BUCKETS],
    /// The same, by time off it.
    pub by_off_cpu: [u64; BUCKETS],
}

crate::record!(Service, (3 + 2 * BUCKETS) * 8, align 8);

impl Service {
    /// Nothing counted.
    pub const ZERO: Service =
        Service { requests: 0, on_cpu: 0, off_cpu: 0, by_on_cpu: [0; BUCKETS], by_off_cpu: [0; BUCKETS] };

    /// Adds another CPU's counts.
    pub fn add(&mut self, other: &Service) {
        self.requests += other.requests;
        self.on_cpu += other.on_cpu;
        self.off_cpu += other.off_cpu;
        self.by_on_cpu.iter_mut().zip(other.by_on_cpu).for_each(|(sum, count)| *sum += count);
        self.by_off_cpu.iter_mut().zip(other.by_off_cpu).for_each(|(sum, count)| *sum += count);
    }
}

/// Where this kernel keeps what is read, in bytes from the start of a socket or a task; patched into the object.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServiceFields {
    /// The remote port (network order) and behind it the local one (host order) of a socket, 2 bytes each.
    pub ports: u16,
    /// A socket's address family, 2 bytes.
    pub family: u16,
    /// A socket's protocol, 2 bytes.
    pub protocol: u16,
    /// A task's number, 4 bytes.
    pub pid: u16,
}

crate::record!(ServiceFields, 8, align 2);

/// The index of a time in [`Service::by_on_cpu`] and [`Service::by_off_cpu`].
#[must_use]
#[inline(always)]
pub const fn bucket(nanoseconds: u64) -> u32 {
    let power = ((nanoseconds / 1_000) | 1).ilog2();
    if power < BUCKETS as u32 { power } else { BUCKETS as u32 - 1 }
}
