//! A request that runs as parts, from the decision to the answer ([`super::job`] is what is known of it, [`super::parts`]
//! what happens to each).
//!
//! It is admitted and priced once, like any other request; each part is an EXECUTE, or of a batch ([`super::batches`]) a
//! BATCH, of its own on a bulk lane
//! ([`super::chunks`] says whose is next), and the answers become one ([`super::split`]). A part whose statement a node
//! has forgotten waits until it is prepared there ([`super::repairs`]); one whose connection is lost is sent again under the retry budget where it is
//! idempotent, and so is one that a node turns away ([`super::failover`]), to another node. Any other error is the answer of the whole: what was not
//! sent is dropped at once, what was sent leaves orphans of its stream ids.
//!
//! Bounds: parts run ahead of the one whose answer is waited for by at most twice `chunks_in_flight`, and for a client
//! that pages, or a `LIMIT`, by no more than the page is expected to take. The bytes of the keys count as the request's
//! own (`Request::held_bytes`), those of the answers against `gather_bytes_max`.

use super::CqlEngine;
use super::error::Failure;
use super::job::{Job, PartStage, bounds};
use super::job_plan::{JobGather, JobPlan};
use super::lists::{Listing, REFUSED, UNPREPARED};
use super::method::Method;
use super::prepared::Prepared;
use super::repairs::Needs;
use super::request::{Request, RequestId, Stage};
use super::split::{BatchWhole, PageKey, Pages, Plan, StateFault, Uncut, Whole, is_composite};
use crate::error::Rejected;
use crate::ledger::Outcome;
use crate::settings::SplitChoice;
use crate::units::{ClientId, ClusterId, Instant};
use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::Arc;
use weir_cql::envelope::{EnvelopeLimits, HEADER_LEN, Header, Opcode, Side, Step, read_header};
use weir_cql::request::{Execute, Request as Message};
use weir_cql::response::{ErrorBody, ErrorCode};
use weir_cql::{Dialect, StreamId};

impl CqlEngine {
    /// Begins to carry out a request in parts, where it is one that may be: `true` when it needs no more than that (or
    /// was answered).
    pub(super) fn split(&mut self, id: RequestId, now: Instant) -> bool {
        self.split_in(id, None, now)
    }

    /// The same with the statement with one `list` that it is split in, where that was prepared just now.
    pub(super) fn split_in(&mut self, id: RequestId, list: Option<Arc<Prepared>>, now: Instant) -> bool {
        let Some(request) = self.requests.get(id) else { return true };
        if request.method == Method::Batch {
            return self.split_batch(id, now);
        }
        let Some(prepared) = request.prepared.clone() else { return false };
        let client = request.client;
        let cluster = self.clients[client.slot as usize].cluster;
        let many = request.operations > u64::from(self.cluster_settings(cluster).chunk_keys);
        if let (Err(whole), None) = (&prepared.split, &prepared.listed) {
            if many {
                self.sent_whole(cluster, whole.label());
            }
            return false;
        }
        // what began in parts goes on in parts
        let began = began_in_parts(request);
        if !many && !began {
            return false;
        }
        if let Some(why) = self.not_wanted(cluster, client, &prepared).filter(|_| !began) {
            self.sent_whole(cluster, why);
            return false;
        }
        let mut list = list;
        if let Some(listed) = &prepared.listed {
            let Some((header, body, execute)) = execute_of(request) else { return false };
            if let Err(whole) = listed.form.check(&header, body, &execute) {
                return self.uncut(id, whole.into(), began, now);
            }
            if list.is_none() {
                match self.list_of(id, &prepared, listed, now) {
                    Listing::Known(known) => list = Some(known),
                    Listing::Asked => return true,
                    Listing::Missing(why) => return self.missing_list(id, why, now),
                }
            }
        }
        match self.plan(id, &prepared, list.as_deref(), now) {
            Ok(plan) => {
                self.start_job(id, JobPlan::Read(plan), Some(list.unwrap_or(prepared)), now);
                true
            }
            Err(uncut) => self.uncut(id, uncut, began, now),
        }
    }

