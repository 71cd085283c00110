//! Sign-in by OpenID Connect, against a provider of our own with a key of its own.

use crate::browser::{Browser, location};
use crate::support::Server;
use axum::extract::{Form, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use openidconnect::core::{CoreJwsSigningAlgorithm, CoreRsaPrivateSigningKey};
use openidconnect::{JsonWebKeyId, PrivateSigningKey};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

const SECRET: &str = "the client's secret";

struct Provider {
    address: String,
    grant: Arc<Mutex<Grant>>,
    _runtime: tokio::runtime::Runtime,
}

/// What the next code is worth.
#[derive(Default)]
struct Grant {
    claims: Value,
    challenge: String,
    /// Another key than the one that is published.
    forged: bool,
    spent: bool,
}

#[derive(Clone)]
struct Parts {
    address: String,
    key: Arc<CoreRsaPrivateSigningKey>,
    other: Arc<CoreRsaPrivateSigningKey>,
    grant: Arc<Mutex<Grant>>,
}

fn key() -> Arc<CoreRsaPrivateSigningKey> {
    let made =
        std::process::Command::new("openssl").args(["genrsa", "-traditional", "2048"]).output().unwrap();
    let pem = String::from_utf8(made.stdout).unwrap();
    Arc::new(CoreRsaPrivateSigningKey::from_pem(&pem, Some(JsonWebKeyId::new("k".to_owned()))).unwrap())
}

impl Provider {
    fn start() -> Provider {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let grant = Arc::new(Mutex::new(Grant::default()));
        let parts = Parts { address: address.clone(), key: key(), other: key(), grant: grant.clone() };
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/keys", get(keys))
            .route("/token", post(token))
            .with_state(parts);
        runtime.spawn(async move { axum::serve(listener, router).await });
        Provider { address, grant, _runtime: runtime }
    }
}

async fn discovery(State(parts): State<Parts>) -> Json<Value> {
    let at = |path: &str| format!("{}{path}", parts.address);
    Json(json!({
        "issuer": parts.address, "authorization_endpoint": at("/authorize"), "token_endpoint": at("/token"),
        "jwks_uri": at("/keys"), "response_types_supported": ["code"], "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
    }))
}

async fn keys(State(parts): State<Parts>) -> Json<Value> {
    Json(json!({ "keys": [parts.key.as_verification_key()] }))
}

async fn token(
    State(parts): State<Parts>,
    headers: HeaderMap,
    Form(form): Form<HashMap<String, String>>,
) -> Response {
    let mut grant = parts.grant.lock().unwrap();
    let login: String = url::form_urlencoded::byte_serialize(SECRET.as_bytes()).collect();
    let login = format!("Basic {}", STANDARD.encode(format!("slipway:{login}")));
    let verified =
        URL_SAFE_NO_PAD.encode(Sha256::digest(form["code_verifier"].as_bytes())) == grant.challenge;
    let right = headers["authorization"] == *login && form["code"] == "the-code" && verified && !grant.spent;
    if !right {
        return (StatusCode::BAD_REQUEST, Json(json!({ "error": "invalid_grant" }))).into_response();
    }
    grant.spent = true;
    let key = if grant.forged { &parts.other } else { &parts.key };
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&json!({ "alg": "RS256", "kid": "k" })), part(&grant.claims));
    let signature = key.sign(&CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256, signed.as_bytes()).unwrap();
    let id_token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
    Json(json!({ "access_token": "a", "token_type": "Bearer", "id_token": id_token })).into_response()
}

/// Goes to the provider, where the person says yes, and comes back. `change` may spoil what the provider gives.
fn sign_in(
    provider: &Provider,
    browser: &mut Browser<'_>,
    person: &Value,
    change: impl FnOnce(&mut Grant, &mut HashMap<String, String>),
) -> (u16, String) {
    let there = browser.get("/login/oidc?then=%2Faccount").is(303);
    let there = url::Url::parse(&location(&there)).unwrap();
    assert!(there.as_str().starts_with(&format!("{}/authorize?", provider.address)), "{there}");
    let mut asked: HashMap<String, String> = there.query_pairs().into_owned().collect();
    assert_eq!((asked["response_type"].as_str(), asked["code_challenge_method"].as_str()), ("code", "S256"));
    assert!(asked["redirect_uri"].ends_with("/login/oidc/callback"));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let mut claims = json!({
        "iss": provider.address, "aud": "slipway", "iat": now, "exp": now + 300, "nonce": asked["nonce"],
    });
    for (name, value) in person.as_object().unwrap() {
        claims[name] = value.clone();
    }
    let mut grant = Grant { claims, challenge: asked["code_challenge"].clone(), ..Grant::default() };
    change(&mut grant, &mut asked);
    *provider.grant.lock().unwrap() = grant;
    let back = browser.get(&format!("/login/oidc/callback?code=the-code&state={}", asked["state"]));
    let to = back.headers.get("location").map(|to| to.to_str().unwrap().to_owned());
    (back.status, to.unwrap_or(back.text))
}

