//! Two small shared numbers that prometheus-client does not have: a counter of time, and a gauge that several workers
//! hold parts of.

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::{MetricType, TypedMetric};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A counter of time, added in microseconds by one atomic add, exposed in seconds.
#[derive(Clone, Debug, Default)]
pub struct SecondsCounter(Arc<AtomicU64>);

impl SecondsCounter {
    /// Adds microseconds.
    pub fn add_micros(&self, micros: u64) {
        self.0.fetch_add(micros, Ordering::Relaxed);
    }

    /// Microseconds so far.
    #[must_use]
    pub fn micros(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl TypedMetric for SecondsCounter {
    const TYPE: MetricType = MetricType::Counter;
}

impl EncodeMetric for SecondsCounter {
    fn encode(&self, mut encoder: MetricEncoder) -> std::fmt::Result {
        let seconds = self.micros() as f64 / 1e6;
        encoder.encode_counter::<NoLabelSet, f64, f64>(&seconds, None::<&Exemplar<NoLabelSet, f64>>)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

/// One worker's part of a gauge that several workers add up to. The part is taken back when it is dropped, so the sum
/// cannot drift and never falls below zero.
#[derive(Debug)]
pub struct GaugeShare {
    gauge: Gauge,
    part: i64,
}

impl GaugeShare {
    pub(crate) fn new(gauge: Gauge) -> GaugeShare {
        GaugeShare { gauge, part: 0 }
    }

    /// Makes this part `value`. One atomic add, none when nothing changed.
    pub fn set(&mut self, value: u64) {
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        let change = value - self.part;
        if change != 0 {
            self.gauge.inc_by(change);
            self.part = value;
        }
    }
}

impl Drop for GaugeShare {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_and_are_taken_back() {
        let gauge = Gauge::default();
        let mut one = GaugeShare::new(gauge.clone());
        let mut two = GaugeShare::new(gauge.clone());
        one.set(5);
        two.set(7);
        one.set(2);
        assert_eq!(gauge.get(), 9);
        drop(two);
        assert_eq!(gauge.get(), 2);
        drop(one);
        assert_eq!(gauge.get(), 0);
    }
}
