//! The socket that weir asks: who may, for how long, and how much.
//!
//! | bound | |
//! |---|---|
//! | [`CONNECTIONS_MAX`] | connections at once, a thread each; one more is told `busy` and closed |
//! | [`FRAME_TIMEOUT`] | from the first byte of a frame to its last, and the same for taking the answer |
//! | [`IDLE_MAX`] | a connection that asks nothing for so long is closed; its owner connects again |
//! | [`FRAME_INTERVAL`] | shortest time from one frame to the next of one connection: 256,000 questions a second |
//! | `weir_attribution::ASK_BODY_MAX` | bytes of a frame, checked before anything is read |
//!
//! A peer's user is what the kernel says (SO_PEERCRED) and must be one of [`Settings::users`]; what it may learn is decided
//! by `asker`. Everything that is refused is refused in words, so that the other side's log says what to do.

use super::asker::Asker;
use super::connects::{Connects, Watch};
use super::socket::{SocketFile, listen};
use crate::processes::read::Directory;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::io::{PipeReader, PipeWriter, Read as _, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use weir_attribution::{
    ASK_BODY_MAX, Answer, HEAD, Head, Kind, Question, Refusal, RefusalCode, Seen, VERSION, decode_ask,
    encode_answers, encode_refusal,
};

/// Connections at once.
pub const CONNECTIONS_MAX: usize = 8;
/// Longest time for a whole frame, and for its answer to be taken.
pub const FRAME_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest time without a question.
pub const IDLE_MAX: Duration = Duration::from_secs(3_600);
/// Shortest time between two frames of one connection.
pub const FRAME_INTERVAL: Duration = Duration::from_millis(1);

/// How a server is set up.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the socket is.
    pub path: PathBuf,
    /// A group that may connect besides the own user.
    pub group: Option<u32>,
    /// Users that may ask. Nobody else may, not even root.
    pub users: Vec<u32>,
}

impl Settings {
    /// For the own user, and root.
    #[must_use]
    pub fn at(path: &Path) -> Settings {
        let users = vec![rustix::process::geteuid().as_raw(), 0];
        Settings { path: path.to_path_buf(), group: None, users }
    }
}

/// Whoever finds connections, as the one who answers needs it.
pub trait Find: Send + Sync {
    /// Brings the connections up to date before questions are answered: whoever collects them in batches takes what has
    /// come so far. An answer is then never older than the connection that is asked about.
    fn catch_up(&self);

    /// Looks for connections that were asked about and are not known.
    fn search(&self);
}

/// Finds nothing: connections come by themselves.
impl Find for () {
    fn catch_up(&self) {}
    fn search(&self) {}
}

/// The server. Dropping it ends its threads and removes the socket.
#[derive(Debug)]
pub struct Server {
    stop: Option<PipeWriter>,
    acceptor: Option<JoinHandle<()>>,
    counters: Arc<Counters>,
    _file: SocketFile,
}

/// What happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections accepted, those refused included.
    pub connections: u64,
    /// Connections open now.
    pub open: u64,
    /// Connections ended with a refusal.
    pub refused: u64,
    /// Questions answered.
    pub questions: u64,
    /// Of those, with a process.
    pub seen: u64,
    /// Of those, about connections that are not the asker's clients.
    pub not_yours: u64,
}

#[derive(Debug, Default)]
struct Counters {
    connections: AtomicU64,
    open: AtomicU64,
    refused: AtomicU64,
    questions: AtomicU64,
    seen: AtomicU64,
    not_yours: AtomicU64,
}

