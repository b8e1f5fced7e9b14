//! The terminal while `weir-probes top` holds it: the alternate screen, keys without Enter, and everything back as it was
//! when this is dropped.

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use std::io::{self, Read as _, Write as _};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use weir_telemetry::escape;

/// What the reader did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Leave,
    Resized,
}

pub(super) struct Terminal {
    before: Termios,
    keys: mpsc::Receiver<()>,
    resized: Signal,
    ended: Signal,
}

const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";

impl Terminal {
    /// Takes the terminal.
    pub(super) fn enter() -> io::Result<Terminal> {
        let before = tcgetattr(io::stdin())?;
        let resized = signal(SignalKind::window_change())?;
        let ended = signal(SignalKind::terminate())?;
        let mut raw = before.clone();
        raw.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG);
        raw.special_codes[SpecialCodeIndex::VMIN] = 1;
        raw.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        // One key is enough: it is one to leave by, or it is of no interest. The thread ends with the process.
        let (sender, keys) = mpsc::channel(1);
        let terminal = Terminal { before, keys, resized, ended };
        std::thread::Builder::new().name("keys".to_owned()).spawn(move || {
            for byte in io::stdin().lock().bytes() {
                let Ok(byte) = byte else { return };
                if matches!(byte, b'q' | b'Q' | 3 | 4) && sender.blocking_send(()).is_err() {
                    return;
                }
            }
        })?;
        io::stdout().write_all(ENTER.as_bytes())?;
        io::stdout().flush()?;
        Ok(terminal)
    }

    /// Draws over what is there, in one write: nothing flickers.
    pub(super) fn show(&mut self, trouble: Option<&str>, text: &str) -> io::Result<()> {
        let mut frame = String::from("\x1b[?2026h\x1b[H");
        if let Some(trouble) = trouble {
            frame.push_str(&format!("\x1b[7m{}\x1b[0m\x1b[K\r\n", escape::terminal(trouble)));
        }
        frame.push_str(&text.trim_end_matches('\n').replace('\n', "\x1b[K\r\n"));
        frame.push_str("\x1b[K\x1b[J\x1b[?2026l");
        let mut out = io::stdout().lock();
        out.write_all(frame.as_bytes())?;
        out.flush()
    }

    /// Waits for the reader. Cancel-safe: nothing is taken that is not answered.
    pub(super) async fn event(&mut self) -> Event {
        tokio::select! {
            _ = self.keys.recv() => Event::Leave,
            _ = self.ended.recv() => Event::Leave,
            _ = self.resized.recv() => Event::Resized,
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = io::stdout().write_all(LEAVE.as_bytes());
        let _ = io::stdout().flush();
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

/// Columns and rows; 80 by 24 where nothing is known.
pub(super) fn size() -> (usize, usize) {
    match rustix::termios::tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
        _ => (80, 24),
    }
}
