//! The project as its `rebar.config` and `*.app.src` files plainly say, and the edits of their versions.
//!
//! Nothing is evaluated: a `rebar.config.script` may say otherwise, which shows when the build is compared
//! with what was read here.

use std::{
    fs,
    path::{Path, PathBuf},
};

use regex::Regex;

use super::{
    Error,
    erlang::{Term, text},
    mix::{Mix, MixFile},
};

/// A release project that rebar3 or mix builds.
#[derive(Debug, Clone, PartialEq)]
pub struct Project {
    /// The directory with `rebar.config` or `mix.exs`, absolute.
    pub dir: PathBuf,
    /// The rebar3 profile, or `MIX_ENV`; `default` is none.
    pub profile: String,
    /// The release's name.
    pub name: String,
    /// The release's version.
    pub version: String,
    /// The project's own applications; those of mix are not known.
    pub apps: Vec<ProjectApp>,
    /// How mix builds it; `None`: rebar3 does.
    pub mix: Option<Mix>,
}

/// An application in the project's sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectApp {
    /// Its name.
    pub name: String,
    /// Its directory, absolute.
    pub dir: PathBuf,
    /// `vsn` of its `.app.src`, if that is written out (and not `git` or `{cmd, ...}`).
    pub version: Option<String>,
}

impl Project {
    /// Reads the project in `dir` for a rebar3 profile (`default` for none; several with commas).
    ///
    /// # Errors
    /// A file is missing or doesn't parse; there is no release, or more than one; its version is not written
    /// out.
    pub fn open(dir: &Path, profile: &str) -> Result<Project, Error> {
        if is_mix(dir) {
            return Self::open_mix(dir, profile, &Mix::default(), (None, None));
        }
        Self::read(dir, profile, version_text)
    }

    /// Reads the project, whose version comes from elsewhere than `rebar.config` (`{cmd, ...}`, a script).
    ///
    /// # Errors
    /// As [`Project::open`]; the version can't be a file name.
    pub fn open_as(dir: &Path, profile: &str, version: &str) -> Result<Project, Error> {
        if !is_path_component(version) {
            return Err(Error::Project(format!("`{version}` is no release version")));
        }
        if is_mix(dir) {
            return Self::open_mix(dir, profile, &Mix::default(), (None, Some(version)));
        }
        Self::read(dir, profile, |_, _| Ok(version.to_owned()))
    }

    /// Reads the project in `dir` that mix builds for `MIX_ENV` `profile`. Its release's name and version are what is
    /// given, else those of `mix.exs`.
    ///
    /// # Errors
    /// `mix.exs` is missing or computes what has to be known; they can't be file names.
    pub fn open_mix(
        dir: &Path,
        profile: &str,
        how: &Mix,
        (name, version): (Option<&str>, Option<&str>),
    ) -> Result<Project, Error> {
        let dir = dir.canonicalize().map_err(Error::io("opening the project", dir))?;
        let (name, version) = match (name, version) {
            (Some(name), Some(version)) => (name.to_owned(), version.to_owned()),
            (name, version) => {
                let file = MixFile::read(&dir)?;
                (name.map_or(file.app, str::to_owned), version.map_or(file.version, str::to_owned))
            }
        };
        if let Some(odd) = [&name, &version].into_iter().find(|text| !is_path_component(text)) {
            return Err(Error::Project(format!("`{odd}` is no name or version of a release")));
        }
        let (profile, mix) = (checked(profile)?.to_owned(), Some(how.clone()));
        Ok(Project { dir, profile, name, version, apps: Vec::new(), mix })
    }

    /// Whether its build may have to fetch something: dependencies or plugins.
    pub(super) fn fetches(&self) -> bool {
        let fetched = |config: &Term| {
            ["deps", "plugins", "project_plugins"].into_iter().any(|key| {
                config.property(key).is_some_and(|all| all.as_list().is_none_or(|all| !all.is_empty()))
            })
        };
        let Ok(config) = read_config(&self.dir) else { return true };
        let profiles = config.property("profiles");
        let profiles = profiles.as_ref().and_then(Term::as_list).unwrap_or_default();
        let of_profiles = profiles.iter().filter_map(|profile| profile.as_tuple()?.get(1));
        self.mix.is_some() || fetched(&config) || of_profiles.into_iter().any(fetched)
    }

    fn read(
        dir: &Path,
        profile: &str,
        version_of: impl Fn(&Path, &Term) -> Result<String, Error>,
    ) -> Result<Project, Error> {
        let profile = checked(profile)?;
        let dir = dir.canonicalize().map_err(Error::io("opening the project", dir))?;
        let config = read_config(&dir)?;
        let (name, version) = release(&config, profile)?;
        let version = version_of(&dir, &version)?;
        let apps = apps(&dir, &config)?;
        Ok(Project { dir, profile: profile.to_owned(), name, version, apps, mix: None })
    }
}

