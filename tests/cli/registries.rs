//! Registries as companies have them: a certificate authority of their own, logins, tokens. docker-registry asks for
//! them, `ci images pull` answers.

use crate::said::{Said, said};
use crate::tree::Tree;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// ann:s3cret, bcrypt.
const HTPASSWD: &str = "ann:$2b$04$abcdefghijklmnopqrstuuLZYjhNQAOdpbzt4WxWlUHjv1wsyH5DG\n";
const AUTHS: &str = "YW5uOnMzY3JldA==";
const WRONG: &str = "YW5uOndyb25n";

/// How it asks who one is.
enum Asks {
    /// User and password.
    Basic,
    /// A token, which the server at this URL gives.
    Token(String),
}

/// docker-registry with TLS and the image `tiny`.
struct Guarded {
    address: String,
    dir: TempDir,
    server: Child,
}

impl Guarded {
    fn start(asks: impl FnOnce(&Path) -> Asks) -> Guarded {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        certificates(dir.path());
        fs::write(path("htpasswd"), HTPASSWD).unwrap();
        let auth = match asks(dir.path()) {
            Asks::Basic => serde_json::json!({"htpasswd": {"realm": "test", "path": path("htpasswd")}}),
            Asks::Token(realm) => serde_json::json!({"token": {
                "realm": realm, "service": "test", "issuer": "tests", "rootcertbundle": path("token.pem"),
            }}),
        };
        let config = serde_json::json!({
            "version": "0.1", "log": {"level": "info"},
            "storage": {"filesystem": {"rootdirectory": images()}},
            "http": {"addr": "127.0.0.1:0", "tls": {"certificate": path("own.pem"), "key": path("own.key")}},
            "auth": auth,
        });
        fs::write(path("config.yml"), config.to_string()).unwrap();
        let mut server = Command::new("docker-registry")
            .arg("serve")
            .arg(path("config.yml"))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(server.stderr.take().unwrap()).lines().map_while(Result::ok);
        let listening = lines.find_map(|line| {
            let rest = line.split_once("listening on ")?.1.to_owned();
            Some(rest.split([',', '"']).next()?.to_owned())
        });
        // a full pipe would stop it
        std::thread::spawn(move || lines.for_each(drop));
        Guarded { address: listening.expect("docker-registry has started"), dir, server }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn image(&self) -> String {
        format!("{}/tiny", self.address)
    }

    /// Pulls with this setting of the registry and docker's configuration.
    fn pull(&self, setting: &str, docker: &str, more: &[(&str, &Path)]) -> Said {
        let tree = Tree::with(&[(
            ".ci/settings.yml",
            &format!("registries: {{\"{}\": {{{setting}}}}}\n", self.address),
        )]);
        let config = tree.dir().join("docker");
        fs::create_dir(&config).unwrap();
        fs::write(config.join("config.json"), docker).unwrap();
        let mut ci = tree.ci(&["images", "pull", &self.image()]);
        ci.env("DOCKER_CONFIG", config).env_remove("DOCKER_AUTH_CONFIG").env_remove("SSL_CERT_FILE");
        said(ci.envs(more.iter().copied()))
    }

    fn ca(&self) -> String {
        format!("ca: \"{}\"", self.file("ca.pem").display())
    }

    fn login(&self, auth: &str) -> String {
        format!(r#"{{"auths": {{"{}": {{"auth": "{auth}"}}}}}}"#, self.address)
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// The registry's files, with the image.
fn images() -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/test-images.sh");
    let made = said(Command::new(script).arg("tiny"));
    assert_eq!(made.code, 0, "{made}");
    made.stdout.trim().to_owned()
}

fn openssl(dir: &Path, arguments: &[&str]) {
    let done = said(Command::new("openssl").args(arguments).current_dir(dir));
    assert_eq!(done.code, 0, "{done}");
}

/// `ca.pem`; `own.pem` with `own.key`, signed by it; `token.pem` with `token.key`, for tokens.
fn certificates(dir: &Path) {
    let ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let valid = ["-days", "2"];
    let ca = [
        &["req", "-x509"],
        &ec[..],
        &valid,
        &["-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.pem"],
    ];
    openssl(dir, &ca.concat());
    openssl(
        dir,
        &[&["req"], &ec[..], &["-subj", "/CN=own", "-keyout", "own.key", "-out", "own.csr"]].concat(),
    );
    fs::write(dir.join("own.cnf"), "subjectAltName = IP:127.0.0.1\n").unwrap();
    let sign = ["x509", "-req", "-in", "own.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"];
    openssl(dir, &[&sign[..], &valid, &["-extfile", "own.cnf", "-out", "own.pem"]].concat());
    let rsa = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=tokens"];
    openssl(dir, &[&rsa[..], &valid, &["-keyout", "token.key", "-out", "token.pem"]].concat());
}

/// A token that lets its bearer pull `tiny`.
fn token(dir: &Path) -> String {
    let pem = fs::read_to_string(dir.join("token.pem")).unwrap();
    let der: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let header = serde_json::json!({"typ": "JWT", "alg": "RS256", "x5c": [der]});
    let now = jiff::Timestamp::now().as_second();
    let claims = serde_json::json!({
        "iss": "tests", "sub": "ann", "aud": "test", "jti": "1", "iat": now, "nbf": now - 10, "exp": now + 300,
        "access": [{"type": "repository", "name": "tiny", "actions": ["pull"]}],
    });
    let part = |json: serde_json::Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let signed = format!("{}.{}", part(header), part(claims));
    fs::write(dir.join("signed"), &signed).unwrap();
    openssl(dir, &["dgst", "-sha256", "-sign", "token.key", "-out", "signature", "signed"]);
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(fs::read(dir.join("signature")).unwrap()))
}

/// Gives the token to ann, who asks for the right thing; its URL.
fn token_server(token: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/token", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(stream);
            let head: Vec<String> =
                reader.by_ref().lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
            let asked = head.first().is_some_and(|line| {
                line.contains("service=test")
                    && line.replace("%3A", ":").contains("scope=repository:tiny:pull")
            });
            let known =
                head.iter().any(|line| line.eq_ignore_ascii_case(&format!("authorization: basic {AUTHS}")));
            let (status, body) = match asked && known {
                true => ("200 OK", serde_json::json!({"token": token}).to_string()),
                false => ("401 Unauthorized", "{}".to_owned()),
            };
            let length = body.len();
            let answer =
                format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
            let _gone = reader.get_mut().write_all(answer.as_bytes());
        }
    });
    url
}

