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
    /// The version is there already; what a deployment that died has left is removed.
    Tidy,
    /// Unpack and start.
    Fresh,
    /// Stop the old version, start the new one.
    Restart {
        /// Version that runs or is installed.
        from: String,
    },
    /// Go back to an older version that the target still has.
    Back {
        /// Version that runs.
        from: String,
    },
    /// Upgrade the running node.
    Hot {
        /// Version that runs.
        from: String,
        /// Versions that are installed on the way, one after the other.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        via: Vec<String>,
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

impl Strategy {
    /// In words.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Nothing => "nothing to do",
            Self::Commit => "make it permanent",
            Self::Tidy => "tidy up",
            Self::Exchange { .. } => "exchange of the binary",
            Self::Canary { .. } => "canary",
            Self::Fresh => "fresh install",
            Self::Restart { .. } => "restart",
            Self::Back { .. } => "go back",
            Self::Hot { .. } => "hot upgrade",
            Self::Refuse => "refused",
        }
    }
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

    fn because<const N: usize>(strategy: Strategy, reasons: [String; N]) -> Self {
        Self { strategy, reasons: reasons.into(), help: None }
    }

    /// A refusal.
    pub fn refuse(reasons: Vec<String>, help: impl Into<String>) -> Self {
        Self { strategy: Strategy::Refuse, reasons, help: Some(help.into()) }
    }
}

impl std::fmt::Display for Decision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let strategy = self.strategy.name();
        write!(f, "{strategy}: {}", self.reasons.join("; "))
    }
}

/// Which ways are allowed, and which is the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// Upgrade of the running node.
    pub hot: bool,
    /// Stop and start.
    pub restart: bool,
    /// Installation where nothing runs.
    pub fresh: bool,
    /// A restart even where a hot upgrade is possible.
    pub prefer_restart: bool,
}

/// What is to be put on a target.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// Its version.
    pub version: &'a str,
    /// What may be done for it.
    pub allowed: Allowed,
    /// Why this version must not go there, if it failed there before.
    pub bad: Option<&'a str>,
    /// Whether the target still has it beside the one that runs.
    pub kept: bool,
    /// Whether an exchange of versions was begun there and never verified.
    pub unfinished: bool,
    /// What deployments that died have left there, see [`Evidence::litter`](super::installed::Evidence::litter).
    pub litter: &'a [String],
}

/// Chooses the strategy for a target with this verdict. A hot upgrade still has to be proved: see
/// [`check_live`] and [`instead_of_hot`].
#[must_use]
pub fn decide(installed: &Installed, wish: &Wish<'_>) -> Decision {
    let version = wish.version;
    if let (Some(bad), true) = (wish.bad, installed.running() != Some(version)) {
        return Decision::refuse(
            vec![format!("`{version}` failed there before: {bad}")],
            format!(
                "release the next version; or, if the reason is gone, `ci env clear ENV {version} --reason WHY`"
            ),
        );
    }
    match installed {
        Installed::Absent => fresh(wish, "nothing is installed there".to_owned()),
        Installed::Stopped { version: Some(old) } => {
            fresh(wish, format!("`{old}` is installed and no process of it runs"))
        }
        Installed::Stopped { version: None } => {
            fresh(wish, "something is installed and no process of it runs".to_owned())
        }
        Installed::Running { version: old } if old == version && wish.unfinished => Decision::new(
            Strategy::Commit,
            format!("`{version}` runs there, but the deployment that brought it was never finished"),
        ),
        Installed::Running { version: old } if old == version && !wish.litter.is_empty() => Decision::new(
            Strategy::Tidy,
            format!(
                "`{version}` runs there already; a deployment that was interrupted has left `{}`",
                wish.litter.join("`, `")
            ),
        ),
        Installed::Running { version: old } if old == version => {
            Decision::new(Strategy::Nothing, format!("`{version}` runs there already"))
        }
        Installed::Running { version: old } => change(old, wish),
        Installed::Current { version: current, permanent } if current == version => Decision::new(
            Strategy::Commit,
            format!("`{version}` runs there already, but a restart would boot `{permanent}`"),
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
            "mend what contradicts itself on the target, then deploy again; `ci env status` shows it",
        ),
        Installed::Unclear { reason } => Decision::refuse(
            vec![reason.clone()],
            "let the deploying user see all processes (mount option `hidepid` of /proc), or stop and remove the release there",
        ),
    }
}

