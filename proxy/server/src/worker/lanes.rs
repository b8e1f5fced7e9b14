//! Upstream sockets: a fixed set, connected again whenever one is lost.
//!
//! A lane that worked is dialled again at once when it is lost (requests wait meanwhile); one that could not be had, or
//! was lost before it delivered a byte, waits its back-off, and after a failed attempt requests fail fast.

use super::path::{DataPath, Route as _};
use super::ready::{Source, Token};
use super::sockets::{LaneSocket, Link};
use super::{LANE_READ, Worker};
use crate::clock::seconds;
use crate::upstream::{Backoff, ConnectError, Connected};
use std::task::{Context, Poll};
use weir_engine::CutCause;
use weir_engine::settings::Backend;
use weir_engine::units::{Instant, LaneId, Span};
use weir_telemetry::{ConnectionState, Event, OpenResult, Severity};

impl<P: DataPath> Worker<P> {
    /// Makes a socket for every lane of the engine that has none, and retires those it no longer has.
    pub(super) fn add_lanes(&mut self) {
        let live: Vec<(LaneId, P::Lane)> = self.engine.lanes().map(|(id, info)| (id, info.clone())).collect();
        for (index, lane) in self.lanes.iter_mut().enumerate() {
            let is_live = live.iter().any(|(id, _)| id.0 as usize == index);
            // one that is gone for good stays so, whoever has its number now
            lane.retired = !is_live || lane.counted.is_none();
        }
        for (id, info) in live {
            let index = id.0 as usize;
            match self.lanes.get_mut(index) {
                // a cluster may have another number now
                Some(lane) if !lane.retired => lane.info = info,
                // the engine gave the number of a connection that is gone to another one
                Some(_) => {
                    self.lanes[index] = self.lane_socket(id, info);
                    self.dial(id);
                }
                None => {
                    // numbers between are of lanes that went before anybody saw them
                    while self.lanes.len() < index {
                        let unseen = LaneId(super::to_u32(self.lanes.len()));
                        let mut lane = self.lane_socket(unseen, info.clone());
                        (lane.retired, lane.counted) = (true, None);
                        self.lanes.push(lane);
                    }
                    let lane = self.lane_socket(id, info);
                    self.lanes.push(lane);
                    self.dial(id);
                }
            }
        }
        for index in 0..self.lanes.len() {
            let lane = &self.lanes[index];
            if lane.retired && matches!(lane.link, Link::Gone) {
                self.lane_over(LaneId(super::to_u32(index)));
            }
        }
    }

