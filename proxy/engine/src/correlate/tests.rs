//! The correlator against a model that keeps everything.

use super::*;
use crate::ledger::Outcome;
use crate::settings::{Address, Backend, ListenerSettings};
use crate::units::PoolId;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn id(n: u8) -> CorrelationId {
    CorrelationId([n; 16])
}

fn work(n: u8, leg: Leg, operations: u64, misses: u64, at: Instant) -> Work {
    Work {
        said: id(n).into(),
        leg,
        service: "dataplane".into(),
        operations,
        backend_operations: operations,
        hits: operations - misses,
        misses,
        coalesced: 0,
        chunks: 1,
        bytes_in: 10,
        bytes_out: 100 * operations,
        failed: false,
        at,
    }
}

fn at(seconds: u64) -> Instant {
    Instant(seconds * 1_000_000)
}

fn feed(correlator: &Arc<Correlator>, works: impl IntoIterator<Item = Work>) {
    let mut feed = Feed::default();
    feed.share(correlator);
    works.into_iter().for_each(|work| feed.push(|| work));
    feed.hand_over();
}

fn sums_of(correlator: &Correlator, caller: &str, origin: Origin) -> Option<Sums> {
    let sums = correlator.sums().into_iter().find(|sums| &*sums.caller == caller && sums.origin == origin);
    sums.map(|sums| sums.sums)
}

#[test]
fn where_nobody_takes_ids_only_sums_are_kept() {
    let correlator = Correlator::new(10, 1);
    let address = Address::Tcp { host: "127.0.0.1".into(), port: 11_211 };
    let listener = ListenerSettings::new("cache", address, Backend::Pool(PoolId(0)));
    let mut settings = Settings { listeners: vec![listener], ..Settings::default() };
    correlator.follow(&settings);
    assert!(!correlator.takes_ids());
    let caller: Arc<str> = "importer".into();
    (1..=3).for_each(|keys| correlator.rpc_counted(&caller, keys));
    let sums = sums_of(&correlator, "importer", Origin::Rpc).expect("its sums");
    assert_eq!((sums.requests, sums.rpc_keys), (3, 6));
    assert_eq!((correlator.counts(at(1)).tracked, correlator.largest(at(1))), (0, Vec::new()));

    // A crowd of names takes no more room than there is, and no call is lost.
    (0..2 * CALLERS_MAX).for_each(|n| correlator.rpc_counted(&format!("caller-{n}").into(), 1));
    let sums = correlator.sums();
    assert!(sums.len() <= CALLERS_MAX + 1, "{}", sums.len());
    assert_eq!(sums.iter().map(|sums| sums.sums.requests).sum::<u64>(), 3 + 2 * CALLERS_MAX as u64);

    settings.listeners[0].trusted_request_ids = vec!["service".into()];
    correlator.follow(&settings);
    assert!(correlator.takes_ids());
}

#[test]
fn one_request_is_told_from_the_rpc_to_the_rows() {
    let correlator = Arc::new(Correlator::new(10, 1));
    correlator.rpc_began(id(1), &"importer".into(), &"bsky.Service/GetPostRecords".into(), 15_000, at(1));
    feed(&correlator, [work(1, Leg::Cache, 15_000, 14_000, at(2)), work(1, Leg::Database, 14_000, 0, at(3))]);
    let end = RpcEnd { outcome: Outcome::Ok, chunks: 150, bytes_in: 9, bytes_out: 7_000_000, at: at(4) };
    correlator.rpc_ended(id(1), end);

    let found = correlator.find(id(1), at(5)).expect("it is remembered");
    let rpc = found.rpc.as_ref().expect("weir saw the RPC");
    assert_eq!((&*rpc.caller, rpc.calls, rpc.keys, rpc.end), ("importer", 1, 15_000, Some(end)));
    assert_eq!((found.cache.operations, found.cache.misses, found.database.hits), (15_000, 14_000, 14_000));
    assert_eq!((found.first_seen, found.last_seen), (at(1), at(4)));
    let sums = sums_of(&correlator, "importer", Origin::Rpc).expect("its sums");
    assert_eq!((sums.requests, sums.rpc_keys, sums.cache_operations), (1, 15_000, 15_000));
    assert_eq!((sums.cache_misses, sums.database_operations, sums.database_rows), (14_000, 14_000, 14_000));
    assert_eq!(sums_of(&correlator, "dataplane", Origin::Service), None, "it is the caller's work");
}

