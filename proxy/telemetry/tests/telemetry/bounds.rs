//! However many names arrive, the number of series stays; however labels are spelt, two series stay two.

use crate::sample::{self, Turn};
use proptest::prelude::*;
use std::sync::LazyLock;
use weir_telemetry::labels::{INVALID, OTHER, is_valid_name};
use weir_telemetry::*;

/// More fixed words than any cap.
static WORDS: LazyLock<Vec<String>> = LazyLock::new(|| (0..400).map(|i| format!("word{i}")).collect());

fn series(telemetry: &Telemetry) -> usize {
    telemetry.render(None, Seconds(0)).body.lines().filter(|line| !line.starts_with('#')).count()
}

fn value(telemetry: &Telemetry, series: &str) -> Option<f64> {
    let page = telemetry.render(None, Seconds(0)).body;
    let line =
        page.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')))?;
    line.rsplit(' ').next()?.parse().ok()
}

fn one_get(telemetry: &Telemetry, caller: &str, operations: u64) {
    let caller = telemetry.caller(caller, Seconds(0));
    Turn::default().ended(Outcome::Ok, operations).fold(caller.method(MethodIdx(0)), Seconds(0));
}

#[test]
fn a_million_names_keep_the_series_count() {
    let telemetry = Telemetry::new(TelemetryConfig {
        configured_callers: vec!["appview".to_owned()],
        ..sample::config()
    });
    telemetry.set_default_limits(
        ShownLimits::new(LimitMode::Observe).with(LimitKind::OperationsPerRequest, Some(2_000)),
    );
    (0..70).for_each(|i| one_get(&telemetry, &format!("caller-{i}"), 1));
    one_get(&telemetry, "\u{1b}[2J", 1);
    let before = series(&telemetry);
    for i in 0..1_000_000u32 {
        let caller = telemetry.caller(&format!("stranger-{i}"), Seconds(0));
        assert_eq!(caller.name(), OTHER);
    }
    (0..1_000u32).for_each(|i| one_get(&telemetry, &format!("stranger-{i}"), 3));
    assert_eq!(series(&telemetry), before);
    // 63 strangers found a slot beside the configured caller: 7 of 70 did not, and nobody later.
    let overflow = value(&telemetry, "weir_label_overflow_total{label=\"caller\"}");
    assert_eq!(overflow, Some(7.0 + 1_000_000.0 + 1_000.0));
    let other = "weir_requests_total{caller=\"_other\",protocol=\"memcached\",method=\"get\",outcome=\"ok\"}";
    assert_eq!(value(&telemetry, other), Some(1_007.0), "totals stay right");
    assert_eq!(
        telemetry.caller("appview", Seconds(0)).name(),
        "appview",
        "a configured caller keeps its slot"
    );
}

#[test]
fn a_configured_caller_finds_a_slot_even_when_strangers_took_all() {
    let telemetry = Telemetry::new(sample::config());
    (0..70).for_each(|i| one_get(&telemetry, &format!("caller-{i}"), 1));
    telemetry.configure_callers(["late"]);
    telemetry.set_caller_limits("capped-by-hand", Some(ShownLimits::new(LimitMode::Refuse)));
    assert_eq!(telemetry.caller("late", Seconds(0)).name(), "late");
    assert_eq!(telemetry.caller("capped-by-hand", Seconds(0)).name(), "capped-by-hand");
}

#[test]
fn label_sets_that_join_to_the_same_text_stay_apart() {
    // The `prometheus` crate 0.14 exports these two as one series with the value 11 (decision 0001).
    let telemetry = Telemetry::new(sample::config());
    telemetry.set_override("ab", "c", true);
    telemetry.set_override("a", "bc", true);
    let caller = telemetry.caller("ab", Seconds(0));
    caller.backend_operations(&telemetry.backend("c"), 1);
    let caller = telemetry.caller("a", Seconds(0));
    caller.backend_operations(&telemetry.backend("bc"), 10);
    assert_eq!(value(&telemetry, "weir_override_active{kind=\"ab\",target=\"c\"}"), Some(1.0));
    assert_eq!(value(&telemetry, "weir_override_active{kind=\"a\",target=\"bc\"}"), Some(1.0));
    assert_eq!(value(&telemetry, "weir_backend_operations_total{caller=\"ab\",backend=\"c\"}"), Some(1.0));
    assert_eq!(value(&telemetry, "weir_backend_operations_total{caller=\"a\",backend=\"bc\"}"), Some(10.0));
}

