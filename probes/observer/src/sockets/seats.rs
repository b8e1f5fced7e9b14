//! Which names are told apart, when there are more than a bound. A name keeps its seat while it is seen, and a while
//! after, so that labels do not change with every look: a client that takes another random address for each connection
//! gets no seat that somebody else has.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::time::Duration;

/// How long a name that is not seen any more keeps its seat.
const KEPT: Duration = Duration::from_secs(600);
/// Whoever weighs so many times as much as the lightest that has a seat may take it,
const HEAVIER: u64 = 4;
/// and a name that weighs less than this is never worth a change.
const WORTH: u64 = 16;

/// A bounded number of names.
#[derive(Debug)]
pub struct Seats<K> {
    max: usize,
    /// Those that have a seat whatever is seen, beside the bound.
    fixed: Vec<K>,
    taken: BTreeMap<K, Seat>,
}

#[derive(Clone, Copy, Debug)]
struct Seat {
    weight: u64,
    seen: Duration,
}

impl<K: Copy + Ord + Hash> Seats<K> {
    /// `max` seats, of which some are taken for good.
    #[must_use]
    pub fn new(max: usize, mut fixed: Vec<K>) -> Seats<K> {
        fixed.sort_unstable();
        fixed.dedup();
        Seats { max: max.saturating_sub(fixed.len()), fixed, taken: BTreeMap::new() }
    }

    /// Whether a name is told apart.
    #[must_use]
    pub fn holds(&self, name: &K) -> bool {
        self.taken.contains_key(name) || self.is_fixed(name)
    }

    /// Those that have a seat whatever is seen.
    pub fn fixed(&self) -> impl Iterator<Item = &K> {
        self.fixed.iter()
    }

    fn is_fixed(&self, name: &K) -> bool {
        self.fixed.binary_search(name).is_ok()
    }

    /// Gives seats by what was seen at a moment: names and how much each weighs.
    pub fn assign(&mut self, weights: &HashMap<K, u64>, now: Duration) {
        for (name, seat) in &mut self.taken {
            seat.weight = weights.get(name).copied().unwrap_or(0);
            if seat.weight > 0 {
                seat.seen = now;
            }
        }
        self.taken.retain(|_, seat| seat.seen + KEPT >= now);
        let mut others: Vec<(u64, K)> = weights
            .iter()
            .filter(|(name, _)| !self.holds(name))
            .map(|(name, weight)| (*weight, *name))
            .collect();
        // The heaviest first; of equals always the same.
        others.sort_unstable_by(|(a, x), (b, y)| b.cmp(a).then(x.cmp(y)));
        for (weight, name) in others.into_iter().take(self.max) {
            if self.taken.len() >= self.max {
                let lightest = self.taken.iter().min_by_key(|(_, seat)| seat.weight);
                let Some((lightest, seat)) = lightest.map(|(name, seat)| (*name, *seat)) else { return };
                if weight <= HEAVIER * seat.weight.max(WORTH) {
                    return;
                }
                self.taken.remove(&lightest);
            }
            self.taken.insert(name, Seat { weight, seen: now });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(of: &[(u32, u64)]) -> HashMap<u32, u64> {
        of.iter().copied().collect()
    }

    fn held(seats: &Seats<u32>) -> Vec<u32> {
        (0..100_000).filter(|name| seats.holds(name)).collect()
    }

    const NOW: Duration = Duration::from_secs(1_000);

    #[test]
    fn the_heaviest_get_seats_and_those_taken_for_good_count() {
        let mut seats = Seats::new(3, vec![7, 7]);
        assert_eq!(held(&seats), [7]);
        seats.assign(&weights(&[(1, 1), (2, 2), (3, 3)]), NOW);
        assert_eq!(held(&seats), [2, 3, 7]);
        seats.assign(&weights(&[(1, 1), (2, 1), (7, 9)]), NOW);
        assert_eq!(held(&seats), [2, 3, 7], "kept for a while");
    }

    #[test]
    fn names_that_come_and_go_take_no_seat_that_is_kept() {
        let mut seats = Seats::new(16, Vec::new());
        seats.assign(&(0..16).map(|name| (name, 5)).collect(), NOW);
        let first = held(&seats);
        for look in 0..100_u32 {
            let now = NOW + Duration::from_secs(5) * look;
            seats.assign(&(0..1_000).map(|name| (16 + look * 900 + name, 1)).collect(), now);
        }
        assert_eq!(held(&seats), first);
        seats.assign(&weights(&[(99_999, 1)]), NOW + KEPT + Duration::from_secs(1));
        assert_eq!(held(&seats), [99_999], "the others were not seen for ten minutes");
    }

    #[test]
    fn a_storm_takes_the_lightest_seat_at_once() {
        let mut seats = Seats::new(2, Vec::new());
        seats.assign(&weights(&[(1, 100), (2, 30)]), NOW);
        seats.assign(&weights(&[(1, 100), (2, 30), (3, 120)]), NOW);
        assert_eq!(held(&seats), [1, 2], "not heavy enough");
        seats.assign(&weights(&[(1, 100), (2, 30), (3, 15_000)]), NOW);
        assert_eq!(held(&seats), [1, 3]);
    }

    #[test]
    fn no_seat_beside_those_taken_for_good() {
        let mut seats = Seats::new(1, vec![1, 2]);
        seats.assign(&weights(&[(3, 1_000_000)]), NOW);
        assert_eq!(held(&seats), [1, 2]);
    }
}
