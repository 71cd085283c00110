//! Requests that another site makes a browser send: they carry the person's cookie, and are not the person's will.

use crate::server::access::{Access, Actor, Via};
use crate::server::routes::Guard;
use crate::server::{Answer, Problem};
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use futures_util::{StreamExt, stream};
use http_body_util::BodyExt;
use subtle::ConstantTimeEq;

/// Bytes of a form.
const FORM: usize = 1 << 20;
/// Bytes of a form with files, in which the field `csrf` must have come.
const FIRST_PART: usize = 4096;

/// Lets a request pass that reads, that carries an access token (no other site knows it), or that our own pages sent.
///
/// # Errors
/// 403 that says what is missing.
pub(in crate::server) async fn same_site(
    guard: &Guard,
    actor: &Actor,
    parts: Parts,
    body: Body,
) -> Answer<Request> {
    if parts.method.is_safe() || actor.via == Via::Token {
        return Ok(Request::from_parts(parts, body));
    }
    let ours = guard.app.config.public_url();
    if !own_origin(&parts.headers, &ours) {
        return Err(Problem::forbidden(
            "this was sent by another site, or `url` in `server.yml` is not this address",
        ));
    }
    if actor.via != Via::Session || guard.access == Access::Public {
        return Ok(Request::from_parts(parts, body));
    }
    let is = |given: &[u8]| bool::from(given.ct_eq(actor.csrf.as_bytes()));
    if parts.headers.get("x-csrf-token").is_some_and(|given| is(given.as_bytes())) {
        return Ok(Request::from_parts(parts, body));
    }
    let (given, body) = if guard.api { (None, body) } else { of_form(&parts.headers, body).await? };
    if given.is_some_and(|given| is(given.as_bytes())) {
        return Ok(Request::from_parts(parts, body));
    }
    let told = if guard.api {
        "with a session this needs the header `X-CSRF-Token`; use an access token instead"
    } else {
        "this form is out of date: load the page again"
    };
    Err(Problem::forbidden(told))
}

/// What a browser says of where the request comes from. Programs that are no browser say nothing.
fn own_origin(headers: &HeaderMap, ours: &str) -> bool {
    let header = |name| headers.get(name).map(|value| value.to_str().unwrap_or("unreadable"));
    if let Some(site) = header("sec-fetch-site") {
        return matches!(site, "same-origin" | "none");
    }
    let Some(origin) = header("origin") else { return true };
    let host = origin.split_once("://").map(|(_, host)| host);
    origin == ours || (host.is_some() && host == header(header::HOST.as_str()))
}

/// The field `csrf`, and the body as it was.
async fn of_form(headers: &HeaderMap, body: Body) -> Answer<(Option<String>, Body)> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if kind.starts_with("application/x-www-form-urlencoded") {
        let bytes = axum::body::to_bytes(body, FORM).await;
        let bytes = bytes.map_err(|_| Problem::bad("this form is too long"))?;
        let field = url::form_urlencoded::parse(&bytes).find(|(name, _)| name == "csrf");
        return Ok((field.map(|(_, value)| value.into_owned()), Body::from(bytes)));
    }
    if kind.starts_with("multipart/form-data") {
        return first_part(body).await;
    }
    Ok((None, body))
}

/// The first part of a form with files, when it is `csrf`; the files behind it are not read.
async fn first_part(mut body: Body) -> Answer<(Option<String>, Body)> {
    let mut read: Vec<u8> = Vec::new();
    let mut field = None;
    while field.is_none() && read.len() < FIRST_PART {
        let Some(frame) = body.frame().await else { break };
        let frame = frame.map_err(|_| Problem::bad("the form broke off"))?;
        if let Ok(data) = frame.into_data() {
            read.extend_from_slice(&data);
        }
        field = csrf_in(&read);
    }
    let rest = body.into_data_stream();
    let whole = stream::once(async move { Ok::<_, axum::Error>(Bytes::from(read)) }).chain(rest);
    Ok((field, Body::from_stream(whole)))
}

fn csrf_in(read: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(&read[..read.len().min(FIRST_PART)]);
    let (head, rest) = text.split_once("\r\n\r\n")?;
    let (boundary, head) = head.split_once("\r\n")?;
    let (value, after) = rest.split_once("\r\n")?;
    let named = head.eq_ignore_ascii_case("content-disposition: form-data; name=\"csrf\"");
    (named && boundary.starts_with("--") && after.starts_with(boundary)).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_origin_is_refused_and_programs_are_not() {
        let ours = "https://ci.example.org";
        let cases: [(&[(&str, &str)], bool); 9] = [
            (&[], true),
            (&[("sec-fetch-site", "same-origin")], true),
            (&[("sec-fetch-site", "cross-site"), ("origin", ours)], false),
            (&[("sec-fetch-site", "same-site")], false),
            (&[("origin", ours)], true),
            (&[("origin", "https://evil.example"), ("host", "ci.example.org")], false),
            (&[("origin", "null"), ("host", "ci.example.org")], false),
            (&[("origin", "http://10.0.0.5:8640"), ("host", "10.0.0.5:8640")], true),
            (&[("origin", "https://ci.example.org.evil.example"), ("host", "ci.example.org")], false),
        ];
        for (given, expected) in cases {
            let mut headers = HeaderMap::new();
            for (name, value) in given {
                headers.insert(axum::http::HeaderName::from_static(name), value.parse().unwrap());
            }
            assert_eq!(own_origin(&headers, ours), expected, "{given:?}");
        }
    }

    #[tokio::test]
    async fn a_form_with_files_gives_its_first_field_and_stays_whole() {
        let form = "--x\r\nContent-Disposition: form-data; name=\"csrf\"\r\n\r\nsecret\r\n--x\r\n\
                    Content-Disposition: form-data; name=\"f\"; filename=\"a\"\r\n\r\nbytes\r\n--x--\r\n";
        let chunks: Vec<Result<Bytes, axum::Error>> =
            form.as_bytes().chunks(7).map(|c| Ok(Bytes::copy_from_slice(c))).collect();
        let (field, body) = first_part(Body::from_stream(stream::iter(chunks))).await.unwrap();
        assert_eq!(field.as_deref(), Some("secret"));
        assert_eq!(axum::body::to_bytes(body, 10_000).await.unwrap(), form.as_bytes());
        let other = form.replace("csrf", "file");
        let (field, body) = first_part(Body::from(other.clone())).await.unwrap();
        assert_eq!(field, None);
        assert_eq!(axum::body::to_bytes(body, 10_000).await.unwrap(), other.as_bytes());
    }
}
