//! Seeded simulation: an engine between random clients and nodes that answer late, forget statements, turn requests away and vanish. Every
//! request is answered exactly once, with its own data or a legal error; a write that is not idempotent is carried out
//! at most once, exactly once where the client was told so, and never where it was told that nothing was sent; a row that is
//! read is never older than a write that a client was told of before, nor another principal's (`hot`); bounds and sums
//! hold after every step.
//!
//! A failing seed is printed; `WEIR_SEED=<n> cargo test -p weir-engine --test cql simulation` replays it, and
//! `WEIR_SEED=<from>..<to>` runs many others.

mod batches;
mod errors;
mod finish;
mod hot;
#[path = "../simulation/random.rs"]
mod random;
mod refusals;
mod scenario;
mod seeds;
mod totals;

use crate::bench::{Bench, Caller};
use crate::node::{REAL, row_value, statement_id};
use crate::placed::{Map, node, sharded};
use crate::wire::{self, Answer, Part, With, in_segments, int, list};
use random::Random;
use scenario::{COUNT, MANY, SET, many, markers, read_text, scenario};
use std::collections::{BTreeMap, BTreeSet};
use totals::Totals;
use weir_cql::response::{ErrorCode, ResultBody};
use weir_cql::{Opcode, Response, Version};
use weir_engine::cql::PlacedNode;
use weir_engine::settings::ClientSignIn;
use weir_engine::units::{ClusterId, LaneId, Span};

const SEEDS: u64 = 96;
const STEPS: usize = 1_500;
/// Texts that clients prepare.
const READS: usize = 6;
/// Of each there is one row, without an address of a node.
const SHOWN: [&str; 2] =
    ["SELECT * FROM system.local", "SELECT * FROM system.peers WHERE peer = '127.0.0.6'"];

/// What a client waits for.
#[derive(Clone, Debug)]
enum Expect {
    /// The row of this key of a qualified table.
    Row(String),
    /// The rows of these keys of a table where some are missing, up to a limit: carried out in parts or not.
    Many(Vec<i32>),
    /// One page of them at least, from the first on.
    Page(Vec<i32>, usize),
    /// The row of this key in the keyspace chosen by the first so many `USE`s.
    RowUnderUse(i32, usize),
    /// A write of this key: not idempotent.
    Count(String),
    /// A write that may happen twice.
    Set(String),
    /// A batch of such writes: carried out in parts or not.
    SetAll(Vec<String>),
    /// A row that others read and write too: at least so many writes are in it.
    HotRow(hot::Row),
    HotWrite(i32),
    Prepared(Vec<u8>),
    Use(&'static str),
    Local,
    Supported,
}

struct App {
    caller: Caller,
    principal: usize,
    waits: BTreeMap<i16, Expect>,
    /// `USE`s in the order sent: whether each was answered, and the keyspace where it was carried out.
    uses: Vec<Option<Option<&'static str>>>,
    /// Where each pending `USE` stands in `uses`.
    use_places: BTreeMap<i16, usize>,
    /// Sent, not yet read by weir.
    outgoing: Vec<u8>,
    next_stream: i16,
}

struct World {
    seed: u64,
    random: Random,
    bench: Bench,
    apps: Vec<App>,
    /// Replies on their way from each lane.
    replies: Vec<Vec<u8>>,
    next_key: i32,
    /// Of the requests at the nodes, how many percent are turned away.
    refusals: usize,
    /// Writes whose client was told that they were carried out, and that they were not.
    done: BTreeSet<String>,
    never: BTreeSet<String>,
    counted: BTreeSet<String>,
    hot: hot::Done,
    totals: Totals,
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}: replay with WEIR_SEED={}", self.seed, self.seed);
        }
    }
}

impl World {
    fn new(seed: u64) -> World {
        let mut random = Random::new(seed);
        let bench = Bench::new(scenario(&mut random));
        let (apps, replies, totals) = (Vec::new(), Vec::new(), Totals::default());
        let (done, never, counted) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let (hot, refusals) = (BTreeMap::new(), refusals::percent(&mut random));
        World { seed, random, bench, apps, replies, next_key: 0, refusals, done, never, counted, hot, totals }
    }

