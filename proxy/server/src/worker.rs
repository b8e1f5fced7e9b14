//! One worker: a thread with a single-threaded runtime whose one task owns all of the worker's sockets and its engine.
//!
//! A turn of its loop (`turn.rs`): every socket with something to read is read once, the engine ends the turn, then every
//! lane and every client with something to write is written once. There is no task and no channel hop per request, and
//! nothing is allocated per request here. A panic is contained to the socket whose event it was (`panics.rs`).
//!
//! Bounds: one shared read buffer ([`LANE_READ`]) for all sockets; at most [`CLIENT_READ`] per client and turn.

pub mod alarm;
mod busy_poll;
pub mod churn;
mod clients;
mod courtesy;
mod flushes;
mod gates;
mod gauges;
mod handshakes;
mod lanes;
pub mod orders;
mod panics;
pub mod path;
mod placements;
pub(crate) mod rates;
pub mod ready;
pub mod sockets;
mod turn;

use crate::accept::{Arrival, Doorway, Gate};
use crate::attribution::{self, Lookup};
use crate::caps::Caps;
use crate::clock::Clock;
use crate::close::client_end::ClientEnds;
use crate::fold::window::Window;
use crate::fold::{Books, Protocol};
use crate::identify::Identities;
use crate::listen::Reserve;
use crate::sign_in::SignInDesk;
use alarm::Alarm;
use busy_poll::BusyPoll;
use churn::Churns;
use courtesy::Courtesy;
use gauges::Gauges;
use handshakes::Handshakes;
use orders::{Board, InForce, Mailbox, WorkerHandle};
use panics::Panics;
use path::DataPath;
use placements::Placements;
use ready::{Source, Token};
use sockets::{ClientSocket, LaneSocket};
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use tokio::sync::oneshot;
use tokio::task::{JoinSet, unconstrained};
use weir_engine::admit::Budgets;
use weir_engine::correlate::Correlator;
use weir_engine::cql::CqlEngine;
use weir_engine::cql::Writes;
use weir_engine::cql::principals::Principals;
use weir_engine::cql::signin::SignIn;
use weir_engine::units::{ClientId, Instant, LaneId, Span};
use weir_engine::{CutCause, Engine};
use weir_telemetry::{ListenerMetrics, Telemetry, WorkerMetrics};

/// Bytes read from one client per turn: a short read says that no more is there, so this bounds a turn and no request.
pub const CLIENT_READ: usize = 64 << 10;
/// Bytes read from one lane per turn, and the size of the shared buffer.
pub const LANE_READ: usize = 256 << 10;
/// How often a worker looks after idle clients, gauges and the watchdog, whatever else happens.
const TICK: Span = Span::secs(1);
/// Turns of the loop between two looks at the kernel while there is always something to do.
const TURNS_PER_LOOK: u32 = 2;

/// What a worker is made of.
#[derive(Debug)]
pub struct Setup {
    /// Its number, from 0.
    pub index: u32,
    /// The place of its handle in the list of all: of the first, where it has several.
    pub handle: u32,
    /// What its clients speak: it has one loop and one handle for each, in this order.
    pub protocols: Vec<Protocol>,
    /// How many there are.
    pub workers: u32,
    /// The process's clock.
    pub clock: Clock,
    /// The process's metrics.
    pub telemetry: Arc<Telemetry>,
    /// What is in force.
    pub board: Arc<Board>,
    /// Budgets of callers, shared by all workers.
    pub budgets: Arc<Budgets>,
    /// What was written through this process (CQL), shared by all workers.
    pub writes: Arc<Writes>,
    /// Users with connections of their own (CQL), shared by all workers.
    pub principals: Arc<Principals>,
    /// What requests with an id did, shared by all workers.
    pub correlator: Arc<Correlator>,
    /// Where clients' credentials are checked.
    pub sign_in: SignInDesk,
    /// Connection caps, shared by all workers.
    pub caps: Arc<Caps>,
    /// Where to ask for process names.
    pub attribution: Option<attribution::Desk>,
    /// Listening sockets, when this worker accepts for itself.
    pub doorways: Vec<Doorway>,
    /// Tells this worker's request ids and waits from others'.
    pub seed: u64,
}

/// How a worker ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Everybody was served or the deadline passed; so many connections were cut.
    Drained {
        /// Connections that were not idle.
        cut: usize,
    },
    /// Its engine panicked twice within a minute, or its loop did: it cannot go on.
    Broken,
}

/// A worker's thread.
#[derive(Debug)]
pub struct Running {
    /// The ways to it, one per protocol.
    pub handles: Vec<(Protocol, WorkerHandle)>,
    /// Resolves when it ends, with nothing when its thread died.
    pub ended: oneshot::Receiver<End>,
    /// Its thread.
    pub thread: JoinHandle<()>,
}

