//! What was seen, as plain data: sources (kernel maps, `iter/tcp`, sock_diag, `/proc`) fill it, and `/metrics`, `top` and
//! `--json` show it. A part that no source could fill is `None`: unknown is never shown as 0. Counts are totals since the
//! source began unless they say otherwise; lists are bounded where they are made.

mod traffic;
mod work;

pub use traffic::{
    ByteCount, LifeTimes, ListenerDrops, ListenerQueue, OpenCount, ProgramCost, RetransmitCount, RoundTrips,
    Sizes, TransitionCount,
};
pub use work::{BypassCount, BypassWork, Disagreement, RequestCount, RequestTimes, ServiceTotals};

use crate::host::Host;
use serde::Serialize;
use std::net::IpAddr;
use std::time::Duration;
use weir_probes_abi::Endpoint;

/// Where a destination's sockets end: an address and port, or the fold of those beyond the bound.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(untagged)]
pub enum Destination {
    /// One endpoint, `address:port`.
    One(String),
    /// All others: `_other`.
    Other,
}

/// A local address that connections start from: one, or all of `127.0.0.0/8` once they are many, or the rest.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum Source {
    /// One address.
    One(IpAddr),
    /// `127.0.0.0/8`: loopback sources beyond a bound count together.
    Loopback,
    /// `_other`.
    Other,
}

/// Who opened a connection, seen from this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// A process here connected to the destination.
    Outgoing,
    /// The destination is an endpoint that a process here listens on.
    Incoming,
}

/// TCP states as the kernel numbers them (`include/net/tcp_states.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// 1.
    Established,
    /// 2.
    SynSent,
    /// 3, and 12: a request not accepted yet.
    SynRecv,
    /// 4.
    FinWait1,
    /// 5.
    FinWait2,
    /// 6: holds its local port for a minute.
    TimeWait,
    /// 7.
    Close,
    /// 8.
    CloseWait,
    /// 9.
    LastAck,
    /// 10.
    Listen,
    /// 11.
    Closing,
}

impl State {
    /// Every state, in the kernel's order.
    pub const ALL: [State; 11] = [
        State::Established,
        State::SynSent,
        State::SynRecv,
        State::FinWait1,
        State::FinWait2,
        State::TimeWait,
        State::Close,
        State::CloseWait,
        State::LastAck,
        State::Listen,
        State::Closing,
    ];

    /// The state of a kernel number.
    #[must_use]
    pub const fn of(number: u8) -> Option<State> {
        match number {
            1..=11 => Some(State::ALL[number as usize - 1]),
            12 => Some(State::SynRecv),
            _ => None,
        }
    }

    /// As a label value.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            State::Established => "established",
            State::SynSent => "syn_sent",
            State::SynRecv => "syn_recv",
            State::FinWait1 => "fin_wait1",
            State::FinWait2 => "fin_wait2",
            State::TimeWait => "time_wait",
            State::Close => "close",
            State::CloseWait => "close_wait",
            State::LastAck => "last_ack",
            State::Listen => "listen",
            State::Closing => "closing",
        }
    }
}

/// Sockets in one state now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SocketCount {
    /// Of which network namespace, as the operator named it (`host` for the reader's own).
    pub namespace: String,
    /// Towards where.
    pub destination: Destination,
    /// Opened by whom.
    pub direction: Direction,
    /// In which state.
    pub state: State,
    /// How many now.
    pub sockets: u64,
}

/// Local ports in use towards one destination from one source address, now.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PortUse {
    /// Of which network namespace.
    pub namespace: String,
    /// The local address.
    pub source: Source,
    /// Towards where.
    pub destination: Destination,
    /// Ports in use of those there are (see `capacity`), TIME_WAIT included. Of sources or destinations that count together, the most that one pair uses:
    /// ports run out pair by pair, never in sum.
    pub used: u64,
    /// Of these in TIME_WAIT.
    pub time_wait: u64,
    /// Ports there are: `ip_local_port_range` without the reserved ones. `None` where it could not be read.
    pub capacity: Option<u64>,
    /// Until none is left at the present slope; `None` while the use does not grow or is not known for long enough.
    pub exhausted_in: Option<Duration>,
}

/// A network namespace that was looked into.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NamespaceStatus {
    /// As the operator named it (`host` for the reader's own).
    pub namespace: String,
    /// Ports that connections get by themselves: `ip_local_port_range` without the reserved ones. `None` where it could not
    /// be read.
    pub ports: Option<u64>,
    /// Why its sockets are not in the picture, or not all of them.
    pub problem: Option<String>,
}

/// A system call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// bind(2).
    Bind,
    /// connect(2).
    Connect,
}

/// Failures of one call, one errno, one process, one destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ErrorCount {
    /// Which call.
    pub call: Call,
    /// Linux errno.
    pub errno: i32,
    /// Whose.
    pub process: Process,
    /// Where to; of bind(2) the address asked for.
    pub destination: Destination,
    /// How often.
    pub failures: u64,
}

