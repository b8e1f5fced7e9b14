//! What a run came to: compared with the ledger at its end, and shown to be worth something after all runs.

use weir_engine::Engine;
use weir_engine::ledger::Outcome;

#[derive(Debug)]
pub struct Totals {
    /// Every connection stayed until it was answered.
    pub complete: bool,
    /// Of closed connections, as the engine says.
    pub requests: u64,
    /// Of closed connections, as their programs say.
    pub answered: u64,
    pub keys_asked: u64,
    pub hits: u64,
    /// From the ledger: requests by outcome, and what retrievals were.
    pub outcomes: [u64; Outcome::COUNT],
    pub ledger_keys: u64,
    pub ledger_hits: u64,
    pub ledger_misses: u64,
    pub coalesced: u64,
    pub noreply_dropped: u64,
    pub retries: u64,
    pub desyncs: u64,
    /// Connections cut because nothing came.
    pub stalled: u64,
    /// Clients closed because they did not read.
    pub slow: u64,
    /// Steps after which multigets of several keys waited.
    pub seen_waiting: u64,
}

impl Default for Totals {
    fn default() -> Totals {
        Totals {
            complete: true,
            requests: 0,
            answered: 0,
            keys_asked: 0,
            hits: 0,
            outcomes: [0; Outcome::COUNT],
            ledger_keys: 0,
            ledger_hits: 0,
            ledger_misses: 0,
            coalesced: 0,
            noreply_dropped: 0,
            retries: 0,
            desyncs: 0,
            stalled: 0,
            slow: 0,
            seen_waiting: 0,
        }
    }
}

impl Totals {
    /// Takes over what the ledger counted since the last time.
    pub fn fold(&mut self, engine: &mut Engine) {
        engine.fold(|_, _, identity| {
            for (verb, tally) in identity.tallies() {
                for (sum, requests) in self.outcomes.iter_mut().zip(tally.requests) {
                    *sum += requests;
                }
                self.coalesced += tally.coalesced;
                if matches!(weir_memcached::Verb::ALL[verb.index()].name(), "get" | "gets" | "gat" | "gats") {
                    self.ledger_keys += tally.operations;
                    self.ledger_hits += tally.hits;
                    self.ledger_misses += tally.misses;
                }
            }
        });
        self.noreply_dropped += engine.ledger().take_noreply_dropped();
    }

    pub fn add(&mut self, other: &Totals) {
        for (sum, requests) in self.outcomes.iter_mut().zip(other.outcomes) {
            *sum += requests;
        }
        self.answered += other.answered;
        self.hits += other.hits;
        self.coalesced += other.coalesced;
        self.noreply_dropped += other.noreply_dropped;
        self.retries += other.retries;
        self.desyncs += other.desyncs;
        self.stalled += other.stalled;
        self.slow += other.slow;
        self.seen_waiting += other.seen_waiting;
    }

    /// Everything that can happen did happen, often enough to be worth the name of a test.
    pub fn check_reach(&self) {
        for outcome in Outcome::ALL {
            let requests = self.outcomes[outcome.index()];
            assert!(requests > 100, "{} ended {outcome:?}: {self:#?}", requests);
        }
        for (what, count) in [
            ("hits", self.hits),
            ("joined", self.coalesced),
            ("silently dropped", self.noreply_dropped),
            ("asked again", self.retries),
            ("wrong answers noticed", self.desyncs),
            ("stalls noticed", self.stalled),
            ("slow readers closed", self.slow),
            ("multigets seen waiting", self.seen_waiting),
        ] {
            assert!(count > 10, "{what}: {count}: {self:#?}");
        }
    }
}
