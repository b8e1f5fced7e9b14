//! What must hold for every text: called by the fuzz target and by the property tests.

use super::shape::{Body, InValues, Modify, Name, Span, Value, Where};
use super::{BATCH_MAX, FINGERPRINT_MAX, fingerprint, qualify, read};

/// Panics when a text breaks a promise of this module.
pub fn check_text(text: &[u8]) {
    let statement = read(text);
    let print = fingerprint(text);
    assert!(print.text.len() <= FINGERPRINT_MAX);
    if print.complete {
        let again = fingerprint(print.text.as_bytes());
        if std::str::from_utf8(text).is_ok() && again.complete {
            assert_eq!(again, print, "normalising twice changes it");
        }
    }
    let markers = statement.markers;
    match &statement.body {
        Body::Select(select) => {
            check_where(&select.filter, text, markers);
            check_name(select.table.name, text);
            for value in [select.limit, select.per_partition_limit, select.timeout].into_iter().flatten() {
                check_value(value, text, markers);
            }
        }
        Body::Modify(modify) => check_modify(modify, text, markers),
        Body::Batch(batch) => {
            assert!(batch.statements.len() <= BATCH_MAX);
            batch.statements.iter().for_each(|modify| check_modify(modify, text, markers));
        }
        Body::Use(name) => check_name(*name, text),
        Body::Opaque(_) => assert_eq!(markers, 0),
    }
    if let Some(qualified) = qualify(&statement, text, "Some \"Keyspace") {
        let again = read(&qualified);
        assert_eq!(again.kind, statement.kind);
        assert_eq!(again.markers, markers, "qualifying lost a marker");
        let twice = qualify(&again, &qualified, "other").expect("a qualified statement is still understood");
        assert_eq!(twice, qualified, "qualifying left a bare table");
    }
}

fn check_modify(modify: &Modify, text: &[u8], markers: u16) {
    check_where(&modify.filter, text, markers);
    check_name(modify.table.name, text);
    for value in [modify.timestamp, modify.ttl, modify.timeout, modify.json].into_iter().flatten() {
        check_value(value, text, markers);
    }
}

fn check_where(filter: &Where, text: &[u8], markers: u16) {
    for equal in &filter.equal {
        check_name(equal.column, text);
        check_value(equal.value, text, markers);
    }
    for relation in &filter.ins {
        relation.columns.iter().for_each(|name| check_name(*name, text));
        check_span(relation.span, text);
        let bytes = relation.span.bytes(text);
        match relation.values {
            InValues::List(position) => assert!(position < markers && matches!(bytes[0], b'?' | b':')),
            InValues::Markers { first, count } => {
                assert!(u32::from(first) + count <= u32::from(markers));
                assert!(bytes.starts_with(b"(") && bytes.ends_with(b")"));
            }
            InValues::Literals { .. } | InValues::Mixed { .. } => {
                assert!(bytes.starts_with(b"(") && bytes.ends_with(b")"));
            }
        }
    }
}

fn check_value(value: Value, text: &[u8], markers: u16) {
    match value {
        Value::Bind(position) => assert!(position < markers),
        Value::Literal(_, span) | Value::Term(span) => check_span(span, text),
    }
}

fn check_name(name: Name, text: &[u8]) {
    check_span(name.span, text);
    assert!(!name.normal(text).is_empty());
}

fn check_span(span: Span, text: &[u8]) {
    assert!(span.start < span.end && text.get(span.range()).is_some());
}
