//! Taking connections. With one worker its own loop accepts; with several, a small thread of its own does and hands
//! sockets out in turn (sharing a listening socket spreads few connections unevenly).
//!
//! Bounds: [`ACCEPT_MAX`] connections per look at a listener, so that clients being served get their turn; the channel to
//! a worker holds [`ARRIVALS_MAX`]. What comes on top waits in the kernel's backlog.

use crate::caps::farewell;
use crate::caps::files::{Files, OpenFile};
use crate::clock::{Clock, seconds};
use crate::fold::Protocol;
use crate::listen::{
    Accepted, ListenSocket, Listener, Next, Peer, Reserve, Shortage, SocketFile, accept_all, turn_all_away,
};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd, OwnedFd, RawFd};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};
use weir_engine::units::ListenerId;
use weir_telemetry::{CloseHow, Event, Severity, Telemetry};

/// Connections taken before others have their turn: about a third of a millisecond.
pub const ACCEPT_MAX: usize = 64;
/// Accepted sockets on their way to one worker.
pub const ARRIVALS_MAX: usize = 1_024;
/// How long the acceptor rests when no worker takes more, or a listener failed.
const REST: Duration = Duration::from_millis(1);
/// What a client reads that is turned away because no descriptor is left.
const NO_DESCRIPTOR: &str = "weir: too many connections (no file descriptor left)";

/// An accepted socket.
#[derive(Debug)]
pub struct Arrival {
    /// The door it came in by.
    pub listener: ListenerId,
    /// The socket: non-blocking, close-on-exec, TCP with NODELAY.
    pub socket: OwnedFd,
    /// Who connected.
    pub peer: Peer,
    /// Its place among the open files.
    pub file: OpenFile,
}

/// A listening socket, registered with the runtime of whoever accepts. Dropping it closes the door.
#[derive(Debug)]
pub struct Gate {
    /// The listener it belongs to.
    pub listener: ListenerId,
    /// Its name.
    pub name: Arc<str>,
    /// What its clients speak.
    pub protocol: Protocol,
    socket: AsyncFd<Fd>,
    /// What a client reads that is turned away for want of a descriptor.
    farewell: Vec<u8>,
    files: Arc<Files>,
    #[expect(dead_code, reason = "held for its drop, which removes the file")]
    file: Option<SocketFile>,
}

#[derive(Debug)]
struct Fd(ListenSocket);

impl AsRawFd for Fd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// A listening socket that is not registered yet.
#[derive(Debug)]
pub struct Doorway {
    /// The listener it belongs to.
    pub listener: ListenerId,
    /// Its name.
    pub name: Arc<str>,
    /// What its clients speak.
    pub protocol: Protocol,
    /// The socket.
    pub opened: Listener,
}

impl Gate {
    /// Registers a listening socket, whose connections count among `files`. Must be called inside a runtime.
    ///
    /// # Errors
    /// When the runtime cannot watch it.
    #[expect(unsafe_code, reason = "tokio asks for a promise that no type can express")]
    pub fn open(doorway: Doorway, files: Arc<Files>) -> io::Result<Gate> {
        let Listener { socket, file } = doorway.opened;
        // SAFETY: `Fd` owns the socket and gives it to nobody, so the descriptor stays open and the same for as long as
        // the `AsyncFd` owns the `Fd`.
        let socket = unsafe { AsyncFd::register_with_interest(Fd(socket), Interest::READABLE) };
        let socket = socket.map_err(|error| io::Error::other(error.to_string()))?;
        let Doorway { listener, name, protocol, .. } = doorway;
        let farewell = farewell(protocol, NO_DESCRIPTOR);
        Ok(Gate { listener, name, protocol, socket, farewell, files, file })
    }

    /// Takes up to `max` connections once there are any; where no open file is left for clients, turns them away. While
    /// the answer is `Ready` with [`Next::Readiness`], the next call registers the waker.
    pub fn poll_accept(
        &self,
        cx: &mut Context<'_>,
        max: usize,
        reserve: &mut Reserve,
        each: impl FnMut(Arrival),
    ) -> Poll<io::Result<Accepted>> {
        let mut guard = ready!(self.socket.poll_read_ready(cx))?;
        let outcome = self.accept_rest(max, reserve, each);
        if matches!(&outcome, Ok(accepted) if accepted.next == Next::Readiness) {
            guard.clear_ready();
        }
        Poll::Ready(outcome)
    }

    /// Takes what has waited so far, whatever the runtime knows: the last look before the door closes.
    ///
    /// # Errors
    /// When the listener is broken.
    pub fn accept_rest(
        &self,
        max: usize,
        reserve: &mut Reserve,
        mut each: impl FnMut(Arrival),
    ) -> io::Result<Accepted> {
        let (socket, room) = (&self.socket.get_ref().0, self.files.room());
        if room == 0 {
            return Ok(turn_all_away(socket, reserve, &self.farewell));
        }
        accept_all(socket, max.min(room), reserve, &self.farewell, |socket, peer| {
            each(Arrival { listener: self.listener, socket, peer, file: self.files.take() });
        })
    }
}

