//! The log file of one attempt of a job, and the events that say how far it has grown.

use super::{Limit, Masker};
use pipelines::event::EventKind;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{Duration, Instant};

/// Readers hear of growth at most this often.
const ANNOUNCE_EVERY: Duration = Duration::from_millis(100);

/// How a line of the runner itself looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// As it is.
    Plain,
    /// What a phase is about.
    Heading,
    /// The job succeeded.
    Good,
    /// Fails nothing.
    Warning,
    /// Why the job failed.
    Error,
}

/// What a log is made with.
#[derive(Debug)]
pub struct JobLogOptions {
    /// Name of the job, for events.
    pub job: String,
    /// The file; appended to.
    pub path: PathBuf,
    /// Bytes of script output that are kept.
    pub limit: u64,
    /// Where events go.
    pub events: UnboundedSender<EventKind>,
}

/// Writes a job's log. Script output is masked and limited; the runner's own lines are masked only, so that the
/// reason of a failure is there however chatty the script was. Sections are written as they are.
#[derive(Debug)]
pub struct JobLog {
    options: JobLogOptions,
    file: File,
    length: u64,
    announced: u64,
    next_announcement: Instant,
    at_line_start: bool,
    masker: Masker,
    limit: Limit,
    section: Option<&'static str>,
    /// Lines that wait for the end of a script's line.
    beside: Vec<String>,
    error: Option<io::Error>,
}

