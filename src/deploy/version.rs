//! Where the version of a release comes from, when `release: {version: ...}` says so.

use std::path::Path;
use std::process::{Command, Stdio};

use super::error::Error;
use super::file::VersionSource;

/// The version of the project in `directory`.
///
/// # Errors
/// Git has no tag; the file can't be read; the command fails; what they say is no version.
pub(crate) fn find(source: &VersionSource, directory: &Path) -> Result<String, Error> {
    let (said, by) = match source {
        VersionSource::Git => (describe(directory)?, "`git describe --tags`".to_owned()),
        VersionSource::File(path) => {
            let shown = path.display();
            let text = std::fs::read_to_string(directory.join(path))
                .map_err(|e| Error::failed(format!("reading the release's version from `{shown}`: {e}")))?;
            (text, format!("`{shown}`"))
        }
        VersionSource::Command(command) => (command_says(command, directory)?, format!("`{command}`")),
    };
    let version = said.lines().next().unwrap_or_default().trim();
    let version = match source {
        VersionSource::Git => version.strip_prefix('v').unwrap_or(version),
        _ => version,
    };
    let allowed = |c: char| c.is_ascii_alphanumeric() || ".-+_~".contains(c);
    if version.is_empty() || version.starts_with(['.', '-']) || !version.chars().all(allowed) {
        return Err(Error::failed(format!(
            "{by} says `{}`, which is no release version",
            version.escape_debug()
        ))
        .help("a version is of letters, digits and `.-+_~`, as `1.2.0` or `1.2.0-5-g3f2a1bc`"));
    }
    Ok(version.to_owned())
}

fn describe(directory: &Path) -> Result<String, Error> {
    let said = git2::Repository::discover(directory).and_then(|repository| {
        repository.describe(git2::DescribeOptions::new().describe_tags())?.format(None)
    });
    said.map_err(|e| {
        Error::failed(format!("asking git for the release's version: {}", e.message())).help(
            "tag a commit before this one (`git tag v1.0.0`), and fetch the tags (in CI `GIT_DEPTH: 0`)",
        )
    })
}

fn command_says(command: &str, directory: &Path) -> Result<String, Error> {
    let failed =
        |what: String| Error::failed(format!("asking `{command}` for the release's version: {what}"));
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(command).current_dir(directory).stdin(Stdio::null());
    let output = shell.output().map_err(|e| failed(e.to_string()))?;
    if !output.status.success() {
        let said = super::ssh::last_lines(&String::from_utf8_lossy(&output.stderr), 3);
        return Err(failed(format!("{} {said}", output.status)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_comes_from_git_a_file_or_a_command() {
        let directory = tempfile::tempdir().unwrap();
        let dir = directory.path();
        let git = |arguments: &[&str]| {
            let mut git = Command::new("git");
            git.args(["-c", "user.name=t", "-c", "user.email=t@localhost", "-C"]).arg(dir).args(arguments);
            assert!(git.output().unwrap().status.success(), "{arguments:?}");
        };
        git(&["init", "-q"]);
        git(&["commit", "-q", "--allow-empty", "-m", "one"]);
        assert!(find(&VersionSource::Git, dir).unwrap_err().help.unwrap().contains("git tag"));
        git(&["tag", "v1.2.0-rc1"]);
        assert_eq!(find(&VersionSource::Git, dir).unwrap(), "1.2.0-rc1");
        git(&["commit", "-q", "--allow-empty", "-m", "two"]);
        assert!(find(&VersionSource::Git, dir).unwrap().starts_with("1.2.0-rc1-1-g"));

        std::fs::write(dir.join("VERSION"), "2.0.0 \nmore\n").unwrap();
        assert_eq!(find(&VersionSource::File("VERSION".into()), dir).unwrap(), "2.0.0");
        assert_eq!(find(&VersionSource::Command("echo 3.0".into()), dir).unwrap(), "3.0");
        for command in ["exit 3", "true", "echo '../x'", "echo 'a b'", "echo '$(id)'"] {
            assert!(find(&VersionSource::Command(command.into()), dir).is_err(), "{command}");
        }
    }
}
