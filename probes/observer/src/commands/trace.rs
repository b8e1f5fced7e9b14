//! `weir-probes trace --errors`: failed calls as they come, a line for each process, call, errno and destination that
//! failed since the last look. The kernel counts; nothing is lost between two looks, and a storm of failures of one kind
//! is one line with a number.

use super::text::grouped;
use super::{Failure, json_line, print};
use crate::cli::{LookArgs, TraceArgs};
use crate::errno;
use crate::kernel::{Kernel, Options, errors};
use crate::picture::{Call, Destination, ErrorCount, Picture, ProbeState};
use crate::rights;
use crate::settings::Settings;
use rustix::thread::CapabilitySet;
use serde::Serialize;
use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use weir_telemetry::escape::terminal;

/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(250);
/// Most lines of one look: the most frequent ones; what is left out is said.
const LINES: usize = 40;

/// Failures of one kind since the look before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fresh {
    /// When they were seen, in milliseconds since 1970; they happened in the quarter of a second before.
    pub unix_ms: u64,
    /// What failed; `failures` are those since the look before.
    #[serde(flatten)]
    pub what: ErrorCount,
    /// The errno's name.
    pub errno_name: &'static str,
}

type Kind = (Call, i32, u32, Destination);

fn kind(one: &ErrorCount) -> Kind {
    (one.call, one.errno, one.process.pid, one.destination.clone())
}

/// What is known already.
#[derive(Debug, Default)]
pub struct Known(HashMap<Kind, u64>);

impl Known {
    /// What has been added, the most frequent first.
    pub fn news(&mut self, now: Vec<ErrorCount>, unix_ms: u64) -> Vec<Fresh> {
        let mut next = HashMap::with_capacity(now.len());
        let mut news = Vec::new();
        for mut one in now {
            let before = self.0.get(&kind(&one)).copied().unwrap_or(0);
            next.insert(kind(&one), one.failures);
            // A total below the last one is that of another process with the same id.
            let added = one.failures.checked_sub(before).unwrap_or(one.failures);
            if added > 0 {
                one.failures = added;
                news.push(Fresh { unix_ms, errno_name: errno::name(one.errno), what: one });
            }
        }
        self.0 = next;
        news.sort_by(|a, b| (b.what.failures, &a.what.process).cmp(&(a.what.failures, &b.what.process)));
        news
    }
}

/// A line for people: `18:03:22.250Z connect EADDRNOTAVAIL gomemcache[4711] -> 127.0.0.1:11211 x30`.
#[must_use]
pub fn line(one: &Fresh) -> String {
    let (seconds, millis) = (one.unix_ms / 1_000, one.unix_ms % 1_000);
    let (hours, minutes, seconds) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    let call = match one.what.call {
        Call::Bind => "bind   ",
        Call::Connect => "connect",
    };
    let process = terminal(&one.what.process.comm);
    let times = match one.what.failures {
        1 => String::new(),
        more => format!(" x{}", grouped(more)),
    };
    format!(
        "{hours:02}:{minutes:02}:{seconds:02}.{millis:03}Z {call} {} {process}[{}] -> {}{times}\n",
        one.errno_name,
        one.what.process.pid,
        terminal(one.what.destination.label()),
    )
}

/// Runs the command. Called before there is a second thread.
pub(super) fn run(args: &TraceArgs) -> Result<(), Failure> {
    if !args.errors {
        return Err(Failure::new("say what is traced: weir-probes trace --errors"));
    }
    let look = LookArgs { watch: args.watch.clone(), ..LookArgs::default() };
    let settings = Settings::look(&look).map_err(|problems| Failure::new(problems.to_string()))?;
    let mut options = Options { probes: vec![errors::PROBE.name.to_owned()], ..Options::default() };
    options.watch(&settings.watch);
    let kernel = Kernel::load(&options);
    for status in kernel.statuses() {
        match status.state {
            ProbeState::Refused { reason, .. } | ProbeState::Unsupported { reason } => {
                return Err(Failure::new(format!("{}: {reason}; weir-probes check says more", status.probe)));
            }
            ProbeState::Attached | ProbeState::Off => {}
        }
    }
    rights::keep(CapabilitySet::BPF).map_err(|error| Failure::new(error.to_string()))?;
    eprintln!("weir-probes: failed binds and connects, as they come; ^C ends it");
    let begun = Instant::now();
    let mut known = Known::default();
    let mut lost_before = 0;
    loop {
        std::thread::sleep(INTERVAL);
        let over = args.seconds.is_some_and(|seconds| begun.elapsed() >= Duration::from_secs(seconds));
        let mut picture = Picture::default();
        kernel.read(&mut picture);
        let seen = picture.errors.ok_or_else(|| Failure::new("the kernel's map cannot be read any more"))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let news = known.news(seen, u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
        for one in news.iter().take(LINES) {
            print(&if args.json { json_line(one)? } else { line(one) })?;
        }
        if news.len() > LINES {
            eprintln!("weir-probes: and {} other kinds of failures", news.len() - LINES);
        }
        let lost: u64 = picture.probes.iter().filter_map(|probe| probe.lost).sum();
        if lost > lost_before {
            eprintln!("weir-probes: {} failures found no room to be counted", grouped(lost - lost_before));
            lost_before = lost;
        }
        if over {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::Process;

    fn failed(pid: u32, comm: &str, failures: u64) -> ErrorCount {
        ErrorCount {
            call: Call::Connect,
            errno: libc::EADDRNOTAVAIL,
            process: Process { pid, comm: comm.to_owned(), ..Process::default() },
            destination: Destination::One("127.0.0.1:11211".to_owned()),
            failures,
        }
    }

    #[test]
    fn only_what_was_added_is_news_and_the_most_first() {
        let mut known = Known::default();
        let counts = |news: Vec<Fresh>| -> Vec<(u32, u64)> {
            news.iter().map(|one| (one.what.process.pid, one.what.failures)).collect()
        };
        assert_eq!(counts(known.news(vec![failed(1, "a", 3), failed(2, "b", 5)], 0)), [(2, 5), (1, 3)]);
        assert_eq!(counts(known.news(vec![failed(1, "a", 3), failed(2, "b", 5)], 0)), []);
        assert_eq!(counts(known.news(vec![failed(1, "a", 10), failed(2, "b", 5)], 0)), [(1, 7)]);
        assert_eq!(counts(known.news(vec![failed(1, "c", 2)], 0)), [(1, 2)], "another process with this id");
        assert_eq!(
            counts(known.news(vec![failed(2, "b", 5)], 0)),
            [(2, 5)],
            "forgotten, so all of it is new"
        );
    }

    #[test]
    fn a_line_says_when_what_who_and_where_and_a_name_cannot_leave_it() {
        let mut known = Known::default();
        let at = 86_400_000 + 18 * 3_600_000 + 3 * 60_000 + 22_250;
        let news = known.news(vec![failed(4711, "go\u{1b}[2Jmc\n", 17_500)], at);
        assert_eq!(
            news.iter().map(line).collect::<String>(),
            "18:03:22.250Z connect EADDRNOTAVAIL go\\u{1b}[2Jmc\\u{a}[4711] -> 127.0.0.1:11211 x17,500\n"
        );
    }
}
