//! Valid frames of every kind, written with the notations one by one: the seeds of the mutations.
#![allow(dead_code, reason = "not every test file uses every sample")]

use std::net::SocketAddr;

use weir_cql::envelope::Open;
use weir_cql::key::Token;
use weir_cql::own::{self, OwnColumns, OwnRows};
use weir_cql::request::{ListValue, NewValue, Prepare, Query};
use weir_cql::response::error::Acks;
use weir_cql::response::event::Target;
use weir_cql::response::{
    ErrorBody, ErrorCode, ErrorDetail, Event, Failures, SchemaChange, Tablet, TabletReplica, tablet,
    write_prefix,
};
use weir_cql::{Consistency, CqlType, Dialect, Flags, Native, Opcode, Side, StreamId, Version, write};

pub const VERSIONS: [Version; 3] = [Version::V3, Version::V4, Version::V5];

/// A frame and who sends it.
pub type Sample = (Side, Vec<u8>);

/// Every kind in every version.
pub fn all() -> Vec<Sample> {
    let mut samples = Vec::new();
    for version in VERSIONS {
        samples.extend(requests(version).into_iter().map(|frame| (Side::Client, frame)));
        samples.extend(responses(version).into_iter().map(|frame| (Side::Server, frame)));
    }
    for version in [1, 2, 6, 0x41, 0x42] {
        let mut frame = vec![version, 0, 0, 1, 5, 0, 0, 0, 3, b'a', b'b', b'c'];
        if version < 3 {
            frame.remove(2);
        }
        samples.push((Side::Client, frame));
    }
    samples
}

pub fn frame(version: Version, flags: u8, opcode: Opcode, fill: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    let open = Open::new(&mut out, version, Flags(flags), StreamId(7), opcode);
    fill(&mut out);
    open.close(&mut out).expect("short");
    out
}

fn flags(out: &mut Vec<u8>, version: Version, bits: u32) {
    if version == Version::V5 { write::bits(out, bits) } else { write::byte(out, bits as u8) }
}

/// Query parameters with every field of the version.
fn parameters(out: &mut Vec<u8>, version: Version, names: bool) {
    write::consistency(out, Consistency::LOCAL_QUORUM);
    let v5 = version == Version::V5;
    flags(out, version, 0x3f | if names { 0x40 } else { 0 } | if v5 { 0x180 } else { 0 });
    let mut list = Vec::new();
    for key in ["one", "two", "three"] {
        write::bytes(&mut list, key.as_bytes());
    }
    let values = [
        NewValue::List(ListValue { count: 3, elements: &list }),
        NewValue::Null,
        if version == Version::V3 { NewValue::Null } else { NewValue::NotSet },
        NewValue::Bytes(&[0, 0, 0, 9]),
    ];
    write::short(out, values.len() as u16);
    for (value, name) in values.iter().zip(["a", "b", "c", "d"]) {
        if names {
            write::string(out, name);
        }
        value.write(out);
    }
    write::int(out, 5000);
    write::bytes(out, b"paging state");
    write::consistency(out, Consistency::LOCAL_SERIAL);
    write::long(out, 1_700_000_000_000_000);
    if v5 {
        write::string(out, "ks");
        write::int(out, 1_700_000_000);
    }
}

pub fn requests(version: Version) -> Vec<Vec<u8>> {
    let dialect = Dialect::of(version);
    let payload = |out: &mut Vec<u8>| {
        write::short(out, 1);
        write::string(out, "key");
        write::bytes(out, b"value");
    };
    let text = b"SELECT record FROM posts WHERE uri IN ?";
    let execute = |out: &mut Vec<u8>| {
        write::short_bytes(out, b"0123456789abcdef");
        if dialect.metadata_ids {
            write::short_bytes(out, b"metadata");
        }
        parameters(out, version, false);
    };
    let mut all = vec![
        frame(version, 0, Opcode::Startup, |out| {
            write::string_map(
                out,
                [("CQL_VERSION", "3.0.0"), ("DRIVER_NAME", "test"), ("COMPRESSION", "lz4")],
            );
        }),
        frame(version, 0, Opcode::Options, |_| ()),
        frame(version, 0, Opcode::Register, |out| {
            write::string_list(out, ["SCHEMA_CHANGE", "STATUS_CHANGE"]);
        }),
        frame(version, 0, Opcode::AuthResponse, |out| write::bytes(out, b"\0user\0password")),
        frame(version, 0, Opcode::Query, |out| {
            Query::write("SELECT * FROM system.local", Consistency::ONE, dialect, out);
        }),
        frame(version, Flags::TRACING, Opcode::Query, |out| {
            write::bytes(out, text);
            parameters(out, version, true);
        }),
        frame(version, 0, Opcode::Prepare, |out| Prepare::write(text, Some(b"ks"), dialect, out)),
        frame(version, 0, Opcode::Execute, execute),
        frame(version, 0, Opcode::Batch, |out| {
            write::byte(out, 1);
            write::short(out, 3);
            for n in 0..3_u8 {
                write::byte(out, n % 2);
                if n % 2 == 0 {
                    write::bytes(out, b"INSERT INTO posts (uri) VALUES (?)");
                } else {
                    write::short_bytes(out, b"0123456789abcdef");
                }
                write::short(out, 2);
                write::bytes(out, b"key");
                write::int(out, -1);
            }
            write::consistency(out, Consistency::ONE);
            let v5 = version == Version::V5;
            flags(out, version, if v5 { 0x1b0 } else { 0x30 });
            write::consistency(out, Consistency::SERIAL);
            write::long(out, 1_700_000_000_000_000);
            if v5 {
                write::string(out, "ks");
                write::int(out, 1_700_000_000);
            }
        }),
    ];
    if version >= Version::V4 {
        all.push(frame(version, Flags::CUSTOM_PAYLOAD, Opcode::Execute, |out| {
            payload(out);
            execute(out);
        }));
    }
    all
}

