//! Every metric of `weir-probes`, once. `weir_build_info` and `process_*` are those of [`crate::catalogue`].

use crate::catalogue::{self, LabelInfo, MetricInfo, MetricKind, Values, catalogue as declare, label};

/// Destinations that become label values: those that are watched, and the rest while there is room.
pub const DESTINATIONS: usize = 64;
/// Local addresses that become label values, `127.0.0.0/8` included.
pub const SOURCES: usize = 17;
/// Processes that become label values.
pub const PROCESSES: usize = 64;
/// Network namespaces that become label values, the reader's own included.
pub const NAMESPACES: usize = 17;
/// Users that become label values.
pub const USERS: usize = 64;
/// systemd units, containers and pods that become label values.
pub const UNITS: usize = 64;
/// Listening sockets that become label values.
pub const LISTENERS: usize = 64;
/// Services whose threads are timed.
pub const SERVICES: usize = 16;
/// Probes, and readers of them.
pub const PROBE_NAMES: usize = 32;
/// Programs in the kernel.
pub const PROGRAMS: usize = 64;
/// Words of the code for things that are compared, or for why a connection was dropped.
pub const WORDS: usize = 16;
/// Series of one metric.
pub const SERIES: usize = 4_096;

/// Values of `state` in `weir_socket_states`, and of `from` and `to`.
pub const STATES: &[&str] = &[
    "established",
    "syn_sent",
    "syn_recv",
    "fin_wait1",
    "fin_wait2",
    "time_wait",
    "close",
    "close_wait",
    "last_ack",
    "listen",
    "closing",
];
/// Values of `state` in `weir_probe_attached`.
pub const PROBE_STATES: &[&str] = &["attached", "off", "unsupported", "refused"];
/// Values of `direction` of a connection.
pub const DIRECTIONS: &[&str] = &["outgoing", "incoming"];
/// Values of `direction` of bytes.
pub const FLOWS: &[&str] = &["sent", "received"];
/// Values of `call`.
pub const CALLS: &[&str] = &["bind", "connect"];
/// Values of `errno`; any other number is `other`, and none at all `unknown`.
pub const ERRNOS: &[&str] = &[
    "EPERM",
    "ENOENT",
    "EINTR",
    "EIO",
    "E2BIG",
    "EBADF",
    "EAGAIN",
    "ENOMEM",
    "EACCES",
    "EBUSY",
    "EEXIST",
    "ENODEV",
    "EINVAL",
    "ENFILE",
    "EMFILE",
    "ENOSPC",
    "ENOSYS",
    "ENOTSOCK",
    "EPROTOTYPE",
    "EOPNOTSUPP",
    "EAFNOSUPPORT",
    "EADDRINUSE",
    "EADDRNOTAVAIL",
    "ENETDOWN",
    "ENETUNREACH",
    "ECONNABORTED",
    "ECONNRESET",
    "ENOBUFS",
    "EISCONN",
    "ETIMEDOUT",
    "ECONNREFUSED",
    "EHOSTUNREACH",
    "EALREADY",
    "EINPROGRESS",
    "other",
    "unknown",
];

const NAMESPACE: LabelInfo = label("namespace", Values::Configured(NAMESPACES));
const DESTINATION: LabelInfo = label("destination", Values::Configured(DESTINATIONS));
const SOURCE: LabelInfo = label("source", Values::Configured(SOURCES));
const PROCESS: LabelInfo = label("process", Values::Capped(PROCESSES));
const UID: LabelInfo = label("uid", Values::Configured(USERS));
const UNIT: LabelInfo = label("unit", Values::Capped(UNITS));
const LISTENER: LabelInfo = label("listener", Values::Configured(LISTENERS));
const SERVICE: LabelInfo = label("service", Values::Configured(SERVICES));
const PROBE: LabelInfo = label("probe", Values::Configured(PROBE_NAMES));
const READER: LabelInfo = label("reader", Values::Configured(PROBE_NAMES));
const PROGRAM: LabelInfo = label("program", Values::Configured(PROGRAMS));
const DIRECTION: LabelInfo = label("direction", Values::Listed(DIRECTIONS));

