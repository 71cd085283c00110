//! One release on its way to one target.

use super::artifact::Artifact;
use super::binary::Binary;
use super::canary::Canary;
use super::choice::{self, Running};
use super::place::{self, Place};
use super::{program, status};
use crate::deploy::apply::Care;
use crate::deploy::error::{Error, Outcome};
use crate::deploy::file::{Environment, Kind, Service};
use crate::deploy::steps::Steps;
use crate::deploy::target::Target;
use crate::deploy::{bad, health, lock};
use crate::release::decide::{Decision, Strategy};
use crate::release::installed::Installed;

/// Old versions that stay where the environment does not say.
const KEEP: usize = 3;

/// What is asked for.
pub struct Order<'a> {
    /// The package.
    pub artifact: &'a Artifact,
    /// Service, policy, checks of the environment.
    pub environment: &'a Environment,
    /// Stop before anything is sent.
    pub plan: bool,
}

/// What was found, decided and done.
#[derive(Clone, Debug)]
pub struct Delivered {
    /// What was there.
    pub before: Installed,
    /// What was done, and why.
    pub decision: Decision,
    /// Process of the program before.
    pub pid_before: Option<u32>,
    /// Process of the program now, where it can be told.
    pub pid: Option<u32>,
}

/// Puts the release on the target: asks, decides, and unless only planning: locks, asks again, sends, switches,
/// verifies; and goes back when that fails.
///
/// # Errors
/// Refused, failed, or rolled back, as its outcome says; with [`Outcome::Failed`] what ran before still runs.
pub async fn deploy(target: &mut Target, order: &Order<'_>, steps: &mut Steps) -> Result<Delivered, Error> {
    let service = service(order.environment.service.as_ref())?;
    let mut run = Run { service, target, order, steps };
    let (place, running, decision) = run.choose("query the target").await?;
    run.steps.note(&format!("plan: {decision}"));
    let delivered = Delivered {
        before: status::installed(&place, &running),
        pid_before: running.pid,
        pid: running.pid,
        decision: decision.clone(),
    };
    match decision.strategy {
        Strategy::Nothing => return Ok(delivered),
        Strategy::Refuse if order.plan => return Ok(delivered),
        Strategy::Refuse => return Err(refusal(decision)),
        _ if order.plan => return Ok(delivered),
        _ => {}
    }
    lock::take(&mut *run.target, &mut *run.steps, &order.artifact.version).await?;
    let result = run.under_lock(&decision).await;
    if let Err(error) = &result {
        bad::mark(run.target, run.steps, &order.artifact.version, error).await;
    }
    if let Err(error) = lock::release(&mut *run.target).await {
        run.steps.note(&format!("warning: {error}"));
    }
    Ok(Delivered { pid: result?.pid, ..delivered })
}

/// What starts and stops the program.
pub(super) fn service(written: Option<&Service>) -> Result<Service, Error> {
    written.cloned().ok_or_else(|| {
        Error::refused("the environment does not say how the program is started").help(
            "set `service:` of the environment: `commands: {start: …, stop: …}`, `systemd: UNIT`, `supervisord: {…}`, `binary: {…}` or `canary: {…}`",
        )
    })
}

fn refusal(decision: Decision) -> Error {
    let error = Error::refused(decision.reasons.join("; "));
    match decision.help {
        Some(help) => error.help(help),
        None => error,
    }
}

struct Run<'a, 'b> {
    target: &'a mut Target,
    order: &'a Order<'b>,
    steps: &'a mut Steps,
    service: Service,
}

impl Run<'_, '_> {
    async fn query(&mut self, step: &str) -> Result<(Place, Running), Error> {
        let Self { target, steps, service, .. } = self;
        let query = async {
            let place = Place::query(target).await?;
            let running = program::look(target, service, &place).await?;
            Ok((place, running))
        };
        steps.take(step, query).await
    }

