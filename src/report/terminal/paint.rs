//! Colours, where they are wanted.

use anstyle::{AnsiColor, Style};
use pipelines::status::Status;

/// Writes text with or without colours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paint {
    pub(super) colour: bool,
}

const NAMES: [AnsiColor; 6] = [
    AnsiColor::Cyan,
    AnsiColor::Magenta,
    AnsiColor::Blue,
    AnsiColor::BrightCyan,
    AnsiColor::BrightMagenta,
    AnsiColor::BrightBlue,
];

impl Paint {
    fn with(self, style: Style, text: &str) -> String {
        if self.colour { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }

    pub(super) fn bold(self, text: &str) -> String {
        self.with(Style::new().bold(), text)
    }

    pub(super) fn dim(self, text: &str) -> String {
        self.with(Style::new().dimmed(), text)
    }

    /// A job's name; the colour comes from its place in the plan.
    pub(super) fn name(self, index: usize, text: &str) -> String {
        self.with(NAMES[index % NAMES.len()].on_default(), text)
    }

    pub(super) fn status(self, status: Status, allowed_to_fail: bool, text: &str) -> String {
        let colour = match status {
            Status::Success => AnsiColor::Green,
            Status::Failed if allowed_to_fail => AnsiColor::Yellow,
            Status::Failed => AnsiColor::Red,
            Status::Running | Status::Pending => AnsiColor::Blue,
            Status::Canceling | Status::Canceled => AnsiColor::Yellow,
            Status::Manual | Status::Scheduled | Status::WaitingForResource => AnsiColor::Cyan,
            Status::Created | Status::Skipped => return self.dim(text),
        };
        self.with(colour.on_default(), text)
    }
}
