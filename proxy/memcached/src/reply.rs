//! What a server answers, one line at a time, without state.
//!
//! A line ends in CRLF. The two that announce data say how much follows; the caller copies `bytes + 2` of it without
//! looking. A line that cannot be a memcached answer is [`ReplyHead::Malformed`]: the connection is out of step and has
//! to be cut.

use memchr::{memchr, memchr2};

use crate::KEY_MAX;

/// Longest line of an answer, CRLF included. Statistics are the longest; a `VALUE` line has at most 310 bytes.
pub const REPLY_LINE_MAX: usize = 64 * 1024;

/// The first line of `input`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReplyHead<'a> {
    /// The line has not ended yet.
    Incomplete,
    /// `VALUE <key> <flags> <bytes> [<cas>]`
    Value {
        /// The key as the server sent it.
        key: &'a [u8],
        /// Length of the data; its CRLF is not counted.
        bytes: u32,
        /// Length of this line with CRLF; `bytes + 2` of data follow.
        line_len: usize,
    },
    /// `VA <size> <flags>*`
    MetaValue {
        /// Length of the data; its CRLF is not counted.
        bytes: u32,
        /// Length of this line with CRLF; `bytes + 2` of data follow.
        line_len: usize,
    },
    /// `END`
    End {
        /// Length of this line with CRLF.
        line_len: usize,
    },
    /// Any other line.
    Line {
        /// What its first word says.
        kind: LineKind,
        /// The line without CRLF.
        line: &'a [u8],
        /// Its length with CRLF.
        line_len: usize,
    },
    /// No memcached answers this.
    Malformed,
}

/// What the first word of an answer says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum LineKind {
    /// `STORED`
    Stored,
    /// `NOT_STORED`
    NotStored,
    /// `EXISTS`
    Exists,
    /// `NOT_FOUND`
    NotFound,
    /// `DELETED`
    Deleted,
    /// `TOUCHED`
    Touched,
    /// `OK`
    Ok,
    /// The new value of `incr` or `decr`.
    Number,
    /// `ERROR`, with or without words after it.
    Error,
    /// `CLIENT_ERROR ...`
    ClientError,
    /// `SERVER_ERROR ...`
    ServerError,
    /// `VERSION ...`
    Version,
    /// `STAT ...`
    Stat,
    /// `RESET`
    Reset,
    /// `HD`
    Hd,
    /// `EN`
    En,
    /// `NF`
    Nf,
    /// `NS`
    Ns,
    /// `EX`
    Ex,
    /// `MN`
    Mn,
    /// `ME ...`
    Me,
    /// A word that weir does not know; lines of `stats detail dump` and `stats cachedump` are such.
    Other,
}

impl LineKind {
    /// The server refused the command.
    pub const fn is_error(self) -> bool {
        matches!(self, LineKind::Error | LineKind::ClientError | LineKind::ServerError)
    }
}

/// Reads the first line of `input`.
///
/// The same bytes with more after them give the same answer; a shorter piece gives [`ReplyHead::Incomplete`].
#[inline]
pub fn parse_reply(input: &[u8]) -> ReplyHead<'_> {
    // Hits are the hot path: no search for LF, one search for the end of the key.
    if let Some(value) = value_line(input) {
        return value;
    }
    other_line(input)
}

/// `VALUE` when the line is complete and correct; every doubt is left to `other_line`.
#[inline]
fn value_line(input: &[u8]) -> Option<ReplyHead<'_>> {
    const WORD: &[u8] = b"VALUE ";
    let rest = input.strip_prefix(WORD)?;
    // Stops at LF too: the key must not reach into the next line.
    let key_len = memchr2(b' ', b'\n', &rest[..rest.len().min(KEY_MAX + 1)])?;
    if key_len == 0 || rest[key_len] == b'\n' {
        return None;
    }
    let (_flags, at) = digits(rest, key_len + 1, 20)?;
    if *rest.get(at)? != b' ' {
        return None;
    }
    let (bytes, mut at) = digits(rest, at + 1, 10)?;
    if *rest.get(at)? == b' ' {
        (_, at) = digits(rest, at + 1, 20)?;
    }
    if rest.get(at..at + 2)? != b"\r\n" {
        return None;
    }
    let bytes = u32::try_from(bytes).ok()?;
    Some(ReplyHead::Value { key: &rest[..key_len], bytes, line_len: WORD.len() + at + 2 })
}

