#!/usr/bin/env python3
"""`ci deploy` against the script that it replaces, and a hot upgrade against a restart, on real Erlang/OTP.

    cargo build --release --bin ci
    benchmarks/deploy.py [--ci target/release/ci] [--targets 20] [--only NAME]...     --list: the names

Prints Markdown tables. Targets are sshd's of this user on loopback; those of `fleet` stand in network namespaces of their own
(root). The script does what a pipeline without `ci` does: asks `bin/urf versions`, builds both versions with rebar3, `rebar3
relup`, `rebar3 tar`, scp, `bin/urf upgrade`. Both begin with a clean clone. Bytes are counted by a proxy before the target's sshd.
"""

import argparse
import contextlib
import getpass
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
SSHD = next((path for path in ("/usr/sbin/sshd", "/usr/bin/sshd") if os.path.exists(path)), "sshd")

# Calls the service about every millisecond until its input ends.
CLIENT = r"""#!/usr/bin/env escript
%%! -kernel inet_dist_use_interface {127,0,0,1}
main([Node, Cookie]) ->
    {ok, _} = net_kernel:start([list_to_atom("client" ++ os:getpid() ++ "@127.0.0.1"), longnames]),
    erlang:set_cookie(list_to_atom(Cookie)),
    N = list_to_atom(Node),
    true = net_kernel:connect_node(N),
    Self = self(),
    spawn(fun() -> io:get_line(""), Self ! stop end),
    io:format("ready~n"),
    loop(N, now_us(), 0, 0, 0).

loop(N, Last, Calls, Failed, Longest) ->
    receive stop -> io:format("~b ~b ~b~n", [Calls, Failed, Longest])
    after 1 ->
        try gen_server:call({urf_store, N}, get, 10000) of
            _ -> Now = now_us(), loop(N, Now, Calls + 1, Failed, max(Longest, Now - Last))
        catch _:_ -> loop(N, Last, Calls + 1, Failed + 1, Longest) end
    end.

now_us() -> erlang:monotonic_time(microsecond).
"""

# What the reference pipeline does; $HOSTS are `host:directory`.
REFERENCE = r"""
set -eu
VSN=$(sed -n 's/^ *"\(.*\)" %% release_vsn.*/\1/p' rebar.config)
built=
for target in $HOSTS; do
    host=${target%%:*} dir=${target#*:}
    old=$(ssh "$host" "cd $dir && ./bin/urf versions" | sed -n 's/^\* *\([0-9][0-9.]*\)[[:space:]]*permanent.*/\1/p')
    [ "$old" != "$VSN" ] || continue
    if [ -z "$built" ]; then
        git checkout -q "v$old" && rebar3 release
        git checkout -q "v$VSN" && rebar3 release
        rebar3 relup -n urf -v "$VSN" -u "$old" && rebar3 tar
        built=_build/default/rel/urf/urf-$VSN.tar.gz
    fi
    scp -q "$built" "$host:$dir/releases/"
    ssh "$host" "$dir/bin/urf upgrade $VSN"
done
"""


def run(command, **more):
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, **more)
    if done.returncode:
        sys.exit(f"{command}: {done.returncode}\n{(done.stdout + done.stderr)[-2000:]}")
    return done.stdout


def free_port():
    with socket.socket() as link:
        link.bind(("127.0.0.1", 0))
        return link.getsockname()[1]


def listening(address):
    until = time.monotonic() + 30
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            socket.create_connection(address, 1).close()
            return
        time.sleep(0.02)
    sys.exit(f"nobody listens on {address}")


class Counter:
    """A proxy that counts what goes through it in both directions."""

    def __init__(self, to):
        self.to, self.sent, self.received = to, 0, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            near, _ = self.listener.accept()
            far = socket.create_connection(("127.0.0.1", self.to))
            for link in (near, far):
                link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.copy, args=(near, far, "sent"), daemon=True).start()
            threading.Thread(target=self.copy, args=(far, near, "received"), daemon=True).start()

    def copy(self, source, sink, name):
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                setattr(self, name, getattr(self, name) + len(data))
                sink.sendall(data)
        for link in (source, sink):
            with contextlib.suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)


