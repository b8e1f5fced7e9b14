//! Time at the nodes by statement, over all callers: what is counted and under which name.

use crate::bench::{Bench, Caller, settings};
use crate::wire::{With, execute, int, list, query};
use weir_cql::Version;
use weir_cql::statement::fingerprint;
use weir_engine::cql::Spent;
use weir_engine::units::Span;

/// The node takes so long.
fn ask_slow(bench: &mut Bench, caller: &mut Caller, message: &[u8], takes: Span) {
    bench.send(caller, message);
    bench.turn();
    bench.now = bench.now.after(takes);
    bench.settle();
    assert_eq!(bench.answers(caller).len(), 1);
}

fn take(bench: &mut Bench) -> Vec<(Option<String>, Spent)> {
    let mut all = Vec::new();
    bench.engine.take_statement_times(|_, name, spent| all.push((name.map(|name| name.to_string()), spent)));
    all
}

#[test]
fn callers_and_ways_to_ask_add_up_under_the_name_of_the_qualified_text() {
    for version in [Version::V4, Version::V5] {
        let mut bench = Bench::new(settings(1));
        let (mut a, mut b) = (bench.open_as("appview", version, &[]), bench.open_as("feed", version, &[]));
        bench.use_keyspace(&mut a, "shop");
        let id = bench.prepare(&mut a, "SELECT v FROM t WHERE k = ?");
        let prepared = execute(version, 1, &id, &With::values(&[int(5)]));
        let text = query(version, 1, "SELECT v FROM t WHERE k = 7", &With::default());
        let qualified = query(version, 1, "select V from shop.t where K = 9", &With::default());
        ask_slow(&mut bench, &mut a, &prepared, Span::millis(400));
        ask_slow(&mut bench, &mut a, &text, Span::millis(300));
        assert_eq!(take(&mut bench), [], "not worth a name yet");
        ask_slow(&mut bench, &mut a, &text, Span::millis(300));
        // the text that names its keyspace has a place of its own and the same name
        ask_slow(&mut bench, &mut b, &qualified, Span::millis(1_500));
        let name = format!("{:016x}", fingerprint(b"SELECT v FROM shop.t WHERE k = 1").hash);
        let spent = |backend_us, operations| (Some(name.clone()), Spent { backend_us, operations });
        assert_eq!(take(&mut bench), [spent(1_000_000, 3), spent(1_500_000, 1)], "{version:?}");
        assert_eq!(take(&mut bench), [], "{version:?}");
    }
}

#[test]
fn what_drivers_ask_for_themselves_and_what_no_node_is_asked_is_not_counted() {
    let mut bench = Bench::new({
        let mut settings = settings(1);
        let limits = weir_engine::settings::CallerLimits {
            mode: weir_engine::settings::LimitMode::Refuse,
            operations_per_request: Some(weir_engine::units::Operations(100)),
            ..weir_engine::settings::CallerLimits::default()
        };
        settings.callers.insert("caller".into(), limits);
        settings
    });
    let version = Version::V4;
    let mut caller = bench.open(version);
    for text in ["SELECT * FROM system.size_estimates", "CREATE TABLE shop.u (k int PRIMARY KEY)"] {
        let message = query(version, 1, text, &With::default());
        ask_slow(&mut bench, &mut caller, &message, Span::millis(1_500));
    }
    let id = bench.prepare(&mut caller, "SELECT v FROM shop.t WHERE k IN ?");
    let refused = execute(version, 1, &id, &With::values(&[list(0..101)]));
    ask_slow(&mut bench, &mut caller, &refused, Span::millis(1_500));
    assert_eq!(take(&mut bench), []);
    let allowed = execute(version, 1, &id, &With::values(&[list(0..10)]));
    ask_slow(&mut bench, &mut caller, &allowed, Span::millis(1_500));
    let taken = take(&mut bench);
    assert_eq!(taken.len(), 1);
    assert_eq!(taken[0].1, Spent { backend_us: 1_500_000, operations: 10 }, "only what was let through");
}
