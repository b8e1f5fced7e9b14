//! The effective configuration: every key with the value in force, as a file, as a tree, as a hash, and compared with
//! another one. The file form reads back to the same configuration.

use super::checked::{Config, ConfigHash};
use super::keys::{
    CALLER, CLUSTER, CallerDraft, LIMITS, LISTENER, ListenerDraft, POOL, PROCESS, ProcessDraft, RULE,
    RuleDraft, SERVICE, ServiceDraft,
};
use super::schema::{Key, Kind, ModeBits, Tighter, Value, quoted};
use md5::{Digest as _, Md5};
use std::fmt::Write as _;
use weir_engine::settings::{Address, Backend, CallerLimits};

/// One section with every key.
#[derive(Clone, Debug)]
pub struct Section {
    /// `pool`, `cluster`, `rule`, `service`, `listener`, `callers`, `undeclared`, or empty for the top.
    pub kind: &'static str,
    /// The cluster whose rule it is; empty for other kinds.
    pub owner: String,
    /// Its name, where the kind has names.
    pub name: String,
    /// Its keys.
    pub rows: Vec<Row>,
}

impl Section {
    fn new(kind: &'static str, name: impl Into<String>, rows: Vec<Row>) -> Section {
        Section { kind, owner: String::new(), name: name.into(), rows }
    }

    /// `pool.main`, `cluster.main.rule.hot`, `undeclared`, or empty for the top.
    #[must_use]
    pub fn path(&self) -> String {
        self.joined(str::to_owned)
    }

    fn is_same(&self, other: &Section) -> bool {
        (self.kind, &self.owner, &self.name) == (other.kind, &other.owner, &other.name)
    }

    fn joined(&self, written: impl Fn(&str) -> String) -> String {
        match (self.owner.is_empty(), self.name.is_empty()) {
            (false, _) => format!("cluster.{}.rule.{}", written(&self.owner), written(&self.name)),
            (true, true) => self.kind.to_owned(),
            (true, false) => format!("{}.{}", self.kind, written(&self.name)),
        }
    }
}

/// One key with the value in force.
#[derive(Clone, Debug)]
pub struct Row {
    /// The key.
    pub key: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// Which direction takes something away.
    pub tighter: Tighter,
    /// The value.
    pub value: Value,
}

/// Every section with every key, in the order of the reference.
#[must_use]
pub fn sections(config: &Config) -> Vec<Section> {
    let top = ProcessDraft {
        process: config.process.clone(),
        reply_bytes_max: config.settings.reply_bytes_max,
        input_bytes_max: config.settings.input_bytes_max,
    };
    let mut all = vec![Section::new("", "", rows(&[PROCESS], &top))];
    for pool in &config.settings.pools {
        all.push(Section::new("pool", &*pool.name, rows(&[POOL], pool)));
    }
    for cluster in &config.settings.clusters {
        all.push(Section::new("cluster", &*cluster.name, rows(&[CLUSTER], cluster)));
        all.extend(cluster.rules.iter().map(|rule| Section {
            owner: cluster.name.to_string(),
            ..Section::new("rule", &*rule.name, rows(&[RULE], &RuleDraft::of(rule)))
        }));
    }
    for (settings, (service, _)) in config.settings.services.iter().zip(&config.services) {
        let draft = ServiceDraft { settings: settings.clone(), ..service.clone() };
        all.push(Section::new("service", &*settings.name, rows(&[SERVICE], &draft)));
    }
    for index in 0..config.settings.listeners.len() {
        let draft = listener_draft(config, index);
        all.push(Section::new("listener", &*draft.settings.name, rows(&[LISTENER], &draft)));
    }
    for (name, limits) in &config.settings.callers {
        let draft = caller_draft(config, name, limits);
        all.push(Section::new("callers", &**name, rows(&CALLER, &draft)));
    }
    all.push(Section::new("undeclared", "", rows(&[LIMITS], &config.settings.undeclared)));
    all
}

fn rows<T>(keys: &[&[Key<T>]], held: &T) -> Vec<Row> {
    keys.iter()
        .flat_map(|keys| keys.iter())
        .map(|key| Row { key: key.name, kind: key.kind, tighter: key.tighter, value: (key.get)(held) })
        .collect()
}

fn listener_draft(config: &Config, index: usize) -> ListenerDraft {
    let settings = config.settings.listeners[index].clone();
    let door = &config.doors[index];
    ListenerDraft {
        address: Some(settings.address.clone()),
        pool: settings.backend.pool().map(|_| config.settings.backend_name(settings.backend)),
        cluster: settings.backend.cluster().map(|_| config.settings.backend_name(settings.backend)),
        service: matches!(settings.backend, Backend::Service(_))
            .then(|| config.settings.backend_name(settings.backend)),
        second_weir: settings.second_weir.map(Address::from),
        settings,
        mode: ModeBits(door.mode),
        group: door.group.as_ref().map(|group| group.name.clone()),
        backlog: door.backlog,
        on_client_close: Some(door.on_client_close),
        principal: door.principal,
        allow_remote: door.allow_remote,
        tls: door.tls.clone(),
        tokens: door.tokens.clone(),
    }
}

