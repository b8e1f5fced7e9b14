//! `cargo xtask demo`: April 2026 retold, in scenes. `story`: a data plane with and without its bug, weir on every leg or on
//! none (`story/mod.rs`). `memcached`: the same load and the same storm twice, straight to memcached and through weir. `cql`:
//! the same on Cassandra. Each side runs in a network namespace of its own, so that running out of ports happens
//! here and not to the machine; where no namespace may be had, that part is left out and said.

mod cql;
mod culprit;
mod side;
mod stage;
mod story;
mod table;
mod witness;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

pub use self::side::SideArgs;
use self::side::{Side, SideReport};
pub use self::story::{ActArgs, run_act};
use crate::install;
use crate::interrupt::INSIDE;
use crate::netns::{self, Isolation};
use crate::process::{self, Running};
use crate::report::Steps;
use crate::servers;
use crate::workspace::{Workspace, which};

/// Seconds of each phase: long enough for a p99 of 400 gets per second.
const PHASE_SECONDS: u32 = 8;

/// What is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum Scene {
    /// The data plane of April without weir, then the bounded one with weir on every leg: about a minute
    Story,
    /// memcached alone: multigets, and a connection per key; who it was, and the command that caps it: about a minute
    Memcached,
    /// The same on a real Cassandra (`cargo xtask cassandra fetch` gets it)
    Cql,
}

#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Which scene (may repeat)
    #[arg(long = "scene", value_name = "SCENE", value_enum, default_value = "story")]
    scenes: Vec<Scene>,
    /// Seconds of each phase; the storm of `story` takes two of them
    #[arg(long, default_value_t = PHASE_SECONDS, value_parser = clap::value_parser!(u32).range(4..=300))]
    seconds: u32,
    /// Leave everything running after the table, until Ctrl-C, to look around; for one scene, `story` or `memcached`
    #[arg(long)]
    keep: bool,
    /// weir-probes beside both sides of the scene `memcached`, the kernel as a witness: whom it names and when, which calls fail,
    /// which ports wait. Best as root; without, it sees sockets and ports only
    #[arg(long)]
    probes: bool,
    #[command(flatten)]
    story: story::StoryOptions,
}

impl Options {
    fn check(&self) -> Result<()> {
        if self.keep && (self.scenes.len() > 1 || self.scenes.contains(&Scene::Cql)) {
            bail!("--keep goes with one scene, story or memcached");
        }
        if self.probes && !self.scenes.contains(&Scene::Memcached) {
            bail!("--probes goes with --scene memcached");
        }
        Ok(())
    }
}

/// Builds, tells the scenes, prints their tables.
pub fn run(workspace: &Workspace, options: &Options) -> Result<bool> {
    options.check()?;
    let mut steps = Steps::new();
    install::compilers()?;
    steps.step("build (release)", || build(workspace, options))?;
    for scene in &options.scenes {
        match scene {
            Scene::Story => {
                story::tell(workspace, &options.story, options.seconds, options.keep, &mut steps)?;
            }
            Scene::Memcached => memcached(workspace, options, &mut steps)?,
            Scene::Cql => {
                steps.step("CQL, without and with weir", || cql::tell(workspace, options.seconds.into()))?;
            }
        }
    }
    steps.print();
    Ok(true)
}

fn memcached(workspace: &Workspace, options: &Options, steps: &mut Steps) -> Result<()> {
    let isolation = match Isolation::find() {
        Ok(isolation) => Some(isolation),
        Err(error) => {
            println!("\nSKIPPED: the storm of one connection per key: {error:#}");
            println!(
                "         (it would use up the local ports of this machine; the storm of multigets is shown)"
            );
            None
        }
    };
    introduce(options, isolation);
    let without = steps.step("without weir", || tell(workspace, options, isolation, Side::Direct))?;
    let with = steps.step("with weir", || tell(workspace, options, isolation, Side::Weir))?;
    if !options.keep {
        print!("{}", table::ending(&without, &with));
    }
    Ok(())
}

fn introduce(options: &Options, isolation: Option<Isolation>) {
    let backend = if which("memcached").is_some() {
        "the memcached installed here".to_owned()
    } else {
        "weir-devstore, an in-memory stand-in (no memcached is installed; Debian: memcached)".to_owned()
    };
    let phases = if isolation.is_some() { 7 } else { 5 };
    let all = Duration::from_secs(u64::from(options.seconds * phases + 4));
    println!(
        "\nApril 2026: a new internal service, `feed-backfill`, sends fewer than 3 requests a second, but each asks for\n\
         15 to 20 thousand keys. `appview` and `timeline` do what they do every day. Backend: {backend}.\n\
         First without weir, then with weir; about {} seconds from here.",
        all.as_secs()
    );
}

