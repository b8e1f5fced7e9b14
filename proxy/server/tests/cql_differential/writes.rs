//! INSERT, UPDATE, DELETE and batches of them.

use crate::draw::Draw;
use crate::kinds::{Bound, Kind, elements};
use crate::schema::{Column, Table};
use crate::selects::{equal, key_list};
use crate::text::{KEYSPACE, Style, Text};

/// One statement that writes.
pub fn draw(table: &Table, style: Style, draw: &mut Draw) -> Text {
    let mut text = Text::new(style);
    match draw.below(10) {
        _ if table.counter => update(&mut text, table, draw),
        0..=4 => insert(&mut text, table, draw),
        5..=7 => update(&mut text, table, draw),
        _ => delete(&mut text, table, draw),
    }
    text
}

/// One that makes rows: what a table is filled with.
pub fn fill(table: &Table, draw: &mut Draw) -> Text {
    let mut text = Text::new(Style::Marks);
    match draw.below(20) {
        _ if table.counter => update(&mut text, table, draw),
        0..=15 => insert(&mut text, table, draw),
        16..=18 => update(&mut text, table, draw),
        _ => delete(&mut text, table, draw),
    }
    text
}

/// A value of a column: null or not set at times.
fn value(column: &Column, draw: &mut Draw) -> Bound {
    match draw.below(20) {
        0 => Bound::Null,
        1 => Bound::Unset,
        _ => Bound::Value(column.kind.value(draw)),
    }
}

fn place(table: &Table, draw: &mut Draw) -> Vec<Vec<u8>> {
    table.places.iter().map(|pool| draw.pick(pool).clone()).collect()
}

/// A time long ago: such a write is too late to be seen where there is another one.
fn using(text: &mut Text, draw: &mut Draw, with_ttl: bool) {
    let mut all: Vec<fn(&mut Text, &mut Draw)> = Vec::new();
    if with_ttl && draw.percent(12) {
        all.push(|text, draw| {
            let seconds = draw.within(50_000..90_000);
            text.push("TTL ").number(seconds, draw);
        });
    }
    if draw.percent(4) {
        all.push(|text, draw| {
            let stamp = draw.within(1_000_000_000..2_000_000_000);
            text.push(&format!("TIMESTAMP {stamp}"));
        });
    }
    if !all.is_empty() {
        text.push(" USING ").each(" AND ", all, |text, write| write(text, draw));
    }
}

fn insert(text: &mut Text, table: &Table, draw: &mut Draw) {
    let (key, place) = (table.key(draw), place(table, draw));
    let mut bound: Vec<(&Column, Bound)> =
        table.partition.iter().zip(key.into_iter().map(Bound::Value)).collect();
    let all_static = !table.statics.is_empty() && draw.percent(12);
    if !all_static {
        bound.extend(table.clustering.iter().zip(place.into_iter().map(Bound::Value)));
        bound.extend(table.regular.iter().filter(|_| draw.percent(75)).map(|column| (column, Bound::Null)));
    }
    bound.extend(table.statics.iter().filter(|_| all_static || draw.percent(30)).map(|c| (c, Bound::Null)));
    for (column, bound) in &mut bound {
        if *bound == Bound::Null {
            *bound = value(column, draw);
        }
    }
    let names: Vec<&str> = bound.iter().map(|(column, _)| &*column.name).collect();
    text.push(&format!("INSERT INTO {KEYSPACE}{} ({}) VALUES (", table.name, names.join(", ")));
    text.each(", ", bound, |text, (column, bound)| {
        text.value(&column.kind, bound, draw);
    });
    text.push(")");
    if draw.percent(6) {
        text.push(" IF NOT EXISTS");
    } else {
        using(text, draw, true);
    }
}

fn update(text: &mut Text, table: &Table, draw: &mut Draw) {
    let all_static = !table.statics.is_empty() && draw.percent(25);
    let columns = draw.some(if all_static { &table.statics } else { &table.regular });
    text.push(&format!("UPDATE {KEYSPACE}{}", table.name));
    if !table.counter {
        using(text, draw, true);
    }
    text.push(" SET ").each(", ", &columns, |text, column| assignment(text, column, draw));
    let key = table.key(draw);
    text.push(" WHERE ");
    equal(text, &table.partition, &key, draw);
    if !all_static && !table.clustering.is_empty() {
        let place = place(table, draw);
        text.push(" AND ");
        equal(text, &table.clustering, &place, draw);
    }
    if !table.counter {
        condition(text, &columns[0], draw);
    }
}

