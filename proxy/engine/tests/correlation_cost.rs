//! What ids cost, and what it costs to look for none. Instructions are exact where nanoseconds are noise: run the built test
//! under `valgrind --tool=callgrind`, with `--ignored --exact NAME`, before and after a change; the difference divided by
//! [`REQUESTS`] is what a request pays.

mod support;

use std::sync::Arc;
use support::{Bench, settings};
use weir_engine::correlate::Correlator;
use weir_memcached::correlation::id_text;

/// Requests of one run.
const REQUESTS: usize = 20_000;

/// Single gets of a few clients, with whatever stands before the key.
fn gets(first: &str, trusted: bool) {
    let mut settings = settings(1);
    if trusted {
        settings.listeners[0].trusted_request_ids = vec!["service".into()];
    }
    let mut bench = Bench::new(settings);
    bench.engine.share_correlator(&Arc::new(Correlator::new(65_536, 1)));
    bench.warm_up("service");
    let clients: Vec<_> = (0..20).map(|_| bench.open("service")).collect();
    for _ in 0..REQUESTS / clients.len() {
        for client in &clients {
            bench.send(*client, format!("get {first}k\r\n"));
        }
        bench.settle();
        for client in &clients {
            assert_eq!(bench.read(*client), b"END\r\n");
        }
    }
}

#[test]
#[ignore = "measures instructions"]
fn nobody_is_trusted() {
    gets("", false);
}

#[test]
#[ignore = "measures instructions"]
fn trusted_and_without_an_id() {
    gets("", true);
}

#[test]
#[ignore = "measures instructions"]
fn trusted_and_with_an_id() {
    gets(&format!("__weir:{} ", id_text(&[7; 16])), true);
}
