//! What a new configuration would change about a running weir: keys that move, limits that get tighter, listeners that
//! and clusters that go, contacts and backends that change, everything else, and whether a reload can do it.

use crate::admin::model::ConfigReport;
use crate::config::Config;
use crate::config::effective::{Difference, ValueChange, backends_changed, differences, needs_restart};
use crate::config::problem::Escaped;
use serde_json::json;
use std::fmt::Write as _;
use weir_engine::route::Ring;
use weir_engine::settings::{Address, ClusterSettings, PoolSettings};

/// Keys hashed with both rings. The share that moves is then known to about 0.2 % of all keys.
pub const SAMPLE_KEYS: u32 = 100_000;

/// What would change.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// One per pool that both have, in the order of their names.
    pub rings: Vec<RingMove>,
    /// Limits and bounds that take something away from clients.
    pub tightened: Vec<Difference>,
    /// Listeners that are there no longer, with their address.
    pub listeners_lost: Vec<String>,
    /// Clusters that are there no longer, with their contacts.
    pub clusters_lost: Vec<String>,
    /// Clusters whose contacts change: `main: + 10.0.0.3:9042, - 10.0.0.1:9042`.
    pub contacts_changed: Vec<String>,
    /// Listeners that lead elsewhere: `cache: pool main -> cluster main`.
    pub backends_changed: Vec<String>,
    /// Every other difference.
    pub others: Vec<Difference>,
    /// Paths of what a reload cannot take over.
    pub needs_restart: Vec<String>,
}

/// How many keys of a pool move to another server.
#[derive(Clone, Debug, PartialEq)]
pub struct RingMove {
    /// The pool.
    pub pool: String,
    /// Of 100 keys.
    pub percent: f64,
}

/// Compares the configuration of a running weir with a new one.
#[must_use]
pub fn compare(running: &Config, new: &Config) -> Comparison {
    let rings = running
        .settings
        .pools
        .iter()
        .filter_map(|old| {
            let pool = new.settings.pools.iter().find(|pool| pool.name == old.name)?;
            Some(RingMove { pool: old.name.to_string(), percent: moved(old, pool) })
        })
        .collect();
    // Where the control socket is when nobody chose hangs on who asks: that is no difference of the files.
    let mut new = new.clone();
    if new.process.admin_is_default {
        new.process.admin.clone_from(&running.process.admin);
    }
    let all = differences(running, &new);
    let needs_restart =
        all.iter().filter(|found| needs_restart(found)).map(|found| found.path.clone()).collect();
    let is_lost =
        |found: &Difference| found.change == ValueChange::Lost && found.path.starts_with("listener.");
    let (lost, rest): (Vec<_>, Vec<_>) = all.into_iter().partition(is_lost);
    let listeners_lost = lost
        .iter()
        .filter_map(|found| {
            let name = found.path.strip_prefix("listener.")?;
            let listener = running.settings.listeners.iter().find(|listener| &*listener.name == name)?;
            Some(format!("{name} ({})", listener.address))
        })
        .collect();
    let (tightened, others) =
        rest.into_iter().filter(|found| !is_told(found)).partition(|found| found.tighter);
    let backends_changed = backends_changed(running, &new)
        .into_iter()
        .map(|(listener, before, after)| format!("{listener}: {before} -> {after}"))
        .collect();
    Comparison {
        rings,
        tightened,
        listeners_lost,
        clusters_lost: clusters_lost(running, &new),
        contacts_changed: contacts_changed(running, &new),
        backends_changed,
        others,
        needs_restart,
    }
}

/// What has a section of its own: clusters lost, contacts, and what is behind a listener.
fn is_told(found: &Difference) -> bool {
    let key = found.path.rsplit('.').next().unwrap_or_default();
    match (found.section, &found.change) {
        ("cluster", ValueChange::Lost) => true,
        ("cluster", ValueChange::Changed { .. }) => key == "contacts",
        ("listener", ValueChange::Changed { .. }) => matches!(key, "pool" | "cluster"),
        _ => false,
    }
}

fn clusters_lost(running: &Config, new: &Config) -> Vec<String> {
    let kept = |old: &ClusterSettings| new.settings.clusters.iter().any(|other| other.name == old.name);
    let lost = running.settings.clusters.iter().filter(|old| !kept(old));
    lost.map(|old| format!("{} ({})", old.name, addresses(&old.contacts))).collect()
}

fn contacts_changed(running: &Config, new: &Config) -> Vec<String> {
    let changed = running.settings.clusters.iter().filter_map(|old| {
        let other = new.settings.clusters.iter().find(|other| other.name == old.name)?;
        let come = other.contacts.iter().filter(|contact| !old.contacts.contains(contact));
        let gone = old.contacts.iter().filter(|contact| !other.contacts.contains(contact));
        let changes: Vec<String> = come
            .map(|contact| format!("+ {contact}"))
            .chain(gone.map(|contact| format!("- {contact}")))
            .collect();
        match (changes.is_empty(), old.contacts == other.contacts) {
            (true, true) => None,
            (true, false) => Some(format!("{}: another order", old.name)),
            (false, _) => Some(format!("{}: {}", old.name, changes.join(", "))),
        }
    });
    changed.collect()
}

