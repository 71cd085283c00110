//! A server of one's own: started on a free port with a state of its own, ended by pid.

#![allow(dead_code, reason = "every module of these tests asks in its own way")]

use reqwest::blocking::{Client, Response};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use serde_json::{Value, json};
use slipway::server::db::{Db, now};
use slipway::server::vault::{new_token, token_hash};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// The password of `admin`.
pub(crate) const PASSWORD: &str = "correct horse battery staple";

pub(crate) struct Server {
    home: TempDir,
    settings: Value,
    environment: Vec<(String, String)>,
    database: Database,
    address: String,
    token: String,
    running: Option<Running>,
    runtime: Runtime,
    db: Option<Db>,
    more: Vec<Database>,
}

struct Running {
    child: Child,
    said: Arc<Mutex<String>>,
    reader: JoinHandle<()>,
}

impl Server {
    /// A server without jobs of its own.
    pub(crate) fn start() -> Server {
        Server::with(json!({ "local_jobs": 0 }))
    }

    /// A server with these settings of `server.yml`; where it listens, its data and its database are seen to here.
    pub(crate) fn with(settings: Value) -> Server {
        Server::in_environment(settings, &[])
    }

    /// With variables of its process.
    pub(crate) fn in_environment(settings: Value, environment: &[(&str, &str)]) -> Server {
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let home = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let database = Database::make(&home.path().join("data"), &runtime);
        let mut server = Server {
            home,
            settings,
            environment: environment.collect(),
            database,
            address: "http://127.0.0.1:0".to_owned(),
            token: new_token("slp_"),
            running: None,
            runtime,
            db: None,
            more: Vec::new(),
        };
        server.restart();
        server.db = Some(server.runtime.block_on(Db::open(&server.database.url)).unwrap());
        server.let_in();
        server
    }

