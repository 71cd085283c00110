//! How requests reach a server. Every client that could speak TLS reads the machine's certificates when it is made (50 ms
//! of a processor, twice the same file); a job of the server on this machine has no use for one.

use super::job_api::{Address, told};
use hyper_util::client::legacy::Client as Plain;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use reqwest::header::{CONTENT_TYPE, HeaderValue, USER_AGENT};
use reqwest::multipart::Form;
use reqwest::redirect::Policy;
use reqwest::{Body, Client, Request, RequestBuilder, Response};
use std::error::Error;
use std::time::Duration;

/// For a connection.
const CONNECT: Duration = Duration::from_secs(10);
const AGENT: &str = concat!("slipway-runner ", env!("CARGO_PKG_VERSION"));

/// Keeps its connections. Redirects are followed by hand, so that tokens stay with the server.
#[derive(Clone, Debug)]
pub(super) enum Transport {
    /// To a server elsewhere.
    Net(Client),
    /// To this machine: no proxy, no TLS.
    Local(Box<Plain<HttpConnector, Body>>),
}

/// A client for a server elsewhere.
pub(super) fn client() -> Result<Client, reqwest::Error> {
    Client::builder().user_agent(AGENT).connect_timeout(CONNECT).redirect(Policy::none()).build()
}

impl Transport {
    pub(super) fn to(address: &Address) -> Result<Transport, reqwest::Error> {
        Ok(match address {
            Address::Url(_) => Transport::Net(client()?),
            Address::File(_) => {
                let mut connector = HttpConnector::new();
                connector.set_connect_timeout(Some(CONNECT));
                connector.set_nodelay(true);
                Transport::Local(Box::new(Plain::builder(TokioExecutor::new()).build(connector)))
            }
        })
    }

    /// An error is one of the connection, for people.
    pub(super) async fn send(&self, mut request: Request) -> Result<Response, String> {
        let client = match self {
            Transport::Net(client) => return client.execute(request).await.map_err(|e| told(&e)),
            Transport::Local(client) => client,
        };
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(AGENT));
        let patience = request.timeout().copied().unwrap_or(Duration::MAX);
        let request = request.try_into().map_err(|e: reqwest::Error| told(&e))?;
        let answered = tokio::time::timeout(patience, client.request(request)).await;
        let response = answered.map_err(|_| "the server does not answer")?.map_err(|e| cause(&e))?;
        Ok(Response::from(response.map(Body::wrap)))
    }

    /// Sends a form.
    pub(super) async fn send_form(&self, mut request: Request, form: Form) -> Result<Response, String> {
        if let Transport::Net(client) = self {
            let builder = RequestBuilder::from_parts(client.clone(), request).multipart(form);
            return builder.send().await.map_err(|e| told(&e));
        }
        let kind = format!("multipart/form-data; boundary={}", form.boundary());
        request.headers_mut().insert(CONTENT_TYPE, kind.parse().map_err(|_| "the form has no boundary")?);
        *request.body_mut() = Some(Body::wrap_stream(form.into_stream()));
        self.send(request).await
    }
}

fn cause(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
