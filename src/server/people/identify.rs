//! Who sends a request, and from where.

use super::{sessions, tokens};
use crate::server::access::{Actor, Via};
use crate::server::config::Config;
use crate::server::{Answer, App, Problem};
use axum::extract::ConnectInfo;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use std::net::{IpAddr, SocketAddr};

/// Who sends the request: whose access token it carries, else whose session.
///
/// # Errors
/// 401 for a token that is not, or no longer, good: it never falls back to a cookie. 503: the database does not answer.
pub(in crate::server) async fn identify(app: &App, parts: &Parts) -> Answer<Actor> {
    let address = address(&app.config, parts);
    let somebody = Actor { address, ..Actor::anonymous() };
    if let Some(token) = token(&parts.headers) {
        let token = tokens::valid(app, token).await?;
        let token = token.ok_or_else(|| {
            Problem::new(
                axum::http::StatusCode::UNAUTHORIZED,
                "this access token is unknown, expired or revoked",
            )
        })?;
        return Ok(Actor {
            user: Some(token.user_id),
            admin: token.admin == 1,
            via: Via::Token,
            scopes: serde_json::from_str(&token.scopes).unwrap_or_default(),
            only_project: token.project_id,
            token: Some(token.id),
            name: token.user_name,
            ..somebody
        });
    }
    let Some((session, csrf)) = sessions::of(app, &parts.headers).await? else { return Ok(somebody) };
    Ok(Actor {
        user: Some(session.user_id),
        name: session.name,
        admin: session.admin == 1,
        via: Via::Session,
        csrf,
        session: session.hash,
        ..somebody
    })
}

/// `Authorization: Bearer …` or, as GitLab's clients do it, `PRIVATE-TOKEN: …`.
fn token(headers: &HeaderMap) -> Option<&str> {
    if let Some(token) = headers.get("private-token") {
        return Some(token.to_str().unwrap_or_default());
    }
    let value = headers.get(header::AUTHORIZATION)?.to_str().unwrap_or_default();
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Where a request comes from: who is connected; when that is a proxy that we trust, whom it names, and so on.
pub(in crate::server) fn address(config: &Config, parts: &Parts) -> String {
    let Some(ConnectInfo(peer)) = parts.extensions.get::<ConnectInfo<SocketAddr>>() else {
        return String::new();
    };
    let mut address = peer.ip().to_canonical();
    let named = parts.headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok());
    let named: Vec<&str> = named.flat_map(|value| value.split(',')).collect();
    for name in named.iter().rev() {
        if !config.trusted_proxies.iter().any(|proxy| proxy.to_canonical() == address) {
            break;
        }
        let Ok(next) = name.trim().parse::<IpAddr>() else { break };
        address = next.to_canonical();
    }
    address.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;

    #[test]
    fn only_trusted_proxies_are_believed_and_only_about_the_one_before_them() {
        let config = Config {
            trusted_proxies: vec!["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()],
            ..Config::default()
        };
        let cases = [
            ("192.0.2.9:1", vec![], "192.0.2.9"),
            ("192.0.2.9:1", vec!["198.51.100.1"], "192.0.2.9"),
            ("10.0.0.1:1", vec!["198.51.100.1"], "198.51.100.1"),
            ("[::ffff:10.0.0.1]:1", vec!["198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1:1", vec!["6.6.6.6, 198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1:1", vec!["6.6.6.6", "198.51.100.1,10.0.0.2"], "198.51.100.1"),
            ("10.0.0.1:1", vec!["6.6.6.6, rubbish"], "10.0.0.1"),
            ("10.0.0.1:1", vec![], "10.0.0.1"),
        ];
        for (peer, forwarded, expected) in cases {
            let mut request = Request::builder();
            for value in &forwarded {
                request = request.header("X-Forwarded-For", *value);
            }
            let (mut parts, ()) = request.body(()).unwrap().into_parts();
            parts.extensions.insert(ConnectInfo(peer.parse::<SocketAddr>().unwrap()));
            assert_eq!(address(&config, &parts), expected, "{peer} {forwarded:?}");
        }
    }
}
