//! Clients' TLS handshakes: how many are under way, how long one may take, and how they ended. The handshake itself
//! happens while the client is read (`tls`); nothing of it is seen here but its beginning and its end.
//!
//! Bounds: [`UNDER_WAY_MAX`] at once per worker, the others wait for their turn unread; each, its wait included, for at most
//! `tls_handshake_timeout` of its listener, to the second.

use super::Worker;
use super::path::DataPath;
use super::ready::Token;
use super::sockets::ClientSocket;
use crate::clock::seconds;
use crate::config::PrincipalKind;
use crate::tls::{self, INVALID};
use std::collections::VecDeque;
use std::io;
use std::task::Poll;
use weir_engine::units::{ClientId, Instant};
use weir_telemetry::{CloseHow, Event, HandshakeResult, Severity, TlsHandshake};

/// Handshakes of one worker at once. One costs 0.1 to 2 ms of the worker's time (a private key is used), so that those that
/// were made while it was away are done within some milliseconds, and others' requests are served in between.
const UNDER_WAY_MAX: usize = 32;

/// The handshakes of one worker.
#[derive(Debug, Default)]
pub(super) struct Handshakes {
    under_way: usize,
    /// Their turn has not come.
    waiting: VecDeque<ClientId>,
}

/// A client's handshake.
#[derive(Debug)]
pub struct Handshake {
    since: Instant,
    begun: bool,
    counted: TlsHandshake,
}

impl Handshake {
    /// Whether its turn has come.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.begun
    }
}

impl Handshakes {
    /// A new client's.
    pub(super) fn arrive(&mut self, id: ClientId, counted: TlsHandshake, now: Instant) -> Handshake {
        let begun = self.under_way < UNDER_WAY_MAX;
        if begun {
            self.under_way += 1;
        } else {
            self.waiting.push_back(id);
        }
        Handshake { since: now, begun, counted }
    }

    fn none(&self) -> bool {
        self.under_way == 0 && self.waiting.is_empty()
    }
}

impl<P: DataPath> Worker<P> {
    /// A client that has a handshake was read.
    #[cold]
    pub(super) fn handshake_went_on(&mut self, id: ClientId, read: &Poll<io::Result<usize>>) {
        match read {
            Poll::Ready(Err(error)) => {
                let (result, what) = (tls::outcome(error), error.to_string());
                self.handshake_failed(id, result, &what);
            }
            Poll::Ready(Ok(0)) => {
                let going = self.client_mut(id).is_some_and(|client| client.stream.is_handshaking());
                match going {
                    true => self.handshake_ended(id, HandshakeResult::Gone),
                    false => self.handshake_done(id),
                }
            }
            _ => {
                if self.client_mut(id).is_some_and(|client| !client.stream.is_handshaking()) {
                    self.handshake_done(id);
                }
            }
        }
    }

    /// The client may ask. Where its certificate says who it is, everything it asks is that one's: nothing that it sent was
    /// looked at before.
    fn handshake_done(&mut self, id: ClientId) {
        self.handshake_ended(id, HandshakeResult::Ok);
        let Some(Some(client)) = self.clients.get_mut(id.slot as usize) else { return };
        let door = &self.in_force.config.doors[client.listener.0 as usize];
        if client.id != id || door.principal != PrincipalKind::Certificate {
            return;
        }
        let caller = client.stream.peer_certificate().map_or_else(|| INVALID.into(), tls::caller_of);
        let identity = self.identities.certified(client.listener, caller);
        client.identity = identity.clone();
        self.engine.name_client(id, Some(identity), self.now);
    }

    fn handshake_failed(&mut self, id: ClientId, result: HandshakeResult, what: &str) {
        if let Some(client) = self.client_mut(id) {
            let door = client.listener.0 as usize;
            let event = Event::new(Severity::Warn, "tls_handshake", "the TLS handshake with a client failed")
                .text("listener", &self.in_force.settings.listeners[door].name)
                .text("result", result.name())
                .text("error", what);
            self.telemetry.events().emit(&event, seconds(self.now));
        }
        self.handshake_ended(id, result);
    }

    /// It is over, one way or the other: the next one's turn has come.
    fn handshake_ended(&mut self, id: ClientId, result: HandshakeResult) {
        if let Some(handshake) = self.client_mut(id).and_then(|client| client.handshake.take()) {
            self.forget_handshake(id, handshake, result);
        }
    }

    /// A client was closed before its handshake was done.
    #[cold]
    pub(super) fn forget_handshake(&mut self, id: ClientId, handshake: Handshake, result: HandshakeResult) {
        handshake.counted.ended(result);
        if !handshake.begun {
            return self.handshakes.waiting.retain(|waiting| *waiting != id);
        }
        self.handshakes.under_way = self.handshakes.under_way.saturating_sub(1);
        while self.handshakes.under_way < UNDER_WAY_MAX
            && let Some(next) = self.handshakes.waiting.pop_front()
        {
            if let Some(handshake) = self.client_mut(next).and_then(|client| client.handshake.as_mut()) {
                handshake.begun = true;
                self.handshakes.under_way += 1;
                self.again.push(Token::Client(next.slot));
            }
        }
    }

    /// Closes the clients whose handshake takes too long.
    pub(super) fn close_unshaken(&mut self) {
        if self.handshakes.none() {
            return;
        }
        let doors = &self.in_force.config.doors;
        let overdue = |client: &ClientSocket| {
            let timeout = doors[client.listener.0 as usize].tls.handshake_timeout;
            client.handshake.as_ref().is_some_and(|handshake| self.now.since(handshake.since) >= timeout)
        };
        let clients = self.clients.iter().flatten();
        let ids: Vec<ClientId> = clients.filter(|client| overdue(client)).map(|client| client.id).collect();
        for id in ids {
            self.handshake_failed(id, HandshakeResult::Timeout, "not done within tls_handshake_timeout");
            self.close_client(id, CloseHow::Tls);
        }
    }
}
