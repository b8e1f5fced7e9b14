//! Numbers that look drawn, the same for the same seed, and which seeds a run tries.

use std::ops::Range;

/// A stream of numbers.
pub struct Draw(u64);

impl Draw {
    /// Of one seed.
    pub fn new(seed: u64) -> Draw {
        let mut draw = Draw(seed ^ 0x5deece66d);
        draw.next();
        draw
    }

    /// Any number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `end`, which is above zero.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// Within a range of whole numbers.
    pub fn within(&mut self, range: Range<i64>) -> i64 {
        range.start + (self.next() % (range.end - range.start) as u64) as i64
    }

    /// True so often.
    pub fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of them.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// One of them by weight.
    pub fn weighted<T: Copy>(&mut self, from: &[(usize, T)]) -> T {
        let mut at = self.below(from.iter().map(|(weight, _)| weight).sum());
        for (weight, one) in from {
            match at.checked_sub(*weight) {
                None => return *one,
                Some(rest) => at = rest,
            }
        }
        unreachable!("the weights are as many as were drawn from")
    }

    /// So many bytes.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }

    /// Some of them, at least one, in their order.
    pub fn some<T: Clone>(&mut self, from: &[T]) -> Vec<T> {
        let mut chosen: Vec<T> = from.iter().filter(|_| self.percent(50)).cloned().collect();
        if chosen.is_empty() {
            chosen.push(self.pick(from).clone());
        }
        chosen
    }
}

/// The seeds of this run, and whether they are the usual ones (so that what must happen often must have happened).
/// `WEIR_SEED=7` replays one, `WEIR_SEED=100..200` runs these, `WEIR_CASES=500` that many from 0.
pub fn seeds(usual: u64) -> (Range<u64>, bool) {
    let number = |text: &str| text.trim().parse::<u64>().expect("WEIR_SEED and WEIR_CASES are numbers");
    if let Ok(text) = std::env::var("WEIR_SEED") {
        return match text.split_once("..") {
            Some((from, to)) => (number(from)..number(to), false),
            None => (number(&text)..number(&text) + 1, false),
        };
    }
    match std::env::var("WEIR_CASES") {
        Ok(text) => (0..number(&text), number(&text) >= usual),
        Err(_) => (0..usual, true),
    }
}
