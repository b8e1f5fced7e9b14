//! Upstream connections come and go: what was not sent waits for the next one, reads are asked again within a budget,
//! sent writes are answered "outcome unknown", and everything fails fast while there is no connection to be had.

use crate::OutBuffer;
use crate::client::Target;
use crate::engine::Engine;
use crate::error::Failure;
use crate::multiplex::{KeysWork, Lane, LaneInfo, LaneState, Owner, Pending, Work};
use crate::units::{ClientId, Instant, LaneId};
use rustc_hash::FxHashSet;
use weir_memcached::Verb;

impl Engine {
    /// Every lane that should be connected.
    pub fn lanes(&self) -> impl Iterator<Item = (LaneId, &LaneInfo)> {
        let live = self.lanes.iter().enumerate().filter(|(_, lane)| lane.state != LaneState::Retired);
        live.map(|(index, lane)| (LaneId(index as u32), &lane.info))
    }

    /// A lane was connected (and authenticated): what waited goes out. The time to answer (`request_timeout`) of what
    /// waited runs on from when it was first appended: a client does not wait longer because connections were lost.
    pub fn lane_up(&mut self, id: LaneId, now: Instant) {
        let lane = &mut self.lanes[id.0 as usize];
        if lane.state == LaneState::Retired {
            return;
        }
        lane.state = LaneState::Up;
        lane.heard = now;
        if lane.owed.iter().any(|pending| pending.forgotten) {
            // whoever asked was told that it failed: it had better not happen
            let out = std::mem::take(&mut lane.out);
            let owed: Vec<Pending> = std::mem::take(&mut lane.owed).into();
            for (pending, end) in with_ends(owed, &out) {
                if pending.forgotten {
                    self.fail_pending(id, pending, Failure::TimedOut, now);
                } else {
                    self.lanes[id.0 as usize].send_again(pending, |bytes| bytes.extend_from_slice(end));
                }
            }
        }
        self.mark_lane(id);
    }

    /// A connection was lost: unsent commands wait for the next one, reads are asked again within the retry budget,
    /// sent writes are answered "outcome unknown" and never repeated. After a [`crate::Desync`] nothing sent is asked
    /// again; a lane that left the settings has no next connection.
    pub fn lane_lost(&mut self, id: LaneId, now: Instant) {
        let lane = &mut self.lanes[id.0 as usize];
        let retired = lane.state == LaneState::Retired;
        if !retired {
            lane.state = LaneState::Connecting;
        }
        // a retired lane was cut for good
        lane.cut = retired;
        let desynced = std::mem::take(&mut lane.desynced);
        lane.input = Vec::new();
        lane.close_batch(now);
        let out = std::mem::take(&mut lane.out);
        let owed: Vec<Pending> = std::mem::take(&mut lane.owed).into();
        let written = out.written_offset();
        let sent = owed.partition_point(|pending| pending.start < written);
        let repeatable = repeatable(&owed[..sent]);
        let mut failed = Vec::new();
        for (index, (mut pending, bytes)) in with_ends(owed, &out).enumerate() {
            let unsent = index >= sent;
            if pending.forgotten {
                failed.push((pending, Failure::TimedOut)); // everybody knows; only its budget is returned
            } else if unsent && !retired {
                self.lanes[id.0 as usize].send_again(pending, |out| out.extend_from_slice(bytes));
            } else if unsent {
                failed.push((pending, Failure::NotSent));
            } else if !desynced && answered(&pending) {
                self.answered_but_for_the_end(id, pending, now);
            } else if !retired && !desynced && repeatable[index] && self.retry(id, &mut pending) {
                let mut command = Vec::new();
                if let Work::Keys(keys) = &pending.work {
                    keys.write(&mut command);
                }
                self.lanes[id.0 as usize].send_again(pending, |out| out.extend_from_slice(&command));
            } else {
                let failure = failure_of(&pending.work);
                failed.push((pending, failure));
            }
        }
        for (pending, failure) in failed {
            self.fail_pending(id, pending, failure, now);
        }
        self.mark_lane(id);
    }

    /// A connect attempt failed: what waits is answered, and so is what comes, until the lane is up again.
    pub fn lane_failed(&mut self, id: LaneId, now: Instant) {
        self.lane_down(id, false, now);
    }

    /// The same where the server was reached and signing in failed: clients are told so, since waiting does not help.
    pub fn lane_sign_in_failed(&mut self, id: LaneId, now: Instant) {
        self.lane_down(id, true, now);
    }

    fn lane_down(&mut self, id: LaneId, sign_in_failed: bool, now: Instant) {
        let lane = &mut self.lanes[id.0 as usize];
        lane.sign_in_failed = sign_in_failed;
        if lane.state != LaneState::Retired {
            lane.state = LaneState::Down;
        }
        lane.close_batch(now);
        lane.out.reset();
        let owed = std::mem::take(&mut lane.owed);
        let failure = if sign_in_failed { Failure::SignInFailed } else { Failure::NotSent };
        for pending in owed {
            self.fail_pending(id, pending, failure, now);
        }
        self.cut_if_retired(id);
    }

    /// Charges the retry budget for a read that was sent.
    fn retry(&mut self, id: LaneId, pending: &mut Pending) -> bool {
        let server = self.lanes[id.0 as usize].info.server;
        let Work::Keys(keys) = &mut pending.work else { return false };
        let first_time = !std::mem::replace(&mut keys.retried, true);
        let may = first_time && self.servers[server.0 as usize].may_retry();
        self.retries += u64::from(may);
        may
    }

