//! `weir-probes top`: destinations with their sockets, ports and errors, and who goes past weir; live.

pub mod page;
pub mod render;
mod terminal;
pub mod view;

use super::ask::ask;
use super::{Failure, json_line, print};
use crate::cli::TopArgs;
use crate::fetch::Peer;
use crate::looker;
use crate::rights;
use crate::settings::Settings;
use crate::source::{self, Source};
use render::{Look, render};
use std::io::IsTerminal as _;
use std::pin::pin;
use std::time::{Duration, Instant};
use terminal::{Event, Terminal};
use view::View;

const REFRESH: Duration = Duration::from_secs(1);
/// Columns when standard output is no terminal.
const PLAIN_WIDTH: usize = 120;

/// Who looks: a `weir-probes run` somewhere, or this process itself.
enum Eyes {
    Theirs(Peer),
    /// `None` only while they look.
    Own(Option<Vec<Box<dyn Source>>>),
}

impl Eyes {
    /// What is seen now. Dropped before it is done, one's own eyes are gone: they look on a thread of their own.
    async fn look(&mut self) -> Result<View, Failure> {
        match self {
            Eyes::Theirs(peer) => Ok(page::view(&ask(peer, "/metrics").await?)),
            Eyes::Own(sources) => {
                let Some(mut eyes) = sources.take() else { return Err(Failure::new("a source panicked")) };
                let looking = tokio::task::spawn_blocking(move || {
                    let picture = looker::look(&mut eyes);
                    (eyes, picture)
                });
                let (eyes, picture) = looking.await.map_err(|_| Failure::new("a source panicked"))?;
                *sources = Some(eyes);
                Ok(View::of(&picture))
            }
        }
    }
}

/// Runs the command. Called before there is a second thread.
pub(super) fn run(args: &TopArgs) -> Result<(), Failure> {
    let terminal = std::io::stdout().is_terminal();
    let live = !args.once && !args.json;
    if live && !(terminal && std::io::stdin().is_terminal()) {
        return Err(Failure::new("this is no terminal: use weir-probes top --once, or --json"));
    }
    let mut eyes = match &args.from {
        Some(address) => Eyes::Theirs(Peer::at(address)),
        None => {
            let settings =
                Settings::look(&args.look).map_err(|problems| Failure::new(problems.to_string()))?;
            let sources = source::all(&settings);
            rights::keep(source::kept(&settings)).map_err(|error| Failure::new(error.to_string()))?;
            Eyes::Own(Some(sources))
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        let width = if terminal { terminal::size().0 } else { PLAIN_WIDTH };
        match (args.json, args.once) {
            (true, once) => json(&mut eyes, once).await,
            (false, true) => {
                let view = twice(&mut eyes).await?;
                print(&render(&view, &Look { width, height: None, colour: terminal && colours() }))
            }
            (false, false) => watch(&mut eyes).await,
        }
    });
    // A thread that waits for a key must not hold the process.
    runtime.shutdown_background();
    ended
}

/// Whether the reader wants colours (no-color.org).
fn colours() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Two looks, a moment apart: one's own probes have counted nothing before the second, and rates need two.
async fn twice(eyes: &mut Eyes) -> Result<View, Failure> {
    let (before, since) = (eyes.look().await?, Instant::now());
    tokio::time::sleep(REFRESH).await;
    let mut view = eyes.look().await?;
    view.since(&before, since.elapsed().as_secs_f64());
    Ok(view)
}

async fn json(eyes: &mut Eyes, once: bool) -> Result<(), Failure> {
    let mut view = twice(eyes).await?;
    loop {
        print(&json_line(&view)?)?;
        if once {
            return Ok(());
        }
        let since = Instant::now();
        tokio::time::sleep(REFRESH).await;
        let mut next = eyes.look().await?;
        next.since(&view, since.elapsed().as_secs_f64());
        view = next;
    }
}

async fn watch(eyes: &mut Eyes) -> Result<(), Failure> {
    let mut view = eyes.look().await?;
    let mut seen = Instant::now();
    let mut terminal = Terminal::enter()?;
    let mut trouble: Option<String> = None;
    loop {
        draw(&mut terminal, trouble.as_deref(), &view)?;
        let mut pause = pin!(tokio::time::sleep(REFRESH));
        // The sleep is kept over an event; an event that is not taken stays where it is.
        while let Some(event) = tokio::select! {
            () = &mut pause => None,
            event = terminal.event() => Some(event),
        } {
            match event {
                Event::Leave => return Ok(()),
                Event::Resized => draw(&mut terminal, trouble.as_deref(), &view)?,
            }
        }
        // Leaving must not wait for a look; a look is never dropped otherwise.
        let mut looking = pin!(eyes.look());
        let fresh = loop {
            tokio::select! {
                fresh = &mut looking => break fresh,
                event = terminal.event() => match event {
                    Event::Leave => return Ok(()),
                    Event::Resized => draw(&mut terminal, trouble.as_deref(), &view)?,
                },
            }
        };
        match fresh {
            Ok(mut fresh) => {
                fresh.since(&view, seen.elapsed().as_secs_f64());
                (view, seen, trouble) = (fresh, Instant::now(), None);
            }
            Err(failure) => trouble = Some(format!("{failure}; what follows is old, trying again")),
        }
    }
}

fn draw(terminal: &mut Terminal, trouble: Option<&str>, view: &View) -> Result<(), Failure> {
    let (width, height) = terminal::size();
    let height = height.saturating_sub(usize::from(trouble.is_some()));
    let look = Look { width, height: Some(height), colour: colours() };
    Ok(terminal.show(trouble, &render(view, &look))?)
}
