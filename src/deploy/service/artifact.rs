//! The package of an archive or of `mix release`: built here, read to its end and checked before it is sent.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::deploy::error::Error;
use crate::deploy::file::{Kind, ReleaseSettings, VersionSource};
use crate::deploy::version;
use crate::release::tree::{self, Contents};

/// A package that is ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// Release name.
    pub name: String,
    /// Release version.
    pub version: String,
    /// How it was built.
    pub kind: Kind,
    /// The tarball.
    pub path: PathBuf,
    /// SHA-256 of it, hexadecimal.
    pub sha256: String,
    /// SHA-256 of what it holds, whenever it was packed.
    pub tree: String,
    /// Its size in bytes.
    pub size: u64,
    /// What the plan says about it, as why it can't be upgraded hot.
    pub notes: Vec<String>,
}

impl Artifact {
    /// Name and version, without a build.
    ///
    /// # Errors
    /// They can't be told, or would be no names of directories.
    pub fn identity(
        project: &Path,
        release: &ReleaseSettings,
        kind: Kind,
    ) -> Result<(String, String), Error> {
        let mix = (kind == Kind::Elixir).then(|| Mix::read(project)).transpose()?;
        let directory = || {
            let path = project.canonicalize().ok()?;
            Some(path.file_name()?.to_string_lossy().into_owned())
        };
        let name =
            release.name.clone().or_else(|| mix.as_ref().map(|mix| mix.app.clone())).or_else(directory);
        let name =
            name.ok_or_else(|| Error::refused("the release has no name").help("set `release: name`"))?;
        let version = match (&release.version, &mix) {
            (Some(source), _) => version::find(source, project)?,
            (None, Some(mix)) => mix.version.clone(),
            (None, None) => version::find(&VersionSource::Git, project)?,
        };
        for (what, text) in [("name", &name), ("version", &version)] {
            if !is_plain(text) {
                return Err(Error::refused(format!("the release's {what} is `{}`", text.escape_debug()))
                    .help("it becomes part of a path: letters, digits and `.`, `_`, `+`, `-`, `~`, beginning with a letter or digit"));
            }
        }
        Ok((name, version))
    }

