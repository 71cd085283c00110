//! What is done with one target, from what was found there. Pure.

use super::artifact::Artifact;
use super::place::Place;
use crate::deploy::file::{Policy, Service, Way};
use crate::release::decide::{Decision, Strategy};

/// What the program was found to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Running {
    /// Whether it runs.
    pub(super) up: bool,
    /// Its process.
    pub(super) pid: Option<u32>,
    /// Changes with every start, where the service tells one.
    pub(super) start: String,
    /// What it is said to be, for messages.
    pub(super) words: String,
}

/// Chooses. `service` is what starts and stops it.
pub(super) fn choose(
    place: &Place,
    running: &Running,
    artifact: &Artifact,
    service: &Service,
    policy: &Policy,
) -> Decision {
    if let Some(refused) = obstacle(place, artifact) {
        return refused;
    }
    let version = &artifact.version;
    let same_package = place.versions.get(version).is_some_and(|digest| *digest == artifact.tree);
    let (strategy, reason) = match &place.current {
        None => (Strategy::Fresh, "nothing is installed there".to_owned()),
        Some(current) if current == version && !same_package => {
            return Decision::refuse(
                vec![format!("`{version}` is there already, unpacked from another package")],
                "what is released never changes: release the next version (or remove the old one on the target)",
            );
        }
        Some(current) if current == version => {
            if running.up && place.served.first() == Some(version) {
                (Strategy::Nothing, format!("`{version}` runs there already"))
            } else {
                let why = if running.up { "was never seen to serve" } else { "does not run" };
                let from = current.clone();
                let strategy = match service {
                    Service::Binary { .. } if running.up => Strategy::Exchange { from },
                    _ => Strategy::Restart { from },
                };
                (strategy, format!("`{version}` is in place but {why}"))
            }
        }
        Some(current) if !running.up => (
            Strategy::Restart { from: current.clone() },
            format!("`{current}` is installed and does not run ({})", running.words),
        ),
        Some(current) => {
            let from = current.clone();
            let reason = format!("`{current}` runs there");
            match service {
                Service::Binary { .. } => {
                    (Strategy::Exchange { from }, format!("{reason}; its binary is exchanged by signals"))
                }
                Service::Canary { .. } => {
                    (Strategy::Canary { from }, format!("{reason}; requests are moved by and by"))
                }
                _ => (Strategy::Restart { from }, reason),
            }
        }
    };
    let mut reasons = vec![reason];
    if !matches!(strategy, Strategy::Nothing) {
        reasons.extend(artifact.notes.iter().cloned());
    }
    permitted(Decision { strategy, reasons, help: None }, policy)
}

/// What forbids any deployment there.
fn obstacle(place: &Place, artifact: &Artifact) -> Option<Decision> {
    let refuse = |reason: String, help: &str| Some(Decision::refuse(vec![reason], help));
    if let Some(foreign) = place.foreign.first() {
        return refuse(
            format!("the directory holds `{foreign}`, which was not put there by ci"),
            "give the release a directory of its own (`directory:` of the environment), or move what is there away",
        );
    }
    if !place.lacks.is_empty() {
        return refuse(format!("the target lacks `{}`", place.lacks.join("`, `")), "install it there");
    }
    if !place.writable {
        return refuse(
            "cannot write the directory".to_owned(),
            "on the target, as an administrator: `mkdir -p` it and `chown` it to the deploying user",
        );
    }
    if let Some(reason) = place.bad.get(&artifact.version) {
        return refuse(
            format!("`{}` failed there before ({reason})", artifact.version),
            "release the next version; or, if the reason lay elsewhere, `ci env clear ENV VERSION --reason TEXT`",
        );
    }
    None
}

fn permitted(decision: Decision, policy: &Policy) -> Decision {
    let way = match decision.strategy {
        Strategy::Fresh => Way::Fresh,
        Strategy::Restart { .. } => Way::Restart,
        Strategy::Exchange { .. } | Strategy::Canary { .. } => Way::Hot,
        _ => return decision,
    };
    if policy.allow.contains(&way) {
        return decision;
    }
    let word = serde_json::to_string(&way).unwrap_or_default();
    let mut reasons = decision.reasons;
    reasons.push(format!("`strategy: allow` of the environment has no {word}"));
    Decision::refuse(reasons, "allow it there, or deploy another way")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deploy::file::Kind;

    fn artifact() -> Artifact {
        Artifact {
            name: "site".into(),
            version: "2.0.0".into(),
            kind: Kind::Archive,
            path: "p".into(),
            sha256: "ee".into(),
            tree: "ab".into(),
            size: 1,
            notes: Vec::new(),
        }
    }

    fn place(current: Option<&str>, serving: Option<&str>) -> Place {
        Place {
            current: current.map(str::to_owned),
            served: serving.map(str::to_owned).into_iter().collect(),
            versions: current.map(|v| (v.to_owned(), "ab".to_owned())).into_iter().collect(),
            writable: true,
            ..Place::default()
        }
    }

    fn kind(place: &Place, up: bool, service: &Service, policy: &Policy) -> String {
        let running = Running { up, ..Running::default() };
        let decision = choose(place, &running, &artifact(), service, policy);
        serde_json::to_value(&decision.strategy).unwrap()["kind"].as_str().unwrap().to_owned()
    }

    #[test]
    fn every_state_has_its_strategy() {
        let commands = Service::Commands { start: "a".into(), stop: "b".into() };
        let all = Policy::default();
        for (current, serving, up, expected) in [
            (None, None, false, "fresh"),
            (Some("2.0.0"), Some("2.0.0"), true, "nothing"),
            (Some("2.0.0"), Some("2.0.0"), false, "restart"),
            (Some("2.0.0"), Some("1.0.0"), true, "restart"),
            (Some("1.0.0"), Some("1.0.0"), true, "restart"),
            (Some("1.0.0"), Some("1.0.0"), false, "restart"),
            (Some("3.0.0"), Some("3.0.0"), true, "restart"),
        ] {
            assert_eq!(
                kind(&place(current, serving), up, &commands, &all),
                expected,
                "{current:?} {serving:?} {up}"
            );
        }
        let binary = Service::Binary { pid: "p".into(), binary: "b".into(), test: None, start: None };
        assert_eq!(kind(&place(Some("1.0.0"), None), true, &binary, &all), "exchange");
        let no_restart = Policy { allow: vec![Way::Fresh], ..Policy::default() };
        assert_eq!(kind(&place(Some("1.0.0"), None), true, &commands, &no_restart), "refuse");
    }

    #[test]
    fn what_must_not_be_touched_is_refused() {
        let commands = Service::Commands { start: "a".into(), stop: "b".into() };
        let refused = |change: &dyn Fn(&mut Place)| {
            let mut place = place(Some("1.0.0"), Some("1.0.0"));
            change(&mut place);
            kind(&place, true, &commands, &Policy::default()) == "refuse"
        };
        assert!(refused(&|place| place.foreign.push("bin".into())));
        assert!(refused(&|place| place.writable = false));
        assert!(refused(&|place| place.lacks.push("tar".into())));
        assert!(refused(&|place| _ = place.bad.insert("2.0.0".into(), "why".into())));
        assert!(refused(&|place| {
            place.current = Some("2.0.0".into());
            place.versions.insert("2.0.0".into(), "cd".into());
        }));
        assert!(!refused(&|_| {}));
    }
}
