use super::*;
use crate::diagnostic::{Diagnostic, Severity};
use crate::request::{Commit, Elsewhere, FetchError, Fetched, ProjectVariable};
use crate::yaml;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Files in memory; those of elsewhere have a `:` or `@` in their names.
#[derive(Default)]
struct Memory {
    files: BTreeMap<String, Arc<str>>,
    paths: Vec<String>,
}

/// Files written as `=== path` lines with the texts below them.
fn memory(text: &str) -> Memory {
    let mut files = BTreeMap::new();
    for piece in text.split("=== ").skip(1) {
        let (path, text) = piece.split_once('\n').unwrap();
        files.insert(path.to_owned(), Arc::from(text));
    }
    let paths = files.keys().filter(|path| !path.contains(['@', ':'])).cloned().collect();
    Memory { files, paths }
}

impl Files for Memory {
    fn read(&self, path: &str) -> Result<Option<Arc<str>>, String> {
        Ok(self.files.get(path).cloned())
    }

    fn paths(&self) -> &[String] {
        &self.paths
    }

    fn blob_id(&self, _: &str) -> Option<String> {
        None
    }

    fn fetch(&self, what: &Elsewhere) -> Result<Fetched, FetchError> {
        let name = match what {
            Elsewhere::Project { project, .. } if project == "no/where" => return Err(FetchError::NoProject),
            Elsewhere::Project { reference: Some(reference), .. } if reference == "gone" => {
                return Err(FetchError::NoReference);
            }
            Elsewhere::Project { project, reference, file } => {
                format!("{project}:{file}@{}", reference.as_deref().unwrap_or("HEAD"))
            }
            Elsewhere::Remote { url } => url.clone(),
            Elsewhere::Template { name } => format!("template:{name}"),
            Elsewhere::Component { project, name, version } => format!("{project}/{name}@{version}"),
        };
        let text = self.files.get(&name).cloned().ok_or(FetchError::NoFile)?;
        Ok(Fetched { text, name, sha: Some("c0ffee".to_owned()), version: Some("1.2.3".to_owned()) })
    }
}

fn request() -> Request {
    let variable = |key: &str, value: &str, masked| ProjectVariable {
        key: key.to_owned(),
        value: value.to_owned(),
        masked,
        file: false,
        raw: false,
        environment_scope: "*".to_owned(),
    };
    Request {
        project: "Group/project".to_owned(),
        reference: "main".to_owned(),
        default_branch: "main".to_owned(),
        source: "push".to_owned(),
        project_variables: vec![variable("DIR", "ci", false), variable("SECRET", "hush-hush-1", true)],
        variables: [("WHO".to_owned(), "me".to_owned())].into_iter().collect(),
        changes: Some(vec!["src/a.rs".to_owned()]).into(),
        commit: Commit { sha: "abc".to_owned(), ..Commit::default() },
        ..Request::default()
    }
}

fn loaded(text: &str) -> Loaded {
    load(&request(), &memory(text), ".gitlab-ci.yml")
}

/// The tree as Ruby prints it, or GitLab's messages.
fn shown(text: &str) -> String {
    let loaded = loaded(text);
    let said = |d: &&Diagnostic| d.severity == Severity::Error && d.gitlab;
    let errors: Vec<_> = loaded.diagnostics.iter().filter(said).collect();
    if errors.is_empty() {
        return yaml::inspect(loaded.root.as_ref().unwrap());
    }
    assert!(errors.iter().all(|error| !error.labels.is_empty()), "an error without a place: {errors:?}");
    errors.iter().map(|error| error.message.as_str()).collect::<Vec<_>>().join("; ")
}

fn check(cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        let text =
            if text.starts_with("===") { (*text).to_owned() } else { format!("=== .gitlab-ci.yml\n{text}") };
        assert_eq!(shown(&text), *expected, "{text}");
    }
}

