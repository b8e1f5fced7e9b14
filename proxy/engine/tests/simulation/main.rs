//! Seeded simulation: an engine between random clients and a model memcached that answers, stalls, lies and vanishes.
//! Every request is answered exactly once, in order, with its own values; commands of one connection on one key take
//! effect in the order sent; bounds and sums hold after every step.
//!
//! A failing seed is printed; `WEIR_SEED=<n> cargo test -p weir-engine --test simulation` replays it, and
//! `WEIR_SEED=<from>..<to>` runs many others.

mod judge;
mod links;
mod random;
mod scenario;
mod script;
mod store;
mod totals;
mod world;

use totals::Totals;
use world::World;

const SEEDS: u64 = 256;
const STEPS: usize = 2_000;

/// The seeds to run, from the environment: one, a range, or the usual ones.
#[expect(clippy::disallowed_methods, reason = "the seed to replay comes from the environment")]
fn seeds() -> std::ops::Range<u64> {
    let number = |text: &str| text.parse::<u64>().expect("WEIR_SEED is a number, or a range of numbers");
    let Ok(range) = std::env::var("WEIR_SEED") else { return 0..SEEDS };
    match range.split_once("..") {
        Some((from, to)) => number(from)..number(to),
        None => number(&range)..number(&range) + 1,
    }
}

#[test]
fn every_request_is_answered_once_in_order_with_its_own_values() {
    let seeds = seeds();
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let mut all = Totals::default();
    let share = |thread| seeds.clone().skip(thread).step_by(threads);
    let run = |thread| share(thread).map(|seed| World::new(seed).run(STEPS)).collect::<Vec<_>>();
    std::thread::scope(|scope| {
        let run = &run;
        let runs: Vec<_> = (0..threads).map(|thread| scope.spawn(move || run(thread))).collect();
        for run in runs {
            run.join().expect("a seed failed").iter().for_each(|totals| all.add(totals));
        }
    });
    println!("{all:#?}");
    if seeds.end - seeds.start >= SEEDS {
        all.check_reach();
    }
}
