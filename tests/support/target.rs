//! A target: a real sshd on a free loopback port, as the user who runs the tests, with an epmd and pipes of its own.

pub(crate) use super::said::{Said, said};
use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Target {
    home: TempDir,
    epmd: u16,
    port: u16,
    daemons: Vec<Child>,
}

/// A `ci` that runs.
pub(crate) struct Begun {
    pub(crate) child: Child,
    shown: Lines<BufReader<ChildStderr>>,
    stderr: String,
}

impl Begun {
    /// Waits until it shows a line with `text`; `false` when it ended before.
    pub(crate) fn shows(&mut self, text: &str) -> bool {
        for line in self.shown.by_ref().map_while(Result::ok) {
            self.stderr.push_str(&line);
            self.stderr.push('\n');
            if line.contains(text) {
                return true;
            }
        }
        false
    }

    #[track_caller]
    pub(crate) fn until(&mut self, text: &str) {
        assert!(self.shows(text), "`{text}` was not shown in\n{}", self.stderr);
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Said {
        self.shows("\0");
        let output = self.child.wait_with_output().unwrap();
        let stdout = String::from_utf8(output.stdout).unwrap();
        Said { code: output.status.code().unwrap_or(-1), stdout, stderr: self.stderr }
    }
}

impl Target {
    /// The host `dev` of the ssh configuration leads to it.
    pub(crate) fn start() -> Self {
        // sockets and pipes have short paths
        let home = tempfile::Builder::new().prefix("ci-t").tempdir_in("/tmp").unwrap();
        let mut target = Self { home, epmd: free_port(), port: 0, daemons: Vec::new() };
        let path = target.path("");
        fs::create_dir_all(path.join("bin")).unwrap();
        for key in ["host", "user", "stranger"] {
            run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path.join(key)));
        }
        fs::copy(path.join("user.pub"), path.join("authorized")).unwrap();
        // ssh takes its configuration from the password file's home directory, whatever HOME says
        target.program(
            "bin/ssh",
            &format!("#!/bin/sh\nexec {} -F {}/config \"$@\"\n", which("ssh"), path.display()),
        );
        target.program("bin/rebar3", &rebar3());
        fs::write(path.join("config"), "").unwrap();
        let port = target.sshd("sshd", "");
        target.host("dev", port, "user");
        target.host("wrong-key", port, "stranger");
        target.host("nobody-there", free_port(), "user");
        target
    }

    /// Another way in, on which `cat` damages what passes through it.
    pub(crate) fn with_a_damaging_line(&mut self) {
        // the dropped last byte of each copy stands for any damage: the digest must notice
        self.program(
            "shim/cat",
            "#!/bin/sh\n[ $# -eq 0 ] || exec /bin/cat \"$@\"\nhead -c 1000\nprintf X\ntail -c +2\n",
        );
        let port = self
            .sshd("damaging", &format!("PATH={}:/usr/local/bin:/usr/bin:/bin", self.path("shim").display()));
        self.host("damaging-line", port, "user");
    }

    /// Another way in, whose connection breaks once while a package is sent.
    pub(crate) fn with_a_breaking_line(&mut self) {
        let broken = self.path("broken");
        self.program(
            "shim/cat",
            &format!(
                "#!/bin/sh\ncase $(readlink /proc/$$/fd/1) in *.part) ;; *) exec /bin/cat \"$@\" ;; esac\n\
                 [ -e {0} ] && exec /bin/cat\nhead -c 20000\ntouch {0}\nkill -9 $PPID\n",
                broken.display()
            ),
        );
        let port = self
            .sshd("breaking", &format!("PATH={}:/usr/local/bin:/usr/bin:/bin", self.path("shim").display()));
        self.host("breaking-line", port, "user");
    }

    /// Another way in, `host`, on which the program `name` is this script.
    pub(crate) fn with_program(&mut self, host: &str, name: &str, text: &str) {
        self.program(&format!("{host}-bin/{name}"), text);
        let path = self.path(&format!("{host}-bin"));
        let port =
            self.sshd(host, &format!("PATH={}:/usr/local/bin:/usr/bin:/bin:/usr/sbin", path.display()));
        self.host(host, port, "user");
    }

    fn sshd(&mut self, name: &str, environment: &str) -> u16 {
        let path = self.path("");
        let dir = path.display();
        if rustix::process::getuid().is_root() {
            fs::create_dir_all("/run/sshd").unwrap();
        }
        let port = free_port();
        // a home of its own: what the user's own shell does at its start is not what is tested, and may take long
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {dir}/host\nAuthorizedKeysFile {dir}/authorized\nPidFile none\n\
             UsePAM no\nStrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\n\
             SetEnv HOME={dir} ERL_EPMD_PORT={} PIPE_DIR={dir}/pipes/ {environment}\n",
            self.epmd
        );
        fs::write(path.join(format!("{name}.conf")), config).unwrap();
        let daemon = self.listen(name, port);
        self.daemons.push(daemon);
        if self.port == 0 {
            self.port = port;
        }
        port
    }

    /// Starts the sshd whose configuration was written.
    fn listen(&self, name: &str, port: u16) -> Child {
        let log = fs::File::create(self.path(&format!("{name}.log"))).unwrap();
        let mut sshd = Command::new(which("sshd"));
        sshd.args(["-D", "-e", "-f"]).arg(self.path(&format!("{name}.conf")));
        let daemon = sshd.stdin(Stdio::null()).stderr(log).spawn().unwrap();
        until("sshd listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        daemon
    }

    fn host(&self, name: &str, port: u16, key: &str) {
        let dir = self.path("");
        let dir = dir.display();
        let mut config = fs::read_to_string(self.path("config")).unwrap();
        config.push_str(&format!(
            "Host {name}\n  HostName 127.0.0.1\n  Port {port}\n  User {}\n  IdentityFile {dir}/{key}\n  IdentitiesOnly yes\n  IdentityAgent none\n\
             \x20 UserKnownHostsFile {dir}/known_hosts\n  StrictHostKeyChecking accept-new\n",
            user()
        ));
        fs::write(self.path("config"), config).unwrap();
    }

    fn program(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// A path in the target's home.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// The release's directory.
    pub(crate) fn release(&self) -> PathBuf {
        self.path("urf")
    }

    /// Runs `ci` in `project` with more `variables`.
    pub(crate) fn ci(&self, project: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Said {
        said(&mut self.command(project, arguments, variables))
    }

    fn command(&self, project: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Command {
        let path = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap());
        let mut ci = Command::new(env!("CARGO_BIN_EXE_ci"));
        ci.args(arguments).current_dir(project).stdin(Stdio::null());
        for name in ["SSH_USER_HOST", "SERVER", "OLD_VSN", "RELUP_TAR"] {
            ci.env_remove(name);
        }
        ci.env("PATH", path)
            .env("NO_COLOR", "1")
            .env("SLIPWAY_HOME", self.path("slipway"))
            .env("DEV_SSH_USER_HOST", "dev")
            .env("TARGET_DIR", self.release());
        ci.envs(variables.iter().copied());
        ci
    }

    /// Starts `ci` in `project`; what it shows can be waited for.
    pub(crate) fn begin(&self, project: &Path, arguments: &[&str]) -> Begun {
        self.begin_with(project, arguments, &[])
    }

    pub(crate) fn begin_with(&self, project: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Begun {
        let mut ci = self.command(project, arguments, variables);
        let mut child = ci.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let shown = BufReader::new(child.stderr.take().unwrap()).lines();
        Begun { child, shown, stderr: String::new() }
    }

    /// Runs a program in `directory` as an operator on the target would.
    pub(crate) fn operator(&self, directory: &Path, command: &[&str]) -> Said {
        let output = Command::new(command[0])
            .args(&command[1..])
            .current_dir(directory)
            .env("ERL_EPMD_PORT", self.epmd.to_string())
            .env("PIPE_DIR", format!("{}/", self.path("pipes").display()))
            .env("HOME", self.path(""))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Said {
            code: output.status.code().unwrap_or(-1),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    /// Runs the release's own script on the target.
    pub(crate) fn script(&self, arguments: &[&str]) -> Output {
        Command::new(self.release().join("bin/urf"))
            .args(arguments)
            .env("ERL_EPMD_PORT", self.epmd.to_string())
            .env("PIPE_DIR", format!("{}/", self.path("pipes").display()))
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// The value of an expression on the node.
    #[track_caller]
    pub(crate) fn eval(&self, expression: &str) -> String {
        let output = self.script(&["eval", expression]);
        let text = String::from_utf8(output.stdout).unwrap().trim().to_owned();
        assert!(output.status.success(), "{expression}: {text} {}", String::from_utf8_lossy(&output.stderr));
        text
    }

    /// What stays the same as long as the node neither ends nor restarts.
    #[track_caller]
    pub(crate) fn boot(&self) -> String {
        self.eval("{os:getpid(), whereis(kernel_sup), erlang:system_info(creation)}.")
    }

    /// Processes whose program lies in the target's home.
    fn processes(&self) -> Vec<u32> {
        let ours = |pid: &u32| {
            // what was started through its sshd has its paths in its environment
            let home = self.home.path().as_os_str().as_encoded_bytes();
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.starts_with(self.home.path()))
                || environment.windows(home.len()).any(|part| part == home)
        };
        all_processes().into_iter().filter(ours).collect()
    }

    /// Kills the ssh clients that lead here.
    pub(crate) fn cut(&self) {
        let config = self.path("config").display().to_string();
        for pid in all_processes() {
            let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command);
            if command.contains(&config)
                && fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.ends_with("ssh"))
            {
                signal(pid);
            }
        }
    }

    /// Kills the sshd and all its connections, and starts it again.
    pub(crate) fn restart_sshd(&mut self) {
        let mut daemon = self.daemons.remove(0);
        for pid in all_processes() {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let parent = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)?.parse().ok());
            if parent == Some(daemon.id()) {
                signal(pid);
            }
        }
        daemon.kill().unwrap();
        daemon.wait().unwrap();
        let again = self.listen("sshd", self.port);
        self.daemons.insert(0, again);
    }

    /// Whether a virtual machine of the release lives.
    pub(crate) fn lives(&self) -> bool {
        self.nodes().next().is_some()
    }

    /// Kills the virtual machine of the release.
    pub(crate) fn kill_node(&self) {
        self.nodes().for_each(signal);
    }

    fn nodes(&self) -> impl Iterator<Item = u32> {
        self.processes().into_iter().filter(|pid| {
            let exe = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
            exe.ends_with("beam.smp")
        })
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        for pid in self.processes() {
            signal(pid);
        }
        for daemon in &mut self.daemons {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

fn all_processes() -> Vec<u32> {
    let pid = |entry: fs::DirEntry| entry.file_name().to_str()?.parse::<u32>().ok();
    fs::read_dir("/proc").unwrap().filter_map(Result::ok).filter_map(pid).collect()
}

pub(crate) fn signal(pid: u32) {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

/// Waits for something that has no event to wait for.
#[track_caller]
pub(crate) fn until(what: &str, mut true_now: impl FnMut() -> bool) {
    let began = Instant::now();
    while !true_now() {
        assert!(began.elapsed() < PATIENCE, "waited too long until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[track_caller]
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

fn user() -> String {
    run(Command::new("id").arg("-un")).trim().to_owned()
}

/// The program that builds a package only if it never did.
fn rebar3() -> String {
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("rebar3");
    let places = format!("REBAR3='{}'\nKEPT='{}'\nset -eu\n", which("rebar3"), kept.display());
    include_str!("rebar3.sh").replacen("set -eu\n", &places, 1)
}

/// sshd insists on being started by its absolute path.
pub(crate) fn which(program: &str) -> String {
    let places = ["/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin"];
    let found = places.iter().map(|place| format!("{place}/{program}")).find(|path| Path::new(path).exists());
    found.unwrap_or_else(|| panic!("`{program}` is not installed: run scripts/setup.sh"))
}
