//! A unit of systemd.

use std::time::{Duration, Instant};

use super::choice::Running;

use super::program::BETWEEN_LOOKS;
use crate::deploy::error::Error;
use crate::deploy::script::Script;
use crate::deploy::ssh::ANSWER_LIMIT;
use crate::deploy::target::Target;

const RESTART_LIMIT: Duration = Duration::from_secs(300);
const PATIENCE: Duration = Duration::from_secs(90);

const SHOW: &str = r#"systemctl show -p LoadState -p ActiveState -p SubState -p MainPID -p InvocationID -p Result -- "$UNIT""#;

/// An ordinary user needs `sudo` without a password for this one command. What started too often lately (a version that
/// crashed) is forgotten first, where that is allowed: systemd would refuse to start the one that is good.
const COMMAND: &str = r#"
if [ "$(id -u)" = 0 ]; then as=; else as="sudo -n"; fi
$as systemctl reset-failed -- "$UNIT" >/dev/null 2>&1
$as systemctl "$VERB" -- "$UNIT"
"#;

const STATUS: &str = r#"systemctl status --no-pager --lines=5 -- "$UNIT" 2>&1 | tail -n 6"#;

fn script(target: &Target, body: &'static str, unit: &str) -> Script {
    target.script(body).set("UNIT", unit)
}

/// What systemd says of the unit.
pub(super) async fn look(target: &Target, unit: &str) -> Result<Running, Error> {
    let output = target.demand(&script(target, SHOW, unit), "asking systemd", ANSWER_LIMIT).await?;
    let value = |name: &str| {
        let line = output.stdout.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.unwrap_or_default().trim().to_owned()
    };
    if matches!(value("LoadState").as_str(), "not-found" | "masked" | "error" | "bad-setting") {
        return Err(Error::refused(format!("systemd on `{}` has no usable unit `{unit}` ({})", target.destination(), value("LoadState")))
            .help("install the unit file there and `systemctl daemon-reload`; its ExecStart begins with DIRECTORY/current/"));
    }
    let (active, sub) = (value("ActiveState"), value("SubState"));
    Ok(Running {
        up: active == "active",
        pid: value("MainPID").parse().ok().filter(|pid| *pid != 0),
        start: value("InvocationID"),
        words: format!("`{unit}` is {active} ({sub}), result {}", value("Result")),
    })
}

/// Restarts the unit, and waits until two looks in a row find the same new invocation of it active.
pub(super) async fn restart(target: &Target, unit: &str, before: &Running) -> Result<Running, Error> {
    let command = script(target, COMMAND, unit).set("VERB", "restart");
    if let Err(error) = target.demand(&command, &format!("restarting `{unit}`"), RESTART_LIMIT).await {
        return Err(failed(target, unit, error.message).await);
    }
    let began = Instant::now();
    let mut last: Option<Running> = None;
    loop {
        let now = look(target, unit).await?;
        let new = now.start != before.start || now.pid != before.pid;
        if now.up && new && last.as_ref() == Some(&now) {
            return Ok(now);
        }
        if began.elapsed() >= PATIENCE
            || (!now.up && last.as_ref() == Some(&now) && !now.words.contains("activating"))
        {
            return Err(failed(target, unit, now.words).await);
        }
        last = Some(now);
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
}

/// Stops the unit.
pub(super) async fn stop(target: &Target, unit: &str) -> Result<(), Error> {
    let command = script(target, COMMAND, unit).set("VERB", "stop");
    target.demand(&command, &format!("stopping `{unit}`"), RESTART_LIMIT).await.map(drop)
}

async fn failed(target: &Target, unit: &str, why: String) -> Error {
    let status = target.session().run(&script(target, STATUS, unit), ANSWER_LIMIT).await;
    let said = status.map(|status| crate::deploy::ssh::last_lines(&status.stdout, 3)).unwrap_or_default();
    Error::failed(format!("{why}: {said}")).help(format!("`journalctl -u {unit}` on the target has more"))
}