#[test]
fn root_files_without_content() {
    let missing = load(&request(), &memory(""), ".gitlab-ci.yml");
    assert_eq!(missing.diagnostics[0].message, "Please provide content of .gitlab-ci.yml");
    check(&[
        (" \n\n", "Please provide content of .gitlab-ci.yml"),
        ("# c\n", "{}"),
        ("- a\n", "Invalid configuration format"),
    ]);
}

#[test]
fn included_files_come_first_and_later_ones_win() {
    check(&[
        (
            "=== .gitlab-ci.yml\nj: {t: own, v: {X: own}}\ninclude: [a.yml, /b.yml]\n\
             === a.yml\nj: {i: a, v: {A: a, X: a}}\n=== b.yml\nj: {i: b, t: b}\n",
            "{:j=>{:i=>\"b\", :v=>{:A=>\"a\", :X=>\"own\"}, :t=>\"own\"}}",
        ),
        (
            "=== .gitlab-ci.yml\ninclude: a.yml\nj: 1\n=== a.yml\ninclude: s/b.yml\na: 1\n=== s/b.yml\nb: 1\n",
            "{:b=>1, :a=>1, :j=>1}",
        ),
        (
            "=== .gitlab-ci.yml\ninclude: '$DIR/**/*.yml'\n=== ci/a.yml\na: 1\n=== ci/s/b.yml\nb: 1\n",
            "{:a=>1, :b=>1}",
        ),
        ("include: 'none/*.yml'\nj: 1\n", "{:j=>1}"),
        ("include: []\nj: 1\n", "{:j=>1}"),
        ("=== .gitlab-ci.yml\ninclude: {local: '${DIR}/$WHO.yml'}\n=== ci/me.yml\na: 1\n", "{:a=>1}"),
    ]);
}

#[test]
fn includes_that_are_wrong() {
    let subkeys = "does not have a valid subkey for include. Valid subkeys are: `local`, `project`, `remote`, `template`, `artifact`, `component`";
    check(&[
        ("include: true", "Each include must be a hash or a string"),
        ("include: [1]", "Each include must be a hash or a string"),
        ("include: ''", &format!("`{{\"local\":\"\"}}` {subkeys}")),
        ("include: {file: a.yml, x: '<'}", &format!("`{{\"file\":\"a.yml\",\"x\":\"\\u003c\"}}` {subkeys}")),
        (
            "include: {local: a.yml, remote: 'https://x/a.yml'}",
            "Each include must use only one of: `local`, `project`, `remote`, `template`, `artifact`, `component`",
        ),
        (
            "include: {project: a/b}",
            "include:include config must specify the file where to fetch the config from",
        ),
        ("include: {local: '*.y', foo: 1}", "include:include config contains unknown keys: foo"),
        ("include: nope.yml", "Local file `nope.yml` does not exist!"),
        ("include: /ci/$SECRET.yml", "Local file `ci/[MASKED]xxx.yml` does not exist!"),
        ("include: a.txt", "Included file `a.txt` does not have YAML extension!"),
        ("include: {local: 7}", "Included file `7` needs to be a string"),
        ("=== .gitlab-ci.yml\ninclude: a.yml\n=== a.yml\n \n", "Local file `a.yml` is empty!"),
        (
            "=== .gitlab-ci.yml\ninclude: a.yml\n=== a.yml\n# c\n",
            "Included file `a.yml` does not have valid YAML syntax!",
        ),
        ("=== .gitlab-ci.yml\ninclude: a.yml\n=== a.yml\n- a\n", "`a.yml`: Invalid configuration format"),
        ("=== .gitlab-ci.yml\ninclude: a.yml\n=== a.yml\na: *b\n", "`a.yml`: Unknown alias: b"),
        (
            "=== .gitlab-ci.yml\ninclude: a.yml\n=== a.yml\ninclude: b.yml\n",
            "Local file `b.yml` does not exist!",
        ),
        // a nested failure comes before the failure of an earlier file
        (
            "=== .gitlab-ci.yml\ninclude: [no.yml, a.yml]\n=== a.yml\ninclude: b.yml\n",
            "Local file `b.yml` does not exist!",
        ),
        ("=== .gitlab-ci.yml\ninclude: .gitlab-ci.yml\n", "Maximum of 150 nested includes are allowed!"),
        (
            "include: {artifact: a.yml, job: j}",
            "Including configs from artifacts is only allowed when triggering child pipelines",
        ),
    ]);
}

