//! Which seeds a run tries.

use std::ops::Range;

/// The seeds to run, from the environment: one, a range, or the usual ones.
#[expect(clippy::disallowed_methods, reason = "the seed to replay comes from the environment")]
pub fn seeds(usual: u64) -> Range<u64> {
    let number = |text: &str| text.parse::<u64>().expect("WEIR_SEED is a number, or a range of numbers");
    let Ok(range) = std::env::var("WEIR_SEED") else { return 0..usual };
    match range.split_once("..") {
        Some((from, to)) => number(from)..number(to),
        None => number(&range)..number(&range) + 1,
    }
}
