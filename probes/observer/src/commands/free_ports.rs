//! `weir-probes free-ports`.

use crate::audit::{Actor, Line};
use crate::cli::FreePortsArgs;
use crate::free_ports::{Outcome, Request, free};
use crate::namespaces::inside;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::SystemTime;

/// Ends the sockets, says what it does as it goes, and leaves a line in the audit before and after.
#[must_use]
pub fn run(args: &FreePortsArgs) -> ExitCode {
    let request = Request {
        destination: args.destination,
        dry_run: args.dry_run,
        limit: args.limit,
        allow_remote: args.allow_remote,
    };
    let actor = Actor::this_process();
    let netns = args.netns.as_ref().map_or_else(|| "own".to_owned(), |path| path.display().to_string());
    let line = |cause, destination: &str| {
        Line::new(&actor, cause, SystemTime::now()).text("destination", destination).text("netns", &netns)
    };
    let changes = !args.dry_run && crate::free_ports::checked(&request).is_ok();
    if changes {
        // Whatever becomes of this process, who began is on record.
        let begun =
            line("free_ports_begin", &args.destination.to_string()).number("limit", args.limit.into());
        if let Some(problem) = begun.write() {
            eprintln!("weir-probes: the lines on stderr are the only record, syslog has none: {problem}");
        }
    }
    let progress = |done, of| eprintln!("{done} of {of} ...");
    let outcome = match inside(args.netns.as_deref(), |_| free(&request, progress)) {
        Ok(outcome) => outcome,
        Err(error) => {
            eprintln!("weir-probes: {error}");
            if changes {
                line("free_ports", &args.destination.to_string()).number("ended", 0).write();
            }
            return ExitCode::FAILURE;
        }
    };
    if changes {
        line("free_ports", &outcome.destination)
            .number("found", outcome.found)
            .number("ended", outcome.ended)
            .text("outcome", &outcome.failure.as_ref().map_or("done".to_owned(), ToString::to_string))
            .write();
    }
    if let Some(failure) = &outcome.failure {
        eprintln!("weir-probes: {failure}");
    }
    let text = if args.json { json(&outcome) } else { text(&outcome) };
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Ok(()) if outcome.failure.is_none() => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn json(outcome: &Outcome) -> String {
    serde_json::to_string(outcome).unwrap_or_else(|error| format!("{{\"error\":{:?}}}", error.to_string()))
        + "\n"
}

/// What was done, for a person. Nothing for who was refused before anything was counted: stderr says why.
fn text(outcome: &Outcome) -> String {
    let mut text = String::new();
    let Outcome { destination, found, ended, gone, .. } = outcome;
    if outcome.failure.is_some() && *found == 0 {
        return text;
    }
    let _ = writeln!(text, "{found} sockets in TIME_WAIT towards {destination}");
    if outcome.dry_run {
        text.push_str("dry run: none was ended\n");
        return text;
    }
    let _ = writeln!(text, "{ended} ended");
    if *gone > 0 {
        let _ = writeln!(text, "{gone} were over by then");
    }
    let left = found - (ended + gone).min(*found);
    if left > 0 {
        let _ = writeln!(text, "{left} left");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(found: u64, ended: u64) -> Outcome {
        Outcome { destination: "127.0.0.1:11211".to_owned(), found, ended, ..Outcome::default() }
    }

    #[test]
    fn what_was_done_is_told_and_so_is_what_is_left() {
        assert_eq!(text(&outcome(3, 3)), "3 sockets in TIME_WAIT towards 127.0.0.1:11211\n3 ended\n");
        let partly = Outcome { gone: 2, ..outcome(10, 4) };
        assert!(text(&partly).ends_with("4 ended\n2 were over by then\n4 left\n"), "{}", text(&partly));
        let dry = Outcome { dry_run: true, ..outcome(5, 0) };
        assert!(text(&dry).ends_with("dry run: none was ended\n"));
    }
}
