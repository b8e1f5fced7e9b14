//! Clients that services use, against a scripted bsky.Service through weir: what they do directly they do here, and what
//! they make of a refusal is measured (docs/rpc.md has the table). `cargo xtask test` prepares the environments; a client
//! that cannot be had is skipped aloud. Bounds: [`LIMIT`] for a run, [`BUILD_LIMIT`] for a build.

#[path = "rpc_clients/curl.rs"]
mod curl;
mod support;
mod support_rpc;
#[path = "rpc_clients/tonic.rs"]
mod tonic_client;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use support::process::run;
use support::{Weir, eventually, skip, target, which};
use support_rpc::POSTS;
use support_rpc::scripted::Scripted;

/// The longest run of a client.
const LIMIT: Duration = Duration::from_secs(55);
/// The longest wait for a compiler or a download.
const BUILD_LIMIT: Duration = Duration::from_secs(120);
/// A message may be this large at weir's door: the clients' large ones are 8 MiB, in two parts of framing.
const REQUEST_MAX: usize = 9 << 20;
/// What each client does; it says `ok NAME` after each.
const CHECKS: [&str; 8] =
    ["unary", "metadata", "large request", "error", "late error", "many keys", "deadline", "after"];

/// weir in front of the service; `{more}` follows.
fn weir(service: &Scripted, more: &str) -> Weir {
    Weir::with_file(&format!(
        "[service.dataplane]\nservers = [\"127.0.0.1:{}\"]\npreset = \"bsky\"\nquery_keys = [\"uris\"]\n\
         request_max = \"9MiB\"\nretry_percent = 10\n\
         [listener.edge]\naddress = \"127.0.0.1:{{port}}\"\nservice = \"dataplane\"\n{more}",
        service.port
    ))
}

/// The limits of the measured refusals.
const LIMITS: &str = "[undeclared]\noperations_per_request = 10\nmode = \"refuse\"\n";

/// What a refusal was to a client, for the table.
#[derive(Debug, PartialEq, Eq)]
struct Refused {
    code: String,
    retry: String,
    /// How often weir saw the call.
    tries: u64,
}

/// A program that speaks the flavours of a client.
struct Client {
    program: PathBuf,
    arguments: Vec<PathBuf>,
}

impl Client {
    fn run(&self, port: u16, flavour: &str, phase: &[&str]) -> Vec<String> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).args([&port.to_string(), flavour]).args(phase);
        let done = run(&mut command, None, LIMIT).expect_success(flavour);
        assert!(done.stdout.ends_with("done\n"), "{flavour}: {}", done.stdout);
        done.stdout.lines().map(str::to_owned).collect()
    }

    /// What it does directly it does through weir, and large calls arrive in parts.
    fn agrees(&self, flavour: &str) {
        let service = Scripted::start();
        let direct = self.run(service.port, flavour, &["agree"]);
        let before = service.told.calls();
        let weir = weir(&service, "");
        let through = self.run(weir.port, flavour, &["agree"]);
        assert_eq!(through, direct, "{flavour}");
        for check in CHECKS {
            assert!(
                direct.iter().any(|line| line.starts_with(&format!("ok {check}: "))),
                "{flavour} {check}"
            );
        }
        let seen = &service.told.seen()[before..];
        let largest = seen.iter().map(|seen| seen.keys).max().expect("calls");
        assert_eq!(largest, 100, "{flavour}");
        assert!(seen.iter().any(|seen| seen.headers.contains_key("traceparent")), "{flavour}");
        eventually("nothing is left at the service", || service.told.now() == 0);
        eventually("nothing is left in weir", || {
            weir.series("weir_rpc_calls", &[("service", "dataplane")]) == Some(0.0)
        });
        assert_eq!(weir.series("weir_panics_total", &[]).unwrap_or(0.0), 0.0);
    }

    /// What it makes of a refusal, and of a message that is too large.
    fn refused(&self, flavour: &str) -> Refused {
        let service = Scripted::start();
        let weir = weir(&service, LIMITS);
        let said = self.run(weir.port, flavour, &["refused", &REQUEST_MAX.to_string()]);
        let line = |start: &str| {
            let line = said.iter().find_map(|line| line.strip_prefix(start));
            line.unwrap_or_else(|| panic!("{flavour}: no {start:?} in {said:?}")).to_owned()
        };
        let told = line("refused: ");
        println!("{flavour}: {told}");
        assert!(told.contains("ceiling 10"), "{flavour}: the reader learns why: {told}");
        let (code, rest) = told.split_once(' ').expect("a code");
        let (_, retry) = rest.split_once("retry in ").expect("a time");
        let retry = retry.split_once(':').expect("a message").0.to_owned();
        assert!(line("too large: ").to_lowercase().contains("exhausted"), "{flavour}: {said:?}");
        assert_eq!(service.told.calls(), 1, "{flavour}: the service sees the last call only");
        let labels = [("method", POSTS), ("outcome", "refused")];
        let tries = |weir: &Weir| weir.series("weir_requests_total", &labels).unwrap_or(0.0) as u64;
        eventually("both are counted", || tries(&weir) >= 2);
        let limit = [("reason", "operations_per_request"), ("mode", "refuse")];
        let tries = weir.series("weir_rejected_total", &limit).unwrap_or(0.0) as u64;
        Refused { code: code.to_owned(), retry, tries }
    }
}

