//! What was counted.

use super::{COUNTS_MAX, ScanPlan};

/// Elements counted so far, by path of the plan.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    slots: [u64; COUNTS_MAX],
    len: usize,
}

impl Counts {
    /// As many zeros as `plan` has paths.
    pub const fn zero(plan: &ScanPlan) -> Self {
        Self { slots: [0; COUNTS_MAX], len: plan.len() }
    }

    pub(crate) const fn with_len(len: usize) -> Self {
        Self { slots: [0; COUNTS_MAX], len: if len < COUNTS_MAX { len } else { COUNTS_MAX } }
    }

    /// One number per path.
    pub fn by_path(&self) -> &[u64] {
        self.slots.get(..self.len).unwrap_or_default()
    }

    /// All elements together: what a request asks for.
    pub fn total(&self) -> u64 {
        self.by_path().iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The largest count: rows of a reply whose arrays stand side by side.
    pub fn largest(&self) -> u64 {
        self.by_path().iter().copied().max().unwrap_or(0)
    }

    #[inline]
    pub(crate) fn add(&mut self, slot: usize, elements: u64) {
        if let Some(count) = self.slots.get_mut(slot) {
            *count = count.saturating_add(elements);
        }
    }

    /// Adds the counts of another message of the same plan.
    pub fn merge(&mut self, other: &Self) {
        for (slot, count) in other.by_path().iter().enumerate() {
            self.add(slot, *count);
        }
    }
}
