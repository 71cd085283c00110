//! The loop of the report.

use super::live::{Live, Size};
use super::order::Estimates;
use super::paint::Paint;
use super::plain::{Plain, Told};
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
    /// The first line, and at the end the table and what failed.
    Ends {
        /// With colours?
        colour: bool,
    },
    /// Only what failed, and the last line.
    Quiet {
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
    /// What suits standard output. `NO_COLOR`, `CLICOLOR_FORCE` and `TERM=dumb` are honoured.
    pub fn of_stdout() -> Mode {
        let stdout = io::stdout();
        let colour = anstream::AutoStream::choice(&stdout) != anstream::ColorChoice::Never;
        let moves = std::env::var_os("TERM").is_some_and(|term| term != "dumb");
        if stdout.is_terminal() && moves { Mode::Live { colour } } else { Mode::Plain { colour } }
    }

    /// With colours?
    pub fn colour(self) -> bool {
        match self {
            Mode::Plain { colour }
            | Mode::Ends { colour }
            | Mode::Quiet { colour }
            | Mode::Live { colour } => colour,
        }
    }

    /// The same, of another kind: `Mode::of_stdout().but(|colour| Mode::Quiet { colour })`.
    #[must_use]
    pub fn but(self, other: impl Fn(bool) -> Mode) -> Mode {
        other(self.colour())
    }
}

/// Time between two frames: fast enough for the eye, slow enough for a remote terminal.
const FRAME: Duration = Duration::from_millis(100);

/// Reports until the run ends. Blocks: give it a thread of its own.
///
/// # Errors
/// The output can't be written (its reader has gone). The run goes on without a report then.
pub fn report(events: &Receiver<Arc<Event>>, mode: Mode, out: &mut dyn Write) -> io::Result<()> {
    report_with(events, mode, Estimates::default(), out)
}

/// As [`report`], knowing how long jobs usually take.
///
/// # Errors
/// As [`report`].
pub fn report_with(
    events: &Receiver<Arc<Event>>,
    mode: Mode,
    estimates: Estimates,
    out: &mut dyn Write,
) -> io::Result<()> {
    match plain(mode) {
        Some(mut plain) => events.iter().try_for_each(|event| plain.event(&event, out)),
        None => {
            let paint = Paint { colour: mode.colour() };
            live(events, Live::new(paint, estimates), out)
        }
    }
}

/// The report of a run that is on disk; of one that has not ended, the jobs as they stand.
///
/// # Errors
/// The output can't be written.
pub fn replay(events: &[Event], mode: Mode, out: &mut dyn Write) -> io::Result<()> {
    let whole = mode.but(|colour| Mode::Plain { colour });
    let Some(mut plain) = plain(mode).or_else(|| plain(whole)) else { return Ok(()) };
    events.iter().try_for_each(|event| plain.event(event, out))?;
    let over = events.iter().any(|event| matches!(event.kind, EventKind::RunFinished { .. }));
    if over { Ok(()) } else { plain.unfinished(out) }
}

fn plain(mode: Mode) -> Option<Plain> {
    let of = |colour, told| Some(Plain::new(Paint { colour }, told));
    match mode {
        Mode::Plain { colour } => of(colour, Told::All),
        Mode::Ends { colour } => of(colour, Told::Ends),
        Mode::Quiet { colour } => of(colour, Told::Failures),
        Mode::Live { .. } => None,
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

pub(super) fn now() -> u64 {
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
