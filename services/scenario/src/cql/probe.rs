//! `cql-probe`: one SELECT every 20 ms on one connection: when did answers stop, when did they come back, and did the
//! connection live through it?

use super::Common;
use super::connection::Connection;
use super::hold::select;
use super::table::{SELECT_ONE, Table};
use crate::faults::Faults;
use crate::options::Outcome;
use crate::usage::round;
use anyhow::Result;
use clap::Args;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Time between two SELECTs.
const PAUSE: Duration = Duration::from_millis(20);

/// Time between two dials after a lost connection.
const REDIAL: Duration = Duration::from_millis(100);

/// Options of `cql-probe`.
#[derive(Args, Debug)]
pub struct CqlProbe {
    #[command(flatten)]
    common: Common,
    /// How long
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
}

/// Times are seconds since 1970, as other processes see them.
#[derive(Serialize)]
struct Report {
    scenario: &'static str,
    server: String,
    hits: u64,
    failed: u64,
    /// Connections that had to be opened again.
    reconnects: u64,
    /// When the first SELECT failed.
    first_failure: Option<f64>,
    /// When the first SELECT after the last failure was answered.
    works_again: Option<f64>,
    errors: BTreeMap<String, u64>,
}

/// Runs it. A connection is given up only when the other side closed it or a time-out passed.
pub fn probe(options: &CqlProbe) -> Result<Outcome> {
    let table = Table::new(&options.common);
    let ends = Instant::now() + Duration::from_secs_f64(options.seconds.max(0.0));
    let (mut hits, mut failed, mut dials, mut number) = (0, 0, 0_u64, 0_u32);
    let (mut first_failure, mut works_again) = (None, None);
    let mut faults = Faults::default();
    let mut held: Option<(Connection, Vec<u8>)> = None;
    while Instant::now() < ends {
        number = number.wrapping_add(1);
        let result = match &mut held {
            Some((connection, id)) => select(connection, id, &table, number),
            None => open(options).and_then(|(mut connection, id)| {
                select(&mut connection, &id, &table, number)?;
                held = Some((connection, id));
                dials += 1;
                Ok(())
            }),
        };
        match result {
            Ok(()) => {
                hits += 1;
                if failed > 0 && works_again.is_none() {
                    works_again = Some(now());
                }
                std::thread::sleep(PAUSE);
            }
            Err(error) => {
                failed += 1;
                first_failure = first_failure.or_else(|| Some(now()));
                works_again = None;
                let text = format!("{error:#}");
                faults.note(&text, 1);
                // An ERROR is an answer: the connection is as good as before.
                if !text.starts_with("ERROR") {
                    held = None;
                    std::thread::sleep(REDIAL);
                } else {
                    std::thread::sleep(PAUSE);
                }
            }
        }
    }
    let report = Report {
        scenario: "cql-probe",
        server: options.common.server.to_string(),
        hits,
        failed,
        reconnects: dials.saturating_sub(1),
        first_failure,
        works_again,
        errors: faults.counts().clone(),
    };
    let falsified = report.errors.keys().any(|error| error.contains("WRONG"));
    Ok(Outcome { report: serde_json::to_value(report)?, falsified })
}

fn open(options: &CqlProbe) -> Result<(Connection, Vec<u8>)> {
    let mut connection = Connection::open(options.common.server, options.common.patience())?;
    let id = connection.prepare(SELECT_ONE)?;
    Ok((connection, id))
}

fn now() -> f64 {
    round(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64()))
}
