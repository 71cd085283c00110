//! A target: a host, a way in, and the directory of one release on it.

use std::time::{Duration, Instant};

use crate::release::installed::{Evidence, Installed};

use super::error::Error;
use super::lock;
use super::probe;
use super::script::{Script, TOOL};
use super::ssh::{ANSWER_LIMIT, Hold, Output, Session};

/// A query asks a node that may hang; the release's own script gives up after some seconds.
/// How long a node that does not answer is watched before that is believed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// How long a step that runs there is waited for.
const BUSY_PATIENCE: Duration = Duration::from_secs(120);
const BETWEEN_QUERIES: Duration = Duration::from_secs(1);

/// The target.
pub struct Target {
    session: Session,
    destination: String,
    directory: String,
    name: String,
    run: String,
    /// Keeps the lock, while we have it.
    pub(crate) hold: Option<Hold>,
}

/// The evidence about a target and the verdict over it.
#[derive(Clone, Debug)]
pub struct Survey {
    /// What the query brought back.
    pub evidence: Evidence,
    /// What follows from it.
    pub installed: Installed,
}

impl Target {
    /// Connects to the `directory` of the release `name` at `destination`.
    pub async fn connect(destination: &str, directory: &str, name: &str) -> Result<Self, Error> {
        let session = Session::connect(destination).await?;
        let since = std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis());
        Ok(Self {
            session,
            destination: destination.to_owned(),
            directory: directory.to_owned(),
            name: name.to_owned(),
            run: format!("{since:x}-{:x}", std::process::id()),
            hold: None,
        })
    }

    /// Connects again after a broken connection. A lock that was held has to be ours still.
    pub(crate) async fn reconnect(&mut self) -> Result<(), Error> {
        let held = self.hold.take().is_some();
        self.session = Session::connect(&self.destination).await?;
        if held { lock::again(self).await } else { Ok(()) }
    }

    /// Connects again after a connection that broke, if that is possible soon.
    pub(crate) async fn mend(&mut self) -> Result<(), Error> {
        tokio::time::sleep(BETWEEN_QUERIES).await;
        self.reconnect().await
    }

    /// Connects again if the connection has ended, as it does when nobody used it for long.
    pub(crate) async fn revive(&mut self) -> Result<(), Error> {
        if self.session.lives().await { Ok(()) } else { self.reconnect().await }
    }

    /// Ends the connection.
    pub async fn close(mut self) {
        self.hold = None;
        self.session.close().await;
    }

    /// The release's directory.
    pub fn directory(&self) -> &str {
        &self.directory
    }

    /// The host.
    pub fn destination(&self) -> &str {
        &self.destination
    }

    /// The release's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    /// A script that knows the directory `$T`, the release `$N` and the attempt `$ID`.
    pub(crate) fn script(&self, body: &'static str) -> Script {
        Script::new(body).set("T", &self.directory).set("N", &self.name).set("ID", &self.run).using(TOOL)
    }

    /// Runs a script. While we have the lock, nothing is run without it.
    pub(crate) async fn run(&self, script: &Script, limit: Duration) -> Result<Output, Error> {
        match self.hold {
            Some(_) => self.session.run(&script.clone().using(lock::FENCE), limit).await,
            None => self.session.run(script, limit).await,
        }
    }

    /// Runs a script and demands that it succeeds; `doing` is for the error.
    pub(crate) async fn demand(
        &self,
        script: &Script,
        doing: &str,
        limit: Duration,
    ) -> Result<Output, Error> {
        let output = self.run(script, limit).await?;
        if output.code == Some(0) {
            return Ok(output);
        }
        Err(Error::failed(format!("{doing} failed on `{}`: {}", self.destination, output.tail())))
    }

    /// Asks once.
    pub(crate) async fn query(&self) -> Result<Survey, Error> {
        let output = self.session.run(&probe::script(&self.directory, &self.name), ANSWER_LIMIT).await?;
        let Some(evidence) = probe::read(&output.stdout, &self.directory) else {
            return Err(Error::failed(format!(
                "the query did not run to its end on `{}`: {}",
                self.destination,
                output.tail()
            ))
            .help("the target needs a POSIX shell, awk, sed, grep, tr and /proc; try `ssh` to it by hand"));
        };
        let installed = Installed::judge(&evidence);
        Ok(Survey { evidence, installed })
    }

    /// Asks once, over a new connection if the old one broke.
    pub(crate) async fn query_mended(&mut self) -> Result<Survey, Error> {
        match self.query().await {
            Err(_) if !self.session.lives().await => {
                self.mend().await?;
                self.query().await
            }
            survey => survey,
        }
    }

    /// Asks until the answer is more than "wait", for at most `patience`: a node that is just restarting
    /// is not an unreachable one.
    pub async fn survey(&self, patience: Duration) -> Result<Survey, Error> {
        let began = Instant::now();
        loop {
            let survey = self.query().await?;
            let passing = matches!(survey.installed, Installed::Restarting | Installed::Unreachable { .. });
            // what a deployment that died has begun ends by itself, and only then is there an answer
            let waits = match survey.evidence.busy {
                true => patience.max(BUSY_PATIENCE),
                false => patience,
            };
            if !(passing || survey.evidence.busy) || began.elapsed() >= waits {
                return Ok(survey);
            }
            tokio::time::sleep(BETWEEN_QUERIES).await;
        }
    }

    /// Asks until two answers in a row come from the same boot: a node that has decided to restart may
    /// still answer once.
    pub(crate) async fn settled(&self, patience: Duration) -> Result<Survey, Error> {
        let began = Instant::now();
        let mut last = self.survey(patience).await?;
        loop {
            tokio::time::sleep(BETWEEN_QUERIES).await;
            let next = self.survey(patience.saturating_sub(began.elapsed())).await?;
            let boot =
                |survey: &Survey| survey.evidence.snapshot.as_ref().map(|snapshot| snapshot.boot.clone());
            let same = boot(&last) == boot(&next) && last.installed == next.installed;
            if same || began.elapsed() >= patience {
                return Ok(next);
            }
            last = next;
        }
    }
}