fn assignment(text: &mut Text, column: &Column, draw: &mut Draw) {
    let (name, new) = (&column.name, Bound::Value(column.kind.value(draw)));
    match (&column.kind, draw.below(4)) {
        (Kind::Counter, _) => drop(text.push(&format!("{name} = {name} + ")).mark(new)),
        (Kind::List(_) | Kind::Set(_), 0) if !column.frozen => {
            text.push(&format!("{name} = {name} {} ", draw.pick(&["+", "-"]))).mark(new);
        }
        (Kind::Map(key, of), 0 | 1) if !column.frozen => {
            text.push(&format!("{name}[")).value(key, Bound::Value(key.value(draw)), draw);
            text.push("] = ").value(of, Bound::Value(of.value(draw)), draw);
        }
        (Kind::Pair, 0 | 1) if !column.frozen => {
            text.push(&format!("{name}.a = ")).number(draw.within(0..9), draw);
        }
        _ => drop(text.push(&format!("{name} = ")).value(&column.kind, value(column, draw), draw)),
    }
}

fn condition(text: &mut Text, column: &Column, draw: &mut Draw) {
    match draw.below(20) {
        0 => drop(text.push(" IF EXISTS")),
        1 => {
            let new = Bound::Value(column.kind.value(draw));
            text.push(&format!(" IF {} = ", column.name)).value(&column.kind, new, draw);
        }
        _ => {}
    }
}

fn delete(text: &mut Text, table: &Table, draw: &mut Draw) {
    let cells = draw.percent(30);
    text.push("DELETE");
    if cells {
        let columns = draw.some(&table.regular);
        text.push(" ").each(", ", &columns, |text, column| {
            text.push(&column.name);
        });
    }
    text.push(&format!(" FROM {KEYSPACE}{}", table.name));
    using(text, draw, false);
    let key = table.key(draw);
    text.push(" WHERE ");
    let last = table.partition.len() - 1;
    if draw.percent(20) {
        equal(text, &table.partition[..last], &key[..last], draw);
        text.push(if last > 0 { " AND " } else { "" });
        let keys: Vec<_> = key_list(&table.keys[last], draw).into_iter().take(3).collect();
        text.push(&format!("{} IN ", table.partition[last].name)).mark(Bound::Value(elements(keys)));
    } else {
        equal(text, &table.partition, &key, draw);
    }
    let place = place(table, draw);
    if let Some(first) = table.clustering.first() {
        if cells || draw.percent(50) {
            text.push(" AND ");
            equal(text, &table.clustering, &place, draw);
        } else if draw.percent(60) {
            text.push(&format!(" AND {} {} ", first.name, draw.pick(&[">", "<=", "="])));
            text.value(&first.kind, Bound::Value(place[0].clone()), draw);
        }
    }
    if draw.percent(5) {
        text.push(" IF EXISTS");
    }
}

/// An INSERT with a value of so many bytes, where a column can hold one.
pub fn large(table: &Table, size: usize, draw: &mut Draw) -> Option<Text> {
    use weir_cql::key::KeyType::{Ascii, Blob, Text as Varchar};
    let holds = |column: &&Column| matches!(column.kind, Kind::Native(Ascii | Blob | Varchar));
    let column = table.regular.iter().find(holds)?;
    let (key, place) = (table.key(draw), place(table, draw));
    let names: Vec<&str> =
        table.partition.iter().chain(&table.clustering).map(|column| &*column.name).collect();
    let mut text = Text::new(Style::Marks);
    text.push(&format!(
        "INSERT INTO {KEYSPACE}{} ({}, {}) VALUES (",
        table.name,
        column.name,
        names.join(", ")
    ));
    text.mark(Bound::Value(vec![b'x'; size]));
    for value in key.into_iter().chain(place) {
        text.push(", ").mark(Bound::Value(value));
    }
    text.push(")");
    Some(text)
}