    async fn choose(&mut self, step: &str) -> Result<(Place, Running, Decision), Error> {
        let (mut place, mut running) = self.query(step).await?;
        let masters = match binary(self.target, &self.service) {
            Some(program) if running.up => Some(program.look().await?),
            _ => None,
        };
        let interrupted = masters.as_ref().and_then(|masters| masters.interrupted(&place));
        if let Some((master, old)) = &interrupted {
            self.steps.note(&format!("the exchange of `{old}` was interrupted: process {master} serves alone again before anything else"));
            (place.current, running.pid) = (Some(old.clone()), Some(*master));
        }
        let policy = &self.order.environment.strategy;
        let decision = choice::choose(&place, &running, self.order.artifact, &self.service, policy);
        if let (Strategy::Exchange { .. }, Some(program), Some(masters), None) =
            (&decision.strategy, binary(self.target, &self.service), &masters, &interrupted)
        {
            program.ready(masters)?;
        }
        Ok((place, running, decision))
    }

    /// Ends what an interrupted deployment left half done.
    async fn undo(&mut self) -> Result<(), Error> {
        let Some(program) = binary(self.target, &self.service) else { return Ok(()) };
        let place = Place::query(self.target).await?;
        if let Some((master, old)) = program.look().await?.interrupted(&place) {
            let new = place.current.unwrap_or_default();
            let back = program.back(master, &old, &new);
            self.steps.take(format!("undo the interrupted exchange of `{old}` for `{new}`"), back).await?;
        }
        Ok(())
    }

    async fn under_lock(&mut self, planned: &Decision) -> Result<Running, Error> {
        self.undo().await?;
        let (place, running, decision) = self.choose("query again, under the lock").await?;
        if decision.strategy != planned.strategy {
            return Err(Error::refused(format!("the target changed meanwhile: now it would be {decision}"))
                .help("deploy again"));
        }
        let artifact = self.order.artifact;
        let version = artifact.version.as_str();
        if place.versions.get(version) != Some(&artifact.tree) {
            let what =
                format!("send `{version}` ({} KiB) and unpack it beside", artifact.size.div_ceil(1024));
            self.steps.take(what, place::install(self.target, artifact, &place)).await?;
        }
        let left = place.left().map(str::to_owned);
        let old = left.clone().or_else(|| place.current.clone());
        let result = match (&decision.strategy, &self.service) {
            (Strategy::Exchange { from }, _) => self.exchange_binary(from).await,
            (_, Service::Canary { .. }) => self.canary(old.as_deref()).await,
            _ => {
                let back = old.as_deref().filter(|_| running.up || left.is_some());
                self.restart(place.current.as_deref(), old.as_deref(), back).await
            }
        }?;
        place::serves(self.target, version).await?;
        self.tidy(&place, old.as_deref()).await;
        Ok(result)
    }

    /// Stop what is in place, switch, start, verify; on failure the same back to `serves`, the version that is to serve
    /// again, or else to `old`, which did not.
    async fn restart(
        &mut self,
        current: Option<&str>,
        old: Option<&str>,
        serves: Option<&str>,
    ) -> Result<Running, Error> {
        let version = self.order.artifact.version.as_str();
        let what = match current.filter(|_| serves.is_some()) {
            Some(current) => format!("stop `{current}`, switch, start `{version}`"),
            None => format!("switch, start `{version}`"),
        };
        let exchange = program::exchange(self.target, &self.service, current, version);
        let started = self.steps.take(what, exchange).await;
        let result = match started {
            Ok(running) => self.verify(version).await.map(|()| running),
            Err(error) => Err(error),
        };
        let Err(error) = result else { return result };
        if error.outcome == Outcome::Refused {
            return Err(error);
        }
        match serves.filter(|serves| *serves != version) {
            Some(serves) => Err(self.back(serves, error).await),
            None => Err(self.withdraw(old, error).await),
        }
    }

