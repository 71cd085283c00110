//! Waiting until services answer.

use super::Running;
use crate::executor::{Said, Voice};
use crate::sandbox::{Health, JobNetwork};
use tokio::sync::watch;
use tokio::time::{Duration, Instant, sleep, timeout_at};

/// GitLab's. A service that isn't ready then fails nothing by itself.
const PATIENCE: Duration = Duration::from_secs(30);
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// Waits for all services; warns about those that don't get ready.
pub(crate) async fn wait_until_ready(services: &[Running], network: &JobNetwork, said: &Voice) {
    let until = Instant::now() + PATIENCE;
    let seconds = PATIENCE.as_secs();
    let waited: Vec<&Running> =
        services.iter().filter(|one| one.health.is_some() || !one.ports.is_empty()).collect();
    if !waited.is_empty() {
        let text = format!("Waiting for services to be up and running (timeout {seconds} seconds)...");
        said.say(Said::Line(text));
    }
    let waits = waited.into_iter().map(|service| async move {
        if let Some(health) = &service.health {
            if let Some(what) = healthy(service, health.clone(), until).await {
                said.say(service.trouble(&what));
            }
        } else if timeout_at(until, one(service, network)).await.is_err() {
            let ports: Vec<String> = service.ports.iter().map(u16::to_string).collect();
            let what = format!("nothing answers on port {} for {seconds} s", ports.join(", "));
            said.say(service.trouble(&what));
        }
    });
    futures_util::future::join_all(waits).await;
}

/// Until its own check succeeds; else why not. One that has ended is told about elsewhere.
async fn healthy(service: &Running, mut health: watch::Receiver<Health>, until: Instant) -> Option<String> {
    let mut ended = service.ended.clone();
    let settled = health.wait_for(|health| matches!(health, Health::Healthy | Health::Unhealthy(_)));
    let in_time = tokio::select! {
        settled = timeout_at(until, settled) => settled.is_ok(),
        _ = ended.wait_for(|ended| *ended) => return None,
    };
    let seconds = PATIENCE.as_secs();
    match &*health.borrow() {
        Health::Healthy => None,
        Health::Unhealthy(why) => Some(format!("its image's health check {why}")),
        // its end is told by whoever watches it
        _ if in_time => None,
        Health::Failing(why) => Some(format!("its image's health check {why} for {seconds} s")),
        Health::Starting => Some(format!("its image's health check has said nothing for {seconds} s")),
    }
}

/// Until one of the ports answers: images expose more than they open. One that has ended is told about elsewhere.
async fn one(service: &Running, network: &JobNetwork) {
    let mut pause = FIRST_PAUSE;
    while !*service.ended.borrow() {
        for port in &service.ports {
            match network.connect(service.number, *port).await {
                Ok(Some(_)) | Err(_) => return,
                Ok(None) => {}
            }
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
