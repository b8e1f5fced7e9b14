//! What is measured for RPC and what weir has to reach: the table of targets, one row per claim. Ratios are weir against
//! the bare pingora pass-through, or against no proxy, in the same run.

use crate::bench::frame::Quantity;

/// Who is measured.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Contender {
    /// The client talks to the service.
    Direct,
    /// Through `weir-passthrough`: pingora and nothing else.
    Pingora,
    /// Through weir with `split = false`.
    Whole,
    /// Through weir: accounting, limits, names and splitting on.
    Weir,
}

impl Contender {
    pub const ALL: [Contender; 4] =
        [Contender::Direct, Contender::Pingora, Contender::Whole, Contender::Weir];

    /// Those of every case: what splitting is compared with is measured where there is something to split.
    pub const EVERYWHERE: [Contender; 3] = [Contender::Direct, Contender::Pingora, Contender::Weir];

    pub fn name(self) -> &'static str {
        match self {
            Contender::Direct => "direct",
            Contender::Pingora => "pingora",
            Contender::Whole => "weir, unsplit",
            Contender::Weir => "weir",
        }
    }
}

/// A number that a run gives.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Measure {
    /// Median, microseconds.
    P50,
    /// 99th percentile, microseconds.
    P99,
    /// Calls per second.
    Throughput,
    /// CPU of the proxy per call, microseconds.
    ProxyCpu,
    /// CPU of the service per call, microseconds.
    ServiceCpu,
    /// Keys per second of the load beside which a neighbour is measured.
    LoadKeys,
}

impl Measure {
    pub const ALL: [Measure; 6] = [
        Measure::P50,
        Measure::P99,
        Measure::Throughput,
        Measure::ProxyCpu,
        Measure::ServiceCpu,
        Measure::LoadKeys,
    ];
}

impl Quantity for Measure {
    fn name(self) -> &'static str {
        match self {
            Measure::P50 => "p50",
            Measure::P99 => "p99",
            Measure::Throughput => "throughput",
            Measure::ProxyCpu => "CPU of the proxy per call",
            Measure::ServiceCpu => "CPU of the service per call",
            Measure::LoadKeys => "keys/s of the load beside",
        }
    }

    fn better(self, a: f64, b: f64) -> f64 {
        match self {
            Measure::Throughput | Measure::LoadKeys => a.max(b),
            _ => a.min(b),
        }
    }

    fn show(self, value: f64) -> String {
        match self {
            Measure::Throughput | Measure::LoadKeys => {
                format!("{}/s", crate::report::thousands(value.round() as u64))
            }
            _ if value.abs() >= 1_000.0 => format!("{:.2} ms", value / 1_000.0),
            Measure::P50 | Measure::P99 => format!("{value:.0} us"),
            _ => format!("{value:.1} us"),
        }
    }
}

/// What weir must reach: at most so many times what another contender has.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Target {
    pub ratio: f64,
    pub of: Contender,
}

impl Target {
    /// What must be reached, in words.
    pub fn show(self) -> String {
        format!("<= {} x {}", self.ratio, self.of.name())
    }

    /// Whether it is reached. Nothing to compare with is no success.
    pub fn met(self, other: Option<f64>, weir: f64) -> bool {
        other.is_some_and(|other| other > 0.0 && weir / other <= self.ratio)
    }
}

/// Within 10 % of pingora.
const CLOSE: Target = Target { ratio: 1.1, of: Contender::Pingora };
const SMALL: &[(Measure, Target)] = &[(Measure::P50, CLOSE), (Measure::ProxyCpu, CLOSE)];

/// A load to measure.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Load {
    /// Closed loop of calls that the service answers at once.
    Small { connect: bool, keys: u32, connections: u32, depth: u32 },
    /// One call at a time, at the service that works per key.
    Large { keys: u32 },
    /// Calls of 20 keys beside clients that call for so many back to back, at the same service.
    NeighbourOf { clients: u32, keys: u32 },
}

/// One case.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Case {
    pub id: &'static str,
    pub title: &'static str,
    pub load: Load,
    pub targets: &'static [(Measure, Target)],
}

impl Case {
    /// Who takes part, in the order of their turns.
    pub fn contenders(&self) -> &'static [Contender] {
        match self.load {
            Load::Small { .. } => &Contender::EVERYWHERE,
            Load::Large { .. } | Load::NeighbourOf { .. } => &Contender::ALL,
        }
    }
}

const fn grpc(keys: u32, depth: u32) -> Load {
    Load::Small { connect: false, keys, connections: 1, depth }
}

pub const CASES: &[Case] = &[
    Case { id: "grpc-1x1", title: "gRPC, 1 key, 1 in flight", load: grpc(1, 1), targets: SMALL },
    Case { id: "grpc-1x64", title: "gRPC, 1 key, 64 in flight", load: grpc(1, 64), targets: SMALL },
    Case { id: "grpc-20x1", title: "gRPC, 20 keys, 1 in flight", load: grpc(20, 1), targets: SMALL },
    Case { id: "grpc-20x64", title: "gRPC, 20 keys, 64 in flight", load: grpc(20, 64), targets: SMALL },
    Case {
        id: "connect-1x1",
        title: "Connect over HTTP/1.1, 1 key, 1 in flight",
        load: Load::Small { connect: true, keys: 1, connections: 1, depth: 1 },
        targets: SMALL,
    },
    Case {
        id: "connect-20x64",
        title: "Connect over HTTP/1.1, 20 keys, 64 connections",
        load: Load::Small { connect: true, keys: 20, connections: 64, depth: 1 },
        targets: SMALL,
    },
    Case {
        id: "large",
        title: "gRPC, 20,000 keys, 1 in flight, work per key",
        load: Load::Large { keys: 20_000 },
        targets: &[(Measure::P50, Target { ratio: 0.8, of: Contender::Direct })],
    },
    Case {
        id: "neighbour",
        title: "gRPC, 20 keys beside 4 clients of 20,000, work per key",
        load: Load::NeighbourOf { clients: 4, keys: 20_000 },
        targets: &[(Measure::P99, Target { ratio: 0.1, of: Contender::Direct })],
    },
];

/// Cases with a shape of their own, by the same names on the command line.
pub const CONNECTIONS: &str = "connections";
pub const MEMORY: &str = "memory";

/// Every name that `--only` takes.
pub fn ids() -> Vec<&'static str> {
    CASES.iter().map(|case| case.id).chain([CONNECTIONS, MEMORY]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_judged_against_whom_they_name() {
        assert!(CLOSE.met(Some(100.0), 110.0));
        assert!(!CLOSE.met(Some(100.0), 111.0));
        assert!(!CLOSE.met(None, 0.0), "nothing to compare with is no success");
        assert!(!CLOSE.met(Some(0.0), 0.0), "nor is nothing measured");
        assert!(!CLOSE.met(Some(100.0), f64::NAN));
        assert_eq!(CLOSE.show(), "<= 1.1 x pingora");
    }

    #[test]
    fn names_are_unique_and_whom_a_target_names_takes_part() {
        let mut names = ids();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ids().len());
        for case in CASES {
            assert!(
                case.targets.iter().all(|(_, target)| case.contenders().contains(&target.of)),
                "{case:?}"
            );
        }
    }
}
