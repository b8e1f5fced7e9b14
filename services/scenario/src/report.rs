//! Counting finished requests, inside and outside the measured window, and the JSON they become.

use crate::client::Client;
use crate::clock::{Nanos, SECOND};
use crate::histogram::{Histogram, Quantiles};
use crate::usage::{OwnCpu, Reading, Watched, WatchedUse, round};
use crate::wire::{Finished, Operation};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::Write;

/// Whether every answer was right; over the whole run, warm-up and drain included.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Checks {
    /// Values that came and are right (and sets that were stored).
    pub hits: u64,
    /// Keys that were never stored and rightly not answered.
    pub misses_expected: u64,
    /// Stored keys that were not answered (evicted, expired, or a lost answer).
    pub missing: u64,
    /// Values with a wrong key, flags, length or body, or for a key never stored.
    pub wrong: u64,
    /// Connections whose bytes fitted nothing that was asked.
    pub out_of_step: u64,
    /// Requests that ended in an error of the server or of the connection.
    pub failed: u64,
    /// Requests that were not answered when the run ended.
    pub unfinished: u64,
    /// Connections lost to the server or never established.
    pub connections_lost: u64,
    /// Errors by text; runs of digits are written N.
    pub errors: BTreeMap<String, u64>,
}

impl Checks {
    /// Whether an answer was given that must never be given.
    pub fn falsified(&self) -> bool {
        self.wrong > 0 || self.out_of_step > 0
    }
}

/// What was done in the measured window.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// Length of the window.
    pub window_seconds: f64,
    /// Requests that ended well. Closed loops count what ended in the window; open loops what fell due in it, also
    /// when it ended later, since leaving out the slow ones would flatter.
    pub operations: u64,
    /// Per second.
    pub operations_per_second: f64,
    /// Keys of those requests.
    pub keys: u64,
    /// Per second.
    pub keys_per_second: f64,
    /// Requests that ended well inside the window, whenever they fell due.
    pub ended_in_window: u64,
    /// Requests of the window that failed.
    pub failed_in_window: u64,
    /// How long requests took, failed ones excluded.
    pub latency_us: Quantiles,
    /// CPU of this tool in the window.
    pub client_cpu: OwnCpu,
    /// CPU and memory of the processes given with --watch.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub watched: BTreeMap<String, WatchedUse>,
}

/// One line of `--interval`.
#[derive(Clone, Debug, Serialize)]
pub struct Interval {
    /// The scenario.
    pub scenario: &'static str,
    /// Seconds since the window opened, at the interval's end.
    pub interval_end: f64,
    /// Requests that ended well in it.
    pub operations: u64,
    /// Requests that failed in it.
    pub failed: u64,
    /// How long requests took.
    pub latency_us: Quantiles,
}

/// Counts of one interval or window.
#[derive(Default)]
struct Span {
    operations: u64,
    keys: u64,
    failed: u64,
    latency: Histogram,
}

impl Span {
    fn add(&mut self, finished: &Finished, now: Nanos) {
        if finished.failed {
            self.failed += 1;
            return;
        }
        self.operations += 1;
        self.keys += u64::from(finished.keys);
        self.latency.record(now.saturating_sub(finished.started));
    }
}

/// What makes a request belong to the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// It ended in it (closed loop).
    Ended,
    /// It fell due in it (open loop).
    Due,
}

/// Follows a run.
pub struct Meter {
    opens: Nanos,
    closes: Nanos,
    basis: Basis,
    ended_in_window: u64,
    start: Option<Reading>,
    end: Option<Reading>,
    window: Span,
    checks: Checks,
    watched: Vec<Watched>,
    interval: Option<(Nanos, Nanos, &'static str, Span)>,
}

impl Meter {
    /// Measures from `opens` to `closes`.
    pub fn new(opens: Nanos, closes: Nanos, basis: Basis, watched: &[Watched]) -> Self {
        Self {
            opens,
            closes,
            basis,
            ended_in_window: 0,
            start: None,
            end: None,
            window: Span::default(),
            checks: Checks::default(),
            watched: watched.to_vec(),
            interval: None,
        }
    }

    /// Prints a line of JSON every so many seconds of the window.
    pub fn every(mut self, seconds: Option<f64>, scenario: &'static str) -> Self {
        let length = seconds.map(crate::clock::nanos).filter(|length| *length > 0);
        self.interval = length.map(|length| (length, self.opens + length, scenario, Span::default()));
        self
    }

