//! What the operator asked for, checked. Every problem is told at once, each with the flag it is about.

use crate::cli::{LookArgs, RunArgs};
use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use weir_telemetry::escape::terminal;
use weir_telemetry::labels::is_valid_name;
use weir_telemetry::probes::catalogue::{DESTINATIONS, NAMESPACES, SERVICES};

/// Destinations that may be watched.
pub const WATCH_MAX: usize = DESTINATIONS;
/// Network namespaces that may be looked into beside one's own.
pub const NAMESPACES_MAX: usize = NAMESPACES - 1;
/// Processes that may be allowed, and that may be named as weir's own, each.
pub const PROCESSES_MAX: usize = 256;
/// Processes that may be named as services', and services that they may be of.
pub const SERVICES_MAX: usize = SERVICES;
/// weirs whose word may be compared.
pub const WEIRS_MAX: usize = 8;
/// The shortest interval between two pictures.
pub const INTERVAL_MIN: Duration = Duration::from_millis(200);
/// The longest interval.
pub const INTERVAL_MAX: Duration = Duration::from_secs(3_600);
/// What one's own network namespace is called.
pub const OWN_NAMESPACE: &str = "host";

/// What is spoken at a watched destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// memcached.
    Memcached,
    /// The Cassandra Query Language, as Cassandra and Scylla speak it.
    Cql,
}

/// A destination that is told apart from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Watch {
    /// Its address; `None` is any address with this port.
    pub address: Option<IpAddr>,
    /// Its port.
    pub port: u16,
    /// What is spoken there.
    pub protocol: Protocol,
}

/// A process, as an operator names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProcessName {
    /// By its id.
    Pid(u32),
    /// By its short name (`comm`).
    Short(String),
    /// By its program file.
    Executable(PathBuf),
}

/// A network namespace beside one's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedNamespace {
    /// Its label.
    pub name: String,
    /// A file that means it: `/run/netns/NAME`, `/proc/PID/ns/net`.
    pub path: PathBuf,
}

/// Processes of a service whose threads are timed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedService {
    /// Its label.
    pub name: String,
    /// Which processes; of several with one name all.
    pub process: ProcessName,
}

/// Where weir may ask whose its clients are, and who may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribution {
    /// The socket.
    pub path: PathBuf,
    /// Users that may ask; empty: the own one, and root.
    pub users: Vec<u32>,
    /// A group that may open the socket besides the own user.
    pub group: Option<u32>,
}

/// Everything, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What is watched.
    pub watch: Vec<Watch>,
    /// Processes that may go past weir.
    pub allow: Vec<ProcessName>,
    /// weir's own processes.
    pub own: Vec<ProcessName>,
    /// Namespaces beside one's own.
    pub namespaces: Vec<NamedNamespace>,
    /// Whether requests of processes that go past weir are counted.
    pub work: bool,
    /// Time between two pictures.
    pub interval: Duration,
    /// Services whose threads are timed.
    pub services: Vec<NamedService>,
    /// Where weirs of `own` tell their metrics, to be compared with what the kernel saw.
    pub weir_metrics: Vec<String>,
    /// Whether weir is answered whose its clients are, and where.
    pub attribution: Option<Attribution>,
}

impl Default for Settings {
    /// Any address with the port of memcached, CQL, or Scylla's shards; no process but `weir` is weir's.
    fn default() -> Settings {
        let any = |port, protocol| Watch { address: None, port, protocol };
        Settings {
            watch: vec![
                any(11_211, Protocol::Memcached),
                any(9_042, Protocol::Cql),
                any(19_042, Protocol::Cql),
            ],
            allow: Vec::new(),
            own: vec![ProcessName::Short("weir".to_owned())],
            namespaces: Vec::new(),
            work: false,
            interval: Duration::from_secs(5),
            services: Vec::new(),
            weir_metrics: Vec::new(),
            attribution: None,
        }
    }
}

/// What is wrong with the flags: at least one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<String>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.0 {
            writeln!(f, "error: {}", terminal(problem))?;
        }
        write!(f, "{} error{}", self.0.len(), if self.0.len() == 1 { "" } else { "s" })
    }
}

impl std::error::Error for Problems {}

