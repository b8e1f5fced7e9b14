//! An engine between clients and nodes that are driven by hand.

use crate::node::{Data, Node};
use crate::wire::{self, Answer, in_segments, open_segments, take_messages};
use std::collections::VecDeque;
use std::sync::Arc;
use weir_cql::envelope::Side;
use weir_cql::{SegmentDecoder, Version};
use weir_engine::admit::Budgets;
use weir_engine::caller::Identity;
use weir_engine::cql::CqlEngine;
use weir_engine::cql::credentials::Verdict;
use weir_engine::settings::{Address, Backend, ClusterSettings, ListenerSettings, Settings};
use weir_engine::units::{ClientId, ClusterId, Instant, LaneId, ListenerId, Span};

/// The address every client of the bench dialled.
pub const DIALLED: &str = "127.0.0.5:9142";

/// One cluster of nodes behind one listener, every default.
pub fn settings(nodes: usize) -> Settings {
    let node = |n: usize| Address::Tcp { host: "10.0.0.1".into(), port: 9_042 + n as u16 };
    let address = Address::Tcp { host: "127.0.0.5".into(), port: 9_142 };
    Settings {
        clusters: vec![ClusterSettings::new("main", (0..nodes).map(node).collect())],
        listeners: vec![ListenerSettings::new("l", address, Backend::Cluster(ClusterId(0)))],
        ..Settings::default()
    }
}

/// One client's side of a connection.
pub struct Caller {
    pub id: ClientId,
    pub version: Version,
    /// After STARTUP in v5: how segments are compressed, and their reader.
    pub segments: Option<(bool, SegmentDecoder)>,
    raw: Vec<u8>,
    plain: Vec<u8>,
}

impl Caller {
    /// The bytes of envelopes as this connection sends them.
    pub fn framed(&self, envelopes: &[u8]) -> Vec<u8> {
        match &self.segments {
            Some((compressed, _)) => in_segments(envelopes, *compressed),
            None => envelopes.to_vec(),
        }
    }

    /// Takes bytes the engine wrote; whole messages come back.
    pub fn take(&mut self, bytes: &[u8]) -> Vec<Answer> {
        self.raw.extend_from_slice(bytes);
        match &mut self.segments {
            Some((_, segments)) => {
                open_segments(segments, &mut self.raw, &mut self.plain);
                take_messages(&mut self.plain, Side::Server)
            }
            None => take_messages(&mut self.raw, Side::Server),
        }
    }
}

/// The node's side of one lane.
#[derive(Default)]
pub struct Wire {
    pub up: bool,
    /// While it is up: which node it leads to, and in which version.
    to: Option<(usize, Version)>,
    /// The engine was told that nothing is left of it.
    gone: bool,
    raw: Vec<u8>,
    plain: Vec<u8>,
    segments: Option<SegmentDecoder>,
    /// Requests that arrived and were not answered.
    pub asked: VecDeque<Answer>,
}

pub struct Bench {
    pub engine: CqlEngine,
    pub now: Instant,
    pub nodes: Vec<Node>,
    pub data: Data,
    pub wires: Vec<Wire>,
    /// Lanes made from now on are connected at once.
    pub connect: bool,
}

impl Bench {
    pub fn new(settings: Settings) -> Bench {
        Bench::sharing(settings, &Arc::default(), 1)
    }

    pub fn sharing(settings: Settings, budgets: &Arc<Budgets>, workers: u32) -> Bench {
        let nodes = settings.clusters[0].contacts.len();
        let mut data = Data::default();
        data.keyspaces.extend(["shop", "My Ks", "system", "it's"].map(str::to_owned));
        Bench {
            engine: CqlEngine::new(Arc::new(settings), budgets.clone(), workers, 7),
            now: Instant(1_000_000),
            nodes: (0..nodes).map(|_| Node::default()).collect(),
            data,
            wires: Vec::new(),
            connect: true,
        }
    }

    /// A connection that has said nothing yet.
    pub fn dial(&mut self, principal: &str, version: Version) -> Caller {
        let identity =
            Identity { listener: ListenerId(0), principal: principal.into(), name: principal.into() };
        let dialled = DIALLED.parse().expect("an address");
        let id = self.engine.open_client(ListenerId(0), Arc::new(identity), dialled, self.now);
        Caller { id, version, segments: None, raw: Vec::new(), plain: Vec::new() }
    }

    /// A connection that is ready.
    pub fn open(&mut self, version: Version) -> Caller {
        self.open_as("caller", version, &[])
    }

