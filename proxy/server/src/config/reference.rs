//! docs/configuration.md, written from the key tables.

use super::effective::is_fixed;
use super::host::Host;
use super::keys::{
    CALLER, CLUSTER, CallerDraft, LIMITS, LISTENER, ListenerDraft, POOL, PROCESS, RULE, RuleDraft, SERVER,
    SERVICE, ServerDraft, ServiceDraft,
};
use super::quantity::{show_bytes, show_count, show_span};
use super::schema::{Absent, Key, Kind};
use std::fmt::Write as _;
use weir_engine::settings::{CallerLimits, ClusterSettings, PoolSettings};
use weir_engine::units::Bytes;

const HEAD: &str = "\
# Configuration

<!-- Written by `weir config-reference` from proxy/server/src/config/keys; a test compares. Do not edit by hand. -->

`weir run --config weir.toml` reads one TOML file. `weir check weir.toml` tells every problem of it at once, with line,
column and what to write instead; nothing is accepted half, and no unknown key passes. SIGHUP reads the file again: a
file with problems is refused whole, and weir goes on with the one it has. So is a file that a running weir cannot take
over. These need a restart, and the answer names them: pools, clusters, services or listeners added, removed or renamed, and

";

/// The rest of the head.
const HEAD_END: &str = "\
Everything else a reload takes over, and the files again that keys name (`tls_cert`, `paging_key_file`).

Durations carry a unit (`\"250ms\"`, `\"1m30s\"`; us, ms, s, m, h, d). Sizes are bytes or carry a unit (`\"256KiB\"`; B, KiB, MiB,
GiB, KB, MB, GB). Counts may group their digits (`20_000`). Addresses are `\"host:port\"`, `\"[v6]:port\"` or
`\"unix:/path\"`. Names have 1 to 64 of the characters `A-Z a-z 0-9 . _ : / @ -`; a name with other characters than
letters, digits, `_` and `-` is quoted in a header (`[callers.\"uid:1000\"]`). Paths are absolute.

";

const EXAMPLE: &str = "\
## Example

```toml
";

/// The smallest useful file with limits; a test checks that it has no problem.
pub const EXAMPLE_FILE: &str = "\
metrics = \"127.0.0.1:9466\"
state_dir = \"/var/lib/weir\"

[pool.cache]
servers = [\"10.0.0.1:11211\", { address = \"10.0.0.2:11211\", weight = 2 }]
ring = \"libmemcached-weighted\"

[listener.appview]
address = \"127.0.0.1:11311\"
pool = \"cache\"

[listener.shared]
address = \"unix:/run/weir/cache.sock\"
pool = \"cache\"
principal = \"uid\"

[cluster.main]
contacts = [\"10.0.0.11:9042\", \"10.0.0.12:9042\"]

[listener.timelines]
address = \"127.0.0.1:9142\"
cluster = \"main\"

[service.dataplane]
servers = [\"10.0.0.21:3000\"]
preset = \"bsky\"

[listener.views]
address = \"127.0.0.1:3100\"
service = \"dataplane\"

# Clients of the shared socket with this uid are the importer, and it is held to these limits.
[callers.importer]
uid = 1001
operations_per_request = 500
operations_per_second = 20_000
mode = \"refuse\"
class = \"batch\"

# Everybody else is watched and not refused.
[undeclared]
operations_per_request = 2_000
mode = \"observe\"
";

/// The whole page.
#[must_use]
pub fn markdown() -> String {
    let mut page = HEAD.to_owned();
    page.push_str(&fixed_keys());
    page.push_str(HEAD_END);
    page.push_str(EXAMPLE);
    page.push_str(EXAMPLE_FILE);
    page.push_str("```\n\n");
    let process = super::file::default_process(&Host::default());
    section(
        &mut page,
        "Top of the file",
        "Keys of the process, before the first section.",
        &[PROCESS],
        &process,
    );
    section(
        &mut page,
        "[pool.NAME]",
        "A set of memcached servers behind one ring. At most 64 pools.",
        &[POOL],
        &PoolSettings::new("", Vec::new()),
    );
    section(
        &mut page,
        "A server of `servers`",
        "When it is written as a table.",
        &[SERVER],
        &ServerDraft::default(),
    );
    section(
        &mut page,
        "[cluster.NAME]",
        "Nodes that speak CQL and share their data (Cassandra, ScyllaDB). At most 64 clusters.",
        &[CLUSTER],
        &ClusterSettings::new("", Vec::new()),
    );
    section(
        &mut page,
        "[cluster.NAME.rule.RULE]",
        "Choices for one table, or for one statement, of a cluster. At most 256 rules per cluster.",
        &[RULE],
        &RuleDraft::default(),
    );
    section(
        &mut page,
        "[service.NAME]",
        "Servers that answer gRPC, Connect or other HTTP (docs/rpc.md). At most 64 services.",
        &[SERVICE],
        &ServiceDraft::new(""),
    );
    section(
        &mut page,
        "[listener.NAME]",
        "A door for clients. Its name is a label value, and the caller name of clients nothing better is known about. At \
         most 64 listeners.",
        &[LISTENER],
        &ListenerDraft::new(""),
    );
    section(
        &mut page,
        "[callers.NAME]",
        "Limits of one caller, and which clients it is: those of a `uid`, of a `listener`, of both, or those \
         that come with a service token of its own; without any, the \
         listener of this name, `\"uid:N\"`, or a name that a listener has in `trusted_names`. **A limit that is left out \
         is the one of `[undeclared]`**, so that naming a caller never loosens its bounds; the defaults below are those of \
         an empty `[undeclared]`. At most 1,024 callers.",
        &CALLER,
        &CallerDraft::default(),
    );
    section(
        &mut page,
        "[undeclared]",
        "Limits of everybody else. All undeclared names of a principal share one budget.",
        &[LIMITS],
        &CallerLimits::default(),
    );
    page.truncate(page.trim_end().len());
    page.push('\n');
    page
}

