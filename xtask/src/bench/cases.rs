//! The cases that are measured and what weir has to reach in each: one row per claim. Ratios are weir (or twemproxy)
//! against no proxy in the same run; absolute bounds stand beside them where the claim has one.

/// Who is measured.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Contender {
    /// The client talks to memcached.
    Direct,
    /// Through twemproxy (Debian's nutcracker).
    Twemproxy,
    /// Through weir, with ledger, limits and metrics on.
    Weir,
}

impl Contender {
    pub const ALL: [Contender; 3] = [Contender::Direct, Contender::Twemproxy, Contender::Weir];

    pub fn name(self) -> &'static str {
        match self {
            Contender::Direct => "direct",
            Contender::Twemproxy => "twemproxy",
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
    /// Requests per second.
    Throughput,
    /// CPU of client, proxy and memcached per request, microseconds.
    TotalCpu,
    /// CPU of the proxy per key, microseconds.
    ProxyCpuPerKey,
}

impl Measure {
    pub const ALL: [Measure; 5] =
        [Measure::P50, Measure::P99, Measure::Throughput, Measure::TotalCpu, Measure::ProxyCpuPerKey];

    pub fn name(self) -> &'static str {
        match self {
            Measure::P50 => "p50",
            Measure::P99 => "p99",
            Measure::Throughput => "throughput",
            Measure::TotalCpu => "CPU of client + proxy + memcached",
            Measure::ProxyCpuPerKey => "CPU of the proxy per key",
        }
    }

    /// Whether more is better.
    pub fn higher_is_better(self) -> bool {
        self == Measure::Throughput
    }

    /// The better of two runs: what disturbs a run only ever makes it worse.
    pub fn better(self, a: f64, b: f64) -> f64 {
        if self.higher_is_better() { a.max(b) } else { a.min(b) }
    }

    /// A value with its unit.
    pub fn show(self, value: f64) -> String {
        match self {
            Measure::P50 | Measure::P99 if value >= 1_000.0 => format!("{:.2} ms", value / 1_000.0),
            Measure::P50 | Measure::P99 => format!("{value:.0} us"),
            Measure::Throughput => format!("{}/s", crate::report::thousands(value.round() as u64)),
            Measure::TotalCpu => format!("{value:.2} us"),
            Measure::ProxyCpuPerKey => format!("{value:.3} us"),
        }
    }
}

/// What weir must reach.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Target {
    /// weir / direct at most.
    RatioAtMost(f64),
    /// weir / direct at least.
    RatioAtLeast(f64),
    /// The value at most, in the measure's unit.
    AtMost(f64),
    /// weir / direct at most: the first on an idle box, the second on a busy one; and better than twemproxy.
    IdleOrBusy(f64, f64),
}

/// Direct p50 of one connection above this means that cores slept between requests: an idle box.
pub const IDLE_P50_US: f64 = 40.0;

/// A load to measure.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Load {
    /// Closed loop of gets or sets.
    Closed { connections: u32, depth: u32, keys_per_get: u32, set: bool },
    /// 20 connections of 20 gets/s, beside multigets of 15,000 keys: at a rate, or `clients` back to back.
    QuietBeside { clients: u32, rate: Option<f64> },
}

/// Which door of the proxy clients use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClientSide {
    Tcp,
    Unix,
}

/// One case.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Case {
    pub id: &'static str,
    pub title: &'static str,
    pub load: Load,
    pub door: ClientSide,
    pub targets: &'static [(Measure, Target)],
}

const fn get(connections: u32, depth: u32, keys_per_get: u32) -> Load {
    Load::Closed { connections, depth, keys_per_get, set: false }
}

