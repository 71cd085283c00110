"""Builds container images for tests and pushes them into a registry's directory. Started by test-images.sh."""

import contextlib
import fcntl
import gzip
import hashlib
import io
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.request

CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "slipway/test-images"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
OCI, DOCKER = "application/vnd.oci.image.", "application/vnd.docker."

POSTGRES = r"""#!/bin/sh
# Makes the cluster on the first start, then becomes the server: the variables are those of the hub's image.
set -e
: "${POSTGRES_USER:=postgres}" "${PGDATA:=/var/lib/postgresql/data}"
: "${POSTGRES_DB:=$POSTGRES_USER}" "${POSTGRES_HOST_AUTH_METHOD:=scram-sha-256}"
export PGDATA
case ${1:-} in -*) set -- postgres "$@" ;; esac
if [ "${1:-}" != postgres ]; then exec "$@"; fi
if [ "$(id -u)" = 0 ]; then
    mkdir -p "$PGDATA" /var/run/postgresql
    chown -R postgres:postgres "$PGDATA" /var/run/postgresql
    chmod 700 "$PGDATA"
    exec setpriv --reuid postgres --regid postgres --init-groups "$0" "$@"
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    if [ -z "$POSTGRES_PASSWORD" ] && [ "$POSTGRES_HOST_AUTH_METHOD" != trust ]; then
        echo "Error: Database is uninitialized and superuser password is not specified." >&2
        echo "       You must specify POSTGRES_PASSWORD to a non-empty value for the superuser." >&2
        exit 1
    fi
    printf '%s\n' "$POSTGRES_PASSWORD" >/tmp/password
    if [ -n "$POSTGRES_PASSWORD" ]; then file=--pwfile=/tmp/password; else file=; fi
    initdb -U "$POSTGRES_USER" $file --no-sync $POSTGRES_INITDB_ARGS
    rm /tmp/password
    echo "host all all all $POSTGRES_HOST_AUTH_METHOD" >>"$PGDATA/pg_hba.conf"
    pg_ctl -w start -o "-c listen_addresses= -c fsync=off"
    if [ "$POSTGRES_DB" != postgres ]; then
        createdb --no-password -U "$POSTGRES_USER" "$POSTGRES_DB"
    fi
    for file in /docker-entrypoint-initdb.d/*.sql; do
        [ ! -f "$file" ] || psql -v ON_ERROR_STOP=1 -U "$POSTGRES_USER" -d "$POSTGRES_DB" -f "$file"
    done
    pg_ctl -w -m fast stop
    echo "PostgreSQL init process complete; ready for start up."
fi
exec "$@" -c "listen_addresses=*"
"""

REDIS = r"""#!/bin/sh
set -e
case ${1:-} in -* | *.conf) set -- redis-server "$@" ;; esac
if [ "${1:-}" = redis-server ]; then
    if [ "$(id -u)" = 0 ]; then
        chown redis:redis .
        exec setpriv --reuid redis --regid redis --init-groups "$0" "$@"
    fi
    # Debian's server answers only loopback where no password is set; the hub's answers all
    exec "$@" --protected-mode no --bind '* -::*'
fi
exec "$@"
"""

NGINX = "#!/bin/sh\nset -e\nexec \"$@\"\n"

