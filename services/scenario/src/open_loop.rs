//! Open loop: requests fall due by the clock, whether or not earlier ones were answered.
//!
//! No coordinated omission: a request that falls due while its connection is busy waits and is timed from its due
//! time. One that finds its connection idle is timed from when it is sent, so that the tool's own lateness (it
//! shares the cores with what it measures) is not counted as the server's; that lateness is reported beside.

use crate::ask::Ask;
use crate::client::{Change, Client, Slot};
use crate::clock::{Nanos, nanos};
use crate::closed_loop::EXPIRE_EVERY;
use crate::histogram::{Histogram, Quantiles};
use crate::options::Run;
use crate::report::{Basis, Checks, Measured, Meter};
use crate::usage::require_open_files;
use crate::wire::Finished;
use anyhow::{Result, bail};
use serde::Serialize;
use std::collections::VecDeque;

/// Requests that may wait for a connection. Beyond it new ones are counted as failed: the server is hopelessly
/// behind, and the tool must not become what runs out of memory.
pub const BACKLOG_MAX: usize = 100_000;

/// A request and when it falls due.
pub struct Arrival {
    /// After the loop's start.
    pub due: Nanos,
    /// The connection it belongs to (by number), or whichever is idle first.
    pub lane: Option<usize>,
    /// What to ask.
    pub ask: Ask,
}

/// The shape of an open loop.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Connections.
    pub connections: u32,
    /// Seconds before the measured window.
    pub warmup: f64,
    /// Seconds of the measured window.
    pub seconds: f64,
    /// Seconds between interim lines.
    pub interval: Option<f64>,
    /// For interim lines.
    pub scenario: &'static str,
}

/// What only an open loop can tell.
#[derive(Clone, Debug, Serialize)]
pub struct Punctuality {
    /// Requests that fell due.
    pub due: u64,
    /// Of those, how many found no idle connection and waited.
    pub waited_for_connection: u64,
    /// Requests dropped because 100,000 were waiting; also counted as failed.
    pub dropped: u64,
    /// How late the tool itself sent requests that found an idle connection.
    pub tool_late_us: Quantiles,
}

struct Loop<'a, 'w> {
    run: &'a Run,
    client: Client<'w>,
    meter: Meter,
    slots: Vec<Slot>,
    /// Lane of each slot.
    lane_of: Vec<usize>,
    own: Vec<VecDeque<(Nanos, Ask)>>,
    shared: VecDeque<(Nanos, Ask)>,
    idle: Vec<Slot>,
    queued: usize,
    due: u64,
    waited: u64,
    dropped: u64,
    late: Histogram,
    done: Vec<Finished>,
}

/// Sends what falls due in the window and waits for the answers.
pub fn run(
    run: &Run,
    shape: Shape,
    arrivals: impl Iterator<Item = Arrival>,
) -> Result<(Measured, Checks, Punctuality)> {
    require_open_files(u64::from(shape.connections))?;
    // Sleep to the microsecond; the default slack of 50 us would show in the figures.
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
    let mut client = Client::new(&run.world, &run.target, run.clock)?;
    let count = shape.connections as usize;
    let slots = client.open_all(count, run.clock.now() + run.timeout)?;
    if slots.len() < count {
        bail!(
            "{} of {count} connections to {} came up: {:?}",
            slots.len(),
            run.target.server,
            client.faults.counts()
        );
    }
    client.redial = true;
    let begin = run.clock.now();
    let opens = begin + nanos(shape.warmup);
    let closes = opens.saturating_add(nanos(shape.seconds));
    let meter = Meter::new(opens, closes, Basis::Due, &run.watched).every(shape.interval, shape.scenario);
    let mut lane_of = vec![0; slots.iter().max().map_or(0, |most| most + 1)];
    slots.iter().enumerate().for_each(|(lane, slot)| lane_of[*slot] = lane);
    let this = Loop {
        run,
        client,
        meter,
        own: vec![VecDeque::new(); slots.len()],
        idle: slots.clone(),
        lane_of,
        slots,
        shared: VecDeque::new(),
        queued: 0,
        due: 0,
        waited: 0,
        dropped: 0,
        late: Histogram::default(),
        done: Vec::new(),
    };
    this.serve(begin, closes, arrivals)
}

