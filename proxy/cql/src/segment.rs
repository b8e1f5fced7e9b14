//! Segments: what a v5 connection is made of after READY or AUTHENTICATE, up to 128 KiB - 1 of payload each.
//!
//! ```text
//! plain       length:17 self_contained:1 padding:6                      crc24:24 | payload | crc32:32
//! compressed  length:17 plain_length:17 self_contained:1 padding:5      crc24:24 | payload | crc32:32
//! ```
//! All little-endian, unlike everything else. A self-contained segment holds whole envelopes; an envelope longer than a
//! payload is spread over segments of its own. So payloads, put one after the other, are the stream of envelopes: the
//! decoder appends them to the caller's buffer and holds the boundaries against each other.

use crate::compress;
use crate::envelope::{BODY_MAX, HEADER_LEN};
use crate::error::Malformed;

/// Longest payload of one segment, before and after compression, bytes.
pub const PAYLOAD_MAX: usize = (1 << 17) - 1;

const PLAIN_HEADER: usize = 3;
const COMPRESSED_HEADER: usize = 5;
const CRC24_LEN: usize = 3;
const CRC32_LEN: usize = 4;

const CRC24_INIT: u32 = 0x87_5060;
const CRC24_POLYNOMIAL: u32 = 0x197_4F0B;

/// Bytes that the CRC32 of a payload starts with.
const CRC32_PREFIX: [u8; 4] = [0xFA, 0x2D, 0x55, 0xCA];

/// CRC-24 of a segment's header, most significant bit first.
pub fn crc24(header: &[u8]) -> u32 {
    header.iter().fold(CRC24_INIT, |crc, byte| {
        (0..8).fold(crc ^ (u32::from(*byte) << 16), |crc, _| {
            let shifted = crc << 1;
            if shifted & 0x100_0000 == 0 { shifted } else { shifted ^ CRC24_POLYNOMIAL }
        })
    })
}

/// CRC-32 (IEEE) of a segment's payload as it is on the wire, behind four fixed bytes.
pub fn crc32(payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&CRC32_PREFIX);
    hasher.update(payload);
    hasher.finalize()
}

/// What stands at the front of a stream of segments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SegmentStep {
    /// Nothing can be said before `needed` bytes are there (more than there are now).
    Incomplete {
        /// Bytes of the input that must be there.
        needed: usize,
    },
    /// A segment was read and its payload appended.
    Segment {
        /// Bytes of the segment.
        consumed: usize,
    },
    /// The connection is out of step: close it.
    Malformed(Malformed),
}

/// Reads the segments of one direction of one connection.
#[derive(Clone, Debug)]
pub struct SegmentDecoder {
    compressed: bool,
    /// Longest body of an envelope.
    body_max: u32,
    /// Bytes that an envelope spread over segments still lacks.
    pending: usize,
}

impl SegmentDecoder {
    /// `compressed`: STARTUP has chosen lz4. `body_max`: longest body of an envelope, bytes; checked when its header
    /// arrives, so that no more than that is ever gathered.
    pub fn new(compressed: bool, body_max: u32) -> Self {
        Self { compressed, body_max: body_max.min(BODY_MAX), pending: 0 }
    }

    /// Whether an envelope has begun and not ended.
    pub const fn in_envelope(&self) -> bool {
        self.pending > 0
    }

    /// Reads the segment at the front of `input` and appends its payload (at most [`PAYLOAD_MAX`] bytes) to `out`;
    /// `out` is as before unless a segment was read.
    pub fn decode(&mut self, input: &[u8], out: &mut Vec<u8>) -> SegmentStep {
        let header_len = if self.compressed { COMPRESSED_HEADER } else { PLAIN_HEADER };
        let payload_at = header_len + CRC24_LEN;
        let Some(head) = input.get(..payload_at) else {
            return SegmentStep::Incomplete { needed: payload_at };
        };
        let (header, crc) = head.split_at(header_len);
        if little_endian(crc) != u64::from(crc24(header)) {
            return SegmentStep::Malformed(Malformed::Checksum);
        }
        let fields = little_endian(header);
        let on_wire = fields as usize & PAYLOAD_MAX;
        let (plain, self_contained) = if self.compressed {
            ((fields >> 17) as usize & PAYLOAD_MAX, fields >> 34 & 1 == 1)
        } else {
            (0, fields >> 17 & 1 == 1)
        };
        let end = payload_at + on_wire;
        let Some(rest) = input.get(payload_at..end + CRC32_LEN) else {
            return SegmentStep::Incomplete { needed: end + CRC32_LEN };
        };
        let (payload, crc) = rest.split_at(on_wire);
        if little_endian(crc) != u64::from(crc32(payload)) {
            return SegmentStep::Malformed(Malformed::Checksum);
        }
        let start = out.len();
        let appended = append(payload, plain, out);
        match appended.and_then(|()| self.boundaries(&out[start..], self_contained)) {
            Ok(pending) => {
                self.pending = pending;
                SegmentStep::Segment { consumed: end + CRC32_LEN }
            }
            Err(reason) => {
                out.truncate(start);
                SegmentStep::Malformed(reason)
            }
        }
    }

