//! The commands that ask a running weir, or look at a file: everything but `weir run`.
//!
//! What they print is made by functions of what weir answered (`top/render.rs`, `explain.rs`, ...), so that tests compare
//! text. Names that came over the network are escaped for the terminal and quoted for the shell (`text.rs`).
//!
//! Exit codes: 0 done; 1 weir refused, or does not know the caller; 2 no weir answers. `weir check` has its own.

mod cache;
mod deny;
mod explain;
mod fingerprint;
mod limits;
mod request;
mod statement;
mod switch;
mod tap;
pub mod text;
mod top;

pub use explain::{Explanation, explain};
pub use fingerprint::line as fingerprint_line;
pub use limits::list as limits_list;
pub use request::{by_caller as amplification_text, one as request_text};
pub use tap::line as tap_line;
pub use top::render::{Look, render};

use crate::admin::client::{Client, ClientError};
use crate::admin::plane::Outcome;
use crate::cli::{AdminArgs, Command, LimitsCommand};
use crate::config::problem::Escaped;
use std::io::Write as _;
use std::process::ExitCode;

/// Why a command failed: what to print, and the exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    text: String,
    code: u8,
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        let code = if matches!(error, ClientError::Refused { .. }) { 1 } else { 2 };
        Failure { text: error.to_string(), code }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        Failure { text: error.to_string(), code: 2 }
    }
}

impl Failure {
    /// Nobody reads any more.
    fn over() -> Failure {
        Failure { text: String::new(), code: 0 }
    }

    fn unknown(text: impl Into<String>) -> Failure {
        Failure { text: text.into(), code: 1 }
    }
}

/// Runs a command other than `weir run`.
#[must_use]
pub fn run(command: Command) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("weir: {error}");
            return ExitCode::from(2);
        }
    };
    let ended = runtime.block_on(dispatch(command));
    // A thread that waits for a key must not hold the process.
    runtime.shutdown_background();
    match ended {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            if !failure.text.is_empty() {
                eprintln!("weir: {}", Lines(&failure.text));
            }
            ExitCode::from(failure.code)
        }
    }
}

async fn dispatch(command: Command) -> Result<u8, Failure> {
    match command {
        Command::Check(args) => {
            let verdict = crate::check::run(&args).await;
            print(&verdict.text)?;
            Ok(verdict.code)
        }
        Command::Top(args) => top::run(&args).await,
        Command::Explain(args) => explain::run(&args).await,
        Command::Request(args) => request::run(&args).await,
        Command::Limits(args) => match args.command {
            LimitsCommand::Set(args) => limits::set(&args).await,
            LimitsCommand::List(args) => limits::show(&args).await,
            LimitsCommand::Clear(args) => limits::clear(&args).await,
        },
        Command::Cache(args) => cache::run(&args).await,
        Command::Deny(args) => deny::deny(&args).await,
        Command::Allow(args) => deny::allow(&args).await,
        Command::Switch(args) => switch::run(&args).await,
        Command::Tap(args) => tap::run(&args).await,
        Command::Fingerprint(args) => fingerprint::run(&args),
        Command::ConfigReference => {
            print(&crate::config::reference::markdown())?;
            Ok(0)
        }
        Command::Run(_) => Err(Failure::unknown("run is not a command of the client")),
    }
}

fn client(args: &AdminArgs) -> Result<Client, Failure> {
    Ok(Client::new(args.admin.as_ref(), args.admin_token_file.as_deref())?)
}

/// Writes to standard output. A reader that went away (`| head`) ends the command, and is no error to tell.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Err(Failure::over()),
        ended => Ok(ended?),
    }
}

fn json_line(value: &impl serde::Serialize) -> Result<String, Failure> {
    serde_json::to_string(value)
        .map(|text| text + "\n")
        .map_err(|error| Failure { text: error.to_string(), code: 2 })
}

/// Tells the operator what a change came to.
fn print_outcome(outcome: &Outcome, json: bool) -> Result<u8, Failure> {
    if json {
        print(&json_line(outcome)?)?;
        return Ok(0);
    }
    let mut text = format!("{}\n", Escaped(&outcome.summary));
    if let Some(end) = outcome.expires_at_unix {
        text.push_str(&format!("ends by itself at {}\n", text::utc(end.0)));
    }
    for note in &outcome.notes {
        text.push_str(&format!("note: {}\n", Lines(note)));
    }
    print(&text)?;
    Ok(0)
}

/// Text of several lines, each of them escaped.
struct Lines<'a>(&'a str);

impl std::fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, line) in self.0.lines().enumerate() {
            let start = if index == 0 { "" } else { "\n" };
            write!(f, "{start}{}", Escaped(line))?;
        }
        Ok(())
    }
}