pub fn columns() -> Vec<(&'static str, CqlType)> {
    let native = CqlType::Native;
    let text = || CqlType::Native(Native::Varchar);
    vec![
        ("key", text()),
        ("tokens", CqlType::Set(text().into())),
        ("m", CqlType::Map(text().into(), CqlType::List(native(Native::Int).into()).into())),
        ("t", CqlType::Tuple(vec![native(Native::Uuid), native(Native::Inet)])),
        (
            "u",
            CqlType::Udt {
                keyspace: b"ks".as_slice().into(),
                name: b"address".as_slice().into(),
                fields: vec![(b"street".as_slice().into(), text())],
            },
        ),
        ("v", CqlType::Custom(b"org.apache.cassandra.db.marshal.VectorType".as_slice().into())),
    ]
}

pub fn errors(version: Version) -> Vec<ErrorBody<'static>> {
    let acks = Acks { consistency: Consistency::QUORUM, received: 1, required: 2 };
    let failures = match version {
        Version::V5 => Failures::Reasons { count: 2, pairs: b"\x04\x7f\0\0\x01\0\x01\x04\x7f\0\0\x02\0\x02" },
        _ => Failures::Count(2),
    };
    let cas = (version == Version::V5).then_some(3);
    [
        (ErrorCode::INVALID, ErrorDetail::Plain(b"")),
        (ErrorCode(0xF000), ErrorDetail::Plain(b"\0\x01")),
        (
            ErrorCode::UNAVAILABLE,
            ErrorDetail::Unavailable { consistency: Consistency::ALL, required: 3, alive: 2 },
        ),
        (ErrorCode::WRITE_TIMEOUT, ErrorDetail::WriteTimeout { acks, write_type: b"CAS", contentions: cas }),
        (
            ErrorCode::WRITE_TIMEOUT,
            ErrorDetail::WriteTimeout { acks, write_type: b"SIMPLE", contentions: None },
        ),
        (ErrorCode::READ_TIMEOUT, ErrorDetail::ReadTimeout { acks, data_present: true }),
        (ErrorCode::READ_FAILURE, ErrorDetail::ReadFailure { acks, failures, data_present: false }),
        (ErrorCode::WRITE_FAILURE, ErrorDetail::WriteFailure { acks, failures, write_type: b"BATCH" }),
        (ErrorCode::CAS_WRITE_UNKNOWN, ErrorDetail::CasWriteUnknown(acks)),
        (
            ErrorCode::FUNCTION_FAILURE,
            ErrorDetail::FunctionFailure { keyspace: b"ks", function: b"f", arguments: b"\0\x01\0\x03int" },
        ),
        (ErrorCode::ALREADY_EXISTS, ErrorDetail::AlreadyExists { keyspace: b"ks", table: b"posts" }),
        (ErrorCode::UNPREPARED, ErrorDetail::Unprepared(b"0123456789abcdef")),
    ]
    .map(|(code, detail)| ErrorBody { code, message: b"what went wrong", detail })
    .to_vec()
}

pub fn events() -> Vec<Event<'static>> {
    let node: SocketAddr = "[2001:db8::1]:9042".parse().expect("an address");
    let four: SocketAddr = "127.0.0.1:9042".parse().expect("an address");
    let arguments = b"\0\x02\0\x03int\0\x04text".as_slice();
    let mut events = vec![
        Event::Topology { change: b"NEW_NODE", node },
        Event::Status { change: b"DOWN", node: four },
        Event::Other { kind: b"CLIENT_ROUTES_CHANGE", rest: b"\0\x01x" },
    ];
    for target in [
        Target::Keyspace,
        Target::Table(b"posts"),
        Target::Type(b"address"),
        Target::Function { name: b"f", arguments },
        Target::Aggregate { name: b"a", arguments },
    ] {
        events.push(Event::Schema(SchemaChange { change: b"CREATED", target, keyspace: b"ks" }));
    }
    events
}

