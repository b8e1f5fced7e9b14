//! `weir-probes check`.

use crate::cli::CheckArgs;
use crate::host::Host;
use std::io::Write as _;
use std::process::ExitCode;

/// Prints what this machine offers.
#[must_use]
pub fn run(args: &CheckArgs) -> ExitCode {
    let host = Host::read();
    let text = if args.json {
        match serde_json::to_string_pretty(&host) {
            Ok(text) => text + "\n",
            Err(error) => format!("{{\"error\":{:?}}}\n", error.to_string()),
        }
    } else {
        host.to_string()
    };
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(2), // nobody reads any more
    }
}