    /// The chunks of a request that executes `prepared`: in it, or in the statement with one `list`.
    fn plan(
        &self,
        id: RequestId,
        prepared: &Prepared,
        list: Option<&Prepared>,
        now: Instant,
    ) -> Result<Plan, Uncut> {
        let request = self.requests.get(id).ok_or(Whole::Values)?;
        let cluster = self.clients[request.client.slot as usize].cluster;
        let size = NonZeroU32::new(self.cluster_settings(cluster).chunk_keys).unwrap_or(NonZeroU32::MIN);
        let dialect = Dialect::of(request.version);
        let (mut header, mut body, mut execute) = execute_of(request).ok_or(Whole::Values)?;
        let statement = execute.id.of(body);
        let mut split = prepared.split;
        let written;
        if let (Some(listed), Some(list)) = (&prepared.listed, list) {
            split = list.split;
            written = listed.form.execute(body, &execute, dialect, &list.id)?;
            header.body_len = written.len() as u32;
            body = &written;
            execute = match Message::locate(&header, body, dialect) {
                Ok(Message::Execute(execute)) => execute,
                _ => return Err(Whole::Values.into()),
            };
        }
        let keys = &self.clusters[cluster.0 as usize].page_keys;
        let cut = |key: &PageKey| {
            Plan::cut(&split?, &header, body, &execute, dialect, size, &Pages { key, statement })
        };
        match (cut(keys.current()), keys.previous(now)) {
            (Err(Uncut::State(StateFault::Mac)), Some(previous)) => cut(previous),
            (plan, _) => plan,
        }
    }

    /// A request that cannot be cut is sent whole; `true` when it was answered instead.
    fn uncut(&mut self, id: RequestId, uncut: Uncut, began: bool, now: Instant) -> bool {
        match uncut {
            Uncut::State(fault) => self.refuse_job(id, fault.words(), now),
            Uncut::Whole(_) if began => self.refuse_job(id, NOT_SPLIT_ANY_MORE, now),
            Uncut::Whole(whole) => {
                if let Some(request) = self.requests.get(id) {
                    let cluster = self.clients[request.client.slot as usize].cluster;
                    self.sent_whole(cluster, whole.label());
                }
                return false;
            }
        }
        true
    }

