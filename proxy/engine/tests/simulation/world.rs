//! The run: an engine, its sockets and its clients, driven as a worker drives them: only by what the engine asks for
//! (dirty lists, deadlines, cuts), so that a forgotten wake-up shows.

mod end;

use crate::judge::Judge;
use crate::links::{Link, Stand};
use crate::random::Random;
use crate::scenario::Scenario;
use crate::script::Script;
use crate::store::Store;
use crate::totals::Totals;
use std::sync::Arc;
use weir_engine::admit::Budgets;
use weir_engine::route::Ring;
use weir_engine::settings::Settings;
use weir_engine::units::{ClientId, Instant, LaneId, ListenerId};
use weir_engine::{CloseHow, CutCause, Engine};

/// Unread bytes a client's socket takes.
const SOCKET: usize = 1_500;

/// One client program and its socket.
struct App {
    id: ClientId,
    listener: ListenerId,
    judge: Judge,
    script: Script,
    /// Sent by the program, not yet read by weir.
    outgoing: Vec<u8>,
    /// Written by weir, not yet read by the program.
    incoming: Vec<u8>,
    /// weir does not read it until the engine mentions it.
    paused: bool,
    /// weir has more to write to it.
    writable: bool,
    /// The program does not read until then.
    asleep_until: u64,
    /// It said `quit`, or closed its side after the last request.
    leaving: bool,
    eof: bool,
}

pub struct World {
    seed: u64,
    step: usize,
    random: Random,
    scenario: Scenario,
    settings: Arc<Settings>,
    engine: Engine,
    budgets: Arc<Budgets>,
    store: Store,
    links: Vec<Link>,
    apps: Vec<App>,
    now: u64,
    next_number: u32,
    /// Connections that have closed: answers about them may still come.
    gone: Vec<ClientId>,
    /// Chance of its own for names, so that they do not change what else happens.
    namer: Random,
    totals: Totals,
    lanes: Vec<LaneId>,
    ids: Vec<ClientId>,
}

impl Drop for World {
    #[expect(clippy::disallowed_methods, reason = "a replayed seed tells more")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            if std::env::var("WEIR_SEED").is_ok() {
                let servers = self.engine.snapshot(self.instant()).servers;
                eprintln!("now {} next deadline {:?}", self.now, self.engine.next_deadline());
                eprintln!("{:#?}", self.scenario);
                eprintln!("pools {:#?}", self.settings.pools);
                eprintln!("servers {servers:#?}");
                for (lane, link) in self.links.iter().enumerate().filter(|(_, link)| !link.retired) {
                    eprintln!("lane {lane} {link:?}");
                }
            }
            eprintln!("seed {} step {}: replay with WEIR_SEED={}", self.seed, self.step, self.seed);
        }
    }
}

impl World {
    pub fn new(seed: u64) -> World {
        let mut random = Random::new(seed);
        let scenario = Scenario::new(&mut random, seed);
        let settings = Arc::new(scenario.settings.clone());
        let budgets = Arc::new(Budgets::default());
        let engine = Engine::new(settings.clone(), budgets.clone(), 1, seed);
        let mut world = World {
            seed,
            step: 0,
            random,
            scenario,
            settings,
            engine,
            budgets,
            store: Store::default(),
            links: Vec::new(),
            apps: Vec::new(),
            now: 1_000_000,
            next_number: 0,
            gone: Vec::new(),
            namer: Random::new(seed ^ 0x6e61_6d65),
            totals: Totals::default(),
            lanes: Vec::new(),
            ids: Vec::new(),
        };
        world.lay_links();
        world
    }

    fn instant(&self) -> Instant {
        Instant(self.now)
    }

    pub fn run(mut self, steps: usize) -> Totals {
        for step in 0..steps {
            self.step = step;
            self.act();
            self.engine.check_invariants();
            self.check_queued();
        }
        self.finish();
        std::mem::take(&mut self.totals)
    }

