//! The connections of a run and the loop that serves them: one thread, one epoll, one `recv` and one `send` per
//! socket and turn.
//!
//! A scenario calls [`Client::wait`], then [`Client::next_ready`] until it gives nothing, and after each ready
//! connection takes the finished requests, asks for more and flushes. Bounds: the scenario decides how many
//! connections there are and how deep; replies are checked in one shared buffer, so an idle connection owns only
//! what its unanswered requests need.

use crate::clock::{Clock, Nanos};
use crate::epoll::{Event, Interest, Poller};
use crate::faults::Faults;
use crate::keys::KeyIndex;
use crate::net::{Failure, Target, dial};
use crate::wire::{Expected, Finished, Reader, World};
use anyhow::Result;
use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use std::collections::VecDeque;
use std::os::fd::OwnedFd;

/// The shared read buffer, bytes.
const SCRATCH: usize = 256 << 10;
/// A request buffer above this is given back once it was sent, bytes.
const KEEP: usize = 64 << 10;
/// Wait before a lost connection is dialled again.
const REDIAL: Nanos = 20_000_000;

mod serve;

/// A connection's place.
pub type Slot = usize;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Closed,
    Connecting,
    Open,
}

struct Connection {
    phase: Phase,
    socket: Option<OwnedFd>,
    /// Tells events of an earlier socket in the same place apart.
    generation: u32,
    out: Vec<u8>,
    sent: usize,
    interest: Interest,
    /// Not read while set; remembers whether something came.
    paused: bool,
    waiting: bool,
    expected: Expected,
    reader: Reader,
}

/// What happened to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is up.
    Connected,
    /// Bytes came.
    Progress,
    /// It is gone, or never came up; its requests have ended as failed.
    Closed,
}

/// A connection that was served.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    /// Which.
    pub slot: Slot,
    /// What happened.
    pub change: Change,
}

/// Numbers of a whole run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Connection attempts.
    pub dialled: u64,
    /// Connections that came up.
    pub connected: u64,
    /// Connections that ended by the server's doing, or never came up.
    pub lost: u64,
    /// Connections whose bytes fitted nothing that was asked.
    pub broken: u64,
    /// Most connections at once, attempts included.
    pub peak: u64,
    /// Bytes read.
    pub bytes_read: u64,
}

/// The connections of a run.
pub struct Client<'w> {
    world: &'w World,
    target: &'w Target,
    /// The run's clock.
    pub clock: Clock,
    /// Errors by text.
    pub faults: Faults,
    /// Numbers of the run.
    pub counts: Counts,
    /// Dial lost connections again.
    pub redial: bool,
    poller: Poller,
    connections: Vec<Connection>,
    free: Vec<Slot>,
    open: u64,
    events: Vec<Event>,
    next_event: usize,
    /// Connections with more to read than one turn allows, and ones that came out of a pause.
    again: VecDeque<(Slot, u32)>,
    lost: VecDeque<(Nanos, Slot)>,
    scratch: Vec<u8>,
    finished: Vec<Finished>,
}

impl<'w> Client<'w> {
    /// Starts without connections.
    pub fn new(world: &'w World, target: &'w Target, clock: Clock) -> Result<Self> {
        Ok(Self {
            world,
            target,
            clock,
            faults: Faults::default(),
            counts: Counts::default(),
            redial: false,
            poller: Poller::new(clock)?,
            connections: Vec::new(),
            free: Vec::new(),
            open: 0,
            events: Vec::new(),
            next_event: 0,
            again: VecDeque::new(),
            lost: VecDeque::new(),
            scratch: vec![0; SCRATCH],
            finished: Vec::new(),
        })
    }

