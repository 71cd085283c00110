//! `ci doctor`: what works on this machine, what is missing, and how to get it.

use super::{Format, print_json, print_raw};
use crate::error::{CliError, CliResult, ErrorKind};
use crate::settings::State;
use crate::storage::Disk;
use anstyle::{AnsiColor, Style};
use runners::sandbox::{Mode, Sandbox};
use serde::Serialize;
use std::env;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// Less room than this and builds will soon fail.
const ROOM: u64 = 5 << 30;

#[derive(clap::Args)]
pub(super) struct DoctorArgs {
    /// Text: for people; json: one document
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// How a thing stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Health {
    /// Works.
    Ok,
    /// Works in part, or is not there and not always needed.
    Limited,
    /// Jobs can't run in containers without it.
    Missing,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
struct Check {
    name: &'static str,
    health: Health,
    found: String,
    /// What to do, one thing after the other.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cures: Vec<String>,
}

#[derive(Serialize)]
struct Document<'a> {
    version: u32,
    checks: &'a [Check],
}

impl Check {
    fn new(name: &'static str, health: Health, found: impl Into<String>) -> Check {
        Check { name, health, found: found.into(), cures: Vec::new() }
    }

    fn cure(mut self, cure: impl Into<String>) -> Check {
        self.cures.push(cure.into());
        self
    }
}

pub(super) fn run(args: &DoctorArgs) -> CliResult {
    let state = State::of("doctor")?;
    let runtime = super::runtime::small_runtime()?;
    let mut checks = runtime.block_on(containers(&state.sandboxes()));
    let engines = engines();
    // without sandboxes, an engine will do
    if let Some(sandbox) = checks.first_mut().filter(|_| engines.health == Health::Ok)
        && sandbox.health == Health::Missing
    {
        sandbox.health = Health::Limited;
    }
    checks.push(engines);
    checks.push(network());
    checks.push(room(&state.sandboxes()));
    checks.extend([
        program("git", &["git"], "jobs that call git (`ci` itself needs none)", "sudo apt-get install git"),
        program("ssh", &["ssh"], "ci deploy", "sudo apt-get install openssh-client"),
        program("erlang", &["erl", "rebar3"], "ci release, ci deploy", "sudo apt-get install erlang rebar3"),
    ]);
    match args.format {
        Format::Json => print_json(&Document { version: 1, checks: &checks })?,
        Format::Text => print_raw(text(&checks).as_bytes())?,
    }
    if checks.iter().any(|check| check.health == Health::Missing) {
        return Err(CliError::silent(ErrorKind::Failed));
    }
    Ok(())
}

async fn containers(states: &Path) -> Vec<Check> {
    let sandbox = Sandbox::default();
    if let Err(error) = std::fs::create_dir_all(states) {
        let text = format!("`{}` can't be made: {error}", states.display());
        return vec![
            Check::new("containers", Health::Missing, text)
                .cure("set `SLIPWAY_HOME` to a directory that you can write to"),
        ];
    }
    let found = sandbox.probe(states).await;
    let mode = match found.mode {
        Mode::Root => "as root",
        Mode::Rootless => "as an ordinary user, with the ids of /etc/subuid and /etc/subgid",
        Mode::RootlessOneId => "as an ordinary user, with one user id only",
    };
    let works = found.works.is_ok();
    let mut check = match &found.works {
        Ok(()) if found.missing.is_empty() => Check::new("containers", Health::Ok, mode),
        Ok(()) => Check::new("containers", Health::Limited, mode),
        Err(error) => Check::new("containers", Health::Missing, error.to_string()),
    };
    for missing in found.missing {
        check = check.cure(format!("{}: {}", missing.what, missing.cure));
    }
    let mut checks = vec![check];
    if works {
        checks.push(match sandbox.probe_limits(states).await {
            Ok(notes) if notes.is_empty() => {
                Check::new("limits", Health::Ok, "memory, cpus and pids can be limited")
            }
            Ok(notes) => Check::new("limits", Health::Limited, notes.join("; ")).cure(
                "needed only for `limits:` of the settings. Root can set them; others where the machine has control \
                 groups of version 2 alone: systemd-run --user --scope -p Delegate=yes ci run",
            ),
            Err(error) => Check::new("limits", Health::Limited, error.to_string()),
        });
    }
    checks
}

