#!/usr/bin/env python3
"""`ci server` against buildbot and laminar, in one run, as ratios.

    cargo build --release --bin ci
    benchmarks/server.py [--ci target/release/ci] [--rounds 10] [--only NAME]... [--without SERVER]...     --list: the names

Prints a Markdown table. buildbot comes from PyPI, laminar from Debian bullseye (by apt-get), both into a temporary directory.
All use SQLite, listen on loopback and run jobs as processes of this user on this machine (`ci`: its shell executor; buildbot:
one worker; laminar: itself). Clients run on the same cores as the servers. What a scenario asks of each is in its comment.
"""

import argparse
import base64
import contextlib
import hashlib
import hmac
import http.client
import json
import multiprocessing
import os
import pathlib
import shutil
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parent.parent
CORES = len(os.sched_getaffinity(0))
CLIENTS = 8
STORED = 100_000
PATIENCE = 180


def free_port():
    with socket.socket() as link:
        link.bind(("127.0.0.1", 0))
        return link.getsockname()[1]


def eventually(what, ask, every=0.01):
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        with contextlib.suppress(OSError, http.client.HTTPException, sqlite3.OperationalError):
            answer = ask()
            if answer:
                return answer
        time.sleep(every)
    raise TimeoutError(f"waited in vain: {what}")


def ask(port, path, token=None, method="GET", body=None):
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    if body is not None:
        headers["Content-Type"] = "application/json"
    link.request(method, path, None if body is None else json.dumps(body), headers)
    reply = link.getresponse()
    text = reply.read()
    link.close()
    return reply.status, text


