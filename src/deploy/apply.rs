//! What both ways of putting a release on a target share: upload, leftovers, starting.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use crate::release::decide::Candidate;
use crate::release::installed::{Evidence, Installed, Snapshot};
use crate::release::lineage;

use super::error::Error;
use super::file::{Environment, Health};
use super::settings::Settings;
use super::ssh::ANSWER_LIMIT;
use super::steps::Steps;
use super::target::{Survey, Target};

/// How often an upload goes on over a new connection.
const MENDED: u32 = 3;
const UPLOAD_LIMIT: Duration = Duration::from_secs(3600);
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
    /// The version is only on the way to another.
    pub passing: bool,
}

impl Care {
    /// What the environment asks for.
    ///
    /// # Errors
    /// None any more: the settings have read the file.
    pub fn of(settings: &Settings) -> Result<Self, Error> {
        Ok(Self::from(&settings.rules))
    }

    /// For a version on the way to another: it need not prove itself for long, and the way back must stay.
    pub(crate) fn in_passing(&self) -> Self {
        Self { soak: Duration::ZERO, keep: None, passing: true, ..self.clone() }
    }
}

impl From<&Environment> for Care {
    fn from(environment: &Environment) -> Self {
        let Environment { health, soak, keep, .. } = environment;
        Self { health: health.clone(), soak: *soak, keep: *keep, passing: false }
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

/// Says how much of this very package an upload that broke has left. `$RUNS` runs there: its package may still lie
/// there when the deployment that brought it was interrupted.
const PREPARE: &str = r#"
mkdir -p "$T/releases" || exit 1
part=$T/releases/$N-$V.tar.gz.part
rm -f "$T/releases/$N-$V.tar.gz" ${RUNS:+"$T/releases/$N-$RUNS.tar.gz"}
for other in "$T/releases/$N"-*.tar.gz.part*; do
    case $other in "$part"|"$part.sha256") ;; *) rm -f "$other" ;; esac
done
if [ -f "$part" ] && [ "$(cat "$part.sha256" 2>/dev/null)" = "$SHA256" ]; then
    wc -c <"$part"
else
    rm -f "$part" && printf '%s\n' "$SHA256" >"$part.sha256" && : >"$part" && echo 0
fi
"#;

const ARRIVE: &str = r#"
part=$T/releases/$N-$V.tar.gz.part
if command -v sha256sum >/dev/null 2>&1; then sum=$(sha256sum <"$part")
elif command -v shasum >/dev/null 2>&1; then sum=$(shasum -a 256 <"$part")
else sum=$(openssl dgst -sha256 -r <"$part"); fi
if [ "${sum%% *}" != "$SHA256" ]; then
    echo "size $(wc -c <"$part"), SHA-256 ${sum%% *}" >&2
    rm -f "$part" "$part.sha256"
    exit 9
fi
rm -f "$part.sha256"
mv "$part" "$T/releases/$N-$V.tar.gz"
"#;

/// `$REMOVE` has one path of `lib/` or `releases/` a line.
const CLEAN: &str = r#"
if [ -n "$UNINSTALL" ]; then "$(tool)" uninstall "$V" || exit 1; fi
printf '%s\n' "$REMOVE" | while IFS= read -r entry; do
    case $entry in
        lib/?*|releases/?*) rm -rf "$T/$entry" || exit 1 ;;
    esac
done || exit 1
rm -f "$T/releases/$N-$V.tar.gz"
"#;

const PRUNE: &str = r#"
for old in $OLD; do
    "$(tool)" uninstall "$old" || exit 1
    rm -f "$T/bin/$N-$old"
