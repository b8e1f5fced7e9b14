//! How many operations a request asks for, from its first bytes: what the kernel's side of the probe `work` computes, in
//! plain arithmetic that the verifier walks through once and that is tested here.
//!
//! | begins with | operations |
//! |---|---|
//! | `get` `gets` `gat` `gats` | its keys: the spaces, `gat` less one |
//! | `mg` | its lines (a batch of meta gets is written at once) |
//! | any other memcached command that has a key | 1 |
//! | CQL QUERY, EXECUTE | 1 for each envelope |
//! | CQL BATCH | the statements its header tells (1 when its body is compressed) |
//!
//! A memcached request that is longer than [`SCANNED`] is sampled at [`CHUNKS`] places, as keys that are numbered grow
//! towards its end. Not seen: what begins otherwise (the memcached binary protocol, TLS, the rest of a request after a short
//! write), CQL in compressed segments.

use core::hint::black_box;

/// Bytes that are looked at.
pub const SCANNED: usize = CHUNKS * CHUNK;
/// Places at which a longer request is looked at.
pub const CHUNKS: usize = 4;
/// Bytes at each place.
pub const CHUNK: usize = 256;
/// Words that are looked at, and one that is always 0.
pub const WORDS: usize = SCANNED / 8 + 1;
/// CQL envelopes that are looked at.
pub const ENVELOPES: usize = 16;

/// What a memcached command's operations are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Its words but for so many.
    Words {
        /// Those that are no keys.
        but: u64,
        /// Where the first one begins.
        from: u64,
    },
    /// Its lines.
    Lines,
    /// One.
    One,
}

/// How a request begins, as a number: the first `N` bytes in the order of memory.
const fn begin<const N: usize>(text: &[u8; N]) -> (u64, u64) {
    let mut word = 0;
    let mut mask = 0;
    let mut i = 0;
    while i < N {
        word |= (text[i] as u64) << (8 * i);
        mask |= 0xff << (8 * i);
        i += 1;
    }
    (word, mask)
}

/// The commands; the most frequent first.
const COMMANDS: [((u64, u64), Unit); 19] = [
    (begin(b"get "), Unit::Words { but: 0, from: 4 }),
    (begin(b"set "), Unit::One),
    (begin(b"mg "), Unit::Lines),
    (begin(b"gets "), Unit::Words { but: 0, from: 5 }),
    (begin(b"ms "), Unit::One),
    (begin(b"delete "), Unit::One),
    (begin(b"gat "), Unit::Words { but: 1, from: 4 }),
    (begin(b"gats "), Unit::Words { but: 1, from: 5 }),
    (begin(b"add "), Unit::One),
    (begin(b"replace "), Unit::One),
    (begin(b"append "), Unit::One),
    (begin(b"prepend "), Unit::One),
    (begin(b"cas "), Unit::One),
    (begin(b"incr "), Unit::One),
    (begin(b"decr "), Unit::One),
    (begin(b"touch "), Unit::One),
    (begin(b"md "), Unit::One),
    (begin(b"ma "), Unit::One),
    (begin(b"me "), Unit::One),
];

/// The memcached command that begins with these eight bytes (in the order of memory).
#[must_use]
#[inline(always)]
pub const fn command(first: u64) -> Option<Unit> {
    let mut i = 0;
    while i < COMMANDS.len() {
        let ((word, mask), unit) = COMMANDS[i];
        if first & mask == word {
            return Some(unit);
        }
        i += 1;
    }
    None
}

/// Separators that were seen in a row of words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// How many.
    pub count: u64,
    /// The word that holds the first one.
    pub first: u64,
    /// The word that holds the last one.
    pub last: u64,
}

const ONES: u64 = 0x0101_0101_0101_0101;
const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;

/// Eight times a byte, for [`Seen::look`].
#[must_use]
#[inline(always)]
pub const fn eight(byte: u8) -> u64 {
    byte as u64 * ONES
}

/// The highest bit of every byte of `word` that is the byte of `eight`.
#[inline(always)]
const fn found(word: u64, eight: u64) -> u64 {
    let x = word ^ eight;
    !(((x & LOW) + LOW) | x | LOW)
}

impl Seen {
    /// Looks at a word. No branch: the verifier would follow both ways, for every word. The masks are hidden from the
    /// compiler, which would make branches of them.
    #[inline(always)]
    pub const fn look(&mut self, index: u64, word: u64, eight: u64) {
        let here = (found(word, eight) >> 7).wrapping_mul(ONES) >> 56; // 0 to 8
        let any = (here + 7) >> 3; // 0 or 1
        let begun = (self.count + 0x7ff) >> 11; // 0 or 1, up to 2,048 separators
        self.first ^= (self.first ^ index) & black_box((any & !begun).wrapping_neg());
        self.last ^= (self.last ^ index) & black_box(any.wrapping_neg());
        self.count += here;
    }
}

