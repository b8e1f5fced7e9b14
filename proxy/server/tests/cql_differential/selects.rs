//! SELECT statements of every shape.

use crate::draw::Draw;
use crate::kinds::{Bound, Kind, elements};
use crate::projections::{aggregates, projection};
use crate::schema::{Column, Table};
use crate::text::{KEYSPACE, Style, Text};

/// What a statement is about, roughly.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Shape {
    List,
    Markers,
    EachIn,
    Partition,
    Scan,
    Aggregate,
    Ordered,
    Distinct,
    Filtering,
    Schema,
}

const SHAPES: [(usize, Shape); 10] = [
    (58, Shape::List),
    (9, Shape::Markers),
    (5, Shape::EachIn),
    (10, Shape::Partition),
    (6, Shape::Scan),
    (6, Shape::Aggregate),
    (4, Shape::Ordered),
    (5, Shape::Distinct),
    (5, Shape::Filtering),
    (2, Shape::Schema),
];

/// Whether the answer changes as time goes by.
pub fn moves(text: &str) -> bool {
    text.contains("TTL(")
}

/// A SELECT of this table.
pub fn draw(table: &Table, style: Style, draw: &mut Draw) -> Text {
    let mut text = Text::new(style);
    let shape = draw.weighted(&SHAPES);
    text.push(if draw.percent(10) { "select " } else { "SELECT " });
    if shape == Shape::Schema {
        text.push("* FROM system_schema.columns WHERE keyspace_name IN ");
        let names =
            [b"system".to_vec(), b"none".to_vec(), b"system_auth".to_vec(), b"system_traces".to_vec()];
        return list_of(&mut text, names.to_vec(), draw).clone();
    }
    if draw.percent(8) && !matches!(shape, Shape::Distinct | Shape::Aggregate) {
        text.push("JSON ");
    }
    let group = match shape {
        Shape::Distinct => {
            let mut columns: Vec<&Column> = table.partition.iter().collect();
            columns.extend(table.statics.iter().filter(|_| draw.percent(70)));
            text.push("DISTINCT ").each(", ", columns, |text, column| {
                text.push(&column.name);
            });
            false
        }
        Shape::Aggregate => aggregates(&mut text, table, draw),
        _ => {
            projection(&mut text, table, draw);
            false
        }
    };
    text.push(&format!(" FROM {KEYSPACE}{}", table.name));
    let whole = match shape {
        Shape::List | Shape::Ordered => listed(&mut text, table, draw, false),
        Shape::Markers => listed(&mut text, table, draw, true),
        Shape::Aggregate | Shape::Distinct if draw.percent(65) => listed(&mut text, table, draw, false),
        Shape::EachIn => each_in(&mut text, table, draw),
        Shape::Partition => {
            let key = table.key(draw);
            text.push(" WHERE ");
            equal(&mut text, &table.partition, &key, draw);
            true
        }
        Shape::Filtering => {
            filtering(&mut text, table, draw);
            false
        }
        Shape::Scan | Shape::Aggregate | Shape::Distinct | Shape::Schema => {
            scan(&mut text, table, draw);
            false
        }
    };
    if whole && shape != Shape::Distinct && draw.percent(45) {
        places(&mut text, table, draw);
    }
    if group {
        let key: Vec<_> = table.partition.iter().chain(&table.clustering).collect();
        let most = key.len() - table.partition.len() + 1;
        let columns = table.partition.len() + draw.below(most);
        text.push(" GROUP BY ").each(", ", &key[..columns], |text, column| {
            text.push(&column.name);
        });
    }
    let ordered = shape == Shape::Ordered || (shape == Shape::Partition && draw.percent(40));
    if ordered && let Some(first) = table.clustering.first() {
        text.push(&format!(" ORDER BY {} {}", first.name, draw.pick(&["ASC", "DESC"])));
    }
    let limit = |draw: &mut Draw| if draw.percent(4) { draw.within(-1..1) } else { draw.within(1..30) };
    if draw.percent(if shape == Shape::Distinct { 4 } else { 18 }) {
        let most = limit(draw).min(4);
        text.push(" PER PARTITION LIMIT ").number(most, draw);
    }
    if draw.percent(30) {
        let most = limit(draw);
        text.push(" LIMIT ");
        if draw.percent(6) {
            text.mark(Bound::Unset)
        } else {
            text.number(most, draw)
        };
    }
    if shape == Shape::Filtering || draw.percent(3) {
        text.push(" ALLOW FILTERING");
    }
    text
}

