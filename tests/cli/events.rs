//! Events: on standard output, in the journal, and played again.

use crate::tree::Tree;
use pipelines::event::{Event, EventKind};
use slipway::report::terminal::{self, Mode};
use std::sync::{Arc, mpsc};

const YAML: &str = "
stages: [build, test]
build:
  stage: build
  script: [echo built, 'echo warned >&2']
fails:
  stage: test
  script: [echo why, exit 3]
  artifacts: {paths: [nothing]}
waits:
  stage: test
  when: manual
  script: [echo waited]
";

#[test]
fn json_is_the_journal_an_event_a_line_numbered_without_gaps() {
    let tree = Tree::pipeline(YAML);
    let said = tree.run(&["run", "--format", "json"]);
    assert_eq!(said.code, 1, "{said}");
    let events: Vec<Event> = said.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events, tree.events());
    let first = &events.first().unwrap().kind;
    assert!(
        matches!(first, EventKind::RunStarted { plan, dirty: false, run: 1, .. } if plan.jobs.len() == 3)
    );
    assert!(matches!(events.last().unwrap().kind, EventKind::RunFinished { .. }));
    assert!(events.windows(2).all(|pair| pair[0].at <= pair[1].at));
    for event in &events {
        if let EventKind::JobLog { path, length, .. } = &event.kind {
            assert!(std::fs::metadata(path).unwrap().len() >= *length);
        }
    }
}

#[test]
fn a_journal_played_again_gives_the_report_that_the_run_gave() {
    let tree = Tree::pipeline(YAML);
    // one job at a time: lines of two would come as the machine pleases
    let said = tree.run(&["run", "-j", "1"]);
    assert_eq!(said.code, 1, "{said}");
    let (sender, receiver) = mpsc::channel();
    tree.events().into_iter().for_each(|event| sender.send(Arc::new(event)).unwrap());
    drop(sender);
    let mut again = Vec::new();
    terminal::report(&receiver, Mode::Plain { colour: false }, &mut again).unwrap();
    assert_eq!(String::from_utf8(again).unwrap(), said.stdout);
}

#[test]
fn a_reader_that_goes_away_does_not_hurt_the_run() {
    let tree = Tree::pipeline(YAML);
    for format in ["text", "json"] {
        let mut ci = tree.ci(&["run", "build", "--format", format]);
        let (reader, writer) = std::io::pipe().unwrap();
        let mut ci = ci.stdout(writer).stderr(std::process::Stdio::null()).spawn().unwrap();
        drop(reader);
        assert_eq!(ci.wait().unwrap().code(), Some(0), "{format}");
        assert!(matches!(tree.events().last().unwrap().kind, EventKind::RunFinished { .. }));
    }
}

#[test]
fn runs_at_the_same_time_have_numbers_and_places_of_their_own() {
    let tree = Tree::pipeline(
        "job: {script: [test ! -e mark, touch mark, sleep 0.3, 'echo \"$CI_CONCURRENT_ID\"']}",
    );
    for (executor, first) in [("sandbox", 1), ("shell", 4)] {
        let start = |_| {
            let mut ci = tree.ci(&["run", "--executor", executor]);
            ci.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap()
        };
        let all: Vec<_> = (0..3).map(start).collect();
        for mut ci in all {
            assert_eq!(ci.wait().unwrap().code(), Some(0), "{executor}");
        }
        let runs = tree.newest_run().unwrap();
        let runs = runs.parent().unwrap();
        assert_eq!(std::fs::read_dir(runs).unwrap().count(), first + 2, "{executor}");
    }
}