fn caller_draft(config: &Config, name: &str, limits: &CallerLimits) -> CallerDraft {
    let rule = config.principals.iter().find(|rule| &*rule.caller == name);
    let listener = rule
        .and_then(|rule| rule.listener)
        .and_then(|id| config.settings.listeners.get(id.0 as usize))
        .map(|listener| listener.name.clone());
    let signs = config.issuers.iter().find(|issuer| &*issuer.caller == name);
    CallerDraft {
        limits: limits.clone(),
        uid: rule.and_then(|rule| rule.uid),
        listener,
        jwt_issuer: signs.map(|signs| signs.issuer.clone()),
        jwt_keys: signs
            .map_or_else(Vec::new, |signs| signs.keys.iter().map(|key| key.text().clone()).collect()),
    }
}

/// The effective configuration as a `weir.toml`.
#[must_use]
pub fn to_toml(config: &Config) -> String {
    let mut text = String::new();
    for section in sections(config) {
        if !section.kind.is_empty() {
            let _ = writeln!(text, "\n[{}]", section.joined(bare));
        }
        for row in &section.rows {
            if let Some(value) = row.value.to_toml(row.kind) {
                let _ = writeln!(text, "{} = {value}", row.key);
            }
        }
    }
    text
}

/// A name as a part of a TOML header.
fn bare(name: &str) -> String {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    if plain && !name.is_empty() { name.to_owned() } else { quoted(name) }
}

/// The effective configuration as a tree.
#[must_use]
pub fn to_json(config: &Config) -> serde_json::Value {
    let mut root = serde_json::Map::new();
    for section in sections(config) {
        let tree: serde_json::Map<String, serde_json::Value> =
            section.rows.iter().map(|row| (row.key.to_owned(), row.value.to_json())).collect();
        match (section.kind, section.name.is_empty()) {
            ("", _) => root.extend(tree),
            (kind, true) => {
                root.insert(kind.to_owned(), tree.into());
            }
            ("rule", false) => {
                if let Some(rules) = root.get_mut("cluster").and_then(|named| {
                    let cluster = named.get_mut(&section.owner)?.as_object_mut()?;
                    cluster.entry("rule").or_insert_with(|| serde_json::Map::new().into()).as_object_mut()
                }) {
                    rules.insert(section.name, tree.into());
                }
            }
            (kind, false) => {
                if let Some(named) =
                    root.entry(kind).or_insert_with(|| serde_json::Map::new().into()).as_object_mut()
                {
                    named.insert(section.name, tree.into());
                }
            }
        }
    }
    root.into()
}

/// Identifies the effective content: half of the MD5 of [`to_toml`], the same on every machine and in every version
/// that knows the same keys.
#[must_use]
pub fn hash(config: &Config) -> ConfigHash {
    let digest: [u8; 16] = Md5::digest(to_toml(config).as_bytes()).into();
    let (first, _) = digest.split_first_chunk::<8>().unwrap_or((&[0; 8], &[]));
    ConfigHash(u64::from_be_bytes(*first))
}

/// One difference between two configurations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The kind of its section: `pool`, `rule` ([`Section::kind`]).
    pub section: &'static str,
    /// `pool.main.chunk_keys`, or a section's path.
    pub path: String,
    /// What happened.
    pub change: ValueChange,
    /// Whether it takes something away from clients.
    pub tighter: bool,
}

/// How something differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValueChange {
    /// The section is only in the new one.
    Added,
    /// The section is only in the old one.
    Lost,
    /// The key's value, old and new, as written in a file.
    Changed {
        /// Before.
        old: String,
        /// After.
        new: String,
    },
    /// The file that the key names is the same one and holds something else. It is never shown.
    Content,
}

/// Whether a difference cannot be taken over by a running weir: its threads, sockets and upstream connections are made
/// once. A reload with such a difference is refused whole, so that what /config says is always what is in force.
#[must_use]
pub fn needs_restart(difference: &Difference) -> bool {
    let key = difference.path.rsplit('.').next().unwrap_or_default();
    match (difference.section, &difference.change) {
        ("pool" | "cluster" | "service" | "listener", ValueChange::Added | ValueChange::Lost) => true,
        (section, _) => is_fixed(section, key),
    }
}

