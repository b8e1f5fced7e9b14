//! Results against two other implementations: what is located is what they read, and changed copies are still results.

mod oracle;
mod samples;

use cassandra_protocol::frame::message_response::ResponseBody;
use cassandra_protocol::frame::message_result::{ColSpec, ColTypeOption, ColTypeOptionValue, ResResultBody};
use cassandra_protocol::frame::{Serialize, Version as TheirVersion};
use oracle::{VERSIONS, open, theirs};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use scylla_cql::frame::protocol_features::ProtocolFeatures;
use scylla_cql::frame::response::result::{Result as ScyllaResult, ResultWithDeserializedMetadata};
use scylla_cql::frame::response::{ResponseOpcode, ResponseV2};
use weir_cql::envelope::Open;
use weir_cql::own;
use weir_cql::request::Change;
use weir_cql::response::{Columns, MetadataEdit, PreparedEdit, ResultBody, Rows, write_prefix};
use weir_cql::{CqlType, Dialect, Header, Native, Opcode, Response, StreamId, Version, write};

fn scylla(body: &[u8]) -> ScyllaResult {
    let body = body.to_vec().into();
    let read = ResponseV2::deserialize(&ProtocolFeatures::default(), ResponseOpcode::Result, body, None);
    match read.expect("valid") {
        ResponseV2::Result(result) => result,
        other => panic!("{other:?}"),
    }
}

fn result(header: &Header, body: &[u8]) -> ResultBody {
    match Response::locate(header, body, Dialect::of(header.version)) {
        Ok((_, Response::Result(result))) => result,
        other => panic!("{other:?}"),
    }
}

fn rows(header: &Header, body: &[u8]) -> Rows {
    match result(header, body) {
        ResultBody::Rows(rows) => rows,
        other => panic!("{other:?}"),
    }
}

fn native() -> impl Strategy<Value = CqlType> {
    (0x01..=0x15_u16).prop_filter_map("0x0A is not in v3 and later", |id| {
        Native::from_id(id).filter(|native| *native != Native::Text).map(CqlType::Native)
    })
}

fn cql_type() -> impl Strategy<Value = CqlType> {
    let name = || "[a-z]{1,6}".prop_map(|name| Box::from(name.as_bytes()));
    native().prop_recursive(4, 16, 3, move |inner| {
        prop_oneof![
            inner.clone().prop_map(|element| CqlType::List(element.into())),
            inner.clone().prop_map(|element| CqlType::Set(element.into())),
            (inner.clone(), inner.clone()).prop_map(|(key, value)| CqlType::Map(key.into(), value.into())),
            vec(inner.clone(), 1..4).prop_map(CqlType::Tuple),
            (name(), name(), vec((name(), inner), 1..4)).prop_map(|(keyspace, name, fields)| CqlType::Udt {
                keyspace,
                name,
                fields
            }),
        ]
    })
}

fn same_type(ours: &CqlType, theirs: &ColTypeOption) {
    match (ours, &theirs.value) {
        (CqlType::Native(native), None) => {
            let mut id = Vec::new();
            CqlType::Native(*native).write(&mut id);
            assert_eq!(theirs.id.serialize_to_vec(TheirVersion::V4), id);
        }
        (CqlType::List(ours), Some(ColTypeOptionValue::CList(theirs))) => same_type(ours, theirs),
        (CqlType::Set(ours), Some(ColTypeOptionValue::CSet(theirs))) => same_type(ours, theirs),
        (CqlType::Map(key, value), Some(ColTypeOptionValue::CMap(their_key, their_value))) => {
            same_type(key, their_key);
            same_type(value, their_value);
        }
        (CqlType::Tuple(ours), Some(ColTypeOptionValue::TupleType(theirs))) => {
            assert_eq!(ours.len(), theirs.types.len());
            ours.iter().zip(&theirs.types).for_each(|(ours, theirs)| same_type(ours, theirs));
        }
        (CqlType::Udt { name, fields, .. }, Some(ColTypeOptionValue::UdtType(theirs))) => {
            assert_eq!(&name[..], theirs.udt_name.as_bytes());
            for ((name, ours), (their_name, theirs)) in fields.iter().zip(&theirs.descriptions) {
                assert_eq!(&name[..], their_name.as_bytes());
                same_type(ours, theirs);
            }
        }
        other => panic!("{other:?}"),
    }
}

