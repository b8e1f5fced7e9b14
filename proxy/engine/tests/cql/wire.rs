//! What clients write and read, on the project's codec.

use weir_cql::envelope::{EnvelopeLimits, Flags, Header, Opcode, Side, Step, read_header};
use weir_cql::request::Prepare;
use weir_cql::response::{ErrorBody, ErrorCode, ErrorDetail, ResultBody};
use weir_cql::segment::SegmentStep;
use weir_cql::{
    Compression, Consistency, Dialect, HEADER_LEN, Response, SegmentDecoder, StreamId, Version, write,
    write_segments,
};

/// A whole message of a client.
pub fn message(version: Version, stream: i16, opcode: Opcode, body: &[u8]) -> Vec<u8> {
    flagged(version, stream, opcode, Flags::default(), body)
}

pub fn flagged(version: Version, stream: i16, opcode: Opcode, flags: Flags, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let body_len = body.len() as u32;
    Header { version, flags, stream: StreamId(stream), opcode, body_len }.write(&mut bytes);
    bytes.extend_from_slice(body);
    bytes
}

pub fn options(version: Version, stream: i16) -> Vec<u8> {
    message(version, stream, Opcode::Options, &[])
}

pub fn startup(version: Version, stream: i16, options: &[(&str, &str)]) -> Vec<u8> {
    let mut body = Vec::new();
    weir_cql::request::Startup::write(options.iter().copied(), &mut body);
    message(version, stream, Opcode::Startup, &body)
}

pub fn register(version: Version, stream: i16, events: &[&str]) -> Vec<u8> {
    let mut body = Vec::new();
    weir_cql::request::Register::write(events.iter().copied(), &mut body);
    message(version, stream, Opcode::Register, &body)
}

/// Query parameters: only what the tests need.
#[derive(Clone, Default)]
pub struct With {
    pub values: Vec<Vec<u8>>,
    /// What the values are called; empty where they have no names.
    pub names: Vec<&'static str>,
    pub skip_metadata: bool,
    pub page_size: Option<i32>,
    pub page_state: Option<Vec<u8>>,
    pub timestamp: Option<i64>,
    pub consistency: Option<Consistency>,
    pub keyspace: Option<&'static str>,
}

impl With {
    pub fn values(values: &[Vec<u8>]) -> With {
        With { values: values.to_vec(), ..With::default() }
    }

    fn write(&self, version: Version, out: &mut Vec<u8>) {
        write::consistency(out, self.consistency.unwrap_or(Consistency::ONE));
        let flags = u32::from(!self.values.is_empty())
            | u32::from(self.skip_metadata) << 1
            | u32::from(self.page_size.is_some()) << 2
            | u32::from(self.page_state.is_some()) << 3
            | u32::from(self.timestamp.is_some()) << 5
            | u32::from(!self.names.is_empty()) << 6
            | u32::from(self.keyspace.is_some()) << 7;
        if version >= Version::V5 {
            write::bits(out, flags);
        } else {
            write::byte(out, flags as u8);
        }
        if !self.values.is_empty() {
            write::short(out, self.values.len() as u16);
            for (index, value) in self.values.iter().enumerate() {
                if let Some(name) = self.names.get(index) {
                    write::string(out, name);
                }
                write::bytes(out, value);
            }
        }
        if let Some(size) = self.page_size {
            write::int(out, size);
        }
        if let Some(state) = &self.page_state {
            write::bytes(out, state);
        }
        if let Some(timestamp) = self.timestamp {
            write::long(out, timestamp);
        }
        if let Some(keyspace) = self.keyspace {
            write::short_bytes(out, keyspace.as_bytes());
        }
    }
}

pub fn query(version: Version, stream: i16, text: &str, with: &With) -> Vec<u8> {
    let mut body = Vec::new();
    write::bytes(&mut body, text.as_bytes());
    with.write(version, &mut body);
    message(version, stream, Opcode::Query, &body)
}

pub fn prepare(version: Version, stream: i16, text: &str) -> Vec<u8> {
    let mut body = Vec::new();
    Prepare::write(text.as_bytes(), None, Dialect::of(version), &mut body);
    message(version, stream, Opcode::Prepare, &body)
}

pub fn execute(version: Version, stream: i16, id: &[u8], with: &With) -> Vec<u8> {
    let mut body = Vec::new();
    write::short_bytes(&mut body, id);
    if Dialect::of(version).metadata_ids {
        write::short_bytes(&mut body, b"meta");
    }
    with.write(version, &mut body);
    message(version, stream, Opcode::Execute, &body)
}

