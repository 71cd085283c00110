#!/usr/bin/env bash
# Runs a command with a PostgreSQL of its own on a free loopback port; SLIPWAY_TEST_DATABASE is its URL. Its files are
# in a temporary directory, and both go when the command has ended. Root runs it as `nobody`: it refuses to be root's.
set -euo pipefail

bin=$(find /usr/lib/postgresql -name initdb -printf '%h\n' 2>/dev/null | sort -V | tail -1)
[ -n "$bin" ] || bin=$(dirname "$(command -v initdb)")
dir=$(mktemp -d /tmp/slipway-postgres.XXXXXX)
as=()
if [ "$(id -u)" = 0 ]; then
    chown nobody "$dir"
    as=(setpriv --reuid=nobody --regid=nogroup --clear-groups)
fi
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
finish() {
    (cd / && "${as[@]}" "$bin/pg_ctl" --pgdata "$dir/data" --mode immediate stop >/dev/null 2>&1) || true
    rm -rf "$dir"
}
trap finish EXIT
(
    cd /
    "${as[@]}" "$bin/initdb" --pgdata "$dir/data" --username slipway --auth trust --no-sync >/dev/null
    "${as[@]}" "$bin/pg_ctl" --pgdata "$dir/data" --log "$dir/log" --wait \
        --options "-p $port -k $dir -c listen_addresses=127.0.0.1 -c fsync=off -c max_connections=300" start >/dev/null
)
SLIPWAY_TEST_DATABASE="postgres://slipway@127.0.0.1:$port/postgres" "$@"