fn same_columns(body: &[u8], ours: &Columns, theirs: &[ColSpec]) {
    let found: Vec<_> = ours.iter(body).collect();
    assert_eq!(found.len(), theirs.len());
    for (ours, theirs) in found.iter().zip(theirs) {
        assert_eq!(ours.name.of(body), theirs.name.as_bytes());
        if let Some(table) = &theirs.table_spec {
            assert_eq!(ours.table.keyspace.of(body), table.ks_name.as_bytes());
            assert_eq!(ours.table.table.of(body), table.table_name.as_bytes());
        }
        same_type(&CqlType::at(body, ours.kind).expect("it was walked over"), &theirs.col_type);
    }
}

/// A result to generate.
#[derive(Clone, Debug)]
struct Page {
    columns: Vec<(String, CqlType)>,
    global: bool,
    state: Option<Vec<u8>>,
    skip: bool,
    rows: Vec<Vec<Option<Vec<u8>>>>,
}

fn page() -> impl Strategy<Value = Page> {
    (vec(("[a-z]{1,8}", cql_type()), 1..6), any::<bool>(), of(vec(any::<u8>(), 0..20)), any::<bool>())
        .prop_flat_map(|(columns, global, state, skip)| {
            let rows = vec(vec(of(vec(any::<u8>(), 0..20)), columns.len()), 0..10);
            (Just(columns), Just(global), Just(state), Just(skip), rows)
        })
        .prop_map(|(columns, global, state, skip, rows)| Page { columns, global, state, skip, rows })
}

impl Page {
    fn metadata(&self, out: &mut Vec<u8>) {
        let bits = u32::from(self.global && !self.skip)
            | if self.state.is_some() { 2 } else { 0 }
            | if self.skip { 4 } else { 0 };
        write::bits(out, bits);
        write::bits(out, self.columns.len() as u32);
        if let Some(state) = &self.state {
            write::bytes(out, state);
        }
        if !self.skip {
            specs(out, self.global, &self.columns);
        }
    }

    fn rows(&self, version: Version) -> Vec<u8> {
        samples::frame(version, 0, Opcode::Result, |out| {
            write::int(out, 2);
            self.metadata(out);
            write::bits(out, self.rows.len() as u32);
            self.rows.iter().flatten().for_each(|cell| write::nullable(out, cell.as_deref()));
        })
    }
}

