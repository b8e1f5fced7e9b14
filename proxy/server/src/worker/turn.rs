//! One turn of a worker's loop, and what happens by time.
//!
//! ```text
//! wake -> each noted source once (read, accept, connect, control) -> some arrivals -> timers -> end of turn -> lanes
//!      -> clients -> fold
//! ```

use super::orders::{DoorLook, Look, Order};
use super::path::DataPath;
use super::ready::Token;
use super::sockets::{Link, Reading};
use super::{End, TICK, Worker};
use crate::clock::seconds;
use crate::fold;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use weir_engine::EngineSnapshot;
use weir_engine::error::Rejected;
use weir_engine::ledger::Expensive;
use weir_engine::units::{ClientId, Instant, LaneId, Span};
use weir_telemetry::{CloseHow, Event, Severity};

/// How often a turn is settled before the kernel is asked again: what one flush frees can be used at once.
const ROUNDS: usize = 4;

impl<P: DataPath> Worker<P> {
    /// One turn. Reads the clock once.
    pub(super) fn turn(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        self.now = self.clock.now();
        self.mailbox.heartbeat.store(self.now.0, Ordering::Relaxed);

        let mut batch = std::mem::take(&mut self.batch);
        batch.append(&mut self.again);
        self.mailbox.ready.take(cx, &mut batch);
        if batch.is_empty() && self.busy_poll.again(self.now) {
            self.batch = batch;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let eventful = !batch.is_empty();
        for token in batch.drain(..) {
            self.contained(Some(token), |worker| worker.event(token));
        }
        self.batch = batch;
        if self.arrivals_due {
            self.contained(Some(Token::Arrivals), Worker::admit_arrivals);
        }

        self.contained(None, Worker::timers);
        self.start_flushes();
        let mut unsettled = true;
        for _ in 0..ROUNDS {
            unsettled = self.settle() | self.hand_over_sign_ins();
            if !unsettled {
                break;
            }
        }
        if let Some(attribution) = &self.attribution {
            attribution.ask(&mut self.lookups);
            if self.engine.take_urgent() {
                attribution.hurry();
            }
        }
        let folded = self.contained(None, Worker::fold_when_due).unwrap_or(true);
        let busy = if folded { self.busy() } else { 0 };
        self.metrics.turn(busy);

        if self.panics.broken {
            return Poll::Ready(End::Broken);
        }
        if let Some(end) = self.drained() {
            return Poll::Ready(end);
        }
        if unsettled || self.engine.has_more() || self.arrivals_due || !self.again.is_empty() {
            self.busy_poll.end();
            cx.waker().wake_by_ref();
        } else {
            self.arm(cx);
            if eventful && self.engine.waits_awake() && self.busy_poll.begin(self.now) {
                cx.waker().wake_by_ref();
            } else {
                self.give_way();
            }
        }
        Poll::Pending
    }

    /// Lets others have the processor before the kernel is asked for events (see [`super::courtesy`]).
    fn give_way(&mut self) {
        if !self.engine.gives_way() || !self.courtesy.due() {
            return;
        }
        let before = self.clock.now();
        std::thread::yield_now();
        self.courtesy.took(self.clock.now().since(before));
    }

    fn event(&mut self, token: Token) {
        match token {
            Token::Client(slot) => self.client_event(slot),
            Token::Lane(index) => self.lane_event(LaneId(index)),
            Token::Gate(index) => self.gate_event(index as usize),
            Token::Arrivals => self.arrivals_due = true,
            Token::Orders => self.orders_event(),
            Token::Flushes => self.flushes_event(),
        }
    }

    /// Ends the engine's turn and writes what it left; whether there was anything.
    fn settle(&mut self) -> bool {
        let now = self.now;
        self.contained(None, |worker| worker.engine.end_turn(now));
        let mut lanes = std::mem::take(&mut self.dirty_lanes);
        self.engine.take_dirty_lanes(&mut lanes);
        let mut clients = std::mem::take(&mut self.dirty_clients);
        self.engine.take_dirty_clients(&mut clients);
        if self.engine.take_lanes_added() {
            self.contained(None, Worker::add_lanes);
        }
        let any = !lanes.is_empty() || !clients.is_empty();
        for id in lanes.drain(..) {
            self.contained(Some(Token::Lane(id.0)), |worker| worker.flush_lane(id));
        }
        for id in clients.drain(..) {
            self.contained(Some(Token::Client(id.slot)), |worker| worker.flush_client(id));
        }
        self.dirty_lanes = lanes;
        self.dirty_clients = clients;
        any
    }

    /// Clients' credentials go to the desk that has the cluster check them; whether any were answered right here.
    fn hand_over_sign_ins(&mut self) -> bool {
        let mut fresh = std::mem::take(&mut self.sign_ins);
        self.engine.take_sign_ins(&mut fresh);
        let mut answered = false;
        for sign_in in fresh.drain(..) {
            let client = sign_in.client;
            if let Some(verdict) = self.sign_in_desk.ask(self.handle, sign_in) {
                self.engine.signed_in(client, &verdict, self.now);
                answered = true;
            }
        }
        self.sign_ins = fresh;
        answered
    }

    fn orders_event(&mut self) {
        self.mailbox.orders_source.handled();
        let version = self.board.version();
        if version != self.board_version {
            self.board_version = version;
            self.take_over();
        }
        self.take_placements();
        loop {
            let source = self.mailbox.orders_source.clone();
            let mut cx = Context::from_waker(source.waker());
            match self.mailbox.orders.poll_recv(&mut cx) {
                Poll::Ready(Some(order)) => self.obey(order),
                Poll::Ready(None) | Poll::Pending => return,
            }
        }
    }

    /// New settings, or a shutdown.
    fn take_over(&mut self) {
        let new = self.board.read();
        if !std::sync::Arc::ptr_eq(&new.settings, &self.in_force.settings) {
            if self.engine.take_lanes_added() {
                self.add_lanes(); // before some of them may go again: lanes are numbered without gaps
            }
            self.engine.apply(new.settings.clone(), self.now);
            self.books.apply(&new.settings);
        }
        let drains = new.drain.is_some() && self.in_force.drain.is_none();
        self.in_force = new;
        self.add_lanes();
        if drains {
            self.close_gates();
        }
    }

    fn obey(&mut self, order: Order) {
        // Whoever asked may have lost patience: then nobody hears the answer, which is no error.
        match order {
            Order::Look(answer) => {
                self.engine.hand_over_correlated();
                self.fold_now();
                let _ = answer.send(self.look());
            }
            Order::Fold(answer) => {
                self.engine.hand_over_correlated();
                self.fold_now();
                self.show_gauges();
                let _ = answer.send(());
            }
            Order::SignedIn(verdicts) => {
                for (client, verdict) in verdicts {
                    self.engine.signed_in(client, &verdict, self.now);
                }
            }
            // Services are not served here.
            Order::Purge(..) => {}
            Order::Named(names) => {
                for found in names {
                    self.named(found);
                }
            }
        }
    }

    fn look(&mut self) -> Look {
        let now = self.now;
        let door = |door: &super::DoorBook| DoorLook {
            accepts_last_second: door.accepts.last_second(now).requests,
            closed: door.closed,
            short: door.short,
        };
        Look {
            worker: self.index,
            protocol: P::PROTOCOL,
            at: now,
            engine: self.engine.snapshot(now),
            rows: self.books.rows().to_vec(),
            expensive: self.engine.ledger().expensive().cloned().collect::<Vec<Expensive>>(),
            heavy: self.engine.ledger().heavy_hitters(),
            statements: self.engine.ledger().statements(),
            upstreams: self.gauges.upstreams(&self.lanes),
            doors: self.doors.iter().map(door).collect(),
            churns: self.churns.looks(now),
        }
    }

    fn timers(&mut self) {
        let now = self.now;
        let tick = now >= self.tick_at;
        if tick || self.engine.next_deadline().is_some_and(|at| at <= now) {
            self.engine.on_timer(now);
            self.cut_lanes();
            self.close_slow();
        }
        if self.next_retry.is_some_and(|at| at <= now) {
            self.retry_lanes();
        }
        for index in 0..self.gates.len() {
            if self.gates[index].rests_until.is_some_and(|until| until <= now) {
                self.gate_event(index);
            }
        }
        if tick {
            self.tick_at = now.after(TICK);
            self.tick();
        }
        self.drain_by_time();
    }

    fn tick(&mut self) {
        self.engine.tell_wall_clock(self.clock.unix_micros_at_zero());
        let snapshot = self.show_gauges();
        self.gauges.note_rates(&snapshot, self.now);
        self.close_idle();
        self.close_unshaken();
    }

    fn show_gauges(&mut self) -> EngineSnapshot {
        let snapshot = self.engine.snapshot(self.now);
        self.gauges.show(&snapshot);
        self.gauges.show_clusters(&self.in_force.settings, &self.engine.cluster_counts());
        snapshot
    }

    /// Clients that sent nothing for the listener's `idle_timeout`.
    fn close_idle(&mut self) {
        let settings = &self.in_force.settings.listeners;
        if settings.iter().all(|listener| listener.idle_timeout == Span(0)) {
            return;
        }
        let overdue = |client: &super::ClientSocket| {
            let timeout = settings[client.listener.0 as usize].idle_timeout;
            timeout > Span(0) && self.now.since(client.heard) >= timeout && self.engine.client_idle(client.id)
        };
        let ids: Vec<ClientId> =
            self.clients.iter().flatten().filter(|client| overdue(client)).map(|client| client.id).collect();
        for id in ids {
            self.close_client(id, CloseHow::Idle);
        }
    }

    fn close_slow(&mut self) {
        let mut slow = std::mem::take(&mut self.slow);
        self.engine.take_slow(&mut slow);
        for id in slow.drain(..) {
            let unread = self.engine.client_out(id).len() as u64;
            let event = Event::new(Severity::Warn, "slow_reader", "a client stopped reading and was closed")
                .number("unread_bytes", unread);
            self.telemetry.events().emit(&event, seconds(self.now));
            self.close_client(id, CloseHow::SlowReader);
        }
        self.slow = slow;
    }

    fn fold_when_due(&mut self) -> bool {
        match self.fold_at {
            Some(at) if at <= self.now => {
                self.fold_now();
                true
            }
            Some(_) => false,
            None => {
                if self.engine.ledger().is_dirty() {
                    self.fold_at = Some(self.now.after(fold::INTERVAL));
                }
                false
            }
        }
    }

    fn fold_now(&mut self) {
        self.fold_at = None;
        self.books.fold(&mut self.engine, &self.in_force.settings, self.now);
    }

    /// Processor time of this thread since the last call, in microseconds.
    fn busy(&mut self) -> u64 {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        let total = (time.tv_sec as u64) * 1_000_000 + (time.tv_nsec as u64) / 1_000;
        total.saturating_sub(self.busy_before.swap(total, Ordering::Relaxed))
    }

    /// Sets the timer to the next thing that happens by time.
    fn arm(&mut self, cx: &mut Context<'_>) {
        let drain = self
            .in_force
            .drain
            .map(|drain| if self.swept { drain.deadline } else { drain.close_idle_at.min(drain.deadline) });
        let rests = self.gates.iter().filter_map(|own| own.rests_until);
        let next = [self.engine.next_deadline(), self.fold_at, self.next_retry, drain]
            .into_iter()
            .flatten()
            .chain(rests)
            .fold(self.tick_at, Instant::min);
        // One that fires too early costs a turn; setting it anew for each turn would cost more.
        if self.armed.is_none_or(|armed| next < armed || armed <= self.now) {
            self.armed = Some(next);
            let after = std::time::Duration::from_micros(next.since(self.now).0);
            if self.alarm.set(cx, after).is_err() {
                // without a timer it turns and turns: it costs the processor, but nobody is forgotten
                self.armed = None;
                cx.waker().wake_by_ref();
            }
        }
    }

    fn drain_by_time(&mut self) {
        let Some(drain) = self.in_force.drain else { return };
        if self.now >= drain.deadline {
            self.cut += self.open;
            self.close_all(|worker, id| {
                if !worker.engine.client_idle(id) {
                    worker.engine.reject_client(id, Rejected::Draining);
                }
                true
            });
        } else if self.now >= drain.close_idle_at && !self.swept {
            self.swept = true;
            self.close_all(|worker, id| worker.engine.client_idle(id));
        }
    }

    /// Whether a shutdown has nothing left to do.
    fn drained(&mut self) -> Option<End> {
        let drain = self.in_force.drain?;
        let late = self.now >= drain.deadline;
        let fresh = self.now < drain.close_idle_at;
        if self.open > 0 || self.arrivals_due || (fresh && !late) {
            return None;
        }
        let unsent = (0..self.lanes.len()).any(|index| {
            matches!(self.lanes[index].link, Link::Up(_))
                && !self.engine.lane_out(LaneId(index as u32)).is_empty()
        });
        if unsent && !late {
            return None;
        }
        self.engine.book_held();
        self.engine.hand_over_correlated();
        self.fold_now();
        Some(End::Drained { cut: self.cut })
    }

    /// Closes every client that `closes`, for the shutdown.
    fn close_all(&mut self, closes: impl Fn(&mut Worker<P>, ClientId) -> bool) {
        let ids: Vec<ClientId> = self.clients.iter().flatten().map(|client| client.id).collect();
        for id in ids {
            if closes(self, id) {
                self.close_client(id, CloseHow::Drain);
            }
        }
    }

    /// Whether a client is to go as soon as it is idle.
    pub(super) fn is_leaving(&self) -> bool {
        self.in_force.drain.is_some_and(|drain| self.now >= drain.close_idle_at)
    }

    pub(super) fn client_mut(&mut self, id: ClientId) -> Option<&mut super::ClientSocket> {
        self.clients.get_mut(id.slot as usize)?.as_deref_mut().filter(|client| client.id == id)
    }

    /// Whether the engine's back-pressure on a client has ended.
    pub(super) fn may_resume(&mut self, id: ClientId) -> bool {
        let wants = self.engine.client_wants_input(id);
        self.client_mut(id).is_some_and(|client| client.reading == Reading::Paused && wants)
    }
}
