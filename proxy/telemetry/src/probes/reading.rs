//! One reading: rows of plain numbers by metric, as whoever looked at the kernel found them.
//!
//! Label values are texts in the order of the catalogue. They need not be folded: that is done where the reading is
//! taken in. A metric with no call here is unknown and has no series; one with a call and no rows is known to be empty.

use crate::catalogue::{MetricInfo, MetricKind};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// What a gauge shows when several rows come to the same labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fold {
    /// They add up: sockets, connections.
    Sum,
    /// The largest: ports of one pair, a request's size, a capacity.
    Max,
    /// The smallest: time that is left.
    Min,
}

/// A row's label values.
pub type Texts<'a, const N: usize> = [Cow<'a, str>; N];

/// A total that only grows while its source lives.
#[derive(Clone, Debug, PartialEq)]
pub struct Total<'a, const N: usize> {
    /// What tells rows with equal labels apart, so that one that goes is not taken for a total that fell: a process id,
    /// or 0 where the labels suffice.
    pub of: u64,
    /// Label values.
    pub labels: Texts<'a, N>,
    /// The total since the source began.
    pub total: f64,
}

/// Totals by size of what was observed.
#[derive(Clone, Debug, PartialEq)]
pub struct Buckets<'a, const N: usize> {
    /// As in [`Total::of`].
    pub of: u64,
    /// Label values.
    pub labels: Texts<'a, N>,
    /// Observations by bucket, in the order of the bounds, and one more for those above the last. Missing ones are 0.
    pub counts: Cow<'a, [u64]>,
    /// Sum of the observed values, in the unit of the metric.
    pub sum: f64,
}

/// A row without the number of its labels.
#[derive(Debug)]
pub(super) struct Row<'a, V> {
    pub of: u64,
    pub labels: Vec<Cow<'a, str>>,
    pub value: V,
}

#[derive(Debug)]
pub(super) enum Part<'a> {
    Gauge(Fold, Vec<Row<'a, f64>>),
    Counter(Vec<Row<'a, f64>>),
    Histogram(&'static [f64], Vec<Row<'a, Histogram<'a>>>),
}

#[derive(Clone, Debug)]
pub(super) struct Histogram<'a> {
    pub counts: Cow<'a, [u64]>,
    pub sum: f64,
}

/// What one look at the kernel came to.
#[derive(Debug, Default)]
pub struct Reading<'a> {
    pub(super) parts: BTreeMap<&'static str, Part<'a>>,
}

impl<'a> Reading<'a> {
    /// A reading in which everything is unknown.
    #[must_use]
    pub fn new() -> Reading<'a> {
        Reading::default()
    }

    /// What a gauge shows now. A second call for the same metric takes the place of the first, here and below.
    ///
    /// # Panics
    ///
    /// When the metric is no gauge or has another number of labels, here and below for the other kinds: a mistake in the
    /// program, which every reading would make.
    pub fn gauge<const N: usize>(
        &mut self,
        info: &'static MetricInfo,
        fold: Fold,
        rows: impl IntoIterator<Item = (Texts<'a, N>, f64)>,
    ) {
        fits(info, MetricKind::Gauge, N);
        let rows = rows.into_iter().map(|(labels, value)| Row { of: 0, labels: labels.into(), value });
        self.parts.insert(info.name, Part::Gauge(fold, rows.collect()));
    }

    /// The totals of a counter.
    ///
    /// # Panics
    ///
    /// As [`Reading::gauge`].
    pub fn counter<const N: usize>(
        &mut self,
        info: &'static MetricInfo,
        rows: impl IntoIterator<Item = Total<'a, N>>,
    ) {
        fits(info, MetricKind::Counter, N);
        let rows =
            rows.into_iter().map(|row| Row { of: row.of, labels: row.labels.into(), value: row.total });
        self.parts.insert(info.name, Part::Counter(rows.collect()));
    }

    /// The totals of a histogram. `bounds` are the upper bounds of its buckets, in the unit of the metric; they are the
    /// same in every reading.
    ///
    /// # Panics
    ///
    /// As [`Reading::gauge`].
    pub fn histogram<const N: usize>(
        &mut self,
        info: &'static MetricInfo,
        bounds: &'static [f64],
        rows: impl IntoIterator<Item = Buckets<'a, N>>,
    ) {
        fits(info, MetricKind::Histogram, N);
        let rows = rows.into_iter().map(|row| Row {
            of: row.of,
            labels: row.labels.into(),
            value: Histogram { counts: row.counts, sum: row.sum },
        });
        self.parts.insert(info.name, Part::Histogram(bounds, rows.collect()));
    }
}

fn fits(info: &MetricInfo, kind: MetricKind, labels: usize) {
    assert_eq!(info.kind, kind, "{} is another kind of metric", info.name);
    assert_eq!(info.labels.len(), labels, "{} has another number of labels", info.name);
}
