//! The `release` step, after a script that succeeded: what GitLab's API would be sent, checked and written to
//! `release.json` in the attempt's directory. Nothing leaves this machine.

use super::attempt::Attempt;
use super::outcome::End;
use crate::archive::{self, Selection};
use crate::executor::Execution;
use crate::variables::Variables;
use pipelines::status::FailureReason;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use std::io::Seek;

/// Name of the file in an attempt's directory.
pub const RELEASE: &str = "release.json";
/// GitLab's limit of a description.
const LONGEST_DESCRIPTION: usize = 1_000_000;

/// What GitLab's `POST /projects/:id/releases` takes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Of the tag that is made when it is not there.
    pub tag_name: String,
    /// Makes the tag an annotated one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag_message: Option<String>,
    /// Title.
    pub name: String,
    /// Markdown.
    pub description: String,
    /// Commit, branch or tag that the tag is made at.
    #[serde(rename = "ref")]
    pub reference: String,
    /// Titles.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub milestones: Vec<String>,
    /// ISO 8601.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released_at: Option<String>,
    /// `{"links": [..]}`.
    #[serde(default, skip_serializing_if = "Assets::is_empty")]
    pub assets: Assets,
}

/// What is attached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assets {
    /// Links; GitLab keeps no files here.
    pub links: Vec<Link>,
}

impl Assets {
    fn is_empty(&self) -> bool {
        self.links.is_empty()
    }
}

/// One asset.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Unique in the release.
    pub name: String,
    /// `https://...`
    pub url: String,
    /// `direct_asset_path`: begins with a slash.
    #[serde(default, rename = "direct_asset_path", skip_serializing_if = "Option::is_none")]
    pub filepath: Option<String>,
    /// `other`, `runbook`, `image`, `package`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_type: Option<String>,
}

impl Release {
    /// What `release:` of a job asks for, with the job's variables.
    pub fn of(asked: &Json, variables: &Variables) -> Release {
        let text = |value: &Json| variables.expand(value.as_str().unwrap_or_default());
        let field = |key: &str| asked.get(key).map(text).filter(|text| !text.trim().is_empty());
        let list = |key: &str| match asked.get(key) {
            Some(Json::Array(items)) => items.iter().map(text).collect(),
            Some(one) => vec![text(one)],
            None => Vec::new(),
        };
        let tag_name = field("tag_name").unwrap_or_default();
        let links =
            asked.pointer("/assets/links").and_then(Json::as_array).into_iter().flatten().map(|link| {
                let field = |key: &str| link.get(key).map(text).filter(|text| !text.trim().is_empty());
                Link {
                    name: field("name").unwrap_or_default(),
                    url: field("url").unwrap_or_default(),
                    filepath: field("filepath"),
                    link_type: field("link_type"),
                }
            });
        Release {
            name: field("name").unwrap_or_else(|| tag_name.clone()),
            description: field("description").unwrap_or_default(),
            reference: field("ref")
                .or_else(|| variables.get("CI_COMMIT_SHA").map(str::to_owned))
                .unwrap_or_default(),
            tag_message: field("tag_message"),
            milestones: list("milestones"),
            released_at: field("released_at"),
            assets: Assets { links: links.collect() },
            tag_name,
        }
    }

    /// Would GitLab take it?
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self) -> Result<(), String> {
        if self.tag_name.is_empty() {
            return Err("`tag_name` is empty after expansion".to_owned());
        }
        if !is_tag(&self.tag_name) {
            return Err(format!("`{}` can't be the name of a tag", self.tag_name));
        }
        if self.description.trim().is_empty() {
            return Err("`description` is empty".to_owned());
        }
        if self.description.len() > LONGEST_DESCRIPTION {
            return Err(format!("`description` is longer than {LONGEST_DESCRIPTION} bytes"));
        }
        if let Some(time) = &self.released_at {
            let known = time.parse::<jiff::Timestamp>().is_ok() || time.parse::<jiff::civil::Date>().is_ok();
            if !known {
                return Err(format!(
                    "`released_at` is `{time}`: ISO 8601 is expected, as `2026-01-31T12:00:00Z`"
                ));
            }
        }
        let links = &self.assets.links;
        for (index, link) in links.iter().enumerate() {
            if link.name.is_empty() || !(link.url.starts_with("https://") || link.url.starts_with("http://"))
            {
                return Err(format!("asset {} needs a `name` and an http(s) `url`", index + 1));
            }
            if link.filepath.as_ref().is_some_and(|path| !path.starts_with('/')) {
                return Err(format!("`filepath` of asset `{}` must begin with a slash", link.name));
            }
            if links[..index].iter().any(|other| other.name == link.name || other.url == link.url) {
                return Err(format!("asset `{}` is there twice", link.name));
            }
        }
        Ok(())
    }
}

