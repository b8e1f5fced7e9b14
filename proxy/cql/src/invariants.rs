//! What must hold for any bytes, shared by the property tests and the fuzz targets. Panics where it does not hold.
//!
//! Not part of the stable surface of the crate.

use crate::compress::Compression;
use crate::envelope::{EnvelopeLimits, HEADER_LEN, Header, Side, Step, read_header};
use crate::error::Malformed;
use crate::own;
use crate::read::{Cursor, Span, Value, bytes_pairs, strings};
use crate::request::{
    BatchEdit, BatchHead, BatchPart, ExecuteEdit, ParameterEdit, Parameters, Request, RequestMark, Values,
    list_count, list_elements, skip_payload, take_request_id,
};
use crate::response::{
    ErrorBody, MetadataEdit, Prefix, PreparedEdit, Response, ResultBody, Rows, Tablet, supported, take_tablet,
};
use crate::segment::{SegmentDecoder, SegmentStep, write_segments};
use crate::types::CqlType;
use crate::version::{Dialect, Version};

/// Small, so that short input reaches the caps.
pub const LIMITS: EnvelopeLimits = EnvelopeLimits { body: 20_000, newest: Version::V5 };

/// Longest output of a decompression that is tried, bytes.
const PLAIN_MAX: usize = 1 << 20;

/// Reads `stream` as what `side` sends, to its end or to what closes the connection. Returns the number of messages
/// and of those whose body reads.
pub fn read_stream(stream: &[u8], side: Side) -> (usize, usize) {
    let (mut at, mut messages, mut readable) = (0, 0, 0);
    while at < stream.len() {
        let input = &stream[at..];
        let step = read_header(input, side, LIMITS);
        match step {
            Step::Incomplete { needed } => {
                assert!(needed > input.len(), "{needed} bytes are there");
                break;
            }
            Step::Malformed { reason, .. } => {
                assert!(!reason.label().is_empty() && !reason.to_string().is_empty());
                break;
            }
            Step::Unsupported { version, stream, consumed } => {
                assert!(0 < consumed && consumed <= input.len());
                assert!(Version::from_number(version).is_none() && side == Side::Client);
                check_refusal(version, stream);
                at += consumed;
            }
            Step::Envelope { header } => {
                assert!(header.body_len <= LIMITS.body);
                check_header(input, side, header);
                let Some(body) = input.get(HEADER_LEN..header.envelope_len()) else { break };
                messages += 1;
                readable += usize::from(read_body(&header, body, side));
                at += header.envelope_len();
            }
        }
    }
    (messages, readable)
}

/// A header must not depend on what follows it, and a piece of it is incomplete.
fn check_header(input: &[u8], side: Side, header: Header) {
    assert_eq!(read_header(&input[..HEADER_LEN], side, LIMITS), Step::Envelope { header });
    for len in [0, 1, HEADER_LEN - 1] {
        assert_eq!(read_header(&input[..len], side, LIMITS), Step::Incomplete { needed: HEADER_LEN });
    }
    let mut written = Vec::new();
    header.write(&mut written);
    assert_eq!(written, input[..HEADER_LEN]);
}

