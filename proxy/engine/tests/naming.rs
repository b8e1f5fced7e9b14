//! Names that come after the first requests: what a connection did before is booked once, under the right name.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use support::{Bench, settings};
use weir_engine::NamingCounts;
use weir_engine::caller::Identity;
use weir_engine::ledger::held::{HELD_BY_SMALL_MAX, HELD_FOR, LARGE};
use weir_engine::units::{ClientId, ListenerId, Operations, Span};

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

/// Operations the servers were asked for, by name.
fn spent(bench: &mut Bench) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    bench.engine.fold_servers(|_, identity, _, _, operations| {
        *all.entry(identity.name.to_string()).or_default() += operations;
    });
    all
}

fn named(name: &str) -> Option<Arc<Identity>> {
    Some(Arc::new(Identity { listener: ListenerId(0), principal: "l".into(), name: name.into() }))
}

fn unnamed(bench: &mut Bench) -> ClientId {
    let client = bench.open("l");
    bench.engine.await_name(client, bench.now);
    client
}

fn multiget(keys: usize) -> String {
    let keys: Vec<String> = (0..keys).map(|key| format!("key:{key}")).collect();
    format!("get {}\r\n", keys.join(" "))
}

fn by_name<T: Clone>(pairs: &[(&str, T)]) -> BTreeMap<String, T> {
    pairs.iter().map(|(name, value)| ((*name).to_string(), value.clone())).collect()
}

#[test]
fn the_first_requests_bear_the_name_that_is_found_later() {
    let mut bench = Bench::new(settings(2));
    let client = unnamed(&mut bench);
    bench.send(client, multiget(15_000));
    assert!(bench.engine.take_urgent(), "over the ceiling of undeclared callers");
    bench.settle();
    bench.send(client, "nonsense\r\n");
    bench.settle();
    assert_eq!(booked(&mut bench), BTreeMap::new(), "nothing is booked yet");
    assert_eq!(bench.engine.ledger().expensive().count(), 0);
    assert_eq!(bench.engine.snapshot(bench.now).held_accounts, 1);

    bench.engine.name_client(client, named("importer"), bench.now);
    bench.engine.check_invariants();
    assert_eq!(spent(&mut bench), by_name(&[("importer", 15_000)]));
    assert_eq!(booked(&mut bench), by_name(&[("importer", (2, 15_000))]));
    let expensive: Vec<_> = bench.engine.ledger().expensive().cloned().collect();
    assert_eq!((&*expensive[0].name, expensive[0].entry.operations), ("importer", 15_000));
    assert_eq!(&*bench.engine.ledger().heavy_hitters()[0].name, "importer");
    let counts = NamingCounts { named: 1, ..NamingCounts::default() };
    assert_eq!(bench.engine.take_naming_counts(), counts);

    bench.send(client, "get a b\r\n");
    bench.settle();
    assert_eq!(booked(&mut bench), by_name(&[("importer", (1, 2))]), "and so do the later ones");
    bench.engine.check_invariants();
}

#[test]
fn a_request_under_way_goes_over_to_the_name_with_what_it_holds_of_a_budget() {
    let mut with_budget = settings(1);
    with_budget.callers.insert("importer".into(), Default::default());
    with_budget.operator_callers.insert("importer".into());
    let budgets = Arc::default();
    let mut bench = Bench::sharing(with_budget, &budgets, 1);
    let client = unnamed(&mut bench);
    bench.send(client, multiget(15_000));
    bench.turn();
    let of = |name: &str| budgets.of(&name.into()).operations_in_flight();
    assert_eq!(
        (of("l"), of("importer")),
        (Operations(15_000), Operations(0)),
        "limits do not wait for a name"
    );

    bench.engine.name_client(client, named("importer"), bench.now);
    bench.engine.check_invariants();
    assert_eq!((of("l"), of("importer")), (Operations(0), Operations(15_000)));
    assert_eq!(booked(&mut bench), by_name(&[("importer", (0, 15_000))]), "asked, and not yet ended");
    bench.settle();
    assert_eq!(booked(&mut bench), by_name(&[("importer", (1, 15_000))]));
    assert_eq!(spent(&mut bench), by_name(&[("importer", 15_000)]));
    assert_eq!((of("l"), of("importer")), (Operations(0), Operations(0)));
    bench.engine.check_invariants();
}

