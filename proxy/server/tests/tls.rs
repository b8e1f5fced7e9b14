//! TLS between weir and its clients, with a memcached behind: the listener's certificate, clients' certificates, files that
//! change, handshakes that fail or never end, and large replies to a slow reader.

mod support;
mod support_tls;

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};
use support::{Memcached, Weir, eventually, file};
use support_tls::{Authority, TlsClient, client, connect};

const TLS: &str = "tls_cert = \"{dir}/weir.crt\"\ntls_key = \"{dir}/weir.key\"\n";

/// A weir in front of memcached whose listener speaks TLS, with more lines of the listener.
fn weir(server: &Memcached, ca: &Authority, more: &str) -> Weir {
    let pair = ca.vouch(&["127.0.0.1"]);
    let text = file(server, "", &format!("{TLS}{more}"));
    let files = [
        ("weir.crt", pair.cert.as_str()),
        ("weir.key", &pair.key),
        ("ca.pem", &ca.pem),
        ("weir.toml", &text),
    ];
    Weir::with(&files, &[], None)
}

fn ask(client: &mut TlsClient, request: &[u8], end: &[u8]) -> io::Result<Vec<u8>> {
    client.write_all(request)?;
    let (mut answer, mut chunk) = (Vec::new(), vec![0; 64 << 10]);
    while !answer.ends_with(end) {
        match client.read(&mut chunk)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length => answer.extend_from_slice(&chunk[..length]),
        }
    }
    Ok(answer)
}

fn handshakes(weir: &Weir, result: &str) -> f64 {
    weir.metric("weir_tls_handshakes_total", &[&format!("result=\"{result}\"")])
}

#[test]
fn clients_speak_tls_and_nothing_else() {
    let Some(server) = Memcached::start() else { return };
    let ca = Authority::new("own");
    let weir = weir(&server, &ca, "");
    let config = client(&ca, None);
    let mut one = connect(&config, weir.port);
    assert_eq!(ask(&mut one, b"set k 0 0 2\r\nhi\r\n", b"\r\n").expect("answered"), b"STORED\r\n");
    assert_eq!(ask(&mut one, b"get k\r\n", b"END\r\n").expect("answered"), b"VALUE k 0 2\r\nhi\r\nEND\r\n");

    // one megabyte both ways, in records of whatever size
    let value = vec![b'x'; 1_000_000];
    let set = [b"set big 0 0 1000000\r\n".as_slice(), &value, b"\r\n"].concat();
    assert_eq!(ask(&mut one, &set, b"\r\n").expect("answered"), b"STORED\r\n");
    let got = ask(&mut one, b"get big\r\n", b"END\r\n").expect("answered");
    assert!(got == [b"VALUE big 0 1000000\r\n".as_slice(), &value, b"\r\nEND\r\n"].concat(), "the value");

    // requests behind each other, and one who reads only later
    let mut slow = connect(&config, weir.port);
    for _ in 0..20 {
        slow.write_all(b"get big\r\n").expect("written");
    }
    slow.flush().expect("written");
    std::thread::sleep(Duration::from_millis(300));
    let answer = got.len();
    let mut all = vec![0; 20 * answer];
    slow.read_exact(&mut all).expect("every reply");
    assert!(all.chunks(answer).all(|reply| reply == got), "each is whole");

    // without TLS there is nothing to be had
    let mut plain = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], weir.port))).expect("connected");
    plain.write_all(b"get k\r\nget k\r\n").expect("written");
    let mut said = Vec::new();
    let _ = plain.read_to_end(&mut said);
    assert!(!said.windows(3).any(|three| three == b"END"), "{said:?}");
    // and one who trusts another CA leaves
    let stranger = client(&Authority::new("another"), None);
    assert!(ask(&mut connect(&stranger, weir.port), b"get k\r\n", b"END\r\n").is_err());
    eventually("all are counted", || {
        handshakes(&weir, "ok") == 2.0
            && handshakes(&weir, "not_tls") == 1.0
            && handshakes(&weir, "refused") == 1.0
    });
    assert_eq!(weir.metric("weir_client_closes_total", &["how=\"tls\""]), 2.0);
    weir.logs("the TLS handshake with a client failed");
}