/// The answer to an unknown version is one that its client can find its stream in.
fn check_refusal(version: u8, stream: crate::envelope::StreamId) {
    let mut out = Vec::new();
    own::unsupported_version(&mut out, version, stream, Version::V4);
    if matches!(version, 1 | 2) {
        assert_eq!((out[0], out[2], out[3]), (0x80 | version, stream.0 as u8, 0));
        let length = u32::from_be_bytes([out[4], out[5], out[6], out[7]]);
        assert_eq!(out.len(), 8 + length as usize);
    } else {
        match read_header(&out, Side::Server, LIMITS) {
            Step::Envelope { header } => {
                assert_eq!((header.stream, header.envelope_len()), (stream, out.len()));
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Reads one body in the dialects its version may have; whether it reads in the first.
pub fn read_body(header: &Header, body: &[u8], side: Side) -> bool {
    let dialect = Dialect::of(header.version);
    let extended = Dialect { metadata_ids: true, ..dialect };
    let read = |dialect| match side {
        Side::Client => check_request(header, body, dialect),
        Side::Server => check_response(header, body, dialect),
    };
    let first = read(dialect);
    if extended != dialect {
        let _malformed_is_fine = read(extended);
    }
    first.is_ok()
}

fn inside(body: &[u8], span: Span) {
    assert!(span.start <= span.end && span.end as usize <= body.len(), "{span:?} of {}", body.len());
}

fn check_value(body: &[u8], value: Value) {
    if let Value::Bytes(span) = value {
        inside(body, span);
        let value = span.of(body);
        if let (Some(count), Some(mut elements)) = (list_count(value), list_elements(value)) {
            assert!(count as usize <= value.len() / 4);
            let found = elements.by_ref().count();
            assert!(found <= count as usize);
            assert!(!elements.whole() || found == count as usize);
        }
    }
}

fn check_values(body: &[u8], values: &Values) {
    inside(body, values.span);
    let mut found = 0;
    for (_, value) in values.iter(body) {
        check_value(body, value);
        found += 1;
    }
    assert_eq!(found, usize::from(values.count));
}

fn check_parameters(body: &[u8], parameters: &Parameters) {
    inside(body, parameters.span);
    check_values(body, &parameters.values);
    let (before, after) = parameters.around_timestamp(body);
    let without = if parameters.timestamp.is_some() { 8 } else { 0 };
    assert_eq!(before.len() + after.len() + without, parameters.span.len());
}

/// A null paging state may be any negative length; it is written as -1.
fn rewritten_as_it_was(parameters: &Parameters) -> bool {
    parameters.paging_state != Some(Value::Null)
}

fn check_request(header: &Header, body: &[u8], dialect: Dialect) -> Result<(), Malformed> {
    let request = Request::locate(header, body, dialect)?;
    if let Some(taken) = take_request_id(header, body) {
        // the same message behind what is left of the payload, and never an id twice
        let message = |header: &Header, body: &[u8]| {
            let span = skip_payload(header.version, header.opcode, header.flags, body).map(|(_, rest)| rest);
            span.map(|span| span.of(body).to_vec())
        };
        assert_eq!(message(&taken.header, &taken.body), message(header, body));
        assert_eq!(taken.header.body_len as usize, taken.body.len());
        assert_eq!(take_request_id(&taken.header, &taken.body), None);
        assert!(Request::locate(&taken.header, &taken.body, dialect).is_ok());
    }
    let mut out = Vec::new();
    if let Some(mark) = request.mark() {
        assert_eq!(RequestMark::read(mark.timestamp()), Some(mark));
        request.write_unmarked(body, &mut out);
        let again = Header { body_len: out.len() as u32, ..*header };
        assert_eq!(Request::locate(&again, &out, dialect).expect("its own output").mark(), None);
        out.clear();
    }
    match request {
        Request::Options => return Ok(()),
        Request::Startup(startup) => {
            inside(body, startup.options);
            for (name, _) in startup.options(body) {
                assert!(
                    std::str::from_utf8(name).is_err()
                        || startup.get(body, &String::from_utf8_lossy(name)).is_some()
                );
            }
            return Ok(());
        }
        Request::Register(register) => {
            inside(body, register.events);
            assert!(register.events(body).count() <= usize::from(u16::MAX));
            return Ok(());
        }
        Request::AuthResponse(response) => {
            check_value(body, response.token);
            let _none_is_fine = response.plain(body);
            return Ok(());
        }
        Request::Prepare(prepare) => {
            inside(body, prepare.text);
            return Ok(());
        }
        Request::Query(query) => {
            inside(body, query.text);
            check_parameters(body, &query.parameters);
            query.rewrite(body, None, &ParameterEdit::default(), &mut out);
            if !rewritten_as_it_was(&query.parameters) {
                return Ok(());
            }
        }
        Request::Execute(execute) => {
            inside(body, execute.id);
            check_parameters(body, &execute.parameters);
            execute.rewrite(body, &ExecuteEdit::default(), &mut out);
            if !rewritten_as_it_was(&execute.parameters) {
                return Ok(());
            }
        }
        Request::Batch(batch) => {
            assert_eq!(BatchHead::read(body, batch.message), Ok(batch.head));
            inside(body, batch.statements);
            for statement in batch.statements(body) {
                inside(body, statement.source);
                check_values(body, &statement.values);
            }
            let parts = batch.statements(body).map(|statement| BatchPart { statement, id: None });
            let written = batch.rewrite(body, parts, &BatchEdit::default(), &mut out);
            assert_eq!(written, batch.head.count);
        }
    }
    assert_eq!(out, body, "a rewrite without changes changes nothing");
    Ok(())
}

fn check_response(header: &Header, body: &[u8], dialect: Dialect) -> Result<(), Malformed> {
    let (prefix, response) = Response::locate(header, body, dialect)?;
    check_prefix(body, &prefix);
    check_tablet(header, body, &prefix);
    let mut out = Vec::new();
    match response {
        Response::Ready | Response::Authenticate(_) => {}
        Response::AuthChallenge(_) | Response::AuthSuccess(_) => {}
        Response::Error(error) => {
            for version in [Version::V3, Version::V4, Version::V5] {
                out.clear();
                error.write(version, &mut out);
                let again = ErrorBody::read(&out, &mut Cursor::new(&out), version);
                let again = again.expect("its own output");
                assert!(version != dialect.version || again == error, "{error:?} became {again:?}");
            }
        }
        Response::Supported(options) => {
            inside(body, options);
            supported(body, options).for_each(|(_, values)| assert!(values.count() <= usize::from(u16::MAX)));
        }
        Response::Event(event) => {
            event.write(&mut out);
            assert!(prefix.message.of(body).starts_with(&out), "{event:?}");
        }
        Response::Result(result) => check_result(body, &prefix, result, dialect),
    }
    Ok(())
}

fn check_prefix(body: &[u8], prefix: &Prefix) {
    inside(body, prefix.message);
    assert!(prefix.warnings(body).count() <= usize::from(u16::MAX));
    if let Some(payload) = prefix.payload {
        assert!(bytes_pairs(body, payload).count() <= usize::from(u16::MAX));
    }
    if let Some(warnings) = prefix.warnings {
        assert_eq!(strings(body, warnings).count(), prefix.warnings(body).count());
    }
}

/// Without its tablet an answer is the same but for that; what is read as a tablet can be written.
fn check_tablet(header: &Header, body: &[u8], prefix: &Prefix) {
    let Some(taken) = take_tablet(header, body) else { return };
    assert_eq!(take_tablet(&taken.header, &taken.body), None, "it is taken out once");
    assert_eq!(header.body_len - taken.header.body_len, (body.len() - taken.body.len()) as u32);
    let without =
        Prefix::locate(header.version, taken.header.flags, &taken.body).expect("it was read before");
    assert_eq!(without.message.of(&taken.body), prefix.message.of(body));
    assert_eq!(without.tracing_id, prefix.tracing_id);
    assert!(without.warnings(&taken.body).eq(prefix.warnings(body)));
    let left = |prefix: &Prefix, body| bytes_pairs(body, prefix.payload.unwrap_or_default()).count();
    assert!(left(&without, &taken.body) < left(prefix, body));
    if let Ok(tablet) = taken.tablet {
        let mut out = Vec::new();
        tablet.write(&mut out);
        assert_eq!(Tablet::read(&out), Ok(tablet));
    }
}

fn check_result(body: &[u8], prefix: &Prefix, result: ResultBody, dialect: Dialect) {
    let message = prefix.message.of(body);
    let mut out = Vec::new();
    match result {
        ResultBody::Void => {}
        ResultBody::SetKeyspace(name) => inside(body, name),
        ResultBody::SchemaChange(span) => {
            inside(body, span);
            if let Some(Ok(change)) = result.schema_change(body) {
                change.write(&mut out);
                assert!(span.of(body).starts_with(&out), "{change:?}");
            }
        }
        ResultBody::Prepared(prepared) => {
            assert_eq!(prepared.markers.iter(body).count(), prepared.markers.count as usize);
            assert_eq!(prepared.key_indices(body).count() * 2, prepared.key_indices.len());
            for column in prepared.markers.iter(body).chain(prepared.result.columns.iter(body)) {
                let kind = CqlType::at(body, column.kind).expect("it was walked over");
                out.clear();
                kind.write(&mut out);
                assert_eq!(out, column.kind.of(body));
            }
            out.clear();
            prepared.rewrite(body, &PreparedEdit::default(), &mut out);
            assert!(message.starts_with(&out));
        }
        ResultBody::Rows(rows) => check_rows(body, &rows, dialect),
    }
}

fn check_rows(body: &[u8], rows: &Rows, dialect: Dialect) {
    inside(body, rows.content);
    assert!(
        rows.count == 0
            || rows.content.len() >= rows.count as usize * rows.metadata.column_count as usize * 4
    );
    let mut end = rows.content.start;
    let mut found = 0;
    for row in rows.iter(body) {
        assert_eq!(row.span.start, end);
        inside(body, row.span);
        end = row.span.end;
        assert_eq!(row.values(body).count(), rows.metadata.column_count as usize);
        found += 1;
    }
    assert!(found <= rows.count);
    let mut out = Vec::new();
    rows.write_head(body, &MetadataEdit::default(), rows.count, &mut out);
    out.extend_from_slice(rows.content.of(body));
    let mut cursor = Cursor::new(&out);
    let Ok(ResultBody::Rows(again)) = ResultBody::locate(&mut cursor, dialect) else {
        panic!("{rows:?} does not read again");
    };
    assert_eq!((again.count, again.content.len()), (rows.count, rows.content.len()));
    assert_eq!(again.metadata.columns.count, rows.metadata.columns.count);
    assert_eq!(again.metadata.columns.span.len(), rows.metadata.columns.span.len());
}

/// Reads `stream` as segments; what comes out is written again and must come out the same.
pub fn read_segments(stream: &[u8], compressed: bool) {
    let mut decoder = SegmentDecoder::new(compressed, LIMITS.body);
    let (mut at, mut envelopes) = (0, Vec::new());
    loop {
        let before = envelopes.len();
        match decoder.decode(&stream[at..], &mut envelopes) {
            SegmentStep::Segment { consumed } => {
                assert!(0 < consumed && consumed <= stream.len() - at);
                at += consumed;
            }
            SegmentStep::Incomplete { needed } => {
                assert!(needed > stream.len() - at);
                assert_eq!(envelopes.len(), before);
                break;
            }
            SegmentStep::Malformed(_) => {
                assert_eq!(envelopes.len(), before);
                break;
            }
        }
    }
    let (mut out, mut again) = (Vec::new(), Vec::new());
    let written =
        write_segments(&envelopes, compressed, &mut out).expect("the decoder has checked the lengths");
    assert!(written == envelopes.len() || decoder.in_envelope());
    let mut decoder = SegmentDecoder::new(compressed, LIMITS.body);
    let mut rest = out.as_slice();
    while let SegmentStep::Segment { consumed } = decoder.decode(rest, &mut again) {
        rest = &rest[consumed..];
    }
    assert!(rest.is_empty());
    assert_eq!(again, envelopes[..written]);
}

/// Decompresses `body` under a cap.
pub fn decompress(body: &[u8]) {
    for compression in [Compression::Lz4, Compression::Snappy] {
        let mut out = Vec::new();
        match compression.decompress(body, PLAIN_MAX, &mut out) {
            Ok(()) => assert!(out.len() <= PLAIN_MAX),
            Err(_) => assert!(out.is_empty()),
        }
    }
}

/// Fuzzing: the first byte chooses the reader, the rest is its input.
pub fn fuzz_frames(input: &[u8]) {
    let Some((choice, stream)) = input.split_first() else { return };
    match choice % 5 {
        0 => {
            read_stream(stream, Side::Client);
        }
        1 => {
            read_stream(stream, Side::Server);
        }
        2 => read_segments(stream, false),
        3 => read_segments(stream, true),
        _ => decompress(stream),
    }
}
