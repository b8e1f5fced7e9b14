//! epoll and one timer. Edge-triggered: a socket that was read to a short read costs no second look.
//!
//! Waits below 20 ms use a timerfd, since epoll's own time-out counts in milliseconds, which would be visible in
//! open-loop latencies.

use crate::clock::{Clock, Nanos, SECOND};
use anyhow::{Context, Result};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use std::os::fd::{AsFd, OwnedFd};

/// Most events taken at once; more stay queued in the kernel for the next turn.
const EVENTS: usize = 1_024;
/// The timer's token.
const TIMER: u64 = u64::MAX;
/// Waits longer than this end by epoll's own time-out, a millisecond or two early.
const COARSE: Nanos = 20_000_000;

/// What happened on a socket.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// The number the socket was registered with.
    pub token: u64,
    /// There are bytes, an end of stream or an error to read.
    pub readable: bool,
    /// There is room to write, or a connection attempt ended.
    pub writable: bool,
    /// The peer closed or the socket failed: read until the end.
    pub ended: bool,
}

/// Which events a socket waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Bytes to read.
    Read,
    /// A connection attempt, or room to write, and bytes to read.
    ReadWrite,
}

impl Interest {
    fn flags(self) -> EventFlags {
        let read = EventFlags::IN | EventFlags::RDHUP | EventFlags::ET;
        match self {
            Self::Read => read,
            Self::ReadWrite => read | EventFlags::OUT,
        }
    }
}

/// The event queue.
pub struct Poller {
    epoll: OwnedFd,
    timer: OwnedFd,
    /// When the timer goes off; `None` when it is not armed.
    armed: Option<Nanos>,
    buffer: Vec<epoll::Event>,
    clock: Clock,
}

impl Poller {
    /// Creates the queue and its timer.
    pub fn new(clock: Clock) -> Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC).context("epoll_create1")?;
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags).context("timerfd_create")?;
        epoll::add(&epoll, &timer, EventData::new_u64(TIMER), EventFlags::IN | EventFlags::ET)
            .context("epoll_ctl for the timer")?;
        Ok(Self { epoll, timer, armed: None, buffer: Vec::with_capacity(EVENTS), clock })
    }

    /// Starts to watch a socket.
    pub fn add(&self, socket: impl AsFd, token: u64, interest: Interest) -> Result<(), Errno> {
        epoll::add(&self.epoll, socket, EventData::new_u64(token), interest.flags())
    }

    /// Changes what is watched; an edge that is already there is reported again.
    pub fn change(&self, socket: impl AsFd, token: u64, interest: Interest) -> Result<(), Errno> {
        epoll::modify(&self.epoll, socket, EventData::new_u64(token), interest.flags())
    }

    /// Waits until something happens or `until` has come, whichever is first; may return early with nothing.
    /// `until` in the past looks without waiting.
    pub fn wait(&mut self, until: Nanos, events: &mut Vec<Event>) -> Result<()> {
        let now = self.clock.now();
        let left = until.saturating_sub(now);
        let timeout = if left == 0 {
            Some(Timespec { tv_sec: 0, tv_nsec: 0 })
        } else if left > COARSE {
            let early = left - 2_000_000;
            Some(Timespec {
                tv_sec: (early / SECOND) as i64,
                tv_nsec: (early % SECOND / 1_000_000 * 1_000_000) as i64,
            })
        } else {
            self.arm(until, left)?;
            None
        };
        self.buffer.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut self.buffer), timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).context("epoll_wait"),
        }
        for event in &self.buffer {
            let (flags, token) = (event.flags, event.data.u64());
            if token == TIMER {
                self.armed = None;
                continue;
            }
            let ended = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
            events.push(Event {
                token,
                readable: ended || flags.contains(EventFlags::IN),
                writable: ended || flags.contains(EventFlags::OUT),
                ended,
            });
        }
        Ok(())
    }

    fn arm(&mut self, until: Nanos, left: Nanos) -> Result<()> {
        if self.armed.is_some_and(|armed| armed <= until && armed > until - left) {
            return Ok(());
        }
        let value = Timespec { tv_sec: 0, tv_nsec: left.max(1) as i64 };
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        timerfd_settime(
            &self.timer,
            TimerfdTimerFlags::empty(),
            &Itimerspec { it_interval: zero, it_value: value },
        )
        .context("timerfd_settime")?;
        self.armed = Some(until);
        Ok(())
    }
}
