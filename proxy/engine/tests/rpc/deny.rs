//! Methods that are switched off for a while.

use crate::bench::{Bench, GET_POSTS, settings, who};
use weir_engine::ledger::Outcome;
use weir_engine::rpc::Why;
use weir_engine::units::Span;

#[test]
fn a_method_that_is_switched_off_is_refused_with_the_time_that_is_left() {
    let mut bench = Bench::new(settings(|_| {}));
    let until = bench.now.after(Span::secs(1_800));
    let now = bench.now;
    bench.engine.denied().deny("/bsky.Service/GetPostRecords", "scylla is slow", until, now).expect("room");
    bench.engine.denied().deny("not.Described/Method", "", until, now).expect("room");
    bench.after(Span::secs(600));
    let identity = who("a", "a");
    let refusal = bench.begin_as(&identity, GET_POSTS).expect_err("off");
    assert_eq!(refusal.retry_after_ms(), 1_200_000);
    assert_eq!(refusal.why, Why::Denied("scylla is slow".into()));
    assert!(refusal.to_string().contains("switched off for now: scylla is slow"), "{refusal}");
    let other = bench.begin_as(&identity, "not.Described/Method").expect_err("off");
    assert_eq!(&*other.method, "_other");
    bench.begin_as(&identity, "bsky.Service/GetThread").expect("on");
    let refused: u64 = bench.tallies().iter().map(|(_, t)| t.requests[Outcome::Refused.index()]).sum();
    assert_eq!(refused, 2, "both have an entry");
    let mut counted = Vec::new();
    bench.engine.take_method_counts(|method, counts| counted.push((method.to_string(), counts.denied)));
    assert_eq!(counted, [("_other".to_owned(), 1), (GET_POSTS.to_owned(), 1)]);
    bench.now = until;
    bench.engine.on_timer(bench.now);
    assert!(bench.engine.denied().list(now).is_empty());
    bench.begin_as(&identity, GET_POSTS).expect("on again");
    bench.engine.check_invariants();
}
