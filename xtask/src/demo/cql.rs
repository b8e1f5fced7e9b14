//! The same story on CQL: a caller whose SELECTs name 15,000 keys, and a neighbour that asks for one key at a time, first
//! straight to a real Cassandra, then through weir; and who it was, in weir's own words. What is printed is what was
//! measured; one sentence below the table says what weir does with long lists.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::culprit;
use super::stage::{CULPRIT, milliseconds};
use super::table::busy_note;
use crate::cassandra::{Kit, Shared};
use crate::proc::{self, Others};
use crate::process;
use crate::report::{Table, thousands};
use crate::scenario::{Scenario, number};
use crate::servers::{Door, Weir};
use crate::workspace::{Profile, Workspace};

/// Rows of the table.
const ROWS: u32 = 50_000;
/// Keys of one SELECT of the culprit, and its connections.
const HUGE: u32 = 15_000;
const CULPRITS: u32 = 4;
/// Connections of a service that is only there.
const IDLE: u32 = 100;
/// Seconds of ordinary load, and those of the storm before the neighbour is looked at.
const ORDINARY: f64 = 4.0;
const RISE: f64 = 1.5;
/// The longest that one of weir's commands may take.
const LIMIT: Duration = Duration::from_secs(10);

/// What was seen of one side.
#[derive(Debug, Default)]
struct Seen {
    /// The neighbour's p50 and p99, microseconds: alone, and beside the storm.
    alone: (f64, f64),
    beside: (f64, f64),
    /// Keys per second that the culprit got, and the p50 of its SELECTs, microseconds.
    keys_per_second: f64,
    culprit_p50: f64,
    failed: u64,
    /// Sockets towards the node.
    sockets: usize,
    /// weir's memory, KiB at most.
    memory: Option<u64>,
}

/// Tells it, or says why not.
pub fn tell(workspace: &Workspace, seconds: f64) -> Result<()> {
    if let Err(error) = Kit::find(workspace, false) {
        println!("\nSKIPPED: the CQL half: {error:#}");
        println!("         (`cargo xtask cassandra fetch` gets Java 17 and 67 MB of jars, once)");
        return Ok(());
    }
    println!(
        "\nThe same on CQL: `{CULPRIT}` sends SELECTs of {} keys on {CULPRITS} connections; `timeline` asks for one key at\n\
         a time. A real Cassandra is started for it; about {:.0} seconds from here.",
        thousands(HUGE.into()),
        2.0 * (ORDINARY + RISE + seconds + 4.0) + 25.0
    );
    let node = Shared::start().context("Cassandra")?;
    println!("  Cassandra listens on {}, pid {}", node.address(), node.pid());
    let before = Others::watch(&[node.pid()]);
    let program = workspace.binary(Profile::Release, "weir-scenario")?;
    Scenario::of("cql-fill", &node.address().to_string(), ROWS)
        .seconds_of_patience(90.0)
        .run(&program)
        .context("filling the table")?;
    let side =
        |label, server: &str, weir: Option<&Weir>| run_side(&program, label, server, weir, &node, seconds);
    // once for nobody: the node's own code is slow until it was run for a while
    let address = node.address().to_string();
    load(&address, CULPRIT, CULPRITS).with("--keys-per-get", HUGE).seconds(3.0).run(&program)?;
    let direct = side("without weir", &address, None)?;
    let weir = Weir::start_cql(workspace, "demo-cql", Door::free_port()?, node.address())?;
    let through = side("with weir", &weir.server.door.to_string(), Some(&weir))?;
    let busy = Others::watch(&[node.pid(), weir.server.pid()]).share_since(before);
    println!("\n{}", table(&direct, &through));
    println!(
        "With weir the same SELECTs go to Cassandra in parts, a few at a time, so that others get their turn. Its sockets: one\n\
         for requests, one for parts, one to follow the cluster, however many clients there are."
    );
    print!("{}", busy_note(busy));
    println!("\nWho it was, in weir's own words:\n\n{}", named(&weir)?);
    Ok(())
}

fn load(server: &str, name: &str, connections: u32) -> Scenario {
    Scenario::of("cql-load", server, ROWS).with("--name", name).with("--connections", connections)
}