/// Starts a worker.
///
/// # Errors
/// When the system has no thread, descriptor or event queue to give.
pub fn spawn(setup: Setup) -> io::Result<Running> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .event_interval(TURNS_PER_LOOK)
        .max_blocking_threads(2) // names of servers, auth files
        .build()?;
    let (tell, ended) = oneshot::channel();
    let name = format!("worker-{}", setup.index);
    let mut handles = Vec::new();
    let mut loops = Vec::new();
    {
        let _entered = runtime.enter();
        for (protocol, setup) in setup.by_protocol() {
            let (handle, mailbox) = WorkerHandle::pair();
            let task = match protocol {
                Protocol::Memcached => Loop::Memcached(Box::new(Worker::new(setup, mailbox)?)),
                Protocol::Cql => Loop::Cql(Box::new(Worker::new(setup, mailbox)?)),
                Protocol::Rpc => continue, // the edge serves these, not a worker
            };
            handles.push((protocol, handle));
            loops.push(task);
        }
    }
    let thread = std::thread::Builder::new().name(name).spawn(move || {
        let mut tasks = JoinSet::new();
        for task in loops {
            // Tasks of their own rather than the blocked-on future: waking that one costs a write to an eventfd each time.
            match task {
                Loop::Memcached(worker) => tasks.spawn_on(unconstrained(*worker), runtime.handle()),
                Loop::Cql(worker) => tasks.spawn_on(unconstrained(*worker), runtime.handle()),
            };
        }
        let end = runtime.block_on(all_ended(tasks));
        // Whoever started the worker may be gone already.
        let _ = tell.send(end);
    })?;
    Ok(Running { handles, ended, thread })
}

/// A worker's loop for one protocol. Its task is the same as if there were no other.
enum Loop {
    Memcached(Box<Worker<Engine>>),
    Cql(Box<Worker<CqlEngine>>),
}

/// What one loop is made of.
struct LoopSetup {
    setup: Setup,
    handle: u32,
    busy_before: Arc<AtomicU64>,
}

impl Setup {
    /// One for each protocol, with the listening sockets of its own.
    fn by_protocol(mut self) -> Vec<(Protocol, LoopSetup)> {
        let busy_before = Arc::new(AtomicU64::new(0));
        let mut doorways = std::mem::take(&mut self.doorways);
        let protocols = self.protocols.clone();
        let loops = protocols.into_iter().zip(self.handle..).map(|(protocol, handle)| {
            let (own, rest) = std::mem::take(&mut doorways).into_iter().partition(|d| d.protocol == protocol);
            doorways = rest;
            let setup = Setup {
                index: self.index,
                handle: self.handle,
                protocols: vec![protocol],
                workers: self.workers,
                clock: self.clock,
                telemetry: self.telemetry.clone(),
                board: self.board.clone(),
                budgets: self.budgets.clone(),
                writes: self.writes.clone(),
                principals: self.principals.clone(),
                correlator: self.correlator.clone(),
                sign_in: self.sign_in.clone(),
                caps: self.caps.clone(),
                attribution: self.attribution.clone(),
                doorways: own,
                seed: self.seed,
            };
            (protocol, LoopSetup { setup, handle, busy_before: busy_before.clone() })
        });
        loops.collect()
    }
}

/// Waits until every loop has ended, or the first is broken.
async fn all_ended(mut tasks: JoinSet<End>) -> End {
    let mut all = 0;
    while let Some(end) = tasks.join_next().await {
        match end {
            Ok(End::Drained { cut }) => all += cut,
            Ok(End::Broken) | Err(_) => return End::Broken,
        }
    }
    End::Drained { cut: all }
}

/// One listener as this worker sees it.
#[derive(Debug)]
struct DoorBook {
    metrics: Arc<ListenerMetrics>,
    accepts: Window,
    closed: u64,
    short: u64,
}

/// One listening socket of this worker.
#[derive(Debug)]
struct OwnGate {
    gate: Gate,
    source: Source,
    /// Not looked at before.
    rests_until: Option<Instant>,
}

