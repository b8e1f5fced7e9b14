//! `weir-probes check`: what this machine offers, and each probe tried. Every probe is loaded and taken out again.

use crate::cli::CheckArgs;
use crate::host::Host;
use crate::kernel::probe::{PROBES, Probe};
use crate::kernel::{Kernel, Options};
use crate::picture::ProbeState;
use crate::settings::Settings;
use crate::{rights, source};
use serde::Serialize;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    host: Host,
    probes: Vec<Row>,
    notes: Vec<String>,
}

/// One probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Row {
    probe: &'static str,
    #[serde(flatten)]
    state: ProbeState,
    capabilities_to_load: Vec<&'static str>,
    capabilities_for_life: Vec<&'static str>,
    feature: &'static str,
    you_lose: &'static str,
}

/// Tries everything and prints it.
#[must_use]
pub fn run(args: &CheckArgs) -> ExitCode {
    let report = Report::make();
    let text = if args.json {
        match serde_json::to_string_pretty(&report) {
            Ok(text) => text + "\n",
            Err(error) => format!("{{\"error\":{:?}}}\n", error.to_string()),
        }
    } else {
        let kept = rights::named(source::kept(&Settings::default()));
        format!("{}kept by run   {kept}\n", report.text())
    };
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(2), // nobody reads any more
    }
}

impl Report {
    fn make() -> Report {
        let host = Host::read();
        let kernel = Kernel::load(&Options::all());
        let states = kernel.statuses().into_iter().map(|status| status.state);
        let probes = PROBES.iter().zip(states).map(|(probe, state)| Row::of(probe, state)).collect();
        Report { host, probes, notes: kernel.notes.clone() }
    }

    fn text(&self) -> String {
        let mut text = format!("{}\n", self.host);
        let head = ["probe", "works here", "to load", "for life", "kernel feature", "without it you lose"];
        let mut rows = vec![head.map(str::to_owned)];
        rows.extend(self.probes.iter().map(Row::cells));
        let mut widths = [0; 6];
        for row in &rows {
            widths.iter_mut().zip(row).for_each(|(width, cell)| *width = (*width).max(cell.chars().count()));
        }
        for row in &rows {
            let line: String =
                row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}  ")).collect();
            let _ = writeln!(text, "{}", line.trim_end());
        }
        for row in &self.probes {
            if let ProbeState::Unsupported { reason } | ProbeState::Refused { reason, .. } = &row.state {
                let _ = writeln!(text, "\n{}: {reason}", row.probe);
            }
        }
        for note in &self.notes {
            let _ = writeln!(text, "\nnote: {note}");
        }
        text
    }
}

impl Row {
    fn of(probe: &Probe, state: ProbeState) -> Row {
        Row {
            probe: probe.name,
            state,
            capabilities_to_load: probe.to_load.to_vec(),
            capabilities_for_life: probe.to_live.to_vec(),
            feature: probe.feature,
            you_lose: probe.loses,
        }
    }

    fn cells(&self) -> [String; 6] {
        let here = match &self.state {
            ProbeState::Attached => "yes".to_owned(),
            ProbeState::Off => "off".to_owned(),
            ProbeState::Unsupported { .. } => "unsupported".to_owned(),
            ProbeState::Refused { errno: Some(errno), .. } => format!("refused, errno {errno}"),
            ProbeState::Refused { errno: None, .. } => "refused".to_owned(),
        };
        let names = |names: &[&str]| if names.is_empty() { "none".to_owned() } else { names.join(" ") };
        let (load, life) = (names(&self.capabilities_to_load), names(&self.capabilities_for_life));
        [self.probe.to_owned(), here, load, life, self.feature.to_owned(), self.you_lose.to_owned()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_work_is_said_with_its_reason_and_its_price() {
        let [probe, ..] = PROBES else { panic!("there are probes") };
        let refused = ProbeState::Refused { errno: Some(1), reason: "no right".to_owned() };
        let report = Report {
            host: Host::read(),
            probes: vec![Row::of(probe, refused)],
            notes: vec!["a note".to_owned()],
        };
        let text = report.text();
        for part in
            ["refused, errno 1", "CAP_BPF CAP_PERFMON", probe.loses, "transitions: no right", "note: a note"]
        {
            assert!(text.contains(part), "{part} is missing in:\n{text}");
        }
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["probes"][0]["state"], "refused");
        assert_eq!(json["probes"][0]["errno"], 1);
    }
}
