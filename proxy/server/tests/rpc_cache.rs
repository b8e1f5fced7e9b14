//! Answers that a service calls `public`, kept by a running weir: between curl-like clients and a scripted origin, with limits,
//! metrics and the configuration's own words.

mod support;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::{Weir, eventually};

/// An HTTP/1.1 origin on threads of its own: the path says what its answer allows.
struct Origin {
    port: u16,
    asked: Arc<AtomicUsize>,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Origin {
    fn start() -> Origin {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let (asked, heads): (Arc<AtomicUsize>, Arc<Mutex<Vec<String>>>) = Default::default();
        let (count, log) = (asked.clone(), heads.clone());
        // It ends with the test.
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (count, log) = (count.clone(), log.clone());
                std::thread::spawn(move || serve(stream, &count, &log));
            }
        });
        Origin { port, asked, heads }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn serve(stream: TcpStream, count: &AtomicUsize, log: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).unwrap_or(0) == 0 {
                return;
            }
        }
        let number = count.fetch_add(1, Ordering::SeqCst);
        let more = match head.split(' ').nth(1).unwrap_or_default() {
            path if path.contains("getProfile") => "cache-control: private\r\nset-cookie: a=b\r\n",
            path if path.contains("getTimeline") => {
                std::thread::sleep(Duration::from_millis(300));
                "cache-control: public, max-age=60\r\n"
            }
            _ => "cache-control: public, max-age=60\r\netag: \"one\"\r\n",
        };
        log.lock().expect("no panic").push(head);
        let body = format!("answer {number}");
        let answer = format!("HTTP/1.1 200 OK\r\n{more}content-length: {}\r\n\r\n{body}", body.len());
        if reader.get_mut().write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn file(origin: &Origin, more: &str) -> String {
    format!(
        "[service.appview]\nservers = [\"127.0.0.1:{}\"]\nupstream = \"http1\"\npreset = \"bsky\"\n\
         cache_paths = [\"/xrpc/\"]\n\
         [listener.edge]\naddress = \"127.0.0.1:{{port}}\"\nservice = \"appview\"\n{more}",
        origin.port
    )
}

