//! System calls that no safe wrapper offers. All but [`expect_much_memory`] runs in the single-threaded `__init`, never
//! in `ci`.
#![allow(unsafe_code, reason = "the one module that must: see above")]

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::time::Duration;

use rustix::process::Pid;
use rustix::thread::UnshareFlags;

/// Takes a large piece of memory from the kernel, in pages of 2 MiB where it lends those: for a command that is about to
/// build a large tree, as touching each small page for the first time takes a third of its time. Where the C library or
/// the kernel has other ideas, nothing changes.
pub fn expect_much_memory() {
    #[cfg(target_env = "gnu")]
    {
        const PIECE: usize = 256 << 20;
        const PAGE: usize = 2 << 20;
        let setting = |bytes: usize| libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
        // SAFETY: mallopt takes numbers. sbrk(0) only tells where the heap ends; malloc grows it, and what lies between is
        // its own, to which the advice does nothing but choose the size of pages.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, setting(32 << 20));
            libc::mallopt(libc::M_TRIM_THRESHOLD, setting(2 * PIECE));
            libc::mallopt(libc::M_TOP_PAD, setting(PIECE));
            let before = libc::sbrk(0);
            // unseen, a compiler would leave both out
            libc::free(std::hint::black_box(libc::malloc(PAGE)));
            let after = libc::sbrk(0);
            // the arenas of other threads shall stay small
            libc::mallopt(libc::M_TOP_PAD, setting(PAGE));
            let skipped = before.addr().next_multiple_of(PAGE) - before.addr();
            if let Some(length) = after.addr().checked_sub(before.addr() + skipped) {
                libc::madvise(before.byte_add(skipped), length, libc::MADV_HUGEPAGE);
            }
        }
    }
}

/// Which of the two processes this is after [`fork`].
pub(super) enum Fork {
    Child,
    Parent(Pid),
}

/// fork(2). The caller must have one thread only, so that no lock (malloc's, stdio's) stays taken in the child.
pub(super) fn fork() -> io::Result<Fork> {
    // SAFETY: `__init` has one thread; both copies own their memory and continue in ordinary code.
    let pid = unsafe { libc::fork() };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        pid => {
            Pid::from_raw(pid).map(Fork::Parent).ok_or_else(|| io::Error::other("fork returned no process"))
        }
    }
}

