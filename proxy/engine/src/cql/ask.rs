//! QUERY, PREPARE, EXECUTE and BATCH: what they ask for, in operations, and what is sent for them.
//!
//! Bodies are passed on untouched but where the keyspace that a client chose by `USE` must be said: weir's connections
//! are shared, so they have no keyspace of their own. v5 has a field for it; in older versions the table's name in the
//! text is qualified.

use super::CqlEngine;
use super::face::{Rewrite, SystemTable, hides_addresses, system_table_in};
use super::failover::Tried;
use super::method::Method;
use super::prepared::Key;
use super::request::{Purpose, Request, Stage};
use super::statements::{Known, tables};
use super::target::{Finder, First, Target};
use crate::correlate::{CorrelationId, Said};
use crate::ledger::{self, Outcome};
use crate::units::{ClientId, Instant, Operations};
use std::sync::Arc;
use weir_cql::envelope::{Flags, Header, Opcode};
use weir_cql::request::{
    Batch, Change, Execute, ParameterEdit, Prepare, Query, Request as Message, take_request_id,
};
use weir_cql::response::{ErrorBody, ErrorCode, ErrorDetail};
use weir_cql::statement::{self, Body};
use weir_cql::{Dialect, Version, own, write};

/// What is to be sent for a message, and what it costs.
pub(super) struct Draft {
    pub(super) method: Method,
    pub(super) purpose: Purpose,
    pub(super) rewrite: Rewrite,
    /// The envelope; its stream id is filled in when it is sent.
    pub(super) envelope: Vec<u8>,
    pub(super) prepared: Option<Arc<super::prepared::Prepared>>,
    pub(super) known: Option<Arc<Known>>,
    pub(super) named: Option<ledger::Statement>,
    pub(super) idempotent: bool,
    /// The partition, and whether replicas are asked in their own order.
    pub(super) target: Option<Target>,
    pub(super) ordered: bool,
    pub(super) operations: Operations,
    /// The version it is sent in, where that is not the client's.
    pub(super) version: Version,
    /// Which request of a service it is a part of.
    pub(super) correlation: Option<Box<Said>>,
}

impl Draft {
    fn new(method: Method, header: &Header, envelope: Vec<u8>) -> Draft {
        Draft {
            method,
            purpose: Purpose::Forward,
            rewrite: Rewrite::None,
            envelope,
            prepared: None,
            known: None,
            named: None,
            idempotent: false,
            target: None,
            ordered: false,
            operations: Operations(1),
            version: header.version,
            correlation: None,
        }
    }
}

/// Header and body as one envelope.
pub(super) fn envelope(header: &Header, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(weir_cql::envelope::HEADER_LEN + body.len());
    Header { body_len: body.len() as u32, ..*header }.write(&mut bytes);
    bytes.extend_from_slice(body);
    bytes
}

/// The message in the envelope of a request, and the body it is in.
pub(super) fn message_of(request: &Request) -> Option<(Message, &[u8])> {
    let body = request.envelope.get(weir_cql::HEADER_LEN..)?;
    let header = Header {
        version: request.version,
        flags: weir_cql::envelope::Flags(*request.envelope.get(1)?),
        stream: weir_cql::StreamId(0),
        opcode: Opcode::from_number(*request.envelope.get(4)?)?,
        body_len: body.len() as u32,
    };
    Some((Message::locate(&header, body, Dialect::of(request.version)).ok()?, body))
}

impl CqlEngine {
    pub(super) fn ask(&mut self, id: ClientId, header: Header, body: &[u8], now: Instant) {
        let known = self.clients[id.slot as usize].known;
        if header.flags.has(Flags::CUSTOM_PAYLOAD)
            && self.callers.known[known as usize].request_ids
            && let Some(taken) = take_request_id(&header, body)
        {
            let correlation = Some(Box::new(CorrelationId(taken.id).into()));
            return self.ask_as(id, taken.header, &taken.body, correlation, now);
        }
        self.ask_as(id, header, body, None, now);
    }

