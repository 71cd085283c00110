//! What differs between two packages: `ci release diff`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::Serialize;

use super::{
    Package,
    erlang::{Beam, Term, text},
};

/// What differs. Serialized, it is the document of `ci release diff --format json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PackageDiff {
    /// Version of this document's form.
    pub format: u32,
    /// Names and versions of the two releases.
    pub releases: [(String, String); 2],
    /// The runtime systems, if they differ.
    pub erts: Option<[String; 2]>,
    /// Applications that differ.
    pub applications: Vec<AppDiff>,
    /// Settings in `sys.config` that differ, as `APP.KEY`; values are not shown.
    pub settings: Changes,
    /// Lines of `vm.args`; cookies are not shown.
    pub vm_args: Changes,
}

/// Names that are new, gone, or the same with another content.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Changes {
    /// Only in the second.
    pub added: Vec<String>,
    /// Only in the first.
    pub removed: Vec<String>,
    /// In both and different.
    pub changed: Vec<String>,
}

impl Changes {
    fn between<T: PartialEq>(old: &BTreeMap<String, T>, new: &BTreeMap<String, T>) -> Changes {
        let only = |a: &BTreeMap<String, T>, b: &BTreeMap<String, T>| {
            a.keys().filter(|key| !b.contains_key(*key)).cloned().collect()
        };
        let differs = |(key, value): &(&String, &T)| old.get(*key).is_some_and(|before| before != *value);
        let changed = new.iter().filter(differs).map(|(key, _)| key.clone()).collect();
        Changes { added: only(new, old), removed: only(old, new), changed }
    }

    fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

/// An application that differs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AppDiff {
    /// Its name.
    pub name: String,
    /// Its version before; none when it is new.
    pub from: Option<String>,
    /// Its version after; none when it is gone.
    pub to: Option<String>,
    /// Whether the code could be compared: both packages hold it.
    pub compared: bool,
    /// Modules that differ.
    pub modules: Vec<ModuleDiff>,
    /// Files in `priv`.
    pub private: Changes,
}

/// A module that differs in more than line numbers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModuleDiff {
    /// Its name.
    pub module: String,
    /// MD5 before, in hex; none when it is new.
    pub from: Option<String>,
    /// MD5 after; none when it is gone.
    pub to: Option<String>,
    /// `supervisor`, `process` or `module`.
    pub kind: &'static str,
    /// Functions, as `name/arity`.
    pub exports: Changes,
    /// Behaviours.
    pub behaviours: Changes,
}

impl PackageDiff {
    /// Compares two packages.
    #[must_use]
    pub fn between(old: &Package, new: &Package) -> PackageDiff {
        let release = |package: &Package| (package.rel.name.clone(), package.rel.version.clone());
        let erts = [old.rel.erts.clone(), new.rel.erts.clone()];
        let names: BTreeSet<&String> = old.rel.apps.iter().chain(&new.rel.apps).map(|(app, _)| app).collect();
        PackageDiff {
            format: 1,
            releases: [release(old), release(new)],
            erts: (erts[0] != erts[1]).then_some(erts),
            applications: names.into_iter().filter_map(|app| app_diff(old, new, app)).collect(),
            settings: Changes::between(&setting_values(old), &setting_values(new)),
            vm_args: Changes::between(&arguments(old), &arguments(new)),
        }
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let [(old_name, old), (new_name, new)] = &self.releases;
        let mut out = format!("{old_name} {old} -> {new_name} {new}\n");
        if let Some([from, to]) = &self.erts {
            let _ = writeln!(out, "  erts {from} -> {to}");
        }
        for app in &self.applications {
            app.write(&mut out);
        }
        for (what, changes) in [("sys.config", &self.settings), ("vm.args", &self.vm_args)] {
            if !changes.is_empty() {
                let _ = writeln!(out, "  {what}");
                write_changes(&mut out, "    ", changes);
            }
        }
        if out.lines().count() == 1 {
            out.push_str("  no differences\n");
        }
        out
    }
}

impl AppDiff {
    fn write(&self, out: &mut String) {
        let _ = match (&self.from, &self.to) {
            (Some(from), Some(to)) if from == to => {
                writeln!(out, "  {} {from} (the same version)", self.name)
            }
            (Some(from), Some(to)) => writeln!(out, "  {} {from} -> {to}", self.name),
            (None, Some(to)) => writeln!(out, "  {} {to} is new", self.name),
            (from, _) => writeln!(out, "  {} {} is gone", self.name, from.as_deref().unwrap_or_default()),
        };
        if !self.compared && self.from.is_some() && self.to.is_some() {
            out.push_str("    its code is not in both packages\n");
        }
        for module in &self.modules {
            let short =
                |md5: &Option<String>| md5.as_deref().map_or_else(String::new, |md5| md5[..8].to_owned());
            let (from, to) = (short(&module.from), short(&module.to));
            let _ = match (&module.from, &module.to) {
                (None, _) => writeln!(out, "    + {} ({}) {to}", module.module, module.kind),
                (_, None) => writeln!(out, "    - {} ({}) {from}", module.module, module.kind),
                _ => writeln!(out, "    ~ {} ({}) {from} -> {to}", module.module, module.kind),
            };
            if module.from.is_some() && module.to.is_some() {
                for (what, changes) in [("exports", &module.exports), ("behaviours", &module.behaviours)] {
                    let added = changes.added.iter().map(|name| format!("+{name}"));
                    let words: Vec<String> =
                        added.chain(changes.removed.iter().map(|name| format!("-{name}"))).collect();
                    if !words.is_empty() {
                        let _ = writeln!(out, "        {what}: {}", words.join(" "));
                    }
                }
            }
        }
        if !self.private.is_empty() {
            out.push_str("    priv\n");
            write_changes(out, "      ", &self.private);
        }
    }
}

