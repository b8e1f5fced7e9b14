//! Random commands to the real memcached and to the development store: the answers must be the same.
//!
//! Starts `memcached` from the PATH on a Unix socket in a temporary folder; without it the test says `SKIPPED`.
//! A failing seed is printed with the commands before it; `WEIR_SEED=N cargo test -p weir-devstore` replays it.
//! Not compared: CAS numbers as such (only whether they stay, grow or are 0), whole seconds of times to live where a
//! second passed between the two, and slab classes.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use weir_devstore::{Service, Then};
use weir_memcached::{DecodeLimits, RequestDecoder, Step};

/// Seeds of an ordinary run.
const SEEDS: u64 = 12;
/// Commands per seed.
const COMMANDS: usize = 1_500;

struct Real {
    child: Child,
    folder: PathBuf,
    stream: UnixStream,
}

/// Not `println!`: the test harness would keep it to itself.
fn skip(why: &str) {
    let _ = writeln!(std::io::stdout(), "SKIPPED: {why}");
}

impl Real {
    fn start() -> Option<Self> {
        let Ok(version) = Command::new("memcached").arg("-V").output() else {
            skip("memcached not found");
            return None;
        };
        // Other versions know other meta flags.
        if version.stdout.trim_ascii() != b"memcached 1.6.18" {
            skip("the development store answers as memcached 1.6.18, and another version is installed");
            return None;
        }
        let folder = std::env::temp_dir().join(format!("weir-devstore-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a temporary folder");
        let path = folder.join("socket");
        let user =
            if std::env::var("USER").as_deref() == Ok("root") || is_root() { "root" } else { "nobody" };
        let started = Command::new("memcached")
            .arg("-s")
            .arg(&path)
            .args(["-u", user, "-m", "64", "-t", "1"])
            // Its background threads hold items now and then, and arithmetic pads differently then.
            .args(["-o", "no_lru_maintainer,no_lru_crawler"])
            .stderr(Stdio::null())
            .spawn();
        let mut child = started.expect("memcached starts");
        for _ in 0..500 {
            if let Ok(stream) = UnixStream::connect(&path) {
                stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a time-out");
                return Some(Self { child, folder, stream });
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = child.kill();
        let _ = child.wait();
        panic!("memcached does not listen");
    }

    fn ask(&mut self, command: &[u8]) -> Vec<u8> {
        self.stream.write_all(&[command, b"mn\r\n"].concat()).expect("a writable connection");
        let (mut reply, mut piece) = (Vec::new(), [0; 65_536]);
        while !reply.ends_with(b"MN\r\n") {
            let count = self.stream.read(&mut piece).expect("an answer within the time-out");
            assert!(count > 0, "memcached closed after {}", show(command));
            reply.extend_from_slice(&piece[..count]);
        }
        reply.truncate(reply.len() - 4);
        reply
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

struct Ours {
    service: Service,
    decoder: RequestDecoder,
}

impl Ours {
    fn ask(&mut self, command: &[u8]) -> Vec<u8> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
        let (mut rest, mut out) = (command, Vec::new());
        while !rest.is_empty() {
            let consumed = match self.decoder.decode(rest) {
                Step::Request { request, consumed } => {
                    assert_eq!(self.service.answer(&request, now, &mut out), Then::Continue);
                    consumed
                }
                Step::Reject { reply, consumed } => {
                    self.service.refuse(reply, rest, now, &mut out);
                    consumed
                }
                Step::Swallowed { consumed } => consumed,
                other => panic!("{other:?} for {}", show(command)),
            };
            rest = &rest[consumed..];
        }
        out
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) % bound as u64) as usize
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// A command with `{cas}` where each server's own last CAS of the key is to stand.
struct Plan {
    key: &'static str,
    text: String,
}

const KEYS: [&str; 4] = ["a", "b", "c", "a.longer.key:with/signs"];
const KEYS_BASE64: [&str; 4] = ["YQ==", "Yg==", "Yw==", "YS5sb25nZXIua2V5OndpdGgvc2lnbnM="];
/// No minus sign in what is stored: 1.6.18 looks for one behind the end of a number of 20 digits.
const VALUES: [&str; 14] = [
    "",
    "0",
    "7",
    "99",
    "100",
    "x",
    "5 y",
    " 12",
    "18446744073709551615",
    "18446744073709551616",
    "3 ",
    "\r\nEND\r\n",
    "some longer text, with spaces",
    "00000009",
];
const TIMES: [&str; 8] = ["0", "0", "0", "100", "1000", "2591000", "-1", "4102444800"];
const DELTAS: [&str; 6] = ["0", "1", "9", "90", "18446744073709551615", "1000000"];
const CAS: [&str; 5] = ["{cas}", "{cas}", "{old}", "{new}", "0"];

fn plan(random: &mut Random) -> Plan {
    let number = random.below(KEYS.len());
    let key = KEYS[number];
    let value = match random.below(40) {
        0 => "v".repeat(random.below(3_000)),
        1 => "w".repeat(600_000),
        _ => random.pick(&VALUES).to_owned(),
    };
    let flags = random.pick(&["0", "0", "1", "4294967295", "4294967297"]);
    let time = random.pick(&TIMES);
    let noreply = if random.chance(10) { " noreply" } else { "" };
    let bytes = value.len();
    let text = match random.below(32) {
        0..=3 => format!("set {key} {flags} {time} {bytes}{noreply}\r\n{value}\r\n"),
        4 => format!("add {key} {flags} {time} {bytes}{noreply}\r\n{value}\r\n"),
        5 => format!("replace {key} {flags} {time} {bytes}{noreply}\r\n{value}\r\n"),
        6 => format!("append {key} {flags} {time} {bytes}{noreply}\r\n{value}\r\n"),
        7 => format!("prepend {key} {flags} {time} {bytes}{noreply}\r\n{value}\r\n"),
        8 | 9 => format!("cas {key} {flags} {time} {bytes} {}{noreply}\r\n{value}\r\n", random.pick(&CAS)),
        10 | 11 => {
            let verb = random.pick(&["incr", "incr", "decr"]);
            format!("{verb} {key} {}{noreply}\r\n", random.pick(&DELTAS))
        }
        12 => format!("delete {key}{noreply}\r\n"),
        13 => format!("touch {key} {time}{noreply}\r\n"),
        14 | 15 => format!("get {key} {} {key}\r\n", random.pick(&KEYS)),
        16 | 17 => format!("gets {key}\r\n"),
        18 => format!("{} {time} {key} {}\r\n", random.pick(&["gat", "gats"]), random.pick(&KEYS)),
        19 => format!("me {key}\r\n"),
        20 if random.chance(20) => "flush_all\r\n".to_owned(),
        20..=23 => meta(
            random,
            "mg",
            number,
            &["", "v", "N100", "R500", "T1000", "t", "c", "f", "s", "h", "l", "u"],
            None,
        ),
        24..=27 => {
            let flags = [
                "", "c", "F7", "T1000", "T0", "I", "C{cas}", "C{old}", "ME", "MA", "MP", "MR", "MS", "Mx",
                "s", "N9",
            ];
            meta(random, "ms", number, &flags, Some(&value))
        }
        28 | 29 => meta(random, "md", number, &["", "I", "T1000", "C{cas}", "C{new}", "C0", "s"], None),
        _ => {
            let flags = [
                "", "N0", "N100", "J5", "J12", "D1", "D9", "MI", "MD", "M-", "M+", "t", "c", "v", "C{cas}",
                "C{old}", "C0",
            ];
            meta(random, "ma", number, &flags, None)
        }
    };
    Plan { key, text }
}

// `ma` without `T`: when the number grows longer, 1.6.18 gives the new time to the item it has just replaced.

/// A meta command with some of these flags and those that all share.
fn meta(random: &mut Random, verb: &str, key: usize, own: &[&str], value: Option<&str>) -> String {
    let base64 = random.chance(20);
    let mut text = format!("{verb} {}", if base64 { KEYS_BASE64[key] } else { KEYS[key] });
    if let Some(value) = value {
        let _ = write!(text, " {}", value.len());
    }
    let mut flags = vec![if base64 { "b" } else { "" }];
    flags.extend((0..random.below(5)).map(|_| random.pick(own)));
    for (flag, percent) in
        [("k", 20), ("O12ab", 20), ("q", 15), ("P1", 5), ("!", 1), ("Dx", 1), ("Fx", 1), ("Tx", 1), ("Jx", 1)]
    {
        if random.chance(percent) {
            flags.push(flag);
        }
    }
    let first = random.below(flags.len());
    flags.rotate_left(first);
    let mut seen = Vec::new();
    for flag in flags {
        let Some(letter) = flag.chars().next() else { continue };
        // A flag given twice is refused by the codec; that is its own test.
        if !seen.contains(&letter) {
            seen.push(letter);
            let _ = write!(text, " {flag}");
        }
    }
    text.push_str("\r\n");
    if let Some(value) = value {
        let _ = write!(text, "{value}\r\n");
    }
    text
}

/// One server's last CAS of each key, and its answers with what may differ taken out.
#[derive(Default)]
struct View {
    cas: HashMap<&'static str, u64>,
}

impl View {
    fn fill(&self, plan: &Plan) -> String {
        let last = self.cas.get(plan.key).copied().unwrap_or(900_000_000);
        let pairs = [("{cas}", last), ("{old}", last.saturating_sub(1)), ("{new}", last + 1_000_000)];
        pairs.iter().fold(plan.text.clone(), |text, (name, cas)| text.replace(name, &cas.to_string()))
    }

    /// Remembers the CAS; says whether it stayed, grew, fell or is 0.
    fn cas(&mut self, key: &'static str, given: u64) -> &'static str {
        if given == 0 {
            return "0";
        }
        let last = self.cas.insert(key, given);
        match last.map(|last| given.cmp(&last)) {
            None => "first",
            Some(std::cmp::Ordering::Equal) => "same",
            Some(std::cmp::Ordering::Greater) => "grown",
            Some(std::cmp::Ordering::Less) => "fallen",
        }
    }

    fn normal(&mut self, plan: &Plan, reply: &[u8]) -> String {
        let reply = String::from_utf8_lossy(reply).into_owned();
        let mut out = String::new();
        for line in reply.split_inclusive("\r\n") {
            let words: Vec<&str> = line.trim_end().split(' ').collect();
            match words[..] {
                ["VALUE", key, flags, bytes, cas] if key == plan.key => {
                    let cas = cas.parse().expect("a CAS");
                    let _ = writeln!(out, "VALUE {key} {flags} {bytes} {}", self.cas(plan.key, cas));
                }
                ["VALUE", key, flags, bytes, _] => {
                    let _ = writeln!(out, "VALUE {key} {flags} {bytes} other");
                }
                ["HD" | "VA" | "EX" | "NS" | "NF" | "EN" | "ME", ..] => {
                    for (at, word) in words.iter().enumerate() {
                        let word = self.word(plan.key, at, word);
                        let _ = write!(out, "{word} ");
                    }
                    out.push('\n');
                }
                _ => out.push_str(line),
            }
        }
        out
    }

    fn word(&mut self, key: &'static str, at: usize, word: &str) -> String {
        let digits = |from: usize| word.get(from..).and_then(|rest| rest.parse::<i64>().ok());
        // To the nearest ten seconds.
        let coarse = |time: i64| if time < 0 { time } else { (time + 5) / 10 * 10 };
        match word.as_bytes() {
            [b'c', b'0'..=b'9', ..] if at > 0 => {
                format!("c:{}", self.cas(key, word[1..].parse().expect("a CAS")))
            }
            [b't', ..] if at > 0 && digits(1).is_some() => format!("t{}", coarse(digits(1).unwrap_or(0))),
            [b'l', b'0'..=b'9', ..] if at > 0 => "l".to_owned(),
            _ if word.starts_with("cas=") => {
                format!("cas:{}", self.cas(key, word[4..].parse().expect("a CAS")))
            }
            // 1.6.18 prints the seconds left with the wrong sign; later versions do not.
            _ if word.starts_with("exp=") => format!("exp={}", coarse(digits(4).unwrap_or(0).abs())),
            _ if word.starts_with("la=") || word.starts_with("cls=") => String::new(),
            _ => word.to_owned(),
        }
    }
}

fn show(bytes: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(bytes).chars().take(200).collect();
    text.escape_debug().to_string()
}

#[test]
fn random_commands_have_the_same_answers() {
    let Some(mut real) = Real::start() else { return };
    let seeds = match std::env::var("WEIR_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => seed..=seed,
        None => 1..=SEEDS,
    };
    for seed in seeds {
        run(&mut real, seed);
    }
}

fn run(real: &mut Real, seed: u64) {
    real.ask(b"flush_all\r\n");
    // More than the commands can fill: which items go first is not compared.
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
    let mut ours =
        Ours { service: Service::new(64 << 20, now), decoder: RequestDecoder::new(DecodeLimits::default()) };
    let (mut theirs, mut own) = (View::default(), View::default());
    let (mut random, mut history) = (Random(seed), Vec::new());
    for step in 0..COMMANDS {
        let plan = plan(&mut random);
        let (to_real, to_ours) = (theirs.fill(&plan), own.fill(&plan));
        let (real_reply, our_reply) = (real.ask(to_real.as_bytes()), ours.ask(to_ours.as_bytes()));
        let (expected, got) = (theirs.normal(&plan, &real_reply), own.normal(&plan, &our_reply));
        history.push(format!("{}  =>  {}", show(to_real.as_bytes()), show(&real_reply)));
        if expected != got {
            let last = history[history.len().saturating_sub(25)..].join("\n  ");
            panic!(
                "WEIR_SEED={seed}, command {step}\n  {last}\nmemcached: {}\nweir-devstore: {}",
                show(&real_reply),
                show(&our_reply)
            );
        }
    }
}
