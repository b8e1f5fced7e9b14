//! What the correlator knows, as the metrics and the control socket show it.

use crate::admin::model::{Amplification, AmplificationRow, LegReport, RequestReport, RpcReport, ServiceRow};
use crate::clock::{Clock, seconds};
use crate::fold::Protocol;
use crate::worker::orders::Look;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use weir_engine::correlate::totals::OTHER;
use weir_engine::correlate::{CallerSums, Correlator, LegSums, Origin, Tracked};
use weir_engine::units::Instant;
use weir_telemetry::{AmplificationDelta, AmplificationOrigin, CorrelationLost, Telemetry};

/// Brings what is new into the metrics.
pub(super) fn show(correlator: &Correlator, telemetry: &Telemetry, now: Instant) {
    correlator.fold(|caller, origin, sums| {
        let delta = AmplificationDelta {
            requests: sums.requests,
            rpc_keys: sums.rpc_keys,
            cache_operations: sums.cache_operations,
            cache_misses: sums.cache_misses,
            database_operations: sums.database_operations,
            storage_bytes: sums.storage_bytes,
        };
        let handles = match &**caller {
            OTHER => telemetry.other_callers(),
            caller => telemetry.caller(caller, seconds(now)),
        };
        handles.amplification(shown_origin(origin), &delta);
    });
    let counts = correlator.counts(now);
    telemetry.correlated_requests(counts.tracked);
    telemetry.correlation_lost(CorrelationLost::Evicted, counts.evicted);
    telemetry.correlation_lost(CorrelationLost::Dropped, counts.dropped);
    telemetry.correlation_lost(CorrelationLost::Unknown, counts.unknown);
    telemetry.correlation_lost(CorrelationLost::Ambiguous, counts.ambiguous);
}

fn shown_origin(origin: Origin) -> AmplificationOrigin {
    match origin {
        Origin::Rpc => AmplificationOrigin::Rpc,
        Origin::Service => AmplificationOrigin::Service,
    }
}

/// Callers, services and the largest requests.
pub(super) fn rows(correlator: &Correlator, clock: Clock, looks: &[Look]) -> Amplification {
    let now = clock.now();
    let (sums, largest) = (correlator.sums(), correlator.largest(now));
    let mut services = services(looks);
    let say_ids = correlator.services();
    for service in &mut services {
        service.says_ids = say_ids.iter().any(|name| **name == *service.service);
    }
    let mut callers: Vec<_> = sums.iter().map(row).collect();
    callers.sort_by_key(|row| Reverse(row.cache_operations + row.database_operations));
    let counts = correlator.counts(now);
    Amplification {
        callers,
        services,
        largest: largest.iter().map(|tracked| report(tracked, clock)).collect(),
        tracked: counts.tracked,
        evicted: counts.evicted,
        dropped: counts.dropped,
        unknown: counts.unknown,
        ambiguous: counts.ambiguous,
    }
}

fn row(of: &CallerSums) -> AmplificationRow {
    let sums = &of.sums;
    let per_key = |operations: u64| (sums.rpc_keys > 0).then(|| operations as f64 / sums.rpc_keys as f64);
    AmplificationRow {
        caller: of.caller.to_string(),
        origin: of.origin.label().to_owned(),
        requests: sums.requests,
        rpc_keys: sums.rpc_keys,
        cache_operations: sums.cache_operations,
        cache_misses: sums.cache_misses,
        database_operations: sums.database_operations,
        database_rows: sums.database_rows,
        storage_bytes: sums.storage_bytes,
        cache_operations_per_key: per_key(sums.cache_operations),
        database_operations_per_key: per_key(sums.database_operations),
    }
}

/// What each principal asked of storage, with an id or without.
fn services(looks: &[Look]) -> Vec<ServiceRow> {
    let mut by_name: BTreeMap<&str, ServiceRow> = BTreeMap::new();
    // calls are not storage: what they cost is behind the services
    for look in looks.iter().filter(|look| look.protocol != Protocol::Rpc) {
        for row in &look.rows {
            let service = by_name.entry(&row.identity.principal).or_default();
            match look.protocol {
                Protocol::Memcached => {
                    service.cache_operations += row.operations;
                    service.cache_misses += row.misses;
                }
                Protocol::Cql => service.database_operations += row.operations,
                Protocol::Rpc => {}
            }
        }
    }
    let named = by_name.into_iter().map(|(name, row)| ServiceRow { service: name.to_owned(), ..row });
    let mut rows: Vec<ServiceRow> = named.collect();
    rows.sort_by_key(|row| Reverse(row.cache_operations + row.database_operations));
    rows
}

/// One request.
pub(super) fn report(tracked: &Tracked, clock: Clock) -> RequestReport {
    let rpc = tracked.rpc.as_ref().map(|rpc| RpcReport {
        caller: rpc.caller.to_string(),
        method: rpc.method.to_string(),
        calls: rpc.calls,
        keys: rpc.keys,
        outcome: rpc.end.map(|end| end.outcome.label().to_owned()),
        chunks: rpc.end.map(|end| end.chunks),
        bytes_in: rpc.end.map(|end| end.bytes_in),
        bytes_out: rpc.end.map(|end| end.bytes_out),
        took_us: rpc.end.map(|end| end.at.since(rpc.began).0),
    });
    RequestReport {
        id: tracked.id.to_string(),
        short_id: tracked.id.short(),
        rpc,
        service: tracked.service.as_ref().map(ToString::to_string),
        cache: leg(&tracked.cache),
        database: leg(&tracked.database),
        first_seen_unix_ms: clock.unix_ms(tracked.first_seen),
        seen_for_us: tracked.last_seen.since(tracked.first_seen).0,
    }
}

fn leg(sums: &LegSums) -> LegReport {
    LegReport {
        requests: sums.requests,
        failed: sums.failed,
        operations: sums.operations,
        backend_operations: sums.backend_operations,
        hits: sums.hits,
        misses: sums.misses,
        coalesced: sums.coalesced,
        chunks: sums.chunks,
        bytes_in: sums.bytes_in,
        bytes_out: sums.bytes_out,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fold::PROTOCOLS;
    use weir_engine::correlate::CorrelationId;
    use weir_engine::correlate::totals::CALLERS_MAX;
    use weir_telemetry::TelemetryConfig;

    #[test]
    fn a_crowd_of_callers_takes_no_more_labels_than_there_are() {
        let telemetry = Telemetry::new(TelemetryConfig::new(&*PROTOCOLS, 0));
        let correlator = Correlator::new(10, 1);
        let (method, now) = ("m".into(), Instant(5_000_000));
        let began = |caller: String| {
            correlator.rpc_began(CorrelationId([1; 16]), &caller.into(), &method, 3, now);
        };
        (0..CALLERS_MAX + 100).for_each(|n| began(format!("caller-{n}")));
        for _ in 0..2 {
            show(&correlator, &telemetry, now); // the second finds nothing new
        }
        let page = telemetry.render(None, seconds(now)).body;
        let keys: Vec<&str> =
            page.lines().filter(|line| line.starts_with("weir_amplification_rpc_keys_total{")).collect();
        assert_eq!(keys.len(), 64 + 1, "{keys:?}");
        let value = |line: &str| line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok());
        let sum: f64 = keys.iter().filter_map(|line| value(line)).sum();
        assert_eq!(sum, 3.0 * (CALLERS_MAX as f64 + 100.0), "no key is lost");
        assert!(!page.contains("caller=\"_invalid\",origin"), "{page}");
        assert!(page.lines().any(|line| line == "weir_correlated_requests{} 1"), "{page}");
    }
}
