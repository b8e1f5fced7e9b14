//! Who is held to what, and what a refused call is told.

use crate::bench::{Bench, GET_POSTS, body, ok, settings, who};
use std::sync::Arc;
use weir_engine::error::LimitKind;
use weir_engine::ledger::Outcome;
use weir_engine::rpc::{Event, Head, Protocol, Verdict, Why};
use weir_engine::settings::{CallerLimits, LimitMode, Settings};
use weir_engine::units::{Operations, Span};

fn limited(settings: &mut Settings, name: &str, change: impl FnOnce(&mut CallerLimits)) {
    let mut limits = CallerLimits { mode: LimitMode::Refuse, ..CallerLimits::default() };
    change(&mut limits);
    settings.callers.insert(name.into(), limits);
}

#[test]
fn a_request_over_its_ceiling_is_told_who_asked_what_and_when_to_come_back() {
    let mut bench = Bench::new(settings(|settings| {
        limited(settings, "uid:7", |limits| limits.operations_per_request = Some(Operations(2_000)));
    }));
    let (call, verdict) = bench.ask("uid:7", 15_000);
    let Verdict::Refuse(refusal) = verdict else { panic!("{verdict:?}") };
    assert_eq!((&*refusal.caller, &*refusal.method), ("uid:7", GET_POSTS));
    assert_eq!((refusal.asked, refusal.ceiling, refusal.retry_after_ms()), (15_000, 2_000, 60_000));
    assert_eq!(refusal.why, Why::Limit(LimitKind::OperationsPerRequest));
    assert_eq!(bench.engine.counted(call, &body(1), bench.now), Verdict::Gone);
    let [(name, tally)] = &bench.tallies()[..] else { panic!("one caller, one method") };
    assert_eq!((name.as_str(), tally.largest, tally.backend_operations), ("uid:7", 15_000, 0));
    assert_eq!(tally.requests[Outcome::Refused.index()], 1);
    bench.engine.check_quiet();
}

#[test]
fn a_declared_name_selects_a_limit_only_where_it_is_trusted() {
    for trusted in [false, true] {
        let mut bench = Bench::new(settings(|settings| {
            limited(settings, "feedgen", |limits| limits.operations_per_request = Some(Operations(10)));
            if trusted {
                settings.listeners[0].trusted_names.push("feedgen".into());
            }
        }));
        let call = bench.begin_as(&who("uid:7", "feedgen"), GET_POSTS).expect("begun");
        let verdict = bench.engine.counted(call, &body(11), bench.now);
        assert_eq!(matches!(verdict, Verdict::Refuse(_)), trusted, "{verdict:?}");
    }
}

#[test]
fn undeclared_names_of_a_principal_share_its_budget() {
    let mut bench = Bench::new(settings(|settings| {
        limited(settings, "uid:7", |limits| limits.operations_in_flight = Some(Operations(60)));
    }));
    let calls: Vec<_> = ["a", "b", "c"].map(|name| who("uid:7", name)).into_iter().collect();
    let mut verdicts = Vec::new();
    for identity in &calls {
        let call = bench.begin_as(identity, GET_POSTS).expect("begun");
        verdicts.push((call, bench.engine.counted(call, &body(30), bench.now)));
    }
    assert!(matches!(verdicts[0].1, Verdict::Forward(_)) && matches!(verdicts[1].1, Verdict::Forward(_)));
    let Verdict::Refuse(refusal) = &verdicts[2].1 else { panic!("{:?}", verdicts[2]) };
    assert_eq!((&*refusal.caller, refusal.asked, refusal.ceiling), ("c", 30, 60));
    bench.answered(verdicts[0].0, &ok(30, 0));
    let call = bench.begin_as(&calls[2], GET_POSTS).expect("begun");
    assert!(matches!(bench.engine.counted(call, &body(30), bench.now), Verdict::Forward(_)));
}