#[test]
fn files_from_elsewhere() {
    check(&[
        (
            "=== .gitlab-ci.yml\ninclude: {project: A/b, file: [/x.yml, y.yml], ref: v1}\n=== a/b:x.yml@v1\nx: 1\n=== a/b:y.yml@v1\ny: 1\n",
            "{:x=>1, :y=>1}",
        ),
        // nested includes look into the commit of the file that has them
        (
            "=== .gitlab-ci.yml\ninclude: {project: a/b, file: x.yml}\n=== a/b:x.yml@HEAD\ninclude: n.yml\n=== a/b:n.yml@c0ffee\nn: 1\n",
            "{:n=>1}",
        ),
        ("=== .gitlab-ci.yml\ninclude: {project: group/Project, file: x.yml}\n=== x.yml\nx: 1\n", "{:x=>1}"),
        (
            "include: {project: no/where, file: x.yml}",
            "Project `no/where` not found or access denied! Make sure any includes in the pipeline configuration are correctly defined.",
        ),
        ("include: {project: a/b, file: x.yml, ref: gone}", "Project `a/b` reference `gone` does not exist!"),
        ("include: {project: a/b, file: x.yml}", "Project `a/b` file `x.yml` does not exist!"),
        (
            "=== .gitlab-ci.yml\ninclude: https://x/a.yml\n=== https://x/a.yml\ninclude: b.yml\n",
            "Local file `b.yml` does not have project!",
        ),
        ("include: {remote: 'ftp://x/a.yml'}", "Remote file `ftp://x/a.yml` does not have a valid address!"),
        ("include: {template: a.yml}", "Template file `a.yml` is not a valid location!"),
        (
            "include: {template: A.gitlab-ci.yml}",
            "Included file `A.gitlab-ci.yml` is empty or does not exist!",
        ),
        (
            "=== .gitlab-ci.yml\ninclude: {template: A.gitlab-ci.yml}\n=== template:A.gitlab-ci.yml\na: 1\n",
            "{:a=>1}",
        ),
        // the SHA-256 of "a: 1\n"
        (
            "=== .gitlab-ci.yml\ninclude: {remote: 'https://x/a.yml', integrity: 'sha256-N7EoxZ8fUJf3P4JpHLUZ8fVoZn+qtc7RtKuXnTaDfq4='}\n=== https://x/a.yml\na: 2\n",
            "Remote file `https://x/a.yml` does not have the expected integrity hash!",
        ),
        (
            "=== .gitlab-ci.yml\ninclude: {component: h/g/p/c@1, inputs: {x: q}}\n\
          === h/g/p/c@1\nspec: {component: [name, sha, version, reference], inputs: {x: }}\n---\n\
          '$[[ inputs.x ]]': '$[[ component.name ]] $[[ component.sha ]] $[[ component.version ]] $[[ component.reference ]]'\n",
            "{:q=>\"c c0ffee 1.2.3 1\"}",
        ),
    ]);
}