/// `WHERE a = ? AND b = ?` of the values.
pub fn equal(text: &mut Text, columns: &[Column], values: &[Vec<u8>], draw: &mut Draw) {
    text.each(" AND ", columns.iter().zip(values), |text, (column, value)| {
        text.push(&format!("{} = ", column.name)).value(&column.kind, Bound::Value(value.clone()), draw);
    });
}

/// A list value of keys, unsorted and with repetitions; some are in no row, and at times there is something odd.
pub fn key_list(pool: &[Vec<u8>], draw: &mut Draw) -> Vec<Vec<u8>> {
    let most = draw.weighted(&[(2, 1), (10, 4), (60, 14), (28, 40)]);
    (0..draw.below(most + 1)).map(|_| draw.pick(pool).clone()).collect()
}

fn list_of<'t>(text: &'t mut Text, keys: Vec<Vec<u8>>, draw: &mut Draw) -> &'t mut Text {
    let mut bytes = elements(keys);
    let value = match draw.below(100) {
        0 => Bound::Null,
        1 => Bound::Unset,
        2 | 3 => {
            // a null element behind the others
            let count = i32::from_be_bytes(bytes[..4].try_into().expect("a count")) + 1;
            bytes[..4].copy_from_slice(&count.to_be_bytes());
            bytes.extend_from_slice(&(-1_i32).to_be_bytes());
            Bound::Value(bytes)
        }
        4 => {
            // the last element is cut short
            bytes.pop();
            Bound::Value(bytes)
        }
        _ => Bound::Value(bytes),
    };
    text.mark(value)
}

/// `IN` of the last column of the partition key, or at times of another one. Whether each column is bound.
fn listed(text: &mut Text, table: &Table, draw: &mut Draw, markers: bool) -> bool {
    let last = table.partition.len() - 1;
    let at = if draw.percent(15) { draw.below(last + 1) } else { last };
    let key = table.key(draw);
    let mut order: Vec<usize> = (0..=last).collect();
    if draw.percent(30) {
        order.reverse();
    }
    text.push(" WHERE ").each(" AND ", order, |text, column| {
        let Column { name, kind, .. } = &table.partition[column];
        if column != at {
            text.push(&format!("{name} = ")).value(kind, Bound::Value(key[column].clone()), draw);
            return;
        }
        let mut keys = key_list(&table.keys[column], draw);
        if draw.percent(4) {
            // of equal value where the type has more than one form of it, or no value at all
            let odd = [&[0], &draw.pick(&table.keys[column])[..]].concat();
            keys.push(if draw.percent(50) { odd } else { Vec::new() });
        }
        text.push(&format!("{name} IN "));
        match markers {
            false => drop(list_of(text, keys, draw)),
            true => {
                text.push("(").each(", ", keys, |text, key| {
                    text.value(kind, Bound::Value(key), draw);
                });
                text.push(")");
            }
        }
    });
    true
}

fn each_in(text: &mut Text, table: &Table, draw: &mut Draw) -> bool {
    text.push(" WHERE ").each(" AND ", table.partition.iter().zip(&table.keys), |text, (column, pool)| {
        text.push(&format!("{} IN ", column.name));
        list_of(text, key_list(pool, draw), draw);
    });
    true
}

