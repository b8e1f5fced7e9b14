//! One EXECUTE cut into chunks: the keys in the server's order, each once, in contiguous runs.
//!
//! Memory of a [`Plan`]: the message without its list, one copy of the key bytes with four bytes of length each, and
//! four bytes more per key ([`Plan::bytes`]; 15,000 keys of 70 bytes: 1.2 MB). While it is made 16 bytes per key more.
//! The request's own bytes are not needed afterwards.

use super::bounded::NO_LIMIT;
use super::paging::{PageKey, Pages, Position, RequestDigest, StateFault, is_composite};
use super::shape::{InSplit, Limit, Whole};
use std::num::NonZeroU32;
use weir_cql::envelope::{Flags, Header, Opcode};
use weir_cql::key::{COMPONENT_MAX, sort_keys};
use weir_cql::request::{
    Change, Execute, ExecuteEdit, ListValue, NewValue, ParameterEdit, Request, list_elements,
};
use weir_cql::{Dialect, StreamId, Value};

/// Why an EXECUTE is not cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Uncut {
    /// It is sent as it is.
    Whole(Whole),
    /// It is answered with an ERROR Invalid: it brings a page state of weir's that is not of this request.
    State(StateFault),
}

impl From<Whole> for Uncut {
    fn from(whole: Whole) -> Uncut {
        Uncut::Whole(whole)
    }
}

/// How one chunk is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Chunk<'a> {
    /// Rows per page; `None` asks for all of the chunk at once.
    pub page_size: Option<i32>,
    /// Rows that are still wanted, or fewer: a bound `LIMIT` becomes this. A `LIMIT` in the text stays what it is, and
    /// so does that of a chunk that was begun.
    pub limit_left: Option<u64>,
    /// Where a chunk that was begun goes on.
    pub state: Option<&'a [u8]>,
}

/// One EXECUTE in chunks. Chunks are counted from 0: the first of this page's.
#[derive(Debug)]
pub struct Plan {
    /// The message with an empty list in place of the keys, and its places.
    skeleton: Vec<u8>,
    execute: Execute,
    list: u16,
    /// Offset of a bound `LIMIT` in the skeleton, where it may be lowered.
    limit_at: Option<usize>,
    /// Rows the whole answer may have.
    limit: Option<u64>,
    /// The keys in order, each a \[bytes\].
    keys: Vec<u8>,
    /// Where each ends.
    ends: Vec<u32>,
    chunk_keys: u32,
    position: Position,
    digest: Option<RequestDigest>,
    /// The id that page states name.
    statement: Box<[u8]>,
    page_size: Option<u32>,
    asked: u32,
    dialect: Dialect,
}

impl Plan {
    /// Cuts the EXECUTE in `body` (of an envelope with `header`, in this `dialect`) into chunks of `chunk_keys`. A page
    /// state of weir's is read with `pages`.
    ///
    /// # Errors
    /// When it must be sent as it is, or cannot be gone on with.
    pub fn cut(
        split: &InSplit,
        header: &Header,
        body: &[u8],
        execute: &Execute,
        dialect: Dialect,
        chunk_keys: NonZeroU32,
        pages: &Pages<'_>,
    ) -> Result<Plan, Uncut> {
        let parameters = &execute.parameters;
        let state = match parameters.paging_state {
            None | Some(Value::Null | Value::NotSet) => None,
            Some(Value::Bytes(state)) if is_composite(state.of(body)) => Some(state.of(body)),
            Some(Value::Bytes(_)) => return Err(Whole::ServersPages.into()),
        };
        plain_request(split.values, header, execute)?;
        let limit = limit_of(split, body, execute)?;
        let value = parameters.values.get(body, split.list).and_then(|value| value.of(body));
        let value = value.ok_or(Whole::Values)?;
        let keys = in_order(split, value)?;
        let asked = list_elements(value).map_or(0, |elements| elements.size_hint().1.unwrap_or(0)) as u32;
        let count = keys.len() as u32;
        if state.is_none() && count <= chunk_keys.get() {
            return Err(Whole::Small.into());
        }

        let mut packed = Vec::with_capacity(keys.iter().map(|key| key.len() + 4).sum());
        let mut ends = Vec::with_capacity(keys.len());
        for key in keys {
            weir_cql::write::bytes(&mut packed, key);
            ends.push(packed.len() as u32);
        }
        let (skeleton, execute) = skeleton(split, header, body, execute, dialect).ok_or(Whole::Values)?;
        let page_size = parameters.page_size.map(|size| size.value).filter(|size| *size > 0);
        let digest = (page_size.is_some() || state.is_some())
            .then(|| RequestDigest::of(execute.parameters.values.span.of(&skeleton), &packed));
        let position = match (state, digest) {
            (Some(state), Some(digest)) => {
                Position::read(state, pages.key, pages.statement, digest, count).map_err(Uncut::State)?
            }
            _ => Position::default(),
        };
        if limit.is_some_and(|limit| position.rows >= limit) {
            return Err(Uncut::State(StateFault::Damaged));
        }
        let limit_at = match split.limit {
            Limit::Bound(at) if at > split.list => place_of(&execute, &skeleton, at),
            _ => None,
        };
        Ok(Plan {
            skeleton,
            execute,
            list: split.list,
            limit_at,
            limit,
            keys: packed,
            ends,
            chunk_keys: chunk_keys.get(),
            position,
            digest,
            statement: pages.statement.into(),
            page_size: page_size.map(i32::cast_unsigned),
            asked,
            dialect,
        })
    }

