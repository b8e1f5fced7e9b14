//! A fresh connection per key: dial, one `get`, close by the client. What a client does whose pool keeps fewer idle
//! connections than it has calls under way, and what filled 28 thousand ports in April 2026.
//!
//! Everything is counted, nothing is logged per failure. Bounds: `max_open` connections at once; the other calls
//! wait in a queue of numbers.

use crate::client::{Change, Client, Ready, Slot};
use crate::clock::Nanos;
use crate::closed_loop::EXPIRE_EVERY;
use crate::histogram::Histogram;
use crate::keys::KeyIndex;
use crate::net::Failure;
use crate::options::Run;
use crate::report::{Basis, Meter};
use crate::wire::Finished;
use anyhow::Result;
use clap::ValueEnum;
use rustix::io::Errno;
use std::collections::VecDeque;

/// What happens when a Unix socket's backlog is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WhenFull {
    /// the call fails (EAGAIN), as with non-blocking clients such as Go's
    Fail,
    /// the call waits, as with blocking clients; its time-out runs
    Wait,
}

/// One key to be looked up on a connection of its own.
#[derive(Clone, Copy)]
struct Call {
    key: KeyIndex,
    /// When its request fell due.
    due: Nanos,
    /// Its request's number.
    request: usize,
}

/// A request: many calls.
struct Request {
    due: Nanos,
    left: u32,
    failed: u32,
}

/// A call that has a connection.
struct Live {
    call: Call,
    serial: u64,
    asked: bool,
}

/// Dials, asks and closes.
pub struct Caller<'a, 'w> {
    run: &'a Run,
    /// The connections.
    pub client: Client<'w>,
    /// Counts of calls.
    pub meter: Meter,
    /// How long whole requests took, those with failed calls included.
    pub requests: Histogram,
    /// Requests all of whose calls ended.
    pub requests_finished: u64,
    /// Of those, requests with at least one failed call.
    pub requests_with_failures: u64,
    max_open: u64,
    when_full: WhenFull,
    /// Ask only once every dial has been settled.
    hold: bool,
    queue: VecDeque<Call>,
    live: Vec<Option<Live>>,
    /// When each live call was dialled, oldest first; time-outs count from there.
    order: VecDeque<(Nanos, Slot, u64)>,
    pending: Vec<Request>,
    serial: u64,
    /// Connections up but not asked (with `hold`).
    held: Vec<Slot>,
    backlog_full_until: Nanos,
    done: Vec<Finished>,
}

/// Dials between two looks at what came back.
const DIALS_AT_ONCE: usize = 32;
/// Wait before a full Unix backlog is tried again.
const FULL_WAIT: Nanos = 500_000;

