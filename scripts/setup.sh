#!/bin/sh
# setup.sh PURPOSE: installs what is missing of the Debian packages that PURPOSE needs. `demo`: to build `ci` and to
# build and run an Erlang release over SSH. `test`: the same and what the tests use besides. As root, or with sudo.
set -eu

purpose=${1:?usage: setup.sh demo|test}

if ! command -v apt-get >/dev/null; then
    echo "setup: this is no Debian system; needed are: a C compiler, cmake, pkg-config, OpenSSL's headers, git," \
        "Erlang/OTP with rebar3, and OpenSSH's client and server" >&2
    exit 2
fi

missing=
want() { # want PACKAGE REASON
    if ! dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q 'ok installed'; then
        echo "setup: $1 is missing: $2"
        missing="$missing $1"
    fi
}

want gcc "links ci"
want libc6-dev "links ci"
want make "runs the project's and the example's commands"
want pkg-config "finds OpenSSL while ci is built"
want libssl-dev "TLS for ci"
want git "makes the example's repository"
want ca-certificates "lets cargo fetch crates"
want procps "shows processes"
want erlang-base "Erlang/OTP itself"
want erlang-dev "headers of Erlang/OTP"
for app in tools syntax-tools parsetools crypto ssl public-key asn1 inets xmerl eunit common-test runtime-tools; do
    want "erlang-$app" "rebar3 builds and tests releases with it"
done
want rebar3 "builds Erlang releases"
want openssh-client "ci deploy reaches its targets through ssh"
want openssh-server "the targets of the demo and of the tests"
want uidmap "containers for ordinary users"
want passt "the way out of networks of jobs (pasta)"
if [ "$purpose" = test ]; then
    want python3 "runs the conformance cases"
    want python3-venv "gets schemathesis from PyPI"
    # whoever has Node from elsewhere has npm with it, and Debian's would not go beside it
    command -v npm >/dev/null || want npm "runs the jobs of the template for Node"
    want sudo "runs tests as an ordinary user"
    want nginx-light "binaries exchanged by signals, and weights of an upstream, in tests"
    want supervisor "programs under supervisord in tests"
    want systemd "a unit of a systemd of its own in tests"
    want elixir "releases made by mix in tests"
    want curl "health checks of targets in tests"
    want docker.io "an engine that runs jobs"
    want podman "another engine"
    want bash "one of the two shells that jobs run in"
    want busybox-static "images for tests of containers"
    want docker-registry "serves the images of the tests"
    want mmdebstrap "makes the images of the tests"
    want slirp4netns "the other way out of networks of jobs"
    want zstd "compresses one of them"
    want chromium "looks at the pages of the server"
    want postgresql "the server's tests, against its other database"
fi

if [ -n "$missing" ]; then
    if [ "$(id -u)" = 0 ]; then sudo=; else sudo=sudo; fi
    # shellcheck disable=SC2086  # words on purpose
    (
        conf=/etc/postgresql-common/createcluster.conf
        case "$missing" in *postgresql*)
            # the tests make a cluster of their own: none that runs on this machine is wanted
            if [ ! -e "$conf" ]; then
                $sudo mkdir -p "${conf%/*}"
                echo "create_main_cluster = false" | $sudo tee "$conf" >/dev/null
            fi
            ;;
        esac
        $sudo apt-get update -qq
        $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
    ) </dev/null
    echo "setup: installed$missing"
fi

if ! command -v cargo >/dev/null; then
    echo "setup: there is no Rust toolchain: cargo is not on PATH (ci needs Rust 1.95)" >&2
    exit 2
fi
