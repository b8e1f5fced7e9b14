//! What a worker counted since the last fold, per identity and method: plain numbers, no atomics.
//!
//! The bounds below are those of the metrics; the crate that folds tallies into metrics checks that they are equal.

use super::entry::{Entry, Method, Outcome, RequestId};
use crate::error::{LimitKind, Rejected};
use crate::settings::LimitMode;

/// Upper bounds of the operations histogram. They go to 100,000 because the requests weir exists for have 15 to 20
/// thousand operations.
pub const OPERATION_BOUNDS: [u64; 16] =
    [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000];

/// Upper bounds of durations, in microseconds: 50 us to 10 s.
pub const DURATION_BOUNDS: [u64; 17] = [
    50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000,
    2_000_000, 5_000_000, 10_000_000,
];

/// Largest request of each size class but the last: 1, 2-10, 11-100, 101-1000, 1001-10000, 10001+.
pub const SIZE_CLASS_TOPS: [u64; 5] = [1, 10, 100, 1_000, 10_000];

/// Buckets of the operations histogram, the last one for everything above the bounds.
pub const OPERATION_BUCKETS: usize = OPERATION_BOUNDS.len() + 1;
/// Buckets of the duration histograms, the last one for everything above the bounds.
pub const DURATION_BUCKETS: usize = DURATION_BOUNDS.len() + 1;
/// Size classes of requests.
pub const SIZE_CLASSES: usize = SIZE_CLASS_TOPS.len() + 1;

/// The modes a limit can be in, in the order of `over_limit` counts.
const MODES: [LimitMode; 3] = [LimitMode::Observe, LimitMode::Pace, LimitMode::Refuse];

/// The first bucket whose bound is not below the value.
fn bucket_of(bounds: &[u64], value: u64) -> usize {
    bounds.partition_point(|bound| *bound < value)
}

/// Observations per bucket, and the sum of their values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buckets<const N: usize> {
    counts: [u32; N],
    /// One bit per bucket that is not zero: a fold looks only at those.
    touched: u32,
    sum: u64,
}

impl<const N: usize> Default for Buckets<N> {
    fn default() -> Self {
        const { assert!(N <= 32, "`touched` has one bit per bucket") };
        Buckets { counts: [0; N], touched: 0, sum: 0 }
    }
}

impl<const N: usize> Buckets<N> {
    pub(crate) fn add(&mut self, bounds: &[u64], value: u64) {
        let bucket = bucket_of(bounds, value).min(N - 1);
        self.counts[bucket] = self.counts[bucket].saturating_add(1);
        self.touched |= 1 << bucket;
        self.sum = self.sum.saturating_add(value);
    }

    pub(crate) fn merge(&mut self, other: &Buckets<N>) {
        for (bucket, n) in other.iter() {
            self.counts[bucket] = self.counts[bucket].saturating_add(u32::try_from(n).unwrap_or(u32::MAX));
        }
        self.touched |= other.touched;
        self.sum = self.sum.saturating_add(other.sum);
    }

    /// The sum of the values.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// The number of observations.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.iter().map(|(_, n)| n).sum()
    }

    /// The buckets that are not zero, as (index, observations).
    pub fn iter(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        let mut touched = self.touched;
        std::iter::from_fn(move || {
            let bucket = (touched != 0).then(|| touched.trailing_zeros() as usize)?;
            touched &= touched - 1;
            Some((bucket, u64::from(self.counts[bucket])))
        })
    }
}

/// The largest finished request, for the exemplar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Largest {
    /// Operations asked.
    pub operations: u64,
    /// The name `/expensive` shows for it.
    pub request: RequestId,
}

/// Numbers of one identity and method since the last fold.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Finished requests by [`Outcome::index`].
    pub requests: [u64; Outcome::COUNT],
    /// Operations asked by finished requests.
    pub operations: u64,
    /// Operations the backends were asked for.
    pub backend_operations: u64,
    /// Operations that found a value.
    pub hits: u64,
    /// Operations that found none.
    pub misses: u64,
    /// Operations that joined another one.
    pub coalesced: u64,
    /// Parts that requests were cut into.
    pub chunks: u64,
    /// Bytes of requests.
    pub bytes_in: u64,
    /// Bytes of answers.
    pub bytes_out: u64,
    /// Microseconds between the first byte to and the last byte from a backend, summed.
    pub backend_time_us: u64,
    /// Operations by the size class of their request ([`SIZE_CLASS_TOPS`]).
    pub size_class_operations: [u64; SIZE_CLASSES],
    /// Requests by operations asked ([`OPERATION_BOUNDS`]).
    pub request_operations: Buckets<OPERATION_BUCKETS>,
    /// Durations in microseconds ([`DURATION_BOUNDS`]).
    pub durations: Buckets<DURATION_BUCKETS>,
    /// Queue waits in microseconds ([`DURATION_BOUNDS`]) of requests that were queued.
    pub queue_waits: Buckets<DURATION_BUCKETS>,
    /// The largest request *asked*, whether it was refused, is still running or has ended; 0 when none was.
    pub largest: u64,
    /// The largest request that ended, with its id.
    pub exemplar: Option<Largest>,
}

