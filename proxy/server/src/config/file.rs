//! The file shape: sections and keys as they are written, every value already of its kind. No unknown key passes.

use super::checked::ProcessConfig;
use super::host::Host;
use super::keys::{
    CALLER, CALLERS_MAX, CLUSTER, CLUSTERS_MAX, CallerDraft, LIMITS, LISTENER, LISTENERS_MAX, ListenerDraft,
    POOL, POOLS_MAX, PROCESS, ProcessDraft, RULE, SECTIONS, SERVICE, SERVICES_MAX, ServiceDraft,
};
use super::problem::{Lines, Problem, Severity};
use super::rules::{self, ClusterRule};
use super::schema::{Absent, Key};
use super::values::{NAME_HELP, is_name, read_value};
use std::collections::BTreeMap;
use std::sync::Arc;
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use weir_engine::settings::{Address, CallerLimits, ClusterSettings, PoolSettings, Settings};
use weir_engine::units::Span;

/// Where each key of a section was written: byte offsets of the values.
pub type Places = BTreeMap<&'static str, usize>;

/// One section while it is read.
#[derive(Clone, Debug)]
pub struct Draft<T> {
    /// Its name; empty for the top of the file and `[undeclared]`.
    pub name: Arc<str>,
    /// Byte offset of its header; nothing when it comes from flags.
    pub at: Option<usize>,
    /// Where its keys were written.
    pub places: Places,
    /// Its values.
    pub held: T,
}

impl<T> Draft<T> {
    /// A section that no file wrote.
    #[must_use]
    pub fn unwritten(name: &str, held: T) -> Draft<T> {
        Draft { name: name.into(), at: None, places: Places::new(), held }
    }

    /// Where the key was written, or else the section.
    #[must_use]
    pub fn place(&self, key: &str) -> Option<usize> {
        self.places.get(key).copied().or(self.at)
    }
}

/// Everything a file says.
#[derive(Clone, Debug)]
pub struct FileShape {
    /// The keys at the top.
    pub process: Draft<ProcessDraft>,
    /// `[pool.NAME]`, in the order of the file.
    pub pools: Vec<Draft<PoolSettings>>,
    /// `[cluster.NAME]`, in the order of the file.
    pub clusters: Vec<Draft<ClusterSettings>>,
    /// `[cluster.NAME.rule.RULE]`, in the order of the file.
    pub rules: Vec<ClusterRule>,
    /// `[service.NAME]`, in the order of the file.
    pub services: Vec<Draft<ServiceDraft>>,
    /// `[listener.NAME]`, in the order of the file.
    pub listeners: Vec<Draft<ListenerDraft>>,
    /// `[callers.NAME]`, in the order of the file.
    pub callers: Vec<Draft<CallerDraft>>,
    /// `[undeclared]`.
    pub undeclared: Draft<CallerLimits>,
}

impl FileShape {
    /// What an empty file says on this machine.
    #[must_use]
    pub fn empty(host: &Host) -> FileShape {
        FileShape {
            process: Draft::unwritten("", default_process(host)),
            pools: Vec::new(),
            clusters: Vec::new(),
            rules: Vec::new(),
            services: Vec::new(),
            listeners: Vec::new(),
            callers: Vec::new(),
            undeclared: Draft::unwritten("", CallerLimits::default()),
        }
    }
}

/// The process keys nobody wrote.
#[must_use]
pub fn default_process(host: &Host) -> ProcessDraft {
    let admin = host
        .default_admin
        .as_ref()
        .and_then(|path| path.to_str())
        .map(|path| Address::Unix { path: path.into() });
    let bounds = Settings::default();
    let process = ProcessConfig {
        workers: host.default_workers(),
        metrics: Vec::new(),
        admin_is_default: admin.is_some(),
        admin: admin.into_iter().collect(),
        admin_token_file: None,
        state_dir: host.default_state_dir.clone(),
        drain_timeout: Span::secs(30),
        busy_poll: Span(28),
        attribution: None,
        attribution_timeout: Span::millis(100),
        max_callers: 64,
        correlated_requests_max: 65_536,
        correlation_notes_max: 4_096,
        nofile: None,
    };
    ProcessDraft { process, reply_bytes_max: bounds.reply_bytes_max, input_bytes_max: bounds.input_bytes_max }
}

/// Gathers problems with their places.
#[derive(Debug)]
pub struct Collector<'t> {
    lines: Option<Lines<'t>>,
    found: Vec<(usize, Problem)>,
}

impl<'t> Collector<'t> {
    /// Problems of the text of a file.
    #[must_use]
    pub fn of_file(file: &str, text: &'t str) -> Collector<'t> {
        Collector { lines: Some(Lines::new(file, text)), found: Vec::new() }
    }

    /// Problems of flags: they have no place.
    #[must_use]
    pub fn of_flags() -> Collector<'static> {
        Collector { lines: None, found: Vec::new() }
    }

