//! The running weir as the control socket sees it: asks the workers, takes changes to them, shows them in the metrics.
//!
//! A change is decided and posted without waiting: it is either in force for all workers or was never begun. Looking
//! waits for the workers at most [`PATIENCE`]; one that does not answer is left out.

mod amplification;
mod merge;
mod purge;

use crate::admin::model::{ConfigReport, LimitsReport, RequestReport, Snapshot};
use crate::admin::{Answer, Audit, Change, ControlError, Exposition, Outcome, Plane};
use crate::caps::Caps;
use crate::clock::{Clock, seconds, unix_now};
use crate::config::Config;
use crate::fold::{shown_kind, shown_mode};
use crate::overrides::{Desk, Target, UnixTime, Who};
use crate::worker::orders::{Board, DeniedMethod, Drain, Look, WorkerHandle};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use weir_engine::correlate::{CorrelationId, Correlator};
use weir_engine::error::LimitKind as EngineLimit;
use weir_engine::settings::{CallerLimits, Settings};
use weir_engine::units::Span;
use weir_telemetry::{Event, Seconds, Severity, ShownLimits, Telemetry};

/// The longest wait for the workers' answers.
const PATIENCE: Duration = Duration::from_secs(2);
/// A worker whose loop has not turned for this long is stalled: it turns once a second with nothing to do.
pub const STALLED_AFTER: Span = Span::secs(5);
/// So many looks in a row must find it so.
const STILL_LOOKS: u32 = 2;
/// Changes that the control socket carries out within one second; each of them has its line in the log.
const CHANGES_PER_SECOND: u32 = 256;
/// Lines of a refused configuration that are logged.
const PROBLEMS_LOGGED: usize = 100;

/// The control side of a running weir.
#[derive(Debug)]
pub struct RunningPlane {
    clock: Clock,
    telemetry: Arc<Telemetry>,
    board: Arc<Board>,
    caps: Arc<Caps>,
    correlator: Arc<Correlator>,
    /// How many workers there are.
    threads: usize,
    /// The ways to them: one per worker and protocol, a worker's one after the other.
    workers: Vec<WorkerHandle>,
    desk: Mutex<Desk>,
    shown: Mutex<Shown>,
    started: AtomicBool,
    /// The second of the last change asked for on the control socket, and how many were asked for in it.
    changes: Mutex<(Seconds, u32)>,
    /// For how many looks in a row a worker's loop has not turned.
    still: AtomicU32,
}

/// What the metrics show of limits and overrides, so that what ends is taken back.
#[derive(Debug, Default)]
struct Shown {
    callers: BTreeSet<Arc<str>>,
    overrides: BTreeSet<(&'static str, String)>,
}

/// What it shares with the rest of the process.
#[derive(Debug)]
pub struct Around {
    /// The process's clock.
    pub clock: Clock,
    /// Its metrics.
    pub telemetry: Arc<Telemetry>,
    /// What is in force.
    pub board: Arc<Board>,
    /// Connection caps.
    pub caps: Arc<Caps>,
    /// What requests with an id did.
    pub correlator: Arc<Correlator>,
}

impl RunningPlane {
    /// A plane over these workers. Not ready before [`RunningPlane::set_started`].
    #[must_use]
    pub fn new(around: Around, threads: usize, workers: Vec<WorkerHandle>, desk: Desk) -> RunningPlane {
        let Around { clock, telemetry, board, caps, correlator } = around;
        let plane = RunningPlane {
            correlator,
            clock,
            telemetry,
            board,
            caps,
            threads,
            workers,
            desk: Mutex::new(desk),
            shown: Mutex::default(),
            started: AtomicBool::new(false),
            changes: Mutex::default(),
            still: AtomicU32::new(0),
        };
        let config = plane.desk().config().clone();
        plane.show_config(&config);
        plane.show_limits(&plane.board.read().settings);
        plane
    }

    /// Every listener is open and the workers run.
    pub fn set_started(&self) {
        self.started.store(true, Ordering::Release);
    }

    /// Reads the configuration again (SIGHUP). A bad file is refused whole, and every problem of it is logged.
    pub fn reload(&self) {
        let who = Who { uid: None, name: "SIGHUP".to_owned() };
        match self.change_now(&Change::Reload, &who) {
            Ok(outcome) => {
                self.log(Severity::Info, "reload", &outcome.summary);
                for note in outcome.notes.iter().take(PROBLEMS_LOGGED) {
                    eprintln!("weir: {note}");
                }
            }
            Err(error) => {
                self.log(Severity::Error, "reload_refused", "the configuration in force stays");
                for line in error.message().lines().take(PROBLEMS_LOGGED) {
                    eprintln!("weir: {line}");
                }
            }
        }
    }