fn fresh(wish: &Wish<'_>, reason: String) -> Decision {
    if wish.allowed.fresh {
        return Decision::new(Strategy::Fresh, reason);
    }
    Decision::refuse(
        vec![reason, "a fresh install is not allowed for this environment".to_owned()],
        "start what is installed there by hand, or add `fresh` to `strategy: {allow: [...]}` of the environment",
    )
}

/// From the version `old`, which runs, to another one.
fn change(old: &str, wish: &Wish<'_>) -> Decision {
    let Wish { version, allowed, kept, .. } = *wish;
    let runs = format!("`{old}` runs there");
    let restart = || Strategy::Restart { from: old.to_owned() };
    if order(version, old) == Some(Ordering::Less) {
        let older = format!("`{version}` is older than `{old}`, which runs there");
        return match (allowed.restart, kept) {
            (false, _) => Decision::refuse(
                vec![
                    older,
                    "going back may need a restart, which is not allowed for this environment".to_owned(),
                ],
                "deploy a newer version, or add `restart` to `strategy: {allow: [...]}` of the environment",
            ),
            (true, true) if allowed.hot && !allowed.prefer_restart => {
                let kept =
                    "the target still has it: by the relup's way down if there is one, else by a restart";
                Decision::because(Strategy::Back { from: old.to_owned() }, [older, kept.to_owned()])
            }
            (true, _) => {
                Decision::because(restart(), [older, "there is no upgrade to an older version".to_owned()])
            }
        };
    }
    match (allowed.hot, allowed.restart) {
        (true, true) if allowed.prefer_restart => {
            Decision::because(restart(), [runs, "a restart is preferred for this environment".to_owned()])
        }
        (true, _) => Decision::new(Strategy::Hot { from: old.to_owned(), via: Vec::new() }, runs),
        (false, true) => Decision::because(
            restart(),
            [runs, "a hot upgrade is not allowed for this environment".to_owned()],
        ),
        (false, false) => Decision::refuse(
            vec![runs, "neither a hot upgrade nor a restart is allowed for this environment".to_owned()],
            "add `hot` or `restart` to `strategy: {allow: [...]}` of the environment",
        ),
    }
}

/// What is done when the hot upgrade from `from` was found impossible, for these reasons.
#[must_use]
pub fn instead_of_hot(from: &str, reasons: Vec<String>, allowed: Allowed) -> Decision {
    if allowed.restart {
        return Decision { strategy: Strategy::Restart { from: from.to_owned() }, reasons, help: None };
    }
    let mut reasons = reasons;
    reasons.push("a restart is not allowed for this environment".to_owned());
    Decision::refuse(
        reasons,
        "mend what is found and release the next version; or, if an outage is acceptable, add `restart` to \
         `strategy: {allow: [...]}` of the environment",
    )
}

/// What is done when no upgrade leads straight from `from`, for these reasons, but one leads there over `via`.
#[must_use]
pub fn by_way_of(from: &str, via: Vec<String>, reasons: Vec<String>) -> Decision {
    let mut all = vec![format!("`{from}` runs there; its upgrade goes by way of `{}`", via.join("`, `"))];
    all.extend(reasons.into_iter().map(|reason| format!("not straight: {reason}")));
    Decision { strategy: Strategy::Hot { from: from.to_owned(), via }, reasons: all, help: None }
}

/// What is done when the hot upgrade from `from` failed on a copy.
#[must_use]
pub fn instead_of_unfit(from: &str, reasons: Vec<String>) -> Decision {
    Decision::refuse(
        reasons,
        format!(
            "mend what is found and release the next version (`ci release rehearse NEW --from {from}` repeats the rehearsal); \
             or, if an outage is acceptable, deploy by a restart (`strategy: {{prefer: restart}}` of the environment)"
        ),
    )
}

