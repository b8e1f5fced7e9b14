//! One connection's requests: what each asks for, run or handed to the writer.
//!
//! No socket here: bytes of a request in, bytes of an answer out, or a [`Pending`] write whose answer comes when it is on
//! disk.

use std::net::SocketAddr;
use std::sync::Arc;

use weir_cql::request::{Batch, BatchKind, Execute, Parameters, Prepare, Query, QueryFlags, Values};
use weir_cql::{CqlType, Dialect, Header, Native, Request, StreamId, write};

use super::answer::{Columns, Reply, Tell};
use super::engine::Engine;
use super::plan::{Action, Env, Guard, ModifyPlan, Mutation, Plan, SelectPlan, Target, Value};
use super::read::{Found, Page, Paging, select};
use super::refusal::Refusal;
use super::schema::{self, Table, system};
use super::store::row::Row;
use super::store::{Answer, Source, Work, key};

/// A write whose answer is due.
pub struct Pending {
    /// The stream of the request.
    pub stream: StreamId,
    /// What is told of it.
    pub finish: Finish,
}

/// What is told when a write is on disk.
pub enum Finish {
    /// Nothing, or the schema change.
    Plain,
    /// Whether the condition held.
    Condition {
        /// The table.
        table: Arc<Table>,
        /// The columns told when it did not, by their places.
        columns: Vec<usize>,
        /// The serialized key of the row: what keys of the partition begin with, and the clustering.
        row: (Vec<u8>, Vec<u8>),
    },
}

/// What a request comes to.
#[expect(clippy::large_enum_variant, reason = "one lives at a time, on the stack")]
pub enum Outcome {
    /// The answer is written.
    Answered,
    /// The writer answers.
    Wait(Work, Pending),
}

/// A connection after its STARTUP.
pub struct Session {
    /// What it shares with the others.
    pub engine: Arc<Engine>,
    /// What was agreed on.
    pub dialect: Dialect,
    /// `USE`
    pub keyspace: Option<String>,
    /// The address the client has dialled.
    pub dialled: SocketAddr,
    /// It is told of schema changes.
    pub registered: bool,
}

/// What of a request decides how it is run.
struct Asked<'a> {
    values: Vec<Value>,
    paging: Paging<'a>,
    timestamp: Option<i64>,
    /// The columns the client knows; `None`: it asks for them.
    known: Option<&'a [u8]>,
    skip: bool,
    keyspace: Option<&'a str>,
}

impl Session {
    /// Runs a request.
    pub fn handle(&mut self, header: &Header, body: &[u8], out: &mut Vec<u8>) -> Outcome {
        let stream = header.stream;
        match self.run(header, body, out) {
            Ok(outcome) => outcome,
            Err(refusal) => {
                self.reply(stream, out).refusal(&refusal);
                Outcome::Answered
            }
        }
    }

