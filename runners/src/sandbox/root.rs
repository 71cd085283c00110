//! The root file system of a sandbox: image, scratch directories, hidden paths, the job's mounts.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::mount::MountAttrFlags;

use super::error::Doing;
use super::mounts::{NewRoot, Overlay, bind, new_fs};
use super::owner::{self, swapped};
use super::state::Layout;
use super::user::User;
use super::{Access, Failure, Mount, Network, Root, Spec, kernel_fs};

/// Directories that are each job's own, on disk in its state directory, with their modes: as in an image they
/// start empty, keep their files between the steps of a job, and may grow large.
const SCRATCH: [(&str, u32); 3] = [("/tmp", 0o1777), ("/var/tmp", 0o1777), ("/run", 0o755)];
/// Top-level directories of the host that are never taken over.
const NOT_FROM_HOST: [&str; 5] = ["/dev", "/proc", "/run", "/sys", "/tmp"];
const READ_ONLY: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_RDONLY.union(MountAttrFlags::MOUNT_ATTR_NODEV);
const NODEV: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NODEV;

/// Builds the root of `spec` and makes it the caller's. The caller has its own mount and pid namespaces.
///
/// Returns the user of the task, who is known only now: names are the image's.
pub(super) fn build(spec: &Spec, rootless: bool) -> Result<User, Failure> {
    use rustix::mount::MountPropagationFlags as Propagation;
    rustix::mount::mount_change("/", Propagation::PRIVATE | Propagation::REC)
        .doing(|| "making the mounts private".to_owned())?;
    let layout = Layout::new(&spec.state);
    let root = match &spec.root {
        Root::Host if rootless => host_read_only(&layout)?,
        Root::Host => host_overlay(&layout)?,
        Root::Layers { layers } => image(&layout, layers, rootless)?,
    };
    kernel_fs::mount(&root)?;
    if spec.root == Root::Host {
        for (path, mode) in SCRATCH {
            cover(&root, &layout, Path::new(path), mode)?;
        }
        keep_run_of_host(&root, &layout)?;
    } else {
        own_etc(&root, &layout, spec)?;
    }
    for path in &spec.hidden {
        hide(&root, &layout, path)?;
    }
    name_host(&root, &layout, spec)?;
    set_resolver(&root, &layout, spec)?;
    let user =
        User::find(&spec.user, &root.read(Path::new("/etc/passwd")), &root.read(Path::new("/etc/group")))?;
    for mount in &spec.mounts {
        add(&root, mount, &Setting { layout: &layout, user: &user, rootless })?;
    }
    kernel_fs::protect(&root)?;
    root.enter()?;
    Ok(user)
}

/// The layers of an image under a private writable one.
fn image(layout: &Layout, layers: &[PathBuf], rootless: bool) -> Result<NewRoot, Failure> {
    if layers.is_empty() {
        return NewRoot::attach_at(&layout.stage(), bind(&layout.root_upper(), NODEV)?);
    }
    let overlay = Overlay {
        lower: layers,
        upper: &layout.root_upper(),
        work: &layout.root_work(),
        names: &layout.names(),
        rootless,
    };
    let tree = overlay.mount().map_err(|mut failure| {
        failure.doing = format!("mounting the {} layers of the image: {}", layers.len(), failure.doing);
        failure
    })?;
    NewRoot::attach_at(&layout.stage(), tree)
}

/// Files of /etc that tell about this machine and its network, and therefore can't be an image's.
fn own_etc(root: &NewRoot, layout: &Layout, spec: &Spec) -> Result<(), Failure> {
    for (name, target) in [("hostname", "/etc/hostname"), ("resolv.conf", "/etc/resolv.conf")] {
        // a network's own is bound there later
        if name == "resolv.conf" && spec.resolver.is_some() {
            continue;
        }
        let own = layout.etc(name);
        if !own.exists() {
            let text = match name {
                "hostname" => format!("{}\n", spec.hostname),
                // a machine without name servers has none for its jobs either
                _ => fs::read_to_string(target).unwrap_or_default(),
            };
            fs::write(&own, text).doing(|| format!("writing `{}`", own.display()))?;
        }
        root.bind(&own, Path::new(target), NODEV)?;
    }
    Ok(())
}

/// As root: the host's `/` under a private writable layer, and its other file systems read only.
fn host_overlay(layout: &Layout) -> Result<NewRoot, Failure> {
    let overlay = Overlay {
        lower: &[PathBuf::from("/")],
        upper: &layout.root_upper(),
        work: &layout.root_work(),
        names: &layout.names(),
        rootless: false,
    };
    let tree = overlay.mount()?;
    let root = NewRoot::attach_at(&layout.stage(), tree)?;
    let mountinfo =
        fs::read_to_string("/proc/self/mountinfo").doing(|| "reading the list of mounts".to_owned())?;
    for path in other_file_systems(&mountinfo) {
        // a mount point that nobody can reach any more (stale NFS, removed disk) is not worth failing a job
        if fs::metadata(&path).is_ok() {
            root.bind(&path, &path, READ_ONLY)?;
        }
    }
    Ok(root)
}

