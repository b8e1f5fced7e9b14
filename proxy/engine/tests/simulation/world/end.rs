//! The end of a run: everything moves until nothing is owed, then sums and budgets must be even.

use super::World;
use crate::links::Stand;
use crate::store::Command;
use weir_engine::ledger::Outcome;
use weir_engine::units::{Bytes, Operations};

impl World {
    /// Nothing goes wrong any more: everybody must be answered, driven by nothing but events and deadlines.
    pub(super) fn finish(&mut self) {
        for link in &mut self.links {
            link.stalled_until = 0;
        }
        for app in &mut self.apps {
            app.asleep_until = 0;
        }
        let end = self.now + 60_000_000;
        while self.now < end {
            while self.everything_moves() {}
            let dialling =
                self.links.iter().filter(|link| !link.retired).filter_map(|link| match link.stand {
                    Stand::Dialling(at) => Some(at.max(self.now + 1)),
                    _ => None,
                });
            let deadline = self.engine.next_deadline().map(|at| at.0);
            let Some(next) = dialling.chain(deadline).min() else { break };
            self.now = self.now.max(next);
            self.dial(false);
            self.timers();
            self.engine.check_invariants();
        }
        for index in (0..self.apps.len()).rev() {
            let app = &mut self.apps[index];
            app.judge.judge();
            let client = || self.engine.describe_client(app.id);
            assert!(app.outgoing.is_empty(), "weir stopped reading (paused {}): {}", app.paused, client());
            assert!(app.judge.expected.is_empty(), "{:?}: {}", app.judge.expected.front(), client());
            assert!(self.engine.client_idle(app.id));
            self.close(index);
        }
        self.engine.end_turn(self.instant());
        self.engine.book_held();
        self.engine.check_quiet();
        assert_eq!(self.check_queued(), 0, "nothing waits at the end");
        self.check_budgets();
        self.check_ledger();
    }

    fn everything_moves(&mut self) -> bool {
        let mut moved = false;
        for index in 0..self.apps.len() {
            let n = self.apps[index].outgoing.len().min(64 << 10);
            moved |= n > 0 && self.read_client(index, n);
        }
        self.turn();
        for index in 0..self.links.len() {
            moved |= self.work(index, usize::MAX);
            let n = self.links[index].outbox.len();
            moved |= self.deliver(index, n);
        }
        self.turn();
        for index in 0..self.apps.len() {
            let n = self.apps[index].incoming.len();
            moved |= n > 0;
            self.app_reads(index, n);
        }
        self.turn();
        let up = || self.links.iter().filter(|link| link.stand == Stand::Up);
        let unwritten = self.apps.iter().any(|app| app.writable) || up().any(|link| link.writable);
        moved || unwritten || up().any(|link| !link.poisoned && Command::take(&link.inbox).is_some())
    }

    /// What an operator is shown to be waiting is the same by server and by caller; it is counted for the sum of all runs.
    pub(super) fn check_queued(&mut self) -> u64 {
        let snapshot = self.engine.snapshot(self.instant());
        let by_server: u64 = snapshot.servers.iter().map(|server| server.queued.0).sum();
        let by_caller: u64 = snapshot.callers.iter().map(|caller| caller.queued.0).sum();
        assert_eq!(by_server, by_caller, "operations waiting: {snapshot:#?}");
        let clients: usize = snapshot.servers.iter().map(|server| server.waiting).sum();
        assert!(by_server >= clients as u64, "whoever waits, waits with an operation");
        self.totals.seen_waiting += u64::from(by_server > clients as u64);
        by_server
    }

    fn check_budgets(&self) {
        for key in ["uid:1", "uid:2", "l0", "trusted", "app"] {
            let state = self.budgets.of(&key.into());
            let under_way = (state.operations_in_flight(), state.bytes_in_flight());
            assert_eq!(under_way, (Operations(0), Bytes(0)), "{key} gets everything back");
        }
    }

    /// Every request left one entry, and the sums are right.
    fn check_ledger(&mut self) {
        self.totals.fold(&mut self.engine);
        let snapshot = self.engine.snapshot(self.instant());
        (self.totals.retries, self.totals.desyncs) = (snapshot.retries, snapshot.desyncs);
        let totals = &self.totals;
        let entries: u64 = totals.outcomes.iter().sum();
        assert_eq!(entries, totals.requests, "one entry per request");
        if totals.complete {
            assert_eq!(entries, totals.answered, "one request per answer");
            assert_eq!(totals.ledger_keys, totals.keys_asked, "every key is counted");
            assert_eq!(totals.outcomes[Outcome::ClientGone.index()], 0, "nobody left");
        }
        if totals.complete && self.scenario.allowed.nothing() {
            let ledger = (totals.ledger_hits, totals.ledger_hits + totals.ledger_misses);
            assert_eq!(ledger, (totals.hits, totals.keys_asked), "hits and misses");
            for outcome in [Outcome::Timeout, Outcome::BackendLost] {
                assert_eq!(totals.outcomes[outcome.index()], 0, "{outcome:?}");
            }
        }
    }
}
