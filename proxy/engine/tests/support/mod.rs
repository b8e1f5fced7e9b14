//! An engine on a test bench: clients and lanes are driven by hand, servers answer from a map of values.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use weir_engine::admit::Budgets;
use weir_engine::caller::Identity;
use weir_engine::settings::{Address, Backend, ListenerSettings, PoolSettings, ServerSettings, Settings};
use weir_engine::units::{ClientId, Instant, LaneId, ListenerId, PoolId, Span};
use weir_engine::{CutCause, Engine};

/// One pool of servers behind one listener, every default.
pub fn settings(servers: usize) -> Settings {
    let server = |n: usize| ServerSettings {
        address: Address::Tcp { host: "10.0.0.1".into(), port: 11_211 + n as u16 },
        weight: 1,
        name: None,
    };
    let address = Address::Unix { path: "/run/weir.sock".into() };
    Settings {
        pools: vec![PoolSettings::new("main", (0..servers).map(server).collect())],
        listeners: vec![ListenerSettings::new("l", address, Backend::Pool(PoolId(0)))],
        ..Settings::default()
    }
}

/// The only lane of a pool of one server.
pub const LANE: LaneId = LaneId(0);

pub struct Bench {
    pub engine: Engine,
    pub now: Instant,
    /// What every server of the pool stores.
    pub values: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Commands that left on each lane and were not answered.
    pub unanswered: Vec<VecDeque<String>>,
    /// Bytes of a command that has not left whole.
    partial: Vec<Vec<u8>>,
    /// The command of this number (counting those answered by `answer`) is answered with an error line.
    pub fail_at: Option<usize>,
    pub answered: usize,
}

impl Bench {
    pub fn new(settings: Settings) -> Bench {
        Bench::sharing(settings, &Arc::default(), 1)
    }

    /// One of several workers that share budgets; its lanes are up.
    pub fn sharing(settings: Settings, budgets: &Arc<Budgets>, workers: u32) -> Bench {
        let engine = Engine::new(Arc::new(settings), budgets.clone(), workers, 7);
        let lanes = engine.lanes().count();
        let mut bench = Bench {
            engine,
            now: Instant(1_000_000),
            values: BTreeMap::new(),
            unanswered: vec![VecDeque::new(); lanes],
            partial: vec![Vec::new(); lanes],
            fail_at: None,
            answered: 0,
        };
        for lane in 0..lanes {
            bench.engine.lane_up(LaneId(lane as u32), bench.now);
        }
        bench
    }

    /// New settings; lanes they bring are up.
    pub fn apply(&mut self, settings: Settings) {
        let had: Vec<LaneId> = self.engine.lanes().map(|(id, _)| id).collect();
        self.engine.apply(Arc::new(settings), self.now);
        let new: Vec<LaneId> = self.engine.lanes().map(|(id, _)| id).filter(|id| !had.contains(id)).collect();
        let lanes = self.engine.places().1;
        self.unanswered.resize(lanes, VecDeque::new());
        self.partial.resize(lanes, Vec::new());
        for lane in new {
            self.engine.lane_up(lane, self.now);
        }
    }

    /// Closes the connections the engine wants no more, as a driver does; how many.
    pub fn close_retired(&mut self) -> usize {
        let mut cuts = Vec::new();
        self.engine.take_cuts(&mut cuts);
        for (lane, cause) in &cuts {
            assert_eq!(*cause, CutCause::Retired);
            assert!(self.unanswered[lane.0 as usize].is_empty(), "{lane:?} owes an answer");
            self.engine.lane_lost(*lane, self.now);
            self.engine.lane_failed(*lane, self.now);
            self.engine.lane_gone(*lane);
        }
        self.engine.check_invariants();
        cuts.len()
    }

    pub fn open(&mut self, principal: &str) -> ClientId {
        let (principal, name) = (principal.into(), principal.into());
        let identity = Arc::new(Identity { listener: ListenerId(0), principal, name });
        self.engine.open_client(ListenerId(0), identity, self.now)
    }

    /// A caller nobody knows is given little at once; after this one, its replies are known to be small.
    pub fn warm_up(&mut self, principal: &str) {
        let client = self.open(principal);
        for _ in 0..60 {
            self.send(client, "get warm\r\n");
            self.settle();
            self.read(client);
        }
        self.engine.close_client(client, self.now);
    }

