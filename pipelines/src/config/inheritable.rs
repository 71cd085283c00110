//! The keywords that jobs inherit: `default`, the old top-level form of some, and the jobs' own.

use super::check::{Entry, Findings, Path, ROOT, texts};
use super::inherit::Inheritance;
use super::types::CacheConfig;
use super::{artifacts, cache, image, retry, script, tokens};
use crate::diagnostic::Diagnostic;
use crate::plan::{Artifacts, Hooks, Image, Retry, Service};
use crate::yaml::{Mapping, Node};
use serde_json::Value as Json;

/// Keywords of `default`.
pub(super) const KEYS: [&str; 13] = [
    "before_script",
    "image",
    "services",
    "after_script",
    "hooks",
    "cache",
    "interruptible",
    "timeout",
    "retry",
    "tags",
    "artifacts",
    "id_tokens",
    "identity",
];
/// Those that may stand at the top level instead; the order decides which conflict is reported.
const TOP_LEVEL: [&str; 5] = ["before_script", "image", "services", "after_script", "cache"];
/// Rails' month: what GitLab takes for the longest timeout.
const TIMEOUT_LIMIT: f64 = 2_629_746.0;

/// The inheritable keywords of a job or of `default`. None: not given, or null.
#[derive(Clone, Debug, Default)]
pub(super) struct Inheritable {
    pub(super) before_script: Option<Vec<String>>,
    pub(super) image: Option<Image>,
    pub(super) services: Option<Vec<Service>>,
    pub(super) after_script: Option<Vec<String>>,
    pub(super) hooks: Option<Hooks>,
    pub(super) cache: Option<Vec<CacheConfig>>,
    pub(super) interruptible: Option<bool>,
    pub(super) retry: Option<Retry>,
    pub(super) tags: Option<Vec<String>>,
    pub(super) artifacts: Option<Artifacts>,
    pub(super) id_tokens: Option<Json>,
}

impl Inheritable {
    /// Reads those of `keys` that a map has.
    pub(super) fn read(
        map: &Mapping,
        path: &Path<'_>,
        findings: &mut Findings<'_>,
        keys: &[&str],
    ) -> Inheritable {
        let mut read = Inheritable::default();
        for key in keys {
            if let Some(node) = map.get(key).filter(|n| !n.is_null()) {
                read.keyword(key, node, &path.child(key), findings);
            }
        }
        read
    }

    fn keyword(&mut self, key: &str, node: &Node, at: &Path<'_>, findings: &mut Findings<'_>) {
        match key {
            "before_script" => self.before_script = Some(script::commands(node, at, findings)),
            "after_script" => self.after_script = Some(script::commands(node, at, findings)),
            "image" => self.image = Some(image::image(node, at, findings)),
            "services" => self.services = Some(image::services(node, at, findings)),
            "hooks" => self.hooks = Some(script::hooks(node, at, findings)),
            "cache" => self.cache = Some(cache::caches(node, at, findings)),
            "interruptible" => self.interruptible = Some(cache::boolean(node, at, findings)),
            "retry" => self.retry = Some(retry::retry(node, findings)),
            "tags" => self.tags = Some(tags(node, at, findings)),
            "artifacts" => self.artifacts = Some(artifacts::artifacts(node, at, findings)),
            "id_tokens" => {
                tokens::id_tokens(node, at, findings);
                self.id_tokens = Some(node.to_json());
            }
            "identity" => tokens::identity(node, at, findings),
            // only a job's own timeout has an effect: GitLab reads it nowhere else
            "timeout" => Entry::new(node, at, findings).duration("config", TIMEOUT_LIMIT),
            _ => {}
        }
    }

    /// Fills what is missing from `defaults`, as far as the job inherits it.
    pub(super) fn inherit(&mut self, defaults: &Inheritable, inheritance: &Inheritance) {
        fn fill<T: Clone>(own: &mut Option<T>, default: &Option<T>, takes: bool) {
            if own.is_none() && takes {
                own.clone_from(default);
            }
        }
        let takes = |key| inheritance.takes(key);
        fill(&mut self.before_script, &defaults.before_script, takes("before_script"));
        fill(&mut self.image, &defaults.image, takes("image"));
        fill(&mut self.services, &defaults.services, takes("services"));
        fill(&mut self.after_script, &defaults.after_script, takes("after_script"));
        fill(&mut self.hooks, &defaults.hooks, takes("hooks"));
        fill(&mut self.cache, &defaults.cache, takes("cache"));
        fill(&mut self.interruptible, &defaults.interruptible, takes("interruptible"));
        fill(&mut self.retry, &defaults.retry, takes("retry"));
        fill(&mut self.tags, &defaults.tags, takes("tags"));
        fill(&mut self.artifacts, &defaults.artifacts, takes("artifacts"));
        fill(&mut self.id_tokens, &defaults.id_tokens, takes("id_tokens"));
    }
}

/// `default` over the old top-level keywords. None: one keyword is in both, which ends all checking.
pub(super) fn defaults(
    root: &Mapping,
    node: Option<&Node>,
    findings: &mut Findings<'_>,
) -> Option<Inheritable> {
    let top = Inheritable::read(root, &ROOT, findings, &TOP_LEVEL);
    let Some(node) = node.filter(|n| !n.is_null()) else { return Some(top) };
    let path = ROOT.child("default");
    let mark = findings.mark();
    let mut entry = Entry::new(node, &path, findings);
    entry.hash();
    entry.allowed_keys(&KEYS);
    let sound = entry.valid;
    let Some(map) = node.as_mapping() else { return Some(top) };
    let before = findings.look_on(sound, node.span, mark);
    if !sound {
        Inheritable::read(map, &path, findings, &KEYS);
        findings.look_back(&before);
        return Some(top);
    }
    let given = |map: &Mapping, key: &str| map.entry(key).filter(|e| !e.node.is_null()).map(|e| e.key_span);
    for key in TOP_LEVEL {
        if let (Some(above), Some(here)) = (given(root, key), given(map, key)) {
            let text = format!("{key} is defined in top-level and `default:` entry");
            let diagnostic = Diagnostic::error("conflict", text).at(above, "").at(here, "");
            findings.replace_all(diagnostic.help(format!("keep `{key}` in `default` only")));
            return None;
        }
    }
    let mut defaults = Inheritable::read(map, &path, findings, &KEYS);
    defaults.inherit(&top, &Inheritance::default());
    Some(defaults)
}

fn tags(node: &Node, path: &Path<'_>, findings: &mut Findings<'_>) -> Vec<String> {
    let mut entry = Entry::new(node, path, findings);
    entry.strings("config");
    if node.as_sequence().is_some_and(|items| items.len() >= 50) {
        entry.fail("too-long", "config", "must be less than the limit of 50 tags");
    }
    texts(node)
}
