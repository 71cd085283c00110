//! Exchange of a running binary by signals, as nginx does it: USR2 starts the new one beside the old one, both
//! serve; WINCH lets the old workers finish; QUIT to the old master commits, QUIT to the new one goes back.

use std::time::{Duration, Instant};

use super::place::{self, Place};
use super::program::BETWEEN_LOOKS;
use crate::deploy::error::Error;
use crate::deploy::script::Script;
use crate::deploy::ssh::ANSWER_LIMIT;
use crate::deploy::target::Target;

/// The new master writes its pid file after it has bound its sockets and started its workers.
const UPGRADE_PATIENCE: Duration = Duration::from_secs(10);
/// Requests that take longer go on; only nobody waits for them.
const DRAIN_PATIENCE: Duration = Duration::from_secs(30);

const LOOK: &str = r#"
pid=$(cat "$PID" 2>/dev/null) && kill -0 "$pid" 2>/dev/null && printf 'master\t%s\t%s\n' "$pid" "$(readlink "/proc/$pid/exe")"
[ -f "$PID" ] && printf 'pid\t%s\n' "$pid"
old=$(cat "$PID.oldbin" 2>/dev/null) && printf 'old\t%s\n' "$old"
[ -n "$old" ] && kill -0 "$old" 2>/dev/null && printf 'lives\t%s\n' "$(readlink "/proc/$old/exe")"
printf 'binary\t%s\n' "$(readlink -f "$BINARY")"
true
"#;

const TEST: &str = r#"
cd "$T/versions/$V" && DIRECTORY=$(pwd -P) && export DIRECTORY && sh -c "$COMMAND"
"#;

const SIGNAL: &str = r#"kill -s "$SIGNAL" "$MASTER""#;

/// Workers of a new master that died serve on as orphans.
const ORPHANS: &str = r#"
R=$(cd "$T" && pwd -P)
for pid in $(ls -l /proc/[0-9]*/exe 2>/dev/null | sed -n 's|.*/proc/\([0-9]*\)/exe -> '"$R/versions/$V"'/.*|\1|p'); do
    kill -s QUIT "$pid" 2>/dev/null
done
true
"#;

/// The program of a [`crate::deploy::Service::Binary`].
pub(super) struct Binary<'a> {
    pub(super) target: &'a Target,
    pub(super) pid: &'a str,
    pub(super) binary: &'a str,
    pub(super) test: Option<&'a str>,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Masters {
    /// Living process of the pid file, and its program.
    pub(super) master: Option<(u32, String)>,
    /// Process of the pid file with the suffix `.oldbin`, alive or not.
    pub(super) old: Option<u32>,
    /// The program of that process, if it lives.
    old_program: Option<String>,
    /// Where the binary's path leads to.
    binary: String,
}

impl Masters {
    /// An exchange that nobody ended: process and version of the old master, which can serve again.
    pub(super) fn interrupted(&self, place: &Place) -> Option<(u32, String)> {
        let (old, version) = (self.old?, place.left()?);
        let inside = format!("{}/versions/{version}/", place.real);
        self.old_program.as_ref().filter(|program| program.starts_with(&inside))?;
        Some((old, version.to_owned()))
    }
}