/// One statement of a batch: a text or an id, and its values.
pub enum Part<'a> {
    Text(&'a str),
    Id(&'a [u8], Vec<Vec<u8>>),
}

/// An UNLOGGED one.
pub fn batch(version: Version, stream: i16, parts: &[Part<'_>]) -> Vec<u8> {
    batch_with(version, stream, 1, parts, &With::default())
}

pub fn batch_with(version: Version, stream: i16, kind: u8, parts: &[Part<'_>], with: &With) -> Vec<u8> {
    let mut body = vec![kind];
    write::short(&mut body, parts.len() as u16);
    for part in parts {
        let values = match part {
            Part::Text(text) => {
                write::byte(&mut body, 0);
                write::bytes(&mut body, text.as_bytes());
                &Vec::new()
            }
            Part::Id(id, values) => {
                write::byte(&mut body, 1);
                write::short_bytes(&mut body, id);
                values
            }
        };
        write::short(&mut body, values.len() as u16);
        values.iter().for_each(|value| write::bytes(&mut body, value));
    }
    with.write(version, &mut body);
    message(version, stream, Opcode::Batch, &body)
}

pub fn int(value: i32) -> Vec<u8> {
    value.to_be_bytes().to_vec()
}

/// A bound list of keys.
pub fn list(keys: impl IntoIterator<Item = i32>) -> Vec<u8> {
    let keys: Vec<i32> = keys.into_iter().collect();
    let mut bytes = int(keys.len() as i32);
    keys.iter().for_each(|key| write::bytes(&mut bytes, &key.to_be_bytes()));
    bytes
}

/// One message as a client got it.
#[derive(Clone, Debug)]
pub struct Answer {
    pub header: Header,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn stream(&self) -> i16 {
        self.header.stream.0
    }

    pub fn read(&self) -> Response<'_> {
        let dialect = Dialect::of(self.header.version);
        Response::locate(&self.header, &self.body, dialect).expect("a readable answer").1
    }

    pub fn error(&self) -> (ErrorCode, String) {
        let Response::Error(error) = self.read() else { panic!("no error: {:?}", self.read()) };
        (error.code, String::from_utf8_lossy(error.message).into_owned())
    }

    /// The code of an error; `None` for anything else.
    pub fn code(&self) -> Option<ErrorCode> {
        matches!(self.header.opcode, Opcode::Error).then(|| self.error().0)
    }

    pub fn unprepared(&self) -> Option<Vec<u8>> {
        match self.read() {
            Response::Error(ErrorBody { detail: ErrorDetail::Unprepared(id), .. }) => Some(id.to_vec()),
            _ => None,
        }
    }

    /// Cells of its rows as text; values that are no text in hexadecimal.
    pub fn rows(&self) -> Vec<Vec<Option<Vec<u8>>>> {
        let Response::Result(ResultBody::Rows(rows)) = self.read() else {
            panic!("no rows: {:?}", self.describe())
        };
        let cells = |row: weir_cql::response::Row| {
            row.values(&self.body).map(|value| value.of(&self.body).map(<[u8]>::to_vec)).collect()
        };
        let found: Vec<_> = rows.iter(&self.body).map(cells).collect();
        assert_eq!(found.len(), rows.count as usize);
        found
    }

    /// The second column of its rows, as text.
    pub fn values(&self) -> Vec<String> {
        let text = |cell: &Option<Vec<u8>>| String::from_utf8(cell.clone().expect("a value")).expect("text");
        self.rows().iter().map(|row| text(&row[1])).collect()
    }

    /// Where its pages go on.
    pub fn page_state(&self) -> Option<Vec<u8>> {
        match self.read() {
            Response::Result(ResultBody::Rows(rows)) => {
                rows.metadata.paging_state.and_then(|state| state.of(&self.body)).map(<[u8]>::to_vec)
            }
            _ => None,
        }
    }

    /// The first column of its rows.
    pub fn keys(&self) -> Vec<i32> {
        let key = |cell: &Option<Vec<u8>>| cell.as_deref().and_then(|bytes| bytes.try_into().ok());
        self.rows().iter().map(|row| i32::from_be_bytes(key(&row[0]).expect("a key"))).collect()
    }

    pub fn prepared(&self) -> Vec<u8> {
        let Response::Result(ResultBody::Prepared(prepared)) = self.read() else {
            panic!("not prepared: {}", self.describe())
        };
        prepared.id.of(&self.body).to_vec()
    }

    pub fn is_void(&self) -> bool {
        self.header.opcode == Opcode::Result && matches!(self.read(), Response::Result(ResultBody::Void))
    }

    pub fn describe(&self) -> String {
        match self.read() {
            Response::Error(error) => {
                format!("{:?} {}", error.code, String::from_utf8_lossy(error.message))
            }
            other => format!("{other:?}"),
        }
    }
}

/// Takes whole messages off the front of what a peer sent.
pub fn take_messages(bytes: &mut Vec<u8>, side: Side) -> Vec<Answer> {
    let mut found = Vec::new();
    let mut at = 0;
    loop {
        match read_header(&bytes[at..], side, EnvelopeLimits::default()) {
            Step::Incomplete { .. } => break,
            Step::Envelope { header } => {
                let Some(envelope) = bytes[at..].get(..header.envelope_len()) else { break };
                found.push(Answer { header, body: envelope[HEADER_LEN..].to_vec() });
                at += header.envelope_len();
            }
            other => panic!("{other:?}"),
        }
    }
    bytes.drain(..at);
    found
}

/// Takes whole segments off the front of `bytes`.
pub fn open_segments(segments: &mut SegmentDecoder, bytes: &mut Vec<u8>, plain: &mut Vec<u8>) {
    let mut at = 0;
    loop {
        match segments.decode(&bytes[at..], plain) {
            SegmentStep::Segment { consumed } => at += consumed,
            SegmentStep::Incomplete { .. } => break,
            SegmentStep::Malformed(reason) => panic!("{reason}"),
        }
    }
    bytes.drain(..at);
}

pub fn in_segments(envelopes: &[u8], compressed: bool) -> Vec<u8> {
    let mut out = Vec::new();
    assert_eq!(write_segments(envelopes, compressed, &mut out), Ok(envelopes.len()));
    out
}

/// The same message with a compressed body (v3, v4).
pub fn compressed(message: &[u8], compression: Compression) -> Vec<u8> {
    let mut bytes = message[..HEADER_LEN].to_vec();
    bytes[1] |= Flags::COMPRESSED;
    compression.compress(&message[HEADER_LEN..], &mut bytes);
    let length = (bytes.len() - HEADER_LEN) as u32;
    bytes[5..9].copy_from_slice(&length.to_be_bytes());
    bytes
}
