//! A telemetry in which every metric of the catalogue has at least one series.

use std::io::Write;
use std::sync::{Arc, Mutex};
use weir_telemetry::histogram::{DURATION_BOUNDS, OPERATION_BOUNDS, bucket_of};
use weir_telemetry::*;

/// The verbs the memcached listener hands over, shortened.
pub static PROTOCOLS: [ProtocolLabels; 2] = [
    ProtocolLabels { name: "memcached", methods: MethodNames::Fixed(&["get", "gets", "set", "delete"]) },
    ProtocolLabels { name: "other", methods: MethodNames::Fixed(&["read", "write"]) },
];

/// When the sample's process started.
pub const STARTED: u64 = 1_700_000_000;

/// A sink a test can read.
#[derive(Clone, Debug, Default)]
pub struct Sink(Arc<Mutex<Vec<u8>>>);

impl Sink {
    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("sink").clone()).expect("UTF-8")
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("sink").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

pub fn config() -> TelemetryConfig {
    TelemetryConfig::new(&PROTOCOLS, STARTED)
}

/// What a worker has when a turn ends: requests asked and requests ended, of one caller and method. Every request that
/// ended took 800 us, had 30 bytes and got 400 bytes per operation; those not refused waited 120 us.
#[derive(Clone, Debug, Default)]
pub struct Turn {
    asked: Vec<u64>,
    ended: Vec<(Outcome, u64)>,
}

impl Turn {
    pub fn asked(mut self, operations: u64) -> Turn {
        self.asked.push(operations);
        self
    }

    pub fn ended(mut self, outcome: Outcome, operations: u64) -> Turn {
        self.ended.push((outcome, operations));
        self.asked(operations)
    }

    pub fn fold(&self, method: &MethodMetrics, now: Seconds) {
        let mut requests = [0; Outcome::COUNT];
        let mut size_class_operations = [0; SizeClass::COUNT];
        for (outcome, operations) in &self.ended {
            requests[outcome.index()] += 1;
            size_class_operations[SizeClass::of(*operations).index()] += operations;
        }
        let operations: u64 = self.ended.iter().map(|request| request.1).sum();
        let queued = self.ended.iter().filter(|request| request.0 != Outcome::Refused).count() as u64;
        let buckets = |bounds: &'static [u64], value: u64, n: u64| (bucket_of(bounds, value), n);
        method.fold(
            MethodDelta {
                requests: &requests,
                size_class_operations: &size_class_operations,
                request_operations: Observed {
                    buckets: self.ended.iter().map(|request| buckets(&OPERATION_BOUNDS, request.1, 1)),
                    sum: operations,
                },
                durations: Observed {
                    buckets: [buckets(&DURATION_BOUNDS, 800, self.ended.len() as u64)],
                    sum: 800 * self.ended.len() as u64,
                },
                queue_waits: Observed {
                    buckets: [buckets(&DURATION_BOUNDS, 120, queued)],
                    sum: 120 * queued,
                },
                bytes_in: 30 * operations,
                bytes_out: 400 * operations,
                largest_asked: self.asked.iter().copied().max().unwrap_or(0),
                example: self
                    .ended
                    .iter()
                    .map(|request| Example { operations: request.1, request_id: 0xfeed })
                    .max_by_key(|example| example.operations),
            },
            now,
        );
    }
}

/// Everything touched once; `now` is 100.
pub fn full() -> Arc<Telemetry> {
    let now = Seconds(100);
    let telemetry = Telemetry::with_event_sink(
        TelemetryConfig { configured_callers: vec!["appview".to_owned()], version: "0.1.0", ..config() },
        Box::new(Sink::default()),
    );
    telemetry.set_default_limits(
        ShownLimits::new(LimitMode::Observe).with(LimitKind::OperationsPerRequest, Some(2_000)),
    );
    let caller = telemetry.caller("importer", now);
    Turn::default().ended(Outcome::Ok, 17_500).ended(Outcome::Ok, 1).fold(caller.method(MethodIdx(0)), now);
    caller.flushes(FlushResult::Refused, 1);
    let came_to = AmplificationDelta { requests: 1, rpc_keys: 50, ..AmplificationDelta::default() };
    caller.amplification(AmplificationOrigin::Rpc, &came_to);
    telemetry.correlated_requests(1);
    telemetry.correlation_lost(CorrelationLost::Evicted, 0);
    caller.rejected(RejectReason::OperationsPerRequest, LimitMode::Observe, 1);

    let backend = telemetry.backend("127.0.0.1:11211");
    backend.opened(OpenResult::Ok);
    caller.backend_operations(&backend, 17_501);
    telemetry.rpc_server("127.0.0.1:11211").ejections(1);
    telemetry.pool("main").lookups(LookupResult::Coalesced, 2);
    let listener = telemetry.listener("cache");
    listener.accepted().closed(CloseHow::Reset, 1);
    listener.invalid("line_too_long", 1);
    listener.tls_handshake().ended(HandshakeResult::Ok);
    listener.token(TokenResult::Ok, true, 1);
    let principal = telemetry.principal("uid:1001", false);
    principal.accepted();
    principal.short();
    telemetry.worker(0).turn(250);
    telemetry.set_bound("max_connections", 20_000.0);
    telemetry.set_override("limits", "importer", true);
    telemetry.config_loaded("9f86d081884c7d65", now);
    telemetry.noreply_dropped(1);
    telemetry.client_input_bytes().set(0);
    telemetry.client_reply_bytes().set(0);
    telemetry.held_accounts().set(0);
    // Its gauges end with it, and a test looks at them afterwards.
    let _kept = std::mem::ManuallyDrop::new(telemetry.cluster("main").control());
    telemetry.namings(NamingResult::Named, 1);
    telemetry.attribution_questions(AskResult::Named, 1);
    let event = Event::new(Severity::Warn, "caller_over_ceiling", "too many operations");
    telemetry.events().emit(&event, now);
    telemetry.events().emit(&event, now);
    telemetry
}
