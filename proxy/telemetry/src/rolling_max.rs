//! The largest value of the last minute.
//!
//! Seven slots of ten seconds, so that the answer covers the running slot and the six whole ones before it: a value is
//! shown for at least 60 and at most 70 seconds. A scrape every 5 to 30 s cannot miss it, which no rate over a counter
//! promises. One slot is one atomic word, epoch above value, so that recording is a single `fetch_max`: a newer epoch
//! beats any value of an older one, and within an epoch the larger value wins.

use crate::Seconds;
use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::{MetricType, TypedMetric};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Length of one slot.
pub const SLOT_SECONDS: u64 = 10;
/// Number of slots.
pub const SLOTS: usize = 7;

const VALUE_BITS: u32 = 32;
const VALUE_MAX: u64 = (1 << VALUE_BITS) - 1;

/// A maximum over the last 60 to 70 seconds. Values above 4,294,967,295 are held as that.
#[derive(Debug, Default)]
pub struct RollingMax {
    slots: [AtomicU64; SLOTS],
}

impl RollingMax {
    /// Takes a value into account. Lock-free; one atomic operation, or one load when a larger value is there already.
    pub fn record(&self, value: u64, now: Seconds) {
        let epoch = epoch(now);
        let word = (epoch << VALUE_BITS) | value.min(VALUE_MAX);
        let slot = &self.slots[(epoch % SLOTS as u64) as usize];
        if slot.load(Ordering::Relaxed) < word {
            slot.fetch_max(word, Ordering::Relaxed);
        }
    }

    /// The largest value recorded within the window that ends now; 0 when there was none.
    #[must_use]
    pub fn get(&self, now: Seconds) -> u64 {
        let newest = epoch(now);
        let oldest = newest.saturating_sub(SLOTS as u64 - 1);
        let words = self.slots.iter().map(|slot| slot.load(Ordering::Relaxed));
        words
            .filter(|w| (oldest..=newest).contains(&(w >> VALUE_BITS)))
            .map(|w| w & VALUE_MAX)
            .max()
            .unwrap_or(0)
    }
}

// Epochs start at 1, so that an untouched slot (0) belongs to no epoch anyone asks for.
fn epoch(now: Seconds) -> u64 {
    (now.0 / SLOT_SECONDS + 1).min(VALUE_MAX)
}

/// A [`RollingMax`] as a gauge: it is read at the time of the scrape, which the exposition sets.
#[derive(Clone, Debug)]
pub struct RollingMaxGauge {
    max: Arc<RollingMax>,
    scrape_time: Arc<AtomicU64>,
}

impl RollingMaxGauge {
    /// A gauge that reads its window's end from `scrape_time` (seconds).
    #[must_use]
    pub fn new(scrape_time: Arc<AtomicU64>) -> RollingMaxGauge {
        RollingMaxGauge { max: Arc::default(), scrape_time }
    }

    /// See [`RollingMax::record`].
    pub fn record(&self, value: u64, now: Seconds) {
        self.max.record(value, now);
    }

    /// See [`RollingMax::get`].
    #[must_use]
    pub fn get(&self, now: Seconds) -> u64 {
        self.max.get(now)
    }
}

impl TypedMetric for RollingMaxGauge {
    const TYPE: MetricType = MetricType::Gauge;
}

impl EncodeMetric for RollingMaxGauge {
    fn encode(&self, mut encoder: MetricEncoder) -> std::fmt::Result {
        encoder.encode_gauge(&self.max.get(Seconds(self.scrape_time.load(Ordering::Relaxed))))
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn shown_for_a_minute_and_gone_after_seventy_seconds() {
        let max = RollingMax::default();
        max.record(17_500, Seconds(5));
        max.record(20, Seconds(6));
        assert_eq!(max.get(Seconds(5)), 17_500);
        assert_eq!(max.get(Seconds(65)), 17_500);
        assert_eq!(max.get(Seconds(70)), 0);
    }

    #[test]
    fn a_late_worker_does_not_disturb_a_newer_slot() {
        let max = RollingMax::default();
        max.record(7, Seconds(100));
        max.record(9_000, Seconds(30)); // same slot, seven epochs older
        assert_eq!(max.get(Seconds(100)), 7);
    }

    #[test]
    fn values_above_the_word_saturate() {
        let max = RollingMax::default();
        max.record(u64::MAX, Seconds(0));
        assert_eq!(max.get(Seconds(0)), VALUE_MAX);
    }

    proptest! {
        /// Against a plain list: never forgets within 60 s, never remembers after 70 s.
        #[test]
        fn agrees_with_a_list(mut events in prop::collection::vec((0u64..400, 0u64..100_000), 1..80)) {
            events.sort_unstable();
            let max = RollingMax::default();
            for (i, &(at, value)) in events.iter().enumerate() {
                max.record(value, Seconds(at));
                let seen = &events[..=i];
                let within = |age: u64| seen.iter().filter(|e| at - e.0 <= age).map(|e| e.1).max().unwrap_or(0);
                let got = max.get(Seconds(at));
                prop_assert!(got >= within(60), "forgot within a minute");
                prop_assert!(got <= within(70), "remembered too long");
            }
        }
    }
}
