use super::*;
use crate::ledger::{GENERATION, Ledger};
use crate::units::Span;
use proptest::prelude::*;
use std::collections::{HashMap, HashSet};

fn statement(n: u64) -> Statement {
    let form = Form::new(&format!("select a from t{n} where k in ?"), n, &format!("t{n}"), true);
    Statement { form: Arc::new(form), keyspace: None }
}

fn entry(operations: u64, at: Instant) -> Entry {
    Entry {
        identity: 0,
        method: Method(0),
        operations,
        chunks: 1,
        backend_operations: operations,
        hits: operations / 2,
        misses: 0,
        coalesced: 0,
        bytes_in: 100,
        bytes_out: 200,
        queue_wait: Span(0),
        backend_time: Span(operations * 10),
        total: Span(operations * 10),
        outcome: Outcome::Ok,
        at,
        sent_to: None,
    }
}

const DOOR: ListenerId = ListenerId(0);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whoever_does_much_is_listed_and_nothing_is_lost(
        stream in prop::collection::vec((0u32..4, prop_oneof![0u64..8, 0u64..600], 1u64..20_000), 0..1_500),
        turn in 0usize..1_500,
    ) {
        let mut hitters = StatementHitters::default();
        let mut exact: HashMap<(u32, u64), StatementTally> = HashMap::new();
        let mut all = Sums::default();
        for (i, (caller, n, operations)) in stream.iter().enumerate() {
            if i == turn {
                hitters.rotate();
            }
            let entry = entry(*operations, Instant(i as u64));
            hitters.record(&entry, &format!("caller-{caller}").into(), DOOR, &statement(*n));
            exact.entry((*caller, *n)).or_default().record(&entry);
            all.record(&entry);
        }
        let (rows, sums) = hitters.list();
        prop_assert_eq!(sums, all);
        prop_assert!(rows.len() <= 4 * STATEMENT_COUNTERS);
        let bound = 2 * all.work / STATEMENT_COUNTERS as u64; // of two generations
        let mut rest = all;
        let by_name: HashMap<(String, String), &StatementTally> =
            exact.iter().map(|((caller, n), tally)| ((format!("caller-{caller}"), format!("t{n}")), tally)).collect();
        let mut listed = HashSet::new();
        for row in &rows {
            let pair = (row.name.to_string(), row.statement.table());
            let exact = by_name.get(&pair).expect("a pair that was asked");
            prop_assert!(listed.insert(pair), "listed once");
            prop_assert!(row.tally.sums.work <= exact.sums.work, "never more than it did");
            prop_assert!(exact.sums.work - row.tally.sums.work <= bound, "{:?} of {exact:?}", row.tally);
            rest = rest.without(&row.tally.sums);
        }
        prop_assert!(rest.requests + rows.iter().map(|row| row.tally.sums.requests).sum::<u64>() == all.requests);
        for (pair, exact) in &by_name {
            prop_assert!(listed.contains(pair) || exact.sums.work <= bound, "{pair:?} is missing");
        }
    }
}

#[test]
fn the_statement_that_takes_time_is_listed_beside_those_that_do_work() {
    let mut hitters = StatementHitters::default();
    let slow = Entry { backend_time: Span(5_000_000), operations: 1, ..entry(1, Instant(0)) };
    let name: Arc<str> = "reports".into();
    hitters.record(&slow, &name, DOOR, &statement(9_999));
    for n in 0..2 * STATEMENT_COUNTERS as u64 {
        hitters.record(&entry(1_000, Instant(0)), &name, DOOR, &statement(n));
    }
    let (rows, _) = hitters.list();
    assert!(rows.iter().any(|row| row.statement == statement(9_999)), "one request of five seconds");
}

#[test]
fn forms_are_told_apart_by_caller_door_method_and_keyspace() {
    let mut hitters = StatementHitters::default();
    let name: Arc<str> = "appview".into();
    let posts = Form::new("select a from posts where k = ?", 1, "posts", true);
    let plain = Statement { form: Arc::new(posts), keyspace: None };
    let in_a = Statement { keyspace: Some("a".into()), ..plain.clone() };
    let in_b = Statement { keyspace: Some("b".into()), ..plain.clone() };
    for statement in [&plain, &in_a, &in_b, &in_a] {
        hitters.record(&entry(3, Instant(0)), &name, DOOR, statement);
    }
    hitters.record(&entry(3, Instant(0)), &name, ListenerId(1), &plain);
    hitters.record(&Entry { method: Method(4), ..entry(3, Instant(0)) }, &name, DOOR, &plain);
    hitters.record(&entry(3, Instant(0)), &"feed".into(), DOOR, &plain);
    let (rows, _) = hitters.list();
    assert_eq!(rows.len(), 6);
    let of_a = rows.iter().find(|row| row.statement == in_a).expect("listed");
    assert_eq!((of_a.tally.sums.requests, of_a.statement.table().as_str()), (2, "a.posts"));
}

#[test]
fn medians_rates_and_the_largest_are_of_the_requests() {
    let mut ledger = Ledger::new(1);
    let (name, statement): (Arc<str>, _) = ("appview".into(), statement(1));
    for (at, operations) in [(1_000_000, 1), (1_100_000, 15_000), (1_900_000, 90), (2_000_000, 70)] {
        ledger.record_statement(&entry(operations, Instant(at)), &name, DOOR, Some(&statement));
    }
    let (rows, all) = ledger.statements();
    let tally = &rows[0].tally;
    assert_eq!((tally.largest, tally.median(), tally.sums.requests), (15_000, 100, 4));
    assert_eq!(tally.last_second(Instant(2_500_000)), (3, 15_091));
    assert_eq!(tally.last_second(Instant(4_500_000)), (0, 0));
    assert_eq!((all.operations, all.rows), (15_161, 7_580));
    assert_eq!(ledger.expensive().next().map(|kept| kept.statement.clone()), Some(Some(statement.clone())));
    // two generations later they are forgotten
    let later = Instant(0).after(Span(3 * GENERATION.0));
    ledger.record_statement(&entry(5, later), &name, DOOR, Some(&statement));
    assert_eq!(ledger.statements().1.operations, 5);
}

#[test]
fn texts_are_cut_and_say_so() {
    let long = Form::new(&"é".repeat(1_000), 0, "t", true);
    assert!(long.text.len() <= STATEMENT_TEXT_MAX && long.text.ends_with("é..."));
    assert_eq!(&*Form::new("select a from", 0, "", false).text, "select a from...");
}
