//! What a target has: the evidence that one query brings back, and the verdict drawn from it.
//!
//! A node that does not answer is not a node that does not run: a wrong cookie, another name, a lost epmd
//! and a hung VM all look the same from outside. So "stopped" needs proof that no process of the release lives.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::hops::Edge;
use super::lineage::Replaced;

/// What a running node says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// `code:root_dir()`.
    pub root: String,
    /// Process id in the operating system. It does not change when the node restarts its applications.
    pub pid: u32,
    /// Node name, as `urf@127.0.0.1`.
    pub node: String,
    /// `init:get_status()`: `starting`, `started` or `stopping`.
    pub init: String,
    /// Version of the runtime system (`erts`).
    pub erts: String,
    /// What tells one boot of the node from the next.
    pub boot: Boot,
    /// Seconds since the virtual machine started.
    pub uptime: u64,
    /// Bytes that it has allocated.
    pub memory: u64,
    /// `release_handler:which_releases()`.
    pub releases: Vec<InstalledRelease>,
    /// The upgrades and downgrades that the releases' relups offer: from the first version to the second.
    #[serde(skip)]
    pub ways: Vec<Edge>,
    /// Loaded applications and their versions.
    pub applications: BTreeMap<String, String>,
    /// MD5 (hexadecimal) of every loaded module.
    #[serde(skip)]
    pub modules: BTreeMap<String, String>,
}

/// Identity of one boot: both change at `init:restart()`, which neither the process id nor the uptime does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Boot {
    /// `erlang:system_info(creation)`.
    pub creation: String,
    /// The process identifier of `kernel_sup`.
    pub supervisor: String,
}

/// One entry of `release_handler:which_releases()`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct InstalledRelease {
    /// Release version.
    pub version: String,
    /// `permanent`, `current`, `old` or `unpacked`.
    pub status: String,
    /// Library directories by name, as `urf-0.1.0`.
    pub libraries: BTreeSet<String>,
}

impl Snapshot {
    /// The version with `status`, if there is one.
    pub fn version(&self, status: &str) -> Option<&str> {
        self.releases.iter().find(|release| release.status == status).map(|release| release.version.as_str())
    }

    /// The version whose code runs: `current` if a release is installed and not yet permanent, else `permanent`.
    pub fn running(&self) -> Option<&str> {
        self.version("current").or_else(|| self.version("permanent"))
    }
}

/// A process of the release, as `/proc` shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// Path of the executable; empty when the process belongs to somebody else.
    pub exe: String,
    /// Value of `-root`.
    pub root: String,
    /// Value of `-boot`.
    pub boot: String,
}

/// Everything that one query brings back.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// The directory as it was asked for.
    pub directory: String,
    /// The directory without symbolic links; `None` when it does not exist.
    pub root: Option<String>,
    /// Whether the directory, or the nearest parent that exists, can be written.
    pub writable: bool,
    /// Whether versioned directories lie there, as archives are deployed.
    pub versioned: bool,
    /// Remote user.
    pub user: String,
    /// Whether `bin/NAME` is there, and the version written in it.
    pub script: Option<String>,
    /// Version that `releases/start_erl.data` boots.
    pub start: Option<String>,
    /// Permanent version in the file `releases/RELEASES`.
    pub permanent: Option<String>,
    /// Processes of Erlang virtual machines.
    pub processes: Vec<Process>,
    /// Whether `/proc` shows the processes of every user.
    pub sees_all: bool,
    /// The node's own answer.
    pub snapshot: Option<Snapshot>,
    /// What the release's script said when the node gave no answer.
    pub silence: String,
    /// Free space in KiB.
    pub free: Option<u64>,
    /// Programs found out of those that a deployment needs.
    pub tools: BTreeSet<String>,
    /// Directories below `lib/` and `releases/`, as `lib/urf-0.1.0`.
    pub entries: BTreeSet<String>,
    /// Versions that failed there and must not be deployed again, each with the reason (`TARGET_DIR/.ci/bad`).
    pub bad: BTreeMap<String, String>,
    /// By version: what it was put in place of (`releases/VERSION/.replaced`).
    pub replaced: BTreeMap<String, Replaced>,
    /// Whether an exchange of versions was begun there and never verified (`TARGET_DIR/.ci/switch`).
    pub unfinished: bool,
    /// What a deployment has there while it goes on and this one does not any more; paths in the directory. Packages
    /// below `releases/` may be somebody else's: see [`Evidence::litter`].
    pub left: BTreeSet<String>,
    /// Whether a step of some deployment runs there at this moment.
    pub busy: bool,
}