    pub fn send(&mut self, client: ClientId, bytes: impl AsRef<[u8]>) {
        self.engine.client_input(client, bytes.as_ref(), self.now);
    }

    pub fn wait(&mut self, span: Span) {
        self.now = self.now.after(span);
        self.engine.on_timer(self.now);
        self.turn();
    }

    /// Ends a turn and lets the lanes write everything.
    pub fn turn(&mut self) {
        loop {
            self.engine.end_turn(self.now);
            self.engine.check_invariants();
            if !self.engine.has_more() {
                break;
            }
        }
        for lane in 0..self.unanswered.len() {
            let out = self.engine.lane_out(LaneId(lane as u32));
            self.partial[lane].extend_from_slice(out.unwritten());
            let written = out.len();
            out.wrote(written);
            while let Some(command) = take_command(&mut self.partial[lane]) {
                self.unanswered[lane].push_back(command);
            }
        }
    }

    /// Answers the first command of a lane, in pieces of at most `piece` bytes. False when there is none.
    pub fn answer(&mut self, lane: usize, piece: usize) -> bool {
        let Some(command) = self.unanswered[lane].pop_front() else { return false };
        let mut answer = self.answer_to(&command);
        if self.fail_at == Some(self.answered) {
            answer.truncate(
                answer.len() - answer.rsplit(|byte| *byte == b'\n').nth(1).map_or(0, <[u8]>::len) - 1,
            );
            answer.extend_from_slice(b"SERVER_ERROR out of memory\r\n");
        }
        self.answered += 1;
        for bytes in answer.chunks(piece.max(1)) {
            self.engine.lane_input(LaneId(lane as u32), bytes, self.now).expect("an honest answer");
        }
        self.engine.check_invariants();
        true
    }

    fn answer_to(&self, command: &str) -> Vec<u8> {
        let mut words = command.trim_end().split(' ');
        match words.next().expect("a verb") {
            verb @ ("get" | "gets") => {
                let values = words.filter_map(|key| Some((key, self.values.get(key.as_bytes())?)));
                let mut answer: Vec<u8> =
                    values.flat_map(|(key, value)| value_block(verb, key, value)).collect();
                answer.extend_from_slice(b"END\r\n");
                answer
            }
            "set" => b"STORED\r\n".to_vec(),
            "delete" => b"DELETED\r\n".to_vec(),
            verb => panic!("the bench does not know {verb}"),
        }
    }

    /// Serves everything until nothing moves.
    pub fn settle(&mut self) {
        self.turn();
        while (0..self.unanswered.len()).any(|lane| self.answer(lane, usize::MAX)) {
            self.turn();
        }
    }

    /// What a client can read now.
    pub fn read(&mut self, client: ClientId) -> Vec<u8> {
        let out = self.engine.client_out(client);
        let bytes = out.unwritten().to_vec();
        out.wrote(bytes.len());
        self.engine.client_wrote(client, bytes.len(), self.now);
        bytes
    }

    pub fn read_text(&mut self, client: ClientId) -> String {
        String::from_utf8(self.read(client)).expect("text")
    }

    /// Unanswered commands of a lane.
    pub fn commands(&self, lane: usize) -> Vec<&str> {
        self.unanswered[lane].iter().map(String::as_str).collect()
    }
}

pub fn value_block(verb: &str, key: &str, value: &[u8]) -> Vec<u8> {
    let unique = if verb == "gets" { " 1" } else { "" };
    let head = format!("VALUE {key} 0 {}{unique}\r\n", value.len());
    [head.as_bytes(), value, b"\r\n"].concat()
}

/// A whole command at the front: its line; the data of a store is dropped.
fn take_command(bytes: &mut Vec<u8>) -> Option<String> {
    let line = bytes.iter().position(|byte| *byte == b'\n')? + 1;
    let text = String::from_utf8(bytes[..line - 2].to_vec()).expect("text");
    let data = if text.starts_with("set ") {
        text.split(' ').nth(4).and_then(|length| length.parse::<usize>().ok()).expect("a length") + 2
    } else {
        0
    };
    if bytes.len() < line + data {
        return None;
    }
    bytes.drain(..line + data);
    Some(text)
}
