//! What a job can't see or do.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use runners::sandbox::{Access, ExitStatus, Mode, Mount, Spec};

use crate::job::{Job, is_root, unique_sleep};

/// A static program of 32 bits whose exit code is the errno of `mount` with null arguments.
#[cfg(target_arch = "x86_64")]
fn mounting_i386_program() -> Vec<u8> {
    let code = [0xb8, 21, 0, 0, 0, 0xcd, 0x80, 0xf7, 0xd8, 0x89, 0xc3, 0xb8, 1, 0, 0, 0, 0xcd, 0x80];
    let (base, headers) = (0x0804_8000_u32, 52 + 32);
    let size = headers + code.len() as u32;
    let mut elf = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x03\0\x01\0\0\0".to_vec();
    for word in [base + headers, 52, 0, 0, 0x0020_0034, 0x0000_0001, 0] {
        elf.extend(word.to_le_bytes());
    }
    for word in [1, 0, base, base, size, size, 5, 0x1000] {
        elf.extend(word.to_le_bytes());
    }
    elf.extend(code);
    elf
}

#[tokio::test]
async fn only_processes_of_the_sandbox_are_seen() {
    let job = Job::new();
    let pids = job.output("for p in /proc/[0-9]*; do echo ${p#/proc/}; done").await;
    assert_eq!(pids, "1\n2\n", "init and the shell");
    assert_eq!(job.output("hostname 2>/dev/null || cat /proc/sys/kernel/hostname").await, "slipway\n");
    job.finish().await;
}

#[tokio::test]
async fn capabilities_and_seccomp_equal_dockers() {
    let job = Job::new();
    let status = job.output("cat /proc/self/status").await;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_start_matches(':').trim().to_owned()
    };
    assert_eq!(field("CapBnd"), "00000000a80425fb");
    assert_eq!(field("CapEff"), "00000000a80425fb");
    assert_eq!(field("CapPrm"), "00000000a80425fb");
    assert_eq!(field("CapInh"), "0000000000000000");
    assert_eq!(field("CapAmb"), "0000000000000000");
    assert_eq!(field("Seccomp"), "2");
    assert_eq!(field("NoNewPrivs"), "0", "sudo works in a job");
    for refused in ["mount -t tmpfs none /tmp", "unshare -U true", "unshare -m true", "hostname other"] {
        assert_ne!(job.run(refused).await.0, ExitStatus::Code(0), "{refused}");
    }
    job.finish().await;
}

#[cfg(target_arch = "x86_64")]
#[tokio::test]
async fn programs_of_32_bits_run_and_are_filtered() {
    let job = Job::new();
    let program = job.dir.path().join("checkout/i386");
    fs::write(&program, mounting_i386_program()).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let outside = std::process::Command::new(&program).status();
    if outside.is_err() {
        // this kernel runs no such programs
        return;
    }
    assert_eq!(outside.unwrap().code(), Some(libc::EFAULT), "unfiltered, the kernel looks at the arguments");
    assert_eq!(job.run("./i386").await.0, ExitStatus::Code(libc::EPERM));
    job.finish().await;
}

#[tokio::test]
async fn the_kernels_files_are_masked_and_devices_cannot_be_made() {
    let job = Job::new();
    let refused = [
        "echo h > /proc/sysrq-trigger",
        "echo x > /proc/sys/kernel/hostname",
        "test -s /proc/kcore",
        "test -s /proc/timer_list",
        "ls -A /sys/firmware | grep .",
        "touch /sys/x",
        "mknod /tmp/zero c 1 5 && head -c1 /tmp/zero",
        "mknod /dev/zero2 c 1 5 && head -c1 /dev/zero2",
        "mknod ./zero c 1 5 && head -c1 ./zero",
        "mknod /usr/zero c 1 5 && head -c1 /usr/zero",
    ];
    for script in refused {
        let (status, text) = job.run(script).await;
        assert_ne!(status, ExitStatus::Code(0), "{script}: {text}");
    }
    let allowed =
        "head -c1 /dev/zero >/dev/null && echo > /dev/null && echo > /dev/shm/x && test -L /dev/ptmx";
    job.output(allowed).await;
    job.finish().await;
}

#[tokio::test]
async fn a_program_gets_three_streams_its_environment_and_nothing_else() {
    let job = Job::new();
    // 3 is the directory that `ls` reads
    assert_eq!(job.output("ls /proc/self/fd; tty || true").await, "0\n1\n2\n3\nnot a tty\n");
    let signals = job.output("grep -E 'SigBlk|SigIgn' /proc/self/status").await;
    for line in signals.lines() {
        let mask = u64::from_str_radix(line.split('\t').nth(1).unwrap(), 16).unwrap();
        // 32 and 33 are the C library's own, which it lets nobody change
        assert_eq!(mask & !0x1_8000_0000, 0, "{line}");
    }
    let environment =
        job.output("cat /proc/self/environ | tr '\\0' '\\n' | cut -d= -f1 | sort | tr '\\n' ' '").await;
    let mut expected: Vec<_> = Spec::host_env().into_iter().map(|(name, _)| name).collect();
    expected.push("PWD".to_owned());
    expected.sort();
    assert_eq!(environment.trim(), expected.join(" "), "PWD is the shell's own");
    job.finish().await;
}

#[tokio::test]
async fn another_user_id_has_no_capabilities() {
    let mut job = Job::new();
    if job.sandbox.probe(&job.dir.path().join("states")).await.mode == Mode::RootlessOneId {
        // with one id only there is no other user
        return;
    }
    job.spec.user = "1234:1235".to_owned();
    let text = job.output("id -u; id -G; grep CapEff /proc/self/status").await;
    assert_eq!(text, "1234\n1235\nCapEff:\t0000000000000000\n");
    job.finish().await;
}

#[tokio::test]
async fn hidden_directories_are_empty_and_writable() {
    let mut job = Job::new();
    let home = job.dir.path().join("home/ann");
    fs::create_dir_all(&home).unwrap();
    fs::write(home.join("secret"), "s").unwrap();
    // below /tmp it is not there anyway: bind the directory where it can be seen
    let seen_as = PathBuf::from("/run/homes");
    job.spec.mounts.insert(
        0,
        Mount::Bind {
            source: home.parent().unwrap().to_owned(),
            target: seen_as.clone(),
            access: Access::ReadOnly,
        },
    );
    assert_eq!(job.output("cat /run/homes/ann/secret").await, "s");
    assert_eq!(job.output("ls -A /root; ls -A \"$HOME\"; touch /root/x; ls -A ~").await, "x\n");
    for gone in [job.dir.path().join("states"), "/run/user".into()] {
        let (status, text) = job.run(&format!("ls -d {}", gone.display())).await;
        assert_ne!(status, ExitStatus::Code(0), "{text}");
    }
    job.finish().await;
}

#[tokio::test]
async fn writes_to_the_system_never_reach_the_host() {
    let job = Job::new();
    let name = format!("/usr/slipway-{}", unique_sleep());
    let (status, text) = job.run(&format!("echo inside > {name}")).await;
    if is_root() {
        assert_eq!(status, ExitStatus::Code(0), "{text}");
        assert_eq!(job.output(&format!("cat {name}")).await, "inside\n", "kept for the next step");
    } else {
        assert_ne!(status, ExitStatus::Code(0));
    }
    assert!(!Path::new(&name).exists());
    job.finish().await;
}
