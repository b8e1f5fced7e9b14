//! `cql-fill`: makes the keyspace, the table and its rows.

use super::Common;
use super::connection::{Connection, said};
use super::table::{CREATE_TABLE, INSERT, KEYSPACE, Table};
use crate::options::Outcome;
use anyhow::{Result, ensure};
use clap::Args;
use weir_cql::{Opcode, StreamId};

/// Inserts under way.
const DEPTH: u32 = 64;

/// Options of `cql-fill`.
#[derive(Args, Debug)]
pub struct CqlFill {
    #[command(flatten)]
    common: Common,
    /// Empty keyspaces made besides, for clients that say USE
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1_000))]
    keyspaces: u32,
}

/// The name of one of the empty keyspaces.
pub fn keyspace(number: u32) -> String {
    format!("{KEYSPACE}_{number}")
}

/// Runs it.
pub fn fill(options: &CqlFill) -> Result<Outcome> {
    let table = Table::new(&options.common);
    let mut connection = Connection::open(options.common.server, options.common.patience())?;
    for name in std::iter::once(KEYSPACE.to_owned()).chain((0..options.keyspaces).map(keyspace)) {
        connection.query(&format!(
            "CREATE KEYSPACE IF NOT EXISTS {name} WITH replication = \
             {{'class': 'SimpleStrategy', 'replication_factor': 1}}"
        ))?;
    }
    connection.query(CREATE_TABLE)?;
    let id = connection.prepare(INSERT)?;
    let mut stored = 0;
    for first in (0..table.rows()).step_by(DEPTH as usize) {
        let last = (first + DEPTH).min(table.rows());
        for index in first..last {
            let stream = StreamId((index - first) as i16);
            connection.ask(stream, Opcode::Execute, |out| table.write_insert(&id, index, out))?;
        }
        for _ in first..last {
            let (header, body) = connection.answer()?;
            ensure!(header.opcode == Opcode::Result, "{INSERT}: {}", said(&header, body));
            stored += 1;
        }
    }
    let report = serde_json::json!({
        "scenario": "cql-fill", "server": options.common.server.to_string(), "stored": stored, "failed": 0,
    });
    Ok(Outcome { report, falsified: false })
}