    fn reply<'o>(&self, stream: StreamId, out: &'o mut Vec<u8>) -> Reply<'o> {
        Reply { out, dialect: self.dialect, stream }
    }

    fn run(&mut self, header: &Header, body: &[u8], out: &mut Vec<u8>) -> Result<Outcome, Refusal> {
        let request = Request::locate(header, body, self.dialect)
            .map_err(|malformed| Refusal::protocol(format!("Invalid message: {malformed}")))?;
        let stream = header.stream;
        match request {
            Request::Query(query) => self.query(stream, &query, body, out),
            Request::Prepare(prepare) => self.prepare(stream, &prepare, body, out),
            Request::Execute(execute) => self.execute(stream, &execute, body, out),
            Request::Batch(batch) => self.batch(stream, &batch, body),
            Request::Register(register) => {
                for event in register.events(body) {
                    match event {
                        b"SCHEMA_CHANGE" => self.registered = true,
                        // there are no such events of one node that does not change
                        b"TOPOLOGY_CHANGE" | b"STATUS_CHANGE" => {}
                        other => {
                            let other = String::from_utf8_lossy(other);
                            return Err(Refusal::protocol(format!("Invalid value '{other}' for Type")));
                        }
                    }
                }
                weir_cql::own::ready(out, self.dialect.version, stream);
                Ok(Outcome::Answered)
            }
            Request::Startup(_) | Request::Options | Request::AuthResponse(_) => {
                Err(Refusal::protocol("Unexpected message: the connection is ready"))
            }
        }
    }

    fn query(
        &mut self,
        stream: StreamId,
        query: &Query,
        body: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Outcome, Refusal> {
        let keyspace = self.keyspace_of(&query.parameters, body)?;
        let plan = Arc::new(self.engine.plan(query.text.of(body), keyspace.as_deref())?);
        let values = bind(&plan, &query.parameters.values, body)?;
        let asked = Asked::of(&query.parameters, body, values, None, keyspace.as_deref())?;
        self.act(stream, &plan, &asked, out)
    }

    fn prepare(
        &self,
        stream: StreamId,
        prepare: &Prepare,
        body: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Outcome, Refusal> {
        let keyspace = match prepare.keyspace {
            Some(span) => Some(text(span.of(body))?.to_owned()),
            None => self.keyspace.clone(),
        };
        let (id, plan) = self.engine.prepare(prepare.text.of(body), keyspace.as_deref())?;
        self.reply(stream, out).prepared(&id, &plan);
        Ok(Outcome::Answered)
    }

    fn execute(
        &mut self,
        stream: StreamId,
        execute: &Execute,
        body: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Outcome, Refusal> {
        let plan = self.engine.prepared(execute.id.of(body))?;
        let values = bind(&plan, &execute.parameters.values, body)?;
        let known = execute.result_metadata_id.map(|id| id.of(body));
        let used = self.keyspace.clone();
        let asked = Asked::of(&execute.parameters, body, values, known, used.as_deref())?;
        self.act(stream, &plan, &asked, out)
    }

    fn keyspace_of(&self, parameters: &Parameters, body: &[u8]) -> Result<Option<String>, Refusal> {
        match parameters.keyspace {
            Some(span) => Ok(Some(text(span.of(body))?.to_owned())),
            None => Ok(self.keyspace.clone()),
        }
    }

    fn act(
        &mut self,
        stream: StreamId,
        plan: &Arc<Plan>,
        asked: &Asked<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Outcome, Refusal> {
        let env = Env { binds: &asked.values, micros: self.engine.micros() };
        match &plan.action {
            Action::Select(select) => {
                let page = self.read(select, &env, asked.paging)?;
                let columns = Columns::of(plan);
                let changed = asked.known.is_some_and(|known| known != columns.id());
                let tell = match (changed, asked.skip) {
                    (true, _) => Tell::Changed,
                    (false, true) => Tell::Nothing,
                    (false, false) => Tell::Columns,
                };
                self.reply(stream, out).rows(&columns, &page, tell);
                Ok(Outcome::Answered)
            }
            Action::Modify(modify) => {
                let default = match modify.is_conditional() || modify.table.is_counter() {
                    true => env.micros,
                    false => asked.timestamp.unwrap_or(env.micros),
                };
                let mutations = modify.mutations(&env, default)?;
                let guard = modify.guard(&env)?;
                let finish = finish(modify, guard.as_ref(), &mutations);
                Ok(Outcome::Wait(Work::Modify { mutations, guard }, Pending { stream, finish }))
            }
            Action::Batch { kind, statements, timestamp } => {
                let given = super::plan::timestamp(timestamp.as_ref(), &env)?.or(asked.timestamp);
                let mut mutations = Vec::new();
                for modify in statements {
                    part(*kind, modify, &env, given, &mut mutations)?;
                }
                let work = Work::Modify { mutations, guard: None };
                Ok(Outcome::Wait(work, Pending { stream, finish: Finish::Plain }))
            }
            Action::Use(name) => {
                self.keyspace = Some(name.clone());
                self.reply(stream, out).keyspace(name);
                Ok(Outcome::Answered)
            }
            Action::Ddl(ddl) => {
                let used = asked.keyspace.map(str::to_owned).or_else(|| self.keyspace.clone());
                let work = Work::Schema { ddl: ddl.clone(), used };
                Ok(Outcome::Wait(work, Pending { stream, finish: Finish::Plain }))
            }
        }
    }

    fn read(&self, plan: &SelectPlan, env: &Env<'_>, paging: Paging<'_>) -> Result<Page, Refusal> {
        let table = &plan.table;
        if system::is_system(&table.keyspace) {
            let catalog = self.engine.writer.catalog();
            let made = schema::rows::of(table, &catalog, self.dialled, self.engine.writer.counters());
            return select(plan, env, &made, paging);
        }
        let rows = self.engine.store.snapshot()?.rows(table.storage)?;
        select(plan, env, &rows as &dyn Source, paging)
    }

    fn batch(&mut self, stream: StreamId, batch: &Batch, body: &[u8]) -> Result<Outcome, Refusal> {
        if batch.now_in_seconds.is_some() {
            return Err(Refusal::unsupported("now_in_seconds"));
        }
        let keyspace = match batch.keyspace {
            Some(span) => Some(text(span.of(body))?.to_owned()),
            None => self.keyspace.clone(),
        };
        let micros = self.engine.micros();
        let mut mutations = Vec::new();
        for statement in batch.statements(body) {
            let source = statement.source.of(body);
            let plan = match statement.prepared {
                true => self.engine.prepared(source)?,
                false => Arc::new(self.engine.plan(source, keyspace.as_deref())?),
            };
            let Action::Modify(modify) = &plan.action else {
                return Err(Refusal::invalid(
                    "Invalid statement in batch: only UPDATE, INSERT and DELETE statements are allowed.",
                ));
            };
            let values = bind(&plan, &statement.values, body)?;
            let env = Env { binds: &values, micros };
            part(batch.head.kind, modify, &env, batch.timestamp.map(|placed| placed.value), &mut mutations)?;
        }
        let work = Work::Modify { mutations, guard: None };
        Ok(Outcome::Wait(work, Pending { stream, finish: Finish::Plain }))
    }

    /// Tells what became of a write.
    pub fn finish(&self, pending: Pending, answer: Result<Answer, Refusal>, seconds: u32, out: &mut Vec<u8>) {
        let reply = self.reply(pending.stream, out);
        match answer {
            Err(refusal) => reply.refusal(&refusal),
            Ok(Answer::Done | Answer::Schema(None)) => reply.void(),
            Ok(Answer::Schema(Some(told))) => reply.schema_change(&told),
            Ok(Answer::Condition(applied, row)) => match told(&pending.finish, applied, row, seconds) {
                Ok((columns, page)) => reply.rows(&columns, &page, Tell::Columns),
                Err(refusal) => reply.refusal(&refusal),
            },
        }
    }
}

impl<'a> Asked<'a> {
    fn of(
        parameters: &Parameters,
        body: &'a [u8],
        values: Vec<Value>,
        known: Option<&'a [u8]>,
        keyspace: Option<&'a str>,
    ) -> Result<Self, Refusal> {
        if parameters.now_in_seconds.is_some() {
            return Err(Refusal::unsupported("now_in_seconds"));
        }
        let size = parameters.page_size.and_then(|size| u32::try_from(size.value).ok());
        let state = parameters.paging_state.and_then(|state| state.of(body));
        Ok(Self {
            values,
            paging: Paging { size, state },
            timestamp: parameters.timestamp.map(|placed| placed.value),
            known,
            skip: parameters.flags.has(QueryFlags::SKIP_METADATA),
            keyspace,
        })
    }
}

fn text(bytes: &[u8]) -> Result<&str, Refusal> {
    std::str::from_utf8(bytes).map_err(|_| Refusal::protocol("a keyspace that is not UTF-8"))
}

/// One statement of a batch.
fn part(
    kind: BatchKind,
    modify: &ModifyPlan,
    env: &Env<'_>,
    timestamp: Option<i64>,
    mutations: &mut Vec<Mutation>,
) -> Result<(), Refusal> {
    /// Changes of one batch; a batch is merged in memory.
    const TOGETHER_MAX: usize = 100_000;
    if modify.is_conditional() {
        return Err(Refusal::unsupported("a condition in a batch"));
    }
    let counters = modify.table.is_counter();
    if counters != (kind == BatchKind::Counter) {
        return Err(Refusal::invalid(match kind {
            BatchKind::Counter => "Cannot include non-counter statement in a counter batch",
            BatchKind::Logged => "Cannot include a counter statement in a logged batch",
            BatchKind::Unlogged => "Cannot include a counter statement in an unlogged batch",
        }));
    }
    let default = if counters { env.micros } else { timestamp.unwrap_or(env.micros) };
    mutations.extend(modify.mutations(env, default)?);
    if mutations.len() > TOGETHER_MAX {
        return Err(Refusal::unsupported(format!("more than {TOGETHER_MAX} changes in a batch")));
    }
    Ok(())
}

/// The bound values in the order of the markers.
fn bind(plan: &Plan, values: &Values, body: &[u8]) -> Result<Vec<Value>, Refusal> {
    let owned = |value: weir_cql::Value| match value {
        weir_cql::Value::Null => Value::Null,
        weir_cql::Value::NotSet => Value::Unset,
        weir_cql::Value::Bytes(span) => Value::Bytes(span.of(body).to_vec()),
    };
    let wrong = || {
        let (markers, bound) = (plan.markers.len(), values.count);
        Refusal::invalid(format!("there were {markers} markers(?) in CQL but {bound} bound variables"))
    };
    if values.named {
        let named: Vec<(&[u8], weir_cql::Value)> = values.iter(body).collect();
        let by_name = plan.markers.iter().map(|marker| {
            let found = named.iter().find(|(name, _)| *name == marker.name.as_bytes());
            found.map(|(_, value)| owned(*value)).ok_or_else(wrong)
        });
        return by_name.collect();
    }
    if usize::from(values.count) != plan.markers.len() {
        return Err(wrong());
    }
    Ok(values.iter(body).map(|(_, value)| owned(value)).collect())
}

/// What is told of a conditional write.
fn finish(modify: &ModifyPlan, guard: Option<&Guard>, mutations: &[Mutation]) -> Finish {
    let (Some(guard), Some(first)) = (guard, mutations.first()) else { return Finish::Plain };
    let columns = match guard {
        Guard::NotExists => (0..modify.table.columns.len()).collect(),
        Guard::Exists => Vec::new(),
        Guard::Columns(columns) => {
            let mut told = Vec::new();
            columns.iter().for_each(|(at, ..)| {
                if !told.contains(at) {
                    told.push(*at);
                }
            });
            told
        }
    };
    let clustering = match &first.target {
        Target::Row { clustering, .. } => clustering.clone(),
        Target::Range(..) | Target::Partition(_) => Vec::new(),
    };
    Finish::Condition {
        table: Arc::clone(&modify.table),
        columns,
        row: (first.partition.clone(), clustering),
    }
}

/// The answer to a conditional write: whether it was applied, and what is there where it was not.
fn told(finish: &Finish, applied: bool, row: Option<Box<Row>>, now: u32) -> Result<(Columns, Page), Refusal> {
    let Finish::Condition { table, columns, row: (partition, clustering) } = finish else {
        return Err(Refusal::storage("a condition without its table"));
    };
    let mut each = vec![("[applied]".to_owned(), CqlType::Native(Native::Boolean))];
    let mut content = Vec::new();
    write::bytes(&mut content, &[u8::from(applied)]);
    if let Some(row) = row {
        let whole = key::row(partition, clustering);
        let (_, partition, _) = key::split(&whole).map_err(Refusal::storage)?;
        let found = Found { partition: &partition, clustering, row: &row, now };
        for at in columns {
            let column = &table.columns[*at];
            each.push((column.name.clone(), column.kind.cql.clone()));
            write::nullable(&mut content, found.value(table, *at)?.as_deref());
        }
    }
    let columns = Columns { keyspace: table.keyspace.clone(), table: table.name.clone(), each };
    Ok((columns, Page { content, count: 1, state: None }))
}
