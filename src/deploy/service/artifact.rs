//! The package of an archive or of `mix release`: built here, read to its end and checked before it is sent.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::deploy::error::Error;
use crate::deploy::file::{Kind, ReleaseSettings, VersionSource};
use crate::deploy::version;
use crate::error::CliResult;
use crate::ledger::Entry;
use crate::ledger::packages::{self, Whole};
use crate::release::Plain;
use crate::release::mix::{self, MixFile};
use crate::release::tree::{self, Contents, IGNORED};

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
        let read = || MixFile::read(project).map_err(|error| Error::refused(error.to_string()));
        let mix = (kind == Kind::Elixir).then(read).transpose()?;
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

    /// What lies on a target under this version.
    pub(super) fn there(name: &str, version: &str, kind: Kind, tree: String) -> Artifact {
        let (name, version) = (name.to_owned(), version.to_owned());
        let (path, sha256, notes) = (PathBuf::new(), String::new(), Vec::new());
        Artifact { name, version, kind, path, sha256, tree, size: 0, notes }
    }

    /// The kept package of a version, with this content.
    ///
    /// # Errors
    /// It is not kept, or damaged.
    pub fn kept(entries: &[Entry], version: &str, content: &str, kind: Kind) -> CliResult<Artifact> {
        let released = crate::promotion::released(entries, version, content)?;
        let Plain { path, name, version, sha256, content, size } = packages::open_plain(released)?;
        Ok(Artifact { name, version, kind, path, sha256, tree: content, size, notes: Vec::new() })
    }

    /// For the project's store and ledger.
    #[must_use]
    pub fn whole(&self) -> Whole {
        let Artifact { name, version, path, sha256, tree, size, .. } = self.clone();
        let plain = Plain { path: path.clone(), name, version, sha256, content: tree, size };
        Whole { path, appups: Vec::new(), plain: Some(plain), package: None, recipe: None }
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
        let profile = mix::environment(profile);
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
        let contents = Contents::read(&path, IGNORED).map_err(|error| Error::refused(error.to_string()))?;
        let mut notes = Vec::new();
        if kind == Kind::Elixir {
            let has = |file: &str| contents.paths.iter().any(|path| path == file);
            if !has(&format!("releases/{version}/start.boot")) || !has(&format!("bin/{name}")) {
                return Err(Error::refused(format!(
                    "the package holds no release `{name}` `{version}` (bin/{name}, releases/{version}/start.boot)"
                ))
                .help("`version:` in mix.exs or in `releases:` there has to be the version that is deployed"));
            }
            notes.push("what its `service:` starts is restarted, never upgraded hot".to_owned());
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
}
