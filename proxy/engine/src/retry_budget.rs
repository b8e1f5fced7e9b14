//! How often requests may be sent once more: a share of what was sent lately, so that a backend in trouble is not asked
//! twice for everything, and so that a good past does not pay for a bad present.

use crate::units::{Instant, Span};

/// The window over which requests and retries are counted.
pub(crate) const WINDOW: Span = Span::secs(10);
/// Parts of the window; the oldest leaves at once.
const SLOTS: usize = 10;
/// Retries within the window that are allowed whatever the share.
pub(crate) const RETRIES_FREE: u64 = 10;

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    requests: u64,
    retries: u64,
}

/// Requests and retries of the last [`WINDOW`].
#[derive(Debug, Default)]
pub(crate) struct RetryBudget {
    slots: [Slot; SLOTS],
    sum: Slot,
    /// The slot in use, counted from the beginning of time.
    at: u64,
}

impl RetryBudget {
    /// A request was sent.
    pub(crate) fn asked(&mut self, now: Instant) {
        self.turn(now);
        self.slots[self.at as usize % SLOTS].requests += 1;
        self.sum.requests += 1;
    }

    /// Whether one may be sent again; charges it. `percent` of the requests, and [`RETRIES_FREE`].
    pub(crate) fn take(&mut self, percent: u32, now: Instant) -> bool {
        self.turn(now);
        let most = RETRIES_FREE + self.sum.requests.saturating_mul(percent.into()) / 100;
        if self.sum.retries >= most {
            return false;
        }
        self.slots[self.at as usize % SLOTS].retries += 1;
        self.sum.retries += 1;
        true
    }

    fn turn(&mut self, now: Instant) {
        let at = now.0 / (WINDOW.0 / SLOTS as u64);
        // time does not go back; a gap of a window or more empties every slot once
        let steps = at.saturating_sub(self.at).min(SLOTS as u64);
        self.at = self.at.max(at);
        for step in 0..steps {
            let slot = &mut self.slots[(self.at - step) as usize % SLOTS];
            let Slot { requests, retries } = std::mem::take(slot);
            self.sum.requests -= requests;
            self.sum.retries -= retries;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(budget: &mut RetryBudget, percent: u32, now: Instant) -> u64 {
        (0..10_000).take_while(|_| budget.take(percent, now)).count() as u64
    }

    #[test]
    fn a_share_of_the_window_and_some_for_free() {
        let mut budget = RetryBudget::default();
        let start = Instant(5_000_000);
        assert_eq!(taken(&mut budget, 10, start), RETRIES_FREE);
        (0..1_000).for_each(|_| budget.asked(start));
        assert_eq!(taken(&mut budget, 10, start), 100);
        assert_eq!(taken(&mut budget, 0, start), 0);
        // half a window on everything still counts, a whole one on nothing does
        assert_eq!(taken(&mut budget, 10, start.after(Span::secs(5))), 0);
        assert_eq!(taken(&mut budget, 10, start.after(Span::secs(10))), RETRIES_FREE);
    }

    #[test]
    fn slots_leave_one_after_the_other() {
        let mut budget = RetryBudget::default();
        for second in 0..10 {
            (0..100).for_each(|_| budget.asked(Instant(0).after(Span::secs(second))));
        }
        assert_eq!(budget.sum.requests, 1_000);
        for second in 10..20 {
            budget.turn(Instant(0).after(Span::secs(second)));
            assert_eq!(budget.sum.requests, 1_000 - 100 * (second - 9));
        }
        budget.turn(Instant(u64::MAX));
        assert_eq!((budget.sum.requests, budget.sum.retries), (0, 0));
        budget.turn(Instant(3)); // a clock that went back harms nothing
        budget.asked(Instant(3));
        assert_eq!(budget.sum.requests, 1);
    }
}
