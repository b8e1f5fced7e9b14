//! A histogram made of atomics, for values that arrive in bulk.
//!
//! prometheus-client's own histogram takes a mutex per observation and has no "add n observations to this bucket";
//! a worker folds one turn's counts at once. This one is a row of atomic counters, plus one exemplar per bucket kept
//! in a small seqlock (a writer that finds another one at work leaves: an exemplar is a sample, not a count).

use crate::delta::Observed;
use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};

/// Upper bounds of the operations histogram. They go to 100,000 because the requests weir exists for have 15 to 20
/// thousand operations: a histogram that ends at 10,000 would show them as "+Inf".
pub const OPERATION_BOUNDS: [u64; 16] =
    [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000];

/// Upper bounds of durations, in microseconds: 50 us (a hit over a Unix socket) to 10 s (far above every time-out).
pub const DURATION_BOUNDS: [u64; 17] = [
    50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000,
    2_000_000, 5_000_000, 10_000_000,
];

/// The bucket of a value: the first whose bound is not below it.
#[must_use]
pub fn bucket_of(bounds: &[u64], value: u64) -> usize {
    bounds.partition_point(|bound| *bound < value)
}

/// What a histogram counts: bounds as integers, and how many of them make one exposed unit.
#[derive(Debug, PartialEq, Eq)]
pub struct Scale {
    bounds: &'static [u64],
    per_unit: u32,
}

/// Operations, exposed as they are.
pub static OPERATIONS: Scale = Scale { bounds: &OPERATION_BOUNDS, per_unit: 1 };
/// Microseconds, exposed as seconds.
pub static DURATIONS: Scale = Scale { bounds: &DURATION_BOUNDS, per_unit: 1_000_000 };

impl Scale {
    fn exposed(&self, value: u64) -> f64 {
        value as f64 / f64::from(self.per_unit)
    }
}

/// One request that stands for a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketExemplar {
    /// Its value, in the histogram's integer unit.
    pub value: u64,
    /// Its method, as the index given at construction of the telemetry.
    pub method: u64,
    /// Its identifier.
    pub request_id: u64,
    /// Seconds since the start of the process.
    pub at: u64,
}

/// A histogram of integers. Cloning shares it.
#[derive(Clone, Debug)]
pub struct AtomicHistogram(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    scale: &'static Scale,
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
    // As many as buckets, or none where exemplars are not wanted.
    exemplars: Box<[ExemplarCell]>,
}

impl AtomicHistogram {
    /// An empty histogram without exemplars.
    #[must_use]
    pub fn new(scale: &'static Scale) -> AtomicHistogram {
        Self::build(scale, 0)
    }

    /// An empty histogram that keeps one exemplar per bucket.
    #[must_use]
    pub fn with_exemplars(scale: &'static Scale) -> AtomicHistogram {
        Self::build(scale, scale.bounds.len() + 1)
    }

    fn build(scale: &'static Scale, exemplars: usize) -> AtomicHistogram {
        let counts = (0..=scale.bounds.len()).map(|_| AtomicU64::new(0)).collect();
        let exemplars = (0..exemplars).map(|_| ExemplarCell::default()).collect();
        AtomicHistogram(Arc::new(Inner { scale, counts, sum: AtomicU64::new(0), exemplars }))
    }

    /// Adds `n` observations to one bucket (the last one when the index is too large) whose values add up to `sum`.
    pub fn add(&self, bucket: usize, n: u64, sum: u64) {
        let bucket = bucket.min(self.0.counts.len() - 1);
        self.0.counts[bucket].fetch_add(n, Ordering::Relaxed);
        self.0.sum.fetch_add(sum, Ordering::Relaxed);
    }

    /// Adds one observation.
    pub fn observe(&self, value: u64) {
        self.add(bucket_of(self.0.scale.bounds, value), 1, value);
    }

    /// Adds a turn's observations: one atomic add per bucket that changed, and one for the sum.
    pub fn fold(&self, observed: Observed<impl IntoIterator<Item = (usize, u64)>>) {
        let last = self.0.counts.len() - 1;
        for (bucket, n) in observed.buckets {
            self.0.counts[bucket.min(last)].fetch_add(n, Ordering::Relaxed);
        }
        if observed.sum != 0 {
            self.0.sum.fetch_add(observed.sum, Ordering::Relaxed);
        }
    }

    /// Makes a request the exemplar of its bucket, unless one at least as large was there within the same second (so
    /// that a busy worker pays two loads per turn), or another worker is writing there this instant.
    pub fn set_exemplar(&self, exemplar: BucketExemplar) {
        let bucket = bucket_of(self.0.scale.bounds, exemplar.value);
        if let Some(cell) = self.0.exemplars.get(bucket).filter(|cell| cell.is_news(exemplar)) {
            cell.store(exemplar);
        }
    }

    /// The exemplars, as (bound of the bucket as exposed, exemplar).
    pub fn exemplars(&self) -> impl Iterator<Item = (f64, BucketExemplar)> + '_ {
        let cells = self.0.exemplars.iter().enumerate();
        cells.filter_map(|(bucket, cell)| Some((self.bound(bucket), cell.load()?)))
    }

    /// Number of observations.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// Sum of the observed values, in the integer unit.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.0.sum.load(Ordering::Relaxed)
    }

    fn bound(&self, bucket: usize) -> f64 {
        self.0.scale.bounds.get(bucket).map_or(f64::INFINITY, |bound| self.0.scale.exposed(*bound))
    }
}

