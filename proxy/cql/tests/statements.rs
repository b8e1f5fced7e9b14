//! A table of statements: `statements/*.txt` holds pairs of a statement and what is read from it. Lines that begin with
//! `> ` are the statement, the line behind it the summary. Written again with `WEIR_BLESS=1`: then read the difference.

use std::fmt::Write as _;
use std::path::PathBuf;

use weir_cql::statement::{
    Body, InValues, Modify, Name, Selection, Statement, Table, Value, Where, fingerprint, read,
};

#[test]
fn every_statement_reads_as_recorded() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/statements");
    let mut files = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let recorded = std::fs::read_to_string(&path).unwrap();
        let mut now = String::new();
        for line in recorded.lines() {
            let Some(text) = line.strip_prefix("> ") else {
                if line.starts_with('#') || line.is_empty() {
                    now.push_str(line);
                    now.push('\n');
                }
                continue;
            };
            let text = text.replace("\\n", "\n");
            writeln!(now, "{line}\n  {}\n  {}", summary(&text), fingerprint(text.as_bytes()).text).unwrap();
        }
        if std::env::var_os("WEIR_BLESS").is_some() {
            std::fs::write(&path, &now).unwrap();
            files += 1;
            continue;
        }
        assert!(now.matches("\n> ").count() > 5, "{} holds too few statements", path.display());
        assert_eq!(now, recorded, "{}: WEIR_BLESS=1 writes it again", path.display());
        files += 1;
    }
    assert!(files >= 3, "the table is not complete");
}

fn summary(text: &str) -> String {
    let statement = read(text.as_bytes());
    let mut out = statement.kind.label().to_owned();
    match &statement.body {
        Body::Opaque(cause) => {
            write!(out, " OPAQUE {}", cause.label()).unwrap();
            return out;
        }
        Body::Use(keyspace) => write!(out, " {}", name(*keyspace, text)).unwrap(),
        Body::Select(select) => {
            write!(out, " {}", table(&select.table, text)).unwrap();
            for (set, word) in [
                (select.json, "json"),
                (select.distinct, "distinct"),
                (select.group_by, "group"),
                (select.allow_filtering, "filtering"),
                (select.bypass_cache, "bypass"),
                (select.functions.aggregate, "aggregate"),
                (select.functions.unknown, "unknown-function"),
                (select.functions.volatile, "volatile"),
            ] {
                if set {
                    write!(out, " {word}").unwrap();
                }
            }
            match &select.selection {
                Selection::All => out.push_str(" *"),
                Selection::Items(items) => {
                    let items: Vec<_> = items
                        .iter()
                        .map(|item| {
                            let mut shown = match item.column {
                                Some(column) => name(column, text),
                                None => format!("<{}>", &text[item.span.range()]),
                            };
                            if let Some(alias) = item.alias {
                                write!(shown, " as {}", name(alias, text)).unwrap();
                            }
                            shown
                        })
                        .collect();
                    write!(out, " [{}]", items.join(", ")).unwrap();
                }
            }
            filter(&select.filter, text, &mut out);
            if select.order != weir_cql::statement::Order::Natural {
                write!(out, " order={:?}", select.order).unwrap();
            }
            for (label, value) in
                [("ppl", select.per_partition_limit), ("limit", select.limit), ("timeout", select.timeout)]
            {
                if let Some(value) = value {
                    write!(out, " {label}={}", show(value, text)).unwrap();
                }
            }
        }
        Body::Modify(modify) => one(modify, text, &mut out),
        Body::Batch(batch) => {
            write!(out, " {:?}", batch.kind).unwrap();
            if let Some(value) = batch.timestamp {
                write!(out, " timestamp={}", show(value, text)).unwrap();
            }
            for modify in &batch.statements {
                write!(out, " | {}", modify.kind.label()).unwrap();
                one(modify, text, &mut out);
            }
        }
    }
    tail(&statement, text, &mut out);
    out
}

fn tail(statement: &Statement, text: &str, out: &mut String) {
    if statement.markers > 0 {
        write!(out, " markers={}", statement.markers).unwrap();
    }
    for (position, marker) in &statement.marker_names {
        write!(out, " :{}@{position}", name(*marker, text)).unwrap();
    }
    if !statement.deterministic {
        out.push_str(" changing");
    }
}

fn one(modify: &Modify, text: &str, out: &mut String) {
    write!(out, " {}", table(&modify.table, text)).unwrap();
    filter(&modify.filter, text, out);
    for (label, value) in [
        ("json", modify.json),
        ("timestamp", modify.timestamp),
        ("ttl", modify.ttl),
        ("timeout", modify.timeout),
    ] {
        if let Some(value) = value {
            write!(out, " {label}={}", show(value, text)).unwrap();
        }
    }
    if modify.condition != weir_cql::statement::Condition::Always {
        write!(out, " if={:?}", modify.condition).unwrap();
    }
    write!(out, " {:?}", modify.idempotence).unwrap();
}

fn filter(filter: &Where, text: &str, out: &mut String) {
    for equal in &filter.equal {
        write!(out, " {}={}", name(equal.column, text), show(equal.value, text)).unwrap();
    }
    for relation in &filter.ins {
        let columns: Vec<_> = relation.columns.iter().map(|column| name(*column, text)).collect();
        let columns = if relation.tuple { format!("({})", columns.join(",")) } else { columns.join(",") };
        let values = match relation.values {
            InValues::List(position) => format!("@{position}"),
            InValues::Markers { first, count } => format!("{count}@{first}.."),
            InValues::Literals { count } => format!("{count} literals"),
            InValues::Mixed { count } => format!("{count} mixed"),
        };
        write!(out, " {columns} in {values}").unwrap();
    }
    if filter.token {
        out.push_str(" token");
    }
    if filter.others > 0 {
        write!(out, " others={}", filter.others).unwrap();
    }
}

fn show(value: Value, text: &str) -> String {
    match value {
        Value::Bind(position) => format!("@{position}"),
        Value::Literal(_, span) => text[span.range()].to_owned(),
        Value::Term(span) => format!("<{}>", &text[span.range()]),
    }
}

fn table(table: &Table, text: &str) -> String {
    let keyspace = table.keyspace.map(|keyspace| format!("{}.", name(keyspace, text))).unwrap_or_default();
    format!("{keyspace}{}", name(table.name, text))
}

fn name(name: Name, text: &str) -> String {
    String::from_utf8_lossy(&name.normal(text.as_bytes())).into_owned()
}
