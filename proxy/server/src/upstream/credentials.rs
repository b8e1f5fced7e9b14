//! The file with a user name and a password, one line: `user password`.

use super::{ConnectError, auth_failed};
use std::io;

/// Bytes of an auth file: a user name and a password. A longer file is refused.
const AUTH_FILE_MAX: usize = 4 << 10;

/// Read anew for every attempt, so that a changed password needs no restart.
pub(crate) async fn read(path: &str) -> Result<Vec<u8>, ConnectError> {
    let unreadable = |error: io::Error| auth_failed(format!("auth_file {path} cannot be read: {error}"));
    let path_owned = path.to_owned();
    let read = tokio::task::spawn_blocking(move || {
        use std::io::Read as _;
        let mut bytes = Vec::new();
        std::fs::File::open(path_owned)?.take(AUTH_FILE_MAX as u64 + 1).read_to_end(&mut bytes).map(|_| bytes)
    });
    let mut bytes =
        read.await.map_err(|_| auth_failed("auth_file: reading was given up"))?.map_err(unreadable)?;
    if bytes.len() > AUTH_FILE_MAX {
        return Err(auth_failed(format!("auth_file {path} is longer than {AUTH_FILE_MAX} bytes")));
    }
    // Only the end of the line goes: a password may end with a blank.
    while bytes.last().is_some_and(|byte| matches!(byte, b'\r' | b'\n')) {
        bytes.pop();
    }
    // The content goes onto the wire as a data block, so its length says where it ends whatever it holds.
    match bytes.iter().position(|byte| *byte == b' ') {
        Some(at) if at > 0 && !bytes.contains(&b'\n') => Ok(bytes),
        _ => Err(auth_failed(format!(
            "auth_file {path} does not hold one line: user, blank, password (a colon separates them in the server's own file only)"
        ))),
    }
}
