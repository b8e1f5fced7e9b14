//! What `weir-probes` shows of the readings it takes in.

use crate::catalogue::{is_the_catalogue, satisfies_promtool};

use std::borrow::Cow;
use std::time::Duration;
use weir_telemetry::catalogue::{MetricInfo, MetricKind, Values};
use weir_telemetry::labels::{INVALID, OTHER};
use weir_telemetry::probes::catalogue::*;
use weir_telemetry::probes::reading::{Buckets, Total};
use weir_telemetry::probes::{Fold, PROBES};
use weir_telemetry::{ProbesTelemetry, Reading};

const CACHE: &str = "127.0.0.1:11211";

fn telemetry() -> ProbesTelemetry {
    ProbesTelemetry::new("0.1.0", "unknown")
}

fn page(telemetry: &ProbesTelemetry) -> String {
    telemetry.render(None, Some(Duration::from_millis(1_500))).body
}

/// Lines that are samples.
fn samples(page: &str) -> usize {
    page.lines().filter(|line| !line.starts_with('#')).count()
}

/// The value of a series, spelt as on the page.
fn value(telemetry: &ProbesTelemetry, series: &str) -> Option<f64> {
    let page = page(telemetry);
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    Some(line.parse().expect("a number"))
}

fn text(text: &str) -> Cow<'_, str> {
    Cow::Borrowed(text)
}

/// `failures` failed binds of a process named `process` with this id.
fn error(of: u64, process: &str, failures: u64) -> Total<'_, 4> {
    Total {
        of,
        labels: [text("bind"), text("EADDRINUSE"), text(CACHE), text(process)],
        total: failures as f64,
    }
}

fn errors<'a>(telemetry: &ProbesTelemetry, rows: impl IntoIterator<Item = Total<'a, 4>>) {
    let mut reading = Reading::new();
    reading.counter(&SOCKET_ERRORS, rows);
    telemetry.update(reading);
}

fn errors_of(process: &str) -> String {
    format!(
        "weir_socket_errors_total{{call=\"bind\",errno=\"EADDRINUSE\",destination=\"{CACHE}\",process=\"{process}\"}}"
    )
}

/// A value that a label may hold, the first of its kind.
fn some_value(values: Values) -> &'static str {
    match values {
        Values::Listed(list) => list[0],
        _ => "a",
    }
}

fn add<const N: usize>(reading: &mut Reading<'_>, info: &'static MetricInfo) {
    let labels: [Cow<'_, str>; N] = std::array::from_fn(|at| text(some_value(info.labels[at].values)));
    match info.kind {
        MetricKind::Gauge => reading.gauge(info, Fold::Sum, [(labels, 0.25)]),
        MetricKind::Counter => reading.counter(info, [Total { of: 0, labels, total: 7.0 }]),
        MetricKind::Histogram => {
            let counts = Cow::Borrowed(&[1, 0, 2][..]);
            reading.histogram(info, &[0.5, 1.0], [Buckets { of: 0, labels, counts, sum: 9.5 }]);
        }
    }
}

/// A reading that tells of everything.
fn full() -> Reading<'static> {
    let mut reading = Reading::new();
    for info in OWN.iter().filter(|info| ![PICTURE_AGE.name, LABEL_OVERFLOW.name].contains(&info.name)) {
        match info.labels.len() {
            0 => add::<0>(&mut reading, info),
            1 => add::<1>(&mut reading, info),
            2 => add::<2>(&mut reading, info),
            3 => add::<3>(&mut reading, info),
            4 => add::<4>(&mut reading, info),
            labels => panic!("{} has {labels} labels", info.name),
        }
    }
    reading
}

#[test]
fn the_probes_exposition_is_their_catalogue() {
    let telemetry = telemetry();
    telemetry.update(full());
    is_the_catalogue(&page(&telemetry), PROBES);
    satisfies_promtool(&page(&telemetry));
    let open = telemetry.render(Some("application/openmetrics-text"), None);
    assert!(open.body.ends_with("# EOF\n") && open.content_type.starts_with("application/openmetrics-text"));
    assert!(open.body.contains("# TYPE weir_socket_errors counter\n"), "{}", open.body);
}

#[test]
fn what_is_unknown_has_no_series() {
    let telemetry = telemetry();
    let build = |page: &str| page.contains("weir_build_info{version=\"0.1.0\",revision=\"unknown\"} 1\n");
    let known = |page: &str| {
        let own = OWN.iter().filter(|info| info.name != LABEL_OVERFLOW.name);
        own.filter(|info| page.contains(&format!("# TYPE {} ", info.name))).count()
    };
    let before = telemetry.render(None, None).body;
    assert_eq!((known(&before), build(&before)), (0, true), "{before}");
    telemetry.update(full());
    assert_eq!(known(&page(&telemetry)), OWN.len() - 1);
    assert_eq!(value(&telemetry, "weir_probes_picture_age_seconds"), Some(1.5));
    telemetry.update(Reading::new());
    let after = telemetry.render(None, None).body;
    assert_eq!((known(&after), build(&after)), (0, true), "{after}");
    // Known and empty: no sample either, since there is nobody to name.
    errors(&telemetry, []);
    assert_eq!(samples(&telemetry.render(None, None).body), samples(&after));
}

