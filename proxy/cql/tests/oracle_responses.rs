//! Errors, events and the handshake against another implementation: what weir writes reads as it says.

mod oracle;
mod samples;

use cassandra_protocol::frame::Version as TheirVersion;
use cassandra_protocol::frame::events::{SchemaChangeOptions, ServerEvent};
use cassandra_protocol::frame::message_error::{ErrorType, FailureInfo};
use cassandra_protocol::frame::message_response::ResponseBody;
use cassandra_protocol::frame::message_result::ResResultBody;
use oracle::{VERSIONS, open, theirs};
use weir_cql::own::{self, OwnColumns, OwnRows};
use weir_cql::response::event::Target;
use weir_cql::response::{ErrorBody, ErrorCode, ErrorDetail, Event};
use weir_cql::{CqlType, Dialect, Native, Response, StreamId, Version};

#[test]
fn errors() {
    for (version, _) in VERSIONS {
        for error in samples::errors(version) {
            let mut bytes = Vec::new();
            own::error(&mut bytes, version, StreamId(9), &error);
            let (header, body) = open(&bytes);
            let dialect = Dialect::of(version);
            let Ok((_, Response::Error(again))) = Response::locate(&header, body, dialect) else { panic!() };
            assert_eq!(again, error);
            // Codes they do not know, and where they differ from servers: reasons of failures come without a port, and
            // contentions only in v5.
            let reasons = version == Version::V5
                && matches!(error.code, ErrorCode::READ_FAILURE | ErrorCode::WRITE_FAILURE);
            let contended = matches!(
                error.detail,
                ErrorDetail::WriteTimeout { contentions: None, write_type: b"CAS", .. }
            );
            if error.code.label() == "other"
                || error.code == ErrorCode::CAS_WRITE_UNKNOWN
                || reasons
                || contended
            {
                continue;
            }
            let (envelope, ResponseBody::Error(read)) = theirs(&bytes) else { panic!("{error:?}") };
            assert_eq!(envelope.stream_id, 9);
            assert_eq!((read.message.as_bytes(), read.ty.to_error_code()), (error.message, error.code.0));
            same_detail(&error, &read.ty);
        }
    }
}

