//! A request message cut into parts of a number of keys each.

use std::fmt;
use std::ops::Range;

use super::SplitPlan;
use crate::error::Malformed;
use crate::scan::Step;
use crate::wire::{Elements, Fields, VarintParts, WireType, write_len};

/// Bounds of a cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CutLimits {
    /// Keys per part; 0 counts as 1.
    pub chunk_keys: usize,
    /// Most bytes of all parts together: what stands beside the keys is sent again with every part.
    pub bytes_max: usize,
}

/// Why a request is not cut. It goes whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum NoSplit {
    /// It fits into one part.
    Small,
    /// Its parts would be larger together than [`CutLimits::bytes_max`].
    TooLarge {
        /// Bytes of all parts.
        bytes: usize,
        /// What is allowed.
        max: usize,
    },
    /// It cannot be read.
    Malformed(Malformed),
    /// It is no JSON object with one array of keys.
    Json,
    /// Messages of its method are not split in this encoding.
    Encoding,
}

impl NoSplit {
    /// A bounded label for metrics.
    pub const fn label(self) -> &'static str {
        match self {
            NoSplit::Small => "small",
            NoSplit::TooLarge { .. } => "parts_too_large",
            NoSplit::Malformed(_) | NoSplit::Json => "malformed",
            NoSplit::Encoding => "encoding",
        }
    }
}

impl fmt::Display for NoSplit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoSplit::Small => f.write_str("the request fits into one part"),
            NoSplit::TooLarge { bytes, max } => {
                write!(f, "the parts would have {bytes} bytes together; the limit is {max}")
            }
            NoSplit::Malformed(cause) => cause.fmt(f),
            NoSplit::Encoding => f.write_str("the method is not split in this encoding"),
            NoSplit::Json => f.write_str("the request is no JSON object with one array of keys"),
        }
    }
}

impl std::error::Error for NoSplit {}

impl From<Malformed> for NoSplit {
    fn from(cause: Malformed) -> Self {
        NoSplit::Malformed(cause)
    }
}

/// One part.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Chunk {
    /// Where its keys lie: in the message, or for numbers in `packed`.
    range: Range<usize>,
    keys: usize,
    /// Bytes of its keys in the message; fewer than the range if other fields stand between them.
    key_bytes: usize,
}

/// A request that has been cut. It remembers places, not keys; the message itself stays with the caller.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cut {
    key: Step,
    chunks: Vec<Chunk>,
    /// All other fields in front of the first key, and behind it. They keep their order.
    before: Vec<u8>,
    after: Vec<u8>,
    /// The keys, where they are numbers: packed, whatever they were.
    packed: Vec<u8>,
}

impl Cut {
    /// Finds the parts of `message`.
    pub fn new(plan: &SplitPlan, message: &[u8], limits: CutLimits) -> Result<Self, NoSplit> {
        let (before, after, packed) = (Vec::new(), Vec::new(), Vec::new());
        let mut cut = Self { key: plan.key, chunks: Vec::new(), before, after, packed };
        let chunk_keys = limits.chunk_keys.max(1);
        for field in Fields::new(message) {
            let field = field?;
            let bytes = message.get(field.range()).unwrap_or_default();
            if field.tag.number != cut.key.number {
                let rest = if cut.chunks.is_empty() { &mut cut.before } else { &mut cut.after };
                rest.extend_from_slice(bytes);
                continue;
            }
            let value = message.get(field.value.clone()).unwrap_or_default();
            // For strings and messages this is the check of the wire type.
            cut.key.elements.in_field(field.tag.wire, value)?;
            if cut.key.elements == Elements::Delimited {
                cut.add(field.range(), chunk_keys);
            } else if field.tag.wire == WireType::Len {
                cut.add_packed(value, chunk_keys)?;
            } else {
                cut.add_number(value, chunk_keys);
            }
        }
        if cut.chunks.len() < 2 {
            return Err(NoSplit::Small);
        }
        let bytes = (0..cut.len()).fold(0_usize, |sum, chunk| sum.saturating_add(cut.part_len(chunk)));
        if bytes > limits.bytes_max {
            return Err(NoSplit::TooLarge { bytes, max: limits.bytes_max });
        }
        Ok(cut)
    }

