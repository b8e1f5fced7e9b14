//! weir as a child: its file written, started, asked for its numbers, ended.

use super::client::Client;
use super::memcached::Memcached;
use super::process::{Finished, Process, run};
use super::{PATIENCE, eventually, free_port, http, series};
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

/// The program under test.
pub const WEIR: &str = env!("CARGO_BIN_EXE_weir");
/// The end of its log that a failed test shows, in lines.
const SHOWN: usize = 40;

/// A running weir, with its directory, control socket and metrics.
pub struct Weir {
    /// What `{port}` in its file or flags stands for.
    pub port: u16,
    /// The port of `/metrics`.
    pub metrics_port: u16,
    /// A directory of its own: sockets, the file, the log, and whatever files a test makes.
    pub directory: tempfile::TempDir,
    /// The child.
    pub process: Process,
    launch: Launch,
}

/// How it was started, to do it again.
#[derive(Default)]
struct Launch {
    flags: Vec<String>,
    open_files: Option<u64>,
}

impl Weir {
    /// In front of one server, with no file.
    pub fn before(server: &Memcached) -> Weir {
        Weir::with_flags(&server.address(), &[])
    }

    /// In front of these servers, with no file and more flags.
    pub fn with_flags(servers: &str, flags: &[&str]) -> Weir {
        let route = format!("127.0.0.1:{{port}}={servers}");
        Weir::start(&[&["--memcached", &route], flags].concat())
    }

    /// With a file.
    pub fn with_file(text: &str) -> Weir {
        Weir::with_config(text, &[])
    }

    /// With these flags. `{port}` in them becomes a free port, `{dir}` and `{directory}` the weir's own directory.
    pub fn start(flags: &[&str]) -> Weir {
        Weir::with(&[], flags, None)
    }

    /// With a file and flags, expanded alike.
    pub fn with_config(text: &str, flags: &[&str]) -> Weir {
        Weir::with(&[("weir.toml", text)], flags, None)
    }

    /// With files in its directory, `weir.toml` perhaps among them, flags, and a limit of open files.
    pub fn with(files: &[(&str, &str)], flags: &[&str], open_files: Option<u64>) -> Weir {
        let directory = tempfile::Builder::new().prefix("weir-e2e-").tempdir().expect("a directory");
        let (port, metrics_port) = (free_port(), free_port());
        let mut all = Vec::new();
        for (name, text) in files {
            let path = directory.path().join(name);
            std::fs::write(&path, expand(text, port, directory.path())).expect("written");
            if *name == "weir.toml" {
                all.extend(["--config".to_owned(), path.to_string_lossy().into_owned()]);
            }
        }
        all.extend(["--metrics".to_owned(), format!("127.0.0.1:{metrics_port}")]);
        all.extend(["--admin".to_owned(), format!("unix:{}/admin.sock", directory.path().display())]);
        all.extend(flags.iter().map(|flag| expand(flag, port, directory.path())));
        let launch = Launch { flags: all, open_files };
        let process = launch.start(&directory.path().join("weir.log"));
        Weir { port, metrics_port, directory, process, launch }
    }

    /// Writes its file anew; [`Weir::hang_up`] has it read.
    pub fn rewrite(&self, text: &str) {
        let text = expand(text, self.port, self.directory.path());
        std::fs::write(self.path("weir.toml"), text).expect("written");
    }

    /// Reads the file again, as an operator has it done.
    pub fn hang_up(&self) {
        self.process.signal(libc::SIGHUP);
    }

    /// A file of its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Its control socket.
    pub fn admin(&self) -> PathBuf {
        self.path("admin.sock")
    }

    /// A client at its port.
    pub fn client(&self) -> Client {
        Client::connect(self.port)
    }

    /// A page of its metrics listener, status line and headers included.
    pub fn page(&self, path: &str) -> String {
        let page = http::get(self.metrics_port, path, "");
        format!("{}\r\n\r\n{}", page.head, page.body)
    }

    /// A page of its control socket.
    #[track_caller]
    pub fn control(&self, path: &str) -> serde_json::Value {
        let page = http::get_unix(&self.admin(), path);
        assert_eq!(page.status, 200, "{path}: {}", page.body);
        serde_json::from_str(&page.body)
            .unwrap_or_else(|error| panic!("{path} is no JSON ({error}): {}", page.body))
    }