    fn run(mut self) -> Totals {
        for _ in 0..STEPS {
            self.act();
            self.bench.engine.check_invariants();
        }
        self.finish();
        std::mem::take(&mut self.totals)
    }

    fn act(&mut self) {
        match self.random.below(100) {
            0..=24 => self.client_asks(),
            25..=44 => self.client_is_read(),
            45..=64 => self.node_answers(),
            65..=79 => self.lane_is_read(),
            80..=89 => self.client_reads(),
            90..=92 => self.time_passes(),
            93 => self.lane_breaks(),
            94..=95 => self.lane_mends(),
            96 => self.node_forgets(),
            97 if self.random.chance(20) => self.password_changes(),
            97 => self.client_comes(),
            98 if self.random.chance(30) => self.client_goes(),
            98 if self.random.chance(30) => self.cluster_changes(),
            _ => self.bench.turn(),
        }
        if self.random.chance(40) {
            self.bench.turn();
        }
        self.serve_driver();
    }

    /// What a driver does when the engine says so.
    fn serve_driver(&mut self) {
        let (mut cuts, mut slow) = (Vec::new(), Vec::new());
        self.bench.engine.take_cuts(&mut cuts);
        cuts.iter().for_each(|(lane, _)| self.lose(lane.0 as usize));
        self.bench.engine.take_slow(&mut slow); // who is taken is closed at once, as a worker does
        for id in slow {
            if let Some(index) = self.apps.iter().position(|app| app.caller.id == id) {
                self.totals.slow += 1;
                self.close(index);
            }
        }
        // half of an answer cannot be taken back: its connection is closed, which is seen only here
        let ids: Vec<_> = self.apps.iter().map(|app| app.caller.id).collect();
        for (index, id) in ids.into_iter().enumerate().rev() {
            if self.bench.engine.client_closing(id).is_some() {
                self.totals.broken += 1;
                self.close(index);
            }
        }
        self.replies.resize_with(self.bench.wires.len(), Vec::new);
    }

    /// Nodes come and go, change their shards, are thought down; or other data centers are allowed.
    fn cluster_changes(&mut self) {
        let places = ["a/1", "a/2", "b/1"];
        let first = self.random.below(4);
        let nodes = (first..first + self.random.between(1, 4)).map(|n| {
            let place = self.random.pick(&places);
            let shards = self.random.pick(&[0, 0, 2, 3]);
            let is_up = self.random.chance(80);
            PlacedNode { is_up, ..if shards > 0 { sharded(n, place, shards) } else { node(n, place) } }
        });
        let nodes: Vec<PlacedNode> = nodes.collect();
        let copies = self.random.between(1, nodes.len());
        let map = Map::of(nodes, copies).shared();
        self.bench.engine.place(ClusterId(0), map, self.bench.now);
        self.totals.placed += 1;
    }

    fn some_app(&mut self) -> Option<usize> {
        (!self.apps.is_empty()).then(|| self.random.below(self.apps.len()))
    }

    fn client_comes(&mut self) {
        if self.apps.len() >= 6 {
            return;
        }
        let version = self.random.pick(&[Version::V3, Version::V4, Version::V5]);
        let more: &[(&str, &str)] = if self.random.chance(30) { &[("COMPRESSION", "lz4")] } else { &[] };
        let principal = self.random.below(3);
        let name = ["a", "b", "c"][principal];
        let own = self.bench.engine.settings().clusters[0].clients == ClientSignIn::Own;
        let caller = if own {
            let (caller, answer) = self.bench.sign_in(name, "secret", version, more);
            if answer.code().is_some() {
                assert!(answer.error().1.contains("principals_max"), "{}", answer.describe());
                self.totals.turned_away += 1;
                self.bench.engine.close_client(caller.id, self.bench.now);
                return;
            }
            caller
        } else {
            self.bench.open_as(name, version, more)
        };
        self.totals.own += u64::from(own);
        let (waits, use_places) = (BTreeMap::new(), BTreeMap::new());
        self.apps.push(App {
            caller,
            principal,
            waits,
            uses: Vec::new(),
            use_places,
            outgoing: Vec::new(),
            next_stream: 0,
        });
    }

    fn client_goes(&mut self) {
        if let Some(index) = self.some_app() {
            self.close(index);
        }
    }

