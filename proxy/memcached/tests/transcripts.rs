//! Golden transcripts: `tests/transcripts/*.txt` say what the decoder makes of client bytes.
//!
//! A file holds blocks of `>` lines (bytes; escapes `\r \n \t \\ \xNN`, repetition `{251*k}`) followed by `<` lines (the
//! steps expected). `#` starts a comment. Every block is decoded whole and byte by byte. With `WEIR_BLESS=1` the
//! expectations are rewritten instead: read the difference before committing it.

use std::fs;
use std::path::Path;

use weir_memcached::{DecodeLimits, Meta, Request, RequestDecoder, Step};

/// Values over 100 bytes are refused here, so that transcripts can show it.
const LIMITS: DecodeLimits = DecodeLimits { line: 20_000, value: 100 };

#[test]
fn transcripts() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let bless = std::env::var_os("WEIR_BLESS").is_some();
    let mut files = 0;
    let mut failures = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder of transcripts") {
        let path = entry.expect("an entry of the folder").path();
        let text = fs::read_to_string(&path).expect("a transcript");
        let actual = replay(&text);
        files += 1;
        if bless {
            fs::write(&path, &actual).expect("a writable transcript");
        } else if actual != text {
            let wrong = actual.lines().zip(text.lines()).position(|(one, other)| one != other);
            let at = wrong.unwrap_or(actual.lines().count().min(text.lines().count()));
            let (got, expected) = (actual.lines().nth(at), text.lines().nth(at));
            failures.push(format!(
                "{}:{}\n  expected {expected:?}\n  got      {got:?}",
                path.display(),
                at + 1
            ));
        }
    }
    assert!(files >= 5, "only {files} transcripts found");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// The same text with the `<` lines that the decoder produces.
fn replay(text: &str) -> String {
    let mut out = String::new();
    let mut input = Vec::new();
    for line in text.lines().chain([""]) {
        if let Some(bytes) = line.strip_prefix("> ") {
            input.extend(unescape(bytes));
        } else if line.starts_with('<') {
            continue;
        } else if !input.is_empty() {
            let whole = steps(&input, input.len());
            assert_eq!(
                whole,
                steps(&input, 1),
                "byte by byte differs: {:?}",
                String::from_utf8_lossy(&input)
            );
            for step in whole {
                out.push_str("< ");
                out.push_str(&step);
                out.push('\n');
            }
            input.clear();
        }
        out.push_str(line);
        out.push('\n');
    }
    // The extra empty line that ends the last block.
    out.pop();
    out
}

fn steps(stream: &[u8], piece: usize) -> Vec<String> {
    let mut decoder = RequestDecoder::new(LIMITS);
    let mut steps: Vec<(String, usize)> = Vec::new();
    let (mut start, mut end) = (0, 0);
    while end < stream.len() {
        end = (end + piece).min(stream.len());
        while start < end {
            match decoder.decode(&stream[start..end]) {
                Step::Incomplete { .. } => break,
                Step::Request { request, consumed } => {
                    steps.push((describe(&request), consumed));
                    start += consumed;
                }
                Step::Reject { reply, consumed } => {
                    let mut text = format!("reject {} {}", reply.cause(), quote(reply.reply()));
                    if reply.close() {
                        text.push_str(" close");
                    }
                    if let Some(stale) = reply.stale_key() {
                        text.push_str(&format!(" stale={}", quote(&stream[start..][stale.range()])));
                    }
                    steps.push((text, consumed));
                    start += consumed;
                }
                Step::Swallowed { consumed } => {
                    steps.last_mut().expect("a refusal before").1 += consumed;
                    start += consumed;
                }
                Step::Binary { reply } => {
                    steps.push((format!("binary {}", quote(&reply)), end - start));
                    return labels(steps, None);
                }
            }
        }
    }
    let rest = (start < end || decoder.swallowing()).then(|| match decoder.swallowing() {
        true => "swallowing".to_owned(),
        false => format!("incomplete {}", quote(&stream[start..])),
    });
    labels(steps, rest)
}

