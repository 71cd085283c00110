//! Job logs: following one as it grows, and the end of one that failed.

use super::text;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// A line without an end that is longer than this is shown in pieces.
const LONGEST_LINE: usize = 64 * 1024;
/// How far back the end of a log is looked at.
const TAIL: u64 = 256 * 1024;

/// Reads a growing log file line by line.
#[derive(Debug, Default)]
pub(in crate::report) struct Follower {
    path: PathBuf,
    offset: u64,
    partial: Vec<u8>,
}

impl Follower {
    /// The lines that are complete now that the file has `length` bytes. A new path starts anew.
    pub(in crate::report) fn lines(&mut self, path: &Path, length: u64) -> io::Result<Vec<Vec<u8>>> {
        let mut lines = Vec::new();
        if self.path != path {
            lines.extend(self.rest());
            *self = Follower { path: path.to_owned(), ..Follower::default() };
        }
        if length <= self.offset {
            return Ok(lines);
        }
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(self.offset))?;
        let mut reader = io::BufReader::new(file.take(length - self.offset));
        loop {
            let read = io::BufRead::fill_buf(&mut reader)?;
            if read.is_empty() {
                break;
            }
            let count = read.len();
            for piece in read.split_inclusive(|b| *b == b'\n') {
                self.partial.extend_from_slice(piece);
                if piece.ends_with(b"\n") || self.partial.len() > LONGEST_LINE {
                    lines.push(std::mem::take(&mut self.partial));
                }
            }
            self.offset += count as u64;
            io::BufRead::consume(&mut reader, count);
        }
        Ok(lines)
    }

    /// What is left without a line end.
    pub(in crate::report) fn rest(&mut self) -> Option<Vec<u8>> {
        Some(std::mem::take(&mut self.partial)).filter(|p| !p.is_empty())
    }
}

/// The last `limit` bytes before `length`, from a line start on.
fn end_of(path: &Path, length: u64, limit: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let start = length.saturating_sub(limit);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(length - start).read_to_end(&mut bytes)?;
    if start > 0
        && let Some(line) = bytes.iter().position(|b| *b == b'\n')
        && line + 1 < bytes.len()
    {
        bytes.drain(..=line);
    }
    Ok(bytes)
}

/// The last line with something on it.
pub(super) fn last_line(path: &Path, length: u64) -> io::Result<Option<String>> {
    let bytes = end_of(path, length, 4096)?;
    let clean = |line| text::clean(line, false).filter(|t| !t.trim().is_empty());
    Ok(bytes.rsplit(|b| *b == b'\n').find_map(clean))
}

/// Sections of the log that hold the script's output.
const SCRIPT_SECTIONS: [&str; 2] = ["step_script", "script"];

/// The end of a failed job's log.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::report) struct Excerpt {
    /// Lines before these that are not shown.
    pub(in crate::report) left_out: bool,
    /// The lines, safe to print.
    pub(in crate::report) lines: Vec<String>,
    /// Which line is the echo (`$ command`) of the script's last command: the one that failed, if the script did.
    pub(in crate::report) culprit: Option<usize>,
}

/// What all commands of the script printed, but at most `count` lines; of a job that failed outside its script,
/// the last lines.
pub(super) fn script(path: &Path, length: u64, count: usize) -> io::Result<Excerpt> {
    let bytes = end_of(path, length, TAIL)?;
    let mut lines: Vec<&[u8]> = bytes.split(|b| *b == b'\n').collect();
    let end_of_script = lines.iter().rposition(|line| ends_script(line));
    if let Some(end) = end_of_script {
        end_at(&mut lines, end);
    }
    let begin_of_script = lines.iter().rposition(|line| begins_script(line));
    if let Some(begin) = begin_of_script {
        // also its heading
        lines.drain(..=begin);
    }
    let mut excerpt = Excerpt { left_out: length > TAIL && begin_of_script.is_none(), ..Excerpt::default() };
    for line in lines {
        let line = before_marker(line);
        let Some(shown) = text::clean(line, false) else { continue };
        if is_echo(line, &shown) {
            excerpt.culprit = Some(excerpt.lines.len());
        }
        excerpt.lines.push(shown);
    }
    while excerpt.lines.last().is_some_and(|l| l.trim().is_empty()) {
        excerpt.lines.pop();
    }
    // the failing command itself is never among what is left out
    let too_many = excerpt.lines.len().saturating_sub(count);
    if too_many > 0 {
        excerpt.left_out = true;
        let culprit = excerpt.culprit.filter(|at| *at < too_many).map(|at| excerpt.lines[at].clone());
        excerpt.lines.drain(..too_many);
        excerpt.culprit = excerpt.culprit.and_then(|at| at.checked_sub(too_many));
        if let Some(echo) = culprit {
            excerpt.lines.insert(0, echo);
            excerpt.culprit = Some(0);
        }
    }
    Ok(excerpt)
}

