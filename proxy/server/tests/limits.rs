//! Limits as clients and operators meet them: through the wire, the control socket and `/metrics` of a running weir in
//! front of the real memcached.

mod support;

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::process::run;
use support::series;
use support::wire::{Wire, keys};
use support::{Memcached, Weir, free_port, http, own_name, skip, wait_for, which};

/// How long something that is "at once" may take on a busy machine.
const SOON: Duration = Duration::from_secs(10);

/// A file with a listener per mode; the caller of each is named like it.
fn modes(memcached: &Memcached) -> String {
    let mut text = format!("[pool.cache]\nservers = [\"{}\"]\n", memcached.address());
    for (name, limits) in [
        ("observed", "operations_per_request = 100\nmode = \"observe\""),
        ("refused", "operations_per_request = 100\nmode = \"refuse\""),
        ("paced", "operations_per_second = 200\nburst = 20\nmode = \"pace\""),
        ("rated", "operations_per_second = 50\nburst = 5\nmode = \"refuse\""),
        ("narrow", "operations_in_flight = 1\nbytes_in_flight = \"64KiB\"\nmode = \"refuse\""),
    ] {
        text += &format!(
            "[listener.{name}]\naddress = \"unix:{{dir}}/{name}.sock\"\n[callers.{name}]\nlistener = \"{name}\"\n{limits}\n"
        );
    }
    text
}

/// Waits until weir has counted at least `count`: workers fold what they count with a small delay.
fn counted(weir: &Weir, name: &str, labels: &[(&str, &str)], count: f64) -> f64 {
    let what = format!("{name}{labels:?} reaches {count}");
    wait_for(&what, SOON, || weir.series(name, labels).filter(|found| *found >= count))
}

fn rejected(weir: &Weir, caller: &str, reason: &str, mode: &str, count: f64) -> f64 {
    counted(weir, "weir_rejected_total", &[("caller", caller), ("reason", reason), ("mode", mode)], count)
}

#[test]
fn observe_lets_pass_and_counts() {
    let Some(memcached) = Memcached::start() else { return };
    let many = keys("o", 101);
    memcached.wire().fill(&many, b"v");
    let weir = Weir::with_config(&modes(&memcached), &[]);
    let mut wire = Wire::unix(&weir.path("observed.sock"));
    let answer = wire.get(&many);
    assert_eq!((answer.found.len(), answer.end.as_str()), (101, "END"));
    assert_eq!(rejected(&weir, "observed", "operations_per_request", "observe", 1.0), 1.0);
    assert_eq!(wire.get(&many[..100]).found.len(), 100);
    assert_eq!(
        rejected(&weir, "observed", "operations_per_request", "observe", 1.0),
        1.0,
        "the ceiling may be asked"
    );
    assert_eq!(
        weir.series("weir_limit", &[("caller", "observed"), ("kind", "operations_per_request")]),
        Some(100.0)
    );
    assert_eq!(weir.series("weir_limit_mode", &[("caller", "observed"), ("mode", "observe")]), Some(1.0));
}

#[test]
fn refuse_names_limit_ask_and_ceiling_and_stays_in_step() {
    let Some(memcached) = Memcached::start() else { return };
    let many = keys("r", 101);
    memcached.wire().fill(&many, b"v");
    let weir = Weir::with_config(&modes(&memcached), &[]);
    let mut wire = Wire::unix(&weir.path("refused.sock"));
    // Pipelined: the refusal takes its place between the answers around it.
    wire.send(format!("get r:0\r\nget {}\r\nget {}\r\n", many.join(" "), many[..100].join(" ")));
    assert_eq!(wire.values().found.len(), 1);
    let refusal = wire.values();
    assert!(refusal.found.is_empty());
    assert!(refusal.end.starts_with("SERVER_ERROR "), "{}", refusal.end);
    for word in ["operations_per_request", "refused", "101", "100"] {
        assert!(refusal.end.contains(word), "{word}: {}", refusal.end);
    }
    assert_eq!(wire.values().found.len(), 100);
    assert_eq!(rejected(&weir, "refused", "operations_per_request", "refuse", 1.0), 1.0);
    let asked = weir.series("weir_request_operations_max", &[("caller", "refused"), ("method", "get")]);
    assert_eq!(asked, Some(101.0), "what was asked, refused or not");
    let served = weir.series("weir_backend_operations_total", &[("caller", "refused")]);
    assert_eq!(served, Some(101.0), "nothing of the refused request reached memcached");
}

