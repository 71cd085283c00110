//! Other projects over http and https: git's own `http-backend` behind a small server, with a certificate authority
//! of its own.

use super::support::target::run;
use super::{OFFLINE, PLAN, Place, git, job, planned, repository};
use native_tls::{Identity, TlsAcceptor};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

/// What a server asks for, and what is wrong with it.
#[derive(Clone, Default)]
struct Manner {
    /// `user:password` in base64.
    login: Option<&'static str>,
    /// Everything is somewhere else.
    moved_to: Option<String>,
    /// Answers to `git-upload-pack` end after so many bytes.
    breaks_off: Option<usize>,
    /// Nothing here is git.
    answers: Option<&'static str>,
}

/// Serves the repositories in a directory. It ends with the test process.
struct GitServer {
    address: SocketAddr,
    scheme: &'static str,
    /// `GET /path?query` of each request, and whether it had a login.
    requests: Arc<Mutex<Vec<(String, bool)>>>,
}

impl GitServer {
    fn start(root: &Path, tls: Option<TlsAcceptor>, manner: Manner) -> GitServer {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let server = GitServer { address, scheme, requests: Arc::default() };
        let (root, requests) = (root.to_owned(), server.requests.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // who does not trust the certificate hangs up
                match &tls {
                    Some(tls) => drop(tls.accept(stream).map(|s| serve(s, &root, &manner, &requests))),
                    None => serve(stream, &root, &manner, &requests),
                }
            }
        });
        server
    }

    fn url(&self, path: &str) -> String {
        format!("{}://{}/{path}", self.scheme, self.address)
    }

    fn asked(&self) -> Vec<(String, bool)> {
        std::mem::take(&mut *self.requests.lock().unwrap())
    }
}

fn serve(stream: impl Read + Write, root: &Path, manner: &Manner, requests: &Mutex<Vec<(String, bool)>>) {
    let mut stream = BufReader::new(stream);
    let mut head = Vec::new();
    for line in stream.by_ref().lines().map_while(Result::ok).take_while(|line| !line.is_empty()) {
        head.push(line);
    }
    let Some(first) = head.first() else { return };
    let words: Vec<&str> = first.split(' ').collect();
    let field = |name: &str| {
        let fields = head.iter().filter_map(|line| line.split_once(": "));
        fields.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned()).next()
    };
    let login = field("authorization");
    requests.lock().unwrap().push((format!("{} {}", words[0], words[1]), login.is_some()));
    let mut body = vec![0; field("content-length").map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).unwrap();

    let text = |status: &str, more: String, text: &str| {
        let length = text.len();
        format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n{more}\r\n{text}")
            .into_bytes()
    };
    let wanted = manner.login.map(|login| format!("Basic {login}"));
    let mut answer = if let Some(place) = &manner.moved_to {
        text("301 Moved Permanently", format!("Location: {place}{}\r\n", words[1]), "")
    } else if let Some(answer) = manner.answers {
        text("200 OK", "Content-Type: text/html\r\n".into(), answer)
    } else if wanted.is_some() && wanted != login {
        text("401 Unauthorized", "WWW-Authenticate: Basic realm=\"git\"\r\n".into(), "who are you?")
    } else {
        backend(root, &words, &field("content-type").unwrap_or_default(), &body)
    };
    if words[1].ends_with("/git-upload-pack") {
        answer.truncate(manner.breaks_off.unwrap_or(usize::MAX));
    }
    // who has heard enough hangs up
    let _ = stream.get_mut().write_all(&answer).and_then(|()| stream.get_mut().flush());
}

/// git's CGI program answers.
fn backend(root: &Path, words: &[&str], content_type: &str, body: &[u8]) -> Vec<u8> {
    let (path, query) = words[1].split_once('?').unwrap_or((words[1], ""));
    let mut backend = Command::new("git");
    backend.arg("http-backend").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    backend.env("GIT_PROJECT_ROOT", root).env("GIT_HTTP_EXPORT_ALL", "1").env("REMOTE_USER", "someone");
    backend.env("REQUEST_METHOD", words[0]).env("PATH_INFO", path).env("QUERY_STRING", query);
    backend.env("CONTENT_TYPE", content_type).env("CONTENT_LENGTH", body.len().to_string());
    let mut backend = backend.spawn().unwrap();
    backend.stdin.take().unwrap().write_all(body).unwrap();
    let said = backend.wait_with_output().unwrap().stdout;
    let end = said.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let (head, content) = said.split_at(end + 4);
    let head = String::from_utf8(head.to_vec()).unwrap();
    let status = head.lines().find_map(|line| line.strip_prefix("Status: ")).unwrap_or("200 OK").to_owned();
    let answer = format!("HTTP/1.1 {status}\r\nConnection: close\r\n{head}");
    [answer.as_bytes(), content].concat()
}

