//! What both ways of putting a release on a target share: upload, leftovers, starting.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::release::decide::Candidate;
use crate::release::installed::{Evidence, Installed, Snapshot};

use super::detached;
use super::error::Error;
use super::file::{Environment, Health};
use super::steps::Steps;
use super::target::{Survey, Target};

pub(crate) const LIMIT: Duration = Duration::from_secs(60);
const UPLOAD_LIMIT: Duration = Duration::from_secs(3600);
const START_LIMIT: Duration = Duration::from_secs(90);
const BETWEEN_LOOKS: Duration = Duration::from_millis(500);
/// A virtual machine needs a moment to appear, and one that restarts under `heart` disappears for one.
const LOOKS_WITHOUT_PROCESS: u32 = 10;
/// Compressed code unpacks to some three times its size.
const SPACE_FACTOR: u64 = 4;

/// A package on this machine.
#[derive(Clone, Debug)]
pub struct Package {
    /// The tarball.
    pub path: PathBuf,
    /// SHA-256 of it, hexadecimal.
    pub sha256: String,
    /// Its size in bytes.
    pub size: u64,
}

/// What a deployment has to hold to before it counts as done.
#[derive(Clone, Debug, Default)]
pub struct Care {
    /// All of these must become true.
    pub health: Vec<Health>,
    /// They must stay true for this long before the version is made permanent.
    pub soak: Duration,
    /// Old versions that stay on the target; `None`: all.
    pub keep: Option<u32>,
}

impl From<&Environment> for Care {
    fn from(environment: &Environment) -> Self {
        let Environment { health, soak, keep, .. } = environment;
        Self { health: health.clone(), soak: *soak, keep: *keep }
    }
}

/// One release on its way to one target.
pub struct Apply<'a> {
    /// Where it goes.
    pub target: &'a mut Target,
    /// Where the steps are recorded.
    pub steps: &'a mut Steps,
    /// What it is.
    pub candidate: &'a Candidate,
    /// What is sent.
    pub package: &'a Package,
}

const PREPARE: &str =
    r#"mkdir -p "$T/releases" && rm -f "$T/releases/$N-$V.tar.gz" "$T/releases/$N-$V.tar.gz.part""#;

const ARRIVE: &str = r#"
part=$T/releases/$N-$V.tar.gz.part
if command -v sha256sum >/dev/null 2>&1; then sum=$(sha256sum <"$part")
elif command -v shasum >/dev/null 2>&1; then sum=$(shasum -a 256 <"$part")
else sum=$(openssl dgst -sha256 -r <"$part"); fi
if [ "${sum%% *}" != "$SHA256" ]; then
    echo "size $(wc -c <"$part"), SHA-256 ${sum%% *}" >&2
    rm -f "$part"
    exit 9
fi
mv "$part" "$T/releases/$N-$V.tar.gz"
"#;

/// `$REMOVE` has one path of `lib/` or `releases/` a line.
const CLEAN: &str = r#"
if [ -n "$UNINSTALL" ]; then "$T/bin/$N" uninstall "$V" || exit 1; fi
printf '%s\n' "$REMOVE" | while IFS= read -r entry; do
    case $entry in
        lib/?*|releases/?*) rm -rf "$T/$entry" || exit 1 ;;
    esac
done || exit 1
rm -f "$T/releases/$N-$V.tar.gz" "$T/releases/$N-$V.tar.gz.part"
"#;

const LOG: &str = r#"
log=$(ls -t "$T"/log/erlang.log.* 2>/dev/null | head -n 1)
[ -n "$log" ] && tail -n 25 "$log" | cut -c 1-400 | grep -v '^[[:space:]]*$'
true
"#;

const STOP_ALL: &str = r#"
for pid in $PIDS; do kill "$pid" 2>/dev/null; done
for try in 1 2 3 4 5; do
    for pid in $PIDS; do kill -0 "$pid" 2>/dev/null && sleep 1 && break; done
done
for pid in $PIDS; do kill -9 "$pid" 2>/dev/null; done
true
"#;