    /// Why requests of this client are not to be split, where they are not.
    fn not_wanted(&self, cluster: ClusterId, client: ClientId, prepared: &Prepared) -> Option<&'static str> {
        let listener = self.clients[client.slot as usize].listener;
        if !self.settings.listeners[listener.0 as usize].switches.split {
            return Some("switched_off");
        }
        let scylla = || {
            let mut nodes = self.clusters[cluster.0 as usize].nodes.iter();
            nodes.any(|node| {
                let node = &self.nodes[node.0 as usize];
                node.scylla == Some(true)
                    || node.placed.as_ref().is_some_and(|placed| placed.sharding.is_some())
            })
        };
        // a rule says it for its table or statement; one that says nothing else leaves it to the cluster
        let rule = self.clusters[cluster.0 as usize].rules.of_prepared(prepared);
        let choice = rule.map(|rule| rule.split).filter(|choice| *choice != SplitChoice::Auto);
        match choice.unwrap_or(self.cluster_settings(cluster).split) {
            SplitChoice::On => None,
            SplitChoice::Off => Some("off"),
            SplitChoice::Auto => scylla().then_some("scylla"),
        }
    }

    pub(super) fn refuse_job(&mut self, id: RequestId, text: &str, now: Instant) {
        self.answer_error(id, &ErrorBody::plain(ErrorCode::INVALID, text), Outcome::Refused, now);
    }

    pub(super) fn start_job(
        &mut self,
        id: RequestId,
        plan: JobPlan,
        prepared: Option<Arc<Prepared>>,
        now: Instant,
    ) {
        let Some(request) = self.requests.get_mut(id) else { return };
        let (client, version) = (request.client, request.version);
        let cluster = self.clients[client.slot as usize].cluster;
        let job = Job::new(plan, prepared, &self.clusters[cluster.0 as usize].settings, now);
        let before = request.held_bytes();
        self.callers.known[request.known as usize].queued += job.unsent;
        if matches!(job.plan, JobPlan::Read(_)) {
            request.envelope = Vec::new(); // the keys are in the plan now
        }
        request.job = Some(Box::new(job));
        request.stage = Stage::Split;
        let after = request.held_bytes();
        self.input_bytes = (self.input_bytes + after).saturating_sub(before);
        if let Some(client) = self.client_mut(client) {
            client.asked = (client.asked + after).saturating_sub(before);
        }
        self.clusters[cluster.0 as usize].splits.jobs.push_back(id);
        self.lay_out_bulk(cluster, version);
        if !self.bulk_stands(cluster, version) {
            return self.fail(id, Failure::NoNode, now);
        }
        self.offer(id, now);
    }

    /// How far parts of one request may run ahead.
    pub(super) fn window(&self, cluster: ClusterId) -> u32 {
        self.cluster_settings(cluster).chunks_in_flight.saturating_mul(2)
    }

    /// Queues a request that has a part to send and is not queued yet.
    pub(super) fn offer(&mut self, id: RequestId, now: Instant) {
        let Some(request) = self.requests.get(id) else { return };
        let cluster = self.clients[request.client.slot as usize].cluster;
        let window = self.window(cluster);
        let Some(part) = request.job.as_ref().and_then(|job| Some((job.next(window)?, job))) else { return };
        let keys = part.1.plan.keys_in(part.0).into();
        let known = &self.callers.known[request.known as usize];
        let queue = self.clusters[cluster.0 as usize].splits.queue(request.version);
        if !queue.contains(id) {
            queue.push(known.principal, known.limits.class, id, keys, now);
            self.pump_due = true;
        }
    }

    /// The answer is whole: it is moved to the client.
    pub(super) fn job_done(&mut self, id: RequestId, now: Instant) {
        let Some(request) = self.requests.get_mut(id) else { return };
        let (client, version, stream) = (request.client, request.answer_version, request.stream);
        let cluster = self.clients[client.slot as usize].cluster;
        let Some(job) = &mut request.job else { return };
        let pages = self.clusters[cluster.0 as usize].page_keys.current();
        let joined = match (job.gather.take(), &job.plan) {
            (Some(JobGather::Read(gather)), JobPlan::Read(plan)) => gather.finish(plan, pages),
            (Some(JobGather::Write(gather)), _) => return self.batch_done(id, &gather, now),
            _ => None,
        };
        let Some(joined) = joined else { return self.fail(id, Failure::BadReply, now) };
        request.rows = joined.rows;
        let (bytes, begin) = joined.into_envelope(version, stream);
        request.bytes_out += (bytes.len() - begin) as u64;
        request.outcome = Outcome::Ok;
        self.reply_whole(client, bytes, begin);
        self.finish(id, now);
    }

    /// A part's error is the answer.
    pub(super) fn job_failed(&mut self, id: RequestId, now: Instant) {
        let Some(request) = self.requests.get_mut(id) else { return };
        let version = request.version;
        let Some(gather) = request.job.as_mut().and_then(|job| job.gather.take()) else { return };
        let Some((flags, body)) = gather.error() else { return self.fail(id, Failure::BadReply, now) };
        let body_len = body.len() as u32;
        let header = Header { version, flags, stream: StreamId(0), opcode: Opcode::Error, body_len };
        self.pass_on(id, &header, body, Outcome::Error, now);
    }

    /// Begins anew: what came so far does not fit what came now.
    pub(super) fn restart_job(&mut self, id: RequestId, now: Instant) {
        self.drop_parts(id, now);
        let Some(request) = self.requests.get_mut(id) else { return };
        let cluster = self.clients[request.client.slot as usize].cluster;
        let settings = &self.clusters[cluster.0 as usize].settings;
        let Some(job) = &mut request.job else { return };
        (job.parts, job.first) = (VecDeque::new(), 0);
        let gather = JobGather::new(&job.plan, bounds(settings));
        job.restarts += 1;
        job.unsent = (0..job.plan.chunks()).map(|index| u64::from(job.plan.keys_in(index))).sum();
        self.callers.known[request.known as usize].queued += job.unsent;
        job.gathered = gather.bytes();
        self.clusters[cluster.0 as usize].splits.gathered += job.gathered;
        job.gather = Some(gather);
        self.offer(id, now);
    }

    /// Gives back what its parts hold: stream ids become orphans', nothing of it waits or is counted any more.
    fn drop_parts(&mut self, id: RequestId, now: Instant) {
        let Some(request) = self.requests.get_mut(id) else { return };
        let (version, known) = (request.version, request.known);
        let cluster = self.clients[request.client.slot as usize].cluster;
        let Some(job) = &mut request.job else { return };
        let under_way: Vec<_> = job.under_way().collect();
        let leads: Vec<u32> = job.repairing().collect();
        job.parts.iter_mut().for_each(|part| part.stage = PartStage::Answered); // none waits for a PREPARE either
        let (unsent, gathered) = (std::mem::take(&mut job.unsent), std::mem::take(&mut job.gathered));
        let queued = &mut self.callers.known[known as usize].queued;
        *queued = queued.saturating_sub(unsent);
        let splits = &mut self.clusters[cluster.0 as usize].splits;
        splits.gathered = splits.gathered.saturating_sub(gathered);
        splits.queue(version).remove(id);
        splits.moving.retain(|(request, _)| *request != id);
        for (_, lane, stream, keys) in under_way {
            self.lanes[lane.0 as usize].streams.orphan(stream, now);
            self.part_landed(lane, keys);
        }
        for index in leads {
            self.leaves_repair(Needs::Part(id, index), now);
        }
    }

    /// The request is over, however it ended.
    pub(super) fn leave_job(&mut self, id: RequestId, now: Instant) {
        let Some(request) = self.requests.get(id) else { return };
        if request.job.is_none() {
            return;
        }
        let cluster = self.clients[request.client.slot as usize].cluster;
        let outcome = request.outcome;
        self.drop_parts(id, now);
        let splits = &mut self.clusters[cluster.0 as usize].splits;
        splits.jobs.retain(|other| *other != id);
        splits.ended[outcome.index()] += 1;
        self.pump_due = true; // the oldest may be another one now
    }

    /// Nodes have come and gone: parts go to those that are there.
    pub(super) fn jobs_move_on(&mut self, cluster: ClusterId, now: Instant) {
        for place in 0..self.clusters[cluster.0 as usize].splits.jobs.len() {
            let id = self.clusters[cluster.0 as usize].splits.jobs[place];
            if let Some(version) = self.requests.get(id).map(|request| request.version) {
                self.lay_out_bulk(cluster, version);
            }
        }
        self.jobs_without_lane(cluster, now);
    }

    /// Where no bulk lane is connected or may soon be, split requests fail fast.
    pub(super) fn jobs_without_lane(&mut self, cluster: ClusterId, now: Instant) {
        self.pump_due = true; // parts that wait for this node's room may go elsewhere
        let jobs: Vec<RequestId> = self.clusters[cluster.0 as usize].splits.jobs.iter().copied().collect();
        for id in jobs {
            let Some(request) = self.requests.get(id) else { continue };
            if self.bulk_stands(cluster, request.version) {
                continue;
            }
            let failure = match request.first_sent {
                None => Failure::NoNode,
                Some(_) => Failure::OutcomeUnknown,
            };
            self.fail(id, failure, now);
        }
    }

    /// Time-outs: `queue_timeout` until the first part is sent, `request_timeout` from then on.
    pub(super) fn scan_jobs(&mut self, now: Instant) {
        let mut late = Vec::new();
        for cluster in &self.clusters {
            let (queue, answer) = (cluster.settings.queue_timeout, cluster.settings.request_timeout);
            for id in &cluster.splits.jobs {
                let Some(request) = self.requests.get(*id) else { continue };
                let Some(job) = &request.job else { continue };
                match request.first_sent {
                    None if now.since(job.since) >= queue => late.push((*id, Failure::QueueTimeout)),
                    Some(sent) if now.since(sent) >= answer => late.push((*id, Failure::TimedOut)),
                    _ => {}
                }
            }
        }
        for (id, failure) in late {
            if failure == Failure::QueueTimeout
                && let Some(request) = self.requests.get(id)
            {
                self.ledger.rejected(request.known, Rejected::QueueTimeout, 1);
            }
            self.fail(id, failure, now);
        }
    }

    /// Keys of split requests of a cluster that wait here.
    pub(super) fn part_keys_waiting(&self, cluster: &super::Cluster) -> u64 {
        let jobs = cluster.splits.jobs.iter();
        let waits =
            |id: &RequestId| self.requests.get(*id).and_then(|request| Some(request.job.as_ref()?.unsent));
        jobs.filter_map(waits).sum()
    }

    /// A request for many keys is sent as it is.
    pub(super) fn sent_whole(&mut self, cluster: ClusterId, why: &'static str) {
        *self.clusters[cluster.0 as usize].splits.whole.entry(why).or_default() += 1;
    }
}

