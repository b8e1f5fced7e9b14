//! Seeded simulation: random callers call, parts are answered, fail, are sent again, hang and are stopped late, clients
//! leave, deadlines pass, servers come and go, settings change. No call is lost or ended twice, parts cover their keys
//! once, bounds and sums hold after every step, and in the end nothing is left.
//!
//! A failing seed is printed; `WEIR_SEED=<n> cargo test -p weir-engine --test rpc simulation` replays it, and
//! `WEIR_SEED=<from>..<to>` runs many others.

use crate::bench::{Bench, GET_POSTS, ok, server, settings, who};
use crate::random::Random;
use std::collections::BTreeMap;
use std::sync::Arc;
use weir_engine::ledger::Outcome;
use weir_engine::rpc::{Body, CallId, End, Event, Head, PartId, Progress, Protocol, Start, Verdict};
use weir_engine::settings::{CallerLimits, LimitMode, Settings};
use weir_engine::units::{Bytes, Instant, Operations, ServiceId, Span};

const SEEDS: u64 = 120;
const STEPS: usize = 800;

#[expect(clippy::disallowed_methods, reason = "the seed to replay comes from the environment")]
fn seeds() -> std::ops::Range<u64> {
    let number = |text: &str| text.parse::<u64>().expect("WEIR_SEED is a number, or a range of numbers");
    let Ok(range) = std::env::var("WEIR_SEED") else { return 0..SEEDS };
    match range.split_once("..") {
        Some((from, to)) => number(from)..number(to),
        None => number(&range)..number(&range) + 1,
    }
}

#[test]
fn no_call_is_lost_and_nothing_is_left() {
    let seeds = seeds();
    let usual = seeds.end - seeds.start >= SEEDS;
    let mut all = Totals::default();
    for seed in seeds {
        let run = std::panic::catch_unwind(|| World::new(seed).run());
        match run {
            Ok(totals) => all.add(&totals),
            Err(panic) => {
                eprintln!("seed {seed} failed: WEIR_SEED={seed} replays it");
                std::panic::resume_unwind(panic);
            }
        }
    }
    println!("{all:?}");
    if usual {
        all.check_reach();
    }
}

/// What happened, so that a simulation that reaches nothing is noticed.
#[derive(Clone, Debug, Default)]
struct Totals([u64; 12]);

const NAMES: [&str; 12] = [
    "begun",
    "denied",
    "crowded",
    "refused",
    "paced",
    "queued",
    "split",
    "answered",
    "failed",
    "cancelled",
    "late",
    "retried",
];

impl Totals {
    fn count(&mut self, name: &str) {
        let place = NAMES.iter().position(|known| *known == name).expect("a known name");
        self.0[place] += 1;
    }

    fn add(&mut self, other: &Totals) {
        self.0.iter_mut().zip(other.0).for_each(|(own, more)| *own += more);
    }