#[test]
fn include_rules_decide() {
    let cases = [
        ("[{if: $WHO == \"me\"}]", true),
        ("[{if: $WHO == \"you\"}]", false),
        ("[{if: $WHO, when: never}, {when: always}]", false),
        ("[{changes: ['src/*']}]", true),
        ("[{changes: {paths: ['doc/*']}}]", false),
        ("[{exists: [a.yml]}]", true),
        ("[{exists: b.yml}]", false),
        ("[{if: }]", true),
    ];
    for (rules, taken) in cases {
        let text =
            format!("=== .gitlab-ci.yml\ninclude: {{local: a.yml, rules: {rules}}}\nj: 1\n=== a.yml\na: 1\n");
        assert_eq!(shown(&text), if taken { "{:a=>1, :j=>1}" } else { "{:j=>1}" }, "{rules}");
    }
    check(&[
        ("include: {local: a.yml, rules: [{if: $A ==}]}", "include:rule if invalid expression syntax"),
        ("include: {local: a.yml, rules: [{when: manual}]}", "include:rule when unknown value: manual"),
        ("include: {local: a.yml, rules: [{foo: 1}]}", "include:rule config contains unknown keys: foo"),
        (
            "include: {local: a.yml, rules: [{changes: x}]}",
            "include:rule:changes should be an array or a hash",
        ),
    ]);
}

fn with_input(spec: &str, content: &str) -> String {
    shown(&format!("=== .gitlab-ci.yml\nspec: {{inputs: {{x: {spec}}}}}\n---\nj: {content}\n"))
}

#[test]
fn blocks_are_replaced() {
    let cases = [
        ("{default: a}", "'$[[ inputs.x ]]'", "{:j=>\"a\"}"),
        ("{default: a}", "'$x ${x} [[ x ]] $[[inputs.x]]'", "{:j=>\"$x ${x} [[ x ]] a\"}"),
        ("{default: 1}", "'$[[ inputs.x ]]'", "{:j=>\"1\"}"),
        ("{type: number, default: 1}", "'$[[ inputs.x ]]'", "{:j=>1}"),
        ("{type: boolean, default: false}", "'<$[[ inputs.x ]]>'", "{:j=>\"<false>\"}"),
        ("{type: array, default: [a, b]}", "[0, '$[[ inputs.x ]]', 1]", "{:j=>[0, \"a\", \"b\", 1]}"),
        ("{type: array, default: [a, b]}", "{k: '$[[ inputs.x ]]'}", "{:j=>{:k=>[\"a\", \"b\"]}}"),
        ("{type: array, default: [a, b]}", "'v=$[[ inputs.x ]]'", "{:j=>\"v=[\\\"a\\\", \\\"b\\\"]\"}"),
        ("{default: k}", "{'$[[ inputs.x ]]': v}", "{:j=>{:k=>\"v\"}}"),
        ("{default: 'v-$WHO-$NO'}", "'$[[ inputs.x | expand_vars | truncate(0,6) ]]'", "{:j=>\"v-me-$\"}"),
        ("{default: \"it's $A\"}", "'$[[ inputs.x | posix_escape ]]'", "{:j=>\"it\\\\'s\\\\ \\\\$A\"}"),
        ("{default: abc}", "'$[[ inputs.x | truncate(5,1) ]]'", "{:j=>\"\"}"),
        ("{default: a}", "'$[[ matrix.A ]]'", "{:j=>\"$[[ matrix.A ]]\"}"),
        ("{default: a}", "'$[[ inputs.y ]]'", "unknown interpolation provided: `y` in `inputs.y`"),
        (
            "{default: a}",
            "'$[[ inputs.x | foo ]]'",
            "no function matching `foo`: check that the function name, arguments, and types are correct",
        ),
        (
            "{type: number, default: 1}",
            "'$[[ inputs.x | expand_vars ]]'",
            "error in `expand_vars` function: invalid input type: expand_vars can only be used with string inputs",
        ),
        (
            "{default: $SECRET}",
            "'$[[ inputs.x | expand_vars ]]'",
            "error in `expand_vars` function: variable expansion error: masked variables cannot be expanded",
        ),
        (
            "{default: a}",
            "'$[[ inputs.x | truncate(0,1) | truncate(0,1) | truncate(0,1) | truncate(0,1) ]]'",
            "too many functions in interpolation block",
        ),
    ];
    for (spec, content, expected) in cases {
        assert_eq!(with_input(spec, content), expected, "{spec} {content}");
    }
}

