//! Meta commands: single letters after the key, passed through; weir reads only what routing and order need.
//!
//! Flags that memcached does not know are passed on, so that a newer server's flags work; it answers one line either
//! way. What weir checks itself is what could cost that one line: lengths, counts, repeated flags (weir removes `q`,
//! so a repeated `q` would go unseen) and base64 keys (they decide the route).

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::Verb;
use crate::line::Tokens;

/// memcached takes at most 19 words per meta command, the command and the key among them.
pub(crate) const WORDS_MAX: usize = 19;

/// Padding as memcached demands it. Like memcached, the bits that padding leaves over are ignored; unlike it, bytes
/// outside the alphabet are refused instead of skipped.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical)
        .with_decode_allow_trailing_bits(true),
);

/// `mg`, `ms`, `md`, `ma` or `me`.
#[derive(Clone, Debug)]
pub struct Meta<'a> {
    /// `Mg`, `Ms`, `Md`, `Ma` or `Me`.
    pub verb: Verb,
    /// The key as sent, still base64 where [`base64`](Meta::base64) says so.
    pub key: &'a [u8],
    /// The line from the command word on, without CRLF.
    pub line: &'a [u8],
    /// The value with its CRLF, for `ms`.
    pub data: Option<&'a [u8]>,
    /// The `q` flag: the client does not want the usual answer, see [`Meta::hides`].
    pub quiet: bool,
    /// The `b` flag: the key is base64.
    pub base64: bool,
    /// `mg` that neither changes nor reports the item's state: only flags of `v k s f O P L q b u`.
    ///
    /// Its answer may still carry `W`, `X` or `Z` when somebody marked the item stale; such an answer is for one
    /// client only.
    pub plain_read: bool,
}

impl Meta<'_> {
    /// Appends the command without its `q` flag, CRLF and the data: the same command with an answer in every case.
    pub fn write_loud(&self, out: &mut Vec<u8>) {
        if self.quiet {
            let fixed = fixed_words(self.verb);
            for (position, word) in Tokens::new(self.line).enumerate() {
                if position >= fixed && word.first() == Some(&b'q') {
                    continue;
                }
                if position > 0 {
                    out.push(b' ');
                }
                out.extend_from_slice(word);
            }
        } else {
            out.extend_from_slice(self.line);
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(self.data.unwrap_or_default());
    }

    /// The key as the server stores it: what the ring hashes. `scratch` holds a decoded base64 key.
    pub fn routing_key<'s>(&'s self, scratch: &'s mut [u8; 256]) -> &'s [u8] {
        if !self.base64 {
            return self.key;
        }
        // The decoder refused keys that cannot be decoded, so the fallback is never taken for a decoded request.
        match decode_key(self.key, scratch) {
            Some(len) => &scratch[..len],
            None => self.key,
        }
    }

    /// Whether memcached would keep this answer line (without CRLF) from the client because the command is quiet. The
    /// data that follows a hidden `VA` line is hidden with it.
    pub fn hides(&self, reply: &[u8]) -> bool {
        self.quiet && quiet_hides(self.verb, reply)
    }
}

/// Whether memcached hides this answer line (without CRLF) to a quiet command: `mg` hides misses (`EN`), `ms` and `md`
/// hide success (`HD`), `ma` hides success (`HD`, `VA`). Everything else is shown, `NF` of `md` and all errors included.
///
/// One difference: a quiet `ma` that creates its item (`N`) is answered by memcached 1.6.18 and hidden here, because
/// its line looks like any success.
pub fn quiet_hides(verb: Verb, line: &[u8]) -> bool {
    let code = line.split(|byte| *byte == b' ').next().unwrap_or_default();
    match verb {
        Verb::Mg => code == b"EN",
        Verb::Ms | Verb::Md => code == b"HD",
        Verb::Ma => code == b"HD" || code == b"VA",
        _ => false,
    }
}

/// Words before the first flag.
pub(crate) const fn fixed_words(verb: Verb) -> usize {
    match verb {
        Verb::Ms => 3,
        _ => 2,
    }
}

/// What the flags say.
#[derive(Clone, Copy, Default)]
pub(crate) struct Flags {
    pub quiet: bool,
    pub base64: bool,
    pub plain_read: bool,
    /// A letter twice, or a byte that cannot be a flag.
    pub duplicate: bool,
}

