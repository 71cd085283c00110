//! `ci completions`: clap's script for a shell, and the names of jobs, stages and runs besides.

use super::print_raw;
use super::request::RequestArgs;
use crate::error::CliResult;
use crate::runs::stored;
use crate::settings::State;
use clap::ValueEnum;
use clap_complete::Shell;

#[derive(clap::Args)]
pub(super) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// Names that completion scripts ask for, a line each.
#[derive(clap::Args)]
pub(super) struct NamesArgs {
    kind: Kind,
    #[command(flatten)]
    request: RequestArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    Jobs,
    Stages,
    Runs,
}

pub(super) fn run(args: &CompletionsArgs, mut command: clap::Command) -> CliResult {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "ci", &mut script);
    let script = String::from_utf8_lossy(&script);
    let script = match args.shell {
        Shell::Bash => format!("{script}{BASH}"),
        Shell::Fish => format!("{script}{FISH}"),
        Shell::Zsh => zsh(&script),
        _ => script.into_owned(),
    };
    print_raw(script.as_bytes())
}

/// Prints names. Whatever is wrong with the project, a completion says nothing about it.
pub(super) fn names(args: &NamesArgs) -> CliResult {
    let Ok(prepared) = args.request.prepare() else { return Ok(()) };
    let names: Vec<String> = match args.kind {
        Kind::Runs => {
            let state = State::of(&prepared.project.state_name())?;
            stored(&state)?.iter().map(|run| run.number.to_string()).collect()
        }
        Kind::Jobs => {
            prepared.plan().map(|p| p.jobs.iter().map(|j| j.name.clone()).collect()).unwrap_or_default()
        }
        Kind::Stages => prepared.plan().map(|p| p.stages.clone()).unwrap_or_default(),
    };
    // a name with a line break can't be completed
    let lines: String = names.iter().filter(|n| !n.contains('\n')).map(|n| format!("{n}\n")).collect();
    print_raw(lines.as_bytes())
}

/// Names never pass through the shell's own expansion: they come from a file that somebody else may have written.
const BASH: &str = r#"
_ci_with_names() {
    _ci "$@"
    local cur="${COMP_WORDS[COMP_CWORD]}" kind= name
    case "${COMP_WORDS[COMP_CWORD-1]}" in
        --until | --manual | --why) kind=jobs ;;
        --stage) kind=stages ;;
        --run) kind=runs ;;
        -*) ;;
        *)
            case "$cur:${COMP_WORDS[1]}" in
                -*) ;;
                *:run | *:logs) kind=jobs ;;
                *:runs) kind=runs ;;
            esac
            ;;
    esac
    [[ -n "$kind" && COMP_CWORD -gt 1 ]] || return 0
    COMPREPLY=()
    while IFS= read -r name; do
        if [[ "$name" == "$cur"* ]]; then
            COMPREPLY+=("$(printf %q "$name")")
        fi
    done < <(ci names "$kind" --offline 2>/dev/null)
}
complete -F _ci_with_names -o bashdefault -o default ci
"#;

const FISH: &str = r#"
complete -c ci -n "__fish_ci_using_subcommand run" -f -a "(ci names jobs --offline 2>/dev/null)"
complete -c ci -n "__fish_ci_using_subcommand logs" -f -a "(ci names jobs --offline 2>/dev/null)"
complete -c ci -n "__fish_ci_using_subcommand runs" -f -a "(ci names runs --offline 2>/dev/null)"
complete -c ci -n "__fish_ci_using_subcommand run" -l until -r -f -a "(ci names jobs --offline 2>/dev/null)"
complete -c ci -n "__fish_ci_using_subcommand run" -l manual -r -f -a "(ci names jobs --offline 2>/dev/null)"
complete -c ci -n "__fish_ci_using_subcommand run" -l stage -r -f -a "(ci names stages --offline 2>/dev/null)"
complete -c ci -n "__fish_ci_using_subcommand plan" -l why -r -f -a "(ci names jobs --offline 2>/dev/null)"
complete -c ci -n "__fish_ci_using_subcommand logs" -l run -r -f -a "(ci names runs --offline 2>/dev/null)"
"#;

const ZSH: &str = r#"
_ci_names() {
    local -a names
    names=("${(@f)$(ci names $1 --offline 2>/dev/null)}")
    compadd -a names
}
_ci_jobs() { _ci_names jobs }
_ci_stages() { _ci_names stages }
_ci_runs() { _ci_names runs }

"#;

/// zsh's script names a function behind every argument: ours for jobs, stages and runs.
fn zsh(script: &str) -> String {
    let mut out = String::new();
    for line in script.split_inclusive('\n') {
        let line = line
            .replace(":JOB:_default'", ":JOB:_ci_jobs'")
            .replace(":STAGE:_default'", ":STAGE:_ci_stages'")
            .replace(":RUN:_default'", ":RUN:_ci_runs'");
        let jobs = line.starts_with("'*::jobs -- ");
        let runs = line.starts_with("'::number -- ");
        let line = match (jobs, runs) {
            (true, _) => line.replace(":_default'", ":_ci_jobs'"),
            (_, true) => line.replace(":_default'", ":_ci_runs'"),
            _ => line,
        };
        // our functions must be there before the script's last line calls its own
        if line.starts_with("_ci() {") {
            out.push_str(ZSH.trim_start());
        }
        out.push_str(&line);
    }
    out
}
