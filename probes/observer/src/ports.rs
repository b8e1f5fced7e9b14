//! Local ports: how many there are in a namespace, and when they will be used up.
//!
//! A connection takes one local port for its source and destination address; all others may use the same port. So a
//! pair of these has [`PortRange::capacity`] ports, less whatever a client takes that binds its source address without
//! IP_BIND_ADDRESS_NO_PORT: that one keeps the port from every destination.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::time::Duration;

/// `net.ipv4.ip_local_port_range`, which holds for IPv6 as well.
const RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
/// Ports that are only given to who asks for them.
const RESERVED: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";

/// Samples a slope is told from, and the fewest that tell one.
const SAMPLES: usize = 8;
const SAMPLES_MIN: usize = 4;
/// Samples older than this say nothing about the present.
const AGE_MAX: Duration = Duration::from_secs(300);
/// Samples closer than this add nothing.
const SPACING: Duration = Duration::from_millis(500);
/// A slope counts when it is so many times its own standard error: what only wobbles does not grow.
const CERTAINTY: f64 = 4.0;
/// And when what was added in the time looked at is at least this part of the capacity.
const GROWTH_MIN: f64 = 0.002;
/// Less than this part of the sample before: whoever had the ports is gone, and what it did says nothing any more.
const RESTART: f64 = 0.5;
/// Nobody is warned of what happens later than this.
const HORIZON: Duration = Duration::from_secs(24 * 3600);

/// The local ports that connections get by themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortRange {
    range: RangeInclusive<u16>,
    reserved: Vec<RangeInclusive<u16>>,
}

impl PortRange {
    /// Reads it for the calling thread's network namespace. `None` where it cannot be read.
    #[must_use]
    pub fn read() -> Option<PortRange> {
        let range = std::fs::read_to_string(RANGE).ok()?;
        PortRange::parse(&range, &std::fs::read_to_string(RESERVED).ok()?)
    }

    /// `32768\t60999` and `8080,9148-9150`.
    #[must_use]
    pub fn parse(range: &str, reserved: &str) -> Option<PortRange> {
        let mut ends = range.split_ascii_whitespace();
        let range = ends.next()?.parse().ok()?..=ends.next()?.parse().ok()?;
        let mut list = Vec::new();
        for part in reserved.trim().split(',').filter(|part| !part.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            list.push(first.trim().parse().ok()?..=last.trim().parse().ok()?);
        }
        list.sort_unstable_by_key(|part| *part.start());
        Some(PortRange { range, reserved: list })
    }

    /// Whether a connection may get this port by itself.
    #[must_use]
    pub fn holds(&self, port: u16) -> bool {
        // The reserved ranges are ordered and do not overlap.
        let after = self.reserved.partition_point(|part| *part.start() <= port);
        let reserved = after.checked_sub(1).is_some_and(|last| self.reserved[last].contains(&port));
        self.range.contains(&port) && !reserved
    }

    /// How many there are.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        let count = |first: u16, last: u16| u64::from(last) + 1 - u64::from(first).min(u64::from(last) + 1);
        let taken = self.reserved.iter().map(|part| {
            count((*part.start()).max(*self.range.start()), (*part.end()).min(*self.range.end()))
        });
        count(*self.range.start(), *self.range.end()).saturating_sub(taken.sum())
    }
}

/// Ports in use over a while, of one source and destination.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// When, since any fixed moment, and how many; in order of time.
    samples: VecDeque<(Duration, u64)>,
}

impl History {
    /// Notes how many ports are in use now. A time that does not go forward is left out.
    pub fn note(&mut self, now: Duration, used: u64) {
        if let Some((last, before)) = self.samples.back().copied() {
            if now < last + SPACING {
                return;
            }
            if (used as f64) < before as f64 * RESTART {
                self.samples.clear();
            }
        }
        self.samples.push_back((now, used));
        while self.samples.len() > SAMPLES || self.samples.front().is_some_and(|(at, _)| *at + AGE_MAX < now)
        {
            self.samples.pop_front();
        }
    }

