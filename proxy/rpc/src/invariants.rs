//! What must hold for any bytes, shared by the property tests and the fuzz target. Panics where it does not hold.
//!
//! Not part of the stable surface of the crate.

use std::sync::Arc;

use crate::count::Counter;
use crate::json::{JsonPlan, JsonScan};
use crate::scan::{Scan, ScanPlan, Step};
use crate::split::{
    AnyCut, AnyMerge, Cut, CutLimits, JsonField, JsonSplit, Merge, MergeError, Names, ReplyField, Rule,
    SplitPlan,
};
use crate::wire::{Elements, Fields};
use crate::{Codec, ContentType, Wire};

/// Longest message of the framed check, bytes: small, so that short input reaches the limit.
const MESSAGE_MAX: u32 = 20_000;

const fn step(number: u32, elements: Elements) -> Step {
    Step { number, elements }
}

/// Fields of every kind, some of them inside messages.
pub fn plan() -> Arc<ScanPlan> {
    let text = step(1, Elements::Delimited);
    let paths = [
        vec![text],
        vec![step(2, Elements::Varint)],
        vec![step(3, Elements::Fixed32)],
        vec![step(4, Elements::Fixed64)],
        vec![step(5, Elements::Delimited), text],
        vec![step(5, Elements::Delimited), step(5, Elements::Delimited), step(2, Elements::Varint)],
    ];
    Arc::new(ScanPlan::new(&paths).unwrap_or_default())
}

/// `message` cut at places that `cuts` chooses.
pub fn pieces<'m>(mut message: &'m [u8], cuts: &[u8]) -> Vec<&'m [u8]> {
    let mut pieces = Vec::new();
    for cut in cuts {
        let (piece, rest) = message.split_at(usize::from(*cut).min(message.len()));
        pieces.push(piece);
        message = rest;
    }
    pieces.push(message);
    pieces
}

/// One byte with the number of cuts (at most 15), the cuts, then the message.
pub fn fuzz_message(input: &[u8]) {
    let Some((cuts, rest)) = input.split_first() else { return };
    let (cuts, message) = rest.split_at(usize::from(cuts & 15).min(rest.len()));
    check_message(cuts, message);
}

/// A message that came over the network, cut at places that `cuts` chooses.
pub fn check_message(cuts: &[u8], message: &[u8]) {
    let pieces = pieces(message, cuts);
    check_scan(&pieces, message);
    check_body(&pieces, message);
    check_json(&pieces, message);
    check_json_split(message);
    for elements in [Elements::Delimited, Elements::Varint, Elements::Fixed32] {
        check_split(message, elements);
    }
}

/// Counting does not depend on the cuts, and reads just what a look at the whole message reads.
fn check_scan(pieces: &[&[u8]], message: &[u8]) {
    let run = |pieces: &[&[u8]]| {
        let mut scan = Scan::new(plan());
        let fed = pieces.iter().try_for_each(|piece| scan.feed(piece));
        let finished = scan.finish();
        assert!(scan.bytes() <= message.len() as u64);
        if let Err(cause) = fed {
            assert_eq!(finished, Err(cause));
            assert!(!cause.label().is_empty() && !cause.to_string().is_empty());
        }
        finished
    };
    let whole = run(&[message]);
    assert_eq!(run(pieces), whole);
    if let Ok(counts) = whole {
        let fields: Result<Vec<_>, _> = Fields::new(message).collect();
        let fields = fields.unwrap_or_else(|cause| panic!("counted, but {cause}"));
        let end = fields.last().map_or(0, |field| field.value.end);
        assert_eq!(end, message.len());
        let texts = fields.iter().filter(|field| field.tag.number == 1).count();
        assert_eq!(counts.by_path().first(), Some(&(texts as u64)));
        assert!(counts.total() <= 3 * message.len() as u64);
    }
}

/// Bodies of every protocol end in a count or an error.
fn check_body(pieces: &[&[u8]], message: &[u8]) {
    let json = Arc::new(JsonPlan::new(&[vec![vec!["uris"]]]).unwrap_or_default());
    for wire in [Wire::Grpc, Wire::GrpcWeb, Wire::GrpcWebText, Wire::ConnectStream, Wire::Unary] {
        for codec in [Codec::Proto, Codec::Json, Codec::Other] {
            let run = |pieces: &[&[u8]]| {
                let kind = ContentType { wire, codec };
                let mut counter = Counter::with_plans(&plan(), &json, kind, false, MESSAGE_MAX);
                pieces.iter().try_for_each(|piece| counter.feed(piece)).and_then(|()| counter.finish())
            };
            assert_eq!(run(pieces), run(&[message]), "{wire:?} {codec:?}");
        }
    }
}

