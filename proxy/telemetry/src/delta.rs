//! What a worker hands over at the end of a turn of its loop: the plain numbers of one caller and method since the last
//! time, borrowed from wherever the worker keeps them. Nothing is copied on the way to the atomics.

use crate::vocabulary::{Outcome, SizeClass};

/// Observations that were sorted into buckets already: (index of the bucket, how many), and the sum of their values. The
/// bounds are [`crate::histogram::OPERATION_BOUNDS`] or [`crate::histogram::DURATION_BOUNDS`]; whoever sorts checks that
/// its own are equal.
#[derive(Clone, Debug)]
pub struct Observed<I> {
    /// Buckets that are not zero.
    pub buckets: I,
    /// Sum of the values.
    pub sum: u64,
}

/// One finished request that may stand for its bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Example {
    /// Operations asked.
    pub operations: u64,
    /// The identifier `/expensive` and `weir tap` show for it, as 16 hex digits.
    pub request_id: u64,
}

/// The numbers of one caller and method since the last fold.
#[derive(Clone, Debug)]
pub struct MethodDelta<'a, O, D, Q> {
    /// Requests that ended, by [`Outcome::index`].
    pub requests: &'a [u64; Outcome::COUNT],
    /// Operations asked by requests that ended, by [`SizeClass::index`] of their request.
    pub size_class_operations: &'a [u64; SizeClass::COUNT],
    /// Requests that ended, by operations asked.
    pub request_operations: Observed<O>,
    /// Their durations in microseconds.
    pub durations: Observed<D>,
    /// Queue waits in microseconds of those that were queued.
    pub queue_waits: Observed<Q>,
    /// Bytes of their requests.
    pub bytes_in: u64,
    /// Bytes of their answers.
    pub bytes_out: u64,
    /// The largest request *asked*, whether it was refused, is under way or has ended; 0 when none was.
    pub largest_asked: u64,
    /// The largest request that ended.
    pub example: Option<Example>,
}