#[test]
fn a_registry_with_tls_and_passwords_gives_to_those_who_log_in() {
    let registry = Guarded::start(|_| Asks::Basic);
    let (ca, login) = (registry.ca(), registry.login(AUTHS));
    registry
        .pull(&ca, &login, &[])
        .ended(0)
        .says(&["Authenticating with credentials from docker's configuration"]);
    let anonymous = registry.pull(&ca, "{}", &[]).ended(1);
    anonymous.says(&["refuses access", "log in with `docker login`"]);
    let wrong = registry.pull(&ca, &registry.login(WRONG), &[]).ended(1);
    wrong.says(&["the credentials are not accepted"]).never_says(&["wrong"]);
    // who does not trust its authority says how to
    let stranger = registry.pull("http: false", &login, &[]).ended(1);
    stranger.says(&["can't be reached", "certificate", "ca: /path", "/etc/docker/certs.d/"]);
    let trusted = registry.file("ca.pem");
    registry.pull("http: false", &login, &[("SSL_CERT_FILE", &trusted)]).ended(0);
    let absent = registry.pull("ca: /no/such.pem", &login, &[]).ended(1);
    absent.says(&["certificate authority", "/no/such.pem", "No such file"]);
}

#[test]
fn credential_helpers_are_asked() {
    let registry = Guarded::start(|_| Asks::Basic);
    let programs = registry.file("bin");
    fs::create_dir(&programs).unwrap();
    let asked = registry.file("asked");
    let helper = format!(
        "#!/bin/sh\nread -r server\necho \"$1 $server\" >>'{}'\n\
         echo '{{\"ServerURL\": \"x\", \"Username\": \"ann\", \"Secret\": \"s3cret\"}}'\n",
        asked.display()
    );
    let broken = "#!/bin/sh\nread -r server\necho 'the vault is shut: s3cret'\nexit 1\n";
    for (name, text) in [("docker-credential-vault", helper.as_str()), ("docker-credential-shut", broken)] {
        // a program that this process has written may be busy: another test's child has it open as well
        fs::write(registry.file(name), text).unwrap();
        let made =
            Command::new("install").args(["-m", "755"]).arg(registry.file(name)).arg(&programs).status();
        assert!(made.unwrap().success());
    }
    let path = PathBuf::from(format!("{}:{}", programs.display(), std::env::var("PATH").unwrap()));
    let path = [("PATH", path.as_path())];
    let (address, ca) = (&registry.address, registry.ca());
    let of_registry = format!(r#"{{"credHelpers": {{"{address}": "vault"}}}}"#);
    for config in [of_registry.as_str(), r#"{"credsStore": "vault"}"#] {
        registry.pull(&ca, config, &path).ended(0).never_says(&["s3cret"]);
        assert_eq!(fs::read_to_string(&asked).unwrap(), format!("get {address}\n"), "{config}");
        fs::remove_file(&asked).unwrap();
    }
    let said = registry.pull(&ca, r#"{"credsStore": "shut"}"#, &path).ended(1);
    said.says(&["the credential helper `docker-credential-shut`", "failed"]).never_says(&["s3cret"]);
}

#[test]
fn a_token_server_is_asked_for_a_token() {
    let registry = Guarded::start(|dir| Asks::Token(token_server(token(dir))));
    let ca = registry.ca();
    registry.pull(&ca, &registry.login(AUTHS), &[]).ended(0);
    registry.pull(&ca, &registry.login(WRONG), &[]).ended(1).says(&["the credentials are not accepted"]);
    registry.pull(&ca, "{}", &[]).ended(1).says(&["log in with `docker login`"]);
    // the variable of GitLab's pipelines does as well
    let config = PathBuf::from(registry.login(AUTHS));
    registry.pull(&ca, "{}", &[("DOCKER_AUTH_CONFIG", &config)]).ended(0);
    assert!(STANDARD.decode(AUTHS).is_ok_and(|text| text == b"ann:s3cret"));
}
