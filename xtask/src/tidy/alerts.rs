//! Alert rules against what they promise: every metric exists, every alert says what a person needs (severity, owner,
//! summary, description), has a runbook, a promtool test in which it fires and one in which it stays silent.

use std::collections::{BTreeMap, BTreeSet};

use yaml_rust2::{Yaml, YamlLoader};

use super::metrics::Catalogue;
use super::{File, Problem};

/// What a YAML file below `alerts/` holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// Rules for Prometheus.
    Rules,
    /// Tests for promtool.
    Tests,
}

/// Told by its folder; other files (examples of a Prometheus or Alertmanager configuration) are neither.
pub(super) fn kind(file: &File) -> Option<Kind> {
    if !file.has_extension("yml") && !file.has_extension("yaml") {
        return None;
    }
    match file.path.strip_prefix("alerts/")?.split('/').next()? {
        "rules" => Some(Kind::Rules),
        "tests" => Some(Kind::Tests),
        _ => None,
    }
}

/// Checks all rules and tests; returns the names that rules record.
pub(super) fn check(
    files: &[File],
    catalogue: Option<&Catalogue>,
    problems: &mut Vec<Problem>,
) -> BTreeSet<String> {
    let rules: Vec<Rule> = of_kind(files, Kind::Rules, problems)
        .into_iter()
        .flat_map(|(file, yaml)| rules(file, &yaml))
        .collect();
    let recorded: BTreeSet<String> = rules.iter().filter_map(|rule| rule.records.clone()).collect();
    let tests = tested(&of_kind(files, Kind::Tests, problems));
    for rule in &rules {
        if let Some(catalogue) = catalogue {
            for message in catalogue.judge(&rule.expr, &recorded) {
                problems.push(rule.problem(message));
            }
        }
        if let Some(alert) = &rule.alert {
            let wanted = [
                ("summary", "annotation"),
                ("description", "annotation"),
                ("severity", "label"),
                ("owner", "label"),
            ];
            for (name, what) in wanted.into_iter().filter(|(name, _)| !rule.says.contains(*name)) {
                problems.push(rule.problem(format!("has no {what} {name}")));
            }
            if !has_runbook(alert, files) {
                problems.push(rule.problem(format!("has no runbook docs/runbooks/{alert}.md")));
            }
            let tested = tests.get(alert).copied().unwrap_or_default();
            if !tested.fires {
                problems.push(rule.problem("has no promtool test in which it fires".into()));
            }
            if !tested.silent {
                problems.push(rule.problem("has no promtool test in which it stays silent".into()));
            }
        }
    }
    recorded
}

/// One rule of a group.
struct Rule {
    path: String,
    alert: Option<String>,
    records: Option<String>,
    expr: String,
    /// Names of its labels and annotations that are not empty.
    says: BTreeSet<String>,
}

impl Rule {
    fn problem(&self, message: String) -> Problem {
        let name = self.alert.as_ref().or(self.records.as_ref()).map_or("?", String::as_str);
        Problem { path: self.path.clone(), line: 0, message: format!("{name} {message}") }
    }
}

fn of_kind<'a>(files: &'a [File], wanted: Kind, problems: &mut Vec<Problem>) -> Vec<(&'a File, Yaml)> {
    let mut found = Vec::new();
    for file in files.iter().filter(|file| kind(file) == Some(wanted)) {
        match YamlLoader::load_from_str(&file.text) {
            Ok(documents) => found.extend(documents.into_iter().map(|document| (file, document))),
            Err(error) => problems.push(file.problem(0, format!("is no YAML: {error}"))),
        }
    }
    found
}

fn list(yaml: &Yaml) -> impl Iterator<Item = &Yaml> {
    yaml.as_vec().into_iter().flatten()
}

