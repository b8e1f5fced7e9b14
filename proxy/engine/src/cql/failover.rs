//! Requests (and parts of split ones) that a node did not carry out, and that may be asked of another one: at most [`ATTEMPTS_MAX`] times in all
//! and within the retry budget, never where the first time may have done something that the second would add to.

use super::CqlEngine;
use super::job::PartStage;
use super::node::NodeId;
use super::request::{Purpose, RequestId};
use crate::units::{ClusterId, Instant, LaneId};
use weir_cql::Cursor;
use weir_cql::envelope::Header;
use weir_cql::response::{ErrorBody, ErrorCode, Prefix};

/// A request is sent at most this often in all, budget or not.
pub(super) const ATTEMPTS_MAX: u8 = 3;

/// Why a request went to another node than first chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailoverCause {
    /// The connection was lost while it waited for its answer.
    Lost,
    /// It waited for a node that cannot be reached any more.
    Down,
    /// UNAVAILABLE: the node sees too few replicas.
    Unavailable,
    /// OVERLOADED: the node sheds load.
    Overloaded,
    /// IS_BOOTSTRAPPING: the node is not ready yet.
    Bootstrapping,
}

impl FailoverCause {
    /// How many causes there are.
    pub const COUNT: usize = 5;

    /// Every cause, in the order of the counts.
    pub const ALL: [FailoverCause; FailoverCause::COUNT] = [
        FailoverCause::Lost,
        FailoverCause::Down,
        FailoverCause::Unavailable,
        FailoverCause::Overloaded,
        FailoverCause::Bootstrapping,
    ];

    /// Bounded label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            FailoverCause::Lost => "lost",
            FailoverCause::Down => "down",
            FailoverCause::Unavailable => "unavailable",
            FailoverCause::Overloaded => "overloaded",
            FailoverCause::Bootstrapping => "bootstrapping",
        }
    }

    /// The errors that say "not here, not now".
    fn of(code: ErrorCode) -> Option<FailoverCause> {
        match code {
            ErrorCode::UNAVAILABLE => Some(FailoverCause::Unavailable),
            ErrorCode::OVERLOADED => Some(FailoverCause::Overloaded),
            ErrorCode::IS_BOOTSTRAPPING => Some(FailoverCause::Bootstrapping),
            _ => None,
        }
    }
}

/// The nodes a request was sent to, the last one not included.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tried([Option<NodeId>; ATTEMPTS_MAX as usize]);

impl Tried {
    pub(super) fn note(&mut self, node: NodeId) {
        if !self.has(node)
            && let Some(free) = self.0.iter_mut().find(|place| place.is_none())
        {
            *free = Some(node);
        }
    }

    pub(super) fn has(&self, node: NodeId) -> bool {
        self.0.contains(&Some(node))
    }
}

impl CqlEngine {
    /// A node answered with an error: whether the request is on its way to another one.
    pub(super) fn fails_over(
        &mut self,
        id: RequestId,
        lane: LaneId,
        header: &Header,
        body: &[u8],
        now: Instant,
    ) -> bool {
        let Some(cause) = cause_of(header, body) else { return false };
        let info = &self.lanes[lane.0 as usize].info;
        let (cluster, node) = (info.cluster, info.node);
        let Some(request) = self.requests.get_mut(id) else { return false };
        if !request.idempotent
            || request.attempts >= ATTEMPTS_MAX
            || matches!(request.purpose, Purpose::Repair)
        {
            return false;
        }
        request.tried.note(node);
        let (tried, version) = (request.tried, request.version);
        if !self.has_other(cluster, version, &tried) || !self.within_budget(cluster, now) {
            return false;
        }
        self.clusters[cluster.0 as usize].failovers[cause as usize] += 1;
        self.route(id, now);
        true
    }

    /// A node answered a part of a split request with an error: whether the part is to go to another one.
    pub(super) fn part_fails_over(
        &mut self,
        id: RequestId,
        index: u32,
        lane: LaneId,
        header: &Header,
        body: &[u8],
        now: Instant,
    ) -> bool {
        let Some(cause) = cause_of(header, body) else { return false };
        let info = &self.lanes[lane.0 as usize].info;
        let (cluster, node) = (info.cluster, info.node);
        let Some(request) = self.requests.get_mut(id).filter(|request| request.idempotent) else {
            return false;
        };
        let (version, known) = (request.version, request.known);
        let Some(part) = request.job.as_mut().and_then(|job| job.part_mut(index)) else { return false };
        part.tried.note(node);
        let (tried, attempts) = (part.tried, part.attempts);
        if attempts >= ATTEMPTS_MAX
            || !self.has_other_bulk(cluster, version, &tried)
            || !self.within_budget(cluster, now)
        {
            return false;
        }
        self.clusters[cluster.0 as usize].failovers[cause as usize] += 1;
        let Some(job) = self.requests.get_mut(id).and_then(|request| request.job.as_mut()) else {
            return true;
        };
        let keys = u64::from(job.plan.keys_in(index));
        job.unsent += keys;
        if let Some(part) = job.part_mut(index) {
            part.stage = PartStage::Moves;
        }
        self.callers.known[known as usize].queued += keys;
        self.clusters[cluster.0 as usize].splits.moving.push_back((id, index));
        self.pump_due = true;
        true
    }

    pub(super) fn within_budget(&mut self, cluster: ClusterId, now: Instant) -> bool {
        let percent = self.cluster_settings(cluster).retry_percent;
        let cluster = &mut self.clusters[cluster.0 as usize];
        let within = cluster.budget.take(percent, now);
        if within {
            cluster.retries += 1;
        } else {
            cluster.retries_refused += 1;
        }
        within
    }

    /// A request that had to leave a node was routed again: counts it unless that was its end.
    pub(super) fn moved(&mut self, id: RequestId, cluster: ClusterId, cause: FailoverCause) {
        if self.requests.get(id).is_some() {
            self.clusters[cluster.0 as usize].failovers[cause as usize] += 1;
        }
    }
}

fn cause_of(header: &Header, body: &[u8]) -> Option<FailoverCause> {
    let prefix = Prefix::locate(header.version, header.flags, body).ok()?;
    let error = ErrorBody::read(body, &mut Cursor::within(body, prefix.message), header.version).ok()?;
    FailoverCause::of(error.code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_listed_in_the_order_of_their_counts() {
        for (index, cause) in FailoverCause::ALL.into_iter().enumerate() {
            assert_eq!(cause as usize, index);
        }
    }

    #[test]
    fn a_request_remembers_where_it_was() {
        let mut tried = Tried::default();
        for node in [4, 4, 7, 4, 9, 11] {
            tried.note(NodeId(node));
        }
        assert!([4, 7, 9].into_iter().all(|node| tried.has(NodeId(node))));
        assert!(!tried.has(NodeId(11)), "no request is sent a fourth time");
    }
}
