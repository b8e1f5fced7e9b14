//! Names that come after the first requests, from a look-up or from STARTUP: nothing is booked under the listener's name
//! that somebody can be named for.

use crate::bench::{Bench, Caller, settings};
use crate::node::row_value;
use crate::wire::{With, execute, list, options, query, startup};
use std::collections::BTreeMap;
use std::sync::Arc;
use weir_cql::Version;
use weir_engine::NamingCounts;
use weir_engine::caller::Identity;
use weir_engine::ledger::held::{HELD_BY_SMALL_MAX, HELD_FOR, HELD_MAX, LARGE};
use weir_engine::units::{ListenerId, Span};

const VERSION: Version = Version::V4;

/// Requests that ended, and the largest asked, by name.
fn booked(bench: &mut Bench) -> BTreeMap<String, (u64, u64)> {
    let mut all: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    bench.engine.fold(|_, identity, tally| {
        for (_, tally) in tally.tallies() {
            let sum = all.entry(identity.name.to_string()).or_default();
            sum.0 += tally.requests.iter().sum::<u64>();
            sum.1 = sum.1.max(tally.largest);
        }
    });
    all
}

fn spent(bench: &mut Bench) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    bench.engine.fold_nodes(|_, identity, _, operations| {
        *all.entry(identity.name.to_string()).or_default() += operations;
    });
    all
}

fn named(name: &str) -> Option<Arc<Identity>> {
    Some(Arc::new(Identity { listener: ListenerId(0), principal: "l".into(), name: name.into() }))
}

/// A connection whose process is being looked up.
fn unnamed(bench: &mut Bench) -> Caller {
    let caller = bench.dial("l", VERSION);
    bench.engine.await_name(caller.id, bench.now);
    caller
}

fn begin(bench: &mut Bench, caller: &mut Caller, more: &[(&str, &str)]) {
    bench.send(caller, &options(VERSION, 0));
    bench.send(caller, &startup(VERSION, 0, &[&[("CQL_VERSION", "3.0.0")], more].concat()));
    assert_eq!(bench.answers(caller).len(), 2);
}

fn by_name<T: Clone>(pairs: &[(&str, T)]) -> BTreeMap<String, T> {
    pairs.iter().map(|(name, value)| ((*name).to_string(), value.clone())).collect()
}

/// The statement every test asks for so many keys.
fn many(bench: &mut Bench, keys: i32) -> Vec<u8> {
    let mut other = bench.open_as("other", VERSION, &[]);
    let id = bench.prepare(&mut other, "SELECT v FROM shop.t WHERE k IN ?");
    bench.engine.close_client(other.id, bench.now);
    booked(bench);
    spent(bench);
    execute(VERSION, 3, &id, &With::values(&[list(0..keys)]))
}

#[test]
fn the_first_requests_bear_the_name_that_is_found_later() {
    let mut bench = Bench::new(settings(1));
    let ask = many(&mut bench, 15_000);
    let mut caller = unnamed(&mut bench);
    begin(&mut bench, &mut caller, &[]);
    assert!(!bench.engine.take_urgent());
    assert_eq!(bench.ask(&mut caller, &ask).values().len(), 15_000);
    assert!(bench.engine.take_urgent(), "over the ceiling of undeclared callers");
    assert_eq!((booked(&mut bench), spent(&mut bench)), (BTreeMap::new(), BTreeMap::new()), "nothing yet");
    assert_eq!(bench.engine.snapshot(bench.now).held_accounts, 1);
    // one more is under way while the answer comes
    bench.send(&caller, &ask);
    bench.turn();
    bench.engine.name_client(caller.id, named("importer"), bench.now);
    bench.engine.check_invariants();
    bench.settle();
    assert_eq!(bench.answers(&mut caller).len(), 1);
    assert_eq!(spent(&mut bench), by_name(&[("importer", 30_000)]));
    assert_eq!(booked(&mut bench), by_name(&[("importer", (4, 15_000))]), "OPTIONS and STARTUP too");
    let ledger = bench.engine.ledger();
    let expensive = ledger.expensive().next().cloned().expect("the request");
    let statement = expensive.statement.as_ref().expect("its statement");
    assert_eq!((&*expensive.name, statement.text()), ("importer", "select v from shop.t where k in ?"));
    let (rows, _) = ledger.statements();
    let row = rows.iter().find(|row| &*row.name == "importer").expect("its statement");
    assert_eq!((row.tally.sums.requests, row.tally.sums.operations, row.tally.largest), (2, 30_000, 15_000));
    let counts = NamingCounts { named: 1, ..NamingCounts::default() };
    assert_eq!(bench.engine.take_naming_counts(), counts);
    bench.engine.check_quiet();
}

