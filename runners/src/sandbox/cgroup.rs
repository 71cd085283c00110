//! Limits of memory, processor time and processes, where there are control groups that we may use: version 1, version
//! 2 or both. Best effort: what can't be had is told, and never fails a job.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::process::Pid;

use super::Limits;

const PREFIX: &str = "slipway-";
/// Microseconds in which the processor time of `cpus` may be used up: the kernel's default.
const PERIOD: u64 = 100_000;

/// The groups of one sandbox: one in version 2, one for each controller in version 1.
#[derive(Debug, Default)]
pub(super) struct Cgroup {
    groups: Vec<Group>,
}

#[derive(Debug)]
struct Group {
    dir: PathBuf,
    /// The file that counts processes killed for want of memory, if this group limits memory.
    memory_events: Option<&'static str>,
}

/// A controller with its limit, as (file, text) of both versions.
struct Wanted {
    controller: &'static str,
    files1: Vec<(&'static str, String)>,
    files2: Vec<(&'static str, String)>,
}

impl Cgroup {
    /// Makes groups with these limits; also returns what is not limited, and why.
    pub(super) fn create(limits: &Limits) -> (Self, Vec<String>) {
        let mut cgroup = Self::default();
        let mut untold = Vec::new();
        let wanted = wanted(limits);
        if wanted.is_empty() {
            return (cgroup, untold);
        }
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let (own, mounts) = (read("/proc/self/cgroup"), read("/proc/self/mountinfo"));
        let mut unified = Vec::new();
        for one in wanted {
            match own_group(&own, &mounts, Some(one.controller)) {
                Some(parent) => match make(&parent, &one.files1) {
                    Ok(dir) => {
                        let events = (one.controller == "memory").then_some("memory.oom_control");
                        cgroup.groups.push(Group { dir, memory_events: events });
                    }
                    Err(error) => untold.push(format!("{}: {error}", one.controller)),
                },
                None => unified.push(one),
            }
        }
        if !unified.is_empty() {
            let names: Vec<&str> = unified.iter().map(|one| one.controller).collect();
            let made = own_group(&own, &mounts, None)
                .ok_or_else(|| io::Error::other("this machine has no control groups"))
                .and_then(|group| make_unified(&group, &unified));
            match made {
                Ok(dir) => {
                    let events = names.contains(&"memory").then_some("memory.events");
                    cgroup.groups.push(Group { dir, memory_events: events });
                }
                Err(error) => untold.push(format!("{}: {error}", names.join(", "))),
            }
        }
        (cgroup, untold)
    }

    /// Puts a process in, and with it all that it will start.
    pub(super) fn add(&self, pid: Pid) -> io::Result<()> {
        let pid = pid.as_raw_nonzero().to_string();
        self.groups.iter().try_for_each(|group| fs::write(group.dir.join("cgroup.procs"), &pid))
    }

    /// Has the kernel killed a process because the group had no memory left?
    pub(super) fn out_of_memory(&self) -> bool {
        self.groups.iter().any(|group| {
            let text = group.memory_events.and_then(|file| fs::read_to_string(group.dir.join(file)).ok());
            text.is_some_and(|text| kills(&text) > 0)
        })
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for group in &self.groups {
            // a group that still has processes stays, and goes with the next one's sweep
            let _empty = fs::remove_dir(&group.dir);
        }
    }
}

/// `oom_kill 2` among lines of names and numbers.
fn kills(events: &str) -> u64 {
    let count = events.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok());
    count.unwrap_or_default()
}

fn wanted(limits: &Limits) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    if let Some(bytes) = limits.memory {
        let bytes = bytes.to_string();
        wanted.push(Wanted {
            controller: "memory",
            files1: vec![
                ("memory.limit_in_bytes", bytes.clone()),
                // not in kernels that don't count swap
                ("?memory.memsw.limit_in_bytes", bytes.clone()),
            ],
            files2: vec![("memory.max", bytes), ("?memory.swap.max", "0".to_owned())],
        });
    }
    if let Some(cpus) = limits.cpus {
        // the kernel takes no less than a millisecond
        let quota = ((cpus * PERIOD as f64) as u64).max(1000);
        wanted.push(Wanted {
            controller: "cpu",
            files1: vec![("cpu.cfs_period_us", PERIOD.to_string()), ("cpu.cfs_quota_us", quota.to_string())],
            files2: vec![("cpu.max", format!("{quota} {PERIOD}"))],
        });
    }
    if let Some(pids) = limits.pids {
        let pids = pids.to_string();
        wanted.push(Wanted {
            controller: "pids",
            files1: vec![("pids.max", pids.clone())],
            files2: vec![("pids.max", pids)],
        });
    }
    wanted
}

