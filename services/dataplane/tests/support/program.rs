//! The program, serving.

use super::{WEIR, sum};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};
use tonic::transport::Channel;
use weir_dataplane::bsky::service_client::ServiceClient;

/// A data plane that serves; ended with this.
pub struct Program {
    pub child: Child,
    /// Where it listens for calls.
    pub address: String,
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
    /// At any free port.
    pub fn start(words: &[&str]) -> Program {
        Program::start_at("127.0.0.1:0", words)
    }

    /// At this address.
    pub fn start_at(address: &str, words: &[&str]) -> Program {
        let mut command = Command::new(WEIR);
        command.args(["serve", "--listen", address, "--metrics=127.0.0.1:0", "--migrate"]);
        command.arg("--database-timeout-ms=20000").args(words);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it runs");
        let out = BufReader::new(child.stdout.take().expect("piped"));
        let mut program = Program { child, address: String::new(), metrics: String::new(), out };
        let mut line = String::new();
        while program.address.is_empty() {
            line.clear();
            if program.out.read_line(&mut line).expect("a line") == 0 {
                let mut errors = String::new();
                let stderr = program.child.stderr.as_mut().expect("piped");
                stderr.read_to_string(&mut errors).expect("its errors");
                panic!("it ended before it was ready: {errors}");
            }
            if let Some((_, rest)) = line.trim_end().split_once("metrics at http://") {
                program.metrics = rest.trim_end_matches("/metrics").to_owned();
            }
            if let Some((_, rest)) = line.trim_end().split_once("bsky.Service at ") {
                program.address = rest.trim_end_matches("; ready").to_owned();
            }
        }
        program
    }

    /// A client of its own connection, which it opens again when it is lost.
    pub async fn client(&self) -> ServiceClient<Channel> {
        let client = ServiceClient::connect(format!("http://{}", self.address)).await.expect("connected");
        client.max_decoding_message_size(64 << 20).max_encoding_message_size(64 << 20)
    }

    /// Its metrics.
    pub fn page(&self) -> String {
        let mut stream = std::net::TcpStream::connect(&self.metrics).expect("connected");
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").expect("sent");
        let mut page = String::new();
        stream.read_to_string(&mut page).expect("a page");
        page
    }

    /// The sum of a metric's series that hold all of the parts.
    pub fn metric(&self, name: &str, parts: &[&str]) -> f64 {
        sum(&self.page(), name, parts)
    }

    /// SIGTERM, and whether it ended well in this time.
    pub fn terminate(&mut self, limit: Duration) -> bool {
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
