//! A whole systemd as the first process of its own namespaces, with one unit.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::target::{run, signal, until, which};

/// The directory of the cgroups that it gets, below the machine's hierarchies.
const CGROUPS: [&str; 2] = ["/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"];

/// `$HOME` holds the units; every other place where systemd looks for some is left out, so that only these start.
const START: &str = r#"
for hierarchy in /sys/fs/cgroup/systemd /sys/fs/cgroup/unified; do
    [ ! -d "$hierarchy" ] || { mkdir -p "$hierarchy/$NAME" && echo 0 >"$hierarchy/$NAME/cgroup.procs"; }
done
if [ ! -d /sys/fs/cgroup/systemd ]; then mkdir -p "/sys/fs/cgroup/$NAME" && echo 0 >"/sys/fs/cgroup/$NAME/cgroup.procs"; fi
exec unshare --pid --fork --kill-child --mount --mount-proc --cgroup sh -ec '
    mount -t tmpfs tmpfs /run
    if [ -d /sys/fs/cgroup/systemd ]; then
        umount -R /sys/fs/cgroup 2>/dev/null || true
        mount -t tmpfs tmpfs /sys/fs/cgroup
        mkdir /sys/fs/cgroup/systemd /sys/fs/cgroup/unified
        mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd
        mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified
    else
        mount -t cgroup2 cgroup2 /sys/fs/cgroup
    fi
    container=test SYSTEMD_UNIT_PATH=$UNITS SYSTEMD_GENERATOR_PATH=$UNITS/none SYSTEMD_ENVIRONMENT_GENERATOR_PATH=$UNITS/none
    export container SYSTEMD_UNIT_PATH SYSTEMD_GENERATOR_PATH SYSTEMD_ENVIRONMENT_GENERATOR_PATH
    exec /lib/systemd/systemd --system --unit=test.target --log-target=console
'
"#;

pub(crate) struct Systemd {
    unshare: Child,
    /// Its number among all processes of this machine.
    pid: u32,
    name: String,
    log: PathBuf,
}

impl Systemd {
    /// Needs root, as the tests of containers do.
    pub(crate) fn start(home: &Path, unit: &str, text: &str) -> Self {
        assert!(
            rustix::process::getuid().is_root(),
            "a systemd of our own needs root: run the tests as root"
        );
        let units = home.join("units");
        fs::create_dir_all(&units).unwrap();
        fs::write(units.join(unit), format!("[Unit]\nDefaultDependencies=no\n{text}")).unwrap();
        fs::write(units.join("test.target"), "[Unit]\nDefaultDependencies=no\n").unwrap();
        let name = format!("slipway-test-{}-{}", std::process::id(), super::target::free_port());
        let log = home.join("systemd.log");
        let file = fs::File::create(&log).unwrap();
        let mut shell = Command::new("sh");
        shell.args(["-ec", START]).env("NAME", &name).env("UNITS", &units);
        shell.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file).process_group(0);
        let unshare = shell.spawn().unwrap();
        let mut systemd = Self { unshare, pid: 0, name, log };
        let children = format!("/proc/{0}/task/{0}/children", systemd.unshare.id());
        until("systemd runs", || {
            let child = fs::read_to_string(&children).unwrap_or_default();
            systemd.pid = child.trim().parse().unwrap_or(0);
            systemd.pid != 0 && systemd.is_up()
        });
        systemd
    }

    fn is_up(&self) -> bool {
        let output = self.enter(&["systemctl", "is-system-running"]).output().unwrap();
        output.stdout == b"running\n"
    }

    fn enter(&self, command: &[&str]) -> Command {
        let mut nsenter = Command::new("nsenter");
        nsenter.args(["-t", &self.pid.to_string(), "-p", "-m", "-C"]).args(command).stdin(Stdio::null());
        nsenter
    }

    /// A program for a target: `systemctl`, which asks this systemd.
    pub(crate) fn systemctl(&self) -> String {
        format!(
            "#!/bin/sh\nexec {} -t {} -p -m -C {} \"$@\"\n",
            which("nsenter"),
            self.pid,
            which("systemctl")
        )
    }
}

impl Drop for Systemd {
    #[allow(clippy::print_stderr, reason = "a test that failed shows why")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", fs::read_to_string(&self.log).unwrap_or_default());
        }
        // the first process of the namespace takes all others with it
        signal(self.pid);
        let _ = self.unshare.wait();
        for hierarchy in CGROUPS.iter().chain(&["/sys/fs/cgroup"]) {
            let own = Path::new(hierarchy).join(&self.name);
            if own.is_dir() {
                run(Command::new("find")
                    .arg(&own)
                    .args(["-depth", "-type", "d", "-exec", "rmdir", "{}", ";"]));
            }
        }
    }
}