#[test]
fn without_an_rpc_the_work_is_the_service_s() {
    let correlator = Arc::new(Correlator::new(10, 1));
    feed(&correlator, [work(1, Leg::Cache, 5, 5, at(1)), work(1, Leg::Database, 5, 0, at(1))]);
    feed(&correlator, [work(2, Leg::Cache, 1, 0, at(1))]);
    let sums = sums_of(&correlator, "dataplane", Origin::Service).expect("its sums");
    assert_eq!((sums.requests, sums.rpc_keys, sums.cache_operations, sums.database_operations), (2, 0, 6, 5));
    // the end of an RPC that nobody began begins nothing
    let end = RpcEnd { outcome: Outcome::Ok, chunks: 1, bytes_in: 1, bytes_out: 1, at: at(1) };
    correlator.rpc_ended(id(9), end);
    assert_eq!(correlator.find(id(9), at(1)), None);
}

#[test]
fn every_principal_that_said_an_id_is_known_whoever_s_the_work_is() {
    let correlator = Arc::new(Correlator::new(10, 1));
    correlator.rpc_began(id(1), &"importer".into(), &"a.B/C".into(), 10, at(1));
    let named = |service: &str, leg: Leg| Work { service: service.into(), ..work(1, leg, 5, 0, at(1)) };
    feed(&correlator, [named("reads", Leg::Cache), named("reads-db", Leg::Database)]);
    let mut services = correlator.services();
    services.sort();
    assert_eq!(services, ["reads".into(), "reads-db".into()]);
    let many = (0..CALLERS_MAX * 2).map(|number| named(&format!("s{number}"), Leg::Cache));
    many.for_each(|work| feed(&correlator, [work]));
    assert_eq!(correlator.services().len(), CALLERS_MAX);
}

#[test]
fn a_fold_tells_what_is_new_once() {
    let correlator = Arc::new(Correlator::new(10, 1));
    feed(&correlator, [work(1, Leg::Cache, 5, 5, at(1))]);
    let told = |correlator: &Correlator| {
        let mut told = Vec::new();
        correlator
            .fold(|caller, origin, sums| told.push((caller.to_string(), origin, sums.cache_operations)));
        told
    };
    assert_eq!(told(&correlator), [("dataplane".to_owned(), Origin::Service, 5)]);
    assert_eq!(told(&correlator), []);
    feed(&correlator, [work(1, Leg::Cache, 2, 0, at(1))]);
    assert_eq!(told(&correlator), [("dataplane".to_owned(), Origin::Service, 2)]);
}

#[test]
fn a_busy_correlator_makes_nobody_wait_and_loses_nothing_within_the_bound() {
    let correlator = Arc::new(Correlator::new(10, 1));
    const MOST: usize = 1_000;
    correlator.set_notes_max(MOST);
    let mut feed = Feed::default();
    feed.share(&correlator);
    let busy = correlator.lock();
    for _ in 0..MOST + 3 {
        feed.push(|| work(1, Leg::Cache, 1, 0, at(1)));
        feed.hand_over(); // would never return if it waited
    }
    drop(busy);
    feed.hand_over_all();
    assert_eq!(
        sums_of(&correlator, "dataplane", Origin::Service).map(|sums| sums.cache_operations),
        Some(MOST as u64)
    );
    assert_eq!(correlator.counts(at(1)).dropped, 3);
    let busy = correlator.lock();
    for n in 0..RPC_NOTES * MOST + 2 {
        correlator.rpc_began(id(n as u8), &"a".into(), &"m".into(), 1, at(1));
    }
    drop(busy);
    assert_eq!(correlator.counts(at(1)).dropped, 5);
    assert_eq!(
        sums_of(&correlator, "a", Origin::Rpc).map(|sums| sums.requests),
        Some((RPC_NOTES * MOST) as u64)
    );
}