    fn add(&mut self, range: Range<usize>, chunk_keys: usize) {
        let key_bytes = range.len();
        match self.chunks.last_mut().filter(|chunk| chunk.keys < chunk_keys) {
            Some(chunk) => {
                chunk.range.end = range.end;
                chunk.keys += 1;
                chunk.key_bytes += key_bytes;
            }
            None => self.chunks.push(Chunk { range, keys: 1, key_bytes }),
        }
    }

    fn add_number(&mut self, value: &[u8], chunk_keys: usize) {
        let start = self.packed.len();
        self.packed.extend_from_slice(value);
        self.add(start..self.packed.len(), chunk_keys);
    }

    fn add_packed(&mut self, run: &[u8], chunk_keys: usize) -> Result<(), Malformed> {
        match self.key.elements {
            Elements::Fixed32 => run.chunks(4).for_each(|value| self.add_number(value, chunk_keys)),
            Elements::Fixed64 => run.chunks(8).for_each(|value| self.add_number(value, chunk_keys)),
            Elements::Varint | Elements::Delimited => {
                let (mut parts, mut start) = (VarintParts::default(), 0);
                for (at, byte) in run.iter().enumerate() {
                    if parts.push(*byte)?.is_some() {
                        self.add_number(run.get(start..=at).unwrap_or_default(), chunk_keys);
                        start = at + 1;
                    }
                }
            }
        }
        Ok(())
    }

    /// Number of parts; at least two.
    pub const fn len(&self) -> usize {
        self.chunks.len()
    }

