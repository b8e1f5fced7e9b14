//! `weir run`: build everything, say `ready`, wait, drain, exit code.

use crate::accept::{Acceptor, Crew, Doorway};
use crate::admin::{AdminListener, Plane, serve};
use crate::attribution::probes::Probes;
use crate::attribution::{Attribution, Deliver, Desk as AttributionDesk};
use crate::caps::Caps;
use crate::cli::RunArgs;
use crate::clock::{Clock, seconds, unix_now};
use crate::config::problem::file_name;
use crate::config::{Config, Door};
use crate::drain::{Signals, until_the_end};
use crate::fold::{PROTOCOLS, Protocol};
use crate::listen::{self, BindError, Inherited};
use crate::notify::Notify;
use crate::overrides::{Desk, Store, UnixTime};
use crate::plane::RunningPlane;
use crate::sign_in::{self, SignInDesk};
use crate::topology::Topology;
use crate::worker::orders::{Board, Found, InForce, WorkerHandle, client_of};
use crate::worker::{self, Running, Setup};
use rustix::process::{Resource, getrlimit, setrlimit};
use std::collections::HashMap;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use weir_engine::admit::Budgets;
use weir_engine::correlate::Correlator;
use weir_engine::cql::Writes;
use weir_engine::cql::principals::Principals;
use weir_engine::settings::{Address, Backend, Settings};
use weir_telemetry::{AskResult, Event, Severity, Telemetry, TelemetryConfig};