    fn close(&mut self, index: usize) {
        let app = self.apps.swap_remove(index);
        self.bench.engine.close_client(app.caller.id, self.bench.now);
    }

    fn client_asks(&mut self) {
        let Some(index) = self.some_app() else { return self.client_comes() };
        if self.apps[index].outgoing.len() > 4_000 {
            return;
        }
        let many = self.random.pick(&[1, 1, 3, 12]);
        let mut envelopes = Vec::new();
        for _ in 0..many {
            envelopes.extend(self.one_request(index));
        }
        let app = &mut self.apps[index];
        let bytes = app.caller.framed(&envelopes);
        app.outgoing.extend(bytes);
    }

    fn one_request(&mut self, index: usize) -> Vec<u8> {
        self.next_key += 1;
        let key = self.next_key;
        let n = self.random.below(READS);
        let choice = self.random.below(27);
        let several = self.random.pick(&[2, 12, 40]);
        let drawn: Vec<i32> = (0..several).map(|_| self.random.below(60) as i32).collect();
        let keyspace = self.random.pick(&["shop", "My Ks", "nowhere"]);
        let prepares = self.random.below(10);
        let app = &mut self.apps[index];
        let version = app.caller.version;
        let stream = app.next_stream;
        app.next_stream = (app.next_stream + 1) % 30_000;
        let text = |text: String| wire::query(version, stream, &text, &With::default());
        let values = With::values(&[int(key)]);
        let id = |text: &str| statement_id(None, text.as_bytes());
        let (message, expect) = match choice {
            0 => {
                let row = row_value("shop.q", key);
                (text(format!("SELECT v FROM shop.q WHERE k = {key}")), Expect::Row(row))
            }
            1 => {
                let row = row_value("shop.c", key);
                (text(format!("UPDATE shop.c SET n = n + 1 WHERE k = {key}")), Expect::Count(row))
            }
            2 => {
                let row = row_value("shop.s", key);
                (text(format!("UPDATE shop.s SET v = 'x' WHERE k = {key}")), Expect::Set(row))
            }
            3 => {
                let expect = Expect::RowUnderUse(key, app.uses.len());
                (text(format!("SELECT v FROM u WHERE k = {key}")), expect)
            }
            4 => {
                app.use_places.insert(stream, app.uses.len());
                app.uses.push(None);
                (text(format!("USE \"{keyspace}\"")), Expect::Use(keyspace))
            }
            5 => (text(self.random.pick(&SHOWN).to_owned()), Expect::Local),
            6 => (wire::options(version, stream), Expect::Supported),
            7 | 8 => {
                let text = match prepares {
                    0 => COUNT.to_owned(),
                    1 => SET.to_owned(),
                    2 | 3 => MANY[prepares - 2].to_owned(),
                    4 => hot::READ.to_owned(),
                    5 => hot::WRITE.to_owned(),
                    6 | 7 => markers(MANY[prepares - 6], several),
                    n => read_text(n - 4),
                };
                (wire::prepare(version, stream, &text), Expect::Prepared(id(&text)))
            }
            9 | 10 => {
                let row = row_value(&format!("shop.r{n}"), key);
                (wire::execute(version, stream, &id(&read_text(n)), &values), Expect::Row(row))
            }
            11 => {
                (wire::execute(version, stream, &id(COUNT), &values), Expect::Count(row_value("shop.c", key)))
            }
            14..=16 => {
                let (text, marked) = (MANY[n % 2], self.random.chance(40));
                let expected = many(text, &drawn);
                let written = if marked { markers(text, several) } else { text.to_owned() };
                let values = if marked { drawn.into_iter().map(int).collect() } else { vec![list(drawn)] };
                let mut with = With { values, ..With::default() };
                let expect = if n < 4 {
                    Expect::Many(expected)
                } else {
                    with.page_size = Some(7);
                    Expect::Page(expected, 7)
                };
                (wire::execute(version, stream, &id(&written), &with), expect)
            }
            12 => (wire::execute(version, stream, &id(SET), &values), Expect::Set(row_value("shop.s", key))),
            17.. => hot::request(&mut self.random, version, stream, app.principal, &self.hot),
            13 if n < 4 => {
                let keys = key..key + several as i32;
                self.next_key = keys.end;
                batches::request(version, stream, keys, n)
            }
            _ => {
                let (set, count) = (id(SET), id(COUNT));
                let parts = [Part::Id(&set, vec![int(key)]), Part::Id(&count, vec![int(key)])];
                (wire::batch(version, stream, &parts), Expect::Count(row_value("shop.c", key)))
            }
        };
        if let Expect::Count(row) = &expect {
            self.counted.insert(row.clone());
        }
        assert!(app.waits.insert(stream, expect).is_none(), "streams go round slowly");
        message
    }