#[test]
fn configured_callers_start_at_zero() {
    let telemetry = Telemetry::new(TelemetryConfig {
        configured_callers: vec!["appview".to_owned()],
        ..sample::config()
    });
    for outcome in ["ok", "refused"] {
        let name = "weir_requests_total{caller=\"appview\",protocol=\"memcached\",method=\"get\"";
        assert_eq!(value(&telemetry, &format!("{name},outcome=\"{outcome}\"}}")), Some(0.0));
    }
    let class = "weir_operations_total{caller=\"appview\",protocol=\"memcached\",size_class=\"10001+\"}";
    assert_eq!(value(&telemetry, class), Some(0.0));
    let max = "weir_request_operations_max{caller=\"appview\",method=\"get\"}";
    assert_eq!(value(&telemetry, max), Some(0.0));
    let seen = "weir_caller_first_seen_timestamp_seconds{caller=\"appview\"}";
    assert_eq!(value(&telemetry, seen), None, "configured is not seen");
    telemetry.caller("appview", Seconds(5));
    assert_eq!(value(&telemetry, seen), Some(sample::STARTED as f64 + 5.0));
    telemetry.caller("appview", Seconds(9));
    assert_eq!(value(&telemetry, seen), Some(sample::STARTED as f64 + 5.0));
}

#[test]
fn limits_are_shown_for_everybody() {
    let telemetry = Telemetry::new(sample::config());
    let ceiling = |caller: &str| {
        value(&telemetry, &format!("weir_limit{{caller=\"{caller}\",kind=\"operations_per_request\"}}"))
    };
    let mode = |caller: &str, mode: &str| {
        value(&telemetry, &format!("weir_limit_mode{{caller=\"{caller}\",mode=\"{mode}\"}}"))
    };
    let limits = |mode, n| ShownLimits::new(mode).with(LimitKind::OperationsPerRequest, n);
    telemetry.caller("before", Seconds(0));
    telemetry.set_default_limits(limits(LimitMode::Observe, Some(2_000)));
    telemetry.caller("after", Seconds(0));
    for caller in ["before", "after", OTHER, INVALID] {
        assert_eq!((ceiling(caller), mode(caller, "observe")), (Some(2_000.0), Some(1.0)), "{caller}");
    }
    let rejected = "weir_rejected_total{caller=\"after\",reason=\"operations_per_request\",mode=\"refuse\"}";
    assert_eq!(value(&telemetry, rejected), None);
    telemetry.set_caller_limits("after", Some(limits(LimitMode::Refuse, Some(1_000))));
    assert_eq!(
        (ceiling("after"), mode("after", "refuse"), mode("after", "observe")),
        (Some(1_000.0), Some(1.0), None)
    );
    assert_eq!(value(&telemetry, rejected), Some(0.0), "the first rejection must be an increase");
    telemetry.set_default_limits(limits(LimitMode::Observe, None));
    assert_eq!((ceiling("before"), ceiling("after")), (None, Some(1_000.0)));
    telemetry.set_caller_limits("after", None);
    assert_eq!((ceiling("after"), mode("after", "observe")), (None, Some(1.0)));
}

#[test]
fn what_was_asked_shows_before_the_request_ends() {
    let telemetry = Telemetry::new(sample::config());
    let caller = telemetry.caller("importer", Seconds(3));
    Turn::default().asked(15_000).fold(caller.method(MethodIdx(0)), Seconds(3));
    assert_eq!(
        value(&telemetry, "weir_request_operations_max{caller=\"importer\",method=\"get\"}"),
        Some(15_000.0)
    );
    assert_eq!(value(&telemetry, "weir_request_operations_count{caller=\"importer\"}"), Some(0.0));
    // Refused: asked and counted, and no operation reached a backend.
    Turn::default().ended(Outcome::Refused, 15_000).fold(caller.method(MethodIdx(0)), Seconds(3));
    assert_eq!(value(&telemetry, "weir_request_operations_sum{caller=\"importer\"}"), Some(15_000.0));
    assert_eq!(value(&telemetry, "weir_queue_wait_seconds_count{caller=\"importer\"}"), Some(0.0));
}

#[test]
fn methods_of_both_protocols_have_their_own_series() {
    let telemetry = Telemetry::new(sample::config());
    let write = telemetry.method_index("other", "write").expect("listed");
    assert_eq!(write, MethodIdx(5));
    assert_eq!(telemetry.method_name(write), "write");
    assert_eq!(telemetry.method_index("memcached", "write"), None);
    Turn::default().ended(Outcome::Ok, 101).fold(telemetry.caller("a", Seconds(0)).method(write), Seconds(0));
    let operations = "weir_operations_total{caller=\"a\",protocol=\"other\",size_class=\"101-1000\"}";
    assert_eq!(value(&telemetry, operations), Some(101.0));
    // An index nobody handed out does not panic.
    telemetry.caller("a", Seconds(0)).method(MethodIdx(u16::MAX));
}

