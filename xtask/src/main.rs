//! `cargo xtask`: everything that is done to this tree besides building it. One command each for the tests, the checks
//! they consist of, the demo and the benchmarks; every command prints the time of each step and leaves no process behind.

mod bench;
mod bpf;
mod cassandra;
mod demo;
mod fuzz;
mod install;
mod interrupt;
mod layering;
mod netns;
mod proc;
mod process;
mod report;
mod scenario;
mod servers;
mod suites;
mod test;
mod tidy;
mod workspace;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::suites::Verdict;
use crate::workspace::Workspace;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "Tests, checks, the demo and the benchmarks of weir"
)]
#[command(
    after_help = "Examples:\n  cargo xtask demo\n  cargo xtask test\n  cargo xtask test --no-install\n  \
    cargo xtask tidy --fix\n  cargo xtask cassandra start\n  cargo xtask bench memcached --quick --only multiget-50"
)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run every suite: formatting, lints, unit, property, simulation, alert rules, end to end, fuzz smoke
    ///
    /// Says what it will install (Debian packages as root, Python packages below target/) and installs it where it may;
    /// what is missing is skipped aloud. The last line is `N passed, N failed, N skipped`: cargo's own test counts plus
    /// one per suite that is no cargo test. About half an hour from cold on two cores.
    #[command(
        after_help = "Examples:\n  cargo xtask test\n  cargo xtask test --no-install\n  cargo xtask test --full\n  \
        cargo xtask test --cql"
    )]
    Test(test::Options),
    /// Run `.ci/run` as the automation does
    #[command(after_help = "Examples:\n  cargo xtask ci")]
    Ci,
    /// Check the tree itself: paths in documents, file lengths, banned calls, metrics, alerts, dashboards
    #[command(after_help = "Examples:\n  cargo xtask tidy\n  cargo xtask tidy --fix")]
    Tidy {
        /// Rewrite dashboards in canonical form instead of complaining
        #[arg(long)]
        fix: bool,
    },
    /// Check that no crate reaches what it may not (I/O from the engine and the codecs, arrows that point up)
    #[command(after_help = "Examples:\n  cargo xtask layering")]
    Layering,
    /// Measure weir against no proxy and against others
    Bench {
        #[command(subcommand)]
        protocol: Bench,
    },
    /// Build the programs that the probes load into the kernel, and write them into probes/observer/object
    #[command(after_help = "Examples:\n  cargo xtask bpf\n  cargo xtask bpf --check")]
    Bpf(bpf::Options),
    /// A real Apache Cassandra on loopback: start one node or a ring of three, stop them
    Cassandra {
        #[command(subcommand)]
        action: cassandra::Action,
    },
    /// April 2026 retold: the data plane of that day without weir, then a bounded one with weir on every leg, side by side
    ///
    /// About a minute after the build. Servers are the repository's own, in network namespaces of their own; the first
    /// time a world is seeded. Other scenes: --scene memcached, --scene cql.
    #[command(after_help = "Examples:\n  cargo xtask demo\n  cargo xtask demo --keep\n  \
            cargo xtask demo --scene memcached --scene cql\n  cargo xtask demo --scene memcached --probes\n  \
            cargo xtask demo --memcached 127.0.0.1:11211 --cql 127.0.0.1:9042 --seconds 15")]
    Demo(demo::Options),
    /// Run every fuzz target for a while
    #[command(after_help = "Examples:\n  cargo xtask fuzz\n  cargo xtask fuzz --full")]
    Fuzz {
        /// The long runs of `test --full`
        #[arg(long)]
        full: bool,
    },
    /// The part of the demo that runs inside a network namespace
    #[command(hide = true)]
    DemoSide(demo::SideArgs),
    /// An act of the demo's story
    #[command(hide = true)]
    DemoAct(demo::ActArgs),
    /// The part of a benchmark that runs inside a network namespace
    #[command(hide = true)]
    BenchBurst { contender: String, report: PathBuf },
}