    /// Adds an error at a byte of the file.
    pub fn error(&mut self, at: usize, path: &str, what: impl Into<String>, help: Option<String>) {
        self.add(Some(at), Problem { help, ..Problem::error(path, what) });
    }

    /// Adds a problem; without a place it is about the whole.
    pub fn add(&mut self, at: Option<usize>, mut problem: Problem) {
        problem.place = at.and_then(|at| self.lines.as_ref().map(|lines| lines.place(at)));
        self.found.push((at.unwrap_or(usize::MAX), problem));
    }

    /// Errors so far.
    #[must_use]
    pub fn errors(&self) -> usize {
        self.found.iter().filter(|(_, problem)| problem.severity == Severity::Error).count()
    }

    /// Drops what was found on lines that also have one of the first `keep` problems (syntax errors: what recovery made
    /// of such a line is not what the operator wrote).
    fn forgive_lines_of_first(&mut self, keep: usize) {
        let line = |problem: &Problem| problem.place.as_ref().map(|place| place.line);
        let broken: Vec<_> = self.found[..keep].iter().map(|(_, problem)| line(problem)).collect();
        let mut index = 0;
        self.found.retain(|(_, problem)| {
            index += 1;
            index <= keep || !broken.contains(&line(problem))
        });
    }

    /// The problems in the order of the file; those without a place come last.
    #[must_use]
    pub fn finish(mut self) -> Vec<Problem> {
        self.found.sort_by_key(|(at, _)| *at);
        self.found.into_iter().map(|(_, problem)| problem).collect()
    }
}

