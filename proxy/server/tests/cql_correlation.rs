//! One request of a service is told from the cache to the rows: the real memcached and Cassandra behind one weir.

mod support;
mod support_cql;

use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::statement::prepared::PreparedStatement;
use support::wire::{Wire, keys};
use support::{Memcached, Weir};
use support_cql::{Cql, With, cassandra, create_keyspace, int, keyspace, list};
use weir_cql::envelope::{Flags, Opcode};
use weir_cql::request::REQUEST_ID;
use weir_cql::{Version, write};
use weir_engine::correlate::CorrelationId;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn id() -> CorrelationId {
    CorrelationId::parse(TRACE).expect("an id")
}

/// The body of a message with a custom payload in front.
fn with_payload(entries: &[(&[u8], &[u8])], message: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    write::short(&mut body, entries.len() as u16);
    for (name, value) in entries {
        write::short_bytes(&mut body, name);
        write::bytes(&mut body, value);
    }
    body.extend_from_slice(message);
    body
}

/// A weir with both doors, in front of both servers; it takes both doors' word.
fn before_both(memcached: &Memcached, node: &str) -> (Weir, u16) {
    let cql = support::free_port();
    let more = format!(
        "trusted_request_ids = [\"dataplane\"]\n\
         [cluster.main]\ncontacts = [\"{node}\"]\n\
         [listener.cql]\naddress = \"127.0.0.1:{cql}\"\ncluster = \"main\"\ntrusted_request_ids = [\"cql\"]\n\
         [callers.dataplane]\nlistener = \"cache\"\n"
    );
    let file = support::file(memcached, "", &more)
        .replace("[listener.cache]\n", "[listener.cache]\npool = \"main\"\n");
    (Weir::with_config(&format!("workers = 2\n{file}"), &[]), cql)
}

#[test]
fn one_request_is_told_from_the_cache_to_the_rows() {
    let Some(node) = cassandra("correlation over both doors") else { return };
    let Some(memcached) = Memcached::start() else { return };
    let (weir, port) = before_both(&memcached, &node);
    let keyspace = keyspace("correlation");
    let at = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let mut cql = Cql::open(at, Version::V4);
    cql.query(&create_keyspace(&keyspace)).expect_result();
    cql.query(&format!("CREATE TABLE {keyspace}.t (k int PRIMARY KEY, v text)")).expect_result();
    let insert = cql.prepare(&format!("INSERT INTO {keyspace}.t (k, v) VALUES (?, 'row')")).prepared();
    for k in 0..100 {
        cql.execute(&insert, &With::values(&[int(k)])).expect_result();
    }
    let select = cql.prepare(&format!("SELECT k, v FROM {keyspace}.t WHERE k IN ?")).prepared();

    // what a service does: the cache first, then the database for what it did not have
    memcached.wire().fill(&keys("row", 50), b"cached");
    let mut asked = vec![format!("__weir:{}", id().short())];
    asked.extend(keys("row", 150));
    let found = Wire::tcp(weir.port).get(&asked).found.len();
    assert_eq!(found, 50);
    let plain = cql.execute_body(&select, &With::values(&[list(50..150)]));
    let direct = cql.ask(Opcode::Execute, &plain);
    for version in [Version::V4, Version::V5] {
        let mut cql = Cql::open(at, version);
        let select = cql.prepare(&format!("SELECT k, v FROM {keyspace}.t WHERE k IN ?")).prepared();
        let plain = cql.execute_body(&select, &With::values(&[list(50..150)]));
        let body = with_payload(&[(b"mine", b"kept"), (REQUEST_ID, &id().0)], &plain);
        let flags = Flags::default().with(Flags::CUSTOM_PAYLOAD);
        cql.send_flagged(flags, 9, Opcode::Execute, &body).expect("sent");
        let answer = cql.answer().expect_result();
        assert_eq!(answer.rows(), direct.rows(), "{version:?}");
    }
    let report = weir.control(&format!("/request?id={}", id().short()));
    let numbers = |leg: &str, keys: [&str; 3]| keys.map(|key| report[leg][key].as_u64().expect("a number"));
    assert_eq!(numbers("cache", ["operations", "misses", "requests"]), [150, 100, 1]);
    assert_eq!(numbers("database", ["operations", "hits", "requests"]), [200, 100, 2]);
    assert_eq!(report["service"], "dataplane");
    assert!(report["database"]["bytes_out"].as_u64().is_some_and(|bytes| bytes > 1_000));

    let told = weir.command(&["request", TRACE]).expect_success("weir request");
    for part in ["150 operations", "misses      100", "200 operations", "100 rows"] {
        assert!(told.stdout.contains(part), "no {part:?} in:\n{}", told.stdout);
    }
    let counted = |name: &str, caller: &str| {
        let labels = [("caller", caller), ("origin", "service")];
        weir.series(&format!("weir_amplification_{name}_total"), &labels)
    };
    assert_eq!(counted("cache_misses", "dataplane"), Some(100.0));
    assert_eq!(counted("database_operations", "cql"), Some(200.0));
    cql.query(&format!("DROP KEYSPACE {keyspace}")).expect_result();
}

