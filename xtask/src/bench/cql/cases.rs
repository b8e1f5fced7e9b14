//! What is measured for CQL and what weir has to reach: the table of targets, one row per claim. Ratios are weir (or the
//! raw byte proxy) against no proxy in the same run.

/// Who is measured.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Contender {
    /// The client talks to Cassandra.
    Direct,
    /// Through a proxy that copies bytes, one upstream socket per client socket.
    Raw,
    /// Through datastax/cql-proxy, where it was asked for.
    CqlProxy,
    /// Through shotover, where it was asked for.
    Shotover,
    /// Through weir, with ledger, limits and metrics on.
    Weir,
}

impl Contender {
    pub const ALL: [Contender; 5] =
        [Contender::Direct, Contender::Raw, Contender::CqlProxy, Contender::Shotover, Contender::Weir];

    /// Those of every run; the others are peers.
    pub const ALWAYS: [Contender; 3] = [Contender::Direct, Contender::Raw, Contender::Weir];

    /// Whether a run has it only when asked: what it cannot do is no failure of the run.
    pub fn is_peer(self) -> bool {
        !Contender::ALWAYS.contains(&self)
    }

    pub fn name(self) -> &'static str {
        match self {
            Contender::Direct => "direct",
            Contender::Raw => "raw proxy",
            Contender::CqlProxy => "cql-proxy",
            Contender::Shotover => "shotover",
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
    /// Mean time of a request, microseconds.
    Mean,
    /// Requests per second.
    Throughput,
    /// CPU of the proxy per request, microseconds.
    ProxyCpu,
    /// CPU of Cassandra per request, microseconds.
    ServerCpu,
    /// Keys per second of the load beside which a neighbour is measured.
    LoadKeys,
}

impl Measure {
    pub const ALL: [Measure; 7] = [
        Measure::P50,
        Measure::P99,
        Measure::Mean,
        Measure::Throughput,
        Measure::ProxyCpu,
        Measure::ServerCpu,
        Measure::LoadKeys,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Measure::P50 => "p50",
            Measure::P99 => "p99",
            Measure::Mean => "mean time",
            Measure::Throughput => "throughput",
            Measure::ProxyCpu => "CPU of the proxy per request",
            Measure::ServerCpu => "CPU of Cassandra per request",
            Measure::LoadKeys => "keys/s of the load beside",
        }
    }

    /// The better of two runs: what disturbs a run only ever makes it worse.
    pub fn better(self, a: f64, b: f64) -> f64 {
        match self {
            Measure::Throughput | Measure::LoadKeys => a.max(b),
            _ => a.min(b),
        }
    }

    /// A value with its unit.
    pub fn show(self, value: f64) -> String {
        match self {
            Measure::Throughput | Measure::LoadKeys => {
                format!("{}/s", crate::report::thousands(value.round() as u64))
            }
            _ if value.abs() >= 1_000.0 => format!("{:.2} ms", value / 1_000.0),
            Measure::P50 | Measure::P99 | Measure::Mean => format!("{value:.0} us"),
            _ => format!("{value:.1} us"),
        }
    }
}

/// What weir must reach.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Target {
    /// weir - direct at most, in the measure's unit.
    AddedAtMost(f64),
    /// weir / direct at most.
    RatioAtMost(f64),
    /// weir / direct at least.
    RatioAtLeast(f64),
    /// The value at most, in the measure's unit.
    AtMost(f64),
}

impl Target {
    /// What must be reached, in words.
    pub fn show(self, measure: Measure) -> String {
        match self {
            Target::AddedAtMost(value) => format!("<= direct + {}", measure.show(value)),
            Target::RatioAtMost(ratio) => format!("<= {ratio} x direct"),
            Target::RatioAtLeast(ratio) => format!(">= {ratio} x direct"),
            Target::AtMost(value) => format!("<= {}", measure.show(value)),
        }
    }

