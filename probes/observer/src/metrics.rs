//! From a picture to the numbers of the catalogue. A part that is `None` is left out: it has no series.

use crate::errno;
use crate::host::{CAPABILITIES, Host};
use crate::picture::{Picture, ProbeState, ProbeStatus, Process, Sizes};
use crate::processes::label::name_of;
use std::borrow::Cow;
use weir_telemetry::probes::catalogue as metric;
use weir_telemetry::probes::reading::{Buckets, Texts, Total};
use weir_telemetry::{Reading, probes::Fold};

/// Upper bounds of life-times in seconds: every other power of two that the kernel counts by, 4 microseconds to 3 days.
static LIFE_BOUNDS: [f64; 19] = {
    let mut bounds = [0.0; 19];
    let mut at = 0;
    while at < bounds.len() {
        bounds[at] = (1u64 << (2 * at + 2)) as f64 / 1e6;
        at += 1;
    }
    bounds
};

/// What is told of a user or unit that is not known.
const UNKNOWN: &str = "unknown";

/// The reading that a picture comes to.
#[must_use]
pub fn reading(picture: &Picture) -> Reading<'_> {
    let mut reading = Reading::new();
    sockets(picture, &mut reading);
    connections(picture, &mut reading);
    listeners(picture, &mut reading);
    work(picture, &mut reading);
    probes(picture, &mut reading);
    reading
}

fn sockets<'p>(picture: &'p Picture, reading: &mut Reading<'p>) {
    if let Some(rows) = &picture.sockets {
        let rows = rows.iter().map(|row| {
            let labels =
                [&*row.namespace, row.destination.label(), row.direction.name(), row.state.name()].map(text);
            (labels, row.sockets as f64)
        });
        reading.gauge(&metric::SOCKET_STATES, Fold::Sum, rows);
    }
    if let Some(rows) = &picture.ports {
        let pair = |row: &'p crate::picture::PortUse| {
            [text(&row.namespace), Cow::Owned(row.source.label()), text(row.destination.label())]
        };
        reading.gauge(&metric::PORTS_USED, Fold::Max, rows.iter().map(|row| (pair(row), row.used as f64)));
        let left = |row: &'p crate::picture::PortUse| Some((pair(row), row.exhausted_in?.as_secs_f64()));
        reading.gauge(&metric::PORTS_SECONDS_LEFT, Fold::Min, rows.iter().filter_map(left));
    }
    let capacity =
        picture.namespaces.iter().filter_map(|row| Some(([text(&row.namespace)], row.ports? as f64)));
    reading.gauge(&metric::PORTS_CAPACITY, Fold::Max, capacity);
    if let Some(rows) = &picture.errors {
        let rows = rows.iter().filter(|row| counts(&row.process)).map(|row| {
            let labels =
                [row.call.name(), errno::name(row.errno), row.destination.label(), name_of(&row.process)];
            of_process(&row.process, labels.map(text), row.failures)
        });
        reading.counter(&metric::SOCKET_ERRORS, rows);
    }
}

fn connections<'p>(picture: &'p Picture, reading: &mut Reading<'p>) {
    if let Some(rows) = &picture.transitions {
        let rows = rows.iter().map(|row| {
            let labels = [row.destination.label(), row.direction.name(), row.from.name(), row.to.name()];
            total(labels.map(text), row.count)
        });
        reading.counter(&metric::SOCKET_TRANSITIONS, rows);
    }
    if let Some(rows) = &picture.opens {
        let labels =
            |row: &'p crate::picture::OpenCount| [row.destination.label(), row.direction.name()].map(text);
        reading.counter(&metric::SOCKET_OPENS, rows.iter().map(|row| total(labels(row), row.opens)));
    }
    if let Some(rows) = &picture.life_times {
        let rows = rows.iter().map(|row| Buckets {
            of: 0,
            labels: [row.destination.label(), row.direction.name()].map(text),
            counts: row.buckets.chunks(2).map(|pair| pair.iter().sum()).collect(),
            sum: row.microseconds as f64 / 1e6,
        });
        reading.histogram(&metric::SOCKET_LIFETIME, &LIFE_BOUNDS, rows);
    }
    if let Some(rows) = &picture.bytes {
        let rows = rows.iter().flat_map(|row| {
            [("sent", row.sent), ("received", row.received)]
                .map(|(direction, bytes)| total([row.destination.label(), direction].map(text), bytes))
        });
        reading.counter(&metric::SOCKET_BYTES, rows);
    }
    if let Some((bounds, rows)) = bounded(&picture.round_trips, |row| &row.rtt) {
        let rows = rows.iter().map(|row| buckets(0, [text(row.destination.label())], &row.rtt));
        reading.histogram(&metric::SOCKET_RTT, bounds, rows);
    }
    if let Some(rows) = &picture.retransmits {
        let rows = rows.iter().map(|row| total([text(row.destination.label())], row.segments));
        reading.counter(&metric::SOCKET_RETRANSMITS, rows);
    }
}

