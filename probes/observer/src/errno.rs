//! Linux error numbers by name. Only names of the catalogue ([`weir_telemetry::probes::catalogue::ERRNOS`]): a label's
//! values are a closed list.

/// The name of a number; `other` for any that the catalogue does not name.
#[must_use]
pub fn name(errno: i32) -> &'static str {
    NAMES.iter().find(|(number, _)| *number == errno).map_or(OTHER, |(_, name)| name)
}

/// The name where there may be no number.
#[must_use]
pub fn name_if_known(errno: Option<i32>) -> &'static str {
    errno.map_or(UNKNOWN, name)
}

const OTHER: &str = "other";
const UNKNOWN: &str = "unknown";

const NAMES: &[(i32, &str)] = &[
    (libc::EPERM, "EPERM"),
    (libc::ENOENT, "ENOENT"),
    (libc::EINTR, "EINTR"),
    (libc::EIO, "EIO"),
    (libc::E2BIG, "E2BIG"),
    (libc::EBADF, "EBADF"),
    (libc::EAGAIN, "EAGAIN"),
    (libc::ENOMEM, "ENOMEM"),
    (libc::EACCES, "EACCES"),
    (libc::EBUSY, "EBUSY"),
    (libc::EEXIST, "EEXIST"),
    (libc::ENODEV, "ENODEV"),
    (libc::EINVAL, "EINVAL"),
    (libc::ENFILE, "ENFILE"),
    (libc::EMFILE, "EMFILE"),
    (libc::ENOSPC, "ENOSPC"),
    (libc::ENOSYS, "ENOSYS"),
    (libc::ENOTSOCK, "ENOTSOCK"),
    (libc::EPROTOTYPE, "EPROTOTYPE"),
    (libc::EOPNOTSUPP, "EOPNOTSUPP"),
    (libc::EAFNOSUPPORT, "EAFNOSUPPORT"),
    (libc::EADDRINUSE, "EADDRINUSE"),
    (libc::EADDRNOTAVAIL, "EADDRNOTAVAIL"),
    (libc::ENETDOWN, "ENETDOWN"),
    (libc::ENETUNREACH, "ENETUNREACH"),
    (libc::ECONNABORTED, "ECONNABORTED"),
    (libc::ECONNRESET, "ECONNRESET"),
    (libc::ENOBUFS, "ENOBUFS"),
    (libc::EISCONN, "EISCONN"),
    (libc::ETIMEDOUT, "ETIMEDOUT"),
    (libc::ECONNREFUSED, "ECONNREFUSED"),
    (libc::EHOSTUNREACH, "EHOSTUNREACH"),
    (libc::EALREADY, "EALREADY"),
    (libc::EINPROGRESS, "EINPROGRESS"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use weir_telemetry::probes::catalogue::ERRNOS;

    #[test]
    fn the_names_are_those_of_the_catalogue() {
        let ours: Vec<&str> = NAMES.iter().map(|(_, name)| *name).chain([OTHER, UNKNOWN]).collect();
        assert_eq!(ours, ERRNOS);
        assert_eq!(
            (name(98), name(99), name(0), name(-1)),
            ("EADDRINUSE", "EADDRNOTAVAIL", "other", "other")
        );
        assert_eq!((name_if_known(Some(1)), name_if_known(None)), ("EPERM", "unknown"));
    }
}