/// A process, as far as it could be named. Everything here may come from outside: escaped where it is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Process {
    /// Its id, as the kernel numbers processes in its first process namespace; of those that sock_diag and `/proc` told, in
    /// the reader's. 0: no single process.
    pub pid: u32,
    /// Its short name (`comm`, at most 15 bytes).
    pub comm: String,
    /// Its user.
    pub uid: Option<u32>,
    /// Its program file.
    pub executable: Option<String>,
    /// Its systemd unit, container or pod, from its cgroup path.
    pub unit: Option<String>,
    /// It has ended: what stands here are the sums of all that did and went by this name.
    pub ended: bool,
}

/// Whether a probe is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum ProbeState {
    /// Loaded, attached, counting.
    Attached,
    /// Not asked for.
    Off,
    /// This kernel has no such hook.
    Unsupported {
        /// What is missing.
        reason: String,
    },
    /// The kernel said no.
    Refused {
        /// Linux errno, where one was given.
        errno: Option<i32>,
        /// What was tried and what the kernel said.
        reason: String,
    },
}

/// One probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProbeStatus {
    /// Its name.
    pub probe: &'static str,
    /// Whether it is there.
    #[serde(flatten)]
    pub state: ProbeState,
    /// Events it could not keep: a full map or ring. `None` while it is not attached.
    pub lost: Option<u64>,
}

/// How long one source took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Look {
    /// Its name.
    pub source: &'static str,
    /// From the call to its return.
    pub took: Duration,
}

/// All that was seen at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Picture {
    /// The machine, and the rights that are held.
    pub host: Option<Host>,
    /// Every source that looked, in the order in which they did.
    pub looks: Vec<Look>,
    /// Every probe there is, asked for or not.
    pub probes: Vec<ProbeStatus>,
    /// Sockets by destination and state.
    pub sockets: Option<Vec<SocketCount>>,
    /// Local ports by source and destination.
    pub ports: Option<Vec<PortUse>>,
    /// Failed calls.
    pub errors: Option<Vec<ErrorCount>>,
    /// Changes of state.
    pub transitions: Option<Vec<TransitionCount>>,
    /// Connections established.
    pub opens: Option<Vec<OpenCount>>,
    /// How long connections lived.
    pub life_times: Option<Vec<LifeTimes>>,
    /// Bytes.
    pub bytes: Option<Vec<ByteCount>>,
    /// Round trips.
    pub round_trips: Option<Vec<RoundTrips>>,
    /// Retransmits.
    pub retransmits: Option<Vec<RetransmitCount>>,
    /// Queues of listening sockets.
    pub listeners: Option<Vec<ListenerQueue>>,
    /// Every network namespace that was asked for.
    pub namespaces: Vec<NamespaceStatus>,
    /// Connections not taken.
    pub listener_drops: Option<Vec<ListenerDrops>>,
    /// Connections that go past weir.
    pub bypass: Option<Vec<BypassCount>>,
    /// Requests that do.
    pub bypass_work: Option<Vec<BypassWork>>,
    /// Requests' time by service.
    pub request_times: Option<Vec<RequestTimes>>,
    /// Chosen services as a whole.
    pub services: Option<Vec<ServiceTotals>>,
    /// Requests that passed weir's own point.
    pub requests: Option<Vec<RequestCount>>,
    /// Weir's word against the kernel's.
    pub disagreements: Option<Vec<Disagreement>>,
    /// What the programs cost.
    pub programs: Option<Vec<ProgramCost>>,
}

impl Direction {
    /// As a label value.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Direction::Outgoing => "outgoing",
            Direction::Incoming => "incoming",
        }
    }
}

impl Call {
    /// As a label value.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Call::Bind => "bind",
            Call::Connect => "connect",
        }
    }
}

impl ProbeState {
    /// As a label value.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            ProbeState::Attached => "attached",
            ProbeState::Off => "off",
            ProbeState::Unsupported { .. } => "unsupported",
            ProbeState::Refused { .. } => "refused",
        }
    }
}

impl Source {
    /// As a label value.
    #[must_use]
    pub fn label(&self) -> String {
        match self {
            Source::One(address) => address.to_canonical().to_string(),
            Source::Loopback => "127.0.0.0/8".to_owned(),
            Source::Other => "_other".to_owned(),
        }
    }
}

impl From<Endpoint> for Destination {
    fn from(endpoint: Endpoint) -> Destination {
        let address = IpAddr::from(endpoint.address).to_canonical();
        Destination::One(std::net::SocketAddr::new(address, endpoint.port).to_string())
    }
}

impl Destination {
    /// As a label value.
    #[must_use]
    pub fn label(&self) -> &str {
        match self {
            Destination::One(text) => text,
            Destination::Other => "_other",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_has_the_kernels_number_and_nothing_else_has_one() {
        for (index, state) in State::ALL.into_iter().enumerate() {
            assert_eq!(State::of(index as u8 + 1), Some(state), "{}", state.name());
        }
        assert_eq!(State::of(12), Some(State::SynRecv), "TCP_NEW_SYN_RECV");
        assert_eq!([State::of(0), State::of(13)], [None, None]);
    }

    #[test]
    fn an_ipv4_destination_reads_as_ipv4_however_its_socket_was_made() {
        let shown = Destination::from(Endpoint::v4([127, 0, 0, 1], 11211));
        assert_eq!(shown.label(), "127.0.0.1:11211");
        let shown = Destination::from(Endpoint::v6([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], 9042));
        assert_eq!(shown.label(), "[::1]:9042");
        assert_eq!(Destination::Other.label(), "_other");
    }
}