#[test]
fn pace_delays_and_refuses_only_what_would_wait_too_long() {
    let Some(memcached) = Memcached::start() else { return };
    memcached.wire().fill(&keys("p", 400), b"v");
    let weir = Weir::with_config(&modes(&memcached), &[]);
    let mut wire = Wire::unix(&weir.path("paced.sock"));
    let begun = Instant::now();
    for number in 0..120 {
        assert_eq!(wire.get(&[format!("p:{number}")]).end, "END", "get {number}");
    }
    let took = begun.elapsed();
    // 100 beyond the burst at 200 a second.
    assert!(took >= Duration::from_millis(400), "{took:?}");
    assert!(rejected(&weir, "paced", "operations_per_second", "pace", 1.0) >= 20.0);
    let refused = [("caller", "paced"), ("mode", "refuse")];
    assert_eq!(weir.series("weir_rejected_total", &refused).unwrap_or(0.0), 0.0);

    // A request of 400 puts the caller two seconds into debt: longer than anybody is kept waiting.
    assert_eq!(wire.get(&keys("p", 400)).found.len(), 400);
    let begun = Instant::now();
    let refusal = wire.get(&["p:1".to_owned()]);
    assert!(
        refusal.end.starts_with("SERVER_ERROR ") && refusal.end.contains("operations_per_second"),
        "{}",
        refusal.end
    );
    assert!(begun.elapsed() >= Duration::from_millis(200), "it waited first: {:?}", begun.elapsed());
    wait_for("the debt is paid", SOON, || (wire.get(&["p:1".to_owned()]).end == "END").then_some(()));
}

#[test]
fn deletes_and_touches_are_never_refused() {
    let Some(memcached) = Memcached::start() else { return };
    let mut direct = memcached.wire();
    let many = keys("d", 40);
    direct.fill(&many, b"v");
    let weir = Weir::with_config(&modes(&memcached), &[]);
    for listener in ["rated", "narrow"] {
        direct.fill(&many, b"v");
        let mut wire = Wire::unix(&weir.path(&format!("{listener}.sock")));
        // Into debt, so that every limit there is says no; a request in flight does the same for `narrow`.
        let ask = format!("get {}\r\n", many.join(" "));
        wire.send(format!("{ask}{}", "delete d:0\r\ndelete d:1 noreply\r\ntouch d:2 100\r\nmd d:3\r\n"));
        assert_eq!(wire.values().end, "END", "{listener}");
        assert_eq!(wire.line(), "DELETED", "{listener}");
        assert_eq!(wire.line(), "TOUCHED", "{listener}");
        assert_eq!(wire.line(), "HD", "{listener}");
        for key in &many[4..10] {
            assert_eq!(wire.ask(&format!("delete {key}")), "DELETED", "{listener}");
        }
        let left = direct.get(&many[..10]);
        assert_eq!(left.found, [("d:2".to_owned(), b"v".to_vec())], "{listener}: nothing stale is left");
    }
    // The same debt refuses a read.
    let mut wire = Wire::unix(&weir.path("rated.sock"));
    wait_for("the debt is paid", SOON, || (wire.get(&keys("d", 400)).end == "END").then_some(()));
    let refusal = wire.get(&["d:2".to_owned()]);
    assert!(refusal.end.contains("operations_per_second"), "{}", refusal.end);
}

/// Reads of one key that `clients` ask back to back for `time` under a limit: how many were served.
fn served_within(weir: &Weir, clients: usize, time: Duration) -> (u64, u64) {
    let (served, refused, over) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                let mut wire = Wire::unix(&weir.path("door.sock"));
                while !over.load(Ordering::Relaxed) {
                    let answer = wire.get(&["key".to_owned()]);
                    let count = if answer.end == "END" { &served } else { &refused };
                    count.fetch_add(1, Ordering::Relaxed);
                    // Far above the limit, and far below what would keep the machine busy.
                    std::thread::sleep(Duration::from_millis(2));
                }
            });
        }
        std::thread::sleep(time);
        over.store(true, Ordering::Relaxed);
    });
    (served.into_inner(), refused.into_inner())
}

