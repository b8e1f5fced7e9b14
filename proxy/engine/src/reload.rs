//! New settings while requests are under way: limits, switches and time-outs hold at once. A pool whose servers changed
//! gets new lanes; what was passed on to the old ones is still answered there, and no client's later command goes to a
//! new lane before that (on another connection it could overtake).
//!
//! Servers and lanes that left keep their places until all they owed is answered and their sockets are closed
//! ([`Engine::lane_gone`]); then the next ones take them, so that reloads cost no memory however many there are.

use crate::OutBuffer;
use crate::client::Hold;
use crate::engine::{Engine, Pool};
use crate::error::Failure;
use crate::multiplex::{Lane, LaneInfo, LaneState, Server};
use crate::route::Ring;
use crate::settings::{Address, PoolSettings, Settings};
use crate::units::{Bytes, ClientId, Instant, LaneId, Operations, PoolId, ServerId};
use std::collections::VecDeque;
use std::sync::Arc;

impl Engine {
    /// Lays out servers and lanes of a pool, in places that are free or after those that exist.
    pub(crate) fn lay_out(&mut self, id: PoolId) -> Pool {
        let settings = self.settings.clone();
        let settings = &settings.pools[id.0 as usize];
        let servers = settings.servers.iter().map(|server| self.add_server(id, &server.address, settings));
        Pool { servers: servers.collect(), ring: Ring::new(settings.ring, &settings.servers) }
    }

    fn add_server(&mut self, pool: PoolId, address: &Address, settings: &PoolSettings) -> ServerId {
        // an account without a name still says what it asked of the server that was
        let held = |id: &ServerId| {
            let mut spent = self.ledger.held().iter().flat_map(|(_, account)| &account.spent);
            spent.any(|(server, _)| server == id)
        };
        let free = self.free_servers.iter().position(|id| !held(id));
        let free = free.map(|at| self.free_servers.swap_remove(at));
        let id = free.unwrap_or(ServerId(self.servers.len() as u32));
        let info =
            LaneInfo { pool, server: id, address: address.clone(), auth_file: settings.auth_file.clone() };
        let lanes = (0..settings.connections_per_server).map(|_| self.add_lane(info.clone())).collect();
        let server = Server::new(pool, address.to_string().into(), lanes, settings, self.workers);
        match free {
            Some(id) => self.servers[id.0 as usize] = server,
            None => self.servers.push(server),
        }
        id
    }

    fn add_lane(&mut self, info: LaneInfo) -> LaneId {
        let lane = Lane::new(info);
        if let Some(id) = self.free_lanes.pop() {
            self.lanes[id.0 as usize] = lane;
            return id;
        }
        self.lanes.push(lane);
        LaneId(self.lanes.len() as u32 - 1)
    }

    /// The driver keeps nothing of this lane any more: no socket, no attempt. Only for lanes that [`Engine::lanes`] does
    /// not name; its number is given to another connection by a later [`Engine::apply`]. Nothing happens while it still
    /// owes an answer, and when it was told before.
    pub fn lane_gone(&mut self, id: LaneId) {
        let lane = &mut self.lanes[id.0 as usize];
        let owes = !lane.owed.is_empty() || lane.batch.is_some();
        if lane.state != LaneState::Retired || owes || self.free_lanes.contains(&id) {
            return;
        }
        lane.out = OutBuffer::default();
        lane.owed = VecDeque::new();
        lane.input = Vec::new();
        let server_id = lane.info.server;
        self.cuts.retain(|(cut, _)| *cut != id); // they are about the connection that was
        self.free_lanes.push(id);
        let server = &mut self.servers[server_id.0 as usize];
        server.lanes.retain(|lane| *lane != id);
        if server.retired && server.lanes.is_empty() {
            self.operations_of_gone += std::mem::take(&mut server.backend_operations);
            server.spent = Vec::new();
            self.free_servers.push(server_id);
        }
    }

    /// Places in the tables of servers and of lanes, those included that are free for the next ones. At most as many
    /// as were ever in use at once.
    #[must_use]
    pub fn places(&self) -> (usize, usize) {
        (self.servers.len(), self.lanes.len())
    }

