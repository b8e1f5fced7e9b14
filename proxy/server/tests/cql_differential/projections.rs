//! What stands between SELECT and FROM.

use crate::draw::Draw;
use crate::kinds::Kind;
use crate::schema::{Column, Table};
use crate::text::Text;

/// Columns, and functions of one row.
pub fn projection(text: &mut Text, table: &Table, draw: &mut Draw) {
    if draw.percent(40) {
        text.push("*");
        return;
    }
    let columns: Vec<&Column> = table.columns().collect();
    let mut all: Vec<String> = draw.some(&columns).iter().map(|column| column.name.clone()).collect();
    if draw.percent(30) {
        all.reverse();
    }
    let value = &draw.pick(&table.values()).name;
    let any = &draw.pick(&columns).name;
    let partition: Vec<&str> = table.partition.iter().map(|column| &*column.name).collect();
    match draw.below(9) {
        0 => all.push(format!("WRITETIME({value})")),
        1 => all.push(format!("TTL({value}) AS \"Left\"")),
        2 => all.push(format!("token({})", partition.join(", "))),
        3 => all.push(format!("toJson({any}) AS json")),
        4 => all.insert(0, format!("CAST({any} AS text)")),
        5 => all.push(format!("{any} AS other")),
        6 => all.push(format!("(int) {}", draw.below(9))),
        _ => {}
    }
    text.push(&all.join(", "));
}

/// Functions of many rows; whether a GROUP BY belongs to them.
pub fn aggregates(text: &mut Text, table: &Table, draw: &mut Draw) -> bool {
    let columns: Vec<&Column> = table.columns().collect();
    let any = *draw.pick(&columns);
    let mut all = vec!["count(*)".to_owned()];
    all.push(format!("{}({})", draw.pick(&["count", "min", "max", "MIN"]), any.name));
    if any.kind.is_number() || any.kind == Kind::Counter {
        all.push(format!("{}({})", draw.pick(&["sum", "avg"]), any.name));
    }
    let group = draw.percent(40);
    if group {
        all.extend(table.partition.iter().map(|column| column.name.clone()));
    }
    text.push(&draw.some(&all).join(", "));
    group
}