/// A run of 1..=`most` digits from `from` on: its value (wrapping beyond 19 digits) and where it ends.
#[inline]
fn digits(bytes: &[u8], from: usize, most: usize) -> Option<(u64, usize)> {
    let mut value = 0_u64;
    let mut at = from;
    while let Some(digit) = bytes.get(at).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit < 10) {
        value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
        at += 1;
        if at - from > most {
            return None;
        }
    }
    (at > from).then_some((value, at))
}

fn other_line(input: &[u8]) -> ReplyHead<'_> {
    let window = &input[..input.len().min(REPLY_LINE_MAX)];
    let Some(lf) = memchr(b'\n', window) else {
        return if input.len() < REPLY_LINE_MAX { ReplyHead::Incomplete } else { ReplyHead::Malformed };
    };
    let Some(line) = window[..lf].strip_suffix(b"\r") else { return ReplyHead::Malformed };
    let line_len = lf + 1;
    let word_len = memchr(b' ', line).unwrap_or(line.len());
    let (word, bare) = (&line[..word_len], word_len == line.len());
    let kind = match word {
        b"END" if bare => return ReplyHead::End { line_len },
        b"VA" => {
            return match digits(line, word_len + 1, 10) {
                Some((bytes, at))
                    if bytes <= u64::from(u32::MAX) && matches!(line.get(at), None | Some(b' ')) =>
                {
                    ReplyHead::MetaValue { bytes: bytes as u32, line_len }
                }
                _ => ReplyHead::Malformed,
            };
        }
        b"VALUE" | b"END" => return ReplyHead::Malformed,
        b"STORED" if bare => LineKind::Stored,
        b"NOT_STORED" if bare => LineKind::NotStored,
        b"EXISTS" if bare => LineKind::Exists,
        b"NOT_FOUND" if bare => LineKind::NotFound,
        b"DELETED" if bare => LineKind::Deleted,
        b"TOUCHED" if bare => LineKind::Touched,
        b"OK" if bare => LineKind::Ok,
        b"RESET" if bare => LineKind::Reset,
        // `ERROR: shutdown not enabled` has the colon; `ERROR metadump not allowed` has not.
        b"ERROR" | b"ERROR:" => LineKind::Error,
        b"CLIENT_ERROR" => LineKind::ClientError,
        b"SERVER_ERROR" => LineKind::ServerError,
        b"VERSION" => LineKind::Version,
        b"STAT" => LineKind::Stat,
        b"HD" => LineKind::Hd,
        b"EN" => LineKind::En,
        b"NF" => LineKind::Nf,
        b"NS" => LineKind::Ns,
        b"EX" => LineKind::Ex,
        b"MN" if bare => LineKind::Mn,
        b"ME" => LineKind::Me,
        // Old servers pad the result of `decr` with spaces.
        _ if is_number(line) => LineKind::Number,
        _ if word.first().is_some_and(u8::is_ascii_alphabetic) => LineKind::Other,
        _ => return ReplyHead::Malformed,
    };
    ReplyHead::Line { kind, line, line_len }
}

