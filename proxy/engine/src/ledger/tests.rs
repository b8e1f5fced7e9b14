use super::*;
use proptest::prelude::*;
use weir_memcached::Verb;

fn entry(identity: u32, operations: u64, at: u64) -> Entry {
    Entry {
        identity,
        method: Verb::Get.into(),
        operations,
        chunks: operations.div_ceil(128) as u32,
        backend_operations: operations,
        hits: operations,
        misses: 0,
        coalesced: 0,
        bytes_in: 10 * operations,
        bytes_out: 100 * operations,
        queue_wait: Span(0),
        backend_time: Span(200),
        total: Span(300),
        outcome: Outcome::Ok,
        at: Instant(at),
        sent_to: None,
    }
}

fn record(ledger: &mut Ledger, entry: &Entry) {
    ledger.record(entry, &format!("caller-{}", entry.identity).into(), ListenerId(0));
}

fn folded(ledger: &mut Ledger) -> Vec<u32> {
    let mut seen = Vec::new();
    ledger.fold(|identity, _| seen.push(identity));
    seen
}

#[test]
fn a_fold_shows_each_change_once() {
    let mut ledger = Ledger::new(1);
    assert!(!ledger.is_dirty());
    record(&mut ledger, &entry(3, 200, 0));
    record(&mut ledger, &entry(3, 17_500, 1));
    let refused =
        Entry { outcome: Outcome::Refused, chunks: 0, method: Verb::Delete.into(), ..entry(3, 1, 2) };
    record(&mut ledger, &refused);
    ledger.over_limit(3, LimitKind::OperationsPerRequest, LimitMode::Observe);
    ledger.flush_all(5, FlushEnd::Refused);
    ledger.flush_all(5, FlushEnd::Failed);
    ledger.noreply_dropped(2);
    assert!(ledger.is_dirty());

    let mut seen = Vec::new();
    let request = ledger.expensive().next().map(|expensive| expensive.request);
    ledger.fold(|identity, tally| {
        seen.push(identity);
        if identity == 5 {
            let ends = [FlushEnd::Sent, FlushEnd::Refused, FlushEnd::Failed];
            assert_eq!(ends.map(|end| tally.flushes(end)), [0, 1, 1]);
            assert!(!tally.is_empty());
            return;
        }
        let tallies: Vec<_> = tally.tallies().collect();
        let &[(first, get), (second, delete)] = tallies.as_slice() else {
            panic!("{tallies:?}");
        };
        assert_eq!((first, second), (Verb::Get.into(), Verb::Delete.into()));
        assert_eq!((get.requests[Outcome::Ok.index()], get.operations, get.chunks), (2, 17_700, 139));
        assert_eq!(get.size_class_operations, [0, 0, 0, 200, 0, 17_500]);
        assert_eq!((get.durations.count(), get.durations.sum()), (2, 600));
        assert_eq!((get.queue_waits.count(), get.largest), (2, 17_500));
        assert_eq!(get.exemplar.map(|exemplar| exemplar.request), request);
        assert_eq!((delete.requests[Outcome::Refused.index()], delete.queue_waits.count()), (1, 0));
        let over: Vec<_> = tally.over_limits().collect();
        assert_eq!(over, [(LimitKind::OperationsPerRequest, LimitMode::Observe, 1)]);
    });
    assert_eq!(seen, [3, 5]);
    assert_eq!(ledger.take_noreply_dropped(), 2);
    assert!(!ledger.is_dirty());

    record(&mut ledger, &entry(3, 7, 3));
    ledger.fold(|_, tally| {
        let operations: Vec<_> = tally.tallies().map(|(_, tally)| tally.operations).collect();
        assert_eq!((operations, tally.over_limits().count()), (vec![7], 0));
    });
}

#[test]
fn what_was_asked_shows_before_the_request_ends() {
    let mut ledger = Ledger::new(1);
    ledger.asked(0, Verb::Get, 20_000);
    ledger.asked(0, Verb::Get, 3);
    ledger.fold(|_, tally| {
        let seen: Vec<_> = tally.tallies().map(|(_, t)| (t.largest, t.exemplar, t.requests)).collect();
        assert_eq!(seen, [(20_000, None, [0; Outcome::COUNT])]);
    });
}

#[test]
fn a_retired_slot_is_reusable_after_the_next_fold_only() {
    let mut ledger = Ledger::new(1);
    let mut reusable = Vec::new();
    record(&mut ledger, &entry(2, 1, 0));
    ledger.retire(2);
    ledger.take_reusable(&mut reusable);
    assert_eq!(reusable, []);
    let mut shown = Vec::new();
    ledger.fold(|identity, tally| shown.push((identity, tally.retired(), tally.tallies().count())));
    assert_eq!(shown, [(2, true, 1)]);
    ledger.take_reusable(&mut reusable);
    assert_eq!(reusable, [2]);

    // without traffic it is shown as well, so that the driver learns of it
    ledger.retire(2);
    ledger.revive(2);
    assert_eq!(folded(&mut ledger), [2]);
    ledger.take_reusable(&mut reusable);
    assert_eq!(reusable, [2], "a revived identity keeps its slot");
    ledger.retire(2);
    assert_eq!(folded(&mut ledger), [2]);
    ledger.take_reusable(&mut reusable);
    assert_eq!(reusable, [2, 2]);
}

#[test]
fn generations_pass_with_time() {
    let minutes = |n: u64| n * 60_000_000;
    let mut ledger = Ledger::new(1);
    record(&mut ledger, &entry(1, 20_000, minutes(1)));
    record(&mut ledger, &entry(2, 5, minutes(7)));
    let names =
        |ledger: &Ledger| ledger.heavy_hitters().iter().map(|h| h.name.to_string()).collect::<Vec<_>>();
    assert_eq!(names(&ledger), ["caller-1", "caller-2"]);
    assert_eq!(ledger.expensive().count(), 2);
    record(&mut ledger, &entry(3, 5, minutes(13)));
    assert_eq!(names(&ledger), ["caller-2", "caller-3"]);
    record(&mut ledger, &entry(4, 5, minutes(60)));
    assert_eq!(names(&ledger), ["caller-4"], "an idle hour forgets both generations");
    assert_eq!(ledger.expensive().count(), 1);
}

proptest! {
    #[test]
    fn the_largest_requests_are_kept(sizes in prop::collection::vec(1u64..30_000, 0..400)) {
        let mut ledger = Ledger::new(9);
        for (i, size) in sizes.iter().enumerate() {
            record(&mut ledger, &entry(0, *size, i as u64));
        }
        let mut largest = sizes.clone();
        largest.sort_unstable_by(|a, b| b.cmp(a));
        largest.truncate(expensive::KEPT);
        prop_assert_eq!(ledger.expensive().map(|e| e.entry.operations).collect::<Vec<_>>(), largest);
    }
}