    fn act(&mut self) {
        match self.random.below(100) {
            0..=13 => self.client_asks(),
            14..=33 => self.client_is_read(),
            34..=54 => self.server_works(),
            55..=73 => self.server_is_read(),
            74..=85 => self.client_reads(),
            86..=91 => self.turn(),
            92..=95 => {
                let most = self.random.pick(&[50, 1_000, 10_000, 150_000]);
                self.now += self.random.below(most) as u64;
                self.timers();
            }
            96 if self.random.chance(10) => self.totals.fold(&mut self.engine),
            96 => self.client_comes_or_goes(),
            97 if self.random.chance(60) => self.link_breaks(),
            98 => self.settings_change(),
            _ => self.client_changes(),
        }
        if self.random.chance(25) {
            self.turn();
        }
    }

    // clients

    fn some_app(&mut self) -> Option<usize> {
        (!self.apps.is_empty()).then(|| self.random.below(self.apps.len()))
    }

    fn client_asks(&mut self) {
        let Some(index) = self.some_app() else { return self.client_comes_or_goes() };
        let app = &mut self.apps[index];
        if app.leaving || app.outgoing.len() > 5_000 {
            return;
        }
        for _ in 0..self.random.pick(&[1, 1, 1, 5, 40]) {
            let bytes = app.script.ask(&mut self.random, &self.scenario, &mut app.judge);
            app.outgoing.extend(bytes);
        }
    }

    fn client_is_read(&mut self) {
        let Some(index) = self.some_app() else { return };
        let piece = self.random.piece(self.apps[index].outgoing.len().min(64 << 10));
        self.read_client(index, piece);
    }

    /// One read of a worker from a client's socket.
    fn read_client(&mut self, index: usize, most: usize) -> bool {
        let now = self.instant();
        let app = &mut self.apps[index];
        if app.paused || app.eof {
            return false;
        }
        if !self.engine.client_wants_input(app.id) {
            app.paused = true;
            return false;
        }
        let bytes: Vec<u8> = app.outgoing.drain(..most).collect();
        self.engine.client_input(app.id, &bytes, now);
        if app.leaving && app.outgoing.is_empty() && !bytes.ends_with(b"quit\r\n") {
            app.eof = true;
            self.engine.client_eof(app.id);
        }
        true
    }

    fn client_reads(&mut self) {
        let Some(index) = self.some_app() else { return };
        let piece = self.random.piece(self.apps[index].incoming.len());
        self.app_reads(index, piece);
    }

    fn app_reads(&mut self, index: usize, most: usize) -> bool {
        let app = &mut self.apps[index];
        if app.asleep_until > self.now {
            return false;
        }
        let bytes: Vec<u8> = app.incoming.drain(..most).collect();
        app.judge.receive(&bytes);
        app.judge.answered > 0 && !bytes.is_empty()
    }

    fn client_comes_or_goes(&mut self) {
        if self.apps.len() < self.scenario.clients_max && self.random.chance(70) {
            self.next_number += 1;
            let number = self.next_number;
            let listener = ListenerId(self.random.below(self.settings.listeners.len()) as u32);
            let identity = self.scenario.identity(&mut self.random, listener);
            let id = self.engine.open_client(listener, identity, self.instant());
            if self.namer.chance(50) {
                self.engine.await_name(id, self.instant());
            }
            self.apps.push(App {
                id,
                listener,
                judge: Judge::new(number, self.scenario.allowed),
                script: Script::new(number),
                outgoing: Vec::new(),
                incoming: Vec::new(),
                paused: false,
                writable: false,
                asleep_until: 0,
                leaving: false,
                eof: false,
            });
            return;
        }
        let Some(index) = self.some_app() else { return };
        if self.scenario.vanish && self.random.chance(50) {
            self.totals.complete = false;
            self.close(index);
        } else if !self.apps[index].leaving {
            self.apps[index].leaving = true;
            if self.random.chance(50) {
                self.apps[index].outgoing.extend_from_slice(b"quit\r\n");
            } else if self.apps[index].outgoing.is_empty() && !self.apps[index].paused {
                self.apps[index].eof = true;
                self.engine.client_eof(self.apps[index].id);
            }
        }
    }

