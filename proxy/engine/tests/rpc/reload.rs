//! New settings while calls are under way.

use crate::bench::{Bench, GET_POSTS, ok, server, settings};
use weir_engine::rpc::{Progress, Verdict};
use weir_engine::settings::{CallerLimits, LimitMode};
use weir_engine::units::{Operations, Span};

#[test]
fn limits_windows_and_servers_hold_at_once() {
    let mut bench = Bench::new(settings(|_| {}));
    let (call, _) = bench.ask("a", 2_000);
    let mut flying = bench.starts();
    assert_eq!(flying.len(), 4);
    bench.engine.apply(
        settings(|settings| {
            settings.services[0].chunk_window = 1;
            settings.services[0].servers = vec![server(2), server(3)];
            let limits = CallerLimits {
                mode: LimitMode::Refuse,
                operations_in_flight: Some(Operations(2_100)),
                ..CallerLimits::default()
            };
            settings.callers.insert("a".into(), limits);
        }),
        bench.now,
    );
    bench.engine.check_invariants();
    let names: Vec<String> =
        bench.engine.services(bench.now)[0].servers.iter().map(|server| server.name.to_string()).collect();
    assert_eq!(names, ["127.0.0.1:2", "127.0.0.1:3"]);
    let (_, verdict) = bench.ask("a", 101);
    assert!(matches!(verdict, Verdict::Refuse(_)), "what is under way counts: {verdict:?}");
    for done in 0..4 {
        assert!(bench.starts().is_empty(), "after {done}: the window is one");
        let start = flying.remove(0);
        bench.answer(&start);
    }
    let mut last = Progress::More;
    while last == Progress::More {
        let [start] = bench.starts()[..] else { panic!("one at a time") };
        assert_ne!(bench.engine.server(&start), Some(&server(1)), "it has left");
        last = bench.answer(&start);
    }
    bench.answered(call, &ok(2_000, 1));
    bench.engine.check_quiet();
}

#[test]
fn a_service_that_left_ends_what_it_has_and_leaves_its_place() {
    let mut bench = Bench::new(settings(|_| {}));
    let (call, verdict) = bench.ask("a", 5);
    let Verdict::Forward(start) = verdict else { panic!("{verdict:?}") };
    for round in 0..100 {
        let renamed = settings(|settings| settings.services[0].name = format!("other-{round}").into());
        bench.engine.apply(renamed, bench.now);
        bench.engine.check_invariants();
        bench.after(Span::millis(1));
        let (new, _) = bench.ask("a", 5);
        bench.answered(new, &ok(5, 1));
        bench.engine.fold_servers(|_, _, _, _| {});
    }
    assert_eq!(bench.engine.server(&start), Some(&server(start.server as u16 + 1)), "still the old one's");
    bench.answered(call, &ok(5, 1));
    bench.engine.check_quiet();
    assert_eq!(bench.engine.method_names().iter().filter(|name| &***name == GET_POSTS).count(), 1);
}