/// What is done when the very version runs: nothing, if its code is the candidate's.
#[must_use]
pub fn same_version(node: &Snapshot, candidate: &Candidate) -> Option<Decision> {
    let stale = stale_modules(node, candidate);
    if stale.is_empty() {
        return None;
    }
    let version = &candidate.version;
    Some(Decision::refuse(
        vec![format!("`{version}` runs there already, but with other code: {} (L005)", list(&stale))],
        format!(
            "the sources changed under the same version: release them under the next one, or check out what was released as `{version}`"
        ),
    ))
}

/// The first few of many names.
fn list(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<String> = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    let more = names.len().saturating_sub(SHOWN);
    let modules = if names.len() == 1 { "module" } else { "modules" };
    if more == 0 {
        format!("{modules} {}", shown.join(", "))
    } else {
        format!("{modules} {} and {more} more", shown.join(", "))
    }
}

/// Versions that aren't numbers (a commit, say) have no order worth refusing for.
fn order(a: &str, b: &str) -> Option<Ordering> {
    let numeric = |version: &str| {
        version.split('.').count() > 1
            && version.split('.').take(2).all(|part| part.starts_with(|c: char| c.is_ascii_digit()))
    };
    (numeric(a) && numeric(b)).then(|| super::version::compare(a, b))
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
            "the node runs erts `{}`, the new version was built with `{}`: only a restart can change that (L001)",
            node.erts, candidate.erts
        ));
    }
    let running = node.releases.iter().find(|release| Some(release.version.as_str()) == node.running());
    match running.map(|release| &release.libraries) {
        Some(libraries) if !libraries.is_empty() => {
            reasons.extend(candidate.left_out.difference(libraries).map(|library| {
                format!("the package leaves out `{library}`, which the running release does not have (L002)")
            }))
        }
        _ => reasons.push(
            "the node's release lists no libraries (it was installed without releases/RELEASES; L003)"
                .to_owned(),
        ),
    }
    for (module, md5) in &candidate.modules {
        match node.modules.get(module) {
            Some(loaded) if loaded != md5 && !candidate.loaded.contains(module) => reasons.push(format!(
                "module `{module}` on the node differs from the new version's, and the relup does not load it: its old code would silently stay (L004)"
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

    const ALL: Allowed = Allowed { hot: true, restart: true, fresh: true, prefer_restart: false };

    fn wish(allowed: Allowed) -> Wish<'static> {
        Wish { version: "0.2.0", allowed, bad: None, kept: false, unfinished: false, litter: &[] }
    }

    fn runs(version: &str) -> Installed {
        Installed::Running { version: version.into() }
    }

    #[test]
    fn the_strategy_follows_from_the_verdict() {
        let hot = Strategy::Hot { from: "0.1.0".into(), via: vec![] };
        let back = Strategy::Restart { from: "0.3.0".into() };
        let cases = [
            (Installed::Absent, Strategy::Fresh),
            (Installed::Stopped { version: Some("0.2.0".into()) }, Strategy::Fresh),
            (runs("0.2.0"), Strategy::Nothing),
            (runs("0.1.0"), hot),
            (runs("0.3.0"), back),
            (runs("f3a1"), Strategy::Hot { from: "f3a1".into(), via: vec![] }),
            (Installed::Current { version: "0.2.0".into(), permanent: "0.1.0".into() }, Strategy::Commit),
            (Installed::Current { version: "0.3.0".into(), permanent: "0.1.0".into() }, Strategy::Refuse),
            (Installed::Restarting, Strategy::Refuse),
            (Installed::Unreachable { pids: vec![7], said: String::new() }, Strategy::Refuse),
            (Installed::Inconsistent { problems: vec!["two nodes".into()] }, Strategy::Refuse),
            (Installed::Unclear { reason: "no /proc".into() }, Strategy::Refuse),
        ];
        for (installed, expected) in cases {
            let decision = decide(&installed, &wish(ALL));
            assert_eq!(decision.strategy, expected, "{installed}");
            assert!(!decision.reasons.is_empty(), "{installed}");
            assert_eq!(decision.help.is_some(), expected == Strategy::Refuse, "{installed}");
        }
    }

    #[test]
    fn what_an_interrupted_deployment_left_is_something_to_do() {
        let litter = ["releases/urf-0.2.0.tar.gz".to_owned()];
        let tidy = decide(&runs("0.2.0"), &Wish { litter: &litter, ..wish(ALL) });
        assert_eq!(tidy.strategy, Strategy::Tidy);
        assert!(tidy.reasons[0].contains(&litter[0]), "{tidy}");
        let verify = decide(&runs("0.2.0"), &Wish { litter: &litter, unfinished: true, ..wish(ALL) });
        assert_eq!(verify.strategy, Strategy::Commit);
        let on = decide(&runs("0.1.0"), &Wish { litter: &litter, ..wish(ALL) });
        assert_eq!(on.strategy, Strategy::Hot { from: "0.1.0".into(), via: vec![] });
    }

    #[test]
    fn the_policy_allows_and_prefers() {
        let (hot, restart) =
            (Strategy::Hot { from: "0.1.0".into(), via: vec![] }, Strategy::Restart { from: "0.1.0".into() });
        let none = Allowed { hot: false, restart: false, fresh: false, prefer_restart: false };
        let cases = [
            (ALL, hot.clone(), Strategy::Fresh),
            (Allowed { prefer_restart: true, ..ALL }, restart.clone(), Strategy::Fresh),
            (Allowed { hot: false, ..ALL }, restart, Strategy::Fresh),
            (Allowed { restart: false, ..ALL }, hot.clone(), Strategy::Fresh),
            (Allowed { hot: true, ..none }, hot, Strategy::Refuse),
            (none, Strategy::Refuse, Strategy::Refuse),
        ];
        for (allowed, running, absent) in cases {
            assert_eq!(decide(&runs("0.1.0"), &wish(allowed)).strategy, running, "{allowed:?}");
            assert_eq!(decide(&Installed::Absent, &wish(allowed)).strategy, absent, "{allowed:?}");
        }
        let reasons = || vec!["module `a` (R013)".to_owned()];
        let fallback = instead_of_hot("0.1.0", reasons(), ALL);
        assert_eq!(fallback.to_string(), "restart: module `a` (R013)");
        let refused = instead_of_hot("0.1.0", reasons(), Allowed { restart: false, ..ALL });
        assert_eq!((refused.strategy, refused.reasons.len()), (Strategy::Refuse, 2));
    }

    #[test]
    fn an_older_version_is_gone_back_to_where_it_still_is() {
        let kept = Wish { kept: true, ..wish(ALL) };
        assert_eq!(decide(&runs("0.3.0"), &kept).strategy, Strategy::Back { from: "0.3.0".into() });
        let no_restart = Wish { allowed: Allowed { restart: false, ..ALL }, ..kept };
        assert_eq!(decide(&runs("0.3.0"), &no_restart).strategy, Strategy::Refuse);
    }

    #[test]
    fn a_version_that_failed_there_is_refused_unless_it_runs() {
        let bad = Wish { bad: Some("health check failed"), ..wish(ALL) };
        for installed in [Installed::Absent, runs("0.1.0"), runs("0.3.0")] {
            let decision = decide(&installed, &bad);
            assert_eq!(decision.strategy, Strategy::Refuse, "{installed}");
            assert!(decision.reasons[0].contains("health check failed"));
        }
        assert_eq!(decide(&runs("0.2.0"), &bad).strategy, Strategy::Nothing);
        let unfinished = Wish { unfinished: true, ..wish(ALL) };
        assert_eq!(decide(&runs("0.2.0"), &unfinished).strategy, Strategy::Commit);
    }

    #[test]
    fn only_numbered_versions_have_an_order() {
        assert_eq!(order("0.1.0", "0.2.0"), Some(Ordering::Less));
        assert_eq!(order("0.10.0-rc1", "0.9.0"), Some(Ordering::Greater));
        assert_eq!(order("3f2a", "0.9.0"), None);
        assert_eq!(order("4f2a", "3f2a"), None);
    }

    #[test]
    fn the_same_version_with_other_code_is_refused() {
        let node = Snapshot { modules: names(&[("urf_store", "aa")]), ..Snapshot::default() };
        let mut candidate = Candidate { modules: names(&[("urf_store", "aa")]), ..Candidate::default() };
        assert_eq!(same_version(&node, &candidate), None);
        candidate.modules = names(&[("urf_store", "bb")]);
        assert_eq!(same_version(&node, &candidate).unwrap().strategy, Strategy::Refuse);
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
