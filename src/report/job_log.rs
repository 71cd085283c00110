//! A job's log for people: the runner's own sections folded to a line, the script's output kept.

use super::terminal::text;
use std::io::{self, Write};

/// Sections in which only the runner speaks.
const RUNNERS: [&str; 7] = [
    "prepare_executor",
    "get_sources",
    "restore_cache",
    "download_artifacts",
    "archive_cache",
    "upload_artifacts",
    "cleanup_file_variables",
];
/// Sections of the job's own commands.
const SCRIPTS: [&str; 3] = ["step_script", "script", "after_script"];

/// Takes a log line by line.
pub struct JobLogView {
    colour: bool,
    unfold: bool,
    /// The folded section that is open, and its lines.
    open: Option<(String, Vec<String>)>,
    /// The lines of the last folded section, until the script begins: they say why it never did.
    last: Vec<String>,
    had_script: bool,
}

/// `section_start` or `section_end`, as GitLab's log view knows them.
struct Marker<'l> {
    is_start: bool,
    name: &'l str,
    collapsed: bool,
}

impl JobLogView {
    /// A view; with `unfold` every section is shown whole.
    pub fn new(colour: bool, unfold: bool) -> JobLogView {
        JobLogView { colour, unfold, open: None, last: Vec::new(), had_script: false }
    }

    /// The next line of the log.
    ///
    /// # Errors
    /// The output can't be written.
    pub fn line(&mut self, line: &[u8], out: &mut dyn Write) -> io::Result<()> {
        let line = String::from_utf8_lossy(line);
        let mut rest: &str = &line;
        let mut marked = false;
        while let Some((before, marker, after)) = next_marker(rest) {
            if !before.is_empty() {
                self.text(before, out)?;
            }
            self.marker(&marker, out)?;
            (rest, marked) = (after, true);
        }
        // what follows a marker is a line only if something is there
        if marked && rest.trim_end_matches(['\r', '\n']).is_empty() { Ok(()) } else { self.text(rest, out) }
    }

    /// The log is over: a section that never ended is shown.
    ///
    /// # Errors
    /// The output can't be written.
    pub fn end(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let open = self.open.take();
        open.into_iter().flat_map(|(_, lines)| lines).try_for_each(|line| writeln!(out, "{line}"))
    }

    fn text(&mut self, text: &str, out: &mut dyn Write) -> io::Result<()> {
        let Some(shown) = text::clean(text.as_bytes(), self.colour) else { return Ok(()) };
        if let Some((_, lines)) = &mut self.open {
            lines.push(shown);
            return Ok(());
        }
        if !self.had_script && text::clean(text.as_bytes(), false).is_some_and(|t| t.starts_with("ERROR: ")) {
            std::mem::take(&mut self.last).iter().try_for_each(|line| writeln!(out, "  {line}"))?;
        }
        writeln!(out, "{shown}")
    }

    fn marker(&mut self, marker: &Marker<'_>, out: &mut dyn Write) -> io::Result<()> {
        if marker.is_start {
            self.had_script |= SCRIPTS.contains(&marker.name);
            let folded = RUNNERS.contains(&marker.name) || marker.collapsed;
            if self.open.is_none() && folded && !self.unfold {
                self.open = Some((marker.name.to_owned(), Vec::new()));
            }
            return Ok(());
        }
        match self.open.take() {
            Some((name, lines)) if name == marker.name => {
                self.fold(&lines, out)?;
                self.last = lines.into_iter().skip(1).collect();
                Ok(())
            }
            other => {
                self.open = other;
                Ok(())
            }
        }
    }

    fn fold(&self, lines: &[String], out: &mut dyn Write) -> io::Result<()> {
        let Some(title) = lines.first() else { return Ok(()) };
        match lines.len() - 1 {
            0 => writeln!(out, "{title}"),
            1 => writeln!(out, "{title} … 1 line"),
            more => writeln!(out, "{title} … {more} lines"),
        }
    }
}

/// The text before the first marker, the marker, what follows it.
fn next_marker(line: &str) -> Option<(&str, Marker<'_>, &str)> {
    let (at, is_start) = match (line.find("section_start:"), line.find("section_end:")) {
        (Some(start), Some(end)) if start < end => (start, true),
        (_, Some(end)) => (end, false),
        (Some(start), None) => (start, true),
        (None, None) => return None,
    };
    let end = line[at..].find('\r').map(|length| at + length)?;
    let name = line[at..end].splitn(3, ':').nth(2)?;
    let (name, options) = name.split_once('[').unwrap_or((name, ""));
    let marker = Marker { is_start, name, collapsed: options.contains("collapsed=true") };
    let rest = &line[end + 1..];
    Some((&line[..at], marker, rest.strip_prefix("\x1b[0K").unwrap_or(rest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(log: &str, unfold: bool) -> String {
        let mut view = JobLogView::new(false, unfold);
        let mut out = Vec::new();
        for line in log.split_inclusive('\n') {
            view.line(line.as_bytes(), &mut out).expect("a vector");
        }
        view.end(&mut out).expect("a vector");
        String::from_utf8(out).expect("text")
    }

    const GOOD: &str = "section_start:1:prepare_executor\r\x1b[0K\x1b[36;1mPreparing\x1b[0;m\nUsing x\n\
        section_end:1:prepare_executor\r\x1b[0Ksection_start:1:step_script\r\x1b[0KScript\n\
        \x1b[32;1m$ make\x1b[0;m\nsection_start:1:own[collapsed=true]\r\x1b[0KDetails\n1\n2\n\
        section_end:1:own\r\x1b[0Kno end section_end:2:step_script\r\x1b[0KJob succeeded\n";

    #[test]
    fn only_what_the_job_said_is_shown_whole() {
        let folded = "Preparing … 1 line\nScript\n$ make\nDetails … 2 lines\nno end \nJob succeeded\n";
        assert_eq!(view(GOOD, false), folded);
        let unfolded = "Preparing\nUsing x\nScript\n$ make\nDetails\n1\n2\nno end \nJob succeeded\n";
        assert_eq!(view(GOOD, true), unfolded);
    }

    #[test]
    fn the_section_in_which_a_job_failed_is_unfolded() {
        let failed = "section_start:1:prepare_executor\r\x1b[0KPreparing\nno image\n\
            section_end:1:prepare_executor\r\x1b[0K\x1b[31;1mERROR: Job failed: x\x1b[0;m\n";
        assert_eq!(view(failed, false), "Preparing … 1 line\n  no image\nERROR: Job failed: x\n");
        let cut = "section_start:1:prepare_executor\r\x1b[0KPreparing\nno im";
        assert_eq!(view(cut, false), "Preparing\nno im\n");
    }

    #[test]
    fn texts_that_only_look_like_markers_are_kept() {
        for text in ["section_start: no\n", "about section_end:1:x\n"] {
            assert_eq!(view(text, false), text);
        }
    }
}