#[test]
fn inputs_are_checked() {
    let cases = [
        ("", "`x` input: required value has not been provided"),
        ("{type: number, default: abc}", "`x` input: default value is not a number"),
        ("{type: boolean, default: 1}", "`x` input: default value is not a boolean"),
        ("{type: array, default: a}", "`x` input: default value is not an array"),
        (
            "{options: [a, b], default: c}",
            "`x` input: `c` cannot be used because it is not in the list of allowed options",
        ),
        (
            "{type: number, options: [1, 2], default: 3}",
            "`x` input: `3` cannot be used because it is not in the list of the allowed options",
        ),
        ("{regex: '^v\\d$', default: w}", "`x` input: default value does not match required RegEx pattern"),
        (
            "{type: number, regex: a, default: 1}",
            "`x` input: RegEx validation can only be used with string inputs",
        ),
        ("{typo: a}", "header:spec:inputs:x config contains unknown keys: typo"),
        ("{type: map}", "header:spec:inputs:x input type unknown value: map"),
        ("{options: a, default: a}", "header:spec:inputs:x input options should be an array"),
        ("{regex: b, default: abc}", "{:j=>1}"),
        ("{default: }", "{:j=>1}"),
    ];
    for (spec, expected) in cases {
        assert_eq!(with_input(spec, "1"), expected, "{spec}");
    }
    check(&[
        ("spec:\nfoo: 1\n---\nj: 1\n", "header config contains unknown keys: foo"),
        ("spec: x\n---\nj: 1\n", "header:spec config should be a hash"),
        ("spec:\n---\nj: 1\n", "{:j=>1}"),
        (
            "spec: {inputs: {a: , b: , c: , d: }}\n---\nj: 1\n",
            "`a` input: required value has not been provided, `b` input: required value has not been provided, `c` input: required value has not been provided",
        ),
    ]);
}

#[test]
fn given_inputs_are_read_by_type() {
    let file = "=== t.yml\nspec: {inputs: {s: {default: d}, n: {type: number, default: 1}, a: {type: array, default: []}}}\n---\nj: ['$[[ inputs.s ]]', '$[[ inputs.n ]]', '$[[ inputs.a ]]']\n";
    let cases = [
        ("{}", "{:j=>[\"d\", 1]}"),
        ("{s: true, n: '2', a: '[3, \"x\"]'}", "{:j=>[\"true\", 2, 3, \"x\"]}"),
        ("{s: [a], n: 2.5}", "{:j=>[\"[\\\"a\\\"]\", 2.5]}"),
        ("{s: '$WHO'}", "{:j=>[\"$WHO\", 1]}"),
        ("{n: x}", "`t.yml`: `n` input: provided value is not a number"),
        ("{y: 1, z: 2}", "`t.yml`: unknown input arguments: y, z"),
    ];
    for (inputs, expected) in cases {
        let text = format!("=== .gitlab-ci.yml\ninclude: {{local: t.yml, inputs: {inputs}}}\n{file}");
        assert_eq!(shown(&text), expected, "{inputs}");
    }
    check(&[(
        "=== .gitlab-ci.yml\ninclude: {local: a.yml, inputs: {x: 1}}\n=== a.yml\na: 1\n",
        "`a.yml`: Given inputs not defined in the `spec` section of the included configuration file",
    )]);
}

