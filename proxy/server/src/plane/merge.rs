//! Many workers' looks as one snapshot.

mod backends;
mod statements;

use super::amplification;
use crate::admin::model::{
    CallerRow, ExpensiveRow, HeavyRow, Instance, Largest, Limited, LimitsView, ListenerRow, Snapshot, Totals,
};
use crate::caps::Caps;
use crate::caps::files::Share;
use crate::clock::{Clock, unix_now};
use crate::config::Config;
use crate::fold::Row;
use crate::fold::window::{self, Work};
use crate::overrides::{Desk, Feature, UnixTime};
use crate::topology::posted::Posted;
use crate::worker::orders::{InForce, Look};
use std::collections::HashMap;
use std::sync::Arc;
use weir_engine::caller::Identity;
use weir_engine::correlate::Correlator;
use weir_engine::units::{Instant, ListenerId};
use weir_telemetry::LimitMode;

/// Heavy hitters that are shown.
const HEAVY_SHOWN: usize = 64;
/// Expensive requests that are shown.
const EXPENSIVE_SHOWN: usize = 64;

/// What a snapshot needs besides the workers' looks.
pub(super) struct View<'a> {
    pub(super) clock: Clock,
    pub(super) workers: usize,
    pub(super) in_force: &'a InForce,
    pub(super) posted: &'a Posted,
    pub(super) caps: &'a Caps,
    pub(super) desk: &'a Desk,
    pub(super) correlator: &'a Correlator,
    pub(super) not_ready: Option<String>,
}

/// The looks of all workers as one.
pub(super) fn snapshot(view: &View<'_>, looks: &[Look]) -> Snapshot {
    let now = view.clock.now();
    let callers = callers(view, looks, now);
    let listeners = listeners(view, looks);
    let unix = UnixTime(unix_now());
    Snapshot {
        taken_at_unix_ms: view.clock.unix_ms(now),
        instance: Instance {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started_at_unix_ms: view.clock.started_unix_ms(),
            workers: u32::try_from(view.workers).unwrap_or(u32::MAX),
            config_hash: view.in_force.config.hash.to_string(),
            not_ready: view.not_ready.clone(),
            overrides_active: u32::try_from(view.desk.overrides_active(unix)).unwrap_or(u32::MAX),
        },
        totals: Totals {
            requests: callers.iter().map(|row| row.requests).sum(),
            operations: callers.iter().map(|row| row.operations).sum(),
            requests_per_second: callers.iter().map(|row| row.requests_per_second).sum(),
            operations_per_second: callers.iter().map(|row| row.operations_per_second).sum(),
            connections: listeners.iter().map(|row| row.connections).sum(),
        },
        expensive: expensive(view, looks),
        heavy_hitters: heavy(looks),
        statements: statements::rows(view, looks, now),
        pools: backends::rows(&view.in_force.settings, view.posted, looks),
        amplification: amplification::rows(view.correlator, view.clock, looks),
        callers,
        listeners,
    }
}

/// What all workers know about one identity.
#[derive(Default)]
struct Sum<'a> {
    rows: Vec<&'a Row>,
    connections: u64,
    operations_in_flight: u64,
    bytes_in_flight: u64,
    operations_queued: u64,
}

/// Connections of one principal on one listener.
#[derive(Clone, Copy, Default)]
struct Dials {
    accepts: u64,
    closed: u64,
    short: u64,
}

fn callers(view: &View<'_>, looks: &[Look], now: Instant) -> Vec<CallerRow> {
    let mut sums: HashMap<&Arc<Identity>, Sum<'_>> = HashMap::new();
    for look in looks {
        for row in &look.rows {
            sums.entry(&row.identity).or_default().rows.push(row);
        }
        for caller in &look.engine.callers {
            let sum = sums.entry(&caller.identity).or_default();
            sum.connections += u64::from(caller.clients);
            sum.operations_queued += caller.queued.0;
            // Workers share the budget: each of them tells the whole.
            sum.operations_in_flight = sum.operations_in_flight.max(caller.operations.0);
            sum.bytes_in_flight = sum.bytes_in_flight.max(caller.bytes.0);
        }
    }
    let mut churns: HashMap<(ListenerId, &str), Dials> = HashMap::new();
    for churn in looks.iter().flat_map(|look| &look.churns) {
        let sum = churns.entry((churn.listener, &churn.principal)).or_default();
        sum.accepts += churn.accepts_last_second;
        sum.closed += churn.closed;
        sum.short += churn.short;
    }
    let mut minute = (0, 0);
    let rows: Vec<(CallerRow, Work)> = sums
        .into_iter()
        .map(|(identity, sum)| {
            let dials = churns.get(&(identity.listener, &*identity.principal)).copied().unwrap_or_default();
            let (row, work) = caller(view, identity, &sum, dials, now);
            minute.0 += work.requests;
            minute.1 += work.operations;
            (row, work)
        })
        .collect();
    rows.into_iter()
        .map(|(row, work)| CallerRow {
            request_share: share(work.requests, minute.0),
            work_share: share(work.operations, minute.1),
            ..row
        })
        .collect()
}

