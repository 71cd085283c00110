//! A new version in the files of a project: `rebar.config` and `*.app.src`, or `mix.exs`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    Error, Project, git,
    package::is_plain_name,
    rebar::{Bumped, ProjectApp, bump_app, bump_mix, bump_release},
    version::{self, Level},
};

/// The version to come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The next of a level.
    Level(Level),
    /// This one.
    Exactly(String),
}

/// A file with its new version, not yet written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// The file.
    pub path: PathBuf,
    /// What it holds the version of: `release`, or an application's name.
    pub of: String,
    /// The version in it.
    pub from: String,
    /// The version that it gets.
    pub to: String,
    text: String,
}

impl Edit {
    fn of(path: PathBuf, of: impl Into<String>, bumped: Bumped) -> Edit {
        Edit { path, of: of.into(), from: bumped.from, to: bumped.to, text: bumped.text }
    }

    /// Writes the file.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn write(&self) -> Result<(), Error> {
        fs::write(&self.path, &self.text).map_err(Error::io("writing", &self.path))
    }
}

/// The edits for a new version of the project in `dir`; the first is the release's.
///
/// An application whose version is the release's own moves with it. Another one gets the next version of its own, if its
/// sources changed since the tag of the release version; without such a tag, always.
///
/// # Errors
/// There is no project or no written-out version; the new version is not a newer one.
pub fn bump(dir: &Path, profile: &str, to: &Target) -> Result<Vec<Edit>, Error> {
    if let Target::Exactly(version) = to
        && !is_plain_name(version)
    {
        return Err(Error::Project(format!(
            "`{}` is no version: letters, digits and `._+~-` only",
            version.escape_debug()
        )));
    }
    let mix = dir.join("mix.exs");
    let edits = match dir.join("rebar.config").is_file() {
        true => rebar(dir, profile, to)?,
        false if mix.is_file() => {
            let text = fs::read_to_string(&mix).map_err(Error::io("reading", &mix))?;
            let bumped = bump_mix(&text, &|from| next(from, to))?;
            vec![Edit::of(mix, "release", bumped)]
        }
        false => {
            return Err(Error::Project(format!(
                "`{}` has neither `rebar.config` nor `mix.exs`; run this where the project lies",
                dir.display()
            )));
        }
    };
    let release = &edits[0];
    if version::compare(&release.to, &release.from).is_le() {
        return Err(Error::Project(format!("`{}` is not newer than `{}`", release.to, release.from)));
    }
    Ok(edits)
}

fn next(from: &str, to: &Target) -> Option<String> {
    match to {
        Target::Level(level) => version::increase(from, *level),
        Target::Exactly(version) => Some(version.clone()),
    }
}

fn rebar(dir: &Path, profile: &str, to: &Target) -> Result<Vec<Edit>, Error> {
    let project = Project::open(dir, profile)?;
    let config = project.dir.join("rebar.config");
    let text = fs::read_to_string(&config).map_err(Error::io("reading", &config))?;
    let release = Edit::of(config, "release", bump_release(&text, &|from| next(from, to))?);
    let mut edits = Vec::new();
    for app in &project.apps {
        edits.extend(app_edit(&project, app, &release, to)?);
    }
    edits.insert(0, release);
    Ok(edits)
}

fn app_edit(project: &Project, app: &ProjectApp, release: &Edit, to: &Target) -> Result<Option<Edit>, Error> {
    // `{vsn, git}` and the like move by themselves
    let Some(version) = &app.version else { return Ok(None) };
    let lockstep = *version == release.from;
    if !lockstep && git::changed_since(&app.dir, &project.version, SOURCES)? == Some(false) {
        return Ok(None);
    }
    let level = match to {
        Target::Level(level) => *level,
        Target::Exactly(_) => Level::Patch,
    };
    let next = |from: &str| if lockstep { Some(release.to.clone()) } else { version::increase(from, level) };
    let src = app.dir.join("src");
    let entries = fs::read_dir(&src).map_err(Error::io("reading", &src))?;
    let app_src =
        entries.flatten().map(|entry| entry.path()).find(|path| path.to_string_lossy().ends_with(".app.src"));
    let path = app_src.unwrap_or_else(|| src.join(format!("{}.app.src", app.name)));
    let text = fs::read_to_string(&path).map_err(Error::io("reading", &path))?;
    Ok(Some(Edit::of(path, &app.name, bump_app(&text, &next)?)))
}

