//! Sign-in by OpenID Connect: authorization code with PKCE, nonce and state. What has to be remembered until the person
//! comes back is sealed in a cookie, so that the answer counts only in the browser that asked.

use super::accounts::{self, Account, NewAccount};
use super::{sessions, sign_in};
use crate::server::access::{Access, Actor};
use crate::server::config::Oidc;
use crate::server::db::now;
use crate::server::routes::Routes;
use crate::server::rows::{Audit, audit};
use crate::server::{Answer, App, Problem};
use axum::extract::{Query, State};
use axum::http::{self, HeaderMap, Method};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use axum_extra::extract::cookie::CookieJar;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openidconnect::core::{CoreAuthenticationFlow, CoreClient, CoreProviderMetadata, CoreUserInfoClaims};
use openidconnect::{
    AccessTokenHash, AuthorizationCode, ClientId, ClientSecret, CsrfToken, EndpointMaybeSet, EndpointNotSet,
    EndpointSet, HttpRequest, HttpResponse, IssuerUrl, Nonce, OAuth2TokenResponse, PkceCodeChallenge,
    PkceCodeVerifier, RedirectUrl, Scope, TokenResponse,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::io;
use std::time::Duration;

const COOKIE: &str = "slipway-oidc";
/// What the cookie is sealed for.
const PURPOSE: &str = "oidc";
const GOOD_MS: i64 = 10 * 60 * 1000;
/// Bytes that a provider may answer.
const ANSWER: usize = 1 << 20;

/// Adds this module's routes.
pub(super) fn routes(routes: Routes) -> Routes {
    routes.page(Method::GET, "/login/oidc", Access::Public, get(leave)).page(
        Method::GET,
        "/login/oidc/callback",
        Access::Public,
        get(come_back),
    )
}

type Client = CoreClient<
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointMaybeSet,
    EndpointMaybeSet,
>;

/// What has to be remembered.
#[derive(Deserialize, Serialize)]
struct Begun {
    state: String,
    nonce: String,
    verifier: String,
    then: String,
    expires_at: i64,
}

/// Who the provider says it is.
#[derive(Clone, Debug)]
struct Person {
    subject: String,
    name: String,
    display: String,
    email: String,
    email_verified: bool,
}

fn settings(app: &App) -> Answer<&Oidc> {
    app.config.oidc.as_ref().ok_or_else(|| Problem::not_found("page: `oidc` is not set in `server.yml`"))
}

fn failed(doing: &str, error: &dyn std::error::Error) -> Problem {
    let mut told = error.to_string();
    let mut inner = error.source();
    while let Some(error) = inner {
        told = format!("{told}: {error}");
        inner = error.source();
    }
    tracing::error!("single sign-on: {doing}: {told}");
    Problem::unavailable(format!("single sign-on failed {doing}; the server's log says why"))
}

/// `env:NAME` or `file:PATH`.
fn secret(given: &str) -> Answer<String> {
    let read = match given.split_once(':') {
        Some(("env", name)) => std::env::var(name).map_err(|_| format!("`{name}` is not set")),
        Some(("file", path)) => std::fs::read_to_string(path).map_err(|e| format!("reading `{path}`: {e}")),
        _ => Err("`client_secret` is `env:NAME` or `file:PATH`".to_owned()),
    };
    match read {
        Ok(secret) => Ok(secret.trim().to_owned()),
        Err(why) => Err(Problem::internal("reading the secret of single sign-on", &why)),
    }
}

async fn http(request: HttpRequest) -> Result<HttpResponse, io::Error> {
    // a redirect would take us wherever somebody else likes
    let client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(Duration::from_secs(15))
        .build()
        .map_err(io::Error::other)?;
    let (parts, body) = request.into_parts();
    let sent =
        client.request(parts.method, parts.uri.to_string()).headers(parts.headers).body(body).send().await;
    let mut answer = sent.map_err(io::Error::other)?;
    let mut response = http::Response::builder().status(answer.status());
    if let Some(headers) = response.headers_mut() {
        *headers = answer.headers().clone();
    }
    let mut read = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(io::Error::other)? {
        read.extend_from_slice(&chunk);
        if read.len() > ANSWER {
            return Err(io::Error::other("the answer is too long"));
        }
    }
    response.body(read).map_err(io::Error::other)
}

async fn client(app: &App) -> Answer<Client> {
    let oidc = settings(app)?;
    let issuer = IssuerUrl::new(oidc.issuer.clone()).map_err(|e| failed("reading `issuer`", &e))?;
    let metadata = CoreProviderMetadata::discover_async(issuer, &http).await;
    let metadata = metadata.map_err(|e| failed("asking the provider what it is", &e))?;
    let secret = ClientSecret::new(secret(&oidc.client_secret)?);
    let back = format!("{}/login/oidc/callback", app.config.public_url());
    let back = RedirectUrl::new(back).map_err(|e| failed("reading `url`", &e))?;
    let id = ClientId::new(oidc.client_id.clone());
    Ok(CoreClient::from_provider_metadata(metadata, id, Some(secret)).set_redirect_uri(back))
}

#[derive(Default, Deserialize)]
struct Then {
    #[serde(default)]
    then: String,
}

async fn leave(State(app): State<App>, Query(Then { then }): Query<Then>) -> Answer<Response> {
    let client = client(&app).await?;
    let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
    let flow = CoreAuthenticationFlow::AuthorizationCode;
    let (address, state, nonce) = client
        .authorize_url(flow, CsrfToken::new_random, Nonce::new_random)
        .add_scope(Scope::new("email".to_owned()))
        .add_scope(Scope::new("profile".to_owned()))
        .set_pkce_challenge(challenge)
        .url();
    let begun = Begun {
        state: state.secret().clone(),
        nonce: nonce.secret().clone(),
        verifier: verifier.secret().clone(),
        then,
        expires_at: now() + GOOD_MS,
    };
    let sealed = app.vault.seal(PURPOSE, json!(begun).to_string().as_bytes());
    let cookie = sessions::cookie(&app, COOKIE, URL_SAFE_NO_PAD.encode(sealed));
    Ok((CookieJar::new().add(cookie), Redirect::to(address.as_str())).into_response())
}

#[derive(Default, Deserialize)]
struct Answered {
    #[serde(default)]
    code: String,
    #[serde(default)]
    state: String,
    #[serde(default)]
    error: String,
}

async fn come_back(
    State(app): State<App>,
    actor: Actor,
    headers: HeaderMap,
    Query(answered): Query<Answered>,
) -> Answer<Response> {
    settings(&app)?;
    let begun = begun(&app, &headers)
        .filter(|begun| begun.expires_at > now() && begun.state == answered.state)
        .ok_or_else(|| {
            Problem::bad("this sign-in was not begun in this browser, or too long ago: begin again")
        })?;
    if !answered.error.is_empty() {
        let error: String = answered.error.chars().filter(|c| !c.is_control()).take(100).collect();
        return Err(Problem::forbidden(format!("the provider did not let you in: {error}")));
    }
    let person = person(&app, &begun, answered.code).await?;
    allowed(settings(&app)?, &person)?;
    let account = account(&app, &actor, &person).await?;
    if account.disabled == 1 {
        return Err(Problem::forbidden("this account is disabled; ask an administrator"));
    }
    let mut tx = app.db.write().await?;
    let jar = sessions::begin(&app, &mut tx, account.id, &actor, &headers).await?;
    let who = Actor { name: account.name.clone(), user: Some(account.id), ..actor };
    let detail = json!({ "with": "single sign-on" });
    let entry = Audit { actor: &who, action: "session.begin", project: None, subject: &account.name, detail };
    audit(&mut tx, entry).await?;
    tx.commit().await?;
    let mut gone = sessions::cookie(&app, COOKIE, String::new());
    gone.make_removal();
    Ok((jar.add(gone), Redirect::to(sign_in::own_path(&begun.then))).into_response())
}

fn begun(app: &App, headers: &HeaderMap) -> Option<Begun> {
    let jar = CookieJar::from_headers(headers);
    let sealed = URL_SAFE_NO_PAD.decode(jar.get(COOKIE)?.value()).ok()?;
    serde_json::from_str(&app.vault.open_text(PURPOSE, &sealed)?).ok()
}

/// Changes the code for tokens, checks them, and reads who it is.
async fn person(app: &App, begun: &Begun, code: String) -> Answer<Person> {
    let client = client(app).await?;
    let request = client.exchange_code(AuthorizationCode::new(code));
    let request = request.map_err(|e| failed("finding the provider's token endpoint", &e))?;
    let verifier = PkceCodeVerifier::new(begun.verifier.clone());
    let tokens = request.set_pkce_verifier(verifier).request_async(&http).await;
    let tokens = tokens.map_err(|e| failed("changing the code for tokens", &e))?;
    let doing = "checking who you are";
    let refuse = |why: &str| failed(doing, &io::Error::other(why.to_owned()));
    let id = tokens.id_token().ok_or_else(|| refuse("the provider gave no ID token"))?;
    let verifier = client.id_token_verifier();
    let claims = id.claims(&verifier, &Nonce::new(begun.nonce.clone())).map_err(|e| failed(doing, &e))?;
    if let Some(expected) = claims.access_token_hash() {
        let algorithm = id.signing_alg().map_err(|e| failed(doing, &e))?;
        let key = id.signing_key(&verifier).map_err(|e| failed(doing, &e))?;
        let found = AccessTokenHash::from_token(tokens.access_token(), algorithm, key);
        if found.map_err(|e| failed(doing, &e))? != *expected {
            return Err(refuse("the access token is another one than the ID token says"));
        }
    }
    let mut person = Person {
        subject: format!("{} {}", claims.issuer().as_str(), claims.subject().as_str()),
        name: claims.preferred_username().map(|n| n.as_str().to_owned()).unwrap_or_default(),
        display: claims.name().and_then(|n| n.get(None)).map(|n| n.as_str().to_owned()).unwrap_or_default(),
        email: claims.email().map(|e| e.as_str().to_owned()).unwrap_or_default(),
        email_verified: claims.email_verified().unwrap_or(false),
    };
    // some providers tell the address only there
    if person.email.is_empty()
        && let Ok(request) = client.user_info(tokens.access_token().clone(), Some(claims.subject().clone()))
    {
        let more: CoreUserInfoClaims = request.request_async(&http).await.map_err(|e| failed(doing, &e))?;
        person.email = more.email().map(|e| e.as_str().to_owned()).unwrap_or_default();
        person.email_verified = more.email_verified().unwrap_or(false);
        if person.name.is_empty() {
            person.name = more.preferred_username().map(|n| n.as_str().to_owned()).unwrap_or_default();
        }
    }
    Ok(person)
}

fn allowed(oidc: &Oidc, person: &Person) -> Answer<()> {
    if oidc.domains.is_empty() {
        return Ok(());
    }
    let domain = person.email.rsplit_once('@').map_or("", |(_, domain)| domain);
    let known = oidc.domains.iter().any(|d| d.eq_ignore_ascii_case(domain));
    if known && person.email_verified {
        return Ok(());
    }
    Err(Problem::forbidden(
        "people with this mail address, or with one that is not verified, may not sign in here",
    ))
}

/// The account of the person; a new one without any role when there is none. One with the same name or address is
/// somebody else's until its owner says otherwise: the provider may let people choose both.
async fn account(app: &App, actor: &Actor, person: &Person) -> Answer<Account> {
    let query = sqlx::query_as("SELECT * FROM users WHERE subject = $1").bind(&person.subject);
    if let Some(account) = query.fetch_optional(&app.db.pool).await? {
        return Ok(account);
    }
    let wanted = wanted_name(person);
    let mut tx = app.db.write().await?;
    let mut name = wanted.clone();
    for number in 2.. {
        let query = sqlx::query_as::<_, (i64,)>("SELECT id FROM users WHERE name = $1").bind(&name);
        if query.fetch_optional(&mut *tx).await?.is_none() {
            break;
        }
        name = format!("{wanted}{number}");
    }
    let display = if person.display.is_empty() { name.clone() } else { person.display.clone() };
    let new = NewAccount {
        name,
        display,
        email: person.email.clone(),
        subject: Some(person.subject.clone()),
        ..NewAccount::default()
    };
    let id = accounts::create(&mut tx, actor, &new).await?;
    tx.commit().await?;
    Account::by_id(app, id).await
}

fn wanted_name(person: &Person) -> String {
    let given = if person.name.is_empty() { &person.email } else { &person.name };
    let given = given.split('@').next().unwrap_or_default().to_lowercase();
    let name: String = given
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' })
        .take(50)
        .collect();
    let name = name.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned();
    if accounts::acceptable(&name).is_ok() { name } else { "person".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(name: &str, email: &str, email_verified: bool) -> Person {
        let (subject, display) = (String::new(), String::new());
        Person { subject, name: name.to_owned(), display, email: email.to_owned(), email_verified }
    }

    #[test]
    fn names_of_people_become_names_of_accounts() {
        for (name, email, expected) in [
            ("Ann", "", "ann"),
            ("", "Ann.Lee@example.org", "ann.lee"),
            ("ann@corp", "", "ann"),
            ("Jörg Ünal", "", "j-rg--nal"),
            ("..", "", "person"),
            ("system", "", "person"),
            ("", "", "person"),
        ] {
            assert_eq!(wanted_name(&person(name, email, true)), expected, "{name} {email}");
        }
    }

    #[test]
    fn only_verified_addresses_of_the_domains_come_in() {
        let oidc = |domains: &[&str]| Oidc {
            issuer: String::new(),
            client_id: String::new(),
            client_secret: String::new(),
            name: String::new(),
            domains: domains.iter().map(ToString::to_string).collect(),
        };
        let ours = oidc(&["example.org"]);
        for (email, verified, expected) in [
            ("a@example.org", true, true),
            ("a@EXAMPLE.org", true, true),
            ("a@example.org", false, false),
            ("a@evil.org", true, false),
            ("a@sub.example.org", true, false),
            ("a@example.org@evil.org", true, false),
            ("example.org", true, false),
            ("", true, false),
        ] {
            assert_eq!(allowed(&ours, &person("", email, verified)).is_ok(), expected, "{email}");
        }
        assert!(allowed(&oidc(&[]), &person("", "", false)).is_ok());
    }
}
