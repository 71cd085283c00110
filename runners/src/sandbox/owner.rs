//! The workspace of a job whose user is not root: its files must be the user's, though on disk they are root's.

use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, Uid};
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::thread::UnshareFlags;

use super::error::Doing;
use super::user::User;
use super::{Failure, sys};

/// A user namespace in which root and `user` have changed places, all others are themselves. For mounts only.
pub(super) fn swapped(user: &User) -> Result<OwnedFd, Failure> {
    let doing = || "making a user namespace for the workspace".to_owned();
    let (mut told, tell) = std::io::pipe().doing(doing)?;
    let (mut hold, release) = std::io::pipe().doing(doing)?;
    let child = match sys::fork().doing(doing)? {
        sys::Fork::Child => {
            drop((told, release));
            // its number in the namespace of this /proc, which is not that of our children
            let number = sys::unshare(UnshareFlags::NEWUSER)
                .map_err(std::io::Error::from)
                .and_then(|()| std::fs::read_link("/proc/self"));
            if let Ok(number) = number {
                let _told = (&tell).write_all(number.as_os_str().as_encoded_bytes());
            }
            drop(tell);
            let _until_released = hold.read(&mut [0]);
            sys::exit_now(0)
        }
        sys::Fork::Parent(pid) => pid,
    };
    drop((tell, hold));
    let mapped = map(&mut told, user);
    drop(release);
    rustix::process::waitpid(Some(child), rustix::process::WaitOptions::empty()).doing(doing)?;
    mapped.doing(doing)
}

fn map(told: &mut std::io::PipeReader, user: &User) -> std::io::Result<OwnedFd> {
    let mut number = String::new();
    told.read_to_string(&mut number)?;
    let process = Path::new("/proc").join(number);
    std::fs::write(process.join("uid_map"), swap(user.uid))?;
    std::fs::write(process.join("gid_map"), swap(user.gid))?;
    Ok(std::fs::File::open(process.join("ns/user"))?.into())
}

/// Lines of an id map: 0 and `id` exchanged.
fn swap(id: u32) -> String {
    if id == 0 {
        return format!("0 0 {}\n", u32::MAX);
    }
    let mut lines = format!("0 {id} 1\n{id} 0 1\n");
    if id > 1 {
        lines.push_str(&format!("1 1 {}\n", id - 1));
    }
    // the last number means "nobody", and can't be mapped
    if id < u32::MAX - 1 {
        lines.push_str(&format!("{0} {0} {1}\n", id + 1, u32::MAX - 1 - id));
    }
    lines
}

/// A directory of the host as a mount in which ids are mapped by `namespace`.
pub(super) fn mapped_bind(source: &Path, namespace: &OwnedFd) -> Result<OwnedFd, Failure> {
    let doing = || format!("mapping the owners of `{}`", source.display());
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(CWD, source, flags).doing(doing)?;
    sys::mount_map_ids(tree.as_fd(), namespace.as_fd()).doing(doing)?;
    Ok(tree)
}

/// Gives what root has below a directory to `user`.
pub(super) fn give(directory: OwnedFd, user: &User) -> rustix::io::Result<()> {
    let (uid, gid) = (Some(Uid::from_raw(user.uid)), Some(Gid::from_raw(user.gid)));
    if rustix::fs::fstat(&directory)?.st_uid == 0 {
        rustix::fs::chownat(&directory, "", uid, gid, AtFlags::EMPTY_PATH)?;
    }
    for entry in rustix::fs::Dir::read_from(&directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let stat = rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir() {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            give(rustix::fs::openat(&directory, name, flags, Mode::empty())?, user)?;
        } else if stat.st_uid == 0 {
            rustix::fs::chownat(&directory, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_have_every_id_once() {
        for id in [0, 1, 2, 1000, 65_534, u32::MAX - 1] {
            let mut total = 0;
            let mut seen = Vec::new();
            for line in swap(id).lines() {
                let numbers: Vec<u64> = line.split(' ').map(|number| number.parse().unwrap()).collect();
                total += numbers[2];
                seen.push((numbers[1], numbers[2]));
            }
            seen.sort_unstable();
            assert!(seen.windows(2).all(|pair| pair[0].0 + pair[0].1 == pair[1].0), "{id}: {seen:?}");
            assert_eq!(total, u64::from(u32::MAX), "{id}");
        }
    }
}