#[test]
fn clients_show_a_certificate_where_one_is_asked_for() {
    let Some(server) = Memcached::start() else { return };
    let ca = Authority::new("own");
    let weir = weir(&server, &ca, "tls_client_ca = \"{dir}/ca.pem\"\n");
    let version = b"version\r\n";
    let good = ca.vouch(&["service"]);
    let mut one = connect(&client(&ca, Some(&good)), weir.port);
    assert!(ask(&mut one, version, b"\r\n").is_ok());
    assert!(ask(&mut connect(&client(&ca, None), weir.port), version, b"\r\n").is_err());
    let false_one = Authority::new("another").vouch(&["service"]);
    assert!(ask(&mut connect(&client(&ca, Some(&false_one)), weir.port), version, b"\r\n").is_err());
    eventually("both are counted", || handshakes(&weir, "certificate") == 2.0);
    assert_eq!(handshakes(&weir, "ok"), 1.0);
}

#[test]
fn files_are_read_again_at_a_reload() {
    let Some(server) = Memcached::start() else { return };
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let weir = weir(&server, &old, "");
    let mut kept = connect(&client(&old, None), weir.port);
    assert!(ask(&mut kept, b"version\r\n", b"\r\n").is_ok());

    // a key that is not the certificate's: nothing changes
    let pair = new.vouch(&["127.0.0.1"]);
    std::fs::write(weir.path("weir.crt"), &pair.cert).expect("written");
    let checked = weir.command(&["check", weir.path("weir.toml").to_str().expect("UTF-8")]);
    assert_eq!(checked.status.code(), Some(1), "{}", checked.stdout);
    assert!(
        checked.stdout.contains("listener.cache.tls_key: the key is not the certificate's"),
        "{}",
        checked.stdout
    );
    weir.hang_up();
    weir.logs("the key is not the certificate's");
    assert!(ask(&mut connect(&client(&old, None), weir.port), b"version\r\n", b"\r\n").is_ok());

    std::fs::write(weir.path("weir.key"), &pair.key).expect("written");
    weir.hang_up();
    eventually("the new certificate is shown", || {
        ask(&mut connect(&client(&new, None), weir.port), b"version\r\n", b"\r\n").is_ok()
    });
    assert!(ask(&mut connect(&client(&old, None), weir.port), b"version\r\n", b"\r\n").is_err());
    assert!(ask(&mut kept, b"version\r\n", b"\r\n").is_ok(), "the connection that was there stays");
}