    fn client_is_read(&mut self) {
        let Some(index) = self.some_app() else { return };
        let app = &mut self.apps[index];
        if !self.bench.engine.client_wants_input(app.caller.id) {
            return;
        }
        let most = self.bench.engine.client_read_max(app.caller.id).min(app.outgoing.len());
        let piece: Vec<u8> = app.outgoing.drain(..self.random.piece(most)).collect();
        self.bench.engine.client_input(app.caller.id, &piece, self.bench.now);
    }

    fn node_answers(&mut self) {
        let lanes = self.bench.wires.iter().enumerate();
        let busy: Vec<usize> =
            lanes.filter(|(_, wire)| !wire.asked.is_empty()).map(|(lane, _)| lane).collect();
        if busy.is_empty() {
            return;
        }
        let lane = self.random.pick(&busy);
        let place = self.random.below(self.bench.wires[lane].asked.len());
        let reply = self.refusal(lane, place).unwrap_or_else(|| self.bench.reply_to(lane, place));
        let (_, version) = self.bench.info(lane);
        let bytes = if version >= Version::V5 { in_segments(&reply, false) } else { reply };
        self.replies[lane].extend(bytes);
    }

    fn lane_is_read(&mut self) {
        let lanes = self.replies.iter().enumerate();
        let ready: Vec<usize> = lanes.filter(|(_, bytes)| !bytes.is_empty()).map(|(lane, _)| lane).collect();
        if ready.is_empty() {
            return;
        }
        let lane = self.random.pick(&ready);
        let piece = self.random.piece(self.replies[lane].len());
        let bytes: Vec<u8> = self.replies[lane].drain(..piece).collect();
        let outcome = self.bench.engine.lane_input(LaneId(lane as u32), &bytes, self.bench.now);
        outcome.expect("nodes are honest");
    }

    fn client_reads(&mut self) {
        let Some(index) = self.some_app() else { return };
        let waiting = self.bench.engine.client_out(self.apps[index].caller.id).len();
        let piece = self.random.piece(waiting);
        self.read(index, piece);
    }

    fn read(&mut self, index: usize, piece: usize) {
        let app = &mut self.apps[index];
        let out = self.bench.engine.client_out(app.caller.id);
        let bytes = out.unwritten()[..piece].to_vec();
        out.wrote(piece);
        self.bench.engine.client_wrote(app.caller.id, piece);
        for answer in app.caller.take(&bytes) {
            self.judge(index, &answer);
        }
    }