/// Runs weir until it is told to end.
#[must_use]
pub fn run(args: RunArgs) -> ExitCode {
    crate::memory::give_back_large_blocks();
    match start(args) {
        Ok(code) => code,
        Err(problem) => {
            eprintln!("weir: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn start(args: RunArgs) -> Result<ExitCode, anyhow::Error> {
    let notify = Notify::from_environment();
    let config =
        Config::from_flags(&args).map_err(|problems| anyhow::anyhow!("cannot start:\n{problems}"))?;
    for warning in &config.warnings {
        eprintln!("weir: {warning}");
    }
    raise_descriptors(&config);
    let clock = Clock::start();
    let telemetry = Telemetry::new(TelemetryConfig {
        max_callers: config.process.max_callers as usize,
        configured_callers: config.settings.callers.keys().map(ToString::to_string).collect(),
        version: env!("CARGO_PKG_VERSION"),
        ..TelemetryConfig::new(&*PROTOCOLS, clock.started_unix_seconds())
    });
    log_panics(telemetry.clone(), clock);

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let signals = {
        let _entered = runtime.enter();
        Signals::take()?
    };
    let doorways = open_doors(&config)?;
    let admin = runtime.block_on(open_admin(&config, &args))?;
    let ready = ready_line(&config, &admin);
    let (workers, process) = (config.process.workers.max(1), config.process.clone());

    let now = UnixTime(unix_now());
    let (store, trouble) = Store::open(process.state_dir.as_deref(), now);
    trouble.iter().for_each(|trouble| eprintln!("weir: {trouble}"));
    let desk = Desk::new(args, config, store, now);
    let config = desk.config().clone();
    let settings = Arc::new(desk.effective(now));
    let caps = Arc::new(Caps::new(settings.listeners.len()));
    caps.share_files(&config, workers as usize);
    let board = Arc::new(Board::new(InForce { settings, config, denied: desk.denied(now), drain: None }));

    let answers = Answers::default();
    let probes = process.attribution.as_ref().and_then(|address| {
        let timeout = Duration::from_micros(process.attribution_timeout.0);
        ask_at(address, timeout, telemetry.clone(), clock)
    });
    let attribution = match Attribution::spawn(answers.deliver(), probes) {
        Ok(attribution) => Some(attribution),
        Err(error) => {
            eprintln!("weir: process names of TCP clients stay unknown: {error}");
            None
        }
    };
    let (sign_in, asks) = SignInDesk::new();
    let principals = Arc::new(Principals::default());
    let tracked = process.correlated_requests_max as usize;
    let correlator = Arc::new(Correlator::new(tracked, seed(workers)));
    correlator.set_notes_max(process.correlation_notes_max as usize);
    let parts = Parts {
        correlator: correlator.clone(),
        sign_in,
        principals: principals.clone(),
        workers,
        clock,
        telemetry: telemetry.clone(),
        board: board.clone(),
        caps: caps.clone(),
        attribution: attribution.as_ref().map(Attribution::desk),
    };
    let (running, acceptor) = parts.start(doorways)?;
    let handles = running.iter().flat_map(|worker| &worker.handles);
    let handles: Vec<WorkerHandle> = handles.map(|(_, handle)| handle.clone()).collect();
    answers.open(handles.clone());
    let topology = Topology {
        board: board.clone(),
        workers: handles.clone(),
        telemetry: telemetry.clone(),
        clock,
        seed: seed(workers),
    };
    runtime.spawn(topology.run());
    let desk_of_users = sign_in::Around { board: board.clone(), telemetry: telemetry.clone(), principals };
    runtime.spawn(sign_in::serve(asks, handles.clone(), desk_of_users, clock));
    let around = crate::plane::Around { clock, telemetry, board, caps, correlator };
    let plane = Arc::new(RunningPlane::new(around, workers as usize, handles, desk));
    for listener in admin {
        let plane: Arc<dyn Plane> = plane.clone();
        runtime.spawn(serve(listener, plane));
    }

    plane.set_started();
    // Nobody may be reading; weir serves all the same.
    let mut stdout = std::io::stdout();
    let _ = writeln!(stdout, "{ready}").and_then(|()| stdout.flush());
    notify.send("READY=1");

    let (ended, threads): (Vec<_>, Vec<_>) =
        running.into_iter().map(|worker| (worker.ended, worker.thread)).unzip();
    let exit = runtime.block_on(until_the_end(plane, signals, ended, acceptor, &notify));
    if matches!(exit, crate::drain::Exit::Drained { .. }) {
        for thread in threads {
            // A panic over there was printed by its own thread.
            let _ = thread.join();
        }
        drop(attribution);
    } else {
        // A thread that does not end must not keep the process: leaving `main` ends it.
        let _never_dropped = std::mem::ManuallyDrop::new(attribution);
        runtime.shutdown_background();
    }
    Ok(exit.code())
}

/// What every worker shares.
struct Parts {
    correlator: Arc<Correlator>,
    sign_in: SignInDesk,
    principals: Arc<Principals>,
    workers: u32,
    clock: Clock,
    telemetry: Arc<Telemetry>,
    board: Arc<Board>,
    caps: Arc<Caps>,
    attribution: Option<AttributionDesk>,
}

impl Parts {
    /// One worker accepts for itself; several have an acceptor.
    fn start(self, doorways: Vec<Doorway>) -> std::io::Result<(Vec<Running>, Option<Acceptor>)> {
        let budgets = Arc::new(Budgets::default());
        let (calls, doorways): (Vec<_>, Vec<_>) =
            doorways.into_iter().partition(|doorway| doorway.protocol == Protocol::Rpc);
        let writes = Arc::new(Writes::default());
        let protocols = protocols(&self.board.read().settings);
        let (mut own, shared) =
            if self.workers == 1 { (doorways, Vec::new()) } else { (Vec::new(), doorways) };
        let mut running = Vec::new();
        // with nothing but services there is nothing for workers to do
        let workers = if protocols.is_empty() { 0 } else { self.workers };
        for index in 0..workers {
            running.push(worker::spawn(Setup {
                index,
                handle: index * protocols.len() as u32, // at most two
                protocols: protocols.clone(),
                workers: self.workers,
                clock: self.clock,
                telemetry: self.telemetry.clone(),
                board: self.board.clone(),
                budgets: budgets.clone(),
                writes: writes.clone(),
                principals: self.principals.clone(),
                correlator: self.correlator.clone(),
                sign_in: self.sign_in.clone(),
                caps: self.caps.clone(),
                attribution: self.attribution.clone(),
                doorways: std::mem::take(&mut own),
                seed: seed(index),
            })?);
        }
        // after the workers, whose places among the handles are counted
        if !calls.is_empty() {
            running.push(crate::rpc::spawn(crate::rpc::Setup {
                index: self.workers,
                clock: self.clock,
                telemetry: self.telemetry.clone(),
                board: self.board.clone(),
                budgets: budgets.clone(),
                correlator: self.correlator.clone(),
                caps: self.caps.clone(),
                threads: self.workers,
                doorways: calls,
                seed: seed(self.workers),
            })?);
        }
        let acceptor = if shared.is_empty() {
            None
        } else {
            let mut crews: HashMap<Protocol, Crew> = HashMap::new();
            for (protocol, handle) in running.iter().flat_map(|worker| &worker.handles) {
                crews.entry(*protocol).or_default().push(handle.arrivals.clone());
            }
            Some(Acceptor::spawn(shared, crews, self.caps.files(), self.telemetry, self.clock)?)
        };
        Ok((running, acceptor))
    }
}

/// What the listeners speak: a worker runs one loop for each. The listeners stay the same for the life of the process.
fn protocols(settings: &Settings) -> Vec<Protocol> {
    let spoken = |wanted: &Protocol| settings.listeners.iter().any(|l| Protocol::of(l.backend) == *wanted);
    [Protocol::Memcached, Protocol::Cql].into_iter().filter(spoken).collect()
}

/// Where attribution's answers go: to the worker each one names. Answers wait for the workers to be there.
#[derive(Clone, Default)]
struct Answers {
    workers: Arc<std::sync::OnceLock<Vec<WorkerHandle>>>,
}

impl Answers {
    fn open(&self, workers: Vec<WorkerHandle>) {
        // Called once.
        let _ = self.workers.set(workers);
    }

    fn deliver(&self) -> Deliver {
        let workers = self.workers.clone();
        Box::new(move |answers| {
            let mut by_worker: HashMap<u32, Vec<_>> = HashMap::new();
            for answer in answers {
                let (worker, client) = client_of(answer.token);
                let found = Found { client, name: answer.name(), read_at: answer.read_at };
                by_worker.entry(worker).or_default().push(found);
            }
            for (index, names) in by_worker {
                if let Some(worker) = workers.get().and_then(|workers| workers.get(index as usize)) {
                    worker.name(names);
                }
            }
        })
    }
}

/// The socket of weir-probes, with what comes of asking counted and, where it fails, logged.
fn ask_at(address: &Address, timeout: Duration, telemetry: Arc<Telemetry>, clock: Clock) -> Option<Probes> {
    let Address::Unix { path } = address else { return None }; // the configuration's own check saw to it
    let shown = address.to_string();
    let report = move |result: AskResult, questions: u64, why: Option<&str>| {
        telemetry.attribution_questions(result, questions);
        if let Some(why) = why {
            let event = Event::new(Severity::Warn, "attribution_failed", "weir looks for processes itself")
                .text("socket", &shown)
                .text("result", result.name())
                .text("why", why);
            telemetry.events().emit(&event, seconds(clock.now()));
        }
    };
    Some(Probes::at(Path::new(&**path), timeout, Box::new(report)))
}

/// Opens every listener, those a service manager passed on included.
fn open_doors(config: &Config) -> Result<Vec<Doorway>, anyhow::Error> {
    let mut passed_on = listen::inherited().map_err(|error| anyhow::anyhow!("socket activation: {error}"))?;
    let mut doorways = Vec::new();
    for door in &config.doors {
        let settings = &config.settings.listeners[door.listener.0 as usize];
        let opened = open_door(door, &settings.name, &settings.address, &mut passed_on)?;
        let protocol = Protocol::of(settings.backend);
        doorways.push(Doorway { listener: door.listener, name: settings.name.clone(), protocol, opened });
    }
    for unused in passed_on {
        eprintln!("weir: the inherited socket {:?} belongs to no listener and is closed", unused.name);
    }
    Ok(doorways)
}

fn open_door(
    door: &Door,
    name: &str,
    address: &Address,
    passed_on: &mut Vec<Inherited>,
) -> Result<listen::Listener, BindError> {
    let wanted = listen::Door {
        address: address.clone(),
        backlog: door.backlog,
        mode: door.mode,
        group: door.group.as_ref().map(|group| match group.gid {
            Some(gid) => gid.to_string().into(),
            None => group.name.clone(), // looked up, and missed, where the socket is made
        }),
    };
    match listen::take_matching(passed_on, name, address) {
        Some(socket) => listen::adopt(&wanted, socket),
        None => listen::bind(&wanted),
    }
}

async fn open_admin(config: &Config, args: &RunArgs) -> Result<Vec<AdminListener>, anyhow::Error> {
    // Where to look for an address that cannot be had: a flag takes the place of the file's key.
    let asked_by = |key: &str, flags: &[Address]| match &args.config {
        Some(file) if flags.is_empty() => format!("`{key}` of {}", file_name(file)),
        _ => format!("--{key}"),
    };
    let mut open = Vec::new();
    for address in &config.process.metrics {
        let opened = AdminListener::metrics(address).await;
        open.push(
            opened.map_err(|error| anyhow::anyhow!("{}: {error}", asked_by("metrics", &args.metrics)))?,
        );
    }
    for address in &config.process.admin {
        match AdminListener::control(address, config.process.admin_token_file.as_deref()).await {
            Ok(listener) => open.push(listener),
            Err(error) if config.process.admin_is_default => {
                eprintln!("weir: no control socket: {error} (--admin chooses another place)");
            }
            Err(error) => return Err(anyhow::anyhow!("{}: {error}", asked_by("admin", &args.admin))),
        }
    }
    Ok(open)
}

/// `weir: memcached 127.0.0.1:11311 -> 127.0.0.1:11211; metrics 127.0.0.1:9150; ready`
fn ready_line(config: &Config, admin: &[AdminListener]) -> String {
    let mut parts = Vec::new();
    for listener in &config.settings.listeners {
        let settings = &config.settings;
        let (protocol, servers): (_, Vec<String>) = match listener.backend {
            Backend::Pool(pool) => {
                let servers = settings.pools.get(pool.0 as usize).map(|pool| pool.servers.as_slice());
                let servers = servers.unwrap_or_default().iter();
                ("memcached", servers.map(|server| server.address.to_string()).collect())
            }
            Backend::Cluster(cluster) => {
                let contacts =
                    settings.clusters.get(cluster.0 as usize).map(|cluster| cluster.contacts.as_slice());
                ("cql", contacts.unwrap_or_default().iter().map(ToString::to_string).collect())
            }
            Backend::Service(service) => {
                let servers =
                    settings.services.get(service.0 as usize).map(|service| service.servers.as_slice());
                ("http", servers.unwrap_or_default().iter().map(ToString::to_string).collect())
            }
        };
        parts.push(format!("{protocol} {} -> {}", listener.address, servers.join(",")));
    }
    for listener in admin {
        let kind = if config.process.metrics.contains(listener.address()) { "metrics" } else { "admin" };
        parts.push(format!("{kind} {}", listener.address()));
    }
    format!("weir: {}; ready", parts.join("; "))
}

/// Open files: as many as the kernel allows, or as the configuration says. (The configuration's own check has compared
/// that with the caps, and warned; clients cannot take more than [`Caps::share_files`] leaves them.)
fn raise_descriptors(config: &Config) {
    let _ = listen::raise_nofile();
    if let Some(wanted) = config.process.nofile {
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = Some(limit.maximum.map_or(wanted, |most| most.min(wanted)));
        // Above the hard limit there is nothing to be had, and below it nothing fails.
        let _ = setrlimit(Resource::Nofile, limit);
    }
}

/// Tells workers' request ids and waits apart, and runs of weir from each other. Not a secret.
fn seed(index: u32) -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one((std::process::id(), index))
}

/// A panic is one line of the log, and at most one a second: what contains it goes on.
fn log_panics(telemetry: Arc<Telemetry>, clock: Clock) {
    std::panic::set_hook(Box::new(move |info| {
        let at = info.location().map(ToString::to_string).unwrap_or_default();
        let what = info.payload_as_str().unwrap_or("(no message)");
        let thread = std::thread::current();
        let event = Event::new(Severity::Error, "panic_at", "a defect of weir")
            .text("what", what)
            .text("at", &at)
            .text("thread", thread.name().unwrap_or("?"));
        telemetry.events().emit(&event, seconds(clock.now()));
    }));
}
