//! What a package of rebar3 was made of, so that it is not made again of the very same: a commit, the tools, and the
//! variables that its scripts ask for. What can't be told of some sources makes theirs unknown: they are built anew.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use git2::{IndexEntryExtendedFlag, IndexEntryFlag, Repository, StatusOptions};
use regex::Regex;
use sha2::{Digest, Sha256};

use super::super::{Error, Package, Project, Store, archive};
use super::staging::blocking;

/// Directories of rebar3 and of our settings: nothing in them gets into a package.
const NOT_SOURCES: &[&str] = &["_build", ".ci"];
/// Where these stand in a project's settings, its build may ask the world; so may one that reads files by their absolute path.
const ASKS: &[&str] = &[
    "os:cmd",
    "os:env",
    "os:list_env",
    "os:getenv()",
    "open_port",
    "file:",
    "filelib:",
    "httpc",
    "hooks",
    "{plugins",
    "{cmd",
    "\"/",
    "\"../",
];
/// Variables that rebar3 and the compiler read by themselves.
const READ_ANYWAY: &[&str] = &["ERL", "REBAR", "HEX", "RELX"];
/// Ours: set or removed for each build, see [`super::command`] and [`super::tar`].
const OUR_OWN: &[&str] = &["RELUP_TAR", "REBAR_BASE_DIR"];
/// Below the home directory.
const SETTINGS: &[&str] = &[".config/rebar3/rebar.config", ".erlang", ".erlang.crypt"];

/// SHA-256 (hexadecimal) over what a package is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Recipe(pub(super) String);

impl Recipe {
    /// That of a project as its sources stand; none when they are no commit, or their build is not known well enough.
    pub(super) async fn of(project: &Project) -> Option<Recipe> {
        let project = project.clone();
        blocking(move || Ok(read(&project))).await.ok().flatten()
    }

    /// The package at `path`, if it is what [`Recipe::mark`] said of it.
    pub(super) fn known(&self, path: &Path) -> Option<Package> {
        let text = fs::read_to_string(mark_of(path)).ok()?;
        let (recipe, sha256) = text.trim_end().split_once('\n')?;
        let package = (recipe == self.0).then(|| Package::read(path).ok())??;
        (package.sha256 == sha256).then_some(package)
    }

    /// A whole package of this recipe that was shipped.
    pub(super) fn shipped(&self, store: &Store, project: &Project) -> Option<Package> {
        let all = store.find(&project.name, &project.version);
        let stored = all.iter().find(|stored| stored.fat && stored.recipe.as_ref() == Some(&self.0))?;
        let package = Package::read(&store.path(stored)).ok()?;
        (package.sha256 == stored.sha256 && package.has_erts()).then_some(package)
    }

    /// Notes beside a package what it was made of.
    pub(super) fn mark(&self, package: &Package) -> Result<(), Error> {
        let path = mark_of(&package.path);
        let text = format!("{}\n{}\n", self.0, package.sha256);
        fs::write(&path, text).map_err(Error::io("writing", &path))
    }
}

fn mark_of(archive: &Path) -> PathBuf {
    let mut path = archive.as_os_str().to_owned();
    path.push(".recipe");
    path.into()
}

fn read(project: &Project) -> Option<Recipe> {
    let written = project.apps.iter().all(|app| app.version.is_some());
    if project.mix.is_some() || !written {
        return None;
    }
    let Project { name, version, profile, .. } = project;
    let parts = [sources(&project.dir)?, tools()?, variables(project)?, settings()];
    let text = format!("1\n{name}\n{version}\n{profile}\n{}", parts.join("\n"));
    Some(Recipe(crate::digest::hex(&Sha256::digest(text))))
}

