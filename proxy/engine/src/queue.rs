//! Who is served next when a server has room: queues form here, not in the backend's socket.
//!
//! Deficit round robin (Shreedhar & Varghese 1995) over principals, round robin over the clients of each. A turn gives a
//! principal one quantum of operations; it is served while some of it is left, and what was really spent is charged
//! afterwards, so that a turn may end in debt, which later rounds pay back. Hence two principals that both have work
//! waiting are never further apart than one quantum and one charge.
//!
//! A principal between two parts of one request has nothing queued for a moment. Its debt outlives that, its credit
//! ends with the round: a principal cannot save up. Principals without debt are forgotten, at the latest when there are
//! more than [`IDLE_PRINCIPALS`].
//!
//! Batch callers wait for interactive ones but never for ever: see [`INTERACTIVE_PER_BATCH`].

use crate::settings::CallerClass;
use crate::units::{ClientId, Instant};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::hash::Hash;

/// While both classes wait, batch gets one operation for this many interactive ones. It is counted in operations
/// because a visit is not a measure: one batch part of 128 keys after every 8 single interactive keys would leave the
/// batch callers 94 % of the server.
pub const INTERACTIVE_PER_BATCH: u64 = 8;

/// No batch visit counts as more operations than this, so that one huge reply does not shut batch out.
pub const BATCH_VISIT_MAX: u64 = 1_024;

/// Principals with nothing queued that are remembered for their debts (or, when larger, as many as have work).
pub const IDLE_PRINCIPALS: usize = 1_024;

/// An emptied list of clients that grew beyond this gives its memory back.
const CLIENTS_KEPT: usize = 64;

const CLASSES: usize = 2;

/// What may wait in a queue: a name of a client or a request.
pub trait Waiter: Copy + Eq + Hash + std::fmt::Debug {}

impl<T: Copy + Eq + Hash + std::fmt::Debug> Waiter for T {}

/// Who has the turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Popped<W = ClientId> {
    /// Who.
    pub client: W,
    /// On whose account; [`FairQueue::charge`] it.
    pub principal: u32,
    /// When it was queued.
    pub waited_since: Instant,
    /// Operations it waited with.
    pub cost: u64,
}

#[derive(Debug)]
struct Waiting<W> {
    client: W,
    since: Instant,
    cost: u64,
}

/// One principal in one class.
#[derive(Debug)]
struct Flow<W> {
    /// Operations it may still spend in `round`; negative: debt.
    deficit: i64,
    /// The last round it was given a quantum for.
    round: u64,
    /// In the order they were queued, so `since` never decreases.
    clients: VecDeque<Waiting<W>>,
}

impl<W> Flow<W> {
    fn new(round: u64, quantum: i64) -> Flow<W> {
        Flow { deficit: quantum, round, clients: VecDeque::new() }
    }

    /// Gives it the quanta of the rounds up to `round`; what exceeds one quantum is lost.
    fn settle(&mut self, round: u64, quantum: i64) {
        let missed = i64::try_from(round - self.round).unwrap_or(i64::MAX);
        self.deficit = self.deficit.saturating_add(quantum.saturating_mul(missed)).min(quantum);
        self.round = round;
    }

    /// The first round after `self.round` in which it can be served.
    fn servable_in(&self, quantum: i64) -> u64 {
        let debt = self.deficit.saturating_neg().max(0) as u64;
        self.round.saturating_add(debt / quantum as u64).saturating_add(1)
    }

    fn give_back_memory(&mut self) {
        if self.clients.is_empty() && self.clients.capacity() > CLIENTS_KEPT {
            self.clients = VecDeque::new();
        }
    }
}

#[derive(Debug)]
struct Principal<W> {
    /// By class.
    flows: [Flow<W>; CLASSES],
    /// The class it was last served in: where charges go.
    served: usize,
}

impl<W> Principal<W> {
    fn is_idle(&self) -> bool {
        self.flows.iter().all(|flow| flow.clients.is_empty())
    }
}

