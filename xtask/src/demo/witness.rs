//! The kernel's witness beside the story (`--probes`): a `weir-probes run` that watches the backend, and what
//! `weir-probes top --json` reads from its metrics every second. Without weir it names the process, how many keys it asks
//! for and how many local ports are left; with weir nobody goes past it and no port waits.

use std::cell::RefCell;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::stage::Storm;
use crate::process::{Running, Stream};
use crate::report::thousands;
use crate::servers::Door;
use crate::workspace::{Profile, Workspace};

/// How long the programs may take to load, and the first look to come.
const START: Duration = Duration::from_secs(30);
/// A look every second, and a reading of it every second.
const SETTLE: Duration = Duration::from_millis(2_500);
/// A request for more keys than this is the storm's.
const MANY: u64 = 10_000;

/// A running weir-probes and its reader; they end when this is dropped.
pub struct Witness {
    backend: String,
    state: RefCell<State>,
    probes: Running,
}

struct State {
    /// Connected while there were local ports: it stays so.
    reader: Running,
    /// The last line it read.
    last: Value,
}

/// What it saw of one phase.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Testimony {
    /// Seconds from the storm's begin to the first look that names it, and what it says. `None`: nobody was named.
    pub named: Option<(f64, String)>,
    /// Processes that went past weir to the backend so far. `None`: unknown.
    pub past_weir: Option<usize>,
    /// Most local ports in TIME_WAIT towards the backend, beyond those before the phase. `None`: unknown.
    pub time_wait: Option<u64>,
    /// Calls to bind and connect that failed meanwhile. `None`: unknown.
    pub failures: Option<u64>,
    /// Those before the phase.
    pub failures_before: u64,
    pub time_wait_before: u64,
}

impl Witness {
    /// Starts it and waits until it looks.
    pub fn start(workspace: &Workspace, backend: &Door) -> Result<Self> {
        let program = workspace.binary(Profile::Release, "weir-probes")?;
        let (door, backend) = (Door::free_port()?, backend.to_string());
        let mut command = Command::new(&program);
        command.args(["run", "--work", "--interval", "1s", "--listen", &door.to_string()]);
        command.args(["--watch", &format!("{backend}=memcached")]);
        command.arg("--own").arg(workspace.binary(Profile::Release, "weir")?);
        let log = workspace.scratch("logs")?.join("weir-probes-demo.log");
        let mut probes = Running::spawn_logging("weir-probes", &mut command, &log)?;
        if let Err(error) = probes.wait_for_line(START, |line| line.trim_end().ends_with("ready")) {
            bail!("{error:#}{}", std::fs::read_to_string(&log).unwrap_or_default());
        }
        let mut command = Command::new(&program);
        let mut reader =
            Running::spawn("weir-probes", command.args(["top", "--json", "--from", &door.to_string()]))?;
        let line = reader.wait_for_line(START, |line| line.starts_with('{'))?;
        let last = serde_json::from_str(&line).context("`weir-probes top --json` printed no JSON")?;
        let witness = Self { backend, state: RefCell::new(State { reader, last }), probes };
        if let Some(why) = witness.blind() {
            println!("  weir-probes sees sockets and ports only: {why}");
        }
        Ok(witness)
    }

    /// Its processes.
    pub fn pids(&self) -> [u32; 2] {
        [self.probes.pid(), self.state.borrow().reader.pid()]
    }

    /// Begins to watch a phase.
    pub fn phase(&self) -> Testimony {
        self.read();
        let failures_before = failures(&self.state.borrow().last).unwrap_or(0);
        let time_wait_before = self.time_wait(&self.state.borrow().last).unwrap_or(0);
        Testimony { failures_before, time_wait_before, ..Testimony::default() }
    }

    /// Takes in what was read since; `storming` is the storm under way, who sends it, and the seconds since it began.
    pub fn look(&self, testimony: &mut Testimony, storming: Option<(Storm, &str, f64)>) {
        self.read();
        let state = self.state.borrow();
        let view = &state.last;
        let rows = view["processes"].as_array();
        let past =
            |rows: &Vec<Value>| rows.iter().filter(|row| row["destination"] == self.backend.as_str()).count();
        testimony.past_weir = rows.map(past);
        let waiting = self.time_wait(view).map(|all| all.saturating_sub(testimony.time_wait_before));
        testimony.time_wait = testimony.time_wait.max(waiting);
        testimony.failures = failures(view).map(|all| all.saturating_sub(testimony.failures_before));
        if let Some((storm, culprit, since)) = storming
            && testimony.named.is_none()
            && let Some(sentence) = self.sentence(view, storm, culprit)
        {
            println!("  weir-probes, {since:.1} s after the storm broke: {sentence}");
            testimony.named = Some((since, sentence));
        }
    }