/// Mount points that an overlay over `/` doesn't show and jobs may want (`/usr`, `/home`, `/nix`), without those
/// below one another. Container engines' and snaps' mounts are many and of no use inside.
fn other_file_systems(mountinfo: &str) -> Vec<PathBuf> {
    let skipped = ["/", "/boot", "/snap", "/var/lib", "/var/snap", "/var/tmp"];
    let mut points: Vec<PathBuf> = mountinfo
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(unescape_octal)
        .filter(|point| {
            let below = |dir: &&str| **dir != *"/" && point.starts_with(dir);
            point != Path::new("/") && !skipped.iter().chain(&NOT_FROM_HOST).any(below)
        })
        .collect();
    points.sort();
    points.dedup_by(|later, earlier| later.starts_with(earlier));
    points
}

/// mountinfo writes space, tab, newline and backslash as three octal digits.
fn unescape_octal(text: &str) -> PathBuf {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        match rest.get(at + 1..at + 4).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                out.push(char::from(byte));
                rest = &rest[at + 4..];
            }
            None => {
                out.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    out.push_str(rest);
    PathBuf::from(out)
}

/// As an ordinary user: an empty root with the host's top-level directories bound read only.
fn host_read_only(layout: &Layout) -> Result<NewRoot, Failure> {
    let mode = [("mode", Some(OsStr::new("0755")))];
    let root = NewRoot::attach_at(&layout.stage(), new_fs("tmpfs", &mode, NODEV)?)?;
    for entry in fs::read_dir("/").doing(|| "reading `/`".to_owned())? {
        let path = entry.doing(|| "reading `/`".to_owned())?.path();
        let Ok(kind) = fs::symlink_metadata(&path).map(|metadata| metadata.file_type()) else { continue };
        if kind.is_symlink() {
            let content = fs::read_link(&path).doing(|| format!("reading link `{}`", path.display()))?;
            root.symlink(&content, &path)?;
        } else if kind.is_dir() && !NOT_FROM_HOST.iter().any(|skipped| path == Path::new(skipped)) {
            root.bind(&path, &path, READ_ONLY)?;
        }
    }
    Ok(root)
}

/// Covers `path` with the job's own directory of that name.
fn cover(root: &NewRoot, layout: &Layout, path: &Path, mode: u32) -> Result<(), Failure> {
    let own = layout.scratch(path);
    let doing = || format!("making `{}`", own.display());
    if !own.exists() {
        fs::create_dir_all(&own).doing(doing)?;
        fs::set_permissions(&own, fs::Permissions::from_mode(mode)).doing(doing)?;
    }
    root.bind(&own, path, NODEV)
}

fn hide(root: &NewRoot, layout: &Layout, path: &Path) -> Result<(), Failure> {
    let Some(place) = root.find(path)? else { return Ok(()) };
    let stat = rustix::fs::fstat(&place).doing(|| format!("hiding `{}`", path.display()))?;
    if rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir() {
        cover(root, layout, path, 0o755)
    } else {
        kernel_fs::mask(root, path)
    }
}

/// Two things of the host's /run that a job can't do without: the file that /etc/resolv.conf points at
/// (systemd-resolved, NetworkManager) and NixOS's link to the whole system.
fn keep_run_of_host(root: &NewRoot, layout: &Layout) -> Result<(), Failure> {
    let own_run = layout.scratch(Path::new("/run"));
    if let Ok(resolv) = fs::canonicalize("/etc/resolv.conf")
        && let Ok(below) = resolv.strip_prefix("/run")
        && let (Ok(text), Some(parent)) = (fs::read(&resolv), below.parent())
    {
        let doing = || "copying the name server's settings".to_owned();
        fs::create_dir_all(own_run.join(parent)).doing(doing)?;
        fs::write(own_run.join(below), text).doing(doing)?;
    }
    if let Ok(system) = fs::read_link("/run/current-system") {
        root.symlink(&system, Path::new("/run/current-system"))?;
    }
    Ok(())
}