/// Result metadata with `bits` of Global_tables_spec 1, Has_more_pages 2, No_metadata 4, Metadata_changed 8.
fn metadata(out: &mut Vec<u8>, bits: u32) {
    let columns = columns();
    write::bits(out, bits);
    write::bits(out, columns.len() as u32);
    if bits & 2 != 0 {
        write::bytes(out, b"go on here");
    }
    if bits & 8 != 0 {
        write::short_bytes(out, b"new metadata id");
    }
    if bits & 4 != 0 {
        return;
    }
    if bits & 1 != 0 {
        write::string(out, "ks");
        write::string(out, "posts");
    }
    for (name, kind) in &columns {
        if bits & 1 == 0 {
            write::string(out, "ks");
            write::string(out, "posts");
        }
        write::string(out, name);
        kind.write(out);
    }
}

pub fn rows(version: Version, bits: u32, count: u32) -> Vec<u8> {
    frame(version, 0, Opcode::Result, |out| {
        write::int(out, 2);
        metadata(out, bits);
        write::bits(out, count);
        for n in 0..count {
            for column in 0..6 {
                match (n + column) % 3 {
                    0 => write::int(out, -1),
                    1 => write::bytes(out, b""),
                    _ => write::bytes(out, &[n as u8; 40]),
                }
            }
        }
    })
}

pub fn prepared(version: Version) -> Vec<u8> {
    frame(version, 0, Opcode::Result, |out| {
        write::int(out, 4);
        write::short_bytes(out, b"0123456789abcdef");
        if version == Version::V5 {
            write::short_bytes(out, b"metadata");
        }
        write::bits(out, 1);
        write::int(out, 2);
        if version >= Version::V4 {
            write::int(out, 2);
            write::short(out, 1);
            write::short(out, 0);
        }
        write::string(out, "ks");
        write::string(out, "posts");
        write::string(out, "in(uri)");
        CqlType::List(CqlType::Native(Native::Varchar).into()).write(out);
        write::string(out, "[limit]");
        CqlType::Native(Native::Int).write(out);
        metadata(out, 1);
    })
}

pub fn responses(version: Version) -> Vec<Vec<u8>> {
    let stream = StreamId(7);
    let mut all = vec![rows(version, 1, 3), rows(version, 2, 2), rows(version, 4, 1), rows(version, 6, 0)];
    if version == Version::V5 {
        all.push(rows(version, 9, 1));
    }
    all.push(prepared(version));
    let mut own = |write: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        write(&mut out);
        all.push(out);
    };
    for error in errors(version) {
        own(&|out| own::error(out, version, stream, &error));
    }
    for event in events() {
        own(&|out| own::event(out, version, &event));
    }
    own(&|out| own::ready(out, version, stream));
    own(&|out| own::authenticate(out, version, stream, "org.apache.cassandra.auth.PasswordAuthenticator"));
    own(&|out| own::auth_success(out, version, stream, None));
    own(&|out| own::void(out, version, stream));
    own(&|out| own::set_keyspace(out, version, stream, b"ks"));
    let options: [(&str, &[&str]); 2] = [("COMPRESSION", &["lz4", "snappy"]), ("CQL_VERSION", &["3.4.7"])];
    own(&|out| own::supported(out, version, stream, options));
    let columns = columns();
    let table = OwnColumns { keyspace: "system", table: "local", columns: &columns[..2] };
    own(&|out| own::prepared(out, Dialect::of(version), stream, b"id", b"metadata", &table));
    own(&|out| {
        let mut rows = OwnRows::open(out, version, stream, &table);
        rows.cell(out, Some(b"local"));
        rows.text_set(out, &["-9223372036854775808"]);
        rows.close(out).expect("short");
    });
    all.push(frame(version, 0, Opcode::AuthChallenge, |out| write::bytes(out, b"token")));
    all.push(frame(version, 0, Opcode::Result, |out| {
        write::int(out, 5);
        let change = SchemaChange { change: b"UPDATED", target: Target::Table(b"posts"), keyspace: b"ks" };
        change.write(out);
    }));
    if version >= Version::V4 {
        all.push(frame(
            version,
            Flags::TRACING | Flags::WARNING | Flags::CUSTOM_PAYLOAD,
            Opcode::Result,
            |out| {
                let payload = b"\0\x01\0\x01k\0\0\0\x01v";
                let warnings = [b"first".as_slice(), b"second"];
                let flags = write_prefix(out, version, Some([9; 16]), warnings, Some(payload));
                assert_eq!(flags.0, Flags::TRACING | Flags::WARNING | Flags::CUSTOM_PAYLOAD);
                write::int(out, 1);
            },
        ));
        all.push(frame(version, Flags::CUSTOM_PAYLOAD, Opcode::Result, |out| {
            let mut payload = b"\0\x02\0\x01k\0\0\0\x01v".to_vec();
            write::short_bytes(&mut payload, tablet::ENTRY);
            let mut value = Vec::new();
            let replica = |host, shard| TabletReplica { host_id: [host; 16], shard };
            let (after, last) = (Token::new(-7), Token::new(7));
            Tablet { after, last, replicas: vec![replica(1, 0), replica(2, 5)] }.write(&mut value);
            write::bytes(&mut payload, &value);
            write_prefix(out, version, None, [], Some(&payload));
            write::int(out, 1);
        }));
    }
    all
}
