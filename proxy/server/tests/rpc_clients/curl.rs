//! curl: what an operator asks with, over HTTP/1.1 and over HTTP/2 by prior knowledge.

use super::support::process::{Finished, run};
use super::support::{Weir, eventually, skip, which};
use super::support_rpc::POSTS;
use super::support_rpc::scripted::Scripted;
use super::{LIMIT, LIMITS, weir};
use std::process::Command;

/// Both ways to speak.
const VERSIONS: [&str; 2] = ["--http1.1", "--http2-prior-knowledge"];

fn curl(version: &str, arguments: &[&str]) -> Option<Finished> {
    let Some(curl) = which("curl") else {
        skip("curl", "not installed");
        return None;
    };
    let fixed = ["--silent", "--show-error", "--max-time", "20", "-w", "\n%{http_code}", version];
    Some(run(Command::new(curl).args(fixed).args(arguments), None, LIMIT))
}

fn json(keys: usize) -> String {
    let keys: Vec<String> = (0..keys).map(|number| format!("at://{number}")).collect();
    serde_json::json!({ "uris": keys }).to_string()
}

#[test]
fn json_both_ways() {
    let service = Scripted::start();
    let weir = weir(&service, LIMITS);
    for version in VERSIONS {
        let post = |port: u16, keys: usize| {
            let url = format!("http://127.0.0.1:{port}/{POSTS}");
            curl(version, &["-H", "content-type: application/json", "-d", &json(keys), &url])
        };
        let Some(direct) = post(service.port, 10) else { return };
        let through = post(weir.port, 10).expect("curl");
        assert_eq!(through.stdout, direct.stdout, "{version}");
        assert!(through.stdout.ends_with("\n200") && through.stdout.contains("cid of at://9"), "{version}");
        let refused = post(weir.port, 11).expect("curl").stdout;
        assert!(refused.ends_with("\n429") && refused.contains("ceiling 10"), "{version}: {refused}");
    }
}

#[test]
fn an_array_in_a_query() {
    let service = Scripted::start();
    let weir = weir(&service, LIMITS);
    let get = |version: &str, port: u16, keys: usize| {
        let keys: Vec<String> = (0..keys).map(|number| format!("uris=at://{number}")).collect();
        curl(version, &[&format!("http://127.0.0.1:{port}/xrpc/app.bsky.feed.getPosts?{}", keys.join("&"))])
    };
    for version in VERSIONS {
        let Some(direct) = get(version, service.port, 10) else { return };
        let through = get(version, weir.port, 10).expect("curl").stdout;
        assert_eq!(through, direct.stdout, "{version}");
        assert!(through.contains("cid of at://9"), "{through}");
        let refused = get(version, weir.port, 11).expect("curl").stdout;
        assert!(refused.ends_with("\n429") && refused.contains("ceiling 10"), "{version}: {refused}");
    }
    let labels = [("protocol", "http"), ("outcome", "refused")];
    eventually("they are counted", || counted(&weir, &labels) == 2.0);
    assert_eq!(
        weir.series("weir_operations_total", &[("protocol", "http")]),
        Some(42.0),
        "keys asked for, not requests"
    );
}

fn counted(weir: &Weir, labels: &[(&str, &str)]) -> f64 {
    weir.series("weir_requests_total", labels).unwrap_or(0.0)
}
