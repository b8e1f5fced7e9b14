//! SIGHUP and the control socket: limits change, connections stay, a bad file changes nothing.

mod support;

use support::{Memcached, Weir, eventually, file};

const CAPPED: &str = "[undeclared]\noperations_per_request = 5\nmode = \"refuse\"\n";

#[test]
fn a_new_file_holds_for_connections_that_exist() {
    let Some(server) = Memcached::start() else { return };
    let mut weir = Weir::with_file(&file(&server, "", ""));
    let mut client = weir.client();
    client.ask("get 1 2 3 4 5 6\r\n", "END\r\n");
    let before = weir.control("/config")["hash"].clone();

    weir.rewrite(&file(&server, "", CAPPED));
    weir.process.signal(libc::SIGHUP);
    weir.logs("cause=\"reload\"");
    eventually("the limit holds", || {
        client.send("get 1 2 3 4 5 6\r\n");
        client.line().starts_with("SERVER_ERROR weir: operations_per_request")
    });
    client.ask("get 1 2 3 4 5\r\n", "END\r\n");
    let after = weir.control("/config")["hash"].clone();
    assert_ne!(before, after);
    assert_eq!(weir.metric("weir_config_info", &[after.as_str().expect("text")]), 1.0);
    assert_eq!(
        weir.metric("weir_backend_connection_opens_total", &["result=\"ok\""]),
        1.0,
        "no lane was dropped"
    );
    assert!(weir.terminate().success());
}

#[test]
fn a_bad_file_is_refused_whole_and_every_problem_is_told() {
    let Some(server) = Memcached::start() else { return };
    let weir = Weir::with_file(&file(&server, "", ""));
    let mut client = weir.client();
    client.ask("get a\r\n", "END\r\n");
    weir.rewrite(&file(&server, "", &format!("max_conections = 3\nline_max = \"1XB\"\n{CAPPED}")));
    weir.process.signal(libc::SIGHUP);
    weir.logs("cause=\"reload_refused\"");
    weir.logs("max_conections");
    weir.logs("line_max");
    client.ask("get 1 2 3 4 5 6\r\n", "END\r\n");
    assert_eq!(weir.metric("weir_config_last_reload_successful", &[]), 0.0);

    weir.rewrite(&file(&server, "", ""));
    weir.process.signal(libc::SIGHUP);
    weir.logs("cause=\"reload\"");
    assert_eq!(weir.metric("weir_config_last_reload_successful", &[]), 1.0);
    client.ask("get a\r\n", "END\r\n");
}

#[test]
fn a_paging_key_file_with_other_content_is_no_reload_that_changes_nothing() {
    let cluster =
        "[cluster.q]\ncontacts = \"127.0.0.1:1\"\ndiscover = false\npaging_key_file = \"{dir}/key\"\n";
    let listener = "[listener.q]\naddress = \"127.0.0.1:{port}\"\ncluster = \"q\"\n";
    let mut weir =
        Weir::with(&[("key", &"1".repeat(64)), ("weir.toml", &format!("{cluster}{listener}"))], &[], None);
    weir.hang_up();
    weir.logs("the configuration is the same as before");
    std::fs::write(weir.path("key"), "2".repeat(64)).expect("written");
    weir.hang_up();
    weir.logs("cluster.q.paging_key_file: the file holds another key");
    assert!(!weir.log().contains("2222"), "the key is not shown");
    assert!(weir.terminate().success());
}

#[test]
fn what_needs_a_restart_is_refused() {
    let Some(server) = Memcached::start() else { return };
    let weir = Weir::with_file(&file(&server, "", ""));
    weir.rewrite(&file(&server, "", "").replace("[pool.main]", "workers = 2\n[pool.main]"));
    weir.process.signal(libc::SIGHUP);
    weir.logs("a restart is needed for workers");
    weir.client().ask("get a\r\n", "END\r\n");
}

