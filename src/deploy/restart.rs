//! The exchange of one version for another: unpack beside, stop, switch the files, start; and back again when that
//! fails. A fresh install is the same with nothing to stop.

use std::time::Duration;

use crate::release::decide::{Candidate, stale_modules};
use crate::release::installed::Installed;
use crate::release::rel::{self, Rel, ReleasesEntry, Status, releases_text};

use super::apply::{Apply, Care, state_in_words};
use super::detached::{self, Finished};
use super::error::Error;
use super::script::Script;
use super::ssh::ANSWER_LIMIT;
use super::target::{PATIENCE, Survey, Target};
use super::{bad, health};

const UNPACK_LIMIT: Duration = Duration::from_secs(600);
/// For a node to stop or to start; a start also has this long.
const NODE_LIMIT: &str = "90";
/// Both, forth and back again, with some room.
const SWITCH_LIMIT: Duration = Duration::from_secs(390);

/// What the scripts of [`Target::exchange`] share.
const FUNCTIONS: &str = include_str!("switch.sh");

/// `sys.config` and `vm.args` that were edited on the target stay, with what the package brought beside them; and the
/// new version tells what it was put in place of. `$OLD` and `$NEW` are directories of the releases `$FROM` and `$V`.
pub(crate) const KEEP: &str = r#"
keep() {
    if [ -n "$FROM" ] && [ "$FROM" != "$V" ]; then
        printf '%s\n' "$FROM${PASSING:+ passing}" >"$NEW/.replaced" || return 1
    elif [ -f "$OLD/.replaced" ]; then
        cp -p "$OLD/.replaced" "$NEW/.replaced" || return 1
    fi
    for file in sys.config vm.args; do
        [ -f "$NEW/$file" ] || continue
        printf '%s %s\n' "$(cksum <"$NEW/$file")" "$file" >>"$NEW/.shipped" || return 1
        was=$(sed -n "s/ $file\$//p" "$OLD/.shipped" 2>/dev/null)
        if [ -n "$was" ] && [ -f "$OLD/$file" ] && [ "$was" != "$(cksum <"$OLD/$file")" ]; then
            mv "$NEW/$file" "$NEW/$file.shipped" && cp -p "$OLD/$file" "$NEW/$file" || return 1
            echo "kept $file"
        fi
    done
}
"#;

const UNPACK: &str = r#"
rm -rf "$D" && mkdir -p "$D/tree/bin" "$D/tree/lib" "$D/tree/releases" || exit 1
tar -xzof "$T/releases/$N-$V.tar.gz" -C "$D/tree" || { rm -rf "$D"; exit 1; }
[ -x "$D/tree/bin/$N" ] && [ -d "$D/tree/releases/$V" ] || {
    echo "the package holds no bin/$N or no releases/$V" >&2
    rm -rf "$D"
    exit 1
}
OLD=$T/releases/$FROM
NEW=$D/tree/releases/$V
keep || { rm -rf "$D"; exit 1; }
echo begin
sed 's/^/new /' "$D/tree/releases/RELEASES" 2>/dev/null
echo
sed 's/^/old /' "$T/releases/RELEASES" 2>/dev/null
true
"#;

/// A tree that makes an installed version the one that boots.
const REVIVE: &str = r#"
rm -rf "$D" && mkdir -p "$D/tree/bin" "$D/tree/releases" || exit 1
[ -d "$T/releases/$V" ] || { echo "releases/$V is not there" >&2; exit 1; }
[ -x "$T/bin/$N-$V" ] || { echo "bin/$N-$V is not there" >&2; exit 1; }
cp -p "$T/bin/$N-$V" "$D/tree/bin/$N" || exit 1
echo begin
sed 's/^/old /' "$T/releases/RELEASES" 2>/dev/null
true
"#;

const RECORDS: &str = r#"
printf '%s' "$RELEASES" >"$D/tree/releases/RELEASES" && printf '%s' "$START" >"$D/tree/releases/start_erl.data" && sync
"#;

const FORTH: &str = r#"
[ -n "$PIDS" ] && : >"$D/ran"
halt "$PIDS" || exit 10
if ! swap; then
    restore && { [ -z "$PIDS" ] || launch; } && exit 13
    exit 12
fi
if launch; then : >"$D/done"; exit 0; fi
halt "$(beams)"
back && exit 11
exit 12
"#;

const BACK: &str = "back";