/// Leaves a forked child without running the parent's exit handlers.
pub(super) fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` takes no pointers and does not return.
    unsafe { libc::_exit(code) }
}

/// unshare(2).
pub(super) fn unshare(flags: UnshareFlags) -> rustix::io::Result<()> {
    // SAFETY: unsafe only for CLONE_FILES in programs with threads; we never pass it and have one thread.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}

/// Turns attributes on for a detached mount and, when `recursive`, all mounts below it: mount_setattr(2).
pub(super) fn mount_set_attributes(
    mount: BorrowedFd<'_>,
    attributes: u32,
    recursive: bool,
) -> io::Result<()> {
    let attr = MountAttr { attr_set: attributes.into(), ..MountAttr::default() };
    mount_setattr(mount, &attr, recursive)
}

/// Maps the ids of a detached mount as the user namespace does: mount_setattr(2).
pub(super) fn mount_map_ids(mount: BorrowedFd<'_>, namespace: BorrowedFd<'_>) -> io::Result<()> {
    let userns_fd = u64::try_from(namespace.as_raw_fd()).map_err(io::Error::other)?;
    let attr = MountAttr { attr_set: libc::MOUNT_ATTR_IDMAP, userns_fd, ..MountAttr::default() };
    mount_setattr(mount, &attr, false)
}

/// The kernel's struct mount_attr, version 0.
#[derive(Default)]
#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

fn mount_setattr(mount: BorrowedFd<'_>, attr: &MountAttr, recursive: bool) -> io::Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a valid C string, `attr` is the kernel's struct mount_attr (version 0) of that size.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attr),
            size_of::<MountAttr>(),
        )
    };
    check(result)
}

/// Loads a seccomp filter for this process and all that it starts. Needs CAP_SYS_ADMIN, because no_new_privs stays
/// off: `sudo` in a job's image shall work, as under Docker.
pub(super) fn load_seccomp(program: &[libc::sock_filter]) -> io::Result<()> {
    let len = u16::try_from(program.len()).map_err(io::Error::other)?;
    let fprog = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    // SAFETY: `fprog` points at `len` instructions that live through the call; the kernel only reads them.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const fprog) };
    check(result)
}

/// Marks all descriptors from 3 up close-on-exec, so that none of ours reaches the job.
pub(super) fn close_on_exec_all() -> io::Result<()> {
    // SAFETY: only sets a flag on descriptors.
    let result =
        unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    check(result)
}

/// Blocks all signals, to take them one at a time with [`next_signal`].
pub(super) fn block_signals() -> io::Result<()> {
    let all = all_signals();
    // SAFETY: `all` is an initialized set; the old mask is not asked for.
    check(unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut()) }.into())
}

/// Unblocks all signals and ignores none: both survive an exec, ours and what `nohup ci run` left.
pub(super) fn reset_signals() -> io::Result<()> {
    let mut none = std::mem::MaybeUninit::uninit();
    // SAFETY: sigemptyset initializes the whole set; the old mask is not asked for; the default action runs no
    // code of ours. Signals whose action can't be set (KILL, the C library's own) are refused, which is fine.
    let result = unsafe {
        for signal in 1..=libc::SIGRTMAX() {
            libc::signal(signal, libc::SIG_DFL);
        }
        libc::sigemptyset(none.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut())
    };
    check(result.into())
}

/// A descriptor that is readable when a child has died. Blocks that signal.
pub(super) fn child_signals() -> io::Result<OwnedFd> {
    let mut set = std::mem::MaybeUninit::uninit();
    // SAFETY: sigemptyset initializes the whole set; signalfd's result is a new descriptor that nobody else owns.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGCHLD);
        check(libc::sigprocmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut()).into())?;
        let fd = libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        check(fd.into())?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Lets a program start with no signals blocked or ignored, and die when this process does.
pub(super) fn start_clean_and_die_with_us(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt as _;
    // SAFETY: between fork and exec of a process with one thread; system calls only.
    unsafe {
        command.pre_exec(|| {
            reset_signals()?;
            check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL).into())
        });
    }
}

/// Opens the end of a new terminal that programs use, without any path that others could have changed.
pub(super) fn other_end_of_terminal(ours: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let unlocked: libc::c_int = 0;
    // SAFETY: the first call reads an int that lives through it; the second one's result is a new descriptor.
    unsafe {
        check(libc::ioctl(ours.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlocked).into())?;
        let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
        let fd = libc::ioctl(ours.as_raw_fd(), libc::TIOCGPTPEER, flags);
        check(fd.into())?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Makes a terminal the controlling one of this process, in a new session, and its standard streams.
pub(super) fn take_terminal(terminal: OwnedFd) -> io::Result<()> {
    let fd = terminal.as_raw_fd();
    // SAFETY: no pointers; the descriptors 0 to 2 are this process's to replace, it has one thread.
    unsafe {
        check(libc::setsid().into())?;
        check(libc::ioctl(fd, libc::TIOCSCTTY, 0).into())?;
        (0..3).try_for_each(|stream| check(libc::dup2(fd, stream).into()))
    }
}

/// Makes a file one of this process's standard streams: 0, 1 or 2.
pub(super) fn become_stream(file: BorrowedFd<'_>, stream: i32) -> io::Result<()> {
    // SAFETY: no pointers; the descriptors 0 to 2 are this process's to replace, it has one thread.
    check(unsafe { libc::dup2(file.as_raw_fd(), stream) }.into())
}

/// Has the kernel take leave of dead children.
pub(super) fn leave_no_zombies() {
    // SAFETY: ignoring a signal runs no code of ours. It can't fail for this one.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
}

/// Dead children are waited for again, in a child of a process that [`leave_no_zombies`].
pub(super) fn expect_children() {
    // SAFETY: the default action for this signal is to do nothing. It can't fail for this one.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
}

/// Waits for the next blocked signal, at most so long; `None`: nothing came.
pub(super) fn next_signal(patience: Option<Duration>) -> io::Result<Option<i32>> {
    let all = all_signals();
    let patience = patience.map(|time| libc::timespec {
        tv_sec: time.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: time.subsec_nanos().into(),
    });
    let limit = patience.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: `all` is an initialized set; details are not asked for; `limit` is null or points at `patience`.
    let signal = unsafe { libc::sigtimedwait(&raw const all, std::ptr::null_mut(), limit) };
    match (signal, io::Error::last_os_error()) {
        (0.., _) => Ok(Some(signal)),
        (_, error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EINTR)) => Ok(None),
        (_, error) => Err(error),
    }
}

/// Sends a signal to every process of the pid namespace but its first, which must be the caller.
pub(super) fn signal_everyone(signal: i32) {
    // SAFETY: no pointers. ESRCH (nobody there) is fine.
    unsafe { libc::kill(-1, signal) };
}

fn all_signals() -> libc::sigset_t {
    let mut set = std::mem::MaybeUninit::uninit();
    // SAFETY: sigfillset initializes the whole set.
    unsafe {
        libc::sigfillset(set.as_mut_ptr());
        set.assume_init()
    }
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
