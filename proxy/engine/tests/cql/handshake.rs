//! What weir answers itself while a connection begins, and in which frames.

use crate::bench::{Bench, settings};
use crate::node::row_value;
use crate::wire::{With, compressed, execute, in_segments, int, list, message, options, query, startup};
use weir_cql::envelope::{Opcode, Side};
use weir_cql::response::{ErrorCode, supported};
use weir_cql::{Compression, Response, Version};
use weir_engine::CloseHow;

const VERSIONS: [Version; 3] = [Version::V3, Version::V4, Version::V5];

#[test]
fn options_are_answered_before_and_after_startup_without_a_node() {
    for version in VERSIONS {
        let mut bench = Bench::new(settings(1));
        let mut caller = bench.dial("caller", version);
        bench.send(&caller, &options(version, 3));
        let before = bench.answers(&mut caller).remove(0);
        let mut caller = bench.open(version);
        let after = bench.ask(&mut caller, &options(version, 3));
        for answer in [before, after] {
            assert_eq!((answer.stream(), answer.header.version), (3, version));
            let Response::Supported(span) = answer.read() else { panic!("{answer:?}") };
            let names: Vec<_> = supported(&answer.body, span).map(|(name, _)| name.to_vec()).collect();
            assert_eq!(names, [&b"COMPRESSION"[..], b"CQL_VERSION", b"PROTOCOL_VERSIONS"]);
        }
        assert_eq!(bench.asked(), 0);
    }
}

#[test]
fn versions_nobody_speaks_are_refused_and_the_connection_stays() {
    let mut bench = Bench::new(settings(1));
    let mut caller = bench.dial("caller", Version::V4);
    for version in [0x42, 0x41, 0x06] {
        let mut hello = startup(Version::V4, 77, &[("CQL_VERSION", "3.0.0")]);
        hello[0] = version;
        bench.send(&caller, &hello);
        let answer = bench.answers(&mut caller).remove(0);
        let (code, text) = answer.error();
        assert_eq!(code, ErrorCode::PROTOCOL_ERROR);
        assert!(text.contains("nvalid or unsupported protocol version"), "{text}");
        // cassandra-gocql-driver v2 steps down only where the stream is 0
        assert_eq!((answer.stream(), answer.header.version), (0, Version::V5));
        assert_eq!(bench.engine.client_closing(caller.id), None);
    }
    let ready = bench.ask(&mut caller, &startup(Version::V4, 1, &[("CQL_VERSION", "3.0.0")]));
    assert_eq!(ready.read(), Response::Ready);
    assert!(bench.ask_text(&mut caller, "SELECT v FROM shop.t WHERE k = 1").code().is_none());
}

#[test]
fn a_version_above_the_newest_offered_is_refused_in_the_newest() {
    let mut settings = settings(1);
    settings.clusters[0].newest_version = Version::V4;
    let mut bench = Bench::new(settings);
    let mut caller = bench.dial("caller", Version::V4);
    bench.send(&caller, &options(Version::V5, 9));
    let answer = bench.answers(&mut caller).remove(0);
    assert_eq!(answer.header.version, Version::V4);
    assert!(answer.error().1.contains("3/v3, 4/v4"), "{}", answer.error().1);
}

