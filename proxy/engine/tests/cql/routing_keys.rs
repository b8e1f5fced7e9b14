//! Keys in forms that are less usual: values bound by name, literals of every type.

use crate::placed::{Map, node};
use crate::routing::placed;
use crate::wire::{self, With, int};
use weir_cql::Version;
use weir_cql::key::{KeyType, token};

#[test]
fn values_with_names_are_found_by_them_in_any_order() {
    let map = Map::of(vec![node(0, "a/1")], 1).shared();
    let three = weir_cql::key::composite(&[&int(1), &int(2), &int(3)]).expect("short");
    let (seven, three) = (Some(token(&int(7)).value()), Some(token(&three).value()));
    let named = |values: &[(&'static str, i32)]| With {
        names: values.iter().map(|(name, _)| *name).collect(),
        ..With::values(&values.iter().map(|(_, value)| int(*value)).collect::<Vec<_>>())
    };
    let question = "SELECT v FROM shop.t WHERE k = ? AND c > ?";
    let colon = "SELECT v FROM shop.t WHERE k = :Key AND c > :c";
    let trio = "SELECT v FROM shop.trio WHERE c = :z AND a = :\"X\" AND b = ?";
    let cases = [
        (question, named(&[("c", 1), ("k", 7)]), seven),
        (question, named(&[("k", 7), ("c", 1), ("k", 8)]), seven), // servers take the first
        (question, named(&[("K", 7), ("c", 1)]), None),
        (colon, named(&[("c", 1), ("key", 7)]), seven),
        (colon, named(&[("c", 1), ("k", 7)]), None),
        (trio, named(&[("b", 2), ("X", 1), ("z", 3)]), three),
        (trio, named(&[("b", 2), ("x", 1), ("z", 3)]), None),
    ];
    for version in [Version::V3, Version::V4, Version::V5] {
        for (text, with, want) in &cases {
            let mut bench = placed(1, &map, |_| {});
            let mut caller = bench.open(version);
            let id = bench.prepare(&mut caller, text);
            map.take_asked();
            let table = if text == &trio { "shop.trio" } else { "shop.t" };
            let want: Vec<_> = want.iter().map(|want| (table.to_owned(), *want)).collect();
            bench.send(&caller, &wire::query(version, 1, text, with));
            assert_eq!(map.take_asked(), want, "QUERY {text} {:?}", with.names);
            bench.send(&caller, &wire::execute(version, 2, &id, with));
            assert_eq!(map.take_asked(), want, "EXECUTE {text} {:?}", with.names);
        }
    }
}

#[test]
fn literals_of_every_certain_form_are_routed() {
    let rows: [(KeyType, &str, &[u8]); 11] = [
        (KeyType::Bigint, "-2", &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe]),
        (KeyType::Smallint, "-2", &[0xff, 0xfe]),
        (KeyType::Varint, "-129", &[0xff, 0x7f]),
        (KeyType::Decimal, "-1.50", &[0, 0, 0, 2, 0xff, 0x6a]),
        (KeyType::Double, "1.5", &[0x3f, 0xf8, 0, 0, 0, 0, 0, 0]),
        (KeyType::Float, "-1", &[0xbf, 0x80, 0, 0]),
        (KeyType::Blob, "0xCAfe", &[0xca, 0xfe]),
        (
            KeyType::Uuid,
            "123e4567-e89b-42d3-a456-426614174000",
            &0x123e_4567_e89b_42d3_a456_4266_1417_4000_u128.to_be_bytes(),
        ),
        (KeyType::Date, "'1970-01-02'", &[0x80, 0, 0, 1]),
        (KeyType::Time, "'00:00:01.5'", &1_500_000_000_i64.to_be_bytes()),
        (KeyType::Inet, "'127.0.0.1'", &[127, 0, 0, 1]),
    ];
    for (kind, literal, bytes) in rows {
        let map = Map::of(vec![node(0, "a/1")], 1).typed(Some(kind)).shared();
        let mut bench = placed(1, &map, |_| {});
        let caller = bench.open(Version::V4);
        bench.query(&caller, 1, &format!("SELECT v FROM shop.t WHERE k = {literal}"));
        assert_eq!(map.take_asked(), [("shop.t".to_owned(), token(bytes).value())], "{kind:?} {literal}");
    }
}
