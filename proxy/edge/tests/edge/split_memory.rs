//! What a split call costs in memory: an edge in a process of its own, measured by the kernel's high-water mark.

use crate::split::{POSTS, edge, posts};
use crate::support::records::{self, Records, script};
use crate::support::window::Splitting;
use crate::support::{SOON, client};
use std::io::Read as _;
use std::process::Stdio;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// Tells the process that is measured where the service is.
const SERVICE: &str = "WEIR_TEST_SPLIT_SERVICE";
const KEYS: usize = 20_000;

/// The process that is measured: an edge until its standard input ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by the test below"]
async fn edge_process() {
    let port: u16 = std::env::var(SERVICE).expect("started by the test").parse().expect("a port");
    let address: std::net::SocketAddr = ([127, 0, 0, 1], port).into();
    let nobody = tokio::spawn(std::future::pending::<()>()).abort_handle();
    let service = Records { address: address.into(), log: Arc::default(), accepting: nobody };
    let edge = edge(&service, &Splitting::new(100, 8));
    println!("\nport={}", edge.port);
    let end = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    end.await.expect("no panic").expect("an end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_split_call_takes_less_than_three_times_its_reply() {
    let service = records::start().await;
    let weir_engine::settings::Address::Tcp { port, .. } = &service.address else { panic!("TCP") };
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "split_memory::edge_process", "--ignored", "--nocapture"])
        .env(SERVICE, port.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("it starts");
    let port = tokio::time::timeout(SOON, port_of(&mut child)).await.expect("in time");
    let mut client = client::over_tcp(port).await;
    let mut call = async |keys: usize| {
        let message = posts((0..keys).map(|number| format!("{}{number}", script::BIG)));
        let request = tonic::Request::new(message);
        let reply = client.unary_at(POSTS.parse().expect("a path"), request).await;
        reply.expect("an answer").into_inner().len() as u64
    };
    // The table is read, connections and threads are there.
    call(1_000).await;
    let process = child.id().expect("it runs");
    std::fs::write(format!("/proc/{process}/clear_refs"), "5").expect("the high-water mark begins anew");
    let before = kib(process, "VmRSS:");
    let bytes = call(KEYS).await;
    assert_eq!(bytes, KEYS as u64 * 1_003);
    let took = (kib(process, "VmHWM:") - before) * 1_024;
    println!("{took} bytes for a reply of {bytes}: {:.2} times", took as f64 / bytes as f64);
    assert!(took > bytes, "or nothing was measured: {took}");
    assert!(took < 3 * bytes, "{took} bytes for a reply of {bytes}");
}

async fn port_of(child: &mut Child) -> u16 {
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    while let Some(line) = lines.next_line().await.expect("text") {
        if let Some(port) = line.strip_prefix("port=") {
            // The rest is not read: it is the end of a test's output.
            return port.parse().expect("a number");
        }
    }
    panic!("the edge did not start");
}

fn kib(process: u32, what: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let line = status.lines().find(|line| line.starts_with(what)).expect("is there");
    line.split_ascii_whitespace().nth(1).expect("a number").parse().expect("a number")
}
