//! Why a probe is not there, as something to show: the hook does not exist here, or the kernel said no.

use crate::picture::ProbeState;
use aya::EbpfError;
use aya::programs::ProgramError;
use std::error::Error;
use std::io;

/// Longest reason that is shown, in characters: the verifier writes novels.
const REASON: usize = 400;

/// Why a probe is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// This kernel, or this machine, has no such hook.
    Unsupported(String),
    /// It has, and did not let us.
    Refused {
        /// Linux errno, where one was given.
        errno: Option<i32>,
        /// What was tried and what was said.
        reason: String,
    },
}

impl Refusal {
    /// What an operation of the system said.
    #[must_use]
    pub fn of_io(tried: &str, error: &io::Error) -> Refusal {
        Refusal::Refused { errno: error.raw_os_error(), reason: shortened(&format!("{tried}: {error}")) }
    }

    /// What loading the object as a whole said: no map could be made, most of the time.
    #[must_use]
    pub fn of_object(error: &EbpfError) -> Refusal {
        Refusal::Refused {
            errno: errno(error),
            reason: shortened(&format!("loading the object: {}", chain(error))),
        }
    }

    /// What loading or attaching one program said.
    #[must_use]
    pub fn of_program(program: &str, error: &ProgramError) -> Refusal {
        let reason = match error {
            ProgramError::LoadError { io_error, verifier_log } => {
                let log = verifier_log.to_string();
                let said = log.lines().rev().find(|line| is_said(line));
                let said = said.map(|line| format!(" (the verifier: {})", line.trim())).unwrap_or_default();
                format!("loading `{program}`: {io_error}{said}")
            }
            _ => format!("attaching `{program}`: {}", chain(error)),
        };
        let errno = match error {
            // It shows itself as its source, so that the search below starts past it.
            ProgramError::IOError(error) => error.raw_os_error(),
            _ => errno(error),
        };
        let reason = shortened(&reason);
        match error {
            ProgramError::TracePointError(_) if errno == Some(libc::ENOENT) => Refusal::Unsupported(reason),
            ProgramError::Btf(_) => Refusal::Unsupported(reason),
            _ => Refusal::Refused { errno, reason },
        }
    }
}

impl From<Refusal> for ProbeState {
    fn from(refusal: Refusal) -> ProbeState {
        match refusal {
            Refusal::Unsupported(reason) => ProbeState::Unsupported { reason },
            Refusal::Refused { errno, reason } => ProbeState::Refused { errno, reason },
        }
    }
}

/// The verifier ends with statistics.
fn is_said(line: &str) -> bool {
    let is_counted =
        ["processed ", "verification time ", "stack depth "].iter().any(|one| line.starts_with(one));
    !line.trim().is_empty() && !is_counted
}

/// The first errno on the way from an error to its cause.
fn errno(error: &(dyn Error + 'static)) -> Option<i32> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return error.raw_os_error();
        }
        next = error.source();
    }
    None
}

/// An error and its causes, each said once.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        next = error.source();
    }
    text
}

fn shortened(text: &str) -> String {
    let one_line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match one_line.char_indices().nth(REASON) {
        Some((end, _)) => format!("{}...", &one_line[..end]),
        None => one_line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_errno_is_found_behind_other_errors() {
        let refused = ProgramError::SyscallError(aya::sys::SyscallError {
            call: "bpf_link_create",
            io_error: io::Error::from_raw_os_error(libc::EPERM),
        });
        let Refusal::Refused { errno, reason } = Refusal::of_program("transitions", &refused) else {
            panic!("refused")
        };
        assert_eq!(errno, Some(libc::EPERM));
        assert_eq!(
            reason,
            "attaching `transitions`: `bpf_link_create` failed: Operation not permitted (os error 1)"
        );
    }

    #[test]
    fn a_plain_error_of_the_system_keeps_its_errno() {
        let refused = ProgramError::IOError(io::Error::from_raw_os_error(libc::EACCES));
        let Refusal::Refused { errno, .. } = Refusal::of_program("x", &refused) else { panic!("refused") };
        assert_eq!(errno, Some(libc::EACCES));
    }

    #[test]
    fn a_hook_that_is_not_there_is_unsupported() {
        let missing = ProgramError::TracePointError(aya::programs::trace_point::TracePointError::FileError {
            filename: "events/sock/none/id".into(),
            io_error: io::Error::from_raw_os_error(libc::ENOENT),
        });
        assert!(matches!(Refusal::of_program("x", &missing), Refusal::Unsupported(_)));
    }

    #[test]
    fn what_the_verifier_said_last_is_the_reason_and_not_its_statistics() {
        let log = "1808: (79) r2 = *(u64 *)(r1 +0)\nR1 unbounded memory access\nverification time 13359 usec\n\
            stack depth 288+0\nprocessed 1162 insns (limit 1000000)\n\n";
        assert_eq!(log.lines().rev().find(|line| is_said(line)), Some("R1 unbounded memory access"));
    }

    #[test]
    fn a_long_reason_is_one_short_line() {
        let text = shortened(&"word\n ".repeat(1000));
        assert!(text.len() <= REASON + 3 && !text.contains('\n') && text.ends_with("..."), "{text}");
    }
}
