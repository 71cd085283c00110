//! Processes of `ci` at a desk. They outlive the server: their output and exit code go to files, and the log is locked as
//! long as they live.

use super::desk::Desk;
use super::rows::Deployment;
use crate::runner::processes::is_locked;
use crate::server::engine::{self, Trust};
use crate::server::{Answer, App, Problem};
use crate::settings::closest;
use pipelines::request::ProjectVariable;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
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

/// What is there while a process of the deployment runs: values of variables of type file. It is in no backup.
fn secrets(app: &App, deployment: i64) -> PathBuf {
    app.dir("runtime").join(format!("deployment-{deployment}"))
}

/// Starts `ci` with these arguments for a deployment, unless that still runs since the server before. `step` names its
/// files: `plan.out`, `plan.log`, `plan.exit`.
pub(super) async fn start(
    app: &App,
    desk: &Desk,
    deployment: &Deployment,
    step: &'static str,
    arguments: Vec<OsString>,
) -> Answer<()> {
    let variables = engine::variables(app, deployment.project_id, Trust::FULL).await?;
    let (dir, secrets) = (dir(app, deployment.id), secrets(app, deployment.id));
    let (desk, deployment) = (desk.clone(), deployment.clone());
    let spawn = move || -> io::Result<()> {
        fs::create_dir_all(&dir)?;
        let path = dir.join(format!("{step}.log"));
        let log = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        if log.try_lock().is_err() {
            return Ok(());
        }
        log.set_len(0)?;
        let exit = dir.join(format!("{step}.exit"));
        // of a try before
        match fs::remove_file(&exit) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut command = Command::new("/bin/sh");
        command.args(["-c", KEEP, "sh"]).arg(std::env::current_exe()?).args(&arguments);
        command.current_dir(&desk.root).env("SLIPWAY_HOME", &desk.home);
        command.env("GITLAB_USER_LOGIN", &deployment.requested_by);
        command.env("SLIPWAY_EXIT", exit).env("NO_COLOR", "1");
        give(&mut command, &variables, &deployment.environment, &secrets)?;
        command.stdin(desk.hold()?).stdout(File::create(dir.join(format!("{step}.out")))?).stderr(log);
        // a signal to the server's group is not for it
        command.process_group(0);
        let mut child = command.spawn()?;
        // whoever waits looks at the files; this only takes the exit from the kernel
        std::thread::spawn(move || child.wait());
        Ok(())
    };
    let started = tokio::task::spawn_blocking(spawn).await;
    let started = started.map_err(|e| Problem::internal("starting a deployment", &e))?;
    started.map_err(|e| Problem::internal("starting a deployment", &e))
}

/// The project's variables in the environment: keys and passwords for its targets.
pub(super) fn give(
    command: &mut Command,
    variables: &[ProjectVariable],
    environment: &str,
    secrets: &Path,
) -> io::Result<()> {
    let names: BTreeSet<&str> = variables.iter().map(|variable| variable.key.as_str()).collect();
    for variable in names.into_iter().filter_map(|name| closest(variables, name, Some(environment))) {
        if variable.file {
            fs::create_dir_all(secrets)?;
            let path = secrets.join(&variable.key);
            secret_file(&path, &variable.value)?;
            command.env(&variable.key, path);
        } else {
            command.env(&variable.key, &variable.value);
        }
    }
    Ok(())
}

/// Waits for the end of a step, of whichever server it was begun by.
pub(super) async fn end(app: &App, deployment: i64, step: &str) -> Ended {
    let dir = dir(app, deployment);
    let (exit, log) = (dir.join(format!("{step}.exit")), dir.join(format!("{step}.log")));
    let ended = loop {
        let lives = is_locked(&log);
        if let Some(code) = fs::read_to_string(&exit).ok().and_then(|text| text.trim().parse().ok()) {
            break Ended::Code(code);
        }
        if !lives {
            break Ended::Unknown;
        }
        tokio::time::sleep(LOOK).await;
    };
    match fs::remove_dir_all(secrets(app, deployment)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!("removing the files of deployment {deployment}: {error}");
        }
        _ => {}
    }
    ended
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

fn secret_file(path: &Path, text: &str) -> io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::config::Config;

    fn variable(key: &str, value: &str, environment_scope: &str, file: bool) -> ProjectVariable {
        let (key, value, environment_scope) = (key.into(), value.into(), environment_scope.into());
        ProjectVariable { key, value, masked: true, file, raw: false, environment_scope }
    }

    #[test]
    fn a_process_gets_what_holds_in_its_environment() {
        let dir = tempfile::tempdir().unwrap();
        let variables = [
            variable("KEY", "of all", "*", true),
            variable("KEY", "of dev", "dev", true),
            variable("HOST", "d", "d*v", false),
            variable("OTHER", "x", "prod", false),
        ];
        let mut command = Command::new("true");
        give(&mut command, &variables, "dev", dir.path()).unwrap();
        let given: Vec<_> = command.get_envs().map(|(key, value)| (key, value.unwrap().to_owned())).collect();
        let file = dir.path().join("KEY");
        assert_eq!(given, [("HOST".as_ref(), "d".into()), ("KEY".as_ref(), file.clone().into_os_string())]);
        assert_eq!(fs::read_to_string(file).unwrap(), "of dev");
    }

    #[tokio::test]
    async fn a_process_lives_as_long_as_its_log_is_locked_and_leaves_no_secrets() {
        let dir = tempfile::tempdir().unwrap();
        let app = App::open(Config { data: dir.path().to_owned(), ..Config::default() }).await.unwrap();
        let files = super::dir(&app, 1);
        fs::create_dir_all(&files).unwrap();
        fs::create_dir_all(secrets(&app, 1)).unwrap();
        let log = File::create(files.join("run.log")).unwrap();
        log.lock().unwrap();
        assert!(tokio::time::timeout(LOOK, end(&app, 1, "run")).await.is_err());
        assert!(secrets(&app, 1).exists());
        fs::write(files.join("run.exit"), "4\n").unwrap();
        assert_eq!(end(&app, 1, "run").await, Ended::Code(4));
        assert!(!secrets(&app, 1).exists());
        fs::remove_file(files.join("run.exit")).unwrap();
        drop(log);
        assert_eq!(end(&app, 1, "run").await, Ended::Unknown);
    }
}
