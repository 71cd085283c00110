//! One service: its sandbox, and its end.

use super::log::{Log, Tail};
use super::{host_names, log_name};
use crate::container::{self, Container};
use crate::executor::{ExecutorError, Said, Voice};
use crate::image::Image;
use crate::running::system;
use crate::sandbox::{
    Check, ExitStatus, Health, JobNetwork, Limits, Process, Sandbox, Spec, StateDir, Streams, Task,
};
use pipelines::plan::Service;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::net::unix::pipe;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

/// What the services of a job share.
pub(crate) struct Surroundings<'a> {
    pub(crate) sandbox: &'a Sandbox,
    /// Directory of all state directories.
    pub(crate) states: &'a Path,
    /// The executable that services of image `host` find as `ci`.
    pub(crate) ci: &'a Path,
    /// What those of image `host` don't see.
    pub(crate) hidden: &'a [PathBuf],
    pub(crate) network: &'a JobNetwork,
    /// Names of all services, of the job too.
    pub(crate) hosts: &'a [(Ipv4Addr, String)],
    pub(crate) resolver: Option<String>,
    pub(crate) limits: Limits,
    /// Directory of the logs.
    pub(crate) logs: PathBuf,
    /// What no log shows.
    pub(crate) masked: &'a [String],
    pub(crate) said: &'a Voice,
    /// Put the services' output into the job's log (`CI_DEBUG_SERVICES`).
    pub(crate) debug: bool,
}

/// A service to start.
pub(crate) struct Asked {
    pub(crate) service: Service,
    /// None: the host's files.
    pub(crate) image: Option<Image>,
    /// Its number in the network, from 1: the job has 0.
    pub(crate) number: usize,
}

impl Asked {
    /// Ports that tell whether it is ready: `HEALTHCHECK_TCP_PORT`, else what the image exposes.
    pub(crate) fn ports(&self) -> Vec<u16> {
        let own =
            self.service.variables.get("HEALTHCHECK_TCP_PORT").and_then(|port| port.trim().parse().ok());
        match own {
            Some(port) => vec![port],
            None => self.image.as_ref().map(|image| image.config.ports.clone()).unwrap_or_default(),
        }
    }
}

impl Asked {
    /// Its image's own check, unless `HEALTHCHECK_TCP_PORT` asks for another.
    fn check(&self) -> Option<Check> {
        if self.service.variables.contains_key("HEALTHCHECK_TCP_PORT") {
            return None;
        }
        let health = self.image.as_ref()?.config.health.as_ref()?;
        // a job waits, so it is asked more often than the image says, but given up no sooner than by Docker
        let patience = health.start_period.saturating_add(health.interval.saturating_mul(health.retries));
        Some(Check { argv: health.command.clone(), timeout: health.timeout, patience })
    }
}

/// A service that was started. Dropping it kills it; its layers are then removed by the next sweep.
#[derive(Debug)]
pub(crate) struct Running {
    /// As people know it.
    pub(crate) name: String,
    image: String,
    /// Its number in the network.
    pub(crate) number: usize,
    /// See [`Asked::ports`].
    pub(crate) ports: Vec<u16>,
    /// What its image's health check says, if it has one.
    pub(crate) health: Option<watch::Receiver<Health>>,
    /// Has it ended by itself?
    pub(crate) ended: watch::Receiver<bool>,
    tail: Tail,
    state: StateDir,
    stop: oneshot::Sender<()>,
    watched: JoinHandle<()>,
}

