//! What must hold for any bytes, shared by the property tests and the fuzz targets. Panics where it does not hold.
//!
//! Not part of the stable surface of the crate.

use crate::correlation::{ID_KEY_PREFIX, id_text};
use crate::keys::{KEY_MAX, has_control, split_keys};
use crate::{DecodeLimits, Rejection, ReplyHead, Request, RequestDecoder, Step, parse_reply};

/// One step of a stream, without what depends on how the bytes were cut.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A command and its length.
    Request(String, usize),
    /// A refusal and the length of everything dropped with it.
    Reject(Rejection, usize),
    /// Binary: nothing is read after it.
    Binary(Vec<u8>),
    /// The end of the stream: bytes left over, and whether more would be dropped.
    End {
        /// Bytes of an unfinished command.
        left: usize,
        /// The decoder was dropping.
        swallowing: bool,
    },
}

/// Decodes `stream` as it would arrive when cut at `cuts` (any order; the end is always a cut).
pub fn decode_stream(stream: &[u8], limits: DecodeLimits, cuts: &[usize]) -> Vec<Event> {
    let mut ends: Vec<usize> = cuts.iter().map(|cut| (*cut).min(stream.len())).collect();
    ends.push(stream.len());
    ends.sort_unstable();
    let mut decoder = RequestDecoder::new(limits);
    let mut events = Vec::new();
    let mut start = 0;
    for end in ends {
        while start < end {
            let input = &stream[start..end];
            match decoder.decode(input) {
                Step::Incomplete { needed } => {
                    assert!(needed > input.len(), "{needed} bytes are there");
                    break;
                }
                Step::Request { request, consumed } => {
                    assert!(0 < consumed && consumed <= input.len());
                    check_request(&request, limits);
                    events.push(Event::Request(format!("{request:?}"), consumed));
                    start += consumed;
                }
                Step::Reject { reply, consumed } => {
                    assert!(0 < consumed && consumed <= input.len());
                    assert!(reply.reply().is_empty() || reply.reply().ends_with(b"\r\n"));
                    if let Some(stale) = reply.stale_key() {
                        let key = &input[stale.range()];
                        assert!(!key.is_empty() && key.len() <= KEY_MAX && !has_control(key));
                    }
                    events.push(Event::Reject(reply, consumed));
                    start += consumed;
                }
                Step::Swallowed { consumed } => {
                    assert!(0 < consumed && consumed <= input.len());
                    match events.last_mut() {
                        Some(Event::Reject(_, dropped)) => *dropped += consumed,
                        other => panic!("dropped {consumed} bytes after {other:?}"),
                    }
                    start += consumed;
                }
                Step::Binary { reply } => {
                    events.push(Event::Binary(reply.to_vec()));
                    return events;
                }
            }
        }
    }
    events.push(Event::End { left: stream.len() - start, swallowing: decoder.swallowing() });
    events
}

