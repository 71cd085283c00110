//! The rules about the relup's upgrade script: `R009` to `R016` and `R019`.

use std::collections::BTreeSet;

use super::{
    super::{
        Finding,
        erlang::Term,
        package::Package,
        relup::{Instruction, Relup, Script},
    },
    package::{Difference, quoted},
};

pub(super) fn check(old: &Package, new: &Package) -> Vec<Finding> {
    let mut findings = Vec::new();
    let relup = match new.relup() {
        Ok(Some(relup)) => relup,
        Ok(None) => {
            let text = format!("`releases/{}/relup` is missing", new.directory);
            return vec![Finding::error("R009", text, "build the upgrade package, not the fresh one")];
        }
        Err(error) => return vec![Finding::error("R009", error.to_string(), "build the relup again")],
    };
    let Some(script) = entry(old, new, &relup, &mut findings) else { return findings };
    let mut check = Check { old, new, script, effects: Effects::of(script), findings };
    check.emulator();
    check.objects();
    for (app, version) in &new.rel.apps {
        if old.app_version(app).is_some_and(|old| old != version) {
            check.modules(app);
        }
    }
    check.applications();
    check.calls();
    check.purges();
    check.findings
}

/// What can be said of a relup without the version that it starts from; a package may well have none.
pub(super) fn check_alone(new: &Package) -> Vec<Finding> {
    let relup = match new.relup() {
        Ok(Some(relup)) => relup,
        Ok(None) => return Vec::new(),
        Err(error) => return vec![Finding::error("R009", error.to_string(), "build the relup again")],
    };
    let mut findings = Vec::new();
    right_version(new, &relup, &mut findings);
    for script in &relup.up {
        let mut check = Check { old: new, new, script, effects: Effects::of(script), findings: Vec::new() };
        check.emulator();
        check.objects();
        findings.extend(check.findings);
    }
    findings.dedup();
    findings
}

fn right_version(new: &Package, relup: &Relup, findings: &mut Vec<Finding>) {
    if relup.version != new.rel.version {
        let text = format!("the relup is for `{}`, not for `{}`", relup.version, new.rel.version);
        findings.push(Finding::error("R009", text, "build the relup again"));
    }
}

fn entry<'a>(
    old: &Package,
    new: &Package,
    relup: &'a Relup,
    findings: &mut Vec<Finding>,
) -> Option<&'a Script> {
    let from = &old.rel.version;
    right_version(new, relup, findings);
    if relup.down_to(from).is_none() {
        let text = format!("the relup has no way back to `{from}`");
        findings.push(Finding::warning("R009", text, "going back will need a restart"));
    }
    let script = relup.up_from(from);
    if script.is_none() {
        let known: Vec<&String> = relup.up.iter().map(|script| &script.version).collect();
        let known = if known.is_empty() { "none".to_owned() } else { quoted(&known) };
        let text = format!("the relup has no entry from `{from}`, it has {known}");
        findings.push(Finding::error("R009", text, format!("build the upgrade from `{from}`")));
    }
    script
}

/// What a script does to modules and applications, all in all.
#[derive(Default)]
struct Effects {
    loaded: BTreeSet<String>,
    removed: BTreeSet<String>,
    converted: BTreeSet<String>,
    /// Modules whose processes are stopped and started again.
    restarted: BTreeSet<String>,
    started_apps: BTreeSet<String>,
    stopped_apps: BTreeSet<String>,
    brutal: BTreeSet<String>,
    restarts_emulator: bool,
}

impl Effects {
    fn of(script: &Script) -> Effects {
        let mut effects = Effects::default();
        for instruction in &script.instructions {
            match instruction {
                Instruction::Load { module, brutal } => {
                    effects.loaded.insert(module.clone());
                    effects.brutal.extend(brutal.then(|| module.clone()));
                }
                Instruction::Remove { module, brutal } => {
                    effects.removed.insert(module.clone());
                    effects.brutal.extend(brutal.then(|| module.clone()));
                }
                Instruction::CodeChange(modules) => effects.converted.extend(modules.iter().cloned()),
                Instruction::Stop(modules) => effects.restarted.extend(modules.iter().cloned()),
                Instruction::RestartEmulator | Instruction::RestartNewEmulator => {
                    effects.restarts_emulator = true;
                }
                Instruction::Apply { module, function, args } if module == "application" => {
                    let app = args.first().and_then(Term::as_atom).map(str::to_owned);
                    match &**function {
                        "start" | "ensure_started" => effects.started_apps.extend(app),
                        "stop" => effects.stopped_apps.extend(app),
                        _ => {}
                    }
                }
                _ => {}
            }
        }
        effects
    }
}

struct Check<'a> {
    old: &'a Package,
    new: &'a Package,
    script: &'a Script,
    effects: Effects,
    findings: Vec<Finding>,
}

