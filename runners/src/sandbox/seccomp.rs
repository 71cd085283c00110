//! Docker's seccomp policy (for its default capability set) as one BPF program, checked against the moby
//! project's published profile.
//!
//! Written as "known calls but these", which with the upper bound is an allow list as Docker's is: a call newer
//! than [`LAST_KNOWN`] gets ENOSYS (so C libraries fall back), a refused one EPERM. Stricter than the profile in
//! two points: the x32 ABI is refused, and so are calls newer than the list.

use libc::sock_filter;

/// The newest call that was judged when this list was made (Linux 6.7, `futex_requeue`).
const LAST_KNOWN: u32 = 456;
/// Numbers are the same on all architectures from here on; what lies between a table's end and this is unused.
const COMMON_START: u32 = 424;

/// Flags of clone(2) that make a namespace.
const CLONE_NAMESPACES: u32 = 0x7E02_0000;
/// Socket families outside of namespaces: the kernel's crypto code, the hypervisor.
const REFUSED_FAMILIES: [u32; 2] = [38, 40];
/// Execution domains that Docker allows: Linux, Linux32, both with UNAME26, and the query.
const PERSONALITIES: [u32; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xFFFF_FFFF];

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const EPERM: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

/// Offsets into `struct seccomp_data`.
const NR: u32 = 0;
const ARCH: u32 = 4;
/// The low half of the first argument (little endian).
const ARG0: u32 = 16;

/// One system call table.
struct Abi {
    audit_arch: u32,
    /// Last number of the architecture's own table.
    last_own: u32,
    clone: u32,
    personality: u32,
    socket: u32,
    refused: Vec<u32>,
}

/// The program for this architecture and, on x86-64, for 32-bit programs.
pub(super) fn program() -> Vec<sock_filter> {
    let mut out = vec![load(ARCH)];
    for abi in abis() {
        let block = abi_block(&abi);
        // a jump over a whole block can be longer than the 8 bits of a conditional one
        out.push(jump_if(libc::BPF_JEQ, abi.audit_arch, 1, 0));
        out.push(stmt(libc::BPF_JMP | libc::BPF_JA, block.len() as u32));
        out.extend(block);
    }
    out.push(ret(EPERM));
    out
}

fn abi_block(abi: &Abi) -> Vec<sock_filter> {
    let mut out = vec![
        load(NR),
        jump_if(libc::BPF_JGT, LAST_KNOWN, 0, 1),
        ret(ENOSYS),
        jump_if(libc::BPF_JGE, COMMON_START, 2, 0),
        jump_if(libc::BPF_JGT, abi.last_own, 0, 1),
        ret(ENOSYS),
    ];
    for &number in &abi.refused {
        out.extend([jump_if(libc::BPF_JEQ, number, 0, 1), ret(EPERM)]);
    }
    // its flags are behind a pointer where BPF can't look; C libraries fall back to clone
    out.extend([jump_if(libc::BPF_JEQ, libc::SYS_clone3 as u32, 0, 1), ret(ENOSYS)]);
    out.extend([
        jump_if(libc::BPF_JEQ, abi.clone, 0, 5),
        load(ARG0),
        stmt(libc::BPF_ALU | libc::BPF_AND, CLONE_NAMESPACES),
        jump_if(libc::BPF_JEQ, 0, 0, 1),
        ret(ALLOW),
        ret(EPERM),
    ]);
    out.extend([jump_if(libc::BPF_JEQ, abi.socket, 0, 2 * REFUSED_FAMILIES.len() as u8 + 2), load(ARG0)]);
    for family in REFUSED_FAMILIES {
        out.extend([jump_if(libc::BPF_JEQ, family, 0, 1), ret(EPERM)]);
    }
    out.push(ret(ALLOW));
    out.extend([jump_if(libc::BPF_JEQ, abi.personality, 0, 2 * PERSONALITIES.len() as u8 + 2), load(ARG0)]);
    for value in PERSONALITIES {
        out.extend([jump_if(libc::BPF_JEQ, value, 0, 1), ret(ALLOW)]);
    }
    out.extend([ret(EPERM), ret(ALLOW)]);
    out
}

