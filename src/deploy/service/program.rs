//! The program of a release: whether it runs, and how it is stopped and started.

use std::time::{Duration, Instant};

use super::choice::Running;
use super::place::{self, Place};
use super::{supervisord, systemd};
use crate::deploy::error::Error;
use crate::deploy::file::Service;
use crate::deploy::ssh::{ANSWER_LIMIT, last_lines};
use crate::deploy::target::Target;

const STOP_LIMIT: Duration = Duration::from_secs(120);
/// How long a program that was told to stop may take before it gets TERM.
const STOP_PATIENCE: Duration = Duration::from_secs(30);
const START_PATIENCE: Duration = Duration::from_secs(60);
pub(super) const BETWEEN_LOOKS: Duration = Duration::from_millis(500);
/// Looks in a row that have to find the same process.
const STEADY: u32 = 2;
/// A program without a process that we could see is believed after so many looks, if its start said 0.
const UNSEEN: u32 = 10;

/// The command goes on when the connection breaks, may stay in the foreground, and marks what it starts.
const START: &str = r#"
apart=$(command -v setsid || command -v nohup) || { echo "neither setsid nor nohup found" >&2; exit 1; }
D=$(cd "$T/versions/$V" && pwd -P) || exit 1
R=${D%/versions/*}
cd "$D" && mkdir -p "$T/.ci" && rm -f "$T/.ci/start" || exit 1
SLIPWAY_RELEASE=$D DIRECTORY=$D VERSION=$V NAME=$N ADDRESS=$ADDRESS HOST=${ADDRESS%:*} PORT=${ADDRESS##*:}
export SLIPWAY_RELEASE DIRECTORY VERSION NAME ADDRESS HOST PORT
"$apart" sh -c '
    sh -c "$0"
    echo $? >"$1/.ci/start.part" && mv "$1/.ci/start.part" "$1/.ci/start"
' "$COMMAND" "$T" >"$T/output.log" 2>&1 </dev/null &
"#;

const STARTED: &str = r#"
[ -f "$T/.ci/start" ] && printf 'code\t%s\n' "$(cat "$T/.ci/start")"
tail -n 20 "$T/output.log" 2>/dev/null | cut -c 1-400
true
"#;

const STOP: &str = r#"
cd "$T/versions/$V" 2>/dev/null || exit 0
DIRECTORY=$(pwd -P) VERSION=$V NAME=$N ADDRESS=$ADDRESS HOST=${ADDRESS%:*} PORT=${ADDRESS##*:}
export DIRECTORY VERSION NAME ADDRESS HOST PORT
sh -c "$COMMAND"
"#;

/// A command of the service, for one version of the release.
pub(super) struct Command<'a> {
    pub(super) text: &'a str,
    pub(super) version: &'a str,
    /// `$ADDRESS`; empty when the release has only one.
    pub(super) address: &'a str,
}

/// Whether the program runs.
pub(super) async fn look(target: &Target, service: &Service, place: &Place) -> Result<Running, Error> {
    match service {
        Service::Systemd(unit) => systemd::look(target, unit).await,
        Service::Supervisord { program, server, auth } => {
            supervisord::Server::new(target, server, auth.as_deref()).await?.look(program).await
        }
        Service::Commands { .. } | Service::Binary { .. } | Service::Canary { .. } => {
            let pid = place.current.as_deref().and_then(|current| place.process(current));
            let any = place.processes.iter().next();
            let words = match (pid, any) {
                (Some(pid), _) => format!("process {pid}"),
                (None, Some((pid, version))) => format!("process {pid} is of `{version}`"),
                (None, None) => "no process of it".to_owned(),
            };
            Ok(Running { up: pid.is_some(), pid, start: String::new(), words })
        }
    }
}

/// Stops `old`, makes `current` lead to `new`, starts it, and waits until it stays up.
pub(super) async fn exchange(
    target: &Target,
    service: &Service,
    old: Option<&str>,
    new: &str,
) -> Result<Running, Error> {
    match service {
        Service::Systemd(unit) => {
            let before = systemd::look(target, unit).await?;
            place::switch(target, Some(new)).await?;
            systemd::restart(target, unit, &before).await
        }
        Service::Supervisord { program, server, auth } => {
            let server = supervisord::Server::new(target, server, auth.as_deref()).await?;
            let before = server.look(program).await?;
            place::switch(target, Some(new)).await?;
            server.restart(program, &before).await
        }
        Service::Commands { start: text, stop } => {
            if let Some(old) = old {
                halt(target, &Command { text: stop, version: old, address: "" }).await?;
            }
            place::switch(target, Some(new)).await?;
            start(target, &Command { text, version: new, address: "" }).await
        }
        Service::Binary { start: Some(text), .. } => {
            place::switch(target, Some(new)).await?;
            start(target, &Command { text, version: new, address: "" }).await
        }
        Service::Binary { .. } | Service::Canary { .. } => {
            Err(Error::refused("the program does not run, and the service has no `start` command")
                .help("start it once by hand, or set `start` of the service"))
        }
    }
}

/// Stops what was started; used where a first installation did not come up.
pub(super) async fn stop(target: &Target, service: &Service, version: &str) -> Result<(), Error> {
    match service {
        Service::Systemd(unit) => systemd::stop(target, unit).await,
        Service::Supervisord { program, server, auth } => {
            // it is asked past the target's shell, where the lock is looked at
            target.demand(&target.script("true"), "looking at the lock", ANSWER_LIMIT).await?;
            supervisord::Server::new(target, server, auth.as_deref()).await?.stop(program).await
        }
        Service::Commands { stop, .. } => halt(target, &Command { text: stop, version, address: "" }).await,
        Service::Binary { .. } | Service::Canary { .. } => place::end(target, version, Duration::ZERO).await,
    }
}

/// Runs a stop command with that version's own files, then makes sure that nothing of it is left. Without a command,
/// or when it fails, its processes get TERM at once.
pub(super) async fn halt(target: &Target, command: &Command<'_>) -> Result<(), Error> {
    let Command { text, version, address } = *command;
    let script = target.script(STOP).set("V", version).set("COMMAND", text).set("ADDRESS", address);
    // what it says does not matter: whether processes are left does
    let said = target.run(&script, STOP_LIMIT).await;
    let told = !text.trim().is_empty() && said.is_ok_and(|said| said.code == Some(0));
    let patience = if told { STOP_PATIENCE } else { Duration::ZERO };
    place::end(target, version, patience).await
}

/// Runs a start command and waits until a process of that version stays.
pub(super) async fn start(target: &Target, command: &Command<'_>) -> Result<Running, Error> {
    let Command { text, version, address } = *command;
    let script = target.script(START).set("V", version).set("COMMAND", text).set("ADDRESS", address);
    target.demand(&script, &format!("starting `{version}`"), ANSWER_LIMIT).await?;
    let began = Instant::now();
    let (mut last, mut steady, mut unseen) = (None, 0, 0);
    loop {
        tokio::time::sleep(BETWEEN_LOOKS).await;
        let said = target.session().run(&target.script(STARTED), ANSWER_LIMIT).await?.stdout;
        let (code, output) = ended(&said);
        let place = Place::query(target).await?;
        let pid = place.process(version);
        let failed = |why: &str| {
            let said = last_lines(&output, 5);
            Error::failed(format!("`{version}` {why}: {said}"))
                .help(format!("its output is in `{}/output.log` on the target", target.directory()))
        };
        match code {
            Some(0) if pid.is_none() => unseen += 1,
            Some(code) if code != 0 => {
                return Err(failed(&format!("does not start: its command ended with {code}")));
            }
            _ => unseen = 0,
        }
        steady = if pid.is_some() && pid == last { steady + 1 } else { 0 };
        last = pid;
        if steady >= STEADY {
            return Ok(Running { up: true, pid, start: String::new(), words: String::new() });
        }
        if unseen >= UNSEEN {
            return Err(failed("started, but no process of it is left"));
        }
        if began.elapsed() >= START_PATIENCE {
            return Err(failed("does not stay up"));
        }
    }
}

const MIX: &str = r#"
cd "$T/versions/$V" || exit 1
for try in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    said=$(bin/"$N" rpc 'IO.puts(System.get_env("RELEASE_VSN"))' 2>&1) && [ "$said" = "$V" ] && exit 0
    sleep 1
done
printf '%s\n' "$said" >&2
exit 1
"#;

/// Asks the node of a `mix release`; `daemon` comes back before it has booted, and says nothing when it can't.
pub(super) async fn mix_answers(target: &Target, version: &str) -> Result<(), Error> {
    target
        .demand(&target.script(MIX).set("V", version), "asking the node", STOP_LIMIT)
        .await
        .map(drop)
        .map_err(|error| {
            error.help(format!("see `{}/versions/{version}/tmp/log/` on the target", target.directory()))
        })
}

/// The exit code of the start command, if it has ended, and what it printed.
fn ended(said: &str) -> (Option<i32>, String) {
    match said.split_once('\n') {
        Some((first, rest)) if first.starts_with("code\t") => {
            (first.trim_start_matches("code\t").trim().parse().ok(), rest.to_owned())
        }
        _ => (None, said.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::ended;

    #[test]
    fn a_start_command_that_still_runs_has_no_code() {
        assert_eq!(ended("code\t3\nno port\n"), (Some(3), "no port\n".to_owned()));
        assert_eq!(ended("listening\n"), (None, "listening\n".to_owned()));
        assert_eq!(ended(""), (None, String::new()));
    }
}
