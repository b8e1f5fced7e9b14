//! What must hold between any two calls, for tests and the simulation: sums are paired, bounds are kept, nobody is in
//! two places. Too slow for the data path.

use super::client::Client;
use super::job::Job;
use super::job::PartStage;
use super::job_plan::JobPlan;
use super::lifecycle::VERSIONS;
use super::node::{Lane, NodeId};
use super::repairs::Needs;
use super::request::{Request, RequestId, Stage};
use super::streams::Owner;
use super::{CqlEngine, LIVE_MAX};
use crate::multiplex::LaneState;

impl CqlEngine {
    /// Panics when a bound or a sum is broken.
    pub fn check_invariants(&self) {
        self.check_bytes();
        self.check_clients();
        self.check_requests();
        self.check_lanes();
        self.check_gathered();
        self.check_pools();
        for cluster in &self.clusters {
            cluster.registry.check_invariants();
            cluster.cache.check_invariants();
            cluster.tablets.check_invariants(cluster.settings.tablets_max as usize);
        }
    }

    /// Nothing is under way, so nothing may be booked, owed or kept.
    pub fn check_quiet(&self) {
        self.check_invariants();
        assert_eq!((self.reply_bytes, self.input_bytes), (0, 0), "nothing is unread or held");
        assert_eq!(self.requests.len(), 0, "no request is under way");
        for node in &self.nodes {
            assert_eq!(node.operations, 0, "{}", node.name);
            for group in VERSIONS.into_iter().filter_map(|version| node.group(version)) {
                assert_eq!((group.in_flight, group.queue.len()), (0, 0), "{}", node.name);
            }
        }
        for cluster in &self.clusters {
            let splits = &cluster.splits;
            assert_eq!((splits.jobs.len(), splits.gathered), (0, 0), "nothing is split or gathered");
            assert!(splits.queues.iter().all(crate::queue::FairQueue::is_empty), "no part waits");
        }
        self.flights.check_quiet();
        for known in &self.callers.known {
            assert_eq!((known.requests, known.queued), (0, 0), "{}", known.identity.name);
        }
        for cluster in &self.clusters {
            assert!(!cluster.registry.is_asking(), "no PREPARE is under way");
        }
        assert!(self.repairs.is_empty(), "nothing is prepared again");
        assert!(self.resume.is_empty() && self.slow.is_empty());
        assert!(!self.has_more());
    }

    fn check_bytes(&self) {
        let open = || self.clients.iter().filter(|client| client.open);
        let unread: usize = open().map(Client::unread).sum();
        assert_eq!(unread, self.reply_bytes, "unread reply bytes are counted");
        let held: usize = open().map(|client| client.input.capacity() + client.plain.capacity()).sum();
        let asked: usize = self.requests.iter().map(|(_, request)| request.held_bytes()).sum();
        assert_eq!(held + asked, self.input_bytes, "request bytes are counted");
    }

    fn check_clients(&self) {
        for (slot, client) in self.clients.iter().enumerate().filter(|(_, client)| client.behind.is_some()) {
            let id = super::client::id(slot, client);
            let to = |lane: &Lane| lane.through?.to;
            let served = self.lanes.iter().filter_map(to).filter_map(|request| self.requests.get(request));
            let replies = served.filter(|request| request.client == id).count();
            assert!(replies == 1 || self.slow.contains(&id), "one reply at a time is passed on in pieces");
        }
        let free = self.clients.iter().filter(|client| !client.open).count();
        assert_eq!(free, self.free.len(), "closed slots are free");
        let mut clients = vec![0; self.callers.known.len()];
        let mut live = 0;
        for (slot, client) in self.clients.iter().enumerate() {
            if !client.open {
                assert!(client.live.is_empty() && client.unread() == 0, "a closed slot owns nothing");
                continue;
            }
            clients[client.known as usize] += 1;
            live += client.live.len();
            assert!(client.live.len() <= LIVE_MAX, "requests of one connection are bounded");
            let mut asked = 0;
            for (place, id) in client.live.iter().enumerate() {
                let request = self.requests.get(*id).expect("a live request exists");
                assert_eq!((request.client.slot as usize, request.place as usize), (slot, place));
                assert_eq!(request.client.generation, client.generation);
                asked += request.held_bytes();
            }
            assert_eq!(asked, client.asked, "bytes of its requests are counted");
            assert!(!client.using || client.live.iter().any(|id| self.is_use(*id)), "USE is under way");
            if client.idle() {
                let kept = client.input.capacity() + client.plain.capacity();
                assert_eq!(kept, 0, "idle clients own no input");
            }
        }
        let mut held = vec![0; self.callers.known.len()];
        for (account, waiting) in self.ledger.held().iter() {
            held[waiting.known as usize] += 1;
            match waiting.closed {
                Some(_) => assert_eq!(self.ledger.held().of_gone(waiting.client), Some(account)),
                None => assert_eq!(self.client(waiting.client).and_then(|client| client.held), Some(account)),
            }
        }
        for (known, held) in self.callers.known.iter().zip(held) {
            assert_eq!(known.held, held, "held accounts of {}", known.identity.name);
        }
        assert_eq!(live, self.requests.len(), "every request is its client's");
        for (known, found) in self.callers.known.iter().zip(clients) {
            assert_eq!(known.clients as usize, found, "connections of {}", known.identity.name);
        }
    }

