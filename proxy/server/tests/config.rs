//! `weir.toml` from the outside: what it says about files with problems (golden), that the effective configuration
//! reads back to itself, that the reference is what the code says, and that no file makes it panic (property).

use proptest::prelude::*;
use std::path::{Path, PathBuf};
use weir::cli::{Route, RunArgs};
use weir::config::address::parse_address;
use weir::config::{Config, Host, OnClientClose, PrincipalKind, Severity, effective, reference};
use weir_engine::settings::{FlushPolicy, LimitMode};
use weir_engine::units::{ListenerId, Operations, Span};

/// A machine that has nothing to say.
fn quiet() -> Host {
    Host { groups: Some("root:x:0:\ncache:x:42:\n".into()), ..Host::default() }
}

fn read(text: &str) -> Result<Config, String> {
    Config::from_text("weir.toml", text, &quiet()).map_err(|problems| problems.to_string())
}

/// Compares with a file of this repository; `WEIR_BLESS=1` writes it instead.
fn golden(path: &Path, actual: &str) {
    if std::env::var_os("WEIR_BLESS").is_some() {
        std::fs::write(path, actual).expect("the golden file can be written");
        return;
    }
    let expected = std::fs::read_to_string(path).unwrap_or_default();
    assert!(expected == actual, "{} differs (WEIR_BLESS=1 writes it):\n{actual}", path.display());
}

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

