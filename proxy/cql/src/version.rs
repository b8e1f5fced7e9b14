//! Protocol versions, and what differs between them.

/// A version this crate reads and writes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Version {
    /// v3: flags of requests are one byte, no "not set", no partition key indices in PREPARED.
    V3 = 3,
    /// v4: warnings, custom payloads, partition key indices.
    V4 = 4,
    /// v5: segments after the handshake, result metadata ids, keyspace and `now` per request.
    V5 = 5,
}

impl Version {
    /// The version with this number; `None` for every other.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            3 => Some(Version::V3),
            4 => Some(Version::V4),
            5 => Some(Version::V5),
            _ => None,
        }
    }

    /// 3, 4 or 5.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The value of `PROTOCOL_VERSIONS` in SUPPORTED.
    pub const fn name(self) -> &'static str {
        match self {
            Version::V3 => "3/v3",
            Version::V4 => "4/v4",
            Version::V5 => "5/v5",
        }
    }
}

/// What a connection has agreed on that changes the layout of bodies.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Dialect {
    /// The version of every envelope of the connection.
    pub version: Version,
    /// EXECUTE and PREPARED carry a result metadata id: always in v5; in v4 only when the client has echoed Scylla's
    /// `SCYLLA_USE_METADATA_ID` in STARTUP.
    pub metadata_ids: bool,
}

impl Dialect {
    /// The dialect of a version without extensions.
    pub const fn of(version: Version) -> Self {
        Self { version, metadata_ids: matches!(version, Version::V5) }
    }
}
