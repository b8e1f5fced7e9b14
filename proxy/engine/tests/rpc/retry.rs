//! What may be sent once more.

use crate::bench::{Bench, body, ok, server, settings};
use weir_engine::rpc::{Body, Start, Verdict};
use weir_engine::units::{ServiceId, Span};

fn forwarded(bench: &mut Bench, idempotent: bool) -> Start {
    let call = bench.begin("a");
    match bench.engine.counted(call, &Body { idempotent, ..body(7) }, bench.now) {
        Verdict::Forward(start) => start,
        other => panic!("{other:?}"),
    }
}

#[test]
fn only_what_does_no_more_when_asked_twice_and_to_another_server() {
    let mut bench = Bench::new(settings(|_| {}));
    let start = forwarded(&mut bench, false);
    assert_eq!(bench.engine.retry(start.part, bench.now), None);
    let start = forwarded(&mut bench, true);
    let again = bench.engine.retry(start.part, bench.now).expect("within the budget");
    assert_ne!(again.server, start.server);
    assert_ne!(bench.engine.server(&again), bench.engine.server(&start));
    let third = bench.engine.retry(start.part, bench.now).expect("the third and last");
    assert_eq!(third.server, start.server);
    assert_eq!(bench.engine.retry(start.part, bench.now), None, "three times in all");
    bench.engine.check_invariants();
    bench.after(Span::secs(30));
    let late = forwarded(&mut bench, true);
    bench.after(Span::secs(30));
    assert_eq!(bench.engine.retry(late.part, bench.now), None, "its deadline is over");
}

#[test]
fn the_budget_is_a_share_and_some_for_free() {
    let mut bench = Bench::new(settings(|settings| settings.services[0].retry_percent = 0));
    let granted = (0..50).filter(|_| {
        let start = forwarded(&mut bench, true);
        bench.engine.retry(start.part, bench.now).is_some()
    });
    assert_eq!(granted.count(), 10);
    let counts = bench.engine.services(bench.now).remove(0).counts;
    assert_eq!((counts.retries, counts.retries_refused), (10, 40));
    bench.engine.check_invariants();
}

#[test]
fn a_part_keeps_to_the_budget_of_the_server_it_moves_to() {
    let mut bench = Bench::new(settings(|settings| settings.services[0].chunk_window = 8));
    bench.ask("a", 2_000);
    let starts = bench.starts();
    assert_eq!(starts.len(), 8, "both servers are full");
    let again = bench.engine.retry(starts[0].part, bench.now).expect("within the budget");
    assert_eq!(again.server, starts[0].server, "the other one has no room");
    assert!(bench.starts().is_empty());
    bench.engine.check_invariants();
}

#[test]
fn servers_that_are_down_get_nothing_unless_all_are() {
    let mut bench = Bench::new(settings(|settings| settings.services[0].chunks_beside_calls = 4));
    bench.engine.server_is(ServiceId(0), &server(1), false, bench.now);
    for _ in 0..10 {
        let start = forwarded(&mut bench, true);
        assert_eq!(bench.engine.server(&start), Some(&server(2)));
    }
    bench.ask("a", 2_000);
    let starts = bench.starts();
    assert_eq!(starts.len(), 4, "only one server has places");
    assert!(starts.iter().all(|start| bench.engine.server(start) == Some(&server(2))));
    let now = bench.now;
    bench.engine.server_is(ServiceId(0), &server(1), true, now);
    assert_eq!(bench.engine.services(now)[0].servers.iter().map(|server| server.chunks).sum::<u32>(), 4);
    bench.engine.server_is(ServiceId(0), &server(1), false, now);
    bench.engine.server_is(ServiceId(0), &server(2), false, now);
    let start = forwarded(&mut bench, true);
    assert_eq!(bench.engine.server(&start), Some(&server(1)), "the one with less to do");
    bench.engine.check_invariants();
}

#[test]
fn what_went_elsewhere_is_in_the_books_of_the_server_that_got_it() {
    let mut bench = Bench::new(settings(|_| {}));
    let start = forwarded(&mut bench, true);
    let chosen = bench.engine.server_of(start.part).expect("under way").clone();
    assert_eq!(Some(&chosen), bench.engine.server(&start));
    let other = if chosen == server(1) { server(2) } else { server(1) };
    bench.engine.went(start.part, &server(77), bench.now);
    assert_eq!(bench.engine.server_of(start.part), Some(&chosen), "nobody's");
    bench.engine.went(start.part, &other, bench.now);
    bench.engine.check_invariants();
    assert_eq!(bench.engine.server_of(start.part), Some(&other));
    let told = |bench: &mut Bench| {
        let mut told = Vec::new();
        bench.engine.fold_servers(|_, _, server, operations| told.push((server.to_owned(), operations)));
        told
    };
    assert_eq!(told(&mut bench), [(other.to_string(), 7)], "only the one that got it");
    bench.engine.answered(start.part.call, &ok(7, 10), bench.now);
    assert_eq!(bench.engine.server_of(start.part), None, "it is over");
    bench.engine.check_quiet();
}