#[test]
fn a_total_never_falls_while_its_probe_is_there() {
    let telemetry = telemetry();
    let total = || value(&telemetry, &errors_of("gomc"));
    errors(&telemetry, [error(10, "gomc", 30), error(11, "gomc", 5)]);
    assert_eq!(total(), Some(35.0), "two processes of one name add up");
    errors(&telemetry, [error(10, "gomc", 32)]);
    assert_eq!(total(), Some(37.0), "a process that ended leaves what it counted");
    errors(&telemetry, [error(10, "gomc", 32), error(11, "gomc", 2)]);
    assert_eq!(total(), Some(39.0), "a process id that comes back counts from zero");
    errors(&telemetry, [error(10, "gomc", 1), error(11, "gomc", 2)]);
    assert_eq!(total(), Some(40.0), "a row that began again counts from zero");
    errors(&telemetry, [error(10, "gomc", 1), error(10, "gomc", 1), error(11, "gomc", 2)]);
    assert_eq!(total(), Some(41.0), "equal rows of one reading are one row");
    errors(&telemetry, []);
    assert_eq!(total(), Some(41.0));
    telemetry.update(Reading::new());
    assert_eq!(total(), None, "its probe is lost");
}

#[test]
fn a_histogram_adds_up_as_a_counter_does() {
    let telemetry = telemetry();
    let look = |counts: [u64; 3], sum| {
        let mut reading = Reading::new();
        let row = Buckets { of: 0, labels: [text(CACHE)], counts: Cow::Owned(counts.to_vec()), sum };
        reading.histogram(&SOCKET_RTT, &[0.001, 0.01], [row]);
        telemetry.update(reading);
        let read = |part: &str, le: &str| {
            value(&telemetry, &format!("weir_socket_rtt_seconds_{part}{{{le}destination=\"{CACHE}\"}}"))
        };
        (read("count", ""), read("sum", ""), read("bucket", "le=\"0.01\","), read("bucket", "le=\"+Inf\","))
    };
    assert_eq!(look([1, 2, 0], 0.5), (Some(3.0), Some(0.5), Some(3.0), Some(3.0)));
    assert_eq!(look([1, 2, 1], 2.5), (Some(4.0), Some(2.5), Some(3.0), Some(4.0)));
    assert_eq!(look([1, 0, 0], 0.25), (Some(5.0), Some(2.75), Some(4.0), Some(5.0)), "it began again");
}

#[test]
fn gauges_that_count_together_fold_as_they_should() {
    let telemetry = telemetry();
    let mut reading = Reading::new();
    let pair = |source: &'static str, used| ([text("host"), text(source), text(CACHE)], used);
    reading.gauge(&PORTS_USED, Fold::Max, [pair(OTHER, 300.0), pair(OTHER, 20_000.0), pair("10.0.0.1", 5.0)]);
    reading.gauge(
        &PORTS_SECONDS_LEFT,
        Fold::Min,
        [pair(OTHER, 30.0), pair(OTHER, 4.5), pair("10.0.0.1", f64::NAN)],
    );
    let state = |sockets| ([text("host"), text(OTHER), text("outgoing"), text("time_wait")], sockets);
    reading.gauge(&SOCKET_STATES, Fold::Sum, [state(3.0), state(4.0)]);
    telemetry.update(reading);
    let of = |name: &str, source: &str| {
        value(
            &telemetry,
            &format!("{name}{{namespace=\"host\",source=\"{source}\",destination=\"{CACHE}\"}}"),
        )
    };
    assert_eq!(of("weir_socket_ports_used", OTHER), Some(20_000.0));
    assert_eq!(of("weir_socket_ports_seconds_left", OTHER), Some(4.5));
    assert_eq!(of("weir_socket_ports_seconds_left", "10.0.0.1"), None, "no number, no series");
    let states = "weir_socket_states{namespace=\"host\",destination=\"_other\",direction=\"outgoing\",state=\"time_wait\"}";
    assert_eq!(value(&telemetry, states), Some(7.0));
}

