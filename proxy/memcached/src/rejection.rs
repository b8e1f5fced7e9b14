//! A line that weir refuses: the words for the client, and a bounded label for the metric.

use std::ops::Range;

/// Why a line was refused. A closed set: it is a metric label.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Cause {
    /// A server's administration command, which weir does not carry to one server of several.
    AdminCommand,
    /// Wrong number of arguments.
    ArgumentCount,
    /// A data block without CRLF where its length says.
    BadDataChunk,
    /// A key that is flagged as base64 and is not.
    BadKey,
    /// A length of a data block that cannot be read.
    BadLength,
    /// Another number that cannot be read.
    BadNumber,
    /// A control character in the line.
    ControlCharacter,
    /// The first line of an HTTP request.
    Http,
    /// A key of more than [`KEY_MAX`](crate::KEY_MAX) bytes.
    KeyTooLong,
    /// A line over its cap.
    LineTooLong,
    /// Meta flags: one twice, or too many.
    MetaFlags,
    /// No such command.
    UnknownCommand,
    /// A value over [`DecodeLimits::value`](crate::DecodeLimits::value).
    ValueTooLarge,
}

impl Cause {
    /// Every cause, so that its counter can exist before the first refusal.
    pub const ALL: [Cause; 13] = [
        Cause::AdminCommand,
        Cause::ArgumentCount,
        Cause::BadDataChunk,
        Cause::BadKey,
        Cause::BadLength,
        Cause::BadNumber,
        Cause::ControlCharacter,
        Cause::Http,
        Cause::KeyTooLong,
        Cause::LineTooLong,
        Cause::MetaFlags,
        Cause::UnknownCommand,
        Cause::ValueTooLarge,
    ];

    /// The metric label.
    pub const fn label(self) -> &'static str {
        match self {
            Cause::AdminCommand => "admin_command",
            Cause::ArgumentCount => "argument_count",
            Cause::BadDataChunk => "bad_data_chunk",
            Cause::BadKey => "bad_key",
            Cause::BadLength => "bad_length",
            Cause::BadNumber => "bad_number",
            Cause::ControlCharacter => "control_character",
            Cause::Http => "http",
            Cause::KeyTooLong => "key_too_long",
            Cause::LineTooLong => "line_too_long",
            Cause::MetaFlags => "meta_flags",
            Cause::UnknownCommand => "unknown_command",
            Cause::ValueTooLarge => "value_too_large",
        }
    }
}

/// Where the refused store's key stands in the decoded input.
///
/// memcached removes the old item when a new value is too large for it, so that nobody goes on reading the old one.
/// Whoever refuses the store in memcached's place must delete the key likewise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StaleKey {
    start: u32,
    len: u8,
    base64: bool,
}

impl StaleKey {
    pub(crate) fn new(start: usize, len: usize, base64: bool) -> Option<StaleKey> {
        Some(StaleKey { start: u32::try_from(start).ok()?, len: u8::try_from(len).ok()?, base64 })
    }

    /// The key's bytes are `input[range]`, with the `input` that was given to the decoder.
    pub fn range(self) -> Range<usize> {
        let start = self.start as usize;
        start..start + usize::from(self.len)
    }

    /// Whether those bytes are base64 (`ms` with the `b` flag): delete it with `md <key> b`.
    pub const fn base64(self) -> bool {
        self.base64
    }
}

/// A refused line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rejection {
    reply: &'static [u8],
    cause: Cause,
    close: bool,
    stale_key: Option<StaleKey>,
}

impl Rejection {
    pub(crate) const fn new(reply: &'static [u8], cause: Cause) -> Rejection {
        Rejection { reply, cause, close: false, stale_key: None }
    }

    /// memcached hides most refusals of a command that says `noreply`: the client would not read them.
    pub(crate) const fn hidden_if(mut self, noreply: bool) -> Rejection {
        if noreply {
            self.reply = b"";
        }
        self
    }

    pub(crate) const fn closing(mut self) -> Rejection {
        self.close = true;
        self
    }

    pub(crate) const fn with_stale_key(mut self, key: Option<StaleKey>) -> Rejection {
        self.stale_key = key;
        self
    }

    /// The complete answer with CRLF. Empty where memcached answers nothing: the command said `noreply`.
    pub const fn reply(&self) -> &'static [u8] {
        self.reply
    }

    /// The metric label.
    pub const fn cause(&self) -> &'static str {
        self.cause.label()
    }

    /// The same, as the closed set.
    pub const fn kind(&self) -> Cause {
        self.cause
    }

    /// Whether memcached closes the connection after it (only the first line of HTTP).
    pub const fn close(&self) -> bool {
        self.close
    }

    /// Set when a value was too large: the key to delete, as memcached does.
    pub const fn stale_key(&self) -> Option<StaleKey> {
        self.stale_key
    }
}