# packages, commands in the image's root, files, configuration, other names in the registry
DERIVED = {
    "postgres": {
        "packages": "postgresql-15 postgresql-client-15",
        "run": "ln -s /usr/lib/postgresql/15/bin/* /usr/local/bin/ 2>/dev/null || true; mkdir -p /docker-entrypoint-initdb.d",
        "files": {"usr/local/bin/docker-entrypoint.sh": POSTGRES},
        "config": {
            "Entrypoint": ["docker-entrypoint.sh"], "Cmd": ["postgres"], "ExposedPorts": {"5432/tcp": {}},
            "Env": [f"PATH={PATH}", "PGDATA=/var/lib/postgresql/data", "PG_MAJOR=15"],
            "Volumes": {"/var/lib/postgresql/data": {}}, "StopSignal": "SIGINT",
        },
        "tags": ["15", "latest"],
    },
    "redis": {
        "packages": "redis-server redis-tools",
        "run": "mkdir -p /data && chown redis:redis /data",
        "files": {"usr/local/bin/docker-entrypoint.sh": REDIS},
        "config": {
            "Entrypoint": ["docker-entrypoint.sh"], "Cmd": ["redis-server"], "ExposedPorts": {"6379/tcp": {}},
            "Env": [f"PATH={PATH}"], "WorkingDir": "/data", "Volumes": {"/data": {}},
        },
        "tags": ["7", "latest"],
    },
    "nginx": {
        "packages": "nginx-light",
        "run": "ln -sf /dev/stdout /var/log/nginx/access.log; ln -sf /dev/stderr /var/log/nginx/error.log;"
        " mkdir -p /usr/share/nginx/html; printf '<h1>Welcome to nginx!</h1>\\n' >/usr/share/nginx/html/index.html;"
        " sed -i 's,root /var/www/html,root /usr/share/nginx/html,' /etc/nginx/sites-available/default",
        "files": {"docker-entrypoint.sh": NGINX},
        "config": {
            "Entrypoint": ["/docker-entrypoint.sh"], "Cmd": ["nginx", "-g", "daemon off;"],
            "ExposedPorts": {"80/tcp": {}}, "Env": [f"PATH={PATH}"], "StopSignal": "SIGQUIT",
        },
        "tags": ["1", "latest"],
    },
    "gcc": {"packages": "gcc libc6-dev make", "tags": ["12", "latest"]},
    "python": {
        "packages": "python3 python3-venv python3-pytest python3-psycopg2",
        "run": "ln -s python3 /usr/bin/python", "tags": ["3", "latest"], "config": {"Cmd": ["python3"]},
    },
    "node": {"packages": "nodejs", "tags": ["18", "latest"], "config": {"Cmd": ["node"]}},
    "rust": {"packages": "rustc cargo gcc libc6-dev", "tags": ["1", "latest"]},
    "erlang": {
        "packages": "erlang-base erlang-dev erlang-eunit erlang-tools erlang-syntax-tools erlang-parsetools erlang-crypto"
        " erlang-ssl erlang-public-key erlang-asn1 erlang-inets erlang-xmerl erlang-common-test erlang-runtime-tools rebar3",
        "tags": ["25", "latest"],
    },
}
SMALL = ["tiny", "many", "deep", "noshell"]
NAMES = [*SMALL, "base", *DERIVED]


def say(text):
    print(f"test-images: {text}", file=sys.stderr, flush=True)


def as_root(*command):
    return [*([] if os.geteuid() == 0 else ["sudo", "-n"]), *command]


class Layer:
    """A tar in memory, written entry by entry."""

    def __init__(self):
        self.bytes = io.BytesIO()
        self.tar = tarfile.open(fileobj=self.bytes, mode="w", format=tarfile.PAX_FORMAT)

    def add(self, name, kind=tarfile.REGTYPE, content=b"", mode=0o644, uid=0, gid=0, link="", mtime=1700000000, pax=None):
        entry = tarfile.TarInfo(name)
        entry.type, entry.mode, entry.uid, entry.gid = kind, mode, uid, gid
        entry.linkname, entry.mtime, entry.size = link, mtime, len(content)
        entry.pax_headers = pax or {}
        if kind == tarfile.CHRTYPE:
            entry.devmajor, entry.devminor = 1, 3
        self.tar.addfile(entry, io.BytesIO(content))
        return self

    def dir(self, name, mode=0o755, **rest):
        return self.add(name, tarfile.DIRTYPE, mode=mode, **rest)

    def done(self):
        self.tar.close()
        return self.bytes.getvalue()


def busybox(work):
    """Debian's static busybox: a whole userland in one file."""
    subprocess.run(["apt-get", "download", "-qq", "busybox-static"], cwd=work, check=True, stdout=sys.stderr)
    (deb,) = work.glob("busybox-static*.deb")
    subprocess.run(["dpkg-deb", "-x", deb, work / "busybox"], check=True)
    return (work / "busybox/bin/busybox").read_bytes()


