//! Which local process is at the other end of a TCP connection. One thread finds out, in batches and with an upper bound
//! on its work; the accept path only leaves a [`Lookup`] behind and goes on.
//!
//! A batch takes these steps:
//!
//! 1. Lookups collect for [`BATCH_WINDOW`], longer while the last walk is younger than [`WALK_INTERVAL`] or was costly;
//!    shorter where a request over its caller's ceiling waits for its name ([`Desk::hurry`]): its sender may soon be gone.
//! 2. With the key `attribution`, [`probes`] asks `weir-probes`, which saw connections when they were made; the next two
//!    steps are for what it does not know.
//! 3. `sock_diag` asks the kernel for the clients' own sockets: user id and inode of each.
//! 4. `processes` walks `/proc/*/fd` for those inodes, likely processes first, and stops when all are found.
//! 5. The answers go to the callback, one call per batch.
//!
//! What cannot be known is said so ([`Unresolved`]) and never guessed: the caller is then the user id at best. Limits of
//! steps 3 and 4:
//!
//! - Only sockets of weir's own network namespace are seen, and only processes of its own pid namespace. A client in
//!   another container stays unresolved ([`Unresolved::NoSocket`], [`Unresolved::NoHolder`]) unless the containers
//!   share these namespaces.
//! - The file tables of another user's processes are readable only with `CAP_SYS_PTRACE`, which weir does not ask for:
//!   those callers are `uid:N`.
//! - A socket that several processes hold after a fork is named after the first holder found.
//! - A connection whose client closed before the batch ran is gone. While weir's own end is open, the four addresses
//!   cannot belong to anybody else; an answer for a connection that weir has closed since must be thrown away by the
//!   receiver, which knows it by its token.
//!
//! Clients on Unix sockets need none of this: see [`unix_peer`].

mod counters;
pub mod probes;
mod processes;
mod sock_diag;
pub mod unix_peer;

pub use counters::{Counters, Snapshot};
pub use processes::Process;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use weir_telemetry::labels::{INVALID, is_valid_name};

/// Lookups that may wait. What comes on top is dropped and counted: the caller then keeps its listener's name.
pub const INBOX_MAX: usize = 65_536;
/// How long lookups collect before they are answered together.
pub const BATCH_WINDOW: Duration = Duration::from_millis(250);
/// Shortest time from one walk over the process table to the next: at most two per second.
pub const WALK_INTERVAL: Duration = Duration::from_millis(500);

/// After a walk that took time `t` the next one waits at least so many times `t`: however many descriptors are open on
/// the machine, walking takes at most a fifth of one core, and that only while new connections keep coming.
const REST_PER_WALK: u32 = 4;

/// A question: who is at the other end of this connection?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// The address of the client as weir sees it (`getpeername`): the local address of the socket looked for.
    pub client_local_addr: SocketAddr,
    /// The address it is connected to (`getsockname`). An unspecified IP address stands for "any of weir's".
    pub weir_addr: SocketAddr,
    /// Handed back with the answer.
    pub token: u64,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The token of the [`Lookup`].
    pub token: u64,
    /// Owner of the client's socket, if there was one to be seen.
    pub uid: Option<u32>,
    /// The process, or why there is none.
    pub process: Result<Process, Unresolved>,
    /// When the kernel had been asked for the socket: a connection that weir still had open then is the one meant.
    pub read_at: Instant,
}

impl Resolved {
    /// What the caller is called: the process name, else `uid:N`, else nothing (the listener's name then).
    #[must_use]
    pub fn name(&self) -> Option<Arc<str>> {
        match (&self.process, self.uid) {
            (Ok(process), _) => Some(Arc::clone(&process.name)),
            (Err(_), Some(uid)) => Some(format!("uid:{uid}").into()),
            (Err(_), None) => None,
        }
    }
}

/// Why a connection has no process name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Unresolved {
    /// No such socket in this network namespace: the client closed already, or lives elsewhere.
    NoSocket,
    /// More than one socket fits, because the lookup named no address of weir.
    Ambiguous,
    /// The kernel did not answer the socket query.
    DumpFailed,
    /// No process that could be read holds the socket: it exited, or is in another pid namespace.
    NoHolder,
    /// The file tables of processes of the socket's user may not be read.
    Denied,
    /// The walk ended before the socket was found: at its bound, or for want of descriptors.
    Budget,
}

