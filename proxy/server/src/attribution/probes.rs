//! Asks `weir-probes` for the process at the other end of connections, over its attribution socket (key `attribution`).
//!
//! It is asked before `/proc` is walked, and what it does not know is looked for there as without it: nothing depends on it.
//! A batch waits at most `attribution_timeout` for it, on the attribution thread; the accept path never does. After a failure it
//! is left alone for a while ([`REST_MIN`] to [`REST_MAX`]).
//!
//! An answer carries its age, so that the receiver can tell whether the connection was open when it was seen. That it is not
//! about an earlier connection with the same addresses is the other side's part: it tells what it saw last.

use super::{Lookup, Process, Resolved, caller_name};
use socket2::{Domain, SockAddr, Socket, Type};
use std::fmt;
use std::io::{self, ErrorKind, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use weir_attribution::{
    Answer, Garbled, HEAD, Head, QUESTIONS_MAX, Question, REPLY_BODY_MAX, Reply, decode_reply, encode_ask,
};
use weir_telemetry::AskResult;

/// How long nothing is asked after a first failure.
pub const REST_MIN: Duration = Duration::from_secs(1);
/// How long at most: each failure doubles it.
pub const REST_MAX: Duration = Duration::from_secs(30);

/// Told what came of questions: the result, of how many, and for a first failure the words for the log.
pub type Report = Box<dyn Fn(AskResult, u64, Option<&str>) + Send>;

/// The socket of `weir-probes`, connected when it is needed.
pub struct Probes {
    path: PathBuf,
    timeout: Duration,
    report: Report,
    stream: Option<UnixStream>,
    rest_until: Option<Instant>,
    rest: Duration,
    /// The failure that the log was told of.
    told: Option<AskResult>,
    frame: Vec<u8>,
}

impl fmt::Debug for Probes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probes").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Why there is no answer.
#[derive(Debug)]
struct Failure {
    result: AskResult,
    why: String,
    /// The connection had ended before a byte of the answer: it may have been idle for too long.
    before_answer: bool,
}

impl Probes {
    /// Asks nothing yet. What is not answered within `timeout` is looked for in `/proc`.
    #[must_use]
    pub fn at(path: &Path, timeout: Duration, report: Report) -> Probes {
        // The series are there from the beginning.
        AskResult::ALL.iter().for_each(|result| report(*result, 0, None));
        Probes {
            path: path.to_path_buf(),
            timeout,
            report,
            stream: None,
            rest_until: None,
            rest: REST_MIN,
            told: None,
            frame: Vec::new(),
        }
    }

    /// Connects before there is anything to ask, so that `weir-probes` knows weir's listeners when the first client comes.
    pub fn greet(&mut self) {
        self.ask_all(&[]);
    }

    /// What is known of each of these connections, in order; nothing for one that has to be looked for elsewhere.
    pub fn ask(&mut self, batch: &[Lookup]) -> Vec<Option<Resolved>> {
        let question =
            |lookup: &Lookup| Question { client: lookup.client_local_addr, weir: lookup.weir_addr };
        let questions: Vec<Question> = batch.iter().map(question).collect();
        let mut answers = self.ask_all(&questions).into_iter();
        batch.iter().map(|lookup| answers.next().flatten().map(|seen| seen.about(lookup))).collect()
    }

    /// The answers, perhaps to fewer than were asked.
    fn ask_all(&mut self, questions: &[Question]) -> Vec<Option<Found>> {
        let now = Instant::now();
        if self.rest_until.is_some_and(|until| now < until) {
            (self.report)(AskResult::Resting, questions.len() as u64, None);
            return Vec::new();
        }
        let deadline = now + self.timeout;
        let mut all = Vec::with_capacity(questions.len());
        let mut counts = [0_u64; AskResult::COUNT];
        // Without questions there is still the greeting.
        let empty = questions.is_empty().then_some(questions);
        for part in questions.chunks(QUESTIONS_MAX).chain(empty) {
            match self.ask_part(part, deadline) {
                Ok(answers) => {
                    let received = Instant::now();
                    for answer in answers {
                        let (result, found) = match answer {
                            Answer::Seen(seen) => {
                                let process = Process {
                                    pid: seen.pid,
                                    name: caller_name(seen.name.as_bytes()),
                                    exe: None,
                                };
                                let read_at = received.checked_sub(seen.age).unwrap_or(received);
                                (AskResult::Named, Some(Found { process, uid: seen.uid, read_at }))
                            }
                            Answer::Unknown => (AskResult::Unknown, None),
                            Answer::NotYours => (AskResult::NotOurs, None),
                        };
                        counts[result.index()] += 1;
                        all.push(found);
                    }
                    (self.rest, self.told) = (REST_MIN, None);
                }
                Err(failure) => {
                    self.failed(&failure, (questions.len() - all.len()) as u64);
                    break;
                }
            }
        }
        for result in AskResult::ALL.iter().filter(|result| counts[result.index()] > 0) {
            (self.report)(*result, counts[result.index()], None);
        }
        all
    }

    fn failed(&mut self, failure: &Failure, questions: u64) {
        let first = self.told != Some(failure.result);
        (self.report)(failure.result, questions, first.then_some(&*failure.why));
        self.told = Some(failure.result);
        // An answer that came later would be taken for the next one.
        self.stream = None;
        self.rest_until = Some(Instant::now() + self.rest);
        self.rest = (self.rest * 2).min(REST_MAX);
    }

    /// One frame and its answer; once more where the connection had ended since the last one.
    fn ask_part(&mut self, questions: &[Question], deadline: Instant) -> Result<Vec<Answer>, Failure> {
        let was_open = self.stream.is_some();
        match self.ask_once(questions, deadline) {
            Err(failure) if was_open && failure.before_answer => {
                self.stream = None;
                self.ask_once(questions, deadline)
            }
            outcome => outcome,
        }
    }

    fn ask_once(&mut self, questions: &[Question], deadline: Instant) -> Result<Vec<Answer>, Failure> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => none.insert(connect(&self.path).map_err(|error| Failure {
                result: AskResult::Unreachable,
                why: error.to_string(),
                before_answer: false,
            })?),
        };
        self.frame.clear();
        encode_ask(&mut self.frame, questions);
        // A peer that refuses may have closed already; its words are there all the same.
        let sent = write_all(stream, &self.frame, deadline);
        let reply = read_reply(stream, &mut self.frame, deadline);
        let reply = match (sent, reply) {
            (_, Ok(reply)) => reply,
            (Err(error), Err(_)) | (Ok(()), Err(error)) => return Err(error),
        };
        match reply {
            Reply::Answers(answers) if answers.len() == questions.len() => Ok(answers),
            Reply::Answers(answers) => {
                let why = format!("{} answers to {} questions", answers.len(), questions.len());
                Err(Failure { result: AskResult::Garbled, why, before_answer: false })
            }
            Reply::Refusal(refusal) => {
                Err(Failure { result: AskResult::Refused, why: refusal.reason, before_answer: false })
            }
        }
    }
}

