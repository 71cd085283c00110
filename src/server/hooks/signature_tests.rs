use super::*;
use crate::server::hooks::forge::Forge;
use proptest::prelude::*;

const NOW: i64 = 1_614_265_330_000;

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| (name.parse::<axum::http::HeaderName>().unwrap(), value.parse().unwrap()))
        .collect()
}

fn verdict(forge: Forge, pairs: &[(&'static str, &str)], body: &[u8], secrets: &[&str]) -> bool {
    let secrets: Vec<String> = secrets.iter().map(|s| (*s).to_owned()).collect();
    verify(forge, Arrived { headers: &headers(pairs), body, now: NOW }, &secrets).is_ok()
}

fn hex_of(secret: &str, body: &[u8]) -> String {
    crate::digest::hex(&mac(secret.as_bytes(), &[body]).finalize().into_bytes())
}

/// From GitHub's documentation.
#[test]
fn githubs_own_example_is_accepted_and_nothing_else() {
    let (secret, body) = ("It's a Secret to Everybody", b"Hello, World!".as_slice());
    let right = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    let name = "x-hub-signature-256";
    assert!(verdict(Forge::Github, &[(name, right)], body, &[secret]));
    assert!(verdict(Forge::Github, &[(name, right)], body, &["an older one, for rotation", secret]));
    assert!(verdict(Forge::Github, &[(name, right)], body, &[secret, "a newer one"]));
    assert!(!verdict(Forge::Github, &[(name, right)], b"Hello, World?", &[secret]));
    assert!(!verdict(Forge::Github, &[(name, right)], body, &["another"]));
    assert!(!verdict(Forge::Github, &[(name, right)], body, &[]), "no secret: nothing is believed");
    assert!(!verdict(Forge::Github, &[(name, right)], body, &[""]), "an empty secret is none");
    assert!(!verdict(Forge::Github, &[], body, &[secret]), "unsigned");
    let cut = &right[..right.len() - 2];
    let odd =
        ["", "sha256=", "sha256=00", right.trim_start_matches("sha256="), cut, "sha1=0123", "sha256=zz"];
    for wrong in odd {
        assert!(!verdict(Forge::Github, &[(name, wrong)], body, &[secret]), "{wrong}");
    }
    assert!(
        !verdict(Forge::Github, &[("x-hub-signature", right)], body, &[secret]),
        "the old header, by SHA-1"
    );
}

#[test]
fn an_empty_secret_at_the_forge_signs_nothing() {
    let empty = hex_of("", b"{}");
    assert!(!verdict(Forge::Gitea, &[("x-gitea-signature", &empty)], b"{}", &["", "real secret"]));
    assert!(!verdict(Forge::Github, &[("x-hub-signature-256", &format!("sha256={empty}"))], b"{}", &[""]));
}

#[test]
fn each_forge_has_its_own_header() {
    let code = hex_of("s", b"{}");
    let prefixed = format!("sha256={code}");
    let table = [
        (Forge::Gitea, "x-gitea-signature", code.as_str(), true),
        (Forge::Gitea, "x-forgejo-signature", &code, true),
        (Forge::Gitea, "x-hub-signature-256", &prefixed, false),
        (Forge::Gogs, "x-gogs-signature", &code, true),
        (Forge::BitbucketCloud, "x-hub-signature", &prefixed, true),
        (Forge::BitbucketDc, "x-hub-signature", &prefixed, true),
        (Forge::BitbucketDc, "x-hub-signature", &code, false),
        (Forge::Gitlab, "x-gitlab-token", "s", true),
        (Forge::Gitlab, "x-gitlab-token", "t", false),
        (Forge::Gitlab, "x-gitlab-token", "", false),
        (Forge::Gitlab, "x-hub-signature-256", &prefixed, false),
        (Forge::Generic, "x-hub-signature-256", &prefixed, false),
        (Forge::Generic, "x-gitlab-token", "s", false),
    ];
    for (forge, header, value, expected) in table {
        assert_eq!(verdict(forge, &[(header, value)], b"{}", &["s"]), expected, "{forge:?} {header}");
    }
}

#[test]
fn of_a_form_gitea_signs_the_json_and_github_the_form() {
    let form = b"payload=%7B%22ref%22%3A%22refs%2Fheads%2Fmain%22%7D";
    let kind = ("content-type", "application/x-www-form-urlencoded; charset=utf-8");
    let json = hex_of("s", br#"{"ref":"refs/heads/main"}"#);
    let raw = hex_of("s", form);
    assert!(verdict(Forge::Gitea, &[kind, ("x-gitea-signature", &json)], form, &["s"]));
    assert!(!verdict(Forge::Gitea, &[kind, ("x-gitea-signature", &raw)], form, &["s"]));
    assert!(!verdict(Forge::Gitea, &[kind, ("x-gitea-signature", &json)], b"nothing=1", &["s"]));
    assert!(verdict(Forge::Github, &[kind, ("x-hub-signature-256", &format!("sha256={raw}"))], form, &["s"]));
    assert!(!verdict(
        Forge::Github,
        &[kind, ("x-hub-signature-256", &format!("sha256={json}"))],
        form,
        &["s"]
    ));
}

/// The example of the Standard Webhooks specification.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const BODY: &[u8] = br#"{"test": 2432232314}"#;
const ID: (&str, &str) = ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek");
const TIME: (&str, &str) = ("webhook-timestamp", "1614265330");
const CODE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

#[test]
fn the_example_of_standard_webhooks_is_accepted() {
    for forge in [Forge::Generic, Forge::Gitlab] {
        let given = |code: &str| verdict(forge, &[ID, TIME, ("webhook-signature", code)], BODY, &[SECRET]);
        assert!(given(CODE));
        assert!(given(&format!("v1a,xyz v1,AAAA {CODE}")), "one of several is enough");
        for wrong in ["", "v1,", "v1,AAAA", &CODE[3..], "v2,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="] {
            assert!(!given(wrong), "{wrong}");
        }
    }
    let many = format!("{}{CODE}", "v1,AAAA ".repeat(1000));
    assert!(
        !verdict(Forge::Generic, &[ID, TIME, ("webhook-signature", &many)], BODY, &[SECRET]),
        "not for ever"
    );
}

#[test]
fn signed_times_are_within_five_minutes_and_plain() {
    for (offset, expected) in
        [(0, true), (299, true), (-299, true), (301, false), (-301, false), (i64::MAX / 2, false)]
    {
        let time = (NOW / 1000).saturating_add(offset);
        let signed = sign(SECRET, "msg_1", time, BODY);
        let pairs: Vec<(&'static str, &str)> =
            signed.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(verdict(Forge::Generic, &pairs, BODY, &[SECRET]), expected, "{offset}");
    }
    for (id, stamp) in
        [("a.b", "1614265330"), ("", "1614265330"), ("a", "1614265330.0"), ("a", "now"), ("a", "")]
    {
        let parts: [&[u8]; 5] = [id.as_bytes(), b".", stamp.as_bytes(), b".", BODY];
        let code = STANDARD.encode(mac(&signing_key(SECRET), &parts).finalize().into_bytes());
        let pairs =
            [("webhook-id", id), ("webhook-timestamp", stamp), ("webhook-signature", &format!("v1,{code}"))];
        assert!(!verdict(Forge::Generic, &pairs, BODY, &[SECRET]), "{id} {stamp}");
    }
}

#[test]
fn who_set_up_gitlabs_signatures_is_not_talked_back_into_tokens() {
    let token = ("x-gitlab-token", "plain");
    assert!(verdict(Forge::Gitlab, &[token], BODY, &["plain"]));
    assert!(!verdict(Forge::Gitlab, &[token], BODY, &["plain", SECRET]));
    assert!(
        !verdict(Forge::Gitlab, &[("x-gitlab-token", SECRET)], BODY, &[SECRET]),
        "a signing secret is no token"
    );
    let both = [token, ID, TIME, ("webhook-signature", CODE)];
    assert!(verdict(Forge::Gitlab, &both, BODY, &["plain", SECRET]), "signed, and the old token beside");
}

#[test]
fn new_secrets_differ_and_are_long() {
    for forge in Forge::ALL {
        let (one, other) = (new_secret(forge), new_secret(forge));
        assert!(one != other && signing_key(&one).len() >= 32, "{forge:?}");
    }
}

proptest! {
    #[test]
    fn nothing_that_is_not_signed_passes_and_nothing_panics(
        which in 0..Forge::ALL.len(),
        values in proptest::collection::vec("[ -~]{0,90}", 9),
        body in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let names = ["x-hub-signature-256", "x-hub-signature", "x-gitlab-token", "x-gitea-signature",
            "x-gogs-signature", "webhook-id", "webhook-timestamp", "webhook-signature", "content-type"];
        let pairs: Vec<(&'static str, &str)> = names.into_iter().zip(values.iter().map(String::as_str)).collect();
        prop_assert!(!verdict(Forge::ALL[which], &pairs, &body, &["0123456789abcdef0123456789abcdef"]));
    }

    #[test]
    fn what_we_sign_is_accepted_and_no_other_body(body in any::<Vec<u8>>(), other in any::<Vec<u8>>(), id in "[a-z0-9_]{1,20}") {
        let signed = sign(SECRET, &id, NOW / 1000, &body);
        let pairs: Vec<(&'static str, &str)> = signed.iter().map(|(name, value)| (*name, value.as_str())).collect();
        prop_assert!(verdict(Forge::Generic, &pairs, &body, &[SECRET]));
        prop_assert_eq!(verdict(Forge::Generic, &pairs, &other, &[SECRET]), body == other);
    }
}
