//! Work is booked per caller and statement, whatever way the statement was asked.

use crate::bench::{Bench, settings};
use crate::wire::{Part, With, batch, execute, int, list, prepare, query, startup};
use std::collections::BTreeMap;
use weir_cql::Version;
use weir_engine::cql::{Bound, Method};
use weir_engine::ledger;

/// Requests and operations by caller, method, table and text, PREPAREs and `USE` left out.
fn booked(bench: &mut Bench) -> BTreeMap<(String, String), (u64, u64)> {
    let mut all = BTreeMap::new();
    for row in bench.engine.ledger().statements().0 {
        if row.method == ledger::Method::from(Method::Prepare) {
            continue;
        }
        let asked = format!("{} on {}", row.statement.text(), row.statement.table());
        let sums = row.tally.sums;
        let before = all.insert((row.name.to_string(), asked), (sums.requests, sums.operations));
        assert_eq!(before, None);
    }
    all
}

fn expected(rows: &[(&str, &str, u64, u64)]) -> BTreeMap<(String, String), (u64, u64)> {
    rows.iter()
        .map(|(name, asked, n, keys)| (((*name).to_owned(), (*asked).to_owned()), (*n, *keys)))
        .collect()
}

#[test]
fn prepared_or_not_a_statement_is_booked_by_its_form() {
    for version in [Version::V3, Version::V4, Version::V5] {
        let mut bench = Bench::new(settings(1));
        let (mut a, mut b) = (bench.open_as("appview", version, &[]), bench.open_as("feed", version, &[]));
        let id = bench.prepare(&mut a, "SELECT v FROM shop.t WHERE k IN ?");
        let keys = |keys| execute(version, 1, &id, &With::values(&[list(0..keys)]));
        bench.ask(&mut a, &keys(15_000));
        bench.ask(&mut a, &keys(10));
        bench.ask(&mut b, &keys(2));
        for k in 0..3 {
            let text = format!("SELECT v FROM shop.t WHERE k = {k}");
            bench.ask(&mut b, &query(version, 1, &text, &With::default()));
        }
        let wanted = [
            ("appview", "select v from shop.t where k in ? on shop.t", 2, 15_010),
            ("feed", "select v from shop.t where k in ? on shop.t", 1, 2),
            ("feed", "select v from shop.t where k = ? on shop.t", 3, 3),
        ];
        assert_eq!(booked(&mut bench), expected(&wanted), "{version:?}");
        let largest = bench.engine.ledger().expensive().next().cloned().expect("a request");
        assert_eq!(largest.entry.operations, 15_000);
        let statement = largest.statement.expect("its statement");
        assert_eq!((statement.text(), &*statement.table()), ("select v from shop.t where k in ?", "shop.t"));
    }
}

#[test]
fn the_keyspace_a_client_chose_belongs_to_the_statement() {
    for version in [Version::V3, Version::V4, Version::V5] {
        let mut bench = Bench::new(settings(1));
        let (mut a, mut b) = (bench.open(version), bench.open(version));
        bench.use_keyspace(&mut a, "shop");
        bench.use_keyspace(&mut b, "\"My Ks\"");
        for caller in [&mut a, &mut b] {
            let id = bench.prepare(caller, "SELECT v FROM t WHERE k = ?");
            let answer = bench.ask(caller, &execute(version, 1, &id, &With::values(&[int(5)])));
            assert!(answer.code().is_none(), "{}", answer.describe());
            bench.ask_text(caller, "SELECT v FROM t WHERE k = 7");
            let parts =
                [Part::Text("UPDATE t SET v = 'x' WHERE k = 1"), Part::Text("DELETE FROM t WHERE k = 2")];
            bench.ask(caller, &batch(version, 1, &parts));
        }
        let wanted = [
            ("caller", "select v from t where k = ? on shop.t", 2, 2),
            ("caller", "select v from t where k = ? on My Ks.t", 2, 2),
            ("caller", "update t set v = ? where k = ? on shop.t", 1, 2),
            ("caller", "update t set v = ? where k = ? on My Ks.t", 1, 2),
        ];
        assert_eq!(booked(&mut bench), expected(&wanted), "{version:?}");
    }
}