/// A process that was told.
#[derive(Clone, Debug)]
struct Found {
    process: Process,
    uid: Option<u32>,
    read_at: Instant,
}

impl Found {
    fn about(self, lookup: &Lookup) -> Resolved {
        Resolved { token: lookup.token, uid: self.uid, process: Ok(self.process), read_at: self.read_at }
    }
}

/// Does not wait: a full backlog is a failure.
fn connect(path: &Path) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    socket.connect(&SockAddr::unix(path)?)?;
    socket.set_nonblocking(false)?;
    Ok(OwnedFd::from(socket).into())
}

fn write_all(stream: &mut UnixStream, mut bytes: &[u8], deadline: Instant) -> Result<(), Failure> {
    while !bytes.is_empty() {
        let written = left(deadline).and_then(|left| {
            stream.set_write_timeout(Some(left))?;
            // A peer that is gone must not be a signal.
            rustix::net::send(&*stream, bytes, rustix::net::SendFlags::NOSIGNAL).map_err(io::Error::from)
        });
        match written {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(lost(&error, true)),
        }
    }
    Ok(())
}

fn read_reply(stream: &mut UnixStream, body: &mut Vec<u8>, deadline: Instant) -> Result<Reply, Failure> {
    let garbled =
        |error: Garbled| Failure { result: AskResult::Garbled, why: error.to_string(), before_answer: false };
    let mut head = [0; HEAD];
    read_exact(stream, &mut head, deadline, true)?;
    let head = Head::read(&head, REPLY_BODY_MAX).map_err(garbled)?;
    body.resize(head.length as usize, 0); // at most REPLY_BODY_MAX
    read_exact(stream, body, deadline, false)?;
    decode_reply(head, body).map_err(garbled)
}

fn read_exact(
    stream: &mut UnixStream,
    wanted: &mut [u8],
    deadline: Instant,
    first: bool,
) -> Result<(), Failure> {
    let mut filled = 0;
    while filled < wanted.len() {
        let read = left(deadline).and_then(|left| {
            stream.set_read_timeout(Some(left))?;
            stream.read(&mut wanted[filled..])
        });
        match read {
            Ok(0) => return Err(lost(&ErrorKind::UnexpectedEof.into(), first && filled == 0)),
            Ok(read) => filled += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(lost(&error, first && filled == 0)),
        }
    }
    Ok(())
}

/// Until the deadline; over is an error. A time-out of 0 would mean none.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left.max(Duration::from_micros(1))) }
}

fn lost(error: &io::Error, before_answer: bool) -> Failure {
    match error.kind() {
        ErrorKind::TimedOut | ErrorKind::WouldBlock => {
            let why = "no answer within attribution_timeout".to_owned();
            Failure { result: AskResult::Late, why, before_answer: false }
        }
        _ => Failure { result: AskResult::Unreachable, why: error.to_string(), before_answer },
    }
}
