//! What `weir-probes top` shows, as golden text (`WEIR_BLESS=1` rewrites it); that names from outside cannot leave their
//! place; and the command as a child process.

mod sample;

use std::path::Path;
use std::process::Command;
use std::time::Duration;
use weir_probes::commands::top::page;
use weir_probes::commands::top::render::{Look, render};
use weir_probes::commands::top::view::View;
use weir_probes::metrics::reading;
use weir_probes::picture::{
    Call, Destination, Direction, ErrorCount, NamespaceStatus, Picture, ProbeState, ProbeStatus, SocketCount,
    State,
};
use weir_telemetry::ProbesTelemetry;

const PROGRAM: &str = env!("CARGO_BIN_EXE_weir-probes");

fn golden(name: &str, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("WEIR_BLESS").is_some() {
        std::fs::write(&path, actual).expect("the golden file can be written");
        return;
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(expected == actual, "{} differs (WEIR_BLESS=1 writes it):\n{actual}", path.display());
}

fn plain(width: usize) -> Look {
    Look { width, height: None, colour: false }
}

fn seen() -> View {
    let mut before = sample::picture();
    for row in before.bypass_work.iter_mut().flatten() {
        row.operations = 4;
    }
    let mut view = View::of(&sample::picture());
    view.since(&View::of(&before), 2.0);
    view
}

#[test]
fn the_table() {
    golden("top-120.txt", &render(&seen(), &plain(120)));
    golden("top-80.txt", &render(&seen(), &plain(80)));
}

#[test]
fn nothing_seen_is_not_nothing_there() {
    let text = render(&View::of(&Picture::default()), &plain(120));
    golden("top-nothing.txt", &text);
    assert!(!text.lines().skip(1).any(|line| line.contains('0')), "{text}");
}

/// A watched destination without a socket, one that a call failed to reach, the rest, and where somebody failed to bind.
fn idle(namespaces: Vec<NamespaceStatus>) -> Picture {
    let to = |text: &str| Destination::One(text.to_owned());
    let zero = SocketCount {
        namespace: "host".to_owned(),
        destination: to("127.0.0.1:11211"),
        direction: Direction::Outgoing,
        state: State::TimeWait,
        sockets: 0,
    };
    let failed = |destination| ErrorCount {
        call: Call::Connect,
        errno: 111,
        process: sample::gomc(),
        destination,
        failures: 1,
    };
    Picture {
        namespaces,
        sockets: Some(vec![zero]),
        ports: Some(Vec::new()),
        errors: Some(vec![
            failed(to("127.0.0.1:9042")),
            failed(Destination::Other),
            failed(to("127.0.0.1:0")),
        ]),
        bypass: Some(Vec::new()),
        probes: ["sock_diag", "bypass"]
            .map(|probe| ProbeStatus { probe, state: ProbeState::Attached, lost: None })
            .into(),
        ..Picture::default()
    }
}

#[test]
fn no_socket_is_0_where_that_is_known_and_unknown_where_it_is_not() {
    let host = |ports, problem: Option<&str>| NamespaceStatus {
        namespace: "host".to_owned(),
        ports,
        problem: problem.map(str::to_owned),
    };
    let seen = idle(vec![host(Some(28_232), None)]);
    let telemetry = ProbesTelemetry::new("0.1.0", "unknown");
    telemetry.update(reading(&seen));
    let page = page::view(&telemetry.render(None, Some(Duration::ZERO)).body);
    for view in [View::of(&seen), page] {
        let rows = serde_json::to_value(&view.destinations).expect("JSON");
        for row in rows.as_array().expect("rows") {
            let none = serde_json::json!({"used": 0, "capacity": 28_232, "seconds_left": null});
            let bound = row["destination"] == "127.0.0.1:0";
            assert_eq!(row["ports"], if bound { serde_json::Value::Null } else { none }, "{row}");
            assert_eq!(row["states"], serde_json::json!({}));
        }
        let text = render(&view, &plain(120));
        assert!(text.contains("nobody goes past weir"), "{text}");
        for destination in ["127.0.0.1:11211", "127.0.0.1:9042", "_other", "127.0.0.1:0"] {
            let line = text.lines().find(|line| line.starts_with(destination)).expect(destination);
            let cells: Vec<&str> = line.split_whitespace().skip(1).collect();
            let ports = if destination == "127.0.0.1:0" { ["-"; 3] } else { ["0/28,232", "0%", "-"] };
            assert_eq!(cells, [&["0"; 3][..], &ports].concat(), "{text}");
        }
    }
    // The list of sockets could not be read: a zero that a failed call made a row for is not one.
    let mut unseen = idle(vec![host(Some(28_232), Some("a dump failed"))]);
    unseen.probes[0].state = ProbeState::Refused { errno: None, reason: "a dump failed".to_owned() };
    (unseen.sockets, unseen.ports) = (None, None);
    let telemetry = ProbesTelemetry::new("0.1.0", "unknown");
    telemetry.update(reading(&unseen));
    let page = page::view(&telemetry.render(None, Some(Duration::ZERO)).body);
    for view in [View::of(&unseen), page] {
        let text = render(&view, &plain(120));
        let line = text.lines().find(|line| line.starts_with("_other")).expect("its call failed");
        assert_eq!(line.split_whitespace().skip(1).collect::<Vec<_>>(), ["?"; 6], "{text}");
    }
}

#[test]
fn no_line_is_wider_or_more_than_asked_for() {
    let look = Look { width: 100, height: Some(12), colour: false };
    let text = render(&seen(), &look);
    assert!(text.lines().count() <= 12, "{text}");
    assert!(text.contains("lines more"), "{text}");
}

#[test]
fn names_from_outside_cannot_leave_their_place() {
    let text = render(&seen(), &Look { width: 140, height: None, colour: false });
    assert!(text.contains("\\u{1b}[2J\\u{a}$(id)<scr~"), "{text}");
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
    // And a page of somebody who says he is weir-probes.
    let hostile = "\u{1b}[2J\\n$(id)<script>";
    let page = format!(
        "weir_probe_attached{{probe=\"{hostile}\",state=\"{hostile}\"}} 0\n\
         weir_probe_refused_info{{probe=\"{hostile}\",errno=\"{hostile}\"}} 1\n\
         weir_probe_events_lost_total{{probe=\"{hostile}\"}} 3\n\
         weir_probes_host_info{{kernel=\"{hostile}\",machine=\"\",lockdown=\"\"}} 1\n\
         weir_socket_states{{namespace=\"{hostile}\",destination=\"{hostile}\",direction=\"outgoing\",state=\"{hostile}\"}} 4\n\
         weir_socket_ports_used{{namespace=\"{hostile}\",source=\"{hostile}\",destination=\"{hostile}\"}} 1e300\n\
         weir_socket_errors_total{{call=\"{hostile}\",errno=\"{hostile}\",destination=\"{hostile}\",process=\"{hostile}\"}} NaN\n\
         weir_bypass_connections_total{{destination=\"{hostile}\",process=\"{hostile}\",uid=\"{hostile}\",unit=\"{hostile}\"}} -1\n\
         weir_probes_picture_age_seconds -1\n"
    );
    let text = render(&page::view(&page), &Look { width: 140, height: None, colour: false });
    assert!(text.contains("$(id)<script>"), "{text}");
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
}

#[test]
fn a_page_shows_what_the_picture_does() {
    let telemetry = ProbesTelemetry::new("0.1.0", "unknown");
    telemetry.update(reading(&sample::picture()));
    let shown = page::view(&telemetry.render(None, Some(Duration::from_millis(250))).body);
    golden("top-page.txt", &render(&shown, &plain(120)));
    let own = View::of(&sample::picture());
    assert_eq!((&shown.kernel, &shown.known), (&own.kernel, &own.known));
    // What a label may not hold is `_invalid` there; everything else is the same.
    let states = |view: &View| -> Vec<_> {
        view.destinations
            .iter()
            .map(|row| (row.destination.clone(), row.states.clone(), row.ports.clone()))
            .collect()
    };
    assert_eq!(states(&shown), states(&own));
    let work = |view: &View| -> Vec<_> {
        let rows = view.processes.iter().flatten();
        rows.map(|row| (row.uid.clone(), row.connections, row.operations, row.largest_last_minute))
            .take(1)
            .collect()
    };
    assert_eq!(work(&shown), work(&own));
}

#[test]
fn once_prints_a_table_or_one_object() {
    let output = Command::new(PROGRAM).args(["top", "--once"]).output().expect("it starts");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.starts_with("weir-probes  kernel ") && text.contains("DESTINATION"), "{text}");
    let output = Command::new(PROGRAM).args(["top", "--once", "--json"]).output().expect("it starts");
    let view: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(view["kernel"].is_string() && view["destinations"].is_array(), "{view}");
}

#[test]
fn without_a_terminal_or_an_answer_it_says_so() {
    let output = Command::new(PROGRAM).arg("top").output().expect("it starts");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("this is no terminal"));
    let holder = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = holder.local_addr().expect("bound").to_string();
    drop(holder);
    let output =
        Command::new(PROGRAM).args(["top", "--once", "--from", &address]).output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2));
    assert!(said.starts_with(&format!("weir-probes: {address} does not answer")), "{said}");
}