fn labels(steps: Vec<(String, usize)>, rest: Option<String>) -> Vec<String> {
    let steps = steps.into_iter().map(|(text, bytes)| format!("{bytes:>4} {text}"));
    steps.chain(rest.map(|text| format!("     {text}"))).collect()
}

fn describe(request: &Request<'_>) -> String {
    let verb = request.verb().name();
    match request {
        Request::Retrieve(retrieve) => {
            let count = retrieve.keys.len();
            let mut keys: Vec<_> = retrieve.keys.clone().take(8).map(quote).collect();
            if count > keys.len() {
                keys.push("...".to_owned());
            }
            let exptime =
                retrieve.exptime.map(|time| format!(" exptime={}", quote(time))).unwrap_or_default();
            format!("{verb}{exptime} {count} keys: {}", keys.join(" "))
        }
        Request::Store(store) => format!(
            "{verb} {}{} head={} data={}",
            quote(store.key),
            if store.noreply { " noreply" } else { "" },
            quote(store.head),
            quote(store.data)
        ),
        Request::Mutate(mutate) => format!(
            "{verb} {}{} head={}",
            quote(mutate.key),
            if mutate.noreply { " noreply" } else { "" },
            quote(mutate.head)
        ),
        Request::Meta(meta) => describe_meta(meta),
        Request::FlushAll { delay, noreply } => format!("{verb} delay={delay} noreply={noreply}"),
        Request::Stats { args } => format!("{verb} {}", quote(args)),
        Request::Verbosity { noreply } => format!("{verb} noreply={noreply}"),
        Request::MetaNoop | Request::Version | Request::Quit | Request::Shutdown => verb.to_owned(),
    }
}

fn describe_meta(meta: &Meta<'_>) -> String {
    let mut loud = Vec::new();
    meta.write_loud(&mut loud);
    let mut scratch = [0; 256];
    let mut text = format!("{} {}", meta.verb.name(), quote(meta.key));
    for (flag, name) in [(meta.quiet, "quiet"), (meta.base64, "base64"), (meta.plain_read, "plain_read")] {
        if flag {
            text.push(' ');
            text.push_str(name);
        }
    }
    if meta.base64 {
        text.push_str(&format!(" stored={}", quote(meta.routing_key(&mut scratch))));
    }
    format!("{text} loud={}", quote(&loud))
}

fn quote(bytes: &[u8]) -> String {
    match bytes.len() {
        0..=80 => format!("\"{}\"", bytes.escape_ascii()),
        len => format!("\"{}...\"({len} bytes)", bytes[..8].escape_ascii()),
    }
}

fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match (byte, tail) {
            (b'\\', [b'r', ..]) => out.push(b'\r'),
            (b'\\', [b't', ..]) => out.push(b'\t'),
            (b'\\', [b'n', ..]) => out.push(b'\n'),
            (b'\\', [b'\\', ..]) => out.push(b'\\'),
            (b'\\', [b'x', high, low, ..]) => {
                let digits = [*high, *low];
                let digits = std::str::from_utf8(&digits).expect("two hexadecimal digits");
                out.push(u8::from_str_radix(digits, 16).expect("two hexadecimal digits"));
                rest = &tail[3..];
                continue;
            }
            (b'{', _) => {
                let end = tail.iter().position(|byte| *byte == b'}').expect("a closing brace");
                let inner = std::str::from_utf8(&tail[..end]).expect("N*text");
                let (count, part) = inner.split_once('*').expect("N*text");
                out.extend(part.repeat(count.parse().expect("a count")).bytes());
                rest = &tail[end + 1..];
                continue;
            }
            _ => {
                out.push(byte);
                continue;
            }
        }
        rest = &tail[1..];
    }
    out
}