#[test]
fn an_operator_caps_a_caller_and_it_survives_a_reload() {
    let Some(server) = Memcached::start() else { return };
    let weir = Weir::with_file(&file(&server, "", ""));
    let mut client = weir.client();
    client.ask("get 1 2 3\r\n", "END\r\n");
    // whose limits these are, `weir explain` would say
    let callers = weir.control("/callers");
    let name = callers[0]["limited_as"].as_str().expect("a name").to_owned();
    let set = ["limits", "set", &name, "--operations-per-request", "2", "--mode", "refuse", "--for", "1h"];
    let done = weir.command(&set);
    assert!(done.status.success(), "{}", done.stderr);
    let is_capped = |client: &mut support::Client| {
        client.send("get 1 2 3\r\n");
        let line = client.line();
        line.starts_with("SERVER_ERROR weir: operations_per_request") && line.contains("ceiling 2")
    };
    eventually("the override holds", || is_capped(&mut client));
    assert_eq!(weir.metric("weir_override_active", &[&name]), 1.0);
    assert_eq!(weir.metric("weir_limit", &[&name, "operations_per_request"]), 2.0);

    weir.rewrite(&file(&server, "", "[undeclared]\noperations_per_request = 100\nmode = \"refuse\"\n"));
    weir.process.signal(libc::SIGHUP);
    weir.logs("cause=\"reload\"");
    assert!(is_capped(&mut client));

    let done = weir.command(&["limits", "clear", &name]);
    assert!(done.status.success(), "{}", done.stderr);
    eventually("it is over", || !is_capped(&mut client));
    assert_eq!(weir.metric("weir_override_active", &[&name]), 0.0);
}

#[test]
fn limits_switched_off_refuse_nothing() {
    let Some(server) = Memcached::start() else { return };
    let weir = Weir::with_file(&file(&server, "", CAPPED));
    let mut client = weir.client();
    client.send("get 1 2 3 4 5 6\r\n");
    assert!(client.line().starts_with("SERVER_ERROR weir: operations_per_request"));
    let done =
        weir.command(&["switch", "limits", "off", "--listener", "cache", "--for", "2s", "--why", "a test"]);
    assert!(done.status.success(), "{}", done.stderr);
    eventually("nothing is refused", || {
        client.send("get 1 2 3 4 5 6\r\n");
        client.line() == "END"
    });
    weir.logs("cause=\"override_ended\"");
    eventually("it ends by itself", || {
        client.send("get 1 2 3 4 5 6\r\n");
        client.line() != "END"
    });
}

#[test]
fn every_change_of_an_operator_has_its_line() {
    let Some(server) = Memcached::start() else { return };
    let weir = Weir::with_file(&file(&server, "", ""));
    let changes: [(&[&str], &str); 4] = [
        (&["limits", "set", "importer", "--operations-per-request", "2", "--for", "1h"], "limits set"),
        (&["limits", "clear", "importer"], "limits clear"),
        (&["switch", "split", "off", "--listener", "cache", "--for", "1h"], "switch"),
        (&["switch", "split", "on", "--listener", "cache"], "switch"),
    ];
    // A second has several of them.
    let begun = std::time::Instant::now();
    for _ in 0..5 {
        for (words, _) in &changes {
            weir.command(words).expect_success("a change");
        }
    }
    println!("20 changes in {:?}", begun.elapsed());
    let log = weir.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("cause=\"control\"")).collect();
    assert_eq!(lines.len(), 20, "{log}");
    for (line, (_, action)) in lines.iter().zip(changes.iter().cycle()) {
        assert!(line.contains(&format!("action=\"{action} ")) && line.contains("result=\"done\""), "{line}");
    }
    assert!(lines.iter().all(|line| line.contains("uid=") && line.contains("who=")), "{log}");
    assert_eq!(weir.series("weir_log_suppressed_total", &[("cause", "control")]), Some(0.0));

    // What is not done is told too, and may not crowd out what is.
    for _ in 0..3 {
        assert!(!weir.command(&["limits", "clear", "nobody"]).status.success());
    }
    weir.logs("cause=\"control_refused\"");
}