    /// Builds the package and checks it.
    ///
    /// # Errors
    /// The build fails; the package is not where it should be, or not safe to unpack.
    pub async fn build(
        project: &Path,
        release: &ReleaseSettings,
        kind: Kind,
        profile: &str,
    ) -> Result<Artifact, Error> {
        let (name, version) = Self::identity(project, release, kind)?;
        let profile = if profile == "default" { "prod" } else { profile };
        let environment = [("MIX_ENV", profile), ("NAME", name.as_str()), ("VERSION", version.as_str())];
        for command in &release.build {
            shell(project, command, &environment).await?;
        }
        if kind == Kind::Elixir && release.build.is_empty() {
            shell(project, r#"mix release "$NAME" --overwrite"#, &environment).await?;
        }
        let written =
            release.package.as_ref().map(|path| path.replace("{name}", &name).replace("{version}", &version));
        let path = match (&written, kind) {
            (Some(written), _) => project.join(written),
            (None, Kind::Elixir) => {
                let tree = project.join(format!("_build/{profile}/rel/{name}"));
                pack(&tree, &project.join(format!("_build/slipway/{name}-{version}.tar.gz")))?
            }
            (None, _) => {
                return Err(Error::refused("the archive's package is not named")
                    .help("set `release: package`, as `dist/{name}-{version}.tar.gz`"));
            }
        };
        let secret = if kind == Kind::Elixir { &["releases/COOKIE"][..] } else { &[] };
        let contents = Contents::read(&path, secret).map_err(|error| Error::refused(error.to_string()))?;
        let mut notes = Vec::new();
        if kind == Kind::Elixir {
            let has = |file: &str| contents.paths.iter().any(|path| path == file);
            if !has(&format!("releases/{version}/start.boot")) || !has(&format!("bin/{name}")) {
                return Err(Error::refused(format!(
                    "the package holds no release `{name}` `{version}` (bin/{name}, releases/{version}/start.boot)"
                ))
                .help("`version:` in mix.exs or in `releases:` there has to be the version that is deployed"));
            }
            notes.push(cold(&contents.paths, &version));
        }
        Ok(Artifact {
            name,
            version,
            kind,
            path,
            sha256: contents.sha256,
            tree: contents.tree,
            size: contents.size,
            notes,
        })
    }
}

/// Why a `mix release` is restarted.
fn cold(paths: &[String], version: &str) -> String {
    let has = |file: &str| paths.iter().any(|path| path == file);
    let mut missing = Vec::new();
    if !has(&format!("releases/{version}/relup")) {
        missing.push("a relup");
    }
    if !has("releases/RELEASES") {
        missing.push("releases/RELEASES");
    }
    if !paths.iter().any(|path| path.starts_with("lib/sasl-")) {
        missing.push("the application sasl");
    }
    if missing.is_empty() {
        return "hot upgrades of `mix release` packages are not built yet, though this one has a relup"
            .to_owned();
    }
    format!("no hot upgrade: the package lacks {}", missing.join(", "))
}

/// What mix.exs says in plain literals.
struct Mix {
    app: String,
    version: String,
}

impl Mix {
    fn read(project: &Path) -> Result<Mix, Error> {
        let path = project.join("mix.exs");
        let text = std::fs::read_to_string(&path)
            .map_err(|e| Error::refused(format!("reading `{}`: {e}", path.display())))?;
        let find = |pattern: &str| {
            let pattern = regex::Regex::new(pattern).expect("the pattern is constant");
            pattern.captures(&text).map(|found| found[1].to_owned())
        };
        let app = find(r"(?m)^[^#\n]*\bapp:\s*:([a-z_][a-zA-Z0-9_]*)");
        let version =
            find(r#"(?m)^[^#\n]*\bversion:\s*"([^"]+)""#).or_else(|| find(r#"(?m)^\s*@version\s+"([^"]+)""#));
        match (app, version) {
            (Some(app), Some(version)) => Ok(Mix { app, version }),
            _ => Err(Error::refused("mix.exs has no literal `app:` and `version:`")
                .help("set `release: name` and `release: version` in .ci/deploy.yml")),
        }
    }
}

/// Runs a command of the project in its directory; its standard output.
async fn shell(project: &Path, command: &str, environment: &[(&str, &str)]) -> Result<String, Error> {
    let output = tokio::process::Command::new("sh")
        .args(["-c", command])
        .current_dir(project)
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| Error::failed(format!("cannot run `sh`: {error}")))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let said = if stderr.trim().is_empty() { stdout.as_str() } else { &*stderr };
    let said = crate::deploy::ssh::last_lines(said, 6);
    Err(Error::failed(format!("`{command}` failed ({}): {said}", output.status))
        .help("nothing was sent to the target; mend the build, then deploy again"))
}

/// The same tree gives the same bytes.
fn pack(directory: &Path, to: &Path) -> Result<PathBuf, Error> {
    tree::pack(directory, to).map_err(|error| Error::failed(error.to_string()))?;
    Ok(to.to_owned())
}

fn is_plain(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.len() <= 128
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "._+-~".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_words_become_directories() {
        for (text, plain) in [
            ("1.2.3-rc1+5~x", true),
            ("", false),
            ("..", false),
            ("a/b", false),
            ("-rf", false),
            ("$(id)", false),
            ("a b", false),
        ] {
            assert_eq!(is_plain(text), plain, "{text}");
        }
    }

    #[test]
    fn mix_exs_is_read_without_elixir() {
        let directory = tempfile::tempdir().unwrap();
        for (text, expected) in [
            ("[\n# version: \"9\"\napp: :shop,\n      version: \"0.1.0\",", Some(("shop", "0.1.0"))),
            ("@version \"2.0.0\"\n[app: :shop, version: @version]", Some(("shop", "2.0.0"))),
            ("[app: :shop, version: version()]", None),
        ] {
            std::fs::write(directory.path().join("mix.exs"), text).unwrap();
            let read = Mix::read(directory.path()).ok();
            assert_eq!(read.as_ref().map(|mix| (mix.app.as_str(), mix.version.as_str())), expected, "{text}");
        }
    }

    #[test]
    fn a_plan_says_why_a_mix_release_is_restarted() {
        let note = cold(&["lib/sasl-4.2/ebin/sasl.app".into()], "1.0.0");
        assert_eq!(note, "no hot upgrade: the package lacks a relup, releases/RELEASES");
    }
}
