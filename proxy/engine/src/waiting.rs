//! Operations that wait in the queues in front of the servers, per server and per caller.
//!
//! A client is in at most one queue, and what it waits with is noted on it ([`Queued`]); the sums move only when it comes
//! or goes, so that they cost a constant number of steps. A multiget counts with all of its keys that were not passed
//! on, at the server in whose queue it stands. While it waits for its reader or for the answer to a segment it is in no
//! queue and counts nowhere: no server keeps it waiting. Neither do commands that were not read yet.

use crate::engine::Engine;
use crate::multiplex::Server;
use crate::queue::Popped;
use crate::units::{ClientId, Instant, ServerId};

/// What a client waits with in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Queued {
    /// Identity slot on whose account.
    pub(crate) known: u32,
    pub(crate) operations: u64,
}

impl Server {
    /// Operations that wait for it.
    pub(crate) fn queued(&self) -> u64 {
        self.small.operations() + self.bulk.operations()
    }
}

impl Engine {
    /// Queues a client at a server, among the small requests or the bulk.
    pub(crate) fn enqueue(
        &mut self,
        id: ClientId,
        server: ServerId,
        bulk: bool,
        operations: u64,
        now: Instant,
    ) {
        let known = &self.callers.known[self.clients[id.slot as usize].known as usize];
        let state = &mut self.servers[server.0 as usize];
        let queue = if bulk { &mut state.bulk } else { &mut state.small };
        queue.push(known.principal, known.limits.class, id, operations, now);
        self.note_queued(id, operations);
    }

    /// Takes back a turn that could not be used.
    pub(crate) fn put_back(&mut self, server: ServerId, bulk: bool, popped: Popped) {
        let client = &self.clients[popped.client.slot as usize];
        // some of a multiget's parts may have left
        let operations = client.bulk.as_ref().map_or(popped.cost, |bulk| bulk.waiting());
        let state = &mut self.servers[server.0 as usize];
        let queue = if bulk { &mut state.bulk } else { &mut state.small };
        queue.put_back(popped, operations);
        self.note_queued(popped.client, operations);
    }

    /// Takes a client out of the queue it is in, if any.
    pub(crate) fn leave_queue(&mut self, id: ClientId) {
        self.note_left(id);
        for server in &mut self.servers {
            if server.small.remove(id) || server.bulk.remove(id) {
                break;
            }
        }
    }

    /// A request bears the name its client had when it was asked: a multiget keeps it, unless its account was held until
    /// now, and one that is looked at again when its turn comes takes the new one.
    pub(crate) fn rename_queued(&mut self, id: ClientId) {
        if let Some(queued) = self.clients[id.slot as usize].queued {
            self.note_left(id);
            self.note_queued(id, queued.operations);
        }
    }

    fn note_queued(&mut self, id: ClientId, operations: u64) {
        let client = &mut self.clients[id.slot as usize];
        let seq = client.bulk.as_ref().map(|bulk| bulk.seq);
        let asked = seq.and_then(|seq| client.request(seq)).map(|asked| asked.known);
        let known = asked.unwrap_or(client.known);
        client.queued = Some(Queued { known, operations });
        self.callers.known[known as usize].queued += operations;
    }

    /// A client was taken out of its queue.
    pub(crate) fn note_left(&mut self, id: ClientId) {
        if let Some(Queued { known, operations }) = self.clients[id.slot as usize].queued.take() {
            let queued = &mut self.callers.known[known as usize].queued;
            debug_assert!(*queued >= operations, "more left than was queued");
            *queued = queued.saturating_sub(operations);
        }
    }
}
