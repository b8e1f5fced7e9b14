//! Segments: bytes worked out apart from this crate (zlib's CRC-32, an LZ4 block put together by hand), and another
//! implementation reading ours and writing for us.

use cassandra_protocol::compression::Compression;
use cassandra_protocol::frame::frame_decoder::{FrameDecoder, Lz4FrameDecoder, UncompressedFrameDecoder};
use cassandra_protocol::frame::frame_encoder::{FrameEncoder, Lz4FrameEncoder, UncompressedFrameEncoder};
use proptest::collection::vec;
use proptest::prelude::*;
use weir_cql::segment::{PAYLOAD_MAX, crc24};
use weir_cql::{BODY_MAX, SegmentDecoder, SegmentStep, write_segments};

const OPTIONS: [u8; 9] = [5, 0, 0, 1, 5, 0, 0, 0, 0];

#[test]
fn golden_bytes() {
    // The check value of this CRC-24 and a whole segment of each kind.
    assert_eq!(crc24(b"123456789"), 0x4b_3f02);
    let plain = hex("090002a4c8c1 050000010500000000 b5557486");
    let raw = hex("0900000004c2b895 050000010500000000 b5557486");
    let mut out = Vec::new();
    assert_eq!(write_segments(&OPTIONS, false, &mut out), Ok(9));
    assert_eq!(out, plain);
    out.clear();
    assert_eq!(write_segments(&OPTIONS, true, &mut out), Ok(9));
    assert_eq!(out, raw, "nine bytes are not worth compressing");
    assert_eq!(decode(&plain, false), (OPTIONS.to_vec(), 1));
    assert_eq!(decode(&raw, true), (OPTIONS.to_vec(), 1));
    // Ten literals, a match of 34 at distance 1, five literals: a QUERY with a body of 40 x "a".
    let packed = hex("140062000494e8d0 af0500000207000000286101000f506161616161 0f38f81c");
    let query = [hex("050000020700000028"), vec![b'a'; 40]].concat();
    assert_eq!(decode(&packed, true), (query, 1));
    // A segment without a payload is one.
    assert_eq!(decode(&hex("0000026a36c4 d37e7744"), false), (vec![], 1));
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let pairs = digits.chunks(2).map(|pair| std::str::from_utf8(pair).expect("ASCII"));
    pairs.map(|pair| u8::from_str_radix(pair, 16).expect("hexadecimal")).collect()
}

/// The payloads, and the number of segments.
fn decode(mut input: &[u8], compressed: bool) -> (Vec<u8>, usize) {
    let mut decoder = SegmentDecoder::new(compressed, BODY_MAX);
    let (mut out, mut segments) = (Vec::new(), 0);
    while !input.is_empty() {
        match decoder.decode(input, &mut out) {
            SegmentStep::Segment { consumed } => input = &input[consumed..],
            other => panic!("{other:?} at {} bytes left", input.len()),
        }
        segments += 1;
    }
    (out, segments)
}

fn envelope(stream: i16, body: &[u8]) -> Vec<u8> {
    let mut out = vec![5, 0];
    out.extend_from_slice(&stream.to_be_bytes());
    out.push(7);
    out.extend_from_slice(&(body.len() as u32).to_be_bytes());
    out.extend_from_slice(body);
    out
}

fn their_decoder(compressed: bool) -> Box<dyn FrameDecoder> {
    if compressed {
        Box::new(Lz4FrameDecoder::default())
    } else {
        Box::new(UncompressedFrameDecoder::default())
    }
}

fn their_encoder(compressed: bool) -> Box<dyn FrameEncoder> {
    if compressed {
        Box::new(Lz4FrameEncoder::default())
    } else {
        Box::new(UncompressedFrameEncoder::default())
    }
}

fn bodies() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let text = vec(prop::sample::select(b"abcd".to_vec()), 0..400);
    let noise = vec(any::<u8>(), 0..400);
    let long = (PAYLOAD_MAX - 20..3 * PAYLOAD_MAX, any::<u32>()).prop_map(|(length, seed)| {
        let byte = |n: u32| (n.wrapping_mul(seed | 1) >> 19) as u8;
        (0..length as u32).map(byte).collect()
    });
    vec(prop_oneof![6 => text, 6 => noise, 1 => long], 0..20)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn they_read_what_is_written(bodies in bodies(), compressed in any::<bool>()) {
        let stream: Vec<u8> = bodies.iter().zip(0..).flat_map(|(body, n)| envelope(n, body)).collect();
        let mut out = Vec::new();
        prop_assert_eq!(write_segments(&stream, compressed, &mut out), Ok(stream.len()));
        let (again, segments) = decode(&out, compressed);
        prop_assert_eq!(&again, &stream);
        prop_assert!(segments <= 2 * (1 + stream.len() / PAYLOAD_MAX) + 1, "{} segments", segments);
        let read = their_decoder(compressed).consume(&mut out, Compression::None).expect("valid");
        let read: Vec<_> = read.into_iter().map(|envelope| (envelope.stream_id, envelope.body)).collect();
        let expected: Vec<_> = (0..).zip(bodies).collect();
        prop_assert_eq!(read, expected);
    }

    #[test]
    fn what_they_write_is_read(bodies in bodies(), compressed in any::<bool>()) {
        let (mut out, mut stream) = (Vec::new(), Vec::new());
        let mut encoder = their_encoder(compressed);
        for (body, n) in bodies.iter().zip(0..) {
            let bytes = envelope(n, body);
            stream.extend_from_slice(&bytes);
            if encoder.can_fit(bytes.len()) {
                encoder.add_envelope(bytes);
                continue;
            }
            if encoder.has_envelopes() {
                out.extend_from_slice(encoder.finalize_self_contained());
                encoder.reset();
            }
            if encoder.can_fit(bytes.len()) {
                encoder.add_envelope(bytes);
                continue;
            }
            let mut at = 0;
            while at < bytes.len() {
                let (length, frame) = encoder.finalize_non_self_contained(&bytes[at..]);
                out.extend_from_slice(frame);
                at += length;
                encoder.reset();
            }
        }
        if encoder.has_envelopes() {
            out.extend_from_slice(encoder.finalize_self_contained());
        }
        prop_assert_eq!(decode(&out, compressed).0, stream);
    }
}
