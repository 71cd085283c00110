//! One deployment at a time for each directory of a target. `mkdir` is the lock: it is atomic on every
//! file system, and needs no process that stays.

use std::time::Duration;

use super::error::Error;
use super::target::Target;

const LIMIT: Duration = Duration::from_secs(30);

const TAKE: &str = r#"
mkdir -p "$T" || exit 2
if mkdir "$T/.ci-lock" 2>/dev/null; then
    printf '%s since %s (run %s)\n' "$OWNER" "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$ID" >"$T/.ci-lock/owner" && exit 0
    rm -rf "$T/.ci-lock"
    echo "cannot write below $T (disk full?)" >&2
    exit 2
fi
[ -d "$T/.ci-lock" ] || { echo "cannot write below $T" >&2; exit 2; }
cat "$T/.ci-lock/owner" 2>/dev/null
[ -n "$(find "$T/.ci-lock" -prune -mmin +60 2>/dev/null)" ] && echo stale
exit 3
"#;

const RELEASE: &str = r#"
D=$T/.ci/run-$ID
if [ -f "$D/pid" ] && [ ! -f "$D/rc" ] && kill -0 "$(cat "$D/pid")" 2>/dev/null; then
    echo "what was started there still runs, so the lock stays" >&2
    exit 1
fi
[ -d "$D" ] && rm -rf "$D" && rmdir "$T/.ci" 2>/dev/null
grep -q "(run $ID)" "$T/.ci-lock/owner" 2>/dev/null && rm -rf "$T/.ci-lock"
true
"#;

/// Takes the lock; the directory is made when it isn't there. A lock is never broken: the error says whose it is.
pub(crate) async fn take(target: &Target, version: &str) -> Result<(), Error> {
    let owner = format!("{} deploying `{version}`", whoami());
    let output = target.session().run(&target.script(TAKE).set("OWNER", &owner), LIMIT).await?;
    let directory = target.directory();
    match output.code {
        Some(0) => Ok(()),
        Some(3) => {
            let mut lines = output.stdout.lines();
            let holder = lines.next().filter(|line| *line != "stale").unwrap_or("somebody");
            let age = if output.stdout.contains("\nstale") { ", which is more than an hour ago" } else { "" };
            Err(Error::refused(format!(
                "`{directory}` on `{}` is locked by {holder}{age}",
                target.destination()
            ))
            .help(format!(
                "wait for that deployment; if it is dead, `rm -r {directory}/.ci-lock` on the target"
            )))
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

/// Gives the lock back, if it is ours.
pub(crate) async fn release(target: &Target) -> Result<(), Error> {
    target.demand(&target.script(RELEASE), "giving the lock back", LIMIT).await.map(drop)
}

fn whoami() -> String {
    let user =
        std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_else(|_| "somebody".to_owned());
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{user}@{host}")
}
