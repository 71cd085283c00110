//! Whole reports, as they look.

use super::live::{Live, Size};
use super::order::Estimates;
use super::paint::Paint;
use super::show::{Mode, report};
use pipelines::event::{Event, EventKind, Phase};
use pipelines::plan::Plan;
use pipelines::status::{FailureReason, Status};
use proptest::prelude::*;
use serde_json::json;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};

fn plan(jobs: &[(&str, &str)]) -> Plan {
    let job = |(name, stage): &(&str, &str)| {
        let job = json!({ "name": name, "stage": stage, "when": "on_success", "allow_failure": false });
        serde_json::from_value(job).unwrap()
    };
    let mut stages: Vec<String> = jobs.iter().map(|(_, s)| (*s).to_owned()).collect();
    stages.dedup();
    Plan { stages, jobs: jobs.iter().map(job).collect(), ..Plan::default() }
}

/// A run told step by step; every event comes 500 ms after the one before.
struct Story {
    dir: tempfile::TempDir,
    events: Vec<Arc<Event>>,
}

impl Story {
    fn new(jobs: &[(&str, &str)]) -> Story {
        let mut story = Story { dir: tempfile::tempdir().unwrap(), events: Vec::new() };
        story.tell(EventKind::RunStarted {
            run: 7,
            reference: "main".to_owned(),
            sha: "0123456789abcdef".to_owned(),
            dirty: true,
            plan: Box::new(plan(jobs)),
        });
        story
    }

    fn tell(&mut self, kind: EventKind) {
        let seq = self.events.len() as u64 + 1;
        self.events.push(Arc::new(Event { seq, at: 1_000_000 + seq * 500, kind }));
    }

    fn status(&mut self, job: &str, status: Status) {
        self.tell(EventKind::JobStatus {
            job: job.to_owned(),
            status,
            attempt: 1,
            reason: None,
            exit_code: None,
            allowed_to_fail: false,
            message: None,
        });
    }

    fn failed(&mut self, job: &str, status: Status, attempt: u32, message: Option<&str>) {
        self.tell(EventKind::JobStatus {
            job: job.to_owned(),
            status,
            attempt,
            reason: Some(FailureReason::ScriptFailure),
            exit_code: Some(2),
            allowed_to_fail: false,
            message: message.map(str::to_owned),
        });
    }

    fn log_path(&self, job: &str) -> PathBuf {
        self.dir.path().join(job.replace('/', "-"))
    }

    fn log(&mut self, job: &str, text: &str) {
        let path = self.log_path(job);
        let old = std::fs::read(&path).unwrap_or_default();
        let new = [old.as_slice(), text.as_bytes()].concat();
        std::fs::write(&path, &new).unwrap();
        let path = path.display().to_string();
        self.tell(EventKind::JobLog { job: job.to_owned(), path, length: new.len() as u64 });
    }

    fn plain(&self, colour: bool) -> String {
        let (sender, receiver) = mpsc::channel();
        self.events.iter().for_each(|e| sender.send(Arc::clone(e)).unwrap());
        drop(sender);
        let mut out = Vec::new();
        report(&receiver, Mode::Plain { colour }, &mut out).unwrap();
        let dir = self.dir.path().display().to_string();
        String::from_utf8(out).unwrap().replace(&dir, "DIR")
    }
}

fn failing_run() -> Story {
    let mut story =
        Story::new(&[("build", "build"), ("test 1/2", "test"), ("deploy", "deploy"), ("ok", "deploy")]);
    story.status("build", Status::Pending);
    story.status("build", Status::Running);
    story.log("build", "section_start:1:step_script\r\x1b[0K\n\x1b[32;1m$ make\x1b[0;m\nhal");
    story.log("build", "f a line\nno end");
    story.status("build", Status::Success);
    story.status("test 1/2", Status::Running);
    story.failed("test 1/2", Status::Pending, 2, Some("attempt 1 failed, the job is retried"));
    story.status("test 1/2", Status::Running);
    story.tell(EventKind::Notice { job: Some("test 1/2".to_owned()), message: "slow\x1b[2J".to_owned() });
    story.log("test 1/2", "\x1b[32;1m$ make test\x1b[0;m\n\x1b[31mbroken\x1b[0m\x1b[5A\n");
    story.failed("test 1/2", Status::Failed, 2, Some("exit code 2"));
    story.status("deploy", Status::Skipped);
    story.status("ok", Status::Manual);
    story.tell(EventKind::RunFinished { status: Status::Failed });
    story
}

