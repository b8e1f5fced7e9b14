//! Drivers that reach weir over TLS, and ask its certificate for the test's CA and for the address they dialled.

use super::support::process::run;
use super::support::{PATIENCE, Weir, eventually};
use super::support_tls::{Authority, client};
use super::{CHECKS, Driver, LIMIT, node};
use scylla::client::session::{Session, TlsContext};
use scylla::client::session_builder::SessionBuilder;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::Command;

/// A weir in front of the node whose listener's certificate bears this name.
fn weir(node: SocketAddr, ca: &Authority, name: &str) -> Weir {
    let pair = ca.vouch(&[name]);
    let text = format!(
        "[cluster.main]\ncontacts = [\"{node}\"]\n\
         [listener.cql]\naddress = \"127.0.0.1:{{port}}\"\ncluster = \"main\"\n\
         tls_cert = \"{{dir}}/weir.crt\"\ntls_key = \"{{dir}}/weir.key\"\n"
    );
    let files = [
        ("weir.crt", pair.cert.as_str()),
        ("weir.key", &pair.key),
        ("ca.pem", &ca.pem),
        ("weir.toml", &text),
    ];
    Weir::with(&files, &[], None)
}

fn door(weir: &Weir) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], weir.port))
}

fn handshakes(weir: &Weir, result: &str) -> f64 {
    weir.series("weir_tls_handshakes_total", &[("result", result)]).unwrap_or(0.0)
}

/// Everything over TLS, and nothing at all where the certificate is another host's.
pub fn check(driver: &Driver, node: SocketAddr, setting: &str) {
    let ca = Authority::new("own");
    let through = weir(node, &ca, "127.0.0.1");
    let with_ca = |weir: &Weir| format!("{setting} tls={}", weir.path("ca.pem").display());
    let (said, peers) = driver.run(door(&through), &with_ca(&through), None);
    for check in CHECKS {
        assert!(said.iter().any(|line| line.starts_with(&format!("ok {check}"))), "{} {check}", driver.name);
    }
    assert_eq!(peers, BTreeSet::from([door(&through).to_string()]), "{} went past weir", driver.name);
    let encrypted = handshakes(&through, "ok");
    assert!(encrypted >= 1.0, "{}", driver.name);
    println!("{} {setting} over TLS: {encrypted} handshakes", driver.name);

    let other = weir(node, &ca, "other.weir.test");
    let mut command = Command::new(&driver.program);
    command.args(&driver.arguments).args(["127.0.0.1", &other.port.to_string(), "drivers_nobody"]);
    let finished = run(command.args(with_ca(&other).split(' ')), None, LIMIT);
    assert!(!finished.status.success(), "{} took another host's certificate", driver.name);
    assert!(!finished.stdout.contains("ok connect"), "{}: {}", driver.name, finished.stdout);
    eventually("its refusal is counted", || {
        handshakes(&other, "refused") + handshakes(&other, "gone") >= 1.0
    });
    assert_eq!(handshakes(&other, "ok"), 0.0, "{}", driver.name);
}

async fn session(weir: &Weir, ca: &Authority) -> Result<Session, Box<dyn std::error::Error>> {
    let builder = SessionBuilder::new()
        .known_node(door(weir).to_string())
        .connection_timeout(PATIENCE)
        .tls_context(Some(TlsContext::Rustls023(client(ca, None))));
    Ok(builder.build().await?)
}

#[tokio::test]
async fn the_rust_driver_over_tls() {
    let Some(node) = node("scylla (Rust) over TLS") else { return };
    let ca = Authority::new("own");
    let (through, other) = (weir(node, &ca, "127.0.0.1"), weir(node, &ca, "other.weir.test"));
    let made = session(&through, &ca).await.expect("a session");
    let run = async |text: &str| made.query_unpaged(text, ()).await.unwrap_or_else(|e| panic!("{text}: {e}"));
    let replication = "{'class': 'SimpleStrategy', 'replication_factor': 1}";
    run("DROP KEYSPACE IF EXISTS drivers_rust_tls").await;
    run(&format!("CREATE KEYSPACE drivers_rust_tls WITH replication = {replication}")).await;
    run("CREATE TABLE drivers_rust_tls.t (k int PRIMARY KEY, v text)").await;
    let insert = made.prepare("INSERT INTO drivers_rust_tls.t (k, v) VALUES (?, ?)").await.expect("prepared");
    for k in 0..100 {
        made.execute_unpaged(&insert, (k, format!("v{k}"))).await.expect("written");
    }
    let read = made.prepare("SELECT k, v FROM drivers_rust_tls.t WHERE k IN ?").await.expect("prepared");
    let keys: Vec<i32> = (0..15_000).collect();
    let found = made.execute_unpaged(&read, (&keys,)).await.expect("rows").into_rows_result().expect("rows");
    let found: Vec<(i32, String)> = found.rows().expect("types").map(|row| row.expect("a row")).collect();
    let mut found_keys: Vec<i32> = found.iter().map(|(k, _)| *k).collect();
    found_keys.sort_unstable();
    assert_eq!(found_keys, (0..100).collect::<Vec<_>>());
    assert!(found.iter().all(|(k, v)| *v == format!("v{k}")));
    run("DROP KEYSPACE drivers_rust_tls").await;
    assert!(handshakes(&through, "ok") >= 2.0, "the control connection, and those of the data");

    let refused = session(&other, &ca).await;
    assert!(refused.is_err(), "it took another host's certificate");
    assert_eq!(handshakes(&other, "ok"), 0.0);
}
