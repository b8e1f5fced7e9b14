//! Tokens and order of keys, against what a real server answered and against arithmetic of another crate.
//!
//! `keys/cassandra-5.0.9.tsv` was written by asking Cassandra 5.0.9: random keys of every type were inserted, then
//! `SELECT k, token(k) FROM t WHERE k IN ?` with all of them in random order. Its lines are type, key in hexadecimal,
//! token, in the order of the rows of the answer; of `composite` the values are joined by commas.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use num_bigint::BigInt;
use proptest::collection::vec;
use proptest::prelude::*;
use weir_cql::key::{KeyFault, KeyType, composite, sort_keys, token};

const RECORDED: &str = include_str!("keys/cassandra-5.0.9.tsv");

const TYPES: [(&str, KeyType); 18] = [
    ("ascii", KeyType::Ascii),
    ("text", KeyType::Text),
    ("blob", KeyType::Blob),
    ("boolean", KeyType::Boolean),
    ("tinyint", KeyType::Tinyint),
    ("smallint", KeyType::Smallint),
    ("int", KeyType::Int),
    ("bigint", KeyType::Bigint),
    ("varint", KeyType::Varint),
    ("decimal", KeyType::Decimal),
    ("float", KeyType::Float),
    ("double", KeyType::Double),
    ("timestamp", KeyType::Timestamp),
    ("date", KeyType::Date),
    ("time", KeyType::Time),
    ("uuid", KeyType::Uuid),
    ("timeuuid", KeyType::Timeuuid),
    ("inet", KeyType::Inet),
];

fn bytes(hexadecimal: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&hexadecimal[at..at + 2], 16).unwrap();
    (0..hexadecimal.len()).step_by(2).map(digit).collect()
}

fn recorded(name: &str) -> Vec<(Vec<u8>, i64)> {
    RECORDED
        .lines()
        .filter_map(|line| {
            let mut fields = line.split('\t');
            (fields.next() == Some(name)).then(|| {
                let parts: Vec<Vec<u8>> = fields.next().unwrap().split(',').map(bytes).collect();
                let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
                (composite(&parts).unwrap(), fields.next().unwrap().parse().unwrap())
            })
        })
        .collect()
}

#[test]
fn tokens_are_the_servers() {
    let names = TYPES.iter().map(|(name, _)| *name).chain(["composite"]);
    let mut count = 0;
    for (key, want) in names.flat_map(recorded) {
        assert_eq!(token(&key).value(), want, "{key:02x?}");
        count += 1;
    }
    assert_eq!(count, RECORDED.lines().count());
}

#[test]
fn sorted_keys_are_in_the_order_of_the_servers_rows() {
    for (name, kind) in TYPES {
        let rows = recorded(name);
        assert!(rows.len() >= 2, "{name}");
        let want: Vec<&[u8]> = rows.iter().map(|(key, _)| key.as_slice()).collect();
        // Two orders that are not the answer, each key twice.
        let reversed: Vec<&[u8]> = want.iter().rev().chain(&want).copied().collect();
        let mut by_token: Vec<(i64, &[u8])> =
            rows.iter().map(|(key, token)| (*token, key.as_slice())).collect();
        by_token.sort();
        let by_token: Vec<&[u8]> = by_token.iter().map(|(_, key)| *key).collect();
        for mut keys in [reversed, by_token] {
            assert_eq!(sort_keys(kind, &mut keys), Ok(()), "{name}");
            assert_eq!(keys, want, "{name}");
        }
    }
}

/// The value of a decimal as two numbers that can be compared after bringing both to one scale.
fn decimal(scale: i16, unscaled: &BigInt) -> Vec<u8> {
    let mut value = i32::from(scale).to_be_bytes().to_vec();
    value.extend(unscaled.to_signed_bytes_be());
    value
}

