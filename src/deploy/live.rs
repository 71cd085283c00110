//! What only the running node can tell about an upgrade: which processes it will find, and which it will not.

use std::collections::BTreeSet;

use super::error::Error;
use super::probe;
use super::ssh::ANSWER_LIMIT;
use super::target::Target;

const EXPRESSION: &str = include_str!("live.erl");
/// More than this many messages wait while their process is converted.
const LONG_QUEUE: u64 = 1000;
const SCRIPT: &str = r#""$(tool)" eval "$E""#;

/// The processes that an upgrade concerns, each as module and process identifier.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Live {
    /// They run a module with `code_change`, and release_handler will neither suspend nor convert them.
    missed: Vec<String>,
    /// They still run the code before last: loading new code ends them.
    pub(crate) lingering: Vec<String>,
    /// They have long message queues.
    queues: Vec<String>,
    /// Children that their supervisors have not started.
    pub(crate) missing: BTreeSet<String>,
}

/// Asks about the processes of `modules`.
pub(crate) async fn ask(target: &Target, modules: &BTreeSet<String>) -> Result<Live, Error> {
    // names travel inside an expression: anything else would have to be quoted three times
    let plain = |name: &&String| name.chars().all(|c| c.is_ascii_alphanumeric() || "_.@".contains(c));
    let names: Vec<&str> = modules.iter().filter(plain).map(String::as_str).collect();
    let expression = EXPRESSION.replace('\n', "").replace("@MODULES@", &names.join(" "));
    let output = target
        .demand(
            &target.script(SCRIPT).set("E", &expression),
            "asking the node about its processes",
            ANSWER_LIMIT,
        )
        .await?;
    probe::decode(&output.stdout).map(|text| read(&text)).ok_or_else(|| {
        Error::failed(format!(
            "the node did not tell about its processes: {}",
            super::ssh::last_lines(&output.stdout, 2)
        ))
    })
}

fn read(text: &str) -> Live {
    let mut live = Live::default();
    for line in text.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        match fields.as_slice() {
            ["missed", module, pid] => live.missed.push(format!("`{module}` {pid}")),
            ["lingering", module, pid] => live.lingering.push(format!("`{module}` {pid}")),
            ["queue", module, pid, length] if length.parse().is_ok_and(|length: u64| length > LONG_QUEUE) => {
                live.queues.push(format!("`{module}` {pid} has {length} messages waiting"));
            }
            ["missing", supervisor, id] => _ = live.missing.insert(format!("`{id}` of {supervisor}")),
            _ => {}
        }
    }
    live
}

impl Live {
    /// The modules of these processes, for the checks of a package.
    pub(crate) fn processes(&self) -> crate::release::check::Processes {
        let modules = |processes: &[String]| {
            processes.iter().filter_map(|shown| shown.split('`').nth(1).map(str::to_owned)).collect()
        };
        crate::release::check::Processes {
            missed: modules(&self.missed),
            lingering: modules(&self.lingering),
        }
    }

    /// Reasons against a hot upgrade.
    pub(crate) fn reasons(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if !self.missed.is_empty() {
            reasons.push(format!(
                "these processes would get new code and keep their old state, as no supervisor's child specification names their module: {}",
                self.missed.join(", ")
            ));
        }
        if !self.lingering.is_empty() {
            reasons.push(format!(
                "these processes still run the code before last, and loading new code would kill them: {}",
                self.lingering.join(", ")
            ));
        }
        reasons
    }

    /// What is worth knowing before the upgrade.
    pub(crate) fn notes(&self) -> &[String] {
        &self.queues
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_that_would_be_forgotten_or_killed_are_reasons() {
        let live = read(
            "missed\turf_store\t<0.1.0>\nlingering\ta\t<0.2.0>\nqueue\tb\t<0.3.0>\t5\nqueue\tb\t<0.3.0>\t5000\nmissing\t<0.9.0>\turf_clock\n",
        );
        assert_eq!(live.reasons().len(), 2);
        assert!(live.reasons()[0].contains("`urf_store` <0.1.0>"));
        assert_eq!(live.notes(), ["`b` <0.3.0> has 5000 messages waiting"]);
        assert_eq!(live.missing.len(), 1);
        assert_eq!(read("").reasons(), Vec::<String>::new());
    }
}
