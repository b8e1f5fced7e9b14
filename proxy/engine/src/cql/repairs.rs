//! A statement that a node has forgotten is prepared there again by the first request, or part of a split one, that is
//! told so; the others that need it wait for that one PREPARE, and those that had been sent before it was done are sent again without one.

use super::CqlEngine;
use super::job::PartStage;
use super::node::NodeId;
use super::request::{Purpose, RequestId, Stage};
use crate::units::{Instant, LaneId};
use rustc_hash::FxHashMap;

/// Finished repairs that are remembered, to recognise requests that were sent before them; then all are forgotten, which
/// costs a PREPARE too many.
const DONE_MAX: usize = 4_096;

/// A node, and the id of a statement it has forgotten.
type Forgotten = (NodeId, Box<[u8]>);

/// Who needs a statement: a request, or a part of a split one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Needs {
    Request(RequestId),
    Part(RequestId, u32),
}

/// What to do about a statement that a node has forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repair {
    /// It was prepared since this was sent: it is sent again.
    Again,
    /// Somebody prepares it: wait.
    Joined,
    /// Prepare it.
    Lead,
}

/// Statements that are prepared again just now, and were of late.
#[derive(Debug, Default)]
pub(super) struct Repairs {
    leaders: FxHashMap<Forgotten, Needs>,
    /// By the one that sends the PREPARE: what for, and who waits.
    under_way: FxHashMap<Needs, (Forgotten, Vec<Needs>)>,
    done: FxHashMap<Forgotten, Instant>,
}

impl Repairs {
    /// What somebody is to do who sent something at `sent` and was told that the statement is forgotten.
    fn join(&mut self, forgotten: Forgotten, who: Needs, sent: Instant) -> Repair {
        if self.done.get(&forgotten).is_some_and(|done| sent < *done) {
            return Repair::Again;
        }
        if let Some(leader) = self.leaders.get(&forgotten)
            && let Some((_, joined)) = self.under_way.get_mut(leader)
        {
            joined.push(who);
            return Repair::Joined;
        }
        self.leaders.insert(forgotten.clone(), who);
        self.under_way.insert(who, (forgotten, Vec::new()));
        Repair::Lead
    }

    /// Ends the PREPARE that this one leads: who waited.
    fn end(&mut self, leader: Needs) -> Option<(Forgotten, Vec<Needs>)> {
        let (forgotten, joined) = self.under_way.remove(&leader)?;
        self.leaders.remove(&forgotten);
        Some((forgotten, joined))
    }

    pub(super) fn has_joined(&self, who: Needs) -> bool {
        self.under_way.values().any(|(_, joined)| joined.contains(&who))
    }

    pub(super) fn is_led_by(&self, who: Needs) -> bool {
        self.under_way.contains_key(&who)
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
        match self.repairs.join(forgotten, Needs::Request(id), request.sent) {
            Repair::Again => {
                request.repairs += 1;
                self.goes_again(id, now);
                true
            }
            Repair::Joined => {
                request.repairs += 1;
                request.stage = Stage::Joined;
                true
            }
            Repair::Lead => false,
        }
    }

    /// The same for a part, which is in no stage yet.
    pub(super) fn part_joins_repair(
        &mut self,
        id: RequestId,
        index: u32,
        lane: LaneId,
        statement: &[u8],
    ) -> Repair {
        let forgotten: Forgotten = (self.lanes[lane.0 as usize].info.node, statement.into());
        let job = self.requests.get_mut(id).and_then(|request| request.job.as_mut());
        let Some(part) = job.and_then(|job| job.part_mut(index)) else { return Repair::Again };
        let repair = self.repairs.join(forgotten, Needs::Part(id, index), part.sent);
        part.repairs += 1;
        if repair == Repair::Joined {
            part.stage = PartStage::Joined;
        }
        repair
    }

    /// The node knows the statement again.
    pub(super) fn repaired(&mut self, leader: Needs, now: Instant) {
        let Some((forgotten, joined)) = self.repairs.end(leader) else { return };
        if self.repairs.done.len() >= DONE_MAX {
            self.repairs.done.clear();
        }
        self.repairs.done.insert(forgotten, now);
        self.go_again(joined, now);
    }

    /// It leads no PREPARE any more, however it ended: who waited finds out for itself.
    pub(super) fn leaves_repair(&mut self, leader: Needs, now: Instant) {
        if let Some((_, joined)) = self.repairs.end(leader) {
            self.go_again(joined, now);
        }
    }

    /// Requests that waited for the PREPARE of this one, themselves or with a part, and now share its outcome.
    pub(super) fn share_repair(&mut self, leader: Needs) -> Vec<RequestId> {
        let Some((_, joined)) = self.repairs.end(leader) else { return Vec::new() };
        let (Needs::Request(leads) | Needs::Part(leads, _)) = leader;
        let mut shared = Vec::with_capacity(joined.len());
        for who in joined {
            let (Needs::Request(id) | Needs::Part(id, _)) = who;
            if id != leads && self.waits_for_repair(who) && !shared.contains(&id) {
                shared.push(id);
            }
        }
        shared
    }

    fn waits_for_repair(&self, who: Needs) -> bool {
        match who {
            Needs::Request(id) => self.requests.get(id).is_some_and(|request| request.stage == Stage::Joined),
            Needs::Part(id, index) => {
                let job = self.requests.get(id).and_then(|request| request.job.as_ref());
                job.and_then(|job| job.part(index)).is_some_and(|part| part.stage == PartStage::Joined)
            }
        }
    }

    fn go_again(&mut self, joined: Vec<Needs>, now: Instant) {
        for who in joined {
            if !self.waits_for_repair(who) {
                continue;
            }
            match who {
                Needs::Request(id) => self.goes_again(id, now),
                Needs::Part(id, index) => self.part_waits(id, index, true, now),
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
