//! Services of a job: containers on a network of the job's own, under their names.

use super::engine::{Engine, told};
use super::execution::Belongings;
use super::executor::Docker;
use super::job_container::{environment, limited};
use super::owner;
use super::pull::{self, Pulled};
use crate::executor::{ExecutorError, Place};
use crate::sandbox::Limits;
use crate::services::{Log, host_names, log_name};
use bollard::models::{
    ContainerCreateBody, EndpointSettings, HostConfig, NetworkCreateRequest, NetworkingConfig,
};
use bollard::query_parameters::{CreateContainerOptionsBuilder, LogsOptionsBuilder};
use futures_util::StreamExt;
use futures_util::future::join_all;
use pipelines::plan::Service;
use std::collections::HashMap;
use tokio::io::AsyncWriteExt;

/// The network of a job that has services; without services the job is in the engine's usual network.
#[derive(Debug, Default)]
pub(super) struct Network {
    /// None: the engine's usual one.
    pub(super) name: Option<String>,
    /// `NAME:ADDRESS` of every name of every service: not every engine has name servers in its networks.
    pub(super) hosts: Vec<String>,
    pub(super) services: Vec<Started>,
}

/// A service that was started.
#[derive(Clone, Debug)]
pub(super) struct Started {
    /// As people know it.
    pub(super) name: String,
    pub(super) container: String,
    /// TCP ports that tell when it is ready.
    pub(super) ports: Vec<u16>,
    /// Does its image know by itself when it is ready?
    pub(super) checks_itself: bool,
}

/// A service about to be started.
struct Wanted {
    service: Service,
    image: Pulled,
    names: Vec<String>,
    container: String,
}

/// Starts the services of a job, if it has any.
pub(super) async fn start(
    docker: &Docker,
    place: &Place,
    belongings: &mut Belongings,
) -> Result<Network, ExecutorError> {
    if place.services.is_empty() {
        return Ok(Network::default());
    }
    let engine = &docker.engine;
    let name = owner::unique_name();
    belongings.network = Some(name.clone());
    let request = NetworkCreateRequest {
        name: name.clone(),
        labels: Some(owner::labels()),
        ..NetworkCreateRequest::default()
    };
    let made = engine.api.create_network(request).await;
    made.map_err(|error| ExecutorError::system("making a network for the services", told(&error)))?;
    let mut wanted = Vec::new();
    for service in &place.services {
        let names = host_names(service);
        place.say(format!("Starting service {} ...", service.image.name));
        let image = pull::get(engine, &service.image, place).await?;
        let container = owner::unique_name();
        belongings.containers.push(container.clone());
        wanted.push(Wanted { service: service.clone(), image, names, container });
    }
    let starting = wanted.iter().map(|wanted| start_one(engine, &name, wanted, docker.limits));
    let mut network = Network { name: Some(name.clone()), ..Network::default() };
    for (wanted, started) in wanted.iter().zip(join_all(starting).await) {
        let service = wanted.started();
        match started {
            Ok(address) => {
                keep_log(engine, &service, place, belongings);
                let hosts = wanted.names.iter().filter(|_| !address.is_empty());
                network.hosts.extend(hosts.map(|name| format!("{name}:{address}")));
            }
            // as GitLab: whether the job can do without it, the job shows
            Err(why) => place.warn(format!("service {} could not be started: {why}", wanted.image.name)),
        }
        network.services.push(service);
    }
    Ok(network)
}

impl Wanted {
    fn started(&self) -> Started {
        let own = self.service.variables.get("HEALTHCHECK_TCP_PORT");
        let own = own.and_then(|value| value.trim().parse().ok());
        let test = self.image.config.healthcheck.as_ref().and_then(|health| health.test.as_ref());
        Started {
            name: log_name(&self.service),
            container: self.container.clone(),
            ports: own.map_or_else(|| self.image.ports(), |port| vec![port]),
            checks_itself: test.is_some_and(|test| test.first().is_some_and(|kind| kind != "NONE")),
        }
    }
}

/// Keeps what a service prints: in a file, and on demand in the job's log, masked.
fn keep_log(engine: &Engine, service: &Started, place: &Place, belongings: &mut Belongings) {
    let log = match Log::of(&service.name, place) {
        Ok(log) => log,
        Err(error) => {
            return place.warn(format!("the log of service `{}` can't be kept: {error}", service.name));
        }
    };
    let (api, container) = (engine.api.clone(), service.container.clone());
    let (reader, mut writer) = tokio::io::duplex(64 * 1024);
    tokio::spawn(async move {
        let options = LogsOptionsBuilder::new().stdout(true).stderr(true).follow(true).build();
        let mut output = std::pin::pin!(api.logs(&container, Some(options)));
        while let Some(Ok(piece)) = output.next().await {
            if writer.write_all(piece.as_ref()).await.is_err() {
                break;
            }
        }
    });
    belongings.logs.push(tokio::spawn(log.follow(reader)));
}

/// Its address in the network; empty when it has ended already.
async fn start_one(
    engine: &Engine,
    network: &str,
    wanted: &Wanted,
    limits: Limits,
) -> Result<String, String> {
    let endpoint = EndpointSettings { aliases: Some(wanted.names.clone()), ..EndpointSettings::default() };
    let body = ContainerCreateBody {
        image: Some(wanted.image.id.clone()),
        cmd: wanted.service.command.clone(),
        entrypoint: wanted.service.image.entrypoint.clone(),
        user: pull::user(&wanted.service.image).map(str::to_owned),
        env: Some(environment(&wanted.service.variables)),
        labels: Some(owner::labels()),
        host_config: Some(HostConfig { network_mode: Some(network.to_owned()), ..limited(limits) }),
        networking_config: Some(NetworkingConfig {
            endpoints_config: Some(HashMap::from([(network.to_owned(), endpoint)])),
        }),
        ..ContainerCreateBody::default()
    };
    let mut options = CreateContainerOptionsBuilder::new().name(&wanted.container);
    if let Some(platform) = pull::platform(&wanted.service.image) {
        options = options.platform(platform);
    }
    let api = &engine.api;
    api.create_container(Some(options.build()), body).await.map_err(|error| told(&error))?;
    api.start_container(&wanted.container, None).await.map_err(|error| told(&error))?;
    let found = api.inspect_container(&wanted.container, None).await.map_err(|error| told(&error))?;
    let networks = found.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
    Ok(networks.get(network).and_then(|endpoint| endpoint.ip_address.clone()).unwrap_or_default())
}
