//! `weir.toml` from the outside: what it says about files with problems (golden), that the effective configuration
//! reads back to itself, that the reference is what the code says, and that no file makes it panic (property).

use proptest::prelude::*;
use std::path::{Path, PathBuf};
use weir::cli::{Route, RunArgs};
use weir::config::address::parse_address;
use weir::config::{Config, Host, OnClientClose, PrincipalKind, Severity, effective, reference};
use weir_engine::settings::{Address, Backend, ClusterSettings, FlushPolicy, LimitMode, Subject};
use weir_engine::units::{ClusterId, ListenerId, Operations, PoolId, Span};

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
fn every_problem_of_clusters_is_told_at_once() {
    let text = std::fs::read_to_string(here("tests/config/clusters.toml")).expect("the file is there");
    let problems = read(&text).expect_err("little in it is right");
    golden(&here("tests/config/clusters.txt"), &format!("{problems}\n"));
}

#[test]
fn the_key_of_page_states_is_read_and_never_shown() {
    let dir = std::env::temp_dir().join(format!("weir-paging-key-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a directory");
    let file = dir.join("key");
    let host = Host { files: true, ..quiet() };
    let with = |content: &[u8], name: &str| {
        std::fs::write(&file, content).expect("the file can be written");
        let key = format!("paging_key_file = \"{}\"", file.display());
        let listener = format!("[listener.q]\naddress = \"127.0.0.1:9142\"\ncluster = \"{name}\"\n");
        let text = format!("[cluster.{name}]\ncontacts = \"10.0.0.1:9042\"\n{key}\n{listener}");
        Config::from_text("weir.toml", &text, &host).map_err(|problems| problems.to_string())
    };
    let key_of = |config: &Config| config.settings.clusters[0].page_key.clone();
    let good = with(b"0123456789abcdef-0123456789abcdef\n", "one").expect("33 bytes");
    let again = with(b"0123456789abcdef-0123456789abcdef", "two").expect("33 bytes");
    assert!(key_of(&good).is_some() && key_of(&good) == key_of(&again), "whatever the cluster is called");
    let other = with(&[b'a'; 64], "one").expect("64 digits");
    assert_ne!(key_of(&good), key_of(&other));
    let changed: Vec<_> = effective::differences(&good, &other)
        .into_iter()
        .map(|found| (found.path.clone(), effective::needs_restart(&found)))
        .collect();
    assert_eq!(changed, [("cluster.one.paging_key_file".to_owned(), false)], "the path is the same");
    assert_eq!(effective::differences(&other, &other.clone()), []);
    for shown in [format!("{:?}", good.settings), effective::to_toml(&good)] {
        assert!(!shown.contains("0123456789abcdef") && shown.contains("paging_key_file"), "{shown}");
    }
    for (content, what) in [
        (&b"short and secret"[..], "holds less than 32 bytes"),
        (&[b'a'; 63][..], "or than 64 hexadecimal digits"),
        (&[b'-'; 5_000][..], "is longer than 4096 bytes"),
    ] {
        let problems = with(content, "one").expect_err(what);
        assert!(problems.contains("cluster.one.paging_key_file") && problems.contains(what), "{problems}");
        assert!(!problems.contains("secret"), "{problems}");
    }
    std::fs::remove_dir_all(&dir).expect("it can be removed");
    let missing = Config::from_text(
        "weir.toml",
        "[cluster.one]\ncontacts = \"10.0.0.1:9042\"\npaging_key_file = \"/nonexistent/key\"\n",
        &host,
    );
    assert!(missing.expect_err("no file").to_string().contains("cannot be read"));
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
         trusted_names = [\"x\", \"y\"]\nidle_timeout = \"1m30s\"\non_client_close = \"fin\"\n\
         [cluster.\"dc/2\"]\ncontacts = \"[::1]:9042\"\nnewest_version = \"v3\"\nstreams_per_connection = 32_768\n\
         [cluster.\"dc/2\".rule.\"a.b\"]\ntable = \"Shop.orders\"\nsplit = \"off\"\nsplit_batches = true\nstamp_timestamps = true\ncache_ttl = \"250ms\"\n\
         [cluster.\"dc/2\".rule.hot]\nfingerprint = \"00FF00FF00FF00FF\"\njoin_in_flight = true\n\
         [listener.cql]\naddress = \"127.0.0.1:9143\"\ncluster = \"dc/2\"\n",
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
    let tree = effective::to_json(&config);
    assert_eq!(tree["pool"]["b"]["servers"][0]["weight"], 3);
    assert_eq!(tree["cluster"]["dc/2"]["newest_version"], "v3");
    let rules = &tree["cluster"]["dc/2"]["rule"];
    assert_eq!(
        (&rules["a.b"]["table"], &rules["a.b"]["cache_ttl"]),
        (&"Shop.orders".into(), &"250ms".into())
    );
    assert_eq!(
        (&rules["a.b"]["split_batches"], &rules["hot"]["stamp_timestamps"]),
        (&true.into(), &false.into())
    );
    assert_eq!(rules["hot"]["fingerprint"], "00ff00ff00ff00ff");
    let subjects: Vec<_> = config.settings.clusters[0].rules.iter().map(|rule| &rule.subject).collect();
    let table = Subject::Table { keyspace: "Shop".into(), table: "orders".into() };
    assert!(
        config.settings.clusters.iter().any(|cluster| cluster.rules.len() == 2
            && cluster.rules[0].subject == table
            && cluster.rules[1].subject == Subject::Statement(0x00ff_00ff_00ff_00ff)),
        "{subjects:?}"
    );
    assert_eq!(tree["listener"]["cql"]["cluster"], "dc/2");
    assert_eq!(tree["listener"]["cql"]["pool"], serde_json::Value::Null);
}

const CLUSTER: &str = "\
[cluster.main]
contacts = [\"10.0.0.1:9042\", \"10.0.0.2:9042\"]
[listener.cql]
address = \"127.0.0.1:9142\"
";

#[test]
fn a_cluster_beside_a_pool() {
    let alone = read(CLUSTER).expect("good");
    let contacts = ["10.0.0.1:9042", "10.0.0.2:9042"].map(|text| parse_address(text).expect("an address"));
    assert_eq!(alone.settings.clusters, [ClusterSettings::new("main", contacts.to_vec())]);
    assert_eq!(alone.settings.listeners[0].backend, Backend::Cluster(ClusterId(0)), "the only one there is");
    assert_eq!(alone.warnings, []);

    let cache = GOOD.replace("[listener.cache]", "[listener.cache]\npool = \"main\"");
    let both = read(&format!("{cache}{CLUSTER}cluster = \"main\"\n")).expect("they may share a name");
    let backends: Vec<Backend> = both.settings.listeners.iter().map(|listener| listener.backend).collect();
    assert_eq!(backends, [Backend::Pool(PoolId(0)), Backend::Cluster(ClusterId(0))]);
    assert_eq!(both.warnings, []);

    let unclear = read(&format!("{cache}{CLUSTER}")).expect_err("which of the two?");
    assert!(unclear.contains("listener.cql: the key `pool` or `cluster` is missing"), "{unclear}");
    let file = format!("{cache}{CLUSTER}cluster = \"main\"\n[cluster.old]\ncontacts = \"a:1\"\n");
    let unused = read(&file).expect("a warning only").warnings;
    assert_eq!(unused.len(), 1, "{unused:?}");
    assert_eq!(unused[0].path, "cluster.old");
}

#[test]
fn what_has_no_effect_on_a_cluster_is_a_warning() {
    let text = CLUSTER.replace("[listener", "orphans_max = 3_000\nrequests_in_flight = 5_000\n[listener");
    let config = read(&format!("{text}line_max = \"1MiB\"\nreply_buffer = \"1GiB\"\n")).expect("good");
    let mut told: Vec<&str> = config.warnings.iter().map(|problem| &*problem.path).collect();
    told.sort_unstable();
    assert_eq!(
        told,
        [
            "cluster.main.orphans_max",
            "cluster.main.requests_in_flight",
            "listener.cql.line_max",
            "listener.cql.reply_buffer"
        ]
    );
}

#[test]
fn connections_to_nodes_need_open_files() {
    let host = Host { nofile_hard: Some(1_000), ..quiet() };
    let told = |text: &str| {
        let config = Config::from_text("weir.toml", text, &host).expect("weir can run");
        config.warnings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let text = CLUSTER.replace("[listener", "connections_per_node = 4\ndiscover = false\n[listener");
    let text = format!("workers = 2\n{text}max_connections = 500\n");
    // 2 nodes, 4 connections and one for parts of split requests, 2 workers, and v3, v4, v5
    assert_eq!(told(&text), "");
    let text = text.replace("max_connections = 500", "max_connections = 800");
    assert!(told(&text).contains("800 clients, 60 upstream"), "{}", told(&text));
    let text = text.replace("[listener", "newest_version = \"v4\"\n[listener");
    assert_eq!(told(&text), "", "984 fit into 1,000");
    // as many nodes as the cluster may tell: 3, 4 connections and one, 2 workers, v3 and v4
    let text = text.replace("discover = false", "nodes_max = 3");
    assert!(told(&text).contains("800 clients, 60 upstream"), "{}", told(&text));
}

#[test]
fn a_reload_of_clusters() {
    let old = read(CLUSTER).expect("good");
    let frozen = |text: &str| -> Vec<String> {
        let all = effective::differences(&old, &read(text).expect("good"));
        assert!(!all.is_empty(), "{text}");
        all.into_iter().filter(effective::needs_restart).map(|found| found.path).collect()
    };
    let contacts = CLUSTER.replace("\"10.0.0.2:9042\"", "\"10.0.0.3:9042\", \"10.0.0.4:9042\"");
    assert_eq!(frozen(&contacts), [""; 0]);
    let looser =
        CLUSTER.replace("[listener", "request_timeout = \"15s\"\nnewest_version = \"v4\"\n[listener");
    assert_eq!(frozen(&looser), [""; 0]);
    let more = CLUSTER.replace("[listener", "connections_per_node = 2\n[listener");
    assert_eq!(frozen(&more), ["cluster.main.connections_per_node"]);
    let renamed = CLUSTER.replace("[cluster.main]", "[cluster.other]");
    assert_eq!(frozen(&renamed), ["cluster.main", "listener.cql.cluster", "cluster.other"]);
    let pool = format!("{CLUSTER}pool = \"main\"\n[pool.main]\nservers = [\"127.0.0.1:11211\"]\n");
    assert_eq!(frozen(&pool), ["listener.cql.pool", "listener.cql.cluster", "pool.main"]);
    let tighter = |text: &str| -> Vec<String> {
        let all = effective::differences(&old, &read(text).expect("good"));
        all.into_iter().filter(|found| found.tighter).map(|found| found.path).collect()
    };
    assert_eq!(tighter(&looser), ["cluster.main.newest_version"]);
    assert_eq!(tighter(&contacts), [""; 0]);
}

#[test]
fn timestamps_for_batches_that_are_not_split_have_no_effect() {
    let rule = format!("{CLUSTER}[cluster.main.rule.hot]\ntable = \"shop.carts\"\nstamp_timestamps = true\n");
    let told = |text: &str| {
        let warnings = read(text).expect("good").warnings;
        let of_rule = warnings.into_iter().filter(|warning| warning.path.contains("rule"));
        of_rule.map(|warning| (warning.path.to_string(), warning.what.to_string())).collect::<Vec<_>>()
    };
    let path = "cluster.main.rule.hot.stamp_timestamps".to_owned();
    assert_eq!(told(&rule), [(path, "has no effect without `split_batches`".to_owned())]);
    assert_eq!(told(&format!("{rule}split_batches = true\n")), []);
}

#[test]
fn who_may_say_request_ids() {
    let door =
        "[pool.main]\nservers = [\"10.0.0.1:11211\"]\n[listener.cache]\naddress = \"127.0.0.1:11311\"\n";
    let told = |text: &str| {
        let config = read(text).expect("good");
        let trusted = config.settings.listeners[0].trusted_request_ids.clone();
        let ours = config.warnings.iter().filter(|warning| warning.path.ends_with("trusted_request_ids"));
        (trusted, ours.map(|warning| warning.what.to_string()).collect::<Vec<_>>())
    };
    let none: Vec<String> = Vec::new();
    assert_eq!(told(door), (vec![], none.clone()));
    let own = format!("{door}trusted_request_ids = [\"cache\"]\n");
    assert_eq!(told(&own), (vec!["cache".into()], none.clone()));
    let named = "[callers.appview]\nlistener = \"cache\"\n";
    assert_eq!(told(&format!("{own}{named}")).1, ["no client of this listener is \"cache\""]);
    let other = format!("{door}trusted_request_ids = [\"appview\"]\n");
    assert_eq!(told(&other).1, ["no client of this listener is \"appview\""]);
    assert_eq!(told(&format!("{other}{named}")).1, none);
    // taken over by a reload
    let (before, after) = (read(door).expect("good"), read(&own).expect("good"));
    let all = effective::differences(&before, &after);
    assert_eq!(
        all.iter().map(|found| &*found.path).collect::<Vec<_>>(),
        ["listener.cache.trusted_request_ids"]
    );
    assert!(!all.iter().any(effective::needs_restart), "{all:?}");
}

#[test]
fn rules_are_taken_over_by_a_reload() {
    let rule = "[cluster.main.rule.hot]\ntable = \"shop.carts\"\n";
    let (without, with) = (read(CLUSTER).expect("good"), read(&format!("{CLUSTER}{rule}")).expect("good"));
    let changed = read(&format!("{CLUSTER}{rule}cache_ttl = \"1s\"\n")).expect("good");
    let moved = read(&format!("{CLUSTER}{}", rule.replace("carts", "orders"))).expect("good");
    for (old, new, paths) in [
        (&without, &with, ["cluster.main.rule.hot"]),
        (&with, &without, ["cluster.main.rule.hot"]),
        (&with, &changed, ["cluster.main.rule.hot.cache_ttl"]),
        (&with, &moved, ["cluster.main.rule.hot.table"]),
    ] {
        let all = effective::differences(old, new);
        assert_eq!(all.iter().map(|found| &*found.path).collect::<Vec<_>>(), paths);
        assert!(!all.iter().any(effective::needs_restart), "{all:?}");
    }
    assert_ne!(with.hash, changed.hash);
    // the order of the file does not matter
    let (one, two) = ("[cluster.main.rule.a]\ntable = \"a.a\"\n", "[cluster.main.rule.b]\ntable = \"a.b\"\n");
    let orders = [format!("{CLUSTER}{one}{two}"), format!("{CLUSTER}{two}{one}")].map(|text| read(&text));
    let [first, second] = orders.map(|config| config.expect("good").settings);
    assert_eq!(first, second);
    let many = |count: usize| -> String {
        (0..count).map(|n| format!("[cluster.main.rule.r{n}]\ntable = \"a.t{n}\"\n")).collect()
    };
    assert!(read(&format!("{CLUSTER}{}", many(256))).is_ok());
    let told = read(&format!("{CLUSTER}{}", many(257))).expect_err("too many");
    assert!(told.contains("more than 256 sections"), "{told}");
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
fn attribution_is_a_unix_socket_that_need_not_be_there_yet() {
    let at = |address: &str| format!("attribution = \"{address}\"\n{GOOD}");
    let told = read(&at("127.0.0.1:9")).expect_err("weir-probes answers on this machine only");
    assert!(told.contains("weir.toml:1:15: error: attribution: 127.0.0.1:9 is not a Unix socket"), "{told}");
    assert!(told.contains("unix:/run/weir-probes/attribution.sock"), "{told}");
    let there = read(&at("unix:/nonexistent/a.sock")).expect("good");
    assert!(there.warnings.is_empty() && there.process.attribution.is_some(), "files are not looked at");
    let host = Host { files: true, ..quiet() };
    let absent =
        Config::from_text("weir.toml", &at("unix:/nonexistent/a.sock"), &host).expect("weir can run");
    let shown: Vec<String> = absent.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(shown.len(), 1, "{shown:?}");
    assert!(shown[0].contains("there is no socket /nonexistent/a.sock now"), "{shown:?}");
    let before = read(GOOD).expect("good");
    let difference = &effective::differences(&before, &there)[0];
    assert!(difference.path == "attribution" && effective::needs_restart(difference), "{difference:?}");
}

#[test]
fn the_warning_about_open_files_says_how_many_nodes_it_counts() {
    let cluster = |more: &str| {
        format!(
            "[cluster.main]\ncontacts = \"10.0.0.1:9042\"\n{more}\n[listener.q]\naddress = \"127.0.0.1:9142\"\n\
             cluster = \"main\"\nmax_connections = 1_000\n"
        )
    };
    let host = Host { nofile_hard: Some(1_024), ..quiet() };
    let warnings = |more: &str| {
        let config = Config::from_text("weir.toml", &cluster(more), &host).expect("weir can run");
        config.warnings.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(
        warnings(""),
        [
            "warning: the caps add up to 1928 open files (1000 clients, 768 upstream, 768 for the 128 nodes that main may have \
          (nodes_max), 160 of weir's own), and this process may have 1024: 256 clients at once, and more are turned away\n    \
          help: raise the hard limit (LimitNOFILE=, ulimit -Hn), or lower max_connections, or nodes_max to the nodes there are"
        ]
    );
    let [one] = &warnings("nodes_max = 1")[..] else { panic!("one warning") };
    assert!(one.contains("6 upstream, 160 of weir's own") && !one.contains("nodes_max"), "{one}");
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
fn flags_for_clusters_and_pools_together() {
    let route = |listen: &str, nodes: &[&str]| {
        let address = |text: &str| parse_address(text).expect("an address");
        Route { listen: address(listen), servers: nodes.iter().map(|node| address(node)).collect() }
    };
    let cql =
        vec![route("127.0.0.1:9142", &["10.0.0.1:9042", "10.0.0.2:9042"]), route("[::1]:9142", &["b:9042"])];
    let args = RunArgs { cql, ..flags(&[("127.0.0.1:11311", "127.0.0.1:11211")]) };
    let config = Config::from_flags(&args).expect("good");
    let settings = &config.settings;
    assert_eq!(settings.pools[0].flush_all, FlushPolicy::Allow, "one principal of memcached");
    let shown: Vec<(&str, String, Vec<Address>)> = settings
        .listeners
        .iter()
        .filter_map(|listener| {
            let cluster = &settings.clusters[listener.backend.cluster()?.0 as usize];
            Some((&*listener.name, listener.address.to_string(), cluster.contacts.clone()))
        })
        .collect();
    assert_eq!(
        shown,
        [
            ("cql", "127.0.0.1:9142".to_owned(), args.cql[0].servers.clone()),
            ("cql-2", "[::1]:9142".to_owned(), args.cql[1].servers.clone()),
        ]
    );
    let alone = RunArgs { cql: args.cql.clone(), ..flags(&[]) };
    assert_eq!(Config::from_flags(&alone).expect("good").settings.pools, []);
    let own = RunArgs { cql: vec![route("127.0.0.1:9142", &["localhost:9142"])], ..flags(&[]) };
    let problems = Config::from_flags(&own).expect_err("it would ask itself");
    assert!(problems.to_string().contains("localhost:9142 is weir's own [listener.cql]"), "{problems}");
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
        base in prop::sample::select(vec!["many", "clusters", "good"]),
    ) {
        let base = match base {
            "many" => include_str!("config/many.toml"),
            "clusters" => include_str!("config/clusters.toml"),
            _ => reference::EXAMPLE_FILE,
        };
        let mut text: Vec<char> = base.chars().collect();
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