/// The host name, and /etc/hosts: the image's own, ours (without which sudo waits for the name servers), and that of
/// the network.
fn name_host(root: &NewRoot, layout: &Layout, spec: &Spec) -> Result<(), Failure> {
    let hostname = &spec.hostname;
    rustix::system::sethostname(hostname.as_bytes()).doing(|| format!("setting host name `{hostname}`"))?;
    let target = Path::new("/etc/hosts");
    let own = layout.etc("hosts");
    if !own.exists() {
        // the first line of a name counts
        let mut text: String =
            spec.hosts.iter().map(|(address, name)| format!("{address} {name}\n")).collect();
        // with the host's network go the host's names
        let of_host = if spec.network == Network::Host { fs::read_to_string(target).ok() } else { None };
        text.push_str(&of_host.unwrap_or_else(|| "127.0.0.1 localhost\n::1 localhost\n".to_owned()));
        text.push_str(&format!("\n127.0.1.1 {hostname}\n"));
        fs::write(&own, text).doing(|| format!("writing `{}`", own.display()))?;
    }
    root.bind(&own, target, NODEV)
}

/// /etc/resolv.conf, where it may be a link into /run.
fn set_resolver(root: &NewRoot, layout: &Layout, spec: &Spec) -> Result<(), Failure> {
    let Some(text) = &spec.resolver else { return Ok(()) };
    let own = layout.etc("resolver");
    fs::write(&own, text).doing(|| format!("writing `{}`", own.display()))?;
    root.bind(&own, Path::new("/etc/resolv.conf"), NODEV)
}

/// For whom and where mounts are added.
struct Setting<'a> {
    layout: &'a Layout,
    user: &'a User,
    rootless: bool,
}

fn add(root: &NewRoot, mount: &Mount, setting: &Setting<'_>) -> Result<(), Failure> {
    match mount {
        Mount::Bind { source, target, access: Access::ReadOnly } => root.bind(source, target, READ_ONLY),
        Mount::Bind { source, target, access: Access::ReadWrite } => root.bind(source, target, NODEV),
        Mount::Overlay { lower, upper, target, .. } if lower.is_empty() => {
            root.bind(upper, target, NODEV)?;
            give(root, target, setting, 0)
        }
        Mount::Overlay { lower, upper, work, target } => {
            let names = &setting.layout.names();
            let overlay = Overlay { lower, upper, work, names, rootless: setting.rootless };
            let mapped = (setting.user.uid != 0 && !setting.rootless)
                .then(|| swapped(setting.user).and_then(|namespace| overlay.mapped(&namespace)));
            if let Some(Ok(tree)) = mapped {
                return root.attach_dir(tree, target);
            }
            let tree = overlay.mount().map_err(|mut failure| {
                failure.doing =
                    format!("mounting the workspace on `{}`: {}", target.display(), failure.doing);
                failure
            })?;
            root.attach_dir(tree, target)?;
            give(root, target, setting, lower.len())
        }
    }
}

/// Where ids can't be mapped (an ordinary user's sandbox, a file system that can't), the files themselves are given
/// to the job's user, once.
fn give(root: &NewRoot, target: &Path, setting: &Setting<'_>, layers: usize) -> Result<(), Failure> {
    let noted = setting.layout.given(layers);
    if setting.user.uid == 0 || noted.exists() {
        return Ok(());
    }
    let doing = || format!("giving `{}` to user {}", target.display(), setting.user.uid);
    let place = root.open_dir(target).doing(doing)?;
    owner::give(place, setting.user).doing(doing).map_err(|failure| failure.help(NO_SUCH_ID))?;
    fs::write(&noted, "").doing(doing)
}

/// What helps when an id is not mapped.
pub(super) const NO_SUCH_ID: &str = "as an ordinary user, `ci` has only the ids of /etc/subuid and /etc/subgid \
    (`ci doctor` tells)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_file_systems_are_the_useful_topmost_mount_points() {
        let mountinfo = "\
            1 0 8:1 / / rw - ext4 /dev/sda1 rw\n\
            2 1 0:5 / /dev rw - devtmpfs udev rw\n\
            3 1 8:2 / /home rw - ext4 /dev/sda2 rw\n\
            4 3 8:3 / /home/ann rw - ext4 /dev/sda3 rw\n\
            5 1 8:4 / /homes\\040of\\134all rw - ext4 /dev/sda4 rw\n\
            6 1 0:9 / /var/lib/docker/overlay2/x/merged rw - overlay overlay rw\n\
            7 1 8:5 / /nix/store ro - ext4 /dev/sda5 rw\n\
            8 2 0:6 / /dev/shm rw - tmpfs tmpfs rw\n\
            9 1 8:6 / /bootleg rw - ext4 /dev/sda6 rw\n";
        let expected = ["/bootleg", "/home", "/homes of\\all", "/nix/store"].map(PathBuf::from);
        assert_eq!(other_file_systems(mountinfo), expected);
    }
}
