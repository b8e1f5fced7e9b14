//! `IN (?, ?)` split as `IN ?`: a statement with a marker for each key cannot be asked with fewer keys, so what is asked
//! in parts is another one, of weir's own, with one list in place of the markers ([`super::split::ListForm`]).
//!
//! It is prepared when a request for more than `chunk_keys` keys comes first: in the place of that request, on a
//! connection for single requests; who needs the same meanwhile waits for the same PREPARE, with clients that happen to
//! ask for it. Then it is in the registry like any other, so that a node that does not know it yet, or has forgotten it,
//! is told by its first part. Texts that differ in the number of markers share one. What a client is told is never of
//! it: page states name the client's statement, and the ledger has the client's too.
//!
//! Where it cannot be had the request is sent whole, with the reason counted: [`REFUSED`], [`UNPREPARED`].
//!
//! Bounds: the registry's; a request waits for at most [`TRIES`] PREPAREs, each no longer than `request_timeout`. What a node
//! refuses is not asked again until the schema changes.

use super::CqlEngine;
use super::error::Failure;
use super::prepared::{Key, Prepared, Told};
use super::request::{Purpose, RequestId, Stage};
use super::split::{ListForm, Whole};
use crate::ledger::Outcome;
use crate::units::{Instant, LaneId};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use weir_cql::envelope::{Header, Opcode};
use weir_cql::response::{self, ErrorBody, ErrorCode, Prefix, ResultBody};
use weir_cql::statement::Statement;
use weir_cql::{Cursor, Dialect, Version};

/// Why a request is sent whole: a node does not take the statement with one list.
pub(super) const REFUSED: &str = "list_refused";
/// The same: it could not be prepared now, because no connection was free, one was lost, or a node turned it away.
pub(super) const UNPREPARED: &str = "list_unprepared";

/// PREPAREs that one request waits for.
const TRIES: u8 = 2;

/// The statement with one list of a statement with a marker for each key.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) form: ListForm,
    keyspace: Option<Arc<str>>,
    /// One more than the number of schema changes when a node refused it; 0: none did.
    refused: AtomicU64,
}

impl Listed {
    /// Of a statement that was prepared with `key` and is not split itself; `prepared` is what the node told of it, located
    /// in `body`.
    pub(super) fn of(
        key: &Key,
        statement: &Statement,
        body: &[u8],
        prepared: &response::Prepared,
    ) -> Result<Listed, Whole> {
        let form = ListForm::of(&key.text, statement)?;
        form.may_be_cut(body, prepared)?;
        Ok(Listed { form, keyspace: key.keyspace.clone(), refused: AtomicU64::new(0) })
    }

    /// What its PREPARE is known by. The version is that of the request: a statement is executed in others than the one
    /// it was prepared in.
    fn key(&self, version: Version) -> Key {
        Key { version, keyspace: self.keyspace.clone(), text: self.form.text.clone() }
    }
}

/// Whether the statement with one list is there.
pub(super) enum Listing {
    Known(Arc<Prepared>),
    /// The request goes on when its PREPARE has ended.
    Asked,
    /// It cannot be had, for this reason.
    Missing(&'static str),
}

impl CqlEngine {
    /// The statement that a request is split in, which executes `prepared`; where it is not known the request waits for it.
    pub(super) fn list_of(
        &mut self,
        id: RequestId,
        prepared: &Prepared,
        listed: &Listed,
        now: Instant,
    ) -> Listing {
        let Some(request) = self.requests.get_mut(id) else { return Listing::Missing(UNPREPARED) };
        let cluster = self.clients[request.client.slot as usize].cluster;
        // the statements are those of the cluster, also where a user has connections of its own
        let of = self.clusters[cluster.0 as usize].of;
        let registry = &mut self.clusters[of.0 as usize].registry;
        let key = listed.key(request.version);
        if let Some(list) = registry.list(&key, &prepared.id) {
            return Listing::Known(list);
        }
        if listed.refused.load(Relaxed) == registry.changes() + 1 {
            return Listing::Missing(REFUSED);
        }
        if request.repairs >= TRIES {
            return Listing::Missing(UNPREPARED);
        }
        request.repairs += 1;
        request.purpose = Purpose::List(key.clone());
        if registry.join(&key, id) {
            request.stage = Stage::Joined;
            return Listing::Asked;
        }
        if self.send_list(id, &key, now) {
            return Listing::Asked;
        }
        let joined = self.registry(cluster).ended(&key, id);
        debug_assert!(joined.is_empty(), "nobody can have joined");
        if let Some(request) = self.requests.get_mut(id) {
            request.purpose = Purpose::Forward;
        }
        Listing::Missing(UNPREPARED)
    }

