//! The loop of the report.

use super::live::{Live, Size};
use super::paint::Paint;
use super::plain::Plain;
use pipelines::event::{Event, EventKind};
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How to report to people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A line for whatever happens, log lines too.
    Plain {
        /// With colours?
        colour: bool,
    },
    /// A moving region at the bottom of the terminal that standard output is.
    Live {
        /// With colours?
        colour: bool,
    },
}

impl Mode {
    /// Without the moving region.
    pub fn plain(self) -> Mode {
        match self {
            Mode::Plain { colour } | Mode::Live { colour } => Mode::Plain { colour },
        }
    }

    /// What suits standard output. `NO_COLOR`, `CLICOLOR_FORCE` and `TERM=dumb` are honoured.
    pub fn of_stdout() -> Mode {
        let stdout = io::stdout();
        let colour = anstream::AutoStream::choice(&stdout) != anstream::ColorChoice::Never;
        let moves = std::env::var_os("TERM").is_some_and(|term| term != "dumb");
        if stdout.is_terminal() && moves { Mode::Live { colour } } else { Mode::Plain { colour } }
    }
}

/// Time between two frames: fast enough for the eye, slow enough for a remote terminal.
const FRAME: Duration = Duration::from_millis(100);

/// Reports until the run ends. Blocks: give it a thread of its own.
///
/// # Errors
/// The output can't be written (its reader has gone). The run goes on without a report then.
pub fn report(events: &Receiver<Arc<Event>>, mode: Mode, out: &mut dyn Write) -> io::Result<()> {
    match mode {
        Mode::Plain { colour } => {
            let mut plain = Plain::new(Paint { colour });
            events.iter().try_for_each(|event| plain.event(&event, out))
        }
        Mode::Live { colour } => live(events, Live::new(Paint { colour }), out),
    }
}

fn live(events: &Receiver<Arc<Event>>, mut live: Live, out: &mut dyn Write) -> io::Result<()> {
    let mut next_frame = Instant::now();
    loop {
        let over = match events.recv_timeout(next_frame.saturating_duration_since(Instant::now())) {
            Ok(event) => {
                live.event(&event);
                matches!(event.kind, EventKind::RunFinished { .. })
            }
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => return live.draw(now(), size(), out),
        };
        if over || Instant::now() >= next_frame {
            live.draw(now(), size(), out)?;
            next_frame = Instant::now() + FRAME;
        }
        if over {
            return Ok(());
        }
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Columns of the terminal that standard output is, else 80.
pub fn columns() -> usize {
    size().columns
}

fn size() -> Size {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok().filter(|s| s.ws_col > 0 && s.ws_row > 0);
    size.map_or(Size { columns: 80, rows: 24 }, |s| Size { columns: s.ws_col.into(), rows: s.ws_row.into() })
}
