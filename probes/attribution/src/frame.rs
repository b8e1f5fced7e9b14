//! The head of a frame, and reading a body from its begin.

use crate::{Garbled, VERSION};

/// Bytes of a head.
pub const HEAD: usize = 8;
const MAGIC: [u8; 2] = *b"wa";

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Questions.
    Ask,
    /// Answers.
    Answers,
    /// A refusal.
    Refusal,
    /// Something that this version does not know.
    Other(u8),
}

impl Kind {
    fn of(byte: u8) -> Kind {
        match byte {
            1 => Kind::Ask,
            2 => Kind::Answers,
            3 => Kind::Refusal,
            other => Kind::Other(other),
        }
    }

    fn byte(self) -> u8 {
        match self {
            Kind::Ask => 1,
            Kind::Answers => 2,
            Kind::Refusal => 3,
            Kind::Other(byte) => byte,
        }
    }
}

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Bytes that follow.
    pub length: u32,
    /// The version of the one who sent it.
    pub version: u8,
    /// What follows.
    pub kind: Kind,
}

impl Head {
    /// Reads one; a body of more than `most` bytes is not to be read.
    ///
    /// # Errors
    /// [`Garbled::NotAFrame`], [`Garbled::TooLong`].
    pub fn read(bytes: &[u8; HEAD], most: usize) -> Result<Head, Garbled> {
        let [a, b, c, d, e, f, version, kind] = *bytes;
        if [e, f] != MAGIC {
            return Err(Garbled::NotAFrame);
        }
        let length = u32::from_be_bytes([a, b, c, d]);
        if usize::try_from(length).is_ok_and(|length| length > most) {
            return Err(Garbled::TooLong { length });
        }
        Ok(Head { length, version, kind: Kind::of(kind) })
    }
}

/// Appends a frame whose body `fill` writes.
pub(crate) fn write(out: &mut Vec<u8>, kind: Kind, fill: impl FnOnce(&mut Vec<u8>)) {
    let begin = out.len();
    out.extend([0; 4]);
    out.extend(MAGIC);
    out.extend([VERSION, kind.byte()]);
    fill(out);
    // Every body is far below 4 GiB by the bounds of what it holds.
    let length = u32::try_from(out.len() - begin - HEAD).unwrap_or(u32::MAX);
    out[begin..begin + 4].copy_from_slice(&length.to_be_bytes());
}

/// What is left of a body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rest<'b>(pub &'b [u8]);

impl<'b> Rest<'b> {
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Garbled> {
        let (first, rest) = self.0.split_first_chunk::<N>().ok_or(Garbled::Cut)?;
        self.0 = rest;
        Ok(*first)
    }

    pub fn u8(&mut self) -> Result<u8, Garbled> {
        self.array().map(|[byte]| byte)
    }

    pub fn u16(&mut self) -> Result<u16, Garbled> {
        self.array().map(u16::from_be_bytes)
    }

    pub fn u32(&mut self) -> Result<u32, Garbled> {
        self.array().map(u32::from_be_bytes)
    }

    pub fn u64(&mut self) -> Result<u64, Garbled> {
        self.array().map(u64::from_be_bytes)
    }

    pub fn text(&mut self, most: usize) -> Result<&'b str, Garbled> {
        let length = usize::from(self.u8()?);
        let (text, rest) = self.0.split_at_checked(length).ok_or(Garbled::Cut)?;
        self.0 = rest;
        std::str::from_utf8(text).ok().filter(|text| text.len() <= most).ok_or(Garbled::Text)
    }

    pub fn end(self) -> Result<(), Garbled> {
        if self.0.is_empty() { Ok(()) } else { Err(Garbled::Excess) }
    }
}

/// Appends a text, cut at a character where it is longer than `most` (at most 255).
pub(crate) fn text(out: &mut Vec<u8>, text: &str, most: usize) {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    out.push(end as u8);
    out.extend(&text.as_bytes()[..end]);
}
