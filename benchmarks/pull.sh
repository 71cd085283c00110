#!/usr/bin/env bash
# Pull and unpack of one image from a registry on loopback: `ci images pull` against docker pull, podman pull, and
# skopeo copy + umoci unpack. Each tool starts with an empty store; rounds are interleaved; the table has the minimum
# and the median, and ratios to ci. As root. Tools that are not installed are left out.
#
#   benchmarks/pull.sh [IMAGE [ROUNDS]]      IMAGE: a name of scripts/test-images.sh (erlang); CI: which ci
set -euo pipefail
cd "$(dirname "$0")/.."
image=${1:-erlang}
rounds=${2:-3}
ci=${CI:-target/release/ci}
[ -x "$ci" ] || { echo "pull: there is no $ci: cargo build --release, or set CI" >&2; exit 2; }
ci=$(realpath "$ci")

work=$(mktemp -d "${TMPDIR:-/var/tmp}/slipway-pull.XXXXXX")
pids=
cleanup() {
    exec 9>&- || true
    for pid in $pids; do kill "$pid" 2>/dev/null && wait "$pid" 2>/dev/null || true; done
    # engines leave mounts
    grep -o " $work[^ ]*" /proc/self/mounts | tac | while read -r place; do umount -l "$place" 2>/dev/null || true; done
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

mkfifo "$work/input"
scripts/test-images.sh --serve "$image" <"$work/input" >"$work/address" &
exec 9>"$work/input"
while [ ! -s "$work/address" ]; do sleep 0.2; done
address=$(cat "$work/address")

if command -v dockerd >/dev/null; then
    dockerd --data-root "$work/docker" --exec-root "$work/docker-run" --pidfile "$work/docker.pid" \
        --host "unix://$work/docker.sock" --iptables=false --ip6tables=false --bridge=none >"$work/dockerd.log" 2>&1 &
    pids=$!
    for _ in $(seq 100); do [ -S "$work/docker.sock" ] && break || sleep 0.1; done
fi

# each makes its store empty (deleting comes later, elsewhere: the file system is slow right after it) and pulls
fresh() { mkdir -p "$work/trash"; [ ! -e "$work/$1" ] || mv "$work/$1" "$work/trash/$1.$RANDOM$RANDOM"; }
run_ci() { SLIPWAY_HOME=$work/ci "$ci" images pull "$address/$image" >/dev/null 2>&1; }
run_docker() { docker -H "unix://$work/docker.sock" pull -q "$address/$image" >/dev/null; }
run_podman() {
    podman --root "$work/podman" --runroot "$work/podman-run" pull -q --tls-verify=false "$address/$image" >/dev/null
}
run_skopeo() {
    skopeo copy -q --src-tls-verify=false "docker://$address/$image" "oci:$work/skopeo/layout:x"
    umoci unpack --image "$work/skopeo/layout:x" "$work/skopeo/bundle" >/dev/null 2>&1
}
empty_docker() { docker -H "unix://$work/docker.sock" image prune -af >/dev/null; }
empty_podman() { podman --root "$work/podman" --runroot "$work/podman-run" rmi -af >/dev/null 2>&1 || true; }
empty_skopeo() { fresh skopeo; mkdir "$work/skopeo"; }
empty_ci() { fresh ci; }

tools=ci
command -v dockerd >/dev/null && tools="$tools docker"
command -v podman >/dev/null && tools="$tools podman"
command -v umoci >/dev/null && command -v skopeo >/dev/null && tools="$tools skopeo"
for round in $(seq "$rounds"); do
    for tool in $tools; do
        "empty_$tool"
        sync -f "$work"
        start=$(date +%s%N)
        if "run_$tool"; then
            echo $((($(date +%s%N) - start) / 1000000)) >>"$work/$tool.times"
        else
            echo "pull: $tool failed in round $round" >&2
        fi
    done
done

echo "image $image, $rounds rounds, $(nproc) cores, load $(cut -d' ' -f1 /proc/loadavg)"
printf '%-22s %10s %10s %8s\n' "" "min ms" "median ms" "x ci"
own=$(sort -n "$work/ci.times" | head -1)
for tool in $tools; do
    [ -s "$work/$tool.times" ] || continue
    name=$tool
    [ "$tool" != skopeo ] || name="skopeo + umoci"
    sort -n "$work/$tool.times" | awk -v name="$name" -v own="$own" \
        '{ t[NR] = $1 } END { printf "%-22s %10d %10d %8.1f\n", name, t[1], t[int((NR + 1) / 2)], t[1] / own }'
done