fn stmt(code: u32, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

fn load(offset: u32) -> sock_filter {
    stmt(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset)
}

fn ret(action: u32) -> sock_filter {
    stmt(libc::BPF_RET | libc::BPF_K, action)
}

/// Skips `yes` or `no` instructions.
fn jump_if(test: u32, k: u32, yes: u8, no: u8) -> sock_filter {
    sock_filter { code: (libc::BPF_JMP | test | libc::BPF_K) as u16, jt: yes, jf: no, k }
}

fn abis() -> Vec<Abi> {
    let native = Abi {
        audit_arch: NATIVE_ARCH,
        last_own: NATIVE_LAST,
        clone: libc::SYS_clone as u32,
        personality: libc::SYS_personality as u32,
        socket: libc::SYS_socket as u32,
        refused: REFUSED.iter().chain(REFUSED_NATIVE).map(|number| *number as u32).collect(),
    };
    let mut abis = vec![native];
    #[cfg(target_arch = "x86_64")]
    abis.push(Abi {
        audit_arch: 0x4000_0003,
        last_own: COMMON_START - 1,
        clone: 120,
        personality: 136,
        socket: 359,
        refused: REFUSED_I386.to_vec(),
    });
    abis
}

/// Refused on every architecture: what changes the machine and not the container, reads across containers, or
/// has a long history of holes.
const REFUSED: &[libc::c_long] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_get_mempolicy,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kcmp,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_lookup_dcookie,
    libc::SYS_mbind,
    libc::SYS_migrate_pages,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_move_pages,
    libc::SYS_nfsservctl,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pivot_root,
    libc::SYS_process_madvise,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_set_mempolicy,
    libc::SYS_set_mempolicy_home_node,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
];

#[cfg(target_arch = "x86_64")]
const NATIVE_ARCH: u32 = 0xC000_003E;
/// `uretprobe`.
#[cfg(target_arch = "x86_64")]
const NATIVE_LAST: u32 = 335;
#[cfg(target_arch = "x86_64")]
const REFUSED_NATIVE: &[libc::c_long] = &[
    // create_module, get_kernel_syms, query_module: gone since Linux 2.6
    174,
    177,
    178,
    libc::SYS__sysctl,
    libc::SYS_afs_syscall,
    libc::SYS_getpmsg,
    libc::SYS_ioperm,
    libc::SYS_iopl,
    libc::SYS_kexec_file_load,
    libc::SYS_putpmsg,
    libc::SYS_security,
    libc::SYS_sysfs,
    libc::SYS_tuxcall,
    libc::SYS_uselib,
    libc::SYS_ustat,
    libc::SYS_vserver,
];

/// The i386 numbers of the same calls (`asm/unistd_32.h`), with those that only i386 has: vm86, stime, umount,
/// and the ancient ones that the profile doesn't name.
#[cfg(target_arch = "x86_64")]
const REFUSED_I386: &[u32] = &[
    17, 18, 21, 22, 25, 28, 31, 32, 34, 35, 44, 48, 51, 52, 53, 56, 58, 59, 62, 67, 68, 69, 72, 73, 74, 79,
    84, 86, 87, 88, 89, 98, 101, 103, 109, 110, 111, 112, 113, 115, 121, 127, 128, 129, 130, 131, 134, 135,
    137, 149, 166, 167, 169, 188, 189, 217, 253, 264, 273, 274, 275, 276, 283, 286, 287, 288, 294, 310, 317,
    336, 338, 342, 346, 349, 350, 357, 374, 404, 425, 426, 427, 428, 429, 430, 431, 432, 433, 438, 440, 442,
    443, 450,
];

