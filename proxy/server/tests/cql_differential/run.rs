//! One seed: its table is made and filled, read through every door, written through one of them and read again.

use crate::compare::{Allowed, same};
use crate::doors::{Door, Exchange};
use crate::draw::Draw;
use crate::kinds::{Bound, elements};
use crate::request::{Request, WIRES, Way};
use crate::schema::Table;
use crate::selects::{self, moves};
use crate::support_cql::create_keyspace;
use crate::tally::Tally;
use crate::text::{KEYSPACE, Style, Text};
use crate::writes;
use std::ops::Range;
use std::time::{Duration, SystemTime};
use weir_cql::{Consistency, Opcode};

/// Writes that fill a table.
const FILLS: usize = 34;
/// Requests that read it.
const READS: usize = 32;
/// Writes afterwards.
const WRITES: usize = 5;
/// How often a request is asked anew whose answer changed meanwhile.
const AGAIN: usize = 5;
/// Where a node makes the timestamp it is one of milliseconds: a write that is to be later than others waits so long.
const NODE_TIME: Duration = Duration::from_millis(2);

/// The doors of a run, and what was found.
pub struct Run {
    direct: Door,
    /// Straight to the other keyspace.
    twin: Door,
    doors: Vec<Door>,
    tally: Tally,
    last_stamp: i64,
    /// What differed, in words, with what it takes to do it again.
    pub failures: Vec<String>,
}

impl Run {
    /// Makes the keyspaces and starts the weirs.
    pub fn new(node: &str, keyspaces: [&str; 2], seeds: Range<u64>) -> Run {
        let [keyspace, other] = keyspaces;
        let (mut direct, twin) = (Door::direct(node, keyspace), Door::direct(node, other));
        for name in keyspaces {
            let line = &mut direct.lines(1)[0];
            line.query(&create_keyspace(name)).expect_result();
            line.query(&format!("CREATE TYPE {name}.pair (a int, b text)")).expect_result();
        }
        let doors = vec![
            Door::splitting(node, keyspace),
            Door::joining(node, keyspace, seeds.clone()),
            Door::keeping(node, keyspace, seeds),
        ];
        Run { direct, twin, doors, tally: Tally::default(), last_stamp: 0, failures: Vec::new() }
    }

    /// Removes the keyspaces and reads the weirs' counts.
    pub fn finish(mut self) -> Tally {
        for name in [self.direct.keyspace.clone(), self.twin.keyspace.clone()] {
            self.direct.lines(1)[0].query(&format!("DROP KEYSPACE {name}")).expect_result();
        }
        // what the workers counted is told with a small delay
        std::thread::sleep(Duration::from_millis(1_500));
        let all = |name: &str, labels: &[(&str, &str)]| {
            self.doors.iter().map(|door| door.count(name, labels)).sum()
        };
        Tally {
            splits: all("weir_cql_splits_total", &[("outcome", "ok")]),
            joined: all("weir_cql_joined_requests_total", &[]),
            kept: all("weir_cql_cache_reads_total", &[("result", "hit")]),
            outdated: all("weir_cql_cache_outdated_total", &[]),
            ..self.tally
        }
    }

    /// Carries out one seed.
    pub fn seed(&mut self, seed: u64) {
        let mut draw = Draw::new(seed);
        let table = Table::of_seed(seed, &mut draw);
        let create = table.create(&self.direct.keyspace);
        let told = Told { seed, create: &create, step: std::cell::RefCell::new("CREATE TABLE".to_owned()) };
        for keyspace in [self.direct.keyspace.clone(), self.twin.keyspace.clone()] {
            self.direct.lines(1)[0].query(&table.create(&keyspace)).expect_result();
        }
        for _ in 0..FILLS {
            let text = writes::fill(&table, &mut draw);
            if text.text.contains(" IF ") {
                std::thread::sleep(NODE_TIME);
            }
            let request = Request { timestamp: Some(self.stamp()), ..Request::plain(text, Way::Execute, 0) };
            told.now(&request);
            let (one, other) = (self.direct.ask(&request), self.twin.ask(&request));
            self.differs(&told, "the twin when it was filled", self.twins(&request, &one[0], &other[0]));
        }
        for _ in 0..READS {
            let style = draw.weighted(&[
                (60, Style::Marks),
                (15, Style::Names),
                (15, Style::Mixed),
                (10, Style::Literals),
            ]);
            let request = Request::drawn(selects::draw(&table, style, &mut draw), &mut draw);
            told.now(&request);
            self.read(&told, &request, None);
        }
        self.writes(&told, &table, &mut draw);
    }