    /// Whether it is reached. A value that is none reaches nothing.
    pub fn met(self, direct: Option<f64>, weir: f64) -> bool {
        let against = |holds: fn(f64, f64) -> f64| direct.map_or(f64::NAN, |direct| holds(weir, direct));
        match self {
            Target::AddedAtMost(value) => against(|weir, direct| weir - direct) <= value,
            Target::RatioAtMost(ratio) => against(|weir, direct| weir / direct) <= ratio,
            Target::RatioAtLeast(ratio) => against(|weir, direct| weir / direct) >= ratio,
            Target::AtMost(value) => weir <= value,
        }
    }
}

/// A load to measure.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Load {
    /// Closed loop of SELECTs of one key.
    Select { connections: u32, depth: u32 },
    /// One request with an IN of [`super::HUGE`] keys at a time; 0 rows per page asks for all at once.
    In { page: u32 },
    /// One SELECT, then a pause of 5 ms, beside clients that ask for IN back to back.
    NeighbourOf { clients: u32 },
}

/// One case.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Case {
    pub id: &'static str,
    pub title: &'static str,
    pub load: Load,
    pub targets: &'static [(Measure, Target)],
}

pub const CASES: &[Case] = &[
    Case {
        id: "select-1",
        title: "prepared SELECT, 1 in flight",
        load: Load::Select { connections: 1, depth: 1 },
        targets: &[(Measure::P50, Target::AddedAtMost(40.0))],
    },
    Case {
        id: "select-64x1",
        title: "prepared SELECT, 64 in flight on 1 connection",
        load: Load::Select { connections: 1, depth: 64 },
        targets: &[
            (Measure::Throughput, Target::RatioAtLeast(0.85)),
            (Measure::ProxyCpu, Target::AtMost(5.0)),
            (Measure::ServerCpu, Target::RatioAtMost(1.15)),
        ],
    },
    Case {
        id: "select-16x4",
        title: "prepared SELECT, 64 in flight on 4 connections",
        load: Load::Select { connections: 4, depth: 16 },
        targets: &[],
    },
    Case {
        id: "in-paged",
        title: "IN of 15,000 keys, pages of 5,000, all pages",
        load: Load::In { page: 5_000 },
        targets: &[(Measure::P50, Target::RatioAtMost(0.28))],
    },
    Case {
        id: "in-unpaged",
        title: "IN of 15,000 keys, unpaged",
        load: Load::In { page: 0 },
        targets: &[(Measure::P50, Target::RatioAtMost(0.8))],
    },
    Case {
        id: "neighbour",
        title: "a neighbour's SELECT beside 4 clients of IN 15,000",
        load: Load::NeighbourOf { clients: 4 },
        targets: &[(Measure::P99, Target::RatioAtMost(0.2)), (Measure::P50, Target::RatioAtMost(1.5))],
    },
];

/// Cases with a shape of their own, by the same names on the command line.
pub const SOCKETS: &str = "sockets";
pub const MEMORY: &str = "memory";
pub const RESTART: &str = "restart";

/// Every name that `--only` takes.
pub fn ids() -> Vec<&'static str> {
    CASES.iter().map(|case| case.id).chain([SOCKETS, MEMORY, RESTART]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_judged_against_direct() {
        assert!(Target::AddedAtMost(40.0).met(Some(200.0), 240.0));
        assert!(!Target::AddedAtMost(40.0).met(Some(200.0), 241.0));
        assert!(Target::RatioAtLeast(0.85).met(Some(100.0), 85.0));
        assert!(!Target::RatioAtMost(0.2).met(Some(100.0), 21.0));
        assert!(Target::AtMost(5.0).met(None, 5.0));
        assert!(!Target::RatioAtMost(0.2).met(None, 0.0), "nothing to compare with is no success");
        assert!(!Target::AtMost(5.0).met(None, f64::NAN));
    }

    #[test]
    fn names_are_unique() {
        let mut names = ids();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ids().len());
    }
}
