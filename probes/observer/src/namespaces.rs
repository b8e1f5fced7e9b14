//! Network namespaces other than one's own. Work in one is done on a thread that enters it and ends with the work, so that
//! no other thread ever sees the wrong namespace, and nothing keeps a namespace alive that its owner has left.

use std::fmt;
use std::fs::File;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The calling thread's own namespace.
const OWN_PATH: &str = "/proc/thread-self/ns/net";

/// Which namespace it is: the same name may mean another one after a container's restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    device: u64,
    inode: u64,
}

/// Why a namespace could not be entered. Never fatal: others are still seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotEntered {
    /// Its file is not there (any more).
    Gone(PathBuf),
    /// The file is no network namespace.
    Other(PathBuf),
    /// The kernel said no.
    Refused(PathBuf, Errno),
    /// There is no thread to do it.
    NoThread(String),
}

impl std::error::Error for NotEntered {}

impl fmt::Display for NotEntered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotEntered::Gone(path) => write!(f, "{} is not there (any more)", path.display()),
            NotEntered::Other(path) => write!(f, "{} is no network namespace", path.display()),
            NotEntered::Refused(path, errno @ (Errno::PERM | Errno::ACCESS)) => write!(
                f,
                "{} may not be entered: {errno} (CAP_SYS_ADMIN; for another user's process CAP_SYS_PTRACE too)",
                path.display()
            ),
            NotEntered::Refused(path, errno) => {
                write!(f, "{} cannot be entered: {errno}", path.display())
            }
            NotEntered::NoThread(error) => write!(f, "no thread to enter a namespace with: {error}"),
        }
    }
}

/// Does `work` inside a namespace, on a thread of its own, and waits for it.
///
/// # Errors
/// Why the namespace could not be entered; nothing was done then.
pub fn inside<T: Send>(
    path: Option<&Path>,
    work: impl FnOnce(Identity) -> T + Send,
) -> Result<T, NotEntered> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("namespace".into());
        let running = thread.spawn_scoped(scope, || Ok(work(enter(path)?)));
        match running.map_err(|error| NotEntered::NoThread(error.to_string()))?.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Moves the calling thread.
fn enter(path: Option<&Path>) -> Result<Identity, NotEntered> {
    let named = path.unwrap_or(Path::new(OWN_PATH));
    let refused = |errno| match errno {
        Errno::NOENT | Errno::SRCH | Errno::NOTDIR => NotEntered::Gone(named.to_owned()),
        Errno::INVAL => NotEntered::Other(named.to_owned()),
        errno => NotEntered::Refused(named.to_owned(), errno),
    };
    let errno =
        |error: std::io::Error| refused(error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error));
    let file = File::open(named).map_err(errno)?;
    let metadata = file.metadata().map_err(errno)?;
    if path.is_some() {
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).map_err(refused)?;
    }
    Ok(Identity { device: metadata.dev(), inode: metadata.ino() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_s_own_is_entered_without_a_right_and_its_identity_lasts() {
        let first = inside(None, |identity| identity).expect("one's own");
        assert_eq!(inside(None, |identity| identity), Ok(first));
        let metadata = std::fs::metadata("/proc/self/ns/net").expect("a namespace");
        assert_eq!(first, Identity { device: metadata.dev(), inode: metadata.ino() });
    }

    #[test]
    fn what_is_gone_or_something_else_is_said() {
        let gone = inside(Some(Path::new("/proc/4194304/ns/net")), |_| ()).expect_err("no such process");
        assert_eq!(gone.to_string(), "/proc/4194304/ns/net is not there (any more)");
        let other = inside(Some(Path::new("/proc/self/status")), |_| ()).expect_err("a file");
        assert_eq!(other.to_string(), "/proc/self/status is no network namespace");
    }
}
