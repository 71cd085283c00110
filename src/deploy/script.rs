//! Shell scripts for a target. They travel on standard input, never in an argument list, and values reach them
//! as quoted assignments in front of a constant text.

/// Who speaks to the node as the script of a rebar3 release does: that script, or what a package of `mix release` was
/// given for it (`release::build`). Needs `$T` and `$N`.
pub(crate) const TOOL: &str = r#"
tool() { if [ -x "$T/bin/slipway" ]; then echo "$T/bin/slipway"; else echo "$T/bin/$N"; fi; }
"#;

/// A script with the values that it needs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Script {
    values: String,
    body: &'static str,
}

impl Script {
    /// A script with this constant text. The shell reads all of it before it runs any of it, so that no command
    /// in it can eat the rest.
    pub(crate) fn new(body: &'static str) -> Self {
        Self { values: String::new(), body }
    }

    /// Gives the script the shell variable `name`.
    pub(crate) fn set(mut self, name: &str, value: &str) -> Self {
        self.values.push_str(&format!("{name}={}\n", quote(value)));
        self
    }

    /// Gives the script shell functions that several scripts share.
    pub(crate) fn using(mut self, functions: &'static str) -> Self {
        self.values.push_str(functions);
        self
    }

    /// The text for the shell's standard input.
    pub(crate) fn text(&self) -> String {
        format!("{} </dev/null\n", self.open_text())
    }

    /// The same for a script that reads on from standard input, which stays open.
    pub(crate) fn open_text(&self) -> String {
        format!("{}main() {{\n{}\n}}\nmain", self.values, self.body)
    }
}

/// `value` as one word of POSIX shell.
fn quote(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_arrive_unchanged_in_a_real_shell() {
        for value in ["", "a b", "it's", "$(id) `id` \"x\" \\n", "-n", "a\nb", "*"] {
            let text = Script::new(r#"printf '%s' "$V""#).set("V", value).text();
            let output = std::process::Command::new("sh").args(["-c", &text]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), value);
        }
    }
}