impl Settings {
    /// Checks the flags of `weir-probes run`, and where it shall listen.
    ///
    /// # Errors
    /// Every problem there is.
    pub fn check(args: &RunArgs) -> Result<(String, Settings), Problems> {
        let mut problems = Vec::new();
        let listen = match &args.listen {
            None => Err("missing; say where /metrics is served, as in --listen 127.0.0.1:9467".to_owned()),
            Some(text) => place(text),
        };
        let listen = listen.map_err(|problem| problems.push(format!("--listen: {problem}"))).ok();
        let interval =
            interval(&args.interval).map_err(|problem| problems.push(format!("--interval: {problem}")));
        let mut settings = Settings::read(&args.look, &mut problems);
        settings.interval = interval.unwrap_or(settings.interval);
        settings.services =
            list("--service", &args.service, SERVICES_MAX, service, &mut problems).unwrap_or_default();
        settings.weir_metrics =
            list("--weir-metrics", &args.weir_metrics, WEIRS_MAX, place, &mut problems).unwrap_or_default();
        settings.attribution =
            args.attribution.as_deref().and_then(|text| match text.strip_prefix("unix:/") {
                Some(rest) if !rest.is_empty() => Some(Attribution {
                    path: Path::new("/").join(rest),
                    users: args.attribution_user.clone(),
                    group: args.attribution_group,
                }),
                _ => {
                    problems.push(format!("--attribution: \"{text}\" is no unix:/PATH"));
                    None
                }
            });
        match listen {
            Some(listen) if problems.is_empty() => Ok((listen, settings)),
            _ => Err(Problems(problems)),
        }
    }

    /// Checks what is looked at, for a command that listens nowhere.
    ///
    /// # Errors
    /// Every problem there is.
    pub fn look(args: &LookArgs) -> Result<Settings, Problems> {
        let mut problems = Vec::new();
        let settings = Settings::read(args, &mut problems);
        if problems.is_empty() { Ok(settings) } else { Err(Problems(problems)) }
    }

    fn read(args: &LookArgs, problems: &mut Vec<String>) -> Settings {
        let defaults = Settings::default();
        let settings = Settings {
            watch: list("--watch", &args.watch, WATCH_MAX, watch, problems).unwrap_or(defaults.watch),
            allow: list("--allow", &args.allow, PROCESSES_MAX, process, problems).unwrap_or_default(),
            own: list("--own", &args.own, PROCESSES_MAX, process, problems).unwrap_or(defaults.own),
            namespaces: list("--netns", &args.netns, NAMESPACES_MAX, namespace, problems).unwrap_or_default(),
            work: args.work,
            interval: defaults.interval,
            services: defaults.services,
            weir_metrics: defaults.weir_metrics,
            attribution: None,
        };
        settings.doubles(problems);
        settings
    }

    fn doubles(&self, problems: &mut Vec<String>) {
        let mut seen = BTreeSet::new();
        for watch in &self.watch {
            if !seen.insert((watch.address, watch.port)) {
                problems.push(format!("--watch: {watch} is given twice"));
            }
        }
        let mut seen = BTreeSet::new();
        for namespace in &self.namespaces {
            if !seen.insert(&namespace.name) {
                problems.push(format!("--netns: two namespaces are called \"{}\"", namespace.name));
            }
        }
    }
}

/// `None` where the flag was not given.
fn list<T>(
    flag: &str,
    texts: &[String],
    most: usize,
    parse: impl Fn(&str) -> Result<T, String>,
    problems: &mut Vec<String>,
) -> Option<Vec<T>> {
    if texts.is_empty() {
        return None;
    }
    if texts.len() > most {
        problems.push(format!("{flag}: {} times; at most {most}", texts.len()));
    }
    let parsed = texts
        .iter()
        .filter_map(|text| parse(text).map_err(|problem| problems.push(format!("{flag}: {problem}"))).ok());
    Some(parsed.collect())
}