const GOOD: &str = "\
[pool.main]
servers = [\"127.0.0.1:11211\"]
[listener.cache]
address = \"127.0.0.1:11311\"
";

#[test]
fn every_problem_of_a_file_is_told_at_once() {
    let text = std::fs::read_to_string(here("tests/config/many.toml")).expect("the file is there");
    let problems = read(&text).expect_err("nothing in it is right");
    golden(&here("tests/config/many.txt"), &format!("{problems}\n"));
}

#[test]
fn broken_syntax_does_not_hide_other_keys() {
    let text = "workers = \nmetrics = 5\n[pool.main\nservers = [\"a:1\"]\nchunk_kezs = 1\n";
    let problems = read(text).expect_err("the syntax is broken");
    golden(&here("tests/config/syntax.txt"), &format!("{problems}\n"));
}

#[test]
fn the_reference_is_what_the_code_says() {
    golden(&here("../../docs/configuration.md"), &reference::markdown());
}

#[test]
fn every_key_is_in_the_reference() {
    let page = reference::markdown();
    let config = read(reference::EXAMPLE_FILE).expect("the example is good");
    for section in effective::sections(&config) {
        for row in section.rows {
            assert!(page.contains(&format!("| `{}` |", row.key)), "{} is not in the reference", row.key);
        }
    }
}

#[test]
fn the_example_of_the_reference_has_no_problem() {
    let config = read(reference::EXAMPLE_FILE).expect("the example is good");
    assert_eq!(config.warnings, []);
    let importer = &config.settings.callers["importer"];
    assert_eq!(importer.operations_per_request, Some(Operations(500)));
    assert_eq!(importer.mode, LimitMode::Refuse);
    assert_eq!(&*config.principal_of(ListenerId(1), Some(1001)), "importer");
    assert_eq!(&*config.principal_of(ListenerId(1), Some(7)), "uid:7");
    assert_eq!(&*config.principal_of(ListenerId(0), None), "appview");
    assert_eq!(&*config.principal_of(ListenerId(0), Some(1001)), "appview", "no uid on TCP");
}

#[test]
fn defaults_are_those_of_the_engine() {
    let config = read(GOOD).expect("good");
    let settings = &config.settings;
    let server = settings.pools[0].servers.clone();
    assert_eq!(settings.pools[0], weir_engine::settings::PoolSettings::new("main", server));
    assert_eq!(settings.undeclared, weir_engine::settings::CallerLimits::default());
    assert_eq!(config.doors[0].on_client_close, OnClientClose::Reset, "loopback TCP");
    assert_eq!(config.doors[0].principal, PrincipalKind::Listener);
    assert_eq!(config.process.workers, 1);
    assert_eq!(config.process.drain_timeout, Span::secs(30));
}

#[test]
fn a_caller_takes_what_it_leaves_out_from_undeclared() {
    let text =
        format!("{GOOD}[undeclared]\noperations_per_request = 100\n[callers.cache]\nmode = \"refuse\"\n");
    let config = read(&text).expect("good");
    assert_eq!(config.settings.callers["cache"].operations_per_request, Some(Operations(100)));
    assert_eq!(config.settings.callers["cache"].mode, LimitMode::Refuse);
    assert_eq!(config.settings.undeclared.mode, LimitMode::Observe);
}

#[test]
fn the_effective_configuration_reads_back_to_itself() {
    let rich = format!(
        "{}\n[pool.b]\nservers = [{{ address = \"unix:/a\", weight = 3, name = \"n\" }}]\nflush_all = {{ prefix = \"s:\" }}\n\
         [listener.\"a/b\"]\naddress = \"unix:/run/b.sock\"\npool = \"b\"\nmode = 0o600\ngroup = \"cache\"\n\
         trusted_names = [\"x\", \"y\"]\nidle_timeout = \"1m30s\"\non_client_close = \"fin\"\n",
        reference::EXAMPLE_FILE
    );
    let config = read(&rich).expect("good");
    let text = effective::to_toml(&config);
    let again = read(&text).unwrap_or_else(|problems| panic!("{problems}\n{text}"));
    assert_eq!(again.settings, config.settings);
    assert_eq!(again.doors, config.doors);
    assert_eq!(again.principals, config.principals);
    assert_eq!(again.hash, config.hash);
    assert_eq!(effective::differences(&config, &again), []);
    assert_eq!(effective::to_json(&config)["pool"]["b"]["servers"][0]["weight"], 3);
}

#[test]
fn the_hash_is_of_the_content_and_not_of_its_form() {
    let one = read(GOOD).expect("good").hash;
    let same = read(&format!("# a comment\n{GOOD}\nmax_connections = 20_000\n")).expect("good").hash;
    let other = read(&format!("{GOOD}\nmax_connections = 20_001\n")).expect("good").hash;
    assert_eq!(one, same);
    assert_ne!(one, other);
}

#[test]
fn what_the_machine_lacks_is_a_warning() {
    let host = Host { somaxconn: Some(4_096), nofile_hard: Some(1_024), ..quiet() };
    let config = Config::from_text("weir.toml", GOOD, &host).expect("weir can run");
    let shown: Vec<String> = config.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "weir.toml:3:11: warning: listener.cache.backlog: the kernel cuts backlog = 16384 to net.core.somaxconn = 4096\n    \
             help: run sysctl -w net.core.somaxconn=16384, or lower backlog",
            "warning: the caps add up to 20161 open files (20000 clients, 1 upstream, 160 of weir's own), and this process \
             may have 1024: 863 clients at once, and more are turned away\n    help: raise the hard limit (LimitNOFILE=, ulimit -Hn), or lower max_connections",
        ]
    );
    assert!(config.warnings.iter().all(|problem| problem.severity == Severity::Warning));
}

#[test]
fn differences_say_what_gets_tighter() {
    let old = read(&format!("{GOOD}[listener.two]\naddress = \"unix:/two\"\n")).expect("good");
    let new = read(&format!(
        "{GOOD}max_connections = 10\n[callers.cache]\n[undeclared]\noperations_per_second = 5\nmode = \"pace\"\n"
    ))
    .expect("good");
    let shown: Vec<(String, bool)> =
        effective::differences(&old, &new).into_iter().map(|found| (found.path, found.tighter)).collect();
    let shown: Vec<(&str, bool)> = shown.iter().map(|(path, tighter)| (path.as_str(), *tighter)).collect();
    assert_eq!(
        shown,
        [
            ("listener.cache.max_connections", true),
            ("listener.two", true),
            ("undeclared.operations_per_second", true),
            ("undeclared.mode", true),
            ("callers.cache", true),
        ]
    );
    let back = effective::differences(&new, &old);
    assert!(
        back.iter()
            .filter(|found| found.path.contains('.') && found.path != "callers.cache")
            .all(|f| !f.tighter)
    );
}

