//! `weir check` and `--against` over a real control socket: exit codes, text and JSON.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use weir::admin::model::{ConfigReport, LimitsReport, RequestReport, Snapshot};
use weir::admin::{AdminListener, Answer, Audit, Change, ControlError, Exposition, Outcome, Plane, serve};
use weir::check;
use weir::cli::{CheckArgs, RunArgs};
use weir::config::Config;
use weir::config::address::parse_address;
use weir::overrides::{Desk, Store, UnixTime, Who};
use weir_engine::correlate::CorrelationId;

const NOW: UnixTime = UnixTime(1_800_000_000);
const FILE: &str = "\
admin = []
[pool.main]
servers = [\"10.0.0.1:11211\", \"10.0.0.2:11211\"]
[listener.cache]
address = \"127.0.0.1:11311\"
max_connections = 100
backlog = 100
";

/// A desk behind a control socket: the part of a running weir that `--against` asks.
struct Running(Mutex<Desk>);

impl Plane for Running {
    fn snapshot(&self) -> Answer<'_, Snapshot> {
        Box::pin(async { Snapshot::default() })
    }
    fn request(&self, _id: CorrelationId) -> Answer<'_, Option<RequestReport>> {
        Box::pin(async { None })
    }
    fn metrics(&self, _accept: Option<&str>) -> Answer<'_, Exposition> {
        Box::pin(async { Exposition::default() })
    }
    fn ready(&self) -> Result<(), String> {
        Ok(())
    }
    fn config(&self) -> ConfigReport {
        self.0.lock().expect("not poisoned").report(NOW)
    }
    fn limits(&self) -> LimitsReport {
        self.0.lock().expect("not poisoned").limits(NOW)
    }
    fn change(&self, change: Change, who: Who) -> Answer<'_, Result<Outcome, ControlError>> {
        let made = self.0.lock().expect("not poisoned").change(&change, &who, NOW);
        Box::pin(async move { made.map(|decision| decision.outcome) })
    }
    fn audit(&self, _entry: &Audit) {}
}

fn write(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    std::fs::write(&path, text).expect("written");
    path
}

fn args(file: PathBuf, json: bool) -> CheckArgs {
    CheckArgs { file, json, against: None, admin_token_file: None }
}

#[tokio::test]
async fn exit_codes_tell_good_from_bad_from_unreadable() {
    let directory = tempfile::tempdir().expect("a directory");
    let good = write(directory.path(), "good.toml", FILE);
    let bad = write(directory.path(), "bad.toml", "workers = 0\nnonsense = 1\n");
    let verdict = check::run(&args(good.clone(), false)).await;
    assert_eq!(verdict.code, 0, "{}", verdict.text);
    assert!(verdict.text.contains("good.toml: ok") && verdict.text.contains("pool main"), "{}", verdict.text);
    let verdict = check::run(&args(bad.clone(), false)).await;
    assert_eq!(verdict.code, 1);
    assert!(verdict.text.contains("bad.toml:2:1: error: nonsense"), "{}", verdict.text);
    let verdict = check::run(&args(directory.path().join("none.toml"), false)).await;
    assert_eq!(verdict.code, 2);

    let json: serde_json::Value =
        serde_json::from_str(&check::run(&args(bad, true)).await.text).expect("it is JSON");
    assert_eq!(json["ok"], false);
    assert_eq!(json["problems"][0]["key"], "workers");
    assert_eq!(json["problems"][0]["line"], 1);
    let json: serde_json::Value =
        serde_json::from_str(&check::run(&args(good, true)).await.text).expect("it is JSON");
    assert_eq!(json["ok"], true);
}

