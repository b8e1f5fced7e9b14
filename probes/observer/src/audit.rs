//! Who changed something on this machine: one line per event, in the form of weir's log lines, to stderr and to syslog.

use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use std::fmt::Write as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};
use weir_telemetry::escape;

/// Where syslog listens.
const SYSLOG: &str = "/dev/log";
/// `authpriv.notice` (RFC 3164).
const PRIORITY: u32 = 10 * 8 + 5;
/// `/proc/PID/loginuid` of who has not signed in.
const NOT_SET: u32 = u32::MAX;

/// Who acts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// The process.
    pub pid: u32,
    /// The user it runs as.
    pub uid: u32,
    /// The user who signed in, whatever became of them since (`sudo`, `su`); `None` where that is not known.
    pub login_uid: Option<u32>,
}

impl Actor {
    /// This process.
    #[must_use]
    pub fn this_process() -> Actor {
        let login = std::fs::read_to_string("/proc/self/loginuid").ok();
        Actor {
            pid: std::process::id(),
            uid: rustix::process::getuid().as_raw(),
            login_uid: login.and_then(|text| text.trim().parse().ok()).filter(|uid| *uid != NOT_SET),
        }
    }
}

/// One event: `unix=... level=... cause=... uid=... login_uid=... key="value"`.
#[derive(Clone, Debug)]
pub struct Line {
    text: String,
    pid: u32,
}

impl Line {
    /// An event without fields. `cause` is a word of the code.
    #[must_use]
    pub fn new(actor: &Actor, cause: &'static str, now: SystemTime) -> Line {
        let unix = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut text = format!("unix={unix} level=\"info\" cause=\"{cause}\" uid={}", actor.uid);
        let _ = match actor.login_uid {
            Some(uid) => write!(text, " login_uid={uid}"),
            None => write!(text, " login_uid=\"unset\""),
        };
        Line { text, pid: actor.pid }
    }

    /// Adds text, which may come from outside.
    #[must_use]
    pub fn text(mut self, name: &'static str, value: &str) -> Line {
        let _ = write!(self.text, " {name}=\"{}\"", escape::quoted(value));
        self
    }

    /// Adds a number.
    #[must_use]
    pub fn number(mut self, name: &'static str, value: u64) -> Line {
        let _ = write!(self.text, " {name}={value}");
        self
    }

    /// Writes it to stderr and to syslog. Returns why syslog has not got it.
    pub fn write(&self) -> Option<String> {
        eprintln!("{}", self.text);
        let sent = self.send(Path::new(SYSLOG));
        sent.err().map(|error| format!("{SYSLOG}: {error}"))
    }

    /// One datagram, or one record of a stream, as daemons differ. A syslog that does not read is not waited for.
    fn send(&self, to: &Path) -> rustix::io::Result<()> {
        let address = SocketAddrUnix::new(to)?;
        let line = format!("<{PRIORITY}>weir-probes[{}]: {}", self.pid, self.text);
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let mut outcome = Ok(());
        for kind in [SocketType::DGRAM, SocketType::STREAM] {
            let socket = rustix::net::socket_with(AddressFamily::UNIX, kind, flags, None)?;
            outcome = rustix::net::connect(&socket, &address);
            if outcome.is_ok() {
                let end: &[u8] = if kind == SocketType::STREAM { b"\0" } else { b"" };
                let bytes = [line.as_bytes(), end].concat();
                return rustix::net::send(&socket, &bytes, SendFlags::NOSIGNAL).map(|_| ());
            }
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixDatagram;
    use std::time::Duration;

    const ACTOR: Actor = Actor { pid: 42, uid: 0, login_uid: Some(1000) };

    #[test]
    fn a_line_says_who_when_and_what() {
        let then = UNIX_EPOCH + Duration::from_secs(1_775_000_000);
        let line = Line::new(&ACTOR, "free_ports", then).text("destination", "a\" b\n").number("ended", 7);
        assert_eq!(
            line.text,
            "unix=1775000000 level=\"info\" cause=\"free_ports\" uid=0 login_uid=1000 \
             destination=\"a\\\" b\\n\" ended=7"
        );
        let nobody = Actor { login_uid: None, ..ACTOR };
        assert!(Line::new(&nobody, "free_ports", then).text.ends_with("uid=0 login_uid=\"unset\""));
    }

    #[test]
    fn syslog_gets_one_datagram_and_its_absence_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log");
        let line = Line::new(&ACTOR, "free_ports", UNIX_EPOCH);
        assert_eq!(line.send(&path), Err(rustix::io::Errno::NOENT));
        let syslog = UnixDatagram::bind(&path).expect("a socket");
        line.send(&path).expect("sent");
        let mut bytes = [0; 512];
        let length = syslog.recv(&mut bytes).expect("a datagram");
        let said = std::str::from_utf8(&bytes[..length]).expect("text");
        assert_eq!(
            said,
            "<85>weir-probes[42]: unix=0 level=\"info\" cause=\"free_ports\" uid=0 login_uid=1000"
        );
    }

    #[test]
    fn this_process_is_its_user() {
        let actor = Actor::this_process();
        assert_eq!((actor.pid, actor.uid), (std::process::id(), rustix::process::getuid().as_raw()));
        assert_ne!(actor.login_uid, Some(NOT_SET));
    }
}
