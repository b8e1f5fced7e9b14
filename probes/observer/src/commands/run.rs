//! `weir-probes run`: check the flags, open the port, make the sources, give up rights, look, serve, end on a signal.

use crate::attribution::{self, Connects, Finder};
use crate::cli::RunArgs;
use crate::kernel::connects::Feed;
use crate::looker::{Board, Looker};
use crate::processes::Processes;
use crate::serve::serve;
use crate::settings::{Attribution, Settings};
use crate::{rights, source};
use std::io::Write as _;
use std::net::TcpListener;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use weir_telemetry::ProbesTelemetry;

/// How long the end waits for a look under way.
const PATIENCE: Duration = Duration::from_secs(2);

/// Runs until it is told to end.
#[must_use]
pub fn run(args: &RunArgs) -> ExitCode {
    match start(args) {
        Ok(code) => code,
        Err(problem) => {
            eprintln!("weir-probes: {problem:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(args: &RunArgs) -> Result<ExitCode, anyhow::Error> {
    let (listen, settings) =
        Settings::check(args).map_err(|problems| anyhow::anyhow!("cannot start:\n{problems}"))?;
    let listener =
        TcpListener::bind(&listen).map_err(|error| anyhow::anyhow!("{listen} cannot be opened: {error}"))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let (sources, feed) = source::with_feed(&settings);
    // Before there is a second thread: rights are each thread's own.
    let kept = rights::keep(source::kept(&settings))
        .map_err(|error| anyhow::anyhow!("capabilities that are not needed cannot be given up: {error}"))?;
    let telemetry = ProbesTelemetry::new(env!("CARGO_PKG_VERSION"), "unknown");
    reserve(&telemetry, &settings);
    let board = Arc::new(Board::new(telemetry, settings.interval));
    let _answering = settings.attribution.as_ref().map(|asked| answering(asked, feed)).transpose()?;

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let (alarm, lost) = oneshot::channel::<()>();
        let ready = format!("weir-probes: metrics {address}; keeps {}; ready", rights::named(kept));
        let looker = Looker::start(
            board.clone(),
            sources,
            settings.interval,
            move || say(&ready),
            move || {
                let _ = alarm.send(()); // the other end has gone only if everything ends anyway
            },
        )?;
        // Every branch may be dropped at any time: a connection that ends early is asked again, a signal ends everything.
        let ended = tokio::select! {
            _ = terminate.recv() => Ok(()),
            _ = interrupt.recv() => Ok(()),
            Ok(()) = lost => Err(anyhow::anyhow!("the looker ended: a source panicked")),
            () = serve(listener, board) => Ok(()),
        };
        looker.stop(PATIENCE);
        ended
    });
    runtime.shutdown_background();
    ended.map(|()| ExitCode::SUCCESS)
}

/// Answers weir until it is dropped: the socket before those who look for it.
fn answering(
    asked: &Attribution,
    feed: Option<Feed>,
) -> Result<(attribution::Server, Finder), anyhow::Error> {
    let connects = Connects::new(Arc::new(Mutex::new(Processes::of_this_system())));
    let finder = Finder::start(&connects, feed)?;
    let mut settings = attribution::Settings { group: asked.group, ..attribution::Settings::at(&asked.path) };
    if !asked.users.is_empty() {
        settings.users.clone_from(&asked.users);
    }
    let server = attribution::Server::start(&settings, connects, finder.handle())
        .map_err(|problem| anyhow::anyhow!("--attribution: {problem}"))?;
    Ok((server, finder))
}

/// Names of the configuration have their label values whatever else comes.
fn reserve(telemetry: &ProbesTelemetry, settings: &Settings) {
    for watch in settings.watch.iter().filter(|watch| watch.address.is_some()) {
        telemetry.reserve("destination", &watch.to_string());
    }
    telemetry.reserve("namespace", crate::settings::OWN_NAMESPACE);
    for namespace in &settings.namespaces {
        telemetry.reserve("namespace", &namespace.name);
    }
    for service in &settings.services {
        telemetry.reserve("service", &service.name);
    }
    telemetry.reserve("source", "127.0.0.0/8");
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush()); // whoever started it may not listen any more
}