impl Flags {
    /// Only the first byte of a word counts, as in memcached: `qx` is `q`.
    pub fn read<'w>(words: impl Iterator<Item = &'w [u8]>) -> Flags {
        let mut flags = Flags { plain_read: true, ..Flags::default() };
        let mut seen = 0_u128;
        for word in words {
            let Some(&letter) = word.first() else { continue };
            if letter >= 127 || seen & (1 << letter) != 0 {
                flags.duplicate = true;
                return flags;
            }
            seen |= 1 << letter;
            match letter {
                b'q' => flags.quiet = true,
                b'b' => flags.base64 = true,
                b'v' | b'k' | b's' | b'f' | b'O' | b'P' | b'L' | b'u' => {}
                _ => flags.plain_read = false,
            }
        }
        flags
    }
}

/// Bytes written to `scratch`, when `key` is base64 of at least one byte.
pub(crate) fn decode_key(key: &[u8], scratch: &mut [u8; 256]) -> Option<usize> {
    BASE64.decode_slice(key, scratch).ok().filter(|len| *len > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Request, RequestDecoder, Step};

    fn meta(bytes: &[u8]) -> Meta<'_> {
        match RequestDecoder::default().decode(bytes) {
            Step::Request { request: Request::Meta(meta), consumed } if consumed == bytes.len() => meta,
            other => panic!("{other:?}"),
        }
    }

    fn loud(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        meta(bytes).write_loud(&mut out);
        out
    }

    #[test]
    fn loud_removes_only_the_quiet_flag() {
        assert_eq!(loud(b"mg key v q k Oq\r\n"), b"mg key v k Oq\r\n");
        assert_eq!(loud(b"mg q q\r\n"), b"mg q\r\n");
        assert_eq!(loud(b"md  key  qx \r\n"), b"md key\r\n");
        assert_eq!(loud(b" ms q 2 T0 q\r\nhi\r\n"), b"ms q 2 T0\r\nhi\r\n");
        assert_eq!(loud(b"mg  key v \r\n"), b"mg  key v\r\n");
        assert_eq!(loud(b"me key q\r\n"), b"me key q\r\n", "me knows no quiet form");
    }

    #[test]
    fn routing_key_is_decoded() {
        let mut scratch = [0; 256];
        assert_eq!(meta(b"mg YQ== b v\r\n").routing_key(&mut scratch), b"a");
        assert_eq!(meta(b"mg YR== b v\r\n").routing_key(&mut scratch), b"a", "left-over bits are ignored");
        assert_eq!(meta(b"mg YQ== v\r\n").routing_key(&mut scratch), b"YQ==");
        let longest = [b"mg ".as_slice(), &[b'A'; 248], b" b\r\n"].concat();
        assert_eq!(meta(&longest).routing_key(&mut scratch).len(), 186);
    }

    #[test]
    fn quiet_rules() {
        for (command, hidden, shown) in [
            (&b"mg k q\r\n"[..], &["EN", "EN Oabc kk"][..], &["HD", "VA 1", "CLIENT_ERROR invalid flag"][..]),
            (
                b"ms k 1 q\r\nx\r\n",
                &["HD", "HD O1"],
                &["NS", "EX", "NF", "SERVER_ERROR object too large for cache"],
            ),
            (b"md k q\r\n", &["HD"], &["NF", "EX"]),
            (b"ma k q\r\n", &["HD", "VA 2"], &["NF", "EX", "NS"]),
            (b"me k q\r\n", &[], &["EN", "ME k exp=-1"]),
            (b"mg k v\r\n", &[], &["EN", "HD"]),
        ] {
            let command = meta(command);
            for line in hidden {
                assert!(command.hides(line.as_bytes()), "{command:?} {line}");
            }
            for line in shown {
                assert!(!command.hides(line.as_bytes()), "{command:?} {line}");
            }
        }
    }

    #[test]
    fn plain_reads() {
        for plain in ["mg key", "mg key v", "mg key v k s f O123 q u", "mg YWFh b v"] {
            assert!(meta(format!("{plain}\r\n").as_bytes()).plain_read, "{plain}");
        }
        for flag in ["N30", "R30", "T30", "E1", "M", "I", "h", "l", "t", "c", "C1", "x", "?"] {
            assert!(!meta(format!("mg k v {flag}\r\n").as_bytes()).plain_read, "{flag}");
        }
        assert!(!meta(b"md k\r\n").plain_read);
        assert!(!meta(b"me k\r\n").plain_read);
    }
}
