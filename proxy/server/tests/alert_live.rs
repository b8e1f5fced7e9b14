//! From the first huge request to somebody's pager, with nothing faked but the pager: weir, Prometheus with the rules of
//! `alerts/`, Alertmanager with the example configuration of `alerts/`, and a webhook here that reads what arrives. The
//! time is printed.

mod support;

use std::io::{BufRead, BufReader, Read, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};
use support::process::Process;
use support::series;
use support::wire::{Wire, keys};
use support::{Memcached, Weir, free_port, http, root, skip, wait_for, which};

/// What the storm's client is called: the name that must arrive.
const CULPRIT: &str = "feed-backfill";
/// What the ordinary client is called: the name that must not.
const NEIGHBOUR: &str = "appview";
/// Keys of one huge request, and how many of them per second.
const KEYS: usize = 15_000;
const RATE: u32 = 3;
/// From the first huge request to the webhook.
const LIMIT: Duration = Duration::from_secs(60);
/// The longest wait for Prometheus and Alertmanager to serve.
const START: Duration = Duration::from_secs(30);
/// Set for children: which client to play, and weir's port.
const ROLE: &str = "WEIR_TEST_ROLE";

#[test]
fn the_culprits_name_reaches_a_pager() {
    if let Ok(role) = std::env::var(ROLE) {
        return play(&role);
    }
    let (Some(prometheus), Some(alertmanager)) = (which("prometheus"), which("prometheus-alertmanager"))
    else {
        return skip(
            "live alert",
            "no prometheus or prometheus-alertmanager (Debian packages of these names)",
        );
    };
    let Some(memcached) = Memcached::start() else { return };
    let port = free_port();
    let weir = Weir::start(&["--memcached", &format!("127.0.0.1:{port}={}", memcached.address())]);
    memcached.wire().fill(&keys("post", 2_000), &[b'v'; 100]);

    let (pager, pages) = pager();
    let folder = weir.directory.path();
    let (_alertmanager, alerts) = start_alertmanager(&alertmanager, folder, pager);
    let (_prometheus, query) = start_prometheus(&prometheus, folder, weir.metrics_port, alerts);
    let _neighbour = client(folder, NEIGHBOUR, port);
    wait_for("Prometheus sees the ordinary client", START, || {
        let page = http::try_get(
            query,
            &format!("/api/v1/query?query=weir_requests_total{{caller=%22{NEIGHBOUR}%22}}"),
            "",
        )?;
        page.body.contains(NEIGHBOUR).then_some(())
    });

    let mut storm = client(folder, CULPRIT, port);
    let mut said = BufReader::new(storm.child.stdout.take().expect("piped"));
    let mut line = String::new();
    while !line.contains("first huge request") {
        line.clear();
        assert!(said.read_line(&mut line).expect("readable") > 0, "the storm did not begin");
    }
    let begun = Instant::now();

    let mut seen = Vec::new();
    let page = loop {
        let left = LIMIT.saturating_sub(begun.elapsed());
        let page = match pages.recv_timeout(left) {
            Ok(page) => page,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                panic!(
                    "no page named {CULPRIT} within {LIMIT:?}; what arrived: {seen:#?}\n{}",
                    weir.metrics()
                )
            }
        };
        let about = |alert: &&serde_json::Value| {
            alert["labels"]["alertname"] == "CallerBatchExtreme" && alert["labels"]["caller"] == CULPRIT
        };
        match page.body["alerts"].as_array().into_iter().flatten().find(about) {
            Some(alert) if page.path == "/weir/pager" => break alert.clone(),
            _ => seen.push((page.path, page.body)),
        }
    };
    let took = begun.elapsed();
    println!(
        "live alert: a webhook named {CULPRIT} {:.1} s after its first huge request",
        took.as_secs_f64()
    );
    assert!(took <= LIMIT, "{took:?}");

    let labels = &page["labels"];
    assert_eq!((&labels["severity"], &labels["method"]), (&"critical".into(), &"get".into()), "{page}");
    assert_eq!(page["status"], "firing");
    let description = page["annotations"]["description"].as_str().expect("a description");
    for word in [CULPRIT, "15000", "get", "ceiling 2000", &format!("weir limits set {CULPRIT} ")] {
        assert!(description.contains(word), "{word}: {description}");
    }
    let runbook = page["annotations"]["runbook_url"].as_str().expect("a runbook");
    assert!(root().join(runbook).is_file(), "{runbook}");

    // The alert's own command, as the reader copies it, ends the storm.
    let command = description.split("To cap it: weir ").nth(1).expect("a command");
    let words: Vec<&str> = command.split_whitespace().collect();
    weir.command(&words).expect_success(command);
    wait_for("the storm is refused", Duration::from_secs(10), || {
        let refused = [("caller", CULPRIT), ("reason", "operations_per_request"), ("mode", "refuse")];
        weir.series("weir_rejected_total", &refused).filter(|refused| *refused >= 1.0)
    });

    let innocent = |(path, body): &(String, serde_json::Value)| {
        let alerts = body["alerts"].as_array().cloned().unwrap_or_default();
        let caller = |alert: &serde_json::Value| alert["labels"]["caller"].as_str().map(str::to_owned);
        // neither the neighbour nor the listener, which is everybody
        alerts
            .iter()
            .all(|alert| caller(alert).is_none_or(|name| name == CULPRIT))
            .then_some(())
            .ok_or(path.clone())
    };
    for page in &seen {
        innocent(page).unwrap_or_else(|path| panic!("{path} was told about somebody else: {}", page.1));
    }
    let metrics = weir.metrics();
    let served =
        series::sum_of_series(&metrics, "weir_requests_total", &[("caller", NEIGHBOUR), ("outcome", "ok")]);
    assert!(
        served.is_some_and(|served| served > 100.0),
        "the ordinary client was served meanwhile: {served:?}"
    );
}

