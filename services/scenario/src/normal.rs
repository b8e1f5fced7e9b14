//! `normal`: the load of an AT Protocol data plane on an ordinary day, scaled down; it must never raise an alert.
//!
//! Batches: 1 key 25 %, 2-10 30 %, 11-25 20 %, 26-50 17 %, 51-120 7.45 %, 121-260 0.5 %, and a tail to 1,000 of
//! 0.05 %. Popularity by Zipf's law with exponent 1. 3.5 % of the keys asked for do not exist. One set per 40 gets.
//! Arrivals are random (Poisson), over a pool of connections.

use crate::ask::Ask;
use crate::clock::SECOND;
use crate::keys::{KeyIndex, KeySet};
use crate::open_loop::{self, Arrival, Punctuality, Shape};
use crate::options::{Common, Header, Outcome, Run};
use crate::random::Random;
use crate::report::{Checks, Measured};
use anyhow::Result;
use clap::Args;
use serde::Serialize;

/// Options of `normal`.
#[derive(Args, Debug)]
pub struct Normal {
    #[command(flatten)]
    common: Common,
    /// Connections of the pool
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: u32,
    /// Requests per second, all connections together
    #[arg(long, default_value_t = 200.0)]
    rate: f64,
    /// Measured seconds
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Seconds of the same load before measuring
    #[arg(long, default_value_t = 0.5)]
    warmup: f64,
    /// Print a line of JSON every so many seconds
    #[arg(long, value_name = "SECONDS")]
    interval: Option<f64>,
}

#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    header: Header,
    connections: u32,
    rate: f64,
    #[serde(flatten)]
    measured: Measured,
    #[serde(flatten)]
    punctuality: Punctuality,
    #[serde(flatten)]
    checks: Checks,
}

/// Share of keys asked for that do not exist.
const ABSENT: f64 = 0.035;
/// Gets per set.
const GETS_PER_SET: u32 = 40;
/// Exponent of Zipf's law.
const ZIPF: f64 = 1.0;

/// Runs it.
pub fn normal(options: &Normal) -> Result<Outcome> {
    let run = Run::new(&options.common);
    let Normal { connections, rate, seconds, warmup, interval, .. } = *options;
    let shape = Shape { connections, warmup, seconds, interval, scenario: "normal" };
    let mean_gap = SECOND as f64 / rate.max(0.001);
    let mut random = Random::new(run.seed ^ 0x4042);
    let popularity = Popularity::new(run.world.keys.stored());
    let mut due = 0.0;
    let arrivals = std::iter::from_fn(|| {
        due += random.exponential(mean_gap);
        let ask = request(&popularity, &run.world.keys, &mut random);
        Some(Arrival { due: due as u64, lane: None, ask })
    });
    let (measured, checks, punctuality) = open_loop::run(&run, shape, arrivals)?;
    let header = Header::new("normal", &options.common);
    let report = Report { header, connections, rate, measured, punctuality, checks };
    Outcome::new(&report, &report.checks)
}

fn request(popularity: &Popularity, keys: &KeySet, random: &mut Random) -> Ask {
    if random.below(GETS_PER_SET + 1) == 0 {
        return Ask::Set(popularity.draw(random));
    }
    let asked = (0..batch_size(random)).map(|_| match random.unit() < ABSENT {
        true => keys.absent((random.bits() >> 33) as u32),
        false => popularity.draw(random),
    });
    Ask::List(asked.collect())
}

/// How many keys an ordinary request asks for.
fn batch_size(random: &mut Random) -> u32 {
    // Share of requests in units of 0.01 %, fewest and most keys.
    const SIZES: [(u32, u32, u32); 7] = [
        (2_500, 1, 1),
        (3_000, 2, 10),
        (2_000, 11, 25),
        (1_700, 26, 50),
        (745, 51, 120),
        (50, 121, 260),
        (5, 261, 1_000),
    ];
    let mut share = random.below(10_000);
    for (part, low, high) in SIZES {
        if share < part {
            return random.between(low, high);
        }
        share -= part;
    }
    1
}

/// Keys by Zipf's law: the first key of the set is the most popular.
struct Popularity {
    cumulated: Vec<f64>,
}

impl Popularity {
    fn new(keys: u32) -> Self {
        let mut sum = 0.0;
        let cumulated = (1..=keys).map(|rank| {
            sum += f64::from(rank).powf(-ZIPF);
            sum
        });
        Self { cumulated: cumulated.collect() }
    }

    fn draw(&self, random: &mut Random) -> KeyIndex {
        let at = random.unit() * self.cumulated.last().copied().unwrap_or(0.0);
        let index = self.cumulated.partition_point(|sum| *sum <= at);
        KeyIndex(index.min(self.cumulated.len() - 1) as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_and_popularity_have_the_stated_shape() {
        let mut random = Random::new(1);
        let sizes: Vec<u32> = (0..100_000).map(|_| batch_size(&mut random)).collect();
        let share =
            |from: u32, to: u32| sizes.iter().filter(|n| (from..=to).contains(*n)).count() as f64 / 1_000.0;
        assert!((share(1, 1) - 25.0).abs() < 1.0 && (share(51, 120) - 7.45).abs() < 0.5);
        assert!((0.01..0.12).contains(&share(261, 1_000)) && share(1_001, u32::MAX) == 0.0);
        let mean = sizes.iter().map(|n| f64::from(*n)).sum::<f64>() / 100_000.0;
        assert!((15.0..25.0).contains(&mean), "{mean}");
        let popularity = Popularity::new(100_000);
        let hot = (0..100_000).filter(|_| popularity.draw(&mut random).0 < 10_000).count();
        assert!((78_000..85_000).contains(&hot), "{hot} of 100,000 reads on a tenth of the keys");
    }
}
