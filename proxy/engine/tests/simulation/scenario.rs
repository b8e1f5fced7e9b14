//! What a seed decides before a run begins: settings, and what may go wrong.

use crate::judge::Allowed;
use crate::random::Random;
use std::sync::Arc;
use weir_engine::caller::Identity;
use weir_engine::settings::{
    Address, Backend, CallerClass, CallerLimits, FlushPolicy, LimitMode, ListenerSettings, PoolSettings,
    RingDialect, ServerSettings, Settings, Switches,
};
use weir_engine::units::{Bytes, ListenerId, Operations, PoolId, Span};

/// Bytes of one value that weir takes in these runs.
pub const VALUE_MAX: usize = 3_000;

#[derive(Debug)]
pub struct Scenario {
    pub allowed: Allowed,
    /// Settings change while requests are under way.
    pub reloads: bool,
    /// Pools change too.
    pub moves: bool,
    /// Clients vanish with requests under way.
    pub vanish: bool,
    /// Clients stop reading for a while.
    pub slow_readers: bool,
    /// Large multigets.
    pub huge: bool,
    /// Only then is `flush_all` sent and allowed: it changes everybody's keys.
    pub one_client: bool,
    pub clients_max: usize,
    pub settings: Settings,
}

impl Scenario {
    pub fn new(random: &mut Random, seed: u64) -> Scenario {
        // one run in four: nothing goes wrong, so every answer must be exact
        let rough = !seed.is_multiple_of(4);
        let allowed = Allowed {
            links: rough && random.chance(60),
            timeouts: rough && random.chance(40),
            queues: rough && random.chance(20),
            limits: rough && random.chance(40),
            server_errors: rough && random.chance(30),
            no_flush: false,
        };
        let one_client = random.chance(10);
        let mut scenario = Scenario {
            allowed,
            reloads: random.chance(50),
            moves: random.chance(50),
            vanish: random.chance(50),
            slow_readers: random.chance(50),
            huge: random.chance(60),
            one_client,
            clients_max: if one_client { 1 } else { random.between(2, 10) },
            settings: Settings::default(),
        };
        scenario.allowed.no_flush = !one_client || random.chance(50);
        scenario.settings = scenario.draw(random, None);
        scenario
    }

    /// Fresh settings; `old` keeps its listeners, and its servers unless pools may change.
    pub fn draw(&self, random: &mut Random, old: Option<&Settings>) -> Settings {
        let mut settings = Settings {
            undeclared: self.limits(random),
            reply_bytes_max: Bytes(random.pick(&[64 << 20, 200_000, 20_000])),
            input_bytes_max: Bytes(random.pick(&[64 << 20, 100_000, 20_000])),
            ..Settings::default()
        };
        settings.callers.insert("trusted".into(), self.limits(random));
        settings.callers.insert("uid:1".into(), self.limits(random));
        if random.chance(50) {
            settings.operator_callers.insert("trusted".into());
        }
        let pools = match old {
            Some(old) if !self.moves => old.pools.len(),
            _ => random.between(1, 2),
        };
        for index in 0..pools {
            let mut pool = self.pool(random, index);
            if let Some(old) = old.and_then(|old| old.pools.get(index))
                && (!self.moves || random.chance(50))
            {
                pool.servers = old.servers.clone();
                pool.ring = old.ring;
                pool.connections_per_server = old.connections_per_server;
            }
            settings.pools.push(pool);
        }
        let listeners = old.map_or_else(|| random.between(1, 3), |old| old.listeners.len());
        for index in 0..listeners {
            let mut pool = PoolId(random.below(pools) as u32);
            if let Some(old) = old.filter(|_| !self.moves) {
                pool = old.listeners[index].backend.pool().expect("a pool");
            }
            let address = Address::Unix { path: format!("/run/{index}").into() };
            let mut listener = ListenerSettings::new(&format!("l{index}"), address, Backend::Pool(pool));
            listener.value_max = VALUE_MAX;
            listener.line_max = 100_000;
            listener.reply_buffer = random.pick(&[500, 5_000, 50_000, 256 << 10]);
            listener.reply_buffer_max = 16 << 20;
            let patience = if self.slow_readers { Span::millis(100) } else { Span::secs(100_000) };
            listener.slow_reader_timeout = patience;
            listener.trusted_names = vec!["trusted".into()];
            listener.switches = Switches {
                split: random.chance(85),
                batching: random.chance(80),
                single_flight: random.chance(80),
                limits: random.chance(85),
            };
            settings.listeners.push(listener);
        }
        settings
    }

    fn limits(&self, random: &mut Random) -> CallerLimits {
        let modes = [LimitMode::Observe, LimitMode::Pace, LimitMode::Refuse];
        let operations =
            |random: &mut Random, from: &[u64]| random.chance(40).then(|| Operations(random.pick(from)));
        CallerLimits {
            operations_per_request: operations(random, &[10, 100, 1_000]),
            operations_per_second: operations(random, &[100, 1_000, 50_000]),
            burst: operations(random, &[1, 100]),
            operations_in_flight: operations(random, &[5, 50, 500]),
            bytes_in_flight: random.chance(20).then(|| Bytes(random.pick(&[10_000, 1_000_000]))),
            mode: if self.allowed.limits { random.pick(&modes) } else { LimitMode::Observe },
            class: random.pick(&[CallerClass::Interactive, CallerClass::Batch]),
            pace_max_wait: Span(random.pick(&[100, 5_000, 250_000])),
        }
    }

    fn pool(&self, random: &mut Random, index: usize) -> PoolSettings {
        let servers = random.between(1, 4);
        let server = |port: usize| ServerSettings {
            address: Address::Tcp { host: "10.0.0.1".into(), port: (port + 10 * index) as u16 },
            weight: 1,
            name: None,
        };
        let servers = (0..servers).map(|_| server(11_211 + random.below(1_000))).collect();
        let mut pool = PoolSettings::new(&format!("p{index}"), servers);
        pool.ring = random.pick(&[RingDialect::LibmemcachedWeighted, RingDialect::TwemproxyFnv1a64]);
        pool.connections_per_server = random.between(1, 3) as u32;
        pool.chunk_keys = random.pick(&[1, 4, 16, 128]);
        pool.bulk_keys_in_flight = Operations(u64::from(pool.chunk_keys) * random.pick(&[1, 2, 5]));
        pool.operations_in_flight = Operations(random.pick(&[2, 20, 256, 1_024]));
        pool.bytes_in_flight = Bytes(random.pick(&[3_000, 50_000, 8 << 20]));
        pool.split = random.chance(85);
        pool.batching = random.chance(80);
        pool.batch_keys = random.pick(&[2, 7, 64]);
        pool.single_flight = random.chance(80);
        pool.flush_all = if self.allowed.no_flush { FlushPolicy::Refuse } else { FlushPolicy::Allow };
        pool.retry_percent = random.pick(&[0, 10, 100]);
        let long = Span::secs(100_000);
        pool.request_timeout = if self.allowed.timeouts { Span::millis(300) } else { long };
        pool.stall_timeout = if self.allowed.timeouts { Span::millis(900) } else { long };
        pool.queue_timeout = if self.allowed.queues { Span::millis(200) } else { long };
        pool
    }

    /// Somebody's identity at a listener.
    pub fn identity(&self, random: &mut Random, listener: ListenerId) -> Arc<Identity> {
        let principal = random.pick(&["uid:1", "uid:2", "l0"]);
        let name = random.pick(&["trusted", "app", "uid:1"]);
        Arc::new(Identity { listener, principal: principal.into(), name: name.into() })
    }
}