impl Apply<'_> {
    /// Sends the package to a temporary name, compares its digest there, and gives it its name.
    pub(crate) async fn upload(&mut self, evidence: &Evidence) -> Result<(), Error> {
        let Self { target, candidate, package, steps } = self;
        let file = format!("{}-{}.tar.gz", candidate.name, candidate.version);
        if evidence
            .free
            .is_some_and(|free| free.saturating_mul(1024) < package.size.saturating_mul(SPACE_FACTOR))
        {
            let free = evidence.free.unwrap_or(0);
            return Err(Error::refused(format!(
                "too little space on `{}`: {free} KiB free for a package of {} KiB",
                target.destination(),
                package.size / 1024
            ))
            .help("remove old releases on the target (`bin/NAME uninstall VERSION`) or give it more disk"));
        }
        let part = format!("{}/releases/{file}.part", target.directory());
        steps
            .take(format!("upload {file} ({} KiB)", package.size.div_ceil(1024)), async {
                target.demand(&target.script(PREPARE).set("V", &candidate.version), "making room for the package", LIMIT).await?;
                let sent = target.session().upload(&package.path, &part, UPLOAD_LIMIT).await?;
                if sent.code != Some(0) {
                    return Err(Error::failed(format!("sending `{file}` to `{}` failed: {}", target.destination(), sent.tail())));
                }
                let arrive = target.script(ARRIVE).set("V", &candidate.version).set("SHA256", &package.sha256);
                let output = target.session().run(&arrive, LIMIT).await?;
                match output.code {
                    Some(0) => Ok(()),
                    Some(9) => Err(Error::failed(format!(
                        "`{file}` did not arrive as it was sent (size {}, SHA-256 {}): the target has {}; it was removed again",
                        package.size, package.sha256, output.tail()
                    ))
                    .help("deploy again; if it happens again, look at the target's disk and at what stands between")),
                    _ => Err(Error::failed(format!("checking `{file}` on `{}` failed: {}", target.destination(), output.tail()))),
                }
            })
            .await
    }

    /// Removes what earlier attempts left of the candidate: release_handler never replaces a file, and stops for
    /// ever at a half unpacked release.
    pub(crate) async fn clean(&mut self, survey: &Survey) -> Result<(), Error> {
        let Some(node) = &survey.evidence.snapshot else { return Ok(()) };
        let version = &self.candidate.version;
        let known = node.releases.iter().any(|release| {
            &release.version == version && matches!(release.status.as_str(), "unpacked" | "old")
        });
        let remove = leftovers(node, &survey.evidence.entries, self.candidate);
        let script = self
            .target
            .script(CLEAN)
            .set("V", version)
            .set("UNINSTALL", if known { "yes" } else { "" })
            .set("REMOVE", &remove.join("\n"));
        let clean = async { self.target.demand(&script, "removing leftovers", LIMIT).await.map(drop) };
        if known || !remove.is_empty() {
            return self.steps.take(format!("remove what is left of an earlier `{version}`"), clean).await;
        }
        clean.await
    }

    /// Starts the release and asks until it answers.
    pub(crate) async fn start(&mut self) -> Result<Survey, Error> {
        let (said, survey) = self.boot().await?;
        if survey.installed.running().is_some() {
            return Ok(survey);
        }
        let log = self
            .target
            .session()
            .run(&self.target.script(LOG), LIMIT)
            .await
            .map(|output| output.stdout)
            .unwrap_or_default();
        let said = if said.trim().is_empty() { log } else { said };
        // what was started here and does not answer would block the next attempt
        let pids: Vec<String> =
            survey.evidence.nodes().iter().map(|process| process.pid.to_string()).collect();
        self.target.session().run(&self.target.script(STOP_ALL).set("PIDS", &pids.join(" ")), LIMIT).await?;
        Err(Error::failed(format!(
            "`{}` does not start: {}",
            self.target.name(),
            super::ssh::last_lines(&said, 6)
        ))
        .help(format!(
            "see `{}/log/erlang.log.1` on the target; `bin/{} foreground` there shows the start",
            self.target.directory(),
            self.target.name()
        )))
    }
}