#[test]
fn the_plain_report_of_a_failing_run() {
    let expected = "\
run 7: main at 01234567 with uncommitted changes, 4 jobs in 3 stages
build    > running
build    | $ make
build    | half a line
build    | no end
build    > success after 1.5s
test 1/2 > running
test 1/2 > attempt 1 failed, the job is retried (exit code 2)
test 1/2 > running
test 1/2 ! slow
test 1/2 | $ make test
test 1/2 | broken
test 1/2 > failed (exit code 2) after 1.5s
deploy   > skipped
ok       > manual

job       stage   status                time
build     build   success               1.5s
test 1/2  test    failed (exit code 2)  1.5s  (attempt 2)
deploy    deploy  skipped               -
ok        deploy  manual                -

time spent     prepare 3.0s
critical path  3.0s: build 1.5s > test 1/2 1.5s

test 1/2: failed (exit code 2)
  > $ make test
  | broken
  whole log: DIR/test 1-2

pipeline failed after 7.0s: 1 success, 1 failed, 1 skipped, 1 manual
`ok` waits to be played: run again with --manual 'ok'
";
    assert_eq!(failing_run().plain(false), expected);
}

#[test]
fn quiet_reports_tell_failures_only_and_short_ones_begin_and_end() {
    let story = failing_run();
    let of = |mode: Mode| {
        let events: Vec<Event> = story.events.iter().map(|e| Event::clone(e)).collect();
        let mut out = Vec::new();
        super::replay(&events, mode, &mut out).unwrap();
        String::from_utf8(out).unwrap().replace(&story.dir.path().display().to_string(), "DIR")
    };
    let quiet = "
test 1/2: failed (exit code 2)
  > $ make test
  | broken
  whole log: DIR/test 1-2

pipeline failed after 7.0s: 1 success, 1 failed, 1 skipped, 1 manual
`ok` waits to be played: run again with --manual 'ok'
";
    assert_eq!(of(Mode::Quiet { colour: false }), quiet);
    let ends = of(Mode::Ends { colour: false });
    assert!(
        ends.starts_with("run 7: main at 01234567 with uncommitted changes, 4 jobs in 3 stages\n\njob "),
        "{ends}"
    );
    assert!(ends.ends_with(quiet), "{ends}");
    assert_eq!(of(Mode::Plain { colour: false }), story.plain(false));
}

#[test]
fn a_run_that_has_not_ended_is_shown_as_it_stands() {
    let story = failing_run();
    let events: Vec<Event> = story.events[..3].iter().map(|e| Event::clone(e)).collect();
    let mut out = Vec::new();
    super::replay(&events, Mode::Ends { colour: false }, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains("build     build   running"), "{text}");
    assert!(!text.contains("pipeline"), "{text}");
}

#[test]
fn time_left_comes_from_earlier_runs_and_the_order_of_the_jobs() {
    // build, then test 1/2, then deploy and ok; every step takes half a second
    let story = failing_run();
    let estimates: Estimates = [("build", 10_000), ("test 1/2", 20_000), ("deploy", 3_000), ("ok", 90_000)]
        .map(|(n, t)| (n.to_owned(), t))
        .into();
    let told = |count: usize, estimates: &Estimates, slots| {
        let mut run = super::state::RunState::default();
        story.events[..count].iter().for_each(|e| run.apply(e));
        run.order.remaining(&run, estimates, slots)
    };
    // two jobs at once: the longest way; one at a time: all the work
    assert_eq!(told(1, &estimates, 2), Some(10_000 + 20_000 + 90_000));
    assert_eq!(told(1, &estimates, 1), Some(10_000 + 20_000 + 3_000 + 90_000));
    // running for a second
    assert_eq!(told(5, &estimates, 2), Some(9_000 + 20_000 + 90_000));
    assert_eq!(told(14, &estimates, 2), Some(0));
    assert_eq!(told(1, &Estimates::new(), 2), None);
    let one = Estimates::from([("build".to_owned(), 1_000)]);
    assert_eq!(told(1, &one, 2), Some(3_000), "jobs that are not known are as the others");
}