fn run_side(
    program: &Path,
    label: &str,
    server: &str,
    weir: Option<&Weir>,
    node: &Shared,
    seconds: f64,
) -> Result<Seen> {
    let neighbour = || load(server, "timeline", 1).with("--pause-ms", 5);
    println!("  {label}: ordinary load, {ORDINARY:.0} s");
    let mut seen = Seen::default();
    let alone = neighbour().seconds(ORDINARY).run(program)?;
    seen.alone = latency(&alone)?;
    println!(
        "  {label}: the storm, {:.0} s; neighbour's p99 so far {}",
        RISE + seconds,
        milliseconds(seen.alone.1)
    );
    let hold = Scenario::of("cql-hold", server, ROWS).with("--name", "notifier").with("--connections", IDLE);
    let hold = hold.seconds(RISE + seconds).start(program)?;
    let storm = load(server, CULPRIT, CULPRITS).with("--keys-per-get", HUGE).seconds(RISE + seconds);
    let storm = storm.start(program)?;
    std::thread::sleep(Duration::from_secs_f64(RISE));
    let beside = neighbour().seconds((seconds - 1.0).max(2.0)).start(program)?;
    std::thread::sleep(Duration::from_secs_f64(seconds / 2.0));
    let port = node.address().port();
    seen.sockets = match weir {
        Some(weir) => proc::connections_to(weir.server.pid(), port),
        None => [&hold, &storm, &beside].iter().map(|load| proc::connections_to(load.pid(), port)).sum(),
    };
    let beside = beside.finish().context("timeline")?;
    seen.beside = latency(&beside)?;
    let storm = storm.finish().context(CULPRIT)?;
    seen.keys_per_second = number(&storm, "keys_per_second")?;
    seen.culprit_p50 = number(&storm, "latency_us.p50")?;
    let hold = hold.finish().context("the idle service")?;
    for report in [&alone, &beside, &storm, &hold] {
        seen.failed += number(report, "failed")? as u64;
    }
    seen.memory = weir.map(|weir| proc::memory(weir.server.pid())).transpose()?.map(|memory| memory.peak);
    println!("  {label}: neighbour's p99 {}", milliseconds(seen.beside.1));
    Ok(seen)
}

fn latency(report: &Value) -> Result<(f64, f64)> {
    Ok((number(report, "latency_us.p50")?, number(report, "latency_us.p99")?))
}

fn table(direct: &Seen, through: &Seen) -> String {
    let both = |(p50, p99): (f64, f64)| format!("{} / {}", milliseconds(p50), milliseconds(p99));
    let mut table = Table::new(["CQL", "without weir", "with weir"]);
    let mut row = |name: &str, cell: &dyn Fn(&Seen) -> String| {
        table.row([name.to_owned(), cell(direct), cell(through)])
    };
    row("neighbour alone, p50 / p99", &|seen| both(seen.alone));
    row("neighbour beside the storm, p50 / p99", &|seen| both(seen.beside));
    row("the storm: keys per second", &|seen| thousands(seen.keys_per_second as u64));
    row("the storm: p50 of a SELECT", &|seen| milliseconds(seen.culprit_p50));
    row("requests that failed", &|seen| thousands(seen.failed));
    row("sockets to Cassandra", &|seen| thousands(seen.sockets as u64));
    row("weir's memory, at most", &|seen| {
        seen.memory.map_or("-".to_owned(), |kib| format!("{:.0} MiB", kib as f64 / 1024.0))
    });
    table.text()
}

/// `weir explain` of whoever did most of the work.
fn named(weir: &Weir) -> Result<String> {
    let top = culprit::ask(weir, &["top", "--once", "--json"])?;
    let top: Value = serde_json::from_str(&top).context("`weir top --once --json` printed no JSON")?;
    let share = |row: &Value| row["work_share"].as_f64().unwrap_or(0.0);
    let rows = top["callers"].as_array().context("weir lists no callers")?;
    let most = rows.iter().max_by(|a, b| share(a).total_cmp(&share(b))).context("weir knows no caller")?;
    let caller = most["caller"].as_str().context("a caller has a name")?;
    let done = process::run("weir", &mut weir.command(&["explain", caller]), LIMIT)?;
    Ok(format!("$ weir explain {caller}\n{}{}", done.stdout, done.stderr))
}
