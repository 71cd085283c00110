//! Configurations as they come out of accidents: those of `corpus/`, changed at random, through loading, checking and
//! planning. Nothing may panic, and what is said must make sense. A few cases by default; for a long run
//! see `benchmarks/README.md`.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test's panic is its report")]

use pipelines::config;
use pipelines::diagnostic::Diagnostic;
use pipelines::load;
use pipelines::plan::{self, Outcome};
use pipelines::request::{Commit, Elsewhere, FetchError, Fetched, Files, Request};
use pipelines::schedule::Scheduler;
use pipelines::source::SourceMap;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, LazyLock};

const ROOT: &str = ".gitlab-ci.yml";

/// The corpus as files of a project: `ci/NAME.yml`.
static CORPUS: LazyLock<BTreeMap<String, Arc<str>>> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| {
        let entry = entry.unwrap();
        let text = std::fs::read_to_string(entry.path()).unwrap();
        (format!("ci/{}", entry.file_name().to_string_lossy()), Arc::from(text))
    });
    files.collect()
});

/// Things that people put into the wrong places.
const WORDS: [&str; 44] = [
    "~",
    "''",
    "[]",
    "{}",
    "0",
    "-1",
    "1.5",
    "true",
    "null",
    "x",
    "🚀",
    "1 week",
    "never",
    "manual",
    "delayed",
    "on_failure",
    "$A",
    "${A",
    "$$",
    "%A%",
    "/a|(b/",
    "/x/i",
    "$A =~ /y/ && !",
    "*a",
    "&a x",
    "!reference [.a, x]",
    "!reference []",
    "!!binary x",
    "<<: *a",
    "- ",
    ": ",
    "? ",
    "|",
    ">-",
    "---",
    "$[[ inputs.name ]]",
    "$[[ matrix.OS ]]",
    "**/*",
    "{a,b}/[c-",
    "script: x",
    "extends: .a",
    "needs: [a]",
    "parallel: 200",
    "include: ci/self.yml",
];