fn build(workspace: &Workspace, options: &Options) -> Result<()> {
    let mut command = workspace.cargo();
    // All of them for every scene: with others beside it a package may be built with other features, all over again.
    command.arg("build").arg("--release");
    for package in ["weir", "weir-scenario", "weir-devstore", "weir-dataplane"] {
        command.args(["-p", package]);
    }
    if options.probes {
        command.args(["-p", "weir-probes"]);
    }
    let status =
        process::stream("cargo", &mut command, Duration::from_secs(30 * 60), |_, line| eprintln!("{line}"))?;
    if !status.success() {
        bail!("the release build failed");
    }
    Ok(())
}

/// One side of the story, told by this program started again, inside a namespace where there is one.
fn tell(
    workspace: &Workspace,
    options: &Options,
    isolation: Option<Isolation>,
    side: Side,
) -> Result<SideReport> {
    let report = workspace.scratch("demo")?.join(format!("{}.json", side.name()));
    let _none_from_before = std::fs::remove_file(&report);
    let mut arguments: Vec<String> =
        ["demo-side", side.name(), "--seconds", &options.seconds.to_string(), "--report"]
            .map(str::to_owned)
            .into();
    arguments.push(report.to_string_lossy().into_owned());
    if options.probes {
        arguments.push("--probes".into());
    }
    if options.keep && side == Side::Weir {
        arguments.push("--keep-beside".into());
        arguments.push(report.with_file_name("direct.json").to_string_lossy().into_owned());
    }
    let limit = match options.keep {
        true => Duration::from_secs(24 * 60 * 60),
        false => Duration::from_secs(u64::from(options.seconds) * 5 + 120),
    };
    run_part(side.name(), isolation, arguments, limit)?;
    read_report(&report)
}

/// Runs a part of the demo, this program with `arguments`, in a namespace of its own or without one.
pub(super) fn run_part(
    name: &str,
    isolation: Option<Isolation>,
    mut arguments: Vec<String>,
    limit: Duration,
) -> Result<()> {
    let Some(isolation) = isolation else {
        let mut command = std::process::Command::new(netns::this_program());
        let mut running = Running::spawn_inherited(name, command.args(&arguments).env(INSIDE, "1"))?;
        let status = running.wait(limit)?;
        if !status.success() {
            bail!("this part of the demo failed: {name} ({status})");
        }
        return Ok(());
    };
    arguments.push("--isolated".into());
    arguments.push(if isolation == Isolation::Root { "root" } else { "user" }.into());
    netns::run_self(isolation, &arguments, limit)
}

/// What a part of the demo has left.
pub(super) fn read_report<R: serde::de::DeserializeOwned>(path: &Path) -> Result<R> {
    let text = std::fs::read_to_string(path).context("a part of the demo left no report")?;
    serde_json::from_str(&text).context("a part of the demo left an unreadable report")
}

/// The part that runs inside a namespace: one side.
pub fn run_side(workspace: &Workspace, args: &SideArgs) -> Result<()> {
    servers::raise_open_files();
    if args.isolated.is_some() {
        netns::set_up()?;
    }
    side::run(workspace, args)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(clap::Parser)]
    struct Words {
        #[command(flatten)]
        options: Options,
    }

    fn options(words: &[&str]) -> Result<Options> {
        Ok(Words::try_parse_from(["demo"].iter().chain(words))?.options)
    }

    #[test]
    fn the_story_is_told_unless_another_scene_is_named() {
        assert_eq!(options(&[]).unwrap().scenes, [Scene::Story]);
        let two = options(&["--scene", "memcached", "--scene", "cql"]).unwrap();
        assert_eq!(two.scenes, [Scene::Memcached, Scene::Cql]);
        two.check().unwrap();
    }

    #[test]
    fn what_does_not_go_together_is_told() {
        for words in [
            &["--keep", "--scene", "cql"][..],
            &["--keep", "--scene", "story", "--scene", "memcached"],
            &["--probes"],
        ] {
            assert!(options(words).unwrap().check().is_err(), "{words:?}");
        }
        options(&["--keep"]).unwrap().check().unwrap();
        assert!(options(&["--memcached", "127.0.0.1:11211"]).is_err(), "one server alone");
    }
}