    /// When none of `capacity` ports will be left at the present slope, from the last sample on. `None` while the use does
    /// not grow for sure, is not known for long enough, or has more than a day left.
    #[must_use]
    pub fn exhausted_in(&self, capacity: u64) -> Option<Duration> {
        let (last, used) = self.samples.back().copied()?;
        let left = capacity.saturating_sub(used) as f64;
        if left == 0.0 {
            return Some(Duration::ZERO);
        }
        let count = self.samples.len();
        if count < SAMPLES_MIN {
            return None;
        }
        // A line through the samples by least squares; time counted back from the last one.
        let points =
            || self.samples.iter().map(|(at, used)| (at.as_secs_f64() - last.as_secs_f64(), *used as f64));
        let n = count as f64;
        let (sum_x, sum_y) = points().fold((0.0, 0.0), |(x, y), point| (x + point.0, y + point.1));
        let (mean_x, mean_y) = (sum_x / n, sum_y / n);
        let (mut xx, mut xy) = (0.0, 0.0);
        for (x, y) in points() {
            xx += (x - mean_x) * (x - mean_x);
            xy += (x - mean_x) * (y - mean_y);
        }
        let slope = xy / xx;
        let misses = points().map(|(x, y)| y - mean_y - slope * (x - mean_x));
        let error = (misses.map(|miss| miss * miss).sum::<f64>() / (n - 2.0) / xx).sqrt();
        let span = (last - self.samples.front()?.0).as_secs_f64();
        let grows = slope > CERTAINTY * error && slope * span >= (GROWTH_MIN * capacity as f64).max(1.0);
        let seconds = left / slope;
        (grows && seconds <= HORIZON.as_secs_f64()).then(|| Duration::from_secs_f64(seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPACITY: u64 = 28_232;

    fn history(step: Duration, used: impl IntoIterator<Item = u64>) -> History {
        let mut history = History::default();
        for (index, used) in used.into_iter().enumerate() {
            history.note(Duration::from_secs(1_000) + step * index as u32, used);
        }
        history
    }

    fn every_five_seconds(used: impl IntoIterator<Item = u64>) -> Option<Duration> {
        history(Duration::from_secs(5), used).exhausted_in(CAPACITY)
    }

    /// Numbers from 0 to 999 without a pattern.
    fn noise() -> impl Iterator<Item = u64> {
        let mut state = 7_u64;
        std::iter::repeat_with(move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % 1_000
        })
    }

    #[test]
    fn capacity_is_the_range_without_what_is_reserved_in_it() {
        let of = |range, reserved| PortRange::parse(range, reserved).map(|range| range.capacity());
        assert_eq!(of("32768\t60999\n", "\n"), Some(CAPACITY));
        assert_eq!(of("40000 40099", ""), Some(100));
        assert_eq!(of("40000 40099", "39990-40009,40050,50000-50010"), Some(89));
        assert_eq!(of("40000 40099", "1-65535"), Some(0));
        assert_eq!(of("1 65535", "65535"), Some(65_534));
        assert_eq!([of("", ""), of("1", ""), of("1 x", ""), of("1 2", "a")], [None; 4]);
    }

    #[test]
    fn a_port_is_held_unless_it_is_outside_or_reserved() {
        let range = PortRange::parse("40000 40099", "40090-40110,40050").expect("a range");
        let held = (39_900..40_200).filter(|port| range.holds(*port)).count();
        assert_eq!(held as u64, range.capacity());
        assert!(range.holds(40_000) && range.holds(40_089) && !range.holds(40_050) && !range.holds(40_099));
    }

    #[test]
    fn the_machine_s_own_range_is_read() {
        let range = PortRange::read().expect("a range");
        assert!((1..=65_535).contains(&range.capacity()), "{range:?}");
    }

    #[test]
    fn steady_use_never_runs_out_and_full_is_now() {
        assert_eq!(every_five_seconds([9_000; 8]), None);
        assert_eq!(every_five_seconds([CAPACITY; 8]), Some(Duration::ZERO));
        assert_eq!(every_five_seconds([CAPACITY + 5]), Some(Duration::ZERO), "one look is enough");
        assert_eq!(every_five_seconds([]), None);
    }

    #[test]
    fn growing_use_runs_out_when_the_line_says() {
        // 500 a second: from 12,500 at the last of six samples.
        let left = every_five_seconds((0..6).map(|index| index * 2_500)).expect("growth");
        let expected = (CAPACITY - 12_500) as f64 / 500.0;
        assert!((left.as_secs_f64() - expected).abs() < 0.001, "{left:?} is not {expected} s");
        // The samples before the last eight are forgotten: it was steady, now it grows.
        let then = std::iter::repeat_n(100, 20).chain((1..9).map(|index| 100 + index * 1_000));
        let left = every_five_seconds(then).expect("growth");
        assert!((left.as_secs_f64() - (CAPACITY - 8_100) as f64 / 200.0).abs() < 0.001, "{left:?}");
        assert_eq!(every_five_seconds([0, 2_500, 5_000]), None, "three samples are any line");
        // One port a minute has more than a day.
        assert_eq!(history(Duration::from_secs(60), 0..8).exhausted_in(CAPACITY), None);
    }

    #[test]
    fn shrinking_use_never_runs_out() {
        assert_eq!(every_five_seconds((0..8).map(|index| 20_000 - index * 1_000)), None);
    }

    #[test]
    fn noise_is_no_growth_and_hides_none() {
        let mut noise = noise();
        let false_alarms = (0..1_000)
            .filter(|_| {
                let used = noise.by_ref().take(8).map(|wobble| 9_000 + wobble);
                history(Duration::from_secs(5), used.collect::<Vec<_>>()).exhausted_in(CAPACITY).is_some()
            })
            .count();
        assert!(false_alarms <= 10, "{false_alarms} of 1000");
        let wobbling: Vec<u64> =
            (0..8).zip(noise).map(|(index, wobble)| index * 2_500 + wobble / 2).collect();
        let left = every_five_seconds(wobbling.iter().copied()).expect("growth");
        let expected = (CAPACITY - wobbling[7]) as f64 / 500.0;
        assert!((left.as_secs_f64() / expected - 1.0).abs() < 0.1, "{left:?} is not about {expected} s");
    }

    #[test]
    fn a_restart_begins_anew() {
        // The client ends, its ports come back, and another one takes as many at once and no more.
        let used = [24_000, 25_000, 26_000, 300, 300, 300, 300];
        assert_eq!(every_five_seconds(used), None, "neither the old growth nor the fall counts");
        let grows = [26_000, 300, 1_300, 2_300, 3_300];
        let left = every_five_seconds(grows).expect("growth since the restart");
        assert!((left.as_secs_f64() - (CAPACITY - 3_300) as f64 / 200.0).abs() < 0.001, "{left:?}");
    }

    #[test]
    fn the_history_is_bounded_in_number_and_age() {
        let mut history = history(Duration::from_secs(1), 0..100_000);
        assert_eq!(history.samples.len(), SAMPLES);
        let (last, used) = history.samples[SAMPLES - 1];
        history.note(last, used * 2);
        history.note(last - Duration::from_secs(9), used * 2);
        assert_eq!(history.samples[SAMPLES - 1], (last, used), "time only goes forward");
        history.note(last + AGE_MAX + Duration::from_secs(10), used);
        assert_eq!(history.samples.len(), 1);
    }
}
