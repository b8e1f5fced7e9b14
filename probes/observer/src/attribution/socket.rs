//! The file of the attribution socket: mode 0660, in a directory that nobody else may write to.
//!
//! The order is bind, group, mode, listen: until `listen` the kernel refuses every connection, so nobody gets in before the
//! permissions are right. A socket that a run left behind is removed if nobody listens on it; anything else in its place is
//! an error. A directory that others may write to is refused: they could put a socket of theirs there, and tell weir names.

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// Connections that the kernel holds until they are accepted. What comes on top is told at once to try again.
const BACKLOG: i32 = 64;
/// The file's permissions: its owner and its group.
const MODE: u32 = 0o660;

/// The file. Dropping this removes it, unless another one took its place.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|file| file.dev() == self.device && file.ino() == self.inode);
        if ours {
            // Nothing can be done about a failure; the next start finds the file stale and removes it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Listens at `path`; `group` may connect besides the own user. The socket does not block.
///
/// # Errors
/// A sentence for the operator.
pub fn listen(path: &Path, group: Option<u32>) -> Result<(UnixListener, SocketFile), String> {
    let shown = path.display();
    let failed = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    make_private(directory, group)?;
    remove_stale(path)?;

    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(|error| failed("no socket")(error.into()))?;
    let address = SocketAddrUnix::new(path).map_err(|error| format!("the path {shown}: {error}"))?;
    rustix::net::bind(&socket, &address).map_err(|error| format!("{shown}: {error}"))?;
    let file = set_permissions(path, group).map_err(|error| format!("group and mode of {shown}: {error}"))?;
    rustix::net::listen(&socket, BACKLOG).map_err(|error| failed("listen")(error.into()))?;
    Ok((socket.into(), file))
}

/// Makes the directory if there is none (0700, with a group 0750), and checks the one that is there.
fn make_private(directory: &Path, group: Option<u32>) -> Result<(), String> {
    let shown = directory.display();
    let failed = |error: io::Error| format!("the directory {shown}: {error}");
    match fs::DirBuilder::new().mode(0o700).create(directory) {
        Ok(()) if group.is_some() => {
            std::os::unix::fs::chown(directory, None, group).map_err(failed)?;
            fs::set_permissions(directory, fs::Permissions::from_mode(0o750)).map_err(failed)?;
        }
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed(error)),
    }
    let found = fs::metadata(directory).map_err(failed)?;
    let own = rustix::process::geteuid().as_raw();
    if found.mode() & 0o022 != 0 || (found.uid() != own && found.uid() != 0) {
        return Err(format!(
            "the directory {shown} (mode {:04o}, user {}) is not private: others could put a socket of theirs there; \
             use a directory of its own, such as /run/weir-probes",
            found.mode() & 0o7777,
            found.uid()
        ));
    }
    Ok(())
}

/// Makes the path free, if what is there is a socket that nobody listens on.
fn remove_stale(path: &Path) -> Result<(), String> {
    let shown = path.display();
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(format!("{shown}: {error}")),
        Ok(file) if !file.file_type().is_socket() => {
            return Err(format!("{shown} is not a socket; it is not removed"));
        }
        Ok(_) => {}
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let probe = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None);
    let address = SocketAddrUnix::new(path);
    match probe.and_then(|probe| rustix::net::connect(&probe, &address?)) {
        Err(Errno::CONNREFUSED) => fs::remove_file(path)
            .map_err(|error| format!("the stale socket {shown} cannot be removed: {error}")),
        Err(Errno::NOENT) => Ok(()),
        // Connected, or its backlog is full.
        Ok(()) | Err(Errno::AGAIN) => Err(format!("another process listens at {shown} (`ss -lxp` names it)")),
        Err(error) => Err(format!("whether anybody listens at {shown} is not known: {error}")),
    }
}

/// Sets group and mode of the socket just bound, through a descriptor that follows no link.
fn set_permissions(path: &Path, group: Option<u32>) -> io::Result<SocketFile> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let handle: OwnedFd = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
    if let Some(group) = group {
        let group = rustix::fs::Gid::from_raw(group);
        rustix::fs::chownat(&handle, "", None, Some(group), AtFlags::EMPTY_PATH)?;
    }
    // There is no chmod of an O_PATH descriptor; the name of the descriptor itself leads to the same file.
    let own_name = format!("/proc/self/fd/{}", handle.as_raw_fd());
    fs::set_permissions(own_name, fs::Permissions::from_mode(MODE))?;
    let file = fs::symlink_metadata(path)?;
    Ok(SocketFile { path: path.to_path_buf(), device: file.dev(), inode: file.ino() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn the_directory_is_made_private_and_the_socket_is_for_user_and_group() {
        let place = tempfile::tempdir().expect("a directory");
        let path = place.path().join("weir-probes/attribution.sock");
        let (listener, file) = listen(&path, None).expect("it listens");
        let mode = |path: &Path| fs::metadata(path).expect("there").mode() & 0o7777;
        assert_eq!((mode(path.parent().expect("a parent")), mode(&path)), (0o700, 0o660));
        UnixStream::connect(&path).expect("connected");
        assert!(listen(&path, None).expect_err("taken").contains("another process listens"));
        drop(file);
        assert!(!path.exists());
        drop(listener);
    }

    #[test]
    fn what_a_run_left_behind_is_removed_and_nothing_else() {
        let place = tempfile::tempdir().expect("a directory");
        let path = place.path().join("a.sock");
        drop(UnixListener::bind(&path).expect("bound"));
        let (_listener, file) = listen(&path, None).expect("nobody listened");
        // another one took its place: that is not removed
        fs::remove_file(&path).expect("removed");
        fs::write(&path, "precious").expect("written");
        drop(file);
        assert!(listen(&path, None).expect_err("in the way").contains("not a socket"));
        assert_eq!(fs::read_to_string(&path).expect("there"), "precious");
    }

    #[test]
    fn a_directory_that_others_may_write_to_is_refused() {
        let place = tempfile::tempdir().expect("a directory");
        for mode in [0o770, 0o707, 0o1777] {
            fs::set_permissions(place.path(), fs::Permissions::from_mode(mode)).expect("changed");
            let error = listen(&place.path().join("a.sock"), None).expect_err("not private");
            assert!(error.contains("not private"), "{error}");
        }
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).expect("changed");
        assert!(listen(&place.path().join("a.sock"), None).is_ok());
        let nowhere = listen(Path::new("/nonexistent/weir/a.sock"), None).expect_err("no parent");
        assert!(nowhere.contains("/nonexistent/weir"), "{nowhere}");
    }
}
