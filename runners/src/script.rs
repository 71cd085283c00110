//! From the commands of a job to the text that a shell reads on its standard input. The text holds commands only:
//! variables reach the shell as its environment.

use rustix::fs::{Access, access};

/// Started with this text as `sh -c`, a shell becomes bash where there is one, and else stays what it is; the
/// script follows on standard input. Decided where the job runs: only there is it known what is installed.
pub const DETECT_SHELL: &str = "for shell in /usr/local/bin/bash /usr/bin/bash /bin/bash /busybox/bash; do \
if [ -x \"$shell\" ]; then exec \"$shell\"; fi; done; \
for shell in /bin/sh /usr/bin/sh /busybox/sh; do if [ -x \"$shell\" ]; then exec \"$shell\"; fi; done; \
echo 'no shell found: the job needs bash or sh' >&2; exit 127";

/// The shell that [`DETECT_SHELL`] would become on this machine.
pub(crate) fn shell_here() -> Option<&'static str> {
    let shells = [
        "/usr/local/bin/bash",
        "/usr/bin/bash",
        "/bin/bash",
        "/busybox/bash",
        "/bin/sh",
        "/usr/bin/sh",
        "/busybox/sh",
    ];
    shells.into_iter().find(|path| access(*path, Access::EXEC_OK).is_ok())
}

/// Becomes a shell for a person, in the project directory of a job that has failed; `place` is what the shell is in.
pub(crate) fn for_a_person(place: &str) -> String {
    format!(
        "printf '%s\\n' 'The script has failed. This is its {place}; `exit` lets the job end.'; \
         cd \"$CI_PROJECT_DIR\" || cd /; if command -v bash >/dev/null; then exec bash; fi; exec sh"
    )
}

/// Where scripts leave variables for the scripts after them: lines of `NAME=value`.
pub const ENVIRONMENT_FILE: &str = "gitlab_runner_env";

/// A script can't be written down.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("command {number} holds a NUL character, which no shell can read: remove it from the YAML")]
pub struct NulInCommand {
    /// Counted from 1.
    pub number: usize,
}

/// The text for a list of commands. They run in one shell, in `$CI_PROJECT_DIR`, each echoed before it runs; the
/// first that fails ends the script with its exit code. `trace` prints commands as the shell expands them.
///
/// # Errors
/// A command holds a NUL character.
pub fn generate(commands: &[String], trace: bool) -> Result<String, NulInCommand> {
    let mut body = String::from("cd \"$CI_PROJECT_DIR\"\n");
    if trace {
        body.push_str("set -x\n");
    }
    for (index, command) in commands.iter().enumerate() {
        if command.contains('\0') {
            return Err(NulInCommand { number: index + 1 });
        }
        let command = command.trim();
        if !command.is_empty() {
            body.push_str(&format!("printf '%s\\n' {}\n{command}\n", quote(&echo(command))));
        }
    }
    // a subshell: the script's own standard input holds the rest of this text and is not the commands' business
    Ok(format!("{PROLOGUE}( eval {} ) </dev/null\nexit $?\n", quote(&body)))
}

/// `-e` holds inside the subshell too, as its own setting. The trap holds outside only: a shell that died of SIGTERM
/// would end the step before the commands' own traps have run. A line of the environment file is data: `export`
/// takes it as one word. Only shells other than bash are asked whether they know `pipefail`: asking takes a process.
const PROLOGUE: &str =
    "if [ -n \"${BASH_VERSINFO:-}\" ] || (set -o pipefail) 2>/dev/null; then set -o pipefail; fi