/// Values of `label`: every label with a cap, and the series of one metric.
pub(super) const CAPPED_LABELS: &[&str] = &[
    "namespace",
    "destination",
    "source",
    "process",
    "uid",
    "unit",
    "listener",
    "service",
    "probe",
    "reader",
    "program",
    "reason",
    "what",
    "capability",
    "series",
];

declare! {
    /// What `weir-probes` alone exposes, in the order of `docs/metrics.md`.
    OWN:

    // Sockets by destination.
    SOCKET_STATES = Gauge "weir_socket_states" [NAMESPACE, DESTINATION, DIRECTION, label("state", Values::Listed(STATES))]
        "TCP sockets now, TIME_WAIT included";
    SOCKET_TRANSITIONS = Counter "weir_socket_transitions_total" [DESTINATION, DIRECTION, label("from", Values::Listed(STATES)), label("to", Values::Listed(STATES))]
        "Changes of state of TCP sockets in every network namespace; the kernel tells of none into or out of time_wait";
    SOCKET_OPENS = Counter "weir_socket_opens_total" [DESTINATION, DIRECTION]
        "Connections begun: outgoing ones when they were tried, incoming ones when they could be accepted";
    SOCKET_LIFETIME = Histogram "weir_socket_lifetime_seconds" [DESTINATION, DIRECTION]
        "Time from the start of a connection to its close, time_wait not included";
    SOCKET_BYTES = Counter "weir_socket_bytes_total" [DESTINATION, label("direction", Values::Listed(FLOWS))]
        "Payload bytes of connections, added when they close (sent: acknowledged by the other end)";
    SOCKET_RTT = Histogram "weir_socket_rtt_seconds" [DESTINATION]
        "Smoothed round-trip time of a connection at its close";
    SOCKET_RETRANSMITS = Counter "weir_socket_retransmits_total" [DESTINATION]
        "Segments sent again";

    // Local ports.
    PORTS_USED = Gauge "weir_socket_ports_used" [NAMESPACE, SOURCE, DESTINATION]
        "Local ports in use from one source address towards one destination, time_wait included; of sources or destinations that count together, the most that one pair of them uses";
    PORTS_CAPACITY = Gauge "weir_socket_ports_capacity" [NAMESPACE]
        "Local ports that the kernel hands out: ip_local_port_range without the reserved ones";
    PORTS_SECONDS_LEFT = Gauge "weir_socket_ports_seconds_left" [NAMESPACE, SOURCE, DESTINATION]
        "Time until no local port is left at the present slope; no series while the use does not grow";

    // Failed calls, and what came too late for an accept queue.
    SOCKET_ERRORS = Counter "weir_socket_errors_total" [label("call", Values::Listed(CALLS)), label("errno", Values::Listed(ERRNOS)), DESTINATION, PROCESS]
        "Failed bind and connect calls; of bind, the destination is the address asked for";
    LISTENER_QUEUE = Gauge "weir_listener_queue" [LISTENER]
        "Connections that wait for a listening process to accept them";
    LISTENER_QUEUE_MAX = Gauge "weir_listener_queue_max" [LISTENER]
        "Connections that may wait: the backlog in force";
    LISTENER_DROPS = Counter "weir_listener_drops_total" [LISTENER, label("reason", Values::Configured(WORDS))]
        "Connections that a listening socket did not take";

    // Whoever goes past weir.
    BYPASS_CONNECTIONS = Counter "weir_bypass_connections_total" [DESTINATION, PROCESS, UID, UNIT]
        "Connections to watched destinations from processes other than weir and those allowed";
    BYPASS_REQUESTS = Counter "weir_bypass_requests_total" [DESTINATION, PROCESS]
        "Requests of processes that bypass weir, an estimate from the first bytes of each write";
    BYPASS_OPERATIONS = Counter "weir_bypass_operations_total" [DESTINATION, PROCESS]
        "Operations in those requests, an estimate";
    BYPASS_REQUEST_OPERATIONS = Histogram "weir_bypass_request_operations" [DESTINATION, PROCESS]
        "Operations of one such request, an estimate";
    BYPASS_REQUEST_OPERATIONS_MAX = Gauge "weir_bypass_request_operations_max" [DESTINATION, PROCESS]
        "Largest such request of the last minute, an estimate";

    // Per request inside weir and chosen services, and weir's word against the kernel's.
    REQUEST_CPU = Histogram "weir_request_cpu_seconds" [SERVICE]
        "Processor time of the thread that carried out a request, from its first bytes to the first of the answer; only of requests that map to a thread";
    REQUEST_BLOCKED = Histogram "weir_request_blocked_seconds" [SERVICE]
        "Time that thread was off the processor meanwhile, waiting for one included";
    SERVICE_PROCESSES = Gauge "weir_service_processes" [SERVICE]
        "Processes of a service that are followed: running, and the ports they listen on known";
    SERVICE_REQUESTS = Counter "weir_service_requests_total" [SERVICE]
        "Requests that a service received on the ports it listens on, whether they map to a thread or not";
    SERVICE_CPU = Counter "weir_service_cpu_seconds_total" [SERVICE]
        "Processor time of a service's processes, whatever they did: per request of weir_service_requests_total an average, and no request's own";
    WITNESS_DISAGREEMENT = Gauge "weir_witness_disagreement" [label("what", Values::Configured(WORDS))]
        "How far what weir says it did is from what the kernel saw, as a share of the larger; 0 when they agree";

    // The probes themselves.
    PROBE_ATTACHED = Gauge "weir_probe_attached" [PROBE, label("state", Values::Listed(PROBE_STATES))]
        "1 when the probe counts (state attached), else 0; one series for each probe";
    PROBE_REFUSED_INFO = Gauge "weir_probe_refused_info" [PROBE, label("errno", Values::Listed(ERRNOS))]
        "1 for a probe that the kernel refused, with the error it gave";
    PROBE_EVENTS_LOST = Counter "weir_probe_events_lost_total" [PROBE]
        "Events a probe could not keep, because its map or ring buffer was full";
    PROGRAM_RUN_TIME = Counter "weir_probe_program_run_seconds_total" [PROGRAM]
        "Time spent in a program in the kernel; only while kernel.bpf_stats_enabled is 1";
    PROGRAM_RUNS = Counter "weir_probe_program_runs_total" [PROGRAM]
        "Runs of a program in the kernel; only while kernel.bpf_stats_enabled is 1";

    // weir-probes itself.
    PICTURE_AGE = Gauge "weir_probes_picture_age_seconds" []
        "Time since what is exposed was read from the kernel";
    LOOK_TIME = Gauge "weir_probes_look_seconds" [READER]
        "Time that a reader's last look took";
    CAPABILITY = Gauge "weir_probes_capability" [label("capability", Values::Configured(WORDS))]
        "1 for a capability that weir-probes holds now, 0 for one that some probe could use and that it does not hold";
    HOST_INFO = Gauge "weir_probes_host_info" [label("kernel", Values::Single("uname -r")), label("machine", Values::Single("uname -m")), label("lockdown", Values::Single("kernel lockdown in force, or unknown"))]
        "1 for the machine that is watched";
    LABEL_OVERFLOW = Counter "weir_label_overflow_total" [label("label", Values::Listed(CAPPED_LABELS))]
        "Times a name was folded into _other because the cap of its label was reached";
}

/// Every metric of `weir-probes`, in the order of `docs/metrics.md` and of the exposition.
pub const PROBES: &[MetricInfo] = &{
    let mut all = [catalogue::BUILD_INFO; OWN.len() + SHARED.len()];
    let mut at = 0;
    while at < all.len() {
        all[at] = if at < OWN.len() { OWN[at] } else { SHARED[at - OWN.len()] };
        at += 1;
    }
    all
};

const SHARED: &[MetricInfo] = &[
    catalogue::BUILD_INFO,
    catalogue::PROCESS_CPU,
    catalogue::PROCESS_RESIDENT,
    catalogue::PROCESS_VIRTUAL,
    catalogue::PROCESS_OPEN_FDS,
    catalogue::PROCESS_MAX_FDS,
    catalogue::PROCESS_THREADS,
    catalogue::PROCESS_START,
];