fn text(yaml: &Yaml) -> Option<String> {
    yaml.as_str().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

fn rules(file: &File, document: &Yaml) -> Vec<Rule> {
    let rules = list(&document["groups"]).flat_map(|group| list(&group["rules"]));
    let read = |rule: &Yaml| {
        let mut says = BTreeSet::new();
        for part in ["labels", "annotations"] {
            for (key, value) in rule[part].as_hash().into_iter().flatten() {
                if let (Some(key), Some(_)) = (text(key), text(value)) {
                    says.insert(key);
                }
            }
        }
        Rule {
            path: file.path.clone(),
            alert: text(&rule["alert"]),
            records: text(&rule["record"]),
            expr: text(&rule["expr"]).unwrap_or_default(),
            says,
        }
    };
    rules.map(read).collect()
}

/// A page of its own, or a heading on a page of several.
fn has_runbook(alert: &str, files: &[File]) -> bool {
    let mut pages =
        files.iter().filter(|file| file.path.starts_with("docs/runbooks/") && file.has_extension("md"));
    pages.any(|page| {
        let own = page.path == format!("docs/runbooks/{alert}.md");
        own || page.text.lines().any(|line| line.starts_with('#') && line.trim_matches(['#', ' ']) == alert)
    })
}

#[derive(Clone, Copy, Default)]
struct Tested {
    fires: bool,
    silent: bool,
}

/// Which alerts are expected somewhere, and which are expected to be silent somewhere.
fn tested(documents: &[(&File, Yaml)]) -> BTreeMap<String, Tested> {
    let mut found: BTreeMap<String, Tested> = BTreeMap::new();
    for (_, document) in documents {
        for test in list(&document["tests"]).flat_map(|test| list(&test["alert_rule_test"])) {
            let Some(alert) = text(&test["alertname"]) else { continue };
            let tested = found.entry(alert).or_default();
            match list(&test["exp_alerts"]).next() {
                Some(_) => tested.fires = true,
                None => tested.silent = true,
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::metrics::tests::catalogue;
    use super::super::tests::file;
    use super::*;

    const RULES: &str = "groups:
  - name: g
    rules:
      - record: caller:weir_limit:max
        expr: max by (caller) (weir_limit)
      - alert: TooMuch
        expr: caller:weir_limit:max > 5
        labels: {severity: critical, owner: platform}
        annotations: {summary: s, description: d}
";

    fn check_these(files: &[File]) -> Vec<String> {
        let mut problems = Vec::new();
        check(files, Some(&catalogue()), &mut problems);
        problems.into_iter().map(|problem| problem.message).collect()
    }

    #[test]
    fn an_alert_with_everything_passes() {
        let tests = "tests:
  - alert_rule_test:
      - {eval_time: 1m, alertname: TooMuch}
      - eval_time: 2m
        alertname: TooMuch
        exp_alerts: [{exp_labels: {severity: critical}}]
";
        let files = [
            file("alerts/rules/weir.yml", RULES),
            file("alerts/tests/weir.yml", tests),
            file("docs/runbooks/TooMuch.md", "# TooMuch\n"),
        ];
        assert_eq!(check_these(&files), Vec::<String>::new());
    }

    #[test]
    fn what_an_alert_lacks_is_said() {
        let rules = RULES.replace("severity: critical, owner: platform", "severity: critical");
        let messages =
            check_these(&[file("alerts/rules/weir.yml", &rules.replace("weir_limit)", "weir_limits)"))]);
        assert_eq!(
            messages,
            [
                "caller:weir_limit:max weir_limits is neither in docs/metrics.md nor recorded by a rule",
                "TooMuch has no label owner",
                "TooMuch has no runbook docs/runbooks/TooMuch.md",
                "TooMuch has no promtool test in which it fires",
                "TooMuch has no promtool test in which it stays silent",
            ]
        );
    }

    #[test]
    fn broken_yaml_is_a_problem() {
        assert_eq!(check_these(&[file("alerts/rules/weir.yml", "groups: [")]).len(), 1);
    }
}
