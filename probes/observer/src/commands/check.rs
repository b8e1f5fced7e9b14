//! `weir-probes check`.

use crate::cli::CheckArgs;
use crate::host::Host;
use crate::{rights, source};
use serde::Serialize;
use std::io::Write as _;
use std::process::ExitCode;

#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    host: Host,
    /// Capabilities that `run` holds on to; all others are given up once it has started.
    kept_by_run: Vec<&'static str>,
}

/// Prints what this machine offers.
#[must_use]
pub fn run(args: &CheckArgs) -> ExitCode {
    let host = Host::read();
    let text = if args.json {
        let kept_by_run = source::KINDS.iter().flat_map(|kind| kind.keeps).copied().collect();
        match serde_json::to_string_pretty(&Report { host, kept_by_run }) {
            Ok(text) => text + "\n",
            Err(error) => format!("{{\"error\":{:?}}}\n", error.to_string()),
        }
    } else {
        format!("{host}kept by run   {}\n", rights::named(source::kept()))
    };
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(2), // nobody reads any more
    }
}
