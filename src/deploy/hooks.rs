//! Commands of the environment that run on this machine around a deployment.

use std::process::Stdio;

use super::error::Error;
use super::steps::Steps;

/// What a hook is told, as `CI_DEPLOY_*` variables.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// Name without `CI_DEPLOY_`, and value.
    pub(crate) variables: Vec<(&'static str, String)>,
}

impl Facts {
    /// The same with one more.
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.variables.push((name, value.into()));
        self
    }
}

/// Runs the commands one after the other in the project; the first that fails ends it. What they print goes to
/// standard error, which is where the steps are shown.
pub(crate) async fn run(
    commands: &[String],
    when: &str,
    facts: &Facts,
    project: &std::path::Path,
    steps: &mut Steps,
) -> Result<(), Error> {
    for command in commands {
        let work = async {
            let mut shell = tokio::process::Command::new("sh");
            shell.arg("-c").arg(command).current_dir(project).kill_on_drop(true);
            shell.stdin(Stdio::null()).stdout(std::io::stderr()).stderr(std::io::stderr());
            for (name, value) in &facts.variables {
                shell.env(format!("CI_DEPLOY_{name}"), value);
            }
            let failed = |what: String| Error::refused(format!("the hook `{command}` ({when}) {what}"));
            let status = shell.status().await.map_err(|e| failed(format!("could not be started: {e}")))?;
            match status.code() {
                Some(0) => Ok(()),
                Some(code) => Err(failed(format!("exited with {code}"))),
                None => Err(failed(format!("was killed ({status})"))),
            }
        };
        steps.take(format!("hook {when}: {command}"), work).await?;
    }
    Ok(())
}
