//! The series that readings come to, and how they are written.
//!
//! Gauges are replaced by each reading. Totals are added up from what changed, row by row: a row that goes (a process
//! that ended, an entry that a full map lost) leaves what it counted, and one that begins again counts from zero, so
//! that a series never falls while its metric is known.

use super::catalogue::SERIES;
use super::names::Names;
use super::reading::{Fold, Histogram, Part, Row};
use crate::catalogue::{MetricInfo, Values};
use crate::labels::{Label, OTHER};
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::fmt;

/// Label values in the order of the catalogue.
type LabelValues = Box<[Label]>;

/// What tells one row from another, from one reading to the next.
type RowKey = (u64, Box<[Box<str>]>);

/// The series of one metric.
#[derive(Debug)]
pub(super) enum Series {
    Gauge(BTreeMap<LabelValues, f64>),
    Counter(Totals<f64>),
    Histogram(&'static [f64], Totals<Counts>),
}

/// Totals as shown, and the last reading's: no more rows than that had are remembered.
#[derive(Debug)]
pub(super) struct Totals<V> {
    shown: BTreeMap<LabelValues, V>,
    last: HashMap<RowKey, V>,
}

impl<V> Default for Totals<V> {
    fn default() -> Self {
        Totals { shown: BTreeMap::new(), last: HashMap::new() }
    }
}

/// A number, or numbers, that grow.
pub(super) trait Growing: Clone + Default {
    fn add(&mut self, more: &Self);
    /// What came since `before`; everything, when it began again in between.
    fn since(&self, before: &Self) -> Self;
    /// By which the rows of one reading are ordered.
    fn weight(&self) -> f64;
}

impl Growing for f64 {
    fn add(&mut self, more: &f64) {
        *self += more;
    }

    fn since(&self, before: &f64) -> f64 {
        if self < before { *self } else { self - before }
    }

    fn weight(&self) -> f64 {
        *self
    }
}

/// A histogram's numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Counts {
    buckets: Vec<u64>,
    sum: f64,
}

impl Counts {
    fn of(row: &Histogram<'_>, bounds: &[f64]) -> Counts {
        let buckets = (0..=bounds.len()).map(|at| row.counts.get(at).copied().unwrap_or(0)).collect();
        Counts { buckets, sum: row.sum }
    }
}

impl Growing for Counts {
    fn add(&mut self, more: &Counts) {
        self.buckets.resize(self.buckets.len().max(more.buckets.len()), 0);
        for (count, more) in self.buckets.iter_mut().zip(&more.buckets) {
            *count = count.saturating_add(*more);
        }
        self.sum += more.sum;
    }

    fn since(&self, before: &Counts) -> Counts {
        if self.sum < before.sum || self.buckets.iter().zip(&before.buckets).any(|(now, then)| now < then) {
            return self.clone();
        }
        let then = before.buckets.iter().chain(std::iter::repeat(&0));
        let buckets = self.buckets.iter().zip(then).map(|(now, then)| now - then).collect();
        Counts { buckets, sum: self.sum - before.sum }
    }

    fn weight(&self) -> f64 {
        self.buckets.iter().sum::<u64>() as f64
    }
}

impl Series {
    /// What a part of a reading makes of the series that were there.
    pub(super) fn next(
        before: Option<Series>,
        info: &MetricInfo,
        part: Part<'_>,
        names: &mut Names,
    ) -> Series {
        match part {
            Part::Gauge(fold, rows) => Series::Gauge(gauges(info, fold, rows, names)),
            Part::Counter(rows) => {
                let mut totals = match before {
                    Some(Series::Counter(totals)) => totals,
                    _ => Totals::default(),
                };
                totals.take(info, rows.into_iter(), names);
                Series::Counter(totals)
            }
            Part::Histogram(bounds, rows) => {
                // A reading without rows has no bounds to compare.
                let (bounds, mut totals) = match before {
                    Some(Series::Histogram(were, totals)) if rows.is_empty() || were == bounds => {
                        (were, totals)
                    }
                    _ => (bounds, Totals::default()),
                };
                let counts = |row: Row<'_, Histogram<'_>>| Counts::of(&row.value, bounds);
                let rows = rows.into_iter().map(|row| Row {
                    of: row.of,
                    labels: row.labels.clone(),
                    value: counts(row),
                });
                totals.take(info, rows, names);
                Series::Histogram(bounds, totals)
            }
        }
    }

    /// A gauge with one series.
    pub(super) fn one(labels: impl IntoIterator<Item = Label>, value: f64) -> Series {
        Series::Gauge(BTreeMap::from([(labels.into_iter().collect(), value)]))
    }

    /// Counters by their only label.
    pub(super) fn counters(by_label: &BTreeMap<&'static str, u64>) -> Series {
        let shown =
            by_label.iter().map(|(label, count)| (LabelValues::from([(*label).into()]), *count as f64));
        Series::Counter(Totals { shown: shown.collect(), last: HashMap::new() })
    }

