//! The servers with a world to read, and one measurement: calls on one way, and the numbers they give.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::apart::{Apart, Half};
use super::cases::{Beside, Case, Contender, Load, Measure};
use super::stage::Stage;
use crate::bench::frame::failures;
use crate::cassandra::Shared;
use crate::process;
use crate::scenario::{Load as Client, Scenario, number};
use crate::servers::{self, Door, Server};
use crate::workspace::{Profile, Workspace};

/// The world: about 40,000 posts.
const WORLD: [&str; 5] =
    ["--seed=7", "--users=400", "--posts-per-user=50", "--follows-per-user=0", "--likes-per-post=0"];

/// Posts that neighbours ask for; the others are for calls of every size, and for the batches.
pub const SMALL: usize = 2_000;

/// The most posts of the others: what one call may ask a data plane for.
const LARGE: usize = 50_000;

/// Keys of a batch, and the time between an answer and the next one: fewer than 3 a second.
pub const BATCH: u32 = 20_000;
pub const BATCH_PAUSE: u32 = 334;

/// Keys of a neighbour's call, clients, and the time between an answer and the next call, milliseconds.
pub const NEIGHBOUR_KEYS: u32 = 20;
pub const NEIGHBOURS: u32 = 4;
pub const NEIGHBOUR_PAUSE: u32 = 5;

/// After a cold call, until what it read is in the cache, milliseconds: fills go on beside the answer.
const FILLED: u32 = 100;

/// The same after a small one: it shares few posts with the next.
const FILLED_SMALL: u32 = 5;

/// How long seeding may take.
const SEEDING: Duration = Duration::from_secs(15 * 60);

/// Cassandra runs compiled only after some ten thousand statements of a kind.
const WARM_UP: f64 = 5.0;

/// Passes over all posts until the cache has them: some of a pass' fills are left out.
const PASSES: u32 = 20;

/// The servers and the load generator.
pub struct Rig {
    pub scenario: PathBuf,
    pub memcached: Server,
    pub cassandra: Shared,
    pub kept: Stage,
    /// Where nobody listens for memcached.
    lost: Stage,
    /// Files of posts, as `weir-dataplane world` lists them.
    small: PathBuf,
    pub large: PathBuf,
    /// Posts in each.
    pub counts: (usize, usize),
}

/// The numbers of one way.
pub type Numbers = BTreeMap<Measure, f64>;

impl Rig {
    /// Starts everything, makes the world and warms the node up.
    pub fn start(workspace: &Workspace) -> Result<Self> {
        let scenario = workspace.binary(Profile::Release, "weir-scenario")?;
        let memcached = servers::memcached(workspace, Door::free_port()?)?
            .context("memcached is not installed (Debian: memcached)")?;
        let cassandra = Shared::start().context("Cassandra (try: cargo xtask cassandra fetch)")?;
        println!("{}", cassandra.line());
        let node = cassandra.address();
        world(workspace, "seed", &["--cql", &node.to_string(), "--database-timeout-ms=20000"])?;
        let listed = world(workspace, "world", &[])?;
        let posts = listed.lines().filter(|line| line.starts_with("post\t"));
        let posts: Vec<&str> = posts.take(SMALL + LARGE).collect();
        ensure!(posts.len() >= SMALL + BATCH as usize, "the world has only {} posts", posts.len());
        let (small, large) = posts.split_at(SMALL);
        let counts = (small.len(), large.len());
        let file = |name: &str, posts: &[&str]| -> Result<PathBuf> {
            let path = workspace.scratch("dataplane")?.join(name);
            std::fs::write(&path, posts.join("\n") + "\n")
                .with_context(|| format!("cannot write {}", path.display()))?;
            Ok(path)
        };
        let (small, large) = (file("small.txt", small)?, file("large.txt", large)?);
        let kept = Stage::start(workspace, "kept", &memcached.door, node)?;
        let lost = Stage::start(workspace, "lost", &Door::free_port()?, node)?;
        let rig = Self { scenario, memcached, cassandra, kept, lost, small, large, counts };
        for contender in Contender::ALL {
            for keys in [NEIGHBOUR_KEYS, BATCH] {
                let load = rig.cold(rig.kept.load(contender, &rig.large), keys);
                failures(&load.seconds(WARM_UP / 2.0).run(&rig.scenario)?)
                    .with_context(|| contender.name())?;
            }
        }
        Ok(rig)
    }

    /// Every process of the run that is no load.
    pub fn pids(&self) -> Vec<u32> {
        let stages = self.kept.pids().into_iter().chain(self.lost.pids());
        stages.chain([self.memcached.pid(), self.cassandra.pid()]).collect()
    }

    /// Calls for so many posts, each of them cold.
    pub fn cold(&self, load: Scenario, keys: u32) -> Scenario {
        let pause = if keys >= 2_000 { FILLED } else { FILLED_SMALL };
        load.with("--keys-per-call", keys).with("--cold", &self.memcached.door).with("--pause-ms", pause)
    }

