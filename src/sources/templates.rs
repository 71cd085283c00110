//! `include:template`: the files that `ci` brings along.

/// Names and texts, by name.
const ALL: [(&str, &str); 7] = [
    ("Docker-Build.gitlab-ci.yml", include_str!("../../pipelines/templates/Docker-Build.gitlab-ci.yml")),
    ("Elixir-Release.gitlab-ci.yml", include_str!("../../pipelines/templates/Elixir-Release.gitlab-ci.yml")),
    ("Erlang-Release.gitlab-ci.yml", include_str!("../../pipelines/templates/Erlang-Release.gitlab-ci.yml")),
    ("Go.gitlab-ci.yml", include_str!("../../pipelines/templates/Go.gitlab-ci.yml")),
    ("Node.gitlab-ci.yml", include_str!("../../pipelines/templates/Node.gitlab-ci.yml")),
    ("Python.gitlab-ci.yml", include_str!("../../pipelines/templates/Python.gitlab-ci.yml")),
    ("Rust.gitlab-ci.yml", include_str!("../../pipelines/templates/Rust.gitlab-ci.yml")),
];

/// Text of a template.
pub(crate) fn text(name: &str) -> Option<&'static str> {
    ALL.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// All names.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|(name, _)| *name)
}