/// What the failing command printed: its echo (`$ command`) and its last `count` lines. Of a job that failed
/// outside its script, the last `count` lines.
pub(in crate::report) fn failure(path: &Path, length: u64, count: usize) -> io::Result<Excerpt> {
    let bytes = end_of(path, length, TAIL)?;
    let mut lines: Vec<&[u8]> = bytes.split(|b| *b == b'\n').collect();
    let end_of_script = lines.iter().rposition(|line| ends_script(line));
    if let Some(end) = end_of_script {
        end_at(&mut lines, end);
    }
    let mut last: VecDeque<String> = VecDeque::new();
    let mut echo = None;
    let mut left_out = false;
    for line in lines {
        let line = before_marker(line);
        let Some(shown) = text::clean(line, false) else { continue };
        if is_echo(line, &shown) {
            last.clear();
            (echo, left_out) = (Some(shown), false);
            continue;
        }
        last.push_back(shown);
        if last.len() > count {
            last.pop_front();
            left_out = true;
        }
    }
    while last.back().is_some_and(|l| l.trim().is_empty()) {
        last.pop_back();
    }
    let echo = echo.filter(|_| end_of_script.is_some() || !last.is_empty());
    let culprit = echo.as_ref().map(|_| 0);
    Ok(Excerpt { left_out, culprit, lines: echo.into_iter().chain(last).collect() })
}

/// A command's echo is in bold green, as the runner writes it; a program's own `$ ...` is not.
fn is_echo(line: &[u8], shown: &str) -> bool {
    shown.starts_with("$ ") && line.windows(7).any(|w| w == b"\x1b[32;1m")
}

fn ends_script(line: &[u8]) -> bool {
    has_marker(line, "section_end:")
}

fn begins_script(line: &[u8]) -> bool {
    has_marker(line, "section_start:")
}

fn has_marker(line: &[u8], marker: &str) -> bool {
    let line = String::from_utf8_lossy(line);
    let mut names = line.match_indices(marker).filter_map(|(at, _)| line[at..].split([':', '\r']).nth(2));
    names.any(|name| SCRIPT_SECTIONS.contains(&name.trim_end()))
}

/// Ends the lines at the marker in line `at`, which may stand behind output without a line end and in front of the
/// next section.
fn end_at(lines: &mut Vec<&[u8]>, at: usize) {
    let marker = lines[at].windows(12).position(|w| w == b"section_end:").unwrap_or(0);
    lines[at] = &lines[at][..marker];
    lines.truncate(if marker == 0 { at } else { at + 1 });
}

