//! Requests against two other implementations: what they write is located, and what is rewritten reads as they say.

use std::io::Cursor;
use std::panic::catch_unwind;

use cassandra_protocol::compression::Compression as TheirCompression;
use cassandra_protocol::consistency::Consistency as TheirConsistency;
use cassandra_protocol::frame::message_batch::{BatchQuery, BatchQuerySubj, BatchType, BodyReqBatch};
use cassandra_protocol::frame::message_execute::BodyReqExecuteOwned;
use cassandra_protocol::frame::message_prepare::BodyReqPrepare;
use cassandra_protocol::frame::message_query::BodyReqQuery;
use cassandra_protocol::frame::{
    Direction, Envelope, Flags as TheirFlags, FromCursor, Opcode as TheirOpcode, Serialize,
    Version as TheirVersion,
};
use cassandra_protocol::query::{QueryParams, QueryValues};
use cassandra_protocol::types::value::Value as TheirValue;
use cassandra_protocol::types::{CBytes, CBytesShort};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use scylla_cql::frame::protocol_features::ProtocolFeatures;
use scylla_cql::frame::request::query::QueryParameters;
use scylla_cql::frame::request::{RequestOpcode, RequestV2};
use scylla_cql::frame::types::RawValue;
use weir_cql::request::{
    BatchEdit, BatchKind, BatchPart, Change, ExecuteEdit, NewValue, ParameterEdit, Parameters, QueryFlags,
};
use weir_cql::{
    Compression, Consistency, Dialect, EnvelopeLimits, Flags, Header, Opcode, Request, Side, Step, StreamId,
    Value, Version, read_header,
};

const VERSIONS: [(Version, TheirVersion); 3] =
    [(Version::V3, TheirVersion::V3), (Version::V4, TheirVersion::V4), (Version::V5, TheirVersion::V5)];

const CONSISTENCIES: [(Consistency, TheirConsistency); 5] = [
    (Consistency::ANY, TheirConsistency::Any),
    (Consistency::ONE, TheirConsistency::One),
    (Consistency::QUORUM, TheirConsistency::Quorum),
    (Consistency::LOCAL_QUORUM, TheirConsistency::LocalQuorum),
    (Consistency::LOCAL_ONE, TheirConsistency::LocalOne),
];

fn consistency(theirs: TheirConsistency) -> Consistency {
    match theirs {
        TheirConsistency::Serial => Consistency::SERIAL,
        TheirConsistency::LocalSerial => Consistency::LOCAL_SERIAL,
        other => CONSISTENCIES.iter().find(|(_, theirs)| *theirs == other).expect("one of the five").0,
    }
}

fn header(version: Version, opcode: Opcode) -> Header {
    Header { version, flags: Flags::default(), stream: StreamId(0), opcode, body_len: 0 }
}

fn value(version: TheirVersion) -> impl Strategy<Value = TheirValue> {
    let unset = if version == TheirVersion::V3 { TheirValue::Null } else { TheirValue::NotSet };
    prop_oneof![
        6 => vec(any::<u8>(), 0..40).prop_map(TheirValue::Some),
        1 => Just(TheirValue::Null),
        1 => Just(unset),
    ]
}

fn values(version: TheirVersion, named: bool) -> BoxedStrategy<QueryValues> {
    if named {
        prop::collection::hash_map("[a-z]{1,8}", value(version), 0..6)
            .prop_map(QueryValues::NamedValues)
            .boxed()
    } else {
        vec(value(version), 0..8).prop_map(QueryValues::SimpleValues).boxed()
    }
}

/// Query parameters of one version.
fn params(version: TheirVersion, named: bool) -> impl Strategy<Value = QueryParams> {
    let v5 = version == TheirVersion::V5;
    (
        prop::sample::select(CONSISTENCIES.to_vec()),
        of(values(version, named)),
        of(any::<i32>()),
        of(vec(any::<u8>(), 0..30)),
        of(prop::sample::select(vec![TheirConsistency::Serial, TheirConsistency::LocalSerial])),
        of(0..i64::MAX),
        of("[a-z]{1,10}"),
        of(any::<i32>()),
    )
        .prop_map(move |(level, values, page_size, state, serial, timestamp, keyspace, now)| {
            QueryParams {
                consistency: level.1,
                with_names: named && values.is_some(),
                values,
                page_size,
                paging_state: state.map(CBytes::new),
                serial_consistency: serial,
                timestamp,
                keyspace: keyspace.filter(|_| v5),
                now_in_seconds: now.filter(|_| v5),
            }
        })
}