#[test]
fn a_rate_holds_per_process_however_many_workers() {
    const RATE: u64 = 300;
    const TIME: Duration = Duration::from_secs(4);
    let Some(memcached) = Memcached::start() else { return };
    memcached.wire().set("key", b"value");
    let wanted = RATE * TIME.as_secs();
    for workers in ["1", "2", "4"] {
        let text = format!(
            "[pool.cache]\nservers = [\"{}\"]\n[listener.door]\naddress = \"unix:{{dir}}/door.sock\"\n\
             [callers.door]\nlistener = \"door\"\noperations_per_second = {RATE}\nburst = 10\nmode = \"refuse\"\n",
            memcached.address()
        );
        let weir = Weir::with_config(&text, &["--workers", workers]);
        let (served, refused) = served_within(&weir, 8, TIME);
        println!("{workers} workers: {served} of {wanted} served, {refused} refused");
        let most = wanted + wanted / 10 + 10;
        assert!((wanted * 8 / 10..=most).contains(&served), "{workers} workers: {served} served of {wanted}");
        assert!(refused > 0, "{workers} workers: the load was no test");
    }
}

/// Asks for `count` keys that are not there; the line that ended the answer.
fn ask_for(wire: &mut Wire, count: usize) -> String {
    wire.get(&keys("none", count)).end
}

/// A file with one listener, whose clients bear their process names.
fn plain(memcached: &Memcached) -> String {
    format!(
        "[pool.cache]\nservers = [\"{}\"]\n[listener.door]\naddress = \"unix:{{dir}}/door.sock\"\n\
         [undeclared]\noperations_per_request = 2_000\nmode = \"observe\"\n",
        memcached.address()
    )
}

const STATE: &[&str] = &["--state-dir", "{dir}/state"];

#[test]
fn an_override_takes_effect_at_once_is_shown_and_survives() {
    let Some(memcached) = Memcached::start() else { return };
    let mut weir = Weir::with_config(&plain(&memcached), STATE);
    let name = own_name();
    let mut wire = Wire::unix(&weir.path("door.sock"));
    assert_eq!(ask_for(&mut wire, 1_500), "END", "below the ceiling of everybody");
    assert_eq!(ask_for(&mut wire, 5_000), "END", "above it, which is only observed");

    let limit = ["limits", "set", &name, "--operations-per-request", "1000", "--mode", "refuse"];
    let said = weir.command(&[&limit[..], &["--for", "1h", "--why", "incident 4711"]].concat());
    let said = said.expect_success("weir limits set");
    assert!(said.stdout.contains(&name), "{}", said.stdout);

    let in_force = |weir: &Weir, wire: &mut Wire| {
        let refusal = ask_for(wire, 1_001);
        assert!(
            refusal.starts_with("SERVER_ERROR ") && refusal.contains("operations_per_request"),
            "{refusal}"
        );
        assert!(refusal.contains(&name) && refusal.contains("1001") && refusal.contains("1000"), "{refusal}");
        assert_eq!(ask_for(wire, 1_000), "END");
        let config = weir.control("/config");
        let shown = config["overrides"].as_array().expect("a list");
        assert_eq!(shown.len(), 1, "{config}");
        assert_eq!(shown[0]["caller"], name.as_str(), "{config}");
        assert_eq!(shown[0]["limits"]["operations_per_request"], 1_000, "{config}");
        assert_eq!(shown[0]["why"], "incident 4711", "{config}");
        assert!(shown[0]["by"].is_object() || shown[0]["by"].is_string(), "who set it: {config}");
        let left = shown[0]["expires_at_unix"].as_u64().expect("a time");
        let now =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
        assert!((now + 3_400..=now + 3_600).contains(&left), "an hour from now: {left}");
        assert_eq!(weir.series("weir_override_active", &[("kind", "limits"), ("target", &name)]), Some(1.0));
    };
    // The very connection that was open before.
    in_force(&weir, &mut wire);
    wait_for("the limit is a metric", SOON, || {
        let found = weir.series("weir_limit", &[("caller", &name), ("kind", "operations_per_request")]);
        (found == Some(1_000.0)).then_some(())
    });

    let reloads = weir.series("weir_config_last_reload_success_timestamp_seconds", &[]);
    std::fs::write(weir.path("weir.toml"), expanded(&weir, &plain(&memcached).replace("2_000", "2_500")))
        .expect("written");
    weir.hang_up();
    wait_for("the file was read again", SOON, || {
        let toml = weir.control("/config")["toml"].as_str().map(str::to_owned)?;
        (toml.contains("2_500") || toml.contains("2500")).then_some(())
    });
    assert!(weir.series("weir_config_last_reload_success_timestamp_seconds", &[]) >= reloads);
    in_force(&weir, &mut wire);
    drop(wire);

    weir.restart();
    let mut wire = Wire::unix(&weir.path("door.sock"));
    in_force(&weir, &mut wire);

    weir.command(&["limits", "clear", &name]).expect_success("weir limits clear");
    assert_eq!(ask_for(&mut wire, 1_001), "END");
    assert_eq!(weir.control("/config")["overrides"].as_array().map(Vec::len), Some(0));
    assert_eq!(weir.command(&["limits", "clear", &name]).status.code(), Some(1), "there is none any more");
    let log = weir.log();
    assert!(log.contains("incident 4711"), "who, when and why is logged:\n{log}");
}