#[test]
fn guards_pair_the_gauges() {
    let telemetry = Telemetry::new(sample::config());
    let backend = telemetry.backend("127.0.0.1:11211");
    let state = |s: &str| {
        value(&telemetry, &format!("weir_backend_connections{{backend=\"127.0.0.1:11211\",state=\"{s}\"}}"))
    };
    let mut connection = backend.connection(ConnectionState::Connecting);
    assert_eq!((state("connecting"), state("ready")), (Some(1.0), Some(0.0)));
    connection.set(ConnectionState::Ready);
    assert_eq!((state("connecting"), state("ready")), (Some(0.0), Some(1.0)));
    drop(connection);
    assert_eq!((state("connecting"), state("ready")), (Some(0.0), Some(0.0)));

    let listener = telemetry.listener("cache");
    let closes = |how: &str| {
        value(&telemetry, &format!("weir_client_closes_total{{listener=\"cache\",how=\"{how}\"}}"))
    };
    let (lost, ended) = (listener.accepted(), listener.accepted());
    ended.closed(CloseHow::Client, 2);
    drop(lost);
    assert_eq!((closes("client"), closes("panic")), (Some(1.0), Some(1.0)));
    assert_eq!(value(&telemetry, "weir_client_connections{listener=\"cache\"}"), Some(0.0));
    assert_eq!(value(&telemetry, "weir_client_short_connections_total{listener=\"cache\"}"), Some(0.0));
}

#[test]
fn words_of_weir_cannot_be_declared() {
    assert!(!is_valid_name(OTHER) && !is_valid_name(INVALID));
    let telemetry = Telemetry::new(sample::config());
    assert_eq!(telemetry.caller(OTHER, Seconds(0)).name(), INVALID);
}

#[test]
fn causes_bounds_and_overrides_are_capped() {
    let telemetry = Telemetry::with_event_sink(sample::config(), Box::new(sample::Sink::default()));
    let word = |i: u32| -> &'static str { &WORDS[i as usize] };
    let fill = |from: u32| {
        for i in from..from + 200 {
            telemetry.listener("cache").invalid(word(i), 1);
            telemetry.set_bound(word(i), 1.0);
            telemetry.set_override("limits", word(i), true);
            telemetry.events().emit(&Event::new(Severity::Info, word(i), "x"), Seconds(0));
            telemetry.backend(word(i));
            let _ = telemetry.worker(i as usize);
        }
    };
    fill(0);
    let before = series(&telemetry);
    fill(200);
    assert_eq!(series(&telemetry), before);
    telemetry.set_override("limits", "word0", false);
    assert_eq!(series(&telemetry), before - 1);
}

proptest! {
    #[test]
    fn the_name_rule_is_the_documented_one(name in "[A-Za-z0-9._:/@-]{1,64}") {
        prop_assert_eq!(is_valid_name(&name), name != OTHER && name != INVALID);
    }

    #[test]
    fn no_name_breaks_the_exposition(name in any::<String>()) {
        let telemetry = Telemetry::new(sample::config());
        one_get(&telemetry, &name, 3);
        telemetry.backend(&name);
        let page = telemetry.render(None, Seconds(0)).body;
        for line in page.split('\n').filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let value = line.rsplit(' ').next().unwrap_or_default();
            prop_assert!(value.parse::<f64>().is_ok(), "{:?}", line);
        }
    }

    /// Whatever is folded, the totals of requests, histogram and size classes agree.
    #[test]
    fn totals_agree(requests in prop::collection::vec((0usize..Outcome::COUNT, 0u64..50_000), 0..60)) {
        let telemetry = Telemetry::new(sample::config());
        let caller = telemetry.caller("a", Seconds(0));
        for turn in requests.chunks(7) {
            let turn = turn.iter().fold(Turn::default(), |turn, request| turn.ended(Outcome::ALL[request.0], request.1));
            turn.fold(caller.method(MethodIdx(0)), Seconds(0));
        }
        let page = telemetry.render(None, Seconds(0)).body;
        let sum = |prefix: &str| -> f64 {
            let lines = page.lines().filter(|line| line.starts_with(prefix) && line.contains("caller=\"a\""));
            lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
        };
        let operations = requests.iter().map(|r| r.1).sum::<u64>() as f64;
        prop_assert_eq!(sum("weir_requests_total"), requests.len() as f64);
        prop_assert_eq!(sum("weir_request_operations_count"), requests.len() as f64);
        prop_assert_eq!(sum("weir_request_operations_sum"), operations);
        prop_assert_eq!(sum("weir_operations_total"), operations);
        prop_assert_eq!(sum("weir_bytes_total"), operations * 430.0);
        let largest = requests.iter().map(|r| r.1).max().unwrap_or(0) as f64;
        prop_assert_eq!(sum("weir_request_operations_max"), largest);
    }
}