/// Whether a key of such a section keeps its value while weir runs.
#[must_use]
pub fn is_fixed(section: &str, key: &str) -> bool {
    match section {
        "callers" | "undeclared" | "rule" => false,
        "pool" => matches!(key, "servers" | "ring" | "connections_per_server" | "auth_file"),
        "cluster" => {
            let fixed =
                ["connections_per_node", "streams_per_connection", "prepared_max", "auth_file", "clients"];
            fixed.contains(&key) || key.starts_with("tls")
        }
        "service" => {
            let fixed = [
                "servers",
                "upstream",
                "connections",
                "streams_per_connection",
                "connect_timeout",
                "request_max",
                "held_bytes_max",
                "upload_max",
                "header_bytes_max",
                "headers_max",
                "client_streams_max",
                "body_timeout",
                "write_timeout",
                "read_timeout",
                "split_reply_max",
                "retry_percent",
            ];
            fixed.contains(&key)
                || ["health", "eject", "tls", "cache_"].iter().any(|group| key.starts_with(group))
        }
        "listener" => {
            let fixed = ["address", "pool", "cluster", "service", "mode", "group", "backlog", "principal"];
            fixed.contains(&key) || matches!(key, "tls_cert" | "tls_key" | "tls_client_ca")
        }
        _ => !matches!(
            key,
            "drain_timeout"
                | "correlated_requests_max"
                | "correlation_notes_max"
                | "reply_bytes_max"
                | "input_bytes_max"
        ),
    }
}

/// Listeners that would speak another protocol or lead to another pool or cluster: the name, before, after.
#[must_use]
pub fn backends_changed(old: &Config, new: &Config) -> Vec<(String, String, String)> {
    let shown = |config: &Config, backend: Backend| {
        let kind = match backend {
            Backend::Pool(_) => "pool",
            Backend::Cluster(_) => "cluster",
            Backend::Service(_) => "service",
        };
        format!("{kind} {}", config.settings.backend_name(backend))
    };
    let after = |name: &str| new.settings.listeners.iter().find(|listener| *listener.name == *name);
    let listeners = old.settings.listeners.iter();
    listeners
        .filter_map(|listener| {
            let other = after(&listener.name)?;
            Some((listener.name.to_string(), shown(old, listener.backend), shown(new, other.backend)))
        })
        .filter(|(_, before, after)| before != after)
        .collect()
}

/// What differs between an old configuration and a new one, in the order of the reference.
#[must_use]
pub fn differences(old: &Config, new: &Config) -> Vec<Difference> {
    let (before, after) = (sections(old), sections(new));
    let mut found = Vec::new();
    for section in &before {
        let (kind, path) = (section.kind, section.path());
        let Some(other) = after.iter().find(|other| other.is_same(section)) else {
            let tighter = kind == "listener";
            found.push(Difference { section: kind, path, change: ValueChange::Lost, tighter });
            continue;
        };
        for (row, other) in
            section.rows.iter().zip(&other.rows).filter(|(row, other)| row.value != other.value)
        {
            let shown = |row: &Row| row.value.to_toml(row.kind).unwrap_or_else(|| "(nothing)".to_owned());
            let path = if path.is_empty() { row.key.to_owned() } else { format!("{path}.{}", row.key) };
            let change = ValueChange::Changed { old: shown(row), new: shown(other) };
            found.push(Difference { section: kind, path, change, tighter: is_tighter(row, &other.value) });
        }
    }
    found.extend(page_keys_changed(old, new));
    for section in &after {
        if !before.iter().any(|other| other.is_same(section)) {
            let (kind, path) = (section.kind, section.path());
            let tighter = kind == "callers";
            found.push(Difference { section: kind, path, change: ValueChange::Added, tighter });
        }
    }
    found
}

/// Clusters whose `paging_key_file` holds another key than before. Where files are not read there is nothing to compare.
fn page_keys_changed(old: &Config, new: &Config) -> Vec<Difference> {
    let clusters = new.settings.clusters.iter().filter(|cluster| {
        let before = old.settings.clusters.iter().find(|before| before.name == cluster.name);
        before.is_some_and(|before| {
            before.paging_key_file == cluster.paging_key_file
                && matches!((&before.page_key, &cluster.page_key), (Some(before), Some(after)) if before != after)
        })
    });
    clusters
        .map(|cluster| Difference {
            section: "cluster",
            path: format!("cluster.{}.paging_key_file", cluster.name),
            change: ValueChange::Content,
            tighter: false,
        })
        .collect()
}

fn is_tighter(old: &Row, new: &Value) -> bool {
    match old.tighter {
        Tighter::Neither => false,
        Tighter::Less => match (amount(&old.value), amount(new)) {
            (None, Some(_)) => true,
            (Some(old), Some(new)) => new < old,
            (_, None) => false,
        },
        Tighter::LaterWord => {
            let Kind::Word(words) = old.kind else { return false };
            let rank = |value: &Value| match value {
                Value::Word(word) => words.iter().position(|(name, _)| name == word),
                _ => None,
            };
            rank(new) > rank(&old.value)
        }
    }
}

fn amount(value: &Value) -> Option<u64> {
    match value {
        Value::Count(count) => Some(*count),
        Value::Size(bytes) => Some(bytes.0),
        Value::Span(span) => Some(span.0),
        _ => None,
    }
}
