//! Counting agrees with decoding: random messages, every field of the message and of the messages in it, random cuts.

mod samples;

use std::sync::Arc;

use proptest::prelude::*;
use samples::Draw;
use weir_rpc::json::{JsonPlan, JsonScan};
use weir_rpc::scan::{Scan, ScanPlan, Step};
use weir_rpc::schema::prost_reflect::prost::Message as _;
use weir_rpc::schema::prost_reflect::{DynamicMessage, Kind, MessageDescriptor, Value};
use weir_rpc::table::PRESETS;
use weir_rpc::wire::Elements;
use weir_rpc::{ProtoFile, Schema};

/// Every type of number, packed and not, and fields inside fields.
const KINDS: &str = r#"
syntax = "proto3";
package kinds;
message Leaf { repeated string texts = 1; repeated sint64 deltas = 17; bytes raw = 3; Leaf inner = 4; }
message All {
  repeated int32 a = 1; repeated int64 b = 2; repeated uint32 c = 3; repeated uint64 d = 4;
  repeated sint32 e = 5; repeated sint64 f = 6; repeated fixed32 g = 7; repeated fixed64 h = 8;
  repeated sfixed32 i = 9; repeated sfixed64 j = 10; repeated float k = 11; repeated double l = 12;
  repeated bool m = 13; repeated string n = 14; repeated bytes o = 15; repeated Leaf p = 16;
  repeated int32 q = 2000 [packed = false]; repeated fixed64 r = 536870911 [packed = false];
  map<string, Leaf> s = 30; Leaf t = 31; optional int32 u = 32;
}
"#;

/// All types of messages that are drawn: those above, and what the preset asks and answers.
fn types() -> Vec<MessageDescriptor> {
    let kinds = Schema::compile(&[ProtoFile { name: "kinds.proto", text: KINDS }]).expect("compiles");
    let bsky = Schema::compile(&[PRESETS[0].proto]).expect("compiles");
    let all = kinds.pool().all_messages().chain(bsky.pool().all_messages());
    all.filter(|message| !message.is_map_entry()).collect()
}

/// Paths to every field of the message and, one deep, of those in it; at most as many as a plan takes.
fn paths(of: &MessageDescriptor) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    for field in of.fields() {
        paths.push(vec![field.name().to_owned()]);
        if let Some(inner) = field.kind().as_message() {
            paths
                .extend(inner.fields().map(|nested| vec![field.name().to_owned(), nested.name().to_owned()]));
        }
    }
    paths
}

fn steps(of: &MessageDescriptor, path: &[String]) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut inside = Some(of.clone());
    for name in path {
        let field = inside.expect("a message").get_field_by_name(name).expect("a field");
        let elements = match field.kind() {
            Kind::String | Kind::Bytes | Kind::Message(_) => Elements::Delimited,
            Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => Elements::Fixed32,
            Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => Elements::Fixed64,
            _ => Elements::Varint,
        };
        steps.push(Step { number: field.number(), elements });
        inside = field.kind().as_message().cloned();
    }
    steps
}

