extern crate std;

use super::*;
use std::format;
use std::vec::Vec;

/// What the kernel's side does: copies, looks at the words, computes.
fn estimate(request: &[u8]) -> Option<u64> {
    let scanned = request.len().min(SCANNED);
    let words = copied(&request[..scanned]);
    let unit = command(words[0])?;
    let separator = eight(if unit == Unit::Lines { b'\n' } else { b' ' });
    if request.len() <= SCANNED {
        return Some(whole(unit, looked(&words[..scanned.div_ceil(8)], separator).count));
    }
    let mut sample = Sample::default();
    for index in 0..CHUNKS as u64 {
        let words = copied(&request[Sample::place(index, request.len() as u64) as usize..][..CHUNK]);
        let seen = looked(&words[..CHUNK / 8], separator);
        sample.take(&seen, words[seen.first as usize], words[seen.last as usize], separator);
    }
    Some(sampled(unit, request.len() as u64, &sample))
}

fn copied(from: &[u8]) -> [u64; WORDS] {
    let mut bytes = [0; WORDS * 8];
    bytes[..from.len()].copy_from_slice(from);
    std::array::from_fn(|i| u64::from_le_bytes(bytes[i * 8..][..8].try_into().expect("eight")))
}

fn looked(words: &[u64], separator: u64) -> Seen {
    let mut seen = Seen::default();
    (0..).zip(words).for_each(|(index, word)| seen.look(index, *word, separator));
    seen
}

fn get(keys: impl IntoIterator<Item = usize>) -> Vec<u8> {
    let mut request = b"get".to_vec();
    for key in keys {
        request.extend_from_slice(format!(" key:{key}").as_bytes());
    }
    request.extend_from_slice(b"\r\n");
    request
}

#[test]
fn keys_are_counted_exactly_while_the_request_is_seen_whole() {
    for (request, operations) in [
        (&b"get a\r\n"[..], 1),
        (b"get a b c\r\n", 3),
        (b"gets a b\r\n", 2),
        (b"gat 60 a b\r\n", 2),
        (b"gats 60 a\r\n", 1),
        (b"get a\r\nget b\r\n", 2),
        (b"mg a v\r\nmg b v t\r\n", 2),
        (b"set a 0 0 11\r\nget x y z w\r\n\r\n", 1),
        (b"delete a\r\n", 1),
        (b"prepend a 0 0 1\r\nx\r\n", 1),
        (b"get ", 1),
    ] {
        assert_eq!(estimate(request), Some(operations), "{:?}", std::str::from_utf8(request));
    }
    for nothing in
        [&b"stats\r\n"[..], b"version\r\n", b"", b"\x80\0\0\0\0\0\0\0", b"getx a b\r\n", b"key:12 key:13 "]
    {
        assert_eq!(estimate(nothing), None);
    }
    for keys in 1..=100 {
        assert_eq!(estimate(&get(100..100 + keys)), Some(keys as u64));
    }
}

#[test]
fn a_long_request_is_estimated_within_one_percent() {
    for keys in [200, 2_000, 15_000, 20_000] {
        let request = get((0..keys).map(|key| 100_000 + key));
        assert_eq!(estimate(&request), Some(keys as u64), "keys of one length");
        // numbered from 0, so that they grow
        let counted = get(0..keys);
        let error = estimate(&counted).expect("a get").abs_diff(keys as u64);
        assert!(error * 100 <= keys as u64, "{keys} keys in order: off by {error}");
        // and in any order
        let mixed = get((0..keys).map(|key| (key * 7_919) % 50_021));
        let error = estimate(&mixed).expect("a get").abs_diff(keys as u64);
        assert!(error * 100 <= keys as u64, "{keys} keys: off by {error}");
    }
    let lines: Vec<u8> =
        (0..5_000).flat_map(|key| format!("mg key:{} v\r\n", 10_000 + key).into_bytes()).collect();
    assert_eq!(estimate(&lines), Some(5_000));
}

#[test]
fn the_first_and_the_last_separator_are_found_wherever_they_stand() {
    for first in 0..8 {
        for last in first..8 {
            let mut word = [b'x'; 8];
            (word[first], word[last]) = (b' ', b' ');
            assert_eq!(behind(u64::from_le_bytes(word), eight(b' ')), (first as u64 + 1, last as u64 + 1));
        }
    }
    let none = [u64::from_le_bytes(*b"\xa0\0!\x1f\x60xxx"), u64::from_le_bytes(*b"a b\0\0\0\0\0"), u64::MAX];
    assert_eq!(behind(none[0], eight(b' ')), (8, 0), "the first is behind the last");
    assert_eq!(looked(&none, eight(b' ')), Seen { count: 1, first: 1, last: 1 });
}

fn head(version: u8, flags: u8, opcode: u8, body: u32, begin: [u8; 3]) -> [u8; ENVELOPE] {
    let [a, b, c, d] = body.to_be_bytes();
    [version, flags, 0, 7, opcode, a, b, c, d, begin[0], begin[1], begin[2]]
}

#[test]
fn a_cql_batch_tells_its_statements_and_other_requests_are_one() {
    let of = |flags, opcode, begin| envelope(&head(4, flags, opcode, 100, begin)).map(|seen| seen.operations);
    assert_eq!(of(0, 0x07, [0; 3]), Some(1));
    assert_eq!(of(0, 0x0a, [0, 16, 1]), Some(1));
    assert_eq!(of(0, 0x0d, [0, 0x12, 0x34]), Some(0x1234));
    assert_eq!(of(1, 0x0d, [0, 0x12, 0x34]), Some(1), "compressed");
    assert_eq!(of(2, 0x0d, [1, 0, 9]), Some(9), "traced");
    assert_eq!(of(0, 0x05, [0; 3]), Some(0), "OPTIONS");
    assert_eq!(envelope(&head(4, 0, 0x0a, 100, [0; 3])).map(|seen| seen.bytes), Some(109));
    for no in [
        head(2, 0, 7, 9, [0; 3]),
        head(0x84, 0, 8, 9, [0; 3]),
        head(4, 0, 7, 1 << 30, [0; 3]),
        *b"get a b c d\r",
    ] {
        assert_eq!(envelope(&no), None);
    }
}

#[test]
fn a_segment_of_v5_is_told_from_an_envelope() {
    let begin = |before: &[u8], envelope: [u8; ENVELOPE]| {
        let mut bytes = [0; 6 + ENVELOPE];
        bytes[..before.len()].copy_from_slice(before);
        bytes[before.len()..][..ENVELOPE].copy_from_slice(&envelope);
        before_envelope(&bytes)
    };
    let query = head(5, 0, 0x07, 40, [0; 3]);
    assert_eq!(begin(&[], query), Some(0), "STARTUP and OPTIONS have no segment");
    assert_eq!(begin(&[49, 0, 2, 1, 2, 3], query), Some(6));
    assert_eq!(
        begin(&[5, 1, 2, 1, 2, 3], query),
        Some(6),
        "a segment of 261 bytes, beginning like version 5"
    );
    assert_eq!(before_envelope(b"get a b c d e f g\r"), None);
}
