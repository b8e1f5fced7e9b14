//! Monotonic time in nanoseconds since the tool started.

use std::time::{Duration, Instant};

/// Nanoseconds since the clock was started.
pub type Nanos = u64;

/// One second.
pub const SECOND: Nanos = 1_000_000_000;

/// Reads the time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// Starts at 0.
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// Now.
    pub fn now(&self) -> Nanos {
        self.origin.elapsed().as_nanos() as Nanos
    }
}

/// Seconds as given on the command line, in nanoseconds.
pub fn nanos(seconds: f64) -> Nanos {
    Duration::try_from_secs_f64(seconds).map_or(Nanos::MAX / 4, |d| d.as_nanos() as Nanos)
}