    /// The same as a part of this request of a service.
    fn ask_as(
        &mut self,
        id: ClientId,
        header: Header,
        body: &[u8],
        correlation: Option<Box<Said>>,
        now: Instant,
    ) {
        let dialect = self.clients[id.slot as usize].dialect();
        let message = match Message::locate(&header, body, dialect) {
            Ok(message) => message,
            Err(reason) => return self.bad_message(id, header, reason.label(), now),
        };
        if let Some((mark, unmarked)) = self.unmarked(id, &message, body) {
            let header = Header { body_len: unmarked.len() as u32, ..header };
            let said = correlation.unwrap_or_else(|| Box::new(Said::Mark(mark)));
            return self.ask_as(id, header, &unmarked, Some(said), now);
        }
        let draft = match message {
            Message::Query(query) => self.query(id, &header, body, &query, now),
            Message::Prepare(prepare) => self.prepare(id, &header, body, &prepare, now),
            Message::Execute(execute) => self.execute(id, &header, body, &execute, now),
            Message::Batch(batch) => self.batch(id, &header, body, &batch),
            _ => return self.bad_message(id, header, "not a statement", now),
        };
        match draft {
            Ok(Some(draft)) => self.submit(id, &header, Draft { correlation, ..draft }, now),
            Ok(None) => {}
            Err(refusal) => self.refuse(id, &header, &refusal, now),
        }
    }

    fn query(
        &mut self,
        id: ClientId,
        header: &Header,
        body: &[u8],
        query: &Query,
        now: Instant,
    ) -> Result<Option<Draft>, String> {
        let text = query.text.of(body);
        let known = self.statements.read(text);
        if let Body::Use(name) = &known.statement.body {
            self.use_keyspace(id, header, &name.normal(text), now);
            return Ok(None);
        }
        never_use(&known)?;
        let own_keyspace = query.parameters.keyspace.map(|span| span.of(body));
        let keyspace = self.clients[id.slot as usize].keyspace.clone();
        let system = system_of(&known, text, own_keyspace.or(keyspace.as_deref().map(str::as_bytes)));
        let scan = self.scan_operations(id);
        let mut draft = Draft {
            named: Some(known.named(own_keyspace.map_or_else(|| keyspace.clone(), text_of))),
            idempotent: known.idempotent,
            operations: known.operations(&query.parameters.values, body, scan),
            ..Draft::new(known.method, header, Vec::new())
        };
        if let Some(system) = system {
            draft.method = Method::System;
            draft.operations = Operations(1);
            draft.rewrite = self.rewrite_of(id, system, text, &known)?;
        } else if let Some(finder) = self.finder(id) {
            let chosen = own_keyspace.or(keyspace.as_deref().map(str::as_bytes));
            draft.target = finder.query(&known, text, chosen, &query.parameters, body);
            draft.ordered = known.conditional || query.parameters.consistency.value.is_serial();
        }
        self.note_opaque(&known);
        let missing = keyspace.filter(|_| own_keyspace.is_none());
        match missing {
            Some(keyspace) if header.version >= Version::V5 => {
                let mut out = Vec::with_capacity(body.len() + keyspace.len() + 2);
                let edit =
                    ParameterEdit { keyspace: Change::Set(keyspace.as_bytes()), ..ParameterEdit::default() };
                query.rewrite(body, None, &edit, &mut out);
                draft.envelope = envelope(header, &out);
            }
            Some(keyspace) if known.opaque.is_some() => {
                self.in_newer_version(header, body, query, &keyspace, &mut draft, id)?;
            }
            Some(keyspace) if known.unqualified => {
                let text = statement::qualify(&known.statement, text, &keyspace).unwrap_or(text.into());
                let mut out = Vec::with_capacity(body.len() + text.len());
                query.rewrite(body, Some(&text), &ParameterEdit::default(), &mut out);
                draft.envelope = envelope(header, &out);
            }
            _ => draft.envelope = envelope(header, body),
        }
        draft.known = Some(known);
        Ok(Some(draft))
    }

