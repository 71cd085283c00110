//! The user namespace of an ordinary user: root inside is the user outside, other ids are from /etc/subuid.

use std::fs;
use std::io::{Read as _, Write as _};
use std::process::Stdio;

use rustix::thread::UnshareFlags;

use super::error::Doing;
use super::{Failure, sys};

/// Consecutive ids of the host that a user may hand out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IdRange {
    pub(super) start: u32,
    pub(super) count: u32,
}

/// The ids that the caller may use beside its own: uids and gids. `None`: no entry, or no `newuidmap`.
pub(super) fn subordinate_ids() -> Option<(IdRange, IdRange)> {
    let uid = rustix::process::getuid().as_raw();
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid.to_string()).then_some(name)
    });
    let range = |file: &str| find_range(&fs::read_to_string(file).ok()?, name, uid);
    let ranges = (range("/etc/subuid")?, range("/etc/subgid")?);
    let helpers_there = ["newuidmap", "newgidmap"].iter().all(|program| on_path(program));
    helpers_there.then_some(ranges)
}

fn find_range(file: &str, name: Option<&str>, uid: u32) -> Option<IdRange> {
    file.lines().find_map(|line| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        let start = fields.next()?.parse().ok()?;
        let count = fields.next()?.parse().ok()?;
        (Some(owner) == name || owner == uid.to_string()).then_some(IdRange { start, count })
    })
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// Moves the calling process into a new user namespace where it is root.
pub(super) fn enter() -> Result<(), Failure> {
    match subordinate_ids() {
        Some(ids) => enter_with_ranges(ids),
        None => enter_with_one_id(),
    }
}

fn unshare() -> Result<(), Failure> {
    sys::unshare(UnshareFlags::NEWUSER).doing(|| "creating a user namespace".to_owned()).map_err(|failure| {
        failure.help("see `ci doctor`; or run as root, or use another executor (docker, shell)")
    })
}

fn enter_with_one_id() -> Result<(), Failure> {
    let uid = rustix::process::getuid().as_raw();
    let gid = rustix::process::getgid().as_raw();
    unshare()?;
    let write = |file: &str, text: String| fs::write(file, text).doing(|| format!("writing `{file}`"));
    write("/proc/self/setgroups", "deny".to_owned())?;
    write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    write("/proc/self/gid_map", format!("0 {gid} 1"))
}

/// newuidmap must run outside of the namespace that it fills: a child made before waits for us to be inside.
fn enter_with_ranges((uids, gids): (IdRange, IdRange)) -> Result<(), Failure> {
    let doing = || "mapping the ids of /etc/subuid and /etc/subgid".to_owned();
    let (mut inside, tell_inside) = std::io::pipe().doing(doing)?;
    let (mut outcome, tell_outcome) = std::io::pipe().doing(doing)?;
    let target = std::process::id();
    let mapper = match sys::fork().doing(doing)? {
        sys::Fork::Child => {
            drop((tell_inside, outcome));
            let ready = inside.read_exact(&mut [0]).is_ok();
            let mapped = if ready { map_ranges(target, uids, gids) } else { Ok(()) };
            let text = mapped.err().map(|failure| failure.cause).unwrap_or_default();
            let _told = (&tell_outcome).write_all(text.as_bytes());
            sys::exit_now(0)
        }
        sys::Fork::Parent(pid) => pid,
    };
    drop((inside, tell_outcome));
    unshare()?;
    (&tell_inside).write_all(b"!").doing(doing)?;
    let mut trouble = String::new();
    outcome.read_to_string(&mut trouble).doing(doing)?;
    rustix::process::waitpid(Some(mapper), rustix::process::WaitOptions::empty()).doing(doing)?;
    if trouble.is_empty() {
        return Ok(());
    }
    Err(Failure::new(doing(), trouble)
        .help("check this user's lines in /etc/subuid and /etc/subgid, and that newuidmap is setuid root"))
}

fn map_ranges(target: u32, uids: IdRange, gids: IdRange) -> Result<(), Failure> {
    let own_uid = rustix::process::getuid().as_raw();
    let own_gid = rustix::process::getgid().as_raw();
    for (program, own, range) in [("newuidmap", own_uid, uids), ("newgidmap", own_gid, gids)] {
        let numbers = [target, 0, own, 1, 1, range.start, range.count].map(|number| number.to_string());
        let output = std::process::Command::new(program)
            .args(numbers)
            .stdin(Stdio::null())
            .output()
            .doing(|| format!("running `{program}`"))?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(Failure::new(program, format!("{program}: {} {text}", output.status)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_found_by_name_or_number() {
        let file = "ann:100000:65536\n1001:200000:65536\nbroken\nbob:x:1\n";
        let range = |start| Some(IdRange { start, count: 65536 });
        assert_eq!(find_range(file, Some("ann"), 1000), range(100_000));
        assert_eq!(find_range(file, Some("eve"), 1001), range(200_000));
        assert_eq!(find_range(file, None, 1000), None);
        assert_eq!(find_range(file, Some("bob"), 1), None);
    }
}
