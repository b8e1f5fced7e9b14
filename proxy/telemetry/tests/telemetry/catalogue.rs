//! The catalogue against the page it generates, the exposition it promises, and `promtool`.

use crate::sample;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use weir_telemetry::catalogue::{MetricInfo, MetricKind, Values};
use weir_telemetry::page::markdown;
use weir_telemetry::{CATALOGUE, PROBES, Seconds};

const OPENMETRICS: Option<&str> = Some("application/openmetrics-text");

#[test]
fn the_page_is_the_catalogue() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md");
    if std::env::var_os("WEIR_WRITE_GOLDEN").is_some() {
        std::fs::write(&page, markdown()).expect("docs/metrics.md can be written");
    }
    let committed = std::fs::read_to_string(&page).unwrap_or_default();
    assert!(
        committed == markdown(),
        "docs/metrics.md is stale: WEIR_WRITE_GOLDEN=1 cargo test -p weir-telemetry --test telemetry"
    );
}

#[test]
fn names_follow_the_conventions() {
    follow_the_conventions(CATALOGUE);
    follow_the_conventions(PROBES);
    for metric in PROBES {
        // A name that both binaries expose is one metric, told apart by the scrape's job.
        let same = CATALOGUE.iter().find(|other| other.name == metric.name);
        let labels = |metric: &MetricInfo| metric.labels.iter().map(|label| label.name).collect::<Vec<_>>();
        if let Some(same) = same {
            assert_eq!((same.kind, labels(same), same.help), (metric.kind, labels(metric), metric.help));
        }
    }
}

fn follow_the_conventions(list: &[MetricInfo]) {
    for (i, metric) in list.iter().enumerate() {
        let name = metric.name;
        assert!(name.starts_with("weir_") || name.starts_with("process_"), "{name}: prefix");
        assert_eq!(
            name.ends_with("_total"),
            metric.kind == MetricKind::Counter,
            "{name}: _total is for counters"
        );
        assert!(
            !metric.help.is_empty() && !metric.help.ends_with('.') && !metric.help.contains(['|', '\n']),
            "{name}"
        );
        assert!(list[i + 1..].iter().all(|other| other.name != name), "{name} is declared twice");
        for label in metric.labels {
            match label.values {
                Values::Listed(list) => {
                    assert!(!list.is_empty() && list.len() <= 64, "{name}: {}", label.name)
                }
                Values::Capped(cap) | Values::Configured(cap) => {
                    assert!((1..=256).contains(&cap), "{name}: {}", label.name);
                }
                Values::Given(_) | Values::Single(_) => {}
            }
        }
    }
}

/// Labels of one sample line, in order. The sample's values contain neither quotes nor commas.
fn labels_of(line: &str) -> Vec<&str> {
    let Some((_, rest)) = line.split_once('{') else { return Vec::new() };
    let inside = rest.split_once('}').map_or("", |(inside, _)| inside);
    inside.split(',').filter_map(|pair| pair.split_once('=')).map(|(name, _)| name).collect()
}

#[test]
fn the_exposition_is_the_catalogue() {
    let page = sample::full().render(None, Seconds(100)).body;
    is_the_catalogue(&page, CATALOGUE);
}

/// The page has every metric of the list, each with a sample, and no other.
pub(crate) fn is_the_catalogue(page: &str, list: &[MetricInfo]) {
    let mut types = BTreeMap::new();
    for line in page.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').expect("name and type");
        assert!(types.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} twice");
    }
    for metric in list {
        assert_eq!(types.remove(metric.name).as_deref(), Some(metric.kind.name()), "{}", metric.name);
        assert!(page.contains(&format!("# HELP {} {}.\n", metric.name, metric.help)), "{}", metric.name);
        let declared: Vec<&str> = metric.labels.iter().map(|label| label.name).collect();
        for series in metric.series_names() {
            let mut lines = page
                .lines()
                .filter(|line| line.strip_prefix(&series).is_some_and(|rest| rest.starts_with(['{', ' '])));
            let mut labels = labels_of(lines.next().unwrap_or_else(|| panic!("{series} has no sample")));
            labels.retain(|label| *label != "le");
            assert_eq!(labels, declared, "{series}");
        }
    }
    assert!(types.is_empty(), "not in the catalogue: {types:?}");
}

#[test]
fn promtool_has_no_complaint() {
    satisfies_promtool(&sample::full().render(None, Seconds(100)).body);
}

/// `promtool check metrics` says nothing about the page.
pub(crate) fn satisfies_promtool(page: &str) {
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = promtool else {
        eprintln!("SKIPPED: promtool is not installed (Debian: prometheus)");
        return;
    };
    promtool.stdin.take().expect("piped").write_all(page.as_bytes()).expect("promtool reads");
    let output = promtool.wait_with_output().expect("promtool ends");
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
}

#[test]
fn an_exemplar_names_caller_method_and_request() {
    let page = sample::full().render(OPENMETRICS, Seconds(100));
    assert_eq!(page.content_type, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(page.body.ends_with("# EOF\n"));
    let bucket = page.body.lines().find(|line| line.contains(" # {")).expect("one exemplar");
    assert_eq!(
        bucket,
        "weir_request_operations_bucket{le=\"20000.0\",caller=\"importer\"} 2 # {caller=\"importer\",method=\"get\",\
         request_id=\"000000000000feed\"} 17500.0 1700000100.0"
    );
    let classic = sample::full().render(None, Seconds(100)).body;
    assert!(!classic.contains(" # {") && !classic.contains("# EOF"), "the classic format knows no exemplars");
}

#[test]
fn the_longest_exemplar_is_within_the_format() {
    // OpenMetrics: names and values of an exemplar's labels have at most 128 characters together.
    let methods = sample::PROTOCOLS.iter().flat_map(|protocol| protocol.methods.iter());
    let longest = methods.map(|(_, method)| method.len()).max().unwrap_or_default().max("flush_all_x".len());
    assert!("caller".len() + 64 + "method".len() + longest + "request_id".len() + 16 <= 128);
}
