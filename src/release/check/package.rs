//! The rules about the packages: `R001` to `R008`, `R010` (the runtime system), `R017`, `R018`, `R021`,
//! `R023` and `R028`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::super::{
    Appup, Finding,
    erlang::{external, text},
    package::Package,
    thin::is_otp_app,
};

pub(super) fn check(old: &Package, new: &Package) -> Vec<Finding> {
    let mut findings = Vec::new();
    names(old, new, &mut findings);
    one(new, &mut findings);
    sasl(old, &mut findings);
    vm_args(old, new, &mut findings);
    applications(old, new, &mut findings);
    native_code(old, new, &mut findings);
    configuration(old, new, &mut findings);
    findings
}

/// What can be said of a package without another.
pub(super) fn check_alone(new: &Package) -> Vec<Finding> {
    let mut findings = Vec::new();
    one(new, &mut findings);
    for app in new.rel.apps.iter().filter(|app| new.has_erts() && !new.has_app(app)) {
        findings.push(Finding::error(
            "R007",
            format!("`{}-{}` is not in the package, which has the runtime system", app.0, app.1),
            "build the package with `{system_libs, true}`",
        ));
    }
    findings
}

fn one(new: &Package, findings: &mut Vec<Finding>) {
    own_names(new, findings);
    sasl(new, findings);
    files(new, findings);
    sidecar(new, findings);
    appups(new, findings);
}

fn names(old: &Package, new: &Package, findings: &mut Vec<Finding>) {
    if new.rel.name != old.rel.name {
        let text = format!("the release is `{}`, `{}` runs", new.rel.name, old.rel.name);
        findings.push(Finding::error("R001", text, "deploy it as another release"));
    }
}

fn own_names(new: &Package, findings: &mut Vec<Finding>) {
    let (name, version) = (&new.rel.name, &new.rel.version);
    let mut error = |text: String, remedy: &str| findings.push(Finding::error("R001", text, remedy));
    if *version != new.directory {
        let text = format!("the .rel file says `{version}` but lies in `releases/{}`", new.directory);
        error(text, "build the package again from a clean directory");
    }
    let expected = format!("{name}-{version}.tar.gz");
    if new.path.file_name().is_some_and(|file| file != &*expected) {
        let text = format!("the archive `{}` holds `{name}` `{version}`", new.path.display());
        error(text, &format!("name it `{expected}`, where release_handler looks for it"));
    }
}

fn sasl(package: &Package, findings: &mut Vec<Finding>) {
    let version = &package.rel.version;
    let lack = match package.app_version("sasl") {
        None => format!("`sasl` is not in `{version}`"),
        Some(_) if package.rel.idle.iter().any(|app| app == "sasl") => {
            format!("`sasl` is in `{version}` and not started there")
        }
        Some(_) => return,
    };
    let help = "add `sasl` to the applications of the release; release_handler is part of it";
    findings.push(Finding::error("R002", lack, help));
}

/// `NAME-VSN.tar.gz.sha256` beside the archive, as `sha256sum` writes it.
fn sidecar(package: &Package, findings: &mut Vec<Finding>) {
    let mut path = package.path.clone().into_os_string();
    path.push(".sha256");
    let path = PathBuf::from(path);
    let Ok(text) = std::fs::read_to_string(&path) else { return };
    let expected = text.split_whitespace().next().unwrap_or_default();
    if !expected.eq_ignore_ascii_case(&package.sha256) {
        findings.push(Finding::error(
            "R021",
            format!("the archive's SHA-256 is `{}`, `{}` says another", package.sha256, path.display()),
            "fetch or build the package again",
        ));
    }
}

fn appups(package: &Package, findings: &mut Vec<Finding>) {
    for (app, source) in &package.appups {
        let version = package.app_version(app).unwrap_or_default();
        let problem = match Appup::parse(&format!("{app}.appup"), source) {
            Ok(appup) if appup.version == version => continue,
            Ok(appup) => format!("`{app}.appup` is for `{}`, but `{app}` is `{version}`", appup.version),
            Err(error) => error.to_string(),
        };
        findings.push(Finding::error(
            "R023",
            problem,
            "bring it up to date, or leave it out to have it derived; then build the relup again",
        ));
    }
}

fn files(new: &Package, findings: &mut Vec<Finding>) {
    let mut error = |code, text: String, remedy: &str| findings.push(Finding::error(code, text, remedy));
    let script = format!("bin/{}-{}", new.rel.name, new.rel.version);
    if !new.files.contains_key(&script) {
        let text = format!("`{script}` is missing: the start script of the old version would stay");
        error("R003", text, "set `{extended_start_script, true}` in relx");
    }
    let at = |file: &str| format!("releases/{}/{file}", new.directory);
    let boot = match new.document("start.boot") {
        None => Some("is missing".to_owned()),
        Some(data) => external::decode(data).err().map(|e| format!("is broken: {e}")),
    };
    if let Some(problem) = boot {
        error("R004", format!("`{}` {problem}", at("start.boot")), "build the package again");
    }
    if let Some(data) = new.document("sys.config") {
        let list = text::parse_one(&String::from_utf8_lossy(data)).map(|term| term.as_list().is_some());
        let problem = match list {
            Ok(true) => None,
            Ok(false) => Some("is not a list".to_owned()),
            Err(e) => Some(format!("does not parse: {e}")),
        };
        if let Some(problem) = problem {
            let text = format!("`{}` {problem}; the whole configuration would be lost", at("sys.config"));
            error("R005", text, "correct it");
        }
    }
}

const IDENTITY: [&str; 3] = ["-name", "-sname", "-setcookie"];

