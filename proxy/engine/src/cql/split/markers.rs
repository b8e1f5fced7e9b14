//! `IN (?, ?, ?)`: the same statement with one bound list.
//!
//! A statement with a marker for each key cannot be asked with fewer of them, so weir prepares its form with `IN ?` beside
//! it. What decides is that form's own PREPARE ([`InSplit::of`](super::InSplit::of) with its text and its answer); an
//! EXECUTE of the client's is then written as one of the list form, and cut like any other. Sent whole it stays what the
//! client sent.

use super::shape::{Whole, row_wise};
use weir_cql::request::Execute;
use weir_cql::statement::{Body, InValues, Statement};
use weir_cql::{Dialect, Span, Value, write};

/// Fewer markers are not worth a second PREPARE.
pub const MARKERS_MIN: u32 = 2;

/// The list form of a statement.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListForm {
    /// Its text: to be prepared where (keyspace, version) the client's was.
    pub text: Vec<u8>,
    /// Position of the first key, and of the list.
    first: u16,
    /// How many keys.
    count: u16,
    /// How many values the client binds.
    values: u16,
}

impl ListForm {
    /// Of a text and what was read from that text.
    ///
    /// # Errors
    /// When it has no such form, or could not be cut in it.
    pub fn of(text: &[u8], statement: &Statement) -> Result<ListForm, Whole> {
        let Body::Select(select) = &statement.body else { return Err(Whole::NotSelect) };
        let relation = match &*select.filter.ins {
            [] => return Err(Whole::NoIn),
            [relation] if relation.columns.len() == 1 && !relation.tuple => relation,
            _ => return Err(Whole::ManyIn),
        };
        let InValues::Markers { first, count } = relation.values else { return Err(Whole::NotOneList) };
        row_wise(select, statement)?;
        let count = u16::try_from(count).map_err(|_| Whole::Values)?;
        if u32::from(count) < MARKERS_MIN {
            return Err(Whole::Small);
        }
        let (before, after) =
            (text.get(..relation.span.range().start), text.get(relation.span.range().end..));
        let (Some(before), Some(after)) = (before, after) else { return Err(Whole::NotSelect) };
        // `IN(?,?)AND` is as good as `IN (?, ?) AND`: the marker must not touch a word
        let text = [before, b" ? ", after].concat();
        Ok(ListForm { text, first, count, values: statement.markers })
    }

    /// Writes the client's EXECUTE in `body` as one of the list form, which the server knows by `id`.
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
        if values.count != self.values {
            return Err(Whole::Values);
        }
        let mut out = Vec::with_capacity(body.len() + 16);
        write_lead(body, execute, dialect, id, &mut out);
        write::short(&mut out, self.values - self.count + 1);
        let last = self.first + (self.count - 1);
        let mut length_at = 0;
        for (at, (_, value)) in (0..).zip(values.iter(body)) {
            if at == self.first {
                length_at = out.len();
                write::int(&mut out, 0);
                write::bits(&mut out, self.count.into());
            }
            let is_key = self.first <= at && at <= last;
            match value {
                Value::Bytes(span) => write::bytes(&mut out, span.of(body)),
                // a key that is null or not set is the server's to refuse
                _ if is_key => return Err(Whole::Keys),
                Value::Null => write::int(&mut out, -1),
                Value::NotSet => write::int(&mut out, -2),
            }
            if at == last {
                let length = (out.len() - length_at - 4) as u32;
                out[length_at..length_at + 4].copy_from_slice(&length.to_be_bytes());
            }
        }
        let rest = Span { start: values.span.end, end: parameters.span.end };
        out.extend_from_slice(rest.of(body));
        Ok(out)
    }
}

/// Writes an EXECUTE of another statement with the same columns, up to the number of its values.
pub(super) fn write_lead(body: &[u8], execute: &Execute, dialect: Dialect, id: &[u8], out: &mut Vec<u8>) {
    let parameters = &execute.parameters;
    write::short_bytes(out, id);
    if dialect.metadata_ids {
        // it names the columns, not the statement
        write::short_bytes(out, execute.result_metadata_id.unwrap_or_default().of(body));
    }
    // consistency and flags; the number of values is behind them
    let lead = Span { start: parameters.span.start, end: parameters.values.span.start.saturating_sub(2) };
    out.extend_from_slice(lead.of(body));
}