/// A certificate authority's file, and a server's identity signed by it.
fn authority(dir: &Path) -> (PathBuf, TlsAcceptor) {
    let path = |name: &str| dir.join(name);
    let openssl = |arguments: &[&str]| {
        run(Command::new("openssl").args(arguments).current_dir(dir));
    };
    let key = ["-newkey", "rsa:2048", "-nodes", "-days", "2"];
    openssl(
        &[
            &["req", "-x509"],
            &key[..],
            &["-subj", "/CN=test authority", "-keyout", "ca.key", "-out", "ca.pem"],
        ]
        .concat(),
    );
    openssl(
        &[&["req"], &key[..3], &["-subj", "/CN=localhost", "-keyout", "own.key", "-out", "own.csr"]].concat(),
    );
    fs::write(path("own.cnf"), "subjectAltName = IP:127.0.0.1\n").unwrap();
    openssl(&[
        "x509",
        "-req",
        "-in",
        "own.csr",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-days",
        "2",
        "-extfile",
        "own.cnf",
        "-out",
        "own.pem",
    ]);
    openssl(&["pkcs8", "-topk8", "-nocrypt", "-in", "own.key", "-out", "own.p8"]);
    let read = |name: &str| fs::read(path(name)).unwrap();
    let identity = Identity::from_pkcs8(&read("own.pem"), &read("own.p8")).unwrap();
    (path("ca.pem"), TlsAcceptor::new(identity).unwrap())
}

/// A library with two commits, the first tagged (`v1` names it, `v1.1` is an annotated tag).
fn library(place: &Place) -> PathBuf {
    let library = place.path("library");
    repository(&library, &[("a.yml", &job("first"))]);
    git(&library, &["tag", "v1"]);
    git(&library, &["tag", "-a", "-m", "annotated", "v1.1"]);
    repository(&library, &[("a.yml", &job("second"))]);
    library
}

/// The project includes `a.yml` of the library at a ref, or at its HEAD.
fn include(place: &Place, url: &str, reference: Option<&str>) {
    let reference = reference.map(|name| format!(", ref: '{name}'")).unwrap_or_default();
    place.settings(&format!("sources:\n  g/l: '{url}'\n"));
    place.configuration(&format!("include: {{project: g/l, file: a.yml{reference}}}\n"));
}

#[test]
fn https_brings_branches_tags_and_head_and_only_what_is_new() {
    let place = Place::new("");
    let library = library(&place);
    let (authority, tls) = authority(place.dir.path());
    let server = GitServer::start(place.dir.path(), Some(tls), Manner::default());
    let url = server.url("library/.git/");
    let trusted = [("SSL_CERT_FILE", authority.to_str().unwrap())];
    let jobs = |reference| {
        include(&place, &url, reference);
        planned(place.ci_with(&PLAN, &trusted))
    };
    include(&place, &url, None);
    place.ci(&["lint"]).ended(1).says(&["`g/l`", "certificate verify failed"]);
    assert_eq!(server.asked(), [], "without trust nobody gets to know what was asked");

    assert_eq!(jobs(None), ["second"]);
    let asked = |line: &str| (line.to_owned(), false);
    let list = asked("GET /library/.git/info/refs?service=git-upload-pack");
    let pack = asked("POST /library/.git/git-upload-pack");
    assert_eq!(server.asked(), [list.clone(), pack.clone()]);
    assert_eq!(jobs(Some("v1")), ["first"]);
    assert_eq!(jobs(Some("v1.1")), ["first"]);
    assert_eq!(server.asked(), [], "tags are here already");
    assert_eq!(jobs(Some("main")), ["second"]);
    assert_eq!(server.asked(), std::slice::from_ref(&list), "nothing is new");

    repository(&library, &[("a.yml", &job("third"))]);
    git(&library, &["branch", "feature"]);
    assert_eq!(jobs(Some("main")), ["third"]);
    assert_eq!(server.asked(), [list.clone(), pack.clone()]);
    git(&library, &["branch", "-D", "feature"]);
    git(&library, &["branch", "feature/a", "v1"]);
    assert_eq!(jobs(Some("feature/a")), ["first"], "a branch went, and one below its name came");
    git(&library, &["reset", "-q", "--hard", "v1"]);
    git(&library, &["checkout", "-q", "-b", "trunk"]);
    repository(&library, &[("a.yml", &job("fourth"))]);
    assert_eq!(jobs(Some("main")), ["first"], "history may be rewritten");
    assert_eq!(jobs(None), ["fourth"], "HEAD may be another branch");
    assert_eq!(planned(place.ci(&OFFLINE)), ["fourth"]);
}

