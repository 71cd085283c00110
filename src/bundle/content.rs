//! The small files of a bundle: facts for `install.sh`, module lists.

use crate::deploy::{Check, Environment, Service, Way};
use crate::digest::hex;
use crate::error::{CliError, CliResult};
use crate::release::Package;

use super::manifest::Manifest;

/// `facts`: one `KEY<TAB>VALUE...` a line.
///
/// # Errors
/// A value has a tab, a line end or another control character.
pub fn facts(manifest: &Manifest, settings: &Environment) -> CliResult<String> {
    let mut facts = Facts(String::new());
    facts.add("name", &[&manifest.name])?;
    facts.add("version", &[&manifest.version])?;
    facts.add("environment", &[&manifest.environment])?;
    facts.add("directory", &[&manifest.directory])?;
    facts.add("erts", &[&manifest.erts])?;
    facts.add("content", &[&manifest.content])?;
    facts.add("package", &[&manifest.package])?;
    facts.add("disk_kib", &[&manifest.disk_kib.to_string()])?;
    facts.add("prefer", &[way(settings.strategy.prefer)])?;
    let allow: Vec<&str> = settings.strategy.allow.iter().copied().map(way).collect();
    facts.add("allow", &[&allow.join(" ")])?;
    facts.add("soak", &[&settings.soak.as_secs().to_string()])?;
    for health in &settings.health {
        let (kind, value) = match &health.check {
            Check::Http(url) => ("http", url),
            Check::Tcp(address) => ("tcp", address),
            Check::Eval(expression) => ("eval", expression),
            Check::Command(command) => ("command", command),
        };
        facts.add("health", &[kind, &health.within.as_secs().to_string(), value])?;
    }
    if let Some(service) = &manifest.service {
        facts.add("service", &[service])?;
    }
    match &settings.service {
        Some(Service::Systemd(unit)) => facts.add("unit", &[unit])?,
        Some(Service::Supervisord { program, server, .. }) => {
            facts.add("program", &[program])?;
            facts.add("server", &[server])?;
        }
        Some(Service::Binary { pid, binary, .. }) => {
            facts.add("pid", &[pid])?;
            facts.add("binary", &[binary])?;
        }
        Some(Service::Commands { .. } | Service::Canary { .. }) | None => {}
    }
    for (name, version) in &manifest.applications {
        facts.add("app", &[name, version])?;
    }
    for replaced in &manifest.replaces {
        let why = replaced.why.as_deref().unwrap_or("-").replace(['\n', '\t'], " ");
        let package = replaced.package.as_deref().unwrap_or("-");
        facts.add("from", &[&replaced.version, &replaced.strategy, &why, package])?;
        for left_out in &replaced.left_out {
            facts.add("left_out", &[&replaced.version, left_out])?;
        }
        for (file, sha256) in &replaced.shipped {
            facts.add("shipped", &[&replaced.version, file, sha256])?;
        }
    }
    Ok(facts.0)
}

struct Facts(String);

impl Facts {
    fn add(&mut self, key: &str, values: &[&str]) -> CliResult {
        if let Some(odd) = values.iter().find(|value| value.contains(char::is_control)) {
            return Err(CliError::usage(format!(
                "`{}` ({key}) can't be in a bundle: it has a tab, a line end or another control character",
                odd.escape_debug()
            )));
        }
        self.0.push_str(&format!("{key}\t{}\n", values.join("\t")));
        Ok(())
    }
}

fn way(way: Way) -> &'static str {
    match way {
        Way::Hot => "hot",
        Way::Restart => "restart",
        Way::Fresh => "fresh",
    }
}

/// Every module of a package with its MD5, as terms for `file:consult/1`.
pub fn modules(package: &Package) -> String {
    let quote = |name: &str| name.replace('\\', "\\\\").replace('\'', "\\'");
    let modules = package.modules.values().flatten();
    modules.map(|(name, beam)| format!("{{'{}',\"{}\"}}.\n", quote(name), hex(&beam.md5))).collect()
}

/// May this be a release's name or version in a bundle? `install.sh` asks the same.
pub fn is_plain(word: &str) -> bool {
    !word.is_empty()
        && !word.starts_with(['.', '-'])
        && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"._+~-".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_a_shell_could_take_for_more_are_refused() {
        for word in ["1.2.3", "urf", "1.0.0-rc.1+build~2", "v1_2"] {
            assert!(is_plain(word), "{word}");
        }
        for word in ["", ".", "..", "-rf", "a b", "$(id)", "a;b", "a/b", "a\nb", "`id`", "'", "*"] {
            assert!(!is_plain(word), "{word}");
        }
    }

    #[test]
    fn a_value_with_a_line_end_never_becomes_a_fact_of_its_own() {
        let mut facts = Facts(String::new());
        assert!(facts.add("health", &["command", "1", "true\nsoak\t0"]).is_err());
        facts.add("soak", &["5"]).unwrap();
        assert_eq!(facts.0, "soak\t5\n");
    }
}