/// Elements on the wire, as the decoded message has them: a single value that is its default is not written.
fn decoded(message: &DynamicMessage, path: &[String]) -> u64 {
    let Some((name, rest)) = path.split_first() else { return 1 };
    if !message.has_field_by_name(name) {
        return 0;
    }
    let value = message.get_field_by_name(name).expect("a field");
    let inside = |value: &Value| match value {
        Value::Message(message) => decoded(message, rest),
        _ => 1,
    };
    match &*value {
        Value::List(list) => list.iter().map(inside).sum(),
        // What is in an entry may be written or not when it is its default.
        Value::Map(map) => map.len() as u64,
        single => inside(single),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn counts_are_those_of_the_decoded_message(seed: u64, which: prop::sample::Index, cuts in prop::collection::vec(0_usize..200, 0..6)) {
        let types = types();
        let of = which.get(&types);
        let mut draw = Draw::new(seed);
        let message = samples::message(&mut draw, of, 0);
        let bytes = message.encode_to_vec();
        let read = DynamicMessage::decode(of.clone(), bytes.as_slice()).expect("decodes");
        for paths in paths(of).chunks(weir_rpc::scan::COUNTS_MAX) {
            let expected: Vec<u64> = paths.iter().map(|path| decoded(&read, path)).collect();
            let steps: Vec<Vec<Step>> = paths.iter().map(|path| steps(of, path)).collect();
            let mut scan = Scan::new(Arc::new(ScanPlan::new(&steps).expect("a plan")));
            let mut rest = bytes.as_slice();
            for cut in &cuts {
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                prop_assert_eq!(scan.feed(piece), Ok(()));
                rest = after;
            }
            prop_assert_eq!(scan.feed(rest), Ok(()));
            let counts = scan.finish();
            for (index, path) in paths.iter().enumerate() {
                let entry = path.len() == 2 && of.get_field_by_name(&path[0]).is_some_and(|field| field.is_map());
                if !entry {
                    prop_assert_eq!(counts.map(|counts| counts.by_path()[index]), Ok(expected[index]), "{:?}", path);
                }
            }
        }
    }

    #[test]
    fn json_counts_are_those_of_the_parsed_document(seed: u64, cuts in prop::collection::vec(0_usize..100, 0..5)) {
        let mut draw = Draw::new(seed);
        let document = json(&mut draw, 0);
        let text = if draw.below(2) == 0 { document.to_string() } else { serde_json::to_string_pretty(&document).expect("writes") };
        let plan = JsonPlan::new(&[vec![vec!["uris"]], vec![vec!["a\"\u{e9}"]], vec![vec!["uris"], vec!["uris"]]]);
        let mut scan = JsonScan::new(Arc::new(plan.expect("a plan")));
        let mut rest = text.as_bytes();
        for cut in cuts {
            let (piece, after) = rest.split_at(cut.min(rest.len()));
            prop_assert_eq!(scan.feed(piece), Ok(()));
            rest = after;
        }
        prop_assert_eq!(scan.feed(rest), Ok(()));
        let expected = [at(&document, &["uris"]), at(&document, &["a\"\u{e9}"]), at(&document, &["uris", "uris"])];
        prop_assert_eq!(scan.finish().map(|counts| counts.by_path().to_vec()), Ok(expected.to_vec()), "{}", text);
    }
}

fn json(draw: &mut Draw, depth: usize) -> serde_json::Value {
    match draw.below(if depth > 3 { 5 } else { 8 }) {
        0 => serde_json::Value::Null,
        1 => (draw.below(2) == 0).into(),
        2 => (draw.below(1 << 40) as f64 / 1024.0 - 1e6).into(),
        3 => (draw.next() as i64).into(),
        4 => ["", "plain", "\"]},\\", "line\nbreak \u{1} \u{1F980}"][draw.below(4) as usize].into(),
        5 => (0..draw.below(4)).map(|_| json(draw, depth + 1)).collect(),
        _ => {
            let names = ["uris", "a\"\u{e9}", "other", ""];
            let members = (0..draw.below(4)).map(|_| {
                let name = names[draw.below(4) as usize].to_owned();
                (name, json(draw, depth + 1))
            });
            serde_json::Value::Object(members.collect())
        }
    }
}

/// What the plan promises: through objects and the arrays on the way; elements, members, or one.
fn at(value: &serde_json::Value, path: &[&str]) -> u64 {
    match (value, path.split_first()) {
        (serde_json::Value::Null, None) => 0,
        (serde_json::Value::Array(list), None) => list.len() as u64,
        (serde_json::Value::Object(members), None) => members.len() as u64,
        (_, None) => 1,
        (serde_json::Value::Array(list), Some(_)) => list.iter().map(|element| at(element, path)).sum(),
        (serde_json::Value::Object(members), Some((name, rest))) => {
            members.get(*name).map_or(0, |member| at(member, rest))
        }
        (_, Some(_)) => 0,
    }
}