pub const CASES: &[Case] = &[
    Case {
        id: "get-1x1",
        title: "GET, 1 connection, depth 1",
        load: get(1, 1, 1),
        door: ClientSide::Tcp,
        targets: &[(Measure::P50, Target::IdleOrBusy(1.6, 2.4))],
    },
    Case {
        id: "get-16x1",
        title: "GET, 16 connections, depth 1",
        load: get(16, 1, 1),
        door: ClientSide::Tcp,
        targets: &[
            (Measure::Throughput, Target::RatioAtLeast(0.7)),
            (Measure::TotalCpu, Target::RatioAtMost(1.2)),
        ],
    },
    Case {
        id: "get-1000x1",
        title: "GET, 1,000 connections, depth 1",
        load: get(1_000, 1, 1),
        door: ClientSide::Tcp,
        targets: &[(Measure::TotalCpu, Target::RatioAtMost(1.05))],
    },
    Case {
        id: "get-16x16",
        title: "GET pipelined, 16 connections, depth 16",
        load: get(16, 16, 1),
        door: ClientSide::Tcp,
        targets: &[
            (Measure::Throughput, Target::RatioAtLeast(1.7)),
            (Measure::TotalCpu, Target::RatioAtMost(0.5)),
        ],
    },
    Case {
        id: "multiget-50",
        title: "multiget of 50 keys, 4 connections",
        load: get(4, 1, 50),
        door: ClientSide::Tcp,
        targets: &[
            (Measure::Throughput, Target::RatioAtLeast(0.6)),
            (Measure::ProxyCpuPerKey, Target::AtMost(0.55)),
        ],
    },
    Case {
        id: "multiget-15000",
        title: "multiget of 15,000 keys, 2 connections",
        load: get(2, 1, 15_000),
        door: ClientSide::Tcp,
        targets: &[
            (Measure::Throughput, Target::RatioAtLeast(0.8)),
            (Measure::ProxyCpuPerKey, Target::AtMost(0.4)),
        ],
    },
    Case {
        id: "set-4x32",
        title: "SET pipelined, 4 connections, depth 32",
        load: Load::Closed { connections: 4, depth: 32, keys_per_get: 1, set: true },
        door: ClientSide::Tcp,
        targets: &[(Measure::Throughput, Target::RatioAtLeast(0.55))],
    },
    Case {
        id: "quiet-3",
        title: "quiet GETs (20 x 20/s) beside 3/s x 15,000 keys",
        load: Load::QuietBeside { clients: 1, rate: Some(3.0) },
        door: ClientSide::Tcp,
        targets: &[(Measure::P99, Target::RatioAtMost(0.2)), (Measure::P99, Target::AtMost(1_500.0))],
    },
    Case {
        id: "quiet-1",
        title: "the same beside 1 client of 15,000 keys back to back",
        load: Load::QuietBeside { clients: 1, rate: None },
        door: ClientSide::Tcp,
        targets: &[(Measure::P99, Target::RatioAtMost(0.25)), (Measure::P99, Target::AtMost(3_000.0))],
    },
    Case {
        id: "quiet-4",
        title: "the same beside 4 clients of 15,000 keys back to back",
        load: Load::QuietBeside { clients: 4, rate: None },
        door: ClientSide::Tcp,
        targets: &[(Measure::P99, Target::RatioAtMost(0.25)), (Measure::P99, Target::AtMost(3_000.0))],
    },
    Case {
        id: "get-16x1-unix",
        title: "GET, 16 connections, depth 1, clients over Unix sockets (ratio to direct TCP)",
        load: get(16, 1, 1),
        door: ClientSide::Unix,
        targets: &[(Measure::TotalCpu, Target::RatioAtMost(0.9))],
    },
];

/// Cases with a shape of their own, by the same names on the command line.
pub const MEMORY: &str = "memory";
pub const BURST_UNIX: &str = "burst-unix";
pub const BURST_TCP: &str = "burst-tcp";

/// Every name that `--only` takes.
pub fn ids() -> Vec<&'static str> {
    CASES.iter().map(|case| case.id).chain([MEMORY, BURST_UNIX, BURST_TCP]).collect()
}

impl Target {
    /// What must be reached, in words.
    pub fn show(self, measure: Measure) -> String {
        match self {
            Target::RatioAtMost(ratio) => format!("<= {ratio} x direct"),
            Target::RatioAtLeast(ratio) => format!(">= {ratio} x direct"),
            Target::AtMost(value) => format!("<= {}", measure.show(value)),
            Target::IdleOrBusy(idle, busy) => {
                format!("<= {idle} x direct (busy box: {busy}), and below twemproxy")
            }
        }
    }

    /// Whether it is reached; `None` where there is nothing to compare with.
    pub fn met(self, direct: f64, twemproxy: Option<f64>, weir: f64) -> Option<bool> {
        if !(weir.is_finite() && (direct > 0.0 || matches!(self, Target::AtMost(_)))) {
            return None;
        }
        Some(match self {
            Target::RatioAtMost(ratio) => weir / direct <= ratio,
            Target::RatioAtLeast(ratio) => weir / direct >= ratio,
            Target::AtMost(value) => weir <= value,
            Target::IdleOrBusy(idle, busy) => {
                let ratio = if direct >= IDLE_P50_US { idle } else { busy };
                weir / direct <= ratio && twemproxy.is_none_or(|twemproxy| weir < twemproxy)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_judged_against_direct() {
        assert_eq!(Target::RatioAtMost(1.2).met(10.0, None, 12.0), Some(true));
        assert_eq!(Target::RatioAtLeast(0.7).met(10.0, None, 6.9), Some(false));
        assert_eq!(Target::AtMost(0.4).met(0.0, None, 0.39), Some(true));
        assert_eq!(Target::RatioAtMost(1.2).met(0.0, None, 12.0), None);
    }

    #[test]
    fn one_connection_is_judged_by_what_the_box_does() {
        let target = Target::IdleOrBusy(1.6, 2.4);
        assert_eq!(target.met(60.0, Some(130.0), 95.0), Some(true));
        assert_eq!(target.met(60.0, Some(90.0), 95.0), Some(false), "twemproxy is faster");
        assert_eq!(target.met(20.0, None, 46.0), Some(true), "a busy box");
        assert_eq!(target.met(60.0, None, 120.0), Some(false));
    }

    #[test]
    fn names_are_unique() {
        let mut names = ids();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ids().len());
    }

    #[test]
    fn the_better_run_wins() {
        assert_eq!(Measure::Throughput.better(1.0, 2.0), 2.0);
        assert_eq!(Measure::P99.better(1.0, 2.0), 1.0);
    }
}