impl Attempt<'_> {
    /// Makes the release's document; a release that GitLab would refuse fails the job.
    pub(super) async fn release(&mut self, execution: &mut Execution) -> Result<(), End> {
        let Some(asked) = &self.spec.job.work.release else { return Ok(()) };
        self.log.section("release", "Making the release");
        let mut release = Release::of(asked, &self.variables);
        if let Some(text) = self.description_file(execution, &release.description).await? {
            release.description = text;
        }
        if let Err(why) = release.check() {
            let message = format!("the release can't be made: {why}");
            return Err(End::Failed { reason: FailureReason::ScriptFailure, exit_code: None, message });
        }
        let path = self.spec.dir().join(RELEASE);
        let written = serde_json::to_vec_pretty(&release).map_err(std::io::Error::from);
        written
            .and_then(|text| std::fs::write(&path, text))
            .map_err(|error| End::system(format!("writing `{}`: {error}", path.display())))?;
        self.say(&format!("Release {} of tag {} at {}", release.name, release.tag_name, release.reference));
        for link in &release.assets.links {
            self.say(&format!("  asset {}: {}", link.name, link.url));
        }
        self.say(&format!("GitLab would get what is in `{RELEASE}` beside this log; nothing was sent"));
        Ok(())
    }

    /// The text of the file that the description names, if it names one of the project's.
    async fn description_file(
        &mut self,
        execution: &mut Execution,
        text: &str,
    ) -> Result<Option<String>, End> {
        // a name, not prose: globs mean nothing here
        let name = text.trim();
        if name.is_empty() || name.len() > 255 || name.contains(['\n', '*', '?', '[', '{']) {
            return Ok(None);
        }
        let failed = |error: std::io::Error| End::system(format!("reading the description: {error}"));
        let mut archive = tempfile::tempfile().map_err(failed)?;
        let selection = Selection { paths: vec![name.to_owned()], ..Selection::default() };
        execution.pack(selection, archive.try_clone().map_err(failed)?).await?;
        archive.rewind().map_err(failed)?;
        let files = archive::entries(archive, LONGEST_DESCRIPTION as u64 + 1)
            .map_err(|error| End::system(error.to_string()))?;
        let Some((path, content)) = files.into_iter().next() else { return Ok(None) };
        self.say(&format!("The description is the text of {}", path.display()));
        Ok(Some(String::from_utf8_lossy(&content).into_owned()))
    }
}

/// git's rules for names of refs.
fn is_tag(name: &str) -> bool {
    let parts =
        name.split('/').all(|part| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock"));
    parts
        && !name.ends_with('.')
        && !name.starts_with('-')
        && name != "@"
        && !name.contains("..")
        && !name.contains("@{")
        && !name.contains([' ', '~', '^', ':', '?', '*', '[', '\\'])
        && !name.contains(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_gitlab_would_refuse_is_refused() {
        let link = |name: &str, url: &str| Link { name: name.into(), url: url.into(), ..Link::default() };
        let good = Release {
            tag_name: "v1.0".into(),
            description: "text".into(),
            assets: Assets { links: vec![link("a", "https://x/a")] },
            ..Release::default()
        };
        assert_eq!(good.check(), Ok(()));
        let wrong = |change: &dyn Fn(&mut Release), says: &str| {
            let mut release = good.clone();
            change(&mut release);
            let why = release.check().unwrap_err();
            assert!(why.contains(says), "{why}");
        };
        wrong(&|r| r.tag_name.clear(), "tag_name");
        wrong(&|r| r.tag_name = "v 1".into(), "`v 1`");
        wrong(&|r| r.description = " ".into(), "description");
        wrong(&|r| r.released_at = Some("tomorrow".into()), "tomorrow");
        wrong(&|r| r.assets.links.push(link("b", "ftp://x")), "asset 2");
        wrong(&|r| r.assets.links.push(link("a", "https://x/b")), "twice");
        wrong(&|r| r.assets.links[0].filepath = Some("bin/x".into()), "slash");
    }
}
