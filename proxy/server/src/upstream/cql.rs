//! A connection to a node that speaks CQL: dialled, opened in the lane's version of the native protocol, signed in
//! where the node asks for it, registered for events where the engine wants to hear of them.
//!
//! Everything is one question and one answer, and exactly the answer's bytes are read; events may come in between, and
//! are kept for the engine ([`Connected::early`]). In v5 the answer to STARTUP is bare, everything after it is in
//! segments (native protocol v5, section 2.2).
//!
//! Bounds: [`ANSWER_MAX`] for an answer, [`EARLY_MAX`] for events meanwhile, [`ROUNDS_MAX`] challenges.

mod options;
mod shard;
mod sign_in;

pub use options::supported;

use super::{ConnectError, Connected, Connecting, auth_failed, dial, failed};
use crate::tls::ClientSide;
use shard::Told;
use sign_in::is_about_credentials;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use weir_cql::envelope::{EnvelopeLimits, Flags, HEADER_LEN, Header, Opcode, Side, Step, read_header};
use weir_cql::request::{Register, Startup};
use weir_cql::response::{ErrorBody, ErrorCode, Prefix, tablet};
use weir_cql::segment::SegmentStep;
use weir_cql::{Cursor, Malformed, SegmentDecoder, StreamId, Version, own, write_segments};
use weir_engine::cql::LaneInfo;
use weir_engine::cql::credentials::Verdict;
use weir_engine::cql::signin::Secret;
use weir_engine::settings::{Address, ClusterSettings};
use weir_engine::units::Span;
use weir_telemetry::OpenResult;

/// Bytes of one answer of the handshake.
const ANSWER_MAX: u32 = 64 << 10;
/// Bytes of events that come during the handshake.
const EARLY_MAX: usize = 256 << 10;
/// Answers to AUTH_CHALLENGE: PLAIN needs none.
const ROUNDS_MAX: usize = 2;
/// The oldest version of CQL that every server takes.
const CQL_VERSION: &str = "3.0.0";
/// What weir wants to hear of.
const EVENTS: [&str; 3] = ["SCHEMA_CHANGE", "STATUS_CHANGE", "TOPOLOGY_CHANGE"];

/// Starts an attempt. `tablets`: a node that can is to tell tablets in its answers.
#[must_use]
pub fn start(info: LaneInfo, tls: Option<ClientSide>, tablets: bool, timeout: Span) -> Connecting {
    Connecting::within(timeout, async move {
        let mut stream = match info.shard {
            Some(shard) => shard::dial(&info.address, shard, tls.as_ref()).await?,
            None => dial(&info.address, tls.as_ref()).await?,
        };
        let greeting = Handshake::new(&mut stream, info.version).run(&info, tablets).await?;
        let Greeting { early, shard, scylla, tablets } = greeting;
        Ok(Connected { stream, early, shard, scylla, tablets })
    })
}

/// Asks a node whether it takes these credentials, on a connection that is closed again. Bound: the cluster's
/// `connect_timeout`.
pub async fn check_credentials(
    contact: &Address,
    cluster: &ClusterSettings,
    tls: Option<&ClientSide>,
    secret: &Secret,
) -> Verdict {
    let version = cluster.newest_version.min(Version::V4); // no segments are needed for this
    let attempt = async {
        let mut stream = dial(contact, tls).await?;
        Handshake::new(&mut stream, version).check(secret).await
    };
    let outcome = super::within(cluster.connect_timeout, attempt).await;
    outcome.unwrap_or_else(|error| {
        Verdict::Unknown(
            format!("weir: {contact} could not be asked about the credentials: {}", error.what).into(),
        )
    })
}

/// One handshake.
struct Handshake<'s, S> {
    stream: &'s mut S,
    version: Version,
    /// v5, once STARTUP is answered.
    segments: Option<SegmentDecoder>,
    /// Envelopes out of segments that were not asked for yet.
    plain: Vec<u8>,
    /// Events, as envelopes.
    early: Vec<u8>,
}

