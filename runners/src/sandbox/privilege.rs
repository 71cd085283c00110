//! What root inside a sandbox may do: Docker's default capabilities.

use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capability_is_in_bounding_set, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities,
};

use super::Failure;
use super::error::Doing;

const DOCKER: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::AUDIT_WRITE)
    .union(CapabilitySet::SETFCAP);

/// For unpacking layers: SYS_ADMIN only because overlayfs' marks (`trusted.*`) need it.
const FILES: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SYS_ADMIN);

/// Whether the calling thread may build sandboxes without a user namespace.
pub(crate) fn is_root_of_host() -> bool {
    rustix::process::geteuid().is_root()
        && rustix::thread::capabilities(None)
            .is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN))
}

/// Gives up everything outside Docker's set, for good. The caller stays what it is otherwise (uid, groups).
pub(super) fn drop_capabilities() -> Result<(), Failure> {
    keep_only(DOCKER)
}

/// As [`drop_capabilities`], for a process that unpacks somebody else's archive.
pub(super) fn keep_powers_over_files() -> Result<(), Failure> {
    keep_only(FILES)
}

fn keep_only(wanted: CapabilitySet) -> Result<(), Failure> {
    let doing = || "dropping capabilities".to_owned();
    let permitted = rustix::thread::capabilities(None).doing(doing)?.permitted;
    let mut kept = CapabilitySet::empty();
    for bit in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        match capability_is_in_bounding_set(capability) {
            // beyond the kernel's last capability
            Err(Errno::INVAL) => break,
            Ok(true) if wanted.contains(capability) => kept |= capability,
            Ok(true) => remove_capability_from_bounding_set(capability).doing(doing)?,
            Ok(false) => {}
            Err(errno) => return Err(errno).doing(doing),
        }
    }
    clear_ambient_capability_set().doing(doing)?;
    kept &= permitted;
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).doing(doing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_set_is_dockers() {
        assert_eq!(DOCKER.bits(), 0xa804_25fb);
    }
}
