//! The program: its words, its end, its metrics, and the copy of the bug.

mod support;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};
use support::{Memcached, World};
use tonic::transport::Channel;
use weir_dataplane::bsky::service_client::ServiceClient;
use weir_dataplane::bsky::*;

const PROGRAM: &str = env!("CARGO_BIN_EXE_weir-dataplane");

struct Program {
    child: Child,
    address: String,
    metrics: String,
    out: BufReader<ChildStdout>,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Program {
    fn start(words: &[&str]) -> Program {
        let fixed = [
            "serve",
            "--listen=127.0.0.1:0",
            "--metrics=127.0.0.1:0",
            "--migrate",
            "--database-timeout-ms=20000",
        ];
        let mut command = Command::new(PROGRAM);
        command.args(fixed).args(words).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it runs");
        let out = BufReader::new(child.stdout.take().expect("piped"));
        let mut program = Program { child, address: String::new(), metrics: String::new(), out };
        let mut line = String::new();
        while program.address.is_empty() {
            line.clear();
            assert!(program.out.read_line(&mut line).expect("a line") > 0, "it ended before it was ready");
            if let Some((_, rest)) = line.trim_end().split_once("metrics at http://") {
                program.metrics = rest.trim_end_matches("/metrics").to_owned();
            }
            if let Some((_, rest)) = line.trim_end().split_once("bsky.Service at ") {
                program.address = rest.trim_end_matches("; ready").to_owned();
            }
        }
        program
    }

    async fn client(&self) -> ServiceClient<Channel> {
        ServiceClient::connect(format!("http://{}", self.address)).await.expect("connected")
    }

    fn page(&self) -> String {
        let mut stream = std::net::TcpStream::connect(&self.metrics).expect("connected");
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").expect("sent");
        let mut page = String::new();
        stream.read_to_string(&mut page).expect("a page");
        page
    }

    /// SIGTERM, and whether it ended well in this time.
    fn terminate(&mut self, limit: Duration) -> bool {
        let done = Command::new("kill").arg(self.child.id().to_string()).status().expect("kill");
        assert!(done.success());
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("its state") {
                return status.success();
            }
            assert!(begun.elapsed() < limit, "it does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn said(words: &[&str]) -> (bool, String) {
    let done = Command::new(PROGRAM).args(words).output().expect("it runs");
    let text = [done.stdout, done.stderr].concat();
    (done.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn its_words_help_and_its_errors_come_at_once() {
    for command in
        [vec!["--help"], vec!["serve", "--help"], vec!["seed", "--help"], vec!["migrate", "--help"]]
    {
        let (well, text) = said(&command);
        assert!(well && text.contains("Example") && text.contains("weir-dataplane"), "{command:?}: {text}");
    }
    let (well, text) = said(&["serve", "--listen=x", "--keyspace=1", "--ttl=0"]);
    assert!(!well && text.contains("3 problems:"), "{text}");
    let (well, text) = said(&["serve", "--unbounded"]);
    assert!(!well && text.contains("--i-know"), "{text}");
}

#[tokio::test]
async fn it_serves_and_ends_after_the_calls_under_way() {
    let Some(node) = support::cassandra("the program") else { return };
    let (memcached, keyspace) = (Memcached::start(), support::keyspace("program"));
    let words = [
        format!("--cql={node}"),
        format!("--memcached=127.0.0.1:{}", memcached.port),
        format!("--keyspace={keyspace}"),
    ];
    let slow = ["--database-queries-max=1", "--database-keys-per-query=1"];
    let mut program = Program::start(&[words[0].as_str(), &words[1], &words[2], slow[0], slow[1]]);
    let mut client = program.client().await;
    let uris: Vec<String> =
        (0..600).map(|number| format!("at://did:plc:a/app.bsky.feed.post/{number}")).collect();
    let call = {
        let (mut client, uris) = (client.clone(), uris.clone());
        tokio::spawn(async move {
            client.get_post_records(GetPostRecordsRequest { uris, ..Default::default() }).await
        })
    };
    client.ping(PingRequest {}).await.expect("a pong");
    let begun = Instant::now();
    while !program.page().contains("weir_dataplane_database_queries_total{") {
        assert!(begun.elapsed() < support::PATIENCE, "no statement has ended");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let under_way = !call.is_finished();
    let page = program.page();
    for name in
        ["requests_total{method=\"Ping\",code=\"ok\"} 1", "keys_per_request_bucket", "requests_in_flight 1"]
    {
        assert!(page.contains(name), "{name} in {page}");
    }
    let ended = tokio::task::spawn_blocking(move || (program.terminate(Duration::from_secs(40)), program))
        .await
        .expect("no panic");
    assert!(ended.0, "it ends well");
    assert!(under_way, "the call was under way when it was told to end");
    assert_eq!(call.await.expect("no panic").expect("an answer").into_inner().records.len(), 600);
    assert!(client.ping(PingRequest {}).await.is_err(), "nobody is there any more");
    let settings = support::settings(&[words[0].as_str(), &words[2]]);
    support::drop_keyspace(&settings.database).await;
}

#[tokio::test]
async fn the_bug_is_a_connection_and_a_line_per_key() {
    let Some(node) = support::cassandra("the copy of the bug") else { return };
    let world = World::start(&node, "bug", &[]).await;
    let mut uris = Vec::new();
    for number in 0..20 {
        uris.push(world.post("did:plc:a", &number.to_string(), "").await);
    }
    uris.push(uris[0].clone());
    uris.extend((0..179).map(|number| format!("at://did:plc:a/app.bsky.feed.post/missing{number}")));
    let words = [
        format!("--cql={node}"),
        format!("--memcached=127.0.0.1:{}", world.memcached.port),
        format!("--keyspace={}", world.database.keyspace),
    ];
    let source = "--unbounded-source=127.32.0.1";
    let mut program =
        Program::start(&[words[0].as_str(), &words[1], &words[2], "--unbounded", "--i-know", source]);
    let errors = program.child.stderr.take().expect("piped");
    let lines =
        std::thread::spawn(move || BufReader::new(errors).lines().map_while(Result::ok).collect::<Vec<_>>());
    let before = world.memcached.stat("total_connections");
    let request = GetPostRecordsRequest { uris: uris.clone(), ..Default::default() };
    let bounded = world.client.clone().get_post_records(request.clone()).await.expect("posts").into_inner();
    let after = world.memcached.stat("total_connections");
    assert!(after - before <= 5, "{} connections for 200 keys the right way", after - before);
    world.eventually("the fills are done", |world| world.memcached.stat("curr_items") >= 199).await;
    assert_eq!(world.memcached.line("flush_all"), "OK");
    let before = world.memcached.stat("total_connections");
    let answer = program.client().await.get_post_records(request).await.expect("posts").into_inner();
    assert_eq!(answer, bounded, "the same answer");
    let after = world.memcached.stat("total_connections");
    assert!(after - before >= 399, "{} connections for 200 keys, a get and a set each", after - before);
    let table = std::fs::read_to_string("/proc/net/tcp").expect("sockets");
    let server = format!(" 0100007F:{:04X} ", world.memcached.port);
    let waiting = table
        .lines()
        .filter(|line| line.contains(": 01002") && line.contains("7F:") && line.contains(&server));
    assert!(waiting.count() >= 200, "their ports are in TIME_WAIT, with a source of their own");
    assert!(program.terminate(Duration::from_secs(40)));
    let lines = lines.join().expect("no panic");
    assert!(
        lines.iter().filter(|line| line.contains("not in the cache")).count() >= 199,
        "{} lines",
        lines.len()
    );
    world.end().await;
}
