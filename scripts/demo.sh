#!/usr/bin/env bash
# The whole way, for real: an Erlang/OTP application is built, tested, installed on two targets over SSH (DEV, SIT),
# deployed again (nothing to do), changed, and upgraded hot: same process, state converted.
# Everything lies in a temporary directory and is gone at the end, also after a failure or Ctrl-C.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD

say() { printf '\n\033[1m== %s\033[0m (%ss)\n' "$*" "$SECONDS"; }
fail() {
    printf 'demo: %s\n' "$*" >&2
    exit 1
}

say "Installing what is missing"
scripts/setup.sh demo

say "Building ci"
cargo build --locked --bin ci
ci=${CARGO_TARGET_DIR:-target}/debug/ci
case $ci in /*) ;; *) ci=$root/$ci ;; esac

work=$(mktemp -d "${TMPDIR:-/tmp}/slipway-demo.XXXXXX")
chmod 755 "$work"
sshd_pids=
target_user=$(id -un)
created_user=

as_target() { # runs a command as the target's user
    if [ -n "$created_user" ]; then setpriv --reset-env --reuid "$target_user" --regid "$target_user" --clear-groups "$@"; else "$@"; fi
}

cleanup() {
    status=$?
    trap - EXIT INT TERM
    for env in dev sit; do
        # the nodes and their epmd, found by the directory that they run from
        for exe in /proc/[0-9]*/exe; do
            case $(readlink "$exe" 2>/dev/null) in "$work/$env/"*)
                pid=${exe#/proc/}
                kill -9 "${pid%/exe}" 2>/dev/null || true
                ;;
            esac
        done
    done
    for pid in $sshd_pids; do kill "$pid" 2>/dev/null || true; done
    if [ -n "$created_user" ]; then
        # the user's last processes end with their sshd; userdel refuses while they live
        for _ in 1 2 3 4 5 6 7 8 9 10; do userdel "$created_user" 2>/dev/null && break || sleep 0.3; done
    fi
    rm -rf "$work"
    exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

if [ "$(id -u)" = 0 ]; then
    target_user=slipway-demo
    getent passwd "$target_user" >/dev/null && fail "the user $target_user exists already; remove it with: userdel $target_user"
    useradd --system --home-dir "$work/home" --create-home --shell /bin/sh "$target_user"
    created_user=$target_user
    mkdir -p /run/sshd
fi

say "Making the example's repository"
examples/urf/make-repository.sh "$work/repository"

free_port() { # a loopback port that nobody listens on
    while :; do
        port=$((20000 + RANDOM % 20000))
        (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
    done
    echo "$port"
}

say "Starting two targets: sshd as $target_user, on loopback"
ssh-keygen -q -t ed25519 -N '' -C slipway-demo -f "$work/key"
: >"$work/known_hosts"
start_target() { # start_target ENV
    local dir=$work/$1 port
    port=$(free_port)
    mkdir -p "$dir/ssh" "$dir/pipes"
    cp "$work/key.pub" "$dir/ssh/authorized_keys"
    ssh-keygen -q -t ed25519 -N '' -C "$1" -f "$dir/ssh/host_key"
    # two nodes of one name live on this machine: each target has an epmd and pipes of its own
    cat >"$dir/ssh/config" <<CONFIG
ListenAddress 127.0.0.1
Port $port
HostKey $dir/ssh/host_key
AuthorizedKeysFile $dir/ssh/authorized_keys
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
SetEnv HOME=$dir ERL_EPMD_PORT=$(free_port) ERL_EPMD_ADDRESS=127.0.0.1 PIPE_DIR=$dir/pipes/
CONFIG
    [ -z "$created_user" ] || chown -R "$target_user": "$dir"
    if [ -n "$created_user" ]; then
        setpriv --reuid "$target_user" --regid "$target_user" --clear-groups /usr/sbin/sshd -D -f "$dir/ssh/config" -E "$dir/ssh/log" &
    else
        /usr/sbin/sshd -D -f "$dir/ssh/config" -E "$dir/ssh/log" &
    fi
    sshd_pids="$sshd_pids $!"
    printf '[127.0.0.1]:%s %s\n' "$port" "$(cat "$dir/ssh/host_key.pub")" >>"$work/known_hosts"
    eval "$1_destination=ssh://$target_user@127.0.0.1:$port"
    for _ in $(seq 50); do
        (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null && { echo "  $1: ssh://$target_user@127.0.0.1:$port"; return; }
        sleep 0.1
    done
    cat "$dir/ssh/log" >&2
    fail "sshd of $1 did not start"
}
start_target dev
start_target sit

mkdir -p "$work/repository/.ci"
cat >"$work/repository/.ci/variables.yml" <<SETTINGS
ERLANG_IMAGE: host
DEV_SSH_USER_HOST: $dev_destination
DEV_TARGET_DIR: $work/dev/urf
SIT_SSH_USER_HOST: $sit_destination
SIT_TARGET_DIR: $work/sit/urf
SSH_PRIVATE_KEY: {file: $work/key}
SSH_KNOWN_HOSTS: {file: $work/known_hosts, masked: false}
SETTINGS

export SLIPWAY_HOME=$work/state
# the targets listen on this machine's loopback, which jobs with a network of their own can't reach
export XDG_CONFIG_HOME=$work/config
mkdir -p "$XDG_CONFIG_HOME/slipway"
echo "network: host" >"$XDG_CONFIG_HOME/slipway/settings.yml"
pipeline() { # pipeline TITLE
    say "$1"
    echo "\$ ci run"
    (cd "$work/repository" && "$ci" run) || fail "the pipeline failed"
}
node() { # node ENV COMMAND...: a command of the release's own start script, on the target
    local env=$1
    shift
    as_target env -C "$work/$env/urf" $(sed -n 's/^SetEnv //p' "$work/$env/ssh/config") ./bin/urf "$@"
}

cd "$work/repository"
pipeline "First pipeline: 0.1.0 goes to DEV and SIT (fresh installation)"
for _ in 1 2 3; do node dev rpc urf_store incr >/dev/null; done
pid_before=$(node dev pid)
state_before=$(node dev eval 'urf_store:info().')

pipeline "Second pipeline: 0.1.0 again (nothing to do)"
[ "$(node dev pid)" = "$pid_before" ] || fail "the process of DEV changed although there was nothing to do"

git reset -q --hard v0.2.0
pipeline "Third pipeline: 0.2.0 (hot upgrade)"
pid_after=$(node dev pid)
state_after=$(node dev eval 'urf_store:info().')

say "What DEV and SIT run"
# ssh with the demo's key and hosts: nobody's own ~/.ssh is read or written
mkdir "$work/bin"
cat >"$work/bin/ssh" <<SSH
#!/bin/sh
exec $(command -v ssh) -F "$work/ssh_config" "\$@"
SSH
chmod +x "$work/bin/ssh"
cat >"$work/ssh_config" <<CONFIG
IdentityFile $work/key
IdentitiesOnly yes
UserKnownHostsFile $work/known_hosts
CONFIG
for env in dev sit; do
    destination=${env}_destination
    env PATH="$work/bin:$PATH" SSH_USER_HOST="${!destination}" TARGET_DIR="$work/$env/urf" "$ci" release status "$env"
done
echo
printf '  %-22s %s\n' "OS process before:" "$pid_before" "OS process after:" "$pid_after" \
    "state before:" "$state_before" "state after:" "$state_after"
[ "$pid_before" = "$pid_after" ] || fail "the process changed: that was no hot upgrade"
case $state_before in "{v1,"*3*) ;; *) fail "unexpected state before: $state_before" ;; esac
case $state_after in "{v2,"*3,*) ;; *) fail "the state was not converted: $state_after" ;; esac
for env in dev sit; do
    node "$env" versions | grep -q '^\* 0.2.0.*permanent' || fail "$env does not run 0.2.0"
done
say "Done: one process through the upgrade, its state converted, DEV and SIT on 0.2.0"
