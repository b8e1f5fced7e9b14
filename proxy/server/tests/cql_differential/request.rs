//! One request: a statement and everything that is said with it, and its bytes.

use crate::draw::Draw;
use crate::faults::Fault;
use crate::kinds::Bound;
use crate::support_cql::answer::Statement;
use crate::text::{KEYSPACE, Text};
use weir_cql::envelope::{Flags, Opcode};
use weir_cql::request::QueryFlags;
use weir_cql::{Consistency, Dialect, Version, write};

/// How connections are opened: the version, and the compression of bodies.
pub const WIRES: [(Version, &[(&str, &str)]); 6] = [
    (Version::V5, &[]),
    (Version::V4, &[]),
    (Version::V3, &[]),
    (Version::V4, &[("COMPRESSION", "lz4")]),
    (Version::V4, &[("COMPRESSION", "snappy")]),
    (Version::V5, &[("COMPRESSION", "lz4")]),
];

/// How a statement is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// QUERY.
    Query,
    /// PREPARE, and EXECUTE.
    Execute,
    /// BATCH of this kind: 0 logged, 1 unlogged, 2 of counters.
    Batch(u8),
}

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    /// The statements: one, but for a BATCH.
    pub texts: Vec<Text>,
    /// How.
    pub way: Way,
    /// Which of [`WIRES`].
    pub wire: usize,
    /// Values are sent with their names.
    pub by_name: bool,
    /// Rows per page.
    pub page_size: Option<i32>,
    /// How many replicas must answer.
    pub consistency: Consistency,
    /// The same for the conditional part.
    pub serial: Option<Consistency>,
    /// Default timestamp.
    pub timestamp: Option<i64>,
    /// v5: names in the text are of this request's keyspace.
    pub keyspace: bool,
    /// No columns in the answer.
    pub skip_metadata: bool,
    /// The request is traced.
    pub traced: bool,
    /// What is wrong with it.
    pub fault: Option<Fault>,
}

impl Request {
    /// A plain one.
    pub fn plain(text: Text, way: Way, wire: usize) -> Request {
        Request {
            by_name: false,
            texts: vec![text],
            way,
            wire,
            page_size: None,
            consistency: Consistency::ONE,
            serial: None,
            timestamp: None,
            keyspace: false,
            skip_metadata: false,
            traced: false,
            fault: None,
        }
    }

    /// With whatever clients say besides.
    pub fn drawn(text: Text, draw: &mut Draw) -> Request {
        const LEVELS: [(usize, u16); 12] = [
            (30, 1),
            (8, 10),
            (4, 6),
            (4, 4),
            (4, 5),
            (2, 7),
            (3, 8),
            (2, 9),
            (2, 2),
            (1, 3),
            (1, 0),
            (1, 11),
        ];
        let wire = draw.weighted(&[(30, 0), (30, 1), (15, 2), (8, 3), (8, 4), (9, 5)]);
        let v5 = WIRES[wire].0 == Version::V5;
        let way = if draw.percent(85) { Way::Execute } else { Way::Query };
        let level = if draw.percent(75) { 1 } else { draw.weighted(&LEVELS) };
        let sizes = [(3, 1), (15, 3), (40, 7), (15, 20), (14, 100), (11, 5000), (1, 0), (1, -1)];
        let page_size = draw.percent(60).then(|| draw.weighted(&sizes));
        let serial = draw.percent(8).then(|| Consistency(*draw.pick(&[8, 9, 8, 9, 1])));
        Request {
            by_name: text.named() && draw.percent(50),
            page_size,
            consistency: Consistency(level),
            serial,
            timestamp: draw.percent(50).then(|| draw.within(1..1 << 50)),
            keyspace: v5 && draw.percent(10),
            skip_metadata: draw.percent(25),
            traced: draw.percent(2),
            fault: draw.percent(8).then(|| *draw.pick(&Fault::ALL)),
            ..Request::plain(text, way, wire)
        }
    }

    /// Its version.
    pub fn version(&self) -> Version {
        WIRES[self.wire].0
    }

    /// The text of one statement, for a keyspace.
    pub fn text(&self, at: usize, keyspace: &str) -> String {
        let written = if self.keyspace { String::new() } else { format!("{keyspace}.") };
        let text = &self.texts[at].text;
        let text = self.fault.map_or(text.clone(), |fault| fault.text(text));
        text.replace(KEYSPACE, &written)
    }

    /// The flags of its header.
    pub fn flags(&self) -> Flags {
        Flags(if self.traced { Flags::TRACING } else { 0 })
    }

    /// The message that prepares one of its statements.
    pub fn prepare(&self, at: usize, keyspace: &str) -> Vec<u8> {
        let mut body = Vec::new();
        let named = self.keyspace.then_some(keyspace.as_bytes());
        let text = self.text(at, keyspace);
        weir_cql::request::Prepare::write(text.as_bytes(), named, Dialect::of(self.version()), &mut body);
        body
    }

