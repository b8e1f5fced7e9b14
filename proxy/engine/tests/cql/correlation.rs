//! Ids in custom payloads: taken out and noted for those whose word is taken; everybody else's payload passes untouched.

use crate::bench::{Bench, settings};
use crate::wire::{Answer, With, execute, int, list, query};
use std::sync::Arc;
use weir_cql::envelope::Header;
use weir_cql::request::REQUEST_ID;
use weir_cql::{Flags, HEADER_LEN, Version, write};
use weir_engine::correlate::{CorrelationId, Correlator, Tracked};

const READ: &str = "SELECT v FROM shop.items WHERE k IN ?";
const ID: CorrelationId = CorrelationId([7; 16]);

/// The same message with a custom payload.
fn with_payload(message: &[u8], entries: &[(&[u8], &[u8])]) -> Vec<u8> {
    let version = [Version::V4, Version::V5].into_iter().find(|version| *version as u8 == message[0]);
    let version = version.expect("only v4 and v5 have payloads");
    let mut body = Vec::new();
    write::short(&mut body, entries.len() as u16);
    for (name, value) in entries {
        write::short_bytes(&mut body, name);
        write::bytes(&mut body, value);
    }
    body.extend_from_slice(&message[HEADER_LEN..]);
    let stream = weir_cql::StreamId(i16::from_be_bytes([message[2], message[3]]));
    let opcode = weir_cql::Opcode::from_number(message[4]).expect("an opcode");
    let flags = Flags(message[1]).with(Flags::CUSTOM_PAYLOAD);
    let mut out = Vec::new();
    Header { version, flags, stream, opcode, body_len: body.len() as u32 }.write(&mut out);
    out.extend_from_slice(&body);
    out
}

fn bench(trusted: &[&str]) -> (Bench, Arc<Correlator>) {
    let mut settings = settings(1);
    settings.listeners[0].trusted_request_ids = trusted.iter().map(|name| (*name).into()).collect();
    let mut bench = Bench::new(settings);
    let correlator = Arc::new(Correlator::new(100, 1));
    bench.engine.share_correlator(&correlator);
    (bench, correlator)
}

fn found(bench: &Bench, correlator: &Correlator) -> Option<Tracked> {
    correlator.find(ID, bench.now)
}

/// Sends and takes what arrives at the node, which then answers; the request as it was there.
fn passed_on(bench: &mut Bench, caller: &mut crate::bench::Caller, message: &[u8]) -> (Answer, Answer) {
    bench.send(caller, message);
    bench.turn();
    let lane = (0..bench.wires.len()).find(|lane| !bench.wires[*lane].asked.is_empty()).expect("it was sent");
    let seen = bench.wires[lane].asked[0].clone();
    let answer = bench.one(caller);
    (seen, answer)
}

#[test]
fn an_id_is_taken_out_and_what_came_of_it_is_noted() {
    for version in [Version::V4, Version::V5] {
        let (mut bench, correlator) = bench(&["caller"]);
        let mut caller = bench.open(version);
        let id = bench.prepare(&mut caller, READ);
        let plain = execute(version, 5, &id, &With::values(&[list(0..10)]));
        let (wanted, direct) = passed_on(&mut bench, &mut caller, &plain);
        let message = with_payload(&plain, &[(REQUEST_ID, &ID.0)]);
        let (seen, answer) = passed_on(&mut bench, &mut caller, &message);
        assert_eq!((seen.header.flags, &seen.body), (wanted.header.flags, &wanted.body), "{version:?}");
        assert_eq!((answer.header, &answer.body), (direct.header, &direct.body));
        bench.turn();
        let tracked = found(&bench, &correlator).expect("noted");
        assert_eq!(tracked.service.as_deref(), Some("caller"));
        let database = tracked.database;
        assert_eq!((database.requests, database.operations, database.hits), (1, 10, 10));
        assert_eq!((database.backend_operations, database.failed), (10, 0));
        assert!(database.bytes_out > 100, "{database:?}");
        assert_eq!(tracked.cache.requests, 0);
    }
}

#[test]
fn other_entries_stay_and_so_does_what_is_no_id() {
    let (mut bench, correlator) = bench(&["caller"]);
    let mut caller = bench.open(Version::V4);
    let plain = query(Version::V4, 5, "SELECT v FROM shop.items WHERE k = 1", &With::default());
    let both = with_payload(&plain, &[(b"trace", b"x"), (REQUEST_ID, &ID.0)]);
    let (seen, _) = passed_on(&mut bench, &mut caller, &both);
    let left = with_payload(&plain, &[(b"trace", b"x")]);
    assert_eq!((seen.header.flags.has(Flags::CUSTOM_PAYLOAD), &seen.body[..]), (true, &left[HEADER_LEN..]));
    bench.turn();
    assert_eq!(found(&bench, &correlator).expect("noted").database.operations, 1);
    let short = with_payload(&plain, &[(REQUEST_ID, &ID.0[..15])]);
    let (seen, _) = passed_on(&mut bench, &mut caller, &short);
    assert_eq!(seen.body, short[HEADER_LEN..]);
}

#[test]
fn a_stranger_s_payload_passes_untouched() {
    let (mut bench, correlator) = bench(&["somebody-else"]);
    let mut caller = bench.open(Version::V4);
    let plain = query(Version::V4, 5, "SELECT v FROM shop.items WHERE k = 1", &With::default());
    let message = with_payload(&plain, &[(REQUEST_ID, &ID.0)]);
    let (seen, _) = passed_on(&mut bench, &mut caller, &message);
    assert_eq!(seen.body, message[HEADER_LEN..]);
    bench.turn();
    assert_eq!(found(&bench, &correlator), None);
    assert_eq!(correlator.sums(), []);
}

#[test]
fn a_large_list_with_an_id_is_split_like_one_without() {
    let (mut bench, correlator) = bench(&["caller"]);
    let mut caller = bench.open(Version::V4);
    let id = bench.prepare(&mut caller, READ);
    let plain = execute(Version::V4, 5, &id, &With::values(&[list(0..1_000)]));
    let direct = bench.ask(&mut caller, &plain);
    let answer = bench.ask(&mut caller, &with_payload(&plain, &[(REQUEST_ID, &ID.0)]));
    assert_eq!(answer.body, direct.body);
    bench.turn();
    let database = found(&bench, &correlator).expect("noted").database;
    assert_eq!((database.operations, database.backend_operations), (1_000, 1_000));
    assert!(database.chunks >= 10, "a payload of other entries would have kept it whole: {database:?}");
}

#[test]
fn a_batch_is_noted_by_its_statements() {
    let (mut bench, correlator) = bench(&["caller"]);
    let mut caller = bench.open(Version::V4);
    let id = bench.prepare(&mut caller, "INSERT INTO shop.items (k, v) VALUES (?, 'x')");
    let part = |key: i32| crate::wire::Part::Id(&id, vec![int(key)]);
    let plain = crate::wire::batch(Version::V4, 5, &[part(1), part(2), part(3)]);
    bench.ask(&mut caller, &with_payload(&plain, &[(REQUEST_ID, &ID.0)]));
    bench.turn();
    assert_eq!(found(&bench, &correlator).expect("noted").database.operations, 3);
}
