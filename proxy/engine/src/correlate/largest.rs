//! The requests with the most storage work, remembered for longer than the others: whoever looks for one has read of it
//! minutes later.

use super::{CorrelationId, Tracked};
use crate::units::{Instant, Span};

/// Requests that are.
pub const KEPT: usize = 64;
/// For how long after they were last heard of.
pub const KEPT_LONGER: Span = Span::secs(600);

/// The largest of those that left the table.
#[derive(Debug, Default)]
pub(super) struct Largest {
    kept: Vec<Tracked>,
    /// While all are kept: nothing smaller gets in before this time.
    floor: u64,
    stale_at: Instant,
}

impl Largest {
    /// One leaves the table: it stays here if it is large enough. Two comparisons, unless it is.
    pub(super) fn offer(&mut self, gone: Tracked) {
        let (now, operations) = (gone.last_seen, gone.operations());
        if operations == 0 {
            return;
        }
        if self.kept.len() < KEPT {
            self.kept.push(gone);
        } else if operations <= self.floor && now < self.stale_at {
            return;
        } else if let Some(least) =
            // the one that is out of date, else the smallest
            self.kept.iter_mut().min_by_key(|kept| (is_fresh(kept, now), kept.operations()))
            && (!is_fresh(least, now) || least.operations() < operations)
        {
            *least = gone;
        }
        self.floor = self.kept.iter().map(Tracked::operations).min().unwrap_or(0);
        let oldest = self.kept.iter().map(|kept| kept.last_seen).min().unwrap_or(now);
        self.stale_at = oldest.after(KEPT_LONGER);
    }

    pub(super) fn find(&self, id: CorrelationId, now: Instant) -> Option<&Tracked> {
        let fresh = self.kept.iter().filter(|kept| kept.id == id && is_fresh(kept, now));
        fresh.max_by_key(|kept| kept.last_seen)
    }

    /// The largest of these and of those that are remembered, largest first.
    pub(super) fn with<'a>(&'a self, live: impl Iterator<Item = &'a Tracked>, now: Instant) -> Vec<Tracked> {
        let fresh = self.kept.iter().filter(|kept| is_fresh(kept, now));
        let mut all: Vec<&Tracked> = live.filter(|live| live.operations() > 0).chain(fresh).collect();
        if all.len() > KEPT {
            all.select_nth_unstable_by_key(KEPT, |tracked| std::cmp::Reverse(tracked.operations()));
            all.truncate(KEPT);
        }
        all.sort_by_key(|tracked| std::cmp::Reverse(tracked.operations()));
        all.into_iter().cloned().collect()
    }
}

fn is_fresh(kept: &Tracked, now: Instant) -> bool {
    now.since(kept.last_seen) < KEPT_LONGER
}