impl Evidence {
    /// What is left of deployments of the release `name` when `version` runs there and no step of one does.
    pub fn litter(&self, name: &str, version: &str) -> Vec<String> {
        let own = format!("releases/{name}-{version}.tar.gz");
        let ours = |path: &&String| !path.ends_with(".tar.gz") || **path == own;
        if self.busy { Vec::new() } else { self.left.iter().filter(ours).cloned().collect() }
    }

    /// Virtual machines that run this release. Those of its own tools (`versions`, `remote_console`) don't count.
    pub fn nodes(&self) -> Vec<&Process> {
        let roots: Vec<&str> =
            [Some(self.directory.as_str()), self.root.as_deref()].into_iter().flatten().collect();
        let below =
            |path: &str, part: &str| roots.iter().any(|root| path.starts_with(&format!("{root}/{part}")));
        self.processes
            .iter()
            .filter(|process| {
                let ours = below(&process.exe, "erts-")
                    || roots.contains(&process.root.as_str())
                    || below(&process.boot, "releases/");
                let boot = process.boot.rsplit('/').next().unwrap_or_default();
                ours && boot != "start_clean" && boot != "no_dot_erlang"
            })
            .collect()
    }
}

/// The verdict over a target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum Installed {
    /// Nothing is installed.
    Absent,
    /// Installed, and proved not to run.
    Stopped {
        /// Version that would boot, if the files tell.
        version: Option<String>,
    },
    /// Runs its permanent version.
    Running {
        /// That version.
        version: String,
    },
    /// Runs a version that is installed but not permanent: a restart goes back to `permanent`.
    Current {
        /// Version that runs.
        version: String,
        /// Version that a restart boots.
        permanent: String,
    },
    /// The node answers, but is starting or stopping just now.
    Restarting,
    /// A process of the release lives and its node does not answer.
    Unreachable {
        /// The processes.
        pids: Vec<u32>,
        /// What the release's script said.
        said: String,
    },
    /// The pieces of evidence contradict each other.
    Inconsistent {
        /// Each contradiction.
        problems: Vec<String>,
    },
    /// The target does not let us see enough.
    Unclear {
        /// What is missing.
        reason: String,
    },
}

impl Installed {
    /// Judges one query's evidence.
    pub fn judge(evidence: &Evidence) -> Self {
        if evidence.versioned {
            let reason = "the directory holds `versions` and `current`: what runs there was deployed with a `service:`; give this release a directory of its own, or move that one away";
            return Self::Unclear { reason: reason.to_owned() };
        }
        match &evidence.snapshot {
            Some(snapshot) if snapshot.init != "started" => Self::Restarting,
            Some(snapshot) => judge_running(evidence, snapshot),
            None => judge_silent(evidence),
        }
    }

    /// The version that runs, when one does.
    pub fn running(&self) -> Option<&str> {
        match self {
            Self::Running { version } | Self::Current { version, .. } => Some(version),
            _ => None,
        }
    }
}

impl std::fmt::Display for Installed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Absent => write!(f, "nothing installed"),
            Self::Stopped { version: Some(version) } => write!(f, "`{version}` installed, not running"),
            Self::Stopped { version: None } => write!(f, "installed, not running"),
            Self::Running { version } => write!(f, "`{version}` running"),
            Self::Current { version, permanent } => {
                write!(f, "`{version}` running but not permanent (a restart boots `{permanent}`)")
            }
            Self::Restarting => write!(f, "the node is starting or stopping"),
            Self::Unreachable { pids, said } => {
                let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
                write!(f, "process {} lives but its node does not answer", pids.join(", "))?;
                if said.is_empty() { Ok(()) } else { write!(f, " (its script says: {said})") }
            }
            Self::Inconsistent { problems } => write!(f, "contradictions: {}", problems.join("; ")),
            Self::Unclear { reason } => write!(f, "{reason}"),
        }
    }
}