/// The principals of one class that have clients waiting: each is in exactly one of the two lists.
#[derive(Debug, Default)]
struct Ring {
    /// Not yet served to the end of their turn in this round.
    current: VecDeque<u32>,
    /// Done with this round.
    next: VecDeque<u32>,
    round: u64,
    /// Clients waiting.
    waiting: usize,
}

impl Ring {
    fn remove(&mut self, mut gone: impl FnMut(u32) -> bool) {
        self.current.retain(|principal| !gone(*principal));
        self.next.retain(|principal| !gone(*principal));
    }
}

/// The queue in front of one server. Everything but [`FairQueue::remove`] and [`FairQueue::expire`] takes a constant
/// number of steps on average.
#[derive(Debug)]
pub struct FairQueue<W = ClientId> {
    quantum: i64,
    principals: FxHashMap<u32, Principal<W>>,
    rings: [Ring; CLASSES],
    /// Where each waiting client is: (principal, class).
    places: FxHashMap<W, (u32, usize)>,
    /// Principals with clients waiting.
    busy: usize,
    /// Interactive operations to be served before batch is next, while both wait.
    batch_waits: u64,
    operations: u64,
    /// Not later than the oldest entry; `None` when empty.
    oldest: Option<Instant>,
}

const INTERACTIVE: usize = CallerClass::Interactive as usize;
const BATCH: usize = CallerClass::Batch as usize;

impl<W: Waiter> FairQueue<W> {
    /// An empty queue; `quantum` is what a principal may spend per round, in operations (0 counts as 1). It should be
    /// about the size of a part of a split request: smaller only costs rounds, larger makes turns longer.
    #[must_use]
    pub fn new(quantum: u64) -> FairQueue<W> {
        FairQueue {
            quantum: signed(quantum.max(1)),
            principals: FxHashMap::default(),
            rings: Default::default(),
            places: FxHashMap::default(),
            busy: 0,
            batch_waits: 0,
            operations: 0,
            oldest: None,
        }
    }

    /// Queues a client behind its principal's others. A client is in the queue at most once: the caller sees to it (a
    /// second push is ignored). `cost` is the operations it waits with, for [`FairQueue::operations`] only: what is
    /// charged is the caller's business afterwards. `now` never goes back.
    pub fn push(&mut self, principal: u32, class: CallerClass, client: W, cost: u64, now: Instant) {
        let class_index = class as usize;
        let queued = self.places.contains_key(&client);
        debug_assert!(!queued, "{client:?} is queued already");
        if queued {
            return;
        }
        self.forget_idle();
        let quantum = self.quantum;
        let rounds = [self.rings[INTERACTIVE].round, self.rings[BATCH].round];
        let entry = self.principals.entry(principal).or_insert_with(|| Principal {
            flows: rounds.map(|round| Flow::new(round, quantum)),
            served: class_index,
        });
        self.busy += usize::from(entry.is_idle());
        let ring = &mut self.rings[class_index];
        let flow = &mut entry.flows[class_index];
        if flow.clients.is_empty() {
            // who has spent this round's quantum is passed over until the next, however often it comes back
            ring.current.push_back(principal);
        }
        flow.clients.push_back(Waiting { client, since: now, cost });
        ring.waiting += 1;
        self.places.insert(client, (principal, class_index));
        self.operations = self.operations.saturating_add(cost);
        self.oldest.get_or_insert(now);
    }

    /// The next client to serve; `None` when nobody waits. Charges nothing: [`FairQueue::charge`] what it cost before
    /// the next pop.
    pub fn pop(&mut self) -> Option<Popped<W>> {
        self.forget_idle();
        let class = match (self.rings[INTERACTIVE].waiting > 0, self.rings[BATCH].waiting > 0) {
            (false, false) => return None,
            (true, false) => INTERACTIVE,
            (true, true) if self.batch_waits > 0 => INTERACTIVE,
            (false, true) => {
                // what batch took while nobody else wanted it is not held against it
                self.batch_waits = 0;
                BATCH
            }
            (true, true) => BATCH,
        };
        // Every pop counts as one operation of its class, so that one that turns out to cost nothing cannot hold up
        // the other class.
        self.charge_class(class, 1);
        self.pop_class(class)
    }

