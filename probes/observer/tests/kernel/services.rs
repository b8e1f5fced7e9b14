//! The probe `services`, on scripted services of this process: how long a request was on a processor and off it, and which
//! requests map to no thread. The clients are threads of the same process: what they send and receive is no request.

use crate::namespace::{Place, enter, own_address};
use crate::{load, look, options};
use rustix::time::{ClockId, clock_gettime};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};
use weir_probes::kernel::pardon::Pardon;
use weir_probes::kernel::services::Service;
use weir_probes::kernel::{Kernel, Options};
use weir_probes::picture::{RequestTimes, ServiceTotals};

const BUSY: Duration = Duration::from_millis(20);
const ASLEEP: Duration = Duration::from_millis(30);

/// This process as a service.
fn chosen() -> Options {
    let processes = Pardon { processes: vec![std::process::id()], ..Pardon::default() };
    Options { services: vec![Service { name: "scripted".to_owned(), processes }], ..options(&["services"]) }
}

/// Connections to a port that this process listens on, both ends of each; the programs know the port.
fn connections<const N: usize>(kernel: &mut Kernel) -> (TcpListener, [(TcpStream, TcpStream); N]) {
    let listener = TcpListener::bind((own_address(), 0)).unwrap();
    let address = listener.local_addr().unwrap();
    kernel.tend(&Pardon::default());
    let pairs = [(); N].map(|()| {
        let client = TcpStream::connect(address).unwrap();
        client.set_nodelay(true).unwrap();
        (client, listener.accept().unwrap().0)
    });
    (listener, pairs)
}

fn seen(kernel: &Kernel) -> (RequestTimes, ServiceTotals) {
    let picture = look(kernel);
    let (times, totals) = (picture.request_times.expect("attached"), picture.services.expect("attached"));
    let [times] = <[RequestTimes; 1]>::try_from(times).expect("one service");
    let [totals] = <[ServiceTotals; 1]>::try_from(totals).expect("one service");
    (times, totals)
}

/// Requests seen, and those that mapped to a thread.
fn counted(kernel: &Kernel) -> (u64, u64) {
    let (times, totals) = seen(kernel);
    let mapped = times.on_cpu.counts.iter().sum();
    assert_eq!(mapped, times.blocked.counts.iter().sum::<u64>());
    (totals.requests.expect("it was found"), mapped)
}

fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn burn(time: Duration) {
    let end = thread_time() + time;
    while thread_time() < end {
        std::hint::black_box(std::array::from_fn::<u64, 64, _>(|index| index as u64));
    }
}

fn byte(stream: &mut TcpStream) {
    stream.read_exact(&mut [0]).expect("a byte");
}

fn say(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).expect("an end that reads");
}

#[test]
fn a_thread_that_serves_a_request_is_timed_on_the_processor_and_off_it() {
    const TEST: &str = "services::a_thread_that_serves_a_request_is_timed_on_the_processor_and_off_it";
    const REQUESTS: u64 = 20;
    if enter(TEST, &[]) == Place::Done {
        return;
    }
    let Some(mut kernel) = load(TEST, &chosen()) else { return };
    let before = look(&kernel);
    assert_eq!(before.request_times.as_deref(), Some(&[][..]), "nobody was found yet");
    assert_eq!(before.services.expect("attached")[0].requests, None);
    let (_listener, [(mut client, mut server)]) = connections(&mut kernel);
    // What the thread itself knows: wall and processor time, from after the read to before the write, and to after it.
    let serving = std::thread::spawn(move || {
        let [mut least, mut most] = [[Duration::ZERO; 2]; 2];
        for _ in 0..REQUESTS {
            byte(&mut server);
            let (began, on_cpu) = (Instant::now(), thread_time());
            burn(BUSY);
            std::thread::sleep(ASLEEP);
            let inner = [thread_time() - on_cpu, began.elapsed()];
            say(&mut server, b"a");
            let outer = [thread_time() - on_cpu, began.elapsed()];
            for index in 0..2 {
                least[index] += inner[index];
                most[index] += outer[index];
            }
        }
        (least, most)
    });
    for _ in 0..REQUESTS {
        say(&mut client, b"q");
        byte(&mut client);
        std::thread::sleep(Duration::from_millis(2)); // the server waits for a request: nobody's time
    }
    let ([cpu_least, wall_least], [cpu_most, wall_most]) = serving.join().unwrap();
    kernel.tend(&Pardon::default());
    let (times, totals) = seen(&kernel);
    assert_eq!(counted(&kernel), (REQUESTS, REQUESTS));
    let seconds = |time: Duration| time.as_secs_f64();
    let (on_cpu, blocked) = (times.on_cpu.sum, times.blocked.sum);
    println!(
        "measured: of {REQUESTS} requests, {:.1} ms on the processor each and {:.1} ms off it; the thread itself: \
         {:.1} to {:.1} and {:.1} to {:.1} in all",
        1e3 * on_cpu / REQUESTS as f64,
        1e3 * blocked / REQUESTS as f64,
        1e3 * seconds(cpu_least) / REQUESTS as f64,
        1e3 * seconds(cpu_most) / REQUESTS as f64,
        1e3 * seconds(wall_least) / REQUESTS as f64,
        1e3 * seconds(wall_most) / REQUESTS as f64,
    );
    // On and off make up the whole: no less than the thread saw inside, no more than it saw outside and a little (the way
    // from the kernel's hook to the first look at a clock, which may be interrupted).
    let all = on_cpu + blocked;
    let slack = 0.002 * REQUESTS as f64;
    assert!(
        all >= seconds(wall_least) && all <= seconds(wall_most) + slack,
        "{all} of {wall_least:?} to {wall_most:?}"
    );
    // The thread's own clock may leave out what the hypervisor took (steal): hence no close bound above.
    assert!(on_cpu >= 0.98 * seconds(cpu_least), "{on_cpu} for {cpu_least:?}");
    assert!(on_cpu <= 1.5 * seconds(cpu_most) + slack, "{on_cpu} for {cpu_most:?}");
    assert!(blocked >= 0.999 * seconds(ASLEEP) * REQUESTS as f64, "{blocked}");
    // Buckets: none below the ones that 20 ms and 30 ms are in (16.4 to 32.8 ms).
    let below = times.on_cpu.bounds.iter().position(|bound| *bound > seconds(BUSY)).unwrap();
    assert_eq!(times.on_cpu.counts[..below].iter().sum::<u64>(), 0, "{:?}", times.on_cpu.counts);
    assert_eq!(times.blocked.counts[..below].iter().sum::<u64>(), 0, "{:?}", times.blocked.counts);
    // The whole process burnt at least as much: the clock of processes counts in ticks of 10 ms.
    assert_eq!(totals.processes, 1);
    let whole = seconds(totals.on_cpu.expect("it was found"));
    assert!(whole >= 0.9 * seconds(cpu_least), "{whole} for {cpu_least:?}");
}