/// Output without a line end that stands in front of a section's end.
fn before_marker(line: &[u8]) -> &[u8] {
    let marker = line.windows(12).position(|w| w == b"section_end:");
    match marker {
        Some(at) if at > 0 => &line[..at],
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn log(content: &str) -> (tempfile::NamedTempFile, u64) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content.as_bytes()).unwrap();
        (file, content.len() as u64)
    }

    #[test]
    fn a_follower_gives_each_line_once_and_only_as_far_as_told() {
        let (file, _) = log("one\ntwo\nthr");
        let mut follower = Follower::default();
        let text = |lines: Vec<Vec<u8>>| String::from_utf8(lines.concat()).unwrap();
        assert_eq!(text(follower.lines(file.path(), 5).unwrap()), "one\n");
        assert_eq!(text(follower.lines(file.path(), 8).unwrap()), "two\n");
        assert_eq!(text(follower.lines(file.path(), 8).unwrap()), "");
        assert_eq!(text(follower.lines(file.path(), 11).unwrap()), "");
        let (second, length) = log("next attempt\n");
        assert_eq!(text(follower.lines(second.path(), length).unwrap()), "thrnext attempt\n");
        assert_eq!(follower.rest(), None);
    }

    #[test]
    fn an_endless_line_comes_in_pieces() {
        let (file, length) = log(&"x".repeat(300_000));
        let mut follower = Follower::default();
        let lines = follower.lines(file.path(), length).unwrap();
        assert!(lines.len() > 2 && lines.iter().all(|l| l.len() < 2 * LONGEST_LINE));
        let rest = follower.rest().map_or(0, |r| r.len());
        assert_eq!(lines.iter().map(Vec::len).sum::<usize>() + rest, 300_000);
    }

    #[test]
    fn the_failing_command_and_its_end_are_shown() {
        let script = "section_start:1:step_script\r\x1b[0KExecuting\n\x1b[32;1m$ make\x1b[0;m\nfine\n\
                      \x1b[32;1m$ make test\x1b[0;m\n1\n2\n$ own\n3\nsection_end:2:step_script\r\x1b[0K\
                      section_start:2:after_script\r\x1b[0K\n\x1b[32;1m$ echo bye\x1b[0;m\nbye\n";
        let cut = "section_start:1:step_script\r\x1b[0K\n\x1b[32;1m$ x\x1b[0;m\nno endsection_end:2:step_script\r\x1b[0K\n";
        let table: [(&str, usize, &[&str]); 6] = [
            (script, 20, &["$ make test", "1", "2", "$ own", "3"]),
            (script, 2, &["$ make test", "$ own", "3"]),
            (cut, 20, &["$ x", "no end"]),
            (
                "section_start:1:prepare\r\x1b[0KPreparing\nno such image\n",
                20,
                &["Preparing", "no such image"],
            ),
            ("\x1b[32;1m$ false\x1b[0;m\nsection_end:1:script\r\x1b[0K", 20, &["$ false"]),
            ("", 20, &[]),
        ];
        for (content, count, expected) in table {
            let (file, length) = log(content);
            assert_eq!(failure(file.path(), length, count).unwrap().lines, expected, "{content:?}");
        }
    }

    #[test]
    fn a_whole_script_is_shown_with_the_failing_command_pointed_at() {
        let text = "section_start:1:prepare\r\x1b[0KPreparing\nsection_end:1:prepare\r\x1b[0K\
                    section_start:1:step_script\r\x1b[0KScript\n\x1b[32;1m$ one\x1b[0;m\n1\n\
                    \x1b[32;1m$ two\x1b[0;m\n2\n3\nsection_end:2:step_script\r\x1b[0K\
                    section_start:2:cleanup\r\x1b[0KCleaning up\n";
        type Row<'a> = (&'a str, usize, &'a [&'a str], Option<usize>, bool);
        let table: [Row<'_>; 4] = [
            (text, 20, &["$ one", "1", "$ two", "2", "3"], Some(2), false),
            (text, 4, &["1", "$ two", "2", "3"], Some(1), true),
            (text, 1, &["$ two", "3"], Some(0), true),
            (
                "section_start:1:prepare\r\x1b[0KPreparing\nno image\n",
                9,
                &["Preparing", "no image"],
                None,
                false,
            ),
        ];
        for (content, count, lines, culprit, left_out) in table {
            let (file, length) = log(content);
            let excerpt = script(file.path(), length, count).unwrap();
            assert_eq!(
                (excerpt.lines.as_slice(), excerpt.culprit, excerpt.left_out),
                (&lines.iter().map(|l| (*l).to_owned()).collect::<Vec<_>>()[..], culprit, left_out)
            );
        }
    }

    #[test]
    fn the_last_line_is_the_last_with_something_on_it() {
        let table = [
            ("a\nb\n\n  \n", Some("b")),
            ("a\n10%\r20%", Some("20%")),
            ("", None),
            ("a\nsection_end:1:x\r\x1b[0K", Some("a")),
        ];
        for (content, expected) in table {
            let (file, length) = log(content);
            assert_eq!(last_line(file.path(), length).unwrap().as_deref(), expected, "{content:?}");
        }
    }
}
