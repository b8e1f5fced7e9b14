//! Which statements may be cut. The key indices and markers are what Cassandra 5.0.9 answered to PREPARE.

use crate::model::{prepared, prepared_in, shape};
use weir_cql::key::KeyType;
use weir_cql::{Dialect, Version};
use weir_engine::cql::split::{InSplit, Limit, Whole};

const INT: &[u16] = &[0x09];
const INTS: &[u16] = &[0x20, 0x09];

fn decide(
    text: &str,
    indices: &[u16],
    markers: &[(&str, &[u16])],
    version: Version,
) -> Result<InSplit, Whole> {
    decide_with(text, indices, markers, version, None)
}

fn decide_with(
    text: &str,
    indices: &[u16],
    markers: &[(&str, &[u16])],
    version: Version,
    key: Option<&[&str]>,
) -> Result<InSplit, Whole> {
    let markers: Vec<(&str, Vec<u16>)> = markers.iter().map(|(name, kind)| (*name, kind.to_vec())).collect();
    shape(text, &prepared(Dialect::of(version), indices, &markers), version, key)
}

fn cut(list: u16, kind: KeyType, values: u16, limit: Limit) -> Result<InSplit, Whole> {
    Ok(InSplit { list, kind, values, limit })
}

#[test]
fn what_only_the_partition_key_can_mean() {
    let pk: (&str, &[u16]) = ("in(pk)", INTS);
    for (text, markers, expected) in [
        ("select * from t where pk in ?", vec![pk], cut(0, KeyType::Int, 1, Limit::None)),
        ("select * from t where pk in :x", vec![("x", INTS)], cut(0, KeyType::Int, 1, Limit::None)),
        ("select json * from t where PK in ?", vec![pk], cut(0, KeyType::Int, 1, Limit::None)),
        ("select distinct pk, s from t where pk in ?", vec![pk], cut(0, KeyType::Int, 1, Limit::None)),
        ("select pk, ttl(v), token(pk) from t where pk in ?", vec![pk], cut(0, KeyType::Int, 1, Limit::None)),
        ("select * from t where pk in ? limit 5", vec![pk], cut(0, KeyType::Int, 1, Limit::Literal(5))),
        (
            "select * from t where pk in ? and ck = ? limit ?",
            vec![pk, ("ck", INT), ("[limit]", INT)],
            cut(0, KeyType::Int, 3, Limit::Bound(2)),
        ),
        (
            "select * from t where ck = ? and pk in ? per partition limit ? limit ?",
            vec![("ck", INT), pk, ("[per_partition_limit]", INT), ("[limit]", INT)],
            cut(1, KeyType::Int, 4, Limit::Bound(3)),
        ),
        (
            "select * from t where pk in ? and ck > ?",
            vec![pk, ("ck", INT)],
            cut(0, KeyType::Int, 2, Limit::None),
        ),
        (
            "select * from t where p1 = ? and p2 in ?",
            vec![("p1", INT), ("in(p2)", &[0x20, 0x0d])],
            cut(1, KeyType::Text, 2, Limit::None),
        ),
    ] {
        for version in [Version::V4, Version::V5] {
            assert_eq!(decide(text, &[], &markers, version), expected, "{text}");
        }
    }
}

