//! A whole picture as `/metrics` shows it, compared with `tests/golden/metrics.txt` (`WEIR_BLESS=1` rewrites the file).

mod sample;

use std::path::Path;
use std::time::Duration;
use weir_probes::metrics::reading;
use weir_probes::picture::{BypassCount, Picture, Process};
use weir_telemetry::ProbesTelemetry;

/// The page without what differs from run to run: the process's own numbers, which come last.
fn page(picture: &Picture) -> String {
    let telemetry = ProbesTelemetry::new("0.1.0", "unknown");
    telemetry.update(reading(picture));
    let page = telemetry.render(None, Some(Duration::from_millis(250))).body;
    let end = page.find("# HELP process_").unwrap_or(page.len());
    page[..end].to_owned()
}

#[test]
fn a_picture_is_shown_as_it_was() {
    let shown = page(&sample::picture());
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/metrics.txt");
    if std::env::var_os("WEIR_BLESS").is_some() {
        std::fs::write(&file, &shown).expect("the golden file can be written");
    }
    let golden = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(shown == golden, "tests/golden/metrics.txt is stale (WEIR_BLESS=1 rewrites it); now:\n{shown}");
}

#[test]
fn a_part_that_nobody_saw_has_no_series() {
    let all = page(&sample::picture());
    let names = |page: &str| -> Vec<String> {
        let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        types.filter_map(|line| Some(line.split_once(' ')?.0.to_owned())).collect()
    };
    let none = page(&Picture::default());
    assert_eq!(
        names(&none),
        ["weir_probes_picture_age_seconds", "weir_label_overflow_total", "weir_build_info"],
        "{none}"
    );
    // Each part by itself: what belongs to it goes, nothing else does.
    type Forget = fn(&mut Picture);
    let parts: &[(Forget, &[&str])] = &[
        (|p| p.sockets = None, &["weir_socket_states"]),
        (|p| p.ports = None, &["weir_socket_ports_used", "weir_socket_ports_seconds_left"]),
        (|p| p.namespaces.clear(), &["weir_socket_ports_capacity"]),
        (|p| p.errors = None, &["weir_socket_errors_total"]),
        (|p| p.transitions = None, &["weir_socket_transitions_total"]),
        (|p| p.opens = None, &["weir_socket_opens_total"]),
        (|p| p.life_times = None, &["weir_socket_lifetime_seconds"]),
        (|p| p.bytes = None, &["weir_socket_bytes_total"]),
        (|p| p.round_trips = None, &["weir_socket_rtt_seconds"]),
        (|p| p.retransmits = None, &["weir_socket_retransmits_total"]),
        (|p| p.listeners = None, &["weir_listener_queue", "weir_listener_queue_max"]),
        (|p| p.listener_drops = None, &["weir_listener_drops_total"]),
        (|p| p.bypass = None, &["weir_bypass_connections_total"]),
        (
            |p| p.bypass_work = None,
            &[
                "weir_bypass_requests_total",
                "weir_bypass_operations_total",
                "weir_bypass_request_operations",
                "weir_bypass_request_operations_max",
            ],
        ),
        (|p| p.request_times = None, &["weir_request_cpu_seconds", "weir_request_blocked_seconds"]),
        (
            |p| p.services = None,
            &["weir_service_processes", "weir_service_requests_total", "weir_service_cpu_seconds_total"],
        ),
        (|p| p.disagreements = None, &["weir_witness_disagreement"]),
        (|p| p.programs = None, &["weir_probe_program_run_seconds_total", "weir_probe_program_runs_total"]),
        (|p| p.host = None, &["weir_probes_capability", "weir_probes_host_info"]),
    ];
    for (forget, gone) in parts {
        let mut picture = sample::picture();
        forget(&mut picture);
        let mut expected = names(&all);
        expected.retain(|name| !gone.contains(&name.as_str()));
        assert_eq!(names(&page(&picture)).len() + gone.len(), names(&all).len());
        assert_eq!(names(&page(&picture)), expected);
    }
}

#[test]
fn a_probe_says_why_it_is_not_there_and_counts_nothing() {
    let page = page(&sample::picture());
    for line in [
        "weir_probe_attached{probe=\"errors\",state=\"attached\"} 1",
        "weir_probe_attached{probe=\"tcp_iter\",state=\"refused\"} 0",
        "weir_probe_attached{probe=\"traffic\",state=\"unsupported\"} 0",
        "weir_probe_attached{probe=\"work\",state=\"off\"} 0",
        "weir_probe_refused_info{probe=\"tcp_iter\",errno=\"EPERM\"} 1",
        "weir_probe_events_lost_total{probe=\"errors\"} 2",
    ] {
        assert!(page.lines().any(|shown| shown == line), "{line} is missing in:\n{page}");
    }
    assert_eq!(page.matches("weir_probe_events_lost_total{").count(), 1, "unknown is not 0");
}

#[test]
fn what_a_process_did_counts_once_when_it_has_ended() {
    let bypass = |rows: &[(u32, u64)]| {
        let row = |(pid, connections): &(u32, u64)| BypassCount {
            destination: sample::cache(),
            process: Process { pid: *pid, ended: *pid == 0, ..sample::gomc() },
            connections: *connections,
        };
        Picture { bypass: Some(rows.iter().map(row).collect()), ..Picture::default() }
    };
    let telemetry = ProbesTelemetry::new("0.1.0", "unknown");
    let counted = |rows: &[(u32, u64)]| {
        telemetry.update(reading(&bypass(rows)));
        let page = telemetry.render(None, None).body;
        let line = page.lines().find(|line| line.starts_with("weir_bypass_connections_total{"));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
    };
    assert_eq!(counted(&[(7, 25)]), Some(25));
    assert_eq!(counted(&[(7, 30)]), Some(30));
    // It has ended: its sums stand by name from now on, and another process comes.
    assert_eq!(counted(&[(0, 30), (8, 12)]), Some(42));
    assert_eq!(counted(&[(0, 42)]), Some(42));
}
