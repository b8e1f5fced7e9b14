//! Where one command ends and the next begins, over bytes that arrive in pieces.
//!
//! The decoder owns no buffer: the caller keeps the bytes and drops what was consumed. It remembers how far it looked
//! for the end of a line and how many bytes a data block still needs, so asking again costs nothing and a line that
//! arrives byte by byte is read once.
//!
//! Stricter than memcached 1.6.18 on purpose:
//!
//! - Control characters are refused anywhere in a line (it cuts the line at NUL and takes others into keys).
//! - Numbers are plain digits: no `+1`, no overflow (a length of 4294967297 is 1 to it); `-` only before times.
//! - The data block of a refused store is dropped when its length can be read; 1.6.18 reads some of them as commands,
//!   newer servers drop them too.
//! - A line over its cap is answered and skipped; memcached closes. What memcached takes between
//!   [`FORWARD_LINE_MAX`] and [`COMMAND_LINE_MAX`] depends on how the bytes arrive; here it does not.
//! - Base64 keys hold no bytes outside the alphabet.
//! - Commands that administer one server are refused with a line that names weir.

use memchr::memchr;

use crate::binary::{self, BINARY_REFUSAL_LEN, HEADER_LEN, REQUEST_MAGIC};
use crate::line::{self, Parsed};
use crate::rejection::{Cause, Rejection, StaleKey};
use crate::request::Request;
use crate::{Verb, text};

/// Longest line of anything but a retrieval that is read, line end included: memcached's read buffer. A longer line is
/// skipped unread.
pub const COMMAND_LINE_MAX: usize = 16 * 1024;

/// Longest line of anything but `get` and `gets` that may be sent to a server: memcached closes a connection on which
/// more than this arrives before the line end.
pub const FORWARD_LINE_MAX: usize = 2048;

/// Spaces that memcached tolerates before the first word of a line longer than [`FORWARD_LINE_MAX`].
const LEADING_SPACES_MAX: usize = 100;

/// What one client may send in one piece.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DecodeLimits {
    /// Bytes of a retrieval line with its line end; no less than [`COMMAND_LINE_MAX`], which others have. Default 8 MiB.
    pub line: usize,
    /// Bytes of one value. Default 1 MiB, memcached's own default.
    pub value: usize,
}

impl Default for DecodeLimits {
    fn default() -> DecodeLimits {
        DecodeLimits { line: 8 * 1024 * 1024, value: 1024 * 1024 }
    }
}

/// What the decoder found at the start of the input.
#[derive(Clone, Debug)]
pub enum Step<'a> {
    /// Nothing whole yet.
    Incomplete {
        /// Total length of input that can make progress: exact for data blocks, one more byte otherwise.
        needed: usize,
    },
    /// A command.
    Request {
        /// The command, borrowing from the input.
        request: Request<'a>,
        /// Bytes it takes.
        consumed: usize,
    },
    /// A refused line. Its data block, if any, comes as [`Step::Swallowed`] afterwards.
    Reject {
        /// The answer and its cause.
        reply: Rejection,
        /// Bytes to drop.
        consumed: usize,
    },
    /// More bytes of a refused command.
    Swallowed {
        /// Bytes to drop.
        consumed: usize,
    },
    /// A request of the binary protocol: answer and close.
    Binary {
        /// The error packet.
        reply: [u8; BINARY_REFUSAL_LEN],
    },
}

/// Splits one client's bytes into commands. One per connection.
#[derive(Clone, Debug, Default)]
pub struct RequestDecoder {
    limits: DecodeLimits,
    /// The input holds no LF before this offset.
    scanned: usize,
    /// Input shorter than this cannot make progress; 0 is unknown.
    needed: usize,
    /// Bytes still to drop.
    swallow: u64,
    /// Drop up to the next LF.
    swallow_line: bool,
}

impl RequestDecoder {
    /// A decoder at the start of a connection.
    pub fn new(limits: DecodeLimits) -> RequestDecoder {
        RequestDecoder { limits, ..RequestDecoder::default() }
    }