    fn read(&self) {
        let mut state = self.state.borrow_mut();
        while let Some((stream, line)) = state.reader.line(Duration::ZERO) {
            if stream == Stream::Out
                && let Ok(view) = serde_json::from_str(&line)
            {
                state.last = view;
            }
        }
    }

    /// Why it cannot see processes.
    fn blind(&self) -> Option<String> {
        let state = self.state.borrow();
        if state.last["processes"].is_array() {
            return None;
        }
        let rows = state.last["probes"].as_array().cloned().unwrap_or_default();
        let bypass = rows.into_iter().find(|row| row["probe"] == "bypass")?;
        Some(format!("{} {}", bypass["state"].as_str()?, bypass["why"].as_str().unwrap_or("")))
    }

    /// Waits until what has happened is read.
    pub fn settle(&self) {
        std::thread::sleep(SETTLE);
    }

    fn time_wait(&self, view: &Value) -> Option<u64> {
        self.row(view).map(|row| row["states"]["time_wait"].as_u64().unwrap_or(0))
    }

    /// The backend's row.
    fn row<'v>(&self, view: &'v Value) -> Option<&'v Value> {
        view["destinations"].as_array()?.iter().find(|row| row["destination"] == self.backend.as_str())
    }

    /// Process, destination, keys or connections, the ports left. `None`: not all of that is known yet.
    fn sentence(&self, view: &Value, storm: Storm, culprit: &str) -> Option<String> {
        let fits = |row: &&Value| row["process"] == culprit && row["destination"] == self.backend.as_str();
        let process = view["processes"].as_array()?.iter().find(fits)?;
        let backend = &self.backend;
        match storm {
            Storm::Multiget => {
                let keys = process["largest_last_minute"].as_u64().filter(|keys| *keys > MANY)?;
                Some(format!("{culprit} asks {backend} for {} keys in one request", thousands(keys)))
            }
            Storm::Connections => {
                let connections = process["connections"].as_u64()?;
                let (failures, worst) = failed(view, culprit)?;
                let ports = &self.row(view)?["ports"];
                let (used, capacity) = (ports["used"].as_u64()?, ports["capacity"].as_u64()?);
                Some(format!(
                    "{culprit} made {} connections to {backend}, {worst} {} times; {} of {} local ports are left",
                    thousands(connections),
                    thousands(failures),
                    thousands(capacity.saturating_sub(used)),
                    thousands(capacity),
                ))
            }
        }
    }
}

/// All failed calls so far.
fn failures(view: &Value) -> Option<u64> {
    if view["known"]["errors"] != true {
        return None;
    }
    Some(errors(view).filter_map(|row| row["failures"].as_u64()).sum())
}

/// A process's most frequent failure: how often, and which.
fn failed(view: &Value, process: &str) -> Option<(u64, String)> {
    let of = errors(view).filter(|row| row["process"] == process);
    let most = of.max_by_key(|row| row["failures"].as_u64())?;
    let which = format!("{} failed with {}", most["call"].as_str()?, most["errno"].as_str()?);
    Some((most["failures"].as_u64()?, which))
}

fn errors(view: &Value) -> impl Iterator<Item = &Value> {
    let rows = view["destinations"].as_array().into_iter().flatten();
    rows.filter_map(|row| row["errors"].as_array()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn view() -> Value {
        let error = |failures: u64| json!({"failures": failures, "call": "bind", "errno": "EADDRINUSE", "process": "feed"});
        json!({
            "known": {"errors": true},
            "destinations": [
                {"destination": "127.0.0.1:1", "states": {"time_wait": 1_990}, "errors": [],
                 "ports": {"used": 1_999, "capacity": 2_000}},
                {"destination": "127.0.0.1:0", "states": {}, "errors": [error(7), error(12_345)], "ports": null},
            ],
            "processes": [{"process": "feed", "destination": "127.0.0.1:1", "connections": 14_000,
                           "largest_last_minute": 19_812}],
        })
    }

    #[test]
    fn failures_are_found_under_the_address_that_could_not_be_bound() {
        assert_eq!(failures(&view()), Some(12_352));
        assert_eq!(failed(&view(), "feed"), Some((12_345, "bind failed with EADDRINUSE".to_owned())));
        assert_eq!(failed(&view(), "other"), None);
        let mut unknown = view();
        unknown["known"]["errors"] = json!(false);
        assert_eq!(failures(&unknown), None, "unknown is not none");
    }
}
