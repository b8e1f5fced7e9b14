//! The callers with the most work: Space-Saving (Metwally, Agrawal, El Abbadi 2005), weighted by operations.
//!
//! Names are unbounded, counters are not: [`COUNTERS`] of them. With W operations recorded, an estimate is never too low
//! and at most W / [`COUNTERS`] too high, and every caller above W / [`COUNTERS`] is in the list. Counting requests
//! instead would miss the caller weir exists for: a few requests of 15 to 20 thousand keys.

use rustc_hash::FxHashMap;
use std::sync::Arc;

/// Counters of one list (k).
pub const COUNTERS: usize = 64;

/// One caller and its estimated work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeavyHitter {
    /// The caller's name.
    pub name: Arc<str>,
    /// Operations, at most `error` too high and never too low.
    pub operations: u64,
    /// By how much `operations` may be too high.
    pub error: u64,
}

#[derive(Debug)]
struct Counter {
    name: Arc<str>,
    operations: u64,
    error: u64,
    /// Where `heap` has it.
    place: usize,
}

/// One list. An update is one hash look-up and a walk of at most log2(k) steps.
#[derive(Debug, Default)]
pub(crate) struct SpaceSaving {
    by_name: FxHashMap<Arc<str>, usize>,
    counters: Vec<Counter>,
    /// Indexes into `counters`; a binary heap with the smallest count on top.
    heap: Vec<usize>,
}

impl SpaceSaving {
    pub(crate) fn add(&mut self, name: &Arc<str>, operations: u64) {
        if operations == 0 {
            return;
        }
        let index = match self.by_name.get(&**name) {
            Some(&index) => index,
            None if self.counters.len() < COUNTERS => self.new_counter(name),
            None => self.take_over(name),
        };
        let counter = &mut self.counters[index];
        counter.operations = counter.operations.saturating_add(operations);
        let place = counter.place;
        self.sift_down(place);
    }

    /// The count a name that is not in the list may have at most.
    fn floor(&self) -> u64 {
        if self.counters.len() < COUNTERS { 0 } else { self.counters[self.heap[0]].operations }
    }

    fn new_counter(&mut self, name: &Arc<str>) -> usize {
        let index = self.counters.len();
        self.by_name.insert(name.clone(), index);
        self.counters.push(Counter { name: name.clone(), operations: 0, error: 0, place: index });
        self.heap.push(index);
        self.sift_up(index);
        index
    }

    /// The smallest counter changes hands; what it counted is the newcomer's error.
    fn take_over(&mut self, name: &Arc<str>) -> usize {
        let index = self.heap[0];
        let counter = &mut self.counters[index];
        self.by_name.remove(&*counter.name);
        self.by_name.insert(name.clone(), index);
        counter.name = name.clone();
        counter.error = counter.operations;
        index
    }

    fn count_at(&self, place: usize) -> u64 {
        self.counters[self.heap[place]].operations
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        self.counters[self.heap[a]].place = a;
        self.counters[self.heap[b]].place = b;
    }

    fn sift_up(&mut self, mut place: usize) {
        while place > 0 && self.count_at(place) < self.count_at((place - 1) / 2) {
            self.swap(place, (place - 1) / 2);
            place = (place - 1) / 2;
        }
    }

    fn sift_down(&mut self, mut place: usize) {
        loop {
            let mut child = 2 * place + 1;
            if child >= self.heap.len() {
                return;
            }
            if child + 1 < self.heap.len() && self.count_at(child + 1) < self.count_at(child) {
                child += 1;
            }
            if self.count_at(place) <= self.count_at(child) {
                return;
            }
            self.swap(place, child);
            place = child;
        }
    }
}

/// The lists of this generation and the one before, so that the caller of today is not buried under last week's.
#[derive(Debug, Default)]
pub(crate) struct HeavyHitters {
    current: SpaceSaving,
    previous: SpaceSaving,
}