def memory(pid, what="VmRSS"):
    """MiB."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(what + ":"):
            return int(line.split()[1]) / 1024
    return 0


def end(process):
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class OneProcess:
    """A server that is `self.process`."""

    def stop(self):
        end(self.process)

    def pids(self):
        return {"server": self.process.pid}


class Slipway(OneProcess):
    name = "ci server"
    stored_in = "data/slipway.db"
    # deliveries of each client, jobs that do nothing, jobs with a long log
    burst_each, noop_jobs, log_jobs = 4000, 100, 26

    def __init__(self, work, ci):
        self.work, self.ci, self.port, self.serial = work / "slipway", ci, free_port(), 0
        (self.work / "config/slipway").mkdir(parents=True)
        (self.work / "config/slipway/settings.yml").write_text("executor: shell\n")
        settings = {"data": str(self.work / "data"), "local_jobs": 2 * CORES, "reconcile_seconds": 3600}
        (self.work / "server.yml").write_text(json.dumps(settings))
        self.env = {"PATH": os.environ["PATH"], "HOME": str(self.work), "SLIPWAY_HOME": str(self.work), "LANG": "C.UTF-8",
                    "XDG_CONFIG_HOME": str(self.work / "config"), "SLIPWAY_ADMIN_PASSWORD": "correct horse battery"}
        self.start()
        self.token = "slp_benchmark"
        with sqlite3.connect(self.work / self.stored_in, timeout=30) as db:
            digest = hashlib.sha256(self.token.encode()).hexdigest()
            db.execute(
                "INSERT INTO tokens (user_id, name, hash, prefix, scopes, created_at) SELECT id, 'bench', ?, 'slp_', "
                "'[\"read\",\"write\",\"deploy\",\"admin\"]', 0 FROM users WHERE name = 'admin'", [digest])
        self.tree, bare = self.work / "tree", self.work / "app.git"
        self.run("git", "init", "-q", "--bare", "-b", "main", bare)
        self.run("git", "clone", "-q", bare, self.tree)
        self.push("nothing:\n  script: ['true']\n")
        body = {"path": "bench/app", "git_url": f"file://{bare}", "forge": "generic"}
        status, text = ask(self.port, "/api/v1/projects", self.token, "POST", body)
        made = json.loads(text)
        if status != 201:
            raise RuntimeError(f"no project: {text}")
        self.project, self.secret = made["project"]["id"], made["hook"]["secret"]
        self.hook = urllib.parse.urlsplit(made["hook"]["url"]).path

    def run(self, *command):
        said = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
        return subprocess.run(command, env=self.env, check=True, **said).stdout.strip()

    def start(self):
        log = (self.work / "server.log").open("a")
        command = [self.ci, "server", "--config", self.work / "server.yml", "--listen", f"127.0.0.1:{self.port}"]
        self.process = subprocess.Popen(command, env=self.env, cwd=self.work, stdout=log, stderr=log)
        eventually("the server", lambda: ask(self.port, "/healthz")[0] == 200, 0.002)
        self.answered = time.perf_counter()

    def push(self, pipeline):
        """A commit on main; sent to the repository, told to nobody."""
        self.serial += 1
        (self.tree / ".gitlab-ci.yml").write_text(pipeline)
        (self.tree / "serial").write_text(str(self.serial))
        git = ["git", "-C", self.tree, "-c", "user.name=b", "-c", "user.email=b@localhost"]
        self.run(*git, "add", "-A")
        self.run(*git, "commit", "-q", "-m", "Bench")
        self.run(*git, "push", "-q", "origin", "HEAD:main")
        return self.run(*git, "rev-parse", "HEAD")

    def delivery(self, sha, name):
        body = json.dumps({"type": "push", "ref": "refs/heads/main", "before": "0" * 40, "after": sha, "user": "b"})
        at = str(int(time.time()))
        key = base64.b64decode(self.secret.removeprefix("whsec_"))
        mac = hmac.new(key, f"{name}.{at}.{body}".encode(), "sha256").digest()
        headers = {"webhook-id": name, "webhook-timestamp": at, "Content-Type": "application/json",
                   "webhook-signature": "v1," + base64.b64encode(mac).decode()}
        return self.hook, body, headers

    def before_burst(self):
        path = f"/api/v1/projects/{self.project}"
        ask(self.port, path, self.token, "PATCH", {"paused": True})
        return lambda: ask(self.port, path, self.token, "PATCH", {"paused": False})

    def burst(self, number):
        return self.delivery(f"{number:040x}", f"burst-{number}")

    def begin(self, script, jobs=1):
        """Pushes and tells; when that began, and what identifies the run."""
        jobs = "".join(f"job-{n}:\n  variables: {{GIT_STRATEGY: none}}\n  script: [{json.dumps(script)}]\n" for n in range(jobs))
        sha = self.push(jobs)
        began = time.perf_counter()
        path, body, headers = self.delivery(sha, f"push-{sha}")
        send(self.port, path, body, headers)
        return began, sha

    def jobs_of(self, sha):
        """Ids and states."""
        with contextlib.closing(sqlite3.connect(f"file:{self.work / self.stored_in}?mode=ro", uri=True, timeout=30)) as db:
            return db.execute(
                "SELECT j.id, j.status, j.finished_at FROM jobs j JOIN pipelines p ON p.id = j.pipeline_id WHERE p.sha = ?", [sha]
            ).fetchall()

    def first_line(self, sha, text):
        def look():
            for job, *_ in self.jobs_of(sha):
                return text in ask(self.port, f"/api/v1/projects/{self.project}/jobs/{job}/log", self.token)[1]
        eventually("the first line", look, 0.005)

    def all_done(self, sha):
        jobs = eventually("all jobs", lambda: (jobs := self.jobs_of(sha)) and all(job[2] for job in jobs) and jobs, 0.05)
        bad = [job for job in jobs if job[1] != "success"]
        if bad:
            said = ask(self.port, f"/api/v1/projects/{self.project}/jobs/{bad[0][0]}/log", self.token)[1][-500:]
            raise RuntimeError(f"{len(bad)} of {len(jobs)} jobs: {bad[0]}: {said}")

    def log_bytes(self, sha):
        """On disk."""
        return sum((self.work / f"data/logs/{job[0]}.log").stat().st_size for job in self.jobs_of(sha))

    def stored(self, count):
        """So many jobs more, as copies of one; a hundred a pipeline."""
        with contextlib.closing(sqlite3.connect(self.work / self.stored_in, timeout=30)) as db, db:
            for table, many, others in [("pipelines", count // 100, {"iid": "iid + 1000000 + n.value"}),
                                        ("jobs", count, {"token": "NULL", "pipeline_id": "(SELECT MAX(id) FROM pipelines) - n.value % 1000"})]:
                columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})") if row[1] != "id"]
                values = [others.get(column, column) for column in columns]
                db.execute(
                    f"WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < {many}) "
                    f"INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(values)} FROM n, "
                    f"(SELECT * FROM {table} WHERE finished_at IS NOT NULL ORDER BY id LIMIT 1)")


MASTER = """\
from buildbot.plugins import schedulers, steps, util, worker
@util.renderer
def command(props):
    return ["sh", "-c", list(props.getBuild().allChanges())[-1].comments]