    /// Chunks from this page's first to the last key.
    #[must_use]
    pub fn chunks(&self) -> u32 {
        let begun = u32::from(self.position.begun_keys > 0);
        let left = self.keys() - self.position.keys_done - self.position.begun_keys;
        begun + left.div_ceil(self.chunk_keys)
    }

    /// Different keys of the request.
    #[must_use]
    pub fn keys(&self) -> u32 {
        self.ends.len() as u32
    }

    /// Keys as they were asked, repeated ones counted.
    #[must_use]
    pub const fn asked(&self) -> u32 {
        self.asked
    }

    /// Keys of a chunk; 0 for one that is not there.
    #[must_use]
    pub fn keys_in(&self, index: u32) -> u32 {
        let (from, to) = self.range(index);
        to - from
    }

    /// The keys of a chunk, in order: where it is sent may depend on them.
    pub fn keys_of(&self, index: u32) -> impl Iterator<Item = &[u8]> {
        let (from, to) = self.range(index);
        (from..to).map(|key| self.keys.get(self.start(key) + 4..self.start(key + 1)).unwrap_or_default())
    }

    /// The server's state of a chunk that an earlier page began: of the first, if of any.
    #[must_use]
    pub fn state_of(&self, index: u32) -> Option<&[u8]> {
        (index == 0 && self.position.begun_keys > 0).then_some(&*self.position.inner)
    }

    /// Rows per page that the client asked for; `None`: all at once.
    #[must_use]
    pub const fn page_size(&self) -> Option<u32> {
        self.page_size
    }

    /// Rows that this page and later ones may have in all; `None`: no `LIMIT`.
    #[must_use]
    pub fn limit_left(&self) -> Option<u64> {
        self.limit.map(|limit| limit.saturating_sub(self.position.rows))
    }

    /// Whether [`Chunk::limit_left`] bounds what a chunk answers.
    #[must_use]
    pub const fn can_limit(&self) -> bool {
        self.limit_at.is_some()
    }

    /// The dialect of the client, and of every chunk.
    #[must_use]
    pub const fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Memory held, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.skeleton.capacity()
            + self.keys.capacity()
            + self.ends.capacity() * size_of::<u32>()
            + self.position.inner.capacity()
            + self.statement.len()
    }

    /// Bytes of the EXECUTE of a chunk, nearly: at least so many are written.
    #[must_use]
    pub fn chunk_bytes(&self, index: u32) -> usize {
        let (from, to) = self.range(index);
        self.skeleton.len() + self.start(to) - self.start(from)
    }

    /// Writes the body of the EXECUTE of one chunk: id, other values, consistency, timestamp and the fields of v5 as they
    /// came. An index that is not there writes an empty list.
    pub fn write_chunk(&self, index: u32, chunk: &Chunk<'_>, out: &mut Vec<u8>) {
        let (from, to) = self.range(index);
        let elements = self.keys.get(self.start(from)..self.start(to)).unwrap_or_default();
        let begin = out.len();
        let edit = ExecuteEdit {
            parameters: ParameterEdit {
                value: Some((self.list, NewValue::List(ListValue { count: to - from, elements }))),
                page_size: chunk.page_size.map_or(Change::Remove, Change::Set),
                paging_state: chunk.state.map_or(Change::Remove, Change::Set),
                ..ParameterEdit::default()
            },
            ..ExecuteEdit::default()
        };
        self.execute.rewrite(&self.skeleton, &edit, out);
        if let (Some(at), Some(left), None) = (self.limit_at, chunk.limit_left, chunk.state) {
            let left = i32::try_from(left.max(1)).unwrap_or(i32::MAX);
            let at = begin + at + elements.len(); // it stands behind the list
            if let Some(place) = out.get_mut(at..at + 4) {
                place.copy_from_slice(&left.to_be_bytes());
            }
        }
    }

    /// Where the pages go on after `chunks` whole chunks of this page; `inner` is the state of one more that is not done.
    pub(super) fn position_after(&self, chunks: u32, rows: u64, inner: &[u8]) -> Position {
        let begun_keys = if inner.is_empty() { 0 } else { self.keys_in(chunks) };
        Position {
            keys_done: self.range(chunks).0,
            begun_keys,
            rows: self.position.rows.saturating_add(rows),
            inner: inner.to_vec(),
        }
    }

    /// Writes the state for the next page.
    pub(super) fn write_state(&self, position: &Position, pages: &PageKey, out: &mut Vec<u8>) {
        let digest = self.digest.unwrap_or_else(|| self.digest());
        position.write(pages, &self.statement, digest, out);
    }

    fn digest(&self) -> RequestDigest {
        RequestDigest::of(self.execute.parameters.values.span.of(&self.skeleton), &self.keys)
    }

    /// The first key of a chunk and that of the next.
    fn range(&self, index: u32) -> (u32, u32) {
        let Position { keys_done, begun_keys, .. } = self.position;
        let all = u64::from(self.keys());
        let after = u64::from(keys_done) + u64::from(begun_keys);
        let size = u64::from(self.chunk_keys);
        let (from, to) = match (begun_keys, u64::from(index)) {
            (1.., 0) => (u64::from(keys_done), after),
            (1.., index) => (after + (index - 1) * size, after + index * size),
            (0, index) => (after + index * size, after + (index + 1) * size),
        };
        (from.min(all) as u32, to.min(all) as u32)
    }

    /// Offset of a key's length.
    fn start(&self, key: u32) -> usize {
        let before = key.checked_sub(1).and_then(|before| self.ends.get(before as usize));
        before.map_or(0, |end| *end as usize)
    }
}

