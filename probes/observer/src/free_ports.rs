//! Ends TIME_WAIT sockets towards one destination, so that clients have local ports again before the minute is over. Only
//! in the calling thread's network namespace, only sockets whose other end is the destination, never one in another state:
//! the kernel is told which socket by its cookie, so a connection that took its place meanwhile is left alone.

use serde::{Serialize, Serializer};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};
use weir_sock_diag::{Destroyed, Error, Family, Filter, Found, SockDiag, States};

/// Most sockets that one call may end (about 34 MB while it works).
pub const LIMIT_MAX: u32 = 250_000;
/// How often long work says how far it is.
const PROGRESS: Duration = Duration::from_secs(1);

/// What to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// The other end of the sockets.
    pub destination: SocketAddr,
    /// Count only.
    pub dry_run: bool,
    /// At most so many.
    pub limit: u32,
    /// Whether the destination may be on another machine.
    pub allow_remote: bool,
}

/// What was done. Sockets that were found and are in none of the other counts were left as they are.
#[derive(Debug, Default, Serialize)]
pub struct Outcome {
    /// As it was understood.
    pub destination: String,
    /// Whether nothing was to be ended.
    pub dry_run: bool,
    /// Sockets in TIME_WAIT towards the destination.
    pub found: u64,
    /// Of these ended.
    pub ended: u64,
    /// Of these over before their turn came; a connection that has taken such a place was left alone.
    pub gone: u64,
    /// Why it was not done, or not wholly.
    #[serde(serialize_with = "as_text", rename = "error")]
    pub failure: Option<Failure>,
}