factory = util.BuildFactory([steps.ShellCommand(command=command)])
c = BuildmasterConfig = {{
    "workers": [worker.Worker("w", "pass", max_builds={slots})],
    "protocols": {{"pb": {{"port": "tcp:{pb}:interface=127.0.0.1"}}}},
    "builders": [util.BuilderConfig(name="b0", workernames=["w"], factory=factory, collapseRequests=False)],
    "schedulers": [schedulers.SingleBranchScheduler(name="s", change_filter=util.ChangeFilter(branch="main"), treeStableTimer=None, builderNames=["b0"])],
    "www": {{"port": "tcp:{port}:interface=127.0.0.1", "change_hook_dialects": {{"base": True}}}},
    "db": {{"db_url": "sqlite:///state.sqlite"}}, "buildbotURL": "http://127.0.0.1:{port}/", "buildbotNetUsageData": None,
}}
"""


class Buildbot:
    name = "buildbot"
    stored_in = "master/state.sqlite"
    burst_each, noop_jobs, log_jobs = 500, 40, 1

    def __init__(self, work, _):
        self.work, self.port, self.pb, self.serial = work / "buildbot", free_port(), free_port(), 0
        self.work.mkdir()
        self.bin = self.work / "venv/bin"
        subprocess.run([sys.executable, "-m", "venv", self.work / "venv"], check=True)
        subprocess.run([self.bin / "pip", "install", "-q", "buildbot", "buildbot-worker", "buildbot-www"], check=True)
        master, worker = self.work / "master", self.work / "worker"
        said = {"check": True, "stdout": subprocess.DEVNULL}
        subprocess.run([self.bin / "buildbot", "create-master", master], **said)
        settings = MASTER.format(slots=2 * CORES, pb=self.pb, port=self.port)
        (master / "master.cfg").write_text(settings)
        subprocess.run([self.bin / "buildbot-worker", "create-worker", worker, f"127.0.0.1:{self.pb}", "w", "pass"], **said)
        self.start()

    def start(self):
        said = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.master = subprocess.Popen([self.bin / "twistd", "-n", "--pidfile=", "-y", "buildbot.tac"], cwd=self.work / "master", **said)
        eventually("the master", lambda: ask(self.port, "/api/v2/builders")[0] == 200, 0.002)
        self.answered = time.perf_counter()
        self.worker = subprocess.Popen([self.bin / "twistd", "-n", "--pidfile=", "-y", "buildbot.tac"], cwd=self.work / "worker", **said)
        connected = lambda: json.loads(ask(self.port, "/api/v2/workers")[1])["workers"][0]["connected_to"]
        eventually("the worker", connected, 0.05)

    def stop(self):
        end(self.worker)
        end(self.master)

    def pids(self):
        return {"master": self.master.pid, "worker": self.worker.pid}

    def change(self, branch, revision, comments):
        body = urllib.parse.urlencode({"branch": branch, "revision": revision, "comments": comments, "author": "b"})
        return "/change_hook/base", body, {"Content-Type": "application/x-www-form-urlencoded"}

    def before_burst(self):
        return lambda: None

    def burst(self, number):
        return self.change("no-scheduler-listens", f"{number:040x}", "Bench")

    def begin(self, script, jobs=1):
        first = self.serial
        began = time.perf_counter()
        for _ in range(jobs):
            self.serial += 1
            send(self.port, *self.change("main", str(self.serial), script))
        return began, range(first + 1, self.serial + 1)

    def first_line(self, serials, text):
        def look():
            status, said = ask(self.port, f"/api/v2/builds/{serials[-1]}/steps/1/logs/stdio/raw")
            return status == 200 and text in said
        eventually("the first line", look, 0.005)

    def all_done(self, serials):
        def look():
            with contextlib.closing(sqlite3.connect(f"file:{self.work / self.stored_in}?mode=ro", uri=True, timeout=30)) as db:
                count = "SELECT COUNT(*), SUM(results <> 0) FROM builds WHERE complete_at IS NOT NULL"
                done, bad = db.execute(count).fetchone()
                if bad:
                    raise RuntimeError(f"{bad} builds failed")
                return done >= serials[-1]
        eventually("all builds", look, 0.05)

    def log_bytes(self, serials):
        number = lambda path: len(ask(self.port, path)[1])
        return sum(number(f"/api/v2/builds/{serial}/steps/1/logs/stdio/raw") for serial in serials)

    def stored(self, count):
        with contextlib.closing(sqlite3.connect(self.work / self.stored_in, timeout=30)) as db, db:
            columns = [row[1] for row in db.execute("PRAGMA table_info(builds)") if row[1] != "id"]
            values = ["number + 1000000 + n.value" if column == "number" else column for column in columns]
            db.execute(
                f"WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < {count}) "
                f"INSERT INTO builds ({', '.join(columns)}) SELECT {', '.join(values)} FROM n, "
                "(SELECT * FROM builds WHERE complete_at IS NOT NULL ORDER BY id LIMIT 1)")


class Laminar(OneProcess):
    """Takes no webhooks, so `laminarc queue` asks it; what waits is in its memory alone."""

    name = "laminar"
    stored_in = "laminar.sqlite"
    burst_each, noop_jobs, log_jobs = 0, 100, 26

    def __init__(self, work, _):
        self.work, self.port, self.serial = work / "laminar", free_port(), 0
        (self.work / "cfg/jobs").mkdir(parents=True)
        (self.work / "cfg/contexts").mkdir()
        self.unpack(self.work / "debian")
        (self.work / "cfg/contexts/default.conf").write_text(f"EXECUTORS={2 * CORES}\n")
        job = self.work / "cfg/jobs/b.run"
        job.write_text('#!/bin/sh\nsh -c "$SCRIPT"\n')
        job.chmod(0o755)
        rpc = f"unix:{self.work}/rpc"
        self.env = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "LAMINAR_HOME": str(self.work), "LAMINAR_HOST": rpc, "LAMINAR_BIND_RPC": rpc,
                    "LAMINAR_BIND_HTTP": f"127.0.0.1:{self.port}", "LD_LIBRARY_PATH": str(self.work / "debian/usr/lib/x86_64-linux-gnu")}
        self.start()

    def unpack(self, into):
        """Its packages, with lists of their own: nothing is installed."""
        (into / "lists").mkdir(parents=True)
        (into / "cache").mkdir()
        source = "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian bullseye main\n"
        (into / "bullseye.list").write_text(source)
        own = {"Etc::sourcelist": into / "bullseye.list", "Etc::sourceparts": "/dev/null", "State::lists": into / "lists", "Cache": into / "cache"}
        apt = ["apt-get", "-qq", *(word for name, path in own.items() for word in ["-o", f"Dir::{name}={path}"])]
        quiet = {"check": True, "cwd": into, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run([*apt, "update"], **quiet)
        subprocess.run([*apt, "download", "laminard", "laminarc", "libcapnp-0.7.0"], **quiet)
        for package in into.glob("*.deb"):
            subprocess.run(["dpkg", "-x", package, into], **quiet)

    def start(self):
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen([self.work / "debian/usr/sbin/laminard"], env=self.env, cwd=self.work, **quiet)
        eventually("laminar", lambda: ask(self.port, "/")[0] == 200, 0.002)
        self.answered = time.perf_counter()

    def begin(self, script, jobs=1):
        first = self.serial
        self.serial += jobs
        began = time.perf_counter()
        command = [self.work / "debian/usr/bin/laminarc", "queue", *["b", f"SCRIPT={script}"] * jobs]
        subprocess.run(command, env=self.env, check=True, stdout=subprocess.DEVNULL)
        return began, range(first + 1, self.serial + 1)

    def first_line(self, serials, text):
        """Its log has no end while the job runs, so it is read line by line."""
        def look():
            link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
            with contextlib.closing(link):
                link.request("GET", f"/log/b/{serials[-1]}")
                reply = link.getresponse()
                return reply.status == 200 and any(line == text.strip() + b"\n" for line in reply)
        eventually("the first line", look, 0.005)

    def all_done(self, serials):
        def look():
            with contextlib.closing(sqlite3.connect(f"file:{self.work / self.stored_in}?mode=ro", uri=True, timeout=30)) as db:
                done, bad = db.execute("SELECT COUNT(*), SUM(result <> 5) FROM builds WHERE number <= ? AND completedAt", [serials[-1]]).fetchone()
                if bad:
                    raise RuntimeError(f"{bad} builds failed")
                return done >= serials[-1]
        eventually("all builds", look, 0.05)

    def log_bytes(self, serials):
        with contextlib.closing(sqlite3.connect(f"file:{self.work / self.stored_in}?mode=ro", uri=True, timeout=30)) as db:
            return db.execute("SELECT SUM(outputLen) FROM builds WHERE number BETWEEN ? AND ?", [serials[0], serials[-1]]).fetchone()[0]

    def stored(self, count):
        with contextlib.closing(sqlite3.connect(self.work / self.stored_in, timeout=30)) as db, db:
            columns = [row[1] for row in db.execute("PRAGMA table_info(builds)")]
            values = ["number + 1000000 + n.value" if column == "number" else column for column in columns]
            db.execute(
                f"WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < {count}) "
                f"INSERT INTO builds ({', '.join(columns)}) SELECT {', '.join(values)} FROM n, (SELECT * FROM builds ORDER BY number DESC LIMIT 1)")


def send(port, path, body, headers):
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    link.request("POST", path, body, headers)
    reply = link.getresponse()
    text = reply.read()
    link.close()
    if reply.status not in (200, 202):
        raise RuntimeError(f"{reply.status}: {text[:200]}")


def client(port, requests, seconds, answers):
    """One of eight: one connection, one request after the other."""
    link, times, until = http.client.HTTPConnection("127.0.0.1", port, timeout=60), [], time.perf_counter() + seconds
    for path, body, headers in requests:
        start = time.perf_counter()
        if start > until:
            break
        link.request("POST", path, body, headers)
        reply = link.getresponse()
        reply.read()
        if reply.status not in (200, 202):
            answers.put(f"a delivery was answered with {reply.status}")
            return
        times.append(time.perf_counter() - start)
    answers.put(times)


def accept(servers, _):
    """Signed deliveries (buildbot: changes, unsigned) from which nothing runs: the project is paused, no scheduler listens."""
    rates, tails = {}, {}
    for server in servers:
        each = server.burst_each
        if not each:
            continue
        after = server.before_burst()
        shares = [[server.burst(one * each + n) for n in range(each)] for one in range(CLIENTS)]
        answers = multiprocessing.Queue()
        start = time.perf_counter()
        processes = [multiprocessing.Process(target=client, args=(server.port, share, 10, answers)) for share in shares]
        for process in processes:
            process.start()
        lists = [answers.get() for _ in processes]
        took = time.perf_counter() - start
        for process in processes:
            process.join()
        if wrong := [one for one in lists if isinstance(one, str)]:
            raise RuntimeError(wrong[0])
        times = sorted(time for one in lists for time in one)
        rates[server.name] = len(times) / took
        tails[server.name] = times[int(len(times) * 0.99)]
        after()
    row(f"deliveries accepted and stored a second, {CLIENTS} clients", rates, "{:.0f}", more_is_better=True)
    row("99 of 100 are answered within", tails, shown)


def first_line(servers, rounds):
    """From the request of the hook (laminar: of `laminarc queue`) until the API gives the job's first line."""
    times = {server.name: [] for server in servers}
    for number in range(rounds + 1):
        for server in servers:
            began, run = server.begin("echo the-first-line; sleep 0.2")
            # the command is in both logs as well
            server.first_line(run, b"\nthe-first-line\n")
            if number:
                times[server.name].append(time.perf_counter() - began)
            server.all_done(run)
    row("hook to first line of the log, median", {name: statistics.median(all) for name, all in times.items()}, shown)


