//! Short names for the layers of an overlay, in a file system of our own: for kernels before 6.7, which want all
//! layers in one page of text, and for layers whose owners are mapped, which must be mounts.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::CWD;
use rustix::mount::{
    MountAttrFlags, MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, move_mount, open_tree,
};

use super::Failure;
use super::error::Doing;
use super::mounts::new_fs;

/// A tmpfs, and this process in it. Nothing of it stays after [`Names::overlay`].
pub(super) struct Names<'a> {
    place: &'a Path,
}

impl<'a> Names<'a> {
    /// At `place`, an empty directory of the state directory, made when it is missing.
    pub(super) fn new(place: &'a Path) -> Result<Self, Failure> {
        let doing = || format!("making a place for names of layers in `{}`", place.display());
        if !place.exists() {
            std::fs::create_dir(place).doing(doing)?;
        }
        let tree = new_fs("tmpfs", &[], MountAttrFlags::empty())?;
        move_mount(tree.as_fd(), "", CWD, place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).doing(doing)?;
        rustix::process::chdir(place).doing(doing)?;
        Ok(Self { place })
    }

    /// Gives a directory a name.
    pub(super) fn link(&self, name: &str, target: &Path) -> Result<(), Failure> {
        std::os::unix::fs::symlink(target, name).doing(|| format!("naming `{}`", target.display()))
    }

    /// Gives a detached mount a name.
    pub(super) fn mount(&self, name: &str, tree: &OwnedFd) -> Result<(), Failure> {
        let doing = || format!("naming layer `{name}`");
        std::fs::create_dir(name).doing(doing)?;
        move_mount(tree.as_fd(), "", CWD, name, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).doing(doing)
    }

    /// Mounts an overlay with these options, and takes it out of here.
    pub(super) fn overlay(self, options: &str) -> Result<OwnedFd, Failure> {
        let doing = || "mounting an overlay".to_owned();
        let made = std::fs::create_dir("merged").doing(doing).and_then(|()| {
            let options = std::ffi::CString::new(options).doing(doing)?;
            rustix::mount::mount("overlay", "merged", "overlay", MountFlags::NODEV, options.as_c_str())
                .doing(doing)?;
            open_tree(CWD, "merged", OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)
                .doing(doing)
        });
        rustix::process::chdir("/").doing(doing)?;
        rustix::mount::unmount(self.place, UnmountFlags::DETACH).doing(doing)?;
        made
    }
}