#[test]
fn a_server_that_wants_a_login_gets_it_from_gits_credential_helpers() {
    let place = Place::new("");
    library(&place);
    let manner = Manner { login: Some("bWU6aHVudGVyMg=="), ..Manner::default() };
    let server = GitServer::start(place.dir.path(), None, manner);
    let url = server.url("library/.git");
    include(&place, &url, None);
    let refused = "Project `g/l` not found or access denied!";
    place.ci(&["lint"]).ended(1).says(&[refused, "credential helpers gave no access"]);
    assert!(server.asked().iter().all(|(_, login)| !login), "nothing to log in with");

    let helper = |password: &str| {
        let text = format!(
            "[credential]\n\thelper = \"!f() {{ echo username=me; echo password={password}; }}; f\"\n"
        );
        fs::write(place.path(".gitconfig"), text).unwrap();
    };
    helper("wrong");
    let said =
        place.ci(&["lint"]).ended(1).says(&[refused, "did not take what git's credential helpers gave"]);
    assert!(!said.stdout.contains("wrong") && !said.stderr.contains("wrong"), "{said:?}");
    helper("hunter2");
    server.asked();
    assert_eq!(planned(place.ci(&PLAN)), ["second"]);
    let logins: Vec<bool> = server.asked().into_iter().map(|(_, login)| login).collect();
    assert_eq!(logins, [false, true, true], "a login is sent once it is asked for");

    let (authority, tls) = authority(place.dir.path());
    let gate =
        Manner { moved_to: Some(server.url("").trim_end_matches('/').to_owned()), ..Manner::default() };
    let plain = GitServer::start(place.dir.path(), None, gate.clone());
    include(&place, &plain.url("library/.git"), None);
    assert_eq!(planned(place.ci(&PLAN)), ["second"]);
    assert!(plain.asked().iter().all(|(_, login)| !login), "only where it was asked for");
    let tls = GitServer::start(place.dir.path(), Some(tls), gate);
    include(&place, &tls.url("library/.git"), None);
    let trusted = [("SSL_CERT_FILE", authority.to_str().unwrap())];
    place.ci_with(&["lint"], &trusted).ended(1).says(&["from https to http, which is not followed"]);
}

#[test]
fn what_no_git_server_says_is_told_and_leaves_nothing() {
    let place = Place::new("");
    library(&place);
    let root = place.dir.path();
    let server = GitServer::start(root, None, Manner::default());
    let broken = GitServer::start(root, None, Manner { breaks_off: Some(400), ..Manner::default() });
    let shop =
        GitServer::start(root, None, Manner { answers: Some("<h1>Welcome</h1>"), ..Manner::default() });
    let nobody = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    let table = [
        (server.url("nothing.git"), "HTTP code `404`"),
        (broken.url("library/.git"), "broke"),
        (shop.url("library.git"), "no git repository is served there"),
        (format!("http://{nobody}/l.git"), "refused"),
    ];
    for (url, expected) in table {
        include(&place, &url, None);
        place.ci(&["lint"]).ended(1).says(&[expected, "`g/l`"]);
        let kept = fs::read_dir(place.path("state/projects")).into_iter().flatten().count();
        assert_eq!(kept, 0, "{url}");
        let mirrors = fs::read_dir(place.path("state/sources")).into_iter().flatten().flatten();
        let mirrors: Vec<_> =
            mirrors.map(|e| e.path()).filter(|p| p.extension() == Some("git".as_ref())).collect();
        assert!(mirrors.is_empty(), "{url}: {mirrors:?}");
    }
}