    /// Micros since 1970, each later than the one before: the same for both twins.
    fn stamp(&mut self) -> i64 {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
        self.last_stamp = (now.as_micros() as i64).max(self.last_stamp + 1);
        self.last_stamp
    }

    /// Asks at every door (or only at those) and compares with the node.
    fn read(&mut self, told: &Told<'_>, request: &Request, only: Option<&[usize]>) {
        let statement_moves = moves(&request.texts[0].text);
        let mut expected = self.direct.ask(request).remove(0);
        self.tally.reads += 1;
        let last = expected.pages.last().or(expected.prepared.last());
        self.tally.errors += u64::from(last.is_some_and(|answer| answer.header.opcode == Opcode::Error));
        self.tally.with_rows += u64::from(expected.pages.iter().any(has_rows));
        let all: Vec<usize> = (0..self.doors.len()).collect();
        for at in only.unwrap_or(&all) {
            if self.doors[*at].keeps && statement_moves {
                continue;
            }
            let mut found = Ok(());
            for _ in 0..AGAIN {
                // an answer that is kept is given the second time
                let rounds = if self.doors[*at].keeps { 2 } else { 1 };
                found = (0..rounds).try_for_each(|_| self.once(*at, request, &expected));
                if found.is_ok() || !statement_moves {
                    break;
                }
                expected = self.direct.ask(request).remove(0);
            }
            let name = self.doors[*at].name;
            self.differs(told, name, found);
        }
    }

    fn once(&mut self, at: usize, request: &Request, expected: &Exchange) -> Result<(), String> {
        let door = &mut self.doors[at];
        let keyspace = door.keyspace.clone();
        let allowed = Allowed { split: door.splits, keyspaces: (&keyspace, &keyspace) };
        door.ask(request).iter().try_for_each(|exchange| same(request, expected, exchange, allowed))
    }

    fn twins(&self, request: &Request, one: &Exchange, other: &Exchange) -> Result<(), String> {
        let keyspaces = (&*self.direct.keyspace, &*self.twin.keyspace);
        same(request, one, other, Allowed { split: false, keyspaces })
    }

    /// Writes through one weir and reads what was read before: nothing old may come.
    fn writes(&mut self, told: &Told<'_>, table: &Table, draw: &mut Draw) {
        // what is kept is safe only from writes through the same weir
        let through: &[usize] = if draw.percent(60) { &[2] } else { &[0, 1] };
        let readers = self.readers(table, draw);
        for reader in &readers {
            told.now(reader);
            self.read(told, reader, Some(through));
        }
        for _ in 0..WRITES {
            let mut write = self.draw_write(table, draw);
            write.timestamp = (write.timestamp.is_some()).then(|| self.stamp());
            std::thread::sleep(NODE_TIME);
            told.now(&write);
            let at = *draw.pick(through);
            let beside = draw.pick(&readers).clone();
            let ours = self.write_beside(at, &write, &beside);
            let theirs = self.twin.ask(&write).remove(0);
            self.tally.writes += 1;
            let failed = theirs.pages.last().is_none_or(|answer| answer.header.opcode == Opcode::Error);
            self.tally.write_errors += u64::from(failed);
            let name = self.doors[at].name;
            self.differs(told, &format!("{name}, a write"), self.twins(&write, &ours, &theirs));
            let after = told.step.borrow().clone();
            for reader in &readers {
                told.now(reader);
                told.step.borrow_mut().push_str(&format!("\n  after {after}"));
                self.read(told, reader, Some(through));
                let (one, other) = (self.direct.ask(reader), self.twin.ask(reader));
                self.differs(
                    told,
                    &format!("the twin, written through {name}"),
                    self.twins(reader, &one[0], &other[0]),
                );
            }
        }
    }