impl Server {
    /// Listens and answers from `connects`.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub fn start(
        settings: &Settings,
        connects: Arc<Connects>,
        find: Box<dyn Find>,
    ) -> Result<Server, String> {
        let (listener, file) = listen(&settings.path, settings.group)?;
        let (stopped, stop) = std::io::pipe().map_err(|error| format!("no pipe: {error}"))?;
        let counters = Arc::new(Counters::default());
        let desk = Arc::new(Desk {
            users: settings.users.clone(),
            connects,
            find,
            counters: counters.clone(),
            stopped,
        });
        let acceptor = std::thread::Builder::new()
            .name("attribution".to_owned())
            .spawn(move || accept_all(&desk, &listener))
            .map_err(|error| format!("no thread: {error}"))?;
        Ok(Server { stop: Some(stop), acceptor: Some(acceptor), counters, _file: file })
    }

    /// What happened so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let of = |counter: &AtomicU64| counter.load(Relaxed);
        Counts {
            connections: of(&self.counters.connections),
            open: of(&self.counters.open),
            refused: of(&self.counters.refused),
            questions: of(&self.counters.questions),
            seen: of(&self.counters.seen),
            not_yours: of(&self.counters.not_yours),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take()); // every thread waits for the pipe's other end, too
        if let Some(acceptor) = self.acceptor.take() {
            // A panic over there was printed by its own thread.
            let _ = acceptor.join();
        }
    }
}

/// What the threads share.
struct Desk {
    users: Vec<u32>,
    connects: Arc<Connects>,
    find: Box<dyn Find>,
    counters: Arc<Counters>,
    /// Its other end is closed when all is over.
    stopped: PipeReader,
}

/// Why a connection ends.
enum End {
    /// The peer closed, or the server stops, or the peer does not take what it is told.
    Quiet,
    /// It is told why.
    Refused(Refusal),
}

fn accept_all(desk: &Arc<Desk>, listener: &UnixListener) {
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    loop {
        if wait(listener, &desk.stopped, PollFlags::IN, None) != Ready::Yes {
            break;
        }
        let Ok((stream, _)) = listener.accept() else {
            // Without descriptors the connection stays in the backlog: not to be asked for again at once.
            std::thread::sleep(Duration::from_millis(10));
            continue;
        };
        desk.counters.connections.fetch_add(1, Relaxed);
        threads.retain(|thread| !thread.is_finished());
        if threads.len() >= CONNECTIONS_MAX {
            refuse(desk, &stream, &busy());
            continue;
        }
        let Ok(told) = stream.try_clone() else { continue };
        let served = desk.clone();
        let thread = std::thread::Builder::new().name("attribution".to_owned()).spawn(move || {
            served.counters.open.fetch_add(1, Relaxed);
            if let End::Refused(refusal) = serve(&served, &stream) {
                refuse(&served, &stream, &refusal);
            }
            served.counters.open.fetch_sub(1, Relaxed);
        });
        match thread {
            Ok(thread) => threads.push(thread),
            Err(_) => refuse(desk, &told, &busy()),
        }
    }
    for thread in threads {
        // A panic over there was printed by its own thread.
        let _ = thread.join();
    }
}

fn busy() -> Refusal {
    let reason =
        format!("{CONNECTIONS_MAX} are connected already, which is all there may be; try again later");
    Refusal { code: RefusalCode::Busy, reason }
}

/// Best effort: a peer that does not take these few bytes at once is closed without them.
fn refuse(desk: &Desk, stream: &UnixStream, refusal: &Refusal) {
    desk.counters.refused.fetch_add(1, Relaxed);
    let mut frame = Vec::new();
    encode_refusal(&mut frame, refusal);
    let _ = stream.set_nonblocking(true);
    let _ = (&*stream).write(&frame);
}

/// One connection, to its end.
fn serve(desk: &Desk, stream: &UnixStream) -> End {
    match session(desk, stream) {
        Ok(never) => match never {},
        Err(end) => end,
    }
}

