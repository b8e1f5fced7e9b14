//! The thread that the edge runs on: one edge for each listener of a service, the engine's clock, and the control side's
//! questions, which it answers as a worker does.

use super::cache::Caches;
use super::desk::{Desk, State};
use super::gate::ListenerGate;
use super::settings;
use super::tokens::Tokens;
use super::visits::{Entrance, Reception};
use crate::accept::Doorway;
use crate::caps::Caps;
use crate::clock::{Clock, seconds};
use crate::fold::rpc::RpcBooks;
use crate::fold::rpc_servers::{self, ServerBooks, ServerSum};
use crate::fold::{INTERVAL, Protocol};
use crate::listen::{ListenSocket, SocketFile};
use crate::worker::orders::{Board, DoorLook, Look, Mailbox, Order, WorkerHandle};
use crate::worker::rates::Rates;
use crate::worker::{End, Running};
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use weir_edge::{Door, Drained, Edge};
use weir_engine::admit::Budgets;
use weir_engine::correlate::Correlator;
use weir_engine::ledger::Expensive;
use weir_engine::rpc::RpcEngine;
use weir_engine::settings::Backend;
use weir_engine::units::{Bytes, Instant, Operations, ServiceId, Span};
use weir_engine::{EngineSnapshot, LaneSnapshot, LaneState, ServerSnapshot};
use weir_telemetry::Telemetry;

/// How often the thread looks around with nothing to do.
const TICK: Duration = Duration::from_secs(1);

/// What the thread is made of.
pub struct Setup {
    /// Its number among the workers.
    pub index: u32,
    /// The process's clock.
    pub clock: Clock,
    /// The process's metrics.
    pub telemetry: Arc<Telemetry>,
    /// What is in force.
    pub board: Arc<Board>,
    /// Budgets of callers, shared with all workers.
    pub budgets: Arc<Budgets>,
    /// What requests with an id did.
    pub correlator: Arc<Correlator>,
    /// How many connections there may be.
    pub caps: Arc<Caps>,
    /// Threads that serve calls.
    pub threads: u32,
    /// The listening sockets.
    pub doorways: Vec<Doorway>,
    /// Tells request ids of runs apart.
    pub seed: u64,
}

/// An edge with what it serves.
struct Served {
    edge: Edge,
    gate: Arc<ListenerGate>,
    listener: usize,
    service: ServiceId,
    /// Held for its drop, which removes the file.
    _file: Option<SocketFile>,
}

/// Starts the edges of all listeners of services.
///
/// # Errors
/// When the system has no thread, descriptor or event queue to give, or an edge cannot be made of its settings.
pub fn spawn(setup: Setup) -> io::Result<Running> {
    let runtime = runtime(setup.threads)?;
    let (handle, mailbox) = WorkerHandle::pair();
    let (tell, ended) = oneshot::channel();
    let version = setup.board.version();
    let in_force = setup.board.read();
    let mut engine = RpcEngine::new(in_force.settings.clone(), setup.budgets, setup.seed);
    deny(&mut engine, &in_force.denied, setup.clock);
    let telemetry = setup.telemetry.clone();
    let config = in_force.config.clone();
    let caches = Caches::new(&config, &setup.telemetry)?;
    let books = RpcBooks::new(setup.telemetry, &in_force.settings);
    let desk = Arc::new(Desk::new(engine, books, in_force, setup.clock, setup.correlator));
    let reception = Arc::new(Reception {
        desk: desk.clone(),
        caps: setup.caps,
        telemetry: telemetry.clone(),
        churns: Mutex::default(),
    });
    let (drain, draining) = watch::channel(false);
    let (mut served, mut running) = (Vec::new(), JoinSet::new());
    {
        let _entered = runtime.enter();
        for doorway in setup.doorways {
            let listener = doorway.listener;
            let own = &config.settings.listeners[listener.0 as usize];
            let Backend::Service(service) = own.backend else { continue };
            let Some((draft, _)) = config.services.get(service.0 as usize) else { continue };
            let metrics = telemetry.listener(&own.name);
            let tokens = Tokens::new(&config, listener, metrics.clone())?;
            let (reception, look) = (reception.clone(), Mutex::default());
            let entrance = Arc::new(Entrance { listener, reception, metrics, look });
            let gate = Arc::new(ListenerGate { listener, desk: desk.clone(), tokens, entrance });
            let mut settings = settings::edge(&config, listener, draft);
            settings.cache = caches.of(service);
            let edge = Edge::new(settings, gate.clone()).map_err(io::Error::other)?;
            let opened = doorway.opened;
            let door = match opened.socket {
                ListenSocket::Tcp(socket) => Door::tcp(socket),
                ListenSocket::Unix(socket) => Door::unix(socket),
            };
            let door = match &config.doors[listener.0 as usize].tls.side {
                Some(side) => door.with_tls(side.config()),
                None => door,
            };
            let (own, draining) = (edge.clone(), draining.clone());
            running.spawn(async move { own.run(vec![door], draining).await });
            served.push(Served { edge, gate, listener: listener.0 as usize, service, _file: opened.file });
        }
    }
    let (board, index) = (setup.board, setup.index);
    let thread = std::thread::Builder::new().name("rpc".to_owned()).spawn(move || {
        let (books, rates) = (ServerBooks::default(), Rates::default());
        let round = Round { desk, reception, board, version, served, caches, drain, index, books, rates };
        let end = runtime.block_on(round.run(mailbox, running));
        // Whoever started the thread may be gone already.
        let _ = tell.send(end);
    })?;
    Ok(Running { handles: vec![(Protocol::Rpc, handle)], ended, thread })
}