#[test]
fn what_is_not_certain_is_whole() {
    let pk: (&str, &[u16]) = ("in(pk)", INTS);
    let one = || vec![pk];
    for (text, indices, markers, expected) in [
        ("insert into t (pk) values (?)", vec![0], vec![("pk", INT)], Whole::NotSelect),
        ("select * from t where pk = ?", vec![0], vec![("pk", INT)], Whole::NoIn),
        ("select * from t where pk in (?, ?)", vec![1], vec![("pk", INT), ("pk", INT)], Whole::NotOneList),
        ("select * from t where pk in (1, 2)", vec![], vec![], Whole::NotOneList),
        ("select * from t where pk in ? and ck in ?", vec![], vec![pk, ("in(ck)", INTS)], Whole::ManyIn),
        ("select * from t where (a, b) in ?", vec![], one(), Whole::ManyIn),
        ("select * from t where (pk) in ?", vec![], one(), Whole::ManyIn),
        // a clustering column: the server knows the partition's key
        (
            "select * from t where pk = ? and ck in ?",
            vec![0],
            vec![("pk", INT), ("in(ck)", INTS)],
            Whole::NotTheKey,
        ),
        // a clustering column, and the server says nothing
        ("select * from t where pk = 3 and ck in ?", vec![], vec![("in(ck)", INTS)], Whole::NotTheKey),
        (
            "select * from t where pk = abs(?) and ck in ?",
            vec![],
            vec![("pk", INT), ("in(ck)", INTS)],
            Whole::NotTheKey,
        ),
        ("select * from t where v in ? allow filtering", vec![], vec![("in(v)", INTS)], Whole::Filtering),
        ("select * from t where token(pk) > 0 and pk in ?", vec![], one(), Whole::Token),
        ("select count(*) from t where pk in ?", vec![], one(), Whole::Aggregate),
        ("select my_function(v) from t where pk in ?", vec![], one(), Whole::Aggregate),
        ("select pk, max(v) from t where pk in ? group by pk", vec![], one(), Whole::Aggregate),
        ("select * from t where pk in ? group by pk", vec![], one(), Whole::Aggregate),
        ("select * from t where pk in ? order by ck desc", vec![], one(), Whole::Ordered),
        ("select distinct pk from t where pk in ? limit 3", vec![], one(), Whole::Distinct),
        ("select pk, now() from t where pk in ?", vec![], one(), Whole::Volatile),
        ("select * from t where pk in ? using timeout 5s", vec![], one(), Whole::Timeout),
        ("select * from t where pk in ? limit 0", vec![], one(), Whole::Limit),
        ("select * from t where pk in ? limit 3000000000", vec![], one(), Whole::Limit),
        // what the server says of the markers must fit the text
        ("select * from t where pk in ?", vec![], vec![pk, pk], Whole::NotTheKey),
        ("select * from t where pk in ?", vec![], vec![("in(ck)", INTS)], Whole::NotTheKey),
        ("select * from t where pk in ?", vec![0], one(), Whole::NotTheKey),
        ("select * from t where pk in ?", vec![], vec![("in(pk)", INT)], Whole::KeyType),
        ("select * from t where pk in ?", vec![], vec![("in(pk)", &[0x20, 0x15])], Whole::KeyType),
        ("select * from t where pk in ?", vec![], vec![("in(pk)", &[0x20, 0x20, 0x09])], Whole::KeyType),
    ] {
        assert_eq!(decide(text, &indices, &markers, Version::V4), Err(expected), "{text}");
    }
}

#[test]
fn v3_tells_no_key_so_only_the_bare_list_is_cut() {
    let markers: [(&str, &[u16]); 2] = [("in(pk)", INTS), ("ck", INT)];
    let bare = decide("select * from t where pk in ?", &[], &markers[..1], Version::V3);
    assert!(bare.is_ok());
    for text in ["select * from t where pk in ? and ck = ?", "select * from t where pk in ? and ck > ?"] {
        let decided = decide(text, &[], &markers, Version::V3);
        assert_eq!(decided, Err(Whole::NotTheKey), "{text}");
    }
    let pk_and_ck: [(&str, &[u16]); 2] = [("pk", INT), ("in(ck)", INTS)];
    let decided = decide("select * from t where pk = ? and ck in ?", &[], &pk_and_ck, Version::V3);
    assert_eq!(decided, Err(Whole::NotTheKey));
}

#[test]
fn a_known_key_decides() {
    let both: [(&str, &[u16]); 2] = [("pk", INT), ("in(ck)", INTS)];
    let text = "select * from t where pk = ? and ck in ?";
    for version in [Version::V3, Version::V4] {
        let decide = |key| decide_with(text, &[], &both, version, Some(key));
        assert_eq!(decide(&["pk"]), Err(Whole::NotTheKey));
        assert_eq!(decide(&["ck"]).map(|split| split.list), Ok(1));
        assert_eq!(decide(&["pk", "ck"]).map(|split| split.list), Ok(1));
        assert_eq!(decide(&["pk", "other"]), Err(Whole::NotTheKey));
        assert_eq!(decide(&["ck", "other"]), Err(Whole::NotTheKey));
    }
    let text = "select * from t where \"pK\" = 3 and ck in ?";
    let decided = decide_with(text, &[], &both[1..], Version::V4, Some(&["pK", "ck"]));
    assert!(decided.is_ok(), "a literal is as good where the key is known: {decided:?}");
    assert!(decide_with(text, &[], &both[1..], Version::V4, Some(&["pk", "ck"])).is_err());
}

#[test]
fn system_tables_are_whole() {
    for (keyspace, whole) in [("system_views", true), ("system", true), ("ks", false)] {
        let dialect = Dialect::of(Version::V4);
        let body = prepared_in(keyspace, dialect, &[], &[("in(pk)", INTS.to_vec())]);
        let decided = shape("select * from t where pk in ?", &body, Version::V4, None);
        assert_eq!(decided.err(), whole.then_some(Whole::System), "{keyspace}");
    }
}

#[test]
fn labels_differ() {
    let mut labels: Vec<&str> = Whole::ALL.iter().map(|whole| whole.label()).collect();
    labels.sort_unstable();
    labels.dedup();
    assert_eq!(labels.len(), Whole::ALL.len());
}
