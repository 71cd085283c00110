//! What serves on the targets of an environment, and where it is not what was put there.

use std::path::Path;

use tokio::task::JoinSet;

use super::choice::Running;
use super::one::service;
use super::place::Place;
use super::{Artifact, program};
use crate::deploy::error::Error;
use crate::deploy::file::{Kind, Service};
use crate::deploy::lock;
use crate::deploy::settings::Settings;
use crate::deploy::ssh::ANSWER_LIMIT;
use crate::deploy::status::{EnvironmentStatus, TargetStatus, started};
use crate::deploy::target::Target;
use crate::ledger::{Entry, Ledger, standing};
use crate::release::installed::Installed;

/// Checksums of all files were written when they were unpacked.
const FACTS: &str = r#"
tab=$(printf '\t')
if lives "$T/.ci-lock/holder"; then echo busy; else
    for entry in "$T/.ci-lock" "$T/.ci/package.part" "$T"/versions/.new-*; do
        [ -e "$entry" ] && printf 'left\t%s\n' "${entry#"$T"/}"
    done
fi
if [ -n "$PID" ] && [ -r "/proc/$PID/stat" ]; then
    ticks=$(getconf CLK_TCK 2>/dev/null || echo 100)
    awk -v at="$(started "$PID")" -v ticks="$ticks" '{ printf "age\t%d\n", $1 - at / ticks }' /proc/uptime
    sed -n "s/^VmRSS:[^0-9]*\([0-9]*\).*/memory$tab\1/p" "/proc/$PID/status"
fi
if [ -f "$T/.ci/sums/$V" ] && cd "$T/versions/$V"; then
    sha256sum -c "$T/.ci/sums/$V" 2>/dev/null | sed -n "s/^\.\/\(.*\): FAILED.*/changed$tab\1/p" | head -n 20
fi
true
"#;

/// Asks all targets at the same time.
///
/// # Errors
/// The project can't be read. A target that can't be asked is no error, but says so.
pub(in crate::deploy) async fn status(
    settings: &Settings,
    project: &Path,
    kind: Kind,
) -> Result<EnvironmentStatus, Error> {
    let (name, _) = Artifact::identity(project, &settings.release, kind)?;
    let service = service(settings.rules.service.as_ref())?;
    // a ledger that can't be read only takes a comparison away
    let entries = Ledger::of(project).and_then(|ledger| ledger.entries()).unwrap_or_default();
    let mut asked = JoinSet::new();
    for (index, address) in settings.targets.iter().enumerate() {
        let place = (address.destination.clone(), settings.directory_of(address, &name), name.clone());
        let service = service.clone();
        asked.spawn(async move {
            let (destination, directory, name) = place;
            let mut status = TargetStatus::new(&destination, &directory);
            if let Err(error) = ask(&mut status, &name, &service).await {
                status.error = Some(error);
            }
            (index, status)
        });
    }
    let mut targets = asked.join_all().await;
    targets.sort_by_key(|(index, _)| *index);
    let mut targets: Vec<TargetStatus> = targets.into_iter().map(|(_, target)| target).collect();
    targets.iter_mut().for_each(|target| compare(target, &entries, &settings.environment));
    Ok(EnvironmentStatus {
        format: 2,
        environment: settings.environment.clone(),
        tier: settings.rules.tier,
        delivery: settings.rules.delivery,
        release: name,
        targets,
    })
}

async fn ask(status: &mut TargetStatus, name: &str, service: &Service) -> Result<(), Error> {
    let target = Target::connect(&status.destination, &status.directory, name).await?;
    let result = tell(status, &target, service).await;
    target.close().await;
    result
}

async fn tell(status: &mut TargetStatus, target: &Target, service: &Service) -> Result<(), Error> {
    let place = Place::query(target).await?;
    let running = program::look(target, service, &place).await?;
    let version = place.current.clone().unwrap_or_default();
    let pid = running.pid.map_or(String::new(), |pid| pid.to_string());
    let facts = target.script(FACTS).using(lock::FUNCTIONS).set("PID", &pid).set("V", &version);
    let output = target.demand(&facts, "looking at what is in place", ANSWER_LIMIT).await?;
    let mut changed = Vec::new();
    for line in output.stdout.lines() {
        match line.split_once('\t').unwrap_or((line, "")) {
            ("busy", _) => status.busy = true,
            ("left", path) => status.left.push(path.to_owned()),
            ("age", seconds) => status.since = seconds.parse().ok().and_then(started),
            ("memory", kib) => status.memory = kib.parse().ok().map(|kib: u64| kib << 10),
            ("changed", path) => changed.push(path.to_owned()),
            _ => {}
        }
    }
    status.pid = running.pid;
    if !changed.is_empty() {
        status.drift.push(format!("changed since it was put there: `{}`", changed.join("`, `")));
    }
    status.drift.extend(contradictions(&place, &running));
    status.package = place.versions.get(&version).cloned().filter(|content| !content.is_empty());
    status.installed = Some(installed(&place, &running));
    status.bad = place.bad;
    Ok(())
}

/// The verdict.
pub(super) fn installed(place: &Place, running: &Running) -> Installed {
    match (&place.current, running.up) {
        (None, true) => {
            Installed::Inconsistent { problems: vec![format!("nothing is installed, but {}", running.words)] }
        }
        (None, false) => Installed::Absent,
        (Some(version), true) => Installed::Running { version: version.clone() },
        (version, false) => Installed::Stopped { version: version.clone() },
    }
}

fn contradictions(place: &Place, running: &Running) -> Vec<String> {
    let Some(current) = &place.current else { return Vec::new() };
    let mut found = Vec::new();
    for (pid, version) in place.processes.iter().filter(|(_, version)| *version != current) {
        found.push(format!("process {pid} is of `{version}`, but `current` leads to `{current}`"));
    }
    if running.up && place.served.first() != Some(current) {
        found.push(format!("`{current}` is in place and was never seen to serve"));
    }
    found
}

/// With the package that came to the environment under this version.
fn compare(target: &mut TargetStatus, entries: &[Entry], environment: &str) {
    let (Some(content), Some(version)) = (&target.package, target.version()) else { return };
    let arrived = standing::arrivals(entries, environment)
        .filter(|(_, arrival)| arrival.version == version && !arrival.content.is_empty())
        .last();
    if let Some((_, arrival)) = arrived.filter(|(_, arrival)| arrival.content != *content) {
        let text = format!(
            "`{version}` was unpacked from another package than the one that the ledger has ({})",
            arrival.content.get(..12).unwrap_or(&arrival.content)
        );
        target.drift.push(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_contradicts_the_link_is_told() {
        let place = Place {
            current: Some("2".into()),
            served: vec!["1".into()],
            processes: [(7, "1".to_owned()), (8, "2".to_owned())].into(),
            ..Place::default()
        };
        let up = Running { up: true, ..Running::default() };
        assert_eq!(contradictions(&place, &up).len(), 2);
        assert_eq!(installed(&place, &up), Installed::Running { version: "2".into() });
        assert_eq!(installed(&Place::default(), &Running::default()), Installed::Absent);
        assert!(matches!(installed(&Place::default(), &up), Installed::Inconsistent { .. }));
    }
}
