//! Seeded simulation: an engine between random clients and a model memcached that answers, stalls, lies and vanishes.
//! Every request is answered exactly once, in order, with its own values; commands of one connection on one key take
//! effect in the order sent; bounds and sums hold after every step.
//!
//! A failing seed is printed; `WEIR_SEED=<n> cargo test -p weir-engine --test simulation` replays it.

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

#[test]
#[expect(clippy::disallowed_methods, reason = "the seed to replay comes from the environment")]
fn every_request_is_answered_once_in_order_with_its_own_values() {
    if let Ok(seed) = std::env::var("WEIR_SEED") {
        let totals = World::new(seed.parse().expect("WEIR_SEED is a number")).run(STEPS);
        println!("{totals:#?}");
        return;
    }
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let mut all = Totals::default();
    std::thread::scope(|scope| {
        let share = |thread| (thread..SEEDS).step_by(threads as usize);
        let run =
            move |thread: u64| share(thread).map(|seed| World::new(seed).run(STEPS)).collect::<Vec<_>>();
        let runs: Vec<_> = (0..threads).map(|thread| scope.spawn(move || run(thread))).collect();
        for run in runs {
            run.join().expect("a seed failed").iter().for_each(|totals| all.add(totals));
        }
    });
    all.check_reach();
}