/// Our own group as a directory: in the hierarchy of a version 1 controller, or in that of version 2.
fn own_group(own: &str, mounts: &str, controller: Option<&str>) -> Option<PathBuf> {
    let path = own.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let is_it = match controller {
            Some(name) => controllers.split(',').any(|one| one == name),
            None => controllers.is_empty(),
        };
        is_it.then_some(path)
    })?;
    mounts.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let mut kind = kind.split(' ');
        let (name, options) = (kind.next()?, kind.nth(1)?);
        let is_it = match controller {
            Some(controller) => name == "cgroup" && options.split(',').any(|one| one == controller),
            None => name == "cgroup2",
        };
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        let below = if root == "/" { path } else { path.strip_prefix(root)? };
        is_it.then(|| Path::new(point).join(below.trim_start_matches('/')))
    })
}

/// A new group below `parent` with these files written. Names with `?` may be missing.
fn make(parent: &Path, files: &[(&str, String)]) -> io::Result<PathBuf> {
    sweep(parent);
    let dir = parent.join(format!("{PREFIX}{}", std::process::id()));
    let telling = |path: &Path| {
        let shown = path.display().to_string();
        move |error: io::Error| io::Error::other(format!("`{shown}`: {error}"))
    };
    match fs::create_dir(&dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(telling(&dir)(error)),
        _ => {}
    }
    for (name, text) in files {
        let path = dir.join(name.trim_start_matches('?'));
        if name.starts_with('?') && !path.exists() {
            continue;
        }
        if let Err(error) = fs::write(&path, text) {
            let _nobody_in_it = fs::remove_dir(&dir);
            return Err(telling(&path)(error));
        }
    }
    Ok(dir)
}

/// Version 2: a group with processes can't have limited groups below it, so ours may have to go further up.
fn make_unified(own: &Path, wanted: &[Wanted]) -> io::Result<PathBuf> {
    let files: Vec<_> = wanted.iter().flat_map(|one| one.files2.clone()).collect();
    let mut last = io::Error::other("no group of ours may have limits");
    for parent in own.ancestors() {
        let control = parent.join("cgroup.subtree_control");
        let Ok(controllers) = fs::read_to_string(&control) else { break };
        for one in
            wanted.iter().filter(|one| !controllers.split_whitespace().any(|name| name == one.controller))
        {
            // refused where we have no rights or where there are processes: the files below are then missing
            let _next_one_up = fs::write(&control, format!("+{}", one.controller));
        }
        match make(parent, &files) {
            Ok(dir) => return Ok(dir),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Removes groups of supervisors that were killed. The kernel refuses to remove one with processes in it.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else { continue };
        if !Path::new("/proc").join(pid).exists() {
            let _still_used = fs::remove_dir(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
        30 24 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n\
        31 30 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
        32 30 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
        33 30 0:29 /docker/x /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
    const OWN: &str = "5:memory:/docker/x/job\n4:cpu,cpuacct:/\n1:name=systemd:/a\n0::/user.slice/s.scope\n";

    #[test]
    fn groups_are_found_in_both_versions() {
        let found = |controller| own_group(OWN, MOUNTS, controller).map(|path| path.display().to_string());
        let table = [
            (Some("cpu"), Some("/sys/fs/cgroup/cpu,cpuacct/")),
            (Some("memory"), Some("/sys/fs/cgroup/memory/job")),
            (Some("pids"), None),
            (None, Some("/sys/fs/cgroup/unified/user.slice/s.scope")),
        ];
        for (controller, expected) in table {
            assert_eq!(found(controller).as_deref(), expected, "{controller:?}");
        }
        assert_eq!(own_group("", MOUNTS, None), None);
    }

    #[test]
    fn kills_are_counted_in_the_files_of_both_versions() {
        assert_eq!(kills("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"), 2);
        assert_eq!(kills("low 0\nhigh 0\nmax 12\noom 1\noom_kill 0\noom_group_kill 0\n"), 0);
        assert_eq!(kills(""), 0);
    }
}