impl TypedMetric for AtomicHistogram {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for AtomicHistogram {
    fn encode(&self, mut encoder: MetricEncoder) -> std::fmt::Result {
        let counts = self.0.counts.iter().map(|count| count.load(Ordering::Relaxed));
        let buckets: Vec<(f64, u64)> = counts.enumerate().map(|(i, n)| (self.bound(i), n)).collect();
        // The count is made of the buckets as read, so that it always equals the +Inf bucket.
        let count = buckets.iter().map(|bucket| bucket.1).sum();
        encoder.encode_histogram::<NoLabelSet>(self.0.scale.exposed(self.sum()), count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

/// Four words that are read together or not at all. `version` is odd while a writer is at work, 0 before the first.
#[derive(Debug, Default)]
struct ExemplarCell {
    version: AtomicU64,
    words: [AtomicU64; 4],
}

impl ExemplarCell {
    // A hint: read without the version, it may be wrong while somebody writes, and costs one sample at most.
    fn is_news(&self, exemplar: BucketExemplar) -> bool {
        let [value, _, _, at] = &self.words;
        at.load(Ordering::Relaxed) != exemplar.at || value.load(Ordering::Relaxed) < exemplar.value
    }

    fn store(&self, exemplar: BucketExemplar) {
        let version = self.version.load(Ordering::Relaxed);
        let free = version & 1 == 0;
        if !free
            || self
                .version
                .compare_exchange(version, version + 1, Ordering::Acquire, Ordering::Relaxed)
                .is_err()
        {
            return;
        }
        // The odd version must be visible before any word of the new value.
        fence(Ordering::Release);
        let words = [exemplar.value, exemplar.method, exemplar.request_id, exemplar.at];
        for (cell, word) in self.words.iter().zip(words) {
            cell.store(word, Ordering::Relaxed);
        }
        self.version.store(version + 2, Ordering::Release);
    }

    fn load(&self) -> Option<BucketExemplar> {
        for _ in 0..8 {
            let before = self.version.load(Ordering::Acquire);
            if before == 0 {
                return None;
            }
            let [value, method, request_id, at] =
                [0, 1, 2, 3].map(|i: usize| self.words[i].load(Ordering::Relaxed));
            fence(Ordering::Acquire);
            if before & 1 == 0 && self.version.load(Ordering::Relaxed) == before {
                return Some(BucketExemplar { value, method, request_id, at });
            }
            std::hint::spin_loop();
        }
        None // a writer was at work every time; the next scrape will have it
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_own_bucket() {
        assert_eq!(bucket_of(&OPERATION_BOUNDS, 0), 0);
        assert_eq!(bucket_of(&OPERATION_BOUNDS, 1), 0);
        assert_eq!(bucket_of(&OPERATION_BOUNDS, 2), 1);
        assert_eq!(bucket_of(&OPERATION_BOUNDS, 20_000), 13);
        assert_eq!(bucket_of(&OPERATION_BOUNDS, 20_001), 14);
        assert_eq!(bucket_of(&OPERATION_BOUNDS, u64::MAX), OPERATION_BOUNDS.len());
    }

    #[test]
    fn folding_adds_counts_and_sum() {
        let histogram = AtomicHistogram::new(&OPERATIONS);
        for _ in 0..2 {
            histogram.fold(Observed { buckets: [(0, 3), (13, 1)], sum: 17_503 });
        }
        assert_eq!((histogram.count(), histogram.sum()), (8, 35_006));
        histogram.fold(Observed { buckets: [(usize::MAX, 1)], sum: 200_000 });
        histogram.observe(1);
        assert_eq!((histogram.count(), histogram.sum()), (10, 235_007));
    }

    #[test]
    fn the_largest_of_a_second_stands_for_its_bucket() {
        let histogram = AtomicHistogram::with_exemplars(&OPERATIONS);
        let seen_after = |value, request_id, at| {
            histogram.set_exemplar(BucketExemplar { value, method: 0, request_id, at });
            histogram.exemplars().map(|(_, exemplar)| exemplar.request_id).collect::<Vec<_>>()
        };
        assert_eq!(seen_after(17_500, 1, 0), [1]);
        assert_eq!(seen_after(15_000, 2, 0), [1]);
        assert_eq!(seen_after(17_600, 3, 0), [3]);
        assert_eq!(seen_after(15_000, 4, 1), [4]);
    }

    #[test]
    fn an_exemplar_is_never_a_mixture_of_two() {
        let histogram = AtomicHistogram::with_exemplars(&OPERATIONS);
        let example = |n: u64| BucketExemplar { value: 15_000, method: n, request_id: n, at: n };
        std::thread::scope(|scope| {
            for start in [1, 1_000_000] {
                let histogram = histogram.clone();
                scope.spawn(move || (start..start + 20_000).for_each(|n| histogram.set_exemplar(example(n))));
            }
            for _ in 0..20_000 {
                for (bound, seen) in histogram.exemplars() {
                    assert_eq!(bound, 20_000.0);
                    assert!(seen.method == seen.request_id && seen.request_id == seen.at, "{seen:?}");
                }
            }
        });
    }
}