/// Starts this very test again as a client, under a name of its own.
fn client(folder: &Path, name: &str, port: u16) -> Process {
    let program = folder.join(name);
    // The kernel calls a process after the file that was executed.
    std::os::unix::fs::symlink(std::env::current_exe().expect("this program"), &program).expect("linked");
    let mut command = Command::new(program);
    command.args(["--exact", "the_culprits_name_reaches_a_pager", "--nocapture"]);
    command.env(ROLE, format!("{name} {port}")).stdout(Stdio::piped());
    Process::start(name, &mut command)
}

/// A client's life: until weir is gone, or longer than the test can last.
fn play(role: &str) {
    let (name, port) = role.split_once(' ').expect("a name and a port");
    let mut wire = Wire::tcp(port.parse().expect("a port"));
    let until = Instant::now() + START + LIMIT + START;
    if name == CULPRIT {
        // Its very first request is a huge one, before weir could know who is there.
        let keys = keys("post", KEYS);
        println!("first huge request");
        while Instant::now() < until {
            let begun = Instant::now();
            let end = wire.get(&keys).end;
            assert!(end == "END" || end.starts_with("SERVER_ERROR "), "{end}");
            std::thread::sleep((Duration::from_secs(1) / RATE).saturating_sub(begun.elapsed()));
        }
    } else {
        for number in (0..2_000).cycle() {
            let some: Vec<String> =
                (number..number + 20).map(|number| format!("post:{}", number % 2_000)).collect();
            assert_eq!(wire.get(&some).found.len(), some.len());
            std::thread::sleep(Duration::from_millis(20));
            if Instant::now() > until {
                return;
            }
        }
    }
}

/// What a pager was sent.
struct Page {
    path: String,
    body: serde_json::Value,
}

/// A webhook: its port, and what arrives there.
fn pager() -> (u16, Receiver<Page>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (sender, pages) = sync_channel(1_024);
    // Both threads end with the process at the latest; nothing waits for them.
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let sender = sender.clone();
            std::thread::spawn(move || answer(stream, &sender));
        }
    });
    (port, pages)
}

/// Reads requests of one connection and says thanks, until it closes.
fn answer(stream: TcpStream, pages: &SyncSender<Page>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
        let path = line.split(' ').nth(1)?.to_owned();
        let mut length = 0;
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).ok().filter(|length| *length > 0)?;
            let header = header.trim_end().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").ok()?;
        pages.send(Page { path, body: serde_json::from_slice(&body).ok()? }).ok()?;
    }
}

fn log(folder: &Path, name: &str) -> std::fs::File {
    std::fs::File::create(folder.join(name)).expect("a log")
}

/// Alertmanager with the example's routes, its receivers led here; the process and its port.
fn start_alertmanager(program: &Path, folder: &Path, pager: u16) -> (Process, u16) {
    let example =
        std::fs::read_to_string(root().join("alerts/alertmanager-example.yml")).expect("the example");
    let mut config = String::new();
    for line in example.lines() {
        // http://pager.example/weir is the path /weir/pager here.
        match line.split_once("http://").and_then(|(head, url)| Some((head, url.split_once(".example/")?))) {
            Some((head, (name, path))) => {
                config += &format!("{head}http://127.0.0.1:{pager}/{path}/{name}\n")
            }
            None => config += &format!("{line}\n"),
        }
    }
    assert!(config.contains("/weir/pager\n") && !config.contains(".example"), "{config}");
    let file = folder.join("alertmanager.yml");
    std::fs::write(&file, config).expect("written");
    let port = free_port();
    let mut command = Command::new(program);
    command.arg(format!("--config.file={}", file.display()));
    command.arg(format!("--storage.path={}", folder.join("alertmanager").display()));
    command.arg(format!("--web.listen-address=127.0.0.1:{port}")).arg("--cluster.listen-address=");
    let out = log(folder, "alertmanager.log");
    let process = Process::start("alertmanager", command.stdout(Stdio::null()).stderr(out));
    wait_for("Alertmanager serves", START, || {
        (http::try_get(port, "/-/ready", "")?.status == 200).then_some(())
    });
    (process, port)
}

/// Prometheus with the rules of the tree, scraping weir; the process and its port.
fn start_prometheus(program: &Path, folder: &Path, weir: u16, alertmanager: u16) -> (Process, u16) {
    let rules = root().join("alerts/rules/weir.yml").canonicalize().expect("the rules");
    let file = folder.join("prometheus.yml");
    let config = format!(
        "global: {{ scrape_interval: 5s, scrape_timeout: 4s, evaluation_interval: 5s }}\n\
         rule_files: ['{}']\n\
         alerting: {{ alertmanagers: [{{ static_configs: [{{ targets: ['127.0.0.1:{alertmanager}'] }}] }}] }}\n\
         scrape_configs: [{{ job_name: weir, static_configs: [{{ targets: ['127.0.0.1:{weir}'] }}] }}]\n",
        rules.display()
    );
    std::fs::write(&file, config).expect("written");
    let port = free_port();
    let mut command = Command::new(program);
    command.arg(format!("--config.file={}", file.display()));
    command.arg(format!("--storage.tsdb.path={}", folder.join("prometheus").display()));
    command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
    let out = log(folder, "prometheus.log");
    let process = Process::start("prometheus", command.stdout(Stdio::null()).stderr(out));
    wait_for("Prometheus serves", START, || {
        (http::try_get(port, "/-/ready", "")?.status == 200).then_some(())
    });
    (process, port)
}
