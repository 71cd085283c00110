//! What is in a package, for people and machines: `ci release inspect`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::{
    Finding, Package, check,
    erlang::{Term, text},
    thin::is_otp_app,
};

/// What is in a package. Serialized, it is the document of `ci release inspect --format json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Inspection {
    /// Version of this document's form.
    pub format: u32,
    /// The release's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of the archive in hex.
    pub sha256: String,
    /// Bytes of the archive.
    pub size: u64,
    /// Bytes unpacked.
    pub unpacked: u64,
    /// The version of the runtime system.
    pub erts: String,
    /// Whether that is in the package.
    pub has_erts: bool,
    /// The applications, in the order of the `.rel` file.
    pub applications: Vec<Application>,
    /// The versions that its relup upgrades from; none without a relup.
    pub upgrades_from: Vec<String>,
    /// The versions that its relup goes back to.
    pub downgrades_to: Vec<String>,
    /// Names of settings by application in `sys.config`, never their values.
    pub settings: BTreeMap<String, Vec<String>>,
    /// Flags in `vm.args` without their values.
    pub flags: Vec<String>,
    /// What is wrong with the package by itself.
    pub findings: Vec<Finding>,
}

/// An application of a release.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Application {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Part of Erlang/OTP.
    pub otp: bool,
    /// Whether its code is in the package.
    pub packed: bool,
    /// Modules in the package.
    pub modules: usize,
    /// Its processes, supervisors aside.
    pub processes: Vec<String>,
    /// Its supervisors.
    pub supervisors: Vec<String>,
    /// Shared libraries and programs in `priv`.
    pub native: Vec<String>,
    /// Bytes in the package.
    pub size: u64,
}

impl Inspection {
    /// Looks into a package.
    #[must_use]
    pub fn of(package: &Package) -> Inspection {
        let relup = package.relup().ok().flatten();
        let versions = |scripts: &[super::relup::Script]| -> Vec<String> {
            scripts.iter().map(|script| script.version.clone()).collect()
        };
        Inspection {
            format: 1,
            name: package.rel.name.clone(),
            version: package.rel.version.clone(),
            sha256: package.sha256.clone(),
            size: package.size,
            unpacked: package.files.values().map(|file| file.size).sum(),
            erts: package.rel.erts.clone(),
            has_erts: package.has_erts(),
            applications: package.rel.apps.iter().map(|app| application(package, app)).collect(),
            upgrades_from: relup.as_ref().map(|relup| versions(&relup.up)).unwrap_or_default(),
            downgrades_to: relup.as_ref().map(|relup| versions(&relup.down)).unwrap_or_default(),
            settings: settings(package),
            flags: flags(package),
            findings: check::alone(package),
        }
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = format!(
            "{} {}\n  sha256    {}\n  size      {}, unpacked {}\n  erts      {} ({})\n",
            self.name,
            self.version,
            self.sha256,
            bytes(self.size),
            bytes(self.unpacked),
            self.erts,
            if self.has_erts { "in the package" } else { "not in the package: for targets that have it" },
        );
        let upgrades = match &self.upgrades_from[..] {
            [] => "none: no relup in it".to_owned(),
            from => format!("from {}; back to {}", from.join(", "), or_none(&self.downgrades_to)),
        };
        let _ = writeln!(out, "  upgrades  {upgrades}\n\n  applications");
        let width = self.applications.iter().map(|app| app.name.len()).max().unwrap_or(0);
        let versions = self.applications.iter().map(|app| app.version.len()).max().unwrap_or(0);
        for app in &self.applications {
            let _ = write!(out, "    {:width$}  {:versions$}", app.name, app.version);
            if app.packed {
                let _ = write!(out, "  {:>9}  {:>4} modules", bytes(app.size), app.modules);
            } else {
                out.push_str("  not in the package");
            }
            if !app.otp {
                for (what, names) in [
                    ("processes", &app.processes),
                    ("supervisors", &app.supervisors),
                    ("native", &app.native),
                ] {
                    if !names.is_empty() {
                        let _ = write!(out, "; {what} {}", names.join(", "));
                    }
                }
            }
            out.push('\n');
        }
        if !self.settings.is_empty() {
            out.push_str("\n  settings (values not shown)\n");
            for (app, keys) in &self.settings {
                let _ = writeln!(out, "    {app}: {}", keys.join(", "));
            }
        }
        if !self.flags.is_empty() {
            let _ = writeln!(out, "\n  vm.args (values not shown)\n    {}", self.flags.join(" "));
        }
        out
    }
}

fn or_none(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// `8.4 MB`.
#[must_use]
pub fn bytes(count: u64) -> String {
    let mut value = count as f64;
    for unit in ["B", "kB", "MB"] {
        if value < 1000.0 {
            return if unit == "B" { format!("{count} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1000.0;
    }
    format!("{value:.1} GB")
}

fn application(package: &Package, app: &(String, String)) -> Application {
    let (name, version) = app;
    let prefix = format!("lib/{name}-{version}/");
    let files: Vec<_> =
        package.files.range(prefix.clone()..).take_while(|(path, _)| path.starts_with(&prefix)).collect();
    let native = files.iter().filter(|(path, file)| {
        path[prefix.len()..].starts_with("priv/") && (path.ends_with(".so") || file.mode & 0o111 != 0)
    });
    let beams = package.modules.get(name);
    let named = |wanted: &dyn Fn(&super::erlang::Beam) -> bool| -> Vec<String> {
        let all = beams.into_iter().flatten();
        all.filter(|(_, beam)| wanted(beam)).map(|(module, _)| module.clone()).collect()
    };
    Application {
        name: name.clone(),
        version: version.clone(),
        otp: is_otp_app(name),
        packed: package.has_app(app),
        modules: beams.map_or(0, BTreeMap::len),
        processes: named(&|beam| beam.is_process() && !beam.is_supervisor()),
        supervisors: named(&|beam| beam.is_supervisor()),
        native: native.map(|(path, _)| path[prefix.len()..].to_owned()).collect(),
        size: files.iter().map(|(_, file)| file.size).sum(),
    }
}

/// The names of all settings; a `sys.config` that doesn't parse is a finding, not an error here.
pub(super) fn settings(package: &Package) -> BTreeMap<String, Vec<String>> {
    let mut settings = BTreeMap::new();
    let source = String::from_utf8_lossy(package.document("sys.config").unwrap_or_default()).into_owned();
    let Ok(config) = text::parse_one(&source) else { return settings };
    for entry in config.as_list().unwrap_or_default() {
        let Some([app, keys]) = entry.as_tuple() else { continue };
        let Some(app) = app.as_atom() else { continue };
        let name = |item: &Term| item.as_tuple().and_then(|pair| pair.first()).map(Term::to_string);
        settings.insert(app.to_owned(), keys.as_list().unwrap_or_default().iter().filter_map(name).collect());
    }
    settings
}

fn flags(package: &Package) -> Vec<String> {
    let text = String::from_utf8_lossy(package.document("vm.args").unwrap_or_default()).into_owned();
    let words = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    let flags = words.filter_map(|line| line.split_whitespace().next());
    flags.filter(|word| word.starts_with(['-', '+'])).map(str::to_owned).collect()
}