fn listeners<'p>(picture: &'p Picture, reading: &mut Reading<'p>) {
    if let Some(rows) = &picture.listeners {
        let waiting = rows.iter().map(|row| ([text(&row.listener)], row.waiting as f64));
        reading.gauge(&metric::LISTENER_QUEUE, Fold::Max, waiting);
        let max = rows.iter().map(|row| ([text(&row.listener)], row.max as f64));
        reading.gauge(&metric::LISTENER_QUEUE_MAX, Fold::Max, max);
    }
    if let Some(rows) = &picture.listener_drops {
        let rows = rows.iter().map(|row| total([&*row.listener, row.reason].map(text), row.dropped));
        reading.counter(&metric::LISTENER_DROPS, rows);
    }
}

fn work<'p>(picture: &'p Picture, reading: &mut Reading<'p>) {
    if let Some(rows) = &picture.bypass {
        let rows = rows.iter().filter(|row| counts(&row.process)).map(|row| {
            let process = &row.process;
            let uid = process.uid.map_or(text(UNKNOWN), |uid| Cow::Owned(uid.to_string()));
            let unit = text(process.unit.as_deref().unwrap_or(UNKNOWN));
            let labels = [text(row.destination.label()), text(name_of(process)), uid, unit];
            of_process(process, labels, row.connections)
        });
        reading.counter(&metric::BYPASS_CONNECTIONS, rows);
    }
    if let Some((bounds, rows)) = bounded(&picture.bypass_work, |row| &row.sizes) {
        type Row = crate::picture::BypassWork;
        let labels = |row: &'p Row| [row.destination.label(), name_of(&row.process)].map(text);
        let requests = |row: &'p Row| of_process(&row.process, labels(row), row.requests);
        let counted = || rows.iter().filter(|row| counts(&row.process));
        reading.counter(&metric::BYPASS_REQUESTS, counted().map(requests));
        let operations = |row: &'p Row| of_process(&row.process, labels(row), row.operations);
        reading.counter(&metric::BYPASS_OPERATIONS, counted().map(operations));
        let sizes = |row: &'p Row| buckets(row.process.pid, labels(row), &row.sizes);
        reading.histogram(&metric::BYPASS_REQUEST_OPERATIONS, bounds, counted().map(sizes));
        let largest = rows.iter().map(|row| (labels(row), row.largest_last_minute as f64));
        reading.gauge(&metric::BYPASS_REQUEST_OPERATIONS_MAX, Fold::Max, largest);
    }
    if let Some((bounds, rows)) = bounded(&picture.request_times, |row| &row.on_cpu) {
        let rows = rows.iter().map(|row| buckets(0, [text(&row.service)], &row.on_cpu));
        reading.histogram(&metric::REQUEST_CPU, bounds, rows);
    }
    if let Some((bounds, rows)) = bounded(&picture.request_times, |row| &row.blocked) {
        let rows = rows.iter().map(|row| buckets(0, [text(&row.service)], &row.blocked));
        reading.histogram(&metric::REQUEST_BLOCKED, bounds, rows);
    }
    if let Some(rows) = &picture.services {
        let processes = rows.iter().map(|row| ([text(&row.service)], row.processes as f64));
        reading.gauge(&metric::SERVICE_PROCESSES, Fold::Sum, processes);
        let requests = rows.iter().filter_map(|row| Some(total([text(&row.service)], row.requests?)));
        reading.counter(&metric::SERVICE_REQUESTS, requests);
        let time = rows.iter().filter_map(|row| {
            Some(Total { of: 0, labels: [text(&row.service)], total: row.on_cpu?.as_secs_f64() })
        });
        reading.counter(&metric::SERVICE_CPU, time);
    }
    if let Some(rows) = &picture.disagreements {
        let rows = rows.iter().map(|row| ([text(row.what)], row.share));
        reading.gauge(&metric::WITNESS_DISAGREEMENT, Fold::Max, rows);
    }
}