    pub fn open_as(&mut self, principal: &str, version: Version, more: &[(&str, &str)]) -> Caller {
        let mut caller = self.dial(principal, version);
        let options = [&[("CQL_VERSION", "3.0.0")], more].concat();
        self.send(&caller, &wire::startup(version, 0, &options));
        let answers = self.answers(&mut caller);
        assert_eq!(answers.len(), 1, "{answers:?}");
        assert_eq!(answers[0].read(), weir_cql::Response::Ready);
        if version >= Version::V5 {
            let compressed = more.iter().any(|(name, _)| *name == "COMPRESSION");
            caller.segments = Some((compressed, SegmentDecoder::new(compressed, weir_cql::BODY_MAX)));
        }
        caller
    }

    /// A connection that has shown these credentials, which the cluster took; the answer to them.
    pub fn sign_in(
        &mut self,
        user: &str,
        password: &str,
        version: Version,
        more: &[(&str, &str)],
    ) -> (Caller, Answer) {
        let mut caller = self.dial("door", version);
        self.send(&caller, &wire::startup(version, 0, &[&[("CQL_VERSION", "3.0.0")], more].concat()));
        let asked = self.answers(&mut caller);
        assert!(matches!(asked[0].read(), weir_cql::Response::Authenticate(_)), "{asked:?}");
        if version >= Version::V5 {
            let compressed = more.iter().any(|(name, _)| *name == "COMPRESSION");
            caller.segments = Some((compressed, SegmentDecoder::new(compressed, weir_cql::BODY_MAX)));
        }
        let mut body = Vec::new();
        weir_cql::request::AuthResponse::write(Some(format!("\0{user}\0{password}").as_bytes()), &mut body);
        self.send(&caller, &wire::message(version, 1, weir_cql::Opcode::AuthResponse, &body));
        self.engine.signed_in(caller.id, &Verdict::Good, self.now);
        let mut answers = self.answers(&mut caller);
        assert_eq!(answers.len(), 1, "{answers:?}");
        (caller, answers.remove(0))
    }

    /// The same, where there is room for the user.
    pub fn open_own(&mut self, user: &str, version: Version) -> Caller {
        let (caller, answer) = self.sign_in(user, "secret", version, &[]);
        assert!(matches!(answer.read(), weir_cql::Response::AuthSuccess(_)), "{}", answer.describe());
        caller
    }

    pub fn send(&mut self, caller: &Caller, envelopes: &[u8]) {
        let bytes = caller.framed(envelopes);
        self.engine.client_input(caller.id, &bytes, self.now);
        self.engine.check_invariants();
    }

    pub fn query(&mut self, caller: &Caller, stream: i16, text: &str) {
        self.send(caller, &wire::query(caller.version, stream, text, &wire::With::default()));
    }

    /// Ends turns until nothing moves; lanes write everything.
    pub fn turn(&mut self) {
        loop {
            self.engine.end_turn(self.now);
            self.engine.check_invariants();
            if !self.engine.has_more() {
                break;
            }
        }
        let live: Vec<usize> = self.engine.lanes().map(|(id, _)| id.0 as usize).collect();
        for lane in live.iter().copied() {
            // lanes that went before anybody saw them leave a gap
            let new = lane >= self.wires.len();
            if new {
                self.wires.resize_with(lane + 1, Wire::default);
            }
            if (std::mem::take(&mut self.wires[lane].gone) || new) && self.connect {
                self.up(lane);
            }
        }
        for (lane, wire) in self.wires.iter_mut().enumerate() {
            if !wire.up && !wire.gone && !live.contains(&lane) {
                wire.gone = true;
                self.engine.lane_gone(LaneId(lane as u32));
            }
        }
        for lane in 0..self.wires.len() {
            self.lane_writes(lane);
        }
    }

    fn lane_writes(&mut self, lane: usize) {
        let out = self.engine.lane_out(LaneId(lane as u32));
        let wire = &mut self.wires[lane];
        if !wire.up {
            return;
        }
        wire.raw.extend_from_slice(out.unwritten());
        let written = out.len();
        out.wrote(written);
        let found = match &mut wire.segments {
            Some(segments) => {
                open_segments(segments, &mut wire.raw, &mut wire.plain);
                take_messages(&mut wire.plain, Side::Client)
            }
            None => take_messages(&mut wire.raw, Side::Client),
        };
        wire.asked.extend(found);
    }

    pub fn info(&self, lane: usize) -> (usize, Version) {
        if let Some(to) = self.wires[lane].to {
            return to;
        }
        let (_, info) = self.engine.lanes().find(|(id, _)| id.0 as usize == lane).expect("a lane");
        (info.node.0 as usize, info.version)
    }

    /// The lane is connected.
    pub fn up(&mut self, lane: usize) {
        let (node, version) = self.info(lane);
        if self.nodes.len() <= node {
            self.nodes.resize_with(node + 1, Node::default);
        }
        let segments = (version >= Version::V5).then(|| SegmentDecoder::new(false, weir_cql::BODY_MAX));
        self.wires[lane] = Wire { up: true, to: Some((node, version)), segments, ..Wire::default() };
        self.engine.lane_up(LaneId(lane as u32), self.now);
        self.engine.end_turn(self.now);
        self.lane_writes(lane);
    }