    fn lane_socket(&self, id: LaneId, info: P::Lane) -> LaneSocket<P::Lane> {
        let name: std::sync::Arc<str> = info.address().to_string().into();
        let backend = self.telemetry.backend(&name);
        let seed = self.seed ^ (u64::from(id.0) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        LaneSocket {
            counted: Some(backend.connection(ConnectionState::Connecting)),
            source: Source::new(&self.mailbox.ready, Token::Lane(id.0)),
            link: Link::Gone,
            backoff: Backoff::new(seed),
            retired: false,
            opens: 0,
            open_errors: 0,
            last_error: None,
            name,
            backend,
            info,
        }
    }

    /// Nothing is left of a lane that the engine does not want any more: its number may be another one's.
    fn lane_over(&mut self, id: LaneId) {
        let lane = &mut self.lanes[id.0 as usize];
        lane.link = Link::Gone;
        lane.counted = None;
        self.engine.lane_gone(id);
    }

    /// Starts an attempt; it is polled next turn.
    fn dial(&mut self, id: LaneId) {
        let lane = &mut self.lanes[id.0 as usize];
        let timeout = lane.info.patience(&self.in_force.settings).connect;
        lane.link = Link::Connecting(lane.info.dial(&self.in_force.config, timeout));
        show(lane, ConnectionState::Connecting);
        self.again.push(Token::Lane(id.0));
    }

    pub(super) fn lane_event(&mut self, id: LaneId) {
        let Some(lane) = self.lanes.get_mut(id.0 as usize) else { return };
        lane.source.handled();
        match &mut lane.link {
            Link::Connecting(attempt) => {
                let mut cx = Context::from_waker(lane.source.waker());
                match attempt.poll(&mut cx) {
                    Poll::Pending => {}
                    Poll::Ready(Ok(connected)) => self.lane_connected(id, connected),
                    Poll::Ready(Err(error)) => self.lane_refused(id, error),
                }
            }
            Link::Up(_) => {
                if !self.engine.lane_out(id).is_empty() {
                    self.flush_lane(id);
                }
                self.read_lane(id);
            }
            Link::Waiting(_) | Link::Gone => {}
        }
    }

    fn lane_connected(&mut self, id: LaneId, connected: Connected) {
        let Connected { stream, early, shard, scylla, tablets } = connected;
        let lane = &mut self.lanes[id.0 as usize];
        if lane.retired {
            // the settings have changed since it was dialled
            return self.lane_over(id);
        }
        lane.link = Link::Up(stream);
        lane.opens += 1;
        lane.backend.opened(OpenResult::Ok);
        show(lane, ConnectionState::Ready);
        if lane.last_error.is_some() {
            let event = Event::new(Severity::Info, "backend_up", "connected").text("backend", &lane.name);
            self.telemetry.events().emit(&event, seconds(self.now));
        }
        if let Some(shard) = shard {
            self.engine.lane_on_shard(id, shard);
        }
        if let Some(scylla) = scylla {
            self.engine.lane_says(id, scylla);
        }
        if tablets {
            self.engine.lane_tells_tablets(id);
        }
        self.engine.lane_up(id, self.now);
        if !early.is_empty()
            && let Err(desync) = self.engine.lane_input(id, &early, self.now)
        {
            self.lanes[id.0 as usize].backend.desync();
            return self.lose_lane(id, desync.label());
        }
        self.read_lane(id); // registers the waker
    }

    fn lane_refused(&mut self, id: LaneId, error: ConnectError) {
        let lane = &mut self.lanes[id.0 as usize];
        lane.open_errors += 1;
        lane.backend.opened(error.result);
        let event = Event::new(Severity::Error, "backend_down", "cannot connect")
            .text("backend", &lane.name)
            .text("result", error.result.name())
            .text("error", &error.what);
        self.telemetry.events().emit(&event, seconds(self.now));
        let result = error.result;
        lane.last_error = Some(error.what);
        self.engine.lane_failed(id, result == OpenResult::Auth, self.now);
        self.wait(id);
    }

    /// Waits the back-off before the next attempt.
    fn wait(&mut self, id: LaneId) {
        let lane = &mut self.lanes[id.0 as usize];
        if lane.retired {
            return self.lane_over(id);
        }
        let patience = lane.info.patience(&self.in_force.settings);
        let at = self.now.after(lane.backoff.failed(patience.reconnect_min, patience.reconnect_max));
        lane.link = Link::Waiting(at);
        show(lane, ConnectionState::Backoff);
        self.next_retry = Some(self.next_retry.map_or(at, |next| next.min(at)));
    }

    /// A panic happened while the lane was handled: whatever it was doing, it starts anew.
    pub(super) fn give_up_lane(&mut self, id: LaneId) {
        let Some(lane) = self.lanes.get_mut(id.0 as usize) else { return };
        match lane.link {
            Link::Up(_) => self.lose_lane(id, "a panic of weir while it was read or written"),
            Link::Connecting(_) => self.wait(id),
            Link::Waiting(_) | Link::Gone => {}
        }
    }

    /// Dials the lanes whose wait is over.
    pub(super) fn retry_lanes(&mut self) {
        self.next_retry = None;
        for index in 0..self.lanes.len() {
            let Link::Waiting(at) = self.lanes[index].link else { continue };
            if self.lanes[index].retired {
                self.wait(LaneId(index as u32));
            } else if at <= self.now {
                self.dial(LaneId(index as u32));
            } else {
                self.next_retry = Some(self.next_retry.map_or(at, |next: Instant| next.min(at)));
            }
        }
    }

    fn read_lane(&mut self, id: LaneId) {
        for _ in 0..2 {
            let lane = &mut self.lanes[id.0 as usize];
            let Link::Up(stream) = &mut lane.link else { return };
            let mut cx = Context::from_waker(lane.source.waker());
            match stream.poll_read(&mut cx, &mut self.scratch[..LANE_READ]) {
                Poll::Pending => return,
                Poll::Ready(Ok(0)) => return self.lose_lane(id, "the server closed the connection"),
                Poll::Ready(Ok(length)) => {
                    if let Err(desync) = self.engine.lane_input(id, &self.scratch[..length], self.now) {
                        lane.backend.desync();
                        return self.lose_lane(id, desync.label());
                    }
                    // only what fits what was asked proves a connection: one that greets is not dialled in a loop
                    lane.backoff.succeeded();
                    if length == LANE_READ {
                        break;
                    }
                }
                Poll::Ready(Err(error)) => return self.lose_lane(id, &error.to_string()),
            }
        }
        self.again.push(Token::Lane(id.0));
    }

    /// Writes what is owed to the server, if it is connected.
    pub(super) fn flush_lane(&mut self, id: LaneId) {
        loop {
            let Some(lane) = self.lanes.get_mut(id.0 as usize) else { return };
            let Link::Up(stream) = &mut lane.link else { return };
            let out = self.engine.lane_out(id);
            if out.is_empty() {
                return;
            }
            let mut cx = Context::from_waker(lane.source.waker());
            match stream.poll_write(&mut cx, out.unwritten()) {
                Poll::Ready(Ok(length)) if length > 0 => out.wrote(length),
                Poll::Pending => return,
                Poll::Ready(Ok(_)) => return self.lose_lane(id, "the socket takes nothing"),
                Poll::Ready(Err(error)) => return self.lose_lane(id, &error.to_string()),
            }
        }
    }

    /// Lanes the engine wants cut.
    pub(super) fn cut_lanes(&mut self) {
        let mut cuts = std::mem::take(&mut self.cuts);
        self.engine.take_cuts(&mut cuts);
        for (id, cause) in cuts.drain(..) {
            match cause {
                CutCause::Stalled => {
                    self.lanes[id.0 as usize].backend.stall();
                    self.lose_lane(id, "stalled: replies are owed and no byte came (stall_timeout)");
                }
                CutCause::Desync => {
                    self.lanes[id.0 as usize].backend.desync();
                    self.lose_lane(id, "a reply did not belong to its request");
                }
                CutCause::Worn => {
                    self.lose_lane(id, "replaced: too many of its stream ids wait for replies nobody wants");
                }
                CutCause::Retired => {
                    self.lanes[id.0 as usize].retired = true;
                    self.lose_lane(id, "no longer in the configuration");
                }
            }
        }
        self.cuts = cuts;
    }

    /// A connection is over: the engine answers what is owed, and the lane is dialled again.
    pub(super) fn lose_lane(&mut self, id: LaneId, why: &str) {
        let lane = &mut self.lanes[id.0 as usize];
        if !matches!(lane.link, Link::Up(_)) {
            return;
        }
        lane.link = Link::Gone; // closes the socket
        let proven = lane.backoff.is_reset();
        if !lane.retired {
            lane.last_error = Some(why.to_owned());
            let event = Event::new(Severity::Error, "backend_lost", "a backend connection was lost")
                .text("backend", &lane.name)
                .text("error", why);
            self.telemetry.events().emit(&event, seconds(self.now));
        }
        self.engine.lane_lost(id, self.now);
        if matches!(self.lanes[id.0 as usize].info.backend(), Backend::Cluster(_)) {
            self.board.posted().doubt();
        }
        if proven && !self.lanes[id.0 as usize].retired {
            // the next loss must be earned by a byte again
            let _: Span = self.lanes[id.0 as usize].backoff.failed(Span(0), Span(0));
            self.dial(id);
        } else {
            // it breaks whatever it is told: what waits is answered, what comes fails fast until it is up again
            self.engine.lane_failed(id, false, self.now);
            self.wait(id);
        }
    }
}

fn show<L>(lane: &mut LaneSocket<L>, state: ConnectionState) {
    if let Some(counted) = &mut lane.counted {
        counted.set(state);
    }
}
