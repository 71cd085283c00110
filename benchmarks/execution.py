#!/usr/bin/env python3
"""Running jobs: `ci` against gitlab-ci-local, `docker run`, `podman run`, runc and crun, in one run, as ratios.

    cargo build --release --bin ci
    benchmarks/execution.py [--ci target/release/ci] [--rounds 3] [--only NAME]...     as root; --list: the names

Prints a Markdown table: the shortest and the median time of the rounds (whose contenders take turns), and how many times
longer than `ci` each took, by the shortest. What isn't installed is left out; gitlab-ci-local and the Node it wants come
from npm into a temporary directory. dockerd is started with a data directory of its own and ended.
`gitlab-ci-local` also wants rsync. `benchmarks/pull.sh` measures pulling images.
"""

import argparse
import contextlib
import ctypes
import json
import os
import pathlib
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
TOOLS = ["ci", "gitlab-ci-local", "docker run", "podman run", "runc", "crun"]
CORES = len(os.sched_getaffinity(0))
CONTAINERS_CONF = """\
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=5000:5000"]
[engine]
runtime = "crun"
cgroup_manager = "cgroupfs"
events_logger = "none"
"""


class Bench:
    """A place in which everything happens, and the tools that are there."""

    def __init__(self, work, ci):
        self.work, self.ci, self.memory = work, str(ci), {}
        self.ends = contextlib.ExitStack()
        for name in ["home", "projects"]:
            (work / name).mkdir()
        (work / "home/.gitconfig").write_text("[user]\nname = b\nemail = b@localhost\n")
        (work / "containers.conf").write_text(CONTAINERS_CONF)
        self.env = {
            "PATH": f"{work}/node_modules/.bin:{os.environ['PATH']}", "HOME": f"{work}/home", "LANG": "C.UTF-8",
            "SLIPWAY_HOME": f"{work}/slipway", "DOCKER_HOST": f"unix://{work}/docker.sock", "NO_COLOR": "1",
            "CONTAINERS_CONF": f"{work}/containers.conf", "TMPDIR": str(work),
        }
        self.registry = self.serve_images()
        self.image = f"{self.registry}/base"
        self.tools = {"ci"}
        for tool, prepare in [
            ("gitlab-ci-local", self.install_gitlab_ci_local), ("docker run", self.start_docker),
            ("podman run", self.fill_podman), ("runc", self.make_bundle), ("crun", self.make_bundle),
        ]:
            try:
                prepare(tool)
                self.tools.add(tool)
            except (OSError, subprocess.CalledProcessError, TimeoutError) as error:
                print(f"without {tool}: {error}", file=sys.stderr)
        subprocess.run([self.ci, "images", "pull", self.image], env=self.env, check=True, capture_output=True)

    def serve_images(self):
        command = [ROOT / "scripts/test-images.sh", "--serve", "base"]
        server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.ends.callback(server.wait)
        self.ends.callback(server.stdin.close)
        return server.stdout.readline().strip() or sys.exit("execution: there is no registry")

    def quiet(self, *command):
        subprocess.run(command, env=self.env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def install_gitlab_ci_local(self, _):
        command = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", self.work]
        subprocess.run([*command, "gitlab-ci-local", "node@22"], check=True, capture_output=True)
        self.quiet("gitlab-ci-local", "--version")
        self.quiet("rsync", "--version")

    def start_docker(self, _):
        where = [f"--data-root={self.work}/docker", f"--exec-root={self.work}/docker-run", f"--pidfile={self.work}/docker.pid"]
        # the machine's firewall and addresses stay as they are
        apart = ["--iptables=false", "--ip6tables=false", "--ip-forward=false", "--bridge=none"]
        log = (self.work / "dockerd.log").open("w")
        daemon = subprocess.Popen(["dockerd", *where, *apart, "-H", self.env["DOCKER_HOST"]], stdout=log, stderr=log)
        self.ends.callback(daemon.wait)
        self.ends.callback(daemon.terminate)
        for _ in range(300):
            with socket.socket(socket.AF_UNIX) as link, contextlib.suppress(OSError):
                link.connect(f"{self.work}/docker.sock")
                break
            time.sleep(0.1)
        else:
            raise TimeoutError("dockerd does not answer")
        self.quiet("docker", "pull", self.image)

    def podman(self, *arguments):
        return ["podman", "--root", f"{self.work}/podman", "--runroot", f"{self.work}/podman-run", *arguments]

    def fill_podman(self, _):
        self.quiet(*self.podman("pull", "--tls-verify=false", self.image))
        self.quiet(*self.podman("run", "--rm", "--network=host", self.image, "true"))

    def make_bundle(self, tool):
        """One root filesystem, read-only for all containers: neither is asked to make a layer for each."""
        root = self.work / "bundle/rootfs"
        if not root.exists():
            root.mkdir(parents=True)
            base = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "slipway/test-images/base.tar"
            self.quiet("tar", "-xpf", base, "--numeric-owner", "-C", root)
            subprocess.run(["runc", "spec"], cwd=root.parent, check=True)
            config = json.loads((root.parent / "config.json").read_text())
            config["process"] |= {"terminal": False, "args": ["true"]}
            del config["process"]["rlimits"]
            config["linux"]["resources"] = {}
            (root.parent / "config.json").write_text(json.dumps(config))
        self.quiet(tool, "--root", f"{self.work}/{tool}", "run", "--bundle", root.parent, "probe")

    def container(self, tool, name="$$"):
        """A shell command that runs `true` in a new container."""
        return {
            "docker run": f"docker run --rm --network=host {self.image} true",
            "podman run": " ".join(self.podman("run", "--rm", "--network=host", self.image, "true")),
            "runc": f"runc --root {self.work}/runc run --bundle {self.work}/bundle b{name}",
            "crun": f"crun --root {self.work}/crun run --bundle {self.work}/bundle b{name}",
        }[tool]

    def containers(self, count):
        """As many at once as `ci` runs jobs."""
        if count == 1:
            return {tool: self.container(tool).replace("$$", "1").split() for tool in TOOLS[2:]}
        loop = f"seq {count} | xargs -P {CORES} -I@ "
        return {tool: ["sh", "-c", loop + self.container(tool, "@")] for tool in TOOLS[2:]}

    def project(self, name, yaml, files=None):
        """A repository for each of the two that run pipelines."""
        for tool in ["ci", "gitlab-ci-local"]:
            place = self.work / "projects" / tool / name
            place.mkdir(parents=True)
            for path, text in {".gitlab-ci.yml": yaml, **(files or {})}.items():
                (place / path).parent.mkdir(parents=True, exist_ok=True)
                (place / path).write_text(text)
            git = ["git", "-C", place, "-c", "user.name=b", "-c", "user.email=b@localhost"]
            self.quiet(*git, "init", "-q", "-b", "main")
            self.quiet(*git, "remote", "add", "origin", f"https://gitlab.example.org/bench/{name}.git")
            self.quiet(*git, "add", "-A")
            self.quiet(*git, "commit", "-q", "-m", "Bench")

    def pipelines(self, name, *ci):
        # it takes no absolute path for --cwd
        local = ["env", "-C", self.work / "projects/gitlab-ci-local" / name, "gitlab-ci-local"]
        local += [f"--helper-image={self.image}", "--network=host", "--pull-policy=if-not-present", "--no-artifacts-to-source", "--no-json-schema-validation", f"--concurrency={CORES}"]
        return {"ci": [self.ci, "run", "-C", self.work / "projects/ci" / name, *ci], "gitlab-ci-local": local}

    def once(self, command):
        """Seconds, and the largest process's memory in MiB."""
        log = self.work / "said"
        with log.open("w") as said:
            start = time.perf_counter()
            process = subprocess.Popen(command, cwd=self.work, env=self.env, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
            _, status, usage = os.wait4(process.pid, 0)
            took = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
            tail = " / ".join([line for line in lines if line and not line.startswith("at ")][-6:])
            raise RuntimeError(f"exit code {process.returncode}: {tail}")
        return took, usage.ru_maxrss / 1024

    def measure(self, title, commands, rounds, warm=True):
        """Times of each tool that is there, its rounds taken in turns."""
        commands = {tool: command for tool, command in commands.items() if tool in self.tools}
        times, peaks = {tool: [] for tool in commands}, {}
        for number in range(rounds + warm):
            for tool in list(commands):
                try:
                    took, peak = self.once(commands[tool])
                except RuntimeError as error:
                    print(f"{title}: {tool}: {error}", file=sys.stderr)
                    del commands[tool], times[tool]
                    continue
                if number >= warm:
                    times[tool].append(took)
                    peaks[tool] = max(peaks.get(tool, 0), peak)
        self.memory[title] = peaks
        row(title, times)
        return times


def row(title, times, text=lambda values: f"{shown(min(values))} / {shown(statistics.median(values))}"):
    own = min(times["ci"]) if times.get("ci") else None
    cells = []
    for tool in TOOLS:
        if not times.get(tool):
            cells.append("")
            continue
        ratio = f" **{min(times[tool]) / own:.1f}×**" if own and tool != "ci" else ""
        cells.append(text(times[tool]) + ratio)
    print(f"| {title} | {' | '.join(cells)} |", flush=True)


def shown(seconds):
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def version(bench, rounds):
    names = {"ci": bench.ci, "gitlab-ci-local": "gitlab-ci-local", "docker run": "docker", "podman run": "podman", "runc": "runc", "crun": "crun"}
    bench.measure("`--version`", {tool: [name, "--version"] for tool, name in names.items()}, rounds * 3)


def listing(bench, rounds):
    jobs = "".join(
        f"job-{number}:\n  extends: .job\n  stage: {'build' if number % 2 else 'test'}\n" for number in range(500)
    )
    hidden = ".job:\n  rules: [{if: $CI_COMMIT_BRANCH}]\n  variables: {KIND: list}\n  script: [echo $CI_JOB_NAME]\n"
    bench.project("list", f"stages: [build, test]\n{hidden}{jobs}")
    commands = bench.pipelines("list")
    place = commands["ci"][3]
    commands["ci"] = [bench.ci, "plan", "-C", place]
    commands["gitlab-ci-local"].append("--list")
    bench.measure("list 500 jobs", commands, rounds)


def lines(image, count):
    return (f"image: {image}\n" if image else "") + "".join(
        f"job-{number}:\n  script: [echo $CI_JOB_NAME]\n" for number in range(count)
    )


def shell(bench, rounds):
    for count in [1, 10, 100]:
        bench.project(f"shell-{count}", lines(None, count))
        title = f"{count} one-line job{'s' * (count > 1)}, shell"
        bench.measure(title, bench.pipelines(f"shell-{count}", "--executor", "shell"), rounds if count < 100 else min(rounds, 2))


def container(bench, rounds):
    for count in [1, 10, 100]:
        bench.project(f"container-{count}", lines(bench.image, count))
        commands = bench.pipelines(f"container-{count}") | bench.containers(count)
        title = f"{count} one-line job{'s' * (count > 1)}, container"
        bench.measure(title, commands, rounds if count < 100 else 1, warm=count < 100)


def overhead(bench, rounds):
    """What a job more costs, its container being the only one: no start of a program, no plan."""
    commands = {}
    for count in [1, 21]:
        bench.project(f"overhead-{count}", lines(bench.image, count))
        commands[count] = bench.pipelines(f"overhead-{count}", "-j", "1")["ci"]
    times = {"ci": []}
    for tool in ["runc", "crun"]:
        if tool in bench.tools:
            times[tool] = []
    bench.once(commands[1])
    for _ in range(rounds * 2):
        small, large = bench.once(commands[1])[0], bench.once(commands[21])[0]
        times["ci"].append((large - small) / 20)
        for tool in times.keys() - {"ci"}:
            times[tool] += [bench.once(bench.containers(1)[tool])[0] for _ in range(5)]
    row("one job more, container", times)


def graph(bench, rounds):
    parts = []
    # 20 layers of 10 jobs kept gitlab-ci-local busy for minutes before the first job
    for layer in range(5):
        for number in range(40):
            needs = ", ".join(f"j-{layer - 1}-{(number + step) % 40}" for step in range(3)) if layer else ""
            parts.append(f"j-{layer}-{number}:\n  needs: [{needs}]\n  script: [echo $CI_JOB_NAME]\n")
    bench.project("graph", "".join(parts))
    bench.measure("200 jobs with needs, shell", bench.pipelines("graph", "--executor", "shell"), min(rounds, 2), warm=False)


def artifacts(bench, rounds):
    yaml = f"""\
image: {bench.image}
make:
  stage: build
  script: [mkdir out, seq 23990000 | split -b 100k -a 4 - out/f]
  artifacts: {{paths: [out/]}}
take:
  stage: test
  script: [test $(ls out | wc -l) = 2000]
"""
    bench.project("artifacts", yaml)
    bench.measure("artifacts: 2,000 files, 205 MB", bench.pipelines("artifacts"), min(rounds, 2), warm=False)


def cache(bench, rounds):
    yaml = f"""\
image: {bench.image}
job:
  script: [mkdir -p store, test -e store/faaaa || seq 2698887 | split -b 10k -a 4 - store/f]
  cache: {{key: k, paths: [store/]}}
"""
    bench.project("cache", yaml)
    bench.measure("warm cache: 2,000 files, 20 MB", bench.pipelines("cache"), min(rounds, 2))


def workspace(bench, rounds):
    files = {f"d{number // 1000}/s{number // 100}/f{number}.txt": f"line of {number}\n" * 60 for number in range(20_000)}
    bench.project("workspace", f"job:\n  image: {bench.image}\n  script: ['true']\n", files)
    bench.measure("20,000 files of sources, container", bench.pipelines("workspace"), min(rounds, 2))


SCENARIOS = {scenario.__name__: scenario for scenario in [
    version, listing, overhead, workspace, cache, artifacts, shell, container, graph,
]}


def hide_unified():
    """Debian's crun refuses machines with both kinds of cgroups: from this process on the second kind is not seen."""
    libc = ctypes.CDLL(None, use_errno=True)
    if os.path.exists("/sys/fs/cgroup/unified"):
        private, new_mounts = 1 << 18 | 1 << 14, 0x20000
        if libc.unshare(new_mounts) or libc.mount(None, b"/", None, private, None):
            raise OSError(ctypes.get_errno(), "making a mount namespace")
        libc.mount(b"none", b"/sys/fs/cgroup/unified", b"tmpfs", 0, None)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ci", default=ROOT / "target/release/ci", type=pathlib.Path)
    parser.add_argument("--rounds", default=3, type=int)
    parser.add_argument("--only", action="append", choices=SCENARIOS, metavar="NAME")
    parser.add_argument("--list", action="store_true")
    arguments = parser.parse_args()
    if arguments.list:
        return print(*SCENARIOS, sep="\n")
    if os.geteuid() != 0:
        sys.exit("execution: docker, runc and crun are run as root")
    if not arguments.ci.exists():
        sys.exit(f"execution: there is no {arguments.ci}: cargo build --release --bin ci")
    # the engine and the mounts go, however this ends
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    hide_unified()
    work = pathlib.Path(tempfile.mkdtemp(prefix="slipway-bench.", dir="/var/tmp"))
    try:
        bench = Bench(work, arguments.ci.resolve())
        with bench.ends:
            measure_all(bench, arguments)
    finally:
        # engines leave mounts; they are only in this process's namespace
        for line in reversed(pathlib.Path("/proc/self/mounts").read_text().splitlines()):
            if line.split()[1].startswith(str(work)):
                subprocess.run(["umount", "-l", line.split()[1]], check=False, capture_output=True)
        shutil.rmtree(work, ignore_errors=True)


def measure_all(bench, arguments):
    load = lambda: " ".join(pathlib.Path("/proc/loadavg").read_text().split()[:3])
    print(f"{CORES} cores, load {load()}, {arguments.rounds} rounds, {time.strftime('%F %H:%M', time.gmtime())} UTC\n")
    print(f"| shortest / median | {' | '.join(TOOLS)} |\n|---|{'---|' * len(TOOLS)}")
    for name, scenario in SCENARIOS.items():
        if not arguments.only or name in arguments.only:
            scenario(bench, arguments.rounds)
    for title, peaks in bench.memory.items():
        if "100" in title:
            few = {tool: [peak] for tool, peak in peaks.items() if tool in TOOLS[:2]}
            row(f"memory of the largest process: {title}", few, lambda values: f"{values[0]:.0f} MiB")
    print(f"\nload at the end: {load()}")


if __name__ == "__main__":
    main()