fn vm_args(old: &Package, new: &Package, findings: &mut Vec<Finding>) {
    let lines = |package: &Package| -> Vec<String> {
        let text = String::from_utf8_lossy(package.document("vm.args").unwrap_or_default()).into_owned();
        let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim().to_owned());
        lines.filter(|line| !line.is_empty()).collect()
    };
    let (old_lines, new_lines) = (lines(old), lines(new));
    let flag = |lines: &[String], flag: &str| {
        lines.iter().find(|line| line.split_whitespace().next() == Some(flag)).cloned()
    };
    for name in IDENTITY {
        if flag(&old_lines, name) != flag(&new_lines, name) {
            findings.push(Finding::error(
                "R006",
                format!("`{name}` in vm.args changes: the new start script could not reach the running node"),
                "restart for this version, or leave it as it is",
            ));
        }
    }
    let rest = |lines: Vec<String>| -> Vec<String> {
        let keep = |line: &String| !IDENTITY.contains(&line.split_whitespace().next().unwrap_or_default());
        lines.into_iter().filter(keep).collect()
    };
    if rest(old_lines) != rest(new_lines) {
        let text = "vm.args changes, which takes effect at the next restart only";
        findings.push(Finding::warning("R006", text, "restart if the change is needed now"));
    }
}

fn applications(old: &Package, new: &Package, findings: &mut Vec<Finding>) {
    if old.rel.erts != new.rel.erts {
        findings.push(Finding::error(
            "R010",
            format!("the runtime system changes from erts `{}` to `{}`", old.rel.erts, new.rel.erts),
            "restart for this version, or build it with the old Erlang/OTP",
        ));
    }
    for app in &new.rel.apps {
        let (name, version) = app;
        let old_version = old.app_version(name);
        if !new.has_app(app) && old_version != Some(version) {
            findings.push(Finding::error(
                "R007",
                format!("`{name}-{version}` is neither in the package nor in the running release"),
                "build the package with `{system_libs, true}`",
            ));
        }
        if is_otp_app(name) && old_version.is_some_and(|old| old != version) {
            findings.push(Finding::error(
                "R017",
                format!(
                    "`{name}` of Erlang/OTP or Elixir changes from `{}` to `{version}`",
                    old_version.unwrap_or("")
                ),
                "restart for this version, or build it with the old one",
            ));
        }
        if old_version == Some(version) {
            let changed = Difference::of(old, new, name);
            if !changed.is_empty() {
                findings.push(Finding::error(
                    "R008",
                    format!("`{name}` is `{version}` in both, but differs in {}", quoted(&changed.all())),
                    "increase its `vsn`: unpacking never replaces files of a version that is there",
                ));
            }
        }
    }
}

/// release_handler sets what `sys.config` of a version says; what a release of `mix` computes at its start would be lost.
fn configuration(old: &Package, new: &Package, findings: &mut Vec<Finding>) {
    let at_start = |package: &&Package| {
        let text = String::from_utf8_lossy(package.document("sys.config").unwrap_or_default());
        text.contains("RUNTIME_CONFIG=true") || text.contains("config_provider_init")
    };
    if let Some(package) = [old, new].iter().find(|package| at_start(package)) {
        findings.push(Finding::error(
            "R028",
            format!(
                "`{}` computes its configuration when it starts (`config/runtime.exs` or another provider)",
                package.rel.version
            ),
            "restart for this version; or write the configuration in `config/config.exs`",
        ));
    }
}

/// Native code can't be replaced under a running virtual machine by the means of a relup.
fn native_code(old: &Package, new: &Package, findings: &mut Vec<Finding>) {
    for (name, version) in &new.rel.apps {
        let Some(old_version) = old.app_version(name).filter(|_| !is_otp_app(name)) else { continue };
        let libraries = |package: &Package, version: &str| -> Vec<(String, String)> {
            let prefix = format!("lib/{name}-{version}/priv/");
            let under =
                package.files.range(prefix.clone()..).take_while(|(path, _)| path.starts_with(&prefix));
            let native = under.filter(|(path, file)| path.ends_with(".so") || file.mode & 0o111 != 0);
            native.map(|(path, file)| (path[prefix.len()..].to_owned(), file.sha256.clone())).collect()
        };
        if libraries(old, old_version) != libraries(new, version) {
            findings.push(Finding::error(
                "R018",
                format!("native code in `priv` of `{name}` changes"),
                "restart for this version",
            ));
        }
    }
}

/// The modules in which one application differs between two packages.
#[derive(Debug, Default)]
pub(super) struct Difference {
    pub added: BTreeSet<String>,
    pub changed: BTreeSet<String>,
    pub deleted: BTreeSet<String>,
}

impl Difference {
    /// Empty when either package doesn't hold the application: then nothing can be said.
    pub(super) fn of(old: &Package, new: &Package, app: &str) -> Difference {
        let (Some(old), Some(new)) = (old.modules.get(app), new.modules.get(app)) else {
            return Difference::default();
        };
        let mut difference = Difference::default();
        for (name, beam) in new {
            match old.get(name) {
                None => difference.added.insert(name.clone()),
                Some(before) => before.md5 != beam.md5 && difference.changed.insert(name.clone()),
            };
        }
        difference.deleted = old.keys().filter(|name| !new.contains_key(*name)).cloned().collect();
        difference
    }

    pub(super) fn is_empty(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty() && self.deleted.is_empty()
    }

    fn all(&self) -> Vec<&String> {
        self.added.iter().chain(&self.changed).chain(&self.deleted).collect()
    }
}

pub(super) fn quoted<S: AsRef<str>>(names: &[S]) -> String {
    names.iter().map(|name| format!("`{}`", name.as_ref())).collect::<Vec<_>>().join(", ")
}
