use super::super::Number;
use super::*;
use crate::wire::{write_len, write_number};

const DELIMITED: Elements = Elements::Delimited;

fn field(number: u32, elements: Elements, repeated: bool, rule: Rule) -> ReplyField {
    ReplyField { step: Step { number, elements }, name: format!("f{number}").into(), repeated, rule }
}

fn plan(reply: Vec<ReplyField>) -> Arc<SplitPlan> {
    Arc::new(SplitPlan { key: Step { number: 1, elements: DELIMITED }, reply, json: None })
}

fn merge(plan: &Arc<SplitPlan>, parts: &[(usize, Vec<u8>)]) -> Result<Vec<u8>, MergeError> {
    let mut merge = Merge::new(Arc::clone(plan), parts.iter().map(|(keys, _)| *keys), 1 << 20);
    // The last part comes first.
    for (index, (_, reply)) in parts.iter().enumerate().rev() {
        merge.add(index, reply.clone())?;
    }
    assert_eq!(merge.missing(), 0);
    merge.finish()
}

fn message(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

fn texts(number: u32, texts: &[&str]) -> Vec<u8> {
    message(|out| texts.iter().for_each(|text| write_len(number, text.as_bytes(), out)))
}

#[test]
fn parallel_arrays_are_put_together_in_order() {
    let plan = plan(vec![
        field(1, DELIMITED, true, Rule::Positional),
        field(2, Elements::Varint, true, Rule::Positional),
        field(3, Elements::Fixed32, true, Rule::Positional),
    ]);
    let packed = |run: &[u8]| message(|out| write_len(2, run, out));
    let fixed = |runs: &[&str]| message(|out| write_len(3, runs.concat().as_bytes(), out));
    let first = [texts(1, &["a", ""]), packed(&[1, 0xAC, 0x02]), fixed(&["aaaa", "bbbb"])].concat();
    // The same meaning in other bytes: unpacked, out of order, in two runs.
    let unpacked = message(|out| [7, 300].iter().for_each(|n| write_number(2, *n, out)));
    let second =
        [fixed(&["cccc"]), unpacked, texts(1, &["c", "a"]), message(|out| out.extend(b"\x1Ddddd"))].concat();
    let whole = [
        texts(1, &["a", "", "c", "a"]),
        packed(&[1, 0xAC, 0x02, 7, 0xAC, 0x02]),
        fixed(&["aaaa", "bbbb", "cccc", "dddd"]),
    ]
    .concat();
    assert_eq!(merge(&plan, &[(2, first), (2, second)]), Ok(whole));
}

#[test]
fn another_length_stops_splitting() {
    let plan = plan(vec![
        field(1, DELIMITED, true, Rule::Positional),
        field(2, Elements::Varint, true, Rule::Positional),
    ]);
    let numbers = |count: usize| message(|out| write_len(2, &vec![0; count], out));
    let both = |count: usize| [texts(1, &vec!["x"; count]), numbers(count)].concat();
    let mismatch =
        |field: &str, keys, elements| Err(MergeError::LengthMismatch { field: field.into(), keys, elements });
    assert_eq!(merge(&plan, &[(2, both(2)), (1, both(1))]), Ok(both(3)));
    assert_eq!(merge(&plan, &[(2, both(2)), (1, both(2))]), mismatch("f1", 1, 2));
    assert_eq!(
        merge(&plan, &[(2, [texts(1, &["x"; 2]), numbers(1)].concat()), (1, both(1))]),
        mismatch("f2", 2, 1)
    );
    // A field that no part fills is one that the service does not know; one that some fill is a wrong place.
    let only_texts = |count| texts(1, &vec!["x"; count]);
    assert_eq!(merge(&plan, &[(2, only_texts(2)), (1, only_texts(1))]), Ok(only_texts(3)));
    assert_eq!(merge(&plan, &[(2, only_texts(2)), (1, both(1))]), mismatch("f2", 2, 0));
    assert_eq!(merge(&plan, &[(2, both(2)), (1, vec![])]), mismatch("f1", 2, 2));
    assert!(mismatch("f1", 1, 2).is_err_and(|error| error.stops_splitting()));
}

#[test]
fn what_the_plan_does_not_know_stops_splitting() {
    let plan =
        plan(vec![field(1, DELIMITED, true, Rule::Concat), field(2, Elements::Varint, false, Rule::First)]);
    for (reply, error) in [
        (texts(9, &["new"]), MergeError::UnknownField { number: 9 }),
        (message(|out| write_number(1, 5, out)), Malformed::OtherWireType.into()),
        (texts(2, &["x"]), Malformed::OtherWireType.into()),
        (vec![0x0A, 5, b'x'], Malformed::LengthBeyondEnd.into()),
        (vec![0x0B], Malformed::Group.into()),
    ] {
        assert_eq!(merge(&plan, &[(1, texts(1, &["a"])), (1, reply)]), Err(error.clone()));
        assert!(error.stops_splitting() && !error.label().is_empty());
    }
}

#[test]
fn other_fields_follow_their_rules() {
    let root = Step { number: 1, elements: DELIMITED };
    let plan = plan(vec![
        field(1, DELIMITED, true, Rule::Concat),
        field(2, DELIMITED, true, Rule::Distinct(vec![root])),
        field(3, DELIMITED, false, Rule::First),
        field(4, Elements::Varint, false, Rule::Sum(Number::Int32)),
        field(5, DELIMITED, false, Rule::Equal),
    ]);
    let thread = |root: &str, uri: &str| {
        let inner = [texts(1, &[root]), texts(2, &[uri])].concat();
        message(|out| write_len(2, &inner, out))
    };
    let number = |n| message(|out| write_number(4, n, out));
    let first =
        [texts(1, &["l1"]), thread("r1", "a"), thread("r2", "b"), number(4), texts(5, &["same"])].concat();
    let second = [
        texts(1, &["l2", "l3"]),
        thread("r2", "b"),
        thread("r3", "c"),
        texts(3, &["mine"]),
        texts(5, &["same"]),
    ]
    .concat();
    let third = [thread("r1", "later"), texts(3, &["other"]), number(3), texts(5, &["same"])].concat();
    let whole = [
        texts(1, &["l1", "l2", "l3"]),
        thread("r1", "a"),
        thread("r2", "b"),
        thread("r3", "c"),
        texts(3, &["mine"]),
        number(7),
        texts(5, &["same"]),
    ]
    .concat();
    assert_eq!(merge(&plan, &[(1, first.clone()), (1, second), (1, third)]), Ok(whole));

    let differs = Err(MergeError::NotEqual { field: "f5".into() });
    assert_eq!(merge(&plan, &[(1, first.clone()), (1, texts(5, &["another"]))]), differs);
    assert_eq!(merge(&plan, &[(1, first), (1, vec![])]), differs);
    let large = number(i32::MAX as u64);
    let too_large = Err(MergeError::SumTooLarge { field: "f4".into() });
    assert_eq!(merge(&plan, &[(1, large.clone()), (1, large)]), too_large);
    let broken = message(|out| write_len(2, &[0x0A, 9], out));
    assert_eq!(merge(&plan, &[(1, vec![]), (1, broken)]), Err(Malformed::LengthBeyondEnd.into()));
}

#[test]
fn every_part_once_and_no_more_bytes_than_allowed() {
    let plan = plan(vec![field(1, DELIMITED, true, Rule::Positional)]);
    let mut merge = Merge::new(Arc::clone(&plan), [1, 1], 5);
    assert_eq!(merge.add(2, texts(1, &["a"])), Err(MergeError::Parts));
    assert_eq!(merge.add(0, texts(1, &["a"])), Ok(()));
    assert_eq!(merge.add(0, texts(1, &["a"])), Err(MergeError::Parts));
    assert_eq!((merge.missing(), merge.bytes()), (1, 3));
    let limit = MergeError::TooLarge { max: 5 };
    assert_eq!(merge.add(1, texts(1, &["b"])), Err(limit.clone()));
    assert!(!limit.stops_splitting() && !MergeError::Parts.stops_splitting());
    assert_eq!(merge.finish(), Err(MergeError::Parts));
}
