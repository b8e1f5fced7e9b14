//! What is measured of the data plane, and what it has to reach.

use std::collections::BTreeMap;

use crate::bench::frame::Quantity;

/// The way of a call.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Contender {
    /// Client, data plane, memcached and Cassandra: no weir.
    Direct,
    /// weir between the data plane and both storages.
    Behind,
    /// The same weir in front of the data plane, too.
    Weir,
}

impl Contender {
    pub const ALL: [Contender; 3] = [Contender::Direct, Contender::Behind, Contender::Weir];

    pub fn name(self) -> &'static str {
        match self {
            Contender::Direct => "no weir",
            Contender::Behind => "weir behind",
            Contender::Weir => "weir in front and behind",
        }
    }
}

/// A number that a run gives.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Measure {
    /// Median time of a call, microseconds.
    P50,
    /// 99th percentile, microseconds.
    P99,
    /// Commands that the data plane gives memcached for a call: gets, and for what it did not have, sets.
    Commands,
    /// Statements that the data plane gives the database for a call.
    Statements,
    /// CPU of the data plane for a key, microseconds.
    PlaneCpu,
    /// CPU of weir for a key, microseconds.
    WeirCpu,
    /// CPU of memcached and Cassandra for a key, microseconds.
    StorageCpu,
    /// 99th percentile of small calls alone, microseconds.
    Alone,
    /// The same beside the April batches.
    Beside,
    /// The second as so many times the first.
    Stretch,
}

impl Measure {
    pub const ALL: [Measure; 10] = [
        Measure::P50,
        Measure::P99,
        Measure::Commands,
        Measure::Statements,
        Measure::PlaneCpu,
        Measure::WeirCpu,
        Measure::StorageCpu,
        Measure::Alone,
        Measure::Beside,
        Measure::Stretch,
    ];
}

impl Quantity for Measure {
    fn name(self) -> &'static str {
        match self {
            Measure::P50 => "p50",
            Measure::P99 => "p99",
            Measure::Commands => "commands to memcached per call",
            Measure::Statements => "statements per call",
            Measure::PlaneCpu => "CPU of the data plane per key",
            Measure::WeirCpu => "CPU of weir per key",
            Measure::StorageCpu => "CPU of storage per key",
            Measure::Alone => "p99 alone",
            Measure::Beside => "p99 beside",
            Measure::Stretch => "p99 beside / alone",
        }
    }

    /// Every number is a cost.
    fn better(self, a: f64, b: f64) -> f64 {
        a.min(b)
    }

    fn show(self, value: f64) -> String {
        match self {
            Measure::Commands | Measure::Statements if value >= 100.0 => {
                crate::report::thousands(value.round() as u64)
            }
            Measure::Commands | Measure::Statements => format!("{value:.1}"),
            Measure::Stretch => format!("{value:.2} x"),
            _ if value.abs() >= 1_000.0 => format!("{:.2} ms", value / 1_000.0),
            Measure::PlaneCpu | Measure::WeirCpu | Measure::StorageCpu => format!("{value:.2} us"),
            _ => format!("{value:.0} us"),
        }
    }
}

/// What must be reached: at most so much, by one of the ways.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Target {
    pub of: Contender,
    pub most: f64,
}

impl Target {
    /// What must be reached, in words.
    pub fn show(self, measure: Measure) -> String {
        format!("{}: <= {}", self.of.name(), measure.show(self.most))
    }

    /// Whether it is reached. Nothing measured is no success.
    pub fn met(self, value: Option<f64>) -> bool {
        value.is_some_and(|value| value <= self.most)
    }
}

/// Adds what follows from two numbers: how much longer neighbours wait beside the batches, by the best of either.
pub fn compare(numbers: &mut BTreeMap<Measure, f64>) {
    if let (Some(alone), Some(beside)) = (numbers.get(&Measure::Alone), numbers.get(&Measure::Beside)) {
        numbers.insert(Measure::Stretch, beside / alone);
    }
}

/// A load to measure.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Load {
    /// One call of GetPostRecords at a time.
    Calls { keys: u32, cold: bool },
    /// Small calls beside batches as in April 2026.
    Neighbour(Beside),
}

/// Where neighbours are.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Beside {
    /// Nobody listens where memcached was.
    pub lost: bool,
    /// The database has half of the cores, and nobody else these but the batches' client.
    pub apart: bool,
}

/// One case.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Case {
    pub id: &'static str,
    pub title: &'static str,
    pub load: Load,
    pub targets: &'static [(Measure, Target)],
}

const fn calls(id: &'static str, title: &'static str, keys: u32, cold: bool) -> Case {
    Case { id, title, load: Load::Calls { keys, cold }, targets: &[] }
}

const fn stretch(of: Contender) -> (Measure, Target) {
    (Measure::Stretch, Target { of, most: 2.0 })
}

pub const CASES: &[Case] = &[
    calls("warm-1", "1 URI, warm", 1, false),
    calls("warm-20", "20 URIs, warm", 20, false),
    calls("warm-263", "263 URIs, warm", 263, false),
    calls("warm-2000", "2,000 URIs, warm", 2_000, false),
    calls("warm-20000", "20,000 URIs, warm", 20_000, false),
    calls("cold-1", "1 URI, cold", 1, true),
    calls("cold-20", "20 URIs, cold", 20, true),
    calls("cold-263", "263 URIs, cold", 263, true),
    calls("cold-2000", "2,000 URIs, cold", 2_000, true),
    calls("cold-20000", "20,000 URIs, cold", 20_000, true),
    Case {
        id: "neighbour",
        title: "20 URIs, warm, beside the April batches",
        load: Load::Neighbour(Beside { lost: false, apart: true }),
        targets: &[stretch(Contender::Direct), stretch(Contender::Weir)],
    },
    Case {
        id: "neighbour-shared",
        title: "the same, all on the same cores",
        load: Load::Neighbour(Beside { lost: false, apart: false }),
        targets: &[],
    },
    Case {
        id: "neighbour-lost",
        title: "20 URIs beside the April batches, memcached lost",
        load: Load::Neighbour(Beside { lost: true, apart: true }),
        targets: &[],
    },
];

/// The case with a shape of its own.
pub const MEMORY: &str = "memory";

/// Every name that `--only` takes.
pub fn ids() -> Vec<&'static str> {
    CASES.iter().map(|case| case.id).chain([MEMORY]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_sizes_are_those_of_the_issue() {
        let mut names = ids();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ids().len());
        for temperature in [false, true] {
            let sizes = CASES.iter().filter_map(|case| match case.load {
                Load::Calls { keys, cold } if cold == temperature => Some(keys),
                _ => None,
            });
            assert_eq!(sizes.collect::<Vec<_>>(), [1, 20, 263, 2_000, 20_000]);
        }
    }

    #[test]
    fn nothing_measured_reaches_nothing() {
        let (measure, target) = stretch(Contender::Weir);
        assert!(target.met(Some(2.0)) && !target.met(Some(2.01)));
        assert!(!target.met(None) && !target.met(Some(f64::NAN)));
        let mut numbers = BTreeMap::from([(Measure::Alone, 200.0), (Measure::Beside, 300.0)]);
        compare(&mut numbers);
        assert_eq!(numbers[&Measure::Stretch], 1.5);
        assert_eq!(target.show(measure), "weir in front and behind: <= 2.00 x");
    }
}