fn is_number(line: &[u8]) -> bool {
    digits(line, 0, 20).is_some_and(|(_, at)| line[at..].iter().all(|byte| *byte == b' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        let input = b"VALUE key 0 3\r\nabc\r\nEND\r\n";
        assert_eq!(parse_reply(input), ReplyHead::Value { key: b"key", bytes: 3, line_len: 15 });
        let input = b"VALUE k 4294967295 0 18446744073709551615\r\n";
        assert_eq!(parse_reply(input), ReplyHead::Value { key: b"k", bytes: 0, line_len: input.len() });
        assert_eq!(parse_reply(b"VA 12 f0 t-1\r\n"), ReplyHead::MetaValue { bytes: 12, line_len: 14 });
        assert_eq!(parse_reply(b"VA 0\r\n"), ReplyHead::MetaValue { bytes: 0, line_len: 6 });
        assert_eq!(parse_reply(b"END\r\n"), ReplyHead::End { line_len: 5 });
    }

    #[test]
    fn lines() {
        for (text, kind) in [
            ("STORED", LineKind::Stored),
            ("NOT_STORED", LineKind::NotStored),
            ("EXISTS", LineKind::Exists),
            ("NOT_FOUND", LineKind::NotFound),
            ("DELETED", LineKind::Deleted),
            ("TOUCHED", LineKind::Touched),
            ("OK", LineKind::Ok),
            ("RESET", LineKind::Reset),
            ("18446744073709551615", LineKind::Number),
            ("9  ", LineKind::Number),
            ("ERROR", LineKind::Error),
            ("ERROR: shutdown not enabled", LineKind::Error),
            ("CLIENT_ERROR bad data chunk", LineKind::ClientError),
            ("SERVER_ERROR object too large for cache", LineKind::ServerError),
            ("VERSION 1.6.18", LineKind::Version),
            ("STAT pid 1", LineKind::Stat),
            ("HD", LineKind::Hd),
            ("HD s3 O1", LineKind::Hd),
            ("EN", LineKind::En),
            ("NF O1 k", LineKind::Nf),
            ("NS", LineKind::Ns),
            ("EX", LineKind::Ex),
            ("MN", LineKind::Mn),
            ("ME a exp=-1 la=0", LineKind::Me),
            ("PREFIX a get 1", LineKind::Other),
            ("BUSY currently processing", LineKind::Other),
            ("STOREDX", LineKind::Other),
        ] {
            let input = format!("{text}\r\nMN\r\n");
            let expected = ReplyHead::Line { kind, line: text.as_bytes(), line_len: text.len() + 2 };
            assert_eq!(parse_reply(input.as_bytes()), expected, "{text}");
            assert_eq!(kind.is_error(), text.contains("ERROR"), "{text}");
        }
    }

    #[test]
    fn malformed() {
        let long_key = format!("VALUE {} 0 1\r\n", "k".repeat(KEY_MAX + 1));
        for text in [
            "\r\n",
            "\n",
            "STORED\n",
            " STORED\r\n",
            "VALUE\r\n",
            "VALUE k\r\n",
            "VALUE k 0\r\n",
            "VALUE k x 1\r\n",
            "VALUE k 0 x\r\n",
            "VALUE k 0 -1\r\n",
            "VALUE k 0 1 \r\n",
            "VALUE  0 1\r\n",
            "VALUE k 0 4294967296\r\n",
            "VALUE k 0 1 2 3\r\n",
            "VALUE k 0 1\n",
            "VALUE k\r\nEND\r 0 3\r\nabc\r\n",
            "VA\r\n",
            "VA x\r\n",
            "VA 4294967296\r\n",
            "VA 1x\r\n",
            "END x\r\n",
            "\u{0}\r\n",
            "1x\r\n",
            "-1\r\n",
            &long_key,
        ] {
            assert_eq!(parse_reply(text.as_bytes()), ReplyHead::Malformed, "{text:?}");
        }
    }

    #[test]
    fn every_shorter_piece_is_incomplete() {
        for text in [
            "VALUE key 0 3 17\r\n",
            "VA 12 f0\r\n",
            "END\r\n",
            "SERVER_ERROR out of memory\r\n",
            "VALUE x\r\n",
        ] {
            for len in 0..text.len() {
                assert_eq!(parse_reply(&text.as_bytes()[..len]), ReplyHead::Incomplete, "{text:?} {len}");
            }
        }
    }

    #[test]
    fn a_line_has_a_longest_length() {
        let mut input = vec![b'x'; REPLY_LINE_MAX - 2];
        assert_eq!(parse_reply(&input), ReplyHead::Incomplete);
        input.extend_from_slice(b"\r\n");
        assert!(matches!(parse_reply(&input), ReplyHead::Line { line_len: REPLY_LINE_MAX, .. }));
        input.insert(0, b'x');
        assert_eq!(parse_reply(&input), ReplyHead::Malformed);
        assert_eq!(parse_reply(&input[..REPLY_LINE_MAX]), ReplyHead::Malformed);
    }
}
