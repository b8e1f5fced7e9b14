//! `IN (?, ?)` written with one list.

use crate::model::{header, located, located_prepared, prepared_in};
use proptest::prelude::*;
use weir_cql::envelope::{Flags, Header, Opcode};
use weir_cql::request::{QueryFlags, Request, list_elements};
use weir_cql::{Consistency, Dialect, Value, Version, write};
use weir_engine::cql::split::{ListForm, Whole};

fn form(text: &str) -> Result<ListForm, Whole> {
    ListForm::of(text.as_bytes(), &weir_cql::statement::read(text.as_bytes()))
}

#[test]
fn texts() {
    for (text, expected) in [
        ("select * from t where pk in (?, ?)", "select * from t where pk in  ? "),
        ("select * from t where pk in(?,?)and c=?", "select * from t where pk in ? and c=?"),
        (
            "select a from t where c = ? and pk IN ( ? , ?, ? ) limit ?",
            "select a from t where c = ? and pk IN  ?  limit ?",
        ),
        ("select a from t where pk in (:a, :b) and c = :c", "select a from t where pk in  ?  and c = :c"),
    ] {
        let form = form(text).expect("a list form");
        assert_eq!(std::str::from_utf8(&form.text), Ok(expected));
        let read = weir_cql::statement::read(&form.text);
        let again = ListForm::of(&form.text, &read);
        assert_eq!(again, Err(Whole::NotOneList), "it is the list form: {expected}");
    }
    for (text, expected) in [
        ("select * from t where pk in ?", Whole::NotOneList),
        ("select * from t where pk in (?, 3)", Whole::NotOneList),
        ("select * from t where pk in ()", Whole::Small),
        ("select * from t where pk in (?)", Whole::Small),
        ("select * from t where pk in (?, ?) and c in (?, ?)", Whole::ManyIn),
        ("select * from t where (a, b) in (?, ?)", Whole::ManyIn),
        ("select * from t where pk in (?, ?) order by c", Whole::Ordered),
        ("select count(*) from t where pk in (?, ?)", Whole::Aggregate),
        ("select * from t where pk = ?", Whole::NoIn),
        ("delete from t where pk in (?, ?)", Whole::NotSelect),
    ] {
        assert_eq!(form(text), Err(expected), "{text}");
    }
}

/// An EXECUTE with every field, and these values.
fn execute(version: Version, values: &[Option<Vec<u8>>]) -> Vec<u8> {
    let mut body = Vec::new();
    write::short_bytes(&mut body, b"first-id");
    if version >= Version::V5 {
        write::short_bytes(&mut body, b"columns");
    }
    write::short(&mut body, 6);
    let flags = QueryFlags::VALUES
        | QueryFlags::SKIP_METADATA
        | QueryFlags::PAGE_SIZE
        | QueryFlags::PAGING_STATE
        | QueryFlags::SERIAL_CONSISTENCY
        | QueryFlags::TIMESTAMP;
    match version {
        Version::V5 => write::bits(&mut body, flags | QueryFlags::KEYSPACE | QueryFlags::NOW_IN_SECONDS),
        _ => write::byte(&mut body, flags as u8),
    }
    write::short(&mut body, values.len() as u16);
    values.iter().for_each(|value| write::nullable(&mut body, value.as_deref()));
    write::int(&mut body, 77);
    write::bytes(&mut body, b"state");
    write::short(&mut body, 9);
    write::long(&mut body, 123_456);
    if version >= Version::V5 {
        write::short_bytes(&mut body, b"keyspace");
        write::int(&mut body, 1_700_000_000);
    }
    body
}

