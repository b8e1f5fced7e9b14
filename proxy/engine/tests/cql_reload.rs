//! New settings for the CQL engine while requests are under way.

use std::net::SocketAddr;
use std::sync::Arc;
use weir_cql::envelope::{HEADER_LEN, Opcode};
use weir_cql::request::{Query, Startup};
use weir_cql::response::{ErrorBody, ErrorCode};
use weir_cql::{Consistency, Dialect, StreamId, Version, own, write};
use weir_engine::caller::Identity;
use weir_engine::cql::CqlEngine;
use weir_engine::settings::{
    Address, Backend, CallerLimits, ClusterSettings, LimitMode, ListenerSettings, Settings,
};
use weir_engine::units::{ClientId, ClusterId, Instant, LaneId, ListenerId, Operations, Span};
use weir_engine::{CutCause, LaneState};

const NOW: Instant = Instant(1_000_000);

fn node(port: u16) -> Address {
    Address::Tcp { host: "10.0.0.1".into(), port }
}

/// One listener; it leads to the cluster `main`, wherever that is.
fn settings(clusters: Vec<ClusterSettings>, limits: CallerLimits) -> Arc<Settings> {
    let main = clusters.iter().position(|cluster| &*cluster.name == "main").expect("main");
    let backend = Backend::Cluster(ClusterId(main as u32));
    let listener = ListenerSettings::new("cql", node(9_042), backend);
    Arc::new(Settings { clusters, listeners: vec![listener], undeclared: limits, ..Settings::default() })
}

fn main_cluster(ports: &[u16]) -> ClusterSettings {
    ClusterSettings::new("main", ports.iter().map(|port| node(*port)).collect())
}

fn message(opcode: Opcode, stream: i16, fill: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    own::envelope(&mut out, Version::V4, StreamId(stream), opcode, fill).expect("short");
    out
}

fn query(stream: i16, text: &str) -> Vec<u8> {
    let dialect = Dialect::of(Version::V4);
    message(Opcode::Query, stream, |out| Query::write(text, Consistency::ONE, dialect, out))
}

/// RESULT Void.
fn done(stream: i16) -> Vec<u8> {
    let mut out = message(Opcode::Result, stream, |out| write::int(out, 1));
    out[0] |= 0x80;
    out
}

struct Bench {
    engine: CqlEngine,
    client: ClientId,
}

impl Bench {
    /// A client that has sent STARTUP, and its cluster's lanes connected.
    fn new(settings: Arc<Settings>) -> Bench {
        let mut engine = CqlEngine::new(settings, Arc::default(), 1, 7);
        let identity =
            Identity { listener: ListenerId(0), principal: "uid:1".into(), name: "someone".into() };
        let dialled = SocketAddr::from(([127, 0, 0, 1], 9_042));
        let client = engine.open_client(ListenerId(0), Arc::new(identity), dialled, NOW);
        let startup = message(Opcode::Startup, 0, |out| Startup::write([("CQL_VERSION", "3.0.0")], out));
        engine.client_input(client, &startup, NOW);
        assert!(engine.take_lanes_added());
        for id in engine.lanes().map(|(id, _)| id).collect::<Vec<_>>() {
            engine.lane_up(id, NOW);
        }
        engine.end_turn(NOW);
        let mut bench = Bench { engine, client };
        bench.read();
        bench
    }

    fn ask(&mut self, bytes: &[u8]) {
        self.engine.client_input(self.client, bytes, NOW);
        self.engine.end_turn(NOW);
    }

    /// What the client was answered.
    fn read(&mut self) -> Vec<u8> {
        let out = self.engine.client_out(self.client);
        let bytes = out.unwritten().to_vec();
        out.wrote(bytes.len());
        self.engine.client_wrote(self.client, bytes.len());
        bytes
    }

    /// The stream ids of what was sent on a lane.
    fn sent(&mut self, lane: LaneId) -> Vec<i16> {
        let out = self.engine.lane_out(lane);
        let bytes = out.unwritten().to_vec();
        out.wrote(bytes.len());
        let (mut at, mut streams) = (0, Vec::new());
        while let Some(header) = bytes.get(at..at + HEADER_LEN) {
            streams.push(i16::from_be_bytes([header[2], header[3]]));
            at += HEADER_LEN + u32::from_be_bytes([header[5], header[6], header[7], header[8]]) as usize;
        }
        streams
    }

    fn lanes(&self) -> Vec<(LaneId, ClusterId, Address)> {
        self.engine.lanes().map(|(id, info)| (id, info.cluster, info.address.clone())).collect()
    }

    fn cuts(&mut self) -> Vec<(LaneId, CutCause)> {
        let mut cuts = Vec::new();
        self.engine.take_cuts(&mut cuts);
        cuts
    }
}