/// Stops and starts, with nothing exchanged.
const AGAIN: &str = r#"mkdir -p "$D" && halt "$(beams)" && launch; code=$?; rm -rf "$D"; exit "$code""#;

const ACCEPT: &str = r#"
rm -rf "$D" "$T/releases/$N-$V.tar.gz" "$T/releases/$N"-*.tar.gz.part* || exit 1
rmdir "$T/.ci" 2>/dev/null
true
"#;

impl Target {
    /// A script for exchanging versions.
    pub(crate) fn exchange(&self, body: &'static str) -> Script {
        let directory = format!("{}/.ci/switch", self.directory());
        self.script(body).using(FUNCTIONS).set("D", &directory).set("LIMIT", NODE_LIMIT)
    }

    /// Stops what runs of the release and starts what its files boot.
    pub(crate) async fn restart_node(&mut self) -> Result<Finished, Error> {
        let again = self.exchange(AGAIN);
        detached::run(self, &again, SWITCH_LIMIT).await
    }

    /// Prepares the exchange for `version`, which is installed and does not run.
    pub(crate) async fn revive_version(&self, version: &str) -> Result<(), Error> {
        let script = self.exchange(REVIVE).set("V", version);
        let output = self.demand(&script, &format!("preparing `{version}`"), ANSWER_LIMIT).await?;
        let entries = entries(&output.stdout, "old ");
        let Some(entry) = entries.iter().find(|entry| entry.rel.version == version) else {
            return Err(Error::refused(format!("releases/RELEASES does not know `{version}`")));
        };
        let entry = ReleasesEntry { status: Status::Permanent, ..entry.clone() };
        self.records(&entry, entries).await
    }

    /// Writes `RELEASES` and `start_erl.data` of the tree: `new` is what boots, the others are old.
    async fn records(&self, new: &ReleasesEntry, others: Vec<ReleasesEntry>) -> Result<(), Error> {
        let start = format!("{} {}", new.rel.erts, new.rel.version);
        let text = releases_text(new, others);
        let script = self.exchange(RECORDS).set("RELEASES", &text).set("START", &start);
        self.demand(&script, "writing the records of the release", ANSWER_LIMIT).await.map(drop)
    }

    /// Stops the processes `pids`, switches to the tree, starts it. `Ok(Err(..))` when that failed, with what happened.
    pub(crate) async fn switch(&mut self, pids: &[u32]) -> Result<Result<(), Finished>, Error> {
        let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
        let forth = self.exchange(FORTH).set("PIDS", &pids.join(" "));
        let finished = detached::run(self, &forth, SWITCH_LIMIT).await?;
        Ok(if finished.code == Some(0) { Ok(()) } else { Err(finished) })
    }

    /// Undoes [`Target::switch`].
    pub(crate) async fn switch_back(&mut self) -> Result<Finished, Error> {
        let back = self.exchange(BACK);
        detached::run(self, &back, SWITCH_LIMIT).await
    }

    /// `version` is there for good: what was needed to bring it is removed.
    pub(crate) async fn accept(&self, version: &str) -> Result<(), Error> {
        self.demand(&self.exchange(ACCEPT).set("V", version), "tidying up", UNPACK_LIMIT).await.map(drop)
    }

    /// Ends an exchange that died half-way: a version that runs stays, else what was there comes back.
    pub(crate) async fn recover(&mut self, survey: &Survey) -> Result<Survey, Error> {
        if !survey.evidence.unfinished {
            return Ok(survey.clone());
        }
        if survey.installed.running().is_none() {
            let finished = self.switch_back().await?;
            if finished.code != Some(0) {
                return Err(Error::failed(format!(
                    "an earlier deployment died half-way, and putting back what was there failed: {}",
                    super::ssh::last_lines(&finished.output, 3)
                )));
            }
        }
        self.accept(survey.installed.running().unwrap_or_default()).await?;
        self.survey(PATIENCE).await
    }
}

/// What a release said that ended after it had answered.
const LAST_WORDS: &str = r#"
log=$(ls -t "$T"/log/erlang.log.* "$T"/tmp/log/erlang.log.* 2>/dev/null | head -n 1)
[ -n "$log" ] && echo "$log:" && tail -n 25 "$log" | cut -c 1-400 | grep -v '^[[:space:]]*$'
true
"#;

