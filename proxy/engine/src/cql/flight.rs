//! Single flight: a read that is the same as one that waits to be sent is answered with that one's answer.
//!
//! The first is the *leader*, the others *follow* it ([`Stage::Following`]). Each is a request of its own for limits,
//! time-outs and the ledger. A leader that was sent is only joined under a rule with `join_in_flight`, and only while
//! nothing was written that its answer depends on ([`super::writes`]). When the leader's client goes away, or its own
//! time is over, the first follower takes its place, on the connection too if it was sent.
//!
//! Two reads are the same if they are the same bytes (version, flags, text or id, values, consistency, page, keyspace) but
//! for the stream id and the default timestamp, which a SELECT does not use, and of one principal. Bytes are compared, the
//! hash only finds them. Never shared: serial reads, traced ones, those with a payload, functions that may answer
//! differently, and what weir could not read.
//!
//! Bounds: `followers_per_read` and `followers_max`; when replies are over `reply_bytes_max` in the middle of an answer,
//! the followers that are left ask anew instead of having it copied.

use super::CqlEngine;
use super::ask::message_of;
use super::error::Failure;
use super::face::Rewrite;
use super::method::Method;
use super::request::{Purpose, Request, RequestId, Stage};
use super::writes::{Seen, partition};
use crate::error::Rejected;
use crate::ledger::Outcome;
use crate::settings::Rule;
use crate::units::{Instant, LaneId, Span};
use rustc_hash::{FxBuildHasher, FxHashMap};
use std::hash::BuildHasher as _;
use weir_cql::envelope::{Flags, Header};
use weir_cql::request::Request as Message;
use weir_cql::statement::Body;

/// Everything about a read that its answer depends on.
pub(super) struct Identity<'a> {
    principal: u32,
    /// Version and flags.
    head: &'a [u8],
    /// Opcode, length, and the body up to the timestamp.
    before: &'a [u8],
    after: &'a [u8],
}

impl Identity<'_> {
    fn hash(&self) -> u64 {
        FxBuildHasher.hash_one((self.principal, self.head, self.before, self.after))
    }

    fn same(&self, other: &Identity<'_>) -> bool {
        (self.principal, self.head, self.before, self.after)
            == (other.principal, other.head, other.before, other.after)
    }

    /// One after the other: what comes first says where the next begins.
    pub(super) fn to_bytes(&self) -> Box<[u8]> {
        [&self.principal.to_be_bytes()[..], self.head, self.before, self.after].concat().into()
    }
}

/// A read that others may join, or whose answer may be kept.
#[derive(Debug)]
struct Led {
    hash: u64,
    followers: Vec<RequestId>,
    /// May be joined after it was sent.
    in_flight: bool,
    /// Its answer may be given again.
    kept: bool,
    /// Under a rule: what was written before it was sent.
    seen: Option<Seen>,
    /// It took another one's place: since when it has waited itself.
    heir_since: Option<Instant>,
}

/// What was joined, and why others were not, since the start.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FlightCounts {
    pub(super) joined: u64,
    pub(super) flights: u64,
    pub(super) refused: [u64; Apart::COUNT],
}

/// Why a read was not answered with the answer of an identical one that was under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Apart {
    /// It was sent already, and no rule lets reads join in flight.
    Sent,
    /// Something was written since it was sent.
    Written,
    /// It has `followers_per_read` followers.
    FollowersPerRead,
    /// The worker has `followers_max` followers.
    FollowersMax,
    /// Too many reply bytes were unread: it asked anew.
    Crowded,
}

impl Apart {
    /// How many causes there are.
    pub const COUNT: usize = 5;
    /// Every cause, in the order of their numbers.
    pub const ALL: [Apart; Apart::COUNT] =
        [Apart::Sent, Apart::Written, Apart::FollowersPerRead, Apart::FollowersMax, Apart::Crowded];

    /// Bounded label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Apart::Sent => "sent",
            Apart::Written => "written",
            Apart::FollowersPerRead => "followers_per_read",
            Apart::FollowersMax => "followers_max",
            Apart::Crowded => "crowded",
        }
    }
}

/// The reads of one worker that are led and followed.
#[derive(Debug, Default)]
pub(super) struct Flights {
    /// The leader that was there last, by the hash of its identity.
    by_hash: FxHashMap<u64, RequestId>,
    led: FxHashMap<RequestId, Led>,
    followers: usize,
}

