//! A browser without a picture: keeps its cookie, sends the forms of pages.

use crate::support::{PASSWORD, Reply, Server, client};
use reqwest::blocking::{Client, RequestBuilder};
use reqwest::header::{ACCEPT, COOKIE};

pub(crate) struct Browser<'a> {
    server: &'a Server,
    client: Client,
    pub(crate) cookie: String,
}

impl<'a> Browser<'a> {
    pub(crate) fn new(server: &'a Server) -> Browser<'a> {
        Browser { server, client: client(None), cookie: String::new() }
    }

    /// With `admin` signed in.
    pub(crate) fn of_admin(server: &'a Server) -> Browser<'a> {
        let mut browser = Browser::new(server);
        browser.send("/login", &[("name", "admin"), ("password", PASSWORD)]).is(303);
        browser
    }

    pub(crate) fn get(&mut self, path: &str) -> Reply {
        let request = self.client.get(self.server.url(path));
        self.ask(request)
    }

    /// Sends a form as it is.
    pub(crate) fn send(&mut self, path: &str, fields: &[(&str, &str)]) -> Reply {
        let mut body = url::form_urlencoded::Serializer::new(String::new());
        let body = body.extend_pairs(fields).finish();
        let request = self.client.post(self.server.url(path)).body(body);
        self.ask(request.header("content-type", "application/x-www-form-urlencoded"))
    }

    /// Sends a form with the token that our pages put into theirs.
    pub(crate) fn submit(&mut self, path: &str, fields: &[(&str, &str)]) -> Reply {
        let page = self.get("/account").is(200).text;
        let (_, csrf) = page.split_once("name=\"csrf\" value=\"").expect("the page has a form");
        let csrf = csrf.split('"').next().unwrap().to_owned();
        let fields: Vec<(&str, &str)> = fields.iter().copied().chain([("csrf", csrf.as_str())]).collect();
        self.send(path, &fields)
    }

    fn ask(&mut self, request: RequestBuilder) -> Reply {
        let request = request.header(ACCEPT, "text/html").header(COOKIE, &self.cookie);
        let reply = Reply::of(request.send().unwrap());
        for set in reply.headers.get_all("set-cookie") {
            let pair = set.to_str().unwrap().split(';').next().unwrap();
            let name = pair.split('=').next().unwrap();
            let mut kept: Vec<&str> = self.cookie.split("; ").filter(|c| !c.is_empty()).collect();
            kept.retain(|cookie| cookie.split('=').next() != Some(name));
            kept.push(pair);
            self.cookie = kept.join("; ");
        }
        reply
    }
}

pub(crate) fn location(reply: &Reply) -> String {
    reply.headers.get("location").expect("it redirects").to_str().unwrap().to_owned()
}