fn judge_silent(evidence: &Evidence) -> Installed {
    let nodes = evidence.nodes();
    if !nodes.is_empty() {
        let pids = nodes.iter().map(|process| process.pid).collect();
        return Installed::Unreachable { pids, said: evidence.silence.clone() };
    }
    if evidence.script.is_none() && evidence.start.is_none() && evidence.permanent.is_none() {
        return Installed::Absent;
    }
    if !evidence.sees_all {
        let reason = "`/proc` on the target does not show every user's processes, so it can't be proved that the node does not run";
        return Installed::Unclear { reason: reason.to_owned() };
    }
    let version =
        evidence.start.clone().or_else(|| evidence.permanent.clone()).or_else(|| evidence.script.clone());
    Installed::Stopped { version }
}

fn judge_running(evidence: &Evidence, snapshot: &Snapshot) -> Installed {
    let nodes = evidence.nodes();
    let mut problems = Vec::new();
    let here = nodes.iter().any(|process| process.pid == snapshot.pid)
        || snapshot.root == evidence.directory
        || Some(&snapshot.root) == evidence.root.as_ref();
    if !here {
        problems.push(format!(
            "the node `{}` answers from `{}` (process {}), not from `{}`",
            snapshot.node, snapshot.root, snapshot.pid, evidence.directory
        ));
    }
    for process in nodes.iter().filter(|process| process.pid != snapshot.pid) {
        problems.push(format!(
            "process {} runs from the same directory and is not the node that answers",
            process.pid
        ));
    }
    let Some(permanent) = snapshot.version("permanent") else {
        problems.push("the node knows no permanent release".to_owned());
        return Installed::Inconsistent { problems };
    };
    let files = [
        ("releases/start_erl.data", &evidence.start),
        ("releases/RELEASES", &evidence.permanent),
        ("the release's script", &evidence.script),
    ];
    for (file, version) in files {
        match version {
            Some(version) if version != permanent && !version.is_empty() => problems.push(format!(
                "the node's permanent version is `{permanent}`, but {file} says `{version}`: a restart would not boot what runs"
            )),
            _ => {}
        }
    }
    if !problems.is_empty() {
        return Installed::Inconsistent { problems };
    }
    match snapshot.version("current") {
        Some(version) => Installed::Current { version: version.to_owned(), permanent: permanent.to_owned() },
        None => Installed::Running { version: permanent.to_owned() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(pid: u32, boot: &str) -> Process {
        Process {
            pid,
            exe: "/data/urf/erts-13.1.5/bin/beam.smp".into(),
            root: "/data/urf".into(),
            boot: boot.into(),
        }
    }

    fn installed() -> Evidence {
        Evidence {
            directory: "/data/urf".into(),
            root: Some("/data/urf".into()),
            script: Some("0.1.0".into()),
            start: Some("0.1.0".into()),
            permanent: Some("0.1.0".into()),
            sees_all: true,
            ..Evidence::default()
        }
    }

    fn answering() -> Evidence {
        let release =
            InstalledRelease { version: "0.1.0".into(), status: "permanent".into(), ..Default::default() };
        let snapshot = Snapshot {
            root: "/data/urf".into(),
            pid: 7,
            init: "started".into(),
            releases: vec![release],
            ..Snapshot::default()
        };
        Evidence {
            snapshot: Some(snapshot),
            processes: vec![node(7, "/data/urf/releases/0.1.0/start")],
            ..installed()
        }
    }

    fn state(evidence: &Evidence) -> String {
        let verdict = serde_json::to_value(Installed::judge(evidence)).unwrap();
        verdict["state"].as_str().unwrap().to_owned()
    }

    type Change = fn(&mut Evidence);

    #[test]
    fn a_silent_node_is_stopped_only_when_no_process_of_it_lives() {
        let cases: &[(&str, Change, &str)] = &[
            ("no process", |_| {}, "stopped"),
            ("a process", |e| e.processes.push(node(7, "/data/urf/releases/0.1.0/start")), "unreachable"),
            (
                "a remote console",
                |e| e.processes.push(node(7, "/data/urf/releases/0.1.0/start_clean")),
                "stopped",
            ),
            ("its own escript", |e| e.processes.push(node(7, "no_dot_erlang")), "stopped"),
            (
                "somebody else's node, executable hidden",
                |e| {
                    e.processes
                        .push(Process { exe: String::new(), ..node(7, "/data/urf/releases/0.1.0/start") });
                },
                "unreachable",
            ),
            (
                "system erts, boot file of the release",
                |e| {
                    e.processes.push(Process {
                        exe: "/usr/lib/erlang/erts-13/bin/beam.smp".into(),
                        root: "/usr/lib/erlang".into(),
                        ..node(7, "/data/urf/releases/0.1.0/start")
                    });
                },
                "unreachable",
            ),
            (
                "another release",
                |e| {
                    e.processes.push(Process {
                        pid: 7,
                        exe: "/data/urf2/erts-1/bin/beam.smp".into(),
                        root: "/data/urf2".into(),
                        boot: "/data/urf2/releases/1/start".into(),
                    });
                },
                "stopped",
            ),
            (
                "through a symbolic link",
                |e| {
                    e.root = Some("/srv/urf".into());
                    e.processes
                        .push(Process { exe: "/srv/urf/erts-1/bin/beam.smp".into(), ..Process::default() });
                },
                "unreachable",
            ),
            ("other users' processes hidden", |e| e.sees_all = false, "unclear"),
            ("nothing installed", |e| (e.script, e.start, e.permanent) = (None, None, None), "absent"),
            (
                "files gone, process lives",
                |e| {
                    (e.script, e.start, e.permanent) = (None, None, None);
                    e.processes.push(node(7, "/data/urf/releases/0.1.0/start"));
                },
                "unreachable",
            ),
        ];
        for (name, change, expected) in cases {
            let mut evidence = installed();
            change(&mut evidence);
            assert_eq!(state(&evidence), *expected, "{name}");
        }
    }

    #[test]
    fn an_answering_node_is_believed_when_everything_agrees() {
        let cases: &[(&str, Change, &str)] = &[
            ("all agree", |_| {}, "running"),
            ("stopping", |e| e.snapshot.as_mut().unwrap().init = "stopping".into(), "restarting"),
            (
                "from elsewhere",
                |e| {
                    let snapshot = e.snapshot.as_mut().unwrap();
                    (snapshot.root, snapshot.pid) = ("/data/other".into(), 8);
                    e.processes.clear();
                },
                "inconsistent",
            ),
            (
                "a second node",
                |e| e.processes.push(node(9, "/data/urf/releases/0.1.0/start")),
                "inconsistent",
            ),
            ("old script", |e| e.script = Some("0.0.9".into()), "inconsistent"),
            ("script without a version", |e| e.script = Some(String::new()), "running"),
            ("old start_erl.data", |e| e.start = Some("0.0.9".into()), "inconsistent"),
            ("nothing permanent", |e| e.snapshot.as_mut().unwrap().releases.clear(), "inconsistent"),
            (
                "installed, not permanent",
                |e| {
                    let release = InstalledRelease {
                        version: "0.2.0".into(),
                        status: "current".into(),
                        ..Default::default()
                    };
                    e.snapshot.as_mut().unwrap().releases.push(release);
                },
                "current",
            ),
        ];
        for (name, change, expected) in cases {
            let mut evidence = answering();
            change(&mut evidence);
            assert_eq!(state(&evidence), *expected, "{name}");
        }
    }
}