def tiny_layer(program):
    layer = Layer()
    for name in ["bin", "etc", "usr", "usr/bin", "var", "root", "home"]:
        layer.dir(name, mode=0o700 if name == "root" else 0o755)
    layer.dir("tmp", mode=0o1777).dir("home/app", mode=0o750, uid=1000, gid=1000)
    layer.add("bin/busybox", content=program, mode=0o755)
    for applet in APPLETS:
        layer.add(f"bin/{applet}", tarfile.SYMTYPE, link="busybox", mode=0o777)
    layer.add("usr/bin/env", tarfile.SYMTYPE, link="../../bin/busybox", mode=0o777)
    layer.add("etc/passwd", content=b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n")
    layer.add("etc/group", content=b"root:x:0:\napp:x:1000:\nextra:x:2000:app\n")
    return layer.done()


APPLETS = """ash awk base64 basename cat chmod chown cp cut date dd df diff dirname du echo egrep expr false find grep
 gunzip gzip head hostname id install ip kill ln ls md5sum mkdir mkfifo mknod mktemp mount mv nc od ping printf ps pwd
 readlink realpath rm rmdir sed seq sh sha256sum sleep sort stat su sync tail tar tee test timeout touch tr true tty
 umount uname uniq wc wget which whoami xargs yes httpd setsid setpriv nslookup hexdump""".split()


def many_layers(program):
    """What layers can hold, in several that change one another."""
    first = Layer().dir("data", mode=0o750, uid=1000, gid=1000, mtime=1600000000)
    for name in ["keep", "replaced", "removed", "becomes-dir"]:
        first.add(f"data/{name}", content=name.encode() + b" 1\n", uid=1000, gid=1000)
    first.dir("data/opaque").add("data/opaque/old", content=b"old\n")
    first.dir("data/gone").add("data/gone/inside", content=b"x\n")
    first.dir("data/becomes-file").add("data/becomes-file/x", content=b"x\n")
    first.add("data/original", content=b"shared\n")
    first.add("data/hard", tarfile.LNKTYPE, link="data/original")
    first.add("data/fifo", tarfile.FIFOTYPE)
    first.add("data/null", tarfile.CHRTYPE, mode=0o666)
    first.add("data/setuid", content=program, mode=0o4755)
    first.add("data/absolute", tarfile.SYMTYPE, link="/etc/passwd", mode=0o777)
    first.add("data/dangling", tarfile.SYMTYPE, link="../../../../nowhere", mode=0o777)
    first.add("data/attribute", content=b"x\n", pax={"SCHILY.xattr.user.colour": "blue"})
    first.add("data/" + "long-" * 50 + "name", content=b"long\n")
    first.add("data/umlaut-\u00fc", content="\u00fc\n".encode())
    second = Layer()
    # parents are missing on purpose: their modes and owners are those of the layer below
    second.add("data/replaced", content=b"replaced 2\n", mode=0o600)
    second.add("data/.wh.removed").add("data/.wh.gone")
    second.add("data/opaque/.wh..wh..opq").add("data/opaque/new", content=b"new\n")
    second.add("data/.wh.becomes-dir").dir("data/becomes-dir").add("data/becomes-dir/file", content=b"y\n")
    second.add("data/becomes-file", content=b"a file\n")
    third = Layer().add("data/gone", content=b"back as a file\n")
    third.add("entry.sh", content=b"#!/bin/sh\nentry=ran\nexport entry\nexec \"$@\"\n", mode=0o755)
    return [first.done(), second.done(), third.done()]


def base_tar(work):
    kept = CACHE / "base.tar"
    if not kept.exists():
        say("making `base` (Debian bookworm)")
        made = work / "base.tar"
        excluded = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("man", "locale", "doc", "info")]
        # where an ordinary user may not make a user namespace with many ids, root does it
        root = as_root("mmdebstrap", "--mode=root")
        command = [*root, "--variant=minbase", "--include=ca-certificates,git,procps", *excluded, "-q", "bookworm"]
        subprocess.run([*command, "-"], check=True, stdout=made.open("wb"))
        made.rename(kept)
    return kept