    /// To be called with the time, at least once before and after each edge of the window.
    pub fn tick(&mut self, now: Nanos) {
        if now >= self.opens && self.start.is_none() {
            self.start = Some(Reading::take(&self.watched));
            // Where ends count, the window opens when it is measured: CPU and operations then belong to the same time.
            if self.basis == Basis::Ended {
                self.opens = now;
            }
        }
        if now >= self.closes && self.end.is_none() {
            self.end = Some(Reading::take(&self.watched));
            self.closes = now;
        }
        if let Some((length, ends, scenario, span)) = &mut self.interval
            && now >= *ends
            && now < self.closes + *length
        {
            let line = Interval {
                scenario,
                interval_end: round((now - self.opens) as f64 / SECOND as f64),
                operations: span.operations,
                failed: span.failed,
                latency_us: span.latency.quantiles(),
            };
            print_line(&line);
            *span = Span::default();
            *ends = (*ends + *length).max(now + *length / 2);
        }
    }

    /// Ends the window now unless it has ended.
    pub fn close(&mut self, now: Nanos) {
        self.closes = self.closes.min(now);
        self.tick(now);
    }

    /// Requests that ended well so far.
    pub fn operations(&self) -> u64 {
        self.window.operations
    }

    /// Counts a request that ended at `now`.
    pub fn observe(&mut self, finished: &Finished, now: Nanos) {
        let checks = &mut self.checks;
        checks.hits += u64::from(finished.hits);
        checks.misses_expected += u64::from(finished.absent);
        checks.missing += u64::from(finished.missing);
        checks.wrong += u64::from(finished.wrong);
        checks.failed += u64::from(finished.failed);
        let inside = self.start.is_some() && self.end.is_none();
        if inside {
            self.ended_in_window += u64::from(!finished.failed);
            if let Some((.., span)) = &mut self.interval {
                span.add(finished, now);
            }
        }
        let counted = match self.basis {
            Basis::Ended => inside,
            Basis::Due => self.start.is_some() && (self.opens..self.closes).contains(&finished.started),
        };
        if counted {
            self.window.add(finished, now);
        }
    }

    /// Counts a request that failed before it could be sent.
    pub fn observe_unsent(&mut self, started: Nanos, keys: u32, now: Nanos) {
        let operation = Operation::Get;
        let one =
            Finished { operation, started, keys, hits: 0, absent: 0, missing: 0, wrong: 0, failed: true };
        self.observe(&one, now);
    }

    /// Ends the run.
    pub fn finish(mut self, client: &Client<'_>, unfinished: u64) -> (Measured, Checks) {
        let now = client.clock.now();
        self.tick(now.max(self.closes));
        let start = self.start.unwrap_or_else(|| Reading::take(&self.watched));
        let end = self.end.unwrap_or_else(|| Reading::take(&self.watched));
        let seconds = (self.closes.saturating_sub(self.opens)).max(1) as f64 / SECOND as f64;
        let Span { operations, keys, failed, latency } = self.window;
        let measured = Measured {
            window_seconds: round(seconds),
            operations,
            operations_per_second: (operations as f64 / seconds * 10.0).round() / 10.0,
            keys,
            keys_per_second: (keys as f64 / seconds * 10.0).round() / 10.0,
            ended_in_window: self.ended_in_window,
            failed_in_window: failed,
            latency_us: latency.quantiles(),
            client_cpu: start.own_until(&end, operations, keys),
            watched: start.watched_until(&end, &self.watched, operations, keys),
        };
        let mut checks = self.checks;
        checks.unfinished = unfinished;
        checks.out_of_step = client.counts.broken;
        checks.connections_lost = client.counts.lost;
        checks.errors.clone_from(client.faults.counts());
        (measured, checks)
    }
}

/// Prints one JSON object on one line of stdout.
pub fn print_line(value: &impl Serialize) {
    match serde_json::to_string(value) {
        // A reader that went away is no reason to panic.
        Ok(text) => drop(writeln!(std::io::stdout(), "{text}")),
        Err(error) => eprintln!("weir-scenario: cannot write the report: {error}"),
    }
}

/// Prints a report for people on stderr, one value a line.
pub fn print_human(value: &serde_json::Value, indent: usize) {
    let serde_json::Value::Object(fields) = value else { return };
    for (name, field) in fields {
        if field.is_object() {
            eprintln!("{:indent$}{}", "", name.replace('_', " "));
            print_human(field, indent + 2);
        } else {
            let width = 30usize.saturating_sub(indent);
            eprintln!("{:indent$}{:width$} {field}", "", name.replace('_', " "));
        }
    }
}