    fn client_changes(&mut self) {
        let Some(index) = self.some_app() else { return };
        if self.scenario.slow_readers && self.random.chance(50) {
            let most = self.random.pick(&[10_000, 500_000, 3_000_000]);
            self.apps[index].asleep_until = self.now + self.random.below(most) as u64;
        } else {
            let listener = self.apps[index].listener;
            let identity = self.scenario.identity(&mut self.random, listener);
            let gone = self.gone.pop().filter(|_| self.namer.chance(50));
            let id = gone.unwrap_or(self.apps[index].id);
            let read_at = Instant(self.now - self.namer.below(2_000_000).min(self.now as usize) as u64);
            match self.namer.below(3) {
                0 if gone.is_none() => self.engine.rename_client(id, identity),
                1 => self.engine.name_client(id, None, read_at),
                _ => self.engine.name_client(id, Some(identity), read_at),
            }
        }
    }

    fn close(&mut self, index: usize) {
        let app = self.apps.swap_remove(index);
        self.gone.push(app.id);
        let summary = self.engine.close_client(app.id, self.instant());
        self.totals.requests += summary.requests;
        self.totals.answered += app.judge.answered;
        self.totals.keys_asked += app.script.keys_asked;
        self.totals.hits += app.judge.hits;
    }

    /// The engine wants a connection closed whose output is written.
    fn close_if_asked(&mut self, index: usize) -> bool {
        let Some(how) = self.engine.client_closing(self.apps[index].id) else { return false };
        let app = &mut self.apps[index];
        assert_eq!(how, CloseHow::Client, "nothing here breaks the protocol");
        assert!(app.leaving, "nobody asked for that");
        let incoming = std::mem::take(&mut app.incoming);
        app.judge.receive(&incoming);
        app.judge.judge();
        assert!(app.judge.expected.is_empty(), "closed before it answered {:?}", app.judge.expected.front());
        self.close(index);
        true
    }

    // servers

    fn some_link(&mut self) -> Option<usize> {
        let up: Vec<usize> = (0..self.links.len()).filter(|i| self.links[*i].stand == Stand::Up).collect();
        (!up.is_empty()).then(|| self.random.pick(&up))
    }

    fn server_works(&mut self) {
        let Some(index) = self.some_link() else { return };
        let most = self.random.pick(&[1, 2, 10, 1_000]);
        self.work(index, most);
    }

    fn work(&mut self, index: usize, most: usize) -> bool {
        let link = &mut self.links[index];
        if link.poisoned || link.stalled_until > self.now || link.stand != Stand::Up {
            return false;
        }
        let before = link.inbox.len();
        let errors = self.scenario.allowed.server_errors.then_some(&mut self.random);
        link.serve(&mut self.store, most, errors);
        link.inbox.len() != before
    }

    fn server_is_read(&mut self) {
        let Some(index) = self.some_link() else { return };
        let piece = self.random.piece(self.links[index].outbox.len());
        self.deliver(index, piece);
    }

    fn deliver(&mut self, index: usize, most: usize) -> bool {
        let link = &mut self.links[index];
        if most == 0 {
            return false;
        }
        let bytes: Vec<u8> = link.outbox.drain(..most).collect();
        let outcome = self.engine.lane_input(LaneId(index as u32), &bytes, Instant(self.now));
        if outcome.is_err() {
            assert!(link.poisoned, "{outcome:?} of {:?}", String::from_utf8_lossy(&bytes));
            self.lose(index);
        } else {
            assert!(!link.poisoned || !link.outbox.is_empty(), "a wrong answer was not noticed");
        }
        true
    }

