//! Limits and switches that an operator set for a while: they end by themselves, and survive reload and restart until
//! then.
//!
//! [`Desk`] is the one place where they meet the configuration: it takes a change, keeps it, and answers the settings
//! that workers are to use from now on. Time is the wall clock and always passed in.

mod desk;
pub mod entry;
mod purge;
mod store;

pub use desk::{Decision, Desk, describe};
pub use entry::{Bound, Class, Feature, LimitPatch, Mode, Override, Target, UnixTime, Who};
pub use store::{ENTRIES_MAX, Store, StoreError};

/// Longest time an override may last: 30 days. What should hold longer belongs into the file.
pub const LONGEST_SECONDS: u64 = 30 * 86_400;

/// Bytes of the reason an operator gives.
pub const WHY_MAX: usize = 500;
