//! Clients' sockets: taking one in, reading, writing, closing.

use super::orders::Found;
use super::path::DataPath;
use super::ready::{Source, Token};
use super::sockets::{ClientSocket, Reading, Stream};
use super::{CLIENT_READ, Worker, orders};
use crate::accept::Arrival;
use crate::attribution::Lookup;
use crate::caps::Full;
use crate::clock::seconds;
use crate::close::{self, Ending};
use crate::fold::window::Work;
use crate::identify::Identities;
use crate::listen::Peer;
use rustix::net::SendFlags;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll};
use weir_engine::CloseHow as EngineClose;
use weir_engine::caller::Identity;
use weir_engine::units::{ClientId, ListenerId};
use weir_telemetry::{CloseHow, Event, HandshakeResult, LimitMode, RejectReason, Severity};

impl<P: DataPath> Worker<P> {
    /// A new connection.
    pub(super) fn admit(&mut self, arrival: Arrival) {
        let Arrival { listener, socket, peer, file } = arrival;
        let Some(door) = self.doors.get_mut(listener.0 as usize) else { return };
        let counted = door.metrics.accepted();
        door.accepts.add(self.now, &Work { requests: 1, ..Work::default() });
        let then = self.clock.std(self.now);
        let identity = self.identities.of(&self.in_force.config, listener, &socket, peer, then);
        let churn = self.churns.accepted(&self.telemetry, &self.in_force.config, &identity, self.now);
        let settings = &self.in_force.settings.listeners[listener.0 as usize];
        let place = match self.caps.take(listener, &identity.principal, settings) {
            Ok(place) => place,
            Err(full) => {
                counted.closed(CloseHow::Cap, 0);
                self.churns.closed(churn, 0);
                return self.turn_away(&socket, listener, full, &identity);
            }
        };
        let tls = self.in_force.config.doors[listener.0 as usize].tls.side.as_ref();
        let (stream, address) = match (peer, tls) {
            (Peer::Tcp(address), None) => (Stream::tcp(socket), Some(address)),
            (Peer::Tcp(address), Some(side)) => (Stream::tls(socket, side), Some(address)),
            (Peer::Unix, _) => (Stream::unix(socket), None),
        };
        let Ok(stream) = stream else {
            counted.closed(CloseHow::Io, 0);
            self.churns.closed(churn, 0);
            return;
        };
        let loopback = address.is_some_and(|address| address.ip().to_canonical().is_loopback());
        let id = self.engine.open_client(listener, identity.clone(), || dialled(&stream), self.now);
        if loopback {
            self.look_up(id, &stream, address, &identity);
        }
        let source = Source::new(&self.mailbox.ready, Token::Client(id.slot));
        let (reading, heard) = (Reading::Open, self.now);
        let handshake = stream.is_handshaking().then(|| {
            let counted = self.doors[listener.0 as usize].metrics.tls_handshake();
            self.handshakes.arrive(id, counted, self.now)
        });
        let client = ClientSocket {
            id,
            identity,
            listener,
            stream,
            source,
            reading,
            handshake,
            loopback,
            answered_late: false,
            heard,
            churn,
            counted,
            place,
            file,
        };
        let slot = id.slot as usize;
        if self.clients.len() <= slot {
            self.clients.resize_with(slot + 1, || None);
        }
        self.clients[slot] = Some(Box::new(client));
        self.open += 1;
        self.read_client(id); // registers the waker
    }