    /// Starts one more connection. A failure that is known at once is returned and not counted.
    pub fn dial(&mut self) -> Result<Slot, Failure> {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.connections.push(Connection::new());
            self.connections.len() - 1
        });
        self.start(slot).inspect_err(|_| self.free.push(slot)).map(|()| slot)
    }

    fn start(&mut self, slot: Slot) -> Result<(), Failure> {
        self.counts.dialled += 1;
        let (socket, up) = dial(self.target)?;
        let connection = &mut self.connections[slot];
        connection.generation = connection.generation.wrapping_add(1);
        connection.interest = if up { Interest::Read } else { Interest::ReadWrite };
        let token = token(slot, connection.generation);
        self.poller
            .add(&socket, token, connection.interest)
            .map_err(|errno| Failure { call: "epoll_ctl", errno })?;
        connection.phase = if up { Phase::Open } else { Phase::Connecting };
        connection.socket = Some(socket);
        self.counts.connected += u64::from(up);
        self.open += 1;
        self.counts.peak = self.counts.peak.max(self.open);
        Ok(())
    }

    /// Opens `count` connections before any traffic, a few hundred attempts at a time so that no listen backlog
    /// overflows. Returns the slots that are up by `until`.
    pub fn open_all(&mut self, count: usize, until: Nanos) -> Result<Vec<Slot>> {
        const AT_ONCE: u64 = 256;
        let (mut started, mut up) = (0, Vec::with_capacity(count));
        let mut settled = 0;
        while settled < count && self.clock.now() < until {
            while started < count && (started - settled) as u64 <= AT_ONCE {
                started += 1;
                match self.dial() {
                    Ok(slot) if self.is_open(slot) => {
                        settled += 1;
                        up.push(slot);
                    }
                    Ok(_) => {}
                    // A full Unix backlog: a blocking connect would wait too.
                    Err(Failure { errno: Errno::AGAIN, .. }) => {
                        started -= 1;
                        std::thread::sleep(std::time::Duration::from_millis(1));
                        break;
                    }
                    Err(failure) => {
                        settled += 1;
                        self.faults.note(&failure.to_string(), 1);
                    }
                }
            }
            if settled == count {
                break;
            }
            let soon = self.clock.now() + 1_000_000;
            self.wait(if started < count { soon } else { until })?;
            while let Some(ready) = self.next_ready() {
                match ready.change {
                    Change::Connected => up.push(ready.slot),
                    Change::Closed => {}
                    Change::Progress => continue,
                }
                settled += 1;
            }
        }
        Ok(up)
    }

    /// Whether the connection is up.
    pub fn is_open(&self, slot: Slot) -> bool {
        self.connections[slot].phase == Phase::Open
    }

    /// Connections that are open or being opened.
    pub fn open(&self) -> u64 {
        self.open
    }

    /// Requests unanswered on this connection.
    pub fn depth(&self, slot: Slot) -> usize {
        self.connections[slot].expected.depth()
    }

    /// Requests unanswered on all connections.
    pub fn unanswered(&self) -> usize {
        self.connections.iter().map(|connection| connection.expected.depth()).sum()
    }

    /// Asks for keys; leaves with the next flush (or once the connection is up).
    pub fn get(&mut self, slot: Slot, keys: impl Iterator<Item = KeyIndex>, started: Nanos) {
        let connection = &mut self.connections[slot];
        connection.expected.get(self.world, keys, started, &mut connection.out);
    }

    /// Stores a key; leaves with the next flush (or once the connection is up).
    pub fn set(&mut self, slot: Slot, key: KeyIndex, started: Nanos) {
        let connection = &mut self.connections[slot];
        connection.expected.set(self.world, key, started, &mut connection.out);
    }

    /// Sends what is waiting. Errors show when the connection is read.
    pub fn flush(&mut self, slot: Slot) {
        let connection = &mut self.connections[slot];
        let (Phase::Open, Some(socket)) = (connection.phase, &connection.socket) else { return };
        while connection.sent < connection.out.len() {
            match send(socket, &connection.out[connection.sent..], SendFlags::NOSIGNAL | SendFlags::DONTWAIT)
            {
                Ok(count) => connection.sent += count,
                Err(Errno::INTR) => {}
                Err(_) => break,
            }
        }
        let done = connection.sent == connection.out.len();
        if done {
            connection.sent = 0;
            connection.out.clear();
            if connection.out.capacity() > KEEP {
                connection.out = Vec::new();
            }
        }
        let interest = if done { Interest::Read } else { Interest::ReadWrite };
        if interest != connection.interest {
            connection.interest = interest;
            // Fails only for a socket that is not registered, which an open connection is.
            let _ = self.poller.change(socket, token(slot, connection.generation), interest);
        }
    }

    /// Closes a connection in the ordinary way (FIN, by this side).
    pub fn close(&mut self, slot: Slot) {
        let connection = &mut self.connections[slot];
        if connection.phase == Phase::Closed {
            return;
        }
        connection.expected.fail_all(&mut self.finished);
        connection.clear();
        self.free.push(slot);
        self.open -= 1;
    }

    /// Stops reading a connection, or goes on.
    pub fn pause(&mut self, slot: Slot, paused: bool) {
        let connection = &mut self.connections[slot];
        connection.paused = paused;
        if !paused && std::mem::take(&mut connection.waiting) {
            self.again.push_back((slot, connection.generation));
        }
    }

    /// Ends requests that started before `before`, with their connections, as an impatient client does.
    pub fn expire(&mut self, before: Nanos) {
        for slot in 0..self.connections.len() {
            if self.connections[slot].expected.oldest().is_some_and(|started| started < before) {
                self.lose(slot, "timed out");
            }
        }
    }

    /// Ends one connection and its requests with this text.
    pub fn lose(&mut self, slot: Slot, text: &str) {
        let connection = &mut self.connections[slot];
        if connection.phase == Phase::Closed {
            return;
        }
        let failed = connection.expected.fail_all(&mut self.finished);
        self.faults.note(text, failed.max(1) as u64);
        connection.clear();
        self.open -= 1;
        self.counts.lost += 1;
        if self.redial {
            self.lost.push_back((self.clock.now() + REDIAL, slot));
        } else {
            self.free.push(slot);
        }
    }

    /// Moves the requests that ended into `to`.
    pub fn take_finished(&mut self, to: &mut Vec<Finished>) {
        to.append(&mut self.finished);
    }
}

impl Connection {
    fn new() -> Self {
        Self {
            phase: Phase::Closed,
            socket: None,
            generation: 0,
            out: Vec::new(),
            sent: 0,
            interest: Interest::Read,
            paused: false,
            waiting: false,
            expected: Expected::default(),
            reader: Reader::default(),
        }
    }

    fn clear(&mut self) {
        self.phase = Phase::Closed;
        self.socket = None;
        self.out.clear();
        self.sent = 0;
        self.paused = false;
        self.waiting = false;
        self.reader.reset();
    }
}

fn token(slot: Slot, generation: u32) -> u64 {
    slot as u64 | u64::from(generation) << 32
}