class Place:
    """Targets, a project and an ssh configuration in a temporary directory."""

    def __init__(self, ci):
        self.ci = ci
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="ci-b", dir="/tmp"))
        self.daemons, self.namespaces = [], []
        (self.home / "bin").mkdir()
        for key in ("host", "user"):
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.home / key)])
        (self.home / "config").touch()
        for program in ("ssh", "scp"):
            path = self.home / "bin" / program
            path.write_text(f'#!/bin/sh\nexec {shutil.which(program)} -F {self.home}/config "$@"\n')
            path.chmod(0o755)
        run(["sh", str(ROOT / "examples/urf/make-repository.sh"), str(self.home / "origin")])

    def environment(self, **more):
        kept = {name: value for name, value in os.environ.items() if name not in ("SSH_USER_HOST", "OLD_VSN", "SERVER")}
        path = f"{self.home}/bin:{os.environ['PATH']}"
        return {**kept, "PATH": path, "SLIPWAY_HOME": f"{self.home}/slipway", "NO_COLOR": "1", **more}

    def clone(self, name, version):
        """A clean clone: nothing is built there, and no build of before is known."""
        shutil.rmtree(self.home / name, ignore_errors=True)
        shutil.rmtree(self.home / "slipway", ignore_errors=True)
        run(["git", "clone", "-q", str(self.home / "origin"), str(self.home / name)])
        run(["git", "-C", str(self.home / name), "checkout", "-q", f"v{version}"])
        return self.home / name

    def target(self, name, address="127.0.0.1", inside=()):
        """An sshd with an epmd of its own; `inside`: words before its command."""
        os.makedirs("/run/sshd", exist_ok=True)
        port = free_port()
        epmd = free_port()
        (self.home / f"{name}.conf").write_text(
            f"Port {port}\nListenAddress {address}\nHostKey {self.home}/host\nAuthorizedKeysFile {self.home}/user.pub\n"
            "PidFile none\nSubsystem sftp internal-sftp\nUsePAM no\nStrictModes no\nPasswordAuthentication no\nPermitRootLogin yes\n"
            f"SetEnv HOME={self.home} ERL_EPMD_PORT={epmd} PIPE_DIR={self.home}/{name}-pipes/\n"
        )
        daemon = [*inside, SSHD, "-D", "-e", "-f", str(self.home / f"{name}.conf")]
        log = open(self.home / f"{name}.log", "w")
        self.daemons.append(subprocess.Popen(daemon, stdin=subprocess.DEVNULL, stderr=log))
        listening((address, port))
        return port, epmd

    def host(self, name, address, port):
        with open(self.home / "config", "a") as config:
            config.write(
                f"Host {name}\n  HostName {address}\n  Port {port}\n  User {getpass.getuser()}\n  IdentityFile {self.home}/user\n"
                "  IdentitiesOnly yes\n  IdentityAgent none\n  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n"
                "  LogLevel ERROR\n"
            )

    def namespaced(self, number):
        """A target in a network namespace of its own; its name."""
        name, near = f"t{number}", f"cib{os.getpid() % 10000}n{number}"
        space = f"ci-b-{os.getpid()}-{number}"
        run(["ip", "netns", "add", space])
        self.namespaces.append(space)
        run(["ip", "link", "add", near, "type", "veth", "peer", "name", "eth0", "netns", space])
        run(["ip", "addr", "add", f"10.231.{number}.1/30", "dev", near])
        run(["ip", "link", "set", near, "up"])
        inside = ["ip", "netns", "exec", space]
        for words in (["addr", "add", f"10.231.{number}.2/30", "dev", "eth0"], ["link", "set", "eth0", "up"], ["link", "set", "lo", "up"]):
            run([*inside, "ip", *words])
        address = f"10.231.{number}.2"
        port, _ = self.target(name, address, inside)
        self.host(name, address, port)
        return name

    def deploy(self, project, environment, settings):
        (project / ".ci").mkdir(exist_ok=True)
        (project / ".ci/deploy.yml").write_text(f"environments: {{{environment}: {{{settings}}}}}\n")
        command = [str(self.ci), "deploy", environment]
        return run(command, cwd=project, env=self.environment())

    def reference(self, project, hosts):
        return run(["sh", "-c", REFERENCE], cwd=project, env=self.environment(HOSTS=" ".join(hosts)))

    def back(self, hosts, old, new):
        """To the old version, as if the new one had never been there."""
        for host in hosts:
            name, directory = host.split(":")
            run(
                ["ssh", name, f"cd {directory} && ./bin/urf downgrade {old} && ./bin/urf uninstall {new}; rm -rf releases/*.tar.gz .ci"],
                env=self.environment(),
            )

    def close(self):
        for daemon in self.daemons:
            daemon.terminate()
            daemon.wait()
        for path in pathlib.Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if os.readlink(path / "exe").startswith(str(self.home)) or str(self.home).encode() in (path / "environ").read_bytes():
                    os.kill(int(path.name), signal.SIGKILL)
        for space in self.namespaces:
            subprocess.run(["ip", "netns", "del", space], check=False)
        shutil.rmtree(self.home, ignore_errors=True)


def timed(work, *arguments):
    began = time.monotonic()
    work(*arguments)
    return time.monotonic() - began


def ratio(ours, theirs):
    return f"{theirs / ours:.1f}x" if ours else "-"


