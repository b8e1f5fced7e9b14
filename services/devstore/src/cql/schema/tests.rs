//! The schema's own tests.

use super::system::{Node, System};
use super::{Catalog, change};
use crate::cql::parse::{self, Statement};

fn catalog() -> Catalog {
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], 9042));
    let system = System::new(Node { host_id: [1; 16], address }).expect("tables of the system");
    Catalog { keyspaces: Default::default(), generation: 0, next_storage: 0, system: system.into() }
}

fn apply(catalog: &mut Catalog, text: &str) -> Result<(), String> {
    let Ok(Statement::Ddl(ddl)) = parse::statement(text.as_bytes()).map(|parsed| parsed.statement) else {
        return Err(format!("{text} is no DDL"));
    };
    let changed = change::apply(catalog, &ddl, Some("k"), [7; 16]).map_err(|refusal| refusal.to_string())?;
    *catalog = changed.catalog;
    Ok(())
}

#[test]
fn every_table_of_the_system_is_made() {
    let system = catalog().system;
    assert_eq!(system.tables().count(), 18);
    let local = system.table("system", "local").expect("system.local");
    assert_eq!(local.columns[0].name, "key");
}

#[test]
fn a_keyspace_survives_its_record() {
    let mut catalog = catalog();
    apply(
        &mut catalog,
        "CREATE KEYSPACE k WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}",
    )
    .expect("a keyspace");
    apply(
        &mut catalog,
        "CREATE TABLE t (a int, b text, c timeuuid, s set<text>, f frozen<map<text, list<int>>>, PRIMARY KEY ((a, b), c)) \
         WITH CLUSTERING ORDER BY (c DESC) AND comment = 'it''s' AND gc_grace_seconds = 5",
    )
    .expect("a table");
    let keyspace = &catalog.keyspaces["k"];
    let json = serde_json::to_vec(&**keyspace).expect("JSON");
    assert_eq!(&serde_json::from_slice::<super::Keyspace>(&json).expect("a keyspace"), &**keyspace);
    let types: Vec<String> =
        keyspace.tables["t"].columns.iter().map(|column| column.kind.to_string()).collect();
    assert_eq!(types, ["int", "text", "timeuuid", "frozen<map<text, frozen<list<int>>>>", "set<text>"]);
}

#[test]
fn what_cannot_be_is_refused() {
    let mut catalog = catalog();
    apply(
        &mut catalog,
        "CREATE KEYSPACE k WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}",
    )
    .expect("a keyspace");
    for text in [
        "CREATE TABLE t (a int)",
        "CREATE TABLE t (a int PRIMARY KEY, a int)",
        "CREATE TABLE t (a int, PRIMARY KEY (b))",
        "CREATE TABLE t (a set<int> PRIMARY KEY)",
        "CREATE TABLE t (a counter PRIMARY KEY)",
        "CREATE TABLE t (a int PRIMARY KEY, b counter, c int)",
        "CREATE TABLE t (a int PRIMARY KEY, b set<list<int>>)",
        "CREATE TABLE t (a int, b int, PRIMARY KEY (a, b)) WITH CLUSTERING ORDER BY (a DESC)",
        "CREATE TABLE t (a int PRIMARY KEY) WITH nonsense = 1",
        "CREATE TABLE system.t (a int PRIMARY KEY)",
        "DROP TABLE t",
        "DROP KEYSPACE other",
        "ALTER TABLE t ADD b int",
    ] {
        assert!(apply(&mut catalog, text).is_err(), "{text}");
    }
    apply(&mut catalog, "CREATE TABLE t (a int PRIMARY KEY, b int)").expect("a table");
    assert!(apply(&mut catalog, "ALTER TABLE t ADD c counter").is_err());
    assert!(apply(&mut catalog, "ALTER TABLE t DROP a").is_err());
    apply(&mut catalog, "ALTER TABLE t DROP b").expect("dropped");
    apply(&mut catalog, "ALTER TABLE t ADD b text").expect("added");
    let table = &catalog.keyspaces["k"].tables["t"];
    assert_eq!(table.column("b").map(|(_, column)| column.id), Some(2), "an id is never given twice");
}
