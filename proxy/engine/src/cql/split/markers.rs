//! `IN (?, ?, ?)`: the same statement with one bound list.
//!
//! A statement with a marker for each key cannot be asked with fewer of them, so weir prepares its form with `IN ?` beside
//! it. What decides is that form's own PREPARE ([`InSplit::of`](super::InSplit::of) with its text and its answer); an
//! EXECUTE of the client's is then written as one of the list form, and cut like any other. Sent whole it stays what the
//! client sent. Texts that differ in the number of markers only have the same form.

use super::cut::plain_request;
use super::shape::{Whole, row_wise};
use std::sync::Arc;
use weir_cql::envelope::Header;
use weir_cql::key::KeyType;
use weir_cql::request::Execute;
use weir_cql::response::Prepared;
use weir_cql::statement::{Body, InValues, Statement};
use weir_cql::{CqlType, Dialect, Span, Value, write};

/// Fewer markers are not worth a second PREPARE.
pub const MARKERS_MIN: u32 = 2;

/// The list form of a statement.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListForm {
    /// Its text: to be prepared where (keyspace, version) the client's was.
    pub text: Arc<[u8]>,
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
        let text = [before, b" ? ", after].concat().into();
        Ok(ListForm { text, first, count, values: statement.markers })
    }

    /// Whether the answer to the client's own PREPARE (`prepared`, located in `body`) leaves it open that the form can be
    /// cut: where it does not, the form need not be prepared.
    ///
    /// # Errors
    /// Why it cannot be.
    pub fn may_be_cut(&self, body: &[u8], prepared: &Prepared) -> Result<(), Whole> {
        if u32::from(self.values) != prepared.markers.count {
            return Err(Whole::NotTheKey);
        }
        // Cassandra counts the last marker of `pk IN (?, ?)` as the key's, and none of `IN ?`; where the key is bound
        // without these markers they are another column's
        let mut indices = prepared.key_indices(body).peekable();
        if indices.peek().is_some() && !indices.any(|index| self.is_key(index.into())) {
            return Err(Whole::NotTheKey);
        }
        let marker = prepared.markers.iter(body).nth(usize::from(self.first)).ok_or(Whole::NotTheKey)?;
        if marker.table.keyspace.of(body).starts_with(b"system") {
            return Err(Whole::System);
        }
        let known = match CqlType::at(body, marker.kind) {
            Ok(CqlType::Native(native)) => KeyType::from_option_id(native as u16).is_some(),
            _ => false,
        };
        if known { Ok(()) } else { Err(Whole::KeyType) }
    }

    /// Whether the client's EXECUTE in `body` (of an envelope with `header`) can be written as one of the list form.
    ///
    /// # Errors
    /// When it must be sent as it came: it carries what only a whole request can, or not the values the statement asks
    /// for, or a key that is null or not set, which the server is to refuse itself.
    pub fn check(&self, header: &Header, body: &[u8], execute: &Execute) -> Result<(), Whole> {
        plain_request(self.values, header, execute)?;
        let values = (0_u32..).zip(execute.parameters.values.iter(body));
        let mut keys = values.filter(|(at, _)| self.is_key(*at));
        let bound = keys.all(|(_, (_, value))| matches!(value, Value::Bytes(_)));
        if bound { Ok(()) } else { Err(Whole::Keys) }
    }

    /// Whether the marker at this position is one of the list's.
    fn is_key(&self, at: u32) -> bool {
        at.checked_sub(self.first.into()).is_some_and(|at| at < self.count.into())
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
        let (first, last) = (u32::from(self.first), u32::from(self.first) + u32::from(self.count) - 1);
        let mut length_at = 0;
        // not counted in 16 bits: as many values as can be bound are one more than that
        for (at, (_, value)) in (0_u32..).zip(values.iter(body)) {
            if at == first {
                length_at = out.len();
                write::int(&mut out, 0);
                write::bits(&mut out, self.count.into());
            }
            match value {
                Value::Bytes(span) => write::bytes(&mut out, span.of(body)),
                // a key that is null or not set is the server's to refuse
                _ if self.is_key(at) => return Err(Whole::Keys),
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