    /// A statement weir does not understand, asked in a keyspace that only a connection of its own or a v5 message can
    /// say: it is sent in v5.
    fn in_newer_version(
        &self,
        header: &Header,
        body: &[u8],
        query: &Query,
        keyspace: &str,
        draft: &mut Draft,
        id: ClientId,
    ) -> Result<(), String> {
        let settings = self.cluster_settings(self.clients[id.slot as usize].cluster);
        if settings.newest_version < Version::V5 {
            return Err(format!(
                "weir: this statement is passed through unread, and its connection is shared: name the keyspace in \
                 it ({keyspace}.table) instead of by USE"
            ));
        }
        // v5 differs in the width of the flags and has the keyspace behind everything that older versions have
        let parameters = &query.parameters;
        let fields = weir_cql::Span { start: parameters.consistency.at + 3, end: parameters.span.end };
        let mut out = Vec::with_capacity(body.len() + keyspace.len() + 16);
        out.extend_from_slice(&body[..query.text.end as usize]);
        write::consistency(&mut out, parameters.consistency.value);
        write::bits(&mut out, parameters.flags.0 | weir_cql::request::QueryFlags::KEYSPACE);
        out.extend_from_slice(fields.of(body));
        write::short_bytes(&mut out, keyspace.as_bytes());
        draft.envelope = envelope(&Header { version: Version::V5, ..*header }, &out);
        draft.version = Version::V5;
        Ok(())
    }

    fn prepare(
        &mut self,
        id: ClientId,
        header: &Header,
        body: &[u8],
        prepare: &Prepare,
        now: Instant,
    ) -> Result<Option<Draft>, String> {
        let text = prepare.text.of(body);
        let known = self.statements.read(text);
        never_use(&known)?;
        let own_keyspace = prepare.keyspace.map(|span| span.of(body));
        let client = &self.clients[id.slot as usize];
        let chosen = match own_keyspace {
            Some(keyspace) => {
                Some(std::str::from_utf8(keyspace).map_err(|_| "weir: the keyspace is no text")?.into())
            }
            None => client.keyspace.clone(),
        };
        let system = system_of(&known, text, chosen.as_deref().map(str::as_bytes));
        let dialect = client.dialect();
        let (mut text_sent, mut keyspace_sent) = (text.to_vec(), None);
        if let Some(keyspace) = &chosen
            && (known.unqualified || known.opaque.is_some())
        {
            if header.version >= Version::V5 {
                keyspace_sent = Some(keyspace.clone());
            } else if known.opaque.is_some() {
                return Err(format!(
                    "weir: this statement cannot be read, and its connection is shared: name the keyspace in it \
                     ({keyspace}.table) instead of by USE"
                ));
            } else {
                text_sent =
                    statement::qualify(&known.statement, text, keyspace).unwrap_or(text.into()).into_owned();
            }
        }
        let mut sent = Vec::with_capacity(text_sent.len() + 16);
        Prepare::write(&text_sent, keyspace_sent.as_deref().map(str::as_bytes), dialect, &mut sent);
        let rewrite = match system {
            Some(system) => self.rewrite_of(id, system, text, &known)?,
            None => Rewrite::None,
        };
        let key = Key { version: header.version, keyspace: keyspace_sent, text: text_sent.into() };
        self.note_opaque(&known);
        let cluster = self.clients[id.slot as usize].cluster;
        if let Some(prepared) = self.registry(cluster).find(&key) {
            self.prepared_already(id, header, &prepared, now);
            return Ok(None);
        }
        Ok(Some(Draft {
            purpose: Purpose::Prepare(key),
            rewrite,
            idempotent: true,
            named: Some(known.named(chosen)),
            known: Some(known),
            // the payload of the client, if any, is not passed on: what is prepared is everybody's
            ..Draft::new(Method::Prepare, header, envelope(&without_payload(header), &sent))
        }))
    }