    /// New settings: limits, switches and time-outs hold at once; a pool whose servers or connections changed gets new
    /// lanes (see [`Engine::lanes`]), and its old ones are cut when nothing is owed on them. The listeners must be the
    /// same, in number and order. `end_turn` must follow.
    pub fn apply(&mut self, settings: Arc<Settings>, now: Instant) {
        let same: Vec<bool> = (0..self.pools.len())
            .map(|index| {
                let new = settings.pools.get(index);
                new.is_some_and(|new| same_servers(&self.settings.pools[index], new))
            })
            .collect();
        let moves = |client: &crate::client::Client| {
            let pool = settings.pool_of(client.listener).unwrap_or(client.pool);
            client.open && (pool != client.pool || !same[pool.0 as usize])
        };
        let moved: Vec<ClientId> = (0..self.clients.len())
            .filter(|slot| moves(&self.clients[*slot]))
            .map(|slot| ClientId { slot: slot as u32, generation: self.clients[slot].generation })
            .collect();
        for id in &moved {
            self.unhook(*id, now);
        }
        self.settings = settings;
        self.callers.trust_request_ids(&self.settings);
        for index in 0..self.callers.known.len() {
            self.new_limits(index as u32);
        }
        let mut retired = Vec::new();
        for (index, same) in same.into_iter().enumerate() {
            if same {
                for server in &self.pools[index].servers {
                    self.servers[server.0 as usize].tune(&self.settings.pools[index], self.workers);
                }
                continue;
            }
            retired.append(&mut self.pools[index].servers);
            if index < self.settings.pools.len() {
                self.pools[index] = self.lay_out(PoolId(index as u32));
            }
        }
        self.pools.truncate(self.settings.pools.len());
        for index in self.pools.len()..self.settings.pools.len() {
            let pool = self.lay_out(PoolId(index as u32));
            self.pools.push(pool);
        }
        for id in &moved {
            let client = &mut self.clients[id.slot as usize];
            client.pool = self.settings.pool_of(client.listener).unwrap_or(client.pool);
            client.barrier = client.next_seq();
            if let Some(bulk) = &mut client.bulk {
                bulk.moved = true;
            }
        }
        for server in retired {
            self.retire(server, now);
        }
        for id in moved {
            if self.clients[id.slot as usize].hold.is_none() {
                self.queue_bulk(id, now);
                self.resume_later(id);
            }
        }
    }

    /// Takes a client out of the queues of servers that leave.
    fn unhook(&mut self, id: ClientId, now: Instant) {
        let client = &mut self.clients[id.slot as usize];
        if let Some(Hold::Queued(_) | Hold::Bulk(_)) = client.hold {
            client.hold = None;
            self.leave_queue(id);
        }
        self.pass_waiting_parts(id, now);
    }

    /// The limits in force for an identity. What its requests hold goes along to the budget they come back to.
    fn new_limits(&mut self, slot: u32) {
        let Some((limits, state)) = self.callers.budget_now(slot, &self.settings) else { return };
        let (operations, bytes) = self.held_by(slot);
        self.callers.rebudget(slot, limits, state, operations, bytes);
    }

    fn held_by(&self, known: u32) -> (Operations, Bytes) {
        let (mut operations, mut bytes) = (Operations(0), Bytes(0));
        for client in self.clients.iter().filter(|client| client.open) {
            let asked = client.asked.iter().filter(|asked| asked.known == known);
            let granted = client.granted.filter(|_| client.known == known);
            for held in asked.filter_map(|asked| asked.held).chain(granted) {
                operations += held.operations;
                bytes += held.bytes;
            }
        }
        (operations, bytes)
    }

    fn retire(&mut self, server: ServerId, now: Instant) {
        let server = &mut self.servers[server.0 as usize];
        server.retired = true;
        for id in server.lanes.clone() {
            let lane = &mut self.lanes[id.0 as usize];
            lane.close_batch(now);
            let up = lane.is_up();
            lane.state = LaneState::Retired;
            if !up {
                // it will never be connected
                lane.out.reset();
                for pending in std::mem::take(&mut lane.owed) {
                    self.fail_pending(id, pending, Failure::NotSent, now);
                }
            }
            self.mark_lane(id);
            self.cut_if_retired(id);
        }
    }
}

fn same_servers(old: &PoolSettings, new: &PoolSettings) -> bool {
    old.servers == new.servers
        && old.connections_per_server == new.connections_per_server
        && old.ring == new.ring
        && old.auth_file == new.auth_file
}
