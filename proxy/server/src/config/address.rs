//! `host:port` and `unix:/path` as people write them.

use std::net::IpAddr;
use weir_engine::settings::Address;

/// Longest path of a Unix socket: `sun_path` holds 108 bytes with the closing zero.
pub const UNIX_PATH_MAX: usize = 107;

/// Reads `host:port`, `[v6]:port` or `unix:/path`.
///
/// # Errors
/// Says what is missing, in words for the operator.
pub fn parse_address(text: &str) -> Result<Address, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        return parse_unix(path);
    }
    if text.starts_with('/') {
        return Err(format!("a socket path needs the prefix unix: (write \"unix:{text}\")"));
    }
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or("the bracket of the IPv6 address is not closed")?;
        if host.parse::<std::net::Ipv6Addr>().is_err() {
            return Err(format!("[{host}] is not an IPv6 address"));
        }
        (host, rest.strip_prefix(':').ok_or("a port must follow the bracket (\"[::1]:11211\")")?)
    } else {
        let (host, port) =
            text.rsplit_once(':').ok_or("expected host:port or unix:/path (a port is missing)")?;
        if host.contains(':') {
            return Err("write an IPv6 address in brackets (\"[::1]:11211\")".to_owned());
        }
        (host, port)
    };
    if host.is_empty() {
        return Err(format!("a host is missing before the port (\"127.0.0.1:{port}\")"));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    if !host.chars().all(allowed) || host.len() > 253 {
        return Err(format!("\"{host}\" is not a host name or an IP address"));
    }
    let port = match port.parse::<u16>() {
        Ok(number) if number > 0 && port.bytes().all(|byte| byte.is_ascii_digit()) => number,
        _ => return Err(format!("\"{port}\" is not a port (1 to 65535)")),
    };
    Ok(Address::Tcp { host: host.into(), port })
}

fn parse_unix(path: &str) -> Result<Address, String> {
    if !path.starts_with('/') {
        return Err(
            "the path of a Unix socket must be absolute (\"unix:/run/weir/memcached.sock\")".to_owned()
        );
    }
    if path.len() > UNIX_PATH_MAX {
        return Err(format!(
            "the path has {} bytes; a Unix socket's has at most {UNIX_PATH_MAX}",
            path.len()
        ));
    }
    if path.contains('\0') {
        return Err("the path holds a zero byte".to_owned());
    }
    Ok(Address::Unix { path: path.into() })
}

/// Whether only this machine can reach the address. A host name other than `localhost` counts as remote: what it
/// resolves to is not known here.
#[must_use]
pub fn is_local(address: &Address) -> bool {
    match address {
        Address::Unix { .. } => true,
        Address::Tcp { host, .. } => is_loopback_host(host),
        _ => false,
    }
}

/// Whether the host is a loopback IP address or `localhost`.
#[must_use]
pub fn is_loopback_host(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_three_forms() {
        for text in ["127.0.0.1:11211", "[::1]:11211", "cache-1.internal:11211", "unix:/run/a.sock"] {
            assert_eq!(parse_address(text).map(|a| a.to_string()).as_deref(), Ok(text));
        }
    }

    #[test]
    fn says_what_is_missing() {
        for (text, part) in [
            ("localhost", "port is missing"),
            ("localhost:", "not a port"),
            ("localhost:0", "not a port"),
            ("localhost:70000", "not a port"),
            ("localhost:+80", "not a port"),
            (":11211", "host is missing"),
            ("::1:11211", "brackets"),
            ("[::1]11211", "follow the bracket"),
            ("[nonsense]:1", "not an IPv6"),
            ("/run/a.sock", "prefix unix:"),
            ("unix:a.sock", "absolute"),
            ("a b:1", "not a host name"),
            ("", "port is missing"),
        ] {
            let error = parse_address(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn long_socket_paths_are_refused() {
        let path = format!("unix:/{}", "a".repeat(UNIX_PATH_MAX));
        assert!(parse_address(&path).is_err());
    }
}
