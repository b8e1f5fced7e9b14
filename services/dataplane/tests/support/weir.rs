//! A running weir, and what is read and written through it.

use super::servers::{Servers, binaries};
use super::{free_port, skip, sum};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The binary of this test run; `None`, said aloud, where it was not built.
pub fn weir() -> Option<PathBuf> {
    let program = binaries().join("weir");
    if program.exists() {
        return Some(program);
    }
    skip("through weir", "no weir in WEIR_TEST_BINARIES nor beside this test (cargo build -p weir)");
    None
}

/// Both storages of a test as its data plane sees them: behind weir, where there is one.
pub struct Front {
    /// Words of `serve`: the addresses of both.
    pub words: Vec<String>,
    /// weir, and the folder of its file.
    pub weir: Option<(Weir, tempfile::TempDir)>,
}

impl Front {
    /// In front of this database and the memcached at this port.
    pub fn of(servers: &Servers, memcached: u16) -> Front {
        let Some(program) = weir() else {
            let words = vec![format!("--cql={}", servers.cql), format!("--memcached=127.0.0.1:{memcached}")];
            return Front { words, weir: None };
        };
        let (folder, cache, cql) = (tempfile::tempdir().expect("a folder"), free_port(), free_port());
        let text = format!(
            "[pool.main]\nservers = [\"127.0.0.1:{memcached}\"]\n[cluster.main]\ncontacts = [\"{}\"]\n\
             [listener.cache]\naddress = \"127.0.0.1:{cache}\"\npool = \"main\"\n\
             [listener.cql]\naddress = \"127.0.0.1:{cql}\"\ncluster = \"main\"\n",
            servers.cql
        );
        let weir = Weir::start(&program, folder.path(), &text);
        let words = vec![format!("--cql=127.0.0.1:{cql}"), format!("--memcached=127.0.0.1:{cache}")];
        Front { words, weir: Some((weir, folder)) }
    }

    /// These words and more.
    pub fn with<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        self.words.iter().map(String::as_str).chain(more.iter().copied()).collect()
    }
}

/// weir with a file; ended with this.
pub struct Weir {
    child: Child,
    metrics: u16,
}

impl Drop for Weir {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Weir {
    /// With this file; it and the control socket are in the folder.
    pub fn start(program: &Path, folder: &Path, text: &str) -> Weir {
        let metrics = free_port();
        let file = folder.join("weir.toml");
        std::fs::write(&file, text).expect("written");
        let mut child = Command::new(program)
            .args(["run", "--config"])
            .arg(&file)
            .args(["--metrics", &format!("127.0.0.1:{metrics}")])
            .args(["--admin", &format!("unix:{}/admin.sock", folder.display())])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("weir runs");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        assert!(lines.any(|line| line.expect("a line").trim_end().ends_with("ready")), "weir is ready");
        std::thread::spawn(move || lines.for_each(drop));
        Weir { child, metrics }
    }

    /// The sum of a metric's series that hold all of the parts.
    pub fn metric(&self, name: &str, parts: &[&str]) -> f64 {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", self.metrics)).expect("connected");
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: weir\r\nconnection: close\r\n\r\n").expect("sent");
        let mut page = String::new();
        stream.read_to_string(&mut page).expect("a page");
        sum(&page, name, parts)
    }

    /// Ends it as a crash does.
    pub fn kill(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("ended");
    }
}