/// Once, and with the time that weir names: what docs/rpc.md says of every client.
fn polite(code: &str, retry: &str) -> Refused {
    Refused { code: code.to_owned(), retry: retry.to_owned(), tries: 1 }
}

/// A file of the clients' folder.
fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rpc_clients").join(path)
}

fn go() -> Option<Client> {
    let what = "grpc-go and connect-go";
    let Some(go) = which("go") else {
        skip(what, "go is not installed");
        return None;
    };
    let program = target().join("e2e/rpc_client");
    let go = |words: &[&str]| run(Command::new(&go).current_dir(source("go")).args(words), None, BUILD_LIMIT);
    let fetched = go(&["mod", "download"]);
    if !fetched.status.success() {
        let why = fetched.stderr.lines().last().unwrap_or("no reason given");
        skip(what, &format!("their modules cannot be had: {why}"));
        return None;
    }
    let out = program.to_string_lossy().into_owned();
    go(&["build", "-mod=readonly", "-buildvcs=false", "-o", &out, "."]).expect_success("go build");
    Some(Client { program, arguments: vec![] })
}

fn node() -> Option<Client> {
    match (which("node"), std::env::var_os("WEIR_TEST_RPC_NODE")) {
        (Some(program), Some(_)) => Some(Client { program, arguments: vec![source("node/client.js")] }),
        _ => {
            skip("connect-es (Node)", "node or its packages are missing (cargo xtask test installs them)");
            None
        }
    }
}

#[test]
fn grpc_go_and_connect_go() {
    let Some(client) = go() else { return };
    for flavour in ["grpc-go", "grpc-h2", "grpcweb-h1", "connect-h2", "connect-h1"] {
        client.agrees(flavour);
        assert_eq!(client.refused(flavour), polite("resource_exhausted", "1m0s"), "{flavour}");
    }
}

#[test]
fn connect_es() {
    let Some(client) = node() else { return };
    for flavour in ["grpc-h2", "grpcweb-h2", "grpcweb-h1", "connect-h2", "connect-h1", "json-h1"] {
        client.agrees(flavour);
        assert_eq!(client.refused(flavour), polite("ResourceExhausted", "60 s"), "{flavour}");
    }
}

#[test]
fn grpc_over_http1_is_refused_in_words_that_connect_es_reads() {
    let Some(client) = node() else { return };
    let service = Scripted::start();
    let weir = weir(&service, "");
    let said = client.run(weir.port, "grpc-h1", &["refused", "10"]);
    assert!(said[0].starts_with("refused: Unimplemented ") && said[0].contains("HTTP/2 only"), "{said:?}");
    assert_eq!(service.told.calls(), 0);
}