/// Reads a text. The second value is false when the syntax is broken: what follows from the whole (`relations.rs`) is
/// not to be checked then.
pub fn read_file(collector: &mut Collector<'_>, text: &str, host: &Host) -> (FileShape, bool) {
    let (mut root, syntax) = DeTable::parse_recoverable(text);
    for error in &syntax {
        let at = error.span().map_or(0, |span| span.start);
        collector.error(at, "", format!("TOML: {}", error.message().trim()), None);
    }
    let broken = collector.errors();
    let mut shape = FileShape::empty(host);
    shape.rules = rules::take(collector, root.get_mut());
    let root = root.get_ref();
    let own_admin = root.contains_key("admin");
    let top: DeTable<'_> = root
        .iter()
        .filter(|(key, _)| !SECTIONS.contains(&key.get_ref().as_ref()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    shape.process.places = read_keys(collector, "", &top, &[PROCESS], &mut shape.process.held);
    shape.process.held.process.admin_is_default &= !own_admin;

    if let Some((key, value)) = root.get_key_value("undeclared") {
        shape.undeclared.at = Some(key.span().start);
        if let Some(table) = as_table(collector, "undeclared", key.span().start, value) {
            shape.undeclared.places =
                read_keys(collector, "undeclared", table, &[LIMITS], &mut shape.undeclared.held);
        }
    }
    let undeclared = shape.undeclared.held.clone();
    shape.pools = read_named(collector, root, "pool", "pool", POOLS_MAX, &[POOL], |name| {
        PoolSettings::new(name, Vec::new())
    });
    let cluster = |name: &str| ClusterSettings::new(name, Vec::new());
    shape.clusters = read_named(collector, root, "cluster", "cluster", CLUSTERS_MAX, &[CLUSTER], cluster);
    shape.services =
        read_named(collector, root, "service", "service", SERVICES_MAX, &[SERVICE], ServiceDraft::new);
    shape.listeners =
        read_named(collector, root, "listener", "listener", LISTENERS_MAX, &[LISTENER], ListenerDraft::new);
    shape.callers = read_named(collector, root, "callers", "callers", CALLERS_MAX, &CALLER, |_| {
        CallerDraft { limits: undeclared.clone(), ..CallerDraft::default() }
    });
    collector.forgive_lines_of_first(broken);
    (shape, broken == 0)
}

fn as_table<'v, 'i>(
    collector: &mut Collector<'_>,
    path: &str,
    at: usize,
    value: &'v Spanned<DeValue<'i>>,
) -> Option<&'v DeTable<'i>> {
    match value.get_ref() {
        DeValue::Table(table) => Some(table),
        _ => {
            let header = if path == "undeclared" { "undeclared".to_owned() } else { format!("{path}.NAME") };
            collector.error(
                at,
                path,
                format!("`{path}` is a section, not a key"),
                Some(format!("write [{header}]")),
            );
            None
        }
    }
}

/// Reads the sections under the key `section` of `root`, which problems call `path`.
pub fn read_named<T>(
    collector: &mut Collector<'_>,
    root: &DeTable<'_>,
    section: &str,
    path: &str,
    most: usize,
    keys: &[&[Key<T>]],
    new: impl Fn(&str) -> T,
) -> Vec<Draft<T>> {
    let Some((key, value)) = root.get_key_value(section) else { return Vec::new() };
    let Some(named) = as_table(collector, path, key.span().start, value) else { return Vec::new() };
    let mut drafts = Vec::new();
    for (name, value) in named {
        let at = name.span().start;
        let text: &str = name.get_ref();
        let whole = format!("{path}.{text}");
        let DeValue::Table(table) = value.get_ref() else {
            let help = match keys.iter().any(|keys| keys.iter().any(|key| key.name == text)) {
                true => format!("the section needs a name: write [{path}.NAME] and the key under it"),
                false => format!("write [{whole}] as a section"),
            };
            collector.error(at, &whole, format!("[{path}] holds sections, not keys"), Some(help));
            continue;
        };
        if !is_name(text) {
            let what = "this cannot be the name of a section";
            collector.error(at, &whole, what, Some(NAME_HELP.to_owned()));
        }
        if drafts.len() == most {
            let what = format!("there are more than {most} sections of this kind");
            collector.error(at, &whole, what, None);
            break;
        }
        let mut held = new(text);
        let places = read_keys(collector, &whole, table, keys, &mut held);
        drafts.push(Draft { name: text.into(), at: Some(at), places, held });
    }
    drafts
}

/// Reads the keys of one section into `held`. Answers where each known key was written.
pub fn read_keys<T>(
    collector: &mut Collector<'_>,
    section: &str,
    table: &DeTable<'_>,
    keys: &[&[Key<T>]],
    held: &mut T,
) -> Places {
    let mut places = Places::new();
    for (name, value) in table {
        let text: &str = name.get_ref();
        let path = if section.is_empty() { text.to_owned() } else { format!("{section}.{text}") };
        let known = keys.iter().flat_map(|keys| keys.iter());
        let Some(key) = known.clone().find(|key| key.name == text) else {
            let near = suggestion(text, known.map(|key| key.name));
            let is_table = matches!(value.get_ref(), DeValue::Table(_));
            let (what, help) = unknown(section, text, near, is_table);
            collector.error(name.span().start, &path, what, help);
            continue;
        };
        places.insert(key.name, value.span().start);
        if let Some(value) = read_value(collector, &path, key.kind, value) {
            let set = (key.set)(held, value);
            debug_assert!(set.is_some(), "the kind of {} does not fit its field", key.name);
        }
    }
    places
}

fn unknown(section: &str, name: &str, near: Option<&str>, is_table: bool) -> (String, Option<String>) {
    if section.is_empty() && is_table {
        let near = suggestion(name, SECTIONS.iter().copied());
        let help = match near {
            Some("undeclared") => "did you mean [undeclared]?".to_owned(),
            Some(near) => format!("did you mean [{near}.NAME]?"),
            None => {
                "the sections are [pool.NAME], [cluster.NAME], [service.NAME], [listener.NAME], [callers.NAME] and [undeclared]"
                    .to_owned()
            }
        };
        return ("there is no such section".to_owned(), Some(help));
    }
    let help = match (near, home_of(name)) {
        (_, Some(home)) => Some(format!("`{name}` is a key of {home}")),
        (Some(near), None) => Some(format!("did you mean `{near}`?")),
        (None, None) => None,
    };
    ("there is no such key here".to_owned(), help)
}

/// The sections that have a key of exactly this name.
fn home_of(name: &str) -> Option<String> {
    let has = |home: &'static str, found: bool| found.then_some(home);
    let homes: Vec<&str> = [
        has("the top of the file (before the first section)", PROCESS.iter().any(|key| key.name == name)),
        has("[pool.NAME]", POOL.iter().any(|key| key.name == name)),
        has("[cluster.NAME]", CLUSTER.iter().any(|key| key.name == name)),
        has("[cluster.NAME.rule.RULE]", RULE.iter().any(|key| key.name == name)),
        has("[service.NAME]", SERVICE.iter().any(|key| key.name == name)),
        has("[listener.NAME]", LISTENER.iter().any(|key| key.name == name)),
        has("[callers.NAME]", CALLER.iter().flat_map(|keys| keys.iter()).any(|key| key.name == name)),
    ]
    .into_iter()
    .flatten()
    .collect();
    (!homes.is_empty()).then(|| homes.join(" and of "))
}

/// The candidate that `text` most probably meant.
pub fn suggestion<'c>(text: &str, candidates: impl Iterator<Item = &'c str>) -> Option<&'c str> {
    if text.len() > 128 {
        return None;
    }
    candidates
        .map(|candidate| (strsim::jaro_winkler(text, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

/// Required keys that a section does not have.
pub fn missing<T>(
    collector: &mut Collector<'_>,
    path: &str,
    draft: &Draft<T>,
    keys: &[Key<T>],
    example: &str,
) {
    for key in keys.iter().filter(|key| key.default == Absent::Required) {
        if !draft.places.contains_key(key.name) && draft.at.is_some() {
            let problem = Problem::error(path, format!("the key `{}` is missing", key.name)).help(example);
            collector.add(draft.at, problem);
        }
    }
}