/// The commit, if nothing else is there, and where the project lies in it.
fn sources(dir: &Path) -> Option<String> {
    let repository = Repository::discover(dir).ok()?;
    let commit = repository.head().ok()?.peel_to_commit().ok()?.id();
    let top = repository.workdir()?.canonicalize().ok()?;
    let (unchanged, absent) = (IndexEntryFlag::VALID.bits(), IndexEntryExtendedFlag::SKIP_WORKTREE.bits());
    // git was told not to look at these
    let unseen = |entry: git2::IndexEntry| entry.flags & unchanged != 0 || entry.flags_extended & absent != 0;
    if repository.index().ok()?.iter().any(unseen) {
        return None;
    }
    let mut options = StatusOptions::new();
    options.include_untracked(true).include_ignored(true);
    let within = dir.strip_prefix(top).ok()?;
    // rebar3 writes it, and who does not commit it has what it says count
    let lock = within.join("rebar.lock");
    let source =
        |path: &str| Path::new(path) != lock && !path.split('/').any(|part| NOT_SOURCES.contains(&part));
    let statuses = repository.statuses(Some(&mut options)).ok()?;
    if statuses.iter().any(|entry| entry.path().map_or(true, source)) {
        return None;
    }
    let locked = fs::read_to_string(dir.join("rebar.lock")).unwrap_or_default();
    let locked = locked.trim().trim_start_matches("[].");
    Some(format!("{commit} {} {locked}", within.display()))
}

/// rebar3 and Erlang/OTP. Of the shim of a version manager nobody knows what it will start.
pub(super) fn tools() -> Option<String> {
    let rebar3 = fs::read(find("rebar3")?).ok()?;
    let first = String::from_utf8_lossy(rebar3.split(|byte| *byte == b'\n').next()?).into_owned();
    if !first.starts_with("#!") || !first.trim_end().ends_with("escript") {
        return None;
    }
    let (erl, escript) = (find("erl")?, find("escript")?);
    let root = erl.parent()?.parent()?;
    if escript.parent() != erl.parent() {
        return None;
    }
    let mut text = format!("{}\n{}\n", crate::digest::hex(&Sha256::digest(&rebar3)), root.display());
    let releases = entries(&root.join("releases"));
    let version = releases.iter().find_map(|dir| fs::read_to_string(dir.join("OTP_VERSION")).ok());
    text.push_str(&version?);
    let machine =
        |dir: &PathBuf| dir.file_name().is_some_and(|name| name.to_string_lossy().starts_with("erts-"));
    let machines = entries(root).into_iter().filter(machine).map(|dir| dir.join("bin/beam.smp"));
    let libraries = entries(&root.join("lib")).into_iter().map(|dir| dir.join("ebin"));
    // a patch of the distribution's has no other version
    for path in machines.chain(libraries) {
        if let Ok(found) = fs::metadata(&path) {
            let (seconds, rest, size) = (found.mtime(), found.mtime_nsec(), found.len());
            text.push_str(&format!("{} {seconds}.{rest} {size}\n", path.display()));
        }
    }
    Some(text)
}

/// A program's own file.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|path| path.is_file())?.canonicalize().ok()
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> =
        fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    all.sort();
    all
}

/// Those that decide how it is built; none when that can't be told.
fn variables(project: &Project) -> Option<String> {
    let dirs = std::iter::once(&project.dir).chain(project.apps.iter().map(|app| &app.dir));
    let mut texts = String::new();
    for dir in dirs {
        let scripts = entries(&dir.join("src")).into_iter();
        let scripts = scripts.filter(|path| path.to_string_lossy().ends_with(".app.src.script"));
        for path in scripts.chain(["rebar.config", "rebar.config.script"].map(|file| dir.join(file))) {
            texts.push_str(&fs::read_to_string(path).unwrap_or_default());
        }
    }
    known_variables(
        &texts,
        std::env::vars_os().map(|(name, value)| (name.to_string_lossy().into_owned(), format!("{value:?}"))),
    )
}