/// What is forwarded must read as the same command with an answer.
fn check_request(request: &Request<'_>, limits: DecodeLimits) {
    match request {
        Request::Retrieve(retrieve) => {
            let keys = retrieve.keys.clone();
            assert!(!keys.is_empty());
            assert_eq!(keys.len(), keys.clone().count());
            assert!(keys.clone().eq(split_keys(keys.as_bytes())));
            for key in keys {
                check_key(key);
            }
            if let Some((id, rest)) = retrieve.split_request_id() {
                let first = retrieve.keys.clone().next().unwrap_or_default();
                assert_eq!(first, [ID_KEY_PREFIX, id_text(&id).as_bytes()].concat());
                assert_eq!(rest.keys.len() + 1, retrieve.keys.len());
                assert!(rest.keys.clone().eq(retrieve.keys.clone().skip(1)));
                assert!(rest.keys.clone().eq(split_keys(rest.keys.as_bytes())));
            }
        }
        Request::Store(store) => {
            check_key(store.key);
            let loud = reread(&[store.head, b"\r\n", store.data].concat(), limits);
            let quiet = format!("{request:?}").replace("noreply: true", "noreply: false");
            assert_eq!(loud, quiet);
            assert!(!store.head.ends_with(b" noreply"));
        }
        Request::Mutate(mutate) => {
            check_key(mutate.key);
            let loud = reread(&[mutate.head, b"\r\n"].concat(), limits);
            let quiet = format!("{request:?}").replace("noreply: true", "noreply: false");
            assert_eq!(loud, quiet);
            assert!(!mutate.head.ends_with(b" noreply"));
        }
        Request::Meta(meta) => {
            check_key(meta.key);
            let mut loud = Vec::new();
            meta.write_loud(&mut loud);
            let mut decoder = RequestDecoder::new(limits);
            let Step::Request { request: Request::Meta(again), consumed } = decoder.decode(&loud) else {
                panic!("{request:?} became {loud:?}");
            };
            assert_eq!(consumed, loud.len());
            assert!(!again.quiet);
            assert_eq!((again.verb, again.key, again.data), (meta.verb, meta.key, meta.data));
            assert_eq!((again.base64, again.plain_read), (meta.base64, meta.plain_read));
            let (mut one, mut other) = ([0; 256], [0; 256]);
            assert_eq!(again.routing_key(&mut one), meta.routing_key(&mut other));
            assert!(!meta.routing_key(&mut other).is_empty());
            assert_eq!(again.request_id(), meta.request_id());
        }
        _ => {}
    }
}

fn check_key(key: &[u8]) {
    assert!(!key.is_empty() && key.len() <= KEY_MAX);
    assert!(!has_control(key) && !key.contains(&b' '));
}

fn reread(bytes: &[u8], limits: DecodeLimits) -> String {
    match RequestDecoder::new(limits).decode(bytes) {
        Step::Request { request, consumed } if consumed == bytes.len() => format!("{request:?}"),
        other => panic!("{bytes:?} reads as {other:?}"),
    }
}

/// Reads `stream` as answers to its end, to the first incomplete or the first malformed one.
pub fn read_replies(stream: &[u8]) {
    let mut at = 0;
    while at < stream.len() {
        let input = &stream[at..];
        let head = parse_reply(input);
        let length = match head {
            ReplyHead::Incomplete | ReplyHead::Malformed => return,
            ReplyHead::Value { key, bytes, line_len } => {
                assert!(!key.is_empty() && key.len() <= KEY_MAX && !key.contains(&b' '));
                check_line(input, head, line_len);
                line_len.saturating_add(bytes as usize).saturating_add(2)
            }
            ReplyHead::MetaValue { bytes, line_len } => {
                check_line(input, head, line_len);
                line_len.saturating_add(bytes as usize).saturating_add(2)
            }
            ReplyHead::End { line_len } => {
                check_line(input, head, line_len);
                line_len
            }
            ReplyHead::Line { line, line_len, .. } => {
                assert_eq!(line.len() + 2, line_len);
                check_line(input, head, line_len);
                line_len
            }
        };
        at = at.saturating_add(length);
    }
}

/// A head must not depend on what follows its line, and a piece of the line is incomplete.
fn check_line(input: &[u8], head: ReplyHead<'_>, line_len: usize) {
    assert!(0 < line_len && line_len <= input.len());
    assert!(input[..line_len].ends_with(b"\r\n"));
    assert_eq!(parse_reply(&input[..line_len]), head);
    for len in [0, 1, line_len / 2, line_len - 1] {
        assert_eq!(parse_reply(&input[..len]), ReplyHead::Incomplete);
    }
}

/// Fuzzing: the first two bytes choose where the rest is cut, the rest is a client's stream.
pub fn fuzz_requests(input: &[u8]) {
    let Some((&[first, second], stream)) = input.split_first_chunk::<2>() else { return };
    // Small caps, so that short input reaches them.
    let limits = DecodeLimits { line: 17_000, value: 40 };
    let whole = decode_stream(stream, limits, &[]);
    let cuts: Vec<usize> = (1..=stream.len()).step_by(usize::from(second).max(1)).collect();
    assert_eq!(whole, decode_stream(stream, limits, &cuts));
    assert_eq!(whole, decode_stream(stream, limits, &[usize::from(first)]));
}