    /// Asks this read on another connection while the write is under way: its answer is not looked at, and it must not
    /// be given to those who ask later.
    fn write_beside(&mut self, at: usize, write: &Request, beside: &Request) -> Exchange {
        let door = &mut self.doors[at];
        let keyspace = door.keyspace.clone();
        let (_, statements) = door.prepare(beside);
        let (opcode, body) = beside.message(&keyspace, &statements.expect("it was prepared before"), None);
        let (prepared, statements) = door.prepare(write);
        let Some(statements) = statements else { return Exchange { prepared, pages: Vec::new() } };
        let (what, message) = write.message(&keyspace, &statements, None);
        let reads = !door.splits; // it has one client
        if reads {
            let line = door.lines(beside.wire).last_mut().expect("a line");
            line.send_flagged(beside.flags(), 5, opcode, &body).expect("sent");
        }
        door.lines(write.wire)[0].send_flagged(write.flags(), 9, what, &message).expect("sent");
        let pages = vec![door.lines(write.wire)[0].answer()];
        if reads {
            door.lines(beside.wire).last_mut().expect("a line").answer();
        }
        Exchange { prepared, pages }
    }

    fn draw_write(&self, table: &Table, draw: &mut Draw) -> Request {
        let style = *draw.pick(&[Style::Marks, Style::Marks, Style::Names, Style::Mixed, Style::Literals]);
        let mut write = Request::drawn(writes::draw(table, style, draw), draw);
        (write.page_size, write.traced, write.skip_metadata, write.fault) = (None, false, false, None);
        write.timestamp = draw.percent(85).then_some(0);
        if draw.percent(30) {
            let kind = if table.counter != draw.percent(5) { 2 } else { *draw.pick(&[0, 1, 1]) };
            let large = draw.percent(25).then(|| *draw.pick(&[1_500, 3_000, 30_000]));
            let one = |draw: &mut Draw| {
                let large = large.and_then(|size| writes::large(table, size, draw));
                large.unwrap_or_else(|| writes::draw(table, Style::Marks, draw))
            };
            write.texts = (0..1 + draw.below(5)).map(|_| one(draw)).collect();
            (write.way, write.by_name) = (Way::Batch(kind), false);
        }
        write
    }

    /// Reads of what writes change.
    fn readers(&self, table: &Table, draw: &mut Draw) -> Vec<Request> {
        let all = format!("SELECT * FROM {KEYSPACE}{}", table.name);
        let mut plain = |write: &dyn Fn(&mut Text, &mut Draw)| {
            let mut text = Text::new(Style::Marks);
            write(text.push(&all), draw);
            let way = if text.values.is_empty() && draw.percent(50) { Way::Query } else { Way::Execute };
            Request { consistency: Consistency(1), ..Request::plain(text, way, draw.below(WIRES.len())) }
        };
        let partition = |text: &mut Text, draw: &mut Draw| {
            let key = table.key(draw);
            selects::equal(text.push(" WHERE "), &table.partition, &key, draw);
        };
        let list = |text: &mut Text, draw: &mut Draw| {
            let (last, key) = (table.partition.len() - 1, table.key(draw));
            selects::equal(text.push(" WHERE "), &table.partition[..last], &key[..last], draw);
            text.push(if last > 0 { " AND " } else { "" });
            text.push(&format!("{} IN ", table.partition[last].name));
            text.mark(Bound::Value(elements(table.keys[last].clone())));
        };
        vec![plain(&partition), plain(&partition), plain(&list), plain(&|_, _| {})]
    }

    fn differs(&mut self, told: &Told<'_>, door: &str, found: Result<(), String>) {
        if let Err(what) = found {
            let (seed, create, step) = (told.seed, told.create, told.step.borrow());
            let told = format!("WEIR_SEED={seed}, {door}: {what}\n  {create}\n  {step}");
            eprintln!("{told}"); // what comes later may end the run
            self.failures.push(told);
        }
    }
}

fn has_rows(answer: &crate::support_cql::answer::Answer) -> bool {
    answer.header.opcode == Opcode::Result && !answer.rows().is_empty()
}

/// What is being done, said when the test ends in the middle of it.
struct Told<'a> {
    seed: u64,
    create: &'a str,
    step: std::cell::RefCell<String>,
}

impl Told<'_> {
    fn now(&self, request: &Request) {
        *self.step.borrow_mut() = request.to_string();
    }
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("in WEIR_SEED={}\n  {}\n  {}", self.seed, self.create, self.step.borrow());
        }
    }
}
