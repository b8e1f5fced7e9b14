//! From ready to gone: signals, the second hand, and the shutdown.
//!
//! ```text
//! SIGHUP              read the configuration again
//! SIGTERM, SIGINT     drain: close the doors, let idle clients go after GRACE, everybody at drain_timeout, exit 0
//! either, once more   exit at once
//! ```
//! The grace is there so that a connection that was just made is read once before it is judged idle.

use crate::accept::Acceptor;
use crate::notify::Notify;
use crate::plane::RunningPlane;
use crate::trim::Trimmer;
use crate::worker::End;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use weir_engine::units::Span;
use weir_telemetry::Severity;

/// How long clients with nothing in flight are kept after SIGTERM.
pub const GRACE: Span = Span::millis(250);
/// How long after the deadline a worker may take to end before it is left behind.
const OVERTIME: Duration = Duration::from_secs(2);
/// How often overrides, workers and memory are looked after.
const SECOND: Duration = Duration::from_secs(1);
/// Exit code when weir cannot go on (EX_SOFTWARE).
const BROKEN: u8 = 70;

/// What ended weir.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Everybody was served, or the deadline passed with so many connections cut.
    Drained {
        /// Connections that were not idle.
        cut: usize,
    },
    /// A second signal of this number.
    Forced(i32),
    /// A worker could not go on, or did not end.
    Broken,
}

impl Exit {
    /// What the process answers.
    #[must_use]
    pub fn code(self) -> ExitCode {
        match self {
            Exit::Drained { .. } => ExitCode::SUCCESS,
            Exit::Forced(signal) => ExitCode::from(128 + u8::try_from(signal).unwrap_or(0)),
            Exit::Broken => ExitCode::from(BROKEN),
        }
    }
}

/// The signals weir listens to. Made before weir says that it is ready.
#[derive(Debug)]
pub struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

impl Signals {
    /// Takes the signals. Must be called inside a runtime.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn take() -> io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// The next one. Cancel-safe: a signal that was not taken stays.
    async fn next(&mut self) -> i32 {
        tokio::select! {
            _ = self.terminate.recv() => libc::SIGTERM,
            _ = self.interrupt.recv() => libc::SIGINT,
            _ = self.hangup.recv() => libc::SIGHUP,
        }
    }

    /// SIGTERM or SIGINT. Cancel-safe: those that were not taken stay, and SIGHUP means nothing any more.
    async fn end(&mut self) -> i32 {
        loop {
            match self.next().await {
                libc::SIGHUP => {}
                signal => return signal,
            }
        }
    }
}

/// Runs until weir is to end.
pub async fn until_the_end(
    plane: Arc<RunningPlane>,
    mut signals: Signals,
    ended: Vec<oneshot::Receiver<End>>,
    acceptor: Option<Acceptor>,
    notify: &Notify,
) -> Exit {
    let mut workers = JoinSet::new();
    for worker in ended {
        workers.spawn(async move { worker.await.unwrap_or(End::Broken) });
    }
    let mut second_hand = SecondHand::new(plane.clone(), notify);
    loop {
        // Each branch is cancel-safe: signals and ticks that were not taken stay, and a worker's end stays in the set.
        tokio::select! {
            signal = signals.next() => match signal {
                libc::SIGHUP => plane.reload(),
                _ => break,
            },
            () = second_hand.tick() => {}
            Some(_) = workers.join_next() => {
                plane.log(Severity::Error, "worker_ended", "a worker cannot go on; weir ends");
                return Exit::Broken;
            }
        }
    }
    notify.send("STOPPING=1");
    plane.log(Severity::Info, "drain", "shutting down: no new connections");
    let times = plane.drain_times(GRACE);
    let acceptor = acceptor.map(|acceptor| tokio::task::spawn_blocking(move || acceptor.stop()));
    plane.drain(times);
    let longest = Duration::from_micros(times.deadline.since(times.close_idle_at).0 + GRACE.0) + OVERTIME;
    let exit = tokio::select! {
        signal = signals.end() => return Exit::Forced(signal),
        exit = all_ended(workers, &mut second_hand) => exit,
        () = tokio::time::sleep(longest) => {
            plane.log(Severity::Error, "drain_stuck", "a worker did not end in time");
            return Exit::Broken;
        }
    };
    if let Some(acceptor) = acceptor {
        // It ends within a second; a panic over there was printed by its own thread.
        let _ = acceptor.await;
    }
    let message = match exit {
        Exit::Drained { cut: 0 } => "drained".to_owned(),
        Exit::Drained { cut } => format!("drained; {cut} connections were cut at drain_timeout"),
        _ => "a worker broke while draining".to_owned(),
    };
    plane.log(Severity::Info, "drained", &message);
    exit
}

async fn all_ended(mut workers: JoinSet<End>, second_hand: &mut SecondHand<'_>) -> Exit {
    let mut exit = Exit::Drained { cut: 0 };
    loop {
        // Cancel-safe, as above.
        let end = tokio::select! {
            end = workers.join_next() => end,
            () = second_hand.tick() => continue,
        };
        exit = match (end, exit) {
            (None, exit) => return exit,
            (Some(Ok(End::Drained { cut: more })), Exit::Drained { cut }) => {
                Exit::Drained { cut: cut + more }
            }
            (Some(_), _) => Exit::Broken,
        };
    }
}

/// What is looked after every second: overrides, the workers' loops, memory.
struct SecondHand<'n> {
    plane: Arc<RunningPlane>,
    notify: &'n Notify,
    interval: tokio::time::Interval,
    trimmer: Trimmer,
    second: tokio::time::Instant,
}

impl SecondHand<'_> {
    /// Ticks every second, or more often where the service manager's watchdog asks for it.
    fn new(plane: Arc<RunningPlane>, notify: &Notify) -> SecondHand<'_> {
        let beat = notify.watchdog().map_or(SECOND, |longest| SECOND.min(longest / 3));
        let mut interval = tokio::time::interval(beat.max(Duration::from_millis(10)));
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let second = tokio::time::Instant::now();
        SecondHand { plane, notify, interval, trimmer: Trimmer::start(), second }
    }

    /// Cancel-safe: a tick that was not taken stays, and what follows it does not wait.
    async fn tick(&mut self) {
        let now = self.interval.tick().await;
        self.plane.expire();
        match self.plane.look_after() {
            None => self.notify.send("WATCHDOG=1"),
            Some(worker) => {
                let message = format!("the loop of worker {worker} has not turned for seconds");
                self.plane.log(Severity::Error, "worker_stalled", &message);
            }
        }
        if now >= self.second {
            self.second = now + SECOND;
            self.trimmer.second();
        }
    }
}