#[test]
fn requests_that_map_to_no_thread_are_counted_and_not_timed() {
    const TEST: &str = "services::requests_that_map_to_no_thread_are_counted_and_not_timed";
    if enter(TEST, &[]) == Place::Done {
        return;
    }
    let Some(mut kernel) = load(TEST, &chosen()) else { return };
    let (_listener, [(mut ca, mut sa), (mut cb, mut sb)]) = connections(&mut kernel);

    // one after the other on one thread: both map; a request in two pieces is one, and so is its answer
    say(&mut ca, b"q");
    byte(&mut sa);
    say(&mut ca, b"q");
    byte(&mut sa);
    say(&mut sa, b"a");
    say(&mut sa, b"a");
    say(&mut cb, b"q");
    byte(&mut sb);
    say(&mut sb, b"a");
    assert_eq!(counted(&kernel), (2, 2));

    // only looked at, and then read
    say(&mut ca, b"q");
    sa.peek(&mut [0]).unwrap();
    assert_eq!(counted(&kernel), (2, 2));
    byte(&mut sa);
    say(&mut sa, b"a");
    assert_eq!(counted(&kernel), (3, 3));

    // given to another thread: it maps to neither
    say(&mut ca, b"q");
    byte(&mut sa);
    let mut sa = std::thread::spawn(move || {
        say(&mut sa, b"a");
        sa
    })
    .join()
    .unwrap();
    assert_eq!(counted(&kernel), (4, 3));
    // and the first thread's next one on that connection does again
    say(&mut ca, b"q");
    byte(&mut sa);
    say(&mut sa, b"a");
    assert_eq!(counted(&kernel), (5, 4));

    // two at once on one thread, as an event loop has them: neither maps
    for stream in [&mut ca, &mut cb] {
        say(stream, b"q");
    }
    byte(&mut sa);
    byte(&mut sb);
    say(&mut sa, b"a");
    say(&mut sb, b"a");
    assert_eq!(counted(&kernel), (7, 4));
    // nor what such a thread does right afterwards
    say(&mut ca, b"q");
    byte(&mut sa);
    say(&mut sa, b"a");
    assert_eq!(counted(&kernel), (8, 4));
    // until it has been with one at a time for a second
    std::thread::sleep(Duration::from_millis(1_100));
    say(&mut ca, b"q");
    byte(&mut sa);
    say(&mut sa, b"a");
    assert_eq!(counted(&kernel), (9, 5));

    // no answer, and the end (a reset: the client has left answers unread): the thread is free for another connection
    say(&mut ca, b"q");
    byte(&mut sa);
    drop(ca);
    assert_eq!(sa.read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    drop(sa);
    say(&mut cb, b"q");
    byte(&mut sb);
    say(&mut sb, b"a");
    assert_eq!(counted(&kernel), (11, 6));

    // asked, the end said, and answered: a request as any other
    say(&mut cb, b"q");
    cb.shutdown(std::net::Shutdown::Write).unwrap();
    byte(&mut sb);
    assert_eq!(sb.read(&mut [0]).unwrap(), 0);
    say(&mut sb, b"a");
    assert_eq!(counted(&kernel), (12, 7));
    let lost = kernel.statuses().into_iter().find(|status| status.probe == "services");
    assert_eq!(lost.and_then(|status| status.lost), Some(0));
}

#[test]
fn processes_that_were_not_chosen_are_not_seen() {
    const TEST: &str = "services::processes_that_were_not_chosen_are_not_seen";
    if enter(TEST, &[]) == Place::Done {
        return;
    }
    let mut options = chosen();
    options.services[0].processes.processes = vec![u32::MAX];
    let Some(mut kernel) = load(TEST, &options) else { return };
    let (_listener, [(mut client, mut server)]) = connections(&mut kernel);
    say(&mut client, b"q");
    byte(&mut server);
    say(&mut server, b"a");
    let picture = look(&kernel);
    assert_eq!(picture.request_times.as_deref(), Some(&[][..]));
    let totals = &picture.services.expect("attached")[0];
    assert_eq!((totals.processes, totals.requests, totals.on_cpu), (0, None, None), "unknown is never 0");
}