    fn execute(
        &mut self,
        id: ClientId,
        header: &Header,
        body: &[u8],
        execute: &Execute,
        now: Instant,
    ) -> Result<Option<Draft>, String> {
        let cluster = self.clients[id.slot as usize].cluster;
        let statement = execute.id.of(body);
        let Some(prepared) = self.registry(cluster).get(statement) else {
            self.unprepared(id, header, statement, now);
            return Ok(None);
        };
        let scan = self.scan_operations(id);
        let known = &prepared.known;
        let system = prepared.system;
        let finder = self.finder(id).filter(|_| !system);
        let target = finder.and_then(|finder| finder.execute(&prepared, &execute.parameters.values, body));
        Ok(Some(Draft {
            idempotent: known.idempotent,
            target,
            ordered: known.conditional || execute.parameters.consistency.value.is_serial(),
            rewrite: prepared.rewrite,
            operations: if system {
                Operations(1)
            } else {
                known.operations(&execute.parameters.values, body, scan)
            },
            known: Some(known.clone()),
            named: Some(prepared.named.clone()),
            ..Draft::new(if system { Method::System } else { known.method }, header, envelope(header, body))
        })
        .map(|draft| Draft { prepared: Some(prepared), ..draft }))
    }

    fn batch(
        &mut self,
        id: ClientId,
        header: &Header,
        body: &[u8],
        batch: &Batch,
    ) -> Result<Option<Draft>, String> {
        let cluster = self.clients[id.slot as usize].cluster;
        let mut idempotent = batch.head.kind != weir_cql::request::BatchKind::Counter;
        let (mut unqualified, mut ordered, mut first) = (false, false, None);
        let keyspace = self.clients[id.slot as usize].keyspace.clone();
        let chosen = batch.keyspace.map_or_else(|| keyspace.clone(), |span| text_of(span.of(body)));
        let mut named = None;
        for part in batch.statements(body) {
            let source = part.source.of(body);
            if part.prepared {
                let prepared = self.registry(cluster).get(source);
                idempotent &= prepared.as_ref().is_some_and(|prepared| prepared.known.idempotent);
                named = named.or_else(|| Some(prepared.as_ref()?.named.clone()));
                ordered |= prepared.as_ref().is_some_and(|prepared| prepared.known.conditional);
                first = first.or_else(|| Some(prepared.map(First::Prepared)));
            } else {
                let known = self.statements.read(source);
                idempotent &= known.idempotent;
                ordered |= known.conditional;
                unqualified |= known.unqualified || known.opaque.is_some();
                named = named.or_else(|| Some(known.named(chosen.clone())));
                first = first.or(Some(Some(First::Text(known))));
            }
        }
        let finder = first.flatten().zip(self.finder(id));
        let of_client = keyspace.as_deref().map(str::as_bytes);
        let target = finder.and_then(|(first, finder)| finder.batch(batch, &first, of_client, body));
        let keyspace = keyspace.filter(|_| unqualified && batch.keyspace.is_none());
        let envelope = match keyspace {
            Some(keyspace) if header.version >= Version::V5 => {
                let mut out = Vec::with_capacity(body.len() + keyspace.len() + 2);
                let parts = batch.statements(body);
                let parts = parts.map(|statement| weir_cql::request::BatchPart { statement, id: None });
                let edit = weir_cql::request::BatchEdit {
                    keyspace: Change::Set(keyspace.as_bytes()),
                    ..Default::default()
                };
                batch.rewrite(body, parts, &edit, &mut out);
                self::envelope(header, &out)
            }
            Some(keyspace) => self::envelope(header, &self.qualified_batch(body, batch, &keyspace)?),
            None => self::envelope(header, body),
        };
        Ok(Some(Draft {
            named,
            idempotent,
            target,
            ordered,
            operations: Operations(u64::from(batch.head.count).max(1)),
            ..Draft::new(Method::Batch, header, envelope)
        }))
    }

