//! Rows of the system's tables on their way to a client: addresses of nodes become the address it dialled.

use super::CqlEngine;
use super::error::Failure;
use super::face::{Rewrite, Shown, local_cell, selected};
use super::request::RequestId;
use crate::ledger::Outcome;
use crate::units::{Instant, LaneId};
use std::borrow::Cow;
use weir_cql::envelope::Header;
use weir_cql::response::{MetadataEdit, Prefix, Rows};
use weir_cql::{read, write};

/// A page of rows as a node sent it.
#[derive(Clone, Copy)]
pub(super) struct Page<'a> {
    pub(super) header: &'a Header,
    pub(super) body: &'a [u8],
    pub(super) prefix: &'a Prefix,
    pub(super) rows: &'a Rows,
}

impl CqlEngine {
    pub(super) fn rewritten(&mut self, id: RequestId, lane: LaneId, page: Page<'_>, now: Instant) {
        let peers = self.requests.get(id).is_some_and(|request| request.rewrite == Rewrite::Peers);
        if peers && self.fills_peers(id, lane, page, now) {
            return;
        }
        let Page { header, body, prefix, rows } = page;
        let Some(request) = self.requests.get_mut(id) else { return };
        let client = &self.clients[request.client.slot as usize];
        let mut out = Vec::with_capacity(body.len() + 64);
        out.extend_from_slice(&body[..prefix.message.start as usize]);
        match request.rewrite {
            Rewrite::None => return self.pass_on(id, header, body, Outcome::Ok, now),
            Rewrite::Peers => {
                request.rows = 0;
                let last_page = MetadataEdit {
                    paging_state: weir_cql::request::Change::Remove,
                    ..MetadataEdit::default()
                };
                rows.write_head(body, &last_page, 0, &mut out);
            }
            Rewrite::Local => {
                let names = column_names(request, body, rows);
                if names.len() != rows.metadata.column_count as usize {
                    // without names no address can be found, and none may leak
                    return self.fail(id, Failure::BadReply, now);
                }
                let second = self.settings.listeners[client.listener.0 as usize].second_weir;
                let own = Shown::own(client.dialled, second);
                rows.write_head(body, &MetadataEdit::default(), rows.count, &mut out);
                let mut found = 0;
                for row in rows.iter(body) {
                    found += 1;
                    for (name, value) in names.iter().zip(row.values(body)) {
                        let real = value.of(body);
                        let shown = local_cell(name, &own);
                        write::nullable(&mut out, shown.as_deref().filter(|_| real.is_some()).or(real));
                    }
                }
                if found != rows.count {
                    return self.fail(id, Failure::BadReply, now);
                }
            }
        }
        self.pass_on(id, header, &out, Outcome::Ok, now);
    }
}

/// The server's names of the columns: those of the statement where it has aliases, else those of the metadata, which
/// comes with the rows or came with PREPARED.
pub(super) fn column_names<'a>(
    request: &'a super::request::Request,
    body: &'a [u8],
    rows: &Rows,
) -> Vec<Cow<'a, [u8]>> {
    if let Some(prepared) = &request.prepared {
        return prepared.columns.iter().map(|name| Cow::Borrowed(&**name)).collect();
    }
    let text = query_text(request);
    let named = match (&request.statement, text) {
        (Some(known), Some(text)) => selected(text, &known.statement),
        _ => Vec::new(),
    };
    let columns = rows.metadata.columns.iter(body).enumerate();
    let columns = columns.map(|(index, column)| match named.get(index).cloned().flatten() {
        Some(name) => Cow::Owned(name.into_vec()),
        None => Cow::Borrowed(column.name.of(body)),
    });
    columns.collect()
}

/// The text of a QUERY as the client wrote it.
fn query_text(request: &super::request::Request) -> Option<&[u8]> {
    let body = request.envelope.get(weir_cql::HEADER_LEN..)?;
    let text = read::Cursor::new(body).long_string().ok()?;
    Some(text.of(body))
}
