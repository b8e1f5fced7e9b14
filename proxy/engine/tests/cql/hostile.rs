//! Any bytes from either side: nothing panics, and the invariants hold.

use crate::bench::{Bench, settings};
use crate::wire::{Part, message};
use crate::wire::{With, batch, execute, in_segments, int, list, options, prepare, query, register, startup};
use proptest::prelude::*;
use weir_cql::{Opcode, Version};
use weir_engine::units::{LaneId, Span};

fn version(n: u8) -> Version {
    [Version::V3, Version::V4, Version::V5][usize::from(n) % 3]
}

/// Something a client may say, mostly valid.
fn said(version: Version, choice: u8, stream: i16) -> Vec<u8> {
    let id = crate::node::statement_id(None, b"SELECT v FROM shop.t WHERE k IN ?");
    match choice % 10 {
        0 => options(version, stream),
        1 => query(version, stream, "SELECT v FROM shop.t WHERE k = 1", &With::default()),
        2 => query(version, stream, "USE shop", &With::default()),
        3 => prepare(version, stream, "SELECT v FROM shop.t WHERE k IN ?"),
        4 => execute(version, stream, &id, &With::values(&[list(0..9)])),
        5 => batch(
            version,
            stream,
            &[Part::Text("UPDATE t SET v = 1 WHERE k = 1"), Part::Id(&id, vec![int(1)])],
        ),
        6 => register(version, stream, &["SCHEMA_CHANGE"]),
        7 => query(version, stream, "SELECT * FROM system.local", &With::default()),
        8 => query(version, stream, "CREATE TABLE x (k int)", &With::default()),
        _ => message(version, stream, Opcode::Execute, &[0, 1, 2]),
    }
}

fn changed(bytes: &mut [u8], changes: &[(u16, u8)]) {
    for (at, with) in changes {
        if !bytes.is_empty() {
            let at = usize::from(*at) % bytes.len();
            bytes[at] = *with;
        }
    }
}

type Changes = Vec<(u16, u8)>;

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_of_a_client(
        number in 0u8..3,
        lz4: bool,
        said_first in prop::collection::vec((any::<u8>(), any::<i16>()), 0..8),
        changes in prop::collection::vec((any::<u16>(), any::<u8>()), 0..4),
        raw in prop::collection::vec(any::<u8>(), 0..300),
        segmented: bool,
        ready: bool,
        piece in 1usize..200,
    ) {
        let version = version(number);
        let mut bench = Bench::new(settings(2));
        let caller = if ready {
            bench.open_as("caller", version, if lz4 { &[("COMPRESSION", "lz4")] } else { &[] })
        } else {
            bench.dial("caller", version)
        };
        let mut bytes: Vec<u8> = said_first.iter().flat_map(|(choice, stream)| said(version, *choice, *stream)).collect();
        bytes.extend(&raw);
        changed(&mut bytes, &changes);
        if segmented && ready && version == Version::V5 {
            let whole = weir_cql::write_segments(&bytes, lz4, &mut Vec::new()).unwrap_or(0);
            bytes = in_segments(&bytes[..whole], lz4);
        }
        for piece in bytes.chunks(piece) {
            bench.engine.client_input(caller.id, piece, bench.now);
            bench.engine.check_invariants();
            bench.turn();
            // nodes answer what they can; a request the model does not know is dropped
            for lane in 0..bench.wires.len() {
                bench.wires[lane].asked.clear();
            }
        }
        bench.wait(Span::secs(13));
        bench.wait(Span::secs(13));
        bench.engine.take_slow(&mut Vec::new());
        bench.engine.close_client(caller.id, bench.now);
        bench.turn();
        bench.engine.check_quiet();
    }

    #[test]
    fn any_bytes_of_a_node(
        number in 0u8..3,
        asked in prop::collection::vec(any::<u8>(), 1..8),
        changes in prop::collection::vec(prop::collection::vec((any::<u16>(), any::<u8>()), 0..3), 8),
        raw in prop::collection::vec(any::<u8>(), 0..200),
        piece in 1usize..200,
    ) {
        let version = version(number);
        let mut bench = Bench::new(settings(1));
        let mut caller = bench.open(version);
        bench.prepare(&mut caller, "SELECT v FROM shop.t WHERE k IN ?");
        for (stream, choice) in asked.iter().enumerate() {
            // nothing the model of a node cannot read
            let choice = [1, 2, 3, 4, 7, 8][usize::from(*choice) % 6];
            bench.send(&caller, &said(version, choice, stream as i16));
        }
        bench.turn();
        let changes: Vec<Changes> = changes;
        for lane in 0..bench.wires.len() {
            let mut bytes = Vec::new();
            let waiting = bench.wires[lane].asked.len();
            for n in 0..waiting {
                let mut reply = bench.reply_to(lane, 0);
                changed(&mut reply, &changes[n % changes.len()]);
                bytes.extend(reply);
            }
            bytes.extend(&raw);
            let (_, version) = bench.info(lane);
            if version == Version::V5 {
                let whole = weir_cql::write_segments(&bytes, false, &mut Vec::new()).unwrap_or(0);
                bytes = in_segments(&bytes[..whole], false);
            }
            for piece in bytes.chunks(piece) {
                let outcome = bench.engine.lane_input(LaneId(lane as u32), piece, bench.now);
                bench.engine.check_invariants();
                if outcome.is_err() {
                    bench.lose(lane);
                    break;
                }
            }
            bench.turn();
        }
        for _ in 0..4 {
            bench.wires.iter_mut().for_each(|wire| wire.asked.clear());
            bench.wait(Span::secs(13));
        }
        bench.engine.take_slow(&mut Vec::new());
        bench.engine.close_client(caller.id, bench.now);
        bench.turn();
        bench.engine.check_quiet();
    }
}

#[test]
fn a_startup_cut_anywhere_is_no_startup() {
    let whole = startup(Version::V4, 1, &[("CQL_VERSION", "3.0.0")]);
    for cut in 0..whole.len() {
        let mut bench = Bench::new(settings(1));
        let mut caller = bench.dial("caller", Version::V4);
        bench.engine.client_input(caller.id, &whole[..cut], bench.now);
        bench.engine.check_invariants();
        assert!(bench.answers(&mut caller).is_empty());
        bench.engine.client_input(caller.id, &whole[cut..], bench.now);
        assert_eq!(bench.answers(&mut caller).len(), 1);
        bench.engine.check_quiet();
    }
}
