//! How many parts of split requests are at a node, and whose.

use crate::bench::Bench;
use crate::split::{READ, in_flight, lanes, request, small};
use crate::wire::{self, With};
use weir_cql::Version;
use weir_engine::units::Span;

#[test]
fn workers_share_the_budget() {
    let mut settings = small(1);
    settings.clusters[0].chunks_in_flight = 4;
    for (workers, share) in [(1, 4), (2, 2), (4, 1), (8, 1)] {
        let mut bench = Bench::sharing(settings.clone(), &std::sync::Arc::default(), workers);
        let mut caller = bench.open(Version::V4);
        let id = bench.prepare(&mut caller, READ);
        bench.send(&caller, &request(&caller, 3, &id, 0..200));
        bench.turn();
        assert_eq!(in_flight(&bench), share, "{workers} workers");
    }
}

#[test]
fn beside_other_requests_the_budget_is_smaller() {
    let mut settings = small(1);
    settings.clusters[0].chunks_in_flight = 4;
    let mut bench = Bench::new(settings);
    let (mut greedy, modest) = (bench.open(Version::V4), bench.open(Version::V4));
    let id = bench.prepare(&mut greedy, READ);
    let one = wire::query(Version::V4, 7, "SELECT v FROM shop.t WHERE k = 1", &With::default());
    bench.send(&modest, &one);
    bench.send(&greedy, &request(&greedy, 3, &id, 0..900));
    bench.turn();
    assert_eq!(in_flight(&bench), 1, "one read is at the node");
    let (bulk, plain) = (lanes(&bench, true)[0], lanes(&bench, false)[0]);
    bench.answer(plain, 0);
    bench.answer(bulk, 0);
    bench.turn();
    assert_eq!(in_flight(&bench), 1, "the next read may be near");
    bench.now = bench.now.after(Span::millis(20));
    bench.answer(bulk, 0);
    bench.turn();
    assert_eq!(in_flight(&bench), 4, "nobody else is there");
    bench.send(&modest, &one);
    bench.turn();
    bench.answer(bulk, 0);
    bench.turn();
    assert_eq!(in_flight(&bench), 3, "what is there comes back first");
}

#[test]
fn two_principals_take_turns() {
    let mut settings = small(1);
    settings.clusters[0].chunks_in_flight = 1;
    let mut bench = Bench::new(settings);
    let (mut greedy, mut modest) =
        (bench.open_as("greedy", Version::V4, &[]), bench.open_as("modest", Version::V4, &[]));
    let id = bench.prepare(&mut greedy, READ);
    for stream in 0..20 {
        bench.send(&greedy, &request(&greedy, stream, &id, 0..200));
    }
    bench.turn();
    bench.send(&modest, &request(&modest, 1, &id, 0..200));
    bench.turn();
    let lane = lanes(&bench, true)[0];
    let mut parts = 0;
    while bench.answers(&mut modest).is_empty() {
        bench.answer(lane, 0);
        bench.turn();
        parts += 1;
    }
    // its 20 parts and as many of the other's, though that one has 20 requests waiting
    assert!((39..=62).contains(&parts), "{parts} parts until the modest one had its answer");
    assert!(bench.answers(&mut greedy).len() <= 2);
}
