//! What is no CQL, or too much of it, at weir's CQL door: a protocol error where one can be read, a counted cause, a closed
//! connection where the next message cannot be found, and neighbours that notice nothing.

mod support;
mod support_cql;

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use support::{Weir, wait_for};
use support_cql::{Cql, SOON, With, before, cassandra, counted};
use weir_cql::Version;
use weir_cql::envelope::{Flags, HEADER_LEN, Header, Opcode, StreamId};
use weir_cql::response::ErrorCode;
use weir_cql::{write, write_segments};

/// The default of `request_max`.
const REQUEST_MAX: u32 = 16 << 20;

fn door(weir: &Weir) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, weir.port).into()
}

/// A neighbour, and what it asks to see that all is well.
struct Neighbour(Cql);

impl Neighbour {
    fn new(weir: &Weir) -> Neighbour {
        Neighbour(Cql::open(door(weir), Version::V4))
    }

    #[track_caller]
    fn is_well(&mut self) {
        assert_eq!(self.0.query("SELECT key FROM system.local").rows(), [[Some(b"local".to_vec())]]);
    }
}

/// The ERROR that it is told, then the end of the connection.
#[track_caller]
fn refused_and_closed(cql: &mut Cql) -> String {
    let (code, words) = cql.answer().expect_error();
    assert_eq!(code, ErrorCode::PROTOCOL_ERROR, "{words}");
    ended(cql);
    words
}

#[track_caller]
fn ended(cql: &mut Cql) {
    let end = cql.try_answer().expect_err("nothing more is said").kind();
    assert!(matches!(end, ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset), "{end:?}");
}

fn header(flags: u8, opcode: Opcode, body_len: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    Header { version: Version::V4, flags: Flags(flags), stream: StreamId(5), opcode, body_len }
        .write(&mut bytes);
    bytes
}

#[test]
fn what_is_no_cql_is_told_so_counted_and_closed() {
    let Some(node) = cassandra("garbage at the CQL port") else { return };
    let weir = before(&node);
    let mut neighbour = Neighbour::new(&weir);
    let response = [&[0x84, 0, 0, 0, 8][..], &[0; 4]].concat();
    let opcode = [&[4, 0, 0, 0, 0x77][..], &[0; 4]].concat();
    let garbage: [&[u8]; 5] = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"set key 0 0 5\r\nvalue\r\n",
        &[0xff; 64],
        &response,
        &opcode,
    ];
    for (count, bytes) in (1..).zip(garbage) {
        let mut cql = Cql::connect(door(&weir), Version::V4);
        cql.send_bytes(bytes).expect("sent");
        refused_and_closed(&mut cql);
        counted(&weir, "weir_invalid_requests_total", &[], f64::from(count));
        neighbour.is_well();
    }
    let closes = counted(&weir, "weir_client_closes_total", &[("how", "protocol")], 5.0);
    assert_eq!(closes, 5.0);
}

#[test]
fn a_frame_above_request_max_is_refused_before_its_body() {
    let Some(node) = cassandra("an oversized frame") else { return };
    let weir = before(&node);
    let mut neighbour = Neighbour::new(&weir);
    let resident = || {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", weir.process.pid())).expect("its status");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("its memory");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number")
    };
    let idle = resident();
    for body_len in [REQUEST_MAX + 1, 256 << 20, u32::MAX >> 1, u32::MAX] {
        let mut cql = Cql::open(door(&weir), Version::V4);
        cql.send_bytes(&header(0, Opcode::Query, body_len)).expect("sent");
        let words = refused_and_closed(&mut cql);
        assert!(words.contains("closed"), "{words}");
        neighbour.is_well();
    }
    assert!(resident() < idle + (8 << 10), "{idle} KiB before, {} KiB after", resident());
    // One that may be: it is read to its end, and the node says what it is.
    let mut cql = Cql::open(door(&weir), Version::V4);
    let mut body = Vec::new();
    write::bytes(&mut body, " ".repeat(1 << 20).as_bytes());
    body.extend_from_slice(&[0, 1, 0]);
    let (code, _) = cql.ask(Opcode::Query, &body).expect_error();
    assert_eq!(code, ErrorCode::SYNTAX_ERROR);
    neighbour.is_well();
}