impl Unresolved {
    /// How many there are.
    pub const COUNT: usize = 6;
    /// All of them, in the order of [`Unresolved::index`].
    pub const ALL: [Unresolved; Unresolved::COUNT] = [
        Unresolved::NoSocket,
        Unresolved::Ambiguous,
        Unresolved::DumpFailed,
        Unresolved::NoHolder,
        Unresolved::Denied,
        Unresolved::Budget,
    ];

    /// Place in [`Unresolved::ALL`].
    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }

    /// Label value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Unresolved::NoSocket => "no_socket",
            Unresolved::Ambiguous => "ambiguous",
            Unresolved::DumpFailed => "dump_failed",
            Unresolved::NoHolder => "no_holder",
            Unresolved::Denied => "denied",
            Unresolved::Budget => "budget",
        }
    }
}

/// Where answers go: called from the attribution thread, once per batch, never with an empty list.
pub type Deliver = Box<dyn Fn(Vec<Resolved>) + Send>;

/// The thread and its inbox. Dropping it ends the thread.
#[derive(Debug)]
pub struct Attribution {
    desk: Desk,
    thread: Option<JoinHandle<()>>,
}

impl Attribution {
    /// Starts the thread. `probes` is asked first, where there is one.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub fn spawn(deliver: Deliver, probes: Option<probes::Probes>) -> std::io::Result<Attribution> {
        let desk = Desk::default();
        let shared = Arc::clone(&desk.shared);
        let thread = std::thread::Builder::new()
            .name("attribution".into())
            .spawn(move || run(&shared, &deliver, probes))?;
        Ok(Attribution { desk, thread: Some(thread) })
    }

    /// The way to ask, for as many threads as like to.
    #[must_use]
    pub fn desk(&self) -> Desk {
        self.desk.clone()
    }
}

impl Drop for Attribution {
    fn drop(&mut self) {
        self.desk.shared.inbox().closed = true;
        self.desk.shared.arrived.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic over there was printed by its own thread; there is nothing left to undo here.
            let _ = thread.join();
        }
    }
}

/// Takes lookups. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Desk {
    shared: Arc<Shared>,
}

impl Desk {
    /// Leaves lookups behind and returns at once; `lookups` is empty afterwards. One call per loop turn is one lock,
    /// whatever came in. Returns how many were dropped because [`INBOX_MAX`] were waiting.
    pub fn ask(&self, lookups: &mut Vec<Lookup>) -> usize {
        if lookups.is_empty() {
            return 0;
        }
        let mut inbox = self.shared.inbox();
        let room = INBOX_MAX - inbox.waiting.len().min(INBOX_MAX);
        let dropped = lookups.len().saturating_sub(room);
        lookups.truncate(room);
        let first = inbox.waiting.is_empty() && !lookups.is_empty();
        self.shared.counters.asked(lookups.len() + dropped, dropped);
        inbox.waiting.append(lookups);
        drop(inbox);
        if first {
            self.shared.arrived.notify_one();
        }
        dropped
    }

    /// One of the lookups left behind is about a request over its caller's ceiling: it need not wait for company, only for
    /// [`BATCH_WINDOW`] since the last batch and for its turn to walk.
    pub fn hurry(&self) {
        let mut inbox = self.shared.inbox();
        if !inbox.waiting.is_empty() && !inbox.hurry {
            inbox.hurry = true;
            drop(inbox);
            self.shared.arrived.notify_one();
        }
    }

    /// What was counted so far.
    #[must_use]
    pub fn counters(&self) -> Snapshot {
        self.shared.counters.snapshot()
    }
}

#[derive(Debug, Default)]
struct Shared {
    inbox: Mutex<Inbox>,
    arrived: Condvar,
    counters: Counters,
}

/// A list that is swapped out whole: it takes memory only while there is something to ask, which a channel of
/// [`INBOX_MAX`] places would not.
#[derive(Debug, Default)]
struct Inbox {
    waiting: Vec<Lookup>,
    /// One of them is urgent.
    hurry: bool,
    closed: bool,
}

