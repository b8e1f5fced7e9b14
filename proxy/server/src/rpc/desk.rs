//! The one engine of the process, and the calls that wait for its word.
//!
//! Every entry point takes a microsecond or so under the mutex, and none waits. After each one the engine's events are
//! delivered: a start or an end to the call that waits for it, orders to the call that goes in parts.

use super::answers;
use super::askers::Askers;
use crate::clock::Clock;
use crate::fold::rpc::RpcBooks;
use crate::worker::orders::InForce;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Notify, mpsc, oneshot};
use weir_edge::Order;
use weir_engine::correlate::Correlator;
use weir_engine::rpc::{self, CallId, Event, PartId, RpcEngine};
use weir_engine::units::Instant;

/// What a call that waits is told.
#[derive(Debug)]
pub(super) enum Turn {
    /// It is its turn.
    Start,
    /// It is over; nothing said: its deadline has passed.
    Ended(Option<rpc::Refusal>),
}

/// The engine with what belongs to it.
pub(super) struct State {
    pub(super) engine: RpcEngine,
    pub(super) books: RpcBooks,
    pub(super) in_force: InForce,
    /// Callers as they are under what is in force.
    pub(super) askers: Askers,
    waiting: HashMap<CallId, oneshot::Sender<Turn>>,
    splits: HashMap<CallId, mpsc::Sender<Order>>,
    events: Vec<Event>,
}

/// Where calls are decided.
pub(super) struct Desk {
    state: Mutex<State>,
    pub(super) clock: Clock,
    pub(super) correlator: Arc<Correlator>,
    /// Something happened that is to be folded soon.
    pub(super) news: Notify,
}

impl Desk {
    pub(super) fn new(
        engine: RpcEngine,
        books: RpcBooks,
        in_force: InForce,
        clock: Clock,
        correlator: Arc<Correlator>,
    ) -> Desk {
        let (waiting, splits, events) = (HashMap::new(), HashMap::new(), Vec::new());
        let askers = Askers::default();
        let state = State { engine, books, in_force, askers, waiting, splits, events };
        Desk { state: Mutex::new(state), clock, correlator, news: Notify::new() }
    }

    /// Does something with the engine, and carries out what follows of it.
    pub(super) fn with<R>(&self, act: impl FnOnce(&mut State, Instant) -> R) -> R {
        // The engine is whole between its entry points, so a panic elsewhere does not make it unusable.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        let done = act(&mut state, now);
        state.deliver(now);
        done
    }
}

impl State {
    /// Something else is in force from now on.
    pub(super) fn put_into_force(&mut self, in_force: InForce) {
        self.askers.forget();
        self.in_force = in_force;
    }

    /// A call waits from now on.
    pub(super) fn wait(&mut self, call: CallId) -> oneshot::Receiver<Turn> {
        let (tell, told) = oneshot::channel();
        self.waiting.insert(call, tell);
        told
    }

    /// A call goes in so many parts from now on.
    pub(super) fn split(&mut self, call: CallId, chunks: u32) -> mpsc::Receiver<Order> {
        // Each part is started once, and the call ended once: no order is ever without room.
        let (tell, told) = mpsc::channel((chunks as usize).saturating_add(1));
        self.splits.insert(call, tell);
        told
    }

    /// Nobody carries out orders of this call any more.
    pub(super) fn unsplit(&mut self, call: CallId) {
        self.splits.remove(&call);
    }

    /// A call is over for the edge: whatever the engine still holds of it is given back.
    pub(super) fn forget(&mut self, call: CallId, now: Instant) {
        // Mostly nobody waits and nothing is in parts: no look-up then.
        if !self.waiting.is_empty() {
            self.waiting.remove(&call);
        }
        if !self.splits.is_empty() {
            self.splits.remove(&call);
        }
        self.engine.part_over(PartId { call, index: 0 }, now);
    }

    fn deliver(&mut self, now: Instant) {
        loop {
            self.engine.take_events(&mut self.events);
            if self.events.is_empty() {
                return;
            }
            let mut events = std::mem::take(&mut self.events);
            events.drain(..).for_each(|event| self.tell(event, now));
            self.events = events;
        }
    }

    fn tell(&mut self, event: Event, now: Instant) {
        let (call, turn) = match event {
            Event::Start(start) if self.waiting.contains_key(&start.part.call) => {
                (start.part.call, Turn::Start)
            }
            Event::Start(start) => {
                let order = Order::Send(start.part.index);
                let to = self.splits.get(&start.part.call);
                if to.is_none_or(|to| to.try_send(order).is_err()) {
                    // The edge has let go of the call and not told its end yet: nothing more of it is started.
                    self.engine.part_failed(start.part, now);
                }
                return;
            }
            Event::Ended { call, refusal, .. } => match self.splits.remove(&call) {
                Some(to) => {
                    let refusal = refusal.as_ref().map_or_else(answers::late, answers::refusal);
                    // One that is gone tells its end by itself.
                    let _ = to.try_send(Order::End(refusal));
                    return;
                }
                // A call that does not wait has a deadline of its own in the edge, which ends it now too.
                None => (call, Turn::Ended(refusal)),
            },
        };
        if let Some(waiter) = self.waiting.remove(&call) {
            // One that is gone tells its end by itself.
            let _ = waiter.send(turn);
        }
    }
}
