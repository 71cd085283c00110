//! Waiting until services are ready: by their image's own health check, else by the ports that they listen on.

use super::engine::{Engine, told};
use super::execution::Belongings;
use super::owner;
use super::pull::Pulled;
use super::services::Started;
use super::state::{State, state_of};
use crate::executor::Place;
use bollard::models::{ContainerCreateBody, HealthStatusEnum, HostConfig};
use bollard::query_parameters::{CreateContainerOptionsBuilder, LogsOptionsBuilder};
use futures_util::StreamExt;
use futures_util::future::join_all;
use std::time::Duration;

/// GitLab's.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(100);
/// Lines of a service's log in a warning.
const TAIL: &str = "20";

/// Looks, without any program but the shell, whether one of the ports (arguments, four hexadecimal digits each) is
/// listened on by more than the loopback address.
const LISTENS: &str = r#"while :; do
for table in /proc/net/tcp /proc/net/tcp6; do
[ -r "$table" ] || continue
while read -r _ local _ state _; do
[ "$state" = 0A ] || continue
case "$local" in 0100007F:*|00000000000000000000000001000000:*) continue ;; esac
for port; do [ "${local##*:}" = "$port" ] && exit 0; done
done <"$table"
done
sleep 0.05 2>/dev/null || sleep 1
done"#;

/// Waits for all of them; whoever is not ready in time is told about, with the end of its log.
pub(super) async fn wait(
    engine: &Engine,
    image: &Pulled,
    services: &[Started],
    place: &Place,
    belongings: &mut Belongings,
) {
    let mut probes = Vec::new();
    for _ in services {
        // named before it is made: whoever drops us meanwhile removes it
        let probe = owner::unique_name();
        belongings.containers.push(probe.clone());
        probes.push(probe);
    }
    if !services.is_empty() {
        place.say("Waiting for services to be up and running (timeout 30 seconds)...");
    }
    let waiting = services.iter().zip(&probes).map(|(service, probe)| ready(engine, image, service, probe));
    for (service, result) in services.iter().zip(join_all(waiting).await) {
        if let Err(why) = result {
            let log = last_lines(engine, &service.container).await;
            place.warn(format!("service `{}` probably didn't start properly: {why}{log}", service.name));
        }
    }
    for probe in &probes {
        // what is left, the job's cleanup removes
        let _ = owner::remove_container(engine, probe).await;
    }
    belongings.containers.retain(|name| !probes.contains(name));
}

async fn ready(engine: &Engine, image: &Pulled, service: &Started, probe: &str) -> Result<(), String> {
    let state = asked(engine, &service.container).await?;
    if let Some(code) = state.code {
        return Err(ended(&state, code));
    }
    if service.ports.is_empty() && !service.checks_itself {
        return Ok(());
    }
    if !service.checks_itself {
        start_probe(engine, image, service, probe).await?;
    }
    let watching = async {
        loop {
            let state = asked(engine, &service.container).await?;
            if let Some(code) = state.code {
                return Err(ended(&state, code));
            }
            let ready = if service.checks_itself {
                if state.health == Some(HealthStatusEnum::UNHEALTHY) {
                    return Err("its health check says that it is unhealthy".to_owned());
                }
                // podman does not run health checks without systemd
                state
                    .health
                    .is_none_or(|health| matches!(health, HealthStatusEnum::HEALTHY | HealthStatusEnum::NONE))
            } else {
                probe_ended(engine, probe).await?
            };
            if ready {
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, watching).await;
    waited.unwrap_or_else(|_| Err(format!("service \"{}\" timeout{}", service.name, ports(&service.ports))))
}

fn ports(ports: &[u16]) -> String {
    let all: Vec<String> = ports.iter().map(u16::to_string).collect();
    if all.is_empty() { String::new() } else { format!(" (nothing listens on port {})", all.join(" or ")) }
}

fn ended(state: &State, code: i64) -> String {
    if state.error.is_empty() { format!("it has ended with exit code {code}") } else { state.error.clone() }
}

async fn asked(engine: &Engine, container: &str) -> Result<State, String> {
    state_of(engine, container).await.map_err(|error| told(&error))
}

/// A container of the job's image, which has a shell, in the service's network.
async fn start_probe(engine: &Engine, image: &Pulled, service: &Started, probe: &str) -> Result<(), String> {
    let ports = service.ports.iter().map(|port| format!("{port:04X}"));
    let body = ContainerCreateBody {
        image: Some(image.id.clone()),
        entrypoint: Some(["sh", "-c", LISTENS, "sh"].map(str::to_owned).to_vec()),
        cmd: Some(ports.collect()),
        user: Some("0".to_owned()),
        labels: Some(owner::labels()),
        host_config: Some(HostConfig {
            network_mode: Some(format!("container:{}", service.container)),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    };
    let options = CreateContainerOptionsBuilder::new().name(probe).build();
    engine.api.create_container(Some(options), body).await.map_err(|error| told(&error))?;
    engine.api.start_container(probe, None).await.map_err(|error| told(&error))
}

async fn probe_ended(engine: &Engine, probe: &str) -> Result<bool, String> {
    match asked(engine, probe).await?.code {
        None => Ok(false),
        Some(0) => Ok(true),
        Some(code) => Err(format!("looking for its ports failed with exit code {code}")),
    }
}

async fn last_lines(engine: &Engine, container: &str) -> String {
    let options = LogsOptionsBuilder::new().stdout(true).stderr(true).tail(TAIL).build();
    let mut log = std::pin::pin!(engine.api.logs(container, Some(options)));
    let mut text = String::new();
    while let Some(Ok(piece)) = log.next().await {
        text.push_str(&String::from_utf8_lossy(piece.as_ref()));
    }
    match text.trim_end() {
        "" => "; it has printed nothing".to_owned(),
        lines => lines.lines().fold("; its last lines:".to_owned(), |text, line| format!("{text}\n  {line}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_listened_on_is_found_by_the_shell_alone() {
        let everywhere = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        let port = format!("{:04X}", everywhere.local_addr().unwrap().port());
        let status =
            std::process::Command::new("sh").args(["-c", LISTENS, "sh", "0000", &port]).status().unwrap();
        assert!(status.success());
        let inside = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = format!("{:04X}", inside.local_addr().unwrap().port());
        let once = LISTENS.replace("sleep 0.05 2>/dev/null || sleep 1", "exit 9");
        let status = std::process::Command::new("sh").args(["-c", &once, "sh", &port]).status().unwrap();
        assert_eq!(status.code(), Some(9), "a port of the loopback address can't be reached by the job");
    }
}