    fn judge(&mut self, index: usize, answer: &Answer) {
        self.totals.answered += 1;
        let app = &mut self.apps[index];
        assert_eq!(answer.header.version, app.caller.version);
        if answer.code() == Some(ErrorCode::BAD_CREDENTIALS) {
            self.totals.sent_away += 1;
            if app.waits.is_empty() || !app.waits.contains_key(&answer.stream()) {
                return; // nothing it has asked was read
            }
        }
        let expect = app.waits.remove(&answer.stream()).expect("answered once, and only what was asked");
        let place = app.use_places.remove(&answer.stream());
        if answer.header.opcode == Opcode::Error {
            if let Some(place) = place {
                app.uses[place] = Some(None);
            }
            return self.judge_error(&expect, answer, index);
        }
        match expect {
            Expect::Row(row) => assert_eq!(answer.values(), [row]),
            Expect::Many(keys) => {
                assert_eq!(answer.keys(), keys);
                assert_eq!(answer.page_state(), None);
            }
            Expect::Page(keys, size) => {
                let page = answer.keys();
                assert_eq!(page, keys[..page.len().min(keys.len())]);
                match answer.page_state() {
                    Some(_) => assert!(page.len() >= size && page.len() <= keys.len()),
                    None => assert_eq!(page, keys),
                }
            }
            Expect::RowUnderUse(key, uses) => {
                let chosen = app.chosen(uses).expect("rows of no keyspace");
                assert_eq!(answer.values(), [row_value(&format!("{chosen}.u"), key)]);
            }
            Expect::Count(row) | Expect::Set(row) => {
                assert!(answer.is_void(), "{}", answer.describe());
                assert!(self.bench.data.writes.contains_key(&row), "{row} was carried out");
                self.done.insert(row);
            }
            Expect::SetAll(rows) => batches::done(&rows, answer, &self.bench.data),
            Expect::HotRow(row) => row.judge(answer),
            Expect::HotWrite(key) => {
                assert!(answer.is_void(), "{}", answer.describe());
                *self.hot.entry(key).or_default() += 1;
            }
            Expect::Prepared(id) => assert_eq!(answer.prepared(), id),
            Expect::Use(keyspace) => {
                assert!(matches!(answer.read(), Response::Result(ResultBody::SetKeyspace(_))));
                assert_ne!(keyspace, "nowhere");
                app.uses[place.expect("its place")] = Some(Some(keyspace));
            }
            Expect::Local => {
                assert_eq!(answer.rows().len(), 1);
                assert!(!answer.body.windows(4).any(|bytes| bytes == REAL), "no address leaks");
            }
            Expect::Supported => assert!(matches!(answer.read(), Response::Supported(_))),
        }
    }

    fn time_passes(&mut self) {
        let most = self.random.pick(&[1_000, 50_000, 400_000]);
        self.bench.wait(Span(self.random.below(most) as u64));
    }

    fn lose(&mut self, lane: usize) {
        // some of what arrived is carried out although nobody hears of it
        while self.random.chance(50) && !self.bench.wires[lane].asked.is_empty() {
            self.bench.reply_to(lane, 0);
        }
        self.totals.lost += 1;
        self.replies[lane].clear();
        self.bench.lose(lane);
    }

    fn lane_breaks(&mut self) {
        if self.replies.is_empty() {
            return;
        }
        // in the middle of a reply, perhaps
        let begun: Vec<usize> =
            (0..self.replies.len()).filter(|lane| !self.replies[*lane].is_empty()).collect();
        let lane = match begun.is_empty() || self.random.chance(40) {
            true => self.random.below(self.replies.len()),
            false => self.random.pick(&begun),
        };
        if self.bench.wires[lane].up {
            self.lose(lane);
        } else if self.random.chance(50) && self.bench.is_live(lane) {
            self.bench.fail(lane);
        }
    }

    fn lane_mends(&mut self) {
        let lanes = self.bench.wires.iter().enumerate();
        let down: Vec<usize> = lanes
            .filter(|(lane, wire)| !wire.up && self.bench.is_live(*lane))
            .map(|(lane, _)| lane)
            .collect();
        if !down.is_empty() {
            self.bench.up(self.random.pick(&down));
        }
    }

    fn node_forgets(&mut self) {
        let node = self.random.below(self.bench.nodes.len());
        if self.random.chance(50) {
            self.bench.nodes[node].prepared.clear();
        } else {
            self.bench.nodes[node].prepared.pop_first();
        }
        let refusals = [None, None, Some(ErrorCode::INVALID), Some(ErrorCode::OVERLOADED)];
        self.bench.nodes[node].refuse_own = self.random.pick(&refusals);
    }
}

impl App {
    /// The keyspace chosen by the first so many `USE`s.
    fn chosen(&self, uses: usize) -> Option<&'static str> {
        let outcomes = self.uses[..uses].iter().map(|outcome| outcome.expect("what came before is answered"));
        outcomes.rev().flatten().next()
    }
}

#[test]
fn every_request_is_answered_once_and_writes_happen_at_most_once() {
    let seeds = seeds::seeds(SEEDS);
    let usual = seeds.end - seeds.start >= SEEDS;
    let mut all = totals::All::default();
    seeds.for_each(|seed| all.add(&World::new(seed).run()));
    all.tell();
    if usual {
        all.check();
    }
}
