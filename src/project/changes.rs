//! Which paths changed: the set that `rules:changes` is about.

use super::Project;
use git2::{DiffOptions, Oid};
use std::path::Path;

/// What to compare with.
#[derive(Clone, Debug)]
pub enum Base {
    /// The merge base with the upstream branch, else with this branch.
    Upstream(String),
    /// The merge base with this ref.
    Since(String),
}

impl Project {
    /// Paths that differ between the base and the work tree (or the commit, when `committed`). None: there is
    /// nothing to compare with, or nothing differs because the branch has nothing of its own yet; GitLab
    /// then takes `changes` for true, as for a new branch.
    ///
    /// # Errors
    /// `Base::Since` names nothing, or git's files can't be read.
    pub fn changed_paths(
        &self,
        base: &Base,
        branch: &str,
        sha: &str,
        committed: bool,
    ) -> Result<Option<Vec<String>>, git2::Error> {
        let head = Oid::from_str(sha)?;
        let (other, asked) = match base {
            Base::Since(name) => {
                (Some(self.repository().revparse_single(name)?.peel_to_commit()?.id()), true)
            }
            Base::Upstream(default) => (self.upstream(branch, default), false),
        };
        let Some(other) = other else { return Ok(None) };
        let Ok(base) = self.repository().merge_base(other, head) else { return Ok(None) };
        let base_tree = self.repository().find_commit(base)?.tree()?;
        let mut options = DiffOptions::new();
        options.include_untracked(true).recurse_untracked_dirs(true);
        let diff = if committed {
            let tree = self.repository().find_commit(head)?.tree()?;
            self.repository().diff_tree_to_tree(Some(&base_tree), Some(&tree), Some(&mut options))?
        } else {
            self.repository().diff_tree_to_workdir_with_index(Some(&base_tree), Some(&mut options))?
        };
        let text = |p: Option<&Path>| p.map(|p| p.to_string_lossy().into_owned());
        let mut paths: Vec<String> = diff
            .deltas()
            .flat_map(|delta| [text(delta.old_file().path()), text(delta.new_file().path())])
            .flatten()
            .collect();
        paths.sort_unstable();
        paths.dedup();
        Ok((asked || !paths.is_empty()).then_some(paths))
    }

    /// Commit that a merge request from `sha` into `target` starts from.
    pub fn merge_base(&self, sha: &str, target: &str) -> Option<String> {
        let names = [format!("refs/remotes/origin/{target}"), format!("refs/heads/{target}")];
        let target = names.iter().find_map(|name| self.repository().find_reference(name).ok()?.target())?;
        let base = self.repository().merge_base(target, Oid::from_str(sha).ok()?).ok()?;
        Some(base.to_string())
    }

    fn upstream(&self, branch: &str, default: &str) -> Option<Oid> {
        let local = self.repository().find_branch(branch, git2::BranchType::Local).ok();
        let upstream = local.and_then(|b| b.upstream().ok()).and_then(|u| u.get().target());
        let names = [format!("refs/remotes/origin/{default}"), format!("refs/heads/{default}")];
        upstream.or_else(|| {
            (branch != default)
                .then(|| names.iter().find_map(|n| self.repository().find_reference(n).ok()?.target()))
                .flatten()
        })
    }
}