fn caller(
    view: &View<'_>,
    identity: &Identity,
    sum: &Sum<'_>,
    dials: Dials,
    now: Instant,
) -> (CallerRow, Work) {
    let settings = &view.in_force.settings;
    let budget = identity.budget(settings);
    let listener = &settings.listeners[identity.listener.0 as usize];
    let total = |of: fn(&Row) -> u64| sum.rows.iter().map(|row| of(row)).sum::<u64>();
    let limited = |mode: LimitMode| sum.rows.iter().map(|row| row.limited[mode.index()]).sum::<u64>();
    let over = |of: fn(&Row, Instant) -> Work| {
        sum.rows.iter().fold(Work::default(), |sum, row| sum.plus(&of(row, now)))
    };
    let second = over(|row, now| row.window.last_second(now));
    let minute = over(|row, now| row.window.last_minute(now));
    let largest = sum.rows.iter().filter_map(|row| row.largest).max_by_key(|largest| largest.operations);
    let at = |instant: Instant| view.clock.unix_ms(instant);
    let is_process = identity.name != identity.principal && !identity.name.starts_with("uid:");
    let row = CallerRow {
        caller: identity.name.to_string(),
        principal: identity.principal.to_string(),
        limited_as: budget.key.to_string(),
        listener: listener.name.to_string(),
        process: is_process.then(|| identity.name.to_string()),
        class: Some(budget.limits.class.into()),
        connections: sum.connections,
        principal_accepts_per_second: dials.accepts as f64,
        principal_one_request_share: (dials.closed > 0).then(|| share(dials.short, dials.closed)),
        requests: total(|row| row.requests),
        operations: total(|row| row.operations),
        backend_operations: total(|row| row.backend_operations),
        hits: total(|row| row.hits),
        misses: total(|row| row.misses),
        bytes_in: total(|row| row.bytes_in),
        bytes_out: total(|row| row.bytes_out),
        requests_per_second: second.requests as f64,
        operations_per_second: second.operations as f64,
        largest_last_minute: minute.largest.map(|largest| size(view, largest)),
        largest_ever: largest.map(|largest| size(view, largest)),
        work_share: 0.0,
        request_share: 0.0,
        limited: Limited {
            observed: limited(LimitMode::Observe),
            paced: limited(LimitMode::Pace),
            refused: limited(LimitMode::Refuse),
        },
        limits: LimitsView::from(&budget.limits),
        override_until_unix: view.desk.override_until(&budget.key, UnixTime(unix_now())),
        operations_in_flight: sum.operations_in_flight,
        bytes_in_flight: sum.bytes_in_flight,
        operations_queued: sum.operations_queued,
        first_seen_unix_ms: sum.rows.iter().map(|row| at(row.first_seen)).min().unwrap_or(at(now)),
        last_seen_unix_ms: sum.rows.iter().map(|row| at(row.last_seen)).max(),
    };
    (row, minute)
}

