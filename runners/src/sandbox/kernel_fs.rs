//! /proc, /sys and /dev of a sandbox, and what of them jobs don't get to see: Docker's list.

use std::ffi::OsStr;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use rustix::mount::MountAttrFlags;

use super::Failure;
use super::error::Doing;
use super::mounts::{NewRoot, bind, new_fs};

const NO_NODES: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NODEV.union(MountAttrFlags::MOUNT_ATTR_NOSUID);
const DATA_ONLY: MountAttrFlags = NO_NODES.union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

const DEVICES: [&str; 6] = ["full", "null", "random", "tty", "urandom", "zero"];
const DEV_LINKS: [(&str, &str); 5] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/ptmx", "pts/ptmx"),
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Mounts /proc (of the caller's pid namespace), /sys and /dev.
pub(super) fn mount(root: &NewRoot) -> Result<(), Failure> {
    let proc = new_fs("proc", &[], DATA_ONLY).map_err(|failure| {
        failure.help(
            "inside another container the outer runtime hides parts of /proc, and the kernel then allows no new \
             one: run `ci` outside, or the outer container privileged",
        )
    })?;
    root.attach_dir(proc, Path::new("/proc"))?;
    // a new sysfs belongs to the network namespace: with the host's, an ordinary user may only bind
    let read_only = DATA_ONLY | MountAttrFlags::MOUNT_ATTR_RDONLY;
    let sys = new_fs("sysfs", &[], read_only).or_else(|_| bind(Path::new("/sys"), read_only))?;
    root.attach_dir(sys, Path::new("/sys"))?;
    mount_dev(root)
}

/// Devices are bound, not made: then every writable mount can be `nodev`, and a job of root that makes the node
/// of the host's disk (CAP_MKNOD is in Docker's set, a device cgroup is not ours) can't open it.
fn mount_dev(root: &NewRoot) -> Result<(), Failure> {
    let tmpfs = |mode: &str| new_fs("tmpfs", &[("mode", Some(OsStr::new(mode)))], DATA_ONLY);
    root.attach_dir(tmpfs("0755")?, Path::new("/dev"))?;
    for name in DEVICES {
        let path = Path::new("/dev").join(name);
        root.attach_file(bind(&path, MountAttrFlags::empty())?, &path)?;
    }
    for (link, content) in DEV_LINKS {
        root.symlink(Path::new(content), Path::new(link))?;
    }
    let pts =
        [("newinstance", None), ("ptmxmode", Some(OsStr::new("0666"))), ("mode", Some(OsStr::new("0620")))];
    let nosuid = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    root.attach_dir(new_fs("devpts", &pts, nosuid)?, Path::new("/dev/pts"))?;
    root.attach_dir(tmpfs("1777")?, Path::new("/dev/shm"))?;
    // POSIX message queues are rare and not built into every kernel
    if let Ok(mqueue) = new_fs("mqueue", &[], DATA_ONLY) {
        root.attach_dir(mqueue, Path::new("/dev/mqueue"))?;
    }
    Ok(())
}

/// Hides what tells about or changes the host. Last of all mounts, so that no other one uncovers it.
pub(super) fn protect(root: &NewRoot) -> Result<(), Failure> {
    READ_ONLY.iter().try_for_each(|path| root.make_read_only(Path::new(path)))?;
    MASKED.iter().try_for_each(|path| mask(root, Path::new(path)))
}

/// Covers a directory with an empty one and a file with the null device.
pub(super) fn mask(root: &NewRoot, path: &Path) -> Result<(), Failure> {
    let Some(place) = root.find(path)? else { return Ok(()) };
    let stat = rustix::fs::fstat(&place).doing(|| format!("hiding `{}`", path.display()))?;
    if rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir() {
        let empty = [("mode", Some(OsStr::new("0755")))];
        return root
            .attach_dir(new_fs("tmpfs", &empty, DATA_ONLY | MountAttrFlags::MOUNT_ATTR_RDONLY)?, path);
    }
    root.attach_file(bind(null_device()?, MountAttrFlags::empty())?, path)
}

/// The host's null device, and really that: what is bound over a hidden file must not be somebody's file.
fn null_device() -> Result<&'static Path, Failure> {
    let path = Path::new("/dev/null");
    let metadata = std::fs::metadata(path).doing(|| "reading `/dev/null`".to_owned())?;
    if metadata.file_type().is_char_device() && metadata.rdev() == rustix::fs::makedev(1, 3) {
        return Ok(path);
    }
    Err(Failure::new("hiding files from the job", "`/dev/null` of the host is not the null device"))
}
