//! `WITH`: what is accepted, kept and told in `system_schema`. Only `default_time_to_live` changes what the store does.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::cql::parse::ast::OptionValue;
use crate::cql::refusal::Refusal;

/// Longest time to live, seconds: 20 years, as in Cassandra.
pub const TTL_MAX: i64 = 20 * 365 * 24 * 60 * 60;

/// The options of a table.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, Default)]
pub struct TableOptions {
    /// `default_time_to_live`, seconds; 0: none.
    pub ttl: u32,
    /// `comment`
    pub comment: String,
    /// `gc_grace_seconds`
    pub grace: Option<i32>,
    /// Plain options that only have a text.
    pub plain: BTreeMap<String, String>,
    /// Options that are maps.
    pub maps: BTreeMap<String, BTreeMap<String, String>>,
}

const PLAIN: [&str; 13] = [
    "additional_write_policy",
    "allow_auto_snapshot",
    "bloom_filter_fp_chance",
    "cdc",
    "crc_check_chance",
    "incremental_backups",
    "max_index_interval",
    "memtable",
    "memtable_flush_period_in_ms",
    "min_index_interval",
    "read_repair",
    "speculative_retry",
    "id",
];
const MAPS: [&str; 4] = ["caching", "compaction", "compression", "extensions"];

impl TableOptions {
    /// With `options` over what is there.
    ///
    /// # Errors
    /// A syntax error for an option that Cassandra has not, Invalid for a value it cannot have.
    pub fn with(&self, options: &[(String, OptionValue)]) -> Result<Self, Refusal> {
        let mut made = self.clone();
        for (name, value) in options {
            match (name.as_str(), value) {
                ("default_time_to_live", OptionValue::Plain(value)) => made.ttl = ttl(value)?,
                ("comment", OptionValue::Plain(value)) => made.comment = value.clone(),
                ("gc_grace_seconds", OptionValue::Plain(value)) => {
                    let seconds = value.parse().ok().filter(|seconds: &i32| *seconds >= 0);
                    let wrong = || config(format!("gc_grace_seconds is no number of seconds: {value}"));
                    made.grace = Some(seconds.ok_or_else(wrong)?);
                }
                (name, OptionValue::Plain(value)) if PLAIN.contains(&name) => {
                    made.plain.insert(name.to_owned(), value.clone());
                }
                (name, OptionValue::Map(pairs)) if MAPS.contains(&name) => {
                    made.maps.insert(name.to_owned(), pairs.iter().cloned().collect());
                }
                (name, _) if PLAIN.contains(&name) || MAPS.contains(&name) => {
                    return Err(Refusal::syntax(format!("Invalid value for property '{name}'")));
                }
                (name, _) => return Err(Refusal::syntax(format!("Unknown property '{name}'"))),
            }
        }
        Ok(made)
    }
}

fn config(message: String) -> Refusal {
    Refusal::new(weir_cql::response::ErrorCode::CONFIG_ERROR, message)
}

fn ttl(value: &str) -> Result<u32, Refusal> {
    let seconds = value.parse::<i64>().map_err(|_| Refusal::syntax("default_time_to_live is no number"))?;
    if !(0..=TTL_MAX).contains(&seconds) {
        return Err(config(format!("default_time_to_live must be between 0 and {TTL_MAX} (got {seconds})")));
    }
    Ok(u32::try_from(seconds).unwrap_or(u32::MAX))
}

/// `WITH` of a keyspace: replication (the class by its full name) and `durable_writes`.
///
/// # Errors
/// A configuration error for replication that is missing or of an unknown class.
pub fn keyspace(
    options: &[(String, OptionValue)],
    before: Option<(BTreeMap<String, String>, bool)>,
) -> Result<(BTreeMap<String, String>, bool), Refusal> {
    let (mut replication, mut durable) = match before {
        Some((replication, durable)) => (Some(replication), durable),
        None => (None, true),
    };
    for (name, value) in options {
        match (name.as_str(), value) {
            ("replication", OptionValue::Map(pairs)) => {
                let mut map: BTreeMap<String, String> = pairs.iter().cloned().collect();
                let class = map.get("class").cloned().unwrap_or_default();
                let short = class.rsplit('.').next().unwrap_or_default();
                if !["SimpleStrategy", "NetworkTopologyStrategy", "LocalStrategy", "EverywhereStrategy"]
                    .contains(&short)
                {
                    return Err(config(match class.as_str() {
                        "" => "Missing replication strategy class".to_owned(),
                        _ => format!("Unable to find replication strategy class '{class}'"),
                    }));
                }
                map.insert("class".to_owned(), format!("org.apache.cassandra.locator.{short}"));
                replication = Some(map);
            }
            ("durable_writes", OptionValue::Plain(value)) => durable = value.eq_ignore_ascii_case("true"),
            // Scylla's: accepted, nothing to do
            ("tablets" | "storage", OptionValue::Map(_)) => {}
            (name, _) => return Err(Refusal::syntax(format!("Unknown property '{name}'"))),
        }
    }
    let replication =
        replication.ok_or_else(|| Refusal::invalid("Missing mandatory option 'replication'"))?;
    Ok((replication, durable))
}
