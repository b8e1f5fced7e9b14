//! Single flight with the drivers' own timestamps: a driver's burst of identical prepared reads joins in weir, although
//! each of them carries another client timestamp.

use super::Driver;
use super::support::{Weir, eventually};
use std::net::SocketAddr;

/// Everything through a weir that asks the node one thing at a time, so that identical reads wait together: rows as they
/// were `direct`ly, and some of the reads joined. Only the burst can join: whatever else a driver's program reads, it
/// reads alone, and what a driver itself reads of `system` tables never joins.
pub fn check(driver: &Driver, node: SocketAddr, setting: &str, direct: &[String]) {
    let weir = Weir::with_config(
        &format!(
            "workers = 1\n[cluster.main]\ncontacts = [\"{node}\"]\nrequests_in_flight = 1\n\
             [listener.cql]\naddress = \"127.0.0.1:{{port}}\"\ncluster = \"main\"\n"
        ),
        &[],
    );
    let counted = |name| weir.series(name, &[("cluster", "main")]).unwrap_or(0.0);
    assert_eq!(counted("weir_cql_joined_requests_total"), 0.0, "{}", driver.name);
    let (through, _) = driver.run(SocketAddr::from(([127, 0, 0, 1], weir.port)), setting, None);
    driver.agree(setting, direct, &through);
    eventually("reads of the burst are counted as joined", || {
        counted("weir_cql_joined_requests_total") >= 1.0
    });
    let (joined, flights) = (counted("weir_cql_joined_requests_total"), counted("weir_cql_flights_total"));
    println!("{} {setting}: {joined} identical reads joined {flights} others", driver.name);
}
