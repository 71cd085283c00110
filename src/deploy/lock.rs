//! One deployment at a time for each directory of a target. `mkdir` is the lock: it is atomic on every file
//! system. A process on the target that ends with its owner's connection tells whether the owner still lives. A machine
//! that vanished ends no connection, so the owner also says every [`BEAT`] that it lives; after a minute of silence the lock
//! is another's for the taking, by the target's own count of seconds. Whoever lost it so changes nothing there any more.

use std::time::{Duration, Instant};

use super::error::Error;
use super::ssh::ANSWER_LIMIT;
use super::steps::Steps;
use super::target::Target;

/// Between two signs of life.
pub(crate) const BEAT: Duration = Duration::from_secs(10);
/// More than the minute after which a silent owner counts as gone.
const SILENCE_LIMIT: Duration = Duration::from_secs(75);
/// The longest step that goes on without its connection, and a little more.
const STEP_LIMIT: Duration = Duration::from_secs(400);
const BETWEEN_TRIES: Duration = Duration::from_secs(1);
/// The target may not have noticed yet that the owner's connection is gone.
const NOTICE_LIMIT: Duration = Duration::from_secs(3);

/// `/proc` tells of other users' processes too, which `kill -0` does not; the start time tells a process from a
/// later one with its number, and the state one that ended from one whose parent has not noticed yet. Seconds are those
/// since the machine's start, which nobody sets.
pub(crate) const FUNCTIONS: &str = r#"
alive() {
    case $(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null) in ''|[ZX]*) return 1 ;; esac
}
started() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d ' ' -f 20; }
lives() {
    [ -e "$1" ] && read -r pid since <"$1" || return 1
    alive "$pid" && [ -n "$since" ] && [ "$(started "$pid")" = "$since" ]
}
now() { read -r seconds rest </proc/uptime && echo "${seconds%.*}"; }
owned() {
    silent=0
    lives "$1/holder" || return 1
    [ ! -s "$1/beat" ] || silent=$(($(now) - $(cat "$1/beat")))
    [ "$silent" -lt 60 ]
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
    silent=0
    if [ ! -e "$L/holder" ] || owned "$L"; then
        cat "$L/owner" 2>/dev/null
        [ -n "$(find "$L" -prune -mmin +60 2>/dev/null)" ] && echo stale
        # who missed two beats may be gone
        [ "$silent" -lt 25 ] || exit 6
        exit 3
    fi
    busy && exit 4
    seen=$(cat "$L/holder" "$L/beat" 2>/dev/null)
    mv "$L" "$L-$ID" 2>/dev/null || exit 4
    if [ "$(cat "$L-$ID/holder" "$L-$ID/beat" 2>/dev/null)" != "$seen" ]; then mv "$L-$ID" "$L"; exit 4; fi
    echo "was $(cat "$L-$ID/owner" 2>/dev/null)"
    lives "$L-$ID/holder" && kill "$pid"
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
{ printf '%s %s\n' $$ "$(started $$)" >"$L/holder" && now >"$L/beat" &&
    { [ -n "$AGAIN" ] || printf '%s since %s (run %s)\n' "$OWNER" "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$ID" >"$L/owner"; }; } || {
    rm -rf "$L"
    echo "the lock's files can't be written; $(df -Pk "$T" | awk 'NR == 2 { print $4 }') KiB are free" >&2
    exit 7
}
echo held
while read -r beat; do
    [ -f "$L/holder" ] && read -r pid since <"$L/holder" && [ "$pid" = $$ ] && now >"$L/beat" || exit
done
"#;

/// Before whatever is done under the lock: somebody may have taken it over, or removed it.
pub(crate) const FENCE: &str = r#"
grep -q "(run $ID)" "$T/.ci-lock/owner" 2>/dev/null || {
    echo "the lock is not ours any more: $(cat "$T/.ci-lock/owner" 2>/dev/null || echo 'it was removed')" >&2
    exit 75
}
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
    owned "$L" && exit 3
fi
rm -rf "$L"
"#;

/// Takes the lock; the directory is made when it isn't there. The lock of an owner who is gone or silent is taken over,
/// once nothing that he started still runs; any other is never broken: the error says whose it is.
pub(crate) async fn take(target: &mut Target, steps: &mut Steps, version: &str) -> Result<(), Error> {
    let owner = format!("{} deploying `{version}`", whoami());
    let script = target.script(TAKE).using(FUNCTIONS).set("OWNER", &owner).set("AGAIN", "");
    let (began, mut waited) = (Instant::now(), false);
    let output = loop {
        match target.session().hold(&script, ANSWER_LIMIT).await? {
            Ok(hold) => {
                for owner in hold.said.lines().filter_map(|line| line.strip_prefix("was ")) {
                    steps.note(&format!("took over the lock of {owner}, who is gone"));
                }
                target.hold = Some(hold);
                return Ok(());
            }
            Err(output) if output.code == Some(3) && began.elapsed() < NOTICE_LIMIT => {
                tokio::time::sleep(BETWEEN_TRIES).await;
            }
            Err(output) if output.code == Some(6) && began.elapsed() < SILENCE_LIMIT => {
                if !waited {
                    let owner = output.stdout.lines().next().unwrap_or("the lock's owner").to_owned();
                    steps.note(&format!("waiting for a sign of life of {owner}, for a minute at most"));
                    waited = true;
                }
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
        Some(3 | 4 | 6) => {
            let mut lines = output.stdout.lines();
            let holder = lines.next().filter(|line| *line != "stale").unwrap_or("somebody");
            let age = if output.stdout.contains("\nstale") { ", which is more than an hour ago" } else { "" };
            Err(Error::refused(format!(
                "`{directory}` on `{}` is locked by {holder}{age}",
                target.destination()
            ))
            .help("wait for that deployment; if it is dead, `ci env unlock ENV` removes its lock"))
        }
        code => Err(Error::refused(format!(
            "cannot write `{directory}` on `{}`: {}",
            target.destination(),
            output.tail()
        ))
        .help(if code == Some(7) {
            "make room on the target, and deploy again".to_owned()
        } else {
            format!("on the target, as an administrator: `mkdir -p {directory}` and `chown` it to the deploying user")
        })),
    }
}

/// Holds the lock again after a broken connection.
pub(crate) async fn again(target: &mut Target) -> Result<(), Error> {
    let script = target.script(TAKE).using(FUNCTIONS).set("OWNER", "").set("AGAIN", "yes");
    match target.session().hold(&script, ANSWER_LIMIT).await? {
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
        .demand(&target.script(RELEASE).using(FUNCTIONS), "giving the lock back", ANSWER_LIMIT)
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
    let output = target.session().run(&script, ANSWER_LIMIT).await?;
    let owner = output.stdout.trim().to_owned();
    let help = "wait until it ends; `--force` removes the lock all the same, and that deployment stops before its next change";
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

    #[test]
    fn an_owner_who_is_silent_for_a_minute_has_lost_the_lock() {
        let directory = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| std::fs::write(directory.path().join(file), text).unwrap();
        let ours = std::process::id();
        write("holder", &format!("{ours} {}\n", stat(ours).0));
        let owned = || {
            let script = format!("{FUNCTIONS}\nowned {} && echo owned", directory.path().display());
            let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
            assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap() == "owned\n"
        };
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
        let now: i64 = uptime.split('.').next().unwrap().parse().unwrap();
        assert!(owned(), "one that says nothing, as older versions");
        // a disk that is full leaves an empty file
        for (beat, expected) in
            [(now.to_string(), true), ((now - 100).to_string(), false), (String::new(), true)]
        {
            write("beat", &beat);
            assert_eq!(owned(), expected, "{beat} at {now}");
        }
    }
}
