//! The file of a Unix listener: its directory, its permissions, and what an earlier run left behind.
//!
//! **Nobody connects before the permissions are right**, although the file is made with whatever the umask leaves: the
//! order is bind, group, mode, *listen*, and until `listen` the kernel refuses every connection. Changing the umask
//! instead would race with files that other threads make.
//!
//! **A file in the way** is asked: if somebody listens there, that is an error; if the connection is refused, a run that
//! died left it and it goes; anything that is not a socket is never touched. A lock on the directory keeps two starting
//! processes from removing each other's file in between.

use super::{Door, backlog};
use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags};
use socket2::{Domain, SockAddr, Socket, Type};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Longest path of a socket, in bytes (108 with the final zero).
const PATH_MAX: usize = 107;
/// How long another process may hold the directory's lock; it is needed for a few system calls only.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// The file of a listening Unix socket. Dropping this removes the file, unless another socket took its place.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
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

/// Opens the door; the error is a sentence for the operator.
pub(super) fn bind(door: &Door, path: &Path) -> Result<(UnixListener, SocketFile), String> {
    if path.as_os_str().len() > PATH_MAX {
        return Err(format!("the path is longer than {PATH_MAX} bytes, the system's limit for sockets"));
    }
    let group = door.group.as_deref().map(group_id).transpose()?;
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let what = |action: &str| {
        let action = action.to_owned();
        move |error: io::Error| format!("{action}: {error}")
    };
    make_directory(directory, door.mode, group)
        .map_err(what(&format!("the directory {} cannot be made", directory.display())))?;
    let _lock = lock(directory)?;
    remove_stale(path)?;

    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None).map_err(what("no socket"))?;
    socket.bind(&SockAddr::unix(path).map_err(what("the path"))?).map_err(what("bind"))?;
    let file = set_permissions(path, door.mode, group).map_err(what("the file's group and mode"))?;
    socket.listen(backlog(door)).map_err(what("listen"))?;
    Ok((OwnedFd::from(socket).into(), file))
}

/// A sentence for the log if others could put a socket of theirs in the place of this one.
#[must_use]
pub fn directory_warning(path: &Path) -> Option<String> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mode = fs::metadata(directory).ok()?.mode();
    let open = mode & 0o022 != 0 && mode & 0o1000 == 0;
    open.then(|| {
        format!(
            "the directory of unix:{} has mode {:04o}: others may replace the socket; use a directory that only weir's \
             user may write to",
            path.display(),
            mode & 0o7777
        )
    })
}

/// Makes the directory if there is none. It lets in whom the socket lets in: 0700, 0750 with a socket for the group,
/// 0755 with a socket for all. A directory that is there stays as it is.
fn make_directory(directory: &Path, socket_mode: u32, group: Option<u32>) -> io::Result<()> {
    if directory.exists() {
        return Ok(());
    }
    if let Some(parent) = directory.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent)?;
    }
    match fs::DirBuilder::new().mode(0o700).create(directory) {
        // Another process was faster: it is there.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        outcome => outcome?,
    }
    std::os::unix::fs::chown(directory, None, group)?;
    let mode = match socket_mode {
        mode if mode & 0o002 != 0 => 0o755,
        mode if mode & 0o020 != 0 => 0o750,
        _ => 0o700,
    };
    fs::set_permissions(directory, fs::Permissions::from_mode(mode))
}

/// Holds the directory's advisory lock until dropped.
fn lock(directory: &Path) -> Result<OwnedFd, String> {
    let failed = |error: rustix::io::Errno| format!("the directory {}: {error}", directory.display());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let handle = rustix::fs::openat(CWD, directory, flags, Mode::empty()).map_err(failed)?;
    let until = Instant::now() + LOCK_PATIENCE;
    loop {
        match rustix::fs::flock(&handle, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(handle),
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(format!("another process holds a lock on the directory {}", directory.display()));
            }
            Err(error) => return Err(failed(error)),
        }
    }
}

/// Makes the path free, if what is there is a socket that nobody listens on.
fn remove_stale(path: &Path) -> Result<(), String> {
    let file = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.to_string()),
        Ok(file) => file,
    };
    if !file.file_type().is_socket() {
        return Err("a file that is not a socket is in the way; weir does not remove it".into());
    }
    let ask = || -> io::Result<()> {
        let probe = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
        probe.connect(&SockAddr::unix(path)?)
    };
    match ask().map_err(|error| (error.kind(), error)) {
        Err((io::ErrorKind::ConnectionRefused, _)) => {
            fs::remove_file(path).map_err(|error| format!("the stale socket cannot be removed: {error}"))
        }
        Err((io::ErrorKind::NotFound, _)) => Ok(()),
        // Connected, or its backlog is full (EAGAIN), or it is of another type.
        Ok(()) | Err((io::ErrorKind::WouldBlock, _)) => {
            Err("another process listens there (`ss -lxp` names it)".into())
        }
        Err((_, error)) => {
            Err(format!("a socket is in the way, and whether anybody listens is not known: {error}"))
        }
    }
}

/// Sets group and mode of the socket just bound. It is opened without following links and checked to be a socket of
/// weir's own user, so that in a careless directory no other file can be slipped in.
fn set_permissions(path: &Path, mode: u32, group: Option<u32>) -> io::Result<SocketFile> {
    let handle =
        rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let stat = rustix::fs::fstat(&handle)?;
    let is_socket = rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Socket;
    if !is_socket || stat.st_uid != rustix::process::geteuid().as_raw() {
        return Err(io::Error::other("the file was replaced by somebody else"));
    }
    if let Some(group) = group {
        let group = rustix::fs::Gid::from_raw(group);
        rustix::fs::chownat(&handle, "", None, Some(group), AtFlags::EMPTY_PATH)?;
    }
    // There is no chmod of an O_PATH descriptor; the name of the descriptor itself leads to the same file.
    let own_name = format!("/proc/self/fd/{}", handle.as_raw_fd());
    fs::set_permissions(own_name, fs::Permissions::from_mode(mode))?;
    // The field widths of `stat` differ between platforms; std's are one.
    let file = fs::symlink_metadata(path)?;
    Ok(SocketFile { path: path.to_path_buf(), device: file.dev(), inode: file.ino() })
}

/// A group's number, from a number or a name of /etc/group (other directories of groups are not asked).
fn group_id(group: &str) -> Result<u32, String> {
    if let Ok(number) = group.parse() {
        return Ok(number);
    }
    let groups = fs::read_to_string("/etc/group").map_err(|error| format!("/etc/group: {error}"))?;
    let entry = groups.lines().map(|line| line.split(':')).find_map(|mut fields| {
        let found = fields.next() == Some(group);
        found.then(|| fields.nth(1).and_then(|number| number.parse().ok())).flatten()
    });
    entry.ok_or_else(|| format!("/etc/group has no group `{group}`; a number is taken too"))
}
