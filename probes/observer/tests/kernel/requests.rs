//! The probe `requests`, on a real weir in front of nothing: what it refuses ends, too.

use crate::namespace::{Place, enter, own_address, skip};
use crate::{load, look, options};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use weir_probes::kernel::Options;

/// weir, built beside this test.
fn weir() -> Option<PathBuf> {
    let folder = std::env::current_exe().ok()?.parent()?.parent()?.to_owned();
    Some(folder.join("weir")).filter(|path| path.is_file())
}

struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn every_request_through_weir_passes_its_point() {
    const TEST: &str = "requests::every_request_through_weir_passes_its_point";
    if enter(TEST, &[]) == Place::Done {
        return;
    }
    let Some(weir) = weir() else {
        skip(TEST, "weir is not built (cargo build -p weir)");
        return;
    };
    let watch = Options { weirs: vec![weir.clone()], ..options(&["requests"]) };
    let Some(kernel) = load(TEST, &watch) else { return };
    // a server that answers every get with nothing found
    let listener = TcpListener::bind((own_address(), 0)).unwrap();
    let server_at = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut answers = stream.try_clone().expect("a second handle");
                for line in BufReader::new(stream).lines() {
                    let Ok(line) = line else { return };
                    let answer: &[u8] = if line.starts_with("get") { b"END\r\n" } else { b"VERSION 1\r\n" };
                    if answers.write_all(answer).is_err() {
                        return;
                    }
                }
            });
        }
    });
    let door = TcpListener::bind((own_address(), 0)).and_then(|free| free.local_addr()).unwrap();
    let mut child = Command::new(weir);
    child
        .args(["run", "--memcached", &format!("{door}={server_at}")])
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = Ended(child.spawn().unwrap());
    let mut line = String::new();
    let mut out = BufReader::new(child.0.stdout.take().unwrap());
    while !line.trim_end().ends_with("ready") {
        line.clear();
        assert!(out.read_line(&mut line).unwrap() > 0, "weir ended early");
    }
    ask(door, "get one\r\n", 200);
    ask(door, "get one two three\r\n", 100);
    let pid = child.0.id();
    let deadline = Instant::now() + Duration::from_secs(5);
    let seen = loop {
        let all = look(&kernel).requests.expect("the probe is attached");
        let seen: Vec<_> = all.into_iter().filter(|one| one.weir == pid).collect();
        if seen.iter().map(|one| one.requests).sum::<u64>() >= 300 || Instant::now() > deadline {
            break seen;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    assert!(seen.iter().all(|one| one.method == 0), "get is number 0: {seen:?}");
    assert_eq!(seen.iter().map(|one| one.requests).sum::<u64>(), 300);
    assert_eq!(seen.iter().map(|one| one.operations).sum::<u64>(), 500);
    assert_eq!(seen.iter().map(|one| one.backend_operations).sum::<u64>(), 500);
    assert_eq!(seen.iter().map(|one| one.sizes.counts[0]).sum::<u64>(), 200, "of one operation");
    assert_eq!(seen.iter().map(|one| one.sizes.counts[1]).sum::<u64>(), 100, "of two or three");
}

fn ask(to: SocketAddr, request: &str, times: usize) {
    let mut stream = TcpStream::connect(to).unwrap();
    for _ in 0..times {
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"END\r\n");
    }
}