done
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
        let runs = evidence.snapshot.as_ref().and_then(Snapshot::running).unwrap_or_default();
        let prepare = target.script(PREPARE).set("V", &candidate.version).set("SHA256", &package.sha256);
        let prepare = prepare.set("RUNS", runs);
        let arrive = target.script(ARRIVE).set("V", &candidate.version).set("SHA256", &package.sha256);
        let mut resumed = 0;
        let upload = async {
            for broken in 0.. {
                let output = target.demand(&prepare, "making room for the package", ANSWER_LIMIT).await?;
                let there =
                    output.stdout.lines().last().and_then(|size| size.trim().parse().ok()).unwrap_or(0);
                resumed = there;
                let sent = match target.session().upload((&package.path, there), &part, UPLOAD_LIMIT).await {
                    // a connection that broke is mended, and what arrived is not sent again
                    Err(_) if broken < MENDED && target.mend().await.is_ok() => continue,
                    sent => sent?,
                };
                if sent.code.is_none() && broken < MENDED && target.mend().await.is_ok() {
                    continue;
                }
                if sent.code != Some(0) {
                    return Err(Error::failed(format!(
                        "sending `{file}` to `{}` failed: {}",
                        target.destination(),
                        sent.tail()
                    )));
                }
                let output = target.session().run(&arrive, ANSWER_LIMIT).await?;
                match output.code {
                    Some(0) => return Ok(()),
                    // the first part may have been damaged long ago
                    Some(9) if there > 0 => {}
                    Some(9) => {
                        return Err(Error::failed(format!(
                            "`{file}` did not arrive as it was sent (size {}, SHA-256 {}): the target has {}; it was removed again",
                            package.size, package.sha256, output.tail()
                        ))
                        .help("deploy again; if it happens again, look at the target's disk and at what stands between"));
                    }
                    _ => {
                        return Err(Error::failed(format!(
                            "checking `{file}` on `{}` failed: {}",
                            target.destination(),
                            output.tail()
                        )));
                    }
                }
            }
            Ok(())
        };
        let result = steps.take(format!("upload {file} ({} KiB)", package.size.div_ceil(1024)), upload).await;
        if resumed > 0 && result.is_ok() {
            steps.note(&format!("{} KiB had arrived before and were not sent again", resumed / 1024));
        }
        result
    }

    /// Whether a deployment that died has brought the candidate to run, unverified. Its last step may have ended
    /// only while we waited for the lock.
    pub(crate) fn there(&self, before: &Survey) -> bool {
        let open = before.evidence.unfinished || matches!(before.installed, Installed::Current { .. });
        open && before.installed.running() == Some(&self.candidate.version)
    }

    /// Ends what a deployment that died has left half-way.
    pub(crate) async fn recover(&mut self, before: &Survey) -> Result<Survey, Error> {
        if !before.evidence.unfinished {
            return Ok(before.clone());
        }
        self.steps.take("end what an earlier deployment left half-way", self.target.recover(before)).await
    }

    /// Removes what a deployment that died has left beside the candidate, which runs.
    pub(crate) async fn tidy(mut self, before: &Survey, care: &Care) -> Result<Survey, Error> {
        let Self { target, candidate, steps, .. } = &mut self;
        let work = target.accept(&candidate.version);
        steps.take("remove what the deployment that was interrupted has left", work).await?;
        self.prune(before, care).await;
        Ok(before.clone())
    }

    /// Removes old versions beyond those that are kept. The deployment is done: what fails here is only said.
    pub(crate) async fn prune(&mut self, survey: &Survey, care: &Care) {
        let (Some(keep), Some(node)) = (care.keep, &survey.evidence.snapshot) else { return };
        let old = lineage::surplus(&survey.evidence, node, keep);
        if old.is_empty() {
            return;
        }
        let Self { target, steps, .. } = self;
        let script = target.script(PRUNE).set("OLD", &old.join(" "));
        let prune = target.demand(&script, "removing old versions", UPLOAD_LIMIT);
        if let Err(error) = steps.take(format!("remove `{}`, keep {keep} old", old.join("`, `")), prune).await
        {
            steps.note(&format!("warning: {error}"));
        }
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
        let clean = async { self.target.demand(&script, "removing leftovers", ANSWER_LIMIT).await.map(drop) };
        if known || !remove.is_empty() {
            return self.steps.take(format!("remove what is left of an earlier `{version}`"), clean).await;
        }
        clean.await
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