    /// A command of weir's own, asked of this weir.
    pub fn command(&self, words: &[&str]) -> Finished {
        let mut command = Command::new(WEIR);
        command.args(words).env("WEIR_ADMIN", format!("unix:{}", self.admin().display()));
        run(&mut command, None, PATIENCE)
    }

    /// Its metrics as Prometheus gets them in the text format.
    pub fn metrics(&self) -> String {
        let page = http::get(self.metrics_port, "/metrics", "");
        assert_eq!(page.status, 200, "{}", page.body);
        page.body
    }

    /// The sum of the series of this name whose labels hold all of the parts; 0 when there is none.
    pub fn metric(&self, name: &str, parts: &[&str]) -> f64 {
        series::sum(&self.metrics(), name, parts)
    }

    /// The sum of the series of this name that carry all these labels; `None` when there is none.
    pub fn series(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        series::sum_of_series(&self.metrics(), name, labels)
    }

    /// What it logged.
    pub fn log(&self) -> String {
        let log = std::fs::read(self.path("weir.log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// Waits for a log line that holds this text.
    #[track_caller]
    pub fn logs(&self, text: &str) -> String {
        let mut found = None;
        eventually(&format!("weir says {text:?}"), || {
            let log = self.log();
            // a line that is being written has no end yet
            found = log
                .split_inclusive('\n')
                .find(|line| line.contains(text) && line.ends_with('\n'))
                .map(str::to_owned);
            found.is_some()
        });
        found.expect("found").trim_end().to_owned()
    }

    /// SIGTERM, and its end.
    #[track_caller]
    pub fn terminate(&mut self) -> ExitStatus {
        self.process.signal(libc::SIGTERM);
        self.process.wait()
    }

    /// Ends it with SIGTERM and starts it again with the same flags.
    pub fn restart(&mut self) {
        let status = self.terminate();
        assert!(status.success(), "it ended with {status}:\n{}", self.log());
        self.start_again();
    }

    /// Starts it again with the same flags after it has ended.
    pub fn start_again(&mut self) {
        self.process = self.launch.start(&self.path("weir.log"));
    }
}

impl Launch {
    /// Starts it and waits until it is ready.
    fn start(&self, log: &std::path::Path) -> Process {
        let file = std::fs::File::options().create(true).append(true).open(log).expect("a log");
        let mut command = match self.open_files {
            None => Command::new(WEIR),
            Some(count) => {
                let mut shell = Command::new("/bin/sh");
                shell.args(["-c", &format!("ulimit -n {count} && exec \"$0\" \"$@\""), WEIR]);
                shell
            }
        };
        command.arg("run").args(&self.flags).env_remove("NOTIFY_SOCKET").env_remove("STATE_DIRECTORY");
        let mut process = Process::start("weir", command.stdout(Stdio::piped()).stderr(file));
        let out = process.child.stdout.take().expect("piped");
        // Lines that nobody waits for any more are read and dropped, so that weir never waits for this program.
        let (sender, lines) = sync_channel(64);
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                let _ = sender.try_send(line);
            }
        });
        let said = || std::fs::read_to_string(log).unwrap_or_default();
        let deadline = Instant::now() + PATIENCE;
        loop {
            match lines.recv_timeout(Duration::from_millis(100)) {
                Ok(line) if line.trim_end().ends_with("ready") => return process,
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => panic!("weir ended before it was ready:\n{}", said()),
                Err(RecvTimeoutError::Timeout) => {
                    assert!(Instant::now() < deadline, "weir was not ready within {PATIENCE:?}:\n{}", said());
                }
            }
        }
    }
}

impl Drop for Weir {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let last = &lines[lines.len().saturating_sub(SHOWN)..];
            eprintln!("--- weir ({:?}) wrote, at the end:\n{}\n---", self.process.ended(), last.join("\n"));
        }
        // what it still has to do for anybody is no longer of interest
        if self.process.ended().is_none() {
            self.process.kill();
        }
    }
}

/// A file with the pool `main` in front of one server and the listener `cache` at `{port}`: more lines of the pool, then
/// whatever follows the listener.
pub fn file(server: &Memcached, pool: &str, more: &str) -> String {
    format!(
        "[pool.main]\nservers = [\"{}\"]\n{pool}\n[listener.cache]\naddress = \"127.0.0.1:{{port}}\"\n{more}",
        server.address()
    )
}

fn expand(text: &str, port: u16, directory: &std::path::Path) -> String {
    let directory = directory.to_string_lossy();
    text.replace("{port}", &port.to_string()).replace("{directory}", &directory).replace("{dir}", &directory)
}