def derive(base, recipe, out):
    """As root in a mount namespace of its own: `recipe` over `base`, and the difference as a tar."""
    recipe = json.loads(pathlib.Path(recipe).read_text())
    with tempfile.TemporaryDirectory(dir=pathlib.Path(out).parent) as place:
        place = pathlib.Path(place)
        for name in ["lower", "upper", "work", "root"]:
            (place / name).mkdir()
        upper, root = place / "upper", place / "root"
        subprocess.run(["tar", "-xpf", base, "--numeric-owner", "-C", place / "lower"], check=True)
        options = f"lowerdir={place}/lower,upperdir={upper},workdir={place}/work"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, root], check=True)
        try:
            fill(root, recipe)
        finally:
            subprocess.run(["umount", "-R", root], check=True)
        for scrap in ["etc/resolv.conf", "usr/sbin/policy-rc.d"]:
            with contextlib.suppress(FileNotFoundError):
                (upper / scrap).unlink()
        with tarfile.open(out, "w", format=tarfile.PAX_FORMAT) as tar:
            pack(upper, "", tar)


def fill(root, recipe):
    (root / "etc/resolv.conf").unlink(missing_ok=True)
    shutil.copyfile("/etc/resolv.conf", root / "etc/resolv.conf")
    (root / "usr/sbin/policy-rc.d").write_text("#!/bin/sh\nexit 101\n")
    (root / "usr/sbin/policy-rc.d").chmod(0o755)
    subprocess.run(["mount", "-t", "proc", "proc", root / "proc"], check=True)
    subprocess.run(["mount", "--bind", "/dev", root / "dev"], check=True)
    script = f"""set -e
        export DEBIAN_FRONTEND=noninteractive PATH={PATH} LC_ALL=C
        apt-get -qq update
        apt-get -qq -y -o Dpkg::Use-Pty=0 install --no-install-recommends {recipe["packages"]} >/dev/null
        {recipe.get("run", ":")}
        apt-get clean
        rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/log/apt /var/log/dpkg.log /var/cache/debconf/*-old"""
    subprocess.run(["chroot", root, "/bin/sh", "-c", script], check=True, stdout=sys.stderr)
    for name, text in recipe.get("files", {}).items():
        (root / name).write_text(text)
        (root / name).chmod(0o755)


def pack(directory, prefix, tar):
    """The upper directory of an overlay as a layer."""
    for entry in sorted(os.scandir(directory), key=lambda entry: entry.name):
        name, info = prefix + entry.name, entry.stat(follow_symlinks=False)
        if (info.st_mode & 0o170000) == 0o020000 and info.st_rdev == 0:
            tar.addfile(tarfile.TarInfo(f"{prefix}.wh.{entry.name}"))
            continue
        if (info.st_mode & 0o170000) == 0o140000:
            continue
        tar.add(entry.path, name, recursive=False)
        if entry.is_dir(follow_symlinks=False):
            with contextlib.suppress(OSError):
                if os.getxattr(entry.path, "trusted.overlay.opaque") == b"y":
                    tar.addfile(tarfile.TarInfo(f"{name}/.wh..wh..opq"))
            pack(entry.path, f"{name}/", tar)


