//! Accounts, sessions, access tokens, roles, variables, the audit record, `ci login`.

use crate::browser::{Browser, location};
use crate::support::{PASSWORD, Reply, Server, client};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Output, Stdio};

/// Makes an account with a token of these scopes, signed in with its own password.
fn account(server: &Server, name: &str, scopes: &[&str]) -> (i64, String) {
    let made = server.post("/api/v1/users", &json!({ "name": name, "password": PASSWORD })).is(201).json();
    let login = json!({ "name": name, "password": PASSWORD, "scopes": scopes });
    let token = anonymous(server, "/api/v1/login", &login).is(201).json();
    (made["id"].as_i64().unwrap(), token["token"].as_str().unwrap().to_owned())
}

fn anonymous(server: &Server, path: &str, body: &Value) -> Reply {
    Reply::of(server.anonymous().post(server.url(path)).json(body).send().unwrap())
}

fn get(server: &Server, token: &str, path: &str) -> Reply {
    Reply::of(client(Some(token)).get(server.url(path)).send().unwrap())
}

fn send(server: &Server, token: &str, method: &str, path: &str, body: &Value) -> Reply {
    let request = client(Some(token)).request(method.parse().unwrap(), server.url(path));
    Reply::of(request.json(body).send().unwrap())
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_person_signs_in_with_a_password_and_out_again() {
    let server = Server::start();
    let mut browser = Browser::new(&server);
    assert_eq!(location(&browser.get("/account?a=1&b=2").is(303)), "/login?then=%2Faccount%3Fa%3D1%26b%3D2");
    let wrong =
        browser.send("/login", &[("name", "admin"), ("password", "wrong"), ("then", "/account")]).is(401);
    assert!(wrong.text.contains("name or password is wrong"), "{}", wrong.text);
    assert!(wrong.text.contains("value=\"/account\""), "where to go is not forgotten");
    let unknown = browser.send("/login", &[("name", "nobody"), ("password", "wrong")]).is(401);
    assert!(unknown.text.contains("name or password is wrong"));
    for (then, to) in [
        ("/account", "/account"),
        ("//evil.example", "/"),
        ("https://evil.example", "/"),
        ("/\\evil.example", "/"),
    ] {
        let right =
            browser.send("/login", &[("name", "admin"), ("password", PASSWORD), ("then", then)]).is(303);
        assert_eq!(location(&right), to);
        let set = right.headers["set-cookie"].to_str().unwrap();
        assert!(set.contains("HttpOnly") && set.contains("SameSite=Lax") && set.contains("Path=/"), "{set}");
    }
    assert!(browser.get("/account").is(200).text.contains("Administrator"));
    assert_eq!(
        server.number("SELECT COUNT(*) FROM sessions"),
        1,
        "a new session takes the place of the old one"
    );
    let forged = browser.send("/logout", &[]).is(403);
    assert!(forged.text.contains("load the page again"), "{}", forged.text);
    let before = browser.cookie.clone();
    browser.submit("/logout", &[]).is(303);
    browser.cookie = before;
    browser.get("/account").is(303);
}

#[test]
fn passwords_can_not_be_guessed_for_long() {
    let server = Server::start();
    // longer than any password: refused without being hashed, and counted all the same
    let long = "x".repeat(2000);
    for _ in 0..10 {
        anonymous(&server, "/api/v1/login", &json!({ "name": "admin", "password": long })).is(401);
    }
    let login = json!({ "name": "admin", "password": PASSWORD });
    let refused = anonymous(&server, "/api/v1/login", &login).is(429);
    assert!(refused.text.contains("try again in 15 minutes"), "{}", refused.text);
}

#[test]
fn a_one_time_address_sets_a_password_one_time() {
    let server = Server::start();
    let made = server.post("/api/v1/users", &json!({ "name": "ann" })).is(201).json();
    let invited = made["link"].as_str().unwrap().strip_prefix(server.address()).unwrap().to_owned();
    server.post("/api/v1/users", &json!({ "name": "ann" })).is(409);
    server.post("/api/v1/users", &json!({ "name": "An n" })).is(400);
    let printed = server
        .command(&["server", "sign-in", "ann", "--config"])
        .arg(server.home().join("server.yml"))
        .output()
        .unwrap();
    assert!(printed.status.success(), "{}", said(&printed));
    let address = String::from_utf8(printed.stdout).unwrap();
    let link = address.trim().find("/welcome/").map(|at| address.trim()[at..].to_owned()).unwrap();
    let mut browser = Browser::new(&server);
    browser.get(&invited).is(404);
    assert!(browser.get(&link).is(200).text.contains("Welcome, ann"));
    assert!(browser.send(&link, &[("password", "short")]).is(400).text.contains("at least 10 characters"));
    browser.send(&link, &[("password", "a long password")]).is(303);
    assert!(browser.get("/account").is(200).text.contains("ann"));
    browser.send(&link, &[("password", "another password")]).is(404);
    let mut elsewhere = Browser::new(&server);
    elsewhere.send("/login", &[("name", "ann"), ("password", "a long password")]).is(303);
    let change = [("current", "a long password"), ("new", "a new long password")];
    assert_eq!(location(&browser.submit("/account/password", &change).is(303)), "/account?done=password");
    browser.get("/account").is(200);
    elsewhere.get("/account").is(303);
    let nobody = server
        .command(&["server", "sign-in", "bob", "--config"])
        .arg(server.home().join("server.yml"))
        .output();
    let nobody = nobody.unwrap();
    assert_eq!(nobody.status.code(), Some(2));
    assert!(said(&nobody).contains("no such account as `bob`"), "{}", said(&nobody));
}

#[test]
fn every_answer_forbids_the_browser_what_it_need_not() {
    let server = Server::start();
    for path in ["/login", "/api/v1/user", "/no/such/page", "/assets/style.css", "/"] {
        let reply = Reply::of(server.anonymous().get(server.url(path)).send().unwrap());
        let policy = reply.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{path} {policy}");
        assert!(policy.contains("frame-ancestors 'none'"), "{path} {policy}");
        assert_eq!(reply.headers["x-content-type-options"], "nosniff", "{path}");
        assert_eq!(reply.headers["referrer-policy"], "same-origin", "{path}");
    }
}

#[test]
fn an_access_token_does_what_its_scopes_say_until_it_is_revoked() {
    let server = Server::start();
    let (_, reader) = account(&server, "ann", &["read"]);
    assert_eq!(get(&server, &reader, "/api/v1/user").is(200).json()["scopes"], json!(["read"]));
    let new = json!({ "name": "more", "scopes": ["read"] });
    let told = send(&server, &reader, "POST", "/api/v1/tokens", &new).is(403);
    assert!(told.text.contains("scope `write`"), "{}", told.text);
    get(&server, &reader, "/api/v1/users").is(403);
    let login = json!({ "name": "ann", "password": PASSWORD, "scopes": ["write"] });
    let writer =
        anonymous(&server, "/api/v1/login", &login).is(201).json()["token"].as_str().unwrap().to_owned();
    let more = json!({ "name": "more", "scopes": ["admin"] });
    let told = send(&server, &writer, "POST", "/api/v1/tokens", &more).is(403);
    assert!(told.text.contains("more than itself"), "{}", told.text);
    for wrong in [
        json!({ "name": "", "scopes": ["read"] }),
        json!({ "name": "n", "scopes": [] }),
        json!({ "name": "n", "scopes": ["everything"] }),
        json!({ "name": "n", "scopes": ["read"], "days": 0 }),
    ] {
        send(&server, &writer, "POST", "/api/v1/tokens", &wrong).is(400);
    }
    let made = send(&server, &writer, "POST", "/api/v1/tokens", &new).is(201).json();
    let (id, token) = (made["id"].as_i64().unwrap(), made["token"].as_str().unwrap());
    get(&server, token, "/api/v1/user").is(200);
    let (_, other) = account(&server, "bob", &["read", "write"]);
    send(&server, &other, "DELETE", &format!("/api/v1/tokens/{id}"), &json!({})).is(404);
    send(&server, &writer, "DELETE", &format!("/api/v1/tokens/{id}?reason=lost"), &json!({})).is(204);
    get(&server, token, "/api/v1/user").is(401);
    let listed = get(&server, &reader, "/api/v1/tokens").is(200).json();
    let listed = listed.as_array().unwrap().iter().find(|t| t["id"] == id).unwrap();
    assert_eq!((&listed["revoked_why"], &listed["user"]), (&json!("lost"), &json!("ann")));
    assert!(!listed.to_string().contains(token), "a token is shown once");
    server.execute("UPDATE tokens SET expires_at = 1 WHERE revoked_at IS NULL");
    get(&server, &reader, "/api/v1/user").is(401);
}

#[test]
fn who_is_disabled_is_out_at_once_and_the_last_administrator_stays() {
    let server = Server::start();
    let (id, token) = account(&server, "ann", &["read"]);
    let mut browser = Browser::new(&server);
    browser.send("/login", &[("name", "ann"), ("password", PASSWORD)]).is(303);
    server.send("PATCH", &format!("/api/v1/users/{id}"), &json!({ "disabled": true })).is(200);
    get(&server, &token, "/api/v1/user").is(401);
    browser.get("/account").is(303);
    anonymous(&server, "/api/v1/login", &json!({ "name": "ann", "password": PASSWORD })).is(401);
    server.post(&format!("/api/v1/users/{id}/link"), &json!({})).is(409);
    let admin = server.number("SELECT id FROM users WHERE name = 'admin'");
    for change in [json!({ "admin": false }), json!({ "disabled": true })] {
        let told = server.send("PATCH", &format!("/api/v1/users/{admin}"), &change).is(409);
        assert!(told.text.contains("last administrator"), "{}", told.text);
    }
}

#[test]
fn roles_are_given_and_taken_by_maintainers_of_the_project() {
    let server = Server::start();
    let (ours, theirs) =
        (server.project("group/ours", "file:///nowhere"), server.project("theirs", "file:///nowhere"));
    let (_, ann) = account(&server, "ann", &["admin"]);
    let (_, bob) = account(&server, "bob", &["admin"]);
    let members = format!("/api/v1/projects/{ours}/members");
    get(&server, &ann, &members).is(404);
    server.post(&members, &json!({ "user": "ann", "role": "maintainer" })).is(204);
    get(&server, &ann, "/api/v1/projects/group%2Fours/members").is(200);
    get(&server, &ann, &format!("/api/v1/projects/{theirs}/members")).is(404);
    for (wrong, status) in [
        (json!({ "user": "nobody", "role": "viewer" }), 404),
        (json!({ "user": "bob", "role": "owner" }), 400),
        (json!({ "user": "bob", "role": "deployer" }), 400),
    ] {
        send(&server, &ann, "POST", &members, &wrong).is(status);
    }
    for environment in ["SIT", "UAT", "UAT"] {
        let role = json!({ "user": "bob", "role": "deployer", "environment": environment });
        send(&server, &ann, "POST", &members, &role).is(204);
    }
    get(&server, &bob, &members).is(403);
    let roles = || {
        server.texts("SELECT role || environment FROM members m JOIN users u ON u.id = m.user_id WHERE u.name = 'bob' ORDER BY 1")
    };
    assert_eq!(roles(), ["deployerSIT", "deployerUAT"]);
    send(&server, &ann, "POST", &members, &json!({ "user": "bob", "role": "viewer" })).is(204);
    assert_eq!(roles(), ["viewer"]);
    let row = server.number("SELECT id FROM members WHERE role = 'viewer'");
    send(&server, &bob, "DELETE", &format!("{members}/{row}"), &json!({})).is(403);
    server.send("DELETE", &format!("/api/v1/projects/{theirs}/members/{row}"), &json!({})).is(404);
    send(&server, &ann, "DELETE", &format!("{members}/{row}"), &json!({})).is(204);
    get(&server, &bob, &members).is(404);
    send(&server, &ann, "POST", "/api/v1/members", &json!({ "user": "ann", "role": "maintainer" })).is(403);
    server.post("/api/v1/members", &json!({ "user": "bob", "role": "maintainer" })).is(204);
    get(&server, &bob, &format!("/api/v1/projects/{theirs}/members")).is(200);
    let mut browser = Browser::of_admin(&server);
    browser
        .submit("/projects/group%2Fours/members", &[("user", "bob"), ("role", "viewer"), ("environment", "")])
        .is(303);
    assert!(browser.get("/projects/group%2Fours/members").is(200).text.contains("ann"));
    assert!(browser.get("/admin/users").is(200).text.contains("bob"));
}

#[test]
fn values_of_variables_go_in_and_never_come_out() {
    let server = Server::start();
    let (ours, theirs) =
        (server.project("ours", "file:///nowhere"), server.project("theirs", "file:///nowhere"));
    let secret = "canary-0f4a-value";
    let variables = format!("/api/v1/projects/{ours}/variables");
    let new = json!({ "key": "TOKEN", "value": secret, "environment_scope": "PROD", "protected": true });
    let id = server.post(&variables, &new).is(200).json()["id"].as_i64().unwrap();
    assert_eq!(
        server.post(&variables, &new).is(200).json()["id"],
        id,
        "the same name and scope is the same variable"
    );
    server.post(&variables, &json!({ "key": "TOKEN", "value": "another-value" })).is(200);
    server.post("/api/v1/variables", &json!({ "key": "PROXY", "value": "p", "masked": false })).is(200);
    for (wrong, why) in [
        (json!({ "key": "1A", "value": secret }), "begins with no digit"),
        (json!({ "key": "A", "value": "short" }), "can't be masked"),
        (json!({ "key": "A", "value": secret, "environment_scope": "" }), "environment_scope"),
    ] {
        assert!(server.post(&variables, &wrong).is(400).text.contains(why));
    }
    let listed = server.get(&variables).is(200);
    assert_eq!(listed.json().as_array().unwrap().len(), 2);
    assert_eq!(listed.json()[1]["environment_scope"], "PROD");
    let mut shown = vec![listed.text, server.get("/api/v1/audit").is(200).text, server.said()];
    let mut browser = Browser::of_admin(&server);
    shown.push(browser.get("/admin/audit").is(200).text);
    shown.extend(server.texts("SELECT CAST(detail AS TEXT) FROM audit"));
    for text in shown {
        assert!(!text.contains(secret), "{text}");
    }
    for name in ["slipway.db", "slipway.db-wal"] {
        // neither is there with PostgreSQL
        let bytes = std::fs::read(server.data().join(name)).unwrap_or_default();
        assert!(!bytes.windows(secret.len()).any(|w| w == secret.as_bytes()), "{name}");
    }
    server.send("DELETE", &format!("/api/v1/projects/{theirs}/variables/{id}"), &json!({})).is(404);
    server.send("DELETE", &format!("/api/v1/variables/{id}"), &json!({})).is(404);
    server.send("DELETE", &format!("{variables}/{id}"), &json!({})).is(204);
    assert_eq!(server.get(&variables).is(200).json().as_array().unwrap().len(), 1);
}

fn verify(server: &Server, arguments: &[&str]) -> Output {
    let config = server.home().join("server.yml");
    let mut command = server.command(&["server", "audit", "verify", "--config"]);
    command.arg(config).args(arguments).output().unwrap()
}

#[test]
fn a_record_that_was_tampered_with_is_found_out() {
    let server = Server::start();
    for name in ["ann", "bob", "eve"] {
        server.post("/api/v1/users", &json!({ "name": name, "password": PASSWORD })).is(201);
    }
    let whole = verify(&server, &[]);
    assert!(whole.status.success(), "{}", said(&whole));
    let head: Value = serde_json::from_slice(&whole.stdout).unwrap();
    let head = head["head"].as_str().unwrap().to_owned();
    let exported = server
        .command(&["server", "audit", "export", "--config"])
        .arg(server.home().join("server.yml"))
        .output()
        .unwrap();
    let file = server.home().join("audit.jsonl");
    std::fs::write(&file, &exported.stdout).unwrap();
    let count = exported.stdout.iter().filter(|b| **b == b'\n').count();
    assert!(count >= 4, "{}", said(&exported));
    assert_eq!(server.get("/api/v1/audit/export").is(200).text.as_bytes(), exported.stdout);
    assert_eq!(
        server.get("/api/v1/audit?action=user.create&limit=2").is(200).json().as_array().unwrap().len(),
        2
    );
    server.post("/api/v1/users", &json!({ "name": "zoe", "password": PASSWORD })).is(201);
    assert!(verify(&server, &["--head", &head]).status.success());
    assert_eq!(server.get(&format!("/api/v1/audit/verify?head={head}")).is(200).json()["wrong"], Value::Null);
    server.execute("UPDATE audit SET subject = 'mallory' WHERE seq = 3");
    let broken = verify(&server, &[]);
    assert_eq!(broken.status.code(), Some(1));
    assert!(said(&broken).contains("entry 3 was changed"), "{}", said(&broken));
    server.execute("DELETE FROM audit WHERE seq = 2");
    assert!(said(&verify(&server, &[])).contains("entry 2 is missing"));
    let kept = verify(&server, &["--file", file.to_str().unwrap(), "--head", &head]);
    assert!(kept.status.success(), "{}", said(&kept));
    server.execute("DELETE FROM audit WHERE seq > 1");
    assert!(said(&verify(&server, &[])).contains("entries after 1 are missing"));
}

/// `ci login` until it has shown its code; then what a person answers; how it ended.
fn login(server: &Server, browser: &mut Browser<'_>, answer: &str) -> (Option<i32>, String) {
    let mut command = server.command(&["login", server.address()]);
    command
        .env("XDG_CONFIG_HOME", server.home().join("config"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut login = command.env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY").spawn().unwrap();
    let mut lines = BufReader::new(login.stderr.take().unwrap()).lines().map(Result::unwrap);
    let open = lines.next().unwrap();
    let code = lines.next().unwrap().split(' ').next_back().unwrap().to_owned();
    let page = open.strip_prefix("open ").and_then(|address| address.strip_prefix(server.address())).unwrap();
    let shown = browser.get(page).is(200).text;
    assert!(shown.contains(&code), "{shown}");
    browser.get("/device?code=ZZZZ-ZZZZ").is(200);
    let form = [("code", code.as_str()), ("answer", answer), ("write", "1")];
    browser.send("/device", &form).is(403);
    browser.submit("/device", &form).is(200);
    browser.submit("/device", &form).is(404);
    let rest: String = lines.collect::<Vec<_>>().join("\n");
    let output = login.wait_with_output().unwrap();
    (output.status.code(), format!("{}{rest}", String::from_utf8_lossy(&output.stdout)))
}

#[test]
fn a_command_line_is_signed_in_by_a_person_on_the_page() {
    let server = Server::start();
    let mut browser = Browser::of_admin(&server);
    let (code, said) = login(&server, &mut browser, "no");
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("refused"), "{said}");
    let (code, said) = login(&server, &mut browser, "yes");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("as admin"), "{said}");
    let file = server.home().join("config/slipway/logins.yml");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let kept: Value = serde_yaml::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let token = kept["servers"][server.address()]["token"].as_str().unwrap();
    assert!(!said.contains(token), "a token is nobody's business");
    assert_eq!(get(&server, token, "/api/v1/user").is(200).json()["scopes"], json!(["read", "write"]));
    let mut command = server.command(&["logout"]);
    let out = command.env("XDG_CONFIG_HOME", server.home().join("config")).output().unwrap();
    assert!(out.status.success(), "{}", self::said(&out));
    get(&server, token, "/api/v1/user").is(401);
    assert!(!std::fs::read_to_string(&file).unwrap().contains(token));
}

#[test]
fn a_command_line_is_signed_in_with_a_token_from_standard_input() {
    let server = Server::start();
    let login = |token: &str| {
        let file = server.home().join("token");
        std::fs::write(&file, token).unwrap();
        let mut command = server.command(&["login", server.address(), "--token"]);
        command.env("XDG_CONFIG_HOME", server.home().join("config"));
        command.stdin(std::fs::File::open(file).unwrap()).output().unwrap()
    };
    let wrong = login("slp_rubbish");
    assert_eq!(wrong.status.code(), Some(2));
    assert!(said(&wrong).contains("unknown, expired or revoked"), "{}", said(&wrong));
    assert_eq!(login("").status.code(), Some(2));
    let right = login(server.token());
    assert!(right.status.success(), "{}", said(&right));
    let elsewhere = server.command(&["login", "ftp://x"]).output().unwrap();
    assert_eq!(elsewhere.status.code(), Some(2), "{}", said(&elsewhere));
}