/// Refuses what only a whole request can carry, and another number of values than these.
pub(super) fn plain_request(values: u16, header: &Header, execute: &Execute) -> Result<(), Whole> {
    let parameters = &execute.parameters;
    if parameters.consistency.value.is_serial() {
        Err(Whole::Serial)
    } else if header.flags.has(Flags::TRACING) {
        Err(Whole::Traced)
    } else if header.flags.has(Flags::CUSTOM_PAYLOAD) {
        Err(Whole::Payload)
    } else if parameters.values.named {
        Err(Whole::Named)
    } else if parameters.values.count != values {
        Err(Whole::Values)
    } else if parameters.page_size.is_some_and(|size| size.value == 0) {
        Err(Whole::Limit)
    } else {
        Ok(())
    }
}

/// The limit this request has. A bound one that is not set is none; what is no number above zero is the server's to
/// refuse.
fn limit_of(split: &InSplit, body: &[u8], execute: &Execute) -> Result<Option<u64>, Whole> {
    match split.limit {
        Limit::None => Ok(None),
        Limit::Literal(limit) => Ok(Some(limit.into())),
        Limit::Bound(at) => match execute.parameters.values.get(body, at) {
            Some(Value::NotSet) => Ok(None),
            Some(Value::Bytes(span)) => {
                let bytes: [u8; 4] = span.of(body).try_into().map_err(|_| Whole::Limit)?;
                let limit = u64::try_from(i32::from_be_bytes(bytes)).map_err(|_| Whole::Limit)?;
                match limit {
                    0 => Err(Whole::Limit),
                    limit if limit == NO_LIMIT.unsigned_abs().into() => Ok(None),
                    limit => Ok(Some(limit)),
                }
            }
            _ => Err(Whole::Limit),
        },
    }
}

/// The keys of the list, in the server's order and once each.
fn in_order<'a>(split: &InSplit, value: &'a [u8]) -> Result<Vec<&'a [u8]>, Whole> {
    let mut elements = list_elements(value).ok_or(Whole::Values)?;
    let mut keys = Vec::with_capacity(elements.size_hint().1.unwrap_or(0));
    for key in &mut elements {
        // a key that is too long is refused by the server, whatever else the request would give
        keys.push(key.filter(|key| key.len() <= COMPONENT_MAX).ok_or(Whole::Keys)?);
    }
    if !elements.whole() {
        return Err(Whole::Values);
    }
    sort_keys(split.kind, &mut keys).map_err(|_| Whole::Keys)?;
    Ok(keys)
}

/// The message with an empty list, without page size and state, and where its parts are.
fn skeleton(
    split: &InSplit,
    header: &Header,
    body: &[u8],
    execute: &Execute,
    dialect: Dialect,
) -> Option<(Vec<u8>, Execute)> {
    let mut skeleton = Vec::new();
    let empty = NewValue::List(ListValue { count: 0, elements: &[] });
    let edit = ExecuteEdit {
        parameters: ParameterEdit {
            value: Some((split.list, empty)),
            page_size: Change::Remove,
            paging_state: Change::Remove,
            ..ParameterEdit::default()
        },
        ..ExecuteEdit::default()
    };
    execute.rewrite(body, &edit, &mut skeleton);
    skeleton.shrink_to_fit();
    let header = Header {
        version: header.version,
        flags: Flags::default(),
        stream: StreamId(0),
        opcode: Opcode::Execute,
        body_len: skeleton.len() as u32,
    };
    match Request::locate(&header, &skeleton, dialect) {
        Ok(Request::Execute(execute)) => Some((skeleton, execute)),
        _ => None,
    }
}

/// Offset of the four bytes of a bound limit.
fn place_of(execute: &Execute, skeleton: &[u8], at: u16) -> Option<usize> {
    match execute.parameters.values.get(skeleton, at)? {
        Value::Bytes(span) if span.len() == 4 => Some(span.start as usize),
        _ => None,
    }
}
