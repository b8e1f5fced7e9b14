//! What ends: a password that is good no more, and a run of the simulation.

use super::{World, batches, hot};
use crate::node::is_own;
use weir_engine::cql::{LaneInfo, Routed};
use weir_engine::units::Span;

impl World {
    /// A node takes the credentials of some connection that is not there no more.
    pub(super) fn password_changes(&mut self) {
        let down = |lane: &usize| !self.bench.wires[*lane].up && self.bench.is_live(*lane);
        let down: Vec<usize> = (0..self.bench.wires.len()).filter(down).collect();
        if !down.is_empty() {
            let lane = self.random.pick(&down);
            self.replies[lane].clear();
            self.bench.refuse(lane);
        }
    }

    /// Everything mends; every client still there gets its answers, and nothing is left.
    pub(super) fn finish(&mut self) {
        for _ in 0..20_000 {
            if self.apps.iter().all(|app| app.waits.is_empty()) {
                break;
            }
            for lane in 0..self.bench.wires.len() {
                if !self.bench.wires[lane].up && self.bench.is_live(lane) {
                    self.bench.up(lane);
                }
            }
            for index in 0..self.apps.len() {
                let app = &mut self.apps[index];
                if self.bench.engine.client_wants_input(app.caller.id) {
                    let most = self.bench.engine.client_read_max(app.caller.id).min(app.outgoing.len());
                    let piece: Vec<u8> = app.outgoing.drain(..most).collect();
                    self.bench.engine.client_input(app.caller.id, &piece, self.bench.now);
                }
            }
            self.bench.turn();
            self.serve_driver();
            (0..20).for_each(|_| self.node_answers());
            (0..20).for_each(|_| self.lane_is_read());
            self.bench.wait(Span::millis(1));
            for index in 0..self.apps.len() {
                let waiting = self.bench.engine.client_out(self.apps[index].caller.id).len();
                self.read(index, waiting);
            }
            self.serve_driver();
            self.bench.engine.check_invariants();
        }
        for app in &self.apps {
            assert!(app.waits.is_empty(), "never answered: {:?}", app.waits);
        }
        for (row, writes) in self.bench.data.writes.iter().filter(|(row, _)| self.counted.contains(*row)) {
            assert!(*writes <= 1, "{row} was written {writes} times");
        }
        self.totals.stamped = batches::judge(&self.bench.data, &self.never);
        let counts = &self.bench.engine.cluster_counts()[0];
        (self.totals.repaired, self.totals.orphans) = (counts.repaired, counts.orphans);
        self.totals.routed = counts.routed[Routed::Replica as usize];
        self.totals.moved = counts.failovers.iter().sum();
        (self.totals.streamed, self.totals.broken) = (counts.streamed, counts.broken.min(self.totals.broken));
        self.totals.split = counts.split_ended.iter().sum();
        self.totals.whole = counts.unsplit.values().sum();
        let why = |why: &&str| why.starts_with("list_");
        self.totals.unlisted =
            counts.unsplit.iter().filter(|(cause, _)| why(cause)).map(|(_, count)| count).sum();
        let heard = self.bench.nodes.iter().flat_map(|node| &node.heard);
        self.totals.listed = heard.filter(|text| is_own(text)).count() as u64;
        self.totals.shared = hot::Shared::of(counts);
        self.totals.retries = self.bench.engine.snapshot(self.bench.now).retries;
        while !self.apps.is_empty() {
            self.close(0);
        }
        self.bench.turn();
        self.serve_driver();
        self.bench.turn(); // connections of users that are gone were cut
        self.bench.engine.check_quiet();
        // and no connection of anybody's own
        self.bench.wait(self.bench.engine.settings().clusters[0].principal_idle);
        self.serve_driver();
        self.bench.turn();
        let of_somebody = |info: &LaneInfo| info.principal.is_some();
        assert_eq!(self.bench.engine.lanes().filter(|(_, info)| of_somebody(info)).count(), 0);
        assert_eq!(self.bench.engine.cluster_counts()[0].principals, 0);
        self.bench.engine.check_quiet();
    }
}
