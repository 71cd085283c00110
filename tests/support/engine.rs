//! Engines for one test, ended with it.

use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// An engine of our own.
pub(crate) struct Daemon {
    pub(crate) address: String,
    child: Child,
    _dir: tempfile::TempDir,
}

impl Daemon {
    /// A dockerd that leaves the machine's firewall and addresses alone.
    pub(crate) fn docker() -> Daemon {
        let dir = tempfile::Builder::new().prefix("dockerd-").tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let mut command = Command::new("dockerd");
        command.args(["--iptables=false", "--ip-forward=false", "--bridge=none"]);
        command.args(["--data-root", &path("data"), "--exec-root", &path("exec"), "--pidfile", &path("pid")]);
        command.args(["--host", &format!("unix://{}", path("engine.sock"))]);
        Daemon::start(command, dir)
    }

    pub(crate) fn podman() -> Daemon {
        let dir = tempfile::Builder::new().prefix("podman-").tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        // Debian's crun refuses hybrid cgroups, and nobody here may raise limits
        let settings = "[containers]\ndefault_ulimits = [\"nofile=4096:4096\", \"nproc=5000:5000\"]\n\
                        [engine]\nruntime = \"runc\"\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n";
        fs::write(path("containers.conf"), settings).unwrap();
        // unlike docker, podman takes no registry for insecure by itself
        let registries = "[[registry]]\nprefix = \"127.0.0.1\"\nlocation = \"127.0.0.1\"\ninsecure = true\n";
        fs::write(path("registries.conf"), registries).unwrap();
        let mut command = Command::new("podman");
        command.env("CONTAINERS_CONF", path("containers.conf"));
        command.env("CONTAINERS_REGISTRIES_CONF", path("registries.conf"));
        command.args([
            "--root",
            &path("root"),
            "--runroot",
            &path("run"),
            "system",
            "service",
            "--time",
            "0",
        ]);
        command.arg(format!("unix://{}", path("engine.sock")));
        Daemon::start(command, dir)
    }

    fn start(mut command: Command, dir: tempfile::TempDir) -> Daemon {
        let log = fs::File::create(dir.path().join("log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let child = command.spawn().unwrap();
        let socket = dir.path().join("engine.sock");
        let mut daemon = Daemon { address: format!("unix://{}", socket.display()), child, _dir: dir };
        let begun = Instant::now();
        while std::os::unix::net::UnixStream::connect(&socket).is_err() {
            let ended = daemon.child.try_wait().unwrap();
            assert!(
                ended.is_none() && begun.elapsed() < Duration::from_secs(60),
                "no engine: {}",
                daemon.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        daemon
    }

    fn log(&self) -> String {
        fs::read_to_string(self._dir.path().join("log")).unwrap_or_default()
    }

    /// Containers, networks and volumes that ours made.
    pub(crate) fn left(&self) -> Vec<String> {
        let socket = self.address.strip_prefix("unix://").unwrap();
        let mut left = Vec::new();
        for (path, pointer) in [("containers/json?all=true", ""), ("networks", ""), ("volumes", "/Volumes")] {
            let out = Command::new("curl")
                .args(["-s", "--unix-socket", socket, &format!("http://engine/v1.40/{path}")])
                .output()
                .unwrap();
            let json: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
            let all = json.pointer(pointer).and_then(|list| list.as_array().cloned()).unwrap_or_default();
            let ours = all.iter().filter(|one| one.pointer("/Labels/slipway.owner").is_some());
            left.extend(ours.map(|one| one.to_string()));
        }
        left
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).unwrap();
        let _ = kill_process(pid, Signal::TERM);
        let _ = self.child.wait();
    }
}