#[test]
fn a_rate_is_waited_out_and_then_refused_with_the_time_that_is_left() {
    let mut bench = Bench::new(settings(|settings| {
        limited(settings, "uid:7", |limits| {
            limits.operations_per_second = Some(Operations(100));
            limits.mode = LimitMode::Pace;
        });
    }));
    assert!(matches!(bench.ask("uid:7", 150).1, Verdict::Split { .. }), "a burst of a second, and debt");
    let (call, verdict) = bench.ask("uid:7", 1);
    let Verdict::Wait { until } = verdict else { panic!("{verdict:?}") };
    assert_eq!(until, bench.now.after(Span::millis(250)), "pace_max_wait");
    bench.now = until;
    let Verdict::Refuse(refusal) = bench.engine.counted(call, &body(1), bench.now) else { panic!("refused") };
    assert_eq!(refusal.retry_after_ms(), 250, "half a second of debt, half of it waited");
    bench.after(Span::millis(250));
    assert!(matches!(bench.ask("uid:7", 1).1, Verdict::Forward(_)));
}

#[test]
fn what_only_the_answer_reveals_is_charged() {
    for (reply_keys, bytes) in [(1_000, 0), (0, 1_000 << 14)] {
        let mut bench = Bench::new(settings(|settings| {
            limited(settings, "uid:7", |limits| limits.operations_per_second = Some(Operations(500)));
        }));
        let (call, _) = bench.ask("uid:7", 1);
        bench.answered(call, &ok(reply_keys, bytes));
        let Verdict::Refuse(refusal) = bench.ask("uid:7", 1).1 else { panic!("in debt") };
        assert_eq!(refusal.retry_after_ms(), 1_000, "a thousand at 500 a second, a burst of 500");
        let mut seen = Vec::new();
        bench.engine.take_method_counts(|method, counts| {
            seen.push((method.to_string(), counts.reply_keys.sum(), counts.reply_keys.count()));
        });
        assert_eq!(seen, [(GET_POSTS.to_owned(), reply_keys, 1)]);
    }
}

#[test]
fn observe_counts_and_refuses_nothing_and_a_switch_does_not_even_count() {
    for switched_on in [true, false] {
        let mut bench = Bench::new(settings(|settings| settings.listeners[0].switches.limits = switched_on));
        assert!(matches!(bench.ask("uid:7", 20_000).1, Verdict::Split { chunks: 200, chunk_keys: 100 }));
        let mut over = 0;
        bench.engine.fold(|_, _, tally| over += tally.over_limits().count());
        assert_eq!(over, usize::from(switched_on));
    }
}

#[test]
fn one_call_too_many_is_refused_before_it_is_read() {
    let mut bench = Bench::new(settings(|settings| settings.services[0].calls_max = 2));
    let first = bench.begin("a");
    bench.begin("b");
    let refusal = bench.begin_as(&who("c", "c"), GET_POSTS).expect_err("full");
    assert_eq!((refusal.why, refusal.ceiling), (Why::CallsMax, 2));
    bench.engine.cancelled(first, bench.now);
    bench.begin("c");
    bench.engine.check_invariants();
}

#[test]
fn a_call_without_a_deadline_gets_one_and_no_client_sets_an_endless_one() {
    let mut bench = Bench::new(settings(|_| {}));
    let identity = who("a", "a");
    let begun = |bench: &mut Bench, deadline| {
        let head = Head { identity: &identity, protocol: Protocol::Http, method: "x", deadline };
        bench.engine.begin(&head, bench.now).expect("begun")
    };
    let now = bench.now;
    assert_eq!(begun(&mut bench, None).deadline, now.after(Span::secs(30)), "request_timeout");
    let endless = now.after(Span::secs(1 << 30));
    assert_eq!(begun(&mut bench, Some(endless)).deadline, now.after(Span::secs(300)), "request_timeout_max");
    let soon = begun(&mut bench, Some(now.after(Span::millis(5))));
    assert_eq!(bench.engine.time_left(soon.call, now.after(Span::millis(2))), Some(Span::millis(3)));
    assert_eq!(bench.engine.next_deadline(), Some(soon.deadline));
    bench.now = soon.deadline;
    bench.engine.on_timer(bench.now);
    let ended = Event::Ended { call: soon.call, refusal: None, cancel: Vec::new() };
    assert_eq!(bench.events(), [ended], "its body never came");
    bench.engine.check_invariants();
}

