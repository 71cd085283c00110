//! The choice of strategy. Pure: from a verdict and a candidate to a strategy and its reasons, which are printed.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::installed::{Installed, Snapshot};

/// How a release gets onto a target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Strategy {
    /// The version is there already.
    Nothing,
    /// The version runs already and is made permanent.
    Commit,
    /// Unpack and start.
    Fresh,
    /// Stop the old version, start the new one.
    Restart {
        /// Version that runs or is installed.
        from: String,
    },
    /// Upgrade the running node.
    Hot {
        /// Version that runs.
        from: String,
    },
    /// Stop the old version, start the new one.
    Restart {
        /// Version that is there.
        from: String,
    },
    /// Exchange the running binary by signals.
    Exchange {
        /// Version that runs.
        from: String,
    },
    /// Start beside, and move requests by and by.
    Canary {
        /// Version that runs.
        from: String,
    },
    /// Leave the target alone.
    Refuse,
}

/// A strategy, why it was chosen and, for a refusal, what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// What will be done.
    pub strategy: Strategy,
    /// Why.
    pub reasons: Vec<String>,
    /// What a person should do; only with [`Strategy::Refuse`].
    pub help: Option<String>,
}

impl Decision {
    fn new(strategy: Strategy, reason: impl Into<String>) -> Self {
        Self { strategy, reasons: vec![reason.into()], help: None }
    }

    /// A refusal.
    pub fn refuse(reasons: Vec<String>, help: impl Into<String>) -> Self {
        Self { strategy: Strategy::Refuse, reasons, help: Some(help.into()) }
    }
}

impl std::fmt::Display for Decision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let strategy = match &self.strategy {
            Strategy::Nothing => "nothing to do",
            Strategy::Commit => "make it permanent",
            Strategy::Fresh => "fresh install",
            Strategy::Restart { .. } => "restart",
            Strategy::Hot { .. } => "hot upgrade",
            Strategy::Restart { .. } => "restart",
            Strategy::Exchange { .. } => "exchange of the binary",
            Strategy::Canary { .. } => "canary",
            Strategy::Refuse => "refused",
        };
        write!(f, "{strategy}: {}", self.reasons.join("; "))
    }
}

/// Chooses the strategy for putting `version` on a target with this verdict. `order` compares release
/// versions; `None` means that they can't be compared, which is no reason to refuse.
pub fn decide(
    installed: &Installed,
    version: &str,
    order: impl Fn(&str, &str) -> Option<Ordering>,
) -> Decision {
    match installed {
        Installed::Absent => Decision::new(Strategy::Fresh, "nothing is installed there"),
        Installed::Stopped { version: Some(old) } => {
            Decision::new(Strategy::Fresh, format!("`{old}` is installed and no process of it runs"))
        }
        Installed::Stopped { version: None } => {
            Decision::new(Strategy::Fresh, "it is installed and no process of it runs")
        }
        Installed::Running { version: old } if old == version => {
            Decision::new(Strategy::Nothing, format!("`{version}` runs there already and is permanent"))
        }
        Installed::Running { version: old } => upgrade(old, version, order),
        Installed::Current { version: current, permanent } if current == version => Decision::new(
            Strategy::Commit,
            format!(
                "`{version}` runs there already, but a restart would boot `{permanent}`: it only has to be made permanent"
            ),
        ),
        Installed::Current { version: current, permanent } => Decision::refuse(
            vec![format!(
                "`{current}` runs there and was never made permanent (a restart boots `{permanent}`)"
            )],
            format!(
                "on the target, keep it with `bin/NAME upgrade {current}` or go back with `bin/NAME upgrade {permanent}`, then deploy again"
            ),
        ),
        Installed::Restarting => Decision::refuse(
            vec!["the node was starting or stopping for as long as it was watched".to_owned()],
            "wait until it has started (log/ in its directory says how far it is), then deploy again",
        ),
        Installed::Unreachable { .. } => Decision::refuse(
            vec![installed.to_string(), "a fresh install over a live node would destroy it".to_owned()],
            "likely causes: the cookie or the node name of the running node differ from releases/VERSION/vm.args; \
             epmd was restarted or has another port (ERL_EPMD_PORT); the VM hangs. Mend that, or stop the process yourself, then deploy again",
        ),
        Installed::Inconsistent { problems } => Decision::refuse(
            problems.clone(),
            "mend what contradicts itself on the target, then deploy again; `ci release status` shows it",
        ),
        Installed::Unclear { reason } => Decision::refuse(
            vec![reason.clone()],
            "let the deploying user see all processes (mount option `hidepid` of /proc), or stop and remove the release there",
        ),
    }
}

fn upgrade(old: &str, version: &str, order: impl Fn(&str, &str) -> Option<Ordering>) -> Decision {
    if order(version, old) == Some(Ordering::Less) {
        return Decision::refuse(
            vec![format!("`{version}` is older than `{old}`, which runs there; going back is not built yet")],
            format!(
                "on the target: `bin/NAME downgrade {version}` (if it was upgraded from there), or deploy a newer version"
            ),
        );
    }
    Decision::new(Strategy::Hot { from: old.to_owned() }, format!("`{old}` runs there"))
}