#[test]
fn every_problem_of_the_files_is_told() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name).display().to_string();
    std::fs::write(path("empty"), "").expect("written");
    let pair = Authority::new("own").vouch(&["x"]);
    std::fs::write(path("weir.crt"), &pair.cert).expect("written");
    std::fs::write(path("bad"), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        .expect("written");
    let text = format!(
        "[pool.main]\nservers = [\"127.0.0.1:11211\"]\n[cluster.main]\ncontacts = [\"127.0.0.1:9042\"]\ntls = true\n\
         tls_ca = \"{bad}\"\ntls_client_cert = \"{empty}\"\ntls_client_key = \"{cert}\"\ntls_server_name = \"-\"\n\
         [cluster.other]\ncontacts = [\"127.0.0.1:9043\"]\ntls = true\n\
         [listener.a]\naddress = \"127.0.0.1:11311\"\npool = \"main\"\ntls_cert = \"{gone}\"\ntls_key = \"{empty}\"\n\
         tls_client_ca = \"{empty}\"\n\
         [listener.b]\naddress = \"127.0.0.1:9142\"\ncluster = \"main\"\ntls_key = \"{empty}\"\n\
         [listener.c]\naddress = \"127.0.0.1:9143\"\ncluster = \"other\"\ntls_handshake_timeout = \"2s\"\n",
        bad = path("bad"),
        cert = path("weir.crt"),
        empty = path("empty"),
        gone = path("gone")
    );
    let file = path("weir.toml");
    std::fs::write(&file, text).expect("written");
    let mut command = std::process::Command::new(support::WEIR);
    let found = support::process::run(command.args(["check", &file]), None, support::PATIENCE);
    assert_eq!(found.status.code(), Some(1));
    for (key, what) in [
        ("cluster.main.tls_ca", "holds a certificate that cannot be a CA"),
        ("cluster.main.tls_client_cert", "holds no certificate in PEM"),
        ("cluster.main.tls_client_key", "holds no private key in PEM"),
        ("cluster.main.tls_server_name", "is no host name and no address"),
        ("cluster.other.tls", "needs tls_ca beside it"),
        ("listener.a.tls_cert", "cannot be read"),
        ("listener.a.tls_key", "holds no private key in PEM"),
        ("listener.a.tls_client_ca", "holds no certificate in PEM"),
        ("listener.b.tls_key", "needs tls_cert beside it"),
        ("listener.c.tls_handshake_timeout", "has no effect without tls_cert"),
    ] {
        let told = found.stdout.lines().any(|line| line.contains(&format!("{key}: ")) && line.contains(what));
        assert!(told, "{key}: {what}:\n{}", found.stdout);
    }
}

#[test]
fn handshakes_that_do_not_end_are_given_up_and_keep_nobody_out_for_long() {
    let Some(server) = Memcached::start() else { return };
    let ca = Authority::new("own");
    let weir = weir(&server, &ca, "tls_handshake_timeout = \"1s\"\n");
    let at = SocketAddr::from(([127, 0, 0, 1], weir.port));
    // more than may be under way at once: those behind them wait for their turn
    let silent: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(at).expect("connected")).collect();
    eventually("they are under way", || weir.metric("weir_tls_handshakes_under_way", &[]) == 100.0);
    let begun = Instant::now();
    let config = client(&ca, None);
    let mut one = connect(&config, weir.port);
    // it may wait for as long as it takes to give the silent ones up, but may be given up with them
    let outcome = ask(&mut one, b"version\r\n", b"\r\n");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    drop(outcome);
    eventually("they are given up", || handshakes(&weir, "timeout") >= 100.0);
    for mut stream in silent {
        assert!(matches!(stream.read(&mut [0; 8]), Ok(0) | Err(_)), "closed");
    }
    let mut next = connect(&config, weir.port);
    assert!(ask(&mut next, b"version\r\n", b"\r\n").is_ok());
    assert_eq!(weir.metric("weir_tls_handshakes_under_way", &[]), 0.0);
}

#[test]
fn an_end_in_tls_is_answered_in_tls() {
    let Some(server) = Memcached::start() else { return };
    let ca = Authority::new("own");
    let weir = weir(&server, &ca, "");
    let config = client(&ca, None);
    // one who ends its session and still reads: every answer, then the end of the session, no reset
    let mut one = connect(&config, weir.port);
    one.write_all(b"version\r\n").expect("written");
    one.conn.send_close_notify();
    one.flush().expect("written");
    let mut said = Vec::new();
    one.read_to_end(&mut said).expect("a clean end of the session");
    assert!(said.starts_with(b"VERSION "), "{said:?}");
    // one who closes its socket, as most do: a loopback client's port is free at once
    let mut two = connect(&config, weir.port);
    assert!(ask(&mut two, b"version\r\n", b"\r\n").is_ok());
    two.sock.shutdown(Shutdown::Both).expect("closed");
    drop(two);
    eventually("it is reset", || weir.metric("weir_client_closes_total", &["how=\"reset\""]) == 1.0);
}