/// Why sockets were not ended.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Segments of old connections may still be under way between machines.
    #[error(
        "{0} is not a loopback address: late segments of old connections could reach new ones (RFC 1337); \
         --allow-remote takes that risk"
    )]
    Remote(IpAddr),
    /// Nobody can be connected to this.
    #[error("{0} is no destination of a connection")]
    NoDestination(SocketAddr),
    /// The sockets could not be counted.
    #[error("{0}")]
    Look(#[source] Error),
    /// The right is missing.
    #[error("{0}; CAP_NET_ADMIN is needed, in the user namespace of the network namespace")]
    NoRight(#[source] Error),
    /// This kernel cannot.
    #[error("{0}; this kernel was built without CONFIG_INET_DIAG_DESTROY")]
    NotInThisKernel(#[source] Error),
    /// Anything else.
    #[error("{0}")]
    End(#[source] Error),
}

fn as_text<S: Serializer>(failure: &Option<Failure>, serializer: S) -> Result<S::Ok, S::Error> {
    failure.as_ref().map(ToString::to_string).serialize(serializer)
}

/// The destination as the kernel's list shows it, if it is one that may be.
///
/// # Errors
/// [`Failure::Remote`] and [`Failure::NoDestination`].
pub fn checked(request: &Request) -> Result<SocketAddr, Failure> {
    let destination = SocketAddr::new(request.destination.ip().to_canonical(), request.destination.port());
    if destination.port() == 0 || destination.ip().is_unspecified() || destination.ip().is_multicast() {
        return Err(Failure::NoDestination(request.destination));
    }
    if !destination.ip().is_loopback() && !request.allow_remote {
        return Err(Failure::Remote(destination.ip()));
    }
    Ok(destination)
}

/// Counts, and ends up to the limit. `progress` hears about long work how many are done, and of how many.
pub fn free(request: &Request, mut progress: impl FnMut(u64, u64)) -> Outcome {
    let mut outcome = Outcome {
        destination: request.destination.to_string(),
        dry_run: request.dry_run,
        ..Outcome::default()
    };
    let destination = match checked(request) {
        Ok(destination) => destination,
        Err(failure) => {
            outcome.failure = Some(failure);
            return outcome;
        }
    };
    outcome.destination = destination.to_string();
    let mut kernel = SockDiag::default();
    let waiting = match waiting(&mut kernel, destination, request.limit) {
        Ok((found, waiting)) => {
            outcome.found = found;
            waiting
        }
        Err(error) => {
            outcome.failure = Some(Failure::Look(error));
            return outcome;
        }
    };
    if request.dry_run {
        return outcome;
    }
    let mut told = Instant::now();
    for (done, found) in waiting.iter().enumerate() {
        match kernel.destroy(found) {
            Ok(Destroyed::Ended) => outcome.ended += 1,
            Ok(Destroyed::Gone) => outcome.gone += 1,
            Err(error) => {
                outcome.failure = Some(failure(error));
                return outcome;
            }
        }
        if told.elapsed() >= PROGRESS {
            told = Instant::now();
            progress(done as u64 + 1, waiting.len() as u64);
        }
    }
    outcome
}

/// How many sockets wait towards the destination, and the first `limit` of them.
fn waiting(kernel: &mut SockDiag, destination: SocketAddr, limit: u32) -> Result<(u64, Vec<Found>), Error> {
    let (mut count, mut first) = (0, Vec::new());
    for family in Family::ALL {
        if family == Family::V4 && destination.is_ipv6() {
            continue; // towards IPv4 there are sockets of both families, towards IPv6 only its own
        }
        let filter =
            Filter { family, states: States::TIME_WAIT, local_port: 0, remote_port: destination.port() };
        kernel.dump(&filter, |found| {
            if found.remote == destination && found.is_in(&States::TIME_WAIT) {
                count += 1;
                if first.len() < limit as usize {
                    first.push(found);
                }
            }
        })?;
    }
    Ok((count, first))
}

fn failure(error: Error) -> Failure {
    use rustix::io::Errno;
    match error.errno().map(Errno::from_raw_os_error) {
        Some(Errno::PERM) => Failure::NoRight(error),
        Some(Errno::OPNOTSUPP) => Failure::NotInThisKernel(error),
        _ => Failure::End(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(destination: &str, allow_remote: bool) -> Request {
        let destination = destination.parse().expect("an address");
        Request { destination, dry_run: true, limit: 10, allow_remote }
    }

    #[test]
    fn only_loopback_without_the_flag() {
        for loopback in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert!(checked(&request(loopback, false)).is_ok(), "{loopback}");
        }
        for remote in ["10.0.0.1:1", "[2001:db8::1]:1", "[::ffff:10.0.0.1]:1", "[fe80::1]:1"] {
            assert!(matches!(checked(&request(remote, false)), Err(Failure::Remote(_))), "{remote}");
            assert!(checked(&request(remote, true)).is_ok(), "{remote}");
        }
        for wrong in ["127.0.0.1:0", "0.0.0.0:11211", "[::]:11211", "224.0.0.1:11211"] {
            assert!(matches!(checked(&request(wrong, true)), Err(Failure::NoDestination(_))), "{wrong}");
        }
    }

    #[test]
    fn a_refused_destination_is_not_even_counted() {
        let outcome = free(&request("10.0.0.1:11211", false), |_, _| panic!("nothing was done"));
        let text = serde_json::to_string(&outcome).expect("JSON");
        assert!(
            text.starts_with(r#"{"destination":"10.0.0.1:11211","dry_run":true,"found":0,"ended":0,"#),
            "{text}"
        );
        assert!(text.contains("--allow-remote takes that risk"), "{text}");
    }

    #[test]
    fn what_the_kernel_refuses_is_told_with_its_remedy() {
        let refused = |errno: rustix::io::Errno| {
            let error = std::io::Error::from_raw_os_error(errno.raw_os_error());
            failure(Error::Refused(weir_sock_diag::Question::Destroy, error)).to_string()
        };
        let no_right = refused(rustix::io::Errno::PERM);
        assert!(
            no_right.contains("Operation not permitted") && no_right.contains("CAP_NET_ADMIN"),
            "{no_right}"
        );
        let no_kernel = refused(rustix::io::Errno::OPNOTSUPP);
        assert!(no_kernel.contains("CONFIG_INET_DIAG_DESTROY"), "{no_kernel}");
    }
}