    /// All values arrived and only `END` was lost: there is nothing to ask again.
    fn answered_but_for_the_end(&mut self, id: LaneId, pending: Pending, now: Instant) {
        let server = self.lanes[id.0 as usize].info.server;
        self.servers[server.0 as usize].release(pending.cost);
        if let Work::Keys(mut keys) = pending.work {
            self.keys_answered(&mut keys, None, now);
            self.recycle(keys);
        }
    }

    pub(crate) fn fail_pending(&mut self, id: LaneId, pending: Pending, failure: Failure, now: Instant) {
        if !pending.forgotten {
            self.fail_targets(id, &pending.work, failure, now);
        }
        let server = self.lanes[id.0 as usize].info.server;
        self.servers[server.0 as usize].release(pending.cost);
        if let Work::Keys(keys) = pending.work {
            self.recycle(keys);
        }
    }

    /// Tells everybody who waits for a command that it failed.
    pub(crate) fn fail_targets(&mut self, id: LaneId, work: &Work, failure: Failure, now: Instant) {
        match work {
            Work::Keys(keys) => match keys.owner {
                Owner::One(target) | Owner::Part(target, _) => self.fail_part(target, id, failure, now),
                Owner::Each => self.fail_waiters(id, keys, failure, now),
            },
            Work::Line { target, .. } | Work::Lines { target, .. } => {
                let hidden =
                    self.client_mut(target.client).and_then(|c| c.request(target.seq)).map(|a| a.hidden);
                if hidden == Some(true) {
                    self.ledger.noreply_dropped(1);
                }
                self.fail_part(*target, id, failure, now);
            }
            Work::Discard => {}
        }
    }

    fn fail_waiters(&mut self, id: LaneId, keys: &KeysWork, failure: Failure, now: Instant) {
        for index in keys.cursor..keys.len() {
            keys.each_waiter(index, |target| self.fail_part(target, id, failure, now));
        }
    }

    /// The clients of one command are answered; its slot is kept and its reply will be read over.
    pub(crate) fn time_out(&mut self, id: LaneId, index: usize, now: Instant) {
        let Some(pending) = self.lanes[id.0 as usize].owed.get_mut(index) else { return };
        if std::mem::replace(&mut pending.forgotten, true) {
            return;
        }
        let mut work = std::mem::replace(&mut pending.work, Work::Discard);
        self.fail_targets(id, &work, Failure::TimedOut, now);
        match &mut work {
            Work::Keys(keys) => {
                keys.forget_waiters();
                self.drop_merge(keys.values.len());
                keys.values = Vec::new();
                keys.spans = Vec::new();
            }
            Work::Lines { target, .. } | Work::Line { target, .. } => {
                *target = Target::nobody(target.client);
            }
            Work::Discard => {}
        }
        if let Some(pending) = self.lanes[id.0 as usize].owed.get_mut(index) {
            pending.work = work;
        }
    }
}

/// Each command with its bytes (empty when they were partly written).
fn with_ends(owed: Vec<Pending>, out: &OutBuffer) -> impl Iterator<Item = (Pending, &[u8])> {
    let ends = owed.iter().skip(1).map(|pending| pending.start).chain([out.end_offset()]);
    let bytes: Vec<&[u8]> =
        owed.iter().zip(ends).map(|(pending, end)| out.range(pending.start, end)).collect();
    owed.into_iter().zip(bytes)
}

/// Which of the commands sent may be asked again: idempotent reads of clients that sent no write after them. (A read
/// asked again after its own client's write took effect would see a value from the future.)
fn repeatable(sent: &[Pending]) -> Vec<bool> {
    let mut wrote: FxHashSet<ClientId> = FxHashSet::default();
    let mut repeatable = vec![false; sent.len()];
    for (index, pending) in sent.iter().enumerate().rev() {
        match &pending.work {
            Work::Keys(keys) if matches!(keys.verb, Verb::Get | Verb::Gets) => {
                repeatable[index] = !keys.any_client(|client| wrote.contains(&client));
            }
            Work::Keys(keys) => {
                keys.any_client(|client| {
                    wrote.insert(client);
                    false
                });
            }
            Work::Line { target, .. } => {
                wrote.insert(target.client);
            }
            Work::Lines { .. } | Work::Discard => {}
        }
    }
    repeatable
}

/// Every key was answered; the rest of the reply can only be its end.
fn answered(pending: &Pending) -> bool {
    matches!(&pending.work, Work::Keys(keys) if keys.cursor == keys.len())
}

fn failure_of(work: &Work) -> Failure {
    match work {
        Work::Keys(keys) if matches!(keys.verb, Verb::Get | Verb::Gets) => Failure::ReadLost,
        Work::Lines { .. } | Work::Line { verb: Verb::Mg | Verb::Me | Verb::Version, .. } => {
            Failure::ReadLost
        }
        // gat and gats touch
        Work::Keys(_) | Work::Line { .. } | Work::Discard => Failure::OutcomeUnknown,
    }
}

impl Lane {
    /// Appends a command that was appended to an earlier connection.
    fn send_again(&mut self, pending: Pending, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.out.end_offset();
        self.out.push_with(write);
        self.owed.push_back(Pending { start, ..pending });
    }

    /// Whether bytes may be on the wire.
    pub(crate) fn is_up(&self) -> bool {
        self.state == LaneState::Up
    }
}
