//! Is a delivery from whom it claims to be? Decided before its body is looked into.

use super::forge::{Forge, form_payload, is_form};
use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

/// How far a signed time may be off.
const TOLERANCE_S: i64 = 300;
/// How a secret begins that signs by Standard Webhooks.
const SIGNING: &str = "whsec_";

/// A delivery as it arrived.
#[derive(Clone, Copy, Debug)]
pub struct Arrived<'a> {
    /// All of them.
    pub headers: &'a HeaderMap,
    /// Byte by byte.
    pub body: &'a [u8],
    /// Milliseconds since the epoch.
    pub now: i64,
}

/// Is it signed with one of the secrets? All are tried whatever the first gives, and no secret at all is a no.
///
/// # Errors
/// Why not, for those who may read the project; holds nothing secret.
pub fn verify(forge: Forge, arrived: Arrived<'_>, secrets: &[String]) -> Result<(), &'static str> {
    let secrets: Vec<&str> = secrets.iter().map(String::as_str).filter(|secret| !secret.is_empty()).collect();
    if secrets.is_empty() {
        return Err("the project has no hook secret, so nothing can be believed");
    }
    match forge {
        Forge::Github => hex_mac(arrived, &["x-hub-signature-256"], "sha256=", &secrets),
        Forge::BitbucketCloud | Forge::BitbucketDc => {
            hex_mac(arrived, &["x-hub-signature"], "sha256=", &secrets)
        }
        Forge::Gogs => hex_mac(arrived, &["x-gogs-signature"], "", &secrets),
        Forge::Gitea => gitea(arrived, &secrets),
        Forge::Generic => standard(arrived, &secrets),
        Forge::Gitlab => {
            let signing: Vec<&str> = secrets.iter().copied().filter(|s| s.starts_with(SIGNING)).collect();
            match signing.is_empty() {
                true => token(arrived, &secrets),
                // who has set up signatures must not be talked back into plain tokens
                false => standard(arrived, &signing),
            }
        }
    }
}

fn value<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

fn mac(secret: &[u8], parts: &[&[u8]]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("a key of HMAC may have any length");
    for part in parts {
        mac.update(part);
    }
    mac
}

/// `expected` (32 bytes or it never holds) is the code of one of the secrets.
fn signed(expected: &[u8], secrets: &[&[u8]], parts: &[&[u8]]) -> Choice {
    secrets.iter().fold(Choice::from(0), |found, secret| {
        let code = mac(secret, parts).finalize().into_bytes();
        found | code.as_slice().ct_eq(expected)
    })
}

fn accepted(found: Choice) -> Result<(), &'static str> {
    match bool::from(found) {
        true => Ok(()),
        false => Err("the signature does not fit any hook secret of the project"),
    }
}