impl Loop<'_, '_> {
    fn serve(
        mut self,
        begin: Nanos,
        closes: Nanos,
        mut arrivals: impl Iterator<Item = Arrival>,
    ) -> Result<(Measured, Checks, Punctuality)> {
        let mut next = arrivals.next();
        let mut expire_at = begin + EXPIRE_EVERY;
        let give_up = closes.saturating_add(self.run.timeout);
        loop {
            let now = self.run.clock.now();
            self.meter.tick(now);
            if now >= closes && (now >= give_up || self.queued == 0 && self.client.unanswered() == 0) {
                break;
            }
            self.arrive_all(begin, closes, &mut next, &mut arrivals);
            if now >= expire_at {
                self.client.expire(now.saturating_sub(self.run.timeout));
                expire_at = now + EXPIRE_EVERY;
            }
            let wake = next.as_ref().map_or(Nanos::MAX, |arrival| begin + arrival.due);
            self.client.wait(wake.min(expire_at).min(if now < closes { closes } else { give_up }))?;
            // First what fell due, then what was answered: a connection that was busy at a due time counts as busy.
            self.arrive_all(begin, closes, &mut next, &mut arrivals);
            self.answers();
        }
        self.settle();
        let unfinished = self.queued as u64 + self.client.unanswered() as u64;
        // What never ended counts as failed, and as what it is.
        self.client.faults.note("unfinished at the end of the run", unfinished);
        let (measured, checks) = self.meter.finish(&self.client, unfinished);
        let punctuality = Punctuality {
            due: self.due,
            waited_for_connection: self.waited,
            dropped: self.dropped,
            tool_late_us: self.late.quantiles(),
        };
        Ok((measured, checks, punctuality))
    }

    fn arrive_all(
        &mut self,
        begin: Nanos,
        closes: Nanos,
        next: &mut Option<Arrival>,
        arrivals: &mut impl Iterator<Item = Arrival>,
    ) {
        let now = self.run.clock.now();
        while let Some(arrival) = next.take_if(|arrival| begin + arrival.due <= now) {
            let due = begin + arrival.due;
            if due < closes {
                *next = arrivals.next();
                self.arrive(due, arrival);
            }
        }
    }

    fn settle(&mut self) {
        self.client.take_finished(&mut self.done);
        let now = self.run.clock.now();
        self.done.drain(..).for_each(|finished| self.meter.observe(&finished, now));
    }

    fn arrive(&mut self, due: Nanos, arrival: Arrival) {
        self.due += 1;
        let slot = match arrival.lane {
            Some(lane) => self
                .idle
                .iter()
                .position(|slot| *slot == self.slots[lane])
                .map(|at| self.idle.swap_remove(at)),
            None => self.idle.pop(),
        };
        if let Some(slot) = slot {
            let now = self.run.clock.now();
            self.late.record(now.saturating_sub(due));
            self.send(slot, now, &arrival.ask);
        } else if self.queued >= BACKLOG_MAX {
            self.dropped += 1;
            self.client.faults.note("dropped: 100000 requests waiting for a connection", 1);
            self.meter.observe_unsent(due, arrival.ask.keys(), self.run.clock.now());
        } else {
            self.waited += 1;
            self.queued += 1;
            match arrival.lane {
                Some(lane) => self.own[lane].push_back((due, arrival.ask)),
                None => self.shared.push_back((due, arrival.ask)),
            }
        }
    }

    fn answers(&mut self) {
        while let Some(ready) = self.client.next_ready() {
            self.settle();
            let slot = ready.slot;
            if ready.change == Change::Closed {
                self.idle.retain(|other| *other != slot);
                continue;
            }
            if self.client.depth(slot) > 0 || self.idle.contains(&slot) {
                continue;
            }
            let waiting = self.own[self.lane_of[slot]].pop_front().or_else(|| self.shared.pop_front());
            match waiting {
                Some((due, ask)) => {
                    self.queued -= 1;
                    self.send(slot, due, &ask);
                }
                None => self.idle.push(slot),
            }
        }
    }

    fn send(&mut self, slot: Slot, started: Nanos, ask: &Ask) {
        ask.put(&mut self.client, slot, started, self.run.world.keys.stored());
        self.client.flush(slot);
    }
}
