//! Literals in a statement's text mean to the real Cassandra the bytes that weir routes them by: the token that the server
//! tells of the row it wrote is that of those bytes.

mod support;
mod support_cql;

use support_cql::raw::Cql;
use support_cql::{cassandra, create_keyspace, keyspace};
use weir_cql::Version;
use weir_cql::key::{KeyType, from_literal, token};
use weir_cql::statement::{self, Body, Value};

const LITERALS: [(&str, KeyType, &[&str]); 17] = [
    ("ascii", KeyType::Ascii, &["'it''s'", "$$a'b$$"]),
    ("text", KeyType::Text, &["'kremówki'", "$$x$$"]),
    ("blob", KeyType::Blob, &["0xCAfe", "0x00"]),
    ("boolean", KeyType::Boolean, &["true", "FALSE"]),
    ("tinyint", KeyType::Tinyint, &["-128", "127"]),
    ("smallint", KeyType::Smallint, &["-2", "32767"]),
    ("int", KeyType::Int, &["-2147483648", "7"]),
    ("bigint", KeyType::Bigint, &["-9223372036854775808", "-1", "9007199254740993"]),
    (
        "varint",
        KeyType::Varint,
        &["0", "-0", "-1", "127", "128", "-128", "-129", "-170141183460469231731687303715884105728"],
    ),
    (
        "decimal",
        KeyType::Decimal,
        &["0", "5", "-1.50", "0.05", "-0.5", "12345678901234567890.123456789", "1e3"],
    ),
    ("float", KeyType::Float, &["1.5", "-1", "0.1", "-0.0", "3.4e39", "16777217", "1.17549435E-38", "7e-46"]),
    ("double", KeyType::Double, &["1.5", "-1", "0.1", "-0.0", "9007199254740993", "4.9E-324", "0.1e1"]),
    ("timestamp", KeyType::Timestamp, &["0", "-1", "1700000000000"]),
    (
        "date",
        KeyType::Date,
        &["'1970-01-01'", "'1969-12-31'", "'2024-02-29'", "'0001-01-01'", "'9999-12-31'", "'1900-03-01'"],
    ),
    ("time", KeyType::Time, &["'00:00:00'", "'23:59:59.999999999'", "'01:02:03.5'", "'08:09:07.000'"]),
    ("timeuuid", KeyType::Timeuuid, &["50554D6E-29bb-11e5-b345-feff819cdc9f"]),
    (
        "inet",
        KeyType::Inet,
        &["'127.0.0.1'", "'::1'", "'2001:db8::ff00:42:8329'", "'::ffff:1.2.3.4'", "'::1.2.3.4'"],
    ),
];

/// Literals of which weir makes no bytes: their meaning is not certain to it.
const UNCERTAIN: [&str; 2] = ["1e3", "'::ffff:1.2.3.4'"];

#[test]
fn the_bytes_of_a_literal_are_those_that_the_server_makes_of_it() {
    let Some(node) = cassandra("the_bytes_of_a_literal_are_those_that_the_server_makes_of_it") else {
        return;
    };
    let node: std::net::SocketAddr = node.parse().expect("an address");
    let mut direct = Cql::open(node, Version::V4);
    let space = keyspace("literals");
    direct.query(&create_keyspace(&space)).expect_result();
    for (name, kind, literals) in LITERALS {
        direct.query(&format!("CREATE TABLE {space}.{name}_t (k {name} PRIMARY KEY)")).expect_result();
        for literal in literals {
            let insert = format!("INSERT INTO {space}.{name}_t (k) VALUES ({literal})");
            direct.query(&insert).expect_result();
            let told = direct.query(&format!("SELECT token(k), k FROM {space}.{name}_t WHERE k = {literal}"));
            let rows = told.rows();
            let [[Some(told), Some(bytes)]] = rows.iter().map(Vec::as_slice).collect::<Vec<_>>()[..] else {
                panic!("{name} {literal}: {rows:?}")
            };
            let read = statement::read(insert.as_bytes());
            let Body::Modify(modify) = &read.body else { panic!("{insert}") };
            let Some(Value::Literal(form, span)) = modify.filter.value_of(insert.as_bytes(), "k") else {
                panic!("{insert}: no literal")
            };
            let made = from_literal(kind, form, span.bytes(insert.as_bytes()));
            if UNCERTAIN.contains(literal) {
                assert_eq!(made, None, "{name} {literal}");
                continue;
            }
            assert_eq!(made.as_deref(), Some(&bytes[..]), "{name} {literal}");
            assert_eq!(token(bytes).value().to_be_bytes()[..], told[..], "{name} {literal}");
        }
    }
    direct.query(&format!("DROP KEYSPACE {space}")).expect_result();
}