proptest! {
    #[test]
    fn only_the_values_change(
        version in prop::sample::select(vec![Version::V3, Version::V4, Version::V5]),
        keys in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9), 2..40),
        before in any::<bool>(),
        after in prop::option::of(prop::option::of(prop::collection::vec(any::<u8>(), 0..9))),
    ) {
        let markers = vec!["?"; keys.len()].join(", ");
        let (first, limit) = (if before { "c = ? AND " } else { "" }, if after.is_some() { " LIMIT ?" } else { "" });
        let form = form(&format!("SELECT * FROM t WHERE {first}pk IN ({markers}){limit}")).expect("a list form");
        let lead = before.then(|| Some(b"lead".to_vec()));
        let values: Vec<Option<Vec<u8>>> =
            lead.clone().into_iter().chain(keys.iter().cloned().map(Some)).chain(after.clone()).collect();
        let body = execute(version, &values);
        let (old, dialect) = (located(version, &body), Dialect::of(version));
        let out = form.execute(&body, &old, dialect, b"list-id").expect("written");
        let new = located(version, &out);
        prop_assert_eq!(new.id.of(&out), b"list-id");
        prop_assert_eq!(new.parameters.span.end as usize, out.len(), "nothing behind it");
        let fields = |execute: &weir_cql::request::Execute, body: &[u8]| {
            let p = execute.parameters;
            (
                (execute.result_metadata_id.map(|id| id.of(body).to_vec()), p.consistency.value, p.flags),
                (p.page_size.map(|size| size.value), p.paging_state.map(|state| state.of(body).map(<[u8]>::to_vec))),
                (p.serial_consistency.map(|place| place.value), p.timestamp.map(|place| place.value)),
                (p.keyspace.map(|keyspace| keyspace.of(body).to_vec()), p.now_in_seconds.map(|place| place.value)),
            )
        };
        prop_assert_eq!(fields(&old, &body), fields(&new, &out));
        let values: Vec<Option<Vec<u8>>> =
            new.parameters.values.iter(&out).map(|(_, value)| value.of(&out).map(<[u8]>::to_vec)).collect();
        let list = values[usize::from(before)].as_deref().expect("a list");
        let elements = list_elements(list).expect("a list");
        let mut found = Vec::new();
        for element in elements {
            found.push(element.expect("a key").to_vec());
        }
        prop_assert_eq!(found, keys);
        prop_assert_eq!(before.then(|| values[0].clone()), lead);
        let behind: Vec<Option<Vec<u8>>> = values[usize::from(before) + 1..].to_vec();
        prop_assert_eq!(behind, after.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn no_bytes_panic(body in prop::collection::vec(any::<u8>(), 0..80), plausible in any::<bool>()) {
        let form = form("SELECT * FROM t WHERE pk IN (?, ?) LIMIT ?").expect("a list form");
        let body = if plausible { [&b"\0\x01i\0\x01\x01\0\x03"[..], &body].concat() } else { body };
        let header = header(Version::V4, Opcode::Execute, &body);
        let dialect = Dialect::of(Version::V4);
        if let Ok(Request::Execute(execute)) = Request::locate(&header, &body, dialect)
            && let Ok(out) = form.execute(&body, &execute, dialect, b"list-id")
        {
            prop_assert_eq!(located(Version::V4, &out).parameters.values.count, 2);
        }
    }
}

#[test]
fn values_the_server_must_judge_itself() {
    let form = form("SELECT * FROM t WHERE pk IN (?, ?) LIMIT ?").expect("a list form");
    let dialect = Dialect::of(Version::V4);
    let key = || Some(b"key".to_vec());
    for (values, expected) in [
        (vec![key(), key()], Some(Whole::Values)),
        (vec![key(), key(), key(), key()], Some(Whole::Values)),
        (vec![key(), None, key()], Some(Whole::Keys)),
        (vec![key(), key(), None], None),
    ] {
        let body = execute(Version::V4, &values);
        let old = located(Version::V4, &body);
        let checked = form.check(&header(Version::V4, Opcode::Execute, &body), &body, &old);
        assert_eq!(checked.err(), expected);
        let out = form.execute(&body, &old, dialect, b"list-id");
        assert_eq!(out.as_ref().err().copied(), expected);
        if let Ok(out) = out {
            assert_eq!(located(Version::V4, &out).parameters.values.get(&out, 1), Some(Value::Null));
        }
    }
}

#[test]
fn what_only_a_whole_request_can_carry() {
    let form = form("SELECT * FROM t WHERE pk IN (?, ?)").expect("a list form");
    let body = execute(Version::V4, &[Some(b"a".to_vec()), Some(b"b".to_vec())]);
    let located = located(Version::V4, &body);
    let plain = header(Version::V4, Opcode::Execute, &body);
    assert_eq!(form.check(&plain, &body, &located), Ok(()));
    for (flag, expected) in [(Flags::TRACING, Whole::Traced), (Flags::CUSTOM_PAYLOAD, Whole::Payload)] {
        assert_eq!(form.check(&Header { flags: Flags(flag), ..plain }, &body, &located), Err(expected));
    }
    let mut serial = located;
    serial.parameters.consistency.value = Consistency::LOCAL_SERIAL;
    assert_eq!(form.check(&plain, &body, &serial), Err(Whole::Serial));
    let mut named = located;
    named.parameters.values.named = true;
    assert_eq!(form.check(&plain, &body, &named), Err(Whole::Named));
}

/// The answer to the client's own PREPARE may show that its form with one list is not worth one.
#[test]
fn what_the_first_prepare_tells() {
    let (int, text, map) = (vec![0x09], vec![0x0d], vec![0x21, 0x09, 0x09]);
    for (text, markers, indices, expected) in [
        ("k IN (?, ?)", vec![("k", &int), ("k", &int)], vec![1], Ok(())),
        ("k IN (?, ?)", vec![("k", &int), ("k", &int)], vec![], Ok(())),
        ("p = ? AND k IN (?, ?)", vec![("p", &text), ("k", &int), ("k", &int)], vec![0, 2], Ok(())),
        (
            "k = ? AND c IN (?, ?)",
            vec![("k", &int), ("c", &int), ("c", &int)],
            vec![0],
            Err(Whole::NotTheKey),
        ),
        ("k IN (?, ?)", vec![("k", &int)], vec![0], Err(Whole::NotTheKey)),
        ("k IN (?, ?)", vec![("k", &map), ("k", &map)], vec![1], Err(Whole::KeyType)),
    ] {
        let form = form(&format!("SELECT * FROM ks.t WHERE {text}")).expect("a list form");
        let markers: Vec<(&str, Vec<u16>)> =
            markers.into_iter().map(|(name, kind)| (name, kind.clone())).collect();
        for (keyspace, expected) in [("ks", expected), ("system_views", expected.and(Err(Whole::System)))] {
            let body = prepared_in(keyspace, Dialect::of(Version::V4), &indices, &markers);
            let prepared = located_prepared(&body, Version::V4);
            // the type is looked at last
            let expected = match expected {
                Err(Whole::KeyType) if keyspace != "ks" => Err(Whole::System),
                other => other,
            };
            assert_eq!(form.may_be_cut(&body, &prepared), expected, "{text} in {keyspace}");
        }
    }
}

#[test]
fn as_many_values_as_can_be_bound() {
    let count = usize::from(u16::MAX);
    let text = format!("SELECT * FROM t WHERE pk IN ({})", vec!["?"; count].join(","));
    let form = form(&text).expect("a list form");
    let body = execute(Version::V5, &vec![Some(b"key".to_vec()); count]);
    let old = located(Version::V5, &body);
    assert_eq!(form.check(&header(Version::V5, Opcode::Execute, &body), &body, &old), Ok(()));
    let out = form.execute(&body, &old, Dialect::of(Version::V5), b"list-id").expect("written");
    let list = located(Version::V5, &out).parameters.values.get(&out, 0).and_then(|value| value.of(&out));
    assert_eq!(list_elements(list.expect("a list")).expect("a list").count(), count);
}