/// Restrictions of clustering columns behind those of the partition key.
fn places(text: &mut Text, table: &Table, draw: &mut Draw) {
    let Some((first, pool)) = table.clustering.first().zip(table.places.first()) else { return };
    let one = |pool: &[Vec<u8>], draw: &mut Draw| Bound::Value(draw.pick(pool).clone());
    let compare = ["<", "<=", ">", ">="];
    match (draw.below(6), table.clustering.get(1).zip(table.places.get(1))) {
        (0, Some((second, others))) => {
            let (a, b) = (one(pool, draw), one(others, draw));
            let with = draw.pick(&compare);
            text.push(&format!(" AND ({}, {}) {with} (", first.name, second.name));
            text.value(&first.kind, a, draw).push(", ").value(&second.kind, b, draw).push(")");
        }
        (1, Some((second, others))) => {
            let (a, b) = (one(pool, draw), one(others, draw));
            text.push(&format!(" AND {} = ", first.name)).value(&first.kind, a, draw);
            text.push(&format!(" AND {} {} ", second.name, draw.pick(&compare)));
            text.value(&second.kind, b, draw);
        }
        (2, Some((second, others))) => {
            text.push(&format!(" AND ({}, {}) IN (", first.name, second.name));
            text.each(", ", 0..1 + draw.below(3), |text, _| {
                let (a, b) = (one(pool, draw), one(others, draw));
                text.push("(").value(&first.kind, a, draw).push(", ");
                text.value(&second.kind, b, draw).push(")");
            });
            text.push(")");
        }
        (3, _) => {
            text.push(&format!(" AND {} IN ", first.name));
            list_of(text, key_list(pool, draw), draw);
        }
        (4, _) => {
            let (a, b) = (one(pool, draw), one(pool, draw));
            text.push(&format!(" AND {} >= ", first.name)).value(&first.kind, a, draw);
            text.push(&format!(" AND {} <= ", first.name)).value(&first.kind, b, draw);
        }
        _ => {
            let (with, a) = (draw.pick(&["=", "<", ">", "<="]), one(pool, draw));
            text.push(&format!(" AND {} {with} ", first.name)).value(&first.kind, a, draw);
        }
    }
}

fn filtering(text: &mut Text, table: &Table, draw: &mut Draw) {
    let column = *draw.pick(&table.values());
    let value = Bound::Value(column.kind.value(draw));
    match &column.kind {
        Kind::List(of) | Kind::Set(of) => {
            let value = Bound::Value(of.value(draw));
            text.push(&format!(" WHERE {} CONTAINS ", column.name)).value(of, value, draw);
        }
        Kind::Map(key, _) => {
            let value = Bound::Value(key.value(draw));
            text.push(&format!(" WHERE {} CONTAINS KEY ", column.name)).value(key, value, draw);
        }
        kind => {
            let with = draw.pick(&["=", ">", "<="]);
            text.push(&format!(" WHERE {} {with} ", column.name)).value(kind, value, draw);
        }
    }
    if draw.percent(50) {
        let last = table.partition.len() - 1;
        text.push(&format!(" AND {} IN ", table.partition[last].name));
        list_of(text, key_list(&table.keys[last], draw), draw);
    }
}

/// All rows, or those of a range of tokens.
fn scan(text: &mut Text, table: &Table, draw: &mut Draw) {
    if draw.percent(50) {
        return;
    }
    let names: Vec<&str> = table.partition.iter().map(|column| &*column.name).collect();
    let names = names.join(", ");
    let token = Bound::Value((draw.next() as i64).to_be_bytes().to_vec());
    let bigint = Kind::Native(weir_cql::key::KeyType::Bigint);
    text.push(&format!(" WHERE token({names}) > ")).value(&bigint, token, draw);
    if draw.percent(30) {
        let key = table.key(draw);
        text.push(&format!(" AND token({names}) <= token("));
        text.each(", ", table.partition.iter().zip(key), |text, (column, value)| {
            text.value(&column.kind, Bound::Value(value), draw);
        });
        text.push(")");
    }
}
