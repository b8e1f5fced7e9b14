//! From the RPC engine's plain numbers to shared metrics: what callers did goes the way of every protocol's, services and
//! methods have metrics of their own.

use super::{Books, Protocol, RPC_METHODS};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use weir_engine::ledger::Outcome as EngineOutcome;
use weir_engine::rpc::{RpcEngine, ServiceCounts, ServiceStanding};
use weir_engine::settings::Settings;
use weir_engine::units::Instant;
use weir_telemetry::{GaugeShare, Observed, Outcome, RetryResult, ServiceMetrics, Telemetry};

/// The books of the RPC edge: one engine's.
#[derive(Debug)]
pub struct RpcBooks {
    books: Books,
    telemetry: Arc<Telemetry>,
    /// Names of methods that the metrics know.
    named: usize,
    services: HashMap<Arc<str>, ServiceBooks>,
    /// Operations in flight, by server. One server may be of several services.
    in_flight: HashMap<Arc<str>, GaugeShare>,
}

/// What is kept of one service: its gauges' shares and what was counted when it was last looked at.
#[derive(Debug)]
struct ServiceBooks {
    metrics: Arc<ServiceMetrics>,
    calls: GaugeShare,
    in_flight: GaugeShare,
    waiting: GaugeShare,
    chunks_in_flight: GaugeShare,
    keys_waiting: GaugeShare,
    gathered: GaugeShare,
    orphans: GaugeShare,
    counts: ServiceCounts,
}

impl ServiceBooks {
    fn new(metrics: Arc<ServiceMetrics>) -> ServiceBooks {
        ServiceBooks {
            calls: metrics.calls(),
            in_flight: metrics.calls_in_flight(),
            waiting: metrics.calls_waiting(),
            chunks_in_flight: metrics.chunks_in_flight(),
            keys_waiting: metrics.chunk_keys_waiting(),
            gathered: metrics.gathered_bytes(),
            orphans: metrics.orphans(),
            counts: ServiceCounts::default(),
            metrics,
        }
    }

    fn fold(&mut self, standing: &ServiceStanding, telemetry: &Telemetry) {
        self.calls.set(standing.calls.into());
        self.in_flight.set(standing.whole.into());
        self.waiting.set(standing.waiting as u64);
        self.chunks_in_flight.set(standing.servers.iter().map(|server| u64::from(server.chunks)).sum());
        self.keys_waiting.set(standing.keys_waiting);
        self.gathered.set(standing.gathered);
        self.orphans.set(standing.orphans.into());
        let (new, old) = (&standing.counts, &self.counts);
        // a service that came back under the same name counts from zero
        let more = |new: u64, old: u64| new.checked_sub(old).unwrap_or(new);
        for outcome in EngineOutcome::ALL {
            let index = outcome.index();
            self.metrics.splits(Outcome::ALL[index], more(new.splits[index], old.splits[index]));
        }
        self.metrics.chunks(more(new.chunks, old.chunks));
        self.metrics.retries(RetryResult::Sent, more(new.retries, old.retries));
        self.metrics.retries(RetryResult::Refused, more(new.retries_refused, old.retries_refused));
        for (cause, calls) in &new.unsplit {
            let before = old.unsplit.get(cause).copied().unwrap_or_default();
            let calls = more(*calls, before);
            if calls > 0 {
                telemetry.rpc_unsplit(cause, calls);
            }
        }
        self.counts = standing.counts.clone();
    }
}

impl RpcBooks {
    /// Empty books.
    #[must_use]
    pub fn new(telemetry: Arc<Telemetry>, settings: &Settings) -> RpcBooks {
        RpcBooks {
            books: Books::new(Protocol::Rpc, telemetry.clone(), settings),
            telemetry,
            named: 0,
            services: HashMap::new(),
            in_flight: HashMap::new(),
        }
    }

    /// Where it is told.
    #[must_use]
    pub fn telemetry(&self) -> &Arc<Telemetry> {
        &self.telemetry
    }

    /// New settings.
    pub fn apply(&mut self, settings: &Settings) {
        self.books.apply(settings);
    }

    /// The rows of callers, for the control socket.
    #[must_use]
    pub fn rows(&self) -> &[super::Row] {
        self.books.rows()
    }

    /// Moves what the engine counted into the shared metrics and the rows. The engine is looked at, not changed, but for
    /// its counts.
    pub fn fold(&mut self, engine: &mut RpcEngine, settings: &Settings, now: Instant) {
        for (number, name) in engine.method_names().iter().enumerate().skip(self.named) {
            RPC_METHODS.name(number, name);
        }
        self.named = engine.method_names().len();
        engine.take_method_counts(|name, counts| {
            let metrics = self.telemetry.rpc_method(name);
            metrics.denied(counts.denied);
            metrics.split_stopped(counts.split_stopped);
            let (buckets, sum) = (counts.reply_keys.iter(), counts.reply_keys.sum());
            metrics.reply_keys(Observed { buckets, sum });
        });
        self.services(&engine.services(now));
        let books = &mut self.books;
        engine.fold_servers(|slot, identity, server, operations| {
            books.resolve_once(slot as usize, identity, now);
            let backend = super::node(&mut books.nodes, &books.telemetry, server);
            if let Some(Some(handles)) = books.handles.get(slot as usize) {
                handles.caller.backend_operations(backend, operations);
            }
        });
        engine.fold(|slot, identity, tally| books.fold_one(slot as usize, identity, tally, settings, now));
    }