fn size(view: &View<'_>, largest: window::Largest) -> Largest {
    Largest {
        operations: largest.operations,
        method: largest.method.to_owned(),
        at_unix_ms: Some(view.clock.unix_ms(largest.at)),
    }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

fn expensive(view: &View<'_>, looks: &[Look]) -> Vec<ExpensiveRow> {
    let with_look = looks.iter().flat_map(|look| look.expensive.iter().map(move |kept| (look, kept)));
    let mut all: Vec<_> = with_look.collect();
    // The largest of all workers are kept, and shown newest first.
    all.sort_by_key(|(_, kept)| std::cmp::Reverse(kept.entry.operations));
    all.truncate(EXPENSIVE_SHOWN);
    all.sort_by_key(|(_, kept)| std::cmp::Reverse(kept.entry.at));
    let row = |(look, kept): (&Look, &weir_engine::ledger::Expensive)| {
        let entry = &kept.entry;
        let servers = &look.engine.servers;
        let node = entry.sent_to.and_then(|sent| servers.iter().find(|node| node.serial == sent.serial));
        let place = node.and_then(|node| node.place.as_ref());
        ExpensiveRow {
            at_unix_ms: view.clock.unix_ms(entry.at),
            caller: kept.name.to_string(),
            listener: listener_name(view, kept.listener),
            method: look.protocol.method(entry.method).to_owned(),
            operations: entry.operations,
            chunks: u64::from(entry.chunks),
            backend_operations: entry.backend_operations,
            hits: entry.hits,
            misses: entry.misses,
            coalesced: entry.coalesced,
            bytes_in: entry.bytes_in,
            bytes_out: entry.bytes_out,
            queue_wait_us: entry.queue_wait.0,
            backend_us: entry.backend_time.0,
            total_us: entry.total.0,
            outcome: entry.outcome.label().to_owned(),
            request_id: kept.request.to_string(),
            statement: kept.statement.as_ref().map(|statement| statement.text().to_owned()),
            table: kept
                .statement
                .as_ref()
                .map(|statement| statement.table())
                .filter(|table| !table.is_empty()),
            node: node.map(|node| node.name.to_string()),
            data_center: place.map(|place| place.data_center.to_string()),
            rack: place.map(|place| place.rack.to_string()),
            shard: node.and(entry.sent_to).and_then(|sent| sent.shard),
        }
    };
    all.into_iter().map(row).collect()
}

fn listener_name(view: &View<'_>, id: ListenerId) -> String {
    let listener = view.in_force.settings.listeners.get(id.0 as usize);
    listener.map_or_else(String::new, |own| own.name.to_string())
}

fn heavy(looks: &[Look]) -> Vec<HeavyRow> {
    let mut sums: HashMap<&str, (u64, u64)> = HashMap::new();
    for hitter in looks.iter().flat_map(|look| &look.heavy) {
        let sum = sums.entry(&hitter.name).or_default();
        sum.0 += hitter.operations;
        sum.1 += hitter.error;
    }
    let mut rows: Vec<HeavyRow> = sums
        .into_iter()
        .map(|(caller, (operations, error))| HeavyRow { caller: caller.to_owned(), operations, error })
        .collect();
    rows.sort_by(|a, b| b.operations.cmp(&a.operations).then_with(|| a.caller.cmp(&b.caller)));
    rows.truncate(HEAVY_SHOWN);
    rows
}

fn listeners(view: &View<'_>, looks: &[Look]) -> Vec<ListenerRow> {
    let settings = &view.in_force.settings;
    let row = |(index, listener): (usize, &weir_engine::settings::ListenerSettings)| {
        let doors = || looks.iter().filter_map(|look| look.doors.get(index));
        let closed: u64 = doors().map(|door| door.closed).sum();
        let short: u64 = doors().map(|door| door.short).sum();
        let switches = listener.switches;
        let off = [
            (Feature::Split, switches.split),
            (Feature::Batching, switches.batching),
            (Feature::SingleFlight, switches.single_flight),
            (Feature::Limits, switches.limits),
        ];
        ListenerRow {
            name: listener.name.to_string(),
            address: listener.address.to_string(),
            pool: settings.backend_name(listener.backend).to_string(),
            connections: u64::from(view.caps.open(ListenerId(u32::try_from(index).unwrap_or(u32::MAX)))),
            connections_max: u64::from(listener.max_connections),
            accepts_per_second: doors().map(|door| door.accepts_last_second).sum::<u64>() as f64,
            one_request_share: (closed > 0).then(|| share(short, closed)),
            switched_off: off.iter().filter(|(_, on)| !on).map(|(what, _)| what.word().to_owned()).collect(),
        }
    };
    settings.listeners.iter().enumerate().map(row).collect()
}

/// Bounds by configuration key, in the key's unit. Where several pools, clusters or listeners have a value, the smallest: it is
/// the one that is met first.
pub(super) fn bounds(config: &Config, files: Share) -> Vec<(&'static str, f64)> {
    let seconds = |span: weir_engine::units::Span| span.0 as f64 / 1e6;
    let settings = &config.settings;
    let mut all: Vec<(&'static str, f64)> = vec![
        ("workers", f64::from(config.process.workers)),
        ("nofile", files.limit as f64),
        ("nofile_clients", files.clients as f64),
        ("nofile_reserved", files.reserved as f64),
        ("correlated_requests_max", f64::from(config.process.correlated_requests_max)),
        ("correlation_notes_max", f64::from(config.process.correlation_notes_max)),
        ("max_callers", f64::from(config.process.max_callers)),
        ("drain_timeout", seconds(config.process.drain_timeout)),
        ("busy_poll", seconds(config.process.busy_poll)),
        ("attribution_timeout", seconds(config.process.attribution_timeout)),
        ("reply_bytes_max", settings.reply_bytes_max.0 as f64),
        ("input_bytes_max", settings.input_bytes_max.0 as f64),
    ];
    for pool in &settings.pools {
        all.extend([
            ("connections_per_server", f64::from(pool.connections_per_server)),
            ("chunk_keys", f64::from(pool.chunk_keys)),
            ("bulk_keys_in_flight", pool.bulk_keys_in_flight.0 as f64),
            ("operations_in_flight", pool.operations_in_flight.0 as f64),
            ("bytes_in_flight", pool.bytes_in_flight.0 as f64),
            ("batch_keys", f64::from(pool.batch_keys)),
            ("request_timeout", seconds(pool.request_timeout)),
            ("stall_timeout", seconds(pool.stall_timeout)),
            ("queue_timeout", seconds(pool.queue_timeout)),
        ]);
    }
    for cluster in &settings.clusters {
        all.extend([
            ("connections_per_node", f64::from(cluster.connections_per_node)),
            ("streams_per_connection", f64::from(cluster.streams_per_connection)),
            ("requests_in_flight", cluster.requests_in_flight.0 as f64),
            ("chunks_in_flight", f64::from(cluster.chunks_in_flight)),
            ("chunks_beside_requests", f64::from(cluster.chunks_beside_requests)),
            ("gather_bytes_max", cluster.gather_bytes_max.0 as f64),
            ("request_max", cluster.request_max.0 as f64),
            ("prepared_max", f64::from(cluster.prepared_max)),
            ("tablets_max", f64::from(cluster.tablets_max)),
            ("orphans_max", f64::from(cluster.orphans_max)),
            ("orphan_age_max", seconds(cluster.orphan_age_max)),
            ("request_timeout", seconds(cluster.request_timeout)),
            ("stall_timeout", seconds(cluster.stall_timeout)),
            ("queue_timeout", seconds(cluster.queue_timeout)),
        ]);
    }
    for (service, (edge, _)) in settings.services.iter().zip(&config.services) {
        all.extend([
            ("calls_in_flight", f64::from(service.calls_in_flight)),
            ("calls_max", f64::from(service.calls_max)),
            ("request_timeout", seconds(service.request_timeout)),
            ("request_timeout_max", seconds(service.request_timeout_max)),
            ("queue_timeout", seconds(service.queue_timeout)),
            ("streams_per_connection", f64::from(edge.streams_per_connection)),
            ("chunks_beside_calls", f64::from(service.chunks_beside_calls)),
            ("request_max", edge.request_max.0 as f64),
            ("held_bytes_max", edge.held_bytes_max.0 as f64),
            ("upload_max", edge.upload_max.0 as f64),
            ("header_bytes_max", edge.header_bytes_max.0 as f64),
            ("headers_max", f64::from(edge.headers_max)),
            ("client_streams_max", f64::from(edge.client_streams_max)),
            ("body_timeout", seconds(edge.body_timeout)),
            ("write_timeout", seconds(edge.write_timeout)),
            ("read_timeout", seconds(edge.read_timeout)),
            ("split_factor", f64::from(edge.split_factor)),
            ("split_floor", edge.split_floor.0 as f64),
            ("split_reply_max", edge.split_reply_max.0 as f64),
            ("rpc_callers_remembered", crate::rpc::ASKERS_MAX as f64),
        ]);
        if !edge.cache.paths.is_empty() {
            all.extend([
                ("cache_bytes_max", edge.cache.bytes_max.0 as f64),
                ("cache_entry_max", edge.cache.entry_max.0 as f64),
                ("cache_entries_max", f64::from(edge.cache.entries_max)),
                ("cache_fill_bytes_max", edge.cache.fill_bytes_max.0 as f64),
                ("cache_waiters_max", f64::from(edge.cache.waiters_max)),
                ("cache_refreshes_max", f64::from(edge.cache.refreshes_max)),
            ]);
        }
    }
    for (listener, door) in settings.listeners.iter().zip(&config.doors) {
        all.extend([
            ("backlog", f64::from(door.backlog)),
            ("max_connections", f64::from(listener.max_connections)),
            ("max_connections_per_principal", f64::from(listener.max_connections_per_principal)),
            ("reply_buffer_max", listener.reply_buffer_max as f64),
        ]);
        if !door.tokens.audiences.is_empty() {
            all.extend([
                ("jwt_cached_max", f64::from(door.tokens.cached_max)),
                ("jwt_checks_per_second", f64::from(door.tokens.checks_per_second)),
            ]);
        }
        if listener.backend.pool().is_some() {
            all.extend([
                ("line_max", listener.line_max as f64),
                ("value_max", listener.value_max as f64),
                ("reply_buffer", listener.reply_buffer as f64),
            ]);
        }
    }
    let mut smallest: Vec<(&'static str, f64)> = Vec::new();
    for (name, value) in all {
        match smallest.iter_mut().find(|(other, _)| *other == name) {
            Some((_, least)) => *least = least.min(value),
            None => smallest.push((name, value)),
        }
    }
    smallest
}
