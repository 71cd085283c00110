//! `stages` and `stage`.

use super::check::{Entry, Findings, Path, ROOT, flatten, is_nested};
use super::ruby;
use crate::yaml::Node;
use std::collections::HashMap;

/// The stages as GitLab keeps them.
#[derive(Clone, Debug, Default)]
pub(super) struct Stages {
    /// In order, duplicates and symbols included: what messages list.
    pub(super) listed: Vec<String>,
    /// First position of each name that a job can choose; a symbol is not equal to any job's text.
    pub(super) index: HashMap<String, usize>,
}

impl Stages {
    /// Stages without duplicates.
    pub(super) fn unique(&self) -> Vec<String> {
        let first = |(i, name): &(usize, &String)| self.index.get(*name) == Some(i);
        self.listed.iter().enumerate().filter(first).map(|(_, name)| name.clone()).collect()
    }

    fn add(&mut self, name: &str, symbol: bool) {
        if !symbol {
            self.index.entry(name.to_owned()).or_insert(self.listed.len());
        }
        self.listed.push(name.to_owned());
    }
}

/// Top-level `stages`; `.pre` and `.post` go to the ends wherever they were written.
pub(super) fn stages(node: Option<&Node>, findings: &mut Findings<'_>) -> Stages {
    let mut stages = Stages::default();
    let Some(node) = node.filter(|n| !n.is_null()) else {
        [".pre", "build", "test", "deploy", ".post"].iter().for_each(|name| stages.add(name, false));
        return stages;
    };
    if !is_nested(node, 10, &ruby::is_text) {
        let message = "should be an array of strings or a nested array of strings up to 10 levels deep";
        Entry::new(node, &ROOT.child("stages"), findings).fail("wrong-type", "config", message);
        return stages;
    }
    let top = node.as_sequence().unwrap_or_default();
    if top.is_empty() {
        return stages;
    }
    stages.add(".pre", false);
    for item in top.iter().filter(|n| !(ruby::is_string(n) && is_edge(n))) {
        let mut flat = Vec::new();
        flatten(item, &mut flat);
        for name in flat {
            stages.add(name.as_str().unwrap_or_default(), !ruby::is_string(name));
        }
    }
    stages.add(".post", false);
    stages
}

fn is_edge(node: &Node) -> bool {
    matches!(node.as_str(), Some(".pre" | ".post"))
}

/// A job's `stage`.
pub(super) fn stage(node: &Node, path: &Path<'_>, findings: &mut Findings<'_>) -> String {
    Entry::new(node, path, findings).required_string("config");
    node.as_str().unwrap_or_default().to_owned()
}
