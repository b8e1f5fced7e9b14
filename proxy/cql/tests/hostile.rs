//! Hostile bytes: 200,000 mutations of valid frames, of segments and of compressed bodies, and plain noise. Nothing
//! panics and what `invariants` states holds; which is more than no panic.

mod samples;

use proptest::collection::vec;
use proptest::prelude::*;
use weir_cql::invariants::{decompress, fuzz_frames, read_segments, read_stream};
use weir_cql::{Compression, Side, write_segments};

const MUTATIONS: usize = 200_000;

/// Numbers that lengths and counts go wrong at.
const EDGES: [u32; 12] =
    [0, 1, 2, 0x7f, 0xff, 0x100, 0x7fff, 0xffff, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe, 0xffff_ffff];

/// SplitMix64: the same mutations in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % bound.max(1) as u64) as usize
    }
}

/// One to four changes.
fn mutate(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        let edge = EDGES[random.below(EDGES.len())];
        match random.below(8) {
            0 | 1 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
            2 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = random.below(256) as u8;
                }
            }
            3 => {
                if let Some(place) = bytes.get_mut(at..at + 4) {
                    place.copy_from_slice(&edge.to_be_bytes());
                }
            }
            4 => {
                if let Some(place) = bytes.get_mut(at..at + 2) {
                    place.copy_from_slice(&(edge as u16).to_be_bytes());
                }
            }
            5 => bytes.truncate(at),
            6 => {
                let piece = other[random.below(other.len())..].to_vec();
                bytes.splice(at..at, piece);
            }
            _ => {
                let end = at + random.below(bytes.len() - at + 1);
                bytes.drain(at..end);
            }
        }
    }
}

/// Half of the time the header says how long the body has become, so that it is reached at all.
fn fix_length(frame: &mut [u8], random: &mut Random) {
    let length = frame.len().saturating_sub(9) as u32;
    if let Some(place) = frame.get_mut(5..9).filter(|_| random.below(2) == 0) {
        place.copy_from_slice(&length.to_be_bytes());
    }
}

#[test]
fn mutated_frames() {
    let samples = samples::all();
    let mut random = Random(4);
    let (mut read, mut refused) = (0_usize, 0_usize);
    for round in 0..MUTATIONS {
        let (side, sample) = &samples[round % samples.len()];
        let mut frame = sample.clone();
        let other = &samples[random.below(samples.len())].1;
        mutate(&mut frame, other, &mut random);
        fix_length(&mut frame, &mut random);
        let (messages, readable) = read_stream(&frame, *side);
        read += readable;
        refused += messages - readable;
    }
    // The mutations must reach both sides of the readers: a generator of noise would not test them.
    assert!(read > MUTATIONS / 10 && refused > MUTATIONS / 10, "{read} read, {refused} refused");
}

#[test]
fn mutated_segments_and_bodies() {
    let stream: Vec<u8> = samples::requests(samples::VERSIONS[2]).concat();
    let mut random = Random(5);
    for compressed in [false, true] {
        let mut segments = Vec::new();
        assert_eq!(write_segments(&stream, compressed, &mut segments), Ok(stream.len()));
        for _ in 0..3_000 {
            let mut bytes = segments.clone();
            mutate(&mut bytes, &segments, &mut random);
            read_segments(&bytes, compressed);
        }
    }
    for compression in [Compression::Lz4, Compression::Snappy] {
        let mut body = Vec::new();
        compression.compress(&stream, &mut body);
        for _ in 0..5_000 {
            let mut bytes = body.clone();
            mutate(&mut bytes, &body, &mut random);
            decompress(&bytes);
        }
    }
}

/// The payload of a segment is checked by its CRC, so mutations of segments never reach what is behind it: here the
/// payload is changed first.
#[test]
fn segments_of_mutated_envelopes() {
    let stream: Vec<u8> = samples::requests(samples::VERSIONS[2]).concat();
    let mut random = Random(6);
    for round in 0..3_000 {
        let mut bytes = stream.clone();
        mutate(&mut bytes, &stream, &mut random);
        let mut segments = Vec::new();
        let compressed = round % 2 == 0;
        if write_segments(&bytes, compressed, &mut segments).is_ok() {
            read_segments(&segments, compressed);
        }
    }
}

#[test]
fn every_sample_reads() {
    for (side, sample) in samples::all() {
        let known = (3..=5).contains(&(sample[0] & 0x7f));
        assert_eq!(read_stream(&sample, side), (usize::from(known), usize::from(known)), "{sample:x?}");
    }
}

/// The seeds of the fuzz target: every kind of input it chooses from. `WEIR_BLESS=1` writes them anew.
#[test]
fn the_fuzz_seeds_are_the_samples() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/cql_frames");
    let mut seeds = Vec::new();
    for version in samples::VERSIONS {
        seeds.push((format!("client_v{}", version.number()), 0, samples::requests(version).concat()));
        seeds.push((format!("server_v{}", version.number()), 1, samples::responses(version).concat()));
    }
    let stream = samples::requests(samples::VERSIONS[2]).concat();
    for (name, choice, compressed) in [("segments", 2, false), ("segments_lz4", 3, true)] {
        let mut segments = Vec::new();
        assert_eq!(write_segments(&stream, compressed, &mut segments), Ok(stream.len()));
        seeds.push((name.to_owned(), choice, segments));
    }
    for compression in [Compression::Lz4, Compression::Snappy] {
        let mut body = Vec::new();
        compression.compress(&stream, &mut body);
        seeds.push((compression.name().to_owned(), 4, body));
    }
    for (name, choice, bytes) in seeds {
        let seed = [vec![choice], bytes].concat();
        let path = folder.join(name);
        if std::env::var_os("WEIR_BLESS").is_some() {
            std::fs::create_dir_all(&folder).expect("the folder can be made");
            std::fs::write(&path, &seed).expect("the seed can be written");
        }
        assert_eq!(std::fs::read(&path).ok().as_deref(), Some(&seed[..]), "{}", path.display());
        fuzz_frames(&seed);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn noise(bytes in vec(any::<u8>(), 0..300)) {
        read_stream(&bytes, Side::Client);
        read_stream(&bytes, Side::Server);
        fuzz_frames(&bytes);
    }

    #[test]
    fn noise_behind_a_header(
        version in 3..=5_u8,
        flags in any::<u8>(),
        opcode in 0..=0x10_u8,
        body in vec(any::<u8>(), 0..200),
    ) {
        let mut frame = vec![version, flags, 0, 1, opcode, 0, 0, 0, body.len() as u8];
        frame.extend_from_slice(&body);
        read_stream(&frame, Side::Client);
        frame[0] |= 0x80;
        read_stream(&frame, Side::Server);
    }
}