impl Check<'_> {
    fn error(&mut self, code: &'static str, text: String, remedy: &str) {
        self.findings.push(Finding::error(code, text, remedy));
    }

    fn warning(&mut self, code: &'static str, text: String, remedy: &str) {
        self.findings.push(Finding::warning(code, text, remedy));
    }

    fn emulator(&mut self) {
        if self.effects.restarts_emulator {
            self.error(
                "R010",
                "the relup restarts the emulator, which a relx release does not survive".to_owned(),
                "restart for this version instead",
            );
        }
    }

    fn objects(&mut self) {
        for instruction in &self.script.instructions {
            let Instruction::LoadObjectCode { app, version, modules } = instruction else { continue };
            let right_version = self.new.app_version(app) == Some(version);
            for module in modules {
                let there = self.new.modules.get(app).is_some_and(|beams| beams.contains_key(module));
                if !right_version || !there {
                    let text =
                        format!("the relup loads `{module}` of `{app}-{version}`, which the package lacks");
                    self.findings.push(Finding::error("R012", text, "correct the appup and build again"));
                }
            }
        }
    }

    fn modules(&mut self, app: &str) {
        let difference = Difference::of(self.old, self.new, app);
        let restarted = self.effects.stopped_apps.contains(app);
        let kinds = [("is new", &difference.added), ("changed", &difference.changed)];
        for (what, modules) in kinds {
            for module in modules.iter().filter(|module| !self.effects.loaded.contains(*module)) {
                self.findings.push(Finding::error(
                    "R011",
                    format!(
                        "`{module}` of `{app}` {what} but the relup does not load it: old code would stay"
                    ),
                    format!("name it in the appup of `{app}`, or leave the appup out to have it generated"),
                ));
            }
        }
        for module in difference.deleted.difference(&self.effects.removed) {
            let text = format!("`{module}` of `{app}` is gone but stays loaded");
            let remedy = format!("add `{{delete_module, {module}}}` to the appup of `{app}`");
            self.findings.push(Finding::warning("R011", text, remedy));
        }
        if !restarted {
            difference.changed.iter().for_each(|module| self.process(app, module));
        }
    }

    fn process(&mut self, app: &str, module: &str) {
        let beam = self.new.modules.get(app).and_then(|beams| beams.get(module));
        let Some(beam) = beam.filter(|_| self.effects.loaded.contains(module)) else { return };
        let converted = self.effects.converted.contains(module) || self.effects.restarted.contains(module);
        if (beam.has_code_change() || beam.is_supervisor()) && !converted {
            let change = if beam.is_supervisor() { "supervisor" } else { "{advanced, []}" };
            let text =
                format!("`{module}` of `{app}` is loaded without code_change: processes keep the old state");
            self.error("R013", text, &format!("write `{{update, {module}, {change}}}` in the appup"));
        }
        let calls_supervisor = self.script.instructions.iter().any(|instruction| {
            matches!(instruction, Instruction::Apply { module: called, args, .. }
                if called == "supervisor" && args.first().and_then(Term::as_atom) == Some(module))
        });
        if beam.is_supervisor() && !calls_supervisor {
            self.warning(
                "R019",
                format!("the supervisor `{module}` changed, and the relup starts or stops no child of it"),
                "if its children changed, add the `supervisor` calls to the appup",
            );
        }
    }

    fn applications(&mut self) {
        for (app, _) in &self.new.rel.apps {
            if self.old.app_version(app).is_none() && !self.effects.started_apps.contains(app) {
                let text = format!("the application `{app}` is new, but the relup does not start it");
                self.warning("R015", text, "build the relup again, if it is not load-only");
            }
        }
        for (app, _) in &self.old.rel.apps {
            if self.new.app_version(app).is_none() && !self.effects.stopped_apps.contains(app) {
                let text = format!("the application `{app}` is gone, but the relup does not stop it");
                self.warning("R015", text, "build the relup again, if it was started");
            }
        }
    }

    fn calls(&mut self) {
        let instructions = &self.script.instructions;
        let point = instructions.iter().position(|item| *item == Instruction::PointOfNoReturn);
        let after = &instructions[point.unwrap_or(instructions.len())..];
        for instruction in after {
            let Instruction::Apply { module, function, .. } = instruction else { continue };
            let text =
                format!("if `{module}:{function}` fails, the node restarts into `{}`", self.old.rel.version);
            self.findings.push(Finding::warning("R014", text, "rehearse the upgrade before it counts"));
        }
    }

    fn purges(&mut self) {
        let brutal: Vec<&String> = self.effects.brutal.iter().collect();
        if !brutal.is_empty() {
            let text = format!("processes that still run old code of {} are killed", quoted(&brutal));
            self.warning("R016", text, "ask for `soft_purge` in the appup where that is too much");
        }
    }
}
