//! Two witnesses: what weir says it did, and what the kernel saw its processes do. Where they differ either a process that
//! is taken for weir (`--own`) is none, or weir opens connections that it does not count, or the kernel's side loses some.
//!
//! - [`said`]: weir's word, from its `/metrics`
//! - [`window`]: both over the last ten minutes, and how far they are apart
//!
//! The kernel counts connections that were established, weir counts attempts by result. A result that does not tell
//! whether the connection stood for a while (`timeout`, `error`), and an attempt that is under way, may be one or none:
//! both are granted. weir is asked between two readings of the kernel's counts, and what came in between is granted too.

pub mod said;
pub mod window;

use crate::fetch::{self, Bounds};
use crate::picture::{Destination, Disagreement, ProbeState, ProbeStatus};
use crate::settings::Watch;
use said::Said;
use std::io;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use window::{Sample, Window};

/// The name under which it is told whether weir answers.
pub const PROBE: &str = "weir";

/// What a weir's answer may take: it holds up the look. A page with every cap of weir's catalogue reached is smaller.
const BOUNDS: Bounds = Bounds { timeout: Duration::from_secs(1), most: 8 << 20 };

/// Asks weirs, and keeps what is compared.
#[derive(Debug)]
pub struct Witness {
    weirs: Vec<String>,
    watch: Vec<Watch>,
    /// Without one nobody can be asked.
    runtime: io::Result<Runtime>,
    window: Window,
}

impl Witness {
    /// For these weirs; `None` without any. Asks nobody yet, and makes no thread.
    #[must_use]
    pub fn of(weirs: &[String], watch: &[Watch]) -> Option<Witness> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let witness =
            Witness { weirs: weirs.to_vec(), watch: watch.to_vec(), runtime, window: Window::default() };
        (!weirs.is_empty()).then_some(witness)
    }

    /// Asks every weir between two readings of the kernel's counts. `None` of the first: it cannot be told, or not yet.
    pub fn look(&mut self, opened: impl Fn() -> Option<u64>) -> (Option<Disagreement>, ProbeStatus) {
        let before = opened();
        let said = self.ask();
        let after = opened();
        let status = |state: ProbeState| ProbeStatus { probe: PROBE, state, lost: None };
        let said = match said {
            Ok(said) => said,
            Err(reason) => return (None, status(ProbeState::Refused { errno: None, reason })),
        };
        let share = match (before, after) {
            (Some(before), Some(after)) => {
                self.window.take(Sample { at: Instant::now(), opened: (before, after), said })
            }
            _ => None,
        };
        (share.map(|share| Disagreement { what: "opens", share }), status(ProbeState::Attached))
    }

    fn ask(&self) -> Result<Vec<Said>, String> {
        let runtime = self.runtime.as_ref().map_err(|error| format!("no runtime to ask with: {error}"))?;
        let answer = |weir: &String| {
            let told = |why: String| format!("{weir} does not answer as weir does: {why}");
            let page = runtime.block_on(fetch::page(weir, "/metrics", BOUNDS)).map_err(told)?;
            Said::read(&page, |backend| is_watched(backend, &self.watch)).map_err(told)
        };
        self.weirs.iter().map(answer).collect()
    }
}

/// What a picture shows while nobody is asked.
#[must_use]
pub fn off() -> ProbeStatus {
    ProbeStatus { probe: PROBE, state: ProbeState::Off, lost: None }
}

/// The sum over destinations.
#[must_use]
pub fn total(opened: &[(Destination, u64)]) -> u64 {
    opened.iter().map(|(_, connections)| connections).sum()
}

/// Whether connections to a backend of weir's are among those that the kernel counts: those of a name are where its port
/// is watched, whatever address it means. Backends beyond weir's own cap count as well.
fn is_watched(backend: &str, watch: &[Watch]) -> bool {
    if backend == "_other" {
        return true;
    }
    if let Ok(address) = backend.parse::<std::net::SocketAddr>() {
        let ip = address.ip().to_canonical();
        return watch.iter().any(|one| one.port == address.port() && one.address.is_none_or(|own| own == ip));
    }
    // no Unix socket has a port
    let port = backend.rsplit_once(':').filter(|(host, _)| !host.contains('/')).map(|(_, port)| port.parse());
    port.is_some_and(|port| port.is_ok_and(|port: u16| watch.iter().any(|one| one.port == port)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Protocol;

    #[test]
    fn backends_that_the_kernel_does_not_count_are_left_out() {
        let at = |address: Option<&str>, port| Watch {
            address: address.map(|text| text.parse().unwrap()),
            port,
            protocol: Protocol::Memcached,
        };
        let watch = [at(Some("127.0.0.1"), 11_211), at(None, 9_042)];
        let counted = |backend| is_watched(backend, &watch);
        for backend in
            ["127.0.0.1:11211", "[::ffff:127.0.0.1]:11211", "10.0.0.1:9042", "node-a:9042", "_other"]
        {
            assert!(counted(backend), "{backend}");
        }
        for backend in
            ["127.0.0.2:11211", "127.0.0.1:11212", "unix:/run/mc.sock", "unix:/run/a:9042", "", ":"]
        {
            assert!(!counted(backend), "{backend}");
        }
    }

    #[test]
    fn a_weir_that_does_not_answer_is_said_and_nothing_is_compared() {
        assert!(Witness::of(&[], &[]).is_none());
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).unwrap();
        let mut witness = Witness::of(&[nobody.to_string()], &[]).expect("somebody to ask");
        let (disagreement, status) = witness.look(|| Some(7));
        assert_eq!(disagreement, None);
        let ProbeState::Refused { errno: None, reason } = status.state else { panic!("{status:?}") };
        assert!(reason.contains(&nobody.to_string()), "{reason}");
    }
}