    /// How much of an envelope is still to come after `payload`.
    fn boundaries(&self, payload: &[u8], self_contained: bool) -> Result<usize, Malformed> {
        match (self_contained, self.pending) {
            (true, 0) => {
                let whole = whole_envelopes(payload, payload.len(), self.body_max)?;
                if whole == payload.len() { Ok(0) } else { Err(Malformed::SegmentBoundary) }
            }
            (true, _) => Err(Malformed::SegmentBoundary),
            (false, 0) => {
                let length = envelope_len(payload, self.body_max)?.ok_or(Malformed::SegmentBoundary)?;
                length.checked_sub(payload.len()).ok_or(Malformed::SegmentBoundary)
            }
            (false, pending) => pending
                .checked_sub(payload.len())
                .filter(|_| !payload.is_empty())
                .ok_or(Malformed::SegmentBoundary),
        }
    }
}

/// Appends the payload, decompressed when it announces a plain length.
fn append(payload: &[u8], plain: usize, out: &mut Vec<u8>) -> Result<(), Malformed> {
    if plain == 0 {
        out.extend_from_slice(payload);
        return Ok(());
    }
    let start = out.len();
    out.resize(start + plain, 0);
    match compress::lz4_block(payload, &mut out[start..]) {
        Ok(written) if written == plain => Ok(()),
        _ => Err(Malformed::Compression),
    }
}

fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// Length of the envelope at the front, header included; `None` before its header is complete.
fn envelope_len(bytes: &[u8], body_max: u32) -> Result<Option<usize>, Malformed> {
    let Some(header) = bytes.first_chunk::<HEADER_LEN>() else { return Ok(None) };
    let length = u32::from_be_bytes([header[5], header[6], header[7], header[8]]);
    if length > body_max {
        return Err(Malformed::TooLarge);
    }
    Ok(Some(HEADER_LEN + length as usize))
}

/// Bytes of the whole envelopes at the front that fit into `room`.
fn whole_envelopes(bytes: &[u8], room: usize, body_max: u32) -> Result<usize, Malformed> {
    let room = room.min(bytes.len());
    let mut at = 0;
    while let Some(length) = envelope_len(&bytes[at..], body_max)? {
        if length > room - at {
            break;
        }
        at += length;
    }
    Ok(at)
}

/// Appends the whole envelopes at the front of `envelopes` as segments, as few as possible, and returns their length;
/// what is left of `envelopes` is an unfinished envelope. Call it once per flush, with everything there is to send.
pub fn write_segments(envelopes: &[u8], compressed: bool, out: &mut Vec<u8>) -> Result<usize, Malformed> {
    let mut at = 0;
    loop {
        let rest = &envelopes[at..];
        let whole = whole_envelopes(rest, PAYLOAD_MAX, BODY_MAX)?;
        if whole > 0 {
            write_segment(&rest[..whole], true, compressed, out);
            at += whole;
            continue;
        }
        match envelope_len(rest, BODY_MAX)? {
            Some(length) if length <= rest.len() => {
                for piece in rest[..length].chunks(PAYLOAD_MAX) {
                    write_segment(piece, false, compressed, out);
                }
                at += length;
            }
            _ => return Ok(at),
        }
    }
}

/// Appends a part of one envelope as segments of its own. The first part holds the envelope's header; every part of it goes
/// through here, and nothing else in between.
pub fn write_part(part: &[u8], compressed: bool, out: &mut Vec<u8>) {
    for piece in part.chunks(PAYLOAD_MAX) {
        write_segment(piece, false, compressed, out);
    }
}