impl Tally {
    pub(crate) fn asked(&mut self, operations: u64) {
        self.largest = self.largest.max(operations);
    }

    /// Adds what another tally counted.
    fn merge(&mut self, other: &Tally) {
        let add = |to: &mut [u64], from: &[u64]| to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
        add(&mut self.requests, &other.requests);
        add(&mut self.size_class_operations, &other.size_class_operations);
        self.operations += other.operations;
        self.backend_operations += other.backend_operations;
        self.hits += other.hits;
        self.misses += other.misses;
        self.coalesced += other.coalesced;
        self.chunks += other.chunks;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.backend_time_us += other.backend_time_us;
        self.request_operations.merge(&other.request_operations);
        self.durations.merge(&other.durations);
        self.queue_waits.merge(&other.queue_waits);
        self.asked(other.largest);
        if other.exemplar.is_some_and(|new| self.exemplar.is_none_or(|own| own.operations < new.operations)) {
            self.exemplar = other.exemplar;
        }
    }

    pub(crate) fn record(&mut self, entry: &Entry, request: RequestId) {
        self.requests[entry.outcome.index()] += 1;
        self.operations += entry.operations;
        self.backend_operations += entry.backend_operations;
        self.hits += entry.hits;
        self.misses += entry.misses;
        self.coalesced += entry.coalesced;
        self.chunks += u64::from(entry.chunks);
        self.bytes_in += entry.bytes_in;
        self.bytes_out += entry.bytes_out;
        self.backend_time_us += entry.backend_time.0;
        self.size_class_operations[bucket_of(&SIZE_CLASS_TOPS, entry.operations)] += entry.operations;
        self.request_operations.add(&OPERATION_BOUNDS, entry.operations);
        self.durations.add(&DURATION_BOUNDS, entry.total.0);
        if entry.queued() {
            self.queue_waits.add(&DURATION_BOUNDS, entry.queue_wait.0);
        }
        self.asked(entry.operations);
        if self.exemplar.is_none_or(|largest| largest.operations < entry.operations) {
            self.exemplar = Some(Largest { operations: entry.operations, request });
        }
    }
}

/// What became of a `flush_all`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushEnd {
    /// Sent to every server, or, by prefix, done.
    Sent,
    /// Not allowed.
    Refused,
    /// By prefix, and it did not end well: some keys may be gone, some not.
    Failed,
}

impl FlushEnd {
    const COUNT: usize = 3;
}

/// One bit per method.
const DIRTY_WORDS: usize = Method::MAX.div_ceil(64);

/// Numbers of one identity since the last fold.
#[derive(Debug, Default)]
pub struct IdentityTally {
    /// By [`Method::index`], as far as the last one that was used; a box is made when the method is first used and kept
    /// while the identity has connections.
    methods: Vec<Option<Box<Tally>>>,
    /// One bit per method whose tally is not empty.
    dirty: [u64; DIRTY_WORDS],
    over_limit: [[u64; MODES.len()]; LimitKind::ALL.len()],
    rejected: [u64; Rejected::COUNT],
    /// By [`FlushEnd`].
    flushes: [u64; FlushEnd::COUNT],
    /// Whether the ledger's list of dirty identities names it.
    pub(crate) listed: bool,
    pub(crate) retired: bool,
}

impl IdentityTally {
    /// The verbs used since the last fold.
    pub fn tallies(&self) -> impl Iterator<Item = (Method, &Tally)> {
        let words = self.dirty.iter().enumerate().filter(|(_, bits)| **bits != 0);
        let used = words.flat_map(|(word, bits)| {
            let set = (0..64).filter(move |bit| bits & (1 << bit) != 0);
            set.map(move |bit| Method((word * 64 + bit) as u16))
        });
        used.filter_map(|method| Some((method, self.methods.get(method.index())?.as_deref()?)))
    }

