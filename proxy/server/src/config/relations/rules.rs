//! Checks of `[cluster.NAME.rule.RULE]`.

use crate::config::file::{Collector, FileShape};
use crate::config::problem::Problem;
use crate::config::rules::ClusterRule;
use std::sync::Arc;
use weir_engine::settings::{ClusterSettings, Rule};

/// Gives the clusters their rules, in the order of their names: that of the file must not matter at a reload.
pub(super) fn check(problems: &mut Collector<'_>, shape: &FileShape, clusters: &mut [ClusterSettings]) {
    for cluster in clusters {
        let of_cluster = |rule: &&ClusterRule| rule.cluster == cluster.name;
        let mut found: Vec<Rule> = Vec::new();
        for rule in shape.rules.iter().filter(of_cluster) {
            let held = &rule.draft.held;
            let Some(subject) = held.subject() else {
                subject_unclear(problems, rule);
                continue;
            };
            if let Some(other) = found.iter().find(|other| other.subject == subject) {
                let key = if held.table.is_some() { "table" } else { "fingerprint" };
                let what = format!("is what rule {} is for already", other.name);
                let problem = Problem::error(format!("{}.{key}", rule.path()), what);
                problems.add(rule.draft.place(key), problem);
                continue;
            }
            if held.stamp_timestamps && !held.split_batches {
                let path = format!("{}.stamp_timestamps", rule.path());
                let problem = Problem::warning(path, "has no effect without `split_batches`");
                problems.add(rule.draft.place("stamp_timestamps"), problem);
            }
            found.push(Rule {
                name: rule.draft.name.clone(),
                subject,
                split: held.split,
                split_batches: held.split_batches,
                stamp_timestamps: held.stamp_timestamps,
                join_in_flight: held.join_in_flight,
                cache_ttl: held.cache_ttl,
            });
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        cluster.rules = Arc::from(found);
    }
}

/// Neither key, or both. A key that was written wrong has been told about.
fn subject_unclear(problems: &mut Collector<'_>, rule: &ClusterRule) {
    let (path, places) = (rule.path(), &rule.draft.places);
    let problem = match (places.contains_key("table"), places.contains_key("fingerprint")) {
        (true, true) => {
            Problem::error(path, "a rule is for a table or for a statement, and this one names both")
        }
        (false, false) => {
            Problem::error(path, "the key `table` or `fingerprint` is missing: what is the rule for?")
                .help("write table = \"keyspace.table\"")
        }
        _ => return,
    };
    problems.add(rule.draft.at, problem);
}
