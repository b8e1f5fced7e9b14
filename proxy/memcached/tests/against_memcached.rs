//! The words of refusals and the rule of quiet commands, compared with the real memcached.
//!
//! Starts `memcached` from the PATH on a Unix socket in a temporary folder; without it the tests say `SKIPPED`.
#![allow(clippy::disallowed_types, reason = "this test talks to a real server; the codec itself has no I/O")]
#![allow(clippy::disallowed_methods, reason = "waits for that server to start")]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use weir_memcached::{LineKind, Meta, ReplyHead, Request, RequestDecoder, Step, parse_reply, text};

struct Server {
    child: Child,
    folder: PathBuf,
}

impl Server {
    /// `None` when there is no memcached to start.
    fn start(name: &str) -> Option<Server> {
        let folder = std::env::temp_dir().join(format!("weir-memcached-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a temporary folder");
        let spawned = Command::new("memcached")
            .arg("-s")
            .arg(folder.join("socket"))
            .args(["-u", "root", "-m", "16", "-t", "1"])
            .stderr(Stdio::null())
            .spawn();
        let Ok(child) = spawned else {
            // Not `println!`: the test harness would keep it to itself.
            let _ = std::io::stdout().write_all(b"SKIPPED: memcached not found\n");
            let _ = std::fs::remove_dir_all(folder);
            return None;
        };
        let server = Server { child, folder };
        for _ in 0..500 {
            if UnixStream::connect(server.folder.join("socket")).is_ok() {
                return Some(server);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("memcached does not listen");
    }

    /// Everything the server answers to `bytes` and a final `mn`; stops early when it closes.
    fn ask(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = UnixStream::connect(self.folder.join("socket")).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a time-out");
        stream.write_all(&[bytes, b"mn\r\n"].concat()).expect("a writable connection");
        let mut answer = Vec::new();
        let mut piece = [0; 4096];
        while !answer.ends_with(b"MN\r\n") {
            match stream.read(&mut piece).expect("an answer within the time-out") {
                0 => break,
                count => answer.extend_from_slice(&piece[..count]),
            }
        }
        answer
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// What weir answers itself; a command that it would forward ends the comparison.
fn refusals(stream: &[u8]) -> Vec<u8> {
    let mut decoder = RequestDecoder::default();
    let mut answer = Vec::new();
    let mut rest = stream;
    while !rest.is_empty() {
        let consumed = match decoder.decode(rest) {
            Step::Reject { reply, consumed } => {
                answer.extend_from_slice(reply.reply());
                if reply.close() {
                    return answer;
                }
                consumed
            }
            Step::Swallowed { consumed } => consumed,
            Step::Request { request: Request::MetaNoop, consumed } => {
                answer.extend_from_slice(text::META_NOOP);
                consumed
            }
            Step::Request { request: Request::Shutdown, consumed } => {
                answer.extend_from_slice(text::SHUTDOWN_DISABLED);
                consumed
            }
            other => panic!("{} is not refused: {other:?}", stream.escape_ascii()),
        };
        rest = &rest[consumed..];
    }
    answer
}

/// Answered alike to the last byte.
fn same_lines() -> Vec<Vec<u8>> {
    let lines = [
        "",
        " ",
        "foo",
        "GET a",
        "get",
        "get ",
        "gets",
        "gat",
        "gat 1",
        "gat 1 ",
        "gat x a",
        "gats x a",
        "get\ta",
        "m",
        "mx a",
        "mnx",
        "quitx",
        "misbehave",
        "debugtime p",
        // Stores without a readable length, or with their data.
        "set",
        "set a",
        "set a 0 0",
        "cas a 0 0",
        "set a noreply",
        "set a 0 0 x",
        "set a 0 0 -1",
        "set a 0 0 2147483646",
        "set a 0 0 0x1",
        "set a 0 0 x noreply",
        "set a 0 0 noreply",
        "set a 0 0 1\r\nxx",
        "set a 0 0 1\r\nxxxxmn",
        "set a 0 0 3\r\nx\r\nmn",
        "set a 0 0 5 noreply\r\nabcdefghij",
        "set a 0 0 1 nope\r\nxxx",
        // Others.
        "incr",
        "incr a",
        "incr a x",
        "incr a -1",
        "incr a 18446744073709551616",
        "incr a 1 2 3",
        "incr a 1 2 noreply",
        "incr a x noreply",
        "incr a noreply",
        "decr a",
        "decr a x",
        "touch",
        "touch a",
        "touch a x",
        "touch a noreply",
        "touch a 1 2 3",
        "delete",
        "delete a 1",
        "delete a 00",
        "delete a 0 0",
        "delete a 1 noreply",
        "delete a b c d e",
        "delete a 0 0 noreply",
        "flush_all x",
        "flush_all x noreply",
        "flush_all 1 2 3",
        "verbosity",
        "verbosity x",
        "verbosity noreply",
        "verbosity 0 0 0",
        "verbosity foo bar my",
        "shutdown",
        "shutdown graceful",
        "shutdown noreply",
        // Meta.
        "mg",
        "mg ",
        "ms",
        "md",
        "ma",
        "me",
        "ms a",
        "ms a x",
        "ms a -1",
        "ms a S1",
        "ms a 2147483646",
        "mg a v v",
        "mg a q q",
        "md a v v",
        "ma a q q",
        "mg YQ b",
        "md YQ b",
        "ma YQ b",
        "me YQ b",
        "mg ==== b",
        "ms YQ 1 b\r\nx",
        "ms a 1 v v\r\nx",
        "ms a 1\r\nxxx",
        "ms a 1 q\r\nxxx",
        "mg a 1 2 3 4 5 6 7 8 9 0 a c d e f g h i",
        "md a 1 2 3 4 5 6 7 8 9 0 a c d e f g h i",
        "ma a 1 2 3 4 5 6 7 8 9 0 a c d e f g h i j k l m n o p",
        "mg a \u{e9}",
        // HTTP, where it closes and where not.
        "GET / HTTP/1.1",
        "x HTTP/1.1",
        "set a HTTP/1.1",
        "foo HTTP/1.1 bar",
    ];
    let mut lines: Vec<Vec<u8>> = lines.iter().map(|line| line.as_bytes().to_vec()).collect();
    let long = "k".repeat(251);
    for line in [
        "get K",
        "get a K b",
        "get a b K",
        "gets K",
        "gat 0 K",
        "gat x K",
        "incr K 1",
        "incr K x",
        "decr K 1",
        "touch K 1",
        "touch K x",
        "delete K",
        "delete K 1",
        "delete K noreply",
        "mg K",
        "mg K v v",
        "ms K",
        "md K",
        "ma K",
        "me K",
    ] {
        lines.push(line.replace('K', &long).into_bytes());
    }
    let big = "x".repeat(1024 * 1024 + 1);
    for line in [
        "set a 0 0 1048577\r\n",
        "add a 0 0 1048577\r\n",
        "set a 0 0 1048577 noreply\r\n",
        "ms a 1048577 q\r\n",
    ] {
        lines.push(format!("{line}{big}").into_bytes());
    }
    lines
}

/// Answered alike on the first line. After it memcached 1.6.18 reads the data block as a command, weir drops it.
const SAME_FIRST_LINE: [&str; 14] = [
    "set a x 0 1\r\nx",
    "set a -1 0 1\r\nx",
    "set a 0 x 1\r\nx",
    "set a 0 0 1 1 1\r\nx",
    "set a 0 0 1 nope noreply\r\nx",
    "cas a 0 0 1\r\nx",
    "cas a 0 0 1 x\r\nx",
    "cas a 0 0 1 -2\r\nx",
    "cas a 0 0 1 2 3 4\r\nx",
    "cas a 0 0 1 18446744073709551616\r\nx",
    "append a x 0 1\r\nx",
    "set K 0 0 1\r\nx",
    "ms K 1\r\nx",
    "ms a 1 2 3 4 5 6 7 8 9 0 a c d e f g h i\r\nx",
];

#[test]
fn refusals_have_memcached_words() {
    let Some(server) = Server::start("words") else { return };
    let mut wrong = Vec::new();
    let mut compare = |line: &[u8], first_line_only: bool| {
        let line = [line, b"\r\n"].concat();
        let cut = |answer: Vec<u8>| match answer.iter().position(|byte| *byte == b'\n') {
            Some(lf) if first_line_only => answer[..=lf].to_vec(),
            _ => answer,
        };
        let theirs = cut(server.ask(&line));
        let ours = cut(refusals(&[&line, b"mn\r\n".as_slice()].concat()));
        if ours != theirs {
            let shown = line[..line.len().min(60)].escape_ascii();
            wrong.push(format!("{shown}: weir {} memcached {}", ours.escape_ascii(), theirs.escape_ascii()));
        }
    };
    for line in same_lines() {
        compare(&line, false);
    }
    for line in SAME_FIRST_LINE {
        compare(line.replace('K', &"k".repeat(251)).as_bytes(), true);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A value that is too large takes the old item with it: what `Rejection::stale_key` reports.
#[test]
fn too_large_a_value_deletes_the_old_one() {
    let Some(server) = Server::start("stale") else { return };
    let big = "x".repeat(1024 * 1024 + 1);
    for (store, gone) in [
        ("set a 0 0 1048577\r\n", true),
        ("set a 0 0 1048577 noreply\r\n", true),
        ("ms a 1048577\r\n", true),
        ("ms YQ== 1048577 MA b\r\n", true),
        ("add a 0 0 1048577\r\n", false),
        ("append a 0 0 1048577\r\n", false),
        ("cas a 0 0 1048577 1\r\n", false),
    ] {
        server.ask(b"set a 0 0 1\r\nx\r\n");
        server.ask(format!("{store}{big}\r\n").as_bytes());
        assert_eq!(server.ask(b"mg a\r\n"), if gone { b"EN\r\nMN\r\n" } else { b"HD\r\nMN\r\n" }, "{store}");
        let Step::Reject { reply, .. } = RequestDecoder::default().decode(store.as_bytes()) else {
            panic!("{store} is not refused");
        };
        assert_eq!(reply.stale_key().is_some(), gone, "{store}");
    }
}

#[test]
fn quiet_answers_are_hidden_as_memcached_hides_them() {
    let Some(server) = Server::start("quiet") else { return };
    let setup = b"set n 0 0 1\r\n5\r\nset w 0 0 1\r\nx\r\nmd none\r\n";
    for command in [
        "mg n q",
        "mg n v q",
        "mg none q",
        "mg none q O1 k",
        "mg n v v q",
        "mg n N q",
        "ms n 1 q\r\n1",
        "ms n 1 ME q\r\n1",
        "ms none 1 MR q\r\n1",
        "ms n 1 C9999999 q\r\n1",
        "ms none 1 C9999999 q\r\n1",
        "ms n 1 q O7 k c\r\n1",
        "md n q",
        "md none q",
        "md n q C9999999",
        "md n q I T30",
        "md none q O1",
        "ma n q",
        "ma n q v",
        "ma none q",
        "ma n q C9999999",
        "ma w q",
        "ma n MX q",
        "me n q",
        "me none q",
    ] {
        let bytes = format!("{command}\r\n");
        server.ask(setup);
        let quiet = server.ask(bytes.as_bytes());
        server.ask(setup);
        let Step::Request { request: Request::Meta(meta), .. } =
            RequestDecoder::default().decode(bytes.as_bytes())
        else {
            // Refused by weir itself, with words that the other test compares.
            assert!(quiet.starts_with(b"CLIENT_ERROR"), "{command}");
            continue;
        };
        let mut loud = Vec::new();
        meta.write_loud(&mut loud);
        let loud = server.ask(&loud);
        let expected = if hides(&meta, &loud) { b"MN\r\n".to_vec() } else { loud };
        assert_eq!(without_figures(&quiet), without_figures(&expected), "{command}");
    }
}

fn hides(meta: &Meta<'_>, answer: &[u8]) -> bool {
    let line_len = match parse_reply(answer) {
        ReplyHead::MetaValue { line_len, .. } | ReplyHead::Line { line_len, .. } => line_len,
        other => panic!("{other:?}"),
    };
    meta.hides(&answer[..line_len - 2])
}

/// The promise that a shared connection stands on: whatever the decoder lets through is answered exactly once.
#[test]
fn what_is_forwarded_is_answered_once() {
    let Some(server) = Server::start("once") else { return };
    const WORDS: &str = "a n w YQ== noreply 0 1 2 3 -1 01 18446744073709551615 4294967296 -9223372036854775808 \
        9223372036854775807 nope q v k b s t c f h l u x O1 O0123456789012345678901234567890123 T30 T \
        Tx N30 R30 C1 E5 F9 MA ME MX I D2 !";
    const VERBS: &str = "set add replace append prepend cas incr decr delete touch mg ms md ma me";
    let words: Vec<&str> = WORDS.split(' ').collect();
    let verbs: Vec<&str> = VERBS.split(' ').collect();
    // A fixed sequence (xorshift): the same lines in every run.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut pick = |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % bound as u64) as usize
    };
    let mut forwarded = [0; weir_memcached::Verb::COUNT];
    for _ in 0..60_000 {
        let mut line = verbs[pick(verbs.len())].to_owned();
        for _ in 0..pick(7) {
            line.push_str(if pick(9) == 0 { "  " } else { " " });
            // Every other word is a number, so that enough stores are valid.
            let (first, count) = if pick(2) == 0 { (5, 10) } else { (0, words.len()) };
            line.push_str(words[first + pick(count)]);
        }
        let bytes = format!("{line}\r\nx\r\n\r\n");
        let Step::Request { request, .. } = RequestDecoder::default().decode(bytes.as_bytes()) else {
            continue;
        };
        let mut forward = Vec::new();
        match &request {
            Request::Store(store) => forward = [store.head, b"\r\n", store.data].concat(),
            Request::Mutate(mutate) => forward = [mutate.head, b"\r\n"].concat(),
            Request::Meta(meta) => meta.write_loud(&mut forward),
            other => panic!("{other:?}"),
        }
        forwarded[request.verb().index()] += 1;
        let answer = server.ask(&forward);
        let (length, known) = match parse_reply(&answer) {
            ReplyHead::MetaValue { bytes, line_len } => (line_len + bytes as usize + 2, true),
            ReplyHead::Line { kind, line_len, .. } => {
                (line_len, kind != LineKind::Other && kind != LineKind::Mn)
            }
            _ => (0, false),
        };
        assert!(known && &answer[length..] == b"MN\r\n", "{line}: {}", answer.escape_ascii());
    }
    for verb in verbs {
        let index = weir_memcached::Verb::ALL.iter().position(|known| known.name() == verb);
        assert!(
            index.is_some_and(|index| forwarded[index] >= 20),
            "too few lines of {verb} were let through"
        );
    }
}

/// CAS numbers grow from one ask to the next, so figures are left out.
fn without_figures(answer: &[u8]) -> String {
    String::from_utf8_lossy(answer).replace(|letter: char| letter.is_ascii_digit(), "")
}
