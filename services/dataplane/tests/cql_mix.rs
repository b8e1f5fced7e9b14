//! `weir-scenario rpc-mix` and `rpc-backfill` against a data plane with a world in it: every record that they get is the one that
//! they asked for, and every array is as long as their list of keys.

#[macro_use]
mod support;

use std::path::Path;
use std::process::Command;
use support::servers::{Servers, binaries};
use support::{World, skip};
use weir_dataplane::world::draw::Shape;
use weir_dataplane::world::{list, seed};

on_each_store!(the_mix_gets_every_record_that_it_asks_for);

const SHAPE: Shape = Shape { seed: 6, users: 30, posts: 4, follows: 5, likes: 1 };

/// The report of a run, and its exit status.
async fn run(program: &Path, words: Vec<String>) -> (serde_json::Value, Option<i32>) {
    let mut command = Command::new(program);
    command.args(&words);
    let done = tokio::task::spawn_blocking(move || command.output()).await.expect("waited").expect("it runs");
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    let report =
        serde_json::from_slice(&done.stdout).unwrap_or_else(|error| panic!("{words:?}: {error}: {said}"));
    (report, done.status.code())
}

async fn the_mix_gets_every_record_that_it_asks_for(servers: Servers) {
    let program = binaries().join("weir-scenario");
    if !program.exists() {
        skip("the mix of calls", "no weir-scenario beside this test (cargo build -p weir-scenario)");
        return;
    }
    let world = World::start(&servers, "mix", &[]).await;
    seed(&world.database, SHAPE).await.expect("a world");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("world.tsv");
    let mut text = Vec::new();
    list::list(SHAPE, &mut text).expect("a list");
    std::fs::write(&file, text).expect("written");
    let words = |subcommand: &str, more: &[&str]| -> Vec<String> {
        let server = world.running.address.to_string();
        let file = file.to_string_lossy().into_owned();
        let fixed = [subcommand, "--server", &server, "--world", &file, "--timeout", "20"];
        fixed.iter().chain(more).map(|word| (*word).to_owned()).collect()
    };
    let mix = words("rpc-mix", &["--rate", "6", "--seconds", "4"]);
    let (report, status) = run(&program, mix).await;
    assert_eq!(status, Some(0), "{report}");
    for none in ["missing", "wrong", "failed", "retries", "redials"] {
        assert_eq!(report[none], 0, "{none}: {report}");
    }
    assert_eq!(report["pages"]["answered"], report["pages"]["due"], "{report}");
    assert!(report["hits"].as_u64() > Some(500), "{report}");
    let large =
        words("rpc-backfill", &["--keys-from", "3000", "--keys-to", "4000", "--seconds", "2", "--rate", "1"]);
    let (report, status) = run(&program, large).await;
    assert_eq!(status, Some(0), "{report}");
    assert_eq!(report["answered"], report["due"], "{report}");
    for none in ["missing", "wrong", "failed"] {
        assert_eq!(report[none], 0, "{none}: {report}");
    }
    assert!(report["hits"].as_u64() >= Some(3_000), "{report}");
    world.end().await;
}