fn probes<'p>(picture: &'p Picture, reading: &mut Reading<'p>) {
    let attached = |status: &'p ProbeStatus| {
        let value = f64::from(u8::from(status.state == ProbeState::Attached));
        ([status.probe, status.state.name()].map(text), value)
    };
    reading.gauge(&metric::PROBE_ATTACHED, Fold::Min, picture.probes.iter().map(attached));
    let refused = picture.probes.iter().filter_map(|status| match &status.state {
        ProbeState::Refused { errno, .. } => {
            Some(([status.probe, errno::name_if_known(*errno)].map(text), 1.0))
        }
        _ => None,
    });
    reading.gauge(&metric::PROBE_REFUSED_INFO, Fold::Max, refused);
    let lost = picture.probes.iter().filter_map(|status| Some(total([text(status.probe)], status.lost?)));
    reading.counter(&metric::PROBE_EVENTS_LOST, lost);
    if let Some(rows) = &picture.programs {
        let time = rows.iter().map(|row| Total {
            of: 0,
            labels: [text(&row.program)],
            total: row.time.as_secs_f64(),
        });
        reading.counter(&metric::PROGRAM_RUN_TIME, time);
        let runs = rows.iter().map(|row| total([text(&row.program)], row.runs));
        reading.counter(&metric::PROGRAM_RUNS, runs);
    }
    let looks = picture.looks.iter().map(|look| ([text(look.source)], look.took.as_secs_f64()));
    reading.gauge(&metric::LOOK_TIME, Fold::Sum, looks);
    if let Some(host) = &picture.host {
        machine(host, reading);
    }
}

fn machine<'p>(host: &'p Host, reading: &mut Reading<'p>) {
    let labels = [&*host.kernel, &*host.machine, host.lockdown.as_deref().unwrap_or(UNKNOWN)].map(text);
    reading.gauge(&metric::HOST_INFO, Fold::Max, [(labels, 1.0)]);
    let held = |name: &'static str| f64::from(u8::from(host.capabilities.contains(&name)));
    let rows = CAPABILITIES.iter().map(|(name, _)| ([text(name)], held(name)));
    reading.gauge(&metric::CAPABILITY, Fold::Max, rows);
}

fn text(text: &str) -> Cow<'_, str> {
    Cow::Borrowed(text)
}

fn total<const N: usize>(labels: Texts<'_, N>, total: u64) -> Total<'_, N> {
    Total { of: 0, labels, total: total as f64 }
}

/// Whether a row adds to totals. Those of processes that have ended were read with their process before, and totals keep
/// what rows that go have counted.
fn counts(process: &Process) -> bool {
    !process.ended
}

fn of_process<'p, const N: usize>(process: &Process, labels: Texts<'p, N>, total: u64) -> Total<'p, N> {
    Total { of: process.pid.into(), labels, total: total as f64 }
}

fn buckets<'p, const N: usize>(of: u32, labels: Texts<'p, N>, sizes: &'p Sizes) -> Buckets<'p, N> {
    Buckets { of: of.into(), labels, counts: Cow::Borrowed(&sizes.counts), sum: sizes.sum }
}

/// The bounds that the rows of a histogram share, and the rows; without rows there is nothing to bound.
fn bounded<'p, R>(
    rows: &'p Option<Vec<R>>,
    sizes: impl Fn(&'p R) -> &'p Sizes,
) -> Option<(&'static [f64], &'p [R])> {
    let rows = rows.as_deref()?;
    Some((rows.first().map_or(&[][..], |row| sizes(row).bounds), rows))
}
