//! What `cargo xtask tidy` cannot see of rules and dashboards: that a query groups by labels its metrics have, and that
//! runbooks and tables are complete. (tidy checks that metrics exist, that panels are described, and the form.)

use serde_json::Value;
use std::collections::BTreeSet;
use std::path::PathBuf;
use weir_telemetry::{CATALOGUE, PROBES};

/// The rules, each with how many alerts it names.
const RULES: [(&str, usize); 3] =
    [("alerts/rules/weir.yml", 7), ("alerts/rules/services.yml", 5), ("alerts/rules/probes.yml", 9)];

/// The dashboards.
const DASHBOARDS: [&str; 3] =
    ["dashboards/callers.json", "dashboards/services.json", "dashboards/sockets.json"];

fn read(path: &str) -> String {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn every_alert_has_a_whole_runbook_and_a_row() {
    let table = read("alerts/README.md");
    for (file, count) in RULES {
        let rules = read(file);
        let alerts: BTreeSet<&str> =
            rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).map(str::trim).collect();
        assert_eq!(alerts.len(), count, "{file}");
        for name in alerts {
            assert!(
                rules.contains(&format!("runbook_url: docs/runbooks/{name}.md")),
                "{name} links to no runbook"
            );
            assert!(table.contains(&format!("| {name} | ")), "{name} is not in alerts/README.md");
            let page = read(&format!("docs/runbooks/{name}.md"));
            for section in ["Meaning", "Impact", "Diagnosis", "Mitigation", "Verify", "Escalation"] {
                assert!(page.contains(&format!("\n## {section}\n")), "{name}: no section {section}");
            }
        }
    }
}

/// Panels that show data, rows left out.
fn panels(dashboard: &Value) -> Vec<&Value> {
    let panels = dashboard["panels"].as_array().expect("panels");
    panels.iter().filter(|panel| panel["type"] != "row").collect()
}

#[test]
fn every_panel_answers_a_question_of_the_table() {
    let table = read("dashboards/README.md");
    for file in DASHBOARDS {
        let dashboard: Value = serde_json::from_str(&read(file)).expect("JSON");
        let mut ids = BTreeSet::new();
        for panel in panels(&dashboard) {
            let title = panel["title"].as_str().unwrap_or_default();
            let description = panel["description"].as_str().unwrap_or_default();
            assert!(ids.insert(panel["id"].as_u64()), "{title}: its id is another panel's");
            assert!(
                table.contains(&format!("| {title} | {description} |")),
                "{title} is not in dashboards/README.md"
            );
        }
    }
}

#[test]
fn every_query_groups_by_labels_that_exist() {
    for file in DASHBOARDS {
        let dashboard: Value = serde_json::from_str(&read(file)).expect("JSON");
        for panel in panels(&dashboard) {
            for target in panel["targets"].as_array().expect("targets") {
                let query = target["expr"].as_str().expect("expr");
                assert!(query.contains("job=~\"$job\",instance=~\"$instance\""), "{query}");
                let known = labels_of(query);
                for label in grouping_labels(query) {
                    assert!(
                        ["job", "instance", "le"].contains(&label) || known.contains(label),
                        "{label} in {query}"
                    );
                }
            }
        }
    }
}

fn labels_of(query: &str) -> BTreeSet<&'static str> {
    let words: BTreeSet<&str> = query.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).collect();
    let all = CATALOGUE.iter().chain(PROBES);
    let used = all.filter(|m| m.series_names().iter().any(|name| words.contains(name.as_str())));
    used.flat_map(|metric| metric.labels).map(|label| label.name).collect()
}

fn grouping_labels(query: &str) -> Vec<&str> {
    let groups = query.split("by (").skip(1).filter_map(|rest| rest.split_once(')'));
    groups.flat_map(|(inside, _)| inside.split(',').map(str::trim)).collect()
}