    /// Takes out overrides that have ended. Called every second.
    pub fn expire(&self) {
        let now = UnixTime(unix_now());
        let mut desk = self.desk();
        if desk.next_expiry().is_none_or(|at| at > now) {
            return;
        }
        let ended = desk.expire(now).len();
        let (settings, denied) = (desk.effective(now), desk.denied(now));
        drop(desk);
        if ended > 0 {
            self.put_into_force(settings, denied, None);
            self.log(Severity::Info, "override_ended", "an override has ended by itself");
        }
    }

    /// Begins the shutdown.
    pub fn drain(&self, drain: Drain) {
        self.board.post(|in_force| in_force.drain = Some(drain));
        self.workers.iter().for_each(WorkerHandle::nudge);
    }

    /// When a shutdown that begins now closes idle clients and when everybody, `grace` being the time for the first.
    #[must_use]
    pub fn drain_times(&self, grace: Span) -> Drain {
        let now = self.clock.now();
        let deadline = now.after(self.board.read().config.process.drain_timeout);
        Drain { close_idle_at: now.after(grace).min(deadline), deadline }
    }

    /// Looks after the workers, once per second: whether one of their loops does not turn. After a pause of the whole
    /// machine every heartbeat is old for a moment, so one look alone says nothing.
    pub fn look_after(&self) -> Option<usize> {
        let now = self.clock.now();
        let still = self.workers.iter().position(|worker| {
            let beat = worker.heartbeat();
            beat.0 > 0 && now.since(beat) >= STALLED_AFTER
        });
        let looks = if still.is_some() { self.still.load(Ordering::Relaxed).saturating_add(1) } else { 0 };
        self.still.store(looks, Ordering::Relaxed);
        still.filter(|_| looks >= STILL_LOOKS).map(|handle| handle * self.threads / self.workers.len())
    }

    /// Writes a line of the log.
    pub fn log(&self, severity: Severity, cause: &'static str, message: &str) {
        self.telemetry.events().emit(&Event::new(severity, cause, message), seconds(self.clock.now()));
    }

    fn change_now(&self, change: &Change, who: &Who) -> Result<Outcome, ControlError> {
        if self.board.read().drain.is_some() {
            return Err(ControlError::Failed("weir is shutting down".to_owned()));
        }
        let now = UnixTime(unix_now());
        let mut desk = self.desk();
        let decided = desk.change(change, who, now);
        let denied = desk.denied(now);
        drop(desk);
        match decided {
            Ok(decision) => {
                if let Some(config) = &decision.reloaded {
                    self.show_config(config);
                }
                self.put_into_force(decision.settings, denied, decision.reloaded);
                Ok(decision.outcome)
            }
            Err(error) => {
                if *change == Change::Reload {
                    self.telemetry.config_refused();
                }
                Err(error)
            }
        }
    }

    fn put_into_force(&self, settings: Settings, denied: Arc<[DeniedMethod]>, config: Option<Arc<Config>>) {
        self.show_limits(&settings);
        self.board.post(|in_force| {
            in_force.denied = denied;
            in_force.settings = Arc::new(settings);
            if let Some(config) = config {
                in_force.config = config;
            }
        });
        self.workers.iter().for_each(WorkerHandle::nudge);
    }

    fn show_config(&self, config: &Config) {
        self.telemetry.configure_callers(config.settings.callers.keys().map(|name| &**name));
        self.telemetry.config_loaded(&config.hash.to_string(), seconds(self.clock.now()));
        self.correlator.set_max(config.process.correlated_requests_max as usize);
        self.correlator.set_notes_max(config.process.correlation_notes_max as usize);
        self.correlator.follow(&config.settings);
        let share = self.caps.share_files(config, self.threads);
        for (name, value) in merge::bounds(config, share) {
            self.telemetry.set_bound(name, value);
        }
    }

    /// `weir_limit`, `weir_limit_mode` and `weir_override_active`.
    fn show_limits(&self, settings: &Settings) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        self.telemetry.set_default_limits(shown_limits(&settings.undeclared));
        for gone in shown.callers.iter().filter(|name| !settings.callers.contains_key(*name)) {
            self.telemetry.set_caller_limits(gone, None);
        }
        for (name, limits) in &settings.callers {
            self.telemetry.set_caller_limits(name, Some(shown_limits(limits)));
        }
        shown.callers = settings.callers.keys().cloned().collect();
        let active: BTreeSet<(&'static str, String)> = self
            .desk()
            .limits(UnixTime(unix_now()))
            .overrides
            .into_iter()
            .map(|entry| match entry.target {
                Target::Limits { caller, .. } => ("limits", caller),
                Target::SwitchOff { listener, feature } => (feature.word(), listener),
                Target::Deny { method } => ("deny", method),
            })
            .collect();
        for (kind, target) in shown.overrides.difference(&active) {
            self.telemetry.set_override(kind, target, false);
        }
        for (kind, target) in &active {
            self.telemetry.set_override(kind, target, true);
        }
        shown.overrides = active;
    }

