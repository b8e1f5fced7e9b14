//! How often requests may be sent again, all together: a share of the requests, and a few at once after a quiet time. A
//! service that fails half of everything gets 10 % more work by the default, not twice as much.

use crate::settings::UpstreamSettings;
use std::sync::atomic::{AtomicU64, Ordering};

/// A thousand is one repetition.
#[derive(Debug)]
pub(super) struct Budget {
    now: AtomicU64,
    per_request: u64,
    most: u64,
}

/// One repetition.
const ONE: u64 = 1_000;

impl Budget {
    pub(super) fn new(settings: &UpstreamSettings) -> Budget {
        let most = u64::from(settings.retry_burst) * ONE;
        Budget { now: AtomicU64::new(most), per_request: u64::from(settings.retry_permille), most }
    }

    /// A request came.
    pub(super) fn earn(&self) {
        let earned = |now: u64| Some((now + self.per_request).min(self.most));
        // It never fails: the function always has an answer.
        let _ = self.now.fetch_update(Ordering::Relaxed, Ordering::Relaxed, earned);
    }

    /// One is to be sent again.
    pub(super) fn spend(&self) -> bool {
        self.now.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| now.checked_sub(ONE)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetitions_are_a_share_of_the_requests() {
        let settings =
            UpstreamSettings { retry_permille: 100, retry_burst: 3, ..UpstreamSettings::http2(Vec::new()) };
        let budget = Budget::new(&settings);
        assert_eq!((0..10).filter(|_| budget.spend()).count(), 3, "the burst");
        let mut spent = 0;
        for _ in 0..1_000 {
            budget.earn();
            spent += usize::from(budget.spend());
        }
        assert_eq!(spent, 100, "a tenth");
    }
}
