//! A file to its finished content: header, inputs, nested includes, deep merge.

use super::location::{Kind, Location};
use super::source::{Component, Content};
use super::unused;
use crate::diagnostic::Diagnostic;
use crate::inputs::{self, Given, Header, Values};
use crate::merge::deep_merge;
use crate::request::{Files, Request};
use crate::source::{FileId, SourceMap, Span};
use crate::variables::Scope;
use crate::yaml::{self, Mapping, Node, Value};
use std::sync::Arc;

const MAX_INCLUDES: usize = 150;
const MAX_TOTAL_BYTES: usize = 314_572_800;
const MAX_MASKED_SIGN: usize = 8;

/// Where the includes of a file look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// In the project itself, at the commit of the request.
    Own,
    /// In another project, at the commit that the file came from (none: its HEAD).
    Project { project: String, sha: Option<String> },
    /// In no project: the file came from an address or is a template. Variables do not exist either.
    Nowhere,
}

/// Loads one configuration.
pub(crate) struct Loader<'a> {
    pub(crate) request: &'a Request,
    pub(crate) files: &'a dyn Files,
    /// Everything that an include may refer to.
    pub(crate) scope: &'a Scope<'a>,
    pub(crate) sources: SourceMap,
    /// Findings that end nothing.
    pub(crate) findings: Vec<Diagnostic>,
    /// What GitLab stops at.
    failure: Option<Diagnostic>,
    /// Everything that went wrong with includes, that one among them.
    failures: Vec<Diagnostic>,
    /// Are there too many files to go on?
    exhausted: bool,
    included: usize,
    bytes: usize,
}

/// A file about to be read as configuration.
pub(crate) struct File<'a> {
    pub(crate) id: FileId,
    pub(crate) origin: &'a Origin,
    pub(crate) given: &'a Given,
    component: Option<&'a Component>,
}

