//! The answers of chunks made one: a RESULT with the rows in the order of the keys, whatever order the answers come in.
//!
//! Rows are not read: the bytes of one answer are put behind those of the answer before. Only where a `LIMIT` ends within
//! a chunk that chunk's rows are stepped over. The rows grow in the buffer they are sent from: room for what stands
//! before them is left at its front.
//!
//! The page ends (whichever comes first): with the last key; with `LIMIT`; with a chunk that has more pages of its own;
//! for a client that pages also between two chunks, once its page size or [`Bounds::page_bytes`] is reached. So a page
//! may have more rows than were asked for, up to those of one more chunk: the protocol calls the size a wish.
//!
//! An error counts in its turn: a page that ended before that chunk is not spoilt by it. Where no page can end before
//! it (no paging, no `LIMIT`) it counts at once.
//!
//! Bounds: [`Bounds`]; [`WARNINGS_MAX`](super::warnings::WARNINGS_MAX)
//! warnings of [`WARNING_BYTES`](super::warnings::WARNING_BYTES) together. Answers that come before their turn are
//! held as they are: whoever sends the chunks bounds how far they run ahead ([`Gather::bytes`] says what is held).

use super::cut::Plan;
use super::paging::PageKey;
use super::warnings::Warnings;
use std::collections::BTreeMap;
use weir_cql::envelope::{BODY_MAX, Flags, HEADER_LEN, Header, Opcode};
use weir_cql::request::Change;
use weir_cql::response::rows::MetadataEdit;
use weir_cql::response::{Prefix, ResultBody, Rows, write_prefix};
use weir_cql::{Cursor, Dialect, StreamId, Value, Version};

/// Room in front of the rows besides that of the columns: a page state, warnings of usual length. More is made when it
/// is not enough, at the price of moving the rows once.
const ROOM: usize = 1 << 10;
/// The buffer grows by this share of what is in it: doubling would hold twice the rows.
const GROWTH: usize = 4;

/// How large an answer may be, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// A page of a client that pages ends once its rows have so many bytes.
    pub page_bytes: usize,
    /// Rows of more bytes cannot be answered: [`Fault::TooLarge`].
    pub answer_bytes: usize,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds { page_bytes: 8 << 20, answer_bytes: BODY_MAX as usize / 2 }
    }
}

/// Why the answers cannot be made one. Nothing was passed on yet: a read can be asked again, whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// An answer cannot be read. The server is at fault.
    Malformed,
    /// Neither rows nor an error. The server is at fault.
    NotRows,
    /// The answer to a BATCH is neither void nor an error. The server is at fault.
    NotVoid,
    /// Chunks have different columns: the schema changed between them.
    Columns,
    /// More rows or bytes than one answer may have.
    TooLarge,
}

impl Fault {
    /// Every fault.
    pub const ALL: [Fault; 5] =
        [Fault::Malformed, Fault::NotRows, Fault::NotVoid, Fault::Columns, Fault::TooLarge];

    /// A bounded label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Fault::Malformed => "malformed",
            Fault::NotRows => "not_rows",
            Fault::NotVoid => "not_void",
            Fault::Columns => "columns",
            Fault::TooLarge => "too_large",
        }
    }
}

/// How far it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// Answers are missing.
    Open,
    /// The page is whole: [`Gather::finish`]. Chunks not sent need not be; what comes of others is dropped.
    Done,
    /// A chunk failed: [`Gather::error`].
    Failed,
}

/// An answer that came before its turn.
#[derive(Debug)]
enum Early {
    Rows(Box<Rows>, Prefix, Vec<u8>),
    Error(Flags, Vec<u8>),
}

/// How the page ends.
#[derive(Debug)]
enum End {
    Open,
    /// No page follows.
    Last,
    /// More pages follow: after `chunks` chunks, or within the next one, where its state says.
    More {
        chunks: u32,
        inner: Vec<u8>,
    },
    /// The body of an ERROR, and the flags of its envelope.
    Error(Flags, Vec<u8>),
}