    /// Reads posts until the cache has them all.
    fn warm(&self, posts: &Path, count: usize) -> Result<()> {
        let plane = self.kept.plane(Contender::Direct);
        for _ in 0..PASSES {
            let before = plane.counts()?;
            let pass = self.kept.load(Contender::Direct, posts).with("--keys-per-call", count);
            failures(&pass.with("--warmup", 0).seconds(0.05).run(&self.scenario)?)?;
            if plane.counts()?.since(before).misses == 0.0 {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(u64::from(FILLED)));
        }
        anyhow::bail!("the cache does not keep {count} posts")
    }

    /// Measures once.
    pub fn measure(&self, case: &Case, contender: Contender, seconds: f64) -> Result<Numbers> {
        match case.load {
            Load::Calls { keys, cold } => self.calls(contender, keys, cold, seconds),
            Load::Neighbour(beside) => self.neighbour(contender, beside, seconds),
        }
    }

    fn calls(&self, contender: Contender, keys: u32, cold: bool, seconds: f64) -> Result<Numbers> {
        let load = self.kept.load(contender, &self.large);
        let load = load.with("--watch", format!("memcached={}", self.memcached.pid()));
        let load = load.with("--watch", format!("cassandra={}", self.cassandra.pid()));
        let load = if cold {
            self.cold(load, keys)
        } else {
            self.warm(&self.large, self.counts.1)?;
            load.with("--keys-per-call", keys)
        };
        let plane = self.kept.plane(contender);
        let before = plane.counts()?;
        // Some calls of the longest must fit.
        let report = load.seconds(if keys >= 2_000 { seconds * 2.0 } else { seconds }).run(&self.scenario)?;
        answered(&report)?;
        let counts = plane.counts()?.since(before);
        let warmth = counts.warmth();
        let as_said = if cold { warmth <= 0.05 } else { warmth >= 0.99 };
        ensure!(as_said, "{:.0} % of the records came from the cache", warmth * 100.0);
        let of_call = |count: f64| count / counts.keys.max(1.0) * f64::from(keys);
        let cpu = |name: &str| number(&report, &format!("watched.{name}.us_per_key"));
        let mut numbers = Numbers::from([
            (Measure::P50, number(&report, "latency_us.p50")?),
            (Measure::P99, number(&report, "latency_us.p99")?),
            (Measure::Commands, of_call(counts.commands)),
            (Measure::Statements, of_call(counts.statements)),
            (Measure::PlaneCpu, cpu("plane")?),
            (Measure::StorageCpu, cpu("memcached")? + cpu("cassandra")?),
        ]);
        if self.kept.weir(contender).is_some() {
            numbers.insert(Measure::WeirCpu, cpu("weir")?);
        }
        Ok(numbers)
    }

    fn neighbour(&self, contender: Contender, beside: Beside, seconds: f64) -> Result<Numbers> {
        let stage = if beside.lost { &self.lost } else { &self.kept };
        let mut apart = Apart::default();
        if beside.apart {
            apart.put(self.cassandra.pid(), Half::Rest)?;
            for pid in stage.pids().into_iter().chain([self.memcached.pid()]) {
                apart.put(pid, Half::Measured)?;
            }
            apart.at_once(self.memcached.pid())?;
        }
        let start = |load: Scenario, half: Half| -> Result<(Client, Apart)> {
            let load = load.start(&self.scenario)?;
            let mut place = Apart::default();
            if beside.apart {
                place.put(load.pid(), half)?;
                if half == Half::Measured {
                    place.at_once(load.pid())?;
                }
            }
            Ok((load, place))
        };
        if !beside.lost {
            self.warm(&self.small, self.counts.0)?;
        }
        let p99 = || -> Result<f64> {
            let load = stage.load(contender, &self.small).with("--keys-per-call", NEIGHBOUR_KEYS);
            let load = load.with("--connections", NEIGHBOURS).with("--pause-ms", NEIGHBOUR_PAUSE);
            let (client, _place) = start(load.seconds(seconds * 2.0), Half::Measured)?;
            let report = client.finish()?;
            answered(&report)?;
            number(&report, "latency_us.p99")
        };
        let alone = p99().context("alone")?;
        let batches = stage.load(contender, &self.large).with("--keys-per-call", BATCH);
        let batches = batches.with("--pause-ms", BATCH_PAUSE);
        let batches = if beside.lost { batches } else { batches.with("--cold", &self.memcached.door) };
        let (batches, _place) = start(batches.seconds(seconds * 2.0 + 2.0), Half::Rest)?;
        std::thread::sleep(Duration::from_millis(1_000));
        let beside = p99().context("beside the batches")?;
        answered(&batches.finish().context("the batches")?).context("the batches")?;
        Ok(Numbers::from([(Measure::Alone, alone), (Measure::Beside, beside)]))
    }
}

/// There were answers, and all of them were right.
pub fn answered(report: &Value) -> Result<()> {
    failures(report)?;
    ensure!(number(report, "operations")? > 0.0, "no call ended in the measured time");
    Ok(())
}

/// Runs a command of `weir-dataplane` about the world; what it said.
fn world(workspace: &Workspace, word: &str, more: &[&str]) -> Result<String> {
    let mut command = Command::new(workspace.binary(Profile::Release, "weir-dataplane")?);
    command.arg(word).args(WORLD).args(more);
    let name = format!("weir-dataplane {word}");
    let done = process::run(&name, &mut command, SEEDING)?;
    ensure!(done.status.success(), "{name} failed:\n{}", done.stderr);
    Ok(done.stdout)
}
