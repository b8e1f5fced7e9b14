//! `weir top`: who asks for how much work, live.

pub mod render;
pub mod statements;
mod terminal;

use super::{Failure, client, json_line, print};
use crate::admin::client::Client;
use crate::admin::model::Snapshot;
use crate::cli::TopArgs;
use render::{Look, render};
use std::io::IsTerminal as _;
use std::time::Duration;
use terminal::{Event, Terminal};

const REFRESH: Duration = Duration::from_secs(1);
/// Columns when standard output is no terminal.
const PLAIN_WIDTH: usize = 120;

pub(super) async fn run(args: &TopArgs) -> Result<u8, Failure> {
    let client = client(&args.admin)?;
    let mut snapshot: Snapshot = client.get("/snapshot").await?;
    let terminal = std::io::stdout().is_terminal();
    if args.json {
        loop {
            print(&json_line(&snapshot)?)?;
            if args.once {
                return Ok(0);
            }
            tokio::time::sleep(REFRESH).await;
            snapshot = client.get("/snapshot").await?;
        }
    }
    if args.once {
        let width = if terminal { terminal::size().0 } else { PLAIN_WIDTH };
        let look = Look { width, height: None, colour: terminal && colours(), statements: args.statements };
        print(&render(&snapshot, &look))?;
        return Ok(0);
    }
    if !terminal || !std::io::stdin().is_terminal() {
        let text = "this is no terminal: use weir top --once, or --json".to_owned();
        return Err(Failure { text, code: 2 });
    }
    live(&client, snapshot, args.statements).await
}

/// Whether the reader wants colours (no-color.org).
fn colours() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

async fn live(client: &Client, mut snapshot: Snapshot, mut statements: bool) -> Result<u8, Failure> {
    let mut terminal = Terminal::enter()?;
    let mut ticks = tokio::time::interval(REFRESH);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut trouble: Option<String> = None;
    loop {
        let (width, height) = terminal::size();
        let height = Some(height - usize::from(trouble.is_some()));
        let look = Look { width, height, colour: colours(), statements };
        terminal.show(trouble.as_deref(), &render(&snapshot, &look))?;
        // Both branches may be dropped at any time: a tick that is missed comes later, a key stays in its queue.
        tokio::select! {
            event = terminal.event() => match event {
                Event::Leave => return Ok(0),
                Event::Resized => {}
                Event::Statements => statements = !statements,
            },
            _ = ticks.tick() => {
                // Leaving must not wait for an answer. A dropped question closes its connection.
                tokio::select! {
                    answer = client.get("/snapshot") => match answer {
                        Ok(fresh) => (snapshot, trouble) = (fresh, None),
                        Err(error) => trouble = Some(format!("{error}; what follows is old, trying again")),
                    },
                    event = terminal.event() => match event {
                        Event::Leave => return Ok(0),
                        Event::Resized => {}
                        Event::Statements => statements = !statements,
                    },
                }
            }
        }
    }
}