    /// The batch with every table of its texts qualified.
    fn qualified_batch(&mut self, body: &[u8], batch: &Batch, keyspace: &str) -> Result<Vec<u8>, String> {
        let mut out = Vec::with_capacity(body.len() + 64);
        out.extend_from_slice(&body[..batch.statements.start as usize]);
        for part in batch.statements(body) {
            let source = part.source.of(body);
            if part.prepared {
                out.extend_from_slice(part.span.of(body));
                continue;
            }
            let known = self.statements.read(source);
            if known.opaque.is_some() {
                return Err(format!(
                    "weir: a statement of this batch cannot be read: name the keyspace in it \
                     ({keyspace}.table) instead of by USE"
                ));
            }
            write::byte(&mut out, 0);
            write::bytes(
                &mut out,
                &statement::qualify(&known.statement, source, keyspace).unwrap_or(source.into()),
            );
            let rest = weir_cql::Span { start: part.source.end, end: part.span.end };
            out.extend_from_slice(rest.of(body));
        }
        out.extend_from_slice(&body[batch.statements.end as usize..]);
        Ok(out)
    }

    /// `USE`: whether the keyspace exists is asked of a node; the connection waits, because what it sends next depends
    /// on the answer.
    fn use_keyspace(&mut self, id: ClientId, header: &Header, keyspace: &[u8], now: Instant) {
        let Ok(name) = std::str::from_utf8(keyspace) else {
            return self.refuse(id, header, "weir: the keyspace is no text", now);
        };
        let literal = name.replace('\'', "''");
        let text =
            format!("SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = '{literal}'");
        let mut body = Vec::with_capacity(text.len() + 16);
        Query::write(&text, weir_cql::Consistency::ONE, Dialect::of(header.version), &mut body);
        let flags = weir_cql::envelope::Flags::default();
        self.clients[id.slot as usize].using = true;
        let draft = Draft {
            purpose: Purpose::Use(name.into()),
            idempotent: true,
            ..Draft::new(Method::Use, header, envelope(&Header { flags, ..*header }, &body))
        };
        self.submit(id, header, draft, now);
    }

    /// A statement nobody prepared through this worker, or that was forgotten: drivers prepare it again and go on.
    fn unprepared(&mut self, id: ClientId, header: &Header, statement: &[u8], now: Instant) {
        let message = "weir: this statement is not known here; prepare it again";
        let body = ErrorBody {
            code: ErrorCode::UNPREPARED,
            message: message.as_bytes(),
            detail: ErrorDetail::Unprepared(statement),
        };
        let (version, stream) = (header.version, header.stream);
        self.reply(id, |out| own::error(out, version, stream, &body));
        self.account_local(id, Method::Other, header.envelope_len(), Outcome::Error, now);
    }

    /// Answered without a node: a size or form that weir does not take.
    fn refuse(&mut self, id: ClientId, header: &Header, message: &str, now: Instant) {
        let (version, stream) = (header.version, header.stream);
        self.reply(id, |out| {
            own::error(out, version, stream, &ErrorBody::plain(ErrorCode::INVALID, message))
        });
        self.account_local(id, Method::Invalid, header.envelope_len(), Outcome::Refused, now);
    }

    fn prepared_already(
        &mut self,
        id: ClientId,
        header: &Header,
        prepared: &super::prepared::Prepared,
        now: Instant,
    ) {
        let answer = Header {
            version: header.version,
            flags: weir_cql::envelope::Flags::default(),
            stream: header.stream,
            opcode: Opcode::Result,
            body_len: prepared.body.len() as u32,
        };
        self.reply(id, |out| {
            answer.write(out);
            out.extend_from_slice(&prepared.body);
        });
        self.account_local(id, Method::Prepare, header.envelope_len(), Outcome::Ok, now);
    }