/// Appends one segment; `payload` has at most [`PAYLOAD_MAX`] bytes.
fn write_segment(payload: &[u8], self_contained: bool, compressed: bool, out: &mut Vec<u8>) {
    let header_len = if compressed { COMPRESSED_HEADER } else { PLAIN_HEADER };
    let start = out.len();
    let payload_at = start + header_len + CRC24_LEN;
    out.resize(payload_at, 0);
    let mut plain = 0;
    if compressed {
        compress::write_lz4_block(payload, out);
        plain = payload.len();
    }
    if plain == 0 || out.len() - payload_at >= payload.len() {
        // Not worth it: a plain length of zero says so.
        out.truncate(payload_at);
        out.extend_from_slice(payload);
        plain = 0;
    }
    let on_wire = (out.len() - payload_at) as u64;
    let flag = u64::from(self_contained);
    let fields = if compressed { on_wire | (plain as u64) << 17 | flag << 34 } else { on_wire | flag << 17 };
    out[start..start + header_len].copy_from_slice(&fields.to_le_bytes()[..header_len]);
    let crc = crc24(&out[start..start + header_len]);
    out[start + header_len..payload_at].copy_from_slice(&crc.to_le_bytes()[..CRC24_LEN]);
    let crc = crc32(&out[payload_at..]);
    out.extend_from_slice(&crc.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::{Flags, Header, Opcode, StreamId};
    use crate::version::Version;

    fn envelope(stream: i16, body: usize) -> Vec<u8> {
        let mut out = Vec::new();
        let header = Header {
            version: Version::V5,
            flags: Flags::default(),
            stream: StreamId(stream),
            opcode: Opcode::Query,
            body_len: body as u32,
        };
        header.write(&mut out);
        out.extend((0..body).map(|n| (n / 7) as u8));
        out
    }

    fn decode_all(mut input: &[u8], compressed: bool) -> Result<(Vec<u8>, usize), Malformed> {
        let mut decoder = SegmentDecoder::new(compressed, BODY_MAX);
        let (mut out, mut segments) = (Vec::new(), 0);
        loop {
            match decoder.decode(input, &mut out) {
                SegmentStep::Segment { consumed } => {
                    input = &input[consumed..];
                    segments += 1;
                }
                SegmentStep::Incomplete { .. } if input.is_empty() => return Ok((out, segments)),
                SegmentStep::Incomplete { .. } => return Err(Malformed::Truncated),
                SegmentStep::Malformed(reason) => return Err(reason),
            }
        }
    }

    #[test]
    fn checksums_have_their_published_values() {
        // CRC-32/ISO-HDLC of "123456789", without the prefix, is CBF43926: the prefix alone is ours to add.
        assert_eq!(crc32fast::hash(b"123456789"), 0xCBF4_3926);
        assert_eq!(crc32(b""), crc32fast::hash(&[0xFA, 0x2D, 0x55, 0xCA]));
        assert_eq!(crc24(b""), 0x87_5060);
    }

    #[test]
    fn several_envelopes_share_a_segment_and_a_long_one_is_spread() {
        for compressed in [false, true] {
            let small: Vec<u8> = (0..50).flat_map(|n| envelope(n, 100)).collect();
            let mut out = Vec::new();
            assert_eq!(write_segments(&small, compressed, &mut out), Ok(small.len()));
            assert_eq!(decode_all(&out, compressed), Ok((small.clone(), 1)));

            let all = [small, envelope(1, 3 * PAYLOAD_MAX), envelope(2, 0)].concat();
            out.clear();
            assert_eq!(write_segments(&all, compressed, &mut out), Ok(all.len()));
            assert_eq!(decode_all(&out, compressed), Ok((all.clone(), 1 + 4 + 1)));

            out.clear();
            assert_eq!(write_segments(&all[..all.len() - 1], compressed, &mut out), Ok(all.len() - 9));
        }
    }

    #[test]
    fn pieces_are_incomplete_and_every_bit_is_checked() {
        for compressed in [false, true] {
            let mut out = Vec::new();
            assert!(write_segments(&envelope(3, 60), compressed, &mut out).is_ok());
            let mut decoder = SegmentDecoder::new(compressed, BODY_MAX);
            for len in 0..out.len() {
                let step = decoder.decode(&out[..len], &mut Vec::new());
                assert!(
                    matches!(step, SegmentStep::Incomplete { needed } if needed > len),
                    "{len}: {step:?}"
                );
            }
            for bit in 0..out.len() * 8 {
                let mut wrong = out.clone();
                wrong[bit / 8] ^= 1 << (bit % 8);
                let mut kept = vec![1];
                let step = decoder.decode(&wrong, &mut kept);
                assert_eq!(step, SegmentStep::Malformed(Malformed::Checksum), "bit {bit}");
                assert_eq!(kept, [1]);
            }
        }
    }

    #[test]
    fn segments_and_envelopes_must_agree() {
        let whole = envelope(1, 200);
        let refuse = |parts: &[(&[u8], bool)], body_max, reason| {
            let mut input = Vec::new();
            for (payload, self_contained) in parts {
                write_segment(payload, *self_contained, false, &mut input);
            }
            let mut decoder = SegmentDecoder::new(false, body_max);
            let mut rest = input.as_slice();
            let mut out = Vec::new();
            loop {
                match decoder.decode(rest, &mut out) {
                    SegmentStep::Segment { consumed } => rest = &rest[consumed..],
                    other => return assert_eq!(other, SegmentStep::Malformed(reason), "{parts:?}"),
                }
            }
        };
        refuse(&[(&whole[..50], true)], BODY_MAX, Malformed::SegmentBoundary);
        refuse(&[(&whole[..50], false), (&whole, true)], BODY_MAX, Malformed::SegmentBoundary);
        refuse(&[(&whole[..50], false), (&whole, false)], BODY_MAX, Malformed::SegmentBoundary);
        refuse(&[(&whole[..50], false), (&[], false)], BODY_MAX, Malformed::SegmentBoundary);
        refuse(&[(&whole[..8], false)], BODY_MAX, Malformed::SegmentBoundary);
        refuse(&[(&whole, true)], 199, Malformed::TooLarge);
        refuse(&[(&whole[..50], false)], 199, Malformed::TooLarge);
    }
}