fn is_mix(dir: &Path) -> bool {
    !dir.join("rebar.config").exists() && dir.join("mix.exs").exists()
}

fn checked(profile: &str) -> Result<&str, Error> {
    let word = |c: char| c.is_ascii_alphanumeric() || "_-,".contains(c);
    if profile.is_empty() || profile.starts_with(['-', ',']) || !profile.chars().all(word) {
        return Err(Error::Project(format!("`{profile}` is no rebar3 profile and no `MIX_ENV`")));
    }
    Ok(profile)
}

fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(Error::io("reading", path))
}

fn read_config(dir: &Path) -> Result<Term, Error> {
    let path = dir.join("rebar.config");
    let source = read(&path)?;
    let terms = text::parse(&source).map_err(|e| Error::text(&path.display().to_string(), &e))?;
    Ok(Term::List(terms))
}

/// The relx settings of the profiles, last first, then the plain ones.
fn relx_settings(config: &Term, profile: &str) -> Vec<Term> {
    let profiles = config.property("profiles");
    let of_profile = |name| profiles.as_ref().and_then(|all| all.property(name)?.property("relx"));
    profile.split(',').rev().filter_map(of_profile).chain(config.property("relx")).collect()
}

fn release(config: &Term, profile: &str) -> Result<(String, Term), Error> {
    for settings in relx_settings(config, profile) {
        let mut found = Vec::new();
        for item in settings.as_list().unwrap_or_default() {
            let [tag, head, ..] = item.as_tuple().unwrap_or_default() else { continue };
            let ("release", Some([name, version])) = (tag.as_atom().unwrap_or_default(), head.as_tuple())
            else {
                continue;
            };
            found.extend(name.as_atom().map(|name| (name.to_owned(), version.clone())));
        }
        let default =
            settings.as_list().unwrap_or_default().iter().find_map(|item| match item.as_tuple()? {
                [tag, name, _] if tag.as_atom() == Some("default_release") => {
                    name.as_atom().map(str::to_owned)
                }
                _ => None,
            });
        if let Some(default) = default {
            found.retain(|(name, _)| *name == default);
        }
        match found.len() {
            0 => {}
            1 => return Ok(found.remove(0)),
            _ => {
                let names: Vec<String> = found.iter().map(|(name, _)| format!("`{name}`")).collect();
                return Err(Error::Project(format!(
                    "`rebar.config` has several releases ({}); name one by `{{default_release, NAME, VSN}}`",
                    names.join(", ")
                )));
            }
        }
    }
    Err(Error::Project(
        "`rebar.config` has no release; add `{relx, [{release, {NAME, \"VSN\"}, [NAME, sasl]}]}`".to_owned(),
    ))
}

fn version_text(dir: &Path, version: &Term) -> Result<String, Error> {
    if let Some([tag, file]) = version.as_tuple()
        && let (Some("file"), Some(file)) = (tag.as_atom(), file.text())
    {
        return Ok(read(&dir.join(file))?.trim().to_owned());
    }
    version.text().filter(|text| is_path_component(text)).ok_or_else(|| {
        Error::Project(format!(
            "the release version `{version}` in `rebar.config` is not written out; write it as a string, such as \
             `\"1.0.0\"`"
        ))
    })
}

/// A version becomes a file name everywhere, so it has to be good for one.
pub(super) fn is_path_component(text: &str) -> bool {
    !text.is_empty() && !text.starts_with('.') && !text.contains(['/', '\\', '\0', '\n'])
}

fn apps(dir: &Path, config: &Term) -> Result<Vec<ProjectApp>, Error> {
    let patterns = match config.property("project_app_dirs") {
        Some(dirs) => dirs.as_list().unwrap_or_default().iter().filter_map(Term::text).collect(),
        None => ["apps/*", "lib/*", "."].map(str::to_owned).to_vec(),
    };
    let mut apps = Vec::new();
    for pattern in patterns {
        for candidate in expand(dir, &pattern) {
            apps.extend(app_in(&candidate)?);
        }
    }
    apps.sort_by(|a: &ProjectApp, b| a.name.cmp(&b.name));
    apps.dedup_by(|a, b| a.dir == b.dir);
    Ok(apps)
}

fn expand(dir: &Path, pattern: &str) -> Vec<PathBuf> {
    let Some(parent) = pattern.strip_suffix('*') else { return vec![dir.join(pattern)] };
    let entries = fs::read_dir(dir.join(parent)).into_iter().flatten().flatten();
    let mut dirs: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    dirs.sort();
    dirs
}

