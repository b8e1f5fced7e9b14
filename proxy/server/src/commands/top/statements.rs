//! The statements of `weir top --statements`: who asks what, two lines each.
//!
//! Sorted by work of the last five to ten minutes, which `ROWS`, `BYTES`, `WORK` and `TIME` are of as well; `REQ/S` and
//! `KEYS/S` are of the last second, `P50` and `MAX` keys of one request. `MS/REQ` is the mean time at the backend.

use super::render::{Look, NARROWEST, left_cut, style};
use crate::admin::model::{Snapshot, StatementRow};
use crate::commands::statement::asked;
use crate::commands::text::{bytes, left, rate, right, share, short};

/// The title and two lines for each statement.
pub(super) fn table(snapshot: &Snapshot, look: &Look) -> Vec<String> {
    let width = look.width.max(NARROWEST).saturating_sub(67).min(48);
    let title = format!(
        "{} REQ/S  KEYS/S    P50    MAX   ROWS     BYTES   WORK   TIME  MS/REQ",
        left("CALLER", width)
    );
    let mut lines = vec![style(look, "1", &title)];
    for row in &snapshot.statements {
        lines.push(numbers(row, width));
        let text = match row.statement.as_str() {
            "" => "all other statements".to_owned(),
            statement => asked(&row.method, statement, &row.table),
        };
        lines.push(left_cut(&format!("    {text}"), look.width.max(NARROWEST)));
    }
    if snapshot.statements.is_empty() {
        lines.push("no statement yet".to_owned());
    }
    lines
}

fn numbers(row: &StatementRow, width: usize) -> String {
    let size = |keys: u64| if row.statement.is_empty() { "-".to_owned() } else { short(keys) };
    let mean = if row.requests == 0 { 0.0 } else { row.backend_us as f64 / row.requests as f64 / 1e3 };
    format!(
        "{} {} {} {} {} {} {} {} {} {}",
        left(&row.caller, width),
        right(&rate(row.requests_per_second), 5),
        right(&rate(row.operations_per_second), 7),
        right(&size(row.request_operations_p50), 6),
        right(&size(row.largest), 6),
        right(&short(row.rows), 6),
        right(&bytes(row.bytes_out), 9),
        right(&share(row.work_share), 6),
        right(&share(row.time_share), 6),
        right(&format!("{mean:.1}"), 7),
    )
}