/// JSON is counted alike however it is cut, and is JSON when it is counted.
fn check_json(pieces: &[&[u8]], message: &[u8]) {
    let plan = Arc::new(JsonPlan::new(&[vec![vec!["uris"]], vec![vec!["a"], vec!["b"]]]).unwrap_or_default());
    let run = |pieces: &[&[u8]]| {
        let mut scan = JsonScan::new(Arc::clone(&plan));
        pieces.iter().try_for_each(|piece| scan.feed(piece)).and_then(|()| scan.finish())
    };
    let whole = run(&[message]);
    assert_eq!(run(pieces), whole);
    if let Ok(text) = std::str::from_utf8(message) {
        let read = serde_json::from_str::<serde::de::IgnoredAny>(text);
        // An empty body is an empty message of a call, and no JSON.
        assert!(whole.is_err() || text.is_empty() || read.is_ok(), "{read:?}: {text}");
    }
}

/// The parts of a message have its keys, each once and in order, and everything else each; parts that come back as they
/// are make a message with the same keys.
fn check_split(message: &[u8], elements: Elements) {
    let field = |number, elements| ReplyField {
        step: step(number, elements),
        name: "field".into(),
        repeated: true,
        rule: if number == 1 { Rule::Positional } else { Rule::Concat },
    };
    let plan = Arc::new(SplitPlan {
        key: step(1, elements),
        reply: vec![field(1, elements), field(2, Elements::Varint), field(5, Elements::Delimited)],
        json: None,
    });
    let limits = CutLimits { chunk_keys: 3, bytes_max: 1 << 24 };
    let Ok(cut) = Cut::new(&plan, message, limits) else { return };
    assert!(cut.len() >= 2);
    let others = |message: &[u8]| -> Vec<Vec<u8>> {
        let fields = Fields::new(message).flatten().filter(|field| field.tag.number != 1);
        fields.map(|field| message[field.range()].to_vec()).collect()
    };
    let mut merge = Merge::new(Arc::clone(&plan), cut.keys(), usize::MAX);
    let mut failed = None;
    for part in (0..cut.len()).rev() {
        let mut out = Vec::new();
        cut.write(part, message, &mut out);
        assert!(out.len() <= cut.part_len(part));
        assert_eq!(others(&out), others(message));
        failed = failed.or(merge.add(part, out).err());
    }
    let answer = match failed {
        Some(error) => Err(error),
        None => merge.finish(),
    };
    match answer {
        Ok(answer) => assert_eq!(values(&answer, elements), values(message, elements)),
        // Only what the plan of replies does not know; the keys themselves always fit.
        Err(error) => {
            assert!(matches!(error, MergeError::UnknownField { .. } | MergeError::Malformed(_)), "{error}")
        }
    }
}

/// The parts of a message in JSON have its keys, each once and in order, and everything else each; parts that come back as
/// they are make a message with the same keys.
fn check_json_split(message: &[u8]) {
    let names = |name: &str| Names { json: name.into(), proto: name.into() };
    let fields = ["uris", "a", "b"];
    let rules = [Rule::Positional, Rule::First, Rule::Equal];
    let reply = |(number, (name, rule)): (u32, (&str, Rule))| ReplyField {
        step: step(number, Elements::Delimited),
        name: name.into(),
        repeated: name == "uris",
        rule,
    };
    let json = |name: &str| JsonField { names: names(name), path: Vec::new(), presence: true, zero: None };
    let plan = Arc::new(SplitPlan {
        key: step(1, Elements::Delimited),
        reply: (1..).zip(fields.into_iter().zip(rules)).map(reply).collect(),
        json: Some(Arc::new(JsonSplit { key: names("uris"), reply: fields.into_iter().map(json).collect() })),
    });
    let limits = CutLimits { chunk_keys: 3, bytes_max: 1 << 24 };
    let Ok(cut) = AnyCut::new(&plan, Codec::Json, message, limits) else { return };
    let read = |bytes: &[u8]| serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(bytes);
    // Numbers of any size and halves of characters are moved, too, and are not compared here.
    let Ok(whole) = read(message) else { return };
    let mut merge = AnyMerge::new(&plan, &cut, usize::MAX);
    let (mut keys, mut failed) = (Vec::new(), None);
    for part in 0..cut.len() {
        let mut out = Vec::new();
        cut.write(part, message, &mut out);
        let mut own = read(&out).unwrap_or_default();
        keys.extend(
            own.get_mut("uris").and_then(|uris| uris.as_array_mut().map(std::mem::take)).unwrap_or_default(),
        );
        own.insert("uris".to_owned(), whole.get("uris").cloned().unwrap_or_default());
        assert_eq!(own, whole);
        failed = failed.or(merge.add(part, out).err());
    }
    assert_eq!(whole.get("uris").and_then(serde_json::Value::as_array), Some(&keys));
    match failed.map_or_else(|| merge.finish(), Err) {
        Ok(answer) => assert_eq!(read(&answer).unwrap_or_default().get("uris"), whole.get("uris")),
        Err(error) => {
            assert!(matches!(error, MergeError::UnknownName { .. } | MergeError::NotJson), "{error}")
        }
    }
}

/// The bytes of all keys, one after the other.
fn values(message: &[u8], elements: Elements) -> Vec<u8> {
    let mut all = Vec::new();
    for field in Fields::new(message).flatten().filter(|field| field.tag.number == 1) {
        let range = if elements == Elements::Delimited { field.range() } else { field.value };
        all.extend_from_slice(&message[range]);
    }
    all
}
