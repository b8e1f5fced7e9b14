//! The `/metrics` of a `weir-probes run` as a [`View`]. What is no line of the classic text format is passed over: the page
//! comes from another process.

use super::view::{ErrorRow, PortsRow, ProbeRow, View};
use crate::settings::OWN_NAMESPACE;
use std::collections::BTreeMap;
use weir_telemetry::probes::catalogue as metric;

/// One sample.
#[derive(Clone, Debug, PartialEq)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

/// What a page shows.
#[must_use]
pub fn view(page: &str) -> View {
    let samples: Vec<Sample> = page.lines().filter_map(sample).collect();
    let of = |name: &'static str| samples.iter().filter(move |sample| sample.name == name);
    let known = |name: &'static str| of(name).next().is_some();
    let mut view = View {
        kernel: of(metric::HOST_INFO.name).next().map(|sample| sample.label("kernel")),
        age_seconds: of(metric::PICTURE_AGE.name).next().map_or(0.0, |sample| sample.value),
        ..View::default()
    };
    view.known.states = known(metric::SOCKET_STATES.name);
    view.known.ports = known(metric::PORTS_USED.name) || known(metric::PORTS_CAPACITY.name);
    for sample in of(metric::PROBE_ATTACHED.name) {
        let probe = sample.label("probe");
        let errno = of(metric::PROBE_REFUSED_INFO.name).find(|info| info.label("probe") == probe);
        let lost = of(metric::PROBE_EVENTS_LOST.name).find(|lost| lost.label("probe") == probe);
        view.probes.push(ProbeRow {
            state: sample.label("state"),
            why: errno.map(|info| info.label("errno")),
            lost: lost.map(Sample::count),
            probe,
        });
    }
    for sample in of(metric::SOCKET_STATES.name) {
        if sample.label("direction") == "outgoing" {
            let row = view.destination(&sample.label("namespace"), &sample.label("destination"));
            row.holds(&sample.label("state"), sample.count());
        }
    }
    for sample in of(metric::PORTS_USED.name) {
        let namespace = sample.label("namespace");
        let capacity = of(metric::PORTS_CAPACITY.name).find(|ports| ports.label("namespace") == namespace);
        let left = of(metric::PORTS_SECONDS_LEFT.name).find(|left| left.labels == sample.labels);
        let ports = PortsRow {
            source: Some(sample.label("source")),
            used: sample.count(),
            capacity: capacity.map(Sample::count),
            seconds_left: left.map(|left| left.value),
        };
        view.destination(&namespace, &sample.label("destination")).fuller(ports);
    }
    for sample in of(metric::SOCKET_ERRORS.name) {
        let error = ErrorRow {
            failures: sample.count(),
            call: sample.label("call"),
            errno: sample.label("errno"),
            process: sample.label("process"),
        };
        view.failed(&sample.label("destination"), &error);
    }
    // A counter that nobody has incremented has no sample: the probe's state tells whether it is known.
    let attached = |probe: &str| view.probes.iter().any(|row| row.probe == probe && row.state == "attached");
    view.known.errors = known(metric::SOCKET_ERRORS.name) || attached("errors");
    let nobody = attached("bypass").then(Vec::new);
    processes(&samples, &mut view);
    view.processes = view.processes.take().or(nobody);
    view.looked_into = looked_into(&samples, &view);
    view.without_ports();
    view.sort();
    view
}

/// Namespaces whose sockets were listed, as far as a page tells: all of a reader that is well, else those that have some.
fn looked_into(samples: &[Sample], view: &View) -> BTreeMap<String, Option<u64>> {
    let attached = |probe: &str| view.probes.iter().any(|row| row.probe == probe && row.state == "attached");
    let whole = |namespace: &str| {
        attached(if namespace == OWN_NAMESPACE { "sock_diag" } else { "namespaces" })
            || view
                .destinations
                .iter()
                .any(|row| row.namespace == namespace && (row.ports.is_some() || !row.states.is_empty()))
    };
    let ports = samples.iter().filter(|sample| sample.name == metric::PORTS_CAPACITY.name);
    let ports = ports.map(|sample| (sample.label("namespace"), Some(sample.count())));
    ports.filter(|(namespace, _)| whole(namespace)).collect()
}

fn processes(samples: &[Sample], view: &mut View) {
    for sample in samples {
        let name = sample.name.as_str();
        let connections = name == metric::BYPASS_CONNECTIONS.name;
        let requests = name == metric::BYPASS_REQUESTS.name;
        let operations = name == metric::BYPASS_OPERATIONS.name;
        let largest = name == metric::BYPASS_REQUEST_OPERATIONS_MAX.name;
        if !(connections || requests || operations || largest) {
            continue;
        }
        let row = view.process(&sample.label("destination"), &sample.label("process"));
        if connections {
            *row.connections.get_or_insert(0) += sample.count();
            row.uid = Some(sample.label("uid"));
            row.unit = Some(sample.label("unit"));
        } else if requests {
            row.requests = Some(sample.count());
        } else if operations {
            row.operations = Some(sample.count());
        } else {
            row.largest_last_minute = Some(sample.count());
        }
    }
}

impl Sample {
    fn label(&self, name: &str) -> String {
        self.labels.get(name).cloned().unwrap_or_default()
    }

    fn count(&self) -> u64 {
        self.value as u64
    }
}

/// A line `name{label="value",...} number`.
fn sample(line: &str) -> Option<Sample> {
    let end = line.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':')?;
    let (name, rest) = line.split_at(end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(inside) => labels(inside)?,
        None => (BTreeMap::new(), rest),
    };
    let value = rest.trim_start().split(' ').next()?.parse().ok()?;
    (!name.is_empty()).then(|| Sample { name: name.to_owned(), labels, value })
}

/// Labels up to the closing brace, and what follows it.
fn labels(mut text: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    loop {
        if let Some(rest) = text.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, rest) = text.split_once("=\"")?;
        let mut value = String::new();
        let mut chars = rest.char_indices();
        let end = loop {
            match chars.next()? {
                (at, '"') => break at + 1,
                (_, '\\') => value.push(match chars.next()?.1 {
                    'n' => '\n',
                    other => other,
                }),
                (_, other) => value.push(other),
            }
        };
        labels.insert(name.to_owned(), value);
        text = &rest[end..];
        text = text.strip_prefix(',').unwrap_or(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_with_its_escapes() {
        let read = sample("weir_x_total{a=\"b\",c=\"d\\\"e\\\\f\\ng}\"} 17").expect("a sample");
        let labels = [("a", "b"), ("c", "d\"e\\f\ng}")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(read, Sample { name: "weir_x_total".to_owned(), labels: labels.into(), value: 17.0 });
        assert_eq!(sample("weir_y 0.5").map(|read| read.value), Some(0.5));
    }

    #[test]
    fn what_is_no_sample_is_passed_over() {
        for line in [
            "",
            "# TYPE weir_x counter",
            "weir_x",
            "weir_x{",
            "weir_x{a=\"b}",
            "weir_x{a=\"\\",
            "{} 1",
            "\u{1b}[2J 1",
            "é 1",
        ] {
            assert_eq!(sample(line), None, "{line:?}");
        }
    }
}