    /// Writes the metric; nothing, when it has no series.
    pub(super) fn encode(&self, info: &MetricInfo, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = format!("{}.", info.help);
        // prometheus-client appends `_total` to counters.
        let (name, kind, empty) = match self {
            Series::Gauge(shown) => (info.name, MetricType::Gauge, shown.is_empty()),
            Series::Counter(totals) => (
                info.name.strip_suffix("_total").unwrap_or(info.name),
                MetricType::Counter,
                totals.shown.is_empty(),
            ),
            Series::Histogram(_, totals) => (info.name, MetricType::Histogram, totals.shown.is_empty()),
        };
        if empty {
            return Ok(());
        }
        let mut metric = encoder.encode_descriptor(name, &help, None, kind)?;
        match self {
            Series::Gauge(shown) => each(info, &mut metric, shown, |series, value| match whole(*value) {
                Some(whole) => series.encode_gauge(&whole),
                None => series.encode_gauge(value),
            }),
            Series::Counter(totals) => {
                each(info, &mut metric, &totals.shown, |series, value| match whole(*value) {
                    Some(whole) => {
                        let whole = whole.unsigned_abs();
                        series.encode_counter(&whole, None::<&Exemplar<NoLabelSet, f64>>)
                    }
                    None => series.encode_counter(value, None::<&Exemplar<NoLabelSet, f64>>),
                })
            }
            Series::Histogram(bounds, totals) => each(info, &mut metric, &totals.shown, |series, counts| {
                let bounds = bounds.iter().copied().chain([f64::INFINITY]);
                let buckets: Vec<(f64, u64)> = bounds.zip(counts.buckets.iter().copied()).collect();
                let count = buckets.iter().map(|bucket| bucket.1).sum();
                series.encode_histogram::<NoLabelSet>(counts.sum, count, &buckets, None)
            }),
        }
    }
}

impl<V: Growing> Totals<V> {
    fn take<'a>(&mut self, info: &MetricInfo, rows: impl Iterator<Item = Row<'a, V>>, names: &mut Names) {
        let mut totals: HashMap<RowKey, V> = HashMap::new();
        for row in rows {
            let key = (row.of, row.labels.iter().map(|label| Box::from(&**label)).collect());
            totals.entry(key).or_default().add(&row.value);
        }
        let mut rows: Vec<(&RowKey, &V)> = totals.iter().collect();
        rows.sort_by(|a, b| heaviest(a.1.weight(), b.1.weight()).then_with(|| a.0.cmp(b.0)));
        for (key, total) in rows {
            let more = self.last.get(key).map_or_else(|| total.clone(), |before| total.since(before));
            let labels = place(info, key.1.iter().map(|label| &**label), &self.shown, names);
            self.shown.entry(labels).or_default().add(&more);
        }
        self.last = totals;
    }
}

fn gauges(
    info: &MetricInfo,
    fold: Fold,
    mut rows: Vec<Row<'_, f64>>,
    names: &mut Names,
) -> BTreeMap<LabelValues, f64> {
    rows.retain(|row| row.value.is_finite());
    rows.sort_by(|a, b| heaviest(a.value, b.value).then_with(|| a.labels.cmp(&b.labels)));
    let mut shown: BTreeMap<LabelValues, f64> = BTreeMap::new();
    for row in rows {
        let labels = place(info, row.labels.iter().map(|label| &**label), &shown, names);
        let value = shown.entry(labels).or_insert(match fold {
            Fold::Sum => 0.0,
            Fold::Max | Fold::Min => row.value,
        });
        *value = match fold {
            Fold::Sum => *value + row.value,
            Fold::Max => value.max(row.value),
            Fold::Min => value.min(row.value),
        };
    }
    shown
}

/// The largest come first: where not all names find a slot, they do.
fn heaviest(a: f64, b: f64) -> Ordering {
    b.total_cmp(&a)
}

/// The series of a row: its labels folded; beyond [`SERIES`], with `_other` for everything that has a cap.
fn place<'a, V>(
    info: &MetricInfo,
    texts: impl Iterator<Item = &'a str>,
    shown: &BTreeMap<LabelValues, V>,
    names: &mut Names,
) -> LabelValues {
    let mut labels: LabelValues =
        info.labels.iter().zip(texts).map(|(label, text)| names.fold(label, text)).collect();
    if shown.len() >= SERIES && !shown.contains_key(&labels) {
        names.overflowed("series");
        for (value, label) in labels.iter_mut().zip(info.labels) {
            if matches!(label.values, Values::Capped(_) | Values::Configured(_)) {
                *value = OTHER.into();
            }
        }
    }
    labels
}

fn each<V>(
    info: &MetricInfo,
    metric: &mut MetricEncoder<'_>,
    shown: &BTreeMap<LabelValues, V>,
    write: impl Fn(&mut MetricEncoder<'_>, &V) -> fmt::Result,
) -> fmt::Result {
    for (labels, value) in shown {
        if labels.is_empty() {
            return write(metric, value); // no braces
        }
        let set: Vec<(&str, Label)> =
            info.labels.iter().map(|label| label.name).zip(labels.iter().cloned()).collect();
        write(&mut metric.encode_family(&set)?, value)?;
    }
    Ok(())
}

/// A whole number is written without a fraction, as counts are everywhere else.
fn whole(value: f64) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0; // 2^53: from here on a float counts in steps
    (value.fract() == 0.0 && value.abs() < EXACT).then_some(value as i64)
}