/// What a client is told that brings a page state of weir's with a request that is not split.
pub(super) const NOT_SPLIT_ANY_MORE: &str =
    "weir: the paging state is of a request that was split; this one cannot be";

/// The EXECUTE of a request, and the body it is in.
fn execute_of(request: &Request) -> Option<(Header, &[u8], Execute)> {
    let Step::Envelope { header } = read_header(&request.envelope, Side::Client, EnvelopeLimits::default())
    else {
        return None;
    };
    let body = request.envelope.get(HEADER_LEN..)?;
    match Message::locate(&header, body, Dialect::of(request.version)) {
        Ok(Message::Execute(execute)) => Some((header, body, execute)),
        _ => None,
    }
}

/// Whether a request brings a page state of weir's, which means nothing to a server.
pub(super) fn began_in_parts(request: &Request) -> bool {
    execute_of(request).is_some_and(|(_, body, execute)| {
        let state = execute.parameters.paging_state.and_then(|state| state.of(body));
        state.is_some_and(is_composite)
    })
}

/// Every reason why a request for many keys is not split.
pub fn unsplit_reasons() -> impl Iterator<Item = &'static str> {
    let others = ["off", "switched_off", "scylla", REFUSED, UNPREPARED];
    let batches = BatchWhole::ALL.into_iter().map(BatchWhole::label);
    Whole::ALL.into_iter().map(Whole::label).chain(others).chain(batches)
}
