//! Dashboards: JSON in one canonical form (so that a diff shows what changed), and the rules of the usual dashboard
//! linters that matter: variables for datasource, job and instance, a title, a description and a unit on every panel,
//! `$__rate_interval`, rate before sum, not editable; every metric exists.

use std::collections::BTreeSet;
use std::fmt::Write;

use serde_json::Value;

use super::metrics::Catalogue;
use super::promql;
use super::{File, Problem};

/// Functions whose range must follow the panel's resolution.
const RATES: &[&str] = &["rate", "irate", "increase"];

/// Ranges that do: the resolution, or for one number per panel the whole window.
const RATE_RANGES: &[&str] = &["$__rate_interval", "$__range"];

/// Panels that show text or lists, which have no unit.
const UNITLESS: &[&str] = &["text", "row", "alertlist", "logs", "dashlist", "news"];

pub(super) fn check(
    files: &[File],
    catalogue: &Catalogue,
    recorded: &BTreeSet<String>,
    problems: &mut Vec<Problem>,
) {
    for file in files.iter().filter(|file| is_dashboard(file)) {
        let Ok(dashboard) = serde_json::from_str::<Value>(&file.text) else {
            problems.push(file.problem(0, "is no JSON"));
            continue;
        };
        if canonical(file).is_some_and(|canonical| canonical != file.text) {
            problems.push(file.problem(0, "is not in canonical form; run: cargo xtask tidy --fix"));
        }
        let mut say = |message: String| problems.push(file.problem(0, message));
        head(&dashboard, &mut say);
        for panel in panels(&dashboard) {
            self::panel(panel, &mut say);
            for expr in exprs(panel) {
                let title = panel["title"].as_str().unwrap_or("?");
                for message in catalogue.judge(expr, recorded).into_iter().chain(ranges(expr)) {
                    say(format!("panel \"{title}\": {message}"));
                }
            }
        }
    }
}

fn is_dashboard(file: &File) -> bool {
    file.path.starts_with("dashboards/") && file.has_extension("json")
}

/// The one way to write the same dashboard: keys sorted, two spaces, a line feed at the end. `None` for other files.
pub(super) fn canonical(file: &File) -> Option<String> {
    if !is_dashboard(file) {
        return None;
    }
    let value = serde_json::from_str(&file.text).ok()?;
    let mut out = String::new();
    write_canonical(&value, 0, &mut out);
    out.push('\n');
    Some(out)
}

/// Not serde_json's printer: whether that sorts keys depends on a feature that any crate in the tree may switch on.
fn write_canonical(value: &Value, depth: usize, out: &mut String) {
    let indent = |out: &mut String, depth: usize| {
        out.push('\n');
        out.push_str(&"  ".repeat(depth));
    };
    match value {
        Value::Array(items) if !items.is_empty() => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                indent(out, depth + 1);
                write_canonical(item, depth + 1, out);
            }
            indent(out, depth);
            out.push(']');
        }
        Value::Object(fields) if !fields.is_empty() => {
            let mut keys: Vec<&String> = fields.keys().collect();
            keys.sort();
            out.push('{');
            for (index, key) in keys.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                indent(out, depth + 1);
                let _strings_take_all = write!(out, "{}: ", Value::from(key.as_str()));
                write_canonical(&fields[key], depth + 1, out);
            }
            indent(out, depth);
            out.push('}');
        }
        plain => {
            let _strings_take_all = write!(out, "{plain}");
        }
    }
}

fn head(dashboard: &Value, say: &mut impl FnMut(String)) {
    for key in ["title", "uid", "description"] {
        if dashboard[key].as_str().unwrap_or_default().is_empty() {
            say(format!("has no {key}"));
        }
    }
    if dashboard["editable"] != Value::Bool(false) {
        say("is editable: set \"editable\": false".into());
    }
    let variables: Vec<&Value> = dashboard["templating"]["list"].as_array().into_iter().flatten().collect();
    if !variables.iter().any(|variable| variable["type"] == "datasource") {
        say("has no datasource variable".into());
    }
    for name in ["job", "instance"] {
        if !variables.iter().any(|variable| variable["name"] == name) {
            say(format!("has no variable {name}"));
        }
    }
    for variable in variables.iter().filter(|variable| variable["type"] == "query") {
        if variable["refresh"] != 2 {
            let name = variable["name"].as_str().unwrap_or("?");
            say(format!("variable {name} does not reload when the time changes: set \"refresh\": 2"));
        }
    }
}

/// All panels, those inside collapsed rows too.
fn panels(dashboard: &Value) -> Vec<&Value> {
    let top = dashboard["panels"].as_array().into_iter().flatten();
    top.flat_map(|panel| std::iter::once(panel).chain(panel["panels"].as_array().into_iter().flatten()))
        .collect()
}

fn exprs(panel: &Value) -> impl Iterator<Item = &str> {
    panel["targets"].as_array().into_iter().flatten().filter_map(|target| target["expr"].as_str())
}