set -e
set +C
trap : TERM
if [ -r \"${GITLAB_ENV:-}\" ]; then
while IFS= read -r slipway_line || [ -n \"$slipway_line\" ]; do
case \"$slipway_line\" in [A-Za-z_]*=*) export \"$slipway_line\" ;; esac
done <\"$GITLAB_ENV\"
unset slipway_line
fi
";

fn echo(command: &str) -> String {
    let mut lines = command.lines();
    let first = lines.next().unwrap_or_default();
    let more = if lines.next().is_some() { " # collapsed multi-line command" } else { "" };
    format!("\x1b[32;1m$ {first}{more}\x1b[0;m")
}

/// A text as one word of a shell.
pub(crate) fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    /// Output and exit code of commands in a shell that gets its script as jobs do.
    fn run(shell: &[&str], commands: &[&str]) -> (String, i32) {
        let commands: Vec<String> = commands.iter().map(|text| (*text).to_owned()).collect();
        let mut input = tempfile::tempfile().unwrap();
        input.write_all(generate(&commands, false).unwrap().as_bytes()).unwrap();
        std::io::Seek::rewind(&mut input).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("env"), "FROM_ENV=it's $HOME `x`\nnot a variable\nLAST=1").unwrap();
        let output = Command::new(shell[0])
            .args(&shell[1..])
            .env("CI_PROJECT_DIR", dir.path())
            .env("GITLAB_ENV", dir.path().join("env"))
            .stdin(Stdio::from(input))
            .output()
            .unwrap();
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (text, output.status.code().unwrap())
    }

    #[test]
    fn scripts_behave_alike_in_bash_and_dash() {
        // commands, exit code, what the output has, what it has not
        type Row<'a> = (&'a [&'a str], i32, &'a [&'a str], &'a [&'a str]);
        let table: &[Row<'_>] = &[
            (&["echo one", "exit 3", "echo two"], 3, &["\x1b[32;1m$ echo one\x1b[0;m\none\n"], &["two"]),
            (&["false", "echo unreached"], 1, &["$ false"], &["unreached"]),
            (&["(exit 42)", "echo unreached"], 42, &[], &["unreached"]),
            (&["A=1", "echo a=$A"], 0, &["a=1"], &[]),
            (&["read x || echo nothing to read", "echo still"], 0, &["nothing to read", "still"], &[]),
            (&["cat", "echo after cat"], 0, &["after cat\n"], &[]),
            (&["echo 'it'\\''s' \"$FROM_ENV\" $LAST"], 0, &["it's it's $HOME `x` 1"], &[]),
            (
                &["if true; then\n  echo multi\nfi"],
                0,
                &["$ if true; then # collapsed multi-line command", "multi"],
                &[],
            ),
            (&["  echo trimmed  \n"], 0, &["$ echo trimmed\x1b", "trimmed"], &["collapsed"]),
            (&["echo a >f", "echo b >f", "cat f"], 0, &["b\n"], &[]),
            (&["echo before", "if", "echo unreached"], 2, &["before"], &["unreached\n\x1b"]),
            (&["cat <<EOF\nhere\nEOF\necho later"], 0, &["here\nlater"], &[]),
            (&["! true", "echo goes on"], 0, &["goes on"], &[]),
            (&["", "   ", "echo only"], 0, &["only"], &[]),
        ];
        for shell in [&["sh", "-c", DETECT_SHELL][..], &["dash"]] {
            for (commands, code, contained, absent) in table {
                let (text, got) = run(shell, commands);
                assert_eq!(got, *code, "{shell:?} {commands:?}: {text}");
                for part in *contained {
                    assert!(text.contains(part), "{shell:?} {commands:?}: no {part:?} in {text:?}");
                }
                for part in *absent {
                    assert!(!text.contains(part), "{shell:?} {commands:?}: {part:?} in {text:?}");
                }
            }
        }
    }

    #[test]
    fn pipefail_holds_where_the_shell_has_it() {
        assert_eq!(run(&["sh", "-c", DETECT_SHELL], &["false | true", "echo unreached"]).1, 1);
    }

    #[test]
    fn a_nul_is_refused() {
        assert_eq!(generate(&["ok".into(), "a\0b".into()], false), Err(NulInCommand { number: 2 }));
    }
}