#[test]
fn startup_must_be_right_and_first_and_once() {
    let mut bench = Bench::new(settings(1));
    let mut caller = bench.dial("caller", Version::V4);
    for (hello, why) in [
        (
            query(Version::V4, 4, "SELECT v FROM shop.t WHERE k = 1", &With::default()),
            "STARTUP must come first",
        ),
        (startup(Version::V4, 4, &[]), "CQL_VERSION is missing"),
        (
            startup(Version::V4, 4, &[("CQL_VERSION", "3.0.0"), ("COMPRESSION", "zstd")]),
            "unknown compression",
        ),
        (
            startup(Version::V5, 4, &[("CQL_VERSION", "3.0.0"), ("COMPRESSION", "snappy")]),
            "unknown compression",
        ),
        (message(Version::V4, 4, Opcode::Startup, &[0, 9]), "cannot be read"),
        (message(Version::V4, 4, Opcode::AuthResponse, &[0, 0, 0, 0]), "no credentials"),
    ] {
        let answer = bench.ask(&mut caller, &hello);
        assert_eq!((answer.error().0, answer.stream()), (ErrorCode::PROTOCOL_ERROR, 4));
        assert!(answer.error().1.contains(why), "{}", answer.error().1);
    }
    let hello = startup(Version::V4, 4, &[("CQL_VERSION", "3.0.0")]);
    assert_eq!(bench.ask(&mut caller, &hello).read(), Response::Ready);
    assert!(bench.ask(&mut caller, &hello).error().1.contains("open already"));
    let other = bench.ask(&mut caller, &options(Version::V3, 4));
    assert!(other.error().1.contains("another version"), "{other:?}");
    assert_eq!(bench.engine.client_closing(caller.id), None);
}

#[test]
fn requests_may_be_compressed_in_v4() {
    for compression in [Compression::Lz4, Compression::Snappy] {
        let mut bench = Bench::new(settings(1));
        let mut caller = bench.open_as("caller", Version::V4, &[("COMPRESSION", compression.name())]);
        let plain = query(Version::V4, 6, "SELECT v FROM shop.t WHERE k IN ?", &With::values(&[list(0..50)]));
        let answer = bench.ask(&mut caller, &compressed(&plain, compression));
        assert_eq!(answer.values().len(), 50);
        let mut broken = compressed(&plain, compression);
        let last = broken.len() - 1;
        broken.truncate(last);
        broken[8] -= 1;
        assert_eq!(bench.ask(&mut caller, &broken).code(), Some(ErrorCode::PROTOCOL_ERROR));
        assert!(bench.ask_text(&mut caller, "SELECT v FROM shop.t WHERE k = 1").code().is_none());
    }
    let mut bench = Bench::new(settings(1));
    let mut caller = bench.open(Version::V4);
    let plain = query(Version::V4, 6, "SELECT v FROM shop.t WHERE k = 1", &With::default());
    let answer = bench.ask(&mut caller, &compressed(&plain, Compression::Lz4));
    assert!(answer.error().1.contains("STARTUP named no compression"), "{answer:?}");
}

/// In v5 segments are compressed and the flag of an envelope means nothing: the Java driver sets it on every request
/// once it speaks lz4, over a body that is as it is.
#[test]
fn the_flag_of_compressed_bodies_means_nothing_in_v5() {
    for more in [&[][..], &[("COMPRESSION", "lz4")]] {
        let mut bench = Bench::new(settings(1));
        let mut caller = bench.open_as("caller", Version::V5, more);
        let mut flagged = query(Version::V5, 6, "SELECT v FROM shop.t WHERE k = 1", &With::default());
        flagged[1] |= weir_cql::Flags::COMPRESSED;
        bench.send(&caller, &flagged);
        bench.turn();
        let asked = bench.wires[0].asked.back().expect("passed on");
        assert_eq!(
            asked.header.flags.0 & weir_cql::Flags::COMPRESSED,
            0,
            "nobody else takes it for compressed"
        );
        bench.settle();
        assert_eq!(bench.one(&mut caller).values(), [row_value("shop.t", 1)]);
    }
}

