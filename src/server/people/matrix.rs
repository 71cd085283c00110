//! Every route × everybody: what the guard says is what the route's access says.

use super::{Rights, tokens};
use crate::server::access::{Access, Actor, Probe, Via};
use crate::server::config::Config;
use crate::server::db::now;
use crate::server::routes::Route;
use crate::server::vault::token_hash;
use crate::server::{App, serve};
use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request};
use tower::ServiceExt;

/// What the probe answers: the guard has let it pass.
const PASSED: u16 = 418;
const OURS: i64 = 1;
const THEIRS: i64 = 2;

/// Somebody, and what they ought to be able to do.
struct Somebody {
    what: &'static str,
    header: Option<(&'static str, String)>,
    csrf: String,
    signed_in: bool,
    admin: bool,
    /// In the project that is asked for.
    role: Option<Access>,
    deploys: bool,
    /// Of a token.
    scope: Option<&'static str>,
    only_project: bool,
}

async fn app(dir: &std::path::Path) -> App {
    let config = Config { data: dir.join("data"), ..Config::default() };
    let app = App::open(config).await.unwrap();
    for (id, path) in [(OURS, "group/ours"), (THEIRS, "group/theirs")] {
        sqlx::query(
            "INSERT INTO projects (id, path, git_url, forge, forge_url, default_branch, hook, protected_refs, settings, \
             paused, created_at) VALUES ($1, $2, '', 'generic', '', 'main', $2, '[]', '{}', 0, 0)",
        )
        .bind(id)
        .bind(path)
        .execute(&app.db.pool)
        .await
        .unwrap();
    }
    app
}

async fn user(app: &App, name: &str, admin: bool) -> i64 {
    let query = sqlx::query_as(
        "INSERT INTO users (name, display, email, admin, disabled, created_at) VALUES ($1, $1, '', $2, 0, 0) RETURNING id",
    );
    let (id,): (i64,) = query.bind(name).bind(i64::from(admin)).fetch_one(&app.db.pool).await.unwrap();
    id
}

async fn member(app: &App, user: i64, project: Option<i64>, role: &str, environment: &str) {
    let query = "INSERT INTO members (user_id, project_id, role, environment) VALUES ($1, $2, $3, $4)";
    let query = sqlx::query(query).bind(user).bind(project).bind(role).bind(environment);
    query.execute(&app.db.pool).await.unwrap();
}

async fn session(app: &App, user: i64) -> (Option<(&'static str, String)>, String) {
    let value = format!("cookie-of-{user}");
    let query = "INSERT INTO sessions (hash, user_id, created_at, expires_at, address, agent) VALUES ($1, $2, $3, $4, '', '')";
    let query = sqlx::query(query).bind(token_hash(&value)).bind(user).bind(now()).bind(now() + 1_000_000);
    query.execute(&app.db.pool).await.unwrap();
    (Some(("cookie", format!("slipway={value}"))), token_hash(&format!("csrf {value}")))
}

async fn token(app: &App, user: i64, scope: &str, project: Option<i64>) -> (i64, String) {
    let actor = Actor { user: Some(user), via: Via::Session, ..Actor::anonymous() };
    let new =
        tokens::NewToken { name: "t".to_owned(), scopes: vec![scope.to_owned()], project, days: Some(1) };
    let mut tx = app.db.write().await.unwrap();
    let made = tokens::create(&mut tx, &actor, user, &new).await.unwrap();
    tx.commit().await.unwrap();
    (made.id, made.token)
}

async fn everybody(app: &App) -> Vec<Somebody> {
    let nobody = || Somebody {
        what: "nobody",
        header: None,
        csrf: String::new(),
        signed_in: false,
        admin: false,
        role: None,
        deploys: false,
        scope: None,
        only_project: false,
    };
    let mut all = vec![nobody()];
    let people = [
        ("newcomer", None, "", None),
        ("viewer", Some(OURS), "", Some(Access::Viewer)),
        ("developer", Some(OURS), "", Some(Access::Developer)),
        ("deployer", Some(OURS), "PROD", Some(Access::Deployer)),
        ("deployer of all", Some(OURS), "*", Some(Access::Deployer)),
        ("deployer of SIT", Some(OURS), "SIT", Some(Access::Deployer)),
        ("maintainer", Some(OURS), "", Some(Access::Maintainer)),
        ("maintainer of theirs", Some(THEIRS), "", None),
        ("viewer of all", None, "", Some(Access::Viewer)),
        ("admin", None, "", Some(Access::Admin)),
    ];
    for (what, project, environment, access) in people {
        let admin = what == "admin";
        let id = user(app, &what.replace(' ', "-"), admin).await;
        let role = what.split(' ').next().unwrap();
        if role != "newcomer" && !admin {
            member(app, id, project, role, environment).await;
        }
        let (header, csrf) = session(app, id).await;
        let deploys = matches!(environment, "PROD" | "*") || access >= Some(Access::Maintainer);
        all.push(Somebody { what, header, csrf, signed_in: true, admin, role: access, deploys, ..nobody() });
        for scope in ["read", "write", "deploy", "admin"] {
            if !matches!(what, "deployer" | "maintainer" | "maintainer of theirs" | "admin") {
                continue;
            }
            let (_, token) = token(app, id, scope, None).await;
            let header = Some(("authorization", format!("Bearer {token}")));
            let scope = Some(scope);
            all.push(Somebody {
                what,
                header,
                signed_in: true,
                admin,
                role: access,
                deploys,
                scope,
                ..nobody()
            });
        }
        if admin {
            for (project, role) in [(OURS, Some(Access::Admin)), (THEIRS, None)] {
                let (_, token) = token(app, id, "admin", Some(project)).await;
                let header = Some(("private-token", token));
                let scope = Some("admin");
                let what = "admin's token of a project";
                let limited = Somebody {
                    what,
                    header,
                    signed_in: true,
                    admin,
                    role,
                    scope,
                    only_project: true,
                    ..nobody()
                };
                all.push(Somebody { deploys: role.is_some(), ..limited });
            }
        }
    }
    for (what, sql) in [
        ("revoked token", "UPDATE tokens SET revoked_at = 1 WHERE id = $1"),
        ("expired token", "UPDATE tokens SET expires_at = 1 WHERE id = $1"),
    ] {
        let id = user(app, &what.replace(' ', "-"), true).await;
        let (row, token) = token(app, id, "admin", None).await;
        sqlx::query(sql).bind(row).execute(&app.db.pool).await.unwrap();
        all.push(Somebody { what, header: Some(("private-token", token)), ..nobody() });
    }
    let disabled = user(app, "disabled", true).await;
    let (header, csrf) = session(app, disabled).await;
    let (_, token) = token(app, disabled, "admin", None).await;
    sqlx::query("UPDATE users SET disabled = 1 WHERE id = $1")
        .bind(disabled)
        .execute(&app.db.pool)
        .await
        .unwrap();
    all.push(Somebody { what: "disabled", header, csrf, ..nobody() });
    all.push(Somebody { what: "disabled", header: Some(("private-token", token)), ..nobody() });
    let rubbish = Some(("authorization", "Bearer slp_0000".to_owned()));
    all.push(Somebody { what: "rubbish", header: rubbish, ..nobody() });
    all
}

/// What the route's access means for somebody.
fn expected(route: &Route, who: &Somebody) -> u16 {
    let in_project = route.path.contains("{project}");
    if route.access == Access::Public {
        return PASSED;
    }
    if !who.signed_in {
        return 401;
    }
    if in_project && who.role.is_none() {
        return 404;
    }
    let enough = match (route.access, in_project) {
        (Access::SignedIn, _) => true,
        (Access::Deployer, true) if route.path.contains("{environment}") => {
            who.deploys && who.scope.is_none_or(deploys)
        }
        (Access::Deployer, true) => {
            (who.what == "deployer of all" || who.role >= Some(Access::Maintainer))
                && who.scope.is_none_or(deploys)
        }
        (access, true) => who.role >= Some(access),
        (_, false) => who.admin,
    };
    let scoped = who.scope.is_none_or(|scope| match route.access {
        Access::Public => true,
        Access::Deployer => deploys(scope),
        Access::Admin => scope == "admin",
        _ if route.method == Method::GET => true,
        Access::Maintainer => scope == "admin",
        _ => matches!(scope, "write" | "admin"),
    });
    let elsewhere =
        who.only_project && !in_project && (route.access == Access::Admin || route.method != Method::GET);
    if enough && scoped && !elsewhere { PASSED } else { 403 }
}

fn deploys(scope: &str) -> bool {
    matches!(scope, "deploy" | "admin")
}

fn path(route: &Route, project: &str) -> String {
    let mut path = route.path.replace("{project}", project).replace("{environment}", "PROD");
    while let (Some(from), Some(to)) = (path.find('{'), path.find('}')) {
        path.replace_range(from..=to, "1");
    }
    path
}

async fn ask(router: &Router, method: &Method, path: &str, headers: &[(&str, &str)]) -> u16 {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut request = request.body(Body::empty()).unwrap();
    request.extensions_mut().insert(Probe);
    router.clone().oneshot(request).await.unwrap().status().as_u16()
}

#[tokio::test]
async fn every_route_lets_in_whom_its_access_names_and_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let app = app(dir.path()).await;
    let table = serve::routes(&app).table;
    let (router, _) = serve::router(&app);
    assert!(table.len() > 40, "{}", table.len());
    let everybody = everybody(&app).await;
    let mut wrong = Vec::new();
    for route in &table {
        for who in &everybody {
            let mut headers = vec![("x-csrf-token", who.csrf.as_str())];
            if let Some((name, value)) = &who.header {
                headers.push((name, value));
            }
            for project in ["1", "group%2Fours"] {
                let found = ask(&router, &route.method, &path(route, project), &headers).await;
                if found != expected(route, who) {
                    let scope = who.scope.unwrap_or("session");
                    let expected = expected(route, who);
                    wrong.push(format!(
                        "{} {} ({:?}): {found} and not {expected} for {}, {scope}",
                        route.method, route.path, route.access, who.what
                    ));
                }
                if !route.path.contains("{project}") {
                    break;
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test]
async fn no_other_site_and_no_form_without_its_token_changes_anything() {
    let dir = tempfile::tempdir().unwrap();
    let app = app(dir.path()).await;
    let table = serve::routes(&app).table;
    let (router, _) = serve::router(&app);
    let admin = user(&app, "admin", true).await;
    let (header, csrf) = session(&app, admin).await;
    let (_, cookie) = header.unwrap();
    for route in table.iter().filter(|route| !route.method.is_safe()) {
        let path = path(route, "1");
        let ask = async |headers: &[(&str, &str)]| ask(&router, &route.method, &path, headers).await;
        let public = route.access == Access::Public;
        let with =
            |more: (&'static str, &'static str)| [("cookie", &*cookie), ("x-csrf-token", &*csrf), more];
        assert_eq!(ask(&with(("sec-fetch-site", "cross-site"))).await, 403, "{path}");
        assert_eq!(ask(&with(("sec-fetch-site", "same-site"))).await, 403, "{path}");
        assert_eq!(ask(&with(("origin", "https://evil.example"))).await, 403, "{path}");
        assert_eq!(ask(&with(("sec-fetch-site", "same-origin"))).await, PASSED, "{path}");
        let passed = if public { PASSED } else { 403 };
        assert_eq!(ask(&[("cookie", &cookie)]).await, passed, "{path}");
        assert_eq!(ask(&[("cookie", &cookie), ("x-csrf-token", "rubbish")]).await, passed, "{path}");
    }
}

#[tokio::test]
async fn odd_paths_reach_nothing_that_is_not_public() {
    let dir = tempfile::tempdir().unwrap();
    let app = app(dir.path()).await;
    let table = serve::routes(&app).table;
    let (router, _) = serve::router(&app);
    let odd: [fn(&str) -> String; 14] = [
        |p| format!("/{p}"),
        |p| format!("{p}/"),
        |p| format!("{p}//"),
        |p| p.replacen('/', "//", 2),
        |p| format!("/assets/..{p}"),
        |p| format!("/assets/%2e%2e{p}"),
        |p| format!("/login/..;{p}"),
        |p| format!("{p};.css"),
        |p| format!("{p}.json"),
        |p| format!("{p}%00"),
        |p| format!("{p}%2f"),
        |p| p.to_uppercase(),
        |p| format!("/.{p}"),
        |p| p.replace("/a", "/%61"),
    ];
    for route in table.iter().filter(|route| route.access != Access::Public) {
        for odd in odd {
            let path = odd(&path(route, "1"));
            let found = ask(&router, &route.method, &path, &[]).await;
            assert_ne!(found, PASSED, "{} {path}", route.method);
        }
    }
}

#[tokio::test]
async fn what_a_handler_asks_for_is_what_the_guard_would_say() {
    let dir = tempfile::tempdir().unwrap();
    let app = app(dir.path()).await;
    let id = user(&app, "ann", false).await;
    member(&app, id, Some(OURS), "deployer", "SIT").await;
    let session = Actor { user: Some(id), via: Via::Session, ..Actor::anonymous() };
    let token = |scope: &str| Actor { via: Via::Token, scopes: vec![scope.to_owned()], ..session.clone() };
    let allows = async |actor: &Actor, access, environment| {
        crate::server::access::allows(&app, actor, OURS, access, environment).await.unwrap()
    };
    assert!(allows(&session, Access::Deployer, Some("SIT")).await);
    assert!(!allows(&session, Access::Deployer, Some("PROD")).await);
    assert!(!allows(&session, Access::Deployer, None).await);
    assert!(!allows(&session, Access::Maintainer, None).await);
    assert!(allows(&token("deploy"), Access::Deployer, Some("SIT")).await);
    assert!(!allows(&token("write"), Access::Deployer, Some("SIT")).await);
    assert!(allows(&token("read"), Access::Viewer, None).await);
    assert!(!allows(&token("read"), Access::Developer, None).await);
    assert!(!allows(&Actor::anonymous(), Access::Viewer, None).await);
    assert_eq!(super::rights(&app, &session, THEIRS).await.unwrap(), Rights::default());
}

#[test]
fn every_form_that_changes_something_holds_the_token_or_is_public() {
    let templates = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/server/pages/templates");
    let mut forms = 0;
    for file in std::fs::read_dir(templates).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        for form in text.split("<form").skip(1).map(|rest| rest.split("</form>").next().unwrap()) {
            // what the script sends to the API has the token in a header
            let public = ["action=\"/login\"", "action=\"/welcome/", "data-api=\""];
            let public = public.iter().any(|text| form.contains(text));
            if form.contains("method=\"post\"") && !public {
                forms += 1;
                assert!(form.contains("{{> _csrf}}") || form.contains("name=\"csrf\""), "{form}");
            }
        }
    }
    assert!(forms > 10, "{forms}");
}

#[tokio::test]
async fn the_first_administrator_is_let_in_once_and_only_as_long_as_nobody_can_sign_in() {
    let dir = tempfile::tempdir().unwrap();
    let app = app(dir.path()).await;
    let first = super::first_account(&app, None).await.unwrap().unwrap();
    let second = super::first_account(&app, None).await.unwrap().unwrap();
    assert_ne!(first, second, "a restart prints another address");
    let address = |link: &str| link[link.find("/welcome/").unwrap()..].to_owned();
    let (router, _) = serve::router(&app);
    let ask = async |path: String, form: Option<&'static str>| {
        let method = if form.is_some() { Method::POST } else { Method::GET };
        let request = Request::builder().method(method).uri(path);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let request = request.body(Body::from(form.unwrap_or_default())).unwrap();
        router.clone().oneshot(request).await.unwrap().status().as_u16()
    };
    assert_eq!(ask(address(&first), None).await, 404);
    assert_eq!(ask(address(&second), None).await, 200);
    assert_eq!(ask(address(&second), Some("password=a+long+password")).await, 303);
    assert_eq!(ask(address(&second), Some("password=a+long+password")).await, 404);
    assert_eq!(super::first_account(&app, None).await.unwrap(), None);
    assert_eq!(super::first_account(&app, Some("another password")).await.unwrap(), None);
    let whole = super::verify(&app, None).await.unwrap();
    assert_eq!(whole.wrong, None);
    assert!(whole.entries > 3, "{whole:?}");
}