impl HeavyHitters {
    pub(crate) fn add(&mut self, name: &Arc<str>, operations: u64) {
        self.current.add(name, operations);
    }

    pub(crate) fn rotate(&mut self) {
        self.previous = std::mem::take(&mut self.current);
    }

    /// Both lists added up, largest first: at most 2 x [`COUNTERS`], so that a name above W / [`COUNTERS`] of both
    /// together is never cut off. A list without the name may still have dropped it: its floor counts, as error too.
    pub(crate) fn list(&self) -> Vec<HeavyHitter> {
        let new = |counter: &&Counter| !self.current.by_name.contains_key(&*counter.name);
        let names = self.current.counters.iter().chain(self.previous.counters.iter().filter(new));
        let mut list: Vec<HeavyHitter> = names
            .map(|counter| {
                let (mut operations, mut error) = (0u64, 0u64);
                for list in [&self.current, &self.previous] {
                    let (more, wrong) = match list.by_name.get(&*counter.name) {
                        Some(&i) => (list.counters[i].operations, list.counters[i].error),
                        None => (list.floor(), list.floor()),
                    };
                    operations = operations.saturating_add(more);
                    error = error.saturating_add(wrong);
                }
                HeavyHitter { name: counter.name.clone(), operations, error }
            })
            .collect();
        list.sort_by(|a, b| b.operations.cmp(&a.operations).then_with(|| a.name.cmp(&b.name)));
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(n: u32) -> Arc<str> {
        format!("caller-{n}").into()
    }

    fn check_heap(list: &SpaceSaving) {
        for place in 0..list.heap.len() {
            assert_eq!(list.counters[list.heap[place]].place, place);
            assert!(list.count_at(place) >= list.count_at(place.saturating_sub(1) / 2));
        }
        assert_eq!(list.by_name.len(), list.counters.len());
        assert!(list.counters.len() <= COUNTERS);
    }

    proptest! {
        #[test]
        fn estimates_keep_their_promise(
            stream in prop::collection::vec((prop_oneof![0u32..8, 0u32..400], prop_oneof![0u64..4, 0u64..20_000]), 0..1_500),
            turn in 0usize..1_500,
        ) {
            let mut hitters = HeavyHitters::default();
            let mut exact: FxHashMap<Arc<str>, u64> = FxHashMap::default();
            for (i, (n, operations)) in stream.iter().enumerate() {
                if i == turn {
                    hitters.rotate();
                }
                hitters.add(&name(*n), *operations);
                *exact.entry(name(*n)).or_default() += operations;
                check_heap(&hitters.current);
            }
            let bound = exact.values().sum::<u64>() / COUNTERS as u64;
            let list = hitters.list();
            prop_assert!(list.is_sorted_by(|a, b| a.operations >= b.operations));
            for hitter in &list {
                let truth = exact[&hitter.name];
                prop_assert!(hitter.operations >= truth && hitter.operations - hitter.error <= truth);
                prop_assert!(hitter.error <= bound, "error {} > {bound}", hitter.error);
            }
            for (name, operations) in exact {
                prop_assert!(operations <= bound || list.iter().any(|h| h.name == name), "{name} is missing");
            }
        }
    }

    #[test]
    fn rare_huge_requests_rank_first_among_thousands_of_callers() {
        let mut hitters = HeavyHitters::default();
        for i in 0..100_000u32 {
            hitters.add(&name(i.wrapping_mul(2_654_435_761) % 20_000), 1);
            if i % 1_667 == 0 {
                hitters.add(&"culprit".into(), 17_000);
            }
        }
        assert_eq!(&*hitters.list()[0].name, "culprit");
    }

    #[test]
    fn two_rotations_forget() {
        let mut hitters = HeavyHitters::default();
        hitters.add(&name(1), 5);
        hitters.rotate();
        assert_eq!(hitters.list(), [HeavyHitter { name: name(1), operations: 5, error: 0 }]);
        hitters.rotate();
        assert_eq!(hitters.list(), []);
    }
}