/// The keys that a running weir does not take over, as a reload decides it.
fn fixed_keys() -> String {
    let mut text = String::new();
    let mut line = |what: &str, section: &'static str, keys: Vec<&'static str>| {
        let fixed = keys.into_iter().filter(|key| is_fixed(section, key));
        let keys: Vec<String> = fixed.map(|key| format!("`{key}`")).collect();
        let _ = writeln!(text, "- {what}: {}", keys.join(", "));
    };
    line("at the top", "", PROCESS.iter().map(|key| key.name).collect());
    line("of a pool", "pool", POOL.iter().map(|key| key.name).collect());
    line("of a cluster", "cluster", CLUSTER.iter().map(|key| key.name).collect());
    line("of a service", "service", SERVICE.iter().map(|key| key.name).collect());
    line("of a listener", "listener", LISTENER.iter().map(|key| key.name).collect());
    text.push('\n');
    text
}

fn section<T>(page: &mut String, title: &str, about: &str, keys: &[&[Key<T>]], default: &T) {
    let title = if title.starts_with('[') { format!("`{title}`") } else { title.to_owned() };
    let _ = writeln!(page, "## {title}\n\n{about}\n\n| key | value | default | meaning |\n|---|---|---|---|");
    for key in keys.iter().flat_map(|keys| keys.iter()) {
        let fallback = match key.default {
            Absent::Required => "**required**".to_owned(),
            Absent::Words(words) => words.to_owned(),
            Absent::Default => (key.get)(default)
                .to_toml(key.kind)
                .map_or_else(|| "none".to_owned(), |shown| format!("`{shown}`")),
        };
        let _ = writeln!(
            page,
            "| `{}` | {} | {fallback} | {}{} |",
            key.name,
            holds(key.kind),
            key.doc,
            words(key.kind)
        );
    }
    page.push('\n');
}

/// What a key may hold, with its bounds.
fn holds(kind: Kind) -> String {
    let unbounded = |max: u64| max >= i64::MAX as u64;
    match kind {
        Kind::Count(min, max) => format!("count, {} to {}", show_count(min), show_count(max)),
        Kind::Limit(min, max) if unbounded(max) => format!("count from {}, or `\"none\"`", show_count(min)),
        Kind::Limit(min, max) => format!("count, {} to {}, or `\"none\"`", show_count(min), show_count(max)),
        Kind::Size(min, max) => format!("size, {} to {}", show_bytes(Bytes(min)), show_bytes(Bytes(max))),
        Kind::SizeLimit(..) => "size, or `\"none\"`".to_owned(),
        Kind::Duration(min, max) => format!("duration, {} to {}", show_span(min), show_span(max)),
        Kind::Flag => "`true` or `false`".to_owned(),
        Kind::Word(words) => {
            words.iter().map(|(word, _)| format!("`\"{word}\"`")).collect::<Vec<_>>().join(", ")
        }
        Kind::Name => "name".to_owned(),
        Kind::Names(most) => format!("list of names, at most {}", show_count(most as u64)),
        Kind::Did => "DID".to_owned(),
        Kind::Dids(most) => format!("list of DIDs, at most {}", show_count(most as u64)),
        Kind::Paths(most) => format!("list of paths, at most {}", show_count(most as u64)),
        Kind::Table => "`\"keyspace.table\"`".to_owned(),
        Kind::Fingerprint => "16 hexadecimal digits".to_owned(),
        Kind::Ports => "`\"A-B\"`, ports from 1,024".to_owned(),
        Kind::Path => "path".to_owned(),
        Kind::Address => "address".to_owned(),
        Kind::Addresses(most) => format!("address, or a list of at most {most}"),
        Kind::FileMode => "octal, to 0o777".to_owned(),
        Kind::Servers(most) => format!("list of servers, at most {most}"),
        Kind::Flush => "`\"allow\"`, `\"refuse\"`, `{ prefix = \"...\" }`".to_owned(),
    }
}

fn words(kind: Kind) -> String {
    let Kind::Word(words) = kind else { return String::new() };
    let each: Vec<_> = words.iter().map(|(word, meaning)| format!("`{word}`: {meaning}")).collect();
    format!(" {}.", each.join("; "))
}