#[test]
fn requests_that_wait_in_a_queue_change_hands_with_their_connection() {
    let mut settings = settings(1);
    settings.clusters[0].requests_in_flight = weir_engine::units::Operations(1);
    let mut bench = Bench::new(settings);
    let mut caller = unnamed(&mut bench);
    begin(&mut bench, &mut caller, &[]);
    for k in 0..5 {
        bench.send(
            &caller,
            &query(VERSION, k, &format!("SELECT v FROM shop.t WHERE k = {k}"), &With::default()),
        );
    }
    bench.turn();
    let queued = |bench: &Bench, name: &str| {
        let callers = bench.engine.snapshot(bench.now).callers;
        callers.iter().find(|caller| &*caller.identity.name == name).map_or(0, |caller| caller.queued.0)
    };
    assert_eq!((queued(&bench, "l"), queued(&bench, "importer")), (4, 0));
    bench.engine.name_client(caller.id, named("importer"), bench.now);
    assert_eq!((queued(&bench, "l"), queued(&bench, "importer")), (0, 4));
    bench.engine.check_invariants();
    bench.settle();
    assert_eq!(bench.answers(&mut caller).len(), 5);
    assert_eq!(booked(&mut bench), by_name(&[("importer", (7, 1))]));
    bench.engine.check_quiet();
}

#[test]
fn a_name_said_in_startup_is_not_waited_for() {
    for (more, name) in
        [(&[("APPLICATION_NAME", "feed")][..], "feed"), (&[("CLIENT_ID", "jobs-1")], "jobs-1")]
    {
        let mut bench = Bench::new(settings(1));
        let ask = many(&mut bench, 3_000);
        let mut caller = unnamed(&mut bench);
        begin(&mut bench, &mut caller, more);
        assert_eq!(bench.engine.snapshot(bench.now).held_accounts, 0);
        bench.ask(&mut caller, &ask);
        assert!(!bench.engine.take_urgent(), "there is nothing to be found out");
        assert_eq!(booked(&mut bench), by_name(&[(name, (3, 3_000))]));
        assert_eq!(spent(&mut bench), by_name(&[(name, 3_000)]));
        // the process's name, when it is found, changes nothing
        bench.engine.name_client(caller.id, named("python3"), bench.now);
        bench.ask(&mut caller, &ask);
        assert_eq!(booked(&mut bench), by_name(&[(name, (1, 3_000))]));
        bench.engine.check_quiet();
    }
}

#[test]
fn without_an_answer_it_is_booked_as_the_listeners_in_time() {
    let mut bench = Bench::new(settings(1));
    let mut caller = unnamed(&mut bench);
    begin(&mut bench, &mut caller, &[]);
    assert_eq!(booked(&mut bench), BTreeMap::new());
    let due = bench.engine.next_deadline().expect("the account is due");
    assert!(due <= bench.now.after(HELD_FOR));
    bench.wait(HELD_FOR);
    assert_eq!(booked(&mut bench), by_name(&[("l", (2, 0))]));
    assert_eq!(bench.engine.take_naming_counts(), NamingCounts { late: 1, ..NamingCounts::default() });
    assert_eq!(bench.engine.next_deadline(), None);
    // what comes later bears the name found later
    bench.engine.name_client(caller.id, named("importer"), bench.now);
    assert_eq!(
        bench.ask_text(&mut caller, "SELECT v FROM shop.t WHERE k = 1").values(),
        [row_value("shop.t", 1)]
    );
    assert_eq!(booked(&mut bench), by_name(&[("importer", (1, 1))]));
}

#[test]
fn a_connection_that_closed_is_named_only_by_what_was_read_before() {
    for (read_after, name) in [(Span(0), "importer"), (Span::millis(1), "l")] {
        let mut bench = Bench::new(settings(1));
        let ask = many(&mut bench, 5_000);
        let mut caller = unnamed(&mut bench);
        begin(&mut bench, &mut caller, &[]);
        bench.ask(&mut caller, &ask);
        bench.engine.close_client(caller.id, bench.now);
        assert!(bench.engine.held_identity(caller.id).is_some());
        bench.engine.check_invariants();
        bench.engine.name_client(caller.id, named("importer"), bench.now.after(read_after));
        assert_eq!(booked(&mut bench), by_name(&[(name, (3, 5_000))]));
        assert_eq!(spent(&mut bench), by_name(&[(name, 5_000)]));
        bench.engine.check_quiet();
    }
}

#[test]
fn accounts_are_bounded_and_keep_room_for_large_requests() {
    let mut bench = Bench::new(settings(1));
    let ask = many(&mut bench, LARGE as i32 + 1);
    let mut callers = Vec::new();
    for _ in 0..=HELD_BY_SMALL_MAX {
        let caller = unnamed(&mut bench);
        let bytes = startup(VERSION, 0, &[("CQL_VERSION", "3.0.0")]);
        bench.engine.client_input(caller.id, &bytes, bench.now);
        callers.push(caller);
    }
    bench.engine.check_invariants();
    assert_eq!(bench.engine.snapshot(bench.now).held_accounts, HELD_BY_SMALL_MAX);
    assert_eq!(bench.engine.take_naming_counts().overflow, 1);
    const { assert!(HELD_BY_SMALL_MAX < HELD_MAX) };
    // the one without a place asks for much: there is room
    let last = callers.last().expect("the last");
    bench.engine.client_input(last.id, &ask, bench.now);
    assert_eq!(bench.engine.snapshot(bench.now).held_accounts, HELD_BY_SMALL_MAX + 1);
    bench.engine.book_held();
    assert_eq!(bench.engine.snapshot(bench.now).held_accounts, 0);
    bench.engine.check_invariants();
}
