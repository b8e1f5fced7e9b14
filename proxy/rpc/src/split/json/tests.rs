use std::sync::Arc;

use super::*;
use crate::scan::Step;
use crate::split::{CutLimits, MergeError, NoSplit, Number, ReplyField, Rule, SplitPlan};
use crate::wire::Elements;

fn names(json: &str, proto: &str) -> Names {
    Names { json: json.into(), proto: proto.into() }
}

fn field(number: u32, name: &str, repeated: bool, rule: Rule) -> ReplyField {
    let step = Step { number, elements: Elements::Delimited };
    ReplyField { step, name: name.into(), repeated, rule }
}

fn json(json: &str, proto: &str) -> JsonField {
    JsonField { names: names(json, proto), path: Vec::new(), presence: false, zero: None }
}

/// Two arrays by key, threads by their root, and a field for each other rule.
fn plan() -> Arc<SplitPlan> {
    let root = Step { number: 1, elements: Elements::Delimited };
    let mut threads = json("opThreads", "op_threads");
    threads.path = vec![names("rootUri", "root_uri")];
    let mut kind = json("kind", "kind");
    kind.zero = Some("\"KIND_NONE\"".into());
    let split = JsonSplit {
        key: names("postUris", "post_uris"),
        reply: vec![
            json("records", "records"),
            json("likeCounts", "like_counts"),
            threads,
            json("cursor", "cursor"),
            json("total", "total"),
            json("version", "version"),
            kind,
        ],
    };
    let reply = vec![
        field(1, "records", true, Rule::Positional),
        field(2, "like_counts", true, Rule::Positional),
        field(3, "op_threads", true, Rule::Distinct(vec![root])),
        field(4, "cursor", false, Rule::First),
        field(5, "total", false, Rule::Sum(Number::Int64)),
        field(6, "version", false, Rule::Equal),
        field(7, "kind", false, Rule::First),
    ];
    Arc::new(SplitPlan { key: root, reply, json: Some(Arc::new(split)) })
}

fn split() -> Arc<JsonSplit> {
    plan().json.clone().expect("is there")
}

fn cut(message: &str, chunk_keys: usize) -> Result<Vec<String>, NoSplit> {
    let cut = JsonCut::new(&split(), message.as_bytes(), CutLimits { chunk_keys, bytes_max: 1_000 })?;
    assert_eq!(cut.keys().len(), cut.len());
    let part = |part| {
        let mut out = Vec::new();
        cut.write(part, message.as_bytes(), &mut out);
        assert_eq!(out.len(), cut.part_len(part));
        String::from_utf8(out).expect("text")
    };
    Ok((0..cut.len()).map(part).collect())
}

#[test]
fn keys_are_dealt_out_and_the_rest_goes_with_each() {
    let message = r#" { "viewer" : {"postUris":[1]}, "post\u0055ris" : [ "a" , "b,]" ,"a", {"x":[1]}, null ] , "new":[1,2] } "#;
    let parts = [
        r#" { "viewer" : {"postUris":[1]}, "post\u0055ris" : ["a" , "b,]"] , "new":[1,2] } "#,
        r#" { "viewer" : {"postUris":[1]}, "post\u0055ris" : ["a", {"x":[1]}] , "new":[1,2] } "#,
        r#" { "viewer" : {"postUris":[1]}, "post\u0055ris" : [null] , "new":[1,2] } "#,
    ];
    assert_eq!(cut(message, 2), Ok(parts.map(str::to_owned).to_vec()));
    let both = |name: &str| cut(&format!("{{\"{name}\":[1,2]}}"), 1);
    assert_eq!(both("post_uris"), Ok(vec!["{\"post_uris\":[1]}".into(), "{\"post_uris\":[2]}".into()]));
    assert!(both("postUris").is_ok());
    assert_eq!(both("posturis"), Err(NoSplit::Small));
}

#[test]
fn what_cannot_be_cut_goes_whole() {
    for small in ["{}", r#"{"postUris":null}"#, r#"{"postUris":[]}"#, r#"{"postUris":["a","b"]}"#] {
        assert_eq!(cut(small, 2), Err(NoSplit::Small), "{small}");
    }
    for wrong in [
        "",
        "[]",
        "1",
        r#"{"postUris":["a","b","c"]"#,
        r#"{"postUris":["a","b","c"],}"#,
        r#"{"postUris":["a","b","c"]}x"#,
        r#"{"postUris":["a","b" "c"]}"#,
        r#"{"postUris":"abc"}"#,
        r#"{"postUris":{"a":1,"b":2,"c":3}}"#,
        r#"{"postUris":["a","b","c"],"post_uris":[]}"#,
        r#"{"postUris":["a","b","c"],"postUris":null}"#,
    ] {
        assert_eq!(cut(wrong, 2), Err(NoSplit::Json), "{wrong}");
    }
    let long = format!("{{\"postUris\":[1,2,3,4],\"x\":\"{}\"}}", "x".repeat(400));
    assert!(matches!(cut(&long, 1), Err(NoSplit::TooLarge { max: 1_000, .. })));
    assert!(cut(&long, 2).is_ok());
}