    /// Requests that were over a limit: (limit, mode it was in, requests), zeroes left out.
    pub fn over_limits(&self) -> impl Iterator<Item = (LimitKind, LimitMode, u64)> + '_ {
        let all = LimitKind::ALL.into_iter().flat_map(|kind| MODES.map(|mode| (kind, mode)));
        all.map(|(kind, mode)| (kind, mode, self.over_limit[kind.index()][mode as usize]))
            .filter(|(.., requests)| *requests > 0)
    }

    /// Requests turned down for another reason than a limit or the policy for `flush_all`, zeroes left out.
    pub fn rejections(&self) -> impl Iterator<Item = (Rejected, u64)> + '_ {
        let all = Rejected::ALL.into_iter().map(|why| (why, self.rejected[why.index()]));
        all.filter(|(_, requests)| *requests > 0)
    }

    /// `flush_all` commands of which this became.
    #[must_use]
    pub fn flushes(&self, end: FlushEnd) -> u64 {
        self.flushes[end as usize]
    }

    /// Whether the identity has no connection any more: after this fold its slot may name another one, so whatever is
    /// kept by slot must be let go.
    #[must_use]
    pub fn retired(&self) -> bool {
        self.retired
    }

    /// Whether nothing was counted since the last fold.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.dirty == [0; DIRTY_WORDS]
            && self.flushes == [0; FlushEnd::COUNT]
            && self.over_limits().next().is_none()
    }

    /// Adds what was counted for a connection before its name was known.
    pub(crate) fn merge(&mut self, other: &IdentityTally) {
        for (method, tally) in other.tallies() {
            self.method(method).merge(tally);
        }
        for (own, other) in self.over_limit.iter_mut().flatten().zip(other.over_limit.iter().flatten()) {
            *own += other;
        }
        for (own, other) in self.flushes.iter_mut().zip(other.flushes) {
            *own += other;
        }
    }

    pub(crate) fn method(&mut self, method: Method) -> &mut Tally {
        let index = method.index().min(Method::MAX - 1);
        self.dirty[index / 64] |= 1 << (index % 64);
        if index >= self.methods.len() {
            self.methods.resize_with(index + 1, || None);
        }
        self.methods[index].get_or_insert_default()
    }

    pub(crate) fn over_limit(&mut self, kind: LimitKind, mode: LimitMode) {
        self.over_limit[kind.index()][mode as usize] += 1;
    }

    pub(crate) fn rejected(&mut self, why: Rejected, requests: u64) {
        self.rejected[why.index()] += requests;
    }

    pub(crate) fn flush_all(&mut self, end: FlushEnd) {
        self.flushes[end as usize] += 1;
    }

    /// Empties it and keeps its boxes.
    pub(crate) fn reset(&mut self) {
        for (word, bits) in self.dirty.iter_mut().enumerate() {
            while *bits != 0 {
                let method = word * 64 + bits.trailing_zeros() as usize;
                *bits &= *bits - 1;
                if let Some(Some(tally)) = self.methods.get_mut(method) {
                    **tally = Tally::default();
                }
            }
        }
        self.over_limit = Default::default();
        self.rejected = Default::default();
        self.flushes = Default::default();
        self.listed = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_own_bucket() {
        assert_eq!(bucket_of(&OPERATION_BOUNDS, 1), 0);
        assert_eq!(bucket_of(&OPERATION_BOUNDS, 20_000), 13);
        assert_eq!(bucket_of(&OPERATION_BOUNDS, u64::MAX), OPERATION_BUCKETS - 1);
        let classes =
            [0, 1, 2, 10, 11, 100, 101, 1_000, 1_001, 10_000, 10_001].map(|n| bucket_of(&SIZE_CLASS_TOPS, n));
        assert_eq!(classes, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5]);
    }

    #[test]
    fn modes_are_listed_in_the_order_of_their_discriminants() {
        for (i, mode) in MODES.into_iter().enumerate() {
            assert_eq!(mode as usize, i);
        }
    }

    #[test]
    fn buckets_give_back_what_was_added() {
        let mut buckets = Buckets::<OPERATION_BUCKETS>::default();
        for value in [1, 1, 17_500, 1_000_000] {
            buckets.add(&OPERATION_BOUNDS, value);
        }
        assert_eq!(buckets.iter().collect::<Vec<_>>(), [(0, 2), (13, 1), (16, 1)]);
        assert_eq!((buckets.sum(), buckets.count()), (1_017_502, 4));
    }
}