/// One thread does everything by itself. Several share all connections, on either side: what is bounded per listener or
/// service stays so, and there are as many connections to a server as with one.
fn runtime(threads: u32) -> io::Result<tokio::runtime::Runtime> {
    let mut builder = match threads {
        0 | 1 => tokio::runtime::Builder::new_current_thread(),
        threads => {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(threads as usize).thread_name("rpc-calls");
            builder
        }
    };
    builder.enable_all().max_blocking_threads(2).build()
}

/// Methods that are switched off, as the overrides have them.
fn deny(engine: &mut RpcEngine, denied: &[crate::worker::orders::DeniedMethod], clock: Clock) {
    let now = clock.now();
    let unix = crate::clock::unix_now();
    let gone: Vec<_> = engine.denied().list(now).into_iter().map(|old| old.method).collect();
    for old in gone.iter().filter(|old| denied.iter().all(|new| *new.method != ***old)) {
        engine.denied().allow(old);
    }
    for new in denied {
        let until = now.after(Span::secs(new.until_unix.saturating_sub(unix)));
        // What cannot be denied was told when it was asked for.
        let _ = engine.denied().deny(&new.method, &new.why, until, now);
    }
}

struct Round {
    desk: Arc<Desk>,
    reception: Arc<Reception>,
    board: Arc<Board>,
    version: u64,
    served: Vec<Served>,
    caches: Caches,
    drain: watch::Sender<bool>,
    index: u32,
    books: ServerBooks,
    rates: Rates,
}