def pauses(place, _options):
    """A client that calls the service every millisecond, through a hot upgrade and through a restart."""
    port, epmd = place.target("dev")
    place.host("dev", "127.0.0.1", port)
    directory = place.home / "urf"
    (place.home / "client.escript").write_text(CLIENT)
    print("| | calls | failed | longest pause |\n|---|---|---|---|")

    def watched(what, work):
        environment = place.environment(ERL_EPMD_PORT=str(epmd))
        client = subprocess.Popen(
            ["escript", str(place.home / "client.escript"), "urf@127.0.0.1", "urf_cookie"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )
        if client.stdout.readline() != "ready\n":
            sys.exit("the client can't reach the node")
        work()
        said, _ = client.communicate("\n", timeout=60)
        calls, failed, longest = map(int, said.split())
        print(f"| {what} | {calls} | {failed} | {longest / 1000:.0f} ms |", flush=True)

    settings = f"targets: ['dev:{directory}']"
    project = place.clone("project", "0.1.0")
    place.deploy(project, "dev", settings)
    watched("nothing happens, 10 s", lambda: time.sleep(10))
    run(["git", "-C", str(project), "checkout", "-q", "v0.2.0"])
    watched("hot upgrade 0.1.0 -> 0.2.0", lambda: place.deploy(project, "dev", settings))
    run(["git", "-C", str(project), "checkout", "-q", "v0.3.0"])
    watched("restart 0.2.0 -> 0.3.0", lambda: place.deploy(project, "dev", settings + ", strategy: {prefer: restart}"))


def one(place, options):
    """The whole way of one hot upgrade, build included: time and bytes."""
    port, _ = place.target("one")
    counter = Counter(port)
    place.host("one", "127.0.0.1", counter.port)
    host = f"one:{place.home}/one"
    settings = f"targets: ['{host}']"
    place.deploy(place.clone("project", "0.1.0"), "one", settings)
    results = {"ci": [], "script": []}
    for _ in range(options.rounds):
        for name in results:
            project = place.clone("project", "0.2.0")
            counter.sent = counter.received = 0
            if name == "ci":
                seconds = timed(place.deploy, project, "one", settings)
                again = timed(place.deploy, project, "one", settings)
            else:
                seconds = timed(place.reference, project, [host])
                again = timed(place.reference, project, [host])
            results[name].append((seconds, counter.sent, again))
            place.back([host], "0.1.0", "0.2.0")
    ours, theirs = (min(results[name]) for name in results)
    print("| | ci | script | |\n|---|---|---|---|")
    print(f"| hot upgrade, from a clean clone | {ours[0]:.1f} s | {theirs[0]:.1f} s | {ratio(ours[0], theirs[0])} |")
    print(f"| bytes sent to the target | {ours[1] / 1024:.0f} KiB | {theirs[1] / 1024:.0f} KiB | {ratio(ours[1], theirs[1])} |")
    print(f"| once more: nothing to do | {ours[2]:.2f} s | {theirs[2]:.2f} s | {ratio(ours[2], theirs[2])} |")


def fleet(place, options):
    """Many targets with real nodes, each in a network namespace of its own."""
    names = [place.namespaced(number) for number in range(options.targets)]
    hosts = [f"{name}:{place.home}/{name}" for name in names]
    settings = "targets: [{}]".format(", ".join(f"'{host}'" for host in hosts))
    fresh = timed(place.deploy, place.clone("project", "0.1.0"), "all", settings)
    print(f"{options.targets} targets, 0.1.0 installed on all of them in {fresh:.1f} s\n")
    print("| | ci | shell loop | |\n|---|---|---|---|", flush=True)
    project = place.clone("project", "0.2.0")
    command = [str(place.ci), "env", "status", "all"]
    place_settings = project / ".ci"
    place_settings.mkdir(exist_ok=True)
    (place_settings / "deploy.yml").write_text(f"environments: {{all: {{{settings}}}}}\n")
    ours = min(timed(lambda: run(command, cwd=project, env=place.environment())) for _ in range(3))
    loop = "for t in $HOSTS; do ssh ${t%%:*} \"cd ${t#*:} && ./bin/urf versions\"; done"
    environment = place.environment(HOSTS=" ".join(hosts))
    theirs = min(timed(lambda: run(["sh", "-c", loop], env=environment)) for _ in range(3))
    print(f"| which version runs where | {ours:.1f} s | {theirs:.1f} s | {ratio(ours, theirs)} |", flush=True)
    ours = timed(place.deploy, project, "all", settings)
    place.back(hosts, "0.1.0", "0.2.0")
    theirs = timed(place.reference, place.clone("project", "0.2.0"), hosts)
    print(f"| hot upgrade of all, from a clean clone | {ours:.1f} s | {theirs:.1f} s | {ratio(ours, theirs)} |", flush=True)


SCENARIOS = {"pauses": pauses, "one": one, "fleet": fleet}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ci", type=pathlib.Path, default=ROOT / "target/release/ci")
    parser.add_argument("--targets", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", action="append", choices=SCENARIOS)
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    if options.list:
        for name, work in SCENARIOS.items():
            print(f"{name}: {work.__doc__}")
        return
    if not options.ci.exists():
        sys.exit(f"{options.ci} is not there: cargo build --release --bin ci")
    print(f"load {os.getloadavg()[0]:.1f}, {len(os.sched_getaffinity(0))} processors\n")
    # what was made is removed also when somebody ends us
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    for name in options.only or SCENARIOS:
        place = Place(options.ci.resolve())
        try:
            SCENARIOS[name](place, options)
        finally:
            place.close()
        print(f"\nload {os.getloadavg()[0]:.1f}\n", flush=True)


if __name__ == "__main__":
    main()