    pub fn lose(&mut self, lane: usize) {
        self.wires[lane] = Wire::default();
        self.engine.lane_lost(LaneId(lane as u32), self.now);
        self.engine.check_invariants();
    }

    pub fn fail(&mut self, lane: usize) {
        self.wires[lane] = Wire::default();
        self.engine.lane_failed(LaneId(lane as u32), self.now);
        self.engine.check_invariants();
    }

    /// The node's answer to the request at this place of a lane, not sent yet.
    pub fn reply_to(&mut self, lane: usize, place: usize) -> Vec<u8> {
        let request = self.wires[lane].asked.remove(place).expect("a request");
        let (node, _) = self.info(lane);
        self.nodes[node].answer(&request, &mut self.data)
    }

    /// The node did not take the credentials that the lane was to be opened with.
    pub fn refuse(&mut self, lane: usize) {
        self.wires[lane] = Wire::default();
        self.engine.lane_sign_in_failed(LaneId(lane as u32), self.now);
        self.engine.check_invariants();
    }

    /// Bytes a lane delivers.
    pub fn deliver(&mut self, lane: usize, envelopes: &[u8]) {
        let bytes = match self.wires[lane].segments {
            Some(_) => in_segments(envelopes, false),
            None => envelopes.to_vec(),
        };
        self.engine.lane_input(LaneId(lane as u32), &bytes, self.now).expect("an honest answer");
        self.engine.check_invariants();
    }

    /// Answers the request at this place of a lane.
    pub fn answer(&mut self, lane: usize, place: usize) {
        let reply = self.reply_to(lane, place);
        self.deliver(lane, &reply);
    }

    /// Serves everything until nothing moves.
    pub fn settle(&mut self) {
        self.turn();
        while let Some(lane) = (0..self.wires.len()).find(|lane| !self.wires[*lane].asked.is_empty()) {
            self.answer(lane, 0);
            self.turn();
        }
    }

    /// What a client can read now.
    pub fn answers(&mut self, caller: &mut Caller) -> Vec<Answer> {
        self.turn();
        let out = self.engine.client_out(caller.id);
        let bytes = out.unwritten().to_vec();
        out.wrote(bytes.len());
        self.engine.client_wrote(caller.id, bytes.len());
        self.engine.check_invariants();
        caller.take(&bytes)
    }

    /// Serves everything; the only answer the client then has.
    pub fn one(&mut self, caller: &mut Caller) -> Answer {
        self.settle();
        let mut answers = self.answers(caller);
        assert_eq!(answers.len(), 1, "{answers:?}");
        answers.remove(0)
    }

    /// Asks and serves; the answer.
    pub fn ask(&mut self, caller: &mut Caller, message: &[u8]) -> Answer {
        self.send(caller, message);
        self.one(caller)
    }

    pub fn ask_text(&mut self, caller: &mut Caller, text: &str) -> Answer {
        let message = wire::query(caller.version, 5, text, &wire::With::default());
        self.ask(caller, &message)
    }

    pub fn use_keyspace(&mut self, caller: &mut Caller, keyspace: &str) {
        let answer = self.ask_text(caller, &format!("USE {keyspace}"));
        assert!(answer.code().is_none(), "{}", answer.describe());
    }

    pub fn prepare(&mut self, caller: &mut Caller, text: &str) -> Vec<u8> {
        let message = wire::prepare(caller.version, 9, text);
        self.ask(caller, &message).prepared()
    }

    pub fn wait(&mut self, span: Span) {
        self.now = self.now.after(span);
        self.engine.on_timer(self.now);
        self.turn();
    }

    /// Whether the engine wants this lane connected.
    pub fn is_live(&self, lane: usize) -> bool {
        self.engine.lanes().any(|(id, _)| id.0 as usize == lane)
    }

    /// Cuts what the engine wants cut.
    pub fn cut(&mut self) {
        let mut cuts = Vec::new();
        self.engine.take_cuts(&mut cuts);
        cuts.iter().for_each(|(lane, _)| self.lose(lane.0 as usize));
        self.turn();
    }

    /// Requests that wait for an answer, over all lanes.
    pub fn asked(&self) -> usize {
        self.wires.iter().map(|wire| wire.asked.len()).sum()
    }

    /// Operations booked in the ledger for each method, and requests by outcome.
    pub fn tallied(&mut self, method: weir_engine::cql::Method) -> (u64, u64) {
        let mut sum = (0, 0);
        self.engine.fold(|_, _, tally| {
            for (found, tally) in tally.tallies() {
                if found == method.into() {
                    sum.0 += tally.requests.iter().sum::<u64>();
                    sum.1 += tally.operations;
                }
            }
        });
        sum
    }
}