fn server(provider: &Provider) -> Server {
    let home = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(home.path(), SECRET).unwrap();
    let (_, path) = home.keep().unwrap();
    Server::with(json!({ "local_jobs": 0, "oidc": {
        "issuer": provider.address, "client_id": "slipway", "client_secret": format!("file:{}", path.display()),
        "name": "Example", "domains": ["example.org"],
    } }))
}

#[test]
fn a_person_whom_the_provider_knows_gets_an_account_without_a_role() {
    let provider = Provider::start();
    let server = server(&provider);
    let mut browser = Browser::new(&server);
    assert!(browser.get("/login").is(200).text.contains("Sign in with Example"));
    let ann = json!({ "sub": "1", "preferred_username": "Ann", "name": "Ann Lee", "email": "ann@example.org", "email_verified": true });
    for _ in 0..2 {
        assert_eq!(sign_in(&provider, &mut browser, &ann, |_, _| ()), (303, "/account".to_owned()));
    }
    assert!(browser.get("/account").is(200).text.contains("Ann Lee"));
    assert_eq!(server.texts("SELECT name FROM users WHERE subject IS NOT NULL"), ["ann"]);
    // another person who chose the name and the address of somebody else is another person
    let mallory = json!({ "sub": "2", "preferred_username": "admin", "email": "ann@example.org", "email_verified": true });
    assert_eq!(sign_in(&provider, &mut browser, &mallory, |_, _| ()).0, 303);
    assert_eq!(
        server.texts("SELECT name FROM users WHERE subject IS NOT NULL ORDER BY id"),
        ["ann", "admin2"]
    );
    browser.get("/admin/users").is(403);
    server.execute("UPDATE users SET disabled = 1 WHERE name = 'ann'");
    assert_eq!(sign_in(&provider, &mut browser, &ann, |_, _| ()).0, 403);
}

#[test]
fn what_is_not_the_providers_own_answer_to_this_browser_is_refused() {
    let provider = Provider::start();
    let server = server(&provider);
    let mut browser = Browser::new(&server);
    let ann = json!({ "sub": "1", "preferred_username": "ann", "email": "ann@example.org", "email_verified": true });
    type Spoil = fn(&mut Grant, &mut HashMap<String, String>);
    let cases: [(&str, Spoil, u16); 9] = [
        ("another nonce", |grant, _| grant.claims["nonce"] = json!("other"), 503),
        ("no nonce", |grant, _| drop(grant.claims.as_object_mut().unwrap().remove("nonce")), 503),
        ("for another client", |grant, _| grant.claims["aud"] = json!("other"), 503),
        ("of another issuer", |grant, _| grant.claims["iss"] = json!("http://127.0.0.1:1"), 503),
        ("expired", |grant, _| grant.claims["exp"] = json!(1000), 503),
        ("another key", |grant, _| grant.forged = true, 503),
        ("another verifier", |grant, _| grant.challenge = "other".to_owned(), 503),
        ("another state", |_, asked| drop(asked.insert("state".to_owned(), "other".to_owned())), 400),
        ("another domain", |grant, _| grant.claims["email"] = json!("ann@evil.example"), 403),
    ];
    for (what, spoil, status) in cases {
        let (found, told) = sign_in(&provider, &mut browser, &ann, spoil);
        assert_eq!(found, status, "{what}: {told}");
    }
    let unverified = json!({ "sub": "1", "email": "ann@example.org" });
    assert_eq!(sign_in(&provider, &mut browser, &unverified, |_, _| ()).0, 403);
    let mut elsewhere = Browser::new(&server);
    elsewhere.get("/login/oidc/callback?code=the-code&state=x").is(400);
    assert_eq!(server.number("SELECT COUNT(*) FROM users WHERE subject IS NOT NULL"), 0);
    browser.get("/account").is(303);
}
