//! Where calls and parts go, and that the edge had to send one elsewhere.

use super::RpcEngine;
use super::call::PartId;
use super::parts::Start;
use crate::settings::Address;
use crate::units::{Instant, ServiceId};

impl RpcEngine {
    /// Where a part goes; `None` once it is over.
    #[must_use]
    pub fn server(&self, start: &Start) -> Option<&Address> {
        let call = self.calls.get(start.part.call)?;
        let server = self.services[call.service].servers.get(start.server as usize)?;
        Some(&server.address)
    }

    /// Where a call or a part that was started goes now: after [`RpcEngine::retry`] that may be another server.
    #[must_use]
    pub fn server_of(&self, part: PartId) -> Option<&Address> {
        let call = self.calls.get(part.call)?;
        let server = call.in_flight[call.find(part.index)?].server;
        self.services[call.service].servers.get(server as usize).map(|server| &server.address)
    }

    /// The server that was chosen could not be reached, and another one was sent the part: it is that one's from now on,
    /// over its budget of parts too, if need be.
    pub fn went(&mut self, part: PartId, to: &Address, now: Instant) {
        let Some(call) = self.calls.get_mut(part.call) else { return };
        let Some(place) = call.find(part.index) else { return };
        let service = &mut self.services[call.service];
        let Some(new) = service.servers.iter().position(|server| server.address == *to) else { return };
        let in_flight = &mut call.in_flight[place];
        let (old, new, keys) = (in_flight.server, new as u32, in_flight.keys);
        if old == new {
            return;
        }
        in_flight.server = new;
        let chunk = call.split();
        service.leave(old, chunk, keys);
        service.servers[old as usize].unspend(call.known, keys);
        service.enter(new, chunk, now);
        service.servers[new as usize].spend(call.known, keys);
        let of = call.service;
        self.pump(of, now);
    }

    /// A health check or a connection found out whether a server is up: only those that are get calls, or all of them
    /// while none is.
    pub fn server_is(&mut self, service: ServiceId, address: &Address, up: bool, now: Instant) {
        let Some(&place) = self.places.get(service.0 as usize) else { return };
        let mut servers = self.services[place].servers.iter_mut();
        if let Some(server) = servers.find(|server| server.address == *address) {
            server.up = up;
        }
        self.pump(place, now); // it may have room
    }
}