impl Flights {
    /// The hash of a read whose answer may be kept, and what was written before it was sent.
    pub(super) fn keeps(&self, id: RequestId) -> Option<(u64, Seen)> {
        let led = self.led.get(&id).filter(|led| led.kept)?;
        Some((led.hash, led.seen?))
    }

    fn take(&mut self, leader: RequestId) -> Vec<RequestId> {
        let taken = self.led.get_mut(&leader).map(|led| std::mem::take(&mut led.followers));
        let taken = taken.unwrap_or_default();
        self.followers -= taken.len();
        taken
    }

    fn leave(&mut self, leader: RequestId, follower: RequestId) {
        if let Some(led) = self.led.get_mut(&leader) {
            let before = led.followers.len();
            led.followers.retain(|id| *id != follower);
            self.followers -= before - led.followers.len();
        }
    }

    /// A request has ended: what it led, where that has followers left.
    fn end(&mut self, id: RequestId) -> Option<Led> {
        let led = self.led.remove(&id)?;
        if self.by_hash.get(&led.hash) == Some(&id) {
            self.by_hash.remove(&led.hash);
        }
        self.followers -= led.followers.len();
        (!led.followers.is_empty()).then_some(led)
    }

    fn lead(&mut self, id: RequestId, led: Led, joinable: bool) {
        if joinable {
            self.by_hash.insert(led.hash, id);
        }
        self.followers += led.followers.len();
        self.led.insert(id, led);
    }

    fn is_empty(&self) -> bool {
        self.led.is_empty()
    }

    /// Panics when a sum is wrong.
    pub(super) fn check_invariants(&self) {
        let followers: usize = self.led.values().map(|led| led.followers.len()).sum();
        assert_eq!(followers, self.followers, "followers are counted");
        for (hash, leader) in &self.by_hash {
            assert!(self.led.get(leader).is_some_and(|led| led.hash == *hash), "{leader:?} leads");
        }
    }

    pub(super) fn check_quiet(&self) {
        assert!(self.led.is_empty() && self.by_hash.is_empty(), "nobody leads");
    }

    pub(super) fn leaders(&self) -> impl Iterator<Item = RequestId> {
        self.led.keys().copied()
    }

    pub(super) fn follows(&self, leader: RequestId, follower: RequestId) -> bool {
        self.led.get(&leader).is_some_and(|led| led.followers.contains(&follower))
    }
}

/// What the rule of a read lets it do.
#[derive(Clone, Copy, Default)]
struct Choice {
    in_flight: bool,
    ttl: Option<Span>,
}

impl Choice {
    fn of(rule: Option<&Rule>) -> Choice {
        rule.map_or(Choice::default(), |rule| Choice { in_flight: rule.join_in_flight, ttl: rule.cache_ttl })
    }

    fn any(self) -> bool {
        self.in_flight || self.ttl.is_some()
    }
}

impl CqlEngine {
    /// A request that is admitted: it is answered from the cache, follows another one, or is on its way.
    pub(super) fn launch(&mut self, id: RequestId, now: Instant) {
        self.note_write(id);
        // what runs in parts neither leads nor follows
        if !self.split(id, now) {
            self.launch_whole(id, now);
        }
    }

    /// The same for one that is not split.
    pub(super) fn launch_whole(&mut self, id: RequestId, now: Instant) {
        if !self.shares(id, now) {
            self.sets_out(id, now);
            self.leads(id);
        }
    }

    /// To a node, or into its queue.
    fn sets_out(&mut self, id: RequestId, now: Instant) {
        self.route(id, now);
    }

