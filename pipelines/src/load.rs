//! The front half: a root file to one tree, ready to be checked.
//!
//! ```text
//! text -> documents -> inputs -> include (each file through the same steps) -> deep merge -> extends -> !reference
//! ```
//!
//! GitLab ends here with one message, the first. What else can be known is found as well, for people.

use crate::diagnostic::Diagnostic;
use crate::include::Loader;
use crate::merge;
use crate::reference;
use crate::request::{Files, Request};
use crate::source::{SourceMap, Span};
use crate::variables::{Layer, Scope, Variable, predefined};
use crate::yaml::Node;

/// What became of a configuration.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// All files that were read, the root file first.
    pub sources: SourceMap,
    /// The merged configuration, a mapping without `include` and `!reference`; none after an error that ends loading.
    pub root: Option<Node>,
    /// After an error: what is left of the configuration, to look for further mistakes. Never for a plan.
    pub partial: Option<Partial>,
    /// Errors and hints. There can be errors with a root, too: checks go on then.
    pub diagnostics: Vec<Diagnostic>,
}

/// A configuration without what is wrong with its includes, `extends` and references.
#[derive(Clone, Debug)]
pub struct Partial {
    /// What is left.
    pub root: Node,
    /// Is everything there that was included? If not, jobs, stages and parts of jobs may be missing.
    pub complete: bool,
}

/// Loads the configuration whose root file is at `path`.
pub fn load(request: &Request, files: &dyn Files, path: &str) -> Loaded {
    let layers = layers(request);
    let scope = Scope::new(layers.iter().collect());
    let mut loader = Loader::new(request, files, &scope);
    let merged = read_root(&mut loader, path);
    let failures = loader.take_failures();
    let mut diagnostics = loader.findings;
    let (root, partial) = match (merged, failures) {
        (Err(error), _) => {
            diagnostics.insert(0, error);
            (None, None)
        }
        (Ok(merged), Some((first, others))) => {
            diagnostics.insert(0, first);
            diagnostics.extend(others.into_iter().map(beyond));
            let left = partial::sound_part(&merged, &mut Vec::new());
            (None, left.map(|root| Partial { root, complete: false }))
        }
        (Ok(merged), None) => match resolved(&merged) {
            Ok(root) => (Some(root), None),
            Err(error) => {
                let mut found = Vec::new();
                let left = partial::sound_part(&merged, &mut found);
                found.retain(|other| *other != error);
                diagnostics.insert(0, error);
                diagnostics.extend(found.into_iter().map(beyond));
                (None, left.map(|root| Partial { root, complete: true }))
            }
        },
    };
    Loaded { sources: loader.sources, root, partial, diagnostics }
}

/// GitLab has stopped before it could see this one.
fn beyond(diagnostic: Diagnostic) -> Diagnostic {
    Diagnostic { gitlab: false, ..diagnostic }
}

fn resolved(root: &Node) -> Result<Node, Diagnostic> {
    reference::resolve(&merge::extend(root)?)
}

/// The root file with everything included merged in.
fn read_root(loader: &mut Loader<'_>, path: &str) -> Result<Node, Diagnostic> {
    let empty = || Diagnostic::error("config-empty", "Please provide content of .gitlab-ci.yml");
    let text = match loader.files.read(path) {
        Ok(Some(text)) => text,
        Ok(None) => return Err(empty().help(format!("there is no file `{path}`"))),
        Err(why) => {
            let message = format!("`{path}` can't be read: {why}");
            return Err(Diagnostic::error("config-unreadable", message));
        }
    };
    let id = loader.sources.add(path, text.clone(), None);
    if text.trim().is_empty() {
        return Err(empty().at(Span::new(id, 0, 0), "the file is empty"));
    }
    loader.root(id)
}

/// The variables that exist before the configuration is read, lowest precedence first.
fn layers(request: &Request) -> [Layer; 3] {
    let predefined = predefined(request).into_iter().map(|(name, value)| (name, Variable::raw(value)));
    let project = request.project_variables.iter().filter(|variable| variable.environment_scope == "*");
    let project = project.map(|variable| {
        let value = variable.value.clone();
        let file = variable.file;
        (variable.key.clone(), Variable { value, raw: variable.raw, masked: variable.masked, file })
    });
    [predefined.collect(), project.collect(), request.pipeline_variables().collect()]
}

mod partial;
#[cfg(test)]
mod tests;
