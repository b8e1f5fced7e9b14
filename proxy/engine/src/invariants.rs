//! What must hold between any two calls, for tests and the simulation: sums are paired, bounds are kept, nobody is in
//! two places, idle connections own no memory. Too slow for the data path.

use crate::client::{Client, Hold, PIPELINE_MAX};
use crate::engine::Engine;
use crate::ledger::held::HELD_MAX;
use crate::multiplex::{Cost, LaneState, Work};
use crate::units::ClientId;

/// Answers of an idle connection may keep room for this many requests.
const ASKED_KEPT: usize = 8;

impl Engine {
    /// Panics when a bound or a sum is broken.
    pub fn check_invariants(&self) {
        self.check_bytes();
        self.check_servers();
        let mut requests = vec![0; self.callers.known.len()];
        let mut clients = vec![0; self.callers.known.len()];
        for (slot, client) in self.clients.iter().enumerate().filter(|(_, client)| client.open) {
            let id = ClientId { slot: slot as u32, generation: client.generation };
            self.check_client(id, client);
            clients[client.known as usize] += 1;
            for asked in client.asked.iter().filter(|asked| !asked.done) {
                requests[asked.known as usize] += 1;
            }
        }
        self.check_queued();
        let mut held = vec![0; self.callers.known.len()];
        for (account, waiting) in self.ledger.held().iter() {
            held[waiting.known as usize] += 1;
            match waiting.closed {
                Some(_) => assert_eq!(self.ledger.held().of_gone(waiting.client), Some(account)),
                None => assert_eq!(self.client(waiting.client).and_then(|client| client.held), Some(account)),
            }
        }
        assert!(self.ledger.held().len() <= HELD_MAX, "held accounts are bounded");
        for (index, known) in self.callers.known.iter().enumerate() {
            let counted = (known.clients as usize, known.requests as usize, known.held as usize);
            assert_eq!(counted, (clients[index], requests[index], held[index]), "users of identity {index}");
        }
        let free = self.clients.iter().filter(|client| !client.open).count();
        assert_eq!(free, self.free.len(), "closed slots are free");
        assert!(self.open_batches.is_empty() || !self.lanes.is_empty());
    }

    /// Nothing is under way, so nothing may be booked, owed or kept.
    pub fn check_quiet(&self) {
        self.check_invariants();
        assert_eq!((self.reply_bytes, self.input_bytes), (0, 0), "nothing is unread or held");
        for server in &self.servers {
            assert_eq!(server.in_flight, Cost::default(), "{}", server.name);
            assert!(server.small.is_empty() && server.bulk.is_empty(), "{}", server.name);
            assert_eq!(server.queued(), 0, "{}", server.name);
        }
        for lane in &self.lanes {
            assert!(lane.owed.is_empty() && lane.batch.is_none() && lane.input.is_empty());
        }
        for known in &self.callers.known {
            assert_eq!((known.requests, known.queued), (0, 0), "{}", known.identity.name);
        }
        assert!(self.paced.is_empty() && self.resume.is_empty() && self.slow.is_empty());
        assert!(!self.has_more());
    }

    /// How one connection stands, for the message of a failed test.
    #[must_use]
    pub fn describe_client(&self, id: ClientId) -> String {
        let Some(client) = self.client(id) else { return "gone".to_string() };
        let Client { hold, stale, doomed, bulk, closing, eof, resuming, .. } = client;
        let (input, out, asked) = (client.input.len(), client.out.len(), client.asked.len());
        let (first, barrier, front) = (client.first_seq, client.barrier, client.asked.front());
        format!(
            "{hold:?}, {input} bytes in, {out} out, {asked} asked from {first}, barrier {barrier}, stale {stale:?}, \
             doomed {doomed:?}, bulk {bulk:?}, closing {closing:?}, eof {eof}, resuming {resuming}, front {front:?}"
        )
    }

    fn check_bytes(&self) {
        let open = || self.clients.iter().filter(|client| client.open);
        let held = |client: &Client| client.asked.iter().map(|asked| asked.reply.len()).sum::<usize>();
        let merged = |client: &Client| {
            let merges = client.asked.iter().filter_map(|asked| asked.merge.as_ref());
            merges.map(|merge| merge.size()).sum::<usize>()
        };
        let mut waiting: usize = open().map(merged).sum();
        for pending in self.lanes.iter().flat_map(|lane| &lane.owed) {
            if let Work::Keys(keys) = &pending.work {
                waiting += keys.values.len();
            }
        }
        assert_eq!(waiting, self.merge_bytes, "parts of answers are counted");
        let unread: usize = waiting + open().map(|client| client.out.len() + held(client)).sum::<usize>();
        assert_eq!(unread, self.reply_bytes, "unread reply bytes are counted");
        for client in open() {
            assert_eq!(held(client), client.held_reply, "replies held for order are counted");
        }
        let bulk = |client: &Client| client.bulk.as_ref().map_or(0, |bulk| bulk.size());
        let input: usize = open().map(|client| client.input.capacity() + bulk(client)).sum();
        assert_eq!(input, self.input_bytes, "memory of held input are counted");
    }