impl JobLog {
    /// Opens the file for appending, makes its directory.
    ///
    /// # Errors
    /// The file or its directory can't be made.
    pub fn open(options: JobLogOptions) -> io::Result<JobLog> {
        if let Some(directory) = options.path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        let file = OpenOptions::new().create(true).append(true).open(&options.path)?;
        let length = file.metadata()?.len();
        Ok(JobLog {
            limit: Limit::new(options.limit),
            options,
            file,
            length,
            announced: length,
            next_announcement: Instant::now(),
            at_line_start: true,
            masker: Masker::default(),
            section: None,
            beside: Vec::new(),
            error: None,
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.options.path
    }

    /// Hides `value` from now on.
    pub fn hide(&mut self, value: &str) {
        self.masker.add(value);
    }

    /// A text for somewhere else than the log, with what the log hides hidden.
    pub fn masked(&self, text: &str) -> String {
        self.masker.mask(text)
    }

    /// Tells whoever watches the run, with what the log hides hidden.
    pub fn notice(&self, text: &str) {
        let (job, message) = (Some(self.options.job.clone()), self.masked(text));
        // nobody listening is no reason to stop a job
        let _ = self.options.events.send(EventKind::Notice { job, message });
    }

    /// Bytes of a script, in any pieces.
    pub fn output(&mut self, bytes: &[u8]) {
        let mut shown = Vec::with_capacity(bytes.len());
        self.masker.push(bytes, &mut shown);
        if let Some(end) = shown.iter().rposition(|byte| *byte == b'\n').filter(|_| !self.beside.is_empty()) {
            let rest = shown.split_off(end + 1);
            self.limited(&shown);
            self.write_beside(false);
            shown = rest;
        }
        self.limited(&shown);
        self.write_beside(false);
    }

    /// A line of somebody else's output: it is written when the script is at the beginning of a line, so that it
    /// tears no line apart, and no secret: what the mask holds back stays held back. It counts as output.
    pub fn beside(&mut self, line: String) {
        self.beside.push(line);
        self.write_beside(false);
    }

    fn write_beside(&mut self, even_within_a_line: bool) {
        if self.beside.is_empty() || !(even_within_a_line || self.at_line_start) {
            return;
        }
        let newline = if self.at_line_start { "" } else { "\n" };
        let mut text = newline.to_owned();
        for line in std::mem::take(&mut self.beside) {
            text.push_str(&self.masker.mask(&line));
            text.push('\n');
        }
        self.limited(text.as_bytes());
    }

    /// The script has ended: what looked like the beginning of a secret was none.
    pub fn end_output(&mut self) {
        let mut shown = Vec::new();
        self.masker.finish(&mut shown);
        self.limited(&shown);
        self.write_beside(true);
    }

    /// A line of the runner itself.
    pub fn line(&mut self, tone: Tone, text: &str) {
        self.end_output();
        let text = self.masker.mask(text);
        let (on, off) = match tone {
            Tone::Plain => ("", ""),
            Tone::Heading => ("\x1b[36;1m", "\x1b[0;m"),
            Tone::Good => ("\x1b[32;1m", "\x1b[0;m"),
            Tone::Warning => ("\x1b[0;33m", "\x1b[0;m"),
            Tone::Error => ("\x1b[31;1m", "\x1b[0;m"),
        };
        let newline = if self.at_line_start { "" } else { "\n" };
        self.write(format!("{newline}{on}{text}{off}\n").as_bytes());
    }

    /// Begins a section that GitLab's log view can fold; ends the one before.
    pub fn section(&mut self, name: &'static str, title: &str) {
        self.end_section();
        self.write(format!("section_start:{}:{name}\r\x1b[0K", unix_time()).as_bytes());
        self.line(Tone::Heading, title);
        self.section = Some(name);
    }

    /// Ends the section that is open.
    pub fn end_section(&mut self) {
        self.end_output();
        self.write_tail();
        if let Some(name) = self.section.take() {
            let newline = if self.at_line_start { "" } else { "\n" };
            self.write(format!("{newline}section_end:{}:{name}\r\x1b[0K", unix_time()).as_bytes());
            // the marker erases itself: what follows stands at the beginning of a line
            self.at_line_start = true;
        }
    }

    /// When readers should be told next; none when they know everything.
    pub fn due(&self) -> Option<Instant> {
        (self.announced < self.length).then_some(self.next_announcement)
    }

    /// Tells readers how long the file is, if it has grown.
    pub fn announce(&mut self) {
        if self.announced < self.length {
            self.announced = self.length;
            self.next_announcement = Instant::now() + ANNOUNCE_EVERY;
            // nobody listening is no reason to stop a job
            let _ = self.options.events.send(EventKind::JobLog {
                job: self.options.job.clone(),
                path: self.options.path.to_string_lossy().into_owned(),
                length: self.length,
            });
        }
    }

    /// Ends the log: everything is written and announced.
    ///
    /// # Errors
    /// The first write that failed.
    pub fn finish(mut self) -> io::Result<()> {
        self.end_section();
        self.announce();
        self.error.map_or(Ok(()), Err)
    }

    fn limited(&mut self, bytes: &[u8]) {
        let (kept, cut) = self.limit.take(bytes);
        self.write(kept);
        if cut {
            let limit = self.options.limit;
            let newline = if self.at_line_start { "" } else { "\n" };
            let text = format!(
                "{newline}\x1b[31;1mJob's log exceeded limit of {limit} bytes: the job goes on, of further output of its \
                 scripts only the last lines are kept.\x1b[0;m\n"
            );
            self.write(text.as_bytes());
        }
    }

    fn write_tail(&mut self) {
        let Some(tail) = self.limit.tail() else { return };
        if tail.lost > 0 {
            let newline = if self.at_line_start { "" } else { "\n" };
            let lost = tail.lost;
            self.write(format!("{newline}\x1b[31;1m({lost} bytes are left out)\x1b[0;m\n").as_bytes());
        }
        self.write(&tail.bytes);
    }

    fn write(&mut self, bytes: &[u8]) {
        let Some(last) = bytes.last() else { return };
        if self.error.is_some() {
            return;
        }
        match self.file.write_all(bytes) {
            Ok(()) => {
                self.length += bytes.len() as u64;
                self.at_line_start = *last == b'\n' || bytes.ends_with(b"\x1b[0K");
                if self.next_announcement <= Instant::now() {
                    self.announce();
                }
            }
            Err(error) => self.error = Some(error),
        }
    }
}

fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    fn log(limit: u64) -> (JobLog, UnboundedReceiver<EventKind>, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let (events, receiver) = unbounded_channel();
        let path = dir.path().join("jobs/x/job.log");
        (JobLog::open(JobLogOptions { job: "x".into(), path, limit, events }).unwrap(), receiver, dir)
    }

    #[test]
    fn masks_before_it_cuts_and_keeps_the_runners_lines() {
        let (mut log, mut events, _dir) = log(14);
        log.hide("secretsecret");
        let path = log.path().to_owned();
        log.output(b"abc secret");
        log.output(b"secret and much more");
        log.end_section();
        log.line(Tone::Error, "failed with secretsecret");
        log.finish().unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.starts_with("abc [MASKED] a\n"), "{text:?}");
        assert!(text.contains("exceeded limit of 14 bytes"), "{text:?}");
        assert!(text.ends_with("failed with [MASKED]\u{1b}[0;m\n"), "{text:?}");
        let mut last = 0;
        while let Ok(EventKind::JobLog { length, .. }) = events.try_recv() {
            last = length;
        }
        assert_eq!(last, text.len() as u64);
    }

    #[test]
    fn lines_beside_the_output_tear_neither_lines_nor_secrets_apart() {
        let (mut log, _events, _dir) = log(1000);
        log.hide("secretsecret");
        let path = log.path().to_owned();
        log.output(b"half a ");
        log.beside("[service:a] one".into());
        log.output(b"line\nthe next secret");
        log.beside("[service:a] secretsecret".into());
        log.output(b"secret ends");
        log.beside("[service:a] three".into());
        log.finish().unwrap();
        let expected = "half a line\n[service:a] one\nthe next [MASKED] ends\n\
            [service:a] [MASKED]\n[service:a] three\n";
        assert_eq!(std::fs::read_to_string(path).unwrap(), expected);
    }

    #[test]
    fn sections_are_paired_and_start_on_their_own_line() {
        let (mut log, _events, _dir) = log(1000);
        let path = log.path().to_owned();
        log.section("step_script", "Script");
        log.output(b"no newline");
        log.section("after_script", "After");
        log.finish().unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        for (count, marker) in [(2, "section_start:"), (2, "section_end:"), (1, "no newline\nsection_end:")] {
            assert_eq!(text.matches(marker).count(), count, "{marker} in {text:?}");
        }
    }
}
