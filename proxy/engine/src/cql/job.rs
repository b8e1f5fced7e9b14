//! What is known of a request that runs as parts: which were sent, which are answered, what they hold.

use super::failover::Tried;
use super::job_plan::{JobGather, JobPlan};
use super::prepared::Prepared;
use super::request::Request;
use super::split::Bounds;
use crate::settings::ClusterSettings;
use crate::units::{Instant, LaneId};
use std::collections::VecDeque;
use std::sync::Arc;

/// Where a part stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PartStage {
    /// To be sent again; or for the first time, where a later one went before it.
    Waits,
    /// To be sent again, to a node that it was not at yet (`Splits::moving` has it).
    Moves,
    /// Sent; the reply will come on this stream.
    Sent(LaneId, i16),
    /// Its statement is prepared again, on this stream.
    Repairing(LaneId, i16),
    /// Its statement is prepared again by somebody else.
    Joined,
    /// The answer is there.
    Answered,
}

#[derive(Debug)]
pub(super) struct Part {
    pub(super) stage: PartStage,
    pub(super) attempts: u8,
    /// When, the last time.
    pub(super) sent: Instant,
    /// It was sent, whatever came of it.
    pub(super) begun: bool,
    pub(super) repairs: u8,
    /// Nodes that said "not here, not now".
    pub(super) tried: Tried,
}

/// A split request under way.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) plan: JobPlan,
    /// The statement of a read.
    pub(super) prepared: Option<Arc<Prepared>>,
    /// `None` once the answer was made.
    pub(super) gather: Option<JobGather>,
    /// Up to the last one that was sent, from the one whose turn it is.
    pub(super) parts: VecDeque<Part>,
    pub(super) first: u32,
    /// Bytes of answers it is counted with.
    pub(super) gathered: usize,
    /// Keys it is counted with as waiting.
    pub(super) unsent: u64,
    pub(super) restarts: u8,
    /// Parts that were sent, and their keys; repetitions are not counted.
    pub(super) sent: u32,
    pub(super) sent_keys: u64,
    /// Since when nothing was sent yet.
    pub(super) since: Instant,
}

/// What `chunk_keys` and the like mean for one request.
pub(super) fn bounds(settings: &ClusterSettings) -> Bounds {
    let most = usize::try_from(settings.gather_bytes_max.0).unwrap_or(usize::MAX);
    let usual = Bounds::default();
    Bounds { page_bytes: usual.page_bytes.min(most), answer_bytes: usual.answer_bytes.min(most) }
}

impl Job {
    pub(super) fn new(
        plan: JobPlan,
        prepared: Option<Arc<Prepared>>,
        settings: &ClusterSettings,
        now: Instant,
    ) -> Job {
        let unsent = (0..plan.chunks()).map(|index| u64::from(plan.keys_in(index))).sum();
        Job {
            gather: Some(JobGather::new(&plan, bounds(settings))),
            plan,
            prepared,
            parts: VecDeque::new(),
            first: 0,
            gathered: 0,
            unsent,
            restarts: 0,
            sent: 0,
            sent_keys: 0,
            since: now,
        }
    }

    /// Memory of the keys.
    pub(super) fn key_bytes(&self) -> usize {
        self.plan.bytes()
    }

    pub(super) fn part(&self, index: u32) -> Option<&Part> {
        self.parts.get(index.checked_sub(self.first)? as usize)
    }

    pub(super) fn part_mut(&mut self, index: u32) -> Option<&mut Part> {
        self.parts.get_mut(index.checked_sub(self.first)? as usize)
    }

    /// A part, which is made known if it was not sent yet.
    pub(super) fn reach(&mut self, index: u32) -> Option<&mut Part> {
        let place = index.checked_sub(self.first)? as usize;
        while self.parts.len() <= place && index < self.plan.chunks() {
            self.parts.push_back(Part {
                stage: PartStage::Waits,
                attempts: 0,
                sent: Instant(0),
                begun: false,
                repairs: 0,
                tried: Tried::default(),
            });
        }
        self.parts.get_mut(place)
    }