impl<'a> Caller<'a, 'a> {
    /// Calls that fall due from `opens` to `closes` are counted.
    pub fn new(
        run: &'a Run,
        (opens, closes): (Nanos, Nanos),
        max_open: u64,
        when_full: WhenFull,
        hold: bool,
        interval: Option<f64>,
        scenario: &'static str,
    ) -> Result<Self> {
        Ok(Self {
            run,
            client: Client::new(&run.world, &run.target, run.clock)?,
            meter: Meter::new(opens, closes, Basis::Due, &run.watched).every(interval, scenario),
            requests: Histogram::default(),
            requests_finished: 0,
            requests_with_failures: 0,
            max_open,
            when_full,
            hold,
            queue: VecDeque::new(),
            live: Vec::new(),
            order: VecDeque::new(),
            pending: Vec::new(),
            serial: 0,
            held: Vec::new(),
            backlog_full_until: 0,
            done: Vec::new(),
        })
    }

    /// A request falls due: all its keys are to be called, each on its own connection.
    pub fn request(&mut self, keys: impl Iterator<Item = KeyIndex>, due: Nanos) {
        let request = self.pending.len();
        let before = self.queue.len();
        self.queue.extend(keys.map(|key| Call { key, due, request }));
        self.pending.push(Request { due, left: (self.queue.len() - before) as u32, failed: 0 });
    }

    /// Requests with calls that have not ended.
    pub fn requests_open(&self) -> u64 {
        self.pending.len() as u64 - self.requests_finished
    }

    /// Calls that have not ended.
    pub fn calls_open(&self) -> u64 {
        self.queue.len() as u64 + self.client.open()
    }

    /// One turn: dials some, serves what came, at most until `until`.
    pub fn turn(&mut self, until: Nanos) -> Result<()> {
        let mut now = self.run.clock.now();
        self.meter.tick(now);
        for _ in 0..DIALS_AT_ONCE {
            if self.client.open() >= self.max_open || now < self.backlog_full_until {
                break;
            }
            let Some(call) = self.queue.pop_front() else { break };
            if !self.dial(call) {
                break;
            }
        }
        now = self.run.clock.now();
        self.expire(now);
        if self.hold && self.queue.is_empty() && self.client.open() == self.held.len() as u64 {
            for slot in std::mem::take(&mut self.held) {
                self.ask(slot);
            }
            self.hold = false;
        }
        let more = !self.queue.is_empty() && self.client.open() < self.max_open;
        let until = if more { self.backlog_full_until } else { until.min(now + EXPIRE_EVERY) };
        self.client.wait(until)?;
        while let Some(Ready { slot, change }) = self.client.next_ready() {
            if change == Change::Connected && self.hold {
                self.held.push(slot);
            }
            self.settle(slot, change == Change::Closed);
        }
        Ok(())
    }

    /// `false`: no use in dialling on at once.
    fn dial(&mut self, call: Call) -> bool {
        let now = self.run.clock.now();
        let slot = match self.client.dial() {
            Ok(slot) => slot,
            Err(Failure { errno: Errno::AGAIN, call: "connect" })
                if self.when_full == WhenFull::Wait && now < call.due.saturating_add(self.run.timeout) =>
            {
                self.queue.push_front(call);
                self.backlog_full_until = now + FULL_WAIT;
                return false;
            }
            Err(failure) => {
                self.client.faults.note(&failure.to_string(), 1);
                self.meter.observe_unsent(call.due, 1, now);
                self.ended(call.request, true);
                return true;
            }
        };
        self.serial += 1;
        if self.live.len() <= slot {
            self.live.resize_with(slot + 1, || None);
        }
        self.live[slot] = Some(Live { call, serial: self.serial, asked: false });
        self.order.push_back((now, slot, self.serial));
        if !self.hold {
            self.ask(slot);
        } else if self.client.is_open(slot) {
            self.held.push(slot);
        }
        true
    }

    fn ask(&mut self, slot: Slot) {
        let Some(live) = self.live.get_mut(slot).and_then(Option::as_mut) else { return };
        live.asked = true;
        self.client.get(slot, std::iter::once(live.call.key), live.call.due);
        self.client.flush(slot);
    }

    /// Ends the call of this slot when its answer came or its connection is gone.
    fn settle(&mut self, slot: Slot, closed: bool) {
        self.client.take_finished(&mut self.done);
        let answer = self.done.pop();
        if answer.is_none() && !closed {
            return;
        }
        let Some(live) = self.live.get_mut(slot).and_then(Option::take) else { return };
        let now = self.run.clock.now();
        let failed = match answer {
            Some(finished) => {
                self.meter.observe(&finished, now);
                finished.failed
            }
            None => {
                self.held.retain(|other| *other != slot);
                self.meter.observe_unsent(live.call.due, 1, now);
                true
            }
        };
        debug_assert!(live.asked || failed);
        self.client.close(slot);
        self.ended(live.call.request, failed);
    }

    fn ended(&mut self, request: usize, failed: bool) {
        let request = &mut self.pending[request];
        request.left -= 1;
        request.failed += u32::from(failed);
        if request.left == 0 {
            self.requests_finished += 1;
            self.requests_with_failures += u64::from(request.failed > 0);
            self.requests.record(self.run.clock.now().saturating_sub(request.due));
        }
    }

    /// Ends calls that were dialled too long ago.
    fn expire(&mut self, now: Nanos) {
        while let Some((dialled, slot, serial)) = self.order.front().copied() {
            let live = self.live[slot].as_ref().filter(|live| live.serial == serial);
            if live.is_some() && dialled.saturating_add(self.run.timeout) > now {
                break;
            }
            self.order.pop_front();
            if live.is_some() {
                self.client.lose(slot, "timed out");
                self.settle(slot, true);
            }
        }
    }
}