    fn pop_class(&mut self, class: usize) -> Option<Popped<W>> {
        let ring = &mut self.rings[class];
        loop {
            let Some(&principal) = ring.current.front() else {
                if ring.next.is_empty() {
                    debug_assert_eq!(ring.waiting, 0);
                    return None;
                }
                Self::next_round(ring, &self.principals, class, self.quantum);
                continue;
            };
            let Some(entry) = self.principals.get_mut(&principal) else {
                debug_assert!(false, "a principal with clients waiting is never forgotten");
                ring.current.pop_front();
                continue;
            };
            let flow = &mut entry.flows[class];
            flow.settle(ring.round, self.quantum);
            if flow.deficit <= 0 {
                ring.current.pop_front();
                ring.next.push_back(principal);
                continue;
            }
            let Some(Waiting { client, since, cost }) = flow.clients.pop_front() else {
                debug_assert!(false, "a principal without clients waiting is in no ring");
                ring.current.pop_front();
                continue;
            };
            if flow.clients.is_empty() {
                ring.current.pop_front();
            }
            flow.give_back_memory();
            entry.served = class;
            self.busy -= usize::from(entry.is_idle());
            ring.waiting -= 1;
            self.places.remove(&client);
            self.operations = self.operations.saturating_sub(cost);
            if self.places.is_empty() {
                self.oldest = None;
            }
            return Some(Popped { client, principal, waited_since: since, cost });
        }
    }

    /// Starts the next round in which somebody can be served. Rounds in which all are in debt are skipped at once: one
    /// large charge does not cost as many steps as it has quanta.
    fn next_round(ring: &mut Ring, principals: &FxHashMap<u32, Principal<W>>, class: usize, quantum: i64) {
        std::mem::swap(&mut ring.current, &mut ring.next);
        let flows = ring.current.iter().filter_map(|principal| principals.get(principal));
        let first = flows.map(|entry| entry.flows[class].servable_in(quantum)).min().unwrap_or(0);
        ring.round = first.max(ring.round + 1);
    }

    /// Takes back a pop that could not be used: the client waits again in front of its class, with the time it has
    /// waited and with `cost` operations (those it was popped with, or what is left of them). To be called before anything else is asked of the queue but [`FairQueue::push`].
    pub fn put_back(&mut self, popped: Popped<W>, cost: u64) {
        let Popped { client, principal, waited_since, .. } = popped;
        let queued = self.places.contains_key(&client);
        debug_assert!(!queued, "{client:?} is queued already");
        let Some(entry) = self.principals.get_mut(&principal).filter(|_| !queued) else {
            return;
        };
        let class = entry.served;
        self.busy += usize::from(entry.is_idle());
        let (ring, flow) = (&mut self.rings[class], &mut entry.flows[class]);
        if flow.clients.is_empty() {
            ring.current.push_front(principal);
        }
        flow.clients.push_front(Waiting { client, since: waited_since, cost });
        ring.waiting += 1;
        self.places.insert(client, (principal, class));
        self.operations = self.operations.saturating_add(cost);
        self.oldest = Some(self.oldest.map_or(waited_since, |oldest| oldest.min(waited_since)));
    }

    /// Charges a principal for what it was served, or for what only the reply revealed. Goes to the class it was last
    /// served in; a principal that was forgotten since is not charged.
    pub fn charge(&mut self, principal: u32, cost: u64) {
        let Some(entry) = self.principals.get_mut(&principal) else {
            return;
        };
        let class = entry.served;
        let flow = &mut entry.flows[class];
        flow.settle(self.rings[class].round, self.quantum);
        flow.deficit = flow.deficit.saturating_sub(signed(cost));
        self.charge_class(class, cost.saturating_sub(1)); // one was charged by the pop
    }

    fn charge_class(&mut self, class: usize, cost: u64) {
        if class == INTERACTIVE {
            self.batch_waits = self.batch_waits.saturating_sub(cost);
        } else {
            let waits = self.batch_waits.saturating_add(cost.saturating_mul(INTERACTIVE_PER_BATCH));
            self.batch_waits = waits.min(BATCH_VISIT_MAX * INTERACTIVE_PER_BATCH);
        }
    }

