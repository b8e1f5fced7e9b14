use std::sync::Arc;

use super::*;
use crate::scan::{COUNTS_MAX, PlanError};

fn plan(paths: &[&str]) -> Arc<JsonPlan> {
    let paths: Vec<Vec<Vec<&str>>> =
        paths.iter().map(|path| path.split('.').map(|name| name.split('|').collect()).collect()).collect();
    Arc::new(JsonPlan::new(&paths).unwrap_or_default())
}

/// Counts with every cut into two pieces; all must agree.
fn count(plan: &Arc<JsonPlan>, text: &str) -> Result<Vec<u64>, JsonError> {
    let run = |pieces: &[&[u8]]| {
        let mut scan = JsonScan::new(Arc::clone(plan));
        pieces.iter().try_for_each(|piece| scan.feed(piece))?;
        scan.finish().map(|counts| {
            assert_eq!(scan.bytes(), text.len() as u64);
            counts.by_path().to_vec()
        })
    };
    let text = text.as_bytes();
    let whole = run(&[text]);
    for cut in 0..=text.len() {
        let (head, tail) = text.split_at(cut);
        assert_eq!(run(&[head, tail]), whole, "cut at {cut}");
    }
    whole
}

#[test]
fn elements_are_counted_at_their_path() {
    let one = plan(&["uris"]);
    for (text, expected) in [
        ("", 0),
        ("{}", 0),
        (r#"{"uris":[]}"#, 0),
        (r#"{"uris":["a"]}"#, 1),
        (r#"{"uris" : [ "a" , "b,]}\"" , {"uris":[1,2]}, [3,4], null, -1.5e+3, true ] }"#, 7),
        (r#"{"other":{"uris":[1,2]},"uris":[1,2,3]}"#, 3),
        (r#"{"uris":null}"#, 0),
        (r#"{"uris":"single"}"#, 1),
        (r#"{"uris":false}"#, 1),
        (r#"{"uris":{"a":1,"b":[2,3]}}"#, 2),
        (r#"{"\u0075r\u0069s":[1,2]}"#, 2),
        (r#"{"uris":[1],"uris":[2,3]}"#, 3),
        (r#"[{"uris":[1,2]},{"uris":[3]}]"#, 3),
        (r#"{"uris\u0000":[1],"uri":[1],"urisx":[1],"\ud83e\udd80":[1]}"#, 0),
        ("12", 0),
        ("\"text\"", 0),
        (" null ", 0),
    ] {
        assert_eq!(count(&one, text), Ok(vec![expected]), "{text}");
    }
}

#[test]
fn paths_go_through_objects_and_arrays() {
    let nested = plan(&["filter.post_uris|postUris", "results.dids", "results"]);
    let text = r#"{"filter":{"post_uris":[1],"postUris":[2,3]},"results":[{"dids":[1]},{"dids":[2,3]},{}]}"#;
    assert_eq!(count(&nested, text), Ok(vec![3, 3, 3]));
    assert_eq!(
        count(&nested, r#"{"post_uris":[1],"results":{"filter":{"postUris":[1]}}}"#),
        Ok(vec![0, 0, 1])
    );
}

#[test]
fn what_is_no_json_is_said_so() {
    let one = plan(&["uris"]);
    for text in [
        "}",
        "]",
        "{]",
        "[}",
        "{,}",
        "[,]",
        "[1,]",
        "{\"a\":1,}",
        "{\"a\"}",
        "{\"a\":}",
        "{1:2}",
        "{\"a\" 1}",
        "[1 2]",
        "01",
        "-",
        "1.",
        ".5",
        "1e",
        "1e+",
        "+1",
        "--1",
        "tru",
        "trux",
        "nul",
        "True",
        "\"\u{1}\"",
        "\"\\x\"",
        "\"\\u12g4\"",
        "{} {}",
        "1 2",
        "[1]]",
        "'a'",
        "{\"uris\":[1 ,, 2]}",
    ] {
        assert!(count(&one, text).is_err(), "{text}");
        assert!(serde_json::from_str::<serde_json::Value>(text).is_err(), "{text}");
    }
    for text in ["{", "[", "[1", "[1,", "{\"a", "{\"a\":", "\"a\\", "\"\\u00", " ", "nul"] {
        assert_eq!(count(&one, text), Err(JsonError::Truncated), "{text}");
    }
}

#[test]
fn depth_and_names_have_bounds() {
    let one = plan(&["uris"]);
    let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
    assert_eq!(count(&one, &deep(DEPTH_MAX)), Ok(vec![0]));
    assert_eq!(count(&one, &deep(DEPTH_MAX + 1)), Err(JsonError::TooDeep));
    let long = format!("{{\"{}\":[1]}}", "u".repeat(500));
    assert_eq!(count(&one, &long), Ok(vec![0]));
    let name = "n".repeat(NAME_MAX);
    assert_eq!(count(&plan(&[&name]), &format!("{{\"{name}\":[1,2]}}")), Ok(vec![2]));
    assert_eq!(JsonPlan::new(&[vec![vec![&*"n".repeat(NAME_MAX + 1)]]]), Err(PlanError::PathLength));
    assert_eq!(JsonPlan::new(&vec![vec![vec!["n"]]; COUNTS_MAX + 1]), Err(PlanError::TooManyPaths));
    assert_eq!(JsonPlan::new(&[vec![]]), Err(PlanError::PathLength));
}

#[test]
fn an_error_stays_and_a_restart_forgets_it() {
    let mut scan = JsonScan::new(plan(&["uris"]));
    assert_eq!(scan.feed(br#"{"uris":[1,2"#), Ok(()));
    assert_eq!(scan.counts().total(), 2);
    assert_eq!(scan.feed(b"}"), Err(JsonError::Syntax));
    assert_eq!(scan.feed(b"]"), Err(JsonError::Syntax));
    assert_eq!(scan.finish(), Err(JsonError::Syntax));
    scan.restart();
    assert_eq!(scan.finish().map(|counts| counts.total()), Ok(0));
}