/// The places in a word (in the order of memory) behind the first and behind the last byte that is the byte of `eight`. In a
/// word without one the first is behind the last.
#[must_use]
#[inline(always)]
pub const fn behind(word: u64, eight: u64) -> (u64, u64) {
    let found = found(word, eight); // the highest bit of each byte, or none
    let below_first = (found & found.wrapping_neg()).wrapping_sub(1);
    let first = (below_first & ONES).wrapping_mul(ONES) >> 56;
    let pairs = found | (found >> 8);
    let fours = pairs | (pairs >> 16);
    let from_last = fours | (fours >> 32);
    let last = (from_last >> 7).wrapping_mul(ONES) >> 56;
    (first, last)
}

/// What the chunks of a long request showed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Separators.
    separators: u64,
    /// Pairs of separators that follow each other.
    gaps: u64,
    /// Bytes from the first to the last separator of each chunk.
    span: u64,
}

impl Sample {
    /// Where chunk `index` of a request of `length` bytes (at least [`SCANNED`]) begins: in the middle of its share.
    #[must_use]
    #[inline(always)]
    pub const fn place(index: u64, length: u64) -> u64 {
        (2 * index + 1) * length / (2 * CHUNKS as u64) - CHUNK as u64 / 2
    }

    /// Takes a chunk in; `first` and `last` are the words that [`Seen`] names.
    #[inline(always)]
    pub const fn take(&mut self, seen: &Seen, first: u64, last: u64, eight: u64) {
        let begin = seen.first * 8 + behind(first, eight).0;
        let end = seen.last * 8 + behind(last, eight).1;
        self.separators += seen.count;
        self.gaps += seen.count.saturating_sub(1);
        self.span += end.saturating_sub(begin);
    }
}

/// The operations of a request that was seen whole and has so many separators.
#[must_use]
#[inline(always)]
pub const fn whole(unit: Unit, separators: u64) -> u64 {
    let operations = match unit {
        Unit::One => 1,
        Unit::Lines => separators,
        Unit::Words { but, .. } => separators.saturating_sub(but),
    };
    if operations == 0 { 1 } else { operations }
}

/// The operations of a request of `length` bytes, at least [`SCANNED`], from a sample.
#[must_use]
#[inline(always)]
pub const fn sampled(unit: Unit, length: u64, sample: &Sample) -> u64 {
    // with the last word stands `\r\n`, with all others one space
    let length = match unit {
        Unit::Words { from, .. } => length.saturating_sub(from + 1),
        _ => length,
    };
    let separators = if sample.gaps == 0 || sample.span == 0 {
        length * sample.separators / SCANNED as u64
    } else {
        (length * sample.gaps + sample.span / 2) / sample.span
    };
    whole(unit, separators)
}

/// What an envelope of the Cassandra native protocol asks for, from its header: operations, and bytes to the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// 0 for what is no request for data.
    pub operations: u64,
    /// Header and body.
    pub bytes: u64,
}

/// Bytes of an envelope that [`envelope`] looks at: its header and the begin of a BATCH.
pub const ENVELOPE: usize = 12;

/// Reads the begin of an envelope of a request; `None` when it is none.
#[must_use]
#[inline(always)]
pub const fn envelope(head: &[u8; ENVELOPE]) -> Option<Envelope> {
    let [version, flags, _, _, opcode, a, b, c, d, _, high, low] = *head;
    if version < 3 || version > 5 || opcode > 0x0f || flags & 0xe0 != 0 {
        return None;
    }
    let body = u32::from_be_bytes([a, b, c, d]) as u64;
    if body > 256 << 20 {
        return None;
    }
    let operations = match opcode {
        0x07 | 0x0a => 1, // QUERY, EXECUTE
        // compressed, or a payload before it: the number is elsewhere
        0x0d if flags & 0x05 != 0 => 1,
        0x0d => u16::from_be_bytes([high, low]) as u64,
        _ => 0,
    };
    Some(Envelope { operations, bytes: 9 + body })
}

/// Bytes before the first envelope: none in v3 and v4 and while a connection starts, a segment's header in v5 (without
/// compression); `None` for neither.
#[must_use]
#[inline(always)]
pub const fn before_envelope(head: &[u8; 6 + ENVELOPE]) -> Option<u64> {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r] = *head;
    // a segment's length first: its low byte may well be a version
    let payload = a as u64 | (b as u64) << 8 | ((c & 1) as u64) << 16;
    if g == 5
        && c & 0xfc == 0
        && let Some(inner) = envelope(&[g, h, i, j, k, l, m, n, o, p, q, r])
        && (inner.bytes <= payload || c & 2 == 0)
    {
        return Some(6);
    }
    match envelope(&[a, b, c, d, e, f, g, h, i, j, k, l]) {
        Some(_) => Some(0),
        None => None,
    }
}

#[cfg(test)]
mod tests;