fn known_variables(texts: &str, all: impl Iterator<Item = (String, String)>) -> Option<String> {
    let asked = Regex::new(r#"os:getenv\(\s*"([^"]+)""#).expect("the pattern is constant");
    let asked: Vec<&str> =
        asked.captures_iter(texts).filter_map(|found| found.get(1)).map(|name| name.as_str()).collect();
    if ASKS.iter().any(|word| texts.contains(word)) || texts.matches("getenv").count() != asked.len() {
        return None;
    }
    let counts = |name: &str| {
        let read = READ_ANYWAY.iter().any(|prefix| name.starts_with(prefix)) || asked.contains(&name);
        read && !OUR_OWN.contains(&name)
    };
    let mut lines: Vec<String> =
        all.filter(|(name, _)| counts(name)).map(|(name, value)| format!("{name}={value}")).collect();
    lines.sort();
    Some(lines.join("\n"))
}

/// The user's own, by their digests.
fn settings() -> String {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let digest = |file: &&str| archive::digest(&home.join(file)).map_or(String::new(), |(sha256, _)| sha256);
    SETTINGS.iter().map(digest).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn git(dir: &Path, arguments: &[&str]) {
        let mut git = std::process::Command::new("git");
        git.arg("-C").arg(dir).args(["-c", "user.name=t", "-c", "user.email=t@localhost"]).args(arguments);
        assert!(git.status().unwrap().success(), "{arguments:?}");
    }

    #[test]
    fn sources_are_known_only_as_a_whole_commit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap();
        let write = |file: &str, text: &str| {
            fs::create_dir_all(path.join(file).parent().unwrap()).unwrap();
            fs::write(path.join(file), text).unwrap();
        };
        assert_eq!(sources(&path), None, "no repository");
        git(&path, &["init", "-q"]);
        write("src/a.erl", "a");
        write(".gitignore", "*.config\n");
        git(&path, &["add", "-A"]);
        git(&path, &["commit", "-qm", "one"]);
        let known = sources(&path);
        assert!(known.is_some());
        write("_build/x", "built");
        write(".ci/deploy.yml", "settings");
        write("rebar.lock", "[].\n");
        assert_eq!(sources(&path), known);
        write("rebar.lock", "[{<<\"dep\">>, ...}].\n");
        assert!(sources(&path).is_some_and(|other| Some(other) != known));
        write("rebar.lock", "[].\n");
        fs::remove_file(path.join("rebar.lock")).unwrap();
        let other = sources(&path.join("src"));
        assert!(other.is_some() && other != known, "another place in the same commit");
        for (file, text) in
            [("src/a.erl", "b"), ("src/b.erl", "new"), ("secret.config", "ignored"), ("_checkouts/d/x", "")]
        {
            let before = fs::read_to_string(path.join(file)).ok();
            write(file, text);
            assert_eq!(sources(&path), None, "{file}");
            match before {
                Some(text) => write(file, &text),
                None => fs::remove_file(path.join(file)).unwrap(),
            }
            let _ = fs::remove_dir_all(path.join("_checkouts"));
            assert_eq!(sources(&path), known, "{file} is as it was");
        }
        git(&path, &["update-index", "--assume-unchanged", "src/a.erl"]);
        write("src/a.erl", "b");
        assert_eq!(sources(&path), None, "git was told not to look");
    }

    #[test]
    fn a_build_that_may_ask_the_world_is_not_known() {
        let all = || [("CI", "1"), ("ERL_LIBS", "x"), ("RELUP_TAR", "1"), ("OTHER", "2")].into_iter();
        let known = |texts: &str| known_variables(texts, all().map(|(n, v)| (n.to_owned(), v.to_owned())));
        assert_eq!(known("{deps, []}.").as_deref(), Some("ERL_LIBS=x"));
        let asks = r#"os:getenv("CI"), os:getenv( "RELUP_TAR", "no"), os:getenv("NONE")"#;
        assert_eq!(known(asks).as_deref(), Some("CI=1\nERL_LIBS=x"));
        for texts in [
            "os:cmd(\"date\")",
            "os:getenv(Name)",
            "os:getenv()",
            "F = fun os:getenv/1",
            "{pre_hooks, [{compile, \"make\"}]}.",
            "{plugins, [pc]}.",
            "{release, {urf, {cmd, \"git describe\"}}, []}",
            "{overlay, [{copy, \"/etc/hosts\", \"etc\"}]}",
            "file:consult(\"x\")",
        ] {
            assert_eq!(known(texts), None, "{texts}");
        }
    }
}
