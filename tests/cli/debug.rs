//! `ci run --debug` with a person at a terminal, whom `script` plays.

use crate::tree::{Tree, until};
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

pub(crate) const YAML: &str = "
job:
  variables: {GREETING: hello}
  script: [echo behind >left, 'false']
  after_script: ['echo \"afterwards, $(cat left)\"']
";

/// `ci` on a terminal.
struct Person {
    script: Child,
    screen: Arc<Mutex<Vec<u8>>>,
}

impl Person {
    fn sits_before(ci: &Command) -> Person {
        let words: Vec<&str> = std::iter::once(ci.get_program())
            .chain(ci.get_args())
            .map(|word| word.to_str().unwrap())
            .collect();
        let line = words.join(" ");
        let mut script = Command::new("script");
        script.args(["-qefc", &line, "/dev/null"]).current_dir(ci.get_current_dir().unwrap());
        script.envs(ci.get_envs().filter_map(|(name, value)| Some((name, value?)))).env("TERM", "xterm");
        let mut script = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let screen = Arc::<Mutex<Vec<u8>>>::default();
        let (mut shown, seen) = (script.stdout.take().unwrap(), screen.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = shown.read(&mut buffer) {
                seen.lock().unwrap().extend_from_slice(&buffer[..length]);
            }
        });
        Person { script, screen }
    }

    fn types(&mut self, text: &str) {
        let keys = self.script.stdin.as_mut().unwrap();
        keys.write_all(text.as_bytes()).unwrap();
        keys.flush().unwrap();
    }

    fn screen(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().unwrap()).into_owned()
    }

    fn sees(&self, text: &str) {
        let seen = || self.screen().contains(text);
        let patience = std::time::Instant::now();
        while !seen() && patience.elapsed().as_secs() < 120 {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert!(seen(), "`{text}` is not on the screen:\n{}", self.screen());
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}

/// Lets a job fail, looks around in its place, leaves it, and sees the job end.
#[track_caller]
pub(crate) fn looks_around(yaml: &str, executor: &str, environment: &[(&str, &str)]) {
    let tree = Tree::pipeline(yaml);
    let mut ci = tree.ci(&["run", "--debug", "job", "--executor", executor]);
    ci.envs(environment.iter().copied());
    let mut person = Person::sits_before(&ci);
    person.sees("lets the job end");
    // what the job has written, its variables, a terminal; the words are not those that are typed
    person.types("tty; echo \"$GREETING, $CI_JOB_STATUS: $(cat left)\"\r");
    person.sees("hello, failed: behind");
    assert!(person.screen().contains("/dev/"), "{}", person.screen());
    person.types("sleep 1000 &\rexit\r");
    let ended = person.script.wait().unwrap();
    assert_eq!(ended.code(), Some(1), "{}", person.screen());
    let log = tree.log("job");
    assert!(log.contains("afterwards, behind") && !log.contains("hello"), "{log}");
    until("nothing of it runs", || tree.used_sandboxes().is_empty());
}

#[test]
fn a_person_looks_around_where_a_job_has_failed() {
    for executor in ["sandbox", "shell"] {
        looks_around(YAML, executor, &[]);
    }
}