/// A host and a port; the host may be a name.
fn place(text: &str) -> Result<String, String> {
    let parts = text.rsplit_once(':').filter(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    parts.map(|_| text.to_owned()).ok_or_else(|| format!("\"{text}\" is no HOST:PORT, as in 0.0.0.0:9467"))
}

fn watch(text: &str) -> Result<Watch, String> {
    let form =
        || format!("\"{text}\" is no ADDRESS:PORT=PROTOCOL, as in 127.0.0.1:11211=memcached or *:9042=cql");
    let (place, protocol) = text.rsplit_once('=').ok_or_else(form)?;
    let protocol = match protocol {
        "memcached" => Protocol::Memcached,
        "cql" => Protocol::Cql,
        _ => return Err(format!("\"{protocol}\" in \"{text}\" is no protocol (memcached, cql)")),
    };
    let (address, port) = match place.strip_prefix("*:") {
        Some(port) => (None, port.parse().map_err(|_| form())?),
        None => {
            let place: SocketAddr = place.parse().map_err(|_| form())?;
            (Some(place.ip().to_canonical()), place.port())
        }
    };
    if port == 0 {
        return Err(format!("\"{text}\": nobody listens on port 0"));
    }
    if address.is_some_and(|address| address.is_unspecified()) {
        return Err(format!("\"{text}\": any address is written *:{port}"));
    }
    Ok(Watch { address, port, protocol })
}

fn process(text: &str) -> Result<ProcessName, String> {
    if text.contains('/') {
        return if text.starts_with('/') {
            Ok(ProcessName::Executable(text.into()))
        } else {
            Err(format!("\"{text}\" is no absolute path of a program"))
        };
    }
    match text.parse() {
        Ok(0) => Err("no process has the id 0".to_owned()),
        Ok(pid) => Ok(ProcessName::Pid(pid)),
        // The kernel keeps 15 bytes.
        Err(_) if text.is_empty() || text.len() > 15 => Err(format!(
            "\"{text}\" is no short name of a process (1 to 15 bytes), process id or path of a program"
        )),
        Err(_) => Ok(ProcessName::Short(text.to_owned())),
    }
}

fn namespace(text: &str) -> Result<NamedNamespace, String> {
    let (name, path) = text
        .split_once('=')
        .ok_or_else(|| format!("\"{text}\" is no NAME=PATH, as in blue=/run/netns/blue"))?;
    if !is_valid_name(name) || name == OWN_NAMESPACE {
        return Err(format!("\"{name}\" in \"{text}\" cannot be a namespace's name"));
    }
    if !Path::new(path).is_absolute() {
        return Err(format!("\"{path}\" in \"{text}\" is no absolute path"));
    }
    Ok(NamedNamespace { name: name.to_owned(), path: path.into() })
}

fn service(text: &str) -> Result<NamedService, String> {
    let (name, of) = text.split_once('=').ok_or_else(|| {
        format!("\"{text}\" is no NAME=PROCESS, as in appview=/usr/bin/appview or appview=4242")
    })?;
    if !is_valid_name(name) {
        return Err(format!("\"{name}\" in \"{text}\" cannot be a service's name"));
    }
    Ok(NamedService { name: name.to_owned(), process: process(of)? })
}

fn interval(text: &str) -> Result<Duration, String> {
    let form = || format!("\"{text}\" is no time, as in 5s, 500ms, 1m");
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(form)?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| form())?;
    let millis = match unit {
        "ms" => Some(number),
        "s" => number.checked_mul(1_000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        _ => return Err(form()),
    };
    let interval = Duration::from_millis(millis.ok_or_else(form)?);
    if !(INTERVAL_MIN..=INTERVAL_MAX).contains(&interval) {
        return Err(format!("\"{text}\" is not between 200ms and 1h"));
    }
    Ok(interval)
}

impl fmt::Display for Watch {
    /// `127.0.0.1:11211`, or `*:11211`: as in a label, where it is one address.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => write!(f, "{}", SocketAddr::new(address, self.port)),
            None => write!(f, "*:{}", self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(listen: Option<&str>, watch: &[&str], netns: &[&str]) -> RunArgs {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        RunArgs {
            listen: listen.map(str::to_owned),
            look: LookArgs { watch: texts(watch), netns: texts(netns), ..LookArgs::default() },
            interval: "5s".to_owned(),
            service: Vec::new(),
            weir_metrics: Vec::new(),
            attribution: None,
            attribution_user: Vec::new(),
            attribution_group: None,
        }
    }

    #[test]
    fn without_flags_the_usual_ports_are_watched() {
        let (listen, settings) = Settings::check(&args(Some("[::]:9467"), &[], &[])).expect("all is well");
        assert_eq!(listen, "[::]:9467");
        assert_eq!(settings, Settings::default());
        let shown: Vec<String> = settings.watch.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["*:11211", "*:9042", "*:19042"]);
    }

    #[test]
    fn what_is_given_takes_the_place_of_the_defaults() {
        let mut args = args(
            Some("127.0.0.1:0"),
            &["127.0.0.1:11211=memcached", "[::1]:9042=cql", "[::ffff:10.0.0.1]:9042=cql", "*:19042=cql"],
            &["blue=/run/netns/blue"],
        );
        args.look.allow = vec!["mc-exporter".to_owned(), "4242".to_owned(), "/usr/bin/gomc".to_owned()];
        args.interval = "500ms".to_owned();
        args.service = vec!["appview=node".to_owned(), "appview=/usr/bin/appview".to_owned()];
        args.weir_metrics = vec!["localhost:9464".to_owned()];
        let (_, settings) = Settings::check(&args).expect("all is well");
        let shown: Vec<String> = settings.watch.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["127.0.0.1:11211", "[::1]:9042", "10.0.0.1:9042", "*:19042"]);
        assert_eq!(
            settings.allow,
            [
                ProcessName::Short("mc-exporter".to_owned()),
                ProcessName::Pid(4_242),
                ProcessName::Executable("/usr/bin/gomc".into())
            ]
        );
        assert_eq!(
            settings.namespaces,
            [NamedNamespace { name: "blue".to_owned(), path: "/run/netns/blue".into() }]
        );
        assert_eq!(settings.interval, Duration::from_millis(500));
        let of = |process| NamedService { name: "appview".to_owned(), process };
        assert_eq!(
            settings.services,
            [
                of(ProcessName::Short("node".to_owned())),
                of(ProcessName::Executable("/usr/bin/appview".into()))
            ]
        );
        assert_eq!(settings.weir_metrics, ["localhost:9464"]);
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let mut args = args(
            Some("localhost"),
            &["127.0.0.1:11211", "0.0.0.0:1=cql", "*:9042=cql", "*:9042=cql", "1.2.3.4:0=cql", "*:1=redis"],
            &["host=/a", "b=c", "d=/e", "d=/f", "\u{1b}[2J"],
        );
        args.look.allow = vec!["a-name-that-is-too-long".to_owned(), "bin/x".to_owned(), "0".to_owned()];
        args.interval = "5".to_owned();
        args.attribution = Some("/run/a.sock".to_owned());
        args.service = vec!["node".to_owned(), "_other=node".to_owned(), "a=b/c".to_owned()];
        args.weir_metrics = vec!["9464".to_owned()];
        let problems = Settings::check(&args).expect_err("nothing is well").to_string();
        let expected = "\
error: --listen: \"localhost\" is no HOST:PORT, as in 0.0.0.0:9467
error: --interval: \"5\" is no time, as in 5s, 500ms, 1m
error: --watch: \"127.0.0.1:11211\" is no ADDRESS:PORT=PROTOCOL, as in 127.0.0.1:11211=memcached or *:9042=cql
error: --watch: \"0.0.0.0:1=cql\": any address is written *:1
error: --watch: \"1.2.3.4:0=cql\": nobody listens on port 0
error: --watch: \"redis\" in \"*:1=redis\" is no protocol (memcached, cql)
error: --allow: \"a-name-that-is-too-long\" is no short name of a process (1 to 15 bytes), process id or path of a program
error: --allow: \"bin/x\" is no absolute path of a program
error: --allow: no process has the id 0
error: --netns: \"host\" in \"host=/a\" cannot be a namespace's name
error: --netns: \"c\" in \"b=c\" is no absolute path
error: --netns: \"\\u{1b}[2J\" is no NAME=PATH, as in blue=/run/netns/blue
error: --watch: *:9042 is given twice
error: --netns: two namespaces are called \"d\"
error: --service: \"node\" is no NAME=PROCESS, as in appview=/usr/bin/appview or appview=4242
error: --service: \"_other\" in \"_other=node\" cannot be a service's name
error: --service: \"b/c\" is no absolute path of a program
error: --weir-metrics: \"9464\" is no HOST:PORT, as in 0.0.0.0:9467
error: --attribution: \"/run/a.sock\" is no unix:/PATH
19 errors";
        assert_eq!(problems, expected);
    }

    #[test]
    fn intervals_are_bounded() {
        for (text, millis) in [("200ms", 200), ("1m", 60_000), ("1h", 3_600_000)] {
            assert_eq!(interval(text), Ok(Duration::from_millis(millis)));
        }
        for text in [
            "",
            "s",
            "5",
            "-5s",
            "5 s",
            "0s",
            "199ms",
            "2h",
            "99999999999999999999s",
            "18446744073709551615h",
        ] {
            assert!(interval(text).is_err(), "{text}");
        }
    }
}
