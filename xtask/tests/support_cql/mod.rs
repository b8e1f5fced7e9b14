//! What a test needs to speak to the Cassandra that `cargo xtask test` starts: its address, a session of a real driver, and
//! a keyspace of the test's own that is gone when the test ends well.

use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;

/// Where the node of this test run listens, or `None`, said aloud with the reason.
pub fn cassandra(what: &str) -> Option<String> {
    let address = std::env::var("WEIR_TEST_CASSANDRA").ok();
    if address.is_none() {
        println!(
            "SKIPPED: {what}: WEIR_TEST_CASSANDRA is not set; `cargo xtask test` sets it, by hand: the address that \
             `cargo xtask cassandra start` prints"
        );
    }
    address
}

/// A session and a keyspace that no other test uses, chosen with USE.
pub struct Keyspace {
    /// The driver's session.
    pub session: Session,
    /// The keyspace's name.
    pub name: String,
}

impl Keyspace {
    /// Opens a session at `address` and makes a keyspace named after the test and this process.
    pub async fn create(address: &str, test: &str) -> Self {
        let session = SessionBuilder::new().known_node(address).build().await.expect("a session");
        let name = format!("{test}_{}", std::process::id());
        let create = format!(
            "CREATE KEYSPACE {name} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}}"
        );
        session.query_unpaged(create, ()).await.expect("a keyspace");
        session.use_keyspace(&name, false).await.expect("the keyspace in use");
        Keyspace { session, name }
    }

    /// Drops the keyspace. A test that fails leaves it to be looked at; it goes with the node.
    pub async fn drop(self) {
        self.session
            .query_unpaged(format!("DROP KEYSPACE {}", self.name), ())
            .await
            .expect("the keyspace is dropped");
    }
}
