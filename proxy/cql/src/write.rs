//! The notations of the protocol, written to the end of a buffer.
//!
//! Lengths that a notation cannot hold are cut, never wrapped: a \[string\] ends after 65,535 bytes (at a character).

use std::net::{IpAddr, SocketAddr};

use crate::read::Consistency;

/// \[byte\]
#[inline]
pub fn byte(out: &mut Vec<u8>, value: u8) {
    out.push(value);
}

/// \[short\]
#[inline]
pub fn short(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// \[int\]
#[inline]
pub fn int(out: &mut Vec<u8>, value: i32) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// \[int\] that is a bit set or a count.
#[inline]
pub fn bits(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// \[long\]
#[inline]
pub fn long(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// \[consistency\]
#[inline]
pub fn consistency(out: &mut Vec<u8>, value: Consistency) {
    short(out, value.0);
}

/// \[string\]: at most 65,535 bytes of `text`, cut between characters.
pub fn string(out: &mut Vec<u8>, text: &str) {
    let mut end = text.len().min(usize::from(u16::MAX));
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    short_bytes(out, &text.as_bytes()[..end]);
}

/// \[short bytes\], and a \[string\] that is already bytes: at most 65,535 of them.
#[inline]
pub fn short_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = bytes.len().min(usize::from(u16::MAX));
    short(out, length as u16);
    out.extend_from_slice(&bytes[..length]);
}

/// \[long string\] and \[bytes\]: at most 2 GiB - 1.
#[inline]
pub fn bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = bytes.len().min(i32::MAX as usize);
    int(out, length as i32);
    out.extend_from_slice(&bytes[..length]);
}

/// \[bytes\] that may be null.
#[inline]
pub fn nullable(out: &mut Vec<u8>, value: Option<&[u8]>) {
    match value {
        Some(value) => bytes(out, value),
        None => int(out, -1),
    }
}

/// \[inetaddr\]
pub fn inet_address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => {
            byte(out, 4);
            out.extend_from_slice(&address.octets());
        }
        IpAddr::V6(address) => {
            byte(out, 16);
            out.extend_from_slice(&address.octets());
        }
    }
}

/// \[inet\]
pub fn inet(out: &mut Vec<u8>, address: SocketAddr) {
    inet_address(out, address.ip());
    int(out, i32::from(address.port()));
}

/// A [short] count whose value is known only after what it counts was written.
#[must_use = "the count stays zero until it is closed"]
#[derive(Debug)]
pub struct ShortCount {
    at: usize,
    count: u16,
}

impl ShortCount {
    /// Reserves the two bytes.
    pub fn open(out: &mut Vec<u8>) -> Self {
        let at = out.len();
        short(out, 0);
        Self { at, count: 0 }
    }

    /// Whether one more fits; counts it if so.
    pub fn one_more(&mut self) -> bool {
        match self.count.checked_add(1) {
            Some(count) => self.count = count,
            None => return false,
        }
        true
    }

    /// Writes the count.
    pub fn close(self, out: &mut [u8]) -> u16 {
        if let Some(place) = out.get_mut(self.at..self.at + 2) {
            place.copy_from_slice(&self.count.to_be_bytes());
        }
        self.count
    }
}

/// \[string list\]: at most 65,535 strings.
pub fn string_list<'a>(out: &mut Vec<u8>, strings: impl IntoIterator<Item = &'a str>) {
    let mut count = ShortCount::open(out);
    for text in strings {
        if !count.one_more() {
            break;
        }
        string(out, text);
    }
    count.close(out);
}

/// \[string map\]: at most 65,535 pairs.
pub fn string_map<'a>(out: &mut Vec<u8>, pairs: impl IntoIterator<Item = (&'a str, &'a str)>) {
    let mut count = ShortCount::open(out);
    for (key, value) in pairs {
        if !count.one_more() {
            break;
        }
        string(out, key);
        string(out, value);
    }
    count.close(out);
}

/// \[string multimap\]: at most 65,535 keys.
pub fn string_multimap<'a>(out: &mut Vec<u8>, entries: impl IntoIterator<Item = (&'a str, &'a [&'a str])>) {
    let mut count = ShortCount::open(out);
    for (key, values) in entries {
        if !count.one_more() {
            break;
        }
        string(out, key);
        string_list(out, values.iter().copied());
    }
    count.close(out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_is_cut_between_characters() {
        let mut out = Vec::new();
        string(&mut out, &"é".repeat(40_000));
        assert_eq!(&out[..2], 65_534_u16.to_be_bytes());
        assert_eq!(out.len(), 2 + 65_534);
        assert!(std::str::from_utf8(&out[2..]).is_ok());
    }

    #[test]
    fn counts_are_patched() {
        let mut out = vec![7];
        string_list(&mut out, ["a", "bc"]);
        assert_eq!(out, b"\x07\0\x02\0\x01a\0\x02bc");
        out.clear();
        string_multimap(&mut out, [("k", &["v", "w"][..])]);
        assert_eq!(out, b"\0\x01\0\x01k\0\x02\0\x01v\0\x01w");
    }
}