/// A file's text as [`Weir::with_config`] writes it.
fn expanded(weir: &Weir, text: &str) -> String {
    text.replace("{dir}", &weir.directory.path().to_string_lossy())
}

#[test]
fn an_override_ends_by_itself() {
    let Some(memcached) = Memcached::start() else { return };
    let weir = Weir::with_config(&plain(&memcached), STATE);
    // The principal this time: everybody on the listener.
    let set = ["limits", "set", "door", "--operations-per-request", "10", "--mode", "refuse", "--for", "3s"];
    weir.command(&set).expect_success("weir limits set");
    let mut wire = Wire::unix(&weir.path("door.sock"));
    assert!(ask_for(&mut wire, 11).starts_with("SERVER_ERROR "));
    assert_eq!(weir.series("weir_override_active", &[("target", "door")]), Some(1.0));
    let begun = Instant::now();
    wait_for("the override ends", SOON, || (ask_for(&mut wire, 11) == "END").then_some(()));
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    wait_for("and so does its metric", SOON, || {
        (weir.series("weir_override_active", &[("target", "door")]).unwrap_or(0.0) == 0.0).then_some(())
    });
    assert_eq!(weir.control("/config")["overrides"].as_array().map(Vec::len), Some(0));
}

#[test]
fn features_are_switched_off_and_on() {
    let Some(memcached) = Memcached::start() else { return };
    let text = plain(&memcached).replace("observe", "refuse");
    let weir = Weir::with_config(&text, &[]);
    let mut wire = Wire::unix(&weir.path("door.sock"));
    assert!(ask_for(&mut wire, 2_001).starts_with("SERVER_ERROR "));

    let off = ["switch", "limits", "off", "--listener", "door", "--for", "30m", "--why", "wrong limit"];
    weir.command(&off).expect_success("weir switch limits off");
    assert_eq!(ask_for(&mut wire, 2_001), "END");
    assert_eq!(
        weir.series("weir_override_active", &[("kind", "switch")])
            .or(weir.series("weir_override_active", &[])),
        Some(1.0)
    );
    let listeners = weir.control("/snapshot")["listeners"].clone();
    assert_eq!(listeners[0]["switched_off"][0], "limits", "{listeners}");

    // Chunks of the largest request on the list tell whether it was split.
    let chunks = |weir: &Weir, operations: u64| {
        wait_for("the request is on the list", SOON, || {
            let rows = weir.control("/expensive");
            let rows = rows.as_array()?;
            rows.iter().find(|row| row["operations"] == operations).and_then(|row| row["chunks"].as_u64())
        })
    };
    // A caller of whom nothing is known begins with smaller chunks.
    assert!(chunks(&weir, 2_001) >= 2_001u64.div_ceil(128));
    let split = ["switch", "split", "off", "--listener", "door", "--for", "30m"];
    weir.command(&split).expect_success("weir switch split off");
    assert_eq!(ask_for(&mut wire, 2_002), "END");
    assert_eq!(chunks(&weir, 2_002), 1);
    weir.command(&["switch", "split", "on", "--listener", "door"]).expect_success("weir switch split on");
    assert_eq!(ask_for(&mut wire, 2_003), "END");
    assert!(chunks(&weir, 2_003) >= 2_003u64.div_ceil(128));

    weir.command(&["switch", "limits", "on", "--listener", "door"]).expect_success("weir switch limits on");
    assert!(ask_for(&mut wire, 2_001).starts_with("SERVER_ERROR "));
    let unknown = weir.command(&["switch", "split", "off", "--listener", "nowhere", "--for", "1m"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(unknown.stderr.contains("door"), "it says which listeners there are: {}", unknown.stderr);
}

#[test]
fn the_culprit_and_its_size_are_named() {
    const SIZE: usize = 17_500;
    let Some(memcached) = Memcached::start() else { return };
    let weir = Weir::with_config(&plain(&memcached), &[]);
    let name = own_name();
    let mut wire = Wire::unix(&weir.path("door.sock"));
    let begun = Instant::now();
    assert_eq!(ask_for(&mut wire, SIZE), "END");
    assert_eq!(ask_for(&mut wire, 3), "END");

    let row = wait_for("/expensive has it", SOON, || {
        let rows = weir.control("/expensive");
        rows.as_array()?.iter().find(|row| row["operations"] == SIZE).cloned()
    });
    println!("named on /expensive {} ms after it was asked", begun.elapsed().as_millis());
    assert_eq!(row["caller"], name.as_str());
    assert_eq!((&row["method"], &row["misses"]), (&"get".into(), &SIZE.into()), "{row}");

    let top = weir.command(&["top", "--once", "--json"]).expect_success("weir top");
    let top: serde_json::Value = serde_json::from_str(&top.stdout).expect("one JSON object");
    let callers = top["callers"].as_array().expect("a list");
    let caller = callers.iter().find(|row| row["caller"] == name.as_str()).expect("the caller has a row");
    assert_eq!(caller["largest_last_minute"]["operations"], SIZE, "{caller}");
    assert_eq!(caller["largest_last_minute"]["method"], "get", "{caller}");
    assert_eq!(caller["limited"]["observed"], 1, "{caller}");
    assert_eq!(caller["process"].as_str().unwrap_or(&name), name, "{caller}");
    let table = weir.command(&["top", "--once"]).expect_success("weir top").stdout;
    assert!(table.lines().any(|line| line.contains(&name) && line.contains("17,500")), "{table}");

    let explained = weir.command(&["explain", &name]).expect_success("weir explain").stdout;
    assert!(explained.contains("17,500") && explained.contains("get"), "{explained}");
    // The command that caps it is there to be copied, and works as it stands.
    let line = explained
        .lines()
        .map(str::trim)
        .find(|line| line.starts_with("weir limits set "))
        .expect("a command");
    let socket = format!("unix:{}", weir.path("admin.sock").display());
    let line = line.replacen("weir", &format!("'{}'", support::WEIR), 1);
    run(Command::new("sh").args(["-c", &line]).env("WEIR_ADMIN", socket), None, SOON).expect_success(&line);
    assert!(ask_for(&mut wire, SIZE).starts_with("SERVER_ERROR "), "after {line}");

    let unknown = weir.command(&["explain", "nobody-of-this-name"]);
    assert_eq!(unknown.status.code(), Some(1));
}

#[test]
fn metrics_are_clean_and_carry_exemplars() {
    let Some(memcached) = Memcached::start() else { return };
    let port = free_port();
    let flags = [
        format!("127.0.0.1:{port}={}", memcached.address()),
        format!("unix:{{dir}}/door.sock={}", memcached.address()),
    ];
    let weir = Weir::start(&["--memcached", &flags[0], "--memcached", &flags[1]]);
    for wire in [&mut Wire::tcp(port), &mut Wire::unix(&weir.path("door.sock"))] {
        wire.set("key", b"value");
        assert_eq!(ask_for(wire, 3_000), "END");
        assert_eq!(wire.ask("nonsense"), "ERROR");
        assert!(wire.ask("flush_all").starts_with("SERVER_ERROR "), "with two listeners it is refused");
        assert_eq!(wire.ask("delete key"), "DELETED");
    }
    counted(&weir, "weir_requests_total", &[("method", "delete")], 2.0);
    let text = weir.metrics();
    assert!(series::sum_of_series(&text, "weir_build_info", &[]) == Some(1.0));
    assert!(
        series::sum_of_series(&text, "process_resident_memory_bytes", &[]).is_some_and(|bytes| bytes > 1e6)
    );
    assert!(series::sum_of_series(&text, "weir_flushes_total", &[("result", "refused")]) == Some(2.0));
    match which("promtool") {
        None => skip("promtool check metrics", "not installed (Debian: prometheus)"),
        Some(promtool) => {
            let done = run(Command::new(promtool).args(["check", "metrics"]), Some(text.into_bytes()), SOON);
            let done = done.expect_success("promtool check metrics");
            assert_eq!(done.stderr.trim(), "", "promtool has something to say");
        }
    }

    let accept = "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n";
    let page = http::get(weir.metrics_port, "/metrics", accept);
    assert!(page.head.to_ascii_lowercase().contains("application/openmetrics-text"), "{}", page.head);
    assert!(page.body.ends_with("# EOF\n"));
    let exemplars = page
        .body
        .lines()
        .filter(|line| line.starts_with("weir_request_operations_bucket{"))
        .filter_map(|line| line.split_once(" # {").map(|(_, exemplar)| exemplar));
    let of_get: Vec<&str> = exemplars.filter(|exemplar| exemplar.contains("method=\"get\"")).collect();
    let is_large = |exemplar: &str| exemplar.contains("request_id=\"") && exemplar.contains("} 3000.0");
    assert!(of_get.iter().any(|exemplar| is_large(exemplar)), "{of_get:?}");
}

#[test]
fn control_belongs_to_the_operator() {
    let Some(memcached) = Memcached::start() else { return };
    let weir = Weir::with_config(&plain(&memcached), &[]);
    let mode = |path: &Path| {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777
    };
    assert_eq!(mode(&weir.path("admin.sock")), 0o600);
    assert_eq!(mode(&weir.path("door.sock")), 0o660);
    for path in ["/callers", "/config", "/expensive", "/limits", "/"] {
        assert_eq!(http::get(weir.metrics_port, path, "").status, 404, "{path} is not for everybody");
    }
    assert_eq!(http::get(weir.metrics_port, "/healthz", "").status, 200);
    assert_eq!(http::get(weir.metrics_port, "/readyz", "").status, 200);
    let bad = weir.command(&["limits", "set", "door", "--mode", "refuse", "--for", "31d"]);
    assert!(!bad.status.success() && bad.stderr.contains("30d"), "{}", bad.stderr);
}

#[test]
fn a_bad_file_is_refused_whole() {
    let Some(memcached) = Memcached::start() else { return };
    let weir = Weir::with_config(&plain(&memcached), &[]);
    let mut wire = Wire::unix(&weir.path("door.sock"));
    let before = weir.control("/config")["hash"].clone();
    let bad =
        expanded(&weir, &plain(&memcached)).replace("mode = \"observe\"", "mode = \"refuse\"\nnonsense = 1");
    std::fs::write(weir.path("weir.toml"), bad).expect("written");
    weir.hang_up();
    wait_for("the failure shows", SOON, || {
        (weir.series("weir_config_last_reload_successful", &[]) == Some(0.0)).then_some(())
    });
    assert_eq!(weir.control("/config")["hash"], before);
    assert_eq!(ask_for(&mut wire, 2_001), "END", "the mode did not change, the connection is open");
    assert!(weir.log().contains("nonsense"), "the log says what is wrong:\n{}", weir.log());
}
