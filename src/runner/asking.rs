//! Requests about the runner itself: verify, ask for a job, leave.

use super::config::Registered;
use super::job_api::{passes, retry_after, said, told};
use crate::wire::job::Job;
use crate::wire::runner::{Info, Registered as Answer, Verify};
use crate::wire::update::{JobRequest, LAST_UPDATE_HEADER};
use crate::wire::{BASE, Secret};
use reqwest::{Client, Response};
use std::time::Duration;

/// Longer than any server holds a request.
const LONG: Duration = Duration::from_secs(180);
const SHORT: Duration = Duration::from_secs(30);

/// What came of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Asked {
    /// A job.
    Job(Box<Job>),
    /// None now.
    Nothing,
    /// A later try may work; the server may have said when.
    Later(String, Option<Duration>),
    /// The token is not valid, or the runner may not.
    Refused(String),
}

/// A server, as one runner sees it.
#[derive(Clone, Debug)]
pub struct Server {
    http: Client,
    url: String,
    token: Secret,
    system_id: String,
    info: Info,
    last_update: String,
}

impl Server {
    /// Of a runner.
    ///
    /// # Errors
    /// There is no client for the network.
    pub fn new(runner: &Registered, system_id: &str, info: Info) -> Result<Server, String> {
        let url = base(&runner.url);
        Ok(Server {
            http: super::transport::client().map_err(|e| told(&e))?,
            url,
            token: runner.token.clone(),
            system_id: system_id.to_owned(),
            info,
            last_update: String::new(),
        })
    }

    fn place(&self, rest: &str) -> String {
        format!("{}{BASE}/{rest}", self.url)
    }

    fn verification(&self) -> Verify {
        Verify { token: self.token.clone(), system_id: self.system_id.clone(), info: Some(self.info.clone()) }
    }

    /// Is the token valid? The runner's number.
    ///
    /// # Errors
    /// It is not, or the server can't be asked.
    pub async fn verify(&self) -> Result<i64, String> {
        let request = self.http.post(self.place("runners/verify")).timeout(SHORT).json(&self.verification());
        let response = request.send().await.map_err(|e| told(&e))?;
        match response.status().as_u16() {
            200 => Ok(response.json::<Answer>().await.unwrap_or_default().id),
            403 => Err("the server does not know this token".to_owned()),
            404 => Err("there is no runner API at this address".to_owned()),
            _ => Err(said(response).await),
        }
    }

    /// This machine takes no more jobs by this token.
    ///
    /// # Errors
    /// The server can't be told.
    pub async fn leave(&self) -> Result<(), String> {
        let leaving = Verify { info: None, ..self.verification() };
        let request = self.http.delete(self.place("runners/managers")).timeout(SHORT).json(&leaving);
        let response = request.send().await.map_err(|e| told(&e))?;
        match response.status().as_u16() {
            // not known is as good as gone
            204 | 403 | 404 => Ok(()),
            _ => Err(said(response).await),
        }
    }

    /// Asks for a job. The server may hold the request until there is one.
    pub async fn ask(&mut self) -> Asked {
        let body = JobRequest {
            info: self.info.clone(),
            token: self.token.clone(),
            system_id: self.system_id.clone(),
            last_update: self.last_update.clone(),
        };
        let request = self.http.post(self.place("jobs/request")).timeout(LONG).json(&body);
        match request.send().await {
            Ok(response) => self.asked(response).await,
            Err(error) => Asked::Later(told(&error), None),
        }
    }

    async fn asked(&mut self, response: Response) -> Asked {
        let update = response.headers().get(LAST_UPDATE_HEADER).and_then(|value| value.to_str().ok());
        if let Some(update) = update {
            update.clone_into(&mut self.last_update);
        }
        match response.status().as_u16() {
            201 => match response.json::<Job>().await {
                Ok(job) => Asked::Job(Box::new(job)),
                Err(error) => {
                    Asked::Later(format!("the server sent a job that can't be read: {error}"), None)
                }
            },
            204 => Asked::Nothing,
            // somebody else was quicker
            409 => Asked::Later("there was a conflict".to_owned(), None),
            status if passes(status) => {
                let after = retry_after(response.headers());
                Asked::Later(said(response).await, after)
            }
            _ => Asked::Refused(said(response).await),
        }
    }
}

/// The server's address as other runners take it too: without `/` and `/ci` at the end.
pub fn base(url: &str) -> String {
    let url = url.trim_end_matches('/');
    url.strip_suffix("/ci").unwrap_or(url).trim_end_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    #[test]
    fn addresses_are_plain() {
        for url in ["http://h:1", "http://h:1/", "http://h:1/ci", "http://h:1/ci/"] {
            assert_eq!(super::base(url), "http://h:1");
        }
    }
}