#[test]
fn a_million_names_make_no_more_series_than_a_hundred() {
    let telemetry = telemetry();
    telemetry.reserve("destination", "10.9.9.9:9042");
    let look = |from: u64, to: u64| {
        let mut reading = Reading::new();
        let row = |n: u64| Total {
            of: n,
            labels: [
                Cow::Owned(format!("10.{}.{}.{}:11211", n >> 16, n >> 8 & 255, n & 255)),
                Cow::Owned(format!("process-{n}")),
                Cow::Owned(n.to_string()),
                Cow::Owned(format!("unit-{n}.service")),
            ],
            total: 1.0,
        };
        reading.counter(&BYPASS_CONNECTIONS, (from..to).map(row));
        telemetry.update(reading);
    };
    look(0, 100);
    let after_hundred = samples(&page(&telemetry));
    for thousand in 0..1_000 {
        look(thousand * 1_000, (thousand + 1) * 1_000);
    }
    let page = page(&telemetry);
    assert_eq!(samples(&page), after_hundred);
    let sum: f64 = page
        .lines()
        .filter(|line| line.starts_with("weir_bypass_connections_total{"))
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
        .sum();
    assert_eq!(sum, 1_000_000.0, "no connection is lost; the first hundred rows were read twice in a row");
    let overflow = value(&telemetry, "weir_label_overflow_total{label=\"process\"}").expect("counted");
    assert!(overflow > 900_000.0, "{overflow}");
    // A watched destination has its slot after all of that.
    let mut reading = Reading::new();
    let labels = [text("10.9.9.9:9042"), text("process-1"), text("1"), text("unit-1.service")];
    reading.counter(&BYPASS_CONNECTIONS, [Total { of: 0, labels, total: 2.0 }]);
    telemetry.update(reading);
    let watched = "weir_bypass_connections_total{destination=\"10.9.9.9:9042\",process=\"process-1\",uid=\"1\",unit=\"unit-1.service\"}";
    assert_eq!(value(&telemetry, watched), Some(2.0));
}

#[test]
fn the_series_of_one_metric_are_capped_whatever_its_labels_multiply_to() {
    let telemetry = telemetry();
    let names: Vec<String> = (0..64).map(|n| format!("p{n}")).collect();
    let destinations: Vec<String> = (0..64).map(|n| format!("10.0.0.{n}:11211")).collect();
    let mut reading = Reading::new();
    let pairs = destinations.iter().flat_map(|to| names.iter().map(move |by| (to, by)));
    let rows = pairs.flat_map(|(to, by)| {
        ["EADDRINUSE", "EADDRNOTAVAIL"].map(|errno| Total {
            of: 0,
            labels: [text("connect"), text(errno), text(to), text(by)],
            total: 1.0,
        })
    });
    reading.counter(&SOCKET_ERRORS, rows);
    telemetry.update(reading);
    let page = page(&telemetry);
    let series: Vec<&str> =
        page.lines().filter(|line| line.starts_with("weir_socket_errors_total{")).collect();
    assert_eq!(series.len(), SERIES + 1, "and one for the errno that found no room");
    let sum: f64 = series.iter().filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum();
    assert_eq!(sum, 2.0 * 64.0 * 64.0);
    assert_eq!(value(&telemetry, "weir_label_overflow_total{label=\"series\"}"), Some(4_096.0));
}

#[test]
fn the_heaviest_find_a_slot() {
    let telemetry = telemetry();
    let names: Vec<String> = (0..500).map(|n| format!("bystander-{n}")).collect();
    let crowd = names.iter().map(|name| error(1, name, 1));
    errors(&telemetry, crowd.chain([error(2, "culprit", 15_000)]));
    assert_eq!(value(&telemetry, &errors_of("culprit")), Some(15_000.0));
    assert_eq!(value(&telemetry, &errors_of(OTHER)), Some(437.0));
}

#[test]
fn a_hostile_name_becomes_no_label() {
    let telemetry = telemetry();
    let hostile = "x\u{1b}[2J\n\"} 1\n$(reboot)<script>";
    errors(&telemetry, [error(1, hostile, 3), error(2, "_other", 4)]);
    let mut reading = Reading::new();
    reading.counter(
        &SOCKET_ERRORS,
        [Total { of: 0, labels: [text(hostile), text(hostile), text(hostile), text(hostile)], total: 5.0 }],
    );
    telemetry.update(reading);
    let page = page(&telemetry);
    assert!(
        page.contains(&format!("{} 3\n", errors_of(INVALID))) && page.contains(&errors_of(OTHER)),
        "{page}"
    );
    let all = "{call=\"_invalid\",errno=\"_invalid\",destination=\"_invalid\",process=\"_invalid\"} 5\n";
    assert!(page.contains(all), "{page}");
    for line in page.split('\n').filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let number = line.rsplit(' ').next().unwrap_or_default();
        assert!(number.parse::<f64>().is_ok(), "{line:?}");
    }
    satisfies_promtool(&page);
}