/// Counts and logs what one look at a listener did, and says how long to leave it alone.
pub fn account(
    telemetry: &Telemetry,
    listener: &str,
    outcome: &io::Result<Accepted>,
    clock: Clock,
) -> Option<Duration> {
    let (severity, cause, message, pause) = match outcome {
        Ok(Accepted { shed, next, .. }) => {
            let counted = telemetry.listener(listener);
            for _ in 0..*shed {
                counted.accepted().closed(CloseHow::Cap, 0);
            }
            match next {
                Next::Readiness | Next::Soon => return None,
                Next::Pause(pause, Shortage::Descriptors) => (
                    Severity::Error,
                    "no_descriptor",
                    "no file descriptor is left for clients: they are turned away",
                    *pause,
                ),
                Next::Pause(pause, Shortage::Memory) => {
                    (Severity::Error, "no_kernel_memory", "the kernel has no memory for connections", *pause)
                }
            }
        }
        Err(_) => (Severity::Error, "accept_failed", "the listener failed", Duration::from_secs(1)),
    };
    let error = outcome.as_ref().err().map(ToString::to_string).unwrap_or_default();
    let event = Event::new(severity, cause, message).text("listener", listener).text("error", &error);
    telemetry.events().emit(&event, seconds(clock.now()));
    Some(pause)
}

/// The thread that accepts for several workers.
#[derive(Debug)]
pub struct Acceptor {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Acceptor {
    /// Starts it. Connections go to the workers of their listener's protocol.
    ///
    /// # Errors
    /// When there is no thread or descriptor to be had.
    pub fn spawn(
        doorways: Vec<Doorway>,
        workers: HashMap<Protocol, Crew>,
        files: &Arc<Files>,
        telemetry: Arc<Telemetry>,
        clock: Clock,
    ) -> io::Result<Acceptor> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let entered = runtime.enter();
        let open = |doorway| Gate::open(doorway, files.clone());
        let gates = doorways.into_iter().map(open).collect::<io::Result<Vec<_>>>()?;
        drop(entered);
        let reserve = Reserve::new()?;
        let (stop, stopped) = oneshot::channel();
        let work = Work { gates, workers, reserve, telemetry, clock };
        let thread = std::thread::Builder::new()
            .name("acceptor".into())
            .spawn(move || runtime.block_on(work.run(stopped)))?;
        Ok(Acceptor { stop, thread })
    }

    /// Takes what waits, hands it out, and closes the doors.
    pub fn stop(self) {
        // Gone already means stopped already.
        let _ = self.stop.send(());
        let _ = self.thread.join();
    }
}

struct Work {
    gates: Vec<Gate>,
    workers: HashMap<Protocol, Crew>,
    reserve: Reserve,
    telemetry: Arc<Telemetry>,
    clock: Clock,
}

impl Work {
    async fn run(mut self, stopped: oneshot::Receiver<()>) {
        let mut stopped = pin!(stopped);
        loop {
            // Cancel-safe: a look at the gates either hands out what it took or took nothing.
            let rest = tokio::select! {
                biased;
                _ = &mut stopped => break,
                rest = std::future::poll_fn(|cx| self.poll_gates(cx)) => rest,
            };
            match rest {
                None => tokio::task::yield_now().await,
                Some(rest) => tokio::time::sleep(rest).await,
            }
        }
        for index in 0..self.gates.len() {
            let (gates, mut taken) = (&self.gates, Vec::new());
            // Whatever goes wrong with the last look, the door closes.
            let each = |arrival| taken.push(arrival);
            let protocol = gates[index].protocol;
            let Some(crew) = self.workers.get_mut(&protocol) else { continue };
            let _ = gates[index].accept_rest(crew.room(), &mut self.reserve, each);
            crew.hand_out(taken);
        }
    }

    /// Looks at every gate; how long to rest before the next look. Pending while none has anything.
    fn poll_gates(&mut self, cx: &mut Context<'_>) -> Poll<Option<Duration>> {
        let mut looked = Poll::Pending;
        for index in 0..self.gates.len() {
            loop {
                let gate = &self.gates[index];
                let Some(crew) = self.workers.get_mut(&gate.protocol) else { break };
                let room = crew.room();
                if room == 0 {
                    return Poll::Ready(Some(REST));
                }
                let mut taken = Vec::new();
                let each = |arrival| taken.push(arrival);
                let Poll::Ready(outcome) =
                    gate.poll_accept(cx, room.min(ACCEPT_MAX), &mut self.reserve, each)
                else {
                    break;
                };
                let rest = account(&self.telemetry, &gate.name, &outcome, self.clock);
                crew.hand_out(taken);
                looked = Poll::Ready(rest);
                if rest.is_some() {
                    return looked;
                }
                if !matches!(outcome, Ok(Accepted { next: Next::Readiness, .. })) {
                    break;
                }
            }
        }
        looked
    }
}

/// The workers of one protocol, as the acceptor reaches them.
#[derive(Debug, Default)]
pub struct Crew {
    workers: Vec<mpsc::Sender<Arrival>>,
    next: usize,
}

impl Crew {
    /// Adds a worker.
    pub fn push(&mut self, worker: mpsc::Sender<Arrival>) {
        self.workers.push(worker);
    }

    /// Sockets that fit into the channels now. Only the acceptor sends, so room does not vanish.
    fn room(&self) -> usize {
        self.workers.iter().map(mpsc::Sender::capacity).sum()
    }

    /// One socket each, in turn; a worker that has no room is passed over.
    fn hand_out(&mut self, taken: Vec<Arrival>) {
        for mut arrival in taken {
            for _ in 0..self.workers.len() {
                self.next = (self.next + 1) % self.workers.len();
                match self.workers[self.next].try_send(arrival) {
                    Ok(()) => break,
                    // With all of them full or gone, dropping it closes it.
                    Err(mpsc::error::TrySendError::Full(back) | mpsc::error::TrySendError::Closed(back)) => {
                        arrival = back;
                    }
                }
            }
        }
    }
}