impl Shared {
    /// The list stays sound whatever a holder of the lock did, so a poisoned lock is taken all the same.
    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a first lookup, then until the window is over (which begins with the lookup, or if one is urgent with the
    /// batch before) and `not_before` has passed. `None`: closed.
    fn next_batch(&self, last: Option<Instant>, not_before: Option<Instant>) -> Option<Vec<Lookup>> {
        let mut inbox = self.inbox();
        while inbox.waiting.is_empty() && !inbox.closed {
            inbox = self.arrived.wait(inbox).unwrap_or_else(PoisonError::into_inner);
        }
        let window_ends = Instant::now() + BATCH_WINDOW;
        while !inbox.closed {
            let window_ends =
                if inbox.hurry { last.map(|last| last + BATCH_WINDOW) } else { Some(window_ends) };
            let until = window_ends.max(not_before);
            let left = until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                inbox.hurry = false;
                return Some(std::mem::take(&mut inbox.waiting));
            }
            inbox = self.arrived.wait_timeout(inbox, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        None
    }
}

fn run(shared: &Shared, deliver: &Deliver, mut probes: Option<probes::Probes>) {
    if let Some(probes) = &mut probes {
        probes.greet();
    }
    let mut diag = sock_diag::SockDiag::default();
    let mut table = processes::ProcessTable::of_this_system();
    let (mut last, mut next_walk) = (None, None);
    while let Some(batch) = shared.next_batch(last, next_walk) {
        last = Some(Instant::now());
        let known = probes.as_mut().map(|probes| probes.ask(&batch)).unwrap_or_default();
        let answers = complete(&batch, known, |rest| {
            resolve(rest, &mut diag, &mut table, &shared.counters, &mut next_walk)
        });
        shared.counters.answered(&answers);
        deliver(answers);
    }
}

/// The answers for a batch of which some may be known; `resolve` finds the others.
fn complete(
    batch: &[Lookup],
    mut known: Vec<Option<Resolved>>,
    resolve: impl FnOnce(&[Lookup]) -> Vec<Resolved>,
) -> Vec<Resolved> {
    known.resize(batch.len(), None);
    let unknown = |(lookup, known): (&Lookup, &Option<Resolved>)| known.is_none().then_some(*lookup);
    let rest: Vec<Lookup> = batch.iter().zip(&known).filter_map(unknown).collect();
    let mut found = if rest.is_empty() { Vec::new() } else { resolve(&rest) }.into_iter();
    known.into_iter().filter_map(|known| known.or_else(|| found.next())).collect()
}

/// Steps 3 and 4 for one batch.
fn resolve(
    batch: &[Lookup],
    diag: &mut sock_diag::SockDiag,
    table: &mut processes::ProcessTable,
    counters: &Counters,
    next_walk: &mut Option<Instant>,
) -> Vec<Resolved> {
    let owners = diag.owners(batch);
    let read_at = Instant::now();
    counters.queried(diag.take_queries());

    let wanted: HashMap<u32, u32> = owners.iter().flatten().map(|owner| (owner.inode, owner.uid)).collect();
    let mut found = processes::Walk::default();
    if !wanted.is_empty() {
        let started = Instant::now();
        found = table.find(&wanted);
        let took = started.elapsed();
        *next_walk = Some(started + WALK_INTERVAL.max(took * (1 + REST_PER_WALK)));
        counters.walked(took, found.links);
    }

    let answer = |(lookup, owner): (&Lookup, Result<sock_diag::SocketOwner, Unresolved>)| match owner {
        Ok(owner) => Resolved {
            token: lookup.token,
            uid: Some(owner.uid),
            process: found.holder(owner.inode, owner.uid),
            read_at,
        },
        Err(reason) => Resolved { token: lookup.token, uid: None, process: Err(reason), read_at },
    };
    batch.iter().zip(owners).map(answer).collect()
}

/// A process name as a caller's name: as it is when the rule for names allows it, else `_invalid`.
fn caller_name(comm: &[u8]) -> Arc<str> {
    let comm = comm.strip_suffix(b"\n").unwrap_or(comm);
    match std::str::from_utf8(comm) {
        Ok(name) if is_valid_name(name) => name.into(),
        _ => INVALID.into(),
    }
}

#[cfg(test)]
mod tests;