#[derive(Clone, Debug)]
enum Change {
    DropLine(Index),
    RepeatLine(Index, u8),
    MoveLine(Index, Index),
    Indent(Index, i8),
    /// Puts a line of another file in.
    Splice(Index, Index, Index),
    /// Replaces what follows a colon, a comma, a bracket or a dash.
    Replace(Index, &'static str),
    Insert(Index, &'static str),
    Cut(Index, u8),
    Letter(Index, char),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    let word = || select(&WORDS[..]);
    prop_oneof![
        2 => at().prop_map(Change::DropLine),
        1 => (at(), 1u8..4).prop_map(|(line, times)| Change::RepeatLine(line, times)),
        1 => (at(), at()).prop_map(|(from, to)| Change::MoveLine(from, to)),
        2 => (at(), -4i8..5).prop_map(|(line, by)| Change::Indent(line, by)),
        3 => (at(), at(), at()).prop_map(|(line, file, other)| Change::Splice(line, file, other)),
        5 => (at(), word()).prop_map(|(place, word)| Change::Replace(place, word)),
        2 => (at(), word()).prop_map(|(place, word)| Change::Insert(place, word)),
        2 => (at(), 1u8..40).prop_map(|(place, length)| Change::Cut(place, length)),
        1 => (at(), any::<char>()).prop_map(|(place, c)| Change::Letter(place, c)),
    ]
}

fn apply(text: &str, change: &Change) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let line = |index: &Index| index.index(lines.len().max(1));
    match change {
        _ if lines.is_empty() => return text.to_owned(),
        Change::DropLine(at) => drop(lines.remove(line(at))),
        Change::RepeatLine(at, times) => {
            let (at, copy) = (line(at), lines[line(at)].clone());
            (0..*times).for_each(|_| lines.insert(at, copy.clone()));
        }
        Change::MoveLine(from, to) => {
            let (from, to) = (line(from), line(to));
            let moved = lines.remove(from);
            lines.insert(to, moved);
        }
        Change::Indent(at, by) => {
            let at = line(at);
            let wanted = (lines[at].len() - lines[at].trim_start().len()).saturating_add_signed((*by).into());
            lines[at] = " ".repeat(wanted) + lines[at].trim_start();
        }
        Change::Splice(at, file, other) => {
            let other_lines: Vec<&str> =
                CORPUS.values().nth(file.index(CORPUS.len())).unwrap().lines().collect();
            lines.insert(line(at), other_lines[other.index(other_lines.len())].to_owned());
        }
        Change::Replace(at, word) => {
            let starts: Vec<usize> =
                text.match_indices([':', ',', '[', '{', '-']).map(|(i, _)| i + 1).collect();
            let Some(&start) = starts.get(at.index(starts.len().max(1))) else { return text.to_owned() };
            let end = text[start..].find(['\n', ',', ']', '}']).map_or(text.len(), |length| start + length);
            return format!("{} {word}{}", &text[..start], &text[end..]);
        }
        Change::Insert(at, word) => return spliced(text, at, 0, word),
        Change::Cut(at, length) => return spliced(text, at, (*length).into(), ""),
        Change::Letter(at, c) => return spliced(text, at, 1, &c.to_string()),
    }
    lines.join("\n") + "\n"
}

/// The text with some characters replaced.
fn spliced(text: &str, at: &Index, length: usize, word: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let start = at.index(chars.len().max(1));
    let end = (start + length).min(chars.len());
    chars[..start].iter().copied().chain(word.chars()).chain(chars[end..].iter().copied()).collect()
}

/// The project: the corpus, and the root file.
struct Tree {
    root: Arc<str>,
    paths: Vec<String>,
}

impl Tree {
    fn new(root: &str) -> Tree {
        let more = [ROOT, "Gemfile.lock", "src/main.rs"].map(str::to_owned);
        let mut paths: Vec<String> = CORPUS.keys().cloned().chain(more).collect();
        paths.sort();
        Tree { root: Arc::from(root), paths }
    }
}

impl Files for Tree {
    fn read(&self, path: &str) -> Result<Option<Arc<str>>, String> {
        Ok(if path == ROOT { Some(self.root.clone()) } else { CORPUS.get(path).cloned() })
    }
    fn paths(&self) -> &[String] {
        &self.paths
    }
    fn blob_id(&self, path: &str) -> Option<String> {
        self.paths.iter().any(|p| p == path).then(|| "0".repeat(40))
    }
    fn fetch(&self, what: &Elsewhere) -> Result<Fetched, FetchError> {
        let name = match what {
            Elsewhere::Project { file, .. } => file.trim_start_matches('/').to_owned(),
            Elsewhere::Remote { .. } => return Err(FetchError::Other("no network".into())),
            Elsewhere::Template { name } | Elsewhere::Component { name, .. } => format!("ci/{name}.yml"),
        };
        let text = CORPUS.get(&name).cloned().ok_or(FetchError::NoFile)?;
        Ok(Fetched { text, name, sha: Some("1".repeat(40)), version: Some("1.0.0".into()) })
    }
}

fn request(kind: usize) -> Request {
    let changes = vec!["src/main.rs".to_owned(), "ci/é.md".to_owned()];
    let request = Request {
        project: "group/project".into(),
        reference: "main".into(),
        source: "push".into(),
        default_branch: "main".into(),
        changes: Some(changes).into(),
        variables: [("A".to_owned(), "a$B".to_owned())].into_iter().collect(),
        commit: Commit { sha: "2".repeat(40), message: "m $A".into(), ..Commit::default() },
        ..Request::default()
    };
    match kind {
        0 => request,
        1 => Request { reference: "v1.0".into(), tag: true, changes: None.into(), ..request },
        _ => Request { reference: "Feature/ä".into(), source: "merge_request_event".into(), ..request },
    }
}

/// All the way, with what must hold at each step.
fn go(text: &str, kind: usize) {
    let (request, files) = (request(kind), Tree::new(text));
    let mut loaded = load::load(&request, &files, ROOT);
    let mut diagnostics = std::mem::take(&mut loaded.diagnostics);
    assert!(loaded.root.is_some() || diagnostics.iter().any(Diagnostic::is_error), "lost without a word");
    let config = loaded.root.as_ref().map(|root| config::build(root, &mut diagnostics));
    let valid = !diagnostics.iter().any(Diagnostic::is_error);
    let outcome = config.filter(|_| valid).map(|c| plan::build(&c, &request, &files, &mut diagnostics));
    if let Some(outcome) = &outcome {
        check_outcome(outcome);
        diagnostics.extend(outcome.creation_errors.iter().cloned());
    }
    diagnostics.iter().for_each(|diagnostic| check_places(diagnostic, &loaded.sources));
    serde_json::to_string(&plan::document(&diagnostics, outcome.as_ref())).unwrap();
}

/// Labels are parts of their files.
fn check_places(diagnostic: &Diagnostic, sources: &SourceMap) {
    assert!(!diagnostic.message.is_empty() && !diagnostic.code.is_empty());
    for (span, _) in &diagnostic.labels {
        let file = sources.file(span.file);
        assert!(
            file.text.get(span.range()).is_some(),
            "{span:?} is no part of {}: {diagnostic:?}",
            file.name
        );
        assert!(sources.position(*span).line >= 1);
    }
}

/// A plan has jobs, each once, in stages that exist, whose required needs exist; the scheduler takes it.
fn check_outcome(outcome: &Outcome) {
    let Some(plan) = &outcome.plan else {
        assert!(!outcome.creation_errors.is_empty(), "no pipeline without a word");
        return;
    };
    let names: std::collections::HashSet<&str> = plan.jobs.iter().map(|job| job.name.as_str()).collect();
    assert_eq!(names.len(), plan.jobs.len(), "a name twice");
    assert!(!plan.jobs.is_empty());
    for job in &plan.jobs {
        assert!(plan.stages.contains(&job.stage), "{} is in no stage", job.name);
    }
    if let Ok(mut scheduler) = Scheduler::new(Arc::new(plan.clone())) {
        scheduler.handle(pipelines::schedule::Input::Start);
    }
}

#[test]
fn the_corpus_goes_all_the_way() {
    for (name, text) in CORPUS.iter() {
        for kind in 0..3 {
            eprintln!("{name} {kind}");
            go(text, kind);
        }
    }
}

proptest! {
    #[test]
    fn changed_configurations_are_read_or_refused(
        seed in any::<Index>(),
        changes in vec(change(), 1..12),
        kind in 0usize..3,
    ) {
        let text = CORPUS.values().nth(seed.index(CORPUS.len())).unwrap();
        let text = changes.iter().fold(text.to_string(), |text, change| apply(&text, change));
        go(&text, kind);
    }
}