/// Docker's and Podman's sockets.
fn engines() -> Check {
    let runtime = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let own = ["docker.sock", "podman/podman.sock"];
    let own = runtime.iter().flat_map(|dir| own.iter().map(move |name| dir.join(name)));
    let sockets = ["/var/run/docker.sock", "/run/podman/podman.sock"].map(PathBuf::from);
    let named = env::var("DOCKER_HOST").ok();
    let named = named.as_deref().and_then(|host| host.strip_prefix("unix://")).map(PathBuf::from);
    let mut refused = None;
    for socket in named.into_iter().chain(own).chain(sockets).filter(|path| path.exists()) {
        match UnixStream::connect(&socket) {
            Ok(_) => {
                return Check::new("engine", Health::Ok, format!("answers on {}", socket.display()));
            }
            Err(error) => refused = Some(format!("`{}`: {error}", socket.display())),
        }
    }
    let none = "no Docker or Podman (not needed where containers work)".to_owned();
    let check = Check::new("engine", Health::Limited, refused.clone().unwrap_or(none));
    match refused {
        Some(_) => check.cure(
            "start it (sudo systemctl start docker), or join its group (sudo usermod -aG docker \"$USER\")",
        ),
        None => check,
    }
}

fn network() -> Check {
    match ["pasta", "slirp4netns"].into_iter().find(|name| on_path(name)) {
        Some(program) => {
            Check::new("network", Health::Ok, format!("{program}: jobs can have networks of their own"))
        }
        None => Check::new(
            "network",
            Health::Limited,
            "neither pasta nor slirp4netns: jobs use this machine's network",
        )
        .cure("sudo apt-get install passt"),
    }
}

fn room(states: &Path) -> Check {
    let shown = states.display();
    match Disk::of(states) {
        Ok(Disk { free, .. }) => {
            let text = format!("{:.1} GiB free in {shown}", free as f64 / f64::from(1 << 30));
            if free >= ROOM {
                return Check::new("disk", Health::Ok, text);
            }
            Check::new("disk", Health::Limited, text)
                .cure("make room, or set `SLIPWAY_HOME` to a larger disk")
        }
        Err(error) => Check::new("disk", Health::Limited, format!("{shown}: {error}")),
    }
}

fn program(name: &'static str, programs: &[&str], purpose: &str, cure: &str) -> Check {
    let missing: Vec<&str> = programs.iter().copied().filter(|program| !on_path(program)).collect();
    if missing.is_empty() {
        return Check::new(name, Health::Ok, format!("{}: there", programs.join(", ")));
    }
    Check::new(name, Health::Limited, format!("{}: not there; for {purpose}", missing.join(", "))).cure(cure)
}

fn on_path(program: &str) -> bool {
    env::var_os("PATH").is_some_and(|path| env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}

fn text(checks: &[Check]) -> String {
    let mut text = String::new();
    for check in checks {
        let (word, colour) = match check.health {
            Health::Ok => ("ok", AnsiColor::Green),
            Health::Limited => ("limited", AnsiColor::Yellow),
            Health::Missing => ("missing", AnsiColor::Red),
        };
        let style = Style::new().bold().fg_color(Some(colour.into()));
        text.push_str(&format!("{style}{word:8}{style:#}{:11} {}\n", check.name, check.found));
        for cure in &check.cures {
            text.push_str(&format!("{:20}help: {}\n", "", cure.replace('\n', &format!("\n{:26}", ""))));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cures_stand_below_what_they_cure() {
        let checks = [
            Check::new("disk", Health::Ok, "9.0 GiB free"),
            Check::new("containers", Health::Missing, "refused").cure("write this:\nline"),
        ];
        let plain = anstream::adapter::strip_str(&text(&checks)).to_string();
        let expected = "ok      disk        9.0 GiB free\n\
                        missing containers  refused\n\
                        \x20                   help: write this:\n\
                        \x20                         line\n";
        assert_eq!(plain, expected);
    }

    #[test]
    fn programs_that_are_not_there_are_named_with_their_purpose() {
        let check = program("x", &["sh", "no-such-program"], "ci x", "install it");
        assert_eq!((check.health, check.cures.len()), (Health::Limited, 1));
        assert_eq!(check.found, "no-such-program: not there; for ci x");
    }
}