/// As docs/amplification.md has it.
fn with_id(read: &PreparedStatement, trace_id: [u8; 16]) -> PreparedStatement {
    let mut read = read.clone();
    read.set_timestamp(Some((1 << 62) | (u128::from_be_bytes(trace_id) as i64 & (i64::MAX >> 1))));
    read
}

async fn session(address: &str) -> Session {
    SessionBuilder::new().known_node(address).build().await.expect("a session")
}

/// The keys that a read found, in the order they came.
async fn found(session: &Session, read: &PreparedStatement, keys: &[i32]) -> Vec<i32> {
    let rows = session.execute_unpaged(read, (keys,)).await.expect("rows").into_rows_result().expect("rows");
    rows.rows::<(i32, String)>().expect("typed").map(|row| row.expect("typed").0).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_without_payloads_says_the_end_of_the_id_with_its_reads() {
    let Some(node) = cassandra("correlation by the Rust driver") else { return };
    let Some(memcached) = Memcached::start() else { return };
    let (weir, port) = before_both(&memcached, &node);
    let keyspace = keyspace("correlation_rust");
    let (through, direct) = (session(&format!("127.0.0.1:{port}")).await, session(&node).await);
    let run = async |text: String| through.query_unpaged(text.as_str(), ()).await.expect("done");
    run(create_keyspace(&keyspace)).await;
    run(format!("CREATE TABLE {keyspace}.t (k int PRIMARY KEY, v text)")).await;
    let insert = format!("INSERT INTO {keyspace}.t (k, v) VALUES (?, 'row')");
    let insert = through.prepare(insert).await.expect("prepared");
    for k in 0..100 {
        through.execute_unpaged(&insert, (k,)).await.expect("written");
    }
    let text = format!("SELECT k, v FROM {keyspace}.t WHERE k IN ?");
    let select = through.prepare(text.as_str()).await.expect("prepared");
    let keys: Vec<i32> = (50..250).collect();
    let wanted = found(&through, &select, &keys).await;
    assert_eq!(wanted.len(), 50);
    // past weir the server ignores it
    let of_node = direct.prepare(text.as_str()).await.expect("prepared");
    assert_eq!(found(&direct, &with_id(&of_node, id().0), &keys).await, wanted);
    // nobody has said the whole id yet: the rows come, and count for nobody
    assert_eq!(found(&through, &with_id(&select, id().0), &keys).await, wanted);
    let lost = || weir.metric("weir_correlation_lost_total", &["unknown"]);
    assert_eq!(lost(), 1.0);
    Wire::tcp(weir.port).get(&[format!("__weir:{}", id().short()), "row1".to_owned()]);
    for _ in 0..3 {
        assert_eq!(found(&through, &with_id(&select, id().0), &keys).await, wanted);
    }
    let report = weir.control(&format!("/request?id={}", id().short()));
    let numbers = |leg: &str, keys: [&str; 3]| keys.map(|key| report[leg][key].as_u64().expect("a number"));
    assert_eq!(numbers("cache", ["operations", "misses", "requests"]), [1, 1, 1]);
    assert_eq!(numbers("database", ["operations", "hits", "requests"]), [600, 150, 3]);
    assert!(
        report["database"]["chunks"].as_u64().is_some_and(|parts| parts >= 6),
        "split all the same: {report}"
    );
    assert_eq!(lost(), 1.0);
    let all = weir.control("/amplification");
    assert_eq!((&all["unknown"], &all["ambiguous"]), (&1.into(), &0.into()));
    run(format!("DROP KEYSPACE {keyspace}")).await;
}