impl Apply<'_> {
    /// Stops what runs and starts the candidate in its place. `before` is a query made under the lock.
    ///
    /// # Errors
    /// The candidate does not start, is not what the package holds, or is not healthy: then the old version
    /// was started again, unless the message says otherwise.
    pub async fn restart(mut self, before: &Survey, care: &Care) -> Result<Survey, Error> {
        if self.there(before) {
            return self.commit(before, care).await;
        }
        let before = self.recover(before).await?;
        match &before.installed {
            Installed::Running { .. } | Installed::Stopped { .. } => self.replace(&before, care).await,
            Installed::Current { version, permanent } => Err(Error::refused(format!(
                "`{version}` runs there and was never made permanent (a restart boots `{permanent}`)"
            ))
            .help("`ci rollback ENV` goes back to the permanent version; then deploy again")),
            other => {
                Err(Error::refused(format!("expected a version to replace, but {}", state_in_words(other)))
                    .help("deploy again, so that the target is asked first"))
            }
        }
    }

    pub(crate) async fn replace(&mut self, before: &Survey, care: &Care) -> Result<Survey, Error> {
        bad::refuse(before, &self.candidate.version)?;
        self.upload(&before.evidence).await?;
        let old =
            before.installed.running().or(before.evidence.start.as_deref()).unwrap_or_default().to_owned();
        self.unpack(&old).await?;
        let ran = before.installed.running().is_some();
        let pids: Vec<u32> = match ran {
            true => before.evidence.nodes().iter().map(|process| process.pid).collect(),
            false => Vec::new(),
        };
        let Self { target, steps, candidate, .. } = self;
        let version = candidate.version.clone();
        let what = if ran {
            format!("stop `{old}`, start `{version}`")
        } else {
            format!("start `{version}`, until it answers")
        };
        let switch = async {
            match target.switch(&pids).await? {
                Ok(()) => Ok(()),
                Err(finished) => {
                    // what is still half-way is left for the next deployment to look at
                    if matches!(finished.code, Some(10 | 11 | 13)) {
                        target.accept(&version).await?;
                    }
                    Err(refused_to_start(target, &version, &old, ran, &finished))
                }
            }
        };
        if let Err(error) = steps.take(what, switch).await {
            bad::mark(target, steps, &version, &error).await;
            return Err(error);
        }
        match self.examine(care).await {
            Ok(survey) => {
                self.target.accept(&version).await?;
                self.prune(&survey, care).await;
                Ok(survey)
            }
            Err(error) => Err(self.put_back(&old, ran, error).await),
        }
    }

    async fn unpack(&mut self, old: &str) -> Result<(), Error> {
        let Self { target, steps, candidate, .. } = self;
        let script = target.exchange(UNPACK).using(KEEP).set("V", &candidate.version).set("FROM", old);
        let mut kept = Vec::new();
        let work = async {
            let output = target.demand(&script, "unpacking the package", UNPACK_LIMIT).await?;
            kept = kept_files(&output.stdout);
            let shipped = entries(&output.stdout, "new ");
            let new = shipped.into_iter().find(|entry| entry.rel.version == candidate.version);
            target.records(&new.unwrap_or_else(|| entry(candidate)), entries(&output.stdout, "old ")).await
        };
        let result = steps.take(format!("unpack beside {}", target.directory()), work).await;
        for file in kept {
            steps.note(&kept_note(&file, old, &candidate.version));
        }
        result
    }

    /// Whether what was started is the candidate, and well.
    async fn examine(&mut self, care: &Care) -> Result<Survey, Error> {
        let Self { target, steps, candidate, .. } = self;
        let version = &candidate.version;
        let survey = steps.take(format!("verify that `{version}` runs"), async {
            let survey = target.survey(PATIENCE).await?;
            let Some(node) =
                survey.evidence.snapshot.as_ref().filter(|_| survey.installed.running() == Some(version))
            else {
                let log = target.session().run(&target.script(LAST_WORDS), ANSWER_LIMIT).await?;
                return Err(Error::failed(format!(
                    "`{version}` was started, but {} ({})",
                    state_in_words(&survey.installed),
                    super::ssh::last_lines(&log.stdout, 6)
                )));
            };
            let stale = stale_modules(node, candidate);
            if stale.is_empty() {
                return Ok(survey);
            }
            Err(Error::failed(format!(
                "these modules are not those of the package: `{}`",
                stale.join("`, `")
            )))
        });
        let survey = survey.await?;
        health::watch(target, steps, care, survey.evidence.snapshot.as_ref().map(|node| &node.boot)).await?;
        Ok(survey)
    }

    /// Undoes the exchange. The error says what serves now.
    pub(crate) async fn put_back(&mut self, old: &str, ran: bool, error: Error) -> Error {
        let Self { target, steps, candidate, .. } = self;
        let version = candidate.version.clone();
        let log = format!("see `{}/log/` on the target for what `{version}` said", target.directory());
        let back = async {
            let finished = target.switch_back().await?;
            let survey = target.survey(PATIENCE).await?;
            let right = if ran {
                survey.installed.running() == Some(old)
            } else {
                survey.installed.running().is_none()
            };
            if finished.code == Some(0) && right {
                return target.accept(&version).await;
            }
            Err(Error::failed(format!(
                "{} ({})",
                state_in_words(&survey.installed),
                super::ssh::last_lines(&finished.output, 3)
            )))
        };
        let step = if ran { format!("back to `{old}`") } else { format!("take `{version}` away again") };
        let error = match steps.take(step, back).await {
            Ok(()) if ran => Error::rolled_back(format!(
                "{}; `{old}` was started again and serves, the state of its processes is lost",
                error.message
            ))
            .help(error.help.unwrap_or(log)),
            Ok(()) => Error::failed(format!("{}; it was taken away again", error.message))
                .help(error.help.unwrap_or(log)),
            Err(other) => Error::restarted(format!("{}; going back failed too: {other}", error.message))
                .help("look at the target with `ci env status` before anything else is done there"),
        };
        bad::mark(target, steps, &version, &error).await;
        error
    }
}