#[test]
fn whole_calls_wait_in_weir_above_their_cap_and_not_for_ever() {
    let mut bench = Bench::new(settings(|settings| settings.services[0].calls_in_flight = 1));
    let (first, verdict) = bench.ask("a", 3);
    assert!(matches!(verdict, Verdict::Forward(_)));
    let (second, verdict) = bench.ask("b", 4);
    assert_eq!(verdict, Verdict::Queued);
    let (third, _) = bench.ask("c", 5);
    bench.after(Span::secs(1));
    bench.answered(first, &ok(3, 100));
    let starts = bench.starts();
    assert_eq!(starts.iter().map(|start| (start.part.call, start.keys)).collect::<Vec<_>>(), [(second, 4)]);
    bench.after(Span::secs(4));
    bench.engine.on_timer(bench.now);
    let [Event::Ended { call, refusal: Some(refusal), cancel }] = &bench.events()[..] else { panic!("one") };
    assert_eq!((*call, &refusal.why, cancel.len()), (third, &Why::QueueTimeout, 0));
    bench.answered(second, &ok(4, 100));
    let waits: u64 = bench.tallies().iter().map(|(_, tally)| tally.queue_waits.sum()).sum();
    assert_eq!(waits, 1_000_000, "the second waited for a second; the third never left");
    bench.engine.check_quiet();
}

#[test]
fn a_crowd_of_names_keeps_no_memory_of_its_own() {
    let mut bench = Bench::new(settings(|_| {}));
    for n in 0..2_000 {
        let identity = who("uid:7", &format!("name-{n}"));
        let call = bench.begin_as(&identity, GET_POSTS).expect("begun");
        bench.engine.counted(call, &body(1), bench.now);
        bench.engine.answered(call, &ok(1, 10), bench.now);
        bench.engine.fold(|_, _, _| {});
    }
    assert!(bench.engine.callers().len() <= 256, "{}", bench.engine.callers().len());
    let names: Vec<Arc<str>> = bench.engine.callers().iter().map(|c| c.identity.name.clone()).collect();
    assert!(names.contains(&"name-1999".into()));
    bench.engine.check_quiet();
}

#[test]
fn an_answer_that_is_at_hand_counts_against_limits_and_takes_no_place() {
    let mut bench = Bench::new(settings(|settings| {
        settings.services[0].calls_in_flight = 1;
        limited(settings, "uid:7", |limits| limits.operations_in_flight = Some(Operations(60)));
    }));
    let (busy, verdict) = bench.ask("uid:9", 1);
    assert!(matches!(verdict, Verdict::Forward(_)), "the only place is taken");
    let calls: Vec<_> = (0..3).map(|_| bench.begin("uid:7")).collect();
    for call in &calls[..2] {
        assert_eq!(bench.engine.kept(*call, &body(30), bench.now), Ok(()));
        bench.engine.check_invariants();
    }
    let refused = bench.engine.kept(calls[2], &body(30), bench.now);
    assert!(matches!(refused, Err(Verdict::Refuse(_))), "{refused:?}");
    assert_eq!(bench.engine.kept(calls[0], &body(30), bench.now), Err(Verdict::Gone), "once");
    for call in [calls[0], calls[1], busy] {
        bench.engine.answered(call, &ok(0, 10), bench.now);
    }
    let late = bench.begin("uid:7");
    assert_eq!(bench.engine.kept(late, &body(30), bench.now), Ok(()), "it was given back");
    bench.after(Span::secs(3_600));
    bench.engine.on_timer(bench.now);
    let tallies = bench.tallies();
    let tally = &tallies.iter().find(|(name, _)| name == "uid:7").expect("its own").1;
    assert_eq!((tally.requests[Outcome::Ok.index()], tally.requests[Outcome::Refused.index()]), (2, 1));
    assert_eq!((tally.requests[Outcome::Timeout.index()], tally.backend_operations), (1, 0));
    bench.events();
    bench.engine.check_quiet();
}