impl<'a> Loader<'a> {
    pub(crate) fn new(request: &'a Request, files: &'a dyn Files, scope: &'a Scope<'a>) -> Loader<'a> {
        Loader {
            request,
            files,
            scope,
            sources: SourceMap::new(),
            findings: Vec::new(),
            failure: None,
            failures: Vec::new(),
            exhausted: false,
            included: 0,
            bytes: 0,
        }
    }

    /// The root file's content, everything included merged in as far as it could be had: see
    /// [`Loader::take_failures`].
    ///
    /// # Errors
    /// Something is wrong with the root file itself.
    pub(crate) fn root(&mut self, id: FileId) -> Result<Node, Diagnostic> {
        let given = inputs::from_texts(&self.request.inputs, Span::new(id, 0, 0));
        let file = File { id, origin: &Origin::Own, given: &given, component: None };
        let content = self.content(&file).map_err(|error| match (error.code, &error.help) {
            ("input", None) => error.help("inputs are given by `--input NAME=VALUE`, or in `trigger:inputs`"),
            _ => error,
        })?;
        let expanded = self.expand(&content, &Origin::Own);
        let Some(include) = expanded.as_mapping().and_then(|mapping| mapping.get("include")) else {
            return Ok(expanded);
        };
        if self.failure.is_none() {
            self.findings.extend(unused::check(include));
        }
        Ok(without_include(&expanded))
    }

    /// What is wrong with includes: what GitLab stops at, and everything else; none: nothing is.
    pub(crate) fn take_failures(&mut self) -> Option<(Diagnostic, Vec<Diagnostic>)> {
        let first = self.failure.take()?;
        let mut others = std::mem::take(&mut self.failures);
        others.retain(|other| *other != first);
        Some((first, others))
    }

    pub(super) fn is_own(&self, project: &str) -> bool {
        project.to_lowercase() == self.request.project.to_lowercase()
    }

    /// Unexpanded value of a variable, as far as files of this origin know variables.
    pub(super) fn variable(&self, name: &str, origin: &Origin) -> Option<String> {
        if *origin == Origin::Nowhere { None } else { self.scope.value(name) }
    }

    /// A text for a message, without the values of masked variables.
    pub(super) fn masked(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (_, variable) in self.scope.iter().filter(|(_, v)| v.masked && !v.value.is_empty()) {
            let width = variable.value.chars().count();
            let sign = match width.checked_sub(MAX_MASKED_SIGN) {
                Some(rest) => format!("[MASKED]{}", "x".repeat(rest)),
                None => "x".repeat(width),
            };
            text = text.replace(&variable.value, &sign);
        }
        text
    }

    /// One file's own content: parsed, inputs in their places.
    fn content(&mut self, file: &File<'_>) -> Result<Node, Diagnostic> {
        let text = self.sources.file(file.id).text.clone();
        let documents = yaml::parse(&text, file.id, &mut self.findings)?;
        let start = Span::new(file.id, 0, 0);
        let header = match documents.first().and_then(Node::as_mapping) {
            Some(first) if documents.len() > 1 && first.get("spec").is_some() => first,
            _ if !file.given.is_empty() => {
                let message =
                    "Given inputs not defined in the `spec` section of the included configuration file";
                let span = file.given.first().map_or(start, |(_, node)| node.span);
                return Err(Diagnostic::error("input", message).at(span, ""));
            }
            _ => {
                let empty = || Node::new(Value::Mapping(Arc::default()), start);
                return Ok(documents.into_iter().next().unwrap_or_else(empty));
            }
        };
        let header = self.header(header, file)?;
        let lookup = |name: &str| self.variable(name, file.origin);
        let values = inputs::resolve(&header, file.given, &lookup)?;
        let scope = inputs::Scope {
            inputs: &values,
            component: &component_values(&header, file.component, start),
            lookup: &lookup,
            is_masked: &|name| self.scope.get(name).is_some_and(|variable| variable.masked),
        };
        inputs::interpolate(documents.last().unwrap_or(&documents[0]), &scope)
    }

    /// The checked header, with the inputs of `spec:include` before its own.
    fn header(&mut self, document: &Mapping, file: &File<'_>) -> Result<Header, Diagnostic> {
        let mut header = Header::read(document)?;
        let Some(include) = header.include.take() else { return Ok(header) };
        let error = |message: &str, span| Err(Diagnostic::error("header", message).at(span, ""));
        if file.component.is_some() {
            return error("header:spec include is not supported in components", include.span);
        }
        let mut inputs = Vec::new();
        for location in self.locations(&include, file.origin)? {
            if !matches!(location.kind, Kind::Local | Kind::Remote { .. } | Kind::Project { .. }) {
                return error("header:spec:include config must be local, remote or project", location.span);
            }
            self.check_place(&location)?;
            let (id, _) = self.take_in(&location, file.origin)?;
            let text = self.sources.file(id).text.clone();
            let documents =
                yaml::parse(&text, id, &mut self.findings).map_err(|e| self.blame(&location, e))?;
            if let Some(mapping) = documents.first().and_then(Node::as_mapping) {
                inputs.extend(inputs::read_shared(mapping).map_err(|error| self.blame(&location, error))?);
            }
        }
        for input in &header.inputs {
            if let Some(first) = inputs.iter().find(|other: &&inputs::Input| other.name == input.name) {
                let message = format!("duplicate input `{}` in `spec:include` and `spec:inputs`", input.name);
                return Err(Diagnostic::error("header", message)
                    .at(input.span, "")
                    .at(first.span, "first defined here"));
            }
        }
        inputs.append(&mut header.inputs);
        // among included files the later definition wins
        let mut unique = indexmap::IndexMap::new();
        for input in inputs {
            unique.insert(input.name.clone(), input);
        }
        header.inputs = unique.into_values().collect();
        Ok(header)
    }

    /// The content with its includes merged in, below its own keys. Without files it stays as it is.
    fn expand(&mut self, content: &Node, origin: &Origin) -> Node {
        let Some(own) = content.as_mapping() else { return content.clone() };
        let Some(include) = own.get("include") else { return content.clone() };
        let locations = match self.locations(include, origin) {
            Ok(locations) => locations,
            Err(failure) => {
                self.failures.push(failure.clone());
                self.failure.get_or_insert(failure);
                Vec::new()
            }
        };
        if locations.is_empty() {
            return content.clone();
        }
        let mut merged = Mapping::default();
        for file in self.files_of(&locations, origin) {
            if let Some(mapping) = file.as_mapping() {
                deep_merge(&mut merged, mapping);
            }
        }
        deep_merge(&mut merged, own);
        without_include(&Node::new(Value::Mapping(Arc::new(merged)), content.span))
    }

    /// GitLab looks at all places before it reads the first file; then a file's own failure waits until all are
    /// read, while a failure in a nested include ends everything. We read on, to know of all failures at once.
    fn files_of(&mut self, locations: &[Location], origin: &Origin) -> Vec<Node> {
        if self.exhausted {
            return Vec::new();
        }
        let (mut sound, mut failures) = (Vec::new(), Vec::new());
        for location in locations {
            self.included += 1;
            if self.included > MAX_INCLUDES {
                self.exhaust(location);
                return Vec::new();
            }
            match self.check_place(location) {
                Ok(()) => sound.push(location),
                Err(failure) => failures.push(failure),
            }
        }
        let mut contents = Vec::with_capacity(sound.len());
        for location in sound {
            let file = self.own_content(location, origin);
            match file.and_then(|(content, origin)| self.finish(location, &content, &origin)) {
                Ok(content) => contents.push(content),
                Err(failure) => failures.push(failure),
            }
        }
        if let Some(first) = failures.first() {
            self.failure.get_or_insert_with(|| first.clone());
        }
        self.failures.append(&mut failures);
        contents
    }

    fn exhaust(&mut self, location: &Location) {
        let message = format!("Maximum of {MAX_INCLUDES} nested includes are allowed!");
        let failure = Diagnostic::error("include-limit", message)
            .at(location.span, "one too many")
            .help("files that are included twice count twice: does a file include itself?");
        self.exhausted = true;
        self.failure.get_or_insert(failure);
    }

    /// The file with its nested includes.
    fn finish(&mut self, location: &Location, content: &Node, origin: &Origin) -> Result<Node, Diagnostic> {
        let known = self.failures.len();
        let expanded = self.expand(content, origin);
        let has_failed = self.exhausted || self.failures.len() > known;
        if expanded.as_mapping().is_none_or(Mapping::is_empty) && !has_failed {
            let name = self.masked(&location.name);
            let message = format!("Included file `{name}` does not have valid YAML syntax!");
            return Err(Diagnostic::error("include-file", message)
                .at(location.span, "")
                .help("the file has no keys at all"));
        }
        Ok(expanded)
    }

    fn own_content(&mut self, location: &Location, origin: &Origin) -> Result<(Node, Origin), Diagnostic> {
        let (id, content) = self.take_in(location, origin)?;
        let file = File {
            id,
            origin: &content.origin,
            given: &location.inputs,
            component: content.component.as_ref(),
        };
        let node = self.content(&file).map_err(|error| self.blame(location, error))?;
        Ok((node, content.origin))
    }

    /// Reads a file into the source map.
    fn take_in(&mut self, location: &Location, origin: &Origin) -> Result<(FileId, Content), Diagnostic> {
        let content = self.read(location, origin)?;
        self.bytes = self.bytes.saturating_add(content.text.len());
        if self.bytes > MAX_TOTAL_BYTES {
            return Err(Diagnostic::error(
                "include-limit",
                "Total size of combined CI/CD configuration is too big",
            )
            .at(location.span, ""));
        }
        let id = self.sources.add(content.name.clone(), content.text.clone(), Some(location.span));
        Ok((id, content))
    }

    /// Names the file in a message about its content, as GitLab does.
    fn blame(&self, location: &Location, error: Diagnostic) -> Diagnostic {
        if error.code == "reference" {
            return error; // GitLab finds these after all files are merged
        }
        let message = format!("`{}`: {}", self.masked(&location.name), error.message);
        Diagnostic { message, ..error }
    }
}

fn component_values(header: &Header, component: Option<&Component>, span: Span) -> Values {
    let Some(component) = component else { return Values::new() };
    let value = |key: &str| match key {
        "name" => Some(component.name.clone()),
        "reference" => Some(component.reference.clone()),
        "sha" => component.sha.clone(),
        _ => component.version.clone(),
    };
    let node = |key: &Arc<str>| match value(key) {
        Some(text) => Node::string(text, span),
        None => Node::new(Value::Null, span),
    };
    header.component.iter().map(|key| (key.clone(), node(key))).collect()
}

fn without_include(node: &Node) -> Node {
    let Some(mapping) = node.as_mapping() else { return node.clone() };
    let mut mapping = mapping.clone();
    mapping.entries.shift_remove(&yaml::Key::from("include"));
    Node::new(Value::Mapping(Arc::new(mapping)), node.span)
}