    /// The statement with this id, where it is one of the request's.
    pub(super) fn statement(&self, id: &[u8]) -> Option<&Arc<Prepared>> {
        match &self.plan {
            JobPlan::Read(_) => self.prepared.as_ref().filter(|prepared| *prepared.id == *id),
            JobPlan::Write(write) => write.prepared.get(id),
        }
    }

    /// The parts of a batch that may be sent now; `window` is how far ahead of the first missing one.
    pub(super) fn sendable(&self, window: u32) -> impl Iterator<Item = u32> {
        let waits = self.parts.iter().enumerate().filter(|(_, part)| part.stage == PartStage::Waits);
        let fresh = self.first + self.parts.len() as u32;
        let end = self.plan.chunks().min(self.first.saturating_add(window));
        waits.map(|(place, _)| self.first + place as u32).chain(fresh..end)
    }

    /// The part to be sent next; `window` is how far ahead of the first missing one.
    pub(super) fn next(&self, window: u32) -> Option<u32> {
        let gather = self.gather.as_ref()?;
        if let Some(again) = self.parts.iter().position(|part| part.stage == PartStage::Waits) {
            return Some(self.first + again as u32);
        }
        let next = self.first + self.parts.len() as u32;
        if next >= self.plan.chunks() || next - self.first >= window {
            return None;
        }
        // no further than the page is expected to take
        let wanted = match (self.plan.page_size(), gather.limit_left()) {
            (Some(page), limit) => {
                let page = u64::from(page).saturating_sub(gather.rows());
                limit.map_or(page, |limit| limit.min(page))
            }
            (None, Some(limit)) => limit,
            (None, None) => return Some(next),
        };
        let ahead = (self.first..next).map(|part| u64::from(self.plan.keys_in(part))).sum();
        let rows = self.prepared.as_ref().map_or(0, |prepared| prepared.yields.rows_of(ahead));
        (self.parts.is_empty() || rows < wanted).then_some(next)
    }

    /// Parts that hold a stream id of a lane: which lane and id, and how many keys.
    pub(super) fn under_way(&self) -> impl Iterator<Item = (u32, LaneId, i16, u64)> {
        self.parts.iter().enumerate().filter_map(|(place, part)| match part.stage {
            PartStage::Sent(lane, stream) | PartStage::Repairing(lane, stream) => {
                let index = self.first + place as u32;
                Some((index, lane, stream, self.plan.keys_in(index).into()))
            }
            PartStage::Waits | PartStage::Moves | PartStage::Joined | PartStage::Answered => None,
        })
    }

    /// Parts that prepare their statement again.
    pub(super) fn repairing(&self) -> impl Iterator<Item = u32> {
        let repairs = |(_, part): &(usize, &Part)| matches!(part.stage, PartStage::Repairing(..));
        self.parts.iter().enumerate().filter(repairs).map(|(place, _)| self.first + place as u32)
    }

    /// Parts that wait for a node they were not at yet.
    pub(super) fn moving(&self) -> impl Iterator<Item = u32> {
        let moves = self.parts.iter().enumerate().filter(|(_, part)| part.stage == PartStage::Moves);
        moves.map(|(place, _)| self.first + place as u32)
    }

    /// Panics when a sum is wrong: its keys that wait, and bytes of answers.
    pub(super) fn check_invariants(&self) -> (u64, usize) {
        let from = self.first + self.parts.len() as u32;
        let waits = |place: &usize| matches!(self.parts[*place].stage, PartStage::Waits | PartStage::Moves);
        let again = (0..self.parts.len()).filter(waits).map(|place| self.first + place as u32);
        let unsent = (from..self.plan.chunks()).chain(again).map(|index| u64::from(self.plan.keys_in(index)));
        assert_eq!(unsent.sum::<u64>(), self.unsent, "keys that wait are counted");
        let held = self.gather.as_ref().map_or(0, JobGather::bytes);
        assert_eq!(held, self.gathered, "answers held are counted");
        assert_eq!(
            self.gather.as_ref().map(JobGather::next),
            Some(self.first),
            "parts begin with the missing one"
        );
        (self.unsent, self.gathered)
    }
}

impl Request {
    /// Bytes of the request that are held: its envelope, and once it was split its keys, or where its statements are.
    pub(super) fn held_bytes(&self) -> usize {
        self.envelope.len() + self.job.as_ref().map_or(0, |job| job.key_bytes())
    }
}