fn same_detail(ours: &ErrorBody<'_>, theirs: &ErrorType) {
    match (&ours.detail, theirs) {
        (ErrorDetail::Unavailable { required, alive, .. }, ErrorType::Unavailable(theirs)) => {
            assert_eq!((*required, *alive), (theirs.required, theirs.alive));
        }
        (ErrorDetail::WriteTimeout { acks, contentions, .. }, ErrorType::WriteTimeout(theirs)) => {
            assert_eq!((acks.received, acks.required), (theirs.received, theirs.block_for));
            assert_eq!(contentions.map(i32::from), theirs.contentions.map(i32::from));
        }
        (ErrorDetail::ReadTimeout { acks, data_present }, ErrorType::ReadTimeout(theirs)) => {
            assert_eq!((acks.received, acks.required), (theirs.received, theirs.block_for));
            assert_eq!(*data_present, theirs.replica_has_responded());
        }
        (ErrorDetail::ReadFailure { acks, data_present, .. }, ErrorType::ReadFailure(theirs)) => {
            assert_eq!((acks.received, *data_present), (theirs.received, theirs.replica_has_responded()));
            assert_eq!(theirs.failure_info, FailureInfo::NumFailures(2));
        }
        (ErrorDetail::WriteFailure { acks, .. }, ErrorType::WriteFailure(theirs)) => {
            assert_eq!((acks.received, acks.required), (theirs.received, theirs.block_for));
            assert_eq!(theirs.failure_info, FailureInfo::NumFailures(2));
        }
        (ErrorDetail::FunctionFailure { function, .. }, ErrorType::FunctionFailure(theirs)) => {
            assert_eq!(
                (*function, vec!["int".to_owned()]),
                (theirs.function.as_bytes(), theirs.arg_types.clone())
            );
        }
        (ErrorDetail::AlreadyExists { keyspace, table }, ErrorType::AlreadyExists(theirs)) => {
            assert_eq!((*keyspace, *table), (theirs.ks.as_bytes(), theirs.table.as_bytes()));
        }
        (ErrorDetail::Unprepared(id), ErrorType::Unprepared(theirs)) => {
            assert_eq!(theirs.id.clone().into_bytes().as_deref(), Some(*id));
        }
        (ErrorDetail::Plain(_), _) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_unknown_version_is_refused_in_words_that_drivers_look_for() {
    for asked in [6, 0x41, 0x42] {
        let mut bytes = Vec::new();
        own::unsupported_version(&mut bytes, asked, StreamId(5), Version::V4);
        let (envelope, ResponseBody::Error(error)) = theirs(&bytes) else { panic!("{asked}") };
        assert_eq!((envelope.version, envelope.stream_id), (TheirVersion::V4, 5));
        assert!(error.is_bad_protocol() && error.ty == ErrorType::Protocol);
        let expected =
            format!("Invalid or unsupported protocol version ({asked}); supported versions are (3/v3, 4/v4)");
        assert_eq!(error.message, expected);
    }
    let mut bytes = b"before".to_vec();
    own::unsupported_version(&mut bytes, 2, StreamId(5), Version::V5);
    assert_eq!(bytes[..10], *b"before\x82\0\x05\0");
}

#[test]
fn events() {
    for event in samples::events() {
        let mut bytes = Vec::new();
        own::event(&mut bytes, Version::V4, &event);
        let (header, body) = open(&bytes);
        assert_eq!(header.stream, StreamId::EVENT);
        let read = Response::locate(&header, body, Dialect::of(Version::V4));
        assert_eq!(read.map(|(_, response)| response), Ok(Response::Event(event)));
        let (Event::Topology { .. } | Event::Status { .. } | Event::Schema(_)) = event else { continue };
        let (_, ResponseBody::Event(theirs)) = theirs(&bytes) else { panic!("{event:?}") };
        match (event, theirs.event) {
            (Event::Topology { node, .. }, ServerEvent::TopologyChange(theirs)) => {
                assert_eq!(node, theirs.addr)
            }
            (Event::Status { node, .. }, ServerEvent::StatusChange(theirs)) => assert_eq!(node, theirs.addr),
            (Event::Schema(ours), ServerEvent::SchemaChange(theirs)) => {
                let ks = |name: String| assert_eq!(ours.keyspace, name.as_bytes());
                match (ours.target, theirs.options) {
                    (Target::Keyspace, SchemaChangeOptions::Keyspace(name)) => ks(name),
                    (
                        Target::Table(ours) | Target::Type(ours),
                        SchemaChangeOptions::TableType(name, theirs),
                    ) => {
                        ks(name);
                        assert_eq!(ours, theirs.as_bytes());
                    }
                    (
                        Target::Function { name: ours, .. } | Target::Aggregate { name: ours, .. },
                        SchemaChangeOptions::FunctionAggregate(name, theirs, arguments),
                    ) => {
                        ks(name);
                        assert_eq!((ours, arguments.len()), (theirs.as_bytes(), 2));
                    }
                    other => panic!("{other:?}"),
                }
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn handshake() {
    let mut bytes = Vec::new();
    let options: [(&str, &[&str]); 2] = [("COMPRESSION", &["lz4", "snappy"]), ("CQL_VERSION", &["3.4.7"])];
    own::supported(&mut bytes, Version::V4, StreamId(0), options);
    let (_, ResponseBody::Supported(read)) = theirs(&bytes) else { panic!() };
    assert_eq!(read.data.len(), 2);
    assert_eq!(read.data["COMPRESSION"], ["lz4", "snappy"]);
    let (header, body) = open(&bytes);
    let Ok((_, Response::Supported(span))) = Response::locate(&header, body, Dialect::of(Version::V4)) else {
        panic!()
    };
    let found: Vec<(&[u8], usize)> =
        weir_cql::response::supported(body, span).map(|(name, values)| (name, values.count())).collect();
    assert_eq!(found, [(b"COMPRESSION".as_slice(), 2), (b"CQL_VERSION", 1)]);

    bytes.clear();
    own::ready(&mut bytes, Version::V5, StreamId(1));
    assert_eq!(theirs(&bytes).1, ResponseBody::Ready);
    bytes.clear();
    own::authenticate(&mut bytes, Version::V4, StreamId(1), "x.PasswordAuthenticator");
    let (_, ResponseBody::Authenticate(read)) = theirs(&bytes) else { panic!() };
    assert_eq!(read.data, "x.PasswordAuthenticator");
}

#[test]
fn own_rows_are_read() {
    let text = || CqlType::Native(Native::Varchar);
    let columns = [
        ("key", text()),
        ("rpc_address", CqlType::Native(Native::Inet)),
        ("tokens", CqlType::Set(text().into())),
        ("dc", text()),
    ];
    let table = OwnColumns { keyspace: "system", table: "local", columns: &columns };
    for (version, _) in VERSIONS {
        let mut bytes = Vec::new();
        let mut rows = OwnRows::open(&mut bytes, version, StreamId(3), &table);
        rows.cell(&mut bytes, Some(b"local"));
        rows.inet(&mut bytes, "127.0.0.1".parse().expect("an address"));
        rows.text_set(&mut bytes, &["0"]);
        // The last column is left out: null.
        rows.close(&mut bytes).expect("short");
        let (_, ResponseBody::Result(ResResultBody::Rows(read))) = theirs(&bytes) else { panic!() };
        assert_eq!((read.rows_count, read.metadata.col_specs.len()), (1, 4));
        let cells: Vec<_> = read.rows_content[0].iter().map(|cell| cell.as_slice()).collect();
        let set = [0, 0, 0, 1, 0, 0, 0, 1, b'0'];
        assert_eq!(cells, [Some(b"local".as_slice()), Some(&[127, 0, 0, 1]), Some(&set), None]);

        bytes.clear();
        own::prepared(&mut bytes, Dialect::of(version), StreamId(3), b"id", b"metadata id", &table);
        let (_, ResponseBody::Result(ResResultBody::Prepared(read))) = theirs(&bytes) else { panic!() };
        assert_eq!(read.id.clone().into_bytes().as_deref(), Some(b"id".as_slice()));
        assert_eq!(read.result_metadata_id.is_some(), version == Version::V5);
        assert_eq!((read.metadata.col_specs.len(), read.result_metadata.col_specs.len()), (0, 4));
    }
}
