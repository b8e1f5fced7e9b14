//! What happened in a run of the simulation, and in all of them: nothing that it is about may be missing.

use super::hot::Shared;
use super::refusals::Refused;
use std::collections::BTreeMap;

#[derive(Default, Debug)]
pub struct Totals {
    pub answered: u64,
    pub errors: BTreeMap<&'static str, u64>,
    pub repaired: u64,
    pub orphans: usize,
    pub retries: u64,
    pub lost: u64,
    pub slow: u64,
    /// Pictures of the cluster, requests to a replica, and requests that went to another node.
    pub placed: u64,
    pub routed: u64,
    pub moved: u64,
    pub streamed: u64,
    pub broken: u64,
    /// Requests that were carried out in parts, and those that went whole although they had many keys.
    pub split: u64,
    pub whole: u64,
    /// Rows of batches that were given a timestamp.
    pub stamped: u64,
    /// Parts of statements of weir's own, and requests that went whole because those could not be had.
    pub listed: u64,
    pub unlisted: u64,
    pub refused: Refused,
    pub shared: Shared,
    /// Clients with connections of their own, those there was no room for, and what was answered to those whose password
    /// has changed.
    pub own: u64,
    pub turned_away: u64,
    pub sent_away: u64,
}

/// The sums of all runs.
#[derive(Default)]
pub struct All {
    errors: BTreeMap<&'static str, u64>,
    counts: BTreeMap<&'static str, u64>,
    shared: Shared,
}

impl All {
    pub fn add(&mut self, totals: &Totals) {
        for (code, count) in &totals.errors {
            *self.errors.entry(code).or_default() += count;
        }
        for (what, count) in [
            ("answered", totals.answered),
            ("repaired", totals.repaired),
            ("retries", totals.retries),
            ("lost", totals.lost),
            ("slow", totals.slow),
            ("placed", totals.placed),
            ("to replicas", totals.routed),
            ("moved", totals.moved),
            ("streamed", totals.streamed),
            ("broken", totals.broken),
            ("split", totals.split),
            ("whole", totals.whole),
            ("stamped", totals.stamped),
            ("parts turned away", totals.refused.parts),
            ("others turned away", totals.refused.others),
            ("listed", totals.listed),
            ("unlisted", totals.unlisted),
            ("own", totals.own),
            ("turned away", totals.turned_away),
            ("sent away", totals.sent_away),
        ] {
            *self.counts.entry(what).or_default() += count;
        }
        self.shared.add(&totals.shared);
    }

    pub fn tell(&self) {
        println!("{:?}; {:?}", self.counts, self.errors);
        self.shared.tell();
    }

    /// Everything has happened.
    pub fn check(&self) {
        assert!(self.counts.values().all(|count| *count > 0), "everything happens: {:?}", self.counts);
        self.shared.check();
        assert!(self.errors.len() >= 5, "every kind of error happens: {:?}", self.errors);
    }
}