#[derive(Subcommand)]
enum Bench {
    /// memcached: every row of docs/benchmarks.md
    #[command(after_help = "Examples:\n  cargo xtask bench memcached\n  \
        cargo xtask bench memcached --quick\n  cargo xtask bench memcached --only quiet-1 --only quiet-4 --rounds 5")]
    Memcached(bench::Options),
    /// CQL: every row of docs/benchmarks-cql.md, against no proxy, a proxy that copies bytes and others by --peer; needs
    /// Cassandra
    #[command(after_help = "Examples:\n  cargo xtask bench cql\n  cargo xtask bench cql --quick\n  \
        cargo xtask bench cql --only select-64x1 --rounds 5\n  \
        cargo xtask bench cql --peer cql-proxy --peer shotover=bin/shotover-proxy")]
    Cql(bench::cql::Options),
    /// The data plane on memcached and Cassandra, without weir and with it: every row of docs/benchmarks-dataplane.md
    #[command(
        after_help = "Examples:\n  cargo xtask bench dataplane\n  cargo xtask bench dataplane --quick\n  \
        cargo xtask bench dataplane --only cold-20000 --only neighbour --rounds 5"
    )]
    Dataplane(bench::dataplane::Options),
    /// What weir-probes costs: every row of docs/benchmarks-probes.md; needs root and memcached
    #[command(after_help = "Examples:\n  cargo xtask bench probes\n  \
        cargo xtask bench probes --quick --only churn")]
    Probes(bench::probes::Options),
    /// RPC: every row of docs/benchmarks-rpc.md, against no proxy and a bare pingora pass-through
    #[command(after_help = "Examples:\n  cargo xtask bench rpc\n  cargo xtask bench rpc --quick\n  \
        cargo xtask bench rpc --only grpc-1x64 --only large --rounds 5")]
    Rpc(bench::rpc::Options),
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<bool> {
    interrupt::watch()?;
    let workspace = Workspace::find()?;
    match cli.task {
        Task::Test(options) => test::run(&workspace, options),
        Task::Ci => test::ci(&workspace),
        Task::Tidy { fix } => {
            if fix {
                tidy::fix(&workspace)?;
            }
            Ok(show(tidy::verdict(&workspace)?))
        }
        Task::Layering => Ok(show(layering::verdict(&workspace)?)),
        Task::Bench { protocol: Bench::Memcached(options) } => bench::run(&workspace, &options),
        Task::Bench { protocol: Bench::Cql(options) } => bench::cql::run(&workspace, &options),
        Task::Bench { protocol: Bench::Dataplane(options) } => bench::dataplane::run(&workspace, &options),
        Task::Bench { protocol: Bench::Probes(options) } => bench::probes::run(&workspace, &options),
        Task::Bench { protocol: Bench::Rpc(options) } => bench::rpc::run(&workspace, &options),
        Task::Bpf(options) => bpf::run(&workspace, options),
        Task::Cassandra { action } => cassandra::run(&workspace, action),
        Task::Demo(options) => demo::run(&workspace, &options),
        Task::DemoSide(args) => demo::run_side(&workspace, &args).map(|()| true),
        Task::DemoAct(args) => demo::run_act(&workspace, &args).map(|()| true),
        Task::Fuzz { full } => {
            let mut suites = suites::Suites::new();
            fuzz::smoke(&workspace, &mut suites, full)?;
            Ok(suites.finish())
        }
        Task::BenchBurst { contender, report } => {
            bench::run_burst(&workspace, &contender, &report).map(|()| true)
        }
    }
}

/// Prints how a check ended; true when it did not fail.
fn show(verdict: Verdict) -> bool {
    match verdict {
        Verdict::Passed(note) => println!("{note}"),
        Verdict::Skipped(reason) => println!("SKIPPED: {reason}"),
        Verdict::Failed(reason) => {
            println!("FAILED: {reason}");
            return false;
        }
    }
    true
}
