//! The one engine of the process, and the calls that wait for its word.
//!
//! Every entry point takes a microsecond or so under the mutex, and none waits. After each one the engine's events are
//! delivered: a start or an end to the call that waits for it.

use crate::clock::Clock;
use crate::fold::rpc::RpcBooks;
use crate::worker::orders::InForce;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Notify, oneshot};
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
    waiting: HashMap<CallId, oneshot::Sender<Turn>>,
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
        let state = State { engine, books, in_force, waiting: HashMap::new(), events: Vec::new() };
        Desk { state: Mutex::new(state), clock, correlator, news: Notify::new() }
    }

    /// Does something with the engine, and carries out what follows of it.
    pub(super) fn with<R>(&self, act: impl FnOnce(&mut State, Instant) -> R) -> R {
        // The engine is whole between its entry points, so a panic elsewhere does not make it unusable.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        let done = act(&mut state, now);
        state.deliver();
        done
    }
}

impl State {
    /// A call waits from now on.
    pub(super) fn wait(&mut self, call: CallId) -> oneshot::Receiver<Turn> {
        let (tell, told) = oneshot::channel();
        self.waiting.insert(call, tell);
        told
    }

    /// A call is over for the edge: whatever the engine still holds of it is given back.
    pub(super) fn forget(&mut self, call: CallId, now: Instant) {
        self.waiting.remove(&call);
        self.engine.part_over(PartId { call, index: 0 }, now);
    }

    fn deliver(&mut self) {
        self.engine.take_events(&mut self.events);
        for event in std::mem::take(&mut self.events) {
            let (call, turn) = match event {
                Event::Start(start) => (start.part.call, Turn::Start),
                // A call that does not wait has a deadline of its own in the edge, which ends it now too.
                Event::Ended { call, refusal, .. } => (call, Turn::Ended(refusal)),
            };
            if let Some(waiter) = self.waiting.remove(&call) {
                // One that is gone tells its end by itself.
                let _ = waiter.send(turn);
            }
        }
    }
}
