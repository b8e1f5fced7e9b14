//! The callers with the most work: Space-Saving (Metwally, Agrawal, El Abbadi 2005), weighted by operations.
//!
//! Names are unbounded, counters are not: [`COUNTERS`] of them. With W operations recorded, an estimate is never too low
//! and at most W / [`COUNTERS`] too high, and every caller above W / [`COUNTERS`] is in the list. Counting requests
//! instead would miss the caller weir exists for: a few requests of 15 to 20 thousand keys.

use hashbrown::HashTable;
use rustc_hash::FxBuildHasher;
use std::hash::BuildHasher as _;
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

/// One counter of a list.
#[derive(Debug)]
pub(crate) struct Counter<K, P> {
    pub(crate) key: K,
    hash: u64,
    /// Never too low.
    pub(crate) weight: u64,
    /// By how much `weight` may be too high.
    pub(crate) error: u64,
    /// What its owner notes beside the weight, since the key got the counter.
    pub(crate) notes: P,
    /// Where `heap` has it.
    place: usize,
}

/// One list of at most `MAX` counters. An update is one hash look-up and a walk of at most log2(`MAX`) steps.
#[derive(Debug)]
pub(crate) struct SpaceSaving<K, const MAX: usize, P = ()> {
    /// Indexes into `counters`.
    by_key: HashTable<usize>,
    counters: Vec<Counter<K, P>>,
    /// Indexes into `counters`; a binary heap with the smallest count on top.
    heap: Vec<usize>,
}

impl<K, const MAX: usize, P> Default for SpaceSaving<K, MAX, P> {
    fn default() -> Self {
        SpaceSaving { by_key: HashTable::new(), counters: Vec::new(), heap: Vec::new() }
    }
}

impl<K, const MAX: usize, P: Default> SpaceSaving<K, MAX, P> {
    /// Adds to the counter of the key with this hash that `is_it` knows; `key` makes it where it gets one. Answers what
    /// is noted beside it; nothing for a weight of 0.
    pub(crate) fn add(
        &mut self,
        hash: u64,
        weight: u64,
        is_it: impl Fn(&K) -> bool,
        key: impl FnOnce() -> K,
    ) -> Option<&mut P> {
        if weight == 0 {
            return None;
        }
        let index = match self.by_key.find(hash, |&index| is_it(&self.counters[index].key)) {
            Some(&index) => index,
            None if self.counters.len() < MAX => self.new_counter(hash, key()),
            None => self.take_over(hash, key()),
        };
        let counter = &mut self.counters[index];
        counter.weight = counter.weight.saturating_add(weight);
        let place = counter.place;
        self.sift_down(place);
        Some(&mut self.counters[index].notes)
    }

    pub(crate) fn get(&self, hash: u64, is_it: impl Fn(&K) -> bool) -> Option<&Counter<K, P>> {
        let index = self.by_key.find(hash, |&index| is_it(&self.counters[index].key))?;
        Some(&self.counters[*index])
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Counter<K, P>> {
        self.counters.iter()
    }

    /// The weight a key that is not in the list may have at most.
    pub(crate) fn floor(&self) -> u64 {
        if self.counters.len() < MAX { 0 } else { self.count_at(0) }
    }

    fn new_counter(&mut self, hash: u64, key: K) -> usize {
        let index = self.counters.len();
        self.counters.push(Counter { key, hash, weight: 0, error: 0, notes: P::default(), place: index });
        self.list(hash, index);
        self.heap.push(index);
        self.sift_up(index);
        index
    }

    fn list(&mut self, hash: u64, index: usize) {
        let counters = &self.counters;
        self.by_key.insert_unique(hash, index, |&index| counters[index].hash);
    }

    /// The smallest counter changes hands; what it counted is the newcomer's error.
    fn take_over(&mut self, hash: u64, key: K) -> usize {
        let index = self.heap[0];
        if let Ok(listed) = self.by_key.find_entry(self.counters[index].hash, |&listed| listed == index) {
            listed.remove();
        }
        let counter = &mut self.counters[index];
        (counter.key, counter.hash, counter.notes) = (key, hash, P::default());
        counter.error = counter.weight;
        self.list(hash, index);
        index
    }

    fn count_at(&self, place: usize) -> u64 {
        self.counters[self.heap[place]].weight
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
    current: Callers,
    previous: Callers,
}

type Callers = SpaceSaving<Arc<str>, COUNTERS>;

fn hash_of(name: &str) -> u64 {
    FxBuildHasher.hash_one(name)
}

fn find<'a>(list: &'a Callers, name: &str) -> Option<&'a Counter<Arc<str>, ()>> {
    list.get(hash_of(name), |known| **known == *name)
}

impl HeavyHitters {
    pub(crate) fn add(&mut self, name: &Arc<str>, operations: u64) {
        self.current.add(hash_of(name), operations, |known| **known == **name, || name.clone());
    }

    pub(crate) fn rotate(&mut self) {
        self.previous = std::mem::take(&mut self.current);
    }

    /// Both lists added up, largest first: at most 2 x [`COUNTERS`], so that a name above W / [`COUNTERS`] of both
    /// together is never cut off. A list without the name may still have dropped it: its floor counts, as error too.
    pub(crate) fn list(&self) -> Vec<HeavyHitter> {
        let new = |counter: &&Counter<Arc<str>, ()>| find(&self.current, &counter.key).is_none();
        let names = self.current.iter().chain(self.previous.iter().filter(new));
        let mut list: Vec<HeavyHitter> = names
            .map(|counter| {
                let (mut operations, mut error) = (0u64, 0u64);
                for list in [&self.current, &self.previous] {
                    let (more, wrong) = match find(list, &counter.key) {
                        Some(found) => (found.weight, found.error),
                        None => (list.floor(), list.floor()),
                    };
                    operations = operations.saturating_add(more);
                    error = error.saturating_add(wrong);
                }
                HeavyHitter { name: counter.key.clone(), operations, error }
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
    use rustc_hash::FxHashMap;

    fn name(n: u32) -> Arc<str> {
        format!("caller-{n}").into()
    }

    fn check_heap(list: &Callers) {
        for place in 0..list.heap.len() {
            assert_eq!(list.counters[list.heap[place]].place, place);
            assert!(list.count_at(place) >= list.count_at(place.saturating_sub(1) / 2));
        }
        assert_eq!(list.by_key.len(), list.counters.len());
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
