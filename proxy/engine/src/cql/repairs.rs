//! A statement that a node has forgotten is prepared there again by the first request that is told so; the others that
//! need it wait for that one PREPARE, and those that had been sent before it was done are sent again without one.

use super::CqlEngine;
use super::node::NodeId;
use super::request::{Purpose, RequestId, Stage};
use crate::units::{Instant, LaneId};
use rustc_hash::FxHashMap;

/// Finished repairs that are remembered, to recognise requests that were sent before them; then all are forgotten, which
/// costs a PREPARE too many.
const DONE_MAX: usize = 4_096;

/// A node, and the id of a statement it has forgotten.
type Forgotten = (NodeId, Box<[u8]>);

/// Statements that are prepared again just now, and were of late.
#[derive(Debug, Default)]
pub(super) struct Repairs {
    leaders: FxHashMap<Forgotten, RequestId>,
    /// By the request that sends the PREPARE: what for, and who waits.
    under_way: FxHashMap<RequestId, (Forgotten, Vec<RequestId>)>,
    done: FxHashMap<Forgotten, Instant>,
}

impl Repairs {
    /// Ends the PREPARE that this request leads: who waited.
    fn end(&mut self, leader: RequestId) -> Option<(Forgotten, Vec<RequestId>)> {
        let (forgotten, joined) = self.under_way.remove(&leader)?;
        self.leaders.remove(&forgotten);
        Some((forgotten, joined))
    }

    pub(super) fn has_joined(&self, id: RequestId) -> bool {
        self.under_way.values().any(|(_, joined)| joined.contains(&id))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.under_way.is_empty() && self.leaders.is_empty()
    }
}

impl CqlEngine {
    /// The node has forgotten a statement of this request: whether that is taken care of; if not, it prepares it.
    pub(super) fn joins_repair(
        &mut self,
        id: RequestId,
        lane: LaneId,
        statement: &[u8],
        now: Instant,
    ) -> bool {
        let forgotten: Forgotten = (self.lanes[lane.0 as usize].info.node, statement.into());
        let Some(request) = self.requests.get_mut(id) else { return true };
        if self.repairs.done.get(&forgotten).is_some_and(|done| request.sent < *done) {
            request.repairs += 1;
            self.goes_again(id, now);
            return true;
        }
        if let Some(leader) = self.repairs.leaders.get(&forgotten)
            && let Some((_, joined)) = self.repairs.under_way.get_mut(leader)
        {
            request.repairs += 1;
            request.stage = Stage::Joined;
            joined.push(id);
            return true;
        }
        self.repairs.leaders.insert(forgotten.clone(), id);
        self.repairs.under_way.insert(id, (forgotten, Vec::new()));
        false
    }

    /// The node knows the statement again.
    pub(super) fn repaired(&mut self, leader: RequestId, now: Instant) {
        let Some((forgotten, joined)) = self.repairs.end(leader) else { return };
        if self.repairs.done.len() >= DONE_MAX {
            self.repairs.done.clear();
        }
        self.repairs.done.insert(forgotten, now);
        self.go_again(joined, now);
    }

    /// The request leads no PREPARE any more, however it ended: who waited finds out for itself.
    pub(super) fn leaves_repair(&mut self, leader: RequestId, now: Instant) {
        if let Some((_, joined)) = self.repairs.end(leader) {
            self.go_again(joined, now);
        }
    }

    /// Who waited for the PREPARE of this request, and now shares its outcome.
    pub(super) fn share_repair(&mut self, leader: RequestId) -> Vec<RequestId> {
        self.repairs.end(leader).map(|(_, joined)| joined).unwrap_or_default()
    }

    fn go_again(&mut self, joined: Vec<RequestId>, now: Instant) {
        for id in joined {
            if self.requests.get(id).is_some_and(|request| request.stage == Stage::Joined) {
                self.goes_again(id, now);
            }
        }
    }

    /// What was not carried out waits for its turn once more.
    fn goes_again(&mut self, id: RequestId, now: Instant) {
        let Some(request) = self.requests.get_mut(id) else { return };
        request.stage = Stage::New;
        request.purpose = Purpose::Forward;
        request.attempts = request.attempts.saturating_sub(1);
        self.route(id, now);
    }
}
