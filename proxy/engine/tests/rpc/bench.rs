//! An engine with one service of two servers behind one listener, and shorthands for what tests do with it.

use std::sync::Arc;
use weir_engine::admit::Budgets;
use weir_engine::caller::Identity;
use weir_engine::ledger::{Outcome, Tally};
use weir_engine::rpc::{
    Body, CallId, End, Event, Head, Progress, Protocol, Refusal, RpcEngine, Start, Verdict, identity,
};
use weir_engine::settings::{Address, Backend, ListenerSettings, ServiceSettings, Settings};
use weir_engine::units::{Instant, ListenerId, ServiceId, Span};

pub const GET_POSTS: &str = "bsky.Service/GetPostRecords";

pub fn server(port: u16) -> Address {
    Address::Tcp { host: "127.0.0.1".into(), port }
}

pub fn settings(change: impl FnOnce(&mut Settings)) -> Arc<Settings> {
    let mut service = ServiceSettings::new("dataplane", vec![server(1), server(2)]);
    service.methods = [Arc::from(GET_POSTS), Arc::from("bsky.Service/GetThread")].into();
    let listener = ListenerSettings::new("edge", server(9), Backend::Service(ServiceId(0)));
    let mut settings = Settings { services: vec![service], listeners: vec![listener], ..Settings::default() };
    change(&mut settings);
    Arc::new(settings)
}

pub struct Bench {
    pub engine: RpcEngine,
    pub now: Instant,
}

pub fn body(keys: u64) -> Body {
    Body { keys, bytes: keys * 72, splittable: true, idempotent: true }
}

pub fn who(principal: &str, name: &str) -> Arc<Identity> {
    Arc::new(identity(ListenerId(0), &principal.into(), Some(name.as_bytes())))
}

pub fn ok(reply_keys: u64, bytes: u64) -> End {
    End { outcome: Outcome::Ok, reply_keys, bytes }
}

impl Bench {
    pub fn new(settings: Arc<Settings>) -> Bench {
        Bench { engine: RpcEngine::new(settings, Arc::new(Budgets::default()), 7), now: Instant(1_000_000) }
    }

    pub fn after(&mut self, span: Span) {
        self.now = self.now.after(span);
    }

    pub fn begin_as(&mut self, identity: &Arc<Identity>, method: &str) -> Result<CallId, Refusal> {
        let head = Head { identity, protocol: Protocol::Grpc, method, deadline: None };
        self.engine.begin(&head, self.now).map(|begun| begun.call)
    }

    pub fn begin(&mut self, principal: &str) -> CallId {
        self.begin_as(&who(principal, principal), GET_POSTS).expect("begun")
    }

    /// A call with so many keys, as far as its verdict.
    pub fn ask(&mut self, principal: &str, keys: u64) -> (CallId, Verdict) {
        let call = self.begin(principal);
        let verdict = self.engine.counted(call, &body(keys), self.now);
        self.engine.check_invariants();
        (call, verdict)
    }

    pub fn events(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        self.engine.take_events(&mut events);
        events
    }

    /// Parts to be sent now; nothing else may have happened.
    pub fn starts(&mut self) -> Vec<Start> {
        let start = |event| match event {
            Event::Start(start) => start,
            Event::Ended { .. } => panic!("{event:?}"),
        };
        self.events().into_iter().map(start).collect()
    }

    pub fn answer(&mut self, start: &Start) -> Progress {
        let progress = self.engine.part_answered(start.part, start.keys, start.keys * 500, self.now);
        self.engine.check_invariants();
        progress
    }

    pub fn answered(&mut self, call: CallId, end: &End) {
        self.engine.answered(call, end, self.now);
        self.engine.check_invariants();
    }

    /// What a caller's tally of calls says, over all methods.
    pub fn tallies(&mut self) -> Vec<(String, Tally)> {
        let mut tallies = Vec::new();
        self.engine.fold(|_, identity, tally| {
            tallies.extend(tally.tallies().map(|(_, tally)| (identity.name.to_string(), tally.clone())));
        });
        tallies
    }
}
