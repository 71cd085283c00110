//! The network of a job, and the services in it.

use super::{Asked, Forwarders, Running, Surroundings, address, host_names, start, wait_until_ready};
use crate::executor::{ExecutorError, Voice};
use crate::running::system;
use crate::sandbox::{JobNetwork, Limits, Router, Sandbox, Spec, resolver_settings};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Which network jobs get.
#[derive(Clone, Debug, Default)]
pub enum Networking {
    /// The host's own; services have one beside it and are reached through addresses of the host's loopback.
    #[default]
    Host,
    /// Each job one of its own, with a way out.
    Isolated(Router),
    /// Each job one of its own, without a way out.
    Closed(Router),
}

/// What is needed to start a job's services.
pub(crate) struct Order<'a> {
    pub(crate) networking: &'a Networking,
    pub(crate) sandbox: &'a Sandbox,
    pub(crate) states: &'a Path,
    pub(crate) ci: &'a Path,
    pub(crate) hidden: &'a [PathBuf],
    pub(crate) limits: Limits,
    /// The job's number among those that run at once.
    pub(crate) slot: u32,
    pub(crate) logs: PathBuf,
    pub(crate) masked: &'a [String],
    pub(crate) said: &'a Voice,
    pub(crate) debug: bool,
}

/// A job's network with the services that run in it.
#[derive(Debug, Default)]
pub(crate) struct Company {
    network: Option<Arc<JobNetwork>>,
    /// The job is in the network too.
    joined: bool,
    hosts: Vec<(Ipv4Addr, String)>,
    resolver: Option<String>,
    services: Vec<Running>,
    forwarders: Forwarders,
}

impl Company {
    /// Makes the network, starts the services and waits until they are ready.
    ///
    /// # Errors
    /// There is no network, or a service can't be started; nothing is left then.
    pub(crate) async fn start(asked: Vec<Asked>, order: &Order<'_>) -> Result<Company, ExecutorError> {
        let (router, joined) = match order.networking {
            Networking::Isolated(router) | Networking::Closed(router) => (router.clone(), true),
            Networking::Host if asked.is_empty() => return Ok(Company::default()),
            Networking::Host => (Router::start(order.sandbox, false).await.map_err(system)?, false),
        };
        let containers = u32::try_from(asked.len() + 1).unwrap_or(u32::MAX);
        let network = Arc::new(router.join(containers).await.map_err(system)?);
        let mut company = Company { network: Some(network.clone()), joined, ..Company::default() };
        company.resolver = match order.networking {
            Networking::Isolated(_) => Some(resolver_settings()),
            Networking::Closed(_) => Some(String::new()),
            Networking::Host => None,
        };
        let hosts = company.names(&asked, |number| network.address(number));
        company.services = run_all(&asked, &hosts, &network, company.resolver.clone(), order).await?;
        company.hosts = if joined {
            hosts
        } else {
            for service in &company.services {
                let at = address(order.slot, service.number);
                company.forwarders.add(service, at, &network, order.said).await;
            }
            company.names(&asked, |number| (number > 0).then(|| address(order.slot, number)))
        };
        wait_until_ready(&company.services, &network, order.said).await;
        Ok(company)
    }

    /// The lines of /etc/hosts; the job is called `build`, as by GitLab.
    fn names(&self, asked: &[Asked], at: impl Fn(usize) -> Option<Ipv4Addr>) -> Vec<(Ipv4Addr, String)> {
        let job = (0, vec!["build".to_owned()]);
        let all = asked.iter().map(|asked| (asked.number, host_names(&asked.service)));
        let lines = all.chain([job]).filter_map(|(number, names)| Some((at(number)?, names)));
        lines.flat_map(|(address, names)| names.into_iter().map(move |name| (address, name))).collect()
    }

    /// Puts the job's own sandbox into the network.
    pub(crate) fn attach(&self, spec: &mut Spec) {
        if let Some(network) = self.network.as_ref().filter(|_| self.joined).and_then(|net| net.network(0)) {
            spec.network = network;
        }
        spec.hosts.clone_from(&self.hosts);
        spec.resolver.clone_from(&self.resolver);
    }

    /// Stops the services, removes the network.
    ///
    /// # Errors
    /// Layers of a service are left.
    pub(crate) async fn stop(self, sandbox: &Sandbox) -> Result<(), ExecutorError> {
        drop(self.forwarders);
        stop_all(self.services, sandbox).await
    }
}

async fn run_all(
    asked: &[Asked],
    hosts: &[(Ipv4Addr, String)],
    network: &JobNetwork,
    resolver: Option<String>,
    order: &Order<'_>,
) -> Result<Vec<Running>, ExecutorError> {
    let around = Surroundings {
        sandbox: order.sandbox,
        states: order.states,
        ci: order.ci,
        hidden: order.hidden,
        network,
        hosts,
        resolver,
        limits: order.limits,
        logs: order.logs.clone(),
        masked: order.masked,
        said: order.said,
        debug: order.debug,
    };
    let started = futures_util::future::join_all(asked.iter().map(|asked| start(asked, &around))).await;
    let (mut running, mut failure) = (Vec::new(), None);
    for service in started {
        match service {
            Ok(service) => running.push(service),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    match failure {
        None => Ok(running),
        Some(failure) => {
            // the failure before it is the one to tell
            let _as_well = stop_all(running, order.sandbox).await;
            Err(failure)
        }
    }
}

async fn stop_all(services: Vec<Running>, sandbox: &Sandbox) -> Result<(), ExecutorError> {
    let stopped = services.into_iter().map(|service| service.stop(sandbox));
    futures_util::future::join_all(stopped).await.into_iter().collect()
}