def noop(servers, _):
    """`ci`: one pipeline of 100 jobs; buildbot: 40 changes, a build each; laminar: 100 runs asked for at once. All without sources."""
    rates = {}
    for server in servers:
        count = server.noop_jobs
        began, run = server.begin("true", count)
        # a busy buildbot may forget a change: then it has no figure
        with contextlib.suppress(TimeoutError):
            server.all_done(run)
            rates[server.name] = count / (time.perf_counter() - began)
    row("jobs a second that do nothing", rates, "{:.1f}", more_is_better=True)


def log(servers, _):
    """26 jobs (buildbot: one, as it takes so long) that write as fast as they can, each just below GitLab's limit of 4 MiB
    in lines of 80 bytes. All of it must be stored afterwards."""
    rates, peaks = {}, {}
    zeros = 3_000_000
    text = -(-zeros // 3) * 4
    each = text + -(-text // 79)
    for server in servers:
        jobs = server.log_jobs
        began, run = server.begin(f"head -c {zeros} /dev/zero | base64 -w 79", jobs)
        server.all_done(run)
        took = time.perf_counter() - began
        if (kept := server.log_bytes(run)) < jobs * each:
            raise RuntimeError(f"{server.name} stored {kept} of {jobs * each} bytes")
        rates[server.name] = jobs * each / 2**20 / took
        peaks[server.name] = sum(memory(pid, "VmHWM") for pid in server.pids().values())
    row("logs of 26 jobs (buildbot: 1), MiB a second", rates, "{:.1f}", more_is_better=True)
    row("peak memory afterwards (buildbot: master and worker), MiB", peaks, "{:.0f}")


def idle(servers, _):
    time.sleep(5)
    memories = {server.name: sum(memory(pid) for pid in server.pids().values()) for server in servers}
    row("memory when idle (buildbot: master and worker), MiB", memories, "{:.0f}")


def start(servers, _):
    """From the start of the process until its API answers, with so many jobs stored."""
    times = {}
    for server in servers:
        server.all_done(server.begin("true")[1])
        server.stop()
        server.stored(STORED)
        start = time.perf_counter()
        server.start()
        times[server.name] = server.answered - start
    row(f"start with {STORED:,} jobs stored", times, shown)


SCENARIOS = {scenario.__name__: scenario for scenario in [idle, accept, first_line, noop, log, start]}


KINDS = [Slipway, Buildbot, Laminar]


def shown(seconds):
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def row(title, values, text, more_is_better=False):
    text = text if callable(text) else text.format
    cells = []
    for name in [kind.name for kind in KINDS]:
        own = values.get(Slipway.name)
        if name not in values:
            cells.append("")
        elif name == Slipway.name or not own:
            cells.append(text(values[name]))
        else:
            times = own / values[name] if more_is_better else values[name] / own
            cells.append(f"{text(values[name])} **{times:.3g}× worse**" if times >= 1 else f"{text(values[name])} **{1 / times:.3g}× better**")
    print(f"| {title} | {' | '.join(cells)} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ci", default=ROOT / "target/release/ci", type=pathlib.Path)
    parser.add_argument("--rounds", default=10, type=int)
    parser.add_argument("--only", action="append", choices=SCENARIOS, metavar="NAME")
    parser.add_argument("--without", action="append", default=[], choices=[kind.name for kind in KINDS[1:]], metavar="SERVER")
    parser.add_argument("--list", action="store_true")
    arguments = parser.parse_args()
    if arguments.list:
        return print(*SCENARIOS, sep="\n")
    if not arguments.ci.exists():
        sys.exit(f"server: there is no {arguments.ci}: cargo build --release --bin ci")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    work, servers = pathlib.Path(tempfile.mkdtemp(prefix="slipway-bench.", dir="/var/tmp")), []
    load = lambda: " ".join(pathlib.Path("/proc/loadavg").read_text().split()[:3])
    try:
        for kind in [kind for kind in KINDS if kind.name not in arguments.without]:
            try:
                servers.append(kind(work, arguments.ci.resolve()))
            except (OSError, subprocess.CalledProcessError, TimeoutError) as error:
                print(f"without {kind.name}: {error}", file=sys.stderr)
        print(f"{CORES} cores, load {load()}, {time.strftime('%F %H:%M', time.gmtime())} UTC\n")
        print(f"| | {' | '.join(kind.name for kind in KINDS)} |\n|---{'|---' * len(KINDS)}|")
        for name, scenario in SCENARIOS.items():
            if not arguments.only or name in arguments.only:
                scenario(servers, arguments.rounds)
        print(f"\nload at the end: {load()}")
    finally:
        for server in servers:
            with contextlib.suppress(Exception):
                server.stop()
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