/// What was heard before the first request.
#[derive(Debug)]
struct Greeting {
    /// The events, as they are on the wire.
    early: Vec<u8>,
    /// The shard of the node that serves the connection, where it was asked and tells.
    shard: Option<u16>,
    /// Whether the node announces what only Scylla has; `None` where it was not asked.
    scylla: Option<bool>,
    /// It agreed to tell tablets.
    tablets: bool,
}

/// One answer.
struct Answer {
    header: Header,
    body: Vec<u8>,
}

impl Answer {
    /// Code and words of an ERROR.
    fn error(&self) -> Option<(ErrorCode, String)> {
        let Answer { header, body } = self;
        let prefix = Prefix::locate(header.version, header.flags.without(Flags::COMPRESSED), body).ok()?;
        let cursor = &mut Cursor::within(body, prefix.message);
        let error = ErrorBody::read(body, cursor, header.version).ok()?;
        Some((error.code, String::from_utf8_lossy(error.message).into_owned()))
    }
}

impl<'s, S: AsyncRead + AsyncWrite + Unpin> Handshake<'s, S> {
    fn new(stream: &'s mut S, version: Version) -> Handshake<'s, S> {
        Handshake { stream, version, segments: None, plain: Vec::new(), early: Vec::new() }
    }

    /// Everything up to the first request. `tablets`: it is to tell them if it can.
    async fn run(mut self, info: &LaneInfo, tablets: bool) -> Result<Greeting, ConnectError> {
        // that it is Scylla, one connection of each node asks: they would all hear the same
        let asks = info.tells_shard || info.registers;
        let told = if asks { self.told().await? } else { Told::default() };
        let shard = told.shard.filter(|_| info.tells_shard);
        let scylla = info.registers.then_some(told.scylla);
        // answers in v3 have no room for them
        let tablets = tablets && told.tablets && self.version >= Version::V4;
        let answer = self.start(tablets).await?;
        if self.version >= Version::V5 {
            self.segments = Some(SegmentDecoder::new(false, ANSWER_MAX));
        }
        match answer.header.opcode {
            // its requests are to be carried out under its own rights, not under everybody's
            Opcode::Ready if info.principal.is_some() => {
                return Err(unreadable("the node asks for no password: clients = \"own\" cannot be had"));
            }
            Opcode::Ready => {}
            Opcode::Authenticate => {
                let token = self.token(&answer, info).await?;
                self.sign_in(&token).await?;
            }
            other => return Err(unexpected(other, "STARTUP")),
        }
        if info.registers {
            let answer = self.ask(Opcode::Register, |out| Register::write(EVENTS, out)).await?;
            if answer.header.opcode != Opcode::Ready {
                return Err(unexpected(answer.header.opcode, "REGISTER"));
            }
        }
        self.early.extend_from_slice(&self.plain);
        if self.segments.is_none() || self.early.is_empty() {
            return Ok(Greeting { early: self.early, shard, scylla, tablets });
        }
        let mut wrapped = Vec::with_capacity(self.early.len() + 16);
        match write_segments(&self.early, false, &mut wrapped) {
            Ok(whole) if whole == self.early.len() => Ok(Greeting { early: wrapped, shard, scylla, tablets }),
            Ok(_) => Err(unreadable("an event that is not whole")),
            Err(reason) => Err(unreadable(reason.label())),
        }
    }

    async fn start(&mut self, tablets: bool) -> Result<Answer, ConnectError> {
        let options = [
            ("CQL_VERSION", CQL_VERSION),
            ("DRIVER_NAME", "weir"),
            ("DRIVER_VERSION", env!("CARGO_PKG_VERSION")),
        ];
        let more = tablets.then_some((tablet::OPTION, ""));
        self.ask(Opcode::Startup, |out| Startup::write(options.into_iter().chain(more), out)).await
    }

    /// One question; its answer, which is no ERROR.
    async fn ask(&mut self, opcode: Opcode, fill: impl FnOnce(&mut Vec<u8>)) -> Result<Answer, ConnectError> {
        let answer = self.exchange(opcode, fill).await?;
        if answer.header.opcode == Opcode::Error { Err(self.refused(opcode, &answer)) } else { Ok(answer) }
    }

    /// One question; its answer, whatever it is.
    async fn exchange(
        &mut self,
        opcode: Opcode,
        fill: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Answer, ConnectError> {
        let mut envelope = Vec::new();
        own::envelope(&mut envelope, self.version, StreamId(0), opcode, fill)
            .map_err(|reason| unreadable(reason.label()))?;
        let mut wire = envelope;
        if self.segments.is_some() {
            let plain = std::mem::take(&mut wire);
            write_segments(&plain, false, &mut wire).map_err(|reason| unreadable(reason.label()))?;
        }
        self.stream.write_all(&wire).await.map_err(|error| failed(&error))?;
        loop {
            let answer = self.read().await?;
            if answer.header.stream == StreamId::EVENT {
                if self.early.len() + answer.body.len() > EARLY_MAX {
                    return Err(unreadable("too many events before the first request"));
                }
                answer.header.write(&mut self.early);
                self.early.extend_from_slice(&answer.body);
                continue;
            }
            return Ok(answer);
        }
    }

    /// Reads one envelope and no byte more (in v5, no segment more).
    async fn read(&mut self) -> Result<Answer, ConnectError> {
        if self.segments.is_some() {
            return self.read_from_segments().await;
        }
        let mut head = [0; HEADER_LEN];
        self.exactly(&mut head).await?;
        let header = self.header(&head)?;
        let mut body = vec![0; header.body_len as usize];
        self.exactly(&mut body).await?;
        Ok(Answer { header, body })
    }

    async fn read_from_segments(&mut self) -> Result<Answer, ConnectError> {
        loop {
            if let Some(head) = self.plain.get(..HEADER_LEN) {
                let header = self.header(head)?;
                let whole = header.envelope_len();
                if let Some(envelope) = self.plain.get(..whole) {
                    let body = envelope[HEADER_LEN..].to_vec();
                    self.plain.drain(..whole);
                    return Ok(Answer { header, body });
                }
            }
            self.read_segment().await?;
        }
    }

    async fn read_segment(&mut self) -> Result<(), ConnectError> {
        let mut wire = Vec::new();
        loop {
            let Some(segments) = &mut self.segments else { return Ok(()) };
            match segments.decode(&wire, &mut self.plain) {
                SegmentStep::Segment { .. } => return Ok(()),
                SegmentStep::Malformed(reason) => return Err(unreadable(reason.label())),
                SegmentStep::Incomplete { needed } => {
                    let had = wire.len();
                    wire.resize(needed, 0);
                    self.exactly(&mut wire[had..]).await?;
                }
            }
        }
    }

    async fn exactly(&mut self, into: &mut [u8]) -> Result<(), ConnectError> {
        self.stream.read_exact(into).await.map(|_| ()).map_err(|error| {
            if error.kind() == io::ErrorKind::UnexpectedEof {
                unreadable("the node closed the connection")
            } else {
                failed(&error)
            }
        })
    }

    fn header(&self, head: &[u8]) -> Result<Header, ConnectError> {
        let limits = EnvelopeLimits { body: ANSWER_MAX, ..EnvelopeLimits::default() };
        match read_header(head, Side::Server, limits) {
            Step::Envelope { header } => Ok(header),
            // a node that is too old answers in its own version
            Step::Malformed { reason: Malformed::OtherVersion, .. } => Err(ConnectError {
                result: OpenResult::Error,
                what: format!(
                    "the node answers in a version of the native protocol that weir does not speak; asked was {}",
                    self.version.name()
                ),
            }),
            Step::Malformed { reason, .. } => Err(unreadable(reason.label())),
            Step::Incomplete { .. } | Step::Unsupported { .. } => Err(unreadable("no header of an answer")),
        }
    }

    fn refused(&self, asked: Opcode, answer: &Answer) -> ConnectError {
        let Some((code, text)) = answer.error() else { return unreadable("an ERROR that cannot be read") };
        let asked = asked.name();
        match code {
            code if is_about_credentials(code, &text) => {
                auth_failed(format!("the node refused the credentials: {text}"))
            }
            ErrorCode::PROTOCOL_ERROR
                if answer.header.version != self.version || text.contains("version") =>
            {
                let version = self.version.name();
                let what = format!(
                    "the node does not speak {version} (newest_version offers it to clients); it says: {text}"
                );
                ConnectError { result: OpenResult::Error, what }
            }
            code => ConnectError {
                result: OpenResult::Error,
                what: format!("the node refused {asked} ({}): {text}", code.label()),
            },
        }
    }
}

fn unexpected(opcode: Opcode, to: &str) -> ConnectError {
    unreadable(&format!("{} is no answer to {to}", opcode.name()))
}

fn unreadable(what: &str) -> ConnectError {
    ConnectError { result: OpenResult::Error, what: format!("during the CQL handshake: {what}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use tokio::io::DuplexStream;
    use weir_cql::response::Event;
    use weir_engine::cql::NodeId;
    use weir_engine::units::ClusterId;

    fn info(version: Version, auth_file: Option<&str>) -> LaneInfo {
        LaneInfo {
            cluster: ClusterId(0),
            of: ClusterId(0),
            node: NodeId(0),
            address: Address::Unix { path: "/x".into() },
            version,
            auth_file: auth_file.map(Into::into),
            principal: None,
            registers: true,
            shard: None,
            tells_shard: false,
            bulk: false,
        }
    }

    fn options(version: Version, names: &[&str]) -> Vec<u8> {
        let mut out = Vec::new();
        own::supported(&mut out, version, StreamId(0), names.iter().map(|name| (*name, &["1"][..])));
        out
    }

    /// Runs a handshake against a node that gives these answers, one per question; what it was asked.
    async fn handshake(
        info: LaneInfo,
        answers: Vec<Vec<u8>>,
    ) -> (Result<Greeting, ConnectError>, Vec<(Opcode, Vec<u8>)>) {
        let (mut weir, node) = tokio::io::duplex(1 << 20);
        let version = info.version;
        let node = tokio::spawn(node_with(node, version, answers));
        let outcome = Handshake::new(&mut weir, version).run(&info, true).await;
        drop(weir);
        (outcome, node.await.expect("the node"))
    }

    async fn node_with(
        mut stream: DuplexStream,
        version: Version,
        answers: Vec<Vec<u8>>,
    ) -> Vec<(Opcode, Vec<u8>)> {
        let mut asked: Vec<(Opcode, Vec<u8>)> = Vec::new();
        let (mut input, mut plain) = (Vec::new(), Vec::new());
        let mut segments = SegmentDecoder::new(false, ANSWER_MAX);
        let mut answers = answers.into_iter();
        while stream.read_buf(&mut input).await.is_ok_and(|length| length > 0) {
            let started = asked.iter().any(|(opcode, _)| *opcode == Opcode::Startup);
            let in_segments = version >= Version::V5 && started;
            if in_segments {
                while let SegmentStep::Segment { consumed } = segments.decode(&input, &mut plain) {
                    input.drain(..consumed);
                }
            } else {
                plain.append(&mut input);
            }
            let Step::Envelope { header } = read_header(&plain, Side::Client, EnvelopeLimits::default())
            else {
                continue;
            };
            let Some(envelope) = plain.get(..header.envelope_len()) else { continue };
            asked.push((header.opcode, envelope[HEADER_LEN..].to_vec()));
            plain.drain(..header.envelope_len());
            let Some(answer) = answers.next() else { break };
            let mut wire = answer;
            if in_segments {
                let plain = std::mem::take(&mut wire);
                write_segments(&plain, false, &mut wire).expect("whole envelopes");
            }
            stream.write_all(&wire).await.expect("written");
        }
        asked
    }

    fn ready(version: Version) -> Vec<u8> {
        let mut out = Vec::new();
        own::ready(&mut out, version, StreamId(0));
        out
    }

    fn error(version: Version, code: ErrorCode, text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        own::error(&mut out, version, StreamId(0), &ErrorBody::plain(code, text));
        out
    }

    fn event(version: Version) -> Vec<u8> {
        let mut body = Vec::new();
        weir_cql::write::string(&mut body, "STATUS_CHANGE");
        weir_cql::write::string(&mut body, "UP");
        body.extend_from_slice(&[4, 127, 0, 0, 1, 0, 0, 0x23, 0x52]);
        let event = Event::read(&body, &mut Cursor::new(&body)).expect("an event");
        let mut out = Vec::new();
        own::event(&mut out, version, &event);
        out
    }

    #[tokio::test]
    async fn events_that_come_before_the_first_request_are_kept() {
        for version in [Version::V3, Version::V4, Version::V5] {
            // one before the answer to REGISTER, one right behind it
            let registered = [event(version), ready(version), event(version)].concat();
            let (outcome, asked) = handshake(
                info(version, None),
                vec![options(version, &["COMPRESSION"]), ready(version), registered],
            )
            .await;
            let opcodes: Vec<Opcode> = asked.iter().map(|(opcode, _)| *opcode).collect();
            assert_eq!(opcodes, [Opcode::Options, Opcode::Startup, Opcode::Register], "{version:?}");
            let startup = Startup { options: Cursor::new(&asked[1].1).string_map().expect("a map") };
            assert_eq!(startup.get(&asked[1].1, "CQL_VERSION"), Some(CQL_VERSION.as_bytes()));
            let greeting = outcome.expect("connected");
            assert_eq!(greeting.scylla, Some(false));
            let mut early = greeting.early;
            if version < Version::V5 {
                // the second is still in the socket
                assert_eq!(early, event(version));
                continue;
            }
            let mut plain = Vec::new();
            let step = SegmentDecoder::new(false, ANSWER_MAX).decode(&early, &mut plain);
            assert_eq!(step, SegmentStep::Segment { consumed: early.len() });
            assert_eq!(plain, [event(version), event(version)].concat());
            early.clear();
        }
    }

    #[tokio::test]
    async fn a_node_with_shards_is_asked_which_one_it_is() {
        for version in [Version::V3, Version::V4, Version::V5] {
            for (told, want) in [(Some("11"), Some(11)), (Some("x"), None), (None, None)] {
                let mut supported = Vec::new();
                let value: &[&str] = told.as_slice();
                let options = [("SCYLLA_NR_SHARDS", &["12"][..]), ("SCYLLA_SHARD", value)];
                own::supported(&mut supported, version, StreamId(0), options);
                let asks = LaneInfo { tells_shard: true, registers: false, ..info(version, None) };
                let (outcome, asked) = handshake(asks, vec![supported, ready(version)]).await;
                let greeting = outcome.expect("connected");
                assert_eq!((greeting.shard, greeting.scylla), (want, None));
                let opcodes: Vec<Opcode> = asked.iter().map(|(opcode, _)| *opcode).collect();
                assert_eq!(opcodes, [Opcode::Options, Opcode::Startup], "{version:?}");
            }
            let asks = LaneInfo { tells_shard: true, ..info(version, None) };
            let (outcome, _) = handshake(asks, vec![ready(version)]).await;
            assert!(outcome.expect_err("no answer to OPTIONS").what.contains("OPTIONS"));
        }
    }

    #[tokio::test]
    async fn scylla_is_known_by_what_it_announces() {
        for version in [Version::V3, Version::V4, Version::V5] {
            let names = ["COMPRESSION", "SCYLLA_NR_SHARDS"];
            let answers = vec![options(version, &names), ready(version), ready(version)];
            let (outcome, _) = handshake(info(version, None), answers).await;
            assert_eq!(outcome.expect("connected").scylla, Some(true), "{version:?}");
            // a lane that does not hear of events leaves the asking to another
            let other = LaneInfo { registers: false, ..info(version, None) };
            let (outcome, asked) = handshake(other, vec![ready(version)]).await;
            assert_eq!((outcome.expect("connected").scylla, asked.len()), (None, 1), "{version:?}");
        }
        let (outcome, _) = handshake(info(Version::V4, None), vec![ready(Version::V4)]).await;
        assert!(outcome.expect_err("no answer to OPTIONS").what.contains("OPTIONS"));
    }

    #[tokio::test]
    async fn tablets_are_agreed_on_with_nodes_that_can_tell_them() {
        let agreed = |asked: &[(Opcode, Vec<u8>)]| {
            let (_, body) = asked.iter().find(|(opcode, _)| *opcode == Opcode::Startup).expect("STARTUP");
            let startup = Startup { options: Cursor::new(body).string_map().expect("a map") };
            startup.get(body, tablet::OPTION).map(<[u8]>::to_vec)
        };
        for version in [Version::V3, Version::V4, Version::V5] {
            let can = options(version, &["SCYLLA_NR_SHARDS", tablet::OPTION, "TABLETS_ROUTING_V2"]);
            let cannot = options(version, &["SCYLLA_NR_SHARDS"]);
            for (registers, tells_shard) in [(true, false), (false, true)] {
                let info = LaneInfo { registers, tells_shard, ..info(version, None) };
                let answers = |first: &Vec<u8>| vec![first.clone(), ready(version), ready(version)];
                let (outcome, asked) = handshake(info.clone(), answers(&can)).await;
                let can_tell = version >= Version::V4;
                assert_eq!(outcome.expect("connected").tablets, can_tell, "{version:?}");
                assert_eq!(agreed(&asked), can_tell.then(Vec::new), "{version:?}");
                let (outcome, asked) = handshake(info, answers(&cannot)).await;
                assert!(!outcome.expect("connected").tablets, "{version:?}");
                assert_eq!(agreed(&asked), None, "{version:?}");
            }
        }
    }

    #[tokio::test]
    async fn credentials_are_sent_where_they_are_asked_for() {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(b"user secret of mine\n").expect("written");
        let path = file.path().to_str().expect("UTF-8").to_owned();
        for version in [Version::V4, Version::V5] {
            let mut asks = Vec::new();
            own::authenticate(&mut asks, version, StreamId(0), "org.example.PasswordAuthenticator");
            let mut success = Vec::new();
            own::auth_success(&mut success, version, StreamId(0), None);
            let none = options(version, &[]);
            let answers = vec![none.clone(), asks.clone(), success, ready(version)];
            let (outcome, asked) = handshake(info(version, Some(&path)), answers).await;
            assert_eq!(outcome.expect("connected").early, b"");
            assert_eq!(asked[2].0, Opcode::AuthResponse);
            assert_eq!(asked[2].1[4..], *b"\0user\0secret of mine");

            let refused = error(version, ErrorCode::BAD_CREDENTIALS, "wrong");
            let (outcome, _) =
                handshake(info(version, Some(&path)), vec![none.clone(), asks.clone(), refused]).await;
            let refusal = outcome.expect_err("refused");
            assert_eq!(refusal.result, OpenResult::Auth);
            assert!(refusal.what.contains("wrong") && !refusal.what.contains("secret"), "{}", refusal.what);

            let (outcome, _) = handshake(info(version, None), vec![none, asks]).await;
            let refusal = outcome.expect_err("no credentials");
            assert_eq!(refusal.result, OpenResult::Auth);
            assert!(refusal.what.contains("auth_file is not set"), "{}", refusal.what);
        }
    }

    #[tokio::test]
    async fn a_node_that_does_not_speak_the_version_is_told_of() {
        let old =
            error(Version::V4, ErrorCode::PROTOCOL_ERROR, "Invalid or unsupported protocol version (5)");
        let (outcome, _) = handshake(info(Version::V5, None), vec![old]).await;
        let refusal = outcome.expect_err("too old");
        assert_eq!(refusal.result, OpenResult::Error);
        assert!(refusal.what.contains("does not speak") && refusal.what.contains("newest_version"));

        // v2 has another header altogether
        let (outcome, _) = handshake(info(Version::V3, None), vec![vec![0x82, 0, 0, 0, 0, 0, 0, 0, 0]]).await;
        assert!(outcome.expect_err("older still").what.contains("does not speak"));
    }

    #[tokio::test]
    async fn answers_are_bounded() {
        let mut head = vec![0x84, 0, 0, 0, 2];
        head.extend_from_slice(&(ANSWER_MAX + 1).to_be_bytes());
        let (outcome, _) = handshake(info(Version::V4, None), vec![head]).await;
        assert!(outcome.is_err());
        let flood = event(Version::V4).repeat(EARLY_MAX / 20);
        let (outcome, _) =
            handshake(info(Version::V4, None), vec![options(Version::V4, &[]), ready(Version::V4), flood])
                .await;
        assert!(outcome.expect_err("too many").what.contains("too many events"));
    }
}