fn panel(panel: &Value, say: &mut impl FnMut(String)) {
    let kind = panel["type"].as_str().unwrap_or_default();
    let title = panel["title"].as_str().unwrap_or_default();
    if title.is_empty() {
        say(format!("a panel of type {kind} has no title"));
    }
    if kind == "row" {
        return;
    }
    if panel["description"].as_str().unwrap_or_default().is_empty() {
        say(format!("panel \"{title}\" has no description"));
    }
    let config = &panel["fieldConfig"];
    let overrides = config["overrides"].as_array().into_iter().flatten();
    let mut properties = overrides.flat_map(|rule| rule["properties"].as_array().into_iter().flatten());
    let has_unit =
        config["defaults"]["unit"].is_string() || properties.any(|property| property["id"] == "unit");
    if !UNITLESS.contains(&kind) && !has_unit {
        say(format!("panel \"{title}\" has no unit"));
    }
    let targets = panel["targets"].as_array().into_iter().flatten();
    let sources = std::iter::once(&panel["datasource"]).chain(targets.map(|target| &target["datasource"]));
    for source in sources.filter(|source| !source.is_null()) {
        let uid = source["uid"].as_str().or(source.as_str()).unwrap_or_default();
        if !uid.starts_with('$') && uid != "-- Grafana --" && uid != "-- Mixed --" {
            say(format!("panel \"{title}\" names a datasource instead of the variable"));
        }
    }
}

/// Rates over a fixed range lie at other resolutions than the author's; a sum before the rate hides resets.
fn ranges(expr: &str) -> Vec<String> {
    let mut messages = Vec::new();
    for selector in promql::selectors(expr) {
        let innermost = selector.inside.last().map_or("", String::as_str);
        if let Some(range) = &selector.range
            && RATES.contains(&innermost)
            && !RATE_RANGES.contains(&range.as_str())
        {
            messages.push(format!(
                "{innermost}({}[{range}]) has a fixed range; use $__rate_interval",
                selector.metric
            ));
        }
        let rate = selector.inside.iter().position(|name| RATES.contains(&name.as_str()));
        if rate.is_some_and(|at| selector.inside[at + 1..].iter().any(|name| name == "sum")) {
            messages.push(format!("sums {} before its rate: a restart becomes a peak", selector.metric));
        }
    }
    messages
}

#[cfg(test)]
mod tests {
    use super::super::metrics::tests::catalogue;
    use super::super::tests::file;
    use super::*;

    const GOOD: &str = r#"{"title":"Callers","uid":"weir-callers","description":"d","editable":false,
        "templating":{"list":[{"type":"datasource","name":"datasource"},{"type":"query","name":"job","refresh":2},
                              {"type":"query","name":"instance","refresh":2}]},
        "panels":[{"type":"row","title":"r","panels":[{"type":"timeseries","title":"t","description":"d",
            "datasource":{"type":"prometheus","uid":"${datasource}"},
            "fieldConfig":{"defaults":{"unit":"ops"},"overrides":[]},
            "targets":[{"expr":"sum by (caller) (rate(weir_rejected_total{job=~\"$job\"}[$__rate_interval]))"}]}]}]}"#;

    fn problems_of(json: &str) -> Vec<String> {
        let raw = file("dashboards/callers.json", json);
        let file = file("dashboards/callers.json", &canonical(&raw).unwrap());
        let mut problems = Vec::new();
        check(&[file], &catalogue(), &BTreeSet::new(), &mut problems);
        problems.into_iter().map(|problem| problem.message).collect()
    }

    #[test]
    fn a_good_dashboard_passes() {
        assert_eq!(problems_of(GOOD), Vec::<String>::new());
    }

    #[test]
    fn what_linters_ask_for_is_asked_for() {
        let bad = GOOD
            .replace("\"editable\":false", "\"editable\":true")
            .replace("$__rate_interval", "5m")
            .replace("\"unit\":\"ops\"", "")
            .replace("\"name\":\"instance\",\"refresh\":2", "\"name\":\"host\"")
            .replace("${datasource}", "PBFA97CFB590B2093");
        assert_eq!(
            problems_of(&bad),
            [
                "is editable: set \"editable\": false",
                "has no variable instance",
                "variable host does not reload when the time changes: set \"refresh\": 2",
                "panel \"t\" has no unit",
                "panel \"t\" names a datasource instead of the variable",
                "panel \"t\": rate(weir_rejected_total[5m]) has a fixed range; use $__rate_interval",
            ]
        );
    }

    #[test]
    fn rate_comes_before_sum() {
        assert_eq!(ranges("rate(sum(weir_x)[$__rate_interval:])").len(), 1);
        assert!(ranges("sum(rate(weir_x[$__rate_interval]))").is_empty());
    }

    #[test]
    fn the_canonical_form_sorts_keys() {
        let raw = file("dashboards/x.json", r#"{"b":[1,{"d":"ä\n","c":[]}],"a":{}}"#);
        let wanted = "{\n  \"a\": {},\n  \"b\": [\n    1,\n    {\n      \"c\": [],\n      \"d\": \"ä\\n\"\n    }\n  ]\n}\n";
        assert_eq!(canonical(&raw).unwrap(), wanted);
    }
}