/// All state of one worker.
struct Worker<P: DataPath> {
    index: u32,
    /// Its place in the list of all handles.
    handle: u32,
    clock: Clock,
    telemetry: Arc<Telemetry>,
    metrics: WorkerMetrics,
    board: Arc<Board>,
    board_version: u64,
    placements: Placements,
    in_force: InForce,
    caps: Arc<Caps>,
    attribution: Option<attribution::Desk>,
    lookups: Vec<Lookup>,
    mailbox: Mailbox,
    arrivals_source: Source,
    gates: Vec<OwnGate>,
    reserve: Reserve,
    /// Accepted and not set up yet.
    waiting: VecDeque<Arrival>,
    /// Arrivals are to be set up in this turn.
    arrivals_due: bool,
    engine: P,
    books: Books,
    gauges: Gauges,
    doors: Vec<DoorBook>,
    churns: Churns,
    identities: Identities,
    client_ends: ClientEnds,
    /// By the engine's slot; boxed, so that the table of a crowd that has gone is small.
    clients: Vec<Option<Box<ClientSocket>>>,
    open: usize,
    handshakes: Handshakes,
    /// By [`LaneId`].
    lanes: Vec<LaneSocket<P::Lane>>,
    seed: u64,
    scratch: Box<[u8]>,
    /// The turn's time.
    now: Instant,
    batch: Vec<Token>,
    /// Sources to be handled again next turn.
    again: Vec<Token>,
    dirty_lanes: Vec<LaneId>,
    dirty_clients: Vec<ClientId>,
    cuts: Vec<(LaneId, CutCause)>,
    slow: Vec<ClientId>,
    flushes: flushes::Flushes,
    sign_in_desk: SignInDesk,
    sign_ins: Vec<SignIn>,
    alarm: Alarm,
    /// What `alarm` is set to.
    courtesy: Courtesy,
    busy_poll: BusyPoll,
    armed: Option<Instant>,
    fold_at: Option<Instant>,
    tick_at: Instant,
    next_retry: Option<Instant>,
    /// Processor time of the thread when it was last counted, by whichever of its loops.
    busy_before: Arc<AtomicU64>,
    /// Idle clients were swept after the grace of a shutdown.
    swept: bool,
    cut: usize,
    panics: Panics,
}

impl<P: DataPath> Worker<P> {
    /// Must be called inside the worker's runtime.
    fn new(setup: LoopSetup, mailbox: Mailbox) -> io::Result<Worker<P>> {
        let LoopSetup { setup, handle, busy_before } = setup;
        let now = setup.clock.now();
        // In this order: what is posted in between is seen as new.
        let board_version = setup.board.version();
        let in_force = setup.board.read();
        let settings = &in_force.settings;
        let telemetry = setup.telemetry;
        let mut engine = P::new(settings.clone(), setup.budgets, setup.workers, setup.seed);
        engine.share_writes(&setup.writes);
        engine.tell_wall_clock(setup.clock.unix_micros_at_zero());
        engine.share_principals(&setup.principals);
        engine.share_correlator(&setup.correlator);
        let arrivals_source = Source::new(&mailbox.ready, Token::Arrivals);
        let mut gates = Vec::new();
        for (index, doorway) in setup.doorways.into_iter().enumerate() {
            let source = Source::new(&mailbox.ready, Token::Gate(to_u32(index)));
            gates.push(OwnGate {
                gate: Gate::open(doorway, setup.caps.files().clone())?,
                source,
                rests_until: None,
            });
        }
        let door = |name: &str| DoorBook {
            metrics: telemetry.listener(name),
            accepts: Window::default(),
            closed: 0,
            short: 0,
        };
        let busy_poll = setup.board.read().config.process.busy_poll;
        let mut worker = Worker {
            index: setup.index,
            handle,
            clock: setup.clock,
            metrics: telemetry.worker(setup.index as usize),
            board_version,
            placements: Placements::default(),
            board: setup.board,
            caps: setup.caps,
            attribution: setup.attribution,
            lookups: Vec::new(),
            arrivals_source,
            reserve: Reserve::new()?,
            waiting: VecDeque::new(),
            arrivals_due: true,
            books: Books::new(P::PROTOCOL, telemetry.clone(), settings),
            gauges: Gauges::new(&telemetry),
            doors: settings.listeners.iter().map(|listener| door(&listener.name)).collect(),
            churns: Churns::default(),
            identities: Identities::default(),
            client_ends: ClientEnds::default(),
            clients: Vec::new(),
            open: 0,
            handshakes: Handshakes::default(),
            lanes: Vec::new(),
            seed: setup.seed,
            scratch: vec![0; LANE_READ].into_boxed_slice(),
            now,
            batch: Vec::new(),
            again: Vec::new(),
            dirty_lanes: Vec::new(),
            dirty_clients: Vec::new(),
            cuts: Vec::new(),
            slow: Vec::new(),
            sign_in_desk: setup.sign_in,
            sign_ins: Vec::new(),
            flushes: flushes::Flushes::new(&mailbox.ready),
            alarm: Alarm::new()?,
            courtesy: Courtesy::default(),
            busy_poll: BusyPoll::new(busy_poll),
            armed: None,
            fold_at: None,
            tick_at: now.after(TICK),
            next_retry: None,
            busy_before,
            swept: false,
            cut: 0,
            panics: Panics::default(),
            gates,
            mailbox,
            engine,
            in_force,
            telemetry,
        };
        worker.add_lanes();
        worker.again.push(Token::Orders);
        worker.again.extend((0..worker.gates.len()).map(|index| Token::Gate(to_u32(index))));
        Ok(worker)
    }
}

impl<P: DataPath> Future for Worker<P> {
    type Output = End;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<End> {
        self.get_mut().turn(cx)
    }
}

fn to_u32(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}
