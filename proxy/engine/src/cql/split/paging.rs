//! The page state of a statement that was split: what a client brings back for its next page.
//!
//! A server's page state says where one query stopped. Here it says how many keys are done, how many rows were given
//! (for `LIMIT`), and, when a page ended in the middle of a chunk, that chunk's own state from the server. Keys are
//! counted, not chunks: `chunk_keys` may be another one when the next page is asked, in another weir too.
//!
//! | bytes | |
//! |---|---|
//! | 4 | [`MAGIC`] |
//! | 1 | version of this layout |
//! | 8 | statement: hash of its id |
//! | 16 | request: hash of the bound values, the keys in order |
//! | 4 | keys that are done |
//! | 4 | keys of the chunk that is not done; 0 when the page ended between chunks |
//! | 8 | rows given by the pages up to here |
//! | rest | the server's state of the chunk that is not done |
//! | 16 | keyed hash (BLAKE3) of all before it |
//!
//! The key of the hash. A configured one (`paging_key_file`) is shared by the weirs that clients are moved between; then
//! nobody else can make a state. Without one it is
//! derived from the cluster's name, and the statement's id is in what is hashed: a weir that was restarted, and its
//! neighbour with the same cluster, go on with the pages of before. Anybody can compute that key, and nothing depends on
//! its being secret: a state only says where to go on in the keys *of the request it comes with*, which are authorised
//! by the server like any other; who forges one skips rows of his own answer. The hash is there to tell states that
//! were cut, mixed up or made by something else from ours, before any of their bytes is believed.
//!
//! Bounds: a state has [`OVERHEAD`] bytes and those of the server's.

use std::fmt;
use weir_cql::Cursor;

/// How a state begins. No state of Cassandra's does: those begin with a length, and this one would be longer than any.
pub const MAGIC: [u8; 4] = [0xff, b'w', b'i', b'n'];

const LAYOUT: u8 = 1;
const MAC: usize = 16;
const HEAD: usize = 4 + 1 + 8 + 16 + 4 + 4 + 8;

/// Bytes of a state besides the server's.
pub const OVERHEAD: usize = HEAD + MAC;

/// What states are authenticated with.
#[derive(Clone, PartialEq, Eq)]
pub struct PageKey([u8; 32]);

impl fmt::Debug for PageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PageKey")
    }
}

impl PageKey {
    /// A configured key.
    #[must_use]
    pub const fn new(key: [u8; 32]) -> PageKey {
        PageKey(key)
    }

    /// The key made of what a file holds that several weirs share: at least [`PageKey::SHARED_MIN`] bytes, or twice as
    /// many hexadecimal digits; `None` when it is shorter. Line ends at the end of a text do not count.
    #[must_use]
    pub fn of_shared(content: &[u8]) -> Option<PageKey> {
        let mut secret = content;
        while let [rest @ .., b'\r' | b'\n'] = secret
            && content.is_ascii()
        {
            secret = rest;
        }
        let digits = secret.iter().all(u8::is_ascii_hexdigit);
        let least = if digits { 2 * PageKey::SHARED_MIN } else { PageKey::SHARED_MIN };
        let derive =
            || blake3::derive_key("weir 2026-11 page states of split CQL statements, shared key", secret);
        (secret.len() >= least).then(|| PageKey(derive()))
    }

    /// Bytes that a shared key has at least.
    pub const SHARED_MIN: usize = 32;

    /// The key where none is configured: the same in every weir that calls the cluster by this name.
    #[must_use]
    pub fn of_cluster(name: &str) -> PageKey {
        PageKey(blake3::derive_key("weir 2026-11 page states of split CQL statements", name.as_bytes()))
    }

    fn mac(&self, statement: &[u8], state: &[u8]) -> [u8; MAC] {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(&(statement.len() as u64).to_be_bytes());
        hasher.update(statement);
        hasher.update(state);
        cut(hasher.finalize().as_bytes())
    }
}

/// What the page states of one request are made with.
#[derive(Clone, Copy, Debug)]
pub struct Pages<'a> {
    /// What they are authenticated with.
    pub key: &'a PageKey,
    /// The id of the statement as the client has it: what is sent may be another form of it.
    pub statement: &'a [u8],
}

/// Names what is asked: the same for every page of one request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RequestDigest(pub(super) [u8; 16]);

impl RequestDigest {
    /// Of the bound values without the list, and of the keys (each with its length) in their order.
    #[must_use]
    pub fn of(values: &[u8], keys: &[u8]) -> RequestDigest {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&(values.len() as u64).to_be_bytes());
        hasher.update(values);
        hasher.update(keys);
        RequestDigest(cut(hasher.finalize().as_bytes()))
    }
}

/// Where the pages of a request stand.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Position {
    /// Keys that are done, in their order.
    pub keys_done: u32,
    /// Keys of the chunk that comes next and was begun, 0 if none was.
    pub begun_keys: u32,
    /// Rows that earlier pages gave.
    pub rows: u64,
    /// The server's state of the chunk that was begun.
    pub inner: Vec<u8>,
}