    /// The message; `prepared` are its statements, where it has some, and `state` where its pages go on.
    pub fn message(
        &self,
        keyspace: &str,
        prepared: &[Option<Statement>],
        state: Option<&[u8]>,
    ) -> (Opcode, Vec<u8>) {
        let mut body = Vec::new();
        match self.way {
            Way::Query => {
                write::bytes(&mut body, self.text(0, keyspace).as_bytes());
                self.parameters(keyspace, state, &mut body);
                (Opcode::Query, body)
            }
            Way::Execute => {
                let statement = prepared[0].as_ref().expect("it was prepared");
                let mut id = statement.id.clone();
                if self.fault == Some(Fault::Id) {
                    id[0] ^= 0x55;
                }
                write::short_bytes(&mut body, &id);
                if self.version() == Version::V5 {
                    let mut id = statement.result_id.clone();
                    if self.fault == Some(Fault::Columns) {
                        id[0] ^= 0x55;
                    }
                    write::short_bytes(&mut body, &id);
                }
                self.parameters(keyspace, state, &mut body);
                (Opcode::Execute, body)
            }
            Way::Batch(kind) => {
                write::byte(&mut body, kind);
                write::short(&mut body, self.texts.len() as u16);
                for (at, text) in self.texts.iter().enumerate() {
                    match &prepared[at] {
                        Some(statement) => {
                            write::byte(&mut body, 1);
                            write::short_bytes(&mut body, &statement.id);
                        }
                        None => {
                            write::byte(&mut body, 0);
                            write::bytes(&mut body, self.text(at, keyspace).as_bytes());
                        }
                    }
                    values(&text.values, false, self.version(), &mut body);
                }
                write::consistency(&mut body, self.consistency);
                self.flags_and_rest(0, keyspace, None, &mut body);
                (Opcode::Batch, body)
            }
        }
    }

    fn parameters(&self, keyspace: &str, state: Option<&[u8]>, out: &mut Vec<u8>) {
        write::consistency(out, self.consistency);
        let mut all = self.texts[0].values.clone();
        match (self.fault, all.first_mut()) {
            (Some(Fault::TooFew), _) => drop(all.pop()),
            (Some(Fault::Length), Some((_, Bound::Value(bytes)))) => bytes.push(0),
            (Some(Fault::Long), Some((_, Bound::Value(bytes)))) => bytes.resize(70_000, b'a'),
            (Some(Fault::TooMany), _) => all.push(("more".to_owned(), Bound::Null)),
            _ => {}
        }
        let state = state.or((self.fault == Some(Fault::State)).then_some(&[1, 2, 3]));
        let mut valued = Vec::new();
        let mut flags = if self.skip_metadata { QueryFlags::SKIP_METADATA } else { 0 };
        if !all.is_empty() {
            flags |= QueryFlags::VALUES | if self.by_name { QueryFlags::NAMES } else { 0 };
            values(&all, self.by_name, self.version(), &mut valued);
        }
        self.flags_and_rest(flags, keyspace, Some((&valued, state)), out);
    }

    /// Flags, and what they announce; of a BATCH without values, page size and state.
    fn flags_and_rest(
        &self,
        flags: u32,
        keyspace: &str,
        query: Option<(&[u8], Option<&[u8]>)>,
        out: &mut Vec<u8>,
    ) {
        let (valued, state) = query.unwrap_or_default();
        let page_size = self.page_size.filter(|_| query.is_some());
        let keyspace = self.keyspace.then_some(keyspace);
        let mut flags = flags;
        for (flag, set) in [
            (QueryFlags::PAGE_SIZE, page_size.is_some()),
            (QueryFlags::PAGING_STATE, state.is_some()),
            (QueryFlags::SERIAL_CONSISTENCY, self.serial.is_some()),
            (QueryFlags::TIMESTAMP, self.timestamp.is_some()),
            (QueryFlags::KEYSPACE, keyspace.is_some()),
        ] {
            flags |= if set { flag } else { 0 };
        }
        match self.version() {
            Version::V5 => write::bits(out, flags),
            _ => write::byte(out, flags as u8),
        }
        out.extend_from_slice(valued);
        page_size.inspect(|size| write::int(out, *size));
        state.inspect(|state| write::bytes(out, state));
        self.serial.inspect(|level| write::consistency(out, *level));
        self.timestamp.inspect(|stamp| write::long(out, *stamp));
        keyspace.inspect(|name| write::string(out, name));
    }
}

fn values(all: &[(String, Bound)], by_name: bool, version: Version, out: &mut Vec<u8>) {
    write::short(out, all.len() as u16);
    for (name, value) in all {
        if by_name {
            write::string(out, name);
        }
        match value {
            Bound::Value(bytes) => write::bytes(out, bytes),
            Bound::Unset if version > Version::V3 => write::int(out, -2),
            Bound::Null | Bound::Unset => write::int(out, -1),
        }
    }
}
