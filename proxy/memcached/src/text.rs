//! The fixed words of the protocol, each with its CRLF: what weir answers when it answers itself.
//!
//! Wording: memcached 1.6.18, compared with the real server by `tests/against_memcached.rs`. Lines that memcached does
//! not have name weir.

/// Unknown command, or a known one with the wrong number of arguments.
pub const ERROR: &[u8] = b"ERROR\r\n";
/// A number, key or length that cannot be read.
pub const BAD_FORMAT: &[u8] = b"CLIENT_ERROR bad command line format\r\n";
/// `delete` with arguments after the key that are neither `0` nor `noreply`.
pub const BAD_DELETE: &[u8] = b"CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]\r\n";
/// A data block that does not end in CRLF where its length says.
pub const BAD_DATA_CHUNK: &[u8] = b"CLIENT_ERROR bad data chunk\r\n";
/// `gat`, `gats`, `touch`, `flush_all` with an unreadable time.
pub const BAD_EXPTIME: &[u8] = b"CLIENT_ERROR invalid exptime argument\r\n";
/// `incr`, `decr` with an unreadable amount.
pub const BAD_DELTA: &[u8] = b"CLIENT_ERROR invalid numeric delta argument\r\n";
/// A meta flag given twice (`mg`, `ms`).
pub const DUPLICATE_FLAG: &[u8] = b"CLIENT_ERROR duplicate flag\r\n";
/// A meta flag given twice, or a key that is not base64 (`md`, `ma`).
pub const INVALID_OR_DUPLICATE_FLAG: &[u8] = b"CLIENT_ERROR invalid or duplicate flag\r\n";
/// A key flagged `b` that is not base64 (`mg`, `ms`).
pub const KEY_NOT_BASE64: &[u8] = b"CLIENT_ERROR error decoding key\r\n";
/// More meta flags than memcached takes (`mg`).
pub const MG_TOO_MANY_FLAGS: &[u8] = b"CLIENT_ERROR options flags are too long\r\n";
/// More meta flags than memcached takes (`ms`, `md`, `ma`).
pub const TOO_MANY_FLAGS: &[u8] = b"CLIENT_ERROR options flags too long\r\n";
/// A line over its cap; memcached closes the connection instead.
pub const LINE_TOO_LONG: &[u8] = b"CLIENT_ERROR line too long\r\n";
/// A value over [`DecodeLimits::value`](crate::DecodeLimits::value).
pub const TOO_LARGE: &[u8] = b"SERVER_ERROR object too large for cache\r\n";
/// `shutdown`: the words of a server that was started without `-A`.
pub const SHUTDOWN_DISABLED: &[u8] = b"ERROR: shutdown not enabled\r\n";
/// `flush_all` where it is forbidden: the words of a server that was started with `-F`.
pub const FLUSH_FORBIDDEN: &[u8] = b"CLIENT_ERROR flush_all not allowed\r\n";

/// End of a retrieval or of statistics.
pub const END: &[u8] = b"END\r\n";
/// Success of `flush_all` and `verbosity`.
pub const OK: &[u8] = b"OK\r\n";
/// Answer to `mn`.
pub const META_NOOP: &[u8] = b"MN\r\n";
/// Answer to `stats reset`.
pub const RESET: &[u8] = b"RESET\r\n";
/// A miss of `mg` and `me`.
pub const META_MISS: &[u8] = b"EN\r\n";
/// A miss of a classic command that changes an item.
pub const NOT_FOUND: &[u8] = b"NOT_FOUND\r\n";
