//! `docs/metrics.md`, made from the catalogues of both binaries. A test compares it with the committed file;
//! `WEIR_WRITE_GOLDEN=1` rewrites that file.

use crate::catalogue::{CATALOGUE, LabelInfo, MetricInfo, Values};
use crate::probes::PROBES;

/// The page `docs/metrics.md`.
#[must_use]
pub fn markdown() -> String {
    let mut page = String::from(PAGE_HEAD);
    page.push_str(WEIR_HEAD);
    metrics(&mut page, CATALOGUE);
    page.push_str(LABELS_HEAD);
    labels(&mut page, CATALOGUE);
    page.push_str(PROBES_HEAD);
    metrics(&mut page, PROBES);
    page.push_str(PROBES_LABELS_HEAD);
    labels(&mut page, PROBES);
    page
}

fn metrics(page: &mut String, list: &[MetricInfo]) {
    page.push_str("| metric | type | labels | help |\n|---|---|---|---|\n");
    for metric in list {
        let labels: Vec<&str> = metric.labels.iter().map(|l| l.name).collect();
        let row = [metric.name, metric.kind.name(), &labels.join(", "), metric.help];
        page.push_str(&format!("| {} |\n", row.join(" | ")));
    }
}

fn labels(page: &mut String, list: &[MetricInfo]) {
    page.push_str("| label | values | used by |\n|---|---|---|\n");
    let mut seen: Vec<LabelInfo> = Vec::new();
    for label in list.iter().flat_map(|metric| metric.labels) {
        if seen.contains(label) {
            continue;
        }
        seen.push(*label);
        let users: Vec<&str> =
            list.iter().filter(|metric| metric.labels.contains(label)).map(|metric| metric.name).collect();
        page.push_str(&format!("| {} | {} | {} |\n", label.name, describe(label.values), users.join(" ")));
    }
}

fn describe(values: Values) -> String {
    match values {
        Values::Listed(list) => list.join(" "),
        Values::Given(what) => format!("{what}, listed when the process starts"),
        Values::Capped(cap) => format!("{cap} names from outside (default), then `_other`; `_invalid`"),
        Values::Configured(cap) => format!("{cap} names from configuration or code, then `_other`"),
        Values::Single(what) => format!("one: {what}"),
    }
}

const PAGE_HEAD: &str = "\
# Metrics

Generated from `proxy/telemetry/src/catalogue.rs` and `proxy/telemetry/src/probes/catalogue.rs`;
`cargo test -p weir-telemetry` fails when this page is stale and
`WEIR_WRITE_GOLDEN=1 cargo test -p weir-telemetry --test telemetry` rewrites it.

A histogram is exposed as `_bucket`, `_sum` and `_count`. Rules and dashboards never match on `le` (its spelling differs
between client libraries); `weir_operations_total{size_class}` is there for that.
";

const WEIR_HEAD: &str = "
## What `weir` exposes

";

const LABELS_HEAD: &str = "
### Labels of `weir`

Every label is bounded. What does not fit is `_other` and counted in `weir_label_overflow_total`; slots are kept for the
life of the process, configured callers have theirs reserved.

";

const PROBES_HEAD: &str = "
## What `weir-probes` exposes

A metric has no series while no probe can tell it: unknown is never 0, and `weir_probe_attached` says which probe is
missing and why. A gauge's series ends with what it told of; a counter's stays for the life of the process, unless its
probe is lost.

";

const PROBES_LABELS_HEAD: &str = "
### Labels of `weir-probes`

Bounded the same way. A metric has at most 4,096 series; what would be one more counts under `_other` in every label
that names something, and in `weir_label_overflow_total{label=\"series\"}`.

";
