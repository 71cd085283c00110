//! The rules about what lies and runs on a target: `R020`, `R022` and `R024` to `R027`.

use std::collections::BTreeSet;

use super::{
    super::{
        Finding,
        installed::{Evidence, Snapshot},
        package::Package,
        relup::Instruction,
    },
    package::quoted,
};

/// The findings about putting `new` on a target with this evidence. `running` is the package of the version
/// that runs there, if it is at hand. Errors first.
#[must_use]
pub fn target(new: &Package, running: Option<&Package>, evidence: &Evidence) -> Vec<Finding> {
    let mut findings = Vec::new();
    space(new, evidence, &mut findings);
    leftovers(new, evidence, &mut findings);
    if let Some(node) = &evidence.snapshot {
        uncommitted(new, node, &mut findings);
        if let Some(running) = running {
            running_code(running, node, &mut findings);
        }
    }
    findings.sort_by_key(|finding| (!finding.is_error(), finding.code));
    findings
}

/// What a package takes on disk when it is unpacked, and while it is.
fn space(new: &Package, evidence: &Evidence, findings: &mut Vec<Finding>) {
    let Some(free) = evidence.free else { return };
    let needed = new.files.values().map(|file| file.size.div_ceil(4096) * 4).sum::<u64>() * 2;
    if free < needed {
        findings.push(Finding::error(
            "R020",
            format!("the target has {free} KiB of free space, twice the unpacked package is {needed} KiB"),
            "remove old versions there (`bin/NAME uninstall VERSION`), or make room",
        ));
    }
}

fn leftovers(new: &Package, evidence: &Evidence, findings: &mut Vec<Finding>) {
    let version = &new.rel.version;
    let known = |node: &Snapshot| node.releases.iter().find(|release| release.version == *version).cloned();
    let node = evidence.snapshot.as_ref();
    if let Some(release) = node.and_then(known) {
        if release.status == "unpacked" {
            findings.push(Finding::warning(
                "R022",
                format!(
                    "`{version}` is unpacked there by an earlier attempt: its files would be used, not these"
                ),
                "`ci deploy` removes it first; by hand: `bin/NAME uninstall VERSION`",
            ));
        }
        return;
    }
    let libraries: BTreeSet<&String> =
        node.into_iter().flat_map(|node| &node.releases).flat_map(|release| &release.libraries).collect();
    let is_left = |entry: &&String| match entry.split_once('/') {
        Some(("releases", found)) => found == version,
        Some(("lib", found)) => {
            let ours = new.rel.apps.iter().any(|(app, vsn)| format!("{app}-{vsn}") == found);
            ours && !libraries.contains(&found.to_owned())
        }
        _ => false,
    };
    // without a node's answer nobody knows which libraries belong to a release
    let left: Vec<&String> = evidence.entries.iter().filter(is_left).filter(|_| node.is_some()).collect();
    if !left.is_empty() {
        findings.push(Finding::warning(
            "R022",
            format!(
                "{} on the target belong to no release: unpacking would keep the files in there",
                quoted(&left)
            ),
            "`ci deploy` removes them first; by hand: remove these directories",
        ));
    }
}

fn uncommitted(new: &Package, node: &Snapshot, findings: &mut Vec<Finding>) {
    if let Some(current) = node.version("current").filter(|current| *current != new.rel.version) {
        findings.push(Finding::error(
            "R027",
            format!("`{current}` runs there and was never made permanent: a failure would go back behind it"),
            "make it permanent or go back first",
        ));
    }
}

/// Loaded modules of applications that the package holds, against the package.
fn running_code(running: &Package, node: &Snapshot, findings: &mut Vec<Finding>) {
    let mut differing = Vec::new();
    for (app, beams) in &running.modules {
        if node.applications.get(app).map(String::as_str) != running.app_version(app) {
            continue;
        }
        let differs = |(name, beam): &(&String, &super::super::erlang::Beam)| {
            node.modules.get(*name).is_some_and(|loaded| *loaded != crate::digest::hex(&beam.md5))
        };
        differing.extend(beams.iter().filter(differs).map(|(name, _)| name));
    }
    if !differing.is_empty() {
        findings.push(Finding::error(
            "R024",
            format!(
                "the loaded code of {} is not that of the package of `{}`: the relup was made for other code",
                quoted(&differing),
                running.rel.version
            ),
            "somebody loaded code by hand, or another build runs under this version; restart for this version",
        ));
    }
}

/// The processes of the modules that a relup touches, as the node tells them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Processes {
    /// Modules with processes that `release_handler` does not find: they would not be suspended nor converted.
    pub missed: BTreeSet<String>,
    /// Modules with processes that still run the code before the loaded one: loading kills them.
    pub lingering: BTreeSet<String>,
}

/// The modules that the upgrade of `new` from `from` loads or removes.
#[must_use]
pub fn touched(new: &Package, from: Option<&str>) -> BTreeSet<String> {
    let relup = new.relup().ok().flatten();
    let scripts = relup.map(|relup| relup.up).unwrap_or_default();
    let wanted = scripts.into_iter().filter(|script| from.is_none_or(|from| script.version == from));
    let module = |instruction: Instruction| match instruction {
        Instruction::Load { module, .. } | Instruction::Remove { module, .. } => Some(module),
        _ => None,
    };
    wanted.flat_map(|script| script.instructions).filter_map(module).collect()
}

/// The findings about the live processes of the modules that the upgrade of `new` from `from` touches.
#[must_use]
pub fn processes(new: &Package, from: &str, live: &Processes) -> Vec<Finding> {
    let relup = new.relup().ok().flatten();
    let Some(script) = relup.as_ref().and_then(|relup| relup.up_from(from)) else { return Vec::new() };
    let mut converted = BTreeSet::new();
    for instruction in &script.instructions {
        if let Instruction::CodeChange(modules) = instruction {
            converted.extend(modules.iter().cloned());
        }
    }
    let touched = touched(new, Some(from));
    let mut findings = Vec::new();
    let missed: Vec<&String> = live.missed.intersection(&converted).collect();
    if !missed.is_empty() {
        findings.push(Finding::error(
            "R025",
            format!(
                "processes of {} are under no supervisor that names them: their state would not be converted",
                quoted(&missed)
            ),
            "correct `modules` in their child specifications and restart for this version",
        ));
    }
    let lingering: Vec<&String> = live.lingering.intersection(&touched).collect();
    if !lingering.is_empty() {
        findings.push(Finding::warning(
            "R026",
            format!("processes still run old code of {}: loading the new code ends them", quoted(&lingering)),
            "wait until they are through, or restart for this version",
        ));
    }
    findings
}