    /// Never: a request of one part is not cut.
    pub const fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Keys of each part, in their order.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = usize> + '_ {
        self.chunks.iter().map(|chunk| chunk.keys)
    }

    /// Most bytes that [`Cut::write`] appends for this part.
    pub fn part_len(&self, part: usize) -> usize {
        let rest = self.before.len() + self.after.len();
        let Some(chunk) = self.chunks.get(part) else { return 0 };
        // A packed run has a tag and a length of at most 5 bytes each.
        let head = if self.key.elements == Elements::Delimited { 0 } else { 10 };
        rest + chunk.key_bytes + head
    }

    /// Appends the message of one part. `message` is the one that was cut.
    pub fn write(&self, part: usize, message: &[u8], out: &mut Vec<u8>) {
        let Some(chunk) = self.chunks.get(part) else { return };
        out.reserve(self.part_len(part));
        out.extend_from_slice(&self.before);
        let range = chunk.range.clone();
        if self.key.elements != Elements::Delimited {
            write_len(self.key.number, self.packed.get(range).unwrap_or_default(), out);
        } else if range.len() == chunk.key_bytes {
            out.extend_from_slice(message.get(range).unwrap_or_default());
        } else {
            let within = message.get(..range.end).unwrap_or_default();
            for field in Fields::starting(within, range.start).flatten() {
                if field.tag.number == self.key.number {
                    out.extend_from_slice(within.get(field.range()).unwrap_or_default());
                }
            }
        }
        out.extend_from_slice(&self.after);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::write_number;

    fn plan(elements: Elements) -> SplitPlan {
        SplitPlan { key: Step { number: 1, elements }, reply: Vec::new(), json: None }
    }

    const fn limits(chunk_keys: usize) -> CutLimits {
        CutLimits { chunk_keys, bytes_max: usize::MAX }
    }

    fn parts(elements: Elements, message: &[u8], chunk_keys: usize) -> Result<Vec<Vec<u8>>, NoSplit> {
        let cut = Cut::new(&plan(elements), message, limits(chunk_keys))?;
        let parts = (0..cut.len()).map(|part| {
            let mut out = Vec::new();
            cut.write(part, message, &mut out);
            assert!(out.len() <= cut.part_len(part));
            out
        });
        Ok(parts.collect())
    }

    #[test]
    fn keys_are_dealt_out_and_the_rest_goes_with_each() {
        let mut message = Vec::new();
        write_len(2, b"viewer", &mut message);
        let keys: [&[u8]; 5] = [b"a", b"b", b"a", b"", b"e"];
        for (index, key) in keys.iter().enumerate() {
            write_len(1, key, &mut message);
            if index == 1 {
                // Between the keys, and unknown.
                write_number(77, 5, &mut message);
            }
        }
        write_len(3, b"tail", &mut message);
        let expected = |keys: &[&[u8]]| {
            let mut part = Vec::new();
            write_len(2, b"viewer", &mut part);
            keys.iter().for_each(|key| write_len(1, key, &mut part));
            write_number(77, 5, &mut part);
            write_len(3, b"tail", &mut part);
            part
        };
        let by = |size: usize| Ok(keys.chunks(size).map(expected).collect::<Vec<_>>());
        for size in 1..5 {
            assert_eq!(parts(Elements::Delimited, &message, size), by(size), "{size}");
        }
        assert_eq!(parts(Elements::Delimited, &message, 0), by(1));
        assert_eq!(parts(Elements::Delimited, &message, 5), Err(NoSplit::Small));
        assert_eq!(parts(Elements::Delimited, &[], 1), Err(NoSplit::Small));
    }

    #[test]
    fn numbers_are_dealt_out_of_packed_runs() {
        let mut message = Vec::new();
        write_len(1, &[1, 0x96, 0x01], &mut message);
        write_number(2, 9, &mut message);
        write_number(1, 300, &mut message);
        write_len(1, &[4], &mut message);
        let part = |run: &[u8]| {
            let mut part = Vec::new();
            write_len(1, run, &mut part);
            write_number(2, 9, &mut part);
            part
        };
        let two = vec![part(&[1, 0x96, 0x01]), part(&[0xAC, 0x02, 4])];
        assert_eq!(parts(Elements::Varint, &message, 2), Ok(two));
        let mut fixed = Vec::new();
        write_len(1, &[1, 1, 1, 1, 2, 2, 2, 2], &mut fixed);
        fixed.extend([0x0D, 3, 3, 3, 3]);
        let two = [&[1, 1, 1, 1, 2, 2, 2, 2][..], &[3, 3, 3, 3]].map(|run| {
            let mut part = Vec::new();
            write_len(1, run, &mut part);
            part
        });
        assert_eq!(parts(Elements::Fixed32, &fixed, 2), Ok(two.to_vec()));
    }

    #[test]
    fn what_cannot_be_cut_goes_whole() {
        assert_eq!(
            parts(Elements::Delimited, &[0x08, 1], 1),
            Err(NoSplit::Malformed(Malformed::OtherWireType))
        );
        assert_eq!(
            parts(Elements::Delimited, &[0x0A, 9], 1),
            Err(NoSplit::Malformed(Malformed::LengthBeyondEnd))
        );
        assert_eq!(
            parts(Elements::Fixed64, &[0x0A, 1, 1], 1),
            Err(NoSplit::Malformed(Malformed::PackedLength))
        );

        // 1,000 bytes beside the keys would be sent with each of 100 keys.
        let mut message = Vec::new();
        write_len(2, &[b'x'; 1000], &mut message);
        (0..100).for_each(|_| write_len(1, b"k", &mut message));
        let bounded = CutLimits { chunk_keys: 1, bytes_max: 50_000 };
        let refused = Cut::new(&plan(Elements::Delimited), &message, bounded);
        assert_eq!(refused, Err(NoSplit::TooLarge { bytes: 100 * 1006, max: 50_000 }));
    }
}
