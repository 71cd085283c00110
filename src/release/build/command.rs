//! Runs a program: its lines go to the log, the last ones into the error.

use std::{
    collections::VecDeque,
    ffi::OsString,
    path::Path,
    process::Stdio,
    sync::{Mutex, PoisonError},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader},
    process::Command,
};

use super::super::Error;

/// Where the output of a build goes, a line a call, without the line's end.
pub type Log<'a> = &'a (dyn Fn(&str) + Send + Sync);

/// Lines of output that an error shows.
const TAIL: usize = 20;

pub(super) struct Step<'a> {
    pub program: &'a str,
    pub args: Vec<String>,
    pub dir: &'a Path,
    pub env: Vec<(&'static str, OsString)>,
    /// What the program reads; then its input ends.
    pub input: String,
}

/// Runs the step and returns its standard output.
///
/// # Errors
/// It can't be started, or doesn't exit with 0.
pub(super) async fn run(step: Step<'_>, log: Log<'_>) -> Result<String, Error> {
    let shown = shown(&step);
    log(&format!("$ {shown}"));
    let failed = |outcome: String, tail: Vec<String>| Error::Command {
        command: shown.clone(),
        directory: step.dir.to_owned(),
        outcome,
        tail,
    };
    let mut child = Command::new(step.program)
        .args(&step.args)
        .current_dir(step.dir)
        // the package must be whole here; the thin one is made of it afterwards
        .env_remove("RELUP_TAR")
        .envs(step.env.iter().map(|(key, value)| (*key, value)))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| {
            failed(format!("could not be started: {e}; is it installed and in PATH?"), Vec::new())
        })?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let feed = async {
        if let Some(mut stdin) = stdin {
            // a program that ends without reading its input has its own exit status to tell
            let _closed_early = stdin.write_all(step.input.as_bytes()).await;
        }
    };
    let tail = Mutex::new(VecDeque::new());
    let text = Mutex::new(String::new());
    let both = |line: &str| {
        log(line);
        remember(&tail, line);
    };
    let out = |line: &str| {
        both(line);
        let mut text = text.lock().unwrap_or_else(PoisonError::into_inner);
        text.push_str(line);
        text.push('\n');
    };
    let (_fed, out_done, err_done, status) =
        tokio::join!(feed, each_line(stdout, &out), each_line(stderr, &both), child.wait());
    let taken = || tail.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect();
    let status = out_done.and(err_done).and(status).map_err(|e| failed(format!("was lost: {e}"), taken()))?;
    match status.code() {
        Some(0) => Ok(text.into_inner().unwrap_or_else(PoisonError::into_inner)),
        Some(code) => Err(failed(format!("exited with {code}"), taken())),
        None => Err(failed(format!("was killed ({status})"), taken())),
    }
}

async fn each_line(
    stream: Option<impl AsyncRead + Unpin>,
    line_seen: &(dyn Fn(&str) + Send + Sync),
) -> std::io::Result<()> {
    let Some(stream) = stream else { return Ok(()) };
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).await? > 0 {
        line_seen(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']));
        line.clear();
    }
    Ok(())
}

fn remember(tail: &Mutex<VecDeque<String>>, line: &str) {
    let plain = anstream::adapter::strip_str(line).to_string();
    // relx prints one of these for each module of OTP: they would push out what matters
    if plain.trim().is_empty() || plain.contains("Source code not found") {
        return;
    }
    let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
    if tail.len() == TAIL {
        tail.pop_front();
    }
    tail.push_back(plain);
}

/// The command as one can paste it.
fn shown(step: &Step) -> String {
    let env = step.env.iter().map(|(key, value)| format!("{key}={}", quote(&value.to_string_lossy())));
    let words = std::iter::once(step.program.to_owned()).chain(step.args.iter().map(|arg| quote(arg)));
    env.chain(words).collect::<Vec<_>>().join(" ")
}

fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,=:@".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn sh(script: &str, input: &str) -> (Result<String, String>, Vec<String>) {
        let lines = Mutex::new(Vec::new());
        let log = |line: &str| lines.lock().unwrap().push(line.to_owned());
        let args = vec!["-c".to_owned(), script.to_owned()];
        let step =
            Step { program: "sh", args, dir: Path::new("/"), env: Vec::new(), input: input.to_owned() };
        let result = run(step, &log).await.map_err(|e| e.to_string());
        (result, lines.into_inner().unwrap())
    }

    #[tokio::test]
    async fn output_is_logged_and_standard_output_returned() {
        let (result, lines) = sh("cat; echo err >&2", "in\n").await;
        assert_eq!(result.as_deref(), Ok("in\n"));
        assert_eq!(lines[0], "$ sh -c 'cat; echo err >&2'");
        assert!(lines.contains(&"in".to_owned()) && lines.contains(&"err".to_owned()));
    }

    #[tokio::test]
    async fn a_failure_names_the_command_and_shows_the_last_lines() {
        let (result, _) =
            sh("for i in $(seq 30); do echo l$i; done; printf '\\033[31mred\\033[0m\\n'; exit 3", "").await;
        let error = result.unwrap_err();
        assert!(error.starts_with("`sh -c 'for i in"), "{error}");
        assert!(
            error.contains("in `/` exited with 3\n  l12\n") && error.ends_with("\n  l30\n  red"),
            "{error}"
        );
    }
}