fn get(port: u16, path: &str, headers: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("weir");
    let request = format!("GET {path} HTTP/1.1\r\nhost: bsky.test\r\nconnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer.to_lowercase()
}

fn requests(weir: &Weir, result: &str) -> f64 {
    let labels = [("service", "appview"), ("result", result)];
    weir.series("weir_http_cache_requests_total", &labels).unwrap_or(-1.0)
}

#[test]
fn public_answers_are_kept_and_shown() {
    let origin = Origin::start();
    let weir = Weir::with_file(&file(&origin, ""));
    let path = "/xrpc/app.bsky.feed.getFeed?feed=at://a";
    let first = get(weir.port, path, "x-forwarded-host: evil.test\r\n");
    assert!(
        first.contains("cache-status: weir; fwd=uri-miss; stored") && first.ends_with("answer 0"),
        "{first}"
    );
    for _ in 0..3 {
        let hit = get(weir.port, path, "");
        assert!(hit.contains("cache-status: weir; hit; ttl=") && hit.contains("\r\nage: "), "{hit}");
        assert!(hit.ends_with("answer 0"), "{hit}");
    }
    assert!(get(weir.port, path, "if-none-match: \"one\"\r\n").starts_with("http/1.1 304 "));
    // The preset's headers are a part of the key.
    assert!(get(weir.port, path, "atproto-accept-labelers: did:plc:a\r\n").ends_with("answer 1"));
    assert!(get(weir.port, path, "authorization: Bearer a\r\n").ends_with("answer 2"));
    let profile = "/xrpc/app.bsky.actor.getProfile?actor=a";
    assert!(
        get(weir.port, profile, "").ends_with("answer 3")
            && get(weir.port, profile, "").ends_with("answer 4")
    );
    assert_eq!(origin.asked(), 5);
    let heads = origin.heads.lock().expect("no panic").clone();
    assert!(!heads[0].contains("x-forwarded-host") && heads[0].contains("traceparent"), "{}", heads[0]);
    assert!(heads[1].contains("atproto-accept-labelers: did:plc:a"), "{}", heads[1]);

    for (result, count) in [("hit", 4.0), ("miss", 3.0), ("bypass", 1.0), ("alone", 1.0)] {
        eventually(result, || requests(&weir, result) == count);
    }
    let service = [("service", "appview")];
    let unfit = [("service", "appview"), ("cause", "not_public")];
    assert_eq!(weir.series("weir_http_cache_unfit_total", &unfit), Some(1.0));
    assert!(weir.series("weir_http_cache_bytes", &service).is_some_and(|bytes| bytes > 1_000.0));
    assert_eq!(weir.series("weir_http_cache_waiting", &service), Some(0.0));
    for bound in ["cache_bytes_max", "cache_entries_max", "cache_waiters_max", "cache_refreshes_max"] {
        assert!(weir.series("weir_bound", &[("name", bound)]).is_some_and(|most| most > 0.0), "{bound}");
    }
    // Every request is its caller's, whoever answered it.
    let all = [("caller", "edge"), ("protocol", "http"), ("method", "_other"), ("outcome", "ok")];
    eventually("all are counted", || weir.series("weir_requests_total", &all) == Some(9.0));
    assert_eq!(weir.series("weir_rpc_calls", &service), Some(0.0), "nothing is left");
}

#[test]
fn many_who_ask_at_once_take_one_place() {
    let origin = Origin::start();
    let text = file(&origin, "").replace("upstream =", "calls_in_flight = 1\nupstream =");
    let weir = Weir::with_file(&text);
    let port = weir.port;
    let asking: Vec<_> = (0..50)
        .map(|_| std::thread::spawn(move || get(port, "/xrpc/app.bsky.feed.getTimeline", "")))
        .collect();
    let answers: Vec<_> = asking.into_iter().map(|asking| asking.join().expect("no panic")).collect();
    assert!(answers.iter().all(|answer| answer.ends_with("answer 0")), "{answers:?}");
    assert_eq!(origin.asked(), 1);
    eventually("all are counted", || requests(&weir, "collapsed") + requests(&weir, "hit") == 49.0);
}

#[test]
fn what_is_kept_counts_against_its_caller_s_limits() {
    let origin = Origin::start();
    let limits = "[undeclared]\noperations_per_second = 1\nburst = 3\nmode = \"refuse\"\n";
    let weir = Weir::with_file(&file(&origin, limits));
    let answers: Vec<_> = (0..30).map(|_| get(weir.port, "/xrpc/app.bsky.feed.getFeed", "")).collect();
    assert!(answers[0].ends_with("answer 0"), "{}", answers[0]);
    let refused = answers.iter().filter(|answer| answer.starts_with("http/1.1 429 ")).count();
    assert!(refused >= 20, "{refused} of 30");
    assert_eq!(origin.asked(), 1);
    let rejected = [("caller", "edge"), ("reason", "operations_per_second"), ("mode", "refuse")];
    eventually("they are counted", || weir.series("weir_rejected_total", &rejected) == Some(refused as f64));
}

#[test]
fn a_configuration_is_told_all_that_is_wrong_with_its_cache() {
    let origin = Origin::start();
    let text = file(&origin, "").replace(
        "cache_paths = [\"/xrpc/\"]",
        "cache_paths = [\"/a/../b\"]\ncache_headers = [\"cookie\"]\ncache_entry_max = \"32MiB\"\ncache_ttl_max = \"0s\"",
    );
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("weir.toml");
    std::fs::write(&path, text.replace("{port}", "1")).expect("written");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_weir"));
    let told = command.arg("check").arg(&path).output().expect("weir check");
    let told = String::from_utf8_lossy(&told.stdout).into_owned() + &String::from_utf8_lossy(&told.stderr);
    for part in ["cache_paths", "cookie cannot be a part of a key", "an eighth of bytes_max", "cache_ttl_max"]
    {
        assert!(told.contains(part), "no {part:?} in:\n{told}");
    }
}

#[test]
fn an_operator_throws_away_what_is_kept() {
    let origin = Origin::start();
    let weir = Weir::with_file(&file(&origin, ""));
    let (feed, posts) = ("/xrpc/app.bsky.feed.getFeed?feed=at://a", "/xrpc/app.bsky.feed.getPosts");
    assert!(get(weir.port, feed, "").ends_with("answer 0"));
    assert!(get(weir.port, posts, "").ends_with("answer 1"));
    let path = "/xrpc/app.bsky.feed.getFeed";
    let done =
        weir.command(&["cache", "purge", "--service", "appview", "--path", path, "--why", "incident 4711"]);
    assert!(done.status.success(), "{}", done.stderr);
    assert_eq!(done.stdout.trim(), format!("thrown away under {path}: 1 answer of appview"));
    let line = weir.logs("cache purge ");
    for part in ["cause=\"control\"", "uid=", "result=\"done\"", "incident 4711", path] {
        assert!(line.contains(part), "no {part} in {line}");
    }
    assert!(get(weir.port, posts, "").ends_with("answer 1"), "others stay");
    assert!(get(weir.port, feed, "").ends_with("answer 2"));
    assert!(get(weir.port, feed, "").ends_with("answer 2"), "it is kept again");

    let all = weir.command(&["cache", "purge", "--all", "--json"]);
    assert!(all.stdout.contains("thrown away: 2 answers of appview"), "{} {}", all.stdout, all.stderr);
    assert!(get(weir.port, posts, "").ends_with("answer 3"));
    let service = [("service", "appview")];
    assert_eq!(weir.series("weir_http_cache_purges_total", &service), Some(2.0));
    assert_eq!(weir.series("weir_http_cache_purged_total", &service), Some(3.0));
    assert_eq!(weir.series("weir_http_cache_entries", &service), Some(1.0));
    assert_eq!(weir.series("weir_http_cache_evictions_total", &service), Some(0.0));

    for (words, why) in [
        (
            ["--service", "nobody", "--all"].as_slice(),
            "there is no such service that keeps answers; there are appview",
        ),
        (&["--path", "xrpc"], "path begins with /"),
        (&["--path", "/xrpc?a"], "has no query"),
    ] {
        let told = weir.command(&[&["cache", "purge"], words].concat());
        assert_eq!(told.status.code(), Some(1), "{words:?}: {}", told.stdout);
        assert!(told.stderr.contains(why), "{words:?}: {}", told.stderr);
    }
    let told = weir.command(&["cache", "purge"]);
    assert!(told.stderr.contains("<--path <PREFIX>|--all>"), "{}", told.stderr);
    weir.logs("cause=\"control_refused\"");
    assert_eq!(weir.series("weir_http_cache_purges_total", &service), Some(2.0));

    let text = file(&origin, "").replace("cache_paths = [\"/xrpc/\"]\n", "");
    let without = Weir::with_file(&text).command(&["cache", "purge", "--all"]);
    assert!(without.stderr.contains("no service here keeps answers"), "{}", without.stderr);
}
