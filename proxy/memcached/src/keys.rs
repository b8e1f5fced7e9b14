//! Keys of one retrieval line, counted and checked in one pass and never copied.

use std::iter::FusedIterator;
use std::ops::Range;

use memchr::memchr;

use crate::rejection::Cause;

/// Longest key, in bytes; memcached's own bound. Base64 keys of meta commands are measured as sent.
pub const KEY_MAX: usize = 250;

/// The checked keys of one line, in the order asked, duplicates kept.
///
/// Each is 1..=[`KEY_MAX`] bytes without space or control character. Iterating costs a search for the next space.
#[derive(Clone, Debug)]
pub struct Keys<'a> {
    line: &'a [u8],
    at: usize,
    left: usize,
}

impl<'a> Keys<'a> {
    /// Counts and checks the keys in `rest`, the part of a line after its fixed arguments.
    pub(crate) fn check(rest: &'a [u8]) -> Result<Keys<'a>, Cause> {
        let mut at = 0;
        let mut left = 0;
        while let Some((key, next)) = next_key(rest, at) {
            if let Some(fault) = fault(&rest[key]) {
                return Err(fault);
            }
            left += 1;
            at = next;
        }
        if left == 0 {
            return Err(Cause::ArgumentCount);
        }
        Ok(Keys { line: trim_spaces(rest), at: 0, left })
    }

    /// The keys of a line, none of which was taken, but the first one.
    pub(crate) fn without_first(&self) -> Keys<'a> {
        debug_assert_eq!(self.at, 0, "they are counted from the start");
        let first = next_key(self.line, 0);
        let line = first.map_or(&[][..], |(_, next)| trim_spaces(&self.line[next..]));
        Keys { line, at: 0, left: self.left.saturating_sub(1) }
    }

    /// How many keys are still to come: all of them before the first `next`.
    pub fn len(&self) -> usize {
        self.left
    }

    /// Whether all keys were taken. A decoded request starts with at least one.
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// All keys as sent, from the first byte of the first to the last byte of the last: the same however many were
    /// taken. For [`split_keys`] and [`next_key`].
    pub fn as_bytes(&self) -> &'a [u8] {
        self.line
    }
}

impl<'a> Iterator for Keys<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (key, next) = next_key(self.line, self.at)?;
        self.at = next;
        self.left = self.left.saturating_sub(1);
        Some(&self.line[key])
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Keys<'_> {}

impl FusedIterator for Keys<'_> {}

/// The first key at or after `from`: its range, and where to go on. Keys stand between runs of spaces.
#[inline]
pub fn next_key(bytes: &[u8], from: usize) -> Option<(Range<usize>, usize)> {
    let mut start = from;
    while *bytes.get(start)? == b' ' {
        start += 1;
    }
    let end = match memchr(b' ', &bytes[start..]) {
        Some(offset) => start + offset,
        None => bytes.len(),
    };
    // One space is skipped at once: the usual distance to the next key.
    Some((start..end, (end + 1).min(bytes.len())))
}

/// The keys in bytes that [`Keys::as_bytes`] gave.
pub fn split_keys(bytes: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    let mut at = 0;
    std::iter::from_fn(move || {
        let (key, next) = next_key(bytes, at)?;
        at = next;
        Some(&bytes[key])
    })
}

/// Without the spaces at both ends. (Not `trim_ascii`: other white space is a control character to be refused.)
pub(crate) fn trim_spaces(mut bytes: &[u8]) -> &[u8] {
    while let Some(rest) = bytes.strip_prefix(b" ") {
        bytes = rest;
    }
    while let Some(rest) = bytes.strip_suffix(b" ") {
        bytes = rest;
    }
    bytes
}

/// What is wrong with a key that came out of a line split at spaces.
pub(crate) fn fault(key: &[u8]) -> Option<Cause> {
    if key.len() > KEY_MAX {
        Some(Cause::KeyTooLong)
    } else if has_control(key) {
        Some(Cause::ControlCharacter)
    } else {
        None
    }
}

/// Control characters: memcached 1.6.18 stores such keys, cuts the line at NUL, and its documentation forbids both.
pub(crate) fn has_control(bytes: &[u8]) -> bool {
    // A fold without early exit: the compiler turns it into vector code.
    bytes.iter().fold(false, |found, byte| found | (*byte < b' ') | (*byte == 0x7f))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_duplicates_and_runs_of_spaces() {
        let keys = Keys::check(b"  b a  b   c ").unwrap();
        assert_eq!(keys.len(), 4);
        assert_eq!(keys.as_bytes(), b"b a  b   c");
        let list: Vec<_> = keys.clone().collect();
        assert_eq!(list, [&b"b"[..], b"a", b"b", b"c"]);
        assert_eq!(split_keys(keys.as_bytes()).collect::<Vec<_>>(), list);
        let mut rest = keys;
        rest.next();
        assert_eq!((rest.len(), rest.as_bytes()), (3, &b"b a  b   c"[..]));
    }

    #[test]
    fn a_cursor_over_a_copied_line_finds_the_same_keys() {
        let line = b"one  two three";
        let mut at = 0;
        let mut found = Vec::new();
        while let Some((key, next)) = next_key(line, at) {
            found.push(&line[key]);
            at = next;
        }
        assert_eq!(found, [&b"one"[..], b"two", b"three"]);
        assert_eq!(next_key(line, line.len()), None);
        assert_eq!(next_key(line, usize::MAX), None);
    }

    #[test]
    fn long_and_unprintable_keys_are_refused_anywhere() {
        let long = [b'k'; KEY_MAX + 1];
        assert!(Keys::check(&long[1..]).is_ok());
        assert_eq!(Keys::check(&long).unwrap_err(), Cause::KeyTooLong);
        let mut later = b"a ".to_vec();
        later.extend_from_slice(&long);
        later.extend_from_slice(b" z");
        assert_eq!(Keys::check(&later).unwrap_err(), Cause::KeyTooLong);
        for byte in (0..b' ').chain([0x7f]) {
            assert_eq!(
                Keys::check(&[b'a', b' ', b'k', byte]).unwrap_err(),
                Cause::ControlCharacter,
                "{byte:#x}"
            );
        }
        assert_eq!(Keys::check(b"\x80\xff caf\xc3\xa9").unwrap().len(), 2);
        assert_eq!(Keys::check(b"   ").unwrap_err(), Cause::ArgumentCount);
    }
}
