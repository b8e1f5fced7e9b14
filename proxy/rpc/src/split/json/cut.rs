//! A request in JSON, cut into parts of a number of keys each.

use std::ops::Range;

use super::{JsonSplit, NotJson, elements, members, place};
use crate::split::{CutLimits, NoSplit};

#[derive(Clone, PartialEq, Eq, Debug)]
struct Chunk {
    /// From its first key to its last, with what stands between them.
    range: Range<usize>,
    keys: usize,
}

/// A request that has been cut. Every part is the message without the keys of the others: a piece up to the array's
/// bracket, the keys, and the piece from the other bracket on. It remembers places; the message stays with the caller.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JsonCut {
    chunks: Vec<Chunk>,
    /// Inside the brackets of the array of keys.
    array: Range<usize>,
    /// Bytes of the message.
    length: usize,
}

impl JsonCut {
    /// Finds the parts of `message`.
    pub fn new(split: &JsonSplit, message: &[u8], limits: CutLimits) -> Result<Self, NoSplit> {
        let text = std::str::from_utf8(message).map_err(|_| NoSplit::Json)?;
        let (mut array, mut times) = ("null", 0_usize);
        members(text, |name, value| {
            if split.key.is(&name) {
                (array, times) = (value, times + 1);
            }
        })?;
        if times == 0 || (times == 1 && array == "null") {
            return Err(NoSplit::Small);
        }
        if times > 1 || !array.starts_with('[') {
            return Err(NoSplit::Json);
        }
        let chunk_keys = limits.chunk_keys.max(1);
        let mut chunks: Vec<Chunk> = Vec::new();
        elements(array, |key| {
            let start = place(text, key);
            let end = start + key.len();
            match chunks.last_mut().filter(|chunk| chunk.keys < chunk_keys) {
                Some(chunk) => {
                    chunk.range.end = end;
                    chunk.keys += 1;
                }
                None => chunks.push(Chunk { range: start..end, keys: 1 }),
            }
        })?;
        if chunks.len() < 2 {
            return Err(NoSplit::Small);
        }
        let start = place(text, array) + 1;
        let cut = Self { chunks, array: start..start + array.len() - 2, length: message.len() };
        let bytes = (0..cut.len()).fold(0_usize, |sum, part| sum.saturating_add(cut.part_len(part)));
        if bytes > limits.bytes_max {
            return Err(NoSplit::TooLarge { bytes, max: limits.bytes_max });
        }
        Ok(cut)
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

    /// Bytes that [`JsonCut::write`] appends for this part.
    pub fn part_len(&self, part: usize) -> usize {
        let Some(chunk) = self.chunks.get(part) else { return 0 };
        self.length - self.array.len() + chunk.range.len()
    }

    /// Appends the message of one part. `message` is the one that was cut.
    pub fn write(&self, part: usize, message: &[u8], out: &mut Vec<u8>) {
        let Some(chunk) = self.chunks.get(part) else { return };
        out.reserve(self.part_len(part));
        for range in [0..self.array.start, chunk.range.clone(), self.array.end..self.length] {
            out.extend_from_slice(message.get(range).unwrap_or_default());
        }
    }
}

impl From<NotJson> for NoSplit {
    fn from(NotJson: NotJson) -> Self {
        NoSplit::Json
    }
}
