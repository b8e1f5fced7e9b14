//! A split multiget is answered as an unsplit one, byte for byte, whatever the keys, pieces, servers and values are; a
//! part that fails is an error line in place of END and leaves the connection in step; a client may vanish at any byte.

mod support;

use proptest::prelude::*;
use support::{Bench, settings, value_block};
use weir_engine::units::{Bytes, ClientId, Operations};

#[derive(Clone, Debug)]
struct Case {
    keys: Vec<u16>,
    /// Keys below this have a value, of this many bytes times the key.
    present: u16,
    value_factor: usize,
    servers: usize,
    connections: u32,
    chunk_keys: u32,
    window: u64,
    bytes_in_flight: u64,
    reply_buffer: usize,
    /// Pieces in which servers answer.
    piece: usize,
    gets: bool,
}

fn cases() -> impl Strategy<Value = Case> {
    let keys = prop::collection::vec(0..200_u16, 1..300);
    let servers = (1..5_usize, 1..4_u32);
    let sizes = (
        prop::sample::select(vec![1, 2, 7, 64, 128, 1_024]),
        1..4_u64,
        prop::sample::select(vec![100, 10_000, 8 << 20]),
        prop::sample::select(vec![1, 1_000, 256 << 10]),
    );
    let values = (0..200_u16, 0..60_usize);
    let pieces = prop::sample::select(vec![7, 100, usize::MAX, usize::MAX]);
    (keys, servers, sizes, values, pieces, any::<bool>()).prop_map(
        |(keys, (servers, connections), (chunk_keys, window, bytes, reply_buffer), values, piece, gets)| {
            Case {
                keys,
                present: values.0,
                value_factor: values.1,
                servers,
                connections,
                chunk_keys,
                window: window * u64::from(chunk_keys),
                bytes_in_flight: bytes,
                reply_buffer,
                piece,
                gets,
            }
        },
    )
}

impl Case {
    fn bench(&self) -> Bench {
        let mut settings = settings(self.servers);
        let pool = &mut settings.pools[0];
        pool.connections_per_server = self.connections;
        pool.chunk_keys = self.chunk_keys;
        pool.bulk_keys_in_flight = Operations(self.window);
        pool.bytes_in_flight = Bytes(self.bytes_in_flight);
        settings.listeners[0].reply_buffer = self.reply_buffer;
        let mut bench = Bench::new(settings);
        for key in 0..self.present {
            bench.values.insert(key_name(key).into_bytes(), self.value(key));
        }
        bench
    }

    fn value(&self, key: u16) -> Vec<u8> {
        vec![b'a' + (key % 26) as u8; usize::from(key) * self.value_factor % 600]
    }

    fn verb(&self) -> &'static str {
        if self.gets { "gets" } else { "get" }
    }

    fn request(&self) -> String {
        let keys: Vec<String> = self.keys.iter().map(|key| key_name(*key)).collect();
        format!("{} {}\r\n", self.verb(), keys.join(" "))
    }

    /// Each key's part of the answer of a server that gets all keys at once.
    fn blocks(&self) -> Vec<Vec<u8>> {
        let block = |key: &u16| value_block(self.verb(), &key_name(*key), &self.value(*key));
        self.keys.iter().filter(|key| **key < self.present).map(block).collect()
    }

    /// Turns, answers and reads until nothing moves; `stop` is asked with everything read so far.
    fn drive(&self, bench: &mut Bench, client: ClientId, mut stop: impl FnMut(&[u8]) -> bool) -> Vec<u8> {
        let mut read = Vec::new();
        loop {
            bench.turn();
            let mut moved = false;
            for lane in 0..bench.unanswered.len() {
                moved |= bench.answer(lane, self.piece);
            }
            let more = bench.read(client);
            moved |= !more.is_empty();
            read.extend(more);
            if stop(&read) || !(moved || bench.engine.has_more()) {
                return read;
            }
        }
    }
}

/// Keys of different lengths.
fn key_name(key: u16) -> String {
    format!("key{}{key}", "x".repeat(usize::from(key) % 17))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn split_answers_are_unsplit_answers(case in cases()) {
        let mut bench = case.bench();
        let client = bench.open("p");
        bench.send(client, case.request());
        bench.send(client, "mn\r\n");
        let read = case.drive(&mut bench, client, |_| false);
        let mut wanted = case.blocks().concat();
        wanted.extend_from_slice(b"END\r\nMN\r\n");
        prop_assert_eq!(String::from_utf8_lossy(&read), String::from_utf8_lossy(&wanted));
        prop_assert_eq!(bench.engine.close_client(client, bench.now).requests, 2);
        bench.turn();
        bench.engine.check_quiet();
    }

    #[test]
    fn a_part_that_fails_is_an_error_in_place_of_end(case in cases(), fail_at in 0..40_usize) {
        let mut bench = case.bench();
        bench.fail_at = Some(fail_at);
        let client = bench.open("p");
        bench.send(client, case.request());
        bench.send(client, "mn\r\n");
        let read = case.drive(&mut bench, client, |_| false);
        let blocks = case.blocks();
        let mut wanted = blocks.concat();
        wanted.extend_from_slice(b"END\r\nMN\r\n");
        if bench.answered > fail_at && read != wanted {
            // every value is one of those asked for, in their order, and an error line ends them
            let mut rest = read.as_slice();
            for block in &blocks {
                rest = rest.strip_prefix(block.as_slice()).unwrap_or(rest);
            }
            prop_assert_eq!(String::from_utf8_lossy(rest), "SERVER_ERROR out of memory\r\nMN\r\n");
        } else {
            prop_assert_eq!(String::from_utf8_lossy(&read), String::from_utf8_lossy(&wanted));
        }
        // the connection is in step, and so are the servers'
        bench.fail_at = None;
        bench.send(client, case.request());
        let again = case.drive(&mut bench, client, |_| false);
        prop_assert_eq!(&again[..], &wanted[..wanted.len() - b"MN\r\n".len()]);
        bench.engine.close_client(client, bench.now);
        bench.turn();
        bench.engine.check_quiet();
    }

    #[test]
    fn a_client_may_vanish_at_any_byte(case in cases(), at in 0..30_000_usize) {
        let mut bench = case.bench();
        let client = bench.open("p");
        bench.send(client, case.request());
        case.drive(&mut bench, client, |read| read.len() >= at);
        bench.engine.close_client(client, bench.now);
        let successor = bench.open("q");
        prop_assert_eq!(successor.slot, client.slot);
        bench.send(successor, case.request());
        let read = case.drive(&mut bench, successor, |_| false);
        let mut wanted = case.blocks().concat();
        wanted.extend_from_slice(b"END\r\n");
        prop_assert_eq!(String::from_utf8_lossy(&read), String::from_utf8_lossy(&wanted));
        bench.engine.close_client(successor, bench.now);
        bench.turn();
        bench.engine.check_quiet();
    }
}
