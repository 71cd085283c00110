//! One deployment at a time for each directory of a target. `mkdir` is the lock: it is atomic on every file
//! system. A process on the target that ends with its owner's connection tells whether the owner still lives.

use std::time::{Duration, Instant};

use super::error::Error;
use super::steps::Steps;
use super::target::Target;

const LIMIT: Duration = Duration::from_secs(30);
/// The longest step that goes on without its connection, and a little more.
const STEP_LIMIT: Duration = Duration::from_secs(400);
const BETWEEN_TRIES: Duration = Duration::from_secs(1);
/// The target may not have noticed yet that the owner's connection is gone.
const NOTICE_LIMIT: Duration = Duration::from_secs(3);

/// `/proc` tells of other users' processes too, which `kill -0` does not; the start time tells a process from a
/// later one with its number, and the state one that ended from one whose parent has not noticed yet.
pub(crate) const FUNCTIONS: &str = r#"
alive() {
    case $(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null) in ''|[ZX]*) return 1 ;; esac
}
started() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d ' ' -f 20; }
lives() {
    [ -e "$1" ] && read -r pid since <"$1" || return 1
    alive "$pid" && [ -n "$since" ] && [ "$(started "$pid")" = "$since" ]
}
busy() {
    for run in "$T"/.ci/run-*; do
        [ ! -f "$run/rc" ] && lives "$run/pid" && return 0
    done
    return 1
}
"#;

const TAKE: &str = r#"
L=$T/.ci-lock
mkdir -p "$T" || exit 2
if [ -n "$AGAIN" ]; then
    grep -q "(run $ID)" "$L/owner" 2>/dev/null || { cat "$L/owner" 2>/dev/null; exit 3; }
elif [ -d "$L" ]; then
    [ -e "$L/holder" ] && ! lives "$L/holder" || {
        cat "$L/owner" 2>/dev/null
        [ -n "$(find "$L" -prune -mmin +60 2>/dev/null)" ] && echo stale
        exit 3
    }
    busy && exit 4
    seen=$(cat "$L/holder")
    mv "$L" "$L-$ID" 2>/dev/null || exit 4
    if [ "$(cat "$L-$ID/holder" 2>/dev/null)" != "$seen" ]; then mv "$L-$ID" "$L"; exit 4; fi
    echo "was $(cat "$L-$ID/owner" 2>/dev/null)"
    rm -rf "$L-$ID"
fi
if [ -z "$AGAIN" ]; then
    if ! mkdir "$L" 2>/dev/null; then
        [ -d "$L" ] && exit 4
        echo "cannot write below $T" >&2
        exit 2
    fi
    rm -rf "$T"/.ci/run-*
fi
{ printf '%s %s\n' $$ "$(started $$)" >"$L/holder" &&
    { [ -n "$AGAIN" ] || printf '%s since %s (run %s)\n' "$OWNER" "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$ID" >"$L/owner"; }; } || {
    rm -rf "$L"
    echo "cannot write below $T (disk full?)" >&2
    exit 2
}
echo held
exec cat >/dev/null
"#;

const RELEASE: &str = r#"
D=$T/.ci/run-$ID
if [ ! -f "$D/rc" ] && lives "$D/pid"; then
    echo "what was started there still runs, so the lock stays until it ends" >&2
    exit 1
fi
[ -d "$D" ] && rm -rf "$D"
rmdir "$T/.ci" 2>/dev/null
grep -q "(run $ID)" "$T/.ci-lock/owner" 2>/dev/null && rm -rf "$T/.ci-lock"
true
"#;

const FREE: &str = r#"
L=$T/.ci-lock
[ -d "$L" ] || exit 5
cat "$L/owner" 2>/dev/null || echo somebody
if [ -z "$FORCE" ]; then
    busy && exit 4
    lives "$L/holder" && exit 3
fi
rm -rf "$L"
"#;