class Registry:
    """docker-registry on a port that the kernel chose."""

    def __init__(self):
        self.directory = CACHE / "registry"
        # what a mirror of Docker Hub is asked for when a job says `image: python:3`
        library = self.directory / "docker/registry/v2/repositories/library"
        library.mkdir(parents=True, exist_ok=True)
        for name in DERIVED:
            with contextlib.suppress(FileExistsError):
                (library / name).symlink_to(f"../{name}")
        config = {
            "version": "0.1", "log": {"level": "info"}, "http": {"addr": "127.0.0.1:0"},
            "storage": {"filesystem": {"rootdirectory": str(self.directory)}},
        }
        with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
            json.dump(config, file)
            file.flush()
            self.process = subprocess.Popen(["docker-registry", "serve", file.name], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            said = ""
            for line in self.process.stderr:
                said += line
                if found := re.search(r"listening on (127\.0\.0\.1:\d+)", line):
                    self.address = found[1]
                    break
            else:
                raise SystemExit(f"test-images: docker-registry did not start:\n{said}")
        # nobody reads what it says from now on; a full pipe would stop it
        subprocess.Popen(["cat"], stdin=self.process.stderr, stdout=subprocess.DEVNULL)

    def close(self):
        self.process.terminate()
        self.process.wait()

    def request(self, method, url, data=None, kind=None):
        url = url if url.startswith("http") else f"http://{self.address}/v2/{url}"
        headers = {"Content-Type": kind or "application/octet-stream"}
        return urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method))

    def blob(self, name, data, kind):
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        place = self.request("POST", f"{name}/blobs/uploads/", b"").headers["Location"]
        self.request("PUT", f"{place}{'&' if '?' in place else '?'}digest={digest}", data)
        return {"mediaType": kind, "digest": digest, "size": len(data)}

    def manifest(self, name, tag, document):
        data = json.dumps(document).encode()
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        self.request("PUT", f"{name}/manifests/{tag or digest}", data, document["mediaType"])
        return {"mediaType": document["mediaType"], "digest": digest, "size": len(data)}

    def image(self, name, tag, layers, config=None, docker=False, zstd=False, architecture="amd64"):
        types = {
            "manifest": DOCKER + "distribution.manifest.v2+json" if docker else OCI + "manifest.v1+json",
            "config": DOCKER + "container.image.v1+json" if docker else OCI + "config.v1+json",
            "layer": DOCKER + "image.rootfs.diff.tar.gzip" if docker else OCI + f"layer.v1.tar+{'zstd' if zstd else 'gzip'}",
        }
        document = {
            "architecture": architecture, "os": "linux", "config": {"Env": [f"PATH={PATH}"], "Cmd": ["sh"], **(config or {})},
            "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest() for layer in layers]},
        }
        packed = [zstandard(layer) if zstd else gzip.compress(layer, 4, mtime=0) for layer in layers]
        return self.manifest(name, tag, {
            "schemaVersion": 2, "mediaType": types["manifest"],
            "config": self.blob(name, json.dumps(document).encode(), types["config"]),
            "layers": [self.blob(name, data, types["layer"]) for data in packed],
        })

    def index(self, name, tag, manifests):
        """Of (architecture, variant, descriptor)."""
        entries = []
        for architecture, variant, descriptor in manifests:
            platform = {"os": "linux", "architecture": architecture, **({"variant": variant} if variant else {})}
            entries.append({**descriptor, "platform": platform})
        self.manifest(name, tag, {"schemaVersion": 2, "mediaType": OCI + "index.v1+json", "manifests": entries})


def zstandard(data):
    return subprocess.run(["zstd", "-qc"], input=data, stdout=subprocess.PIPE, check=True).stdout


def build(name, registry, work):
    if name in SMALL:
        build_small(name, registry, work)
        return
    base = base_tar(work)
    if name == "base":
        descriptor = registry.image("base", "bookworm", [base.read_bytes()], {"Cmd": ["bash"]})
        registry.index("base", "latest", [("amd64", "", descriptor)])
        return
    recipe = DERIVED[name]
    (work / "recipe.json").write_text(json.dumps(recipe))
    out = work / "layer.tar"
    own = pathlib.Path(__file__).resolve()
    subprocess.run(as_root("unshare", "-m", sys.executable, own, "--derive", base, work / "recipe.json", out), check=True)
    layers = [base.read_bytes(), out.read_bytes()]
    for tag in recipe["tags"]:
        registry.image(name, tag, layers, recipe.get("config"))