fn write_changes(out: &mut String, indent: &str, changes: &Changes) {
    let rows = [("+", &changes.added), ("-", &changes.removed), ("~", &changes.changed)];
    for (sign, names) in rows {
        for name in names {
            let _ = writeln!(out, "{indent}{sign} {name}");
        }
    }
}

fn app_diff(old: &Package, new: &Package, app: &str) -> Option<AppDiff> {
    let (from, to) = (old.app_version(app), new.app_version(app));
    let (before, after) = (old.modules.get(app), new.modules.get(app));
    let compared = before.is_some() && after.is_some();
    let empty = BTreeMap::new();
    let modules = match (from, to, compared) {
        // a package that leaves the code out says nothing about it
        (Some(_), Some(_), false) => Vec::new(),
        _ => module_diffs(before.unwrap_or(&empty), after.unwrap_or(&empty)),
    };
    let private = match compared {
        true => Changes::between(&private(old, app), &private(new, app)),
        false => Changes::default(),
    };
    let same = from == to && modules.is_empty() && private.is_empty();
    let owned = |version: Option<&str>| version.map(str::to_owned);
    (!same).then(|| AppDiff {
        name: app.to_owned(),
        from: owned(from),
        to: owned(to),
        compared,
        modules,
        private,
    })
}

fn module_diffs(old: &BTreeMap<String, Beam>, new: &BTreeMap<String, Beam>) -> Vec<ModuleDiff> {
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let diff = |name: &String| {
        let (before, after) = (old.get(name), new.get(name));
        let md5 = |beam: Option<&Beam>| beam.map(|beam| crate::digest::hex(&beam.md5));
        let (from, to) = (md5(before), md5(after));
        let last = after.or(before)?;
        let kind = match (last.is_supervisor(), last.is_process()) {
            (true, _) => "supervisor",
            (_, true) => "process",
            _ => "module",
        };
        let exports = |beam: Option<&Beam>| -> BTreeMap<String, ()> {
            let all = beam.into_iter().flat_map(|beam| &beam.exports);
            all.map(|(name, arity)| (format!("{name}/{arity}"), ())).collect()
        };
        let behaviours = |beam: Option<&Beam>| -> BTreeMap<String, ()> {
            beam.into_iter().flat_map(Beam::behaviours).map(|name| (name.to_owned(), ())).collect()
        };
        (from != to).then(|| ModuleDiff {
            module: name.clone(),
            kind,
            exports: Changes::between(&exports(before), &exports(after)),
            behaviours: Changes::between(&behaviours(before), &behaviours(after)),
            from,
            to,
        })
    };
    names.into_iter().filter_map(diff).collect()
}

fn private(package: &Package, app: &str) -> BTreeMap<String, (String, u32)> {
    let prefix = format!("lib/{app}-{}/priv/", package.app_version(app).unwrap_or_default());
    let files = package.files.range(prefix.clone()..).take_while(|(path, _)| path.starts_with(&prefix));
    files.map(|(path, file)| (path[prefix.len()..].to_owned(), (file.sha256.clone(), file.mode))).collect()
}

fn setting_values(package: &Package) -> BTreeMap<String, String> {
    let source = String::from_utf8_lossy(package.document("sys.config").unwrap_or_default()).into_owned();
    let mut values = BTreeMap::new();
    let config = text::parse_one(&source).unwrap_or(Term::List(Vec::new()));
    for entry in config.as_list().unwrap_or_default() {
        let Some([app, settings]) = entry.as_tuple() else { continue };
        for setting in settings.as_list().unwrap_or_default() {
            let Some([key, value]) = setting.as_tuple() else { continue };
            values.insert(format!("{app}.{key}"), value.to_string());
        }
    }
    values
}

/// Arguments of the virtual machine by flag; only the cookie's flag is shown of it.
fn arguments(package: &Package) -> BTreeMap<String, String> {
    let text = String::from_utf8_lossy(package.document("vm.args").unwrap_or_default()).into_owned();
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim().to_owned());
    let shown = |line: String| match line.split_whitespace().next() {
        Some("-setcookie") => ("-setcookie".to_owned(), line),
        _ => (line.clone(), line),
    };
    lines.filter(|line| !line.is_empty()).map(shown).collect()
}