impl Apply<'_> {
    /// Waits for the node, or until its process is gone for good: `daemon` itself waits for ever when the
    /// release can't boot.
    async fn boot(&mut self) -> Result<(String, Survey), Error> {
        detached::start(self.target, "daemon", "").await?;
        let began = Instant::now();
        let mut gone = 0;
        let (said, survey) = loop {
            tokio::time::sleep(BETWEEN_LOOKS).await;
            let finished = detached::ended(self.target).await?;
            let survey = self.target.query().await?;
            gone = if survey.evidence.nodes().is_empty() { gone + 1 } else { 0 };
            let over = gone >= LOOKS_WITHOUT_PROCESS || began.elapsed() >= START_LIMIT;
            if survey.installed.running().is_some()
                || over
                || finished.as_ref().is_some_and(|finished| finished.code != Some(0))
            {
                break (finished.map(|finished| finished.output).unwrap_or_default(), survey);
            }
        };
        detached::end(self.target).await?;
        Ok((said, survey))
    }
}

/// What of the candidate is on disk and belongs to no release that the node knows.
fn leftovers(node: &Snapshot, entries: &BTreeSet<String>, candidate: &Candidate) -> Vec<String> {
    let others = node.releases.iter().filter(|release| release.version != candidate.version);
    let mut used: BTreeSet<String> = others.flat_map(|release| release.libraries.iter().cloned()).collect();
    used.extend(node.applications.iter().map(|(name, version)| format!("{name}-{version}")));
    let running = node
        .releases
        .iter()
        .any(|r| r.version == candidate.version && matches!(r.status.as_str(), "permanent" | "current"));
    if running {
        return Vec::new();
    }
    let libraries = candidate.applications.iter().map(|(name, version)| format!("{name}-{version}"));
    let libraries =
        libraries.filter(|library| !used.contains(library)).map(|library| format!("lib/{library}"));
    let release = std::iter::once(format!("releases/{}", candidate.version));
    libraries.chain(release).filter(|entry| entries.contains(entry)).collect()
}

/// The verdict, in words that say what goes on serving.
pub(crate) fn state_in_words(installed: &Installed) -> String {
    match installed.running() {
        Some(version) => format!("`{version}` serves"),
        None => format!("on the target: {installed}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::installed::InstalledRelease;

    fn release(version: &str, status: &str, libraries: &[&str]) -> InstalledRelease {
        InstalledRelease {
            version: version.into(),
            status: status.into(),
            libraries: libraries.iter().map(|library| (*library).to_owned()).collect(),
        }
    }

    #[test]
    fn only_what_no_release_uses_is_removed() {
        let candidate = Candidate {
            version: "0.2.0".into(),
            applications: [("urf", "0.2.0"), ("sasl", "4.2"), ("dep", "1")]
                .map(|(a, b)| (a.into(), b.into()))
                .into(),
            ..Candidate::default()
        };
        let entries: BTreeSet<String> = [
            "lib/urf-0.1.0",
            "lib/urf-0.2.0",
            "lib/sasl-4.2",
            "lib/dep-1",
            "releases/0.1.0",
            "releases/0.2.0",
        ]
        .map(str::to_owned)
        .into();
        let mut node = Snapshot {
            releases: vec![release("0.1.0", "permanent", &["urf-0.1.0", "sasl-4.2"])],
            ..Snapshot::default()
        };
        assert_eq!(leftovers(&node, &entries, &candidate), ["lib/dep-1", "lib/urf-0.2.0", "releases/0.2.0"]);
        node.applications.insert("dep".into(), "1".into());
        assert_eq!(leftovers(&node, &entries, &candidate), ["lib/urf-0.2.0", "releases/0.2.0"]);
        node.releases.push(release("0.2.0", "current", &["urf-0.2.0"]));
        assert_eq!(leftovers(&node, &entries, &candidate), Vec::<String>::new());
    }
}