fn flags(routes: &[(&str, &str)]) -> RunArgs {
    let address = |text: &str| parse_address(text).expect("an address");
    RunArgs {
        memcached: routes
            .iter()
            .map(|(listen, server)| Route { listen: address(listen), servers: vec![address(server)] })
            .collect(),
        admin: vec![address("unix:/tmp/weir-test-admin.sock")],
        ..RunArgs::default()
    }
}

#[test]
fn flags_need_no_file() {
    let one = Config::from_flags(&flags(&[("127.0.0.1:11311", "127.0.0.1:11211")])).expect("good");
    assert_eq!(one.settings.pools[0].flush_all, FlushPolicy::Allow, "one principal");
    assert_eq!(&*one.settings.listeners[0].name, "memcached");
    assert!(!one.process.admin_is_default);
    let two = Config::from_flags(&flags(&[("127.0.0.1:11311", "a:1"), ("unix:/tmp/two.sock", "b:1")]))
        .expect("good");
    assert!(two.settings.pools.iter().all(|pool| pool.flush_all == FlushPolicy::Refuse), "two principals");
    assert_eq!(&*two.settings.listeners[1].name, "memcached-2");
    let problems = Config::from_flags(&flags(&[("0.0.0.0:11311", "a:1"), ("127.0.0.1:11311", "b:1")]))
        .expect_err("two mistakes");
    assert_eq!(problems.errors(), 2, "{problems}");
}

#[test]
fn flags_take_the_place_of_keys() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("weir.toml");
    std::fs::write(&path, format!("workers = 3\n{GOOD}")).expect("written");
    let args = RunArgs { config: Some(path), ..flags(&[]) };
    let config = Config::from_flags(&args).expect("good");
    assert_eq!(config.process.workers, 3);
    assert_eq!(config.process.admin, args.admin);
    let config = Config::from_flags(&RunArgs { workers: Some(2), ..args }).expect("good");
    assert_eq!(config.process.workers, 2);
}

#[test]
fn a_file_that_cannot_be_read_is_one_problem() {
    let problems = Config::from_file(Path::new("/no/such/weir.toml")).expect_err("it is not there");
    assert!(problems.to_string().contains("/no/such/weir.toml: cannot be opened"), "{problems}");
}

#[test]
fn names_of_the_file_cannot_move_the_cursor() {
    let problems = read(&format!("{GOOD}\"\\u001b[2J\" = 1\n")).expect_err("no such key");
    assert!(!problems.contains('\x1b'), "{problems:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Bytes of a good file are changed at random; whatever comes of it, weir answers and does not panic, and what it
    /// accepts reads back to itself.
    #[test]
    fn no_file_makes_it_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..4usize, "[ -~\\n]{0,6}"), 1..12),
        base in prop::sample::select(vec!["many", "good"]),
    ) {
        let many = include_str!("config/many.toml");
        let mut text: Vec<char> = if base == "many" { many } else { reference::EXAMPLE_FILE }.chars().collect();
        for (at, cut, put) in edits {
            let at = at.index(text.len() + 1);
            let end = (at + cut).min(text.len());
            text.splice(at..end, put.chars());
        }
        let text: String = text.into_iter().collect();
        if let Ok(config) = read(&text) {
            let again = read(&effective::to_toml(&config)).expect("the effective configuration is good");
            prop_assert_eq!(again.hash, config.hash);
        }
    }
}
