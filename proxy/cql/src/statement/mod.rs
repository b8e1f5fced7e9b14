//! What a CQL statement asks for, read from its text.
//!
//! [`read`] gives the kind, table, shapes of `IN`, values bound by `=`, limits, conditions and idempotence of `SELECT`,
//! `INSERT`, `UPDATE`, `DELETE`, `BATCH` and `USE`; [`fingerprint()`] gives the text with its literals taken out;
//! [`qualify()`] writes a keyspace before unqualified tables. What is not fully understood is [`Body::Opaque`]: it passes
//! through untouched. A wrong shape would split or retry what must not be; so a form with two readings is opaque.
//!
//! The way of a text: `lexer` (tokens) -> `parser` (cursor, markers, nesting) -> `select` or `modify`, with `relation`
//! and `term` for their parts -> [`shape`]. No byte of a text can cause a panic.
//!
//! Bounds: [`STATEMENT_MAX`] bytes, [`NESTING_MAX`] brackets, [`ITEMS_MAX`] names or relations of one clause,
//! [`BATCH_MAX`] statements, [`MARKER_NAMES_MAX`] named markers, 65,535 markers.

mod fingerprint;
mod function;
#[doc(hidden)]
pub mod invariants;
pub mod lexer;
mod modify;
mod parser;
mod qualify;
mod relation;
mod select;
pub mod shape;
mod term;

use memchr::memchr_iter;

pub use fingerprint::{FINGERPRINT_MAX, Fingerprint, fingerprint};
pub use function::Functions;
pub use qualify::qualify;
pub use shape::{
    Batch, BatchKind, Body, Condition, Equal, Idempotence, In, InValues, Kind, LiteralKind, Modify, Name,
    OpaqueCause, Order, Select, Selected, Selection, Span, Statement, Table, Value, Where,
};

use lexer::{Lexer, TokenKind};
use parser::{Parsed, Parser};

/// Longest text that is read, in bytes. Longer ones are opaque.
pub const STATEMENT_MAX: usize = 4 * 1024 * 1024;

/// Most brackets open at once.
pub const NESTING_MAX: u8 = 32;

/// Most names in one list, and most relations of one `WHERE`.
pub const ITEMS_MAX: usize = 1024;

/// Most statements of a `BATCH` in text: those of a BATCH message are not counted here.
pub const BATCH_MAX: usize = 4096;

/// Most markers written `:name`.
pub const MARKER_NAMES_MAX: usize = 128;

/// Reads one statement. Linear in the text; allocates only for lists of names and relations.
pub fn read(text: &[u8]) -> Statement {
    let kind = kind_of(text.get(..text.len().min(STATEMENT_MAX)).unwrap_or_default());
    if text.len() > STATEMENT_MAX {
        let commas = memchr_iter(b',', text).count();
        let arity = u32::try_from(commas).unwrap_or(u32::MAX).saturating_add(1);
        return Statement { arity_at_most: Some(arity), ..opaque(kind, OpaqueCause::TooLong) };
    }
    understood(text, kind).unwrap_or_else(|cause| opaque(kind, cause))
}

fn opaque(kind: Kind, cause: OpaqueCause) -> Statement {
    Statement {
        kind,
        body: Body::Opaque(cause),
        markers: 0,
        marker_names: Vec::new(),
        deterministic: false,
        arity_at_most: None,
    }
}

/// The kind by the first word; `BEGIN` is a batch although its end is not seen yet.
fn kind_of(text: &[u8]) -> Kind {
    let Ok(token) = Lexer::new(text).next() else {
        return Kind::Unknown;
    };
    if token.kind != TokenKind::Word {
        return Kind::Unknown;
    }
    let word = token.bytes(text);
    let kinds: [(&str, Kind); 16] = [
        ("select", Kind::Select),
        ("insert", Kind::Insert),
        ("update", Kind::Update),
        ("delete", Kind::Delete),
        ("begin", Kind::Batch),
        ("use", Kind::Use),
        ("truncate", Kind::Truncate),
        ("create", Kind::Schema),
        ("alter", Kind::Schema),
        ("drop", Kind::Schema),
        ("grant", Kind::Access),
        ("revoke", Kind::Access),
        ("list", Kind::Access),
        ("describe", Kind::Describe),
        ("desc", Kind::Describe),
        ("prune", Kind::Prune),
    ];
    kinds
        .iter()
        .find(|(name, _)| word.eq_ignore_ascii_case(name.as_bytes()))
        .map_or(Kind::Unknown, |found| found.1)
}

fn understood(text: &[u8], kind: Kind) -> Parsed<Statement> {
    let mut parser = Parser::new(text)?;
    let body = match kind {
        Kind::Select => {
            parser.take()?;
            Body::Select(Box::new(parser.select()?))
        }
        Kind::Insert | Kind::Update | Kind::Delete => {
            let modify = parser.modify()?.ok_or(OpaqueCause::Unfamiliar)?;
            Body::Modify(Box::new(modify))
        }
        Kind::Batch => {
            parser.take()?;
            Body::Batch(Box::new(parser.batch()?))
        }
        Kind::Use => {
            parser.take()?;
            Body::Use(parser.name()?)
        }
        _ => return Err(OpaqueCause::NotRead),
    };
    while parser.eat_sign(b';')? {}
    if parser.token.kind != TokenKind::End {
        return Err(OpaqueCause::Unfamiliar);
    }
    let deterministic = parser.all_deterministic();
    Ok(Statement {
        kind,
        body,
        markers: parser.markers,
        marker_names: parser.marker_names,
        deterministic,
        arity_at_most: None,
    })
}
