//! One worker's notes about requests with an id, until they are handed over.

use super::{Correlator, Said};
use crate::ledger::{Entry, Outcome};
use crate::units::Instant;
use std::sync::Arc;

/// Room for so many is kept for the next turn.
const WORKS_KEPT: usize = 512;

/// Where work was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leg {
    /// memcached.
    Cache,
    /// CQL.
    Database,
}

/// One finished storage request with an id.
#[derive(Clone, Debug)]
pub struct Work {
    /// Whose part it is.
    pub said: Said,
    /// Where it was done.
    pub leg: Leg,
    /// The principal that said the id.
    pub service: Arc<str>,
    /// Operations asked.
    pub operations: u64,
    /// Operations that went to servers.
    pub backend_operations: u64,
    /// Values found, or rows.
    pub hits: u64,
    /// Keys not found (cache).
    pub misses: u64,
    /// Operations that joined others.
    pub coalesced: u64,
    /// Parts it was sent as.
    pub chunks: u64,
    /// Bytes of the request.
    pub bytes_in: u64,
    /// Bytes of the answer.
    pub bytes_out: u64,
    /// It was not answered as the server would.
    pub failed: bool,
    /// When it ended.
    pub at: Instant,
}

impl Work {
    /// What the ledger says of it.
    #[must_use]
    pub fn new(said: Said, leg: Leg, service: &Arc<str>, entry: &Entry) -> Work {
        Work {
            said,
            leg,
            service: service.clone(),
            operations: entry.operations,
            backend_operations: entry.backend_operations,
            hits: entry.hits,
            misses: entry.misses,
            coalesced: entry.coalesced,
            chunks: u64::from(entry.chunks),
            bytes_in: entry.bytes_in,
            bytes_out: entry.bytes_out,
            failed: entry.outcome != Outcome::Ok,
            at: entry.at,
        }
    }
}

/// One worker's notes.
#[derive(Debug, Default)]
pub struct Feed {
    correlator: Option<Arc<Correlator>>,
    works: Vec<Work>,
    dropped: u64,
}

impl Feed {
    /// Where they go from now on. Until then nothing is noted.
    pub fn share(&mut self, correlator: &Arc<Correlator>) {
        self.correlator = Some(correlator.clone());
    }

    /// Notes a finished request.
    pub fn push(&mut self, work: impl FnOnce() -> Work) {
        // They wait only while others are at the correlator.
        let Some(correlator) = &self.correlator else { return };
        if self.works.len() >= correlator.notes_max() {
            self.dropped += 1;
            return;
        }
        self.works.push(work());
    }

    /// Hands over what there is, unless somebody else is doing so. To be called once per turn.
    pub fn hand_over(&mut self) {
        if self.works.is_empty() {
            return;
        }
        if let Some(correlator) = &self.correlator
            && correlator.take_in(&mut self.works)
        {
            self.handed_over();
        }
    }

    /// Hands over what there is, and waits for that: somebody looks.
    pub fn hand_over_all(&mut self) {
        if self.works.is_empty() {
            return;
        }
        if let Some(correlator) = &self.correlator {
            correlator.take_in_waiting(&mut self.works);
            self.handed_over();
        }
    }

    fn handed_over(&mut self) {
        if self.works.capacity() > WORKS_KEPT {
            self.works = Vec::new();
        }
        let dropped = std::mem::take(&mut self.dropped);
        if let Some(correlator) = self.correlator.as_ref().filter(|_| dropped > 0) {
            correlator.drop_works(dropped);
        }
    }
}