    fn lose(&mut self, index: usize) {
        let again_at = self.now + self.random.below(20_000) as u64;
        self.links[index].lose(&mut self.store, &mut self.random, again_at);
        self.engine.lane_lost(LaneId(index as u32), self.instant());
    }

    fn link_breaks(&mut self) {
        let Some(index) = self.some_link() else { return };
        let allowed = self.scenario.allowed;
        match self.random.below(4) {
            0 if allowed.links => self.lose(index),
            1 if allowed.links
                && !self.links[index].poisoned
                && self.links[index].stalled_until <= self.now =>
            {
                self.links[index].poison(&mut self.store, &mut self.random);
            }
            2 if allowed.links => {
                // bytes that nothing was asked for
                self.turn();
                let lane = LaneId(index as u32);
                let link = &mut self.links[index];
                let busy = !link.inbox.is_empty() || !link.outbox.is_empty() || link.poisoned;
                if link.stand == Stand::Up && !busy && self.engine.lane_out(lane).is_empty() {
                    link.outbox.extend_from_slice(b"STORED\r\n");
                    link.poisoned = true;
                    self.deliver(index, 8);
                }
            }
            _ if allowed.timeouts => {
                let long = self.random.pick(&[100_000, 500_000, 2_000_000]);
                self.links[index].stalled_until = self.now + self.random.below(long) as u64;
            }
            _ => {}
        }
    }

    /// Connects what may be connected by now.
    fn dial(&mut self, may_fail: bool) {
        for index in 0..self.links.len() {
            let Stand::Dialling(at) = self.links[index].stand else { continue };
            if at > self.now || self.links[index].retired {
                continue;
            }
            let lane = LaneId(index as u32);
            if may_fail && self.random.chance(20) {
                self.links[index].stand = Stand::Dialling(self.now + self.random.below(20_000) as u64);
                self.engine.lane_failed(lane, self.instant());
            } else {
                self.links[index].stand = Stand::Up;
                self.engine.lane_up(lane, self.instant());
            }
        }
    }

    /// Sockets for the lanes that the engine wants and has not.
    fn lay_links(&mut self) {
        let wanted: Vec<(usize, usize, usize)> = self
            .engine
            .lanes()
            .map(|(id, info)| {
                let pool = info.pool.0 as usize;
                let servers = &self.settings.pools[pool].servers;
                let server = servers.iter().position(|server| server.address == info.address);
                (id.0 as usize, pool, server.expect("a server of the settings"))
            })
            .collect();
        for link in &mut self.links {
            link.retired = true;
        }
        for pool in 0..self.settings.pools.len() {
            let settings = &self.settings.pools[pool];
            let ring = Arc::new(Ring::new(settings.ring, &settings.servers));
            for (lane, _, server) in wanted.iter().filter(|lane| lane.1 == pool) {
                if let Some(link) = self.links.get_mut(*lane).filter(|link| link.stand != Stand::Gone) {
                    link.retired = false;
                    continue;
                }
                let slow = if self.scenario.allowed.links { 5_000 } else { 1 };
                let connected_at = self.now + self.random.below(slow) as u64;
                let link = Link::new(ring.clone(), *server, connected_at);
                match self.links.get_mut(*lane) {
                    // the number of a connection that is gone
                    Some(place) => *place = link,
                    None => {
                        assert_eq!(*lane, self.links.len(), "new lanes are laid out one after the other");
                        self.links.push(link);
                    }
                }
            }
        }
        self.free_links();
    }

    /// The engine may use the numbers again of connections it does not want any more, once nothing is left of them.
    fn free_links(&mut self) {
        for index in 0..self.links.len() {
            let link = &mut self.links[index];
            if link.retired && link.stand != Stand::Up {
                link.stand = Stand::Gone;
                self.engine.lane_gone(LaneId(index as u32));
            }
        }
    }