/// What ends up in an application's package.
const SOURCES: &[&str] = &["src", "include", "priv", "c_src", "ebin", "lib"];

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, file: &str, text: &str) {
        let path = dir.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn commit(repository: &git2::Repository, tag: Option<&str>) {
        let who = git2::Signature::new("t", "t@localhost", &git2::Time::new(0, 0)).unwrap();
        let mut index = repository.index().unwrap();
        index.add_all(["*"], git2::IndexAddOption::DEFAULT, None).unwrap();
        index.write().unwrap();
        let tree = repository.find_tree(index.write_tree().unwrap()).unwrap();
        let parent = repository.head().ok().map(|head| head.peel_to_commit().unwrap());
        let parents: Vec<_> = parent.iter().collect();
        let commit = repository.commit(Some("HEAD"), &who, &who, "x", &tree, &parents).unwrap();
        if let Some(tag) = tag {
            repository.tag_lightweight(tag, &repository.find_object(commit, None).unwrap(), false).unwrap();
        }
    }

    fn seen(edits: &[Edit]) -> Vec<(&str, &str, &str)> {
        edits.iter().map(|edit| (&*edit.of, &*edit.from, &*edit.to)).collect()
    }

    #[test]
    fn applications_move_with_the_release_or_when_they_changed() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        write(root, "rebar.config", "%% ours\n{relx, [{release, {a, \"1.0.0\"},   [a]}]}.\n");
        for (app, vsn) in [("a", "\"1.0.0\""), ("b", "\"0.4.1\""), ("c", "\"0.7.0\""), ("d", "git")] {
            let text = format!("{{application, {app}, [{{vsn, {vsn}}}]}}.\n");
            write(root, &format!("apps/{app}/src/{app}.app.src"), &text);
        }
        let level = |level| bump(root, "default", &Target::Level(level)).unwrap();
        let all = [
            ("release", "1.0.0", "1.1.0"),
            ("a", "1.0.0", "1.1.0"),
            ("b", "0.4.1", "0.5.0"),
            ("c", "0.7.0", "0.8.0"),
        ];
        assert_eq!(seen(&level(Level::Minor)), all, "without git nobody knows what changed");
        let repository = git2::Repository::init(root).unwrap();
        commit(&repository, Some("v1.0.0"));
        assert_eq!(seen(&level(Level::Patch)), [("release", "1.0.0", "1.0.1"), ("a", "1.0.0", "1.0.1")]);
        write(root, "apps/b/src/b.erl", "-module(b).\n");
        write(root, "apps/c/README.md", "words");
        let edits = bump(root, "default", &Target::Exactly("2.0.0-rc.1".into())).unwrap();
        assert_eq!(
            seen(&edits),
            [("release", "1.0.0", "2.0.0-rc.1"), ("a", "1.0.0", "2.0.0-rc.1"), ("b", "0.4.1", "0.4.2")]
        );
        edits.iter().for_each(|edit| edit.write().unwrap());
        let text = fs::read_to_string(root.join("rebar.config")).unwrap();
        assert_eq!(text, "%% ours\n{relx, [{release, {a, \"2.0.0-rc.1\"},   [a]}]}.\n");
    }

    #[test]
    fn what_is_no_newer_version_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "mix.exs", "  version: \"0.2.0\",\n");
        let bump =
            |to: &str| bump(dir.path(), "default", &Target::Exactly(to.into())).map_err(|e| e.to_string());
        assert_eq!(seen(&bump("0.3.0").unwrap()), [("release", "0.2.0", "0.3.0")]);
        assert!(bump("0.2.0").unwrap_err().contains("is not newer than"));
        assert!(bump("0.3.0;id").unwrap_err().contains("is no version"));
        assert!(bump("../1").unwrap_err().contains("is no version"));
    }
}
