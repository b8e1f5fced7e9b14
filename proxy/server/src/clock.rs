//! The one clock of the process. Workers read it once per loop turn and pass the time on; engine and telemetry read
//! none. All workers share the origin, so budgets that are leased over workers agree about "now".

use std::time::{Duration, SystemTime, UNIX_EPOCH};
use weir_engine::units::{Instant, Span};
use weir_telemetry::Seconds;

/// The clock does not start at zero: the engine uses an instant of 0 for "not set".
const START: Span = Span::secs(1);

/// Monotonic time since the process started, and what the wall clock said then.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: std::time::Instant,
    origin_unix_ms: u64,
}

impl Clock {
    /// Starts the clock.
    #[must_use]
    pub fn start() -> Clock {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let unix_ms = u64::try_from(unix.as_millis()).unwrap_or(u64::MAX);
        Clock { origin: std::time::Instant::now(), origin_unix_ms: unix_ms.saturating_sub(START.0 / 1_000) }
    }

    /// CLOCK_MONOTONIC, in microseconds since the origin.
    #[must_use]
    pub fn now(&self) -> Instant {
        Instant(u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX).saturating_add(START.0))
    }

    /// The same moment for the runtime's timers.
    #[must_use]
    pub fn std(&self, at: Instant) -> std::time::Instant {
        self.origin + Duration::from_micros(at.0.saturating_sub(START.0).min(u64::MAX / 4_000))
    }

    /// A moment of the system's clock in the engine's unit, rounded up.
    #[must_use]
    pub fn engine(&self, at: std::time::Instant) -> Instant {
        let nanos = at.saturating_duration_since(self.origin).as_nanos();
        Instant(u64::try_from(nanos.div_ceil(1_000)).unwrap_or(u64::MAX).saturating_add(START.0))
    }

    /// The same moment by the wall clock as it was when the process started, in milliseconds since 1970.
    #[must_use]
    pub fn unix_ms(&self, at: Instant) -> u64 {
        self.origin_unix_ms.saturating_add(at.0 / 1_000)
    }

    /// What the wall clock would have said at [`Instant`] zero, going by what it says now: microseconds since 1970.
    #[must_use]
    pub fn unix_micros_at_zero(&self) -> i64 {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        let now = i64::try_from(self.now().0).unwrap_or(i64::MAX);
        i64::try_from(unix).unwrap_or(i64::MAX).saturating_sub(now)
    }

    /// What the wall clock said when the process started, in milliseconds since 1970.
    #[must_use]
    pub fn started_unix_ms(&self) -> u64 {
        self.unix_ms(Instant(START.0))
    }

    /// What the wall clock said when [`seconds`] was 0, in seconds since 1970.
    #[must_use]
    pub fn started_unix_seconds(&self) -> u64 {
        self.origin_unix_ms / 1_000
    }
}

/// The time in telemetry's unit.
#[must_use]
pub fn seconds(at: Instant) -> Seconds {
    Seconds(at.0 / 1_000_000)
}

/// The wall clock now, in seconds since 1970 (overrides outlive the process).
#[must_use]
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_clocks_agree() {
        let clock = Clock::start();
        let now = clock.now();
        assert!(now.0 >= START.0);
        let back = clock.std(now).elapsed();
        assert!(back < Duration::from_secs(1), "{back:?}");
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
        assert!(u128::from(clock.unix_ms(now)).abs_diff(wall) < 1_000);
        assert_eq!(seconds(Instant(2_500_000)), Seconds(2));
        let again = clock.unix_micros_at_zero() + i64::try_from(clock.now().0).expect("small");
        assert!((again / 1_000).abs_diff(i64::try_from(wall).expect("small")) < 1_000);
    }
}