fn refused_to_start(target: &Target, version: &str, old: &str, ran: bool, finished: &Finished) -> Error {
    let said = super::ssh::last_lines(&finished.output, 6);
    let message = match (finished.code, ran) {
        (Some(10), _) => format!("`{old}` does not stop, so nothing was exchanged: {said}"),
        (Some(13), _) => {
            format!("the files of `{version}` could not be moved into place, `{old}` was put back: {said}")
        }
        (Some(11), true) => {
            format!(
                "`{version}` does not start: {said}; `{old}` was started again and serves, the state of its processes is lost"
            )
        }
        (Some(11), false) => format!("`{version}` does not start: {said}; it was taken away again"),
        (Some(12), _) => format!(
            "`{version}` does not start, and what was there could not be started again either: {said}"
        ),
        _ => {
            format!("the exchange of versions was interrupted on the target, its outcome is unknown: {said}")
        }
    };
    let error = match (finished.code, ran) {
        (Some(11 | 13), true) => Error::rolled_back(message),
        (Some(11 | 13), false) => Error::failed(message),
        _ => Error::restarted(message),
    };
    error.help(format!(
        "see `{}/log/erlang.log.1` on the target; `bin/{} foreground` there shows a start",
        target.directory(),
        target.name()
    ))
}

/// Names of the files that were kept, from the script's output.
pub(crate) fn kept_files(stdout: &str) -> Vec<String> {
    stdout.lines().filter_map(|line| line.strip_prefix("kept ")).map(str::to_owned).collect()
}

pub(crate) fn kept_note(file: &str, old: &str, version: &str) -> String {
    format!(
        "kept: `{file}` of `{old}` was edited on the target, so `{version}` goes on with it (the package's is beside it, `{file}.shipped`)"
    )
}

/// The entries of a `RELEASES` file whose lines were printed with `prefix`; none if it can't be read.
fn entries(stdout: &str, prefix: &str) -> Vec<ReleasesEntry> {
    let text: String =
        stdout.lines().filter_map(|line| line.strip_prefix(prefix)).map(|line| format!("{line}\n")).collect();
    rel::parse_releases("RELEASES", &text).unwrap_or_default()
}

