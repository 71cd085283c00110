//! The templates of several languages as one file.

use super::Language;
use crate::sources::template;
use std::collections::HashSet;
use std::fmt::Write as _;

/// Text of the `.gitlab-ci.yml` for these languages.
pub fn compose(languages: &[Language]) -> String {
    let (mut variables, mut jobs, mut used) = (String::new(), String::new(), Vec::new());
    let mut stages: Vec<String> = Vec::new();
    for language in languages {
        let text = with_defaults(template(language.template).unwrap_or_default());
        if languages.len() > 1 {
            let _ = write!(jobs, "\n# {}\n", language.name);
        }
        for (key, block) in blocks(&text) {
            match key {
                "variables" => variables.extend(block.lines().skip(1).map(|line| format!("{line}\n"))),
                "stages" => {
                    let names =
                        block.trim().trim_start_matches("stages: [").trim_end_matches(']').split(", ");
                    stages.extend(names.map(str::to_owned));
                }
                job if language.without.contains(&job) => {}
                _ => {
                    let stage = block.lines().find_map(|line| line.strip_prefix("  stage: "));
                    used.extend(stage.map(str::to_owned));
                    let _ = write!(jobs, "\n{block}");
                }
            }
        }
    }
    // a template without a list uses GitLab's own stages
    stages.extend(used.iter().cloned());
    let mut seen = HashSet::new();
    stages.retain(|stage| used.contains(stage) && seen.insert(stage.clone()));
    let names: Vec<&str> = languages.iter().map(|language| language.name).collect();
    let mut text = format!(
        "# {}: a beginning made by `ci init`. `ci plan` shows when which job runs, `ci run` runs them here.\n",
        names.join(", ")
    );
    let _ = write!(text, "\nstages: [{}]\n", stages.join(", "));
    if !variables.is_empty() {
        let _ = write!(text, "\nvariables:\n{variables}");
    }
    text + &jobs
}

/// A template without its header, the defaults of its inputs in their places.
fn with_defaults(text: &str) -> String {
    let Some((header, body)) = text.split_once("\n---\n") else { return text.to_owned() };
    let header: serde_json::Value = serde_yaml::from_str(header).unwrap_or_default();
    let inputs = header.pointer("/spec/inputs").and_then(|inputs| inputs.as_object());
    let mut body = body.to_owned();
    for (name, input) in inputs.into_iter().flatten() {
        let default = input.get("default").cloned().unwrap_or_default();
        let default = match default.as_str() {
            Some(text) if !text.is_empty() => text.to_owned(),
            _ => default.to_string(),
        };
        body = body.replace(&format!("$[[ inputs.{name} ]]"), &default);
    }
    body
}

/// The entries at the top of a template: name, and lines down to the next one.
fn blocks(text: &str) -> Vec<(&str, String)> {
    let mut blocks: Vec<(&str, String)> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let begins = line.starts_with(|c: char| !c.is_whitespace());
        if begins {
            // names of jobs have colons, but none is followed by a blank
            let key = line.split_once(": ").map_or(line.trim_end_matches(':'), |(key, _)| key);
            blocks.push((key, String::new()));
        }
        if let Some((_, block)) = blocks.last_mut().filter(|_| !line.is_empty()) {
            block.push_str(line);
            block.push('\n');
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn language(name: &'static str, template: &'static str, without: &[&'static str]) -> Language {
        Language { name, template, without: without.to_vec(), notes: Vec::new() }
    }

    #[test]
    fn one_language_is_its_template_and_several_share_stages_and_variables() {
        let go = language("Go", "Go.gitlab-ci.yml", &[]);
        let erlang =
            language("Erlang", "Erlang-Release.gitlab-ci.yml", &crate::starter::languages::DEPLOYMENT);
        let text = compose(std::slice::from_ref(&go));
        assert!(
            text.contains("\nstages: [check, test, build]\n\nvariables:\n  GO_IMAGE: golang:1\n"),
            "{text}"
        );
        assert!(text.contains("\ngo:vet:\n  stage: check\n") && !text.contains("\n\n\n"), "{text}");
        let both = compose(&[go, erlang]);
        assert_eq!(both.matches("\nvariables:").count(), 1, "{both}");
        assert!(
            both.contains("  ERLANG_IMAGE: ")
                && both.contains("\n# Erlang\n\n.erlang:\n")
                && !both.contains("inputs."),
            "{both}"
        );
        assert!(both.contains("\nstages: [check, test, build]\n") && !both.contains("deploy_dev"), "{both}");
    }
}
