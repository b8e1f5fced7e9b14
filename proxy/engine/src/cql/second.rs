//! The row of `system.peers` and `system.peers_v2` that shows the second weir (`second_weir` of the listener).
//!
//! The node answers what was asked, so that columns, types, versions of the protocol and errors are its own (one
//! without `peers_v2` says so); its rows are dropped. Then it is asked for its `system.local`, over the same connection:
//! data centre, rack, release and schema version of the row are that node's, as they are in the `system.local` that
//! clients see. A row that `WHERE` leaves out is not shown; what cannot be decided here is refused when it is asked.

use super::CqlEngine;
use super::ask::{envelope, message_of};
use super::error::Failure;
use super::face::{Shown, hides_addresses};
use super::request::{Purpose, Request, RequestId, Stage};
use super::rewrite::{Page, column_names};
use super::target::bound;
use crate::ledger::Outcome;
use crate::units::{ClientId, Instant, LaneId};
use std::net::IpAddr;
use std::sync::Arc;
use weir_cql::envelope::{Flags, Header, Opcode};
use weir_cql::key::{KeyType, from_literal};
use weir_cql::request::{Change, Query, Request as Message};
use weir_cql::response::{MetadataEdit, Rows};
use weir_cql::statement::{Body, Equal, LiteralKind, Select, Statement, Value};
use weir_cql::{Consistency, Dialect, StreamId, write};

const FACTS: &str = "SELECT * FROM system.local WHERE key = 'local'";

/// A reply about peers whose row is not known yet.
#[derive(Debug)]
pub(super) struct Unfilled {
    header: Header,
    /// Everything in front of the rows; its last four bytes are how many there are.
    head: Vec<u8>,
    /// The server's names of the columns.
    columns: Vec<Box<[u8]>>,
}

impl CqlEngine {
    /// The second weir that this client is shown.
    fn second_of(&self, client: ClientId) -> Option<Shown> {
        let client = &self.clients[client.slot as usize];
        Shown::second(client.dialled, self.settings.listeners[client.listener.0 as usize].second_weir)
    }

    /// Whether this client may ask that of peers; the error says how to ask.
    pub(super) fn may_ask_peers(
        &self,
        client: ClientId,
        text: &[u8],
        statement: &Statement,
    ) -> Result<(), String> {
        let Body::Select(select) = &statement.body else { return Ok(()) };
        if self.second_of(client).is_none() || (!hides_addresses(select) && is_decidable(text, select)) {
            return Ok(());
        }
        Err("weir: select plain columns of system.peers, whole or by column = value: weir shows the second weir there"
            .to_owned())
    }

    /// A reply about peers came: what it says of rows is kept, and the node asked for what the second weir's shows.
    /// `false`: there is none to show.
    pub(super) fn fills_peers(&mut self, id: RequestId, lane: LaneId, page: Page<'_>, now: Instant) -> bool {
        let Page { header, body, prefix, rows } = page;
        let Some(request) = self.requests.get(id) else { return true };
        if self.second_of(request.client).is_none() {
            return false;
        }
        let names = column_names(request, body, rows);
        if names.len() != rows.metadata.column_count as usize {
            self.fail(id, Failure::BadReply, now);
            return true;
        }
        let columns = names.into_iter().map(|name| name.into_owned().into_boxed_slice()).collect();
        let mut head = Vec::with_capacity(body.len() + 8);
        head.extend_from_slice(&body[..prefix.message.start as usize]);
        let last_page = MetadataEdit { paging_state: Change::Remove, ..MetadataEdit::default() };
        rows.write_head(body, &last_page, 0, &mut head);
        let mut question = Vec::with_capacity(FACTS.len() + 16);
        Query::write(FACTS, Consistency::ONE, Dialect::of(header.version), &mut question);
        let plain = Header {
            version: header.version,
            flags: Flags::default(),
            stream: StreamId(0),
            opcode: Opcode::Query,
            body_len: 0,
        };
        let purpose = Purpose::SecondWeir(Arc::new(Unfilled { header: *header, head, columns }));
        if !self.asks_more(id, lane, &envelope(&plain, &question), purpose, now) {
            self.fail(id, Failure::NotSent, now);
        }
        true
    }

    /// What the row shows is known.
    pub(super) fn peers_filled(
        &mut self,
        id: RequestId,
        unfilled: &Unfilled,
        body: &[u8],
        rows: &Rows,
        now: Instant,
    ) {
        let Some(request) = self.requests.get(id) else { return };
        let Some(local) = rows.iter(body).next() else { return self.fail(id, Failure::BadReply, now) };
        let facts: Vec<(&[u8], Option<&[u8]>)> = rows
            .metadata
            .columns
            .iter(body)
            .zip(local.values(body))
            .map(|(column, value)| (column.name.of(body), value.of(body)))
            .collect();
        // a reload may have taken it away
        let second = self.second_of(request.client);
        let cell = |column: &[u8]| second.as_ref().and_then(|second| peers_cell(column, second, &facts));
        let mut out = unfilled.head.clone();
        let shown = second.is_some() && self.is_asked_for(request, &cell);
        if shown {
            out.truncate(out.len() - 4);
            write::int(&mut out, 1);
            for column in &unfilled.columns {
                write::nullable(&mut out, cell(column).as_deref());
            }
        }
        let Some(request) = self.requests.get_mut(id) else { return };
        request.purpose = Purpose::Forward;
        request.rows = shown.into();
        self.pass_on(id, &unfilled.header, &out, Outcome::Ok, now);
    }