fn entry(candidate: &Candidate) -> ReleasesEntry {
    let apps = candidate.applications.iter().map(|(name, version)| (name.clone(), version.clone())).collect();
    let Candidate { name, version, erts, .. } = candidate.clone();
    ReleasesEntry { rel: Rel { name, version, erts, apps, idle: Vec::new() }, status: Status::Permanent }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_new_release_is_permanent_and_the_others_are_old() {
        let stdout = "new [{release,\"urf\",\"0.2.0\",\"13\",[{urf,\"0.2.0\",\"./lib/urf-0.2.0\"}],permanent}].\n\n\
            old %% coding: utf-8\nold [{release,\"urf\",\"0.1.0\",\"13\",[{kernel,\"8\",\"lib/kernel-8\"}],permanent},\n\
            old  {release,\"urf\",\"0.2.0\",\"13\",[],old}].\n";
        let (new, old) = (entries(stdout, "new "), entries(stdout, "old "));
        let text = releases_text(&new[0], old);
        let read = rel::parse_releases("RELEASES", &text).unwrap();
        let seen: Vec<_> = read.iter().map(|entry| (&*entry.rel.version, entry.status)).collect();
        assert_eq!(seen, [("0.2.0", Status::Permanent), ("0.1.0", Status::Old)]);
        assert_eq!(read[1].rel.apps, [("kernel".to_owned(), "8".to_owned())]);
    }

    /// Runs shell text with the functions over a directory of files.
    fn shell(directory: &std::path::Path, limit: &str, text: &str) -> String {
        let values = format!("T={0} N=urf D={0}/.ci/switch LIMIT={limit}\n", directory.display());
        let mut sh = std::process::Command::new("sh");
        let output = sh.arg("-c").arg(format!("{values}{FUNCTIONS}\n{text}")).output().unwrap();
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn program(path: &std::path::Path, text: &str) {
        use std::os::unix::fs::PermissionsExt;
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn what_was_moved_comes_back_also_from_half_way() {
        for cut in ["", "mv() { case $1 in */tree/*urf-2) return 1 ;; esac; command mv \"$@\"; }"] {
            let dir = tempfile::tempdir().unwrap();
            let write = |file: &str, text: &str| program(&dir.path().join(file), text);
            write("bin/urf", "one");
            write("lib/urf-1/a", "one");
            write("lib/same-1/a", "old same");
            write("releases/start_erl.data", "1");
            write(".ci/switch/tree/bin/urf", "two");
            write(".ci/switch/tree/lib/same-1/a", "new same");
            write(".ci/switch/tree/lib/urf-2/a", "two");
            write(".ci/switch/tree/releases/start_erl.data", "2");
            let state = "cd $T; cat bin/urf releases/start_erl.data lib/same-1/a; echo; ls lib";
            let said =
                shell(dir.path(), "1", &format!("{cut}\nswap && echo moved; ({state}); restore && {state}"));
            let (forth, back) = said.split_at(said.rfind("one1").unwrap());
            assert_eq!(back, "one1old same\nsame-1\nurf-1\n");
            assert_eq!(forth.contains("two2new same\nsame-1\nurf-1\nurf-2\n"), cut.is_empty(), "{forth}");
        }
    }

    #[test]
    fn a_process_that_does_not_stop_when_asked_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        program(&dir.path().join("bin/urf"), "#!/bin/sh\nexec sleep 1000\n");
        let said = shell(
            dir.path(),
            "0",
            "sh -c 'trap \"\" TERM; while :; do sleep 0.1; done' >/dev/null & pid=$!\nsleep 0.3; nap() { sleep 0.01; }\nhalt $pid && ! some $pid && echo gone",
        );
        assert_eq!(said, "it did not stop at TERM: KILL\ngone\n");
    }

    #[test]
    fn a_configuration_that_was_edited_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| program(&dir.path().join(file), text);
        write("1/sys.config", "shipped");
        write("1/vm.args", "shipped");
        write("0/none", "");
        let keep = |old: &str, new: &str| {
            shell(dir.path(), "1", &format!("{KEEP}\nOLD=$T/{old} NEW=$T/{new}; keep"))
        };
        assert_eq!(keep("0", "1"), "");
        write("3/none", "");
        let passing = format!("{KEEP}\nFROM=0 V=3 PASSING=yes OLD=$T/0 NEW=$T/3; keep; cat $NEW/.replaced");
        assert_eq!(shell(dir.path(), "1", &passing), "0 passing\n");
        write("1/vm.args", "edited");
        write("2/sys.config", "newer");
        write("2/vm.args", "newer");
        assert_eq!(keep("1", "2"), "kept vm.args\n");
        let read = |file: &str| std::fs::read_to_string(dir.path().join(file)).unwrap();
        assert_eq!(
            (read("2/sys.config"), read("2/vm.args"), read("2/vm.args.shipped")),
            ("newer".into(), "edited".into(), "newer".into())
        );
    }
}