/// What is known about the new version before anything is sent.
#[derive(Clone, Debug, Default)]
pub struct Candidate {
    /// Release name.
    pub name: String,
    /// Release version.
    pub version: String,
    /// Version of the runtime system that it was built with.
    pub erts: String,
    /// Its applications and their versions.
    pub applications: BTreeMap<String, String>,
    /// MD5 (hexadecimal) of every module in it.
    pub modules: BTreeMap<String, String>,
    /// Modules that the relup's instructions load.
    pub loaded: BTreeSet<String>,
    /// Libraries that the package leaves out and the target must have, as `kernel-8.5.3`.
    pub left_out: BTreeSet<String>,
}

/// Checks a hot upgrade to `candidate` against the node that really runs. Each string is a reason to refuse.
pub fn check_live(node: &Snapshot, candidate: &Candidate) -> Vec<String> {
    let mut reasons = Vec::new();
    if node.erts != candidate.erts {
        reasons.push(format!(
            "the node runs erts `{}`, the new version was built with `{}`: only a restart can change that",
            node.erts, candidate.erts
        ));
    }
    let running = node.releases.iter().find(|release| Some(release.version.as_str()) == node.running());
    match running.map(|release| &release.libraries) {
        Some(libraries) if !libraries.is_empty() => {
            reasons.extend(candidate.left_out.difference(libraries).map(|library| {
                format!("the package leaves out `{library}`, which the running release does not have")
            }))
        }
        _ => reasons.push(
            "the node's release lists no libraries (it was installed without releases/RELEASES)".to_owned(),
        ),
    }
    for (module, md5) in &candidate.modules {
        match node.modules.get(module) {
            Some(loaded) if loaded != md5 && !candidate.loaded.contains(module) => reasons.push(format!(
                "module `{module}` on the node differs from the new version's, and the relup does not load it: its old code would silently stay"
            )),
            _ => {}
        }
    }
    reasons
}

/// Modules whose loaded code is not the candidate's.
pub fn stale_modules(node: &Snapshot, candidate: &Candidate) -> Vec<String> {
    let stale =
        |(module, md5): &(&String, &String)| node.modules.get(*module).is_some_and(|loaded| loaded != *md5);
    candidate.modules.iter().filter(stale).map(|(module, _)| module.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::installed::InstalledRelease;

    fn text_order(a: &str, b: &str) -> Option<Ordering> {
        Some(a.cmp(b))
    }

    #[test]
    fn the_strategy_follows_from_the_verdict() {
        let hot = Strategy::Hot { from: "0.1.0".into() };
        let cases = [
            (Installed::Absent, Strategy::Fresh),
            (Installed::Stopped { version: Some("0.2.0".into()) }, Strategy::Fresh),
            (Installed::Running { version: "0.2.0".into() }, Strategy::Nothing),
            (Installed::Running { version: "0.1.0".into() }, hot),
            (Installed::Running { version: "0.3.0".into() }, Strategy::Refuse),
            (Installed::Current { version: "0.2.0".into(), permanent: "0.1.0".into() }, Strategy::Commit),
            (Installed::Current { version: "0.3.0".into(), permanent: "0.1.0".into() }, Strategy::Refuse),
            (Installed::Restarting, Strategy::Refuse),
            (Installed::Unreachable { pids: vec![7], said: String::new() }, Strategy::Refuse),
            (Installed::Inconsistent { problems: vec!["two nodes".into()] }, Strategy::Refuse),
            (Installed::Unclear { reason: "no /proc".into() }, Strategy::Refuse),
        ];
        for (installed, expected) in cases {
            let decision = decide(&installed, "0.2.0", text_order);
            assert_eq!(decision.strategy, expected, "{installed}");
            assert!(!decision.reasons.is_empty(), "{installed}");
            assert_eq!(decision.help.is_some(), expected == Strategy::Refuse, "{installed}");
        }
    }

    fn names(names: &[(&str, &str)]) -> BTreeMap<String, String> {
        names.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_module_that_the_relup_forgets_is_a_reason_to_refuse() {
        let release = InstalledRelease {
            version: "0.1.0".into(),
            status: "permanent".into(),
            libraries: BTreeSet::from(["urf-0.1.0".to_owned()]),
        };
        let node = Snapshot {
            erts: "13".into(),
            releases: vec![release],
            modules: names(&[("urf_store", "aa"), ("urf_app", "bb")]),
            ..Snapshot::default()
        };
        let mut candidate = Candidate {
            erts: "13".into(),
            modules: names(&[("urf_store", "a2"), ("urf_app", "bb"), ("urf_util", "cc")]),
            loaded: BTreeSet::from(["urf_store".to_owned()]),
            ..Candidate::default()
        };
        assert_eq!(check_live(&node, &candidate), Vec::<String>::new());
        assert_eq!(stale_modules(&node, &candidate), ["urf_store"]);
        candidate.loaded.clear();
        assert!(check_live(&node, &candidate)[0].contains("`urf_store`"));
        candidate.erts = "14".into();
        assert_eq!(check_live(&node, &candidate).len(), 2);
    }
}