impl Binary<'_> {
    /// Starts the new binary beside the old one, and stops the old one's workers. Whatever fails here leaves the
    /// old one serving, with `current` where it was.
    pub(super) async fn exchange(&self, old: &str, new: &str) -> Result<(u32, u32), Error> {
        let before = self.look().await?;
        let master = self.ready(&before)?;
        if let Some(test) = self.test {
            let script = self.target.script(TEST).set("V", new).set("COMMAND", test);
            self.target
                .demand(&script, "testing the configuration with the new binary", ANSWER_LIMIT)
                .await?;
        }
        place::switch(self.target, Some(new)).await?;
        let result = self.upgrade(master, new).await;
        let result = match result {
            Ok(fresh) => self.signal("WINCH", master).await.map(|()| fresh),
            Err(error) => Err(error),
        };
        match result {
            Ok(fresh) => Ok((master, fresh)),
            Err(error) => {
                self.back(master, old, new).await?;
                Err(error)
            }
        }
    }

    /// The old master ends when its last request is answered. `false`: it still answers some.
    pub(super) async fn commit(&self, old: u32) -> Result<bool, Error> {
        self.signal("QUIT", old).await?;
        let began = Instant::now();
        loop {
            let now = self.look().await?;
            if now.old.is_none() && now.master.is_some() {
                return Ok(true);
            }
            if began.elapsed() >= DRAIN_PATIENCE {
                return Ok(false);
            }
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
    }

    /// Makes the old master serve alone again.
    ///
    /// # Errors
    /// It does not; says what is there.
    pub(super) async fn back(&self, master: u32, old: &str, new: &str) -> Result<(), Error> {
        place::switch(self.target, Some(old)).await?;
        // before the new one goes, so that somebody always serves
        let _ = self.signal("HUP", master).await;
        let now = self.look().await?;
        if let Some((fresh, _)) = &now.master
            && *fresh != master
        {
            let _ = self.signal("QUIT", *fresh).await;
        }
        let began = Instant::now();
        loop {
            let now = self.look().await?;
            let alone = now.master.as_ref().is_some_and(|(pid, _)| *pid == master) && now.old.is_none();
            if alone {
                self.target
                    .demand(
                        &self.target.script(ORPHANS).set("V", new),
                        "ending what is left of it",
                        ANSWER_LIMIT,
                    )
                    .await?;
                return Ok(());
            }
            if began.elapsed() >= DRAIN_PATIENCE {
                return Err(Error::restarted(format!(
                    "the old master {master} did not take over again: found {now:?}"
                ))
                .help(format!(
                    "look at `{}` and `{}.oldbin` on the target and at the program's error log",
                    self.pid, self.pid
                )));
            }
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
    }

    /// What the pid files and /proc say.
    pub(super) async fn look(&self) -> Result<Masters, Error> {
        let output = self.target.demand(&self.script(LOOK), "looking at the pid file", ANSWER_LIMIT).await?;
        Ok(read(&output.stdout))
    }

    /// The master that can be upgraded.
    pub(super) fn ready(&self, masters: &Masters) -> Result<u32, Error> {
        let inside = format!("{}/current/", self.target.directory());
        if !self.binary.starts_with(&inside) {
            return Err(Error::refused(format!("`binary` is `{}`, not below `{inside}`", self.binary)).help(
                "start the program by its path below DIRECTORY/current/: it executes that very path again, so the link decides the version",
            ));
        }
        if let Some(old) = masters.old {
            let state =
                if masters.old_program.is_some() { "still runs" } else { "is gone, its pid file is left" };
            return Err(Error::refused(format!("an exchange is under way there: process {old} of `{}.oldbin` {state}", self.pid))
                .help("wait until its last requests are answered, or end one of the two masters (QUIT), then deploy again"));
        }
        let Some((master, program)) = &masters.master else {
            return Err(Error::refused(format!(
                "`{}` names no running process that we may signal",
                self.pid
            ))
            .help("start the program, or correct `pid` of the service"));
        };
        if *program != masters.binary {
            return Err(Error::refused(format!(
                "process {master} runs `{program}`, and `{}` is `{}`",
                self.binary, masters.binary
            ))
            .help(
                "the program was started by another path; restart it by its path below DIRECTORY/current/",
            ));
        }
        Ok(*master)
    }

    async fn upgrade(&self, master: u32, new: &str) -> Result<u32, Error> {
        self.signal("USR2", master).await?;
        let began = Instant::now();
        loop {
            tokio::time::sleep(BETWEEN_LOOKS).await;
            let now = self.look().await?;
            if let (Some((fresh, program)), Some(old)) = (&now.master, now.old)
                && *fresh != master
                && old == master
            {
                if *program == now.binary {
                    return Ok(*fresh);
                }
                return Err(Error::failed(format!(
                    "process {fresh} runs `{program}`, not the binary of `{new}`"
                ))
                .help("the program was started by another path than `binary`"));
            }
            if began.elapsed() >= UPGRADE_PATIENCE {
                return Err(Error::failed(format!("the binary of `{new}` did not start beside process {master}; that one serves on"))
                    .help("the program's error log says why (not executable, a configuration that it can't read, its exit code)"));
            }
        }
    }

    async fn signal(&self, signal: &str, master: u32) -> Result<(), Error> {
        let script = self.target.script(SIGNAL).set("SIGNAL", signal).set("MASTER", &master.to_string());
        self.target
            .demand(&script, &format!("sending {signal} to process {master}"), ANSWER_LIMIT)
            .await
            .map(drop)
    }

    fn script(&self, body: &'static str) -> Script {
        self.target.script(body).set("PID", self.pid).set("BINARY", self.binary)
    }
}

fn read(stdout: &str) -> Masters {
    let mut masters = Masters::default();
    for line in stdout.lines() {
        let (key, value) = line.split_once('\t').unwrap_or((line, ""));
        match key {
            "master" => {
                let (pid, program) = value.split_once('\t').unwrap_or((value, ""));
                let program = program.trim_end_matches(" (deleted)").to_owned();
                masters.master = pid.parse().ok().map(|pid| (pid, program));
            }
            "old" => masters.old = value.trim().parse().ok(),
            "lives" => masters.old_program = Some(value.trim_end_matches(" (deleted)").to_owned()),
            "binary" => masters.binary = value.to_owned(),
            _ => {}
        }
    }
    masters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_masters_are_told_apart() {
        let masters = read(
            "master\t9\t/t/versions/2/nginx\npid\t9\nold\t7\nlives\t/t/versions/1/nginx\nbinary\t/t/versions/2/nginx\n",
        );
        assert_eq!(masters.master, Some((9, "/t/versions/2/nginx".to_owned())));
        assert_eq!((masters.old, masters.old_program.is_some()), (Some(7), true));
        let mut place = Place { real: "/t".into(), current: Some("2".into()), ..Place::default() };
        assert_eq!(masters.interrupted(&place), None, "nothing says that the old one served");
        place.versions = ["1", "2"].map(|v| (v.to_owned(), String::new())).into();
        place.served = vec!["1".into()];
        assert_eq!(masters.interrupted(&place), Some((7, "1".to_owned())));
        place.served = vec!["2".into(), "1".into()];
        assert_eq!(masters.interrupted(&place), None, "the old one ends after its last request");
        let stale = read("pid\t999999\nbinary\t\n");
        assert_eq!((stale.master, stale.old), (None, None));
    }
}