    /// Operations waiting are the same counted by client, by server and by caller.
    fn check_queued(&self) {
        let mut by_server = vec![0; self.servers.len()];
        let mut by_caller = vec![0; self.callers.known.len()];
        for client in self.clients.iter().filter(|client| client.open) {
            let Some(queued) = client.queued else {
                assert!(!matches!(client.hold, Some(Hold::Queued(_) | Hold::Bulk(_))), "{client:?}");
                continue;
            };
            let Some(Hold::Queued(server) | Hold::Bulk(server)) = client.hold else {
                panic!("counted but not queued: {client:?}")
            };
            if let Some(bulk) = &client.bulk {
                assert_eq!(queued.operations, bulk.waiting(), "keys not passed on");
            }
            by_server[server.0 as usize] += queued.operations;
            by_caller[queued.known as usize] += queued.operations;
        }
        for (server, queued) in self.servers.iter().zip(by_server) {
            assert_eq!(server.queued(), queued, "operations waiting for {}", server.name);
        }
        for (known, queued) in self.callers.known.iter().zip(by_caller) {
            assert_eq!(known.queued, queued, "operations of {} that wait", known.identity.name);
        }
    }

    fn check_servers(&self) {
        let gone = self.servers.iter().filter(|server| server.retired && server.lanes.is_empty());
        assert_eq!(gone.count(), self.free_servers.len(), "places of servers without lanes are free");
        for id in &self.free_lanes {
            let lane = &self.lanes[id.0 as usize];
            assert!(lane.state == LaneState::Retired && lane.owed.is_empty(), "{id:?} is free");
            assert!(!self.servers.iter().any(|server| server.lanes.contains(id)), "{id:?} is nobody's");
        }
        for (index, server) in self.servers.iter().enumerate() {
            let mut sum = Cost::default();
            for lane in self.lanes.iter().filter(|lane| lane.info.server.0 as usize == index) {
                let batch = lane.batch.iter().map(|batch| batch.cost);
                for cost in lane.owed.iter().map(|pending| pending.cost).chain(batch) {
                    sum.operations += cost.operations;
                    sum.bytes += cost.bytes;
                    sum.bulk += cost.bulk;
                }
                let mut end = lane.out.end_offset();
                for pending in lane.owed.iter().rev() {
                    assert!(pending.start < end, "commands are not empty and in order");
                    end = pending.start;
                }
                assert!(lane.out.is_empty() || !lane.owed.is_empty(), "only what is owed is written");
                assert!(lane.state != LaneState::Down || lane.owed.is_empty(), "down is answered at once");
            }
            assert_eq!(sum, server.in_flight, "what is in flight at {} is paired", server.name);
        }
    }

    fn check_client(&self, id: ClientId, client: &Client) {
        assert!(client.asked.len() <= PIPELINE_MAX, "pipeline bound");
        assert!(!client.asked.front().is_some_and(|asked| asked.done), "finished answers leave");
        assert!(client.turn.is_none(), "a turn ends");
        let queued: usize = self
            .servers
            .iter()
            .map(|s| usize::from(s.small.contains(id)) + usize::from(s.bulk.contains(id)))
            .sum();
        match client.hold {
            Some(Hold::Queued(server)) => {
                assert!(self.servers[server.0 as usize].small.contains(id), "{:?}", client.hold);
                assert!(client.bulk.is_none() && queued == 1);
                assert!(!client.input.is_empty() || client.stale.is_some(), "somebody waits for something");
            }
            Some(Hold::Bulk(server)) => {
                let server = &self.servers[server.0 as usize];
                assert!(server.small.contains(id) || server.bulk.contains(id), "{:?}", client.hold);
                assert!(client.bulk.is_some() && queued == 1);
            }
            Some(Hold::Segment | Hold::Unread | Hold::Moved) => {
                assert!(client.bulk.is_some() && queued == 0, "{:?}", client.hold);
            }
            Some(Hold::Paced) => {
                let listed =
                    self.paced.iter().any(|entry| entry.0.1 == id.slot && entry.0.2 == id.generation);
                assert!(listed && queued == 0);
            }
            None => assert!(queued == 0 && client.bulk.is_none(), "{client:?}"),
        }
        if client.idle() {
            assert_eq!((client.input.capacity(), client.held_reply), (0, 0), "idle clients own no input");
            assert!(client.asked.capacity() <= ASKED_KEPT);
        }
        if client.out.is_empty() && !client.dirty {
            assert_eq!(client.out.capacity(), 0, "drained clients own no output");
        }
    }
}
