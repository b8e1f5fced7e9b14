//! A picture in which everything was seen, of a host on which April happens, with a process that was named by an enemy.
#![allow(dead_code, reason = "each test program is compiled with all of this and uses a part of it")]

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;
use weir_probes::host::Host;
use weir_probes::picture::*;

/// A name that would act on a terminal, a log, a shell or an HTML page.
pub const HOSTILE: &str = "\u{1b}[2J\n$(id)<script>";

pub fn cache() -> Destination {
    Destination::One("127.0.0.1:11211".to_owned())
}

pub fn gomc() -> Process {
    Process {
        pid: 4_242,
        comm: "gomc".to_owned(),
        uid: Some(1_000),
        executable: Some("/usr/bin/gomc".to_owned()),
        unit: Some("gomc.service".to_owned()),
        ended: false,
    }
}

pub fn hostile() -> Process {
    Process {
        pid: 666,
        comm: HOSTILE.to_owned(),
        executable: Some(format!("/tmp/{HOSTILE}")),
        ..Process::default()
    }
}

fn sizes(bounds: &'static [f64], counts: &[u64], sum: f64) -> Sizes {
    Sizes { bounds, counts: counts.to_vec(), sum }
}

fn sockets() -> Vec<SocketCount> {
    let row = |destination: Destination, direction, state, sockets| SocketCount {
        namespace: "host".to_owned(),
        destination,
        direction,
        state,
        sockets,
    };
    vec![
        row(cache(), Direction::Outgoing, State::Established, 12),
        row(cache(), Direction::Outgoing, State::TimeWait, 27_500),
        row(cache(), Direction::Incoming, State::Established, 12),
        row(Destination::Other, Direction::Outgoing, State::Established, 40),
    ]
}

fn ports() -> Vec<PortUse> {
    let row = |source, destination, used, time_wait, exhausted_in| PortUse {
        namespace: "host".to_owned(),
        source,
        destination,
        used,
        time_wait,
        capacity: Some(28_232),
        exhausted_in,
    };
    let local = Source::One(IpAddr::V4(Ipv4Addr::LOCALHOST));
    vec![
        row(local.clone(), cache(), 27_512, 27_500, Some(Duration::from_millis(1_500))),
        row(Source::Loopback, cache(), 20, 20, None),
        row(local, Destination::Other, 3, 0, None),
    ]
}

fn errors() -> Vec<ErrorCount> {
    let row =
        |call, errno, process, failures| ErrorCount { call, errno, process, destination: cache(), failures };
    vec![
        row(Call::Bind, 98, gomc(), 30),
        row(Call::Connect, 99, gomc(), 30),
        row(Call::Connect, 111, hostile(), 1),
        row(Call::Connect, 4_095, Process { pid: 4_243, ..gomc() }, 2),
    ]
}

fn probes() -> Vec<ProbeStatus> {
    let row = |probe, state, lost| ProbeStatus { probe, state, lost };
    let refused = ProbeState::Refused { errno: Some(1), reason: "bpf(BPF_PROG_LOAD) said EPERM".to_owned() };
    let missing = ProbeState::Unsupported { reason: "no cgroup v2 tree is mounted".to_owned() };
    vec![
        row("errors", ProbeState::Attached, Some(2)),
        row("tcp_iter", refused, None),
        row("traffic", missing, None),
        row("work", ProbeState::Off, None),
    ]
}

fn host() -> Host {
    Host {
        kernel: "6.18.0".to_owned(),
        machine: "x86_64".to_owned(),
        btf: true,
        tracefs: None,
        bpffs: None,
        cgroup2: None,
        lockdown: None,
        capabilities: vec!["CAP_BPF", "CAP_PERFMON"],
    }
}

const SECONDS: &[f64] = &[0.001, 0.1, 10.0];
const OPERATIONS: &[f64] = &[1.0, 100.0, 10_000.0];

pub fn picture() -> Picture {
    let (outgoing, cache_) = (Direction::Outgoing, cache);
    Picture {
        host: Some(host()),
        looks: vec![Look { source: "machine", took: Duration::from_micros(250) }],
        probes: probes(),
        sockets: Some(sockets()),
        ports: Some(ports()),
        errors: Some(errors()),
        transitions: Some(vec![TransitionCount {
            destination: cache_(),
            direction: outgoing,
            from: State::Close,
            to: State::SynSent,
            count: 301,
        }]),
        opens: Some(vec![OpenCount { destination: cache_(), direction: outgoing, opens: 301 }]),
        life_times: Some(vec![LifeTimes {
            destination: cache_(),
            direction: outgoing,
            buckets: vec![0, 0, 0, 0, 0, 0, 7, 200, 93, 0, 1],
            microseconds: 77_000,
            unknown: 3,
        }]),
        bytes: Some(vec![ByteCount { destination: cache_(), sent: 208_424, received: 1_621 }]),
        round_trips: Some(vec![RoundTrips { destination: cache_(), rtt: sizes(SECONDS, &[301], 0.184) }]),
        retransmits: Some(vec![RetransmitCount { destination: cache_(), segments: 3 }]),
        listeners: Some(vec![ListenerQueue {
            namespace: "host".to_owned(),
            listener: "127.0.0.1:11311".to_owned(),
            waiting: 5,
            max: 4_096,
        }]),
        namespaces: vec![
            NamespaceStatus { namespace: "host".to_owned(), ports: Some(28_232), problem: None },
            NamespaceStatus {
                namespace: "blue".to_owned(),
                ports: None,
                problem: Some("not there".to_owned()),
            },
        ],
        listener_drops: Some(vec![ListenerDrops {
            listener: "127.0.0.1:11311".to_owned(),
            reason: "accept_queue",
            dropped: 7,
        }]),
        bypass: Some(vec![
            BypassCount { destination: cache_(), process: gomc(), connections: 301 },
            BypassCount { destination: cache_(), process: hostile(), connections: 1 },
        ]),
        bypass_work: Some(vec![BypassWork {
            destination: cache_(),
            process: gomc(),
            requests: 4,
            operations: 17_504,
            sizes: sizes(OPERATIONS, &[2, 1, 0, 1], 17_504.0),
            largest_last_minute: 17_500,
            writes: 5,
            bytes: 160_000,
            unseen: 1,
        }]),
        request_times: Some(vec![RequestTimes {
            service: "appview".to_owned(),
            on_cpu: sizes(SECONDS, &[1, 2], 0.0625),
            blocked: sizes(SECONDS, &[0, 3], 0.125),
        }]),
        services: Some(vec![ServiceTotals {
            service: "appview".to_owned(),
            processes: 1,
            requests: Some(5),
            on_cpu: Some(Duration::from_millis(250)),
        }]),
        requests: None,
        disagreements: Some(vec![Disagreement { what: "opens", share: 0.25 }]),
        programs: Some(vec![ProgramCost {
            program: "set_state".to_owned(),
            runs: 903,
            time: Duration::from_micros(602),
        }]),
    }
}
