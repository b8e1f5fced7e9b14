//! Log lines that cannot spiral: at most one line per cause and second reaches the sink, the rest are counted in
//! `weir_log_suppressed_total{cause}`, and the next line of the cause says how many were left out. Incidents have been
//! made far worse by a line per error. What operators do may have more lines ([`EventLog::emit_up_to`]).
//!
//! A cause is a fixed word of the code, so the number of causes is bounded; at most [`CAUSES`] of them have a line of
//! their own per second, any others share one. Every outside string is escaped ([`crate::escape`]). Keys do not belong
//! here at all.

use crate::Seconds;
use crate::catalogue::CAUSES;
use crate::escape;
use crate::families::Families;
use crate::labels::OTHER;
use prometheus_client::metrics::counter::Counter;
use std::fmt::Write as _;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

/// The form of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EventFormat {
    /// `level=warn cause=... key="value"`.
    #[default]
    Logfmt,
    /// One JSON object.
    Json,
}

/// How much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Normal life: started, reloaded, drained.
    Info,
    /// Somebody should look.
    Warn,
    /// Something failed.
    Error,
}

impl Severity {
    const fn name(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warn => "warn",
            Severity::Error => "error",
        }
    }
}

/// A value of a field.
#[derive(Clone, Copy, Debug)]
enum Value<'a> {
    Text(&'a str),
    Unsigned(u64),
}

/// One line: a cause, a message, and up to eight fields (more are left out).
#[derive(Clone, Debug)]
pub struct Event<'a> {
    cause: &'static str,
    severity: Severity,
    message: &'a str,
    fields: [Option<(&'static str, Value<'a>)>; 8],
}

impl<'a> Event<'a> {
    /// An event without fields. `cause` is a word of the code, never text from outside.
    #[must_use]
    pub fn new(severity: Severity, cause: &'static str, message: &'a str) -> Event<'a> {
        Event { cause, severity, message, fields: [None; 8] }
    }

    /// Adds text, which may come from outside.
    #[must_use]
    pub fn text(self, name: &'static str, value: &'a str) -> Event<'a> {
        self.field(name, Value::Text(value))
    }

    /// Adds a number.
    #[must_use]
    pub fn number(self, name: &'static str, value: u64) -> Event<'a> {
        self.field(name, Value::Unsigned(value))
    }

    fn field(mut self, name: &'static str, value: Value<'a>) -> Event<'a> {
        if let Some(free) = self.fields.iter_mut().find(|field| field.is_none()) {
            *free = Some((name, value));
        }
        self
    }
}

/// Where log lines go. Shared by all workers, and written to under a lock: a sink that blocks holds up whoever logs, for
/// at most one line per cause and second. Give it one that does not block where that matters.
pub struct EventLog {
    format: EventFormat,
    started_unix_seconds: u64,
    families: Arc<Families>,
    state: Mutex<State>,
}

struct State {
    sink: Box<dyn Write + Send>,
    causes: Vec<Cause>,
}

struct Cause {
    name: &'static str,
    last: Option<Seconds>,
    /// Lines in that second.
    written: u32,
    left_out: u64,
    suppressed: Counter,
}

impl std::fmt::Debug for EventLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventLog").field("format", &self.format).finish_non_exhaustive()
    }
}

impl EventLog {
    pub(crate) fn new(
        format: EventFormat,
        started_unix_seconds: u64,
        sink: Box<dyn Write + Send>,
        families: Arc<Families>,
    ) -> EventLog {
        let state = Mutex::new(State { sink, causes: Vec::new() });
        EventLog { format, started_unix_seconds, families, state }
    }

    /// Writes the line unless its cause had one in this second. Returns whether it was written. A sink that fails is
    /// ignored: weir serves on when nobody can read its log.
    pub fn emit(&self, event: &Event<'_>, now: Seconds) -> bool {
        self.emit_up_to(1, event, now)
    }

    /// The same for a cause that may have `lines` lines in a second: what is rare, and of which no line may be missing.
    pub fn emit_up_to(&self, lines: u32, event: &Event<'_>, now: Seconds) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { sink, causes } = &mut *state;
        let cause = self.cause(causes, event.cause);
        let same_second = cause.last.is_some_and(|last| now <= last);
        if same_second && cause.written >= lines {
            cause.left_out = cause.left_out.saturating_add(1);
            cause.suppressed.inc();
            return false;
        }
        if !same_second {
            (cause.last, cause.written) = (Some(now), 0);
        }
        cause.written += 1;
        let left_out = std::mem::take(&mut cause.left_out);
        let line = self.line(event, left_out, now);
        let _ = sink.write_all(line.as_bytes());
        true
    }

    fn cause<'c>(&self, causes: &'c mut Vec<Cause>, name: &'static str) -> &'c mut Cause {
        let index = match causes.iter().position(|cause| cause.name == name) {
            Some(index) => index,
            None if causes.len() < CAUSES => self.add_cause(causes, name),
            None => {
                self.families.overflow("log_cause").inc();
                let other = causes.iter().position(|cause| cause.name == OTHER);
                other.unwrap_or_else(|| self.add_cause(causes, OTHER))
            }
        };
        &mut causes[index]
    }

    fn add_cause(&self, causes: &mut Vec<Cause>, name: &'static str) -> usize {
        let suppressed = self.families.log_suppressed.series([name.into()]);
        causes.push(Cause { name, last: None, written: 0, left_out: 0, suppressed });
        causes.len() - 1
    }

    fn line(&self, event: &Event<'_>, left_out: u64, now: Seconds) -> String {
        let mut line = Line { out: String::with_capacity(256), format: self.format };
        line.number("unix", self.started_unix_seconds.saturating_add(now.0));
        line.text("level", event.severity.name());
        line.text("cause", event.cause);
        line.text("message", event.message);
        for (name, value) in event.fields.iter().flatten() {
            match value {
                Value::Text(text) => line.text(name, text),
                Value::Unsigned(number) => line.number(name, *number),
            }
        }
        if left_out > 0 {
            line.number("suppressed", left_out);
        }
        line.end()
    }
}

/// A line under construction, in either form.
struct Line {
    out: String,
    format: EventFormat,
}

impl Line {
    fn name(&mut self, name: &str) {
        let _ = match (self.format, self.out.is_empty()) {
            (EventFormat::Json, true) => write!(self.out, "{{\"{name}\":"),
            (EventFormat::Json, false) => write!(self.out, ",\"{name}\":"),
            (EventFormat::Logfmt, true) => write!(self.out, "{name}="),
            (EventFormat::Logfmt, false) => write!(self.out, " {name}="),
        };
    }

    fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        let _ = write!(self.out, "\"{}\"", escape::quoted(value));
    }

    fn number(&mut self, name: &str, value: u64) {
        self.name(name);
        let _ = write!(self.out, "{value}");
    }

    fn end(mut self) -> String {
        self.out.push_str(if self.format == EventFormat::Json { "}\n" } else { "\n" });
        self.out
    }
}
