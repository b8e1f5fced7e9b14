//! A histogram of nanoseconds with logarithmic buckets: 64 per power of two, so a quantile is at most 1.6 % above
//! the true one. 30 KB whatever is recorded; recording is a few instructions.

use serde::Serialize;

/// log2 of the buckets per power of two.
const FINENESS: u32 = 6;
const PER_OCTAVE: usize = 1 << FINENESS;
const BUCKETS: usize = (64 - FINENESS as usize + 1) * PER_OCTAVE;

/// Counts durations.
#[derive(Clone)]
pub struct Histogram {
    buckets: Vec<u64>,
    samples: u64,
    sum: u128,
    max: u64,
}

/// Quantiles of a histogram in microseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Quantiles {
    /// Median.
    pub p50: f64,
    /// 90 % are at most this.
    pub p90: f64,
    /// 99 % are at most this.
    pub p99: f64,
    /// 99.9 % are at most this.
    pub p99_9: f64,
    /// The largest sample, exact.
    pub max: f64,
    /// The mean, exact.
    pub mean: f64,
    /// How many were recorded.
    pub samples: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: vec![0; BUCKETS], samples: 0, sum: 0, max: 0 }
    }
}

impl Histogram {
    /// Records one duration.
    pub fn record(&mut self, nanoseconds: u64) {
        self.buckets[bucket(nanoseconds)] += 1;
        self.samples += 1;
        self.sum += u128::from(nanoseconds);
        self.max = self.max.max(nanoseconds);
    }

    /// Adds what another one recorded.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        self.samples += other.samples;
        self.sum += other.sum;
        self.max = self.max.max(other.max);
    }

    /// The duration that `share` of the samples do not exceed; 0 without samples.
    pub fn quantile(&self, share: f64) -> u64 {
        let rank = ((self.samples as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (number, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return upper_end(number).min(self.max);
            }
        }
        self.max
    }

    /// The usual quantiles, in microseconds.
    pub fn quantiles(&self) -> Quantiles {
        let micros = |nanoseconds: u64| (nanoseconds as f64 / 100.0).round() / 10.0;
        let mean = if self.samples == 0 { 0 } else { (self.sum / u128::from(self.samples)) as u64 };
        Quantiles {
            p50: micros(self.quantile(0.5)),
            p90: micros(self.quantile(0.9)),
            p99: micros(self.quantile(0.99)),
            p99_9: micros(self.quantile(0.999)),
            max: micros(self.max),
            mean: micros(mean),
            samples: self.samples,
        }
    }
}

fn bucket(value: u64) -> usize {
    if value < PER_OCTAVE as u64 {
        return value as usize;
    }
    let shift = 63 - value.leading_zeros() - FINENESS;
    // The top FINENESS + 1 bits of the value run from PER_OCTAVE to 2 * PER_OCTAVE - 1.
    shift as usize * PER_OCTAVE + (value >> shift) as usize
}

fn upper_end(bucket: usize) -> u64 {
    if bucket < 2 * PER_OCTAVE {
        return bucket as u64;
    }
    let shift = bucket / PER_OCTAVE - 1;
    let top = (bucket % PER_OCTAVE + PER_OCTAVE) as u128;
    (((top + 1) << shift) - 1).min(u128::from(u64::MAX)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_ordered_and_hold_their_values() {
        let mut last = 0;
        for value in (0..4_000).chain((12..64).flat_map(|n| [(1 << n) - 1, 1 << n, (1 << n) + 1])) {
            let number = bucket(value);
            assert!(number < BUCKETS && number >= last, "{value}");
            last = number;
            let end = upper_end(number);
            assert!(
                end >= value && (end - value) as f64 <= value as f64 / 60.0,
                "{value} in a bucket to {end}"
            );
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_of_a_known_set() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), 0);
        (1..=1_000).for_each(|n| histogram.record(n * 1_000));
        let quantiles = histogram.quantiles();
        assert!((500.0..508.0).contains(&quantiles.p50), "{quantiles:?}");
        assert!((990.0..=1_000.0).contains(&quantiles.p99), "{quantiles:?}");
        assert_eq!((quantiles.max, quantiles.mean, quantiles.samples), (1_000.0, 500.5, 1_000));
    }
}
