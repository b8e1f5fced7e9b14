//! Closed loop: every connection keeps `depth` requests under way. It measures what a server can do, not how long
//! users wait: a slow answer delays the next question. For waiting times see `open_loop`.

use crate::ask::Ask;
use crate::client::{Change, Client, Slot};
use crate::clock::{Nanos, SECOND, nanos};
use crate::options::Run;
use crate::random::Random;
use crate::report::{Basis, Checks, Measured, Meter};
use crate::usage::require_open_files;
use anyhow::{Result, bail};

/// How often impatience is looked after.
pub const EXPIRE_EVERY: Nanos = SECOND / 10;

/// The shape of a closed loop.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Connections.
    pub connections: u32,
    /// Requests under way on each.
    pub depth: u32,
    /// Seconds before the measured window.
    pub warmup: f64,
    /// Seconds of the measured window.
    pub seconds: f64,
    /// Every connection is up before the first request leaves. Otherwise early connections starve late ones of CPU
    /// while these connect, and a short run measures its own start.
    pub connect_first: bool,
}

/// Runs until the window is over or `next` has nothing more, then waits for what is under way.
pub fn run(
    run: &Run,
    shape: Shape,
    mut next: impl FnMut(&mut Random) -> Option<Ask>,
    mut progress: impl FnMut(Nanos, &Meter),
) -> Result<(Measured, Checks)> {
    require_open_files(u64::from(shape.connections))?;
    let mut client = Client::new(&run.world, &run.target, run.clock)?;
    let mut random = Random::new(run.seed ^ 0xc105ed);
    let slots = connect(run, &mut client, shape)?;
    client.redial = true;
    let opens = run.clock.now() + nanos(shape.warmup);
    let closes = opens.saturating_add(nanos(shape.seconds));
    let mut meter = Meter::new(opens, closes, Basis::Ended, &run.watched);
    let mut exhausted = false;
    let mut top_up = |client: &mut Client<'_>, slot: Slot, exhausted: &mut bool| {
        let now = run.clock.now();
        while !*exhausted && client.depth(slot) < shape.depth as usize {
            match next(&mut random) {
                Some(ask) => ask.put(client, slot, now, run.world.keys.stored()),
                None => *exhausted = true,
            }
        }
        client.flush(slot);
    };
    for slot in slots {
        top_up(&mut client, slot, &mut exhausted);
    }
    let (mut done, mut expire_at) = (Vec::new(), run.clock.now() + EXPIRE_EVERY);
    loop {
        let now = run.clock.now();
        meter.tick(now);
        progress(now, &meter);
        if now >= closes || exhausted && client.unanswered() == 0 {
            break;
        }
        if now >= expire_at {
            client.expire(now.saturating_sub(run.timeout));
            expire_at = now + EXPIRE_EVERY;
        }
        let edge = if now < opens { opens } else { closes };
        client.wait(expire_at.min(edge))?;
        while let Some(ready) = client.next_ready() {
            client.take_finished(&mut done);
            let now = run.clock.now();
            done.drain(..).for_each(|finished| meter.observe(&finished, now));
            if ready.change != Change::Closed {
                top_up(&mut client, ready.slot, &mut exhausted);
            }
        }
    }
    // The end of a run that had nothing more to do is the end of its window.
    meter.close(run.clock.now());
    let unfinished = drain(run, &mut client, &mut meter)?;
    Ok(meter.finish(&client, unfinished))
}

fn connect(run: &Run, client: &mut Client<'_>, shape: Shape) -> Result<Vec<Slot>> {
    let count = shape.connections as usize;
    if shape.connect_first {
        let slots = client.open_all(count, run.clock.now() + run.timeout)?;
        if slots.len() < count {
            bail!(
                "{} of {count} connections to {} came up: {:?}",
                slots.len(),
                run.target.server,
                client.faults.counts()
            );
        }
        return Ok(slots);
    }
    let mut up = Vec::new();
    for _ in 0..count {
        match client.dial() {
            Ok(slot) if client.is_open(slot) => up.push(slot),
            Ok(_) => {}
            Err(failure) => bail!("cannot dial {}: {failure}", run.target.server),
        }
    }
    Ok(up)
}

/// Waits for every request under way, up to the run's time-out. Returns how many remain.
pub fn drain(run: &Run, client: &mut Client<'_>, meter: &mut Meter) -> Result<u64> {
    client.redial = false;
    let until = run.clock.now() + run.timeout;
    let mut done = Vec::new();
    while client.unanswered() > 0 && run.clock.now() < until {
        client.wait(until.min(run.clock.now() + EXPIRE_EVERY))?;
        while let Some(ready) = client.next_ready() {
            client.flush(ready.slot);
            client.take_finished(&mut done);
            let now = run.clock.now();
            done.drain(..).for_each(|finished| meter.observe(&finished, now));
        }
    }
    client.take_finished(&mut done);
    let now = run.clock.now();
    done.drain(..).for_each(|finished| meter.observe(&finished, now));
    Ok(client.unanswered() as u64)
}
