//! Callers' statements, over all workers.

use super::{View, listener_name, share};
use crate::admin::model::StatementRow;
use crate::worker::orders::Look;
use std::collections::HashMap;
use weir_engine::cql::fingerprint_of;
use weir_engine::ledger::{Statement, StatementTally, Sums};
use weir_engine::units::{Instant, ListenerId};
use weir_telemetry::labels::OTHER;

/// Statements that are shown, besides the rest.
const SHOWN: usize = 128;

/// Caller, listener, method, text and table.
type Pair<'a> = (&'a str, ListenerId, &'a str, &'a str, String);

/// Most work first, the rest last. Workers list what is much for them, so a pair may be listed by one and in the rest of
/// another: what is shown is what it did at least.
pub(super) fn rows(view: &View<'_>, looks: &[Look], now: Instant) -> Vec<StatementRow> {
    let mut all = Sums::default();
    let mut pairs: HashMap<Pair<'_>, (&Statement, StatementTally)> = HashMap::new();
    for look in looks {
        let (rows, sums) = &look.statements;
        all.merge(sums);
        for row in rows {
            let method = look.protocol.method(row.method);
            let statement = (row.statement.text(), row.statement.table());
            pairs
                .entry((&row.name, row.listener, method, statement.0, statement.1))
                .or_insert_with(|| (&row.statement, StatementTally::default()))
                .1
                .merge(&row.tally);
        }
    }
    // by the larger of both parts, so that what takes time is not behind what does much
    let weight = |sums: &Sums| share(sums.work, all.work).max(share(sums.backend_us, all.backend_us));
    let mut pairs: Vec<_> = pairs.into_iter().collect();
    pairs.sort_by(|(a, (_, x)), (b, (_, y))| {
        weight(&y.sums).total_cmp(&weight(&x.sums)).then_with(|| a.cmp(b))
    });
    pairs.truncate(SHOWN);
    pairs.sort_by(|(a, (_, x)), (b, (_, y))| y.sums.work.cmp(&x.sums.work).then_with(|| a.cmp(b)));
    let mut rest = all;
    let mut rows: Vec<StatementRow> = pairs
        .into_iter()
        .map(|((caller, listener, method, statement, table), (asked, tally))| {
            rest = rest.without(&tally.sums);
            let (requests, operations) = tally.last_second(now);
            StatementRow {
                caller: caller.to_owned(),
                listener: listener_name(view, listener),
                method: method.to_owned(),
                statement: statement.to_owned(),
                table,
                fingerprint: format!("{:016x}", fingerprint_of(asked)),
                requests_per_second: requests as f64,
                operations_per_second: operations as f64,
                request_operations_p50: tally.median(),
                largest: tally.largest,
                ..summed(&tally.sums, &all)
            }
        })
        .collect();
    if rest.requests > 0 {
        rows.push(StatementRow { caller: OTHER.to_owned(), ..summed(&rest, &all) });
    }
    rows
}

fn summed(sums: &Sums, all: &Sums) -> StatementRow {
    StatementRow {
        requests: sums.requests,
        failed: sums.failed,
        operations: sums.operations,
        rows: sums.rows,
        bytes_in: sums.bytes_in,
        bytes_out: sums.bytes_out,
        backend_us: sums.backend_us,
        work_share: share(sums.work, all.work),
        time_share: share(sums.backend_us, all.backend_us),
        ..StatementRow::default()
    }
}