fn session(desk: &Desk, stream: &UnixStream) -> Result<std::convert::Infallible, End> {
    stream.set_nonblocking(true).map_err(|_| End::Quiet)?;
    let (mut asker, mut watch) = admit(desk, stream)?;
    let (mut body, mut frame) = (Vec::new(), Vec::new());
    loop {
        if wait(stream, &desk.stopped, PollFlags::IN, Some(Instant::now() + IDLE_MAX)) != Ready::Yes {
            return Err(End::Quiet);
        }
        let begun = Instant::now();
        let deadline = begun + FRAME_TIMEOUT;
        let questions = read_questions(desk, stream, &mut body, deadline)?;
        let answers = answer_all(desk, &mut asker, &questions);
        if asker.ports() != watch.ports() {
            watch = desk.connects.watch(asker.network, asker.ports());
            desk.find.catch_up();
        }
        frame.clear();
        encode_answers(&mut frame, &answers);
        write_all(desk, stream, &frame, Instant::now() + FRAME_TIMEOUT)?;
        std::thread::sleep(FRAME_INTERVAL.saturating_sub(begun.elapsed()));
    }
}

/// Whether the peer may ask, and about what.
fn admit(desk: &Desk, stream: &UnixStream) -> Result<(Asker, Watch), End> {
    let refused = |reason: String| End::Refused(Refusal { code: RefusalCode::User, reason });
    let (pid, uid) = peer(stream.as_fd()).map_err(|_| End::Quiet)?;
    if !desk.users.contains(&uid) {
        return Err(refused(format!("user {uid} may not ask here")));
    }
    let asker = Directory::open(Path::new("/proc"), pid).and_then(|directory| Asker::new(directory, uid));
    let Some(mut asker) = asker else {
        return Err(refused(format!(
            "process {pid} of user {uid} cannot be looked at, so it is not known what it listens on; weir-probes needs \
             CAP_SYS_PTRACE, or to run as the same user"
        )));
    };
    asker.look(Instant::now());
    let watch = desk.connects.watch(asker.network, asker.ports());
    desk.find.catch_up(); // connections to these ports are told from now on
    Ok((asker, watch))
}

/// The process (0: one of another pid namespace) and the user that connected, as the kernel noted them.
#[expect(
    unsafe_code,
    reason = "std has no stable call, and rustix's type cannot hold the pid 0 of another namespace"
)]
fn peer(socket: BorrowedFd<'_>) -> std::io::Result<(u32, u32)> {
    let mut cred = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the descriptor is open as long as it is borrowed; the kernel writes at most `length` bytes, the size of
    // `cred`, and every bit pattern is a valid `ucred`.
    let outcome = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut cred).cast(),
            &raw mut length,
        )
    };
    if outcome != 0 || length as usize != size_of::<libc::ucred>() {
        return Err(std::io::Error::last_os_error());
    }
    Ok((u32::try_from(cred.pid).unwrap_or(0), cred.uid))
}

fn read_questions(
    desk: &Desk,
    stream: &UnixStream,
    body: &mut Vec<u8>,
    deadline: Instant,
) -> Result<Vec<Question>, End> {
    let garbled = |reason: String| End::Refused(Refusal { code: RefusalCode::Garbled, reason });
    let mut head = [0; HEAD];
    read_exact(desk, stream, &mut head, deadline)?;
    // What another version may send at most is not known, so the version comes before the length.
    let head = match Head::read(&head, usize::MAX) {
        Ok(head) if head.version != VERSION => {
            let reason = format!(
                "weir-probes speaks version {VERSION} of the attribution protocol, and was asked in version {}: use weir and \
                 weir-probes of one release",
                head.version
            );
            return Err(End::Refused(Refusal { code: RefusalCode::Version, reason }));
        }
        Ok(_) => Head::read(&head, ASK_BODY_MAX),
        Err(error) => Err(error),
    };
    let head = head.map_err(|error| garbled(error.to_string()))?;
    if head.kind != Kind::Ask {
        return Err(garbled("only questions are taken here".to_owned()));
    }
    body.resize(head.length as usize, 0); // at most ASK_BODY_MAX
    read_exact(desk, stream, body, deadline)?;
    decode_ask(body).map_err(|error| garbled(error.to_string()))
}