#[test]
fn the_oldest_make_room_and_the_largest_stay_longer() {
    let correlator = Arc::new(Correlator::new(2, 1));
    feed(&correlator, [work(1, Leg::Cache, 500, 0, at(1))]);
    feed(&correlator, [work(2, Leg::Cache, 1, 0, at(2)), work(3, Leg::Cache, 1, 0, at(3))]);
    assert_eq!(correlator.counts(at(3)), Counts { tracked: 2, evicted: 1, ..Counts::default() });
    assert!(correlator.find(id(1), at(4)).is_some(), "it was the largest");
    // 30 seconds after it was first heard of
    assert_eq!(correlator.counts(at(31)).tracked, 2);
    assert_eq!(correlator.counts(at(32)).tracked, 1);
    correlator.set_max(1);
    assert_eq!(correlator.counts(at(40)), Counts { evicted: 1, ..Counts::default() });
    assert_eq!(correlator.largest(at(40)).first().map(|tracked| tracked.id), Some(id(1)));
    assert_eq!(correlator.find(id(1), at(601)), None, "ten minutes are over");
}

/// An id that ends like others with this end.
fn with_end(front: u8, end: u8) -> CorrelationId {
    let mut id = [end; 16];
    id[..8].fill(front);
    CorrelationId(id)
}

fn by_end(end: u8, operations: u64, at: Instant) -> Work {
    Work { said: Said::Mark(with_end(0, end).mark()), ..work(0, Leg::Database, operations, 0, at) }
}

#[test]
fn the_end_of_an_id_means_the_one_request_that_has_it() {
    let correlator = Arc::new(Correlator::new(10, 1));
    let operations = |id, now| correlator.find(id, now).map_or(0, |found| found.database.operations);
    feed(&correlator, [by_end(5, 1, at(0))]);
    assert_eq!(correlator.counts(at(0)), Counts { unknown: 1, ..Counts::default() }, "nobody has it");
    // the RPC is taken in before the work it led to, and so is what the cache was told with the whole id
    correlator.rpc_began(with_end(1, 5), &"a".into(), &"m".into(), 3, at(1));
    feed(&correlator, [by_end(5, 2, at(1))]);
    feed(&correlator, [work(7, Leg::Cache, 1, 1, at(2)), by_end(7, 4, at(2))]);
    assert_eq!((operations(with_end(1, 5), at(2)), operations(id(7), at(2))), (2, 4));
    assert_eq!(sums_of(&correlator, "a", Origin::Rpc).map(|sums| sums.database_operations), Some(2));
    // two have it: whatever is said then is nobody's, before and after the third
    for front in [2, 3] {
        correlator.rpc_began(with_end(front, 5), &"b".into(), &"m".into(), 1, at(10 + u64::from(front)));
        feed(&correlator, [by_end(5, 8, at(20))]);
    }
    assert_eq!(
        correlator.counts(at(20)),
        Counts { tracked: 4, unknown: 1, ambiguous: 2, ..Counts::default() }
    );
    // the older ones leave: the last one is meant, then nobody
    feed(&correlator, [by_end(5, 16, at(41)), by_end(5, 32, at(42)), by_end(5, 64, at(43))]);
    assert_eq!(operations(with_end(3, 5), at(42)), 32);
    assert_eq!(correlator.counts(at(43)), Counts { unknown: 2, ambiguous: 3, ..Counts::default() });
    assert!(correlator.lock().table.has_no_ends());
}

#[test]
fn callers_beyond_the_bound_share_one_sum() {
    let correlator = Correlator::new(10, 1);
    for n in 0..totals::CALLERS_MAX as u64 + 50 {
        correlator.rpc_began(id(1), &format!("c{n}").into(), &"m".into(), 2, at(1));
    }
    let sums = correlator.sums();
    assert_eq!(sums.len(), totals::CALLERS_MAX + 1);
    assert_eq!(sums_of(&correlator, totals::OTHER, Origin::Rpc).map(|sums| sums.rpc_keys), Some(100));
}

