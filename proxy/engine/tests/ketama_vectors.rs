//! The rings against what libmemcached and twemproxy themselves answered: 500 keys per column, every one must agree.
//!
//! Columns covered: all thirteen `lm_*` and `tw_*` columns. The two `nginx_crc32_*` columns are of a ring that weir does
//! not have yet; the data stays for the day it does, and the test fails if a column appears that nobody decided on.

use std::collections::BTreeMap;
use weir_engine::route::Ring;
use weir_engine::settings::{Address, RingDialect, ServerSettings};

const VECTORS: &str = include_str!("ketama-vectors.tsv");
const KEYS: usize = 500;

/// The servers of every column, in the order of the numbers 1 to 4.
const SERVERS: [(&str, u16, &str); 4] = [
    ("127.0.0.41", 11211, "alpha"),
    ("127.0.0.42", 11211, "beta"),
    ("127.0.0.43", 11212, "gamma"),
    ("127.0.0.44", 11311, "delta"),
];

/// A column's kind and its weights: the last four parts of the name.
fn split(column: &str) -> (&str, Vec<u32>) {
    let mut parts: Vec<&str> = column.rsplitn(5, '_').collect();
    let kind = parts.pop().expect("a kind");
    (kind, parts.iter().rev().map(|weight| weight.parse().expect("a weight")).collect())
}

/// The dialect of a kind of column, and whether the servers have names there.
fn dialect(kind: &str) -> Option<(RingDialect, bool)> {
    match kind {
        "lm_weighted" => Some((RingDialect::LibmemcachedWeighted, false)),
        "lm_plain" => Some((RingDialect::Libmemcached, false)),
        "tw_md5" => Some((RingDialect::TwemproxyMd5, false)),
        "tw_md5_named" => Some((RingDialect::TwemproxyMd5, true)),
        "tw_fnv1a_64" => Some((RingDialect::TwemproxyFnv1a64, false)),
        "tw_fnv1a_64_named" => Some((RingDialect::TwemproxyFnv1a64, true)),
        _ => None,
    }
}

fn ring(dialect: RingDialect, named: bool, weights: &[u32]) -> Ring {
    let servers = SERVERS.iter().zip(weights).map(|((host, port, name), weight)| ServerSettings {
        address: Address::Tcp { host: (*host).into(), port: *port },
        weight: *weight,
        name: named.then(|| (*name).into()),
    });
    Ring::new(dialect, &servers.collect::<Vec<_>>())
}

#[test]
fn every_key_of_every_covered_column_agrees() {
    let mut lines = VECTORS.lines().filter(|line| !line.starts_with('#'));
    let columns: Vec<&str> = lines.next().expect("a line of column names").split('\t').skip(1).collect();
    let rings: Vec<Option<Ring>> = columns
        .iter()
        .map(|column| {
            let (kind, weights) = split(column);
            dialect(kind).map(|(dialect, named)| ring(dialect, named, &weights))
        })
        .collect();

    let mut agreed: BTreeMap<&str, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    for line in lines {
        let mut fields = line.split('\t');
        let key = fields.next().expect("a key");
        for ((column, ring), expected) in columns.iter().zip(&rings).zip(fields) {
            let Some(ring) = ring else { continue };
            let expected: usize = expected.parse().expect("a server number");
            let got = ring.server_for(key.as_bytes()) + 1;
            if got == expected {
                *agreed.entry(column).or_default() += 1;
            } else {
                wrong.push(format!("{column}: {key} belongs to {expected}, not {got}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong, first: {}", wrong.len(), wrong[0]);

    let uncovered: Vec<_> = columns.iter().filter(|column| !agreed.contains_key(**column)).collect();
    assert_eq!(uncovered, [&"nginx_crc32_1_1_1_1", &"nginx_crc32_1_1_1_3"]);
    assert_eq!(agreed.len(), 13);
    for (column, count) in agreed {
        assert_eq!(count, KEYS, "{column}");
    }
}
