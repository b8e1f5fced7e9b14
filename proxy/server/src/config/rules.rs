//! `[cluster.NAME.rule.RULE]`: the only sections inside of sections.

use super::file::{Collector, Draft, read_named};
use super::keys::{RULE, RuleDraft};
use std::sync::Arc;
use toml::de::{DeTable, DeValue};
use weir_engine::settings::RULES_MAX;

/// One rule, and whose it is.
#[derive(Clone, Debug)]
pub struct ClusterRule {
    /// Name of the cluster.
    pub cluster: Arc<str>,
    /// What is written under its header.
    pub draft: Draft<RuleDraft>,
}

impl ClusterRule {
    /// `cluster.main.rule.hot`.
    #[must_use]
    pub fn path(&self) -> String {
        format!("cluster.{}.rule.{}", self.cluster, self.draft.name)
    }
}

/// Reads the rules of all clusters and takes them out of `root`, so that clusters are left with their keys.
pub fn take(collector: &mut Collector<'_>, root: &mut DeTable<'_>) -> Vec<ClusterRule> {
    let mut rules = Vec::new();
    let Some(DeValue::Table(clusters)) = root.get_mut("cluster").map(|value| value.get_mut()) else {
        return rules;
    };
    for (name, cluster) in clusters.iter_mut() {
        let DeValue::Table(keys) = cluster.get_mut() else { continue };
        let cluster: Arc<str> = name.get_ref().as_ref().into();
        let path = format!("cluster.{cluster}.rule");
        let drafts = read_named(collector, keys, "rule", &path, RULES_MAX, &[RULE], |_| RuleDraft::default());
        rules.extend(drafts.into_iter().map(|draft| ClusterRule { cluster: cluster.clone(), draft }));
        keys.remove("rule");
    }
    rules
}