/// Why a state cannot be gone on with. The client is at fault, or was moved to a weir with another key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StateFault {
    /// Cut short, or a field is impossible.
    Damaged,
    /// Another layout: made by another release of weir.
    Version,
    /// The keyed hash is another: damaged, or made with another key.
    Mac,
    /// Of another statement.
    Statement,
    /// Of other values.
    Request,
}

impl StateFault {
    /// Every fault.
    pub const ALL: [StateFault; 5] = [
        StateFault::Damaged,
        StateFault::Version,
        StateFault::Mac,
        StateFault::Statement,
        StateFault::Request,
    ];

    /// A bounded label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            StateFault::Damaged => "damaged",
            StateFault::Version => "version",
            StateFault::Mac => "mac",
            StateFault::Statement => "statement",
            StateFault::Request => "request",
        }
    }

    /// What the client is told, as an ERROR Invalid.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            StateFault::Damaged => "weir: the paging state is damaged: begin again at the first page",
            StateFault::Version => {
                "weir: the paging state is of another release of weir: begin again at the first page"
            }
            StateFault::Mac => {
                "weir: the paging state is damaged, or of a weir with another paging_key_file: begin again at the \
                 first page"
            }
            StateFault::Statement => "weir: the paging state is of another statement",
            StateFault::Request => {
                "weir: the paging state is of the same statement with other values: pages need the same values"
            }
        }
    }
}

impl fmt::Display for StateFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

impl std::error::Error for StateFault {}

/// Whether this is a state of weir's: one that a server must not be sent.
#[must_use]
pub fn is_composite(state: &[u8]) -> bool {
    state.starts_with(&MAGIC)
}

impl Position {
    /// Writes the state; `statement` is the id of the prepared statement.
    pub fn write(&self, key: &PageKey, statement: &[u8], request: RequestDigest, out: &mut Vec<u8>) {
        let start = out.len();
        out.reserve(OVERHEAD + self.inner.len());
        out.extend_from_slice(&MAGIC);
        out.push(LAYOUT);
        out.extend_from_slice(&name_of(statement));
        out.extend_from_slice(&request.0);
        out.extend_from_slice(&self.keys_done.to_be_bytes());
        out.extend_from_slice(&self.begun_keys.to_be_bytes());
        out.extend_from_slice(&self.rows.to_be_bytes());
        out.extend_from_slice(&self.inner);
        let mac = key.mac(statement, &out[start..]);
        out.extend_from_slice(&mac);
    }

    /// Reads a state that [`is_composite`], for this statement and request of so many keys.
    ///
    /// # Errors
    /// When it was not made for them, or not by a weir with this key.
    pub fn read(
        state: &[u8],
        key: &PageKey,
        statement: &[u8],
        request: RequestDigest,
        keys: u32,
    ) -> Result<Position, StateFault> {
        let (signed, mac) = state.split_last_chunk::<MAC>().ok_or(StateFault::Damaged)?;
        let rest = signed.strip_prefix(&MAGIC).ok_or(StateFault::Damaged)?;
        let (&layout, rest) = rest.split_first().ok_or(StateFault::Damaged)?;
        if layout != LAYOUT {
            return Err(StateFault::Version);
        }
        let (&named, rest) = rest.split_first_chunk::<8>().ok_or(StateFault::Damaged)?;
        if named != name_of(statement) {
            return Err(StateFault::Statement);
        }
        if !same(&key.mac(statement, signed), mac) {
            return Err(StateFault::Mac);
        }
        let (&of, rest) = rest.split_first_chunk::<16>().ok_or(StateFault::Damaged)?;
        if of != request.0 {
            return Err(StateFault::Request);
        }
        Position::fields(rest, keys).ok_or(StateFault::Damaged)
    }

    fn fields(bytes: &[u8], keys: u32) -> Option<Position> {
        let mut cursor = Cursor::new(bytes);
        let keys_done = cursor.bits().ok()?;
        let begun_keys = cursor.bits().ok()?;
        let rows = u64::try_from(cursor.long().ok()?).ok()?;
        let inner = cursor.rest().of(bytes).to_vec();
        let left = keys.checked_sub(keys_done).filter(|left| *left > 0)?;
        // a chunk that was begun has a state, and no other has
        let plausible = begun_keys <= left && (begun_keys == 0) == inner.is_empty();
        plausible.then_some(Position { keys_done, begun_keys, rows, inner })
    }
}

/// Enough of a statement's id to tell one state's statement from another's.
fn name_of(statement: &[u8]) -> [u8; 8] {
    cut(blake3::hash(statement).as_bytes())
}

fn cut<const N: usize>(hash: &[u8; 32]) -> [u8; N] {
    std::array::from_fn(|at| hash[at])
}

/// Looks at every byte, so that time does not tell how many were right.
fn same(left: &[u8; MAC], right: &[u8; MAC]) -> bool {
    left.iter().zip(right).fold(0, |differs, (left, right)| differs | (left ^ right)) == 0
}