    /// Takes a client out (its connection closed); whether it was queued. Walks its principal's clients.
    pub fn remove(&mut self, client: W) -> bool {
        let Some((principal, class)) = self.places.remove(&client) else {
            return false;
        };
        let Some(entry) = self.principals.get_mut(&principal) else {
            return false;
        };
        let flow = &mut entry.flows[class];
        let at = flow.clients.iter().position(|waiting| waiting.client == client);
        if let Some(waiting) = at.and_then(|at| flow.clients.remove(at)) {
            self.operations = self.operations.saturating_sub(waiting.cost);
            self.rings[class].waiting -= 1;
        }
        flow.give_back_memory();
        if flow.clients.is_empty() {
            self.rings[class].remove(|listed| listed == principal);
        }
        self.busy -= usize::from(entry.is_idle());
        if self.places.is_empty() {
            self.oldest = None;
        }
        true
    }

    /// Whether this client waits.
    #[must_use]
    pub fn contains(&self, client: W) -> bool {
        self.places.contains_key(&client)
    }

    /// Clients waiting.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Operations waiting, as told by the pushes.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.operations
    }

    /// Not later than the time since when the longest waiting client waits, often exactly that; `None` when nobody
    /// waits. Pops leave it where it was, [`FairQueue::expire`] makes it exact: a timer set by it may fire early, never
    /// late.
    #[must_use]
    pub fn oldest(&self) -> Option<Instant> {
        self.oldest
    }

    /// Takes out the clients that have waited since `before` or longer ("at" is included: a timer that fires exactly on
    /// time makes progress). Walks the principals.
    pub fn expire(&mut self, before: Instant, out: &mut Vec<W>) {
        if self.oldest.is_none_or(|oldest| oldest > before) {
            return;
        }
        let FairQueue { principals, rings, places, busy, operations, .. } = self;
        let mut oldest: Option<Instant> = None;
        for (class, ring) in rings.iter_mut().enumerate() {
            let Ring { current, next, waiting, .. } = ring;
            let mut keep = |principal: &u32| {
                let Some(entry) = principals.get_mut(principal) else {
                    return false;
                };
                let flow = &mut entry.flows[class];
                while let Some(late) = flow.clients.pop_front_if(|first| first.since <= before) {
                    places.remove(&late.client);
                    *operations = operations.saturating_sub(late.cost);
                    *waiting -= 1;
                    out.push(late.client);
                }
                flow.give_back_memory();
                if let Some(first) = flow.clients.front() {
                    oldest = Some(oldest.map_or(first.since, |oldest| oldest.min(first.since)));
                    return true;
                }
                *busy -= usize::from(entry.is_idle());
                false
            };
            current.retain(&mut keep);
            next.retain(&mut keep);
        }
        self.oldest = oldest;
    }

    /// Forgets principals with nothing queued once there are too many: first those without debt (nothing is lost by
    /// that), and all when that is not enough.
    fn forget_idle(&mut self) {
        let allowed = IDLE_PRINCIPALS.max(self.busy);
        if self.principals.len() - self.busy <= allowed {
            return;
        }
        let rounds = [self.rings[INTERACTIVE].round, self.rings[BATCH].round];
        let quantum = self.quantum;
        self.principals.retain(|_, entry| {
            !entry.is_idle()
                || entry.flows.iter_mut().zip(rounds).any(|(flow, round)| {
                    flow.settle(round, quantum);
                    flow.deficit < quantum
                })
        });
        if self.principals.len() - self.busy > allowed / 2 {
            self.principals.retain(|_, entry| !entry.is_idle());
        }
        self.principals.shrink_to(2 * self.principals.len());
    }
}

/// No quantum and no single charge is larger (2^40): deficits and rounds stay far from overflowing.
const AMOUNT_MAX: i64 = 1 << 40;

fn signed(n: u64) -> i64 {
    i64::try_from(n).map_or(AMOUNT_MAX, |n| n.min(AMOUNT_MAX))
}

#[cfg(test)]
mod tests;