    fn submit(&mut self, id: ClientId, header: &Header, draft: Draft, now: Instant) {
        self.hold_account(id, draft.operations.0, now);
        let client = &mut self.clients[id.slot as usize];
        client.data |= !matches!(draft.method, Method::System | Method::Use | Method::Prepare);
        let request = Request {
            client: id,
            stream: header.stream,
            place: client.live.len() as u32,
            known: client.known,
            method: draft.method,
            stage: Stage::New,
            purpose: draft.purpose,
            rewrite: draft.rewrite,
            version: draft.version,
            answer_version: header.version,
            bytes_in: draft.envelope.len() as u64,
            envelope: draft.envelope,
            job: None,
            prepared: draft.prepared,
            statement: draft.known,
            target: draft.target,
            ordered: draft.ordered,
            shard: None,
            routed: None,
            tried: Tried::default(),
            named: draft.named,
            idempotent: draft.idempotent,
            attempts: 0,
            repairs: 0,
            sent_to: None,
            operations: draft.operations.0,
            held: None,
            arrived: now,
            waiting_since: now,
            first_sent: None,
            sent: now,
            rows: 0,
            bytes_out: 0,
            outcome: Outcome::Ok,
            coalesced: false,
            correlation: draft.correlation,
        };
        let (known, bytes) = (request.known, request.envelope.len());
        let request = self.requests.insert(request);
        self.input_bytes += bytes;
        self.input_crowded |= self.over_input_bound();
        let client = &mut self.clients[id.slot as usize];
        client.live.push(request);
        client.asked += bytes;
        self.callers.known[known as usize].requests += 1;
        self.dispatch(request, now);
    }

    /// Finds the partitions of a client's requests; `None` while nobody has told where data lies.
    fn finder(&mut self, id: ClientId) -> Option<Finder<'_>> {
        let cluster = self.clients[id.slot as usize].cluster;
        Finder::new(&mut self.clusters[cluster.0 as usize], &mut self.key)
    }

    fn scan_operations(&self, id: ClientId) -> Operations {
        self.cluster_settings(self.clients[id.slot as usize].cluster).scan_operations
    }

    /// What is done with the rows of a system table that a client asks for; the error says how to ask.
    fn rewrite_of(
        &self,
        id: ClientId,
        system: SystemTable,
        text: &[u8],
        known: &Known,
    ) -> Result<Rewrite, String> {
        if system == SystemTable::Local
            && let Body::Select(select) = &known.statement.body
            && hides_addresses(select)
        {
            return Err(
                "weir: select plain columns of system.local: weir shows its own address there".to_owned()
            );
        }
        if system == SystemTable::Peers {
            self.may_ask_peers(id, text, &known.statement)?;
        }
        Ok(system.rewrite())
    }

    fn note_opaque(&mut self, known: &Known) {
        if let Some(cause) = known.opaque {
            self.opaque[cause as usize] += 1;
        }
    }
}

/// `USE` changes the connection it is sent on, which is shared: what cannot be read of it is refused, and so is its
/// PREPARE.
fn never_use(known: &Known) -> Result<(), String> {
    if known.method == Method::Use {
        return Err("weir: USE is taken as a QUERY of its own, in the form USE keyspace".to_owned());
    }
    Ok(())
}

fn text_of(keyspace: &[u8]) -> Option<Arc<str>> {
    std::str::from_utf8(keyspace).ok().map(Arc::from)
}

fn without_payload(header: &Header) -> Header {
    Header { flags: header.flags.without(weir_cql::envelope::Flags::CUSTOM_PAYLOAD), ..*header }
}

/// Which system table the statement is about, given the keyspace chosen for unqualified names.
fn system_of(known: &Known, text: &[u8], keyspace: Option<&[u8]>) -> Option<SystemTable> {
    if known.system.is_some() {
        return known.system;
    }
    let keyspace = keyspace.filter(|_| known.unqualified)?;
    let table = tables(&known.statement).next()?;
    system_table_in(keyspace, &table.name.normal(text))
}