#[test]
fn segments_carry_many_small_requests_and_one_that_is_larger_than_a_segment() {
    for more in [&[][..], &[("COMPRESSION", "lz4")]] {
        let mut bench = Bench::new(settings(1));
        let mut caller = bench.open_as("caller", Version::V5, more);
        let read = |stream| {
            let text = format!("SELECT v FROM shop.t WHERE k = {stream}");
            query(Version::V5, stream, &text, &With::default())
        };
        bench.send(&caller, &(0..40).flat_map(read).collect::<Vec<u8>>());
        bench.settle();
        let answers = bench.answers(&mut caller);
        assert_eq!(answers.len(), 40);
        for answer in answers {
            assert_eq!(answer.values(), [row_value("shop.t", answer.stream().into())]);
        }
        // 1.1 MB: the request and the reply need several segments each
        let id = bench.prepare(&mut caller, "SELECT v FROM shop.t WHERE k IN ?");
        let big = execute(Version::V5, 8, &id, &With::values(&[list(0..140_000)]));
        assert!(big.len() > 1_100_000);
        let bytes = caller.framed(&big);
        for piece in bytes.chunks(50_001) {
            bench.engine.client_input(caller.id, piece, bench.now);
            bench.engine.check_invariants();
        }
        let answer = bench.one(&mut caller);
        assert_eq!((answer.stream(), answer.values().len()), (8, 140_000));
        bench.engine.check_quiet();
    }
}

#[test]
fn what_follows_startup_in_the_same_read_is_in_segments() {
    let mut bench = Bench::new(settings(1));
    let mut caller = bench.dial("caller", Version::V5);
    let read = query(Version::V5, 3, "SELECT v FROM shop.t WHERE k = 7", &With::default());
    let hello = startup(Version::V5, 2, &[("CQL_VERSION", "3.0.0")]);
    let bytes = [hello, in_segments(&read, false)].concat();
    for piece in bytes.chunks(11) {
        bench.engine.client_input(caller.id, piece, bench.now);
        bench.engine.check_invariants();
    }
    bench.settle();
    let out = bench.engine.client_out(caller.id);
    let mut bytes = out.unwritten().to_vec();
    out.wrote(bytes.len());
    bench.engine.client_wrote(caller.id, bytes.len());
    let rest = bytes.split_off(9);
    let ready = crate::wire::take_messages(&mut bytes, Side::Server).remove(0);
    assert_eq!((ready.read(), ready.stream()), (Response::Ready, 2));
    caller.segments = Some((false, weir_cql::SegmentDecoder::new(false, weir_cql::BODY_MAX)));
    let answer = caller.take(&rest).remove(0);
    assert_eq!(answer.values(), [row_value("shop.t", 7)]);
}

#[test]
fn a_connection_out_of_step_is_told_and_closed() {
    let mut bench = Bench::new(settings(1));
    let mut caller = bench.open(Version::V4);
    let too_large = [4, 0, 0, 9, 7, 0x10, 0, 0, 0];
    bench.send(&caller, &too_large);
    let answer = bench.answers(&mut caller).remove(0);
    assert_eq!((answer.error().0, answer.stream()), (ErrorCode::PROTOCOL_ERROR, 9));
    assert_eq!(bench.engine.client_closing(caller.id), Some(CloseHow::Protocol));
    // nothing it sends after that is kept
    bench.send(&caller, &vec![7; 100_000]);
    assert!(!bench.engine.client_wants_input(caller.id));
    bench.engine.close_client(caller.id, bench.now);
    bench.engine.check_quiet();

    let mut caller = bench.open(Version::V5);
    let mut segment = in_segments(&options(Version::V5, 1), false);
    segment[2] ^= 1;
    bench.engine.client_input(caller.id, &segment, bench.now);
    let answer = bench.answers(&mut caller).remove(0);
    assert!(answer.error().1.contains("out of step"), "{answer:?}");
    assert_eq!(bench.engine.client_closing(caller.id), Some(CloseHow::Protocol));
}

#[test]
fn a_value_of_one_row_is_found_in_every_version() {
    for version in VERSIONS {
        let mut bench = Bench::new(settings(1));
        let mut caller = bench.open(version);
        let id = bench.prepare(&mut caller, "SELECT v FROM shop.t WHERE k = ?");
        let answer = bench.ask(&mut caller, &execute(version, 30, &id, &With::values(&[int(4)])));
        assert_eq!((answer.values(), answer.stream()), (vec![row_value("shop.t", 4)], 30));
        assert_eq!(answer.header.version, version);
    }
}