impl Round {
    /// Runs until every edge has drained.
    async fn run(mut self, mut mailbox: Mailbox, mut running: JoinSet<Drained>) -> End {
        let mut cut = 0;
        let mut looked = tokio::time::Instant::now();
        let mut pause = TICK;
        loop {
            mailbox.heartbeat.store(self.desk.clock.now().0, Ordering::Relaxed);
            let mut nudged = Vec::new();
            // Cancel-safe: orders and notes that were not taken stay, and an edge's end stays in the set.
            tokio::select! {
                order = mailbox.orders.recv() => if let Some(order) = order { self.answer(order) },
                () = std::future::poll_fn(|cx| {
                    mailbox.ready.take(cx, &mut nudged);
                    if nudged.is_empty() { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
                }) => mailbox.orders_source.handled(),
                () = self.desk.news.notified(), if pause == TICK => {}
                () = tokio::time::sleep(pause) => {}
                end = running.join_next() => match end {
                    Some(Ok(drained)) => cut += usize::try_from(drained.cut).unwrap_or(usize::MAX),
                    Some(Err(_)) => return End::Broken,
                    None => break,
                },
            }
            self.look_at_board();
            if looked.elapsed() >= TICK {
                looked = tokio::time::Instant::now();
                self.look_at_servers();
                self.caches.fold();
            }
            pause = self.turn();
        }
        self.look_at_servers();
        self.desk.with(fold);
        End::Drained { cut }
    }

    /// What time brings; how long to rest.
    fn turn(&self) -> Duration {
        self.desk.with(|state, now| {
            state.engine.on_timer(now);
            let busy = state.engine.ledger().is_dirty() || state.engine.next_deadline().is_some();
            fold(state, now);
            let next = state.engine.next_deadline().map_or(Span(u64::MAX), |at| at.since(now));
            if busy { Duration::from_micros(INTERVAL.0.min(next.0.max(1_000))) } else { TICK }
        })
    }

    fn look_at_board(&mut self) {
        let version = self.board.version();
        if version == self.version {
            return;
        }
        self.version = version;
        let in_force = self.board.read();
        if let Some(drain) = in_force.drain {
            let left = Duration::from_micros(drain.deadline.since(self.desk.clock.now()).0);
            self.served.iter().for_each(|served| served.edge.drain_within(left));
            self.drain.send_replace(true);
        }
        let before = self.desk.with(|state, _| state.in_force.config.clone());
        if !Arc::ptr_eq(&before, &in_force.config) {
            for served in &self.served {
                served.gate.tokens.apply(&in_force.config);
                let both = (&*before, &*in_force.config);
                settings::renew(&served.edge, both, served.gate.listener, served.service);
            }
        }
        let clock = self.desk.clock;
        self.desk.with(|state, now| {
            if !Arc::ptr_eq(&state.in_force.settings, &in_force.settings) {
                state.engine.apply(in_force.settings.clone(), now);
                state.books.apply(&in_force.settings);
            }
            deny(&mut state.engine, &in_force.denied, clock);
            state.put_into_force(in_force);
        });
    }

    /// Tells the engine which servers calls may go to (a gate tells of changes at once, for its own listener), and the
    /// metrics what was counted.
    fn look_at_servers(&mut self) {
        let sums = self.servers();
        self.desk.with(|state, now| {
            for sum in &sums {
                state.engine.server_is(sum.service, &sum.address, sum.up, now);
            }
            self.books.fold(&sums, state.books.telemetry(), seconds(now));
            self.rates.note(&snapshot(&state.engine, now), now);
        });
    }

    fn servers(&self) -> Vec<ServerSum> {
        rpc_servers::sums(self.served.iter().map(|served| (served.service, served.edge.servers())))
    }

    fn answer(&self, order: Order) {
        match order {
            // Whoever asked may have given up.
            Order::Look(tell) => drop(tell.send(self.look())),
            Order::Fold(tell) => {
                self.desk.with(fold);
                self.caches.fold();
                let _ = tell.send(());
            }
            // Whoever asked may have given up: thrown away it is all the same.
            Order::Purge(purge, tell) => drop(tell.send(self.caches.purge(&purge))),
            Order::Named(_) | Order::SignedIn(_) => {}
        }
    }

    fn look(&self) -> Look {
        let listeners = self.board.read().settings.listeners.len();
        let mut doors = vec![DoorLook::default(); listeners];
        let now = self.desk.clock.now();
        for served in &self.served {
            doors[served.listener] = served.gate.entrance.look(now);
        }
        let servers = self.servers();
        let churns = self.reception.churns(now);
        self.desk.with(|state, now| {
            fold(state, now);
            let ledger = state.engine.ledger();
            let (expensive, heavy) =
                (ledger.expensive().cloned().collect::<Vec<Expensive>>(), ledger.heavy_hitters());
            let statements = ledger.statements();
            Look {
                worker: self.index,
                at: now,
                protocol: Protocol::Rpc,
                engine: snapshot(&state.engine, now),
                rows: state.books.rows().to_vec(),
                expensive,
                heavy,
                statements,
                upstreams: rpc_servers::upstreams(&servers, |backend, name| self.rates.of(backend, name)),
                doors,
                churns,
            }
        })
    }
}

fn fold(state: &mut State, now: Instant) {
    let settings = state.in_force.settings.clone();
    state.books.fold(&mut state.engine, &settings, now);
}

/// The engine as the workers' are shown: servers with one lane each, which is up or down.
fn snapshot(engine: &RpcEngine, now: Instant) -> EngineSnapshot {
    let mut servers = Vec::new();
    let mut calls = 0;
    for (index, service) in engine.services(now).into_iter().enumerate() {
        calls += service.calls as usize;
        let backend = Backend::Service(ServiceId(u32::try_from(index).unwrap_or(u32::MAX)));
        servers.extend(service.servers.iter().map(|server| ServerSnapshot {
            backend,
            name: server.name.clone(),
            serial: 0,
            place: None,
            lanes: vec![LaneSnapshot {
                state: if server.up { LaneState::Up } else { LaneState::Down },
                bulk: false,
                owed: (server.calls + server.chunks) as usize,
                unsent: 0,
            }],
            operations: Operations(server.operations),
            bytes: Bytes(0),
            bulk_keys: Operations(0),
            waiting: service.waiting,
            queued: Operations(service.keys_waiting),
            oldest_wait: service.oldest_wait,
            operations_total: server.operations_total,
        }));
    }
    EngineSnapshot {
        servers,
        callers: engine.callers(),
        clients: calls,
        held_accounts: 0,
        reply_bytes: 0,
        input_bytes: 0,
        desyncs: 0,
        retries: 0,
    }
}
