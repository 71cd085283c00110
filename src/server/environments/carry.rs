//! Processes of `ci` at a desk. They outlive the server: their output and exit code go to files.

use super::desk::Desk;
use super::rows::Deployment;
use crate::server::{Answer, App, Problem};
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Runs "$@" and keeps its exit code, also when nobody waits for it any more.
const KEEP: &str =
    r#""$@"; code=$?; echo "$code" >"$SLIPWAY_EXIT.part" && mv "$SLIPWAY_EXIT.part" "$SLIPWAY_EXIT""#;
const LOOK: Duration = Duration::from_millis(100);

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Code(i32),
    /// It is gone and has left no exit code.
    Unknown,
}

/// Files of one deployment.
pub(super) fn dir(app: &App, deployment: i64) -> PathBuf {
    app.dir("deployments").join(deployment.to_string())
}

/// Starts `ci` with these arguments for a deployment. `step` names its files: `plan.out`, `plan.log`, `plan.exit`.
pub(super) async fn start(
    app: &App,
    desk: &Desk,
    deployment: &Deployment,
    step: &str,
    arguments: Vec<OsString>,
) -> Answer<()> {
    let dir = dir(app, deployment.id);
    let environment = super::request::variables(app, deployment).await?;
    let (desk, step, by) = (desk.clone(), step.to_owned(), deployment.requested_by.clone());
    let spawn = move || -> std::io::Result<()> {
        fs::create_dir_all(&dir)?;
        let mut command = Command::new("/bin/sh");
        command.args(["-c", KEEP, "sh"]).arg(std::env::current_exe()?).args(&arguments);
        command.current_dir(&desk.root).env("SLIPWAY_HOME", &desk.home).env("GITLAB_USER_LOGIN", &by);
        command.env("SLIPWAY_EXIT", dir.join(format!("{step}.exit"))).env("NO_COLOR", "1");
        let mut names = Vec::new();
        for variable in environment {
            let value = match variable.file {
                true => {
                    let path = dir.join(format!("file-{}", names.len()));
                    secret_file(&path, &variable.value)?;
                    names.push(path.clone());
                    path.into_os_string()
                }
                false => variable.value.into(),
            };
            command.env(variable.key, value);
        }
        command.stdin(Stdio::null()).stdout(File::create(dir.join(format!("{step}.out")))?);
        command.stderr(File::create(dir.join(format!("{step}.log")))?);
        // a signal to the server's group is not for it
        command.process_group(0);
        let mut child = command.spawn()?;
        let pid = child.id();
        fs::write(dir.join(format!("{step}.pid")), format!("{pid} {}", started(pid).unwrap_or_default()))?;
        // whoever waits looks at the files; this only takes the exit from the kernel, and the secrets from the disk
        std::thread::spawn(move || {
            let _ = child.wait();
            names.iter().for_each(|path| drop(fs::remove_file(path)));
        });
        Ok(())
    };
    let started = tokio::task::spawn_blocking(spawn).await;
    let started = started.map_err(|e| Problem::internal("starting a deployment", &e))?;
    started.map_err(|e| Problem::internal("starting a deployment", &e))
}

/// Waits for the end of a step, of whichever server it was begun by.
pub(super) async fn end(app: &App, deployment: i64, step: &str) -> Ended {
    let dir = dir(app, deployment);
    let (exit, pid) = (dir.join(format!("{step}.exit")), dir.join(format!("{step}.pid")));
    loop {
        let lives = alive(&pid);
        if let Some(code) = fs::read_to_string(&exit).ok().and_then(|text| text.trim().parse().ok()) {
            return Ended::Code(code);
        }
        if !lives {
            return Ended::Unknown;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What a step printed on standard output.
pub(super) fn output(app: &App, deployment: i64, step: &str) -> String {
    fs::read_to_string(dir(app, deployment).join(format!("{step}.out"))).unwrap_or_default()
}

/// What a step told people.
pub(super) fn log(app: &App, deployment: i64, step: &str) -> String {
    let bytes = fs::read(dir(app, deployment).join(format!("{step}.log"))).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn alive(pid: &Path) -> bool {
    let Ok(text) = fs::read_to_string(pid) else { return false };
    let Some((pid, since)) = text.split_once(' ') else { return false };
    pid.parse().ok().and_then(started).is_some_and(|now| now == since)
}

/// When the process began, in ticks since the machine's start: with it, a number that was given again is told apart.
fn started(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // the name, in parentheses, may hold anything
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let dead = fields.first() == Some(&"Z");
    fields.get(19).filter(|_| !dead).map(|text| (*text).to_owned())
}

fn secret_file(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}