#[test]
fn lists_of_any_length_in_the_text_are_one_form_or_two() {
    let mut bench = Bench::new(settings(1));
    let mut caller = bench.open(Version::V4);
    for keys in [2, 300, 5_000, 9_000, 9_001] {
        let keys: Vec<String> = (0..keys).map(|key| key.to_string()).collect();
        bench.ask_text(&mut caller, &format!("SELECT v FROM shop.t WHERE k IN ({})", keys.join(", ")));
    }
    bench.ask_text(&mut caller, "SELECT v FROM shop.t WHERE 'secret' ~ k");
    let wanted = [
        ("caller", "select v from shop.t where k in (?) on shop.t", 2, 302),
        ("caller", "select v from shop.t where k in (?... on shop.t", 3, 23_001),
        ("caller", "select v from shop.t where ?... on ", 1, 1),
    ];
    assert_eq!(booked(&mut bench), expected(&wanted));
}

#[test]
fn refused_requests_have_a_statement_too_and_what_weir_answers_has_none() {
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
    let mut caller = bench.open(Version::V4);
    let id = bench.prepare(&mut caller, "SELECT v FROM shop.t WHERE k IN ?");
    assert!(
        bench
            .ask(&mut caller, &execute(Version::V4, 1, &id, &With::values(&[list(0..101)])))
            .code()
            .is_some()
    );
    let (rows, all) = bench.engine.ledger().statements();
    let select = ledger::Method::from(Method::Select);
    let row = rows.iter().find(|row| row.method == select).expect("listed though refused");
    assert_eq!((row.tally.sums.failed, row.tally.largest), (1, 101));
    assert_eq!(all.requests, 2, "the PREPARE and the EXECUTE");
}

#[test]
fn bounds_without_a_key_are_counted_when_they_are_met() {
    let mut bench = Bench::new(settings(1));
    let reached = |bench: &mut Bench| {
        let mut all = Vec::new();
        bench.engine.take_reached(|bound, times| all.push((bound, times)));
        all
    };
    let mut caller = bench.open(Version::V4);
    // one request more than a connection may have under way
    let one = |stream| query(Version::V4, stream, "SELECT v FROM shop.t WHERE k = 1", &With::default());
    bench.send(&caller, &(0..2_048).flat_map(one).collect::<Vec<u8>>());
    assert_eq!(reached(&mut bench), []);
    bench.send(&caller, &one(2_048));
    assert!(matches!(reached(&mut bench)[..], [(Bound::ConnectionRequests, 1..)]));
    bench.settle();
    assert_eq!(bench.answers(&mut caller).len(), 2_049);
    reached(&mut bench);
    // more texts than are remembered
    for from in (0..4_100).step_by(50) {
        let text =
            |k: i32| query(Version::V4, 1, &format!("SELECT v FROM shop.t WHERE k = {k}"), &With::default());
        bench.send(&caller, &(from..from + 50).flat_map(text).collect::<Vec<u8>>());
        bench.settle();
        bench.answers(&mut caller);
    }
    assert_eq!(reached(&mut bench), [(Bound::StatementTexts, 1)]);
    // more clients than may wait for one PREPARE: the one who asks, 1,024 who wait, and one more
    for _ in 0..1_026 {
        let caller = bench.dial("caller", Version::V4);
        let begin = startup(Version::V4, 0, &[("CQL_VERSION", "3.0.0")]);
        let ask = prepare(Version::V4, 1, "SELECT v FROM shop.t WHERE k = ?");
        bench.engine.client_input(caller.id, &[begin, ask].concat(), bench.now);
    }
    assert_eq!(reached(&mut bench), [(Bound::JoinedPrepares, 1)]);
    bench.settle();
    bench.engine.check_invariants();
}