/// What is not known by what has come so far is searched for, once for all of them.
fn answer_all(desk: &Desk, asker: &mut Asker, questions: &[Question]) -> Vec<Answer> {
    desk.find.catch_up();
    let now = Instant::now();
    let mut answers: Vec<Answer> =
        questions.iter().map(|question| answer(desk, asker, *question, now)).collect();
    if answers.contains(&Answer::Unknown) {
        desk.find.search();
        let now = Instant::now();
        let unknown = answers.iter_mut().zip(questions).filter(|(answer, _)| **answer == Answer::Unknown);
        unknown.for_each(|(again, question)| *again = answer(desk, asker, *question, now));
    }
    let count = |wanted: fn(&Answer) -> bool| answers.iter().filter(|answer| wanted(answer)).count() as u64;
    desk.counters.questions.fetch_add(answers.len() as u64, Relaxed);
    desk.counters.seen.fetch_add(count(|answer| matches!(answer, Answer::Seen(_))), Relaxed);
    desk.counters.not_yours.fetch_add(count(|answer| *answer == Answer::NotYours), Relaxed);
    answers
}

fn answer(desk: &Desk, asker: &mut Asker, question: Question, now: Instant) -> Answer {
    if !asker.listens_on(question.weir, now) {
        return Answer::NotYours;
    }
    let Some(seen) = desk.connects.find(asker.network, question, now) else { return Answer::Unknown };
    let process = &seen.process;
    Answer::Seen(Seen {
        pid: process.pid,
        uid: process.uid,
        age: now.saturating_duration_since(seen.at),
        name: process.comm.clone(),
        unit: process.unit.clone(),
    })
}

fn read_exact(
    desk: &Desk,
    mut stream: &UnixStream,
    mut wanted: &mut [u8],
    deadline: Instant,
) -> Result<(), End> {
    while !wanted.is_empty() {
        match stream.read(wanted) {
            Ok(0) => return Err(End::Quiet),
            Ok(read) => wanted = &mut wanted[read..],
            Err(error) => blocked(desk, stream, &error, PollFlags::IN, deadline)?,
        }
    }
    Ok(())
}

fn write_all(desk: &Desk, mut stream: &UnixStream, mut rest: &[u8], deadline: Instant) -> Result<(), End> {
    while !rest.is_empty() {
        match stream.write(rest) {
            Ok(written) => rest = &rest[written..],
            Err(error) => blocked(desk, stream, &error, PollFlags::OUT, deadline)?,
        }
    }
    Ok(())
}

/// Waits until the stream is ready, where it was not; any other error ends it.
fn blocked(
    desk: &Desk,
    stream: &UnixStream,
    error: &std::io::Error,
    flags: PollFlags,
    deadline: Instant,
) -> Result<(), End> {
    match error.kind() {
        std::io::ErrorKind::Interrupted => Ok(()),
        std::io::ErrorKind::WouldBlock => match wait(stream, &desk.stopped, flags, Some(deadline)) {
            Ready::Yes => Ok(()),
            Ready::Late => {
                let reason = format!("a frame may take {FRAME_TIMEOUT:?}, and this one took longer");
                Err(End::Refused(Refusal { code: RefusalCode::Slow, reason }))
            }
            Ready::Stopped => Err(End::Quiet),
        },
        _ => Err(End::Quiet),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ready {
    Yes,
    Late,
    Stopped,
}

/// Waits for one of `flags` or an end, for the server's end, and not beyond the deadline.
fn wait(socket: impl AsFd, stopped: &PipeReader, flags: PollFlags, deadline: Option<Instant>) -> Ready {
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let timeout = left.map(|left| Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        });
        let mut polled = [PollFd::new(&socket, flags), PollFd::new(stopped, PollFlags::IN)];
        match poll(&mut polled, timeout.as_ref()) {
            Err(Errno::INTR) => {}
            // Nothing is ever written to the pipe: that it can be read means that its other end was closed.
            Err(_) => return Ready::Stopped,
            Ok(_) if !polled[1].revents().is_empty() => return Ready::Stopped,
            Ok(0) => return Ready::Late,
            Ok(_) => return Ready::Yes,
        }
    }
}