#[test]
fn colours_are_all_that_colour_adds() {
    let story = failing_run();
    let coloured = story.plain(true);
    assert!(coloured.contains("\x1b[31mbroken\x1b[0m"), "{coloured}");
    let bare: Vec<String> =
        coloured.lines().map(|l| super::text::clean(l.as_bytes(), false).unwrap()).collect();
    assert_eq!(bare.join("\n") + "\n", story.plain(false));
}

#[test]
fn a_log_that_cannot_be_read_is_told_and_ends_nothing() {
    let mut story = Story::new(&[("a", "test")]);
    story.status("a", Status::Running);
    story.log("a", "text\n");
    std::fs::remove_file(story.log_path("a")).unwrap();
    story.failed("a", Status::Failed, 1, None);
    story.tell(EventKind::RunFinished { status: Status::Failed });
    let text = story.plain(false);
    assert!(text.contains("a ! its log `DIR/a` can't be read"), "{text}");
    assert!(text.contains("pipeline failed after"), "{text}");
}

#[test]
fn events_about_unknown_jobs_are_left_out() {
    let mut story = Story::new(&[("a", "test")]);
    story.status("b", Status::Running);
    story.log("b", "text\n");
    story.tell(EventKind::JobPhase { job: "b".to_owned(), phase: Phase::Script });
    assert_eq!(story.plain(false).lines().count(), 1);
}

/// Enough of a terminal to see what a person would.
struct Screen {
    columns: usize,
    rows: Vec<Vec<char>>,
    row: usize,
    column: usize,
}

impl Screen {
    fn new(columns: usize) -> Screen {
        Screen { columns, rows: vec![Vec::new()], row: 0, column: 0 }
    }

    fn write(&mut self, text: &str) {
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            rest = &rest[c.len_utf8()..];
            match c {
                '\n' => {
                    (self.row, self.column) = (self.row + 1, 0);
                    if self.row == self.rows.len() {
                        self.rows.push(Vec::new());
                    }
                }
                '\r' => self.column = 0,
                '\x1b' => {
                    let end = rest.find(|c: char| c.is_ascii_alphabetic()).unwrap();
                    let (number, name) = (rest[1..end].parse().unwrap_or(1), &rest[end..=end]);
                    rest = &rest[end + 1..];
                    match name {
                        "A" => self.row = self.row.checked_sub(number).expect("above the screen"),
                        "J" => {
                            self.rows.truncate(self.row + 1);
                            self.rows[self.row].truncate(self.column);
                        }
                        "m" => {}
                        other => panic!("unexpected sequence {other}"),
                    }
                }
                c => {
                    let wide = super::text::width(&c.to_string());
                    assert_eq!(self.column, self.rows[self.row].len());
                    self.rows[self.row].extend(std::iter::repeat_n(c, wide));
                    self.column += wide;
                    assert!(self.column < self.columns, "a row wraps: {:?}", self.rows[self.row]);
                }
            }
        }
    }

    fn text(&self) -> String {
        let rows = self.rows.iter().map(|r| r.iter().collect::<String>().trim_end().to_owned());
        rows.collect::<Vec<_>>().join("\n")
    }
}

fn draw(live: &mut Live, now: u64, columns: usize, rows: usize, screen: &mut Screen) {
    let mut out = Vec::new();
    live.draw(now, Size { columns, rows }, &mut out).unwrap();
    screen.write(&String::from_utf8(out).unwrap());
}