    fn check_reach(&self) {
        for (name, count) in NAMES.iter().zip(self.0) {
            assert!(count > 100, "{name}: {count}");
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    /// Its body is on the way, or it is paced until then.
    Unread(Option<Instant>),
    Waits,
    Runs,
    /// Every part is there.
    Whole,
    /// A part failed.
    Failed,
}

#[derive(Debug)]
struct Call {
    phase: Phase,
    body: Body,
    split: bool,
    /// Keys not started yet begin here.
    next_key: u64,
    deadline: Instant,
    counted: Option<Instant>,
}

struct World {
    seed: u64,
    random: Random,
    bench: Bench,
    settings: Arc<Settings>,
    calls: BTreeMap<CallId, Call>,
    /// Parts with the servers, the call still there or not.
    flying: Vec<Start>,
    totals: Totals,
    ended: u64,
}

fn random_settings(random: &mut Random) -> Arc<Settings> {
    settings(|settings| {
        let service = &mut settings.services[0];
        service.servers = (1..=random.between(1, 3) as u16).map(server).collect();
        service.chunk_keys = random.pick(&[1, 7, 100]);
        service.chunk_window = random.between(1, 6) as u32;
        service.chunks_in_flight = random.between(1, 5) as u32;
        service.chunks_beside_calls = random.between(1, 5) as u32;
        service.calls_in_flight = random.between(1, 20) as u32;
        service.calls_max = random.between(5, 60) as u32;
        service.gather_bytes_max = Bytes(random.pick(&[1, 20_000, 64 << 20]));
        service.queue_timeout = Span::millis(random.pick(&[50, 500, 5_000]));
        service.request_timeout = Span::millis(random.pick(&[200, 2_000]));
        for name in ["a", "b"] {
            let limits = CallerLimits {
                operations_per_request: Some(Operations(random.pick(&[50, 400, 100_000]))),
                operations_per_second: random.chance(50).then_some(Operations(random.pick(&[200, 20_000]))),
                operations_in_flight: random.chance(50).then_some(Operations(1_000)),
                bytes_in_flight: random.chance(20).then_some(Bytes(1 << 20)),
                mode: random.pick(&[LimitMode::Observe, LimitMode::Pace, LimitMode::Refuse]),
                ..CallerLimits::default()
            };
            settings.callers.insert(name.into(), limits);
        }
        settings.listeners[0].trusted_names = vec!["b".into()];
    })
}

impl World {
    fn new(seed: u64) -> World {
        let mut random = Random::new(seed);
        let settings = random_settings(&mut random);
        World {
            seed,
            random,
            bench: Bench::new(settings.clone()),
            settings,
            calls: BTreeMap::new(),
            flying: Vec::new(),
            totals: Totals::default(),
            ended: 0,
        }
    }

    fn run(mut self) -> Totals {
        for _ in 0..STEPS {
            self.step();
            self.after_step();
        }
        self.drain();
        self.bench.engine.check_quiet();
        let tallies = self.bench.tallies();
        let ended: u64 = tallies.iter().flat_map(|(_, tally)| tally.requests).sum();
        assert_eq!(ended, self.ended, "every call has one entry");
        self.totals
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..20 => self.begin(),
            20..40 => self.read(),
            40..70 => self.part_ends(),
            70..80 => self.answer(),
            80..84 => self.cancel(),
            84..97 => self.pass(),
            97 => self.server_changes(),
            98 => self.deny(),
            _ => self.reload(),
        }
    }

    fn begin(&mut self) {
        let principal = self.random.pick(&["a", "quiet", "uid:7"]);
        let name = self.random.pick(&["a", "b", "c", "d d"]);
        let method = self.random.pick(&[GET_POSTS, "bsky.Service/GetThread", "no.Such/Method"]);
        let soon = self.bench.now.after(Span::millis(self.random.below(300) as u64));
        let head = Head {
            identity: &who(principal, name),
            protocol: self.random.pick(&Protocol::ALL),
            method,
            deadline: self.random.chance(20).then_some(soon),
        };
        match self.bench.engine.begin(&head, self.bench.now) {
            Ok(begun) => {
                let keys = match self.random.below(4) {
                    0 => self.random.below(3),
                    1 => self.random.below(120),
                    _ => self.random.below(900),
                } as u64;
                let (splittable, idempotent) = (self.random.chance(80), self.random.chance(70));
                let body = Body { keys, bytes: keys * 72, splittable, idempotent };
                let call = Call {
                    phase: Phase::Unread(None),
                    body,
                    split: false,
                    next_key: 0,
                    deadline: begun.deadline,
                    counted: None,
                };
                assert!(self.calls.insert(begun.call, call).is_none(), "names are not used twice");
                self.totals.count("begun");
            }
            Err(refusal) => {
                let denied = matches!(refusal.why, weir_engine::rpc::Why::Denied(_));
                self.totals.count(if denied { "denied" } else { "crowded" });
                self.ended += 1;
            }
        }
    }

    /// A body is whole, or a paced call asks again.
    fn read(&mut self) {
        let now = self.bench.now;
        let due = |call: &Call| match call.phase {
            Phase::Unread(until) => until.is_none_or(|until| until <= now),
            _ => false,
        };
        let Some(id) = self.pick_call(due) else { return };
        let call = self.calls.get_mut(&id).expect("picked");
        call.counted.get_or_insert(now);
        match self.bench.engine.counted(id, &call.body, now) {
            Verdict::Forward(start) => {
                assert_eq!((start.keys, start.first_key), (call.body.keys.max(1), 0));
                (call.phase, call.next_key) = (Phase::Runs, start.keys);
                self.flying.push(start);
            }
            Verdict::Queued => {
                call.phase = Phase::Waits;
                self.totals.count("queued");
            }
            Verdict::Split { chunks, chunk_keys } => {
                let keys = call.body.keys;
                assert!(call.body.splittable && u64::from(chunks) == keys.div_ceil(u64::from(chunk_keys)));
                (call.phase, call.split) = (Phase::Runs, true);
                self.totals.count("split");
            }
            Verdict::Wait { until } => {
                assert!(until > now && until <= now.after(Span::millis(250)), "pace_max_wait");
                call.phase = Phase::Unread(Some(until));
                self.totals.count("paced");
            }
            Verdict::Refuse(_) => {
                self.totals.count("refused");
                self.end(id);
            }
            Verdict::Gone => panic!("it was not ended"),
        }
    }

    fn part_ends(&mut self) {
        if self.flying.is_empty() {
            return;
        }
        let at = self.random.below(self.flying.len());
        let start = self.flying[at];
        let now = self.bench.now;
        let Some(call) = self.calls.get_mut(&start.part.call) else {
            // nobody waits for it any more; it may end in any way all the same
            self.flying.swap_remove(at);
            match self.random.below(3) {
                0 => assert_eq!(self.bench.engine.part_answered(start.part, 1, 1, now), Progress::Gone),
                1 => assert_eq!(self.bench.engine.part_failed(start.part, now), Progress::Gone),
                _ => self.bench.engine.part_over(start.part, now),
            }
            return;
        };
        if call.phase == Phase::Failed {
            self.flying.swap_remove(at);
            return self.bench.engine.part_over(start.part, now);
        }
        if self.random.chance(15) {
            if let Some(again) = self.bench.engine.retry(start.part, now) {
                assert!(call.body.idempotent && again.part == start.part && again.keys == start.keys);
                self.totals.count("retried");
                self.flying[at] = again;
            }
            return;
        }
        if !call.split {
            return; // its answer is told at once, by `answer`
        }
        self.flying.swap_remove(at);
        if self.random.chance(4) {
            call.phase = Phase::Failed;
            self.totals.count("failed");
            let Progress::Failed { cancel } = self.bench.engine.part_failed(start.part, now) else {
                panic!("the first part to fail")
            };
            return self.check_cancel(start.part.call, cancel);
        }
        let bytes = self.random.below(20_000) as u64;
        match self.bench.engine.part_answered(start.part, start.keys, bytes, now) {
            Progress::More => {}
            Progress::Complete => {
                assert_eq!(call.next_key, call.body.keys, "every key was asked");
                assert!(self.flying.iter().all(|other| other.part.call != start.part.call));
                call.phase = Phase::Whole;
            }
            other => panic!("{other:?}"),
        }
    }

    /// A client gets its answer.
    fn answer(&mut self) {
        let ready = |call: &Call| match call.phase {
            Phase::Runs => !call.split,
            Phase::Whole | Phase::Failed => true,
            Phase::Unread(_) | Phase::Waits => false,
        };
        let Some(id) = self.pick_call(ready) else { return };
        let call = &self.calls[&id];
        let failed = call.phase == Phase::Failed;
        let outcome = if failed { Outcome::Error } else { Outcome::Ok };
        let end = End { outcome, ..ok(call.body.keys, self.random.below(100_000) as u64) };
        if !call.split {
            self.flying.retain(|start| start.part.call != id); // told with the call
        }
        self.bench.engine.answered(id, &end, self.bench.now);
        self.totals.count("answered");
        self.end(id);
    }

    fn cancel(&mut self) {
        let Some(id) = self.pick_call(|_| true) else { return };
        let cancel = self.bench.engine.cancelled(id, self.bench.now);
        self.check_cancel(id, cancel);
        self.totals.count("cancelled");
        self.end(id);
    }

    fn pass(&mut self) {
        let ms = if self.random.chance(10) { self.random.below(400) } else { self.random.below(20) };
        self.bench.after(Span::millis(ms as u64));
        let now = self.bench.now;
        let due = self.bench.engine.next_deadline().is_some_and(|at| at <= now);
        self.bench.engine.on_timer(now);
        assert!(due || self.pending_ends() == 0, "nothing ends by itself before its time");
        assert!(self.bench.engine.next_deadline().is_none_or(|at| at > now));
    }

    fn pending_ends(&mut self) -> usize {
        let before = self.calls.len();
        self.take_events();
        before - self.calls.len()
    }

    fn server_changes(&mut self) {
        let up = self.random.chance(60);
        let at = server(self.random.between(1, 3) as u16);
        self.bench.engine.server_is(ServiceId(0), &at, up, self.bench.now);
    }

    fn deny(&mut self) {
        let until = self.bench.now.after(Span::millis(1 + self.random.below(100) as u64));
        let now = self.bench.now;
        let _ = self.bench.engine.denied().deny("bsky.Service/GetThread", "slow", until, now);
    }

    fn reload(&mut self) {
        self.settings = random_settings(&mut self.random);
        self.bench.engine.apply(self.settings.clone(), self.bench.now);
    }

    fn pick_call(&mut self, fits: impl Fn(&Call) -> bool) -> Option<CallId> {
        let fitting: Vec<CallId> =
            self.calls.iter().filter(|(_, call)| fits(call)).map(|(id, _)| *id).collect();
        (!fitting.is_empty()).then(|| self.random.pick(&fitting))
    }

    /// What is to be stopped is exactly what flies.
    fn check_cancel(&self, id: CallId, mut cancel: Vec<u32>) {
        let of = self.flying.iter().map(|start| start.part).filter(|part| part.call == id);
        let mut flying: Vec<u32> = of.map(|part: PartId| part.index).collect();
        flying.sort_unstable();
        cancel.sort_unstable();
        assert_eq!(cancel, flying);
    }

    fn end(&mut self, id: CallId) {
        self.calls.remove(&id).expect("a call ends once");
        self.ended += 1;
    }

    /// What was started is within its bounds. Settings may have become narrower than what was under way.
    fn check_started(&self, started: &[Start]) {
        let service = &self.settings.services[0];
        let standing = self.bench.engine.services(self.bench.now).remove(0);
        for start in started {
            let Some(at) = self.bench.engine.server(start) else { continue };
            let at = standing.servers.iter().find(|server| *server.name == *at.to_string());
            let at = at.expect("nothing is started where no server is");
            if self.calls.get(&start.part.call).is_none_or(|call| call.split) {
                assert!(at.chunks <= service.chunks_in_flight, "{} at {}", at.chunks, at.name);
                let of_call = self.flying.iter().filter(|other| other.part.call == start.part.call);
                assert!(of_call.count() <= service.chunk_window as usize, "its window");
            } else {
                assert!(standing.whole <= service.calls_in_flight);
            }
        }
    }

    fn take_events(&mut self) {
        let mut started = Vec::new();
        for event in self.bench.events() {
            match event {
                Event::Start(start) => {
                    let call =
                        self.calls.get_mut(&start.part.call).expect("nothing is started of what ended");
                    assert!(matches!(call.phase, Phase::Waits | Phase::Runs), "{call:?}");
                    assert_eq!(start.first_key, call.next_key, "parts are started in order");
                    assert!(start.keys > 0);
                    call.next_key += start.keys;
                    call.phase = Phase::Runs;
                    self.flying.push(start);
                    started.push(start);
                }
                Event::Ended { call: id, refusal, cancel } => {
                    let call = &self.calls[&id];
                    let now = self.bench.now;
                    let waited = call.counted.is_some() && call.next_key == 0;
                    assert!(now >= call.deadline || (refusal.is_some() && waited), "{call:?} at {now:?}");
                    self.check_cancel(id, cancel);
                    self.totals.count("late");
                    self.end(id);
                }
            }
        }
        self.check_started(&started);
    }

    fn after_step(&mut self) {
        self.take_events();
        self.bench.engine.check_invariants();
        let service = &self.settings.services[0];
        let standing = self.bench.engine.services(self.bench.now).remove(0);
        assert_eq!(standing.servers.len(), service.servers.len(), "seed {}", self.seed);
        let room = standing.whole < service.calls_in_flight;
        assert!(standing.waiting == 0 || !room, "whole calls wait only while there is no room");
    }

    /// Everything comes to an end.
    fn drain(&mut self) {
        while let Some(id) = self.calls.keys().next().copied() {
            let cancel = self.bench.engine.cancelled(id, self.bench.now);
            self.take_events();
            self.check_cancel(id, cancel);
            self.end(id);
            self.bench.engine.check_invariants();
        }
        for start in std::mem::take(&mut self.flying) {
            self.bench.engine.part_over(start.part, self.bench.now);
        }
        self.take_events();
    }
}