fn app_in(dir: &Path) -> Result<Option<ProjectApp>, Error> {
    let entries = fs::read_dir(dir.join("src")).into_iter().flatten().flatten();
    let source = entries.map(|entry| entry.path()).find(|path| path.to_string_lossy().ends_with(".app.src"));
    let Some(path) = source else { return Ok(None) };
    let file = path.display().to_string();
    let term = text::parse_one(&read(&path)?).map_err(|e| Error::text(&file, &e))?;
    let Some([_, name, keys]) = term.as_tuple() else {
        return Err(Error::document(file, "it is not `{application, NAME, [...]}`"));
    };
    let name = name.as_atom().ok_or_else(|| Error::document(&file, "the application's name is no atom"))?;
    let version = keys.property("vsn").and_then(|vsn| vsn.text());
    let dir = dir.canonicalize().map_err(Error::io("opening", dir))?;
    Ok(Some(ProjectApp { name: name.to_owned(), dir, version }))
}

/// A version edited in a source text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bumped {
    /// The whole new text.
    pub text: String,
    /// The version before.
    pub from: String,
    /// The version after.
    pub to: String,
}

/// The version after a version; none when there is none.
pub type Next<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Replaces the release version in the text of a `rebar.config`: on the line marked `%% release_vsn`, else in
/// the one tuple `{release, {NAME, "VSN"}`. Everything else stays as it is.
///
/// # Errors
/// There is no such place, or more than one, or no next version.
pub fn bump_release(config: &str, next: Next<'_>) -> Result<Bumped, Error> {
    let marked: Vec<&str> = config.lines().filter(|line| line.contains("%% release_vsn")).collect();
    if marked.is_empty() {
        let pattern = r#"\{\s*release\s*,\s*\{\s*[\w']+\s*,\s*"([^"]*)""#;
        return bump_match(config, &without_comments(config, '%'), pattern, "`rebar.config`", next);
    }
    let [line] = marked[..] else {
        return Err(Error::Project("several lines of `rebar.config` are marked `%% release_vsn`".to_owned()));
    };
    let others = |other: &str| if other == line { other.to_owned() } else { " ".repeat(other.len()) };
    let only: Vec<String> = config.split('\n').map(|other| others(other.trim_end_matches('\r'))).collect();
    bump_match(config, &only.join("\n"), r#""([^"]*)"[^"]*%% release_vsn"#, "`rebar.config`", next)
}

/// Replaces `vsn` in the text of an `.app.src` file. Everything else stays as it is.
///
/// # Errors
/// There is no written-out `vsn`, or no next version.
pub fn bump_app(app_src: &str, next: Next<'_>) -> Result<Bumped, Error> {
    bump_match(
        app_src,
        &without_comments(app_src, '%'),
        r#"\{\s*vsn\s*,\s*"([^"]*)""#,
        "the `.app.src` file",
        next,
    )
}

/// Replaces the project's version in the text of a `mix.exs`: `@version "VSN"`, else the one `version: "VSN"`.
///
/// # Errors
/// There is no such place, or more than one, or no next version.
pub fn bump_mix(mix: &str, next: Next<'_>) -> Result<Bumped, Error> {
    let attribute = r#"(?m)^\s*@version\s+"([^"]*)""#;
    let plain = without_comments(mix, '#');
    match bump_match(mix, &plain, attribute, "`mix.exs`", next) {
        Err(_) if !mix.contains("@version \"") => {
            bump_match(mix, &plain, r#"\bversion:\s*"([^"]*)""#, "`mix.exs`", next)
        }
        result => result,
    }
}

/// The text with comments blanked out, every other byte where it was.
fn without_comments(text: &str, mark: char) -> String {
    let (mut out, mut quoted, mut comment, mut escaped) =
        (String::with_capacity(text.len()), false, false, false);
    for c in text.chars() {
        comment = c != '\n' && (comment || !quoted && c == mark);
        if c == '"' && !comment && !escaped {
            quoted = !quoted;
        }
        escaped = c == '\\' && !escaped;
        if comment { out.extend(std::iter::repeat_n(' ', c.len_utf8())) } else { out.push(c) }
    }
    out
}

/// Finds the version in `part`, which is `text` with everything blanked out that does not count.
fn bump_match(text: &str, part: &str, pattern: &str, file: &str, next: Next<'_>) -> Result<Bumped, Error> {
    let regex = Regex::new(pattern).map_err(|e| Error::Project(e.to_string()))?;
    let mut found = regex.captures_iter(part).filter_map(|captures| captures.get(1));
    let (Some(old), None) = (found.next(), found.next()) else {
        return Err(Error::Project(format!("{file} has no single written-out version to change")));
    };
    let to = next(old.as_str()).ok_or_else(|| {
        Error::Project(format!("the version `{}` in {file} has no such number to increase", old.as_str()))
    })?;
    let (before, after) = (&text[..old.start()], &text[old.end()..]);
    Ok(Bumped { text: format!("{before}{to}{after}"), from: old.as_str().to_owned(), to })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(config: &str, profile: &str) -> Result<Project, String> {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("rebar.config"), config).unwrap();
        fs::create_dir_all(dir.path().join("apps/a/src")).unwrap();
        fs::create_dir_all(dir.path().join("src")).unwrap();
        fs::write(dir.path().join("apps/a/src/a.app.src"), "{application, a, [{vsn, git}]}.").unwrap();
        fs::write(dir.path().join("src/b.app.src"), "{application, b, [{vsn, \"0.1.0\"}]}.").unwrap();
        fs::write(dir.path().join("VERSION"), "7.1\n").unwrap();
        Project::open(dir.path(), profile).map_err(|e| e.to_string())
    }

    #[test]
    fn name_and_version_are_read_from_relx_and_the_profile_goes_first() {
        let config = r#"{relx, [{release, {a, "1.0"}, [a]}]}.
            {profiles, [{dev, [{relx, [{release, {a, "1.0-dev"}, [a]}]}]}, {prod, [{relx, [{dev_mode, false}]}]}]}."#;
        for (profile, expected) in
            [("default", "1.0"), ("dev", "1.0-dev"), ("prod", "1.0"), ("dev,prod", "1.0-dev")]
        {
            let project = project(config, profile).unwrap();
            assert_eq!((&*project.name, &*project.version), ("a", expected), "{profile}");
            let apps: Vec<_> = project.apps.iter().map(|app| (&*app.name, app.version.as_deref())).collect();
            assert_eq!(apps, [("a", None), ("b", Some("0.1.0"))]);
        }
        let from_file = r#"{relx, [{release, {a, {file, "VERSION"}}, [a]}]}."#;
        assert_eq!(project(from_file, "default").unwrap().version, "7.1");
        let two =
            r#"{relx, [{release, {a, "1"}, [a]}, {release, {b, "2"}, [b]}, {default_release, b, "2"}]}."#;
        assert_eq!(project(two, "default").unwrap().name, "b");
    }

    #[test]
    fn what_can_t_be_read_plainly_says_what_to_write() {
        let cases = [
            ("{deps, []}.", "default", "`rebar.config` has no release; add"),
            (
                "{relx, [{release, {a, git}, []}]}.",
                "default",
                "the release version `git` in `rebar.config` is not",
            ),
            ("{relx, [{release, {a, \"../1\"}, []}]}.", "default", "the release version `\"../1\"`"),
            (
                "{relx, [{release, {a, \"1\"}, []}, {release, {b, \"1\"}, []}]}.",
                "default",
                "`rebar.config` has several releases (`a`, `b`)",
            ),
            ("{relx, [", "default", "`"),
            ("", "a b", "`a b` is no rebar3 profile"),
        ];
        for (config, profile, expected) in cases {
            let error = project(config, profile).unwrap_err();
            assert!(error.starts_with(expected), "{config}: {error}");
        }
    }

    #[test]
    fn bumping_changes_the_version_and_nothing_else() {
        let marked =
            "{deps, [{x, \"1.0\"}]}.\n{relx, [{release, {urf,\n  \"0.1.9\" %% release_vsn\n  }, [urf]}]}.\n";
        let last = |version: &str| super::super::version::bump(version);
        let bumped = bump_release(marked, &last).unwrap();
        assert_eq!((&*bumped.from, &*bumped.to), ("0.1.9", "0.1.10"));
        assert_eq!(bumped.text, marked.replace("0.1.9", "0.1.10"));
        let two = "{relx, [{release, {a, \"1\"}, []}, {release, {b, \"1\"}, []}]}.";
        assert!(bump_release(two, &last).is_err());
        let commented = "%% {release, {old, \"7\"}\n{relx, [{release, {urf, \"1\"}, []}]}.";
        assert_eq!(bump_release(commented, &last).unwrap().to, "2");
        assert!(bump_release("{relx, [{release, {urf, git}, []}]}.", &last).is_err());
        assert_eq!(bump_app("{application, a, [{vsn, \"0.1.0\"}]}.", &last).unwrap().to, "0.1.1");
        assert!(bump_app("{application, a, [{vsn, git}]}.", &last).is_err());
        let mix =
            "defmodule A do\n  def project, do: [app: :a, # version: \"9\"\n    version: \"0.1.0\"]\nend\n";
        assert_eq!(bump_mix(mix, &last).unwrap().text, mix.replace("0.1.0", "0.1.1"));
        let attribute = "  @version \"1.0.0\"\n  version: @version, x: [version: \"2\"]\n";
        assert_eq!(bump_mix(attribute, &last).unwrap().text, attribute.replace("1.0.0", "1.0.1"));
        assert!(bump_mix("version: \"1\"\nversion: \"2\"", &last).is_err());
    }
}
