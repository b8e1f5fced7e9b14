//! memcached's engine as a worker drives it.

use super::{DataPath, Patience, Route, Server, shared_calls};
use crate::config::Config;
use crate::fold::Protocol;
use crate::upstream::{Connecting, memcached};
use std::net::SocketAddr;
use std::sync::Arc;
use weir_engine::admit::Budgets;
use weir_engine::caller::Identity;
use weir_engine::correlate::Correlator;
use weir_engine::error::Rejected;
use weir_engine::ledger::{IdentityTally, Ledger};
use weir_engine::settings::{Address, Backend, Settings};
use weir_engine::units::{ClientId, Instant, LaneId, ListenerId, Span};
use weir_engine::{
    ClientSummary, CloseHow, CutCause, Desync, Engine, EngineSnapshot, FlushJob, LaneInfo, NamingCounts,
    OutBuffer,
};

impl DataPath for Engine {
    const PROTOCOL: Protocol = Protocol::Memcached;
    type Lane = LaneInfo;

    shared_calls!(Engine);

    fn open_client(
        &mut self,
        listener: ListenerId,
        identity: Arc<Identity>,
        _dialled: impl FnOnce() -> SocketAddr,
        now: Instant,
    ) -> ClientId {
        Engine::open_client(self, listener, identity, now)
    }
    fn client_read_max(&self, id: ClientId) -> usize {
        Engine::client_read_max(self, id)
    }
    fn client_wrote(&mut self, id: ClientId, n: usize, now: Instant) {
        Engine::client_wrote(self, id, n, now);
    }
    fn lane_failed(&mut self, id: LaneId, sign_in: bool, now: Instant) {
        if sign_in {
            Engine::lane_sign_in_failed(self, id, now);
        } else {
            Engine::lane_failed(self, id, now);
        }
    }
    fn lane_gone(&mut self, id: LaneId) {
        Engine::lane_gone(self, id);
    }
    fn take_flushes(&mut self, into: &mut Vec<FlushJob>) {
        Engine::take_flushes(self, into);
    }
    fn flush_done(&mut self, job: &FlushJob, ok: bool, now: Instant) {
        Engine::flush_done(self, job, ok, now);
    }
    /// memcached answers within microseconds; while chunks of large requests wait, their flow goes first.
    fn gives_way(&self) -> bool {
        !self.is_splitting()
    }
    /// It gives way instead, which serves one client as well and many better.
    fn waits_awake(&self) -> bool {
        false
    }
    fn fold_servers(&mut self, mut f: impl FnMut(u32, &Arc<Identity>, Server<'_>, u64)) {
        Engine::fold_servers(self, |slot, identity, pool, position, operations| {
            f(slot, identity, Server::Position(pool, position), operations);
        });
    }
}

impl Route for LaneInfo {
    fn backend(&self) -> Backend {
        Backend::Pool(self.pool)
    }

    fn address(&self) -> &Address {
        &self.address
    }

    fn patience(&self, settings: &Settings) -> Patience {
        let pool = &settings.pools[self.pool.0 as usize];
        Patience {
            connect: pool.connect_timeout,
            reconnect_min: pool.reconnect_min,
            reconnect_max: pool.reconnect_max,
        }
    }

    fn dial(&self, _config: &Config, timeout: Span) -> Connecting {
        memcached::start(self.address.clone(), self.auth_file.clone(), timeout)
    }
}
