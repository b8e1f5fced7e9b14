//! Bytes that are not what they should be.

use std::fmt;

/// Why bytes are not a frame, or a body not of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Garbled {
    /// The head does not begin as heads do.
    NotAFrame,
    /// A body is longer than any of its kind.
    TooLong {
        /// As the head says.
        length: u32,
    },
    /// More questions or answers than a frame may hold.
    TooMany {
        /// As the body says.
        count: u16,
    },
    /// The body ends before what it holds.
    Cut,
    /// The body goes on after what it holds.
    Excess,
    /// A field has a value that it cannot have.
    Value,
    /// A text is not UTF-8, or longer than texts of its place are.
    Text,
}

impl fmt::Display for Garbled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Garbled::NotAFrame => f.write_str("these bytes do not begin a frame"),
            Garbled::TooLong { length } => write!(f, "a frame of {length} bytes is too long"),
            Garbled::TooMany { count } => write!(f, "{count} in one frame are too many"),
            Garbled::Cut => f.write_str("a frame ends too early"),
            Garbled::Excess => f.write_str("a frame goes on after its end"),
            Garbled::Value => f.write_str("a field has a value that it cannot have"),
            Garbled::Text => f.write_str("a text is not UTF-8 or too long"),
        }
    }
}

impl std::error::Error for Garbled {}
