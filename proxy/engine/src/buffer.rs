//! Bytes on their way out of and into the engine: appended at the end, taken from the front, memory given back when
//! drained. Taking costs a constant number of steps per byte however small the pieces are.
//!
//! Stream offsets of [`OutBuffer`] count every byte ever appended, so that a lane can tell which commands were wholly
//! unsent when its connection was lost.

/// Capacity above which a drained buffer is freed instead of kept.
const KEEP: usize = 16 << 10;

/// Taken bytes at the front of a buffer are only moved out of the way once they are more than this and more than half.
const SLACK: usize = 64 << 10;

/// The same for what a client sent: less, because every waiting client has such a buffer.
const INPUT_SLACK: usize = 4 << 10;

/// Room an input buffer that grows is given beyond its bytes: this share of them. Doubling would hold twice the bound.
const INPUT_SPARE: usize = 4;

/// Bytes on their way to one socket.
#[derive(Debug, Default)]
pub struct OutBuffer {
    bytes: Vec<u8>,
    start: usize,
    appended: u64,
}

impl OutBuffer {
    /// The bytes not yet written.
    #[must_use]
    pub fn unwritten(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// How many bytes are not yet written.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Whether everything was written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.appended += bytes.len() as u64;
    }

    /// Lets `write` append directly; what it adds is counted.
    pub fn push_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let before = self.bytes.len();
        write(&mut self.bytes);
        self.appended += (self.bytes.len() - before) as u64;
    }

    /// Appends `bytes` from `start` on. An empty buffer takes them over as they are, without a copy.
    pub fn push_from(&mut self, bytes: Vec<u8>, start: usize) {
        if self.is_empty() && start <= bytes.len() {
            self.appended += (bytes.len() - start) as u64;
            (self.bytes, self.start) = (bytes, start);
        } else {
            self.push(bytes.get(start..).unwrap_or_default());
        }
    }

    /// Notes that the socket took `n` bytes.
    pub fn wrote(&mut self, n: usize) {
        self.start += n.min(self.len());
        if self.start == self.bytes.len() {
            self.start = 0;
            if self.bytes.capacity() > KEEP {
                self.bytes = Vec::new();
            } else {
                self.bytes.clear();
            }
        } else {
            if compact(&mut self.bytes, &mut self.start, SLACK) {
                self.bytes.shrink_to(self.bytes.len() * 2);
            }
        }
    }

    /// Frees the memory of a drained buffer, so that an idle client owns none.
    pub fn release(&mut self) {
        if self.is_empty() {
            self.bytes = Vec::new();
            self.start = 0;
        }
    }

    /// Stream offset of the next byte to be appended.
    #[must_use]
    pub fn end_offset(&self) -> u64 {
        self.appended
    }

    /// Stream offset of the next byte to be written.
    #[must_use]
    pub fn written_offset(&self) -> u64 {
        self.appended - self.len() as u64
    }

    /// The unwritten bytes from one stream offset to another; empty when the range was (partly) written.
    #[must_use]
    pub fn range(&self, from: u64, to: u64) -> &[u8] {
        let base = self.written_offset();
        if from < base || to < from {
            return &[];
        }
        let start = self.start + (from - base) as usize;
        let end = self.start + (to - base) as usize;
        self.bytes.get(start..end).unwrap_or(&[])
    }

    /// Drops what was not written and starts a fresh stream.
    pub fn reset(&mut self) {
        *self = OutBuffer::default();
    }

    /// Memory held.
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }
}

/// What a client sent and the engine has not carried out. Its memory is at most a quarter more than the most it had to
/// hold since it was last small, and one read.
#[derive(Debug, Default)]
pub(crate) struct InputBuffer {
    bytes: Vec<u8>,
    start: usize,
}