    /// Starts it again, at the same address, after [`Server::kill9`] or [`Server::stop`] or with new settings.
    pub(crate) fn restart(&mut self) {
        self.stop();
        let config = self.home.path().join("server.yml");
        let mut settings = self.settings.clone();
        settings["data"] = json!(self.data());
        settings["database"] = self.database.postgres.as_ref().map_or(Value::Null, |url| json!(url));
        std::fs::write(&config, settings.to_string()).unwrap();
        let mut child = self
            .command(&["server", "--listen", self.address.strip_prefix("http://").unwrap(), "--config"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let mut first = String::new();
        lines.read_line(&mut first).unwrap();
        let said = Arc::new(Mutex::new(first.clone()));
        let more = Arc::clone(&said);
        let reader = std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                let mut said = more.lock().unwrap();
                said.push_str(&line);
                said.push('\n');
            }
        });
        self.running = Some(Running { child, said, reader });
        let address = first.trim().strip_prefix("listening on ");
        self.address =
            address.unwrap_or_else(|| panic!("`ci server` said: {first}{}", self.said())).to_owned();
    }

    /// `ci` with arguments, in this server's home.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ci"));
        command.args(arguments).current_dir(self.home.path());
        command.env("SLIPWAY_HOME", self.home.path()).env("SLIPWAY_ADMIN_PASSWORD", PASSWORD);
        command.env("XDG_CONFIG_HOME", self.home.path().join("config"));
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Changes settings; they hold from the next [`Server::restart`].
    pub(crate) fn set(&mut self, key: &str, value: Value) {
        self.settings[key] = value;
    }

    /// As `kill -9` does.
    pub(crate) fn kill9(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.child.kill().unwrap();
            running.child.wait().unwrap();
            running.reader.join().unwrap();
        }
    }

    /// As SIGTERM does; what it said to its end.
    #[track_caller]
    pub(crate) fn stop(&mut self) -> String {
        let Some(mut running) = self.running.take() else { return String::new() };
        let pid = rustix::process::Pid::from_child(&running.child);
        // it may have ended by itself
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let until = Instant::now() + PATIENCE;
        while running.child.try_wait().unwrap().is_none() {
            if Instant::now() > until {
                running.child.kill().unwrap();
                running.child.wait().unwrap();
                panic!("the server did not end on SIGTERM: {}", running.said.lock().unwrap());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        running.reader.join().unwrap();
        running.said.lock().unwrap().clone()
    }

    /// What it said on its standard error so far.
    pub(crate) fn said(&self) -> String {
        self.running.as_ref().map_or_else(String::new, |running| running.said.lock().unwrap().clone())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.running.as_ref().expect("it runs").child.id()
    }

    /// `http://127.0.0.1:PORT`
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The PostgreSQL database, if it is one.
    pub(crate) fn settings_database(&self) -> Option<String> {
        self.database.postgres.clone()
    }

    /// One more database in the same PostgreSQL; removed with this server.
    pub(crate) fn another_database(&mut self) -> String {
        let made = Database::make(&self.data(), &self.runtime);
        let url = made.url.clone();
        self.more.push(made);
        url
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.address)
    }

    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// An administrator's token.
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// Asks as an administrator.
    pub(crate) fn client(&self) -> Client {
        client(Some(&self.token))
    }

    /// Asks as nobody.
    pub(crate) fn anonymous(&self) -> Client {
        client(None)
    }

    /// GET as an administrator.
    pub(crate) fn get(&self, path: &str) -> Reply {
        Reply::of(self.client().get(self.url(path)).send().unwrap())
    }

    /// POST, PUT, PATCH, DELETE as an administrator.
    pub(crate) fn send(&self, method: &str, path: &str, body: &Value) -> Reply {
        let method = method.parse().unwrap();
        Reply::of(self.client().request(method, self.url(path)).json(body).send().unwrap())
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Reply {
        self.send("POST", path, body)
    }

    /// The server's database, from outside.
    pub(crate) fn db(&self) -> &Db {
        self.db.as_ref().unwrap()
    }

    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    pub(crate) fn execute(&self, sql: &str) {
        let sql = sqlx::AssertSqlSafe(sql.to_owned());
        self.block_on(sqlx::query(sql).execute(&self.db().pool)).unwrap();
    }

    /// The one number that a statement gives.
    #[track_caller]
    pub(crate) fn number(&self, sql: &str) -> i64 {
        let sql = sqlx::AssertSqlSafe(sql.to_owned());
        self.block_on(sqlx::query_scalar(sql).fetch_one(&self.db().pool)).unwrap()
    }

    /// The texts that a statement gives, one a row.
    #[track_caller]
    pub(crate) fn texts(&self, sql: &str) -> Vec<String> {
        let sql = sqlx::AssertSqlSafe(sql.to_owned());
        self.block_on(sqlx::query_scalar(sql).fetch_all(&self.db().pool)).unwrap()
    }

    /// A project as a row, past the API; its number.
    pub(crate) fn project(&self, path: &str, git_url: &str) -> i64 {
        let insert = sqlx::query_scalar(
            "INSERT INTO projects (path, git_url, forge, forge_url, default_branch, hook, protected_refs, settings, \
             paused, created_at) VALUES ($1, $2, 'generic', '', 'main', $3, '[\"main\"]', '{}', 0, $4) RETURNING id",
        );
        let insert = insert.bind(path).bind(git_url).bind(new_token("")).bind(now());
        self.block_on(insert.fetch_one(&self.db().pool)).unwrap()
    }

    /// An administrator and the token that [`Server::client`] uses.
    fn let_in(&self) {
        self.block_on(async {
            let pool = &self.db().pool;
            let user = "INSERT INTO users (name, display, email, admin, disabled, created_at) \
                        VALUES ('admin', 'admin', '', 1, 0, $1) ON CONFLICT (name) DO NOTHING";
            sqlx::query(user).bind(now()).execute(pool).await.unwrap();
            let token = "INSERT INTO tokens (user_id, name, hash, prefix, scopes, created_at) \
                         SELECT id, 'tests', $1, 'slp_', '[\"read\",\"write\",\"deploy\",\"admin\"]', $2 \
                         FROM users WHERE name = 'admin'";
            sqlx::query(token).bind(token_hash(&self.token)).bind(now()).execute(pool).await.unwrap();
        });
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // what it said helps, and a second panic would not
            eprintln!("--- the server said\n{}", self.said());
            if let Some(running) = &mut self.running {
                let _ = running.child.kill();
                let _ = running.child.wait();
            }
        } else {
            self.stop();
        }
        if let Some(db) = self.db.take() {
            self.runtime.block_on(db.pool.close());
        }
        self.more.iter().for_each(|database| database.remove(&self.runtime));
        self.database.remove(&self.runtime);
    }
}