    /// Sends a question of weir's own in the place of a request, on the connection that has just answered it; `false`
    /// where that has no stream id left.
    pub(super) fn asks_more(
        &mut self,
        id: RequestId,
        lane: LaneId,
        envelope: &[u8],
        purpose: Purpose,
        now: Instant,
    ) -> bool {
        let Some(stream) = self.lanes[lane.0 as usize].take_stream(id, now) else { return false };
        let Some(request) = self.requests.get_mut(id) else { return true };
        request.purpose = purpose;
        request.stage = Stage::Sent(lane, stream);
        let operations = request.operations;
        let out = &mut self.lanes[lane.0 as usize];
        out.send(envelope, stream);
        let (node, version) = (out.info.node, out.info.version);
        let node = &mut self.nodes[node.0 as usize];
        node.operations += operations;
        if let Some(group) = node.group_mut(version) {
            group.in_flight += 1;
        }
        self.mark_lane(lane);
        true
    }

    /// Whether the row with these cells is one that the request asks for.
    fn is_asked_for(&self, request: &Request, cell: &impl Fn(&[u8]) -> Option<Vec<u8>>) -> bool {
        let Some((message, body)) = message_of(request) else { return false };
        let (text, values) = match (&message, &request.prepared) {
            (Message::Query(query), _) => (query.text.of(body), &query.parameters.values),
            (Message::Execute(execute), Some(prepared)) => (&*prepared.text, &execute.parameters.values),
            _ => return false,
        };
        // of the text as it was sent: a keyspace may have been written into the client's
        let known = self.statements.peek(text);
        let Body::Select(select) = &known.statement.body else { return false };
        is_decidable(text, select)
            && select.filter.equal.iter().all(|equal| {
                let wanted = match equal.value {
                    Value::Bind(marker) => {
                        // a `?` is called as the column
                        let names = &known.statement.marker_names;
                        let own = names.iter().find(|(place, _)| *place == marker);
                        let name = own.map_or(equal.column, |(_, name)| *name).normal(text);
                        bound(values, body, marker, &name).map(<[u8]>::to_vec)
                    }
                    _ => literal(text, equal),
                };
                wanted.is_some() && wanted == cell(&equal.column.normal(text))
            })
    }
}

/// Whether it can be told here which rows `WHERE` means: every relation is an `=` of a column whose type is known.
fn is_decidable(text: &[u8], select: &Select) -> bool {
    let filter = &select.filter;
    let known = |equal: &Equal| match equal.value {
        Value::Bind(_) => is_shown(&equal.column.normal(text)),
        _ => literal(text, equal).is_some(),
    };
    filter.ins.is_empty() && !filter.token && filter.others == 0 && filter.equal.iter().all(known)
}

/// The bytes of the literal that a column is compared with.
fn literal(text: &[u8], equal: &Equal) -> Option<Vec<u8>> {
    let Value::Literal(form, span) = equal.value else { return None };
    let written = span.bytes(text);
    let kind = match &*equal.column.normal(text) {
        b"peer" | b"preferred_ip" | b"rpc_address" | b"native_address" => {
            let inner = written.strip_prefix(b"'")?.strip_suffix(b"'")?;
            let address: IpAddr =
                std::str::from_utf8(inner).ok().filter(|_| form == LiteralKind::String)?.parse().ok()?;
            return Some(super::face::address_bytes(address));
        }
        b"peer_port" | b"preferred_port" | b"native_port" => KeyType::Int,
        b"host_id" | b"schema_version" => KeyType::Uuid,
        b"data_center" | b"rack" | b"release_version" => KeyType::Text,
        _ => return None,
    };
    from_literal(kind, form, written)
}

/// A cell of the second weir's row; `None`: null.
fn peers_cell(column: &[u8], second: &Shown, facts: &[(&[u8], Option<&[u8]>)]) -> Option<Vec<u8>> {
    let fact = |name: &[u8]| facts.iter().find(|(fact, _)| *fact == name)?.1.map(<[u8]>::to_vec);
    match column {
        b"peer" | b"preferred_ip" | b"rpc_address" | b"native_address" => Some(second.address()),
        b"native_port" => Some(second.port()),
        // between nodes, not to them: the port that `system.local` tells of this weir too
        b"peer_port" | b"preferred_port" => fact(b"broadcast_port"),
        b"host_id" => Some(second.host_id.to_vec()),
        b"tokens" => Some(second.tokens()),
        b"data_center" | b"rack" | b"release_version" | b"schema_version" => fact(column),
        _ => None,
    }
}

/// Columns that the row has values in, and that `WHERE` may name (the server refuses a set there itself).
fn is_shown(column: &[u8]) -> bool {
    const SHOWN: [&[u8]; 12] = [
        b"peer",
        b"preferred_ip",
        b"rpc_address",
        b"native_address",
        b"peer_port",
        b"preferred_port",
        b"native_port",
        b"host_id",
        b"schema_version",
        b"data_center",
        b"rack",
        b"release_version",
    ];
    SHOWN.contains(&column)
}
