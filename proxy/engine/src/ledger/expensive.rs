//! The most expensive requests of the last minutes, for `/expensive`: who, what, when and under which id.
//!
//! Bounded by [`KEPT`] per generation, whatever the traffic: a request that is not larger than the smallest kept one
//! costs one comparison.

use super::entry::{Entry, RequestId};
use super::statements::Statement;
use crate::units::ListenerId;
use std::sync::Arc;

/// Requests kept per generation, and the most that are shown.
pub const KEPT: usize = 64;

/// One expensive request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expensive {
    /// Its name in exemplars and logs.
    pub request: RequestId,
    /// The caller's full name, even where metrics say `_other`.
    pub name: Arc<str>,
    /// The door it came in by.
    pub listener: ListenerId,
    /// Its numbers; `entry.at` is when it ended.
    pub entry: Entry,
    /// What it asked, where its protocol has statements.
    pub statement: Option<Statement>,
}

/// The largest requests of this generation and the one before.
#[derive(Debug, Default)]
pub(crate) struct ExpensiveRequests {
    current: Vec<Expensive>,
    previous: Vec<Expensive>,
    /// A request must be larger than this to be kept.
    floor: Option<u64>,
}

impl ExpensiveRequests {
    pub(crate) fn offer(
        &mut self,
        entry: &Entry,
        request: RequestId,
        name: &Arc<str>,
        listener: ListenerId,
        statement: Option<&Statement>,
    ) {
        if self.floor.is_some_and(|floor| entry.operations <= floor) {
            return;
        }
        let statement = statement.cloned();
        let expensive = Expensive { request, name: name.clone(), listener, entry: *entry, statement };
        if self.current.len() < KEPT {
            self.current.push(expensive);
        } else if let Some(smallest) = self.current.iter_mut().min_by_key(|kept| kept.entry.operations) {
            *smallest = expensive;
        }
        if self.current.len() == KEPT {
            self.floor = self.current.iter().map(|kept| kept.entry.operations).min();
        }
    }

    pub(crate) fn rotate(&mut self) {
        self.previous = std::mem::take(&mut self.current);
        self.floor = None;
    }

    /// Largest first, at most [`KEPT`].
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Expensive> {
        let mut all: Vec<&Expensive> = self.current.iter().chain(&self.previous).collect();
        all.sort_by(|a, b| b.entry.operations.cmp(&a.entry.operations).then(b.entry.at.cmp(&a.entry.at)));
        all.truncate(KEPT);
        all.into_iter()
    }
}
