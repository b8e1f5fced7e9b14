//! The list of metrics in `docs/metrics.md` (generated from the code that declares them) against whatever names one.

use std::collections::{BTreeMap, BTreeSet};

use super::promql::{self, Selector};
use super::{File, Problem};

/// The page with the table.
pub(super) const PAGE: &str = "docs/metrics.md";

/// Metrics that Prometheus itself makes.
const PROMETHEUS: &[&str] =
    &["up", "ALERTS", "ALERTS_FOR_STATE", "scrape_duration_seconds", "scrape_samples_scraped"];

/// Labels that every scraped series has.
const SCRAPED: &[&str] = &["job", "instance", "le", "quantile", "alertname", "alertstate", "severity"];

/// What weir exposes.
#[derive(Debug)]
pub(super) struct Catalogue {
    metrics: BTreeMap<String, Metric>,
}

#[derive(Debug)]
struct Metric {
    kind: String,
    labels: BTreeSet<String>,
}

impl Catalogue {
    /// The table of the page; `None` when there is no page or it holds no table.
    pub(super) fn of(files: &[File]) -> Option<Self> {
        let page = files.iter().find(|file| file.path == PAGE)?;
        let mut metrics = BTreeMap::new();
        for line in page.text.lines().filter(|line| line.starts_with('|')) {
            let cells: Vec<&str> =
                line.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`')).collect();
            let [name, kind, labels, ..] = cells.as_slice() else { continue };
            if name.contains(['-', ' ']) || *name == "metric" {
                continue; // The head and the rule below it.
            }
            let labels = labels.split(',').map(|label| label.trim().trim_matches('`').to_owned()).collect();
            metrics.insert((*name).to_owned(), Metric { kind: (*kind).to_owned(), labels });
        }
        (!metrics.is_empty()).then_some(Self { metrics })
    }

    /// The metric that a series name belongs to: of a histogram, also its parts.
    fn find(&self, series: &str) -> Option<&Metric> {
        if let Some(metric) = self.metrics.get(series) {
            return Some(metric);
        }
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|part| series.strip_suffix(part))?;
        self.metrics.get(base).filter(|metric| metric.kind == "histogram")
    }

    /// What is wrong with an expression's metrics; `recorded` are the names that rules record.
    pub(super) fn judge(&self, expr: &str, recorded: &BTreeSet<String>) -> Vec<String> {
        promql::selectors(expr)
            .iter()
            .filter_map(|selector| self.judge_selector(selector, recorded))
            .collect()
    }

    fn judge_selector(&self, selector: &Selector, recorded: &BTreeSet<String>) -> Option<String> {
        let name = selector.metric.as_str();
        if PROMETHEUS.contains(&name) || recorded.contains(name) {
            return None;
        }
        let Some(metric) = self.find(name) else {
            return Some(format!("{name} is neither in {PAGE} nor recorded by a rule"));
        };
        let unknown = selector
            .labels
            .iter()
            .find(|label| !metric.labels.contains(*label) && !SCRAPED.contains(&label.as_str()));
        unknown.map(|label| format!("{name} has no label {label}"))
    }
}

/// Every `weir_...` that alerts, dashboards or runbooks mention in words exists too.
pub(super) fn check_words(
    files: &[File],
    catalogue: &Catalogue,
    recorded: &BTreeSet<String>,
    problems: &mut Vec<Problem>,
) {
    let folders = ["alerts/", "dashboards/", "docs/runbooks/"];
    for file in files.iter().filter(|file| folders.iter().any(|folder| file.path.starts_with(folder))) {
        for (index, line) in file.text.lines().enumerate() {
            for word in line.split(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '_' | ':')) {
                let known = catalogue.find(word).is_some() || recorded.contains(word);
                // `weir_limit_*` and the like: the name's beginning is enough where a pattern follows.
                let pattern =
                    word.ends_with('_') && catalogue.metrics.keys().any(|name| name.starts_with(word));
                if word.starts_with("weir_") && !known && !pattern {
                    problems.push(file.problem(index + 1, format!("{word} is not in {PAGE}")));
                }
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::tests::file;
    use super::*;

    pub(in super::super) fn catalogue() -> Catalogue {
        let page = "| metric | type | labels | help |\n|---|---|---|---|\n\
             | weir_limit | gauge | caller, kind | Limit |\n\
             | weir_rejected_total | counter | caller, reason, mode | Rejected |\n\
             | `weir_request_operations` | histogram | caller | Asked |\n";
        Catalogue::of(&[file(PAGE, page)]).unwrap()
    }

    #[test]
    fn names_and_labels_are_judged() {
        let recorded = BTreeSet::from(["caller:weir_limit:ceiling".to_owned()]);
        let judge = |expr: &str| catalogue().judge(expr, &recorded);
        assert!(judge(r#"weir_limit{job="a",kind="b"} / caller:weir_limit:ceiling + up"#).is_empty());
        assert!(judge("histogram_quantile(0.9, rate(weir_request_operations_bucket[5m]))").is_empty());
        assert_eq!(
            judge("weir_limits"),
            ["weir_limits is neither in docs/metrics.md nor recorded by a rule"]
        );
        assert_eq!(judge("weir_limit_count").len(), 1);
        assert_eq!(judge(r#"weir_limit{client="a"}"#), ["weir_limit has no label client"]);
    }

    #[test]
    fn words_in_runbooks_are_judged() {
        let mut problems = Vec::new();
        let files =
            [file("docs/runbooks/A.md", "look at `weir_limit` and `weir_gone_total`, `weir_request_*`\n")];
        check_words(&files, &catalogue(), &BTreeSet::new(), &mut problems);
        let messages: Vec<&str> = problems.iter().map(|problem| problem.message.as_str()).collect();
        assert_eq!(messages, ["weir_gone_total is not in docs/metrics.md"]);
    }

    #[test]
    fn a_page_without_a_table_is_no_catalogue() {
        assert!(Catalogue::of(&[file(PAGE, "# Metrics\n")]).is_none());
    }
}