/// Takes the lock; the directory is made when it isn't there. The lock of an owner who is gone is taken over, once
/// nothing that he started still runs; any other is never broken: the error says whose it is.
pub(crate) async fn take(target: &mut Target, steps: &mut Steps, version: &str) -> Result<(), Error> {
    let owner = format!("{} deploying `{version}`", whoami());
    let script = target.script(TAKE).using(FUNCTIONS).set("OWNER", &owner).set("AGAIN", "");
    let (began, mut waited) = (Instant::now(), false);
    let output = loop {
        match target.session().hold(&script, LIMIT).await? {
            Ok(hold) => {
                for owner in hold.said.lines().filter_map(|line| line.strip_prefix("was ")) {
                    steps.note(&format!("took over the lock of {owner}, whose connection is gone"));
                }
                target.hold = Some(hold);
                return Ok(());
            }
            Err(output) if output.code == Some(3) && began.elapsed() < NOTICE_LIMIT => {
                tokio::time::sleep(BETWEEN_TRIES).await;
            }
            Err(output) if output.code == Some(4) && began.elapsed() < STEP_LIMIT => {
                if !waited {
                    steps.note("waiting until what another deployment has begun there has ended");
                    waited = true;
                }
                tokio::time::sleep(BETWEEN_TRIES).await;
            }
            Err(output) => break output,
        }
    };
    let directory = target.directory();
    match output.code {
        Some(3 | 4) => {
            let mut lines = output.stdout.lines();
            let holder = lines.next().filter(|line| *line != "stale").unwrap_or("somebody");
            let age = if output.stdout.contains("\nstale") { ", which is more than an hour ago" } else { "" };
            Err(Error::refused(format!(
                "`{directory}` on `{}` is locked by {holder}{age}",
                target.destination()
            ))
            .help("wait for that deployment; if it is dead, `ci env unlock ENV` removes its lock"))
        }
        _ => Err(Error::refused(format!(
            "cannot write `{directory}` on `{}`: {}",
            target.destination(),
            output.tail()
        ))
        .help(format!(
            "on the target, as an administrator: `mkdir -p {directory}` and `chown` it to the deploying user"
        ))),
    }
}

/// Holds the lock again after a broken connection.
pub(crate) async fn again(target: &mut Target) -> Result<(), Error> {
    let script = target.script(TAKE).using(FUNCTIONS).set("OWNER", "").set("AGAIN", "yes");
    match target.session().hold(&script, LIMIT).await? {
        Ok(hold) => {
            target.hold = Some(hold);
            Ok(())
        }
        Err(output) => Err(Error::failed(format!(
            "while the connection to `{}` was lost, its lock was taken by {}",
            target.destination(),
            output.stdout.lines().next().unwrap_or("somebody")
        ))),
    }
}

/// Gives the lock back, if it is ours.
pub(crate) async fn release(target: &mut Target) -> Result<(), Error> {
    let released = target
        .demand(&target.script(RELEASE).using(FUNCTIONS), "giving the lock back", LIMIT)
        .await
        .map(drop);
    target.hold = None;
    released
}

/// Removes the lock of a dead deployment, and says whose it was; `None` when there is none. `force` removes that of
/// a living one too.
///
/// # Errors
/// Its owner lives, or something that he started still runs.
pub async fn unlock(target: &Target, force: bool) -> Result<Option<String>, Error> {
    let script = target.script(FREE).using(FUNCTIONS).set("FORCE", if force { "yes" } else { "" });
    let output = target.session().run(&script, LIMIT).await?;
    let owner = output.stdout.trim().to_owned();
    let help = "wait until it ends; `--force` removes the lock all the same, and then two deployments may disturb each other";
    match output.code {
        Some(0) => Ok(Some(owner)),
        Some(5) => Ok(None),
        Some(3) => Err(Error::refused(format!("the deployment is alive: {owner}")).help(help)),
        Some(4) => {
            Err(Error::refused(format!("a step of that deployment still runs on the target: {owner}"))
                .help(help))
        }
        _ => Err(Error::failed(format!(
            "removing the lock on `{}` failed: {}",
            target.destination(),
            output.tail()
        ))),
    }
}

fn whoami() -> String {
    let user =
        std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_else(|_| "somebody".to_owned());
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{user}@{host}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Start time of a process, and whether it has ended.
    fn stat(pid: u32) -> (String, bool) {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        (fields[19].to_owned(), fields[0] == "Z")
    }

    #[test]
    fn an_owner_that_ended_is_gone_also_before_its_parent_has_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let holder = directory.path().join("holder");
        let lives = |pid: u32, since: &str| {
            std::fs::write(&holder, format!("{pid} {since}\n")).unwrap();
            let script = format!("{FUNCTIONS}\nlives {} && echo lives", holder.display());
            let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
            String::from_utf8(output.stdout).unwrap() == "lives\n"
        };
        let ours = std::process::id();
        assert!(lives(ours, &stat(ours).0));
        assert!(!lives(ours, "1"), "a later process with its number");
        let mut child = std::process::Command::new("true").spawn().unwrap();
        while !stat(child.id()).1 {
            std::thread::yield_now();
        }
        assert!(!lives(child.id(), &stat(child.id()).0));
        child.wait().unwrap();
    }
}
