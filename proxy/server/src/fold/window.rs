//! Work over time: the last whole second and the last minute, for `weir top` and its like. Plain numbers of one worker.
//!
//! Two buckets of a second (the running one and the one before) and seven of ten seconds: "the last minute" is the last
//! 60 to 70 seconds. Values are added when tallies are folded, at most [`super::INTERVAL`] late.

use weir_engine::units::Instant;

const TENS: usize = 7;

/// What was done within one bucket, or several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Requests that ended.
    pub requests: u64,
    /// Their operations.
    pub operations: u64,
    /// The largest request asked.
    pub largest: Option<Largest>,
}

/// One request by its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Largest {
    /// Operations asked.
    pub operations: u64,
    /// The method.
    pub method: &'static str,
    /// When it was counted.
    pub at: Instant,
}

impl Work {
    /// Both together.
    #[must_use]
    pub fn plus(mut self, more: &Work) -> Work {
        self.add(more);
        self
    }

    fn add(&mut self, more: &Work) {
        self.requests += more.requests;
        self.operations += more.operations;
        if more
            .largest
            .is_some_and(|largest| self.largest.is_none_or(|own| own.operations < largest.operations))
        {
            self.largest = more.largest;
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    epoch: u64,
    work: Work,
}

/// The two windows.
#[derive(Clone, Debug, Default)]
pub struct Window {
    seconds: [Bucket; 2],
    tens: [Bucket; TENS],
}

impl Window {
    /// Counts work done now.
    pub fn add(&mut self, now: Instant, work: &Work) {
        let second = now.0 / 1_000_000;
        put(&mut self.seconds, second, work);
        put(&mut self.tens, second / 10, work);
    }

    /// The last whole second.
    #[must_use]
    pub fn last_second(&self, now: Instant) -> Work {
        let last = (now.0 / 1_000_000).saturating_sub(1);
        let bucket = &self.seconds[(last % 2) as usize];
        if bucket.epoch == last { bucket.work } else { Work::default() }
    }

    /// The last 60 to 70 seconds.
    #[must_use]
    pub fn last_minute(&self, now: Instant) -> Work {
        let newest = now.0 / 10_000_000;
        let oldest = newest.saturating_sub(TENS as u64 - 1);
        let mut sum = Work::default();
        for bucket in self.tens.iter().filter(|bucket| (oldest..=newest).contains(&bucket.epoch)) {
            sum.add(&bucket.work);
        }
        sum
    }
}

fn put(buckets: &mut [Bucket], epoch: u64, work: &Work) {
    let length = buckets.len() as u64;
    let bucket = &mut buckets[(epoch % length) as usize];
    if bucket.epoch != epoch {
        *bucket = Bucket { epoch, work: Work::default() };
    }
    bucket.work.add(work);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(operations: u64) -> Work {
        let largest = Some(Largest { operations, method: "get", at: Instant(0) });
        Work { requests: 1, operations, largest }
    }

    #[test]
    fn the_last_second_is_a_whole_one() {
        let mut window = Window::default();
        let at = |tenths: u64| Instant(tenths * 100_000);
        window.add(at(100), &work(3));
        window.add(at(109), &work(5));
        assert_eq!(window.last_second(at(109)), Work::default(), "still running");
        assert_eq!(window.last_second(at(110)).operations, 8);
        assert_eq!(window.last_second(at(119)).requests, 2);
        assert_eq!(window.last_second(at(120)), Work::default());
    }

    #[test]
    fn the_last_minute_forgets() {
        let mut window = Window::default();
        let at = |second: u64| Instant(second * 1_000_000);
        for second in 0..200 {
            window.add(at(second), &work(second));
            let minute = window.last_minute(at(second));
            assert_eq!(minute.largest.map(|largest| largest.operations), Some(second));
            assert!(minute.requests <= 70 && minute.requests >= second.min(59), "{minute:?}");
        }
        assert_eq!(window.last_minute(at(400)), Work::default());
    }
}