    fn is_use(&self, id: super::request::RequestId) -> bool {
        let request = self.requests.get(id);
        request.is_some_and(|request| matches!(request.purpose, super::request::Purpose::Use(_)))
    }

    /// A request is where its stage says, and nowhere else.
    fn check_requests(&self) {
        let mut requests = vec![0; self.callers.known.len()];
        let mut queued = vec![0; self.callers.known.len()];
        for (id, request) in self.requests.iter() {
            requests[request.known as usize] += 1;
            let waits = self.nodes.iter().flat_map(|node| node.groups.iter().flatten());
            let waits = waits.filter(|group| group.queue.contains(id)).count();
            match request.stage {
                Stage::New => panic!("{id:?} is nowhere: {request:?}"),
                Stage::Paced => {
                    let listed =
                        self.paced.iter().any(|entry| (entry.0.1, entry.0.2) == (id.slot, id.generation));
                    assert!(listed && waits == 0, "{id:?} will be looked at again");
                }
                Stage::Queued(node) => {
                    queued[request.known as usize] += request.operations;
                    let group = self.nodes[node.0 as usize].group(request.version);
                    assert!(waits == 1 && group.is_some_and(|group| group.queue.contains(id)), "{id:?}");
                }
                Stage::Sent(lane, stream) => {
                    let lane = &self.lanes[lane.0 as usize];
                    assert_eq!(waits, 0);
                    assert_eq!(lane.streams.owner(stream), Some(Owner::Request(id)), "{id:?} on {stream}");
                    assert_eq!(lane.info.version, request.version);
                }
                Stage::Split => {
                    let job = request.job.as_ref().expect("what is split has parts");
                    queued[request.known as usize] += self.check_job(id, request, job);
                    assert_eq!(waits, 0);
                }
                Stage::Following(leader) => {
                    let leads = self.flights.follows(leader, id) && self.requests.get(leader).is_some();
                    assert!(leads && waits == 0, "{id:?} waits for {leader:?}");
                }
                Stage::Joined => {
                    let joined = self.clusters.iter().any(|cluster| cluster.registry.has_joined(id));
                    let joined = joined || self.repairs.has_joined(Needs::Request(id));
                    assert!(joined && waits == 0, "{id:?} waits for a PREPARE that is under way");
                }
            }
        }
        self.flights.check_invariants();
        for leader in self.flights.leaders() {
            assert!(self.requests.get(leader).is_some(), "{leader:?} is under way");
        }
        for (index, known) in self.callers.known.iter().enumerate() {
            let counted = (known.requests as usize, known.queued);
            assert_eq!(counted, (requests[index], queued[index]), "{}", known.identity.name);
        }
    }

    /// Each part that was sent is on a bulk lane under its stream id; sums and bounds hold. Keys that wait.
    fn check_job(&self, id: RequestId, request: &Request, job: &Job) -> u64 {
        let cluster = self.clients[request.client.slot as usize].cluster;
        let splits = &self.clusters[cluster.0 as usize].splits;
        assert_eq!(splits.jobs.iter().filter(|other| **other == id).count(), 1, "{id:?} is listed once");
        for (index, lane, stream, _) in job.under_way() {
            let lane = &self.lanes[lane.0 as usize];
            assert!(lane.info.bulk, "parts go on bulk lanes");
            assert_eq!(lane.streams.owner(stream), Some(Owner::Part(id, index)), "{id:?} on {stream}");
        }
        for (index, part) in (job.first..).zip(&job.parts) {
            let who = Needs::Part(id, index);
            let joined = part.stage == PartStage::Joined;
            assert!(!joined || self.repairs.has_joined(who), "{who:?} waits for a PREPARE that is under way");
            let leads = matches!(part.stage, PartStage::Repairing(..));
            assert_eq!(leads, self.repairs.is_led_by(who), "{who:?} prepares for all who need it");
        }
        let mut moving: Vec<u32> =
            splits.moving.iter().filter(|(of, _)| *of == id).map(|(_, part)| *part).collect();
        moving.sort_unstable();
        assert_eq!(moving, job.moving().collect::<Vec<_>>(), "parts that were turned away are listed once");
        let queued = splits.queues.iter().filter(|queue| queue.contains(id)).count();
        let keeps = matches!(job.plan, JobPlan::Write(_));
        assert!(queued <= 1 && request.envelope.is_empty() != keeps);
        job.check_invariants().0
    }

