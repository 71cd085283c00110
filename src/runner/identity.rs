//! Who this machine is, and what it can do.

use crate::settings::ExecutorKind;
use crate::wire::runner::{Info, feature};
use std::io::{self, Write};
use std::path::Path;

const ALWAYS: [&str; 18] = [
    feature::VARIABLES,
    feature::ARTIFACTS,
    feature::CACHE,
    feature::FALLBACK_CACHE_KEYS,
    feature::UPLOAD_MULTIPLE_ARTIFACTS,
    feature::UPLOAD_RAW_ARTIFACTS,
    feature::REFSPECS,
    feature::MASKING,
    feature::RAW_VARIABLES,
    feature::ARTIFACTS_EXCLUDE,
    feature::MULTI_BUILD_STEPS,
    feature::TRACE_RESET,
    feature::TRACE_CHECKSUM,
    feature::TRACE_SIZE,
    feature::CANCELABLE,
    feature::RETURN_EXIT_CODE,
    feature::CANCEL_GRACEFULLY,
    feature::TWO_PHASE_JOB_COMMIT,
];
const IN_CONTAINERS: [&str; 4] =
    [feature::IMAGE, feature::SERVICES, feature::SERVICE_VARIABLES, feature::SERVICE_MULTIPLE_ALIASES];

/// What a runner tells of itself.
pub fn info(executor: Option<ExecutorKind>) -> Info {
    let (name, containers) = match executor {
        Some(ExecutorKind::Shell) => ("shell", false),
        Some(ExecutorKind::Docker | ExecutorKind::Podman) => ("docker", true),
        Some(ExecutorKind::Sandbox) | None => ("sandbox", true),
    };
    let mut features = Info::features_of(&ALWAYS);
    if containers {
        features.extend(Info::features_of(&IN_CONTAINERS));
    }
    Info {
        name: "slipway".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        revision: env!("CARGO_PKG_VERSION").to_owned(),
        platform: std::env::consts::OS.to_owned(),
        architecture: architecture().to_owned(),
        executor: name.to_owned(),
        shell: "bash".to_owned(),
        features,
    }
}

/// Go's name, as GitLab shows it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Which of the machines that share a token this is: kept in a file beside `runner.yml`, made of the machine's id where
/// it has one.
///
/// # Errors
/// The file can't be read or made.
pub fn system_id(config: &Path) -> io::Result<String> {
    let directory = config.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let path = directory.join(".runner_system_id");
    match std::fs::read_to_string(&path) {
        Ok(text) if is_system_id(text.trim()) => return Ok(text.trim().to_owned()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let id = match std::fs::read_to_string("/etc/machine-id") {
        // the id itself is confidential, says its manual page
        Ok(machine) if !machine.trim().is_empty() => {
            format!(
                "s_{}",
                &crate::digest::sha256_hex(format!("slipway {}", machine.trim()).as_bytes())[..12]
            )
        }
        _ => {
            let mut random = [0; 6];
            getrandom::fill(&mut random).map_err(io::Error::other)?;
            random.iter().fold("r_".to_owned(), |id, byte| format!("{id}{byte:02x}"))
        }
    };
    std::fs::create_dir_all(directory)?;
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    writeln!(file, "{id}")?;
    file.persist(&path).map_err(|e| e.error)?;
    Ok(id)
}

fn is_system_id(text: &str) -> bool {
    let rest = text.strip_prefix("s_").or_else(|| text.strip_prefix("r_"));
    rest.is_some_and(|rest| (1..=62).contains(&rest.len()) && rest.bytes().all(|b| b.is_ascii_alphanumeric()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_keeps_its_id() {
        let dir = tempfile::tempdir().expect("a directory");
        let config = dir.path().join("runner.yml");
        let first = system_id(&config).expect("an id");
        assert!(is_system_id(&first), "{first}");
        std::fs::write(dir.path().join(".runner_system_id"), "r_abc123\n").expect("a file");
        assert_eq!(system_id(&config).expect("an id"), "r_abc123");
        std::fs::write(dir.path().join(".runner_system_id"), "../x\n").expect("a file");
        assert_eq!(system_id(&config).expect("an id").len(), 14);
    }

    #[test]
    fn only_containers_have_images_and_services() {
        assert!(info(None).can(feature::SERVICES) && info(Some(ExecutorKind::Docker)).can(feature::IMAGE));
        let shell = info(Some(ExecutorKind::Shell));
        assert!(!shell.can(feature::IMAGE) && shell.can(feature::CANCEL_GRACEFULLY));
    }
}