/// What stands before the rows: of the first answer that came.
#[derive(Debug)]
struct Head {
    /// The answer up to its rows.
    body: Vec<u8>,
    rows: Rows,
}

/// The answers of one page's chunks.
#[derive(Debug)]
pub struct Gather {
    dialect: Dialect,
    chunks: u32,
    page_size: Option<u32>,
    limit_left: Option<u64>,
    bounds: Bounds,
    /// The chunk whose turn it is.
    next: u32,
    early: BTreeMap<u32, Early>,
    early_bytes: usize,
    head: Option<Head>,
    warnings: Warnings,
    /// `room` bytes, then the rows.
    buffer: Vec<u8>,
    room: usize,
    rows: u64,
    end: End,
}

impl Gather {
    /// For the chunks of this plan.
    #[must_use]
    pub fn new(plan: &Plan, bounds: Bounds) -> Gather {
        Gather {
            dialect: plan.dialect(),
            chunks: plan.chunks(),
            page_size: plan.page_size(),
            limit_left: plan.limit_left(),
            bounds,
            next: 0,
            early: BTreeMap::new(),
            early_bytes: 0,
            head: None,
            warnings: Warnings::default(),
            buffer: Vec::new(),
            room: 0,
            rows: 0,
            end: End::Open,
        }
    }

    /// The answer to a chunk, in the plan's dialect: RESULT or ERROR (UNPREPARED is to be repaired before). Answers of
    /// chunks that are not asked for any more, and second ones, change nothing.
    ///
    /// # Errors
    /// When the answers cannot be made one: nothing is to be had from it any more.
    pub fn take(&mut self, index: u32, header: &Header, body: &[u8]) -> Result<Status, Fault> {
        let known = index < self.next || index >= self.chunks || self.early.contains_key(&index);
        if known || !matches!(self.end, End::Open) {
            return Ok(self.status());
        }
        match header.opcode {
            Opcode::Error
                if index == self.next || (self.page_size.is_none() && self.limit_left.is_none()) =>
            {
                self.ended(End::Error(header.flags, body.to_vec()));
            }
            Opcode::Error => self.keep(index, Early::Error(header.flags, body.to_vec()), body.len()),
            Opcode::Result => {
                let prefix = Prefix::locate(self.dialect.version, header.flags, body);
                let prefix = prefix.map_err(|_| Fault::Malformed)?;
                let result = ResultBody::locate(&mut Cursor::within(body, prefix.message), self.dialect);
                let ResultBody::Rows(rows) = result.map_err(|_| Fault::Malformed)? else {
                    return Err(Fault::NotRows);
                };
                self.agree(&rows, body)?;
                if index == self.next {
                    self.release(&rows, &prefix, body)?;
                    self.release_early()?;
                } else {
                    self.keep(index, Early::Rows(rows.into(), prefix, body.to_vec()), body.len());
                }
            }
            _ => return Err(Fault::NotRows),
        }
        Ok(self.status())
    }

    /// Whether the answer to a chunk that was asked for `rows` rows without pages may lack some that are wanted: it is
    /// not to be taken then, but the chunk to be asked again in pages.
    #[must_use]
    pub fn is_cut_short(&self, header: &Header, body: &[u8], rows: u64) -> bool {
        if header.opcode != Opcode::Result || self.limit_left().is_some_and(|left| left <= rows) {
            return false;
        }
        let Ok(prefix) = Prefix::locate(self.dialect.version, header.flags, body) else { return false };
        let result = ResultBody::locate(&mut Cursor::within(body, prefix.message), self.dialect);
        matches!(result, Ok(ResultBody::Rows(found)) if u64::from(found.count) >= rows)
    }

    /// How far it is.
    #[must_use]
    pub fn status(&self) -> Status {
        match self.end {
            End::Open => Status::Open,
            End::Last | End::More { .. } => Status::Done,
            End::Error(..) => Status::Failed,
        }
    }

