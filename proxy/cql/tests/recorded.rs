//! Responses of a real server: Apache Cassandra 5.0.9, recorded from v3, v4 and v5 connections (decompressed, out of
//! their segments). `frames/cassandra-5.0.9.txt` has each frame in hexadecimal and what is read from it;
//! `WEIR_BLESS=1` writes the second anew.

mod oracle;

use std::fmt::Write as _;

use oracle::open;
use weir_cql::response::{Columns, Response, ResultBody, supported};
use weir_cql::{CqlType, Dialect, Side, invariants};

fn hex(line: &str) -> Vec<u8> {
    let digits = |at: usize| line.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    (0..line.len()).step_by(2).map(|at| digits(at).expect("hexadecimal")).collect()
}

fn columns(body: &[u8], columns: &Columns) -> String {
    let mut text = String::new();
    for column in columns.iter(body) {
        let kind = match CqlType::at(body, column.kind).expect("it was walked over") {
            CqlType::Custom(class) => String::from_utf8_lossy(&class).into_owned(),
            CqlType::Udt { name, fields, .. } => format!("{}{{{}}}", name.escape_ascii(), fields.len()),
            other => format!("{other:?}"),
        };
        let table =
            (column.table.keyspace.of(body).escape_ascii(), column.table.table.of(body).escape_ascii());
        let _ = write!(text, " {}.{}.{}:{kind}", table.0, table.1, column.name.of(body).escape_ascii());
    }
    text
}

/// What a frame says, in a line.
fn summary(frame: &[u8]) -> String {
    let (header, body) = open(frame);
    let (prefix, response) =
        Response::locate(&header, body, Dialect::of(header.version)).expect("a server has sent it");
    let text = match response {
        Response::Error(error) => {
            let detail = format!("{:?}", error.detail);
            let words = error.message.escape_ascii();
            format!("{} {:?}: {words}", error.code, detail.split([' ', '(']).next().unwrap_or_default())
        }
        Response::Supported(options) => {
            let names = supported(body, options)
                .map(|(name, values)| format!(" {}={}", name.escape_ascii(), values.count()));
            format!("options{}", names.collect::<String>())
        }
        Response::Result(ResultBody::Rows(rows)) => {
            let bytes: usize = rows.iter(body).map(|row| row.span.len()).sum();
            let more = if rows.metadata.paging_state.is_some() { ", more" } else { "" };
            let changed = if rows.metadata.new_metadata_id.is_some() { ", new columns" } else { "" };
            let described = columns(body, &rows.metadata.columns);
            assert_eq!(bytes, rows.content.len(), "the rows end with the body");
            format!(
                "{} rows of {} in {bytes} bytes{more}{changed}:{described}",
                rows.count, rows.metadata.column_count
            )
        }
        Response::Result(ResultBody::Prepared(prepared)) => {
            let keys: Vec<u16> = prepared.key_indices(body).collect();
            let (markers, result) =
                (columns(body, &prepared.markers), columns(body, &prepared.result.columns));
            format!("prepared, keys {keys:?}, markers{markers}, result{result}")
        }
        Response::Result(result @ ResultBody::SchemaChange(_)) => {
            let change = result.schema_change(body).expect("it is one").expect("a server has sent it");
            format!("{} of {}", change.change.escape_ascii(), change.keyspace.escape_ascii())
        }
        Response::Result(ResultBody::SetKeyspace(name)) => {
            format!("keyspace {}", name.of(body).escape_ascii())
        }
        other => format!("{other:?}"),
    };
    format!(
        "v{} {} {} warnings: {text}",
        header.version.number(),
        header.opcode.name(),
        prefix.warnings(body).count()
    )
}

#[test]
fn responses_of_cassandra_are_read() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/frames/cassandra-5.0.9.txt");
    let recorded = std::fs::read_to_string(&path).expect("the recording is there");
    let mut read = String::new();
    let mut kinds = std::collections::BTreeSet::new();
    for line in recorded.lines().filter(|line| !line.starts_with('=')) {
        let frame = hex(line);
        assert_eq!(invariants::read_stream(&frame, Side::Server), (1, 1), "{line}");
        let summary = summary(&frame);
        kinds.insert(frame[0] & 0x7f);
        let _ = writeln!(read, "{line}\n= {summary}");
    }
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), [3, 4, 5]);
    if std::env::var_os("WEIR_BLESS").is_some() {
        std::fs::write(&path, &read).expect("the recording can be written");
        return;
    }
    assert_eq!(recorded, read);
}