    /// What is on the bulk lanes of a node is somebody's, within the budget, and nothing else is there. Keys in flight.
    fn check_parts(&self, node: usize) -> u64 {
        let state = &self.nodes[node];
        let mut keys = 0;
        for lane in state.bulk.lanes.iter().flatten().map(|lane| &self.lanes[lane.0 as usize]) {
            assert_eq!(lane.streams.requests().count(), 0, "single requests never go on a bulk lane");
            for (id, part) in lane.streams.parts() {
                let job =
                    self.requests.get(id).and_then(|request| request.job.as_ref()).expect("who waits exists");
                let found =
                    job.under_way().find(|(index, ..)| *index == part).expect("the part is under way");
                keys += found.3;
            }
        }
        assert_eq!(state.bulk.keys, keys, "keys in flight at {}", state.name);
        let id = NodeId(node as u32);
        if !state.retired {
            let max = self.parts_max(state.cluster);
            assert!(self.parts_in_flight(id) <= max, "parts in flight at {} are bounded", state.name);
        }
        keys
    }

    /// Clients are counted where they belong, and what is of one principal is on its own connections.
    fn check_pools(&self) {
        let mut clients = vec![0; self.clusters.len()];
        for client in self.clients.iter().filter(|client| client.open) {
            clients[client.cluster.0 as usize] += 1;
        }
        for (cluster, clients) in self.clusters.iter().zip(clients) {
            if let Some(pool) = &cluster.pool {
                assert_eq!(pool.clients, clients, "clients of a pool are counted");
            }
        }
        for lane in self.lanes.iter().filter(|lane| lane.state == LaneState::Up) {
            let cluster = &self.clusters[lane.info.cluster.0 as usize];
            assert_eq!((lane.info.of, &lane.info.principal), (cluster.of, &cluster.principal()));
            for (_, request) in lane.streams.requests() {
                let request = self.requests.get(request).expect("who waits exists");
                let of = self.clients[request.client.slot as usize].cluster;
                assert_eq!(of, lane.info.cluster, "a request is on its principal's connections");
            }
            for (request, _) in lane.streams.parts() {
                let request = self.requests.get(request).expect("who waits exists");
                assert_eq!(self.clients[request.client.slot as usize].cluster, lane.info.cluster);
            }
        }
    }

    fn check_gathered(&self) {
        for (index, cluster) in self.clusters.iter().enumerate() {
            let jobs = cluster.splits.jobs.iter().map(|id| {
                let request = self.requests.get(*id).expect("a job is a request under way");
                assert_eq!(self.clients[request.client.slot as usize].cluster.0 as usize, index);
                request.job.as_ref().expect("a job has parts").check_invariants().1
            });
            assert_eq!(jobs.sum::<usize>(), cluster.splits.gathered, "answers held are counted");
        }
    }

    fn check_lanes(&self) {
        let mut operations = vec![0; self.nodes.len()];
        for (id, node) in self.nodes.iter().enumerate() {
            for group in VERSIONS.into_iter().filter_map(|version| node.group(version)) {
                let mut sent = 0;
                for lane in group.lanes.iter().map(|lane| &self.lanes[lane.0 as usize]) {
                    assert_eq!(lane.info.node.0 as usize, id);
                    for (_, request) in lane.streams.requests() {
                        let request = self.requests.get(request).expect("who waits exists");
                        operations[id] += request.operations;
                        sent += 1;
                    }
                }
                assert_eq!(group.in_flight, sent, "what is in flight at {} is paired", node.name);
            }
            let keys = self.check_parts(id);
            assert_eq!(node.operations, operations[id] + keys, "operations in flight at {}", node.name);
        }
        for lane in &self.lanes {
            lane.streams.check_invariants();
            let cap = self.cluster_settings(lane.info.cluster).streams_per_connection;
            assert!(lane.streams.in_use() <= usize::from(cap), "stream ids are bounded");
            if !matches!(lane.state, LaneState::Up | LaneState::Retired) {
                assert_eq!(lane.streams.in_use(), 0, "only a connection has streams");
                assert!(lane.out.is_empty() && lane.plain_out.is_empty(), "nothing is sent to no connection");
            }
        }
    }
}