#[test]
fn without_a_name_or_in_time_the_listener_is_who_asked() {
    let mut bench = Bench::new(settings(1));
    let (nameless, waiting) = (unnamed(&mut bench), unnamed(&mut bench));
    for client in [nameless, waiting] {
        bench.send(client, "get a b c\r\n");
    }
    bench.settle();
    bench.engine.name_client(nameless, None, bench.now);
    assert_eq!(booked(&mut bench), by_name(&[("l", (1, 3))]));

    bench.wait(Span(HELD_FOR.0 - 1));
    assert_eq!(booked(&mut bench), BTreeMap::new(), "not yet");
    let due = bench.engine.next_deadline().expect("an account is held");
    assert_eq!(due, bench.now.after(Span(1)));
    bench.wait(Span(1));
    assert_eq!(booked(&mut bench), by_name(&[("l", (1, 3))]));
    assert_eq!(bench.engine.snapshot(bench.now).held_accounts, 0);
    let counts = NamingCounts { unnamed: 1, late: 1, ..NamingCounts::default() };
    assert_eq!(bench.engine.take_naming_counts(), counts);

    bench.engine.name_client(waiting, named("importer"), bench.now);
    bench.send(waiting, "get a\r\n");
    bench.settle();
    assert_eq!(booked(&mut bench), by_name(&[("importer", (1, 1))]), "what was booked stays where it is");
    bench.engine.check_invariants();
}

#[test]
fn a_connection_that_has_closed_is_named_only_by_what_was_read_before() {
    for (later, name) in [(Span(0), "importer"), (Span(1), "l")] {
        let mut bench = Bench::new(settings(1));
        let client = unnamed(&mut bench);
        bench.send(client, multiget(3_000));
        bench.settle();
        bench.engine.close_client(client, bench.now);
        bench.engine.check_invariants();
        // the slot is used again by somebody else, whose name is awaited as well
        let other = unnamed(&mut bench);
        assert_eq!(other.slot, client.slot);
        bench.send(other, "get a\r\n");
        bench.settle();
        assert_eq!(bench.engine.held_identity(client).expect("held").name, "l".into());

        bench.engine.name_client(client, named("importer"), bench.now.after(later));
        assert_eq!(booked(&mut bench), by_name(&[(name, (1, 3_000))]));
        bench.engine.name_client(other, named("other"), bench.now.after(later));
        assert_eq!(booked(&mut bench), by_name(&[("other", (1, 1))]));
        assert_eq!(bench.engine.held_identity(client), None);
        bench.engine.check_invariants();
    }
}

#[test]
fn too_many_accounts_are_booked_at_once_and_large_requests_find_room_all_the_same() {
    let mut bench = Bench::new(settings(1));
    for _ in 0..HELD_BY_SMALL_MAX {
        let client = unnamed(&mut bench);
        bench.engine.client_input(client, b"get a\r\n", bench.now);
    }
    let small = unnamed(&mut bench);
    bench.engine.client_input(small, b"get a b\r\n", bench.now);
    bench.settle();
    assert_eq!(booked(&mut bench), by_name(&[("l", (1, 2))]), "booked at once");
    assert_eq!(bench.engine.take_naming_counts().overflow, 1);

    let large = unnamed(&mut bench);
    bench.send(large, multiget(LARGE as usize + 1));
    bench.settle();
    assert_eq!(booked(&mut bench), BTreeMap::new());
    bench.engine.name_client(large, named("importer"), bench.now);
    assert_eq!(booked(&mut bench), by_name(&[("importer", (1, LARGE + 1))]));

    bench.engine.book_held();
    assert_eq!(booked(&mut bench), by_name(&[("l", (HELD_BY_SMALL_MAX as u64, 1))]));
    assert_eq!(bench.engine.snapshot(bench.now).held_accounts, 0);
    bench.engine.check_invariants();
}