fn compare_decimals(left: (i16, &BigInt), right: (i16, &BigInt)) -> Ordering {
    let scale = left.0.max(right.0);
    let at_scale =
        |(own, value): (i16, &BigInt)| value * BigInt::from(10).pow(u32::from(scale.abs_diff(own)));
    at_scale(left).cmp(&at_scale(right))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn varints_compare_as_numbers(
        left in vec(any::<u8>(), 1..20), right in vec(any::<u8>(), 1..20), padding in 0..3_usize,
    ) {
        let pad = |bytes: &[u8]| {
            let fill = if bytes[0] >= 0x80 { 0xff } else { 0 };
            [vec![fill; padding], bytes.to_vec()].concat()
        };
        let want = BigInt::from_signed_bytes_be(&left).cmp(&BigInt::from_signed_bytes_be(&right));
        prop_assert_eq!(KeyType::Varint.compare(&left, &right), want);
        prop_assert_eq!(KeyType::Varint.compare(&pad(&left), &right), want);
        prop_assert_eq!(KeyType::Varint.compare(&left, &pad(&left)), Ordering::Equal);
    }

    #[test]
    fn keys_ordered_as_bytes_are_sorted_as_a_set_of_them(
        shared in vec(any::<u8>(), 0..12), ends in vec(vec(0..4_u8, 0..11), 0..40), ascii in any::<bool>(),
    ) {
        let keys: Vec<Vec<u8>> = ends.iter().map(|end| [&shared[..], end].concat()).collect();
        let want: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect::<BTreeSet<_>>().into_iter().collect();
        let mut sorted: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        let kind = if ascii && shared.is_ascii() { KeyType::Ascii } else { KeyType::Blob };
        prop_assert_eq!(sort_keys(kind, &mut sorted), Ok(()));
        prop_assert_eq!(sorted, want);
    }

    #[test]
    fn decimals_compare_as_numbers(
        left in (-40..40_i16, vec(any::<u8>(), 1..24)), right in (-40..40_i16, vec(any::<u8>(), 1..24)), zeros in 0..9_u8,
    ) {
        let number = |bytes: &[u8]| BigInt::from_signed_bytes_be(bytes);
        let (l, r) = (number(&left.1), number(&right.1));
        let kind = KeyType::Decimal;
        prop_assert_eq!(
            kind.compare(&decimal(left.0, &l), &decimal(right.0, &r)),
            compare_decimals((left.0, &l), (right.0, &r))
        );
        // The same value at another scale, and its neighbour.
        let scaled = &l * BigInt::from(10).pow(u32::from(zeros));
        let scale = left.0 + i16::from(zeros);
        prop_assert_eq!(kind.compare(&decimal(left.0, &l), &decimal(scale, &scaled)), Ordering::Equal);
        prop_assert_eq!(kind.compare(&decimal(left.0, &l), &decimal(scale, &(scaled + 1))), Ordering::Less);
    }

    #[test]
    fn numbers_of_fixed_length_compare_as_numbers(left in any::<i64>(), right in any::<i64>(), near in any::<bool>()) {
        let right = if near { left.wrapping_add(right % 3) } else { right };
        let check = |kind: KeyType, a: &[u8], b: &[u8], want: Ordering| {
            assert_eq!(kind.compare(a, b), want, "{kind:?} {a:?} {b:?}");
        };
        let (a, b) = (left, right);
        check(KeyType::Bigint, &a.to_be_bytes(), &b.to_be_bytes(), a.cmp(&b));
        check(KeyType::Timestamp, &a.to_be_bytes(), &b.to_be_bytes(), a.cmp(&b));
        let (a, b) = (left as i32, right as i32);
        check(KeyType::Int, &a.to_be_bytes(), &b.to_be_bytes(), a.cmp(&b));
        let (a, b) = (left as u32, right as u32);
        check(KeyType::Date, &a.to_be_bytes(), &b.to_be_bytes(), a.cmp(&b));
        let (a, b) = (left as i16, right as i16);
        check(KeyType::Smallint, &a.to_be_bytes(), &b.to_be_bytes(), a.cmp(&b));
        let (a, b) = (left as i8, right as i8);
        check(KeyType::Tinyint, &a.to_be_bytes(), &b.to_be_bytes(), a.cmp(&b));
        let (a, b) = (f64::from_bits(left as u64), f64::from_bits(right as u64));
        if let Some(want) = a.partial_cmp(&b).filter(|_| a != 0.0 || b != 0.0) {
            check(KeyType::Double, &a.to_be_bytes(), &b.to_be_bytes(), want);
        }
        let (a, b) = (f32::from_bits(left as u32), f32::from_bits(right as u32));
        if let Some(want) = a.partial_cmp(&b).filter(|_| a != 0.0 || b != 0.0) {
            check(KeyType::Float, &a.to_be_bytes(), &b.to_be_bytes(), want);
        }
    }

    /// Any bytes, valid or not: no panic, and an order that a sort can rely on.
    #[test]
    fn every_order_is_total(keys in vec(vec(any::<u8>(), 0..20), 3), raw in vec(vec(any::<u8>(), 16), 3)) {
        for kind in KeyType::ALL {
            for keys in [&keys, &raw] {
                let [a, b, c] = [&keys[0], &keys[1], &keys[2]];
                prop_assert_eq!(kind.compare(a, b), kind.compare(b, a).reverse());
                prop_assert_eq!(kind.compare(a, a), Ordering::Equal);
                if kind.compare(a, b).is_le() && kind.compare(b, c).is_le() {
                    prop_assert!(kind.compare(a, c).is_le(), "{kind:?} {a:?} {b:?} {c:?}");
                }
                let mut sorted: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
                if sort_keys(kind, &mut sorted).is_ok() {
                    prop_assert!(sorted.windows(2).all(|pair| kind.compare(pair[0], pair[1]).is_lt()));
                }
            }
        }
    }
}

/// A decimal of a scale near two thousand million must not be written out.
#[test]
fn enormous_scales_cost_nothing() {
    let large = [i32::MIN.to_be_bytes().as_slice(), &[1]].concat();
    let small = [i32::MAX.to_be_bytes().as_slice(), &[1]].concat();
    assert_eq!(KeyType::Decimal.compare(&small, &large), Ordering::Less);
    let endless = [0_i32.to_be_bytes().as_slice(), &[1; 65]].concat();
    assert_eq!(KeyType::Decimal.check(&endless), Err(KeyFault::Malformed));
}