    /// The chunk whose answer is waited for: those before it are done.
    #[must_use]
    pub const fn next(&self) -> u32 {
        self.next
    }

    /// Rows so far: of this page, up to the chunk whose turn it is.
    #[must_use]
    pub const fn rows(&self) -> u64 {
        self.rows
    }

    /// Rows that are wanted still, where there is a `LIMIT`: what a chunk that is sent now may be limited to.
    #[must_use]
    pub fn limit_left(&self) -> Option<u64> {
        self.limit_left.map(|limit| limit.saturating_sub(self.rows))
    }

    /// Memory held, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let head = self.head.as_ref().map_or(0, |head| head.body.capacity());
        self.buffer.capacity() + self.early_bytes + self.warnings.bytes() + head
    }

    /// The ERROR that ended it: the flags of its envelope, and its body.
    #[must_use]
    pub fn error(&self) -> Option<(Flags, &[u8])> {
        match &self.end {
            End::Error(flags, body) => Some((*flags, body)),
            _ => None,
        }
    }

    /// The answer, once it is [`Status::Done`]; `plan` is the one it was made for.
    #[must_use]
    pub fn finish(self, plan: &Plan, pages: &PageKey) -> Option<Joined> {
        let head = self.head?;
        let mut state = Vec::new();
        match &self.end {
            End::Last => {}
            End::More { chunks, inner } => {
                plan.write_state(&plan.position_after(*chunks, self.rows, inner), pages, &mut state);
            }
            End::Open | End::Error(..) => return None,
        }
        let paging_state = if state.is_empty() { Change::Remove } else { Change::Set(&*state) };
        let edit = MetadataEdit { paging_state, ..MetadataEdit::default() };
        let mut front = Vec::with_capacity(head.body.len() + state.len() + self.warnings.bytes() + 64);
        let flags = write_prefix(&mut front, self.dialect.version, None, self.warnings.iter(), None);
        head.rows.write_head(&head.body, &edit, u32::try_from(self.rows).ok()?, &mut front);
        let (mut buffer, room) = (self.buffer, self.room);
        let needed = HEADER_LEN + front.len();
        if needed > room {
            buffer.splice(0..0, std::iter::repeat_n(0, needed - room));
        }
        let start = room.max(needed) - front.len();
        buffer[start..start + front.len()].copy_from_slice(&front);
        Some(Joined { flags, buffer, start, rows: self.rows, more: !state.is_empty() })
    }

    /// All chunks of a page must have the same columns.
    fn agree(&mut self, rows: &Rows, body: &[u8]) -> Result<(), Fault> {
        let new = &rows.metadata;
        if new.column_count == 0 {
            return Err(Fault::Malformed); // rows without bytes: they could not be told apart
        }
        let Some(head) = &self.head else {
            let front = body.get(..rows.content.start as usize).unwrap_or_default();
            self.head = Some(Head { body: front.to_vec(), rows: *rows });
            return Ok(());
        };
        let (old, front) = (&head.rows.metadata, &head.body);
        let id = |id: Option<weir_cql::Span>, body| id.map(|id: weir_cql::Span| id.of(body).to_vec());
        let same = old.column_count == new.column_count
            && old.is_skipped() == new.is_skipped()
            && old.columns.global.is_some() == new.columns.global.is_some()
            && old.columns.span.of(front) == new.columns.span.of(body)
            && id(old.new_metadata_id, front) == id(new.new_metadata_id, body);
        if same { Ok(()) } else { Err(Fault::Columns) }
    }

    fn keep(&mut self, index: u32, early: Early, bytes: usize) {
        self.early_bytes += bytes;
        self.early.insert(index, early);
    }

    fn ended(&mut self, end: End) {
        self.end = end;
        self.early.clear();
        self.early_bytes = 0;
    }

    /// Those whose turn has come.
    fn release_early(&mut self) -> Result<(), Fault> {
        while matches!(self.end, End::Open) {
            match self.early.remove(&self.next) {
                None => break,
                Some(Early::Error(flags, body)) => self.ended(End::Error(flags, body)),
                Some(Early::Rows(rows, prefix, body)) => {
                    self.early_bytes -= body.len();
                    self.release(&rows, &prefix, &body)?;
                }
            }
        }
        Ok(())
    }

    /// Takes in the rows of the chunk whose turn it is.
    fn release(&mut self, rows: &Rows, prefix: &Prefix, body: &[u8]) -> Result<(), Fault> {
        prefix.warnings(body).for_each(|warning| self.warnings.add(warning));
        let left = self.limit_left().unwrap_or(u64::MAX);
        let (mut count, mut content) = (u64::from(rows.count), rows.content);
        if count > left {
            // left is above zero: the page ended when it became so
            let last = rows.iter(body).nth(left.saturating_sub(1) as usize).ok_or(Fault::Malformed)?;
            (count, content.end) = (left, last.span.end);
        }
        self.append(content.of(body))?;
        self.rows += count;
        if i32::try_from(self.rows).is_err() {
            return Err(Fault::TooLarge);
        }
        self.next += 1;
        let inner = match rows.metadata.paging_state {
            None => &[][..],
            Some(Value::Bytes(state)) if !state.is_empty() => state.of(body),
            Some(_) => return Err(Fault::Malformed),
        };
        let rows_bytes = self.buffer.len() - self.room;
        if count == left || (inner.is_empty() && self.next == self.chunks) {
            self.ended(End::Last);
        } else if !inner.is_empty() {
            self.ended(End::More { chunks: self.next - 1, inner: inner.to_vec() });
        } else if self
            .page_size
            .is_some_and(|size| self.rows >= u64::from(size) || rows_bytes >= self.bounds.page_bytes)
        {
            self.ended(End::More { chunks: self.next, inner: Vec::new() });
        }
        Ok(())
    }

    fn append(&mut self, rows: &[u8]) -> Result<(), Fault> {
        if self.buffer.is_empty() {
            self.room = HEADER_LEN + ROOM + self.head.as_ref().map_or(0, |head| head.body.len());
            self.buffer.reserve_exact(self.room + rows.len());
            self.buffer.resize(self.room, 0);
        }
        if self.buffer.len() - self.room + rows.len() > self.bounds.answer_bytes {
            return Err(Fault::TooLarge);
        }
        if self.buffer.capacity() - self.buffer.len() < rows.len() {
            self.buffer.reserve_exact(rows.len().max(self.buffer.len() / GROWTH));
        }
        self.buffer.extend_from_slice(rows);
        Ok(())
    }
}

/// One RESULT made of the answers.
#[derive(Debug)]
pub struct Joined {
    /// Of its envelope.
    flags: Flags,
    buffer: Vec<u8>,
    /// Where the body begins; at least the bytes of a header are before it.
    start: usize,
    /// Rows of this page.
    pub rows: u64,
    /// Whether a page follows.
    pub more: bool,
}

impl Joined {
    /// The body.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// The flags of its envelope.
    #[must_use]
    pub const fn flags(&self) -> Flags {
        self.flags
    }

    /// The whole envelope: a buffer, and where in it the envelope begins. Nothing is copied.
    #[must_use]
    pub fn into_envelope(mut self, version: Version, stream: StreamId) -> (Vec<u8>, usize) {
        let body_len = (self.buffer.len() - self.start) as u32;
        let header = Header { version, flags: self.flags, stream, opcode: Opcode::Result, body_len };
        let mut bytes = Vec::with_capacity(HEADER_LEN);
        header.write(&mut bytes);
        let begin = self.start - HEADER_LEN;
        self.buffer[begin..self.start].copy_from_slice(&bytes);
        (self.buffer, begin)
    }
}