fn hex_mac(arrived: Arrived<'_>, names: &[&str], prefix: &str, secrets: &[&str]) -> Result<(), &'static str> {
    let given = names.iter().find_map(|name| value(arrived.headers, name));
    let given = given.ok_or("it is not signed: the hook has no secret at the forge")?;
    let digits = given.trim().strip_prefix(prefix).ok_or("its signature is not by SHA-256")?;
    let expected = unhex(digits).ok_or("its signature is not a whole one by SHA-256")?;
    let secrets: Vec<&[u8]> = secrets.iter().map(|secret| secret.as_bytes()).collect();
    accepted(signed(&expected, &secrets, &[arrived.body]))
}

/// Of a form, Gitea signs the JSON inside, and not what it sends.
fn gitea(arrived: Arrived<'_>, secrets: &[&str]) -> Result<(), &'static str> {
    let names = ["x-forgejo-signature", "x-gitea-signature"];
    let kind = arrived.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    if kind.is_some_and(is_form) {
        let payload = form_payload(arrived.body).ok_or("the form has no field `payload`")?;
        return hex_mac(Arrived { body: payload.as_bytes(), ..arrived }, &names, "", secrets);
    }
    hex_mac(arrived, &names, "", secrets)
}

/// GitLab's old way: the secret itself. Its digest is compared, so that not even its length can be measured.
fn token(arrived: Arrived<'_>, secrets: &[&str]) -> Result<(), &'static str> {
    let given = arrived.headers.get("x-gitlab-token").ok_or("it has no `X-Gitlab-Token`")?;
    let given = Sha256::digest(given.as_bytes());
    accepted(secrets.iter().fold(Choice::from(0), |found, secret| {
        found | Sha256::digest(secret.as_bytes()).as_slice().ct_eq(given.as_slice())
    }))
}

/// Standard Webhooks: `webhook-signature: v1,BASE64 v1,BASE64` over `ID.TIMESTAMP.BODY`.
fn standard(arrived: Arrived<'_>, secrets: &[&str]) -> Result<(), &'static str> {
    let missing = "`webhook-id`, `webhook-timestamp` or `webhook-signature` is missing";
    let id = value(arrived.headers, "webhook-id").ok_or(missing)?;
    let stamp = value(arrived.headers, "webhook-timestamp").ok_or(missing)?;
    let given = value(arrived.headers, "webhook-signature").ok_or(missing)?;
    // a dot would let the parts of what is signed be cut elsewhere
    if id.is_empty() || id.contains('.') || stamp.contains('.') {
        return Err("`webhook-id` or `webhook-timestamp` is not a plain one");
    }
    let time: i64 = stamp.parse().map_err(|_| "`webhook-timestamp` is no number of seconds")?;
    if (arrived.now / 1000).saturating_sub(time).saturating_abs() > TOLERANCE_S {
        return Err("`webhook-timestamp` is more than five minutes off: is one of the clocks wrong?");
    }
    let keys: Vec<Vec<u8>> = secrets.iter().map(|secret| signing_key(secret)).collect();
    let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    let parts: [&[u8]; 5] = [id.as_bytes(), b".", stamp.as_bytes(), b".", arrived.body];
    let given = given.split(' ').take(16).filter_map(|one| STANDARD.decode(one.strip_prefix("v1,")?).ok());
    accepted(given.fold(Choice::from(0), |found, code| found | signed(&code, &keys, &parts)))
}

/// The bytes that a secret means: `whsec_BASE64`, or itself.
fn signing_key(secret: &str) -> Vec<u8> {
    let encoded = secret.strip_prefix(SIGNING);
    encoded.and_then(|text| STANDARD.decode(text).ok()).unwrap_or_else(|| secret.as_bytes().to_vec())
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    let bytes = digits.as_bytes();
    if bytes.len() != 64 {
        return None;
    }
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    bytes.chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

/// The headers that sign a body by Standard Webhooks, as our own hook script does.
pub fn sign(secret: &str, id: &str, seconds: i64, body: &[u8]) -> [(&'static str, String); 3] {
    let stamp = seconds.to_string();
    let parts: [&[u8]; 5] = [id.as_bytes(), b".", stamp.as_bytes(), b".", body];
    let code = mac(&signing_key(secret), &parts).finalize().into_bytes();
    [
        ("webhook-id", id.to_owned()),
        ("webhook-timestamp", stamp),
        ("webhook-signature", format!("v1,{}", STANDARD.encode(code))),
    ]
}

/// A new secret for a forge: 32 bytes that nobody can guess, in the form that the forge's way of signing wants.
pub fn new_secret(forge: Forge) -> String {
    match forge {
        Forge::Generic => format!("{SIGNING}{}", STANDARD.encode(crate::server::vault::random::<32>())),
        _ => crate::digest::hex(&crate::server::vault::random::<32>()),
    }
}

/// As [`verify`] works for a project: so that a hook that is not there takes as long as one that is.
pub fn work_in_vain(body: &[u8]) {
    let _ = std::hint::black_box(signed(&[0; 32], &[b"no such hook"], &[body]));
}

#[cfg(test)]
#[path = "signature_tests.rs"]
mod tests;