#[tokio::test]
async fn against_a_running_weir() {
    let directory = tempfile::tempdir().expect("a directory");
    let extra = "[listener.two]\naddress = \"unix:/run/weir/two.sock\"\ngroup = \"root\"\npool = \"main\"\nmax_connections = 100\nbacklog = 100\n";
    let running = write(directory.path(), "running.toml", &format!("{FILE}{extra}"));
    let run = RunArgs { config: Some(running.clone()), ..RunArgs::default() };
    let config = Config::from_flags(&run).expect("good");
    let desk = Desk::new(run, config, Store::in_memory(), NOW);
    let address = parse_address(&format!("unix:{}", directory.path().join("admin.sock").display()));
    let address = address.expect("an address");
    let listener = AdminListener::control(&address, None).await.expect("opened");
    let task = tokio::spawn(serve(listener, Arc::new(Running(Mutex::new(desk)))));
    let against =
        |file: &Path, json| CheckArgs { against: Some(address.clone()), ..args(file.to_owned(), json) };

    let same = check::run(&against(&running, false)).await;
    assert_eq!(same.code, 0, "{}", same.text);
    assert!(same.text.contains("main: 0.0 %") && same.text.contains("listeners lost: none"), "{}", same.text);
    // The group of a running weir is a name here too, though its machine's groups are not asked.
    assert!(same.text.contains("other differences: none") && !same.text.contains("restart"), "{}", same.text);
    let other = std::fs::read_to_string(&running).expect("read").replace("group = \"root\"", "group = \"0\"");
    let other = check::run(&against(&write(directory.path(), "other.toml", &other), false)).await;
    assert!(other.text.contains("listener.two.group: \"root\" -> \"0\""), "{}", other.text);

    let fewer =
        write(directory.path(), "fewer.toml", &FILE.replace("max_connections = 100", "max_connections = 50"));
    let verdict = check::run(&against(&fewer, true)).await;
    assert_eq!(verdict.code, 1, "a listener would be lost");
    let json: serde_json::Value = serde_json::from_str(&verdict.text).expect("it is JSON");
    let found = &json["against"];
    assert_eq!(found["listeners_lost"][0], "two (unix:/run/weir/two.sock)");
    assert_eq!(found["tightened"][0]["path"], "listener.cache.max_connections");
    assert_eq!(found["keys_moved_percent"]["main"], 0.0);
    assert_eq!(found["needs_restart"][0], "listener.two");

    task.abort();
    let _ = task.await;
    let verdict = check::run(&against(&running, false)).await;
    assert_eq!(verdict.code, 2, "nobody answers: {}", verdict.text);
}

#[tokio::test]
async fn against_a_weir_with_clusters() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = "\
admin = []
[cluster.main]
contacts = [\"10.0.0.1:9042\", \"10.0.0.2:9042\"]
[listener.cql]
address = \"127.0.0.1:9142\"
max_connections = 100
backlog = 100
";
    let running = write(directory.path(), "running.toml", file);
    let run = RunArgs { config: Some(running.clone()), ..RunArgs::default() };
    let config = Config::from_flags(&run).expect("good");
    let desk = Desk::new(run, config, Store::in_memory(), NOW);
    let address = parse_address(&format!("unix:{}", directory.path().join("admin.sock").display()));
    let address = address.expect("an address");
    let listener = AdminListener::control(&address, None).await.expect("opened");
    let task = tokio::spawn(serve(listener, Arc::new(Running(Mutex::new(desk)))));
    let against = |file: PathBuf| CheckArgs { against: Some(address.clone()), ..args(file, true) };
    let check = |text: &str| {
        let new = against(write(directory.path(), "new.toml", text));
        async move {
            let verdict = check::run(&new).await;
            let json: serde_json::Value = serde_json::from_str(&verdict.text).expect("it is JSON");
            (verdict.code, json["against"].clone())
        }
    };
    let (code, found) = check(file).await;
    assert_eq!((code, &found["others"], &found["needs_restart"]), (0, &json([]), &json([])));
    let (code, found) = check(&file.replace("10.0.0.2", "10.0.0.3")).await;
    assert_eq!((code, &found["needs_restart"]), (0, &json([])), "a reload can do that");
    assert_eq!(found["contacts_changed"], json(["main: + 10.0.0.3:9042, - 10.0.0.2:9042"]));
    let (_, found) = check(&file.replace("cluster.main", "cluster.other")).await;
    assert_eq!(found["clusters_lost"], json(["main (10.0.0.1:9042, 10.0.0.2:9042)"]));
    assert_eq!(found["backends_changed"], json(["cql: cluster main -> cluster other"]));
    assert_eq!(found["needs_restart"], json(["cluster.main", "listener.cql.cluster", "cluster.other"]));

    task.abort();
    let _ = task.await;
}

fn json<const N: usize>(texts: [&str; N]) -> serde_json::Value {
    texts.into_iter().collect()
}