    fn settings_change(&mut self) {
        if !self.scenario.reloads || self.random.chance(50) {
            return;
        }
        if !self.scenario.allowed.links {
            // what waits on a connection that is not there yet would fail
            self.dial(false);
        }
        let settings = self.scenario.draw(&mut self.random, Some(&self.settings));
        self.settings = Arc::new(settings);
        self.engine.apply(self.settings.clone(), self.instant());
        self.lay_links();
        for app in &mut self.apps {
            app.judge.servers_changed();
        }
    }

    // the worker

    fn timers(&mut self) {
        if self.engine.next_deadline().is_some_and(|at| at.0 <= self.now) {
            self.engine.on_timer(self.instant());
            self.turn();
            let next = self.engine.next_deadline();
            assert!(next.is_none_or(|at| at.0 > self.now), "the timer spins at {} ({next:?})", self.now);
        }
    }

    /// One turn of the worker's loop: connect, decide, write.
    fn turn(&mut self) {
        self.dial(self.scenario.allowed.links);
        for round in 0.. {
            self.engine.end_turn(self.instant());
            self.take_cuts();
            self.free_links();
            self.take_slow();
            self.write_lanes();
            self.write_clients();
            if !self.engine.has_more() {
                break;
            }
            assert!(round < 100_000, "held input never ends");
        }
    }

    fn take_cuts(&mut self) {
        let mut cuts = Vec::new();
        self.engine.take_cuts(&mut cuts);
        for (lane, cause) in cuts {
            let link = &self.links[lane.0 as usize];
            match cause {
                CutCause::Retired => assert!(link.retired),
                CutCause::Stalled => {
                    assert!(self.scenario.allowed.timeouts);
                    self.totals.stalled += 1;
                }
                CutCause::Desync => panic!("the driver is told by lane_input"),
                CutCause::Worn => panic!("no lane of memcached wears out"),
            }
            if link.stand != Stand::Gone {
                self.lose(lane.0 as usize);
            }
        }
    }

    fn take_slow(&mut self) {
        let mut slow = Vec::new();
        self.engine.take_slow(&mut slow);
        for id in slow {
            if let Some(index) = self.apps.iter().position(|app| app.id == id) {
                assert!(self.scenario.slow_readers, "everybody reads");
                self.totals.slow += 1;
                self.totals.complete = false;
                self.close(index);
            }
        }
    }

    fn write_lanes(&mut self) {
        let mut lanes = std::mem::take(&mut self.lanes);
        self.engine.take_dirty_lanes(&mut lanes);
        for lane in lanes.drain(..) {
            self.links[lane.0 as usize].writable = true;
        }
        self.lanes = lanes;
        for (index, link) in self.links.iter_mut().enumerate() {
            let out = self.engine.lane_out(LaneId(index as u32));
            if link.stand != Stand::Up {
                continue;
            }
            assert!(link.writable || out.is_empty(), "a lane with output is announced");
            let n = self.random.piece(out.len());
            link.inbox.extend_from_slice(&out.unwritten()[..n]);
            out.wrote(n);
            link.writable = !out.is_empty();
        }
    }

    fn write_clients(&mut self) {
        let mut ids = std::mem::take(&mut self.ids);
        self.engine.take_dirty_clients(&mut ids);
        for id in ids.drain(..) {
            let app = self.apps.iter_mut().find(|app| app.id == id).expect("only open clients are dirty");
            app.writable = true;
            app.paused = false;
        }
        self.ids = ids;
        for index in (0..self.apps.len()).rev() {
            let app = &mut self.apps[index];
            let out = self.engine.client_out(app.id);
            assert!(app.writable || out.is_empty(), "a client with output is announced");
            if !app.writable {
                continue;
            }
            let n = out.len().min(SOCKET.saturating_sub(app.incoming.len()));
            let n = self.random.piece(n);
            app.incoming.extend_from_slice(&out.unwritten()[..n]);
            out.wrote(n);
            app.writable = !out.is_empty();
            if n > 0 {
                self.engine.client_wrote(app.id, n, Instant(self.now));
            }
            self.close_if_asked(index);
        }
    }

    // the end
}