    fn services(&mut self, standing: &[ServiceStanding]) {
        let mut in_flight: HashMap<&Arc<str>, u64> = HashMap::new();
        for service in standing {
            let books = self
                .services
                .entry(service.name.clone())
                .or_insert_with(|| ServiceBooks::new(self.telemetry.service(&service.name)));
            books.fold(service, &self.telemetry);
            for server in &service.servers {
                *in_flight.entry(&server.name).or_default() += server.operations;
            }
        }
        let names: HashSet<&Arc<str>> = standing.iter().map(|service| &service.name).collect();
        self.services.retain(|name, _| names.contains(name));
        self.in_flight.retain(|name, _| in_flight.contains_key(name));
        for (name, operations) in in_flight {
            let make = || self.telemetry.backend(name).inflight_operations();
            self.in_flight.entry(name.clone()).or_insert_with(make).set(operations);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fold::PROTOCOLS;
    use weir_engine::admit::Budgets;
    use weir_engine::rpc::{self, Body, End, Event, Head, Progress, Verdict, identity};
    use weir_engine::settings::{Address, Backend, ListenerSettings, ServiceSettings};
    use weir_engine::units::{ListenerId, ServiceId};
    use weir_telemetry::{Seconds, TelemetryConfig};

    #[test]
    fn a_split_call_shows_in_every_metric() {
        let at = |port| Address::Tcp { host: "127.0.0.1".into(), port };
        let mut service = ServiceSettings::new("dataplane", vec![at(1)]);
        service.methods = [Arc::from("fold.Service/GetPosts")].into();
        let listener = ListenerSettings::new("edge", at(2), Backend::Service(ServiceId(0)));
        let settings =
            Arc::new(Settings { services: vec![service], listeners: vec![listener], ..Settings::default() });
        let telemetry = Telemetry::new(TelemetryConfig::new(&*PROTOCOLS, 0));
        let mut books = RpcBooks::new(telemetry.clone(), &settings);
        let mut engine = RpcEngine::new(settings.clone(), Arc::new(Budgets::default()), 1);
        let now = Instant(1_000_000);
        let caller = Arc::new(identity(ListenerId(0), &"uid:7".into(), Some(b"feedgen")));
        let head = Head {
            identity: &caller,
            protocol: rpc::Protocol::Connect,
            method: "fold.Service/GetPosts",
            deadline: None,
        };
        let call = engine.begin(&head, now).expect("begun").call;
        let body = Body { keys: 15_000, bytes: 1_000_000, splittable: true, idempotent: true };
        assert!(matches!(engine.counted(call, &body, now), Verdict::Split { chunks: 150, .. }));
        books.fold(&mut engine, &settings, now);
        let page = || telemetry.render(None, Seconds(1)).body;
        let shows = |line: &str| assert!(page().lines().any(|shown| shown == line), "{line} in\n{}", page());
        shows("weir_rpc_chunks_in_flight{service=\"dataplane\"} 4");
        shows("weir_rpc_chunk_keys_waiting{service=\"dataplane\"} 14600");
        shows("weir_backend_inflight_operations{backend=\"127.0.0.1:1\"} 400");
        shows("weir_request_operations_max{caller=\"feedgen\",method=\"fold.Service/GetPosts\"} 15000");
        let mut events = Vec::new();
        loop {
            engine.take_events(&mut events);
            let Some(Event::Start(start)) = events.pop() else { panic!("a part") };
            if engine.part_answered(start.part, start.keys, 10, now) == Progress::Complete {
                break;
            }
        }
        engine.answered(call, &End { outcome: EngineOutcome::Ok, reply_keys: 15_000, bytes: 9_000_000 }, now);
        engine.denied().deny("fold.Service/GetPosts", "", Instant(u64::MAX), now).expect("room");
        engine.begin(&head, now).expect_err("off");
        books.fold(&mut engine, &settings, now);
        for line in [
            "weir_requests_total{caller=\"feedgen\",protocol=\"connect\",method=\"fold.Service/GetPosts\",outcome=\"ok\"} 1",
            "weir_requests_total{caller=\"feedgen\",protocol=\"connect\",method=\"fold.Service/GetPosts\",outcome=\"refused\"} 1",
            "weir_rejected_total{caller=\"feedgen\",reason=\"denied\",mode=\"refuse\"} 1",
            "weir_backend_operations_total{caller=\"feedgen\",backend=\"127.0.0.1:1\"} 15000",
            "weir_rpc_splits_total{service=\"dataplane\",outcome=\"ok\"} 1",
            "weir_rpc_chunks_total{service=\"dataplane\"} 150",
            "weir_rpc_chunks_in_flight{service=\"dataplane\"} 0",
            "weir_backend_inflight_operations{backend=\"127.0.0.1:1\"} 0",
            "weir_rpc_reply_keys_sum{method=\"fold.Service/GetPosts\"} 15000.0",
            "weir_denied_total{method=\"fold.Service/GetPosts\"} 1",
        ] {
            shows(line);
        }
        assert_eq!(books.rows()[0].operations, 15_000);
        engine.check_quiet();
    }
}