/// What the server answered.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Reply {
    pub(crate) fn of(response: Response) -> Reply {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Reply { status, headers, text: response.text().unwrap() }
    }

    #[track_caller]
    pub(crate) fn is(self, status: u16) -> Reply {
        assert_eq!(self.status, status, "{}", self.text);
        self
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }
}

/// Asks until there is an answer.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        match ask() {
            Some(answer) => return answer,
            None if Instant::now() > until => panic!("waited in vain: {what}"),
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// A client that follows no redirects and, with a token, shows it.
pub(crate) fn client(token: Option<&str>) -> Client {
    let mut headers = HeaderMap::new();
    if let Some(token) = token {
        headers.insert(AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {token}")).unwrap());
    }
    let client = Client::builder().default_headers(headers).redirect(reqwest::redirect::Policy::none());
    client.no_proxy().timeout(PATIENCE).build().unwrap()
}

/// SQLite in the data directory, or a database of our own in the PostgreSQL of `SLIPWAY_TEST_DATABASE`.
pub(crate) struct Database {
    url: String,
    pub(crate) postgres: Option<String>,
}

impl Database {
    pub(crate) fn make(data: &Path, runtime: &Runtime) -> Database {
        let Ok(server) = std::env::var("SLIPWAY_TEST_DATABASE") else {
            let url = format!("sqlite:{}", data.join("slipway.db").display());
            return Database { url, postgres: None };
        };
        let name = new_token("slipway_test_");
        ask_postgres(&server, &format!("CREATE DATABASE {name}"), runtime);
        let mut url = url::Url::parse(&server).unwrap();
        url.set_path(&name);
        Database { url: url.to_string(), postgres: Some(url.to_string()) }
    }

    pub(crate) fn remove(&self, runtime: &Runtime) {
        if let (Some(url), Ok(server)) = (&self.postgres, std::env::var("SLIPWAY_TEST_DATABASE")) {
            let name = url::Url::parse(url).unwrap().path().trim_start_matches('/').to_owned();
            ask_postgres(&server, &format!("DROP DATABASE {name} WITH (FORCE)"), runtime);
        }
    }
}

fn ask_postgres(url: &str, sql: &str, runtime: &Runtime) {
    use sqlx::{AnyConnection, Connection};
    sqlx::any::install_default_drivers();
    runtime.block_on(async {
        let mut connection = AnyConnection::connect(url).await.unwrap();
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    });
}

/// A bare git repository, and a working tree that pushes to it.
pub(crate) struct Repository {
    directory: TempDir,
}

impl Repository {
    /// With these files in one commit on `main`.
    pub(crate) fn with(files: &[(&str, &str)]) -> Repository {
        let repository = Repository { directory: tempfile::tempdir().unwrap() };
        let bare = repository.bare();
        run(Command::new("git").args(["init", "-q", "--bare", "-b", "main"]).arg(&bare));
        run(Command::new("git").args(["clone", "-q"]).arg(&bare).arg(repository.tree()));
        repository.git(&["checkout", "-q", "-b", "main"]);
        repository.push(files, "first");
        repository
    }

    /// What a project is made with.
    pub(crate) fn url(&self) -> String {
        format!("file://{}", self.bare().display())
    }

    pub(crate) fn bare(&self) -> PathBuf {
        self.directory.path().join("app.git")
    }

    pub(crate) fn tree(&self) -> PathBuf {
        self.directory.path().join("tree")
    }

    /// Commits these files and pushes the branch that is checked out; the commit.
    pub(crate) fn push(&self, files: &[(&str, &str)], message: &str) -> String {
        for (name, text) in files {
            let path = self.tree().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", message]);
        self.git(&["push", "-q", "origin", "HEAD"]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// Git in the working tree; what it says.
    #[track_caller]
    pub(crate) fn git(&self, arguments: &[&str]) -> String {
        run(Command::new("git")
            .arg("-C")
            .arg(self.tree())
            .args(["-c", "user.name=Ann", "-c", "user.email=ann@localhost"])
            .args(arguments))
    }
}

#[track_caller]
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
