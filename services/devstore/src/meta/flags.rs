//! The flags of a meta command, read once, with the errors of memcached 1.6.18.
//!
//! All commands share one set of flags, and one that means nothing to a command is ignored by it. An unknown flag is
//! refused at once; of several tokens that cannot be read the last one is named.

use crate::store::{Now, Store};
use crate::words::{signed, unsigned, words};
use weir_memcached::{Meta, Verb, text};

/// Longest opaque with its letter, bytes.
const OPAQUE_MAX: usize = 33;

/// What the flags of one command say.
pub struct Flags<'a> {
    /// All words after the fixed ones: they are answered in order. None is empty.
    pub words: Vec<&'a [u8]>,
    /// `C`
    pub compare: Option<u64>,
    /// `D`
    pub delta: u64,
    /// `F`
    pub client_flags: u32,
    /// `I`
    pub invalidate: bool,
    /// `J`
    pub initial: u64,
    /// `M`, or 0.
    pub mode: u8,
    /// `N`
    pub vivify: Option<Now>,
    /// `R`
    pub recache: Option<i64>,
    /// `T`
    pub expires: Option<Now>,
    /// `u`
    pub no_bump: bool,
    /// `v`
    pub value: bool,
}

impl<'a> Flags<'a> {
    /// Reads the flags of a command that the codec has passed.
    pub fn read(meta: &Meta<'a>, store: &Store, now: Now) -> Result<Self, &'static [u8]> {
        let fixed = if meta.verb == Verb::Ms { 3 } else { 2 };
        let mut flags = Self {
            words: words(meta.line).skip(fixed).collect(),
            compare: None,
            delta: 1,
            client_flags: 0,
            invalidate: false,
            initial: 0,
            mode: 0,
            vivify: None,
            recache: None,
            expires: None,
            no_bump: false,
            value: false,
        };
        let mut fault: Option<&'static [u8]> = None;
        for at in 0..flags.words.len() {
            let Some((letter, token)) = flags.words[at].split_first() else { continue };
            let time = signed(token).map(|given| store.expiry(given, now));
            let (readable, words): (bool, &[u8]) = match letter {
                b'b' | b'c' | b'f' | b'h' | b'k' | b'l' | b'q' | b's' | b't' | b'L' | b'O' | b'P' => continue,
                b'C' => {
                    flags.compare = unsigned(token);
                    (flags.compare.is_some(), b"CLIENT_ERROR bad token in command line format\r\n")
                }
                b'D' => {
                    let delta = unsigned(token);
                    flags.delta = delta.unwrap_or(1);
                    (delta.is_some(), b"CLIENT_ERROR invalid numeric delta value\r\n")
                }
                b'F' => {
                    let given = unsigned(token);
                    // memcached keeps the last 32 bits.
                    flags.client_flags = given.unwrap_or(0) as u32;
                    (given.is_some(), fault.unwrap_or(text::BAD_FORMAT))
                }
                b'I' => {
                    flags.invalidate = true;
                    continue;
                }
                b'J' => {
                    let initial = unsigned(token);
                    flags.initial = initial.unwrap_or(0);
                    (initial.is_some(), b"CLIENT_ERROR invalid numeric initial value\r\n")
                }
                b'M' => {
                    flags.mode = token.first().copied().unwrap_or(0);
                    (token.len() == 1, b"CLIENT_ERROR incorrect length for M token\r\n")
                }
                b'N' => {
                    flags.vivify = time;
                    (time.is_some(), b"CLIENT_ERROR bad token in command line format\r\n")
                }
                b'R' => {
                    flags.recache = signed(token);
                    (time.is_some(), b"CLIENT_ERROR bad token in command line format\r\n")
                }
                b'T' => {
                    flags.expires = time;
                    (time.is_some(), b"CLIENT_ERROR bad token in command line format\r\n")
                }
                b'u' => {
                    flags.no_bump = true;
                    continue;
                }
                b'v' => {
                    flags.value = true;
                    continue;
                }
                _ => return Err(general(meta.verb, b"CLIENT_ERROR invalid flag\r\n")),
            };
            if !readable {
                fault = Some(words);
            }
        }
        if let Some(words) = fault {
            return Err(general(meta.verb, words));
        }
        if flags.words.iter().any(|word| word[0] == b'O' && word.len() > OPAQUE_MAX) {
            return Err(b"CLIENT_ERROR opaque token too long\r\n");
        }
        Ok(flags)
    }
}

/// `md` and `ma` have one message for all.
fn general(verb: Verb, words: &'static [u8]) -> &'static [u8] {
    if matches!(verb, Verb::Mg | Verb::Ms) { words } else { text::INVALID_OR_DUPLICATE_FLAG }
}