    /// A place for one more change in this second. What could not be logged is not done either.
    fn admit_change(&self) -> Result<(), ControlError> {
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let now = seconds(self.clock.now());
        if changes.0 != now {
            *changes = (now, 0);
        }
        if changes.1 >= CHANGES_PER_SECOND {
            let what = format!("{CHANGES_PER_SECOND} changes were made within this second; try again");
            return Err(ControlError::Full(what));
        }
        changes.1 += 1;
        Ok(())
    }

    async fn looks(&self) -> Vec<Look> {
        gather(self.workers.iter().filter_map(WorkerHandle::look).collect()).await
    }

    /// What the desk holds is whole after every call, so a panic elsewhere does not make it unusable.
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The answers that come within [`PATIENCE`], all together.
async fn gather<T>(waiting: Vec<oneshot::Receiver<T>>) -> Vec<T> {
    let until = tokio::time::Instant::now() + PATIENCE;
    let mut answers = Vec::with_capacity(waiting.len());
    for answer in waiting {
        if let Ok(Ok(answer)) = tokio::time::timeout_at(until, answer).await {
            answers.push(answer);
        }
    }
    answers
}

fn shown_limits(limits: &CallerLimits) -> ShownLimits {
    let mut shown = ShownLimits::new(shown_mode(limits.mode));
    for kind in EngineLimit::ALL {
        let limit = match kind {
            EngineLimit::OperationsPerRequest => limits.operations_per_request.map(|count| count.0),
            EngineLimit::OperationsPerSecond => limits.operations_per_second.map(|count| count.0),
            EngineLimit::OperationsInFlight => limits.operations_in_flight.map(|count| count.0),
            EngineLimit::BytesInFlight => limits.bytes_in_flight.map(|bytes| bytes.0),
        };
        shown = shown.with(shown_kind(kind), limit);
    }
    shown
}

impl Plane for RunningPlane {
    fn snapshot(&self) -> Answer<'_, Snapshot> {
        Box::pin(async move {
            let looks = self.looks().await;
            let in_force = self.board.read();
            let desk = self.desk();
            let view = merge::View {
                clock: self.clock,
                workers: self.threads,
                in_force: &in_force,
                posted: self.board.posted(),
                caps: &self.caps,
                desk: &desk,
                correlator: &self.correlator,
                not_ready: self.ready().err(),
            };
            merge::snapshot(&view, &looks)
        })
    }

    fn request(&self, id: CorrelationId) -> Answer<'_, Option<RequestReport>> {
        Box::pin(async move {
            // what the workers know is handed over first
            gather(self.workers.iter().filter_map(WorkerHandle::fold).collect()).await;
            let found = self.correlator.find(id, self.clock.now());
            found.map(|tracked| amplification::report(&tracked, self.clock))
        })
    }

    fn metrics(&self, accept: Option<&str>) -> Answer<'_, Exposition> {
        let accept = accept.map(str::to_owned);
        Box::pin(async move {
            gather(self.workers.iter().filter_map(WorkerHandle::fold).collect()).await;
            amplification::show(&self.correlator, &self.telemetry, self.clock.now());
            let page = self.telemetry.render(accept.as_deref(), seconds(self.clock.now()));
            Exposition { content_type: page.content_type, body: page.body.into_bytes() }
        })
    }

    fn ready(&self) -> Result<(), String> {
        if !self.started.load(Ordering::Acquire) {
            return Err("weir is starting".to_owned());
        }
        if self.board.read().drain.is_some() {
            return Err("weir is shutting down".to_owned());
        }
        if self.still.load(Ordering::Relaxed) >= STILL_LOOKS {
            return Err(format!("a worker's loop has not turned for {} s", STALLED_AFTER.0 / 1_000_000));
        }
        Ok(())
    }

    fn config(&self) -> ConfigReport {
        self.desk().report(UnixTime(unix_now()))
    }

    fn limits(&self) -> LimitsReport {
        self.desk().limits(UnixTime(unix_now()))
    }

    fn change(&self, change: Change, who: Who) -> Answer<'_, Result<Outcome, ControlError>> {
        Box::pin(async move {
            self.admit_change()?;
            let outcome = self.change_now(&change, &who)?;
            match &change {
                Change::PurgeCache(purge) => self.purge(purge).await,
                _ => Ok(outcome),
            }
        })
    }

    fn audit(&self, entry: &Audit) {
        // Whoever floods weir with what it does not do must not keep a line of what it did out of the log.
        let (cause, lines) = if entry.result == Audit::DONE {
            ("control", 2 * CHANGES_PER_SECOND) // those made at the end of the last second may be told in this one
        } else {
            ("control_refused", 1)
        };
        let event = Event::new(Severity::Info, cause, "control request")
            .text("who", &entry.who.name)
            .number("uid", entry.who.uid.map_or(u64::MAX, u64::from))
            .text("action", &entry.action)
            .text("result", &entry.result)
            .text("answer", &entry.answer);
        self.telemetry.events().emit_up_to(lines, &event, seconds(self.clock.now()));
    }
}
