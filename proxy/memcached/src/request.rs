//! What a client asked, as slices of its own bytes.

use crate::{Keys, Meta, Verb};

/// One complete, checked command.
#[derive(Clone, Debug)]
pub enum Request<'a> {
    /// `get`, `gets`, `gat`, `gats` with at least one key.
    Retrieve(Retrieve<'a>),
    /// `set`, `add`, `replace`, `append`, `prepend`, `cas` with its data.
    Store(Store<'a>),
    /// `incr`, `decr`, `delete`, `touch`.
    Mutate(Mutate<'a>),
    /// `mg`, `ms` with its data, `md`, `ma`, `me`.
    Meta(Meta<'a>),
    /// `mn`: answered by `MN` after everything before it.
    MetaNoop,
    /// `flush_all`
    FlushAll {
        /// Seconds from now, or since 1970 when over 30 days; 0 is at once (negative times count as 0).
        delay: u32,
        /// The client does not want the answer.
        noreply: bool,
    },
    /// `stats`
    Stats {
        /// What follows the word, without spaces around it.
        args: &'a [u8],
    },
    /// `version`
    Version,
    /// `quit`: the connection closes without an answer.
    Quit,
    /// `shutdown`, to be refused with [`text::SHUTDOWN_DISABLED`](crate::text::SHUTDOWN_DISABLED).
    Shutdown,
    /// `verbosity` with a readable level.
    Verbosity {
        /// The client does not want the answer.
        noreply: bool,
    },
}

impl Request<'_> {
    /// Which command it is.
    pub fn verb(&self) -> Verb {
        match self {
            Request::Retrieve(retrieve) => retrieve.verb,
            Request::Store(store) => store.verb,
            Request::Mutate(mutate) => mutate.verb,
            Request::Meta(meta) => meta.verb,
            Request::MetaNoop => Verb::Mn,
            Request::FlushAll { .. } => Verb::FlushAll,
            Request::Stats { .. } => Verb::Stats,
            Request::Version => Verb::Version,
            Request::Quit => Verb::Quit,
            Request::Shutdown => Verb::Shutdown,
            Request::Verbosity { .. } => Verb::Verbosity,
        }
    }
}

/// A multiget.
#[derive(Clone, Debug)]
pub struct Retrieve<'a> {
    /// `Get`, `Gets`, `Gat` or `Gats`.
    pub verb: Verb,
    /// The new time to live as sent, for `gat` and `gats`.
    pub exptime: Option<&'a [u8]>,
    /// The keys.
    pub keys: Keys<'a>,
}

/// A store with its data.
#[derive(Clone, Debug)]
pub struct Store<'a> {
    /// `Set`, `Add`, `Replace`, `Append`, `Prepend` or `Cas`.
    pub verb: Verb,
    /// The key.
    pub key: &'a [u8],
    /// The client does not want the answer.
    pub noreply: bool,
    /// The line from the command word on, without CRLF and without `noreply`: `head` + CRLF + `data` is the same
    /// store with an answer.
    pub head: &'a [u8],
    /// The value with its CRLF.
    pub data: &'a [u8],
}

/// A change of one item without data.
#[derive(Clone, Debug)]
pub struct Mutate<'a> {
    /// `Incr`, `Decr`, `Delete` or `Touch`.
    pub verb: Verb,
    /// The key.
    pub key: &'a [u8],
    /// The client does not want the answer.
    pub noreply: bool,
    /// The line from the command word on, without CRLF and without `noreply`.
    pub head: &'a [u8],
}
