#!/usr/bin/env bash
# The whole suite: formatting, lints, tests of all crates, the conformance cases where they are at hand.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\n== %s (%s)\n' "$1" "$(date +%T)"; }

step "what is needed"
scripts/setup.sh test
step "rustfmt"
cargo fmt --all --check
step "clippy"
cargo clippy --workspace --all-targets --locked -- -D warnings
step "build"
cargo build --locked --workspace --all-targets
cases=../shared/conformance/check.py
if [ -f "$cases" ]; then
    step "conformance"
    target=${CARGO_TARGET_DIR:-target}
    python3 "$cases" --ci "$target/debug/ci"
fi
# what the build wrote goes to the disk now, and not while a test waits for its own few bytes
sync

# Tests that deploy mostly wait for nodes and daemons: they run beside all others.
deploying=(kinds started hops deploy steps environments bundle failures services interruptions packages release told)
others=()
for file in {,pipelines/,runners/}tests/{*.rs,*/main.rs}; do
    name=${file##*tests/}
    name=${name%.rs}
    name=${name%/main}
    [[ $name == '*'* || " ${deploying[*]} " == *" $name "* ]] || others+=("$name")
done
# Always the whole workspace: for one package alone cargo would build other features of all dependencies. A binary that
# hangs is ended, with 124, and the next ones run.
tests() {
    cargo test --locked --workspace --no-fail-fast \
        --config 'target."cfg(all())".runner = ["timeout", "--foreground", "--kill-after=10", "1200"]' "$@"
}
log=$(mktemp)
failed=()
finish() {
    printf '\n== what the tests that deploy said\n'
    cat "$log"
    rm -f "$log"
    [ ${#failed[@]} = 0 ] || printf 'failed: %s\n' "${failed[@]}"
}
trap finish EXIT

step "tests, in two streams: what those that deploy say is shown at the end"
tests "${deploying[@]/#/--test=}" >"$log" 2>&1 &
first=$!
scripts/with-postgres.sh bash -c "$(declare -f tests); tests --test server" || failed+=("server with PostgreSQL")
tests --lib --bins || failed+=("units")
tests "${others[@]/#/--test=}" || failed+=("${others[*]}")
tests --doc || failed+=("documentation")
CI=${CARGO_TARGET_DIR:-target}/debug/ci scripts/schemathesis.sh 1 || failed+=("schemathesis")
step "waiting for the tests that deploy"
wait "$first" || failed+=("tests that deploy")
[ ${#failed[@]} = 0 ]