#[test]
fn nodes_come_and_go_and_what_they_owe_is_answered() {
    let mut bench = Bench::new(settings(vec![main_cluster(&[1, 2])], CallerLimits::default()));
    let [first, second] = [LaneId(0), LaneId(1)];
    bench.ask(
        &[query(10, "SELECT v FROM k.t WHERE a = 1"), query(11, "SELECT v FROM k.t WHERE a = 2")].concat(),
    );
    let (on_first, on_second) = (bench.sent(first), bench.sent(second));
    assert_eq!((on_first.len(), on_second.len()), (1, 1), "one in turn");

    // the first goes, a third comes, and another cluster stands before this one
    let other = ClusterSettings::new("another", vec![node(9)]);
    let new = settings(vec![other, main_cluster(&[2, 3])], CallerLimits::default());
    bench.engine.apply(new, NOW);
    bench.engine.end_turn(NOW);
    let third = LaneId(2);
    let here = ClusterId(1);
    assert_eq!(bench.lanes(), [(second, here, node(2)), (third, here, node(3))]);
    assert_eq!(bench.cuts(), [], "it owes an answer");

    for stream in 12..16 {
        bench.ask(&query(stream, "SELECT v FROM k.t WHERE a = 3"));
    }
    assert_eq!(bench.sent(first), [], "it gets nothing more");
    bench.engine.lane_up(third, NOW);
    bench.engine.end_turn(NOW);
    assert_eq!(bench.sent(second).len() + bench.sent(third).len(), 4);

    bench.engine.lane_input(first, &done(on_first[0]), NOW).expect("asked for");
    assert_eq!(bench.read(), done(10));
    let later = NOW.after(Span::secs(1));
    bench.engine.on_timer(later);
    assert_eq!(bench.cuts(), [(first, CutCause::Retired)]);
    bench.engine.lane_lost(first, later);
    bench.engine.lane_input(second, &done(on_second[0]), later).expect("asked for");
    assert_eq!(bench.read(), done(11));
    let snapshot = bench.engine.snapshot(later);
    let names: Vec<&str> = snapshot.servers.iter().map(|server| &*server.name).collect();
    assert_eq!(names, ["10.0.0.1:2", "10.0.0.1:9", "10.0.0.1:3"], "the one that left is not shown");
}

#[test]
fn what_waited_for_a_node_that_goes_is_sent_to_another() {
    let mut bench = Bench::new(settings(vec![main_cluster(&[1])], CallerLimits::default()));
    bench.engine.lane_lost(LaneId(0), NOW);
    bench.ask(&query(10, "SELECT v FROM k.t WHERE a = 1"));
    bench.engine.apply(settings(vec![main_cluster(&[2])], CallerLimits::default()), NOW);
    bench.engine.end_turn(NOW);
    assert_eq!(bench.lanes(), [(LaneId(1), ClusterId(0), node(2))]);
    bench.engine.lane_up(LaneId(0), NOW); // an attempt that was under way
    bench.engine.lane_up(LaneId(1), NOW);
    bench.engine.end_turn(NOW);
    assert_eq!(bench.sent(LaneId(0)), []);
    let sent = bench.sent(LaneId(1));
    assert_eq!(sent.len(), 1);
    bench.engine.lane_input(LaneId(1), &done(sent[0]), NOW).expect("asked for");
    assert_eq!(bench.read(), done(10));
}

#[test]
fn a_cluster_that_goes_takes_its_lanes_along_and_comes_back_new() {
    let other = || ClusterSettings::new("another", vec![node(9)]);
    let both = || settings(vec![main_cluster(&[1]), other()], CallerLimits::default());
    let mut bench = Bench::new(both());
    for _ in 0..3 {
        bench.engine.apply(settings(vec![main_cluster(&[1])], CallerLimits::default()), NOW);
        assert_eq!(bench.engine.snapshot(NOW).servers.len(), 1);
        assert_eq!(bench.engine.cluster_counts().len(), 1);
        bench.engine.apply(both(), NOW);
        assert_eq!(bench.engine.snapshot(NOW).servers.len(), 2);
        assert_eq!(bench.engine.cluster_counts().len(), 2);
    }
    bench.engine.end_turn(NOW);
    let states: Vec<LaneState> =
        bench.engine.snapshot(NOW).servers.iter().flat_map(|s| s.lanes.iter().map(|l| l.state)).collect();
    assert_eq!(states, [LaneState::Up], "nobody has asked for the other one's connections");
}

#[test]
fn new_limits_hold_at_once_and_take_along_what_is_held() {
    let mut bench = Bench::new(settings(vec![main_cluster(&[1])], CallerLimits::default()));
    bench.ask(&query(10, "SELECT v FROM k.t WHERE a IN (1, 2, 3)"));
    let sent = bench.sent(LaneId(0));
    assert_eq!(sent.len(), 1);
    let two = CallerLimits {
        operations_per_request: Some(Operations(2)),
        mode: LimitMode::Refuse,
        ..CallerLimits::default()
    };
    // limits of its own: another budget
    let mut new = Settings::clone(&settings(vec![main_cluster(&[1])], CallerLimits::default()));
    new.callers.insert("someone".into(), two);
    new.operator_callers.insert("someone".into());
    bench.engine.apply(Arc::new(new), NOW);
    bench.engine.end_turn(NOW);
    assert_eq!(bench.engine.snapshot(NOW).callers[0].operations, Operations(3), "held in the new budget");
    bench.ask(&query(11, "SELECT v FROM k.t WHERE a IN (1, 2, 3)"));
    let mut refused = Vec::new();
    let text = "weir: operations_per_request limit of someone: asked 3, ceiling 2; do not retry at once";
    own::error(&mut refused, Version::V4, StreamId(11), &ErrorBody::plain(ErrorCode::INVALID, text));
    assert_eq!(String::from_utf8_lossy(&bench.read()), String::from_utf8_lossy(&refused));
    bench.engine.lane_input(LaneId(0), &done(sent[0]), NOW).expect("asked for");
    assert_eq!(bench.engine.snapshot(NOW).callers[0].operations, Operations(0));
}
