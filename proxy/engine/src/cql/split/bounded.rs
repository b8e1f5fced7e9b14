//! A statement with a bound `LIMIT`, so that a chunk of a client that pages can be asked without pages.
//!
//! Cassandra reads the partitions of an `IN` side by side when it answers all at once, and one after the other when it
//! answers in pages and a page may be full before the last row. Measured with Cassandra 5.0.9, 15,000 keys of one row in
//! chunks of 100, one chunk at a time: 145 ms without a page size, 710-1,330 ms with one of 5,000, and 145 ms without a
//! page size but with `LIMIT 5001`. Without both, a chunk of wide partitions would have no bound.
//!
//! So weir prepares the form with `LIMIT ?` beside the client's statement, asks a chunk for one row more than a page
//! has, and where it gets so many ([`Gather::is_cut_short`](super::Gather::is_cut_short)) asks that chunk again in
//! pages. The limit of the client, where it has one, becomes the value; where it has none the value is the largest
//! number, which is what servers take for none.

use super::markers::write_lead;
use super::shape::{Whole, row_wise};
use weir_cql::request::Execute;
use weir_cql::statement::{self, Body, LiteralKind, Select, Statement, Value};
use weir_cql::{Dialect, Span, write};

/// What servers take for no limit at all.
pub(super) const NO_LIMIT: i32 = i32::MAX;

/// The form of a statement that ends with `LIMIT ?`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BoundedForm {
    /// Its text: to be prepared where (keyspace, version) the client's was.
    pub text: Vec<u8>,
    /// The client's limit.
    limit: i32,
    /// How many values the client binds.
    values: u16,
}

impl BoundedForm {
    /// Of a text and what was read from that text. A statement that binds its limit needs no other form.
    ///
    /// # Errors
    /// When it has no such form, or could not be cut in it.
    pub fn of(text: &[u8], statement: &Statement) -> Result<BoundedForm, Whole> {
        let Body::Select(select) = &statement.body else { return Err(Whole::NotSelect) };
        row_wise(select, statement)?;
        if select.distinct {
            return Err(Whole::Distinct);
        }
        if select.bypass_cache {
            return Err(Whole::Limit); // the limit's place is before it
        }
        let (limit, bounded) = match select.limit {
            // a comment may be at its end
            None => (NO_LIMIT, [without_end(text), b"\nLIMIT ?"].concat()),
            Some(Value::Literal(LiteralKind::Integer, span)) => {
                let digits = std::str::from_utf8(span.bytes(text)).ok();
                let limit = digits.and_then(|digits| digits.parse().ok()).filter(|limit| *limit > 0);
                let before = text.get(..span.range().start).unwrap_or_default();
                let after = text.get(span.range().end..).unwrap_or_default();
                (limit.ok_or(Whole::Limit)?, [before, b" ? ", after].concat())
            }
            Some(_) => return Err(Whole::Limit),
        };
        // what was written must be the same statement, and its last value the limit
        let again = statement::read(&bounded);
        let Body::Select(found) = &again.body else { return Err(Whole::Limit) };
        let expected = Select { limit: Some(Value::Bind(statement.markers)), ..(**select).clone() };
        if **found != expected || again.markers != statement.markers.saturating_add(1) {
            return Err(Whole::Limit);
        }
        Ok(BoundedForm { text: bounded, limit, values: statement.markers })
    }

    /// Writes the client's EXECUTE in `body` as one of this form, which the server knows by `id`.
    ///
    /// # Errors
    /// When its values are not those the statement asks for: it must be sent as it came.
    pub fn execute(
        &self,
        body: &[u8],
        execute: &Execute,
        dialect: Dialect,
        id: &[u8],
    ) -> Result<Vec<u8>, Whole> {
        let parameters = &execute.parameters;
        let values = &parameters.values;
        if values.named {
            return Err(Whole::Named);
        }
        let count = values.count.checked_add(1).ok_or(Whole::Values)?;
        if values.count != self.values || values.count == 0 {
            return Err(Whole::Values);
        }
        let mut out = Vec::with_capacity(body.len() + id.len() + 16);
        write_lead(body, execute, dialect, id, &mut out);
        write::short(&mut out, count);
        out.extend_from_slice(values.span.of(body));
        write::bytes(&mut out, &self.limit.to_be_bytes());
        let rest = Span { start: values.span.end, end: parameters.span.end };
        out.extend_from_slice(rest.of(body));
        Ok(out)
    }
}

/// The text without the semicolons and blanks it ends with.
fn without_end(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|byte| !(byte.is_ascii_whitespace() || *byte == b';'));
    text.get(..end.map_or(0, |end| end + 1)).unwrap_or_default()
}
