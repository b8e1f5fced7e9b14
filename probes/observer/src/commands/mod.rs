//! The commands, a module each. What they print is made from plain data, so that tests compare text.

mod ask;
pub mod check;
pub mod free_ports;
pub mod run;
pub mod text;
pub mod top;
pub mod trace;

use crate::cli::Command;
use std::fmt;
use std::io::Write as _;
use std::process::ExitCode;
use weir_telemetry::escape::terminal;

/// Why a command failed: what to print. An empty text is an end that is no failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure(String);

impl Failure {
    fn new(text: impl Into<String>) -> Failure {
        Failure(text.into())
    }
}

impl fmt::Display for Failure {
    /// Every line escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, line) in self.0.lines().enumerate() {
            let start = if index == 0 { "" } else { "\n" };
            write!(f, "{start}{}", terminal(line))?;
        }
        Ok(())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        Failure(error.to_string())
    }
}

/// Runs a command.
#[must_use]
pub fn run(command: &Command) -> ExitCode {
    let ended = match command {
        Command::Check(args) => return check::run(args),
        Command::FreePorts(args) => return free_ports::run(args),
        Command::Run(args) => return run::run(args),
        Command::Top(args) => top::run(args),
        Command::Trace(args) => trace::run(args),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(text)) if text.is_empty() => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("weir-probes: {failure}");
            ExitCode::from(2)
        }
    }
}

/// Writes to standard output. A reader that went away (`| head`) ends the command, and is no error to tell.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Err(Failure::new("")),
        ended => Ok(ended?),
    }
}

fn json_line(value: &impl serde::Serialize) -> Result<String, Failure> {
    serde_json::to_string(value).map(|text| text + "\n").map_err(|error| Failure(error.to_string()))
}