fn merge(parts: &[(usize, &str)]) -> Result<String, MergeError> {
    let keys = parts.iter().map(|(keys, _)| *keys);
    let mut merge = JsonMerge::new(plan(), split(), keys, 10_000);
    // The last part comes first.
    for (index, (_, reply)) in parts.iter().enumerate().rev() {
        merge.add(index, reply.as_bytes().to_vec())?;
    }
    assert_eq!(merge.missing(), 0);
    merge.finish().map(|whole| String::from_utf8(whole).expect("text"))
}

#[test]
fn every_rule_of_protobuf_holds() {
    let first = r#" {"opThreads":[{"rootUri":"r1","uris":["a"]}, {"uris":["none"]}], "records" : [ {"cid":"1"} , {} ],
        "like_counts":[1,2],"total":"4","version":"v","cursor":"","kind":"KIND_NONE"} "#;
    let second = r#"{"records":[{"cid":"3"}],"like_counts":[0],"cursor":null,"version":"\u0076","total":3,
        "opThreads":[{"root_uri":"r\u0031","uris":["b"]},{"rootUri":"r2"},{"rootUri":""}],"kind":"KIND_NEW"}"#;
    let third = r#"{"likeCounts":[5],"records":[{"cid":"4"}],"cursor":"next","version":"v"}"#;
    let whole = concat!(
        r#"{"records":[{"cid":"1"} , {},{"cid":"3"},{"cid":"4"}],"like_counts":[1,2,0,5],"#,
        r#""opThreads":[{"rootUri":"r1","uris":["a"]},{"uris":["none"]},{"rootUri":"r2"}],"#,
        r#""cursor":"next","total":"7","version":"v","kind":"KIND_NEW"}"#,
    );
    assert_eq!(merge(&[(2, first), (1, second), (1, third)]).as_deref(), Ok(whole));
    assert_eq!(merge(&[(2, "{}"), (1, r#"{"records":null}"#)]).as_deref(), Ok("{}"));
    // A service that writes defaults has them in the whole, too.
    let empty = r#"{"records":[],"cursor":"","kind":"KIND_NONE"}"#;
    assert_eq!(merge(&[(1, empty), (1, empty)]).as_deref(), Ok(empty));
}

#[test]
fn what_does_not_fit_stops_splitting() {
    let mismatch =
        |field: &str, keys, elements| MergeError::LengthMismatch { field: field.into(), keys, elements };
    let one = r#"{"records":[{}]}"#;
    for (reply, error) in [
        (r#"{"records":[{},{}]}"#, mismatch("records", 1, 2)),
        ("{}", mismatch("records", 1, 1)),
        (r#"{"records":[{}],"likeCounts":[1]}"#, mismatch("like_counts", 1, 0)),
        (r#"{"records":[{}],"new":1}"#, MergeError::UnknownName { name: "new".into() }),
        (r#"{"records":[{}],"new":null}"#, MergeError::UnknownName { name: "new".into() }),
        (r#"{"records":[{}],"records":[{}]}"#, MergeError::NotJson),
        (r#"{"records":[{}],"records":null}"#, MergeError::NotJson),
        (r#"{"records":null,"records":[{}]}"#, MergeError::NotJson),
        (r#"{"like_counts":[1],"likeCounts":[1]}"#, MergeError::NotJson),
        (r#"{"records":{}}"#, MergeError::NotJson),
        (r#"{"records":"x"}"#, MergeError::NotJson),
        (r#"{"records":[{}]"#, MergeError::NotJson),
        (r#"{"records":[{}]} {}"#, MergeError::NotJson),
        ("[]", MergeError::NotJson),
        ("", MergeError::NotJson),
        (r#"{"records":[{}],"version":"other"}"#, MergeError::NotEqual { field: "version".into() }),
        (r#"{"records":[{}],"total":"x"}"#, MergeError::NotJson),
        (
            r#"{"records":[{}],"total":"9223372036854775808"}"#,
            MergeError::SumTooLarge { field: "total".into() },
        ),
        (r#"{"records":[{}],"opThreads":["r1"]}"#, MergeError::NotJson),
    ] {
        assert_eq!(merge(&[(1, one), (1, reply)]), Err(error.clone()), "{reply}");
        assert!(error.stops_splitting() && !error.label().is_empty() && !error.to_string().is_empty());
    }
    let long = format!("{{\"{}\":1}}", "\u{e9}".repeat(40));
    let Err(MergeError::UnknownName { name }) = merge(&[(1, one), (1, &long)]) else { panic!("unknown") };
    assert_eq!(&*name, "\u{e9}".repeat(32));
}

#[test]
fn every_part_once_and_no_more_bytes_than_allowed() {
    let mut merge = JsonMerge::new(plan(), split(), [1, 1], 40);
    let one = r#"{"records":[{}]}"#;
    assert_eq!(merge.add(2, one), Err(MergeError::Parts));
    assert_eq!(merge.add(0, one), Ok(()));
    assert_eq!(merge.add(0, one), Err(MergeError::Parts));
    assert_eq!(merge.clone().finish(), Err(MergeError::Parts));
    let large = r#"{"records":[{"cid":"12345678"}]}"#;
    assert_eq!(merge.add(1, large), Err(MergeError::TooLarge { max: 40 }));
    assert!(!MergeError::TooLarge { max: 40 }.stops_splitting());
    assert_eq!((merge.add(1, one), merge.missing()), (Ok(()), 0));
}
