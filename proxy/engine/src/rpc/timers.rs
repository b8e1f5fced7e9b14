//! What happens by time: deadlines, and calls that wait in weir for longer than `queue_timeout`.

use super::RpcEngine;
use super::call::{CallId, Stage};
use super::parts::Event;
use super::refusal::{CROWDED, Refusal, Why};
use crate::error::Rejected;
use crate::ledger::Outcome;
use crate::units::Instant;

impl RpcEngine {
    /// When [`RpcEngine::on_timer`] should be called next, at the latest; `None` while no call is under way.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Ends the calls whose time is over ([`Event::Ended`]).
    pub fn on_timer(&mut self, now: Instant) {
        self.denied.expire(now);
        while let Some(&(at, id)) = self.timers.first() {
            if at > now {
                break;
            }
            self.timers.pop_first();
            self.end_late(id, now);
        }
    }

    fn end_late(&mut self, id: CallId, now: Instant) {
        let Some(call) = self.calls.get(id) else { return };
        let waits = matches!(call.stage, Stage::Queued | Stage::Split) && call.first_sent.is_none();
        let refusal = (waits && now < call.deadline).then(|| Refusal {
            why: Why::QueueTimeout,
            caller: self.callers.known[call.known as usize].identity.name.clone(),
            method: self.methods.name(call.method).clone(),
            asked: call.operations,
            ceiling: 0,
            retry_after: CROWDED,
        });
        if refusal.is_some() {
            self.ledger.rejected(call.known, Rejected::QueueTimeout, 1);
        }
        let cancel = self.parts_of(id);
        self.events.push(Event::Ended { call: id, refusal, cancel });
        self.over(id, Outcome::Timeout, 0, 0, now);
    }

    /// A call waits for its turn from now on: `queue_timeout` long at most.
    pub(super) fn time_queue(&mut self, id: CallId, now: Instant) {
        let Some(call) = self.calls.get(id) else { return };
        let until = now.after(self.services[call.service].settings.queue_timeout).min(call.deadline);
        self.time(id, until);
    }

    /// Looks at a call by itself at this time, and not before.
    pub(super) fn time(&mut self, id: CallId, at: Instant) {
        let Some(call) = self.calls.get_mut(id).filter(|call| call.stage != Stage::Over) else { return };
        if call.timer != at {
            self.timers.remove(&(call.timer, id));
            call.timer = at;
            self.timers.insert((at, id));
        }
    }
}
