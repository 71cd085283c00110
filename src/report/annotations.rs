//! `--annotations github`: failures as commands that GitHub's log view shows at the file.

use super::terminal::log;
use super::terminal::state::RunState;
use pipelines::event::Event;
use pipelines::status::Status;
use std::fmt::Write as _;

/// Lines of output in an annotation.
const LINES: usize = 10;

/// A line for each failed job. `place`: where a job stands in the configuration, file and line.
pub fn github(events: &[Event], place: impl Fn(&str) -> Option<(String, usize)>) -> String {
    let mut run = RunState::default();
    events.iter().for_each(|event| run.apply(event));
    let mut text = String::new();
    for job in run.jobs.iter().filter(|job| job.status == Status::Failed) {
        let level = if job.allowed_to_fail { "warning" } else { "error" };
        let place = place(&job.name)
            .map_or(String::new(), |(file, line)| format!("file={},line={line},", property(&file)));
        let mut said = vec![job.message.clone().unwrap_or_else(|| job.verdict())];
        if let Some((path, length)) = &job.log {
            said.extend(log::failure(path, *length, LINES).map(|excerpt| excerpt.lines).unwrap_or_default());
        }
        let title = property(&format!("{} {}", job.name, job.verdict()));
        let _ = writeln!(text, "::{level} {place}title={title}::{}", message(&said.join("\n")));
    }
    text
}

fn message(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    message(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_text_can_begin_another_command() {
        assert_eq!(message("50%\n::error::no"), "50%25%0A::error::no");
        assert_eq!(property("a,b: c"), "a%2Cb%3A c");
    }
}