fn addresses(all: &[Address]) -> String {
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// The share of sample keys that another server would be asked for, in percent.
fn moved(old: &PoolSettings, new: &PoolSettings) -> f64 {
    let (before, after) = (Ring::new(old.ring, &old.servers), Ring::new(new.ring, &new.servers));
    let address =
        |pool: &PoolSettings, index: usize| pool.servers.get(index).map(|server| server.address.clone());
    let moved = (0..SAMPLE_KEYS)
        .filter(|index| {
            let key = format!("sample:{index}");
            let (from, to) = (before.server_for(key.as_bytes()), after.server_for(key.as_bytes()));
            address(old, from) != address(new, to)
        })
        .count();
    moved as f64 * 100.0 / f64::from(SAMPLE_KEYS)
}

impl Comparison {
    /// For a reader.
    #[must_use]
    pub fn to_text(&self, running: &ConfigReport) -> String {
        let mut text = format!(
            "against the running configuration {} (from {}):\n",
            Escaped(&running.hash),
            Escaped(&running.source)
        );
        let _ = writeln!(text, "\nkeys that move to another server (of {SAMPLE_KEYS} sample keys):");
        if self.rings.is_empty() {
            let _ = writeln!(text, "  no pool is in both");
        }
        for ring in &self.rings {
            let _ = writeln!(text, "  {}: {:.1} %", ring.pool, ring.percent);
        }
        section(&mut text, "limits and bounds tightened", self.tightened.iter().map(line));
        section(&mut text, "listeners lost", self.listeners_lost.iter().cloned());
        // Most files have no cluster: what is about clusters is there only when there is something.
        for (title, lines) in [
            ("listeners that lead elsewhere", &self.backends_changed),
            ("clusters lost", &self.clusters_lost),
            ("contacts changed", &self.contacts_changed),
        ] {
            if !lines.is_empty() {
                section(&mut text, title, lines.iter().cloned());
            }
        }
        section(&mut text, "other differences", self.others.iter().map(line));
        if !self.needs_restart.is_empty() {
            let _ = writeln!(text, "\na reload would be refused; a restart is needed for:");
            self.needs_restart.iter().for_each(|path| {
                let _ = writeln!(text, "  {path}");
            });
        }
        if !running.overrides.is_empty() {
            let count = running.overrides.len();
            let _ = writeln!(text, "\n{count} overrides are in force on top and stay (weir limits list)");
        }
        text
    }

    /// For a program.
    #[must_use]
    pub fn to_json(&self, running: &ConfigReport) -> serde_json::Value {
        let each = |all: &[Difference]| -> Vec<serde_json::Value> {
            all.iter()
                .map(|found| match &found.change {
                    ValueChange::Added => json!({ "path": found.path, "change": "added" }),
                    ValueChange::Lost => json!({ "path": found.path, "change": "lost" }),
                    ValueChange::Changed { old, new } => {
                        json!({ "path": found.path, "change": "changed", "old": old, "new": new })
                    }
                    ValueChange::Content => json!({ "path": found.path, "change": "content" }),
                })
                .collect()
        };
        json!({
            "hash": running.hash,
            "source": running.source,
            "keys_moved_percent":
                self.rings.iter().map(|ring| (ring.pool.clone(), json!(ring.percent))).collect::<serde_json::Map<_, _>>(),
            "tightened": each(&self.tightened),
            "listeners_lost": self.listeners_lost,
            "backends_changed": self.backends_changed,
            "clusters_lost": self.clusters_lost,
            "contacts_changed": self.contacts_changed,
            "others": each(&self.others),
            "needs_restart": self.needs_restart,
            "overrides": running.overrides.len(),
        })
    }
}

fn section(text: &mut String, title: &str, lines: impl Iterator<Item = String>) {
    let mut lines = lines.peekable();
    if lines.peek().is_none() {
        let _ = writeln!(text, "\n{title}: none");
        return;
    }
    let _ = writeln!(text, "\n{title}:");
    for line in lines {
        let _ = writeln!(text, "  {line}");
    }
}

fn line(found: &Difference) -> String {
    match &found.change {
        ValueChange::Added => format!("[{}] is new", found.path),
        ValueChange::Lost => format!("[{}] is gone", found.path),
        ValueChange::Changed { old, new } => format!("{}: {old} -> {new}", found.path),
        ValueChange::Content => format!("{}: the file holds something else", found.path),
    }
}