/// Starts a service.
///
/// # Errors
/// Its sandbox can't be made, or its program can't be executed.
pub(crate) async fn start(asked: &Asked, around: &Surroundings<'_>) -> Result<Running, ExecutorError> {
    let service = &asked.service;
    let (name, image) = (log_name(service), service.image.name.clone());
    let doing = format!("starting service `{name}` (image `{image}`)");
    let failed = |error: io::Error| ExecutorError::system(&doing, error);
    around.said.say(Said::Line(format!("Starting service {image} ...")));
    let state = StateDir::create(around.states, &state_name()).map_err(system)?;
    let spec = spec(asked, around, &state)?;
    let container = match &asked.image {
        None => Container::host(Path::new("/")),
        Some(image) => Container::image(image, &service.image, &spec.hostname),
    };
    let default = asked.image.as_ref().map(|image| image.config.command.as_slice()).unwrap_or_default();
    let command = container.service(service, default);
    if command.argv.is_empty() {
        return Err(ExecutorError::system(&doing, "its image names no program: give it a `command`"));
    }
    let (reader, writer) = io::pipe().map_err(failed)?;
    let stdout = writer.try_clone().map_err(failed)?.into();
    let streams = Streams { stdin: None, stdout, stderr: writer.into() };
    let check = asked.check();
    let checked = check.is_some();
    let task = match check {
        Some(check) => Task::Serve(command, check),
        None => Task::Run(command),
    };
    let started = around.sandbox.start(&spec, task, streams).await;
    let process = started.map_err(|error| ExecutorError::system(&doing, error))?;
    let health = checked.then(|| process.health());
    let output = pipe::Receiver::from_owned_fd(OwnedFd::from(reader)).map_err(failed)?;
    let log = Log::new(&name, around).map_err(failed)?;
    let tail = log.tail();
    let (stop, stopped) = oneshot::channel();
    let (tell_end, ended) = watch::channel(false);
    let (said, last) = (around.said.clone(), tail.clone());
    let about = format!("service `{name}` (image `{image}`)");
    let watched = tokio::spawn(async move {
        let ((), how) = tokio::join!(log.follow(output), watch(process, stopped));
        if let Some(how) = how {
            said.say(Said::Warning(format!("{about} {how}{}", last.text())));
            let _gone = tell_end.send(true);
        }
    });
    let (number, ports) = (asked.number, asked.ports());
    Ok(Running { name, image, number, ports, health, ended, tail, state, stop, watched })
}

/// Different for all services of all jobs of this machine.
fn state_name() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("service-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

fn spec(asked: &Asked, around: &Surroundings<'_>, state: &StateDir) -> Result<Spec, ExecutorError> {
    let service = &asked.service;
    let mut spec = match &asked.image {
        None => {
            let mut spec = Spec::host(state.path(), around.ci);
            spec.hidden.extend(around.hidden.iter().cloned());
            spec
        }
        Some(image) => {
            let mut spec = Spec::image(state.path(), image.layers.clone());
            spec.user = container::user(image, &service.image);
            spec
        }
    };
    // the kernel takes 64 bytes
    if let Some(name) = host_names(service).pop().filter(|name| name.len() <= 64) {
        spec.hostname = name;
    }
    spec.network = around
        .network
        .network(asked.number)
        .ok_or_else(|| ExecutorError::system("starting a service", "its network has no room for it"))?;
    spec.hosts = around.hosts.to_vec();
    spec.resolver = around.resolver.clone();
    spec.limits = around.limits;
    Ok(spec)
}

/// How the service ended, if it did so by itself.
async fn watch(mut process: Process, stopped: oneshot::Receiver<()>) -> Option<String> {
    tokio::select! {
        status = process.wait() => Some(match status {
            Ok(ExitStatus::Code(code)) => format!("has ended with exit code {code}"),
            Ok(ExitStatus::Signal(signal)) => format!("was ended by signal {signal}"),
            Err(error) => format!("is lost: {error}"),
        }),
        _ = stopped => {
            process.kill();
            // that it ends is what counts
            let _as_killed = process.wait().await;
            None
        }
    }
}

impl Running {
    /// A warning about this service, with the end of its log.
    pub(crate) fn trouble(&self, what: &str) -> Said {
        let (name, image, tail) = (&self.name, &self.image, self.tail.text());
        Said::Warning(format!(
            "service `{name}` (image `{image}`) probably didn't start properly: {what}{tail}"
        ))
    }

    /// Kills it and removes its layers.
    pub(crate) async fn stop(self, sandbox: &Sandbox) -> Result<(), ExecutorError> {
        // one that has ended listens no more
        let _ended = self.stop.send(());
        let _never_panics = self.watched.await;
        self.state.remove(sandbox).await.map_err(system)
    }
}