#[cfg(target_arch = "aarch64")]
const NATIVE_ARCH: u32 = 0xC000_00B7;
/// `kexec_file_load`.
#[cfg(target_arch = "aarch64")]
const NATIVE_LAST: u32 = 294;
#[cfg(target_arch = "aarch64")]
const REFUSED_NATIVE: &[libc::c_long] = &[libc::SYS_kexec_file_load];

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the program as the kernel would, for the few instructions that it uses.
    fn verdict(arch: u32, nr: u32, arg0: u32) -> u32 {
        let program = program();
        let (mut pc, mut acc) = (0, 0);
        loop {
            let at = program[pc];
            let code = u32::from(at.code);
            pc += 1;
            if code == libc::BPF_LD | libc::BPF_W | libc::BPF_ABS {
                acc = match at.k {
                    NR => nr,
                    ARCH => arch,
                    ARG0 => arg0,
                    other => panic!("loads from {other}"),
                };
            } else if code == libc::BPF_ALU | libc::BPF_AND {
                acc &= at.k;
            } else if code == libc::BPF_RET {
                return at.k;
            } else if code == libc::BPF_JMP | libc::BPF_JA {
                pc += at.k as usize;
            } else {
                let yes = match code & 0xf0 {
                    libc::BPF_JEQ => acc == at.k,
                    libc::BPF_JGT => acc > at.k,
                    libc::BPF_JGE => acc >= at.k,
                    other => panic!("tests by {other}"),
                };
                pc += usize::from(if yes { at.jt } else { at.jf });
            }
        }
    }

    #[test]
    fn calls_are_judged_as_docker_judges_them() {
        let native = |nr: libc::c_long, arg0| verdict(NATIVE_ARCH, nr as u32, arg0);
        let cases = [
            ("read", libc::SYS_read, 0, ALLOW),
            ("execve", libc::SYS_execve, 0, ALLOW),
            ("ptrace", libc::SYS_ptrace, 0, ALLOW),
            ("chroot", libc::SYS_chroot, 0, ALLOW),
            ("openat2", libc::SYS_openat2, 0, ALLOW),
            ("mount", libc::SYS_mount, 0, EPERM),
            ("unshare", libc::SYS_unshare, 0, EPERM),
            ("bpf", libc::SYS_bpf, 0, EPERM),
            ("keyctl", libc::SYS_keyctl, 0, EPERM),
            ("clone3", libc::SYS_clone3, 0, ENOSYS),
            ("clone of a thread", libc::SYS_clone, 0x3D0F00, ALLOW),
            ("clone with a user namespace", libc::SYS_clone, 0x1000_0000, EPERM),
            ("socket of TCP", libc::SYS_socket, 2, ALLOW),
            ("socket of netlink", libc::SYS_socket, 16, ALLOW),
            ("socket to the kernel's crypto", libc::SYS_socket, 38, EPERM),
            ("socket to the hypervisor", libc::SYS_socket, 40, EPERM),
            ("create_module, long gone", 174, 0, if cfg!(target_arch = "x86_64") { EPERM } else { ALLOW }),
            ("personality query", libc::SYS_personality, 0xFFFF_FFFF, ALLOW),
            ("personality without randomization", libc::SYS_personality, 0x0040_0000, EPERM),
            ("a call of the future", 5000, 0, ENOSYS),
            ("a call between the tables", 400, 0, ENOSYS),
        ];
        for (name, nr, arg0, expected) in cases {
            assert_eq!(native(nr, arg0), expected, "{name}");
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn programs_of_32_bits_run_under_the_same_rules() {
        let i386 = |nr, arg0| verdict(0x4000_0003, nr, arg0);
        assert_eq!(i386(4, 0), ALLOW, "write");
        assert_eq!(i386(11, 0), ALLOW, "execve");
        assert_eq!(i386(21, 0), EPERM, "mount");
        assert_eq!(i386(120, 0x1000_0000), EPERM, "clone with a user namespace");
        assert_eq!(verdict(NATIVE_ARCH, 0x4000_0000, 0), ENOSYS, "x32 read");
        assert_eq!(verdict(1, 4, 0), EPERM, "an unknown architecture");
    }
}