fn same_value(body: &[u8], ours: Value, theirs: &TheirValue) {
    match theirs {
        TheirValue::Some(bytes) => assert_eq!(ours.of(body), Some(bytes.as_slice())),
        TheirValue::Null => assert_eq!(ours, Value::Null),
        TheirValue::NotSet => assert_eq!(ours, Value::NotSet),
    }
}

fn same_params(body: &[u8], ours: &Parameters, theirs: &QueryParams) {
    assert_eq!(ours.consistency.value, consistency(theirs.consistency));
    assert_eq!(ours.page_size.map(|size| size.value), theirs.page_size);
    let state = theirs.paging_state.as_ref().map(|state| state.as_slice());
    assert_eq!(ours.paging_state.map(|state| state.of(body)), state);
    assert_eq!(ours.serial_consistency.map(|level| level.value), theirs.serial_consistency.map(consistency));
    assert_eq!(ours.timestamp.map(|timestamp| timestamp.value), theirs.timestamp);
    assert_eq!(ours.keyspace.map(|name| name.of(body)), theirs.keyspace.as_ref().map(String::as_bytes));
    assert_eq!(ours.now_in_seconds.map(|now| now.value), theirs.now_in_seconds);
    let found: Vec<_> = ours.values.iter(body).collect();
    match &theirs.values {
        None => assert!(found.is_empty() && !ours.flags.has(QueryFlags::VALUES)),
        Some(QueryValues::SimpleValues(values)) => {
            assert_eq!(found.len(), values.len());
            found.iter().zip(values).for_each(|((_, ours), theirs)| same_value(body, *ours, theirs));
        }
        Some(QueryValues::NamedValues(values)) => {
            assert_eq!(found.len(), values.len());
            for (name, ours) in found {
                let name = std::str::from_utf8(name).expect("they are letters");
                same_value(body, ours, &values[name]);
            }
        }
    }
}

/// A change, and the same change to their structure.
type Edit = (Change<i32>, Change<Vec<u8>>, Change<i64>, Option<(u16, Vec<u8>)>, bool);

fn change<T: std::fmt::Debug + Clone>(value: impl Strategy<Value = T>) -> impl Strategy<Value = Change<T>> {
    prop_oneof![Just(Change::Keep), Just(Change::Remove), value.prop_map(Change::Set)]
}

fn edit() -> impl Strategy<Value = Edit> {
    (
        change(any::<i32>()),
        change(vec(any::<u8>(), 0..50)),
        change(0..i64::MAX),
        of((0..9_u16, vec(any::<u8>(), 0..50))),
        any::<bool>(),
    )
}

fn ours(edit: &Edit) -> ParameterEdit<'_> {
    ParameterEdit {
        page_size: edit.0,
        paging_state: match &edit.1 {
            Change::Keep => Change::Keep,
            Change::Remove => Change::Remove,
            Change::Set(state) => Change::Set(state),
        },
        timestamp: edit.2,
        value: edit.3.as_ref().map(|(index, bytes)| (*index, NewValue::Bytes(bytes))),
        skip_metadata: Some(edit.4),
        ..ParameterEdit::default()
    }
}

fn theirs(edit: &Edit, params: &QueryParams) -> QueryParams {
    let mut params = params.clone();
    params.page_size = edit.0.over(params.page_size);
    let state = params.paging_state.and_then(CBytes::into_bytes);
    params.paging_state = edit.1.clone().over(state).map(CBytes::new);
    params.timestamp = edit.2.over(params.timestamp);
    if let (Some(QueryValues::SimpleValues(values)), Some((index, bytes))) = (&mut params.values, &edit.3)
        && let Some(value) = values.get_mut(usize::from(*index))
    {
        *value = TheirValue::Some(bytes.clone());
    }
    params
}