    /// Sends the PREPARE in the place of the request, if there is a connection with room. It waits in no queue: there is
    /// one for each statement of weir's own, seldom.
    fn send_list(&mut self, id: RequestId, key: &Key, now: Instant) -> bool {
        let Some(request) = self.requests.get(id) else { return false };
        let version = request.version;
        let cluster = self.clients[request.client.slot as usize].cluster;
        self.lay_out_version(cluster, version);
        let Some(node) = self.choose(id, cluster) else { return false };
        let Some(lane) = self.free_lane(node, version, None) else { return false };
        let envelope = super::answers::prepare_message(&key.text, key.keyspace.as_deref(), version);
        let Some(stream) = self.lanes[lane.0 as usize].take_stream(id, now) else { return false };
        self.lanes[lane.0 as usize].send(&envelope, stream);
        let Some(request) = self.requests.get_mut(id) else { return false };
        request.stage = Stage::Sent(lane, stream);
        request.sent = now;
        let node = &mut self.nodes[node.0 as usize];
        node.operations += request.operations;
        if let Some(group) = node.group_mut(version) {
            group.in_flight += 1;
        }
        self.mark_lane(lane);
        true
    }

    /// The answer to that PREPARE has come.
    pub(super) fn list_answered(&mut self, id: RequestId, header: &Header, body: &[u8], now: Instant) {
        let Some(request) = self.requests.get_mut(id) else { return };
        let Purpose::List(key) = std::mem::replace(&mut request.purpose, Purpose::Forward) else { return };
        let cluster = self.clients[request.client.slot as usize].cluster;
        let parent = request.prepared.clone();
        let prefix = Prefix::locate(header.version, header.flags, body).ok();
        let message = prefix.map(|prefix| (prefix, Cursor::within(body, prefix.message)));
        let error = match (header.opcode, message) {
            (Opcode::Result, Some((prefix, mut cursor))) => {
                let result = ResultBody::locate(&mut cursor, Dialect::of(header.version));
                if let (Ok(ResultBody::Prepared(located)), Some(parent)) = (result, &parent) {
                    let told = Told { header, body, prefix: &prefix, located: &located };
                    let none = super::face::Rewrite::None;
                    let list = Arc::new(Prepared::of(&key, &told, none, None, &mut self.statements));
                    let registry = self.registry(cluster);
                    registry.insert_list(key.clone(), list.clone(), &parent.id);
                    let joined = registry.ended(&key, id);
                    // not looked up: there may have been no room for it, or the schema changed meanwhile
                    if !self.split_in(id, Some(list), now) {
                        self.launch_whole(id, now);
                    }
                    return self.joined_prepares(joined, now);
                }
                None
            }
            (Opcode::Error, Some((_, mut cursor))) => ErrorBody::read(body, &mut cursor, header.version).ok(),
            _ => None,
        };
        let joined = self.registry(cluster).ended(&key, id);
        let why = if error.is_some_and(|error| is_final(error.code)) { REFUSED } else { UNPREPARED };
        self.without_list(id, why, now);
        for id in joined {
            let Some(request) = self.requests.get(id).filter(|request| request.stage == Stage::Joined) else {
                continue;
            };
            match (&request.purpose, header.opcode) {
                (Purpose::List(_), _) => self.without_list(id, why, now),
                // a client that asked for the same
                (_, Opcode::Error) => self.pass_on(id, header, body, Outcome::Error, now),
                _ => self.fail(id, Failure::BadReply, now),
            }
        }
    }

    /// The connection that PREPARE was sent on is gone.
    pub(super) fn list_lost(&mut self, id: RequestId, lane: LaneId, now: Instant) {
        let node = self.lanes[lane.0 as usize].info.node;
        let Some(request) = self.requests.get_mut(id) else { return };
        request.tried.note(node);
        let Purpose::List(key) = std::mem::replace(&mut request.purpose, Purpose::Forward) else { return };
        let cluster = self.clients[request.client.slot as usize].cluster;
        let joined = self.registry(cluster).ended(&key, id);
        self.launch(id, now);
        self.joined_prepares(joined, now);
    }

    /// A request that waited for the statement goes on without it: whole, where it may.
    pub(super) fn without_list(&mut self, id: RequestId, why: &'static str, now: Instant) {
        let Some(request) = self.requests.get_mut(id) else { return };
        request.purpose = Purpose::Forward;
        request.stage = Stage::New;
        let cluster = self.clients[request.client.slot as usize].cluster;
        let prepared = request.prepared.clone();
        let listed = prepared.as_ref().and_then(|prepared| prepared.listed.as_ref());
        if let Some(listed) = listed.filter(|_| why == REFUSED) {
            listed.refused.store(self.known_statements(cluster).changes() + 1, Relaxed);
        }
        if !self.missing_list(id, why, now) {
            self.launch_whole(id, now);
        }
    }

    /// Counts why a request is to be sent whole; `true` when it has been answered instead, because it goes on with pages
    /// that began in parts.
    pub(super) fn missing_list(&mut self, id: RequestId, why: &'static str, now: Instant) -> bool {
        let Some(request) = self.requests.get(id) else { return true };
        let cluster = self.clients[request.client.slot as usize].cluster;
        if !super::jobs::began_in_parts(request) {
            self.sent_whole(cluster, why);
            return false;
        }
        if why == REFUSED {
            self.refuse_job(id, super::jobs::NOT_SPLIT_ANY_MORE, now);
        } else {
            self.fail(id, Failure::NotSent, now);
        }
        true
    }
}

/// The errors that say something about the statement, not about the node or the moment.
fn is_final(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::SYNTAX_ERROR | ErrorCode::UNAUTHORIZED | ErrorCode::INVALID | ErrorCode::CONFIG_ERROR
    )
}
