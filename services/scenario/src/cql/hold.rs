//! `cql-hold`: opens connections, runs one statement on each, and keeps them: how many sockets does a proxy open for that?

use super::Common;
use super::connection::Connection;
use super::fill::keyspace;
use super::table::{SELECT_ONE, Table};
use crate::options::Outcome;
use crate::report::print_line;
use crate::usage::require_open_files;
use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Serialize;
use std::time::Duration;
use weir_cql::{Opcode, StreamId};

/// Options of `cql-hold`.
#[derive(Args, Debug)]
pub struct CqlHold {
    #[command(flatten)]
    common: Common,
    /// Connections
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    connections: u32,
    /// Each connection first says USE of one of so many keyspaces (`cql-fill --keyspaces`); 0: none does
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1_000))]
    keyspaces: u32,
    /// How long the connections are kept after the line that says how many there are
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
}

#[derive(Serialize)]
struct Report {
    scenario: &'static str,
    server: String,
    connections: usize,
    keyspaces: u32,
    hits: usize,
    failed: usize,
}

/// Runs it: all dial at once, then one more statement on each after the wait.
pub fn hold(options: &CqlHold) -> Result<Outcome> {
    require_open_files(u64::from(options.connections))?;
    let table = Table::new(&options.common);
    let opened: Vec<Result<(Connection, Vec<u8>)>> = std::thread::scope(|scope| {
        let dial = |number| {
            let table = &table;
            move || begin(options, table, number)
        };
        let threads: Vec<_> = (0..options.connections).map(|number| scope.spawn(dial(number))).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    let mut held = opened.into_iter().collect::<Result<Vec<_>>>()?;
    print_line(&serde_json::json!({"interval_end": 0, "holding": held.len()}));
    std::thread::sleep(Duration::from_secs_f64(options.seconds.max(0.0)));
    let mut hits = 0;
    for (number, (connection, id)) in held.iter_mut().enumerate() {
        select(connection, id, &table, number as u32).context("after the wait")?;
        hits += 1;
    }
    let report = Report {
        scenario: "cql-hold",
        server: options.common.server.to_string(),
        connections: held.len(),
        keyspaces: options.keyspaces,
        hits,
        failed: options.connections as usize - hits,
    };
    Ok(Outcome { report: serde_json::to_value(report)?, falsified: false })
}

fn begin(options: &CqlHold, table: &Table, number: u32) -> Result<(Connection, Vec<u8>)> {
    let mut connection = Connection::open(options.common.server, options.common.patience())?;
    if let Some(mine) = number.checked_rem(options.keyspaces) {
        connection.query(&format!("USE {}", keyspace(mine)))?;
    }
    let id = connection.prepare(SELECT_ONE)?;
    select(&mut connection, &id, table, number)?;
    Ok((connection, id))
}

/// One SELECT whose one row must be right.
pub fn select(connection: &mut Connection, id: &[u8], table: &Table, number: u32) -> Result<()> {
    let index = number % table.rows();
    connection.ask(StreamId(1), Opcode::Execute, |out| table.write_select(id, index, out))?;
    let (header, body) = connection.answer()?;
    match table.check(&header, body, |found| found == index) {
        Some(answer) if (answer.right, answer.wrong) == (1, 0) => Ok(()),
        Some(answer) => bail!("WRONG rows: {answer:?}"),
        None => bail!("{}", super::connection::said(&header, body)),
    }
}
