//! What the engine is told of a job's container.

use super::owner;
use super::pull::{self, Pulled};
use super::services::Network;
use super::step::launch;
use crate::executor::Place;
use crate::sandbox::Limits;
use bollard::models::{ContainerCreateBody, HostConfig, HostConfigLogConfig, Mount, MountType};
use pipelines::plan::Image;
use std::path::Path;

/// What goes into it.
pub(super) struct Parts<'a> {
    pub(super) image: &'a Image,
    pub(super) pulled: &'a Pulled,
    pub(super) place: &'a Place,
    /// Of the jobs' files.
    pub(super) files: Mount,
    pub(super) network: &'a Network,
    pub(super) limits: Limits,
}

/// The container of all steps. Its entrypoint is the image's or the job's; the command is a shell that reads the
/// script from standard input. What it writes is not logged by the engine: nothing would be masked there.
pub(super) fn job_container(parts: &Parts<'_>) -> ContainerCreateBody {
    let host = HostConfig {
        mounts: Some(vec![parts.files.clone()]),
        log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
        network_mode: parts.network.name.clone(),
        extra_hosts: Some(parts.network.hosts.clone()).filter(|hosts| !hosts.is_empty()),
        ..limited(parts.limits)
    };
    ContainerCreateBody {
        image: Some(parts.pulled.id.clone()),
        cmd: Some(launch()),
        entrypoint: parts.image.entrypoint.clone(),
        user: pull::user(parts.image).map(str::to_owned),
        env: Some(environment(parts.place.public.iter().map(|(name, value)| (name, value)))),
        labels: Some(owner::labels()),
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        open_stdin: Some(true),
        stdin_once: Some(true),
        tty: Some(false),
        host_config: Some(host),
        ..ContainerCreateBody::default()
    }
}

/// The limits, and nothing else.
pub(super) fn limited(limits: Limits) -> HostConfig {
    let memory = limits.memory.and_then(|bytes| i64::try_from(bytes).ok());
    HostConfig {
        memory,
        // the same number: no swap beside it
        memory_swap: memory,
        nano_cpus: limits.cpus.map(|cpus| (cpus * 1e9) as i64),
        pids_limit: limits.pids.map(i64::from),
        ..HostConfig::default()
    }
}

/// `NAME=value` of each.
pub(super) fn environment<'a>(variables: impl IntoIterator<Item = (&'a String, &'a String)>) -> Vec<String> {
    variables.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

/// A directory of this machine at a path of the container.
pub(super) fn bind(source: &Path, target: &str) -> Mount {
    Mount {
        typ: Some(MountType::BIND),
        source: Some(source.to_string_lossy().into_owned()),
        target: Some(target.to_owned()),
        ..Mount::default()
    }
}

/// A volume of the engine at a path of the container.
pub(super) fn volume(name: &str, target: &str) -> Mount {
    Mount {
        typ: Some(MountType::VOLUME),
        source: Some(name.to_owned()),
        target: Some(target.to_owned()),
        ..Mount::default()
    }
}