#[test]
fn a_message_that_cannot_be_followed_leaves_its_connection_open() {
    let Some(node) = cassandra("messages out of turn") else { return };
    let weir = before(&node);
    let mut cql = Cql::connect(door(&weir), Version::V4);
    let query = |text: &str| {
        let mut body = Vec::new();
        write::bytes(&mut body, text.as_bytes());
        body.extend_from_slice(&[0, 1, 0]);
        body
    };
    let (code, words) = cql.ask(Opcode::Query, &query("SELECT key FROM system.local")).expect_error();
    assert!(code == ErrorCode::PROTOCOL_ERROR && words.contains("STARTUP must come first"), "{words}");
    cql.startup(&[]);
    // compressed without having agreed on it; bodies that end too early; values that are not there
    cql.send_bytes(&[header(Flags::COMPRESSED, Opcode::Query, 4), vec![1; 4]].concat()).expect("sent");
    assert_eq!(cql.answer().expect_error().0, ErrorCode::PROTOCOL_ERROR);
    for (opcode, body) in [
        (Opcode::Query, vec![0, 0, 0, 9, b'S']),
        (Opcode::Execute, vec![0, 16, 1]),
        (Opcode::Batch, vec![1, 0xff, 0xff]),
        (Opcode::Prepare, vec![0xff; 4]),
    ] {
        let (code, words) = cql.ask(opcode, &body).expect_error();
        assert_eq!(code, ErrorCode::PROTOCOL_ERROR, "{}: {words}", opcode.name());
    }
    assert_eq!(cql.query("SELECT key FROM system.local").rows().len(), 1);
    let counted = counted(&weir, "weir_invalid_requests_total", &[("cause", "message")], 6.0);
    assert_eq!(counted, 6.0);
    assert_eq!(weir.series("weir_upstream_desync_total", &[]), Some(0.0));
}

#[test]
fn a_segment_with_a_wrong_checksum_closes_its_connection_only() {
    let Some(node) = cassandra("corrupt v5 segments") else { return };
    let weir = before(&node);
    let mut neighbour = Neighbour::new(&weir);
    for (compressed, broken) in [(false, 1), (false, 4), (false, 20), (true, 3), (true, 20)] {
        let options: &[_] = if compressed { &[("COMPRESSION", "lz4")] } else { &[] };
        let mut cql = Cql::open_with(door(&weir), Version::V5, options);
        let statement = cql.prepare("SELECT key FROM system.local").prepared();
        let body = cql.execute_body(&statement, &With::default());
        let mut envelope = Vec::new();
        let body_len = body.len() as u32;
        let (version, stream) = (Version::V5, StreamId(9));
        Header { version, flags: Flags::default(), stream, opcode: Opcode::Execute, body_len }
            .write(&mut envelope);
        assert_eq!(envelope.len(), HEADER_LEN);
        envelope.extend_from_slice(&body);
        let mut wire = Vec::new();
        assert_eq!(write_segments(&envelope, compressed, &mut wire), Ok(envelope.len()));
        wire[broken] ^= 0x10;
        cql.send_bytes(&wire).expect("sent");
        refused_and_closed(&mut cql);
        neighbour.is_well();
    }
}

#[test]
fn noise_and_halves_of_messages_leave_nothing_behind() {
    let Some(node) = cassandra("noise at the CQL port") else { return };
    let weir = before(&node);
    let mut neighbour = Neighbour::new(&weir);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for round in 0..300 {
        let mut cql = match round % 3 {
            0 => Cql::connect(door(&weir), Version::V4),
            1 => Cql::open(door(&weir), Version::V4),
            _ => Cql::open(door(&weir), Version::V5),
        };
        let length = 1 + random() as usize % 300;
        let mut bytes: Vec<u8> = (0..length).map(|_| random() as u8).collect();
        if round % 2 == 0 && length > HEADER_LEN {
            // a header that is one, of an opcode of requests
            bytes[0] = [3, 4, 5][round % 3];
            bytes[1] = 0;
            bytes[4] = [1, 5, 7, 9, 10, 11, 13, 15][random() as usize % 8];
            bytes[5..9].copy_from_slice(&(random() as u32 % 400).to_be_bytes());
        }
        // closed by either side, perhaps in the middle
        let _ = cql.send_bytes(&bytes);
    }
    neighbour.is_well();
    wait_for("only the neighbour is left", SOON, || {
        (weir.metric("weir_client_connections", &[]) == 1.0).then_some(())
    });
    assert_eq!(weir.metric("weir_client_input_bytes", &[]), 0.0, "no input is held");
    assert_eq!(weir.series("weir_upstream_desync_total", &[]), Some(0.0));
    assert_eq!(weir.series("weir_panics_total", &[]), Some(0.0));
    neighbour.is_well();
}
