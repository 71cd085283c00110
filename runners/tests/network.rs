//! Networks of sandboxes against the real kernel. All tests hold for root and for ordinary users alike; when run by
//! root, `an_ordinary_user_gets_the_same` runs them again as one.
#![cfg(target_os = "linux")]
// clippy takes the functions that the tests share for production code
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test's panic is its report")]

#[path = "support/ordinary_user.rs"]
mod ordinary_user;

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use runners::sandbox::{
    Command, Egress, ExitStatus, JobNetwork, Network, Process, Router, Sandbox, Spec, StateDir, Streams, Task,
};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};

use ordinary_user::same_tests_as_ordinary_user;

/// Answers each connection with its argument, once it listens on the port that is its other argument.
const SERVER: &str = "python3 -c '
import socket, sys
listener = socket.create_server((\"\", int(sys.argv[1])))
print(\"listening\", flush=True)
while True:
    connection, _ = listener.accept()
    connection.sendall(sys.argv[2].encode())
    connection.close()
'";
/// Prints what a server answers, or the kind of error.
const CLIENT: &str = "python3 -c '
import socket, sys
try:
    print(socket.create_connection((sys.argv[1], int(sys.argv[2])), 2).recv(99).decode())
except OSError as error:
    print(type(error).__name__, error.errno)
'";

fn sandbox() -> Sandbox {
    Sandbox::with_init(PathBuf::from(env!("CARGO_BIN_EXE_sandbox-init")))
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A sandbox of the host's files in a network.
struct Container {
    state: StateDir,
    spec: Spec,
}

impl Container {
    fn new(dir: &TempDir, name: &str, network: Network, hosts: &[(Ipv4Addr, &str)]) -> Self {
        let state = StateDir::create(&dir.path().join("states"), name).unwrap();
        let mut spec = Spec::host(state.path(), Path::new(env!("CARGO_BIN_EXE_sandbox-init")));
        spec.network = network;
        spec.hosts = hosts.iter().map(|(address, name)| (*address, (*name).to_owned())).collect();
        Self { state, spec }
    }

    async fn start(&self, script: &str) -> Process {
        let task = Task::Run(Command {
            argv: ["sh", "-c", script].map(String::from).to_vec(),
            env: Spec::host_env(),
            cwd: "/".into(),
        });
        sandbox().start(&self.spec, task, Streams::piped()).await.unwrap()
    }

    /// Starts a server and waits until it listens.
    async fn serve(&self, port: u16, answer: &str) -> Process {
        let mut process = self.start(&format!("{SERVER} {port} {answer}")).await;
        let mut line = String::new();
        BufReader::new(process.stdout.as_mut().unwrap()).read_line(&mut line).await.unwrap();
        assert_eq!(line, "listening\n");
        process
    }

    async fn output(&self, script: &str) -> String {
        let mut process = self.start(script).await;
        let (mut out, mut err) = (String::new(), String::new());
        let (mut stdout, mut stderr) = (process.stdout.take().unwrap(), process.stderr.take().unwrap());
        tokio::try_join!(stdout.read_to_string(&mut out), stderr.read_to_string(&mut err)).unwrap();
        assert_eq!(process.wait().await.unwrap(), ExitStatus::Code(0), "{script}: {out}{err}");
        out + &err
    }

    async fn get(&self, host: &str, port: u16) -> String {
        self.output(&format!("{CLIENT} {host} {port}")).await.trim().to_owned()
    }

    async fn remove(self) {
        self.state.remove(&sandbox()).await.unwrap();
    }
}

async fn stop(mut process: Process) {
    process.kill();
    process.wait().await.unwrap();
}

/// Connects to somebody who listens: the kernel may need a moment until a new cable carries.
async fn connect(network: &JobNetwork, container: usize, port: u16) -> std::net::TcpStream {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match network.connect(container, port).await.unwrap() {
            Some(connection) => return connection,
            None => assert!(Instant::now() < deadline, "nobody listens on port {port}"),
        }
    }
}

fn containers(dir: &TempDir, names: &[&str], network: &JobNetwork) -> Vec<Container> {
    let hosts: Vec<(Ipv4Addr, &str)> =
        names.iter().enumerate().map(|(at, name)| (network.address(at).unwrap(), *name)).collect();
    let make = |(at, name): (usize, &&str)| {
        let state = format!("{}-{name}", network.address(0).unwrap());
        Container::new(dir, &state, network.network(at).unwrap(), &hosts)
    };
    names.iter().enumerate().map(make).collect()
}

#[tokio::test]
async fn containers_of_a_network_find_one_another_by_name_and_may_use_the_same_port() {
    let dir = tempfile::tempdir().unwrap();
    let router = Router::start(&sandbox(), false).await.unwrap();
    let network = router.join(3).await.unwrap();
    let all = containers(&dir, &["job", "first", "second"], &network);
    let servers = [all[1].serve(8080, "one").await, all[2].serve(8080, "two").await];
    assert_eq!(all[0].get("first", 8080).await, "one");
    assert_eq!(all[0].get("second", 8080).await, "two");
    assert_eq!(all[1].get("second", 8080).await, "two");
    assert_eq!(all[0].get("first", 8081).await, "ConnectionRefusedError 111");
    for server in servers {
        stop(server).await;
    }
    for container in all {
        container.remove().await;
    }
}

#[tokio::test]
async fn a_network_lasts_as_long_as_its_job_and_its_processes_as_long_as_their_step() {
    let dir = tempfile::tempdir().unwrap();
    let router = Router::start(&sandbox(), false).await.unwrap();
    let network = router.join(1).await.unwrap();
    let all = containers(&dir, &["job"], &network);
    let links = "ip -o -4 addr show eth0 2>/dev/null || cat /proc/net/fib_trie";
    let before = all[0].output(links).await;
    assert!(before.contains(&network.address(0).unwrap().to_string()), "{before}");
    assert_eq!(all[0].output(links).await, before);
    assert_eq!(all[0].get("127.0.0.1", 9).await, "ConnectionRefusedError 111");
    for container in all {
        container.remove().await;
    }
}

#[tokio::test]
async fn networks_do_not_reach_one_another_nor_the_host() {
    let dir = tempfile::tempdir().unwrap();
    let on_host = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let router = Router::start(&sandbox(), false).await.unwrap();
    let (one, two) = (router.join(1).await.unwrap(), router.join(1).await.unwrap());
    assert_ne!(one.address(0), two.address(0));
    let mine = containers(&dir, &["mine"], &one);
    let other = containers(&dir, &["other"], &two);
    let server = other[0].serve(8080, "private").await;
    let seen = mine[0].get(&two.address(0).unwrap().to_string(), 8080).await;
    assert_eq!(seen, "OSError 101", "network is unreachable");
    let port = on_host.local_addr().unwrap().port();
    assert_eq!(mine[0].get("127.0.0.1", port).await, "ConnectionRefusedError 111");
    drop(connect(&two, 0, 8080).await);
    stop(server).await;
    for container in mine.into_iter().chain(other) {
        container.remove().await;
    }
}

#[tokio::test]
async fn whether_somebody_listens_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let router = Router::start(&sandbox(), false).await.unwrap();
    let network = router.join(2).await.unwrap();
    let all = containers(&dir, &["job", "service"], &network);
    assert!(network.connect(1, 5432).await.unwrap().is_none());
    let server = all[1].serve(5432, "ready").await;
    let mut answer = String::new();
    let mut connection = connect(&network, 1, 5432).await;
    std::io::Read::read_to_string(&mut connection, &mut answer).unwrap();
    assert_eq!(answer, "ready");
    stop(server).await;
    assert!(network.connect(1, 5432).await.unwrap().is_none());
    let again = network.address(1);
    drop(network);
    assert_eq!(router.join(2).await.unwrap().address(1), again, "networks are used again");
    assert!(router.join(251).await.is_err());
    for container in all {
        container.remove().await;
    }
}

#[tokio::test]
async fn many_networks_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let router = Router::start(&sandbox(), false).await.unwrap();
    let jobs = (0..12).map(|number| {
        let (router, dir) = (router.clone(), &dir);
        async move {
            let network = router.join(2).await.unwrap();
            let all = containers(dir, &["job", "web"], &network);
            let server = all[1].serve(8080, &number.to_string()).await;
            assert_eq!(all[0].get("web", 8080).await, number.to_string());
            stop(server).await;
            for container in all {
                container.remove().await;
            }
        }
    });
    futures_util::future::join_all(jobs).await;
}

fn process_is_there(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// Children, their children and so on.
fn descendants(of: u32) -> Vec<u32> {
    let all: Vec<(u32, u32)> = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| {
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            let parent = stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()?;
            Some((entry.file_name().to_str()?.parse().ok()?, parent))
        })
        .collect();
    let mut found = vec![of];
    let mut at = 0;
    while at < found.len() {
        let parent = found[at];
        found.extend(all.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        at += 1;
    }
    found.split_off(1)
}

/// The part of the test below that is killed: this test's own program, started again.
#[tokio::test]
#[ignore = "is started by `a_killed_ci_leaves_no_process_of_its_networks`"]
async fn a_ci_that_waits() {
    // the supervisors' parent stays as long as this
    let sandbox = sandbox();
    let router = Router::start(&sandbox, true).await.unwrap();
    let _network = router.join(2).await.unwrap();
    println!("egress {:?}", router.egress().await);
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_killed_ci_leaves_no_process_of_its_networks() {
    let mut ci = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", "a_ci_that_waits"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(ci.stdout.take().unwrap()).lines();
    while !lines.next_line().await.unwrap().unwrap().contains("egress ") {}
    let processes = descendants(ci.id().unwrap());
    assert!(!processes.is_empty());
    ci.kill().await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while processes.iter().any(|pid| process_is_there(*pid)) {
        assert!(Instant::now() < deadline, "{processes:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn the_way_out_reaches_the_machines_address_and_not_its_loopback() {
    let dir = tempfile::tempdir().unwrap();
    let router = Router::start(&sandbox(), true).await.unwrap();
    let network = router.join(1).await.unwrap();
    match router.egress().await {
        Egress::Up(program) => println!("through {program}"),
        other => {
            println!("skipped: {other:?}");
            return;
        }
    }
    let all = containers(&dir, &["job"], &network);
    let listener = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            connection.try_write(b"host").unwrap();
        }
    });
    // no packet is sent: the address that it would have been sent from
    let probe = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    let own = probe.connect("192.0.2.1:9").and_then(|()| probe.local_addr());
    if let Ok(own) = own {
        assert_eq!(all[0].get(&own.ip().to_string(), port).await, "host");
    }
    for loopback in ["10.0.2.2", "127.0.0.1", "10.208.0.1"] {
        assert!(all[0].get(loopback, port).await.contains("Error"), "{loopback}");
    }
    for container in all {
        container.remove().await;
    }
}

#[tokio::test]
async fn an_ordinary_user_gets_the_same() {
    if !is_root() {
        return;
    }
    same_tests_as_ordinary_user(&[]).await;
}

/// `cargo test -p runners --test network -- --ignored --nocapture how_long`
#[tokio::test]
#[ignore = "prints how long things take, asserts nothing"]
async fn how_long_networks_take() {
    let start = Instant::now();
    let router = Router::start(&sandbox(), true).await.unwrap();
    println!("router {:?}", start.elapsed());
    println!("egress {:?} {:?}", router.egress().await, start.elapsed());
    for containers in [1, 2, 4] {
        let mut times: Vec<Duration> = Vec::new();
        for _ in 0..50 {
            let start = Instant::now();
            let network = router.join(containers).await.unwrap();
            times.push(start.elapsed());
            drop(network);
        }
        times.sort();
        println!("{containers} containers: min {:?}, median {:?}", times[0], times[25]);
    }
}