#[test]
fn input_rules_choose_options_and_default() {
    let text = |given: &str| {
        format!(
            "=== .gitlab-ci.yml\ninclude: {{local: t.yml, inputs: {given}}}\n=== t.yml\n\
             spec:\n  inputs:\n    env: {{default: dev}}\n    size:\n      rules:\n        \
             - {{if: '$[[ inputs.env ]] == \"prod\"', options: [large], default: large}}\n        \
             - {{options: [small, medium], default: small}}\n---\nj: '$[[ inputs.size ]]'\n"
        )
    };
    assert_eq!(shown(&text("{}")), "{:j=>\"small\"}");
    assert_eq!(shown(&text("{env: prod}")), "{:j=>\"large\"}");
    assert_eq!(
        shown(&text("{env: prod, size: small}")),
        "`t.yml`: `size` input: `small` cannot be used because it is not in the list of allowed options"
    );
}

#[test]
fn shared_inputs_come_before_own_ones() {
    check(&[
        (
            "=== .gitlab-ci.yml\nspec: {include: [i.yml], inputs: {y: {default: b}}}\n---\nj: $[[ inputs.x ]]$[[ inputs.y ]]\n\
             === i.yml\ninputs: {x: {default: a}}\n",
            "{:j=>\"ab\"}",
        ),
        (
            "=== .gitlab-ci.yml\nspec: {include: [i.yml], inputs: {x: }}\n---\nj: 1\n=== i.yml\ninputs: {x: }\n",
            "duplicate input `x` in `spec:include` and `spec:inputs`",
        ),
    ]);
}

#[test]
fn included_files_remember_their_include() {
    let text = "=== .gitlab-ci.yml\ninclude: [a.yml]\n=== a.yml\na: 1\n";
    let loaded = loaded(text);
    let (_, file) = loaded.sources.files().nth(1).unwrap();
    let span = file.included_from.unwrap();
    assert_eq!((file.name.as_str(), &loaded.sources.file(span.file).text[span.range()]), ("a.yml", "a.yml"));
    let root = loaded.root.unwrap();
    let entry = root.as_mapping().unwrap().entry("a").unwrap().clone();
    assert_eq!(loaded.sources.file(entry.key_span.file).name, "a.yml");
}

#[test]
fn hints_survive_errors() {
    let loaded = loaded("=== .gitlab-ci.yml\na: 1\na: 2\ninclude: no.yml\n");
    let codes: Vec<_> = loaded.diagnostics.iter().map(|d| d.code).collect();
    assert_eq!(codes, ["include-file", "duplicate-key"]);
}

#[test]
fn inputs_that_double_in_every_file_are_refused() {
    let mut text = "=== .gitlab-ci.yml\ninclude: {local: f0.yml, inputs: {x: '[1]'}}\n".to_owned();
    for i in 0..60 {
        text.push_str(&format!(
            "=== f{i}.yml\nspec: {{inputs: {{x: {{type: array}}}}}}\n---\ninclude:\n  local: f{}.yml\n  inputs: {{x: ['$[[ inputs.x ]]', '$[[ inputs.x ]]']}}\n",
            i + 1
        ));
    }
    assert_eq!(shown(&text).rsplit(": ").next(), Some("The parsed YAML is too big"));
}

proptest! {
    #[test]
    fn any_pieces_load_or_fail(pieces in prop::collection::vec(prop::sample::select(vec![
        "spec:", "\n---\n", "\n", "  ", "inputs:", "include:", " a.yml", " .gitlab-ci.yml", "extends: ", "a", "b",
        "- ", ": ", "&x ", "*x", "<<: ", "!reference [a, b]", "$[[ inputs.a ]]", "'", "[", "]", "{", "}", ", ", "é",
        "rules:", "if: $A", "default: 1", "type: array", "local: ", "*.yml", "|\n", "2024-01-01", "~", "# c",
    ]), 0..40)) {
        let text = pieces.concat();
        let files = memory(&format!("=== .gitlab-ci.yml\n{text}\n=== a.yml\n{text}\n"));
        let loaded = load(&request(), &files, ".gitlab-ci.yml");
        prop_assert!(loaded.root.is_some() || loaded.diagnostics.iter().any(Diagnostic::is_error));
    }
}