fn specs(out: &mut Vec<u8>, global: bool, columns: &[(String, CqlType)]) {
    let table = |out: &mut Vec<u8>| {
        write::string(out, "ks");
        write::string(out, "posts");
    };
    if global {
        table(out);
    }
    for (name, kind) in columns {
        if !global {
            table(out);
        }
        write::string(out, name);
        kind.write(out);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn pages_of_rows(page in page(), versions in prop::sample::select(VERSIONS.to_vec())) {
        let (version, _) = versions;
        let bytes = page.rows(version);
        let (header, body) = open(&bytes);
        let found = rows(&header, body);
        let (_, ResponseBody::Result(ResResultBody::Rows(read))) = theirs(&bytes) else { panic!() };
        prop_assert_eq!(found.count as i32, read.rows_count);
        prop_assert_eq!(found.metadata.column_count as i32, read.metadata.columns_count);
        same_columns(body, &found.metadata.columns, &read.metadata.col_specs);
        let state = read.metadata.paging_state.as_ref().map(|state| state.as_slice());
        prop_assert_eq!(found.metadata.paging_state.map(|state| state.of(body)), state);
        for (ours, theirs) in found.iter(body).zip(&read.rows_content) {
            let ours: Vec<_> = ours.values(body).map(|value| value.of(body)).collect();
            let theirs: Vec<_> = theirs.iter().map(|cell| cell.as_slice()).collect();
            prop_assert_eq!(ours, theirs);
        }
        if version == Version::V4 {
            let read = scylla(body);
            if !page.skip {
                let Ok(ResultWithDeserializedMetadata::Rows((read, state))) = read.deserialize_metadata() else { panic!() };
                prop_assert_eq!(state.finished(), found.metadata.paging_state.is_none());
                prop_assert_eq!(read.rows_count(), found.count as usize);
                prop_assert_eq!(read.rows_bytes_size(), found.content.len());
                let names = read.metadata().col_specs().iter().map(|column| column.name().to_owned());
                let ours = found.metadata.columns.iter(body).map(|column| {
                    String::from_utf8_lossy(column.name.of(body)).into_owned()
                });
                prop_assert!(names.eq(ours));
            }
        }
    }

    /// Two pages put together are one page of both, with the paging state that is wanted.
    #[test]
    fn pages_put_together(page in page(), state in of(vec(any::<u8>(), 0..30)), skip in any::<bool>(), warn in any::<bool>()) {
        let (version, their_version) = VERSIONS[1];
        let bytes = page.rows(version);
        let (header, body) = open(&bytes);
        let found = rows(&header, body);
        let edit = MetadataEdit {
            paging_state: state.as_ref().map_or(Change::Remove, |state| Change::Set(state)),
            skip_columns: skip,
            ..MetadataEdit::default()
        };
        let mut out = Vec::new();
        let warnings: &[&[u8]] = if warn { &[b"one", b"two"] } else { &[] };
        let mut prefix = Vec::new();
        let flags = write_prefix(&mut prefix, version, Some([0x10; 16]), warnings.iter().copied(), None);
        let open = Open::new(&mut out, version, flags, StreamId(4), Opcode::Result);
        out.extend_from_slice(&prefix);
        found.write_head(body, &edit, found.count * 2, &mut out);
        out.extend_from_slice(found.content.of(body));
        out.extend_from_slice(found.content.of(body));
        open.close(&mut out).expect("short");

        let (envelope, ResponseBody::Result(ResResultBody::Rows(read))) = theirs(&out) else { panic!() };
        prop_assert_eq!(envelope.version, their_version);
        prop_assert_eq!(envelope.warnings.len(), warnings.len());
        prop_assert_eq!(envelope.tracing_id.map(|id| id.into_bytes()), Some([0x10; 16]));
        prop_assert_eq!(read.rows_count, found.count as i32 * 2);
        let expected: Vec<_> = page.rows.iter().chain(&page.rows).flatten().map(Option::as_deref).collect();
        let cells: Vec<_> = read.rows_content.iter().flatten().map(|cell| cell.as_slice()).collect();
        prop_assert_eq!(cells, expected);
        let described = if skip || page.skip { 0 } else { page.columns.len() };
        prop_assert_eq!(read.metadata.col_specs.len(), described);
        prop_assert_eq!(read.metadata.paging_state.and_then(|state| state.into_bytes()), state);
    }

    #[test]
    fn prepared(
        page in page(),
        markers in vec(("[a-z]{1,8}", cql_type()), 0..5),
        keys in vec(0..5_u16, 0..4),
        versions in prop::sample::select(VERSIONS.to_vec()),
    ) {
        let (version, _) = versions;
        // Only an answer to EXECUTE has a paging state.
        let page = Page { state: None, ..page };
        let global = page.global && !markers.is_empty();
        let bytes = samples::frame(version, 0, Opcode::Result, |out| {
            write::int(out, 4);
            write::short_bytes(out, b"statement id");
            if version == Version::V5 {
                write::short_bytes(out, b"metadata id");
            }
            write::bits(out, u32::from(global));
            write::bits(out, markers.len() as u32);
            if version >= Version::V4 {
                write::bits(out, keys.len() as u32);
                keys.iter().for_each(|key| write::short(out, *key));
            }
            specs(out, global, &markers);
            page.metadata(out);
        });
        let (header, body) = open(&bytes);
        let ResultBody::Prepared(found) = result(&header, body) else { panic!() };
        let keys = if version >= Version::V4 { keys } else { vec![] };
        prop_assert_eq!(found.id.of(body), b"statement id");
        prop_assert_eq!(found.key_indices(body).collect::<Vec<_>>(), keys.clone());
        let (_, ResponseBody::Result(ResResultBody::Prepared(read))) = theirs(&bytes) else { panic!() };
        same_columns(body, &found.markers, &read.metadata.col_specs);
        same_columns(body, &found.result.columns, &read.result_metadata.col_specs);
        prop_assert_eq!(&read.metadata.pk_indexes, &keys.iter().map(|key| *key as i16).collect::<Vec<_>>());
        if version == Version::V4 && !page.skip {
            let ScyllaResult::Prepared(read) = scylla(body) else { panic!() };
            let mut theirs = read.prepared_metadata.pk_indexes.clone();
            theirs.sort_by_key(|index| index.sequence);
            prop_assert_eq!(theirs.iter().map(|index| index.index).collect::<Vec<_>>(), keys.clone());
            prop_assert_eq!(read.prepared_metadata.col_specs.len(), markers.len());
            prop_assert_eq!(read.result_metadata.col_count(), page.columns.len());
        }

        // Another id, and from the dialect of one version to that of another.
        let edit = PreparedEdit { id: Some(b"weir's own"), result_metadata_id: Change::Remove };
        let mut out = Vec::new();
        let plain = if version == Version::V5 { Version::V4 } else { version };
        own::envelope(&mut out, plain, StreamId(1), Opcode::Result, |out| found.rewrite(body, &edit, out)).expect("short");
        let (_, ResponseBody::Result(ResResultBody::Prepared(again))) = theirs(&out) else { panic!() };
        prop_assert_eq!(again.id.into_bytes(), Some(b"weir's own".to_vec()));
        prop_assert_eq!(again.metadata, read.metadata);
        prop_assert_eq!(again.result_metadata, read.result_metadata);
    }
}