    /// Reads the first command of `input`, which starts at the first byte not yet consumed and only grows until
    /// something is consumed.
    pub fn decode<'a>(&mut self, input: &'a [u8]) -> Step<'a> {
        if input.is_empty() {
            return Step::Incomplete { needed: 1 };
        }
        if self.swallowing() {
            return self.drop_from(input);
        }
        if input.len() < self.needed {
            return Step::Incomplete { needed: self.needed };
        }
        if input[0] == REQUEST_MAGIC {
            return match input.first_chunk::<HEADER_LEN>() {
                Some(header) => Step::Binary { reply: binary::refuse(header) },
                None => Step::Incomplete { needed: HEADER_LEN },
            };
        }
        match memchr(b'\n', input.get(self.scanned..).unwrap_or_default()) {
            Some(offset) => self.line(input, self.scanned + offset + 1),
            None => self.unfinished(input),
        }
    }

    /// Bytes of a refused command are still to come.
    pub fn swallowing(&self) -> bool {
        self.swallow_line || self.swallow > 0
    }

    /// Drops the next `n` bytes of the stream.
    pub fn swallow(&mut self, n: u64) {
        self.swallow = self.swallow.saturating_add(n);
    }

    fn consume(&mut self) {
        self.scanned = 0;
        self.needed = 0;
    }

    fn drop_from<'a>(&mut self, input: &[u8]) -> Step<'a> {
        self.consume();
        if self.swallow > 0 {
            let consumed = usize::try_from(self.swallow).map_or(input.len(), |left| left.min(input.len()));
            self.swallow -= consumed as u64;
            return Step::Swallowed { consumed };
        }
        match memchr(b'\n', input) {
            Some(lf) => {
                self.swallow_line = false;
                Step::Swallowed { consumed: lf + 1 }
            }
            None => Step::Swallowed { consumed: input.len() },
        }
    }

    /// The cap of the line that `input` starts with; asked only when it matters.
    fn line_cap(&self, input: &[u8]) -> usize {
        let (word, spaces) = first_word(input);
        if spaces <= LEADING_SPACES_MAX && matches!(word, b"get" | b"gets" | b"gat" | b"gats" | b"bget") {
            self.limits.line.max(COMMAND_LINE_MAX)
        } else {
            COMMAND_LINE_MAX
        }
    }

    /// `input` holds no LF.
    fn unfinished<'a>(&mut self, input: &[u8]) -> Step<'a> {
        self.scanned = input.len();
        if input.len() >= COMMAND_LINE_MAX && input.len() >= self.line_cap(input) {
            self.consume();
            self.swallow_line = true;
            return too_long(input, input.len());
        }
        Step::Incomplete { needed: input.len() + 1 }
    }

    /// `input` starts with a line of `line_len` bytes, LF included.
    fn line<'a>(&mut self, input: &'a [u8], line_len: usize) -> Step<'a> {
        // Should the data be missing, the line is found again without a search.
        self.scanned = line_len - 1;
        if line_len > COMMAND_LINE_MAX && line_len > self.line_cap(input) {
            self.consume();
            return too_long(input, line_len);
        }
        let line = &input[..line_len - 1];
        match line::parse(line.strip_suffix(b"\r").unwrap_or(line)) {
            Parsed::Request(request) => {
                self.consume();
                if line_len > FORWARD_LINE_MAX && is_forwarded(&request) {
                    return Step::Reject {
                        reply: LINE_TOO_LONG.hidden_if(noreply(&request)),
                        consumed: line_len,
                    };
                }
                Step::Request { request, consumed: line_len }
            }
            Parsed::NeedsData { request, length } => self.data(input, line_len, request, length),
            Parsed::Refused { rejection, swallow } => {
                self.consume();
                self.swallow = swallow;
                Step::Reject { reply: rejection, consumed: line_len }
            }
        }
    }

    fn data<'a>(
        &mut self,
        input: &'a [u8],
        line_len: usize,
        mut request: Request<'a>,
        length: u32,
    ) -> Step<'a> {
        let with_crlf = line::with_crlf(length);
        let refusal = if line_len > FORWARD_LINE_MAX {
            Some(LINE_TOO_LONG.hidden_if(noreply(&request)))
        } else if length as usize > self.limits.value {
            Some(too_large(input, &request))
        } else {
            None
        };
        if let Some(reply) = refusal {
            self.consume();
            self.swallow = with_crlf;
            return Step::Reject { reply, consumed: line_len };
        }
        let end = line_len + with_crlf as usize;
        let Some(data) = input.get(line_len..end) else {
            self.needed = end;
            return Step::Incomplete { needed: end };
        };
        self.consume();
        if !data.ends_with(b"\r\n") {
            let reply =
                Rejection::new(text::BAD_DATA_CHUNK, Cause::BadDataChunk).hidden_if(noreply(&request));
            return Step::Reject { reply, consumed: end };
        }
        match &mut request {
            Request::Store(store) => store.data = data,
            Request::Meta(meta) => meta.data = Some(data),
            _ => {}
        }
        Step::Request { request, consumed: end }
    }
}

const LINE_TOO_LONG: Rejection = Rejection::new(text::LINE_TOO_LONG, Cause::LineTooLong);

/// The first word among the bytes that can matter, and the spaces before it.
fn first_word(input: &[u8]) -> (&[u8], usize) {
    let spaces = input.iter().take(LEADING_SPACES_MAX + 1).take_while(|byte| **byte == b' ').count();
    let rest = &input[spaces..];
    let end = rest.iter().take(8).position(|byte| *byte == b' ').unwrap_or(rest.len().min(8));
    (&rest[..end], spaces)
}

/// A line that was not read. If it is a store its data block cannot be found, so the connection cannot go on: the value
/// would be read as commands.
fn too_long<'a>(input: &[u8], consumed: usize) -> Step<'a> {
    let (word, _) = first_word(input);
    let store = matches!(word, b"set" | b"add" | b"replace" | b"append" | b"prepend" | b"cas" | b"ms");
    let reply = if store { LINE_TOO_LONG.closing() } else { LINE_TOO_LONG };
    Step::Reject { reply, consumed }
}

/// Commands whose line goes to the server as it is. (Retrievals are written anew.)
fn is_forwarded(request: &Request<'_>) -> bool {
    matches!(request, Request::Mutate(_) | Request::Meta(_) | Request::Stats { .. })
}

/// memcached also removes the old item: always for `ms`, of the classic stores only for `set`.
fn too_large(input: &[u8], request: &Request<'_>) -> Rejection {
    let reply = Rejection::new(text::TOO_LARGE, Cause::ValueTooLarge).hidden_if(noreply(request));
    let (key, base64) = match request {
        Request::Store(store) if store.verb == Verb::Set => (store.key, false),
        Request::Meta(meta) => (meta.key, meta.base64),
        _ => return reply,
    };
    // The key is a part of the input, so this is its offset.
    let start = key.as_ptr().addr() - input.as_ptr().addr();
    reply.with_stale_key(StaleKey::new(start, key.len(), base64))
}

/// Errors of quiet meta commands are shown, those of classic `noreply` commands are not.
fn noreply(request: &Request<'_>) -> bool {
    match request {
        Request::Store(store) => store.noreply,
        Request::Mutate(mutate) => mutate.noreply,
        _ => false,
    }
}