/// The second oracle: v4 only, no names.
fn same_scylla(theirs: &QueryParameters<'_>, params: &QueryParams, skip: bool) {
    assert_eq!(theirs.page_size, params.page_size);
    assert_eq!(theirs.timestamp, params.timestamp);
    assert_eq!(theirs.skip_metadata, skip);
    assert_eq!(theirs.serial_consistency.is_some(), params.serial_consistency.is_some());
    let state = params.paging_state.as_ref().and_then(|state| state.as_slice());
    assert_eq!(theirs.paging_state.as_bytes_slice().map(|state| &state[..]), state);
    let expected: &[TheirValue] = match &params.values {
        Some(QueryValues::SimpleValues(values)) => values,
        _ => &[],
    };
    assert_eq!(usize::from(theirs.values.element_count()), expected.len());
    for (found, expected) in theirs.values.iter().zip(expected) {
        match (found, expected) {
            (RawValue::Value(found), TheirValue::Some(expected)) => assert_eq!(found, expected),
            (RawValue::Null, TheirValue::Null) | (RawValue::Unset, TheirValue::NotSet) => {}
            other => panic!("{other:?}"),
        }
    }
}

fn ask() -> impl Strategy<Value = ((Version, TheirVersion), QueryParams)> {
    (prop::sample::select(VERSIONS.to_vec()), any::<bool>())
        .prop_flat_map(|(version, named)| (Just(version), params(version.1, named)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn queries((versions, params) in ask(), text in "[ -~é]{0,60}", edit in edit()) {
        let (version, their_version) = versions;
        let dialect = Dialect::of(version);
        let query = BodyReqQuery { query: text.clone(), query_params: params.clone() };
        let body = query.serialize_to_vec(their_version);
        let Ok(Request::Query(found)) = Request::locate(&header(version, Opcode::Query), &body, dialect) else {
            panic!("{body:x?}");
        };
        prop_assert_eq!(found.text.of(&body), text.as_bytes());
        same_params(&body, &found.parameters, &params);
        prop_assume!(!params.with_names || edit.3.is_none());

        let mut out = Vec::new();
        found.rewrite(&body, Some(b"SELECT 1"), &ours(&edit), &mut out);
        let expected = theirs(&edit, &params);
        let read = || BodyReqQuery::from_cursor(&mut Cursor::new(out.as_slice()), their_version).expect("valid");
        let again = catch_unwind(read).expect("no panic on valid bytes");
        prop_assert_eq!(again, BodyReqQuery { query: "SELECT 1".into(), query_params: expected.clone() });
        if version == Version::V4 && !params.with_names {
            let read = RequestV2::deserialize(&mut &out[..], RequestOpcode::Query, &ProtocolFeatures::default());
            let Ok(RequestV2::Query(again)) = read else { panic!("{out:x?}") };
            prop_assert_eq!(&again.contents, "SELECT 1");
            same_scylla(&again.parameters, &expected, edit.4);
        }
    }

    #[test]
    fn executes(
        (versions, params) in ask(),
        id in vec(any::<u8>(), 0..20),
        new_id in of(vec(any::<u8>(), 0..20)),
        edit in edit(),
        trailing in vec(any::<u8>(), 0..3),
    ) {
        let (version, their_version) = versions;
        let dialect = Dialect::of(version);
        let metadata_id = dialect.metadata_ids.then(|| CBytesShort::new(b"metadata".to_vec()));
        let id_of = |id: &[u8]| CBytesShort::new(id.to_vec());
        let execute = BodyReqExecuteOwned::new(id_of(&id), metadata_id.clone(), params.clone());
        let mut body = execute.serialize_to_vec(their_version);
        body.extend_from_slice(&trailing);
        let Ok(Request::Execute(found)) = Request::locate(&header(version, Opcode::Execute), &body, dialect) else {
            panic!("{body:x?}");
        };
        prop_assert_eq!(found.id.of(&body), &id[..]);
        same_params(&body, &found.parameters, &params);
        prop_assume!(!params.with_names || edit.3.is_none());

        let mut out = Vec::new();
        let changes = ExecuteEdit { id: new_id.as_deref(), parameters: ours(&edit), ..ExecuteEdit::default() };
        found.rewrite(&body, &changes, &mut out);
        prop_assert!(out.ends_with(&trailing));
        let expected = theirs(&edit, &params);
        let id = new_id.as_deref().unwrap_or(&id);
        let again = BodyReqExecuteOwned::from_cursor(&mut Cursor::new(out.as_slice()), their_version);
        let whole = BodyReqExecuteOwned::new(id_of(id), metadata_id, expected.clone());
        prop_assert_eq!(again.expect("valid"), whole);
        if version == Version::V4 && !params.with_names {
            let read = RequestV2::deserialize(&mut &out[..], RequestOpcode::Execute, &ProtocolFeatures::default());
            let Ok(RequestV2::Execute(again)) = read else { panic!("{out:x?}") };
            prop_assert_eq!(again.id.as_ref(), id);
            same_scylla(&again.parameters, &expected, edit.4);
        }

        // In place: the same fields with other numbers, nothing else.
        let mut patched = body.clone();
        let sized = found.parameters.patch_page_size(&mut patched, 77);
        let stamped = found.parameters.patch_timestamp(&mut patched, 88);
        prop_assert_eq!((sized, stamped), (params.page_size.is_some(), params.timestamp.is_some()));
        let mut expected = params.clone();
        expected.page_size = expected.page_size.map(|_| 77);
        expected.timestamp = expected.timestamp.map(|_| 88);
        let again = BodyReqExecuteOwned::from_cursor(&mut Cursor::new(patched.as_slice()), their_version);
        prop_assert_eq!(again.expect("valid").query_parameters, expected);
    }

    #[test]
    fn batches(
        versions in prop::sample::select(VERSIONS.to_vec()),
        statements in vec((of("[a-z ]{0,30}"), vec(value(TheirVersion::V3), 0..4)), 0..12),
        kind in 0..3_u8,
        serial in of(Just(TheirConsistency::LocalSerial)),
        timestamp in of(0..i64::MAX),
        later in of(("[a-z]{1,9}", any::<i32>())),
        keep in vec(any::<bool>(), 12),
        stamp in change(0..i64::MAX),
    ) {
        let (version, their_version) = versions;
        let later = later.filter(|_| version == Version::V5);
        let queries: Vec<BatchQuery> = statements
            .iter()
            .map(|(text, values)| {
                let subject = match text {
                    Some(text) => BatchQuerySubj::QueryString(text.clone()),
                    None => BatchQuerySubj::PreparedId(CBytesShort::new(b"statement id".to_vec())),
                };
                BatchQuery::new(subject, QueryValues::SimpleValues(values.clone()))
            })
            .collect();
        let batch = BodyReqBatch::new(
            BatchType::try_from(kind).expect("0 to 2"),
            queries.clone(),
            TheirConsistency::Quorum,
            serial,
            timestamp,
            later.as_ref().map(|(keyspace, _)| keyspace.clone()),
            later.as_ref().map(|(_, now)| *now),
        );
        let body = batch.serialize_to_vec(their_version);
        let dialect = Dialect::of(version);
        let Ok(Request::Batch(found)) = Request::locate(&header(version, Opcode::Batch), &body, dialect) else {
            panic!("{body:x?}");
        };
        prop_assert_eq!(usize::from(found.head.count), queries.len());
        prop_assert_eq!(found.head.kind, [BatchKind::Logged, BatchKind::Unlogged, BatchKind::Counter][kind as usize]);
        for (ours, (text, values)) in found.statements(&body).zip(&statements) {
            let source = text.as_ref().map_or(b"statement id".as_slice(), |text| text.as_bytes());
            prop_assert_eq!((ours.prepared, ours.source.of(&body)), (text.is_none(), source));
            for ((_, ours), theirs) in ours.values.iter(&body).zip(values) {
                same_value(&body, ours, theirs);
            }
        }

        // A chunk of it, with other ids and another timestamp.
        let mut out = Vec::new();
        let parts = found.statements(&body).zip(&keep).filter(|(_, keep)| **keep);
        let parts = parts.map(|(statement, _)| BatchPart { statement, id: Some(b"other") });
        let written = found.rewrite(&body, parts, &BatchEdit { timestamp: stamp, ..BatchEdit::default() }, &mut out);
        let mut expected = batch.clone();
        let mut kept = keep.iter();
        expected.queries.retain(|_| *kept.next().expect("as many as statements"));
        for query in &mut expected.queries {
            if let BatchQuerySubj::PreparedId(id) = &mut query.subject {
                *id = CBytesShort::new(b"other".to_vec());
            }
        }
        expected.timestamp = stamp.over(timestamp);
        prop_assert_eq!(usize::from(written), expected.queries.len());
        let again = BodyReqBatch::from_cursor(&mut Cursor::new(out.as_slice()), their_version);
        prop_assert_eq!(again.expect("valid"), expected.clone());
        if version == Version::V4 {
            let read = RequestV2::deserialize(&mut &out[..], RequestOpcode::Batch, &ProtocolFeatures::default());
            let Ok(RequestV2::Batch(again)) = read else { panic!("{out:x?}") };
            prop_assert_eq!(again.statements.len(), expected.queries.len());
            prop_assert_eq!(again.timestamp, expected.timestamp);
        }
    }

    #[test]
    fn prepares(versions in prop::sample::select(VERSIONS.to_vec()), text in "[ -~]{0,60}", keyspace in of("[a-z]{1,9}")) {
        let (version, their_version) = versions;
        let keyspace = keyspace.filter(|_| version == Version::V5);
        let prepare = BodyReqPrepare::new(text.clone(), keyspace.clone());
        let body = prepare.serialize_to_vec(their_version);
        let dialect = Dialect::of(version);
        let Ok(Request::Prepare(found)) = Request::locate(&header(version, Opcode::Prepare), &body, dialect) else {
            panic!("{body:x?}");
        };
        prop_assert_eq!(found.text.of(&body), text.as_bytes());
        prop_assert_eq!(found.keyspace.map(|name| name.of(&body)), keyspace.as_ref().map(String::as_bytes));
        let mut out = Vec::new();
        weir_cql::request::Prepare::write(text.as_bytes(), keyspace.as_ref().map(String::as_bytes), dialect, &mut out);
        prop_assert_eq!(out, body);
    }

    #[test]
    fn compressed_envelopes(body in vec(prop::sample::select(b"abc".to_vec()), 0..2000), stream in any::<i16>()) {
        for (ours, theirs) in [
            (Compression::Lz4, TheirCompression::Lz4),
            (Compression::Snappy, TheirCompression::Snappy),
        ] {
            let envelope = Envelope::new(
                TheirVersion::V4,
                Direction::Request,
                TheirFlags::empty(),
                TheirOpcode::Query,
                stream,
                body.clone(),
                None,
                vec![],
            );
            let bytes = envelope.encode_with(theirs).expect("valid");
            let Step::Envelope { header } = read_header(&bytes, Side::Client, EnvelopeLimits::default()) else {
                panic!("{bytes:x?}");
            };
            prop_assert_eq!((header.stream, header.envelope_len()), (StreamId(stream), bytes.len()));
            prop_assert!(header.flags.has(Flags::COMPRESSED));
            let mut plain = Vec::new();
            prop_assert_eq!(ours.decompress(&bytes[9..], body.len(), &mut plain), Ok(()));
            prop_assert_eq!(&plain, &body);

            let mut packed = Vec::new();
            ours.compress(&body, &mut packed);
            let mut bytes = Vec::new();
            Header { body_len: packed.len() as u32, ..header }.write(&mut bytes);
            bytes.extend_from_slice(&packed);
            let parsed = Envelope::from_buffer(&bytes, theirs).expect("valid");
            prop_assert_eq!((parsed.envelope.body, parsed.envelope.stream_id), (body.clone(), stream));
        }
    }
}