    /// What two reads must have in common; `None` for what is never shared.
    pub(super) fn identity_of<'a>(&self, request: &'a Request) -> Option<Identity<'a>> {
        let plain = request.method == Method::Select
            && matches!(request.purpose, Purpose::Forward | Purpose::Repair)
            && request.rewrite == Rewrite::None
            && request.version == request.answer_version
            && !request.prepared.as_ref().is_some_and(|prepared| prepared.system);
        let known = request.statement.as_ref().filter(|_| plain)?;
        let read = matches!(known.statement.body, Body::Select(_)) && known.statement.deterministic;
        let flags = Flags(*request.envelope.get(1)?);
        if !read || flags.has(Flags::TRACING) || flags.has(Flags::CUSTOM_PAYLOAD) {
            return None;
        }
        let listener = self.clients[request.client.slot as usize].listener;
        if !self.settings.listeners[listener.0 as usize].switches.single_flight {
            return None;
        }
        let (message, _) = message_of(request)?;
        let parameters = match &message {
            Message::Query(query) => &query.parameters,
            Message::Execute(execute) => &execute.parameters,
            _ => return None,
        };
        if parameters.consistency.value.is_serial() {
            return None;
        }
        let end = request.envelope.len();
        let (before, after) = match parameters.timestamp {
            Some(place) => {
                let at = weir_cql::HEADER_LEN + place.at as usize;
                (4..at, at + 8..end)
            }
            None => (4..end, end..end),
        };
        Some(Identity {
            principal: self.callers.known[request.known as usize].principal,
            head: request.envelope.get(..2)?,
            before: request.envelope.get(before)?,
            after: request.envelope.get(after)?,
        })
    }

    /// What the rules say about a read, and what has been written so far of what it depends on.
    fn choice(&mut self, id: RequestId) -> (Choice, Option<Seen>) {
        let Some(request) = self.requests.get(id) else { return <_>::default() };
        let cluster = &self.clusters[self.clients[request.client.slot as usize].cluster.0 as usize];
        if cluster.rules.is_empty() {
            return <_>::default();
        }
        let Some((message, body)) = message_of(request) else { return <_>::default() };
        let name = &cluster.settings.name;
        let (choice, seen) = match (message, &request.prepared) {
            (Message::Execute(execute), Some(prepared)) => {
                let choice = Choice::of(cluster.rules.of_prepared(prepared));
                let about = &prepared.about;
                let [table] = &*about.tables else { return <_>::default() };
                let key = partition(about, &execute.parameters.values, body);
                (choice, choice.any().then(|| self.writes.seen(name, table, key)))
            }
            (Message::Query(query), _) => {
                let text = query.text.of(body);
                let keyspace = query.parameters.keyspace.map(|span| span.of(body));
                let known = self.statements.read(text);
                let rule = keyspace.map(std::str::from_utf8).transpose();
                let rule = rule.ok().and_then(|keyspace| cluster.rules.of_text(&known, text, keyspace));
                let choice = Choice::of(rule);
                let tables =
                    if choice.any() { super::rules::named(&known, text, keyspace) } else { <_>::default() };
                (choice, tables.first().map(|table| self.writes.seen(name, table, None)))
            }
            _ => return <_>::default(),
        };
        if seen.is_some() { (choice, seen) } else { <_>::default() }
    }

    /// Whether it is answered already, or will be when another one is.
    fn shares(&mut self, id: RequestId, now: Instant) -> bool {
        let Some(request) = self.requests.get(id) else { return true };
        let cluster_id = self.clients[request.client.slot as usize].cluster;
        let place = cluster_id.0 as usize;
        if request.method != Method::Select
            || (self.flights.by_hash.is_empty() && self.clusters[place].rules.is_empty())
        {
            return false;
        }
        let (choice, _) = self.choice(id);
        let Some(request) = self.requests.get(id) else { return true };
        let Some(identity) = self.identity_of(request) else { return false };
        let hash = identity.hash();
        if let Some(ttl) = choice.ttl
            && !self.replies_crowded()
        {
            let bytes = identity.to_bytes();
            let cache = &mut self.clusters[place].cache;
            if let Some(answer) = cache.get(hash, &bytes, &self.writes, now, ttl) {
                if let Some(request) = self.requests.get_mut(id) {
                    request.rows = answer.rows;
                }
                self.pass_on_one(id, &answer.header, &answer.body, Outcome::Ok, now);
                return true;
            }
        }
        self.follows(id, hash, choice, place)
    }

    /// Whether it follows the leader with this hash.
    fn follows(&mut self, id: RequestId, hash: u64, choice: Choice, cluster: usize) -> bool {
        let Some(&leader) = self.flights.by_hash.get(&hash) else { return false };
        let (Some(own), Some(other)) = (self.requests.get(id), self.requests.get(leader)) else {
            return false;
        };
        let same = match (self.identity_of(own), self.identity_of(other)) {
            (Some(own), Some(other)) => own.same(&other),
            _ => false,
        };
        if !same || self.clients[other.client.slot as usize].cluster.0 as usize != cluster {
            return false;
        }
        let Some(led) = self.flights.led.get(&leader) else { return false };
        let unsent = matches!(other.stage, Stage::Queued(_));
        let settings = &self.clusters[cluster].settings;
        // a reply that is passed on while it arrives cannot be had whole any more
        let arrives = match other.stage {
            Stage::Sent(lane, _) => {
                self.lanes[lane.0 as usize].through.is_some_and(|through| through.to == Some(leader))
            }
            _ => false,
        };
        let may_join = unsent || choice.in_flight && led.in_flight;
        let apart = if arrives || !may_join {
            Some(Apart::Sent)
        } else if !unsent && !led.seen.is_some_and(|seen| self.writes.still(&seen)) {
            Some(Apart::Written)
        } else if led.followers.len() >= settings.followers_per_read as usize {
            Some(Apart::FollowersPerRead)
        } else if self.flights.followers >= settings.followers_max as usize {
            Some(Apart::FollowersMax)
        } else {
            None
        };
        if let Some(apart) = apart {
            self.clusters[cluster].flights.refused[apart as usize] += 1;
            return false;
        }
        if let Some(led) = self.flights.led.get_mut(&leader) {
            led.followers.push(id);
            self.flights.followers += 1;
        }
        if let Some(request) = self.requests.get_mut(id) {
            request.stage = Stage::Following(leader);
        }
        true
    }

    /// Lets others join it, and its answer be kept, where they may.
    fn leads(&mut self, id: RequestId) {
        let Some(request) = self.requests.get(id) else { return };
        let cluster = &self.clusters[self.clients[request.client.slot as usize].cluster.0 as usize];
        let unsent = matches!(request.stage, Stage::Queued(_));
        if request.method != Method::Select
            || !(unsent && cluster.settings.followers_max > 0 || !cluster.rules.is_empty())
        {
            return;
        }
        let Some(hash) = self.identity_of(request).map(|identity| identity.hash()) else { return };
        let (choice, seen) = self.choice(id);
        if unsent || choice.any() {
            let Choice { in_flight, ttl } = choice;
            let (followers, kept) = (Vec::new(), ttl.is_some());
            let led = Led { hash, followers, in_flight, kept, seen, heir_since: None };
            self.flights.lead(id, led, unsent || in_flight);
        }
    }

    /// Whether this reply is needed whole: for others too, or to be kept.
    pub(super) fn wants_whole(&self, id: RequestId, header: &Header) -> bool {
        let Some(led) = self.flights.led.get(&id) else { return false };
        let Some(request) = self.requests.get(id) else { return false };
        let cluster = self.clients[request.client.slot as usize].cluster;
        let kept = led.kept && self.clusters[cluster.0 as usize].cache.takes(header.body_len as usize);
        kept || !led.followers.is_empty()
    }

    /// Gives the answer of a leader to its followers, as far as there is room for copies.
    pub(super) fn pass_on_to(
        &mut self,
        followers: Vec<RequestId>,
        led: Answered,
        header: &Header,
        body: &[u8],
        now: Instant,
    ) {
        let mut told = 0;
        for id in followers {
            let crowded = self.replies_crowded();
            let Some(request) = self.requests.get_mut(id) else { continue };
            let cluster = self.clients[request.client.slot as usize].cluster.0 as usize;
            request.stage = Stage::New;
            if crowded {
                self.clusters[cluster].flights.refused[Apart::Crowded as usize] += 1;
                self.launch(id, now);
                continue;
            }
            request.rows = led.rows;
            request.coalesced = true;
            request.first_sent = led.first_sent.map(|sent| sent.max(request.arrived));
            told += 1;
            let counts = &mut self.clusters[cluster].flights;
            counts.joined += 1;
            counts.flights += u64::from(told == 1);
            self.pass_on_one(id, header, body, led.outcome, now);
        }
    }

    /// Those who wait for the same answer, to be told of the end of this one.
    pub(super) fn take_followers(&mut self, id: RequestId) -> Vec<RequestId> {
        if self.flights.is_empty() {
            return Vec::new();
        }
        self.flights.take(id)
    }

    /// A request is leaving: it follows nobody any more, and what it led goes on without it. Whether its place on the
    /// connection was taken over.
    pub(super) fn leaves_flight(&mut self, id: RequestId, request: &Request) -> Succession {
        if let Stage::Following(leader) = request.stage {
            self.flights.leave(leader, id);
        }
        if self.flights.is_empty() {
            return Succession::None;
        }
        let Some(mut led) = self.flights.end(id) else { return Succession::None };
        let heir = led.followers.remove(0);
        for follower in &led.followers {
            if let Some(follower) = self.requests.get_mut(*follower) {
                follower.stage = Stage::Following(heir);
            }
        }
        let Some(taking) = self.requests.get_mut(heir) else { return Succession::None };
        led.heir_since = Some(taking.waiting_since);
        let joinable = match request.stage {
            Stage::Sent(lane, stream) => {
                self.takes_over(heir, request, lane, stream);
                led.in_flight
            }
            _ => {
                taking.stage = Stage::New;
                false
            }
        };
        let sent = matches!(request.stage, Stage::Sent(..));
        self.flights.lead(heir, led, joinable);
        if sent { Succession::Sent } else { Succession::Asks(heir) }
    }

    /// The reply that was to come for `old` will come for `heir`.
    fn takes_over(&mut self, heir: RequestId, old: &Request, lane: LaneId, stream: i16) {
        let Some(request) = self.requests.get_mut(heir) else { return };
        request.stage = Stage::Sent(lane, stream);
        request.purpose = old.purpose.clone();
        (request.attempts, request.repairs) = (old.attempts, old.repairs);
        (request.tried, request.shard, request.sent_to) = (old.tried, old.shard, old.sent_to);
        request.sent = old.sent.max(request.waiting_since);
        request.first_sent = Some(request.sent);
        request.coalesced = true;
        let lane = &mut self.lanes[lane.0 as usize];
        lane.streams.hand_over(stream, heir);
        let node = &mut self.nodes[lane.info.node.0 as usize];
        node.operations = (node.operations + request.operations).saturating_sub(old.operations);
    }

    /// An heir of a read that was not sent asks itself; the others go on following it.
    pub(super) fn heir_asks(&mut self, heir: RequestId, now: Instant) {
        self.sets_out(heir, now);
        let queued = self.requests.get(heir).is_some_and(|request| matches!(request.stage, Stage::Queued(_)));
        if let Some(led) = self.flights.led.get(&heir)
            && (queued || led.in_flight)
        {
            let hash = led.hash;
            self.flights.by_hash.insert(hash, heir);
        }
    }

    /// Followers, and those that took a leader's place, whose own time is over. To be called before leaders are looked
    /// at, so that nobody takes a place whose time is over too.
    pub(super) fn scan_flights(&mut self, now: Instant) {
        if self.flights.is_empty() {
            return;
        }
        let mut late = Vec::new();
        for (leader, led) in &self.flights.led {
            let Some(first) = self.requests.get(*leader) else { continue };
            let cluster = self.clients[first.client.slot as usize].cluster;
            let settings = &self.clusters[cluster.0 as usize].settings;
            let unsent = matches!(first.stage, Stage::Queued(_));
            for follower in &led.followers {
                let Some(request) = self.requests.get(*follower) else { continue };
                if unsent && now.since(request.waiting_since) >= settings.queue_timeout {
                    late.push((*follower, Failure::QueueTimeout));
                } else if !unsent
                    && now.since(first.sent.max(request.waiting_since)) >= settings.request_timeout
                {
                    late.push((*follower, Failure::TimedOut));
                }
            }
            if unsent && led.heir_since.is_some_and(|since| now.since(since) >= settings.queue_timeout) {
                late.push((*leader, Failure::QueueTimeout));
            }
        }
        // maps have no order of their own: the same script must have the same end
        late.sort_by_key(|(id, _)| (id.slot, id.generation));
        for (id, failure) in late {
            if let Some(request) = self.requests.get(id)
                && failure == Failure::QueueTimeout
            {
                self.ledger.rejected(request.known, Rejected::QueueTimeout, 1);
            }
            self.fail(id, failure, now);
        }
    }
}

/// What a leader's answer means to its followers.
#[derive(Clone, Copy)]
pub(super) struct Answered {
    pub(super) rows: u64,
    pub(super) first_sent: Option<Instant>,
    pub(super) outcome: Outcome,
}

/// Who goes on where a leader left.
pub(super) enum Succession {
    /// Nobody.
    None,
    /// The reply will be taken by another one.
    Sent,
    /// This one has to ask.
    Asks(RequestId),
}