def build_small(name, registry, work):
    program = busybox(work)
    tiny = tiny_layer(program)
    if name == "tiny":
        amd64 = registry.image("tiny", None, [tiny])
        foreign = Layer().add("etc-of-another-machine", content=b"arm\n").done()
        arm64 = registry.image("tiny", None, [foreign], architecture="arm64")
        arm = registry.image("tiny", None, [foreign, Layer().dir("v6").done()], architecture="arm")
        arm7 = registry.image("tiny", None, [foreign, Layer().dir("v7").done()], architecture="arm")
        registry.index("tiny", "latest", [("arm64", "v8", arm64), ("arm", "v6", arm), ("arm", "v7", arm7), ("amd64", "", amd64)])
        registry.image("tiny", "docker", [tiny], docker=True)
        registry.image("tiny", "zstd", [tiny], zstd=True)
        # GitLab's images for jobs often have these two
        registry.image("tiny", "user", [tiny], {"User": "app", "WorkingDir": "/home/app"})
        registry.image("tiny", "entrypoint", [tiny, many_layers(program)[2]], {"Entrypoint": ["/entry.sh"]})
    elif name == "many":
        config = {
            "User": "app:extra", "WorkingDir": "/data/work", "Entrypoint": ["/entry.sh"], "Cmd": ["sh", "-c", "id"],
            "Env": [f"PATH={PATH}", "GREETING=hello = world", "EMPTY="], "Volumes": {"/data/volume": {}},
            "ExposedPorts": {"8080/tcp": {}, "53/udp": {}, "80": {}},
            "Healthcheck": {"Test": ["CMD-SHELL", "test -e /tmp/ready"], "Interval": 2000000000, "Retries": 4},
        }
        layers = [tiny, *many_layers(program)]
        registry.image("many", "latest", layers, config)
        registry.image("many", "docker", layers, config, docker=True)
        registry.image("many", "zstd", layers, config, zstd=True)
    elif name == "deep":
        layers = [tiny]
        for number in range(129):
            layers.append(Layer().add(f"layer-{number}", content=b"x").add("top", content=f"{number}\n".encode()).done())
        registry.image("deep", "latest", layers)
    else:
        layer = Layer().dir("bin").add("bin/sleep", content=program, mode=0o755)
        layer.add("bin/echo", tarfile.LNKTYPE, link="bin/sleep", mode=0o755)
        registry.image("noshell", "latest", [layer.done()], {"Cmd": ["/bin/echo", "hello"]})


def build_missing(names):
    CACHE.mkdir(parents=True, exist_ok=True)
    recipe = hashlib.sha256(pathlib.Path(__file__).read_bytes()).hexdigest()
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # small images follow this file; large ones their recipe, because they take long
        def mark(name):
            key = json.dumps(DERIVED[name]) if name in DERIVED else recipe if name in SMALL else "bookworm"
            return hashlib.sha256(key.encode()).hexdigest()
        def built(name):
            file = CACHE / f"{name}.built"
            return file.exists() and file.read_text() == mark(name)
        missing = [name for name in names if not built(name)]
        if not missing:
            return
        registry = Registry()
        try:
            for name in missing:
                say(f"building `{name}`")
                with tempfile.TemporaryDirectory(dir=CACHE) as work:
                    build(name, registry, pathlib.Path(work))
                (CACHE / f"{name}.built").write_text(mark(name))
        finally:
            registry.close()


def main(arguments):
    if arguments[:1] == ["--derive"]:
        return derive(*arguments[1:])
    if arguments == ["--list"]:
        return print(*NAMES, sep="\n")
    serve = arguments[:1] == ["--serve"]
    names = arguments[1:] if serve else arguments
    for name in names:
        if name not in NAMES:
            raise SystemExit(f"test-images: there is no image `{name}`; there are: {', '.join(NAMES)}")
    build_missing(names or NAMES)
    if not serve:
        return print(CACHE / "registry")
    registry = Registry()
    try:
        print(registry.address, flush=True)
        sys.stdin.read()
    finally:
        registry.close()


if __name__ == "__main__":
    main(sys.argv[1:])