    #[cold]
    fn turn_away(&mut self, socket: &OwnedFd, listener: ListenerId, full: Full, identity: &Identity) {
        // One that speaks TLS would need a handshake to be told.
        if self.in_force.config.doors[listener.0 as usize].tls.side.is_none() {
            let farewell = full.farewell(P::PROTOCOL);
            // Best effort: a client that does not take these few bytes is closed without them.
            let _ = rustix::net::send(socket, &farewell, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
        }
        let caller = self.telemetry.caller(&identity.name, seconds(self.now));
        caller.rejected(RejectReason::Connections, LimitMode::Refuse, 1);
        let text = full.text();
        let event = Event::new(Severity::Warn, "connection_cap", "a connection was refused")
            .text("caller", &identity.name)
            .text("principal", &identity.principal)
            .text("answer", &text);
        self.telemetry.events().emit(&event, seconds(self.now));
    }

    /// Asks for the process behind a loopback TCP client; the answer comes as an order, or never. What the client does
    /// until then is not booked yet.
    fn look_up(&mut self, id: ClientId, stream: &Stream, address: Option<SocketAddr>, identity: &Identity) {
        let (Some(tcp), Some(client_local_addr), true) =
            (stream.as_tcp(), address, self.attribution.is_some())
        else {
            return;
        };
        let (Ok(weir_addr), Some(token)) = (tcp.local_addr(), orders::token(self.handle, id)) else { return };
        self.lookups.push(Lookup { client_local_addr, weir_addr, token });
        if Identities::may_be_renamed(&self.in_force.config, identity) {
            self.engine.await_name(id, self.now);
        }
    }

    /// Attribution answered: what the connection did so far is booked, under the name if one was found. The connection may
    /// have closed since; then its place may have been taken by another.
    pub(super) fn named(&mut self, found: Found) {
        let id = found.client;
        let open = self.client_mut(id).map(|client| client.identity.clone());
        let Some(identity) = open.or_else(|| self.engine.held_identity(id)) else { return };
        let config = &self.in_force.config;
        let renamed = found.name.and_then(|name| self.identities.renamed(config, &identity, name));
        if let (Some(client), Some(renamed)) = (self.client_mut(id), &renamed) {
            client.identity = renamed.clone();
        }
        self.engine.name_client(id, renamed, self.clock.engine(found.read_at));
    }

    pub(super) fn client_event(&mut self, slot: u32) {
        let Some(Some(client)) = self.clients.get(slot as usize) else { return };
        client.source.handled();
        let id = client.id;
        if !self.engine.client_out(id).is_empty() {
            self.flush_client(id);
        }
        self.read_client(id);
    }

    /// Reads once, and once more where that only registers the waker or sees the end.
    fn read_client(&mut self, id: ClientId) {
        for _ in 0..2 {
            let wants = self.engine.client_wants_input(id);
            let Some(Some(client)) = self.clients.get_mut(id.slot as usize) else { return };
            if client.id != id || client.reading == Reading::Ended {
                return;
            }
            if !wants {
                client.reading = Reading::Paused;
                return;
            }
            client.reading = Reading::Open;
            if client.handshake.as_ref().is_some_and(|handshake| !handshake.has_begun()) {
                return;
            }
            let most = CLIENT_READ.min(self.engine.client_read_max(id));
            let mut cx = Context::from_waker(client.source.waker());
            let read = client.stream.poll_read(&mut cx, &mut self.scratch[..most]);
            client.heard = if matches!(read, Poll::Ready(Ok(1..))) { self.now } else { client.heard };
            let mut how = CloseHow::Io;
            if client.handshake.is_some() {
                how = CloseHow::Tls;
                self.handshake_went_on(id, &read);
            }
            match read {
                Poll::Pending => return,
                Poll::Ready(Ok(0)) => {
                    if let Some(client) = self.client_mut(id) {
                        client.reading = Reading::Ended;
                    }
                    self.engine.client_eof(id);
                    return;
                }
                Poll::Ready(Ok(length)) => {
                    self.engine.client_input(id, &self.scratch[..length], self.now);
                    if length == most {
                        break;
                    }
                }
                Poll::Ready(Err(_)) => return self.close_client(id, how),
            }
        }
        // More may be there; others have their turn first.
        self.again.push(Token::Client(id.slot));
    }

    /// Writes what is owed, closes what is to be closed, reads again what was held back.
    pub(super) fn flush_client(&mut self, id: ClientId) {
        loop {
            let Some(Some(client)) = self.clients.get_mut(id.slot as usize) else { return };
            if client.id != id {
                return;
            }
            let out = self.engine.client_out(id);
            if out.is_empty() {
                break;
            }
            let mut cx = Context::from_waker(client.source.waker());
            match client.stream.poll_write(&mut cx, out.unwritten()) {
                Poll::Ready(Ok(length)) if length > 0 => {
                    out.wrote(length);
                    client.answered_late |= client.reading == Reading::Ended;
                    self.engine.client_wrote(id, length, self.now);
                }
                Poll::Pending => break,
                Poll::Ready(_) => {
                    let left = client.reading == Reading::Ended;
                    return self.close_client(id, if left { CloseHow::Client } else { CloseHow::Io });
                }
            }
        }
        match self.engine.client_closing(id) {
            Some(EngineClose::Client) => self.close_client(id, CloseHow::Client),
            Some(EngineClose::Broken) => self.close_client(id, CloseHow::Broken),
            Some(EngineClose::Protocol) => self.close_client(id, CloseHow::Protocol),
            None if self.is_leaving() && self.engine.client_idle(id) => {
                self.close_client(id, CloseHow::Drain)
            }
            None => {
                if self.may_resume(id) {
                    self.again.push(Token::Client(id.slot));
                }
            }
        }
    }

    /// Ends a connection.
    pub(super) fn close_client(&mut self, id: ClientId, how: CloseHow) {
        if self.client_mut(id).is_none() {
            return;
        }
        let idle = self.engine.client_idle(id);
        let summary = self.engine.close_client(id, self.now);
        let Some(mut client) = self.clients[id.slot as usize].take() else { return };
        self.open -= 1;
        if let Some(handshake) = client.handshake.take() {
            self.forget_handshake(id, handshake, HandshakeResult::Gone);
        }
        if how == CloseHow::Client && client.reading == Reading::Open {
            // It said `quit`; most clients close right after it, and then the port can be given back.
            let mut cx = Context::from_waker(client.source.waker());
            let last = client.stream.poll_read(&mut cx, &mut self.scratch[..CLIENT_READ]);
            if matches!(last, Poll::Ready(Ok(0))) {
                client.reading = Reading::Ended;
            }
        }
        let door = &mut self.doors[client.listener.0 as usize];
        let ending = Ending {
            how,
            client_closed: client.reading == Reading::Ended && client.stream.peer_closed(),
            answered_late: client.answered_late,
            loopback: client.loopback,
            idle,
            wanted: self.in_force.config.doors[client.listener.0 as usize].on_client_close,
        };
        let ends = &mut self.client_ends;
        let how = close::prepare(&client.stream, ending, || client.stream.still_reads(ends));
        door.closed += 1;
        door.short += u64::from(summary.requests <= 1);
        self.churns.closed(client.churn, summary.requests);
        client.counted.closed(how, summary.requests);
    }
}

/// The address a client reached; one without a port for Unix.
fn dialled(stream: &Stream) -> SocketAddr {
    let unknown = SocketAddr::from(([127, 0, 0, 1], 0));
    stream.as_tcp().and_then(|tcp| tcp.local_addr().ok()).unwrap_or(unknown)
}