    async fn back(&mut self, old: &str, error: Error) -> Error {
        let version = self.order.artifact.version.as_str();
        let exchange = program::exchange(self.target, &self.service, Some(version), old);
        let back = self.steps.take(format!("roll back: switch, start `{old}`"), exchange).await;
        match back {
            Ok(_) => Error { outcome: Outcome::RolledBack, ..error }
                .and(&format!("rolled back: `{old}` serves again")),
            Err(worse) => Error { outcome: Outcome::Restarted, ..error }
                .and(&format!("rolling back to `{old}` failed as well: {worse}")),
        }
    }

    /// Nothing served before: nothing is left running either.
    async fn withdraw(&mut self, old: Option<&str>, error: Error) -> Error {
        let version = self.order.artifact.version.as_str();
        let service = &self.service;
        let target = &*self.target;
        let withdraw = async {
            program::stop(target, service, version).await?;
            place::switch(target, old.filter(|old| *old != version)).await
        };
        match self.steps.take("stop it and take it out again", withdraw).await {
            Ok(()) => error,
            Err(worse) => error.and(&format!("stopping it failed as well: {worse}")),
        }
    }

    async fn exchange_binary(&mut self, old: &str) -> Result<Running, Error> {
        let version = self.order.artifact.version.as_str();
        let target = &*self.target;
        let Some(program) = binary(target, &self.service) else {
            return Err(Error::refused("the service is no binary"));
        };
        let exchange = program.exchange(old, version);
        let (master, fresh) = self
            .steps
            .take(format!("start the binary of `{version}` beside that of `{old}`"), exchange)
            .await?;
        let verified = self.verify(version).await;
        let program = binary(self.target, &self.service).expect("the service did not change");
        if let Err(error) = verified {
            let back = self
                .steps
                .take(format!("roll back to process {master}"), program.back(master, old, version))
                .await;
            return Err(match back {
                Ok(()) => Error { outcome: Outcome::RolledBack, ..error }
                    .and(&format!("rolled back: `{old}`, process {master}, serves again")),
                Err(worse) => worse.and(&error.message),
            });
        }
        // noted before the old one ends: it can't come back from then on
        place::serves(self.target, version).await?;
        let ended = self
            .steps
            .take(format!("let process {master} finish its requests and end"), program.commit(master))
            .await?;
        if !ended {
            self.steps.note(&format!(
                "warning: process {master} still answers requests; it ends after the last one"
            ));
        }
        Ok(Running { up: true, pid: Some(fresh), ..Running::default() })
    }

    async fn canary(&mut self, old: Option<&str>) -> Result<Running, Error> {
        let canary = Canary { service: &self.service, care: Care::from(self.order.environment) };
        let version = self.order.artifact.version.as_str();
        canary.move_to(self.target, self.steps, old, version).await.map_err(|error| match error.outcome {
            Outcome::Failed if old.is_some() => Error { outcome: Outcome::RolledBack, ..error }
                .and("rolled back: all requests go to the old version again"),
            _ => error,
        })
    }

    async fn verify(&mut self, version: &str) -> Result<(), Error> {
        if self.order.artifact.kind == Kind::Elixir {
            let answers = program::mix_answers(self.target, version);
            self.steps.take(format!("ask the node for its version, `{version}`"), answers).await?;
        }
        let care = Care::from(self.order.environment);
        health::watch(self.target, self.steps, &care, None).await
    }

    /// The deployment is done: what fails here is only said.
    async fn tidy(&mut self, place: &Place, old: Option<&str>) {
        let version = self.order.artifact.version.as_str();
        let keep = self.order.environment.keep.map_or(KEEP, |keep| keep as usize);
        let gone = place.surplus(version, old.filter(|old| *old != version), keep);
        if gone.is_empty() {
            return;
        }
        let what = format!("remove `{}`, keep {keep} old", gone.join("`, `"));
        if let Err(error) = self.steps.take(what, place::prune(self.target, &gone)).await {
            self.steps.note(&format!("warning: {error}"));
        }
    }
}

fn binary<'a>(target: &'a Target, service: &'a Service) -> Option<Binary<'a>> {
    let Service::Binary { pid, binary, test, .. } = service else { return None };
    Some(Binary { target, pid, binary, test: test.as_deref() })
}