#[test]
fn the_live_report_keeps_running_jobs_at_the_bottom() {
    let mut story = Story::new(&[("build", "build"), ("lint", "build"), ("test", "test")]);
    story.status("build", Status::Running);
    story.status("lint", Status::Running);
    story.tell(EventKind::JobPhase { job: "build".to_owned(), phase: Phase::Script });
    story.log("build", "first\nsecond\n");
    let mut live = Live::new(Paint { colour: false }, Estimates::new());
    let mut screen = Screen::new(80);
    story.events.iter().for_each(|e| live.event(e));
    draw(&mut live, 1_003_000, 60, 20, &mut screen);
    let expected = "\
run 7: main at 01234567 with uncommitted changes, 3 jobs in 2 stages
build script          2.0s second
lint  starting        1.5s
2 running, 1 waiting  2.5s
";
    assert_eq!(screen.text(), expected);

    let told = story.events.len();
    story.status("lint", Status::Success);
    story.events[told..].iter().for_each(|e| live.event(e));
    draw(&mut live, 1_004_000, 60, 20, &mut screen);
    let expected = "\
run 7: main at 01234567 with uncommitted changes, 3 jobs in 2 stages
lint success after 1.5s
build script          3.0s second
1 running, 1 waiting, 1 done  3.5s
";
    assert_eq!(screen.text(), expected);

    let told = story.events.len();
    story.status("build", Status::Success);
    story.status("test", Status::Success);
    story.tell(EventKind::RunFinished { status: Status::Success });
    story.events[told..].iter().for_each(|e| live.event(e));
    draw(&mut live, 1_005_000, 60, 20, &mut screen);
    assert!(screen.text().ends_with("\npipeline success after 4.0s: 3 success\n"), "{}", screen.text());
    assert!(!screen.text().contains("running"), "{}", screen.text());
}

#[test]
fn more_jobs_than_rows_are_counted() {
    let names: Vec<String> = (0..30).map(|n| format!("job {n}")).collect();
    let jobs: Vec<(&str, &str)> = names.iter().map(|n| (n.as_str(), "test")).collect();
    let mut story = Story::new(&jobs);
    names.iter().for_each(|n| story.status(n, Status::Running));
    let mut live = Live::new(Paint { colour: true }, Estimates::new());
    let mut screen = Screen::new(120);
    story.events.iter().for_each(|e| live.event(e));
    draw(&mut live, 1_020_000, 120, 10, &mut screen);
    let text = screen.text();
    // header, seven jobs, "and 23 more", the counts, the cursor's row
    assert_eq!(text.lines().count(), 10, "{text}");
    assert!(text.contains("and 23 more\n30 running"), "{text}");
}

proptest! {
    #[test]
    fn no_job_output_breaks_the_layout(
        outputs in proptest::collection::vec("[a漢é\\x1b\\[\\]\\r\\t\\x07;0-9AHJKm]{0,200}", 1..4),
        columns in 8usize..60,
    ) {
        let mut story = Story::new(&[("漢字の名前がとても長い仕事", "test")]);
        let name = "漢字の名前がとても長い仕事";
        story.status(name, Status::Running);
        let mut live = Live::new(Paint { colour: true }, Estimates::new());
        // what stands above the region may wrap; only the region must not
        let mut screen = Screen::new(200);
        story.events.iter().for_each(|e| live.event(e));
        draw(&mut live, 1_002_000, columns, 20, &mut screen);
        for output in outputs {
            let told = story.events.len();
            story.log(name, &format!("{output}\n"));
            story.events[told..].iter().for_each(|e| live.event(e));
            draw(&mut live, 1_003_000, columns, 20, &mut screen);
            let text = screen.text();
            prop_assert_eq!(text.lines().count(), 3, "{}", text);
            let fits = text.lines().skip(1).all(|row| row.chars().count() < columns);
            prop_assert!(fits, "{}", text);
        }
    }
}

#[test]
fn a_reader_that_has_gone_is_an_error() {
    struct Gone;
    impl std::io::Write for Gone {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    for mode in [Mode::Plain { colour: false }, Mode::Live { colour: false }] {
        let (sender, receiver) = mpsc::channel();
        failing_run().events.into_iter().for_each(|e| sender.send(e).unwrap());
        assert!(report(&receiver, mode, &mut Gone).is_err());
    }
}
