//! `weir tap`: expensive requests as they end.
//!
//! It asks for weir's ring of expensive requests twice a second and prints what is new. What weir does not put into the
//! ring is not seen, and in a burst larger than the ring the oldest are missed: it is a look, not a record.

use super::statement::brief;
use super::text::{bytes, grouped, left, micros, utc};
use super::{Failure, client, json_line, print};
use crate::admin::model::ExpensiveRow;
use crate::cli::TapArgs;
use crate::config::problem::Escaped;
use std::collections::HashSet;
use std::time::Duration;

const PAUSE: Duration = Duration::from_millis(500);

pub(super) async fn run(args: &TapArgs) -> Result<u8, Failure> {
    let client = client(&args.admin)?;
    // Identities of the last answer only: bounded by weir's ring.
    let mut seen: HashSet<(u64, String)> = HashSet::new();
    loop {
        let mut rows: Vec<ExpensiveRow> = client.get("/expensive").await?;
        rows.sort_by_key(|row| row.at_unix_ms);
        let identity = |row: &ExpensiveRow| (row.at_unix_ms, row.request_id.clone());
        let fresh = rows
            .iter()
            .filter(|row| !seen.contains(&identity(row)))
            .filter(|row| row.operations >= args.min_operations)
            .filter(|row| args.caller.as_ref().is_none_or(|caller| row.caller == *caller));
        for row in fresh {
            print(&if args.json { json_line(row)? } else { line(row) })?;
        }
        seen = rows.iter().map(identity).collect();
        tokio::time::sleep(PAUSE).await;
    }
}

/// One request in a line.
#[must_use]
pub fn line(row: &ExpensiveRow) -> String {
    let statement = row.statement.as_deref().map_or_else(String::new, |statement| {
        format!(" {}", brief(statement, row.table.as_deref().unwrap_or_default()))
    });
    format!(
        "{} {} {} {:>8} operations {:>6} hits {:>9} out {:>9} (queued {}) {} {}{statement}\n",
        utc(row.at_unix_ms / 1_000),
        left(&row.caller, 24),
        left(&row.method, 6),
        grouped(row.operations),
        grouped(row.hits),
        bytes(row.bytes_out),
        micros(row.total_us),
        micros(row.queue_wait_us),
        Escaped(&row.outcome),
        Escaped(&row.request_id)
    )
}