#[derive(Clone, Debug)]
enum Step {
    Began(u8, u64),
    Work(u8, Leg, u64, u64),
    ByEnd(u8, u64),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0u8..12, 0u64..100).prop_map(|(id, keys)| Step::Began(id, keys)),
        (0u8..12, prop_oneof![Just(Leg::Cache), Just(Leg::Database)], 1u64..50, 0u64..50).prop_map(
            |(id, leg, operations, misses)| Step::Work(id, leg, operations, misses.min(operations))
        ),
        (0u8..12, 1u64..50).prop_map(|(id, operations)| Step::ByEnd(id, operations)),
        (0u64..12).prop_map(Step::Pass),
    ]
}

proptest! {
    /// Whatever happens in whatever order: never more than the bound, what is remembered is as long as its time and exact,
    /// and no operation is lost from the sums.
    #[test]
    fn it_is_bounded_and_exact(steps in prop::collection::vec(step(), 0..200), max in 1usize..8) {
        let correlator = Arc::new(Correlator::new(max, 3));
        let mut order: Vec<(u8, Instant)> = Vec::new();
        let mut sums: BTreeMap<u8, (u64, u64, u64)> = BTreeMap::new();
        let (mut now, mut all, mut lost) = (Instant(0), (0, 0), (0, 0));
        // every other pair of them ends alike
        let id_of = |n: u8| if n % 4 < 2 { with_end(n, n / 4) } else { id(n) };
        let expire = |order: &mut Vec<(u8, Instant)>, sums: &mut BTreeMap<u8, (u64, u64, u64)>, now: Instant| {
            while order.first().is_some_and(|(_, first)| now.since(*first) >= KEPT_FOR) {
                sums.remove(&order.remove(0).0);
            }
        };
        for step in steps {
            if let Step::Pass(seconds) = step {
                now = now.after(Span::secs(seconds));
                continue;
            }
            expire(&mut order, &mut sums, now);
            if let Step::ByEnd(n, operations) = step {
                feed(&correlator, [Work { said: Said::Mark(id_of(n).mark()), ..work(n, Leg::Database, operations, 0, now) }]);
                let mut alike = order.iter().filter(|(known, _)| id_of(*known).mark() == id_of(n).mark());
                match (alike.next(), alike.next()) {
                    (Some((one, _)), None) => {
                        sums.entry(*one).or_default().2 += operations;
                        all.1 += operations;
                    }
                    (None, _) => lost.0 += 1,
                    (Some(_), Some(_)) => lost.1 += 1,
                }
                continue;
            }
            let (Step::Began(n, _) | Step::Work(n, ..)) = step else { unreachable!() };
            if !order.iter().any(|(known, _)| *known == n) {
                if order.len() == max {
                    sums.remove(&order.remove(0).0);
                }
                order.push((n, now));
            }
            let own = sums.entry(n).or_default();
            match step {
                Step::Began(_, keys) => {
                    own.0 += keys;
                    all.0 += keys;
                    correlator.rpc_began(id_of(n), &"caller".into(), &"m".into(), keys, now);
                }
                Step::Work(_, leg, operations, misses) => {
                    if leg == Leg::Cache { own.1 += operations } else { own.2 += operations }
                    all.1 += operations;
                    feed(&correlator, [Work { said: id_of(n).into(), ..work(n, leg, operations, misses, now) }]);
                }
                Step::ByEnd(..) | Step::Pass(_) => {}
            }
        }
        expire(&mut order, &mut sums, now);
        // what waits is taken in with the time it happened at; only then is it late
        let told = correlator.sums();
        prop_assert_eq!(told.iter().map(|sums| sums.sums.rpc_keys).sum::<u64>(), all.0);
        let operations = told.iter().map(|sums| sums.sums.cache_operations + sums.sums.database_operations);
        prop_assert_eq!(operations.sum::<u64>(), all.1);
        let counts = correlator.counts(now);
        prop_assert_eq!((counts.tracked, counts.unknown, counts.ambiguous), (order.len() as u64, lost.0, lost.1));
        let mut state = correlator.lock();
        for (n, (keys, cache, database)) in sums {
            let tracked = state.table.get_mut(id_of(n)).expect("it is remembered");
            let asked = tracked.rpc.as_ref().map_or(0, |rpc| rpc.keys);
            prop_assert_eq!((asked, tracked.cache.operations, tracked.database.operations), (keys, cache, database));
        }
    }
}