impl InputBuffer {
    pub(crate) fn unread(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if self.bytes.capacity() - self.bytes.len() < bytes.len() {
            // moving what is unread costs no more than growing, and each time a share of it is gained
            self.bytes.drain(..self.start);
            self.start = 0;
            self.bytes.reserve_exact(bytes.len().max(self.bytes.len() / INPUT_SPARE));
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Drops `n` bytes from the front.
    pub(crate) fn consume(&mut self, n: usize) {
        self.start += n.min(self.len());
        if self.start == self.bytes.len() {
            *self = InputBuffer::default();
        } else if compact(&mut self.bytes, &mut self.start, INPUT_SLACK) {
            self.bytes.shrink_to(self.bytes.len() + self.bytes.len() / INPUT_SPARE);
        }
    }

    /// Memory held.
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }
}

/// Moves what is left to the front once more than `slack` and more than half was taken; whether it did.
fn compact(bytes: &mut Vec<u8>, start: &mut usize, slack: usize) -> bool {
    let due = *start > slack && *start * 2 > bytes.len();
    if due {
        bytes.drain(..*start);
        *start = 0;
    }
    due
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_follow_the_stream() {
        let mut out = OutBuffer::default();
        out.push(b"hello ");
        out.push(b"world");
        out.wrote(6);
        assert_eq!(out.unwritten(), b"world");
        assert_eq!((out.written_offset(), out.end_offset()), (6, 11));
        assert_eq!(out.range(6, 11), b"world");
        assert_eq!(out.range(0, 6), b"", "written bytes are gone");
        out.wrote(5);
        assert!(out.is_empty());
        assert_eq!(out.written_offset(), 11);
    }

    #[test]
    fn a_whole_buffer_is_taken_over() {
        let mut out = OutBuffer::default();
        out.push(b"x");
        out.wrote(1);
        let bytes = b"__hello".to_vec();
        let place = bytes.as_ptr();
        out.push_from(bytes, 2);
        assert_eq!((out.unwritten(), out.bytes.as_ptr()), (&b"hello"[..], place));
        assert_eq!((out.written_offset(), out.end_offset(), out.range(1, 6)), (1, 6, &b"hello"[..]));
        out.push_from(b"_ world".to_vec(), 1);
        assert_eq!(out.unwritten(), b"hello world");
        out.wrote(11);
        assert!(out.is_empty() && out.written_offset() == 12);
        out.push_from(b"abc".to_vec(), 9);
        assert!(out.is_empty());
    }

    #[test]
    fn a_large_drained_buffer_is_given_back() {
        let mut out = OutBuffer::default();
        out.push(&vec![0; 1 << 20]);
        out.wrote(1 << 20);
        assert_eq!(out.bytes.capacity(), 0);
    }

    #[test]
    fn input_holds_little_more_than_its_bytes_and_grows_rarely() {
        const READ: usize = 64 << 10;
        for (piece, taken) in [(READ, 0), (1_500, 0), (READ, 40_000), (1_500, 1_400), (7, 3)] {
            let mut input = InputBuffer::default();
            let (mut most, mut grown, mut pushed) = (0, 0, 0);
            while input.len() < 1 << 20 && pushed < 4 << 20 {
                let before = input.capacity();
                input.push(&vec![7; piece]);
                grown += usize::from(input.capacity() > before);
                pushed += piece;
                most = most.max(input.len());
                assert!(
                    input.capacity() <= most + most / INPUT_SPARE + piece,
                    "{} held for {most}",
                    input.capacity()
                );
                input.consume(taken);
            }
            // a steady stream shrinks and grows, once per many reads
            assert!(grown < 100 + pushed / (2 * INPUT_SLACK), "grew {grown} times by {piece}");
            while !input.is_empty() {
                input.consume(1_000);
                // up to as much again was taken and not moved yet, and a quarter of both is spare
                let most = (2 * input.len() + INPUT_SLACK) * 5 / 4 + piece;
                assert!(input.capacity() <= most, "{} held for {}", input.capacity(), input.len());
            }
            assert_eq!(input.capacity(), 0);
        }
    }

    #[test]
    fn input_taken_in_small_pieces_is_moved_rarely_and_ends_without_memory() {
        let mut input = InputBuffer::default();
        input.push(&[7; 1 << 20]);
        let mut moves = 0;
        while !input.is_empty() {
            let before = input.start;
            input.consume(30);
            moves += usize::from(!input.is_empty() && input.start < before);
        }
        assert!(moves < 16, "{moves} moves");
        assert_eq!((input.capacity(), input.unread()), (0, &[][..]));
    }
}
