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

# Tests that deploy mostly wait for nodes and daemons: they run beside all others.
deploying=(kinds hops deploy steps environments bundle failures services interruptions packages release told)
others=()
for file in {,pipelines/,runners/}tests/{*.rs,*/main.rs}; do
    name=${file##*tests/}
    name=${name%.rs}
    name=${name%/main}
    [[ $name == '*'* || " ${deploying[*]} " == *" $name "* ]] || others+=("$name")
done
# always the whole workspace: for one package alone cargo would build other features of all dependencies
tests() { cargo test --locked --workspace --no-fail-fast "$@"; }
log=$(mktemp)
trap 'rm -f "$log"' EXIT

step "tests, in two streams: the first is shown when the second has ended"
tests "${deploying[@]/#/--test=}" >"$log" 2>&1 &
first=$!
failed=()
scripts/with-postgres.sh cargo test --locked --workspace --test server || failed+=("server with PostgreSQL")
tests --lib --bins || failed+=("units")
tests "${others[@]/#/--test=}" || failed+=("${others[*]}")
tests --doc || failed+=("documentation")
CI=${CARGO_TARGET_DIR:-target}/debug/ci scripts/schemathesis.sh 1 || failed+=("schemathesis")
step "tests that deploy"
wait "$first" || failed+=("tests that deploy")
cat "$log"
if [ ${#failed[@]} -gt 0 ]; then
    printf 'failed: %s\n' "${failed[@]}"
    exit 1
fi
