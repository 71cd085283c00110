//! What goes on when the connection breaks: scripts that run in a session of their own on the target, write their
//! output and exit code to files there, and are polled.

use std::time::{Duration, Instant};

use super::error::Error;
use super::lock;
use super::script::Script;
use super::ssh::ANSWER_LIMIT;
use super::target::Target;

/// After a connection that broke.
const BETWEEN_POLLS: Duration = Duration::from_millis(250);
/// How long a broken connection is mended before the outcome is declared unknown.
const MENDING: Duration = Duration::from_secs(60);

const START: &str = r#"
D=$T/.ci/run-$ID
rm -rf "$D" && mkdir -p "$D" && printf '%s' "$SCRIPT" >"$D/script" || exit 1
apart=$(command -v setsid || command -v nohup) || { echo "neither setsid nor nohup found" >&2; exit 1; }
"$apart" sh -c '
    printf "%s %s\n" $$ "$(sed "s/.*) //" /proc/$$/stat | cut -d " " -f 20)" >"$1/pid"
    sh "$1/script" >"$1/out" 2>&1
    echo $? >"$1/rc.part"
    mv "$1/rc.part" "$1/rc"
' sh "$D" >/dev/null 2>&1 &
while [ ! -s "$D/pid" ]; do kill -0 $! 2>/dev/null || [ -s "$D/pid" ] || exit 1; done
"#;

const COMMAND: &str = r#"if [ -n "$ARGUMENTS" ]; then "$(tool)" "$COMMAND" $ARGUMENTS "$V"; else "$(tool)" "$COMMAND" "$V"; fi"#;

/// Waits some twenty seconds there, which costs less than asking again and again: each question is a session of ssh.
const POLL: &str = r#"
D=$T/.ci/run-$ID
looks=0
until [ -f "$D/rc" ]; do
    [ $((looks % 10)) -ne 0 ] || lives "$D/pid" || break
    [ "$looks" -lt 200 ] || { echo running; exit; }
    looks=$((looks + 1))
    sleep 0.1 2>/dev/null || { sleep 1; looks=$((looks + 9)); }
done
[ -f "$D/rc" ] && echo "rc $(cat "$D/rc")" || echo gone
cat "$D/out"
"#;

const END: &str = r#"
D=$T/.ci/run-$ID
read -r pid since <"$D/pid"
[ -f "$D/rc" ] || kill -s TERM -- "-$pid" 2>/dev/null || kill "$pid" 2>/dev/null
rm -rf "$D"
rmdir "$T/.ci" 2>/dev/null
true
"#;

/// How a detached command ended.
#[derive(Debug)]
pub(crate) struct Finished {
    /// Its exit code; `None` when it was killed or did not end in time.
    pub(crate) code: Option<i32>,
    /// What it printed.
    pub(crate) output: String,
}

/// Runs `bin/NAME COMMAND VERSION` on the target; `COMMAND` may be several words.
pub(crate) async fn command(
    target: &mut Target,
    command: &str,
    version: &str,
    limit: Duration,
) -> Result<Finished, Error> {
    let (word, rest) = command.split_once(' ').unwrap_or((command, ""));
    let script = target.script(COMMAND).set("COMMAND", word).set("ARGUMENTS", rest).set("V", version);
    run(target, &script, limit).await
}

/// Runs a script on the target, for at most `limit`; then it is ended.
pub(crate) async fn run(target: &mut Target, script: &Script, limit: Duration) -> Result<Finished, Error> {
    let start = target.script(START).set("SCRIPT", &script.text());
    target.demand(&start, "starting a step that goes on without us", ANSWER_LIMIT).await?;
    let began = Instant::now();
    let finished = loop {
        match poll(target).await.map(|said| parse(&said))? {
            Some(finished) => break finished,
            None if began.elapsed() >= limit => break Finished { code: None, output: String::new() },
            None => {}
        }
    };
    // what has ended is removed by the next step there, or with the lock
    if finished.code.is_none() || target.hold.is_none() {
        target.demand(&target.script(END), "tidying up", ANSWER_LIMIT).await?;
    }
    Ok(finished)
}

async fn poll(target: &mut Target) -> Result<String, Error> {
    let began = Instant::now();
    loop {
        match target.session().run(&target.script(POLL).using(lock::FUNCTIONS), ANSWER_LIMIT).await {
            Ok(output) => return Ok(output.stdout),
            Err(error) if began.elapsed() >= MENDING => {
                return Err(error
                    .and("the command goes on on the target, its outcome is unknown")
                    .help("ask with `ci release status ENV` when the target can be reached again"));
            }
            Err(_) => {
                tokio::time::sleep(BETWEEN_POLLS).await;
                // the next poll tells whether it worked
                let _ = target.reconnect().await;
            }
        }
    }
}

fn parse(said: &str) -> Option<Finished> {
    // a login shell may print lines of its own first
    let mut rest = said;
    while let Some((line, after)) = rest.split_once('\n') {
        if line == "running" {
            return None;
        }
        if line == "gone" {
            return Some(Finished { code: None, output: after.to_owned() });
        }
        if let Some(code) = line.strip_prefix("rc ") {
            return Some(Finished { code: code.trim().parse().ok(), output: after.to_owned() });
        }
        rest = after;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_poll_tells_running_from_ended_and_killed() {
        assert!(parse("running\n").is_none());
        assert!(parse("").is_none());
        let ended = parse("motd\nrc 4\nERROR: no\n").unwrap();
        assert_eq!((ended.code, ended.output.as_str()), (Some(4), "ERROR: no\n"));
        assert_eq!(parse("gone\nhalf").unwrap().code, None);
    }
}
