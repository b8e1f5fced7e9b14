//! `cargo xtask demo`: April 2026 retold in about a minute. The same load and the same storm twice: straight to memcached,
//! and through weir. Each side runs in a network namespace of its own with 2,000 local ports, so that running out of
//! ports happens here and not to the machine; where no namespace may be had, that part is left out and said.

mod cql;
mod culprit;
mod side;
mod stage;
mod table;
mod witness;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

pub use self::side::SideArgs;
use self::side::{Side, SideReport};
use crate::install;
use crate::interrupt::INSIDE;
use crate::netns::{self, Isolation};
use crate::process::{self, Running};
use crate::report::Steps;
use crate::servers;
use crate::workspace::{Workspace, which};

/// Seconds of each phase: long enough for a p99 of 400 gets per second.
const PHASE_SECONDS: u32 = 8;

#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Options {
    /// Seconds of each of the seven phases (five where no network namespace may be had)
    #[arg(long, default_value_t = PHASE_SECONDS, value_parser = clap::value_parser!(u32).range(4..=300))]
    seconds: u32,
    /// Leave memcached and weir running after the table, until Ctrl-C, to look around with weir's own commands; the CQL half
    /// is told first and not left running
    #[arg(long, conflicts_with = "only_cql")]
    keep: bool,
    /// weir-probes beside both sides of the memcached half, the kernel as a witness: whom it names and when, which calls fail,
    /// which ports wait. Best as root; without, it sees sockets and ports only
    #[arg(long, conflicts_with = "only_cql")]
    probes: bool,
    /// Leave out the CQL half
    #[arg(long)]
    no_cql: bool,
    /// Only the CQL half
    #[arg(long, conflicts_with = "no_cql")]
    only_cql: bool,
}

/// Builds, tells the story, prints the table.
pub fn run(workspace: &Workspace, options: Options) -> Result<bool> {
    let mut steps = Steps::new();
    install::compilers()?;
    steps.step("build (release)", || build(workspace, options))?;
    if options.no_cql {
        println!("\nSKIPPED: the CQL half: --no-cql was given");
    } else if options.keep {
        println!("\nThe CQL half comes first: what stays for you to look at is the memcached half.");
        cql(workspace, options, &mut steps)?;
    }
    if !options.only_cql {
        memcached(workspace, options, &mut steps)?;
    }
    if !options.no_cql && !options.keep {
        cql(workspace, options, &mut steps)?;
    }
    steps.print();
    Ok(true)
}

fn cql(workspace: &Workspace, options: Options, steps: &mut Steps) -> Result<()> {
    steps.step("CQL, without and with weir", || cql::tell(workspace, options.seconds.into()))
}

fn memcached(workspace: &Workspace, options: Options, steps: &mut Steps) -> Result<()> {
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

fn introduce(options: Options, isolation: Option<Isolation>) {
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

fn build(workspace: &Workspace, options: Options) -> Result<()> {
    let mut command = workspace.cargo();
    command.args(["build", "--release", "-p", "weir", "-p", "weir-scenario", "-p", "weir-devstore"]);
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
    options: Options,
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
    match isolation {
        Some(isolation) => {
            arguments.push("--isolated".into());
            arguments.push(if isolation == Isolation::Root { "root" } else { "user" }.into());
            netns::run_self(isolation, &arguments, limit)?;
        }
        None => {
            let mut command = std::process::Command::new(netns::this_program());
            let mut running =
                Running::spawn_inherited(side.name(), command.args(&arguments).env(INSIDE, "1"))?;
            let status = running.wait(limit)?;
            if !status.success() {
                bail!("this side of the demo failed ({status})");
            }
        }
    }
    read_report(&report)
}

fn read_report(path: &Path) -> Result<SideReport> {
    let text = std::fs::read_to_string(path).context("this side of the demo left no report")?;
    serde_json::from_str(&text).context("this side of the demo left an unreadable report")
}

/// The part that runs inside a namespace: one side.
pub fn run_side(workspace: &Workspace, args: &SideArgs) -> Result<()> {
    servers::raise_open_files();
    if args.isolated.is_some() {
        netns::set_up()?;
    }
    side::run(workspace, args)
}
